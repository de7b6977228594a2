#include "worker/storage/xml_scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/strbuf.h"

static kb_code join(void *ctx, const char *path, const char *text, size_t len, kb_error *err)
{
    assert_int_equal(strlen(text), len);
    if (strcmp(text, "stop") == 0)
        return kb_fail(err, KB_ERR_END, "enough");
    kb_strbuf_appendf(ctx, "%s=%s;", path, text);
    return KB_OK;
}

static kb_code scan(const char *xml, kb_strbuf *out, kb_error *err)
{
    return kb_xml_scan(xml, strlen(xml), join, out, err);
}

static void scan_of_a_document_reports_elements_inside_out(void **state)
{
    (void)state;
    static const struct {
        const char *xml, *expected;
    } table[] = {
        {"<a/>", "a=;"},
        {"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<a xmlns=\"http://x/\"><b>1</b><b>2</b></a>",
         "a/b=1;a/b=2;a=;"},
        {"<a>x<b>y</b>z</a>", "a/b=y;a=xz;"},
        {"<s3:a xmlns:s3=\"u\"><s3:k>p&amp;q&#x20;&lt;</s3:k></s3:a>", "a/k=p&q <;a=;"},
        {"   <a>\xc3\xa4</a>", "a=\xc3\xa4;"},
        {"<a><![CDATA[<x>]]></a>", "a=<x>;"},
        {"<:/>", ":=;"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_STRBUF(out, 4096);
        if (scan(table[i].xml, &out, &err) != KB_OK)
            fail_msg("%s: %s", table[i].xml, kb_error_text(&err));
        assert_string_equal(kb_strbuf_view(&out), table[i].expected);
    }
}

static void scan_of_what_is_no_answer_is_a_format_error(void **state)
{
    (void)state;
    static const char *const table[] = {
        "",
        "   ",
        "a",
        "<a>",
        "<a></b>",
        "<a/><b/>",
        "<a>&x;</a>",
        "<a>\xff</a>",
        "{\"a\":1}",
        "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
        "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>",
        "<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a/></a></a></a></a></a></a></a></a></a></a></a></"
        "a></a>"
        "</a></a></a>",
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_STRBUF(out, 4096);
        assert_int_equal(scan(table[i], &out, &err), KB_ERR_FORMAT);
    }
}

static void scan_with_too_much_text_is_a_format_error(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_STRBUF(xml, 1 << 20);
    KB_AUTO_STRBUF(out, 1 << 20);
    kb_strbuf_appends(&xml, "<a>");
    for (int i = 0; i < 65537; i++)
        kb_strbuf_appendc(&xml, 'x');
    kb_strbuf_appends(&xml, "</a>");
    assert_int_equal(scan(kb_strbuf_view(&xml), &out, &err), KB_ERR_FORMAT);
}

static void scan_ends_with_the_error_of_its_caller(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_STRBUF(out, 4096);
    assert_int_equal(scan("<a><b>1</b><b>stop</b><b>3</b></a>", &out, &err), KB_ERR_END);
    assert_string_equal(kb_strbuf_view(&out), "a/b=1;");
    assert_string_equal(kb_error_text(&err), "enough");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scan_of_a_document_reports_elements_inside_out),
        cmocka_unit_test(scan_of_what_is_no_answer_is_a_format_error),
        cmocka_unit_test(scan_with_too_much_text_is_a_format_error),
        cmocka_unit_test(scan_ends_with_the_error_of_its_caller),
    };
    return cmocka_run_group_tests_name("xml_scan", tests, NULL, NULL);
}
