#include "worker/report/progress.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/sync/cond.h"

/* Samples come at least this far apart, so the ring below always covers the window. */
#define KB_SAMPLE_MS 900
#define KB_SAMPLES (KB_PROGRESS_WINDOW_MS / KB_SAMPLE_MS + 2)
/* Rows of checks that are kept per severity: more than a report shows. */
#define KB_CHECKS_MAX 10
/* A far end is as good as an unknown one. */
#define KB_ETA_MAX_SECONDS (10.0 * 365 * 86400)
#define KB_RATE_MAX 1e15
/* A finding's own text in its row; the rest of the bound is for "(and N more)". */
#define KB_FINDING_DETAIL_BYTES 220

/* Operations whose report always bears certain counts, 0 included: their absence would leave a doubt. */
#define KB_OPERATION_BACKUP 1u
#define KB_OPERATION_RESTORE 2u
#define KB_OPERATION_VALIDATE 4u

typedef struct kb_sample {
    int64_t boot_ms;
    int64_t records;
    int64_t bytes;
    int64_t work;
} kb_sample;

typedef struct kb_found {
    int64_t count;
    char *detail; /* of the first one */
} kb_found;

typedef struct kb_check_row {
    char *check;
    char *result;
    char *detail;
} kb_check_row;

typedef struct kb_check_list {
    kb_check_row rows[KB_CHECKS_MAX];
    size_t count;
} kb_check_list;

struct kb_progress {
    const kb_clock *clock;

    /* Hot: counted without the lock. What was found rather than moved is kept apart from the rates. */
    _Atomic int64_t records, records_found;
    _Atomic int64_t bytes, bytes_found;
    _Atomic int64_t work, work_found, work_total;
    _Atomic int64_t segments, new_bytes, raw_bytes, resumed, filtered, discontinuities;
    _Atomic int64_t partitions_done;
    _Atomic int64_t last_boot_ms, last_wall_ms;

    pthread_mutex_t lock; /* all below */
    pthread_cond_t changed;
    uint64_t changes;
    bool woken;
    kb_run_state state;
    kb_run_report facts; /* what is set from outside, as it goes into the report */
    int64_t running_boot_ms;
    int64_t end_boot_ms;
    int32_t percent; /* shown so far */
    int32_t partitions_total;
    bool shows_partitions;
    unsigned operation; /* bit of KB_OPERATION_... */
    int64_t gaps, gap_offsets, skipped_topics;
    kb_found found[KB_FINDING_COUNT];
    kb_check_list refusals, warnings;
    bool checks_dropped;
    kb_sample samples[KB_SAMPLES];
    size_t sample_first, sample_count;
};

static int64_t load(_Atomic int64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static void add(_Atomic int64_t *value, int64_t n)
{
    atomic_fetch_add_explicit(value, n, memory_order_relaxed);
}

static char *format_text(const char *fmt, va_list args) __attribute__((format(printf, 1, 0)));
static char *format_text(const char *fmt, va_list args)
{
    char *text = NULL;
    if (vasprintf(&text, fmt, args) < 0)
        kb_out_of_memory();
    return text;
}

static void push_sample(kb_progress *progress, int64_t now)
{
    if (progress->sample_count == KB_SAMPLES) {
        progress->sample_first = (progress->sample_first + 1) % KB_SAMPLES;
        progress->sample_count--;
    }
    progress->samples[(progress->sample_first + progress->sample_count) % KB_SAMPLES] =
        (kb_sample){now, load(&progress->records), load(&progress->bytes), load(&progress->work)};
    progress->sample_count++;
}

static unsigned operation_bit(const char *operation)
{
    static const char *const NAMES[] = {"backup", "restore", "validate"};
    for (size_t i = 0; i < KB_ARRAY_LEN(NAMES); i++)
        if (operation != NULL && strcmp(operation, NAMES[i]) == 0)
            return 1u << i;
    return 0;
}

kb_progress *kb_progress_new(const kb_progress_options *options)
{
    kb_progress *progress = kb_calloc(1, sizeof *progress);
    progress->clock = options->clock != NULL ? options->clock : kb_clock_system();
    progress->operation = operation_bit(options->operation);
    pthread_mutex_init(&progress->lock, NULL);
    kb_cond_init(&progress->changed);
    kb_run_report *facts = &progress->facts;
    kb_run_report_set_number(facts, KB_REPORT_VERSION, KB_RUN_REPORT_VERSION);
    kb_run_report_set_text(facts, KB_REPORT_OPERATION, options->operation);
    kb_run_report_set_text(facts, KB_REPORT_WORKER_VERSION, options->worker_version);
    kb_run_report_set_text(facts, KB_REPORT_JOB_NAME, options->job_name);
    kb_run_report_set_text(facts, KB_REPORT_JOB_UID, options->job_uid);
    kb_run_report_set_text(facts, KB_REPORT_POD_NAME, options->pod_name);
    kb_run_report_set_number(facts, KB_REPORT_ATTEMPT, 1);
    kb_progress_touch(progress);
    kb_run_report_set_time(facts, KB_REPORT_START_TIME, load(&progress->last_wall_ms));
    progress->running_boot_ms = load(&progress->last_boot_ms);
    push_sample(progress, progress->running_boot_ms);
    return progress;
}

static void checks_done(kb_check_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->rows[i].check);
        free(list->rows[i].result);
        free(list->rows[i].detail);
    }
}

