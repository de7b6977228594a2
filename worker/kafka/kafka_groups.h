/*
 * kafka_groups - what is asked of and told to the coordinators of consumer groups; an interface, so that a
 * fake can stand in.
 *
 * Requests go to the coordinator of each group, many at once; transient errors, a coordinator that moves
 * among them, are asked again until the deadline of the call. What remains is in the entries and places as
 * error numbers (kb_kafka_classify); a call fails as a whole only when nothing can be asked. Nothing here
 * joins a group. Threads: any; calls do not wait for each other.
 */
#ifndef KB_WORKER_KAFKA_KAFKA_GROUPS_H
#define KB_WORKER_KAFKA_KAFKA_GROUPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "worker/kafka/kafka_admin.h"
#include "worker/kafka/kafka_group_set.h"

#define KB_GROUP_MEMBERS_SHOWN 5

typedef enum kb_group_state {
    KB_GROUP_STATE_UNKNOWN, /* the broker does not say */
    KB_GROUP_STATE_ABSENT,  /* there is no such group, or it is dead */
    KB_GROUP_STATE_EMPTY,
    KB_GROUP_STATE_ACTIVE /* it has members, or is about to have */
} kb_group_state;

/* One group as the cluster lists it: consumer groups of both protocols, and groups that only have offsets. */
typedef struct kb_group_info {
    char *group; /* owned, as all */
    kb_group_state state;
    char *state_text;    /* "Stable"; NULL = none */
    char *members;       /* "client-1 (/10.0.0.7), ..." up to KB_GROUP_MEMBERS_SHOWN; NULL = not known */
    size_t member_count; /* 0 = not known */
    int error_number;
} kb_group_info;

typedef struct kb_group_infos {
    kb_group_info *items; /* ascending by group */
    size_t count;
    size_t capacity;
    size_t failures; /* brokers whose groups could not be listed */
    char *failure;   /* what the first one said; NULL = none */
} kb_group_infos;
void kb_group_infos_done(kb_group_infos *infos);
/* NULL when it is not there. */
const kb_group_info *kb_group_infos_find(const kb_group_infos *infos, const char *group);
/* Adds a group in order (or finds it); for implementations. */
kb_group_info *kb_group_infos_add(kb_group_infos *infos, const char *group) __attribute__((returns_nonnull));

/* Called when a group was answered for good; anything but KB_OK ends the call with that. */
typedef kb_code (*kb_group_done)(void *ctx, kb_group_entry *entry, kb_error *err);

/* A call for all groups of a set. */
typedef struct kb_groups_call {
    kb_kafka_call base;
    size_t parallelism;    /* groups asked at once; 0 = 64 */
    kb_group_done on_done; /* may be NULL; called in the caller's thread */
    void *ctx;
} kb_groups_call;

typedef struct kb_kafka_groups kb_kafka_groups;

typedef struct kb_kafka_groups_ops {
    void (*free)(kb_kafka_groups *owned_groups);
    kb_code (*list)(kb_kafka_groups *groups, const kb_kafka_call *call, kb_group_infos *ret_infos,
                    kb_error *err);
    kb_code (*describe)(kb_kafka_groups *groups, kb_group_info *info, const kb_kafka_call *call,
                        kb_error *err);
    kb_code (*committed)(kb_kafka_groups *groups, kb_group_set *set, const kb_groups_call *call,
                         kb_error *err);
    kb_code (*commit)(kb_kafka_groups *groups, kb_group_set *set, const kb_groups_call *call, kb_error *err);
} kb_kafka_groups_ops;

/* First member of every implementation. */
struct kb_kafka_groups {
    const kb_kafka_groups_ops *ops;
};

/* NULL is fine. */
void kb_kafka_groups_free(kb_kafka_groups *owned_groups);
void kb_kafka_groups_free_at(kb_kafka_groups **at);

/* All groups of all brokers with their states. Share groups and those of other protocols are not listed. */
kb_code kb_kafka_groups_list(kb_kafka_groups *groups, const kb_kafka_call *call, kb_group_infos *ret_infos,
                             kb_error *err) KB_CHECK;
/* Adds the members of an active group, and its state when the listing did not tell it, as far as they can be
 * learned. */
kb_code kb_kafka_groups_describe(kb_kafka_groups *groups, kb_group_info *info, const kb_kafka_call *call,
                                 kb_error *err) KB_CHECK;
/*
 * Replaces the places of every group of the set by all that it has committed, with offsets that no open
 * transaction is about to change. A group that does not exist has none.
 */
kb_code kb_kafka_groups_committed(kb_kafka_groups *groups, kb_group_set *set, const kb_groups_call *call,
                                  kb_error *err) KB_CHECK;
/* Commits every place of every group: the offset with its metadata, or, for KB_GROUP_NO_OFFSET, removes the
 * committed one. */
kb_code kb_kafka_groups_commit(kb_kafka_groups *groups, kb_group_set *set, const kb_groups_call *call,
                               kb_error *err) KB_CHECK;

#endif
