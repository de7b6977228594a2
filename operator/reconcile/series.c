#include "operator/reconcile/series.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "operator/ctrl/conditions.h"

static const double duration_bounds[] = {60, 300, 600, 1800, 3600, 7200, 21600, 86400};
static const char *const phases[] = {"Pending", "Running", "Completed", "Failed"};

/* Families that have one series for each KafkaBackup, labels backup_name and namespace. */
enum kb_backup_series {
    KB_BACKUP_LAST_DURATION,
    KB_BACKUP_SIZE,
    KB_BACKUP_LAST_SUCCESS,
    KB_BACKUP_LAST_FAILURE,
    KB_BACKUP_CREATED,
    KB_BACKUP_INTERVAL,
    KB_BACKUP_EARLIEST,
    KB_BACKUP_LATEST,
    KB_BACKUP_RETAINED,
    KB_BACKUP_GAPS,
    KB_BACKUP_RUNNING,
    KB_BACKUP_STORAGE_UP,
    KB_BACKUP_GAUGES,
    KB_BACKUP_RECORDS = KB_BACKUP_GAUGES,
    KB_BACKUP_BYTES,
    KB_BACKUP_SKIPPED,
    KB_BACKUP_DURATION,
    KB_BACKUP_SERIES
};

#define BACKUP(text, what, how) \
    {.name = "kafka_backup_" text, .help = (what), .type = (how), .labels = {"backup_name", "namespace"}}
static const kb_metric_desc backup_descs[KB_BACKUP_SERIES] = {
    [KB_BACKUP_LAST_DURATION] =
        BACKUP("backup_last_duration_seconds", "Run time of the last finished backup.", KB_METRIC_GAUGE),
    [KB_BACKUP_SIZE] =
        BACKUP("backup_size_bytes", "Stored size of the last successful backup.", KB_METRIC_GAUGE),
    [KB_BACKUP_LAST_SUCCESS] = BACKUP("last_successful_backup_timestamp",
                                      "Unix time of the last successful backup, 0 = never.", KB_METRIC_GAUGE),
    [KB_BACKUP_LAST_FAILURE] = BACKUP("last_failed_backup_timestamp",
                                      "Unix time of the last failed backup, 0 = never.", KB_METRIC_GAUGE),
    [KB_BACKUP_CREATED] = BACKUP("created_timestamp", "Unix time the object was created.", KB_METRIC_GAUGE),
    [KB_BACKUP_INTERVAL] =
        BACKUP("schedule_interval_seconds",
               "Longest distance between two of the next 100 slots, 0 without schedule.", KB_METRIC_GAUGE),
    [KB_BACKUP_EARLIEST] =
        BACKUP("earliest_restorable_timestamp", "Begin of the recovery window.", KB_METRIC_GAUGE),
    [KB_BACKUP_LATEST] =
        BACKUP("latest_restorable_timestamp", "End of the recovery window.", KB_METRIC_GAUGE),
    [KB_BACKUP_RETAINED] = BACKUP("retained_backups", "Complete backups kept.", KB_METRIC_GAUGE),
    [KB_BACKUP_GAPS] = BACKUP("retention_gaps", "Gaps in the last backup with a report.", KB_METRIC_GAUGE),
    [KB_BACKUP_RUNNING] = BACKUP("running", "1 while a run is active.", KB_METRIC_GAUGE),
    [KB_BACKUP_STORAGE_UP] = BACKUP("storage_up", "1 if the last run reached the store.", KB_METRIC_GAUGE),
    [KB_BACKUP_RECORDS] = BACKUP("backup_records_total", "Records in successful backups.", KB_METRIC_COUNTER),
    [KB_BACKUP_BYTES] = BACKUP("backup_bytes_total", "Bytes in successful backups.", KB_METRIC_COUNTER),
    [KB_BACKUP_SKIPPED] =
        BACKUP("backups_skipped_total", "Slots skipped because a run was active.", KB_METRIC_COUNTER),
    [KB_BACKUP_DURATION] = {.name = "kafka_backup_backup_duration_seconds",
                            .help = "Run time of finished backups.",
                            .type = KB_METRIC_HISTOGRAM,
                            .labels = {"backup_name", "namespace"},
                            .bounds = duration_bounds,
                            .bound_count = KB_ARRAY_LEN(duration_bounds)},
};

