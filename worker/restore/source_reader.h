/*
 * source_reader - the records of one source partition that the plan wants, in order, parcel by parcel.
 *
 * Segments are opened one after the other; each has passed CRC and SHA-256 as a whole before its first record
 * comes out. What is wholly outside the window is passed over without opening it, or without decoding it,
 * where bounds are true; what is wholly inside can be skipped by its count. Errors of the backup are
 * KB_BACKUP_CORRUPT, KB_BACKUP_PRUNED with the object's key. Threads: one at a time.
 */
#ifndef KB_WORKER_RESTORE_SOURCE_READER_H
#define KB_WORKER_RESTORE_SOURCE_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "worker/restore/parcel.h"
#include "worker/restore/plan.h"
#include "worker/storage/storage.h"

typedef struct kb_source_reader kb_source_reader;

typedef struct kb_source_reader_options {
    kb_storage *storage;
    const kb_restore_plan *plan;
    size_t source;         /* index into plan->sources */
    size_t held_bytes;     /* as kb_segment_reader_opts */
    size_t range_bytes;    /* likewise */
    size_t max_area_bytes; /* likewise */
} kb_source_reader_options;

kb_source_reader *kb_source_reader_new(const kb_source_reader_options *options)
    __attribute__((returns_nonnull));
void kb_source_reader_free(kb_source_reader *owned_reader);

/*
 * Passes over records by their number as long as that needs no decoding: whole segments and frames that are
 * wholly inside the window. *skipped (at most `count`) says how many; the rest comes with the next parcels.
 */
kb_code kb_source_reader_skip(kb_source_reader *reader, int64_t count, int64_t *ret_skipped,
                              kb_error *err) KB_CHECK;

/*
 * Fills the parcel's area with the next records, not all of which need be wanted: ask
 * kb_source_reader_wants for each unless *ret_all. False in *ret_has at the end.
 */
kb_code kb_source_reader_next(kb_source_reader *reader, kb_parcel *parcel, bool *ret_has, bool *ret_all,
                              kb_error *err) KB_CHECK;
/* Whether a record of the present parcel is part of the stream; to be asked in order, once for each. */
bool kb_source_reader_wants(kb_source_reader *reader, const kb_record_view *record);
/* Of the present parcel's records. */
kb_own_block_mode kb_source_reader_own_block(const kb_source_reader *reader);
/* Records left out by the window so far, undecoded ones included. */
int64_t kb_source_reader_filtered(const kb_source_reader *reader);
/* Bytes that the next parcel will take when that is known, else 0. */
size_t kb_source_reader_peek_bytes(const kb_source_reader *reader);

#endif
