#include "worker/catalog/reuse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"

#define BASE_ID "l-20250101-000000"
#define UNLIMITED ((kb_reuse_rules){.segment_max_bytes = 128LL << 20, .full_start = -1})

/* A segment of [from, to) that holds `count` records from `start` on. */
static void add_segment(kb_partition_entry *partition, int64_t from, int64_t start, int64_t end, int64_t to,
                        int64_t raw_bytes)
{
    KB_AUTO_ERROR(err);
    kb_segment_entry segment = {
        .start = start,
        .end = end,
        .from = from,
        .to = to,
        .count = end - start + 1,
        .raw_bytes = raw_bytes,
        .bytes = raw_bytes / 2,
        .owner = KB_OWNER_SELF,
        .has_hashes = true,
    };
    assert_int_equal(kb_partition_add_segment(partition, &segment, &err), KB_OK);
}

static void add_gap(kb_partition_entry *partition, int64_t start, int64_t end)
{
    KB_AUTO_ERROR(err);
    assert_int_equal(kb_partition_add_gap(partition, (kb_gap){start, end, 1}, &err), KB_OK);
}

/* Two big segments [0, 100) and [100, 200), a gap [200, 250), a segment [250, 300), and nothing up to 310. */
static kb_backup *make_base(void)
{
    kb_backup *base = kb_backup_new(BASE_ID);
    kb_topic_entry *topic = kb_backup_add_topic(base, "t");
    kb_partition_entry *partition = kb_topic_add_partition(topic, 0);
    topic->has_topic_id = true;
    topic->topic_id[0] = 1;
    topic->max_record_bytes = 77;
    kb_topic_set_config(topic, "cleanup.policy", "delete");
    add_segment(partition, 0, 0, 99, 100, 50 << 20);
    add_segment(partition, 100, 110, 199, 200, 50 << 20);
    add_gap(partition, 200, 250);
    add_segment(partition, 250, 250, 299, 300, 50 << 20);
    partition->from = 0;
    partition->to = 310;
    partition->cut = 310;
    kb_partition_add_probe(partition, &(kb_probe){.offset = 299});
    kb_partition_add_probe(partition, &(kb_probe){.offset = 199});
    return base;
}

/* ---- ranges ---- */

static void range_of_drops_what_lies_below_the_log_start(void **state)
{
    (void)state;
    static const struct {
        int64_t log_start, up_to;
        size_t first_segment, end_segment, first_gap, end_gap;
        int64_t from;
    } rows[] = {
        {0, 300, 0, 3, 0, 1, 0},     {99, 300, 0, 3, 0, 1, 0},    {100, 300, 1, 3, 0, 1, 100},
        {150, 300, 1, 3, 0, 1, 100}, {199, 300, 1, 3, 0, 1, 100}, {200, 300, 2, 3, 0, 1, 200},
        {249, 300, 2, 3, 0, 1, 200}, {250, 300, 2, 3, 1, 1, 250}, {299, 300, 2, 3, 1, 1, 250},
        {300, 300, 3, 3, 1, 1, 300}, {0, 250, 0, 2, 0, 1, 0},     {0, 200, 0, 2, 0, 0, 0},
        {0, 0, 0, 0, 0, 0, 0},
    };
    KB_AUTO_BACKUP kb_backup *base = make_base();
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        kb_reuse_range range =
            kb_reuse_range_of(&base->topics[0].partitions[0], rows[i].log_start, rows[i].up_to);
        if (range.first_segment != rows[i].first_segment || range.end_segment != rows[i].end_segment ||
            range.first_gap != rows[i].first_gap || range.end_gap != rows[i].end_gap ||
            range.from != rows[i].from)
            fail_msg("row %zu: segments %zu-%zu, gaps %zu-%zu, from %lld", i, range.first_segment,
                     range.end_segment, range.first_gap, range.end_gap, (long long)range.from);
    }
}

/* ---- verdicts ---- */

typedef struct judge_row {
    const char *what;
    int64_t log_start, cut;
    uint8_t topic_id; /* 0 = unknown */
    bool compacted, was_compacted, unknown_policy, no_topic, no_partition, no_probes, object_missing;
    kb_topic_state state;
    kb_reuse_verdict expected;
} judge_row;

