#include "worker/auth/gcp_auth.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/crypto_mac.h"
#include "common/base/encode.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/data/json_write.h"
#include "worker/auth/gcp_account.h"
#include "worker/auth/oauth.h"

#define KB_ASSERTION_SECS 3600
#define KB_ASSERTION_MAX ((size_t)64 * 1024)

static const char default_metadata[] = "http://metadata.google.internal";
static const char storage_scope[] = "https://www.googleapis.com/auth/devstorage.read_write";
static const char cloud_scope[] = "https://www.googleapis.com/auth/cloud-platform";
static const char missing_hint[] =
    "give storage.service_account_path, set GOOGLE_APPLICATION_CREDENTIALS, or bind a service account to the "
    "machine or pod";

typedef struct source {
    kb_gcp_auth_options options;
    const kb_clock *clock;
    const char *file;  /* of a file source */
    bool has_answered; /* the metadata server is there: its silence is a fault, not an absence */
} source;

static source *new_source(const kb_gcp_auth_options *options, const char *file)
{
    source *self = kb_calloc(1, sizeof *self);
    self->options = *options;
    self->clock = options->clock != NULL ? options->clock : kb_clock_system();
    self->file = file;
    return self;
}

static kb_code as_cred(kb_code code, kb_oauth_token *token, const char *name, kb_cred **ret_cred)
{
    if (code == KB_OK)
        *ret_cred = kb_cred_new(
            &(kb_cred_fields){.token = token->token, .expires_ms = token->expires_ms, .source = name});
    kb_secret_free(token->token);
    return code;
}

/* ---- service accounts ---- */

static void append_base64url(kb_strbuf *to, const void *data, size_t len)
{
    KB_AUTOFREE char *text = kb_malloc(KB_BASE64_TEXT_SIZE(len));
    (void)kb_base64url_encode(data, len, text);
    kb_strbuf_appends(to, text);
}

static kb_code append_json(kb_strbuf *to, const kb_gcp_account *account, int64_t now_s, kb_error *err)
{
    KB_AUTO_STRBUF(json, KB_ASSERTION_MAX);
    KB_CLEANUP(kb_json_writer_free_at) kb_json_writer *w = kb_json_writer_new(KB_JSON_COMPACT, &json);
    kb_json_put_begin_object(w);
    if (now_s < 0) {
        kb_json_field_text(w, "alg", "RS256");
        kb_json_field_text(w, "typ", "JWT");
        if (account->private_key_id != NULL)
            kb_json_field_text(w, "kid", account->private_key_id);
    } else {
        kb_json_field_text(w, "iss", account->client_email);
        kb_json_field_text(w, "scope", storage_scope);
        kb_json_field_text(w, "aud", account->token_uri);
        kb_json_field_i64(w, "iat", now_s);
        kb_json_field_i64(w, "exp", now_s + KB_ASSERTION_SECS);
    }
    kb_json_put_end_object(w);
    kb_code code = kb_json_writer_finish(w, err);
    if (code == KB_OK)
        append_base64url(to, json.data, json.len);
    return code;
}

/* header.claims.signature */
static kb_code make_assertion(const source *self, const kb_gcp_account *account, kb_strbuf *to, kb_error *err)
{
    KB_AUTOFREE uint8_t *signature = NULL;
    size_t len = 0;
    kb_code code = append_json(to, account, -1, err);
    kb_strbuf_appendc(to, '.');
    if (code == KB_OK)
        code = append_json(to, account, kb_clock_now_wall_ms(self->clock) / 1000, err);
    if (code == KB_OK)
        code = kb_strbuf_check(to, "a signed assertion", err);
    if (code == KB_OK)
        code = kb_rsa_sha256_sign(account->private_key, to->data, to->len, &signature, &len, err);
    if (code != KB_OK)
        return code;
    kb_strbuf_appendc(to, '.');
    append_base64url(to, signature, len);
    return kb_strbuf_check(to, "a signed assertion", err);
}

/* The part of a URL that is fit for messages: scheme, host and path. */
static char *bare_url(const char *url)
{
    return kb_strndup(url, strcspn(url, "?#"));
}

static kb_code post_form(const source *self, const char *url, const kb_strbuf *form, const char *hint,
                         kb_oauth_token *ret_token, kb_error *err)
{
    KB_AUTOFREE char *bare = bare_url(url);
    KB_AUTOFREE char *what = kb_asprintf("token endpoint %s", bare);
    KB_AUTO_HEADERS(headers);
    kb_http_headers_set(&headers, "Content-Type", "application/x-www-form-urlencoded");
    const kb_oauth_request request = {
        .what = what,
        .method = "POST",
        .url = url,
        .headers = &headers,
        .body = kb_view_of(form->data, form->len),
        .hint = hint,
    };
    return kb_oauth_fetch(self->options.tokens, self->clock, &request, ret_token, err);
}

