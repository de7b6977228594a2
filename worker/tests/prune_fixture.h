/*
 * prune_fixture - lineages of crafted backups for the tests of prune, and a store that tells and refuses.
 *
 * All backups hold topic orders, partition 0, in segments of ten offsets. Names are D1 to D9: the backup of
 * that day. Objects of segments are stand-ins; indexes and journals are real.
 */
#ifndef KB_WORKER_TESTS_PRUNE_FIXTURE_H
#define KB_WORKER_TESTS_PRUNE_FIXTURE_H

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "worker/catalog/catalog.h"
#include "worker/tests/catalog_fixture.h"

#define D1 "orders-20250101-000000"
#define D2 "orders-20250102-000000"
#define D3 "orders-20250103-000000"
#define D4 "orders-20250104-000000"
#define DAY_MS INT64_C(86400000)
#define GRACE_MS DAY_MS

/* ---- a store that records removals, refuses some, and has a clock of its own ---- */

typedef struct spy_store {
    bad_store bad;      /* first: its functions take it as their state */
    int64_t ahead_ms;   /* its clock goes so much ahead of the files' */
    int fail_removal;   /* the n-th removal from now on fails; 0 = none */
    const char *held;   /* removals of keys that contain it are refused; NULL = none */
    const char *hidden; /* removals of keys that contain it only hide; NULL = none */
    char **removed;     /* keys in their order */
    size_t removed_count;
    size_t removed_capacity;
    kb_storage *storage;
} spy_store;

static inline kb_code spy_remove_many(void *state, const char *const *keys, size_t count,
                                      kb_remove_outcome *outcomes, kb_error *err)
{
    spy_store *spy = state;
    for (size_t i = 0; i < count; i++) {
        if (spy->fail_removal > 0 && --spy->fail_removal == 0)
            return bad_fail(err);
        if (spy->held != NULL && strstr(keys[i], spy->held) != NULL) {
            outcomes[i] = KB_REMOVE_HELD;
            continue;
        }
        kb_code code = kb_storage_remove_many(spy->bad.inner, &keys[i], 1, &outcomes[i], err);
        if (code != KB_OK)
            return code;
        if (outcomes[i] == KB_REMOVE_GONE && spy->hidden != NULL && strstr(keys[i], spy->hidden) != NULL)
            outcomes[i] = KB_REMOVE_HIDDEN;
        spy->removed =
            kb_grow(spy->removed, spy->removed_count, &spy->removed_capacity, sizeof *spy->removed);
        spy->removed[spy->removed_count++] = kb_strdup(keys[i]);
    }
    return KB_OK;
}

static inline kb_code spy_now(void *state, int64_t *ret_now_ms, kb_error *err)
{
    spy_store *spy = state;
    kb_code code = kb_storage_now(spy->bad.inner, ret_now_ms, err);
    *ret_now_ms += spy->ahead_ms;
    return code;
}

static inline kb_code spy_list_leftovers(void *state, const char *prefix, kb_leftover_fn fn, void *ctx,
                                         kb_error *err)
{
    return kb_storage_list_leftovers(((spy_store *)state)->bad.inner, prefix, fn, ctx, err);
}

static inline kb_code spy_abort_leftover(void *state, const kb_leftover *leftover, kb_error *err)
{
    return kb_storage_abort_leftover(((spy_store *)state)->bad.inner, leftover, err);
}

static inline void spy_open(spy_store *spy, kb_storage *inner)
{
    static const kb_storage_driver driver = {
        .name = "spy",
        .free_state = bad_free_state,
        .put_if_absent = bad_put,
        .get = bad_get,
        .get_range = bad_get_range,
        .head = bad_head,
        .remove = bad_remove,
        .list_page = bad_list_page,
        .upload_begin = bad_upload_begin,
        .upload_append = bad_upload_append,
        .upload_complete = bad_upload_complete,
        .upload_free = bad_upload_free,
        .abort_leftovers = bad_abort_leftovers,
        .remove_many = spy_remove_many,
        .now = spy_now,
        .list_leftovers = spy_list_leftovers,
        .abort_leftover = spy_abort_leftover,
    };
    const kb_storage_caps caps = {.conditional_put = true};
    *spy = (spy_store){.bad = {.inner = inner}};
    spy->storage = kb_storage_new(&driver, spy, &caps, "spied store");
}

