/*
 * secret - text that must not be printed: passwords, tokens, keys.
 *
 * A type of its own, so that no format and no log field takes it; its memory is wiped when it is freed. The
 * only way to the text is kb_secret_view, at the place that hands it to a library. Threads: immutable.
 */
#ifndef KB_COMMON_BASE_SECRET_H
#define KB_COMMON_BASE_SECRET_H

#include <stdbool.h>
#include <stddef.h>

typedef struct kb_secret kb_secret;

/* A copy of text; the caller wipes its own (kb_wipe). */
kb_secret *kb_secret_new(const void *text, size_t len) __attribute__((returns_nonnull));
kb_secret *kb_secret_copy(const kb_secret *secret); /* NULL gives NULL */
/* Wipes and frees; NULL is fine. */
void kb_secret_free(kb_secret *owned_secret);
/* For a cleanup attribute: frees *at. */
void kb_secret_free_at(kb_secret **at);
/* The text, followed by a NUL; never for a log, an error text or a file. Borrowed. */
const char *kb_secret_view(const kb_secret *secret);
size_t kb_secret_len(const kb_secret *secret);
/* Compares in a time that does not depend on the content; two NULLs are equal. */
bool kb_secret_is_equal(const kb_secret *a, const kb_secret *b);
/* Zeros memory, and the compiler does not remove it. */
void kb_wipe(void *memory, size_t len);

#endif