static kb_code fetch_service(const source *self, const kb_gcp_account *account, kb_cred **ret_cred,
                             kb_error *err)
{
    KB_CLEANUP(kb_oauth_form_done) kb_strbuf assertion = KB_STRBUF_INIT(KB_ASSERTION_MAX);
    KB_CLEANUP(kb_oauth_form_done) kb_strbuf form = KB_STRBUF_INIT(2 * KB_ASSERTION_MAX);
    kb_oauth_token token = {NULL, 0};
    kb_code code = make_assertion(self, account, &assertion, err);
    if (code == KB_ERR_FORMAT || code == KB_ERR_TOO_LARGE)
        return kb_wrap_as(err, KB_STORAGE_CREDENTIALS_MISSING, "cannot sign with '%s'", self->file);
    if (code != KB_OK)
        return code;
    kb_oauth_form_add(&form, "grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
    kb_oauth_form_add(&form, "assertion", assertion.data);
    code = kb_strbuf_check(&form, "the request for a token", err);
    if (code == KB_OK)
        code = post_form(self, account->token_uri, &form,
                         "check that the service account's key still exists, and the clock", &token, err);
    return as_cred(code, &token, "service account", ret_cred);
}

/* ---- external accounts ---- */

static kb_code read_subject_file(const kb_gcp_account *account, kb_secret **ret_token, kb_error *err)
{
    uint8_t *data = NULL;
    size_t len = 0;
    kb_code code = kb_file_read(account->source_file, KB_GCP_ACCOUNT_MAX, &data, &len, err);
    if (code != KB_OK)
        return kb_wrap_as(err, KB_STORAGE_CREDENTIALS_MISSING, "the token of the external account");
    code = kb_gcp_subject_token(kb_view_of(data, len), account->source_field, ret_token, err);
    kb_wipe(data, len);
    free(data);
    if (code == KB_OK)
        return KB_OK;
    /* A projected token is swapped by renaming; an empty file is a moment of somebody's own copying. */
    (void)kb_wrap_as(err, KB_STORAGE_CREDENTIALS_MISSING, "the token file '%s' of the external account",
                     account->source_file);
    err->retryable = true;
    return err->code;
}

static kb_code read_subject_url(const source *self, const kb_gcp_account *account, kb_secret **ret_token,
                                kb_error *err)
{
    KB_CLEANUP(kb_secret_free_at) kb_secret *body = NULL;
    KB_AUTOFREE char *bare = bare_url(account->source_url);
    KB_AUTOFREE char *what = kb_asprintf("credential source %s", bare);
    const kb_oauth_request request = {
        .what = what,
        .method = "GET",
        .url = account->source_url,
        .headers = &account->source_headers,
        .hint = "check credential_source in the external account's file",
    };
    bool is_https = strncmp(account->source_url, "https://", 8) == 0;
    kb_code code =
        kb_oauth_fetch_text(is_https ? self->options.tokens : self->options.metadata, &request, &body, err);
    if (code != KB_OK)
        return code;
    code = kb_gcp_subject_token(kb_view_of(kb_secret_view(body), kb_secret_len(body)), account->source_field,
                                ret_token, err);
    return code != KB_OK ? kb_wrap_as(err, KB_STORAGE_ACCESS_DENIED, "the answer of the %s", what) : code;
}

static kb_code exchange(const source *self, const kb_gcp_account *account, const kb_secret *subject,
                        kb_oauth_token *ret_token, kb_error *err)
{
    KB_CLEANUP(kb_oauth_form_done) kb_strbuf form = KB_STRBUF_INIT(4 * KB_GCP_ACCOUNT_MAX);
    bool is_step = account->impersonation_url != NULL;
    kb_oauth_form_add(&form, "grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
    kb_oauth_form_add(&form, "audience", account->audience);
    kb_oauth_form_add(&form, "scope", is_step ? cloud_scope : storage_scope);
    kb_oauth_form_add(&form, "requested_token_type", "urn:ietf:params:oauth:token-type:access_token");
    kb_oauth_form_add(&form, "subject_token_type", account->subject_token_type);
    kb_oauth_form_add(&form, "subject_token", kb_secret_view(subject));
    if (account->workforce_project != NULL) {
        KB_AUTO_STRBUF(project, KB_GCP_ACCOUNT_MAX);
        kb_strbuf_appendf(&project, "{\"userProject\":\"%s\"}", account->workforce_project);
        kb_oauth_form_add(&form, "options", kb_strbuf_view(&project));
    }
    kb_code code = kb_strbuf_check(&form, "the request for a token", err);
    return code != KB_OK ? code
                         : post_form(self, account->token_url, &form,
                                     "check the workload identity pool, its provider and the audience of "
                                     "the token",
                                     ret_token, err);
}

/* The federated token, given in for one of a service account. */
static kb_code impersonate(const source *self, const kb_gcp_account *account, kb_oauth_token *token,
                           kb_error *err)
{
    static const char body[] =
        "{\"scope\":[\"https://www.googleapis.com/auth/devstorage.read_write\"],\"lifetime\":\"3600s\"}";
    KB_AUTOFREE char *bare = bare_url(account->impersonation_url);
    KB_AUTOFREE char *what = kb_asprintf("token endpoint %s", bare);
    KB_AUTO_HEADERS(headers);
    kb_http_headers_set(&headers, "Content-Type", "application/json");
    KB_AUTOFREE char *bearer = kb_asprintf("Bearer %s", kb_secret_view(token->token));
    kb_http_headers_set(&headers, "Authorization", bearer);
    kb_wipe(bearer, strlen(bearer));
    const kb_oauth_request request = {
        .what = what,
        .method = "POST",
        .url = account->impersonation_url,
        .headers = &headers,
        .body = kb_view_of(body, sizeof body - 1),
        .hint = "give the external identity the role Workload Identity User on the service account",
    };
    kb_oauth_token own = {NULL, 0};
    kb_code code = kb_oauth_fetch(self->options.tokens, self->clock, &request, &own, err);
    if (code == KB_OK) {
        kb_secret_free(token->token);
        *token = own;
    }
    return code;
}

static kb_code fetch_external(const source *self, const kb_gcp_account *account, kb_cred **ret_cred,
                              kb_error *err)
{
    KB_CLEANUP(kb_secret_free_at) kb_secret *subject = NULL;
    kb_oauth_token token = {NULL, 0};
    kb_code code = account->source_file != NULL ? read_subject_file(account, &subject, err)
                                                : read_subject_url(self, account, &subject, err);
    if (code == KB_OK)
        code = exchange(self, account, subject, &token, err);
    if (code == KB_OK && account->impersonation_url != NULL)
        code = impersonate(self, account, &token, err);
    return as_cred(code, &token, "external account", ret_cred);
}

/* ---- sources ---- */

static kb_code fetch_file(void *state, kb_cred **ret_cred, kb_error *err)
{
    const source *self = state;
    uint8_t *data = NULL;
    size_t len = 0;
    KB_CLEANUP(kb_gcp_account_done) kb_gcp_account account = {.is_external = false};
    if (self->file == NULL)
        return kb_fail(err, KB_ERR_NOT_FOUND, "no file");
    kb_code code = kb_file_read(self->file, KB_GCP_ACCOUNT_MAX, &data, &len, err);
    if (code != KB_OK)
        return kb_wrap_as(err, KB_STORAGE_CREDENTIALS_MISSING, "the Google credentials file");
    code = kb_gcp_account_parse(kb_view_of(data, len), self->options.allow_local_http, &account, err);
    kb_wipe(data, len);
    free(data);
    if (code != KB_OK)
        return kb_wrap_as(err, KB_STORAGE_CREDENTIALS_MISSING, "the Google credentials file '%s'",
                          self->file);
    return account.is_external ? fetch_external(self, &account, ret_cred, err)
                               : fetch_service(self, &account, ret_cred, err);
}

static kb_code fetch_metadata(void *state, kb_cred **ret_cred, kb_error *err)
{
    source *self = state;
    const char *base = self->options.metadata_url != NULL ? self->options.metadata_url : default_metadata;
    KB_AUTOFREE char *url =
        kb_asprintf("%s/computeMetadata/v1/instance/service-accounts/default/token", base);
    KB_AUTO_HEADERS(headers);
    kb_http_headers_set(&headers, "Metadata-Flavor", "Google");
    const kb_oauth_request request = {
        .what = "metadata server of Google",
        .method = "GET",
        .url = url,
        .headers = &headers,
        .hint = "bind a service account to the machine or pod",
    };
    kb_oauth_token token = {NULL, 0};
    kb_code code = kb_oauth_fetch(self->options.metadata, self->clock, &request, &token, err);
    if (code != KB_OK && code != KB_ERR_STOPPED && !self->has_answered)
        return kb_wrap_as(err, KB_STORAGE_CREDENTIALS_MISSING,
                          "no credentials for Google Cloud: none are configured, and the metadata server "
                          "gave none; hint: %s",
                          missing_hint);
    self->has_answered = self->has_answered || code == KB_OK;
    return as_cred(code, &token, "metadata server", ret_cred);
}

static const kb_cred_driver file_driver = {.name = "google file", .fetch = fetch_file, .free_state = free};
static const kb_cred_driver metadata_driver = {
    .name = "google metadata", .fetch = fetch_metadata, .free_state = free};

kb_cred_provider *kb_gcp_auth_new(const kb_gcp_auth_options *options)
{
    kb_cred_provider *const providers[] = {
        kb_cred_provider_new(&file_driver, new_source(options, options->service_account_path)),
        kb_cred_provider_new(&file_driver, new_source(options, options->application_file)),
        kb_cred_provider_new(&metadata_driver, new_source(options, NULL)),
    };
    kb_cred_provider *chain = kb_cred_chain_new(providers, KB_ARRAY_LEN(providers), missing_hint);
    return kb_cred_cache_new(chain, options->clock);
}
