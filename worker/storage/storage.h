/*
 * storage - the seam between backups and the place that holds them.
 *
 * A store maps keys ("a/b/c", UTF-8, at most 1024 bytes, never beginning with '/') to immutable objects. No
 * key is ever written twice: every write is put-if-absent, and there is deliberately no overwriting put. A
 * driver whose service has no condition emulates it (look, write, read back) and says so in its capabilities.
 * "Not found" is an answer (KB_ERR_NOT_FOUND, given only when it is certain), never a guess made of a
 * failure. Errors name the operation, the object's place and the cause: KB_STORAGE_* codes, or a retryable
 * KB_TEMPORARY_FAILURE. An object that is there but is not what it must be (too short, a symbolic link, a
 * FIFO) is KB_ERR_FORMAT.
 *
 * Threads: one kb_storage serves any number of threads at once; a kb_upload belongs to one thread at a time.
 */
#ifndef KB_WORKER_STORAGE_STORAGE_H
#define KB_WORKER_STORAGE_STORAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/bytes.h"
#include "common/base/error.h"

#define KB_STORAGE_KEY_MAX 1024
/* The header of a segment: written last, standing first. */
#define KB_UPLOAD_HEAD_BYTES 32

typedef struct kb_storage kb_storage;
typedef struct kb_upload kb_upload;

/* What a driver can do; fixed when the store was opened. */
typedef struct kb_storage_caps {
    bool conditional_put;  /* put-if-absent is atomic; false: emulated, two writers can race */
    bool whole_objects;    /* an upload is held in memory and sent at once */
    size_t part_bytes;     /* memory held per upload; 0 = appended bytes go out directly */
    size_t min_part_bytes; /* smallest legal part, 0 when there is no such limit */
} kb_storage_caps;

/* An owned buffer; data is followed by a NUL that len does not count. */
typedef struct kb_blob {
    uint8_t *data;
    size_t len;
} kb_blob;
#define KB_BLOB_INIT {NULL, 0}
#define KB_AUTO_BLOB(name) __attribute__((cleanup(kb_blob_done))) kb_blob name = KB_BLOB_INIT
void kb_blob_done(kb_blob *blob);

typedef struct kb_object_info {
    uint64_t size_bytes;
    int64_t mtime_ms; /* by the store's own clock */
} kb_object_info;

/* NULL is fine. All uploads of the store must be freed before. */
void kb_storage_free(kb_storage *owned_storage);
/* For a cleanup attribute: frees *at. */
void kb_storage_free_at(kb_storage **at);
/* Where this store is, for messages ("/backups", "s3://bucket/prefix"); no secrets in it. Borrowed. */
const char *kb_storage_describe(const kb_storage *storage);
const kb_storage_caps *kb_storage_caps_view(const kb_storage *storage);
/*
 * Uploads shall hold less memory than caps.part_bytes says: at most `part_bytes` or, when the store needs
 * more, its min_part_bytes. Called before the first upload; the capabilities follow.
 */
void kb_storage_limit_part_bytes(kb_storage *storage, size_t part_bytes);

/*
 * Creates the object, durable on return. KB_ERR_EXISTS when the key is taken by anybody's object, our own
 * earlier one included; lost replies are resolved before returning. Meant for small objects.
 */
kb_code kb_storage_put_if_absent(kb_storage *storage, const char *key, kb_view bytes, kb_error *err) KB_CHECK;

typedef enum kb_put_outcome {
    KB_PUT_CREATED,   /* we made it */
    KB_PUT_IDENTICAL, /* it was there with these very bytes: ours as well, an earlier try whose reply was lost
                       */
    KB_PUT_OTHER,     /* it was there with other bytes */
} kb_put_outcome;

/*
 * The "is it mine?" rule for JSON objects (storage-format.md 7.4): put-if-absent, and when the key is taken
 * or the outcome is unknown, reads the object and compares. On KB_PUT_OTHER *ret_stored has what is there, up
 * to max_stored_bytes (beyond: KB_ERR_TOO_LARGE); otherwise it is left alone. ret_stored may be NULL.
 * `failpoint` (may be NULL) names the failpoint at which a successful reply is dropped.
 */
