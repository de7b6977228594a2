#include "worker/backup/lane.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "worker/catalog/adoption.h"
#include "worker/catalog/layout.h"

typedef enum item_kind {
    ITEM_FRAME,
    ITEM_SEGMENT_END,
    ITEM_GAP,
    ITEM_REUSE,
    ITEM_CUT,
    ITEM_DONE,
    ITEM_LOST,
    ITEM_FINDING,
    ITEM_RESTARTED
} item_kind;

struct kb_lane_item {
    kb_lane_item *next;
    kb_lane *lane;
    item_kind kind;
    bool ready;
    kb_frame *frame;
    uint64_t extra_bytes, payload_bytes;
    int64_t start, end, time_ms; /* FRAME: start = from; else as in kb_ledger_event */
    kb_topic_state state;
    const char *reason;
    char *detail;
};

struct kb_lane {
    kb_lanes *lanes;
    void *owner;
    char *topic;
    bool has_topic_id;
    uint8_t topic_id[KB_TOPIC_ID_SIZE];
    int32_t partition;
    pthread_mutex_t mutex;
    struct {
        kb_lane_item *head, *tail;
        bool scheduled; /* in lanes->publish, or being served */
    } locked;
    /* of the publisher that serves the lane */
    int64_t cut;
    bool dropping; /* a restart was asked for and has not come yet */
    bool suffixed; /* the plain name is taken: the next segment's name carries the attempt */
    kb_upload *upload;
    kb_segment_writer *writer;
    char *key;
    char *file; /* NULL: the standard name */
    int64_t segment_from;
    uint64_t segment_payload;
    int64_t max_record_bytes;
};

void kb_lanes_init(kb_lanes *lanes)
{
    pthread_mutex_init(&lanes->mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&lanes->idle, &monotonic);
    pthread_condattr_destroy(&monotonic);
    lanes->locked.items = 0;
}

void kb_lanes_done(kb_lanes *lanes)
{
    pthread_cond_destroy(&lanes->idle);
    pthread_mutex_destroy(&lanes->mutex);
}

bool kb_lanes_wait_idle(kb_lanes *lanes, int64_t timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += timeout_ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    pthread_mutex_lock(&lanes->mutex);
    int late = 0;
    while (lanes->locked.items > 0 && late == 0)
        late = pthread_cond_timedwait(&lanes->idle, &lanes->mutex, &until);
    bool idle = lanes->locked.items == 0;
    pthread_mutex_unlock(&lanes->mutex);
    return idle;
}

static void count_items(kb_lanes *lanes, bool more)
{
    pthread_mutex_lock(&lanes->mutex);
    lanes->locked.items += more ? 1 : (size_t)-1;
    if (lanes->locked.items == 0)
        pthread_cond_broadcast(&lanes->idle);
    pthread_mutex_unlock(&lanes->mutex);
}

kb_lane *kb_lane_new(kb_lanes *lanes, const kb_topic_entry *topic, const kb_partition_entry *partition,
                     void *owner)
{
    kb_lane *lane = kb_calloc(1, sizeof *lane);
    lane->lanes = lanes;
    lane->owner = owner;
    lane->topic = kb_strdup(topic->name);
    lane->has_topic_id = topic->has_topic_id;
    memcpy(lane->topic_id, topic->topic_id, sizeof lane->topic_id);
    lane->partition = partition->partition;
    lane->cut = partition->cut;
    lane->suffixed = lanes->suffixed_names;
    pthread_mutex_init(&lane->mutex, NULL);
    return lane;
}

static void close_segment(kb_lane *lane)
{
    kb_segment_writer_free(lane->writer);
    lane->writer = NULL;
    kb_upload_free(lane->upload);
    lane->upload = NULL;
    free(lane->key);
    lane->key = NULL;
    free(lane->file);
    lane->file = NULL;
    lane->segment_payload = 0;
    lane->max_record_bytes = 0;
}

static void item_free(kb_lane_item *item)
{
    kb_lanes *lanes = item->lane->lanes;
    if (item->frame != NULL)
        lanes->on_frame_free(lanes->ctx, item->frame, item->extra_bytes);
    free(item->detail);
    free(item);
    count_items(lanes, false);
}

