#include "operator/model/validation.h"

#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"

/* The sentences of the CRDs. */
enum kb_rule {
    KB_RULE_SASL,
    KB_RULE_TLS,
    KB_RULE_PATH,
    KB_RULE_S3,
    KB_RULE_AZURE,
    KB_RULE_GCS,
    KB_RULE_PVC,
    KB_RULE_CONFIG_MAP,
    KB_RULE_V2,
    KB_RULE_AZURE_ACCOUNT,
    KB_RULE_AZURE_ONE,
    KB_RULE_QUANTITY,
    KB_RULE_ANNOTATIONS,
    KB_RULE_LABELS,
    KB_RULE_PROXY,
    KB_RULE_SCHEDULE,
    KB_RULE_LOCAL,
    KB_RULE_TIME_ZONE,
    KB_RULE_LZ4,
    KB_RULE_PITR,
    KB_RULE_RESET_TIMESTAMP,
    KB_RULE_RESET_OFFSET,
    KB_RULE_APPEND,
    KB_RULE_RESET_CLUSTER,
    KB_RULE_RESET_ONE_TIME,
    KB_RULE_MAPPING,
    KB_RULE_ROLLBACK_CLUSTER,
    KB_RULE_ROLLBACK_GROUPS,
    KB_RULE_COUNT
};

static const char *const messages[KB_RULE_COUNT + 1] = {
    [KB_RULE_SASL] = "saslSecret must be set exactly when securityProtocol is SASL_PLAINTEXT or SASL_SSL",
    [KB_RULE_TLS] = "tlsSecret must be used with securityProtocol SSL or SASL_SSL",
    [KB_RULE_PATH] = "must not contain '.' or '..' as a path element",
    [KB_RULE_S3] = "s3 must be set when storageType is s3",
    [KB_RULE_AZURE] = "azure must be set when storageType is azure",
    [KB_RULE_GCS] = "gcs must be set when storageType is gcs",
    [KB_RULE_PVC] = "pvc must be set when storageType is pvc",
    [KB_RULE_CONFIG_MAP] = "configMap must be set when storageType is configMap",
    [KB_RULE_V2] = "signatureVersion v2 must be used with endpoint and credentialsSecret",
    [KB_RULE_AZURE_ACCOUNT] = "exactly one of accountName and connectionStringSecret must be set",
    [KB_RULE_AZURE_ONE] = ("at most one of credentialsSecret, sasTokenSecret, servicePrincipalSecret, "
                           "connectionStringSecret and "
                           "useWorkloadIdentity must be set"),
    [KB_RULE_QUANTITY] = "must hold no other keys than cpu, memory and ephemeral-storage",
    [KB_RULE_ANNOTATIONS] = ("annotations must not begin with kafka.oso.sh/, batch.kubernetes.io/ or "
                             "container.apparmor.security.beta.kubernetes.io/"),
    [KB_RULE_LABELS] = ("labels must not be job-name, controller-uid, app.kubernetes.io/name, instance, "
                        "component or managed-by, "
                        "or begin with kafka.oso.sh/, batch.kubernetes.io/ or "
                        "container.apparmor.security.beta.kubernetes.io/"),
    [KB_RULE_PROXY] = "the URL of a proxy must not carry credentials",
    [KB_RULE_SCHEDULE] = ("must have 5 fields (minute hour day-of-month month day-of-week) or be @yearly, "
                          "@annually, @monthly, "
                          "@weekly, @daily, @midnight or @hourly, optionally after CRON_TZ=Zone or TZ=Zone"),
    [KB_RULE_LOCAL] = "must be a name of the IANA time zone database",
    [KB_RULE_TIME_ZONE] = "timeZone must be used with a schedule that has no CRON_TZ= or TZ= prefix",
    [KB_RULE_LZ4] = "compressionLevel must be no more than 12 with lz4",
    [KB_RULE_PITR] = "exactly one of timestamp and timestampMillis must be set",
    [KB_RULE_RESET_TIMESTAMP] = "timestamp must be set with strategy timestamp",
    [KB_RULE_RESET_OFFSET] = "offset must be set with strategy offset",
    [KB_RULE_APPEND] = "guards.targetTopics append must be used with delivery transactional",
    [KB_RULE_RESET_CLUSTER] = "kafkaCluster must be set unless strategy is headerBased",
    [KB_RULE_RESET_ONE_TIME] =
        "exactly one of timestamp and timestampMillis must be set with strategy timestamp",
    [KB_RULE_MAPPING] = "mappingConfigMap must be set with strategy fromMapping",
    [KB_RULE_ROLLBACK_CLUSTER] = "kafkaCluster must be set unless operation is delete",
    [KB_RULE_ROLLBACK_GROUPS] = "consumerGroups must be set with operation snapshot",
    [KB_RULE_COUNT] = NULL,
};

