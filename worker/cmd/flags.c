#include "worker/cmd/flags.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

#define KB_MAX_SAMPLE_PARTS 100000

enum {
    FOR_BACKUP = 1,
    FOR_RESTORE = 2,
    FOR_VALIDATE = 4,
    FOR_DESCRIBE = 8,
    FOR_LIST = 16,
    FOR_PRUNE = 32,
    FOR_RESET = 64,
    FOR_SNAPSHOT = 128,
    FOR_ROLLBACK = 256,
    FOR_VERIFY = 512,
    FOR_DELETE = 1024,
    FOR_OFFSETS = FOR_RESET | FOR_SNAPSHOT | FOR_ROLLBACK | FOR_VERIFY | FOR_DELETE,
    FOR_ALL = 2047,
    FOR_STORE = FOR_VALIDATE | FOR_DESCRIBE | FOR_LIST | FOR_PRUNE, /* need no file */
};

typedef enum flag_kind { FLAG_BOOL, FLAG_COUNT, FLAG_TEXT, FLAG_FORMAT, FLAG_OVERLAP, FLAG_SAMPLE } flag_kind;

typedef struct flag_row {
    const char *name;
    char letter; /* 0: none */
    flag_kind kind;
    unsigned commands;
    size_t at;
} flag_row;

#define AT(member) offsetof(kb_flags, member)
static const flag_row ROWS[] = {
    {"config", 'c', FLAG_TEXT, FOR_ALL, AT(config)},
    {"path", 0, FLAG_TEXT, FOR_STORE, AT(path)},
    {"backup-id", 'b', FLAG_TEXT, FOR_ALL, AT(backup_id)},
    {"format", 'f', FLAG_FORMAT, FOR_ALL, AT(format)},
    {"dry-run", 0, FLAG_BOOL, FOR_RESTORE | FOR_PRUNE | FOR_RESET | FOR_ROLLBACK, AT(dry_run)},
    {"deep", 0, FLAG_BOOL, FOR_VALIDATE, AT(deep)},
    {"sample", 0, FLAG_SAMPLE, FOR_VALIDATE, AT(sample_index)},
    {"full", 0, FLAG_BOOL, FOR_BACKUP, AT(full)},
    {"strict", 0, FLAG_BOOL, FOR_PRUNE | FOR_VERIFY, AT(strict)},
    {"allow-pruned", 0, FLAG_BOOL, FOR_RESTORE | FOR_VALIDATE | FOR_DESCRIBE, AT(allow_pruned)},
    {"from-manifest", 0, FLAG_BOOL, FOR_RESTORE | FOR_VALIDATE | FOR_DESCRIBE, AT(from_manifest)},
    {"from-backup-json", 0, FLAG_BOOL, FOR_RESTORE | FOR_VALIDATE | FOR_DESCRIBE, AT(from_backup_json)},
    {"overlap", 0, FLAG_OVERLAP, FOR_RESTORE | FOR_VALIDATE, AT(overlap_skip)},
    {"adopt-lineage", 0, FLAG_BOOL, FOR_BACKUP, AT(adopt_lineage)},
    {"allow-unknown", 0, FLAG_BOOL, FOR_ALL, AT(allow_unknown)},
    {"allow-unset-env", 0, FLAG_BOOL, FOR_ALL, AT(allow_unset_env)},
    {"check-config", 0, FLAG_BOOL, FOR_ALL, AT(check_config)},
    {"log-level", 0, FLAG_TEXT, FOR_ALL, AT(log_level)},
    {"log-format", 0, FLAG_TEXT, FOR_ALL, AT(log_format)},
    {"verbose", 'v', FLAG_COUNT, FOR_ALL, AT(verbose)},
    {"help", 'h', FLAG_BOOL, FOR_ALL, AT(help)},
    {"version", 'V', FLAG_BOOL, FOR_ALL, AT(version)},
};

