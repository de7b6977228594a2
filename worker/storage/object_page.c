#include "worker/storage/object_page.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "worker/storage/object_name.h"

void kb_url_append(kb_strbuf *to, const char *text, const char *also)
{
    for (const char *c = text; *c != '\0'; c++) {
        bool is_plain = isascii((unsigned char)*c) && isalnum((unsigned char)*c);
        if (is_plain || strchr("-._~", *c) != NULL || strchr(also, *c) != NULL)
            kb_strbuf_appendc(to, *c);
        else
            kb_strbuf_appendf(to, "%%%02X", (unsigned char)*c);
    }
}

void kb_object_page_add(kb_list_page *page, size_t *capacity, const char *prefix, const char *name,
                        bool is_folder, const kb_object_info *info)
{
    char *key = kb_object_key(prefix, name);
    if (key == NULL)
        return;
    size_t len = strlen(key);
    /* A folder's own marker, an empty object that some tools make, is no object of ours. */
    if (!is_folder && key[len - 1] == '/') {
        free(key);
        return;
    }
    page->entries = kb_grow(page->entries, page->count, capacity, sizeof *page->entries);
    page->entries[page->count++] =
        (kb_list_entry){key, is_folder, is_folder ? (kb_object_info){0, 0} : *info};
}

static int compare_entries(const void *left, const void *right)
{
    const kb_list_entry *a = left, *b = right;
    return strcmp(a->key, b->key);
}

void kb_object_page_sort(kb_list_page *page)
{
    if (page->count > 1)
        qsort(page->entries, page->count, sizeof *page->entries, compare_entries);
}
