#include "operator/ctrl/conditions.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "common/data/json_tree.h"

static const char *const words[] = {[KB_TRUE] = "True", [KB_FALSE] = "False", [KB_UNKNOWN] = "Unknown"};

char *kb_status_text(const char *text, size_t max_bytes)
{
    KB_AUTO_STRBUF(clean, max_bytes);
    for (size_t left = strlen(text); left > 0;) {
        size_t step = kb_utf8_step(text, left);
        bool is_control = (unsigned char)*text < 0x20 || *text == 0x7f;
        const char *part = step == 0 ? "?" : is_control ? " " : text;
        size_t len = step == 0 || is_control ? 1 : step;
        if (clean.len + len > max_bytes)
            break;
        kb_strbuf_append(&clean, part, len);
        step = step == 0 ? 1 : step;
        text += step;
        left -= step;
    }
    char *taken = kb_strbuf_take(&clean);
    return taken != NULL ? taken : kb_strdup("");
}

const json_t *kb_condition_find(const json_t *conditions, const char *type)
{
    for (size_t i = 0; i < json_array_size(conditions); i++) {
        const json_t *condition = json_array_get(conditions, i);
        if (strcmp(kb_tree_text_or_empty(condition, "type", NULL), type) == 0)
            return condition;
    }
    return NULL;
}

bool kb_condition_is(const json_t *conditions, const char *type, kb_truth status)
{
    const json_t *condition = kb_condition_find(conditions, type);
    return strcmp(kb_tree_text_or_empty(condition, "status", NULL), words[status]) == 0;
}

const char *kb_condition_reason(const json_t *conditions, const char *type)
{
    return kb_tree_text_or_empty(kb_condition_find(conditions, type), "reason", NULL);
}

void kb_condition_set(json_t *conditions, const kb_condition *condition, int64_t generation, int64_t now_ms)
{
    const json_t *old = kb_condition_find(conditions, condition->type);
    const char *status = words[condition->status];
    const char *since = kb_tree_text(old, "lastTransitionTime", NULL);
    bool has_flipped = strcmp(kb_tree_text_or_empty(old, "status", NULL), status) != 0;
    json_t *new = kb_tree_object();
    kb_tree_set_text(new, "type", condition->type);
    kb_tree_set_text(new, "status", status);
    kb_tree_set_text(new, "reason", condition->reason);
    KB_AUTOFREE char *message =
        kb_status_text(condition->message != NULL ? condition->message : "", KB_CONDITION_MESSAGE_MAX);
    kb_tree_set_text(new, "message", message);
    kb_tree_set_i64(new, "observedGeneration", generation);
    if (has_flipped || since == NULL)
        kb_tree_set_time(new, "lastTransitionTime", now_ms);
    else
        kb_tree_set_text(new, "lastTransitionTime", since);
    for (size_t i = 0; i < json_array_size(conditions); i++) {
        if (json_array_get(conditions, i) == old) {
            json_array_set_new(conditions, i, new);
            return;
        }
    }
    kb_tree_add(conditions, new);
}
