/* Rendered workloads against golden files, and the static rules of operator.md 4.2. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/contract/config_support.h"
#include "common/contract/worker_config.h"
#include "common/data/json_tree.h"
#include "operator/jobs/cronjob_builder.h"
#include "operator/jobs/object_names.h"
#include "operator/model/validation.h"
#include "operator/tests/decide_fixture.h"

#define DATA "operator/tests/data/"
#define SERVERS "'bootstrapServers':['k:9092']"
#define BACKUP(kafka, storage, more) \
    "{'metadata':{'name':'x','namespace':'ns','uid':'u1','generation':3},'spec':{'kafkaCluster':{" kafka \
    "},'storage':{" storage "}" more "}}"
#define S3 "'storageType':'s3','s3':{'bucket':'bbb'}"

typedef struct row {
    const char *name; /* of the golden files */
    kb_kind kind;
    const char *object, *settings, *account_notes;
    int minor;
} row;

static const row rows[] = {
    {"hourly", KB_KIND_BACKUP, BACKUP(SERVERS, S3, ",'schedule':'0 * * * *','topics':['orders','payments']"),
     NULL, NULL, 34},
    {"old-server", KB_KIND_BACKUP, BACKUP(SERVERS, S3, ",'schedule':'0 * * * *'"), NULL, NULL, 20},
    {"secured", KB_KIND_BACKUP,
     BACKUP(SERVERS ",'securityProtocol':'SASL_SSL','tlsSecret':{'name':'tls'},'saslSecret':{'name':'sasl',"
                    "'mechanism':'SCRAM-SHA-512'}",
            "'storageType':'s3','s3':{'bucket':'bbb','prefix':'a/b/','endpoint':'http://minio:9000',"
            "'credentialsSecret':{'name':'s3'}}",
            ",'schedule':'CRON_TZ=Europe/Berlin 30 2 * * "
            "*','retention':{'backups':7,'maxAgeDays':30},'rateLimit':"
            "{'bytesPerSecond':1048576},'backupMode':'full','compression':'lz4','topics':['*','__consumer_"
            "offsets'],"
            "'excludeTopics':['tmp-*'],'sourceClusterId':'c1','logging':{'level':'debug','format':'text'},"
            "'resources':{'requests':{'cpu':1},'limits':{'memory':'256Mi'}},'podTemplate':{'labels':{'team':'"
            "a'},"
            "'annotations':{'note':'n','linkerd.io/inject':'enabled'},'nodeSelector':{'disk':'ssd'},"
            "'tolerations':[{'key':'k','operator':'Exists'}]},'env':[{'name':'RUST_LOG','value':'debug'}]"),
     "{'imagePullSecrets':[{'name':'pull'}],'priorityClassName':'low','tolerations':[{'key':'c'}],"
     "'logging':{'level':'info','format':'json'},'podLabels':{'team':'chart'},'startJitterSeconds':60}",
     NULL, 34},
    {"azure-ambient", KB_KIND_BACKUP,
     BACKUP(
         SERVERS,
         "'storageType':'azure','azure':{'accountName':'acc','container':'con','useWorkloadIdentity':true}",
         ""),
     NULL, "{'azure.workload.identity/client-id':'cid','azure.workload.identity/tenant-id':'tid'}", 34},
    {"s3-role", KB_KIND_BACKUP, BACKUP(SERVERS, S3, ""), NULL,
     "{'eks.amazonaws.com/role-arn':'arn:aws:iam::1:role/r'}", 27},
    {"volume", KB_KIND_BACKUP,
     BACKUP(SERVERS, "'storageType':'pvc','pvc':{'claimName':'data','subPath':'k/'}",
            ",'sourceClusterId':'a$${HOME}b${X}'"),
     NULL, NULL, 34},
    {"gcs-shared", KB_KIND_BACKUP,
     BACKUP(SERVERS, "'storageType':'gcs','gcs':{'bucket':'ggg','credentialsSecret':{'name':'g'}}", ""),
     "{'releaseNamespace':'ns','serviceAccount':{'shareOperator':true}}", NULL, 34},
    {"restore", KB_KIND_RESTORE,
     "{'metadata':{'name':'x','namespace':'ns','uid':'u1','generation':1},'spec':{'backupId':'b-20241201-"
     "120000',"
     "'targetCluster':{" SERVERS "},'storage':{" S3
     "},'pitr':{'timestamp':'2024-12-01T12:00:00Z'},'topics':['t'],"
     "'topicMapping':{'t':'t2'},'delivery':'transactional','guards':{'targetTopics':'append','"
     "allowGaps':true}}}",
     NULL, NULL, 34},
    {"reset", KB_KIND_OFFSET_RESET,
     "{'metadata':{'name':'x','namespace':'ns','uid':'u1','generation':1},'spec':{'strategy':'fromMapping',"
     "'consumerGroups':['g1','g2'],'topics':['t*'],'kafkaCluster':{" SERVERS
     "},'mappingConfigMap':{'name':'m'}}}",
     NULL, NULL, 34},
    {"rollback", KB_KIND_OFFSET_ROLLBACK,
     "{'metadata':{'name':'x','namespace':'ns','uid':'u1','generation':1},'spec':{'operation':'verify','"
     "snapshotId':'s',"
     "'kafkaCluster':{" SERVERS "},'storage':{" S3 "},'verify':{'strict':true}}}",
     NULL, NULL, 34},
};

