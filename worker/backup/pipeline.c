#include "worker/backup/pipeline.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "worker/backup/memory_plan.h"
#include "worker/backup/partition_task.h"
#include "worker/backup/poller.h"
#include "worker/catalog/reuse.h"

#define KB_PUBLISHERS 4
#define KB_MAX_HANDLES 4
#define KB_TICK_MS 50
#define KB_LAG_REFRESH_MS 5000
#define KB_EXIT_AT_ONCE 143

typedef struct pipeline {
    const kb_backup_settings *settings;
    kb_journal *journal;
    kb_run_control control;
    kb_memory_plan memory;
    kb_ledger *ledger;
    kb_lanes lanes;
    kb_task_rules rules;
    kb_pollers pollers;
    kb_poller *poller[KB_MAX_HANDLES];
    size_t poller_count;
    kb_frame_encoder **encoders;
    pthread_t *threads; /* encoders, then publishers */
    size_t encoder_count, publisher_count;
    kb_map *by_name; /* "topic/partition" to kb_task */
    kb_backup *plan; /* of ids, content and compression only: the journal's own model changes while we run */
    int64_t lag_ms;
} pipeline;

/* ---- callbacks ---- */

static void on_frame_free(void *ctx, kb_frame *owned_frame, uint64_t extra_bytes)
{
    pipeline *p = ctx;
    kb_frame_reset(owned_frame);
    if (extra_bytes > 0)
        kb_budget_release(p->rules.spare, extra_bytes);
    if (!kb_queue_push(p->rules.frames, owned_frame))
        kb_frame_free(owned_frame);
}

static void on_restart(void *ctx, void *owner, int64_t offset)
{
    (void)ctx;
    kb_task *task = owner;
    kb_poller_restart(task->poller, task, offset);
}

static void on_settled(void *ctx, const char *topic, int32_t partition)
{
    pipeline *p = ctx;
    KB_AUTOFREE char *name = kb_asprintf("%s/%" PRId32, topic, partition);
    kb_task *task = kb_map_gets(p->by_name, name);
    if (task != NULL && kb_task_settle(task))
        atomic_fetch_sub(&p->pollers.open_tasks, 1);
}

/* ---- worker threads ---- */

typedef struct encoder_start {
    pipeline *pipeline;
    kb_frame_encoder *encoder;
} encoder_start;

static void *encode(void *arg)
{
    encoder_start start = *(encoder_start *)arg;
    free(arg);
    void *item;
    while (kb_queue_pop(start.pipeline->lanes.encode, &item)) {
        KB_AUTO_ERROR(err);
        if (!kb_run_is_cancelled(&start.pipeline->control) &&
            kb_frame_seal(start.encoder, kb_lane_item_frame(item), &err) != KB_OK)
            kb_run_fail(&start.pipeline->control, &err);
        kb_lane_item_sealed(item);
    }
    return NULL;
}

static void *publish(void *arg)
{
    pipeline *p = arg;
    void *lane;
    while (kb_queue_pop(p->lanes.publish, &lane))
        kb_lane_serve(lane);
    return NULL;
}

static kb_code start_thread(pthread_t *thread, void *(*fn)(void *), void *arg, kb_error *err)
{
    int failed = pthread_create(thread, NULL, fn, arg);
    if (failed == 0)
        return KB_OK;
    return kb_fail_retryable(err, KB_TEMPORARY_FAILURE, "no thread to be had: %s", kb_errno_text(failed));
}

static kb_code start_encoders(pipeline *p, kb_error *err)
{
    const kb_config_backup *config = &p->settings->config->backup;
    kb_frame_encoder_opts opts = {
        .codec = p->lanes.codec,
        .level = (int)config->compression_level,
        .verify = config->verify_before_upload,
        .has_own_block = p->rules.has_own_block,
    };
    p->encoders = kb_calloc(p->memory.encoders, sizeof(kb_frame_encoder *));
    p->threads = kb_calloc(p->memory.encoders + KB_PUBLISHERS, sizeof *p->threads);
    for (size_t i = 0; i < p->memory.encoders; i++) {
        if (kb_frame_encoder_new(&opts, &p->encoders[i], err) != KB_OK)
            return err->code;
        encoder_start *start = kb_malloc(sizeof *start);
        *start = (encoder_start){p, p->encoders[i]};
        if (start_thread(&p->threads[i], encode, start, err) != KB_OK) {
            free(start);
            kb_frame_encoder_free(p->encoders[i]);
            return err->code;
        }
        p->encoder_count++;
    }
    for (size_t i = 0; i < KB_PUBLISHERS; i++) {
        if (start_thread(&p->threads[p->encoder_count + i], publish, p, err) != KB_OK)
            return err->code;
        p->publisher_count++;
    }
    return KB_OK;
}

