#include "worker/offsets/snapshot.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "common/data/json_write.h"
#include "worker/catalog/catalog_json.h"
#include "worker/catalog/object_source.h"

#define KB_SNAPSHOT_FORMAT_VERSION 1

void kb_offset_snapshot_done(kb_offset_snapshot *snapshot)
{
    free(snapshot->id);
    free(snapshot->cluster);
    free(snapshot->cluster_id);
    free(snapshot->run_kind);
    free(snapshot->job_uid);
    free(snapshot->inputs);
    kb_group_set_done(&snapshot->groups);
    kb_group_set_done(&snapshot->plan);
    *snapshot = (kb_offset_snapshot){0};
}

/* ---- writing ---- */

typedef void (*put_place)(kb_json_writer *w, const char *name, const kb_group_place *place, int64_t time_ms);

static void put_stored(kb_json_writer *w, const char *name, const kb_group_place *place, int64_t time_ms)
{
    kb_json_put_name(w, name);
    kb_json_put_begin_object(w);
    kb_json_field_i64(w, "offset", place->offset);
    kb_json_field_text(w, "metadata", place->metadata != NULL ? place->metadata : "");
    kb_json_field_i64(w, "timestamp", time_ms);
    kb_json_put_end_object(w);
}

static void put_planned(kb_json_writer *w, const char *name, const kb_group_place *place, int64_t time_ms)
{
    (void)time_ms;
    kb_json_field_i64(w, name, place->offset);
}

/* The members { topic: { "0": ... } } of an open object. */
static void put_topics(kb_json_writer *w, const kb_group_entry *entry, put_place put, int64_t time_ms)
{
    const char *topic = NULL;
    for (size_t i = 0; i < entry->count; i++) {
        const kb_group_place *place = &entry->places[i];
        if (topic == NULL || strcmp(topic, place->topic) != 0) {
            if (topic != NULL)
                kb_json_put_end_object(w);
            topic = place->topic;
            kb_json_put_name(w, topic);
            kb_json_put_begin_object(w);
        }
        KB_AUTOFREE char *partition = kb_asprintf("%" PRId32, place->partition);
        put(w, partition, place, time_ms);
    }
    if (topic != NULL)
        kb_json_put_end_object(w);
}

static void put_groups(kb_json_writer *w, const kb_offset_snapshot *snapshot)
{
    kb_json_put_name(w, "groups");
    kb_json_put_begin_object(w);
    for (size_t i = 0; i < snapshot->groups.count; i++) {
        kb_json_put_name(w, snapshot->groups.groups[i].group);
        kb_json_put_begin_object(w);
        kb_json_put_name(w, "topics");
        kb_json_put_begin_object(w);
        put_topics(w, &snapshot->groups.groups[i], put_stored, snapshot->time_ms);
        kb_json_put_end_object(w);
        kb_json_put_end_object(w);
    }
    kb_json_put_end_object(w);
}

static void put_plan(kb_json_writer *w, const kb_offset_snapshot *snapshot)
{
    kb_json_put_name(w, "plan");
    if (!snapshot->has_plan) {
        kb_json_put_null(w);
        return;
    }
    kb_json_put_begin_object(w);
    for (size_t i = 0; i < snapshot->plan.count; i++) {
        kb_json_put_name(w, snapshot->plan.groups[i].group);
        kb_json_put_begin_object(w);
        put_topics(w, &snapshot->plan.groups[i], put_planned, 0);
        kb_json_put_end_object(w);
    }
    kb_json_put_end_object(w);
}

static void put_run(kb_json_writer *w, const kb_offset_snapshot *snapshot)
{
    kb_json_put_name(w, "run");
    kb_json_put_begin_object(w);
    kb_json_field_text(w, "kind", snapshot->run_kind);
    kb_json_field_text(w, "jobUid", snapshot->job_uid != NULL ? snapshot->job_uid : "");
    kb_json_field_text(w, "inputs", snapshot->inputs != NULL ? snapshot->inputs : "");
    kb_json_put_end_object(w);
}

