#include "worker/backup/topic_select.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/glob.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "worker/catalog/layout.h"

#define KB_MAX_LISTED_BYTES 4096

static bool matches_any(const char *const *patterns, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (kb_glob_match(patterns[i], name))
            return true;
    return false;
}

static bool is_internal(const kb_topic_seen *topic)
{
    return topic->internal || strcmp(topic->name, "__consumer_offsets") == 0 ||
           strcmp(topic->name, "__transaction_state") == 0;
}

bool kb_topic_is_named(const kb_topic_rules *rules, const char *name)
{
    if (rules->include_count > 0 && !matches_any(rules->include, rules->include_count, name))
        return false;
    return !matches_any(rules->exclude, rules->exclude_count, name);
}

static bool is_wanted(const kb_topic_rules *rules, const kb_topic_seen *topic)
{
    if (!kb_topic_is_named(rules, topic->name))
        return false;
    if (!is_internal(topic))
        return true;
    return rules->include_internal &&
           (rules->internal_count == 0 || matches_any(rules->internal, rules->internal_count, topic->name));
}

static kb_code check_patterns(const char *const *patterns, size_t count, const char *key, kb_error *err)
{
    for (size_t i = 0; i < count; i++)
        if (patterns[i][0] == '~')
            return kb_fail(err, KB_CONFIG_INVALID,
                           "source.topics.%s: '%s' is a regular expression, which a backup does not take; "
                           "hint: use the wildcards * and ?",
                           key, patterns[i]);
    return KB_OK;
}

static void add_skip(kb_topic_selection *s, size_t *capacity, const char *name, const char *reason)
{
    s->skipped = kb_grow(s->skipped, s->skipped_count, capacity, sizeof *s->skipped);
    s->skipped[s->skipped_count++] = (kb_topic_skip){kb_strdup(name), reason};
}

static void list_name(kb_strbuf *names, const char *name)
{
    if (names->len + strlen(name) + 8 < names->max_bytes)
        kb_strbuf_appendf(names, "%s'%s'", names->len > 0 ? ", " : "", name);
}

typedef struct selecting {
    const kb_topic_rules *rules;
    kb_topic_selection *result;
    size_t chosen_capacity, skipped_capacity;
    kb_strbuf missing, unauthorized, failing;
} selecting;

static void judge_topic(selecting *s, const kb_topic_seen *topic, size_t index)
{
    kb_topic_selection *result = s->result;
    if (topic->missing) {
        list_name(&s->missing, topic->name);
        add_skip(result, &s->skipped_capacity, topic->name, "missing");
    } else if (topic->unauthorized) {
        list_name(&s->unauthorized, topic->name);
        add_skip(result, &s->skipped_capacity, topic->name, "unauthorized");
    } else if (topic->error != NULL) {
        list_name(&s->failing, topic->name);
        kb_strbuf_appendf(&s->failing, " (%s)", topic->error);
    } else if (!kb_layout_is_topic_name(kb_view_of(topic->name, strlen(topic->name)))) {
        add_skip(result, &s->skipped_capacity, topic->name, "illegal name");
    } else {
        result->chosen =
            kb_grow(result->chosen, result->chosen_count, &s->chosen_capacity, sizeof *result->chosen);
        result->chosen[result->chosen_count++] = index;
    }
}

static void add_absent_literals(selecting *s, const kb_topic_seen *seen, size_t seen_count)
{
    for (size_t i = 0; i < s->rules->include_count; i++) {
        const char *name = s->rules->include[i];
        bool found = !kb_glob_is_literal(name);
        for (size_t k = 0; k < seen_count && !found; k++)
            found = strcmp(seen[k].name, name) == 0;
        if (found)
            continue;
        list_name(&s->missing, name);
        add_skip(s->result, &s->skipped_capacity, name, "missing");
    }
}

static kb_code verdict(const selecting *s, kb_error *err)
{
    if (s->failing.len > 0)
        return kb_fail_retryable(err, KB_KAFKA_UNREACHABLE, "the brokers keep refusing metadata of: %s",
                                 kb_strbuf_view(&s->failing));
    if (s->missing.len > 0 && !s->rules->warn_missing)
        return kb_fail(
            err, KB_TOPIC_NOT_FOUND,
            "Topic %s not found; hint: correct source.topics.include, or set backup.on_missing_topic: warn",
            kb_strbuf_view(&s->missing));
    if (s->unauthorized.len > 0 && !s->rules->warn_unauthorized)
        return kb_fail(err, KB_KAFKA_ACCESS_DENIED,
                       "not allowed to read topic %s; hint: grant Read and Describe, or set "
                       "backup.on_unauthorized_topic: warn",
                       kb_strbuf_view(&s->unauthorized));
    if (s->result->chosen_count == 0 && s->result->skipped_count == 0)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "no topic of the cluster is selected; hint: check source.topics.include and exclude");
    return KB_OK;
}

static int by_name(const void *a, const void *b, void *seen_array)
{
    const kb_topic_seen *seen = seen_array;
    return strcmp(seen[*(const size_t *)a].name, seen[*(const size_t *)b].name);
}

kb_code kb_topic_select(const kb_topic_rules *rules, const kb_topic_seen *seen, size_t seen_count,
                        kb_topic_selection *ret_selection, kb_error *err)
{
    if (check_patterns(rules->include, rules->include_count, "include", err) != KB_OK ||
        check_patterns(rules->exclude, rules->exclude_count, "exclude", err) != KB_OK)
        return err->code;
    KB_CLEANUP(kb_topic_selection_done) kb_topic_selection result = {0};
    selecting s = {.rules = rules, .result = &result};
    kb_strbuf_init(&s.missing, KB_MAX_LISTED_BYTES);
    kb_strbuf_init(&s.unauthorized, KB_MAX_LISTED_BYTES);
    kb_strbuf_init(&s.failing, KB_MAX_LISTED_BYTES);
    for (size_t i = 0; i < seen_count; i++)
        if (is_wanted(rules, &seen[i]))
            judge_topic(&s, &seen[i], i);
    add_absent_literals(&s, seen, seen_count);
    kb_code code = verdict(&s, err);
    kb_strbuf_done(&s.missing);
    kb_strbuf_done(&s.unauthorized);
    kb_strbuf_done(&s.failing);
    if (code != KB_OK)
        return code;
    if (result.chosen_count > 0)
        qsort_r(result.chosen, result.chosen_count, sizeof *result.chosen, by_name, (void *)(uintptr_t)seen);
    *ret_selection = result;
    result = (kb_topic_selection){0};
    return KB_OK;
}

void kb_topic_selection_done(kb_topic_selection *selection)
{
    for (size_t i = 0; i < selection->skipped_count; i++)
        free(selection->skipped[i].name);
    free(selection->skipped);
    free(selection->chosen);
    *selection = (kb_topic_selection){0};
}
