/*
 * object_page - addresses of objects, and pages of a listing out of a service's answer.
 *
 * Threads: pure functions; a page belongs to one thread.
 */
#ifndef KB_WORKER_STORAGE_OBJECT_PAGE_H
#define KB_WORKER_STORAGE_OBJECT_PAGE_H

#include "common/base/strbuf.h"
#include "worker/storage/storage.h"

/* Appends text percent-encoded (RFC 3986: unreserved characters stay), but for the characters of `also`. */
void kb_url_append(kb_strbuf *to, const char *text, const char *also);

/*
 * Adds the object or folder with this name (object_name.h) to a page. A name that is no key of ours is left
 * out. prefix is the store's.
 */
void kb_object_page_add(kb_list_page *page, size_t *capacity, const char *prefix, const char *name,
                        bool is_folder, const kb_object_info *info);
/* Sorts the entries by key, bytewise: services tell folders apart, and encoded names sort elsewhere. */
void kb_object_page_sort(kb_list_page *page);

#endif
