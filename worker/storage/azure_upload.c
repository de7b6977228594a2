#include "worker/storage/azure_upload.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/crypto_mac.h"
#include "common/base/encode.h"
#include "common/base/failpoint.h"
#include "common/base/mem.h"
#include "worker/storage/azure_store.h"
#include "worker/storage/object_claim.h"
#include "worker/storage/object_page.h"

#define KB_ATTEMPT_BYTES 16
#define KB_NONCE_BYTES 4
/* Attempt, nonce of the upload, number of the block: all ids of a blob must be equally long. */
#define KB_BLOCK_ID_BYTES (KB_ATTEMPT_BYTES + KB_NONCE_BYTES + 4)
#define KB_BLOCK_ID_SIZE KB_BASE64_TEXT_SIZE(KB_BLOCK_ID_BYTES)
#define KB_BLOCKS_MAX 50000u
#define KB_BLOCK_LIST_MAX ((size_t)8 * 1024 * 1024)

typedef struct azure_upload {
    kb_azure_store *store; /* borrowed */
    char *key;
    uint8_t id[KB_ATTEMPT_BYTES + KB_NONCE_BYTES];
    uint8_t *block;
    size_t block_bytes;
    size_t used;
    uint32_t staged; /* blocks 1 to `staged` are at the store */
    kb_claim claim;
} azure_upload;

kb_code kb_azure_upload_begin(void *state, const char *key, const char *attempt_id_hex, void **ret_upload,
                              kb_error *err)
{
    azure_upload *upload = kb_calloc(1, sizeof *upload);
    upload->store = state;
    upload->block_bytes = upload->store->block_bytes;
    upload->key = kb_strdup(key);
    upload->claim.size_bytes = KB_UPLOAD_HEAD_BYTES;
    kb_code code = kb_hex_decode(attempt_id_hex, 2 * KB_ATTEMPT_BYTES, upload->id, err);
    if (code == KB_OK)
        code = kb_random_bytes(upload->id + KB_ATTEMPT_BYTES, KB_NONCE_BYTES, err);
    if (code == KB_OK && (upload->block = kb_try_malloc(upload->block_bytes)) == NULL)
        code = kb_fail(err, KB_TEMPORARY_FAILURE, "no memory for a block of %zu bytes", upload->block_bytes);
    if (code != KB_OK) {
        kb_azure_upload_free(upload);
        return code;
    }
    *ret_upload = upload;
    return KB_OK;
}

static void block_id(const azure_upload *upload, uint32_t number, char to[KB_BLOCK_ID_SIZE])
{
    uint8_t bytes[KB_BLOCK_ID_BYTES];
    memcpy(bytes, upload->id, sizeof upload->id);
    memcpy(bytes + sizeof upload->id, &number, sizeof number);
    (void)kb_base64_encode(bytes, sizeof bytes, to);
}

static kb_code put_block(azure_upload *upload, uint32_t number, kb_view bytes, kb_error *err)
{
    char id[KB_BLOCK_ID_SIZE], md5[KB_MD5_TEXT_SIZE];
    KB_AUTOFREE char *name = NULL;
    KB_AUTO_STRBUF(query, 1024);
    KB_AUTO_RESPONSE(response);
    block_id(upload, number, id);
    kb_strbuf_appends(&query, "comp=block&blockid=");
    kb_url_append(&query, id, "");
    kb_azure_call call =
        kb_azure_store_call(upload->store, KB_AZURE_LOOK, "write", "PUT", upload->key, &name);
    call.query = kb_strbuf_view(&query);
    call.body[0] = bytes;
    call.body_count = 1;
    kb_md5_text(bytes.data, bytes.len, md5);
    kb_http_headers_set(&call.headers, "Content-MD5", md5);
    kb_http_headers_set(&call.headers, "Content-Type", "application/octet-stream");
    kb_code code = kb_azure_call_run(&call, &response, NULL, err);
    kb_http_headers_done(&call.headers);
    return code;
}

static kb_code put_full_block(azure_upload *upload, kb_error *err)
{
    if (upload->staged >= KB_BLOCKS_MAX - 1)
        return kb_fail(err, KB_ERR_TOO_LARGE, "'%s' would have more than %u blocks", upload->key,
                       KB_BLOCKS_MAX);
    kb_code code = put_block(upload, upload->staged + 1, kb_view_of(upload->block, upload->used), err);
    if (code != KB_OK)
        return code;
    upload->staged++;
    upload->used = 0;
    return KB_OK;
}

