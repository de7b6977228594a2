#include "worker/catalog/catalog.h"

#include "worker/catalog/backup_record.h"
#include "worker/catalog/group_snapshot.h"
#include "worker/catalog/manifest.h"
#include "worker/tests/catalog_fixture.h"

#define MANIFEST ID "/manifest.json"
#define RECORD ID "/backup.json"

static const kb_catalog_open_options plain = {0};

/* A complete backup of ours. */
static void make_complete(kb_storage *storage)
{
    KB_AUTO_ERROR(err);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *journal = test_sealed(storage, &clock, "first", "uid-1");
    KB_AUTO_BACKUP kb_backup *backup = kb_journal_take_backup(journal);
    assert_ok(kb_catalog_publish(storage, &backup, &err));
    assert_true(backup->has_manifest_hash);
}

static void make_foreign(kb_storage *storage, const char *id)
{
    KB_AUTOFREE char *key = kb_layout_manifest_key(id);
    KB_AUTOFREE char *text = kb_asprintf(
        "{\"backup_id\":\"%s\",\"created_at\":5,\"topics\":[{\"name\":\"a\",\"partitions\":[{\"partition_"
        "id\":0,"
        "\"segments\":[{\"key\":\"%s/topics/a/partition=0/segment-000000.bin.zst\",\"start_offset\":0,"
        "\"end_offset\":9,\"start_timestamp\":1,\"end_timestamp\":2,\"record_count\":10,"
        "\"uncompressed_size\":300,\"compressed_size\":100}]}]}]}",
        id, id);
    test_puts(storage, key, text);
}

static kb_code open_it(kb_storage *storage, const kb_catalog_open_options *options,
                       kb_catalog_state *ret_state, kb_error *err)
{
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    kb_code code = kb_catalog_open(storage, ID, options, &backup, ret_state, err);
    assert_int_equal(code == KB_OK, backup != NULL);
    return code;
}

/* ---- publishing ---- */

static void kb_catalog_publish_sealed_backup_is_complete(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    make_complete(store.storage);
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    kb_catalog_state found;
    assert_ok(kb_catalog_open(store.storage, ID, &plain, &backup, &found, &err));
    assert_int_equal(found, KB_CATALOG_COMPLETE);
    assert_false(backup->foreign);
    assert_string_equal(backup->generator, "kafka-backup-worker/test");
    assert_int_equal(backup->completed_at, INT64_C(1735689600000));
    kb_backup_totals totals;
    assert_ok(kb_backup_totals_of(backup, &totals, &err));
    assert_int_equal(totals.records, 90);
    uint8_t sha256[KB_SHA256_SIZE];
    KB_AUTOFREE char *manifest = test_get(store.storage, MANIFEST);
    kb_sha256(manifest, strlen(manifest), sha256);
    assert_memory_equal(sha256, backup->manifest_sha256, sizeof sha256);
    KB_AUTOFREE char *index = NULL;
    size_t len = 0;
    assert_ok(kb_catalog_read_index(store.storage, ID, found, &index, &len, &err));
    KB_AUTOFREE char *record = test_get(store.storage, RECORD);
    assert_string_equal(index, record);
}

static void kb_catalog_publish_again_by_another_attempt_changes_nothing(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *first = test_sealed(store.storage, &clock, "first", "uid-1");
    AUTO_JOURNAL *second = test_journal(store.storage, &clock, "second", "uid-2");
    assert_ok(kb_journal_wait(second, &err));
    KB_AUTO_BACKUP kb_backup *mine = kb_journal_take_backup(first);
    KB_AUTO_BACKUP kb_backup *theirs = kb_journal_take_backup(second);
    assert_ok(kb_catalog_publish(store.storage, &theirs, &err));
    KB_AUTOFREE char *record = test_get(store.storage, RECORD);
    KB_AUTOFREE char *manifest = test_get(store.storage, MANIFEST);
    assert_ok(kb_catalog_publish(store.storage, &mine, &err));
    KB_AUTOFREE char *record_again = test_get(store.storage, RECORD);
    KB_AUTOFREE char *manifest_again = test_get(store.storage, MANIFEST);
    assert_string_equal(record, record_again);
    assert_string_equal(manifest, manifest_again);
}

