/*
 * kafka_error - what an error number of Kafka or of the client library means for a run (worker.md 11).
 *
 * Numbers above 0 are the broker's, below 0 the library's own; callers outside of this folder see plain ints.
 * Threads: all functions may be called from any thread.
 */
#ifndef KB_WORKER_KAFKA_KAFKA_ERROR_H
#define KB_WORKER_KAFKA_KAFKA_ERROR_H

#include <stdbool.h>

#include "common/base/error.h"

typedef enum kb_kafka_class {
    KB_KAFKA_CLASS_NONE,          /* 0 */
    KB_KAFKA_CLASS_TRANSIENT,     /* back off, refresh metadata, go on */
    KB_KAFKA_CLASS_PERMISSION,    /* 77 */
    KB_KAFKA_CLASS_CONFIGURATION, /* 78 */
    KB_KAFKA_CLASS_FENCED,        /* 75 Fenced */
    KB_KAFKA_CLASS_OTHER          /* no rule: 75 TemporaryFailure, not retried here */
} kb_kafka_class;

typedef struct kb_kafka_verdict {
    kb_kafka_class class_;
    kb_code code;   /* the end of a run that this error means when it does not go away */
    bool retryable; /* class transient */
} kb_kafka_verdict;

/* Numbers of the broker protocol that callers look at. Source: Kafka protocol, error codes. */
#define KB_KAFKA_ERROR_OFFSET_OUT_OF_RANGE 1
#define KB_KAFKA_ERROR_UNKNOWN_TOPIC_OR_PARTITION 3
#define KB_KAFKA_ERROR_TOPIC_AUTHORIZATION_FAILED 29
#define KB_KAFKA_ERROR_TOPIC_ALREADY_EXISTS 36
#define KB_KAFKA_ERROR_POLICY_VIOLATION 44
#define KB_KAFKA_ERROR_INCONSISTENT_TOPIC_ID 103

kb_kafka_verdict kb_kafka_classify(int error_number);
/* "UNKNOWN_TOPIC_OR_PARTITION", "_TRANSPORT", ... Static. */
const char *kb_kafka_error_name(int error_number);
/* Makes the error for error_number by the table: "<context>: <what>: <text> (<name>)". text may be NULL. */
kb_code kb_kafka_fail(kb_error *err, int error_number, const char *text, const char *fmt, ...)
    KB_PRINTF(4, 5);

#endif
