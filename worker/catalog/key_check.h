/*
 * key_check - no object of a backup is listed twice.
 *
 * Memory: 16 bytes for each segment while it runs. Threads: a pure function.
 */
#ifndef KB_WORKER_CATALOG_KEY_CHECK_H
#define KB_WORKER_CATALOG_KEY_CHECK_H

#include "worker/catalog/model.h"

/* KB_ERR_FORMAT names a key that two segments have. */
kb_code kb_backup_check_keys(const kb_backup *backup, kb_error *err) KB_CHECK;

#endif
