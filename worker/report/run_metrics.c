#include "worker/report/run_metrics.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

#define KB_ON_BACKUP (1u << KB_RUN_KIND_BACKUP)
#define KB_ON_RESTORE (1u << KB_RUN_KIND_RESTORE)
#define KB_ON_VALIDATE (1u << KB_RUN_KIND_VALIDATE)
#define KB_ON_PRUNE (1u << KB_RUN_KIND_PRUNE)
#define KB_ON_OFFSETS (1u << KB_RUN_KIND_OFFSETS)
#define KB_ON_ALL (KB_ON_BACKUP | KB_ON_RESTORE | KB_ON_VALIDATE | KB_ON_PRUNE | KB_ON_OFFSETS)
#define KB_ON_LINEAGE (KB_ON_BACKUP | KB_ON_PRUNE)
#define KB_ON_KAFKA (KB_ON_BACKUP | KB_ON_RESTORE | KB_ON_OFFSETS)

#define KB_KAFKA_ADMIN_ENDPOINT "kafka-admin"

static const double LATENCY_BOUNDS[] = {.01, .05, .1, .25, .5, 1, 2.5, 5, 10};

static const char *const CLASS_NAMES[] = {
    [KB_CLASS_KAFKA_TRANSIENT] = "kafka_transient",
    [KB_CLASS_KAFKA_PERMISSION] = "kafka_permission",
    [KB_CLASS_KAFKA_CONFIGURATION] = "kafka_configuration",
    [KB_CLASS_KAFKA_FENCED] = "kafka_fenced",
    [KB_CLASS_STORE_TRANSIENT] = "store_transient",
    [KB_CLASS_STORE_CREDENTIALS] = "store_credentials",
    [KB_CLASS_STORE_PERMISSION] = "store_permission",
    [KB_CLASS_STORE_CONFIGURATION] = "store_configuration",
    [KB_CLASS_STORE_CLOCK] = "store_clock",
    [KB_CLASS_FILESYSTEM] = "filesystem",
    [KB_CLASS_MEMORY] = "memory",
};

static const char *const RETRY_NAMES[] = {
    [KB_RETRY_FETCH] = "fetch",
    [KB_RETRY_PRODUCE] = "produce",
    [KB_RETRY_METADATA] = "metadata",
    [KB_RETRY_OFFSETS] = "offsets",
    [KB_RETRY_TOPICS] = "topics",
    [KB_RETRY_CONFIGS] = "configs",
    [KB_RETRY_GROUPS] = "groups",
    [KB_RETRY_STORAGE_READ] = "storage_read",
    [KB_RETRY_STORAGE_WRITE] = "storage_write",
};

static const char *const STORE_OP_NAMES[] = {
    [KB_STORE_OP_GET_RANGE] = "get_range",
    [KB_STORE_OP_HEAD] = "head",
    [KB_STORE_OP_LIST] = "list",
    [KB_STORE_OP_PUT] = "put",
    [KB_STORE_OP_PUT_IF_ABSENT] = "put_if_absent",
    [KB_STORE_OP_UPLOAD_PART] = "upload_part",
    [KB_STORE_OP_UPLOAD_COMPLETE] = "upload_complete",
    [KB_STORE_OP_REMOVE] = "remove",
};

static const char *const OUTCOME_NAMES[] = {
    [KB_GROUP_OUTCOME_SUCCESS] = "success",
    [KB_GROUP_OUTCOME_FAILURE] = "failure",
};

/* Sets of labels that are fixed for a run. */
typedef enum label_set {
    LABELS_BACKUP,
    LABELS_ALGORITHM,
    LABELS_LINEAGE,
    LABELS_RESTORE,
    LABELS_BACKEND,
    LABELS_COMMAND,
    LABELS_VERSION,
    LABELS_NONE
} label_set;

static const char *const LABEL_NAMES[][KB_METRIC_LABELS_MAX] = {
    [LABELS_BACKUP] = {"backup_id"}, [LABELS_ALGORITHM] = {"backup_id", "algorithm"},
    [LABELS_LINEAGE] = {"lineage"},  [LABELS_RESTORE] = {"restore_id", "backup_id"},
    [LABELS_BACKEND] = {"backend"},  [LABELS_COMMAND] = {"command"},
    [LABELS_VERSION] = {"version"},  [LABELS_NONE] = {NULL},
};

typedef struct series_spec {
    const char *name;
    const char *help;
    size_t member; /* offset of the kb_metric * in kb_run_metrics */
    kb_metric_type type;
    label_set labels;
    unsigned kinds; /* commands that show it */
} series_spec;

