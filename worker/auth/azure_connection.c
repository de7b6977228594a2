#include "worker/auth/azure_connection.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/mem.h"

static const char hint[] = "hint: copy it as a whole from the storage account's access keys";

/* The values, owned; not decoded, for the form has no escapes. */
typedef struct fields {
    char *account, *key, *sas, *endpoint, *protocol, *suffix, *development;
} fields;

static void free_text(char **text)
{
    if (*text != NULL)
        kb_wipe(*text, strlen(*text));
    free(*text);
    *text = NULL;
}

static void free_fields(fields *f)
{
    char **const all[] = {&f->account,  &f->key,    &f->sas,        &f->endpoint,
                          &f->protocol, &f->suffix, &f->development};
    for (size_t i = 0; i < KB_ARRAY_LEN(all); i++)
        free_text(all[i]);
}

static kb_code read_field(const char *item, size_t len, fields *f, kb_error *err)
{
    const struct {
        const char *name;
        char **to;
    } known[] = {
        {"AccountName", &f->account},
        {"AccountKey", &f->key},
        {"SharedAccessSignature", &f->sas},
        {"BlobEndpoint", &f->endpoint},
        {"DefaultEndpointsProtocol", &f->protocol},
        {"EndpointSuffix", &f->suffix},
        {"UseDevelopmentStorage", &f->development},
    };
    const char *equals = memchr(item, '=', len);
    if (equals == NULL)
        return kb_fail(err, KB_CONFIG_INVALID, "connection_string: a part is not of the form Name=value; %s",
                       hint);
    size_t name_len = (size_t)(equals - item);
    for (size_t i = 0; i < KB_ARRAY_LEN(known); i++) {
        if (strlen(known[i].name) != name_len || strncasecmp(known[i].name, item, name_len) != 0)
            continue;
        if (*known[i].to != NULL)
            return kb_fail(err, KB_CONFIG_INVALID, "connection_string: %s is there twice; %s", known[i].name,
                           hint);
        if (name_len + 1 < len)
            *known[i].to = kb_strndup(equals + 1, len - name_len - 1);
    }
    return KB_OK;
}

static kb_code read_fields(const char *text, fields *f, kb_error *err)
{
    while (*text != '\0') {
        size_t len = strcspn(text, ";\r\n");
        kb_code code = len > 0 ? read_field(text, len, f, err) : KB_OK;
        if (code != KB_OK)
            return code;
        text += len + (text[len] != '\0');
    }
    return KB_OK;
}

static kb_code check_fields(const fields *f, kb_error *err)
{
    if (f->development != NULL)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "connection_string: UseDevelopmentStorage is not supported; hint: write out "
                       "AccountName, AccountKey and BlobEndpoint");
    if ((f->key != NULL) == (f->sas != NULL))
        return kb_fail(err, KB_CONFIG_INVALID,
                       "connection_string: expected AccountKey or SharedAccessSignature, one of the two; %s",
                       hint);
    if (f->account == NULL && f->endpoint == NULL)
        return kb_fail(err, KB_CONFIG_INVALID, "connection_string: AccountName is missing; %s", hint);
    if (f->protocol != NULL && strcasecmp(f->protocol, "https") != 0 && strcasecmp(f->protocol, "http") != 0)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "connection_string: DefaultEndpointsProtocol is not https or http; %s", hint);
    if (f->endpoint != NULL && strncmp(f->endpoint, "https://", 8) != 0 &&
        strncmp(f->endpoint, "http://", 7) != 0)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "connection_string: BlobEndpoint does not begin with https://; %s", hint);
    if (f->endpoint != NULL && strpbrk(f->endpoint, "@?#") != NULL)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "connection_string: BlobEndpoint holds a user, a query or a fragment; %s", hint);
    return KB_OK;
}

static char *endpoint_of(const fields *f)
{
    if (f->endpoint == NULL) {
        bool is_http = f->protocol != NULL && strcasecmp(f->protocol, "http") == 0;
        return kb_asprintf("%s://%s.blob.%s", is_http ? "http" : "https", f->account,
                           f->suffix != NULL ? f->suffix : "core.windows.net");
    }
    size_t len = strlen(f->endpoint);
    while (len > 0 && f->endpoint[len - 1] == '/')
        len--;
    return kb_strndup(f->endpoint, len);
}

char *kb_azure_account_of(const char *endpoint)
{
    const char *host = strstr(endpoint, "://");
    if (host == NULL)
        return NULL;
    host += 3;
    size_t host_len = strcspn(host, "/");
    size_t name_len = strcspn(host, "./:");
    bool is_address = strspn(host, "0123456789.:[]") == host_len || strncmp(host, "localhost", name_len) == 0;
    if (is_address || host[name_len] != '.') {
        const char *path = host + host_len + (host[host_len] == '/');
        size_t len = strcspn(path, "/");
        return len > 0 ? kb_strndup(path, len) : NULL;
    }
    return name_len > 0 ? kb_strndup(host, name_len) : NULL;
}

kb_code kb_azure_connection_parse(const kb_secret *text, kb_azure_connection *ret_connection, kb_error *err)
{
    KB_CLEANUP(free_fields) fields f = {.account = NULL};
    KB_CLEANUP(kb_azure_connection_done) kb_azure_connection connection = KB_AZURE_CONNECTION_INIT;
    kb_code code = read_fields(kb_secret_view(text), &f, err);
    if (code == KB_OK)
        code = check_fields(&f, err);
    if (code != KB_OK)
        return code;
    connection.endpoint = endpoint_of(&f);
    connection.account = f.account != NULL ? kb_strdup(f.account) : kb_azure_account_of(connection.endpoint);
    if (connection.account == NULL)
        return kb_fail(err, KB_CONFIG_INVALID, "connection_string: AccountName is missing; %s", hint);
    if (f.key != NULL)
        connection.account_key = kb_secret_new(f.key, strlen(f.key));
    if (f.sas != NULL) {
        const char *sas = f.sas + (f.sas[0] == '?');
        connection.sas = kb_secret_new(sas, strlen(sas));
    }
    *ret_connection = connection;
    connection = (kb_azure_connection)KB_AZURE_CONNECTION_INIT;
    return KB_OK;
}

void kb_azure_connection_done(kb_azure_connection *connection)
{
    free(connection->account);
    free(connection->endpoint);
    kb_secret_free(connection->account_key);
    kb_secret_free(connection->sas);
    *connection = (kb_azure_connection)KB_AZURE_CONNECTION_INIT;
}
