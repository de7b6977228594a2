#include "worker/tests/backup_fixture.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/testing/temp_dir.h"
#include "worker/catalog/catalog.h"
#include "worker/catalog/layout.h"
#include "worker/segment/frame.h"
#include "worker/segment/segment_writer.h"
#include "worker/storage/storage_fs.h"

#define ATTEMPT "000102030405060708090a0b0c0d0e0f"
#define OBJECT_MAX_BYTES ((size_t)256 << 20)

#define must(call) \
    do { \
        if ((call) != KB_OK) \
            fail_msg("%s: %s", #call, kb_error_text(&err)); \
    } while (0)

/* ---- making ---- */

void test_backup_init(test_backup *fixture, const char *backup_id, const test_backup *beside)
{
    KB_AUTO_ERROR(err);
    fixture->is_shared = beside != NULL;
    fixture->dir = beside != NULL ? kb_strdup(beside->dir) : kb_temp_dir_new();
    must(kb_storage_open_filesystem(fixture->dir, KB_FS_WRITE, &fixture->storage, &err));
    kb_backup *backup = kb_backup_new(backup_id);
    kb_text_set(&backup->generator, "kafka-backup-worker/test");
    kb_text_set(&backup->owner, "manual");
    kb_text_set(&backup->cluster_id, "MkU3OEVBNTcwNTJENDM2Qk");
    kb_text_set(&backup->content.isolation, "read_committed");
    kb_text_set(&backup->compression, "zstd");
    backup->content.offset_headers = true;
    backup->format_version = KB_BACKUP_FORMAT_VERSION;
    backup->min_reader = KB_BACKUP_MIN_READER;
    backup->created_at = TEST_CREATED_AT;
    backup->cut_time = TEST_CREATED_AT + 1000;
    backup->completed_at = TEST_CREATED_AT + 2000;
    fixture->backup = backup;
}

void test_backup_done(test_backup *fixture)
{
    kb_backup_free(fixture->backup);
    kb_storage_free(fixture->storage);
    if (fixture->is_shared)
        free(fixture->dir);
    else
        kb_temp_dir_free(fixture->dir);
    *fixture = (test_backup){0};
}

kb_partition_entry *test_backup_add_empty(test_backup *fixture, const char *topic, int32_t partition)
{
    kb_topic_entry *entry = kb_backup_add_topic(fixture->backup, topic);
    if (!entry->has_topic_id) {
        entry->has_topic_id = true;
        memset(entry->topic_id, topic[0], sizeof entry->topic_id);
        entry->replication_factor = 1;
        entry->partition_count = 0;
        kb_text_set(&entry->timestamp_type, "CreateTime");
        kb_topic_set_config(entry, "cleanup.policy", "delete");
    }
    if (partition >= entry->partition_count)
        entry->partition_count = partition + 1;
    return kb_topic_add_partition(entry, partition);
}

typedef struct sink {
    kb_upload *upload;
} sink;

static kb_code sink_append(void *ctx, const void *bytes, size_t len, kb_error *err)
{
    return kb_upload_append(((sink *)ctx)->upload, bytes, len, err);
}

static kb_code sink_complete(void *ctx, const uint8_t header[KB_SEGMENT_HEADER_BYTES], kb_error *err)
{
    return kb_upload_complete(((sink *)ctx)->upload, header, err);
}

/* Incompressible, so that segments of as many records have as many bytes. */
static void fill_value(uint8_t *value, size_t len, int64_t offset, const test_segment *segment)
{
    uint64_t seed = (uint64_t)offset * 7919 + (uint64_t)segment->partition * 104729 + 1;
    for (size_t i = 0; i < len; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        value[i] = segment->is_compressible ? (uint8_t)'x' : (uint8_t)(seed >> 40);
    }
}

static void fill_frame(kb_frame *frame, const test_segment *segment)
{
    KB_AUTO_ERROR(err);
    static const kb_own_block_opts own = {NULL, 0};
    size_t value_len = segment->value_len > 0 ? segment->value_len : 100;
    KB_AUTOFREE uint8_t *value = kb_malloc(value_len);
    for (int64_t offset = segment->start; offset < segment->start + segment->count; offset++) {
        fill_value(value, value_len, offset, segment);
        kb_record_in record = {.timestamp = TEST_CREATED_AT + offset,
                               .offset = offset,
                               .key = "key",
                               .key_len = 3,
                               .value = value,
                               .value_len = (int32_t)value_len};
        bool is_full = false;
        must(kb_frame_append(frame, &record, &own, &is_full, &err));
    }
}

static void write_segment(test_backup *fixture, const test_segment *segment, int64_t from, const char *key,
                          kb_segment_info *info)
{
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_frame_free_at) kb_frame *frame = kb_frame_new(KB_FRAME_DEFAULT_CAPACITY);
    KB_CLEANUP(kb_frame_encoder_free_at) kb_frame_encoder *encoder = NULL;
    const kb_frame_encoder_opts encoding = {.codec = segment->codec, .verify = true, .has_own_block = true};
    fill_frame(frame, segment);
    must(kb_frame_encoder_new(&encoding, &encoder, &err));
    must(kb_frame_seal(encoder, frame, &err));
    sink to = {NULL};
    must(kb_upload_begin(fixture->storage, key, ATTEMPT, &to.upload, &err));
    kb_segment_writer_opts opts = {.sink = {&to, sink_append, sink_complete, NULL},
                                   .key = key,
                                   .codec = segment->codec,
                                   .partition = segment->partition,
                                   .from = from,
                                   .has_own_block = true,
                                   .verify = true};
    const kb_topic_entry *topic = kb_backup_find_topic(fixture->backup, segment->topic);
    memcpy(opts.topic_id, topic->topic_id, sizeof opts.topic_id);
    KB_CLEANUP(kb_segment_writer_free_at) kb_segment_writer *writer = kb_segment_writer_new(&opts);
    must(kb_segment_writer_append(writer, frame, &err));
    must(kb_segment_writer_finish(writer, segment->start + segment->count, info, &err));
    kb_upload_free(to.upload);
}