static const judge_row judge_rows[] = {
    {.what = "all is well", .cut = 400, .topic_id = 1, .expected = KB_REUSE_PROBE},
    {.what = "nothing new", .cut = 310, .topic_id = 1, .expected = KB_REUSE_PROBE},
    {.what = "id unknown now", .cut = 400, .expected = KB_REUSE_PROBE},
    {.what = "other id", .cut = 400, .topic_id = 2, .expected = KB_REUSE_RECREATED},
    {.what = "other id, shorter", .cut = 10, .topic_id = 2, .expected = KB_REUSE_RECREATED},
    {.what = "other id, new partition",
     .cut = 9,
     .topic_id = 2,
     .no_partition = true,
     .expected = KB_REUSE_RECREATED},
    {.what = "new topic", .cut = 400, .topic_id = 1, .no_topic = true, .expected = KB_REUSE_NO_BASE},
    {.what = "new partition", .cut = 400, .topic_id = 1, .no_partition = true, .expected = KB_REUSE_NO_BASE},
    {.what = "shorter", .cut = 309, .topic_id = 1, .expected = KB_REUSE_TRUNCATED},
    {.what = "shorter and compacted",
     .cut = 309,
     .topic_id = 1,
     .compacted = true,
     .expected = KB_REUSE_TRUNCATED},
    {.what = "gap", .log_start = 311, .cut = 400, .topic_id = 1, .expected = KB_REUSE_RETENTION_GAP},
    {.what = "gap of a compacted topic",
     .log_start = 311,
     .cut = 400,
     .topic_id = 1,
     .compacted = true,
     .expected = KB_REUSE_RETENTION_GAP},
    {.what = "emptied up to the base",
     .log_start = 310,
     .cut = 400,
     .topic_id = 1,
     .expected = KB_REUSE_NOT_COMPARED},
    {.what = "nothing of it left",
     .log_start = 300,
     .cut = 400,
     .topic_id = 1,
     .expected = KB_REUSE_NOT_COMPARED},
    {.what = "last record left", .log_start = 299, .cut = 400, .topic_id = 1, .expected = KB_REUSE_PROBE},
    {.what = "no probes", .cut = 400, .topic_id = 1, .no_probes = true, .expected = KB_REUSE_NOT_COMPARED},
    {.what = "failed in the base",
     .cut = 400,
     .topic_id = 1,
     .state = KB_TOPIC_FAILED,
     .expected = KB_REUSE_UNFINISHED},
    {.what = "deleted in the base",
     .cut = 400,
     .topic_id = 1,
     .state = KB_TOPIC_DELETED,
     .expected = KB_REUSE_UNFINISHED},
    {.what = "unauthorized in the base",
     .cut = 400,
     .topic_id = 1,
     .state = KB_TOPIC_UNAUTHORIZED,
     .expected = KB_REUSE_UNFINISHED},
    {.what = "recreated before the base",
     .cut = 400,
     .topic_id = 1,
     .state = KB_TOPIC_RECREATED,
     .expected = KB_REUSE_PROBE},
    {.what = "compacted now", .cut = 400, .topic_id = 1, .compacted = true, .expected = KB_REUSE_COMPACTED},
    {.what = "compacted then",
     .cut = 400,
     .topic_id = 1,
     .was_compacted = true,
     .expected = KB_REUSE_COMPACTED},
    {.what = "unknown then",
     .cut = 400,
     .topic_id = 1,
     .unknown_policy = true,
     .expected = KB_REUSE_COMPACTED},
    {.what = "object missing",
     .cut = 400,
     .topic_id = 1,
     .object_missing = true,
     .expected = KB_REUSE_MISSING},
};

static void set_base(kb_backup *base, const judge_row *row)
{
    kb_topic_entry *topic = &base->topics[0];
    topic->state = row->state;
    if (row->was_compacted)
        kb_topic_set_config(topic, "cleanup.policy", "compact,delete");
    if (row->unknown_policy)
        topic->config_count = 0;
    if (row->no_probes)
        topic->partitions[0].probe_count = 0;
}

static void judge_row_decides(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(judge_rows); i++) {
        const judge_row *row = &judge_rows[i];
        KB_AUTO_BACKUP kb_backup *base = make_base();
        kb_topic_entry topic = {.has_topic_id = row->topic_id != 0, .topic_id = {row->topic_id}};
        kb_partition_entry partition = {.log_start = row->log_start, .cut = row->cut, .reuse_up_to = -1};
        size_t configs = base->topics[0].config_count;
        set_base(base, row);
        kb_reuse_facts facts = {
            .topic = &topic,
            .partition = &partition,
            .base_topic = row->no_topic ? NULL : &base->topics[0],
            .base = row->no_topic || row->no_partition ? NULL : &base->topics[0].partitions[0],
            .compacted = row->compacted,
            .objects_stand = !row->object_missing,
        };
        kb_reuse_verdict verdict = kb_reuse_judge(&facts);
        base->topics[0].config_count = configs;
        if (verdict != row->expected)
            fail_msg("%s: %s", row->what, kb_reuse_verdict_name(verdict));
    }
}

