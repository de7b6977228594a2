#include "worker/backup/partition_task.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/contract/exit_codes.h"

/* An interval closes only segments of this size, so that slow topics do not make thousands of objects. */
#define KB_INTERVAL_MIN_BYTES (8LL * 1024 * 1024)
/* Two passes of the log cleaner must lie between an old value and the loss of its tombstone. */
#define KB_CLEANER_PASSES_MS 15000
#define KB_STACK_HEADERS 16

void kb_task_init(kb_task *task, const kb_task_rules *rules, kb_lanes *lanes, const kb_topic_entry *topic,
                  const kb_partition_entry *partition)
{
    *task = (kb_task){
        .rules = rules,
        .topic = kb_strdup(topic->name),
        .partition = partition->partition,
        .state = KB_TASK_WAITING,
        .delete_retention_ms = -1,
        .position = partition->to,
        .cut = partition->cut,
        .segment_from = partition->to,
        .reuse_floor = -1,
        .reused_up_to = -1,
        .restart_at = -1,
    };
    task->lane = kb_lane_new(lanes, topic, partition, task);
}

static void free_frame(kb_task *task)
{
    if (task->frame == NULL)
        return;
    kb_frame_reset(task->frame);
    if (task->frame_extra_bytes > 0)
        kb_budget_release(task->rules->spare, task->frame_extra_bytes);
    task->frame_extra_bytes = 0;
    task->frame_payload_bytes = 0;
    if (!kb_queue_push(task->rules->frames, task->frame))
        kb_frame_free(task->frame);
    task->frame = NULL;
}

void kb_task_done(kb_task *task)
{
    free_frame(task);
    kb_lane_free(task->lane);
    free(task->topic);
}

bool kb_task_settle(kb_task *task)
{
    return !atomic_exchange(&task->settled, true);
}

/* ---- segments ---- */

static void push_frame(kb_task *task)
{
    if (task->frame == NULL || kb_frame_info_view(task->frame)->record_count == 0)
        return;
    kb_lane_push_frame(task->lane, KB_TAKE(task->frame), task->frame_extra_bytes, task->segment_from,
                       task->frame_payload_bytes);
    task->frame_extra_bytes = 0;
    task->frame_payload_bytes = 0;
}

static void close_segment(kb_task *task, int64_t to)
{
    push_frame(task);
    if (task->segment_records > 0) {
        kb_lane_push_segment_end(task->lane, to);
        task->segment_from = to;
    }
    task->segment_bytes = 0;
    task->segment_records = 0;
}

static void finish(kb_task *task)
{
    close_segment(task, task->cut);
    kb_lane_push_done(task->lane, task->cut);
    task->state = KB_TASK_READ;
}

/* Whether tombstones may have gone while older values were already read. */
static bool read_too_slowly(const kb_task *task)
{
    int64_t took_ms = kb_clock_boot_ms() - task->read_began_ms;
    return task->compacted && task->delete_retention_ms >= 0 && took_ms > task->delete_retention_ms &&
           took_ms > KB_CLEANER_PASSES_MS;
}

static void finish_compacted(kb_task *task, bool caught_up)
{
    const char *reason = kb_finding_name(KB_FINDING_DISCONTINUITY);
    if (!caught_up)
        kb_lane_push_finding(
            task->lane, reason,
            kb_asprintf("the compacted partition grew faster than it could be read: %d rounds",
                        KB_CATCH_UP_ROUNDS));
    if (read_too_slowly(task))
        kb_lane_push_finding(task->lane, reason,
                             kb_asprintf("reading took longer than delete.retention.ms (%" PRId64
                                         "): tombstones may be missing",
                                         task->delete_retention_ms));
    finish(task);
}

static void reach_end(kb_task *task)
{
    __atomic_store_n(&task->position, task->cut, __ATOMIC_RELAXED);
    if (!task->compacted) {
        finish(task);
        return;
    }
    if (task->rounds > 0 && task->round_found == task->cut - task->round_start) {
        finish_compacted(task, true);
        return;
    }
    task->state = KB_TASK_CATCHING_UP;
    task->catching_since_ms = kb_clock_boot_ms();
}

kb_catch_up kb_catch_up_decide(int rounds, int64_t span, int64_t found, int64_t cut,
                               int64_t last_stable_offset)
{
    if (last_stable_offset <= cut || (rounds > 0 && found == span))
        return KB_CATCH_UP_DONE;
    return rounds >= KB_CATCH_UP_ROUNDS ? KB_CATCH_UP_GIVE_UP : KB_CATCH_UP_RAISE;
}

