#include "worker/segment/frame_index.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/crc.h"
#include "common/base/mem.h"

#define INDEX_FRAME_MAGIC 0x184D2A5Bu
#define INDEX_VERSION 1
static const uint8_t index_magic[8] = {'K', 'B', 'F', 'R', 'I', 'D', 'X', '1'};

void kb_frame_index_done(kb_frame_index *index)
{
    free(index->entries);
    *index = (kb_frame_index){0};
}

void kb_frame_index_key_hash(const char *key, uint8_t to[KB_KEY_HASH_BYTES])
{
    uint8_t hash[KB_SHA256_SIZE];
    kb_sha256(key, strlen(key), hash);
    memcpy(to, hash, KB_KEY_HASH_BYTES);
}

/* ---- encoding ---- */

static size_t payload_size(size_t entry_count)
{
    return KB_INDEX_HEAD_BYTES + entry_count * KB_INDEX_ENTRY_BYTES + KB_INDEX_TAIL_BYTES;
}

size_t kb_frame_index_encoded_size(size_t entry_count)
{
    return KB_INDEX_FRAME_HEAD_BYTES + payload_size(entry_count);
}

static uint8_t *put_head(uint8_t *at, const kb_frame_index *index)
{
    at = kb_put_bytes(at, index_magic, sizeof index_magic);
    at = kb_put_u16(at, INDEX_VERSION);
    at = kb_put_u16(at, KB_INDEX_HEAD_BYTES);
    at = kb_put_u16(at, KB_INDEX_ENTRY_BYTES);
    at = kb_put_u16(at, index->flags);
    at = kb_put_u32(at, (uint32_t)index->entry_count);
    at = kb_put_i32(at, index->partition);
    at = kb_put_i64(at, index->from);
    at = kb_put_i64(at, index->to);
    at = kb_put_i64(at, index->min_timestamp);
    at = kb_put_i64(at, index->max_timestamp);
    at = kb_put_u64(at, index->raw_bytes);
    at = kb_put_u64(at, index->data_bytes);
    at = kb_put_u32(at, index->max_total_len);
    at = kb_put_u32(at, 0);
    at = kb_put_bytes(at, index->attempt_id, sizeof index->attempt_id);
    at = kb_put_bytes(at, index->topic_id, sizeof index->topic_id);
    at = kb_put_bytes(at, index->key_hash, sizeof index->key_hash);
    kb_digest_store(&index->digest, at);
    return at + KB_DIGEST_BYTES;
}

static uint8_t *put_entry(uint8_t *at, const kb_frame_entry *entry)
{
    at = kb_put_u64(at, entry->position);
    at = kb_put_u32(at, entry->stored_len);
    at = kb_put_u32(at, entry->raw_len);
    at = kb_put_i64(at, entry->first_offset);
    at = kb_put_i64(at, entry->last_offset);
    at = kb_put_i64(at, entry->min_timestamp);
    at = kb_put_i64(at, entry->max_timestamp);
    at = kb_put_u32(at, entry->record_count);
    return kb_put_u32(at, entry->crc32);
}

void kb_frame_index_encode(const kb_frame_index *index, uint8_t *to)
{
    uint32_t payload_len = (uint32_t)payload_size(index->entry_count);
    uint8_t *at = kb_put_u32(to, INDEX_FRAME_MAGIC);
    at = kb_put_u32(at, payload_len);
    const uint8_t *payload = at;
    at = put_head(at, index);
    for (size_t i = 0; i < index->entry_count; i++)
        at = put_entry(at, &index->entries[i]);
    uint32_t crc = kb_crc32(0, payload, (size_t)(at - payload));
    at = kb_put_u32(at, payload_len);
    at = kb_put_u32(at, crc);
    kb_put_bytes(at, index_magic, sizeof index_magic);
}

/* ---- decoding ---- */

bool kb_frame_index_tail(const uint8_t tail[KB_INDEX_TAIL_BYTES], uint32_t *ret_payload_len)
{
    if (memcmp(tail + 8, index_magic, sizeof index_magic) != 0)
        return false;
    kb_cursor c = kb_cursor_of(tail, KB_INDEX_TAIL_BYTES);
    *ret_payload_len = kb_cursor_u32(&c);
    return true;
}

typedef struct index_lengths {
    size_t head;
    size_t entry;
    uint32_t entry_count;
} index_lengths;

