/*
 * mem - allocation that cannot fail, overflow-checked sizes, clean-up by attribute.
 *
 * Small allocations end the process with one line when memory is gone (worker: exit 75). Whatever is sized by
 * input or configuration uses kb_try_malloc with a limit checked before. Threads: all functions may be called
 * from any thread.
 */
#ifndef KB_COMMON_BASE_MEM_H
#define KB_COMMON_BASE_MEM_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/poison.h"

/* Runs fn(&variable) at the end of the scope. */
#define KB_CLEANUP(fn) __attribute__((cleanup(fn)))
#define KB_AUTOFREE __attribute__((cleanup(kb_free_at)))
/* Moves a pointer out of a variable, leaving NULL: "return KB_TAKE(p);". */
#define KB_TAKE(pointer) \
    __extension__({ \
        __auto_type taken_ = (pointer); \
        (pointer) = NULL; \
        taken_; \
    })
#define KB_ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))

void *kb_malloc(size_t size) __attribute__((malloc, returns_nonnull));
void *kb_calloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
void *kb_realloc(void *owned_old, size_t count, size_t size) __attribute__((returns_nonnull));
char *kb_strdup(const char *text) __attribute__((returns_nonnull)); /* text not NULL */
char *kb_strdup_opt(const char *text);                              /* NULL gives NULL */
char *kb_strndup(const char *text, size_t len) __attribute__((returns_nonnull));
char *kb_asprintf(const char *fmt, ...) KB_PRINTF(1, 2) __attribute__((returns_nonnull));
/* NULL when there is no memory; for sizes that come from outside. */
void *kb_try_malloc(size_t size) __attribute__((malloc));

/* Makes room for one more element: doubles *capacity when count has reached it. Returns the (moved) array. */
void *kb_grow(void *owned_array, size_t count, size_t *capacity, size_t element_size)
    __attribute__((returns_nonnull));

/* Frees *(void **)at; for KB_AUTOFREE. */
void kb_free_at(void *at);

/* The process's exit code when memory is gone: 75 unless set otherwise (operator: 1). Called once, in main.
 */
void kb_mem_set_exit_code(int exit_code);
_Noreturn void kb_out_of_memory(void);

#endif
