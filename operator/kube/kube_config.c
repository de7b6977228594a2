#include "operator/kube/kube_config.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/secret.h"
#include "common/data/problems.h"
#include "common/data/yaml_load.h"

typedef struct reading {
    const char *dir;
    const char *name;
    char *variable; /* "${NAME}": what an expansion is replaced by, which is itself */
} reading;

/* A text that is wiped when it is freed. */
static void wipe_free_at(char **at)
{
    if (*at != NULL)
        kb_wipe(*at, strlen(*at));
    free(*at);
    *at = NULL;
}

/* A kubeconfig has no variables; a value that looks like one stays as it is. */
static const char *keep_variable(void *ctx, const char *name)
{
    reading *r = ctx;
    free(r->variable);
    r->variable = kb_asprintf("${%s}", name);
    return r->variable;
}

static const char *text_of(const kb_yaml_node *node, const char *key)
{
    const kb_yaml_node *value = kb_yaml_get(node, key);
    if (kb_yaml_is_null(value) || value->kind != KB_YAML_SCALAR || value->text_len == 0)
        return NULL;
    return value->text;
}

/* The entry of a list of {name, <what>} with that name: its <what>. */
static kb_code find_named(const reading *r, const kb_yaml_node *root, const char *list_key, const char *what,
                          const char *name, const kb_yaml_node **ret_node, kb_error *err)
{
    const kb_yaml_node *list = kb_yaml_get(root, list_key);
    const size_t count = list != NULL && list->kind == KB_YAML_SEQUENCE ? list->count : 0;
    for (size_t i = 0; i < count; i++) {
        const char *entry_name = text_of(list->values[i], "name");
        const kb_yaml_node *node = kb_yaml_get(list->values[i], what);
        if (entry_name == NULL || strcmp(entry_name, name) != 0)
            continue;
        if (node == NULL || node->kind != KB_YAML_MAP)
            break;
        *ret_node = node;
        return KB_OK;
    }
    return kb_fail(err, KB_CONFIG_INVALID, "%s: there is no %s named '%s'", r->name, what, name);
}

static kb_code refuse(const reading *r, const kb_yaml_node *node, const char *where, const char *const *keys,
                      kb_error *err)
{
    for (; *keys != NULL; keys++) {
        const kb_yaml_node *value = kb_yaml_get(node, *keys);
        const bool is_off =
            kb_yaml_is_null(value) ||
            (value->kind == KB_YAML_SCALAR && (value->text_len == 0 || strcmp(value->text, "false") == 0));
        if (!is_off)
            return kb_fail(err, KB_CONFIG_INVALID,
                           "%s: %s.%s is not supported; hint: use a token or a client certificate", r->name,
                           where, *keys);
    }
    return KB_OK;
}

static char *path_from(const char *dir, const char *file)
{
    return file[0] == '/' ? kb_strdup(file) : kb_asprintf("%s/%s", dir, file);
}

/* A file name, or base64 data under key "<file_key>-data", which wins as it does for kubectl. */
static kb_code read_source(const reading *r, const kb_yaml_node *node, const char *file_key, char **ret_file,
                           char **ret_data, kb_error *err)
{
    KB_AUTOFREE char *data_key = kb_asprintf("%s-data", file_key);
    const char *data = text_of(node, data_key);
    const char *file = text_of(node, file_key);
    if (data == NULL) {
        if (file != NULL)
            *ret_file = path_from(r->dir, file);
        return KB_OK;
    }
    const size_t len = strlen(data);
    char *text = kb_malloc(KB_BASE64_DATA_SIZE(len) + 1);
    size_t text_len = 0;
    const kb_code code = kb_base64_decode(data, len, (uint8_t *)text, &text_len, err);
    if (code != KB_OK) {
        free(text);
        return kb_wrap_as(err, KB_CONFIG_INVALID, "%s: %s", r->name, data_key);
    }
    text[text_len] = '\0';
    *ret_data = text;
    return KB_OK;
}

