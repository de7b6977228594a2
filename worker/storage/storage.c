#include "worker/storage/storage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/base/mem.h"
#include "worker/storage/storage_driver.h"

#define KB_ATTEMPT_HEX_DIGITS 32

struct kb_storage {
    const kb_storage_driver *driver;
    void *state; /* owned */
    kb_storage_caps caps;
    char *describe; /* owned */
};

struct kb_upload {
    kb_storage *storage; /* borrowed */
    void *impl;          /* owned */
    uint64_t bytes;
    bool ended;
};

void kb_blob_done(kb_blob *blob)
{
    free(blob->data);
    *blob = (kb_blob)KB_BLOB_INIT;
}

void kb_list_page_done(kb_list_page *page)
{
    for (size_t i = 0; i < page->count; i++)
        free(page->entries[i].key);
    free(page->entries);
    free(page->next);
    *page = (kb_list_page)KB_LIST_PAGE_INIT;
}

/* ---- construction ---- */

static bool is_complete(const kb_storage_driver *d)
{
    return d->name != NULL && d->free_state != NULL && d->put_if_absent != NULL && d->get != NULL &&
           d->get_range != NULL && d->head != NULL && d->remove != NULL && d->list_page != NULL &&
           d->upload_begin != NULL && d->upload_append != NULL && d->upload_complete != NULL &&
           d->upload_free != NULL && d->abort_leftovers != NULL;
}

kb_storage *kb_storage_new(const kb_storage_driver *driver, void *owned_state, const kb_storage_caps *caps,
                           const char *describe)
{
    if (!is_complete(driver)) {
        fprintf(stderr, "storage driver %s is incomplete\n", driver->name != NULL ? driver->name : "?");
        abort();
    }
    kb_storage *storage = kb_calloc(1, sizeof *storage);
    storage->driver = driver;
    storage->state = owned_state;
    storage->caps = *caps;
    storage->describe = kb_strdup(describe);
    return storage;
}

void kb_storage_free(kb_storage *owned_storage)
{
    if (owned_storage == NULL)
        return;
    owned_storage->driver->free_state(owned_storage->state);
    free(owned_storage->describe);
    free(owned_storage);
}

void kb_storage_free_at(kb_storage **at)
{
    kb_storage_free(*at);
    *at = NULL;
}

const char *kb_storage_describe(const kb_storage *storage)
{
    return storage->describe;
}

const kb_storage_caps *kb_storage_caps_view(const kb_storage *storage)
{
    return &storage->caps;
}

void kb_storage_limit_part_bytes(kb_storage *storage, size_t part_bytes)
{
    if (part_bytes < storage->caps.min_part_bytes)
        part_bytes = storage->caps.min_part_bytes;
    if (storage->driver->set_part_bytes == NULL || part_bytes >= storage->caps.part_bytes)
        return;
    storage->driver->set_part_bytes(storage->state, part_bytes);
    storage->caps.part_bytes = part_bytes;
}

/* ---- keys ---- */

static bool is_good_part(const char *part, size_t len)
{
    if (len == 0 || (len == 1 && part[0] == '.') || (len == 2 && part[0] == '.' && part[1] == '.'))
        return false;
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)part[i] < 0x20 || part[i] == 0x7f)
            return false;
    }
    return true;
}

/* Every driver relies on this: no key can name anything outside the store. */
static kb_code check_key(const char *key, kb_error *err)
{
    if (key[0] == '\0' || strlen(key) > KB_STORAGE_KEY_MAX)
        return kb_fail(err, KB_ERR_FORMAT, "a key of %zu bytes is not legal", strlen(key));
    for (const char *part = key;;) {
        size_t len = strcspn(part, "/");
        if (!is_good_part(part, len))
            return kb_fail(err, KB_ERR_FORMAT,
                           "'%s' is not a legal key: it has an empty part, '.', '..' or a control character",
                           key);
        if (part[len] == '\0')
            return KB_OK;
        part += len + 1;
    }
}

