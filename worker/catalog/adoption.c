#include "worker/catalog/adoption.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "worker/catalog/layout.h"
#include "worker/segment/segment_reader.h"

/* Larger objects are read twice instead: adoption runs beside everything else that needs memory. */
#define HELD_BYTES ((size_t)16 << 20)
#define RANGE_BYTES ((size_t)4 << 20)

/* ---- the choice ---- */

static bool is_candidate(const kb_adoption_candidate *c, const kb_adoption_want *want)
{
    return c->has_index && !c->checked_bad && c->partition == want->partition && c->flags == want->flags &&
           memcmp(c->topic_id, want->topic_id, KB_TOPIC_ID_SIZE) == 0 && c->from <= want->position &&
           want->position <= c->start && c->to > want->position && c->to <= want->cut;
}

static bool is_better(const kb_adoption_candidate *a, const kb_adoption_candidate *b)
{
    if (a->to != b->to)
        return a->to > b->to;
    if (a->start != b->start)
        return a->start < b->start;
    return a->standard && !b->standard;
}

ptrdiff_t kb_adoption_choose(const kb_adoption_candidate *candidates, size_t count,
                             const kb_adoption_want *want)
{
    ptrdiff_t best = -1;
    for (size_t i = 0; i < count; i++)
        if (is_candidate(&candidates[i], want) && (best < 0 || is_better(&candidates[i], &candidates[best])))
            best = (ptrdiff_t)i;
    return best;
}

/* ---- objects of the store as segments ---- */

typedef struct stored_object {
    kb_storage *storage;
    const char *key;
} stored_object;

static kb_code get_range(void *ctx, uint64_t offset, void *to, size_t len, kb_error *err)
{
    const stored_object *object = ctx;
    return kb_storage_get_range(object->storage, object->key, offset, to, len, err);
}

static kb_segment_source source_of(stored_object *object, uint64_t size)
{
    return (kb_segment_source){.ctx = object, .size = size, .get_range = get_range};
}

/* Errors that say something about the object, not about the store. */
static bool is_bad_object(kb_code code)
{
    return code == KB_BACKUP_CORRUPT || code == KB_ERR_FORMAT || code == KB_ERR_TOO_LARGE ||
           code == KB_ERR_NOT_FOUND;
}

static void log_refusal(const char *key, const kb_error *err)
{
    kb_log(KB_LOG_WARN, "a stored segment is not adopted", KB_STR("key", key), KB_ERRTEXT(err));
}

/* ---- candidates ---- */

typedef struct candidate_list {
    kb_adoption_candidate *items;
    size_t count;
    size_t capacity;
    bool has_indexes; /* they were read */
} candidate_list;

struct kb_adoption {
    kb_storage *storage;
    char *backup_id;
    uint16_t flags;
    kb_map *lists;     /* "topic/partition" to candidate_list */
    kb_map *journaled; /* keys; only while listing */
    size_t listed_count;
    kb_segment_reader *reader;
};

static void list_free(void *owned_list)
{
    candidate_list *list = owned_list;
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i].name);
    free(list->items);
    free(list);
}

static char *list_name(const char *topic, size_t topic_len, int32_t partition)
{
    return kb_asprintf("%.*s/%d", (int)topic_len, topic, (int)partition);
}

static kb_code add_listed(void *ctx, const kb_list_entry *entry, kb_error *err)
{
    (void)err;
    kb_adoption *adoption = ctx;
    kb_layout_place place;
    if (!kb_layout_split_topic_key(adoption->backup_id, entry->key, &place) ||
        kb_map_gets(adoption->journaled, entry->key) != NULL)
        return KB_OK;
    KB_AUTOFREE char *name = list_name((const char *)place.topic.data, place.topic.len, place.partition);
    candidate_list *list = kb_map_gets(adoption->lists, name);
    if (list == NULL) {
        list = kb_calloc(1, sizeof *list);
        kb_map_puts(adoption->lists, name, list);
    }
    list->items = kb_grow(list->items, list->count, &list->capacity, sizeof *list->items);
    list->items[list->count++] =
        (kb_adoption_candidate){.name = kb_strdup(place.file), .size = entry->info.size_bytes};
    adoption->listed_count++;
    return KB_OK;
}

static void note_journaled(kb_adoption *adoption, const kb_backup *backup)
{
    for (size_t t = 0; t < backup->topic_count; t++) {
        const kb_topic_entry *topic = &backup->topics[t];
        for (size_t p = 0; p < topic->listed_count; p++) {
            const kb_partition_entry *partition = &topic->partitions[p];
            for (size_t s = 0; s < partition->segment_count; s++) {
                KB_AUTOFREE char *key = kb_segment_key(backup, topic, partition, &partition->segments[s]);
                kb_map_puts(adoption->journaled, key, adoption);
            }
        }
    }
}