#define KB_SERIES(member_, type_, labels_, kinds_, name_, help_) \
    {name_, help_, offsetof(kb_run_metrics, member_), KB_METRIC_##type_, LABELS_##labels_, KB_ON_##kinds_}

/* The table of worker.md, section 13, as far as its series have one set of labels per run. */
static const series_spec SERIES[] = {
    KB_SERIES(records, COUNTER, BACKUP, BACKUP, "kafka_backup_records_total",
              "Records in segments that this run made durable."),
    KB_SERIES(bytes, COUNTER, BACKUP, BACKUP, "kafka_backup_bytes_total",
              "Bytes of keys and values of these records."),
    KB_SERIES(uncompressed_bytes, COUNTER, ALGORITHM, BACKUP, "kafka_backup_uncompressed_bytes_total",
              "Bytes of segments before compression."),
    KB_SERIES(compressed_bytes, COUNTER, ALGORITHM, BACKUP, "kafka_backup_compressed_bytes_total",
              "Bytes of segments after compression."),
    KB_SERIES(segments, COUNTER, BACKUP, BACKUP, "kafka_backup_segments_total", "Segments written."),
    KB_SERIES(segments_reused, COUNTER, BACKUP, BACKUP, "kafka_backup_segments_reused_total",
              "Segments of the base that are used again."),
    KB_SERIES(segments_adopted, COUNTER, BACKUP, BACKUP, "kafka_backup_segments_adopted_total",
              "Segments of an earlier attempt that were found durable."),
    KB_SERIES(lag_sum, GAUGE, BACKUP, BACKUP, "kafka_backup_lag_records_sum",
              "Offsets between the positions and the ends of all partitions."),
    KB_SERIES(snapshot_target, GAUGE, BACKUP, BACKUP, "kafka_backup_snapshot_records_target",
              "Offsets from the start positions to the cut."),
    KB_SERIES(snapshot_remaining, GAUGE, BACKUP, BACKUP, "kafka_backup_snapshot_records_remaining",
              "Offsets still to be read up to the cut."),
    KB_SERIES(lso_lag, GAUGE, BACKUP, BACKUP, "kafka_backup_lso_lag",
              "Offsets between the cut and the high watermark: open transactions."),
    KB_SERIES(offset_gaps, COUNTER, BACKUP, BACKUP, "kafka_backup_offset_gaps_total",
              "Ranges of offsets that were gone before they could be read."),
    KB_SERIES(offsets_skipped, COUNTER, BACKUP, BACKUP, "kafka_backup_offsets_skipped_total",
              "Offsets in these ranges."),
    KB_SERIES(discontinuities, COUNTER, BACKUP, BACKUP, "kafka_backup_discontinuities_total",
              "Topics or partitions that do not continue what was backed up."),
    KB_SERIES(topics_skipped, COUNTER, BACKUP, BACKUP, "kafka_backup_topics_skipped_total",
              "Selected topics that were left out."),
    KB_SERIES(journal_age, GAUGE, BACKUP, BACKUP, "kafka_backup_journal_age_seconds",
              "Time since the last journal entry."),
    KB_SERIES(progress_percent, GAUGE, BACKUP, BACKUP, "kafka_backup_progress_percent",
              "Share of the work that is done."),
    KB_SERIES(prune_backups, COUNTER, LINEAGE, LINEAGE, "kafka_backup_prune_backups_deleted_total",
              "Backups that retention removed."),
    KB_SERIES(prune_bytes, COUNTER, LINEAGE, LINEAGE, "kafka_backup_prune_bytes_reclaimed_total",
              "Bytes of objects that prune removed."),
    KB_SERIES(prune_held, COUNTER, LINEAGE, LINEAGE, "kafka_backup_prune_held_total",
              "Backups of which the store refused to remove objects."),
    KB_SERIES(restore_records, COUNTER, RESTORE, RESTORE, "kafka_restore_records_total",
              "Records that landed on the target in this run."),
    KB_SERIES(restore_bytes, COUNTER, RESTORE, RESTORE, "kafka_restore_bytes_total",
              "Bytes of keys and values of these records."),
    KB_SERIES(restore_resumed, COUNTER, RESTORE, RESTORE, "kafka_restore_records_resumed_total",
              "Records of an earlier attempt that were found on the target."),
    KB_SERIES(restore_percent, GAUGE, RESTORE, RESTORE, "kafka_restore_progress_percent",
              "Share of the work that is done."),
    KB_SERIES(restore_eta, GAUGE, RESTORE, RESTORE, "kafka_restore_eta_seconds",
              "Expected time to the end, 0 while it is unknown."),
    KB_SERIES(store_write_bytes, COUNTER, BACKEND, ALL, "kafka_backup_storage_write_bytes_total",
              "Bytes written to the store."),
    KB_SERIES(store_read_bytes, COUNTER, BACKEND, ALL, "kafka_backup_storage_read_bytes_total",
              "Bytes read from the store."),
    KB_SERIES(memory_budget, GAUGE, NONE, ALL, "kafka_backup_memory_budget_bytes",
              "Memory that the run may use for its buffers."),
    KB_SERIES(exit_code, GAUGE, COMMAND, ALL, "kafka_backup_run_exit_code",
              "Exit code of the run, 0 until it has ended."),
};

/* The values of each label set, in the order of LABEL_NAMES. */
typedef struct label_values {
    const char *of[LABELS_NONE + 1][KB_METRIC_LABELS_MAX];
} label_values;

static const char *or_empty(const char *text)
{
    return text != NULL ? text : "";
}

static label_values values_of(const kb_run_metrics_options *options)
{
    const char *backup_id = or_empty(options->backup_id);
    return (label_values){{
        [LABELS_BACKUP] = {backup_id},
        [LABELS_ALGORITHM] = {backup_id, or_empty(options->algorithm)},
        [LABELS_LINEAGE] = {or_empty(options->lineage)},
        [LABELS_RESTORE] = {or_empty(options->restore_id), backup_id},
        [LABELS_BACKEND] = {or_empty(options->backend)},
        [LABELS_COMMAND] = {or_empty(options->command)},
        [LABELS_VERSION] = {or_empty(options->version)},
        [LABELS_NONE] = {NULL},
    }};
}

static kb_metric *fixed_series(kb_metrics *metrics, const series_spec *spec, const label_values *values)
{
    kb_metric_desc desc = {.name = spec->name, .help = spec->help, .type = spec->type};
    memcpy(desc.labels, LABEL_NAMES[spec->labels], sizeof desc.labels);
    return kb_metric_series(kb_metrics_family(metrics, &desc), values->of[spec->labels]);
}

static void add_fixed(kb_run_metrics *run, kb_metrics *metrics, const label_values *values)
{
    for (size_t i = 0; i < KB_ARRAY_LEN(SERIES); i++) {
        bool shown = (SERIES[i].kinds & (1u << run->kind)) != 0;
        kb_metric *metric = fixed_series(shown ? metrics : run->hidden, &SERIES[i], values);
        memcpy((char *)run + SERIES[i].member, &metric, sizeof metric);
    }
    const series_spec build_info = {"kafka_backup_worker_build_info",
                                    "The version of this worker; always 1.",
                                    0,
                                    KB_METRIC_GAUGE,
                                    LABELS_VERSION,
                                    KB_ON_ALL};
    kb_metric_set(fixed_series(metrics, &build_info, values), 1);
}

/* One series for each name, under a first label that is fixed for the run. */
typedef struct named_family {
    kb_metric_desc desc;
    const char *first;
    const char *const *names;
} named_family;

static void add_named(kb_metrics *metrics, const named_family *family, size_t from, size_t to,
                      kb_metric **ret_series)
{
    kb_metric_family *made = kb_metrics_family(metrics, &family->desc);
    for (size_t i = from; i < to; i++)
        ret_series[i] = kb_metric_series(made, (const char *[]){family->first, family->names[i]});
}

static void add_errors(kb_run_metrics *run, kb_metrics *metrics, const label_values *values)
{
    const named_family errors = {{.name = "kafka_backup_errors_total",
                                  .help = "Errors by class, also those that a retry healed.",
                                  .labels = {"backup_id", "error_type"}},
                                 values->of[LABELS_BACKUP][0],
                                 CLASS_NAMES};
    const named_family retries = {
        {.name = "kafka_backup_retries_total", .help = "Retries.", .labels = {"backup_id", "operation"}},
        values->of[LABELS_BACKUP][0],
        RETRY_NAMES};
    const named_family store_errors = {{.name = "kafka_backup_storage_errors_total",
                                        .help = "Failed storage operations by class of error.",
                                        .labels = {"backend", "error_type"}},
                                       values->of[LABELS_BACKEND][0],
                                       CLASS_NAMES};
    add_named(metrics, &errors, 0, KB_CLASS_COUNT, run->errors);
    add_named(metrics, &retries, 0, KB_RETRY_COUNT, run->retries);
    /* A store has no Kafka errors: these exist, but are not shown. */
    add_named(run->hidden, &store_errors, 0, KB_CLASS_STORE_TRANSIENT, run->store_errors);
    add_named(metrics, &store_errors, KB_CLASS_STORE_TRANSIENT, KB_CLASS_COUNT, run->store_errors);
}

static void add_groups(kb_run_metrics *run, kb_metrics *metrics, const label_values *values)
{
    const named_family offsets = {{.name = "kafka_backup_offsets_committed_total",
                                   .help = "Offsets of consumer groups that were committed or removed.",
                                   .labels = {"command", "outcome"}},
                                  values->of[LABELS_COMMAND][0],
                                  OUTCOME_NAMES};
    const named_family groups = {{.name = "kafka_backup_offset_groups_total",
                                  .help = "Consumer groups whose offsets were to be changed.",
                                  .labels = {"command", "outcome"}},
                                 values->of[LABELS_COMMAND][0],
                                 OUTCOME_NAMES};
    bool shown = ((KB_ON_OFFSETS | KB_ON_RESTORE) & (1u << run->kind)) != 0;
    add_named(shown ? metrics : run->hidden, &offsets, 0, KB_GROUP_OUTCOME_COUNT, run->offsets_committed);
    add_named(shown ? metrics : run->hidden, &groups, 0, KB_GROUP_OUTCOME_COUNT, run->offset_groups);
}

static void add_latency(kb_run_metrics *run, kb_metrics *metrics, const label_values *values)
{
    named_family latency = {{.name = "kafka_backup_storage_read_latency_seconds",
                             .help = "Time of read operations of the store.",
                             .type = KB_METRIC_HISTOGRAM,
                             .labels = {"backend", "operation"},
                             .bounds = LATENCY_BOUNDS,
                             .bound_count = KB_ARRAY_LEN(LATENCY_BOUNDS)},
                            values->of[LABELS_BACKEND][0],
                            STORE_OP_NAMES};
    add_named(metrics, &latency, 0, KB_STORE_OP_PUT, run->store_latency);
    latency.desc.name = "kafka_backup_storage_write_latency_seconds";
    latency.desc.help = "Time of write operations of the store.";
    add_named(metrics, &latency, KB_STORE_OP_PUT, KB_STORE_OP_COUNT, run->store_latency);
}

kb_run_metrics *kb_run_metrics_new(kb_metrics *metrics, const kb_run_metrics_options *options)
{
    kb_run_metrics *run = kb_calloc(1, sizeof *run);
    run->kind = options->kind;
    run->hidden = kb_metrics_new();
    run->backup_id = kb_strdup(or_empty(options->backup_id));
    run->max_partition_labels = options->max_partition_labels;
    label_values values = values_of(options);
    add_fixed(run, metrics, &values);
    add_errors(run, metrics, &values);
    add_latency(run, metrics, &values);
    add_groups(run, metrics, &values);
    run->lag_family = kb_metrics_family(options->kind == KB_RUN_KIND_BACKUP ? metrics : run->hidden,
                                        &(kb_metric_desc){.name = "kafka_backup_lag_records",
                                                          .help = "Offsets between position and end of the "
                                                                  "partitions that lag most.",
                                                          .type = KB_METRIC_GAUGE,
                                                          .labels = {"topic", "partition", "backup_id"},
                                                          .max_series = SIZE_MAX});
    run->circuit_family =
        kb_metrics_family(metrics, &(kb_metric_desc){.name = "kafka_backup_circuit_open",
                                                     .help = "1 while calls to the endpoint are held back.",
                                                     .type = KB_METRIC_GAUGE,
                                                     .labels = {"endpoint"}});
    if ((KB_ON_KAFKA & (1u << run->kind)) != 0)
        kb_run_metrics_circuit(run, KB_KAFKA_ADMIN_ENDPOINT);
    return run;
}

void kb_run_metrics_free(kb_run_metrics *owned_run)
{
    if (owned_run == NULL)
        return;
    kb_metrics_free(owned_run->hidden);
    free(owned_run->backup_id);
    free(owned_run);
}

void kb_run_metrics_set_lag(kb_run_metrics *run, const kb_partition_lag *lags, size_t count)
{
    KB_AUTOFREE kb_metric_row *rows = kb_calloc(count + 1, sizeof *rows);
    char(*numbers)[12] = kb_calloc(count + 1, sizeof *numbers);
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        snprintf(numbers[i], sizeof numbers[i], "%" PRId32, lags[i].partition);
        rows[i] = (kb_metric_row){{lags[i].topic, numbers[i], run->backup_id}, (double)lags[i].records};
        sum += (double)lags[i].records;
    }
    kb_metric_set(run->lag_sum, sum);
    kb_metric_replace_top(run->lag_family, rows, count, run->max_partition_labels);
    free(numbers);
}

kb_metric *kb_run_metrics_circuit(kb_run_metrics *run, const char *endpoint)
{
    return kb_metric_series(run->circuit_family, &endpoint);
}
