#include "worker/restore/topics.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#define KB_LEADERS_WAIT_MS 60000
#define KB_LEADERS_LOOK_MS 250

/* What a topic has while its data comes in: nothing is removed by age, size or key. */
static const kb_kafka_setting HELD[] = {
    {"cleanup.policy", "delete"},
    {"retention.bytes", "-1"},
    {"retention.ms", "-1"},
};

static const char *held_value(const char *name)
{
    for (size_t i = 0; i < KB_ARRAY_LEN(HELD); i++)
        if (strcmp(HELD[i].name, name) == 0)
            return HELD[i].value;
    return NULL;
}

bool kb_restore_topics_is_held(const kb_restore_topic *topic, const kb_target_topic *target)
{
    for (size_t i = 0; i < KB_ARRAY_LEN(HELD); i++) {
        const char *value = kb_target_override(target, HELD[i].name);
        if (value == NULL || strcmp(value, HELD[i].value) != 0)
            return false;
    }
    for (size_t i = 0; i < target->override_count; i++) {
        const char *name = target->overrides[i].name;
        const char *value = target->overrides[i].value;
        const char *wanted = kb_restore_topic_config(topic, name);
        if (held_value(name) == NULL && (wanted == NULL || value == NULL || strcmp(wanted, value) != 0))
            return false;
    }
    return true;
}

/* ---- creating ---- */

/* The settings of one topic; *ret_settings is owned, its texts are borrowed. */
static size_t make_settings(const kb_restore_topic *topic, bool held, kb_kafka_setting **ret_settings)
{
    kb_kafka_setting *settings = kb_calloc(topic->config_count + KB_ARRAY_LEN(HELD), sizeof *settings);
    size_t count = 0;
    for (size_t i = 0; i < topic->config_count; i++)
        if (!held || held_value(topic->configs[i].name) == NULL)
            settings[count++] = (kb_kafka_setting){topic->configs[i].name, topic->configs[i].value};
    for (size_t i = 0; held && i < KB_ARRAY_LEN(HELD); i++)
        settings[count++] = HELD[i];
    *ret_settings = settings;
    return count;
}

typedef struct new_topics {
    kb_kafka_new_topic *items;
    kb_kafka_setting **settings;
    size_t count;
} new_topics;

static void new_topics_done(new_topics *topics)
{
    for (size_t i = 0; i < topics->count; i++) {
        free(topics->items[i].error_text);
        free(topics->settings[i]);
    }
    free(topics->items);
    free(topics->settings);
}

static void collect(const kb_preflight *pf, bool held, new_topics *topics)
{
    topics->items = kb_calloc(pf->plan->topic_count + 1, sizeof *topics->items);
    topics->settings = kb_calloc(pf->plan->topic_count + 1, sizeof(kb_kafka_setting *));
    for (size_t t = 0; t < pf->plan->topic_count; t++) {
        const kb_restore_topic *topic = &pf->plan->topics[t];
        if (!pf->decisions[t].create)
            continue;
        size_t n = topics->count++;
        size_t config_count = make_settings(topic, held, &topics->settings[n]);
        topics->items[n] = (kb_kafka_new_topic){
            .name = topic->name,
            .partition_count = topic->partition_count,
            .replication_factor = topic->replication_factor > 0 ? topic->replication_factor : -1,
            .configs = topics->settings[n],
            .config_count = config_count,
        };
    }
}

kb_code kb_restore_topics_validate(kb_preflight *pf, kb_error *err)
{
    KB_CLEANUP(new_topics_done) new_topics topics = {0};
    collect(pf, false, &topics);
    kb_kafka_call call = kb_restore_call(pf->settings->stop);
    if (topics.count == 0)
        return KB_OK;
    if (kb_kafka_admin_create_topics(pf->admin, topics.items, topics.count, true, &call, err) != KB_OK)
        return kb_wrap(err, "asking whether the target topics can be created");
    for (size_t i = 0; i < topics.count; i++) {
        if (topics.items[i].error_number == 0)
            continue;
        KB_AUTO_ERROR(refusal);
        (void)kb_kafka_fail(&refusal, topics.items[i].error_number, topics.items[i].error_text,
                            "creating topic '%s'", topics.items[i].name);
        kb_checks_refuse_error(pf->checks, "creation", &refusal);
    }
    return KB_OK;
}

static bool has_all_leaders(const kb_kafka_metadata *metadata, const new_topics *topics)
{
    for (size_t i = 0; i < topics->count; i++) {
        const kb_kafka_topic *topic = kb_kafka_metadata_find(metadata, topics->items[i].name);
        if (topic == NULL || topic->error_number != 0 ||
            topic->partition_count < (size_t)topics->items[i].partition_count)
            return false;
        for (size_t p = 0; p < topic->partition_count; p++)
            if (topic->partitions[p].leader < 0)
                return false;
    }
    return true;
}

static kb_code wait_for_leaders(kb_preflight *pf, const new_topics *topics, kb_error *err)
{
    KB_AUTOFREE const char **names = kb_calloc(topics->count, sizeof *names);
    for (size_t i = 0; i < topics->count; i++)
        names[i] = topics->items[i].name;
    int64_t deadline_ms = kb_clock_boot_ms() + KB_LEADERS_WAIT_MS;
    while (true) {
        kb_kafka_call call = kb_restore_call(pf->settings->stop);
        KB_CLEANUP(kb_kafka_metadata_done) kb_kafka_metadata metadata = {0};
        if (kb_kafka_admin_metadata(pf->admin, names, topics->count, &call, &metadata, err) != KB_OK)
            return kb_wrap(err, "waiting for the leaders of the created topics");
        if (has_all_leaders(&metadata, topics))
            return KB_OK;
        if (kb_clock_boot_ms() >= deadline_ms)
            return kb_fail_retryable(err, KB_TEMPORARY_FAILURE,
                                     "the created topics have no leaders after %d seconds",
                                     KB_LEADERS_WAIT_MS / 1000);
        if (kb_stop_wait(pf->settings->stop, KB_LEADERS_LOOK_MS))
            return kb_fail(err, KB_ERR_STOPPED, "stopped while topics were created");
    }
}

