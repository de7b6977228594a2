#include "worker/auth/azure_identity.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "worker/auth/oauth.h"

#define KB_TOKEN_FILE_MAX ((size_t)64 * 1024)
#define KB_ID_MAX_BYTES 256

static const char default_authority[] = "https://login.microsoftonline.com";
static const char default_metadata[] = "http://169.254.169.254";
static const char scope[] = "https://storage.azure.com/.default";
static const char resource[] = "https%3A%2F%2Fstorage.azure.com%2F";
static const char assertion_type[] = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

typedef struct identity {
    kb_azure_identity_options options;
    kb_azure_env env;
    const kb_clock *clock;
    bool is_federated;
    bool has_answered; /* the metadata service is there: its silence is a fault, not an absence */
} identity;

static identity *new_identity(const kb_azure_identity_options *options)
{
    identity *self = kb_calloc(1, sizeof *self);
    self->options = *options;
    self->env = *options->env;
    self->clock = options->clock != NULL ? options->clock : kb_clock_system();
    return self;
}

/* ---- applications ---- */

static bool is_id(const char *text)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    size_t len = strlen(text);
    return len > 0 && len <= KB_ID_MAX_BYTES && strspn(text, allowed) == len && text[0] != '.';
}

static kb_code read_id(const kb_secret_source *source, const char *from_env, const char *name,
                       const char *variable, kb_secret **ret_id, kb_error *err)
{
    KB_CLEANUP(kb_secret_free_at) kb_secret *id = NULL;
    kb_code code = kb_secret_source_read(source, &id, err);
    if (code != KB_OK)
        return code;
    if (id == NULL && from_env != NULL)
        id = kb_secret_new(from_env, strlen(from_env));
    if (id == NULL)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "storage.%s: is required for this login; hint: give it in the "
                       "file, or in %s",
                       name, variable);
    if (!is_id(kb_secret_view(id)))
        return kb_fail(err, KB_CONFIG_INVALID, "storage.%s: is no id: expected letters, digits and '-'",
                       name);
    *ret_id = KB_TAKE(id);
    return KB_OK;
}

static const char *token_file(const identity *self)
{
    const char *file = self->options.config->federated_token_file;
    return file != NULL ? file : self->env.federated_token_file;
}

static kb_code read_assertion(const identity *self, kb_secret **ret_token, kb_error *err)
{
    uint8_t *data = NULL;
    size_t len = 0;
    kb_code code = kb_file_read(token_file(self), KB_TOKEN_FILE_MAX, &data, &len, err);
    if (code != KB_OK)
        return kb_wrap_as(err, KB_STORAGE_CREDENTIALS_MISSING, "the federated token of workload identity");
    size_t raw_len = len;
    while (len > 0 && (data[len - 1] == '\n' || data[len - 1] == '\r' || data[len - 1] == ' '))
        len--;
    if (kb_oauth_is_token((const char *)data, len))
        *ret_token = kb_secret_new(data, len);
    else
        /* A projected token is swapped by renaming; an empty file is a moment of somebody's own copying. */
        code = kb_fail_retryable(err, KB_STORAGE_CREDENTIALS_MISSING,
                                 "the federated token file '%s' holds no token", token_file(self));
    kb_wipe(data, raw_len);
    free(data);
    return code;
}

static kb_code build_form(const identity *self, const kb_secret *client_id, kb_strbuf *form, kb_error *err)
{
    KB_CLEANUP(kb_secret_free_at) kb_secret *proof = NULL;
    kb_code code = self->is_federated
                       ? read_assertion(self, &proof, err)
                       : kb_secret_source_read(&self->options.config->client_secret, &proof, err);
    if (code != KB_OK)
        return code;
    kb_oauth_form_add(form, "grant_type", "client_credentials");
    kb_oauth_form_add(form, "client_id", kb_secret_view(client_id));
    kb_oauth_form_add(form, "scope", scope);
    if (self->is_federated)
        kb_oauth_form_add(form, "client_assertion_type", assertion_type);
    kb_oauth_form_add(form, self->is_federated ? "client_assertion" : "client_secret", kb_secret_view(proof));
    return kb_strbuf_check(form, "the request for a token", err);
}

