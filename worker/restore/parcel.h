/*
 * parcel - decoded records on their way to the target, and the memory bound of one unit.
 *
 * A parcel is an area of whole records. Values are handed to the Kafka client without a copy, so a parcel
 * must stay until the last of them is acknowledged: one reference for each record sent, and one of the
 * stream that is still reading it. What has been read to its end and waits for acknowledgements only is "on
 * its way", and the cost of it is what kb_parcels_take waits for: this always drains by itself, also when
 * many streams are merged. Threads: take and finish by the unit's thread; unref from any.
 */
#ifndef KB_WORKER_RESTORE_PARCEL_H
#define KB_WORKER_RESTORE_PARCEL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "worker/segment/segment_reader.h"

/* The client library's own memory for a queued record, besides its key and headers. */
#define KB_PARCEL_RECORD_COST 256

typedef struct kb_parcels kb_parcels;
typedef struct kb_parcel kb_parcel;

struct kb_parcel {
    kb_area area;
    atomic_llong refs;
    int64_t sent_records; /* by the unit's thread, until finish */
    int64_t sent_bytes;   /* key and value */
    int64_t cost;
    kb_parcels *parcels;
    kb_parcel *next;
};

/* Called when all records of a finished parcel are acknowledged, by the thread that drops the last
 * reference, with a lock held. */
typedef void (*kb_parcel_landed)(void *ctx, int64_t records, int64_t bytes);

/* max_cost: of parcels on their way; one more is always let through. */
kb_parcels *kb_parcels_new(int64_t max_cost, kb_parcel_landed on_landed, void *ctx)
    __attribute__((returns_nonnull));
/* No other thread may hold a reference any more; what is still out is freed too. */
void kb_parcels_free(kb_parcels *owned_parcels);
void kb_parcels_free_at(kb_parcels **at);

/* An empty parcel with the stream's reference; NULL when timeout_ms passed without room. */
kb_parcel *kb_parcels_take(kb_parcels *parcels, int64_t timeout_ms);
/* Before the records of the parcel are sent: a reference for each. */
static inline void kb_parcel_hold(kb_parcel *parcel)
{
    atomic_fetch_add_explicit(&parcel->refs, (long long)parcel->area.bounds.record_count,
                              memory_order_relaxed);
}
/* A record was sent: its reference goes to the client. */
static inline void kb_parcel_sent(kb_parcel *parcel, int64_t bytes)
{
    parcel->sent_records++;
    parcel->sent_bytes += bytes;
}
/* It was not after all: the client did not take it. */
static inline void kb_parcel_unsent(kb_parcel *parcel, int64_t bytes)
{
    parcel->sent_records--;
    parcel->sent_bytes -= bytes;
}
/* The stream is through: gives back its own reference and those of records that were not sent. */
void kb_parcel_finish(kb_parcel *owned_parcel);
/* A record is acknowledged. */
void kb_parcel_unref(kb_parcel *parcel);
/* Parcels that wait for acknowledgements only. */
size_t kb_parcels_on_way(kb_parcels *parcels);
/* Waits until nothing is on its way, for timeout_ms at most. */
bool kb_parcels_wait_idle(kb_parcels *parcels, int64_t timeout_ms) __attribute__((warn_unused_result));
/* on_landed is not called any more. True when nothing is on its way. */
bool kb_parcels_mute(kb_parcels *parcels);

#endif
