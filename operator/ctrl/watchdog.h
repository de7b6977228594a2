/*
 * watchdog - whether all threads still live: each beats, and one that was silent for 60 s is named.
 *
 * Threads: any; a beat belongs to the thread it was made for (beating is one atomic store).
 */
#ifndef KB_OPERATOR_CTRL_WATCHDOG_H
#define KB_OPERATOR_CTRL_WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/strbuf.h"

#define KB_WATCHDOG_BEAT_MS 10000
#define KB_WATCHDOG_SILENCE_MS 60000

typedef struct kb_watchdog kb_watchdog;
typedef struct kb_beat kb_beat;

/* clock NULL: the system's; borrowed. */
kb_watchdog *kb_watchdog_new(const kb_clock *clock) __attribute__((returns_nonnull));
void kb_watchdog_free(kb_watchdog *owned_watchdog);
/* A thread to watch from now on; the beat is the watchdog's. */
kb_beat *kb_watchdog_add(kb_watchdog *watchdog, const char *name) __attribute__((returns_nonnull));
/* The thread lives. */
void kb_watchdog_beat(kb_beat *beat);
/* kb_watchdog_beat as a callback with a context. */
void kb_watchdog_beat_ctx(void *beat);
/* The thread ended as it should: it is not watched any more. */
void kb_watchdog_rest(kb_beat *beat);
/* False when a thread has been silent too long; `why` gets a line for each. */
bool kb_watchdog_is_well(kb_watchdog *watchdog, kb_strbuf *why);

#endif