static void kb_catalog_publish_stored_record_wins(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *first = test_sealed(store.storage, &clock, "first", "uid-1");
    KB_AUTO_BACKUP kb_backup *mine = kb_journal_take_backup(first);
    AUTO_JOURNAL *second = test_journal(store.storage, &clock, "second", "uid-2");
    assert_ok(kb_journal_wait(second, &err));
    KB_AUTO_BACKUP kb_backup *theirs = kb_journal_take_backup(second);
    kb_text_set(&theirs->generator, "kafka-backup-worker/another");
    KB_AUTO_STRBUF(text, KB_BACKUP_JSON_MAX_BYTES);
    assert_ok(kb_backup_record_write(theirs, &text, &err));
    test_put(store.storage, RECORD, text.data, text.len);
    assert_ok(kb_catalog_publish(store.storage, &mine, &err));
    assert_string_equal(mine->generator, "kafka-backup-worker/another");
    kb_catalog_state found;
    assert_ok(open_it(store.storage, &plain, &found, &err));
}

static void kb_catalog_publish_other_manifest_is_not_overwritten(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *journal = test_sealed(store.storage, &clock, "first", "uid-1");
    KB_AUTO_BACKUP kb_backup *backup = kb_journal_take_backup(journal);
    test_puts(store.storage, MANIFEST, "{}");
    assert_fails(kb_catalog_publish(store.storage, &backup, &err), KB_BACKUP_CORRUPT);
    KB_AUTOFREE char *manifest = test_get(store.storage, MANIFEST);
    assert_string_equal(manifest, "{}");
}

static void kb_catalog_publish_unreadable_record_is_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *journal = test_sealed(store.storage, &clock, "first", "uid-1");
    KB_AUTO_BACKUP kb_backup *backup = kb_journal_take_backup(journal);
    test_puts(store.storage, RECORD, "{");
    assert_fails(kb_catalog_publish(store.storage, &backup, &err), KB_BACKUP_CORRUPT);
    kb_object_info info;
    assert_fails(kb_storage_head(store.storage, MANIFEST, &info, &err), KB_ERR_NOT_FOUND);
}

static void kb_catalog_publish_lost_reply_is_success(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *journal = test_sealed(store.storage, &clock, "first", "uid-1");
    KB_AUTO_BACKUP kb_backup *backup = kb_journal_take_backup(journal);
    bad_store bad = {.inner = store.storage, .lose_replies = true};
    kb_storage *storage KB_CLEANUP(kb_storage_free_at) = bad_storage_new(&bad);
    assert_fails(kb_catalog_publish(storage, &backup, &err), KB_TEMPORARY_FAILURE);
    bad.lose_replies = false;
    assert_ok(kb_catalog_publish(storage, &backup, &err));
    kb_catalog_state found;
    assert_ok(open_it(storage, &plain, &found, &err));
}

/* ---- opening ---- */

static void kb_catalog_open_absent_backup_is_not_found(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    kb_catalog_state found;
    assert_fails(open_it(store.storage, &plain, &found, &err), KB_BACKUP_NOT_FOUND);
    assert_says("Backup '" ID "' not found");
}

static void kb_catalog_open_unfinished_backup_says_what_it_is(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    kb_catalog_state found;
    AUTO_JOURNAL *journal = test_begun(store.storage, &clock, "first", "");
    assert_fails(open_it(store.storage, &plain, &found, &err), KB_BACKUP_NOT_FOUND);
    assert_says("not complete");
    assert_ok(test_progress(journal, 10, 100, &err));
    assert_ok(kb_journal_seal(journal, "g", &err));
    KB_AUTO_BACKUP kb_backup *backup = kb_journal_take_backup(journal);
    assert_ok(kb_catalog_publish(store.storage, &backup, &err));
    test_remove(store.storage, MANIFEST);
    assert_fails(open_it(store.storage, &plain, &found, &err), KB_BACKUP_NOT_FOUND);
    assert_says("sealed");
    assert_ok(open_it(store.storage, &(kb_catalog_open_options){.from_backup_json = true}, &found, &err));
}

static void kb_catalog_open_foreign_manifest_is_foreign(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    make_foreign(store.storage, ID);
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    kb_catalog_state found;
    assert_ok(kb_catalog_open(store.storage, ID, &plain, &backup, &found, &err));
    assert_int_equal(found, KB_CATALOG_FOREIGN);
    assert_true(backup->foreign);
    KB_AUTOFREE char *key = kb_segment_key(backup, &backup->topics[0], &backup->topics[0].partitions[0],
                                           &backup->topics[0].partitions[0].segments[0]);
    assert_string_equal(key, ID "/topics/a/partition=0/segment-000000.bin.zst");
}