void kb_progress_free(kb_progress *owned_progress)
{
    if (owned_progress == NULL)
        return;
    kb_run_report_done(&owned_progress->facts);
    for (size_t i = 0; i < KB_FINDING_COUNT; i++)
        free(owned_progress->found[i].detail);
    checks_done(&owned_progress->refusals);
    checks_done(&owned_progress->warnings);
    pthread_cond_destroy(&owned_progress->changed);
    pthread_mutex_destroy(&owned_progress->lock);
    free(owned_progress);
}

static void announce_locked(kb_progress *progress)
{
    progress->changes++;
    pthread_cond_broadcast(&progress->changed);
}

void kb_progress_set_state(kb_progress *progress, kb_run_state state)
{
    assert(!kb_run_state_is_final(state));
    pthread_mutex_lock(&progress->lock);
    if (!kb_run_state_is_final(progress->state) && progress->state != state) {
        progress->state = state;
        if (state == KB_RUN_RUNNING) {
            /* Rates are those of the work, not of what went before it. */
            progress->running_boot_ms = kb_clock_now_boot_ms(progress->clock);
            progress->sample_count = 0;
            push_sample(progress, progress->running_boot_ms);
        }
        announce_locked(progress);
    }
    pthread_mutex_unlock(&progress->lock);
}

static void forget_counts(kb_progress *progress)
{
    _Atomic int64_t *const counts[] = {
        &progress->records,
        &progress->records_found,
        &progress->bytes,
        &progress->bytes_found,
        &progress->work,
        &progress->work_found,
        &progress->work_total,
        &progress->segments,
        &progress->new_bytes,
        &progress->raw_bytes,
        &progress->resumed,
        &progress->filtered,
        &progress->discontinuities,
        &progress->partitions_done,
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(counts); i++)
        atomic_store_explicit(counts[i], 0, memory_order_relaxed);
}

static void forget_facts_locked(kb_progress *progress)
{
    static const kb_report_field fields[] = {
        KB_REPORT_BASE,        KB_REPORT_FIRST_GAP, KB_REPORT_SKIPPED_NAMES, KB_REPORT_MANIFEST_SHA256,
        KB_REPORT_WAITING_FOR, KB_REPORT_TOPICS,
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(fields); i++)
        kb_run_report_unset(&progress->facts, fields[i]);
    for (size_t i = 0; i < KB_FINDING_COUNT; i++)
        free(progress->found[i].detail);
    memset(progress->found, 0, sizeof progress->found);
    checks_done(&progress->refusals);
    checks_done(&progress->warnings);
    progress->refusals.count = 0;
    progress->warnings.count = 0;
    progress->checks_dropped = false;
    progress->percent = 0;
    progress->gaps = progress->gap_offsets = progress->skipped_topics = 0;
}

