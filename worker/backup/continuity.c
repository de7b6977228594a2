#include "worker/backup/continuity.h"

#include <inttypes.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "worker/kafka/kafka_reader.h"
#include "worker/segment/record_digest.h"

/* Streams at once, and what each may prefetch: one batch holds the record that is wanted. */
#define KB_WINDOW 256
#define KB_QUEUE_BYTES ((int64_t)64 << 10)
#define KB_FETCH_BYTES ((int64_t)64 << 10)
#define KB_POLL_MS 50
#define KB_RETRY_MS 500
#define KB_STACK_HEADERS 16

typedef struct kb_continuity_run {
    const kb_continuity_options *options;
    kb_kafka_reader *reader;
    kb_record_hasher *hasher;
    kb_continuity_item *items;
    size_t count;
    size_t first; /* all before it are done */
    size_t next;  /* none from it on was begun */
    int64_t moved_ms;
    kb_error failure;
} kb_continuity_run;

static void run_done(kb_continuity_run *run)
{
    kb_kafka_reader_free(run->reader);
    kb_record_hasher_free(run->hasher);
    kb_error_done(&run->failure);
}

/* ---- answers ---- */

/* The next probe that matters and can still be in the log. */
static void choose_next(kb_continuity_item *item)
{
    while (kb_reuse_judge_probes(item->answers, item->probe_count) == KB_REUSE_PROBE) {
        size_t next = 0;
        while (item->answers[next] != KB_PROBE_UNASKED)
            next++;
        if (item->probes[next].offset >= item->log_start) {
            item->asking = next;
            item->state = KB_CONTINUITY_TO_START;
            return;
        }
        item->answers[next] = KB_PROBE_GONE;
    }
    item->state = KB_CONTINUITY_DONE;
}

static void answer(kb_continuity_item *item, kb_probe_answer given)
{
    kb_continuity_run *run = item->run;
    kb_kafka_reader_stop(run->reader, item->topic, item->partition);
    item->answers[item->asking] = given;
    run->moved_ms = kb_clock_boot_ms();
    if (run->options->progress != NULL)
        kb_progress_touch(run->options->progress);
    choose_next(item);
}

static kb_code hash_record(kb_record_hasher *hasher, const kb_source_record *record,
                           uint8_t to[KB_SHA256_SIZE], kb_error *err)
{
    kb_header_in stack[KB_STACK_HEADERS];
    KB_AUTOFREE kb_header_in *heap = NULL;
    kb_header_in *headers = stack;
    if (record->header_count > KB_STACK_HEADERS)
        headers = heap = kb_calloc(record->header_count, sizeof *heap);
    for (size_t i = 0; i < record->header_count; i++)
        headers[i] = (kb_header_in){record->headers[i].name, record->headers[i].name_len,
                                    record->headers[i].value, record->headers[i].value_len};
    const kb_record_in in = {
        .timestamp = record->timestamp,
        .offset = record->offset,
        .key = record->key,
        .key_len = record->key_len,
        .value = record->value,
        .value_len = record->value_len,
        .headers = record->header_count > 0 ? headers : NULL,
        .header_count = record->header_count,
    };
    return kb_record_hash_in(hasher, &in, to, err);
}

static bool on_record(void *owner, const kb_source_record *record)
{
    kb_continuity_item *item = owner;
    if (item->state != KB_CONTINUITY_RUNNING)
        return true;
    const kb_probe *probe = &item->probes[item->asking];
    if (record->offset < probe->offset)
        return true;
    if (record->offset > probe->offset) {
        answer(item, KB_PROBE_GONE);
        return true;
    }
    uint8_t hash[KB_SHA256_SIZE];
    if (hash_record(item->run->hasher, record, hash, &item->run->failure) != KB_OK) {
        answer(item, KB_PROBE_DIFFERENT); /* one that could be stored is there no more */
        kb_error_done(&item->run->failure);
        return true;
    }
    answer(item, memcmp(hash, probe->sha256, sizeof hash) == 0 ? KB_PROBE_EQUAL : KB_PROBE_DIFFERENT);
    return true;
}

static void on_eof(void *owner, int64_t offset)
{
    kb_continuity_item *item = owner;
    if (item->state == KB_CONTINUITY_RUNNING && offset > item->probes[item->asking].offset)
        answer(item, KB_PROBE_GONE);
}

