/*
 * bench_segment - CPU of the segment path beside the parts that cannot be avoided, in one run.
 *
 *   build/worker/bench/bench_segment [MiB]
 *
 * Records are JSON-like, of the size in the first column. Parts: zstd -3, decompression, SHA-256 of each
 * record, each called directly on the same bytes. Whole: append, seal with verification, write to memory; and
 * read with all checks.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zstd.h>

#include "common/base/mem.h"
#include "worker/segment/frame.h"
#include "worker/segment/segment_reader.h"
#include "worker/segment/segment_writer.h"

typedef struct object {
    uint8_t *data;
    size_t len;
} object;

typedef struct load {
    size_t record_bytes;
    size_t record_count;
    char *values; /* record_count of record_bytes each */
    const kb_own_block_opts *own;
} load;

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void must(kb_code code, const kb_error *err)
{
    if (code == KB_OK)
        return;
    fprintf(stderr, "bench_segment: %s\n", kb_error_text(err));
    exit(1);
}

static void make_values(load *work)
{
    uint64_t seed = 1;
    KB_AUTOFREE char *text = kb_malloc(work->record_bytes + 64);
    for (size_t i = 0; i < work->record_count; i++) {
        size_t at = 0;
        while (at < work->record_bytes) {
            seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            int len = snprintf(text + at, 64, "{\"id\":%u,\"user\":\"u%05u\",\"ok\":true},",
                               (unsigned)(seed >> 40), (unsigned)(seed >> 33) % 50000);
            at += (size_t)len;
        }
        memcpy(work->values + i * work->record_bytes, text, work->record_bytes);
    }
}

static kb_record_in record_of(const load *work, size_t i)
{
    return (kb_record_in){.timestamp = 1700000000000 + (int64_t)i,
                          .offset = (int64_t)i,
                          .key = work->values + i * work->record_bytes,
                          .key_len = 8,
                          .value = work->values + i * work->record_bytes,
                          .value_len = (int32_t)work->record_bytes};
}

/* ---- the parts, on frames of the same bytes ---- */

typedef struct parts {
    double compress;
    double decompress;
    double hash;
} parts;

static void measure_frame(const uint8_t *area, size_t len, parts *spent)
{
    static ZSTD_CCtx *compressor;
    static ZSTD_DCtx *decompressor;
    if (compressor == NULL) {
        compressor = ZSTD_createCCtx();
        decompressor = ZSTD_createDCtx();
        ZSTD_CCtx_setParameter(compressor, ZSTD_c_compressionLevel, 3);
        ZSTD_CCtx_setParameter(compressor, ZSTD_c_checksumFlag, 1);
    }
    size_t bound = ZSTD_compressBound(len);
    static uint8_t *packed;
    static uint8_t *plain;
    packed = kb_realloc(packed, bound, 1);
    plain = kb_realloc(plain, len, 1);
    double start = cpu_seconds();
    size_t packed_len = ZSTD_compress2(compressor, packed, bound, area, len);
    double compressed = cpu_seconds();
    (void)!ZSTD_decompressDCtx(decompressor, plain, len, packed, packed_len);
    double decompressed = cpu_seconds();
    uint8_t hash[KB_SHA256_SIZE];
    for (size_t at = 0; at < len;) {
        uint32_t total_len;
        memcpy(&total_len, area + at, sizeof total_len);
        kb_sha256(area + at + sizeof total_len, total_len, hash);
        at += sizeof total_len + total_len;
    }
    spent->compress += compressed - start;
    spent->decompress += decompressed - compressed;
    spent->hash += cpu_seconds() - decompressed;
}

/* ---- the whole ---- */

static kb_code sink_append(void *ctx, const void *bytes, size_t len, kb_error *err)
{
    (void)err;
    object *to = ctx;
    memcpy(to->data + (to->len == 0 ? KB_SEGMENT_HEADER_BYTES : to->len), bytes, len);
    to->len = (to->len == 0 ? KB_SEGMENT_HEADER_BYTES : to->len) + len;
    return KB_OK;
}

static kb_code sink_complete(void *ctx, const uint8_t header[KB_SEGMENT_HEADER_BYTES], kb_error *err)
{
    (void)err;
    memcpy(((object *)ctx)->data, header, KB_SEGMENT_HEADER_BYTES);
    return KB_OK;
}