static const kb_command commands[KB_KIND_COUNT] = {KB_COMMAND_BACKUP, KB_COMMAND_RESTORE,
                                                   KB_COMMAND_OFFSET_RESET, KB_COMMAND_OFFSET_VERIFY};

typedef struct rendered {
    kb_spec spec;
    kb_settings settings;
    kb_run_config config;
    json_t *object, *notes;
    json_t *workload; /* CronJob or Job */
} rendered;

static kb_settings settings_of(const char *own)
{
    KB_AUTO_TREE(all);
    all = kb_test_json(KB_TEST_SETTINGS);
    KB_AUTO_TREE(more);
    more = own != NULL ? kb_test_json(own) : NULL;
    kb_tree_merge_over(all, more);
    KB_AUTOFREE char *text = kb_tree_canonical(all);
    kb_settings settings;
    KB_AUTO_ERROR(err);
    assert_int_equal(kb_settings_parse(text, &settings, &err), KB_OK);
    return settings;
}

static rendered render(const row *r)
{
    rendered out = {.settings = settings_of(r->settings), .object = kb_test_json(r->object)};
    out.notes = r->account_notes != NULL ? kb_test_json(r->account_notes) : NULL;
    kb_spec_problem problem;
    kb_spec_check(r->kind, out.object, &out.spec, &problem);
    if (problem.reason != NULL)
        fail_msg("%s: %s", r->name, problem.message);
    const kb_render_input input = {.object = out.object,
                                   .spec = &out.spec,
                                   .kafka = kb_spec_kafka_of(&out.spec),
                                   .storage = kb_spec_storage_of(&out.spec),
                                   .settings = &out.settings,
                                   .account_notes = out.notes,
                                   .snapshot_map =
                                       r->kind == KB_KIND_OFFSET_RESET ? "offset-snapshots" : NULL};
    KB_AUTO_ERROR(err);
    if (kb_run_config_make(&input, &out.config, &err) != KB_OK)
        fail_msg("%s: %s", r->name, kb_error_text(&err));
    kb_pod_input pod = {.render = &input,
                        .command = kb_command_name(commands[r->kind]),
                        .account = kb_worker_account(&out.spec, &out.settings, "ns"),
                        .config_map = out.config.name,
                        .config_sha256 = out.config.sha256};
    kb_capabilities caps = kb_test_capabilities(r->minor);
    if (r->kind == KB_KIND_BACKUP && out.spec.backup.schedule != NULL) {
        kb_schedule schedule;
        kb_schedule_read(&out.spec.backup, &caps, &schedule);
        if (schedule.reason != NULL)
            fail_msg("%s: %s", r->name, schedule.message);
        out.workload = kb_cron_job_object(&pod, &caps, &schedule, false);
        kb_schedule_done(&schedule);
    } else {
        pod.stamp = r->kind == KB_KIND_BACKUP ? "20241201-120002" : NULL;
        out.workload = kb_job_object(&pod, &caps, "x-job");
    }
    return out;
}

static void rendered_done(rendered *out)
{
    kb_spec_done(&out->spec);
    kb_settings_done(&out->settings);
    kb_run_config_done(&out->config);
    json_decref(out->object);
    json_decref(out->notes);
    json_decref(out->workload);
}

/* With KB_UPDATE_GOLDEN set the file is written anew, for a look at the difference. */
static void compare(const char *name, const char *kind, const json_t *value)
{
    KB_AUTOFREE char *path = kb_asprintf(DATA "%s.%s.json", name, kind);
    char *text = json_dumps(value, JSON_INDENT(1) | JSON_SORT_KEYS);
    FILE *file = getenv("KB_UPDATE_GOLDEN") != NULL ? fopen(path, "we") : NULL;
    if (file != NULL) {
        assert_true(fprintf(file, "%s\n", text) > 0);
        assert_int_equal(fclose(file), 0);
    }
    KB_AUTO_TREE(golden);
    golden = json_load_file(path, 0, NULL);
    if (golden == NULL || !json_equal(golden, value))
        fail_msg("%s is not what is rendered:\n%s", path, text);
    free(text);
}

