/*
 * backup_fixture - whole backups of ours in a temporary directory, made by the real writers, and ways to
 * damage them.
 *
 * A failure ends the test. Threads: one.
 */
#ifndef KB_WORKER_TESTS_BACKUP_FIXTURE_H
#define KB_WORKER_TESTS_BACKUP_FIXTURE_H

#include "worker/catalog/model.h"
#include "worker/segment/segment_format.h"
#include "worker/storage/storage.h"

#define TEST_BACKUP_ID "orders-20250101-000000"
#define TEST_CREATED_AT INT64_C(1735689600000)

typedef struct test_backup {
    char *dir;
    kb_storage *storage;
    kb_backup *backup;
    bool is_shared; /* dir belongs to another fixture */
} test_backup;

/* An empty backup with everything set but topics; a new directory, or that of `beside`. */
void test_backup_init(test_backup *fixture, const char *backup_id, const test_backup *beside);
void test_backup_done(test_backup *fixture);
#define AUTO_TEST_BACKUP(name) __attribute__((cleanup(test_backup_done))) test_backup name = {0}

/* The next segment of a partition: records of value_len incompressible bytes at the offsets start, start + 1,
 * ...; it covers what lies before it, gaps aside. The topic is made when it is absent. */
typedef struct test_segment {
    const char *topic;
    int32_t partition;
    int64_t start;
    int64_t count;
    kb_codec codec;
    size_t value_len; /* 0 = 100 */
    bool is_compressible;
} test_segment;
void test_backup_add(test_backup *fixture, const test_segment *segment);
/* A topic with a partition that has no record, or one more such partition. */
kb_partition_entry *test_backup_add_empty(test_backup *fixture, const char *topic, int32_t partition);
void test_backup_add_gap(test_backup *fixture, const char *topic, int32_t partition, int64_t start,
                         int64_t end);
/* Lists a segment of another backup, which becomes used. */
void test_backup_reuse(test_backup *fixture, const test_backup *from, const char *topic, int32_t partition,
                       size_t index);
/* Fixes cuts and ranges and writes journal 0 (which nobody reads), backup.json and manifest.json. */
void test_backup_publish(test_backup *fixture);

/* orders: partition 0 with segments 0-9, 10-19, 20-29, partition 1 with 5-14; quiet: an empty partition. Not
 * yet published. */
void test_backup_fill(test_backup *fixture, kb_codec codec);

/* The key of a segment, owned by the caller. */
char *test_backup_key(const test_backup *fixture, const char *topic, int32_t partition, size_t index);

/* ---- damage, by key ---- */

char *test_object_path(const test_backup *fixture, const char *key);
int64_t test_object_size(const test_backup *fixture, const char *key);
void test_object_flip(const test_backup *fixture, const char *key, int64_t at, unsigned bit);
void test_object_cut(const test_backup *fixture, const char *key, int64_t size);
void test_object_remove(const test_backup *fixture, const char *key);
/* Replaces or makes it. */
void test_object_write(const test_backup *fixture, const char *key, const void *data, size_t len);
void test_object_copy(const test_backup *fixture, const char *from, const char *to);
void test_object_swap(const test_backup *fixture, const char *a, const char *b);

#endif
