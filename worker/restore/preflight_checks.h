/*
 * preflight_checks - the single checks of the preflight: of the backup's objects and gaps, and of what each
 * target topic is and allows. Findings go to the checks of the preflight. Threads: one at a time.
 */
#ifndef KB_WORKER_RESTORE_PREFLIGHT_CHECKS_H
#define KB_WORKER_RESTORE_PREFLIGHT_CHECKS_H

#include "common/base/error.h"
#include "worker/restore/preflight.h"

/* Objects, gaps, whether there is any record at all. */
void kb_preflight_check_backup(kb_preflight *preflight);
/* Partitions, sizes, times, clean-up, source against target, permissions. After kb_contents_check. */
void kb_preflight_check_topics(kb_preflight *preflight);
/* Which topics are to be created, and whether they can be. */
kb_code kb_preflight_check_creation(kb_preflight *preflight, kb_error *err) KB_CHECK;

#endif
