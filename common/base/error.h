/*
 * error - the one way a function of ours says that it failed.
 *
 * Every fallible function returns kb_code and takes a kb_error as its last argument. The code decides (what
 * to do, which exit code), the text is for people: what was tried, on which object, why, and a "hint:" where
 * the user can act. Codes above KB_ERR_LAST_INTERNAL are ends of a run; common/contract/exit_codes.h gives
 * their exit code and name. Threads: a kb_error belongs to one thread at a time; hand it over with
 * kb_error_move.
 */
#ifndef KB_COMMON_BASE_ERROR_H
#define KB_COMMON_BASE_ERROR_H

#include <stdarg.h>
#include <stdbool.h>

#define KB_CHECK __attribute__((warn_unused_result))
#define KB_PRINTF(fmt_at, args_at) __attribute__((format(printf, fmt_at, args_at)))

typedef enum kb_code {
    KB_OK = 0,
    /* Between modules only; a caller gives them a meaning before a run ends with one. */
    KB_ERR_INTERNAL,    /* a bug or an impossible answer of a library */
    KB_ERR_NOT_FOUND,   /* the named object does not exist, and that is certain */
    KB_ERR_EXISTS,      /* write-once: the name is taken */
    KB_ERR_FORMAT,      /* bytes that do not follow their format */
    KB_ERR_TOO_LARGE,   /* beyond a documented limit */
    KB_ERR_UNSUPPORTED, /* a store or broker lacks the operation */
    KB_ERR_STOPPED,     /* the stop token was set */
    KB_ERR_END,         /* no more items */
    KB_ERR_LAST_INTERNAL,
    /* Ends of a run, in the order of the exit codes. */
    KB_USAGE_ERROR,    /* 64 */
    KB_BACKUP_CORRUPT, /* 65 */
    KB_BACKUP_PRUNED,
    KB_RECORD_INVALID,
    KB_TARGET_DIVERGED,
    KB_MAPPING_INVALID,
    KB_SOURCE_OFFSETS_MISSING,
    KB_GROUPS_FAILED,
    KB_VERIFICATION_FAILED,
    KB_STORAGE_IO_ERROR,
    KB_KAFKA_UNREACHABLE, /* 75 */
    KB_STORAGE_UNREACHABLE,
    KB_BACKUP_LOCKED,
    KB_FENCED,
    KB_NO_PROGRESS,
    KB_GROUP_ACTIVE,
    KB_TEMPORARY_FAILURE,
    KB_KAFKA_AUTHENTICATION_FAILED, /* 77 */
    KB_KAFKA_ACCESS_DENIED,
    KB_STORAGE_ACCESS_DENIED,
    KB_STORAGE_CREDENTIALS_MISSING,
    KB_CONFIG_INVALID, /* 78 */
    KB_TOPIC_NOT_FOUND,
    KB_BACKUP_NOT_FOUND,
    KB_BACKUP_EXISTS,
    KB_FOREIGN_BACKUP,
    KB_MEMORY_TOO_SMALL,
    KB_STORAGE_FULL,
    KB_TARGET_NOT_EMPTY,
    KB_TARGET_MISMATCH,
    KB_SOURCE_IS_TARGET,
    KB_GAP_NOT_ALLOWED,
    KB_NO_RECORDS_IN_RANGE,
    KB_TIMESTAMP_ZERO,
    KB_SNAPSHOT_NOT_FOUND,
    KB_SNAPSHOT_EXISTS,
    KB_SNAPSHOT_TOO_LARGE,
    KB_OFFSETS_MOVED,
    KB_INTERRUPTED, /* 130, 143 */
    KB_CODE_COUNT
} kb_code;

typedef struct kb_error {
    kb_code code;
    bool retryable; /* the same call may succeed later without any change by the user */
    char *text;     /* owned; NULL while code is KB_OK */
} kb_error;

/* A kb_error that frees itself at the end of its scope. */
#define KB_ERROR_INIT {KB_OK, false, NULL}
#define KB_AUTO_ERROR(name) __attribute__((cleanup(kb_error_done))) kb_error name = KB_ERROR_INIT

/* Sets err (its old content is freed) and returns code, so that "return kb_fail(...)" is one line. */
kb_code kb_fail(kb_error *err, kb_code code, const char *fmt, ...) KB_PRINTF(3, 4);
/* The same, and marks the error as retryable. */
kb_code kb_fail_retryable(kb_error *err, kb_code code, const char *fmt, ...) KB_PRINTF(3, 4);
/* Puts "context: " before the text; code and retryable stay. Returns the code. */
kb_code kb_wrap(kb_error *err, const char *fmt, ...) KB_PRINTF(2, 3);
/* kb_wrap that also replaces the code: a module gives KB_ERR_FORMAT its own meaning, say. */
kb_code kb_wrap_as(kb_error *err, kb_code code, const char *fmt, ...) KB_PRINTF(3, 4);
/* Text for errno value `number` (thread safe); the string is static or thread-local. */
const char *kb_errno_text(int number);
/* The text, or "" when there is none. Borrowed. */
const char *kb_error_text(const kb_error *err);
/* Moves *from into *to (the old content of *to is freed); *from is empty afterwards. */
void kb_error_move(kb_error *to, kb_error *from);
/* Frees the content; err can be used again. */
void kb_error_done(kb_error *err);

#endif
