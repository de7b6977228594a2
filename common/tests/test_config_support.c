#include "common/contract/config_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/base/mem.h"

#define SOURCE "source: {bootstrap_servers: ['a:1']}\n"
#define TARGET "target: {bootstrap_servers: ['a:1']}\n"
#define STORE "storage: {backend: filesystem, path: /d}\n"
#define BACKUP SOURCE STORE "backup_id: b\n"
#define RESTORE TARGET STORE "backup_id: b\n"
#define B KB_COMMAND_BACKUP
#define R KB_COMMAND_RESTORE
#define V KB_COMMAND_VALIDATE

static const char *no_env(void *ctx, const char *name)
{
    (void)ctx;
    (void)name;
    return NULL;
}

static kb_worker_config *parse_well(const char *text, kb_command command)
{
    KB_AUTO_ERROR(err);
    const kb_config_options options = {.command = command, .get_env = no_env};
    kb_worker_config *config = NULL;
    if (kb_worker_config_parse(kb_view_of(text, strlen(text)), "f", &options, NULL, &config, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
    return config;
}

#define S3 "backup_id: b\nstorage: {backend: s3, bucket: b}\n"
#define SASL(block) \
    block ": {bootstrap_servers: ['a:1'], security: {security_protocol: SASL_SSL, sasl_mechanism: " \
          "GSSAPI}}\n"
static const struct {
    kb_command command;
    const char *text;
    const char *why; /* NULL: supported */
} support_cases[] = {
    {B, BACKUP, NULL},
    {R, RESTORE "restore: {include_original_offset_header: true, consumer_group_strategy: header-based}\n",
     NULL},
    {V, STORE "backup_id: b\n", NULL},
    {B, SOURCE STORE "lineage: l\n", NULL},
    {B, BACKUP "backup: {continuous: true}\n", NULL},
    {B, BACKUP "backup: {incremental: false, consumer_group_snapshot: false}\n", NULL},
    {B, BACKUP "backup: {consumer_group_snapshot: true}\n", NULL},
    {B, BACKUP "offset_storage: {backend: sqlite}\n", NULL},
    {R, RESTORE "offset_storage: {backend: sqlite}\n", NULL},
    {B, SOURCE S3, NULL},
    {V, "backup_id: b\nstorage: {backend: azure, account_name: a, container_name: b}\n", NULL},
    {KB_COMMAND_LIST, "storage: {backend: gcs, bucket: b}\n", NULL},
    {V, "backup_id: b\nstorage: {backend: s3, bucket: b, signature_version: v2}\n", NULL},
    {R, RESTORE "restore: {consumer_groups: [g]}\n", NULL},
    {R, RESTORE "restore: {auto_consumer_groups: true}\n", NULL},
    {R, RESTORE "restore: {reset_consumer_offsets: true}\n", NULL},
    {R, RESTORE "restore: {offset_reset: {strategy: latest}}\n", NULL},
    {R, RESTORE "restore: {rollback_snapshot_id: s}\n", NULL},
    {R, RESTORE "restore: {offset_report: /r}\n", NULL},
    {B, STORE "backup_id: b\n" SASL("source"),
     "f:3:94: source.security.sasl_mechanism: GSSAPI is not supported"},
    {R, STORE "backup_id: b\n" SASL("target"),
     "f:3:94: target.security.sasl_mechanism: GSSAPI is not supported"},
    {KB_COMMAND_PRUNE, STORE "lineage: l\nretention: {backups: 3}\n", NULL},
    {KB_COMMAND_OFFSET_SNAPSHOT, TARGET "offsets: {snapshot_id: s}\n", NULL},
};

static void kb_worker_config_check_supported_what_has_not_landed_is_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(support_cases); i++) {
        KB_AUTO_ERROR(err);
        KB_CLEANUP(kb_worker_config_free_at)
        kb_worker_config *config = parse_well(support_cases[i].text, support_cases[i].command);
        kb_code code = kb_worker_config_check_supported(config, support_cases[i].command, false, &err);
        const char *why = support_cases[i].why;
        assert_int_equal(code, why == NULL ? KB_OK : KB_CONFIG_INVALID);
        if (why != NULL && strncmp(kb_error_text(&err), why, strlen(why)) != 0)
            fail_msg("case %zu: %s", i, kb_error_text(&err));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_worker_config_check_supported_what_has_not_landed_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