static inline void spy_forget(spy_store *spy)
{
    for (size_t i = 0; i < spy->removed_count; i++)
        free(spy->removed[i]);
    spy->removed_count = 0;
}

static inline void spy_done(spy_store *spy)
{
    spy_forget(spy);
    free(spy->removed);
    kb_storage_free(spy->storage);
}

/* ---- backups ---- */

/* A segment of ten offsets; owner NULL = the backup itself. */
typedef struct made_segment {
    int64_t start;
    const char *owner;
} made_segment;

typedef struct made_backup {
    const char *id;
    const char *base; /* NULL = full */
    made_segment segments[8];
    size_t count;
} made_backup;

static inline char *made_segment_key(const char *owner, int64_t start)
{
    return kb_asprintf("%s/topics/orders/partition=0/segment-%020lld.bin.zst", owner, (long long)start);
}

static inline kb_backup *made_plan(const made_backup *made)
{
    kb_backup *plan = kb_backup_new(made->id);
    plan->created_at = INT64_C(1735689600000);
    plan->cut_time = INT64_C(1735689600500);
    kb_text_set(&plan->lineage, "orders");
    kb_text_set(&plan->owner, "manual");
    kb_text_set(&plan->cluster_id, "MkU3OEVBNTcwNTJENDM2Qk");
    kb_text_set(&plan->compression, "zstd");
    kb_text_set(&plan->content.isolation, "read_committed");
    kb_text_set(&plan->base, made->base);
    plan->depth = made->base != NULL ? 1 : 0;
    plan->level = 3;
    kb_topic_entry *topic = kb_backup_add_topic(plan, "orders");
    topic->partition_count = 1;
    topic->replication_factor = 1;
    kb_text_set(&topic->timestamp_type, "CreateTime");
    kb_topic_set_config(topic, "cleanup.policy", "delete");
    kb_partition_entry *partition = kb_topic_add_partition(topic, 0);
    int64_t first = made->count > 0 ? made->segments[0].start : 0;
    int64_t end = made->count > 0 ? made->segments[made->count - 1].start + 10 : 0;
    partition->log_start = first;
    partition->from = first;
    partition->to = first;
    partition->cut = end;
    partition->high_watermark = end;
    return plan;
}

/* Journal 0 (and further entries), no manifest: an open backup. */
static inline kb_journal *make_open(kb_storage *storage, test_clock *clock, const made_backup *made)
{
    KB_AUTO_ERROR(err);
    kb_holder holder KB_CLEANUP(kb_holder_done) = test_holder("job", made->id);
    const kb_journal_options options = {
        .storage = storage,
        .backup_id = made->id,
        .holder = &holder,
        .lock_wait_ms = 3600000,
        .clock = &clock->clock,
        .wait = test_wait,
        .wait_ctx = clock,
    };
    kb_journal *journal = NULL;
    assert_ok(kb_journal_new(&options, &journal, &err));
    assert_ok(kb_journal_wait(journal, &err));
    assert_ok(kb_journal_begin(journal, made_plan(made), &err));
    return journal;
}

static inline void add_made_segments(kb_backup *backup, const made_backup *made)
{
    KB_AUTO_ERROR(err);
    kb_partition_entry *partition = kb_backup_find_partition(backup, "orders", 0);
    for (size_t i = 0; i < made->count; i++) {
        kb_segment_entry segment = test_segment(made->segments[i].start, made->segments[i].start + 10);
        if (made->segments[i].owner != NULL)
            segment.owner = kb_backup_add_use(backup, made->segments[i].owner);
        assert_ok(kb_partition_add_segment(partition, &segment, &err));
    }
    partition->to = partition->cut;
    kb_text_set(&backup->generator, "kafka-backup-worker/test");
    backup->completed_at = INT64_C(1735689700000);
}

