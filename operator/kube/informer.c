#include "operator/kube/informer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/sync/cond.h"
#include "operator/kube/streams.h"
#include "operator/kube/watch_decode.h"

#define PAGE_LIMIT 500
#define PAGE_BYTES_MAX (64u << 20)
#define ERROR_BYTES_MAX 65536
#define TARGET_MAX 65536
#define LIST_MS 30000
#define WATCH_MIN_S 240
#define WATCH_SPREAD_S 240
#define WATCH_GRACE_S 30
#define BACKOFF_BASE_MS 200
#define BACKOFF_CAP_MS 30000
/* A watch that lived so long was a good one. */
#define GOOD_LIFE_MS 60000
/* One that lived so long is no hot loop. */
#define CUT_LIFE_MS 1000
/* Fresh lists after an expired continue token, before the back-off counts. */
#define EXPIRED_MAX 3
#define LOOP_WAIT_MS 1000
#define REASON_MAX 1024

typedef enum flow_state {
    WAIT_TO_LIST, /* until due_ms */
    LISTING,
    WAIT_TO_WATCH, /* until due_ms */
    WATCHING
} flow_state;

/* One list-and-watch: a resource, or one namespace of it. Of the informer thread, unless said otherwise. */
typedef struct flow {
    kb_informer *informer;
    char *name_space; /* NULL: all */
    flow_state state;
    int64_t due_ms;
    kb_backoff backoff;
    kb_stream *stream;
    bool has_retried_401;
    char *version; /* resourceVersion to go on from */
    /* LISTING: */
    kb_strbuf page;
    char *next_page;
    unsigned expired;
    /* WATCHING: */
    kb_watch_decoder *decoder;
    int64_t began_ms;
    bool wants_list;
    bool has_watched;
    /* Under the mutex of the set: */
    bool is_synced;
    char *trouble; /* why the last list failed, NULL: it did not */
} flow;

struct kb_informer {
    kb_informers *set;
    const kb_kube_resource *resource;
    char *label_selector;
    json_t *(*project)(const json_t *object);
    kb_informer_fn on_change;
    void *ctx;
    kb_object_store *store;
    flow **flows;
    size_t flow_count;
    kb_informer *next;
};

struct kb_informers {
    kb_informers_options options;
    const kb_clock *clock;
    char *user_agent;
    kb_streams *streams;
    kb_informer *first;
    bool has_thread;
    pthread_t thread;
    atomic_bool is_stopping;
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* a flow became synced */
};

/* ---- texts ---- */

static char *target_of(const flow *f, const char *parameters)
{
    const kb_kube_ref ref = {.resource = f->informer->resource, .name_space = f->name_space};
    KB_AUTOFREE char *path = kb_kube_path(&ref);
    KB_AUTO_STRBUF(target, TARGET_MAX);
    kb_strbuf_appendf(&target, "%s?%s", path, parameters);
    kb_kube_append_query(&target, "labelSelector", f->informer->label_selector);
    if (f->state == LISTING)
        kb_kube_append_query(&target, "continue", f->next_page);
    else
        kb_kube_append_query(&target, "resourceVersion", f->version);
    return target.failed ? kb_strdup("/apis/query-too-long") : kb_strbuf_take(&target);
}

/* "HTTP 403 Forbidden: jobs.batch is forbidden ..." of a Status body. */
static char *status_text(int http_status, const kb_strbuf *body)
{
    KB_AUTO_ERROR(ignored);
    KB_AUTO_JSON json_t *status = NULL;
    if (body->len > 0 && kb_kube_json_parse(kb_view_of(body->data, body->len), &status, &ignored) != KB_OK)
        status = NULL;
    const char *reason = kb_kube_text(status, "reason", NULL);
    const char *message = kb_kube_text(status, "message", NULL);
    return kb_asprintf("HTTP %d %s: %.*s", http_status, reason != NULL ? reason : "", REASON_MAX,
                       message != NULL ? message : "no message");
}

/* ---- states ---- */

static kb_informers *set_of(const flow *f)
{
    return f->informer->set;
}

static int64_t now_ms(const flow *f)
{
    return kb_clock_now_boot_ms(set_of(f)->clock);
}

