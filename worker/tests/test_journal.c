#include "worker/catalog/journal.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/failpoint.h"
#include "worker/catalog/object_source.h"
#include "worker/tests/catalog_fixture.h"

/* ---- one attempt ---- */

static void kb_journal_begin_fresh_backup_is_owned_and_durable(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *journal = test_begun(store.storage, &clock, "first", "uid-1");
    assert_int_equal(kb_journal_state_of(journal), KB_JOURNAL_OWNED);
    assert_int_equal(kb_journal_attempt(journal), 1);
    assert_true(kb_journal_may_publish(journal));
    assert_true(kb_journal_backup(journal)->conditional_put);
    KB_AUTOFREE char *text = test_get(store.storage, ID "/journal/00000000.json");
    static const char begin[] =
        "{\"formatVersion\":1,\"seq\":0,\"kind\":\"open\",\"backupId\":\"" ID "\",\"attemptId\":\"";
    assert_memory_equal(text, begin, sizeof begin - 1);
    assert_non_null(strstr(text,
                           "\"attempt\":1,\"time\":\"2025-01-01T00:00:00.000Z\",\"holder\":{\"jobName\":"
                           "\"first\",\"jobUid\":\"uid-1\",\"podName\":\"pod\",\"host\":\"another-host\","));
    assert_non_null(strstr(text, "\"prevSha256\":\"\",\"plan\":{\"lineage\":\"\",\"owner\":\"manual\","));
    assert_ok(kb_self_hash_check(text, strlen(text), &err));
}

static void kb_journal_inspect_rebuilds_what_was_written(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *journal = test_begun(store.storage, &clock, "first", "");
    assert_false(kb_journal_has_progress(journal));
    assert_ok(test_progress(journal, 10, 60, &err));
    const kb_gap gap = {60, 70, 123};
    const kb_probe probe = {.offset = 59};
    const kb_finding_entry finding = {
        .reason = (char *)(uintptr_t)"RetentionGap", .topic = (char *)(uintptr_t)"orders", .partition = 0};
    const kb_groups_ref groups = {
        .key = (char *)(uintptr_t)(ID "/consumer-groups-snapshot.json"), .count = 3, .complete = true};
    const kb_topic_event event = {"orders", KB_TOPIC_FAILED};
    kb_partition_progress progress = KB_PARTITION_PROGRESS_INIT;
    progress.topic = "orders";
    progress.position = 70;
    progress.gaps = &gap;
    progress.gap_count = 1;
    progress.probes = &probe;
    progress.probe_count = 1;
    progress.max_record_bytes = 412;
    const kb_journal_news news = {.partitions = &progress,
                                  .partition_count = 1,
                                  .findings = &finding,
                                  .finding_count = 1,
                                  .groups = &groups,
                                  .topic_events = &event,
                                  .topic_event_count = 1};
    assert_ok(kb_journal_progress(journal, &news, &err));
    assert_ok(kb_journal_progress(journal, &(kb_journal_news){0}, &err));
    assert_ok(kb_journal_release(journal, &err));
    assert_int_equal(kb_journal_state_of(journal), KB_JOURNAL_RELEASED);
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    kb_journal_state found;
    assert_ok(kb_journal_inspect(store.storage, ID, &backup, &found, &err));
    assert_int_equal(found, KB_JOURNAL_RELEASED);
    const kb_topic_entry *topic = kb_backup_find_topic(backup, "orders");
    const kb_partition_entry *partition = kb_topic_find_partition(topic, 0);
    assert_int_equal(topic->state, KB_TOPIC_FAILED);
    assert_int_equal(topic->max_record_bytes, 412);
    assert_string_equal(topic->timestamp_type, "CreateTime");
    assert_true(topic->has_topic_id);
    assert_string_equal(kb_topic_config(topic, "cleanup.policy"), "delete");
    assert_int_equal(partition->to, 70);
    assert_int_equal(partition->segment_count, 1);
    assert_int_equal(partition->gaps[0].detected_at, 123);
    assert_int_equal(partition->probes[0].offset, 59);
    assert_int_equal(backup->finding_count, 1);
    assert_int_equal(backup->groups->count, 3);
    assert_int_equal(backup->cut_time, INT64_C(1735689600500));
    assert_int_equal(kb_topic_find_partition(topic, 1)->cut, 0);
}

