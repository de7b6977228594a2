/*
 * manifest - B/manifest.json, the index that the existing kafka-backup tool and we both read.
 *
 * Writing is a pure function of a kb_backup: whoever finds a backup.json without its manifest writes the same
 * bytes (storage-format, 2 and 10). Reading is a token stream under the limits of 3.1; a refusal names the
 * JSON path and the reason. Threads: pure functions.
 */
#ifndef KB_WORKER_CATALOG_MANIFEST_H
#define KB_WORKER_CATALOG_MANIFEST_H

#include "common/base/strbuf.h"
#include "worker/catalog/model.h"
#include "worker/catalog/object_source.h"

/* Appends the manifest of a backup. KB_ERR_TOO_LARGE beyond out's maximum (KB_MANIFEST_MAX_BYTES). */
kb_code kb_manifest_write(const kb_backup *backup, kb_strbuf *out, kb_error *err) KB_CHECK;
/* Hash and size of what kb_manifest_write would append. */
kb_code kb_manifest_hash(const kb_backup *backup, uint8_t ret_sha256[KB_SHA256_SIZE], int64_t *ret_size,
                         kb_error *err) KB_CHECK;

typedef struct kb_manifest_read_options {
    const char *backup_id;   /* the manifest must name it, and its keys must begin with it or one of uses */
    const char *const *uses; /* further ids that keys may begin with; NULL = none */
    size_t use_count;
    bool allow_overlap; /* overlapping segments are kept and has_overlap is set, instead of a refusal */
} kb_manifest_read_options;

/*
 * Reads a manifest as a foreign backup: segments sorted, totals checked, tolerated things in its warnings.
 * Fails with KB_ERR_FORMAT or KB_ERR_TOO_LARGE.
 */
kb_code kb_manifest_read(const void *data, size_t len, const kb_manifest_read_options *options,
                         kb_backup **ret_backup, kb_error *err) KB_CHECK;
/* The same from an object, without holding it. */
kb_code kb_manifest_read_source(kb_object_source *source, const kb_manifest_read_options *options,
                                kb_backup **ret_backup, kb_error *err) KB_CHECK;

#endif
