#include "common/base/failpoint.h"

#ifdef KB_FAILPOINTS

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/encode.h"
#include "common/base/log.h"
#include "common/base/mem.h"

typedef enum action { ACTION_KILL, ACTION_EXIT, ACTION_SLEEP, ACTION_ERROR, ACTION_SHORT } action;

typedef struct failpoint {
    char *name;
    action action;
    int64_t sleep_secs;
    int64_t nth;
    int64_t hit_count;
} failpoint;

static const char *const action_names[] = {"kill", "exit", "sleep", "error", "short"};

enum { EXIT_STATUS = 99, DEFAULT_SLEEP_SECS = 30 };

/* Guarded by lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static failpoint *failpoints;
static size_t failpoint_count;
static bool is_configured;

static void drop_all(void)
{
    for (size_t i = 0; i < failpoint_count; i++)
        free(failpoints[i].name);
    free(failpoints);
    failpoints = NULL;
    failpoint_count = 0;
}

static bool parse_action(const char *text, size_t len, failpoint *point)
{
    static const char sleep_prefix[] = "sleep=";
    size_t prefix_len = sizeof sleep_prefix - 1;
    point->sleep_secs = DEFAULT_SLEEP_SECS;
    if (len > prefix_len && memcmp(text, sleep_prefix, prefix_len) == 0) {
        point->action = ACTION_SLEEP;
        return kb_parse_i64_len(text + prefix_len, len - prefix_len, &point->sleep_secs) &&
               point->sleep_secs >= 0;
    }
    for (size_t i = 0; i < KB_ARRAY_LEN(action_names); i++) {
        if (strlen(action_names[i]) == len && memcmp(action_names[i], text, len) == 0) {
            point->action = (action)i;
            return true;
        }
    }
    return false;
}

/* One name:action[:nth] of len characters. */
static kb_code add_one(const char *text, size_t len, kb_error *err)
{
    failpoint point = {.nth = 1};
    const char *end = text + len;
    const char *colon = memchr(text, ':', len);
    bool good = colon != NULL && colon > text;
    if (good) {
        const char *action_at = colon + 1;
        const char *second = memchr(action_at, ':', (size_t)(end - action_at));
        const char *action_end = second != NULL ? second : end;
        good = parse_action(action_at, (size_t)(action_end - action_at), &point);
        if (good && second != NULL)
            good = kb_parse_i64_len(second + 1, (size_t)(end - second - 1), &point.nth) && point.nth > 0;
    }
    if (!good)
        return kb_fail(err, KB_USAGE_ERROR, "KB_FAILPOINT: '%.*s' is not name:action[:nth]", (int)len, text);
    point.name = kb_strndup(text, (size_t)(colon - text));
    failpoints = kb_realloc(failpoints, failpoint_count + 1, sizeof *failpoints);
    failpoints[failpoint_count++] = point;
    return KB_OK;
}

static kb_code configure(const char *spec, kb_error *err)
{
    drop_all();
    is_configured = true;
    while (spec != NULL && *spec != '\0') {
        size_t len = strcspn(spec, ",");
        if (add_one(spec, len, err) != KB_OK) {
            drop_all();
            return err->code;
        }
        spec += len;
        spec += *spec == ',' ? 1 : 0;
    }
    return KB_OK;
}

kb_code kb_failpoint_configure(const char *spec, kb_error *err)
{
    pthread_mutex_lock(&lock);
    kb_code code = configure(spec != NULL ? spec : getenv("KB_FAILPOINT"), err);
    pthread_mutex_unlock(&lock);
    return code;
}

/* A test that misspells its failpoint must not pass for want of it. */
static void configure_from_environment(void)
{
    KB_AUTO_ERROR(err);
    if (configure(getenv("KB_FAILPOINT"), &err) == KB_OK)
        return;
    kb_log(KB_LOG_ERROR, "bad failpoint", KB_ERRTEXT(&err));
    _exit(64);
}

/*
 * Counts a hit at each point of that name (of the kind `shorts` or of the others); true with its action when
 * one fires.
 */
static bool hit(const char *name, bool shorts, failpoint *ret_fired)
{
    bool fires = false;
    pthread_mutex_lock(&lock);
    if (!is_configured)
        configure_from_environment();
    for (size_t i = 0; i < failpoint_count; i++) {
        failpoint *point = &failpoints[i];
        if ((point->action == ACTION_SHORT) != shorts || strcmp(point->name, name) != 0)
            continue;
        if (++point->hit_count == point->nth && !fires) {
            *ret_fired = *point;
            fires = true;
        }
    }
    pthread_mutex_unlock(&lock);
    if (fires)
        kb_log(KB_LOG_ERROR, "failpoint fires", KB_STR("failpoint", name),
               KB_STR("action", action_names[ret_fired->action]), KB_INT("nth", ret_fired->nth));
    return fires;
}

static void sleep_secs(int64_t secs)
{
    struct timespec left = {(time_t)secs, 0};
    while (nanosleep(&left, &left) != 0) {
    }
}

kb_code kb_failpoint(const char *name, kb_error *err)
{
    failpoint fired;
    if (!hit(name, false, &fired))
        return KB_OK;
    switch (fired.action) {
    case ACTION_KILL:
        (void)raise(SIGKILL);
        break;
    case ACTION_EXIT:
        _exit(EXIT_STATUS);
    case ACTION_SLEEP:
        sleep_secs(fired.sleep_secs);
        break;
    case ACTION_ERROR:
        return kb_fail_retryable(err, KB_TEMPORARY_FAILURE, "failpoint %s", name);
    case ACTION_SHORT:
        break;
    }
    return KB_OK;
}

bool kb_failpoint_short(const char *name)
{
    failpoint fired;
    return hit(name, true, &fired);
}

#endif
