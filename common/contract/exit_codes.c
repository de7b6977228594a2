#include "common/contract/exit_codes.h"

#include <signal.h>
#include <string.h>

#include "common/base/mem.h"

typedef struct kb_exit_row {
    int exit_code;
    const char *reason;
} kb_exit_row;

/*
 * Internal codes end a run only by a mistake of ours or where no one could give them a meaning: bytes that do
 * not follow their format or exceed a limit came from a backup; a missing operation cannot be helped by
 * trying again; the rest may be.
 */
static const kb_exit_row rows[KB_CODE_COUNT] = {
    [KB_OK] = {KB_EXIT_OK, ""},
    [KB_ERR_INTERNAL] = {KB_EXIT_TEMPORARY, "TemporaryFailure"},
    [KB_ERR_NOT_FOUND] = {KB_EXIT_DATA, "BackupCorrupt"},
    [KB_ERR_EXISTS] = {KB_EXIT_TEMPORARY, "TemporaryFailure"},
    [KB_ERR_FORMAT] = {KB_EXIT_DATA, "BackupCorrupt"},
    [KB_ERR_TOO_LARGE] = {KB_EXIT_DATA, "BackupCorrupt"},
    [KB_ERR_UNSUPPORTED] = {KB_EXIT_CONFIG, "ConfigInvalid"},
    [KB_ERR_STOPPED] = {KB_EXIT_SIGTERM, "Interrupted"},
    [KB_ERR_END] = {KB_EXIT_TEMPORARY, "TemporaryFailure"},
    [KB_ERR_LAST_INTERNAL] = {KB_EXIT_TEMPORARY, "TemporaryFailure"},
    [KB_USAGE_ERROR] = {KB_EXIT_USAGE, "UsageError"},
    [KB_BACKUP_CORRUPT] = {KB_EXIT_DATA, "BackupCorrupt"},
    [KB_BACKUP_PRUNED] = {KB_EXIT_DATA, "BackupPruned"},
    [KB_RECORD_INVALID] = {KB_EXIT_DATA, "RecordInvalid"},
    [KB_TARGET_DIVERGED] = {KB_EXIT_DATA, "TargetDiverged"},
    [KB_MAPPING_INVALID] = {KB_EXIT_DATA, "MappingInvalid"},
    [KB_SOURCE_OFFSETS_MISSING] = {KB_EXIT_DATA, "SourceOffsetsMissing"},
    [KB_GROUPS_FAILED] = {KB_EXIT_DATA, "GroupsFailed"},
    [KB_VERIFICATION_FAILED] = {KB_EXIT_DATA, "VerificationFailed"},
    [KB_STORAGE_IO_ERROR] = {KB_EXIT_DATA, "StorageIOError"},
    [KB_KAFKA_UNREACHABLE] = {KB_EXIT_TEMPORARY, "KafkaUnreachable"},
    [KB_STORAGE_UNREACHABLE] = {KB_EXIT_TEMPORARY, "StorageUnreachable"},
    [KB_BACKUP_LOCKED] = {KB_EXIT_TEMPORARY, "BackupLocked"},
    [KB_FENCED] = {KB_EXIT_TEMPORARY, "Fenced"},
    [KB_NO_PROGRESS] = {KB_EXIT_TEMPORARY, "NoProgress"},
    [KB_GROUP_ACTIVE] = {KB_EXIT_TEMPORARY, "GroupActive"},
    [KB_TEMPORARY_FAILURE] = {KB_EXIT_TEMPORARY, "TemporaryFailure"},
    [KB_KAFKA_AUTHENTICATION_FAILED] = {KB_EXIT_ACCESS, "KafkaAuthenticationFailed"},
    [KB_KAFKA_ACCESS_DENIED] = {KB_EXIT_ACCESS, "KafkaAccessDenied"},
    [KB_STORAGE_ACCESS_DENIED] = {KB_EXIT_ACCESS, "StorageAccessDenied"},
    [KB_STORAGE_CREDENTIALS_MISSING] = {KB_EXIT_ACCESS, "StorageCredentialsMissing"},
    [KB_CONFIG_INVALID] = {KB_EXIT_CONFIG, "ConfigInvalid"},
    [KB_TOPIC_NOT_FOUND] = {KB_EXIT_CONFIG, "TopicNotFound"},
    [KB_BACKUP_NOT_FOUND] = {KB_EXIT_CONFIG, "BackupNotFound"},
    [KB_BACKUP_EXISTS] = {KB_EXIT_CONFIG, "BackupExists"},
    [KB_FOREIGN_BACKUP] = {KB_EXIT_CONFIG, "ForeignBackup"},
    [KB_MEMORY_TOO_SMALL] = {KB_EXIT_CONFIG, "MemoryTooSmall"},
    [KB_STORAGE_FULL] = {KB_EXIT_CONFIG, "StorageFull"},
    [KB_TARGET_NOT_EMPTY] = {KB_EXIT_CONFIG, "TargetNotEmpty"},
    [KB_TARGET_MISMATCH] = {KB_EXIT_CONFIG, "TargetMismatch"},
    [KB_SOURCE_IS_TARGET] = {KB_EXIT_CONFIG, "SourceIsTarget"},
    [KB_GAP_NOT_ALLOWED] = {KB_EXIT_CONFIG, "GapNotAllowed"},
    [KB_NO_RECORDS_IN_RANGE] = {KB_EXIT_CONFIG, "NoRecordsInRange"},
    [KB_TIMESTAMP_ZERO] = {KB_EXIT_CONFIG, "TimestampZero"},
    [KB_SNAPSHOT_NOT_FOUND] = {KB_EXIT_CONFIG, "SnapshotNotFound"},
    [KB_SNAPSHOT_EXISTS] = {KB_EXIT_CONFIG, "SnapshotExists"},
    [KB_SNAPSHOT_TOO_LARGE] = {KB_EXIT_CONFIG, "SnapshotTooLarge"},
    [KB_OFFSETS_MOVED] = {KB_EXIT_CONFIG, "OffsetsMoved"},
    [KB_INTERRUPTED] = {KB_EXIT_SIGTERM, "Interrupted"},
};

