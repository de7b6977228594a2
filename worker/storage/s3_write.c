#include "worker/storage/s3_write.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto_mac.h"
#include "common/base/encode.h"
#include "common/base/mem.h"
#include "worker/storage/object_name.h"
#include "worker/storage/s3_list.h"
#include "worker/storage/xml_scan.h"

#define KB_S3_COMPLETE_BYTES (2UL * 1024 * 1024)
#define KB_S3_MAX_PARTS 10000
#define KB_S3_ETAG_BYTES 1024
/* Parts on their way beside the ones that fill; memory_plan counts this many. */
#define KB_S3_FLIGHTS 4

typedef enum kb_conditions {
    KB_CONDITIONS_UNPROVEN,
    KB_CONDITIONS_WORK,   /* one was refused */
    KB_CONDITIONS_IGNORED /* one was taken that had to be refused */
} kb_conditions;

struct kb_s3_writer {
    kb_s3 *s3;
    bool is_whole;
    atomic_size_t part_bytes;
    atomic_int flights_left; /* parts that may be sent in the background */
    atomic_int conditions;   /* kb_conditions */
    pthread_mutex_t mutex;
    struct {
        char *name; /* the object that was created last */
        uint8_t sha256[KB_SHA256_SIZE];
    } locked;
};

/* A part that a thread of its own sends, while the next one fills. */
typedef struct kb_flight {
    pthread_t thread;
    bool is_up;
    kb_s3_upload *upload;
    uint8_t *bytes; /* owned; a spare buffer when it has landed */
    size_t len;
    unsigned number;
    char *etag;
    kb_code code;
    kb_error error;
} kb_flight;

struct kb_s3_upload {
    kb_s3_writer *writer;
    char *name;
    size_t part_bytes;
    uint8_t *first;   /* part 1, its first 32 bytes still unknown */
    size_t first_len; /* these 32 included */
    size_t room;      /* of first */
    uint8_t *next;    /* the part that fills; NULL before part 1 is full */
    size_t next_len;
    char *id;     /* of the multipart upload; NULL = none begun */
    char **etags; /* of parts 2 and up: etags[0] is part 2's */
    size_t etag_count, etag_capacity;
    atomic_bool is_over; /* completed, or known to be gone */
    kb_flight flight;
};

kb_s3_writer *kb_s3_writer_new(kb_s3 *s3, size_t part_bytes, bool is_whole)
{
    kb_s3_writer *writer = kb_calloc(1, sizeof *writer);
    writer->s3 = s3;
    atomic_init(&writer->part_bytes, part_bytes);
    atomic_init(&writer->flights_left, KB_S3_FLIGHTS);
    atomic_init(&writer->conditions, is_whole ? KB_CONDITIONS_IGNORED : KB_CONDITIONS_UNPROVEN);
    writer->is_whole = is_whole;
    pthread_mutex_init(&writer->mutex, NULL);
    return writer;
}

void kb_s3_writer_free(kb_s3_writer *owned_writer)
{
    if (owned_writer == NULL)
        return;
    free(owned_writer->locked.name);
    pthread_mutex_destroy(&owned_writer->mutex);
    free(owned_writer);
}

void kb_s3_writer_set_part_bytes(kb_s3_writer *writer, size_t part_bytes)
{
    atomic_store(&writer->part_bytes, part_bytes);
    atomic_store(&writer->flights_left, 0); /* memory is short */
}

/* ---- what is known about conditions ---- */

static kb_conditions conditions_of(kb_s3_writer *writer)
{
    return (kb_conditions)atomic_load(&writer->conditions);
}

static void learn(kb_s3_writer *writer, kb_conditions what)
{
    /* Ignoring one is the worse news and stays. */
    if (conditions_of(writer) != KB_CONDITIONS_IGNORED)
        atomic_store(&writer->conditions, what);
}

