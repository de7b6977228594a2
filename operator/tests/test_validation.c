#include "operator/model/validation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/data/json_tree.h"

#define KAFKA "\"kafkaCluster\":{\"bootstrapServers\":[\"k:9092\"]}"
#define S3 "\"storage\":{\"storageType\":\"s3\",\"s3\":{\"bucket\":\"bbb\"}}"
#define BACKUP(more) "{" KAFKA "," S3 more "}"
#define RESTORE(more) "{\"backupId\":\"b\"" more "}"
#define RESET(more) "{\"strategy\":\"earliest\",\"consumerGroups\":[\"g\"]," KAFKA more "}"
#define ROLLBACK(more) "{\"operation\":\"verify\",\"snapshotId\":\"s\"," KAFKA more "}"
#define STORE(block) "{" KAFKA ",\"storage\":" block "}"

static json_t *object_of(const char *spec)
{
    KB_AUTOFREE char *text =
        kb_asprintf("{\"metadata\":{\"name\":\"x\",\"namespace\":\"n\"},\"spec\":%s}", spec);
    return kb_tree_need(json_loads(text, 0, NULL));
}

static const struct {
    kb_kind kind;
    const char *spec, *reason, *message; /* reason NULL: nothing is wrong */
} rows[] = {
    {KB_KIND_BACKUP, BACKUP(""), NULL, NULL},
    {KB_KIND_BACKUP, BACKUP(",\"schedule\":\"0 * * * *\",\"timeZone\":\"Europe/Berlin\""), NULL, NULL},
    {KB_KIND_BACKUP, "{" S3 "}", "InvalidSpec", "spec.kafkaCluster: must be set"},
    {KB_KIND_BACKUP, "{" KAFKA "}", "InvalidSpec", "spec.storage: must be set"},
    {KB_KIND_BACKUP, "null", "InvalidSpec", "spec: must be an object"},
    {KB_KIND_BACKUP, STORE("{\"storageType\":\"s4\"}"), "InvalidSpec",
     "spec.storage.storageType: must be one of s3, azure, gcs, pvc, configMap, configmap"},
    {KB_KIND_BACKUP, STORE("{\"storageType\":\"gcs\"}"), "InvalidSpec",
     "spec.storage: gcs must be set when storageType is gcs"},
    {KB_KIND_BACKUP, BACKUP(",\"schedule\":\"* * * * * *\""), "InvalidSpec", "spec.schedule: must have 5"},
    {KB_KIND_BACKUP, BACKUP(",\"schedule\":\"@every 5m\""), "InvalidSpec", "spec.schedule: must have 5"},
    {KB_KIND_BACKUP, BACKUP(",\"timeZone\":\"UTC\""), "InvalidSpec", "spec: timeZone must be used with"},
    {KB_KIND_BACKUP, BACKUP(",\"schedule\":\"TZ=UTC @daily\",\"timeZone\":\"UTC\""), "InvalidSpec",
     "spec: timeZone must be used with"},
    {KB_KIND_BACKUP, BACKUP(",\"compression\":\"lz4\",\"compressionLevel\":13"), "InvalidSpec",
     "spec: compressionLevel must be no more than 12 with lz4"},
    {KB_KIND_BACKUP, BACKUP(",\"compressionLevel\":23"), "InvalidSpec",
     "spec.compressionLevel: must be 1 to 22"},
    {KB_KIND_BACKUP, BACKUP(",\"retention\":{\"keepLast\":3}"), "UnsupportedField",
     "spec.retention.keepLast: keepLast is not a field; use backups"},
    {KB_KIND_BACKUP, BACKUP(",\"continuous\":true"), "UnsupportedField", "spec.continuous: "},
    {KB_KIND_BACKUP, BACKUP(",\"continuous\":false"), NULL, NULL},
    {KB_KIND_BACKUP, BACKUP(",\"env\":[{\"name\":\"HTTPS_PROXY\",\"value\":\"http://u:p@h\"}]"),
     "InvalidSpec", "spec.env: the URL of a proxy must not carry credentials"},
    {KB_KIND_BACKUP, BACKUP(",\"env\":[{\"name\":\"LD_PRELOAD\",\"value\":\"x\"}]"), "InvalidSpec",
     "spec.env: a variable of this name must not be set"},
    {KB_KIND_BACKUP, BACKUP(",\"podTemplate\":{\"labels\":{\"job-name\":\"x\"}}"), "InvalidSpec",
     "spec.podTemplate.labels: labels must not be job-name"},
    {KB_KIND_BACKUP, BACKUP(",\"podTemplate\":{\"annotations\":{\"kafka.oso.sh/stamp\":\"x\"}}"),
     "InvalidSpec", "spec.podTemplate.annotations: annotations must not begin"},
    {KB_KIND_BACKUP, BACKUP(",\"resources\":{\"limits\":{\"gpu\":1}}"), "InvalidSpec",
     "spec.resources.limits: must hold no other keys"},
    {KB_KIND_BACKUP,
     "{\"kafkaCluster\":{\"bootstrapServers\":[\"k:1\"],\"securityProtocol\":\"SASL_SSL\"}," S3 "}",
     "InvalidSpec", "spec.kafkaCluster: saslSecret must be set exactly when"},
    {KB_KIND_BACKUP,
     "{\"kafkaCluster\":{\"bootstrapServers\":[\"k:1\"],\"tlsSecret\":{\"name\":\"t\"}}," S3 "}",
     "InvalidSpec", "spec.kafkaCluster: tlsSecret must be used with"},
    {KB_KIND_BACKUP, "{\"kafkaCluster\":{\"bootstrapServers\":[\"k:1\"],\"caSecret\":{}}," S3 "}",
     "UnsupportedField", "spec.kafkaCluster.caSecret: "},
    {KB_KIND_BACKUP, STORE("{\"storageType\":\"s3\",\"s3\":{\"bucket\":\"b\",\"signatureVersion\":\"v2\"}}"),
     "InvalidSpec", "spec.storage.s3: signatureVersion v2 must be used with"},
    {KB_KIND_BACKUP, STORE("{\"storageType\":\"s3\",\"s3\":{\"bucket\":\"b\",\"prefix\":\"a/../b\"}}"),
     "InvalidSpec", "spec.storage.s3.prefix: must not contain"},
    {KB_KIND_BACKUP, STORE("{\"storageType\":\"azure\",\"azure\":{\"container\":\"c\"}}"), "InvalidSpec",
     "spec.storage.azure: exactly one of accountName"},
    {KB_KIND_BACKUP,
     STORE("{\"storageType\":\"azure\",\"azure\":{\"container\":\"c\",\"accountName\":\"a\","
           "\"useWorkloadIdentity\":true,\"credentialsSecret\":{\"name\":\"s\"}}}"),
     "InvalidSpec", "spec.storage.azure: at most one of"},
    {KB_KIND_RESTORE, RESTORE(""), NULL, NULL},
    {KB_KIND_RESTORE, RESTORE(",\"pitr\":{\"enabled\":false}"), NULL, NULL},
    {KB_KIND_RESTORE, RESTORE(",\"pitr\":{}"), "InvalidSpec", "spec.pitr: exactly one of"},
    {KB_KIND_RESTORE, RESTORE(",\"pitr\":{\"timestamp\":\"yesterday\"}"), "InvalidSpec",
     "spec.pitr.timestamp: must be a time"},
    {KB_KIND_RESTORE, RESTORE(",\"offsetReset\":{\"strategy\":\"timestamp\",\"consumerGroups\":[\"g\"]}"),
     "InvalidSpec", "spec.offsetReset: timestamp must be set"},
    {KB_KIND_RESTORE, RESTORE(",\"guards\":{\"targetTopics\":\"append\"}"), "InvalidSpec",
     "spec: guards.targetTopics append must be used"},
    {KB_KIND_RESTORE, RESTORE(",\"kafkaCluster\":{}"), "UnsupportedField", "spec.kafkaCluster: "},
    {KB_KIND_RESTORE, RESTORE(",\"dryRun\":true"), "UnsupportedField", "spec.dryRun: "},
    {KB_KIND_OFFSET_RESET, RESET(""), NULL, NULL},
    {KB_KIND_OFFSET_RESET, "{\"strategy\":\"latest\",\"consumerGroups\":[\"g\"]}", "InvalidSpec",
     "spec: kafkaCluster must be set unless"},
    {KB_KIND_OFFSET_RESET, RESET(",\"timestamp\":\"2024-12-01T12:00:00Z\""), NULL, NULL},
    {KB_KIND_OFFSET_ROLLBACK, ROLLBACK(""), NULL, NULL},
    {KB_KIND_OFFSET_ROLLBACK, ROLLBACK(",\"dryRun\":true"), "UnsupportedField", "spec.dryRun: "},
    {KB_KIND_OFFSET_ROLLBACK, "{\"operation\":\"snapshot\",\"snapshotId\":\"s\"," KAFKA "}", "InvalidSpec",
     "spec: consumerGroups must be set with"},
};

