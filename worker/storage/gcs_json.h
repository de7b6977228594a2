/*
 * gcs_json - answers of Google Cloud Storage's JSON API, read.
 *
 * Source: Cloud Storage JSON API reference, "Objects", "Objects: list", "HTTP status and error codes".
 * Threads: pure functions.
 */
#ifndef KB_WORKER_STORAGE_GCS_JSON_H
#define KB_WORKER_STORAGE_GCS_JSON_H

#include "common/base/crypto_mac.h"
#include "worker/storage/gcs_call.h"
#include "worker/storage/storage.h"

/* The first errors[].reason of a refusal, "" when there is none that is a word. */
void kb_gcs_reason(kb_view body, char to[KB_GCS_REASON_SIZE]);

typedef struct kb_gcs_object {
    kb_object_info info;        /* by timeCreated: objects are never changed */
    char md5[KB_MD5_TEXT_SIZE]; /* base64; "" when not told */
} kb_gcs_object;

/* An object resource. Fails with KB_ERR_FORMAT when size or time are missing. */
kb_code kb_gcs_object_parse(kb_view body, kb_gcs_object *ret_object, kb_error *err) KB_CHECK;

/* A page of objects and prefixes. prefix is the store's; *ret_page is owned. Fails with KB_ERR_FORMAT. */
kb_code kb_gcs_list_parse(kb_view body, const char *prefix, kb_list_page *ret_page, kb_error *err) KB_CHECK;

/* Whether removing an object of a bucket with this resource only hides it: versioning or soft delete. */
kb_code kb_gcs_bucket_hides(kb_view body, bool *ret_hides, kb_error *err) KB_CHECK;

#endif
