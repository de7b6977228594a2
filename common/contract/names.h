/*
 * names - the rule by which a name is derived from another one, and the stamp in a backup id.
 *
 * Threads: pure.
 */
#ifndef KB_COMMON_CONTRACT_NAMES_H
#define KB_COMMON_CONTRACT_NAMES_H

#include <stdbool.h>
#include <stddef.h>

/*
 * child(base, suffix, limit) of crds.md section 10: base + suffix if that is at most max_bytes long; else the
 * first max_bytes - len(suffix) - 9 bytes of base without trailing '-' and '.', then '-', 8 hex digits of
 * SHA-256(base), suffix. max_bytes must be at least len(suffix) + 10. Owned by the caller.
 */
char *kb_name_child(const char *base, const char *suffix, size_t max_bytes) __attribute__((returns_nonnull));

/* Whether text holds "{stamp}". */
bool kb_name_has_stamp(const char *text);
/* text with every "{stamp}" replaced by stamp ("YYYYMMDD-HHMMSS"); owned by the caller. */
char *kb_name_with_stamp(const char *text, const char *stamp) __attribute__((returns_nonnull));

/*
 * What is wrong with an id for writing (storage-format.md section 1), NULL when nothing is: 1 to max_bytes of
 * [A-Za-z0-9][A-Za-z0-9._-]*, not a reserved name, not ending in ".json". Static.
 */
const char *kb_name_new_id_problem(const char *id, size_t max_bytes);
/* The same for an id that is only read: 1 to 512 bytes, no control character, no empty, "." or ".." part. */
const char *kb_name_id_problem(const char *id);

#define KB_NAME_BACKUP_ID_MAX 253
#define KB_NAME_SNAPSHOT_ID_MAX 128

#endif
