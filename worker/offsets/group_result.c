#include "worker/offsets/group_result.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "common/contract/exit_codes.h"
#include "worker/kafka/kafka_error.h"

#define KB_SUMMARY_MAX_BYTES 16384
#define KB_SUMMARY_GROUPS 5

/* Of the broker protocol: the group has members, or got some in between. */
enum {
    ERROR_ILLEGAL_GENERATION = 22,
    ERROR_UNKNOWN_MEMBER_ID = 25,
    ERROR_REBALANCE_IN_PROGRESS = 27,
    ERROR_NON_EMPTY_GROUP = 68,
    ERROR_GROUP_SUBSCRIBED_TO_TOPIC = 86,
    ERROR_FENCED_MEMBER_EPOCH = 110,
    ERROR_STALE_MEMBER_EPOCH = 113
};

void kb_group_results_done(kb_group_results *results)
{
    for (size_t i = 0; i < results->count; i++) {
        free(results->items[i].group);
        free(results->items[i].message);
    }
    free(results->items);
    *results = (kb_group_results){0};
}

static kb_group_result *find(const kb_group_results *results, const char *group)
{
    /* Mostly asked in the order in which they were added. */
    for (size_t n = 0; n < results->count; n++) {
        size_t i = (results->last + n) % results->count;
        if (strcmp(results->items[i].group, group) == 0) {
            ((kb_group_results *)(uintptr_t)results)->last = i;
            return &results->items[i];
        }
    }
    return NULL;
}

kb_group_result *kb_group_results_of(kb_group_results *results, const char *group)
{
    kb_group_result *found = find(results, group);
    if (found != NULL)
        return found;
    results->items = kb_grow(results->items, results->count, &results->capacity, sizeof *results->items);
    found = &results->items[results->count++];
    *found = (kb_group_result){.group = kb_strdup(group)};
    return found;
}

void kb_group_result_fail(kb_group_result *result, kb_code code, const char *fmt, ...)
{
    if (result->code != KB_OK)
        return;
    va_list args;
    va_start(args, fmt);
    if (vasprintf(&result->message, fmt, args) < 0)
        kb_out_of_memory();
    va_end(args);
    result->code = code;
}

kb_code kb_group_error_code(int error_number)
{
    switch (error_number) {
    case 0:
        return KB_OK;
    case ERROR_ILLEGAL_GENERATION:
    case ERROR_UNKNOWN_MEMBER_ID:
    case ERROR_REBALANCE_IN_PROGRESS:
    case ERROR_NON_EMPTY_GROUP:
    case ERROR_GROUP_SUBSCRIBED_TO_TOPIC:
    case ERROR_FENCED_MEMBER_EPOCH:
    case ERROR_STALE_MEMBER_EPOCH:
        return KB_GROUP_ACTIVE;
    default:
        break;
    }
    kb_kafka_verdict verdict = kb_kafka_classify(error_number);
    if (verdict.code == KB_TOPIC_NOT_FOUND)
        return KB_GROUPS_FAILED;
    if (verdict.class_ == KB_KAFKA_CLASS_TRANSIENT || verdict.class_ == KB_KAFKA_CLASS_PERMISSION)
        return verdict.code;
    return KB_GROUPS_FAILED;
}

void kb_group_result_take(kb_group_result *result, const kb_group_entry *entry, const char *doing)
{
    if (entry->error_number != 0)
        kb_group_result_fail(result, kb_group_error_code(entry->error_number), "%s: %s (%s)", doing,
                             entry->error_text != NULL ? entry->error_text : "failed",
                             kb_kafka_error_name(entry->error_number));
    for (size_t i = 0; i < entry->count; i++) {
        const kb_group_place *place = &entry->places[i];
        if (place->error_number != 0)
            kb_group_result_fail(result, kb_group_error_code(place->error_number), "%s: %s/%" PRId32 ": %s",
                                 doing, place->topic, place->partition,
                                 kb_kafka_error_name(place->error_number));
    }
}

bool kb_group_result_is_ok(const kb_group_results *results, const char *group)
{
    const kb_group_result *found = find(results, group);
    return found == NULL || found->code == KB_OK;
}

size_t kb_group_results_failed(const kb_group_results *results)
{
    size_t failed = 0;
    for (size_t i = 0; i < results->count; i++)
        failed += results->items[i].code != KB_OK ? 1 : 0;
    return failed;
}

static const char *status_of(const kb_group_result *result, bool dry_run)
{
    if (result->code != KB_OK)
        return "failure";
    if (dry_run)
        return "planned";
    return result->is_done ? "success" : "skipped";
}

void kb_group_results_tell(const kb_group_results *results, bool dry_run, kb_progress *progress,
                           kb_run_metrics *metrics)
{
    size_t done = 0;
    for (size_t i = 0; i < results->count; i++) {
        const kb_group_result *result = &results->items[i];
        done += result->code == KB_OK && result->is_done ? 1 : 0;
        kb_progress_add_group(progress, result->group, status_of(result, dry_run),
                              dry_run ? result->planned : result->changed, result->message);
        if (metrics != NULL && !dry_run)
            kb_run_metrics_add_group(
                metrics, result->code == KB_OK ? KB_GROUP_OUTCOME_SUCCESS : KB_GROUP_OUTCOME_FAILURE,
                (uint64_t)result->changed);
        if (result->code != KB_OK)
            kb_log(KB_LOG_WARN, "group failed", KB_STR("group", result->group),
                   KB_STR("err", result->message));
    }
    kb_progress_set_number(progress, KB_REPORT_GROUPS_TOTAL, (int64_t)results->count);
    kb_progress_set_number(progress, KB_REPORT_GROUPS_DONE, (int64_t)done);
    kb_progress_set_number(progress, KB_REPORT_GROUPS_FAILED, (int64_t)kb_group_results_failed(results));
}

/* The code that all failures together mean. */
static kb_code common_code(const kb_group_results *results)
{
    kb_code common = KB_OK;
    for (size_t i = 0; i < results->count; i++) {
        kb_code code = results->items[i].code;
        if (code == KB_OK)
            continue;
        if (kb_exit_code(code, 0) == KB_EXIT_TEMPORARY)
            return code;
        common = common == KB_OK || common == code ? code : KB_GROUPS_FAILED;
    }
    return common;
}

kb_code kb_group_results_end(const kb_group_results *results, kb_error *err)
{
    size_t failed = kb_group_results_failed(results);
    if (failed == 0)
        return KB_OK;
    KB_AUTO_STRBUF(text, KB_SUMMARY_MAX_BYTES);
    size_t shown = 0;
    for (size_t i = 0; i < results->count && shown < KB_SUMMARY_GROUPS; i++) {
        const kb_group_result *result = &results->items[i];
        if (result->code != KB_OK)
            kb_strbuf_appendf(&text, "%s group '%s': %.1000s", shown++ > 0 ? ";" : "", result->group,
                              result->message);
    }
    return kb_fail(err, common_code(results), "%zu of %zu groups failed:%s%s", failed, results->count,
                   kb_strbuf_view(&text), failed > shown ? "; ..." : "");
}
