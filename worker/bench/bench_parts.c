/*
 * bench_parts - the parts of a backup and of a restore that nothing can avoid, each measured alone.
 *
 *   bench_parts areas BROKERS TOPIC PARTITIONS FILE      reads a topic; writes its record areas, frame by
 * frame bench_parts consume BROKERS TOPIC PARTITIONS         bare batch consumer bench_parts produce BROKERS
 * TOPIC FILE               bare idempotent producer bench_parts compute FILE                             zstd
 * -3, decompression check, SHA-256, CRC; one thread bench_parts backup BROKERS TOPIC PARTITIONS FILE consumer
 * and, on two threads, the work on frames bench_parts restore BROKERS TOPIC FILE               producer and
 * the same for what was compressed before
 *
 * Each prints one JSON object; cpu is seconds of user and system time of what is measured, without loading
 * the file. Client settings are those of kafka_reader and kafka_writer.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <zstd.h>

#include "common/base/crc.h"
#include "common/base/crypto.h"
#include "common/base/mem.h"
#include "worker/kafka/rdkafka_api.h"
#include "worker/segment/frame.h"

#define BATCH_RECORDS 512
#define WORKERS 2
#define LEVEL 3
/* The two headers that a backup appends by default. */
#define OWN_BLOCK_BYTES \
    (2 * 14 + sizeof KB_HEADER_ORIGINAL_OFFSET - 1 + sizeof KB_HEADER_ORIGINAL_TIMESTAMP - 1)

/* One frame: raw record area, later also compressed. */
typedef struct area {
    int32_t partition;
    size_t len, packed_len;
    uint8_t *bytes, *packed;
} area;

typedef struct areas {
    area *items;
    size_t count, capacity;
} areas;

typedef struct costs {
    double pack, unpack, sha_records, sha_object, crc;
    uint64_t records, stored_bytes;
} costs;

