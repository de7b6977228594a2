/*
 * failpoint - named places where a test kills, stops or fails the process.
 *
 * Exists only in builds with -DKB_FAILPOINTS; elsewhere the macros are constants. The environment says what
 * fires: KB_FAILPOINT=name:action[:nth], several separated by commas. Actions: kill (SIGKILL), exit (status
 * 99), sleep or sleep=SECONDS (default 30), error (a retryable KB_TEMPORARY_FAILURE), short
 * (kb_failpoint_short is true). Each fires once, at the nth time that the place is reached (default 1), with
 * one line on stderr. Threads: any.
 */
#ifndef KB_COMMON_BASE_FAILPOINT_H
#define KB_COMMON_BASE_FAILPOINT_H

#include <stdbool.h>

#include "common/base/error.h"

#ifdef KB_FAILPOINTS

/* KB_OK, or the injected error. */
kb_code kb_failpoint(const char *name, kb_error *err) KB_CHECK;
/* Whether the transfer at this place should be cut short. */
bool kb_failpoint_short(const char *name);
/* Replaces what the environment said; NULL reads it again. Fails with KB_USAGE_ERROR naming the bad part. */
kb_code kb_failpoint_configure(const char *spec, kb_error *err) KB_CHECK;

#define KB_FAILPOINT(name, err) kb_failpoint((name), (err))
#define KB_FAILPOINT_SHORT(name) kb_failpoint_short(name)

#else

#define KB_FAILPOINT(name, err) ((void)(err), KB_OK)
#define KB_FAILPOINT_SHORT(name) false

#endif

#endif
