/*
 * encode - hex, base64, UTF-8 and decimal numbers, each strict: one text for each value.
 *
 * Threads: pure functions.
 */
#ifndef KB_COMMON_BASE_ENCODE_H
#define KB_COMMON_BASE_ENCODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

/* Writes 2 * len lower-case digits and a NUL to `to`. */
void kb_hex_encode(const void *data, size_t len, char *to);
/* Reads digits of either case; `to` has room for len / 2 bytes. Fails with KB_ERR_FORMAT (to is then
 * undefined). */
kb_code kb_hex_decode(const char *text, size_t len, uint8_t *to, kb_error *err) KB_CHECK;

/* Sizes of the texts (with their NUL) and the room for what `len` characters decode to. */
#define KB_BASE64_TEXT_SIZE(len) (((len) + 2) / 3 * 4 + 1)
#define KB_BASE64_DATA_SIZE(len) ((len) / 4 * 3 + 3)

/* Writes standard base64 with padding (RFC 4648, 4) and a NUL to `to`; returns the length without the NUL. */
size_t kb_base64_encode(const void *data, size_t len, char *to);
/* Strict: padding needed, no white space, unused bits zero. Fails with KB_ERR_FORMAT (to is then undefined).
 */
kb_code kb_base64_decode(const char *text, size_t len, uint8_t *to, size_t *ret_len, kb_error *err) KB_CHECK;
/* The same for base64url (RFC 4648, 5) without padding, as Kafka writes its ids. */
size_t kb_base64url_encode(const void *data, size_t len, char *to);
kb_code kb_base64url_decode(const char *text, size_t len, uint8_t *to, size_t *ret_len,
                            kb_error *err) KB_CHECK;

/* Whether data is well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF). */
bool kb_utf8_valid(const void *data, size_t len);
/* Length in bytes (1 to 4) of the valid UTF-8 sequence that data starts with; 0 when there is none. */
size_t kb_utf8_step(const void *data, size_t len);

/*
 * Reads a decimal number: an optional '-', then digits and nothing else ("+1", " 1", "" and "1 " are refused,
 * leading zeros are not). False when the form is wrong or int64 too small; *ret_value is then untouched.
 */
bool kb_parse_i64(const char *text, int64_t *ret_value) KB_CHECK;
bool kb_parse_i64_len(const char *text, size_t len, int64_t *ret_value) KB_CHECK;

#endif
