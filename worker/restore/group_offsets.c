#include "worker/restore/group_offsets.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "worker/kafka/kafka_range.h"
#include "worker/offsets/translate.h"
#include "worker/restore/route.h"
#include "worker/restore/stream.h"

#define KB_TOUCH_EVERY 65536
#define KB_READ_BACK_MS (24LL * 3600 * 1000)

/* A wanted answer: where a group goes on in a target partition, as an index into the stream first. */
typedef struct cell {
    size_t group;   /* index into sources */
    size_t target;  /* index into the plan's targets */
    int64_t source; /* fixed sources: its offset; merged: -1 */
    int64_t index;
    bool is_resolved;
} cell;

typedef struct walk {
    kb_group_offsets *offsets;
    const kb_restore_unit *unit;
    kb_stream *stream;
    cell *cells; /* of the unit */
    size_t count;
    size_t capacity;
    kb_translator translator; /* fixed sources */
    int64_t index;            /* of the next record; fixed sources */
    /* The run that is being collected. */
    int64_t run_source, run_index, run_count, run_first_ts, run_last_ts;
} walk;

void kb_group_offsets_done(kb_group_offsets *offsets)
{
    kb_group_set_done(&offsets->targets);
    kb_group_set_done(&offsets->renamed);
    kb_offset_map_done(&offsets->map);
}

static bool is_transactional(const kb_group_offsets *offsets)
{
    return offsets->settings->config->restore.delivery == KB_CONFIG_TRANSACTIONAL;
}

/* One source, one target. */
static bool is_plain(const kb_restore_unit *unit)
{
    return unit->route == KB_ROUTE_FIXED && unit->source_count <= 1;
}

/* ---- what is wanted ---- */

static void add_cell(walk *w, size_t group, size_t target, int64_t source)
{
    w->cells = kb_grow(w->cells, w->count, &w->capacity, sizeof *w->cells);
    w->cells[w->count++] = (cell){group, target, source, 0, false};
}

static int64_t committed_of(const kb_group_entry *entry, const kb_restore_source *source)
{
    return kb_group_entry_offset(entry, source->topic->name, source->partition->partition);
}

static void find_cells(walk *w)
{
    const kb_restore_plan *plan = w->offsets->plan;
    const kb_group_set *sources = w->offsets->sources;
    for (size_t g = 0; sources != NULL && g < sources->count; g++) {
        bool any = false;
        int64_t offset = -1;
        for (size_t s = 0; s < w->unit->source_count; s++) {
            offset = committed_of(&sources->groups[g], &plan->sources[w->unit->sources[s]]);
            any = any || offset >= 0;
        }
        for (size_t t = 0; any && t < w->unit->target_count; t++)
            add_cell(w, g, w->unit->first_target + t, is_plain(w->unit) ? offset : -1);
    }
}

/* ---- one source ---- */

static void end_run(walk *w)
{
    if (w->run_count == 0)
        return;
    kb_translator_run(&w->translator, w->run_source, w->run_index, w->run_count);
    if (w->offsets->wants_map && !is_transactional(w->offsets))
        kb_offset_map_run(&w->offsets->map, w->run_source,
                          w->offsets->starts[w->unit->first_target] + w->run_index, w->run_count,
                          w->run_first_ts, w->run_last_ts);
    w->run_count = 0;
}

static void add_run(walk *w, int64_t source, int64_t count, int64_t first_ts, int64_t last_ts)
{
    if (w->run_count > 0 && w->run_source + w->run_count != source)
        end_run(w);
    if (w->run_count == 0) {
        w->run_source = source;
        w->run_index = w->index;
        w->run_first_ts = first_ts;
    }
    w->run_count += count;
    w->run_last_ts = last_ts;
    w->index += count;
}

static kb_code check_stop(const walk *w, kb_error *err)
{
    kb_progress_touch(w->offsets->settings->progress);
    if (kb_stop_requested(w->offsets->settings->stop))
        return kb_fail(err, KB_ERR_STOPPED, "stopped while translating the offsets of groups");
    return KB_OK;
}

/* Decodes `count` records (or all that are left, count < 0). */
static kb_code decode(walk *w, int64_t count, kb_error *err)
{
    for (int64_t n = 0; n != count; n++) {
        kb_stream_record record;
        bool has = false;
        if (kb_stream_next(w->stream, &record, &has, err) != KB_OK)
            return err->code;
        if (!has)
            return KB_OK;
        add_run(w, record.source_offset, 1, record.out.timestamp, record.out.timestamp);
        if (n % KB_TOUCH_EVERY == 0 && check_stop(w, err) != KB_OK)
            return err->code;
    }
    return KB_OK;
}

