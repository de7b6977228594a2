/*
 * kafka_trust - the files that a Kafka connection needs: secrets, certificates, trust anchors.
 *
 * Reads and checks, no library calls. Errors are 78 ConfigInvalid and name the file. Threads: any.
 */
#ifndef KB_WORKER_KAFKA_KAFKA_TRUST_H
#define KB_WORKER_KAFKA_KAFKA_TRUST_H

#include <stdbool.h>

#include "common/base/error.h"
#include "common/base/secret.h"
#include "worker/kafka/kafka_client.h"

/* The content of a secret file (at most 64 KiB) without one trailing newline. */
kb_code kb_kafka_read_secret(const char *path, kb_secret **ret_secret, kb_error *err) KB_CHECK;

/* Whether a client certificate shall be sent; checks that its files can be read. */
kb_code kb_kafka_has_client_certificate(const kb_kafka_options *options, bool *ret_has,
                                        kb_error *err) KB_CHECK;

/*
 * The certificates of trust_dir's *.crt and *.pem, in order of their names, as one PEM text; NULL when there
 * are none. At most 1,000 files and 16 MiB.
 */
kb_code kb_kafka_trust_dir_pem(const char *trust_dir, char **ret_pem, kb_error *err) KB_CHECK;

/* The system's bundle of trust anchors, NULL when none of the known places has one. Static. */
const char *kb_kafka_system_bundle(void);

#endif
