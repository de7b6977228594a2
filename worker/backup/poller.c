#include "worker/backup/poller.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/contract/exit_codes.h"

#define KB_POLL_MS 50
#define KB_IDLE_MS 10
#define KB_TIMER_MS 1000
#define KB_CATCH_UP_WAIT_MS 100
#define KB_RETRY_MS 1000
#define KB_TOPIC_GONE_MS 30000
#define KB_BAD_DATA_TRIES 3
#define KB_ASK_DEADLINE_MS 60000

struct kb_poller {
    kb_pollers *shared;
    size_t share;
    pthread_t thread;
    kb_kafka_reader *reader;
    kb_task **active; /* at most `share`, plus restarted ones */
    size_t active_count, active_capacity;
    kb_queue *restarts; /* of kb_task */
    bool delivered;     /* by the present poll */
    int64_t timer_ms;
};

static kb_kafka_call make_call(const kb_poller *poller)
{
    return (kb_kafka_call){.deadline_ms = kb_clock_boot_ms() + KB_ASK_DEADLINE_MS,
                           .stop = poller->shared->control->stop};
}

static void settle(kb_poller *poller, kb_task *task)
{
    if (kb_task_settle(task))
        atomic_fetch_sub(&poller->shared->open_tasks, 1);
}

static void start_stream(kb_poller *poller, kb_task *task)
{
    KB_AUTO_ERROR(err);
    task->state = KB_TASK_READING;
    if (kb_kafka_reader_start(poller->reader, task->topic, task->partition, task->position, task, &err) !=
        KB_OK)
        kb_run_fail(poller->shared->control, &err);
}

static void stop_stream(kb_poller *poller, kb_task *task)
{
    kb_kafka_reader_stop(poller->reader, task->topic, task->partition);
}

static void retry_later(kb_task *task, int64_t now_ms)
{
    if (task->trouble_since_ms == 0)
        task->trouble_since_ms = now_ms;
    task->retry_at_ms = now_ms + KB_RETRY_MS;
    task->state = KB_TASK_RETRYING;
}

/* ---- events of the reader ---- */

static bool on_record(void *owner, const kb_source_record *record)
{
    kb_task *task = owner;
    task->poller->delivered = true;
    bool go_on = kb_task_on_record(task, record);
    if (task->state != KB_TASK_READING)
        stop_stream(task->poller, task);
    return go_on;
}

static void on_eof(void *owner, int64_t offset)
{
    kb_task *task = owner;
    task->poller->delivered = true;
    kb_task_on_eof(task, offset);
    if (task->state != KB_TASK_READING)
        stop_stream(task->poller, task);
}

static kb_code ask_one(kb_poller *poller, const kb_task *task, kb_kafka_offset_kind kind, int64_t *ret_offset,
                       kb_error *err)
{
    kb_kafka_offset_query query = {.topic = task->topic, .partition = task->partition};
    kb_kafka_call call = make_call(poller);
    if (kb_kafka_admin_list_offsets(poller->shared->admin, kind, &query, 1, &call, err) != KB_OK)
        return err->code;
    if (query.error_number != 0)
        return kb_kafka_fail(err, query.error_number, NULL, "%s/%" PRId32, task->topic, task->partition);
    *ret_offset = query.offset;
    return KB_OK;
}

/* Below the log start: those records are gone. Above the log end: the log was truncated. */
static void on_out_of_range(kb_poller *poller, kb_task *task)
{
    KB_AUTO_ERROR(err);
    int64_t start, end;
    if (ask_one(poller, task, KB_KAFKA_OFFSET_EARLIEST, &start, &err) != KB_OK ||
        ask_one(poller, task, KB_KAFKA_OFFSET_LATEST, &end, &err) != KB_OK) {
        retry_later(task, kb_clock_boot_ms());
        return;
    }
    if (task->position < start && task->position < task->reuse_floor) {
        kb_log(KB_LOG_INFO, "retention was faster than reading small segments again; the base's are reused",
               KB_STR("topic", task->topic), KB_INT("partition", task->partition),
               KB_INT("offset", task->position), KB_INT("log_start", start));
        kb_task_reuse_base(task);
    } else if (task->position < start) {
        int64_t gap_end = start < task->cut ? start : task->cut;
        kb_log(KB_LOG_WARN, "records were removed before they could be read", KB_STR("topic", task->topic),
               KB_INT("partition", task->partition), KB_INT("offset", task->position),
               KB_INT("log_start", start));
        kb_task_skip_gap(task, gap_end);
    } else if (task->position > end) {
        kb_task_lose(task, KB_TOPIC_FAILED, kb_finding_name(KB_FINDING_DISCONTINUITY),
                     kb_asprintf("the log was truncated: it ends at %" PRId64
                                 ", reading had come to %" PRId64,
                                 end, task->position));
    } else {
        retry_later(task, kb_clock_boot_ms());
    }
}

