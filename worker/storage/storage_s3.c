#include "worker/storage/storage_s3.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/mem.h"
#include "worker/auth/aws_cred.h"
#include "worker/storage/object_name.h"
#include "worker/storage/s3_client.h"
#include "worker/storage/s3_list.h"
#include "worker/storage/s3_write.h"
#include "worker/storage/storage_driver.h"

#define KB_S3_MIN_PART_BYTES (5UL * 1024 * 1024)
/* Larger objects are read by ranges, which go on where they broke. */
#define KB_S3_WHOLE_BYTES (8UL * 1024 * 1024)

typedef struct kb_storage_s3 {
    kb_store_net *net;
    kb_cred_provider *creds;
    kb_s3 *s3;
    kb_s3_writer *writer;
} kb_storage_s3;

static void s3_free(void *owned_state)
{
    kb_storage_s3 *state = owned_state;
    kb_s3_writer_free(state->writer);
    kb_s3_free(state->s3);
    kb_cred_provider_free(state->creds);
    kb_store_net_free(state->net);
    free(state);
}

static char *name_of(const kb_storage_s3 *state, const char *key)
{
    return kb_object_name(state->s3->prefix, key);
}

/* ---- reading ---- */

typedef struct kb_getting {
    const char *name;
    size_t max_bytes;
    kb_blob blob;
    size_t room;
    size_t size; /* of the object, when it is left to ranges */
    bool by_ranges;
} kb_getting;

static kb_code get_start(void *ctx, const kb_http_response *response, kb_error *err)
{
    kb_getting *getting = ctx;
    const char *text = kb_http_response_header(response, "Content-Length");
    int64_t size = 0;
    getting->blob.len = 0; /* an earlier try broke off */
    if (text == NULL || !kb_parse_i64(text, &size) || size < 0)
        return kb_fail(err, KB_CONFIG_INVALID, "an answer to GET has no Content-Length");
    if ((uint64_t)size > getting->max_bytes)
        return kb_fail(err, KB_ERR_TOO_LARGE, "%s has %lld bytes, more than %zu", getting->name,
                       (long long)size, getting->max_bytes);
    if ((uint64_t)size > getting->room) {
        free(getting->blob.data);
        getting->room = (size_t)size;
        getting->blob.data = kb_try_malloc(getting->room + 1);
    }
    if (getting->blob.data == NULL)
        return kb_fail(err, KB_TEMPORARY_FAILURE, "no memory for %lld bytes of %s", (long long)size,
                       getting->name);
    getting->size = (size_t)size;
    getting->by_ranges = (uint64_t)size > KB_S3_WHOLE_BYTES;
    return getting->by_ranges ? kb_fail(err, KB_ERR_END, "read by ranges") : KB_OK;
}

static kb_code get_data(void *ctx, const void *data, size_t len, kb_error *err)
{
    kb_getting *getting = ctx;
    if (len > getting->room - getting->blob.len)
        return kb_fail_retryable(err, KB_TEMPORARY_FAILURE, "got more bytes than announced");
    memcpy(getting->blob.data + getting->blob.len, data, len);
    getting->blob.len += len;
    return KB_OK;
}

static kb_code get_name(kb_storage_s3 *state, kb_getting *getting, kb_error *err)
{
    getting->room = 0;
    getting->blob.data = kb_try_malloc(1);
    if (getting->blob.data == NULL)
        kb_out_of_memory();
    const kb_http_sink sink = {.ctx = getting, .on_start = get_start, .on_data = get_data};
    const kb_s3_request request = {
        .verb = "GetObject", .method = "GET", .name = getting->name, .sink = &sink};
    KB_AUTO_RESPONSE(response);
    KB_AUTO_ERROR(failed);
    kb_code code = kb_s3_send(state->s3, &request, &response, NULL, &failed);
    if (code == KB_ERR_END && getting->by_ranges) {
        code = kb_s3_get_range(state->s3, getting->name, 0, getting->blob.data, getting->size, err);
        getting->blob.len = getting->size;
        return code;
    }
    if (code != KB_OK)
        kb_error_move(err, &failed);
    return code;
}

static kb_code s3_get(void *ctx, const char *key, size_t max_bytes, kb_blob *ret_blob, kb_error *err)
{
    kb_storage_s3 *state = ctx;
    KB_AUTOFREE char *name = name_of(state, key);
    kb_getting getting = {.name = name, .max_bytes = max_bytes};
    kb_code code = get_name(state, &getting, err);
    if (code != KB_OK) {
        kb_blob_done(&getting.blob);
        return code;
    }
    getting.blob.data[getting.blob.len] = '\0';
    *ret_blob = getting.blob;
    return KB_OK;
}

static kb_code s3_get_range(void *ctx, const char *key, uint64_t offset, void *to, size_t len, kb_error *err)
{
    kb_storage_s3 *state = ctx;
    KB_AUTOFREE char *name = name_of(state, key);
    if (len > 0)
        return kb_s3_get_range(state->s3, name, offset, to, len, err);
    kb_object_info info;
    kb_code code = kb_s3_head(state->s3, name, &info, err);
    if (code == KB_OK && info.size_bytes < offset)
        return kb_fail(err, KB_ERR_FORMAT, "%s ends before byte %llu", key, (unsigned long long)offset);
    return code;
}

