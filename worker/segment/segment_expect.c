#include "worker/segment/segment_expect.h"

#include <string.h>

static kb_code check_number(const char *what, int64_t expected, int64_t actual, kb_error *err)
{
    if (expected < 0 || expected == actual)
        return KB_OK;
    return kb_fail(err, KB_ERR_FORMAT, "%s is %lld, the backup says %lld", what, (long long)actual,
                   (long long)expected);
}

kb_code kb_expect_check_header(const kb_segment_expect *expect, const kb_segment_header *header,
                               kb_error *err)
{
    kb_code code = check_number("record count", expect->count, (int64_t)header->record_count, err);
    if (code == KB_OK)
        code = check_number("first offset", expect->start, header->first_offset, err);
    if (code == KB_OK)
        code = check_number("last offset", expect->end, header->last_offset, err);
    return code;
}

kb_code kb_expect_check_identity(const kb_segment_expect *expect, const kb_frame_index *index, kb_error *err)
{
    static const uint8_t unknown[KB_ID_BYTES];
    uint8_t key_hash[KB_KEY_HASH_BYTES];
    kb_frame_index_key_hash(expect->key, key_hash);
    kb_code code = check_number("partition", expect->partition, index->partition, err);
    if (code != KB_OK)
        return code;
    if (memcmp(key_hash, index->key_hash, sizeof key_hash) != 0)
        return kb_fail(err, KB_ERR_FORMAT, "was written under another key");
    if (expect->topic_id != NULL && memcmp(index->topic_id, unknown, KB_ID_BYTES) != 0 &&
        memcmp(expect->topic_id, unknown, KB_ID_BYTES) != 0 &&
        memcmp(index->topic_id, expect->topic_id, KB_ID_BYTES) != 0)
        return kb_fail(err, KB_ERR_FORMAT, "was written for another topic id");
    if (expect->from >= 0 && index->from > expect->from)
        return kb_fail(err, KB_ERR_FORMAT, "covers offsets from %lld on, the backup says from %lld",
                       (long long)index->from, (long long)expect->from);
    return check_number("end of its range", expect->to, index->to, err);
}

kb_code kb_expect_check_index(const kb_segment_expect *expect, const kb_frame_index *index, kb_error *err)
{
    int own_block = (index->flags & KB_INDEX_FLAG_OWN_BLOCK) != 0 ? 1 : 0;
    kb_code code = check_number("flag of bookkeeping headers", expect->own_block, own_block, err);
    if (code != KB_OK)
        return code;
    if (expect->raw_bytes > 0 && expect->raw_bytes != index->raw_bytes)
        return kb_fail(err, KB_ERR_FORMAT, "has %llu bytes of records, the backup says %llu",
                       (unsigned long long)index->raw_bytes, (unsigned long long)expect->raw_bytes);
    if (expect->has_timestamps &&
        (expect->min_timestamp != index->min_timestamp || expect->max_timestamp != index->max_timestamp))
        return kb_fail(err, KB_ERR_FORMAT, "has timestamps %lld to %lld, the backup says %lld to %lld",
                       (long long)index->min_timestamp, (long long)index->max_timestamp,
                       (long long)expect->min_timestamp, (long long)expect->max_timestamp);
    if (expect->digest != NULL && !kb_digest_is_equal(expect->digest, &index->digest))
        return kb_fail(err, KB_ERR_FORMAT, "its record digest is not the one in the backup");
    return KB_OK;
}