static void kb_journal_inspect_without_journal_is_not_found(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    kb_journal_state found;
    assert_fails(kb_journal_inspect(store.storage, ID, &backup, &found, &err), KB_ERR_NOT_FOUND);
}

static void kb_journal_seal_incomplete_backup_is_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *journal = test_begun(store.storage, &clock, "first", "");
    assert_ok(test_progress(journal, 10, 60, &err));
    assert_fails(kb_journal_seal(journal, "x", &err), KB_ERR_INTERNAL);
    assert_says("orders/0 is covered up to 60");
    assert_ok(test_progress(journal, 60, 100, &err));
    test_clock_pass(&clock, 5000);
    assert_ok(kb_journal_seal(journal, "kafka-backup-worker/test", &err));
    const kb_backup *backup = kb_journal_backup(journal);
    assert_int_equal(backup->completed_at, INT64_C(1735689605000));
    assert_string_equal(backup->generator, "kafka-backup-worker/test");
    assert_fails(test_progress(journal, 60, 100, &err), KB_ERR_INTERNAL);
}

static void kb_journal_may_publish_old_entry_needs_heartbeat(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *journal = test_begun(store.storage, &clock, "first", "");
    assert_int_equal(kb_journal_due_in_ms(journal, 5000, true), 5000);
    assert_int_equal(kb_journal_due_in_ms(journal, 0, true), 1000);
    assert_int_equal(kb_journal_due_in_ms(journal, 5000, false), 60000);
    assert_int_equal(kb_journal_due_in_ms(journal, 90000, true), 60000);
    test_clock_pass(&clock, 120000);
    assert_true(kb_journal_may_publish(journal));
    test_clock_pass(&clock, 1);
    assert_false(kb_journal_may_publish(journal));
    assert_int_equal(kb_journal_due_in_ms(journal, 5000, false), 0);
    assert_ok(kb_journal_progress(journal, &(kb_journal_news){0}, &err));
    assert_int_equal(kb_journal_age_ms(journal), 0);
    assert_true(kb_journal_may_publish(journal));
    assert_false(kb_journal_has_progress(journal));
}

/* ---- news that contradict the model ---- */

/* One segment or gap behind the segment [10, 60) of orders/0, whose cut is 100. */
typedef struct news_case {
    const char *topic;
    int32_t partition;
    int64_t position;
    int64_t cut;
    int64_t segment_from; /* with segment_to; 0 = none */
    int64_t segment_to;
    int64_t gap_start;
    int64_t gap_end;
    const char *message;
} news_case;

static const news_case news_cases[] = {
    {"orders", 0, 59, -1, 0, 0, 0, 0, "position 59"},
    {"orders", 0, 101, -1, 0, 0, 0, 0, "position 101"},
    {"orders", 0, 70, 99, 0, 0, 0, 0, "cut of orders/0 sinks"},
    {"elsewhere", 0, 70, -1, 0, 0, 0, 0, "not in the plan"},
    {"orders", 7, 70, -1, 0, 0, 0, 0, "not in the plan"},
    {"orders", 0, 79, -1, 60, 80, 0, 0, "position 79"},
    {"orders", 0, 80, -1, 50, 80, 0, 0, "does not join at 60"},
    {"orders", 0, 80, -1, 61, 80, 0, 0, "does not join at 60"},
    {"orders", 0, 101, -1, 60, 101, 0, 0, "position 101"},
    {"orders", 0, 90, -1, 60, 80, 81, 90, "does not join at 80"},
    {"orders", 0, 80, -1, 0, 0, 61, 70, "does not join at 60"},
    {"orders", 0, 80, -1, 0, 0, 60, 60, "a gap"},
};

static kb_code send_case(kb_journal *journal, const news_case *c, kb_error *err)
{
    const kb_segment_entry segment = test_segment(c->segment_from, c->segment_to);
    const kb_gap gap = {c->gap_start, c->gap_end, 0};
    const kb_partition_progress progress = {.topic = c->topic,
                                            .partition = c->partition,
                                            .position = c->position,
                                            .cut = c->cut,
                                            .reuse_up_to = -1,
                                            .segments = &segment,
                                            .segment_count = c->segment_to > 0 ? 1 : 0,
                                            .gaps = &gap,
                                            .gap_count = c->gap_end > 0 ? 1 : 0};
    const kb_journal_news news = {.partitions = &progress, .partition_count = 1};
    return kb_journal_progress(journal, &news, err);
}

