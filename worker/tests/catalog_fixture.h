/*
 * catalog_fixture - what the tests of worker/catalog share: a store in a temporary directory, a store that
 * misbehaves, a clock that stands still, a plan.
 */
#ifndef KB_WORKER_TESTS_CATALOG_FIXTURE_H
#define KB_WORKER_TESTS_CATALOG_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/testing/temp_dir.h"
#include "worker/catalog/journal.h"
#include "worker/catalog/layout.h"
#include "worker/storage/storage_driver.h"
#include "worker/storage/storage_fs.h"

#define ID "orders-20250101-000000"

#define assert_ok(call) \
    do { \
        kb_code ok_code_ = (call); \
        if (ok_code_ != KB_OK) \
            fail_msg("code %d: %s", (int)ok_code_, kb_error_text(&err)); \
    } while (0)

#define assert_fails(call, code) \
    do { \
        kb_error_done(&err); \
        kb_code fail_code_ = (call); \
        if (fail_code_ != (code)) \
            fail_msg("code %d instead of %d: %s", (int)fail_code_, (int)(code), kb_error_text(&err)); \
    } while (0)

#define assert_says(text) \
    do { \
        if (strstr(kb_error_text(&err), (text)) == NULL) \
            fail_msg("'%s' is not in '%s'", (text), kb_error_text(&err)); \
    } while (0)

/* ---- a store in a directory of its own ---- */

typedef struct test_store {
    char *dir;
    kb_storage *storage;
} test_store;

static inline void test_store_open(test_store *store)
{
    KB_AUTO_ERROR(err);
    store->dir = kb_temp_dir_new();
    assert_ok(kb_storage_open_filesystem(store->dir, KB_FS_WRITE, &store->storage, &err));
}

static inline void test_store_done(test_store *store)
{
    kb_storage_free(store->storage);
    kb_temp_dir_free(store->dir);
}
#define AUTO_STORE(name) \
    KB_CLEANUP(test_store_done) test_store name = {NULL, NULL}; \
    test_store_open(&name)

static inline void test_put(kb_storage *storage, const char *key, const void *data, size_t len)
{
    KB_AUTO_ERROR(err);
    assert_ok(kb_storage_put_if_absent(storage, key, kb_view_of(data, len), &err));
}

static inline void test_puts(kb_storage *storage, const char *key, const char *text)
{
    test_put(storage, key, text, strlen(text));
}

/* The object's text, owned. */
static inline char *test_get(kb_storage *storage, const char *key)
{
    KB_AUTO_ERROR(err);
    kb_blob blob = KB_BLOB_INIT;
    assert_ok(kb_storage_get(storage, key, 1 << 26, &blob, &err));
    return (char *)blob.data;
}

static inline void test_remove(kb_storage *storage, const char *key)
{
    KB_AUTO_ERROR(err);
    assert_ok(kb_storage_remove(storage, key, &err));
}

/* Replaces an object by another text. */
static inline void test_overwrite(kb_storage *storage, const char *key, const char *text)
{
    test_remove(storage, key);
    test_puts(storage, key, text);
}

/* ---- a store that misbehaves ---- */

typedef struct bad_store {
    kb_storage *inner; /* borrowed */
    bool lose_replies; /* puts are done but say that they failed; reads fail */
    bool refuse;       /* nothing is done, everything fails */
    bool overwrite;    /* puts never say that the key is taken */
    bool alter;        /* reads give other bytes */
    int put_count;
} bad_store;

static inline kb_code bad_fail(kb_error *err)
{
    return kb_fail_retryable(err, KB_TEMPORARY_FAILURE, "test: connection lost");
}

static inline kb_code bad_put(void *state, const char *key, kb_view bytes, kb_error *err)
{
    bad_store *bad = state;
    bad->put_count++;
    if (bad->refuse)
        return bad_fail(err);
    if (bad->overwrite) {
        KB_AUTO_ERROR(ignored);
        if (kb_storage_remove(bad->inner, key, &ignored) != KB_OK)
            kb_error_done(&ignored);
    }
    kb_code code = kb_storage_put_if_absent(bad->inner, key, bytes, err);
    return code == KB_OK && bad->lose_replies ? bad_fail(err) : code;
}

static inline kb_code bad_get(void *state, const char *key, size_t max_bytes, kb_blob *ret_blob,
                              kb_error *err)
{
    bad_store *bad = state;
    if (bad->refuse || bad->lose_replies)
        return bad_fail(err);
    kb_code code = kb_storage_get(bad->inner, key, max_bytes, ret_blob, err);
    if (code == KB_OK && bad->alter && ret_blob->len > 0)
        ret_blob->data[0] ^= 1;
    return code;
}

