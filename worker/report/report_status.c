#include "worker/report/report_status.h"

#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "common/contract/run_report.h"
#include "common/data/json_tree.h"
#include "common/net/http.h"
#include "common/sync/cond.h"

#define KB_API_VERSION "kafka.oso.sh/v1alpha1"
#define KB_LAST_TRIES 3
#define KB_REQUEST_MS 10000
#define KB_ANSWER_MAX_BYTES (2u << 20)
#define KB_SLOWEST_MS 300000

struct kb_report_status {
    kb_kube_access *access; /* owned */
    kb_http *http;          /* owned; of login generation `generation` */
    unsigned generation;
    char *url, *kind, *name_space, *name, *uid;
    int64_t changed_ms, last_ms;
    pthread_t thread;
    pthread_mutex_t mutex; /* for the following */
    pthread_cond_t changed;
    kb_strbuf newest; /* as it was offered */
    bool has_newest, is_stopping;
    /* The thread's own. */
    kb_strbuf written;
    bool is_over;            /* nothing is written any more */
    bool was_refused_before; /* a warning was logged */
    int64_t slow_until_ms;
};

/* What a try came to. */
typedef enum kb_try { KB_TRY_WRITTEN, KB_TRY_AGAIN, KB_TRY_OVER } kb_try;

/* ---- requests ---- */

static kb_code open_http(kb_report_status *status, const kb_kube_login *login, kb_error *err)
{
    if (status->http != NULL && status->generation == login->generation)
        return KB_OK;
    kb_http_free(status->http);
    status->http = NULL;
    const kb_http_options options = {
        .ca_pem = login->ca,
        .client_cert_file = login->client_cert_file,
        .client_key_file = login->client_key_file,
        .allow_http = strncmp(login->server, "http://", 7) == 0,
        .direct = true,
        .max_connections = 1,
        .connect_ms = KB_REQUEST_MS / 2,
        .first_byte_ms = KB_REQUEST_MS,
        .stall_ms = KB_REQUEST_MS,
    };
    status->generation = login->generation;
    return kb_http_new(&options, &status->http, err);
}

static kb_code exchange(kb_report_status *status, const char *method, const char *query, const kb_view *body,
                        kb_http_response *response, kb_error *err)
{
    KB_CLEANUP(kb_kube_login_unref_at) const kb_kube_login *login = kb_kube_access_login(status->access);
    if (open_http(status, login, err) != KB_OK)
        return err->code;
    KB_AUTOFREE char *url = kb_asprintf("%s%s%s", login->server, status->url, query);
    KB_AUTO_HEADERS(headers);
    kb_http_headers_set(&headers, "Accept", "application/json");
    if (body != NULL)
        kb_http_headers_set(&headers, "Content-Type", "application/apply-patch+yaml");
    if (login->token != NULL) {
        char *bearer = kb_asprintf("Bearer %s", kb_secret_view(login->token));
        kb_http_headers_set(&headers, "Authorization", bearer);
        kb_wipe(bearer, strlen(bearer));
        free(bearer);
    }
    const kb_http_request request = {
        .method = method,
        .url = url,
        .headers = &headers,
        .body = body,
        .body_count = body != NULL ? 1 : 0,
        .max_body_bytes = KB_ANSWER_MAX_BYTES,
    };
    return kb_http_exchange(status->http, &request, response, err);
}

/* The server's sentence, for a log. Owned. */
static char *sentence_of(const kb_http_response *response)
{
    KB_AUTO_TREE(body);
    body = json_loads(response->body != NULL ? response->body : "", 0, NULL);
    return kb_asprintf("HTTP %d %.300s", response->status, kb_tree_text_or_empty(body, "message", NULL));
}

static kb_try over(kb_report_status *status, const char *why)
{
    kb_log(KB_LOG_WARN, "the status of the custom resource is not written any more", KB_STR("err", why));
    status->is_over = true;
    return KB_TRY_OVER;
}

static kb_try again(kb_report_status *status, const char *why)
{
    if (!status->was_refused_before)
        kb_log(KB_LOG_WARN, "the status of the custom resource cannot be written now", KB_STR("err", why));
    status->was_refused_before = true;
    return KB_TRY_AGAIN;
}

static void slow_down(kb_report_status *status, const kb_http_response *response)
{
    const char *header = kb_http_response_header(response, "Retry-After");
    int64_t secs = 0;
    if (header == NULL || !kb_parse_i64(header, &secs) || secs < 1)
        secs = KB_STATUS_ALIVE_MS / 1000;
    int64_t ms = secs < KB_SLOWEST_MS / 1000 ? secs * 1000 : KB_SLOWEST_MS;
    status->slow_until_ms = kb_clock_boot_ms() + ms;
}

/* An apply of one undeclared field is refused as a whole, and so would be the next. */
static bool is_content_refused(const kb_http_response *response)
{
    bool names_field = response->body != NULL && strstr(response->body, "field") != NULL;
    return response->status == 400 || response->status == 422 || (response->status == 500 && names_field);
}