kb_code kb_adoption_new(kb_storage *storage, const kb_backup *backup, kb_adoption **ret_adoption,
                        kb_error *err)
{
    const kb_segment_reader_opts opts = {.held_bytes = HELD_BYTES, .range_bytes = RANGE_BYTES, .deep = true};
    kb_adoption *adoption KB_CLEANUP(kb_adoption_free_at) = kb_calloc(1, sizeof *adoption);
    adoption->storage = storage;
    adoption->backup_id = kb_strdup(backup->backup_id);
    adoption->flags = backup->content.offset_headers ? KB_INDEX_FLAG_OWN_BLOCK : 0;
    adoption->lists = kb_map_new(list_free);
    adoption->journaled = kb_map_new(NULL);
    adoption->reader = kb_segment_reader_new(&opts);
    note_journaled(adoption, backup);
    KB_AUTOFREE char *prefix = kb_layout_topics_prefix(backup->backup_id);
    kb_code code = kb_storage_list(storage, prefix, add_listed, adoption, err);
    if (code != KB_OK)
        return code;
    kb_map_clear(adoption->journaled);
    *ret_adoption = KB_TAKE(adoption);
    return KB_OK;
}

void kb_adoption_free(kb_adoption *owned_adoption)
{
    if (owned_adoption == NULL)
        return;
    kb_map_free(owned_adoption->lists);
    kb_map_free(owned_adoption->journaled);
    kb_segment_reader_free(owned_adoption->reader);
    free(owned_adoption->backup_id);
    free(owned_adoption);
}

void kb_adoption_free_at(kb_adoption **at)
{
    kb_adoption_free(*at);
    *at = NULL;
}

size_t kb_adoption_listed(const kb_adoption *adoption)
{
    return adoption->listed_count;
}

/* ---- what their indexes claim ---- */

static void take_claims(kb_adoption_candidate *candidate, const char *key, const kb_segment_header *header,
                        const kb_frame_index *index)
{
    uint8_t key_hash[KB_KEY_HASH_BYTES];
    kb_frame_index_key_hash(key, key_hash);
    KB_AUTOFREE char *standard = kb_layout_segment_file(header->first_offset, kb_layout_extension("zstd"));
    candidate->standard = strcmp(candidate->name, standard) == 0;
    candidate->has_index = true;
    candidate->checked_bad = memcmp(key_hash, index->key_hash, sizeof key_hash) != 0;
    candidate->partition = index->partition;
    candidate->flags = index->flags;
    candidate->start = header->first_offset;
    candidate->end = header->last_offset;
    candidate->from = index->from;
    candidate->to = index->to;
    memcpy(candidate->topic_id, index->topic_id, sizeof candidate->topic_id);
}

static kb_code read_claims(const kb_adoption *adoption, const char *folder, kb_adoption_candidate *candidate,
                           kb_error *err)
{
    KB_AUTOFREE char *key = kb_asprintf("%s%s", folder, candidate->name);
    stored_object object = {adoption->storage, key};
    const kb_segment_source source = source_of(&object, candidate->size);
    bool is_present = false;
    kb_segment_header header;
    kb_frame_index index = {0};
    kb_code code = kb_segment_index_read(&source, key, &is_present, &header, &index, err);
    if (code == KB_OK && is_present) {
        take_claims(candidate, key, &header, &index);
        kb_frame_index_done(&index);
    }
    if (is_bad_object(code)) {
        log_refusal(key, err);
        kb_error_done(err);
        return KB_OK;
    }
    return code;
}

static kb_code read_all_claims(const kb_adoption *adoption, const char *folder, candidate_list *list,
                               kb_error *err)
{
    for (size_t i = 0; i < list->count && !list->has_indexes; i++) {
        kb_code code = read_claims(adoption, folder, &list->items[i], err);
        if (code != KB_OK)
            return code;
    }
    list->has_indexes = true;
    return KB_OK;
}

/* ---- adopting ---- */

void kb_adopted_done(kb_adopted *adopted)
{
    for (size_t i = 0; i < adopted->count; i++)
        kb_segment_entry_done(&adopted->segments[i]);
    free(adopted->segments);
    free(adopted->probes);
    *adopted = (kb_adopted){0};
}

