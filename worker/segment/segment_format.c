#include "worker/segment/segment_format.h"

#include <string.h>

#include "common/base/encode.h"
#include "common/base/mem.h"

static const uint8_t header_magic[4] = {'K', 'B', 'A', 'K'};
static const uint8_t footer_magic[4] = {'B', 'K', 'A', 'E'};
static const char *const codec_names[] = {"none", "zstd", "lz4"};
#define KB_SEGMENT_VERSION 1

const char *kb_codec_name(kb_codec codec)
{
    return (size_t)codec < KB_ARRAY_LEN(codec_names) ? codec_names[codec] : "unknown";
}

bool kb_codec_parse(const char *name, kb_codec *ret_codec)
{
    for (size_t i = 0; i < KB_ARRAY_LEN(codec_names); i++) {
        if (strcmp(name, codec_names[i]) == 0) {
            *ret_codec = (kb_codec)i;
            return true;
        }
    }
    return false;
}

void kb_segment_header_encode(const kb_segment_header *header, uint8_t to[KB_SEGMENT_HEADER_BYTES])
{
    uint8_t *at = kb_put_bytes(to, header_magic, sizeof header_magic);
    *at++ = KB_SEGMENT_VERSION;
    *at++ = (uint8_t)header->codec;
    at = kb_put_u16(at, 0);
    at = kb_put_u64(at, header->record_count);
    at = kb_put_i64(at, header->first_offset);
    kb_put_i64(at, header->last_offset);
}

bool kb_segment_has_magic(const void *data, size_t len)
{
    return len >= sizeof header_magic && memcmp(data, header_magic, sizeof header_magic) == 0;
}

static kb_code check_header_counts(const kb_segment_header *header, kb_error *err)
{
    if (header->record_count == 0) {
        if (header->first_offset != -1 || header->last_offset != -1)
            return kb_fail(err, KB_ERR_FORMAT, "header counts no records but has offsets %lld to %lld",
                           (long long)header->first_offset, (long long)header->last_offset);
        return KB_OK;
    }
    if (header->first_offset < 0 || header->last_offset < header->first_offset)
        return kb_fail(err, KB_ERR_FORMAT, "header has offsets %lld to %lld", (long long)header->first_offset,
                       (long long)header->last_offset);
    /* Offsets are distinct, so there are at most as many records as offsets. */
    if (header->record_count - 1 > (uint64_t)(header->last_offset - header->first_offset))
        return kb_fail(err, KB_ERR_FORMAT, "header counts %llu records in offsets %lld to %lld",
                       (unsigned long long)header->record_count, (long long)header->first_offset,
                       (long long)header->last_offset);
    return KB_OK;
}

kb_code kb_segment_header_decode(const uint8_t from[KB_SEGMENT_HEADER_BYTES], kb_segment_header *ret_header,
                                 kb_error *err)
{
    if (!kb_segment_has_magic(from, KB_SEGMENT_HEADER_BYTES))
        return kb_fail(err, KB_ERR_FORMAT, "does not begin with \"KBAK\"");
    if (from[4] != KB_SEGMENT_VERSION)
        return kb_fail(err, KB_ERR_FORMAT, "has format version %u and needs a newer reader", from[4]);
    if (from[5] > KB_CODEC_LZ4)
        return kb_fail(err, KB_ERR_FORMAT, "has unknown codec %u", from[5]);
    kb_cursor c = kb_cursor_of(from + 8, KB_SEGMENT_HEADER_BYTES - 8);
    kb_segment_header header = {.codec = (kb_codec)from[5]};
    header.record_count = kb_cursor_u64(&c);
    header.first_offset = kb_cursor_i64(&c);
    header.last_offset = kb_cursor_i64(&c);
    kb_code code = check_header_counts(&header, err);
    if (code != KB_OK)
        return code;
    *ret_header = header;
    return KB_OK;
}

void kb_segment_footer_encode(uint32_t crc32, uint8_t to[KB_SEGMENT_FOOTER_BYTES])
{
    kb_put_bytes(kb_put_u32(to, crc32), footer_magic, sizeof footer_magic);
}

kb_code kb_segment_footer_decode(const uint8_t from[KB_SEGMENT_FOOTER_BYTES], uint32_t *ret_crc32,
                                 kb_error *err)
{
    if (memcmp(from + 4, footer_magic, sizeof footer_magic) != 0)
        return kb_fail(err, KB_ERR_FORMAT, "does not end with \"BKAE\" (cut off?)");
    kb_cursor c = kb_cursor_of(from, KB_SEGMENT_FOOTER_BYTES);
    *ret_crc32 = kb_cursor_u32(&c);
    return KB_OK;
}

