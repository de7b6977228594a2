#include "worker/restore/source_reader.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "worker/catalog/layout.h"
#include "worker/segment/segment_reader.h"

struct kb_source_reader {
    kb_source_reader_options options;
    const kb_restore_source *source;
    kb_segment_reader *reader;
    size_t next_segment;
    bool is_open;
    char *key; /* of the open segment, owned */
    kb_window_verdict verdict;
    int64_t last_offset; /* of the last record handed out: overlapping segments repeat records */
    int64_t filtered;
};

kb_source_reader *kb_source_reader_new(const kb_source_reader_options *options)
{
    kb_source_reader *reader = kb_calloc(1, sizeof *reader);
    kb_segment_reader_opts opts = {
        .held_bytes = options->held_bytes,
        .range_bytes = options->range_bytes,
        .max_area_bytes = options->max_area_bytes,
    };
    reader->options = *options;
    reader->source = &options->plan->sources[options->source];
    reader->reader = kb_segment_reader_new(&opts);
    reader->last_offset = -1;
    return reader;
}

void kb_source_reader_free(kb_source_reader *owned_reader)
{
    if (owned_reader == NULL)
        return;
    kb_segment_reader_free(owned_reader->reader);
    free(owned_reader->key);
    free(owned_reader);
}

/* ---- opening ---- */

static kb_code get_range(void *ctx, uint64_t offset, void *to, size_t len, kb_error *err)
{
    const kb_source_reader *reader = ctx;
    return kb_storage_get_range(reader->options.storage, reader->key, offset, to, len, err);
}

/* A segment that is gone while we read: pruned under us, or lost. */
static kb_code explain_missing(const kb_source_reader *reader, kb_error *err)
{
    const char *backup_id = reader->options.plan->backup->backup_id;
    KB_AUTOFREE char *pruned = kb_layout_pruned_key(backup_id);
    KB_AUTO_ERROR(ignored);
    kb_object_info info;
    if (kb_storage_head(reader->options.storage, pruned, &info, &ignored) == KB_OK)
        return kb_wrap_as(err, KB_BACKUP_PRUNED, "backup '%s' was pruned while it was being restored",
                          backup_id);
    return kb_wrap_as(err, KB_BACKUP_CORRUPT, "a segment of backup '%s' is missing", backup_id);
}

static kb_code object_size(const kb_source_reader *reader, const kb_segment_entry *segment,
                           uint64_t *ret_size, kb_error *err)
{
    *ret_size = (uint64_t)segment->bytes;
    if (segment->bytes > 0)
        return KB_OK;
    kb_object_info info;
    if (kb_storage_head(reader->options.storage, reader->key, &info, err) != KB_OK)
        return err->code;
    *ret_size = info.size_bytes;
    return KB_OK;
}

static kb_segment_expect expectation(const kb_source_reader *reader, const kb_segment_entry *segment)
{
    const kb_backup *backup = reader->options.plan->backup;
    const kb_topic_entry *topic = reader->source->topic;
    kb_segment_expect expect = KB_SEGMENT_EXPECT_INIT;
    expect.key = reader->key;
    expect.size = (uint64_t)segment->bytes;
    expect.raw_bytes = (uint64_t)segment->raw_bytes;
    expect.count = segment->count;
    expect.start = segment->start;
    expect.end = segment->end;
    if (backup->foreign)
        return expect;
    expect.from = segment->from;
    expect.to = segment->to;
    expect.partition = reader->source->partition->partition;
    expect.has_timestamps = true;
    expect.min_timestamp = segment->min_ts;
    expect.max_timestamp = segment->max_ts;
    expect.own_block = backup->content.offset_headers ? 1 : 0;
    if (segment->has_hashes) {
        expect.sha256 = segment->sha256;
        expect.digest = &segment->digest;
    }
    if (topic->has_topic_id)
        expect.topic_id = topic->topic_id;
    return expect;
}

static kb_code open_segment(kb_source_reader *reader, const kb_segment_entry *segment, kb_error *err)
{
    const kb_restore_source *source = reader->source;
    free(reader->key);
    reader->key = kb_segment_key(reader->options.plan->backup, source->topic, source->partition, segment);
    kb_segment_expect expect = expectation(reader, segment);
    kb_segment_source object = {.ctx = reader, .get_range = get_range};
    kb_code code = object_size(reader, segment, &object.size, err);
    if (code == KB_OK)
        code = kb_segment_reader_open(reader->reader, &object, &expect, err);
    if (code == KB_ERR_NOT_FOUND)
        return explain_missing(reader, err);
    reader->is_open = code == KB_OK;
    return code;
}

static const kb_segment_entry *next_segment(kb_source_reader *reader)
{
    const kb_restore_source *source = reader->source;
    for (; reader->next_segment < source->partition->segment_count; reader->next_segment++) {
        reader->verdict = (kb_window_verdict)source->verdicts[reader->next_segment];
        if (reader->verdict != KB_WINDOW_NONE)
            return &source->partition->segments[reader->next_segment];
        reader->filtered += source->partition->segments[reader->next_segment].count;
    }
    return NULL;
}

