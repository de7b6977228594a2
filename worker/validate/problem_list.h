/*
 * problem_list - what a validation found wrong: object by object, the first 1000 with words, the rest as a
 * count.
 *
 * Each problem has a rank, the place of its object in the backup, so that the list reads in the order of the
 * backup, whatever was found first. Threads: one at a time.
 */
#ifndef KB_WORKER_VALIDATE_PROBLEM_LIST_H
#define KB_WORKER_VALIDATE_PROBLEM_LIST_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

#define KB_PROBLEM_LIST_MAX 1000
/* Problems of the index itself come first. */
#define KB_PROBLEM_RANK_INDEX 0

typedef enum kb_object_fault {
    KB_FAULT_MISSING,    /* listed, but not in the store */
    KB_FAULT_SIZE,       /* not as long as the backup says */
    KB_FAULT_MISMATCH,   /* hash, format or contents are not what the backup says */
    KB_FAULT_FOREIGN,    /* sound, but another segment than the one listed */
    KB_FAULT_RANGE,      /* segments and gaps do not cover what the backup says they cover */
    KB_FAULT_UNREADABLE, /* the store fails to read it */
    KB_FAULT_COUNT
} kb_object_fault;

/* "missing", "size", "mismatch", "foreign", "range", "unreadable". Static. */
const char *kb_object_fault_name(kb_object_fault fault);

typedef struct kb_object_problem {
    uint64_t rank;
    kb_object_fault fault;
    char *key;    /* owned */
    char *detail; /* owned */
} kb_object_problem;

typedef struct kb_problem_list {
    kb_object_problem *items;
    size_t count; /* of items */
    size_t capacity;
    uint64_t total; /* those beyond KB_PROBLEM_LIST_MAX included */
} kb_problem_list;

/* All zeros is an empty list. */
void kb_problem_list_done(kb_problem_list *list);
/* Copies both texts. */
void kb_problem_list_add(kb_problem_list *list, uint64_t rank, kb_object_fault fault, const char *key,
                         const char *detail);
/* Orders the items by rank, equal ones by arrival. */
void kb_problem_list_sort(kb_problem_list *list);

#endif
