#include "worker/cmd/offset_run.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/encode.h"
#include "common/base/mem.h"
#include "common/data/json_write.h"
#include "worker/cmd/text_table.h"
#include "worker/kafka/kafka_groups_live.h"

#define KB_CONNECT_MS 60000
#define KB_SNAPSHOT_MAP "offset-snapshots"
#define KB_OFFSETS_TEXT_MAX ((size_t)256 << 20)
#define KB_INPUTS_TEXT_MAX ((size_t)128 << 20)
#define KB_INPUTS_DIGITS 32

void kb_offset_run_done(kb_offset_run *offsets)
{
    kb_snapshot_store_free(offsets->store);
    kb_configmap_free(offsets->map);
    kb_kube_access_free(offsets->access);
    kb_storage_free(offsets->storage);
    kb_kafka_groups_free(offsets->groups);
    kb_kafka_admin_free(offsets->admin);
    kb_kafka_cluster_done(&offsets->cluster);
    if (offsets->breaker != NULL)
        kb_breaker_free(offsets->breaker);
    kb_run_kafka_done(&offsets->kafka);
    free(offsets->inputs);
    *offsets = (kb_offset_run){0};
}

/* ---- opening ---- */

/* Without a store in the configuration it is a ConfigMap, too. */
static kb_code open_map(const kb_run_context *run, const kb_config_storage *block, kb_offset_run *offsets,
                        kb_error *err)
{
    if (kb_kube_access_in_cluster(NULL, NULL, &offsets->access, err) != KB_OK)
        return kb_wrap(err, "the ConfigMap of offset snapshots; hint: give storage or offsets.store");
    const char *name_space =
        block->configmap_namespace != NULL ? block->configmap_namespace : run->env.namespace;
    const char *name = block->configmap_name != NULL ? block->configmap_name : KB_SNAPSHOT_MAP;
    offsets->map = kb_configmap_new(offsets->access, name_space, name, run->stop);
    offsets->store = kb_snapshot_store_new_map(offsets->map);
    return KB_OK;
}

kb_code kb_offset_run_open_store(kb_run_context *run, kb_offset_run *offsets, kb_error *err)
{
    const kb_config_offsets *config = &run->config->offsets;
    const kb_config_storage *block = config->store.block.is_given ? &config->store : &run->config->storage;
    bool reads_only = run->flags->command == KB_COMMAND_OFFSET_VERIFY;
    if (!block->block.is_given || block->backend == KB_CONFIG_CONFIGMAP)
        return open_map(run, block, offsets, err);
    if (kb_run_context_store(run, block, reads_only ? KB_FS_READ : KB_FS_CREATE, &offsets->storage, err) !=
        KB_OK)
        return kb_wrap(err, "the store of offset snapshots");
    offsets->store = kb_snapshot_store_new(offsets->storage, false);
    return KB_OK;
}

static void add_list(kb_strbuf *to, const char *name, const kb_strings *list)
{
    kb_strbuf_appendf(to, "%s\n", name);
    for (size_t i = 0; i < list->count; i++)
        kb_strbuf_appendf(to, " %s\n", list->items[i]);
}

/* A hash of all that a plan by hand is made of. */
static char *hash_inputs(const kb_run_context *run, const kb_kafka_cluster *cluster, const char *extra)
{
    const kb_config_offsets *offsets = &run->config->offsets;
    KB_AUTO_STRBUF(text, KB_INPUTS_TEXT_MAX);
    add_list(&text, "groups", &offsets->groups);
    add_list(&text, "topics", &offsets->topics);
    kb_strbuf_appendf(&text, "%d %d %" PRId64 " %d %" PRId64 " %d %d\n", offsets->strategy,
                      offsets->timestamp_ms.is_set, offsets->timestamp_ms.value, offsets->offset.is_set,
                      offsets->offset.value, offsets->source_offsets, offsets->scan_all_partitions);
    kb_strbuf_appendf(&text, "%s\n%s\n%s\n%s\n",
                      offsets->source_cluster != NULL ? offsets->source_cluster : "",
                      run->config->backup_id != NULL ? run->config->backup_id : "",
                      cluster->cluster_id != NULL ? cluster->cluster_id : "", extra != NULL ? extra : "");
    uint8_t sha256[KB_SHA256_SIZE];
    char hex[2 * KB_SHA256_SIZE + 1];
    kb_sha256(kb_strbuf_view(&text), text.len, sha256);
    kb_hex_encode(sha256, sizeof sha256, hex);
    return kb_strndup(hex, KB_INPUTS_DIGITS);
}

static void make_breaker(const kb_run_context *run, kb_offset_run *offsets)
{
    const kb_config_circuit_breaker *from = &run->config->circuit_breaker;
    if (from->enabled)
        offsets->breaker = kb_breaker_new(&(kb_breaker_options){
            .failure_threshold = (unsigned)from->failure_threshold,
            .reset_timeout_ms = from->reset_timeout_secs * 1000,
            .success_threshold = (unsigned)from->success_threshold,
        });
}