/* ---- setting up ---- */

static kb_codec codec_of(const kb_backup *plan)
{
    kb_codec codec;
    return kb_codec_parse(plan->compression, &codec) ? codec : KB_CODEC_ZSTD;
}

static kb_code plan_memory(pipeline *p, kb_error *err)
{
    const kb_backup_settings *settings = p->settings;
    const kb_storage_caps *caps = kb_storage_caps_view(settings->storage);
    kb_memory_request request = {
        .limit_bytes = settings->memory_bytes,
        .part_bytes = caps->part_bytes,
        .encoders = settings->threads > 0 ? settings->threads : 1,
        .uploads = KB_PUBLISHERS,
        .max_partitions = (size_t)settings->config->backup.max_concurrent_partitions,
        .whole_objects = caps->whole_objects,
    };
    if (kb_memory_plan_make(&request, &p->memory, err) != KB_OK)
        return err->code;
    kb_storage_limit_part_bytes(settings->storage, (size_t)p->memory.part_bytes);
    if (settings->metrics != NULL)
        kb_metric_set(settings->metrics->memory_budget, (double)p->memory.budget_bytes);
    return KB_OK;
}

/* A model with the head of the journal's: the lanes' own, for the journal's changes under the ledger's hands.
 */
static kb_backup *copy_head(const kb_backup *from)
{
    kb_backup *to = kb_backup_new(from->backup_id);
    kb_text_set(&to->compression, from->compression);
    kb_text_set(&to->cluster_id, from->cluster_id);
    kb_text_set(&to->content.isolation, from->content.isolation);
    kb_text_set(&to->content.source_cluster_header, from->content.source_cluster_header);
    to->content.offset_headers = from->content.offset_headers;
    to->level = from->level;
    return to;
}

static void free_frame(void *owned_frame)
{
    kb_frame_free(owned_frame);
}

/* Bytes of records after which a segment ends. */
static int64_t segment_limit(const pipeline *p)
{
    const kb_storage_caps *caps = kb_storage_caps_view(p->settings->storage);
    int64_t limit = p->settings->config->backup.segment_max_bytes;
    if (p->lanes.codec != KB_CODEC_ZSTD && limit > (int64_t)KB_SEGMENT_AREA_LIMIT)
        limit = (int64_t)KB_SEGMENT_AREA_LIMIT;
    /* Where a segment is held whole: compressed, it does not become larger. */
    if (caps->whole_objects && limit > (int64_t)caps->part_bytes)
        limit = (int64_t)caps->part_bytes;
    return limit;
}

static void set_rules(pipeline *p)
{
    const kb_config_backup *config = &p->settings->config->backup;
    int64_t now_us = kb_clock_boot_us();
    p->rules = (kb_task_rules){
        .segment_max_bytes = segment_limit(p),
        .segment_max_records = config->segment_max_records.is_set ? config->segment_max_records.value : 0,
        .segment_max_interval_ms = config->segment_max_interval_ms,
        .has_own_block = p->plan->content.offset_headers,
        .memory_budget_bytes = p->memory.budget_bytes,
        .frames = kb_queue_new(p->memory.frames, free_frame),
        .spare = kb_budget_new(p->memory.spare_bytes > 0 ? p->memory.spare_bytes : 1),
        .control = &p->control,
    };
    const char *cluster = p->plan->content.source_cluster_header;
    if (cluster != NULL)
        p->rules.own_block = (kb_own_block_opts){cluster, strlen(cluster)};
    if (config->rate_limit_bytes_per_sec.is_set)
        p->rules.bytes_limit = kb_ratelimit_shared_new(config->rate_limit_bytes_per_sec.value, now_us);
    if (config->rate_limit_records_per_sec.is_set)
        p->rules.records_limit = kb_ratelimit_shared_new(config->rate_limit_records_per_sec.value, now_us);
    for (size_t i = 0; i < p->memory.frames; i++) {
        kb_frame *frame = kb_frame_new(KB_FRAME_DEFAULT_CAPACITY);
        if (!kb_queue_push(p->rules.frames, frame))
            kb_frame_free(frame);
    }
}