struct kb_series {
    kb_metric_family *backup[KB_BACKUP_SERIES];
    kb_metric_family *backups_total;
    kb_metric_family *restores_total, *restore_duration, *restore_records, *restore_last_success;
    kb_metric_family *resets_total, *reset_duration, *reset_groups;
    kb_metric_family *rollbacks_total;
    kb_metric_family *resource_status, *resource_phase;
    pthread_mutex_t mutex;
    kb_map *labels; /* "plural/namespace/name": strategy or operation of the series that exist */
};

static kb_metric_family *family(kb_metrics *registry, kb_metric_type type, const char *name, const char *help,
                                const char *const labels[KB_METRIC_LABELS_MAX])
{
    kb_metric_desc desc = {.name = name, .help = help, .type = type};
    for (size_t i = 0; i < KB_METRIC_LABELS_MAX; i++)
        desc.labels[i] = labels[i];
    if (type == KB_METRIC_HISTOGRAM) {
        desc.bounds = duration_bounds;
        desc.bound_count = KB_ARRAY_LEN(duration_bounds);
    }
    return kb_metrics_family(registry, &desc);
}

kb_series *kb_series_new(kb_metrics *registry)
{
    static const char *const backup[] = {"backup_name", "namespace", "outcome", NULL};
    static const char *const restore[] = {"restore_name", "namespace", NULL, NULL};
    static const char *const restore_outcome[] = {"restore_name", "namespace", "outcome", NULL};
    static const char *const reset[] = {"reset_name", "namespace", "strategy", NULL};
    static const char *const reset_outcome[] = {"reset_name", "namespace", "strategy", "outcome"};
    static const char *const rollback[] = {"rollback_name", "namespace", "operation", "outcome"};
    static const char *const resource[] = {"kind", "name", "namespace", NULL};
    static const char *const phase[] = {"kind", "name", "namespace", "phase"};
    kb_series *s = kb_calloc(1, sizeof *s);
    s->backups_total = family(registry, KB_METRIC_COUNTER, "kafka_backup_backups_total",
                              "Finished backups by outcome.", backup);
    for (size_t i = 0; i < KB_BACKUP_SERIES; i++)
        s->backup[i] = kb_metrics_family(registry, &backup_descs[i]);
    s->restores_total = family(registry, KB_METRIC_COUNTER, "kafka_backup_restores_total",
                               "Finished restores by outcome.", restore_outcome);
    s->restore_duration = family(registry, KB_METRIC_HISTOGRAM, "kafka_backup_restore_duration_seconds",
                                 "Run time of finished restores.", restore);
    s->restore_records = family(registry, KB_METRIC_COUNTER, "kafka_backup_restore_records_total",
                                "Records restored.", restore);
    s->restore_last_success =
        family(registry, KB_METRIC_GAUGE, "kafka_backup_last_successful_restore_timestamp",
               "Unix time of the last successful restore, 0 = never.", restore);
    s->resets_total = family(registry, KB_METRIC_COUNTER, "kafka_backup_offset_resets_total",
                             "Finished offset resets by outcome.", reset_outcome);
    s->reset_duration = family(registry, KB_METRIC_HISTOGRAM, "kafka_backup_offset_reset_duration_seconds",
                               "Run time of finished offset resets.", reset);
    s->reset_groups = family(registry, KB_METRIC_COUNTER, "kafka_backup_offset_reset_groups_total",
                             "Groups whose offsets were set.", reset);
    s->rollbacks_total = family(registry, KB_METRIC_COUNTER, "kafka_backup_offset_rollbacks_total",
                                "Finished offset operations by outcome.", rollback);
    s->resource_status =
        family(registry, KB_METRIC_GAUGE, "kafka_backup_resource_status", "1 = ready.", resource);
    s->resource_phase = family(registry, KB_METRIC_GAUGE, "kafka_backup_resource_phase",
                               "1 for the current phase, 0 for the others.", phase);
    pthread_mutex_init(&s->mutex, NULL);
    s->labels = kb_map_new(free);
    return s;
}

void kb_series_free(kb_series *owned_series)
{
    if (owned_series == NULL)
        return;
    kb_map_free(owned_series->labels);
    pthread_mutex_destroy(&owned_series->mutex);
    free(owned_series);
}

/* ---- values ---- */

