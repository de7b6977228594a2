#include "worker/auth/aws_cred_parse.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/data/json_read.h"
#include "worker/auth/oauth.h"

#define KB_AWS_VALUE_BYTES 65536UL

typedef struct kb_parts {
    char *id, *expires;
    kb_secret *secret, *token;
} kb_parts;

static void parts_done(kb_parts *parts)
{
    free(parts->id);
    free(parts->expires);
    kb_secret_free(parts->secret);
    kb_secret_free(parts->token);
}

static void set_secret(kb_secret **to, const char *text, size_t len)
{
    kb_secret_free(*to);
    *to = len > 0 ? kb_secret_new(text, len) : NULL;
}

static void set_text(char **to, const char *text, size_t len)
{
    free(*to);
    *to = kb_strndup(text, len);
}

/* Everything that goes into a header is checked here once. */
static kb_code make_cred(const kb_parts *parts, const char *source, kb_cred **ret_cred, kb_error *err)
{
    kb_cred_fields fields = {
        .id = parts->id, .secret = parts->secret, .token = parts->token, .source = source};
    if (parts->id == NULL || parts->secret == NULL || !kb_oauth_is_token(parts->id, strlen(parts->id)) ||
        (parts->token != NULL &&
         !kb_oauth_is_token(kb_secret_view(parts->token), kb_secret_len(parts->token))))
        return kb_fail(err, KB_ERR_FORMAT,
                       "the credentials lack a key, or hold other than printable characters");
    if (parts->expires != NULL &&
        kb_rfc3339_parse(parts->expires, strlen(parts->expires), &fields.expires_ms, err) != KB_OK)
        return kb_fail(err, KB_ERR_FORMAT, "the end of the credentials is not a time");
    *ret_cred = kb_cred_new(&fields);
    return KB_OK;
}

/* ---- JSON ---- */

static kb_code read_field(kb_json_reader *r, kb_view name, kb_parts *parts, kb_error *err)
{
    bool is_id = kb_json_is(name, "AccessKeyId"), is_secret = kb_json_is(name, "SecretAccessKey");
    bool is_token = kb_json_is(name, "Token"), is_end = kb_json_is(name, "Expiration");
    if (!is_id && !is_secret && !is_token && !is_end)
        return kb_json_skip(r, err);
    kb_view text;
    kb_code code = kb_json_get_string(r, &text, err);
    if (code != KB_OK)
        return code;
    if (is_id || is_end)
        set_text(is_id ? &parts->id : &parts->expires, (const char *)text.data, text.len);
    else
        set_secret(is_secret ? &parts->secret : &parts->token, (const char *)text.data, text.len);
    return KB_OK;
}

static kb_code read_fields(kb_json_reader *r, kb_parts *parts, kb_error *err)
{
    kb_view name;
    kb_code code = kb_json_begin_object(r, err);
    if (code != KB_OK)
        return code;
    while ((code = kb_json_next_name(r, &name, err)) == KB_OK) {
        code = read_field(r, name, parts, err);
        if (code != KB_OK)
            return code;
    }
    return code == KB_ERR_END ? kb_json_end(r, err) : code;
}

kb_code kb_aws_parse_json(const char *json, size_t len, const char *source, kb_cred **ret_cred, kb_error *err)
{
    static const kb_json_options options = {.max_string_bytes = KB_AWS_VALUE_BYTES};
    KB_CLEANUP(parts_done) kb_parts parts = {0};
    kb_json_reader *r = kb_json_reader_new(kb_view_of(json, len), &options);
    kb_code code = read_fields(r, &parts, err);
    kb_json_reader_free(r);
    if (code != KB_OK)
        return kb_fail(err, KB_ERR_FORMAT, "the answer is not JSON of the form expected");
    return make_cred(&parts, source, ret_cred, err);
}

/* ---- XML ---- */

/* The text of the first element of that name; its content has neither markup nor entities. */
static bool find_element(const char *xml, size_t len, const char *name, const char **ret_text,
                         size_t *ret_len)
{
    KB_AUTOFREE char *open = kb_asprintf("<%s>", name);
    KB_AUTOFREE char *close = kb_asprintf("</%s>", name);
    const char *start = memmem(xml, len, open, strlen(open));
    if (start == NULL)
        return false;
    start += strlen(open);
    const char *end = memmem(start, (size_t)(xml + len - start), close, strlen(close));
    if (end == NULL || memchr(start, '<', (size_t)(end - start)) != NULL ||
        memchr(start, '&', (size_t)(end - start)) != NULL || (size_t)(end - start) > KB_AWS_VALUE_BYTES)
        return false;
    *ret_text = start;
    *ret_len = (size_t)(end - start);
    return true;
}

kb_code kb_aws_parse_sts(const char *xml, size_t len, kb_cred **ret_cred, kb_error *err)
{
    KB_CLEANUP(parts_done) kb_parts parts = {0};
    const char *text = NULL;
    size_t size = 0;
    if (find_element(xml, len, "AccessKeyId", &text, &size))
        set_text(&parts.id, text, size);
    if (find_element(xml, len, "SecretAccessKey", &text, &size))
        set_secret(&parts.secret, text, size);
    if (find_element(xml, len, "SessionToken", &text, &size))
        set_secret(&parts.token, text, size);
    if (find_element(xml, len, "Expiration", &text, &size))
        set_text(&parts.expires, text, size);
    if (parts.token == NULL || parts.expires == NULL)
        return kb_fail(err, KB_ERR_FORMAT, "the answer has no session token, or does not say when it ends");
    return make_cred(&parts, "web identity", ret_cred, err);
}

/* ---- INI ---- */

static const char *skip_blank(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    return at;
}

static bool is_name(const char *at, size_t len, const char *name)
{
    return strlen(name) == len && memcmp(at, name, len) == 0;
}

static void read_setting(const char *at, const char *end, kb_parts *parts)
{
    const char *equals = memchr(at, '=', (size_t)(end - at));
    if (equals == NULL)
        return;
    const char *name_end = equals, *value = skip_blank(equals + 1, end);
    while (name_end > at && (name_end[-1] == ' ' || name_end[-1] == '\t'))
        name_end--;
    size_t len = (size_t)(end - value), name_len = (size_t)(name_end - at);
    if (is_name(at, name_len, "aws_access_key_id"))
        set_text(&parts->id, value, len);
    else if (is_name(at, name_len, "aws_secret_access_key"))
        set_secret(&parts->secret, value, len);
    else if (is_name(at, name_len, "aws_session_token"))
        set_secret(&parts->token, value, len);
}

kb_code kb_aws_parse_profile(const char *text, size_t len, const char *profile, kb_cred **ret_cred,
                             kb_error *err)
{
    KB_CLEANUP(parts_done) kb_parts parts = {0};
    bool is_ours = false;
    for (const char *line = text, *stop = text + len, *next; line < stop; line = next) {
        const char *end = memchr(line, '\n', (size_t)(stop - line));
        next = end != NULL ? end + 1 : stop;
        end = end != NULL ? end : stop;
        while (end > line && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
            end--;
        const char *at = skip_blank(line, end);
        if (at == end || *at == '#' || *at == ';')
            continue;
        if (*at == '[' && end[-1] == ']')
            is_ours = is_name(at + 1, (size_t)(end - at) - 2, profile);
        else if (is_ours)
            read_setting(at, end, &parts);
    }
    if (parts.id == NULL && parts.secret == NULL)
        return kb_fail(err, KB_ERR_NOT_FOUND, "profile '%s' has no aws_access_key_id", profile);
    return make_cred(&parts, "the shared credentials file", ret_cred, err);
}