/* Of one probe: '?' not asked, '=' equal, '!' different, '-' gone. */
static kb_probe_answer answer_of(char letter)
{
    return letter == '='   ? KB_PROBE_EQUAL
           : letter == '!' ? KB_PROBE_DIFFERENT
           : letter == '-' ? KB_PROBE_GONE
                           : KB_PROBE_UNASKED;
}

static void judge_probes_first_equal_or_any_equal_and_none_different(void **state)
{
    (void)state;
    static const struct {
        const char *answers;
        kb_reuse_verdict expected;
    } rows[] = {
        {"??", KB_REUSE_PROBE},     {"=?", KB_REUSE_CONTINUOUS},  {"!?", KB_REUSE_DIVERGED},
        {"-?", KB_REUSE_PROBE},     {"-=", KB_REUSE_CONTINUOUS},  {"-=?", KB_REUSE_PROBE},
        {"-=!", KB_REUSE_DIVERGED}, {"-=-", KB_REUSE_CONTINUOUS}, {"----", KB_REUSE_UNPROVEN},
        {"-", KB_REUSE_UNPROVEN},   {"=", KB_REUSE_CONTINUOUS},   {"!", KB_REUSE_DIVERGED},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        kb_probe_answer answers[KB_PROBES_MAX];
        size_t count = strlen(rows[i].answers);
        for (size_t a = 0; a < count; a++)
            answers[a] = answer_of(rows[i].answers[a]);
        if (kb_reuse_judge_probes(answers, count) != rows[i].expected)
            fail_msg("%s", rows[i].answers);
    }
}

/* ---- plans ---- */

static void decide_table(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        kb_reuse_verdict verdict;
        int64_t log_start, cut, full_start;
        bool keep_late_start;
        kb_reuse_plan expected;
    } rows[] = {
        {"continuous", KB_REUSE_CONTINUOUS, 0, 400, -1, false, {0, 300, 300, true}},
        {"without news", KB_REUSE_CONTINUOUS, 0, 310, -1, false, {0, 300, 300, false}},
        {"front dropped", KB_REUSE_CONTINUOUS, 150, 400, -1, false, {100, 300, 300, true}},
        {"new partition", KB_REUSE_NO_BASE, 5, 400, -1, false, {5, 5, -1, true}},
        {"new and empty", KB_REUSE_NO_BASE, 5, 5, -1, false, {5, 5, -1, false}},
        {"given start", KB_REUSE_NO_BASE, 5, 400, 50, false, {50, 50, -1, true}},
        {"recreated", KB_REUSE_RECREATED, 0, 20, -1, true, {0, 0, -1, true}},
        {"truncated", KB_REUSE_TRUNCATED, 0, 20, -1, false, {0, 0, -1, true}},
        {"gap", KB_REUSE_RETENTION_GAP, 350, 400, -1, false, {310, 310, -1, true}},
        {"compacted", KB_REUSE_COMPACTED, 7, 400, -1, false, {7, 7, -1, true}},
        {"compacted without news", KB_REUSE_COMPACTED, 7, 310, -1, false, {7, 7, -1, false}},
        {"emptied", KB_REUSE_NOT_COMPARED, 310, 400, -1, false, {310, 310, -1, true}},
        {"diverged", KB_REUSE_DIVERGED, 7, 310, -1, false, {7, 7, -1, true}},
        {"missing", KB_REUSE_MISSING, 7, 310, -1, false, {7, 7, -1, true}},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        KB_AUTO_BACKUP kb_backup *base = make_base();
        kb_topic_entry topic = {0};
        kb_partition_entry partition = {.log_start = rows[i].log_start, .cut = rows[i].cut};
        kb_reuse_facts facts = {&topic, &partition, &base->topics[0], &base->topics[0].partitions[0],
                                false,  true};
        kb_reuse_rules rules = UNLIMITED;
        rules.full_start = rows[i].full_start;
        rules.keep_late_start = rows[i].keep_late_start;
        kb_reuse_plan plan = kb_reuse_decide(&facts, rows[i].verdict, &rules);
        if (plan.from != rows[i].expected.from || plan.position != rows[i].expected.position ||
            plan.reuse_up_to != rows[i].expected.reuse_up_to || plan.has_news != rows[i].expected.has_news)
            fail_msg("%s: from %lld, position %lld, reuse up to %lld", rows[i].what, (long long)plan.from,
                     (long long)plan.position, (long long)plan.reuse_up_to);
    }
}

