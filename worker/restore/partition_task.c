#include "worker/restore/partition_task.h"

#include <inttypes.h>

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "worker/restore/route.h"
#include "worker/restore/stream.h"

#define KB_TAKE_MS 5
#define KB_PACE_SLICE_MS 100
#define KB_TOUCH_EVERY 4096

typedef struct unit_run {
    const kb_unit_context *context;
    const kb_restore_unit *unit;
    size_t index; /* of the unit */
    const kb_unit_sink *opener;
    kb_sink *sink; /* NULL: nothing was sent yet */
    bool sink_failed;
    kb_parcels *parcels;
    kb_stream *stream;
    kb_sha256_ctx *sha;
    kb_route_state route;
    kb_target_state *targets; /* of the unit */
    const kb_parcel *checked; /* the parcel for which everything was asked */
    int64_t paced_records, paced_bytes;
    int64_t sent, passed, times_changed;
} unit_run;

/* ---- going on or not ---- */

static kb_code check_going(unit_run *u, kb_error *err)
{
    if (kb_fence_check(u->context->fence, err) != KB_OK)
        return err->code;
    if (u->sink != NULL) {
        kb_code code = u->sink->ops->wait(u->sink, err);
        u->sink_failed = u->sink_failed || (code != KB_OK && code != KB_ERR_STOPPED);
        return code;
    }
    return kb_run_is_ending(u->context->control) ? kb_fail(err, KB_ERR_STOPPED, "stopped") : KB_OK;
}

static kb_code on_full(void *ctx, kb_error *err)
{
    unit_run *u = ctx;
    /* More parcels drain by themselves: what lies behind the first fills its batches. */
    bool is_single = kb_parcels_on_way(u->parcels) == 1;
    if (is_single && u->sink != NULL && u->sink->ops->hurry != NULL)
        u->sink->ops->hurry(u->sink);
    return check_going(u, err);
}

static void on_landed(void *ctx, int64_t records, int64_t bytes)
{
    unit_run *u = ctx;
    u->sink->ops->landed(u->sink, records, bytes);
}

static kb_code wait_us(unit_run *u, int64_t wait_us_left, kb_error *err)
{
    while (wait_us_left > 0) {
        int64_t ms = wait_us_left / 1000 + 1;
        ms = ms < KB_PACE_SLICE_MS ? ms : KB_PACE_SLICE_MS;
        (void)kb_stop_wait(u->context->control->stop, ms);
        if (check_going(u, err) != KB_OK)
            return err->code;
        wait_us_left -= ms * 1000;
    }
    return KB_OK;
}

/* Takes from the limits in steps, so that a lock is not taken for every record. */
static kb_code pace(unit_run *u, const kb_stream_record *record, kb_error *err)
{
    const kb_unit_context *context = u->context;
    if (context->records_limit == NULL && context->bytes_limit == NULL)
        return KB_OK;
    u->paced_records++;
    u->paced_bytes += record->area_bytes;
    bool due = (context->records_limit != NULL && u->paced_records >= context->records_step) ||
               (context->bytes_limit != NULL && u->paced_bytes >= context->bytes_step);
    if (!due)
        return KB_OK;
    int64_t now_us = kb_clock_boot_us();
    int64_t wait = 0;
    if (context->records_limit != NULL)
        wait = kb_ratelimit_shared_take(context->records_limit, u->paced_records, now_us);
    if (context->bytes_limit != NULL) {
        int64_t other = kb_ratelimit_shared_take(context->bytes_limit, u->paced_bytes, now_us);
        wait = other > wait ? other : wait;
    }
    u->paced_records = 0;
    u->paced_bytes = 0;
    return wait_us(u, wait, err);
}

/* ---- records ---- */

