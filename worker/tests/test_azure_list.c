#include "worker/storage/azure_list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/base/mem.h"

#define DATE "Sun, 06 Nov 1994 08:49:37 GMT"
#define BLOB(name, more) \
    "<Blob><Name>" name "</Name><Properties><Last-Modified>" DATE "</Last-Modified>" more \
    "<Content-Length>7</Content-Length></Properties></Blob>"
#define LIST(blobs, next) \
    "\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults " \
    "ContainerName=\"c\"><Prefix>p/</Prefix>" \
    "<Blobs>" blobs "</Blobs><NextMarker>" next "</NextMarker></EnumerationResults>"

static void kb_azure_list_parse_of_a_page_gives_its_keys_in_order(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_list_page_done) kb_list_page page = KB_LIST_PAGE_INIT;
    const char *xml =
        LIST(BLOB("p/%7Ez", "") BLOB("p/a&amp;b", "") "<BlobPrefix><Name>p/d/</Name></BlobPrefix>" BLOB(
                 "p/dir", "<ResourceType>directory</ResourceType>") BLOB("p/marker/", "") BLOB("p/raw~", "")
                 BLOB("q/other", ""),
             "2!4!x");
    if (kb_azure_list_parse(xml, strlen(xml), "p", &page, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
    assert_int_equal(page.count, 3);
    assert_string_equal(page.entries[0].key, "a&b");
    assert_int_equal(page.entries[0].info.size_bytes, 7);
    assert_int_equal(page.entries[0].info.mtime_ms, INT64_C(784111777000));
    assert_string_equal(page.entries[1].key, "d/");
    assert_true(page.entries[1].is_folder);
    assert_int_equal(page.entries[1].info.size_bytes, 0);
    assert_string_equal(page.entries[2].key, "~z");
    assert_string_equal(page.next, "2!4!x");
}

static void kb_azure_list_parse_of_the_last_page_has_no_next(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_list_page_done) kb_list_page page = KB_LIST_PAGE_INIT;
    const char *xml = "<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>";
    assert_int_equal(kb_azure_list_parse(xml, strlen(xml), NULL, &page, &err), KB_OK);
    assert_int_equal(page.count, 0);
    assert_null(page.next);
}

static void kb_azure_list_parse_bad_cases_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "<Error><Code>InternalError</Code></Error>",
        "<EnumerationResults><Blobs><Blob></Blob></Blobs></EnumerationResults>",
        "<EnumerationResults><Blobs><Blob><Name>a</Name><Properties><Content-Length>-1</Content-Length>"
        "</Properties></Blob></Blobs></EnumerationResults>",
        "<EnumerationResults><Blobs><Blob><Name>a</Name><Properties><Last-Modified>today</Last-Modified>"
        "</Properties></Blob></Blobs></EnumerationResults>",
        "<EnumerationResults><Blobs>",
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        kb_list_page page = KB_LIST_PAGE_INIT;
        assert_int_equal(kb_azure_list_parse(cases[i], strlen(cases[i]), NULL, &page, &err), KB_ERR_FORMAT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_azure_list_parse_of_a_page_gives_its_keys_in_order),
        cmocka_unit_test(kb_azure_list_parse_of_the_last_page_has_no_next),
        cmocka_unit_test(kb_azure_list_parse_bad_cases_are_refused),
    };
    return cmocka_run_group_tests_name("azure_list", tests, NULL, NULL);
}
