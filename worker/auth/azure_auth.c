#include "worker/auth/azure_auth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "worker/auth/azure_connection.h"
#include "worker/auth/azure_identity.h"
#include "worker/auth/azure_sharedkey.h"
#include "worker/auth/oauth.h"

#define KB_HTTP_DATE_SIZE 30

typedef enum azure_kind { SHARED_KEY, SAS, CONNECTION_STRING, CLIENT_SECRET, WORKLOAD, MANAGED } azure_kind;

struct kb_azure_auth {
    azure_kind kind;
    bool is_signed_by_key; /* SharedKey; else a SAS or, beyond CONNECTION_STRING, a bearer token */
    const kb_config_azure *config;
    char *account;
    char *endpoint;
    kb_cred_provider *provider;
};

static const char *env_value(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

kb_azure_env kb_azure_env_read(void)
{
    return (kb_azure_env){
        .client_id = env_value("AZURE_CLIENT_ID"),
        .tenant_id = env_value("AZURE_TENANT_ID"),
        .federated_token_file = env_value("AZURE_FEDERATED_TOKEN_FILE"),
        .authority_host = env_value("AZURE_AUTHORITY_HOST"),
        .identity_endpoint = env_value("IDENTITY_ENDPOINT"),
        .identity_header = env_value("IDENTITY_HEADER"),
    };
}

/* ---- which way ---- */

static kb_code choose(const kb_config_azure *config, const kb_azure_env *env, azure_kind *ret_kind,
                      kb_error *err)
{
    const struct {
        bool is_given;
        azure_kind kind;
    } ways[] = {
        {kb_secret_source_is_given(&config->account_key), SHARED_KEY},
        {kb_secret_source_is_given(&config->sas_token), SAS},
        {kb_secret_source_is_given(&config->connection_string), CONNECTION_STRING},
        {kb_secret_source_is_given(&config->client_secret), CLIENT_SECRET},
        {config->use_workload_identity || config->federated_token_file != NULL, WORKLOAD},
        {config->use_managed_identity, MANAGED},
    };
    unsigned count = 0;
    /* What a cluster puts into every pod's environment must not get in the way of the file. */
    *ret_kind = env->federated_token_file != NULL ? WORKLOAD : MANAGED;
    for (size_t i = 0; i < KB_ARRAY_LEN(ways); i++) {
        if (ways[i].is_given) {
            *ret_kind = ways[i].kind;
            count++;
        }
    }
    if (count > 1)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "storage: more than one way to log in to Azure is given; hint: keep one of "
                       "account_key, sas_token, connection_string, client_secret, use_workload_identity, "
                       "use_managed_identity");
    return KB_OK;
}

/* ---- keys and SAS ---- */

typedef struct static_source {
    const kb_azure_auth *auth;
} static_source;

static kb_code check_sas(const char *sas, kb_error *err)
{
    if (!kb_oauth_is_token(sas, strlen(sas)) || strstr(sas, "sig=") == NULL || strchr(sas, '#') != NULL)
        return kb_fail(err, KB_STORAGE_CREDENTIALS_MISSING,
                       "the shared access signature is none: it holds no sig=, or white space; hint: take "
                       "the query string as a whole, percent-encoded");
    return KB_OK;
}

static kb_code read_connection(const kb_config_azure *config, kb_azure_connection *ret_connection,
                               kb_error *err)
{
    KB_CLEANUP(kb_secret_free_at) kb_secret *text = NULL;
    kb_code code = kb_secret_source_read(&config->connection_string, &text, err);
    return code != KB_OK ? code : kb_azure_connection_parse(text, ret_connection, err);
}

/* The end that a SAS names (se=), in milliseconds; 0 when it names none, or in another form. */
static int64_t sas_end(const char *sas)
{
    KB_AUTO_ERROR(ignored);
    const char *at = strncmp(sas, "se=", 3) == 0 ? sas : strstr(sas, "&se=");
    int64_t end_ms = 0;
    if (at == NULL)
        return 0;
    at = strchr(at, '=') + 1;
    KB_AUTO_STRBUF(text, 64);
    for (size_t i = 0, len = strcspn(at, "&"); i < len && i < 40; i++) {
        bool is_colon = len - i >= 3 && strncasecmp(at + i, "%3a", 3) == 0;
        kb_strbuf_appendc(&text, is_colon ? ':' : at[i]);
        i += is_colon ? 2 : 0;
    }
    return kb_rfc3339_parse(kb_strbuf_view(&text), text.len, &end_ms, &ignored) == KB_OK ? end_ms : 0;
}

static kb_code new_sas(const kb_secret *sas, const char *source, kb_cred **ret_cred, kb_error *err)
{
    const char *text = kb_secret_view(sas);
    text += text[0] == '?';
    kb_code code = check_sas(text, err);
    if (code != KB_OK)
        return code;
    KB_CLEANUP(kb_secret_free_at) kb_secret *bare = kb_secret_new(text, strlen(text));
    *ret_cred = kb_cred_new(&(kb_cred_fields){.token = bare, .expires_ms = sas_end(text), .source = source});
    return KB_OK;
}