typedef struct rate {
    double cpu, wall;
    uint64_t records, bytes; /* keys and values */
} rate;

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("bench_parts: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static void check(kb_code code, const kb_error *err)
{
    if (code != KB_OK)
        die("%s", kb_error_text(err));
}

static double now(clockid_t clock)
{
    struct timespec at;
    clock_gettime(clock, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static double process_cpu(void)
{
    return now(CLOCK_PROCESS_CPUTIME_ID);
}

static double wall(void)
{
    return now(CLOCK_MONOTONIC);
}

/* ---- client settings ---- */

static const char *const READER[][2] = {
    {"isolation.level", "read_committed"},
    {"auto.offset.reset", "error"},
    {"enable.partition.eof", "true"},
    {"check.crcs", "true"},
    {"enable.auto.commit", "false"},
    {"fetch.wait.max.ms", "10"},
    {"fetch.message.max.bytes", "1048576"},
    {"fetch.max.bytes", "16777216"},
    {"receive.message.max.bytes", "167837696"},
    {"queued.max.messages.kbytes", "4096"},
    {"queued.min.messages", "17384"},
    {"fetch.queue.backoff.ms", "5"},
};
static const char *const WRITER[][2] = {
    {"log_level", "3"}, /* no warning that the next but one is experimental */
    {"enable.idempotence", "true"},
    {"enable.gapless.guarantee", "true"},
    {"acks", "-1"},
    {"max.in.flight.requests.per.connection", "5"},
    {"compression.codec", "none"},
    {"batch.num.messages", "1000"},
    {"batch.size", "1000000"},
    {"linger.ms", "500"},
    {"message.timeout.ms", "0"},
    {"queue.buffering.max.kbytes", "32769"},
    {"queue.buffering.max.messages", "132072"},
};

static rd_kafka_t *client(rd_kafka_type_t type, const char *brokers, const char *const (*settings)[2],
                          size_t count, void (*on_delivery)(rd_kafka_t *, const rd_kafka_message_t *, void *),
                          void *opaque)
{
    char reason[512] = "";
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (rd_kafka_conf_set(conf, "bootstrap.servers", brokers, reason, sizeof reason) != RD_KAFKA_CONF_OK)
        die("%s", reason);
    for (size_t i = 0; i < count; i++)
        if (rd_kafka_conf_set(conf, settings[i][0], settings[i][1], reason, sizeof reason) !=
            RD_KAFKA_CONF_OK)
            die("%s", reason);
    if (on_delivery != NULL)
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    rd_kafka_conf_set_opaque(conf, opaque);
    rd_kafka_t *rk = rd_kafka_new(type, conf, reason, sizeof reason);
    if (rk == NULL)
        die("%s", reason);
    return rk;
}

/* ---- consumer ---- */

typedef void (*record_fn)(void *ctx, const rd_kafka_message_t *message);

/* Hands out one batch; returns how many partitions it ended. */
static int take_batch(rd_kafka_queue_t *queue, rd_kafka_message_t **batch, rate *result, record_fn on_record,
                      void *ctx)
{
    int ended = 0;
    ssize_t got = rd_kafka_consume_batch_queue(queue, 100, batch, BATCH_RECORDS);
    for (ssize_t i = 0; i < got; i++) {
        rd_kafka_message_t *message = batch[i];
        if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
            ended++;
        } else if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            die("reading: %s", rd_kafka_message_errstr(message));
        } else {
            result->records++;
            result->bytes += message->len + message->key_len;
            if (on_record != NULL)
                on_record(ctx, message);
        }
        rd_kafka_message_destroy(message);
    }
    return ended;
}

static rate consume(const char *brokers, const char *topic_name, int partitions, record_fn on_record,
                    void *ctx)
{
    rate result = {0};
    double cpu_before = process_cpu();
    double wall_before = wall();
    rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, brokers, READER, KB_ARRAY_LEN(READER), NULL, NULL);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, topic_name, NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    for (int p = 0; p < partitions; p++)
        if (rd_kafka_consume_start_queue(topic, p, 0, queue) != 0)
            die("reading %s/%d: %s", topic_name, p, rd_kafka_err2str(rd_kafka_last_error()));
    rd_kafka_message_t *batch[BATCH_RECORDS];
    for (int open = partitions; open > 0;)
        open -= take_batch(queue, batch, &result, on_record, ctx);
    result.wall = wall() - wall_before;
    for (int p = 0; p < partitions; p++)
        (void)rd_kafka_consume_stop(topic, p);
    rd_kafka_queue_destroy(queue);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
    result.cpu = process_cpu() - cpu_before;
    return result;
}

/* ---- areas ---- */

typedef struct area_writer {
    FILE *file;
    kb_frame **frames; /* one for each partition */
} area_writer;

static void write_area(area_writer *writer, int32_t partition)
{
    kb_frame *frame = writer->frames[partition];
    kb_view bytes = kb_frame_bytes(frame);
    uint64_t len = bytes.len;
    if (len > 0 &&
        (fwrite(&partition, sizeof partition, 1, writer->file) != 1 ||
         fwrite(&len, sizeof len, 1, writer->file) != 1 || fwrite(bytes.data, 1, len, writer->file) != len))
        die("cannot write the areas");
    kb_frame_reset(frame);
}

static void add_record(void *ctx, const rd_kafka_message_t *message)
{
    static const kb_own_block_opts own = {NULL, 0};
    area_writer *writer = ctx;
    KB_AUTO_ERROR(err);
    bool full = false;
    kb_record_in in = {
        .timestamp = rd_kafka_message_timestamp(message, NULL),
        .offset = message->offset,
        .key = message->key,
        .key_len = message->key != NULL ? (int32_t)message->key_len : -1,
        .value = message->payload,
        .value_len = message->payload != NULL ? (int32_t)message->len : -1,
    };
    check(kb_frame_append(writer->frames[message->partition], &in, &own, &full, &err), &err);
    if (full)
        write_area(writer, message->partition);
}

