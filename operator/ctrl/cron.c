#include "operator/ctrl/cron.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

#define KB_SECS_PER_DAY 86400LL
#define KB_SECS_PER_MINUTE 60
#define KB_FIELD_COUNT 5

/* ---- reading ---- */

typedef struct kb_cron_field {
    const char *name;
    int min, max;
    const char *const *words; /* of the values from min on; NULL = none */
} kb_cron_field;

static const char *const months[] = {"jan", "feb", "mar", "apr", "may", "jun", "jul",
                                     "aug", "sep", "oct", "nov", "dec", NULL};
static const char *const weekdays[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL};
static const kb_cron_field fields[KB_FIELD_COUNT] = {
    {"minute", 0, 59, NULL},  {"hour", 0, 23, NULL},           {"day-of-month", 1, 31, NULL},
    {"month", 1, 12, months}, {"day-of-week", 0, 7, weekdays},
};

typedef struct kb_cron_reader {
    const char *text, *at;
    const kb_cron_field *field;
    kb_error *err;
} kb_cron_reader;

static kb_code refuse(const kb_cron_reader *r, const char *at, const char *what)
{
    return kb_fail(r->err, KB_CONFIG_INVALID, "%s %s (character %zu)", r->field->name, what,
                   (size_t)(at - r->text) + 1);
}

static bool is_end(char c)
{
    return c == '\0' || c == ' ' || c == '\t';
}

/* A number or a word; numbers are cut so that none overflows. */
static kb_code read_value(kb_cron_reader *r, int *ret_value)
{
    const char *start = r->at;
    for (int i = 0; r->field->words != NULL && r->field->words[i] != NULL; i++) {
        if (strncasecmp(start, r->field->words[i], 3) == 0) {
            r->at += 3;
            *ret_value = r->field->min + i;
            return KB_OK;
        }
    }
    int value = 0;
    while (*r->at >= '0' && *r->at <= '9' && value < 10000)
        value = value * 10 + (*r->at++ - '0');
    if (r->at == start)
        return refuse(r, start, "has no value");
    if (value >= r->field->min && value <= r->field->max) {
        *ret_value = value;
        return KB_OK;
    }
    return kb_fail(r->err, KB_CONFIG_INVALID, "%s %d is not %d to %d (character %zu)", r->field->name, value,
                   r->field->min, r->field->max, (size_t)(start - r->text) + 1);
}

static kb_code read_step(kb_cron_reader *r, int *ret_step)
{
    const char *start = ++r->at;
    int step = 0;
    while (*r->at >= '0' && *r->at <= '9' && step < 10000)
        step = step * 10 + (*r->at++ - '0');
    if (r->at == start || step == 0)
        return refuse(r, start, "step must be at least 1");
    *ret_step = step;
    return KB_OK;
}

/* One of the parts between commas. */
static kb_code read_part(kb_cron_reader *r, uint64_t *bits, bool *is_any)
{
    const char *start = r->at;
    int from = r->field->min, to = r->field->max, step = 1;
    if (*r->at == '*' || *r->at == '?') {
        r->at++;
        *is_any = true;
        if (to == 7)
            to = 6;
    } else {
        kb_code code = read_value(r, &from);
        if (code != KB_OK)
            return code;
        to = from;
        if (*r->at == '-') {
            r->at++;
            code = read_value(r, &to);
            if (code != KB_OK)
                return code;
        } else if (*r->at == '/') {
            to = r->field->max == 7 ? 6 : r->field->max; /* "5/10" is "5-59/10" */
        }
    }
    if (*r->at == '/') {
        kb_code code = read_step(r, &step);
        if (code != KB_OK)
            return code;
    }
    if (from > to)
        return refuse(r, start, "range ends before it begins");
    for (int value = from; value <= to; value += step)
        *bits |= 1ULL << value;
    return KB_OK;
}