#define KB_ALL_KINDS 15u
#define KB_OF(kind) (1u << (kind))
#define KB_REFUSED_PATH_MAX 4

/* A name that other tools use for something, refused so that it is neither accepted nor dropped. */
typedef struct kb_refused {
    unsigned kinds;
    bool only_true; /* a boolean: only true is refused */
    const char *path[KB_REFUSED_PATH_MAX];
    const char *message;
} kb_refused;

static const kb_refused refused[] = {
    {KB_OF(KB_KIND_BACKUP), false, {"enterprise"}, "enterprise is not a field of this operator; remove it"},
    {KB_OF(KB_KIND_BACKUP),
     false,
     {"volumes"},
     "volumes is not a field; use storage.pvc for a store on a volume"},
    {KB_OF(KB_KIND_BACKUP),
     false,
     {"volumeMounts"},
     "volumeMounts is not a field; use storage.pvc for a store on a volume"},
    {KB_OF(KB_KIND_BACKUP), false, {"rateLimiting"}, "rateLimiting is not a field; use rateLimit"},
    {KB_OF(KB_KIND_BACKUP), false, {"checkpoint"}, "checkpoint is not a field; use checkpointIntervalSecs"},
    {KB_OF(KB_KIND_BACKUP), true, {"continuous"}, "continuous must not be true; use a schedule"},
    {KB_OF(KB_KIND_BACKUP), false, {"retention", "keepLast"}, "keepLast is not a field; use backups"},
    {KB_ALL_KINDS,
     false,
     {"kafkaCluster", "caSecret"},
     "caSecret is not supported; put the CA into tlsSecret or into the ConfigMap kafka-backup-trust"},
    {KB_OF(KB_KIND_RESTORE),
     false,
     {"targetCluster", "caSecret"},
     "caSecret is not supported; put the CA into tlsSecret or into the ConfigMap kafka-backup-trust"},
    {KB_ALL_KINDS,
     false,
     {"storage", "s3", "pathStyle"},
     "pathStyle is not a field; buckets are addressed by path whenever endpoint is set"},
    {KB_ALL_KINDS,
     false,
     {"storage", "s3", "allowHttp"},
     "allowHttp is not a field; plain HTTP is used when endpoint starts with http://"},
    {KB_ALL_KINDS,
     false,
     {"storage", "s3", "credentialsSecret", "accessKeyIdKey"},
     "accessKeyIdKey is not a field; use accessKeyKey"},
    {KB_ALL_KINDS,
     false,
     {"storage", "s3", "credentialsSecret", "secretAccessKeyKey"},
     "secretAccessKeyKey is not a field; use secretKeyKey"},
    {KB_ALL_KINDS,
     false,
     {"storage", "gcs", "credentialsSecret", "serviceAccountJsonKey"},
     "serviceAccountJsonKey is not a field; use key"},
    {KB_OF(KB_KIND_RESTORE),
     false,
     {"kafkaCluster"},
     "kafkaCluster is not a field of KafkaRestore; use targetCluster"},
    {KB_OF(KB_KIND_RESTORE), false, {"backupRef"}, "backupRef is not a field; use backupId and storage"},
    {KB_OF(KB_KIND_RESTORE),
     false,
     {"partitionMapping"},
     "partitionMapping is not supported; records keep their partitions"},
    {KB_OF(KB_KIND_RESTORE),
     false,
     {"repartitioning"},
     "repartitioning is not supported; records keep their partitions"},
    {KB_OF(KB_KIND_RESTORE),
     true,
     {"purgeTopics"},
     "purgeTopics must not be true; delete the topics beforehand"},
    {KB_OF(KB_KIND_RESTORE),
     true,
     {"dryRun"},
     "dryRun must not be true; it is not supported for KafkaRestore"},
    {KB_OF(KB_KIND_OFFSET_ROLLBACK), true, {"dryRun"}, "dryRun must not be true; use operation verify"},
};

