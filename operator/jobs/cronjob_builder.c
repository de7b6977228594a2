#include "operator/jobs/cronjob_builder.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "operator/jobs/object_names.h"

static bool is_utc(const char *zone)
{
    return zone == NULL || strcmp(zone, "UTC") == 0 || strcmp(zone, "Etc/UTC") == 0;
}

static void refuse(kb_schedule *schedule, const char *reason, char *owned_message)
{
    schedule->reason = reason;
    schedule->message = owned_message;
}

/* How the server wants a zone to be said. */
static void say_zone(kb_schedule *schedule, const char *zone, const char *expression,
                     const kb_capabilities *caps)
{
    if (caps->has_time_zone_field) {
        schedule->expression = kb_strdup(expression);
        schedule->time_zone = kb_strdup(is_utc(zone) ? "Etc/UTC" : zone);
    } else if (caps->has_cron_schedules_in_zones) {
        schedule->expression = kb_asprintf("CRON_TZ=%s %s", is_utc(zone) ? "UTC" : zone, expression);
    } else if (is_utc(zone)) {
        schedule->expression = kb_strdup(expression);
    } else {
        refuse(schedule, "TimeZoneUnsupported",
               kb_asprintf("spec: Kubernetes %d.%d runs schedules in UTC only; write the schedule in UTC and "
                           "leave out the time zone",
                           caps->major, caps->minor));
    }
}

void kb_schedule_read(const kb_backup_spec *backup, const kb_capabilities *caps, kb_schedule *ret_schedule)
{
    *ret_schedule = (kb_schedule){0};
    KB_AUTOFREE char *prefix = NULL;
    const char *expression = NULL;
    kb_cron_split_zone(backup->schedule, &prefix, &expression);
    const char *zone = backup->time_zone != NULL ? backup->time_zone : prefix;
    KB_AUTO_ERROR(err);
    if (kb_cron_parse(expression, &ret_schedule->cron, &err) != KB_OK) {
        refuse(ret_schedule, "InvalidSchedule", kb_asprintf("spec.schedule: %s", kb_error_text(&err)));
        return;
    }
    if (kb_tzfile_load(zone, NULL, &ret_schedule->zone, &err) != KB_OK) {
        refuse(ret_schedule, "InvalidTimeZone",
               kb_asprintf("%s: %s", backup->time_zone != NULL ? "spec.timeZone" : "spec.schedule",
                           kb_error_text(&err)));
        return;
    }
    say_zone(ret_schedule, zone, expression, caps);
}

void kb_schedule_done(kb_schedule *schedule)
{
    kb_tzfile_free(schedule->zone);
    free(schedule->expression);
    free(schedule->time_zone);
    free(schedule->message);
    *schedule = (kb_schedule){0};
}

static json_t *job_template(const kb_pod_input *input, const kb_capabilities *caps)
{
    json_t *meta = kb_tree_object();
    kb_tree_set(meta, "labels", kb_labels_of(input->render->spec->kind, input->render->object));
    kb_tree_set(meta, "annotations", kb_job_annotations(input));
    json_t *template = kb_tree_object();
    kb_tree_set(template, "metadata", meta);
    kb_tree_set(template, "spec", kb_job_spec(input, caps));
    return template;
}

json_t *kb_cron_job_object(const kb_pod_input *input, const kb_capabilities *caps,
                           const kb_schedule *schedule, bool is_suspended)
{
    const json_t *object = input->render->object;
    const kb_settings *settings = input->render->settings;
    KB_AUTOFREE char *name = kb_name_cron_job(kb_tree_text_or_empty(object, "metadata", "name", NULL));
    json_t *spec = kb_tree_object();
    kb_tree_set_text(spec, "schedule", schedule->expression);
    kb_tree_set_text(spec, "timeZone", schedule->time_zone);
    kb_tree_set_text(spec, "concurrencyPolicy", "Forbid");
    kb_tree_set_i64(spec, "startingDeadlineSeconds", KB_STARTING_DEADLINE_SECS);
    kb_tree_set_bool(spec, "suspend", is_suspended);
    kb_tree_set_i64(spec, "successfulJobsHistoryLimit", settings->history_successful);
    kb_tree_set_i64(spec, "failedJobsHistoryLimit", settings->history_failed);
    kb_tree_set(spec, "jobTemplate", job_template(input, caps));
    json_t *meta = kb_tree_object();
    kb_tree_set_text(meta, "name", name);
    kb_tree_set_text(meta, "namespace", kb_tree_text(object, "metadata", "namespace", NULL));
    kb_tree_set(meta, "labels", kb_labels_of(input->render->spec->kind, object));
    json_t *owners = kb_tree_array();
    kb_tree_add(owners, kb_owner_reference(input->render->spec->kind, object));
    kb_tree_set(meta, "ownerReferences", owners);
    json_t *cron_job = kb_tree_object();
    kb_tree_set_text(cron_job, "apiVersion", caps->has_cron_job_v1 ? "batch/v1" : "batch/v1beta1");
    kb_tree_set_text(cron_job, "kind", "CronJob");
    kb_tree_set(cron_job, "metadata", meta);
    kb_tree_set(cron_job, "spec", spec);
    KB_AUTOFREE char *text = kb_tree_canonical(cron_job);
    KB_AUTOFREE char *digest = kb_tree_text_hash(text, 64);
    json_t *notes = kb_tree_object();
    kb_tree_set_text(notes, KB_NOTE_DIGEST, digest);
    kb_tree_set(meta, "annotations", notes);
    return cron_job;
}
