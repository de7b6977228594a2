/* Fuzzes the headers that are read of HTTP answers: Content-Range, Date, Retry-After. */
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/net/http_retry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KB_AUTOFREE char *text = kb_strndup((const char *)data, size);
    uint64_t first = 0, last = 0, total = 0;
    int64_t ms = 0;
    if (kb_http_parse_content_range(text, &first, &last, &total) && (first > last || last >= total))
        abort();
    if (kb_http_parse_date(text, &ms) && (ms < KB_TIME_MIN_MS || ms > KB_TIME_MAX_MS))
        abort();
    if (kb_http_parse_retry_after(text, 0, &ms) && ms < 0)
        abort();
    return 0;
}