/* A segment without holes that is wholly wanted needs no decoding. */
static kb_code pass_segment(walk *w, const kb_segment_entry *segment, kb_error *err)
{
    int64_t skipped = 0;
    if (kb_stream_skip(w->stream, segment->count, &skipped, err) != KB_OK)
        return err->code;
    if (skipped > 0)
        add_run(w, segment->start, skipped, segment->min_ts, segment->max_ts);
    return decode(w, segment->count - skipped, err);
}

static kb_code walk_source(walk *w, const kb_restore_source *source, kb_error *err)
{
    const kb_partition_entry *partition = source->partition;
    bool counts_hold = !w->offsets->plan->backup->foreign && !w->offsets->plan->backup->has_overlap;
    for (size_t i = 0; i < partition->segment_count && counts_hold; i++) {
        const kb_segment_entry *segment = &partition->segments[i];
        if (source->verdicts[i] == KB_WINDOW_NONE)
            continue;
        if (source->verdicts[i] != KB_WINDOW_ALL)
            break;
        bool is_dense = segment->count == segment->end - segment->start + 1;
        kb_code code = is_dense ? pass_segment(w, segment, err) : decode(w, segment->count, err);
        if (code != KB_OK || check_stop(w, err) != KB_OK)
            return err->code;
    }
    return decode(w, -1, err);
}

static kb_code walk_plain(walk *w, kb_error *err)
{
    KB_AUTOFREE kb_wanted_offset *wanted = kb_calloc(w->count + 1, sizeof *wanted);
    for (size_t i = 0; i < w->count; i++)
        wanted[i].source = w->cells[i].source;
    kb_translator_init(&w->translator, wanted, w->count);
    const kb_restore_target *target = &w->offsets->plan->targets[w->unit->first_target];
    if (w->offsets->wants_map && !is_transactional(w->offsets))
        (void)kb_offset_map_add(&w->offsets->map, w->offsets->plan->topics[target->topic].name,
                                target->partition);
    int64_t covered = 0;
    if (w->unit->source_count > 0) {
        const kb_restore_source *source = &w->offsets->plan->sources[w->unit->sources[0]];
        covered =
            source->partition->to > source->partition->cut ? source->partition->to : source->partition->cut;
        if (walk_source(w, source, err) != KB_OK)
            return err->code;
    }
    end_run(w);
    kb_translator_end(&w->translator, w->index, covered);
    for (size_t i = 0; i < w->count; i++) {
        const kb_wanted_offset *found = kb_translator_find(&w->translator, w->cells[i].source);
        w->cells[i].index = found != NULL ? found->target : w->index;
        w->offsets->beyond += found != NULL && found->is_beyond ? 1 : 0;
    }
    return KB_OK;
}

/* ---- several sources ---- */

static kb_code walk_merged(walk *w, kb_error *err)
{
    kb_route_state route = {0};
    KB_AUTOFREE int64_t *lengths = kb_calloc(w->unit->target_count + 1, sizeof *lengths);
    size_t open = w->count;
    for (int64_t n = 0; open > 0; n++) {
        kb_stream_record record;
        bool has = false;
        if ((n % KB_TOUCH_EVERY == 0 && check_stop(w, err) != KB_OK) ||
            kb_stream_next(w->stream, &record, &has, err) != KB_OK)
            return err->code;
        if (!has)
            break;
        size_t t =
            kb_route_pick(w->unit->route, w->unit->target_count, record.out.key, record.out.key_len, &route);
        for (size_t i = 0; i < w->count; i++) {
            cell *c = &w->cells[i];
            if (c->is_resolved || c->target != w->unit->first_target + t ||
                record.source_offset < committed_of(&w->offsets->sources->groups[c->group], record.source))
                continue;
            c->is_resolved = true;
            c->index = lengths[t];
            open--;
        }
        lengths[t]++;
    }
    /* What was not found has been consumed to the end. */
    for (size_t i = 0; i < w->count; i++)
        if (!w->cells[i].is_resolved)
            w->cells[i].index = INT64_MAX;
    return KB_OK;
}

/* ---- from index to offset ---- */

typedef struct read_back {
    cell **cells; /* of one target, ascending by index */
    size_t count;
    size_t next;
    int64_t index;
    int64_t *offsets;
} read_back;

static bool take_back(void *ctx, const kb_source_record *record)
{
    read_back *r = ctx;
    while (r->next < r->count && r->cells[r->next]->index == r->index)
        r->offsets[r->next++] = record->offset;
    r->index++;
    return r->next < r->count;
}

static int by_index(const void *a, const void *b)
{
    int64_t left = (*(cell *const *)a)->index;
    int64_t right = (*(cell *const *)b)->index;
    return left < right ? -1 : left > right;
}

