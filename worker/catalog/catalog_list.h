/*
 * catalog_list - all backups of a store with their states, for `list`.
 *
 * State by presence, without hashing: one listing and one or two small reads for each backup. Threads: no
 * state.
 */
#ifndef KB_WORKER_CATALOG_CATALOG_LIST_H
#define KB_WORKER_CATALOG_CATALOG_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "worker/storage/storage.h"

typedef enum kb_catalog_state {
    KB_CATALOG_COMPLETE,
    KB_CATALOG_FOREIGN,
    KB_CATALOG_OPEN,
    KB_CATALOG_SEALED,
    KB_CATALOG_CLOSED,
    KB_CATALOG_PRUNED,
    KB_CATALOG_DAMAGED,
    KB_CATALOG_STATE_COUNT
} kb_catalog_state;

/* "complete", ... as `list` shows it. Static. */
const char *kb_catalog_state_name(kb_catalog_state state);

/* A row of `list`; what is unknown is NULL, 0 (times, counts: then has_numbers is false). */
typedef struct kb_catalog_row {
    char *backup_id;
    kb_catalog_state state;
    char *lineage;
    char *base;
    char *problem; /* why it is damaged */
    int64_t created_at;
    int64_t snapshot_time;
    int64_t completed_at;
    bool has_numbers;
    int64_t records, raw_bytes, stored_bytes, own_bytes, gaps;
} kb_catalog_row;

typedef struct kb_catalog_rows {
    kb_catalog_row *rows; /* newest first (created_at, then id) */
    size_t count;
    size_t capacity;
} kb_catalog_rows;

/*
 * All backups of a store, state by presence, without hashing. What cannot be read is a row with state damaged
 * and its problem; only a failing listing is an error. `ret_rows` is freed by kb_catalog_rows_done.
 */
kb_code kb_catalog_list(kb_storage *storage, kb_catalog_rows *ret_rows, kb_error *err) KB_CHECK;
/* Frees what one row owns; for rows taken out of the list. */
void kb_catalog_row_done(kb_catalog_row *row);
void kb_catalog_rows_done(kb_catalog_rows *rows);

#endif
