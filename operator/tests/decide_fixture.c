#include "operator/tests/decide_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "operator/jobs/object_names.h"

json_t *kb_test_json(const char *text)
{
    KB_AUTOFREE char *json = kb_strdup(text);
    for (char *c = json; *c != '\0'; c++)
        if (*c == '\'')
            *c = '"';
    json_error_t problem;
    json_t *value = json_loads(json, JSON_DECODE_ANY, &problem);
    if (value == NULL)
        fail_msg("%s in %s", problem.text, text);
    return value;
}

kb_capabilities kb_test_capabilities(int minor)
{
    return (kb_capabilities){
        .major = 1,
        .minor = minor,
        .has_cron_job_v1 = minor >= 21,
        .has_ttl_after_finished = minor >= 21,
        .has_cron_schedules_in_zones = minor >= 22,
        .has_time_zone_field = minor >= 25,
        .has_cel = minor >= 25,
        .has_pod_failure_policy = minor >= 26,
        .has_pod_replacement_policy = minor >= 29,
        .has_minute_slots = minor >= 21,
    };
}

static const char *const base_specs[KB_KIND_COUNT] = {
    [KB_KIND_BACKUP] = "{'kafkaCluster':{'bootstrapServers':['k:9092']},"
                       "'storage':{'storageType':'s3','s3':{'bucket':'bbb'}}}",
    [KB_KIND_RESTORE] = "{'backupId':'b-20241201-110000','targetCluster':{'bootstrapServers':['t:9092']},"
                        "'storage':{'storageType':'s3','s3':{'bucket':'bbb'}}}",
    [KB_KIND_OFFSET_RESET] =
        "{'strategy':'earliest','consumerGroups':['g'],'kafkaCluster':{'bootstrapServers':['k:9092']}}",
    [KB_KIND_OFFSET_ROLLBACK] =
        "{'operation':'verify','snapshotId':'s','kafkaCluster':{'bootstrapServers':['k:9092']}}",
};

/* Members of `from` over those of `to`, one level down for objects. */
static void overlay(json_t *to, json_t *from)
{
    const char *name;
    json_t *value;
    json_object_foreach(from, name, value)
    {
        json_t *old = json_object_get(to, name);
        if (json_is_object(old) && json_is_object(value))
            overlay(old, value);
        else
            json_object_set(to, name, value);
    }
}

static json_t *object_of(const kb_test_case *row)
{
    json_t *object = kb_test_json("{'metadata':{'name':'x','namespace':'ns','uid':'u1','generation':1,"
                                  "'resourceVersion':'1','creationTimestamp':'2024-12-01T10:00:00Z'}}");
    json_object_set_new(object, "spec", kb_test_json(base_specs[row->kind]));
    KB_AUTO_TREE(own);
    own = row->object != NULL ? kb_test_json(row->object) : NULL;
    overlay(object, own);
    return object;
}

static json_t *array_of(const char *text)
{
    return kb_test_json(text != NULL ? text : "[]");
}

static kb_snapshot snapshot_of(const kb_test_case *row, json_t *owned_object)
{
    return (kb_snapshot){
        .kind = row->kind,
        .object = owned_object,
        .cron_job = row->cron_job != NULL ? kb_test_json(row->cron_job) : NULL,
        .is_cron_job_foreign = row->is_cron_job_foreign,
        .applied_generation = row->applied_generation > 0 ? row->applied_generation : -1,
        .jobs = array_of(row->jobs),
        .pods = array_of(row->pods),
        .events = array_of(row->events),
        .is_active_job_gone = row->is_job_gone,
        .was_deletion_seen = row->was_deletion_seen,
        .account = row->account,
        .backups = array_of(row->backups),
        .restores = array_of(row->restores),
        .resets = array_of(row->resets),
        .rollbacks = array_of(row->rollbacks),
        .same_name = array_of(row->same_name),
        .last_fault = row->fault,
        .last_fault_text = row->fault_text,
    };
}

static kb_settings settings_of(const kb_test_case *row)
{
    KB_AUTO_TREE(json);
    json = kb_test_json(KB_TEST_SETTINGS);
    KB_AUTO_TREE(own);
    own = row->settings != NULL ? kb_test_json(row->settings) : NULL;
    overlay(json, own);
    KB_AUTOFREE char *text = kb_tree_canonical(json);
    kb_settings settings;
    KB_AUTO_ERROR(err);
    assert_int_equal(kb_settings_parse(text, &settings, &err), KB_OK);
    return settings;
}

