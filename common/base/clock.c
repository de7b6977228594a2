#include "common/base/clock.h"

#include <stdbool.h>
#include <string.h>
#include <time.h>

static int64_t read_us(clockid_t id)
{
    struct timespec at = {0, 0};
    (void)clock_gettime(id, &at);
    return (int64_t)at.tv_sec * 1000000 + at.tv_nsec / 1000;
}

int64_t kb_clock_boot_us(void)
{
    return read_us(CLOCK_BOOTTIME);
}

int64_t kb_clock_boot_ms(void)
{
    return kb_clock_boot_us() / 1000;
}

int64_t kb_clock_wall_ms(void)
{
    return read_us(CLOCK_REALTIME) / 1000;
}

static int64_t system_boot_ms(void *ctx)
{
    (void)ctx;
    return kb_clock_boot_ms();
}

static int64_t system_wall_ms(void *ctx)
{
    (void)ctx;
    return kb_clock_wall_ms();
}

const kb_clock *kb_clock_system(void)
{
    static const kb_clock clock = {system_boot_ms, system_wall_ms, NULL};
    return &clock;
}

typedef struct civil {
    int year, month, day, hour, minute, second, ms;
} civil;

enum { DAYS_PER_ERA = 146097, DAYS_BEFORE_1970 = 719468 };

/*
 * Proleptic Gregorian calendar in eras of 400 years that begin on 1 March, so that the leap day is the last
 * day of a year and month lengths follow one formula.
 */
static int64_t days_of(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * DAYS_PER_ERA + day_of_era - DAYS_BEFORE_1970;
}

static civil civil_of(int64_t ms)
{
    if (ms < KB_TIME_MIN_MS)
        ms = KB_TIME_MIN_MS;
    if (ms > KB_TIME_MAX_MS)
        ms = KB_TIME_MAX_MS;
    int64_t days = ms / 86400000;
    int64_t rest = ms % 86400000;
    if (rest < 0) {
        rest += 86400000;
        days--;
    }
    int64_t z = days + DAYS_BEFORE_1970;
    int64_t era = (z >= 0 ? z : z - (DAYS_PER_ERA - 1)) / DAYS_PER_ERA;
    int64_t day_of_era = z - era * DAYS_PER_ERA;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted = (5 * day_of_year + 2) / 153;
    int month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
    return (civil){
        .year = (int)(year_of_era + era * 400) + (month <= 2 ? 1 : 0),
        .month = month,
        .day = (int)(day_of_year - (153 * shifted + 2) / 5) + 1,
        .hour = (int)(rest / 3600000),
        .minute = (int)(rest / 60000 % 60),
        .second = (int)(rest / 1000 % 60),
        .ms = (int)(rest % 1000),
    };
}

