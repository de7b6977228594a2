/*
 * object_name - keys as names of objects in a bucket or container (storage-format.md, section 1).
 *
 * Name = prefix without trailing slashes + "/" + key, where parts that are empty vanish and some bytes are
 * percent-encoded within a part: controls, non-ASCII and \ { ^ } % ` ] " > [ ~ < # | * ?; a part "." or ".."
 * becomes %2E, %2E%2E. This is the name itself; what an address needs on top is another encoding. Threads:
 * pure functions.
 */
#ifndef KB_WORKER_STORAGE_OBJECT_NAME_H
#define KB_WORKER_STORAGE_OBJECT_NAME_H

#include <stddef.h>

/* The name of the object with this key. prefix may be NULL or "". Owned by the caller. */
char *kb_object_name(const char *prefix, const char *key) __attribute__((returns_nonnull));
/*
 * What the names of all keys begin with that begin with key_prefix: "" for nothing at all, else with the
 * prefix's "/" and key_prefix's own last one. Owned by the caller.
 */
char *kb_object_name_prefix(const char *prefix, const char *key_prefix) __attribute__((returns_nonnull));
/*
 * The key of a name (NUL-terminated), owned by the caller; a last "/" (a folder of a listing) is kept. NULL
 * when no key has this name: it is not below the prefix, or somebody else put it there in another form.
 */
char *kb_object_key(const char *prefix, const char *name);

#endif