static void on_access_lost(kb_poller *poller, kb_task *task, const kb_kafka_stream_error *error)
{
    if (poller->shared->warn_unauthorized) {
        kb_task_lose(task, KB_TOPIC_UNAUTHORIZED, kb_finding_name(KB_FINDING_TOPICS_SKIPPED),
                     kb_strdup(error->text));
        return;
    }
    KB_AUTO_ERROR(err);
    (void)kb_fail(&err, KB_KAFKA_ACCESS_DENIED,
                  "%s; hint: grant Read on the topic, or set backup.on_unauthorized_topic: warn",
                  error->text);
    kb_task_fail(task, &err);
    settle(poller, task);
}

static void on_bad_data(kb_poller *poller, kb_task *task, const kb_kafka_stream_error *error)
{
    if (++task->bad_data_count < KB_BAD_DATA_TRIES) {
        kb_log(KB_LOG_WARN, "damaged batch, fetching it again", KB_STR("topic", task->topic),
               KB_INT("partition", task->partition), KB_INT("offset", error->position),
               KB_STR("err", error->text));
        retry_later(task, kb_clock_boot_ms());
        return;
    }
    KB_AUTO_ERROR(err);
    (void)kb_fail(
        &err, KB_RECORD_INVALID,
        "%s; hint: that batch is damaged on the broker: make another replica the leader of %s/%" PRId32
        ", or delete its records up to beyond that batch, which the next backup lists as a gap",
        error->text, task->topic, task->partition);
    kb_task_fail(task, &err);
    settle(poller, task);
}

static void on_topic_gone(kb_task *task)
{
    int64_t now_ms = kb_clock_boot_ms();
    if (task->trouble_since_ms != 0 && now_ms - task->trouble_since_ms >= KB_TOPIC_GONE_MS)
        kb_task_lose(task, KB_TOPIC_DELETED, kb_finding_name(KB_FINDING_DISCONTINUITY),
                     kb_strdup("the topic or partition is gone"));
    else
        retry_later(task, now_ms);
}

static void on_other(kb_poller *poller, kb_task *task, const kb_kafka_stream_error *error)
{
    if (error->retryable) {
        kb_log_limited(KB_LOG_WARN, "reading failed, trying again", KB_STR("topic", task->topic),
                       KB_INT("partition", task->partition), KB_STR("err", error->text));
        if (poller->shared->metrics != NULL)
            kb_run_metrics_add_retry(poller->shared->metrics, KB_RETRY_FETCH);
        retry_later(task, kb_clock_boot_ms());
        return;
    }
    KB_AUTO_ERROR(err);
    (void)kb_fail(&err, error->code, "%s", error->text);
    kb_task_fail(task, &err);
    settle(poller, task);
}

static void on_error(void *owner, const kb_kafka_stream_error *error)
{
    kb_task *task = owner;
    if (task->state != KB_TASK_READING)
        return;
    if (error->position > task->position && error->position <= task->cut)
        __atomic_store_n(&task->position, error->position, __ATOMIC_RELAXED);
    switch (error->problem) {
    case KB_KAFKA_STREAM_OUT_OF_RANGE:
        on_out_of_range(task->poller, task);
        break;
    case KB_KAFKA_STREAM_TOPIC_GONE:
        on_topic_gone(task);
        break;
    case KB_KAFKA_STREAM_ACCESS:
        on_access_lost(task->poller, task, error);
        break;
    case KB_KAFKA_STREAM_BAD_DATA:
        on_bad_data(task->poller, task, error);
        break;
    case KB_KAFKA_STREAM_OTHER:
        on_other(task->poller, task, error);
        break;
    }
}

