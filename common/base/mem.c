#include "common/base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int out_of_memory_exit_code = 75;

void kb_mem_set_exit_code(int exit_code)
{
    out_of_memory_exit_code = exit_code;
}

void kb_out_of_memory(void)
{
    static const char line[] = "level=error msg=\"out of memory; hint: raise the memory limit\"\n";
    (void)!write(STDERR_FILENO, line, sizeof line - 1);
    _exit(out_of_memory_exit_code);
}

void *kb_malloc(size_t size)
{
    void *p = malloc(size > 0 ? size : 1);
    if (p == NULL)
        kb_out_of_memory();
    return p;
}

void *kb_calloc(size_t count, size_t size)
{
    void *p = calloc(count > 0 ? count : 1, size > 0 ? size : 1);
    if (p == NULL)
        kb_out_of_memory();
    return p;
}

void *kb_realloc(void *owned_old, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        kb_out_of_memory();
    void *p = realloc(owned_old, bytes > 0 ? bytes : 1);
    if (p == NULL)
        kb_out_of_memory();
    return p;
}

char *kb_strdup(const char *text)
{
    return kb_strndup(text, strlen(text));
}

char *kb_strdup_opt(const char *text)
{
    return text != NULL ? kb_strdup(text) : NULL;
}

char *kb_strndup(const char *text, size_t len)
{
    char *copy = kb_malloc(len + 1);
    memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

char *kb_asprintf(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *text = NULL;
    int len = vasprintf(&text, fmt, args);
    va_end(args);
    if (len < 0 || text == NULL)
        kb_out_of_memory();
    return text;
}

void *kb_try_malloc(size_t size)
{
    return malloc(size > 0 ? size : 1);
}

void *kb_grow(void *owned_array, size_t count, size_t *capacity, size_t element_size)
{
    if (count < *capacity && owned_array != NULL)
        return owned_array;
    size_t wanted = *capacity > 0 ? *capacity * 2 : 8;
    void *moved = kb_realloc(owned_array, wanted, element_size);
    *capacity = wanted;
    return moved;
}

void kb_free_at(void *at)
{
    void **p = at;
    free(*p);
    *p = NULL;
}
