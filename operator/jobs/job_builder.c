#include "operator/jobs/job_builder.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/contract/exit_codes.h"
#include "common/data/json_tree.h"
#include "operator/jobs/object_names.h"

static const int final_exit_codes[] = {KB_EXIT_USAGE, KB_EXIT_DATA, KB_EXIT_ACCESS, KB_EXIT_CONFIG};

const int *kb_job_final_exit_codes(size_t *ret_count)
{
    *ret_count = KB_ARRAY_LEN(final_exit_codes);
    return final_exit_codes;
}

kb_code kb_run_config_make(const kb_render_input *input, kb_run_config *ret_config, kb_error *err)
{
    char *text = NULL;
    kb_code code = kb_config_render(input, &text, err);
    if (code != KB_OK)
        return code;
    ret_config->text = text;
    ret_config->sha256 = kb_tree_text_hash(text, 64);
    ret_config->name =
        kb_name_config_map(input->spec->kind, kb_tree_text_or_empty(input->object, "metadata", "name", NULL),
                           ret_config->sha256);
    return KB_OK;
}

void kb_run_config_done(kb_run_config *config)
{
    free(config->text);
    free(config->sha256);
    free(config->name);
    *config = (kb_run_config){0};
}

static json_t *owned_metadata(kb_kind kind, const json_t *object, const char *name)
{
    json_t *meta = kb_tree_object();
    kb_tree_set_text(meta, "name", name);
    kb_tree_set_text(meta, "namespace", kb_tree_text(object, "metadata", "namespace", NULL));
    kb_tree_set(meta, "labels", kb_labels_of(kind, object));
    json_t *owners = kb_tree_array();
    kb_tree_add(owners, kb_owner_reference(kind, object));
    kb_tree_set(meta, "ownerReferences", owners);
    return meta;
}

json_t *kb_run_config_map(const kb_render_input *input, const kb_run_config *config)
{
    json_t *map = kb_tree_object();
    kb_tree_set_text(map, "apiVersion", "v1");
    kb_tree_set_text(map, "kind", "ConfigMap");
    kb_tree_set(map, "metadata", owned_metadata(input->spec->kind, input->object, config->name));
    kb_tree_set_bool(map, "immutable", true);
    json_t *data = kb_tree_object();
    kb_tree_set_text(data, KB_RUN_CONFIG_KEY, config->text);
    kb_tree_set(map, "data", data);
    return map;
}

/* An evicted pod does not count; an end that no repetition can change ends the Job. */
static json_t *failure_policy(void)
{
    json_t *codes = kb_tree_array();
    for (size_t i = 0; i < KB_ARRAY_LEN(final_exit_codes); i++)
        kb_tree_add(codes, kb_tree_need(json_integer(final_exit_codes[i])));
    json_t *on_exit = kb_tree_object();
    kb_tree_set_text(on_exit, "containerName", "worker");
    kb_tree_set_text(on_exit, "operator", "In");
    kb_tree_set(on_exit, "values", codes);
    json_t *fail = kb_tree_object();
    kb_tree_set_text(fail, "action", "FailJob");
    kb_tree_set(fail, "onExitCodes", on_exit);
    json_t *ignore = kb_tree_need(json_loads("{\"action\":\"Ignore\",\"onPodConditions\":[{\"type\":"
                                             "\"DisruptionTarget\",\"status\":\"True\"}]}",
                                             0, NULL));
    json_t *rules = kb_tree_array();
    kb_tree_add(rules, ignore);
    kb_tree_add(rules, fail);
    json_t *policy = kb_tree_object();
    kb_tree_set(policy, "rules", rules);
    return policy;
}

json_t *kb_job_spec(const kb_pod_input *input, const kb_capabilities *caps)
{
    const kb_spec_job *job = &input->render->spec->run.job;
    json_t *spec = kb_tree_object();
    kb_tree_set_i64(spec, "parallelism", 1);
    kb_tree_set_i64(spec, "completions", 1);
    kb_tree_set_i64(spec, "backoffLimit", job->backoff_limit);
    kb_tree_set_i64(spec, "activeDeadlineSeconds", job->active_deadline_seconds);
    if (caps->has_ttl_after_finished)
        kb_tree_set_i64(spec, "ttlSecondsAfterFinished", job->ttl_seconds_after_finished);
    if (caps->has_pod_replacement_policy)
        kb_tree_set_text(spec, "podReplacementPolicy", "Failed");
    if (caps->has_pod_failure_policy)
        kb_tree_set(spec, "podFailurePolicy", failure_policy());
    kb_tree_set(spec, "template", kb_pod_template(input));
    return spec;
}

json_t *kb_job_annotations(const kb_pod_input *input)
{
    json_t *notes = kb_run_annotations(input);
    if (input->render->spec->kind != KB_KIND_BACKUP)
        return notes;
    KB_AUTOFREE char *data = kb_spec_data_hash(&input->render->spec->backup);
    KB_AUTOFREE char *retention = kb_spec_retention_hash(&input->render->spec->backup);
    kb_tree_set_text(notes, KB_NOTE_SPEC_HASH, data);
    kb_tree_set_text(notes, KB_NOTE_RETENTION, retention);
    return notes;
}

json_t *kb_job_object(const kb_pod_input *input, const kb_capabilities *caps, const char *name)
{
    json_t *job = kb_tree_object();
    kb_tree_set_text(job, "apiVersion", "batch/v1");
    kb_tree_set_text(job, "kind", "Job");
    json_t *meta = owned_metadata(input->render->spec->kind, input->render->object, name);
    kb_tree_set(meta, "annotations", kb_job_annotations(input));
    kb_tree_set(job, "metadata", meta);
    kb_tree_set(job, "spec", kb_job_spec(input, caps));
    return job;
}
