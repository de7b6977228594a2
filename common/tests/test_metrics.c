#include "common/obs/metrics.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"

static const double BOUNDS[] = {0.1, 1, 10};
static const kb_metric_desc COUNTER = {.name = "kb_records_total", .help = "Records.", .labels = {"topic"}};
static const kb_metric_desc PLAIN = {.name = "kb_bytes", .help = "Bytes.", .type = KB_METRIC_GAUGE};
static const kb_metric_desc HISTOGRAM = {.name = "kb_seconds",
                                         .help = "Time.",
                                         .type = KB_METRIC_HISTOGRAM,
                                         .labels = {"op"},
                                         .bounds = BOUNDS,
                                         .bound_count = 3};
static const kb_metric_desc LAG = {
    .name = "kb_lag", .help = "Lag.", .type = KB_METRIC_GAUGE, .labels = {"topic", "partition"}};

static int setup(void **state)
{
    *state = kb_metrics_new();
    return 0;
}

static int teardown(void **state)
{
    kb_metrics_free(*state);
    return 0;
}

static void assert_text(kb_metrics *metrics, const char *expected)
{
    KB_AUTO_STRBUF(out, 1 << 20);
    kb_metrics_render(metrics, &out);
    assert_string_equal(kb_strbuf_view(&out), expected);
}

static void render_new_series_shows_zero(void **state)
{
    kb_metrics *metrics = *state;
    kb_metric_series(kb_metrics_family(metrics, &COUNTER), (const char *[]){"orders"});
    kb_metric_series(kb_metrics_family(metrics, &PLAIN), NULL);
    assert_text(metrics, "# HELP kb_records_total Records.\n"
                         "# TYPE kb_records_total counter\n"
                         "kb_records_total{topic=\"orders\"} 0\n"
                         "# HELP kb_bytes Bytes.\n"
                         "# TYPE kb_bytes gauge\n"
                         "kb_bytes 0\n");
}

static void series_equal_labels_give_the_same_metric(void **state)
{
    kb_metric_family *family = kb_metrics_family(*state, &COUNTER);
    assert_ptr_equal(family, kb_metrics_family(*state, &COUNTER));
    kb_metric *first = kb_metric_series(family, (const char *[]){"a"});
    assert_ptr_equal(first, kb_metric_series(family, (const char *[]){"a"}));
    assert_ptr_not_equal(first, kb_metric_series(family, (const char *[]){"b"}));
}

static void render_hostile_label_values_are_escaped(void **state)
{
    static const struct {
        const char *value;
        const char *line;
    } CASES[] = {
        {"a\"} 1\nfake_total 7", "{topic=\"a\\\"} 1\\nfake_total 7\"} 0\n"},
        {"back\\slash", "{topic=\"back\\\\slash\"} 0\n"},
        {"bad\xFFutf\xC3", "{topic=\"bad\xEF\xBF\xBDutf\xEF\xBF\xBD\"} 0\n"},
        {"gr\xC3\xBC\xC3\x9F", "{topic=\"gr\xC3\xBC\xC3\x9F\"} 0\n"},
        {"", "{topic=\"\"} 0\n"},
    };
    kb_metric_family *family = kb_metrics_family(*state, &COUNTER);
    for (size_t i = 0; i < KB_ARRAY_LEN(CASES); i++) {
        kb_metric_series(family, &CASES[i].value);
        KB_AUTO_STRBUF(out, 1 << 16);
        kb_metrics_render(*state, &out);
        assert_non_null(strstr(kb_strbuf_view(&out), CASES[i].line));
        kb_metric_remove(family, &CASES[i].value);
    }
    assert_text(*state, "");
}

static void render_gauge_values_read_back(void **state)
{
    static const struct {
        double value;
        const char *text;
    } CASES[] = {
        {0.1, "0.1"}, {-3, "-3"},         {1e300, "1e+300"},   {123456789012.0, "123456789012"},
        {NAN, "NaN"}, {INFINITY, "+Inf"}, {-INFINITY, "-Inf"}, {0.1 + 0.2, "0.30000000000000004"},
    };
    kb_metric *gauge = kb_metric_series(kb_metrics_family(*state, &PLAIN), NULL);
    for (size_t i = 0; i < KB_ARRAY_LEN(CASES); i++) {
        kb_metric_set(gauge, CASES[i].value);
        KB_AUTOFREE char *expected =
            kb_asprintf("# HELP kb_bytes Bytes.\n# TYPE kb_bytes gauge\nkb_bytes %s\n", CASES[i].text);
        assert_text(*state, expected);
    }
}

static void observe_values_on_and_beyond_bounds_fill_cumulative_buckets(void **state)
{
    kb_metric *histogram = kb_metric_series(kb_metrics_family(*state, &HISTOGRAM), (const char *[]){"put"});
    static const double VALUES[] = {0.05, 0.1, 0.5, 1, 99, NAN};
    for (size_t i = 0; i < KB_ARRAY_LEN(VALUES); i++)
        kb_metric_observe(histogram, VALUES[i]);
    assert_text(*state, "# HELP kb_seconds Time.\n"
                        "# TYPE kb_seconds histogram\n"
                        "kb_seconds_bucket{op=\"put\",le=\"0.1\"} 2\n"
                        "kb_seconds_bucket{op=\"put\",le=\"1\"} 4\n"
                        "kb_seconds_bucket{op=\"put\",le=\"10\"} 4\n"
                        "kb_seconds_bucket{op=\"put\",le=\"+Inf\"} 5\n"
                        "kb_seconds_sum{op=\"put\"} 100.65\n"
                        "kb_seconds_count{op=\"put\"} 5\n");
}

