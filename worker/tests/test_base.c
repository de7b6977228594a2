#include "worker/backup/base.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "worker/backup/seal.h"
#include "worker/catalog/reuse.h"
#include "worker/tests/lineage_fixture.h"

#define SCALE_SEGMENTS 20 /* in each partition */
#define SCALE_PLAN_MS 20000
#define SCALE_PEAK_KIB (256L << 10)

static const kb_backup_content content = {.isolation = (char *)(uintptr_t)"read_committed"};

static void select_base(kb_storage *storage, const kb_backup_content *wanted, const char *expected,
                        bool has_complete)
{
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_base_done) kb_base base = {NULL, NULL};
    bool any = false;
    assert_ok(kb_base_select(&base, storage, LINE, wanted, &any, &err));
    assert_int_equal(any, has_complete);
    assert_string_equal(base.backup != NULL ? base.backup->backup_id : "none", expected);
}

static void select_newest_complete_unmarked_with_equal_content(void **state)
{
    (void)state;
    AUTO_STORE(store);
    select_base(store.storage, &content, "none", false);
    test_member_make(store.storage, &(test_member){.id = LINE_ID("01"), .state = TEST_MEMBER_COMPLETE});
    test_member_make(store.storage, &(test_member){.id = LINE_ID("02"), .state = TEST_MEMBER_COMPLETE});
    test_member_make(store.storage, &(test_member){.id = LINE_ID("03"), .state = TEST_MEMBER_OPEN});
    test_member_make(store.storage,
                     &(test_member){.id = LINE_ID("04"), .state = TEST_MEMBER_COMPLETE, .lineage = ""});
    select_base(store.storage, &content, LINE_ID("02"), true);
    test_member_mark(store.storage, LINE_ID("02"));
    select_base(store.storage, &content, LINE_ID("01"), true);
    kb_backup_content other = content;
    other.offset_headers = true;
    select_base(store.storage, &other, "none", true);
    other = content;
    other.source_cluster_header = (char *)(uintptr_t)"prod";
    select_base(store.storage, &other, "none", true);
}

static void select_passes_over_a_damaged_backup(void **state)
{
    (void)state;
    AUTO_STORE(store);
    test_member_make(store.storage, &(test_member){.id = LINE_ID("01"), .state = TEST_MEMBER_COMPLETE});
    test_member_make(store.storage, &(test_member){.id = LINE_ID("02"), .state = TEST_MEMBER_COMPLETE});
    test_overwrite(store.storage, LINE_ID("02") "/manifest.json", "{}");
    select_base(store.storage, &content, LINE_ID("01"), true);
    test_overwrite(store.storage, LINE_ID("01") "/backup.json", "{}");
    select_base(store.storage, &content, "none", false);
}

static void open_missing_base_is_corrupt(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    KB_CLEANUP(kb_base_done) kb_base base = {NULL, NULL};
    assert_fails(kb_base_open(&base, store.storage, LINE_ID("01"), &err), KB_BACKUP_CORRUPT);
    test_member_make(store.storage, &(test_member){.id = LINE_ID("01"), .state = TEST_MEMBER_COMPLETE});
    bool leaving = true;
    assert_ok(kb_base_is_leaving(store.storage, LINE_ID("01"), &leaving, &err));
    assert_false(leaving);
    test_member_mark(store.storage, LINE_ID("01"));
    assert_ok(kb_base_is_leaving(store.storage, LINE_ID("01"), &leaving, &err));
    assert_true(leaving);
    assert_ok(kb_base_is_leaving(store.storage, LINE_ID("02"), &leaving, &err));
    assert_true(leaving);
    assert_ok(kb_base_open(&base, store.storage, LINE_ID("01"), &err));
}

/* ---- scale ---- */

/* An object of that size without content. */
static void put_hole(const char *dir, const char *key, int64_t bytes)
{
    KB_AUTOFREE char *path = kb_asprintf("%s/%s", dir, key);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, bytes), 0);
    close(fd);
}

static void add_partition(const test_store *store, kb_backup *backup, kb_topic_entry *topic, int32_t number,
                          int64_t segments)
{
    KB_AUTO_ERROR(err);
    kb_partition_entry *partition = kb_topic_add_partition(topic, number);
    KB_AUTOFREE char *folder =
        kb_asprintf("%s/%s/topics/t/partition=%d", store->dir, backup->backup_id, (int)number);
    assert_int_equal(mkdir(folder, 0700), 0);
    for (int64_t i = 0; i < segments; i++) {
        kb_segment_entry segment = test_segment(i * 100, i * 100 + 100);
        KB_AUTOFREE char *key = kb_segment_key(backup, topic, partition, &segment);
        put_hole(store->dir, key, segment.bytes);
        assert_ok(kb_partition_add_segment(partition, &segment, &err));
        kb_partition_add_probe(partition, &(kb_probe){.offset = segment.end});
    }
    partition->to = partition->cut = partition->high_watermark = segments * 100;
    partition->done = true;
}

