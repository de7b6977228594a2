#include "common/contract/config_support.h"

#include "common/contract/config_check.h"
#include "common/contract/config_fields.h"

static const char not_supported[] = "is not supported by this version";

typedef struct kb_support {
    const kb_worker_config *config;
    kb_problems *problems;
} kb_support;

static void check_storage(const kb_support *support)
{
    int backend = support->config->storage.backend;
    if (!support->config->storage.block.is_given || backend == KB_CONFIG_FILESYSTEM ||
        backend == KB_CONFIG_S3 || backend == KB_CONFIG_AZURE || backend == KB_CONFIG_GCS)
        return;
    kb_config_problem(support->config, support->problems, KB_SEVERITY_ERROR, "storage.backend",
                      "storage backend %s %s; hint: filesystem, s3, azure, gcs",
                      kb_config_backend_name(backend), not_supported);
}

static void check_gssapi(const kb_support *support, const kb_config_kafka *kafka, const char *path)
{
    if (kafka->block.is_given && kafka->security.sasl_mechanism == KB_CONFIG_GSSAPI)
        kb_config_problem(support->config, support->problems, KB_SEVERITY_ERROR, path,
                          "GSSAPI %s: its Kafka client was built without it", not_supported);
}

static bool is_offset_command(kb_command command)
{
    return command == KB_COMMAND_OFFSET_RESET || command == KB_COMMAND_OFFSET_SNAPSHOT ||
           command == KB_COMMAND_OFFSET_ROLLBACK || command == KB_COMMAND_OFFSET_VERIFY ||
           command == KB_COMMAND_OFFSET_DELETE;
}

static bool is_supported_command(kb_command command)
{
    return command == KB_COMMAND_BACKUP || command == KB_COMMAND_RESTORE || command == KB_COMMAND_VALIDATE ||
           command == KB_COMMAND_DESCRIBE || command == KB_COMMAND_LIST || command == KB_COMMAND_PRUNE ||
           is_offset_command(command);
}

kb_code kb_worker_config_check_supported(const kb_worker_config *config, kb_command command, bool gssapi,
                                         kb_error *err)
{
    if (!is_supported_command(command))
        return kb_fail(err, KB_CONFIG_INVALID, "command %s %s", kb_command_name(command), not_supported);
    kb_problems problems;
    kb_problems_init(&problems, config->file);
    const kb_support support = {config, &problems};
    check_storage(&support);
    if (command == KB_COMMAND_BACKUP && !gssapi)
        check_gssapi(&support, &config->source, "source.security.sasl_mechanism");
    if ((command == KB_COMMAND_RESTORE || is_offset_command(command)) && !gssapi)
        check_gssapi(&support, &config->target, "target.security.sasl_mechanism");
    kb_code code = kb_problems_check(&problems, KB_CONFIG_INVALID, err);
    kb_problems_done(&problems);
    return code;
}