void kb_lane_free(kb_lane *owned_lane)
{
    if (owned_lane == NULL)
        return;
    while (owned_lane->locked.head != NULL) {
        kb_lane_item *item = owned_lane->locked.head;
        owned_lane->locked.head = item->next;
        item_free(item);
    }
    close_segment(owned_lane);
    pthread_mutex_destroy(&owned_lane->mutex);
    free(owned_lane->topic);
    free(owned_lane);
}

/* ---- pushing ---- */

/* Puts the lane before the publishers when its head is ready and nobody serves it. */
static bool must_schedule_locked(kb_lane *lane)
{
    if (lane->locked.scheduled || lane->locked.head == NULL || !lane->locked.head->ready)
        return false;
    lane->locked.scheduled = true;
    return true;
}

static void schedule(kb_lane *lane)
{
    if (kb_queue_push(lane->lanes->publish, lane))
        return;
    /* The queue was aborted: the run is over, kb_lane_free drops what is left. */
    pthread_mutex_lock(&lane->mutex);
    lane->locked.scheduled = false;
    pthread_mutex_unlock(&lane->mutex);
}

static kb_lane_item *item_new(kb_lane *lane, item_kind kind)
{
    kb_lane_item *item = kb_calloc(1, sizeof *item);
    item->lane = lane;
    item->kind = kind;
    item->ready = kind != ITEM_FRAME;
    return item;
}

static void push(kb_lane *lane, kb_lane_item *item)
{
    count_items(lane->lanes, true);
    pthread_mutex_lock(&lane->mutex);
    if (lane->locked.tail != NULL && lane->locked.head != NULL)
        lane->locked.tail->next = item;
    else
        lane->locked.head = item;
    lane->locked.tail = item;
    bool now = must_schedule_locked(lane);
    pthread_mutex_unlock(&lane->mutex);
    if (now)
        schedule(lane);
}

void kb_lane_push_frame(kb_lane *lane, kb_frame *owned_frame, uint64_t extra_bytes, int64_t from,
                        uint64_t payload_bytes)
{
    kb_lane_item *item = item_new(lane, ITEM_FRAME);
    item->frame = owned_frame;
    item->extra_bytes = extra_bytes;
    item->payload_bytes = payload_bytes;
    item->start = from;
    push(lane, item);
    if (!kb_queue_push(lane->lanes->encode, item))
        kb_lane_item_sealed(item); /* the run is over: it will be dropped */
}

void kb_lane_push_segment_end(kb_lane *lane, int64_t to)
{
    kb_lane_item *item = item_new(lane, ITEM_SEGMENT_END);
    item->end = to;
    push(lane, item);
}

void kb_lane_push_gap(kb_lane *lane, int64_t start, int64_t end)
{
    kb_lane_item *item = item_new(lane, ITEM_GAP);
    item->start = start;
    item->end = end;
    item->time_ms = kb_clock_wall_ms();
    push(lane, item);
}

void kb_lane_push_reuse(kb_lane *lane, int64_t up_to)
{
    kb_lane_item *item = item_new(lane, ITEM_REUSE);
    item->end = up_to;
    push(lane, item);
}

void kb_lane_push_cut(kb_lane *lane, int64_t cut, int64_t time_ms)
{
    kb_lane_item *item = item_new(lane, ITEM_CUT);
    item->end = cut;
    item->time_ms = time_ms;
    push(lane, item);
}

void kb_lane_push_done(kb_lane *lane, int64_t position)
{
    kb_lane_item *item = item_new(lane, ITEM_DONE);
    item->end = position;
    push(lane, item);
}

void kb_lane_push_lost(kb_lane *lane, kb_topic_state state, const char *reason, char *owned_detail)
{
    kb_lane_item *item = item_new(lane, ITEM_LOST);
    item->state = state;
    item->reason = reason;
    item->detail = owned_detail;
    item->time_ms = kb_clock_wall_ms();
    push(lane, item);
}

void kb_lane_push_finding(kb_lane *lane, const char *reason, char *owned_detail)
{
    kb_lane_item *item = item_new(lane, ITEM_FINDING);
    item->reason = reason;
    item->detail = owned_detail;
    push(lane, item);
}

void kb_lane_push_restarted(kb_lane *lane)
{
    push(lane, item_new(lane, ITEM_RESTARTED));
}