static void remember_created(kb_s3_writer *writer, const char *name, kb_view bytes)
{
    pthread_mutex_lock(&writer->mutex);
    free(writer->locked.name);
    writer->locked.name = kb_strdup(name);
    kb_sha256(bytes.data, bytes.len, writer->locked.sha256);
    pthread_mutex_unlock(&writer->mutex);
}

/* We made this very object a moment ago, so that writing it again does no harm and shows what the server
 * does. */
static bool is_last_created(kb_s3_writer *writer, const char *name, kb_view bytes)
{
    uint8_t hash[KB_SHA256_SIZE];
    kb_sha256(bytes.data, bytes.len, hash);
    pthread_mutex_lock(&writer->mutex);
    bool is_same = writer->locked.name != NULL && strcmp(writer->locked.name, name) == 0 &&
                   memcmp(writer->locked.sha256, hash, sizeof hash) == 0;
    pthread_mutex_unlock(&writer->mutex);
    return is_same;
}

/* ---- one PUT ---- */

static kb_code send_put(kb_s3 *s3, const char *name, kb_view bytes, bool is_conditional,
                        bool *ret_maybe_applied, kb_error *err)
{
    const kb_s3_request request = {.verb = "PutObject",
                                   .method = "PUT",
                                   .name = name,
                                   .body = bytes,
                                   .has_md5 = true,
                                   .if_none_match = is_conditional,
                                   .content_type = "application/octet-stream"};
    KB_AUTO_RESPONSE(response);
    return kb_s3_send(s3, &request, &response, ret_maybe_applied, err);
}

/* KB_ERR_EXISTS when the key is taken. */
static kb_code look(kb_s3 *s3, const char *name, kb_error *err)
{
    kb_object_info info;
    KB_AUTO_ERROR(failed);
    kb_code code = kb_s3_head(s3, name, &info, &failed);
    if (code == KB_ERR_NOT_FOUND)
        return KB_OK;
    if (code == KB_OK)
        return kb_fail(err, KB_ERR_EXISTS, "s3://%s/%s exists already", s3->bucket, name);
    kb_error_move(err, &failed);
    return code;
}

/* KB_OK when the object holds these bytes, KB_ERR_EXISTS when it holds others. */
static kb_code compare(kb_s3 *s3, const char *name, kb_view bytes, kb_error *err)
{
    kb_object_info info;
    kb_code code = kb_s3_head(s3, name, &info, err);
    if (code != KB_OK)
        return code;
    bool is_same = info.size_bytes == bytes.len;
    if (is_same && bytes.len > 0) {
        KB_AUTOFREE uint8_t *stored = kb_try_malloc(bytes.len);
        if (stored == NULL)
            return kb_fail(err, KB_TEMPORARY_FAILURE, "no memory to compare %zu bytes", bytes.len);
        code = kb_s3_get_range(s3, name, 0, stored, bytes.len, err);
        if (code != KB_OK)
            return code;
        is_same = memcmp(stored, bytes.data, bytes.len) == 0;
    }
    return is_same ? KB_OK : kb_fail(err, KB_ERR_EXISTS, "s3://%s/%s exists already", s3->bucket, name);
}

/* What was written is there, as large as it was sent. */
static kb_code check_size(kb_s3 *s3, const char *name, size_t len, kb_error *err)
{
    kb_object_info info;
    kb_code code = kb_s3_head(s3, name, &info, err);
    if (code == KB_ERR_NOT_FOUND || (code == KB_OK && info.size_bytes != len))
        return kb_fail_retryable(err, KB_STORAGE_UNREACHABLE,
                                 "s3://%s/%s was written and is not there as it was", s3->bucket, name);
    return code;
}

/* Look, write, read back: for servers that ignore conditions. */
static kb_code put_emulated(kb_s3_writer *writer, const char *name, kb_view bytes, bool read_back,
                            kb_error *err)
{
    kb_code code = look(writer->s3, name, err);
    if (code == KB_OK)
        code = send_put(writer->s3, name, bytes, false, NULL, err);
    if (code != KB_OK)
        return code;
    return read_back ? compare(writer->s3, name, bytes, err) : check_size(writer->s3, name, bytes.len, err);
}

