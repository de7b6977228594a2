/*
 * presence - whether every object that a backup lists is in the store, as long as the backup says.
 *
 * One listing of the topics folder of the backup, and one of each backup that it uses; objects are only asked
 * for one by one where a manifest of another program names a key outside of these folders. Threads: one.
 */
#ifndef KB_WORKER_VALIDATE_PRESENCE_H
#define KB_WORKER_VALIDATE_PRESENCE_H

#include "common/sync/wait.h"
#include "worker/storage/storage.h"
#include "worker/validate/object_table.h"
#include "worker/validate/problem_list.h"

/* Objects below the backup's own topics folder that it does not list. */
typedef struct kb_orphans {
    int64_t count;
    int64_t bytes;
} kb_orphans;

/*
 * Marks every object as present or bad, with a problem for each bad one. Fails as the store does, and with
 * KB_ERR_STOPPED; stop may be NULL.
 */
kb_code kb_presence_check(kb_storage *storage, kb_object_table *table, kb_stop *stop,
                          kb_problem_list *problems, kb_orphans *ret_orphans, kb_error *err) KB_CHECK;

#endif