static void set_gauge(kb_metric_family *f, const char *const *labels, double value)
{
    kb_metric_set(kb_metric_series(f, labels), value);
}

/* Raises a counter to what the status counts; it never falls while the process lives. */
static void raise_counter(kb_metric_family *f, const char *const *labels, int64_t total)
{
    kb_metric *metric = kb_metric_series(f, labels);
    uint64_t shown = kb_metric_count(metric);
    if (total > 0 && (uint64_t)total > shown)
        kb_metric_add(metric, (uint64_t)total - shown);
}

static double time_of(const json_t *object, const char *name)
{
    int64_t ms = 0;
    return kb_tree_time(&ms, object, name, NULL) ? (double)ms / 1000 : 0;
}

static double newest_success(const json_t *status)
{
    const json_t *history = kb_tree_at(status, "backupHistory", NULL);
    for (size_t i = 0; i < json_array_size(history); i++)
        if (strcmp(kb_tree_text_or_empty(json_array_get(history, i), "outcome", NULL), "success") == 0)
            return time_of(json_array_get(history, i), "completionTime");
    return 0;
}

static bool is_storage_reason(const char *reason)
{
    return strncmp(reason, "Storage", 7) == 0;
}

static void update_backup(kb_series *s, const json_t *object, const char *const *labels,
                          const kb_series_facts *facts)
{
    const json_t *status = kb_tree_at(object, "status", NULL);
    const json_t *newest = json_array_get(kb_tree_at(status, "backupHistory", NULL), 0);
    const json_t *run = kb_tree_at(status, "run", NULL);
    bool is_backup = strcmp(kb_tree_text_or_empty(run, "operation", NULL), "backup") == 0;
    double started = time_of(newest, "startTime"), ended = time_of(newest, "completionTime");
    int64_t created = 0;
    (void)!kb_tree_time(&created, object, "metadata", "creationTimestamp", NULL);
    const double values[KB_BACKUP_GAUGES] = {
        [KB_BACKUP_LAST_DURATION] = started > 0 && ended > started ? ended - started : 0,
        [KB_BACKUP_SIZE] = (double)kb_tree_i64(0, status, "lastBackupSize", NULL),
        [KB_BACKUP_LAST_SUCCESS] = newest_success(status),
        [KB_BACKUP_LAST_FAILURE] = time_of(status, "lastFailureTime"),
        [KB_BACKUP_CREATED] = (double)created / 1000,
        [KB_BACKUP_INTERVAL] = (double)facts->schedule_interval_secs,
        [KB_BACKUP_EARLIEST] = time_of(status, "earliestRecoverableTime"),
        [KB_BACKUP_LATEST] = time_of(status, "latestRecoverableTime"),
        [KB_BACKUP_RETAINED] = (double)kb_tree_i64(0, status, "retainedBackups", NULL),
        [KB_BACKUP_GAPS] = is_backup ? (double)kb_tree_i64(0, run, "gaps", NULL) : 0,
        [KB_BACKUP_RUNNING] = kb_tree_at(status, "activeJob", NULL) != NULL ? 1 : 0,
        [KB_BACKUP_STORAGE_UP] =
            newest != NULL && !is_storage_reason(kb_tree_text_or_empty(newest, "reason", NULL)) ? 1 : 0,
    };
    for (size_t i = 0; i < KB_BACKUP_GAUGES; i++)
        set_gauge(s->backup[i], labels, values[i]);
    const json_t *totals = kb_tree_at(status, "totals", NULL);
    raise_counter(s->backup[KB_BACKUP_RECORDS], labels, kb_tree_i64(0, totals, "records", NULL));
    raise_counter(s->backup[KB_BACKUP_BYTES], labels, kb_tree_i64(0, totals, "bytes", NULL));
    raise_counter(s->backup[KB_BACKUP_SKIPPED], labels, kb_tree_i64(0, totals, "skipped", NULL));
    (void)kb_metric_series(s->backup[KB_BACKUP_DURATION], labels);
    const char *const good[] = {labels[0], labels[1], "success"}, *const bad[] = {labels[0], labels[1],
                                                                                  "failure"};
    raise_counter(s->backups_total, good, kb_tree_i64(0, totals, "succeeded", NULL));
    raise_counter(s->backups_total, bad, kb_tree_i64(0, totals, "failed", NULL));
}

