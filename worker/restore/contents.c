#include "worker/restore/contents.h"

#include <inttypes.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "worker/kafka/kafka_range.h"
#include "worker/restore/landed.h"
#include "worker/restore/stream.h"
#include "worker/restore/txn_progress.h"

#define KB_READ_DEADLINE_MS 120000

/* What is asked about one unit. */
typedef struct unit_contents {
    kb_preflight *pf;
    const kb_restore_unit *unit;
    kb_kafka_reader *reader;
    kb_landed *landed; /* of the unit's targets */
    bool *from_zero;   /* the guess for h is 0, else it is the log start; of the unit's targets */
} unit_contents;

static kb_code never_full(void *ctx, kb_error *err)
{
    (void)ctx;
    return kb_fail(err, KB_ERR_INTERNAL, "a stream that sends nothing has no memory left");
}

static kb_code compare(const unit_contents *c, kb_landed_result *result, kb_error *err)
{
    KB_CLEANUP(kb_parcels_free_at) kb_parcels *parcels = kb_parcels_new(0, NULL, NULL);
    kb_stream_options options = {
        .storage = c->pf->settings->storage,
        .plan = c->pf->plan,
        .unit = c->unit,
        .parcels = parcels,
        .ignore_timestamps = c->pf->view.topics[c->unit->topic].log_append,
        .on_full = never_full,
        .memory_bytes = c->pf->settings->memory_bytes / 4,
    };
    KB_CLEANUP(kb_stream_free_at) kb_stream *stream = kb_stream_new(&options);
    return kb_landed_compare(stream, c->unit, c->landed, result, err);
}

static const kb_target_offsets *offsets_of(const unit_contents *c, size_t target)
{
    return &c->pf->view.targets[c->unit->first_target + target];
}

static int64_t *start_of(const unit_contents *c, size_t target)
{
    return &c->pf->starts[c->unit->first_target + target];
}

/* Samples of what is there, given that the restore began at *start_of. */
static kb_code read_landed(const unit_contents *c, size_t target, kb_error *err)
{
    const kb_target_offsets *offsets = offsets_of(c, target);
    const kb_restore_target *at = &c->pf->plan->targets[c->unit->first_target + target];
    int64_t start = *start_of(c, target);
    kb_landed_place place = {
        .topic = c->pf->plan->topics[at->topic].name,
        .partition = at->partition,
        .start = start,
        .log_start = offsets->log_start > start ? offsets->log_start : start,
        .end = offsets->end,
        .deadline_ms = kb_clock_boot_ms() + KB_READ_DEADLINE_MS,
        .stop = c->pf->settings->stop,
    };
    kb_landed *landed = &c->landed[target];
    kb_landed_done(landed);
    landed->with_timestamps = !c->pf->view.topics[c->unit->topic].log_append;
    return kb_landed_read(landed, c->reader, &place, err);
}

static bool is_empty(const kb_target_offsets *offsets)
{
    return offsets->end <= offsets->log_start;
}

/* The start object says where the restore began. */
static kb_code use_start_object(const unit_contents *c, size_t target, bool *ret_ok, kb_error *err)
{
    const kb_restore_target *at = &c->pf->plan->targets[c->unit->first_target + target];
    const char *topic = c->pf->plan->topics[at->topic].name;
    const kb_start_target *recorded = kb_start_object_find(&c->pf->past.start, topic, at->partition);
    *ret_ok = false;
    if (recorded == NULL) {
        kb_checks_refuse(c->pf->checks, KB_BACKUP_CORRUPT, "contents",
                         "the start object of the restore lacks %s/%" PRId32, topic, at->partition);
        return KB_OK;
    }
    *start_of(c, target) = recorded->start_offset;
    if (offsets_of(c, target)->end < recorded->start_offset) {
        kb_checks_refuse(c->pf->checks, KB_TARGET_DIVERGED, "contents",
                         "%s/%" PRId32 " ends at offset %" PRId64 ", before offset %" PRId64
                         " at which the restore began: it lost records",
                         topic, at->partition, offsets_of(c, target)->end, recorded->start_offset);
        return KB_OK;
    }
    *ret_ok = true;
    return read_landed(c, target, err);
}

