/*
 * s3_write - writing objects once: conditional PUTs and uploads whose first bytes are known last.
 *
 * Conditions ("If-None-Match: *") are taken to work until the server proves otherwise: when it takes an
 * object that we wrote a moment before a second time, or says that it does not know the header, put-if-absent
 * becomes look, write, read back (storage-format.md 7.5). Until one refusal has proven them, a PUT looks
 * before it writes. Uploads up to one part are one PUT; larger ones are multipart, part 1 sent last, and look
 * before they complete. Threads: a kb_s3_writer any number at once; an upload one at a time.
 */
#ifndef KB_WORKER_STORAGE_S3_WRITE_H
#define KB_WORKER_STORAGE_S3_WRITE_H

#include "worker/storage/s3_client.h"
#include "worker/storage/storage.h"

typedef struct kb_s3_writer kb_s3_writer;

/*
 * s3 is borrowed. part_bytes: memory of an upload is twice that. is_whole: uploads are held whole, in
 * somewhat more than part_bytes, and no condition is sent: for old stores.
 */
kb_s3_writer *kb_s3_writer_new(kb_s3 *s3, size_t part_bytes, bool is_whole) __attribute__((returns_nonnull));
void kb_s3_writer_free(kb_s3_writer *owned_writer);
/* For uploads that begin from now on. */
void kb_s3_writer_set_part_bytes(kb_s3_writer *writer, size_t part_bytes);

/* As kb_storage_put_if_absent. */
kb_code kb_s3_put_if_absent(kb_s3_writer *writer, const char *key, kb_view bytes, kb_error *err) KB_CHECK;

/* As kb_upload_begin and so on. */
typedef struct kb_s3_upload kb_s3_upload;
kb_code kb_s3_upload_begin(kb_s3_writer *writer, const char *key, kb_s3_upload **ret_upload,
                           kb_error *err) KB_CHECK;
kb_code kb_s3_upload_append(kb_s3_upload *upload, const void *data, size_t len, kb_error *err) KB_CHECK;
kb_code kb_s3_upload_complete(kb_s3_upload *upload, const uint8_t head[KB_UPLOAD_HEAD_BYTES],
                              kb_error *err) KB_CHECK;
void kb_s3_upload_free(kb_s3_upload *owned_upload);

#endif