static const struct {
    const char *name;
    kb_command command;
    unsigned bit;
} COMMANDS[] = {
    {"backup", KB_COMMAND_BACKUP, FOR_BACKUP},
    {"restore", KB_COMMAND_RESTORE, FOR_RESTORE},
    {"validate", KB_COMMAND_VALIDATE, FOR_VALIDATE},
    {"describe", KB_COMMAND_DESCRIBE, FOR_DESCRIBE},
    {"list", KB_COMMAND_LIST, FOR_LIST},
    {"prune", KB_COMMAND_PRUNE, FOR_PRUNE},
    {"offset-reset", KB_COMMAND_OFFSET_RESET, FOR_RESET},
    {"offset-snapshot", KB_COMMAND_OFFSET_SNAPSHOT, FOR_SNAPSHOT},
    {"offset-rollback", KB_COMMAND_OFFSET_ROLLBACK, FOR_ROLLBACK},
    {"offset-verify", KB_COMMAND_OFFSET_VERIFY, FOR_VERIFY},
    {"offset-delete", KB_COMMAND_OFFSET_DELETE, FOR_DELETE},
};

static kb_code parse_sample(const char *text, kb_flags *flags, kb_error *err)
{
    char *end = NULL;
    unsigned long index = strtoul(text, &end, 10);
    unsigned long parts = *end == '/' ? strtoul(end + 1, &end, 10) : 0;
    if (*end != '\0' || index < 1 || index > parts || parts > KB_MAX_SAMPLE_PARTS)
        return kb_fail(err, KB_USAGE_ERROR, "--sample: expected N/T with 1 <= N <= T <= %d, got '%s'",
                       KB_MAX_SAMPLE_PARTS, text);
    flags->sample_index = (unsigned)index;
    flags->sample_parts = (unsigned)parts;
    return KB_OK;
}

/* Stores one flag; value is NULL for flags without one. */
static kb_code apply(const flag_row *row, const char *value, kb_flags *flags, kb_error *err)
{
    void *at = (char *)flags + row->at;
    switch (row->kind) {
    case FLAG_BOOL:
        *(bool *)at = true;
        return KB_OK;
    case FLAG_COUNT:
        ++*(unsigned *)at;
        return KB_OK;
    case FLAG_TEXT:
        *(const char **)at = value;
        return KB_OK;
    case FLAG_SAMPLE:
        return parse_sample(value, flags, err);
    case FLAG_OVERLAP:
        if (strcmp(value, "skip") != 0)
            return kb_fail(err, KB_USAGE_ERROR, "--overlap: expected skip, got '%s'", value);
        flags->overlap_skip = true;
        return KB_OK;
    case FLAG_FORMAT:
        if (strcmp(value, "text") != 0 && strcmp(value, "json") != 0)
            return kb_fail(err, KB_USAGE_ERROR, "--format: expected text or json, got '%s'", value);
        flags->format = value[0] == 'j' ? KB_OUTPUT_JSON : KB_OUTPUT_TEXT;
        return KB_OK;
    }
    return kb_fail(err, KB_ERR_INTERNAL, "flag --%s has no kind", row->name);
}

static const flag_row *find_long(const char *name, size_t len)
{
    for (size_t i = 0; i < KB_ARRAY_LEN(ROWS); i++)
        if (strlen(ROWS[i].name) == len && memcmp(ROWS[i].name, name, len) == 0)
            return &ROWS[i];
    return NULL;
}

static const flag_row *find_letter(char letter)
{
    for (size_t i = 0; i < KB_ARRAY_LEN(ROWS); i++)
        if (ROWS[i].letter == letter)
            return &ROWS[i];
    return NULL;
}

typedef struct arguments {
    char **argv;
    int count;
    int next;
    unsigned used[KB_ARRAY_LEN(ROWS)];
    kb_flags flags;
} arguments;