/* ---- the loop ---- */

static bool counts_as_active(const kb_task *task)
{
    return task->state == KB_TASK_WAITING || task->state == KB_TASK_READING ||
           task->state == KB_TASK_RETRYING || task->state == KB_TASK_CATCHING_UP;
}

static void add_active(kb_poller *poller, kb_task *task)
{
    poller->active =
        kb_grow(poller->active, poller->active_count, &poller->active_capacity, sizeof *poller->active);
    poller->active[poller->active_count++] = task;
}

static void drop_finished(kb_poller *poller)
{
    size_t kept = 0;
    for (size_t i = 0; i < poller->active_count; i++)
        if (counts_as_active(poller->active[i]))
            poller->active[kept++] = poller->active[i];
    atomic_fetch_sub(&poller->shared->unread_tasks, poller->active_count - kept);
    poller->active_count = kept;
}

static void take_restarts(kb_poller *poller)
{
    void *item;
    while (kb_queue_pop_wait(poller->restarts, 0, &item) == KB_QUEUE_DONE) {
        kb_task *task = item;
        long long offset = atomic_exchange(&task->restart_at, -1);
        if (offset < 0 || task->state == KB_TASK_FAILED)
            continue;
        bool was_active = counts_as_active(task);
        if (task->state == KB_TASK_READING)
            stop_stream(poller, task);
        kb_task_restart(task, offset);
        if (!was_active) {
            atomic_fetch_add(&poller->shared->unread_tasks, 1);
            add_active(poller, task);
        }
    }
}

static void begin_tasks(kb_poller *poller)
{
    kb_pollers *shared = poller->shared;
    while (poller->active_count < poller->share && !kb_run_is_ending(shared->control)) {
        size_t next = atomic_fetch_add(&shared->next_task, 1);
        if (next >= shared->task_count) {
            atomic_store(&shared->next_task, shared->task_count); /* no overflow, however often it is asked */
            return;
        }
        kb_task *task = &shared->tasks[next];
        task->poller = poller;
        if (task->read_began_ms == 0)
            task->read_began_ms = kb_clock_boot_ms();
        if (task->position >= task->cut) {
            task->state = KB_TASK_READING;
            kb_task_on_eof(task, task->cut);
        }
        add_active(poller, task);
    }
}

static void serve_tasks(kb_poller *poller, int64_t now_ms)
{
    bool timer = now_ms - poller->timer_ms >= KB_TIMER_MS;
    if (timer)
        poller->timer_ms = now_ms;
    for (size_t i = 0; i < poller->active_count; i++) {
        kb_task *task = poller->active[i];
        if (timer && kb_ledger_is_lost(poller->shared->ledger, task->topic)) {
            stop_stream(poller, task);
            task->state = KB_TASK_READ; /* the ledger has written its end */
        } else if (task->state == KB_TASK_WAITING ||
                   (task->state == KB_TASK_RETRYING && now_ms >= task->retry_at_ms)) {
            start_stream(poller, task);
        } else if (timer) {
            kb_task_on_timer(task, now_ms);
        }
    }
}

/* Asks for the log's end of all that wait for it, in one call, when nothing else is being read or they waited
 * enough. */
static void serve_catching_up(kb_poller *poller, int64_t now_ms)
{
    size_t count = 0;
    bool late = false;
    for (size_t i = 0; i < poller->active_count; i++) {
        if (poller->active[i]->state != KB_TASK_CATCHING_UP)
            continue;
        count++;
        late = late || now_ms - poller->active[i]->catching_since_ms >= KB_CATCH_UP_WAIT_MS;
    }
    if (count == 0 || (!late && count < poller->active_count))
        return;
    KB_AUTOFREE kb_kafka_offset_query *queries = kb_calloc(count, sizeof *queries);
    KB_AUTOFREE kb_task **asked = kb_calloc(count, sizeof(kb_task *));
    count = 0;
    for (size_t i = 0; i < poller->active_count; i++) {
        kb_task *task = poller->active[i];
        if (task->state != KB_TASK_CATCHING_UP)
            continue;
        queries[count] = (kb_kafka_offset_query){.topic = task->topic, .partition = task->partition};
        asked[count++] = task;
    }
    KB_AUTO_ERROR(err);
    kb_kafka_call call = make_call(poller);
    int64_t wall_ms = kb_clock_wall_ms();
    if (kb_kafka_admin_list_offsets(poller->shared->admin, KB_KAFKA_OFFSET_LAST_STABLE, queries, count, &call,
                                    &err) != KB_OK) {
        if (err.code != KB_ERR_STOPPED)
            kb_run_fail(poller->shared->control, &err);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (queries[i].error_number == 0)
            kb_task_on_log_end(asked[i], queries[i].offset, wall_ms);
        else
            retry_later(asked[i], kb_clock_boot_ms()); /* reading it again tells what is the matter */
    }
}