static kb_try judge(kb_report_status *status, const kb_http_response *response)
{
    if (response->status >= 200 && response->status < 300)
        return KB_TRY_WRITTEN;
    KB_AUTOFREE char *sentence = sentence_of(response);
    if (response->status == 404 || is_content_refused(response))
        return over(status, sentence);
    if (response->status == 429)
        slow_down(status, response);
    if (response->status == 401)
        kb_kube_access_refresh(status->access);
    return again(status, sentence);
}

/* Whether the object of our name is the one that this run belongs to. */
static kb_try look(kb_report_status *status)
{
    KB_AUTO_RESPONSE(response);
    KB_AUTO_ERROR(err);
    if (exchange(status, "GET", "", NULL, &response, &err) != KB_OK)
        return again(status, kb_error_text(&err));
    kb_try outcome = judge(status, &response);
    if (outcome != KB_TRY_WRITTEN)
        return outcome;
    KB_AUTO_TREE(object);
    object = json_loads(response.body, 0, NULL);
    const char *uid = kb_tree_text_or_empty(object, "metadata", "uid", NULL);
    if (strcmp(uid, status->uid) != 0)
        return over(status, "the object was replaced by another one of its name");
    return KB_TRY_WRITTEN;
}

static kb_try write_once(kb_report_status *status, const kb_strbuf *report)
{
    kb_kube_access_refresh(status->access);
    kb_try outcome = look(status);
    if (outcome != KB_TRY_WRITTEN)
        return outcome;
    KB_AUTO_STRBUF(body, 2 * KB_RUN_REPORT_MAX_BYTES);
    kb_strbuf_appendf(&body,
                      "{\"apiVersion\":\"" KB_API_VERSION "\",\"kind\":\"%s\",\"metadata\":{\"name\":\"%s\","
                      "\"namespace\":\"%s\"},\"status\":{\"run\":",
                      status->kind, status->name, status->name_space);
    kb_strbuf_append(&body, kb_strbuf_view(report), report->len);
    kb_strbuf_appends(&body, "}}");
    const kb_view view = kb_view_of(kb_strbuf_view(&body), body.len);
    KB_AUTO_RESPONSE(response);
    KB_AUTO_ERROR(err);
    if (exchange(status, "PATCH", "?fieldManager=kafka-backup-worker&force=true", &view, &response, &err) !=
        KB_OK)
        return again(status, kb_error_text(&err));
    outcome = judge(status, &response);
    if (outcome == KB_TRY_WRITTEN)
        status->was_refused_before = false;
    return outcome;
}

/* ---- the thread ---- */

static bool is_same(const kb_strbuf *a, const kb_strbuf *b)
{
    return a->len == b->len && memcmp(kb_strbuf_view(a), kb_strbuf_view(b), a->len) == 0;
}

/* A copy of the newest report; false when nothing was offered yet. */
static bool take_newest(kb_report_status *status, kb_strbuf *to)
{
    pthread_mutex_lock(&status->mutex);
    bool has_newest = status->has_newest;
    kb_strbuf_clear(to);
    kb_strbuf_append(to, kb_strbuf_view(&status->newest), status->newest.len);
    pthread_mutex_unlock(&status->mutex);
    return has_newest;
}

static void write_newest(kb_report_status *status, int64_t *written_ms)
{
    KB_AUTO_STRBUF(report, KB_RUN_REPORT_MAX_BYTES);
    int64_t now = kb_clock_boot_ms();
    if (!take_newest(status, &report) || now < status->slow_until_ms)
        return;
    if (is_same(&report, &status->written) && now - *written_ms < KB_STATUS_ALIVE_MS)
        return;
    *written_ms = now;
    if (write_once(status, &report) != KB_TRY_WRITTEN)
        return;
    kb_strbuf_clear(&status->written);
    kb_strbuf_append(&status->written, kb_strbuf_view(&report), report.len);
}

/* Waits; false when it is time to stop. */
static bool wait_ms(kb_report_status *status, int64_t ms)
{
    struct timespec deadline = kb_cond_deadline(ms);
    pthread_mutex_lock(&status->mutex);
    while (!status->is_stopping && kb_cond_wait_until(&status->changed, &status->mutex, &deadline))
        continue;
    bool goes_on = !status->is_stopping;
    pthread_mutex_unlock(&status->mutex);
    return goes_on;
}

/* The first report is written when it comes. */
static bool wait_first(kb_report_status *status)
{
    pthread_mutex_lock(&status->mutex);
    while (!status->is_stopping && !status->has_newest)
        pthread_cond_wait(&status->changed, &status->mutex);
    bool goes_on = !status->is_stopping;
    pthread_mutex_unlock(&status->mutex);
    return goes_on;
}

