#include "worker/backup/lineage_lock.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "worker/catalog/lineage.h"
#include "worker/tests/lineage_fixture.h"

typedef struct fixture {
    test_store store;
    kb_stop *stop;
    kb_holder holder;
    kb_backup_settings settings;
    kb_lineage_lock lock;
    int waited;
} fixture;

static void on_waiting(void *ctx, const kb_holder *holder, const char *since)
{
    fixture *f = ctx;
    assert_string_equal(holder->job_name, "holder");
    assert_non_null(since);
    f->waited++;
}

static int setup(void **state)
{
    KB_AUTO_ERROR(err);
    fixture *f = kb_calloc(1, sizeof *f);
    test_store_open(&f->store);
    assert_ok(kb_stop_new(&f->stop, &err));
    f->holder = test_holder("me", "my-uid");
    f->settings = (kb_backup_settings){
        .storage = f->store.storage,
        .backup_id = LINE_ID("59"),
        .lineage = LINE,
        .owner = "manual",
        .holder = f->holder,
        .stop = f->stop,
    };
    f->lock = (kb_lineage_lock){.settings = &f->settings, .on_waiting = on_waiting, .on_waiting_ctx = f};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    kb_holder_done(&f->holder);
    kb_stop_free(f->stop);
    test_store_done(&f->store);
    free(f);
    return 0;
}

static void enter_ok(fixture *f, const char *cluster_id)
{
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *found = NULL;
    assert_ok(kb_lineage_enter(&f->lock, &found, &err));
    assert_string_equal(found != NULL ? found : "none", cluster_id);
}

static void enter_fails(fixture *f, kb_code code, const char *text)
{
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *found = NULL;
    assert_fails(kb_lineage_enter(&f->lock, &found, &err), code);
    assert_says(text);
}

/* The entry was written so long ago. */
static void age_journal(const fixture *f, const char *id, int64_t seconds)
{
    KB_AUTOFREE char *path = kb_asprintf("%s/%s/journal/00000000.json", f->store.dir, id);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    struct timespec times[2] = {info.st_atim, info.st_mtim};
    times[1].tv_sec -= seconds;
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void enter_empty_lineage_is_free(void **state)
{
    enter_ok(*state, "none");
}

static void enter_tells_the_cluster_of_the_newest(void **state)
{
    fixture *f = *state;
    test_member_make(
        f->store.storage,
        &(test_member){.id = LINE_ID("01"), .state = TEST_MEMBER_COMPLETE, .cluster_id = "older"});
    test_member_make(
        f->store.storage,
        &(test_member){.id = LINE_ID("02"), .state = TEST_MEMBER_COMPLETE, .cluster_id = "newer"});
    enter_ok(f, "newer");
}

static void enter_another_owner_is_refused_unless_adopted(void **state)
{
    fixture *f = *state;
    test_member_make(f->store.storage, &(test_member){.id = LINE_ID("01"), .state = TEST_MEMBER_COMPLETE});
    test_member_make(f->store.storage, &(test_member){.id = LINE_ID("02"),
                                                      .state = TEST_MEMBER_COMPLETE,
                                                      .owner = "shop/orders",
                                                      .cluster_id = "c"});
    enter_fails(f, KB_FOREIGN_BACKUP, "belongs to shop/orders");
    f->settings.adopt_lineage = true;
    enter_ok(f, "c");
    f->settings.adopt_lineage = false;
    f->settings.owner = "shop/orders"; /* the newest counts, not those before the adoption */
    enter_ok(f, "c");
}

static void enter_open_backup_of_another_owner_is_refused(void **state)
{
    fixture *f = *state;
    test_member_make(
        f->store.storage,
        &(test_member){.id = LINE_ID("01"), .state = TEST_MEMBER_RELEASED, .owner = "shop/orders"});
    enter_fails(f, KB_FOREIGN_BACKUP, "--adopt-lineage");
}

static void enter_live_backup_is_locked(void **state)
{
    fixture *f = *state;
    test_member_make(f->store.storage, &(test_member){.id = LINE_ID("01"), .state = TEST_MEMBER_OPEN});
    enter_fails(f, KB_BACKUP_LOCKED, LINE_ID("01"));
}

static void enter_own_released_silent_marked_and_closed_are_passed_over(void **state)
{
    fixture *f = *state;
    test_member_make(f->store.storage, &(test_member){.id = LINE_ID("59"), .state = TEST_MEMBER_OPEN});
    test_member_make(f->store.storage, &(test_member){.id = LINE_ID("02"), .state = TEST_MEMBER_RELEASED});
    test_member_make(f->store.storage,
                     &(test_member){.id = LINE_ID("03"), .state = TEST_MEMBER_OPEN, .job_uid = "my-uid"});
    test_member_make(f->store.storage, &(test_member){.id = LINE_ID("04"), .state = TEST_MEMBER_OPEN});
    age_journal(f, LINE_ID("04"), 400);
    test_member_make(f->store.storage, &(test_member){.id = LINE_ID("05"), .state = TEST_MEMBER_OPEN});
    test_member_mark(f->store.storage, LINE_ID("05"));
    test_puts(f->store.storage, LINE_ID("06") "/journal/00000000.json", "{}");
    enter_ok(f, "none");
    assert_int_equal(f->waited, 0);
}

static void enter_sealed_backup_is_finished(void **state)
{
    fixture *f = *state;
    KB_AUTO_ERROR(err);
    test_member_make(f->store.storage,
                     &(test_member){.id = LINE_ID("01"), .state = TEST_MEMBER_SEALED, .cluster_id = "c"});
    enter_ok(f, "c");
    KB_CLEANUP(kb_lineage_members_done) kb_lineage_members members = {0};
    assert_ok(kb_lineage_scan(f->store.storage, LINE, &members, &err));
    assert_int_equal(members.items[0].state, KB_CATALOG_COMPLETE);
}

#define KB_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        KB_TEST(enter_empty_lineage_is_free),
        KB_TEST(enter_tells_the_cluster_of_the_newest),
        KB_TEST(enter_another_owner_is_refused_unless_adopted),
        KB_TEST(enter_open_backup_of_another_owner_is_refused),
        KB_TEST(enter_live_backup_is_locked),
        KB_TEST(enter_own_released_silent_marked_and_closed_are_passed_over),
        KB_TEST(enter_sealed_backup_is_finished),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
