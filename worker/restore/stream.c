#include "worker/restore/stream.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "worker/restore/source_reader.h"

#define KB_STREAM_HELD_MIN ((uint64_t)1 << 20)
#define KB_STREAM_RANGE_MIN ((uint64_t)256 << 10)

/* One source with its head. */
typedef struct lane {
    const kb_restore_source *source;
    kb_source_reader *reader;
    kb_parcel *parcel; /* NULL: the next one has to be read */
    kb_cursor cursor;
    bool all; /* every record of the parcel is wanted */
    kb_own_block_mode own_block;
    kb_record_view head;
} lane;

struct kb_stream {
    kb_stream_options options;
    lane *lanes; /* in the order of the merge's tie-break */
    size_t lane_count;
    size_t *heap; /* lanes that have a head; the first goes next */
    size_t heap_count;
    bool is_started;
    lane *used; /* its head was handed out */
    kb_kafka_header *headers;
    size_t header_capacity;
    kb_restore_headers added;
};

/* ---- making ---- */

static uint64_t at_least(uint64_t value, uint64_t least)
{
    return value > least ? value : least;
}

static uint64_t at_most(uint64_t value, uint64_t most)
{
    return value < most ? value : most;
}

kb_stream *kb_stream_new(const kb_stream_options *options)
{
    kb_stream *stream = kb_calloc(1, sizeof *stream);
    size_t count = options->unit->source_count;
    stream->options = *options;
    stream->lane_count = count;
    stream->lanes = kb_calloc(count > 0 ? count : 1, sizeof *stream->lanes);
    stream->heap = kb_calloc(count > 0 ? count : 1, sizeof *stream->heap);
    uint64_t share = options->memory_bytes / (count > 0 ? count : 1);
    kb_source_reader_options reader = {
        .storage = options->storage,
        .plan = options->plan,
        .held_bytes = (size_t)at_most(at_least(share, KB_STREAM_HELD_MIN), KB_READER_HELD_BYTES),
        .range_bytes = (size_t)at_most(at_least(share / 4, KB_STREAM_RANGE_MIN), KB_READER_RANGE_BYTES),
        .max_area_bytes = options->max_area_bytes,
    };
    for (size_t i = 0; i < count; i++) {
        reader.source = options->unit->sources[i];
        stream->lanes[i].source = &options->plan->sources[reader.source];
        stream->lanes[i].reader = kb_source_reader_new(&reader);
    }
    return stream;
}

void kb_stream_free(kb_stream *owned_stream)
{
    if (owned_stream == NULL)
        return;
    for (size_t i = 0; i < owned_stream->lane_count; i++) {
        if (owned_stream->lanes[i].parcel != NULL)
            kb_parcel_finish(owned_stream->lanes[i].parcel);
        kb_source_reader_free(owned_stream->lanes[i].reader);
    }
    free(owned_stream->lanes);
    free(owned_stream->heap);
    free(owned_stream->headers);
    free(owned_stream);
}

void kb_stream_free_at(kb_stream **at)
{
    kb_stream_free(*at);
}

/* ---- one source ---- */

static kb_code take_parcel(kb_stream *stream, kb_parcel **ret_parcel, kb_error *err)
{
    while ((*ret_parcel = kb_parcels_take(stream->options.parcels, stream->options.take_timeout_ms)) == NULL)
        if (stream->options.on_full(stream->options.ctx, err) != KB_OK)
            return err->code;
    return KB_OK;
}

/* The next parcel of a lane; *ret_has is false at the end of the source. */
static kb_code load(kb_stream *stream, lane *l, bool *ret_has, kb_error *err)
{
    kb_parcel *parcel;
    if (take_parcel(stream, &parcel, err) != KB_OK)
        return err->code;
    parcel->area.bounds = (kb_area_bounds){0};
    kb_code code = kb_source_reader_next(l->reader, parcel, ret_has, &l->all, err);
    if (code != KB_OK || !*ret_has) {
        parcel->area.bounds = (kb_area_bounds){0}; /* no record of it was held */
        kb_parcel_finish(parcel);
        return code;
    }
    kb_parcel_hold(parcel);
    l->parcel = parcel;
    l->cursor = kb_area_cursor(&parcel->area);
    l->own_block = kb_source_reader_own_block(l->reader);
    return KB_OK;
}

/* Moves to the next wanted record of the present parcel; false when it has none. */
static kb_code next_in_parcel(lane *l, bool *ret_has, kb_error *err)
{
    while (l->cursor.left > 0) {
        if (kb_record_decode(&l->cursor, &l->head, err) != KB_OK)
            return err->code; /* the reader has decoded it before */
        if (l->all || kb_source_reader_wants(l->reader, &l->head)) {
            *ret_has = true;
            return KB_OK;
        }
    }
    *ret_has = false;
    return KB_OK;
}

static kb_code advance(kb_stream *stream, lane *l, bool *ret_has, kb_error *err)
{
    while (true) {
        if (l->parcel != NULL) {
            if (next_in_parcel(l, ret_has, err) != KB_OK)
                return err->code;
            if (*ret_has)
                return KB_OK;
            kb_parcel_finish(KB_TAKE(l->parcel));
        }
        if (load(stream, l, ret_has, err) != KB_OK)
            return err->code;
        if (!*ret_has)
            return KB_OK;
    }
}

/* ---- merging ---- */

static bool goes_before(const kb_stream *stream, size_t a, size_t b)
{
    const kb_record_view *x = &stream->lanes[a].head;
    const kb_record_view *y = &stream->lanes[b].head;
    return x->timestamp != y->timestamp ? x->timestamp < y->timestamp : a < b;
}

