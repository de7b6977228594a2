/*
 * topics - makes the target topics, holds their retention while records come in, and gives them their final
 * configs.
 *
 * Only topics that this restore made are ever altered. Threads: one at a time.
 */
#ifndef KB_WORKER_RESTORE_TOPICS_H
#define KB_WORKER_RESTORE_TOPICS_H

#include "common/base/error.h"
#include "worker/restore/preflight.h"

/* Asks the brokers whether the topics to be created could be, with their final configs; refusals go to the
 * checks. */
kb_code kb_restore_topics_validate(kb_preflight *preflight, kb_error *err) KB_CHECK;
/*
 * Creates the topics that the decisions say, with held configs where wanted, and waits until all partitions
 * have leaders (60 s); then reads the view anew. A topic that an attempt of ours has created meanwhile is
 * fine. Created topics become is_ours.
 */
kb_code kb_restore_topics_create(kb_preflight *preflight, kb_error *err) KB_CHECK;
/* Empties the topics that the decisions say, and reads the view anew. */
kb_code kb_restore_topics_purge(kb_preflight *preflight, kb_error *err) KB_CHECK;
/* Sets the final values of what was held, for the topics of ours with ready[t]. */
kb_code kb_restore_topics_release(kb_preflight *preflight, const bool *ready, kb_error *err) KB_CHECK;
/* Whether the overrides of an existing topic are those that it would get while held. */
bool kb_restore_topics_is_held(const kb_restore_topic *topic, const kb_target_topic *target);

#endif