static kb_code put_name(kb_s3_writer *writer, const char *name, kb_view bytes, bool is_small, kb_error *err)
{
    if (conditions_of(writer) == KB_CONDITIONS_IGNORED)
        return put_emulated(writer, name, bytes, is_small, err);
    bool is_proof = is_last_created(writer, name, bytes), maybe_applied = false;
    if (conditions_of(writer) == KB_CONDITIONS_UNPROVEN && !is_proof && look(writer->s3, name, err) != KB_OK)
        return err->code;
    KB_AUTO_ERROR(failed);
    kb_code code = send_put(writer->s3, name, bytes, true, &maybe_applied, &failed);
    if (code == KB_OK) {
        if (is_proof)
            learn(writer, KB_CONDITIONS_IGNORED);
        else
            remember_created(writer, name, bytes);
        return KB_OK;
    }
    if (code == KB_ERR_UNSUPPORTED) {
        learn(writer, KB_CONDITIONS_IGNORED);
        return put_emulated(writer, name, bytes, is_small, err);
    }
    if (code == KB_ERR_EXISTS) {
        learn(writer, KB_CONDITIONS_WORK);
        if (maybe_applied && is_small)
            return compare(writer->s3, name, bytes, err);
    }
    kb_error_move(err, &failed);
    return code;
}

kb_code kb_s3_put_if_absent(kb_s3_writer *writer, const char *key, kb_view bytes, kb_error *err)
{
    KB_AUTOFREE char *name = kb_object_name(writer->s3->prefix, key);
    return put_name(writer, name, bytes, true, err);
}

/* ---- multipart ---- */

kb_code kb_s3_upload_begin(kb_s3_writer *writer, const char *key, kb_s3_upload **ret_upload, kb_error *err)
{
    kb_s3_upload *upload = kb_calloc(1, sizeof *upload);
    upload->writer = writer;
    upload->name = kb_object_name(writer->s3->prefix, key);
    upload->part_bytes = atomic_load(&writer->part_bytes);
    upload->first = kb_try_malloc(upload->part_bytes);
    upload->first_len = KB_UPLOAD_HEAD_BYTES;
    upload->room = upload->part_bytes;
    if (upload->first == NULL) {
        size_t wanted = upload->part_bytes;
        kb_s3_upload_free(upload);
        return kb_fail(err, KB_TEMPORARY_FAILURE, "no memory for a part of %zu bytes", wanted);
    }
    *ret_upload = upload;
    return KB_OK;
}

typedef struct kb_initiated {
    char *key, *id;
} kb_initiated;

static kb_code on_initiated(void *ctx, const char *path, const char *text, size_t len, kb_error *err)
{
    (void)err;
    kb_initiated *initiated = ctx;
    char **to = strcmp(path, "InitiateMultipartUploadResult/Key") == 0        ? &initiated->key
                : strcmp(path, "InitiateMultipartUploadResult/UploadId") == 0 ? &initiated->id
                                                                              : NULL;
    if (to != NULL) {
        free(*to);
        *to = kb_strndup(text, len);
    }
    return KB_OK;
}

static kb_code begin_multipart(kb_s3_upload *upload, kb_error *err)
{
    static const kb_sigv4_param params[] = {{"uploads", ""}};
    kb_s3 *s3 = upload->writer->s3;
    const kb_s3_request request = {.verb = "PutObject",
                                   .method = "POST",
                                   .name = upload->name,
                                   .params = params,
                                   .param_count = 1,
                                   .content_type = "application/octet-stream",
                                   .expect = "InitiateMultipartUploadResult"};
    KB_AUTO_RESPONSE(response);
    kb_initiated initiated = {NULL, NULL};
    kb_code code = kb_s3_send(s3, &request, &response, NULL, err);
    if (code == KB_OK)
        code = kb_xml_scan(response.body, response.body_len, on_initiated, &initiated, err);
    if (code == KB_OK && (initiated.id == NULL || initiated.id[0] == '\0' || initiated.key == NULL ||
                          strcmp(initiated.key, upload->name) != 0))
        code = kb_fail(err, KB_CONFIG_INVALID, "S3 at %s began an upload of another object than s3://%s/%s",
                       s3->endpoint, s3->bucket, upload->name);
    if (code == KB_OK)
        upload->id = KB_TAKE(initiated.id);
    free(initiated.id);
    free(initiated.key);
    return code;
}

