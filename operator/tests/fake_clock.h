/*
 * fake_clock - a clock that stands still until a test moves it. Threads: any.
 */
#ifndef KB_OPERATOR_TESTS_FAKE_CLOCK_H
#define KB_OPERATOR_TESTS_FAKE_CLOCK_H

#include <stdint.h>

#include "common/base/clock.h"

/* A clock that a test moves; make it with kb_fake_clock_init. */
typedef struct kb_fake_clock {
    kb_clock clock;
    _Atomic int64_t boot_ms;
    _Atomic int64_t wall_ms;
} kb_fake_clock;

/* Boot clock at 1,000,000 ms, wall clock at 2025-01-01T00:00:00Z. */
void kb_fake_clock_init(kb_fake_clock *fake);
void kb_fake_clock_move(kb_fake_clock *fake, int64_t ms);

#endif