static char *put_digits(char *to, int value, int digits)
{
    for (int i = digits - 1; i >= 0; i--) {
        to[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return to + digits;
}

static char *put_digits_then(char *to, int value, int digits, char end)
{
    to = put_digits(to, value, digits);
    *to = end;
    return to + 1;
}

void kb_rfc3339_format(int64_t ms, char to[KB_RFC3339_SIZE])
{
    civil c = civil_of(ms);
    to = put_digits_then(to, c.year, 4, '-');
    to = put_digits_then(to, c.month, 2, '-');
    to = put_digits_then(to, c.day, 2, 'T');
    to = put_digits_then(to, c.hour, 2, ':');
    to = put_digits_then(to, c.minute, 2, ':');
    to = put_digits_then(to, c.second, 2, '.');
    to = put_digits_then(to, c.ms, 3, 'Z');
    *to = '\0';
}

void kb_stamp_format(int64_t ms, char to[KB_STAMP_SIZE])
{
    civil c = civil_of(ms);
    to = put_digits(to, c.year, 4);
    to = put_digits(to, c.month, 2);
    to = put_digits_then(to, c.day, 2, '-');
    to = put_digits(to, c.hour, 2);
    to = put_digits(to, c.minute, 2);
    to = put_digits(to, c.second, 2);
    *to = '\0';
}

/* Reads a text from the left; a mismatch makes it bad and it stays so. */
typedef struct scan {
    const char *at;
    const char *end;
    bool bad;
} scan;

static int scan_digits(scan *s, int digits)
{
    int value = 0;
    if (s->bad || s->end - s->at < digits) {
        s->bad = true;
        return 0;
    }
    for (int i = 0; i < digits; i++) {
        char c = *s->at++;
        if (c < '0' || c > '9')
            s->bad = true;
        value = value * 10 + (c - '0');
    }
    return s->bad ? 0 : value;
}

/* Takes the next character when it is one of the two; c2 may equal c1. */
static bool scan_is(scan *s, char c1, char c2)
{
    if (s->bad || s->at == s->end || (*s->at != c1 && *s->at != c2))
        return false;
    s->at++;
    return true;
}

static void scan_need(scan *s, char c1, char c2)
{
    if (!scan_is(s, c1, c2))
        s->bad = true;
}

static int scan_fraction_ms(scan *s)
{
    int ms = 0;
    int digits = 0;
    while (!s->bad && s->at < s->end && *s->at >= '0' && *s->at <= '9') {
        if (digits < 3)
            ms = ms * 10 + (*s->at - '0');
        digits++;
        s->at++;
    }
    if (digits == 0 || digits > 9)
        s->bad = true;
    for (; digits < 3; digits++)
        ms *= 10;
    return ms;
}

/* Minutes to subtract to come to UTC. */
static int scan_offset_minutes(scan *s)
{
    if (scan_is(s, 'Z', 'z'))
        return 0;
    bool behind = scan_is(s, '-', '-');
    if (!behind)
        scan_need(s, '+', '+');
    int hours = scan_digits(s, 2);
    scan_need(s, ':', ':');
    int minutes = scan_digits(s, 2);
    if (hours > 23 || minutes > 59)
        s->bad = true;
    return (behind ? -1 : 1) * (hours * 60 + minutes);
}

static bool is_civil(const civil *c)
{
    static const int month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (c->month < 1 || c->month > 12 || c->day < 1)
        return false;
    bool leap = c->year % 4 == 0 && (c->year % 100 != 0 || c->year % 400 == 0);
    int days = month_days[c->month - 1] + (c->month == 2 && leap ? 1 : 0);
    return c->day <= days && c->hour <= 23 && c->minute <= 59 && c->second <= 60;
}

static int64_t ms_of(const civil *c)
{
    int64_t minutes = (days_of(c->year, c->month, c->day) * 24 + c->hour) * 60 + c->minute;
    return (minutes * 60 + c->second) * 1000 + c->ms;
}

/* Text from outside that goes into an error: short enough to be read. */
static int shown(size_t len)
{
    return len < 64 ? (int)len : 64;
}

kb_code kb_rfc3339_parse(const char *text, size_t len, int64_t *ret_ms, kb_error *err)
{
    scan s = {text, text + len, false};
    civil c = {0};
    c.year = scan_digits(&s, 4);
    scan_need(&s, '-', '-');
    c.month = scan_digits(&s, 2);
    scan_need(&s, '-', '-');
    c.day = scan_digits(&s, 2);
    scan_need(&s, 'T', 't');
    c.hour = scan_digits(&s, 2);
    scan_need(&s, ':', ':');
    c.minute = scan_digits(&s, 2);
    scan_need(&s, ':', ':');
    c.second = scan_digits(&s, 2);
    if (scan_is(&s, '.', '.'))
        c.ms = scan_fraction_ms(&s);
    int offset_minutes = scan_offset_minutes(&s);
    if (s.bad || s.at != s.end || !is_civil(&c))
        return kb_fail(err, KB_ERR_FORMAT,
                       "'%.*s' is no RFC 3339 time; hint: write it as 2025-01-31T23:59:59Z", shown(len),
                       text);
    *ret_ms = ms_of(&c) - (int64_t)offset_minutes * 60000;
    return KB_OK;
}

kb_code kb_stamp_parse(const char *text, size_t len, int64_t *ret_ms, kb_error *err)
{
    scan s = {text, text + len, false};
    civil c = {0};
    c.year = scan_digits(&s, 4);
    c.month = scan_digits(&s, 2);
    c.day = scan_digits(&s, 2);
    scan_need(&s, '-', '-');
    c.hour = scan_digits(&s, 2);
    c.minute = scan_digits(&s, 2);
    c.second = scan_digits(&s, 2);
    if (s.bad || s.at != s.end || !is_civil(&c) || c.second > 59)
        return kb_fail(err, KB_ERR_FORMAT, "'%.*s' is no stamp of the form YYYYMMDD-HHMMSS", shown(len),
                       text);
    *ret_ms = ms_of(&c);
    return KB_OK;
}
