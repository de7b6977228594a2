#include "worker/restore/checks.h"

#include <stdarg.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"

#define KB_CHECK_TEXT_MAX 65536

void kb_checks_done(kb_checks *checks)
{
    for (size_t i = 0; i < checks->count; i++)
        free(checks->rows[i].text);
    free(checks->rows);
    *checks = (kb_checks){0};
}

static void add(kb_checks *checks, kb_code code, const char *check, char *owned_text)
{
    checks->rows = kb_grow(checks->rows, checks->count, &checks->capacity, sizeof *checks->rows);
    checks->rows[checks->count++] = (kb_check_row){check, code, owned_text};
    if (code != KB_OK)
        checks->refused++;
}

static char *format(const char *fmt, va_list args) __attribute__((format(printf, 1, 0)));

static char *format(const char *fmt, va_list args)
{
    char *text = NULL;
    if (vasprintf(&text, fmt, args) < 0)
        kb_out_of_memory();
    return text;
}

void kb_checks_warn(kb_checks *checks, const char *check, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *text = format(fmt, args);
    va_end(args);
    add(checks, KB_OK, check, text);
}

void kb_checks_refuse(kb_checks *checks, kb_code code, const char *check, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *text = format(fmt, args);
    va_end(args);
    add(checks, code, check, text);
}

void kb_checks_refuse_error(kb_checks *checks, const char *check, const kb_error *err)
{
    add(checks, err->code, check, kb_strdup(kb_error_text(err)));
}

static void report(const kb_checks *checks, bool refusals, kb_progress *progress)
{
    for (size_t i = 0; i < checks->count; i++) {
        const kb_check_row *row = &checks->rows[i];
        if ((row->code != KB_OK) != refusals)
            continue;
        kb_log(KB_LOG_WARN, refusals ? "preflight: refused" : "preflight: warning",
               KB_STR("check", row->check), KB_STR("detail", row->text));
        kb_progress_add_check(progress, row->check, refusals ? "refuse" : "warn", "%s", row->text);
    }
}

kb_code kb_checks_end(const kb_checks *checks, kb_progress *progress, kb_error *err)
{
    report(checks, true, progress);
    report(checks, false, progress);
    if (checks->refused == 0)
        return KB_OK;
    KB_AUTO_STRBUF(text, KB_CHECK_TEXT_MAX);
    kb_code code = KB_OK;
    for (size_t i = 0; i < checks->count; i++) {
        const kb_check_row *row = &checks->rows[i];
        if (row->code == KB_OK)
            continue;
        if (code == KB_OK)
            code = row->code;
        kb_strbuf_appendf(&text, "%s%s", text.len > 0 ? "; " : "", row->text);
    }
    return kb_fail(err, code, "%s", text.failed ? checks->rows[0].text : kb_strbuf_view(&text));
}