typedef struct kb_check {
    const json_t *spec_object;
    kb_spec_problem *problem;
} kb_check;

static void fail(kb_check *check, const char *reason, const char *path, const char *message)
{
    if (check->problem->reason != NULL)
        return;
    check->problem->reason = reason;
    check->problem->message = kb_asprintf("%s: %s", path, message);
}

static void require(kb_check *check, bool holds, const char *path, enum kb_rule rule)
{
    if (!holds)
        fail(check, "InvalidSpec", path, messages[rule]);
}

static void check_refused(kb_check *check, kb_kind kind)
{
    for (size_t i = 0; i < KB_ARRAY_LEN(refused); i++) {
        const json_t *value = check->spec_object;
        KB_AUTO_STRBUF(path, 256);
        kb_strbuf_appends(&path, "spec");
        for (size_t k = 0; k < KB_REFUSED_PATH_MAX && refused[i].path[k] != NULL; k++) {
            value = kb_tree_at(value, refused[i].path[k], NULL);
            kb_strbuf_appendf(&path, ".%s", refused[i].path[k]);
        }
        bool is_used = refused[i].only_true ? json_is_true(value) : value != NULL;
        if ((refused[i].kinds & KB_OF(kind)) != 0 && is_used)
            fail(check, "UnsupportedField", kb_strbuf_view(&path), refused[i].message);
    }
}

static void check_kafka(kb_check *check, const kb_spec_kafka *kafka, const char *path)
{
    if (!kafka->is_set)
        return;
    bool is_sasl =
        kafka->security_protocol == KB_SPEC_SASL_PLAINTEXT || kafka->security_protocol == KB_SPEC_SASL_SSL;
    bool is_ssl = kafka->security_protocol == KB_SPEC_SSL || kafka->security_protocol == KB_SPEC_SASL_SSL;
    require(check, is_sasl == kafka->sasl.is_set, path, KB_RULE_SASL);
    require(check, !kafka->tls.is_set || is_ssl, path, KB_RULE_TLS);
}

static bool is_clean_path(const char *text)
{
    if (text == NULL)
        return true;
    KB_AUTOFREE char *framed = kb_asprintf("/%s/", text);
    return strstr(framed, "/../") == NULL && strstr(framed, "/./") == NULL;
}

static void check_azure(kb_check *check, const kb_spec_azure *azure)
{
    static const char path[] = "spec.storage.azure";
    require(check, is_clean_path(azure->prefix), "spec.storage.azure.prefix", KB_RULE_PATH);
    if (!azure->is_set)
        return;
    require(check, (azure->account_name != NULL) != azure->connection_string.is_set, path,
            KB_RULE_AZURE_ACCOUNT);
    int ways = azure->credentials.is_set + azure->sas_token.is_set + azure->service_principal.is_set +
               azure->connection_string.is_set + azure->use_workload_identity;
    require(check, ways <= 1, path, KB_RULE_AZURE_ONE);
}