static void kb_catalog_open_missing_record_of_ours_is_damaged(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    make_complete(store.storage);
    test_remove(store.storage, RECORD);
    kb_catalog_state found;
    assert_fails(open_it(store.storage, &plain, &found, &err), KB_BACKUP_CORRUPT);
    assert_says("--from-manifest");
    assert_ok(open_it(store.storage, &(kb_catalog_open_options){.from_manifest = true}, &found, &err));
    assert_int_equal(found, KB_CATALOG_FOREIGN);
}

static void kb_catalog_open_manifest_saved_over_is_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    make_complete(store.storage);
    KB_AUTOFREE char *manifest = test_get(store.storage, MANIFEST);
    *strchr(manifest, '1') = '2';
    test_overwrite(store.storage, MANIFEST, manifest);
    kb_catalog_state found;
    assert_fails(open_it(store.storage, &plain, &found, &err), KB_BACKUP_CORRUPT);
    assert_says("'" MANIFEST "'");
    assert_says("--from-backup-json");
    assert_ok(open_it(store.storage, &(kb_catalog_open_options){.from_backup_json = true}, &found, &err));
    assert_int_equal(found, KB_CATALOG_COMPLETE);
}

static void kb_catalog_open_damaged_record_is_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    make_complete(store.storage);
    KB_AUTOFREE char *record = test_get(store.storage, RECORD);
    *strchr(record, '7') = '8';
    test_overwrite(store.storage, RECORD, record);
    kb_catalog_state found;
    assert_fails(open_it(store.storage, &plain, &found, &err), KB_BACKUP_CORRUPT);
    assert_says("'" RECORD "'");
    assert_fails(open_it(store.storage, &(kb_catalog_open_options){.from_backup_json = true}, &found, &err),
                 KB_BACKUP_CORRUPT);
    assert_ok(open_it(store.storage, &(kb_catalog_open_options){.from_manifest = true}, &found, &err));
    assert_int_equal(found, KB_CATALOG_FOREIGN);
}

static void kb_catalog_open_marked_backup_needs_permission(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    make_complete(store.storage);
    test_puts(store.storage, ID "/pruned.json", "{}");
    kb_catalog_state found;
    assert_fails(open_it(store.storage, &plain, &found, &err), KB_BACKUP_PRUNED);
    assert_ok(open_it(store.storage, &(kb_catalog_open_options){.allow_pruned = true}, &found, &err));
    assert_int_equal(found, KB_CATALOG_PRUNED);
}

static void kb_catalog_open_failing_store_is_no_answer(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    bad_store bad = {.inner = store.storage, .refuse = true};
    kb_storage *storage KB_CLEANUP(kb_storage_free_at) = bad_storage_new(&bad);
    kb_catalog_state found;
    assert_fails(open_it(storage, &plain, &found, &err), KB_TEMPORARY_FAILURE);
}

static void kb_catalog_open_hostile_id_is_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    static const char *const ids[] = {"", "..", "a/../b", "a//b", "a\nb"};
    for (size_t i = 0; i < KB_ARRAY_LEN(ids); i++) {
        KB_AUTO_BACKUP kb_backup *backup = NULL;
        kb_catalog_state found;
        assert_fails(kb_catalog_open(store.storage, ids[i], &plain, &backup, &found, &err),
                     KB_CONFIG_INVALID);
    }
}

/* ---- listing ---- */

static const kb_catalog_row *find_row(const kb_catalog_rows *rows, const char *id)
{
    for (size_t i = 0; i < rows->count; i++)
        if (strcmp(rows->rows[i].backup_id, id) == 0)
            return &rows->rows[i];
    fail_msg("no row of '%s'", id);
    return NULL;
}

