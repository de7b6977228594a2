/*
 * configmap - one ConfigMap as a place for small texts under names, by the API server of the pod (worker.md
 * 9).
 *
 * The map exists beforehand; only its data is changed, each time by a patch with the resourceVersion that was
 * read, so that nothing of others is lost. Failures that may pass are tried again, a lost reply is settled by
 * looking. Threads: any.
 */
#ifndef KB_WORKER_OFFSETS_CONFIGMAP_H
#define KB_WORKER_OFFSETS_CONFIGMAP_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/net/kube_access.h"
#include "common/sync/wait.h"

/* All values together; the API server refuses objects a little larger. */
#define KB_CONFIGMAP_MAX_BYTES ((size_t)900 << 10)

typedef struct kb_configmap kb_configmap;

/* access (borrowed) outlives it; name_space NULL = that of the pod; stop may be NULL. Does not connect. */
kb_configmap *kb_configmap_new(kb_kube_access *access, const char *name_space, const char *name,
                               kb_stop *stop) __attribute__((returns_nonnull));
void kb_configmap_free(kb_configmap *owned_map);
/* "ConfigMap ns/name". Borrowed. */
const char *kb_configmap_describe(const kb_configmap *map);

/* The text under a key, owned, followed by a NUL. KB_ERR_NOT_FOUND when the map has none; KB_CONFIG_INVALID
 * when there is no such map; KB_STORAGE_ACCESS_DENIED, KB_STORAGE_UNREACHABLE. */
kb_code kb_configmap_get(kb_configmap *map, const char *key, char **ret_text, kb_error *err) KB_CHECK;
/* KB_ERR_EXISTS when the key has another text; the same text is fine. KB_SNAPSHOT_TOO_LARGE. */
kb_code kb_configmap_put(kb_configmap *map, const char *key, const char *text, kb_error *err) KB_CHECK;
/* KB_ERR_NOT_FOUND when it is not there. */
kb_code kb_configmap_remove(kb_configmap *map, const char *key, kb_error *err) KB_CHECK;

#endif
