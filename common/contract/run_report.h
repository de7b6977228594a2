/*
 * run_report - the report of a run: one flat JSON object of at most 4096 bytes, worker to operator.
 *
 * KB_RUN_REPORT_FIELDS is the one table of names, types and bounds (worker.md, section 14); the encoder, the
 * schema of status.run and its reader come from it. A field that was never set is left out. Texts are cut at
 * a UTF-8 boundary to their bound, invalid UTF-8 becomes U+FFFD, 32-bit fields saturate, a list takes rows up
 * to its bound and then only marks the report as truncated.
 * Threads: a kb_run_report belongs to one thread at a time.
 */
#ifndef KB_COMMON_CONTRACT_RUN_REPORT_H
#define KB_COMMON_CONTRACT_RUN_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/strbuf.h"

/* Also the limit that Kubernetes sets for a termination message. */
#define KB_RUN_REPORT_MAX_BYTES 4096
#define KB_RUN_REPORT_VERSION 1
#define KB_RUN_REPORT_COLUMNS_MAX 6

typedef enum kb_report_type {
    KB_REPORT_TYPE_INT32,
    KB_REPORT_TYPE_INT64,
    KB_REPORT_TYPE_BOOL,
    KB_REPORT_TYPE_STRING, /* bound: bytes */
    KB_REPORT_TYPE_TIME,   /* milliseconds since 1970, written as RFC 3339 UTC with seconds */
    KB_REPORT_TYPE_STATE,  /* kb_run_state by its name */
    KB_REPORT_TYPE_OBJECT, /* one row of the columns */
    KB_REPORT_TYPE_LIST,   /* bound: rows of the columns */
    KB_REPORT_TYPE_NAMES,  /* bound: rows; a list of plain strings, the bound of each in its only column */
} kb_report_type;

typedef enum kb_run_state {
    KB_RUN_STARTING,
    KB_RUN_WAITING_FOR_LOCK,
    KB_RUN_PREFLIGHT,
    KB_RUN_RUNNING,
    KB_RUN_FINISHING,
    KB_RUN_SUCCEEDED, /* this and the following are final */
    KB_RUN_DONE_WITH_FINDINGS,
    KB_RUN_FAILED,
    KB_RUN_INTERRUPTED,
    KB_RUN_STATE_COUNT
} kb_run_state;

/* The columns of objects, lists and names: X(name, type, bound). */
#define KB_REPORT_NO_COLUMNS(X)
#define KB_REPORT_NAME_COLUMNS(X) X("", STRING, 249)
#define KB_REPORT_GAP_COLUMNS(X) \
    X("topic", STRING, 249) X("partition", INT32, 0) X("start", INT64, 0) X("end", INT64, 0)
#define KB_REPORT_TOPIC_COLUMNS(X) X("name", STRING, 249) X("records", INT64, 0)
#define KB_REPORT_GROUP_COLUMNS(X) \
    X("group", STRING, 255) X("status", STRING, 16) X("partitionsReset", INT32, 0) X("message", STRING, 253)
#define KB_REPORT_DIFFERENCE_COLUMNS(X) \
    X("group", STRING, 255) \
    X("topic", STRING, 249) X("partition", INT32, 0) X("expected", INT64, 0) X("actual", INT64, 0)
#define KB_REPORT_FINDING_COLUMNS(X) X("check", STRING, 64) X("result", STRING, 16) X("detail", STRING, 253)
#define KB_REPORT_CATALOG_COLUMNS(X) \
    X("backupId", STRING, 253) \
    X("startTime", TIME, 0) \
    X("completionTime", TIME, 0) X("size", INT64, 0) X("records", INT64, 0) X("reason", STRING, 64)