static void decide_latest_stays_behind_the_start_of_the_base(void **state)
{
    (void)state;
    KB_AUTO_BACKUP kb_backup *base = kb_backup_new(BASE_ID);
    kb_topic_entry *topic = kb_backup_add_topic(base, "t");
    kb_partition_entry *late = kb_topic_add_partition(topic, 0);
    late->log_start = 10;
    late->from = late->to = late->cut = 100;
    kb_partition_entry now = {.log_start = 10, .cut = 150};
    kb_reuse_facts facts = {topic, &now, topic, late, false, true};
    kb_reuse_rules rules = UNLIMITED;
    assert_int_equal(kb_reuse_decide(&facts, KB_REUSE_NOT_COMPARED, &rules).position, 10);
    rules.keep_late_start = true;
    assert_int_equal(kb_reuse_decide(&facts, KB_REUSE_NOT_COMPARED, &rules).position, 100);
    assert_int_equal(kb_reuse_decide(&facts, KB_REUSE_RECREATED, &rules).position, 10);
    now.log_start = 120;
    assert_int_equal(kb_reuse_decide(&facts, KB_REUSE_COMPACTED, &rules).position, 120);
}

/* `small` small segments of 10 offsets each behind one big one of [0, 1000). */
static kb_backup *make_tail(size_t small)
{
    kb_backup *base = kb_backup_new(BASE_ID);
    kb_partition_entry *partition = kb_topic_add_partition(kb_backup_add_topic(base, "t"), 0);
    int64_t at = 1000;
    add_segment(partition, 0, 0, 999, at, 50 << 20);
    for (size_t i = 0; i < small; i++, at += 10)
        add_segment(partition, at, at, at + 9, at + 10, 1 << 20);
    partition->to = partition->cut = at;
    return base;
}

static int64_t up_to_of(const kb_backup *base, int64_t log_start, const kb_reuse_rules *rules)
{
    const kb_partition_entry *partition = &base->topics[0].partitions[0];
    kb_partition_entry now = {.log_start = log_start, .cut = partition->cut + 5};
    kb_reuse_facts facts = {&base->topics[0], &now, &base->topics[0], partition, false, true};
    return kb_reuse_decide(&facts, KB_REUSE_CONTINUOUS, rules).reuse_up_to;
}

static void decide_sixteen_small_segments_at_the_end_are_read_again(void **state)
{
    (void)state;
    const kb_reuse_rules rules = UNLIMITED;
    KB_AUTO_BACKUP kb_backup *few = make_tail(15);
    assert_int_equal(up_to_of(few, 0, &rules), 1150);
    KB_AUTO_BACKUP kb_backup *many = make_tail(16);
    assert_int_equal(up_to_of(many, 0, &rules), 1000);
    assert_int_equal(up_to_of(many, 1000, &rules), 1000);
    assert_int_equal(up_to_of(many, 1001, &rules), 1160); /* one of them cannot be read from its beginning */
    KB_AUTO_BACKUP kb_backup *more = make_tail(20);
    assert_int_equal(up_to_of(more, 1001, &rules), 1010);
    assert_int_equal(up_to_of(more, 1041, &rules), 1200);
}

static void decide_segments_that_were_full_are_not_small(void **state)
{
    (void)state;
    KB_AUTO_BACKUP kb_backup *many = make_tail(20);
    kb_reuse_rules rules = UNLIMITED;
    rules.segment_max_bytes = 1 << 20;
    assert_int_equal(up_to_of(many, 0, &rules), 1200);
    rules = UNLIMITED;
    rules.segment_max_records = 10;
    assert_int_equal(up_to_of(many, 0, &rules), 1200);
    rules.segment_max_records = 11;
    assert_int_equal(up_to_of(many, 0, &rules), 1000);
}

static void decide_a_gap_ends_the_tail_of_small_segments(void **state)
{
    (void)state;
    const kb_reuse_rules rules = UNLIMITED;
    KB_AUTO_BACKUP kb_backup *base = make_tail(20);
    kb_partition_entry *partition = &base->topics[0].partitions[0];
    add_gap(partition, 1200, 1210);
    partition->to = partition->cut = 1210;
    assert_int_equal(up_to_of(base, 0, &rules), 1210);
    for (int64_t at = 1210; at < 1400; at += 10)
        add_segment(partition, at, at, at + 9, at + 10, 1 << 20);
    partition->to = partition->cut = 1400;
    assert_int_equal(up_to_of(base, 0, &rules), 1210);
}