static void kb_journal_progress_contradictions_write_nothing(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *journal = test_begun(store.storage, &clock, "first", "");
    assert_ok(test_progress(journal, 10, 60, &err));
    for (size_t i = 0; i < KB_ARRAY_LEN(news_cases); i++) {
        assert_fails(send_case(journal, &news_cases[i], &err), KB_ERR_INTERNAL);
        assert_says(news_cases[i].message);
    }
    const kb_partition_progress twice[] = {
        {.topic = "orders", .position = 60, .cut = -1, .reuse_up_to = -1},
        {.topic = "orders", .position = 60, .cut = -1, .reuse_up_to = -1},
    };
    const kb_journal_news news = {.partitions = twice, .partition_count = 2};
    assert_fails(kb_journal_progress(journal, &news, &err), KB_ERR_INTERNAL);
    assert_says("twice");
    kb_object_info info;
    assert_fails(kb_storage_head(store.storage, ID "/journal/00000002.json", &info, &err), KB_ERR_NOT_FOUND);
}

static void kb_journal_progress_raised_cut_continues_from_the_join(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *journal = test_begun(store.storage, &clock, "first", "");
    assert_ok(test_progress(journal, 10, 60, &err));
    kb_partition_progress progress = KB_PARTITION_PROGRESS_INIT;
    progress.topic = "orders";
    progress.position = 100;
    progress.done = true;
    const kb_journal_news news = {.partitions = &progress, .partition_count = 1};
    assert_ok(kb_journal_progress(journal, &news, &err)); /* nothing lies in [60, 100) */
    kb_segment_entry segment = test_segment(100, 110);
    const kb_gap gap = {110, 120, 5};
    progress.position = 120;
    progress.cut = 130;
    progress.cut_time = INT64_C(1735689700000);
    progress.done = false;
    progress.segments = &segment;
    progress.segment_count = 1;
    progress.gaps = &gap;
    progress.gap_count = 1;
    assert_ok(kb_journal_progress(journal, &news, &err));
    const kb_partition_entry *partition = kb_backup_find_partition(kb_journal_backup(journal), "orders", 0);
    assert_int_equal(partition->segments[1].from, 60);
    assert_int_equal(partition->cut, 130);
    assert_int_equal(partition->to, 120);
    assert_false(partition->done);
    assert_int_equal(kb_journal_backup(journal)->cut_time, INT64_C(1735689700000));
    assert_ok(kb_partition_check_tiling(partition, &err));
}

/* ---- who may own the backup ---- */

static void kb_journal_wait_silent_holder_is_taken_over_after_180_s(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *first = test_begun(store.storage, &clock, "first", "uid-1");
    assert_ok(test_progress(first, 10, 60, &err));
    int64_t begin = clock.boot_ms;
    AUTO_JOURNAL *second = test_journal(store.storage, &clock, "second", "uid-2");
    assert_ok(kb_journal_wait(second, &err));
    assert_int_equal(kb_journal_state_of(second), KB_JOURNAL_OPEN);
    assert_int_equal(clock.boot_ms - begin, 180000);
    assert_ok(kb_journal_take_over(second, &err));
    assert_int_equal(kb_journal_attempt(second), 2);
    assert_int_equal(kb_backup_find_partition(kb_journal_backup(second), "orders", 0)->to, 60);
    /* The zombie wakes: its entry meets ours, and nothing more is published, now and later. */
    assert_fails(kb_journal_progress(first, &(kb_journal_news){0}, &err), KB_FENCED);
    assert_says("taken over by job 'second'");
    assert_true(kb_journal_is_fenced(first));
    assert_false(kb_journal_may_publish(first));
    assert_fails(kb_journal_release(first, &err), KB_FENCED);
    assert_ok(test_progress(second, 60, 100, &err));
}

typedef struct live_holder {
    kb_journal *journal;
    int entries;
} live_holder;

