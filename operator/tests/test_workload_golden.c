/*
 * Renders the custom resources of data/workloads/cases.json and compares the objects with the golden files
 * beside it, which e2e/ judges by the static rules and applies to a real server. KB_GOLDEN=write writes them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "operator/jobs/cronjob_builder.h"
#include "operator/jobs/job_builder.h"
#include "operator/jobs/pod_template.h"
#include "operator/model/kinds.h"
#include "operator/model/settings.h"
#include "operator/model/spec.h"

#define DATA "operator/tests/data/workloads/"

/* One case, decoded. */
typedef struct golden_case {
    const json_t *given; /* the case; borrowed */
    kb_settings settings;
    kb_capabilities caps;
    kb_kind kind;
    kb_spec spec;
    kb_run_config config;
} golden_case;

static void read_settings(golden_case *c, const json_t *common)
{
    KB_AUTO_ERROR(err);
    KB_AUTO_TREE(settings);
    settings = json_deep_copy(common);
    json_t *own = json_object_get(c->given, "settings");
    if (own != NULL)
        json_object_update(settings, own);
    KB_AUTOFREE char *text = json_dumps(settings, 0);
    assert_int_equal(kb_settings_parse(text, &c->settings, &err), KB_OK);
}

static void read_case(golden_case *c, const json_t *common)
{
    KB_AUTO_ERROR(err);
    KB_AUTO_TREE(version);
    read_settings(c, common);
    version = json_pack("{s:s, s:s}", "major", "1", "minor", kb_tree_text(c->given, "minor", NULL));
    assert_int_equal(kb_capabilities_from(version, NULL, &c->caps, &err), KB_OK);
    const json_t *object = json_object_get(c->given, "object");
    assert_true(kb_kind_parse(kb_tree_text(object, "kind", NULL), &c->kind));
    kb_problems problems;
    kb_problems_init(&problems, "cr");
    kb_spec_read(c->kind, object, &problems, &c->spec);
    assert_int_equal(problems.count, 0);
    kb_problems_done(&problems);
}

static kb_render_input render_input(const golden_case *c)
{
    kb_render_input input = {.object = json_object_get(c->given, "object"),
                             .spec = &c->spec,
                             .settings = &c->settings,
                             .account_notes = json_object_get(c->given, "accountNotes")};
    if (c->kind == KB_KIND_BACKUP) {
        input.kafka = &c->spec.backup.kafka;
        input.storage = &c->spec.backup.storage;
    } else {
        assert_int_equal(c->kind, KB_KIND_RESTORE);
        input.kafka = &c->spec.restore.target;
        input.storage = &c->spec.restore.storage;
    }
    return input;
}

/* The ConfigMap and the Job, or the CronJob of a schedule. */
static json_t *rendered(golden_case *c)
{
    KB_AUTO_ERROR(err);
    const kb_render_input input = render_input(c);
    assert_int_equal(kb_run_config_make(&input, &c->config, &err), KB_OK);
    kb_pod_input pod = {.render = &input,
                        .command = kb_tree_text(c->given, "command", NULL),
                        .account = kb_worker_account(&c->spec, &c->settings, "team-a"),
                        .config_map = c->config.name,
                        .config_sha256 = c->config.sha256};
    json_t *objects = kb_tree_array();
    json_array_append_new(objects, kb_run_config_map(&input, &c->config));
    if (c->kind != KB_KIND_BACKUP || c->spec.backup.schedule == NULL) {
        pod.stamp = "20261101-000001";
        json_array_append_new(objects, kb_job_object(&pod, &c->caps, kb_tree_text(c->given, "job", NULL)));
        return objects;
    }
    kb_schedule schedule;
    kb_schedule_read(&c->spec.backup, &c->caps, &schedule);
    assert_null(schedule.reason);
    json_array_append_new(objects, kb_cron_job_object(&pod, &c->caps, &schedule, false));
    kb_schedule_done(&schedule);
    return objects;
}

static void compare(const char *name, json_t *objects)
{
    KB_AUTOFREE char *path = kb_asprintf(DATA "%s.json", name);
    KB_AUTOFREE char *text = json_dumps(objects, JSON_INDENT(1) | JSON_SORT_KEYS);
    const char *golden = getenv("KB_GOLDEN");
    if (golden != NULL && strcmp(golden, "write") == 0) {
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        fprintf(file, "%s\n", text);
        assert_int_equal(fclose(file), 0);
    }
    KB_AUTO_TREE(expected);
    expected = json_load_file(path, 0, NULL);
    assert_non_null(expected);
    KB_AUTOFREE char *expected_text = json_dumps(expected, JSON_INDENT(1) | JSON_SORT_KEYS);
    assert_string_equal(text, expected_text);
}

static void workloads_of_cases_equal_golden_files(void **state)
{
    (void)state;
    KB_AUTO_TREE(all);
    all = json_load_file(DATA "cases.json", JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(all);
    size_t i;
    json_t *given;
    json_array_foreach(json_object_get(all, "cases"), i, given)
    {
        print_message("%s\n", kb_tree_text(given, "name", NULL));
        golden_case c = {.given = given};
        KB_AUTO_TREE(objects);
        read_case(&c, json_object_get(all, "settings"));
        objects = rendered(&c);
        compare(kb_tree_text(given, "name", NULL), objects);
        kb_run_config_done(&c.config);
        kb_spec_done(&c.spec);
        kb_settings_done(&c.settings);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(workloads_of_cases_equal_golden_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
