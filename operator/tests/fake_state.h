/*
 * fake_state - the inside of fake_api: its objects, the log of changes, and what tests set. Only fake_api.c
 * and fake_state.c use it. Functions whose comment says so want the mutex held.
 */
#ifndef KB_OPERATOR_TESTS_FAKE_STATE_H
#define KB_OPERATOR_TESTS_FAKE_STATE_H

#include <pthread.h>

#include "operator/tests/fake_api.h"

#define KB_FAKE_FAULTS_MAX 32
#define KB_FAKE_HIDDEN_MAX 8

/* One change, as watches see it. */
typedef struct kb_fake_event {
    const char *type;
    char *collection; /* "jobs.batch" */
    json_t *object;   /* NULL: raw */
    char *raw;
    int64_t version;
} kb_fake_event;

typedef struct kb_fake_fault_entry {
    kb_fake_fault fault;
    unsigned seen, hit;
} kb_fake_fault_entry;

struct kb_fake_api {
    void *daemon; /* struct MHD_Daemon */
    char *url;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    char *token, *minor;
    json_t *objects; /* "jobs.batch/ns/name" -> object, in order of creation */
    kb_fake_event *events;
    size_t event_count, event_capacity;
    char **requests; /* "GET /path?query" */
    size_t request_count, request_capacity;
    int64_t version, compacted;
    unsigned bookmarks, cuts;
    bool is_cut_abrupt, is_stopping;
    size_t watches;
    kb_fake_fault_entry faults[KB_FAKE_FAULTS_MAX];
    size_t fault_count;
    char *hidden[KB_FAKE_HIDDEN_MAX];
};

/* "jobs.batch/ns/name"; owned by the caller. */
char *kb_fake_key(const char *collection, const char *name_space, const char *name);
/* The object's metadata, made when it is not there. Borrowed. */
json_t *kb_fake_metadata(json_t *object);
/* The mutex is held: */
json_t *kb_fake_store(kb_fake_api *api, const char *collection, const char *key, json_t *owned_object,
                      const json_t *old);
void kb_fake_remove(kb_fake_api *api, const char *collection, const char *key);
/* Whether "GET /path?query" has this method and part; NULL is any. */
bool kb_fake_has_part(const char *line, const char *method, const char *part);

#endif