static void floor_is_the_base_while_it_is_read_again(void **state)
{
    (void)state;
    KB_AUTO_BACKUP kb_backup *base = make_tail(16);
    const kb_partition_entry *from = &base->topics[0].partitions[0];
    assert_int_equal(kb_reuse_floor(&(kb_partition_entry){.reuse_up_to = 1000, .to = 1000}, from), 1160);
    assert_int_equal(kb_reuse_floor(&(kb_partition_entry){.reuse_up_to = 1000, .to = 1100}, from), 1160);
    assert_int_equal(kb_reuse_floor(&(kb_partition_entry){.reuse_up_to = 1000, .to = 1160}, from), -1);
    assert_int_equal(kb_reuse_floor(&(kb_partition_entry){.reuse_up_to = 1160, .to = 1160}, from), -1);
    assert_int_equal(kb_reuse_floor(&(kb_partition_entry){.reuse_up_to = -1, .to = 0}, from), -1);
}

/* ---- filling ---- */

static kb_code count_segment(void *ctx, const kb_topic_entry *topic, const kb_partition_entry *partition,
                             const kb_segment_entry *segment, kb_error *err)
{
    (void)topic, (void)partition, (void)segment, (void)err;
    ++*(size_t *)ctx;
    return KB_OK;
}

static void fill_lists_what_the_plan_reuses_and_nothing_twice(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BACKUP kb_backup *base = make_base();
    base->topics[0].partitions[0].segments[1].owner = kb_backup_add_use(base, "l-20241231-000000");
    KB_AUTO_BACKUP kb_backup *backup = kb_backup_new("l-20250102-000000");
    kb_topic_entry *topic = kb_backup_add_topic(backup, "t");
    kb_partition_entry *partition = kb_topic_add_partition(topic, 0);
    *partition = (kb_partition_entry){
        .log_start = 150, .from = 100, .to = 400, .cut = 400, .reuse_up_to = 300, .done = true};
    add_segment(partition, 300, 320, 399, 400, 100);
    kb_partition_add_probe(partition, &(kb_probe){.offset = 399});
    assert_int_equal(kb_partition_check_tiling(partition, &err), KB_OK);
    size_t visited = 0;
    assert_int_equal(kb_reuse_visit(backup, base, count_segment, &visited, &err), KB_OK);
    assert_int_equal(visited, 2);
    assert_true(kb_reuse_is_unfilled(backup));
    for (int pass = 0; pass < 2; pass++) {
        assert_int_equal(kb_reuse_fill(backup, base, &err), KB_OK);
        assert_false(kb_reuse_is_unfilled(backup));
        assert_int_equal(partition->segment_count, 3);
        assert_int_equal(partition->gap_count, 1);
        assert_int_equal(partition->probe_count, 3);
        assert_int_equal(partition->probes[0].offset, 399);
        assert_int_equal(partition->records, 90 + 50 + 80);
        assert_int_equal(topic->max_record_bytes, 77);
        assert_string_equal(kb_segment_owner(backup, &partition->segments[0]), "l-20241231-000000");
        assert_string_equal(kb_segment_owner(backup, &partition->segments[1]), BASE_ID);
        assert_int_equal(partition->segments[2].owner, KB_OWNER_SELF);
        assert_int_equal(backup->use_count, 2);
        assert_int_equal(kb_partition_check_tiling(partition, &err), KB_OK);
    }
    kb_backup_totals totals;
    assert_int_equal(kb_backup_totals_of(backup, &totals, &err), KB_OK);
    assert_int_equal(totals.reused_segments, 2);
}

static void fill_base_without_the_partition_is_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTO_BACKUP kb_backup *base = make_base();
    KB_AUTO_BACKUP kb_backup *backup = kb_backup_new("l-20250102-000000");
    kb_topic_add_partition(kb_backup_add_topic(backup, "t"), 5)->reuse_up_to = 10;
    assert_int_equal(kb_reuse_fill(backup, base, &err), KB_ERR_FORMAT);
    assert_non_null(strstr(kb_error_text(&err), "t/5"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(range_of_drops_what_lies_below_the_log_start),
        cmocka_unit_test(judge_row_decides),
        cmocka_unit_test(judge_probes_first_equal_or_any_equal_and_none_different),
        cmocka_unit_test(decide_table),
        cmocka_unit_test(decide_latest_stays_behind_the_start_of_the_base),
        cmocka_unit_test(decide_sixteen_small_segments_at_the_end_are_read_again),
        cmocka_unit_test(decide_segments_that_were_full_are_not_small),
        cmocka_unit_test(decide_a_gap_ends_the_tail_of_small_segments),
        cmocka_unit_test(floor_is_the_base_while_it_is_read_again),
        cmocka_unit_test(fill_lists_what_the_plan_reuses_and_nothing_twice),
        cmocka_unit_test(fill_base_without_the_partition_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
