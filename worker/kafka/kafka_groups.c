#include "worker/kafka/kafka_groups.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

void kb_group_infos_done(kb_group_infos *infos)
{
    for (size_t i = 0; i < infos->count; i++) {
        free(infos->items[i].group);
        free(infos->items[i].state_text);
        free(infos->items[i].members);
    }
    free(infos->items);
    free(infos->failure);
    *infos = (kb_group_infos){0};
}

static size_t lower(const kb_group_infos *infos, const char *group)
{
    size_t low = 0;
    size_t high = infos->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(infos->items[middle].group, group) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const kb_group_info *kb_group_infos_find(const kb_group_infos *infos, const char *group)
{
    size_t at = lower(infos, group);
    return at < infos->count && strcmp(infos->items[at].group, group) == 0 ? &infos->items[at] : NULL;
}

kb_group_info *kb_group_infos_add(kb_group_infos *infos, const char *group)
{
    size_t at = lower(infos, group);
    if (at < infos->count && strcmp(infos->items[at].group, group) == 0)
        return &infos->items[at];
    infos->items = kb_grow(infos->items, infos->count, &infos->capacity, sizeof *infos->items);
    memmove(&infos->items[at + 1], &infos->items[at], (infos->count - at) * sizeof *infos->items);
    infos->items[at] = (kb_group_info){.group = kb_strdup(group)};
    infos->count++;
    return &infos->items[at];
}

void kb_kafka_groups_free(kb_kafka_groups *owned_groups)
{
    if (owned_groups != NULL)
        owned_groups->ops->free(owned_groups);
}

void kb_kafka_groups_free_at(kb_kafka_groups **at)
{
    kb_kafka_groups_free(*at);
}

kb_code kb_kafka_groups_list(kb_kafka_groups *groups, const kb_kafka_call *call, kb_group_infos *ret_infos,
                             kb_error *err)
{
    return groups->ops->list(groups, call, ret_infos, err);
}

kb_code kb_kafka_groups_describe(kb_kafka_groups *groups, kb_group_info *info, const kb_kafka_call *call,
                                 kb_error *err)
{
    return groups->ops->describe(groups, info, call, err);
}

kb_code kb_kafka_groups_committed(kb_kafka_groups *groups, kb_group_set *set, const kb_groups_call *call,
                                  kb_error *err)
{
    return groups->ops->committed(groups, set, call, err);
}

kb_code kb_kafka_groups_commit(kb_kafka_groups *groups, kb_group_set *set, const kb_groups_call *call,
                               kb_error *err)
{
    return groups->ops->commit(groups, set, call, err);
}