static void set_lanes(pipeline *p, size_t task_count)
{
    const kb_backup_settings *settings = p->settings;
    kb_lanes_init(&p->lanes);
    p->lanes.storage = settings->storage;
    p->lanes.control = &p->control;
    p->lanes.progress = settings->progress;
    p->lanes.metrics = settings->metrics;
    p->lanes.plan = p->plan;
    p->lanes.codec = codec_of(p->plan);
    p->lanes.verify = settings->config->backup.verify_before_upload;
    memcpy(p->lanes.attempt_id, kb_journal_attempt_id(p->journal), sizeof p->lanes.attempt_id);
    kb_hex_encode(p->lanes.attempt_id, sizeof p->lanes.attempt_id, p->lanes.attempt_id_hex);
    p->lanes.suffixed_names = !kb_journal_backup(p->journal)->conditional_put;
    p->lanes.encode = kb_queue_new(p->memory.frames, NULL);
    p->lanes.publish = kb_queue_new(task_count > 0 ? task_count : 1, NULL);
    p->lanes.on_frame_free = on_frame_free;
    p->lanes.on_restart = on_restart;
    p->lanes.ctx = p;
}

static bool needs_reading(const kb_backup *backup, const kb_partition_entry *partition, bool compacted)
{
    if (partition->done)
        return false;
    /* A resumed compacted partition at its cut still has to catch up with the log. */
    bool resumed = partition->to > partition->from || backup->cut_time > backup->created_at;
    return partition->to < partition->cut || (compacted && resumed);
}

/* Partitions without anything to read are journaled as done; the others become tasks. */
static void make_tasks(pipeline *p, const kb_backup *backup, const kb_backup *base,
                       const kb_topic_facts *facts)
{
    bool catch_up = p->settings->config->backup.compacted_end == KB_CONFIG_CAUGHT_UP;
    int64_t began_ms = kb_clock_boot_ms() - (kb_clock_wall_ms() - backup->created_at);
    for (size_t t = 0; t < backup->topic_count; t++) {
        const kb_topic_entry *topic = &backup->topics[t];
        for (size_t i = 0; i < topic->listed_count; i++) {
            const kb_partition_entry *partition = &topic->partitions[i];
            if (!needs_reading(backup, partition, facts[t].compacted && catch_up))
                continue;
            kb_task *task = &p->pollers.tasks[p->pollers.task_count++];
            kb_task_init(task, &p->rules, &p->lanes, topic, partition);
            task->compacted = facts[t].compacted && catch_up;
            task->delete_retention_ms = facts[t].delete_retention_ms;
            if (partition->to > partition->from)
                task->read_began_ms = began_ms;
            if (base != NULL)
                task->reuse_floor = kb_reuse_floor(
                    partition, kb_backup_find_partition(base, topic->name, partition->partition));
            KB_AUTOFREE char *name = kb_asprintf("%s/%" PRId32, task->topic, task->partition);
            kb_map_puts(p->by_name, name, task);
        }
    }
    atomic_store(&p->pollers.unread_tasks, p->pollers.task_count);
    atomic_store(&p->pollers.open_tasks, p->pollers.task_count);
}

static void post_empty_partitions(pipeline *p, const kb_backup *backup)
{
    for (size_t t = 0; t < backup->topic_count; t++) {
        const kb_topic_entry *topic = &backup->topics[t];
        for (size_t i = 0; i < topic->listed_count; i++) {
            const kb_partition_entry *partition = &topic->partitions[i];
            KB_AUTOFREE char *name = kb_asprintf("%s/%" PRId32, topic->name, partition->partition);
            if (partition->done || kb_map_gets(p->by_name, name) != NULL)
                continue;
            kb_ledger_event event = {
                .kind = KB_LEDGER_DONE,
                .topic = topic->name, /* the journal never drops a topic of its plan */
                .partition = partition->partition,
                .end = partition->cut > partition->to ? partition->cut : partition->to,
            };
            kb_ledger_post(p->ledger, &event);
        }
    }
}

static size_t count_partitions(const kb_backup *backup)
{
    size_t count = 0;
    for (size_t t = 0; t < backup->topic_count; t++)
        count += backup->topics[t].listed_count;
    return count;
}

