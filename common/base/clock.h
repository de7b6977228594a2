/*
 * clock - time: reading it, injecting it, and its two texts (RFC 3339 and the stamp of a name).
 *
 * Durations and deadlines are measured on the boot clock, which never jumps and counts suspended time; wall
 * time is only written down, never compared. Whoever waits or measures takes a kb_clock, so that tests supply
 * their own. Everything is UTC; the time zone of the process plays no part. Threads: all functions may be
 * called from any thread.
 */
#ifndef KB_COMMON_BASE_CLOCK_H
#define KB_COMMON_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

/* Milliseconds or microseconds since boot (CLOCK_BOOTTIME). */
int64_t kb_clock_boot_ms(void);
int64_t kb_clock_boot_us(void);
/* Milliseconds since 1970-01-01T00:00:00Z. */
int64_t kb_clock_wall_ms(void);

/* A clock to inject; ctx is handed to both functions. */
typedef struct kb_clock {
    int64_t (*now_boot_ms)(void *ctx);
    int64_t (*now_wall_ms)(void *ctx);
    void *ctx;
} kb_clock;

/* The clock of the machine. Static. */
const kb_clock *kb_clock_system(void);

static inline int64_t kb_clock_now_boot_ms(const kb_clock *clock)
{
    return clock->now_boot_ms(clock->ctx);
}

static inline int64_t kb_clock_now_wall_ms(const kb_clock *clock)
{
    return clock->now_wall_ms(clock->ctx);
}

/* The times that both texts can express: years 0000 to 9999. */
#define KB_TIME_MIN_MS (-62167219200000LL)
#define KB_TIME_MAX_MS 253402300799999LL

/* "2025-01-01T00:00:00.000Z" and its NUL. */
#define KB_RFC3339_SIZE 25
/* "20250101-000000" and its NUL. */
#define KB_STAMP_SIZE 16

/* Writes ms as RFC 3339 UTC with milliseconds; beyond KB_TIME_MIN_MS..KB_TIME_MAX_MS the nearer of the two.
 */
void kb_rfc3339_format(int64_t ms, char to[KB_RFC3339_SIZE]);
/*
 * Reads an RFC 3339 date-time: 'T' or 't', no or 1 to 9 digits of fraction (cut to ms), 'Z', 'z' or an offset
 * "+hh:mm". A leap second ":60" counts as the second after ":59". Fails with KB_ERR_FORMAT. Source: RFC
 * 3339, 5.6.
 */
kb_code kb_rfc3339_parse(const char *text, size_t len, int64_t *ret_ms, kb_error *err) KB_CHECK;

/* Writes "YYYYMMDD-HHMMSS" UTC; the milliseconds are cut, the range as in kb_rfc3339_format. */
void kb_stamp_format(int64_t ms, char to[KB_STAMP_SIZE]);
/* Reads exactly that form. Fails with KB_ERR_FORMAT. */
kb_code kb_stamp_parse(const char *text, size_t len, int64_t *ret_ms, kb_error *err) KB_CHECK;

#endif
