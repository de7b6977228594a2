#include "operator/kube/capabilities.h"

#include <string.h>

#include "common/base/encode.h"
#include "operator/kube/kube_types.h"

/* "34", or "34+" of a vendor. */
static bool parse_number(const char *text, int *ret_number)
{
    int64_t number;
    const size_t len = text != NULL ? strspn(text, "0123456789") : 0;
    if (len == 0 || !kb_parse_i64_len(text, len, &number) || number > 100000)
        return false;
    *ret_number = (int)number;
    return true;
}

static bool has_group_version(const json_t *group, const char *version)
{
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(group, "versions"), i, entry)
    {
        const char *text = json_string_value(json_object_get(entry, "version"));
        if (text != NULL && strcmp(text, version) == 0)
            return true;
    }
    return false;
}

kb_code kb_capabilities_from(const json_t *version, const json_t *batch_group, kb_capabilities *ret_caps,
                             kb_error *err)
{
    kb_capabilities caps = {0};
    if (!parse_number(kb_kube_text(version, "major", NULL), &caps.major) ||
        !parse_number(kb_kube_text(version, "minor", NULL), &caps.minor))
        return kb_fail(err, KB_ERR_FORMAT, "the API server's /version names no major and minor version");
    const int minor = caps.major > 1 ? 100000 : caps.minor;
    /* batch/v1 is there since long, but CronJobs are in it only from 1.21. */
    caps.has_cron_job_v1 = minor >= 21 && (batch_group == NULL || has_group_version(batch_group, "v1"));
    caps.has_ttl_after_finished = minor >= 21;
    caps.has_minute_slots = minor >= 21;
    caps.has_cron_schedules_in_zones = minor >= 22;
    caps.has_time_zone_field = minor >= 25;
    caps.has_cel = minor >= 25;
    caps.has_pod_failure_policy = minor >= 26;
    caps.has_pod_replacement_policy = minor >= 29;
    *ret_caps = caps;
    return KB_OK;
}

kb_code kb_capabilities_read(kb_kube_client *client, kb_capabilities *ret_caps, kb_error *err)
{
    KB_AUTO_KUBE_REPLY(version);
    KB_AUTO_KUBE_REPLY(group);
    kb_code code = kb_kube_get_path(client, "/version", &version, err);
    if (code == KB_OK)
        code = kb_kube_get_path(client, "/apis/batch", &group, err);
    if (code != KB_OK)
        return code;
    return kb_capabilities_from(version.object, group.object, ret_caps, err);
}