void kb_progress_begin_cycle(kb_progress *progress)
{
    pthread_mutex_lock(&progress->lock);
    if (!kb_run_state_is_final(progress->state)) {
        forget_counts(progress);
        forget_facts_locked(progress);
        progress->sample_count = 0;
        push_sample(progress, kb_clock_now_boot_ms(progress->clock));
        progress->state = KB_RUN_PREFLIGHT;
        announce_locked(progress);
    }
    pthread_mutex_unlock(&progress->lock);
    kb_progress_touch(progress);
}

kb_run_state kb_progress_state(kb_progress *progress)
{
    pthread_mutex_lock(&progress->lock);
    kb_run_state state = progress->state;
    pthread_mutex_unlock(&progress->lock);
    return state;
}

void kb_progress_finish(kb_progress *progress, kb_run_state final_state, int exit_code, const char *reason,
                        const char *message)
{
    assert(kb_run_state_is_final(final_state));
    pthread_mutex_lock(&progress->lock);
    if (!kb_run_state_is_final(progress->state)) {
        progress->state = final_state;
        progress->end_boot_ms = kb_clock_now_boot_ms(progress->clock);
        kb_run_report *facts = &progress->facts;
        kb_run_report_set_number(facts, KB_REPORT_EXIT_CODE, exit_code);
        kb_run_report_set_text(facts, KB_REPORT_REASON, reason);
        kb_run_report_set_text(facts, KB_REPORT_MESSAGE, message);
        kb_run_report_set_time(facts, KB_REPORT_COMPLETION_TIME, kb_clock_now_wall_ms(progress->clock));
        kb_run_report_unset(facts, KB_REPORT_WAITING_FOR);
        announce_locked(progress);
    }
    pthread_mutex_unlock(&progress->lock);
}

void kb_progress_set_text(kb_progress *progress, kb_report_field field, const char *text)
{
    pthread_mutex_lock(&progress->lock);
    kb_run_report_set_text(&progress->facts, field, text);
    pthread_mutex_unlock(&progress->lock);
}

void kb_progress_set_number(kb_progress *progress, kb_report_field field, int64_t number)
{
    pthread_mutex_lock(&progress->lock);
    kb_run_report_set_number(&progress->facts, field, number);
    pthread_mutex_unlock(&progress->lock);
}

void kb_progress_set_flag(kb_progress *progress, kb_report_field field, bool flag)
{
    pthread_mutex_lock(&progress->lock);
    kb_run_report_set_flag(&progress->facts, field, flag);
    pthread_mutex_unlock(&progress->lock);
}

void kb_progress_set_time(kb_progress *progress, kb_report_field field, int64_t unix_ms)
{
    pthread_mutex_lock(&progress->lock);
    kb_run_report_set_time(&progress->facts, field, unix_ms);
    pthread_mutex_unlock(&progress->lock);
}

void kb_progress_unset(kb_progress *progress, kb_report_field field)
{
    pthread_mutex_lock(&progress->lock);
    kb_run_report_unset(&progress->facts, field);
    pthread_mutex_unlock(&progress->lock);
}

void kb_progress_touch(kb_progress *progress)
{
    atomic_store_explicit(&progress->last_boot_ms, kb_clock_now_boot_ms(progress->clock),
                          memory_order_relaxed);
    atomic_store_explicit(&progress->last_wall_ms, kb_clock_now_wall_ms(progress->clock),
                          memory_order_relaxed);
}

int64_t kb_progress_idle_ms(kb_progress *progress)
{
    int64_t idle = kb_clock_now_boot_ms(progress->clock) - load(&progress->last_boot_ms);
    return idle > 0 ? idle : 0;
}

int64_t kb_progress_last_ms(kb_progress *progress)
{
    return load(&progress->last_wall_ms);
}

void kb_progress_set_work(kb_progress *progress, int64_t total)
{
    atomic_store_explicit(&progress->work_total, total, memory_order_relaxed);
}

void kb_progress_add_work(kb_progress *progress, int64_t done)
{
    add(&progress->work, done);
    kb_progress_touch(progress);
}