static kb_code get_range(void *ctx, uint64_t offset, void *to, size_t len, kb_error *err)
{
    (void)err;
    memcpy(to, ((object *)ctx)->data + offset, len);
    return KB_OK;
}

/* Returns the CPU seconds of the whole; the parts are measured in between and not counted. */
static double write_all(const load *work, object *to, kb_segment_info *info, parts *spent)
{
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_frame_encoder_free_at) kb_frame_encoder *encoder = NULL;
    const kb_frame_encoder_opts encoder_opts = {
        .codec = KB_CODEC_ZSTD, .level = 3, .verify = true, .has_own_block = work->own != NULL};
    must(kb_frame_encoder_new(&encoder_opts, &encoder, &err), &err);
    const kb_segment_writer_opts opts = {.sink = {to, sink_append, sink_complete, NULL},
                                         .key = "bench",
                                         .codec = KB_CODEC_ZSTD,
                                         .has_own_block = work->own != NULL};
    KB_CLEANUP(kb_segment_writer_free_at) kb_segment_writer *writer = kb_segment_writer_new(&opts);
    KB_CLEANUP(kb_frame_free_at) kb_frame *frame = kb_frame_new(KB_FRAME_DEFAULT_CAPACITY);
    double spent_whole = 0;
    double start = cpu_seconds();
    for (size_t i = 0; i < work->record_count; i++) {
        bool is_full = false;
        kb_record_in record = record_of(work, i);
        must(kb_frame_append(frame, &record, work->own, &is_full, &err), &err);
        if (!is_full && i + 1 < work->record_count)
            continue;
        spent_whole += cpu_seconds() - start;
        kb_view area = kb_frame_bytes(frame);
        measure_frame(area.data, area.len, spent);
        start = cpu_seconds();
        must(kb_frame_seal(encoder, frame, &err), &err);
        must(kb_segment_writer_append(writer, frame, &err), &err);
        kb_frame_reset(frame);
    }
    must(kb_segment_writer_finish(writer, (int64_t)work->record_count, info, &err), &err);
    return spent_whole + cpu_seconds() - start;
}

static double read_all(object *from, const kb_segment_info *info)
{
    KB_AUTO_ERROR(err);
    const kb_segment_reader_opts opts = {.held_bytes = 0};
    KB_CLEANUP(kb_segment_reader_free_at) kb_segment_reader *reader = kb_segment_reader_new(&opts);
    const kb_segment_source source = {from, from->len, get_range};
    kb_segment_expect expect = KB_SEGMENT_EXPECT_INIT;
    expect.key = "bench";
    expect.sha256 = info->sha256;
    KB_AUTO_AREA(area);
    bool has = true;
    double start = cpu_seconds();
    must(kb_segment_reader_open(reader, &source, &expect, &err), &err);
    while (has)
        must(kb_segment_reader_next(reader, &area, &has, &err), &err);
    return cpu_seconds() - start;
}

static void run(size_t record_bytes, size_t total_bytes, const kb_own_block_opts *own)
{
    load work = {record_bytes, total_bytes / record_bytes, NULL, own};
    work.values = kb_malloc(work.record_count * record_bytes);
    make_values(&work);
    object stored = {kb_malloc(total_bytes * 2 + (1 << 20)), 0};
    kb_segment_info info;
    parts spent = {0};
    double whole = write_all(&work, &stored, &info, &spent);
    double sum = spent.compress + spent.decompress + spent.hash;
    double read = read_all(&stored, &info);
    double gib = (double)info.raw_bytes / (1 << 30);
    printf("%6zu %-5s %7.2f %7.2f %7.2f %7.2f | %7.2f %6.3f | %7.2f %6.0f\n", record_bytes,
           own != NULL ? "own" : "plain", spent.compress / gib, spent.decompress / gib, spent.hash / gib,
           sum / gib, whole / gib, whole / sum, read / gib, (double)info.raw_bytes / whole / (1 << 20));
    free(work.values);
    free(stored.data);
}

int main(int argc, char **argv)
{
    size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 128;
    const kb_own_block_opts own = {"cluster", 7};
    const size_t sizes[] = {100, 1024, 16384};
    printf("CPU seconds for a GiB of record area\n");
    printf("record headr  zstd-3  unzstd  sha256     sum |   write  ratio |    read   MiB/s\n");
    for (size_t i = 0; i < KB_ARRAY_LEN(sizes); i++) {
        run(sizes[i], mib << 20, NULL);
        run(sizes[i], mib << 20, &own);
    }
    return 0;
}