/* X(constant, "name", type, bound, columns): the fields in the order of the table and of the JSON. */
#define KB_RUN_REPORT_FIELDS(X) \
    X(VERSION, "version", INT32, 0, NO) \
    X(OPERATION, "operation", STRING, 32, NO) \
    X(WORKER_VERSION, "workerVersion", STRING, 64, NO) \
    X(JOB_NAME, "jobName", STRING, 253, NO) \
    X(JOB_UID, "jobUid", STRING, 64, NO) \
    X(POD_NAME, "podName", STRING, 253, NO) \
    X(ATTEMPT, "attempt", INT32, 0, NO) \
    X(BACKUP_ID, "backupId", STRING, 253, NO) \
    X(LINEAGE, "lineage", STRING, 253, NO) \
    X(BASE, "base", STRING, 253, NO) \
    X(RESTORE_ID, "restoreId", STRING, 253, NO) \
    X(SNAPSHOT_ID, "snapshotId", STRING, 253, NO) \
    X(STATE, "state", STATE, 0, NO) \
    X(EXIT_CODE, "exitCode", INT32, 0, NO) \
    X(REASON, "reason", STRING, 64, NO) \
    X(MESSAGE, "message", STRING, 512, NO) \
    X(START_TIME, "startTime", TIME, 0, NO) \
    X(LAST_PROGRESS_TIME, "lastProgressTime", TIME, 0, NO) \
    X(COMPLETION_TIME, "completionTime", TIME, 0, NO) \
    X(PERCENT, "percent", INT32, 0, NO) \
    X(ETA_SECONDS, "etaSeconds", INT64, 0, NO) \
    X(RECORDS_PER_SECOND, "recordsPerSecond", INT64, 0, NO) \
    X(BYTES_PER_SECOND, "bytesPerSecond", INT64, 0, NO) \
    X(RECORDS_PROCESSED, "recordsProcessed", INT64, 0, NO) \
    X(BYTES_PROCESSED, "bytesProcessed", INT64, 0, NO) \
    X(SEGMENTS_COMPLETED, "segmentsCompleted", INT64, 0, NO) \
    X(TOPICS_TOTAL, "topicsTotal", INT32, 0, NO) \
    X(PARTITIONS_DONE, "partitionsDone", INT32, 0, NO) \
    X(PARTITIONS_TOTAL, "partitionsTotal", INT32, 0, NO) \
    X(NEW_BYTES, "newBytes", INT64, 0, NO) \
    X(RAW_BYTES, "rawBytes", INT64, 0, NO) \
    X(LSO_LAG, "lsoLag", INT64, 0, NO) \
    X(DISCONTINUITIES, "discontinuities", INT32, 0, NO) \
    X(MANIFEST_SHA256, "manifestSha256", STRING, 64, NO) \
    X(CONDITIONAL_PUT, "conditionalPut", BOOL, 0, NO) \
    X(GAPS, "gaps", INT32, 0, NO) \
    X(GAP_OFFSETS, "gapOffsets", INT64, 0, NO) \
    X(FIRST_GAP, "firstGap", OBJECT, 0, GAP) \
    X(SKIPPED_TOPICS, "skippedTopics", INT32, 0, NO) \
    X(SKIPPED_NAMES, "skippedNames", NAMES, 5, NAME) \
    X(RESUMED_RECORDS, "resumedRecords", INT64, 0, NO) \
    X(FILTERED_RECORDS, "filteredRecords", INT64, 0, NO) \
    X(HELD_TOPICS, "heldTopics", NAMES, 5, NAME) \
    X(FENCED, "fenced", BOOL, 0, NO) \
    X(GROUPS_TOTAL, "groupsTotal", INT32, 0, NO) \
    X(GROUPS_DONE, "groupsDone", INT32, 0, NO) \
    X(GROUPS_FAILED, "groupsFailed", INT32, 0, NO) \
    X(MATCHED, "matched", BOOL, 0, NO) \
    X(SNAPSHOT_TIME, "snapshotTime", TIME, 0, NO) \
    X(HELD, "held", INT32, 0, NO) \
    X(HIDDEN, "hidden", INT32, 0, NO) \
    X(PRUNED, "pruned", INT32, 0, NO) \
    X(RECLAIMED_BYTES, "reclaimedBytes", INT64, 0, NO) \
    X(PRUNE_ERROR, "pruneError", STRING, 200, NO) \
    X(WAITING_FOR, "waitingFor", STRING, 200, NO) \
    X(TRUNCATED, "truncated", BOOL, 0, NO) \
    X(TOPICS, "topics", LIST, 100, TOPIC) \
    X(GROUPS, "groups", LIST, 100, GROUP) \
    X(DIFFERENCES, "differences", LIST, 50, DIFFERENCE) \
    X(FINDINGS, "findings", LIST, 10, FINDING) \
    X(CATALOG, "catalog", LIST, 10, CATALOG) \
    X(RETAINED, "retained", INT32, 0, NO) \
    X(EARLIEST_TIME, "earliestTime", TIME, 0, NO) \
    X(LATEST_TIME, "latestTime", TIME, 0, NO)

typedef enum kb_report_field {
#define KB_REPORT_FIELD_ENUM(constant, name, type, bound, columns) KB_REPORT_##constant,
    KB_RUN_REPORT_FIELDS(KB_REPORT_FIELD_ENUM)
#undef KB_REPORT_FIELD_ENUM
        KB_REPORT_FIELD_COUNT
} kb_report_field;

