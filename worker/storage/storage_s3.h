/*
 * storage_s3 - an S3 bucket as a store, signed by Signature Version 4, or 2 for old stores.
 *
 * Any server that speaks S3: path or virtual-hosted style, endpoint with port, own CA. Objects up to one part
 * are a conditional PUT, larger ones multipart uploads with part 1 last. Every write carries Content-MD5 and
 * the payload's SHA-256, so that it works in buckets under Object Lock. With signature_version v2 segments
 * are held and sent whole, no condition is relied on (look, write, look again), and listing goes by marker.
 * Threads: as storage.h.
 */
#ifndef KB_WORKER_STORAGE_STORAGE_S3_H
#define KB_WORKER_STORAGE_STORAGE_S3_H

#include "common/contract/worker_config.h"
#include "worker/storage/storage.h"
#include "worker/storage/storage_open.h"

/*
 * The store of config->s3, which outlives it. Fails with KB_CONFIG_INVALID naming the setting; the server is
 * not asked.
 */
kb_code kb_storage_open_s3(const kb_config_storage *config, const kb_storage_env *env,
                           kb_storage **ret_storage, kb_error *err) KB_CHECK;

#endif
