#include "worker/auth/gcp_account.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/data/json_read.h"
#include "worker/auth/oauth.h"

static const char google_token_uri[] = "https://oauth2.googleapis.com/token";
static const kb_json_options json_options = {.max_string_bytes = KB_GCP_ACCOUNT_MAX};

typedef struct parse {
    kb_json_reader *reader;
    kb_gcp_account account;
    char *type;
    char *format;      /* of an external source */
    const char *other; /* kind of source that we do not do */
} parse;

static void parse_done(parse *p)
{
    kb_json_reader_free(p->reader);
    kb_gcp_account_done(&p->account);
    free(p->type);
    free(p->format);
}

/* A text, or null; other values of fields that we do not need are passed over by the caller. */
static kb_code read_text(parse *p, char **to, kb_error *err)
{
    bool is_null = false;
    kb_code code = kb_json_take_null(p->reader, &is_null, err);
    if (code != KB_OK || is_null)
        return code;
    free(KB_TAKE(*to));
    return kb_json_get_text(p->reader, to, err);
}

static kb_code read_format(parse *p, kb_error *err)
{
    kb_view name;
    kb_code code = kb_json_begin_object(p->reader, err);
    while (code == KB_OK && (code = kb_json_next_name(p->reader, &name, err)) == KB_OK) {
        if (kb_json_is(name, "type"))
            code = read_text(p, &p->format, err);
        else if (kb_json_is(name, "subject_token_field_name"))
            code = read_text(p, &p->account.source_field, err);
        else
            code = kb_json_skip(p->reader, err);
    }
    return code == KB_ERR_END ? KB_OK : code;
}

static bool is_header_name(kb_view name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-";
    for (size_t i = 0; i < name.len; i++) {
        if (name.data[i] == '\0' || strchr(allowed, name.data[i]) == NULL)
            return false;
    }
    return name.len > 0 && name.len <= 64;
}

static kb_code read_headers(parse *p, kb_error *err)
{
    kb_view name;
    kb_code code = kb_json_begin_object(p->reader, err);
    while (code == KB_OK && (code = kb_json_next_name(p->reader, &name, err)) == KB_OK) {
        if (!is_header_name(name))
            return kb_fail(err, KB_ERR_FORMAT, "credential_source.headers: a name that is none");
        KB_AUTOFREE char *key = kb_strndup((const char *)name.data, name.len);
        KB_AUTOFREE char *value = NULL;
        code = kb_json_get_text(p->reader, &value, err);
        if (code != KB_OK)
            return code;
        if (!kb_oauth_is_token(value, strlen(value)))
            return kb_fail(err, KB_ERR_FORMAT, "credential_source.headers: a value that is none");
        kb_http_headers_set(&p->account.source_headers, key, value);
    }
    return code == KB_ERR_END ? KB_OK : code;
}

static kb_code read_source(parse *p, kb_error *err)
{
    kb_view name;
    kb_code code = kb_json_begin_object(p->reader, err);
    while (code == KB_OK && (code = kb_json_next_name(p->reader, &name, err)) == KB_OK) {
        if (kb_json_is(name, "file")) {
            code = read_text(p, &p->account.source_file, err);
        } else if (kb_json_is(name, "url")) {
            code = read_text(p, &p->account.source_url, err);
        } else if (kb_json_is(name, "headers")) {
            code = read_headers(p, err);
        } else if (kb_json_is(name, "format")) {
            code = read_format(p, err);
        } else {
            if (kb_json_is(name, "executable"))
                p->other = "an executable source, which is never run";
            else if (kb_json_is(name, "environment_id"))
                p->other = "an AWS source";
            else if (kb_json_is(name, "certificate"))
                p->other = "a certificate source";
            code = kb_json_skip(p->reader, err);
        }
    }
    return code == KB_ERR_END ? KB_OK : code;
}

