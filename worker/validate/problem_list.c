#include "worker/validate/problem_list.h"

#include <stdlib.h>

#include "common/base/mem.h"

const char *kb_object_fault_name(kb_object_fault fault)
{
    static const char *const names[KB_FAULT_COUNT] = {
        [KB_FAULT_MISSING] = "missing", [KB_FAULT_SIZE] = "size",   [KB_FAULT_MISMATCH] = "mismatch",
        [KB_FAULT_FOREIGN] = "foreign", [KB_FAULT_RANGE] = "range", [KB_FAULT_UNREADABLE] = "unreadable",
    };
    return (size_t)fault < KB_FAULT_COUNT ? names[fault] : "unknown";
}

void kb_problem_list_done(kb_problem_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].key);
        free(list->items[i].detail);
    }
    free(list->items);
    *list = (kb_problem_list){0};
}

void kb_problem_list_add(kb_problem_list *list, uint64_t rank, kb_object_fault fault, const char *key,
                         const char *detail)
{
    list->total++;
    if (list->count < KB_PROBLEM_LIST_MAX) {
        list->items = kb_grow(list->items, list->count, &list->capacity, sizeof *list->items);
        list->items[list->count++] = (kb_object_problem){rank, fault, kb_strdup(key), kb_strdup(detail)};
    }
}

/* Insertion: stable, and a list of this length that is nearly in order costs nothing. */
void kb_problem_list_sort(kb_problem_list *list)
{
    for (size_t i = 1; i < list->count; i++) {
        kb_object_problem moved = list->items[i];
        size_t at = i;
        for (; at > 0 && list->items[at - 1].rank > moved.rank; at--)
            list->items[at] = list->items[at - 1];
        list->items[at] = moved;
    }
}
