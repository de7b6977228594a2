/*
 * backup_record - B/backup.json, the full truth about one of our backups.
 *
 * Written once after `seal`, with a self-hash as its last field and hash and size of the manifest that it
 * projects to (storage-format, 10). A segment's `in` and `file` are left out when standard. Reading is a
 * token stream; it checks self-hash, versions, totals, sums per partition and the tiling of segments.
 * The parts that the journal shares (segments, gaps, probes, findings) are written and read by the functions
 * of catalog_json. Threads: pure functions.
 */
#ifndef KB_WORKER_CATALOG_BACKUP_RECORD_H
#define KB_WORKER_CATALOG_BACKUP_RECORD_H

#include "common/base/strbuf.h"
#include "worker/catalog/model.h"
#include "worker/catalog/object_source.h"

/*
 * Appends backup.json. Computes totals and the manifest's hash and size anew. `generator` and completed_at
 * must be set. KB_ERR_TOO_LARGE beyond out's maximum (KB_BACKUP_JSON_MAX_BYTES).
 */
kb_code kb_backup_record_write(const kb_backup *backup, kb_strbuf *out, kb_error *err) KB_CHECK;
/*
 * Reads and verifies a whole backup.json; backup_id must be the one inside. Fails with KB_ERR_FORMAT or
 * KB_ERR_TOO_LARGE; a newer format says "needs a newer reader". Whether a stored manifest.json fits is for
 * the caller (manifest_sha256, manifest_size).
 */
kb_code kb_backup_record_read(const void *data, size_t len, const char *backup_id, kb_backup **ret_backup,
                              kb_error *err) KB_CHECK;
/* The same from an object, without holding it. */
kb_code kb_backup_record_read_source(kb_object_source *source, const char *backup_id, kb_backup **ret_backup,
                                     kb_error *err) KB_CHECK;
/*
 * Reads only up to `topics`: heads, lists and totals, unverified; for `list`. A file whose fields stand in
 * another order than ours is read whole. KB_ERR_FORMAT, or as the source.
 */
kb_code kb_backup_record_read_summary(kb_object_source *source, const char *backup_id, kb_backup **ret_backup,
                                      kb_backup_totals *ret_totals, kb_error *err) KB_CHECK;

#endif