static void check_storage(kb_check *check, const kb_spec_storage *storage)
{
    static const char path[] = "spec.storage";
    if (!storage->is_set)
        return;
    int type = storage->type;
    require(check, type != KB_SPEC_STORAGE_S3 || storage->s3.is_set, path, KB_RULE_S3);
    require(check, type != KB_SPEC_STORAGE_AZURE || storage->azure.is_set, path, KB_RULE_AZURE);
    require(check, type != KB_SPEC_STORAGE_GCS || storage->gcs.is_set, path, KB_RULE_GCS);
    require(check, type != KB_SPEC_STORAGE_PVC || storage->pvc.is_set, path, KB_RULE_PVC);
    require(check, type < KB_SPEC_STORAGE_CONFIG_MAP || storage->config_map.is_set, path, KB_RULE_CONFIG_MAP);
    const kb_spec_s3 *s3 = &storage->s3;
    bool has_endpoint = s3->endpoint != NULL && *s3->endpoint != '\0';
    require(check, s3->signature_version == 0 || (has_endpoint && s3->credentials.is_set), "spec.storage.s3",
            KB_RULE_V2);
    require(check, is_clean_path(s3->prefix), "spec.storage.s3.prefix", KB_RULE_PATH);
    require(check, is_clean_path(storage->gcs.prefix), "spec.storage.gcs.prefix", KB_RULE_PATH);
    require(check, is_clean_path(storage->pvc.sub_path), "spec.storage.pvc.subPath", KB_RULE_PATH);
    check_azure(check, &storage->azure);
}

static bool begins_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_reserved(const char *name)
{
    return begins_with(name, "kafka.oso.sh/") || begins_with(name, "batch.kubernetes.io/") ||
           begins_with(name, "container.apparmor.security.beta.kubernetes.io/");
}

static bool is_one_of(const char *text, const char *const *list)
{
    for (; *list != NULL; list++)
        if (strcmp(text, *list) == 0)
            return true;
    return false;
}

static void check_quantities(kb_check *check, json_t *quantities, const char *path)
{
    static const char *const known[] = {"cpu", "memory", "ephemeral-storage", NULL};
    const char *name;
    json_t *value;
    json_object_foreach(quantities, name, value)
        require(check, is_one_of(name, known), path, KB_RULE_QUANTITY);
}

static void check_pod_template(kb_check *check, const kb_spec_pod_template *template)
{
    static const char *const own_labels[] = {"job-name",
                                             "controller-uid",
                                             "app.kubernetes.io/name",
                                             "app.kubernetes.io/instance",
                                             "app.kubernetes.io/component",
                                             "app.kubernetes.io/managed-by",
                                             NULL};
    const char *name;
    json_t *value;
    json_object_foreach(template->annotations, name, value)
        require(check, !is_reserved(name), "spec.podTemplate.annotations", KB_RULE_ANNOTATIONS);
    json_object_foreach(template->labels, name, value) require(
        check, !is_reserved(name) && !is_one_of(name, own_labels), "spec.podTemplate.labels", KB_RULE_LABELS);
}

static void check_run(kb_check *check, const kb_spec_run *run)
{
    static const char *const names[] = {"RUST_LOG",
                                        "HTTP_PROXY",
                                        "HTTPS_PROXY",
                                        "NO_PROXY",
                                        "AWS_REGION",
                                        "AWS_DEFAULT_REGION",
                                        "AWS_STS_REGIONAL_ENDPOINTS",
                                        "AWS_EC2_METADATA_DISABLED",
                                        "AZURE_AUTHORITY_HOST",
                                        "GOOGLE_CLOUD_PROJECT",
                                        NULL};
    static const char *const proxies[] = {"HTTP_PROXY", "HTTPS_PROXY", NULL};
    check_quantities(check, run->resources.requests, "spec.resources.requests");
    check_quantities(check, run->resources.limits, "spec.resources.limits");
    check_pod_template(check, &run->pod_template);
    for (size_t i = 0; i < json_array_size(run->env); i++) {
        const json_t *item = json_array_get(run->env, i);
        const char *name = kb_tree_text_or_empty(item, "name", NULL);
        const char *value = kb_tree_text_or_empty(item, "value", NULL);
        if (!is_one_of(name, names))
            fail(check, "InvalidSpec", "spec.env", "a variable of this name must not be set");
        require(check, !is_one_of(name, proxies) || strchr(value, '@') == NULL, "spec.env", KB_RULE_PROXY);
    }
}

