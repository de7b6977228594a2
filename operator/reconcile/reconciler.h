/*
 * reconciler - one pass over one object: observe, decide, perform; and what wakes which object.
 *
 * Set-up: kb_runtime_new, kb_reconciler_add_informers before the informers start, kb_reconciler_add_kinds
 * before the controller starts. After a pass that the server refused (denied, taken, invalid) the status
 * tells so at once, and the controller repeats the pass with its back-off. Threads: as the controller's.
 */
#ifndef KB_OPERATOR_RECONCILE_RECONCILER_H
#define KB_OPERATOR_RECONCILE_RECONCILER_H

#include "operator/kube/informer.h"
#include "operator/reconcile/runtime.h"

/* Adds the seven informers that the reconcilers live by; namespaces as in kb_informer_options. */
void kb_reconciler_add_informers(kb_runtime *runtime, kb_informers *informers, const char *const *namespaces,
                                 size_t namespace_count);
/*
 * Confirms the run configurations that are there, by one list instead of a request for each object: before
 * the controller starts, when the informers are synced. Namespaces as for the informers. What fails costs
 * only those requests.
 */
void kb_reconciler_confirm_config_maps(kb_runtime *runtime, const char *const *namespaces,
                                       size_t namespace_count);
/* Registers the four kinds; the runtime keeps the controller to wake objects. */
void kb_reconciler_add_kinds(kb_runtime *runtime, kb_controller *controller);

#endif
