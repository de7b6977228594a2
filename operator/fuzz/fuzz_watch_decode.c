/* Fuzzes the decoder of watch streams: the first byte says in pieces of which size the rest arrives. */
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "operator/kube/kube_types.h"
#include "operator/kube/object_store.h"
#include "operator/kube/watch_decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static kb_code put(void *ctx, kb_watch_type type, json_t *object, kb_error *err)
{
    (void)err;
    kb_object_store *store = ctx;
    if (kb_kube_name(object)[0] == '\0' || kb_kube_uid(object)[0] == '\0' ||
        kb_kube_version(object)[0] == '\0')
        return KB_OK;
    if (type == KB_WATCH_DELETED)
        (void)kb_object_store_remove(store, kb_kube_namespace(object), kb_kube_name(object),
                                     kb_kube_uid(object), NULL);
    else
        (void)kb_object_store_put(store, json_incref(object), NULL);
    return KB_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    KB_AUTO_ERROR(err);
    const size_t piece = (size_t)data[0] + 1;
    kb_object_store *store = kb_object_store_new();
    kb_watch_decoder *decoder = kb_watch_decoder_new(4096, put, store);
    kb_code code = KB_OK;
    for (size_t at = 1; at < size && code == KB_OK; at += piece) {
        const size_t left = size - at;
        code = kb_watch_decoder_feed(decoder, kb_view_of(data + at, left < piece ? left : piece), &err);
    }
    kb_watch_decoder_free(decoder);
    kb_object_store_free(store);
    return 0;
}