typedef struct kb_put_once_options {
    size_t max_stored_bytes;
    const char *failpoint;
} kb_put_once_options;
kb_code kb_storage_put_once(kb_storage *storage, const char *key, kb_view bytes,
                            const kb_put_once_options *options, kb_put_outcome *ret_outcome,
                            kb_blob *ret_stored, kb_error *err) KB_CHECK;

/* The whole object. KB_ERR_NOT_FOUND; KB_ERR_TOO_LARGE when it is larger than max_bytes (nothing is read). */
kb_code kb_storage_get(kb_storage *storage, const char *key, size_t max_bytes, kb_blob *ret_blob,
                       kb_error *err) KB_CHECK;
/* Exactly `len` bytes from `offset`. KB_ERR_NOT_FOUND; KB_ERR_FORMAT when the object ends before. */
kb_code kb_storage_get_range(kb_storage *storage, const char *key, uint64_t offset, void *to, size_t len,
                             kb_error *err) KB_CHECK;
/* KB_ERR_NOT_FOUND. */
kb_code kb_storage_head(kb_storage *storage, const char *key, kb_object_info *ret_info,
                        kb_error *err) KB_CHECK;
/*
 * Makes an object durable that was found by listing or reading: its writer may have died between publishing
 * and syncing. Needed before something else is written that counts on it (adoption). KB_ERR_NOT_FOUND.
 */
kb_code kb_storage_confirm(kb_storage *storage, const char *key, kb_error *err) KB_CHECK;
/* KB_ERR_NOT_FOUND when it is not there. */
kb_code kb_storage_remove(kb_storage *storage, const char *key, kb_error *err) KB_CHECK;

/* What became of one object that was to be removed. */
typedef enum kb_remove_outcome {
    KB_REMOVE_UNTRIED, /* an error came before */
    KB_REMOVE_GONE,    /* its bytes are free */
    KB_REMOVE_HIDDEN,  /* a versioned bucket added a marker: readers no longer see it, its bytes stay */
    KB_REMOVE_ABSENT,  /* it was not there */
    KB_REMOVE_HELD,    /* the store refuses: object lock, retention, legal hold, no permission to delete */
} kb_remove_outcome;

/*
 * Removes objects in the given order as far as the store has one, in as few requests as it allows; all
 * removals are durable on return. A refused or missing object is an outcome, not an error; after an error the
 * outcomes tell how far it came. ret_outcomes has `count` places and is filled in any case.
 */
kb_code kb_storage_remove_many(kb_storage *storage, const char *const *keys, size_t count,
                               kb_remove_outcome *ret_outcomes, kb_error *err) KB_CHECK;

/* The time by the clock that mtime_ms of objects is of; the only one that ages may be computed with. */
kb_code kb_storage_now(kb_storage *storage, int64_t *ret_now_ms, kb_error *err) KB_CHECK;

typedef struct kb_list_entry {
    char *key;      /* in a listing by folder, a folder's ends with '/' */
    bool is_folder; /* at least one key may begin with this one; size and time are 0 */
    kb_object_info info;
} kb_list_entry;

typedef struct kb_list_page {
    kb_list_entry *entries; /* ascending by key, bytewise */
    size_t count;
    char *next; /* pass as `after` for the next page; NULL: this was the last */
} kb_list_page;
#define KB_LIST_PAGE_INIT {NULL, 0, NULL}
void kb_list_page_done(kb_list_page *page);

typedef struct kb_list_options {
    const char *prefix; /* keys that begin with it; "" = all */
    const char *after;  /* continuation of an earlier page with the same prefix and by_folder; NULL = start */
    bool by_folder;     /* keys with a further '/' after the prefix are folded to one folder entry */
    size_t max_entries; /* 0 = the driver's default (1000 at least); a page may be shorter or empty */
} kb_list_options;

/* One page. A prefix that matches nothing is an empty page, not an error. */
kb_code kb_storage_list_page(kb_storage *storage, const kb_list_options *options, kb_list_page *ret_page,
                             kb_error *err) KB_CHECK;

