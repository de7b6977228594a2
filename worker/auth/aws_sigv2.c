#include "worker/auth/aws_sigv2.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "common/base/crypto_mac.h"
#include "common/base/encode.h"
#include "common/base/mem.h"

#define KB_SIGV2_TEXT_BYTES (1024UL * 1024)

void kb_http_date(int64_t wall_ms, char to[KB_HTTP_DATE_SIZE])
{
    static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm = {0};
    gmtime_r(&seconds, &tm);
    KB_AUTOFREE char *text =
        kb_asprintf("%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", days + (size_t)tm.tm_wday * 3, tm.tm_mday,
                    months + (size_t)tm.tm_mon * 3, tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
    snprintf(to, KB_HTTP_DATE_SIZE, "%s", text);
}

static const char *header_or_empty(const kb_http_headers *headers, const char *name)
{
    const char *value = kb_http_headers_get(headers, name);
    return value != NULL ? value : "";
}

static int compare_headers(const void *a, const void *b)
{
    return strcasecmp((*(const kb_http_header *const *)a)->name, (*(const kb_http_header *const *)b)->name);
}

static void append_amz_headers(const kb_http_headers *headers, kb_strbuf *to)
{
    const kb_http_header **amz = kb_calloc(headers->count > 0 ? headers->count : 1, sizeof *amz);
    size_t count = 0;
    for (size_t i = 0; i < headers->count; i++) {
        if (strncasecmp(headers->items[i].name, "x-amz-", 6) == 0)
            amz[count++] = &headers->items[i];
    }
    qsort(amz, count, sizeof *amz, compare_headers);
    for (size_t i = 0; i < count; i++) {
        for (const char *p = amz[i]->name; *p != '\0'; p++)
            kb_strbuf_appendc(to, (char)tolower((unsigned char)*p));
        kb_strbuf_appendf(to, ":%s\n", amz[i]->value);
    }
    free(amz);
}

/* Parameters that name a part of the resource are signed, those that only shape the answer are not. */
static bool is_subresource(const char *name)
{
    static const char *const names[] = {"acl",     "delete",    "partNumber", "uploadId",
                                        "uploads", "versionId", "versions"};
    for (size_t i = 0; i < KB_ARRAY_LEN(names); i++) {
        if (strcmp(names[i], name) == 0)
            return true;
    }
    return false;
}

static int compare_params(const void *a, const void *b)
{
    return strcmp(((const kb_sigv4_param *)a)->name, ((const kb_sigv4_param *)b)->name);
}

static void append_subresources(const kb_sigv2_request *request, kb_strbuf *to)
{
    kb_sigv4_param *params = kb_calloc(request->param_count > 0 ? request->param_count : 1, sizeof *params);
    size_t count = 0;
    for (size_t i = 0; i < request->param_count; i++) {
        if (is_subresource(request->params[i].name))
            params[count++] = request->params[i];
    }
    qsort(params, count, sizeof *params, compare_params);
    for (size_t i = 0; i < count; i++)
        kb_strbuf_appendf(to, "%c%s%s%s", i > 0 ? '&' : '?', params[i].name,
                          params[i].value[0] != '\0' ? "=" : "", params[i].value);
    free(params);
}

void kb_sigv2_string_to_sign(const kb_sigv2_request *request, kb_strbuf *to)
{
    kb_strbuf_appendf(
        to, "%s\n%s\n%s\n%s\n", request->method, header_or_empty(request->headers, "Content-MD5"),
        header_or_empty(request->headers, "Content-Type"), header_or_empty(request->headers, "Date"));
    append_amz_headers(request->headers, to);
    kb_strbuf_appends(to, request->resource);
    append_subresources(request, to);
}

void kb_sigv2_sign(const kb_sigv2_request *request, int64_t wall_ms, const kb_cred *cred,
                   kb_http_headers *headers)
{
    const kb_cred_fields *fields = kb_cred_view(cred);
    char date[KB_HTTP_DATE_SIZE], text[KB_BASE64_TEXT_SIZE(KB_SHA1_SIZE)];
    uint8_t mac[KB_SHA1_SIZE];
    kb_http_date(wall_ms, date);
    kb_http_headers_set(headers, "Date", date);
    if (fields->token != NULL)
        kb_http_headers_set(headers, "X-Amz-Security-Token", kb_secret_view(fields->token));
    KB_AUTO_STRBUF(to_sign, KB_SIGV2_TEXT_BYTES);
    kb_sigv2_string_to_sign(request, &to_sign);
    kb_hmac_sha1(kb_secret_view(fields->secret), kb_secret_len(fields->secret), kb_strbuf_view(&to_sign),
                 to_sign.len, mac);
    (void)kb_base64_encode(mac, sizeof mac, text);
    KB_AUTOFREE char *value = kb_asprintf("AWS %s:%s", fields->id, text);
    kb_http_headers_set(headers, "Authorization", value);
    if (to_sign.data != NULL)
        kb_wipe(to_sign.data, to_sign.len); /* the session token is in it */
}
