#include "worker/cmd/cmd_offset_delete.h"

#include "worker/cmd/offset_run.h"
#include "worker/offsets/rollback.h"

kb_code kb_cmd_offset_delete(kb_run_context *run, kb_error *err)
{
    KB_CLEANUP(kb_offset_run_done) kb_offset_run offsets = {0};
    if (kb_run_context_observe(run, KB_RUN_KIND_OFFSETS, NULL, NULL, err) != KB_OK ||
        kb_offset_run_open_store(run, &offsets, err) != KB_OK)
        return err->code;
    return kb_offsets_delete(offsets.store, run->config->offsets.snapshot_id, run->progress, err);
}
