/*
 * tzfile - local time of a zone of the IANA database, read from its TZif file.
 *
 * The time zone of the process plays no part and is never changed. Versions 1 to 4 are read, with the POSIX
 * rule at the end of the file for all times after its last transition. Threads: immutable after loading.
 * Format: RFC 8536.
 */
#ifndef KB_OPERATOR_CTRL_TZFILE_H
#define KB_OPERATOR_CTRL_TZFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

#define KB_TZFILE_DIR "/usr/share/zoneinfo"
#define KB_TZFILE_MAX_BYTES (256u << 10)

typedef struct kb_tzfile kb_tzfile;

/*
 * Loads a zone by name from dir (NULL: KB_TZFILE_DIR). NULL, "", "UTC" and "Etc/UTC" need no file. Fails with
 * KB_ERR_NOT_FOUND (no such zone, or a name that is no zone name) and KB_ERR_FORMAT.
 */
kb_code kb_tzfile_load(const char *name, const char *dir, kb_tzfile **ret_zone, kb_error *err) KB_CHECK;
/* The same from the bytes of a file. */
kb_code kb_tzfile_parse(const void *data, size_t len, kb_tzfile **ret_zone, kb_error *err) KB_CHECK;
void kb_tzfile_free(kb_tzfile *owned_zone);
/* For a cleanup attribute: frees *at. */
void kb_tzfile_free_at(kb_tzfile **at);

/* Seconds that local time is ahead of UTC at a moment (seconds since 1970). */
int32_t kb_tzfile_offset(const kb_tzfile *zone, int64_t unix_secs);
/* The first moment after unix_secs at which the offset changes; INT64_MAX when it never does again. */
int64_t kb_tzfile_next_change(const kb_tzfile *zone, int64_t unix_secs);

#endif
