/*
 * run_context - what every command of the worker has around it: environment, configuration, log, stop token,
 * report, metrics; and the one place where an outcome becomes an exit code.
 *
 * Flow: kb_run_context_open -> (kb_run_context_observe) -> the command -> kb_run_context_finish ->
 * kb_run_context_done. Threads: the main thread; what it hands out has rules of its own.
 */
#ifndef KB_WORKER_CMD_RUN_CONTEXT_H
#define KB_WORKER_CMD_RUN_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/contract/run_env.h"
#include "common/contract/worker_config.h"
#include "common/obs/httpd.h"
#include "common/obs/metrics.h"
#include "common/sync/wait.h"
#include "worker/cmd/flags.h"
#include "worker/kafka/kafka_client.h"
#include "worker/report/progress.h"
#include "worker/report/report_file.h"
#include "worker/report/report_status.h"
#include "worker/report/reporter.h"
#include "worker/report/run_metrics.h"
#include "worker/storage/storage.h"
#include "worker/storage/storage_fs.h"
#include "worker/storage/storage_open.h"

typedef struct kb_run_context {
    const kb_flags *flags;
    kb_run_env env;
    kb_worker_config *config;
    kb_stop *stop;
    uint64_t memory_bytes;
    uint32_t threads;
    kb_progress *progress;
    kb_report_file *report_file;
    kb_report_status *report_status; /* NULL = not under the operator */
    kb_reporter *reporter;
    kb_metrics *metrics;
    kb_run_metrics *run_metrics; /* NULL before kb_run_context_observe, and for commands without it */
    kb_httpd *httpd;
} kb_run_context;

/* Environment, configuration (checked, supported), log, signals, progress. flags are borrowed. */
kb_code kb_run_context_open(const kb_flags *flags, kb_run_context *ret_run, kb_error *err) KB_CHECK;
void kb_run_context_done(kb_run_context *run);

/* The report's ids; metrics, their endpoint and the reporter start. restore_id may be NULL. */
kb_code kb_run_context_observe(kb_run_context *run, kb_run_kind kind, const char *backup_id,
                               const char *restore_id, kb_error *err) KB_CHECK;

/* The lineage that the command is about; NULL = none. Prune takes -b for one as well. Borrowed. */
const char *kb_run_context_lineage(const kb_run_context *run);

/* Opens the configured store, whose events it counts. Owned by the caller, freed before the run context. */
kb_code kb_run_context_storage(kb_run_context *run, kb_fs_mode mode, kb_storage **ret_storage,
                               kb_error *err) KB_CHECK;
/* The same for any block of the configuration. */
kb_code kb_run_context_store(kb_run_context *run, const kb_config_storage *block, kb_fs_mode mode,
                             kb_storage **ret_storage, kb_error *err) KB_CHECK;

/*
 * Commands that read a backup may be given the name of a lineage: when nothing lies below that id itself, the
 * id in the configuration becomes that of the lineage's newest complete backup. No error when there is none.
 */
kb_code kb_run_context_find_backup(kb_run_context *run, kb_storage *storage, kb_error *err) KB_CHECK;

/* The client options of a Kafka block; what is not borrowed from the configuration is owned by the struct. */
typedef struct kb_run_kafka {
    kb_kafka_options options;
    char *servers;
} kb_run_kafka;
kb_code kb_run_context_kafka(const kb_run_context *run, const kb_config_kafka *kafka, kb_run_kafka *ret_kafka,
                             kb_error *err) KB_CHECK;
void kb_run_kafka_done(kb_run_kafka *kafka);

/* Writes a command's result to standard output; a closed one is no error. */
void kb_run_print(const void *text, size_t len);

/*
 * Ends the run: logs the error (if any) once, fixes the exit code, writes the last report, waits
 * metrics.keep_alive_seconds. findings_code: the exit code when the run is done with findings.
 */
int kb_run_context_finish(kb_run_context *run, kb_code code, kb_error *err, int findings_code);

#endif
