#include "worker/offsets/reset.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "worker/kafka/kafka_reader.h"
#include "worker/offsets/group_state.h"
#include "worker/offsets/header_search.h"

int64_t kb_reset_offset(kb_config_offset_strategy strategy, int64_t number, const kb_place_bounds *bounds,
                        bool *ret_moved)
{
    *ret_moved = false;
    switch (strategy) {
    case KB_CONFIG_OFFSET_EARLIEST:
        return bounds->log_start;
    case KB_CONFIG_OFFSET_TIMESTAMP:
        return bounds->at_time >= 0 ? bounds->at_time : bounds->end;
    case KB_CONFIG_OFFSET_OFFSET:
        *ret_moved = number < bounds->log_start || number > bounds->end;
        if (number < bounds->log_start)
            return bounds->log_start;
        return number > bounds->end ? bounds->end : number;
    case KB_CONFIG_OFFSET_LATEST:
    case KB_CONFIG_OFFSET_NONE:
    case KB_CONFIG_OFFSET_HEADER_BASED:
    case KB_CONFIG_OFFSET_FROM_MAPPING:
        break;
    }
    return bounds->end;
}

void kb_reset_outcome_done(kb_reset_outcome *outcome)
{
    kb_group_change_done(&outcome->change);
    kb_group_results_done(&outcome->results);
}

typedef struct reset_run {
    const kb_offsets_env *env;
    const kb_reset_request *request;
    kb_reset_outcome *outcome;
    kb_group_set names;   /* the groups, without places */
    kb_group_set current; /* what they have committed */
    kb_group_set wanted;  /* the places to be set */
    kb_places places;
    kb_kafka_reader *reader; /* headerBased; made when it is first needed */
} reset_run;

static void reset_run_done(reset_run *r)
{
    kb_group_set_done(&r->names);
    kb_group_set_done(&r->current);
    kb_group_set_done(&r->wanted);
    kb_places_done(&r->places);
    kb_kafka_reader_free(r->reader);
}

/* ---- which places ---- */

/* The source offsets of a group, for headerBased. */
static const kb_group_entry *sources_of(const reset_run *r, const char *group)
{
    return kb_group_set_find(r->request->sources != NULL ? r->request->sources : &r->current, group);
}

static void copy_places(const kb_group_entry *from, const kb_strings *topics, kb_group_entry *to)
{
    for (size_t i = 0; from != NULL && i < from->count; i++) {
        const kb_group_place *place = &from->places[i];
        if (place->offset >= 0 && kb_places_is_meant(topics, place->topic))
            kb_group_entry_put(to, place->topic, place->partition, 0, NULL);
    }
}

/* Every partition that the topics have now, instead of those of which the group has source offsets. */
static kb_code add_all_partitions(reset_run *r, kb_error *err)
{
    for (size_t g = 0; g < r->wanted.count; g++) {
        kb_group_entry *entry = &r->wanted.groups[g];
        kb_group_set one = {0};
        (void)kb_group_set_add(&one, entry->group);
        KB_AUTOFREE char **names = kb_calloc(entry->count + 1, sizeof *names);
        kb_strings topics = {.items = names};
        for (size_t p = 0; p < entry->count; p++)
            if (topics.count == 0 || strcmp(names[topics.count - 1], entry->places[p].topic) != 0)
                names[topics.count++] = entry->places[p].topic;
        kb_code code =
            topics.count == 0 ? KB_OK : kb_places_of_topics(r->env, &topics, &one, &r->outcome->results, err);
        if (code == KB_OK && topics.count > 0)
            kb_group_entry_clear(entry);
        for (size_t p = 0; code == KB_OK && p < one.groups[0].count; p++)
            kb_group_entry_put(entry, one.groups[0].places[p].topic, one.groups[0].places[p].partition, 0,
                               NULL);
        kb_group_set_done(&one);
        if (code != KB_OK)
            return code;
    }
    return KB_OK;
}

