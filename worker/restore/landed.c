#include "worker/restore/landed.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "worker/restore/route.h"

void kb_landed_done(kb_landed *landed)
{
    free(landed->samples);
    *landed = (kb_landed){0};
}

void kb_landed_rewind(kb_landed *landed)
{
    landed->next_sample = 0;
}

static void add_bytes(kb_sha256_ctx *sha, const void *data, int32_t len)
{
    kb_sha256_update(sha, &len, sizeof len);
    if (len > 0)
        kb_sha256_update(sha, data, (size_t)len);
}

/* As the client library gives it back: cut at a NUL byte. */
static int32_t name_length(const kb_kafka_header *header)
{
    const void *nul = header->name_len > 0 ? memchr(header->name, 0, header->name_len) : NULL;
    return (int32_t)(nul != NULL ? (size_t)((const char *)nul - header->name) : header->name_len);
}

void kb_landed_hash(kb_sha256_ctx *sha, const kb_out_record *record, bool with_timestamp,
                    uint8_t to[KB_SHA256_SIZE])
{
    int64_t timestamp = with_timestamp ? record->timestamp : 0;
    uint64_t header_count = record->header_count;
    kb_sha256_reset(sha);
    kb_sha256_update(sha, &timestamp, sizeof timestamp);
    add_bytes(sha, record->key, record->key_len);
    add_bytes(sha, record->value, record->value_len);
    kb_sha256_update(sha, &header_count, sizeof header_count);
    for (size_t i = 0; i < record->header_count; i++) {
        add_bytes(sha, record->headers[i].name, name_length(&record->headers[i]));
        add_bytes(sha, record->headers[i].value, record->headers[i].value_len);
    }
    kb_sha256_final(sha, to);
}

/* ---- reading ---- */

typedef struct sampling {
    kb_landed *landed;
    kb_sha256_ctx *sha;
    int64_t start;
    bool only_one;
} sampling;

static bool take_sample(void *ctx, const kb_source_record *record)
{
    const sampling *s = ctx;
    kb_landed *landed = s->landed;
    kb_out_record out = {
        .timestamp = record->timestamp,
        .key = record->key,
        .key_len = record->key_len,
        .value = record->value,
        .value_len = record->value_len,
        .headers = record->headers,
        .header_count = record->header_count,
    };
    landed->samples =
        kb_grow(landed->samples, landed->sample_count, &landed->sample_capacity, sizeof *landed->samples);
    kb_landed_sample *sample = &landed->samples[landed->sample_count++];
    sample->index = record->offset - s->start;
    kb_landed_hash(s->sha, &out, landed->with_timestamps, sample->sha256);
    return !s->only_one;
}

kb_code kb_landed_read(kb_landed *landed, kb_kafka_reader *reader, const kb_landed_place *place,
                       kb_error *err)
{
    landed->count = place->end - place->start;
    landed->sample_count = 0;
    landed->next_sample = 0;
    if (place->end <= place->log_start)
        return KB_OK;
    KB_CLEANUP(kb_sha256_free_at) kb_sha256_ctx *sha = kb_sha256_new();
    sampling s = {landed, sha, place->start, true};
    kb_kafka_range range = {
        .topic = place->topic,
        .partition = place->partition,
        .from = place->log_start,
        .to = place->end,
        .deadline_ms = place->deadline_ms,
        .stop = place->stop,
    };
    if (kb_kafka_read_range(reader, &range, take_sample, &s, NULL, err) != KB_OK)
        return kb_wrap(err, "reading the first record of the target");
    int64_t first = landed->sample_count > 0 ? landed->samples[0].index + place->start + 1 : place->end;
    range.from = place->end - KB_LANDED_TAIL;
    range.from = range.from > first ? range.from : first;
    s.only_one = false;
    if (range.from < range.to && kb_kafka_read_range(reader, &range, take_sample, &s, NULL, err) != KB_OK)
        return kb_wrap(err, "reading the last records of the target");
    return KB_OK;
}

