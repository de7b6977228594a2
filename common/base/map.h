/*
 * map - hash map from byte strings to pointers.
 *
 * Keys are copied, may hold any byte and are hashed with a secret of the map, so that names from outside
 * cannot make it slow. Iteration goes in the order in which the keys were first put. Threads: one at a time.
 */
#ifndef KB_COMMON_BASE_MAP_H
#define KB_COMMON_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>

typedef struct kb_map kb_map;

/* An empty map; value_free (may be NULL) is called for each value that is replaced, removed or left at the
 * end. */
kb_map *kb_map_new(void (*value_free)(void *owned_value)) __attribute__((returns_nonnull));
void kb_map_free(kb_map *owned_map);
/* For a cleanup attribute: frees *at. */
void kb_map_free_at(kb_map **at);

size_t kb_map_count(const kb_map *map);
/* The value (borrowed), NULL when the key is absent. */
void *kb_map_get(const kb_map *map, const void *key, size_t key_len);
bool kb_map_has(const kb_map *map, const void *key, size_t key_len);
/* Sets the value, replacing an older one. The value is owned by the map when there is a value_free. */
void kb_map_put(kb_map *map, const void *key, size_t key_len, void *owned_value);
/* False when the key was absent. */
bool kb_map_remove(kb_map *map, const void *key, size_t key_len);
/* Removes all keys. */
void kb_map_clear(kb_map *map);

/* The same with a NUL-terminated key. */
void *kb_map_gets(const kb_map *map, const char *key);
void kb_map_puts(kb_map *map, const char *key, void *owned_value);
bool kb_map_removes(kb_map *map, const char *key);

/* One step of an iteration; start with KB_MAP_ITER_INIT. The current key may be removed, nothing may be put.
 */
typedef struct kb_map_iter {
    size_t next;
    const char *key; /* borrowed, followed by a NUL */
    size_t key_len;
    void *value; /* borrowed */
} kb_map_iter;
#define KB_MAP_ITER_INIT {0, NULL, 0, NULL}
/* Moves to the next entry; false at the end. */
bool kb_map_next(const kb_map *map, kb_map_iter *iter);

#endif
