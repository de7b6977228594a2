#include "worker/auth/aws_cred.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "worker/auth/aws_cred_parse.h"
#include "worker/auth/oauth.h"

#define KB_AWS_FILE_BYTES (1024UL * 1024)
#define KB_AWS_TOKEN_BYTES 65536UL
#define KB_AWS_FORM_BYTES (256UL * 1024)
#define KB_AWS_CONTAINER_HOST "http://169.254.170.2"
#define KB_AWS_INSTANCE_HOST "http://169.254.169.254"
#define KB_AWS_SESSION_NAME "kafka-backup-worker"

/* What a source works with; each has its own copy. */
typedef struct kb_aws_source {
    kb_aws_cred_options o; /* members borrowed but for region */
    char *region;
    bool is_present; /* instance metadata: it has answered */
} kb_aws_source;

static void source_free(void *owned_state)
{
    kb_aws_source *source = owned_state;
    free(source->region);
    free(source);
}

/* A variable that is set and not empty. */
static const char *env(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

static kb_code not_present(kb_error *err)
{
    return kb_fail(err, KB_ERR_NOT_FOUND, "not configured");
}

/* ---- 1: keys of the configuration ---- */

static kb_code config_fetch(void *state, kb_cred **ret_cred, kb_error *err)
{
    const kb_aws_cred_options *o = &((kb_aws_source *)state)->o;
    if (!kb_secret_source_is_given(o->access_key) && !kb_secret_source_is_given(o->secret_key))
        return not_present(err);
    if (!kb_secret_source_is_given(o->access_key) || !kb_secret_source_is_given(o->secret_key))
        return kb_fail(err, KB_CONFIG_INVALID, "storage: access_key and secret_key belong together");
    KB_CLEANUP(kb_secret_free_at) kb_secret *id = NULL;
    KB_CLEANUP(kb_secret_free_at) kb_secret *secret = NULL;
    KB_CLEANUP(kb_secret_free_at) kb_secret *token = NULL;
    if (kb_secret_source_read(o->access_key, &id, err) != KB_OK ||
        kb_secret_source_read(o->secret_key, &secret, err) != KB_OK ||
        kb_secret_source_read(o->session_token, &token, err) != KB_OK)
        return err->code;
    const kb_cred_fields fields = {
        .id = kb_secret_view(id), .secret = secret, .token = token, .source = "the configuration"};
    *ret_cred = kb_cred_new(&fields);
    return KB_OK;
}

/* ---- 2: environment ---- */

static kb_code environment_fetch(void *state, kb_cred **ret_cred, kb_error *err)
{
    (void)state;
    const char *id = env("AWS_ACCESS_KEY_ID"), *secret = env("AWS_SECRET_ACCESS_KEY");
    const char *token = env("AWS_SESSION_TOKEN");
    if (id == NULL && secret == NULL)
        return not_present(err);
    if (id == NULL || secret == NULL)
        return kb_fail(err, KB_STORAGE_CREDENTIALS_MISSING, "%s is set, but %s is not",
                       id != NULL ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY",
                       id != NULL ? "AWS_SECRET_ACCESS_KEY" : "AWS_ACCESS_KEY_ID");
    KB_CLEANUP(kb_secret_free_at) kb_secret *secret_key = kb_secret_new(secret, strlen(secret));
    KB_CLEANUP(kb_secret_free_at)
    kb_secret *session = token != NULL ? kb_secret_new(token, strlen(token)) : NULL;
    const kb_cred_fields fields = {
        .id = id, .secret = secret_key, .token = session, .source = "the environment"};
    *ret_cred = kb_cred_new(&fields);
    return KB_OK;
}

/* ---- 3: web identity ---- */

static char *sts_url(const char *region)
{
    const char *given = env("AWS_ENDPOINT_URL_STS"), *mode = env("AWS_STS_REGIONAL_ENDPOINTS");
    if (given != NULL)
        return kb_strdup(given);
    if (mode != NULL && strcmp(mode, "legacy") == 0)
        return kb_strdup("https://sts.amazonaws.com");
    return kb_asprintf("https://sts.%s.amazonaws.com%s", region, strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
}

static kb_code read_token_file(const char *path, kb_secret **ret_token, kb_error *err)
{
    const kb_secret_source source = {.file = (char *)(uintptr_t)path};
    kb_code code = kb_secret_source_read(&source, ret_token, err);
    return code == KB_OK ? KB_OK : kb_wrap_as(err, KB_STORAGE_CREDENTIALS_MISSING, "web identity token");
}

static kb_code ask_sts(const kb_aws_source *source, const char *role, const kb_secret *token,
                       kb_cred **ret_cred, kb_error *err)
{
    KB_AUTOFREE char *url = sts_url(source->region);
    if (!kb_oauth_is_safe_url(url, true))
        return kb_fail(err, KB_CONFIG_INVALID, "AWS_ENDPOINT_URL_STS has to be https");
    const char *session = env("AWS_ROLE_SESSION_NAME");
    KB_CLEANUP(kb_oauth_form_done) kb_strbuf form = KB_STRBUF_INIT(KB_AWS_FORM_BYTES);
    kb_oauth_form_add(&form, "Action", "AssumeRoleWithWebIdentity");
    kb_oauth_form_add(&form, "Version", "2011-06-15");
    kb_oauth_form_add(&form, "RoleArn", role);
    kb_oauth_form_add(&form, "RoleSessionName", session != NULL ? session : KB_AWS_SESSION_NAME);
    kb_oauth_form_add(&form, "WebIdentityToken", kb_secret_view(token));
    if (kb_strbuf_check(&form, "a web identity token", err) != KB_OK)
        return err->code;
    KB_AUTO_HEADERS(headers);
    kb_http_headers_set(&headers, "Content-Type", "application/x-www-form-urlencoded");
    KB_AUTOFREE char *what = kb_asprintf("AssumeRoleWithWebIdentity of %s at %s", role, url);
    const kb_oauth_request request = {
        .what = what,
        .method = "POST",
        .url = url,
        .headers = &headers,
        .body = kb_view_of(form.data, form.len),
        .hint = "the role's trust policy has to name the token's issuer and subject"};
    KB_CLEANUP(kb_secret_free_at) kb_secret *answer = NULL;
    kb_code code = kb_oauth_fetch_text(source->o.tokens, &request, &answer, err);
    if (code == KB_OK)
        code = kb_aws_parse_sts(kb_secret_view(answer), kb_secret_len(answer), ret_cred, err);
    return code != KB_ERR_FORMAT ? code : kb_wrap_as(err, KB_STORAGE_ACCESS_DENIED, "%s", what);
}

static kb_code web_identity_fetch(void *state, kb_cred **ret_cred, kb_error *err)
{
    const kb_aws_source *source = state;
    const char *role = source->o.role_arn, *file = source->o.web_identity_token_file;
    if (role == NULL && file == NULL) {
        role = env("AWS_ROLE_ARN");
        file = env("AWS_WEB_IDENTITY_TOKEN_FILE");
        if (role == NULL || file == NULL)
            return not_present(err);
    }
    if (role == NULL || file == NULL)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "storage: role_arn and web_identity_token_file belong together");
    KB_CLEANUP(kb_secret_free_at) kb_secret *token = NULL;
    kb_code code = read_token_file(file, &token, err);
    return code == KB_OK ? ask_sts(source, role, token, ret_cred, err) : code;
}

/* ---- 4: shared credentials file ---- */

static char *home_dir(void)
{
    const char *home = env("HOME");
    return home != NULL ? kb_strdup(home) : NULL;
}

static kb_code profile_fetch(void *state, kb_cred **ret_cred, kb_error *err)
{
    (void)state;
    const char *given = env("AWS_SHARED_CREDENTIALS_FILE"), *profile = env("AWS_PROFILE");
    KB_AUTOFREE char *home = home_dir();
    KB_AUTOFREE char *standard = home != NULL ? kb_asprintf("%s/.aws/credentials", home) : NULL;
    const char *path = given != NULL ? given : standard;
    bool is_wanted = given != NULL || profile != NULL;
    if (path == NULL || (!is_wanted && access(path, F_OK) != 0))
        return not_present(err);
    uint8_t *text = NULL;
    size_t len = 0;
    KB_AUTO_ERROR(failed);
    kb_code code = kb_file_read(path, KB_AWS_FILE_BYTES, &text, &len, &failed);
    if (code == KB_OK) {
        code = kb_aws_parse_profile((const char *)text, len, profile != NULL ? profile : "default", ret_cred,
                                    &failed);
        kb_wipe(text, len);
        free(text);
    }
    if (code == KB_OK)
        return KB_OK;
    if (code == KB_ERR_NOT_FOUND && !is_wanted)
        return not_present(err);
    kb_error_move(err, &failed);
    return kb_wrap_as(err, KB_STORAGE_CREDENTIALS_MISSING, "shared credentials file %s", path);
}

/* ---- 5: container endpoint ---- */

static bool is_host(const char *url, const char *host)
{
    size_t len = strlen(host);
    return strncasecmp(url, host, len) == 0 && (url[len] == '/' || url[len] == ':' || url[len] == '\0');
}

bool kb_aws_is_container_url(const char *url)
{
    static const char *const hosts[] = {"http://localhost", "http://[::1]", "http://169.254.170.2",
                                        "http://169.254.170.23", "http://[fd00:ec2::23]"};
    if (strncasecmp(url, "https://", 8) == 0)
        return kb_oauth_is_safe_url(url, false);
    for (size_t i = 0; i < KB_ARRAY_LEN(hosts); i++) {
        if (is_host(url, hosts[i]))
            return strchr(url, '@') == NULL;
    }
    /* 127.0.0.0/8 and nothing that only begins like it */
    size_t len = strncasecmp(url, "http://127.", 11) == 0 ? strspn(url + 7, "0123456789.") : 0;
    return len > 0 && (url[7 + len] == '/' || url[7 + len] == ':' || url[7 + len] == '\0') &&
           strchr(url, '@') == NULL;
}

static kb_code container_token(kb_secret **ret_token, kb_error *err)
{
    const char *file = env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    const char *value = env("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    if (file != NULL)
        return read_token_file(file, ret_token, err);
    if (value != NULL)
        *ret_token = kb_secret_new(value, strlen(value));
    return KB_OK;
}

static kb_code container_fetch(void *state, kb_cred **ret_cred, kb_error *err)
{
    const kb_aws_source *source = state;
    const char *relative = env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = env("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    if (relative == NULL && full == NULL)
        return not_present(err);
    KB_AUTOFREE char *url =
        relative != NULL ? kb_asprintf("%s%s", KB_AWS_CONTAINER_HOST, relative) : kb_strdup(full);
    if (!kb_aws_is_container_url(url))
        return kb_fail(
            err, KB_CONFIG_INVALID,
            "AWS_CONTAINER_CREDENTIALS_FULL_URI has to be https, or http to loopback or to the container "
            "services' addresses");
    KB_CLEANUP(kb_secret_free_at) kb_secret *token = NULL;
    if (container_token(&token, err) != KB_OK)
        return err->code;
    KB_AUTO_HEADERS(headers);
    if (token != NULL)
        kb_http_headers_set(&headers, "Authorization", kb_secret_view(token));
    const kb_oauth_request request = {
        .what = "container credentials", .method = "GET", .url = url, .headers = &headers};
    bool is_https = strncasecmp(url, "https:", 6) == 0;
    KB_CLEANUP(kb_secret_free_at) kb_secret *answer = NULL;
    kb_code code =
        kb_oauth_fetch_text(is_https ? source->o.tokens : source->o.metadata, &request, &answer, err);
    if (code == KB_OK)
        code = kb_aws_parse_json(kb_secret_view(answer), kb_secret_len(answer), "the container's endpoint",
                                 ret_cred, err);
    return code != KB_ERR_FORMAT ? code : kb_wrap_as(err, KB_STORAGE_ACCESS_DENIED, "container credentials");
}

/* ---- 6: instance metadata ---- */

static char *instance_url(const char *path)
{
    const char *host = env("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    host = host != NULL ? host : KB_AWS_INSTANCE_HOST;
    size_t len = strlen(host);
    while (len > 0 && host[len - 1] == '/')
        len--;
    return kb_asprintf("%.*s%s", (int)len, host, path);
}

static kb_code instance_get(kb_http_retry *metadata, const char *path, const kb_secret *token,
                            kb_secret **ret_answer, kb_error *err)
{
    KB_AUTOFREE char *url = instance_url(path);
    if (!kb_oauth_is_safe_url(url, true))
        return kb_fail(err, KB_CONFIG_INVALID, "AWS_EC2_METADATA_SERVICE_ENDPOINT has to be local");
    KB_AUTO_HEADERS(headers);
    bool is_token = token == NULL;
    if (is_token)
        kb_http_headers_set(&headers, "X-aws-ec2-metadata-token-ttl-seconds", "21600");
    else
        kb_http_headers_set(&headers, "X-aws-ec2-metadata-token", kb_secret_view(token));
    const kb_oauth_request request = {
        .what = "instance metadata", .method = is_token ? "PUT" : "GET", .url = url, .headers = &headers};
    return kb_oauth_fetch_text(metadata, &request, ret_answer, err);
}

static kb_code instance_cred(const kb_aws_source *source, const kb_secret *token, kb_cred **ret_cred,
                             kb_error *err)
{
    static const char base[] = "/latest/meta-data/iam/security-credentials/";
    KB_CLEANUP(kb_secret_free_at) kb_secret *role = NULL;
    KB_CLEANUP(kb_secret_free_at) kb_secret *answer = NULL;
    if (instance_get(source->o.metadata, base, token, &role, err) != KB_OK)
        return err->code;
    KB_AUTOFREE char *path =
        kb_asprintf("%s%.*s", base, (int)strcspn(kb_secret_view(role), "\r\n"), kb_secret_view(role));
    if (strspn(path, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+=,.@_-/") !=
        strlen(path))
        return kb_fail(err, KB_STORAGE_ACCESS_DENIED, "instance metadata: the name of its role is not one");
    kb_code code = instance_get(source->o.metadata, path, token, &answer, err);
    if (code == KB_OK)
        code = kb_aws_parse_json(kb_secret_view(answer), kb_secret_len(answer), "the instance's metadata",
                                 ret_cred, err);
    return code != KB_ERR_FORMAT ? code : kb_wrap_as(err, KB_STORAGE_ACCESS_DENIED, "instance metadata");
}

static kb_code instance_fetch(void *state, kb_cred **ret_cred, kb_error *err)
{
    kb_aws_source *source = state;
    const char *disabled = env("AWS_EC2_METADATA_DISABLED");
    if (disabled != NULL && strcasecmp(disabled, "true") == 0)
        return not_present(err);
    KB_CLEANUP(kb_secret_free_at) kb_secret *token = NULL;
    kb_code code = instance_get(source->o.metadata, "/latest/api/token", NULL, &token, err);
    if (code != KB_OK)
        return source->is_present || code == KB_ERR_STOPPED ? code : not_present(err);
    source->is_present = true;
    return instance_cred(source, token, ret_cred, err);
}

/* ---- all of them ---- */

kb_cred_provider *kb_aws_cred_new(const kb_aws_cred_options *options)
{
    static const kb_cred_driver drivers[] = {
        {.name = "configuration", .fetch = config_fetch, .free_state = source_free},
        {.name = "environment", .fetch = environment_fetch, .free_state = source_free},
        {.name = "web identity", .fetch = web_identity_fetch, .free_state = source_free},
        {.name = "shared credentials", .fetch = profile_fetch, .free_state = source_free},
        {.name = "container", .fetch = container_fetch, .free_state = source_free},
        {.name = "instance", .fetch = instance_fetch, .free_state = source_free},
    };
    kb_cred_provider *providers[KB_ARRAY_LEN(drivers)];
    for (size_t i = 0; i < KB_ARRAY_LEN(drivers); i++) {
        kb_aws_source *source = kb_calloc(1, sizeof *source);
        source->o = *options;
        source->region = kb_strdup(options->region != NULL ? options->region : "us-east-1");
        source->o.region = source->region;
        providers[i] = kb_cred_provider_new(&drivers[i], source);
    }
    return kb_cred_chain_new(
        providers, KB_ARRAY_LEN(drivers),
        "storage.access_key and secret_key, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a web "
        "identity, ~/.aws/credentials, or a role of the pod or instance");
}

/* ---- region ---- */

/* Firmware of instances says so; elsewhere nobody would answer, and asking costs seconds. */
static bool is_instance(void)
{
    static const char *const files[] = {"/sys/devices/virtual/dmi/id/sys_vendor",
                                        "/sys/devices/virtual/dmi/id/product_uuid", "/sys/hypervisor/uuid"};
    for (size_t i = 0; i < KB_ARRAY_LEN(files); i++) {
        KB_AUTO_ERROR(ignored);
        uint8_t *text = NULL;
        size_t len = 0;
        if (kb_file_read(files[i], 4096, &text, &len, &ignored) != KB_OK)
            continue;
        bool is_it = strncmp((const char *)text, "Amazon EC2", 10) == 0 ||
                     strncasecmp((const char *)text, "ec2", 3) == 0;
        free(text);
        if (is_it)
            return true;
    }
    return false;
}

static char *instance_region(kb_http_retry *metadata)
{
    KB_AUTO_ERROR(ignored);
    KB_CLEANUP(kb_secret_free_at) kb_secret *token = NULL;
    KB_CLEANUP(kb_secret_free_at) kb_secret *answer = NULL;
    if (instance_get(metadata, "/latest/api/token", NULL, &token, &ignored) != KB_OK ||
        instance_get(metadata, "/latest/meta-data/placement/region", token, &answer, &ignored) != KB_OK)
        return NULL;
    const char *text = kb_secret_view(answer);
    size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-");
    return len > 0 && len == kb_secret_len(answer) && len < 40 ? kb_strdup(text) : NULL;
}

char *kb_aws_region(const char *configured, kb_http_retry *metadata)
{
    const char *region = configured != NULL && configured[0] != '\0' ? configured : env("AWS_REGION");
    if (region == NULL)
        region = env("AWS_DEFAULT_REGION");
    if (region != NULL)
        return kb_strdup(region);
    const char *disabled = env("AWS_EC2_METADATA_DISABLED");
    bool may_ask = metadata != NULL && (disabled == NULL || strcasecmp(disabled, "true") != 0);
    char *found = may_ask && is_instance() ? instance_region(metadata) : NULL;
    return found != NULL ? found : kb_strdup("us-east-1");
}