static void fail_without_places(reset_run *r)
{
    static const struct {
        kb_config_offset_strategy strategy;
        kb_code code;
        const char *text;
    } reasons[] = {
        {KB_CONFIG_OFFSET_HEADER_BASED, KB_SOURCE_OFFSETS_MISSING,
         "there are no source offsets of it; hint: name storage and backup_id of a backup with a group "
         "snapshot"},
        {KB_CONFIG_OFFSET_FROM_MAPPING, KB_MAPPING_INVALID, "mapping_file has no offsets for it"},
    };
    for (size_t g = 0; g < r->wanted.count; g++) {
        const kb_group_entry *entry = &r->wanted.groups[g];
        if (entry->count > 0)
            continue;
        kb_code code = KB_GROUPS_FAILED;
        const char *text = "it has no committed offsets; hint: name the topics";
        for (size_t i = 0; i < KB_ARRAY_LEN(reasons); i++) {
            if (reasons[i].strategy != r->request->strategy)
                continue;
            code = reasons[i].code;
            text = reasons[i].text;
        }
        kb_group_result_fail(kb_group_results_of(&r->outcome->results, entry->group), code, "%s", text);
    }
}

static kb_code find_places(reset_run *r, kb_error *err)
{
    const kb_reset_request *request = r->request;
    bool by_topics = request->topics->count > 0;
    for (size_t g = 0; g < r->names.count; g++) {
        kb_group_entry *entry = kb_group_set_add(&r->wanted, r->names.groups[g].group);
        if (request->strategy == KB_CONFIG_OFFSET_FROM_MAPPING)
            copy_places(kb_group_set_find(request->mapping, entry->group), request->topics, entry);
        else if (request->strategy == KB_CONFIG_OFFSET_HEADER_BASED)
            copy_places(sources_of(r, entry->group), request->topics, entry);
        else if (!by_topics)
            copy_places(kb_group_set_find(&r->current, entry->group), request->topics, entry);
    }
    kb_code code = KB_OK;
    bool is_plain = request->strategy != KB_CONFIG_OFFSET_FROM_MAPPING &&
                    request->strategy != KB_CONFIG_OFFSET_HEADER_BASED;
    if (by_topics && is_plain)
        code = kb_places_of_topics(r->env, request->topics, &r->wanted, &r->outcome->results, err);
    else if (request->strategy == KB_CONFIG_OFFSET_HEADER_BASED && request->scan_all_partitions)
        code = add_all_partitions(r, err);
    fail_without_places(r);
    return code;
}

/* ---- which offset ---- */

typedef struct consumed_ctx {
    const kb_group_entry *sources;
    const char *topic;
} consumed_ctx;

static int64_t consumed_of(void *ctx, int32_t source_partition)
{
    const consumed_ctx *c = ctx;
    return kb_group_entry_offset(c->sources, c->topic, source_partition);
}

static kb_code search_header(reset_run *r, const kb_group_entry *sources, const kb_group_place *place,
                             const kb_place_bounds *bounds, int64_t *ret_offset, kb_error *err)
{
    if (r->reader == NULL &&
        kb_kafka_reader_new(r->env->kafka, &(kb_kafka_reader_options){0}, &r->reader, err) != KB_OK)
        return err->code;
    kb_header_live live = {
        r->reader, place->topic, place->partition, bounds->end, r->request->source_cluster, r->env->stop};
    kb_progress_touch(r->env->progress);
    if (r->request->scan_all_partitions) {
        consumed_ctx ctx = {sources, place->topic};
        return kb_header_scan(&live, bounds->log_start, consumed_of, &ctx, ret_offset, err);
    }
    kb_header_query query = {
        .topic = place->topic,
        .partition = place->partition,
        .log_start = bounds->log_start,
        .end = bounds->end,
        .source_offset = kb_group_entry_offset(sources, place->topic, place->partition),
        .read = kb_header_read_live,
        .ctx = &live,
    };
    int reads = 0;
    if (kb_header_search(&query, ret_offset, &reads, err) != KB_OK)
        return err->code;
    kb_log(KB_LOG_DEBUG, "offset found by headers", KB_STR("topic", place->topic),
           KB_INT("partition", place->partition), KB_INT("offset", *ret_offset), KB_INT("reads", reads));
    return KB_OK;
}

