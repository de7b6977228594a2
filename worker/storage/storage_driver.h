/*
 * storage_driver - what a store must implement; for drivers and for tests that wrap one.
 *
 * storage.c checks keys before a driver sees them (length, no empty, "." or ".." part, no control character,
 * no leading '/') and adds the parts that are the same everywhere. Results and threads as in storage.h.
 */
#ifndef KB_WORKER_STORAGE_STORAGE_DRIVER_H
#define KB_WORKER_STORAGE_STORAGE_DRIVER_H

#include "worker/storage/storage.h"

typedef struct kb_storage_driver {
    const char *name;
    void (*free_state)(void *owned_state);
    kb_code (*put_if_absent)(void *state, const char *key, kb_view bytes, kb_error *err);
    kb_code (*get)(void *state, const char *key, size_t max_bytes, kb_blob *ret_blob, kb_error *err);
    kb_code (*get_range)(void *state, const char *key, uint64_t offset, void *to, size_t len, kb_error *err);
    kb_code (*head)(void *state, const char *key, kb_object_info *ret_info, kb_error *err);
    kb_code (*remove)(void *state, const char *key, kb_error *err);
    kb_code (*list_page)(void *state, const kb_list_options *options, kb_list_page *ret_page, kb_error *err);
    kb_code (*upload_begin)(void *state, const char *key, const char *attempt_id_hex, void **ret_upload,
                            kb_error *err);
    kb_code (*upload_append)(void *upload, const void *data, size_t len, kb_error *err);
    kb_code (*upload_complete)(void *upload, const uint8_t head[KB_UPLOAD_HEAD_BYTES], kb_error *err);
    void (*upload_free)(void *owned_upload); /* aborts when not completed */
    kb_code (*abort_leftovers)(void *state, const char *prefix, size_t *ret_count, kb_error *err);
    /* NULL: whatever can be seen is durable. */
    kb_code (*confirm)(void *state, const char *key, kb_error *err);
    /*
     * NULL: one remove after the other, refused access counting as held. To be given where one request
     * removes many, or where a removal may only hide (KB_REMOVE_HIDDEN). The outcomes are UNTRIED at the
     * call.
     */
    kb_code (*remove_many)(void *state, const char *const *keys, size_t count, kb_remove_outcome *outcomes,
                           kb_error *err);
    /* NULL: this machine's clock. A service's is in the Date header of its replies. */
    kb_code (*now)(void *state, int64_t *ret_now_ms, kb_error *err);
    /* Both or none; NULL: an unfinished upload leaves nothing that one could find. */
    kb_code (*list_leftovers)(void *state, const char *prefix, kb_leftover_fn fn, void *ctx, kb_error *err);
    kb_code (*abort_leftover)(void *state, const kb_leftover *leftover, kb_error *err);
    /* NULL: part_bytes is 0 or fixed. Between two uploads, at least the capability's min_part_bytes. */
    void (*set_part_bytes)(void *state, size_t part_bytes);
    /* NULL: object names are case-sensitive by definition. */
    kb_code (*is_case_sensitive)(void *state, const char *backup_id, bool *ret_sensitive, kb_error *err);
} kb_storage_driver;

/*
 * A store of this driver. `driver` must outlive it and be complete (a missing function ends the process);
 * owned_state is freed with it; `describe` is copied.
 */
kb_storage *kb_storage_new(const kb_storage_driver *driver, void *owned_state, const kb_storage_caps *caps,
                           const char *describe) __attribute__((returns_nonnull));

#endif
