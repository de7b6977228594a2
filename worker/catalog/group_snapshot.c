#include "worker/catalog/group_snapshot.h"

#include <string.h>

#include "common/base/mem.h"
#include "worker/catalog/object_source.h"

/* As for every JSON object that is neither manifest nor backup.json (storage-format, 3.1). */
#define SNAPSHOT_MAX_BYTES ((size_t)64 << 20)

kb_code kb_group_snapshot_verify(kb_storage *storage, const kb_backup *backup, kb_error *err)
{
    if (backup->groups == NULL)
        return KB_OK;
    const char *key = backup->groups->key;
    kb_object_source *source KB_CLEANUP(kb_object_source_free_at) = NULL;
    kb_code code = kb_object_source_open(storage, key, SNAPSHOT_MAX_BYTES, &source, err);
    if (code == KB_ERR_NOT_FOUND)
        return kb_fail(err, KB_ERR_FORMAT, "group snapshot '%s' is missing", key);
    if (code == KB_OK)
        code = kb_object_source_drain(source, err);
    if (code != KB_OK)
        return code;
    uint8_t sha256[KB_SHA256_SIZE];
    kb_object_source_sha256(source, sha256);
    if (memcmp(sha256, backup->groups->sha256, sizeof sha256) != 0)
        return kb_fail(err, KB_ERR_FORMAT, "group snapshot '%s' is not the one that backup.json names", key);
    return KB_OK;
}
