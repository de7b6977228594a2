#include "common/base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

KB_PRINTF(1, 0) static char *format_text(const char *fmt, va_list args)
{
    char *text = NULL;
    if (vasprintf(&text, fmt, args) < 0)
        kb_out_of_memory();
    return text;
}

static kb_code set_error(kb_error *err, kb_code code, bool retryable, char *owned_text)
{
    free(err->text);
    err->code = code;
    err->retryable = retryable;
    err->text = owned_text;
    return code;
}

kb_code kb_fail(kb_error *err, kb_code code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *text = format_text(fmt, args);
    va_end(args);
    return set_error(err, code, false, text);
}

kb_code kb_fail_retryable(kb_error *err, kb_code code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *text = format_text(fmt, args);
    va_end(args);
    return set_error(err, code, true, text);
}

static kb_code wrap(kb_error *err, kb_code code, char *owned_context)
{
    char *text = kb_asprintf("%s: %s", owned_context, kb_error_text(err));
    free(owned_context);
    return set_error(err, code, err->retryable, text);
}

kb_code kb_wrap(kb_error *err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *context = format_text(fmt, args);
    va_end(args);
    return wrap(err, err->code, context);
}

kb_code kb_wrap_as(kb_error *err, kb_code code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *context = format_text(fmt, args);
    va_end(args);
    return wrap(err, code, context);
}

const char *kb_errno_text(int number)
{
    static _Thread_local char buffer[128]; /* as long as the longest text of glibc, doubled */
    return strerror_r(number, buffer, sizeof buffer);
}

const char *kb_error_text(const kb_error *err)
{
    return err->text != NULL ? err->text : "";
}

void kb_error_move(kb_error *to, kb_error *from)
{
    if (to == from)
        return;
    (void)set_error(to, from->code, from->retryable, from->text);
    *from = (kb_error)KB_ERROR_INIT;
}

void kb_error_done(kb_error *err)
{
    (void)set_error(err, KB_OK, false, NULL);
}