void kb_progress_add_work_found(kb_progress *progress, int64_t done)
{
    add(&progress->work_found, done);
    kb_progress_touch(progress);
}

void kb_progress_add_records(kb_progress *progress, int64_t records, int64_t bytes)
{
    add(&progress->records, records);
    add(&progress->bytes, bytes);
    kb_progress_touch(progress);
}

void kb_progress_add_found(kb_progress *progress, int64_t records, int64_t bytes)
{
    add(&progress->records_found, records);
    add(&progress->bytes_found, bytes);
    kb_progress_touch(progress);
}

void kb_progress_add_segment(kb_progress *progress)
{
    add(&progress->segments, 1);
    kb_progress_touch(progress);
}

void kb_progress_add_new_bytes(kb_progress *progress, int64_t bytes)
{
    add(&progress->new_bytes, bytes);
    kb_progress_touch(progress);
}

void kb_progress_add_raw_bytes(kb_progress *progress, int64_t bytes)
{
    add(&progress->raw_bytes, bytes);
    kb_progress_touch(progress);
}

void kb_progress_add_resumed(kb_progress *progress, int64_t records)
{
    add(&progress->resumed, records);
    kb_progress_touch(progress);
}

void kb_progress_add_filtered(kb_progress *progress, int64_t records)
{
    add(&progress->filtered, records);
    kb_progress_touch(progress);
}

void kb_progress_add_discontinuity(kb_progress *progress)
{
    add(&progress->discontinuities, 1);
}

void kb_progress_set_totals(kb_progress *progress, int32_t topics, int32_t partitions)
{
    pthread_mutex_lock(&progress->lock);
    kb_run_report_set_number(&progress->facts, KB_REPORT_TOPICS_TOTAL, topics);
    kb_run_report_set_number(&progress->facts, KB_REPORT_PARTITIONS_TOTAL, partitions);
    progress->partitions_total = partitions;
    progress->shows_partitions = true;
    pthread_mutex_unlock(&progress->lock);
}

void kb_progress_partition_done(kb_progress *progress)
{
    add(&progress->partitions_done, 1);
    kb_progress_touch(progress);
}

void kb_progress_set_waiting(kb_progress *progress, const char *fmt, ...)
{
    KB_AUTOFREE char *text = NULL;
    if (fmt != NULL) {
        va_list args;
        va_start(args, fmt);
        text = format_text(fmt, args);
        va_end(args);
    }
    kb_progress_set_text(progress, KB_REPORT_WAITING_FOR, text);
}

void kb_progress_add_gap(kb_progress *progress, const char *topic, int32_t partition, int64_t start,
                         int64_t end)
{
    pthread_mutex_lock(&progress->lock);
    if (progress->gaps == 0)
        kb_run_report_set_first_gap(&progress->facts, topic, partition, start, end);
    progress->gaps++;
    progress->gap_offsets += end - start;
    pthread_mutex_unlock(&progress->lock);
}

void kb_progress_skip_topic(kb_progress *progress, const char *topic)
{
    pthread_mutex_lock(&progress->lock);
    progress->skipped_topics++;
    kb_run_report_add_name(&progress->facts, KB_REPORT_SKIPPED_NAMES, topic);
    pthread_mutex_unlock(&progress->lock);
}

void kb_progress_add_held_topic(kb_progress *progress, const char *topic)
{
    pthread_mutex_lock(&progress->lock);
    kb_run_report_add_name(&progress->facts, KB_REPORT_HELD_TOPICS, topic);
    pthread_mutex_unlock(&progress->lock);
}

void kb_progress_clear_held_topics(kb_progress *progress)
{
    kb_progress_unset(progress, KB_REPORT_HELD_TOPICS);
}

void kb_progress_add_catalog(kb_progress *progress, const kb_report_catalog_row *row)
{
    pthread_mutex_lock(&progress->lock);
    kb_run_report_add_catalog(&progress->facts, row);
    pthread_mutex_unlock(&progress->lock);
}

void kb_progress_clear_catalog(kb_progress *progress)
{
    kb_progress_unset(progress, KB_REPORT_CATALOG);
}

