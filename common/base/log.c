#include "common/base/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/encode.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"

enum {
    MAX_CONSTANT_FIELDS = 8,
    MAX_VALUE_BYTES = 8192,
    MAX_LINE_BYTES = 256 * 1024,
    LIMIT_MS = 60000,
    MAX_LIMITED_LINES = 256, /* remembered at once; beyond, equal lines are no longer held back */
    STALL_MS = 1000          /* how long one line waits for a full pipe before lines are left out */
};

typedef struct constant_field {
    char *key;
    char *value;
} constant_field;

/* What is known of a limited line; the key in the map is its body. */
typedef struct limited_line {
    int64_t written_ms;
    int64_t held_count;
} limited_line;

static atomic_int current_level = KB_LOG_INFO;

/* All below is guarded by lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static kb_log_format current_format = KB_LOG_LOGFMT;
static int output_fd = STDERR_FILENO;
static const kb_clock *current_clock;
static constant_field constant_fields[MAX_CONSTANT_FIELDS];
static size_t constant_field_count;
static kb_map *limited_lines;
static bool is_stalled;
static int64_t dropped_count;

static const char *const level_names[] = {"error", "warn", "info", "debug", "trace"};

bool kb_log_is_enabled(kb_log_level level)
{
    return (int)level <= atomic_load_explicit(&current_level, memory_order_relaxed);
}

void kb_log_set_level(kb_log_level level)
{
    atomic_store(&current_level, (int)level);
}

static const kb_clock *clock_in_use(void)
{
    return current_clock != NULL ? current_clock : kb_clock_system();
}

static uint32_t code_point(const uint8_t *p, size_t size)
{
    switch (size) {
    case 1:
        return p[0];
    case 2:
        return (uint32_t)(p[0] & 0x1F) << 6 | (p[1] & 0x3F);
    case 3:
        return (uint32_t)(p[0] & 0x0F) << 12 | (uint32_t)(p[1] & 0x3F) << 6 | (p[2] & 0x3F);
    default:
        return (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3F) << 12 | (uint32_t)(p[2] & 0x3F) << 6 |
               (p[3] & 0x3F);
    }
}

/* Controls (C0, DEL, C1) and what reorders or breaks a line: direction marks, line and paragraph separator.
 */
static bool is_unsafe(uint32_t c)
{
    return c < 0x20 || (c >= 0x7F && c <= 0x9F) || c == 0x061C || (c >= 0x200E && c <= 0x200F) ||
           (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069) || c == 0xFEFF;
}

static void put_escaped_char(kb_strbuf *out, uint32_t c)
{
    if (c == '\n')
        kb_strbuf_appends(out, "\\n");
    else if (c == '\r')
        kb_strbuf_appends(out, "\\r");
    else if (c == '\t')
        kb_strbuf_appends(out, "\\t");
    else
        kb_strbuf_appendf(out, "\\u%04x", c);
}

/* The text in quotes; a form that is valid in JSON, and in logfmt but for the bytes that are no UTF-8. */
static void put_quoted(kb_strbuf *out, kb_log_format format, const char *text, size_t len)
{
    const uint8_t *p = (const uint8_t *)text;
    kb_strbuf_appendc(out, '"');
    while (len > 0) {
        size_t size = kb_utf8_step(p, len);
        if (size == 0) {
            if (format == KB_LOG_JSON)
                kb_strbuf_appends(out, "\\ufffd");
            else
                kb_strbuf_appendf(out, "\\x%02x", p[0]);
            size = 1;
        } else if (p[0] == '"' || p[0] == '\\') {
            kb_strbuf_appendc(out, '\\');
            kb_strbuf_append(out, p, 1);
        } else if (is_unsafe(code_point(p, size))) {
            put_escaped_char(out, code_point(p, size));
        } else {
            kb_strbuf_append(out, p, size);
        }
        p += size;
        len -= size;
    }
    kb_strbuf_appendc(out, '"');
}

static bool is_bare_word(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        uint8_t c = (uint8_t)text[i];
        if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c >= 0x7F)
            return false;
    }
    return len > 0;
}

static void put_key(kb_strbuf *out, kb_log_format format, const char *key)
{
    if (format == KB_LOG_JSON)
        kb_strbuf_appendf(out, "%s\"%s\":", out->len > 0 ? "," : "", key);
    else
        kb_strbuf_appendf(out, "%s%s=", out->len > 0 ? " " : "", key);
}

