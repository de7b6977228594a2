/*
 * object_source - an index object as a stream of chunks for json_read, hashed on its way.
 *
 * So that backup.json and manifest.json of hundreds of megabytes are checked and decoded without ever being
 * held: the chunks go to the parser, their SHA-256 and the self-hash (storage-format, 10) come out at the
 * end. Threads: one at a time.
 */
#ifndef KB_WORKER_CATALOG_OBJECT_SOURCE_H
#define KB_WORKER_CATALOG_OBJECT_SOURCE_H

#include "common/base/bytes.h"
#include "common/base/crypto.h"
#include "common/base/error.h"
#include "worker/storage/storage.h"

typedef struct kb_object_source kb_object_source;

/* Looks at the object; KB_ERR_NOT_FOUND, KB_ERR_TOO_LARGE beyond max_bytes. Owned by the caller. */
kb_code kb_object_source_open(kb_storage *storage, const char *key, size_t max_bytes,
                              kb_object_source **ret_source, kb_error *err) KB_CHECK;
/* The same over memory, which must outlive it. */
kb_object_source *kb_object_source_of(kb_view text) __attribute__((returns_nonnull));
void kb_object_source_free(kb_object_source *owned_source);
void kb_object_source_free_at(kb_object_source **at);

/* A kb_json_source; ctx is the kb_object_source. */
kb_code kb_object_source_next(void *ctx, kb_view *ret_chunk, kb_error *err) KB_CHECK;
/* Reads what nobody asked for, so that the hashes cover the whole object. */
kb_code kb_object_source_drain(kb_object_source *source, kb_error *err) KB_CHECK;
uint64_t kb_object_source_size(const kb_object_source *source);
/* Of the whole object; only after the end was reached. */
void kb_object_source_sha256(kb_object_source *source, uint8_t to[KB_SHA256_SIZE]);
/* KB_ERR_FORMAT when the object does not end with a "sha256" field, or not with its own hash. */
kb_code kb_object_source_check_self_hash(kb_object_source *source, kb_error *err) KB_CHECK;

/*
 * Self-hash of a JSON text whose last field is "sha256": the SHA-256 of the text with these 64 characters
 * replaced by '0'. Writes it in place; the text ends in the form that our writers give it.
 */
kb_code kb_self_hash_write(char *text, size_t len, kb_error *err) KB_CHECK;
/* KB_ERR_FORMAT when the last field is no self-hash or not that of the text. */
kb_code kb_self_hash_check(const char *text, size_t len, kb_error *err) KB_CHECK;

#endif
