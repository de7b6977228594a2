/*
 * kube_config - finds the API server: the pod's own account, or a kubeconfig.
 *
 * Of a kubeconfig: clusters (server, certificate-authority, -data, proxy and TLS switches refused), users
 * (client-certificate, client-key, token, tokenFile, and their -data), contexts with namespace. Plug-ins
 * (exec, auth-provider), basic auth, impersonation and insecure-skip-tls-verify are refused by name.
 * Relative file names count from the kubeconfig's folder. Threads: pure.
 * Format: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
 */
#ifndef KB_OPERATOR_KUBE_KUBE_CONFIG_H
#define KB_OPERATOR_KUBE_KUBE_CONFIG_H

#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/net/kube_access.h"

/*
 * path: --kubeconfig; NULL takes the environment's KUBECONFIG (one file, no list), and without it the pod's
 * account. KB_CONFIG_INVALID naming the file and the field, or as reading a file fails.
 */
kb_code kb_kube_config_load(const char *path, const kb_clock *clock, kb_kube_access **ret_access,
                            kb_error *err) KB_CHECK;
/* The text of a kubeconfig; `dir` is the folder that relative names count from, `name` is for errors. */
kb_code kb_kube_config_parse(kb_view text, const char *dir, const char *name, const kb_clock *clock,
                             kb_kube_access **ret_access, kb_error *err) KB_CHECK;

#endif
