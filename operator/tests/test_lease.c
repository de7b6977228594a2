#include "operator/kube/lease.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "operator/kube/kube_types.h"
#include "operator/tests/fake_api.h"
#include "operator/tests/fake_clock.h"

static const kb_lease_times TIMES = {15000, 10000, 2000};

static json_t *lease(const char *holder, const char *version, int seconds)
{
    return json_pack("{s:{s:s, s:s}, s:{s:s, s:i, s:i}}", "metadata", "name", "l", "resourceVersion", version,
                     "spec", "holderIdentity", holder, "leaseDurationSeconds", seconds, "leaseTransitions",
                     4);
}

static void kb_lease_decide_each_situation_has_its_action(void **state)
{
    (void)state;
    static const struct {
        const char *holder; /* NULL: there is no Lease */
        bool is_held;
        int64_t renewed_ago_ms;
        int64_t seen_ago_ms; /* -1: never seen before */
        kb_lease_action action;
    } CASES[] = {
        {NULL, false, 0, -1, KB_LEASE_CREATE},      {NULL, true, 9999, -1, KB_LEASE_CREATE},
        {"", false, 0, -1, KB_LEASE_ACQUIRE},       {"me", false, 0, -1, KB_LEASE_RENEW},
        {"me", true, 9999, 100, KB_LEASE_RENEW},    {"me", true, 10000, 100, KB_LEASE_LOST},
        {"you", true, 100, 100, KB_LEASE_LOST},     {"", true, 100, 100, KB_LEASE_LOST},
        {"you", false, 0, -1, KB_LEASE_WAIT},       {"you", false, 0, 14999, KB_LEASE_WAIT},
        {"you", false, 0, 15000, KB_LEASE_ACQUIRE}, {NULL, true, 10000, -1, KB_LEASE_LOST},
    };
    const int64_t now_ms = 1000000;
    for (size_t i = 0; i < KB_ARRAY_LEN(CASES); i++) {
        kb_lease_memory memory = {.is_held = CASES[i].is_held,
                                  .renewed_at_ms = now_ms - CASES[i].renewed_ago_ms};
        KB_AUTO_JSON json_t *l = CASES[i].holder != NULL ? lease(CASES[i].holder, "7", 15) : NULL;
        if (CASES[i].seen_ago_ms >= 0) {
            memory.seen_version = kb_strdup("7");
            memory.seen_at_ms = now_ms - CASES[i].seen_ago_ms;
            memory.seen_duration_ms = 15000;
        }
        assert_int_equal(kb_lease_decide(&memory, l, "me", &TIMES, now_ms), CASES[i].action);
        kb_lease_memory_done(&memory);
    }
}

static void kb_lease_decide_candidate_times_changes_by_its_own_clock(void **state)
{
    (void)state;
    kb_lease_memory memory = {0};
    KB_AUTO_JSON json_t *first = lease("you", "7", 30);
    KB_AUTO_JSON json_t *second = lease("you", "8", 30);
    assert_int_equal(kb_lease_decide(&memory, first, "me", &TIMES, 1000), KB_LEASE_WAIT);
    assert_int_equal(kb_lease_decide(&memory, first, "me", &TIMES, 30999), KB_LEASE_WAIT);
    /* Renewed: however its own clock reads, it is waited for anew. */
    assert_int_equal(kb_lease_decide(&memory, second, "me", &TIMES, 31000), KB_LEASE_WAIT);
    assert_int_equal(kb_lease_decide(&memory, second, "me", &TIMES, 60999), KB_LEASE_WAIT);
    assert_int_equal(kb_lease_decide(&memory, second, "me", &TIMES, 61000), KB_LEASE_ACQUIRE);
    kb_lease_memory_done(&memory);
}

static void kb_lease_body_counts_transitions_and_keeps_the_version(void **state)
{
    (void)state;
    KB_AUTO_JSON json_t *old = lease("you", "7", 30);
    KB_AUTO_JSON json_t *body = kb_lease_body(old, "ns", "l", "me", &TIMES, INT64_C(1735689600123));
    assert_string_equal(kb_kube_version(body), "7");
    assert_string_equal(kb_kube_text(body, "spec", "holderIdentity", NULL), "me");
    assert_string_equal(kb_kube_text(body, "spec", "renewTime", NULL), "2025-01-01T00:00:00.123000Z");
    assert_int_equal(json_integer_value(kb_kube_at(body, "spec", "leaseTransitions", NULL)), 5);
    assert_int_equal(json_integer_value(kb_kube_at(body, "spec", "leaseDurationSeconds", NULL)), 15);
    KB_AUTO_JSON json_t *again = kb_lease_body(body, "ns", "l", "me", &TIMES, INT64_C(1735689601000));
    assert_string_equal(kb_kube_text(again, "spec", "acquireTime", NULL), "2025-01-01T00:00:00.123000Z");
    assert_int_equal(json_integer_value(kb_kube_at(again, "spec", "leaseTransitions", NULL)), 5);
    KB_AUTO_JSON json_t *fresh = kb_lease_body(NULL, "ns", "l", "me", &TIMES, 0);
    assert_string_equal(kb_kube_name(fresh), "l");
    assert_int_equal(json_integer_value(kb_kube_at(fresh, "spec", "leaseTransitions", NULL)), 0);
}

/* ---- the thread, against the API server of the tests ---- */

typedef struct candidate {
    kb_kube_access *access;
    kb_kube_client *client;
    kb_elector *elector;
    atomic_int leads, losses;
} candidate;

static void on_lead(void *ctx)
{
    atomic_fetch_add(&((candidate *)ctx)->leads, 1);
}

static void on_lost(void *ctx)
{
    atomic_fetch_add(&((candidate *)ctx)->losses, 1);
}