/* Where the next segment continues: after the last one, and the gap behind it if there is one. */
static int64_t position_of(const kb_partition_entry *partition)
{
    int64_t at = partition->from;
    if (partition->segment_count > 0)
        at = partition->segments[partition->segment_count - 1].to;
    if (partition->gap_count > 0 && partition->gaps[partition->gap_count - 1].end > at)
        at = partition->gaps[partition->gap_count - 1].end;
    return at;
}

void test_backup_add(test_backup *fixture, const test_segment *segment)
{
    static const char *const codecs[] = {
        [KB_CODEC_NONE] = "none", [KB_CODEC_ZSTD] = "zstd", [KB_CODEC_LZ4] = "lz4"};
    KB_AUTO_ERROR(err);
    kb_partition_entry *partition = test_backup_add_empty(fixture, segment->topic, segment->partition);
    KB_AUTOFREE char *file =
        kb_layout_segment_file(segment->start, kb_layout_extension(codecs[segment->codec]));
    KB_AUTOFREE char *key =
        kb_layout_segment_key(fixture->backup->backup_id, segment->topic, segment->partition, file);
    kb_segment_info info;
    write_segment(fixture, segment, position_of(partition), key, &info);
    kb_segment_entry entry;
    must(kb_segment_entry_from_info(&info, &entry, &err));
    must(kb_partition_add_segment(partition, &entry, &err));
}

void test_backup_add_gap(test_backup *fixture, const char *topic, int32_t partition, int64_t start,
                         int64_t end)
{
    KB_AUTO_ERROR(err);
    kb_partition_entry *entry = test_backup_add_empty(fixture, topic, partition);
    must(kb_partition_add_gap(entry, (kb_gap){start, end, TEST_CREATED_AT}, &err));
}

void test_backup_reuse(test_backup *fixture, const test_backup *from, const char *topic, int32_t partition,
                       size_t index)
{
    KB_AUTO_ERROR(err);
    const kb_partition_entry *source = kb_backup_find_partition(from->backup, topic, partition);
    kb_segment_entry entry = source->segments[index];
    entry.owner = kb_backup_add_use(fixture->backup, from->backup->backup_id);
    entry.name = NULL;
    must(kb_partition_add_segment(test_backup_add_empty(fixture, topic, partition), &entry, &err));
    if (fixture->backup->base == NULL) {
        kb_text_set(&fixture->backup->base, from->backup->backup_id);
        fixture->backup->depth = from->backup->depth + 1;
    }
}