static void kb_spec_check_rule_broken_is_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        KB_AUTO_TREE(object);
        object = object_of(rows[i].spec);
        kb_spec spec;
        kb_spec_problem problem;
        kb_spec_check(rows[i].kind, object, &spec, &problem);
        if (rows[i].reason == NULL) {
            assert_null(problem.message);
        } else {
            assert_non_null(problem.message);
            assert_string_equal(problem.reason, rows[i].reason);
            assert_memory_equal(problem.message, rows[i].message, strlen(rows[i].message));
        }
        kb_spec_problem_done(&problem);
        kb_spec_done(&spec);
    }
}

static void kb_spec_check_long_name_is_refused(void **state)
{
    (void)state;
    KB_AUTO_TREE(object);
    object = object_of(BACKUP(""));
    char name[114];
    memset(name, 'a', 113);
    name[113] = '\0';
    kb_tree_set_text(kb_tree_at(object, "metadata", NULL), "name", name);
    kb_spec spec;
    kb_spec_problem problem;
    kb_spec_check(KB_KIND_BACKUP, object, &spec, &problem);
    assert_string_equal(problem.reason, "NameTooLong");
    kb_spec_problem_done(&problem);
    kb_spec_done(&spec);
}

/* White space of any length as one blank, as YAML folds it. */
static void fold(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        bool is_blank = *from == ' ' || *from == '\n';
        if (is_blank && to > text && to[-1] == ' ')
            continue;
        *to++ = is_blank ? ' ' : *from;
    }
    *to = '\0';
}

