#include "worker/segment/segment_reader.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/crc.h"
#include "common/base/encode.h"
#include "common/base/mem.h"
#include "worker/segment/area_fill.h"
#include "worker/segment/area_stream.h"
#include "worker/segment/index_load.h"
#include "worker/segment/segment_body.h"
#include "worker/segment/segment_expect.h"
#include "worker/segment/segment_json.h"

#define JSON_LOOK_BYTES ((size_t)4096)

/* What was seen of the records so far, for the comparison at the end. */
typedef struct seen_records {
    uint64_t count;
    int64_t first_offset;
    int64_t last_offset;
    int64_t min_timestamp;
    int64_t max_timestamp;
    uint64_t raw_bytes;
    uint32_t max_total_len;
    kb_digest digest;
    uint8_t last_sha256[KB_SHA256_SIZE];
    bool has_skipped;
} seen_records;

struct kb_segment_reader {
    kb_segment_reader_opts opts;
    kb_segment_source source;
    kb_segment_expect expect;
    kb_segment_fault fault;
    bool is_open; /* and no error came since */
    bool is_ended;
    bool hash_records;
    bool hash_object;
    uint8_t *held; /* owned */
    size_t held_capacity;
    kb_body body;
    kb_area_stream *stream;
    kb_area_fill fill;
    kb_segment_json *json; /* NULL for KBAK */
    uint32_t json_crc;
    kb_record_hasher *hasher;
    kb_segment_header header;
    uint8_t header_bytes[KB_SEGMENT_HEADER_BYTES];
    uint8_t footer_bytes[KB_SEGMENT_FOOTER_BYTES];
    uint8_t sha256[KB_SHA256_SIZE];
    bool has_index;
    kb_frame_index index;
    size_t next_frame;
    seen_records seen;
};

const char *kb_segment_fault_name(kb_segment_fault fault)
{
    static const char *const names[] = {"none", "size", "mismatch", "foreign"};
    return (size_t)fault < KB_ARRAY_LEN(names) ? names[fault] : "unknown";
}

void kb_area_done(kb_area *area)
{
    free(area->data);
    *area = (kb_area)KB_AREA_INIT;
}

kb_cursor kb_area_cursor(const kb_area *area)
{
    return kb_cursor_of(area->data, area->len);
}

kb_segment_reader *kb_segment_reader_new(const kb_segment_reader_opts *opts)
{
    kb_segment_reader *reader = kb_calloc(1, sizeof *reader);
    if (opts != NULL)
        reader->opts = *opts;
    if (reader->opts.held_bytes == 0)
        reader->opts.held_bytes = KB_READER_HELD_BYTES;
    if (reader->opts.range_bytes == 0)
        reader->opts.range_bytes = KB_READER_RANGE_BYTES;
    if (reader->opts.max_area_bytes == 0)
        reader->opts.max_area_bytes = KB_READER_AREA_MAX_BYTES;
    reader->stream = kb_area_stream_new();
    reader->hasher = kb_record_hasher_new();
    return reader;
}

static void close_object(kb_segment_reader *reader)
{
    kb_segment_json_free_at(&reader->json);
    kb_frame_index_done(&reader->index);
    reader->has_index = false;
    reader->is_open = false;
    reader->is_ended = false;
    reader->next_frame = 0;
    reader->fault = KB_SEGMENT_FAULT_NONE;
    reader->seen = (seen_records){.first_offset = -1, .last_offset = -1};
    reader->header = (kb_segment_header){KB_CODEC_NONE, 0, -1, -1};
    memset(reader->header_bytes, 0, sizeof reader->header_bytes);
    memset(reader->footer_bytes, 0, sizeof reader->footer_bytes);
}

void kb_segment_reader_free(kb_segment_reader *owned_reader)
{
    if (owned_reader == NULL)
        return;
    close_object(owned_reader);
    kb_area_stream_free(owned_reader->stream);
    kb_record_hasher_free(owned_reader->hasher);
    kb_area_fill_done(&owned_reader->fill);
    kb_body_done(&owned_reader->body);
    free(owned_reader->held);
    free(owned_reader);
}

