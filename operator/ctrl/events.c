#include "operator/ctrl/events.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/crypto.h"
#include "common/base/encode.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "common/sync/cond.h"
#include "operator/kube/bucket.h"

#define RATE 5.0
#define COMPONENT "kafka-backup-operator"
/* An Event's name is one of a DNS subdomain: 253 bytes, 17 of which are the dot and the digits. */
#define NAME_PART_MAX 236
#define NAME_DIGITS 16
/* Counts of Events that are remembered; beyond it all are forgotten and asked for again. */
#define COUNTS_MAX 4096
#define WAIT_MAX_MS 5000

/* One Event on its way. */
typedef struct pending {
    char *name, *name_space;
    json_t *body; /* of the first time */
    struct pending *next;
} pending;

struct kb_events {
    kb_events_options options;
    const kb_clock *clock;
    char *instance;
    kb_bucket *bucket;
    kb_map *counts; /* of the thread: "namespace/name" -> int64_t, owned */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pending *first, *last;
    size_t count;
    bool is_stopping;
    int64_t stop_at_ms; /* boot clock */
};

static void pending_free(pending *p)
{
    if (p == NULL)
        return;
    free(p->name);
    free(p->name_space);
    json_decref(p->body);
    free(p);
}

static void pending_free_at(pending **at)
{
    pending_free(*at);
}

/* ---- making ---- */

char *kb_event_name(const char *object_name, const char *uid, const char *reason, const char *cause)
{
    KB_AUTOFREE char *text = kb_asprintf("%s\n%s\n%s", uid, reason, cause != NULL ? cause : "");
    uint8_t digest[KB_SHA256_SIZE];
    kb_sha256(text, strlen(text), digest);
    char digits[NAME_DIGITS + 1];
    kb_hex_encode(digest, NAME_DIGITS / 2, digits);
    size_t len = strlen(object_name);
    if (len > NAME_PART_MAX)
        len = NAME_PART_MAX;
    while (len > 0 && (object_name[len - 1] == '.' || object_name[len - 1] == '-'))
        len--;
    return kb_asprintf("%.*s.%s", (int)len, object_name, digits);
}

/* At most KB_EVENT_MESSAGE_MAX bytes of UTF-8 without control characters. */
static char *clean_message(const char *message)
{
    KB_AUTO_STRBUF(clean, KB_EVENT_MESSAGE_MAX + 8);
    size_t left = strlen(message);
    while (left > 0) {
        const size_t step = kb_utf8_step(message, left);
        const bool is_control = step == 1 && ((unsigned char)*message < 0x20 || *message == 0x7f);
        const size_t needed = step > 1 ? step : 1;
        if (clean.len + needed > KB_EVENT_MESSAGE_MAX)
            break;
        if (step == 0)
            kb_strbuf_appendc(&clean, '?');
        else if (is_control)
            kb_strbuf_appendc(&clean, ' ');
        else
            kb_strbuf_append(&clean, message, step);
        message += needed;
        left -= needed;
    }
    return kb_strbuf_take(&clean);
}

static json_t *now_text(const kb_events *events)
{
    char text[KB_RFC3339_SIZE];
    kb_rfc3339_format(kb_clock_now_wall_ms(events->clock), text);
    /* metav1.Time has whole seconds. */
    KB_AUTOFREE char *seconds = kb_asprintf("%.19sZ", text);
    return json_string(seconds);
}

static json_t *event_body(const kb_events *events, const kb_event *event, const char *name)
{
    KB_AUTOFREE char *api_version = kb_kube_api_version(event->resource);
    KB_AUTOFREE char *message = clean_message(event->message);
    const char *name_space = kb_kube_namespace(event->object);
    json_t *regarding =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "apiVersion", api_version, "kind", event->resource->kind,
                  "namespace", name_space, "name", kb_kube_name(event->object), "uid",
                  kb_kube_uid(event->object), "resourceVersion", kb_kube_version(event->object));
    return json_pack("{s:s, s:s, s:{s:s, s:s}, s:o, s:s, s:s, s:s, s:i, s:o, s:o, s:{s:s}, s:s, s:s}",
                     "apiVersion", "v1", "kind", "Event", "metadata", "namespace", name_space, "name", name,
                     "involvedObject", regarding, "type", event->is_warning ? "Warning" : "Normal", "reason",
                     event->reason, "message", message, "count", 1, "firstTimestamp", now_text(events),
                     "lastTimestamp", now_text(events), "source", "component", COMPONENT,
                     "reportingComponent", COMPONENT, "reportingInstance", events->instance);
}