static void adopted_add_probe(kb_adopted *adopted, const kb_segment_info *info)
{
    if (adopted->probe_count == KB_PROBES_MAX) {
        adopted->probe_count--;
        memmove(adopted->probes, adopted->probes + 1, adopted->probe_count * sizeof *adopted->probes);
    }
    adopted->probes =
        kb_grow(adopted->probes, adopted->probe_count, &adopted->probe_capacity, sizeof *adopted->probes);
    kb_probe *probe = &adopted->probes[adopted->probe_count++];
    probe->offset = info->end;
    memcpy(probe->sha256, info->last_sha256, sizeof probe->sha256);
}

/* `file` is NULL when it is the standard name. */
static kb_code adopted_add(kb_adopted *adopted, const kb_segment_info *info, int64_t from, const char *file,
                           int64_t max_record_bytes, kb_error *err)
{
    kb_segment_entry entry;
    kb_code code = kb_segment_entry_from_info(info, &entry, err);
    if (code != KB_OK)
        return code;
    entry.from = from;
    entry.name = kb_strdup_opt(file);
    adopted->segments =
        kb_grow(adopted->segments, adopted->count, &adopted->capacity, sizeof *adopted->segments);
    adopted->segments[adopted->count++] = entry;
    adopted->position = entry.to;
    if (max_record_bytes > adopted->max_record_bytes)
        adopted->max_record_bytes = max_record_bytes;
    adopted_add_probe(adopted, info);
    return KB_OK;
}

/* Reads the chosen one whole and adds it; a damaged one is marked, and KB_OK as well. */
static kb_code try_candidate(kb_adoption *adoption, const char *folder, kb_adoption_candidate *candidate,
                             const kb_adoption_want *want, kb_adopted *adopted, kb_error *err)
{
    KB_AUTOFREE char *key = kb_asprintf("%s%s", folder, candidate->name);
    stored_object object = {adoption->storage, key};
    const kb_segment_source source = source_of(&object, candidate->size);
    kb_segment_expect expect = KB_SEGMENT_EXPECT_INIT;
    expect.key = key;
    expect.size = candidate->size;
    expect.start = candidate->start;
    expect.end = candidate->end;
    expect.from = want->position;
    expect.to = candidate->to;
    expect.partition = want->partition;
    expect.topic_id = want->topic_id;
    expect.own_block = want->flags == KB_INDEX_FLAG_OWN_BLOCK ? 1 : 0;
    kb_segment_info info;
    kb_code code = kb_segment_verify(adoption->reader, &source, &expect, &info, err);
    if (is_bad_object(code)) {
        candidate->checked_bad = true;
        log_refusal(key, err);
        kb_error_done(err);
        return KB_OK;
    }
    if (code != KB_OK)
        return code;
    const kb_frame_index *index = kb_segment_reader_index(adoption->reader);
    return adopted_add(adopted, &info, want->position, candidate->standard ? NULL : candidate->name,
                       index != NULL ? index->max_total_len : 0, err);
}

static kb_code adopt_all(kb_adoption *adoption, const char *folder, candidate_list *list,
                         kb_adoption_want *want, kb_adopted *adopted, kb_error *err)
{
    for (;;) {
        ptrdiff_t chosen = kb_adoption_choose(list->items, list->count, want);
        if (chosen < 0)
            return KB_OK;
        kb_code code = try_candidate(adoption, folder, &list->items[chosen], want, adopted, err);
        if (code != KB_OK)
            return code;
        want->position = adopted->position;
    }
}

kb_code kb_adoption_partition(kb_adoption *adoption, const kb_topic_entry *topic,
                              const kb_partition_entry *partition, kb_adopted *ret_adopted, kb_error *err)
{
    kb_adopted adopted KB_CLEANUP(kb_adopted_done) = {.position = partition->to};
    KB_AUTOFREE char *name = list_name(topic->name, strlen(topic->name), partition->partition);
    candidate_list *list = kb_map_gets(adoption->lists, name);
    if (list != NULL) {
        KB_AUTOFREE char *folder =
            kb_layout_partition_prefix(adoption->backup_id, topic->name, partition->partition);
        kb_adoption_want want = {.partition = partition->partition,
                                 .position = partition->to,
                                 .cut = partition->cut,
                                 .flags = adoption->flags};
        if (topic->has_topic_id)
            memcpy(want.topic_id, topic->topic_id, sizeof want.topic_id);
        kb_code code = read_all_claims(adoption, folder, list, err);
        if (code == KB_OK)
            code = adopt_all(adoption, folder, list, &want, &adopted, err);
        if (code != KB_OK)
            return code;
    }
    *ret_adopted = adopted;
    adopted = (kb_adopted){0};
    return KB_OK;
}

