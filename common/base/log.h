/*
 * log - one line per event on stderr, logfmt or JSON.
 *
 *     kb_log(KB_LOG_INFO, "segment published", KB_STR("topic", name), KB_INT("partition", 3));
 *
 * Each line is one write(2): ts (RFC 3339 ms UTC), level, msg, the constant fields, then the given ones.
 * Strings are escaped: control bytes, quotes, invalid UTF-8, so a hostile name cannot forge a line or move a
 * terminal. A stderr that is closed or full is ignored. Secrets have no field type. Threads: any thread may
 * log; the set functions are called by main before other threads start.
 */
#ifndef KB_COMMON_BASE_LOG_H
#define KB_COMMON_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/error.h"

typedef enum kb_log_level {
    KB_LOG_ERROR,
    KB_LOG_WARN,
    KB_LOG_INFO, /* default */
    KB_LOG_DEBUG,
    KB_LOG_TRACE
} kb_log_level;

typedef enum kb_log_format { KB_LOG_LOGFMT, KB_LOG_JSON } kb_log_format;

typedef enum kb_log_kind { KB_LOG_KIND_END, KB_LOG_KIND_STR, KB_LOG_KIND_INT, KB_LOG_KIND_BOOL } kb_log_kind;

/* One field; everything is borrowed for the call. Make it with the macros below. */
typedef struct kb_log_field {
    kb_log_kind kind;
    const char *key; /* a literal of letters, digits, '_' */
    const char *text;
    size_t len;
    int64_t number;
} kb_log_field;

static inline kb_log_field kb_log_field_str(const char *key, const char *text, size_t len)
{
    return (kb_log_field){KB_LOG_KIND_STR, key, text, len, 0};
}

static inline kb_log_field kb_log_field_text(const char *key, const char *text)
{
    return kb_log_field_str(key, text, text != NULL ? strlen(text) : 0);
}

static inline kb_log_field kb_log_field_number(kb_log_kind kind, const char *key, int64_t number)
{
    return (kb_log_field){kind, key, NULL, 0, number};
}

/* A NUL-terminated string; NULL leaves the field out. */
#define KB_STR(key, value) kb_log_field_text((key), (value))
/* `len` bytes. */
#define KB_STRN(key, value, len) kb_log_field_str((key), (const char *)(value), (len))
#define KB_INT(key, value) kb_log_field_number(KB_LOG_KIND_INT, (key), (int64_t)(value))
#define KB_BOOL(key, value) kb_log_field_number(KB_LOG_KIND_BOOL, (key), (value) ? 1 : 0)
/* err="the text of a kb_error". */
#define KB_ERRTEXT(error) kb_log_field_text("err", kb_error_text(error))

#define KB_LOG_FIELDS(...) \
    (const kb_log_field[]) \
    { \
        __VA_ARGS__ __VA_OPT__(, ){KB_LOG_KIND_END, NULL, NULL, 0, 0} \
    }

/* Logs a line; the fields are evaluated only when the level is on. */
#define kb_log(level, msg, ...) \
    do { \
        if (kb_log_is_enabled(level)) \
            kb_log_write((level), (msg), KB_LOG_FIELDS(__VA_ARGS__)); \
    } while (0)
/*
 * The same for what may repeat: an equal line (level, msg and fields) is written at most once per minute, the
 * next one with repeated=<lines left out>.
 */
#define kb_log_limited(level, msg, ...) \
    do { \
        if (kb_log_is_enabled(level)) \
            kb_log_write_limited((level), (msg), KB_LOG_FIELDS(__VA_ARGS__)); \
    } while (0)

bool kb_log_is_enabled(kb_log_level level);
void kb_log_write(kb_log_level level, const char *msg, const kb_log_field *fields);
void kb_log_write_limited(kb_log_level level, const char *msg, const kb_log_field *fields);
/* Writes what kb_log_limited still holds back as lines with repeated=; at the end of main. */
void kb_log_flush(void);

void kb_log_set_level(kb_log_level level);
void kb_log_set_format(kb_log_format format);
/* Adds a field to every later line (command, job); at most 8, the same key replaces, NULL removes. Copies. */
void kb_log_set_field(const char *key, const char *value);
/* Where lines go (default 2) and whose time they bear; for tests. The clock is borrowed for ever. */
void kb_log_set_fd(int fd);
void kb_log_set_clock(const kb_clock *clock);

/* "error", "warn", "info", "debug", "trace"; false when it is none of them. */
bool kb_log_level_parse(const char *text, kb_log_level *ret_level) KB_CHECK;
/* "logfmt" (and "text"), "json". */
bool kb_log_format_parse(const char *text, kb_log_format *ret_format) KB_CHECK;

#endif
