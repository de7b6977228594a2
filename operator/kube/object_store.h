/*
 * object_store - the objects of one resource as the server last showed them, found by name, UID and owner.
 *
 * Objects in the store never change; a new version replaces the old one, and readers keep a reference. A
 * write of our own goes in by kb_object_store_own_write, which takes effect only while the store holds the
 * version that the write was based on: so no pass decides on a copy older than its own last write, and a
 * newer one seen by the watch is never put back. Threads: any; one informer thread puts.
 */
#ifndef KB_OPERATOR_KUBE_OBJECT_STORE_H
#define KB_OPERATOR_KUBE_OBJECT_STORE_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

typedef struct kb_object_store kb_object_store;

typedef enum kb_store_change {
    KB_STORE_SAME, /* the store holds that version already */
    KB_STORE_ADDED,
    KB_STORE_UPDATED,
    KB_STORE_REPLACED, /* same name, another UID: the old one is gone, a new one there */
    KB_STORE_REMOVED
} kb_store_change;

kb_object_store *kb_object_store_new(void) __attribute__((returns_nonnull));
/*
 * The same, but objects are kept as text, a fifth of the memory, and read anew each time they are asked for:
 * for many objects of which few are looked at.
 */
kb_object_store *kb_object_store_new_compact(void) __attribute__((returns_nonnull));
void kb_object_store_free(kb_object_store *owned_store);

/* New references (json_decref), NULL when absent. */
json_t *kb_object_store_get(kb_object_store *store, const char *name_space, const char *name);
json_t *kb_object_store_get_uid(kb_object_store *store, const char *uid);
/* Arrays of references, owned: the objects that have an owner reference with this UID; those of a namespace
 * (NULL: all). Order: as first seen. */
json_t *kb_object_store_owned_by(kb_object_store *store, const char *owner_uid);
json_t *kb_object_store_list(kb_object_store *store, const char *name_space);
size_t kb_object_store_count(kb_object_store *store);

/*
 * What a list or watch showed. The object needs metadata.name, uid and resourceVersion (the caller checked).
 * *ret_old, if asked for, is what it replaced (a new reference) or NULL.
 */
kb_store_change kb_object_store_put(kb_object_store *store, json_t *owned_object, json_t **ret_old);
/* A DELETED event; only removes when the UID is the same. *ret_old as above. */
kb_store_change kb_object_store_remove(kb_object_store *store, const char *name_space, const char *name,
                                       const char *uid, json_t **ret_old);
/*
 * The object of the reply to a write that was based on `based_on` (a resourceVersion; NULL: the object was
 * not there). False when the store holds something else by now. For a delete, `owned_object` is NULL and
 * nothing happens: the watch tells.
 */
bool kb_object_store_own_write(kb_object_store *store, json_t *owned_object, const char *based_on);

/*
 * A fresh list: begin marks all objects of the namespace (NULL: all) as unseen, put sees them, end removes
 * what was not seen and hands each to `removed` (borrowed). Lists of different namespaces may overlap.
 */
void kb_object_store_list_begin(kb_object_store *store, const char *name_space);
void kb_object_store_list_end(kb_object_store *store, const char *name_space,
                              void (*removed)(void *ctx, json_t *object), void *ctx);

#endif
