#include "operator/kube/lease.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/crypto.h"
#include "common/base/encode.h"
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/sync/cond.h"
#include "operator/kube/kube_types.h"

#define DURATION_MS 15000
#define RENEW_DEADLINE_MS 10000
#define RETRY_MS 2000
/* A holder that claims more is not waited for longer. */
#define DURATION_MAX_MS 3600000
#define DEFAULT_NAME "kafka-backup-operator"

/* ---- deciding ---- */

static int64_t duration_of(const json_t *lease, const kb_lease_times *times)
{
    const json_int_t seconds = json_integer_value(kb_kube_at(lease, "spec", "leaseDurationSeconds", NULL));
    if (seconds <= 0)
        return times->duration_ms;
    return seconds > DURATION_MAX_MS / 1000 ? DURATION_MAX_MS : seconds * 1000;
}

static void note_seen(kb_lease_memory *memory, const json_t *lease, const kb_lease_times *times,
                      int64_t now_ms)
{
    const char *version = kb_kube_version(lease);
    if (memory->seen_version != NULL && strcmp(memory->seen_version, version) == 0)
        return;
    free(memory->seen_version);
    memory->seen_version = kb_strdup(version);
    memory->seen_at_ms = now_ms;
    memory->seen_duration_ms = duration_of(lease, times);
}

kb_lease_action kb_lease_decide(kb_lease_memory *memory, const json_t *lease, const char *identity,
                                const kb_lease_times *times, int64_t now_boot_ms)
{
    if (memory->is_held && now_boot_ms - memory->renewed_at_ms >= times->renew_deadline_ms)
        return KB_LEASE_LOST;
    if (lease == NULL)
        return KB_LEASE_CREATE;
    note_seen(memory, lease, times, now_boot_ms);
    const char *holder = kb_kube_text(lease, "spec", "holderIdentity", NULL);
    if (holder != NULL && strcmp(holder, identity) == 0)
        return KB_LEASE_RENEW;
    if (memory->is_held)
        return KB_LEASE_LOST;
    if (holder == NULL || holder[0] == '\0')
        return KB_LEASE_ACQUIRE;
    const bool is_over = now_boot_ms - memory->seen_at_ms >= memory->seen_duration_ms;
    return is_over ? KB_LEASE_ACQUIRE : KB_LEASE_WAIT;
}

/* The microseconds that Kubernetes' MicroTime wants: "2006-01-02T15:04:05.000000Z". */
static json_t *micro_time(int64_t wall_ms)
{
    char text[KB_RFC3339_SIZE];
    kb_rfc3339_format(wall_ms, text);
    KB_AUTOFREE char *micro = kb_asprintf("%.23s000Z", text);
    return json_string(micro);
}

json_t *kb_lease_body(const json_t *lease, const char *name_space, const char *name, const char *identity,
                      const kb_lease_times *times, int64_t now_wall_ms)
{
    json_t *body = lease != NULL ? json_deep_copy(lease) : NULL;
    if (body == NULL)
        body = json_pack("{s:s, s:s, s:{s:s, s:s}}", "apiVersion", "coordination.k8s.io/v1", "kind", "Lease",
                         "metadata", "namespace", name_space, "name", name);
    json_t *spec = json_object_get(body, "spec");
    if (!json_is_object(spec)) {
        spec = json_object();
        json_object_set_new(body, "spec", spec);
    }
    const char *holder = json_string_value(json_object_get(spec, "holderIdentity"));
    if (holder == NULL || strcmp(holder, identity) != 0) {
        const json_int_t before = json_integer_value(json_object_get(spec, "leaseTransitions"));
        json_object_set_new(spec, "leaseTransitions", json_integer(lease != NULL ? before + 1 : 0));
        json_object_set_new(spec, "acquireTime", micro_time(now_wall_ms));
    }
    json_object_set_new(spec, "holderIdentity", json_string(identity));
    json_object_set_new(spec, "leaseDurationSeconds", json_integer((times->duration_ms + 999) / 1000));
    json_object_set_new(spec, "renewTime", micro_time(now_wall_ms));
    return body;
}

void kb_lease_memory_done(kb_lease_memory *memory)
{
    free(memory->seen_version);
    *memory = (kb_lease_memory){0};
}

/* ---- the thread ---- */

struct kb_elector {
    kb_elector_options options;
    const kb_clock *clock;
    kb_lease_times times;
    char *name_space, *name, *identity;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool is_stopping; /* under the mutex */
    atomic_bool is_leader;
    _Atomic int64_t renewed_at_ms; /* of the last success; for the gate */
    /* Of the thread: */
    kb_lease_memory memory;
    json_t *lease; /* as last seen, NULL: not known */
};