static void make_areas(const char *brokers, const char *topic, int partitions, const char *path)
{
    area_writer writer = {.file = fopen(path, "wb"),
                          .frames = kb_calloc((size_t)partitions, sizeof(kb_frame *))};
    if (writer.file == NULL)
        die("cannot write %s", path);
    for (int p = 0; p < partitions; p++)
        writer.frames[p] = kb_frame_new(KB_FRAME_DEFAULT_CAPACITY);
    rate read = consume(brokers, topic, partitions, add_record, &writer);
    for (int p = 0; p < partitions; p++) {
        write_area(&writer, p);
        kb_frame_free(writer.frames[p]);
    }
    free(writer.frames);
    if (fclose(writer.file) != 0)
        die("cannot write %s", path);
    printf("{\"records\": %" PRIu64 ", \"bytes\": %" PRIu64 "}\n", read.records, read.bytes);
}

static areas load(const char *path)
{
    areas all = {0};
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        die("cannot read %s", path);
    area next = {0};
    uint64_t len;
    while (fread(&next.partition, sizeof next.partition, 1, file) == 1) {
        if (fread(&len, sizeof len, 1, file) != 1)
            die("%s is cut off", path);
        next.len = len;
        next.bytes = kb_malloc(next.len);
        if (fread(next.bytes, 1, next.len, file) != next.len)
            die("%s is cut off", path);
        all.items = kb_grow(all.items, all.count, &all.capacity, sizeof *all.items);
        all.items[all.count++] = next;
    }
    (void)fclose(file);
    return all;
}

/* ---- work on frames ---- */

typedef struct tools {
    ZSTD_CCtx *compressor;
    ZSTD_DCtx *decompressor;
    uint8_t *packed, *plain;
    size_t capacity;
} tools;

static tools tools_new(void)
{
    enum { ROOM = 64 << 20 };
    tools made = {ZSTD_createCCtx(), ZSTD_createDCtx(), kb_malloc(ROOM), kb_malloc(ROOM), ROOM};
    (void)ZSTD_CCtx_setParameter(made.compressor, ZSTD_c_compressionLevel, LEVEL);
    (void)ZSTD_CCtx_setParameter(made.compressor, ZSTD_c_contentSizeFlag, 1);
    (void)ZSTD_CCtx_setParameter(made.compressor, ZSTD_c_checksumFlag, 1);
    return made;
}

static void tools_free(tools *t)
{
    ZSTD_freeCCtx(t->compressor);
    ZSTD_freeDCtx(t->decompressor);
    free(t->packed);
    free(t->plain);
}

static size_t pack(tools *t, const area *a)
{
    size_t len = ZSTD_compress2(t->compressor, t->packed, t->capacity, a->bytes, a->len);
    if (ZSTD_isError(len))
        die("zstd: %s", ZSTD_getErrorName(len));
    return len;
}

static void unpack(tools *t, const area *a, const uint8_t *packed, size_t packed_len)
{
    size_t len = ZSTD_decompressDCtx(t->decompressor, t->plain, t->capacity, packed, packed_len);
    if (len != a->len || memcmp(t->plain, a->bytes, len) != 0)
        die("a frame did not decompress to what it was");
}

/* What the record digest hashes: each record without its length and the two headers at its end. */
static uint64_t hash_records(const area *a)
{
    uint64_t records = 0;
    uint8_t hash[KB_SHA256_SIZE];
    for (size_t at = 0; at < a->len; records++) {
        uint32_t total;
        memcpy(&total, a->bytes + at, sizeof total);
        kb_sha256(a->bytes + at + sizeof total, total - OWN_BLOCK_BYTES, hash);
        at += sizeof total + total;
    }
    return records;
}

static double lap(double *since)
{
    double at = now(CLOCK_THREAD_CPUTIME_ID);
    double took = at - *since;
    *since = at;
    return took;
}

