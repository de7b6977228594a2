#include "operator/ctrl/tzfile.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/mem.h"

#define KB_HEADER_BYTES 44
#define KB_SECS_PER_DAY 86400
#define KB_YEAR_MIN 1970
#define KB_YEAR_MAX 9999

/* One end of daylight saving by the POSIX rule: Mm.w.d, Jn or n, at a time of day. */
typedef struct kb_rule_date {
    char form; /* 'M', 'J' or 'N' (day of the year from 0) */
    int month, week, day;
    int32_t secs;
} kb_rule_date;

typedef struct kb_posix_rule {
    bool is_set, has_dst;
    int32_t standard_offset, dst_offset; /* seconds ahead of UTC */
    kb_rule_date start, end;
} kb_posix_rule;

struct kb_tzfile {
    int64_t *times;   /* owned; ascending */
    int32_t *offsets; /* owned; from times[i] on */
    size_t count;
    int32_t first_offset; /* before times[0] */
    kb_posix_rule rule;   /* after the last */
};

/* ---- calendar ---- */

/* Days from 1970-01-01 to the first of a month (month 1 to 12). Source: the proleptic Gregorian calendar. */
static int64_t days_to(int64_t year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = y / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static int64_t year_of(int64_t unix_secs)
{
    int64_t year = KB_YEAR_MIN + unix_secs / (KB_SECS_PER_DAY * 365LL);
    while (year > KB_YEAR_MIN && days_to(year, 1, 1) * KB_SECS_PER_DAY > unix_secs)
        year--;
    while (year < KB_YEAR_MAX && days_to(year + 1, 1, 1) * KB_SECS_PER_DAY <= unix_secs)
        year++;
    return year;
}

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/* Local seconds since 1970 at which a rule's date lies in a year. */
static int64_t rule_moment(const kb_rule_date *date, int64_t year)
{
    if (date->form == 'J') {
        /* Counts without February 29. */
        int day = date->day - 1 + (is_leap(year) && date->day >= 60);
        return (days_to(year, 1, 1) + day) * KB_SECS_PER_DAY + date->secs;
    }
    if (date->form == 'N')
        return (days_to(year, 1, 1) + date->day) * KB_SECS_PER_DAY + date->secs;
    int64_t first = days_to(year, date->month, 1);
    int64_t next_month = date->month == 12 ? days_to(year + 1, 1, 1) : days_to(year, date->month + 1, 1);
    int first_weekday = (int)((first + 4) % 7);
    int64_t day = first + (date->day - first_weekday + 7) % 7 + (date->week - 1) * 7;
    while (day >= next_month)
        day -= 7;
    return day * KB_SECS_PER_DAY + date->secs;
}

/* ---- POSIX rule ---- */

typedef struct kb_text {
    const char *at, *end;
    bool failed;
} kb_text;

static char peek(const kb_text *text)
{
    return text->at < text->end ? *text->at : '\0';
}

static bool take(kb_text *text, char c)
{
    if (peek(text) != c)
        return false;
    text->at++;
    return true;
}

static int take_number(kb_text *text, int max)
{
    int number = 0;
    bool has_digit = false;
    while (peek(text) >= '0' && peek(text) <= '9' && number <= max) {
        number = number * 10 + (*text->at++ - '0');
        has_digit = true;
    }
    text->failed = text->failed || !has_digit || number > max;
    return number;
}

static void skip_name(kb_text *text)
{
    if (take(text, '<')) {
        while (text->at < text->end && *text->at != '>')
            text->at++;
        text->failed = text->failed || !take(text, '>');
        return;
    }
    const char *start = text->at;
    while ((peek(text) >= 'A' && peek(text) <= 'Z') || (peek(text) >= 'a' && peek(text) <= 'z'))
        text->at++;
    text->failed = text->failed || text->at - start < 3;
}

/* [+-]hh[:mm[:ss]] */
static int32_t take_time(kb_text *text)
{
    bool is_negative = take(text, '-');
    if (!is_negative)
        (void)!take(text, '+');
    int secs = take_number(text, 167) * 3600;
    if (take(text, ':'))
        secs += take_number(text, 59) * 60;
    if (take(text, ':'))
        secs += take_number(text, 59);
    return is_negative ? -secs : secs;
}

static void take_date(kb_text *text, kb_rule_date *date)
{
    text->failed = text->failed || !take(text, ',');
    date->secs = 2 * 3600;
    if (take(text, 'M')) {
        date->form = 'M';
        date->month = take_number(text, 12);
        text->failed = text->failed || !take(text, '.');
        date->week = take_number(text, 5);
        text->failed = text->failed || !take(text, '.');
        date->day = take_number(text, 6);
        text->failed = text->failed || date->month < 1 || date->week < 1;
    } else {
        date->form = take(text, 'J') ? 'J' : 'N';
        date->day = take_number(text, 365);
        text->failed = text->failed || (date->form == 'J' && date->day < 1);
    }
    if (take(text, '/'))
        date->secs = take_time(text);
}

/* RFC 8536, 3.3: the TZ string of POSIX, with its extension of hours to -167..167. */
static bool parse_rule(const char *at, const char *end, kb_posix_rule *rule)
{
    kb_text text = {at, end, false};
    if (at == end)
        return true;
    skip_name(&text);
    rule->is_set = true;
    rule->standard_offset = -take_time(&text);
    if (text.at < text.end) {
        rule->has_dst = true;
        skip_name(&text);
        rule->dst_offset = rule->standard_offset + 3600;
        if (peek(&text) != ',')
            rule->dst_offset = -take_time(&text);
        take_date(&text, &rule->start);
        take_date(&text, &rule->end);
    }
    return !text.failed && text.at == text.end;
}

/* The two changes of a year in UTC, the earlier one first, and the offset after each. */
static void rule_changes(const kb_posix_rule *rule, int64_t year, int64_t moments[2], int32_t offsets[2])
{
    int64_t start = rule_moment(&rule->start, year) - rule->standard_offset;
    int64_t end = rule_moment(&rule->end, year) - rule->dst_offset;
    bool is_start_first = start < end;
    moments[0] = is_start_first ? start : end;
    moments[1] = is_start_first ? end : start;
    offsets[0] = is_start_first ? rule->dst_offset : rule->standard_offset;
    offsets[1] = is_start_first ? rule->standard_offset : rule->dst_offset;
}

static int32_t rule_offset(const kb_posix_rule *rule, int64_t unix_secs)
{
    if (!rule->has_dst)
        return rule->standard_offset;
    int64_t moments[2];
    int32_t offsets[2];
    rule_changes(rule, year_of(unix_secs), moments, offsets);
    if (unix_secs < moments[0])
        return offsets[1];
    return unix_secs < moments[1] ? offsets[0] : offsets[1];
}

static int64_t rule_next_change(const kb_posix_rule *rule, int64_t unix_secs)
{
    if (!rule->has_dst)
        return INT64_MAX;
    int64_t year = year_of(unix_secs);
    for (int64_t y = year > KB_YEAR_MIN ? year - 1 : year; y <= year + 1; y++) {
        int64_t moments[2];
        int32_t offsets[2];
        rule_changes(rule, y, moments, offsets);
        for (int i = 0; i < 2; i++)
            if (moments[i] > unix_secs)
                return moments[i];
    }
    return INT64_MAX;
}

/* ---- file ---- */

static uint32_t be32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static int64_t be_time(const uint8_t *at, size_t size)
{
    if (size == 4)
        return (int32_t)be32(at);
    return (int64_t)((uint64_t)be32(at) << 32 | be32(at + 4));
}

typedef struct kb_tz_header {
    char version;
    size_t utc_count, std_count, leap_count, time_count, type_count, char_count;
} kb_tz_header;

static bool read_header(const uint8_t *data, size_t len, kb_tz_header *header)
{
    if (len < KB_HEADER_BYTES || memcmp(data, "TZif", 4) != 0)
        return false;
    header->version = (char)data[4];
    header->utc_count = be32(data + 20);
    header->std_count = be32(data + 24);
    header->leap_count = be32(data + 28);
    header->time_count = be32(data + 32);
    header->type_count = be32(data + 36);
    header->char_count = be32(data + 40);
    return header->time_count <= KB_TZFILE_MAX_BYTES && header->type_count >= 1 &&
           header->type_count <= 256 && header->char_count <= KB_TZFILE_MAX_BYTES &&
           header->leap_count <= KB_TZFILE_MAX_BYTES && header->utc_count <= 256 && header->std_count <= 256;
}

static size_t block_bytes(const kb_tz_header *h, size_t time_size)
{
    return h->time_count * (time_size + 1) + h->type_count * 6 + h->char_count +
           h->leap_count * (time_size + 4) + h->std_count + h->utc_count;
}

static bool read_block(const uint8_t *data, const kb_tz_header *h, size_t time_size, kb_tzfile *zone)
{
    const uint8_t *types = data + h->time_count * time_size;
    const uint8_t *infos = types + h->time_count;
    zone->first_offset = (int32_t)be32(infos);
    zone->times = kb_calloc(h->time_count + 1, sizeof *zone->times);
    zone->offsets = kb_calloc(h->time_count + 1, sizeof *zone->offsets);
    for (size_t i = 0; i < h->time_count; i++) {
        zone->times[i] = be_time(data + i * time_size, time_size);
        if (types[i] >= h->type_count || (i > 0 && zone->times[i] <= zone->times[i - 1]))
            return false;
        zone->offsets[i] = (int32_t)be32(infos + 6 * (size_t)types[i]);
        zone->count++;
    }
    return true;
}

static bool read_footer(const uint8_t *at, size_t len, kb_posix_rule *rule)
{
    const uint8_t *end = len > 1 && at[0] == '\n' ? memchr(at + 1, '\n', len - 1) : NULL;
    return end != NULL && parse_rule((const char *)at + 1, (const char *)end, rule);
}

static bool read_all(const uint8_t *data, size_t len, kb_tzfile *zone)
{
    kb_tz_header header;
    if (!read_header(data, len, &header))
        return false;
    size_t first = KB_HEADER_BYTES + block_bytes(&header, 4);
    if (len < first)
        return false;
    if (header.version == '\0')
        return read_block(data + KB_HEADER_BYTES, &header, 4, zone);
    data += first;
    len -= first;
    if (!read_header(data, len, &header) || len < KB_HEADER_BYTES + block_bytes(&header, 8))
        return false;
    size_t second = KB_HEADER_BYTES + block_bytes(&header, 8);
    return read_block(data + KB_HEADER_BYTES, &header, 8, zone) &&
           read_footer(data + second, len - second, &zone->rule);
}

kb_code kb_tzfile_parse(const void *data, size_t len, kb_tzfile **ret_zone, kb_error *err)
{
    kb_tzfile *zone = kb_calloc(1, sizeof *zone);
    if (!read_all(data, len, zone)) {
        kb_tzfile_free(zone);
        return kb_fail(err, KB_ERR_FORMAT, "not a time zone file");
    }
    *ret_zone = zone;
    return KB_OK;
}

static bool is_zone_name(const char *name)
{
    if (name[0] == '/' || strlen(name) > 64 || strstr(name, "..") != NULL)
        return false;
    for (const char *c = name; *c != '\0'; c++)
        if (!((*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') ||
              strchr("_+-/", *c) != NULL))
            return false;
    return true;
}

kb_code kb_tzfile_load(const char *name, const char *dir, kb_tzfile **ret_zone, kb_error *err)
{
    if (name == NULL || *name == '\0' || strcmp(name, "UTC") == 0 || strcmp(name, "Etc/UTC") == 0) {
        *ret_zone = kb_calloc(1, sizeof **ret_zone);
        return KB_OK;
    }
    if (!is_zone_name(name) || strcmp(name, "Local") == 0)
        return kb_fail(err, KB_ERR_NOT_FOUND, "'%s' is not a name of a time zone", name);
    KB_AUTOFREE char *path = kb_asprintf("%s/%s", dir != NULL ? dir : KB_TZFILE_DIR, name);
    KB_AUTOFREE uint8_t *data = NULL;
    size_t len = 0;
    KB_AUTO_ERROR(cause);
    if (kb_file_read(path, KB_TZFILE_MAX_BYTES, &data, &len, &cause) != KB_OK)
        return kb_fail(err, KB_ERR_NOT_FOUND, "there is no time zone '%s'", name);
    if (kb_tzfile_parse(data, len, ret_zone, err) != KB_OK)
        return kb_wrap_as(err, KB_ERR_NOT_FOUND, "there is no time zone '%s'", name);
    return KB_OK;
}

void kb_tzfile_free(kb_tzfile *owned_zone)
{
    if (owned_zone == NULL)
        return;
    free(owned_zone->times);
    free(owned_zone->offsets);
    free(owned_zone);
}

void kb_tzfile_free_at(kb_tzfile **at)
{
    kb_tzfile_free(*at);
    *at = NULL;
}

/* Number of transitions at or before a moment. */
static size_t transitions_until(const kb_tzfile *zone, int64_t unix_secs)
{
    size_t low = 0, high = zone->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (zone->times[middle] <= unix_secs)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int32_t kb_tzfile_offset(const kb_tzfile *zone, int64_t unix_secs)
{
    size_t done = transitions_until(zone, unix_secs);
    if (done == zone->count && zone->rule.is_set)
        return rule_offset(&zone->rule, unix_secs);
    return done == 0 ? zone->first_offset : zone->offsets[done - 1];
}

int64_t kb_tzfile_next_change(const kb_tzfile *zone, int64_t unix_secs)
{
    size_t done = transitions_until(zone, unix_secs);
    if (done < zone->count)
        return zone->times[done];
    return zone->rule.is_set ? rule_next_change(&zone->rule, unix_secs) : INT64_MAX;
}
