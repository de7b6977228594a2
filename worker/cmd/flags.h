/*
 * flags - the command line of the worker (worker.md 1). Pure: it reads argv and nothing else.
 */
#ifndef KB_WORKER_CMD_FLAGS_H
#define KB_WORKER_CMD_FLAGS_H

#include <stdbool.h>

#include "common/base/error.h"
#include "common/contract/worker_config.h"

typedef enum kb_output_format { KB_OUTPUT_TEXT, KB_OUTPUT_JSON } kb_output_format;

/* Strings are borrowed from argv; NULL when not given. */
typedef struct kb_flags {
    kb_command command; /* KB_COMMAND_COUNT with --help and --version alone */
    const char *command_name;
    const char *config;
    const char *path;
    const char *backup_id;
    const char *log_level;
    const char *log_format;
    kb_output_format format;
    unsigned sample_index, sample_parts; /* --sample n/t; both 0 when not given */
    unsigned verbose;
    bool help, version;
    bool dry_run, deep, full, strict;
    bool allow_pruned, from_manifest, from_backup_json, overlap_skip, adopt_lineage;
    bool allow_unknown, allow_unset_env, check_config;
} kb_flags;

/* Errors: KB_USAGE_ERROR naming the argument and what was expected. */
kb_code kb_flags_parse(int argc, char **argv, kb_flags *ret_flags, kb_error *err) KB_CHECK;
/* The text of --help. Static. */
const char *kb_flags_help(void);

#endif
