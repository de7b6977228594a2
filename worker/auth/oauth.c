#include "worker/auth/oauth.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/encode.h"
#include "common/base/mem.h"
#include "common/data/json_read.h"

#define KB_UNSTATED_LIFETIME_MS (5 * 60 * 1000)
#define KB_LIFETIME_MAX_SECS (366LL * 24 * 3600)

static const kb_json_options json_options = {.max_string_bytes = KB_OAUTH_BODY_MAX};

/* ---- answers ---- */

bool kb_oauth_is_token(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] <= 0x20 || text[i] >= 0x7f)
            return false;
    }
    return len > 0;
}

/* Seconds, as a number or as its text. */
static kb_code read_seconds(kb_json_reader *r, int64_t *ret_seconds, kb_error *err)
{
    kb_json_type type;
    kb_view text;
    kb_code code = kb_json_peek(r, &type, err);
    if (code != KB_OK)
        return code;
    if (type != KB_JSON_STRING)
        return kb_json_get_i64_range(r, 0, INT64_MAX / 1000, ret_seconds, err);
    code = kb_json_get_string(r, &text, err);
    if (code == KB_OK && (!kb_parse_i64_len((const char *)text.data, text.len, ret_seconds) ||
                          *ret_seconds < 0 || *ret_seconds > INT64_MAX / 1000))
        return kb_json_fail(r, err, "not a number of seconds");
    return code;
}

static kb_code read_time(kb_json_reader *r, int64_t *ret_ms, kb_error *err)
{
    kb_view text;
    kb_code code = kb_json_get_string(r, &text, err);
    return code != KB_OK ? code : kb_rfc3339_parse((const char *)text.data, text.len, ret_ms, err);
}

static kb_code read_token(kb_json_reader *r, kb_secret **to, kb_error *err)
{
    kb_view text;
    kb_code code = kb_json_get_string(r, &text, err);
    if (code != KB_OK)
        return code;
    if (!kb_oauth_is_token((const char *)text.data, text.len))
        return kb_json_fail(r, err, "a token that is empty or holds other than printable characters");
    kb_secret_free(*to);
    *to = kb_secret_new(text.data, text.len);
    return KB_OK;
}

static kb_code read_type(kb_json_reader *r, kb_error *err)
{
    kb_view text;
    kb_code code = kb_json_get_string(r, &text, err);
    if (code == KB_OK && (text.len != 6 || strncasecmp((const char *)text.data, "Bearer", 6) != 0))
        return kb_json_fail(r, err, "the token is no bearer token");
    return code;
}

static int64_t lifetime_end(int64_t now_ms, int64_t seconds)
{
    return now_ms + (seconds < KB_LIFETIME_MAX_SECS ? seconds : KB_LIFETIME_MAX_SECS) * 1000;
}

static kb_code read_answer_field(kb_json_reader *r, kb_view name, int64_t now_ms, kb_oauth_token *to,
                                 kb_error *err)
{
    int64_t seconds = 0;
    bool is_null = false;
    kb_code code = kb_json_take_null(r, &is_null, err);
    if (code != KB_OK || is_null)
        return code;
    if (kb_json_is(name, "access_token") || kb_json_is(name, "accessToken"))
        return read_token(r, &to->token, err);
    if (kb_json_is(name, "token_type"))
        return read_type(r, err);
    if (kb_json_is(name, "expireTime"))
        return read_time(r, &to->expires_ms, err);
    if (kb_json_is(name, "expires_in")) {
        code = read_seconds(r, &seconds, err);
        to->expires_ms = lifetime_end(now_ms, seconds);
        return code;
    }
    if (kb_json_is(name, "expires_on")) {
        code = read_seconds(r, &seconds, err);
        /* A lifetime counts from our own clock; the absolute time only where there is nothing else. */
        if (code == KB_OK && to->expires_ms == 0)
            to->expires_ms = seconds * 1000;
        return code;
    }
    return kb_json_skip(r, err);
}

