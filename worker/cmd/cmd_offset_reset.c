#include "worker/cmd/cmd_offset_reset.h"

#include <stdlib.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "worker/catalog/catalog.h"
#include "worker/catalog/group_snapshot.h"
#include "worker/cmd/offset_run.h"

typedef struct inputs {
    uint8_t *mapping_text;
    size_t mapping_len;
    kb_group_set mapping;
    kb_group_set sources;
    bool has_sources;
} inputs;

static void inputs_done(inputs *in)
{
    free(in->mapping_text);
    kb_group_set_done(&in->mapping);
    kb_group_set_done(&in->sources);
}

static kb_code check_request(const kb_config_offsets *config, kb_error *err)
{
    if (config->groups.count == 0)
        return kb_fail(err, KB_CONFIG_INVALID, "offsets.groups: offset-reset needs the names of groups");
    if (config->strategy == KB_CONFIG_OFFSET_TIMESTAMP && !config->timestamp_ms.is_set)
        return kb_fail(err, KB_CONFIG_INVALID, "offsets.timestamp: strategy timestamp needs it");
    if (config->strategy == KB_CONFIG_OFFSET_OFFSET && !config->offset.is_set)
        return kb_fail(err, KB_CONFIG_INVALID, "offsets.offset: strategy offset needs it");
    if (config->strategy == KB_CONFIG_OFFSET_FROM_MAPPING && config->mapping_file == NULL)
        return kb_fail(err, KB_CONFIG_INVALID, "offsets.mapping_file: strategy fromMapping needs it");
    return KB_OK;
}

static kb_code read_mapping(const kb_config_offsets *config, inputs *in, kb_error *err)
{
    if (config->strategy != KB_CONFIG_OFFSET_FROM_MAPPING)
        return KB_OK;
    if (kb_file_read(config->mapping_file, KB_OFFSET_SNAPSHOT_MAX_BYTES, &in->mapping_text, &in->mapping_len,
                     err) != KB_OK)
        return kb_wrap_as(err, KB_CONFIG_INVALID, "offsets.mapping_file");
    if (kb_offset_mapping_decode(kb_view_of(in->mapping_text, in->mapping_len), &in->mapping, err) != KB_OK)
        return kb_wrap_as(err, KB_MAPPING_INVALID, "offsets.mapping_file '%s'", config->mapping_file);
    return KB_OK;
}

/* The group snapshot of the backup that the configuration names. */
static kb_code read_backup_groups(kb_run_context *run, inputs *in, kb_error *err)
{
    KB_CLEANUP(kb_storage_free_at) kb_storage *storage = NULL;
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    kb_catalog_open_options options = {.allow_pruned = true};
    kb_catalog_state state;
    kb_group_snapshot_notes notes;
    if (kb_run_context_storage(run, KB_FS_READ, &storage, err) != KB_OK ||
        kb_run_context_find_backup(run, storage, err) != KB_OK ||
        kb_catalog_open(storage, run->config->backup_id, &options, &backup, &state, err) != KB_OK)
        return err->code;
    kb_code code = kb_group_snapshot_read(storage, backup, &in->sources, &notes, err);
    if (code == KB_ERR_FORMAT)
        return kb_wrap_as(err, KB_BACKUP_CORRUPT, "backup '%s'", backup->backup_id);
    if (code == KB_OK)
        in->has_sources = true;
    return code;
}

static kb_code read_sources(kb_run_context *run, inputs *in, kb_error *err)
{
    const kb_config_offsets *config = &run->config->offsets;
    if (config->strategy != KB_CONFIG_OFFSET_HEADER_BASED)
        return KB_OK;
    bool has_backup = run->config->storage.block.is_given && run->config->backup_id != NULL;
    if (config->source_offsets != KB_CONFIG_SOURCE_OFFSETS_COMMITTED && has_backup) {
        kb_code code = read_backup_groups(run, in, err);
        bool may_fall_back =
            code == KB_ERR_NOT_FOUND && config->source_offsets == KB_CONFIG_SOURCE_OFFSETS_AUTO;
        if (code == KB_ERR_NOT_FOUND && !may_fall_back)
            return kb_wrap_as(err, KB_SOURCE_OFFSETS_MISSING, "offsets.source_offsets: snapshot");
        if (!may_fall_back)
            return code;
        kb_error_done(err);
    } else if (config->source_offsets == KB_CONFIG_SOURCE_OFFSETS_SNAPSHOT) {
        return kb_fail(err, KB_CONFIG_INVALID,
                       "offsets.source_offsets: snapshot needs storage and backup_id of a backup");
    }
    if (!config->create_snapshot)
        return kb_fail(
            err, KB_CONFIG_INVALID,
            "offsets.create_snapshot: must be true when committed offsets are translated: a second "
            "run would translate them twice");
    return KB_OK;
}

kb_code kb_cmd_offset_reset(kb_run_context *run, kb_error *err)
{
    const kb_config_offsets *config = &run->config->offsets;
    KB_CLEANUP(inputs_done) inputs in = {0};
    KB_CLEANUP(kb_offset_run_done) kb_offset_run offsets = {0};
    KB_CLEANUP(kb_reset_outcome_done) kb_reset_outcome outcome = {0};
    if (check_request(config, err) != KB_OK || read_mapping(config, &in, err) != KB_OK ||
        read_sources(run, &in, err) != KB_OK ||
        kb_offset_run_open(run, (const char *)in.mapping_text, &offsets, err) != KB_OK)
        return err->code;
    kb_reset_request request = {
        .groups = &config->groups,
        .topics = &config->topics,
        .strategy = (kb_config_offset_strategy)config->strategy,
        .timestamp_ms = config->timestamp_ms.value,
        .offset = config->offset.value,
        .mapping = &in.mapping,
        .sources = in.has_sources ? &in.sources : NULL,
        .source_cluster = config->source_cluster,
        .scan_all_partitions = config->scan_all_partitions,
        .snapshot_id = config->create_snapshot ? config->snapshot_id : NULL,
        .dry_run = config->dry_run || run->flags->dry_run,
    };
    kb_code code = kb_offsets_reset(&offsets.env, &request, &outcome, err);
    if (code == KB_ERR_STOPPED)
        return kb_wrap_as(err, KB_INTERRUPTED, "stopped");
    KB_AUTO_ERROR(ignored);
    kb_code printed = kb_offset_run_print(run, &outcome, request.dry_run, NULL, &ignored);
    if (code == KB_OK && printed != KB_OK)
        kb_error_move(err, &ignored);
    return code != KB_OK ? code : printed;
}