/* A member of an object or of a list's rows. */
typedef struct kb_report_column {
    const char *name;
    kb_report_type type;
    size_t bound;
} kb_report_column;

/* What the table says of a field. */
typedef struct kb_report_spec {
    const char *name;
    kb_report_type type;
    size_t bound;
    const kb_report_column *columns; /* objects, lists, names */
    size_t column_count;
} kb_report_spec;

/* A scalar, or one cell of a row; text wins where the type is a string, number elsewhere. */
typedef struct kb_report_value {
    bool present;
    int64_t number; /* also booleans (0, 1), times (ms) and states */
    char *text;     /* owned */
} kb_report_value;

typedef struct kb_report_rows {
    kb_report_value *cells; /* owned; count rows of column_count cells */
    size_t count;
} kb_report_rows;

typedef struct kb_run_report {
    kb_report_value scalars[KB_REPORT_FIELD_COUNT];
    kb_report_rows rows[KB_REPORT_FIELD_COUNT];
} kb_run_report;

#define KB_AUTO_RUN_REPORT(name) __attribute__((cleanup(kb_run_report_done))) kb_run_report name = {0}

/* The table's row of a field. */
const kb_report_spec *kb_run_report_spec(kb_report_field field);
/* "Starting", ... ; borrowed, static. */
const char *kb_run_state_name(kb_run_state state);
bool kb_run_state_is_final(kb_run_state state);

void kb_run_report_init(kb_run_report *report);
void kb_run_report_done(kb_run_report *report);
/* Deep copy into an initialised report, whose old content is freed. */
void kb_run_report_copy(kb_run_report *to, const kb_run_report *from);

/*
 * The text as a report carries it: invalid UTF-8 replaced by U+FFFD, cut at a UTF-8 boundary to at most
 * bound bytes. Owned by the caller.
 */
char *kb_run_report_clean(const char *text, size_t bound) __attribute__((returns_nonnull));

/* Setters: the field must be of the type that the setter names (checked by assert). Text is copied. */
void kb_run_report_set_text(kb_run_report *report, kb_report_field field, const char *text); /* NULL unsets */
void kb_run_report_set_number(kb_run_report *report, kb_report_field field, int64_t number);
void kb_run_report_set_flag(kb_run_report *report, kb_report_field field, bool flag);
void kb_run_report_set_time(kb_run_report *report, kb_report_field field, int64_t unix_ms);
void kb_run_report_set_state(kb_run_report *report, kb_run_state state);
void kb_run_report_unset(kb_run_report *report, kb_report_field field);

/* Lists. A text of NULL leaves the member out. */
void kb_run_report_set_first_gap(kb_run_report *report, const char *topic, int32_t partition, int64_t start,
                                 int64_t end);
/* field: KB_REPORT_SKIPPED_NAMES or KB_REPORT_HELD_TOPICS */
void kb_run_report_add_name(kb_run_report *report, kb_report_field field, const char *name);
void kb_run_report_add_topic(kb_run_report *report, const char *name, int64_t records);
void kb_run_report_add_group(kb_run_report *report, const char *group, const char *status,
                             int32_t partitions_reset, const char *message);
void kb_run_report_add_difference(kb_run_report *report, const char *group, const char *topic,
                                  int32_t partition, int64_t expected, int64_t actual);
void kb_run_report_add_finding(kb_run_report *report, const char *check, const char *result,
                               const char *detail);

/* One row of `catalog`. */
typedef struct kb_report_catalog_row {
    const char *backup_id;
    int64_t start_ms;
    int64_t completion_ms;
    int64_t size_bytes;
    int64_t record_count;
    const char *reason; /* first of its findings; NULL = none */
} kb_report_catalog_row;
void kb_run_report_add_catalog(kb_run_report *report, const kb_report_catalog_row *row);

/*
 * Appends the JSON, at most KB_RUN_REPORT_MAX_BYTES. Too large: topics, groups, differences, findings,
 * skippedNames and catalog lose rows from their ends in this order, then message is cut (at a UTF-8
 * boundary), then heldTopics, waitingFor, pruneError and firstGap go; `truncated` becomes true, counts stay.
 * KB_ERR_TOO_LARGE when even that is not enough, which identifiers within their own limits cannot cause.
 */
kb_code kb_run_report_encode(const kb_run_report *report, kb_strbuf *out, kb_error *err) KB_CHECK;

#endif
