/*
 * observe - gathers a snapshot: from the stores, and from the server what is not kept there.
 *
 * Asked for when needed: the account of the workers (remembered 10 minutes), Events about a Job that does not
 * start (once per minute), a Job that the status names and the store does not show, the run configurations of
 * a CR (every 10 minutes). Threads: any.
 */
#ifndef KB_OPERATOR_RECONCILE_OBSERVE_H
#define KB_OPERATOR_RECONCILE_OBSERVE_H

#include "operator/reconcile/runtime.h"

/*
 * object: the CR (borrowed). memory is read and updated. Fails as the client does; the snapshot is then to be
 * released, too.
 */
kb_code kb_observe(kb_runtime *runtime, kb_kind kind, json_t *object, kb_memory *memory,
                   kb_snapshot *ret_snapshot, kb_kube_class *ret_fault, kb_error *err) KB_CHECK;

#endif