void kb_lane_item_sealed(kb_lane_item *item)
{
    kb_lane *lane = item->lane;
    pthread_mutex_lock(&lane->mutex);
    item->ready = true;
    bool now = must_schedule_locked(lane);
    pthread_mutex_unlock(&lane->mutex);
    if (now)
        schedule(lane);
}

kb_frame *kb_lane_item_frame(kb_lane_item *item)
{
    return item->frame;
}

/* ---- publishing ---- */

static kb_code sink_append(void *ctx, const void *bytes, size_t len, kb_error *err)
{
    kb_lane *lane = ctx;
    int64_t began_us = kb_clock_boot_us();
    kb_code code = kb_upload_append(lane->upload, bytes, len, err);
    kb_progress_touch(lane->lanes->progress);
    if (lane->lanes->metrics != NULL)
        kb_run_metrics_store_op(lane->lanes->metrics, KB_STORE_OP_UPLOAD_PART, kb_clock_boot_us() - began_us,
                                len);
    if (code != KB_OK)
        return code;
    return KB_FAILPOINT("segment.part_sent", err);
}

static kb_code sink_complete(void *ctx, const uint8_t header[KB_SEGMENT_HEADER_BYTES], kb_error *err)
{
    kb_lane *lane = ctx;
    if (KB_FAILPOINT("segment.before_complete", err) != KB_OK)
        return err->code;
    int64_t began_us = kb_clock_boot_us();
    kb_code code = kb_upload_complete(lane->upload, header, err);
    if (lane->lanes->metrics != NULL)
        kb_run_metrics_store_op(lane->lanes->metrics, KB_STORE_OP_UPLOAD_COMPLETE,
                                kb_clock_boot_us() - began_us, 0);
    return code;
}

static kb_code open_segment(kb_lane *lane, const kb_lane_item *first, kb_error *err)
{
    kb_lanes *lanes = lane->lanes;
    int64_t start = kb_frame_info_view(first->frame)->first_offset;
    const char *extension = kb_layout_extension(lanes->plan->compression);
    if (lane->suffixed)
        lane->file = kb_layout_segment_file_suffixed(start, lanes->attempt_id_hex, extension);
    KB_AUTOFREE char *standard = kb_layout_segment_file(start, extension);
    lane->key = kb_layout_segment_key(lanes->plan->backup_id, lane->topic, lane->partition,
                                      lane->file != NULL ? lane->file : standard);
    if (KB_FAILPOINT("segment.open", err) != KB_OK ||
        kb_upload_begin(lanes->storage, lane->key, lanes->attempt_id_hex, &lane->upload, err) != KB_OK)
        return err->code;
    kb_segment_writer_opts opts = {
        .sink = {.ctx = lane, .append = sink_append, .complete = sink_complete},
        .key = lane->key,
        .codec = lanes->codec,
        .partition = lane->partition,
        .from = first->start,
        .has_own_block = lanes->plan->content.offset_headers,
        .verify = lanes->verify,
    };
    memcpy(opts.attempt_id, lanes->attempt_id, sizeof opts.attempt_id);
    if (lane->has_topic_id)
        memcpy(opts.topic_id, lane->topic_id, sizeof opts.topic_id);
    lane->writer = kb_segment_writer_new(&opts);
    lane->segment_from = first->start;
    return KB_OK;
}

static kb_code add_frame(kb_lane *lane, const kb_lane_item *item, kb_error *err)
{
    if (lane->writer == NULL && open_segment(lane, item, err) != KB_OK)
        return err->code;
    const kb_frame_info *info = kb_frame_info_view(item->frame);
    lane->segment_payload += item->payload_bytes;
    if (info->max_total_len > lane->max_record_bytes)
        lane->max_record_bytes = info->max_total_len;
    return kb_segment_writer_append(lane->writer, item->frame, err);
}

static void fill_entry(kb_segment_entry *entry, const kb_segment_info *info, char *owned_name)
{
    *entry = (kb_segment_entry){
        .start = info->start,
        .end = info->end,
        .from = info->from,
        .to = info->to,
        .count = (int64_t)info->count,
        .min_ts = info->min_timestamp,
        .max_ts = info->max_timestamp,
        .raw_bytes = (int64_t)info->raw_bytes,
        .bytes = (int64_t)info->bytes,
        .name = owned_name,
        .owner = KB_OWNER_SELF,
        .codec = (uint8_t)info->codec,
        .has_hashes = true,
        .digest = info->digest,
    };
    memcpy(entry->sha256, info->sha256, sizeof entry->sha256);
}

