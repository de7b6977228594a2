#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "worker/backup/topic_select.h"

static const kb_topic_seen KB_CLUSTER[] = {
    {.name = "payments"},
    {.name = "orders"},
    {.name = "orders-dlq"},
    {.name = "__consumer_offsets"},
    {.name = "_schemas", .internal = true},
    {.name = "secret", .unauthorized = true},
    {.name = "../etc/passwd"},
    {.name = "gone", .missing = true},
    {.name = "sick", .error = "LEADER_NOT_AVAILABLE"},
};

#define KB_NAMES(...) ((const char *const[]){__VA_ARGS__})
#define KB_INCLUDE(...) .include = KB_NAMES(__VA_ARGS__), .include_count = KB_ARRAY_LEN(KB_NAMES(__VA_ARGS__))
#define KB_EXCLUDE(...) .exclude = KB_NAMES(__VA_ARGS__), .exclude_count = KB_ARRAY_LEN(KB_NAMES(__VA_ARGS__))

typedef struct select_row {
    const char *what;
    kb_topic_rules rules;
    kb_code code;
    const char *chosen;  /* joined by blanks */
    const char *skipped; /* name:reason */
} select_row;

static void check_row(const select_row *row)
{
    KB_CLEANUP(kb_topic_selection_done) kb_topic_selection selection = {0};
    KB_AUTO_ERROR(err);
    kb_code code = kb_topic_select(&row->rules, KB_CLUSTER, KB_ARRAY_LEN(KB_CLUSTER), &selection, &err);
    if (code != row->code)
        fail_msg("%s: code %d, %s", row->what, (int)code, kb_error_text(&err));
    if (code != KB_OK)
        return;
    KB_AUTO_STRBUF(chosen, 1000);
    KB_AUTO_STRBUF(skipped, 1000);
    for (size_t i = 0; i < selection.chosen_count; i++)
        kb_strbuf_appendf(&chosen, "%s%s", i > 0 ? " " : "", KB_CLUSTER[selection.chosen[i]].name);
    for (size_t i = 0; i < selection.skipped_count; i++)
        kb_strbuf_appendf(&skipped, "%s%s:%s", i > 0 ? " " : "", selection.skipped[i].name,
                          selection.skipped[i].reason);
    if (strcmp(kb_strbuf_view(&chosen), row->chosen) != 0 ||
        strcmp(kb_strbuf_view(&skipped), row->skipped) != 0)
        fail_msg("%s: chosen '%s' skipped '%s'", row->what, kb_strbuf_view(&chosen),
                 kb_strbuf_view(&skipped));
}

static void select_table_agrees(void **state)
{
    (void)state;
    const select_row rows[] = {
        {"glob, sorted", {KB_INCLUDE("or*", "pay*")}, KB_OK, "orders orders-dlq payments", ""},
        {"exclude wins", {KB_INCLUDE("or*"), KB_EXCLUDE("*-dlq")}, KB_OK, "orders", ""},
        {"literal that is absent", {KB_INCLUDE("orders", "nope")}, KB_TOPIC_NOT_FOUND, NULL, NULL},
        {"absent with warn",
         {KB_INCLUDE("orders", "nope"), .warn_missing = true},
         KB_OK,
         "orders",
         "nope:missing"},
        {"unauthorized", {KB_INCLUDE("secret")}, KB_KAFKA_ACCESS_DENIED, NULL, NULL},
        {"unauthorized with warn",
         {KB_INCLUDE("secret", "orders"), .warn_unauthorized = true},
         KB_OK,
         "orders",
         "secret:unauthorized"},
        {"metadata fails", {KB_INCLUDE("sick")}, KB_KAFKA_UNREACHABLE, NULL, NULL},
        {"illegal name is listed",
         {KB_INCLUDE("orders", "*etc*")},
         KB_OK,
         "orders",
         "../etc/passwd:illegal name"},
        {"internal stays out", {KB_INCLUDE("_*")}, KB_CONFIG_INVALID, NULL, NULL},
        {"internal asked for",
         {KB_INCLUDE("_*"), .include_internal = true},
         KB_OK,
         "__consumer_offsets _schemas",
         ""},
        {"internal narrowed",
         {KB_INCLUDE("_*"), .include_internal = true, .internal = (const char *const[]){"_schemas"},
          .internal_count = 1},
         KB_OK,
         "_schemas",
         ""},
        {"regular expression", {KB_INCLUDE("~or.*")}, KB_CONFIG_INVALID, NULL, NULL},
        {"nothing", {KB_INCLUDE("zzz*")}, KB_CONFIG_INVALID, NULL, NULL},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++)
        check_row(&rows[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(select_table_agrees)};
    return cmocka_run_group_tests_name("topic_select", tests, NULL, NULL);
}