void kb_events_emit(kb_events *events, const kb_event *event)
{
    pending *p = kb_calloc(1, sizeof *p);
    p->name =
        kb_event_name(kb_kube_name(event->object), kb_kube_uid(event->object), event->reason, event->cause);
    p->name_space = kb_strdup(kb_kube_namespace(event->object));
    p->body = event_body(events, event, p->name);
    pending *dropped = NULL;
    pthread_mutex_lock(&events->mutex);
    if (events->count == KB_EVENTS_QUEUE) {
        dropped = events->first;
        events->first = dropped->next;
        events->count--;
    }
    if (events->first != NULL)
        events->last->next = p;
    else
        events->first = p;
    events->last = p;
    events->count++;
    pthread_mutex_unlock(&events->mutex);
    pthread_cond_signal(&events->changed);
    if (dropped != NULL)
        kb_kube_metrics_event_dropped(events->options.metrics);
    pending_free(dropped);
}

/* ---- sending ---- */

static char *counts_key(const pending *p)
{
    return kb_asprintf("%s/%s", p->name_space, p->name);
}

static void remember(kb_events *events, const pending *p, int64_t count)
{
    if (kb_map_count(events->counts) >= COUNTS_MAX)
        kb_map_clear(events->counts);
    int64_t *value = kb_malloc(sizeof *value);
    *value = count;
    KB_AUTOFREE char *key = counts_key(p);
    kb_map_puts(events->counts, key, value);
}

static int64_t remembered(const kb_events *events, const pending *p)
{
    KB_AUTOFREE char *key = counts_key(p);
    const int64_t *value = kb_map_gets(events->counts, key);
    return value != NULL ? *value : 0;
}

static kb_code send_new(kb_events *events, const pending *p, kb_kube_reply *reply, kb_error *err)
{
    const kb_kube_request request = {.verb = KB_KUBE_CREATE,
                                     .ref = {.resource = &KB_KUBE_EVENTS, .name_space = p->name_space},
                                     .body = p->body};
    const kb_code code = kb_kube_call(events->options.client, &request, reply, err);
    if (code == KB_OK)
        remember(events, p, 1);
    return code;
}

/* count 0: not known, the reply tells it. */
static kb_code send_repeat(kb_events *events, const pending *p, int64_t count, kb_kube_reply *reply,
                           kb_error *err)
{
    KB_AUTO_JSON json_t *patch = json_object();
    json_object_set(patch, "lastTimestamp", json_object_get(p->body, "lastTimestamp"));
    json_object_set(patch, "message", json_object_get(p->body, "message"));
    if (count > 0)
        json_object_set_new(patch, "count", json_integer(count));
    const kb_kube_request request = {
        .verb = KB_KUBE_PATCH_MERGE,
        .ref = {.resource = &KB_KUBE_EVENTS, .name_space = p->name_space, .name = p->name},
        .body = patch};
    const kb_code code = kb_kube_call(events->options.client, &request, reply, err);
    if (code == KB_OK)
        remember(events, p, json_integer_value(json_object_get(reply->object, "count")));
    return code;
}

/*
 * A rule of access for Events has create and patch, not get: the count of an Event that this process did not
 * make is learnt from the reply to a patch.
 */
static kb_code send(kb_events *events, const pending *p, kb_kube_reply *reply, kb_error *err)
{
    const int64_t known = remembered(events, p);
    if (known > 0) {
        const kb_code code = send_repeat(events, p, known + 1, reply, err);
        if (code == KB_OK || reply->fault != KB_KUBE_GONE)
            return code;
    }
    const kb_code code = send_new(events, p, reply, err);
    if (code == KB_OK || reply->fault != KB_KUBE_EXISTS)
        return code;
    const kb_code seen = send_repeat(events, p, 0, reply, err);
    return seen != KB_OK ? seen : send_repeat(events, p, remembered(events, p) + 1, reply, err);
}