static inline kb_code bad_get_range(void *state, const char *key, uint64_t offset, void *to, size_t len,
                                    kb_error *err)
{
    bad_store *bad = state;
    return bad->refuse ? bad_fail(err) : kb_storage_get_range(bad->inner, key, offset, to, len, err);
}

static inline kb_code bad_head(void *state, const char *key, kb_object_info *ret_info, kb_error *err)
{
    bad_store *bad = state;
    return bad->refuse ? bad_fail(err) : kb_storage_head(bad->inner, key, ret_info, err);
}

static inline kb_code bad_remove(void *state, const char *key, kb_error *err)
{
    bad_store *bad = state;
    return kb_storage_remove(bad->inner, key, err);
}

static inline kb_code bad_list_page(void *state, const kb_list_options *options, kb_list_page *ret_page,
                                    kb_error *err)
{
    bad_store *bad = state;
    return bad->refuse ? bad_fail(err) : kb_storage_list_page(bad->inner, options, ret_page, err);
}

static inline kb_code bad_upload_begin(void *state, const char *key, const char *attempt_id_hex,
                                       void **ret_upload, kb_error *err)
{
    (void)state;
    (void)key;
    (void)attempt_id_hex;
    (void)ret_upload;
    return kb_fail(err, KB_ERR_UNSUPPORTED, "test: no uploads");
}

static inline kb_code bad_upload_append(void *upload, const void *data, size_t len, kb_error *err)
{
    (void)upload;
    (void)data;
    (void)len;
    return kb_fail(err, KB_ERR_UNSUPPORTED, "test: no uploads");
}

static inline kb_code bad_upload_complete(void *upload, const uint8_t head[KB_UPLOAD_HEAD_BYTES],
                                          kb_error *err)
{
    (void)upload;
    (void)head;
    return kb_fail(err, KB_ERR_UNSUPPORTED, "test: no uploads");
}

static inline void bad_upload_free(void *owned_upload)
{
    (void)owned_upload;
}

static inline kb_code bad_abort_leftovers(void *state, const char *prefix, size_t *ret_count, kb_error *err)
{
    bad_store *bad = state;
    return kb_storage_abort_leftovers(bad->inner, prefix, ret_count, err);
}

static inline void bad_free_state(void *owned_state)
{
    (void)owned_state;
}

/* A store in front of bad->inner that does what the switches of bad say. */
static inline kb_storage *bad_storage_new(bad_store *bad)
{
    static const kb_storage_driver driver = {
        .name = "bad",
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
    };
    const kb_storage_caps caps = {.conditional_put = true};
    return kb_storage_new(&driver, bad, &caps, "test store");
}

/* ---- a clock that moves when told ---- */

typedef struct test_clock {
    kb_clock clock;
    int64_t boot_ms;
    int64_t wall_ms;
    int wait_count;
    /* Called in each wait, after the clock has moved; may be NULL. */
    void (*on_wait)(void *ctx);
    void *ctx;
    bool stop;
} test_clock;

static inline int64_t test_boot_ms(void *ctx)
{
    return ((test_clock *)ctx)->boot_ms;
}

static inline int64_t test_wall_ms(void *ctx)
{
    return ((test_clock *)ctx)->wall_ms;
}

static inline void test_clock_init(test_clock *clock)
{
    *clock = (test_clock){.boot_ms = 1000000, .wall_ms = INT64_C(1735689600000)};
    clock->clock = (kb_clock){test_boot_ms, test_wall_ms, clock};
}

static inline void test_clock_pass(test_clock *clock, int64_t ms)
{
    clock->boot_ms += ms;
    clock->wall_ms += ms;
}

static inline bool test_wait(void *ctx, int64_t ms)
{
    test_clock *clock = ctx;
    clock->wait_count++;
    test_clock_pass(clock, ms);
    if (clock->on_wait != NULL)
        clock->on_wait(clock->ctx);
    return clock->stop;
}

/* ---- holders, plans, journals ---- */

static inline kb_holder test_holder(const char *name, const char *job_uid)
{
    return (kb_holder){.job_name = kb_strdup(name),
                       .job_uid = kb_strdup(job_uid),
                       .pod_name = kb_strdup("pod"),
                       .host = kb_strdup("another-host"),
                       .boot_id = kb_strdup("another-boot"),
                       .pid = 17,
                       .pid_start = 4711};
}

