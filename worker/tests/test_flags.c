#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "worker/cmd/flags.h"

#define KB_MAX_ARGS 12

static kb_code parse_line(const char *line, kb_flags *flags, kb_error *err)
{
    static char copy[256];
    assert_true(strlen(line) < sizeof copy);
    memcpy(copy, line, strlen(line) + 1);
    char *argv[KB_MAX_ARGS] = {(char *)(uintptr_t)"worker"};
    int argc = 1;
    char *save = NULL;
    for (char *word = strtok_r(copy, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save))
        argv[argc++] = word;
    return kb_flags_parse(argc, argv, flags, err);
}

static void parse_refused_lines_name_the_argument(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        kb_code code;
        const char *text;
    } rows[] = {
        {"", KB_USAGE_ERROR, "command is missing"},
        {"bakcup -c f", KB_USAGE_ERROR, "unknown command 'bakcup'"},
        {"prune", KB_USAGE_ERROR, "the command prune needs --config FILE or --path LOCATION"},
        {"backup -c f --strict", KB_USAGE_ERROR, "--strict does not go with the command backup"},
        {"backup", KB_USAGE_ERROR, "needs --config"},
        {"backup -c", KB_USAGE_ERROR, "a value is missing"},
        {"backup -c f -c g", KB_USAGE_ERROR, "given twice"},
        {"backup -c f --deep", KB_USAGE_ERROR, "--deep does not go with"},
        {"backup -c f extra", KB_USAGE_ERROR, "unexpected argument 'extra'"},
        {"backup -c f -x", KB_USAGE_ERROR, "'-x'"},
        {"backup --path /d", KB_USAGE_ERROR, "--path does not go with"},
        {"list --path /d -f yaml", KB_USAGE_ERROR, "expected text or json"},
        {"list --deep=1 --path /d", KB_USAGE_ERROR, "takes no value"},
        {"validate --path /d --sample 0/4", KB_USAGE_ERROR, "1 <= N <= T"},
        {"validate --path /d --sample 5/4", KB_USAGE_ERROR, "1 <= N <= T"},
        {"validate --path /d --sample 1/4x", KB_USAGE_ERROR, "1 <= N <= T"},
        {"validate --path /d --overlap drop", KB_USAGE_ERROR, "expected skip"},
        {"describe --path /d --from-manifest --from-backup-json", KB_USAGE_ERROR, "exclude each other"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        kb_flags flags;
        KB_AUTO_ERROR(err);
        kb_code code = parse_line(rows[i].line, &flags, &err);
        if (code != rows[i].code || strstr(kb_error_text(&err), rows[i].text) == NULL)
            fail_msg("'%s': code %d, '%s'", rows[i].line, (int)code, kb_error_text(&err));
    }
}

static void parse_full_line_sets_each_flag(void **state)
{
    (void)state;
    kb_flags flags;
    KB_AUTO_ERROR(err);
    assert_int_equal(
        parse_line("-vv validate --config=f -bid --sample 2/8 --deep -f json --overlap skip", &flags, &err),
        KB_OK);
    assert_int_equal(flags.command, KB_COMMAND_VALIDATE);
    assert_string_equal(flags.config, "f");
    assert_string_equal(flags.backup_id, "id");
    assert_int_equal(flags.sample_index, 2);
    assert_int_equal(flags.sample_parts, 8);
    assert_int_equal(flags.verbose, 2);
    assert_int_equal(flags.format, KB_OUTPUT_JSON);
    assert_true(flags.deep && flags.overlap_skip && !flags.dry_run);
}

static void parse_help_needs_no_command(void **state)
{
    (void)state;
    kb_flags flags;
    KB_AUTO_ERROR(err);
    assert_int_equal(parse_line("-h", &flags, &err), KB_OK);
    assert_true(flags.help);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse_refused_lines_name_the_argument),
        cmocka_unit_test(parse_full_line_sets_each_flag),
        cmocka_unit_test(parse_help_needs_no_command),
    };
    return cmocka_run_group_tests_name("flags", tests, NULL, NULL);
}