void kb_segment_reader_free_at(kb_segment_reader **at)
{
    kb_segment_reader_free(*at);
    *at = NULL;
}

const kb_segment_header *kb_segment_reader_header(const kb_segment_reader *reader)
{
    return &reader->header;
}

const kb_frame_index *kb_segment_reader_index(const kb_segment_reader *reader)
{
    return reader->has_index ? &reader->index : NULL;
}

kb_segment_fault kb_segment_reader_fault(const kb_segment_reader *reader)
{
    return reader->fault;
}

kb_own_block_mode kb_segment_reader_own_block(const kb_segment_reader *reader)
{
    if (reader->has_index)
        return (reader->index.flags & KB_INDEX_FLAG_OWN_BLOCK) != 0 ? KB_OWN_BLOCK_PRESENT
                                                                    : KB_OWN_BLOCK_NONE;
    if (reader->expect.own_block < 0)
        return KB_OWN_BLOCK_BY_FORM;
    return reader->expect.own_block > 0 ? KB_OWN_BLOCK_PRESENT : KB_OWN_BLOCK_NONE;
}

/* ---- errors ---- */

/* The object is not what it should be; the reason is already in err. */
static kb_code corrupt(kb_segment_reader *reader, kb_segment_fault fault, kb_error *err)
{
    reader->fault = fault;
    return kb_wrap_as(err, KB_BACKUP_CORRUPT, "segment '%s'", reader->expect.key);
}

/*
 * Gives an error of a lower module its meaning: broken bytes are the object's fault, and a text beyond a
 * limit is so too, unless it is our memory that is short. Errors of the source stay what they are.
 */
static kb_code settle(kb_segment_reader *reader, kb_code code, kb_error *err)
{
    if (code == KB_OK)
        return KB_OK;
    reader->is_open = false;
    bool is_memory_low = reader->opts.max_area_bytes < KB_SEGMENT_JSON_MAX_BYTES;
    if (code == KB_ERR_TOO_LARGE && reader->json != NULL && is_memory_low)
        return kb_wrap_as(err, KB_MEMORY_TOO_SMALL, "segment '%s'", reader->expect.key);
    if (code == KB_ERR_FORMAT || (code == KB_ERR_TOO_LARGE && reader->json != NULL))
        return corrupt(reader, KB_SEGMENT_FAULT_MISMATCH, err);
    if (code == KB_MEMORY_TOO_SMALL)
        return kb_wrap(err, "segment '%s'", reader->expect.key);
    return code;
}

/* ---- the whole object ---- */

static kb_code hold_object(kb_segment_reader *reader, kb_error *err)
{
    size_t size = (size_t)reader->source.size;
    if (size > reader->held_capacity) {
        kb_free_at(&reader->held);
        reader->held_capacity = 0;
        reader->held = kb_try_malloc(size);
        if (reader->held == NULL)
            return kb_fail(err, KB_TEMPORARY_FAILURE, "no memory to hold a segment of %zu bytes", size);
        reader->held_capacity = size;
    }
    return reader->source.get_range(reader->source.ctx, 0, reader->held, size, err);
}

static kb_code start_body(kb_segment_reader *reader, kb_error *err)
{
    bool is_held = reader->source.size <= reader->opts.held_bytes;
    if (is_held && reader->source.size > 0) {
        kb_code code = hold_object(reader, err);
        if (code != KB_OK)
            return code;
    }
    kb_body_start(&reader->body, &reader->source, is_held ? reader->held : NULL, reader->opts.range_bytes);
    return KB_OK;
}

/* CRC-32 of a part of the object, and its bytes into the hash if there is one. */
static kb_code scan_part(kb_body *body, uint64_t at, uint64_t end, kb_sha256_ctx *sha, uint32_t *crc,
                         kb_error *err)
{
    kb_body_seek(body, at, end);
    while (kb_body_left(body) > 0) {
        kb_view view;
        kb_code code = kb_body_peek(body, 1, &view, err);
        if (code != KB_OK)
            return code;
        *crc = kb_crc32(*crc, view.data, view.len);
        if (sha != NULL)
            kb_sha256_update(sha, view.data, view.len);
        kb_body_consume(body, view.len);
    }
    return KB_OK;
}

