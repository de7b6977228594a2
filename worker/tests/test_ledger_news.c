#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "worker/backup/ledger_news.h"

/* A plan of one topic with two partitions, [10, 100) each, the second one done when asked for. */
static kb_backup *make_plan(bool second_done)
{
    kb_backup *plan = kb_backup_new("b");
    kb_topic_entry *topic = kb_backup_add_topic(plan, "orders");
    topic->partition_count = 2;
    for (int32_t i = 0; i < 2; i++) {
        kb_partition_entry *partition = kb_topic_add_partition(topic, i);
        partition->log_start = partition->from = partition->to = 10;
        partition->cut = partition->high_watermark = 100;
        partition->done = i == 1 && second_done;
    }
    return plan;
}

static kb_ledger_event segment_event(int32_t partition, int64_t from, int64_t to)
{
    return (kb_ledger_event){
        .kind = KB_LEDGER_SEGMENT,
        .topic = "orders",
        .partition = partition,
        .max_record_bytes = 7,
        .segment = {.start = from, .end = to - 1, .from = from, .to = to, .count = to - from},
        .probe = {.offset = to - 1},
    };
}

static const kb_backup *the_base; /* NULL = none */

static kb_ledger_news *make_news(const kb_backup *plan, const kb_ledger_event *events, size_t count,
                                 const kb_lost_topics *lost)
{
    static const kb_lost_topics none;
    KB_AUTO_ERROR(err);
    kb_ledger_news *news = NULL;
    if (kb_ledger_news_make(plan, the_base, events, count, lost != NULL ? lost : &none, &news, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
    return news;
}

static void make_segments_and_done_fold_into_one_partition(void **state)
{
    (void)state;
    KB_AUTO_BACKUP kb_backup *plan = make_plan(false);
    const kb_ledger_event events[] = {
        segment_event(0, 10, 40),
        segment_event(0, 40, 90),
        {.kind = KB_LEDGER_DONE, .topic = "orders", .partition = 0, .end = 100},
    };
    KB_CLEANUP(kb_ledger_news_free_at) kb_ledger_news *news = make_news(plan, events, 3, NULL);
    const kb_journal_news *view = kb_ledger_news_view(news);
    assert_int_equal(view->partition_count, 1);
    assert_int_equal(view->partitions[0].segment_count, 2);
    assert_int_equal(view->partitions[0].probe_count, 2);
    assert_int_equal(view->partitions[0].position, 100);
    assert_int_equal(view->partitions[0].max_record_bytes, 7);
    assert_int_equal(view->partitions[0].cut, -1);
    assert_true(view->partitions[0].done);
    assert_int_equal(kb_ledger_news_advance(news, 0), 90);
    assert_true(kb_ledger_news_kept(news, 1));
}

static void make_gap_moves_the_position_and_is_a_finding(void **state)
{
    (void)state;
    KB_AUTO_BACKUP kb_backup *plan = make_plan(false);
    const kb_ledger_event event = {
        .kind = KB_LEDGER_GAP, .topic = "orders", .partition = 1, .start = 10, .end = 30, .time_ms = 5};
    KB_CLEANUP(kb_ledger_news_free_at) kb_ledger_news *news = make_news(plan, &event, 1, NULL);
    const kb_journal_news *view = kb_ledger_news_view(news);
    assert_int_equal(view->partitions[0].gap_count, 1);
    assert_int_equal(view->partitions[0].position, 30);
    assert_false(view->partitions[0].done);
    assert_int_equal(view->finding_count, 1);
    assert_string_equal(view->findings[0].reason, "RetentionGap");
}

static void make_lost_topic_drops_news_and_gaps_the_rest(void **state)
{
    (void)state;
    KB_AUTO_BACKUP kb_backup *plan = make_plan(false);
    const kb_ledger_event event = segment_event(0, 10, 40);
    KB_CLEANUP(kb_lost_topics_done) kb_lost_topics lost = {0};
    kb_lost_topics_add(&lost, "orders", KB_TOPIC_RECREATED);
    KB_CLEANUP(kb_ledger_news_free_at) kb_ledger_news *news = make_news(plan, &event, 1, &lost);
    const kb_journal_news *view = kb_ledger_news_view(news);
    assert_false(kb_ledger_news_kept(news, 0));
    assert_int_equal(view->partition_count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(view->partitions[i].segment_count, 0);
        assert_int_equal(view->partitions[i].gap_count, 1);
        assert_int_equal(view->partitions[i].gaps[0].start, 10);
        assert_int_equal(view->partitions[i].gaps[0].end, 100);
        assert_true(view->partitions[i].done);
    }
    assert_int_equal(view->topic_event_count, 1);
    assert_int_equal(view->finding_count, 1);
    assert_string_equal(view->findings[0].reason, "Discontinuity");
}

static void make_lost_after_raised_cut_gaps_up_to_the_new_cut(void **state)
{
    (void)state;
    KB_AUTO_BACKUP kb_backup *plan = make_plan(false);
    const kb_ledger_event events[] = {
        segment_event(0, 10, 100),
        {.kind = KB_LEDGER_CUT, .topic = "orders", .partition = 0, .end = 130, .time_ms = 9},
        {.kind = KB_LEDGER_LOST,
         .topic = "orders",
         .partition = 0,
         .state = KB_TOPIC_FAILED,
         .reason = "Discontinuity"},
    };
    KB_CLEANUP(kb_ledger_news_free_at) kb_ledger_news *news = make_news(plan, events, 3, NULL);
    const kb_partition_progress *part = &kb_ledger_news_view(news)->partitions[0];
    assert_int_equal(part->cut, 130);
    assert_int_equal(part->gaps[0].start, 100);
    assert_int_equal(part->gaps[0].end, 130);
    assert_int_equal(part->position, 130);
}

static void make_events_of_a_done_partition_are_dropped(void **state)
{
    (void)state;
    KB_AUTO_BACKUP kb_backup *plan = make_plan(true);
    const kb_ledger_event event = segment_event(1, 10, 40);
    KB_CLEANUP(kb_ledger_news_free_at) kb_ledger_news *news = make_news(plan, &event, 1, NULL);
    assert_int_equal(kb_ledger_news_view(news)->partition_count, 0);
    assert_false(kb_ledger_news_kept(news, 0));
}

/* Of partition 0 the base holds [10, 50) in small segments, which are read again from 10 on. */
static void make_rereading(kb_backup *plan, kb_backup *base)
{
    KB_AUTO_ERROR(err);
    plan->topics[0].partitions[0].reuse_up_to = 10;
    kb_partition_entry *held = &base->topics[0].partitions[0];
    kb_ledger_event event = segment_event(0, 10, 50);
    assert_int_equal(kb_partition_add_segment(held, &event.segment, &err), KB_OK);
    held->to = held->cut = 50;
}

static void make_reuse_voids_what_was_read_again(void **state)
{
    (void)state;
    KB_AUTO_BACKUP kb_backup *plan = make_plan(false);
    KB_AUTO_BACKUP kb_backup *base = make_plan(false);
    make_rereading(plan, base);
    const kb_ledger_event events[] = {
        segment_event(0, 10, 30),
        segment_event(1, 10, 30),
        {.kind = KB_LEDGER_REUSE, .topic = "orders", .partition = 0, .end = 50},
        segment_event(0, 50, 70),
    };
    the_base = base;
    KB_CLEANUP(kb_ledger_news_free_at) kb_ledger_news *news = make_news(plan, events, 4, NULL);
    the_base = NULL;
    const kb_partition_progress *part = &kb_ledger_news_view(news)->partitions[0];
    assert_int_equal(part->reuse_up_to, 50);
    assert_int_equal(part->position, 70);
    assert_int_equal(part->segment_count, 1);
    assert_int_equal(part->segments[0].from, 50);
    assert_false(kb_ledger_news_kept(news, 0));
    assert_true(kb_ledger_news_kept(news, 1));
    assert_true(kb_ledger_news_kept(news, 3));
    KB_AUTO_ERROR(err);
    assert_int_equal(kb_news_check(plan, kb_ledger_news_view(news), &err), KB_OK);
}

static void make_lost_while_reading_again_takes_the_rest_from_the_base(void **state)
{
    (void)state;
    static const struct {
        int64_t read_to;  /* journaled or in this entry */
        int64_t position; /* where the gap begins */
        int64_t reuse_up_to;
    } rows[] = {{10, 50, 50}, {30, 50, 50}, {50, 50, -1}, {70, 70, -1}};
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        KB_AUTO_BACKUP kb_backup *plan = make_plan(false);
        KB_AUTO_BACKUP kb_backup *base = make_plan(false);
        make_rereading(plan, base);
        kb_ledger_event events[2] = {{.kind = KB_LEDGER_LOST,
                                      .topic = "orders",
                                      .state = KB_TOPIC_DELETED,
                                      .reason = "Discontinuity"}};
        if (rows[i].read_to > 10) {
            events[1] = events[0];
            events[0] = segment_event(0, 10, rows[i].read_to);
        }
        the_base = base;
        KB_CLEANUP(kb_ledger_news_free_at)
        kb_ledger_news *news = make_news(plan, events, rows[i].read_to > 10 ? 2 : 1, NULL);
        the_base = NULL;
        const kb_partition_progress *part = &kb_ledger_news_view(news)->partitions[0];
        assert_int_equal(part->reuse_up_to, rows[i].reuse_up_to);
        assert_int_equal(part->gaps[0].start, rows[i].position);
        assert_int_equal(part->gaps[0].end, 100);
        assert_int_equal(part->segment_count, rows[i].reuse_up_to < 0 ? 1 : 0);
        KB_AUTO_ERROR(err);
        assert_int_equal(kb_news_check(plan, kb_ledger_news_view(news), &err), KB_OK);
    }
}

static void make_unknown_partition_is_a_bug(void **state)
{
    (void)state;
    static const kb_lost_topics none;
    KB_AUTO_BACKUP kb_backup *plan = make_plan(false);
    const kb_ledger_event event = segment_event(7, 10, 40);
    kb_ledger_news *news = NULL;
    KB_AUTO_ERROR(err);
    assert_int_equal(kb_ledger_news_make(plan, NULL, &event, 1, &none, &news, &err), KB_ERR_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(make_segments_and_done_fold_into_one_partition),
        cmocka_unit_test(make_gap_moves_the_position_and_is_a_finding),
        cmocka_unit_test(make_lost_topic_drops_news_and_gaps_the_rest),
        cmocka_unit_test(make_lost_after_raised_cut_gaps_up_to_the_new_cut),
        cmocka_unit_test(make_events_of_a_done_partition_are_dropped),
        cmocka_unit_test(make_reuse_voids_what_was_read_again),
        cmocka_unit_test(make_lost_while_reading_again_takes_the_rest_from_the_base),
        cmocka_unit_test(make_unknown_partition_is_a_bug),
    };
    return cmocka_run_group_tests_name("ledger_news", tests, NULL, NULL);
}
