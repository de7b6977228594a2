#include "common/contract/config_location.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

/* The text before `end`, owned; NULL when it is empty. */
static char *part(const char *start, size_t len)
{
    return len > 0 ? kb_strndup(start, len) : NULL;
}

static void replace(char **to, char *owned_text)
{
    free(*to);
    *to = owned_text;
}

static kb_code parse_file(const char *location, const char *rest, kb_config_storage *storage, kb_error *err)
{
    if (rest[0] != '/')
        return kb_fail(err, KB_USAGE_ERROR,
                       "--path '%s': expected file:///dir; hint: a plain path is fine, too", location);
    storage->backend = KB_CONFIG_FILESYSTEM;
    replace(&storage->filesystem_path, kb_strdup(rest));
    return KB_OK;
}

static kb_code parse_s3_option(const char *location, const char *name, size_t len, kb_config_storage *storage,
                               kb_error *err)
{
    const char *equals = memchr(name, '=', len);
    size_t name_len = equals != NULL ? (size_t)(equals - name) : len;
    KB_AUTOFREE char *key = kb_strndup(name, name_len);
    KB_AUTOFREE char *value = equals != NULL ? kb_strndup(equals + 1, len - name_len - 1) : kb_strdup("");
    if (strcmp(key, "region") == 0) {
        replace(&storage->s3.region, part(value, strlen(value)));
    } else if (strcmp(key, "endpoint") == 0) {
        replace(&storage->s3.endpoint, part(value, strlen(value)));
    } else if (strcmp(key, "path_style") == 0 &&
               (strcmp(value, "true") == 0 || strcmp(value, "false") == 0)) {
        storage->s3.path_style = value[0] == 't';
        storage->s3.has_path_style = true;
    } else if (strcmp(key, "allow_http") == 0 &&
               (strcmp(value, "true") == 0 || strcmp(value, "false") == 0)) {
        storage->s3.allow_http = value[0] == 't';
    } else {
        return kb_fail(err, KB_USAGE_ERROR,
                       "--path '%s': expected region=, endpoint=, path_style=true|false or "
                       "allow_http=true|false, got '%s'",
                       location, key);
    }
    return KB_OK;
}

static kb_code parse_s3(const char *location, const char *rest, kb_config_storage *storage, kb_error *err)
{
    size_t path_len = strcspn(rest, "?");
    size_t bucket_len = strcspn(rest, "/?");
    if (bucket_len == 0)
        return kb_fail(err, KB_USAGE_ERROR, "--path '%s': expected s3://bucket/prefix", location);
    storage->backend = KB_CONFIG_S3;
    replace(&storage->s3.bucket, kb_strndup(rest, bucket_len));
    if (path_len > bucket_len)
        replace(&storage->s3.prefix, part(rest + bucket_len + 1, path_len - bucket_len - 1));
    const char *option = rest + path_len;
    while (*option != '\0') {
        size_t len = strcspn(option + 1, "&");
        kb_code code = parse_s3_option(location, option + 1, len, storage, err);
        if (code != KB_OK)
            return code;
        option += 1 + len;
    }
    return KB_OK;
}

/* ?endpoint=URL&allow_http=true, the options of azure:// and gs://; `query` begins with '?' or is "". */
static kb_code parse_endpoint(const char *location, const char *query, char **endpoint, bool *allow_http,
                              kb_error *err)
{
    static const char endpoint_name[] = "endpoint=", http_name[] = "allow_http=";
    for (const char *option = query; *option != '\0';) {
        const char *text = option + 1;
        size_t len = strcspn(text, "&");
        KB_AUTOFREE char *one = kb_strndup(text, len);
        if (strncmp(one, endpoint_name, sizeof endpoint_name - 1) == 0)
            replace(endpoint, part(one + sizeof endpoint_name - 1, len - (sizeof endpoint_name - 1)));
        else if (strcmp(one, "allow_http=true") == 0 || strcmp(one, "allow_http=false") == 0)
            *allow_http = one[sizeof http_name - 1] == 't';
        else
            return kb_fail(err, KB_USAGE_ERROR,
                           "--path '%.*s': expected endpoint= or allow_http=true|false after '?'",
                           (int)(query - location), location);
        option = text + len;
    }
    return KB_OK;
}

static kb_code parse_azure(const char *location, const char *rest, kb_config_storage *storage, kb_error *err)
{
    size_t account_len = strcspn(rest, "/?");
    const char *container = rest + account_len + (rest[account_len] == '/');
    size_t container_len = strcspn(container, "/?");
    if (account_len == 0 || container_len == 0)
        return kb_fail(err, KB_USAGE_ERROR, "--path '%s': expected azure://account/container/prefix",
                       location);
    storage->backend = KB_CONFIG_AZURE;
    replace(&storage->azure.account_name, kb_strndup(rest, account_len));
    replace(&storage->azure.container_name, kb_strndup(container, container_len));
    const char *prefix = container + container_len + (container[container_len] == '/');
    size_t prefix_len = strcspn(prefix, "?");
    replace(&storage->azure.prefix, part(prefix, prefix_len));
    return parse_endpoint(location, prefix + prefix_len, &storage->azure.endpoint, &storage->azure.allow_http,
                          err);
}

static kb_code parse_gcs(const char *location, const char *rest, kb_config_storage *storage, kb_error *err)
{
    size_t bucket_len = strcspn(rest, "/?");
    if (bucket_len == 0)
        return kb_fail(err, KB_USAGE_ERROR, "--path '%s': expected gs://bucket/prefix", location);
    storage->backend = KB_CONFIG_GCS;
    replace(&storage->gcs.bucket, kb_strndup(rest, bucket_len));
    const char *prefix = rest + bucket_len + (rest[bucket_len] == '/');
    size_t prefix_len = strcspn(prefix, "?");
    replace(&storage->gcs.prefix, part(prefix, prefix_len));
    return parse_endpoint(location, prefix + prefix_len, &storage->gcs.endpoint, &storage->gcs.allow_http,
                          err);
}

kb_code kb_config_storage_parse_path(const char *location, kb_config_storage *storage, kb_error *err)
{
    static const struct {
        const char *scheme;
        kb_code (*parse)(const char *location, const char *rest, kb_config_storage *storage, kb_error *err);
    } schemes[] = {
        {"file://", parse_file},
        {"s3://", parse_s3},
        {"azure://", parse_azure},
        {"gs://", parse_gcs},
    };
    storage->block.is_given = true;
    for (size_t i = 0; i < KB_ARRAY_LEN(schemes); i++) {
        size_t len = strlen(schemes[i].scheme);
        if (strncmp(location, schemes[i].scheme, len) == 0)
            return schemes[i].parse(location, location + len, storage, err);
    }
    if (location[0] == '\0')
        return kb_fail(err, KB_USAGE_ERROR, "--path: expected a directory or a URL, got nothing");
    if (strstr(location, "://") != NULL)
        return kb_fail(err, KB_USAGE_ERROR,
                       "--path '%s': expected file://, s3://, azure://, gs:// or a plain path", location);
    storage->backend = KB_CONFIG_FILESYSTEM;
    replace(&storage->filesystem_path, kb_strdup(location));
    return KB_OK;
}