/* A prefix is a key that may be empty and may end in '/'. */
static kb_code check_prefix(const char *prefix, kb_error *err)
{
    size_t len = strlen(prefix);
    if (len == 0)
        return KB_OK;
    if (prefix[len - 1] != '/')
        return check_key(prefix, err);
    KB_AUTOFREE char *key = kb_strndup(prefix, len - 1);
    return check_key(key, err);
}

static kb_code check_folder(const char *prefix, kb_error *err)
{
    size_t len = strlen(prefix);
    if (len > 0 && prefix[len - 1] != '/')
        return kb_fail(err, KB_ERR_INTERNAL, "the prefix '%s' does not end with '/'", prefix);
    return check_prefix(prefix, err);
}

/* ---- objects ---- */

kb_code kb_storage_put_if_absent(kb_storage *storage, const char *key, kb_view bytes, kb_error *err)
{
    kb_code code = check_key(key, err);
    if (code != KB_OK)
        return code;
    return storage->driver->put_if_absent(storage->state, key, bytes, err);
}

kb_code kb_storage_get(kb_storage *storage, const char *key, size_t max_bytes, kb_blob *ret_blob,
                       kb_error *err)
{
    kb_code code = check_key(key, err);
    if (code != KB_OK)
        return code;
    return storage->driver->get(storage->state, key, max_bytes, ret_blob, err);
}

kb_code kb_storage_get_range(kb_storage *storage, const char *key, uint64_t offset, void *to, size_t len,
                             kb_error *err)
{
    kb_code code = check_key(key, err);
    if (code != KB_OK)
        return code;
    return storage->driver->get_range(storage->state, key, offset, to, len, err);
}

kb_code kb_storage_head(kb_storage *storage, const char *key, kb_object_info *ret_info, kb_error *err)
{
    kb_code code = check_key(key, err);
    if (code != KB_OK)
        return code;
    return storage->driver->head(storage->state, key, ret_info, err);
}

kb_code kb_storage_confirm(kb_storage *storage, const char *key, kb_error *err)
{
    kb_code code = check_key(key, err);
    if (code != KB_OK)
        return code;
    if (storage->driver->confirm != NULL)
        return storage->driver->confirm(storage->state, key, err);
    kb_object_info info;
    return storage->driver->head(storage->state, key, &info, err);
}

kb_code kb_storage_remove(kb_storage *storage, const char *key, kb_error *err)
{
    kb_code code = check_key(key, err);
    if (code != KB_OK)
        return code;
    return storage->driver->remove(storage->state, key, err);
}

/* One after the other, for stores that cannot do better. */
static kb_code remove_each(kb_storage *storage, const char *const *keys, size_t count,
                           kb_remove_outcome *outcomes, kb_error *err)
{
    for (size_t i = 0; i < count; i++) {
        KB_AUTO_ERROR(refused);
        kb_code code = storage->driver->remove(storage->state, keys[i], &refused);
        if (code == KB_OK) {
            outcomes[i] = KB_REMOVE_GONE;
        } else if (code == KB_ERR_NOT_FOUND) {
            outcomes[i] = KB_REMOVE_ABSENT;
        } else if (code == KB_STORAGE_ACCESS_DENIED) {
            outcomes[i] = KB_REMOVE_HELD;
        } else {
            kb_error_move(err, &refused);
            return code;
        }
    }
    return KB_OK;
}

kb_code kb_storage_remove_many(kb_storage *storage, const char *const *keys, size_t count,
                               kb_remove_outcome *ret_outcomes, kb_error *err)
{
    for (size_t i = 0; i < count; i++)
        ret_outcomes[i] = KB_REMOVE_UNTRIED;
    for (size_t i = 0; i < count; i++) {
        kb_code code = check_key(keys[i], err);
        if (code != KB_OK)
            return code;
    }
    if (count == 0)
        return KB_OK;
    if (storage->driver->remove_many == NULL)
        return remove_each(storage, keys, count, ret_outcomes, err);
    return storage->driver->remove_many(storage->state, keys, count, ret_outcomes, err);
}

kb_code kb_storage_now(kb_storage *storage, int64_t *ret_now_ms, kb_error *err)
{
    if (storage->driver->now != NULL)
        return storage->driver->now(storage->state, ret_now_ms, err);
    *ret_now_ms = kb_clock_wall_ms();
    return KB_OK;
}

