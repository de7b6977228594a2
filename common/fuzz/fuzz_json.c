/*
 * fuzz_json - any bytes through the JSON reader: as one view and in chunks the result is the same, and what
 * is read can be written, read again and written the same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "common/data/json_read.h"
#include "common/data/json_write.h"

#define KB_TEXT_MAX (64u * 1024 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct chunks {
    const uint8_t *data;
    size_t left;
    size_t step;
} chunks;

static kb_code next_chunk(void *ctx, kb_view *ret_chunk, kb_error *err)
{
    (void)err;
    chunks *source = ctx;
    size_t len = source->left < source->step ? source->left : source->step;
    *ret_chunk = kb_view_of(source->data, len);
    source->data += len;
    source->left -= len;
    return KB_OK;
}

static void put_number(kb_json_writer *writer, const kb_json_token *token)
{
    if (token->is_negative)
        kb_json_put_i64(writer, (int64_t)(0 - token->magnitude));
    else
        kb_json_put_u64(writer, token->magnitude);
}

static void put_token(kb_json_writer *writer, const kb_json_token *token)
{
    switch (token->type) {
    case KB_JSON_BEGIN_OBJECT:
        kb_json_put_begin_object(writer);
        break;
    case KB_JSON_END_OBJECT:
        kb_json_put_end_object(writer);
        break;
    case KB_JSON_BEGIN_ARRAY:
        kb_json_put_begin_array(writer);
        break;
    case KB_JSON_END_ARRAY:
        kb_json_put_end_array(writer);
        break;
    case KB_JSON_NAME:
        kb_json_put_name_view(writer, token->text);
        break;
    case KB_JSON_STRING:
        kb_json_put_view(writer, token->text);
        break;
    case KB_JSON_INTEGER:
        put_number(writer, token);
        break;
    case KB_JSON_TRUE:
    case KB_JSON_FALSE:
        kb_json_put_bool(writer, token->type == KB_JSON_TRUE);
        break;
    case KB_JSON_NULL:
        kb_json_put_null(writer);
        break;
    case KB_JSON_END:
        break;
    }
}

/* Reads all and writes it down again. */
static kb_code copy(kb_json_reader *reader, kb_strbuf *to)
{
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_json_writer_free_at) kb_json_writer *writer = kb_json_writer_new(KB_JSON_PRETTY, to);
    kb_json_token token = {KB_JSON_NULL, {NULL, 0}, false, 0};
    while (token.type != KB_JSON_END) {
        kb_code code = kb_json_next(reader, &token, &err);
        if (code != KB_OK)
            return code;
        put_token(writer, &token);
    }
    if (kb_json_writer_finish(writer, &err) != KB_OK)
        abort();
    return KB_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    size_t step = (size_t)data[0] % 32 + 1;
    kb_view text = kb_view_of(data + 1, size - 1);
    KB_AUTO_STRBUF(whole, KB_TEXT_MAX);
    KB_AUTO_STRBUF(chunked, KB_TEXT_MAX);
    KB_AUTO_STRBUF(again, KB_TEXT_MAX);
    KB_CLEANUP(kb_json_reader_free_at) kb_json_reader *first = kb_json_reader_new(text, NULL);
    kb_code code = copy(first, &whole);
    chunks source = {text.data, text.len, step};
    KB_CLEANUP(kb_json_reader_free_at)
    kb_json_reader *second = kb_json_reader_new_source(next_chunk, &source, NULL);
    if (copy(second, &chunked) != code)
        abort();
    if (code != KB_OK)
        return 0;
    if (strcmp(kb_strbuf_view(&whole), kb_strbuf_view(&chunked)) != 0)
        abort();
    KB_CLEANUP(kb_json_reader_free_at)
    kb_json_reader *third = kb_json_reader_new(kb_view_of(whole.data, whole.len), NULL);
    if (copy(third, &again) != KB_OK || strcmp(kb_strbuf_view(&whole), kb_strbuf_view(&again)) != 0)
        abort();
    return 0;
}
