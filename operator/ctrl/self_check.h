/*
 * self_check - whether an installation can work: the API answers, the CRDs are served, the rights are there.
 *
 * Run by `--self-check` (helm test). Asks by SelfSubjectAccessReview for every right of operator.md section
 * 13 that the installation's kind needs; it changes nothing. Threads: one at a time.
 */
#ifndef KB_OPERATOR_CTRL_SELF_CHECK_H
#define KB_OPERATOR_CTRL_SELF_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/strbuf.h"
#include "operator/kube/kube_client.h"

typedef struct kb_self_check_options {
    kb_kube_client *client;
    const char *release_namespace;
    const char *const *watch_namespaces;    /* CRs are seen in these */
    size_t watch_namespace_count;           /* 0: everywhere */
    const char *const *workload_namespaces; /* Jobs are made in these */
    size_t workload_namespace_count;        /* 0: everywhere */
    bool has_leader_election;
} kb_self_check_options;

/* Writes one line for each thing looked at ("ok ..." or "FAILED ..."); true when nothing failed. */
bool kb_self_check(const kb_self_check_options *options, kb_strbuf *report);

#endif