static void write_heartbeat(void *ctx)
{
    live_holder *holder = ctx;
    KB_AUTO_ERROR(err);
    if (++holder->entries % 4 == 0)
        assert_ok(kb_journal_progress(holder->journal, &(kb_journal_news){0}, &err));
}

static void count_waiting(void *ctx, const kb_holder *holder, const char *since_rfc3339)
{
    (*(int *)ctx)++;
    assert_string_equal(holder->job_name, "first");
    assert_string_equal(since_rfc3339, "2025-01-01T00:00:00.000Z");
}

static void kb_journal_wait_live_holder_ends_locked(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *first = test_begun(store.storage, &clock, "first", "uid-1");
    live_holder live = {first, 0};
    clock.on_wait = write_heartbeat;
    clock.ctx = &live;
    int shown = 0;
    kb_holder holder KB_CLEANUP(kb_holder_done) = test_holder("second", "uid-2");
    const kb_journal_options options = {.storage = store.storage,
                                        .backup_id = ID,
                                        .holder = &holder,
                                        .lock_wait_ms = 600000,
                                        .clock = &clock.clock,
                                        .wait = test_wait,
                                        .wait_ctx = &clock,
                                        .on_waiting = count_waiting,
                                        .on_waiting_ctx = &shown};
    AUTO_JOURNAL *second = NULL;
    assert_ok(kb_journal_new(&options, &second, &err));
    assert_fails(kb_journal_wait(second, &err), KB_BACKUP_LOCKED);
    assert_says("job 'first', pod 'pod', process 17 on host 'another-host' since 2025-01-01T00:00:00.000Z");
    assert_int_equal(clock.wait_count, 40);
    assert_int_equal(shown, 40);
    assert_true(err.retryable);
}

static void kb_journal_wait_stopped_says_so(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *first = test_begun(store.storage, &clock, "first", "uid-1");
    AUTO_JOURNAL *second = test_journal(store.storage, &clock, "second", "uid-2");
    clock.stop = true;
    assert_fails(kb_journal_wait(second, &err), KB_ERR_STOPPED);
    (void)first;
}

static void kb_journal_wait_released_backup_is_free_at_once(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *first = test_begun(store.storage, &clock, "first", "");
    assert_ok(kb_journal_release(first, &err));
    AUTO_JOURNAL *second = test_journal(store.storage, &clock, "second", "");
    assert_ok(kb_journal_wait(second, &err));
    assert_int_equal(kb_journal_state_of(second), KB_JOURNAL_OPEN);
    assert_int_equal(clock.wait_count, 0);
    assert_ok(kb_journal_take_over(second, &err));
}

static void kb_journal_wait_own_job_is_free_at_once(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *first = test_begun(store.storage, &clock, "first", "uid-1");
    AUTO_JOURNAL *second = test_journal(store.storage, &clock, "first", "uid-1");
    assert_ok(kb_journal_wait(second, &err));
    assert_int_equal(clock.wait_count, 0);
    assert_ok(kb_journal_take_over(second, &err));
    assert_fails(test_progress(first, 10, 60, &err), KB_FENCED);
}

/* A run by hand that was killed: its process is gone, nobody needs to wait for it. */
static void kb_journal_wait_dead_process_is_free_at_once(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    kb_holder holder KB_CLEANUP(kb_holder_done) = {0};
    kb_holder_init(&holder, NULL, NULL, NULL);
    assert_false(kb_holder_is_dead(&holder));
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    (void)waitpid(child, NULL, 0);
    const kb_holder same_pid_later = {.host = holder.host,
                                      .boot_id = holder.boot_id,
                                      .pid = getpid(),
                                      .pid_start = holder.pid_start - 1,
                                      .pid_namespace = holder.pid_namespace};
    assert_true(kb_holder_is_dead(&same_pid_later));
    holder.pid = child;
    assert_true(kb_holder_is_dead(&holder));
    kb_journal_options options = {.storage = store.storage,
                                  .backup_id = ID,
                                  .holder = &holder,
                                  .clock = &clock.clock,
                                  .wait = test_wait,
                                  .wait_ctx = &clock};
    AUTO_JOURNAL *first = NULL;
    assert_ok(kb_journal_new(&options, &first, &err));
    assert_ok(kb_journal_wait(first, &err));
    assert_ok(kb_journal_begin(first, test_plan(), &err));
    AUTO_JOURNAL *second = test_journal(store.storage, &clock, "second", "");
    assert_ok(kb_journal_wait(second, &err));
    assert_int_equal(kb_journal_state_of(second), KB_JOURNAL_OPEN);
    assert_int_equal(clock.wait_count, 0);
}