/* Reads header, body and footer once, in this order, and keeps what the later checks need. */
static kb_code scan_object(kb_segment_reader *reader, uint32_t *ret_crc, kb_error *err)
{
    KB_CLEANUP(kb_sha256_free_at) kb_sha256_ctx *sha = NULL;
    if (reader->hash_object)
        sha = kb_sha256_new();
    uint64_t body_end = reader->source.size - KB_SEGMENT_FOOTER_BYTES;
    kb_code code = kb_body_copy(&reader->body, 0, KB_SEGMENT_HEADER_BYTES, reader->header_bytes, err);
    uint32_t crc = kb_crc32(0, reader->header_bytes, KB_SEGMENT_HEADER_BYTES);
    if (code == KB_OK)
        code = scan_part(&reader->body, KB_SEGMENT_HEADER_BYTES, body_end, sha, &crc, err);
    if (code == KB_OK)
        code = kb_body_copy(&reader->body, body_end, KB_SEGMENT_FOOTER_BYTES, reader->footer_bytes, err);
    if (code != KB_OK)
        return code;
    if (sha != NULL) {
        kb_sha256_update(sha, reader->footer_bytes, KB_SEGMENT_FOOTER_BYTES);
        kb_sha256_update(sha, reader->header_bytes, KB_SEGMENT_HEADER_BYTES);
        kb_sha256_final(sha, reader->sha256);
    }
    *ret_crc = crc;
    return KB_OK;
}

static kb_code check_envelope(kb_segment_reader *reader, uint32_t crc, kb_error *err)
{
    uint32_t stored_crc;
    kb_code code = kb_segment_header_decode(reader->header_bytes, &reader->header, err);
    if (code == KB_OK)
        code = kb_segment_footer_decode(reader->footer_bytes, &stored_crc, err);
    if (code != KB_OK)
        return code;
    if (crc != stored_crc)
        return kb_fail(err, KB_ERR_FORMAT, "fails its CRC (%08x, computed %08x)", stored_crc, crc);
    return KB_OK;
}

static kb_code check_sha256(const kb_segment_reader *reader, kb_error *err)
{
    const uint8_t *expected = reader->expect.sha256;
    if (expected != NULL && memcmp(expected, reader->sha256, KB_SHA256_SIZE) != 0)
        return kb_fail(err, KB_ERR_FORMAT, "its SHA-256 is not the one in the backup");
    return KB_OK;
}

/* ---- opening ---- */

static kb_code open_kbak(kb_segment_reader *reader, kb_error *err)
{
    uint32_t crc = 0;
    kb_code code = scan_object(reader, &crc, err);
    if (code == KB_OK)
        code = check_envelope(reader, crc, err);
    if (code == KB_OK)
        code = kb_index_load(&reader->body, &reader->header, &reader->has_index, &reader->index, err);
    if (code != KB_OK)
        return code;
    if (reader->has_index && kb_expect_check_identity(&reader->expect, &reader->index, err) != KB_OK)
        return corrupt(reader, KB_SEGMENT_FAULT_FOREIGN, err);
    code = kb_expect_check_header(&reader->expect, &reader->header, err);
    if (code == KB_OK && reader->has_index)
        code = kb_expect_check_index(&reader->expect, &reader->index, err);
    if (code == KB_OK)
        code = check_sha256(reader, err);
    if (code != KB_OK)
        return code;
    reader->body.crc = 0;
    reader->body.window_len = 0; /* so that the second reading is fetched, and counted in crc */
    kb_body_seek(&reader->body, KB_SEGMENT_HEADER_BYTES, reader->source.size - KB_SEGMENT_FOOTER_BYTES);
    if (reader->has_index)
        return KB_OK;
    return kb_area_stream_start(reader->stream, reader->header.codec, &reader->body, reader->expect.raw_bytes,
                                err);
}

static kb_code next_chunk(void *ctx, kb_view *ret_chunk, kb_error *err)
{
    kb_body *body = ctx;
    kb_code code = kb_body_peek(body, 1, ret_chunk, err);
    if (code == KB_OK)
        kb_body_consume(body, ret_chunk->len);
    return code;
}