/* Called per entry, in order; anything but KB_OK ends the listing with that result. */
typedef kb_code (*kb_list_fn)(void *ctx, const kb_list_entry *entry, kb_error *err);
/* All objects below a prefix, page by page. */
kb_code kb_storage_list(kb_storage *storage, const char *prefix, kb_list_fn fn, void *ctx,
                        kb_error *err) KB_CHECK;
/* One level: objects and folders directly below the prefix (which is "" or ends with '/'). */
kb_code kb_storage_list_level(kb_storage *storage, const char *prefix, kb_list_fn fn, void *ctx,
                              kb_error *err) KB_CHECK;

/*
 * Starts an object that is written from byte 32 on. attempt_id_hex (32 digits) goes into the names of what is
 * not yet published, so that attempts do not meet; of two uploads of one attempt to one key the later aborts
 * the earlier. Nothing is visible before kb_upload_complete.
 */
kb_code kb_upload_begin(kb_storage *storage, const char *key, const char *attempt_id_hex,
                        kb_upload **ret_upload, kb_error *err) KB_CHECK;
/* The next bytes; the first call's go to offset 32. After an error only kb_upload_free may follow. */
kb_code kb_upload_append(kb_upload *upload, const void *data, size_t len, kb_error *err) KB_CHECK;
/* Bytes of the whole object so far, the 32 included. */
uint64_t kb_upload_bytes(const kb_upload *upload);
/*
 * Writes the first 32 bytes and publishes, durable on return. KB_ERR_EXISTS: the key holds an object that
 * this upload did not make (possibly one with the same bytes). KB_FENCED: another attempt aborted this
 * upload. Called at most once; then kb_upload_free.
 */
kb_code kb_upload_complete(kb_upload *upload, const uint8_t head[KB_UPLOAD_HEAD_BYTES],
                           kb_error *err) KB_CHECK;
/* Aborts an upload that was not completed (best effort: leftovers are invisible) and frees it. NULL is fine.
 */
void kb_upload_free(kb_upload *owned_upload);
/* For a cleanup attribute: frees *at. */
void kb_upload_free_at(kb_upload **at);

/*
 * Aborts every unfinished upload below a prefix (which ends with '/'), whoever began it: a zombie's
 * completion fails from then on. *ret_count (may be NULL) says how many.
 */
kb_code kb_storage_abort_leftovers(kb_storage *storage, const char *prefix, size_t *ret_count,
                                   kb_error *err) KB_CHECK;

/* An unfinished upload as the store sees it. */
typedef struct kb_leftover {
    const char *key;     /* the object that it would become, or the store's own name for the data */
    const char *token;   /* names the upload for the driver (an upload id); "" when the key does */
    int64_t began_ms;    /* by the store's clock; the last write where only that is known */
    uint64_t size_bytes; /* 0 = unknown */
} kb_leftover;

/* Called per upload, in no order; anything but KB_OK ends the listing with that result. The leftover is
 * borrowed. fn must not use the store. */
typedef kb_code (*kb_leftover_fn)(void *ctx, const kb_leftover *leftover, kb_error *err);
/* All unfinished uploads below a prefix (which ends with '/'); none for a store without uploads. */
kb_code kb_storage_list_leftovers(kb_storage *storage, const char *prefix, kb_leftover_fn fn, void *ctx,
                                  kb_error *err) KB_CHECK;
/* Aborts one of them. KB_OK as well when it is gone already. */
kb_code kb_storage_abort_leftover(kb_storage *storage, const kb_leftover *leftover, kb_error *err) KB_CHECK;

/*
 * Whether keys that differ only in ASCII case are different keys, proven on `backup_id`, whose journal must
 * exist (KB_ERR_NOT_FOUND otherwise): "B/JOURNAL" is absent while "B/journal" is there.
 */
kb_code kb_storage_is_case_sensitive(kb_storage *storage, const char *backup_id, bool *ret_sensitive,
                                     kb_error *err) KB_CHECK;

#endif