static kb_code check_envelope(const uint8_t *frame, size_t len, kb_error *err)
{
    if (len < kb_frame_index_encoded_size(0) || len - KB_INDEX_FRAME_HEAD_BYTES > KB_INDEX_MAX_BYTES)
        return kb_fail(err, KB_ERR_FORMAT, "frame index has %zu bytes", len);
    kb_cursor c = kb_cursor_of(frame, len);
    uint32_t magic = kb_cursor_u32(&c);
    uint32_t payload_len = kb_cursor_u32(&c);
    const uint8_t *payload = c.at;
    c = kb_cursor_of(payload + c.left - KB_INDEX_TAIL_BYTES, KB_INDEX_TAIL_BYTES);
    uint32_t tail_len = kb_cursor_u32(&c);
    uint32_t crc = kb_cursor_u32(&c);
    if (magic != INDEX_FRAME_MAGIC || payload_len != len - KB_INDEX_FRAME_HEAD_BYTES ||
        tail_len != payload_len)
        return kb_fail(err, KB_ERR_FORMAT, "frame index does not have the length that it states");
    if (memcmp(payload, index_magic, sizeof index_magic) != 0 ||
        memcmp(c.at, index_magic, sizeof index_magic) != 0)
        return kb_fail(err, KB_ERR_FORMAT, "frame index lacks its magic bytes");
    if (crc != kb_crc32(0, payload, payload_len - KB_INDEX_TAIL_BYTES))
        return kb_fail(err, KB_ERR_FORMAT, "frame index fails its CRC");
    return KB_OK;
}

static void take_copy(kb_cursor *c, uint8_t *to, size_t len)
{
    const uint8_t *from = kb_cursor_take(c, len);
    if (from != NULL)
        memcpy(to, from, len);
}

static kb_code decode_head(kb_cursor c, kb_frame_index *index, index_lengths *lengths, kb_error *err)
{
    size_t payload_len = c.left;
    (void)kb_cursor_take(&c, sizeof index_magic);
    uint16_t version = kb_cursor_u16(&c);
    lengths->head = kb_cursor_u16(&c);
    lengths->entry = kb_cursor_u16(&c);
    index->flags = kb_cursor_u16(&c);
    lengths->entry_count = kb_cursor_u32(&c);
    index->partition = kb_cursor_i32(&c);
    index->from = kb_cursor_i64(&c);
    index->to = kb_cursor_i64(&c);
    index->min_timestamp = kb_cursor_i64(&c);
    index->max_timestamp = kb_cursor_i64(&c);
    index->raw_bytes = kb_cursor_u64(&c);
    index->data_bytes = kb_cursor_u64(&c);
    index->max_total_len = kb_cursor_u32(&c);
    (void)kb_cursor_u32(&c);
    take_copy(&c, index->attempt_id, sizeof index->attempt_id);
    take_copy(&c, index->topic_id, sizeof index->topic_id);
    take_copy(&c, index->key_hash, sizeof index->key_hash);
    uint8_t digest[KB_DIGEST_BYTES] = {0};
    take_copy(&c, digest, sizeof digest);
    index->digest = kb_digest_load(digest);
    if (version != INDEX_VERSION)
        return kb_fail(err, KB_ERR_FORMAT, "frame index has version %u and needs a newer reader", version);
    if (lengths->head < KB_INDEX_HEAD_BYTES || lengths->entry < KB_INDEX_ENTRY_BYTES ||
        lengths->head + (uint64_t)lengths->entry * lengths->entry_count + KB_INDEX_TAIL_BYTES != payload_len)
        return kb_fail(err, KB_ERR_FORMAT, "frame index: %u entries do not fill it", lengths->entry_count);
    if (lengths->entry_count == 0 || index->partition < 0 || index->from < 0 || index->to <= index->from)
        return kb_fail(err, KB_ERR_FORMAT, "frame index: %u entries, partition %d, from %lld to %lld",
                       lengths->entry_count, index->partition, (long long)index->from, (long long)index->to);
    return KB_OK;
}

static void decode_entry(kb_cursor c, kb_frame_entry *entry)
{
    entry->position = kb_cursor_u64(&c);
    entry->stored_len = kb_cursor_u32(&c);
    entry->raw_len = kb_cursor_u32(&c);
    entry->first_offset = kb_cursor_i64(&c);
    entry->last_offset = kb_cursor_i64(&c);
    entry->min_timestamp = kb_cursor_i64(&c);
    entry->max_timestamp = kb_cursor_i64(&c);
    entry->record_count = kb_cursor_u32(&c);
    entry->crc32 = kb_cursor_u32(&c);
}

