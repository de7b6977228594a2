/*
 * json_tree - reading and building jansson values without a line per member.
 *
 * Objects of Kubernetes are read by path and never trusted: an absent member, or one of another type, reads
 * as the fallback. Building cannot fail: text that is not UTF-8 is cleaned, and jansson refuses nothing else
 * but memory, which ends the process as kb_malloc does. Threads: as jansson; a finished value that nobody
 * changes may be shared, its reference count is atomic.
 */
#ifndef KB_COMMON_DATA_JSON_TREE_H
#define KB_COMMON_DATA_JSON_TREE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

/* A reference that is dropped at the end of its scope. */
#define KB_AUTO_TREE(name) __attribute__((cleanup(kb_tree_done))) json_t *name = NULL
void kb_tree_done(json_t **at);

/* The path is a list of member names that ends with NULL; every function accepts a value of NULL. */
#define KB_TREE_PATH __attribute__((sentinel))

/* The value at the path (borrowed), NULL when it is absent or null. */
json_t *kb_tree_at(const json_t *value, ...) KB_TREE_PATH;
/* The text at the path (borrowed), NULL when there is none. */
const char *kb_tree_text(const json_t *value, ...) KB_TREE_PATH;
/* The same, "" when there is none. */
const char *kb_tree_text_or_empty(const json_t *value, ...) KB_TREE_PATH;
int64_t kb_tree_i64(int64_t fallback, const json_t *value, ...) KB_TREE_PATH;
bool kb_tree_bool(bool fallback, const json_t *value, ...) KB_TREE_PATH;
/* RFC 3339 time in ms since 1970; false when there is none. */
bool kb_tree_time(int64_t *ret_ms, const json_t *value, ...) KB_TREE_PATH;

/* Ends the process when value is NULL: jansson gives NULL only when memory is gone. */
json_t *kb_tree_need(json_t *owned_value) __attribute__((returns_nonnull));
/* New values; owned by the caller. */
json_t *kb_tree_object(void) __attribute__((returns_nonnull));
json_t *kb_tree_array(void) __attribute__((returns_nonnull));
json_t *kb_tree_string(const char *text) __attribute__((returns_nonnull));
json_t *kb_tree_stringf(const char *fmt, ...) KB_PRINTF(1, 2) __attribute__((returns_nonnull));
json_t *kb_tree_copy(const json_t *value) __attribute__((returns_nonnull)); /* deep */
/* RFC 3339 UTC with whole seconds, as Kubernetes writes times. */
json_t *kb_tree_time_value(int64_t unix_ms) __attribute__((returns_nonnull));

/* Sets a member. A value or text of NULL leaves the object as it is. */
void kb_tree_set(json_t *object, const char *name, json_t *owned_value);
void kb_tree_set_text(json_t *object, const char *name, const char *text);
void kb_tree_set_i64(json_t *object, const char *name, int64_t number);
void kb_tree_set_bool(json_t *object, const char *name, bool flag);
void kb_tree_set_time(json_t *object, const char *name, int64_t unix_ms);
/* Adds to the end of an array; NULL is ignored. */
void kb_tree_add(json_t *array, json_t *owned_value);
void kb_tree_add_text(json_t *array, const char *text);
/* Copies every member of `from` (may be NULL) that `to` does not have. */
void kb_tree_merge_missing(json_t *to, const json_t *from);
/* Copies every member of `from` (may be NULL) over those of `to`. */
void kb_tree_merge_over(json_t *to, const json_t *from);

/* Compact text with sorted members: equal values, equal text. Owned by the caller. */
char *kb_tree_canonical(const json_t *value) __attribute__((returns_nonnull));
/* First `digits` (1 to 64) hex digits of the SHA-256 of a text; owned by the caller. */
char *kb_tree_text_hash(const char *text, size_t digits) __attribute__((returns_nonnull));

#endif