static void start_candidate(candidate *c, kb_fake_api *api, const char *identity, const kb_clock *clock)
{
    KB_AUTO_ERROR(err);
    c->access = kb_fake_api_access(api);
    const kb_kube_client_options client = {.access = c->access};
    assert_int_equal(kb_kube_client_new(&client, &c->client, &err), KB_OK);
    const kb_elector_options options = {.client = c->client,
                                        .name_space = "kafka-backup",
                                        .identity = identity,
                                        .times = {400, 300, 20},
                                        .clock = clock,
                                        .on_lead = on_lead,
                                        .on_lost = on_lost,
                                        .ctx = c};
    assert_int_equal(kb_elector_start(&options, &c->elector, &err), KB_OK);
}

static void end_candidate(candidate *c)
{
    kb_elector_stop(c->elector);
    kb_kube_client_free(c->client);
    kb_kube_access_free(c->access);
}

static void wait_for(atomic_int *count)
{
    for (int i = 0; i < 2000 && atomic_load(count) == 0; i++)
        (void)nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    assert_int_equal(atomic_load(count), 1);
}

static void kb_elector_released_lease_goes_to_the_standby(void **state)
{
    (void)state;
    kb_fake_api *api = kb_fake_api_new();
    candidate first = {0}, second = {0};
    start_candidate(&first, api, "first", NULL);
    wait_for(&first.leads);
    assert_true(kb_elector_may_write(first.elector));
    start_candidate(&second, api, "second", NULL);
    (void)nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    assert_false(kb_elector_may_write(second.elector));
    end_candidate(&first);
    wait_for(&second.leads);
    assert_int_equal(atomic_load(&first.losses), 0);
    KB_AUTO_JSON json_t *l = kb_fake_api_get(api, &KB_KUBE_LEASES, "kafka-backup", "kafka-backup-operator");
    assert_string_equal(kb_kube_text(l, "spec", "holderIdentity", NULL), "second");
    end_candidate(&second);
    kb_fake_api_free(api);
}

static void kb_elector_unreachable_server_loses_the_lease_in_time(void **state)
{
    (void)state;
    kb_fake_api *api = kb_fake_api_new();
    candidate c = {0};
    start_candidate(&c, api, "me", NULL);
    wait_for(&c.leads);
    const kb_fake_fault down = {.times = 1000000, .action = KB_FAKE_DROP_BEFORE};
    kb_fake_api_fail(api, &down);
    wait_for(&c.losses);
    assert_false(kb_elector_may_write(c.elector));
    assert_false(kb_elector_is_leader(c.elector));
    end_candidate(&c);
    kb_fake_api_free(api);
}

static void kb_elector_failed_renewals_within_the_deadline_do_no_harm(void **state)
{
    (void)state;
    kb_fake_clock clock;
    kb_fake_clock_init(&clock);
    kb_fake_api *api = kb_fake_api_new();
    candidate c = {0};
    /* The clock stands still, so the deadline cannot pass however slow this machine is. */
    start_candidate(&c, api, "me", &clock.clock);
    wait_for(&c.leads);
    const kb_fake_fault conflict = {
        .method = "PUT", .times = 3, .action = KB_FAKE_REPLY, .status = 409, .reason = "Conflict"};
    const kb_fake_fault lost_reply = {.method = "PUT", .skip = 3, .times = 3, .action = KB_FAKE_DROP_AFTER};
    const kb_fake_fault busy = {.method = "GET", .times = 2, .action = KB_FAKE_REPLY, .status = 503};
    kb_fake_api_fail(api, &conflict);
    kb_fake_api_fail(api, &lost_reply);
    kb_fake_api_fail(api, &busy);
    for (int i = 0; i < 2000 && kb_fake_api_requests(api, "PUT", NULL) < 10; i++)
        (void)nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    assert_true(kb_elector_may_write(c.elector));
    assert_int_equal(atomic_load(&c.losses), 0);
    end_candidate(&c);
    kb_fake_api_free(api);
}

static void kb_elector_lease_taken_by_another_is_lost(void **state)
{
    (void)state;
    kb_fake_api *api = kb_fake_api_new();
    candidate c = {0};
    start_candidate(&c, api, "me", NULL);
    wait_for(&c.leads);
    json_t *theirs = kb_fake_api_get(api, &KB_KUBE_LEASES, "kafka-backup", "kafka-backup-operator");
    KB_AUTO_JSON json_t *copy = json_deep_copy(theirs);
    json_decref(theirs);
    json_object_set_new(json_object_get(copy, "spec"), "holderIdentity", json_string("you"));
    json_decref(kb_fake_api_put(api, &KB_KUBE_LEASES, json_incref(copy)));
    wait_for(&c.losses);
    end_candidate(&c);
    KB_AUTO_JSON json_t *l = kb_fake_api_get(api, &KB_KUBE_LEASES, "kafka-backup", "kafka-backup-operator");
    assert_string_equal(kb_kube_text(l, "spec", "holderIdentity", NULL), "you");
    kb_fake_api_free(api);
}

int main(void)
{
    kb_log_set_level(KB_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_lease_decide_each_situation_has_its_action),
        cmocka_unit_test(kb_lease_decide_candidate_times_changes_by_its_own_clock),
        cmocka_unit_test(kb_lease_body_counts_transitions_and_keeps_the_version),
        cmocka_unit_test(kb_elector_released_lease_goes_to_the_standby),
        cmocka_unit_test(kb_elector_unreachable_server_loses_the_lease_in_time),
        cmocka_unit_test(kb_elector_failed_renewals_within_the_deadline_do_no_harm),
        cmocka_unit_test(kb_elector_lease_taken_by_another_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