void kb_task_on_log_end(kb_task *task, int64_t last_stable_offset, int64_t wall_ms)
{
    kb_catch_up next = kb_catch_up_decide(task->rounds, task->cut - task->round_start, task->round_found,
                                          task->cut, last_stable_offset);
    if (next != KB_CATCH_UP_RAISE) {
        finish_compacted(task, next == KB_CATCH_UP_DONE);
        return;
    }
    task->rounds++;
    task->round_start = task->cut;
    task->round_found = 0;
    __atomic_store_n(&task->cut, last_stable_offset, __ATOMIC_RELAXED);
    kb_lane_push_cut(task->lane, task->cut, wall_ms);
    task->state = KB_TASK_WAITING;
}

/* ---- records ---- */

static bool take_frame(kb_task *task)
{
    void *frame;
    if (task->frame != NULL)
        return true;
    if (!kb_queue_pop(task->rules->frames, &frame))
        return false;
    task->frame = frame;
    return true;
}

/* A record that outgrows a frame takes its memory, raw and compressed, from what is spare. */
static kb_code reserve(kb_task *task, const kb_record_in *in, kb_error *err)
{
    const kb_own_block_opts *own = task->rules->has_own_block ? &task->rules->own_block : NULL;
    size_t size;
    if (kb_record_encoded_size(in, own, &size, err) != KB_OK)
        return kb_wrap(err, "%s/%" PRId32, task->topic, task->partition);
    if (size <= KB_FRAME_TARGET_BYTES / 2)
        return KB_OK;
    uint64_t needed = 2 * (uint64_t)size;
    if (needed > task->rules->memory_budget_bytes)
        return kb_fail(err, KB_MEMORY_TOO_SMALL,
                       "%s/%" PRId32 ": the record at offset %" PRId64
                       " has %zu bytes, more than the memory budget of "
                       "%" PRIu64 " bytes can hold; hint: raise limits.memory_bytes",
                       task->topic, task->partition, in->offset, size, task->rules->memory_budget_bytes);
    if (!kb_budget_acquire(task->rules->spare, needed))
        return kb_fail(err, KB_ERR_STOPPED, "stopped");
    task->frame_extra_bytes += needed;
    return KB_OK;
}

static void wait_for_rate(const kb_task *task, int64_t bytes)
{
    int64_t wait_us = 0;
    int64_t now_us = kb_clock_boot_us();
    if (task->rules->bytes_limit != NULL)
        wait_us = kb_ratelimit_shared_take(task->rules->bytes_limit, bytes, now_us);
    if (task->rules->records_limit != NULL) {
        int64_t records_us = kb_ratelimit_shared_take(task->rules->records_limit, 1, now_us);
        wait_us = records_us > wait_us ? records_us : wait_us;
    }
    if (wait_us > 0)
        (void)kb_stop_wait(task->rules->control->stop, (wait_us + 999) / 1000);
}

static void note_appended(kb_task *task, const kb_record_in *in, size_t bytes, bool frame_full)
{
    if (task->segment_records == 0)
        task->segment_began_ms = kb_clock_boot_ms();
    __atomic_store_n(&task->position, in->offset + 1, __ATOMIC_RELAXED);
    task->segment_bytes += (int64_t)bytes;
    task->segment_records++;
    task->round_found++;
    task->frame_payload_bytes += (uint64_t)(in->key_len > 0 ? in->key_len : 0);
    task->frame_payload_bytes += (uint64_t)(in->value_len > 0 ? in->value_len : 0);
    bool records_full =
        task->rules->segment_max_records > 0 && task->segment_records >= task->rules->segment_max_records;
    if (task->segment_bytes >= task->rules->segment_max_bytes || records_full)
        close_segment(task, task->position);
    else if (frame_full)
        push_frame(task);
}

static kb_code append(kb_task *task, const kb_record_in *in, kb_error *err)
{
    int64_t payload = (int64_t)in->key_len + in->value_len;
    if ((payload > (int64_t)KB_FRAME_TARGET_BYTES / 4 || in->header_count > KB_STACK_HEADERS) &&
        reserve(task, in, err) != KB_OK)
        return err->code;
    if (!take_frame(task))
        return kb_fail(err, KB_ERR_STOPPED, "stopped");
    size_t before = kb_frame_info_view(task->frame)->raw_len;
    bool full = false;
    const kb_own_block_opts *own = task->rules->has_own_block ? &task->rules->own_block : NULL;
    if (kb_frame_append(task->frame, in, own, &full, err) != KB_OK)
        return kb_wrap(err, "%s/%" PRId32, task->topic, task->partition);
    size_t bytes = kb_frame_info_view(task->frame)->raw_len - before;
    note_appended(task, in, bytes, full);
    if (task->rules->bytes_limit != NULL || task->rules->records_limit != NULL)
        wait_for_rate(task, (int64_t)bytes);
    return KB_OK;
}