static kb_code connect(kb_run_context *run, kb_offset_run *offsets, kb_error *err)
{
    int64_t limit_ms = run->config->limits.no_progress_secs * 1000;
    int64_t wait_ms = limit_ms < KB_CONNECT_MS ? limit_ms : KB_CONNECT_MS;
    if (kb_run_context_kafka(run, &run->config->target, &offsets->kafka, err) != KB_OK)
        return err->code;
    const kb_kafka_options *kafka = &offsets->kafka.options;
    if (kb_kafka_connect(kafka, kb_clock_boot_ms() + wait_ms, run->stop, &offsets->cluster, err) != KB_OK)
        return err->code;
    make_breaker(run, offsets);
    if (kb_kafka_admin_new(kafka, offsets->breaker, &offsets->admin, err) != KB_OK)
        return err->code;
    return kb_kafka_groups_new(kafka, offsets->breaker, &offsets->groups, err);
}

static kb_code open_run(kb_run_context *run, const char *extra, kb_offset_run *offsets, kb_error *err)
{
    const kb_config_offsets *config = &run->config->offsets;
    bool needs_store = run->flags->command != KB_COMMAND_OFFSET_RESET || config->create_snapshot;
    if (kb_run_context_observe(run, KB_RUN_KIND_OFFSETS, NULL, NULL, err) != KB_OK)
        return err->code;
    if (config->snapshot_id != NULL)
        kb_progress_set_text(run->progress, KB_REPORT_SNAPSHOT_ID, config->snapshot_id);
    kb_progress_set_state(run->progress, KB_RUN_PREFLIGHT);
    if ((needs_store && kb_offset_run_open_store(run, offsets, err) != KB_OK) ||
        connect(run, offsets, err) != KB_OK)
        return err->code;
    offsets->inputs = hash_inputs(run, &offsets->cluster, extra);
    return KB_OK;
}

kb_code kb_offset_run_open(kb_run_context *run, const char *extra, kb_offset_run *ret_offsets, kb_error *err)
{
    const kb_config_offsets *config = &run->config->offsets;
    if (open_run(run, extra, ret_offsets, err) != KB_OK)
        return err->code;
    ret_offsets->env = (kb_offsets_env){
        .groups = ret_offsets->groups,
        .admin = ret_offsets->admin,
        .kafka = &ret_offsets->kafka.options,
        .store = ret_offsets->store,
        .cluster = ret_offsets->kafka.servers,
        .cluster_id = ret_offsets->cluster.cluster_id,
        .run_kind = run->flags->command_name,
        .job_uid = run->env.job_uid != NULL ? run->env.job_uid : "",
        .inputs = ret_offsets->inputs,
        .stop = run->stop,
        .progress = run->progress,
        .metrics = run->run_metrics,
        .parallelism = (size_t)config->parallelism,
        .wait_for_empty_ms = config->wait_for_empty_secs * 1000,
        .continue_on_error = config->continue_on_error,
        .force = config->force,
    };
    return KB_OK;
}

/* ---- results ---- */

static const kb_text_column COLUMNS[] = {{"GROUP", KB_TEXT_LEFT},
                                         {"TOPIC", KB_TEXT_LEFT},
                                         {"PARTITION", KB_TEXT_RIGHT},
                                         {"OLD", KB_TEXT_RIGHT},
                                         {"NEW", KB_TEXT_RIGHT}};

static void add_offset(kb_text_table *table, int64_t offset)
{
    if (offset == KB_GROUP_NO_OFFSET)
        kb_text_table_add(table, "-");
    else
        kb_text_table_add_i64(table, offset);
}

static void print_text(const kb_reset_outcome *outcome, const char *saved_id, kb_strbuf *out)
{
    KB_CLEANUP(kb_text_table_free_at)
    kb_text_table *table = kb_text_table_new(COLUMNS, KB_ARRAY_LEN(COLUMNS));
    const kb_group_change *change = &outcome->change;
    for (size_t g = 0; g < change->plan.count; g++) {
        const kb_group_entry *planned = &change->plan.groups[g];
        const kb_group_entry *before = kb_group_set_find(&change->before, planned->group);
        for (size_t p = 0; p < planned->count; p++) {
            const kb_group_place *place = &planned->places[p];
            kb_text_table_add(table, planned->group);
            kb_text_table_add(table, place->topic);
            kb_text_table_add_i64(table, place->partition);
            add_offset(table, kb_group_entry_offset(before, place->topic, place->partition));
            add_offset(table, place->offset);
        }
    }
    if (change->plan.count > 0)
        kb_text_table_print(table, out);
    for (size_t i = 0; i < outcome->results.count; i++) {
        const kb_group_result *result = &outcome->results.items[i];
        if (result->code == KB_OK)
            continue;
        kb_strbuf_appends(out, "failed ");
        kb_text_escape(out, result->group);
        kb_strbuf_appends(out, ": ");
        kb_text_escape(out, result->message);
        kb_strbuf_appendc(out, '\n');
    }
    if (saved_id != NULL)
        kb_strbuf_appendf(out, "the offsets before are saved as %s\n", saved_id);
}