static void *run(void *arg)
{
    kb_report_status *status = arg;
    int64_t written_ms = 0;
    bool goes_on = wait_first(status);
    while (goes_on && !status->is_over) {
        write_newest(status, &written_ms);
        goes_on = wait_ms(status, status->changed_ms);
    }
    return NULL;
}

/* The last report counts most: the operator may find nothing but this. */
static void write_last(kb_report_status *status)
{
    KB_AUTO_STRBUF(report, KB_RUN_REPORT_MAX_BYTES);
    if (!take_newest(status, &report) || is_same(&report, &status->written))
        return;
    for (int i = 0; i < KB_LAST_TRIES && !status->is_over; i++) {
        if (write_once(status, &report) == KB_TRY_WRITTEN)
            return;
        if (i + 1 < KB_LAST_TRIES && !status->is_over) {
            const int64_t pause_ms = status->last_ms / KB_LAST_TRIES;
            struct timespec pause = {pause_ms / 1000, pause_ms % 1000 * 1000000};
            nanosleep(&pause, NULL);
        }
    }
}

/* ---- start and stop ---- */

static bool is_name(const char *text)
{
    size_t len = text != NULL ? strlen(text) : 0;
    return len > 0 && len <= 253 && strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789.-") == len &&
           text[0] != '.';
}

static bool is_kind(const char *kind, const char *plural)
{
    static const char *const kinds[][2] = {{"KafkaBackup", "kafkabackups"},
                                           {"KafkaRestore", "kafkarestores"},
                                           {"KafkaOffsetReset", "kafkaoffsetresets"},
                                           {"KafkaOffsetRollback", "kafkaoffsetrollbacks"}};
    for (size_t i = 0; kind != NULL && plural != NULL && i < KB_ARRAY_LEN(kinds); i++)
        if (strcmp(kind, kinds[i][0]) == 0 && strcmp(plural, kinds[i][1]) == 0)
            return true;
    return false;
}

static void status_free(kb_report_status *status)
{
    kb_http_free(status->http);
    kb_kube_access_free(status->access);
    free(status->url);
    free(status->kind);
    free(status->name_space);
    free(status->name);
    free(status->uid);
    kb_strbuf_done(&status->newest);
    kb_strbuf_done(&status->written);
    pthread_cond_destroy(&status->changed);
    pthread_mutex_destroy(&status->mutex);
    free(status);
}

static kb_report_status *status_new(const kb_report_status_options *options)
{
    kb_report_status *status = kb_calloc(1, sizeof *status);
    status->access = options->owned_access;
    status->url = kb_asprintf("/apis/" KB_API_VERSION "/namespaces/%s/%s/%s/status", options->name_space,
                              options->plural, options->name);
    status->kind = kb_strdup(options->kind);
    status->name_space = kb_strdup(options->name_space);
    status->name = kb_strdup(options->name);
    status->uid = kb_strdup(options->uid);
    status->changed_ms = options->changed_ms > 0 ? options->changed_ms : KB_STATUS_CHANGED_MS;
    status->last_ms = options->last_ms > 0 ? options->last_ms : KB_STATUS_LAST_MS;
    kb_strbuf_init(&status->newest, KB_RUN_REPORT_MAX_BYTES);
    kb_strbuf_init(&status->written, KB_RUN_REPORT_MAX_BYTES);
    pthread_mutex_init(&status->mutex, NULL);
    kb_cond_init(&status->changed);
    return status;
}

kb_code kb_report_status_start(const kb_report_status_options *options, kb_report_status **ret_status,
                               kb_error *err)
{
    if (!is_kind(options->kind, options->plural) || !is_name(options->name_space) ||
        !is_name(options->name)) {
        kb_kube_access_free(options->owned_access);
        return kb_fail(err, KB_CONFIG_INVALID,
                       "resource: kind, plural, namespace and name must be those of a custom resource");
    }
    kb_report_status *status = status_new(options);
    int rc = pthread_create(&status->thread, NULL, run, status);
    if (rc != 0) {
        status_free(status);
        return kb_fail_retryable(err, KB_TEMPORARY_FAILURE, "cannot start the status thread: %s",
                                 kb_errno_text(rc));
    }
    *ret_status = status;
    return KB_OK;
}

void kb_report_status_offer(kb_report_status *status, const char *text, size_t len)
{
    if (status == NULL)
        return;
    pthread_mutex_lock(&status->mutex);
    kb_strbuf_clear(&status->newest);
    kb_strbuf_append(&status->newest, text, len);
    status->has_newest = true;
    pthread_cond_signal(&status->changed);
    pthread_mutex_unlock(&status->mutex);
}

void kb_report_status_stop(kb_report_status *owned_status)
{
    if (owned_status == NULL)
        return;
    pthread_mutex_lock(&owned_status->mutex);
    owned_status->is_stopping = true;
    pthread_cond_signal(&owned_status->changed);
    pthread_mutex_unlock(&owned_status->mutex);
    pthread_join(owned_status->thread, NULL);
    if (!owned_status->is_over)
        write_last(owned_status);
    status_free(owned_status);
}