static void on_error(void *owner, const kb_kafka_stream_error *error)
{
    kb_continuity_item *item = owner;
    if (item->state != KB_CONTINUITY_RUNNING)
        return;
    if (error->problem == KB_KAFKA_STREAM_OTHER && error->retryable) {
        item->state = KB_CONTINUITY_LATER;
        item->retry_at_ms = kb_clock_boot_ms() + KB_RETRY_MS;
        return;
    }
    kb_log_limited(KB_LOG_WARN, "the record at a probe of the base cannot be read",
                   KB_STR("topic", item->topic), KB_INT("partition", item->partition),
                   KB_STR("err", error->text));
    answer(item, KB_PROBE_GONE);
}

/* ---- the loop ---- */

static kb_code start(kb_continuity_run *run, kb_continuity_item *item, kb_error *err)
{
    item->state = KB_CONTINUITY_RUNNING;
    return kb_kafka_reader_start(run->reader, item->topic, item->partition, item->probes[item->asking].offset,
                                 item, err);
}

/* Starts what is to be started, keeps the window full. */
static kb_code serve(kb_continuity_run *run, kb_error *err)
{
    int64_t now_ms = kb_clock_boot_ms();
    while (run->first < run->next && run->items[run->first].state == KB_CONTINUITY_DONE)
        run->first++;
    for (size_t i = run->first; i < run->count; i++) {
        kb_continuity_item *item = &run->items[i];
        bool begins = i >= run->next;
        if (kb_kafka_reader_count(run->reader) >= KB_WINDOW)
            break;
        if (begins) {
            item->run = run;
            run->next = i + 1;
            choose_next(item);
        }
        bool due = item->state == KB_CONTINUITY_LATER && now_ms >= item->retry_at_ms;
        if ((item->state == KB_CONTINUITY_TO_START || due) && start(run, item, err) != KB_OK)
            return err->code;
    }
    return KB_OK;
}

static bool is_finished(const kb_continuity_run *run)
{
    for (size_t i = run->first; i < run->next; i++)
        if (run->items[i].state != KB_CONTINUITY_DONE)
            return false;
    return run->next == run->count;
}

static kb_code check_progress(const kb_continuity_run *run, kb_error *err)
{
    if (kb_stop_requested(run->options->stop))
        return kb_fail(err, KB_ERR_STOPPED, "stopped while comparing the log with the base");
    int64_t idle_ms = kb_clock_boot_ms() - run->moved_ms;
    if (idle_ms < run->options->no_progress_ms)
        return KB_OK;
    kb_kafka_state now;
    kb_kafka_reader_state(run->reader, &now);
    (void)kb_fail_retryable(
        err, KB_NO_PROGRESS, "comparing the log with the base: nothing came for %" PRId64 " s%s%s",
        idle_ms / 1000, now.last_error != NULL ? ": " : "", now.last_error != NULL ? now.last_error : "");
    kb_kafka_state_done(&now);
    return err->code;
}

static kb_code ask_all(kb_continuity_run *run, kb_error *err)
{
    static const kb_kafka_reader_events events = {on_record, on_eof, on_error};
    for (;;) {
        if (serve(run, err) != KB_OK)
            return err->code;
        if (is_finished(run))
            return KB_OK;
        if (kb_kafka_reader_poll(run->reader, KB_POLL_MS, &events, err) != KB_OK ||
            check_progress(run, err) != KB_OK)
            return err->code;
    }
}

kb_code kb_continuity_ask(const kb_continuity_options *options, kb_continuity_item *items, size_t count,
                          kb_error *err)
{
    const kb_kafka_reader_options reader_options = {
        .queue_bytes_per_partition = KB_QUEUE_BYTES,
        .fetch_bytes_per_partition = KB_FETCH_BYTES,
    };
    KB_CLEANUP(run_done)
    kb_continuity_run run = {
        .options = options,
        .items = items,
        .count = count,
        .moved_ms = kb_clock_boot_ms(),
    };
    if (count == 0)
        return KB_OK;
    if (kb_kafka_reader_new(options->kafka, &reader_options, &run.reader, err) != KB_OK)
        return err->code;
    run.hasher = kb_record_hasher_new();
    return ask_all(&run, err);
}
