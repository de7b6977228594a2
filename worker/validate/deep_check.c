#include "worker/validate/deep_check.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "worker/catalog/layout.h"
#include "worker/segment/segment_reader.h"

#define KB_DEEP_THREADS_MAX 64
/* A thread with less cannot hold a usual segment and a frame. */
#define KB_DEEP_SHARE_MIN_BYTES ((uint64_t)16 << 20)

/* What was read of a partition; compared with the backup when nothing of it is missing. */
typedef struct partition_sum {
    kb_digest digest;
    int64_t records;
    uint32_t segments;
} partition_sum;

typedef struct deep_run {
    const kb_deep_options *options;
    kb_object_table *table;
    pthread_mutex_t lock; /* of all below */
    kb_problem_list *problems;
    size_t next;
    size_t large_count;
    kb_object_state wanted; /* objects in this state are read */
    kb_deep_counts counts;
    partition_sum *sums;
    kb_error error; /* the first that ends the check */
} deep_run;

bool kb_sample_has(kb_sample sample, const char *key)
{
    if (sample.parts <= 1)
        return true;
    uint8_t sha256[KB_SHA256_SIZE];
    kb_sha256(key, strlen(key), sha256);
    uint64_t hash;
    memcpy(&hash, sha256, sizeof hash);
    return hash % sample.parts == sample.index - 1;
}

/* ---- reading one object ---- */

typedef struct object_reader {
    const deep_run *run;
    const char *key;
    uint64_t left; /* of its size, to be counted as work: a large object is read twice */
} object_reader;

static bool is_stopped(const deep_run *run)
{
    return run->options->stop != NULL && kb_stop_requested(run->options->stop);
}

static kb_code read_range(void *ctx, uint64_t offset, void *to, size_t len, kb_error *err)
{
    object_reader *reader = ctx;
    const kb_deep_options *options = reader->run->options;
    if (is_stopped(reader->run))
        return kb_fail(err, KB_ERR_STOPPED, "stopped while reading '%s'", reader->key);
    int64_t began_us = kb_clock_boot_us();
    kb_code code = kb_storage_get_range(options->storage, reader->key, offset, to, len, err);
    if (code != KB_OK)
        return code;
    if (options->metrics != NULL)
        kb_run_metrics_store_op(options->metrics, KB_STORE_OP_GET_RANGE, kb_clock_boot_us() - began_us, len);
    uint64_t counted = len < reader->left ? len : reader->left;
    reader->left -= counted;
    if (options->progress != NULL)
        kb_progress_add_work(options->progress, (int64_t)counted);
    return KB_OK;
}

static kb_segment_expect expectation(const kb_object_table *table, const kb_object *object, const char *key)
{
    const kb_backup *backup = table->backup;
    const kb_topic_entry *topic = kb_object_topic(table, object);
    const kb_segment_entry *segment = kb_object_segment(table, object);
    kb_segment_expect expect = KB_SEGMENT_EXPECT_INIT;
    expect.key = key;
    expect.size = (uint64_t)segment->bytes;
    expect.raw_bytes = (uint64_t)segment->raw_bytes;
    expect.count = segment->count;
    expect.start = segment->start;
    expect.end = segment->end;
    expect.partition = kb_object_partition(table, object)->partition;
    if (segment->has_hashes) {
        expect.sha256 = segment->sha256;
        expect.digest = &segment->digest;
    }
    if (backup->foreign)
        return expect;
    expect.from = segment->from;
    expect.to = segment->to;
    expect.has_timestamps = true;
    expect.min_timestamp = segment->min_ts;
    expect.max_timestamp = segment->max_ts;
    expect.topic_id = topic->has_topic_id ? topic->topic_id : NULL;
    expect.own_block = backup->content.offset_headers ? 1 : 0;
    return expect;
}

/* What the reader does not compare, since restoring does not need it. */
static kb_code check_codec(const kb_object_table *table, const kb_object *object, const kb_segment_info *info,
                           kb_error *err)
{
    const kb_segment_entry *segment = kb_object_segment(table, object);
    if (table->backup->foreign || segment->codec == (uint8_t)info->codec)
        return KB_OK;
    return kb_fail(err, KB_BACKUP_CORRUPT, "its codec is %d, the backup says %d", (int)info->codec,
                   (int)segment->codec);
}

static kb_code verify_object(const deep_run *run, kb_segment_reader *reader, const kb_object *object,
                             const char *key, kb_segment_info *ret_info, kb_error *err)
{
    object_reader from = {run, key, object->size_bytes};
    kb_segment_source source = {&from, object->size_bytes, read_range};
    kb_segment_expect expect = expectation(run->table, object, key);
    kb_code code = kb_segment_verify(reader, &source, &expect, ret_info, err);
    return code == KB_OK ? check_codec(run->table, object, ret_info, err) : code;
}

/* ---- what became of it ---- */

