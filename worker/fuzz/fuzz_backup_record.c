/* Fuzzes the reader of backup.json behind its self-hash: what it accepts must survive being written again. */
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "worker/catalog/backup_record.h"

#define ID "orders-20250102-000000"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The hash would hide everything behind it: it is made right, where there is one. */
static char *hashed_copy(const uint8_t *data, size_t size)
{
    KB_AUTO_ERROR(ignored);
    char *text = kb_strndup("", 0);
    text = kb_realloc(text, size + 1, 1);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    if (kb_self_hash_write(text, size, &ignored) != KB_OK)
        kb_error_done(&ignored);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *text = hashed_copy(data, size);
    kb_object_source *source KB_CLEANUP(kb_object_source_free_at) =
        kb_object_source_of(kb_view_of(text, size));
    KB_AUTO_BACKUP kb_backup *summary = NULL;
    kb_backup_totals totals;
    if (kb_backup_record_read_summary(source, ID, &summary, &totals, &err) != KB_OK)
        kb_error_done(&err);
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    if (kb_backup_record_read(text, size, ID, &backup, &err) != KB_OK)
        return 0;
    KB_AUTO_STRBUF(first, KB_BACKUP_JSON_MAX_BYTES);
    KB_AUTO_STRBUF(second, KB_BACKUP_JSON_MAX_BYTES);
    KB_AUTO_BACKUP kb_backup *again = NULL;
    if (kb_backup_record_write(backup, &first, &err) != KB_OK)
        abort();
    if (kb_backup_record_read(first.data, first.len, ID, &again, &err) != KB_OK)
        abort();
    if (kb_backup_record_write(again, &second, &err) != KB_OK || first.len != second.len ||
        memcmp(first.data, second.data, first.len) != 0)
        abort();
    return 0;
}