/* ---- reading records ---- */

/* A length of -1 is null; the pointer of an empty one is not. */
static bool take_sized(kb_cursor *c, const uint8_t **ret_data, int32_t *ret_len)
{
    int32_t len = kb_cursor_i32(c);
    if (c->failed || len < -1)
        return false;
    *ret_len = len;
    *ret_data = len < 0 ? NULL : kb_cursor_take(c, (size_t)len);
    return !c->failed;
}

static bool take_header(kb_cursor *c, kb_header_view *header)
{
    header->name_len = kb_cursor_u16(c);
    header->name = (const char *)kb_cursor_take(c, header->name_len);
    return !c->failed && take_sized(c, &header->value, &header->value_len);
}

static kb_code decode_body(kb_cursor *c, kb_record_view *record, kb_error *err)
{
    record->timestamp = kb_cursor_i64(c);
    record->offset = kb_cursor_i64(c);
    if (record->offset < 0)
        return kb_fail(err, KB_ERR_FORMAT, "record has offset %lld", (long long)record->offset);
    if (!take_sized(c, &record->key, &record->key_len))
        return kb_fail(err, KB_ERR_FORMAT, "record %lld: length of the key is impossible",
                       (long long)record->offset);
    if (!take_sized(c, &record->value, &record->value_len))
        return kb_fail(err, KB_ERR_FORMAT, "record %lld: length of the value is impossible",
                       (long long)record->offset);
    record->header_count = kb_cursor_u16(c);
    record->headers = c->at;
    for (uint32_t i = 0; i < record->header_count && !c->failed; i++) {
        kb_header_view header;
        if (!take_header(c, &header))
            return kb_fail(err, KB_ERR_FORMAT, "record %lld: header %u does not fit into the record",
                           (long long)record->offset, i);
    }
    if (c->failed)
        return kb_fail(err, KB_ERR_FORMAT, "record %lld: ends before its headers", (long long)record->offset);
    record->headers_len = (size_t)(c->at - record->headers);
    return KB_OK;
}

kb_code kb_record_decode(kb_cursor *area, kb_record_view *ret_record, kb_error *err)
{
    uint32_t total_len = kb_cursor_u32(area);
    if (area->failed)
        return kb_fail(err, KB_ERR_FORMAT, "record area ends inside the length of a record");
    if (total_len < KB_RECORD_MIN_BYTES || total_len > KB_RECORD_MAX_BYTES)
        return kb_fail(err, KB_ERR_FORMAT, "record has a length of %u bytes", total_len);
    const uint8_t *raw = kb_cursor_take(area, total_len);
    if (raw == NULL)
        return kb_fail(err, KB_ERR_FORMAT, "record of %u bytes reaches beyond the record area", total_len);
    kb_cursor c = kb_cursor_of(raw, total_len);
    kb_record_view record = {.raw = raw, .raw_len = total_len};
    kb_code code = decode_body(&c, &record, err);
    if (code != KB_OK)
        return code;
    *ret_record = record;
    return KB_OK;
}

kb_header_iter kb_record_headers(const kb_record_view *record)
{
    return (kb_header_iter){kb_cursor_of(record->headers, record->headers_len), record->header_count};
}

bool kb_header_next(kb_header_iter *iter, kb_header_view *ret_header)
{
    kb_header_view header;
    if (iter->left == 0 || !take_header(&iter->at, &header))
        return false;
    iter->left--;
    *ret_header = header;
    return true;
}

/* ---- bookkeeping headers ---- */

static bool is_named(const kb_header_view *header, const char *name, size_t name_len)
{
    return header->name_len == name_len && memcmp(header->name, name, name_len) == 0;
}
#define IS_NAMED(header, literal) is_named((header), (literal), sizeof(literal) - 1)

static bool holds_number(const kb_header_view *header, int64_t number)
{
    return header->value_len == (int32_t)sizeof number && memcmp(header->value, &number, sizeof number) == 0;
}