static void kb_workloads_rendered_equal_golden_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        rendered out = render(&rows[i]);
        KB_AUTO_TREE(config);
        config = kb_tree_need(json_loads(out.config.text, 0, NULL));
        compare(rows[i].name, "config", config);
        compare(rows[i].name, "workload", out.workload);
        rendered_done(&out);
    }
}

static const char *no_env(void *ctx, const char *name)
{
    (void)ctx;
    (void)name;
    return NULL;
}

/* Every key is one of the worker's, and nothing is refused; files of credentials are not there in a test. */
static void kb_config_render_text_is_accepted_by_the_worker(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        rendered out = render(&rows[i]);
        const kb_config_options options = {.command = commands[rows[i].kind], .get_env = no_env};
        KB_AUTO_ERROR(err);
        kb_problems notes;
        kb_problems_init(&notes, NULL);
        kb_worker_config *config = NULL;
        kb_code code = kb_worker_config_parse(kb_view_of(out.config.text, strlen(out.config.text)),
                                              "config.yaml", &options, &notes, &config, &err);
        bool names_file = strstr(kb_error_text(&err), "/etc/kafka-backup/") != NULL;
        if (code != KB_OK && !names_file)
            fail_msg("%s: %s", rows[i].name, kb_error_text(&err));
        if (code == KB_OK && strcmp(rows[i].name, "volume") == 0)
            assert_string_equal(config->backup.source_cluster_id, "a$${HOME}b${X}");
        kb_worker_config_free(config);
        kb_problems_done(&notes);
        rendered_done(&out);
    }
}

static const json_t *pod_of(const json_t *workload)
{
    const json_t *spec = kb_tree_at(workload, "spec", NULL);
    const json_t *template = kb_tree_at(spec, "jobTemplate", "spec", NULL);
    return kb_tree_at(template != NULL ? template : spec, "template", "spec", NULL);
}

static void check_volumes(const char *name, const json_t *pod)
{
    static const char *const known[] = {"configMap", "projected", "persistentVolumeClaim", "emptyDir"};
    const json_t *volumes = kb_tree_at(pod, "volumes", NULL);
    for (size_t i = 0; i < json_array_size(volumes); i++) {
        const json_t *volume = json_array_get(volumes, i);
        bool is_known = false;
        for (size_t k = 0; k < KB_ARRAY_LEN(known); k++)
            is_known = is_known || kb_tree_at(volume, known[k], NULL) != NULL;
        if (!is_known || json_object_size(volume) != 2)
            fail_msg("%s: volume %s", name, kb_tree_text(volume, "name", NULL));
    }
}

static void check_env(const char *name, const json_t *container)
{
    static const char *const words[] = {"PASS", "SECRET", "TOKEN", "ACCESS_KEY"};
    const json_t *env = kb_tree_at(container, "env", NULL);
    for (size_t i = 0; i < json_array_size(env); i++) {
        const char *variable = kb_tree_text_or_empty(json_array_get(env, i), "name", NULL);
        for (size_t k = 0; k < KB_ARRAY_LEN(words); k++)
            if (strstr(variable, words[k]) != NULL)
                fail_msg("%s: %s", name, variable);
    }
}

static void check_pod(const char *name, const json_t *pod)
{
    static const char *const host[] = {"hostNetwork", "hostPID", "hostIPC", "initContainers",
                                       "ephemeralContainers"};
    for (size_t i = 0; i < KB_ARRAY_LEN(host); i++)
        assert_null(kb_tree_at(pod, host[i], NULL));
    const json_t *container = json_array_get(kb_tree_at(pod, "containers", NULL), 0);
    assert_int_equal(json_array_size(kb_tree_at(pod, "containers", NULL)), 1);
    assert_string_equal(kb_tree_text(pod, "restartPolicy", NULL), "Never");
    assert_false(kb_tree_bool(true, pod, "automountServiceAccountToken", NULL));
    assert_false(kb_tree_bool(true, pod, "enableServiceLinks", NULL));
    assert_true(kb_tree_bool(false, pod, "securityContext", "runAsNonRoot", NULL));
    assert_int_equal(kb_tree_i64(0, pod, "securityContext", "fsGroup", NULL), 1000);
    assert_string_equal(kb_tree_text(pod, "securityContext", "seccompProfile", "type", NULL),
                        "RuntimeDefault");
    const json_t *security = kb_tree_at(container, "securityContext", NULL);
    assert_false(kb_tree_bool(true, security, "allowPrivilegeEscalation", NULL));
    assert_true(kb_tree_bool(false, security, "readOnlyRootFilesystem", NULL));
    assert_string_equal(
        json_string_value(json_array_get(kb_tree_at(security, "capabilities", "drop", NULL), 0)), "ALL");
    assert_null(kb_tree_at(security, "privileged", NULL));
    assert_non_null(kb_tree_at(container, "resources", "limits", "memory", NULL));
    assert_non_null(kb_tree_at(container, "resources", "requests", "memory", NULL));
    assert_string_equal(kb_tree_text(container, "image", NULL), "worker:1.2.3");
    check_volumes(name, pod);
    check_env(name, container);
}