static void start_json(kb_segment_reader *reader)
{
    kb_segment_json_free_at(&reader->json);
    kb_body_start(&reader->body, &reader->source, reader->body.held, reader->opts.range_bytes);
    size_t max_string = (size_t)KB_SEGMENT_JSON_MAX_BYTES;
    if (reader->opts.max_area_bytes < max_string)
        max_string = KB_BASE64_TEXT_SIZE(reader->opts.max_area_bytes);
    reader->json = kb_segment_json_new(next_chunk, &reader->body, max_string);
}

/* There is no CRC, so all of the text is read once before the first record may go out. */
static kb_code survey_json(kb_segment_reader *reader, kb_error *err)
{
    kb_segment_header header = {KB_CODEC_NONE, 0, -1, -1};
    kb_record_in record;
    bool has = true;
    for (;;) {
        kb_code code = kb_segment_json_next(reader->json, &record, &has, err);
        if (code != KB_OK)
            return code;
        if (!has)
            break;
        if (record.offset <= header.last_offset)
            return kb_fail(err, KB_ERR_FORMAT, "record %lld comes after record %lld",
                           (long long)record.offset, (long long)header.last_offset);
        if (header.record_count == 0)
            header.first_offset = record.offset;
        header.last_offset = record.offset;
        header.record_count++;
    }
    reader->header = header;
    reader->json_crc = reader->body.crc;
    return KB_OK;
}

static kb_code hash_json(kb_segment_reader *reader, kb_error *err)
{
    if (!reader->hash_object)
        return KB_OK;
    uint64_t size = reader->source.size;
    uint64_t head_len = size < KB_SEGMENT_HEADER_BYTES ? size : KB_SEGMENT_HEADER_BYTES;
    KB_CLEANUP(kb_sha256_free_at) kb_sha256_ctx *sha = kb_sha256_new();
    uint32_t ignored_crc = 0;
    kb_code code = scan_part(&reader->body, head_len, size, sha, &ignored_crc, err);
    if (code == KB_OK)
        code = scan_part(&reader->body, 0, head_len, sha, &ignored_crc, err);
    if (code == KB_OK)
        kb_sha256_final(sha, reader->sha256);
    return code;
}

static kb_code open_json(kb_segment_reader *reader, kb_error *err)
{
    if (reader->source.size > KB_SEGMENT_JSON_MAX_BYTES)
        return kb_fail(err, KB_ERR_FORMAT, "is a JSON segment of more than %llu bytes",
                       (unsigned long long)KB_SEGMENT_JSON_MAX_BYTES);
    kb_code code = hash_json(reader, err);
    if (code != KB_OK)
        return code;
    start_json(reader);
    code = survey_json(reader, err);
    if (code == KB_OK)
        code = kb_expect_check_header(&reader->expect, &reader->header, err);
    if (code == KB_OK)
        code = check_sha256(reader, err);
    if (code == KB_OK)
        start_json(reader);
    return code;
}

/* White space may come before the array; not more of it than is looked at, however much is in memory. */
static bool looks_like_json(kb_view view)
{
    for (size_t i = 0; i < view.len && i < JSON_LOOK_BYTES; i++) {
        if (strchr(" \t\r\n", view.data[i]) == NULL || view.data[i] == '\0')
            return view.data[i] == '[';
    }
    return false;
}

static kb_code open_any(kb_segment_reader *reader, kb_error *err)
{
    uint64_t size = reader->source.size;
    if (reader->expect.size > 0 && reader->expect.size != size) {
        (void)kb_fail(err, KB_ERR_FORMAT, "has %llu bytes, the backup says %llu", (unsigned long long)size,
                      (unsigned long long)reader->expect.size);
        return corrupt(reader, KB_SEGMENT_FAULT_SIZE, err);
    }
    kb_code code = start_body(reader, err);
    kb_view view = {NULL, 0};
    if (code == KB_OK)
        code = kb_body_peek(&reader->body, JSON_LOOK_BYTES, &view, err);
    if (code != KB_OK)
        return code;
    if (!kb_segment_has_magic(view.data, view.len) && looks_like_json(view))
        return open_json(reader, err);
    if (size < KB_SEGMENT_MIN_BYTES) {
        (void)kb_fail(err, KB_ERR_FORMAT, "has %llu bytes, a segment at least %d", (unsigned long long)size,
                      KB_SEGMENT_MIN_BYTES);
        return corrupt(reader, KB_SEGMENT_FAULT_SIZE, err);
    }
    return open_kbak(reader, err);
}