static kb_code s3_head(void *ctx, const char *key, kb_object_info *ret_info, kb_error *err)
{
    kb_storage_s3 *state = ctx;
    KB_AUTOFREE char *name = name_of(state, key);
    return kb_s3_head(state->s3, name, ret_info, err);
}

static kb_code s3_list_page(void *ctx, const kb_list_options *options, kb_list_page *ret_page, kb_error *err)
{
    kb_storage_s3 *state = ctx;
    return kb_s3_list_page(state->s3, options, ret_page, err);
}

static kb_code s3_now(void *ctx, int64_t *ret_now_ms, kb_error *err)
{
    kb_storage_s3 *state = ctx;
    return kb_s3_now(state->s3, ret_now_ms, err);
}

/* ---- writing ---- */

static kb_code s3_put_if_absent(void *ctx, const char *key, kb_view bytes, kb_error *err)
{
    kb_storage_s3 *state = ctx;
    return kb_s3_put_if_absent(state->writer, key, bytes, err);
}

static kb_code s3_upload_begin(void *ctx, const char *key, const char *attempt_id_hex, void **ret_upload,
                               kb_error *err)
{
    (void)attempt_id_hex; /* upload ids tell attempts apart */
    kb_storage_s3 *state = ctx;
    kb_s3_upload *upload = NULL;
    kb_code code = kb_s3_upload_begin(state->writer, key, &upload, err);
    if (code == KB_OK)
        *ret_upload = upload;
    return code;
}

static kb_code s3_upload_append(void *upload, const void *data, size_t len, kb_error *err)
{
    return kb_s3_upload_append(upload, data, len, err);
}

static kb_code s3_upload_complete(void *upload, const uint8_t head[KB_UPLOAD_HEAD_BYTES], kb_error *err)
{
    return kb_s3_upload_complete(upload, head, err);
}

static void s3_upload_free(void *owned_upload)
{
    kb_s3_upload_free(owned_upload);
}

static void s3_set_part_bytes(void *ctx, size_t part_bytes)
{
    kb_storage_s3 *state = ctx;
    kb_s3_writer_set_part_bytes(state->writer, part_bytes);
}

/* ---- removing ---- */

static kb_code s3_remove_many(void *ctx, const char *const *keys, size_t count, kb_remove_outcome *outcomes,
                              kb_error *err)
{
    kb_storage_s3 *state = ctx;
    return kb_s3_remove_many(state->s3, keys, count, outcomes, err);
}

static kb_code s3_remove(void *ctx, const char *key, kb_error *err)
{
    kb_storage_s3 *state = ctx;
    kb_object_info info;
    kb_remove_outcome outcome = KB_REMOVE_UNTRIED;
    /* S3 answers the same whether or not it was there. */
    kb_code code = s3_head(ctx, key, &info, err);
    if (code == KB_OK)
        code = kb_s3_remove_many(state->s3, &key, 1, &outcome, err);
    if (code == KB_OK && outcome == KB_REMOVE_HELD)
        return kb_fail(err, KB_STORAGE_ACCESS_DENIED,
                       "Access denied to S3 bucket '%s': DeleteObject of '%s' is refused; hint: grant "
                       "s3:DeleteObject, or wait for the object's lock to end",
                       state->s3->bucket, key);
    return code;
}

static kb_code s3_list_leftovers(void *ctx, const char *prefix, kb_leftover_fn fn, void *fn_ctx,
                                 kb_error *err)
{
    kb_storage_s3 *state = ctx;
    return kb_s3_list_uploads(state->s3, prefix, fn, fn_ctx, err);
}

static kb_code s3_abort_leftover(void *ctx, const kb_leftover *leftover, kb_error *err)
{
    kb_storage_s3 *state = ctx;
    KB_AUTOFREE char *name = name_of(state, leftover->key);
    return kb_s3_abort(state->s3, name, leftover->token, false, err);
}

typedef struct kb_aborting {
    char **names, **ids;
    size_t count, name_capacity, id_capacity;
    kb_storage_s3 *state;
} kb_aborting;

static kb_code note_leftover(void *ctx, const kb_leftover *leftover, kb_error *err)
{
    (void)err;
    kb_aborting *aborting = ctx;
    aborting->names =
        kb_grow(aborting->names, aborting->count, &aborting->name_capacity, sizeof *aborting->names);
    aborting->ids = kb_grow(aborting->ids, aborting->count, &aborting->id_capacity, sizeof *aborting->ids);
    aborting->names[aborting->count] = name_of(aborting->state, leftover->key);
    aborting->ids[aborting->count++] = kb_strdup(leftover->token);
    return KB_OK;
}