static char *describe(const kb_plan *plan)
{
    KB_AUTO_STRBUF(text, 8192);
    for (size_t i = 0; i < plan->count; i++) {
        const kb_effect *effect = &plan->effects[i];
        kb_strbuf_appendf(&text, "%s%s", i > 0 ? " " : "", kb_effect_name(effect->kind));
        if (effect->kind == KB_EFFECT_EVENT || effect->kind == KB_EFFECT_OBSERVE)
            kb_strbuf_appendf(&text, ":%s", effect->reason);
        else if (effect->name != NULL && effect->kind != KB_EFFECT_CONFIG_MAP)
            kb_strbuf_appendf(&text, ":%s", effect->name);
    }
    char *taken = kb_strbuf_take(&text);
    return taken != NULL ? taken : kb_strdup("");
}

/* What the API server would hold after ledger and status were written. */
static void store(json_t *object, const kb_plan *plan)
{
    for (size_t i = 0; i < plan->count; i++) {
        const kb_effect *effect = &plan->effects[i];
        if (effect->kind == KB_EFFECT_LEDGER) {
            json_t *meta = json_object_get(object, "metadata");
            if (json_object_get(meta, "annotations") == NULL)
                kb_tree_set(meta, "annotations", kb_tree_object());
            kb_tree_set_text(json_object_get(meta, "annotations"), KB_NOTE_LEDGER, effect->message);
        } else if (effect->kind == KB_EFFECT_STATUS) {
            json_t *run = json_incref(kb_tree_at(object, "status", "run", NULL));
            json_t *status = kb_tree_copy(effect->body);
            kb_tree_set(status, "run", run);
            kb_tree_set(object, "status", status);
        }
    }
}

static kb_test_outcome run_on(const kb_test_case *row, kb_test_decide decide, json_t *owned_object)
{
    kb_test_outcome outcome = {0};
    kb_plan_init(&outcome.plan);
    kb_settings settings = settings_of(row);
    kb_capabilities caps = kb_test_capabilities(row->minor > 0 ? row->minor : 34);
    kb_snapshot snapshot = snapshot_of(row, owned_object);
    const kb_surroundings around = {row->now_ms > 0 ? row->now_ms : KB_TEST_NOW_MS, &caps, &settings};
    decide(&snapshot, &around, &outcome.plan);
    outcome.object = kb_tree_copy(snapshot.object);
    store(outcome.object, &outcome.plan);
    outcome.effects = describe(&outcome.plan);
    kb_snapshot_done(&snapshot);
    kb_settings_done(&settings);
    return outcome;
}

kb_test_outcome kb_test_run(const kb_test_case *row, kb_test_decide decide)
{
    return run_on(row, decide, object_of(row));
}

void kb_test_outcome_done(kb_test_outcome *outcome)
{
    kb_plan_done(&outcome->plan);
    json_decref(outcome->object);
    free(outcome->effects);
    *outcome = (kb_test_outcome){0};
}

const char *kb_test_condition(const kb_test_outcome *outcome, const char *type)
{
    static char text[256];
    const json_t *conditions = kb_tree_at(outcome->object, "status", "conditions", NULL);
    const json_t *condition = kb_condition_find(conditions, type);
    KB_AUTOFREE char *both = kb_asprintf("%s/%s", kb_tree_text_or_empty(condition, "status", NULL),
                                         kb_tree_text_or_empty(condition, "reason", NULL));
    memset(text, 0, sizeof text);
    memcpy(text, both, strlen(both) < sizeof text ? strlen(both) : sizeof text - 1);
    return text;
}

void kb_test_assert_settled(const kb_test_case *row, kb_test_decide decide, const kb_test_outcome *outcome)
{
    kb_test_outcome next = run_on(row, decide, kb_tree_copy(outcome->object));
    if (kb_plan_find(&next.plan, KB_EFFECT_STATUS) != NULL ||
        kb_plan_find(&next.plan, KB_EFFECT_LEDGER) != NULL) {
        KB_AUTOFREE char *before = kb_tree_canonical(kb_tree_at(outcome->object, "status", NULL));
        KB_AUTOFREE char *after = kb_tree_canonical(kb_tree_at(next.object, "status", NULL));
        fail_msg("written again: %s\nbefore %s\nafter  %s", next.effects, before, after);
    }
    kb_test_outcome_done(&next);
}
