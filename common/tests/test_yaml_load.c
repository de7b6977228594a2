#include "common/data/yaml_load.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/strbuf.h"

/* The environment of these tests: A = alpha, EMPTY = "", HOSTILE = a text with YAML in it, BAD = not UTF-8.
 */
static const char *fake_env(void *ctx, const char *name)
{
    (void)ctx;
    static const struct {
        const char *name, *value;
    } variables[] = {{"A", "alpha"},
                     {"EMPTY", ""},
                     {"HOSTILE", "x\nevil: true # ${A}"},
                     {"BAD", "\xff"},
                     {"_n1", "seven"}};
    for (size_t i = 0; i < KB_ARRAY_LEN(variables); i++) {
        if (strcmp(variables[i].name, name) == 0)
            return variables[i].value;
    }
    return NULL;
}

/* The tree in one line: maps as {k=v ...}, lists as [..], quoted scalars in ''. */
static void dump(const kb_yaml_node *node, kb_strbuf *to)
{
    if (node->kind == KB_YAML_SCALAR) {
        kb_strbuf_appendf(to, node->is_plain ? "%s" : "'%s'", node->text);
        return;
    }
    kb_strbuf_appends(to, node->is_specific ? "!" : "");
    kb_strbuf_appendc(to, node->kind == KB_YAML_MAP ? '{' : '[');
    for (size_t i = 0; i < node->count; i++) {
        kb_strbuf_appends(to, i > 0 ? " " : "");
        if (node->kind == KB_YAML_MAP)
            kb_strbuf_appendf(to, "%s=", node->keys[i]->text);
        dump(node->values[i], to);
    }
    kb_strbuf_appendc(to, node->kind == KB_YAML_MAP ? '}' : ']');
}

#define CASE(text, tree) {text, sizeof(text) - 1, tree}
static const struct {
    const char *text;
    size_t len;
    const char *tree;
} good_cases[] = {
    CASE("", "{}"),
    CASE("# nothing\n", "{}"),
    CASE("---\n", "{}"),
    CASE("~", "{}"),
    CASE("%YAML 1.1\n---\na: 1\n", "{a=1}"),
    CASE("a: 1\nb: 'x'\nc: \"y\\n\"\nd: no\ne:\nf: ~\n", "{a=1 b='x' c='y\n' d=no e= f=~}"),
    CASE("---\na: [1, two, {b: c}]\n...\n", "{a=[1 two {b=c}]}"),
    CASE("\xef\xbb\xbf"
         "a: 1\r\nb:\r\n  c: 2\r\n",
         "{a=1 b={c=2}}"),
    CASE("{\"a\": {\"b\": [true, null]}}", "{a={b=[true null]}}"),
    CASE("s: !specific {t: {0: 5}}\n", "{s=!{t={0=5}}}"),
    CASE("a: !!str 5\nb: !!int 6\nc: ! 7\n", "{a='5' b=6 c='7'}"),
    CASE("a: |\n  x\n  y\n", "{a='x\ny\n'}"),
    CASE("a: \xc3\xa9\n", "{a=\xc3\xa9}"),
    CASE("a: ${A}\nb: 'x${A}y${A}'\n", "{a=alpha b='xalphayalpha'}"),
    CASE("a: ${_n1}\n", "{a=seven}"),
    CASE("a: ${NONE:-}\nb: ${NONE:-d e:f}\nc: ${EMPTY:-x}\nd: ${A:-x}\n", "{a= b=d e:f c=x d=alpha}"),
    CASE("a: ${EMPTY}\n", "{a=}"),
    CASE("a: $${A}\nb: $A $$ $ $$A {A}\nc: $$${A}\n", "{a=${A} b=$A $$ $ $$A {A} c=$${A}}"),
    CASE("a: ${HOSTILE}\n", "{a=x\nevil: true # ${A}}"),
    CASE("a: '${HOSTILE}'\nl: ['${A}']\n", "{a='x\nevil: true # ${A}' l=['alpha']}"),
    CASE("${A}: 1 # ${NONE} ${\n", "{${A}=1}"),
    CASE("a: '#'\n'': 1\n", "{a='#' =1}"),
};