static void put_text(kb_strbuf *out, kb_log_format format, const char *key, const char *text, size_t len)
{
    bool is_cut = len > MAX_VALUE_BYTES;
    size_t kept = is_cut ? MAX_VALUE_BYTES : len;
    while (is_cut && kept > MAX_VALUE_BYTES - 4 && ((uint8_t)text[kept] & 0xC0) == 0x80)
        kept--; /* not inside a character */
    put_key(out, format, key);
    if (format == KB_LOG_LOGFMT && is_bare_word(text, kept))
        kb_strbuf_append(out, text, kept);
    else
        put_quoted(out, format, text, kept);
    if (is_cut) {
        put_key(out, format, "cut_bytes");
        kb_strbuf_appendf(out, "%zu", len - kept);
    }
}

static void put_number(kb_strbuf *out, kb_log_format format, const char *key, int64_t number)
{
    put_key(out, format, key);
    kb_strbuf_appendf(out, "%lld", (long long)number);
}

static void put_field(kb_strbuf *out, kb_log_format format, const kb_log_field *field)
{
    switch (field->kind) {
    case KB_LOG_KIND_STR:
        if (field->text != NULL)
            put_text(out, format, field->key, field->text, field->len);
        break;
    case KB_LOG_KIND_INT:
        put_number(out, format, field->key, field->number);
        break;
    case KB_LOG_KIND_BOOL:
        put_key(out, format, field->key);
        kb_strbuf_appends(out, field->number != 0 ? "true" : "false");
        break;
    case KB_LOG_KIND_END:
        break;
    }
}

/* Everything of a line but its time: what makes two lines equal. */
static void put_body(kb_strbuf *out, kb_log_level level, const char *msg, const kb_log_field *fields)
{
    kb_log_format format = current_format;
    const char *level_name = level_names[level];
    put_text(out, format, "level", level_name, strlen(level_name));
    put_text(out, format, "msg", msg, strlen(msg));
    for (size_t i = 0; i < constant_field_count; i++)
        put_text(out, format, constant_fields[i].key, constant_fields[i].value,
                 strlen(constant_fields[i].value));
    for (; fields->kind != KB_LOG_KIND_END; fields++)
        put_field(out, format, fields);
    if (out->failed) {
        kb_strbuf_clear(out);
        put_text(out, format, "level", level_name, strlen(level_name));
        put_text(out, format, "msg", msg, strlen(msg));
        put_text(out, format, "err", "line too long", strlen("line too long"));
    }
}

/*
 * Whether a line may be written: a reader that is gone must not end the process, and one that stands still
 * must not hold up the run.
 */
static bool can_write(void)
{
    struct pollfd target = {output_fd, POLLOUT, 0};
    int ready = poll(&target, 1, is_stalled ? 0 : STALL_MS);
    if (ready < 0)
        return errno == EINTR;
    is_stalled = ready == 0;
    return ready > 0 && (target.revents & (POLLERR | POLLNVAL)) == 0;
}

static void write_line(const kb_strbuf *line)
{
    if (!can_write()) {
        dropped_count++;
        return;
    }
    const char *at = line->data;
    size_t left = line->len;
    while (left > 0) {
        ssize_t written = write(output_fd, at, left);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return;
        at += written;
        left -= (size_t)written;
    }
}

static void emit(const char *body, size_t body_len, int64_t repeated)
{
    KB_AUTO_STRBUF(line, 2 * MAX_LINE_BYTES);
    char ts[KB_RFC3339_SIZE];
    kb_log_format format = current_format;
    kb_rfc3339_format(kb_clock_now_wall_ms(clock_in_use()), ts);
    kb_strbuf_appends(&line, format == KB_LOG_JSON ? "{\"ts\":\"" : "ts=");
    kb_strbuf_appends(&line, ts);
    kb_strbuf_appends(&line, format == KB_LOG_JSON ? "\"," : " ");
    kb_strbuf_append(&line, body, body_len);
    if (repeated > 0)
        put_number(&line, format, "repeated", repeated);
    if (dropped_count > 0)
        put_number(&line, format, "dropped_lines", dropped_count);
    kb_strbuf_appends(&line, format == KB_LOG_JSON ? "}\n" : "\n");
    int64_t dropped_before = dropped_count;
    write_line(&line);
    if (dropped_count == dropped_before)
        dropped_count = 0;
}

void kb_log_write(kb_log_level level, const char *msg, const kb_log_field *fields)
{
    int errno_before = errno;
    pthread_mutex_lock(&lock);
    KB_AUTO_STRBUF(body, MAX_LINE_BYTES);
    put_body(&body, level, msg, fields);
    emit(body.data, body.len, 0);
    pthread_mutex_unlock(&lock);
    errno = errno_before;
}