/* ---- passing over ---- */

static bool has_true_bounds(const kb_source_reader *reader)
{
    return !reader->options.plan->backup->foreign;
}

/* Of records with known bounds. */
static kb_window_verdict judge(const kb_source_reader *reader, const kb_area_bounds *bounds)
{
    if (reader->verdict == KB_WINDOW_ALL)
        return KB_WINDOW_ALL;
    return kb_window_judge(&reader->options.plan->window, bounds->min_timestamp, bounds->max_timestamp);
}

static void skip_in_segment(kb_source_reader *reader, int64_t count, int64_t *skipped)
{
    kb_area_bounds bounds;
    while (*skipped < count && kb_segment_reader_peek(reader->reader, &bounds)) {
        kb_window_verdict verdict = judge(reader, &bounds);
        if (verdict == KB_WINDOW_SOME || (verdict == KB_WINDOW_ALL && bounds.record_count > count - *skipped))
            return;
        if (verdict == KB_WINDOW_ALL)
            *skipped += bounds.record_count;
        else
            reader->filtered += bounds.record_count;
        kb_segment_reader_skip(reader->reader);
    }
}

static bool has_index(const kb_source_reader *reader)
{
    return kb_segment_reader_index(reader->reader) != NULL;
}

kb_code kb_source_reader_skip(kb_source_reader *reader, int64_t count, int64_t *ret_skipped, kb_error *err)
{
    int64_t skipped = 0;
    *ret_skipped = 0;
    while (has_true_bounds(reader) && skipped < count) {
        if (reader->is_open) {
            skip_in_segment(reader, count, &skipped);
            kb_area_bounds bounds;
            if (!has_index(reader) || kb_segment_reader_peek(reader->reader, &bounds))
                break;
            reader->is_open = false; /* all its frames were passed over */
            continue;
        }
        const kb_segment_entry *segment = next_segment(reader);
        if (segment == NULL)
            break;
        bool whole = reader->verdict == KB_WINDOW_ALL && segment->count <= count - skipped;
        if (whole)
            skipped += segment->count;
        else if (open_segment(reader, segment, err) != KB_OK)
            return err->code;
        reader->next_segment++;
    }
    *ret_skipped = skipped;
    return KB_OK;
}

/* ---- reading ---- */

/* Frames of the open segment that lie outside the window go by unseen. */
static void skip_filtered(kb_source_reader *reader)
{
    kb_area_bounds bounds;
    while (has_true_bounds(reader) && kb_segment_reader_peek(reader->reader, &bounds) &&
           judge(reader, &bounds) == KB_WINDOW_NONE) {
        reader->filtered += bounds.record_count;
        kb_segment_reader_skip(reader->reader);
    }
}

kb_code kb_source_reader_next(kb_source_reader *reader, kb_parcel *parcel, bool *ret_has, bool *ret_all,
                              kb_error *err)
{
    *ret_has = false;
    while (!*ret_has) {
        if (!reader->is_open) {
            const kb_segment_entry *segment = next_segment(reader);
            if (segment == NULL)
                return KB_OK;
            if (open_segment(reader, segment, err) != KB_OK)
                return err->code;
            reader->next_segment++;
        }
        skip_filtered(reader);
        kb_code code = kb_segment_reader_next(reader->reader, &parcel->area, ret_has, err);
        if (code == KB_ERR_NOT_FOUND)
            return explain_missing(reader, err);
        if (code != KB_OK)
            return code;
        if (!*ret_has)
            reader->is_open = false;
    }
    *ret_all = !reader->options.plan->backup->has_overlap &&
               (reader->verdict == KB_WINDOW_ALL || judge(reader, &parcel->area.bounds) == KB_WINDOW_ALL);
    return KB_OK;
}

bool kb_source_reader_wants(kb_source_reader *reader, const kb_record_view *record)
{
    const kb_restore_plan *plan = reader->options.plan;
    if (plan->backup->has_overlap) {
        if (record->offset <= reader->last_offset)
            return false;
        reader->last_offset = record->offset;
    }
    if (kb_window_has(&plan->window, record->timestamp))
        return true;
    reader->filtered++;
    return false;
}

kb_own_block_mode kb_source_reader_own_block(const kb_source_reader *reader)
{
    return kb_segment_reader_own_block(reader->reader);
}

int64_t kb_source_reader_filtered(const kb_source_reader *reader)
{
    return reader->filtered;
}

size_t kb_source_reader_peek_bytes(const kb_source_reader *reader)
{
    kb_area_bounds bounds;
    return reader->is_open && kb_segment_reader_peek(reader->reader, &bounds) ? bounds.raw_len : 0;
}
