/*
 * json_read - reading JSON whose shape is known, on top of the tokens of json_token.h.
 *
 * Decoding an object with known fields:
 *
 *     kb_code code = kb_json_begin_object(r, err);
 *     if (code != KB_OK)
 *         return code;
 *     while ((code = kb_json_next_name(r, &name, err)) == KB_OK) {
 *         if (kb_json_is(name, "start_offset"))
 *             code = kb_json_get_i64(r, &segment->start, err);
 *         else
 *             code = kb_json_skip(r, err);
 *         if (code != KB_OK)
 *             return code;
 *     }
 *     return code == KB_ERR_END ? KB_OK : code;
 */
#ifndef KB_COMMON_DATA_JSON_READ_H
#define KB_COMMON_DATA_JSON_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/data/json_token.h"

/*
 * The helpers below take the next value and fail with KB_ERR_FORMAT when it has another type. Views are valid
 * until the next call on the reader.
 */
kb_code kb_json_begin_object(kb_json_reader *reader, kb_error *err) KB_CHECK;
kb_code kb_json_begin_array(kb_json_reader *reader, kb_error *err) KB_CHECK;
/* In an object, where a name or '}' stands: KB_OK with the name, KB_ERR_END (err untouched) after taking '}'.
 */
kb_code kb_json_next_name(kb_json_reader *reader, kb_view *ret_name, kb_error *err) KB_CHECK;
/* In an array: KB_OK when a value follows (not taken), KB_ERR_END (err untouched) after taking ']'. */
kb_code kb_json_next_element(kb_json_reader *reader, kb_error *err) KB_CHECK;
kb_code kb_json_get_string(kb_json_reader *reader, kb_view *ret_text, kb_error *err) KB_CHECK;
/* A copy of the string, followed by a NUL; owned. */
kb_code kb_json_get_text(kb_json_reader *reader, char **ret_text, kb_error *err) KB_CHECK;
kb_code kb_json_get_bool(kb_json_reader *reader, bool *ret_value, kb_error *err) KB_CHECK;
kb_code kb_json_get_i64(kb_json_reader *reader, int64_t *ret_value, kb_error *err) KB_CHECK;
/* Also refuses what lies outside min..max (both inclusive), naming them. */
kb_code kb_json_get_i64_range(kb_json_reader *reader, int64_t min, int64_t max, int64_t *ret_value,
                              kb_error *err) KB_CHECK;
kb_code kb_json_get_i32(kb_json_reader *reader, int32_t *ret_value, kb_error *err) KB_CHECK;
kb_code kb_json_get_u64(kb_json_reader *reader, uint64_t *ret_value, kb_error *err) KB_CHECK;
/* Takes a null if it is next: *ret_is_null says so. For optional values, before kb_json_get_*. */
kb_code kb_json_take_null(kb_json_reader *reader, bool *ret_is_null, kb_error *err) KB_CHECK;
/* Takes one value with all that is in it; it is checked like any other (integers within i64). */
kb_code kb_json_skip(kb_json_reader *reader, kb_error *err) KB_CHECK;
/* Fails unless nothing but white space is left. Call it after the outermost value. */
kb_code kb_json_end(kb_json_reader *reader, kb_error *err) KB_CHECK;

/* Whether a view holds exactly this text. */
static inline bool kb_json_is(kb_view view, const char *text)
{
    size_t len = strlen(text);
    return view.len == len && memcmp(view.data, text, len) == 0;
}

#endif