static void sift_down(kb_stream *stream, size_t at)
{
    while (true) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < stream->heap_count; child++)
            if (goes_before(stream, stream->heap[child], stream->heap[least]))
                least = child;
        if (least == at)
            return;
        size_t swap = stream->heap[at];
        stream->heap[at] = stream->heap[least];
        stream->heap[least] = swap;
        at = least;
    }
}

/* Reads the head of every source. */
static kb_code start(kb_stream *stream, kb_error *err)
{
    stream->is_started = true;
    for (size_t i = 0; i < stream->lane_count; i++) {
        bool has;
        if (advance(stream, &stream->lanes[i], &has, err) != KB_OK)
            return err->code;
        if (has)
            stream->heap[stream->heap_count++] = i;
    }
    for (size_t i = stream->heap_count / 2; i-- > 0;)
        sift_down(stream, i);
    return KB_OK;
}

/* Replaces the head that was handed out. */
static kb_code refill(kb_stream *stream, kb_error *err)
{
    bool has;
    if (advance(stream, stream->used, &has, err) != KB_OK)
        return err->code;
    stream->used = NULL;
    if (!has)
        stream->heap[0] = stream->heap[--stream->heap_count];
    if (stream->heap_count > 1)
        sift_down(stream, 0);
    return KB_OK;
}

/* ---- records ---- */

static void reserve_headers(kb_stream *stream, size_t count)
{
    if (count <= stream->header_capacity)
        return;
    stream->headers = kb_realloc(stream->headers, count, sizeof *stream->headers);
    stream->header_capacity = count;
}

static void set_headers(kb_stream *stream, const lane *l, kb_out_record *out)
{
    const kb_record_view *head = &l->head;
    bool adds = stream->options.plan->add_restore_headers;
    size_t count = head->header_count + (adds ? KB_RESTORE_HEADER_COUNT : 0);
    out->header_count = count;
    out->headers = NULL;
    if (count == 0)
        return;
    reserve_headers(stream, count);
    kb_header_iter iter = kb_record_headers(head);
    kb_header_view header;
    size_t n = 0;
    while (kb_header_next(&iter, &header))
        stream->headers[n++] =
            (kb_kafka_header){header.name, header.name_len, header.value, header.value_len};
    if (adds) {
        kb_restore_headers_init(&stream->added, head->offset, head->timestamp,
                                l->source->partition->partition);
        for (size_t i = 0; i < KB_RESTORE_HEADER_COUNT; i++) {
            const kb_header_in *from = &stream->added.header[i];
            stream->headers[n++] =
                (kb_kafka_header){from->name, from->name_len, from->value, from->value_len};
        }
    }
    out->headers = stream->headers;
}

static kb_code set_time(const kb_stream *stream, const lane *l, kb_stream_record *record, kb_error *err)
{
    record->out.timestamp = l->head.timestamp;
    record->time_changed = false;
    if (l->head.timestamp != 0)
        return KB_OK;
    if (!stream->options.ignore_timestamps && !stream->options.plan->zero_becomes_one)
        return kb_fail(err, KB_TIMESTAMP_ZERO,
                       "%s/%" PRId32 ": the record at offset %" PRId64
                       " has timestamp 0, which the client library would replace by the present time; hint: "
                       "set restore.timestamp_zero: one to write 1 instead",
                       l->source->topic->name, l->source->partition->partition, l->head.offset);
    record->out.timestamp = 1;
    record->time_changed = !stream->options.ignore_timestamps;
    return KB_OK;
}

static kb_code make_record(kb_stream *stream, lane *l, kb_stream_record *record, kb_error *err)
{
    kb_record_view *head = &l->head;
    if (set_time(stream, l, record, err) != KB_OK)
        return err->code;
    if (stream->options.plan->strip_own_block && head->header_count > 0)
        kb_own_block_strip(head, l->own_block);
    record->out.key = head->key;
    record->out.key_len = head->key_len;
    record->out.value = head->value;
    record->out.value_len = head->value_len;
    set_headers(stream, l, &record->out);
    record->parcel = l->parcel;
    record->payload_bytes =
        (int64_t)(head->key_len > 0 ? head->key_len : 0) + (head->value_len > 0 ? head->value_len : 0);
    record->area_bytes = (int64_t)head->raw_len + KB_RECORD_LEN_BYTES;
    record->source_offset = head->offset;
    record->source = l->source;
    return KB_OK;
}

kb_code kb_stream_next(kb_stream *stream, kb_stream_record *ret_record, bool *ret_has, kb_error *err)
{
    if (!stream->is_started && start(stream, err) != KB_OK)
        return err->code;
    if (stream->used != NULL && refill(stream, err) != KB_OK)
        return err->code;
    *ret_has = stream->heap_count > 0;
    if (!*ret_has)
        return KB_OK;
    stream->used = &stream->lanes[stream->heap[0]];
    return make_record(stream, stream->used, ret_record, err);
}

kb_code kb_stream_skip(kb_stream *stream, int64_t count, int64_t *ret_skipped, kb_error *err)
{
    *ret_skipped = 0;
    if (stream->lane_count != 1 || count <= 0)
        return KB_OK;
    lane *l = &stream->lanes[0];
    /* Only between parcels: what is left of the present one goes record by record. */
    if (l->parcel != NULL && l->cursor.left > 0)
        return KB_OK;
    if (l->parcel == NULL && stream->is_started)
        return KB_OK; /* at the end */
    return kb_source_reader_skip(l->reader, count, ret_skipped, err);
}

int64_t kb_stream_filtered(const kb_stream *stream)
{
    int64_t filtered = 0;
    for (size_t i = 0; i < stream->lane_count; i++)
        filtered += kb_source_reader_filtered(stream->lanes[i].reader);
    return filtered;
}
