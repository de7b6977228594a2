#include "worker/auth/aws_sigv4.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto_mac.h"
#include "common/base/encode.h"
#include "common/base/mem.h"

#define KB_SIGV4_TEXT_BYTES (1024UL * 1024)

/* A name and a value in their final form, to be sorted. */
typedef struct kb_pair {
    char *name;
    char *value;
} kb_pair;

static int compare_pairs(const void *a, const void *b)
{
    const kb_pair *left = a, *right = b;
    int by_name = strcmp(left->name, right->name);
    return by_name != 0 ? by_name : strcmp(left->value, right->value);
}

static void free_pairs(kb_pair *owned_pairs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(owned_pairs[i].name);
        free(owned_pairs[i].value);
    }
    free(owned_pairs);
}

void kb_sigv4_encode(const char *text, bool keep_slash, kb_strbuf *to)
{
    static const char digits[] = "0123456789ABCDEF";
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
                     *p == '-' || *p == '.' || *p == '_' || *p == '~' || (keep_slash && *p == '/');
        if (plain) {
            kb_strbuf_appendc(to, (char)*p);
            continue;
        }
        kb_strbuf_appendc(to, '%');
        kb_strbuf_appendc(to, digits[*p >> 4]);
        kb_strbuf_appendc(to, digits[*p & 15]);
    }
}

static char *encoded(const char *text)
{
    kb_strbuf buf = KB_STRBUF_INIT(KB_SIGV4_TEXT_BYTES);
    kb_sigv4_encode(text, false, &buf);
    return kb_strbuf_take(&buf);
}

void kb_sigv4_query(const kb_sigv4_param *params, size_t count, kb_strbuf *to)
{
    if (count == 0)
        return;
    kb_pair *pairs = kb_calloc(count, sizeof *pairs);
    for (size_t i = 0; i < count; i++)
        pairs[i] = (kb_pair){encoded(params[i].name), encoded(params[i].value)};
    qsort(pairs, count, sizeof *pairs, compare_pairs);
    for (size_t i = 0; i < count; i++)
        kb_strbuf_appendf(to, "%s%s=%s", i > 0 ? "&" : "", pairs[i].name, pairs[i].value);
    free_pairs(pairs, count);
}

void kb_sigv4_time(int64_t wall_ms, char to[KB_SIGV4_TIME_SIZE])
{
    char stamp[KB_STAMP_SIZE]; /* "20130524-000000" */
    kb_stamp_format(wall_ms, stamp);
    snprintf(to, KB_SIGV4_TIME_SIZE, "%.8sT%.6sZ", stamp, stamp + 9);
}

static char *lower(const char *text)
{
    char *copy = kb_strdup(text);
    for (char *p = copy; *p != '\0'; p++)
        *p = (char)tolower((unsigned char)*p);
    return copy;
}

/* Without white space at both ends, runs of blanks within folded to one. */
static char *trimmed(const char *text)
{
    char *copy = kb_malloc(strlen(text) + 1), *to = copy;
    for (const char *p = text; *p != '\0'; p++) {
        bool blank = *p == ' ' || *p == '\t';
        if (!blank)
            *to++ = *p;
        else if (to > copy && to[-1] != ' ')
            *to++ = ' ';
    }
    if (to > copy && to[-1] == ' ')
        to--;
    *to = '\0';
    return copy;
}

void kb_sigv4_canonical_request(const kb_sigv4_request *request, kb_strbuf *to, kb_strbuf *signed_headers)
{
    size_t count = request->headers->count;
    kb_pair *pairs = kb_calloc(count > 0 ? count : 1, sizeof *pairs);
    for (size_t i = 0; i < count; i++)
        pairs[i] =
            (kb_pair){lower(request->headers->items[i].name), trimmed(request->headers->items[i].value)};
    qsort(pairs, count, sizeof *pairs, compare_pairs);
    kb_strbuf_appendf(to, "%s\n%s\n", request->method, request->path);
    kb_sigv4_query(request->params, request->param_count, to);
    kb_strbuf_appendc(to, '\n');
    for (size_t i = 0; i < count; i++) {
        kb_strbuf_appendf(to, "%s:%s\n", pairs[i].name, pairs[i].value);
        kb_strbuf_appendf(signed_headers, "%s%s", i > 0 ? ";" : "", pairs[i].name);
    }
    kb_strbuf_appendf(to, "\n%s\n%s", kb_strbuf_view(signed_headers), request->payload_sha256);
    free_pairs(pairs, count);
}