static kb_code s3_abort_leftovers(void *ctx, const char *prefix, size_t *ret_count, kb_error *err)
{
    kb_storage_s3 *state = ctx;
    kb_aborting aborting = {.state = state};
    kb_code code = kb_s3_list_uploads(state->s3, prefix, note_leftover, &aborting, err);
    for (size_t i = 0; i < aborting.count; i++) {
        if (code == KB_OK)
            code = kb_s3_abort(state->s3, aborting.names[i], aborting.ids[i], false, err);
        free(aborting.names[i]);
        free(aborting.ids[i]);
    }
    free(aborting.names);
    free(aborting.ids);
    if (code == KB_OK)
        *ret_count = aborting.count;
    return code;
}

/* ---- opening ---- */

static const kb_storage_driver s3_driver = {
    .name = "s3",
    .free_state = s3_free,
    .put_if_absent = s3_put_if_absent,
    .get = s3_get,
    .get_range = s3_get_range,
    .head = s3_head,
    .remove = s3_remove,
    .list_page = s3_list_page,
    .upload_begin = s3_upload_begin,
    .upload_append = s3_upload_append,
    .upload_complete = s3_upload_complete,
    .upload_free = s3_upload_free,
    .abort_leftovers = s3_abort_leftovers,
    .remove_many = s3_remove_many,
    .now = s3_now,
    .list_leftovers = s3_list_leftovers,
    .abort_leftover = s3_abort_leftover,
    .set_part_bytes = s3_set_part_bytes,
};

/* Nothing is begun that could be left over. */
static kb_code s3v2_abort_leftovers(void *ctx, const char *prefix, size_t *ret_count, kb_error *err)
{
    (void)ctx, (void)prefix, (void)err;
    *ret_count = 0;
    return KB_OK;
}

/* Signature version 2: whole objects, no conditions. */
static const kb_storage_driver s3v2_driver = {
    .name = "s3v2",
    .free_state = s3_free,
    .put_if_absent = s3_put_if_absent,
    .get = s3_get,
    .get_range = s3_get_range,
    .head = s3_head,
    .remove = s3_remove,
    .list_page = s3_list_page,
    .upload_begin = s3_upload_begin,
    .upload_append = s3_upload_append,
    .upload_complete = s3_upload_complete,
    .upload_free = s3_upload_free,
    .abort_leftovers = s3v2_abort_leftovers,
    .remove_many = s3_remove_many,
    .now = s3_now,
    .set_part_bytes = s3_set_part_bytes,
};

static kb_code open_client(const kb_config_storage *config, const kb_storage_env *env, kb_storage_s3 *state,
                           kb_error *err)
{
    const kb_config_s3 *s3 = &config->s3;
    const kb_store_net_options net = kb_storage_net_options(config, env, s3->allow_http);
    if (kb_store_net_new(&net, &state->net, err) != KB_OK)
        return err->code;
    KB_AUTOFREE char *region = kb_aws_region(s3->region, state->net->metadata);
    const kb_aws_cred_options creds = {
        .access_key = &s3->access_key,
        .secret_key = &s3->secret_key,
        .session_token = &s3->session_token,
        .role_arn = s3->role_arn,
        .web_identity_token_file = s3->web_identity_token_file,
        .region = region,
        .tokens = state->net->tokens,
        .metadata = state->net->metadata,
    };
    state->creds = kb_cred_cache_new(kb_aws_cred_new(&creds), NULL);
    const kb_s3_options client = {
        .bucket = s3->bucket,
        .prefix = s3->prefix,
        .region = region,
        .endpoint = s3->endpoint,
        /* A bucket with dots has no certificate of its own in virtual-hosted style. */
        .path_style =
            s3->path_style || (!s3->has_path_style && s3->bucket != NULL && strchr(s3->bucket, '.')),
        .allow_http = s3->allow_http,
        .is_v2 = s3->signature_version == KB_CONFIG_SIGNATURE_V2,
        .net = state->net,
        .creds = state->creds,
    };
    return kb_s3_new(&client, &state->s3, err);
}

kb_code kb_storage_open_s3(const kb_config_storage *config, const kb_storage_env *env,
                           kb_storage **ret_storage, kb_error *err)
{
    kb_storage_s3 *state = kb_calloc(1, sizeof *state);
    kb_code code = open_client(config, env, state, err);
    if (code != KB_OK) {
        s3_free(state);
        return code;
    }
    bool is_v2 = state->s3->is_v2;
    size_t part = (size_t)(is_v2 ? config->segment_buffer_bytes : config->s3.part_size_bytes);
    part = part < KB_S3_MIN_PART_BYTES ? KB_S3_MIN_PART_BYTES : part;
    state->writer = kb_s3_writer_new(state->s3, part, is_v2);
    const kb_storage_caps caps = {.conditional_put = !is_v2,
                                  .whole_objects = is_v2,
                                  .part_bytes = part,
                                  .min_part_bytes = is_v2 ? 0 : KB_S3_MIN_PART_BYTES};
    *ret_storage = kb_storage_new(is_v2 ? &s3v2_driver : &s3_driver, state, &caps, state->s3->place);
    return KB_OK;
}