static void kb_yaml_load_valid_text_gives_its_tree(void **state)
{
    (void)state;
    const kb_yaml_options options = {.get_env = fake_env};
    for (size_t i = 0; i < KB_ARRAY_LEN(good_cases); i++) {
        KB_AUTO_STRBUF(tree, 4096);
        kb_problems problems;
        kb_problems_init(&problems, "f");
        KB_CLEANUP(kb_yaml_free_at) kb_yaml_node *root = NULL;
        kb_code code =
            kb_yaml_load(kb_view_of(good_cases[i].text, good_cases[i].len), &options, &problems, &root);
        if (code != KB_OK || problems.count > 0)
            fail_msg("case %zu: %s", i, problems.count > 0 ? problems.items[0].text : "?");
        dump(root, &tree);
        assert_string_equal(kb_strbuf_view(&tree), good_cases[i].tree);
        kb_problems_done(&problems);
    }
}

#define BAD(text, why) {text, sizeof(text) - 1, why}
static const struct {
    const char *text;
    size_t len;
    const char *why; /* whole lines of the error, in order; the last may be the start of one */
} bad_cases[] = {
    BAD("a: 1\nb: 2\na: 3\nb: 4\n",
        "f:3:1: a: duplicate key, first given in line 1; hint: remove one of the two\n"
        "f:4:1: b: duplicate key"),
    BAD("a:\n  b: {c: 1, c: 2}\n", "f:2:13: a.b.c: duplicate key"),
    BAD("a: 1\n---\nb: 2\n", "f:2:1: a second document"),
    BAD("a: &x 1\nb: *x\n", "f:1:4: a: anchors are not supported; hint: write the value out\n"
                            "f:2:4: b: aliases are not supported"),
    BAD("a: &x {b: 1}\nc: {<<: *x}\n", "f:1:4: a: anchors are not supported; hint: write the value out\n"
                                       "f:2:5: c.<<: merge keys are not supported; hint: write the keys out\n"
                                       "f:2:9: c.<<: aliases"),
    BAD("a: {<<: {b: 1}}\n", "f:1:5: a.<<: merge keys are not supported"),
    BAD("- 1\n", "f:1:1: expected a map of keys"),
    BAD("text\n", "f:1:1: expected a map of keys"),
    BAD("a: [1\nb: 2\n", "f:2:2: while parsing a flow sequence"),
    BAD("a: 1\n b: 2\n", "f:2:3: mapping values are not allowed"),
    BAD("a:\n\tb: 1\n", "f:2:1: while scanning for the next token"),
    BAD("a: 'x\n", "f:2:1: while scanning a quoted scalar"),
    BAD("a: \0b\n", "f:1:4: a NUL byte"),
    BAD("a: 1\nb: \"\\0\"\n", "f:2:4: b: NUL in a text"),
    BAD("a: 1\nb: \xc3\n", "f:2:4: not valid UTF-8"),
    BAD("a: \xc3\xa9\xff\n", "f:1:5: not valid UTF-8"),
    BAD("\xff\xfe"
        "a\0",
        "f:1:1: not valid UTF-8"),
    BAD("a: \x01\n", "f:1:"),
    BAD("? [a]\n: 1\n", "f:1:3: a key must be a plain word"),
    BAD("a: !foo 1\nb: !specific 1\nc: !bar {}\nd: !specific []\ne: !!binary aGk=\n",
        "f:1:4: a: this tag is not supported\nf:2:4: b: this tag is not supported\n"
        "f:3:4: c: this tag is not supported\nf:4:4: d: this tag is not supported\n"
        "f:5:4: e: this tag is not supported"),
    BAD("a: ${NONE}\nb:\n  - x\n  - 'y${NONE2}'\n",
        "f:1:4: a: environment variable NONE is not set; hint: set it, or give a default: ${NAME:-text}\n"
        "f:4:5: b[1]: environment variable NONE2 is not set"),
    BAD("a: ${A\n", "f:1:4: a: '${' without '}'"),
    BAD("a: ${}\n", "f:1:4: a: expected ${NAME} or ${NAME:-text}"),
    BAD("a: ${1A}\n", "f:1:4: a: expected ${NAME}"),
    BAD("a: ${A-b}\n", "f:1:4: a: expected ${NAME}"),
    BAD("a: ${A B}\n", "f:1:4: a: expected ${NAME}"),
    BAD("a: ${BAD}\n", "f:1:4: a: environment variable BAD is not valid UTF-8"),
    BAD("a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "f:1:35: a[0][0]"),
};

/* Loads a bad text and returns the error's text; it must begin with `why`. */
static void expect_problems(const char *text, size_t len, const char *why)
{
    const kb_yaml_options options = {.get_env = fake_env};
    KB_AUTO_ERROR(err);
    kb_problems problems;
    kb_problems_init(&problems, "f");
    KB_CLEANUP(kb_yaml_free_at) kb_yaml_node *root = NULL;
    kb_code code = kb_yaml_load(kb_view_of(text, len), &options, &problems, &root);
    assert_true(code == KB_ERR_FORMAT || code == KB_OK);
    assert_int_equal(kb_problems_check(&problems, KB_CONFIG_INVALID, &err), KB_CONFIG_INVALID);
    if (strncmp(kb_error_text(&err), why, strlen(why)) != 0)
        fail_msg("\"%s\" does not begin with \"%s\"", kb_error_text(&err), why);
    kb_problems_done(&problems);
}

static void kb_yaml_load_invalid_text_is_refused_with_its_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < KB_ARRAY_LEN(bad_cases); i++)
        expect_problems(bad_cases[i].text, bad_cases[i].len, bad_cases[i].why);
}