/* lived_ms: of a stream that worked; 0: it did not. */
static void wait_then(flow *f, flow_state state, int64_t at_least_ms, int64_t lived_ms)
{
    int64_t delay_ms = kb_backoff_next(&f->backoff);
    /* Something on the way that cuts every stream after a while must not make us look away for longer. */
    if (lived_ms >= CUT_LIFE_MS && delay_ms > lived_ms)
        delay_ms = lived_ms;
    f->state = state;
    f->due_ms = now_ms(f) + (delay_ms > at_least_ms ? delay_ms : at_least_ms);
}

static void note_synced(flow *f, char *owned_trouble)
{
    kb_informers *set = set_of(f);
    pthread_mutex_lock(&set->mutex);
    free(f->trouble);
    f->trouble = owned_trouble;
    if (owned_trouble == NULL)
        f->is_synced = true;
    pthread_cond_broadcast(&set->changed);
    pthread_mutex_unlock(&set->mutex);
}

static void log_trouble(const flow *f, const char *what, const char *why)
{
    kb_log_limited(KB_LOG_WARN, what, KB_STR("resource", f->informer->resource->plural),
                   KB_STR("namespace", f->name_space), KB_STR("err", why));
}

/* ---- objects ---- */

static bool is_well_formed(const json_t *object)
{
    return kb_kube_name(object)[0] != '\0' && kb_kube_uid(object)[0] != '\0' &&
           kb_kube_version(object)[0] != '\0';
}

static void skip_object(const flow *f)
{
    kb_kube_metrics_skipped(set_of(f)->options.metrics, f->informer->resource->plural);
    log_trouble(f, "an object is skipped", "it has no name, uid or resourceVersion");
}

static json_t *project(const kb_informer *informer, const json_t *object)
{
    if (informer->project != NULL)
        return informer->project(object);
    json_t *copy = json_copy((json_t *)(uintptr_t)object);
    json_t *metadata = json_copy(json_object_get(object, "metadata"));
    json_object_del(metadata, "managedFields");
    json_object_set_new(copy, "metadata", metadata);
    return copy;
}

static void tell(const kb_informer *informer, const json_t *old_object, const json_t *new_object)
{
    kb_kube_metrics_managed(informer->set->options.metrics, informer->resource->kind,
                            kb_object_store_count(informer->store));
    if (informer->on_change != NULL)
        informer->on_change(informer->ctx, old_object, new_object);
}

static void put_object(const flow *f, const json_t *object)
{
    const kb_informer *informer = f->informer;
    if (!is_well_formed(object)) {
        skip_object(f);
        return;
    }
    json_t *kept = project(informer, object);
    if (kept == NULL) {
        skip_object(f);
        return;
    }
    KB_AUTO_JSON json_t *kept_too = json_incref(kept);
    KB_AUTO_JSON json_t *old = NULL;
    switch (kb_object_store_put(informer->store, kept, &old)) {
    case KB_STORE_SAME:
    case KB_STORE_REMOVED:
        return;
    case KB_STORE_REPLACED:
        tell(informer, old, NULL);
        tell(informer, NULL, kept_too);
        return;
    case KB_STORE_ADDED:
    case KB_STORE_UPDATED:
        tell(informer, old, kept_too);
        return;
    }
}

static void remove_object(const flow *f, const json_t *object)
{
    if (!is_well_formed(object)) {
        skip_object(f);
        return;
    }
    KB_AUTO_JSON json_t *old = NULL;
    const char *name_space = kb_kube_namespace(object);
    if (kb_object_store_remove(f->informer->store, name_space, kb_kube_name(object), kb_kube_uid(object),
                               &old) == KB_STORE_REMOVED)
        tell(f->informer, old, NULL);
}

static void tell_removed(void *ctx, json_t *object)
{
    const flow *f = ctx;
    tell(f->informer, object, NULL);
}

/* ---- streams of both kinds ---- */

/* Opens a stream, or gives the reason. */
static kb_code open_stream(flow *f, const char *parameters, int64_t max_ms,
                           kb_code (*on_data)(void *, int, kb_view, kb_error *),
                           void (*on_end)(void *, const kb_stream_end *), kb_error *err)
{
    kb_informers *set = set_of(f);
    KB_CLEANUP(kb_kube_login_unref_at) const kb_kube_login *login = kb_kube_access_login(set->options.access);
    KB_AUTOFREE char *target = target_of(f, parameters);
    const kb_stream_options options = {.login = login,
                                       .target = target,
                                       .user_agent = set->user_agent,
                                       .max_ms = max_ms,
                                       .on_data = on_data,
                                       .on_end = on_end,
                                       .ctx = f};
    kb_strbuf_done(&f->page);
    return kb_streams_open(set->streams, &options, &f->stream, err);
}