static kb_code poll_once(kb_poller *poller, kb_error *err)
{
    static const kb_kafka_reader_events events = {
        .on_record = on_record, .on_eof = on_eof, .on_error = on_error};
    if (kb_kafka_reader_count(poller->reader) == 0) {
        (void)kb_stop_wait(poller->shared->control->stop, KB_IDLE_MS);
        return KB_OK;
    }
    poller->delivered = false;
    kb_code code = kb_kafka_reader_poll(poller->reader, KB_POLL_MS, &events, err);
    if (code == KB_OK && poller->delivered) {
        kb_progress_touch(poller->shared->progress);
        code = KB_FAILPOINT("fetch.reply", err);
    }
    return code;
}

static void *run(void *arg)
{
    kb_poller *poller = arg;
    kb_pollers *shared = poller->shared;
    while (!kb_run_is_ending(shared->control) && atomic_load(&shared->open_tasks) > 0) {
        KB_AUTO_ERROR(err);
        take_restarts(poller);
        begin_tasks(poller);
        if (poll_once(poller, &err) != KB_OK) {
            kb_run_fail(shared->control, &err);
            break;
        }
        int64_t now_ms = kb_clock_boot_ms();
        serve_tasks(poller, now_ms);
        serve_catching_up(poller, now_ms);
        drop_finished(poller);
    }
    for (size_t i = 0; i < poller->active_count; i++) {
        stop_stream(poller, poller->active[i]);
        if (!kb_run_is_cancelled(shared->control))
            kb_task_hand_over(poller->active[i]);
    }
    return NULL;
}

static void poller_free(kb_poller *poller)
{
    kb_kafka_reader_free(poller->reader);
    kb_queue_free(poller->restarts);
    free(poller->active);
    free(poller);
}

kb_code kb_poller_start(kb_pollers *pollers, size_t share, kb_poller **ret_poller, kb_error *err)
{
    kb_poller *poller = kb_calloc(1, sizeof *poller);
    poller->shared = pollers;
    poller->share = share;
    poller->restarts = kb_queue_new(pollers->task_count > 0 ? pollers->task_count : 1, NULL);
    if (kb_kafka_reader_new(pollers->kafka, &pollers->reader_options, &poller->reader, err) != KB_OK) {
        poller_free(poller);
        return err->code;
    }
    int failed = pthread_create(&poller->thread, NULL, run, poller);
    if (failed != 0) {
        poller_free(poller);
        return kb_fail_retryable(err, KB_TEMPORARY_FAILURE, "no thread for reading: %s",
                                 kb_errno_text(failed));
    }
    *ret_poller = poller;
    return KB_OK;
}

void kb_poller_restart(kb_poller *poller, kb_task *task, int64_t offset)
{
    /* One push for each request: the queue has room for all tasks, and a task has at most one request. */
    if (atomic_exchange(&task->restart_at, offset) < 0 && !kb_queue_push_try(poller->restarts, task))
        kb_log(KB_LOG_ERROR, "restart queue is full", KB_STR("topic", task->topic),
               KB_INT("partition", task->partition));
}

void kb_poller_state(kb_poller *poller, kb_kafka_state *ret_state)
{
    kb_kafka_reader_state(poller->reader, ret_state);
}

void kb_poller_join(kb_poller *owned_poller)
{
    if (owned_poller == NULL)
        return;
    pthread_join(owned_poller->thread, NULL);
    poller_free(owned_poller);
}