static kb_code start_ledger(pipeline *p, kb_kafka_admin *admin, const kb_backup *base, kb_error *err)
{
    kb_ledger_options options = {
        .journal = p->journal,
        .base = base,
        .admin = admin,
        .control = &p->control,
        .progress = p->settings->progress,
        .metrics = p->settings->metrics,
        .interval_ms = p->settings->config->backup.checkpoint_interval_secs * 1000,
        .on_settled = on_settled,
        .ctx = p,
    };
    if (kb_ledger_start(&options, &p->ledger, err) != KB_OK)
        return err->code;
    p->lanes.ledger = p->ledger;
    p->pollers.ledger = p->ledger;
    return KB_OK;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static kb_code start_pollers(pipeline *p, kb_error *err)
{
    size_t handles = (size_t)p->settings->config->source.connection.connections_per_broker;
    size_t partitions = smaller(p->memory.partitions, p->pollers.task_count);
    handles = smaller(smaller(handles, KB_MAX_HANDLES), partitions);
    for (size_t i = 0; i < handles; i++) {
        size_t share = partitions / handles + (i < partitions % handles ? 1 : 0);
        if (kb_poller_start(&p->pollers, share, &p->poller[i], err) != KB_OK)
            return err->code;
        p->poller_count++;
    }
    return KB_OK;
}

/* ---- watching ---- */

static void refresh_lag(pipeline *p, int64_t now_ms)
{
    kb_run_metrics *metrics = p->settings->metrics;
    if (metrics == NULL || now_ms - p->lag_ms < KB_LAG_REFRESH_MS)
        return;
    p->lag_ms = now_ms;
    KB_AUTOFREE kb_partition_lag *lags = kb_calloc(p->pollers.task_count, sizeof *lags);
    int64_t remaining = 0;
    for (size_t i = 0; i < p->pollers.task_count; i++) {
        const kb_task *task = &p->pollers.tasks[i];
        /* A racy look at the poller's numbers: a gauge may be a moment old. */
        int64_t left = __atomic_load_n(&task->cut, __ATOMIC_RELAXED) -
                       __atomic_load_n(&task->position, __ATOMIC_RELAXED);
        lags[i] = (kb_partition_lag){task->topic, task->partition, left > 0 ? left : 0};
        remaining += lags[i].records;
    }
    kb_run_metrics_set_lag(metrics, lags, p->pollers.task_count);
    kb_metric_set(metrics->snapshot_remaining, (double)remaining);
    kb_metric_set(metrics->journal_age, (double)kb_journal_age_ms(p->journal) / 1000.0);
}

static void check_progress(pipeline *p)
{
    int64_t limit_ms = p->settings->config->limits.no_progress_secs * 1000;
    int64_t idle_ms = kb_progress_idle_ms(p->settings->progress);
    if (idle_ms <= limit_ms)
        return;
    KB_AUTO_ERROR(err);
    kb_kafka_state state = {0};
    if (p->poller_count > 0)
        kb_poller_state(p->poller[0], &state);
    (void)kb_fail_retryable(&err, KB_NO_PROGRESS,
                            "no record, byte or throttle notice for %" PRId64
                            " s while %zu partitions were open; the last "
                            "trouble was: %s",
                            idle_ms / 1000, atomic_load(&p->pollers.open_tasks),
                            state.last_error != NULL ? state.last_error : "none");
    kb_kafka_state_done(&state);
    kb_run_fail(&p->control, &err);
}

static void exit_on_second_signal(const pipeline *p)
{
    if (kb_stop_count(p->settings->stop) > 1)
        _exit(KB_EXIT_AT_ONCE);
}

static void watch(pipeline *p)
{
    while (!kb_run_is_ending(&p->control) && atomic_load(&p->pollers.open_tasks) > 0) {
        (void)kb_stop_wait(p->settings->stop, KB_TICK_MS);
        /* Nothing more to wait for but the journal: no need to wait for its interval too. */
        if (atomic_load(&p->pollers.unread_tasks) == 0)
            kb_ledger_flush(p->ledger);
        refresh_lag(p, kb_clock_boot_ms());
        check_progress(p);
    }
}

/* ---- ending ---- */

/* Lets the lanes run dry: without limit when all is well, for the grace after a stop, not at all after an
 * error. */
static void drain(pipeline *p)
{
    int64_t deadline_ms = kb_clock_boot_ms() + p->settings->config->limits.shutdown_grace_secs * 1000;
    while (!kb_run_is_cancelled(&p->control) && !kb_lanes_wait_idle(&p->lanes, KB_TICK_MS)) {
        exit_on_second_signal(p);
        if (kb_stop_requested(p->settings->stop) && kb_clock_boot_ms() >= deadline_ms) {
            KB_AUTO_ERROR(err);
            (void)kb_fail_retryable(&err, KB_INTERRUPTED,
                                    "stopped; open segments were dropped after %" PRId64 " s",
                                    p->settings->config->limits.shutdown_grace_secs);
            kb_run_fail(&p->control, &err);
        }
    }
}

static void stop_threads(pipeline *p)
{
    if (p->rules.frames != NULL && kb_run_is_cancelled(&p->control)) {
        kb_queue_abort(p->rules.frames); /* pollers that wait for a frame end */
        kb_budget_stop(p->rules.spare);
    }
    for (size_t i = 0; i < p->poller_count; i++) {
        kb_poller_join(p->poller[i]);
        p->poller[i] = NULL;
    }
    drain(p);
    if (p->lanes.encode != NULL) {
        kb_queue_close(p->lanes.encode);
        for (size_t i = 0; i < p->encoder_count; i++)
            pthread_join(p->threads[i], NULL);
        kb_queue_close(p->lanes.publish);
    }
    /* After an error the ledger ends by itself, and publishers that wait for it go on and drop what they
     * hold. */
    for (size_t i = 0; i < p->publisher_count; i++)
        pthread_join(p->threads[p->encoder_count + i], NULL);
    kb_ledger_finish(KB_TAKE(p->ledger));
}

static void free_rules(pipeline *p)
{
    kb_queue_free(p->rules.frames);
    kb_budget_free(p->rules.spare);
    kb_ratelimit_shared_free(p->rules.bytes_limit);
    kb_ratelimit_shared_free(p->rules.records_limit);
}

static void pipeline_done(pipeline *p)
{
    for (size_t i = 0; i < p->pollers.task_count; i++)
        kb_task_done(&p->pollers.tasks[i]);
    free(p->pollers.tasks);
    free_rules(p);
    kb_queue_free(p->lanes.encode);
    kb_queue_free(p->lanes.publish);
    kb_lanes_done(&p->lanes);
    for (size_t i = 0; p->encoders != NULL && i < p->encoder_count; i++)
        kb_frame_encoder_free(p->encoders[i]);
    free(p->encoders);
    free(p->threads);
    kb_map_free(p->by_name);
    kb_backup_free(p->plan);
    kb_run_control_done(&p->control);
}

static kb_code start_all(pipeline *p, kb_kafka_admin *admin, const kb_backup *base,
                         const kb_topic_facts *facts, kb_error *err)
{
    const kb_backup *backup = kb_journal_backup(p->journal);
    p->plan = copy_head(backup);
    if (plan_memory(p, err) != KB_OK)
        return err->code;
    set_lanes(p, count_partitions(backup));
    set_rules(p);
    p->by_name = kb_map_new(NULL);
    p->pollers.tasks = kb_calloc(count_partitions(backup), sizeof *p->pollers.tasks);
    make_tasks(p, backup, base, facts);
    if (start_ledger(p, admin, base, err) != KB_OK)
        return err->code;
    post_empty_partitions(p, backup);
    if (start_encoders(p, err) != KB_OK)
        return err->code;
    return start_pollers(p, err);
}

static void set_pollers(pipeline *p, kb_kafka_admin *admin)
{
    const kb_config_backup *config = &p->settings->config->backup;
    p->pollers = (kb_pollers){
        .kafka = p->settings->kafka,
        .reader_options = {.queue_bytes_per_partition = 0, .fetch_bytes = config->fetch_max_bytes},
        .admin = admin,
        .control = &p->control,
        .progress = p->settings->progress,
        .metrics = p->settings->metrics,
        .warn_unauthorized = config->on_unauthorized_topic == KB_CONFIG_ON_TOPIC_WARN,
    };
}

kb_code kb_pipeline_run(const kb_backup_settings *settings, kb_journal *journal, kb_kafka_admin *admin,
                        const kb_backup *base, const kb_topic_facts *facts, kb_error *err)
{
    pipeline p = {.settings = settings, .journal = journal};
    kb_run_control_init(&p.control, settings->stop);
    set_pollers(&p, admin);
    KB_AUTO_ERROR(start_err);
    if (start_all(&p, admin, base, facts, &start_err) != KB_OK)
        kb_run_fail(&p.control, &start_err);
    else
        watch(&p);
    stop_threads(&p);
    kb_code code = kb_run_take_error(&p.control, err);
    if (code == KB_OK && kb_stop_requested(settings->stop) && atomic_load(&p.pollers.open_tasks) > 0)
        code = kb_fail_retryable(err, KB_INTERRUPTED,
                                 "stopped; what was read is saved, running again continues");
    pipeline_done(&p);
    return code;
}