static kb_object_fault fault_of(const kb_segment_reader *reader)
{
    switch (kb_segment_reader_fault(reader)) {
    case KB_SEGMENT_FAULT_SIZE:
        return KB_FAULT_SIZE;
    case KB_SEGMENT_FAULT_FOREIGN:
        return KB_FAULT_FOREIGN;
    case KB_SEGMENT_FAULT_NONE:
    case KB_SEGMENT_FAULT_MISMATCH:
        break;
    }
    return KB_FAULT_MISMATCH;
}

/* False when the error says nothing about the object, so that the check cannot go on. */
static bool is_object_fault(kb_code code, const kb_segment_reader *reader, kb_object_fault *ret_fault)
{
    if (code == KB_BACKUP_CORRUPT)
        *ret_fault = fault_of(reader);
    else if (code == KB_ERR_NOT_FOUND)
        *ret_fault = KB_FAULT_MISSING;
    else if (code == KB_ERR_FORMAT || code == KB_ERR_TOO_LARGE)
        *ret_fault = KB_FAULT_MISMATCH;
    else if (code == KB_STORAGE_IO_ERROR)
        *ret_fault = KB_FAULT_UNREADABLE;
    else
        return false;
    return true;
}

static void count_good(deep_run *run, kb_object *object, const kb_segment_info *info)
{
    partition_sum *sum = &run->sums[object->place];
    pthread_mutex_lock(&run->lock);
    kb_digest_add(&sum->digest, &info->digest);
    sum->records += (int64_t)info->count;
    sum->segments++;
    run->counts.segments++;
    run->counts.records += (int64_t)info->count;
    run->counts.bytes += (int64_t)info->bytes;
    pthread_mutex_unlock(&run->lock);
    object->state = KB_OBJECT_PRESENT;
    if (run->options->progress == NULL)
        return;
    kb_progress_add_segment(run->options->progress);
    kb_progress_add_records(run->options->progress, (int64_t)info->count, (int64_t)info->bytes);
}

static void count_bad(deep_run *run, kb_object *object, kb_object_fault fault, const char *key,
                      const char *detail)
{
    object->state = KB_OBJECT_BAD;
    pthread_mutex_lock(&run->lock);
    kb_problem_list_add(run->problems, kb_object_rank(run->table, object), fault, key, detail);
    run->counts.segments++;
    pthread_mutex_unlock(&run->lock);
}

/* Postpones it the first time; the second time all of the memory was too little. */
static bool postpone(deep_run *run, kb_object *object, kb_code code)
{
    if (code != KB_MEMORY_TOO_SMALL || object->state == KB_OBJECT_LARGE)
        return false;
    object->state = KB_OBJECT_LARGE;
    pthread_mutex_lock(&run->lock);
    run->large_count++;
    pthread_mutex_unlock(&run->lock);
    return true;
}

static void end_all(deep_run *run, kb_error *err)
{
    pthread_mutex_lock(&run->lock);
    if (run->error.code == KB_OK)
        kb_error_move(&run->error, err);
    pthread_mutex_unlock(&run->lock);
}

static void check_object(deep_run *run, kb_segment_reader *reader, kb_object *object, const char *key)
{
    KB_AUTO_ERROR(err);
    kb_segment_info info;
    kb_object_fault fault;
    kb_code code = verify_object(run, reader, object, key, &info, &err);
    if (code == KB_OK) {
        count_good(run, object, &info);
    } else if (is_object_fault(code, reader, &fault)) {
        count_bad(run, object, fault, key, kb_error_text(&err));
    } else if (!postpone(run, object, code)) {
        end_all(run, &err);
    }
}

/* ---- threads ---- */

static kb_object *next_object(deep_run *run)
{
    kb_object *object = NULL;
    pthread_mutex_lock(&run->lock);
    while (run->error.code == KB_OK && object == NULL && run->next < run->table->count) {
        kb_object *candidate = &run->table->objects[run->next++];
        if (candidate->state == run->wanted)
            object = candidate;
    }
    pthread_mutex_unlock(&run->lock);
    return object;
}

typedef struct deep_thread {
    deep_run *run;
    kb_segment_reader_opts opts;
    pthread_t id;
    bool is_running;
} deep_thread;

static void *check_objects(void *arg)
{
    const deep_thread *thread = arg;
    deep_run *run = thread->run;
    KB_CLEANUP(kb_segment_reader_free_at) kb_segment_reader *reader = kb_segment_reader_new(&thread->opts);
    kb_object *object;
    while ((object = next_object(run)) != NULL) {
        KB_AUTOFREE char *key = kb_object_table_key(run->table, object);
        if (kb_sample_has(run->options->sample, key))
            check_object(run, reader, object, key);
    }
    return NULL;
}