kb_code kb_oauth_parse(kb_view body, int64_t now_wall_ms, kb_oauth_token *ret_token, kb_error *err)
{
    KB_CLEANUP(kb_json_reader_free_at) kb_json_reader *r = kb_json_reader_new(body, &json_options);
    kb_oauth_token token = {NULL, 0};
    kb_view name;
    kb_code code = kb_json_begin_object(r, err);
    while (code == KB_OK && (code = kb_json_next_name(r, &name, err)) == KB_OK)
        code = read_answer_field(r, name, now_wall_ms, &token, err);
    if (code == KB_ERR_END)
        code = kb_json_end(r, err);
    if (code == KB_OK && token.token == NULL)
        code = kb_fail(err, KB_ERR_FORMAT, "there is no access_token in it");
    if (code != KB_OK) {
        kb_secret_free(token.token);
        return code;
    }
    if (token.expires_ms == 0)
        token.expires_ms = now_wall_ms + KB_UNSTATED_LIFETIME_MS;
    *ret_token = token;
    return KB_OK;
}

/* ---- refusals ---- */

static void append_safe(char *to, const char *text, size_t len)
{
    size_t at = strlen(to);
    if (at > 0 && at < KB_OAUTH_REFUSAL_SIZE - 1)
        to[at++] = ' ';
    for (size_t i = 0; i < len && i < 64 && at < KB_OAUTH_REFUSAL_SIZE - 1; i++) {
        if (!isalnum((unsigned char)text[i]) && strchr("_-.", text[i]) == NULL)
            break;
        to[at++] = text[i];
    }
    while (at > 0 && to[at - 1] == ' ')
        at--;
    to[at] = '\0';
}

/* Letters and '_' only: what was sent and comes back hardly looks like this. */
static bool is_word(kb_view text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!isalpha(text.data[i]) && text.data[i] != '_')
            return false;
    }
    return text.len <= 48;
}

/* A code is a word; a sentence may quote anything. Of descriptions only Entra's own numbers are taken. */
static void note_text(const char *name, kb_view text, char *to)
{
    static const char number[] = "AADSTS";
    if (strcmp(name, "error") == 0 || strcmp(name, "code") == 0 || strcmp(name, "status") == 0 ||
        strcmp(name, "reason") == 0) {
        if (is_word(text))
            append_safe(to, (const char *)text.data, text.len);
    } else if (strcmp(name, "error_description") == 0) {
        const char *at = memmem(text.data, text.len, number, sizeof number - 1);
        if (at != NULL)
            append_safe(to, at, text.len - (size_t)((const uint8_t *)at - text.data));
    }
}

void kb_oauth_refusal(kb_view body, char to[KB_OAUTH_REFUSAL_SIZE])
{
    KB_CLEANUP(kb_json_reader_free_at) kb_json_reader *r = kb_json_reader_new(body, &json_options);
    KB_AUTO_ERROR(ignored);
    char name[32] = "";
    kb_json_token token;
    to[0] = '\0';
    while (kb_json_next(r, &token, &ignored) == KB_OK && token.type != KB_JSON_END) {
        if (token.type == KB_JSON_NAME) {
            size_t len = token.text.len < sizeof name - 1 ? token.text.len : sizeof name - 1;
            memcpy(name, token.text.data, len);
            name[len] = '\0';
        } else if (token.type == KB_JSON_STRING) {
            note_text(name, token.text, to);
        }
    }
}

/* ---- forms and URLs ---- */

void kb_oauth_form_add(kb_strbuf *form, const char *name, const char *value)
{
    if (form->len > 0)
        kb_strbuf_appendc(form, '&');
    kb_strbuf_appendf(form, "%s=", name);
    for (const char *c = value; *c != '\0'; c++) {
        if (isalnum((unsigned char)*c) || strchr("-._~", *c) != NULL)
            kb_strbuf_appendc(form, *c);
        else
            kb_strbuf_appendf(form, "%%%02X", (unsigned char)*c);
    }
}

void kb_oauth_form_done(kb_strbuf *form)
{
    if (form->data != NULL)
        kb_wipe(form->data, form->len);
    kb_strbuf_done(form);
}

static bool is_local_host(const char *host, size_t len)
{
    static const char *const exact[] = {"localhost", "127.0.0.1", "[::1]"};
    for (size_t i = 0; i < KB_ARRAY_LEN(exact); i++) {
        if (len == strlen(exact[i]) && strncasecmp(host, exact[i], len) == 0)
            return true;
    }
    return len > 8 && strncmp(host, "169.254.", 8) == 0 && strspn(host, "0123456789.") >= len;
}

