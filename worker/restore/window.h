/*
 * window - the time window of a restore (pure).
 *
 * Both bounds are inclusive milliseconds; a record without a time (-1) lies below every start.
 */
#ifndef KB_WORKER_RESTORE_WINDOW_H
#define KB_WORKER_RESTORE_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

typedef struct kb_restore_window {
    bool has_start;
    bool has_end;
    int64_t start;
    int64_t end;
} kb_restore_window;

/* What bounds tell of some records. */
typedef enum kb_window_verdict {
    KB_WINDOW_NONE, /* none is inside */
    KB_WINDOW_SOME, /* they have to be looked at */
    KB_WINDOW_ALL   /* all are inside */
} kb_window_verdict;

#define KB_TIMESTAMP_ABSENT (-1)

static inline bool kb_window_is_open(const kb_restore_window *window)
{
    return !window->has_start && !window->has_end;
}

static inline bool kb_window_has(const kb_restore_window *window, int64_t timestamp)
{
    if (window->has_start && (timestamp < window->start || timestamp == KB_TIMESTAMP_ABSENT))
        return false;
    return !window->has_end || timestamp <= window->end;
}

/* min and max are true bounds of the timestamps. */
static inline kb_window_verdict kb_window_judge(const kb_restore_window *window, int64_t min, int64_t max)
{
    if ((window->has_start && max < window->start) || (window->has_end && min > window->end))
        return KB_WINDOW_NONE;
    bool above_start = !window->has_start || (min >= window->start && min > KB_TIMESTAMP_ABSENT);
    bool below_end = !window->has_end || max <= window->end;
    return above_start && below_end ? KB_WINDOW_ALL : KB_WINDOW_SOME;
}

#endif
