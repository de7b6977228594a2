#include "worker/catalog/adoption.h"

#include "worker/segment/segment_writer.h"
#include "worker/tests/catalog_fixture.h"

/* ---- the pure choice ---- */

static kb_adoption_candidate candidate(int64_t from, int64_t start, int64_t to)
{
    return (kb_adoption_candidate){
        .has_index = true, .standard = true, .from = from, .start = start, .end = to - 1, .to = to};
}

static void kb_adoption_choose_takes_the_furthest_that_fits(void **state)
{
    (void)state;
    const kb_adoption_want want = {.position = 50, .cut = 100};
    static const struct {
        kb_adoption_candidate c[3];
        size_t count;
        ptrdiff_t expected;
        const char *what;
    } cases[] = {
        {{{0}}, 0, -1, "nothing there"},
        {{{.has_index = true, .from = 50, .start = 50, .end = 59, .to = 60}}, 1, 0, "joins"},
        {{{.has_index = true, .from = 40, .start = 55, .end = 59, .to = 60}}, 1, 0, "hole over the position"},
        {{{.has_index = true, .from = 51, .start = 55, .end = 59, .to = 60}}, 1, -1, "claim begins too late"},
        {{{.has_index = true, .from = 40, .start = 49, .end = 59, .to = 60}},
         1,
         -1,
         "records below the position"},
        {{{.has_index = true, .from = 40, .start = 45, .end = 49, .to = 50}}, 1, -1, "brings nothing"},
        {{{.has_index = true, .from = 50, .start = 50, .end = 99, .to = 100}}, 1, 0, "up to the cut"},
        {{{.has_index = true, .from = 50, .start = 50, .end = 99, .to = 101}}, 1, -1, "above the cut"},
        {{{.has_index = false, .from = 50, .start = 50, .end = 59, .to = 60}}, 1, -1, "no index"},
        {{{.has_index = true, .checked_bad = true, .from = 50, .start = 50, .end = 59, .to = 60}},
         1,
         -1,
         "bad"},
        {{{.has_index = true, .partition = 1, .from = 50, .start = 50, .end = 59, .to = 60}},
         1,
         -1,
         "partition"},
        {{{.has_index = true, .flags = 1, .from = 50, .start = 50, .end = 59, .to = 60}}, 1, -1, "flags"},
        {{{.has_index = true, .topic_id = {1}, .from = 50, .start = 50, .end = 59, .to = 60}},
         1,
         -1,
         "topic"},
        {{{.has_index = true, .from = 50, .start = 50, .end = 59, .to = 60},
          {.has_index = true, .from = 40, .start = 60, .end = 79, .to = 80},
          {.has_index = true, .from = 50, .start = 52, .end = 69, .to = 70}},
         3,
         1,
         "greatest to"},
        {{{.has_index = true, .from = 50, .start = 52, .end = 69, .to = 70},
          {.has_index = true, .from = 50, .start = 51, .end = 69, .to = 70}},
         2,
         1,
         "smaller start"},
        {{{.has_index = true, .from = 50, .start = 51, .end = 69, .to = 70},
          {.has_index = true, .standard = true, .from = 50, .start = 51, .end = 69, .to = 70}},
         2,
         1,
         "standard name"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++)
        if (kb_adoption_choose(cases[i].c, cases[i].count, &want) != cases[i].expected)
            fail_msg("case %zu: %s", i, cases[i].what);
}

/* An attempt and its zombie left two interleaved chains: only from and to tell a hole from a missing piece.
 */
static void kb_adoption_choose_interleaved_chains_never_skip(void **state)
{
    (void)state;
    const kb_adoption_candidate all[] = {
        candidate(10, 10, 20), candidate(20, 20, 30), candidate(40, 40, 50), /* 30-40 was never written */
        candidate(10, 12, 25), candidate(25, 26, 30),
    };
    kb_adoption_want want = {.position = 10, .cut = 100};
    assert_int_equal(kb_adoption_choose(all, KB_ARRAY_LEN(all), &want), 3);
    want.position = 25;
    assert_int_equal(kb_adoption_choose(all, KB_ARRAY_LEN(all), &want), 4);
    want.position = 30;
    assert_int_equal(kb_adoption_choose(all, KB_ARRAY_LEN(all), &want), -1);
}

/* ---- real segments ---- */

#define FOLDER ID "/topics/orders/partition=0/"

typedef struct make {
    const char *file; /* NULL = the standard name */
    const char *key;  /* what the index is told; NULL = the truth */
    int64_t from;
    int64_t start;
    int64_t end;
    int64_t to;
    int32_t partition;
    kb_codec codec;
    uint8_t topic;
} make;

static kb_code sink_append(void *ctx, const void *bytes, size_t len, kb_error *err)
{
    return kb_upload_append(ctx, bytes, len, err);
}

static kb_code sink_complete(void *ctx, const uint8_t header[KB_SEGMENT_HEADER_BYTES], kb_error *err)
{
    return kb_upload_complete(ctx, header, err);
}

static void fill(kb_frame *frame, int64_t start, int64_t end, kb_codec codec)
{
    KB_AUTO_ERROR(err);
    kb_frame_encoder *encoder KB_CLEANUP(kb_frame_encoder_free_at) = NULL;
    const kb_frame_encoder_opts opts = {.codec = codec, .verify = true};
    assert_ok(kb_frame_encoder_new(&opts, &encoder, &err));
    bool is_full = false;
    for (int64_t offset = start; offset <= end; offset++) {
        KB_AUTOFREE char *value = kb_asprintf("value %lld", (long long)offset);
        const kb_record_in record = {.timestamp = 1000 + offset,
                                     .offset = offset,
                                     .key = "k",
                                     .key_len = 1,
                                     .value = value,
                                     .value_len = (int32_t)strlen(value)};
        assert_ok(kb_frame_append(frame, &record, NULL, &is_full, &err));
    }
    assert_ok(kb_frame_seal(encoder, frame, &err));
}

static kb_segment_info make_segment(kb_storage *storage, const make *m)
{
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *standard =
        kb_layout_segment_file(m->start, kb_layout_extension(kb_codec_name(m->codec)));
    KB_AUTOFREE char *key = kb_asprintf("%s%s", FOLDER, m->file != NULL ? m->file : standard);
    kb_upload *upload KB_CLEANUP(kb_upload_free_at) = NULL;
    assert_ok(kb_upload_begin(storage, key, "000102030405060708090a0b0c0d0e0f", &upload, &err));
    kb_segment_writer_opts opts = {.sink = {upload, sink_append, sink_complete, NULL},
                                   .key = m->key != NULL ? m->key : key,
                                   .codec = m->codec,
                                   .partition = m->partition,
                                   .from = m->from,
                                   .verify = true};
    memset(opts.topic_id, m->topic != 0 ? m->topic : 0x10, sizeof opts.topic_id);
    kb_frame *frame KB_CLEANUP(kb_frame_free_at) = kb_frame_new(4096);
    fill(frame, m->start, m->end, m->codec);
    kb_segment_writer *writer KB_CLEANUP(kb_segment_writer_free_at) = kb_segment_writer_new(&opts);
    kb_segment_info info;
    assert_ok(kb_segment_writer_append(writer, frame, &err));
    assert_ok(kb_segment_writer_finish(writer, m->to, &info, &err));
    return info;
}

/* Flips a bit of an object's byte. */
static void damage(kb_storage *storage, const char *key, size_t at)
{
    KB_AUTO_ERROR(err);
    KB_AUTO_BLOB(blob);
    assert_ok(kb_storage_get(storage, key, 1 << 20, &blob, &err));
    blob.data[at] ^= 4;
    assert_ok(kb_storage_remove(storage, key, &err));
    test_put(storage, key, blob.data, blob.len);
}

static kb_backup *model(void)
{
    return test_plan();
}

static void adopt(kb_storage *storage, const kb_backup *backup, kb_adopted *ret_adopted, size_t *ret_listed)
{
    KB_AUTO_ERROR(err);
    kb_adoption *adoption KB_CLEANUP(kb_adoption_free_at) = NULL;
    assert_ok(kb_adoption_new(storage, backup, &adoption, &err));
    *ret_listed = kb_adoption_listed(adoption);
    const kb_topic_entry *topic = &backup->topics[0];
    assert_ok(kb_adoption_partition(adoption, topic, &topic->partitions[0], ret_adopted, &err));
}

static void kb_adoption_partition_continues_from_what_is_stored(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *journal = test_journal(store.storage, &clock, "first", "");
    assert_ok(kb_journal_wait(journal, &err));
    assert_ok(kb_journal_begin(journal, model(), &err));
    (void)make_segment(store.storage,
                       &(make){.from = 10, .start = 12, .end = 19, .to = 25, .codec = KB_CODEC_ZSTD});
    kb_segment_info second =
        make_segment(store.storage, &(make){.file = "segment-00000000000000000030-00010203.bin.zst",
                                            .from = 20,
                                            .start = 30,
                                            .end = 39,
                                            .to = 40,
                                            .codec = KB_CODEC_ZSTD});
    (void)make_segment(store.storage,
                       &(make){.from = 41, .start = 50, .end = 59, .to = 60, .codec = KB_CODEC_ZSTD});
    kb_adopted adopted KB_CLEANUP(kb_adopted_done) = {0};
    size_t listed = 0;
    adopt(store.storage, kb_journal_backup(journal), &adopted, &listed);
    assert_int_equal(listed, 3);
    assert_int_equal(adopted.count, 2);
    assert_int_equal(adopted.position, 40);
    assert_null(adopted.segments[0].name);
    assert_int_equal(adopted.segments[1].from, 25);
    assert_string_equal(adopted.segments[1].name, "segment-00000000000000000030-00010203.bin.zst");
    assert_true(kb_digest_is_equal(&adopted.segments[1].digest, &second.digest));
    assert_memory_equal(adopted.segments[1].sha256, second.sha256, sizeof second.sha256);
    assert_int_equal(adopted.probe_count, 2);
    assert_int_equal(adopted.probes[1].offset, 39);
    assert_true(adopted.max_record_bytes > 26);
    /* The journal takes it, and the next listing knows it. */
    kb_partition_progress progress = KB_PARTITION_PROGRESS_INIT;
    progress.topic = "orders";
    progress.position = adopted.position;
    progress.segments = adopted.segments;
    progress.segment_count = adopted.count;
    const kb_journal_news news = {.partitions = &progress, .partition_count = 1};
    assert_ok(kb_journal_progress(journal, &news, &err));
    kb_adopted again KB_CLEANUP(kb_adopted_done) = {0};
    adopt(store.storage, kb_journal_backup(journal), &again, &listed);
    assert_int_equal(listed, 1);
    assert_int_equal(again.count, 0);
    assert_int_equal(again.position, 40);
}

static void kb_adoption_partition_what_is_not_ours_or_damaged_stays(void **state)
{
    (void)state;
    static const make cases[] = {
        {.from = 10, .start = 10, .end = 19, .to = 20, .codec = KB_CODEC_ZSTD, .topic = 0x11},
        {.from = 10, .start = 10, .end = 19, .to = 20, .codec = KB_CODEC_ZSTD, .partition = 1},
        {.from = 10, .start = 10, .end = 19, .to = 20, .codec = KB_CODEC_ZSTD, .key = "another/key"},
        {.from = 10, .start = 10, .end = 19, .to = 20, .codec = KB_CODEC_NONE},
        {.from = 10, .start = 10, .end = 19, .to = 20, .codec = KB_CODEC_LZ4},
        {.from = 10, .start = 10, .end = 99, .to = 101, .codec = KB_CODEC_ZSTD},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        AUTO_STORE(store);
        KB_AUTO_BACKUP kb_backup *backup = model();
        kb_backup_find_partition(backup, "orders", 0)->to = 10;
        (void)make_segment(store.storage, &cases[i]);
        kb_adopted adopted KB_CLEANUP(kb_adopted_done) = {0};
        size_t listed = 0;
        adopt(store.storage, backup, &adopted, &listed);
        assert_int_equal(listed, 1);
        if (adopted.count != 0)
            fail_msg("case %zu was adopted", i);
        assert_int_equal(adopted.position, 10);
    }
}

static void kb_adoption_partition_damaged_segment_gives_way_to_the_next(void **state)
{
    (void)state;
    AUTO_STORE(store);
    KB_AUTO_BACKUP kb_backup *backup = model();
    kb_backup_find_partition(backup, "orders", 0)->to = 10;
    (void)make_segment(store.storage,
                       &(make){.from = 10, .start = 10, .end = 29, .to = 30, .codec = KB_CODEC_ZSTD});
    (void)make_segment(store.storage, &(make){.file = "segment-00000000000000000010-00010203.bin.zst",
                                              .from = 10,
                                              .start = 10,
                                              .end = 19,
                                              .to = 20,
                                              .codec = KB_CODEC_ZSTD});
    damage(store.storage, FOLDER "segment-00000000000000000010.bin.zst", 60);
    test_puts(store.storage, FOLDER "segment-00000000000000000011.bin.zst", "KBAK");
    kb_adopted adopted KB_CLEANUP(kb_adopted_done) = {0};
    size_t listed = 0;
    adopt(store.storage, backup, &adopted, &listed);
    assert_int_equal(listed, 3);
    assert_int_equal(adopted.count, 1);
    assert_int_equal(adopted.position, 20);
}

static void kb_adoption_new_failing_store_is_an_error(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    bad_store bad = {.inner = store.storage, .refuse = true};
    kb_storage *storage KB_CLEANUP(kb_storage_free_at) = bad_storage_new(&bad);
    KB_AUTO_BACKUP kb_backup *backup = model();
    kb_adoption *adoption = NULL;
    assert_fails(kb_adoption_new(storage, backup, &adoption, &err), KB_TEMPORARY_FAILURE);
}

/* ---- a taken name ---- */

static void check_conflict(const make *m, int64_t from, int64_t start, int64_t cut, bool expected)
{
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    KB_AUTO_BACKUP kb_backup *backup = model();
    kb_segment_info info = make_segment(store.storage, m);
    KB_AUTOFREE char *file = kb_layout_segment_file(m->start, kb_layout_extension(kb_codec_name(m->codec)));
    KB_AUTOFREE char *key = kb_asprintf("%s%s", FOLDER, file);
    kb_conflict conflict = {
        .key = key, .topic = "orders", .from = from, .start = start, .cut = cut, .has_topic_id = true};
    memset(conflict.topic_id, 0x10, sizeof conflict.topic_id);
    kb_adopted adopted KB_CLEANUP(kb_adopted_done) = {0};
    bool adoptable = !expected;
    assert_ok(kb_adoption_conflict(store.storage, backup, &conflict, &adoptable, &adopted, &err));
    assert_int_equal(adoptable, expected);
    if (!expected)
        return;
    assert_int_equal(adopted.count, 1);
    assert_int_equal(adopted.segments[0].from, from);
    assert_int_equal(adopted.position, m->codec == KB_CODEC_ZSTD ? m->to : m->end + 1);
    assert_null(adopted.segments[0].name);
    assert_memory_equal(adopted.segments[0].sha256, info.sha256, sizeof info.sha256);
    assert_int_equal(adopted.probes[0].offset, m->end);
    assert_true(adopted.max_record_bytes > 26);
}

static void kb_adoption_conflict_takes_what_can_stand_for_ours(void **state)
{
    (void)state;
    const make zstd = {.from = 10, .start = 12, .end = 19, .to = 25, .codec = KB_CODEC_ZSTD};
    const make none = {.from = 10, .start = 12, .end = 19, .to = 25, .codec = KB_CODEC_NONE};
    const make lz4 = {.from = 10, .start = 12, .end = 19, .to = 25, .codec = KB_CODEC_LZ4};
    const make other = {.from = 10, .start = 12, .end = 19, .to = 25, .codec = KB_CODEC_ZSTD, .topic = 0x11};
    check_conflict(&zstd, 10, 12, 100, true);
    check_conflict(&none, 10, 12, 100, true);
    check_conflict(&lz4, 10, 12, 100, true);
    check_conflict(&zstd, 11, 12, 25, true);
    check_conflict(&zstd, 9, 12, 100, false); /* its claim begins above what would be listed */
    check_conflict(&zstd, 10, 12, 24, false);
    check_conflict(&zstd, 10, 11, 100, false);
    check_conflict(&other, 10, 12, 100, false);
}

static void kb_adoption_conflict_damaged_or_absent_object_is_not_adoptable(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    KB_AUTO_BACKUP kb_backup *backup = model();
    (void)make_segment(store.storage,
                       &(make){.from = 10, .start = 12, .end = 19, .to = 25, .codec = KB_CODEC_ZSTD});
    damage(store.storage, FOLDER "segment-00000000000000000012.bin.zst", 70);
    kb_conflict conflict = {.key = FOLDER "segment-00000000000000000012.bin.zst",
                            .topic = "orders",
                            .from = 10,
                            .start = 12,
                            .cut = 100};
    kb_adopted adopted KB_CLEANUP(kb_adopted_done) = {0};
    bool adoptable = true;
    assert_ok(kb_adoption_conflict(store.storage, backup, &conflict, &adoptable, &adopted, &err));
    assert_false(adoptable);
    adoptable = true;
    conflict.key = FOLDER "segment-00000000000000000013.bin.zst";
    assert_ok(kb_adoption_conflict(store.storage, backup, &conflict, &adoptable, &adopted, &err));
    assert_false(adoptable);
    bad_store bad = {.inner = store.storage, .refuse = true};
    kb_storage *storage KB_CLEANUP(kb_storage_free_at) = bad_storage_new(&bad);
    assert_fails(kb_adoption_conflict(storage, backup, &conflict, &adoptable, &adopted, &err),
                 KB_TEMPORARY_FAILURE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_adoption_choose_takes_the_furthest_that_fits),
        cmocka_unit_test(kb_adoption_choose_interleaved_chains_never_skip),
        cmocka_unit_test(kb_adoption_partition_continues_from_what_is_stored),
        cmocka_unit_test(kb_adoption_partition_what_is_not_ours_or_damaged_stays),
        cmocka_unit_test(kb_adoption_partition_damaged_segment_gives_way_to_the_next),
        cmocka_unit_test(kb_adoption_new_failing_store_is_an_error),
        cmocka_unit_test(kb_adoption_conflict_takes_what_can_stand_for_ours),
        cmocka_unit_test(kb_adoption_conflict_damaged_or_absent_object_is_not_adoptable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