static kb_code as_cred(kb_code code, kb_oauth_token *token, const char *source, kb_cred **ret_cred)
{
    if (code == KB_OK)
        *ret_cred = kb_cred_new(
            &(kb_cred_fields){.token = token->token, .expires_ms = token->expires_ms, .source = source});
    kb_secret_free(token->token);
    return code;
}

static kb_code post_form(const identity *self, const char *tenant, kb_view form, kb_cred **ret_cred,
                         kb_error *err)
{
    const char *authority = self->env.authority_host != NULL ? self->env.authority_host : default_authority;
    size_t len = strlen(authority);
    while (len > 0 && authority[len - 1] == '/')
        len--;
    KB_AUTOFREE char *url = kb_asprintf("%.*s/%s/oauth2/v2.0/token", (int)len, authority, tenant);
    KB_AUTOFREE char *what = kb_asprintf("token endpoint %.*s of Entra ID", (int)len, authority);
    KB_AUTO_HEADERS(headers);
    kb_http_headers_set(&headers, "Content-Type", "application/x-www-form-urlencoded");
    const kb_oauth_request request = {
        .what = what,
        .method = "POST",
        .url = url,
        .headers = &headers,
        .body = form,
        .hint =
            self->is_federated
                ? "check client id, tenant id, and the federated credential's issuer, subject and audience"
                : "check client id, tenant id and that the client secret has not expired",
    };
    kb_oauth_token token = {NULL, 0};
    kb_code code = kb_oauth_fetch(self->options.tokens, self->clock, &request, &token, err);
    return as_cred(code, &token, self->is_federated ? "workload identity" : "client secret", ret_cred);
}

static kb_code fetch_application(void *state, kb_cred **ret_cred, kb_error *err)
{
    const identity *self = state;
    const kb_config_azure *config = self->options.config;
    KB_CLEANUP(kb_secret_free_at) kb_secret *client_id = NULL;
    KB_CLEANUP(kb_secret_free_at) kb_secret *tenant_id = NULL;
    KB_CLEANUP(kb_oauth_form_done) kb_strbuf form = KB_STRBUF_INIT(2 * KB_OAUTH_BODY_MAX);
    kb_code code =
        read_id(&config->client_id, self->env.client_id, "client_id", "AZURE_CLIENT_ID", &client_id, err);
    if (code == KB_OK)
        code =
            read_id(&config->tenant_id, self->env.tenant_id, "tenant_id", "AZURE_TENANT_ID", &tenant_id, err);
    if (code == KB_OK)
        code = build_form(self, client_id, &form, err);
    return code != KB_OK
               ? code
               : post_form(self, kb_secret_view(tenant_id), kb_view_of(form.data, form.len), ret_cred, err);
}

static const kb_cred_driver application_driver = {
    .name = "entra", .fetch = fetch_application, .free_state = free};

static kb_code check_application(const identity *self, kb_error *err)
{
    KB_CLEANUP(kb_secret_free_at) kb_secret *client_id = NULL;
    KB_CLEANUP(kb_secret_free_at) kb_secret *tenant_id = NULL;
    const kb_config_azure *config = self->options.config;
    if (self->env.authority_host != NULL && !kb_oauth_is_safe_url(self->env.authority_host, false))
        return kb_fail(err, KB_CONFIG_INVALID,
                       "AZURE_AUTHORITY_HOST: expected a URL that begins with https://");
    if (self->is_federated && token_file(self) == NULL)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "storage.use_workload_identity: there is no token file; hint: label the pod "
                       "azure.workload.identity/use: \"true\", or give federated_token_file");
    kb_code code =
        read_id(&config->client_id, self->env.client_id, "client_id", "AZURE_CLIENT_ID", &client_id, err);
    return code != KB_OK ? code
                         : read_id(&config->tenant_id, self->env.tenant_id, "tenant_id", "AZURE_TENANT_ID",
                                   &tenant_id, err);
}

