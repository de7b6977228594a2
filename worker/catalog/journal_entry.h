/*
 * journal_entry - one entry of the journal: what it says, whether news fit the backup, and its bytes.
 *
 * Compact JSON with the self-hash as its last field (storage-format, 8); journal_replay reads it. Beyond the
 * fields of the format an entry may carry what a reader passes over but a later attempt needs to write the
 * same backup.json: timestampType, depth and findings in a plan, probes, maxRecordBytes and cutTime in a
 * partition's progress, generator and conditionalPut in a seal, pidNamespace in a holder. Threads: pure.
 */
#ifndef KB_WORKER_CATALOG_JOURNAL_ENTRY_H
#define KB_WORKER_CATALOG_JOURNAL_ENTRY_H

#include "common/base/strbuf.h"
#include "worker/catalog/holder.h"
#include "worker/catalog/model.h"

#define KB_ATTEMPT_ID_SIZE 16

typedef enum kb_entry_kind {
    KB_ENTRY_OPEN,
    KB_ENTRY_PROGRESS,
    KB_ENTRY_RELEASE,
    KB_ENTRY_SEAL,
    KB_ENTRY_CLOSE,
    KB_ENTRY_KIND_COUNT
} kb_entry_kind;

/* What every entry says; all borrowed when encoding, owned by the replay when read. */
typedef struct kb_entry_head {
    uint32_t seq;
    kb_entry_kind kind;
    uint8_t attempt_id[KB_ATTEMPT_ID_SIZE];
    int32_t attempt; /* 1, 2, ... */
    int64_t time_ms;
    kb_holder holder;
    bool has_prev; /* false for entry 0 */
    uint8_t prev_sha256[KB_SHA256_SIZE];
} kb_entry_head;

/* News of one partition. Start from KB_PARTITION_PROGRESS_INIT. */
typedef struct kb_partition_progress {
    const char *topic; /* borrowed */
    int32_t partition;
    int64_t position;    /* first offset not covered */
    int64_t cut;         /* raised value; -1 = as before */
    int64_t cut_time;    /* when a raised cut was read; 0 = none */
    int64_t reuse_up_to; /* -1 = as before; else it voids the new segments (12) */
    bool done;           /* nothing more to read */
    /* Ascending; they and the gaps join at kb_partition_joined, or begin up to `to` (what lies between is
     * empty and is added to their claim). */
    const kb_segment_entry *segments;
    size_t segment_count;
    const kb_gap *gaps;
    size_t gap_count;
    const kb_probe *probes; /* added to those known; the highest offsets stay */
    size_t probe_count;
    int64_t max_record_bytes; /* greatest total_len seen; raises the topic's, 0 = no news */
} kb_partition_progress;
#define KB_PARTITION_PROGRESS_INIT {.cut = -1, .reuse_up_to = -1}

typedef struct kb_topic_event {
    const char *topic;
    kb_topic_state state;
} kb_topic_event;

/* A progress entry; all borrowed. All zero = heartbeat. */
typedef struct kb_journal_news {
    const kb_partition_progress *partitions; /* each partition once */
    size_t partition_count;
    const kb_topic_event *topic_events;
    size_t topic_event_count;
    const kb_finding_entry *findings; /* new ones */
    size_t finding_count;
    const kb_groups_ref *groups; /* NULL = no news */
} kb_journal_news;

bool kb_journal_news_is_empty(const kb_journal_news *news);
/*
 * Whether news fit the model: known partitions; segments and gaps ascend and join, the first one at
 * kb_partition_joined; position neither backwards nor below them nor above the cut; the cut not lowered.
 * KB_ERR_INTERNAL names topic, partition and reason.
 */
kb_code kb_news_check(const kb_backup *backup, const kb_journal_news *news, kb_error *err) KB_CHECK;
/* "open", "progress", "release", "seal", "close". Static. */
const char *kb_entry_kind_name(kb_entry_kind kind);

/* Each appends one whole entry, self-hash included. plan NULL: the earlier one stays. */
kb_code kb_entry_encode_open(const kb_entry_head *head, const char *backup_id, const kb_backup *plan,
                             kb_strbuf *out, kb_error *err) KB_CHECK;
kb_code kb_entry_encode_progress(const kb_entry_head *head, const kb_backup *backup,
                                 const kb_journal_news *news, kb_strbuf *out, kb_error *err) KB_CHECK;
kb_code kb_entry_encode_release(const kb_entry_head *head, const char *backup_id, kb_strbuf *out,
                                kb_error *err) KB_CHECK;
kb_code kb_entry_encode_seal(const kb_entry_head *head, const kb_backup *backup, const char *generator,
                             kb_strbuf *out, kb_error *err) KB_CHECK;
kb_code kb_entry_encode_close(const kb_entry_head *head, const char *backup_id, const char *reason,
                              kb_strbuf *out, kb_error *err) KB_CHECK;

#endif