kb_code kb_azure_upload_append(void *upload_ptr, const void *data, size_t len, kb_error *err)
{
    azure_upload *upload = upload_ptr;
    const uint8_t *from = data;
    kb_claim_append(&upload->claim, data, len);
    while (len > 0) {
        size_t room = upload->block_bytes - upload->used;
        size_t part = len < room ? len : room;
        memcpy(upload->block + upload->used, from, part);
        upload->used += part;
        from += part;
        len -= part;
        /* A full block waits for the next byte: what fits into one goes out with its header in one PUT. */
        if (len > 0 && upload->used == upload->block_bytes) {
            kb_code code = put_full_block(upload, err);
            if (code != KB_OK)
                return code;
        }
    }
    return KB_OK;
}

/* ---- publishing ---- */

static kb_code build_block_list(const azure_upload *upload, kb_strbuf *to, kb_error *err)
{
    char id[KB_BLOCK_ID_SIZE];
    kb_strbuf_appends(to, "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
    for (uint32_t i = 0; i <= upload->staged; i++) {
        block_id(upload, i, id);
        kb_strbuf_appendf(to, "<Uncommitted>%s</Uncommitted>", id);
    }
    kb_strbuf_appends(to, "</BlockList>");
    return kb_strbuf_check(to, "a list of blocks", err);
}

/* KB_ERR_EXISTS: not now, for whatever reason. */
static kb_code put_block_list(azure_upload *upload, kb_http_attempt *ret_attempt, kb_error *err)
{
    char md5[KB_MD5_TEXT_SIZE];
    KB_AUTOFREE char *name = NULL;
    KB_AUTO_STRBUF(list, KB_BLOCK_LIST_MAX);
    KB_AUTO_RESPONSE(response);
    kb_code code = build_block_list(upload, &list, err);
    if (code != KB_OK)
        return code;
    kb_azure_call call =
        kb_azure_store_call(upload->store, KB_AZURE_CREATE, "publish", "PUT", upload->key, &name);
    call.query = "comp=blocklist";
    call.body[0] = kb_view_of(list.data, list.len);
    call.body_count = 1;
    kb_md5_text(list.data, list.len, md5);
    kb_http_headers_set(&call.headers, "If-None-Match", "*");
    kb_http_headers_set(&call.headers, "Content-MD5", md5);
    kb_http_headers_set(&call.headers, "Content-Type", "application/xml");
    kb_http_headers_set(&call.headers, "x-ms-blob-content-type", "application/octet-stream");
    code = kb_azure_call_run(&call, &response, ret_attempt, err);
    kb_http_headers_done(&call.headers);
    if (code == KB_OK && response.status >= 300)
        return kb_fail(err, KB_ERR_EXISTS, "'%s' is there already in Azure container '%s'", upload->key,
                       upload->store->container.name);
    return code;
}

static kb_code publish(azure_upload *upload, kb_http_attempt *ret_attempt, kb_error *err)
{
    const kb_view parts[] = {kb_view_of(upload->claim.head, KB_UPLOAD_HEAD_BYTES),
                             kb_view_of(upload->block, upload->used)};
    if (upload->staged == 0)
        return kb_azure_store_put(upload->store, upload->key, parts, 2, ret_attempt, err);
    kb_code code = upload->used > 0 ? put_full_block(upload, err) : KB_OK;
    if (code == KB_OK)
        code = put_block(upload, 0, parts[0], err);
    return code != KB_OK ? code : put_block_list(upload, ret_attempt, err);
}

/* The store would not publish: because we did before, because somebody else did, or because our blocks are
 * gone. */
static kb_code resolve(azure_upload *upload, bool may_be_mine, kb_error *err)
{
    KB_AUTO_ERROR(refused);
    bool is_mine = false;
    kb_error_move(&refused, err);
    kb_code code =
        kb_claim_check(&upload->claim, &kb_azure_driver, upload->store, upload->key, &is_mine, err);
    if (code == KB_ERR_NOT_FOUND)
        return kb_wrap_as(err, KB_FENCED,
                          "the blocks of '%s' were discarded: another attempt ended this "
                          "upload",
                          upload->key);
    if (code != KB_OK || (is_mine && may_be_mine))
        return code;
    kb_error_move(err, &refused);
    return err->code;
}

kb_code kb_azure_upload_complete(void *upload_ptr, const uint8_t head[KB_UPLOAD_HEAD_BYTES], kb_error *err)
{
    azure_upload *upload = upload_ptr;
    kb_http_attempt attempt = {0};
    memcpy(upload->claim.head, head, KB_UPLOAD_HEAD_BYTES);
    kb_code code = publish(upload, &attempt, err);
    if (code == KB_OK && KB_FAILPOINT("segment.sent_no_reply", err) != KB_OK) {
        attempt.maybe_applied = true;
        code = KB_ERR_EXISTS;
    }
    return code == KB_ERR_EXISTS ? resolve(upload, attempt.maybe_applied, err) : code;
}

void kb_azure_upload_free(void *owned_upload)
{
    azure_upload *upload = owned_upload;
    free(upload->key);
    free(upload->block);
    free(upload);
}
