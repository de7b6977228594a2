/*
 * rdkafka_api - the one place that includes librdkafka's header (2.8 or newer).
 *
 * Its declarations do not pass our warnings, so they are read without one of them. For this folder only.
 */
#ifndef KB_WORKER_KAFKA_RDKAFKA_API_H
#define KB_WORKER_KAFKA_RDKAFKA_API_H

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-qualifiers"
#include <librdkafka/rdkafka.h>
#pragma GCC diagnostic pop

#endif
