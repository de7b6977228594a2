/*
 * continuity - asks the log for the records at a base's probes (storage-format, 13).
 *
 * Many partitions at once, one record each: a stream is started at a probe's offset and ended by what comes
 * first. What a probe's answer means is decided by kb_reuse_judge_probes. Threads: the caller's.
 */
#ifndef KB_WORKER_BACKUP_CONTINUITY_H
#define KB_WORKER_BACKUP_CONTINUITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/sync/wait.h"
#include "worker/catalog/reuse.h"
#include "worker/kafka/kafka_client.h"
#include "worker/report/progress.h"

/* One partition; topic and probes are borrowed. The rest begins as zero and is the module's but answers. */
typedef struct kb_continuity_item {
    const char *topic;
    int32_t partition;
    int64_t log_start;
    const kb_probe *probes; /* highest offset first */
    size_t probe_count;
    kb_probe_answer answers[KB_PROBES_MAX];
    size_t asking; /* the probe whose stream is running */
    enum { KB_CONTINUITY_TO_START, KB_CONTINUITY_RUNNING, KB_CONTINUITY_LATER, KB_CONTINUITY_DONE } state;
    int64_t retry_at_ms;
    struct kb_continuity_run *run;
} kb_continuity_item;

typedef struct kb_continuity_options {
    const kb_kafka_options *kafka;
    kb_stop *stop;
    kb_progress *progress; /* touched by every answer; may be NULL */
    int64_t no_progress_ms;
} kb_continuity_options;

/*
 * Fills the answers of all items as far as the verdict needs them. A partition that cannot be read is
 * answered with KB_PROBE_GONE: reading it anew will tell why. KB_NO_PROGRESS when nothing came for so long,
 * KB_ERR_STOPPED, or as the reader fails.
 */
kb_code kb_continuity_ask(const kb_continuity_options *options, kb_continuity_item *items, size_t count,
                          kb_error *err) KB_CHECK;

#endif