/* How one reader spends `share` bytes: half holds the object, the rest is for ranges and records. */
static kb_segment_reader_opts reader_opts(uint64_t share)
{
    uint64_t held = share / 2 < KB_READER_HELD_BYTES ? share / 2 : KB_READER_HELD_BYTES;
    uint64_t range = share / 8 < KB_READER_RANGE_BYTES ? share / 8 : KB_READER_RANGE_BYTES;
    uint64_t area = share - held - range;
    if (area > KB_READER_AREA_MAX_BYTES)
        area = KB_READER_AREA_MAX_BYTES;
    return (kb_segment_reader_opts){.held_bytes = (size_t)held,
                                    .range_bytes = (size_t)range,
                                    .max_area_bytes = (size_t)area,
                                    .deep = true};
}

static uint32_t thread_count(const deep_run *run)
{
    uint64_t count = run->options->threads;
    uint64_t affordable = run->options->memory_bytes / KB_DEEP_SHARE_MIN_BYTES;
    if (count > KB_DEEP_THREADS_MAX)
        count = KB_DEEP_THREADS_MAX;
    if (count > affordable)
        count = affordable;
    if (count > run->table->count)
        count = run->table->count;
    return count > 0 ? (uint32_t)count : 1;
}

/* The calling thread is one of them, so a thread that the system refuses only makes it slower. */
static void run_threads(deep_run *run)
{
    uint32_t count = thread_count(run);
    kb_segment_reader_opts opts = reader_opts(run->options->memory_bytes / count);
    deep_thread *threads KB_AUTOFREE = kb_calloc(count, sizeof *threads);
    for (uint32_t i = 0; i < count; i++) {
        threads[i] = (deep_thread){.run = run, .opts = opts};
        if (i > 0)
            threads[i].is_running = pthread_create(&threads[i].id, NULL, check_objects, &threads[i]) == 0;
    }
    check_objects(&threads[0]);
    for (uint32_t i = 1; i < count; i++)
        if (threads[i].is_running)
            pthread_join(threads[i].id, NULL);
}

static void run_large(deep_run *run)
{
    deep_thread thread = {.run = run, .opts = reader_opts(run->options->memory_bytes)};
    /* Nothing is held: what matters is room for the record. */
    thread.opts.max_area_bytes += thread.opts.held_bytes - thread.opts.range_bytes;
    thread.opts.held_bytes = thread.opts.range_bytes;
    run->wanted = KB_OBJECT_LARGE;
    run->next = 0;
    check_objects(&thread);
}

/* ---- the whole ---- */

static void check_sum(deep_run *run, const kb_object_place *place, const partition_sum *sum)
{
    const kb_backup *backup = run->table->backup;
    const kb_topic_entry *topic = &backup->topics[place->topic];
    const kb_partition_entry *partition = &topic->partitions[place->partition];
    bool is_equal =
        sum->records == partition->records && kb_digest_is_equal(&sum->digest, &partition->digest);
    if (sum->segments != partition->segment_count || is_equal)
        return;
    KB_AUTOFREE char *key = kb_layout_backup_json_key(backup->backup_id);
    KB_AUTOFREE char *detail = kb_asprintf("topic '%s' partition %" PRId32 ": the segments have %" PRId64
                                           " records whose digest is not the partition's",
                                           topic->name, partition->partition, sum->records);
    kb_problem_list_add(run->problems, KB_PROBLEM_RANK_INDEX, KB_FAULT_MISMATCH, key, detail);
}

static void set_work(const deep_run *run)
{
    int64_t bytes = 0;
    for (size_t i = 0; i < run->table->count; i++) {
        const kb_object *object = &run->table->objects[i];
        KB_AUTOFREE char *key = kb_object_table_key(run->table, object);
        if (object->state == KB_OBJECT_PRESENT && kb_sample_has(run->options->sample, key))
            bytes += (int64_t)object->size_bytes;
    }
    kb_progress_set_work(run->options->progress, bytes);
}

kb_code kb_deep_check(const kb_deep_options *options, kb_object_table *table, kb_problem_list *problems,
                      kb_deep_counts *ret_counts, kb_error *err)
{
    deep_run run = {.options = options, .table = table, .problems = problems, .wanted = KB_OBJECT_PRESENT};
    partition_sum *sums KB_AUTOFREE = kb_calloc(table->place_count, sizeof *sums);
    run.sums = sums;
    pthread_mutex_init(&run.lock, NULL);
    if (options->progress != NULL)
        set_work(&run);
    run_threads(&run);
    if (run.error.code == KB_OK && run.large_count > 0)
        run_large(&run);
    pthread_mutex_destroy(&run.lock);
    kb_code code = run.error.code;
    if (code != KB_OK) {
        kb_error_move(err, &run.error);
        return code;
    }
    for (size_t i = 0; i < table->place_count && !table->backup->foreign; i++)
        check_sum(&run, &table->places[i], &sums[i]);
    *ret_counts = run.counts;
    return KB_OK;
}
