#include "common/base/crc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void kb_crc32_check_value_matches(void **state)
{
    (void)state;
    assert_int_equal(kb_crc32(0, "123456789", 9), 0xCBF43926);
    assert_int_equal(kb_crc32(0, NULL, 0), 0);
    assert_int_equal(kb_crc32(0x1234, NULL, 0), 0x1234);
}

static void kb_crc32_in_parts_equals_whole(void **state)
{
    (void)state;
    for (size_t cut = 0; cut <= 9; cut++) {
        const char *text = "123456789";
        uint32_t first = kb_crc32(0, text, cut);
        assert_int_equal(kb_crc32(first, text + cut, 9 - cut), 0xCBF43926);
        uint32_t second = kb_crc32(0, text + cut, 9 - cut);
        assert_int_equal(kb_crc32_combine(first, second, 9 - cut), 0xCBF43926);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_crc32_check_value_matches),
        cmocka_unit_test(kb_crc32_in_parts_equals_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