/* Whether the object ended well, badly or not yet. */
static void outcome_of(const json_t *status, int64_t *ret_good, int64_t *ret_bad)
{
    const json_t *conditions = kb_tree_at(status, "conditions", NULL);
    *ret_good = kb_condition_is(conditions, "Complete", KB_TRUE);
    *ret_bad = kb_condition_is(conditions, "Failed", KB_TRUE);
}

static void update_restore(kb_series *s, const json_t *object, const char *const *labels)
{
    const json_t *status = kb_tree_at(object, "status", NULL);
    int64_t good = 0, bad = 0;
    outcome_of(status, &good, &bad);
    const char *const with_good[] = {labels[0], labels[1], "success"};
    const char *const with_bad[] = {labels[0], labels[1], "failure"};
    raise_counter(s->restores_total, with_good, good);
    raise_counter(s->restores_total, with_bad, bad);
    raise_counter(s->restore_records, labels, kb_tree_i64(0, status, "restoredRecords", NULL));
    (void)kb_metric_series(s->restore_duration, labels);
    set_gauge(s->restore_last_success, labels, good > 0 ? time_of(status, "completionTime") : 0);
}

/* "headerBased" is header_based in labels. Owned. */
static char *label_word(const char *word)
{
    KB_AUTO_STRBUF(label, 64);
    for (; *word != '\0'; word++) {
        if (*word >= 'A' && *word <= 'Z')
            kb_strbuf_appendf(&label, "_%c", *word - 'A' + 'a');
        else
            kb_strbuf_appendc(&label, *word);
    }
    char *taken = kb_strbuf_take(&label);
    return taken != NULL ? taken : kb_strdup("");
}

static void update_offsets(kb_series *s, kb_kind kind, const json_t *object, const char *const *labels,
                           const char *word)
{
    const json_t *status = kb_tree_at(object, "status", NULL);
    int64_t good = 0, bad = 0;
    outcome_of(status, &good, &bad);
    bool is_reset = kind == KB_KIND_OFFSET_RESET;
    kb_metric_family *total = is_reset ? s->resets_total : s->rollbacks_total;
    const char *const with_good[] = {labels[0], labels[1], word, "success"};
    const char *const with_bad[] = {labels[0], labels[1], word, "failure"};
    raise_counter(total, with_good, good);
    raise_counter(total, with_bad, bad);
    if (is_reset) {
        const char *const with_word[] = {labels[0], labels[1], word};
        raise_counter(s->reset_groups, with_word, kb_tree_i64(0, status, "groupsReset", NULL));
        (void)kb_metric_series(s->reset_duration, with_word);
    }
}

static void update_resource(kb_series *s, kb_kind kind, const json_t *object, const char *const *labels)
{
    const char *kind_name = kb_kind_info_of(kind)->kind;
    const json_t *status = kb_tree_at(object, "status", NULL);
    bool is_ready = kb_condition_is(kb_tree_at(status, "conditions", NULL), "Ready", KB_TRUE);
    const char *const resource[] = {kind_name, labels[0], labels[1]};
    set_gauge(s->resource_status, resource, is_ready ? 1 : 0);
    const char *phase = kb_tree_text_or_empty(status, "phase", NULL);
    for (size_t i = 0; i < KB_ARRAY_LEN(phases); i++) {
        const char *const with_phase[] = {kind_name, labels[0], labels[1], phases[i]};
        set_gauge(s->resource_phase, with_phase, strcmp(phase, phases[i]) == 0 ? 1 : 0);
    }
}

static char *key_of(kb_kind kind, const char *name_space, const char *name)
{
    return kb_asprintf("%s/%s/%s", kb_kind_info_of(kind)->plural, name_space, name);
}