static void kb_catalog_list_shows_each_backup_with_its_state(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    make_complete(store.storage);
    make_foreign(store.storage, "foreign");
    make_foreign(store.storage, "marked");
    test_puts(store.storage, "marked/pruned.json", "{}");
    test_puts(store.storage, "broken/manifest.json", "{");
    test_puts(store.storage, "torn/journal/00000000.json", "{");
    test_puts(store.storage, "halved/manifest.json", "{}");
    test_puts(store.storage, "halved/journal/00000000.json", "{}");
    test_puts(store.storage, "unrelated/readme.txt", "hello");
    test_puts(store.storage, "restores/x/start-0001.json", "{}");
    test_puts(store.storage, "file-in-the-root", "x");
    kb_catalog_rows rows KB_CLEANUP(kb_catalog_rows_done) = {NULL, 0, 0};
    assert_ok(kb_catalog_list(store.storage, &rows, &err));
    assert_int_equal(rows.count, 6);
    const kb_catalog_row *row = find_row(&rows, ID);
    assert_int_equal(row->state, KB_CATALOG_COMPLETE);
    assert_true(row->has_numbers);
    assert_int_equal(row->records, 90);
    assert_int_equal(row->stored_bytes, 800);
    assert_int_equal(row->own_bytes, 800);
    assert_int_equal(row->completed_at, INT64_C(1735689600000));
    assert_string_equal(rows.rows[0].backup_id, ID);
    row = find_row(&rows, "foreign");
    assert_int_equal(row->state, KB_CATALOG_FOREIGN);
    assert_int_equal(row->records, 10);
    assert_int_equal(find_row(&rows, "marked")->state, KB_CATALOG_PRUNED);
    assert_int_equal(find_row(&rows, "broken")->state, KB_CATALOG_DAMAGED);
    assert_non_null(find_row(&rows, "broken")->problem);
    assert_int_equal(find_row(&rows, "torn")->state, KB_CATALOG_DAMAGED);
    assert_int_equal(find_row(&rows, "halved")->state, KB_CATALOG_DAMAGED);
}

static void kb_catalog_list_unfinished_backup_is_open_then_sealed(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *journal = test_begun(store.storage, &clock, "first", "");
    assert_ok(test_progress(journal, 10, 100, &err));
    kb_catalog_rows rows KB_CLEANUP(kb_catalog_rows_done) = {NULL, 0, 0};
    assert_ok(kb_catalog_list(store.storage, &rows, &err));
    assert_int_equal(rows.count, 1);
    assert_int_equal(rows.rows[0].state, KB_CATALOG_OPEN);
    assert_int_equal(rows.rows[0].created_at, INT64_C(1735689600000));
    assert_false(rows.rows[0].has_numbers);
    kb_catalog_rows_done(&rows);
    assert_ok(kb_journal_seal(journal, "g", &err));
    assert_ok(kb_catalog_list(store.storage, &rows, &err));
    assert_int_equal(rows.rows[0].state, KB_CATALOG_SEALED);
}

/* ---- group snapshot ---- */

static void kb_group_snapshot_verify_compares_the_hash(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    KB_AUTO_BACKUP kb_backup *backup = kb_backup_new(ID);
    assert_ok(kb_group_snapshot_verify(store.storage, backup, &err));
    static const char text[] = "{\"groups\": []}";
    uint8_t sha256[KB_SHA256_SIZE];
    kb_sha256(text, sizeof text - 1, sha256);
    kb_backup_set_groups(backup, ID "/consumer-groups-snapshot.json", sha256, 0, true);
    assert_fails(kb_group_snapshot_verify(store.storage, backup, &err), KB_ERR_FORMAT);
    assert_says("missing");
    test_puts(store.storage, ID "/consumer-groups-snapshot.json", text);
    assert_ok(kb_group_snapshot_verify(store.storage, backup, &err));
    backup->groups->sha256[0] ^= 1;
    assert_fails(kb_group_snapshot_verify(store.storage, backup, &err), KB_ERR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_catalog_publish_sealed_backup_is_complete),
        cmocka_unit_test(kb_catalog_publish_again_by_another_attempt_changes_nothing),
        cmocka_unit_test(kb_catalog_publish_stored_record_wins),
        cmocka_unit_test(kb_catalog_publish_other_manifest_is_not_overwritten),
        cmocka_unit_test(kb_catalog_publish_unreadable_record_is_refused),
        cmocka_unit_test(kb_catalog_publish_lost_reply_is_success),
        cmocka_unit_test(kb_catalog_open_absent_backup_is_not_found),
        cmocka_unit_test(kb_catalog_open_unfinished_backup_says_what_it_is),
        cmocka_unit_test(kb_catalog_open_foreign_manifest_is_foreign),
        cmocka_unit_test(kb_catalog_open_missing_record_of_ours_is_damaged),
        cmocka_unit_test(kb_catalog_open_manifest_saved_over_is_refused),
        cmocka_unit_test(kb_catalog_open_damaged_record_is_refused),
        cmocka_unit_test(kb_catalog_open_marked_backup_needs_permission),
        cmocka_unit_test(kb_catalog_open_failing_store_is_no_answer),
        cmocka_unit_test(kb_catalog_open_hostile_id_is_refused),
        cmocka_unit_test(kb_catalog_list_shows_each_backup_with_its_state),
        cmocka_unit_test(kb_catalog_list_unfinished_backup_is_open_then_sealed),
        cmocka_unit_test(kb_group_snapshot_verify_compares_the_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
