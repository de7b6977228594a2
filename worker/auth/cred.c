#include "worker/auth/cred.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/mem.h"

/* After a renewal that failed while the old set still works: how long until the next try. */
#define KB_CRED_RETRY_MS 30000

struct kb_cred {
    atomic_uint refs;
    kb_cred_fields view; /* its members are owned */
};

struct kb_cred_provider {
    const kb_cred_driver *driver;
    void *state;
    pthread_mutex_t mutex;
};

static void *unconst(const void *pointer)
{
    return (void *)(uintptr_t)pointer;
}

kb_cred *kb_cred_new(const kb_cred_fields *fields)
{
    kb_cred *cred = kb_calloc(1, sizeof *cred);
    atomic_init(&cred->refs, 1);
    cred->view = (kb_cred_fields){
        .id = kb_strdup_opt(fields->id),
        .secret = kb_secret_copy(fields->secret),
        .token = kb_secret_copy(fields->token),
        .expires_ms = fields->expires_ms,
        .source = kb_strdup_opt(fields->source),
    };
    return cred;
}

kb_cred *kb_cred_ref(kb_cred *cred)
{
    atomic_fetch_add(&cred->refs, 1);
    return cred;
}

void kb_cred_unref(kb_cred *owned_cred)
{
    if (owned_cred == NULL || atomic_fetch_sub(&owned_cred->refs, 1) != 1)
        return;
    free(unconst(owned_cred->view.id));
    free(unconst(owned_cred->view.source));
    kb_secret_free(unconst(owned_cred->view.secret));
    kb_secret_free(unconst(owned_cred->view.token));
    free(owned_cred);
}

void kb_cred_unref_at(kb_cred **at)
{
    kb_cred_unref(*at);
    *at = NULL;
}

const kb_cred_fields *kb_cred_view(const kb_cred *cred)
{
    return &cred->view;
}

/* ---- providers ---- */

kb_cred_provider *kb_cred_provider_new(const kb_cred_driver *driver, void *owned_state)
{
    kb_cred_provider *provider = kb_calloc(1, sizeof *provider);
    provider->driver = driver;
    provider->state = owned_state;
    pthread_mutex_init(&provider->mutex, NULL);
    return provider;
}

void kb_cred_provider_free(kb_cred_provider *owned_provider)
{
    if (owned_provider == NULL)
        return;
    if (owned_provider->driver->free_state != NULL)
        owned_provider->driver->free_state(owned_provider->state);
    pthread_mutex_destroy(&owned_provider->mutex);
    free(owned_provider);
}

void kb_cred_provider_free_at(kb_cred_provider **at)
{
    kb_cred_provider_free(*at);
    *at = NULL;
}

kb_code kb_cred_get(kb_cred_provider *provider, kb_cred **ret_cred, kb_error *err)
{
    pthread_mutex_lock(&provider->mutex);
    kb_code code = provider->driver->fetch(provider->state, ret_cred, err);
    pthread_mutex_unlock(&provider->mutex);
    return code;
}

/* ---- chain ---- */

typedef struct kb_chain {
    kb_cred_provider **providers;
    size_t count;
    kb_cred_provider *chosen;
    char *missing_hint;
} kb_chain;

static kb_code chain_fetch(void *state, kb_cred **ret_cred, kb_error *err)
{
    kb_chain *chain = state;
    if (chain->chosen != NULL)
        return kb_cred_get(chain->chosen, ret_cred, err);
    for (size_t i = 0; i < chain->count; i++) {
        KB_AUTO_ERROR(failed);
        kb_code code = kb_cred_get(chain->providers[i], ret_cred, &failed);
        if (code == KB_ERR_NOT_FOUND)
            continue;
        chain->chosen = chain->providers[i];
        kb_error_move(err, &failed);
        return code;
    }
    return kb_fail(err, KB_STORAGE_CREDENTIALS_MISSING, "no credentials were found; hint: %s",
                   chain->missing_hint);
}

static void chain_free(void *owned_state)
{
    kb_chain *chain = owned_state;
    for (size_t i = 0; i < chain->count; i++)
        kb_cred_provider_free(chain->providers[i]);
    free(chain->providers);
    free(chain->missing_hint);
    free(chain);
}

kb_cred_provider *kb_cred_chain_new(kb_cred_provider *const *owned_providers, size_t count,
                                    const char *missing_hint)
{
    static const kb_cred_driver driver = {.name = "chain", .fetch = chain_fetch, .free_state = chain_free};
    kb_chain *chain = kb_calloc(1, sizeof *chain);
    chain->providers = kb_calloc(count > 0 ? count : 1, sizeof *chain->providers);
    for (size_t i = 0; i < count; i++)
        chain->providers[i] = owned_providers[i];
    chain->count = count;
    chain->missing_hint = kb_strdup(missing_hint);
    return kb_cred_provider_new(&driver, chain);
}

/* ---- cache ---- */

typedef struct kb_cache {
    kb_cred_provider *inner;
    const kb_clock *clock;
    kb_cred *cred;         /* the last set; NULL at first */
    bool is_refused;       /* by the server */
    int64_t not_before_ms; /* boot clock: no renewal before, after one that failed */
} kb_cache;

static kb_code cache_fetch(void *state, kb_cred **ret_cred, kb_error *err)
{
    kb_cache *cache = state;
    int64_t wall = kb_clock_now_wall_ms(cache->clock), boot = kb_clock_now_boot_ms(cache->clock);
    int64_t ends = cache->cred != NULL ? kb_cred_view(cache->cred)->expires_ms : 0;
    bool is_usable = cache->cred != NULL && !cache->is_refused && (ends == 0 || wall < ends);
    bool is_fresh = is_usable && (ends == 0 || wall < ends - KB_CRED_RENEW_BEFORE_MS);
    if (is_fresh || (is_usable && boot < cache->not_before_ms)) {
        *ret_cred = kb_cred_ref(cache->cred);
        return KB_OK;
    }
    kb_cred *fetched = NULL;
    KB_AUTO_ERROR(failed);
    kb_code code = kb_cred_get(cache->inner, &fetched, &failed);
    if (code != KB_OK && is_usable) {
        cache->not_before_ms = boot + KB_CRED_RETRY_MS;
        *ret_cred = kb_cred_ref(cache->cred);
        return KB_OK;
    }
    if (code != KB_OK) {
        kb_error_move(err, &failed);
        return code;
    }
    kb_cred_unref(cache->cred);
    cache->cred = fetched;
    cache->is_refused = false;
    cache->not_before_ms = boot + KB_CRED_RETRY_MS;
    *ret_cred = kb_cred_ref(fetched);
    return KB_OK;
}

static void cache_free(void *owned_state)
{
    kb_cache *cache = owned_state;
    kb_cred_unref(cache->cred);
    kb_cred_provider_free(cache->inner);
    free(cache);
}

static const kb_cred_driver cache_driver = {.name = "cache", .fetch = cache_fetch, .free_state = cache_free};

kb_cred_provider *kb_cred_cache_new(kb_cred_provider *owned_inner, const kb_clock *clock)
{
    kb_cache *cache = kb_calloc(1, sizeof *cache);
    cache->inner = owned_inner;
    cache->clock = clock != NULL ? clock : kb_clock_system();
    return kb_cred_provider_new(&cache_driver, cache);
}

void kb_cred_refused(kb_cred_provider *provider, const kb_cred *used)
{
    if (provider->driver != &cache_driver)
        return;
    pthread_mutex_lock(&provider->mutex);
    kb_cache *cache = provider->state;
    if (cache->cred == used)
        cache->is_refused = true;
    pthread_mutex_unlock(&provider->mutex);
}
