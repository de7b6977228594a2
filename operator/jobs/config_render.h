/*
 * config_render - the run configuration: the worker's YAML, written from a custom resource (operator.md 5).
 *
 * The text is canonical JSON, which is YAML: the same spec gives the same text, so its hash names it. Only
 * keys that the worker's own tables know are written (checked against common/contract/config_fields). Strings
 * that come from a CR cannot reach the worker's environment: "${" is written as "$${". Nothing in it is
 * secret. Threads: pure.
 */
#ifndef KB_OPERATOR_JOBS_CONFIG_RENDER_H
#define KB_OPERATOR_JOBS_CONFIG_RENDER_H

#include <jansson.h>

#include "common/base/error.h"
#include "operator/model/resolve.h"
#include "operator/model/settings.h"
#include "operator/model/spec.h"

#define KB_RUN_CONFIG_MAX_BYTES (512u << 10)
#define KB_RUN_CONFIG_KEY "config.yaml"
/* Mount points of the pod (operator.md 4.2). */
#define KB_DIR_RUN "/etc/kafka-backup/run"
#define KB_DIR_KAFKA "/etc/kafka-backup/kafka"
#define KB_DIR_STORE "/etc/kafka-backup/store"
#define KB_DIR_TRUST "/etc/kafka-backup/trust"
#define KB_DIR_CLOUD "/var/run/secrets/kafka-backup/cloud"
#define KB_DIR_DATA "/data"
#define KB_DIR_MAPPING "/etc/kafka-backup/mapping"
/* Files in them. */
#define KB_FILE_CA "ca.crt"
#define KB_FILE_CERT "tls.crt"
#define KB_FILE_KEY "tls.key"
#define KB_FILE_USER "username"
#define KB_FILE_PASSWORD "password"
#define KB_FILE_TOKEN "token"
#define KB_FILE_MAPPING "mapping.json"

/* Annotations of a ServiceAccount that bind it to an identity of a cloud. */
#define KB_NOTE_AWS_ROLE "eks.amazonaws.com/role-arn"
#define KB_NOTE_AWS_AUDIENCE "eks.amazonaws.com/audience"
#define KB_NOTE_AZURE_CLIENT "azure.workload.identity/client-id"
#define KB_NOTE_AZURE_TENANT "azure.workload.identity/tenant-id"

typedef struct kb_render_input {
    const json_t *object; /* the CR, for metadata */
    const kb_spec *spec;
    const kb_spec_kafka *kafka;     /* NULL: none */
    const kb_spec_storage *storage; /* NULL: none */
    const kb_settings *settings;
    const json_t *account_notes; /* annotations of the worker's account; NULL: none */
    const char *backup_id;       /* of an offset reset that goes by a restore; NULL: none */
    const char *snapshot_map;    /* ConfigMap that keeps offset snapshots; NULL: none */
} kb_render_input;

/*
 * *ret_text is owned by the caller. Fails with KB_ERR_TOO_LARGE, and with KB_ERR_INTERNAL when a key is not
 * one of the worker's.
 */
kb_code kb_config_render(const kb_render_input *input, char **ret_text, kb_error *err) KB_CHECK;

/* Whether the pod needs a token for a cloud; *ret_audience is borrowed. */
bool kb_config_needs_cloud_token(const kb_render_input *input, const char **ret_audience);

/* The id of the snapshot that a KafkaOffsetReset makes; owned by the caller. */
char *kb_reset_snapshot_id(const kb_reset_spec *reset, const char *name) __attribute__((returns_nonnull));

/* 16 hex of the data-relevant part of a KafkaBackup (crds.md 3.1); owned by the caller. */
char *kb_spec_data_hash(const kb_backup_spec *backup) __attribute__((returns_nonnull));
/* 8 hex of its retention block, "" without one; owned by the caller. */
char *kb_spec_retention_hash(const kb_backup_spec *backup) __attribute__((returns_nonnull));
/* The place that backups go to, as text: equal places, equal text. Owned by the caller. */
char *kb_spec_location(const kb_spec_storage *storage) __attribute__((returns_nonnull));

#endif
