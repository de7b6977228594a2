/*
 * model - one backup in memory: what plan, journal, backup.json, manifest, restore and validate share.
 *
 * Topics are sorted by name (bytewise), partitions by number, segments by start, gaps by start, groups of
 * equal things once: the add functions keep that order, so every writer emits what it finds. Offsets and
 * times are i64, times in milliseconds since 1970 (UTC). A kb_backup owns all it points to; pointers into its
 * arrays are valid until the next add to that array. Source: storage-format, sections 2, 8 and 10.
 * Threads: a kb_backup belongs to one thread at a time; read-only sharing is fine.
 */
#ifndef KB_WORKER_CATALOG_MODEL_H
#define KB_WORKER_CATALOG_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/crypto.h"
#include "common/base/error.h"
#include "worker/segment/record_digest.h"
#include "worker/segment/segment_writer.h"

#define KB_BACKUP_FORMAT_VERSION 1
#define KB_BACKUP_MIN_READER 1

/* Limits of a reader (storage-format, 3.1). */
#define KB_CATALOG_TOPICS_MAX 100000
#define KB_CATALOG_PARTITIONS_MAX 200000
#define KB_CATALOG_SEGMENTS_MAX 2097152
#define KB_MANIFEST_MAX_BYTES ((size_t)256 << 20)
#define KB_BACKUP_JSON_MAX_BYTES ((size_t)512 << 20)
#define KB_JOURNAL_ENTRY_MAX_BYTES ((size_t)64 << 20)

#define KB_TOPIC_ID_SIZE 16
#define KB_PROBES_MAX 8
#define KB_WARNINGS_MAX 100
/* owner of a segment that belongs to the backup itself */
#define KB_OWNER_SELF (-1)

/* One segment of a partition. */
typedef struct kb_segment_entry {
    int64_t start; /* first and last record, both inclusive */
    int64_t end;
    int64_t from; /* every readable record of [from, to) is in it; foreign: start and end + 1 */
    int64_t to;
    int64_t count;
    int64_t min_ts; /* true bounds only when the backup is ours; foreign: of the first and last record */
    int64_t max_ts;
    int64_t raw_bytes; /* record area; foreign: 0 = unknown */
    int64_t bytes;     /* whole object; foreign: 0 = unknown */
    char *name;      /* owned; NULL = the standard name; with a '/' it is the whole key, else the file name */
    int32_t owner;   /* KB_OWNER_SELF, or an index into uses */
    uint8_t codec;   /* as in the segment header: 0 none, 1 zstd, 2 lz4; foreign: 0, not known */
    bool has_hashes; /* digest and sha256 are known (ours) */
    kb_digest digest;
    uint8_t sha256[KB_SHA256_SIZE]; /* of object bytes 32..end, then 0..31 */
} kb_segment_entry;

/* Offsets [start, end) that could not be backed up. */
typedef struct kb_gap {
    int64_t start;
    int64_t end;
    int64_t detected_at;
} kb_gap;

/* SHA-256 of the record (as in the record digest) at an offset, to prove continuity later. */
typedef struct kb_probe {
    int64_t offset;
    uint8_t sha256[KB_SHA256_SIZE];
} kb_probe;

typedef struct kb_partition_entry {
    int32_t partition;
    bool done;         /* journal: nothing more to read */
    int64_t log_start; /* as planned; foreign: -1 */
    int64_t high_watermark;
    int64_t cut;         /* first offset not backed up, last value */
    int64_t from;        /* covered range [from, to); `to` is the position while the backup is open */
    int64_t to;          /* foreign: from the first and last segment or gap */
    int64_t reuse_up_to; /* base segments below it belong here but are not listed yet; -1 = none */
    int64_t records;     /* sums over the segments: kept by kb_partition_add_segment */
    kb_digest digest;
    kb_gap *gaps;
    size_t gap_count;
    size_t gap_capacity;
    kb_segment_entry *segments;
    size_t segment_count;
    size_t segment_capacity;
    kb_probe *probes; /* at most KB_PROBES_MAX, highest offset first */
    size_t probe_count;
    size_t probe_capacity;
} kb_partition_entry;

typedef enum kb_topic_state {
    KB_TOPIC_OK,
    KB_TOPIC_DELETED,
    KB_TOPIC_RECREATED,
    KB_TOPIC_UNAUTHORIZED,
    KB_TOPIC_FAILED,
    KB_TOPIC_STATE_COUNT
} kb_topic_state;

typedef struct kb_config_pair {
    char *name;
    char *value; /* NULL = JSON null */
} kb_config_pair;

typedef struct kb_topic_entry {
    char *name;
    bool has_topic_id;
    uint8_t topic_id[KB_TOPIC_ID_SIZE];
    int32_t partition_count;    /* -1 = unknown (foreign) */
    int32_t replication_factor; /* -1 = unknown (foreign) */
    kb_topic_state state;
    char *timestamp_type;     /* "CreateTime", "LogAppendTime"; NULL = unknown */
    int64_t max_record_bytes; /* greatest total_len; 0 = none; foreign: -1 */
    kb_config_pair *configs;  /* sorted by name */
    size_t config_count;
    size_t config_capacity;
    kb_partition_entry *partitions;
    size_t listed_count; /* of partitions; ours: equal to partition_count */
    size_t partition_capacity;
} kb_topic_entry;