static void kb_yaml_load_ten_thousand_levels_are_refused_early(void **state)
{
    (void)state;
    KB_AUTO_STRBUF(flow, 1 << 20);
    KB_AUTO_STRBUF(block, 1 << 20);
    kb_strbuf_appends(&flow, "a: ");
    for (int i = 0; i < 10000; i++)
        kb_strbuf_appendc(&flow, i % 2 == 0 ? '[' : '{');
    expect_problems(flow.data, flow.len, "f:1:");
    for (int i = 0; i < 10000; i++)
        kb_strbuf_appends(&block, "- ");
    expect_problems(block.data, block.len, "f:1:65: [0]");
}

static void kb_yaml_load_depth_of_32_is_accepted(void **state)
{
    (void)state;
    KB_AUTO_STRBUF(text, 4096);
    for (int i = 0; i < 32; i++)
        kb_strbuf_appends(&text, "{a: ");
    kb_strbuf_appends(&text, "1");
    for (int i = 0; i < 32; i++)
        kb_strbuf_appends(&text, "}");
    kb_problems problems;
    kb_problems_init(&problems, "f");
    KB_CLEANUP(kb_yaml_free_at) kb_yaml_node *root = NULL;
    assert_int_equal(kb_yaml_load(kb_view_of(text.data, text.len), NULL, &problems, &root), KB_OK);
    assert_int_equal(problems.count, 0);
    kb_problems_done(&problems);
}

static void kb_yaml_load_alias_bomb_is_refused_without_expansion(void **state)
{
    (void)state;
    static const char bomb[] = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
                               "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n";
    expect_problems(bomb, sizeof bomb - 1, "f:1:4: a: anchors are not supported");
}

static void kb_yaml_load_beyond_a_mebibyte_is_refused(void **state)
{
    (void)state;
    size_t len = KB_YAML_MAX_BYTES + 1;
    KB_AUTOFREE char *text = kb_malloc(len);
    memset(text, '#', len);
    expect_problems(text, len, "f: larger than 1 MiB");
}

