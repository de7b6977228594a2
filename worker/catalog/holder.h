/*
 * holder - the process that owns an open backup, as the journal names it (storage-format, 8).
 *
 * Threads: pure functions, but for kb_holder_init and kb_holder_is_dead, which ask the machine.
 */
#ifndef KB_WORKER_CATALOG_HOLDER_H
#define KB_WORKER_CATALOG_HOLDER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"

/* Texts may be "" but not NULL. */
typedef struct kb_holder {
    char *job_name;
    char *job_uid; /* "" never equals another */
    char *pod_name;
    char *host;
    char *boot_id;
    int64_t pid;
    int64_t pid_start;     /* clock ticks since boot (proc(5), stat field 22) */
    int64_t pid_namespace; /* inode of the namespace that pid counts in; 0 = unknown */
} kb_holder;

/* This process; the three names are copied, NULL counts as "". */
void kb_holder_init(kb_holder *holder, const char *job_name, const char *job_uid, const char *pod_name);
/* Into an empty holder. */
void kb_holder_copy(kb_holder *to, const kb_holder *from);
void kb_holder_done(kb_holder *holder);
/* Whether it is certain that the holder's process is gone: this machine and boot, no process of that pid and
 * start time. */
bool kb_holder_is_dead(const kb_holder *holder);
/* Whether both have the same job uid, which is not "". */
bool kb_holder_is_same_job(const kb_holder *a, const kb_holder *b);
/* "job 'j' (pod 'p'), process 17 on host 'h'" with what is known; owned by the caller. */
char *kb_holder_describe(const kb_holder *holder) __attribute__((returns_nonnull));

#endif