static kb_code fetch_static(void *state, kb_cred **ret_cred, kb_error *err)
{
    const kb_azure_auth *auth = ((static_source *)state)->auth;
    KB_CLEANUP(kb_azure_connection_done) kb_azure_connection connection = KB_AZURE_CONNECTION_INIT;
    KB_CLEANUP(kb_secret_free_at) kb_secret *secret = NULL;
    const char *source = auth->kind == SAS ? "sas_token" : "account_key";
    kb_code code;
    if (auth->kind == CONNECTION_STRING) {
        code = read_connection(auth->config, &connection, err);
        if (code != KB_OK)
            return code;
        source = "connection_string";
        secret = kb_secret_copy(connection.account_key != NULL ? connection.account_key : connection.sas);
    } else {
        code = kb_secret_source_read(
            auth->kind == SAS ? &auth->config->sas_token : &auth->config->account_key, &secret, err);
        if (code != KB_OK)
            return code;
    }
    if (!auth->is_signed_by_key)
        return new_sas(secret, source, ret_cred, err);
    *ret_cred = kb_cred_new(&(kb_cred_fields){.id = auth->account, .secret = secret, .source = source});
    return KB_OK;
}

static const kb_cred_driver static_driver = {.name = "azure key", .fetch = fetch_static, .free_state = free};

static void use_static(kb_azure_auth *auth, bool is_signed_by_key, const kb_clock *clock)
{
    static_source *source = kb_malloc(sizeof *source);
    *source = (static_source){auth};
    auth->is_signed_by_key = is_signed_by_key;
    auth->provider = kb_cred_cache_new(kb_cred_provider_new(&static_driver, source), clock);
}

/* ---- opening ---- */

/* Account and endpoint out of what the file says; the file's own keys win over a connection string. */
static kb_code settle_place(kb_azure_auth *auth, const kb_azure_connection *connection, kb_error *err)
{
    const kb_config_azure *config = auth->config;
    const char *account = config->account_name != NULL ? config->account_name : connection->account;
    if (account == NULL)
        return kb_fail(err, KB_CONFIG_INVALID, "storage.account_name: is required");
    if (connection->account != NULL && strcmp(account, connection->account) != 0)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "storage.account_name: is '%s', the connection string is of '%s'; hint: remove one",
                       account, connection->account);
    const char *endpoint = config->endpoint != NULL ? config->endpoint : connection->endpoint;
    auth->account = kb_strdup(account);
    if (endpoint == NULL) {
        auth->endpoint = kb_asprintf("https://%s.blob.core.windows.net", account);
    } else {
        size_t len = strlen(endpoint);
        while (len > 0 && endpoint[len - 1] == '/')
            len--;
        auth->endpoint = kb_strndup(endpoint, len);
    }
    if (strncmp(auth->endpoint, "http://", 7) == 0 && !config->allow_http)
        return kb_fail(err, KB_CONFIG_INVALID, "storage.endpoint: '%s' is http:// without allow_http: true",
                       auth->endpoint);
    return KB_OK;
}

static kb_code use_identity(kb_azure_auth *auth, const kb_azure_auth_options *options, kb_error *err)
{
    const kb_azure_identity_options identity = {
        .config = options->config,
        .env = &options->env,
        .tokens = options->tokens,
        .metadata = options->metadata,
        .clock = options->clock,
        .metadata_url = options->metadata_url,
    };
    kb_cred_provider *provider = NULL;
    kb_code code = auth->kind == MANAGED
                       ? kb_azure_managed_identity_new(&identity, &provider, err)
                       : kb_azure_application_new(&identity, auth->kind == WORKLOAD, &provider, err);
    if (code == KB_OK)
        auth->provider = kb_cred_cache_new(provider, options->clock);
    return code;
}

kb_code kb_azure_auth_new(const kb_azure_auth_options *options, kb_azure_auth **ret_auth, kb_error *err)
{
    KB_CLEANUP(kb_azure_auth_free_at) kb_azure_auth *auth = kb_calloc(1, sizeof *auth);
    KB_CLEANUP(kb_azure_connection_done) kb_azure_connection connection = KB_AZURE_CONNECTION_INIT;
    auth->config = options->config;
    kb_code code = choose(options->config, &options->env, &auth->kind, err);
    if (code == KB_OK && auth->kind == CONNECTION_STRING)
        code = read_connection(options->config, &connection, err);
    if (code == KB_OK)
        code = settle_place(auth, &connection, err);
    if (code != KB_OK)
        return code;
    if (auth->kind <= CONNECTION_STRING)
        use_static(auth, auth->kind == SHARED_KEY || connection.account_key != NULL, options->clock);
    else
        code = use_identity(auth, options, err);
    if (code == KB_OK)
        *ret_auth = KB_TAKE(auth);
    return code;
}