static kb_code from_mapping(const reset_run *r, const char *group, const kb_group_place *place,
                            const kb_place_bounds *bounds, int64_t *ret_offset, kb_error *err)
{
    *ret_offset =
        kb_group_entry_offset(kb_group_set_find(r->request->mapping, group), place->topic, place->partition);
    if (*ret_offset < bounds->log_start || *ret_offset > bounds->end)
        return kb_fail(err, KB_MAPPING_INVALID,
                       "%s/%" PRId32 ": offset %" PRId64
                       " of mapping_file lies outside of the partition, [%" PRId64 ", %" PRId64 "]",
                       place->topic, place->partition, *ret_offset, bounds->log_start, bounds->end);
    return KB_OK;
}

static kb_code new_offset(reset_run *r, const char *group, const kb_group_place *place,
                          const kb_place_bounds *bounds, int64_t *ret_offset, kb_error *err)
{
    const kb_reset_request *request = r->request;
    if (bounds == NULL || bounds->error_number != 0) {
        int number = bounds != NULL ? bounds->error_number : KB_KAFKA_ERROR_UNKNOWN_TOPIC_OR_PARTITION;
        return kb_fail(err, kb_group_error_code(number), "%s/%" PRId32 ": %s", place->topic, place->partition,
                       kb_kafka_error_name(number));
    }
    if (request->strategy == KB_CONFIG_OFFSET_FROM_MAPPING)
        return from_mapping(r, group, place, bounds, ret_offset, err);
    if (request->strategy == KB_CONFIG_OFFSET_HEADER_BASED)
        return search_header(r, sources_of(r, group), place, bounds, ret_offset, err);
    bool moved;
    *ret_offset = kb_reset_offset(request->strategy, request->offset, bounds, &moved);
    if (moved)
        kb_log(KB_LOG_WARN, "the offset lies outside of the partition and was moved into it",
               KB_STR("group", group), KB_STR("topic", place->topic), KB_INT("partition", place->partition),
               KB_INT("offset", *ret_offset));
    return KB_OK;
}

static kb_code plan_group(reset_run *r, const kb_group_entry *wanted, kb_error *err)
{
    kb_group_result *result = kb_group_results_of(&r->outcome->results, wanted->group);
    kb_group_set one = {0};
    kb_group_entry *planned = kb_group_set_add(&one, wanted->group);
    kb_code code = KB_OK;
    for (size_t p = 0; p < wanted->count && result->code == KB_OK; p++) {
        const kb_group_place *place = &wanted->places[p];
        int64_t offset = 0;
        KB_AUTO_ERROR(own);
        if (new_offset(r, wanted->group, place, kb_places_find(&r->places, place->topic, place->partition),
                       &offset, &own) == KB_OK) {
            kb_group_entry_put(planned, place->topic, place->partition, offset, NULL);
        } else if (own.code == KB_ERR_STOPPED) {
            kb_error_move(err, &own);
            code = KB_ERR_STOPPED;
            break;
        } else {
            kb_group_result_fail(result, own.code, "%s", kb_error_text(&own));
        }
    }
    for (size_t p = 0; code == KB_OK && result->code == KB_OK && p < planned->count; p++)
        kb_group_entry_put(kb_group_set_add(&r->outcome->change.plan, wanted->group),
                           planned->places[p].topic, planned->places[p].partition, planned->places[p].offset,
                           NULL);
    kb_group_set_done(&one);
    return code;
}

