#include "common/contract/exit_codes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <string.h>

#include "common/base/mem.h"

/* worker.md, section 2, entry by entry. */
static const struct {
    int exit_code;
    const char *reason;
    kb_code code;
} table[] = {
    {64, "UsageError", KB_USAGE_ERROR},
    {65, "BackupCorrupt", KB_BACKUP_CORRUPT},
    {65, "BackupPruned", KB_BACKUP_PRUNED},
    {65, "RecordInvalid", KB_RECORD_INVALID},
    {65, "TargetDiverged", KB_TARGET_DIVERGED},
    {65, "MappingInvalid", KB_MAPPING_INVALID},
    {65, "SourceOffsetsMissing", KB_SOURCE_OFFSETS_MISSING},
    {65, "GroupsFailed", KB_GROUPS_FAILED},
    {65, "VerificationFailed", KB_VERIFICATION_FAILED},
    {65, "StorageIOError", KB_STORAGE_IO_ERROR},
    {75, "KafkaUnreachable", KB_KAFKA_UNREACHABLE},
    {75, "StorageUnreachable", KB_STORAGE_UNREACHABLE},
    {75, "BackupLocked", KB_BACKUP_LOCKED},
    {75, "Fenced", KB_FENCED},
    {75, "NoProgress", KB_NO_PROGRESS},
    {75, "GroupActive", KB_GROUP_ACTIVE},
    {75, "TemporaryFailure", KB_TEMPORARY_FAILURE},
    {77, "KafkaAuthenticationFailed", KB_KAFKA_AUTHENTICATION_FAILED},
    {77, "KafkaAccessDenied", KB_KAFKA_ACCESS_DENIED},
    {77, "StorageAccessDenied", KB_STORAGE_ACCESS_DENIED},
    {77, "StorageCredentialsMissing", KB_STORAGE_CREDENTIALS_MISSING},
    {78, "ConfigInvalid", KB_CONFIG_INVALID},
    {78, "TopicNotFound", KB_TOPIC_NOT_FOUND},
    {78, "BackupNotFound", KB_BACKUP_NOT_FOUND},
    {78, "BackupExists", KB_BACKUP_EXISTS},
    {78, "ForeignBackup", KB_FOREIGN_BACKUP},
    {78, "MemoryTooSmall", KB_MEMORY_TOO_SMALL},
    {78, "StorageFull", KB_STORAGE_FULL},
    {78, "TargetNotEmpty", KB_TARGET_NOT_EMPTY},
    {78, "TargetMismatch", KB_TARGET_MISMATCH},
    {78, "SourceIsTarget", KB_SOURCE_IS_TARGET},
    {78, "GapNotAllowed", KB_GAP_NOT_ALLOWED},
    {78, "NoRecordsInRange", KB_NO_RECORDS_IN_RANGE},
    {78, "TimestampZero", KB_TIMESTAMP_ZERO},
    {78, "SnapshotNotFound", KB_SNAPSHOT_NOT_FOUND},
    {78, "SnapshotExists", KB_SNAPSHOT_EXISTS},
    {78, "SnapshotTooLarge", KB_SNAPSHOT_TOO_LARGE},
    {78, "OffsetsMoved", KB_OFFSETS_MOVED},
    {143, "Interrupted", KB_INTERRUPTED},
};

static void kb_exit_code_final_codes_follow_the_table(void **state)
{
    (void)state;
    assert_int_equal(KB_ARRAY_LEN(table), KB_CODE_COUNT - KB_ERR_LAST_INTERNAL - 1);
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        assert_int_equal(kb_exit_code(table[i].code, 0), table[i].exit_code);
        assert_string_equal(kb_exit_reason(table[i].code), table[i].reason);
        kb_code code = KB_OK;
        assert_true(kb_exit_reason_parse(table[i].reason, &code));
        assert_int_equal(code, table[i].code);
    }
}

static void kb_exit_code_signal_decides_between_130_and_143(void **state)
{
    (void)state;
    assert_int_equal(kb_exit_code(KB_INTERRUPTED, SIGINT), 130);
    assert_int_equal(kb_exit_code(KB_INTERRUPTED, SIGTERM), 143);
    assert_int_equal(kb_exit_code(KB_ERR_STOPPED, SIGINT), 130);
    assert_int_equal(kb_exit_code(KB_ERR_STOPPED, SIGTERM), 143);
    assert_int_equal(kb_exit_code(KB_CONFIG_INVALID, SIGINT), 78);
}

static void kb_exit_code_only_ok_is_zero(void **state)
{
    (void)state;
    assert_int_equal(kb_exit_code(KB_OK, 0), 0);
    assert_string_equal(kb_exit_reason(KB_OK), "");
    for (int code = KB_OK + 1; code <= KB_CODE_COUNT; code++) {
        kb_code parsed = KB_OK;
        assert_int_not_equal(kb_exit_code((kb_code)code, 0), 0);
        assert_true(kb_exit_reason_parse(kb_exit_reason((kb_code)code), &parsed));
    }
}

static void kb_exit_reason_parse_unknown_word_is_refused(void **state)
{
    (void)state;
    kb_code code = KB_OK;
    assert_false(kb_exit_reason_parse("", &code));
    assert_false(kb_exit_reason_parse("RetentionGap", &code));
    assert_int_equal(code, KB_OK);
}

static void kb_finding_name_order_and_words_follow_the_table(void **state)
{
    (void)state;
    static const char *const names[] = {"RetentionGap",     "Discontinuity",    "TopicsSkipped",
                                        "GroupsIncomplete", "TimestampChanged", "DifferencesFound",
                                        "SnapshotAbsent",   "RetentionHeld"};
    assert_int_equal(KB_ARRAY_LEN(names), KB_FINDING_COUNT);
    for (size_t i = 0; i < KB_ARRAY_LEN(names); i++) {
        kb_finding finding = KB_FINDING_COUNT;
        assert_string_equal(kb_finding_name((kb_finding)i), names[i]);
        assert_true(kb_finding_parse(names[i], &finding));
        assert_int_equal(finding, i);
    }
    kb_finding finding = KB_FINDING_COUNT;
    assert_false(kb_finding_parse("Other", &finding));
    assert_string_equal(kb_finding_name(KB_FINDING_COUNT), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_exit_code_final_codes_follow_the_table),
        cmocka_unit_test(kb_exit_code_signal_decides_between_130_and_143),
        cmocka_unit_test(kb_exit_code_only_ok_is_zero),
        cmocka_unit_test(kb_exit_reason_parse_unknown_word_is_refused),
        cmocka_unit_test(kb_finding_name_order_and_words_follow_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