void kb_progress_add_topic(kb_progress *progress, const char *topic, int64_t records)
{
    pthread_mutex_lock(&progress->lock);
    kb_run_report_add_topic(&progress->facts, topic, records);
    pthread_mutex_unlock(&progress->lock);
}

void kb_progress_add_group(kb_progress *progress, const char *group, const char *status,
                           int32_t partitions_reset, const char *message)
{
    pthread_mutex_lock(&progress->lock);
    kb_run_report_add_group(&progress->facts, group, status, partitions_reset, message);
    pthread_mutex_unlock(&progress->lock);
}

void kb_progress_add_difference(kb_progress *progress, const char *group, const char *topic,
                                int32_t partition, int64_t expected, int64_t actual)
{
    pthread_mutex_lock(&progress->lock);
    kb_run_report_add_difference(&progress->facts, group, topic, partition, expected, actual);
    pthread_mutex_unlock(&progress->lock);
}

void kb_progress_add_finding(kb_progress *progress, kb_finding finding, const char *topic, int32_t partition,
                             const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    KB_AUTOFREE char *text = format_text(fmt, args);
    va_end(args);
    KB_AUTOFREE char *detail = NULL;
    if (topic == NULL)
        detail = KB_TAKE(text);
    else if (partition < 0)
        detail = kb_asprintf("%s: %s", topic, text);
    else
        detail = kb_asprintf("%s/%" PRId32 ": %s", topic, partition, text);
    pthread_mutex_lock(&progress->lock);
    kb_found *found = &progress->found[finding];
    if (found->count++ == 0)
        found->detail = kb_run_report_clean(detail, KB_FINDING_DETAIL_BYTES);
    pthread_mutex_unlock(&progress->lock);
}

void kb_progress_add_check(kb_progress *progress, const char *check, const char *result, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    KB_AUTOFREE char *detail = format_text(fmt, args);
    va_end(args);
    pthread_mutex_lock(&progress->lock);
    kb_check_list *list = strcmp(result, "refuse") == 0 ? &progress->refusals : &progress->warnings;
    if (list->count < KB_CHECKS_MAX)
        list->rows[list->count++] = (kb_check_row){kb_strdup(check), kb_strdup(result), KB_TAKE(detail)};
    else
        progress->checks_dropped = true;
    pthread_mutex_unlock(&progress->lock);
}

bool kb_progress_first_finding(kb_progress *progress, kb_finding *ret_finding)
{
    bool any = false;
    pthread_mutex_lock(&progress->lock);
    for (size_t i = 0; i < KB_FINDING_COUNT && !any; i++) {
        any = progress->found[i].count > 0;
        if (any)
            *ret_finding = (kb_finding)i;
    }
    pthread_mutex_unlock(&progress->lock);
    return any;
}

bool kb_progress_has_findings(kb_progress *progress)
{
    kb_finding first;
    return kb_progress_first_finding(progress, &first);
}

/* n per second over ms, 0 when there is none. */
static int64_t rate(int64_t n, int64_t ms)
{
    double value = ms > 0 && n > 0 ? (double)n * 1000 / (double)ms : 0;
    return value < KB_RATE_MAX ? (int64_t)value : (int64_t)KB_RATE_MAX;
}

/* The oldest sample inside the window, else the newest there is; there is always one. */
static kb_sample reference_locked(const kb_progress *progress, int64_t now)
{
    size_t at = 0;
    while (at + 1 < progress->sample_count &&
           now - progress->samples[(progress->sample_first + at) % KB_SAMPLES].boot_ms >
               KB_PROGRESS_WINDOW_MS)
        at++;
    return progress->samples[(progress->sample_first + at) % KB_SAMPLES];
}