static inline void put_made_objects(kb_storage *storage, const made_backup *made)
{
    for (size_t i = 0; i < made->count; i++) {
        KB_AUTOFREE char *key = made_segment_key(made->id, made->segments[i].start);
        if (made->segments[i].owner == NULL)
            test_puts(storage, key, "0123456789");
    }
}

/* A complete backup with its segments. */
static inline void make_backup(kb_storage *storage, const made_backup *made)
{
    KB_AUTO_ERROR(err);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *journal = make_open(storage, &clock, made);
    const kb_journal_news heartbeat = {0};
    assert_ok(kb_journal_progress(journal, &heartbeat, &err));
    assert_ok(kb_journal_progress(journal, &heartbeat, &err));
    put_made_objects(storage, made);
    KB_AUTO_BACKUP kb_backup *backup = made_plan(made);
    add_made_segments(backup, made);
    assert_ok(kb_catalog_publish(storage, &backup, &err));
}

/* Three backups; each reuses what is left of the ones before and adds ten offsets. */
static const made_backup THREE[] = {
    {D1, NULL, {{0, NULL}, {10, NULL}, {20, NULL}}, 3},
    {D2, D1, {{10, D1}, {20, D1}, {30, NULL}}, 3},
    {D3, D2, {{20, D1}, {30, D2}, {40, NULL}}, 3},
};

/* ---- files ---- */

static inline void set_age(const char *dir, const char *key, int64_t age_ms)
{
    KB_AUTOFREE char *path = kb_temp_path(dir, key);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct timespec times[2] = {now, now};
    times[0].tv_sec -= age_ms / 1000;
    times[1].tv_sec -= age_ms / 1000;
    assert_int_equal(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW), 0);
}

typedef struct age_task {
    const char *dir;
    int64_t age_ms;
} age_task;

static inline kb_code set_age_of_entry(void *ctx, const kb_list_entry *entry, kb_error *err)
{
    (void)err;
    const age_task *task = ctx;
    set_age(task->dir, entry->key, task->age_ms);
    return KB_OK;
}

/* Makes everything below a prefix that old. */
static inline void set_age_below(const test_store *store, const char *prefix, int64_t age_ms)
{
    KB_AUTO_ERROR(err);
    age_task task = {store->dir, age_ms};
    assert_ok(kb_storage_list(store->storage, prefix, set_age_of_entry, &task, &err));
}

static inline kb_code join_entry(void *ctx, const kb_list_entry *entry, kb_error *err)
{
    (void)err;
    kb_strbuf_appendf(ctx, "%s\n", entry->key);
    return KB_OK;
}

/* All keys below a prefix, a line each; owned. */
static inline char *list_below(kb_storage *storage, const char *prefix)
{
    KB_AUTO_ERROR(err);
    KB_AUTO_STRBUF(out, 1 << 20);
    assert_ok(kb_storage_list(storage, prefix, join_entry, &out, &err));
    char *owned = kb_strbuf_take(&out);
    return owned != NULL ? owned : kb_strdup("");
}

static inline bool is_there(kb_storage *storage, const char *key)
{
    KB_AUTO_ERROR(err);
    kb_object_info info;
    kb_code code = kb_storage_head(storage, key, &info, &err);
    assert_true(code == KB_OK || code == KB_ERR_NOT_FOUND);
    return code == KB_OK;
}

static inline bool has_segment(kb_storage *storage, const char *owner, int64_t start)
{
    KB_AUTOFREE char *key = made_segment_key(owner, start);
    return is_there(storage, key);
}

/* Whether a backup is complete and all that it lists is there. */
static inline void assert_whole(kb_storage *storage, const made_backup *made)
{
    KB_AUTO_ERROR(err);
    static const kb_catalog_open_options options = {0};
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    kb_catalog_state state;
    assert_ok(kb_catalog_open(storage, made->id, &options, &backup, &state, &err));
    for (size_t i = 0; i < made->count; i++) {
        const char *owner = made->segments[i].owner != NULL ? made->segments[i].owner : made->id;
        if (!has_segment(storage, owner, made->segments[i].start))
            fail_msg("segment %lld of %s, listed by %s, is gone", (long long)made->segments[i].start, owner,
                     made->id);
    }
}

#endif