/* A body that is no 2xx is kept for its text, up to a limit. */
static void keep_refusal(flow *f, kb_view part)
{
    if (f->page.len + part.len <= ERROR_BYTES_MAX)
        kb_strbuf_append(&f->page, part.data, part.len);
}

static bool is_good(int http_status)
{
    return http_status >= 200 && http_status < 300;
}

/* The first 401 of a stream: the files may hold a newer token. True when the stream is to be tried again. */
static bool retry_after_401(flow *f, const kb_stream_end *end)
{
    if (end->http_status != 401 || f->has_retried_401)
        return false;
    f->has_retried_401 = true;
    kb_kube_access_refresh(set_of(f)->options.access);
    return true;
}

/* ---- list ---- */

static void start_list_page(flow *f);

static void fail_list(flow *f, char *owned_why, int64_t at_least_ms)
{
    log_trouble(f, "a list failed, will be repeated", owned_why);
    note_synced(f, owned_why);
    free(KB_TAKE(f->next_page));
    wait_then(f, WAIT_TO_LIST, at_least_ms, 0);
}

static kb_code on_list_data(void *ctx, int http_status, kb_view part, kb_error *err)
{
    flow *f = ctx;
    if (!is_good(http_status)) {
        keep_refusal(f, part);
        return KB_OK;
    }
    kb_strbuf_append(&f->page, part.data, part.len);
    return kb_strbuf_check(&f->page, "a page of a list", err);
}

static void take_page(flow *f, const json_t *page)
{
    KB_AUTOFREE char *api_version = kb_kube_api_version(f->informer->resource);
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(page, "items"), i, item)
    {
        if (json_is_object(item)) {
            json_object_set_new(item, "apiVersion", json_string(api_version));
            json_object_set_new(item, "kind", json_string(f->informer->resource->kind));
        }
        put_object(f, item);
    }
}

static void end_list(flow *f, const char *version)
{
    free(f->version);
    f->version = kb_strdup(version);
    kb_object_store_list_end(f->informer->store, f->name_space, tell_removed, f);
    kb_kube_metrics_managed(set_of(f)->options.metrics, f->informer->resource->kind,
                            kb_object_store_count(f->informer->store));
    note_synced(f, NULL);
    f->state = WAIT_TO_WATCH;
    f->due_ms = now_ms(f);
}

static void finish_page(flow *f)
{
    KB_AUTO_ERROR(err);
    KB_AUTO_JSON json_t *page = NULL;
    const kb_code code = kb_kube_json_parse(kb_view_of(f->page.data, f->page.len), &page, &err);
    kb_strbuf_done(&f->page);
    const char *version = kb_kube_text(page, "metadata", "resourceVersion", NULL);
    const char *next = kb_kube_text(page, "metadata", "continue", NULL);
    if (code != KB_OK || version == NULL || !json_is_array(json_object_get(page, "items"))) {
        fail_list(f, kb_asprintf("the answer is no list: %s", kb_error_text(&err)), 0);
        return;
    }
    take_page(f, page);
    free(f->next_page);
    f->next_page = next != NULL && next[0] != '\0' ? kb_strdup(next) : NULL;
    if (f->next_page != NULL)
        start_list_page(f);
    else
        end_list(f, version);
}

static void on_list_end(void *ctx, const kb_stream_end *end)
{
    flow *f = ctx;
    f->stream = NULL;
    kb_kube_metrics_request(set_of(f)->options.metrics, "list", "GET", end->http_status);
    if (end->is_complete && is_good(end->http_status)) {
        finish_page(f);
        return;
    }
    if (retry_after_401(f, end)) {
        start_list_page(f);
        return;
    }
    if (!end->is_complete) {
        fail_list(f, kb_strdup(end->error), 0);
        return;
    }
    if (end->http_status == 410 && f->next_page != NULL && f->expired < EXPIRED_MAX) {
        f->expired++;
        f->state = WAIT_TO_LIST;
        f->due_ms = now_ms(f);
        free(KB_TAKE(f->next_page));
        return;
    }
    char *why = end->http_status == 404
                    ? kb_strdup("the server does not know this resource; hint: are the CRDs installed?")
                    : status_text(end->http_status, &f->page);
    fail_list(f, why, end->http_status == 429 && end->retry_after_ms == 0 ? 1000 : end->retry_after_ms);
}

