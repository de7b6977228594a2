/*
 * seal - the end of a backup: every listed object is seen in the store, then `seal`, backup.json,
 * manifest.json.
 *
 * The journal holds what is new; what the base gives is listed only in backup.json and manifest.json, so that
 * whoever finds a sealed backup publishes the same bytes from journal and base. Threads: the caller's.
 */
#ifndef KB_WORKER_BACKUP_SEAL_H
#define KB_WORKER_BACKUP_SEAL_H

#include "common/base/error.h"
#include "worker/catalog/journal.h"
#include "worker/catalog/model.h"
#include "worker/storage/storage.h"

/*
 * Whether each segment of the backup, own and reused (base may be NULL), is listed with its size. One listing
 * for each backup that holds some of them. Fails with KB_BACKUP_CORRUPT naming the first object that is
 * missing or has another size.
 */
kb_code kb_seal_check_objects(kb_storage *storage, const kb_backup *backup, const kb_backup *base,
                              kb_error *err) KB_CHECK;

/* Checks the objects, seals the journal and publishes. *ret_backup is the published backup, owned. */
kb_code kb_seal_backup(kb_storage *storage, kb_journal *journal, const kb_backup *base, const char *generator,
                       kb_backup **ret_backup, kb_error *err) KB_CHECK;

/* Publishes a backup that was found sealed; what it reuses is read from the base that it names. *backup may
 * be replaced by the stored one. */
kb_code kb_seal_finish(kb_storage *storage, kb_backup **backup, kb_error *err) KB_CHECK;

#endif