static kb_code send(unit_run *u, kb_target_state *target, const kb_stream_record *record, kb_error *err)
{
    if (u->sink == NULL && u->opener->open(u->opener->ctx, u->index, &u->sink, err) != KB_OK)
        return err->code;
    if (u->checked != record->parcel) {
        u->checked = record->parcel;
        if (check_going(u, err) != KB_OK)
            return err->code;
    }
    if (pace(u, record, err) != KB_OK)
        return err->code;
    /* Counted before: its acknowledgement may come at once. */
    kb_parcel_sent(record->parcel, record->payload_bytes);
    if (u->sink->ops->send(u->sink, target, record, err) != KB_OK) {
        kb_parcel_unsent(record->parcel, record->payload_bytes);
        if (err->code == KB_ERR_STOPPED)
            return err->code;
        u->sink_failed = true;
        return kb_wrap(err, "record %" PRId64 " of %s/%" PRId32 " (offset %" PRId64 " in the backup)",
                       target->next, target->topic, target->partition, record->source_offset);
    }
    u->sent++;
    u->times_changed += record->time_changed ? 1 : 0;
    return KB_FAILPOINT("produce.sent_no_reply", err);
}

static kb_code pass_over(unit_run *u, kb_target_state *target, const kb_stream_record *record, kb_error *err)
{
    if (!kb_landed_check(&target->landed, u->sha, target->next, &record->out))
        return kb_fail(err, KB_TARGET_NOT_EMPTY,
                       "%s/%" PRId32 " is not empty and not the beginning of this restore: its record at "
                       "offset %" PRId64 " is not record %" PRId64 " of the restore",
                       target->topic, target->partition, target->start + target->next, target->next);
    if (++u->passed % KB_TOUCH_EVERY == 0) {
        kb_progress_touch(u->context->progress);
        if (check_going(u, err) != KB_OK)
            return err->code;
    }
    return KB_OK;
}

/* Where one source feeds one target, records that nobody looks at need not be decoded. */
static kb_code skip_ahead(unit_run *u, kb_error *err)
{
    kb_target_state *target = &u->targets[0];
    if (u->unit->route != KB_ROUTE_FIXED || target->next >= target->landed.count)
        return KB_OK;
    int64_t skipped;
    int64_t wanted = kb_landed_next(&target->landed, target->next) - target->next;
    if (kb_stream_skip(u->stream, wanted, &skipped, err) != KB_OK)
        return err->code;
    target->next += skipped;
    u->passed += skipped;
    return KB_OK;
}

static kb_code run_stream(unit_run *u, kb_error *err)
{
    while (true) {
        kb_stream_record record;
        bool has;
        if (skip_ahead(u, err) != KB_OK || kb_stream_next(u->stream, &record, &has, err) != KB_OK)
            return err->code;
        if (!has)
            return KB_OK;
        kb_target_state *target = &u->targets[kb_route_pick(u->unit->route, u->unit->target_count,
                                                            record.out.key, record.out.key_len, &u->route)];
        kb_code code = target->next < target->landed.count ? pass_over(u, target, &record, err)
                                                           : send(u, target, &record, err);
        if (code != KB_OK)
            return code;
        target->next++;
    }
}

/* ---- the whole ---- */

static kb_code check_end(const unit_run *u, kb_error *err)
{
    for (size_t i = 0; i < u->unit->target_count; i++) {
        const kb_target_state *target = &u->targets[i];
        if (target->next < target->landed.count)
            return kb_fail(err, KB_TARGET_NOT_EMPTY,
                           "%s/%" PRId32 " holds %" PRId64 " records, the restore has only %" PRId64,
                           target->topic, target->partition, target->landed.count, target->next);
    }
    return KB_OK;
}

static void count_landed(const unit_run *u, int64_t landed)
{
    kb_progress_add_resumed(u->context->progress, landed);
    kb_progress_add_found(u->context->progress, landed, 0);
    kb_progress_add_work_found(u->context->progress, landed);
    if (u->context->metrics != NULL)
        kb_metric_add(u->context->metrics->restore_resumed, (uint64_t)landed);
}