void kb_series_update(kb_series *series, kb_kind kind, const json_t *object, const kb_series_facts *facts)
{
    if (series == NULL)
        return;
    const char *const labels[] = {kb_tree_text_or_empty(object, "metadata", "name", NULL),
                                  kb_tree_text_or_empty(object, "metadata", "namespace", NULL)};
    const char *field = kind == KB_KIND_OFFSET_RESET ? "strategy" : "operation";
    KB_AUTOFREE char *word = label_word(kb_tree_text_or_empty(object, "spec", field, NULL));
    KB_AUTOFREE char *key = key_of(kind, labels[1], labels[0]);
    pthread_mutex_lock(&series->mutex);
    const char *old_word = kb_map_gets(series->labels, key);
    bool has_changed = old_word != NULL && strcmp(old_word, word) != 0;
    pthread_mutex_unlock(&series->mutex);
    if (has_changed)
        kb_series_drop(series, kind, labels[1], labels[0]);
    pthread_mutex_lock(&series->mutex);
    kb_map_puts(series->labels, key, kb_strdup(word));
    pthread_mutex_unlock(&series->mutex);
    if (kind == KB_KIND_BACKUP)
        update_backup(series, object, labels, facts);
    else if (kind == KB_KIND_RESTORE)
        update_restore(series, object, labels);
    else
        update_offsets(series, kind, object, labels, word);
    update_resource(series, kind, object, labels);
}

void kb_series_observe(kb_series *series, kb_kind kind, const json_t *object, const char *outcome,
                       int64_t seconds)
{
    (void)outcome;
    if (series == NULL || seconds < 0)
        return;
    const char *const labels[] = {kb_tree_text_or_empty(object, "metadata", "name", NULL),
                                  kb_tree_text_or_empty(object, "metadata", "namespace", NULL), NULL};
    kb_metric_family *family = kind == KB_KIND_BACKUP    ? series->backup[KB_BACKUP_DURATION]
                               : kind == KB_KIND_RESTORE ? series->restore_duration
                                                         : NULL;
    if (family != NULL)
        kb_metric_observe(kb_metric_series(family, labels), (double)seconds);
}

static void drop_backup(kb_series *s, const char *const *labels)
{
    for (size_t i = 0; i < KB_BACKUP_SERIES; i++)
        kb_metric_remove(s->backup[i], labels);
    const char *const good[] = {labels[0], labels[1], "success"}, *const bad[] = {labels[0], labels[1],
                                                                                  "failure"};
    kb_metric_remove(s->backups_total, good);
    kb_metric_remove(s->backups_total, bad);
}

static void drop_restore(kb_series *s, const char *const *labels)
{
    const char *const good[] = {labels[0], labels[1], "success"}, *const bad[] = {labels[0], labels[1],
                                                                                  "failure"};
    kb_metric_remove(s->restore_duration, labels);
    kb_metric_remove(s->restore_records, labels);
    kb_metric_remove(s->restore_last_success, labels);
    kb_metric_remove(s->restores_total, good);
    kb_metric_remove(s->restores_total, bad);
}

static void drop_offsets(kb_series *s, kb_kind kind, const char *const *labels, const char *word)
{
    bool is_reset = kind == KB_KIND_OFFSET_RESET;
    const char *const with_word[] = {labels[0], labels[1], word};
    const char *const good[] = {labels[0], labels[1], word, "success"};
    const char *const bad[] = {labels[0], labels[1], word, "failure"};
    kb_metric_remove(is_reset ? s->resets_total : s->rollbacks_total, good);
    kb_metric_remove(is_reset ? s->resets_total : s->rollbacks_total, bad);
    if (!is_reset)
        return;
    kb_metric_remove(s->reset_duration, with_word);
    kb_metric_remove(s->reset_groups, with_word);
}

void kb_series_drop(kb_series *series, kb_kind kind, const char *name_space, const char *name)
{
    if (series == NULL)
        return;
    const char *const labels[] = {name, name_space};
    KB_AUTOFREE char *key = key_of(kind, name_space, name);
    pthread_mutex_lock(&series->mutex);
    const char *known = kb_map_gets(series->labels, key);
    KB_AUTOFREE char *word = kb_strdup(known != NULL ? known : "");
    kb_map_removes(series->labels, key);
    pthread_mutex_unlock(&series->mutex);
    if (kind == KB_KIND_BACKUP)
        drop_backup(series, labels);
    else if (kind == KB_KIND_RESTORE)
        drop_restore(series, labels);
    else
        drop_offsets(series, kind, labels, word);
    const char *kind_name = kb_kind_info_of(kind)->kind;
    const char *const resource[] = {kind_name, name, name_space};
    kb_metric_remove(series->resource_status, resource);
    for (size_t i = 0; i < KB_ARRAY_LEN(phases); i++) {
        const char *const with_phase[] = {kind_name, name, name_space, phases[i]};
        kb_metric_remove(series->resource_phase, with_phase);
    }
}
