/*
 * translate - where committed source offsets lie on the target, as the runs of a restore go by
 * (worker.md 8.6).
 *
 * A run is a stretch whose source and target offsets are both consecutive. Runs come in ascending order and
 * are not kept: what is wanted is answered on the way. The answer to s is the first target offset whose
 * source offset is >= s; none, the end. Threads: one at a time.
 */
#ifndef KB_WORKER_OFFSETS_TRANSLATE_H
#define KB_WORKER_OFFSETS_TRANSLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct kb_wanted_offset {
    int64_t source;
    int64_t target;
    bool is_beyond; /* it lay behind everything that the backup covers */
} kb_wanted_offset;

typedef struct kb_translator {
    kb_wanted_offset *wanted; /* borrowed; ascending by source */
    size_t count;
    size_t next; /* the first one without an answer */
} kb_translator;

/* Sorts wanted and begins. */
void kb_translator_init(kb_translator *translator, kb_wanted_offset *wanted, size_t count);
/* The next run: count source offsets from source_first on, at target_first and on. */
void kb_translator_run(kb_translator *translator, int64_t source_first, int64_t target_first, int64_t count);
/* There are no more: target_end is the end of the restored data, source_end that of the backup. */
void kb_translator_end(kb_translator *translator, int64_t target_end, int64_t source_end);
/* The answer for a source offset that was wanted; NULL when it was not. */
const kb_wanted_offset *kb_translator_find(const kb_translator *translator, int64_t source);

#endif