static kb_code guess_start(const unit_contents *c, size_t target, kb_error *err)
{
    const kb_target_offsets *offsets = offsets_of(c, target);
    *start_of(c, target) = c->from_zero[target] && !is_empty(offsets) ? 0 : offsets->log_start;
    return read_landed(c, target, err);
}

static void refuse_contents(const unit_contents *c, const kb_landed_result *result)
{
    size_t target = result->target;
    const kb_restore_target *at = &c->pf->plan->targets[c->unit->first_target + target];
    const kb_target_offsets *offsets = offsets_of(c, target);
    kb_checks_refuse(c->pf->checks, KB_TARGET_NOT_EMPTY, "contents",
                     "%s/%" PRId32 " is not empty: offsets %" PRId64 " to %" PRId64 " hold %s",
                     c->pf->plan->topics[at->topic].name, at->partition, offsets->log_start, offsets->end - 1,
                     result->verdict == KB_LANDED_TOO_LONG ? "more records than the restore has"
                                                           : "other records than the restore would write");
}

/*
 * Whether the unit's targets hold the beginning of its stream. Without a start object the restore may have
 * begun at offset 0 (a topic that it made) or at the log start (a topic that it found empty): both are tried.
 */
static kb_code check_unit(const unit_contents *c, kb_landed_result *ret_result, kb_error *err)
{
    bool resumed = c->pf->decisions[c->unit->topic].is_resumed;
    bool ok = true;
    for (size_t i = 0; i < c->unit->target_count; i++) {
        c->from_zero[i] = true;
        kb_code code = resumed ? use_start_object(c, i, &ok, err) : guess_start(c, i, err);
        if (code != KB_OK)
            return code;
        if (!ok)
            return KB_OK;
    }
    while (true) {
        if (compare(c, ret_result, err) != KB_OK)
            return err->code;
        size_t target = ret_result->target;
        if (ret_result->verdict == KB_LANDED_PREFIX || resumed || !c->from_zero[target] ||
            offsets_of(c, target)->log_start == 0)
            return KB_OK;
        c->from_zero[target] = false;
        if (guess_start(c, target, err) != KB_OK)
            return err->code;
    }
}

static bool has_records(const unit_contents *c)
{
    for (size_t i = 0; i < c->unit->target_count; i++)
        if (!is_empty(offsets_of(c, i)))
            return true;
    return false;
}

static bool is_readable(const unit_contents *c)
{
    for (size_t i = 0; i < c->unit->target_count; i++) {
        const kb_target_offsets *offsets = offsets_of(c, i);
        const kb_restore_target *at = &c->pf->plan->targets[c->unit->first_target + i];
        if (offsets->error_number != 0) {
            KB_AUTO_ERROR(err);
            (void)kb_kafka_fail(&err, offsets->error_number, NULL, "reading the offsets of %s/%" PRId32,
                                c->pf->plan->topics[at->topic].name, at->partition);
            kb_checks_refuse_error(c->pf->checks, "contents", &err);
            return false;
        }
        if (offsets->log_start < 0)
            return false; /* the partition does not exist, which is refused elsewhere */
    }
    return true;
}

static void judge(const unit_contents *c, const kb_landed_result *result)
{
    kb_topic_decision *decision = &c->pf->decisions[c->unit->topic];
    const kb_config_restore *config = &c->pf->settings->config->restore;
    if (result->verdict == KB_LANDED_PREFIX)
        return;
    decision->is_prefix = false;
    if (config->purge_topics && !decision->is_resumed)
        decision->purge = true;
    else
        refuse_contents(c, result);
}

static kb_code look_at_unit(unit_contents *c, kb_error *err)
{
    kb_topic_decision *decision = &c->pf->decisions[c->unit->topic];
    if (!c->pf->view.topics[c->unit->topic].exists || !is_readable(c))
        return KB_OK;
    if (!has_records(c) && !decision->is_resumed) {
        for (size_t i = 0; i < c->unit->target_count; i++)
            *start_of(c, i) = offsets_of(c, i)->log_start;
        return KB_OK;
    }
    decision->has_records = decision->has_records || has_records(c);
    KB_AUTOFREE kb_landed *landed = kb_calloc(c->unit->target_count, sizeof *landed);
    KB_AUTOFREE bool *from_zero = kb_calloc(c->unit->target_count, sizeof *from_zero);
    c->landed = landed;
    c->from_zero = from_zero;
    kb_landed_result result = {KB_LANDED_PREFIX, 0, 0};
    kb_code code = check_unit(c, &result, err);
    for (size_t i = 0; i < c->unit->target_count; i++)
        kb_landed_done(&landed[i]);
    if (code == KB_OK)
        judge(c, &result);
    else if (code == KB_BACKUP_CORRUPT || code == KB_BACKUP_PRUNED || code == KB_TIMESTAMP_ZERO) {
        kb_checks_refuse_error(c->pf->checks, "contents", err);
        kb_error_done(err);
        code = KB_OK;
    }
    return code;
}