/* A pair of texts: skipped topic and why. */
typedef struct kb_skipped_topic {
    char *name;
    char *reason;
} kb_skipped_topic;

/* What makes a run end "done with findings". */
typedef struct kb_finding_entry {
    char *reason;      /* "RetentionGap", ... (worker.md, 2) */
    char *topic;       /* NULL = none */
    int32_t partition; /* -1 = none */
    char *detail;      /* NULL = none */
} kb_finding_entry;

/* The consumer-groups-snapshot.json of the backup. */
typedef struct kb_groups_ref {
    char *key;
    uint8_t sha256[KB_SHA256_SIZE];
    int64_t count;
    bool complete;
} kb_groups_ref;

typedef struct kb_backup_totals {
    int64_t topics, partitions, segments, reused_segments, records;
    int64_t raw_bytes, stored_bytes, reused_bytes, gaps, gap_offsets;
    bool has_timestamps; /* over times >= 0 */
    int64_t min_timestamp, max_timestamp;
} kb_backup_totals;

/* What a record of this backup consists of; a resumed attempt must want the same. */
typedef struct kb_backup_content {
    char *isolation;             /* "read_committed" */
    bool offset_headers;         /* every record has an own block */
    char *source_cluster_header; /* value of x-source-cluster; NULL = none */
} kb_backup_content;

typedef struct kb_backup {
    bool has_overlap; /* foreign, read with allow_overlap: some segments overlap */
    bool foreign;     /* read from a manifest.json alone: fields marked "foreign" are unknown */
    int32_t format_version;
    int32_t min_reader;
    char *generator; /* program and version; NULL until written or read */
    char *backup_id;
    char *lineage;    /* NULL = none, written as "" */
    char *owner;      /* "namespace/name" or "manual" */
    char *cluster_id; /* NULL = unknown */
    char *base;       /* NULL = full backup */
    int32_t depth;
    char **uses; /* other backups whose segments are listed, in order of first use */
    size_t use_count;
    size_t use_capacity;
    kb_backup_content content;
    char *compression; /* "none", "zstd", "lz4": codec of new segments; foreign: as found */
    int32_t level;
    bool conditional_put;
    int64_t created_at;   /* when the backup was opened */
    int64_t cut_time;     /* snapshotTime: when the last cut was read */
    int64_t completed_at; /* seal; 0 until then */
    kb_skipped_topic *skipped;
    size_t skipped_count;
    size_t skipped_capacity;
    kb_finding_entry *findings; /* in the order of worker.md 2, within a reason in order of arrival */
    size_t finding_count;
    size_t finding_capacity;
    kb_groups_ref *groups; /* NULL = none */
    kb_topic_entry *topics;
    size_t topic_count;
    size_t topic_capacity;
    struct kb_map *finding_keys; /* to add each finding once */
    char **warnings; /* at most KB_WARNINGS_MAX; what a reader tolerated: shown to the user, never written */
    size_t warning_count;
    size_t warning_capacity;
    bool has_manifest_hash; /* read from or written to backup.json */
    uint8_t manifest_sha256[KB_SHA256_SIZE];
    int64_t manifest_size;
} kb_backup;

/* An empty backup: numbers 0, all lists empty, conditional_put true. Owned by the caller. */
kb_backup *kb_backup_new(const char *backup_id) __attribute__((returns_nonnull));
void kb_backup_free(kb_backup *owned_backup);
/* For a cleanup attribute: frees *at. */
void kb_backup_free_at(kb_backup **at);
#define KB_AUTO_BACKUP __attribute__((cleanup(kb_backup_free_at)))

/* Replaces an owned text: kb_text_set(&backup->lineage, "orders"). NULL unsets. Copies. */
void kb_text_set(char **owned_text, const char *text);

/* The topic of that name (borrowed), made and inserted in order when absent; counts start at -1 resp. 0. */
kb_topic_entry *kb_backup_add_topic(kb_backup *backup, const char *name) __attribute__((returns_nonnull));
/* NULL when absent. Borrowed. */
kb_topic_entry *kb_backup_find_topic(const kb_backup *backup, const char *name);
void kb_topic_set_config(kb_topic_entry *topic, const char *name, const char *value);
/* NULL when there is none. Borrowed. */
const char *kb_topic_config(const kb_topic_entry *topic, const char *name);
/* "ok", "deleted", "recreated", "unauthorized", "failed". Static. */
const char *kb_topic_state_name(kb_topic_state state);
/* False when it is none of them. */
bool kb_topic_state_parse(const char *text, kb_topic_state *ret_state) KB_CHECK;

/* The partition (borrowed), made and inserted in order when absent; reuse_up_to -1, other numbers 0. */
kb_partition_entry *kb_topic_add_partition(kb_topic_entry *topic, int32_t partition)
    __attribute__((returns_nonnull));
