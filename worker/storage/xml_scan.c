#include "worker/storage/xml_scan.h"

#include <expat.h>
#include <limits.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/strbuf.h"

#define KB_XML_DEPTH 16
#define KB_XML_TEXT_BYTES 65536
#define KB_XML_PATH_BYTES 1024

typedef struct kb_level {
    kb_strbuf text;
    size_t path_len; /* of the parent */
} kb_level;

typedef struct kb_scan {
    XML_Parser parser;
    kb_xml_fn fn;
    void *ctx;
    kb_strbuf path;
    kb_level levels[KB_XML_DEPTH];
    size_t depth;
    kb_error error;
} kb_scan;

static void stop(kb_scan *scan)
{
    XML_StopParser(scan->parser, XML_FALSE);
}

static void refuse(kb_scan *scan, const char *reason)
{
    if (scan->error.code == KB_OK)
        (void)kb_fail(&scan->error, KB_ERR_FORMAT, "XML: %s", reason);
    stop(scan);
}

static const char *local_name(const char *name)
{
    const char *colon = strrchr(name, ':');
    return colon != NULL && colon[1] != '\0' ? colon + 1 : name;
}

static void XMLCALL on_start(void *ctx, const XML_Char *name, const XML_Char **attributes)
{
    (void)attributes;
    kb_scan *scan = ctx;
    if (scan->depth == KB_XML_DEPTH) {
        refuse(scan, "nested too deeply");
        return;
    }
    kb_level *level = &scan->levels[scan->depth++];
    level->path_len = scan->path.len;
    kb_strbuf_clear(&level->text);
    if (scan->path.len > 0)
        kb_strbuf_appendc(&scan->path, '/');
    kb_strbuf_appends(&scan->path, local_name(name));
    if (scan->path.failed)
        refuse(scan, "names too long");
}

static void XMLCALL on_text(void *ctx, const XML_Char *text, int len)
{
    kb_scan *scan = ctx;
    if (scan->depth == 0)
        return;
    kb_strbuf *to = &scan->levels[scan->depth - 1].text;
    kb_strbuf_append(to, text, (size_t)len);
    if (to->failed)
        refuse(scan, "an element with too much text");
}

static void XMLCALL on_end(void *ctx, const XML_Char *name)
{
    (void)name;
    kb_scan *scan = ctx;
    if (scan->error.code != KB_OK || scan->depth == 0)
        return;
    kb_level *level = &scan->levels[--scan->depth];
    if (scan->fn(scan->ctx, kb_strbuf_view(&scan->path), kb_strbuf_view(&level->text), level->text.len,
                 &scan->error) != KB_OK)
        stop(scan);
    scan->path.len = level->path_len;
    if (scan->path.data != NULL)
        scan->path.data[level->path_len] = '\0';
}

static void XMLCALL on_doctype(void *ctx, const XML_Char *name, const XML_Char *system,
                               const XML_Char *public, int has_subset)
{
    (void)name, (void)system, (void)public, (void)has_subset;
    refuse(ctx, "a document type declaration is not accepted");
}

static kb_code parse(kb_scan *scan, const char *xml, size_t len, kb_error *err)
{
    XML_SetUserData(scan->parser, scan);
    XML_SetElementHandler(scan->parser, on_start, on_end);
    XML_SetCharacterDataHandler(scan->parser, on_text);
    XML_SetStartDoctypeDeclHandler(scan->parser, on_doctype);
    enum XML_Status status = XML_Parse(scan->parser, xml, (int)len, XML_TRUE);
    if (scan->error.code != KB_OK) {
        kb_error_move(err, &scan->error);
        return err->code;
    }
    if (status != XML_STATUS_OK)
        return kb_fail(err, KB_ERR_FORMAT, "XML: %s", XML_ErrorString(XML_GetErrorCode(scan->parser)));
    return KB_OK;
}

kb_code kb_xml_scan(const char *xml, size_t len, kb_xml_fn fn, void *ctx, kb_error *err)
{
    if (len > INT_MAX)
        return kb_fail(err, KB_ERR_FORMAT, "XML: %zu bytes are too many", len);
    kb_scan scan = {.parser = XML_ParserCreate("UTF-8"), .fn = fn, .ctx = ctx};
    if (scan.parser == NULL)
        kb_out_of_memory();
    kb_strbuf_init(&scan.path, KB_XML_PATH_BYTES);
    for (size_t i = 0; i < KB_XML_DEPTH; i++)
        kb_strbuf_init(&scan.levels[i].text, KB_XML_TEXT_BYTES);
    kb_code code = parse(&scan, xml, len, err);
    for (size_t i = 0; i < KB_XML_DEPTH; i++)
        kb_strbuf_done(&scan.levels[i].text);
    kb_strbuf_done(&scan.path);
    kb_error_done(&scan.error);
    XML_ParserFree(scan.parser);
    return code;
}
