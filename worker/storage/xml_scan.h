/*
 * xml_scan - reads the small XML documents of object stores; the only user of expat.
 *
 * One pass, no tree: each element is reported when it ends, with its path and its own text. Names are without
 * namespace prefixes. Hostile documents are bounded: no DTD and so no entities of their own, 16 levels, 64
 * KiB of text in one element. Threads: pure function.
 */
#ifndef KB_WORKER_STORAGE_XML_SCAN_H
#define KB_WORKER_STORAGE_XML_SCAN_H

#include <stddef.h>

#include "common/base/error.h"

/*
 * path: "ListBucketResult/Contents/Key". text: character data directly in this element, NUL-terminated, ""
 * when there is none; entities are resolved, white space is kept. Elements end inside out, so a record is
 * whole when its own element ends. Anything but KB_OK ends the scan with that result.
 */
typedef kb_code (*kb_xml_fn)(void *ctx, const char *path, const char *text, size_t len, kb_error *err);

/* Fails with KB_ERR_FORMAT: not well-formed, a DTD, beyond a limit, no element at all. */
kb_code kb_xml_scan(const char *xml, size_t len, kb_xml_fn fn, void *ctx, kb_error *err) KB_CHECK;

#endif