static void post_segment(kb_lane *lane, const kb_segment_info *info)
{
    kb_ledger_event event = {
        .kind = KB_LEDGER_SEGMENT,
        .topic = lane->topic,
        .partition = lane->partition,
        .max_record_bytes = lane->max_record_bytes,
        .payload_bytes = lane->segment_payload,
        .probe = {.offset = info->end},
    };
    memcpy(event.probe.sha256, info->last_sha256, sizeof event.probe.sha256);
    fill_entry(&event.segment, info, KB_TAKE(lane->file));
    kb_ledger_post(lane->lanes->ledger, &event);
}

/* The object under our name has our size, first and last bytes: an earlier completion whose reply was lost.
 */
static kb_code is_ours(kb_lane *lane, const kb_segment_info *info, bool *ret_ours, kb_error *err)
{
    kb_storage *storage = lane->lanes->storage;
    kb_object_info object;
    uint8_t header[KB_SEGMENT_HEADER_BYTES], footer[KB_SEGMENT_FOOTER_BYTES];
    if (kb_storage_head(storage, lane->key, &object, err) != KB_OK)
        return err->code;
    *ret_ours = false;
    if (object.size_bytes != info->bytes)
        return KB_OK;
    if (kb_storage_get_range(storage, lane->key, 0, header, sizeof header, err) != KB_OK ||
        kb_storage_get_range(storage, lane->key, info->bytes - sizeof footer, footer, sizeof footer, err) !=
            KB_OK)
        return err->code;
    *ret_ours =
        memcmp(header, info->header, sizeof header) == 0 && memcmp(footer, info->footer, sizeof footer) == 0;
    return KB_OK;
}

static void restart(kb_lane *lane, int64_t offset)
{
    lane->dropping = true;
    lane->lanes->on_restart(lane->lanes->ctx, lane->owner, offset);
}

static void post_adopted(kb_lane *lane, kb_adopted *adopted)
{
    kb_ledger_event event = {
        .kind = KB_LEDGER_SEGMENT,
        .topic = lane->topic,
        .partition = lane->partition,
        .max_record_bytes = adopted->max_record_bytes,
        .segment = adopted->segments[0],
    };
    if (adopted->probe_count > 0)
        event.probe = adopted->probes[0];
    adopted->segments[0] = (kb_segment_entry){0}; /* moved into the event */
    if (lane->lanes->metrics != NULL)
        kb_metric_add(lane->lanes->metrics->segments_adopted, 1);
    kb_ledger_post(lane->lanes->ledger, &event);
}

/* The name is taken by an object that we did not just make: adopt it, or go around it under another name. */
static kb_code resolve_conflict(kb_lane *lane, const kb_segment_info *info, kb_error *err)
{
    kb_lanes *lanes = lane->lanes;
    kb_conflict conflict = {
        .key = lane->key,
        .topic = lane->topic,
        .partition = lane->partition,
        .from = lane->segment_from,
        .start = info->start,
        .cut = lane->cut,
        .own_block = lanes->plan->content.offset_headers,
        .has_topic_id = lane->has_topic_id,
    };
    memcpy(conflict.topic_id, lane->topic_id, sizeof conflict.topic_id);
    KB_CLEANUP(kb_adopted_done) kb_adopted adopted = {0};
    bool adoptable = false;
    if (kb_adoption_conflict(lanes->storage, lanes->plan, &conflict, &adoptable, &adopted, err) != KB_OK)
        return err->code;
    kb_log(KB_LOG_WARN, "segment name is taken by another attempt", KB_STR("key", lane->key),
           KB_BOOL("adopted", adoptable));
    if (!adoptable) {
        lane->suffixed = true;
        restart(lane, lane->segment_from);
        return KB_OK;
    }
    int64_t to = adopted.segments[0].to;
    post_adopted(lane, &adopted);
    if (to != info->to)
        restart(lane, to);
    return KB_OK;
}

static kb_code settle_name(kb_lane *lane, kb_error *err)
{
    kb_error_done(err);
    const kb_segment_info *info = kb_segment_writer_info(lane->writer);
    bool ours = false;
    if (is_ours(lane, info, &ours, err) != KB_OK)
        return kb_wrap(err, "looking at the object that has the name of a segment");
    if (!ours)
        return resolve_conflict(lane, info, err);
    post_segment(lane, info);
    return KB_OK;
}