static void kb_spec_rule_messages_are_those_of_the_crds(void **state)
{
    (void)state;
    static const char *const files[] = {"shared", "kafkabackup", "kafkarestore", "kafkaoffsetreset",
                                        "kafkaoffsetrollback"};
    KB_AUTO_STRBUF(all, 1 << 20);
    for (size_t i = 0; i < KB_ARRAY_LEN(files); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTOFREE char *path = kb_asprintf("crds/source/%s.yaml", files[i]);
        KB_AUTOFREE uint8_t *data = NULL;
        size_t len = 0;
        assert_int_equal(kb_file_read(path, 1 << 20, &data, &len, &err), KB_OK);
        kb_strbuf_append(&all, data, len);
    }
    fold(all.data);
    for (const char *const *message = kb_spec_rule_messages(); *message != NULL; message++)
        if (strstr(all.data, *message) == NULL)
            fail_msg("no CRD says: %s", *message);
}

static void kb_spec_read_defaults_are_those_of_the_crds(void **state)
{
    (void)state;
    KB_AUTO_TREE(object);
    object = object_of(BACKUP(""));
    kb_spec spec;
    kb_spec_problem problem;
    kb_spec_check(KB_KIND_BACKUP, object, &spec, &problem);
    assert_null(problem.reason);
    assert_int_equal(spec.backup.topics.count, 1);
    assert_string_equal(spec.backup.topics.items[0], "*");
    assert_int_equal(spec.backup.compression_level, 3);
    assert_int_equal(spec.backup.checkpoint_interval_secs, 30);
    assert_true(spec.backup.include_offset_headers);
    assert_int_equal(spec.backup.circuit_breaker.failure_threshold, 5);
    assert_int_equal(spec.run.job.active_deadline_seconds, 86400);
    assert_string_equal(spec.backup.kafka.tls.ca_key, "ca.crt");
    assert_false(spec.backup.kafka.tls.is_set);
    kb_spec_problem_done(&problem);
    kb_spec_done(&spec);
    assert_null(problem.message);
}

static void kb_spec_unused_blocks_of_other_types_are_named(void **state)
{
    (void)state;
    KB_AUTO_TREE(object);
    object =
        object_of(STORE("{\"storageType\":\"s3\",\"s3\":{\"bucket\":\"b\"},\"pvc\":{\"claimName\":\"c\"},"
                        "\"gcs\":{\"bucket\":\"g\"}}"));
    kb_spec spec;
    kb_spec_problem problem;
    kb_spec_check(KB_KIND_BACKUP, object, &spec, &problem);
    KB_AUTOFREE char *names = kb_spec_unused_blocks(&spec);
    assert_string_equal(names, "storage.gcs, storage.pvc");
    kb_spec_problem_done(&problem);
    kb_spec_done(&spec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_spec_check_rule_broken_is_named),
        cmocka_unit_test(kb_spec_check_long_name_is_refused),
        cmocka_unit_test(kb_spec_rule_messages_are_those_of_the_crds),
        cmocka_unit_test(kb_spec_read_defaults_are_those_of_the_crds),
        cmocka_unit_test(kb_spec_unused_blocks_of_other_types_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
