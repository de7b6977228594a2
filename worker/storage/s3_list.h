/*
 * s3_list - what is in a bucket: objects (ListObjectsV2), unfinished uploads, and removing many at once.
 *
 * Keys travel URL-encoded (encoding-type=url); a page that says there is more must name a new place to go on.
 * Names that no key of ours can have are left out. Threads: any.
 */
#ifndef KB_WORKER_STORAGE_S3_LIST_H
#define KB_WORKER_STORAGE_S3_LIST_H

#include "worker/storage/s3_client.h"
#include "worker/storage/storage.h"

/* As kb_storage_list_page. */
kb_code kb_s3_list_page(kb_s3 *s3, const kb_list_options *options, kb_list_page *ret_page,
                        kb_error *err) KB_CHECK;
/* As kb_storage_list_leftovers; the token is the upload id. */
kb_code kb_s3_list_uploads(kb_s3 *s3, const char *prefix, kb_leftover_fn fn, void *ctx,
                           kb_error *err) KB_CHECK;
/* Aborts an upload; KB_OK as well when it is gone. */
kb_code kb_s3_abort(kb_s3 *s3, const char *name, const char *upload_id, bool is_hasty,
                    kb_error *err) KB_CHECK;
/* As kb_storage_remove_many: requests of up to 1,000 keys, one by one where the server has no such request.
 */
kb_code kb_s3_remove_many(kb_s3 *s3, const char *const *keys, size_t count, kb_remove_outcome *outcomes,
                          kb_error *err) KB_CHECK;

/* Parsers of answers, for fuzzing. Entries have names instead of keys, decoded. */
typedef struct kb_s3_listing {
    kb_list_entry *entries;
    size_t count;
    size_t capacity;
    bool is_encoded; /* EncodingType url */
    bool is_truncated;
    char *next; /* NULL = none */
} kb_s3_listing;
void kb_s3_listing_done(kb_s3_listing *listing);
kb_code kb_s3_listing_parse(const char *xml, size_t len, kb_s3_listing *ret_listing, kb_error *err) KB_CHECK;
/* "a%2Fb+c" in place. False when it is not well-formed. */
bool kb_s3_url_decode(char *text) KB_CHECK;

#endif