static kb_code open_object(kb_segment_reader *reader, const kb_segment_source *source,
                           const kb_segment_expect *expect, bool is_verification, kb_error *err)
{
    close_object(reader);
    reader->source = *source;
    reader->expect = *expect;
    reader->hash_records = is_verification || reader->opts.deep;
    reader->hash_object = is_verification || expect->sha256 != NULL;
    kb_area_fill_start(&reader->fill, reader->opts.max_area_bytes);
    kb_code code = settle(reader, open_any(reader, err), err);
    reader->is_open = code == KB_OK;
    return code;
}

kb_code kb_segment_reader_open(kb_segment_reader *reader, const kb_segment_source *source,
                               const kb_segment_expect *expect, kb_error *err)
{
    return open_object(reader, source, expect, false, err);
}

/* ---- areas ---- */

static bool next_entry(const kb_segment_reader *reader, const kb_frame_entry **ret_entry)
{
    if (!reader->is_open || !reader->has_index || reader->next_frame >= reader->index.entry_count)
        return false;
    *ret_entry = &reader->index.entries[reader->next_frame];
    return true;
}

static kb_area_bounds bounds_of(const kb_frame_entry *entry)
{
    return (kb_area_bounds){.record_count = entry->record_count,
                            .raw_len = entry->raw_len,
                            .first_offset = entry->first_offset,
                            .last_offset = entry->last_offset,
                            .min_timestamp = entry->min_timestamp,
                            .max_timestamp = entry->max_timestamp};
}

/* The frame that the index names next, decompressed in one go. */
static kb_code load_frame(kb_segment_reader *reader, const kb_frame_entry *entry, kb_area *area,
                          kb_error *err)
{
    /* Up to the end of the frames, so that one range brings several of them. */
    kb_body_seek(&reader->body, entry->position, KB_SEGMENT_HEADER_BYTES + reader->index.data_bytes);
    kb_view view;
    kb_code code = kb_body_peek(&reader->body, entry->stored_len, &view, err);
    if (code != KB_OK)
        return code;
    view.len = entry->stored_len;
    /* A held object has passed its CRC; what is fetched again has not. */
    bool check_crc = reader->hash_records || reader->body.held == NULL;
    if (check_crc && kb_crc32(0, view.data, view.len) != entry->crc32)
        return kb_fail(err, KB_ERR_FORMAT, "frame at byte %llu fails its CRC",
                       (unsigned long long)entry->position);
    code = kb_area_stream_check_frame(view, entry->raw_len, err);
    area->len = 0;
    if (code == KB_OK)
        code = kb_area_reserve(area, entry->raw_len, reader->opts.max_area_bytes, err);
    if (code == KB_OK)
        code = kb_area_stream_unpack(reader->stream, view, area->data, entry->raw_len, err);
    if (code != KB_OK)
        return code;
    area->len = entry->raw_len;
    return KB_OK;
}

static kb_code load_area(kb_segment_reader *reader, kb_area *area, bool *ret_has, kb_error *err)
{
    const kb_frame_entry *entry;
    if (reader->json != NULL)
        return kb_area_fill_json(&reader->fill, reader->json, area, ret_has, err);
    if (!reader->has_index)
        return kb_area_fill_stream(&reader->fill, reader->stream, area, ret_has, err);
    *ret_has = next_entry(reader, &entry);
    return *ret_has ? load_frame(reader, entry, area, err) : KB_OK;
}

static kb_code check_order(const kb_segment_reader *reader, const kb_record_view *record, int64_t last_offset,
                           kb_error *err)
{
    if (record->offset <= last_offset)
        return kb_fail(err, KB_ERR_FORMAT, "record %lld comes after record %lld", (long long)record->offset,
                       (long long)last_offset);
    if (record->offset < reader->header.first_offset || record->offset > reader->header.last_offset)
        return kb_fail(err, KB_ERR_FORMAT, "record %lld lies outside the offsets of the header, %lld to %lld",
                       (long long)record->offset, (long long)reader->header.first_offset,
                       (long long)reader->header.last_offset);
    return KB_OK;
}