static void start_list_page(flow *f)
{
    KB_AUTO_ERROR(err);
    f->state = LISTING;
    KB_AUTOFREE char *parameters = kb_asprintf("limit=%d&timeoutSeconds=%d", PAGE_LIMIT, LIST_MS / 1000);
    f->page.max_bytes = PAGE_BYTES_MAX;
    if (open_stream(f, parameters, LIST_MS, on_list_data, on_list_end, &err) != KB_OK)
        fail_list(f, kb_strdup(kb_error_text(&err)), 0);
}

static void start_list(flow *f)
{
    free(KB_TAKE(f->next_page));
    f->has_retried_401 = false;
    kb_object_store_list_begin(f->informer->store, f->name_space);
    start_list_page(f);
}

/* ---- watch ---- */

static void note_version(flow *f, const json_t *object)
{
    const char *version = kb_kube_version(object);
    if (version[0] == '\0')
        return;
    free(f->version);
    f->version = kb_strdup(version);
}

static kb_code on_event(void *ctx, kb_watch_type type, json_t *object, kb_error *err)
{
    flow *f = ctx;
    switch (type) {
    case KB_WATCH_ADDED:
    case KB_WATCH_MODIFIED:
        put_object(f, object);
        break;
    case KB_WATCH_DELETED:
        remove_object(f, object);
        break;
    case KB_WATCH_BOOKMARK:
        break;
    case KB_WATCH_ERROR: {
        f->wants_list = true;
        const char *message = kb_kube_text(object, "message", NULL);
        const json_int_t code = json_integer_value(json_object_get(object, "code"));
        return kb_fail(err, KB_ERR_END, "the server ended the watch: %lld %.*s", (long long)code, REASON_MAX,
                       message != NULL ? message : "");
    }
    }
    note_version(f, object);
    return KB_OK;
}

static kb_code on_watch_data(void *ctx, int http_status, kb_view part, kb_error *err)
{
    flow *f = ctx;
    if (!is_good(http_status)) {
        keep_refusal(f, part);
        return KB_OK;
    }
    const kb_code code = kb_watch_decoder_feed(f->decoder, part, err);
    if (code == KB_OK || code == KB_ERR_END)
        return code;
    /* What cannot be read may hide a change: only a list tells what there is now. */
    f->wants_list = true;
    kb_kube_metrics_skipped(set_of(f)->options.metrics, f->informer->resource->plural);
    return code;
}

static void on_watch_end(void *ctx, const kb_stream_end *end)
{
    flow *f = ctx;
    kb_informers *set = set_of(f);
    f->stream = NULL;
    kb_watch_decoder_free(KB_TAKE(f->decoder));
    kb_kube_metrics_request(set->options.metrics, "watch", "GET", end->http_status);
    if (retry_after_401(f, end)) {
        f->state = WAIT_TO_WATCH;
        f->due_ms = now_ms(f);
        return;
    }
    f->has_retried_401 = false;
    const bool is_refused = end->http_status != 0 && !is_good(end->http_status);
    const int64_t lived_ms = is_refused ? 0 : now_ms(f) - f->began_ms;
    if (lived_ms >= GOOD_LIFE_MS)
        kb_backoff_reset(&f->backoff);
    if (end->http_status == 410)
        f->wants_list = true;
    if (is_refused) {
        KB_AUTOFREE char *why = status_text(end->http_status, &f->page);
        log_trouble(f, "a watch was refused, will be repeated", why);
        /* What a watch may not do or does not find any more, the list says in so many words. */
        f->wants_list = f->wants_list || (end->http_status >= 400 && end->http_status < 500 &&
                                          end->http_status != 429 && end->http_status != 401);
    } else if (!end->is_complete && end->error[0] != '\0') {
        kb_log(KB_LOG_DEBUG, "a watch ended", KB_STR("resource", f->informer->resource->plural),
               KB_STR("namespace", f->name_space), KB_STR("err", end->error));
    }
    wait_then(f, f->wants_list ? WAIT_TO_LIST : WAIT_TO_WATCH, end->retry_after_ms, lived_ms);
}