static kb_code take(arguments *a, const flag_row *row, const char *shown, const char *attached, kb_error *err)
{
    bool wants_value = row->kind != FLAG_BOOL && row->kind != FLAG_COUNT;
    if (!wants_value && attached != NULL)
        return kb_fail(err, KB_USAGE_ERROR, "%s takes no value", shown);
    if (wants_value && attached == NULL) {
        if (a->next >= a->count)
            return kb_fail(err, KB_USAGE_ERROR, "%s: a value is missing", shown);
        attached = a->argv[a->next++];
    }
    size_t index = (size_t)(row - ROWS);
    if (wants_value && a->used[index] > 0)
        return kb_fail(err, KB_USAGE_ERROR, "%s is given twice", shown);
    a->used[index]++;
    return apply(row, attached, &a->flags, err);
}

static kb_code take_long(arguments *a, const char *arg, kb_error *err)
{
    const char *name = arg + 2;
    const char *equals = strchr(name, '=');
    const flag_row *row = find_long(name, equals != NULL ? (size_t)(equals - name) : strlen(name));
    if (row == NULL)
        return kb_fail(err, KB_USAGE_ERROR, "unknown option '%s'; hint: see --help", arg);
    return take(a, row, arg, equals != NULL ? equals + 1 : NULL, err);
}

static kb_code take_letters(arguments *a, const char *arg, kb_error *err)
{
    for (const char *letter = arg + 1; *letter != '\0'; letter++) {
        const flag_row *row = find_letter(*letter);
        if (row == NULL)
            return kb_fail(err, KB_USAGE_ERROR, "unknown option '-%c' in '%s'; hint: see --help", *letter,
                           arg);
        bool wants_value = row->kind != FLAG_BOOL && row->kind != FLAG_COUNT;
        const char *attached = wants_value && letter[1] != '\0' ? letter + 1 : NULL;
        if (take(a, row, arg, attached, err) != KB_OK)
            return err->code;
        if (wants_value)
            break;
    }
    return KB_OK;
}

static kb_code take_command(kb_flags *flags, const char *name, kb_error *err)
{
    if (flags->command != KB_COMMAND_COUNT)
        return kb_fail(err, KB_USAGE_ERROR, "unexpected argument '%s' after the command %s", name,
                       flags->command_name);
    for (size_t i = 0; i < KB_ARRAY_LEN(COMMANDS); i++) {
        if (strcmp(COMMANDS[i].name, name) != 0)
            continue;
        flags->command = COMMANDS[i].command;
        flags->command_name = COMMANDS[i].name;
        return KB_OK;
    }
    kb_command absent;
    if (kb_command_parse(name, &absent))
        return kb_fail(err, KB_CONFIG_INVALID, "the command %s is not supported by this version", name);
    return kb_fail(err, KB_USAGE_ERROR, "unknown command '%s'; hint: see --help", name);
}

static kb_code check_allowed(const arguments *a, kb_error *err)
{
    unsigned bit = 0;
    for (size_t i = 0; i < KB_ARRAY_LEN(COMMANDS); i++)
        if (COMMANDS[i].command == a->flags.command)
            bit = COMMANDS[i].bit;
    for (size_t i = 0; i < KB_ARRAY_LEN(ROWS); i++) {
        if (a->used[i] == 0 || (ROWS[i].commands & bit) != 0)
            continue;
        if (ROWS[i].commands == 0)
            return kb_fail(err, KB_CONFIG_INVALID, "--%s is not supported by this version", ROWS[i].name);
        return kb_fail(err, KB_USAGE_ERROR, "--%s does not go with the command %s", ROWS[i].name,
                       a->flags.command_name);
    }
    if (a->flags.from_manifest && a->flags.from_backup_json)
        return kb_fail(err, KB_USAGE_ERROR, "--from-manifest and --from-backup-json exclude each other");
    if (a->flags.config == NULL && a->flags.path == NULL)
        return kb_fail(err, KB_USAGE_ERROR, "the command %s needs --config FILE%s", a->flags.command_name,
                       (bit & FOR_STORE) != 0 ? " or --path LOCATION" : "");
    return KB_OK;
}

