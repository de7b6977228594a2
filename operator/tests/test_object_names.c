#include "operator/jobs/object_names.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "operator/jobs/ledger.h"
#include "operator/tests/decide_fixture.h"

#define LONG "a-name-of-more-than-fifty-two-characters-that-does-not-fit-at-all"

static void kb_name_of_objects_follow_the_table(void **state)
{
    (void)state;
    KB_AUTOFREE char *cron = kb_name_cron_job("nightly");
    KB_AUTOFREE char *shot = kb_name_one_shot_job("nightly", 12);
    KB_AUTOFREE char *trigger = kb_name_trigger_job("nightly", "abc");
    KB_AUTOFREE char *prune = kb_name_prune_job("nightly", "0123456789");
    KB_AUTOFREE char *restore = kb_name_bounded_job(KB_KIND_RESTORE, "r", NULL);
    KB_AUTOFREE char *reset = kb_name_bounded_job(KB_KIND_OFFSET_RESET, "r", NULL);
    KB_AUTOFREE char *verify = kb_name_bounded_job(KB_KIND_OFFSET_ROLLBACK, "r", "verify");
    KB_AUTOFREE char *map = kb_name_config_map(KB_KIND_BACKUP, "nightly", "0123456789abcdef");
    KB_AUTOFREE char *binding = kb_name_binding("kafka-backup-worker");
    KB_AUTOFREE char *other = kb_name_binding("sa");
    assert_string_equal(cron, "nightly");
    assert_string_equal(shot, "nightly-g12");
    assert_string_equal(trigger, "nightly-tba7816bf");
    assert_string_equal(prune, "nightly-prune-01234567");
    assert_string_equal(restore, "r-restore");
    assert_string_equal(reset, "r-offset-reset");
    assert_string_equal(verify, "r-offset-verify");
    assert_string_equal(map, "nightly-backup-01234567");
    assert_string_equal(binding, "kafka-backup-worker");
    assert_string_equal(other, "kafka-backup-worker-sa");
}

static void kb_name_long_names_are_cut_and_hashed(void **state)
{
    (void)state;
    KB_AUTOFREE char *cron = kb_name_cron_job(LONG);
    KB_AUTOFREE char *job = kb_name_trigger_job(LONG, "abc");
    assert_true(strlen(cron) <= 52);
    assert_true(strlen(job) <= 63);
    assert_memory_equal(job, LONG, 40);
    /* A slot is found behind a cut name, too. */
    KB_AUTOFREE char *slot_job = kb_asprintf("%s-28884240", cron);
    int64_t slot = 0;
    assert_true(kb_name_slot(slot_job, cron, &slot));
    assert_int_equal(slot, 1733054400);
}

static void kb_name_slot_only_of_scheduled_jobs(void **state)
{
    (void)state;
    static const struct {
        const char *job;
        int64_t slot; /* 0 = none */
    } rows[] = {
        {"x-28884240", 1733054400},
        {"x-1733054400", 1733054400},
        {"x-g1", 0},
        {"x-tba7816bf", 0},
        {"x-2888424", 0},
        {"y-28884240", 0},
        {"x-28884240-z", 0},
        {"x28884240", 0},
        {"x-", 0},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        int64_t slot = 0;
        assert_true(kb_name_slot(rows[i].job, "x", &slot) == (rows[i].slot != 0));
        assert_int_equal(slot, rows[i].slot);
    }
    KB_AUTOFREE char *id = kb_name_backup_id("x", 1733054400);
    KB_AUTOFREE char *source = kb_name_backup_of_id(id);
    assert_string_equal(id, "x-20241201-120000");
    assert_string_equal(source, "x");
    assert_null(kb_name_backup_of_id("x-20241301-120000"));
    assert_null(kb_name_backup_of_id("-20241201-120000"));
    char stamp[16];
    kb_name_stamp(1733054400, stamp);
    assert_string_equal(stamp, "20241201-120001");
}

static void kb_ledger_read_only_the_object_s_own_counts(void **state)
{
    (void)state;
    KB_AUTO_TREE(object);
    object = kb_test_json("{'metadata':{'uid':'u1','annotations':{}}}");
    kb_ledger ledger = {.generation = 3};
    kb_ledger_set(&ledger.config, "c");
    kb_ledger_set(&ledger.outcome, "success");
    KB_AUTOFREE char *text = kb_ledger_text(&ledger, object);
    assert_true(strlen(text) <= KB_LEDGER_MAX_BYTES);
    kb_ledger_done(&ledger);
    kb_tree_set_text(kb_tree_at(object, "metadata", "annotations", NULL), KB_NOTE_LEDGER, text);
    kb_ledger_read(object, &ledger);
    assert_true(ledger.is_set);
    assert_int_equal(ledger.generation, 3);
    assert_string_equal(ledger.config, "c");
    assert_null(ledger.trigger);
    kb_ledger_done(&ledger);
    static const char *const uids[] = {"u2", ""};
    for (size_t i = 0; i < KB_ARRAY_LEN(uids); i++) {
        kb_tree_set_text(kb_tree_at(object, "metadata", NULL), "uid", uids[i]);
        kb_ledger_read(object, &ledger);
        assert_false(ledger.is_set);
        assert_null(ledger.config);
    }
    kb_tree_set_text(kb_tree_at(object, "metadata", "annotations", NULL), KB_NOTE_LEDGER, "not JSON");
    kb_ledger_read(object, &ledger);
    assert_false(ledger.is_set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_name_of_objects_follow_the_table),
        cmocka_unit_test(kb_name_long_names_are_cut_and_hashed),
        cmocka_unit_test(kb_name_slot_only_of_scheduled_jobs),
        cmocka_unit_test(kb_ledger_read_only_the_object_s_own_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
