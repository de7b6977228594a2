/*
 * stored - what listings say about the segments in the store: key and size.
 *
 * A listing is the proof that an object is there; nothing else is looked at. Threads: one at a time.
 */
#ifndef KB_WORKER_BACKUP_STORED_H
#define KB_WORKER_BACKUP_STORED_H

#include <stdint.h>

#include "common/base/error.h"
#include "common/base/map.h"
#include "worker/catalog/model.h"
#include "worker/storage/storage.h"

/* Adds every object below B/topics/ to a map made by kb_map_new(NULL). */
kb_code kb_stored_add(kb_map *stored, kb_storage *storage, const char *backup_id, kb_error *err) KB_CHECK;
/* The same for a backup and all whose segments it lists. */
kb_code kb_stored_add_all(kb_map *stored, kb_storage *storage, const kb_backup *backup,
                          kb_error *err) KB_CHECK;
/* 0 when the key was not listed; no segment is empty. */
uint64_t kb_stored_size(const kb_map *stored, const char *key);

#endif