static void begin(unit_run *u)
{
    int64_t landed = 0;
    bool ignore_timestamps = true;
    for (size_t i = 0; i < u->unit->target_count; i++) {
        kb_target_state *target = &u->targets[i];
        target->next = 0;
        target->acked = 0;
        target->last_offset = -1;
        kb_landed_rewind(&target->landed);
        landed += target->landed.count;
        ignore_timestamps = ignore_timestamps && target->log_append;
    }
    if (!u->opener->is_again)
        count_landed(u, landed);
    kb_stream_options options = {
        .storage = u->context->storage,
        .plan = u->context->plan,
        .unit = u->unit,
        .parcels = u->parcels,
        .ignore_timestamps = ignore_timestamps,
        .take_timeout_ms = KB_TAKE_MS,
        .on_full = on_full,
        .ctx = u,
        .memory_bytes = u->context->held_bytes,
        .max_area_bytes = u->context->max_area_bytes,
    };
    u->stream = kb_stream_new(&options);
}

static void complete(unit_run *u)
{
    const kb_restore_topic *topic = &u->context->plan->topics[u->unit->topic];
    int64_t filtered = kb_stream_filtered(u->stream);
    int64_t known = kb_restore_unit_records(u->context->plan, u->unit);
    kb_progress_add_filtered(u->context->progress, filtered);
    kb_progress_add_work_found(u->context->progress, known - u->passed - u->sent);
    for (size_t i = 0; i < u->unit->target_count; i++) {
        u->targets[i].is_done = true;
        kb_progress_partition_done(u->context->progress);
        kb_log(KB_LOG_DEBUG, "partition restored", KB_STR("topic", u->targets[i].topic),
               KB_INT("partition", u->targets[i].partition), KB_INT("records", u->targets[i].next));
    }
    if (u->times_changed > 0)
        kb_progress_add_finding(u->context->progress, KB_FINDING_TIMESTAMP_CHANGED, topic->name,
                                u->unit->target_count == 1 ? u->targets[0].partition : -1,
                                "%" PRId64 " records with timestamp 0 were written with timestamp 1",
                                u->times_changed);
}

/* What is queued may still land, also when the unit goes no further. */
static void settle(unit_run *u, kb_code code)
{
    KB_AUTO_ERROR(ignored);
    if (u->sink == NULL || u->sink_failed || code == KB_FENCED || kb_run_is_cancelled(u->context->control))
        return;
    int64_t deadline_ms = kb_clock_boot_ms() + u->context->grace_ms;
    if (u->sink->ops->finish(u->sink, u->parcels, deadline_ms, &ignored) != KB_OK)
        kb_log(KB_LOG_DEBUG, "not all of a partition's queue was acknowledged", KB_ERRTEXT(&ignored));
}

kb_code kb_unit_run(const kb_unit_context *context, size_t unit, const kb_unit_sink *sink,
                    kb_parcels **ret_left, kb_error *err)
{
    unit_run u = {
        .context = context,
        .unit = &context->plan->units[unit],
        .index = unit,
        .opener = sink,
        .targets = &context->targets[context->plan->units[unit].first_target],
    };
    KB_CLEANUP(kb_sha256_free_at) kb_sha256_ctx *sha = kb_sha256_new();
    u.sha = sha;
    u.parcels = kb_parcels_new(context->max_on_way_bytes, on_landed, &u);
    begin(&u);
    kb_code code = run_stream(&u, err);
    if (code == KB_OK)
        code = check_end(&u, err);
    if (code == KB_OK && u.sink != NULL) {
        code = u.sink->ops->finish(u.sink, u.parcels, 0, err);
        u.sink_failed = code != KB_OK && code != KB_ERR_STOPPED;
    }
    if (code == KB_OK)
        complete(&u);
    kb_stream_free(u.stream);
    if (code != KB_OK)
        settle(&u, code);
    /* From here on nobody may call back into this frame. */
    bool idle = kb_parcels_mute(u.parcels);
    if (idle)
        kb_parcels_free(u.parcels);
    *ret_left = idle ? NULL : u.parcels;
    return code;
}