static kb_code end_segment(kb_lane *lane, const kb_lane_item *item, kb_error *err)
{
    if (lane->writer == NULL)
        return KB_OK;
    if (!kb_ledger_wait_fresh(lane->lanes->ledger))
        return KB_OK; /* the run is ending: the segment is dropped with the lane */
    kb_segment_info info;
    kb_code code = kb_segment_writer_finish(lane->writer, item->end, &info, err);
    if (code == KB_ERR_EXISTS)
        return settle_name(lane, err);
    if (code != KB_OK || KB_FAILPOINT("segment.after_complete", err) != KB_OK)
        return err->code;
    post_segment(lane, &info);
    if (!lane->lanes->suffixed_names)
        lane->suffixed = false;
    return KB_OK;
}

static void post_mark(kb_lane *lane, kb_lane_item *item, kb_ledger_kind kind, bool wait)
{
    kb_ledger_event event = {
        .kind = kind,
        .topic = lane->topic,
        .partition = lane->partition,
        .start = item->start,
        .end = item->end,
        .time_ms = item->time_ms,
        .state = item->state,
        .reason = item->reason,
        .detail = KB_TAKE(item->detail),
    };
    if (!wait)
        kb_ledger_post(lane->lanes->ledger, &event);
    else if (!kb_ledger_post_and_wait(lane->lanes->ledger, &event))
        lane->dropping =
            true; /* the run is over: what follows must not be published before this was journaled */
}

static kb_code process(kb_lane *lane, kb_lane_item *item, kb_error *err)
{
    kb_code code = KB_OK;
    switch (item->kind) {
    case ITEM_FRAME:
        return add_frame(lane, item, err);
    case ITEM_SEGMENT_END:
        code = end_segment(lane, item, err);
        close_segment(lane);
        return code;
    case ITEM_GAP:
        post_mark(lane, item, KB_LEDGER_GAP, true);
        return KB_OK;
    case ITEM_REUSE:
        close_segment(lane);
        post_mark(lane, item, KB_LEDGER_REUSE, true);
        return KB_OK;
    case ITEM_CUT:
        lane->cut = item->end;
        post_mark(lane, item, KB_LEDGER_CUT, true);
        return KB_OK;
    case ITEM_DONE:
        post_mark(lane, item, KB_LEDGER_DONE, false);
        return KB_OK;
    case ITEM_LOST:
        close_segment(lane);
        post_mark(lane, item, KB_LEDGER_LOST, false);
        return KB_OK;
    case ITEM_FINDING:
        post_mark(lane, item, KB_LEDGER_FINDING, false);
        return KB_OK;
    case ITEM_RESTARTED:
        lane->dropping = false;
        return KB_OK;
    }
    return kb_fail(err, KB_ERR_INTERNAL, "lane item of kind %d", (int)item->kind);
}

static bool is_dropped(const kb_lane *lane, const kb_lane_item *item)
{
    if (kb_run_is_cancelled(lane->lanes->control))
        return true;
    if (item->kind == ITEM_RESTARTED)
        return false;
    bool data = item->kind == ITEM_FRAME || item->kind == ITEM_SEGMENT_END;
    return lane->dropping || (data && kb_ledger_is_lost(lane->lanes->ledger, lane->topic));
}

static kb_lane_item *take_ready(kb_lane *lane)
{
    pthread_mutex_lock(&lane->mutex);
    kb_lane_item *item = lane->locked.head;
    if (item != NULL && item->ready)
        lane->locked.head = item->next;
    else
        item = NULL;
    if (item == NULL)
        lane->locked.scheduled = false;
    pthread_mutex_unlock(&lane->mutex);
    return item;
}

void kb_lane_serve(kb_lane *lane)
{
    kb_lane_item *item;
    while ((item = take_ready(lane)) != NULL) {
        KB_AUTO_ERROR(err);
        if (is_dropped(lane, item)) {
            close_segment(lane);
        } else if (process(lane, item, &err) != KB_OK) {
            close_segment(lane);
            kb_run_fail(lane->lanes->control, &err);
        }
        item_free(item);
    }
}