static kb_code read_field(kb_cron_reader *r, uint64_t *ret_bits, bool *ret_any)
{
    uint64_t bits = 0;
    bool is_any = false;
    do {
        kb_code code = read_part(r, &bits, &is_any);
        if (code != KB_OK)
            return code;
    } while (*r->at == ',' && *r->at++ != '\0');
    if (!is_end(*r->at))
        return refuse(r, r->at, "cannot be read here");
    *ret_bits = bits;
    *ret_any = is_any;
    return KB_OK;
}

static const char *expand_word(const char *text)
{
    static const char *const words[][2] = {
        {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"},
        {"@weekly", "0 0 * * 0"}, {"@daily", "0 0 * * *"},    {"@midnight", "0 0 * * *"},
        {"@hourly", "0 * * * *"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(words); i++)
        if (strcmp(text, words[i][0]) == 0)
            return words[i][1];
    return NULL;
}

static kb_code read_fields(const char *text, uint64_t bits[KB_FIELD_COUNT], bool any[KB_FIELD_COUNT],
                           kb_error *err)
{
    kb_cron_reader reader = {text, text, fields, err};
    for (int i = 0; i < KB_FIELD_COUNT; i++) {
        while (*reader.at == ' ' || *reader.at == '\t')
            reader.at++;
        if (*reader.at == '\0')
            return kb_fail(err, KB_CONFIG_INVALID, "must have 5 fields, has %d (character %zu)", i,
                           (size_t)(reader.at - text) + 1);
        reader.field = &fields[i];
        kb_code code = read_field(&reader, &bits[i], &any[i]);
        if (code != KB_OK)
            return code;
    }
    while (*reader.at == ' ' || *reader.at == '\t')
        reader.at++;
    if (*reader.at != '\0')
        return kb_fail(err, KB_CONFIG_INVALID, "must have 5 fields, has more (character %zu)",
                       (size_t)(reader.at - text) + 1);
    return KB_OK;
}

kb_code kb_cron_parse(const char *text, kb_cron *ret_cron, kb_error *err)
{
    const char *expression = text;
    if (text[0] == '@') {
        expression = expand_word(text);
        if (expression == NULL)
            return kb_fail(
                err, KB_CONFIG_INVALID,
                "'%.32s' is not @yearly, @annually, @monthly, @weekly, @daily, @midnight or @hourly "
                "(character 1)",
                text);
    }
    uint64_t bits[KB_FIELD_COUNT] = {0};
    bool any[KB_FIELD_COUNT] = {false};
    kb_code code = read_fields(expression, bits, any, err);
    if (code != KB_OK)
        return code;
    kb_cron cron = {
        .minutes = bits[0],
        .hours = (uint32_t)bits[1],
        .days = (uint32_t)bits[2],
        .months = (uint32_t)bits[3],
        .weekdays = (uint32_t)((bits[4] & 0x7f) | (bits[4] >> 7 & 1)), /* 7 is Sunday, too */
        .any_day = any[2],
        .any_weekday = any[4],
    };
    KB_CLEANUP(kb_tzfile_free_at) kb_tzfile *utc = NULL;
    code = kb_tzfile_load(NULL, NULL, &utc, err);
    if (code != KB_OK)
        return code;
    if (kb_cron_next(&cron, utc, 0) < 0)
        return kb_fail(err, KB_CONFIG_INVALID, "no date matches day-of-month and month (character 1)");
    *ret_cron = cron;
    return KB_OK;
}

void kb_cron_split_zone(const char *text, char **ret_zone, const char **ret_rest)
{
    *ret_zone = NULL;
    *ret_rest = text;
    const char *zone = NULL;
    if (strncmp(text, "CRON_TZ=", 8) == 0)
        zone = text + 8;
    else if (strncmp(text, "TZ=", 3) == 0)
        zone = text + 3;
    if (zone == NULL)
        return;
    size_t len = strcspn(zone, " ");
    *ret_zone = kb_strndup(zone, len);
    *ret_rest = zone + len + strspn(zone + len, " ");
}

/* ---- slots ---- */

typedef struct kb_civil {
    int64_t year;
    int month, day, weekday;
} kb_civil;

/* The date of a day counted from 1970-01-01. Source: the proleptic Gregorian calendar. */
static kb_civil civil_of(int64_t days)
{
    int64_t z = days + 719468;
    int64_t era = z / 146097;
    int64_t day_of_era = z - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted_month = (5 * day_of_year + 2) / 153;
    kb_civil civil = {
        .year = year_of_era + era * 400 + (shifted_month >= 10),
        .month = (int)(shifted_month < 10 ? shifted_month + 3 : shifted_month - 9),
        .day = (int)(day_of_year - (153 * shifted_month + 2) / 5 + 1),
        .weekday = (int)((days + 4) % 7),
    };
    return civil;
}

static bool has_bit(uint64_t bits, int value)
{
    return (bits >> value & 1) != 0;
}

static bool matches_day(const kb_cron *cron, int64_t days)
{
    kb_civil civil = civil_of(days);
    if (!has_bit(cron->months, civil.month))
        return false;
    bool day = has_bit(cron->days, civil.day), weekday = has_bit(cron->weekdays, civil.weekday);
    return cron->any_day || cron->any_weekday ? day && weekday : day || weekday;
}

/* First local minute in [from, until) that matches, -1 without one; both in seconds of local time. */
static int64_t first_local(const kb_cron *cron, int64_t from, int64_t until)
{
    for (int64_t days = from / KB_SECS_PER_DAY; days * KB_SECS_PER_DAY < until; days++) {
        if (!matches_day(cron, days))
            continue;
        int64_t start = days * KB_SECS_PER_DAY;
        int64_t at = from > start ? from : start;
        for (; at < start + KB_SECS_PER_DAY && at < until; at += KB_SECS_PER_MINUTE) {
            int minute_of_day = (int)((at - start) / KB_SECS_PER_MINUTE);
            if (has_bit(cron->hours, minute_of_day / 60) && has_bit(cron->minutes, minute_of_day % 60))
                return at;
        }
    }
    return -1;
}

/* First slot in [from, until), -1 without one; from is a whole minute. */
static int64_t first_slot(const kb_cron *cron, const kb_tzfile *zone, int64_t from, int64_t until)
{
    while (from < until) {
        int64_t change = kb_tzfile_next_change(zone, from);
        int64_t end = change < until ? change : until;
        int32_t offset = kb_tzfile_offset(zone, from);
        int64_t local = first_local(cron, from + offset, end + offset);
        if (local >= 0)
            return local - offset;
        from = (end + KB_SECS_PER_MINUTE - 1) / KB_SECS_PER_MINUTE * KB_SECS_PER_MINUTE;
    }
    return -1;
}

int64_t kb_cron_next(const kb_cron *cron, const kb_tzfile *zone, int64_t after_secs)
{
    int64_t from = (after_secs / KB_SECS_PER_MINUTE + 1) * KB_SECS_PER_MINUTE;
    return first_slot(cron, zone, from, from + KB_CRON_HORIZON_SECS);
}

int64_t kb_cron_previous(const kb_cron *cron, const kb_tzfile *zone, int64_t at_secs)
{
    int64_t until = (at_secs / KB_SECS_PER_MINUTE + 1) * KB_SECS_PER_MINUTE;
    int64_t oldest = until - KB_CRON_HORIZON_SECS;
    for (; until > oldest && until >= KB_SECS_PER_DAY; until -= KB_SECS_PER_DAY) {
        int64_t last = -1;
        for (int64_t slot, from = until - KB_SECS_PER_DAY; (slot = first_slot(cron, zone, from, until)) >= 0;
             from = slot + KB_SECS_PER_MINUTE)
            last = slot;
        if (last >= 0)
            return last;
    }
    return -1;
}

int64_t kb_cron_longest_interval(const kb_cron *cron, const kb_tzfile *zone, int64_t after_secs)
{
    int64_t longest = 0;
    int64_t slot = kb_cron_next(cron, zone, after_secs);
    for (int i = 1; i < KB_CRON_INTERVAL_SLOTS && slot >= 0; i++) {
        int64_t next = kb_cron_next(cron, zone, slot);
        if (next >= 0 && next - slot > longest)
            longest = next - slot;
        slot = next;
    }
    return longest;
}
