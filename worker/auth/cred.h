/*
 * cred - credentials for stores: one set, where it comes from, and when it is fetched anew.
 *
 * A provider makes sets. A chain is a provider that takes the first of several that is present, and stays
 * with it: one that is present but fails ends the run, there is no falling through. A cache is a provider
 * that keeps the last set, renews it five minutes before its end (going on with the old one while that still
 * works) and at once when the server refused it. Sets are immutable and counted. Threads: any.
 */
#ifndef KB_WORKER_AUTH_CRED_H
#define KB_WORKER_AUTH_CRED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/secret.h"

/* What a signer needs; which members are set depends on the kind of store. */
typedef struct kb_cred kb_cred;

typedef struct kb_cred_fields {
    const char *id;          /* access key id, account name; copied; may be NULL */
    const kb_secret *secret; /* secret key, shared key; copied; may be NULL */
    const kb_secret *token;  /* session token, bearer token, SAS; copied; may be NULL */
    int64_t expires_ms;      /* wall clock; 0 = never */
    const char *source;      /* "environment", "instance metadata": for messages; copied */
} kb_cred_fields;

/* One reference. */
kb_cred *kb_cred_new(const kb_cred_fields *fields) __attribute__((returns_nonnull));
kb_cred *kb_cred_ref(kb_cred *cred) __attribute__((returns_nonnull));
void kb_cred_unref(kb_cred *owned_cred); /* NULL is fine */
void kb_cred_unref_at(kb_cred **at);
/* The members, borrowed while the reference is held. */
const kb_cred_fields *kb_cred_view(const kb_cred *cred);

typedef struct kb_cred_provider kb_cred_provider;

typedef struct kb_cred_driver {
    const char *name;
    /*
     * A new set, one reference. KB_ERR_NOT_FOUND: this source is not present (nothing configured); any other
     * failure is final: KB_STORAGE_CREDENTIALS_MISSING, KB_STORAGE_ACCESS_DENIED, KB_CONFIG_INVALID, or a
     * retryable KB_STORAGE_UNREACHABLE. Called by one thread at a time.
     */
    kb_code (*fetch)(void *state, kb_cred **ret_cred, kb_error *err);
    void (*free_state)(void *owned_state); /* NULL: nothing to free */
} kb_cred_driver;

/* driver is borrowed for ever (static). */
kb_cred_provider *kb_cred_provider_new(const kb_cred_driver *driver, void *owned_state)
    __attribute__((returns_nonnull));
void kb_cred_provider_free(kb_cred_provider *owned_provider);
void kb_cred_provider_free_at(kb_cred_provider **at);

/* A set that can be used now; one reference. Errors as the driver's fetch. */
kb_code kb_cred_get(kb_cred_provider *provider, kb_cred **ret_cred, kb_error *err) KB_CHECK;

/*
 * The first present one of `count` providers, each owned by the chain from now on. None present:
 * KB_STORAGE_CREDENTIALS_MISSING with `missing_hint`.
 */
kb_cred_provider *kb_cred_chain_new(kb_cred_provider *const *owned_providers, size_t count,
                                    const char *missing_hint) __attribute__((returns_nonnull));

#define KB_CRED_RENEW_BEFORE_MS (5 * 60 * 1000)

/* clock NULL: the machine's. */
kb_cred_provider *kb_cred_cache_new(kb_cred_provider *owned_inner, const kb_clock *clock)
    __attribute__((returns_nonnull));
/*
 * The server refused `used` as expired or unknown: the next kb_cred_get of this cache fetches, unless another
 * thread has replaced it already. Other providers ignore it.
 */
void kb_cred_refused(kb_cred_provider *provider, const kb_cred *used);

#endif