static void series_full_family_counts_without_showing(void **state)
{
    kb_metric_desc desc = COUNTER;
    desc.max_series = 2;
    kb_metric_family *family = kb_metrics_family(*state, &desc);
    for (int i = 0; i < 1000; i++) {
        KB_AUTOFREE char *name = kb_asprintf("t%d", i);
        kb_metric_add(kb_metric_series(family, (const char *[]){name}), 1);
    }
    assert_text(*state, "# HELP kb_records_total Records.\n"
                        "# TYPE kb_records_total counter\n"
                        "kb_records_total{topic=\"t0\"} 1\n"
                        "kb_records_total{topic=\"t1\"} 1\n");
}

static void replace_top_keeps_the_largest_and_drops_the_rest(void **state)
{
    kb_metric_family *family = kb_metrics_family(*state, &LAG);
    kb_metric_replace_top(family, (kb_metric_row[]){{{"old", "0"}, 1}}, 1, 10);
    const kb_metric_row rows[] = {
        {{"a", "0"}, 5}, {{"b", "0"}, 50}, {{"a", "1"}, 7}, {{"c", "0"}, 7}, {{"d", "0"}, 0}};
    kb_metric_replace_top(family, rows, KB_ARRAY_LEN(rows), 2);
    assert_text(*state, "# HELP kb_lag Lag.\n"
                        "# TYPE kb_lag gauge\n"
                        "kb_lag{topic=\"a\",partition=\"1\"} 7\n"
                        "kb_lag{topic=\"b\",partition=\"0\"} 50\n");
    kb_metric_replace_top(family, rows, KB_ARRAY_LEN(rows), 0);
    assert_text(*state, "");
    kb_metric_replace_top(family, NULL, 0, 5);
    assert_text(*state, "");
}

static void collect_answer(void *ctx)
{
    kb_metric_set(ctx, 42);
}

static void render_collector_refreshes_before_the_text(void **state)
{
    kb_metric *gauge = kb_metric_series(kb_metrics_family(*state, &PLAIN), NULL);
    kb_metrics_add_collector(*state, collect_answer, gauge);
    assert_text(*state, "# HELP kb_bytes Bytes.\n# TYPE kb_bytes gauge\nkb_bytes 42\n");
    kb_metrics_remove_collector(*state, collect_answer, gauge);
    kb_metric_set(gauge, 1);
    assert_text(*state, "# HELP kb_bytes Bytes.\n# TYPE kb_bytes gauge\nkb_bytes 1\n");
}

static void render_help_with_newline_stays_one_line(void **state)
{
    kb_metric_desc desc = PLAIN;
    desc.help = "one\\two\nthree";
    kb_metric_series(kb_metrics_family(*state, &desc), NULL);
    assert_text(*state, "# HELP kb_bytes one\\\\two\\nthree\n# TYPE kb_bytes gauge\nkb_bytes 0\n");
}

typedef struct hammer {
    kb_metric *counter;
    kb_metric *gauge;
    kb_metric *histogram;
} hammer;

#define HAMMER_ROUNDS 20000

static void *hammer_run(void *arg)
{
    hammer *metrics = arg;
    for (int i = 0; i < HAMMER_ROUNDS; i++) {
        kb_metric_add(metrics->counter, 2);
        kb_metric_gauge_add(metrics->gauge, 0.5);
        kb_metric_observe(metrics->histogram, 0.5);
    }
    return NULL;
}

static void update_from_many_threads_loses_nothing(void **state)
{
    hammer metrics = {kb_metric_series(kb_metrics_family(*state, &COUNTER), (const char *[]){"t"}),
                      kb_metric_series(kb_metrics_family(*state, &PLAIN), NULL),
                      kb_metric_series(kb_metrics_family(*state, &HISTOGRAM), (const char *[]){"get"})};
    pthread_t threads[4];
    for (size_t i = 0; i < KB_ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer_run, &metrics), 0);
    KB_AUTO_STRBUF(out, 1 << 20);
    for (int i = 0; i < 50; i++) {
        kb_strbuf_clear(&out);
        kb_metrics_render(*state, &out);
        kb_metric_replace_top(kb_metrics_family(*state, &LAG), (kb_metric_row[]){{{"x", "0"}, i}}, 1, 1);
    }
    for (size_t i = 0; i < KB_ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(kb_metric_count(metrics.counter), 8 * HAMMER_ROUNDS);
    assert_true(kb_metric_get(metrics.gauge) == 2.0 * HAMMER_ROUNDS);
    assert_true(kb_metric_get(metrics.histogram) == 2.0 * HAMMER_ROUNDS);
    assert_int_equal(atomic_load(&metrics.histogram->buckets[1]), 4 * HAMMER_ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(render_new_series_shows_zero, setup, teardown),
        cmocka_unit_test_setup_teardown(series_equal_labels_give_the_same_metric, setup, teardown),
        cmocka_unit_test_setup_teardown(render_hostile_label_values_are_escaped, setup, teardown),
        cmocka_unit_test_setup_teardown(render_gauge_values_read_back, setup, teardown),
        cmocka_unit_test_setup_teardown(observe_values_on_and_beyond_bounds_fill_cumulative_buckets, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(series_full_family_counts_without_showing, setup, teardown),
        cmocka_unit_test_setup_teardown(replace_top_keeps_the_largest_and_drops_the_rest, setup, teardown),
        cmocka_unit_test_setup_teardown(render_collector_refreshes_before_the_text, setup, teardown),
        cmocka_unit_test_setup_teardown(render_help_with_newline_stays_one_line, setup, teardown),
        cmocka_unit_test_setup_teardown(update_from_many_threads_loses_nothing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