static void put_offset(kb_json_writer *w, const char *name, int64_t offset)
{
    if (offset == KB_GROUP_NO_OFFSET)
        kb_json_field_null(w, name);
    else
        kb_json_field_i64(w, name, offset);
}

static void put_group(kb_json_writer *w, const kb_reset_outcome *outcome, const kb_group_result *result,
                      bool dry_run)
{
    const kb_group_entry *planned = kb_group_set_find(&outcome->change.plan, result->group);
    const kb_group_entry *before = kb_group_set_find(&outcome->change.before, result->group);
    kb_json_put_begin_object(w);
    kb_text_json_field(w, "group", result->group);
    kb_json_field_text(w, "status",
                       result->code != KB_OK ? "failure"
                       : dry_run             ? "planned"
                       : result->is_done     ? "success"
                                             : "skipped");
    kb_json_field_i64(w, "partitionsReset", dry_run ? result->planned : result->changed);
    kb_text_json_field(w, "message", result->message);
    kb_json_put_name(w, "partitions");
    kb_json_put_begin_array(w);
    for (size_t p = 0; planned != NULL && p < planned->count; p++) {
        const kb_group_place *place = &planned->places[p];
        kb_json_put_begin_object(w);
        kb_json_field_text(w, "topic", place->topic);
        kb_json_field_i64(w, "partition", place->partition);
        put_offset(w, "old", kb_group_entry_offset(before, place->topic, place->partition));
        put_offset(w, "new", place->offset);
        kb_json_put_end_object(w);
    }
    kb_json_put_end_array(w);
    kb_json_put_end_object(w);
}

static kb_code print_json(const kb_run_context *run, const kb_reset_outcome *outcome, bool dry_run,
                          const char *saved_id, kb_strbuf *out, kb_error *err)
{
    KB_CLEANUP(kb_json_writer_free_at) kb_json_writer *w = kb_json_writer_new(KB_JSON_PRETTY, out);
    kb_json_put_begin_object(w);
    kb_json_field_text(w, "snapshotId", run->config->offsets.snapshot_id);
    kb_json_field_text(w, "savedAs", saved_id);
    kb_json_field_bool(w, "dryRun", dry_run);
    kb_json_put_name(w, "groups");
    kb_json_put_begin_array(w);
    for (size_t i = 0; i < outcome->results.count; i++)
        put_group(w, outcome, &outcome->results.items[i], dry_run);
    kb_json_put_end_array(w);
    kb_json_put_end_object(w);
    if (kb_json_writer_finish(w, err) != KB_OK)
        return err->code;
    kb_strbuf_appendc(out, '\n');
    return KB_OK;
}

kb_code kb_offset_run_print(const kb_run_context *run, const kb_reset_outcome *outcome, bool dry_run,
                            const char *saved_id, kb_error *err)
{
    KB_AUTO_STRBUF(out, KB_OFFSETS_TEXT_MAX);
    if (run->flags->format == KB_OUTPUT_TEXT)
        print_text(outcome, saved_id, &out);
    else if (print_json(run, outcome, dry_run, saved_id, &out, err) != KB_OK)
        return err->code;
    if (kb_strbuf_check(&out, "the result", err) != KB_OK)
        return err->code;
    kb_run_print(kb_strbuf_view(&out), out.len);
    return KB_OK;
}

/* ---- commands on a snapshot ---- */

kb_code kb_offset_run_on_snapshot(kb_run_context *run, kb_offset_command command, kb_error *err)
{
    const kb_config_offsets *config = &run->config->offsets;
    KB_CLEANUP(kb_offset_run_done) kb_offset_run offsets = {0};
    KB_CLEANUP(kb_rollback_outcome_done) kb_rollback_outcome outcome = {0};
    if (kb_offset_run_open(run, NULL, &offsets, err) != KB_OK)
        return err->code;
    char now[KB_STAMP_SIZE];
    kb_stamp_format(kb_clock_wall_ms(), now);
    kb_rollback_request request = {
        .snapshot_id = config->snapshot_id,
        .groups = &config->groups,
        .topics = &config->topics,
        .stamp = run->env.stamp != NULL ? run->env.stamp : now,
        .strict = config->strict || run->flags->strict,
        .dry_run = config->dry_run || run->flags->dry_run,
    };
    kb_code code = command(&offsets.env, &request, &outcome, err);
    if (code == KB_ERR_STOPPED)
        return kb_wrap_as(err, KB_INTERRUPTED, "stopped");
    KB_AUTO_ERROR(ignored);
    kb_code printed = kb_offset_run_print(run, &outcome.reset, request.dry_run, outcome.saved_id, &ignored);
    if (code == KB_OK && printed != KB_OK)
        kb_error_move(err, &ignored);
    return code != KB_OK ? code : printed;
}
