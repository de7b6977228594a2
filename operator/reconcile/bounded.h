/*
 * bounded - what the three kinds of one run have in common (operator.md, section 3.2).
 *
 * A kind says how its spec becomes a run and what a report means for its status; states, conditions and the
 * rule that a run is started once and its end is final are here. Threads: pure.
 */
#ifndef KB_OPERATOR_RECONCILE_BOUNDED_H
#define KB_OPERATOR_RECONCILE_BOUNDED_H

#include "operator/model/resolve.h"
#include "operator/reconcile/pass.h"

typedef struct kb_bounded_kind {
    const char *job_created_event, *succeeded_event, *failed_event;
    const char *done_event;       /* of a run that is done, but with findings or without a report */
    const char *completed_reason; /* of Complete=True after plain success */
    const char *findings_reason;  /* and when something was found or left out */
    void (*resolve)(const kb_pass *pass, kb_resolved *ret_resolved);
    const char *(*command)(const kb_spec *spec); /* of the worker */
    /* Fields of status before the run ended; NULL: none. */
    void (*describe)(kb_pass *pass);
    /* Copies what a report says into status; report NULL: nothing is known. */
    void (*collect)(kb_pass *pass, const json_t *report, bool is_good);
} kb_bounded_kind;

void kb_decide_bounded(const kb_bounded_kind *kind, const kb_snapshot *snapshot,
                       const kb_surroundings *around, kb_plan *plan);

/* A number of a report, copied when it is between 0 and max. */
void kb_bounded_copy_number(json_t *status, const char *to, const json_t *report, const char *from,
                            int64_t max);

#endif