static void kb_holder_is_dead_elsewhere_is_never_certain(void **state)
{
    (void)state;
    kb_holder self KB_CLEANUP(kb_holder_done) = {0};
    kb_holder_init(&self, NULL, NULL, NULL);
    char other[] = "other";
    char none[] = "";
    const int64_t gone = INT32_MAX;
    const kb_holder cases[] = {
        {.host = other, .boot_id = self.boot_id, .pid = gone, .pid_namespace = self.pid_namespace},
        {.host = self.host, .boot_id = other, .pid = gone, .pid_namespace = self.pid_namespace},
        {.host = self.host, .boot_id = none, .pid = gone, .pid_namespace = self.pid_namespace},
        {.host = self.host, .boot_id = self.boot_id, .pid = gone, .pid_namespace = self.pid_namespace + 1},
        {.host = self.host, .boot_id = self.boot_id, .pid = 0, .pid_namespace = self.pid_namespace},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++)
        assert_false(kb_holder_is_dead(&cases[i]));
}

static void kb_journal_begin_second_writer_waits(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *first = test_journal(store.storage, &clock, "first", "uid-1");
    AUTO_JOURNAL *second = test_journal(store.storage, &clock, "second", "uid-2");
    assert_ok(kb_journal_wait(first, &err));
    assert_ok(kb_journal_wait(second, &err));
    assert_ok(kb_journal_begin(first, test_plan(), &err));
    assert_fails(kb_journal_begin(second, test_plan(), &err), KB_ERR_EXISTS);
    assert_int_equal(kb_journal_attempt(second), 0);
    assert_ok(kb_journal_wait(second, &err));
    assert_int_equal(kb_journal_state_of(second), KB_JOURNAL_OPEN);
    assert_int_equal(clock.wait_count, 12);
}

typedef struct racer {
    pthread_t thread;
    pthread_barrier_t *barrier;
    kb_journal *journal;
    kb_code code;
} racer;

static void *race(void *ctx)
{
    racer *r = ctx;
    KB_AUTO_ERROR(err);
    (void)pthread_barrier_wait(r->barrier);
    r->code = kb_journal_begin(r->journal, test_plan(), &err);
    return NULL;
}

static void kb_journal_begin_racing_writers_exactly_one_proceeds(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    for (int round = 0; round < 10; round++) {
        AUTO_STORE(store);
        test_clock clock;
        test_clock_init(&clock);
        pthread_barrier_t barrier;
        racer racers[4];
        assert_int_equal(pthread_barrier_init(&barrier, NULL, KB_ARRAY_LEN(racers)), 0);
        for (size_t i = 0; i < KB_ARRAY_LEN(racers); i++) {
            racers[i] = (racer){.barrier = &barrier};
            racers[i].journal = test_journal(store.storage, &clock, "racer", "");
            assert_ok(kb_journal_wait(racers[i].journal, &err));
        }
        int winners = 0;
        for (size_t i = 0; i < KB_ARRAY_LEN(racers); i++)
            assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
        for (size_t i = 0; i < KB_ARRAY_LEN(racers); i++) {
            assert_int_equal(pthread_join(racers[i].thread, NULL), 0);
            assert_true(racers[i].code == KB_OK || racers[i].code == KB_ERR_EXISTS);
            winners += racers[i].code == KB_OK ? 1 : 0;
            kb_journal_free(racers[i].journal);
        }
        assert_int_equal(winners, 1);
        assert_int_equal(pthread_barrier_destroy(&barrier), 0);
    }
}

static void kb_journal_wait_complete_backup_depends_on_the_job(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *first = test_sealed(store.storage, &clock, "first", "uid-1");
    (void)first;
    test_puts(store.storage, ID "/manifest.json", "{}");
    AUTO_JOURNAL *again = test_journal(store.storage, &clock, "first", "uid-1");
    assert_ok(kb_journal_wait(again, &err));
    assert_int_equal(kb_journal_state_of(again), KB_JOURNAL_COMPLETE);
    AUTO_JOURNAL *other = test_journal(store.storage, &clock, "other", "uid-2");
    assert_fails(kb_journal_wait(other, &err), KB_BACKUP_EXISTS);
    assert_says("exists already");
    AUTO_JOURNAL *manual = test_journal(store.storage, &clock, "", "");
    assert_fails(kb_journal_wait(manual, &err), KB_BACKUP_EXISTS);
}