static void read_rates_locked(kb_progress *progress, kb_progress_counts *counts)
{
    counts->eta_seconds = -1;
    if (kb_run_state_is_final(progress->state)) {
        /* The end is told by the average of the whole run. */
        int64_t ms = progress->end_boot_ms - progress->running_boot_ms;
        counts->records_per_second = rate(load(&progress->records), ms);
        counts->bytes_per_second = rate(load(&progress->bytes), ms);
        return;
    }
    int64_t now = kb_clock_now_boot_ms(progress->clock);
    const kb_sample from = reference_locked(progress, now);
    int64_t ms = now - from.boot_ms;
    counts->records_per_second = rate(load(&progress->records) - from.records, ms);
    counts->bytes_per_second = rate(load(&progress->bytes) - from.bytes, ms);
    double work_per_ms = ms > 0 ? (double)(load(&progress->work) - from.work) / (double)ms : 0;
    int64_t left = counts->work_total - counts->work_done;
    if (counts->work_total > 0 && left <= 0)
        counts->eta_seconds = 0;
    else if (left > 0 && work_per_ms > 0 && (double)left / work_per_ms / 1000 < KB_ETA_MAX_SECONDS)
        counts->eta_seconds = (int64_t)((double)left / work_per_ms / 1000) + 1;
}

/* 100 is for runs that are done; what is shown never falls. */
static int32_t read_percent_locked(kb_progress *progress, const kb_progress_counts *counts)
{
    double share = 0;
    if (counts->work_total > 0)
        share = (double)counts->work_done / (double)counts->work_total;
    else if (progress->partitions_total > 0)
        share = (double)counts->partitions_done / (double)progress->partitions_total;
    int32_t percent = share >= 0.99 ? 99 : share <= 0 ? 0 : (int32_t)(share * 100);
    if (progress->state == KB_RUN_SUCCEEDED || progress->state == KB_RUN_DONE_WITH_FINDINGS)
        percent = 100;
    if (percent > progress->percent)
        progress->percent = percent;
    return progress->percent;
}

static void read_locked(kb_progress *progress, kb_progress_counts *counts)
{
    *counts = (kb_progress_counts){
        .records = load(&progress->records) + load(&progress->records_found),
        .bytes = load(&progress->bytes) + load(&progress->bytes_found),
        .segments = load(&progress->segments),
        .partitions_done = load(&progress->partitions_done),
        .gaps = progress->gaps,
        .gap_offsets = progress->gap_offsets,
        .skipped_topics = progress->skipped_topics,
        .discontinuities = load(&progress->discontinuities),
        .work_done = load(&progress->work) + load(&progress->work_found),
        .work_total = load(&progress->work_total),
    };
    read_rates_locked(progress, counts);
    counts->percent = read_percent_locked(progress, counts);
}

void kb_progress_read(kb_progress *progress, kb_progress_counts *ret_counts)
{
    pthread_mutex_lock(&progress->lock);
    read_locked(progress, ret_counts);
    pthread_mutex_unlock(&progress->lock);
}

void kb_progress_sample(kb_progress *progress)
{
    pthread_mutex_lock(&progress->lock);
    int64_t now = kb_clock_now_boot_ms(progress->clock);
    size_t last = (progress->sample_first + progress->sample_count - 1) % KB_SAMPLES;
    if (now - progress->samples[last].boot_ms >= KB_SAMPLE_MS)
        push_sample(progress, now);
    pthread_mutex_unlock(&progress->lock);
}

/* Refusals first: a report that is too large loses rows from the end. */
static void report_findings_locked(kb_progress *progress, kb_run_report *report)
{
    for (size_t i = 0; i < progress->refusals.count; i++) {
        const kb_check_row *row = &progress->refusals.rows[i];
        kb_run_report_add_finding(report, row->check, row->result, row->detail);
    }
    for (size_t i = 0; i < KB_FINDING_COUNT; i++) {
        const kb_found *found = &progress->found[i];
        if (found->count == 0)
            continue;
        KB_AUTOFREE char *more =
            found->count > 1 ? kb_asprintf("%s (and %" PRId64 " more)", found->detail, found->count - 1)
                             : kb_strdup(found->detail);
        kb_run_report_add_finding(report, kb_finding_name((kb_finding)i), "found", more);
    }
    for (size_t i = 0; i < progress->warnings.count; i++) {
        const kb_check_row *row = &progress->warnings.rows[i];
        kb_run_report_add_finding(report, row->check, row->result, row->detail);
    }
    if (progress->checks_dropped)
        kb_run_report_set_flag(report, KB_REPORT_TRUNCATED, true);
}

