/* Fuzzes the manifest reader: whatever it accepts must survive being written and read again. */
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "worker/catalog/manifest.h"

#define ID "orders-20250101-000000"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool write_text(const kb_backup *backup, kb_strbuf *out)
{
    KB_AUTO_ERROR(err);
    return kb_manifest_write(backup, out, &err) == KB_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const uses[] = {"orders-20241231-000000"};
    const kb_manifest_read_options options = {
        .backup_id = ID, .uses = uses, .use_count = 1, .allow_overlap = size % 2 == 0};
    KB_AUTO_ERROR(err);
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    if (kb_manifest_read(data, size, &options, &backup, &err) != KB_OK)
        return 0;
    KB_AUTO_STRBUF(first, KB_MANIFEST_MAX_BYTES);
    KB_AUTO_STRBUF(second, KB_MANIFEST_MAX_BYTES);
    KB_AUTO_BACKUP kb_backup *again = NULL;
    if (!write_text(backup, &first))
        abort();
    if (kb_manifest_read(first.data, first.len, &options, &again, &err) != KB_OK)
        abort();
    if (!write_text(again, &second) || first.len != second.len ||
        memcmp(first.data, second.data, first.len) != 0)
        abort();
    return 0;
}