static bool matches(const char *text, const char *pattern)
{
    regex_t regex;
    if (regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB) != 0)
        return false;
    bool is_match = regexec(&regex, text, 0, NULL, 0) == 0;
    regfree(&regex);
    return is_match;
}

static void check_backup(kb_check *check, const kb_backup_spec *backup)
{
    static const char pattern[] = "^((CRON_)?TZ=[A-Za-z0-9_+/-]+ +)?(@(yearly|annually|monthly|weekly|daily|"
                                  "midnight|hourly)|[0-9A-Za-z*/,?-]+( +[0-9A-Za-z*/,?-]+){4})$";
    const char *schedule = backup->schedule;
    require(check, schedule == NULL || matches(schedule, pattern), "spec.schedule", KB_RULE_SCHEDULE);
    if (backup->time_zone != NULL) {
        bool is_plain =
            schedule != NULL && !begins_with(schedule, "CRON_TZ=") && !begins_with(schedule, "TZ=");
        require(check, is_plain, "spec", KB_RULE_TIME_ZONE);
        require(check, strcmp(backup->time_zone, "Local") != 0, "spec.timeZone", KB_RULE_LOCAL);
    }
    require(check, backup->compression != KB_SPEC_COMPRESSION_LZ4 || backup->compression_level <= 12, "spec",
            KB_RULE_LZ4);
}

static void check_restore(kb_check *check, const kb_restore_spec *restore)
{
    const kb_spec_pitr *pitr = &restore->pitr;
    require(check,
            !pitr->is_set || !pitr->enabled || pitr->timestamp_ms.is_set != pitr->timestamp_millis.is_set,
            "spec.pitr", KB_RULE_PITR);
    const kb_spec_offset_reset *reset = &restore->offset_reset;
    if (reset->is_set) {
        require(check, reset->strategy != KB_SPEC_STRATEGY_TIMESTAMP || reset->timestamp_ms.is_set,
                "spec.offsetReset", KB_RULE_RESET_TIMESTAMP);
        require(check, reset->strategy != KB_SPEC_STRATEGY_OFFSET || reset->offset.is_set, "spec.offsetReset",
                KB_RULE_RESET_OFFSET);
    }
    require(check, restore->guards.target_topics != KB_SPEC_TARGET_APPEND || restore->delivery == 1, "spec",
            KB_RULE_APPEND);
}

static void check_reset(kb_check *check, const kb_reset_spec *reset)
{
    int strategy = reset->strategy;
    require(check, reset->kafka.is_set || strategy == KB_SPEC_STRATEGY_HEADER_BASED, "spec",
            KB_RULE_RESET_CLUSTER);
    require(check,
            strategy != KB_SPEC_STRATEGY_TIMESTAMP ||
                reset->timestamp_ms.is_set != reset->timestamp_millis.is_set,
            "spec", KB_RULE_RESET_ONE_TIME);
    require(check, strategy != KB_SPEC_STRATEGY_OFFSET || reset->offset.is_set, "spec", KB_RULE_RESET_OFFSET);
    require(check, strategy != KB_SPEC_STRATEGY_FROM_MAPPING || reset->mapping.is_set, "spec",
            KB_RULE_MAPPING);
}

static void check_rollback(kb_check *check, const kb_rollback_spec *rollback)
{
    require(check, rollback->kafka.is_set || rollback->operation == KB_SPEC_OPERATION_DELETE, "spec",
            KB_RULE_ROLLBACK_CLUSTER);
    require(check, rollback->operation != KB_SPEC_OPERATION_SNAPSHOT || rollback->consumer_groups.count > 0,
            "spec", KB_RULE_ROLLBACK_GROUPS);
}

const kb_spec_storage *kb_spec_storage_of(const kb_spec *spec)
{
    switch (spec->kind) {
    case KB_KIND_BACKUP:
        return &spec->backup.storage;
    case KB_KIND_RESTORE:
        return &spec->restore.storage;
    case KB_KIND_OFFSET_ROLLBACK:
        return &spec->rollback.storage;
    case KB_KIND_OFFSET_RESET:
    case KB_KIND_COUNT:
        break;
    }
    return NULL;
}