static kb_code read_private_key(parse *p, kb_error *err)
{
    char *text = NULL;
    kb_code code = read_text(p, &text, err);
    if (code == KB_OK && text != NULL) {
        kb_secret_free(p->account.private_key);
        p->account.private_key = kb_secret_new(text, strlen(text));
        kb_wipe(text, strlen(text));
    }
    free(text);
    return code;
}

static kb_code read_field(parse *p, kb_view name, kb_error *err)
{
    kb_gcp_account *a = &p->account;
    const struct {
        const char *name;
        char **to;
    } texts[] = {
        {"type", &p->type},
        {"client_email", &a->client_email},
        {"private_key_id", &a->private_key_id},
        {"token_uri", &a->token_uri},
        {"audience", &a->audience},
        {"subject_token_type", &a->subject_token_type},
        {"token_url", &a->token_url},
        {"service_account_impersonation_url", &a->impersonation_url},
        {"workforce_pool_user_project", &a->workforce_project},
        {"quota_project_id", &a->quota_project},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(texts); i++) {
        if (kb_json_is(name, texts[i].name))
            return read_text(p, texts[i].to, err);
    }
    if (kb_json_is(name, "private_key"))
        return read_private_key(p, err);
    return kb_json_is(name, "credential_source") ? read_source(p, err) : kb_json_skip(p->reader, err);
}

/* ---- checks ---- */

static kb_code check_url(const char *url, const char *name, bool allow_local_http, kb_error *err)
{
    if (url != NULL && !kb_oauth_is_safe_url(url, allow_local_http))
        return kb_fail(err, KB_ERR_FORMAT, "%s: expected a URL that begins with https://", name);
    return KB_OK;
}

static kb_code need(const void *value, const char *name, kb_error *err)
{
    return value != NULL ? KB_OK : kb_fail(err, KB_ERR_FORMAT, "%s is missing", name);
}

static kb_code check_service(parse *p, bool allow_local_http, kb_error *err)
{
    kb_gcp_account *a = &p->account;
    kb_code code = need(a->client_email, "client_email", err);
    if (code == KB_OK)
        code = need(a->private_key, "private_key", err);
    if (code == KB_OK && a->token_uri == NULL)
        a->token_uri = kb_strdup(google_token_uri);
    return code != KB_OK ? code : check_url(a->token_uri, "token_uri", allow_local_http, err);
}

static kb_code check_source(parse *p, kb_error *err)
{
    kb_gcp_account *a = &p->account;
    if (p->other != NULL)
        return kb_fail(err, KB_ERR_FORMAT, "credential_source: is %s; expected file or url", p->other);
    if ((a->source_file != NULL) == (a->source_url != NULL))
        return kb_fail(err, KB_ERR_FORMAT, "credential_source: expected file or url, one of the two");
    bool is_json = p->format != NULL && strcmp(p->format, "json") == 0;
    if (p->format != NULL && !is_json && strcmp(p->format, "text") != 0)
        return kb_fail(err, KB_ERR_FORMAT, "credential_source.format.type: expected text or json");
    if (is_json && a->source_field == NULL)
        return kb_fail(err, KB_ERR_FORMAT, "credential_source.format.subject_token_field_name is missing");
    if (!is_json)
        free(KB_TAKE(a->source_field));
    return check_url(a->source_url, "credential_source.url", true, err);
}

static kb_code check_external(parse *p, bool allow_local_http, kb_error *err)
{
    kb_gcp_account *a = &p->account;
    a->is_external = true;
    kb_code code = need(a->audience, "audience", err);
    if (code == KB_OK)
        code = need(a->subject_token_type, "subject_token_type", err);
    if (code == KB_OK)
        code = need(a->token_url, "token_url", err);
    if (code == KB_OK)
        code = check_url(a->token_url, "token_url", allow_local_http, err);
    if (code == KB_OK)
        code = check_url(a->impersonation_url, "service_account_impersonation_url", allow_local_http, err);
    return code != KB_OK ? code : check_source(p, err);
}

