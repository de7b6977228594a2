/*
 * object_claim - "is it mine?", asked when a key is taken and an earlier try of ours may have taken it
 * (storage-format.md, 7.4).
 *
 * Threads: as the driver's functions.
 */
#ifndef KB_WORKER_STORAGE_OBJECT_CLAIM_H
#define KB_WORKER_STORAGE_OBJECT_CLAIM_H

#include "worker/storage/storage_driver.h"

#define KB_CLAIM_TAIL_BYTES 8

/* What identifies a segment: its size, first 32 and last 8 bytes. */
typedef struct kb_claim {
    uint64_t size_bytes;
    uint8_t head[KB_UPLOAD_HEAD_BYTES];
    uint8_t tail[KB_CLAIM_TAIL_BYTES];
    size_t tail_len; /* less than 8 for a body of less than 8 bytes */
} kb_claim;

/* Takes the next bytes of the body into account (size_bytes and tail). */
void kb_claim_append(kb_claim *claim, const void *data, size_t len);
/* Whether the object under the key is this one. KB_ERR_NOT_FOUND when there is none. */
kb_code kb_claim_check(const kb_claim *claim, const kb_storage_driver *driver, void *state, const char *key,
                       bool *ret_is_mine, kb_error *err) KB_CHECK;
/* Whether the object holds exactly these bytes. KB_ERR_NOT_FOUND when there is none. */
kb_code kb_claim_check_bytes(kb_view bytes, const kb_storage_driver *driver, void *state, const char *key,
                             bool *ret_is_mine, kb_error *err) KB_CHECK;

#endif
