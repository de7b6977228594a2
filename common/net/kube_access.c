#include "common/net/kube_access.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"

/* Of a token or a PEM file. */
#define FILE_MAX (1u << 20)

/* One source with what was read last. */
typedef struct source {
    char *file;       /* NULL: constant */
    kb_secret *value; /* NULL: none */
} source;

typedef struct login {
    kb_kube_login view; /* first: callers hold a pointer to it */
    atomic_uint refs;
    char *server;
    kb_secret *token;
    kb_secret *ca;
} login;

struct kb_kube_access {
    const kb_clock *clock;
    char *server;
    char *name_space;
    source token, ca, client_cert, client_key;
    char *client_cert_file, *client_key_file;
    int cert_fd, key_fd; /* files of `data`, -1: none */
    pthread_mutex_t mutex;
    int64_t checked_at_ms;
    unsigned generation;
    login *current;
};

/* ---- logins ---- */

void kb_kube_login_unref(const kb_kube_login *owned_login)
{
    if (owned_login == NULL)
        return;
    /* view is the first member of a login that was made in here, never constant. */
    login *l = (login *)(uintptr_t)owned_login;
    if (atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) != 1)
        return;
    kb_secret_free(l->token);
    kb_secret_free(l->ca);
    free(l->server);
    free(l);
}

void kb_kube_login_unref_at(const kb_kube_login **at)
{
    kb_kube_login_unref(*at);
    *at = NULL;
}

static login *login_new(const kb_kube_access *access)
{
    login *l = kb_calloc(1, sizeof *l);
    atomic_init(&l->refs, 1);
    l->server = kb_strdup(access->server);
    l->token = kb_secret_copy(access->token.value);
    l->ca = kb_secret_copy(access->ca.value);
    l->view.server = l->server;
    l->view.token = l->token;
    if (l->ca != NULL)
        l->view.ca = kb_view_of(kb_secret_view(l->ca), kb_secret_len(l->ca));
    l->view.client_cert_file = access->client_cert_file;
    l->view.client_key_file = access->client_key_file;
    l->view.generation = access->generation;
    return l;
}

/* ---- sources ---- */

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* Reads the file; an empty one gives NULL. */
static kb_code read_file(const char *path, kb_secret **ret_value, kb_error *err)
{
    uint8_t *data = NULL;
    size_t len = 0;
    const kb_code code = kb_file_read(path, FILE_MAX, &data, &len, err);
    if (code != KB_OK)
        return code;
    size_t used = len;
    while (used > 0 && is_space((char)data[used - 1]))
        used--;
    *ret_value = used > 0 ? kb_secret_new(data, used) : NULL;
    kb_wipe(data, len);
    free(data);
    return KB_OK;
}

static kb_code source_init(source *to, const kb_kube_source *from, kb_error *err)
{
    if (from->data != NULL)
        to->value = kb_secret_new(from->data, strlen(from->data));
    if (from->file == NULL)
        return KB_OK;
    to->file = kb_strdup(from->file);
    const kb_code code = read_file(from->file, &to->value, err);
    if (code == KB_OK && to->value == NULL)
        return kb_fail(err, KB_CONFIG_INVALID, "'%s' is empty", from->file);
    return code;
}

static void source_done(source *s)
{
    free(s->file);
    kb_secret_free(s->value);
}

/* True when the file holds something else than before. Trouble keeps the old value: it may pass. */
static bool source_refresh(source *s)
{
    KB_AUTO_ERROR(err);
    kb_secret *fresh = NULL;
    if (s->file == NULL || read_file(s->file, &fresh, &err) != KB_OK || fresh == NULL)
        return false;
    if (kb_secret_is_equal(fresh, s->value)) {
        kb_secret_free(fresh);
        return false;
    }
    kb_secret_free(s->value);
    s->value = fresh;
    return true;
}

/* ---- making ---- */

static bool is_loopback(const char *host, size_t len)
{
    static const char *const HOSTS[] = {"localhost", "127.0.0.1", "[::1]"};
    for (size_t i = 0; i < KB_ARRAY_LEN(HOSTS); i++) {
        if (len == strlen(HOSTS[i]) && strncasecmp(host, HOSTS[i], len) == 0)
            return true;
    }
    return false;
}

