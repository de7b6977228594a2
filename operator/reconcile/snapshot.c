#include "operator/reconcile/snapshot.h"

void kb_snapshot_done(kb_snapshot *snapshot)
{
    json_t *const held[] = {snapshot->object,        snapshot->cron_job, snapshot->jobs,
                            snapshot->pods,          snapshot->events,   snapshot->config_maps,
                            snapshot->account_notes, snapshot->backups,  snapshot->same_name,
                            snapshot->restores,      snapshot->resets,   snapshot->rollbacks};
    for (size_t i = 0; i < sizeof held / sizeof held[0]; i++)
        json_decref(held[i]);
    *snapshot = (kb_snapshot){0};
}
