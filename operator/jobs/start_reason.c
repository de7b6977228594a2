#include "operator/jobs/start_reason.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "operator/ctrl/conditions.h"

#define KB_START_MESSAGE_MAX 900

static void found(kb_start_reason *to, const char *reason, const char *message)
{
    if (to->reason != NULL)
        return;
    to->reason = reason;
    to->message = kb_status_text(message, KB_START_MESSAGE_MAX);
}

static bool has(const char *text, const char *part)
{
    return strcasestr(text, part) != NULL;
}

/* The text between the quotes after `word`, without backslashes; NULL without any. Owned. */
static char *quoted_after(const char *text, const char *word)
{
    const char *at = strcasestr(text, word);
    if (at == NULL)
        return NULL;
    at += strlen(word);
    while (*at == '\\' || *at == ' ' || *at == ':')
        at++;
    if (*at != '"' && *at != '\'')
        return NULL;
    at++;
    size_t len = strcspn(at, "\"'\\");
    return kb_strndup(at, len);
}

/* ---- pods ---- */

static void look_at_container(const json_t *status, kb_start_reason *to)
{
    const char *reason = kb_tree_text_or_empty(status, "state", "waiting", "reason", NULL);
    const char *message = kb_tree_text_or_empty(status, "state", "waiting", "message", NULL);
    static const char *const image[] = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName",
                                        "ErrImageNeverPull"};
    for (size_t i = 0; i < KB_ARRAY_LEN(image); i++)
        if (strcmp(reason, image[i]) == 0)
            found(to, "ImagePullFailed", *message != '\0' ? message : reason);
    if (strcmp(reason, "CreateContainerConfigError") == 0 && *message != '\0')
        found(to, "PodRejected", message);
}

static void look_at_pod(const json_t *pod, kb_start_reason *to)
{
    const json_t *conditions = kb_tree_at(pod, "status", "conditions", NULL);
    const json_t *scheduled = kb_condition_find(conditions, "PodScheduled");
    if (kb_condition_is(conditions, "PodScheduled", KB_FALSE)) {
        const char *message = kb_tree_text_or_empty(scheduled, "message", NULL);
        bool misses_claim = has(message, "persistentvolumeclaim") && has(message, "not found");
        found(to, misses_claim ? "ClaimNotFound" : "Unschedulable", message);
    }
    const json_t *statuses = kb_tree_at(pod, "status", "containerStatuses", NULL);
    for (size_t i = 0; i < json_array_size(statuses); i++)
        look_at_container(json_array_get(statuses, i), to);
}

/* ---- events ---- */

static void secret_key_missing(const char *message, kb_start_reason *to)
{
    const char *key = strcasestr(message, "references non-existent secret key: ");
    key += strlen("references non-existent secret key: ");
    size_t len = strcspn(key, " ,;\"'\n");
    KB_AUTOFREE char *name = kb_strndup(key, len);
    /* 'MountVolume.SetUp failed for volume "store-auth" : references non-existent secret key: user' */
    KB_AUTOFREE char *volume = quoted_after(message, "for volume");
    KB_AUTOFREE char *secret = quoted_after(message, "secret");
    KB_AUTOFREE char *text = secret != NULL ? kb_asprintf("Key '%s' not found in secret '%s'", name, secret)
                                            : kb_asprintf("Key '%s' not found in the secret of volume '%s'",
                                                          name, volume != NULL ? volume : "?");
    found(to, "SecretKeyNotFound", text);
}

static void look_at_mount(const char *message, kb_start_reason *to)
{
    if (has(message, "references non-existent secret key: ")) {
        secret_key_missing(message, to);
        return;
    }
    if (has(message, "not found")) {
        KB_AUTOFREE char *secret = quoted_after(message, "secret ");
        KB_AUTOFREE char *map = quoted_after(message, "configmap ");
        KB_AUTOFREE char *claim = quoted_after(message, "persistentvolumeclaim ");
        if (secret != NULL) {
            KB_AUTOFREE char *text = kb_asprintf("Secret '%s' not found", secret);
            found(to, "SecretNotFound", text);
        } else if (map != NULL) {
            KB_AUTOFREE char *text = kb_asprintf("ConfigMap '%s' not found", map);
            found(to, "ConfigMapNotFound", text);
        } else if (claim != NULL) {
            KB_AUTOFREE char *text = kb_asprintf("PersistentVolumeClaim '%s' not found", claim);
            found(to, "ClaimNotFound", text);
        }
    }
    found(to, "VolumeFailed", message);
}

static void look_at_event(const json_t *event, kb_start_reason *to)
{
    const char *reason = kb_tree_text_or_empty(event, "reason", NULL);
    const char *message = kb_tree_text_or_empty(event, "message", NULL);
    if (strcmp(reason, "FailedMount") == 0 || strcmp(reason, "FailedAttachVolume") == 0) {
        look_at_mount(message, to);
    } else if (strcmp(reason, "FailedCreate") == 0) {
        if (has(message, "exceeded quota"))
            found(to, "QuotaExceeded", message);
        else if (has(message, "serviceaccount") && has(message, "not found"))
            found(to, "ServiceAccountNotFound", message);
        else
            found(to, "PodRejected", message);
    }
}

/* Newest first: what was true before is not what holds it up now. */
static int64_t event_time(const json_t *event)
{
    int64_t ms = 0;
    if (!kb_tree_time(&ms, event, "lastTimestamp", NULL) &&
        !kb_tree_time(&ms, event, "series", "lastObservedTime", NULL) &&
        !kb_tree_time(&ms, event, "eventTime", NULL))
        (void)!kb_tree_time(&ms, event, "metadata", "creationTimestamp", NULL);
    return ms;
}

static bool is_telling(const json_t *event)
{
    static const char *const reasons[] = {"FailedMount", "FailedAttachVolume", "FailedCreate"};
    for (size_t i = 0; i < KB_ARRAY_LEN(reasons); i++)
        if (strcmp(kb_tree_text_or_empty(event, "reason", NULL), reasons[i]) == 0)
            return true;
    return false;
}

void kb_start_reason_of(const json_t *pods, const json_t *events, kb_start_reason *ret_reason)
{
    *ret_reason = (kb_start_reason){0};
    for (size_t i = 0; i < json_array_size(pods); i++)
        look_at_pod(json_array_get(pods, i), ret_reason);
    const json_t *newest = NULL;
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *event = json_array_get(events, i);
        if (is_telling(event) && (newest == NULL || event_time(event) >= event_time(newest)))
            newest = event;
    }
    if (newest != NULL)
        look_at_event(newest, ret_reason);
}

void kb_start_reason_done(kb_start_reason *reason)
{
    free(reason->message);
    *reason = (kb_start_reason){0};
}