static void refuse_existing(kb_preflight *pf, size_t t)
{
    bool ours = pf->decisions[t].is_resumed || pf->decisions[t].is_ours;
    if (pf->settings->config->restore.target_policy == KB_CONFIG_TARGET_ABSENT && pf->view.topics[t].exists &&
        !ours)
        kb_checks_refuse(pf->checks, KB_TARGET_NOT_EMPTY, "contents",
                         "topic '%s' exists, and restore.target_policy is absent", pf->plan->topics[t].name);
}

kb_code kb_contents_check(kb_preflight *pf, const char *restore_id, kb_error *err)
{
    for (size_t t = 0; t < pf->plan->topic_count; t++) {
        pf->decisions[t].is_prefix = true;
        refuse_existing(pf, t);
    }
    if (pf->settings->config->restore.delivery == KB_CONFIG_TRANSACTIONAL)
        return kb_txn_progress_check(pf, restore_id, err);
    kb_kafka_reader_options options = {.read_uncommitted = true};
    KB_CLEANUP(kb_kafka_reader_free_at) kb_kafka_reader *reader = NULL;
    if (kb_kafka_reader_new(pf->settings->kafka, &options, &reader, err) != KB_OK)
        return err->code;
    for (size_t u = 0; u < pf->plan->unit_count; u++) {
        unit_contents c = {.pf = pf, .unit = &pf->plan->units[u], .reader = reader};
        if (look_at_unit(&c, err) != KB_OK)
            return err->code;
        kb_progress_touch(pf->settings->progress);
    }
    for (size_t t = 0; t < pf->plan->topic_count; t++)
        pf->is_resumed = pf->is_resumed || (pf->decisions[t].has_records && !pf->decisions[t].purge);
    return KB_OK;
}

static kb_code read_target(const kb_preflight *pf, kb_kafka_reader *reader, size_t i, kb_target_state *state,
                           kb_error *err)
{
    const kb_target_offsets *offsets = &pf->view.targets[i];
    if (offsets->error_number != 0)
        return kb_kafka_fail(err, offsets->error_number, NULL, "reading the offsets of %s/%" PRId32,
                             state->topic, state->partition);
    if (offsets->end < state->start)
        return kb_fail(err, KB_TARGET_DIVERGED,
                       "%s/%" PRId32 " ends at offset %" PRId64 ", before offset %" PRId64
                       " at which the restore began: it lost records",
                       state->topic, state->partition, offsets->end, state->start);
    kb_landed_place place = {
        .topic = state->topic,
        .partition = state->partition,
        .start = state->start,
        .log_start = offsets->log_start > state->start ? offsets->log_start : state->start,
        .end = offsets->end,
        .deadline_ms = kb_clock_boot_ms() + KB_READ_DEADLINE_MS,
        .stop = pf->settings->stop,
    };
    state->landed.with_timestamps = !state->log_append;
    return kb_landed_read(&state->landed, reader, &place, err);
}

kb_code kb_contents_read(const kb_preflight *pf, kb_target_state *targets, kb_error *err)
{
    kb_kafka_reader_options options = {.read_uncommitted = true};
    KB_CLEANUP(kb_kafka_reader_free_at) kb_kafka_reader *reader = NULL;
    if (kb_kafka_reader_new(pf->settings->kafka, &options, &reader, err) != KB_OK)
        return err->code;
    for (size_t i = 0; i < pf->plan->target_count; i++) {
        if (read_target(pf, reader, i, &targets[i], err) != KB_OK)
            return kb_wrap(err, "looking at what earlier attempts restored");
        kb_progress_touch(pf->settings->progress);
    }
    return KB_OK;
}
