#include "worker/storage/object_claim.h"

#include <string.h>

void kb_claim_append(kb_claim *claim, const void *data, size_t len)
{
    const uint8_t *bytes = data;
    claim->size_bytes += len;
    if (len >= KB_CLAIM_TAIL_BYTES) {
        memcpy(claim->tail, bytes + len - KB_CLAIM_TAIL_BYTES, KB_CLAIM_TAIL_BYTES);
        claim->tail_len = KB_CLAIM_TAIL_BYTES;
        return;
    }
    size_t keep = KB_CLAIM_TAIL_BYTES - len < claim->tail_len ? KB_CLAIM_TAIL_BYTES - len : claim->tail_len;
    memmove(claim->tail, claim->tail + claim->tail_len - keep, keep);
    if (len > 0)
        memcpy(claim->tail + keep, bytes, len);
    claim->tail_len = keep + len;
}

kb_code kb_claim_check(const kb_claim *claim, const kb_storage_driver *driver, void *state, const char *key,
                       bool *ret_is_mine, kb_error *err)
{
    kb_object_info info;
    uint8_t head[KB_UPLOAD_HEAD_BYTES], tail[KB_CLAIM_TAIL_BYTES] = {0};
    kb_code code = driver->head(state, key, &info, err);
    if (code != KB_OK)
        return code;
    *ret_is_mine = false;
    if (info.size_bytes != claim->size_bytes)
        return KB_OK;
    code = driver->get_range(state, key, 0, head, sizeof head, err);
    if (code == KB_OK && claim->tail_len > 0)
        code = driver->get_range(state, key, claim->size_bytes - claim->tail_len, tail, claim->tail_len, err);
    if (code == KB_OK)
        *ret_is_mine =
            memcmp(head, claim->head, sizeof head) == 0 && memcmp(tail, claim->tail, claim->tail_len) == 0;
    return code;
}

kb_code kb_claim_check_bytes(kb_view bytes, const kb_storage_driver *driver, void *state, const char *key,
                             bool *ret_is_mine, kb_error *err)
{
    KB_AUTO_BLOB(stored);
    kb_code code = driver->get(state, key, bytes.len, &stored, err);
    *ret_is_mine = code == KB_OK && stored.len == bytes.len &&
                   (bytes.len == 0 || memcmp(stored.data, bytes.data, bytes.len) == 0);
    /* It is larger: another one. */
    return code == KB_ERR_TOO_LARGE ? KB_OK : code;
}
