#include "worker/cmd/cmd_offset_snapshot.h"

#include "worker/cmd/offset_run.h"
#include "worker/offsets/rollback.h"

kb_code kb_cmd_offset_snapshot(kb_run_context *run, kb_error *err)
{
    return kb_offset_run_on_snapshot(run, kb_offsets_snapshot, err);
}