static void mark_created(kb_preflight *pf, bool held)
{
    for (size_t t = 0; t < pf->plan->topic_count; t++) {
        if (!pf->decisions[t].create)
            continue;
        pf->decisions[t].is_ours = true;
        if (held)
            kb_progress_add_held_topic(pf->settings->progress, pf->plan->topics[t].name);
        kb_log(KB_LOG_INFO, "topic created", KB_STR("topic", pf->plan->topics[t].name),
               KB_INT("partitions", pf->plan->topics[t].partition_count), KB_BOOL("held", held));
    }
}

static kb_code read_view(kb_preflight *pf, kb_error *err)
{
    kb_target_view view = {0};
    if (kb_target_view_read(pf->admin, pf->plan, pf->settings->stop, &view, err) != KB_OK)
        return err->code;
    kb_target_view_done(&pf->view);
    pf->view = view;
    return KB_OK;
}

kb_code kb_restore_topics_create(kb_preflight *pf, kb_error *err)
{
    bool held = pf->settings->config->restore.retention_hold;
    KB_CLEANUP(new_topics_done) new_topics topics = {0};
    collect(pf, held, &topics);
    if (topics.count == 0)
        return KB_OK;
    kb_kafka_call call = kb_restore_call(pf->settings->stop);
    if (kb_kafka_admin_create_topics(pf->admin, topics.items, topics.count, false, &call, err) != KB_OK)
        return kb_wrap(err, "creating the target topics");
    for (size_t i = 0; i < topics.count; i++) {
        int number = topics.items[i].error_number;
        /* It was absent a moment ago: what is there now is checked like any other topic, by its records. */
        if (number != 0 && number != KB_KAFKA_ERROR_TOPIC_ALREADY_EXISTS)
            return kb_kafka_fail(err, number, topics.items[i].error_text, "creating topic '%s'",
                                 topics.items[i].name);
    }
    if (wait_for_leaders(pf, &topics, err) != KB_OK)
        return err->code;
    mark_created(pf, held);
    return read_view(pf, err);
}

/* ---- purging ---- */

kb_code kb_restore_topics_purge(kb_preflight *pf, kb_error *err)
{
    KB_AUTOFREE kb_kafka_delete_records *deletes = kb_calloc(pf->plan->target_count + 1, sizeof *deletes);
    size_t count = 0;
    for (size_t i = 0; i < pf->plan->target_count; i++) {
        const kb_restore_target *target = &pf->plan->targets[i];
        if (!pf->decisions[target->topic].purge)
            continue;
        deletes[count++] = (kb_kafka_delete_records){
            .topic = pf->plan->topics[target->topic].name, .partition = target->partition, .before = -1};
    }
    if (count == 0)
        return KB_OK;
    kb_kafka_call call = kb_restore_call(pf->settings->stop);
    if (kb_kafka_admin_delete_records(pf->admin, deletes, count, &call, err) != KB_OK)
        return kb_wrap(err, "restore.purge_topics");
    for (size_t i = 0; i < count; i++) {
        if (deletes[i].error_number != 0)
            return kb_kafka_fail(err, deletes[i].error_number, NULL,
                                 "restore.purge_topics: deleting the records of %s/%" PRId32,
                                 deletes[i].topic, deletes[i].partition);
        kb_log(KB_LOG_INFO, "partition purged", KB_STR("topic", deletes[i].topic),
               KB_INT("partition", deletes[i].partition), KB_INT("log_start", deletes[i].log_start));
    }
    return read_view(pf, err);
}

/* ---- final configs ---- */

kb_code kb_restore_topics_release(kb_preflight *pf, const bool *ready, kb_error *err)
{
    enum { HELD_COUNT = KB_ARRAY_LEN(HELD) };
    if (!pf->settings->config->restore.retention_hold)
        return KB_OK;
    size_t topic_count = pf->plan->topic_count;
    KB_AUTOFREE kb_kafka_alter *alters = kb_calloc(topic_count + 1, sizeof *alters);
    KB_AUTOFREE kb_kafka_setting *settings = kb_calloc((topic_count + 1) * HELD_COUNT, sizeof *settings);
    size_t count = 0;
    for (size_t t = 0; t < topic_count; t++) {
        if (!pf->decisions[t].is_ours || !ready[t])
            continue;
        kb_kafka_setting *own = &settings[count * HELD_COUNT];
        for (size_t i = 0; i < HELD_COUNT; i++)
            own[i] =
                (kb_kafka_setting){HELD[i].name, kb_restore_topic_config(&pf->plan->topics[t], HELD[i].name)};
        alters[count++] = (kb_kafka_alter){pf->plan->topics[t].name, own, HELD_COUNT, 0, NULL};
    }
    if (count == 0)
        return KB_OK;
    kb_kafka_call call = kb_restore_call(pf->settings->stop);
    kb_code code = kb_kafka_admin_alter_topic_configs(pf->admin, alters, count, &call, err);
    if (code != KB_OK)
        return kb_wrap(err, "setting the final configs of the restored topics");
    for (size_t i = 0; i < count; i++) {
        if (alters[i].error_number != 0 && code == KB_OK)
            code = kb_kafka_fail(err, alters[i].error_number, alters[i].error_text,
                                 "setting the final configs of topic '%s'", alters[i].topic);
        free(alters[i].error_text);
    }
    return code;
}