static kb_code make_plan(reset_run *r, kb_error *err)
{
    const kb_reset_request *request = r->request;
    if (find_places(r, err) != KB_OK ||
        kb_places_read(r->env, &r->wanted, request->strategy == KB_CONFIG_OFFSET_TIMESTAMP,
                       request->timestamp_ms, &r->places, err) != KB_OK)
        return err->code;
    for (size_t g = 0; g < r->wanted.count; g++)
        if (plan_group(r, &r->wanted.groups[g], err) != KB_OK)
            return err->code;
    kb_group_change_set_before(&r->outcome->change, &r->current);
    return KB_OK;
}

/* ---- the whole ---- */

/* How many places differ, for the dry run. */
static void count_planned(kb_reset_outcome *outcome)
{
    for (size_t g = 0; g < outcome->change.plan.count; g++) {
        const kb_group_entry *planned = &outcome->change.plan.groups[g];
        const kb_group_entry *before = kb_group_set_find(&outcome->change.before, planned->group);
        kb_group_result *result = kb_group_results_of(&outcome->results, planned->group);
        result->planned = 0;
        for (size_t p = 0; p < planned->count; p++)
            result->planned +=
                kb_group_entry_offset(before, planned->places[p].topic, planned->places[p].partition) !=
                        planned->places[p].offset
                    ? 1
                    : 0;
    }
}

kb_code kb_offsets_apply(const kb_offsets_env *env, const char *snapshot_id, const kb_group_set *current,
                         kb_reset_outcome *outcome, kb_error *err)
{
    size_t failed = kb_group_results_failed(&outcome->results);
    if (failed == 0 || env->continue_on_error) {
        if (!env->is_part)
            kb_progress_set_state(env->progress, KB_RUN_RUNNING);
        if (snapshot_id != NULL && kb_group_change_save(env, snapshot_id, &outcome->change, err) != KB_OK)
            return err->code;
        if (kb_group_change_commit(env, &outcome->change, current, &outcome->results, err) != KB_OK)
            return err->code;
    }
    kb_group_results_tell(&outcome->results, false, env->progress, env->metrics);
    return kb_group_results_end(&outcome->results, err);
}

/* The plan of the earlier attempt stands; a group that it left out cannot be added to it. */
static void fail_unplanned(reset_run *r)
{
    for (size_t g = 0; g < r->names.count; g++) {
        const char *group = r->names.groups[g].group;
        if (kb_group_set_find(&r->outcome->change.plan, group) == NULL)
            kb_group_result_fail(kb_group_results_of(&r->outcome->results, group), KB_GROUPS_FAILED,
                                 "the plan of the earlier attempt leaves it out; hint: another snapshot_id");
    }
}

static kb_code run(reset_run *r, kb_error *err)
{
    const kb_reset_request *request = r->request;
    bool is_found = false;
    for (size_t i = 0; i < request->groups->count; i++) {
        (void)kb_group_set_add(&r->names, request->groups->items[i]);
        (void)kb_group_results_of(&r->outcome->results, request->groups->items[i]);
    }
    if (request->snapshot_id != NULL && !request->dry_run &&
        kb_group_change_find(r->env, request->snapshot_id, &r->outcome->change, &is_found, err) != KB_OK)
        return err->code;
    if (kb_group_state_check(r->env, &r->names, &r->outcome->results, err) != KB_OK ||
        kb_group_change_read(r->env, &r->names, &r->outcome->results, &r->current, err) != KB_OK ||
        (!is_found && make_plan(r, err) != KB_OK))
        return err->code;
    if (is_found)
        fail_unplanned(r);
    count_planned(r->outcome);
    if (!request->dry_run)
        return kb_offsets_apply(r->env, request->snapshot_id, &r->current, r->outcome, err);
    kb_group_results_tell(&r->outcome->results, true, r->env->progress, r->env->metrics);
    return kb_group_results_end(&r->outcome->results, err);
}

kb_code kb_offsets_reset(const kb_offsets_env *env, const kb_reset_request *request,
                         kb_reset_outcome *outcome, kb_error *err)
{
    KB_CLEANUP(reset_run_done) reset_run r = {.env = env, .request = request, .outcome = outcome};
    return run(&r, err);
}
