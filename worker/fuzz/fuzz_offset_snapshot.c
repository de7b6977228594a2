/* fuzz_offset_snapshot - snapshots of offsets of all kinds, and mapping files. */
#include <stdint.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "worker/catalog/group_snapshot.h"
#include "worker/offsets/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode_snapshot(kb_view text, bool foreign)
{
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_offset_snapshot_done) kb_offset_snapshot snapshot = {0};
    kb_code code = foreign ? kb_offset_snapshot_decode_foreign(text, &snapshot, &err)
                           : kb_offset_snapshot_decode(text, &snapshot, &err);
    if (code != KB_OK)
        return;
    KB_AUTOFREE char *again = NULL;
    size_t len = 0;
    if (kb_offset_snapshot_encode(&snapshot, &again, &len, &err) != KB_OK && err.code != KB_ERR_FORMAT)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kb_view text = kb_view_of(data, size);
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_group_set_done) kb_group_set mapping = {0};
    KB_CLEANUP(kb_group_set_done) kb_group_set groups = {0};
    kb_group_snapshot_notes notes;
    decode_snapshot(text, false);
    decode_snapshot(text, true);
    if (kb_offset_mapping_decode(text, &mapping, &err) == KB_OK)
        (void)kb_group_set_find(&mapping, "g");
    if (kb_group_snapshot_decode(text, &groups, &notes, &err) != KB_OK)
        return 0;
    KB_AUTOFREE char *again = NULL;
    size_t len = 0;
    if (kb_group_snapshot_encode(&groups, 0, &again, &len, &err) != KB_OK && err.code != KB_ERR_FORMAT &&
        err.code != KB_ERR_INTERNAL)
        abort();
    return 0;
}
