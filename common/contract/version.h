/* version - the version of both programs. */
#ifndef KB_COMMON_CONTRACT_VERSION_H
#define KB_COMMON_CONTRACT_VERSION_H

#define KB_VERSION "0.1.0"
#define KB_WORKER_NAME "kafka-backup-worker"
#define KB_WORKER_GENERATOR KB_WORKER_NAME "/" KB_VERSION

#endif