static void kb_journal_wait_foreign_manifest_is_left_alone(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    test_puts(store.storage, ID "/manifest.json", "{}");
    AUTO_JOURNAL *journal = test_journal(store.storage, &clock, "first", "uid-1");
    assert_fails(kb_journal_wait(journal, &err), KB_BACKUP_EXISTS);
}

static void kb_journal_wait_sealed_backup_is_for_anybody(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *first = test_sealed(store.storage, &clock, "first", "uid-1");
    (void)first;
    AUTO_JOURNAL *second = test_journal(store.storage, &clock, "second", "uid-2");
    assert_ok(kb_journal_wait(second, &err));
    assert_int_equal(kb_journal_state_of(second), KB_JOURNAL_SEALED);
    assert_int_equal(clock.wait_count, 0);
    assert_string_equal(kb_journal_backup(second)->generator, "kafka-backup-worker/test");
}

static void kb_journal_replan_only_while_nothing_is_journaled(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *first = test_begun(store.storage, &clock, "first", "");
    assert_ok(kb_journal_release(first, &err));
    AUTO_JOURNAL *second = test_journal(store.storage, &clock, "second", "");
    assert_ok(kb_journal_wait(second, &err));
    kb_backup *plan = test_plan();
    kb_backup_find_partition(plan, "orders", 0)->cut = 200;
    assert_ok(kb_journal_replan(second, plan, &err));
    assert_int_equal(kb_backup_find_partition(kb_journal_backup(second), "orders", 0)->cut, 200);
    assert_ok(test_progress(second, 10, 60, &err));
    assert_ok(kb_journal_release(second, &err));
    AUTO_JOURNAL *third = test_journal(store.storage, &clock, "third", "");
    assert_ok(kb_journal_wait(third, &err));
    assert_fails(kb_journal_replan(third, test_plan(), &err), KB_ERR_INTERNAL);
    assert_ok(kb_journal_take_over(third, &err));
    assert_int_equal(kb_journal_attempt(third), 3);
}

/* ---- stores that misbehave ---- */

static void kb_journal_progress_lost_reply_same_news_again_counts_once(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    bad_store bad = {.inner = store.storage};
    kb_storage *storage KB_CLEANUP(kb_storage_free_at) = bad_storage_new(&bad);
    AUTO_JOURNAL *journal = test_begun(storage, &clock, "first", "");
    bad.lose_replies = true;
    assert_fails(test_progress(journal, 10, 60, &err), KB_TEMPORARY_FAILURE);
    test_clock_pass(&clock, 3000);
    assert_fails(test_progress(journal, 10, 60, &err), KB_TEMPORARY_FAILURE);
    bad.lose_replies = false;
    test_clock_pass(&clock, 3000);
    assert_ok(test_progress(journal, 10, 60, &err));
    assert_int_equal(kb_backup_find_partition(kb_journal_backup(journal), "orders", 0)->records, 50);
    bad.lose_replies = true;
    assert_fails(test_progress(journal, 60, 80, &err), KB_TEMPORARY_FAILURE);
    bad.lose_replies = false;
    test_clock_pass(&clock, 3000);
    assert_ok(test_progress(journal, 80, 100, &err)); /* settles the pending one first */
    bad.lose_replies = true;
    assert_fails(kb_journal_seal(journal, "g", &err), KB_TEMPORARY_FAILURE);
    bad.lose_replies = false;
    assert_ok(kb_journal_seal(journal, "g", &err));
    assert_int_equal(kb_journal_state_of(journal), KB_JOURNAL_SEALED);
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    kb_journal_state found;
    assert_ok(kb_journal_inspect(storage, ID, &backup, &found, &err));
    assert_int_equal(kb_backup_find_partition(backup, "orders", 0)->segment_count, 3);
    kb_object_info info;
    assert_fails(kb_storage_head(storage, ID "/journal/00000005.json", &info, &err), KB_ERR_NOT_FOUND);
}