/* A success whose reply the failpoint drops looks like any other lost reply: retryable and unknown. */
static kb_code put_with_failpoint(kb_storage *storage, const char *key, kb_view bytes, const char *failpoint,
                                  kb_error *err)
{
    kb_code code = kb_storage_put_if_absent(storage, key, bytes, err);
    if (code == KB_OK && failpoint != NULL)
        code = KB_FAILPOINT(failpoint, err);
    return code;
}

kb_code kb_storage_put_once(kb_storage *storage, const char *key, kb_view bytes,
                            const kb_put_once_options *options, kb_put_outcome *ret_outcome,
                            kb_blob *ret_stored, kb_error *err)
{
    KB_AUTO_ERROR(first);
    kb_code code = put_with_failpoint(storage, key, bytes, options->failpoint, &first);
    if (code == KB_OK) {
        *ret_outcome = KB_PUT_CREATED;
        return KB_OK;
    }
    bool taken = code == KB_ERR_EXISTS;
    if (!taken && !first.retryable) {
        kb_error_move(err, &first);
        return code;
    }
    KB_AUTO_BLOB(stored);
    size_t max = options->max_stored_bytes > bytes.len ? options->max_stored_bytes : bytes.len;
    kb_code got = kb_storage_get(storage, key, max, &stored, err);
    if (got == KB_ERR_NOT_FOUND && taken)
        return kb_fail_retryable(err, KB_TEMPORARY_FAILURE,
                                 "%s in %s was there when it was to be written, and gone when it was read",
                                 key, storage->describe);
    if (got == KB_ERR_NOT_FOUND || (got != KB_OK && !taken)) {
        kb_error_move(err, &first);
        return code;
    }
    if (got != KB_OK)
        return kb_wrap(err, "the key is taken, and what holds it cannot be compared");
    if (stored.len == bytes.len && (bytes.len == 0 || memcmp(stored.data, bytes.data, bytes.len) == 0)) {
        *ret_outcome = KB_PUT_IDENTICAL;
        return KB_OK;
    }
    *ret_outcome = KB_PUT_OTHER;
    if (ret_stored != NULL)
        *ret_stored = (kb_blob){KB_TAKE(stored.data), stored.len};
    return KB_OK;
}

/* ---- listing ---- */

kb_code kb_storage_list_page(kb_storage *storage, const kb_list_options *options, kb_list_page *ret_page,
                             kb_error *err)
{
    kb_code code = check_prefix(options->prefix, err);
    if (code != KB_OK)
        return code;
    return storage->driver->list_page(storage->state, options, ret_page, err);
}

static kb_code visit_page(const kb_list_page *page, kb_list_fn fn, void *ctx, kb_error *err)
{
    for (size_t i = 0; i < page->count; i++) {
        kb_code code = fn(ctx, &page->entries[i], err);
        if (code != KB_OK)
            return code;
    }
    return KB_OK;
}

static kb_code visit_all(kb_storage *storage, const char *prefix, bool by_folder, kb_list_fn fn, void *ctx,
                         kb_error *err)
{
    KB_AUTOFREE char *after = NULL;
    do {
        KB_CLEANUP(kb_list_page_done) kb_list_page page = KB_LIST_PAGE_INIT;
        kb_list_options options = {.prefix = prefix, .after = after, .by_folder = by_folder};
        kb_code code = kb_storage_list_page(storage, &options, &page, err);
        if (code == KB_OK)
            code = visit_page(&page, fn, ctx, err);
        if (code != KB_OK)
            return code;
        free(after);
        after = KB_TAKE(page.next);
    } while (after != NULL);
    return KB_OK;
}

kb_code kb_storage_list(kb_storage *storage, const char *prefix, kb_list_fn fn, void *ctx, kb_error *err)
{
    return visit_all(storage, prefix, false, fn, ctx, err);
}

kb_code kb_storage_list_level(kb_storage *storage, const char *prefix, kb_list_fn fn, void *ctx,
                              kb_error *err)
{
    kb_code code = check_folder(prefix, err);
    return code != KB_OK ? code : visit_all(storage, prefix, true, fn, ctx, err);
}

