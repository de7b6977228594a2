#include "worker/offsets/header_search.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "worker/kafka/kafka_range.h"

#define KB_HEADER_READ_MS 120000
#define KB_HEADER_SCAN_MS (24LL * 3600 * 1000)
#define KB_DECIMAL_MAX 20

/* ---- one record ---- */

/* 8 bytes are little-endian; anything else is tried as decimal text. */
static bool parse_offset(const kb_kafka_header *header, int64_t *ret_offset)
{
    if (header->value_len == 8) {
        kb_cursor cursor = kb_cursor_of(header->value, 8);
        *ret_offset = kb_cursor_i64(&cursor);
        return *ret_offset >= 0;
    }
    if (header->value_len <= 0 || header->value_len > KB_DECIMAL_MAX)
        return false;
    KB_AUTOFREE char *text = kb_strndup(header->value, (size_t)header->value_len);
    char *end = NULL;
    long long value = text[0] >= '0' && text[0] <= '9' ? strtoll(text, &end, 10) : -1;
    *ret_offset = value;
    return value >= 0 && *end == '\0';
}

static bool is_named(const kb_kafka_header *header, const char *name)
{
    return header->name_len == strlen(name) && memcmp(header->name, name, header->name_len) == 0;
}

kb_header_probe kb_header_probe_of(const kb_source_record *record, const char *cluster)
{
    kb_header_probe probe = {.found = true, .offset = record->offset};
    for (size_t i = 0; i < record->header_count; i++) {
        const kb_kafka_header *header = &record->headers[i];
        if (is_named(header, "x-original-offset"))
            probe.has_source = parse_offset(header, &probe.source_offset);
        else if (is_named(header, "x-source-partition") && header->value_len == 4) {
            kb_cursor cursor = kb_cursor_of(header->value, 4);
            probe.source_partition = kb_cursor_i32(&cursor);
            probe.has_partition = true;
        } else if (is_named(header, "x-source-cluster") && cluster != NULL && header->value_len >= 0)
            probe.is_other_cluster = (size_t)header->value_len != strlen(cluster) ||
                                     memcmp(header->value, cluster, strlen(cluster)) != 0;
    }
    return probe;
}

/* ---- the search ---- */

typedef struct search {
    const kb_header_query *query;
    int64_t low, high; /* the answer lies in [low, high] */
    int64_t best;      /* the record at which the last "above" was seen; the end: none */
    bool has_below, has_above;
    int64_t below, above; /* source offsets of the nearest records on both sides */
    int reads;
} search;

static kb_code contradiction(const kb_header_query *query, const kb_header_probe *probe, const char *what,
                             kb_error *err)
{
    return kb_fail(err, KB_SOURCE_OFFSETS_MISSING,
                   "%s/%" PRId32 ": the record at offset %" PRId64 " (x-original-offset %" PRId64
                   ") %s; hint: scan_all_partitions reads all records instead",
                   query->topic, query->partition, probe->offset, probe->source_offset, what);
}

static kb_code check_probe(const search *s, const kb_header_probe *probe, kb_error *err)
{
    if (probe->is_other_cluster)
        return contradiction(s->query, probe, "comes from another cluster than source_cluster", err);
    if (!probe->has_source)
        return KB_OK;
    if (probe->has_partition && probe->source_partition != s->query->partition)
        return contradiction(s->query, probe, "comes from another source partition", err);
    if (s->has_below && probe->source_offset <= s->below)
        return contradiction(s->query, probe, "is not above the one of an earlier record", err);
    if (s->has_above && probe->source_offset > s->above)
        return contradiction(s->query, probe, "is above the one of a later record", err);
    return KB_OK;
}

static kb_code step(search *s, kb_error *err)
{
    int64_t middle = s->low + (s->high - s->low) / 2;
    kb_header_probe probe = {0};
    if (s->query->read(s->query->ctx, middle, &probe, err) != KB_OK)
        return err->code;
    s->reads++;
    if (!probe.found || probe.offset >= s->query->end) {
        s->high = middle; /* nothing from here to the end */
        return KB_OK;
    }
    if (check_probe(s, &probe, err) != KB_OK)
        return err->code;
    if (!probe.has_source || probe.source_offset >= s->query->source_offset) {
        s->has_above = s->has_above || probe.has_source;
        if (probe.has_source)
            s->above = probe.source_offset;
        s->best = probe.offset;
        s->high = middle;
        return KB_OK;
    }
    s->has_below = true;
    s->below = probe.source_offset;
    s->low = probe.offset + 1;
    if (s->low > s->high)
        return contradiction(s->query, &probe, "is not above the one of an earlier record", err);
    return KB_OK;
}

kb_code kb_header_search(const kb_header_query *query, int64_t *ret_offset, int *ret_reads, kb_error *err)
{
    search s = {.query = query, .low = query->log_start, .high = query->end, .best = query->end};
    while (s.low < s.high) {
        if (s.reads >= KB_HEADER_READS_MAX)
            return kb_fail(err, KB_ERR_INTERNAL, "%s/%" PRId32 ": the search does not end", query->topic,
                           query->partition);
        if (step(&s, err) != KB_OK)
            return err->code;
    }
    *ret_offset = s.best;
    if (ret_reads != NULL)
        *ret_reads = s.reads;
    return KB_OK;
}

/* ---- reading ---- */

typedef struct first_record {
    const kb_header_live *live;
    kb_header_probe probe;
} first_record;

static bool take_first(void *ctx, const kb_source_record *record)
{
    first_record *first = ctx;
    first->probe = kb_header_probe_of(record, first->live->cluster);
    return false;
}

static kb_kafka_range range_of(const kb_header_live *live, int64_t from, int64_t limit_ms)
{
    return (kb_kafka_range){.topic = live->topic,
                            .partition = live->partition,
                            .from = from,
                            .to = live->end,
                            .deadline_ms = kb_clock_boot_ms() + limit_ms,
                            .stop = live->stop};
}

kb_code kb_header_read_live(void *ctx, int64_t from, kb_header_probe *ret_probe, kb_error *err)
{
    const kb_header_live *live = ctx;
    first_record first = {.live = live};
    kb_kafka_range range = range_of(live, from, KB_HEADER_READ_MS);
    if (kb_kafka_read_range(live->reader, &range, take_first, &first, NULL, err) != KB_OK)
        return err->code;
    *ret_probe = first.probe;
    return KB_OK;
}

typedef struct scan {
    const kb_header_live *live;
    kb_header_consumed consumed;
    void *ctx;
    int64_t found; /* -1: not yet */
} scan;

static bool take_scanned(void *ctx, const kb_source_record *record)
{
    scan *s = ctx;
    kb_header_probe probe = kb_header_probe_of(record, s->live->cluster);
    int32_t partition = probe.has_partition ? probe.source_partition : s->live->partition;
    bool is_consumed = probe.has_source && probe.source_offset < s->consumed(s->ctx, partition);
    if (!is_consumed)
        s->found = record->offset;
    return is_consumed;
}

kb_code kb_header_scan(const kb_header_live *live, int64_t from, kb_header_consumed consumed, void *ctx,
                       int64_t *ret_offset, kb_error *err)
{
    scan s = {live, consumed, ctx, -1};
    kb_kafka_range range = range_of(live, from, KB_HEADER_SCAN_MS);
    if (kb_kafka_read_range(live->reader, &range, take_scanned, &s, NULL, err) != KB_OK)
        return err->code;
    *ret_offset = s.found >= 0 ? s.found : live->end;
    return KB_OK;
}