static kb_code fail_gone(kb_s3_upload *upload, kb_error *err)
{
    upload->is_over = true;
    return kb_wrap_as(err, KB_FENCED, "the upload was aborted by somebody else");
}

/* *ret_etag is owned: what the server says, else what it would be by definition. */
static kb_code send_part(kb_s3_upload *upload, unsigned number, kb_view bytes, char **ret_etag, kb_error *err)
{
    kb_s3 *s3 = upload->writer->s3;
    KB_AUTOFREE char *number_text = kb_asprintf("%u", number);
    const kb_sigv4_param params[] = {{"partNumber", number_text}, {"uploadId", upload->id}};
    const kb_s3_request request = {.verb = "PutObject",
                                   .method = "PUT",
                                   .name = upload->name,
                                   .params = params,
                                   .param_count = 2,
                                   .body = bytes,
                                   .has_md5 = true};
    KB_AUTO_RESPONSE(response);
    kb_code code = kb_s3_send(s3, &request, &response, NULL, err);
    if (code == KB_ERR_NOT_FOUND)
        return fail_gone(upload, err);
    if (code != KB_OK)
        return code;
    const char *etag = kb_http_response_header(&response, "ETag");
    if (etag != NULL && strlen(etag) <= KB_S3_ETAG_BYTES) {
        *ret_etag = kb_strdup(etag);
        return KB_OK;
    }
    uint8_t md5[KB_MD5_SIZE];
    char hex[2 * KB_MD5_SIZE + 1];
    kb_md5(bytes.data, bytes.len, md5);
    kb_hex_encode(md5, sizeof md5, hex);
    *ret_etag = kb_asprintf("\"%s\"", hex);
    return KB_OK;
}

static void add_etag(kb_s3_upload *upload, char *owned_etag)
{
    upload->etags = kb_grow(upload->etags, upload->etag_count, &upload->etag_capacity, sizeof *upload->etags);
    upload->etags[upload->etag_count++] = owned_etag;
}

static void *fly(void *ctx)
{
    kb_flight *flight = ctx;
    flight->code = send_part(flight->upload, flight->number, kb_view_of(flight->bytes, flight->len),
                             &flight->etag, &flight->error);
    return NULL;
}

/* Waits for the part that is on its way, and takes its result. */
static kb_code land(kb_s3_upload *upload, kb_error *err)
{
    kb_flight *flight = &upload->flight;
    if (!flight->is_up)
        return KB_OK;
    pthread_join(flight->thread, NULL);
    flight->is_up = false;
    atomic_fetch_add(&upload->writer->flights_left, 1);
    if (flight->code == KB_OK) {
        add_etag(upload, KB_TAKE(flight->etag));
        return KB_OK;
    }
    kb_error_move(err, &flight->error);
    return flight->code;
}

/* Gives the full part to a thread; false when there is none to be had. The buffer of the last flight fills
 * next. */
static bool take_off(kb_s3_upload *upload, unsigned number)
{
    kb_flight *flight = &upload->flight;
    atomic_int *left = &upload->writer->flights_left;
    if (atomic_fetch_sub(left, 1) <= 0) {
        atomic_fetch_add(left, 1);
        return false;
    }
    uint8_t *spare = flight->bytes != NULL ? flight->bytes : kb_try_malloc(upload->part_bytes);
    uint8_t *full = upload->next;
    flight->upload = upload;
    flight->bytes = full;
    flight->len = upload->next_len;
    flight->number = number;
    flight->is_up = spare != NULL && pthread_create(&flight->thread, NULL, fly, flight) == 0;
    if (!flight->is_up) {
        flight->bytes = spare;
        atomic_fetch_add(left, 1);
        return false;
    }
    upload->next = spare;
    upload->next_len = 0;
    return true;
}

