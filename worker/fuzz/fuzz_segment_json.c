/* Legacy JSON segments, read held and in small ranges: the same verdict and the same records. */
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "worker/segment/segment_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static kb_code get_range(void *ctx, uint64_t offset, void *to, size_t len, kb_error *err)
{
    (void)err;
    memcpy(to, (const uint8_t *)*(void **)ctx + offset, len);
    return KB_OK;
}

static kb_code verify(const uint8_t *data, size_t size, const kb_segment_reader_opts *opts,
                      kb_segment_info *info)
{
    KB_AUTO_ERROR(err);
    KB_AUTOFREE void *copy = kb_malloc(size);
    kb_put_bytes(copy, data, size);
    KB_CLEANUP(kb_segment_reader_free_at) kb_segment_reader *reader = kb_segment_reader_new(opts);
    const kb_segment_source source = {&copy, size, get_range};
    kb_segment_expect expect = KB_SEGMENT_EXPECT_INIT;
    expect.key = "k";
    kb_code code = kb_segment_verify(reader, &source, &expect, info, &err);
    if (code != KB_OK && code != KB_BACKUP_CORRUPT)
        abort();
    return code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const kb_segment_reader_opts ranged = {.held_bytes = 1, .range_bytes = 13};
    kb_segment_info info = {0};
    kb_segment_info again = {0};
    kb_code code = verify(data, size, NULL, &info);
    if (verify(data, size, &ranged, &again) != code)
        abort();
    if (code == KB_OK && (info.count != again.count || !kb_digest_is_equal(&info.digest, &again.digest)))
        abort();
    return 0;
}
