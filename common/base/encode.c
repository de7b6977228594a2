#include "common/base/encode.h"

#include <string.h>

void kb_hex_encode(const void *data, size_t len, char *to)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *from = data;
    for (size_t i = 0; i < len; i++) {
        to[2 * i] = digits[from[i] >> 4];
        to[2 * i + 1] = digits[from[i] & 15];
    }
    to[2 * len] = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

kb_code kb_hex_decode(const char *text, size_t len, uint8_t *to, kb_error *err)
{
    if (len % 2 != 0)
        return kb_fail(err, KB_ERR_FORMAT, "hex text has an odd number of digits (%zu)", len);
    for (size_t i = 0; i < len; i += 2) {
        int high = hex_value(text[i]);
        int low = hex_value(text[i + 1]);
        if (high < 0 || low < 0)
            return kb_fail(err, KB_ERR_FORMAT, "no hex digit at position %zu", high < 0 ? i : i + 1);
        to[i / 2] = (uint8_t)(high << 4 | low);
    }
    return KB_OK;
}

static const char standard_alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url_alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static size_t encode64(const uint8_t *from, size_t len, const char *alphabet, bool padded, char *to)
{
    char *at = to;
    for (; len >= 3; len -= 3, from += 3) {
        uint32_t bits = (uint32_t)from[0] << 16 | (uint32_t)from[1] << 8 | from[2];
        *at++ = alphabet[bits >> 18];
        *at++ = alphabet[bits >> 12 & 63];
        *at++ = alphabet[bits >> 6 & 63];
        *at++ = alphabet[bits & 63];
    }
    if (len > 0) {
        uint32_t bits = (uint32_t)from[0] << 16 | (len == 2 ? (uint32_t)from[1] << 8 : 0);
        *at++ = alphabet[bits >> 18];
        *at++ = alphabet[bits >> 12 & 63];
        if (len == 2)
            *at++ = alphabet[bits >> 6 & 63];
        else if (padded)
            *at++ = '=';
        if (padded)
            *at++ = '=';
    }
    *at = '\0';
    return (size_t)(at - to);
}

size_t kb_base64_encode(const void *data, size_t len, char *to)
{
    return encode64(data, len, standard_alphabet, true, to);
}

size_t kb_base64url_encode(const void *data, size_t len, char *to)
{
    return encode64(data, len, url_alphabet, false, to);
}

static int value64(char c, char c62, char c63)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == c62)
        return 62;
    return c == c63 ? 63 : -1;
}

/* Decodes len characters without padding. */
static kb_code decode64(const char *text, size_t len, const char *alphabet, uint8_t *to, size_t *ret_len,
                        kb_error *err)
{
    if (len % 4 == 1)
        return kb_fail(err, KB_ERR_FORMAT, "base64 text has an impossible length (%zu)", len);
    uint32_t bits = 0;
    unsigned have = 0;
    size_t written = 0;
    for (size_t i = 0; i < len; i++) {
        int value = value64(text[i], alphabet[62], alphabet[63]);
        if (value < 0)
            return kb_fail(err, KB_ERR_FORMAT, "no base64 character at position %zu", i);
        bits = bits << 6 | (uint32_t)value;
        have += 6;
        if (have >= 8) {
            have -= 8;
            to[written++] = (uint8_t)(bits >> have);
            bits &= (1U << have) - 1;
        }
    }
    if (bits != 0)
        return kb_fail(err, KB_ERR_FORMAT, "base64 text ends with unused bits that are not zero");
    *ret_len = written;
    return KB_OK;
}

kb_code kb_base64_decode(const char *text, size_t len, uint8_t *to, size_t *ret_len, kb_error *err)
{
    if (len % 4 != 0)
        return kb_fail(err, KB_ERR_FORMAT, "base64 text has length %zu, no multiple of 4", len);
    if (len > 0 && text[len - 1] == '=')
        len -= text[len - 2] == '=' ? 2 : 1;
    return decode64(text, len, standard_alphabet, to, ret_len, err);
}

kb_code kb_base64url_decode(const char *text, size_t len, uint8_t *to, size_t *ret_len, kb_error *err)
{
    return decode64(text, len, url_alphabet, to, ret_len, err);
}

static bool is_continuation(uint8_t byte)
{
    return (byte & 0xC0) == 0x80;
}

size_t kb_utf8_step(const void *data, size_t len)
{
    const uint8_t *p = data;
    if (len == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xC2 || p[0] > 0xF4)
        return 0;
    size_t size = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    if (len < size || !is_continuation(p[1]))
        return 0;
    /* The first continuation byte decides about overlong forms, surrogates and the upper end. */
    if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F) || (p[0] == 0xF0 && p[1] < 0x90) ||
        (p[0] == 0xF4 && p[1] > 0x8F))
        return 0;
    for (size_t i = 2; i < size; i++) {
        if (!is_continuation(p[i]))
            return 0;
    }
    return size;
}

bool kb_utf8_valid(const void *data, size_t len)
{
    const uint8_t *p = data;
    while (len > 0) {
        uint64_t eight;
        if (len >= sizeof eight) {
            memcpy(&eight, p, sizeof eight);
            if ((eight & 0x8080808080808080U) == 0) {
                p += sizeof eight;
                len -= sizeof eight;
                continue;
            }
        }
        size_t step = kb_utf8_step(p, len);
        if (step == 0)
            return false;
        p += step;
        len -= step;
    }
    return true;
}

bool kb_parse_i64(const char *text, int64_t *ret_value)
{
    return kb_parse_i64_len(text, strlen(text), ret_value);
}

bool kb_parse_i64_len(const char *text, size_t len, int64_t *ret_value)
{
    bool negative = len > 0 && text[0] == '-';
    size_t at = negative ? 1 : 0;
    if (at == len)
        return false;
    int64_t value = 0;
    for (; at < len; at++) {
        if (text[at] < '0' || text[at] > '9')
            return false;
        int digit = text[at] - '0';
        /* Summed with its sign, so that the lowest number fits. */
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, negative ? -digit : digit, &value))
            return false;
    }
    *ret_value = value;
    return true;
}