const kb_spec_kafka *kb_spec_kafka_of(const kb_spec *spec)
{
    switch (spec->kind) {
    case KB_KIND_RESTORE:
        return &spec->restore.target;
    case KB_KIND_OFFSET_RESET:
        return &spec->reset.kafka;
    case KB_KIND_OFFSET_ROLLBACK:
        return &spec->rollback.kafka;
    case KB_KIND_BACKUP:
    case KB_KIND_COUNT:
        break;
    }
    return &spec->backup.kafka;
}

static void check_kind(kb_check *check, const kb_spec *spec)
{
    switch (spec->kind) {
    case KB_KIND_BACKUP:
        check_backup(check, &spec->backup);
        break;
    case KB_KIND_RESTORE:
        check_restore(check, &spec->restore);
        break;
    case KB_KIND_OFFSET_RESET:
        check_reset(check, &spec->reset);
        break;
    case KB_KIND_OFFSET_ROLLBACK:
        check_rollback(check, &spec->rollback);
        break;
    case KB_KIND_COUNT:
        break;
    }
}

static void check_name(kb_check *check, kb_kind kind, const json_t *object)
{
    int max = kb_kind_info_of(kind)->max_name_bytes;
    if (strlen(kb_tree_text_or_empty(object, "metadata", "name", NULL)) <= (size_t)max)
        return;
    KB_AUTOFREE char *message = kb_asprintf("metadata.name must be no longer than %d characters", max);
    fail(check, "NameTooLong", "metadata", message);
}

void kb_spec_check(kb_kind kind, const json_t *object, kb_spec *ret_spec, kb_spec_problem *ret_problem)
{
    *ret_problem = (kb_spec_problem){0};
    kb_problems problems;
    kb_problems_init(&problems, NULL);
    kb_spec_read(kind, object, &problems, ret_spec);
    kb_check check = {kb_tree_at(object, "spec", NULL), ret_problem};
    check_name(&check, kind, object);
    check_refused(&check, kind);
    if (problems.count > 0)
        fail(&check, "InvalidSpec", problems.items[0].path, problems.items[0].text);
    kb_problems_done(&problems);
    check_kafka(&check, kb_spec_kafka_of(ret_spec),
                kind == KB_KIND_RESTORE ? "spec.targetCluster" : "spec.kafkaCluster");
    const kb_spec_storage *storage = kb_spec_storage_of(ret_spec);
    if (storage != NULL)
        check_storage(&check, storage);
    check_kind(&check, ret_spec);
    check_run(&check, &ret_spec->run);
}

void kb_spec_problem_done(kb_spec_problem *problem)
{
    free(problem->message);
    *problem = (kb_spec_problem){0};
}

char *kb_spec_unused_blocks(const kb_spec *spec)
{
    const kb_spec_storage *storage = kb_spec_storage_of(spec);
    if (storage == NULL || !storage->is_set)
        return NULL;
    const struct {
        bool is_unused;
        const char *name;
    } blocks[] = {
        {storage->s3.is_set && storage->type != KB_SPEC_STORAGE_S3, "storage.s3"},
        {storage->azure.is_set && storage->type != KB_SPEC_STORAGE_AZURE, "storage.azure"},
        {storage->gcs.is_set && storage->type != KB_SPEC_STORAGE_GCS, "storage.gcs"},
        {storage->pvc.is_set && storage->type != KB_SPEC_STORAGE_PVC, "storage.pvc"},
        {storage->config_map.is_set && storage->type < KB_SPEC_STORAGE_CONFIG_MAP, "storage.configMap"},
    };
    KB_AUTO_STRBUF(names, 256);
    for (size_t i = 0; i < KB_ARRAY_LEN(blocks); i++)
        if (blocks[i].is_unused)
            kb_strbuf_appendf(&names, "%s%s", names.len > 0 ? ", " : "", blocks[i].name);
    return names.len > 0 ? kb_strbuf_take(&names) : NULL;
}

const char *const *kb_spec_rule_messages(void)
{
    return messages;
}
