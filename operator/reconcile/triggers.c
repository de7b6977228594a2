#include "operator/reconcile/triggers.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "operator/jobs/object_names.h"

static json_t *pending_of(const kb_pass *pass)
{
    json_t *pending = json_object_get(pass->status, "pendingTriggers");
    return json_is_array(pending) ? pending : NULL;
}

static void drop_if_empty(kb_pass *pass)
{
    if (json_array_size(pending_of(pass)) == 0)
        json_object_del(pass->status, "pendingTriggers");
}

const char *kb_triggers_next(const kb_pass *pass)
{
    return json_string_value(json_array_get(pending_of(pass), 0));
}

static void handled(kb_pass *pass, const char *value)
{
    KB_AUTOFREE char *hash = kb_ledger_trigger_hash(value);
    kb_tree_set_text(pass->status, "lastTriggerToken", value);
    kb_ledger_set(&pass->ledger.trigger, hash);
}

void kb_triggers_confirm(kb_pass *pass)
{
    json_t *pending = pending_of(pass);
    for (size_t i = 0; i < json_array_size(pending);) {
        const char *value = json_string_value(json_array_get(pending, i));
        KB_AUTOFREE char *hash = kb_ledger_trigger_hash(value != NULL ? value : "");
        KB_AUTOFREE char *job = kb_name_trigger_job(pass->name, value != NULL ? value : "");
        bool is_in_ledger = pass->ledger.trigger != NULL && strcmp(pass->ledger.trigger, hash) == 0;
        if (value != NULL && kb_pass_job_named(pass, job) == NULL && !is_in_ledger) {
            i++;
            continue;
        }
        if (value != NULL)
            handled(pass, value);
        json_array_remove(pending, i);
    }
    drop_if_empty(pass);
}

static bool is_pending(const kb_pass *pass, const char *value)
{
    const json_t *pending = pending_of(pass);
    for (size_t i = 0; i < json_array_size(pending); i++) {
        const char *item = json_string_value(json_array_get(pending, i));
        if (item != NULL && strcmp(item, value) == 0)
            return true;
    }
    return false;
}

static void append(kb_pass *pass, const char *value)
{
    json_t *pending = pending_of(pass);
    if (pending == NULL) {
        pending = kb_tree_array();
        kb_tree_set(pass->status, "pendingTriggers", pending);
    }
    KB_AUTOFREE char *cause = kb_ledger_trigger_hash(value);
    if (json_array_size(pending) < KB_TRIGGERS_MAX) {
        kb_tree_add_text(pending, value);
        kb_plan_event(pass->plan, false, "TriggerAccepted", cause, "a backup was asked for: %s", value);
        return;
    }
    json_array_set_new(pending, KB_TRIGGERS_MAX - 1, kb_tree_string(value));
    kb_plan_event(pass->plan, false, "TriggerCoalesced", cause,
                  "%d backups wait already; this one takes the place of the last: %s", KB_TRIGGERS_MAX,
                  value);
}

static bool was_handled(const kb_pass *pass, const char *value)
{
    KB_AUTOFREE char *hash = kb_ledger_trigger_hash(value);
    return (pass->ledger.trigger != NULL && strcmp(pass->ledger.trigger, hash) == 0) ||
           strcmp(kb_tree_text_or_empty(pass->status, "lastTriggerToken", NULL), value) == 0;
}

void kb_triggers_note(kb_pass *pass, bool is_one_shot_due)
{
    const char *given =
        kb_tree_text_or_empty(pass->object, "metadata", "annotations", KB_NOTE_TRIGGER_BACKUP, NULL);
    KB_AUTOFREE char *value = kb_status_text(given, KB_TRIGGER_BYTES);
    if (*value == '\0') {
        json_object_del(pass->status, "lastTriggerToken");
        kb_ledger_set(&pass->ledger.trigger, NULL);
        return;
    }
    if (was_handled(pass, value) || is_pending(pass, value))
        return;
    bool is_creation =
        kb_tree_at(pass->old_status, "observedGeneration", NULL) == NULL && !pass->ledger.is_set;
    if (is_creation && is_one_shot_due) {
        handled(pass, value);
        return;
    }
    /* The same value once more, after another or after it was removed: its old Job holds the name. */
    KB_AUTOFREE char *name = kb_name_trigger_job(pass->name, value);
    const json_t *job = kb_pass_job_named(pass, name);
    if (job == NULL) {
        append(pass, value);
        return;
    }
    if (kb_job_is_finished(job) && kb_tree_at(job, "metadata", "deletionTimestamp", NULL) == NULL)
        kb_plan_add(&pass->later, KB_EFFECT_DELETE_JOB, name, kb_tree_text(job, "metadata", "uid", NULL),
                    NULL);
}
