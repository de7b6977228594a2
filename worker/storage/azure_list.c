#include "worker/storage/azure_list.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/mem.h"
#include "common/net/http_retry.h"
#include "worker/storage/object_page.h"
#include "worker/storage/xml_scan.h"

#define BLOBS "EnumerationResults/Blobs/"

typedef struct scan {
    const char *prefix;
    kb_list_page page;
    size_t capacity;
    char *name; /* of the record at hand */
    kb_object_info info;
    bool is_directory; /* an entry of an account with a hierarchical namespace, no blob */
    bool has_root;
} scan;

static void scan_done(scan *s)
{
    kb_list_page_done(&s->page);
    free(s->name);
}

static kb_code end_record(scan *s, bool is_folder, kb_error *err)
{
    KB_AUTOFREE char *name = KB_TAKE(s->name);
    if (name == NULL)
        return kb_fail(err, KB_ERR_FORMAT, "a listed blob has no name");
    if (is_folder || !s->is_directory)
        kb_object_page_add(&s->page, &s->capacity, s->prefix, name, is_folder, &s->info);
    s->info = (kb_object_info){0, 0};
    s->is_directory = false;
    return KB_OK;
}

static kb_code read_size(scan *s, const char *text, kb_error *err)
{
    int64_t size = 0;
    if (text[0] != '\0' && (!kb_parse_i64(text, &size) || size < 0))
        return kb_fail(err, KB_ERR_FORMAT, "a listed blob's size is no number");
    s->info.size_bytes = (uint64_t)size;
    return KB_OK;
}

/* Unfinished blobs may have no time at all. */
static kb_code read_time(scan *s, const char *text, kb_error *err)
{
    if (text[0] != '\0' && !kb_http_parse_date(text, &s->info.mtime_ms))
        return kb_fail(err, KB_ERR_FORMAT, "a listed blob's time is none");
    return KB_OK;
}

static kb_code on_element(void *ctx, const char *path, const char *text, size_t len, kb_error *err)
{
    scan *s = ctx;
    (void)len;
    if (strcmp(path, BLOBS "Blob/Name") == 0 || strcmp(path, BLOBS "BlobPrefix/Name") == 0) {
        free(s->name);
        s->name = kb_strdup(text);
    } else if (strcmp(path, BLOBS "Blob/Properties/Content-Length") == 0) {
        return read_size(s, text, err);
    } else if (strcmp(path, BLOBS "Blob/Properties/Last-Modified") == 0) {
        return read_time(s, text, err);
    } else if (strcmp(path, BLOBS "Blob/Properties/ResourceType") == 0) {
        s->is_directory = strcmp(text, "directory") == 0;
    } else if (strcmp(path, BLOBS "Blob") == 0) {
        return end_record(s, false, err);
    } else if (strcmp(path, BLOBS "BlobPrefix") == 0) {
        return end_record(s, true, err);
    } else if (strcmp(path, "EnumerationResults/NextMarker") == 0 && text[0] != '\0') {
        free(s->page.next);
        s->page.next = kb_strdup(text);
    } else if (strcmp(path, "EnumerationResults") == 0) {
        s->has_root = true;
    }
    return KB_OK;
}

kb_code kb_azure_list_parse(const char *xml, size_t len, const char *prefix, kb_list_page *ret_page,
                            kb_error *err)
{
    KB_CLEANUP(scan_done) scan s = {.prefix = prefix};
    kb_code code = kb_xml_scan(xml, len, on_element, &s, err);
    if (code == KB_OK && !s.has_root)
        code = kb_fail(err, KB_ERR_FORMAT, "the answer is no listing");
    if (code != KB_OK)
        return code;
    kb_object_page_sort(&s.page);
    *ret_page = s.page;
    s.page = (kb_list_page)KB_LIST_PAGE_INIT;
    return KB_OK;
}