kb_partition_entry *kb_topic_find_partition(const kb_topic_entry *topic, int32_t partition);
/* Both steps; NULL when topic or partition is absent. */
kb_partition_entry *kb_backup_find_partition(const kb_backup *backup, const char *topic, int32_t partition);

/*
 * Inserts a segment in order of start (its owned name moves in) and adds its count and digest to the
 * partition's sums. Fails with KB_ERR_FORMAT, leaving the partition and *segment as they were, when it
 * overlaps a neighbour or the sum of records overflows.
 */
kb_code kb_partition_add_segment(kb_partition_entry *partition, kb_segment_entry *segment,
                                 kb_error *err) KB_CHECK;
/* Inserts a gap in order of start; a gap that is there already is not added again. KB_ERR_FORMAT when start
 * >= end or it overlaps another gap. */
kb_code kb_partition_add_gap(kb_partition_entry *partition, kb_gap gap, kb_error *err) KB_CHECK;

/*
 * For readers of files in any order: append without looking at neighbours, then sort. The partition's
 * segments keep their sums; kb_partition_sort orders segments and gaps by start, whether they overlap or not.
 */
kb_topic_entry *kb_backup_append_topic(kb_backup *backup) __attribute__((returns_nonnull)); /* name NULL */
kb_partition_entry *kb_topic_append_partition(kb_topic_entry *topic) __attribute__((returns_nonnull));
kb_code kb_partition_append_segment(kb_partition_entry *partition, kb_segment_entry *segment,
                                    kb_error *err) KB_CHECK;
kb_code kb_partition_append_gap(kb_partition_entry *partition, kb_gap gap, kb_error *err) KB_CHECK;
void kb_partition_sort(kb_partition_entry *partition);
/* KB_ERR_FORMAT when a partition or topic stands there twice. */
kb_code kb_topic_sort(kb_topic_entry *topic, kb_error *err) KB_CHECK;
kb_code kb_backup_sort(kb_backup *backup, kb_error *err) KB_CHECK;

/* Keeps the KB_PROBES_MAX highest offsets. */
void kb_partition_add_probe(kb_partition_entry *partition, const kb_probe *probe);
/* Removes all segments (sums become 0). */
void kb_partition_clear_segments(kb_partition_entry *partition);
/* Frees what one segment owns; for arrays outside of a backup. */
void kb_segment_entry_done(kb_segment_entry *segment);
/* An entry of our own with the standard name. KB_ERR_FORMAT when a number is beyond i64. */
kb_code kb_segment_entry_from_info(const kb_segment_info *info, kb_segment_entry *ret_segment,
                                   kb_error *err) KB_CHECK;
/* Free what a topic or partition owns and empty it; for those outside of a backup. */
void kb_topic_entry_done(kb_topic_entry *topic);
void kb_partition_entry_done(kb_partition_entry *partition);
/* Whether its numbers fit together: 0 <= from <= start <= end < to, 1 <= count <= end - start + 1, ... */
kb_code kb_segment_entry_check(const kb_segment_entry *segment, kb_error *err) KB_CHECK;

/* The index of a used backup id in uses, added when absent. */
int32_t kb_backup_add_use(kb_backup *backup, const char *backup_id);
/* The id of the backup that a segment belongs to. Borrowed. */
const char *kb_segment_owner(const kb_backup *backup, const kb_segment_entry *segment);
/* The whole object key of a segment; owned by the caller. */
char *kb_segment_key(const kb_backup *backup, const kb_topic_entry *topic,
                     const kb_partition_entry *partition, const kb_segment_entry *segment)
    __attribute__((returns_nonnull));

void kb_backup_add_skipped(kb_backup *backup, const char *name, const char *reason);
/* Adds a finding in the order of worker.md 2; one equal in reason, topic, partition and detail is not added
 * again. topic and detail may be NULL, partition -1. */
void kb_backup_add_finding(kb_backup *backup, const char *reason, const char *topic, int32_t partition,
                           const char *detail);
/* Replaces the group snapshot's reference. */
void kb_backup_set_groups(kb_backup *backup, const char *key, const uint8_t sha256[KB_SHA256_SIZE],
                          int64_t count, bool complete);
/* Beyond KB_WARNINGS_MAX they are dropped. */
void kb_backup_add_warning(kb_backup *backup, const char *fmt, ...) KB_PRINTF(2, 3);

/* The one computation of the totals. KB_ERR_FORMAT when a sum overflows. */
kb_code kb_backup_totals_of(const kb_backup *backup, kb_backup_totals *ret_totals, kb_error *err) KB_CHECK;
/* Where the next segment or gap must join: the end of the last one, else where new data begins. It lies below
 * `to` by what is known to be empty at the end. */
int64_t kb_partition_joined(const kb_partition_entry *partition);
/*
 * Whether the segments of a partition of ours tile [from, to) (what the base gives is not looked at while
 * reuse_up_to is set): from of each segment is the `to` of the one
 * before, the end of the gap between them, or the partition's from; gaps join likewise; to <= cut.
 * KB_ERR_FORMAT says where not.
 */
kb_code kb_partition_check_tiling(const kb_partition_entry *partition, kb_error *err) KB_CHECK;

#endif
