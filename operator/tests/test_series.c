#include "operator/reconcile/series.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "operator/tests/decide_fixture.h"

static bool shows(kb_metrics *registry, const char *line)
{
    KB_AUTO_STRBUF(text, 1 << 20);
    kb_metrics_render(registry, &text);
    return strstr(kb_strbuf_view(&text), line) != NULL;
}

static void kb_series_update_backup_shows_status_and_drop_removes_it(void **state)
{
    (void)state;
    kb_metrics *registry = kb_metrics_new();
    kb_series *series = kb_series_new(registry);
    KB_AUTO_TREE(object);
    object = kb_test_json(
        "{'metadata':{'name':'x','namespace':'ns','creationTimestamp':'1970-01-01T00:00:10Z'},'status':{"
        "'phase':'Completed','totals':{'succeeded':3,'failed':1,'bytes':70},'lastBackupSize':70,"
        "'backupHistory':[{'outcome':'success','startTime':'1970-01-01T00:01:00Z','completionTime':"
        "'1970-01-01T00:02:00Z'}],'conditions':[{'type':'Ready','status':'True'}]}}");
    const kb_series_facts facts = {3600};
    kb_series_update(series, KB_KIND_BACKUP, object, &facts);
    kb_series_update(series, KB_KIND_BACKUP, object, &facts);
    kb_series_observe(series, KB_KIND_BACKUP, object, "success", 60);
#define L "{backup_name=\"x\",namespace=\"ns\"} "
    static const char *const lines[] = {
        "kafka_backup_backups_total{backup_name=\"x\",namespace=\"ns\",outcome=\"success\"} 3\n",
        "kafka_backup_backups_total{backup_name=\"x\",namespace=\"ns\",outcome=\"failure\"} 1\n",
        ("kafka_backup_backup_bytes_total" L "70\n"),
        ("kafka_backup_backups_skipped_total" L "0\n"),
        ("kafka_backup_backup_last_duration_seconds" L "60\n"),
        ("kafka_backup_last_successful_backup_timestamp" L "120\n"),
        ("kafka_backup_last_failed_backup_timestamp" L "0\n"),
        ("kafka_backup_created_timestamp" L "10\n"),
        ("kafka_backup_schedule_interval_seconds" L "3600\n"),
        ("kafka_backup_backup_duration_seconds_count" L "1\n"),
        "kafka_backup_resource_status{kind=\"KafkaBackup\",name=\"x\",namespace=\"ns\"} 1\n",
        "kafka_backup_resource_phase{kind=\"KafkaBackup\",name=\"x\",namespace=\"ns\",phase=\"Completed\"} "
        "1\n",
        "kafka_backup_resource_phase{kind=\"KafkaBackup\",name=\"x\",namespace=\"ns\",phase=\"Failed\"} 0\n",
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(lines); i++)
        if (!shows(registry, lines[i]))
            fail_msg("missing: %s", lines[i]);
    kb_series_drop(series, KB_KIND_BACKUP, "ns", "x");
    assert_false(shows(registry, "\"x\""));
    kb_series_free(series);
    kb_metrics_free(registry);
}

static void kb_series_drop_leaves_namesakes_of_other_kinds(void **state)
{
    (void)state;
    kb_metrics *registry = kb_metrics_new();
    kb_series *series = kb_series_new(registry);
    KB_AUTO_TREE(object);
    object = kb_test_json(
        "{'metadata':{'name':'x','namespace':'ns'},'spec':{'strategy':'headerBased','operation':'verify'},"
        "'status':{'groupsReset':2,'restoredRecords':5,'conditions':[{'type':'Complete','status':'True'}]}}");
    const kb_series_facts facts = {0};
    for (int kind = KB_KIND_RESTORE; kind < KB_KIND_COUNT; kind++)
        kb_series_update(series, (kb_kind)kind, object, &facts);
    static const char reset[] = "kafka_backup_offset_resets_total{reset_name=\"x\",namespace=\"ns\",strategy="
                                "\"header_based\",outcome=\"success\"} 1\n";
    static const char restore[] =
        "kafka_backup_restore_records_total{restore_name=\"x\",namespace=\"ns\"} 5\n";
    static const char rollback[] =
        "kafka_backup_offset_rollbacks_total{rollback_name=\"x\",namespace=\"ns\",operation="
        "\"verify\",outcome=\"success\"} 1\n";
    assert_true(shows(registry, reset) && shows(registry, restore) && shows(registry, rollback));
    kb_series_drop(series, KB_KIND_OFFSET_RESET, "ns", "x");
    assert_false(shows(registry, reset));
    assert_true(shows(registry, restore) && shows(registry, rollback));
    kb_series_free(series);
    kb_metrics_free(registry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_series_update_backup_shows_status_and_drop_removes_it),
        cmocka_unit_test(kb_series_drop_leaves_namesakes_of_other_kinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
