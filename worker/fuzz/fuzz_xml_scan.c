/* fuzz_xml_scan - any bytes as an XML answer of a store. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "worker/storage/xml_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static kb_code look(void *ctx, const char *path, const char *text, size_t len, kb_error *err)
{
    (void)ctx, (void)err;
    if (path[0] == '\0' || text[len] != '\0')
        abort();
    return KB_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KB_AUTO_ERROR(err);
    kb_code code = kb_xml_scan((const char *)data, size, look, NULL, &err);
    if (code != KB_OK && code != KB_ERR_FORMAT)
        abort();
    return 0;
}