static kb_code read_tree(const reading *r, const kb_yaml_node *root, const kb_clock *clock,
                         kb_kube_access **ret_access, kb_error *err)
{
    static const char *const NOT_IN_CLUSTERS[] = {"insecure-skip-tls-verify", "proxy-url", "tls-server-name",
                                                  NULL};
    static const char *const NOT_IN_USERS[] = {"exec",   "auth-provider", "username",      "password", "as",
                                               "as-uid", "as-groups",     "as-user-extra", NULL};
    const char *current = text_of(root, "current-context");
    if (current == NULL)
        return kb_fail(err, KB_CONFIG_INVALID, "%s: current-context is not set", r->name);
    const kb_yaml_node *context = NULL, *cluster = NULL, *user = NULL;
    kb_code code = find_named(r, root, "contexts", "context", current, &context, err);
    if (code != KB_OK)
        return code;
    const char *cluster_name = text_of(context, "cluster"), *user_name = text_of(context, "user");
    code =
        find_named(r, root, "clusters", "cluster", cluster_name != NULL ? cluster_name : "", &cluster, err);
    if (code == KB_OK)
        code = find_named(r, root, "users", "user", user_name != NULL ? user_name : "", &user, err);
    if (code == KB_OK)
        code = refuse(r, cluster, "cluster", NOT_IN_CLUSTERS, err);
    if (code == KB_OK)
        code = refuse(r, user, "user", NOT_IN_USERS, err);
    if (code != KB_OK)
        return code;
    KB_AUTOFREE char *ca_file = NULL, *cert_file = NULL, *key_file = NULL, *token_file = NULL;
    KB_CLEANUP(wipe_free_at) char *ca = NULL, *cert = NULL, *key = NULL;
    if ((code = read_source(r, cluster, "certificate-authority", &ca_file, &ca, err)) != KB_OK ||
        (code = read_source(r, user, "client-certificate", &cert_file, &cert, err)) != KB_OK ||
        (code = read_source(r, user, "client-key", &key_file, &key, err)) != KB_OK)
        return code;
    const char *token_name = text_of(user, "tokenFile"), *token = text_of(user, "token");
    if (token_name != NULL)
        token_file = path_from(r->dir, token_name);
    const kb_kube_access_options options = {
        .server = text_of(cluster, "server"),
        .token = {.file = token_file, .data = token_file != NULL ? NULL : token},
        .ca = {.file = ca_file, .data = ca},
        .client_cert = {.file = cert_file, .data = cert},
        .client_key = {.file = key_file, .data = key},
        .name_space = text_of(context, "namespace"),
        .clock = clock};
    code = kb_kube_access_new(&options, ret_access, err);
    return code == KB_OK ? KB_OK : kb_wrap(err, "%s", r->name);
}

kb_code kb_kube_config_parse(kb_view text, const char *dir, const char *name, const kb_clock *clock,
                             kb_kube_access **ret_access, kb_error *err)
{
    reading r = {.dir = dir, .name = name};
    kb_yaml_options options = {.get_env = keep_variable, .env_ctx = &r};
    KB_CLEANUP(kb_problems_done) kb_problems problems;
    kb_problems_init(&problems, name);
    KB_CLEANUP(kb_yaml_free_at) kb_yaml_node *root = NULL;
    kb_code code = kb_yaml_load(text, &options, &problems, &root);
    free(r.variable);
    r.variable = NULL;
    const kb_code worse = kb_problems_check(&problems, KB_CONFIG_INVALID, err);
    if (worse != KB_OK)
        return kb_wrap(err, "kubeconfig");
    if (code != KB_OK)
        return kb_fail(err, KB_CONFIG_INVALID, "%s is not a kubeconfig", name);
    return read_tree(&r, root, clock, ret_access, err);
}

kb_code kb_kube_config_load(const char *path, const kb_clock *clock, kb_kube_access **ret_access,
                            kb_error *err)
{
    if (path == NULL)
        path = getenv("KUBECONFIG");
    if (path == NULL || path[0] == '\0')
        return kb_kube_access_in_cluster(NULL, clock, ret_access, err);
    uint8_t *data = NULL;
    size_t len = 0;
    kb_code code = kb_file_read(path, KB_YAML_MAX_BYTES, &data, &len, err);
    if (code != KB_OK)
        return kb_wrap_as(err, KB_CONFIG_INVALID, "kubeconfig");
    const char *slash = strrchr(path, '/');
    KB_AUTOFREE char *dir = slash == NULL ? kb_strdup(".") : kb_strndup(path, (size_t)(slash - path));
    code = kb_kube_config_parse(kb_view_of(data, len), dir, path, clock, ret_access, err);
    kb_wipe(data, len);
    free(data);
    return code;
}