static void start_watch(flow *f)
{
    KB_AUTO_ERROR(err);
    kb_informers *set = set_of(f);
    const int seconds = WATCH_MIN_S + (int)(kb_random_system(NULL) % (WATCH_SPREAD_S + 1));
    KB_AUTOFREE char *parameters = kb_asprintf("watch=1&allowWatchBookmarks=true&timeoutSeconds=%d", seconds);
    f->state = WATCHING;
    f->began_ms = now_ms(f);
    f->wants_list = false;
    f->expired = 0;
    f->page.max_bytes = ERROR_BYTES_MAX;
    f->decoder = kb_watch_decoder_new(0, on_event, f);
    if (f->has_watched)
        kb_kube_metrics_watch_restart(set->options.metrics, f->informer->resource->plural);
    f->has_watched = true;
    if (open_stream(f, parameters, (int64_t)(seconds + WATCH_GRACE_S) * 1000, on_watch_data, on_watch_end,
                    &err) == KB_OK)
        return;
    log_trouble(f, "a watch cannot begin", kb_error_text(&err));
    kb_watch_decoder_free(KB_TAKE(f->decoder));
    wait_then(f, WAIT_TO_WATCH, 0, 0);
}

/* ---- the thread ---- */

static void start_if_due(flow *f, int64_t now, int64_t *wait_ms)
{
    if (f->state == LISTING || f->state == WATCHING)
        return;
    const int64_t left_ms = f->due_ms - now;
    if (left_ms > 0) {
        *wait_ms = left_ms < *wait_ms ? left_ms : *wait_ms;
        return;
    }
    if (f->state == WAIT_TO_LIST)
        start_list(f);
    else
        start_watch(f);
}

static bool is_stopping(kb_informers *set)
{
    return atomic_load(&set->is_stopping) ||
           (set->options.stop != NULL && kb_stop_requested(set->options.stop));
}

static void *run(void *ctx)
{
    kb_informers *set = ctx;
    while (!is_stopping(set)) {
        KB_AUTO_ERROR(err);
        if (set->options.beat != NULL)
            set->options.beat(set->options.beat_ctx);
        int64_t wait_ms = LOOP_WAIT_MS;
        const int64_t now = kb_clock_now_boot_ms(set->clock);
        for (kb_informer *informer = set->first; informer != NULL; informer = informer->next) {
            for (size_t i = 0; i < informer->flow_count; i++)
                start_if_due(informer->flows[i], now, &wait_ms);
        }
        if (kb_streams_run(set->streams, wait_ms, &err) != KB_OK) {
            kb_log_limited(KB_LOG_ERROR, "the informers stumble", KB_ERRTEXT(&err));
            (void)nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        }
    }
    return NULL;
}

/* ---- the set ---- */

kb_informers *kb_informers_new(const kb_informers_options *options)
{
    kb_informers *set = kb_calloc(1, sizeof *set);
    set->options = *options;
    if (options->backoff_base_ms == 0)
        set->options.backoff_base_ms = BACKOFF_BASE_MS;
    if (options->backoff_cap_ms == 0)
        set->options.backoff_cap_ms = BACKOFF_CAP_MS;
    set->clock = options->clock != NULL ? options->clock : kb_clock_system();
    set->user_agent = kb_strdup(options->user_agent != NULL ? options->user_agent : "kafka-backup-operator");
    atomic_init(&set->is_stopping, false);
    pthread_mutex_init(&set->mutex, NULL);
    kb_cond_init(&set->changed);
    return set;
}

static flow *flow_new(kb_informer *informer, const char *name_space)
{
    flow *f = kb_calloc(1, sizeof *f);
    f->informer = informer;
    f->name_space = kb_strdup_opt(name_space);
    kb_strbuf_init(&f->page, PAGE_BYTES_MAX);
    kb_backoff_init(&f->backoff, informer->set->options.backoff_base_ms,
                    informer->set->options.backoff_cap_ms, NULL, NULL);
    return f;
}

static void flow_free(flow *f)
{
    if (f->stream != NULL)
        kb_streams_close(set_of(f)->streams, f->stream);
    kb_watch_decoder_free(f->decoder);
    kb_strbuf_done(&f->page);
    free(f->name_space);
    free(f->version);
    free(f->next_page);
    free(f->trouble);
    free(f);
}