static kb_code check_server(const char *server, kb_error *err)
{
    if (server == NULL || server[0] == '\0')
        return kb_fail(err, KB_CONFIG_INVALID, "no API server is named");
    for (const char *c = server; *c != '\0'; c++) {
        if (*c <= ' ' || *c == '@' || *c == '?' || *c == '#' || *c == 0x7f)
            return kb_fail(err, KB_CONFIG_INVALID, "the API server's address '%s' is not a plain URL",
                           server);
    }
    const char *host = NULL;
    if (strncasecmp(server, "https://", 8) == 0)
        return server[8] != '\0' ? KB_OK : kb_fail(err, KB_CONFIG_INVALID, "'%s' names no host", server);
    if (strncasecmp(server, "http://", 7) == 0)
        host = server + 7;
    if (host == NULL)
        return kb_fail(err, KB_CONFIG_INVALID, "the API server's address '%s' is not an https:// URL",
                       server);
    const size_t len = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/");
    if (!is_loopback(host, len))
        return kb_fail(err, KB_CONFIG_INVALID,
                       "the API server's address '%s' is not encrypted; hint: use https://", server);
    return KB_OK;
}

/* A file that only this process can name, for a library that takes names alone. */
static kb_code file_of_data(const source *from, const char *name, int *ret_fd, char **ret_path, kb_error *err)
{
    KB_AUTO_FD int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0)
        return kb_file_fail(err, errno, "make a file in memory for", name);
    const kb_code code = kb_write_all(fd, kb_secret_view(from->value), kb_secret_len(from->value), name, err);
    if (code != KB_OK)
        return code;
    *ret_path = kb_asprintf("/proc/self/fd/%d", fd);
    *ret_fd = fd;
    fd = -1;
    return KB_OK;
}

static kb_code name_file(const source *from, const char *name, int *ret_fd, char **ret_path, kb_error *err)
{
    if (from->value == NULL)
        return KB_OK;
    if (from->file == NULL)
        return file_of_data(from, name, ret_fd, ret_path, err);
    *ret_path = kb_strdup(from->file);
    return KB_OK;
}

static kb_code fill(kb_kube_access *access, const kb_kube_access_options *options, kb_error *err)
{
    kb_code code = check_server(options->server, err);
    if (code != KB_OK)
        return code;
    access->server = kb_strdup(options->server);
    for (size_t len = strlen(access->server); len > 0 && access->server[len - 1] == '/'; len--)
        access->server[len - 1] = '\0';
    access->name_space = kb_strdup(options->name_space != NULL ? options->name_space : "default");
    if ((code = source_init(&access->token, &options->token, err)) != KB_OK ||
        (code = source_init(&access->ca, &options->ca, err)) != KB_OK ||
        (code = source_init(&access->client_cert, &options->client_cert, err)) != KB_OK ||
        (code = source_init(&access->client_key, &options->client_key, err)) != KB_OK)
        return code;
    if ((access->client_cert.value == NULL) != (access->client_key.value == NULL))
        return kb_fail(err, KB_CONFIG_INVALID, "a client certificate needs a key, and a key a certificate");
    code = name_file(&access->client_cert, "client-certificate", &access->cert_fd, &access->client_cert_file,
                     err);
    if (code != KB_OK)
        return code;
    return name_file(&access->client_key, "client-key", &access->key_fd, &access->client_key_file, err);
}

kb_code kb_kube_access_new(const kb_kube_access_options *options, kb_kube_access **ret_access, kb_error *err)
{
    KB_CLEANUP(kb_kube_access_free_at) kb_kube_access *access = kb_calloc(1, sizeof *access);
    access->clock = options->clock != NULL ? options->clock : kb_clock_system();
    access->cert_fd = access->key_fd = -1;
    pthread_mutex_init(&access->mutex, NULL);
    const kb_code code = fill(access, options, err);
    if (code != KB_OK)
        return code;
    access->checked_at_ms = kb_clock_now_boot_ms(access->clock);
    access->current = login_new(access);
    *ret_access = KB_TAKE(access);
    return KB_OK;
}