/* Sends the part that has filled, in the background where that is possible; part 1 waits for its head. */
static kb_code flush_next(kb_s3_upload *upload, bool may_fly, kb_error *err)
{
    if (upload->id == NULL && begin_multipart(upload, err) != KB_OK)
        return err->code;
    if (land(upload, err) != KB_OK)
        return err->code;
    if (upload->etag_count + 2 > KB_S3_MAX_PARTS)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "s3://%s/%s needs more than %d parts; hint: storage.part_size_bytes",
                       upload->writer->s3->bucket, upload->name, KB_S3_MAX_PARTS);
    unsigned number = (unsigned)upload->etag_count + 2;
    if (may_fly && take_off(upload, number))
        return KB_OK;
    char *etag = NULL;
    kb_code code = send_part(upload, number, kb_view_of(upload->next, upload->next_len), &etag, err);
    if (code != KB_OK)
        return code;
    add_etag(upload, etag);
    upload->next_len = 0;
    return KB_OK;
}

static size_t fill(uint8_t *to, size_t *at, size_t room, const uint8_t *data, size_t len)
{
    size_t step = len < room - *at ? len : room - *at;
    memcpy(to + *at, data, step);
    *at += step;
    return step;
}

/* Room for what compression made larger than the limit of the area said. */
static kb_code grow_whole(kb_s3_upload *upload, size_t len, kb_error *err)
{
    size_t needed = upload->first_len + len, limit = 2 * upload->part_bytes;
    if (needed <= upload->room)
        return KB_OK;
    if (needed > limit)
        return kb_fail(err, KB_CONFIG_INVALID,
                       "s3://%s/%s is larger than %zu bytes; hint: segment_buffer_bytes",
                       upload->writer->s3->bucket, upload->name, limit);
    size_t room = needed + needed / 8 < limit ? needed + needed / 8 : limit;
    uint8_t *larger = kb_try_malloc(room);
    if (larger == NULL)
        return kb_fail(err, KB_TEMPORARY_FAILURE, "no memory for a segment of %zu bytes", room);
    memcpy(larger, upload->first, upload->first_len);
    free(upload->first);
    upload->first = larger;
    upload->room = room;
    return KB_OK;
}

kb_code kb_s3_upload_append(kb_s3_upload *upload, const void *data, size_t len, kb_error *err)
{
    const uint8_t *at = data;
    if (upload->writer->is_whole && grow_whole(upload, len, err) != KB_OK)
        return err->code;
    size_t step = fill(upload->first, &upload->first_len, upload->room, at, len);
    for (at += step, len -= step; len > 0; at += step, len -= step) {
        if (upload->next == NULL)
            upload->next = kb_try_malloc(upload->part_bytes);
        if (upload->next == NULL)
            return kb_fail(err, KB_TEMPORARY_FAILURE, "no memory for a part of %zu bytes",
                           upload->part_bytes);
        if (upload->next_len == upload->part_bytes && flush_next(upload, true, err) != KB_OK)
            return err->code;
        step = fill(upload->next, &upload->next_len, upload->part_bytes, at, len);
    }
    /* What is full goes out now, while the caller makes the next bytes. */
    return upload->next_len == upload->part_bytes ? flush_next(upload, true, err) : KB_OK;
}

static void append_part(kb_strbuf *to, size_t number, const char *etag)
{
    kb_strbuf_appendf(to, "<Part><PartNumber>%zu</PartNumber><ETag>", number);
    for (const char *p = etag; *p != '\0'; p++) {
        if (*p == '&')
            kb_strbuf_appends(to, "&amp;");
        else if (*p == '<')
            kb_strbuf_appends(to, "&lt;");
        else
            kb_strbuf_appendc(to, *p);
    }
    kb_strbuf_appends(to, "</ETag></Part>");
}