static void kb_journal_begin_lost_reply_is_recognised(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    bad_store bad = {.inner = store.storage};
    kb_storage *storage KB_CLEANUP(kb_storage_free_at) = bad_storage_new(&bad);
    AUTO_JOURNAL *journal = test_journal(storage, &clock, "first", "");
    assert_ok(kb_journal_wait(journal, &err));
    bad.lose_replies = true;
    assert_fails(kb_journal_begin(journal, test_plan(), &err), KB_TEMPORARY_FAILURE);
    bad.lose_replies = false;
    assert_ok(kb_journal_begin(journal, test_plan(), &err));
    assert_int_equal(kb_journal_state_of(journal), KB_JOURNAL_OWNED);
}

static void kb_journal_wait_failing_store_is_never_absence(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    bad_store bad = {.inner = store.storage, .refuse = true};
    kb_storage *storage KB_CLEANUP(kb_storage_free_at) = bad_storage_new(&bad);
    AUTO_JOURNAL *journal = test_journal(storage, &clock, "first", "");
    assert_fails(kb_journal_wait(journal, &err), KB_TEMPORARY_FAILURE);
    assert_true(err.retryable);
}

static void kb_journal_begin_store_without_condition_is_noticed(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    bad_store bad = {.inner = store.storage, .overwrite = true};
    kb_storage *storage KB_CLEANUP(kb_storage_free_at) = bad_storage_new(&bad);
    AUTO_JOURNAL *journal = test_begun(storage, &clock, "first", "");
    assert_false(kb_journal_backup(journal)->conditional_put);
    assert_int_equal(clock.wait_count, 1);
    assert_ok(test_progress(journal, 10, 100, &err));
    assert_ok(kb_journal_seal(journal, "g", &err));
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    kb_journal_state found;
    assert_ok(kb_journal_inspect(storage, ID, &backup, &found, &err));
    assert_false(backup->conditional_put);
}

static void kb_journal_begin_required_condition_missing_is_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    bad_store bad = {.inner = store.storage, .overwrite = true};
    kb_storage *storage KB_CLEANUP(kb_storage_free_at) = bad_storage_new(&bad);
    kb_holder holder KB_CLEANUP(kb_holder_done) = test_holder("first", "");
    const kb_journal_options options = {.storage = storage,
                                        .backup_id = ID,
                                        .holder = &holder,
                                        .require_conditional_put = true,
                                        .clock = &clock.clock,
                                        .wait = test_wait,
                                        .wait_ctx = &clock};
    AUTO_JOURNAL *journal = NULL;
    assert_ok(kb_journal_new(&options, &journal, &err));
    assert_ok(kb_journal_wait(journal, &err));
    assert_fails(kb_journal_begin(journal, test_plan(), &err), KB_CONFIG_INVALID);
    assert_says("require_conditional_put");
}

static void kb_journal_begin_store_that_alters_bytes_is_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    bad_store bad = {.inner = store.storage};
    kb_storage *storage KB_CLEANUP(kb_storage_free_at) = bad_storage_new(&bad);
    AUTO_JOURNAL *journal = test_journal(storage, &clock, "first", "");
    assert_ok(kb_journal_wait(journal, &err));
    bad.alter = true;
    assert_fails(kb_journal_begin(journal, test_plan(), &err), KB_CONFIG_INVALID);
    assert_says("other bytes");
}

#ifdef KB_FAILPOINTS