/* What one entry says about itself and the one before it. */
static bool is_entry_sound(const kb_frame_entry *entry, uint64_t position, int64_t offset_before)
{
    if (entry->position != position || entry->stored_len == 0 || entry->record_count == 0)
        return false;
    if (entry->first_offset <= offset_before || entry->last_offset < entry->first_offset ||
        entry->min_timestamp > entry->max_timestamp)
        return false;
    if (entry->record_count - 1u > (uint64_t)(entry->last_offset - entry->first_offset))
        return false;
    return entry->raw_len / (KB_RECORD_LEN_BYTES + KB_RECORD_MIN_BYTES) >= entry->record_count;
}

/* All entries against each other and against the head. */
static kb_code check_entries(kb_frame_index *index, kb_error *err)
{
    uint64_t position = KB_SEGMENT_HEADER_BYTES;
    uint64_t raw_bytes = 0;
    int64_t offset = index->from - 1;
    int64_t min_timestamp = INT64_MAX;
    int64_t max_timestamp = INT64_MIN;
    for (size_t i = 0; i < index->entry_count; i++) {
        const kb_frame_entry *entry = &index->entries[i];
        if (!is_entry_sound(entry, position, offset))
            return kb_fail(err, KB_ERR_FORMAT, "frame index: entry %zu does not fit the one before it", i);
        position += entry->stored_len;
        raw_bytes += entry->raw_len;
        offset = entry->last_offset;
        index->record_count += entry->record_count;
        if (entry->min_timestamp < min_timestamp)
            min_timestamp = entry->min_timestamp;
        if (entry->max_timestamp > max_timestamp)
            max_timestamp = entry->max_timestamp;
    }
    if (position - KB_SEGMENT_HEADER_BYTES != index->data_bytes || raw_bytes != index->raw_bytes)
        return kb_fail(err, KB_ERR_FORMAT, "frame index: lengths of the entries do not add up");
    if (min_timestamp != index->min_timestamp || max_timestamp != index->max_timestamp)
        return kb_fail(err, KB_ERR_FORMAT,
                       "frame index: timestamps of the entries are not those of its head");
    if (offset >= index->to)
        return kb_fail(err, KB_ERR_FORMAT, "frame index: offset %lld lies beyond its range",
                       (long long)offset);
    return KB_OK;
}

static kb_code decode_entries(const uint8_t *payload, const index_lengths *lengths, kb_frame_index *index,
                              kb_error *err)
{
    /* entry_count was checked against the bytes that are there, of which there are at most 16 MiB. */
    index->entries = kb_try_malloc(lengths->entry_count * sizeof *index->entries);
    if (index->entries == NULL)
        return kb_fail(err, KB_TEMPORARY_FAILURE, "no memory for %u frame index entries",
                       lengths->entry_count);
    index->entry_count = lengths->entry_count;
    const uint8_t *at = payload + lengths->head;
    for (size_t i = 0; i < index->entry_count; i++, at += lengths->entry)
        decode_entry(kb_cursor_of(at, KB_INDEX_ENTRY_BYTES), &index->entries[i]);
    return check_entries(index, err);
}

kb_code kb_frame_index_decode(const uint8_t *frame, size_t len, kb_frame_index *ret_index, kb_error *err)
{
    kb_code code = check_envelope(frame, len, err);
    if (code != KB_OK)
        return code;
    const uint8_t *payload = frame + KB_INDEX_FRAME_HEAD_BYTES;
    kb_frame_index index = {0};
    index_lengths lengths;
    code = decode_head(kb_cursor_of(payload, len - KB_INDEX_FRAME_HEAD_BYTES), &index, &lengths, err);
    if (code == KB_OK)
        code = decode_entries(payload, &lengths, &index, err);
    if (code != KB_OK) {
        kb_frame_index_done(&index);
        return code;
    }
    *ret_index = index;
    return KB_OK;
}

kb_code kb_frame_index_check(const kb_frame_index *index, const kb_segment_header *header,
                             uint64_t body_bytes, size_t frame_len, kb_error *err)
{
    if (frame_len > body_bytes || index->data_bytes != body_bytes - frame_len)
        return kb_fail(err, KB_ERR_FORMAT, "frame index: its frames do not fill the segment");
    int64_t first = index->entries[0].first_offset;
    int64_t last = index->entries[index->entry_count - 1].last_offset;
    if (header->record_count != index->record_count || header->first_offset != first ||
        header->last_offset != last)
        return kb_fail(
            err, KB_ERR_FORMAT,
            "frame index has %llu records of offsets %lld to %lld, the header %llu of %lld to %lld",
            (unsigned long long)index->record_count, (long long)first, (long long)last,
            (unsigned long long)header->record_count, (long long)header->first_offset,
            (long long)header->last_offset);
    return KB_OK;
}