static kb_code hash_record(kb_segment_reader *reader, const kb_record_view *record, kb_error *err)
{
    seen_records *seen = &reader->seen;
    kb_own_block_mode mode = kb_segment_reader_own_block(reader);
    if (!kb_record_hash(reader->hasher, record, mode, seen->last_sha256))
        return kb_fail(err, KB_ERR_FORMAT, "record %lld lacks the bookkeeping headers that it should have",
                       (long long)record->offset);
    kb_digest_add_hash(&seen->digest, seen->last_sha256);
    return KB_OK;
}

static void count_record(kb_area_bounds *bounds, const kb_record_view *record)
{
    if (bounds->record_count == 0)
        *bounds = (kb_area_bounds){.first_offset = record->offset,
                                   .min_timestamp = record->timestamp,
                                   .max_timestamp = record->timestamp};
    bounds->record_count++;
    bounds->last_offset = record->offset;
    if (record->timestamp < bounds->min_timestamp)
        bounds->min_timestamp = record->timestamp;
    if (record->timestamp > bounds->max_timestamp)
        bounds->max_timestamp = record->timestamp;
}

/* Decodes every record of an area, so that none of it goes out when one of them is broken. */
static kb_code check_records(kb_segment_reader *reader, kb_area *area, kb_error *err)
{
    kb_area_bounds bounds = {0};
    int64_t last_offset = reader->seen.last_offset;
    kb_cursor cursor = kb_area_cursor(area);
    while (cursor.left > 0) {
        kb_record_view record;
        kb_code code = kb_record_decode(&cursor, &record, err);
        if (code == KB_OK)
            code = check_order(reader, &record, last_offset, err);
        if (code == KB_OK && reader->hash_records)
            code = hash_record(reader, &record, err);
        if (code != KB_OK)
            return code;
        if (record.raw_len > reader->seen.max_total_len)
            reader->seen.max_total_len = record.raw_len;
        last_offset = record.offset;
        count_record(&bounds, &record);
    }
    bounds.raw_len = (uint32_t)area->len;
    area->bounds = bounds;
    return KB_OK;
}

static kb_code check_bounds(const kb_segment_reader *reader, const kb_area_bounds *bounds, kb_error *err)
{
    const kb_frame_entry *entry;
    if (reader->seen.count == 0 && bounds->first_offset != reader->header.first_offset)
        return kb_fail(err, KB_ERR_FORMAT, "first offset is %lld, its header says %lld",
                       (long long)bounds->first_offset, (long long)reader->header.first_offset);
    if (reader->seen.count + bounds->record_count > reader->header.record_count)
        return kb_fail(err, KB_ERR_FORMAT, "has more than the %llu records of its header",
                       (unsigned long long)reader->header.record_count);
    if (!next_entry(reader, &entry))
        return KB_OK;
    if (bounds->record_count != entry->record_count || bounds->first_offset != entry->first_offset ||
        bounds->last_offset != entry->last_offset || bounds->min_timestamp != entry->min_timestamp ||
        bounds->max_timestamp != entry->max_timestamp)
        return kb_fail(err, KB_ERR_FORMAT,
                       "records of the frame at byte %llu are not what the frame index says of them",
                       (unsigned long long)entry->position);
    return KB_OK;
}

static void add_bounds(seen_records *seen, const kb_area_bounds *bounds)
{
    if (seen->count == 0) {
        seen->first_offset = bounds->first_offset;
        seen->min_timestamp = bounds->min_timestamp;
        seen->max_timestamp = bounds->max_timestamp;
    }
    seen->count += bounds->record_count;
    seen->last_offset = bounds->last_offset;
    if (bounds->min_timestamp < seen->min_timestamp)
        seen->min_timestamp = bounds->min_timestamp;
    if (bounds->max_timestamp > seen->max_timestamp)
        seen->max_timestamp = bounds->max_timestamp;
    seen->raw_bytes += bounds->raw_len;
}