void kb_azure_auth_free(kb_azure_auth *owned_auth)
{
    if (owned_auth == NULL)
        return;
    kb_cred_provider_free(owned_auth->provider);
    free(owned_auth->account);
    free(owned_auth->endpoint);
    free(owned_auth);
}

void kb_azure_auth_free_at(kb_azure_auth **at)
{
    kb_azure_auth_free(*at);
    *at = NULL;
}

const char *kb_azure_auth_account(const kb_azure_auth *auth)
{
    return auth->account;
}

const char *kb_azure_auth_endpoint(const kb_azure_auth *auth)
{
    return auth->endpoint;
}

kb_cred_provider *kb_azure_auth_provider(const kb_azure_auth *auth)
{
    return auth->provider;
}

/* ---- requests ---- */

static void format_http_date(int64_t ms, char to[KB_HTTP_DATE_SIZE])
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    struct tm tm;
    time_t seconds = (time_t)(ms / 1000);
    (void)gmtime_r(&seconds, &tm);
    (void)snprintf(to, KB_HTTP_DATE_SIZE, "%s, %02u %s %04u %02u:%02u:%02u GMT", days[tm.tm_wday % 7],
                   (unsigned)tm.tm_mday % 100U, months[tm.tm_mon % 12],
                   (unsigned)(tm.tm_year + 1900) % 10000U, (unsigned)tm.tm_hour % 100U,
                   (unsigned)tm.tm_min % 100U, (unsigned)tm.tm_sec % 100U);
}

static void set_bearer(const kb_cred *cred, kb_http_headers *headers)
{
    KB_AUTOFREE char *value = kb_asprintf("Bearer %s", kb_secret_view(kb_cred_view(cred)->token));
    kb_http_headers_set(headers, "Authorization", value);
    kb_wipe(value, strlen(value));
}

static void append_sas(const kb_cred *cred, kb_http_request *request, char **ret_url)
{
    const char *join = strchr(request->url, '?') != NULL ? "&" : "?";
    *ret_url = kb_asprintf("%s%s%s", request->url, join, kb_secret_view(kb_cred_view(cred)->token));
    request->url = *ret_url;
}

static kb_code sign_by_key(const kb_azure_auth *auth, const kb_cred *cred, const kb_http_request *request,
                           kb_http_headers *headers, kb_error *err)
{
    const char *path = strstr(request->url, "://");
    path = path != NULL ? strchr(path + 3, '/') : NULL;
    if (path == NULL)
        return kb_fail(err, KB_ERR_INTERNAL, "a URL without a path");
    size_t path_len = strcspn(path, "?"), body_len = 0;
    KB_AUTOFREE char *path_text = kb_strndup(path, path_len);
    for (size_t i = 0; i < request->body_count; i++)
        body_len += request->body[i].len;
    KB_AUTOFREE char *length = kb_asprintf("%zu", body_len);
    KB_AUTOFREE kb_azure_header *list = kb_calloc(headers->count + 1, sizeof *list);
    for (size_t i = 0; i < headers->count; i++)
        list[i] = (kb_azure_header){headers->items[i].name, headers->items[i].value};
    list[headers->count] = (kb_azure_header){"Content-Length", length};
    const kb_azure_request to_sign = {
        .method = request->method,
        .path = path_text,
        .query = path[path_len] == '?' ? path + path_len + 1 : NULL,
        .headers = list,
        .header_count = headers->count + 1,
    };
    KB_CLEANUP(kb_secret_free_at) kb_secret *authorization = NULL;
    kb_code code =
        kb_azure_sharedkey(&to_sign, auth->account, kb_cred_view(cred)->secret, &authorization, err);
    if (code == KB_ERR_FORMAT)
        return kb_wrap_as(err, KB_STORAGE_CREDENTIALS_MISSING, "cannot sign for Azure account '%s'",
                          auth->account);
    if (code == KB_OK)
        kb_http_headers_set(headers, "Authorization", kb_secret_view(authorization));
    return code;
}

kb_code kb_azure_authorize(const kb_azure_auth *auth, const kb_cred *cred, int64_t now_ms,
                           kb_http_request *request, kb_http_headers *headers, char **ret_url, kb_error *err)
{
    char date[KB_HTTP_DATE_SIZE];
    format_http_date(now_ms, date);
    kb_http_headers_set(headers, "x-ms-date", date);
    kb_http_headers_set(headers, "x-ms-version", KB_AZURE_API_VERSION);
    if (auth->is_signed_by_key)
        return sign_by_key(auth, cred, request, headers, err);
    if (auth->kind <= CONNECTION_STRING)
        append_sas(cred, request, ret_url);
    else
        set_bearer(cred, headers);
    return KB_OK;
}