/* ---- a taken name ---- */

/* Without an index nothing tells the greatest record: such segments are small and read once more. */
static kb_code greatest_record(kb_segment_reader *reader, const kb_segment_source *source,
                               const kb_segment_expect *expect, int64_t *ret_bytes, kb_error *err)
{
    KB_AUTO_AREA(area);
    bool has = false;
    kb_code code = kb_segment_reader_open(reader, source, expect, err);
    while (code == KB_OK && (code = kb_segment_reader_next(reader, &area, &has, err)) == KB_OK && has) {
        kb_cursor cursor = kb_area_cursor(&area);
        while (code == KB_OK && cursor.left > 0) {
            kb_record_view record;
            code = kb_record_decode(&cursor, &record, err);
            if (code == KB_OK && (int64_t)record.raw_len > *ret_bytes)
                *ret_bytes = record.raw_len;
        }
    }
    return code;
}

static kb_code verify_conflict(kb_segment_reader *reader, const kb_segment_source *source,
                               const kb_conflict *conflict, kb_segment_info *ret_info,
                               int64_t *ret_max_record_bytes, kb_error *err)
{
    kb_segment_expect expect = KB_SEGMENT_EXPECT_INIT;
    expect.key = conflict->key;
    expect.size = source->size;
    expect.start = conflict->start;
    /* A claim that begins above ours would contradict what is listed. */
    expect.from = conflict->from;
    expect.partition = conflict->partition;
    expect.topic_id = conflict->has_topic_id ? conflict->topic_id : NULL;
    expect.own_block = conflict->own_block ? 1 : 0;
    kb_code code = kb_segment_verify(reader, source, &expect, ret_info, err);
    if (code != KB_OK)
        return code;
    if (ret_info->to > conflict->cut)
        return kb_fail(err, KB_ERR_FORMAT, "it reaches to %lld, beyond the cut %lld", (long long)ret_info->to,
                       (long long)conflict->cut);
    const kb_frame_index *index = kb_segment_reader_index(reader);
    if (index == NULL)
        return greatest_record(reader, source, &expect, ret_max_record_bytes, err);
    *ret_max_record_bytes = index->max_total_len;
    return KB_OK;
}

/* NULL when the key's file has the standard name of that segment. */
static const char *unusual_file(const kb_backup *backup, const kb_conflict *conflict,
                                const kb_segment_info *info)
{
    KB_AUTOFREE char *file =
        kb_layout_segment_file(info->start, kb_layout_extension(kb_codec_name(info->codec)));
    KB_AUTOFREE char *standard =
        kb_layout_segment_key(backup->backup_id, conflict->topic, conflict->partition, file);
    const char *slash = strrchr(conflict->key, '/');
    return strcmp(standard, conflict->key) == 0 || slash == NULL ? NULL : slash + 1;
}

kb_code kb_adoption_conflict(kb_storage *storage, const kb_backup *backup, const kb_conflict *conflict,
                             bool *ret_adoptable, kb_adopted *ret_adopted, kb_error *err)
{
    kb_object_info object_info;
    kb_code code = kb_storage_head(storage, conflict->key, &object_info, err);
    if (code != KB_OK && !is_bad_object(code))
        return code;
    const kb_segment_reader_opts opts = {.held_bytes = HELD_BYTES, .range_bytes = RANGE_BYTES, .deep = true};
    kb_segment_reader *reader KB_CLEANUP(kb_segment_reader_free_at) = kb_segment_reader_new(&opts);
    kb_adopted adopted KB_CLEANUP(kb_adopted_done) = {0};
    if (code == KB_OK) {
        stored_object object = {storage, conflict->key};
        const kb_segment_source source = source_of(&object, object_info.size_bytes);
        kb_segment_info info;
        int64_t max_record_bytes = 0;
        code = verify_conflict(reader, &source, conflict, &info, &max_record_bytes, err);
        if (code == KB_OK)
            code = adopted_add(&adopted, &info, conflict->from, unusual_file(backup, conflict, &info),
                               max_record_bytes, err);
    }
    if (is_bad_object(code)) {
        log_refusal(conflict->key, err);
        kb_error_done(err);
        *ret_adoptable = false;
        return KB_OK;
    }
    if (code != KB_OK)
        return code;
    *ret_adoptable = true;
    *ret_adopted = adopted;
    adopted = (kb_adopted){0};
    return KB_OK;
}