/* One frame as a backup treats it. */
static void work(tools *t, const area *a, kb_sha256_ctx *sha, costs *c)
{
    double since = now(CLOCK_THREAD_CPUTIME_ID);
    c->records += hash_records(a);
    c->sha_records += lap(&since);
    size_t len = pack(t, a);
    c->pack += lap(&since);
    unpack(t, a, t->packed, len);
    c->unpack += lap(&since);
    (void)kb_crc32(0, t->packed, len);
    c->crc += lap(&since);
    kb_sha256_update(sha, t->packed, len);
    c->sha_object += lap(&since);
    c->stored_bytes += len;
}

static void compute(const char *path)
{
    areas all = load(path);
    tools t = tools_new();
    costs c = {0};
    kb_sha256_ctx *sha = kb_sha256_new();
    uint64_t raw_bytes = 0;
    for (size_t i = 0; i < all.count; i++) {
        work(&t, &all.items[i], sha, &c);
        raw_bytes += all.items[i].len;
    }
    kb_sha256_free(sha);
    tools_free(&t);
    printf("{\"zstd\": %.4f, \"unzstd\": %.4f, \"sha_records\": %.4f, \"sha_object\": %.4f, \"crc\": %.4f, "
           "\"records\": %" PRIu64 ", \"raw_bytes\": %" PRIu64 ", \"stored_bytes\": %" PRIu64 "}\n",
           c.pack, c.unpack, c.sha_records, c.sha_object, c.crc, c.records, raw_bytes, c.stored_bytes);
}

/* ---- producer ---- */

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
    (void)rk;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        die("writing: %s", rd_kafka_message_errstr(message));
    --*(uint64_t *)opaque;
}

/* Key or value at *at, which moves behind it. */
static rd_kafka_vu_t next_sized(rd_kafka_vtype_t type, uint8_t **at)
{
    rd_kafka_vu_t made = {.vtype = type};
    int32_t len;
    memcpy(&len, *at, sizeof len);
    *at += sizeof len;
    if (len >= 0) {
        made.u.mem.ptr = *at;
        made.u.mem.size = (size_t)len;
        *at += len;
    }
    return made;
}

static void send_record(rd_kafka_t *rk, rd_kafka_topic_t *topic, int32_t partition, uint8_t *record,
                        rate *result)
{
    int64_t timestamp;
    memcpy(&timestamp, record, sizeof timestamp);
    uint8_t *at = record + 2 * sizeof timestamp;
    rd_kafka_vu_t parts[6] = {
        {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = topic},
        {.vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = partition},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = 0},
        {.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = timestamp},
    };
    parts[4] = next_sized(RD_KAFKA_VTYPE_KEY, &at);
    parts[5] = next_sized(RD_KAFKA_VTYPE_VALUE, &at);
    result->bytes += parts[4].u.mem.size + parts[5].u.mem.size;
    result->records++;
    for (;;) {
        rd_kafka_error_t *error = rd_kafka_produceva(rk, parts, KB_ARRAY_LEN(parts));
        if (error == NULL)
            return;
        if (rd_kafka_error_code(error) != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            die("writing: %s", rd_kafka_error_string(error));
        rd_kafka_error_destroy(error);
        (void)rd_kafka_poll(rk, 10);
    }
}

static rate produce(const char *brokers, const char *topic_name, const areas *all)
{
    rate result = {0};
    uint64_t missing = 0;
    double cpu_before = process_cpu();
    double wall_before = wall();
    rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, brokers, WRITER, KB_ARRAY_LEN(WRITER), on_delivery, &missing);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, topic_name, NULL);
    for (size_t i = 0; i < all->count; i++) {
        const area *a = &all->items[i];
        for (size_t at = 0; at < a->len;) {
            uint32_t total;
            memcpy(&total, a->bytes + at, sizeof total);
            missing++;
            send_record(rk, topic, a->partition, a->bytes + at + sizeof total, &result);
            at += sizeof total + total;
        }
        (void)rd_kafka_poll(rk, 0);
    }
    while (missing > 0)
        (void)rd_kafka_flush(rk, 100);
    result.wall = wall() - wall_before;
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
    result.cpu = process_cpu() - cpu_before;
    return result;
}