static const kb_exit_row *row_of(kb_code code)
{
    bool is_known = code >= KB_OK && code < KB_CODE_COUNT;
    return &rows[is_known ? code : KB_ERR_INTERNAL];
}

int kb_exit_code(kb_code code, int signal_number)
{
    const kb_exit_row *row = row_of(code);
    if (row->exit_code == KB_EXIT_SIGTERM && signal_number == SIGINT)
        return KB_EXIT_SIGINT;
    return row->exit_code;
}

const char *kb_exit_reason(kb_code code)
{
    return row_of(code)->reason;
}

bool kb_exit_reason_parse(const char *reason, kb_code *ret_code)
{
    for (int i = KB_ERR_LAST_INTERNAL + 1; i < KB_CODE_COUNT; i++) {
        if (strcmp(rows[i].reason, reason) == 0) {
            *ret_code = (kb_code)i;
            return true;
        }
    }
    return false;
}

static const char *const findings[KB_FINDING_COUNT] = {
    [KB_FINDING_RETENTION_GAP] = "RetentionGap",         [KB_FINDING_DISCONTINUITY] = "Discontinuity",
    [KB_FINDING_TOPICS_SKIPPED] = "TopicsSkipped",       [KB_FINDING_GROUPS_INCOMPLETE] = "GroupsIncomplete",
    [KB_FINDING_TIMESTAMP_CHANGED] = "TimestampChanged", [KB_FINDING_DIFFERENCES_FOUND] = "DifferencesFound",
    [KB_FINDING_SNAPSHOT_ABSENT] = "SnapshotAbsent",     [KB_FINDING_RETENTION_HELD] = "RetentionHeld",
};

const char *kb_finding_name(kb_finding finding)
{
    bool is_known = finding >= KB_FINDING_RETENTION_GAP && finding < KB_FINDING_COUNT;
    return is_known ? findings[finding] : "";
}

bool kb_finding_parse(const char *name, kb_finding *ret_finding)
{
    for (size_t i = 0; i < KB_ARRAY_LEN(findings); i++) {
        if (strcmp(findings[i], name) == 0) {
            *ret_finding = (kb_finding)i;
            return true;
        }
    }
    return false;
}
