#include "worker/restore/fence.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/sync/wait.h"
#include "worker/catalog/layout.h"

struct kb_fence {
    kb_storage *storage;
    char *restore_id;
    uint32_t n;
    kb_stop *stop;
    pthread_t thread;
    atomic_llong valid_since_ms; /* start of the last look that found us the latest */
    atomic_uint successor;       /* 0 = none */
};

static kb_code see_object(void *ctx, const kb_list_entry *entry, kb_error *err)
{
    (void)err;
    kb_fence *fence = ctx;
    kb_restore_object object;
    uint32_t n;
    if (kb_layout_parse_restore_key(fence->restore_id, entry->key, &object, &n) &&
        object == KB_RESTORE_ATTEMPT && n > fence->n)
        atomic_store(&fence->successor, n);
    return KB_OK;
}

static kb_code look(kb_fence *fence, kb_error *err)
{
    int64_t began_ms = kb_clock_boot_ms();
    KB_AUTOFREE char *prefix = kb_layout_restore_prefix(fence->restore_id);
    if (kb_storage_list(fence->storage, prefix, see_object, fence, err) != KB_OK)
        return kb_wrap(err, "looking for later attempts of restore '%s'", fence->restore_id);
    atomic_store(&fence->valid_since_ms, began_ms);
    return KB_OK;
}

static void *keep_looking(void *arg)
{
    kb_fence *fence = arg;
    while (!kb_stop_wait(fence->stop, KB_FENCE_LOOK_MS)) {
        KB_AUTO_ERROR(err);
        if (look(fence, &err) != KB_OK)
            kb_log_limited(KB_LOG_WARN, "the fence cannot be seen", KB_ERRTEXT(&err));
    }
    return NULL;
}

static void fence_free(kb_fence *fence)
{
    kb_stop_free(fence->stop);
    free(fence->restore_id);
    free(fence);
}

kb_code kb_fence_start(kb_storage *storage, const char *restore_id, uint32_t n, kb_fence **ret_fence,
                       kb_error *err)
{
    kb_fence *fence = kb_calloc(1, sizeof *fence);
    fence->storage = storage;
    fence->restore_id = kb_strdup(restore_id);
    fence->n = n;
    kb_code code = kb_stop_new(&fence->stop, err);
    if (code == KB_OK)
        code = look(fence, err);
    int failed = code == KB_OK ? pthread_create(&fence->thread, NULL, keep_looking, fence) : 0;
    if (failed != 0)
        code = kb_fail_retryable(err, KB_TEMPORARY_FAILURE, "no thread to be had: %s", kb_errno_text(failed));
    if (code != KB_OK) {
        fence_free(fence);
        return code;
    }
    *ret_fence = fence;
    return KB_OK;
}

void kb_fence_free(kb_fence *owned_fence)
{
    if (owned_fence == NULL)
        return;
    kb_stop_set(owned_fence->stop, 0);
    pthread_join(owned_fence->thread, NULL);
    fence_free(owned_fence);
}

void kb_fence_free_at(kb_fence **at)
{
    kb_fence_free(*at);
}

kb_code kb_fence_check(kb_fence *fence, kb_error *err)
{
    if (fence == NULL)
        return KB_OK;
    unsigned successor = atomic_load(&fence->successor);
    if (successor != 0)
        return kb_fail_retryable(err, KB_FENCED, "attempt %u of restore '%s' has taken over from attempt %u",
                                 successor, fence->restore_id, fence->n);
    int64_t age_ms = kb_clock_boot_ms() - atomic_load(&fence->valid_since_ms);
    if (age_ms > KB_FENCE_VALID_MS)
        return kb_fail_retryable(err, KB_FENCED,
                                 "could not look for later attempts of restore '%s' for %lld seconds",
                                 fence->restore_id, (long long)(age_ms / 1000));
    return KB_OK;
}
