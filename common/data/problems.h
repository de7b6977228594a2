/*
 * problems - what is wrong with a file, all of it, each with its place.
 *
 * Collected while a configuration is read, so that the user sees every error at once; warnings and notes
 * (keys without effect) travel in the same list. The list is bounded; beyond the limit only the count grows.
 * Threads: one at a time.
 */
#ifndef KB_COMMON_DATA_PROBLEMS_H
#define KB_COMMON_DATA_PROBLEMS_H

#include <stddef.h>

#include "common/base/error.h"

#define KB_PROBLEMS_MAX 200

typedef enum kb_severity { KB_SEVERITY_ERROR, KB_SEVERITY_WARNING, KB_SEVERITY_NOTE } kb_severity;

typedef struct kb_problem {
    kb_severity severity;
    unsigned line, column; /* from 1; 0 = no place in the file */
    char *path;            /* dotted path, "" for the file itself; owned */
    char *text;            /* owned */
} kb_problem;

typedef struct kb_problems {
    char *file; /* name for the texts; owned */
    kb_problem *items;
    size_t count, capacity;
    size_t error_count; /* all errors, also those beyond the limit of items */
} kb_problems;

void kb_problems_init(kb_problems *problems, const char *file);
void kb_problems_done(kb_problems *problems);
void kb_problems_add(kb_problems *problems, kb_severity severity, unsigned line, unsigned column,
                     const char *path, const char *fmt, ...) KB_PRINTF(6, 7);
/* "file:line:column: dotted.path: text" (parts that are not known are left out); owned by the caller. */
char *kb_problem_text(const kb_problems *problems, const kb_problem *problem)
    __attribute__((returns_nonnull));
/* KB_OK without an error in the list; else fails with code and one line for each error, in file order. */
kb_code kb_problems_check(const kb_problems *problems, kb_code code, kb_error *err) KB_CHECK;

#endif