kb_informer *kb_informers_add(kb_informers *informers, const kb_informer_options *options)
{
    kb_informer *informer = kb_calloc(1, sizeof *informer);
    informer->set = informers;
    informer->resource = options->resource;
    informer->label_selector = kb_strdup_opt(options->label_selector);
    informer->project = options->project;
    informer->on_change = options->on_change;
    informer->ctx = options->ctx;
    informer->store = options->is_compact ? kb_object_store_new_compact() : kb_object_store_new();
    informer->flow_count = options->namespace_count > 0 ? options->namespace_count : 1;
    informer->flows = kb_calloc(informer->flow_count, sizeof(flow *));
    for (size_t i = 0; i < informer->flow_count; i++)
        informer->flows[i] = flow_new(informer, options->namespace_count > 0 ? options->namespaces[i] : NULL);
    kb_informer **end = &informers->first;
    while (*end != NULL)
        end = &(*end)->next;
    *end = informer;
    return informer;
}

kb_code kb_informers_start(kb_informers *informers, kb_error *err)
{
    const kb_code code = kb_streams_new(&informers->streams, err);
    if (code != KB_OK)
        return code;
    const int result = pthread_create(&informers->thread, NULL, run, informers);
    if (result != 0)
        return kb_fail(err, KB_TEMPORARY_FAILURE, "cannot start the informers: %s", kb_errno_text(result));
    informers->has_thread = true;
    return KB_OK;
}

void kb_informers_free(kb_informers *owned_informers)
{
    if (owned_informers == NULL)
        return;
    atomic_store(&owned_informers->is_stopping, true);
    if (owned_informers->has_thread) {
        kb_streams_wake(owned_informers->streams);
        pthread_join(owned_informers->thread, NULL);
    }
    for (kb_informer *informer = owned_informers->first; informer != NULL;) {
        kb_informer *next = informer->next;
        for (size_t i = 0; i < informer->flow_count; i++)
            flow_free(informer->flows[i]);
        free(informer->flows);
        free(informer->label_selector);
        kb_object_store_free(informer->store);
        free(informer);
        informer = next;
    }
    kb_streams_free(owned_informers->streams);
    free(owned_informers->user_agent);
    pthread_cond_destroy(&owned_informers->changed);
    pthread_mutex_destroy(&owned_informers->mutex);
    free(owned_informers);
}

/* The mutex is held; why NULL: only the answer. */
static bool is_synced(const kb_informers *set, kb_strbuf *why)
{
    bool all = true;
    for (const kb_informer *informer = set->first; informer != NULL; informer = informer->next) {
        for (size_t i = 0; i < informer->flow_count; i++) {
            const flow *f = informer->flows[i];
            if (f->is_synced && f->trouble == NULL)
                continue;
            all = false;
            if (why != NULL)
                kb_strbuf_appendf(why, "%s%s%s: %s\n", informer->resource->plural,
                                  f->name_space != NULL ? " in " : "",
                                  f->name_space != NULL ? f->name_space : "",
                                  f->trouble != NULL ? f->trouble : "not listed yet");
        }
    }
    return all;
}

bool kb_informers_is_synced(kb_informers *informers, kb_strbuf *why)
{
    pthread_mutex_lock(&informers->mutex);
    const bool all = is_synced(informers, why);
    pthread_mutex_unlock(&informers->mutex);
    return all;
}

bool kb_informers_wait_synced(kb_informers *informers, int64_t timeout_ms)
{
    const struct timespec deadline = kb_cond_deadline(timeout_ms);
    pthread_mutex_lock(&informers->mutex);
    bool all = is_synced(informers, NULL);
    while (!all && kb_cond_wait_until(&informers->changed, &informers->mutex, &deadline))
        all = is_synced(informers, NULL);
    pthread_mutex_unlock(&informers->mutex);
    return all;
}

kb_object_store *kb_informer_store(kb_informer *informer)
{
    return informer->store;
}

bool kb_informer_own_write(kb_informer *informer, const json_t *object, const char *based_on)
{
    if (!is_well_formed(object))
        return false;
    json_t *kept = project(informer, object);
    return kept != NULL && kb_object_store_own_write(informer->store, kept, based_on);
}