kb_code kb_flags_parse(int argc, char **argv, kb_flags *ret_flags, kb_error *err)
{
    arguments a = {.argv = argv, .count = argc, .next = 1, .flags = {.command = KB_COMMAND_COUNT}};
    bool options_end = false;
    while (a.next < a.count) {
        const char *arg = argv[a.next++];
        kb_code code;
        if (!options_end && strcmp(arg, "--") == 0) {
            options_end = true;
            continue;
        }
        if (options_end || arg[0] != '-' || arg[1] == '\0')
            code = take_command(&a.flags, arg, err);
        else
            code = arg[1] == '-' ? take_long(&a, arg, err) : take_letters(&a, arg, err);
        if (code != KB_OK)
            return code;
    }
    if (a.flags.help || a.flags.version) {
        *ret_flags = a.flags;
        return KB_OK;
    }
    if (a.flags.command == KB_COMMAND_COUNT)
        return kb_fail(err, KB_USAGE_ERROR, "a command is missing; hint: see --help");
    if (check_allowed(&a, err) != KB_OK)
        return err->code;
    *ret_flags = a.flags;
    return KB_OK;
}

const char *kb_flags_help(void)
{
    return "usage: kafka-backup-worker COMMAND [options]\n"
           "\n"
           "commands\n"
           "  backup      one backup of the selected topics\n"
           "  restore     write a backup into the target cluster\n"
           "  validate    check the integrity of a backup\n"
           "  describe    show one backup in full\n"
           "  list        show all backups, with -b those of a lineage\n"
           "  prune       remove what retention lets go, and what was left behind\n"
           "  offset-reset, offset-snapshot, offset-rollback, offset-verify, offset-delete\n"
           "              move committed offsets of groups; save, put back, compare, forget them\n"
           "\n"
           "options\n"
           "  -c, --config FILE       configuration, YAML; - is standard input\n"
           "      --path LOCATION     storage without a file (validate, describe, list, prune): a path, "
           "file:///dir,\n"
           "                          s3://BUCKET/PREFIX?region=&endpoint=, gs://BUCKET/PREFIX?endpoint=,\n"
           "                          azure://ACCOUNT/CONTAINER/PREFIX?endpoint=; credentials from the\n"
           "                          environment\n"
           "  -b, --backup-id ID      the backup, or the lineage to prune; wins over the file. For reading "
           "also\n"
           "                          the name of a lineage: its newest complete backup\n"
           "  -f, --format FORMAT     text or json: form of the result on standard output\n"
           "      --dry-run           restore: preflight only; prune, offset-reset,\n"
           "                          offset-rollback: show what would be done\n"
           "      --deep              validate: read every byte\n"
           "      --sample N/T        validate: read the N-th of T parts deeply\n"
           "      --full              backup: without a base\n"
           "      --adopt-lineage     backup: go on with a lineage of another owner\n"
           "      --strict            prune: what the store refuses to remove is a finding;\n"
           "                          offset-verify: differences are an error\n"
           "      --allow-pruned      also a backup that is marked for removal\n"
           "      --from-manifest     trust manifest.json alone\n"
           "      --from-backup-json  trust backup.json alone\n"
           "      --overlap skip      accept overlapping segments, drop repeated offsets\n"
           "      --allow-unknown     unknown keys of the configuration are warnings\n"
           "      --allow-unset-env   unset ${VARIABLES} are warnings\n"
           "      --check-config      print the effective configuration and end\n"
           "  -v, --verbose           one level more of logging\n"
           "      --log-level LEVEL   error, warn, info, debug, trace\n"
           "      --log-format FORMAT logfmt or json\n"
           "  -h, --help              this text\n"
           "  -V, --version           the version\n"
           "\n"
           "exit codes: 0 done, 3 done with findings, 64 usage, 65 bad data, 75 temporary, 77 permission,\n"
           "78 configuration, 130 and 143 interrupted (running again continues)\n";
}
