/*
 * fs_list - a directory tree as a sorted list of keys, and the sweep of hidden files.
 *
 * Order is bytewise by whole key, so a directory sorts as its name with a '/' behind it. Per level at most
 * two pages of names are in memory, however many entries a directory has. Only regular files and directories
 * count; files that begin with '.' are hidden, and in the root everything that does, and "lost+found".
 * Threads: any.
 */
#ifndef KB_WORKER_STORAGE_FS_LIST_H
#define KB_WORKER_STORAGE_FS_LIST_H

#include "common/base/error.h"
#include "worker/storage/fs_root.h"
#include "worker/storage/storage.h"

/* As kb_storage_list_page. An empty directory is listed as a folder. */
kb_code kb_fs_list_page(kb_fs_root *root, const kb_list_options *options, kb_list_page *ret_page,
                        kb_error *err) KB_CHECK;
/* Removes the hidden files of unfinished uploads below a prefix; *ret_count says how many. */
kb_code kb_fs_sweep(kb_fs_root *root, const char *prefix, size_t *ret_count, kb_error *err) KB_CHECK;
/* Tells them instead; the key of a leftover is the hidden file's path, its time that of the last write. */
kb_code kb_fs_leftovers(kb_fs_root *root, const char *prefix, kb_leftover_fn fn, void *ctx,
                        kb_error *err) KB_CHECK;

#endif