/* ---- parts together ---- */

typedef struct crew {
    areas all;
    atomic_size_t next;
    bool is_restore;
    pthread_t threads[WORKERS];
} crew;

static void work_restored(tools *t, const area *a, kb_sha256_ctx *sha)
{
    kb_sha256_update(sha, a->packed, a->packed_len);
    (void)kb_crc32(0, a->packed, a->packed_len);
    unpack(t, a, a->packed, a->packed_len);
}

static void *run_worker(void *arg)
{
    crew *c = arg;
    tools t = tools_new();
    costs ignored = {0};
    kb_sha256_ctx *sha = kb_sha256_new();
    for (size_t i; (i = atomic_fetch_add(&c->next, 1)) < c->all.count;) {
        if (c->is_restore)
            work_restored(&t, &c->all.items[i], sha);
        else
            work(&t, &c->all.items[i], sha, &ignored);
    }
    kb_sha256_free(sha);
    tools_free(&t);
    return NULL;
}

static void pack_all(areas *all)
{
    tools t = tools_new();
    for (size_t i = 0; i < all->count; i++) {
        area *a = &all->items[i];
        a->packed_len = pack(&t, a);
        a->packed = kb_malloc(a->packed_len);
        memcpy(a->packed, t.packed, a->packed_len);
    }
    tools_free(&t);
}

static void crew_start(crew *c)
{
    for (size_t i = 0; i < WORKERS; i++)
        if (pthread_create(&c->threads[i], NULL, run_worker, c) != 0)
            die("no thread to be had");
}

static void crew_join(crew *c)
{
    for (size_t i = 0; i < WORKERS; i++)
        pthread_join(c->threads[i], NULL);
}

static void print_rate(const rate *r)
{
    printf("{\"cpu\": %.4f, \"wall\": %.4f, \"records\": %" PRIu64 ", \"bytes\": %" PRIu64 "}\n", r->cpu,
           r->wall, r->records, r->bytes);
}

/* partitions > 0: a backup, else a restore. */
static void together(const char *brokers, const char *topic, int partitions, const char *path)
{
    crew c = {.all = load(path), .is_restore = partitions == 0};
    if (c.is_restore)
        pack_all(&c.all);
    double cpu_before = process_cpu();
    double wall_before = wall();
    crew_start(&c);
    rate result =
        c.is_restore ? produce(brokers, topic, &c.all) : consume(brokers, topic, partitions, NULL, NULL);
    crew_join(&c);
    result.wall = wall() - wall_before;
    result.cpu = process_cpu() - cpu_before;
    print_rate(&result);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    rate result;
    if (strcmp(mode, "areas") == 0 && argc == 6) {
        make_areas(argv[2], argv[3], (int)strtol(argv[4], NULL, 10), argv[5]);
    } else if (strcmp(mode, "consume") == 0 && argc == 5) {
        result = consume(argv[2], argv[3], (int)strtol(argv[4], NULL, 10), NULL, NULL);
        print_rate(&result);
    } else if (strcmp(mode, "produce") == 0 && argc == 5) {
        areas all = load(argv[4]);
        result = produce(argv[2], argv[3], &all);
        print_rate(&result);
    } else if (strcmp(mode, "compute") == 0 && argc == 3) {
        compute(argv[2]);
    } else if (strcmp(mode, "backup") == 0 && argc == 6) {
        together(argv[2], argv[3], (int)strtol(argv[4], NULL, 10), argv[5]);
    } else if (strcmp(mode, "restore") == 0 && argc == 5) {
        together(argv[2], argv[3], 0, argv[4]);
    } else {
        die("see the comment at the top of bench_parts.c");
    }
    return 0;
}