bool kb_oauth_is_safe_url(const char *url, bool may_be_local)
{
    bool is_https = strncmp(url, "https://", 8) == 0;
    if (!is_https && strncmp(url, "http://", 7) != 0)
        return false;
    const char *host = url + (is_https ? 8 : 7);
    size_t authority_len = strcspn(host, "/?#");
    if (authority_len == 0 || memchr(host, '@', authority_len) != NULL)
        return false;
    for (const char *c = url; *c != '\0'; c++) {
        if (*c <= 0x20 || *c >= 0x7f || *c == '\\')
            return false;
    }
    size_t host_len = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/?#");
    if (host_len > authority_len)
        return false;
    return is_https || (may_be_local && is_local_host(host, host_len));
}

/* ---- exchanges ---- */

static kb_code prepare(void *ctx, const kb_http_attempt *attempt, kb_http_request *request,
                       kb_http_headers *headers, kb_error *err)
{
    const kb_oauth_request *wanted = ctx;
    (void)attempt, (void)request, (void)err;
    for (size_t i = 0; wanted->headers != NULL && i < wanted->headers->count; i++)
        kb_http_headers_set(headers, wanted->headers->items[i].name, wanted->headers->items[i].value);
    return KB_OK;
}

static kb_http_verdict judge(void *ctx, const kb_http_attempt *attempt, const kb_http_response *response,
                             kb_error *err)
{
    const kb_oauth_request *wanted = ctx;
    char refusal[KB_OAUTH_REFUSAL_SIZE];
    (void)attempt;
    kb_http_verdict verdict = kb_http_judge_status(response->status);
    if (verdict == KB_HTTP_ANSWER)
        return verdict;
    kb_oauth_refusal(kb_view_of(response->body, response->body_len), refusal);
    if (verdict == KB_HTTP_TRANSIENT) {
        (void)kb_fail_retryable(err, KB_STORAGE_UNREACHABLE, "the %s answered %d %s", wanted->what,
                                response->status, refusal);
        return verdict;
    }
    (void)kb_fail(err, KB_STORAGE_ACCESS_DENIED, "the %s refused: %d%s%s; hint: %s", wanted->what,
                  response->status, refusal[0] != '\0' ? " " : "", refusal, wanted->hint);
    return KB_HTTP_FATAL;
}

static void response_done(kb_http_response *response)
{
    if (response->body != NULL)
        kb_wipe(response->body, response->body_len);
    kb_http_response_done(response);
}

static kb_code run(kb_http_retry *retry, const kb_oauth_request *request, kb_http_response *response,
                   kb_error *err)
{
    kb_oauth_request wanted = *request;
    const kb_http_call call = {
        .what = request->what,
        .request = {.method = request->method,
                    .url = request->url,
                    .body = &wanted.body,
                    .body_count = request->body.len > 0 ? 1 : 0,
                    .max_body_bytes = KB_OAUTH_BODY_MAX},
        .ctx = &wanted,
        .prepare = prepare,
        .judge = judge,
    };
    return kb_http_retry_run(retry, &call, response, NULL, err);
}

kb_code kb_oauth_fetch(kb_http_retry *retry, const kb_clock *clock, const kb_oauth_request *request,
                       kb_oauth_token *ret_token, kb_error *err)
{
    KB_CLEANUP(response_done) kb_http_response response = KB_HTTP_RESPONSE_INIT;
    KB_AUTO_ERROR(bad);
    kb_code code = run(retry, request, &response, err);
    if (code != KB_OK)
        return code;
    int64_t now_ms = kb_clock_now_wall_ms(clock);
    /* The reader's own text may quote the answer, and with it the token. */
    if (kb_oauth_parse(kb_view_of(response.body, response.body_len), now_ms, ret_token, &bad) != KB_OK)
        return kb_fail(err, KB_STORAGE_ACCESS_DENIED, "the %s answered %d without a usable token; hint: %s",
                       request->what, response.status, request->hint);
    return KB_OK;
}

kb_code kb_oauth_fetch_text(kb_http_retry *retry, const kb_oauth_request *request, kb_secret **ret_body,
                            kb_error *err)
{
    KB_CLEANUP(response_done) kb_http_response response = KB_HTTP_RESPONSE_INIT;
    kb_code code = run(retry, request, &response, err);
    if (code == KB_OK)
        *ret_body = kb_secret_new(response.body, response.body_len);
    return code;
}