/* Forgets lines whose minute is over, after writing how often they came again. */
static void expire_limited(int64_t now_ms, bool all)
{
    if (limited_lines == NULL)
        return;
    kb_map_iter iter = KB_MAP_ITER_INIT;
    while (kb_map_next(limited_lines, &iter)) {
        const limited_line *line = iter.value;
        if (!all && now_ms - line->written_ms < LIMIT_MS)
            continue;
        if (line->held_count > 0)
            emit(iter.key, iter.key_len, line->held_count);
        (void)kb_map_remove(limited_lines, iter.key, iter.key_len);
    }
}

static void write_or_hold(const kb_strbuf *body)
{
    int64_t now_ms = kb_clock_now_boot_ms(clock_in_use());
    if (limited_lines == NULL)
        limited_lines = kb_map_new(free);
    limited_line *known = kb_map_get(limited_lines, body->data, body->len);
    if (known != NULL && now_ms - known->written_ms < LIMIT_MS) {
        known->held_count++;
        return;
    }
    emit(body->data, body->len, known != NULL ? known->held_count : 0);
    if (known != NULL) {
        *known = (limited_line){now_ms, 0};
        return;
    }
    if (kb_map_count(limited_lines) >= MAX_LIMITED_LINES)
        expire_limited(now_ms, false);
    if (kb_map_count(limited_lines) >= MAX_LIMITED_LINES)
        return;
    limited_line *added = kb_malloc(sizeof *added);
    *added = (limited_line){now_ms, 0};
    kb_map_put(limited_lines, body->data, body->len, added);
}

void kb_log_write_limited(kb_log_level level, const char *msg, const kb_log_field *fields)
{
    int errno_before = errno;
    pthread_mutex_lock(&lock);
    KB_AUTO_STRBUF(body, MAX_LINE_BYTES);
    put_body(&body, level, msg, fields);
    write_or_hold(&body);
    pthread_mutex_unlock(&lock);
    errno = errno_before;
}

void kb_log_flush(void)
{
    pthread_mutex_lock(&lock);
    expire_limited(0, true);
    kb_map_free_at(&limited_lines);
    pthread_mutex_unlock(&lock);
}

void kb_log_set_format(kb_log_format format)
{
    pthread_mutex_lock(&lock);
    expire_limited(0, true); /* their text is in the old format */
    current_format = format;
    pthread_mutex_unlock(&lock);
}

static void remove_constant_field(size_t at)
{
    free(constant_fields[at].key);
    free(constant_fields[at].value);
    constant_field_count--;
    for (size_t i = at; i < constant_field_count; i++)
        constant_fields[i] = constant_fields[i + 1];
}

void kb_log_set_field(const char *key, const char *value)
{
    pthread_mutex_lock(&lock);
    size_t at = 0;
    while (at < constant_field_count && strcmp(constant_fields[at].key, key) != 0)
        at++;
    if (at < constant_field_count && value == NULL) {
        remove_constant_field(at);
    } else if (at < constant_field_count) {
        free(constant_fields[at].value);
        constant_fields[at].value = kb_strdup(value);
    } else if (value != NULL && at < MAX_CONSTANT_FIELDS) {
        constant_fields[at] = (constant_field){kb_strdup(key), kb_strdup(value)};
        constant_field_count++;
    }
    pthread_mutex_unlock(&lock);
}

void kb_log_set_fd(int fd)
{
    pthread_mutex_lock(&lock);
    output_fd = fd;
    is_stalled = false;
    dropped_count = 0;
    pthread_mutex_unlock(&lock);
}

void kb_log_set_clock(const kb_clock *clock)
{
    pthread_mutex_lock(&lock);
    current_clock = clock;
    pthread_mutex_unlock(&lock);
}

bool kb_log_level_parse(const char *text, kb_log_level *ret_level)
{
    for (size_t i = 0; i < KB_ARRAY_LEN(level_names); i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *ret_level = (kb_log_level)i;
            return true;
        }
    }
    return false;
}

bool kb_log_format_parse(const char *text, kb_log_format *ret_format)
{
    if (strcmp(text, "json") == 0)
        *ret_format = KB_LOG_JSON;
    else if (strcmp(text, "logfmt") == 0 || strcmp(text, "text") == 0)
        *ret_format = KB_LOG_LOGFMT;
    else
        return false;
    return true;
}