/* Transactions leave markers between the records: their offsets are found by counting what can be read. */
static kb_code find_back(kb_group_offsets *offsets, size_t target, cell **cells, size_t count, kb_error *err)
{
    const kb_restore_target *place = &offsets->plan->targets[target];
    const char *topic = offsets->plan->topics[place->topic].name;
    int64_t end = offsets->view->targets[target].end;
    KB_AUTOFREE int64_t *found = kb_calloc(count + 1, sizeof *found);
    qsort(cells, count, sizeof(cell *), by_index);
    read_back r = {cells, count, 0, 0, found};
    KB_CLEANUP(kb_kafka_reader_free_at) kb_kafka_reader *reader = NULL;
    if (kb_kafka_reader_new(offsets->settings->kafka, &(kb_kafka_reader_options){0}, &reader, err) != KB_OK)
        return err->code;
    kb_kafka_range range = {.topic = topic,
                            .partition = place->partition,
                            .from = offsets->view->targets[target].log_start,
                            .to = end,
                            .deadline_ms = kb_clock_boot_ms() + KB_READ_BACK_MS,
                            .stop = offsets->settings->stop};
    if (kb_kafka_read_range(reader, &range, take_back, &r, NULL, err) != KB_OK)
        return kb_wrap(err, "finding the offsets of the restored records");
    for (size_t i = 0; i < count; i++)
        cells[i]->index = i < r.next ? found[i] : end;
    return KB_OK;
}

static kb_code settle_target(walk *w, size_t target, kb_error *err)
{
    kb_group_offsets *offsets = w->offsets;
    KB_AUTOFREE cell **cells = kb_calloc(w->count + 1, sizeof *cells);
    size_t count = 0;
    for (size_t i = 0; i < w->count; i++)
        if (w->cells[i].target == target)
            cells[count++] = &w->cells[i];
    if (count == 0)
        return KB_OK;
    if (is_transactional(offsets))
        return find_back(offsets, target, cells, count, err);
    int64_t start = offsets->starts[target];
    int64_t end = offsets->view->targets[target].end;
    for (size_t i = 0; i < count; i++) {
        bool is_inside = cells[i]->index < end - start;
        cells[i]->index = is_inside ? start + cells[i]->index : end;
    }
    return KB_OK;
}

static kb_code settle(walk *w, kb_error *err)
{
    kb_group_offsets *offsets = w->offsets;
    for (size_t t = 0; t < w->unit->target_count; t++)
        if (settle_target(w, w->unit->first_target + t, err) != KB_OK)
            return err->code;
    for (size_t i = 0; i < w->count; i++) {
        const cell *c = &w->cells[i];
        const kb_restore_target *target = &offsets->plan->targets[c->target];
        const char *topic = offsets->plan->topics[target->topic].name;
        const char *group = offsets->sources->groups[c->group].group;
        kb_group_entry_put(kb_group_set_add(&offsets->targets, group), topic, target->partition, c->index,
                           NULL);
        if (c->source >= 0)
            kb_group_entry_put(kb_group_set_add(&offsets->renamed, group), topic, target->partition,
                               c->source, NULL);
    }
    return KB_OK;
}

/* ---- the whole ---- */

static kb_code never_full(void *ctx, kb_error *err)
{
    (void)ctx;
    return kb_fail(err, KB_ERR_INTERNAL, "a stream that sends nothing has no memory left");
}

static kb_code walk_unit(walk *w, kb_error *err)
{
    kb_group_offsets *offsets = w->offsets;
    find_cells(w);
    bool maps = offsets->wants_map && is_plain(w->unit) && w->unit->source_count == 1;
    if (w->count == 0 && !maps)
        return KB_OK;
    KB_CLEANUP(kb_parcels_free_at) kb_parcels *parcels = kb_parcels_new(0, NULL, NULL);
    kb_stream_options options = {
        .storage = offsets->settings->storage,
        .plan = offsets->plan,
        .unit = w->unit,
        .parcels = parcels,
        .ignore_timestamps = true,
        .on_full = never_full,
        .memory_bytes = offsets->settings->memory_bytes / 4,
    };
    KB_CLEANUP(kb_stream_free_at) kb_stream *stream = kb_stream_new(&options);
    w->stream = stream;
    kb_code code = is_plain(w->unit) ? walk_plain(w, err) : walk_merged(w, err);
    return code == KB_OK ? settle(w, err) : code;
}

kb_code kb_group_offsets_compute(kb_group_offsets *offsets, kb_error *err)
{
    for (size_t u = 0; u < offsets->plan->unit_count; u++) {
        walk w = {.offsets = offsets, .unit = &offsets->plan->units[u]};
        kb_code code = walk_unit(&w, err);
        free(w.cells);
        if (code != KB_OK)
            return kb_wrap(err, "translating the offsets of groups");
    }
    return KB_OK;
}