static char *server_of_environment(void)
{
    const char *host = getenv("KUBERNETES_SERVICE_HOST");
    const char *port = getenv("KUBERNETES_SERVICE_PORT");
    if (host == NULL || host[0] == '\0' || port == NULL || port[0] == '\0')
        return NULL;
    const bool is_ipv6 = strchr(host, ':') != NULL && host[0] != '[';
    return kb_asprintf("https://%s%s%s:%s", is_ipv6 ? "[" : "", host, is_ipv6 ? "]" : "", port);
}

kb_code kb_kube_access_in_cluster(const char *dir, const kb_clock *clock, kb_kube_access **ret_access,
                                  kb_error *err)
{
    if (dir == NULL)
        dir = KB_KUBE_ACCESS_DIR;
    KB_AUTOFREE char *server = server_of_environment();
    if (server == NULL)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "not in a pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set");
    KB_AUTOFREE char *token = kb_asprintf("%s/token", dir);
    KB_AUTOFREE char *ca = kb_asprintf("%s/ca.crt", dir);
    KB_AUTOFREE char *namespace_file = kb_asprintf("%s/namespace", dir);
    KB_CLEANUP(kb_secret_free_at) kb_secret *name_space = NULL;
    kb_code code = read_file(namespace_file, &name_space, err);
    if (code != KB_OK)
        return kb_wrap(err, "the pod's account");
    const kb_kube_access_options options = {.server = server,
                                            .token = {.file = token},
                                            .ca = {.file = ca},
                                            .name_space =
                                                name_space != NULL ? kb_secret_view(name_space) : NULL,
                                            .clock = clock};
    code = kb_kube_access_new(&options, ret_access, err);
    return code == KB_OK ? KB_OK : kb_wrap(err, "the pod's account");
}

void kb_kube_access_free(kb_kube_access *owned_access)
{
    if (owned_access == NULL)
        return;
    if (owned_access->current != NULL)
        kb_kube_login_unref(&owned_access->current->view);
    source_done(&owned_access->token);
    source_done(&owned_access->ca);
    source_done(&owned_access->client_cert);
    source_done(&owned_access->client_key);
    kb_fd_close_at(&owned_access->cert_fd);
    kb_fd_close_at(&owned_access->key_fd);
    free(owned_access->client_cert_file);
    free(owned_access->client_key_file);
    free(owned_access->server);
    free(owned_access->name_space);
    pthread_mutex_destroy(&owned_access->mutex);
    free(owned_access);
}

void kb_kube_access_free_at(kb_kube_access **at)
{
    kb_kube_access_free(*at);
    *at = NULL;
}

/* ---- using ---- */

/* The mutex is held. */
static void look_at_files(kb_kube_access *access)
{
    access->checked_at_ms = kb_clock_now_boot_ms(access->clock);
    const bool has_new_token = source_refresh(&access->token);
    const bool has_new_ca = source_refresh(&access->ca);
    const bool has_new_cert = source_refresh(&access->client_cert);
    const bool has_new_key = source_refresh(&access->client_key);
    if (has_new_ca || has_new_cert || has_new_key)
        access->generation++;
    else if (!has_new_token)
        return;
    kb_kube_login_unref(&access->current->view);
    access->current = login_new(access);
}

const kb_kube_login *kb_kube_access_login(kb_kube_access *access)
{
    pthread_mutex_lock(&access->mutex);
    if (kb_clock_now_boot_ms(access->clock) - access->checked_at_ms >= KB_KUBE_ACCESS_CHECK_MS)
        look_at_files(access);
    login *l = access->current;
    atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&access->mutex);
    return &l->view;
}

void kb_kube_access_refresh(kb_kube_access *access)
{
    pthread_mutex_lock(&access->mutex);
    look_at_files(access);
    pthread_mutex_unlock(&access->mutex);
}

const char *kb_kube_access_namespace(const kb_kube_access *access)
{
    return access->name_space;
}