static kb_code send_complete(kb_s3_upload *upload, const char *first_etag, bool is_conditional, kb_error *err)
{
    KB_AUTO_STRBUF(body, KB_S3_COMPLETE_BYTES);
    kb_strbuf_appends(&body, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    append_part(&body, 1, first_etag);
    for (size_t i = 0; i < upload->etag_count; i++)
        append_part(&body, i + 2, upload->etags[i]);
    kb_strbuf_appends(&body, "</CompleteMultipartUpload>");
    if (kb_strbuf_check(&body, "a list of parts", err) != KB_OK)
        return err->code;
    const kb_sigv4_param params[] = {{"uploadId", upload->id}};
    const kb_s3_request request = {.verb = "PutObject",
                                   .method = "POST",
                                   .name = upload->name,
                                   .params = params,
                                   .param_count = 1,
                                   .body = kb_view_of(body.data, body.len),
                                   .has_md5 = true,
                                   .if_none_match = is_conditional,
                                   .content_type = "application/xml",
                                   .expect = "CompleteMultipartUploadResult"};
    KB_AUTO_RESPONSE(response);
    return kb_s3_send(upload->writer->s3, &request, &response, NULL, err);
}

static kb_code complete_multipart(kb_s3_upload *upload, kb_error *err)
{
    kb_s3_writer *writer = upload->writer;
    if (upload->next_len > 0 && flush_next(upload, true, err) != KB_OK)
        return err->code;
    KB_AUTOFREE char *etag = NULL;
    kb_code code = send_part(upload, 1, kb_view_of(upload->first, upload->first_len), &etag, err);
    if (code == KB_OK)
        code = land(upload, err);
    if (code == KB_OK)
        code = look(writer->s3, upload->name, err);
    if (code != KB_OK)
        return code;
    code = send_complete(upload, etag, conditions_of(writer) != KB_CONDITIONS_IGNORED, err);
    if (code == KB_ERR_UNSUPPORTED) {
        learn(writer, KB_CONDITIONS_IGNORED);
        kb_error_done(err);
        code = send_complete(upload, etag, false, err);
    }
    if (code == KB_OK)
        upload->is_over = true;
    if (code != KB_ERR_NOT_FOUND)
        return code;
    /* Gone: completed by an earlier try whose reply was lost, or aborted. */
    KB_AUTO_ERROR(looked);
    if (look(writer->s3, upload->name, &looked) == KB_OK)
        return fail_gone(upload, err);
    upload->is_over = true;
    kb_error_move(err, &looked);
    return err->code;
}

kb_code kb_s3_upload_complete(kb_s3_upload *upload, const uint8_t head[KB_UPLOAD_HEAD_BYTES], kb_error *err)
{
    memcpy(upload->first, head, KB_UPLOAD_HEAD_BYTES);
    if (upload->id != NULL || upload->next_len > 0) {
        if (upload->id == NULL && begin_multipart(upload, err) != KB_OK)
            return err->code;
        return complete_multipart(upload, err);
    }
    /* Whether an object that is there is this one is the caller's question. */
    return put_name(upload->writer, upload->name, kb_view_of(upload->first, upload->first_len), false, err);
}

void kb_s3_upload_free(kb_s3_upload *owned_upload)
{
    if (owned_upload == NULL)
        return;
    KB_AUTO_ERROR(ignored);
    (void)!land(owned_upload, &ignored);
    if (owned_upload->id != NULL && !owned_upload->is_over)
        (void)!kb_s3_abort(owned_upload->writer->s3, owned_upload->name, owned_upload->id, true, &ignored);
    for (size_t i = 0; i < owned_upload->etag_count; i++)
        free(owned_upload->etags[i]);
    free(owned_upload->etags);
    free(owned_upload->id);
    free(owned_upload->name);
    free(owned_upload->first);
    free(owned_upload->next);
    free(owned_upload->flight.bytes);
    free(owned_upload->flight.etag);
    free(owned_upload);
}