/* An error at a failpoint behind the write is a lost reply: trying again must not count anything twice. */
static void kb_journal_failpoint_errors_are_survived_by_trying_again(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *journal = test_journal(store.storage, &clock, "first", "");
    assert_ok(kb_journal_wait(journal, &err));
    assert_ok(kb_failpoint_configure("open.after:error,progress.before:error,progress.after:error,"
                                     "heartbeat.after:error,seal.after:error,journal.sent_no_reply:error",
                                     &err));
    assert_fails(kb_journal_begin(journal, test_plan(), &err), KB_TEMPORARY_FAILURE);
    assert_ok(kb_journal_begin(journal, NULL, &err));
    assert_fails(test_progress(journal, 10, 100, &err), KB_TEMPORARY_FAILURE);
    assert_fails(test_progress(journal, 10, 100, &err), KB_TEMPORARY_FAILURE);
    assert_ok(test_progress(journal, 10, 100, &err));
    assert_fails(kb_journal_progress(journal, &(kb_journal_news){0}, &err), KB_TEMPORARY_FAILURE);
    assert_ok(kb_journal_progress(journal, &(kb_journal_news){0}, &err));
    assert_fails(kb_journal_seal(journal, "g", &err), KB_TEMPORARY_FAILURE);
    assert_ok(kb_journal_seal(journal, "g", &err));
    assert_ok(kb_failpoint_configure("", &err));
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    kb_journal_state found;
    assert_ok(kb_journal_inspect(store.storage, ID, &backup, &found, &err));
    assert_int_equal(found, KB_JOURNAL_SEALED);
    assert_int_equal(kb_backup_find_partition(backup, "orders", 0)->records, 90);
}

#endif

/* ---- damaged journals ---- */

static void kb_journal_wait_hole_is_not_taken_for_the_end(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *first = test_begun(store.storage, &clock, "first", "uid-1");
    assert_ok(test_progress(first, 10, 60, &err));
    assert_ok(test_progress(first, 60, 100, &err));
    test_remove(store.storage, ID "/journal/00000001.json");
    AUTO_JOURNAL *second = test_journal(store.storage, &clock, "first", "uid-1");
    assert_fails(kb_journal_wait(second, &err), KB_BACKUP_CORRUPT);
    assert_says("entry 1 is missing");
    test_remove(store.storage, ID "/journal/00000000.json");
    AUTO_JOURNAL *third = test_journal(store.storage, &clock, "first", "uid-1");
    assert_fails(kb_journal_wait(third, &err), KB_BACKUP_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_journal_begin_fresh_backup_is_owned_and_durable),
        cmocka_unit_test(kb_journal_inspect_rebuilds_what_was_written),
        cmocka_unit_test(kb_journal_inspect_without_journal_is_not_found),
        cmocka_unit_test(kb_journal_seal_incomplete_backup_is_refused),
        cmocka_unit_test(kb_journal_may_publish_old_entry_needs_heartbeat),
        cmocka_unit_test(kb_journal_progress_contradictions_write_nothing),
        cmocka_unit_test(kb_journal_progress_raised_cut_continues_from_the_join),
        cmocka_unit_test(kb_journal_wait_silent_holder_is_taken_over_after_180_s),
        cmocka_unit_test(kb_journal_wait_live_holder_ends_locked),
        cmocka_unit_test(kb_journal_wait_stopped_says_so),
        cmocka_unit_test(kb_journal_wait_released_backup_is_free_at_once),
        cmocka_unit_test(kb_journal_wait_own_job_is_free_at_once),
        cmocka_unit_test(kb_journal_wait_dead_process_is_free_at_once),
        cmocka_unit_test(kb_holder_is_dead_elsewhere_is_never_certain),
        cmocka_unit_test(kb_journal_begin_second_writer_waits),
        cmocka_unit_test(kb_journal_begin_racing_writers_exactly_one_proceeds),
        cmocka_unit_test(kb_journal_wait_complete_backup_depends_on_the_job),
        cmocka_unit_test(kb_journal_wait_foreign_manifest_is_left_alone),
        cmocka_unit_test(kb_journal_wait_sealed_backup_is_for_anybody),
        cmocka_unit_test(kb_journal_replan_only_while_nothing_is_journaled),
        cmocka_unit_test(kb_journal_progress_lost_reply_same_news_again_counts_once),
        cmocka_unit_test(kb_journal_begin_lost_reply_is_recognised),
        cmocka_unit_test(kb_journal_wait_failing_store_is_never_absence),
        cmocka_unit_test(kb_journal_begin_store_without_condition_is_noticed),
        cmocka_unit_test(kb_journal_begin_required_condition_missing_is_refused),
        cmocka_unit_test(kb_journal_begin_store_that_alters_bytes_is_refused),
#ifdef KB_FAILPOINTS
        cmocka_unit_test(kb_journal_failpoint_errors_are_survived_by_trying_again),
#endif
        cmocka_unit_test(kb_journal_wait_hole_is_not_taken_for_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