/* The reader's headers and the format's are the same four fields, of two layers that do not know each other.
 */
static const kb_header_in *copy_headers(const kb_source_record *record, kb_header_in *stack,
                                        kb_header_in **owned_heap)
{
    kb_header_in *to = stack;
    if (record->header_count > KB_STACK_HEADERS)
        to = *owned_heap = kb_calloc(record->header_count, sizeof *to);
    for (size_t i = 0; i < record->header_count; i++) {
        const kb_kafka_header *from = &record->headers[i];
        to[i] = (kb_header_in){from->name, from->name_len, from->value, from->value_len};
    }
    return to;
}

bool kb_task_on_record(kb_task *task, const kb_source_record *record)
{
    if (task->state != KB_TASK_READING || record->offset < task->position)
        return true;
    if (record->offset >= task->cut) {
        reach_end(task);
        return true;
    }
    kb_header_in stack[KB_STACK_HEADERS];
    KB_AUTOFREE kb_header_in *heap = NULL;
    kb_record_in in = {
        .timestamp = record->timestamp,
        .offset = record->offset,
        .key = record->key,
        .key_len = record->key_len,
        .value = record->value,
        .value_len = record->value_len,
        .headers = record->header_count > 0 ? copy_headers(record, stack, &heap) : NULL,
        .header_count = record->header_count,
    };
    KB_AUTO_ERROR(err);
    kb_code code = append(task, &in, &err);
    if (code == KB_ERR_STOPPED)
        return false;
    if (code == KB_RECORD_INVALID) {
        kb_task_fail(task, &err);
    } else if (code != KB_OK) {
        kb_run_fail(task->rules->control, &err);
        return false;
    }
    return !kb_run_is_ending(task->rules->control);
}

void kb_task_on_eof(kb_task *task, int64_t offset)
{
    if (task->state == KB_TASK_READING && offset >= task->cut)
        reach_end(task);
}

void kb_task_on_timer(kb_task *task, int64_t now_ms)
{
    if (task->state == KB_TASK_READING && task->segment_bytes >= KB_INTERVAL_MIN_BYTES &&
        now_ms - task->segment_began_ms >= task->rules->segment_max_interval_ms)
        close_segment(task, task->position);
}

/* ---- trouble ---- */

void kb_task_skip_gap(kb_task *task, int64_t end)
{
    close_segment(task, task->position);
    kb_lane_push_gap(task->lane, task->position, end);
    __atomic_store_n(&task->position, end, __ATOMIC_RELAXED);
    task->segment_from = end;
    if (end >= task->cut) {
        task->state = KB_TASK_READING;
        reach_end(task);
    } else {
        task->state = KB_TASK_WAITING;
    }
}

/* Drops the open segment; whoever goes on sets the position. */
static void drop_open(kb_task *task)
{
    free_frame(task);
    task->segment_bytes = 0;
    task->segment_records = 0;
}

static void go_on_at(kb_task *task, int64_t offset)
{
    __atomic_store_n(&task->position, offset, __ATOMIC_RELAXED);
    task->segment_from = offset;
    task->state = KB_TASK_WAITING;
    if (offset < task->cut)
        return;
    task->state = KB_TASK_READING;
    reach_end(task);
}

void kb_task_reuse_base(kb_task *task)
{
    drop_open(task);
    task->reused_up_to = task->reuse_floor;
    task->reuse_floor = -1;
    kb_lane_push_reuse(task->lane, task->reused_up_to);
    go_on_at(task, task->reused_up_to);
}

void kb_task_lose(kb_task *task, kb_topic_state state, const char *reason, char *owned_detail)
{
    close_segment(task, task->position);
    kb_lane_push_lost(task->lane, state, reason, owned_detail);
    task->state = KB_TASK_READ;
}

void kb_task_hand_over(kb_task *task)
{
    close_segment(task, task->position);
}

void kb_task_fail(kb_task *task, kb_error *err)
{
    kb_task_hand_over(task);
    task->state = KB_TASK_FAILED;
    kb_run_fail_partition(task->rules->control, err);
}

void kb_task_restart(kb_task *task, int64_t offset)
{
    drop_open(task);
    kb_lane_push_restarted(task->lane);
    if (offset < task->reused_up_to) { /* the lane dropped that, too */
        kb_lane_push_reuse(task->lane, task->reused_up_to);
        offset = task->reused_up_to;
    }
    __atomic_store_n(&task->position, offset, __ATOMIC_RELAXED);
    task->segment_from = offset;
    if (task->rounds > 0) /* the lane may have dropped it */
        kb_lane_push_cut(task->lane, task->cut, kb_clock_wall_ms());
    task->state = KB_TASK_WAITING;
    if (offset >= task->cut)
        reach_end(task);
}