static void append_scope(const kb_sigv4_scope *scope, kb_strbuf *to)
{
    kb_strbuf_appendf(to, "%.8s/%s/%s/aws4_request", scope->time, scope->region, scope->service);
}

void kb_sigv4_string_to_sign(const char *canonical_request, const kb_sigv4_scope *scope, kb_strbuf *to)
{
    uint8_t hash[KB_SHA256_SIZE];
    char hex[KB_SHA256_HEX_SIZE];
    kb_sha256(canonical_request, strlen(canonical_request), hash);
    kb_hex_encode(hash, sizeof hash, hex);
    kb_strbuf_appendf(to, "AWS4-HMAC-SHA256\n%s\n", scope->time);
    append_scope(scope, to);
    kb_strbuf_appendf(to, "\n%s", hex);
}

static void derive(uint8_t key[KB_SHA256_SIZE], const char *text, size_t len)
{
    uint8_t next[KB_SHA256_SIZE];
    kb_hmac_sha256(key, KB_SHA256_SIZE, text, len, next);
    memcpy(key, next, sizeof next);
    kb_wipe(next, sizeof next);
}

void kb_sigv4_signature(const kb_secret *secret_key, const kb_sigv4_scope *scope, const char *string_to_sign,
                        char to[KB_SHA256_HEX_SIZE])
{
    static const char version[] = "AWS4", end[] = "aws4_request";
    size_t len = kb_secret_len(secret_key);
    char *seed = kb_malloc(sizeof version - 1 + len);
    memcpy(seed, version, sizeof version - 1);
    memcpy(seed + sizeof version - 1, kb_secret_view(secret_key), len);
    uint8_t key[KB_SHA256_SIZE];
    kb_hmac_sha256(seed, sizeof version - 1 + len, scope->time, 8, key);
    kb_wipe(seed, sizeof version - 1 + len);
    free(seed);
    derive(key, scope->region, strlen(scope->region));
    derive(key, scope->service, strlen(scope->service));
    derive(key, end, sizeof end - 1);
    derive(key, string_to_sign, strlen(string_to_sign));
    kb_hex_encode(key, sizeof key, to);
    kb_wipe(key, sizeof key);
}

void kb_sigv4_sign(const kb_sigv4_request *request, const kb_sigv4_scope *scope, const kb_cred *cred,
                   kb_http_headers *headers)
{
    const kb_cred_fields *fields = kb_cred_view(cred);
    kb_http_headers_set(headers, "X-Amz-Date", scope->time);
    if (strcmp(scope->service, "s3") == 0)
        kb_http_headers_set(headers, "X-Amz-Content-Sha256", request->payload_sha256);
    if (fields->token != NULL)
        kb_http_headers_set(headers, "X-Amz-Security-Token", kb_secret_view(fields->token));
    KB_AUTO_STRBUF(canonical, KB_SIGV4_TEXT_BYTES);
    KB_AUTO_STRBUF(names, KB_SIGV4_TEXT_BYTES);
    KB_AUTO_STRBUF(text, KB_SIGV4_TEXT_BYTES);
    KB_AUTO_STRBUF(value, KB_SIGV4_TEXT_BYTES);
    char signature[KB_SHA256_HEX_SIZE];
    kb_sigv4_canonical_request(request, &canonical, &names);
    kb_sigv4_string_to_sign(kb_strbuf_view(&canonical), scope, &text);
    kb_sigv4_signature(fields->secret, scope, kb_strbuf_view(&text), signature);
    kb_strbuf_appendf(&value, "AWS4-HMAC-SHA256 Credential=%s/", fields->id);
    append_scope(scope, &value);
    kb_strbuf_appendf(&value, ", SignedHeaders=%s, Signature=%s", kb_strbuf_view(&names), signature);
    kb_http_headers_set(headers, "Authorization", kb_strbuf_view(&value));
    if (canonical.data != NULL)
        kb_wipe(canonical.data, canonical.len); /* the session token is in it */
}
