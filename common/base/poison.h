/*
 * poison - libc functions that no file of ours may use.
 *
 * Each is declared again as deprecated, which -Werror turns into an error at the line of the use. Unlike
 * "#pragma GCC poison" this holds whatever is included before or after and leaves the headers of others
 * alone. gcc only, which compiles everything: clang takes no attribute for the inline functions that
 * _FORTIFY_SOURCE makes of these. mem.h includes it, so it reaches nearly every file. Instead: kb_strbuf,
 * kb_asprintf, kb_strdup, kb_parse_i64 (encode.h) and the time functions of clock.h.
 */
#ifndef KB_COMMON_BASE_POISON_H
#define KB_COMMON_BASE_POISON_H

/* For both compilers, so that a file that leans on them builds with both or with neither. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef __clang__

#define KB_POISON(instead) __attribute__((deprecated("poisoned in common/base/poison.h, use " instead)))

extern int sprintf(char *restrict to, const char *restrict fmt, ...) KB_POISON("kb_strbuf_appendf");
extern char *strcpy(char *restrict to, const char *restrict from) KB_POISON("kb_strdup");
extern char *strcat(char *restrict to, const char *restrict from) KB_POISON("kb_strbuf_appends");
extern char *strncpy(char *restrict to, const char *restrict from, size_t len) KB_POISON("kb_strndup");
extern char *strtok(char *restrict text, const char *restrict separators) KB_POISON("strchr or strtok_r");
extern int atoi(const char *text) KB_POISON("kb_parse_i64");
extern struct tm *gmtime(const time_t *at) KB_POISON("kb_rfc3339_format");
extern struct tm *localtime(const time_t *at) KB_POISON("kb_rfc3339_format");

#undef KB_POISON

#endif

#endif