static void kb_workloads_rendered_keep_the_static_rules(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        rendered out = render(&rows[i]);
        check_pod(rows[i].name, pod_of(out.workload));
        const json_t *cron = kb_tree_at(out.workload, "spec", "jobTemplate", NULL) != NULL
                                 ? kb_tree_at(out.workload, "spec", NULL)
                                 : NULL;
        const json_t *job = cron != NULL ? kb_tree_at(cron, "jobTemplate", "spec", NULL)
                                         : kb_tree_at(out.workload, "spec", NULL);
        assert_non_null(kb_tree_at(job, "backoffLimit", NULL));
        assert_non_null(kb_tree_at(job, "activeDeadlineSeconds", NULL));
        assert_true((kb_tree_at(job, "podFailurePolicy", NULL) != NULL) == (rows[i].minor >= 26));
        assert_true((kb_tree_at(job, "podReplacementPolicy", NULL) != NULL) == (rows[i].minor >= 29));
        assert_true((kb_tree_at(job, "ttlSecondsAfterFinished", NULL) != NULL) == (rows[i].minor >= 21));
        if (cron != NULL) {
            assert_string_equal(kb_tree_text(cron, "concurrencyPolicy", NULL), "Forbid");
            assert_int_equal(kb_tree_i64(0, cron, "startingDeadlineSeconds", NULL), 3600);
            assert_true((kb_tree_at(cron, "timeZone", NULL) != NULL) == (rows[i].minor >= 25));
        }
        rendered_done(&out);
    }
}

static void kb_schedule_read_server_decides_how_the_zone_is_said(void **state)
{
    (void)state;
    static const struct {
        const char *schedule, *zone;
        int minor;
        const char *expression, *time_zone, *reason;
    } cases[] = {
        {"0 1 * * *", NULL, 34, "0 1 * * *", "Etc/UTC", NULL},
        {"0 1 * * *", "Europe/Berlin", 25, "0 1 * * *", "Europe/Berlin", NULL},
        {"CRON_TZ=Europe/Berlin 0 1 * * *", NULL, 30, "0 1 * * *", "Europe/Berlin", NULL},
        {"0 1 * * *", NULL, 24, "CRON_TZ=UTC 0 1 * * *", NULL, NULL},
        {"TZ=Europe/Berlin 0 1 * * *", NULL, 22, "CRON_TZ=Europe/Berlin 0 1 * * *", NULL, NULL},
        {"0 1 * * *", NULL, 21, "0 1 * * *", NULL, NULL},
        {"0 1 * * *", "Europe/Berlin", 20, NULL, NULL, "TimeZoneUnsupported"},
        {"61 1 * * *", NULL, 34, NULL, NULL, "InvalidSchedule"},
        {"0 1 * * *", "Atlantis", 34, NULL, NULL, "InvalidTimeZone"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTOFREE char *expression = kb_strdup(cases[i].schedule);
        KB_AUTOFREE char *zone = kb_strdup_opt(cases[i].zone);
        const kb_backup_spec spec = {.schedule = expression, .time_zone = zone};
        kb_capabilities caps = kb_test_capabilities(cases[i].minor);
        kb_schedule schedule;
        kb_schedule_read(&spec, &caps, &schedule);
        if (cases[i].reason != NULL) {
            assert_string_equal(schedule.reason, cases[i].reason);
        } else {
            assert_null(schedule.reason);
            assert_string_equal(schedule.expression, cases[i].expression);
            assert_string_equal(schedule.time_zone != NULL ? schedule.time_zone : "-",
                                cases[i].time_zone != NULL ? cases[i].time_zone : "-");
        }
        kb_schedule_done(&schedule);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_workloads_rendered_equal_golden_files),
        cmocka_unit_test(kb_config_render_text_is_accepted_by_the_worker),
        cmocka_unit_test(kb_workloads_rendered_keep_the_static_rules),
        cmocka_unit_test(kb_schedule_read_server_decides_how_the_zone_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