/* Whether the headers from `at` on are an own block of exactly `count` headers. */
static bool is_own_block(const kb_record_view *record, kb_cursor at, uint32_t count)
{
    kb_header_iter iter = {at, count};
    kb_header_view header;
    if (!kb_header_next(&iter, &header) || !IS_NAMED(&header, KB_HEADER_ORIGINAL_OFFSET) ||
        !holds_number(&header, record->offset))
        return false;
    if (!kb_header_next(&iter, &header) || !IS_NAMED(&header, KB_HEADER_ORIGINAL_TIMESTAMP) ||
        !holds_number(&header, record->timestamp))
        return false;
    return count == 2 || (kb_header_next(&iter, &header) && IS_NAMED(&header, KB_HEADER_SOURCE_CLUSTER));
}

kb_own_block kb_own_block_find(const kb_record_view *record)
{
    const kb_own_block none = {0, 0};
    if (record->header_count < 2)
        return none;
    /* The list can only be walked forward: step over all but the last three, then over one more. */
    kb_header_iter iter = kb_record_headers(record);
    kb_header_view header;
    while (iter.left > 3 && kb_header_next(&iter, &header))
        ;
    if (iter.left == 3) {
        if (is_own_block(record, iter.at, 3))
            return (kb_own_block){3, iter.at.left};
        (void)kb_header_next(&iter, &header);
    }
    if (is_own_block(record, iter.at, 2))
        return (kb_own_block){2, iter.at.left};
    return none;
}

void kb_own_block_strip(kb_record_view *record, kb_own_block_mode mode)
{
    if (mode == KB_OWN_BLOCK_NONE)
        return;
    kb_own_block block = kb_own_block_find(record);
    record->header_count -= block.header_count;
    record->headers_len -= block.len;
}

bool kb_header_offset_parse(const uint8_t *value, int32_t value_len, int64_t *ret_offset)
{
    if (value_len == (int32_t)sizeof *ret_offset) {
        memcpy(ret_offset, value, sizeof *ret_offset);
        return true;
    }
    return value_len > 0 && kb_parse_i64_len((const char *)value, (size_t)value_len, ret_offset);
}

bool kb_record_original_offset(const kb_record_view *record, int64_t *ret_offset)
{
    kb_header_iter iter = kb_record_headers(record);
    kb_header_view header;
    kb_header_view last = {.value_len = -1};
    while (kb_header_next(&iter, &header)) {
        if (IS_NAMED(&header, KB_HEADER_ORIGINAL_OFFSET))
            last = header;
    }
    return kb_header_offset_parse(last.value, last.value_len, ret_offset);
}

/* ---- writing records ---- */

#define SIZED_HEAD_BYTES 4u /* an i32 length */
#define NAME_HEAD_BYTES 2u  /* a u16 length */
#define NUMBER_HEADER_BYTES(name) (NAME_HEAD_BYTES + sizeof(name) - 1 + SIZED_HEAD_BYTES + sizeof(int64_t))

static uint64_t sized_bytes(int32_t len)
{
    return SIZED_HEAD_BYTES + (len > 0 ? (uint64_t)len : 0);
}

static uint64_t own_block_bytes(const kb_own_block_opts *own)
{
    if (own == NULL)
        return 0;
    uint64_t bytes =
        NUMBER_HEADER_BYTES(KB_HEADER_ORIGINAL_OFFSET) + NUMBER_HEADER_BYTES(KB_HEADER_ORIGINAL_TIMESTAMP);
    if (own->source_cluster != NULL)
        bytes += NAME_HEAD_BYTES + sizeof KB_HEADER_SOURCE_CLUSTER - 1 + SIZED_HEAD_BYTES +
                 own->source_cluster_len;
    return bytes;
}

static size_t own_block_count(const kb_own_block_opts *own)
{
    if (own == NULL)
        return 0;
    return own->source_cluster != NULL ? 3 : 2;
}

static kb_code add_headers_size(const kb_record_in *record, uint64_t *bytes, kb_error *err)
{
    for (size_t i = 0; i < record->header_count; i++) {
        const kb_header_in *header = &record->headers[i];
        if (header->name_len > KB_HEADER_NAME_MAX_BYTES)
            return kb_fail(err, KB_RECORD_INVALID,
                           "record at offset %lld: name of header %zu has %zu bytes, a segment holds %u",
                           (long long)record->offset, i, header->name_len, KB_HEADER_NAME_MAX_BYTES);
        if (!kb_utf8_valid(header->name, header->name_len))
            return kb_fail(err, KB_RECORD_INVALID, "record at offset %lld: name of header %zu is not UTF-8",
                           (long long)record->offset, i);
        if (header->value_len < -1)
            return kb_fail(err, KB_RECORD_INVALID, "record at offset %lld: header %zu has length %d",
                           (long long)record->offset, i, header->value_len);
        *bytes += NAME_HEAD_BYTES + header->name_len + sized_bytes(header->value_len);
    }
    return KB_OK;
}