/* ---- uploads ---- */

static kb_code check_attempt(const char *attempt_id_hex, kb_error *err)
{
    if (strlen(attempt_id_hex) != KB_ATTEMPT_HEX_DIGITS ||
        strspn(attempt_id_hex, "0123456789abcdef") != KB_ATTEMPT_HEX_DIGITS)
        return kb_fail(err, KB_ERR_INTERNAL, "'%s' is not an attempt id", attempt_id_hex);
    return KB_OK;
}

kb_code kb_upload_begin(kb_storage *storage, const char *key, const char *attempt_id_hex,
                        kb_upload **ret_upload, kb_error *err)
{
    kb_code code = check_key(key, err);
    if (code == KB_OK)
        code = check_attempt(attempt_id_hex, err);
    void *impl = NULL;
    if (code == KB_OK)
        code = storage->driver->upload_begin(storage->state, key, attempt_id_hex, &impl, err);
    if (code != KB_OK)
        return code;
    kb_upload *upload = kb_calloc(1, sizeof *upload);
    *upload = (kb_upload){.storage = storage, .impl = impl, .bytes = KB_UPLOAD_HEAD_BYTES};
    *ret_upload = upload;
    return KB_OK;
}

kb_code kb_upload_append(kb_upload *upload, const void *data, size_t len, kb_error *err)
{
    if (upload->ended)
        return kb_fail(err, KB_ERR_INTERNAL, "an upload was used after its end");
    kb_code code = len > 0 ? upload->storage->driver->upload_append(upload->impl, data, len, err) : KB_OK;
    if (code != KB_OK) {
        upload->ended = true;
        return code;
    }
    upload->bytes += len;
    return KB_OK;
}

uint64_t kb_upload_bytes(const kb_upload *upload)
{
    return upload->bytes;
}

kb_code kb_upload_complete(kb_upload *upload, const uint8_t head[KB_UPLOAD_HEAD_BYTES], kb_error *err)
{
    if (upload->ended)
        return kb_fail(err, KB_ERR_INTERNAL, "an upload was used after its end");
    upload->ended = true;
    return upload->storage->driver->upload_complete(upload->impl, head, err);
}

void kb_upload_free(kb_upload *owned_upload)
{
    if (owned_upload == NULL)
        return;
    owned_upload->storage->driver->upload_free(owned_upload->impl);
    free(owned_upload);
}

void kb_upload_free_at(kb_upload **at)
{
    kb_upload_free(*at);
    *at = NULL;
}

kb_code kb_storage_abort_leftovers(kb_storage *storage, const char *prefix, size_t *ret_count, kb_error *err)
{
    size_t count = 0;
    kb_code code = check_folder(prefix, err);
    if (code == KB_OK)
        code = storage->driver->abort_leftovers(storage->state, prefix, &count, err);
    if (code == KB_OK && ret_count != NULL)
        *ret_count = count;
    return code;
}

kb_code kb_storage_list_leftovers(kb_storage *storage, const char *prefix, kb_leftover_fn fn, void *ctx,
                                  kb_error *err)
{
    kb_code code = check_folder(prefix, err);
    if (code != KB_OK || storage->driver->list_leftovers == NULL)
        return code;
    return storage->driver->list_leftovers(storage->state, prefix, fn, ctx, err);
}

kb_code kb_storage_abort_leftover(kb_storage *storage, const kb_leftover *leftover, kb_error *err)
{
    if (storage->driver->abort_leftover == NULL)
        return kb_fail(err, KB_ERR_INTERNAL, "storage driver %s has no leftovers", storage->driver->name);
    return storage->driver->abort_leftover(storage->state, leftover, err);
}

kb_code kb_storage_is_case_sensitive(kb_storage *storage, const char *backup_id, bool *ret_sensitive,
                                     kb_error *err)
{
    kb_code code = check_key(backup_id, err);
    if (code != KB_OK)
        return code;
    if (storage->driver->is_case_sensitive != NULL)
        return storage->driver->is_case_sensitive(storage->state, backup_id, ret_sensitive, err);
    *ret_sensitive = true;
    return KB_OK;
}