/* ---- comparing ---- */

int64_t kb_landed_next(const kb_landed *landed, int64_t from)
{
    for (size_t i = landed->next_sample; i < landed->sample_count; i++)
        if (landed->samples[i].index >= from)
            return landed->samples[i].index;
    return landed->count;
}

bool kb_landed_check(kb_landed *landed, kb_sha256_ctx *sha, int64_t index, const kb_out_record *record)
{
    while (landed->next_sample < landed->sample_count && landed->samples[landed->next_sample].index < index)
        landed->next_sample++;
    if (landed->next_sample >= landed->sample_count || landed->samples[landed->next_sample].index != index)
        return true;
    uint8_t hash[KB_SHA256_SIZE];
    kb_landed_hash(sha, record, landed->with_timestamps, hash);
    return memcmp(hash, landed->samples[landed->next_sample++].sha256, sizeof hash) == 0;
}

typedef struct comparison {
    kb_stream *stream;
    const kb_restore_unit *unit;
    kb_landed *landed;
    int64_t *next; /* index of the next record of each target */
    size_t open;   /* targets that are not through */
} comparison;

/* With one target, records that nobody looks at need not be decoded. */
static kb_code skip_ahead(comparison *c, kb_error *err)
{
    if (c->unit->route != KB_ROUTE_FIXED || c->unit->source_count != 1)
        return KB_OK;
    int64_t skipped;
    int64_t wanted = kb_landed_next(&c->landed[0], c->next[0]) - c->next[0];
    if (kb_stream_skip(c->stream, wanted, &skipped, err) != KB_OK)
        return err->code;
    c->next[0] += skipped;
    return KB_OK;
}

static bool is_through(const comparison *c, size_t target)
{
    return c->next[target] >= c->landed[target].count;
}

static kb_landed_result too_long(const comparison *c)
{
    size_t target = 0;
    while (is_through(c, target))
        target++;
    return (kb_landed_result){KB_LANDED_TOO_LONG, target, c->next[target]};
}

static kb_code run(comparison *c, kb_landed_result *result, kb_error *err)
{
    KB_CLEANUP(kb_sha256_free_at) kb_sha256_ctx *sha = kb_sha256_new();
    kb_route_state route = {0};
    while (c->open > 0) {
        if (skip_ahead(c, err) != KB_OK)
            return err->code;
        if (c->unit->target_count == 1 && is_through(c, 0))
            return KB_OK;
        kb_stream_record record;
        bool has;
        if (kb_stream_next(c->stream, &record, &has, err) != KB_OK)
            return err->code;
        if (!has) {
            *result = too_long(c);
            return KB_OK;
        }
        size_t target =
            kb_route_pick(c->unit->route, c->unit->target_count, record.out.key, record.out.key_len, &route);
        if (is_through(c, target))
            continue;
        int64_t index = c->next[target]++;
        if (!kb_landed_check(&c->landed[target], sha, index, &record.out)) {
            *result = (kb_landed_result){KB_LANDED_DIFFERENT, target, index};
            return KB_OK;
        }
        if (is_through(c, target))
            c->open--;
    }
    return KB_OK;
}

kb_code kb_landed_compare(kb_stream *stream, const kb_restore_unit *unit, kb_landed *landed,
                          kb_landed_result *ret_result, kb_error *err)
{
    KB_AUTOFREE int64_t *next = kb_calloc(unit->target_count, sizeof *next);
    comparison c = {stream, unit, landed, next, 0};
    for (size_t i = 0; i < unit->target_count; i++) {
        kb_landed_rewind(&landed[i]);
        c.open += landed[i].count > 0 ? 1 : 0;
    }
    kb_landed_result result = {KB_LANDED_PREFIX, 0, 0};
    if (run(&c, &result, err) != KB_OK)
        return err->code;
    *ret_result = result;
    return KB_OK;
}
