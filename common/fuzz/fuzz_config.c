/*
 * fuzz_config - any bytes as a worker configuration: read, checked and printed without a file being opened;
 * what is read without an error prints to a text that reads and prints the same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/contract/config_check.h"
#include "common/contract/config_fields.h"
#include "common/contract/config_support.h"
#include "common/data/schema_print.h"

#define KB_PRINTED_MAX (64u * 1024 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *fake_env(void *ctx, const char *name)
{
    (void)ctx;
    return name[0] == 'N' ? NULL : "a: [1";
}

/* A configuration from text; problems tells whether it is well. The files it names are left alone. */
static kb_worker_config *read_config(kb_view text, kb_problems *problems)
{
    const kb_yaml_options options = {.get_env = fake_env};
    kb_worker_config *config = kb_calloc(1, sizeof *config);
    kb_schema_init(&kb_config_schema, config);
    if (kb_yaml_load(text, &options, problems, &config->tree) == KB_OK)
        kb_schema_read(&kb_config_schema, config->tree, "", NULL, problems, config);
    return config;
}

static void check_commands(const kb_worker_config *config)
{
    for (int command = 0; command < KB_COMMAND_COUNT; command++) {
        KB_AUTO_ERROR(err);
        kb_problems problems;
        kb_problems_init(&problems, "f");
        kb_config_check(config, (kb_command)command, &problems);
        kb_code code = kb_problems_check(&problems, KB_CONFIG_INVALID, &err);
        if ((code == KB_OK) != (problems.error_count == 0))
            abort();
        KB_AUTO_ERROR(other);
        if (kb_worker_config_check_supported(config, (kb_command)command, false, &other) != KB_OK &&
            other.text == NULL)
            abort();
        kb_problems_done(&problems);
    }
}

static void check_print(const kb_worker_config *config)
{
    KB_AUTO_STRBUF(first, KB_PRINTED_MAX);
    KB_AUTO_STRBUF(second, KB_PRINTED_MAX);
    kb_worker_config_print(config, &first);
    if (first.failed || first.len > KB_YAML_MAX_BYTES)
        return;
    kb_problems problems;
    kb_problems_init(&problems, NULL);
    KB_CLEANUP(kb_worker_config_free_at)
    kb_worker_config *again = read_config(kb_view_of(first.data, first.len), &problems);
    /* These have defaults beyond their ranges until the configuration is completed. */
    for (size_t i = 0; i < problems.count; i++) {
        const char *path = problems.items[i].path;
        if (problems.items[i].severity == KB_SEVERITY_ERROR && strcmp(path, "backup.fetch_max_bytes") != 0 &&
            strcmp(path, "limits.memory_bytes") != 0 && strcmp(path, "limits.threads") != 0)
            abort();
    }
    kb_problems_done(&problems);
    kb_worker_config_print(again, &second);
    if (strcmp(kb_strbuf_view(&first), kb_strbuf_view(&second)) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kb_problems problems;
    kb_problems_init(&problems, "f");
    KB_CLEANUP(kb_worker_config_free_at)
    kb_worker_config *config = read_config(kb_view_of(data, size), &problems);
    if (config->tree != NULL)
        check_commands(config);
    if (problems.error_count == 0)
        check_print(config);
    kb_problems_done(&problems);
    return 0;
}