static const char *long_env(void *ctx, const char *name)
{
    (void)name;
    return ctx;
}

static void kb_yaml_load_many_long_variables_are_bounded(void **state)
{
    (void)state;
    size_t len = 100000;
    KB_AUTOFREE char *value = kb_malloc(len + 1);
    memset(value, 'v', len);
    value[len] = '\0';
    KB_AUTO_STRBUF(text, 1 << 20);
    kb_strbuf_appends(&text, "a: [");
    for (int i = 0; i < 1000; i++)
        kb_strbuf_appends(&text, "'${V}${V}',");
    kb_strbuf_appends(&text, "]");
    const kb_yaml_options options = {.get_env = long_env, .env_ctx = value};
    kb_problems problems;
    kb_problems_init(&problems, "f");
    KB_CLEANUP(kb_yaml_free_at) kb_yaml_node *root = NULL;
    assert_int_equal(kb_yaml_load(kb_view_of(text.data, text.len), &options, &problems, &root), KB_OK);
    assert_true(problems.error_count > 900);
    assert_non_null(strstr(problems.items[0].text, "exceed 8 MiB"));
    kb_problems_done(&problems);
}

static void kb_yaml_load_unset_variable_allowed_is_empty_with_a_warning(void **state)
{
    (void)state;
    const kb_yaml_options options = {.get_env = fake_env, .allow_unset_env = true};
    static const char text[] = "a: x${NONE}y\n";
    kb_problems problems;
    kb_problems_init(&problems, "f");
    KB_CLEANUP(kb_yaml_free_at) kb_yaml_node *root = NULL;
    assert_int_equal(kb_yaml_load(kb_view_of(text, sizeof text - 1), &options, &problems, &root), KB_OK);
    assert_string_equal(kb_yaml_get(root, "a")->text, "xy");
    assert_int_equal(problems.count, 1);
    assert_int_equal(problems.items[0].severity, KB_SEVERITY_WARNING);
    assert_int_equal(problems.error_count, 0);
    kb_problems_done(&problems);
}

static void kb_yaml_find_paths_lead_to_nodes_with_their_place(void **state)
{
    (void)state;
    static const char text[] = "a:\n  b:\n    c: x\n  d: ~\n";
    kb_problems problems;
    kb_problems_init(&problems, "f");
    KB_CLEANUP(kb_yaml_free_at) kb_yaml_node *root = NULL;
    assert_int_equal(kb_yaml_load(kb_view_of(text, sizeof text - 1), NULL, &problems, &root), KB_OK);
    const kb_yaml_node *node = kb_yaml_find(root, "a.b.c");
    assert_string_equal(node->text, "x");
    assert_int_equal(node->line, 3);
    assert_int_equal(node->column, 8);
    assert_null(kb_yaml_find(root, "a.b.x"));
    assert_null(kb_yaml_find(root, "a.b.c.d"));
    assert_true(kb_yaml_is_null(kb_yaml_find(root, "a.d")));
    assert_true(kb_yaml_is_null(NULL));
    assert_false(kb_yaml_is_null(node));
    kb_problems_done(&problems);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_yaml_load_valid_text_gives_its_tree),
        cmocka_unit_test(kb_yaml_load_invalid_text_is_refused_with_its_place),
        cmocka_unit_test(kb_yaml_load_ten_thousand_levels_are_refused_early),
        cmocka_unit_test(kb_yaml_load_depth_of_32_is_accepted),
        cmocka_unit_test(kb_yaml_load_alias_bomb_is_refused_without_expansion),
        cmocka_unit_test(kb_yaml_load_beyond_a_mebibyte_is_refused),
        cmocka_unit_test(kb_yaml_load_many_long_variables_are_bounded),
        cmocka_unit_test(kb_yaml_load_unset_variable_allowed_is_empty_with_a_warning),
        cmocka_unit_test(kb_yaml_find_paths_lead_to_nodes_with_their_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
