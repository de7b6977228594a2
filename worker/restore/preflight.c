#include "worker/restore/preflight.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "worker/restore/contents.h"
#include "worker/restore/preflight_checks.h"
#include "worker/restore/topics.h"

void kb_preflight_done(kb_preflight *pf)
{
    kb_restore_past_done(&pf->past);
    kb_target_view_done(&pf->view);
    free(pf->decisions);
    free(pf->starts);
    free(pf->committed);
}

/* A start object of another backup or another plan: its counts mean nothing for this stream. */
static void check_start_object(kb_preflight *pf, const char *restore_id)
{
    const kb_start_object *start = &pf->past.start;
    static const char hint[] = "hint: use the settings that it was begun with, or another restore.restore_id";
    if (memcmp(start->backup_sha256, pf->backup_sha256, KB_SHA256_SIZE) != 0 ||
        strcmp(start->backup_id, pf->plan->backup->backup_id) != 0)
        kb_checks_refuse(pf->checks, KB_CONFIG_INVALID, "start object",
                         "restore '%s' was begun with another backup ('%s'); %s", restore_id,
                         start->backup_id, hint);
    else if (memcmp(start->plan_sha256, pf->plan->sha256, KB_SHA256_SIZE) != 0)
        kb_checks_refuse(pf->checks, KB_CONFIG_INVALID, "start object",
                         "restore '%s' was begun with another selection, window, mapping, delivery, header "
                         "setting or target cluster; %s",
                         restore_id, hint);
}

/* Whether the recorded topic is the one that is there now. */
static bool speaks_of(const kb_start_target *recorded, const kb_target_topic *target)
{
    if (recorded == NULL || !target->exists)
        return false;
    if (!recorded->has_topic_id || !target->has_id)
        return true;
    return memcmp(recorded->topic_id, target->id, KB_TOPIC_ID_SIZE) == 0;
}

static void apply_past(kb_preflight *pf)
{
    pf->start_applies = pf->past.has_start;
    for (size_t t = 0; t < pf->plan->topic_count; t++) {
        kb_topic_decision *decision = &pf->decisions[t];
        const kb_target_topic *target = &pf->view.topics[t];
        const kb_restore_topic *topic = &pf->plan->topics[t];
        const kb_start_target *recorded =
            pf->past.has_start ? kb_start_object_find(&pf->past.start, topic->name, 0) : NULL;
        decision->is_resumed = speaks_of(recorded, target);
        pf->start_applies = pf->start_applies && decision->is_resumed;
        if (!target->exists)
            continue;
        bool was_creating = kb_restore_past_was_creating(&pf->past, topic->name);
        decision->is_ours = (decision->is_resumed && recorded != NULL && recorded->created) ||
                            (was_creating && kb_restore_topics_is_held(topic, target));
        if (decision->is_ours && kb_restore_topics_is_held(topic, target))
            kb_progress_add_held_topic(pf->settings->progress, topic->name);
    }
    pf->is_resumed = pf->past.has_start;
}

kb_code kb_preflight_run(kb_preflight *pf, const char *restore_id, kb_error *err)
{
    const char *state_file = pf->settings->config->restore.checkpoint_state;
    pf->decisions = kb_calloc(pf->plan->topic_count + 1, sizeof *pf->decisions);
    pf->starts = kb_calloc(pf->plan->target_count + 1, sizeof *pf->starts);
    for (size_t i = 0; i < pf->plan->target_count; i++)
        pf->starts[i] = -1;
    if (kb_restore_past_read(pf->settings->storage, restore_id, state_file, &pf->past, err) != KB_OK)
        return err->code;
    if (pf->past.has_start)
        check_start_object(pf, restore_id);
    bool same_plan = pf->checks->refused == 0;
    if (kb_target_view_read(pf->admin, pf->plan, pf->settings->stop, &pf->view, err) != KB_OK)
        return err->code;
    apply_past(pf);
    kb_preflight_check_backup(pf);
    /* Records can be compared only with the stream that they would belong to. */
    if (same_plan && kb_contents_check(pf, restore_id, err) != KB_OK)
        return err->code;
    kb_preflight_check_topics(pf);
    return kb_preflight_check_creation(pf, err);
}