/* A journal of a holder on another machine. */
static inline kb_journal *test_journal(kb_storage *storage, test_clock *clock, const char *name,
                                       const char *job_uid)
{
    KB_AUTO_ERROR(err);
    kb_holder holder KB_CLEANUP(kb_holder_done) = test_holder(name, job_uid);
    const kb_journal_options options = {
        .storage = storage,
        .backup_id = ID,
        .holder = &holder,
        .lock_wait_ms = 3600000,
        .clock = &clock->clock,
        .wait = test_wait,
        .wait_ctx = clock,
    };
    kb_journal *journal = NULL;
    assert_ok(kb_journal_new(&options, &journal, &err));
    return journal;
}
#define AUTO_JOURNAL KB_CLEANUP(kb_journal_free_at) kb_journal

/* Topic orders with partitions 0 (offsets 10 to 100) and 1 (empty). */
static inline kb_backup *test_plan(void)
{
    kb_backup *plan = kb_backup_new(ID);
    plan->created_at = INT64_C(1735689600000);
    plan->cut_time = INT64_C(1735689600500);
    kb_text_set(&plan->owner, "manual");
    kb_text_set(&plan->cluster_id, "MkU3OEVBNTcwNTJENDM2Qk");
    kb_text_set(&plan->compression, "zstd");
    kb_text_set(&plan->content.isolation, "read_committed");
    plan->level = 3;
    kb_topic_entry *topic = kb_backup_add_topic(plan, "orders");
    topic->has_topic_id = true;
    memset(topic->topic_id, 0x10, sizeof topic->topic_id);
    topic->partition_count = 2;
    topic->replication_factor = 1;
    kb_text_set(&topic->timestamp_type, "CreateTime");
    kb_topic_set_config(topic, "cleanup.policy", "delete");
    kb_partition_entry *first = kb_topic_add_partition(topic, 0);
    first->log_start = 10;
    first->from = 10;
    first->cut = 100;
    first->high_watermark = 101;
    (void)kb_topic_add_partition(topic, 1);
    return plan;
}

/* A segment of orders/0 that claims and holds [from, to). */
static inline kb_segment_entry test_segment(int64_t from, int64_t to)
{
    kb_segment_entry segment = {
        .start = from,
        .end = to - 1,
        .from = from,
        .to = to,
        .count = to - from,
        .min_ts = 1000 + from,
        .max_ts = 1000 + to,
        .raw_bytes = 40 * (to - from),
        .bytes = 400,
        .owner = KB_OWNER_SELF,
        .codec = KB_CODEC_ZSTD,
        .has_hashes = true,
    };
    memset(segment.sha256, (int)(from & 0xff), sizeof segment.sha256);
    segment.digest.limb[0] = (uint64_t)from;
    return segment;
}

/* Journals one segment of orders/0. */
static inline kb_code test_progress(kb_journal *journal, int64_t from, int64_t to, kb_error *err)
{
    kb_segment_entry segment = test_segment(from, to);
    kb_partition_progress progress = KB_PARTITION_PROGRESS_INIT;
    progress.topic = "orders";
    progress.position = to;
    progress.segments = &segment;
    progress.segment_count = 1;
    progress.done = to == 100;
    const kb_journal_news news = {.partitions = &progress, .partition_count = 1};
    return kb_journal_progress(journal, &news, err);
}

/* An owned, fresh backup. */
static inline kb_journal *test_begun(kb_storage *storage, test_clock *clock, const char *name,
                                     const char *job_uid)
{
    KB_AUTO_ERROR(err);
    kb_journal *journal = test_journal(storage, clock, name, job_uid);
    assert_ok(kb_journal_wait(journal, &err));
    assert_int_equal(kb_journal_state_of(journal), KB_JOURNAL_FRESH);
    assert_ok(kb_journal_begin(journal, test_plan(), &err));
    return journal;
}

/* The same, filled and sealed. */
static inline kb_journal *test_sealed(kb_storage *storage, test_clock *clock, const char *name,
                                      const char *job_uid)
{
    KB_AUTO_ERROR(err);
    kb_journal *journal = test_begun(storage, clock, name, job_uid);
    assert_ok(test_progress(journal, 10, 60, &err));
    assert_ok(test_progress(journal, 60, 100, &err));
    assert_ok(kb_journal_seal(journal, "kafka-backup-worker/test", &err));
    return journal;
}

#endif