bool kb_elector_is_leader(const kb_elector *elector)
{
    return atomic_load(&elector->is_leader);
}

bool kb_elector_may_write(void *ctx)
{
    kb_elector *elector = ctx;
    if (!atomic_load(&elector->is_leader))
        return false;
    const int64_t age_ms = kb_clock_now_boot_ms(elector->clock) - atomic_load(&elector->renewed_at_ms);
    return age_ms < elector->times.renew_deadline_ms;
}

static void set_lease(kb_elector *elector, json_t *owned_lease)
{
    json_decref(elector->lease);
    elector->lease = owned_lease;
}

static kb_kube_ref ref_of(const kb_elector *elector, bool is_collection)
{
    return (kb_kube_ref){.resource = &KB_KUBE_LEASES,
                         .name_space = elector->name_space,
                         .name = is_collection ? NULL : elector->name};
}

static kb_code call(kb_elector *elector, kb_kube_verb verb, const json_t *body, kb_kube_reply *reply,
                    kb_error *err)
{
    const kb_kube_request request = {.verb = verb,
                                     .ref = ref_of(elector, verb == KB_KUBE_CREATE),
                                     .body = body,
                                     .is_exempt = true,
                                     .is_ungated = true,
                                     .timeout_ms = elector->times.renew_deadline_ms / 2};
    return kb_kube_call(elector->options.client, &request, reply, err);
}

static void log_trouble(const kb_error *err)
{
    kb_log_limited(KB_LOG_WARN, "the lease cannot be used now", KB_ERRTEXT(err));
}

/* Reads the Lease unless it is known; false when the server did not say. */
static bool look(kb_elector *elector)
{
    if (elector->lease != NULL && elector->memory.is_held)
        return true;
    KB_AUTO_ERROR(err);
    KB_AUTO_KUBE_REPLY(reply);
    if (call(elector, KB_KUBE_GET, NULL, &reply, &err) == KB_OK) {
        set_lease(elector, KB_TAKE(reply.object));
        return true;
    }
    set_lease(elector, NULL);
    if (reply.fault == KB_KUBE_GONE)
        return true;
    log_trouble(&err);
    return false;
}

static void became_leader(kb_elector *elector)
{
    if (atomic_exchange(&elector->is_leader, true))
        return;
    kb_log(KB_LOG_INFO, "this process leads", KB_STR("lease", elector->name),
           KB_STR("holder", elector->identity));
    kb_kube_metrics_leader(elector->options.metrics, true);
    if (elector->options.on_lead != NULL)
        elector->options.on_lead(elector->options.ctx);
}

static void send_renewal(kb_elector *elector, kb_lease_action action)
{
    KB_AUTO_ERROR(err);
    KB_AUTO_KUBE_REPLY(reply);
    const int64_t before_ms = kb_clock_now_boot_ms(elector->clock);
    KB_AUTO_JSON json_t *body =
        kb_lease_body(action == KB_LEASE_CREATE ? NULL : elector->lease, elector->name_space, elector->name,
                      elector->identity, &elector->times, kb_clock_now_wall_ms(elector->clock));
    if (call(elector, action == KB_LEASE_CREATE ? KB_KUBE_CREATE : KB_KUBE_REPLACE, body, &reply, &err) !=
        KB_OK) {
        /* Whatever it was, the Lease is looked at before the next try. */
        set_lease(elector, NULL);
        if (reply.fault != KB_KUBE_CONFLICT && reply.fault != KB_KUBE_EXISTS)
            log_trouble(&err);
        return;
    }
    set_lease(elector, KB_TAKE(reply.object));
    elector->memory.is_held = true;
    elector->memory.renewed_at_ms = before_ms;
    atomic_store(&elector->renewed_at_ms, before_ms);
    became_leader(elector);
}

static bool wait_for_next(kb_elector *elector, int64_t wait_ms)
{
    const struct timespec deadline = kb_cond_deadline(wait_ms);
    pthread_mutex_lock(&elector->mutex);
    while (!elector->is_stopping) {
        if (!kb_cond_wait_until(&elector->wake, &elector->mutex, &deadline))
            break;
    }
    const bool goes_on = !elector->is_stopping;
    pthread_mutex_unlock(&elector->mutex);
    return goes_on;
}

static void lose(kb_elector *elector)
{
    atomic_store(&elector->is_leader, false);
    elector->memory.is_held = false;
    kb_kube_metrics_leader(elector->options.metrics, false);
    kb_log(KB_LOG_ERROR, "this process does not lead any more", KB_STR("lease", elector->name));
    if (elector->options.on_lost != NULL)
        elector->options.on_lost(elector->options.ctx);
}

/* A place for tests to end a reign. */
static bool is_cut_off(const kb_elector *elector)
{
    KB_AUTO_ERROR(err);
    return elector->memory.is_held && KB_FAILPOINT("lease.lost", &err) != KB_OK;
}