/* ---- the end ---- */

static kb_code check_totals(const kb_segment_reader *reader, kb_error *err)
{
    const seen_records *seen = &reader->seen;
    const kb_segment_expect *expect = &reader->expect;
    if (seen->count != reader->header.record_count || seen->last_offset != reader->header.last_offset)
        return kb_fail(
            err, KB_ERR_FORMAT, "has %llu records up to offset %lld, its header says %llu up to %lld",
            (unsigned long long)seen->count, (long long)seen->last_offset,
            (unsigned long long)reader->header.record_count, (long long)reader->header.last_offset);
    if (reader->json == NULL && expect->raw_bytes > 0 && seen->raw_bytes != expect->raw_bytes)
        return kb_fail(err, KB_ERR_FORMAT, "has %llu bytes of records, the backup says %llu",
                       (unsigned long long)seen->raw_bytes, (unsigned long long)expect->raw_bytes);
    if (expect->has_timestamps && seen->count > 0 &&
        (seen->min_timestamp != expect->min_timestamp || seen->max_timestamp != expect->max_timestamp))
        return kb_fail(err, KB_ERR_FORMAT, "has timestamps %lld to %lld, the backup says %lld to %lld",
                       (long long)seen->min_timestamp, (long long)seen->max_timestamp,
                       (long long)expect->min_timestamp, (long long)expect->max_timestamp);
    return KB_OK;
}

static kb_code check_digest(const kb_segment_reader *reader, kb_error *err)
{
    const seen_records *seen = &reader->seen;
    if (seen->has_skipped)
        return KB_OK;
    if (reader->has_index && seen->max_total_len != reader->index.max_total_len)
        return kb_fail(err, KB_ERR_FORMAT, "its largest record has %u bytes, the frame index says %u",
                       seen->max_total_len, reader->index.max_total_len);
    if (!reader->hash_records)
        return KB_OK;
    if (reader->has_index && !kb_digest_is_equal(&seen->digest, &reader->index.digest))
        return kb_fail(err, KB_ERR_FORMAT, "the digest of its records is not the one in its frame index");
    if (reader->expect.digest != NULL && !kb_digest_is_equal(&seen->digest, reader->expect.digest))
        return kb_fail(err, KB_ERR_FORMAT, "the digest of its records is not the one in the backup");
    return KB_OK;
}

/* Whether what was fetched a second time is what was verified the first time. */
static kb_code check_second_reading(const kb_segment_reader *reader, kb_error *err)
{
    if (reader->body.held != NULL || reader->has_index || reader->source.size == 0)
        return KB_OK;
    uint32_t expected = reader->json_crc;
    uint32_t actual = reader->body.crc;
    if (reader->json == NULL) {
        uint64_t body_len = reader->source.size - KB_SEGMENT_MIN_BYTES;
        uint32_t head = kb_crc32(0, reader->header_bytes, KB_SEGMENT_HEADER_BYTES);
        actual = kb_crc32_combine(head, actual, body_len);
        kb_code code = kb_segment_footer_decode(reader->footer_bytes, &expected, err);
        if (code != KB_OK)
            return code;
    }
    if (expected != actual)
        return kb_fail(err, KB_ERR_FORMAT, "changed between two readings");
    return KB_OK;
}

static kb_code check_end(kb_segment_reader *reader, kb_error *err)
{
    kb_code code = check_totals(reader, err);
    if (code == KB_OK)
        code = check_digest(reader, err);
    if (code == KB_OK)
        code = check_second_reading(reader, err);
    reader->is_ended = code == KB_OK;
    return code;
}

kb_code kb_segment_reader_next(kb_segment_reader *reader, kb_area *area, bool *ret_has, kb_error *err)
{
    if (!reader->is_open)
        return kb_fail(err, KB_ERR_INTERNAL, "no segment is open");
    bool has = false;
    if (reader->is_ended) {
        *ret_has = false;
        return KB_OK;
    }
    kb_code code = load_area(reader, area, &has, err);
    if (code == KB_OK && !has)
        code = check_end(reader, err);
    if (code == KB_OK && has)
        code = check_records(reader, area, err);
    if (code == KB_OK && has)
        code = check_bounds(reader, &area->bounds, err);
    if (code != KB_OK)
        return settle(reader, code, err);
    if (has) {
        add_bounds(&reader->seen, &area->bounds);
        reader->next_frame++;
    }
    *ret_has = has;
    return KB_OK;
}