kb_code kb_offset_snapshot_encode(const kb_offset_snapshot *snapshot, char **ret_text, size_t *ret_len,
                                  kb_error *err)
{
    static const uint8_t no_hash[KB_SHA256_SIZE] = {0};
    KB_AUTO_STRBUF(text, KB_OFFSET_SNAPSHOT_MAX_BYTES);
    KB_CLEANUP(kb_json_writer_free_at) kb_json_writer *w = kb_json_writer_new(KB_JSON_PRETTY, &text);
    char time[KB_RFC3339_SIZE];
    kb_rfc3339_format(snapshot->time_ms, time);
    kb_json_put_begin_object(w);
    kb_json_field_text(w, "snapshotId", snapshot->id);
    kb_json_field_text(w, "timestamp", time);
    kb_json_field_text(w, "cluster", snapshot->cluster);
    put_groups(w, snapshot);
    kb_json_field_i64(w, "formatVersion", KB_SNAPSHOT_FORMAT_VERSION);
    kb_json_field_text(w, "clusterId", snapshot->cluster_id);
    put_run(w, snapshot);
    put_plan(w, snapshot);
    kb_put_hash(w, "sha256", no_hash);
    kb_json_put_end_object(w);
    if (kb_json_writer_finish(w, err) != KB_OK || kb_self_hash_write(text.data, text.len, err) != KB_OK)
        return kb_wrap(err, "writing offset snapshot '%s'", snapshot->id);
    *ret_len = text.len;
    *ret_text = kb_strbuf_take(&text);
    return KB_OK;
}

/* ---- reading ---- */

static kb_code load(kb_view text, json_t **ret_root, kb_error *err)
{
    json_error_t reason;
    json_t *root = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, &reason);
    if (root == NULL)
        return kb_fail(err, KB_ERR_FORMAT, "line %d: %s", reason.line, reason.text);
    if (!json_is_object(root)) {
        json_decref(root);
        return kb_fail(err, KB_ERR_FORMAT, "not a JSON object");
    }
    *ret_root = root;
    return KB_OK;
}

static kb_code parse_partition(const char *name, int32_t *ret_partition, kb_error *err)
{
    char *end = NULL;
    long value = name[0] >= '0' && name[0] <= '9' ? strtol(name, &end, 10) : -1;
    if (value < 0 || value > INT32_MAX || *end != '\0')
        return kb_fail(err, KB_ERR_FORMAT, "'%.40s' is no partition", name);
    *ret_partition = (int32_t)value;
    return KB_OK;
}

/* One partition: a number, or an object with "offset". */
static kb_code read_place(const json_t *value, kb_group_entry *entry, const char *topic, int32_t partition,
                          bool skip_unknown, kb_error *err)
{
    const json_t *offset = json_is_object(value) ? json_object_get(value, "offset") : value;
    if (!json_is_integer(offset) || json_integer_value(offset) < KB_GROUP_NO_OFFSET)
        return kb_fail(err, KB_ERR_FORMAT, "no offset");
    if (skip_unknown && json_integer_value(offset) < 0)
        return KB_OK;
    const char *metadata = json_is_object(value) ? kb_tree_text(value, "metadata", NULL) : NULL;
    kb_group_entry_put(entry, topic, partition, (int64_t)json_integer_value(offset), metadata);
    return KB_OK;
}

static kb_code read_topics(json_t *topics, kb_group_entry *entry, bool skip_unknown, kb_error *err)
{
    const char *topic, *name;
    json_t *partitions, *value;
    if (!json_is_object(topics))
        return kb_fail(err, KB_ERR_FORMAT, "group '%s': no topics", entry->group);
    json_object_foreach(topics, topic, partitions)
    {
        if (!json_is_object(partitions))
            return kb_fail(err, KB_ERR_FORMAT, "group '%s': topic '%s': no partitions", entry->group, topic);
        json_object_foreach(partitions, name, value)
        {
            int32_t partition = 0;
            if (parse_partition(name, &partition, err) != KB_OK ||
                read_place(value, entry, topic, partition, skip_unknown, err) != KB_OK)
                return kb_wrap(err, "group '%s': topic '%s': partition '%.40s'", entry->group, topic, name);
        }
    }
    return KB_OK;
}

