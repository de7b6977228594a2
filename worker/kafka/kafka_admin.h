/*
 * kafka_admin - what is asked of and told to a cluster, in batches; an interface, so that a fake can stand
 * in.
 *
 * Every call goes out as few requests as the protocol allows, each to the leader or coordinator concerned.
 * Per item errors come in the item (error_number, see kb_kafka_classify), never as a failed call, and
 * transient ones are asked again until the deadline, UNKNOWN_TOPIC_OR_PARTITION for at most 30 s
 * (unknown_wait_ms). A failed call has the text of the last trouble. Arrays of results are in the order of
 * the arguments. Threads: any; calls do not wait for each other.
 */
#ifndef KB_WORKER_KAFKA_KAFKA_ADMIN_H
#define KB_WORKER_KAFKA_KAFKA_ADMIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/sync/breaker.h"
#include "common/sync/wait.h"
#include "worker/kafka/kafka_client.h"

/* How long a call may take, and what may end it. */
typedef struct kb_kafka_call {
    int64_t deadline_ms;     /* boot clock */
    int64_t unknown_wait_ms; /* how long an unknown topic is asked again: 0 = not at all (it is an answer) */
    kb_stop *stop;           /* may be NULL */
} kb_kafka_call;

typedef struct kb_kafka_partition {
    int32_t id;
    int32_t leader; /* -1: none now */
    int replica_count;
    int isr_count;
} kb_kafka_partition;

#define KB_KAFKA_TOPIC_ID_BYTES 16

typedef struct kb_kafka_topic {
    char *name;
    int error_number;                    /* 0, or why the rest is empty */
    uint8_t id[KB_KAFKA_TOPIC_ID_BYTES]; /* big-endian, as printed by Kafka in base64; zero when has_id is
                                            false */
    bool has_id;                         /* false: the broker is older than topic ids */
    bool is_internal;
    int replication_factor;         /* of the first partition */
    kb_kafka_partition *partitions; /* ascending by id, dense from 0 */
    size_t partition_count;
} kb_kafka_topic;

typedef struct kb_kafka_metadata {
    kb_kafka_cluster cluster;
    kb_kafka_topic *topics; /* ascending by name (bytes) */
    size_t topic_count;
} kb_kafka_metadata;
void kb_kafka_metadata_done(kb_kafka_metadata *metadata);
/* NULL when it is not there. */
const kb_kafka_topic *kb_kafka_metadata_find(const kb_kafka_metadata *metadata, const char *name);

typedef enum kb_kafka_offset_kind {
    KB_KAFKA_OFFSET_EARLIEST,    /* log start */
    KB_KAFKA_OFFSET_LATEST,      /* high watermark */
    KB_KAFKA_OFFSET_LAST_STABLE, /* read_committed end */
    KB_KAFKA_OFFSET_TIMESTAMP    /* first record at or after `timestamp`; -1 when there is none */
} kb_kafka_offset_kind;

/* topic is borrowed; a partition may come once per call. */
typedef struct kb_kafka_offset_query {
    const char *topic;
    int32_t partition;
    int64_t timestamp;    /* in: only for KB_KAFKA_OFFSET_TIMESTAMP */
    int64_t offset;       /* out; -1 with an error */
    int64_t at_timestamp; /* out: the found record's, -1 otherwise */
    int error_number;     /* out */
} kb_kafka_offset_query;

typedef enum kb_kafka_config_source {
    KB_KAFKA_CONFIG_UNKNOWN,
    KB_KAFKA_CONFIG_TOPIC, /* an override of the topic itself: what a backup keeps */
    KB_KAFKA_CONFIG_BROKER,
    KB_KAFKA_CONFIG_DEFAULT
} kb_kafka_config_source;

typedef struct kb_kafka_config {
    char *name;
    char *value; /* NULL: null, or kept secret by the broker */
    kb_kafka_config_source source;
    bool is_sensitive;
} kb_kafka_config;

/* All effective configs of a topic or broker, ascending by name. */
typedef struct kb_kafka_configs {
    int error_number; /* then the list is empty */
    char *error_text; /* owned; NULL when error_number is 0 */
    kb_kafka_config *items;
    size_t count;
} kb_kafka_configs;
/* Frees the array and all that it holds; for arrays made by describe_*. */
void kb_kafka_configs_free(kb_kafka_configs *owned_array, size_t count);
/* NULL when it is not there. */
const kb_kafka_config *kb_kafka_configs_find(const kb_kafka_configs *configs, const char *name);

typedef struct kb_kafka_setting {
    const char *name;
    const char *value; /* NULL in alter: delete the override */
} kb_kafka_setting;

typedef struct kb_kafka_new_topic {
    const char *name;
    int partition_count;
    int replication_factor; /* -1: the broker's default */
    const kb_kafka_setting *configs;
    size_t config_count;
    int error_number; /* out: 36 = exists already */
    char *error_text; /* out, owned by the caller (free); NULL when error_number is 0 */
} kb_kafka_new_topic;

typedef struct kb_kafka_alter {
    const char *topic;
    const kb_kafka_setting *configs;
    size_t config_count;
    int error_number; /* out */
    char *error_text; /* out, owned by the caller */
} kb_kafka_alter;