/* The next Event when the rate allows one; NULL: look again. False: the end. */
static bool next_event(kb_events *events, pending **ret_next)
{
    *ret_next = NULL;
    int64_t wait_ms = WAIT_MAX_MS;
    pthread_mutex_lock(&events->mutex);
    const int64_t now_ms = kb_clock_now_boot_ms(events->clock);
    if (events->is_stopping && (events->first == NULL || now_ms >= events->stop_at_ms)) {
        pthread_mutex_unlock(&events->mutex);
        return false;
    }
    /* While stopping the rate does not count: what is left goes out now or never. */
    if (events->first != NULL && (events->is_stopping || kb_bucket_take_try(events->bucket, now_ms))) {
        *ret_next = events->first;
        events->first = events->first->next;
        events->count--;
    } else {
        if (events->first != NULL)
            wait_ms = 100;
        const struct timespec deadline = kb_cond_deadline(wait_ms);
        (void)kb_cond_wait_until(&events->changed, &events->mutex, &deadline);
    }
    pthread_mutex_unlock(&events->mutex);
    return true;
}

static void *run(void *ctx)
{
    kb_events *events = ctx;
    for (;;) {
        KB_CLEANUP(pending_free_at) pending *p = NULL;
        if (events->options.beat != NULL)
            events->options.beat(events->options.ctx);
        if (!next_event(events, &p))
            return NULL;
        if (p == NULL)
            continue;
        KB_AUTO_ERROR(err);
        KB_AUTO_KUBE_REPLY(reply);
        if (send(events, p, &reply, &err) == KB_OK)
            continue;
        kb_kube_metrics_event_dropped(events->options.metrics);
        kb_log_limited(KB_LOG_WARN, "an Event could not be sent", KB_STR("namespace", p->name_space),
                       KB_STR("reason", json_string_value(json_object_get(p->body, "reason"))),
                       KB_ERRTEXT(&err));
    }
}

static void events_free(kb_events *owned_events)
{
    while (owned_events->first != NULL) {
        pending *p = owned_events->first;
        owned_events->first = p->next;
        kb_kube_metrics_event_dropped(owned_events->options.metrics);
        pending_free(p);
    }
    kb_map_free(owned_events->counts);
    kb_bucket_free(owned_events->bucket);
    free(owned_events->instance);
    pthread_cond_destroy(&owned_events->changed);
    pthread_mutex_destroy(&owned_events->mutex);
    free(owned_events);
}

kb_code kb_events_start(const kb_events_options *options, kb_events **ret_events, kb_error *err)
{
    kb_events *events = kb_calloc(1, sizeof *events);
    events->options = *options;
    events->clock = options->clock != NULL ? options->clock : kb_clock_system();
    char host[256] = "";
    if (gethostname(host, sizeof host - 1) != 0)
        host[0] = '\0';
    events->instance = kb_strdup(options->instance != NULL ? options->instance : host);
    const double rate = options->rate > 0 ? options->rate : RATE;
    events->bucket = kb_bucket_new(rate, rate < 1 ? 1 : rate, kb_clock_now_boot_ms(events->clock));
    events->counts = kb_map_new(free);
    pthread_mutex_init(&events->mutex, NULL);
    kb_cond_init(&events->changed);
    const int result = pthread_create(&events->thread, NULL, run, events);
    if (result != 0) {
        events_free(events);
        return kb_fail(err, KB_TEMPORARY_FAILURE, "cannot start the thread of Events: %s",
                       kb_errno_text(result));
    }
    *ret_events = events;
    return KB_OK;
}

void kb_events_stop(kb_events *owned_events, int64_t timeout_ms)
{
    if (owned_events == NULL)
        return;
    pthread_mutex_lock(&owned_events->mutex);
    owned_events->is_stopping = true;
    owned_events->stop_at_ms = kb_clock_now_boot_ms(owned_events->clock) + timeout_ms;
    pthread_mutex_unlock(&owned_events->mutex);
    pthread_cond_signal(&owned_events->changed);
    pthread_join(owned_events->thread, NULL);
    events_free(owned_events);
}
