/*
 * cron - five-field schedules: what they mean and when their slots are.
 *
 * As the CronJob controller reads them: minute hour day-of-month month day-of-week, each a list of values,
 * ranges a-b, steps (star or range)/n and names (jan, mon); 0 and 7 are Sunday; ? is *; when both days are
 * restricted either one matches; @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually. A local
 * time that a zone skips has no slot; one that it repeats has two. A slot is a whole minute of UTC.
 * Threads: a kb_cron is immutable.
 */
#ifndef KB_OPERATOR_CTRL_CRON_H
#define KB_OPERATOR_CTRL_CRON_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "operator/ctrl/tzfile.h"

/* How far a next or previous slot is looked for. */
#define KB_CRON_HORIZON_SECS (9LL * 366 * 86400)
/* How many slots kb_cron_longest_interval looks at. */
#define KB_CRON_INTERVAL_SLOTS 100

typedef struct kb_cron {
    uint64_t minutes; /* bit n: value n */
    uint32_t hours, days, months, weekdays;
    bool any_day, any_weekday; /* the field is * or ? (with or without a step) */
} kb_cron;

/*
 * Reads an expression without zone prefix. Fails with KB_CONFIG_INVALID; the text says what is wrong and at
 * which character, counted from 1: "minute 61 is not 0 to 59 (character 1)". An expression that has no slot
 * within the horizon is refused, too.
 */
kb_code kb_cron_parse(const char *text, kb_cron *ret_cron, kb_error *err) KB_CHECK;
/*
 * Splits "CRON_TZ=Zone expression": *ret_zone (owned by the caller) is NULL without a prefix; *ret_rest
 * points into text.
 */
void kb_cron_split_zone(const char *text, char **ret_zone, const char **ret_rest);

/* The first slot after a moment (seconds since 1970), -1 when there is none within the horizon. */
int64_t kb_cron_next(const kb_cron *cron, const kb_tzfile *zone, int64_t after_secs);
/* The last slot at or before a moment, -1 when there is none within the horizon. */
int64_t kb_cron_previous(const kb_cron *cron, const kb_tzfile *zone, int64_t at_secs);
/* The longest distance between two of the next slots, in seconds; 0 when there are not two. */
int64_t kb_cron_longest_interval(const kb_cron *cron, const kb_tzfile *zone, int64_t after_secs);

#endif
