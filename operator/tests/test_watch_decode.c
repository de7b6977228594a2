#include "operator/kube/watch_decode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "operator/kube/kube_types.h"

static const char STREAM[] = "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"a\"}}}\n"
                             "\n"
                             "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"name\":\"}]{[\\\"\"}}}\r\n"
                             "{\"type\":\"DELETED\",\"object\":{\"metadata\":{\"name\":\"c\"}}}\n";

static kb_code note(void *ctx, kb_watch_type type, json_t *object, kb_error *err)
{
    (void)err;
    kb_strbuf_appendf(ctx, "%d:%s ", (int)type, kb_kube_name(object));
    return KB_OK;
}

static void kb_watch_decoder_feed_pieces_of_any_size_give_the_same(void **state)
{
    (void)state;
    for (size_t piece = 1; piece <= sizeof STREAM - 1; piece++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_STRBUF(seen, 1024);
        kb_watch_decoder *decoder = kb_watch_decoder_new(0, note, &seen);
        for (size_t at = 0; at < sizeof STREAM - 1; at += piece) {
            const size_t left = sizeof STREAM - 1 - at;
            const kb_view part = kb_view_of(STREAM + at, left < piece ? left : piece);
            assert_int_equal(kb_watch_decoder_feed(decoder, part, &err), KB_OK);
        }
        assert_string_equal(kb_strbuf_view(&seen), "0:a 3:}]{[\" 2:c ");
        kb_watch_decoder_free(decoder);
    }
}

static void kb_watch_decoder_feed_bad_lines_end_the_stream(void **state)
{
    (void)state;
    KB_AUTO_STRBUF(deep, 4096);
    kb_strbuf_appends(&deep, "{\"type\":\"ADDED\",\"object\":{\"a\":");
    for (int i = 0; i < 100; i++)
        kb_strbuf_appendc(&deep, '[');
    kb_strbuf_appendc(&deep, '\n');
    const struct {
        const char *line;
        kb_code code;
        const char *text;
    } cases[] = {
        {"{\"type\":\"ADDED\"}\n", KB_ERR_FORMAT, "without a known type and an object"},
        {"{\"type\":\"NEW\",\"object\":{}}\n", KB_ERR_FORMAT, "without a known type and an object"},
        {"{\"type\":7,\"object\":{}}\n", KB_ERR_FORMAT, "without a known type and an object"},
        {"{\"type\":\"ADDED\",\"object\":[]}\n", KB_ERR_FORMAT, "without a known type and an object"},
        {"[1]\n", KB_ERR_FORMAT, "without a known type and an object"},
        {"{\"type\":\n", KB_ERR_FORMAT, "not JSON"},
        {"<html>\n", KB_ERR_FORMAT, "not JSON"},
        {kb_strbuf_view(&deep), KB_ERR_FORMAT, "nested deeper than 64"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_STRBUF(seen, 1024);
        kb_watch_decoder *decoder = kb_watch_decoder_new(0, note, &seen);
        const kb_view line = kb_view_of(cases[i].line, strlen(cases[i].line));
        assert_int_equal(kb_watch_decoder_feed(decoder, line, &err), cases[i].code);
        assert_non_null(strstr(kb_error_text(&err), cases[i].text));
        kb_watch_decoder_free(decoder);
    }
}

static void kb_watch_decoder_feed_beyond_the_limit_fails_early(void **state)
{
    (void)state;
    KB_AUTO_STRBUF(seen, 1024);
    for (int has_newline = 0; has_newline <= 1; has_newline++) {
        KB_AUTO_ERROR(err);
        char line[101];
        memset(line, ' ', sizeof line);
        line[100] = has_newline ? '\n' : ' ';
        kb_watch_decoder *decoder = kb_watch_decoder_new(99, note, &seen);
        assert_int_equal(kb_watch_decoder_feed(decoder, kb_view_of(line, sizeof line), &err),
                         KB_ERR_TOO_LARGE);
        kb_watch_decoder_free(decoder);
    }
}

static kb_code stop_at_error(void *ctx, kb_watch_type type, json_t *object, kb_error *err)
{
    (void)object;
    ++*(int *)ctx;
    return type == KB_WATCH_ERROR ? kb_fail(err, KB_ERR_END, "gone") : KB_OK;
}

static void kb_watch_decoder_feed_error_of_the_callback_is_passed_on(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    int count = 0;
    static const char TEXT[] =
        "{\"type\":\"ERROR\",\"object\":{\"code\":410}}\n{\"type\":\"ADDED\",\"object\":{}}\n";
    kb_watch_decoder *decoder = kb_watch_decoder_new(0, stop_at_error, &count);
    assert_int_equal(kb_watch_decoder_feed(decoder, kb_view_of(TEXT, sizeof TEXT - 1), &err), KB_ERR_END);
    assert_int_equal(count, 1);
    kb_watch_decoder_free(decoder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_watch_decoder_feed_pieces_of_any_size_give_the_same),
        cmocka_unit_test(kb_watch_decoder_feed_bad_lines_end_the_stream),
        cmocka_unit_test(kb_watch_decoder_feed_beyond_the_limit_fails_early),
        cmocka_unit_test(kb_watch_decoder_feed_error_of_the_callback_is_passed_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