bool kb_segment_reader_peek(const kb_segment_reader *reader, kb_area_bounds *ret_bounds)
{
    const kb_frame_entry *entry;
    if (!next_entry(reader, &entry))
        return false;
    *ret_bounds = bounds_of(entry);
    return true;
}

void kb_segment_reader_skip(kb_segment_reader *reader)
{
    const kb_frame_entry *entry;
    if (!next_entry(reader, &entry))
        return;
    kb_area_bounds bounds = bounds_of(entry);
    add_bounds(&reader->seen, &bounds);
    reader->seen.has_skipped = true;
    reader->next_frame++;
}

/* ---- whole objects, and only their ends ---- */

static void fill_info(const kb_segment_reader *reader, kb_segment_info *info)
{
    const seen_records *seen = &reader->seen;
    *info = (kb_segment_info){.codec = reader->header.codec,
                              .start = seen->first_offset,
                              .end = seen->last_offset,
                              .from = reader->has_index ? reader->index.from : seen->first_offset,
                              .to = reader->has_index ? reader->index.to : seen->last_offset + 1,
                              .count = seen->count,
                              .min_timestamp = seen->min_timestamp,
                              .max_timestamp = seen->max_timestamp,
                              .raw_bytes = seen->raw_bytes,
                              .bytes = reader->source.size,
                              .digest = seen->digest};
    memcpy(info->sha256, reader->sha256, sizeof info->sha256);
    memcpy(info->last_sha256, seen->last_sha256, sizeof info->last_sha256);
    memcpy(info->header, reader->header_bytes, sizeof info->header);
    memcpy(info->footer, reader->footer_bytes, sizeof info->footer);
}

kb_code kb_segment_verify(kb_segment_reader *reader, const kb_segment_source *source,
                          const kb_segment_expect *expect, kb_segment_info *ret_info, kb_error *err)
{
    kb_code code = open_object(reader, source, expect, true, err);
    KB_AUTO_AREA(area);
    bool has = true;
    while (code == KB_OK && has)
        code = kb_segment_reader_next(reader, &area, &has, err);
    if (code != KB_OK)
        return code;
    fill_info(reader, ret_info);
    return KB_OK;
}

static kb_code read_ends(kb_body *body, bool *ret_present, kb_segment_header *ret_header,
                         kb_frame_index *ret_index, kb_error *err)
{
    uint8_t bytes[KB_SEGMENT_HEADER_BYTES];
    kb_code code = kb_body_copy(body, 0, sizeof bytes, bytes, err);
    if (code != KB_OK || !kb_segment_has_magic(bytes, sizeof bytes))
        return code;
    code = kb_segment_header_decode(bytes, ret_header, err);
    if (code != KB_OK)
        return code;
    return kb_index_load(body, ret_header, ret_present, ret_index, err);
}

kb_code kb_segment_index_read(const kb_segment_source *source, const char *key, bool *ret_present,
                              kb_segment_header *ret_header, kb_frame_index *ret_index, kb_error *err)
{
    bool is_present = false;
    kb_segment_header header = {0};
    kb_frame_index index = {0};
    kb_code code = KB_OK;
    if (source->size >= KB_SEGMENT_MIN_BYTES) {
        __attribute__((cleanup(kb_body_done))) kb_body body = {0};
        /* Ranges of the smallest size: exactly what is asked for. */
        kb_body_start(&body, source, NULL, 1);
        code = read_ends(&body, &is_present, &header, &index, err);
    }
    if (code == KB_ERR_FORMAT)
        return kb_wrap_as(err, KB_BACKUP_CORRUPT, "segment '%s'", key);
    if (code != KB_OK)
        return code;
    *ret_present = is_present;
    if (is_present) {
        *ret_header = header;
        *ret_index = index;
    }
    return KB_OK;
}
