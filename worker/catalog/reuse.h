/*
 * reuse - what an incremental backup takes over from its base, and from where it reads anew (pure).
 *
 * Per partition kb_reuse_judge applies the rows of storage-format 12 and 13 that need no look at the log; the
 * records at the base's probes settle the rest (kb_reuse_judge_probes). kb_reuse_decide turns the verdict
 * into a plan: reuse_up_to (segments and gaps of the base below it are listed again) and the offset to read
 * from. kb_reuse_fill lists them when everything new is durable, so the outcome depends on journal and base
 * alone. A partition whose kept segments end in many small ones reads these again, which bounds the manifest
 * of an hourly schedule. Threads: no state.
 */
#ifndef KB_WORKER_CATALOG_REUSE_H
#define KB_WORKER_CATALOG_REUSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "worker/catalog/model.h"

/* So many small segments at the end are worth reading again. */
#define KB_REUSE_SMALL_COUNT 16
/* Raw bytes below which a segment is small. */
#define KB_REUSE_SMALL_BYTES (8LL << 20)

/* ---- which part of a base's partition ---- */

/* Always an end of its lists: what was removed from the log is left out from the front. */
typedef struct kb_reuse_range {
    size_t first_segment, end_segment; /* [first, end) of base->segments */
    size_t first_gap, end_gap;
    int64_t from; /* where the first of them begins; `up_to` when there is none */
} kb_reuse_range;

/* What of the base begins below up_to and is not wholly below log_start. */
kb_reuse_range kb_reuse_range_of(const kb_partition_entry *base, int64_t log_start, int64_t up_to);

/* ---- whether it may be reused ---- */

typedef enum kb_reuse_verdict {
    KB_REUSE_PROBE,         /* not decided: ask for the records at the probes */
    KB_REUSE_CONTINUOUS,    /* reuse */
    KB_REUSE_NO_BASE,       /* the base does not have the partition */
    KB_REUSE_RECREATED,     /* another topic id: Discontinuity */
    KB_REUSE_TRUNCATED,     /* the log ends below what the base holds: Discontinuity, once it stayed so */
    KB_REUSE_RETENTION_GAP, /* records between base and log start were never backed up */
    KB_REUSE_UNFINISHED,    /* the base did not finish the topic */
    KB_REUSE_COMPACTED,     /* now or in the base */
    KB_REUSE_NOT_COMPARED,  /* nothing of it is left, or it has no probes */
    KB_REUSE_MISSING,       /* an object that would be listed is missing in the store */
    KB_REUSE_DIVERGED,      /* another record at an offset of the base: Discontinuity */
    KB_REUSE_UNPROVEN,      /* no probe could be compared */
    KB_REUSE_VERDICT_COUNT
} kb_reuse_verdict;

/* For logs: "continuous", "recreated", ... Static. */
const char *kb_reuse_verdict_name(kb_reuse_verdict verdict);

/* All borrowed. */
typedef struct kb_reuse_facts {
    const kb_topic_entry *topic;         /* as planned */
    const kb_partition_entry *partition; /* its log_start and cut */
    const kb_topic_entry *base_topic;    /* NULL = not in the base */
    const kb_partition_entry *base;      /* NULL = not in the base */
    bool compacted;                      /* the topic as it is now */
    bool objects_stand;                  /* every object to be listed again is there with its size */
} kb_reuse_facts;

/* KB_REUSE_TRUNCATED only says that the cut is below the base's end now: look again for a while. */
kb_reuse_verdict kb_reuse_judge(const kb_reuse_facts *facts);

typedef enum kb_probe_answer {
    KB_PROBE_UNASKED,
    KB_PROBE_EQUAL,
    KB_PROBE_DIFFERENT,
    KB_PROBE_GONE, /* the log has no record at that offset any more */
} kb_probe_answer;

/* Answers in the order of the base's probes, highest offset first. KB_REUSE_PROBE while the next unasked one
 * matters. */
kb_reuse_verdict kb_reuse_judge_probes(const kb_probe_answer *answers, size_t count);

/* ---- the plan of a partition ---- */

typedef struct kb_reuse_rules {
    int64_t segment_max_bytes;   /* a segment that was closed for being full is not small */
    int64_t segment_max_records; /* 0 = no limit */
    int64_t full_start;          /* where a full reading of this partition starts; -1 = at the log's start */
    bool keep_late_start; /* start_offset: latest: a full reading does not go behind the base's start */
} kb_reuse_rules;

typedef struct kb_reuse_plan {
    int64_t from;        /* of the covered range */
    int64_t position;    /* where reading starts */
    int64_t reuse_up_to; /* -1 = nothing is reused */
    bool has_news;       /* the log has something that the base does not have, or could have */
} kb_reuse_plan;

kb_reuse_plan kb_reuse_decide(const kb_reuse_facts *facts, kb_reuse_verdict verdict,
                              const kb_reuse_rules *rules);

/*
 * The offset that reading of small segments is measured by: when the log's start passes the position before
 * this offset is reached, the base's segments up to it are reused after all. -1 when the partition does not
 * read again what the base holds.
 */
int64_t kb_reuse_floor(const kb_partition_entry *partition, const kb_partition_entry *base);

/* ---- the result ---- */

/*
 * Lists the base's segments, gaps and probes below reuse_up_to of every partition and sets reuse_up_to to -1;
 * a second call changes nothing. KB_ERR_FORMAT when the base has no such partition, or a sum overflows.
 */
kb_code kb_reuse_fill(kb_backup *backup, const kb_backup *base, kb_error *err) KB_CHECK;
/* Whether any partition waits for kb_reuse_fill. */
bool kb_reuse_is_unfilled(const kb_backup *backup);

/* Calls fn for each segment of the base that kb_reuse_fill would list; anything but KB_OK ends it. */
typedef kb_code (*kb_reuse_fn)(void *ctx, const kb_topic_entry *base_topic, const kb_partition_entry *base,
                               const kb_segment_entry *segment, kb_error *err);
kb_code kb_reuse_visit(const kb_backup *backup, const kb_backup *base, kb_reuse_fn fn, void *ctx,
                       kb_error *err) KB_CHECK;

#endif