void test_backup_publish(test_backup *fixture)
{
    KB_AUTO_ERROR(err);
    for (size_t t = 0; t < fixture->backup->topic_count; t++) {
        for (size_t p = 0; p < fixture->backup->topics[t].listed_count; p++) {
            kb_partition_entry *partition = &fixture->backup->topics[t].partitions[p];
            partition->to = partition->cut = partition->high_watermark = position_of(partition);
        }
    }
    KB_AUTOFREE char *journal = kb_layout_journal_key(fixture->backup->backup_id, 0);
    test_object_write(fixture, journal, "{}", 2);
    must(kb_catalog_publish(fixture->storage, &fixture->backup, &err));
}

void test_backup_fill(test_backup *fixture, kb_codec codec)
{
    static const char *const codecs[] = {
        [KB_CODEC_NONE] = "none", [KB_CODEC_ZSTD] = "zstd", [KB_CODEC_LZ4] = "lz4"};
    kb_text_set(&fixture->backup->compression, codecs[codec]);
    for (int64_t start = 0; start < 30; start += 10)
        test_backup_add(fixture, &(test_segment){"orders", 0, start, 10, codec, 0, false});
    test_backup_add(fixture, &(test_segment){"orders", 1, 5, 10, codec, 0, false});
    test_backup_add_empty(fixture, "quiet", 0);
}

char *test_backup_key(const test_backup *fixture, const char *topic, int32_t partition, size_t index)
{
    kb_topic_entry *entry = kb_backup_find_topic(fixture->backup, topic);
    assert_non_null(entry);
    kb_partition_entry *found = kb_topic_find_partition(entry, partition);
    assert_true(found != NULL && index < found->segment_count);
    return kb_segment_key(fixture->backup, entry, found, &found->segments[index]);
}

/* ---- damage ---- */

char *test_object_path(const test_backup *fixture, const char *key)
{
    return kb_asprintf("%s/%s", fixture->dir, key);
}

typedef struct content {
    uint8_t *data;
    size_t len;
} content;

static void content_done(content *held)
{
    free(held->data);
}

static content load(const test_backup *fixture, const char *key)
{
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *path = test_object_path(fixture, key);
    content held = {NULL, 0};
    must(kb_file_read(path, OBJECT_MAX_BYTES, &held.data, &held.len, &err));
    return held;
}

int64_t test_object_size(const test_backup *fixture, const char *key)
{
    content held KB_CLEANUP(content_done) = load(fixture, key);
    return (int64_t)held.len;
}

static void make_parents(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(path, 0777);
        *slash = '/';
    }
}

void test_object_write(const test_backup *fixture, const char *key, const void *data, size_t len)
{
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *path = test_object_path(fixture, key);
    make_parents(path);
    must(kb_file_write(path, data, len, &err));
}

/* In place: writing thousands of times a file that was truncated makes some file systems flush each time. */
void test_object_flip(const test_backup *fixture, const char *key, int64_t at, unsigned bit)
{
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *path = test_object_path(fixture, key);
    KB_AUTO_FD int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte = 0;
    must(kb_pread_all(fd, &byte, 1, (uint64_t)at, path, &err));
    byte ^= (uint8_t)(1u << bit);
    must(kb_pwrite_all(fd, &byte, 1, (uint64_t)at, path, &err));
}

void test_object_cut(const test_backup *fixture, const char *key, int64_t size)
{
    KB_AUTOFREE char *path = test_object_path(fixture, key);
    assert_int_equal(truncate(path, size), 0);
}

void test_object_remove(const test_backup *fixture, const char *key)
{
    KB_AUTOFREE char *path = test_object_path(fixture, key);
    assert_int_equal(unlink(path), 0);
}

void test_object_copy(const test_backup *fixture, const char *from, const char *to)
{
    content held KB_CLEANUP(content_done) = load(fixture, from);
    test_object_write(fixture, to, held.data, held.len);
}

void test_object_swap(const test_backup *fixture, const char *a, const char *b)
{
    content first KB_CLEANUP(content_done) = load(fixture, a);
    test_object_copy(fixture, b, a);
    test_object_write(fixture, b, first.data, first.len);
}