static void publish_wide(const test_store *store, int32_t partitions, int64_t segments)
{
    KB_AUTO_ERROR(err);
    KB_AUTO_BACKUP kb_backup *backup = test_member_plan(&(test_member){.id = LINE_ID("01")});
    kb_text_set(&backup->generator, "kafka-backup-worker/test");
    backup->format_version = KB_BACKUP_FORMAT_VERSION;
    backup->min_reader = KB_BACKUP_MIN_READER;
    backup->completed_at = 1;
    backup->topics[0].partitions[0].to = backup->topics[0].partitions[0].cut;
    kb_topic_entry *topic = kb_backup_add_topic(backup, "t");
    topic->partition_count = partitions;
    topic->replication_factor = 1;
    kb_topic_set_config(topic, "cleanup.policy", "delete");
    KB_AUTOFREE char *folder = kb_asprintf("mkdir -p %s/%s/topics/t", store->dir, backup->backup_id);
    assert_int_equal(system(folder), 0);
    for (int32_t p = 0; p < partitions; p++)
        add_partition(store, backup, topic, p, segments);
    assert_ok(kb_catalog_publish(store->storage, &backup, &err));
}

/* What planning does, but for the questions to Kafka. */
static kb_backup *plan_wide(const test_store *store, kb_base *base)
{
    KB_AUTO_ERROR(err);
    bool any = false;
    assert_ok(kb_base_select(base, store->storage, LINE, &content, &any, &err));
    assert_ok(kb_base_list(base, store->storage, &err));
    const kb_topic_entry *from = kb_backup_find_topic(base->backup, "t");
    kb_backup *plan = kb_backup_new(LINE_ID("02"));
    kb_topic_entry *topic = kb_backup_add_topic(plan, "t");
    for (size_t p = 0; p < from->listed_count; p++) {
        kb_partition_entry *partition = kb_topic_add_partition(topic, from->partitions[p].partition);
        partition->cut = from->partitions[p].to + 1;
        kb_reuse_facts facts = {topic, partition, from, &from->partitions[p], false, true};
        facts.objects_stand = kb_base_objects_stand(base, from, &from->partitions[p], 0);
        assert_int_equal(kb_reuse_judge(&facts), KB_REUSE_PROBE);
        const kb_reuse_rules rules = {.segment_max_bytes = 1, .full_start = -1};
        kb_reuse_plan decided = kb_reuse_decide(&facts, KB_REUSE_CONTINUOUS, &rules);
        partition->reuse_up_to = decided.reuse_up_to;
        partition->to = decided.position;
    }
    return plan;
}

static long peak_kib(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_maxrss : 0;
}

static void planning_many_partitions_is_quick_and_small(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    bool full = getenv("KB_RELEASE_GATE") != NULL;
    int32_t partitions = full ? 5000 : 250;
    publish_wide(&store, partitions, SCALE_SEGMENTS);
    KB_CLEANUP(kb_base_done) kb_base base = {NULL, NULL};
    int64_t began_ms = kb_clock_boot_ms();
    KB_AUTO_BACKUP kb_backup *plan = plan_wide(&store, &base);
    int64_t took_ms = kb_clock_boot_ms() - began_ms;
    assert_ok(kb_seal_check_objects(store.storage, plan, base.backup, &err));
    assert_ok(kb_reuse_fill(plan, base.backup, &err));
    assert_int_equal(plan->topics[0].partitions[partitions - 1].segment_count, SCALE_SEGMENTS);
    print_message("%d segments: %lld ms, peak %ld MiB\n", (int)partitions * SCALE_SEGMENTS,
                  (long long)took_ms, peak_kib() >> 10);
    assert_true(took_ms < SCALE_PLAN_MS);
    if (full)
        assert_true(peak_kib() < SCALE_PEAK_KIB);
}

static void objects_stand_only_with_their_size(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    publish_wide(&store, 2, 3);
    KB_AUTOFREE char *missing =
        kb_asprintf("%s/topics/t/partition=1/segment-%020d.bin.zst", LINE_ID("01"), 100);
    test_remove(store.storage, missing);
    KB_CLEANUP(kb_base_done) kb_base base = {NULL, NULL};
    bool any = false;
    assert_ok(kb_base_select(&base, store.storage, LINE, &content, &any, &err));
    assert_ok(kb_base_list(&base, store.storage, &err));
    const kb_topic_entry *topic = &base.backup->topics[1];
    assert_true(kb_base_objects_stand(&base, topic, &topic->partitions[0], 0));
    assert_false(kb_base_objects_stand(&base, topic, &topic->partitions[1], 0));
    assert_false(kb_base_objects_stand(&base, topic, &topic->partitions[1], 199));
    assert_true(kb_base_objects_stand(&base, topic, &topic->partitions[1], 200)); /* it would not be listed */
    put_hole(store.dir, missing, 401);
    kb_map_free(base.stored);
    base.stored = NULL;
    assert_ok(kb_base_list(&base, store.storage, &err));
    assert_false(kb_base_objects_stand(&base, topic, &topic->partitions[1], 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(select_newest_complete_unmarked_with_equal_content),
        cmocka_unit_test(select_passes_over_a_damaged_backup),
        cmocka_unit_test(open_missing_base_is_corrupt),
        cmocka_unit_test(objects_stand_only_with_their_size),
        cmocka_unit_test(planning_many_partitions_is_quick_and_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