typedef struct kb_kafka_delete_records {
    const char *topic;
    int32_t partition;
    int64_t before;    /* records below this offset go; -1: all up to the high watermark */
    int64_t log_start; /* out: the new one; -1 with an error */
    int error_number;  /* out */
} kb_kafka_delete_records;

typedef struct kb_kafka_admin kb_kafka_admin;

/* The operations; a fake fills its own. Call them through the functions below. */
typedef struct kb_kafka_admin_ops {
    void (*free)(kb_kafka_admin *owned_admin);
    kb_code (*metadata)(kb_kafka_admin *admin, const char *const *topics, size_t count,
                        const kb_kafka_call *call, kb_kafka_metadata *ret_metadata, kb_error *err);
    kb_code (*list_offsets)(kb_kafka_admin *admin, kb_kafka_offset_kind kind, kb_kafka_offset_query *queries,
                            size_t count, const kb_kafka_call *call, kb_error *err);
    kb_code (*describe_topic_configs)(kb_kafka_admin *admin, const char *const *topics, size_t count,
                                      const kb_kafka_call *call, kb_kafka_configs **ret_array, kb_error *err);
    kb_code (*describe_broker_configs)(kb_kafka_admin *admin, const kb_kafka_call *call,
                                       kb_kafka_configs **ret_one, kb_error *err);
    kb_code (*create_topics)(kb_kafka_admin *admin, kb_kafka_new_topic *topics, size_t count,
                             bool validate_only, const kb_kafka_call *call, kb_error *err);
    kb_code (*alter_topic_configs)(kb_kafka_admin *admin, kb_kafka_alter *alters, size_t count,
                                   const kb_kafka_call *call, kb_error *err);
    kb_code (*delete_records)(kb_kafka_admin *admin, kb_kafka_delete_records *deletes, size_t count,
                              const kb_kafka_call *call, kb_error *err);
    kb_code (*delete_group)(kb_kafka_admin *admin, const char *group, const kb_kafka_call *call,
                            kb_error *err);
} kb_kafka_admin_ops;

/* First member of every implementation. */
struct kb_kafka_admin {
    const kb_kafka_admin_ops *ops;
};

/* The real one. breaker (may be NULL) is borrowed for its life. Does not wait for a connection. */
kb_code kb_kafka_admin_new(const kb_kafka_options *options, kb_breaker *breaker, kb_kafka_admin **ret_admin,
                           kb_error *err) KB_CHECK;
/* NULL is fine. */
void kb_kafka_admin_free(kb_kafka_admin *owned_admin);
void kb_kafka_admin_free_at(kb_kafka_admin **at);

/*
 * Metadata of the named topics, or of all (topics NULL). Named topics that do not exist are in the result
 * with error_number 3. Two requests, whatever the number of topics: one for the cluster (and, for all, the
 * names of its topics), one for what there is to know about topics. When the stop token is set between two
 * tries, items keep their transient errors.
 */
kb_code kb_kafka_admin_metadata(kb_kafka_admin *admin, const char *const *topics, size_t count,
                                const kb_kafka_call *call, kb_kafka_metadata *ret_metadata,
                                kb_error *err) KB_CHECK;
/* One request per leader. */
kb_code kb_kafka_admin_list_offsets(kb_kafka_admin *admin, kb_kafka_offset_kind kind,
                                    kb_kafka_offset_query *queries, size_t count, const kb_kafka_call *call,
                                    kb_error *err) KB_CHECK;
/* *ret_array has `count` members, one request for all; free with kb_kafka_configs_free. */
kb_code kb_kafka_admin_describe_topic_configs(kb_kafka_admin *admin, const char *const *topics, size_t count,
                                              const kb_kafka_call *call, kb_kafka_configs **ret_array,
                                              kb_error *err) KB_CHECK;
/* The configs of one broker (the controller, or any); *ret_one is an array of one. */
kb_code kb_kafka_admin_describe_broker_configs(kb_kafka_admin *admin, const kb_kafka_call *call,
                                               kb_kafka_configs **ret_one, kb_error *err) KB_CHECK;
/* Creates topics, or only asks whether they could be created. Does not wait for leaders: see metadata. */
kb_code kb_kafka_admin_create_topics(kb_kafka_admin *admin, kb_kafka_new_topic *topics, size_t count,
                                     bool validate_only, const kb_kafka_call *call, kb_error *err) KB_CHECK;
/* Sets or deletes single overrides; others stay (IncrementalAlterConfigs). */
kb_code kb_kafka_admin_alter_topic_configs(kb_kafka_admin *admin, kb_kafka_alter *alters, size_t count,
                                           const kb_kafka_call *call, kb_error *err) KB_CHECK;
kb_code kb_kafka_admin_delete_records(kb_kafka_admin *admin, kb_kafka_delete_records *deletes, size_t count,
                                      const kb_kafka_call *call, kb_error *err) KB_CHECK;

/* Deletes a group without members; one that does not exist is fine. */
kb_code kb_kafka_admin_delete_group(kb_kafka_admin *admin, const char *group, const kb_kafka_call *call,
                                    kb_error *err) KB_CHECK;

#endif