static void report_counts_locked(kb_progress *progress, kb_run_report *report)
{
    kb_progress_counts counts;
    read_locked(progress, &counts);
    kb_run_report_set_number(report, KB_REPORT_PERCENT, counts.percent);
    if (counts.eta_seconds >= 0)
        kb_run_report_set_number(report, KB_REPORT_ETA_SECONDS, counts.eta_seconds);
    kb_run_report_set_number(report, KB_REPORT_RECORDS_PER_SECOND, counts.records_per_second);
    kb_run_report_set_number(report, KB_REPORT_BYTES_PER_SECOND, counts.bytes_per_second);
    kb_run_report_set_number(report, KB_REPORT_RECORDS_PROCESSED, counts.records);
    kb_run_report_set_number(report, KB_REPORT_BYTES_PROCESSED, counts.bytes);
    if (progress->shows_partitions)
        kb_run_report_set_number(report, KB_REPORT_PARTITIONS_DONE, counts.partitions_done);
    const struct {
        kb_report_field field;
        unsigned operations;
        int64_t number;
    } some[] = {
        {KB_REPORT_SEGMENTS_COMPLETED, KB_OPERATION_BACKUP, counts.segments},
        {KB_REPORT_NEW_BYTES, KB_OPERATION_BACKUP, load(&progress->new_bytes)},
        {KB_REPORT_RAW_BYTES, KB_OPERATION_BACKUP, load(&progress->raw_bytes)},
        {KB_REPORT_DISCONTINUITIES, KB_OPERATION_BACKUP, counts.discontinuities},
        {KB_REPORT_GAPS, KB_OPERATION_BACKUP | KB_OPERATION_VALIDATE, counts.gaps},
        {KB_REPORT_GAP_OFFSETS, KB_OPERATION_BACKUP | KB_OPERATION_VALIDATE, counts.gap_offsets},
        {KB_REPORT_SKIPPED_TOPICS, KB_OPERATION_BACKUP, counts.skipped_topics},
        {KB_REPORT_RESUMED_RECORDS, KB_OPERATION_RESTORE, load(&progress->resumed)},
        {KB_REPORT_FILTERED_RECORDS, KB_OPERATION_RESTORE, load(&progress->filtered)},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(some); i++)
        if (some[i].number != 0 || (some[i].operations & progress->operation) != 0)
            kb_run_report_set_number(report, some[i].field, some[i].number);
}

void kb_progress_snapshot(kb_progress *progress, kb_run_report *report)
{
    pthread_mutex_lock(&progress->lock);
    kb_run_report_copy(report, &progress->facts);
    kb_run_report_set_state(report, progress->state);
    kb_run_report_set_time(report, KB_REPORT_LAST_PROGRESS_TIME, load(&progress->last_wall_ms));
    report_counts_locked(progress, report);
    report_findings_locked(progress, report);
    pthread_mutex_unlock(&progress->lock);
}

uint64_t kb_progress_changes(kb_progress *progress)
{
    pthread_mutex_lock(&progress->lock);
    uint64_t changes = progress->changes;
    pthread_mutex_unlock(&progress->lock);
    return changes;
}

uint64_t kb_progress_wait_change(kb_progress *progress, uint64_t seen, int64_t timeout_ms)
{
    struct timespec deadline = kb_cond_deadline(timeout_ms);
    pthread_mutex_lock(&progress->lock);
    bool in_time = true;
    while (in_time && progress->changes == seen && !progress->woken)
        in_time = kb_cond_wait_until(&progress->changed, &progress->lock, &deadline);
    progress->woken = false;
    uint64_t changes = progress->changes;
    pthread_mutex_unlock(&progress->lock);
    return changes;
}

void kb_progress_wake(kb_progress *progress)
{
    pthread_mutex_lock(&progress->lock);
    progress->woken = true;
    pthread_cond_broadcast(&progress->changed);
    pthread_mutex_unlock(&progress->lock);
}
