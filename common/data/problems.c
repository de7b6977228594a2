#include "common/data/problems.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/strbuf.h"

#define KB_PROBLEMS_TEXT_MAX (1024u * 1024)

void kb_problems_init(kb_problems *problems, const char *file)
{
    *problems = (kb_problems){.file = kb_strdup_opt(file)};
}

void kb_problems_done(kb_problems *problems)
{
    for (size_t i = 0; i < problems->count; i++) {
        free(problems->items[i].path);
        free(problems->items[i].text);
    }
    free(problems->items);
    free(problems->file);
    *problems = (kb_problems){0};
}

void kb_problems_add(kb_problems *problems, kb_severity severity, unsigned line, unsigned column,
                     const char *path, const char *fmt, ...)
{
    if (severity == KB_SEVERITY_ERROR)
        problems->error_count++;
    if (problems->count == KB_PROBLEMS_MAX)
        return;
    char *text = NULL;
    va_list args;
    va_start(args, fmt);
    int len = vasprintf(&text, fmt, args);
    va_end(args);
    if (len < 0)
        kb_out_of_memory();
    problems->items = kb_grow(problems->items, problems->count, &problems->capacity, sizeof *problems->items);
    problems->items[problems->count++] =
        (kb_problem){severity, line, column, kb_strdup(path != NULL ? path : ""), text};
}

char *kb_problem_text(const kb_problems *problems, const kb_problem *problem)
{
    KB_AUTO_STRBUF(text, KB_PROBLEMS_TEXT_MAX);
    if (problems->file != NULL && problem->line > 0)
        kb_strbuf_appendf(&text, "%s:%u:%u: ", problems->file, problem->line, problem->column);
    else if (problems->file != NULL)
        kb_strbuf_appendf(&text, "%s: ", problems->file);
    if (problem->path[0] != '\0')
        kb_strbuf_appendf(&text, "%s: ", problem->path);
    kb_strbuf_appends(&text, problem->text);
    char *owned_text = kb_strbuf_take(&text);
    return owned_text != NULL ? owned_text : kb_strdup(problem->text);
}

/* By place; the order of discovery is kept within one. */
static int compare_places(const void *left, const void *right)
{
    const kb_problem *const *a = left, *const *b = right;
    if ((*a)->line != (*b)->line)
        return (*a)->line < (*b)->line ? -1 : 1;
    if ((*a)->column != (*b)->column)
        return (*a)->column < (*b)->column ? -1 : 1;
    return *a < *b ? -1 : *a > *b;
}

kb_code kb_problems_check(const kb_problems *problems, kb_code code, kb_error *err)
{
    if (problems->error_count == 0)
        return KB_OK;
    KB_AUTOFREE const kb_problem **errors = kb_calloc(problems->count + 1, sizeof(const kb_problem *));
    size_t count = 0;
    for (size_t i = 0; i < problems->count; i++) {
        if (problems->items[i].severity == KB_SEVERITY_ERROR)
            errors[count++] = &problems->items[i];
    }
    qsort(errors, count, sizeof(const kb_problem *), compare_places);
    KB_AUTO_STRBUF(text, KB_PROBLEMS_TEXT_MAX);
    for (size_t i = 0; i < count; i++) {
        KB_AUTOFREE char *line = kb_problem_text(problems, errors[i]);
        kb_strbuf_appendf(&text, "%s%s", i > 0 ? "\n" : "", line);
    }
    if (problems->error_count > count)
        kb_strbuf_appendf(&text, "\nand %zu more errors", problems->error_count - count);
    return kb_fail(err, code, "%s", text.failed ? "more errors than can be listed" : kb_strbuf_view(&text));
}