static void step_lease(kb_elector *elector)
{
    const bool is_known = look(elector);
    const int64_t now_ms = kb_clock_now_boot_ms(elector->clock);
    if (!is_known) {
        const int64_t age_ms = now_ms - elector->memory.renewed_at_ms;
        if (elector->memory.is_held && age_ms >= elector->times.renew_deadline_ms)
            lose(elector);
        return;
    }
    const kb_lease_action action =
        kb_lease_decide(&elector->memory, elector->lease, elector->identity, &elector->times, now_ms);
    switch (action) {
    case KB_LEASE_WAIT:
        return;
    case KB_LEASE_LOST:
        lose(elector);
        return;
    case KB_LEASE_CREATE:
    case KB_LEASE_ACQUIRE:
    case KB_LEASE_RENEW:
        if (is_cut_off(elector))
            lose(elector);
        else
            send_renewal(elector, action);
        return;
    }
}

/* Clears the holder, so that a standby need not wait for the end of the lease. */
static void release(kb_elector *elector)
{
    if (!elector->memory.is_held || elector->lease == NULL)
        return;
    KB_AUTO_ERROR(err);
    KB_AUTO_KUBE_REPLY(reply);
    json_t *spec = json_object_get(elector->lease, "spec");
    json_object_set_new(spec, "holderIdentity", json_string(""));
    json_object_set_new(spec, "leaseDurationSeconds", json_integer(1));
    atomic_store(&elector->is_leader, false);
    if (call(elector, KB_KUBE_REPLACE, elector->lease, &reply, &err) != KB_OK)
        log_trouble(&err);
}

static void *run(void *ctx)
{
    kb_elector *elector = ctx;
    do {
        if (elector->options.beat != NULL)
            elector->options.beat(elector->options.ctx);
        step_lease(elector);
    } while (wait_for_next(elector, elector->times.retry_ms));
    release(elector);
    kb_kube_metrics_leader(elector->options.metrics, false);
    return NULL;
}

static kb_code make_identity(const kb_elector_options *options, char **ret_identity, kb_error *err)
{
    if (options->identity != NULL) {
        *ret_identity = kb_strdup(options->identity);
        return KB_OK;
    }
    uint8_t random[16];
    const kb_code code = kb_random_bytes(random, sizeof random, err);
    if (code != KB_OK)
        return code;
    char hex[2 * sizeof random + 1];
    kb_hex_encode(random, sizeof random, hex);
    char host[256] = "";
    if (gethostname(host, sizeof host - 1) != 0)
        host[0] = '\0';
    *ret_identity = kb_asprintf("%s_%s", host, hex);
    return KB_OK;
}

static void elector_free(kb_elector *owned_elector)
{
    kb_lease_memory_done(&owned_elector->memory);
    json_decref(owned_elector->lease);
    free(owned_elector->name_space);
    free(owned_elector->name);
    free(owned_elector->identity);
    pthread_cond_destroy(&owned_elector->wake);
    pthread_mutex_destroy(&owned_elector->mutex);
    free(owned_elector);
}

kb_code kb_elector_start(const kb_elector_options *options, kb_elector **ret_elector, kb_error *err)
{
    char *identity = NULL;
    const kb_code code = make_identity(options, &identity, err);
    if (code != KB_OK)
        return code;
    kb_elector *elector = kb_calloc(1, sizeof *elector);
    elector->options = *options;
    elector->clock = options->clock != NULL ? options->clock : kb_clock_system();
    elector->times = options->times;
    if (elector->times.duration_ms == 0)
        elector->times = (kb_lease_times){DURATION_MS, RENEW_DEADLINE_MS, RETRY_MS};
    elector->name_space = kb_strdup(options->name_space);
    elector->name = kb_strdup(options->name != NULL ? options->name : DEFAULT_NAME);
    elector->identity = identity;
    pthread_mutex_init(&elector->mutex, NULL);
    kb_cond_init(&elector->wake);
    const int result = pthread_create(&elector->thread, NULL, run, elector);
    if (result != 0) {
        elector_free(elector);
        return kb_fail(err, KB_TEMPORARY_FAILURE, "cannot start the elector: %s", kb_errno_text(result));
    }
    *ret_elector = elector;
    return KB_OK;
}

void kb_elector_stop(kb_elector *owned_elector)
{
    if (owned_elector == NULL)
        return;
    pthread_mutex_lock(&owned_elector->mutex);
    owned_elector->is_stopping = true;
    pthread_mutex_unlock(&owned_elector->mutex);
    pthread_cond_signal(&owned_elector->wake);
    pthread_join(owned_elector->thread, NULL);
    elector_free(owned_elector);
}