kb_code kb_azure_application_new(const kb_azure_identity_options *options, bool is_federated,
                                 kb_cred_provider **ret_provider, kb_error *err)
{
    KB_AUTOFREE identity *self = new_identity(options);
    self->is_federated = is_federated;
    kb_code code = check_application(self, err);
    if (code == KB_OK)
        *ret_provider = kb_cred_provider_new(&application_driver, KB_TAKE(self));
    return code;
}

/* ---- managed identity ---- */

static char *managed_url(const identity *self, const char *client_id)
{
    const char *join = client_id != NULL ? "&client_id=" : "";
    const char *id = client_id != NULL ? client_id : "";
    if (self->env.identity_endpoint != NULL)
        return kb_asprintf("%s?api-version=2019-08-01&resource=%s%s%s", self->env.identity_endpoint, resource,
                           join, id);
    const char *base = self->options.metadata_url != NULL ? self->options.metadata_url : default_metadata;
    return kb_asprintf("%s/metadata/identity/oauth2/token?api-version=2018-02-01&resource=%s%s%s", base,
                       resource, join, id);
}

static kb_code read_managed_id(const identity *self, kb_secret **ret_id, kb_error *err)
{
    if (!kb_secret_source_is_given(&self->options.config->client_id) && self->env.client_id == NULL)
        return KB_OK; /* the machine's own identity */
    return read_id(&self->options.config->client_id, self->env.client_id, "client_id", "AZURE_CLIENT_ID",
                   ret_id, err);
}

static kb_code fetch_managed(void *state, kb_cred **ret_cred, kb_error *err)
{
    static const char missing[] =
        "no credentials for Azure: none are configured, and the metadata service gave none; hint: give one "
        "of account_key, sas_token, connection_string, client_secret, use_workload_identity";
    identity *self = state;
    KB_CLEANUP(kb_secret_free_at) kb_secret *client_id = NULL;
    kb_code code = read_managed_id(self, &client_id, err);
    if (code != KB_OK)
        return code;
    KB_AUTOFREE char *url = managed_url(self, client_id != NULL ? kb_secret_view(client_id) : NULL);
    KB_AUTO_HEADERS(headers);
    if (self->env.identity_endpoint != NULL)
        kb_http_headers_set(&headers, "X-IDENTITY-HEADER", self->env.identity_header);
    else
        kb_http_headers_set(&headers, "Metadata", "true");
    const kb_oauth_request request = {
        .what = "metadata service of Azure (managed identity)",
        .method = "GET",
        .url = url,
        .headers = &headers,
        .hint = "assign an identity to the machine or pod, or name one by client_id",
    };
    kb_oauth_token token = {NULL, 0};
    code = kb_oauth_fetch(self->options.metadata, self->clock, &request, &token, err);
    if (code != KB_OK && code != KB_ERR_STOPPED && !self->has_answered)
        return kb_wrap_as(err, KB_STORAGE_CREDENTIALS_MISSING, "%s", missing);
    self->has_answered = self->has_answered || code == KB_OK;
    return as_cred(code, &token, "managed identity", ret_cred);
}

static const kb_cred_driver managed_driver = {
    .name = "azure managed identity", .fetch = fetch_managed, .free_state = free};

kb_code kb_azure_managed_identity_new(const kb_azure_identity_options *options,
                                      kb_cred_provider **ret_provider, kb_error *err)
{
    KB_AUTOFREE identity *self = new_identity(options);
    if (self->env.identity_endpoint == NULL || self->env.identity_header == NULL)
        self->env.identity_endpoint = NULL;
    else if (!kb_oauth_is_safe_url(self->env.identity_endpoint, true) ||
             strpbrk(self->env.identity_endpoint, "?#") != NULL)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "IDENTITY_ENDPOINT: expected https://, or http:// to this machine");
    *ret_provider = kb_cred_provider_new(&managed_driver, KB_TAKE(self));
    return KB_OK;
}
