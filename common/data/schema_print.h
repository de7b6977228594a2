/*
 * schema_print - a configuration struct as YAML, by its field table.
 *
 * Every field that has a value is printed, defaults included, secrets as ***; the text can be read again.
 * Texts are quoted where needed and "${" is written "$${". Threads: pure.
 */
#ifndef KB_COMMON_DATA_SCHEMA_PRINT_H
#define KB_COMMON_DATA_SCHEMA_PRINT_H

#include <stdint.h>

#include "common/base/strbuf.h"
#include "common/data/schema.h"

/* Appends the fields of the block, each line indented by `indent` levels. */
void kb_schema_print(const kb_schema *schema, const void *block, unsigned indent, kb_strbuf *to);

/* ---- for the print function of custom fields ---- */

void kb_schema_print_text(kb_schema_printer *printer, const char *key, const char *text);
void kb_schema_print_number(kb_schema_printer *printer, const char *key, int64_t value);
/* "key:" and, until the end, one level more. */
void kb_schema_print_begin(kb_schema_printer *printer, const char *key);
void kb_schema_print_fields(kb_schema_printer *printer, const kb_schema *schema, const void *block);
void kb_schema_print_end(kb_schema_printer *printer);
/* "key: {}" and the like; the text is not quoted. */
void kb_schema_print_literal(kb_schema_printer *printer, const char *key, const char *text);

#endif
