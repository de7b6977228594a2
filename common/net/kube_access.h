/*
 * kube_access - where the API server is and how to log in to it: address, token, CA, client certificate.
 *
 * Both programs use it: a pod finds all of it in its environment and in the projected service account volume;
 * the operator may also get it from a kubeconfig. Tokens and certificates rotate, so files are looked at
 * again every KB_KUBE_ACCESS_CHECK_MS and whenever the server answered 401. A file that is empty or gone for
 * a moment (the kubelet swaps a symlink) keeps what was read before. Callers get a login that never changes:
 * take a new one for each request. Threads: any.
 */
#ifndef KB_COMMON_NET_KUBE_ACCESS_H
#define KB_COMMON_NET_KUBE_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/secret.h"

#define KB_KUBE_ACCESS_CHECK_MS 30000
/* Where a pod finds token, ca.crt and namespace. */
#define KB_KUBE_ACCESS_DIR "/var/run/secrets/kubernetes.io/serviceaccount"

typedef struct kb_kube_access kb_kube_access;

/*
 * One source of PEM or token text: `file` is read again when it changed, `data` (PEM or token, not base64)
 * stays. At most one of them is set; none means that there is none.
 */
typedef struct kb_kube_source {
    const char *file;
    const char *data;
} kb_kube_source;

/* Everything is copied. */
typedef struct kb_kube_access_options {
    const char
        *server; /* "https://host:port", path allowed; "http://" only for this machine's own loopback */
    kb_kube_source token;
    kb_kube_source ca; /* none: the CAs of the system */
    kb_kube_source client_cert;
    kb_kube_source client_key;
    const char *name_space; /* NULL: "default" */
    const kb_clock *clock;  /* NULL: the system's; borrowed */
} kb_kube_access_options;

/* A login as it was at one moment. Immutable; file names stay good as long as the access lives. */
typedef struct kb_kube_login {
    const char *server;           /* no '/' at the end */
    const kb_secret *token;       /* NULL: none */
    kb_view ca;                   /* PEM; empty: the CAs of the system */
    const char *client_cert_file; /* NULL: none; of `data` a file that only this process sees */
    const char *client_key_file;
    unsigned generation; /* another number: the CA or the client certificate is another one */
} kb_kube_login;

/* Reads all files once. KB_CONFIG_INVALID when the server is no such URL; else what reading a file gave. */
kb_code kb_kube_access_new(const kb_kube_access_options *options, kb_kube_access **ret_access,
                           kb_error *err) KB_CHECK;
/*
 * That of a pod: KUBERNETES_SERVICE_HOST and _PORT (IPv6 gets its brackets), and the files of `dir` (NULL:
 * KB_KUBE_ACCESS_DIR). KB_CONFIG_INVALID when the variables are not set, which means "not in a pod".
 */
kb_code kb_kube_access_in_cluster(const char *dir, const kb_clock *clock, kb_kube_access **ret_access,
                                  kb_error *err) KB_CHECK;
void kb_kube_access_free(kb_kube_access *owned_access);
/* For a cleanup attribute: frees *at. */
void kb_kube_access_free_at(kb_kube_access **at);

/* The present login, after a look at the files when the last one is older than the interval. Unref it. */
const kb_kube_login *kb_kube_access_login(kb_kube_access *access) __attribute__((returns_nonnull));
void kb_kube_login_unref(const kb_kube_login *owned_login);
/* For a cleanup attribute: unrefs *at. */
void kb_kube_login_unref_at(const kb_kube_login **at);
/* After 401: reads all files at once. One retry with the next login is due, whatever they held. */
void kb_kube_access_refresh(kb_kube_access *access);
/* The namespace of the pod or of the kubeconfig's context. Borrowed, lives as long as access. */
const char *kb_kube_access_namespace(const kb_kube_access *access);

#endif