static kb_code check_all(parse *p, bool allow_local_http, kb_error *err)
{
    if (p->type != NULL && strcmp(p->type, "service_account") == 0)
        return check_service(p, allow_local_http, err);
    if (p->type != NULL && strcmp(p->type, "external_account") == 0)
        return check_external(p, allow_local_http, err);
    return kb_fail(err, KB_ERR_FORMAT, "type: expected service_account or external_account");
}

static kb_code read_all(parse *p, kb_error *err)
{
    kb_view name;
    kb_code code = kb_json_begin_object(p->reader, err);
    while (code == KB_OK && (code = kb_json_next_name(p->reader, &name, err)) == KB_OK)
        code = read_field(p, name, err);
    return code == KB_ERR_END ? kb_json_end(p->reader, err) : code;
}

kb_code kb_gcp_account_parse(kb_view json, bool allow_local_http, kb_gcp_account *ret_account, kb_error *err)
{
    KB_CLEANUP(parse_done) parse p = {.reader = kb_json_reader_new(json, &json_options)};
    kb_code code = read_all(&p, err);
    if (code != KB_OK)
        return kb_wrap_as(err, KB_ERR_FORMAT, "it is not such a JSON file");
    code = check_all(&p, allow_local_http, err);
    if (code != KB_OK)
        return code;
    *ret_account = p.account;
    p.account = (kb_gcp_account){.is_external = false};
    return KB_OK;
}

void kb_gcp_account_done(kb_gcp_account *account)
{
    char *const texts[] = {account->client_email,      account->private_key_id,     account->token_uri,
                           account->audience,          account->subject_token_type, account->token_url,
                           account->impersonation_url, account->workforce_project,  account->source_file,
                           account->source_url,        account->source_field,       account->quota_project};
    for (size_t i = 0; i < KB_ARRAY_LEN(texts); i++)
        free(texts[i]);
    kb_secret_free(account->private_key);
    kb_http_headers_done(&account->source_headers);
    *account = (kb_gcp_account){.is_external = false};
}

/* ---- subject tokens ---- */

static kb_code read_token_field(kb_view text, const char *field, kb_secret **ret_token, kb_error *err)
{
    KB_CLEANUP(kb_json_reader_free_at) kb_json_reader *r = kb_json_reader_new(text, &json_options);
    KB_CLEANUP(kb_secret_free_at) kb_secret *token = NULL;
    kb_view name, value;
    kb_code code = kb_json_begin_object(r, err);
    while (code == KB_OK && (code = kb_json_next_name(r, &name, err)) == KB_OK) {
        if (!kb_json_is(name, field)) {
            code = kb_json_skip(r, err);
            continue;
        }
        code = kb_json_get_string(r, &value, err);
        if (code == KB_OK && token == NULL)
            token = kb_secret_new(value.data, value.len);
    }
    if (code != KB_ERR_END)
        return code;
    if (token == NULL)
        return kb_fail(err, KB_ERR_FORMAT, "there is no field of that name");
    *ret_token = KB_TAKE(token);
    return KB_OK;
}

kb_code kb_gcp_subject_token(kb_view text, const char *field, kb_secret **ret_token, kb_error *err)
{
    KB_AUTO_ERROR(quotes); /* parts of a token, perhaps */
    KB_CLEANUP(kb_secret_free_at) kb_secret *token = NULL;
    size_t len = text.len;
    while (len > 0 && strchr(" \t\r\n", text.data[len - 1]) != NULL && text.data[len - 1] != '\0')
        len--;
    if (field == NULL)
        token = kb_secret_new(text.data, len);
    else if (read_token_field(text, field, &token, &quotes) != KB_OK)
        return kb_fail(err, KB_ERR_FORMAT, "it is not JSON with the token in the field '%s'", field);
    if (!kb_oauth_is_token(kb_secret_view(token), kb_secret_len(token)))
        return kb_fail(err, KB_ERR_FORMAT, "it holds no token");
    *ret_token = KB_TAKE(token);
    return KB_OK;
}
