#include "worker/auth/cred.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

#define MINUTE 60000LL

typedef struct fake {
    int64_t now_ms;
    int64_t life_ms; /* of what is fetched; 0 = for ever */
    kb_code fails_with;
    int fetched;
} fake;

static int64_t fake_now(void *ctx)
{
    return ((fake *)ctx)->now_ms;
}

static kb_code fake_fetch(void *state, kb_cred **ret_cred, kb_error *err)
{
    fake *f = state;
    f->fetched++;
    if (f->fails_with != KB_OK)
        return kb_fail(err, f->fails_with, "no luck");
    char *id = kb_asprintf("id-%d", f->fetched);
    const kb_cred_fields fields = {.id = id, .expires_ms = f->life_ms > 0 ? f->now_ms + f->life_ms : 0};
    *ret_cred = kb_cred_new(&fields);
    free(id);
    return KB_OK;
}

static const kb_cred_driver fake_driver = {.name = "fake", .fetch = fake_fetch};

static void assert_gives(kb_cred_provider *provider, const char *id)
{
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_cred_unref_at) kb_cred *cred = NULL;
    if (kb_cred_get(provider, &cred, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
    assert_string_equal(kb_cred_view(cred)->id, id);
}

static kb_cred_provider *cache_of(fake *f, kb_clock *clock)
{
    *clock = (kb_clock){fake_now, fake_now, f};
    return kb_cred_cache_new(kb_cred_provider_new(&fake_driver, f), clock);
}

static void cache_renews_five_minutes_before_the_end(void **state)
{
    (void)state;
    fake f = {.now_ms = 1000, .life_ms = 60 * MINUTE};
    kb_clock clock;
    KB_CLEANUP(kb_cred_provider_free_at) kb_cred_provider *cache = cache_of(&f, &clock);
    assert_gives(cache, "id-1");
    f.now_ms += 54 * MINUTE;
    assert_gives(cache, "id-1");
    f.now_ms += 2 * MINUTE;
    assert_gives(cache, "id-2");
    assert_gives(cache, "id-2");
    assert_int_equal(f.fetched, 2);
}

static void cache_of_what_never_ends_fetches_once(void **state)
{
    (void)state;
    fake f = {.now_ms = 1000};
    kb_clock clock;
    KB_CLEANUP(kb_cred_provider_free_at) kb_cred_provider *cache = cache_of(&f, &clock);
    assert_gives(cache, "id-1");
    f.now_ms += 1000000 * MINUTE;
    assert_gives(cache, "id-1");
}

static void cache_goes_on_with_the_old_set_while_a_renewal_fails(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_cred *cred = NULL;
    fake f = {.now_ms = 1000, .life_ms = 60 * MINUTE};
    kb_clock clock;
    KB_CLEANUP(kb_cred_provider_free_at) kb_cred_provider *cache = cache_of(&f, &clock);
    assert_gives(cache, "id-1");
    f.now_ms += 56 * MINUTE;
    f.fails_with = KB_STORAGE_UNREACHABLE;
    assert_gives(cache, "id-1");
    assert_gives(cache, "id-1");
    assert_int_equal(f.fetched, 2); /* not asked again at once */
    f.now_ms += MINUTE;
    assert_gives(cache, "id-1");
    assert_int_equal(f.fetched, 3);
    f.now_ms += 4 * MINUTE;
    assert_int_equal(kb_cred_get(cache, &cred, &err), KB_STORAGE_UNREACHABLE);
    f.fails_with = KB_OK;
    assert_gives(cache, "id-5");
}

static void refused_set_is_fetched_anew_once(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    fake f = {.now_ms = 1000, .life_ms = 60 * MINUTE};
    kb_clock clock;
    KB_CLEANUP(kb_cred_provider_free_at) kb_cred_provider *cache = cache_of(&f, &clock);
    KB_CLEANUP(kb_cred_unref_at) kb_cred *old = NULL;
    assert_int_equal(kb_cred_get(cache, &old, &err), KB_OK);
    kb_cred_refused(cache, old);
    assert_gives(cache, "id-2");
    kb_cred_refused(cache, old); /* another thread, late */
    assert_gives(cache, "id-2");
    assert_string_equal(kb_cred_view(old)->id, "id-1");
}

static void chain_stays_with_the_first_present(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_cred *cred = NULL;
    fake absent = {.fails_with = KB_ERR_NOT_FOUND}, present = {.now_ms = 1}, last = {.now_ms = 1};
    kb_cred_provider *const providers[] = {kb_cred_provider_new(&fake_driver, &absent),
                                           kb_cred_provider_new(&fake_driver, &present),
                                           kb_cred_provider_new(&fake_driver, &last)};
    KB_CLEANUP(kb_cred_provider_free_at)
    kb_cred_provider *chain = kb_cred_chain_new(providers, 3, "give some");
    assert_gives(chain, "id-1");
    absent.fails_with = KB_OK; /* too late */
    assert_gives(chain, "id-2");
    present.fails_with = KB_STORAGE_ACCESS_DENIED;
    assert_int_equal(kb_cred_get(chain, &cred, &err), KB_STORAGE_ACCESS_DENIED);
    assert_int_equal(last.fetched, 0);
}

static void chain_of_absent_ones_says_what_to_give(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_cred *cred = NULL;
    fake absent = {.fails_with = KB_ERR_NOT_FOUND};
    kb_cred_provider *const providers[] = {kb_cred_provider_new(&fake_driver, &absent)};
    KB_CLEANUP(kb_cred_provider_free_at)
    kb_cred_provider *chain = kb_cred_chain_new(providers, 1, "give some");
    assert_int_equal(kb_cred_get(chain, &cred, &err), KB_STORAGE_CREDENTIALS_MISSING);
    assert_non_null(strstr(kb_error_text(&err), "give some"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cache_renews_five_minutes_before_the_end),
        cmocka_unit_test(cache_of_what_never_ends_fetches_once),
        cmocka_unit_test(cache_goes_on_with_the_old_set_while_a_renewal_fails),
        cmocka_unit_test(refused_set_is_fetched_anew_once),
        cmocka_unit_test(chain_stays_with_the_first_present),
        cmocka_unit_test(chain_of_absent_ones_says_what_to_give),
    };
    return cmocka_run_group_tests_name("cred", tests, NULL, NULL);
}