/* member: of a group that holds its topics; NULL = the group is that object. */
static kb_code read_groups(json_t *groups, const char *member, bool skip_unknown, kb_group_set *set,
                           kb_error *err)
{
    const char *group;
    json_t *value;
    if (!json_is_object(groups))
        return kb_fail(err, KB_ERR_FORMAT, "no groups");
    json_object_foreach(groups, group, value)
    {
        json_t *topics = member != NULL ? json_object_get(value, member) : value;
        if (read_topics(topics, kb_group_set_add(set, group), skip_unknown, err) != KB_OK)
            return err->code;
    }
    return KB_OK;
}

static void take_text(char **to, const json_t *root, const char *name)
{
    free(*to);
    *to = kb_strdup_opt(kb_tree_text(root, name, NULL));
}

static kb_code read_ours(json_t *root, kb_offset_snapshot *snapshot, kb_error *err)
{
    if (kb_tree_i64(0, root, "formatVersion", NULL) != KB_SNAPSHOT_FORMAT_VERSION)
        return kb_fail(err, KB_ERR_FORMAT,
                       "formatVersion is not %d; it needs another version of this program",
                       KB_SNAPSHOT_FORMAT_VERSION);
    json_t *run = json_object_get(root, "run");
    json_t *plan = json_object_get(root, "plan");
    take_text(&snapshot->id, root, "snapshotId");
    take_text(&snapshot->cluster, root, "cluster");
    take_text(&snapshot->cluster_id, root, "clusterId");
    take_text(&snapshot->run_kind, run, "kind");
    snapshot->job_uid = kb_strdup(kb_tree_text_or_empty(run, "jobUid", NULL));
    snapshot->inputs = kb_strdup(kb_tree_text_or_empty(run, "inputs", NULL));
    if (!kb_tree_time(&snapshot->time_ms, root, "timestamp", NULL))
        return kb_fail(err, KB_ERR_FORMAT, "no timestamp");
    snapshot->has_plan = json_is_object(plan);
    if (snapshot->has_plan && read_groups(plan, NULL, false, &snapshot->plan, err) != KB_OK)
        return kb_wrap(err, "plan");
    return read_groups(json_object_get(root, "groups"), "topics", false, &snapshot->groups, err);
}

kb_code kb_offset_snapshot_decode(kb_view text, kb_offset_snapshot *ret_snapshot, kb_error *err)
{
    KB_AUTO_TREE(root);
    KB_CLEANUP(kb_offset_snapshot_done) kb_offset_snapshot snapshot = {0};
    if (load(text, &root, err) != KB_OK ||
        kb_self_hash_check((const char *)text.data, text.len, err) != KB_OK ||
        read_ours(root, &snapshot, err) != KB_OK)
        return err->code;
    *ret_snapshot = snapshot;
    snapshot = (kb_offset_snapshot){0};
    return KB_OK;
}

kb_code kb_offset_snapshot_decode_foreign(kb_view text, kb_offset_snapshot *ret_snapshot, kb_error *err)
{
    KB_AUTO_TREE(root);
    KB_CLEANUP(kb_offset_snapshot_done) kb_offset_snapshot snapshot = {.is_foreign = true};
    if (load(text, &root, err) != KB_OK ||
        read_groups(json_object_get(root, "group_offsets"), "offsets", true, &snapshot.groups, err) != KB_OK)
        return err->code;
    take_text(&snapshot.id, root, "snapshot_id");
    take_text(&snapshot.cluster_id, root, "cluster_id");
    (void)kb_tree_time(&snapshot.time_ms, root, "created_at", NULL);
    *ret_snapshot = snapshot;
    snapshot = (kb_offset_snapshot){0};
    return KB_OK;
}

kb_code kb_offset_mapping_decode(kb_view text, kb_group_set *ret_set, kb_error *err)
{
    KB_AUTO_TREE(root);
    KB_CLEANUP(kb_group_set_done) kb_group_set set = {0};
    if (load(text, &root, err) != KB_OK ||
        read_groups(json_object_get(root, "groups"), NULL, false, &set, err) != KB_OK)
        return err->code;
    for (size_t g = 0; g < set.count; g++)
        for (size_t p = 0; p < set.groups[g].count; p++)
            if (set.groups[g].places[p].offset < 0)
                return kb_fail(err, KB_ERR_FORMAT, "group '%s': a negative offset", set.groups[g].group);
    *ret_set = set;
    set = (kb_group_set){0};
    return KB_OK;
}