kb_code kb_record_encoded_size(const kb_record_in *record, const kb_own_block_opts *own, size_t *ret_size,
                               kb_error *err)
{
    size_t header_count = record->header_count + own_block_count(own);
    if (header_count > KB_RECORD_HEADER_COUNT_MAX)
        return kb_fail(err, KB_RECORD_INVALID, "record at offset %lld: %zu headers, a segment holds %u",
                       (long long)record->offset, header_count, KB_RECORD_HEADER_COUNT_MAX);
    if (record->offset < 0 || record->key_len < -1 || record->value_len < -1)
        return kb_fail(err, KB_RECORD_INVALID, "record at offset %lld: key length %d, value length %d",
                       (long long)record->offset, record->key_len, record->value_len);
    uint64_t bytes = 2 * sizeof(int64_t) + sized_bytes(record->key_len) + sized_bytes(record->value_len) +
                     sizeof(uint16_t) + own_block_bytes(own);
    kb_code code = add_headers_size(record, &bytes, err);
    if (code != KB_OK)
        return code;
    if (bytes > KB_RECORD_MAX_BYTES)
        return kb_fail(err, KB_RECORD_INVALID, "record at offset %lld: %llu bytes, a segment holds %u",
                       (long long)record->offset, (unsigned long long)bytes, KB_RECORD_MAX_BYTES);
    *ret_size = KB_RECORD_LEN_BYTES + (size_t)bytes;
    return KB_OK;
}

static uint8_t *put_sized(uint8_t *to, const void *data, int32_t len)
{
    to = kb_put_i32(to, len);
    return len > 0 ? kb_put_bytes(to, data, (size_t)len) : to;
}

static uint8_t *put_header(uint8_t *to, const kb_header_in *header)
{
    to = kb_put_u16(to, (uint16_t)header->name_len);
    to = kb_put_bytes(to, header->name, header->name_len);
    return put_sized(to, header->value, header->value_len);
}

static kb_header_in header_of(const char *name, const void *value, size_t value_len)
{
    return (kb_header_in){name, strlen(name), value, (int32_t)value_len};
}

static uint8_t *put_own_block(uint8_t *to, const kb_record_in *record, const kb_own_block_opts *own)
{
    kb_header_in header = header_of(KB_HEADER_ORIGINAL_OFFSET, &record->offset, sizeof record->offset);
    to = put_header(to, &header);
    header = header_of(KB_HEADER_ORIGINAL_TIMESTAMP, &record->timestamp, sizeof record->timestamp);
    to = put_header(to, &header);
    if (own->source_cluster == NULL)
        return to;
    header = header_of(KB_HEADER_SOURCE_CLUSTER, own->source_cluster, own->source_cluster_len);
    return put_header(to, &header);
}

uint8_t *kb_record_encode(uint8_t *to, const kb_record_in *record, const kb_own_block_opts *own)
{
    uint8_t *at = to + KB_RECORD_LEN_BYTES;
    at = kb_put_i64(at, record->timestamp);
    at = kb_put_i64(at, record->offset);
    at = put_sized(at, record->key, record->key_len);
    at = put_sized(at, record->value, record->value_len);
    at = kb_put_u16(at, (uint16_t)(record->header_count + own_block_count(own)));
    for (size_t i = 0; i < record->header_count; i++)
        at = put_header(at, &record->headers[i]);
    if (own != NULL)
        at = put_own_block(at, record, own);
    kb_put_u32(to, (uint32_t)(at - to - KB_RECORD_LEN_BYTES));
    return at;
}

void kb_restore_headers_init(kb_restore_headers *headers, int64_t offset, int64_t timestamp,
                             int32_t partition)
{
    kb_put_i64(headers->offset, offset);
    kb_put_i64(headers->timestamp, timestamp);
    kb_put_i32(headers->partition, partition);
    headers->header[0] = header_of(KB_HEADER_ORIGINAL_OFFSET, headers->offset, sizeof headers->offset);
    headers->header[1] =
        header_of(KB_HEADER_ORIGINAL_TIMESTAMP, headers->timestamp, sizeof headers->timestamp);
    headers->header[2] = header_of(KB_HEADER_SOURCE_PARTITION, headers->partition, sizeof headers->partition);
}
