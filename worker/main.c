/* kafka-backup-worker: one process, one command, one run. */
#include <stdio.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/contract/exit_codes.h"
#include "common/contract/version.h"
#include "worker/cmd/cmd_backup.h"
#include "worker/cmd/cmd_describe.h"
#include "worker/cmd/cmd_list.h"
#include "worker/cmd/cmd_offset_delete.h"
#include "worker/cmd/cmd_offset_reset.h"
#include "worker/cmd/cmd_offset_rollback.h"
#include "worker/cmd/cmd_offset_snapshot.h"
#include "worker/cmd/cmd_offset_verify.h"
#include "worker/cmd/cmd_prune.h"
#include "worker/cmd/cmd_restore.h"
#include "worker/cmd/cmd_validate.h"
#include "worker/cmd/flags.h"
#include "worker/cmd/run_context.h"
#include "worker/kafka/kafka_client.h"

#define KB_CONFIG_PRINT_MAX_BYTES (4u << 20)

typedef kb_code (*command_fn)(kb_run_context *run, kb_error *err);

static const struct {
    kb_command command;
    command_fn run;
} COMMANDS[] = {
    {KB_COMMAND_BACKUP, kb_cmd_backup},
    {KB_COMMAND_RESTORE, kb_cmd_restore},
    {KB_COMMAND_VALIDATE, kb_cmd_validate},
    {KB_COMMAND_DESCRIBE, kb_cmd_describe},
    {KB_COMMAND_LIST, kb_cmd_list},
    {KB_COMMAND_OFFSET_RESET, kb_cmd_offset_reset},
    {KB_COMMAND_OFFSET_SNAPSHOT, kb_cmd_offset_snapshot},
    {KB_COMMAND_OFFSET_ROLLBACK, kb_cmd_offset_rollback},
    {KB_COMMAND_OFFSET_VERIFY, kb_cmd_offset_verify},
    {KB_COMMAND_OFFSET_DELETE, kb_cmd_offset_delete},
    {KB_COMMAND_PRUNE, kb_cmd_prune},
};

static command_fn find_command(kb_command command)
{
    for (size_t i = 0; i < KB_ARRAY_LEN(COMMANDS); i++)
        if (COMMANDS[i].command == command)
            return COMMANDS[i].run;
    return NULL;
}

/* Before there is a configuration, and so a log: one line, or one for each problem of the file. */
static int refuse(kb_code code, const kb_error *err)
{
    fprintf(stderr, "%s: %s: %s\n", KB_WORKER_NAME, kb_exit_reason(code), kb_error_text(err));
    return kb_exit_code(code, 0);
}

static kb_code print_config(const kb_run_context *run, kb_error *err)
{
    KB_AUTO_STRBUF(out, KB_CONFIG_PRINT_MAX_BYTES);
    kb_worker_config_print(run->config, &out);
    if (kb_strbuf_check(&out, "the effective configuration", err) != KB_OK)
        return err->code;
    kb_run_print(kb_strbuf_view(&out), out.len);
    return KB_OK;
}

static int run_command(kb_run_context *run)
{
    KB_AUTO_ERROR(err);
    if (run->flags->check_config)
        return print_config(run, &err) == KB_OK ? KB_EXIT_OK : refuse(err.code, &err);
    command_fn command = find_command(run->flags->command);
    kb_code code = command != NULL
                       ? command(run, &err)
                       : kb_fail(&err, KB_CONFIG_INVALID, "the command %s is not supported by this version",
                                 run->flags->command_name);
    int findings_code = (int)run->config->findings_exit_code;
    if (run->flags->command == KB_COMMAND_VALIDATE)
        findings_code = KB_EXIT_FINDINGS;
    return kb_run_context_finish(run, code, &err, findings_code);
}

int main(int argc, char **argv)
{
    KB_AUTO_ERROR(err);
    kb_flags flags;
    if (kb_flags_parse(argc, argv, &flags, &err) != KB_OK)
        return refuse(err.code, &err);
    if (flags.help) {
        fputs(kb_flags_help(), stdout);
        return KB_EXIT_OK;
    }
    if (flags.version) {
        printf("%s %s (librdkafka %s)\n", KB_WORKER_NAME, KB_VERSION, kb_kafka_library_version());
        return KB_EXIT_OK;
    }
    kb_run_context run;
    if (kb_run_context_open(&flags, &run, &err) != KB_OK)
        return refuse(err.code, &err);
    int exit_code = run_command(&run);
    kb_run_context_done(&run);
    return exit_code;
}
