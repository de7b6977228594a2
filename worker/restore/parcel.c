#include "worker/restore/parcel.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/sync/cond.h"

/* A parcel that grew beyond this is not kept for the next use. */
#define KB_PARCEL_KEEP_BYTES ((size_t)4 << 20)

struct kb_parcels {
    int64_t max_cost;
    kb_parcel_landed on_landed;
    void *ctx;
    pthread_mutex_t mutex;
    pthread_cond_t drained;
    struct {
        kb_parcel *unused;
        int64_t cost;
        size_t on_way;
    } locked;
    kb_parcel **all; /* every parcel ever made; by the unit's thread */
    size_t count;
    size_t capacity;
};

kb_parcels *kb_parcels_new(int64_t max_cost, kb_parcel_landed on_landed, void *ctx)
{
    kb_parcels *parcels = kb_calloc(1, sizeof *parcels);
    parcels->max_cost = max_cost;
    parcels->on_landed = on_landed;
    parcels->ctx = ctx;
    pthread_mutex_init(&parcels->mutex, NULL);
    kb_cond_init(&parcels->drained);
    return parcels;
}

void kb_parcels_free(kb_parcels *owned_parcels)
{
    if (owned_parcels == NULL)
        return;
    for (size_t i = 0; i < owned_parcels->count; i++) {
        kb_area_done(&owned_parcels->all[i]->area);
        free(owned_parcels->all[i]);
    }
    free(owned_parcels->all);
    pthread_cond_destroy(&owned_parcels->drained);
    pthread_mutex_destroy(&owned_parcels->mutex);
    free(owned_parcels);
}

void kb_parcels_free_at(kb_parcels **at)
{
    kb_parcels_free(*at);
}

static kb_parcel *take_unused(kb_parcels *parcels, int64_t timeout_ms, bool *ret_has_room)
{
    struct timespec deadline = kb_cond_deadline(timeout_ms);
    pthread_mutex_lock(&parcels->mutex);
    bool in_time = true;
    while (in_time && parcels->locked.on_way > 0 && parcels->locked.cost > parcels->max_cost)
        in_time = kb_cond_wait_until(&parcels->drained, &parcels->mutex, &deadline);
    *ret_has_room = parcels->locked.on_way == 0 || parcels->locked.cost <= parcels->max_cost;
    kb_parcel *parcel = *ret_has_room ? parcels->locked.unused : NULL;
    if (parcel != NULL)
        parcels->locked.unused = parcel->next;
    pthread_mutex_unlock(&parcels->mutex);
    return parcel;
}

kb_parcel *kb_parcels_take(kb_parcels *parcels, int64_t timeout_ms)
{
    bool has_room;
    kb_parcel *parcel = take_unused(parcels, timeout_ms, &has_room);
    if (!has_room)
        return NULL;
    if (parcel == NULL) {
        parcel = kb_calloc(1, sizeof *parcel);
        parcel->parcels = parcels;
        parcels->all = kb_grow(parcels->all, parcels->count, &parcels->capacity, sizeof(kb_parcel *));
        parcels->all[parcels->count++] = parcel;
    }
    if (parcel->area.capacity > KB_PARCEL_KEEP_BYTES)
        kb_area_done(&parcel->area);
    parcel->area.len = 0;
    parcel->sent_records = 0;
    parcel->sent_bytes = 0;
    parcel->cost = 0;
    parcel->next = NULL;
    atomic_store_explicit(&parcel->refs, 1, memory_order_relaxed);
    return parcel;
}

static void release(kb_parcel *parcel)
{
    kb_parcels *parcels = parcel->parcels;
    pthread_mutex_lock(&parcels->mutex);
    if (parcel->sent_records > 0 && parcels->on_landed != NULL)
        parcels->on_landed(parcels->ctx, parcel->sent_records, parcel->sent_bytes);
    if (parcel->sent_records > 0) {
        parcels->locked.cost -= parcel->cost;
        parcels->locked.on_way--;
    }
    parcel->next = parcels->locked.unused;
    parcels->locked.unused = parcel;
    pthread_cond_signal(&parcels->drained);
    pthread_mutex_unlock(&parcels->mutex);
}

static void drop(kb_parcel *parcel, long long count)
{
    if (atomic_fetch_sub_explicit(&parcel->refs, count, memory_order_acq_rel) == count)
        release(parcel);
}

void kb_parcel_finish(kb_parcel *owned_parcel)
{
    kb_parcels *parcels = owned_parcel->parcels;
    long long held = (long long)owned_parcel->area.bounds.record_count;
    if (owned_parcel->sent_records > 0) {
        owned_parcel->cost =
            (int64_t)owned_parcel->area.capacity + owned_parcel->sent_records * KB_PARCEL_RECORD_COST;
        pthread_mutex_lock(&parcels->mutex);
        parcels->locked.cost += owned_parcel->cost;
        parcels->locked.on_way++;
        pthread_mutex_unlock(&parcels->mutex);
    }
    drop(owned_parcel, 1 + held - owned_parcel->sent_records);
}

void kb_parcel_unref(kb_parcel *parcel)
{
    drop(parcel, 1);
}

size_t kb_parcels_on_way(kb_parcels *parcels)
{
    pthread_mutex_lock(&parcels->mutex);
    size_t on_way = parcels->locked.on_way;
    pthread_mutex_unlock(&parcels->mutex);
    return on_way;
}

bool kb_parcels_wait_idle(kb_parcels *parcels, int64_t timeout_ms)
{
    struct timespec deadline = kb_cond_deadline(timeout_ms);
    pthread_mutex_lock(&parcels->mutex);
    bool in_time = true;
    while (in_time && parcels->locked.on_way > 0)
        in_time = kb_cond_wait_until(&parcels->drained, &parcels->mutex, &deadline);
    bool idle = parcels->locked.on_way == 0;
    pthread_mutex_unlock(&parcels->mutex);
    return idle;
}

bool kb_parcels_mute(kb_parcels *parcels)
{
    pthread_mutex_lock(&parcels->mutex);
    parcels->on_landed = NULL;
    bool idle = parcels->locked.on_way == 0;
    pthread_mutex_unlock(&parcels->mutex);
    return idle;
}
