#include "worker/storage/storage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "worker/storage/storage_driver.h"

/* A store of one object that answers as it is told. */
typedef struct script {
    kb_code put_code;
    bool put_is_retryable;
    bool put_takes_effect;
    kb_code get_code;
    const char *stored; /* borrowed; NULL = no object */
    const char *offered;
    int get_count;
    int freed_count;
} script;

static kb_code script_put(void *state, const char *key, kb_view bytes, kb_error *err)
{
    script *s = state;
    (void)bytes;
    if (s->put_takes_effect)
        s->stored = s->offered;
    if (s->put_code == KB_OK)
        return KB_OK;
    return s->put_is_retryable ? kb_fail_retryable(err, s->put_code, "put %s", key)
                               : kb_fail(err, s->put_code, "put %s", key);
}

static kb_code script_get(void *state, const char *key, size_t max_bytes, kb_blob *ret_blob, kb_error *err)
{
    script *s = state;
    s->get_count++;
    if (s->get_code != KB_OK)
        return kb_fail(err, s->get_code, "get %s", key);
    if (s->stored == NULL)
        return kb_fail(err, KB_ERR_NOT_FOUND, "get %s", key);
    if (strlen(s->stored) > max_bytes)
        return kb_fail(err, KB_ERR_TOO_LARGE, "get %s", key);
    *ret_blob = (kb_blob){(uint8_t *)kb_strdup(s->stored), strlen(s->stored)};
    return KB_OK;
}

static kb_code script_get_range(void *state, const char *key, uint64_t offset, void *to, size_t len,
                                kb_error *err)
{
    (void)state, (void)offset, (void)to, (void)len;
    return kb_fail(err, KB_ERR_NOT_FOUND, "%s", key);
}

static kb_code script_head(void *state, const char *key, kb_object_info *ret_info, kb_error *err)
{
    const script *s = state;
    if (s->stored == NULL)
        return kb_fail(err, KB_ERR_NOT_FOUND, "%s", key);
    *ret_info = (kb_object_info){strlen(s->stored), 1};
    return KB_OK;
}

static kb_code script_remove(void *state, const char *key, kb_error *err)
{
    (void)state;
    return kb_fail(err, KB_ERR_NOT_FOUND, "%s", key);
}

static kb_code script_list(void *state, const kb_list_options *options, kb_list_page *ret_page, kb_error *err)
{
    (void)state, (void)err;
    /* An empty page in the middle, as real stores give. */
    bool first = options->after == NULL;
    if (first)
        *ret_page = (kb_list_page){NULL, 0, kb_strdup("next")};
    else
        *ret_page = (kb_list_page)KB_LIST_PAGE_INIT;
    return KB_OK;
}

static kb_code script_begin(void *state, const char *key, const char *attempt, void **ret_upload,
                            kb_error *err)
{
    (void)key, (void)attempt, (void)err;
    *ret_upload = state;
    return KB_OK;
}

static kb_code script_append(void *upload, const void *data, size_t len, kb_error *err)
{
    (void)upload, (void)data;
    return len > 10 ? kb_fail(err, KB_STORAGE_IO_ERROR, "too much") : KB_OK;
}

static kb_code script_complete(void *upload, const uint8_t head[KB_UPLOAD_HEAD_BYTES], kb_error *err)
{
    (void)upload, (void)head, (void)err;
    return KB_OK;
}

static void script_upload_free(void *owned_upload)
{
    script *s = owned_upload;
    s->freed_count++;
}

static kb_code script_abort(void *state, const char *prefix, size_t *ret_count, kb_error *err)
{
    (void)state, (void)prefix;
    *ret_count = 5;
    return kb_fail(err, KB_STORAGE_IO_ERROR, "half way");
}

static void script_free(void *owned_state)
{
    script *s = owned_state;
    s->freed_count++;
}

static const kb_storage_driver script_driver = {
    .name = "script",
    .free_state = script_free,
    .put_if_absent = script_put,
    .get = script_get,
    .get_range = script_get_range,
    .head = script_head,
    .remove = script_remove,
    .list_page = script_list,
    .upload_begin = script_begin,
    .upload_append = script_append,
    .upload_complete = script_complete,
    .upload_free = script_upload_free,
    .abort_leftovers = script_abort,
};

static kb_storage *open_script(script *s)
{
    kb_storage_caps caps = {.conditional_put = true, .part_bytes = 8};
    return kb_storage_new(&script_driver, s, &caps, "script://here");
}

static void storage_new_of_an_incomplete_driver_ends_the_process(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        kb_storage_driver incomplete = script_driver;
        incomplete.get_range = NULL;
        kb_storage_caps caps = {0};
        kb_storage_free(kb_storage_new(&incomplete, NULL, &caps, "x"));
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void storage_views_tell_what_was_given(void **state)
{
    (void)state;
    script s = {0};
    kb_storage *storage = open_script(&s);
    assert_string_equal(kb_storage_describe(storage), "script://here");
    assert_int_equal(kb_storage_caps_view(storage)->part_bytes, 8);
    kb_storage_free(storage);
    assert_int_equal(s.freed_count, 1);
    kb_storage_free(NULL);
}

static void put_once_resolves_what_is_unknown_by_reading(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        script script;
        kb_code code;
        kb_put_outcome outcome;
        int get_count;
    } table[] = {
        {"created", {.put_code = KB_OK}, KB_OK, KB_PUT_CREATED, 0},
        {"taken by the same", {.put_code = KB_ERR_EXISTS, .stored = "mine"}, KB_OK, KB_PUT_IDENTICAL, 1},
        {"taken by another", {.put_code = KB_ERR_EXISTS, .stored = "yours"}, KB_OK, KB_PUT_OTHER, 1},
        {"lost reply",
         {.put_code = KB_TEMPORARY_FAILURE, .put_is_retryable = true, .put_takes_effect = true},
         KB_OK,
         KB_PUT_IDENTICAL,
         1},
        {"lost request",
         {.put_code = KB_TEMPORARY_FAILURE, .put_is_retryable = true},
         KB_TEMPORARY_FAILURE,
         KB_PUT_CREATED,
         1},
        {"lost reply, and no read",
         {.put_code = KB_TEMPORARY_FAILURE, .put_is_retryable = true, .get_code = KB_STORAGE_UNREACHABLE},
         KB_TEMPORARY_FAILURE,
         KB_PUT_CREATED,
         1},
        {"plain failure",
         {.put_code = KB_STORAGE_FULL, .stored = "mine"},
         KB_STORAGE_FULL,
         KB_PUT_CREATED,
         0},
        {"taken, and no read",
         {.put_code = KB_ERR_EXISTS, .get_code = KB_STORAGE_UNREACHABLE},
         KB_STORAGE_UNREACHABLE,
         KB_PUT_CREATED,
         1},
        {"taken, then gone", {.put_code = KB_ERR_EXISTS}, KB_TEMPORARY_FAILURE, KB_PUT_CREATED, 1},
        {"taken by something large",
         {.put_code = KB_ERR_EXISTS, .stored = "more than eight bytes"},
         KB_ERR_TOO_LARGE,
         KB_PUT_CREATED,
         1},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        script s = table[i].script;
        s.offered = "mine";
        KB_AUTO_ERROR(err);
        KB_AUTO_BLOB(stored);
        KB_CLEANUP(kb_storage_free_at) kb_storage *storage = open_script(&s);
        kb_put_outcome outcome = KB_PUT_CREATED;
        kb_put_once_options options = {.max_stored_bytes = 8};
        kb_code code =
            kb_storage_put_once(storage, "k", kb_view_of("mine", 4), &options, &outcome, &stored, &err);
        if (code != table[i].code || outcome != table[i].outcome || s.get_count != table[i].get_count)
            fail_msg("%s: code %d, outcome %d, reads %d", table[i].what, code, outcome, s.get_count);
        assert_int_equal(stored.data != NULL, code == KB_OK && outcome == KB_PUT_OTHER);
        assert_int_equal(err.code, code);
    }
}

static kb_code count_entry(void *ctx, const kb_list_entry *entry, kb_error *err)
{
    (void)entry, (void)err;
    ++*(int *)ctx;
    return KB_OK;
}

static void list_goes_on_after_an_empty_page(void **state)
{
    (void)state;
    script s = {0};
    int count = 0;
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_storage_free_at) kb_storage *storage = open_script(&s);
    assert_int_equal(kb_storage_list(storage, "", count_entry, &count, &err), KB_OK);
    assert_int_equal(count, 0);
    assert_int_equal(kb_storage_list_level(storage, "a", count_entry, &count, &err), KB_ERR_INTERNAL);
    assert_int_equal(kb_storage_list(storage, "a/../", count_entry, &count, &err), KB_ERR_FORMAT);
}

static void upload_after_a_failed_append_can_only_be_freed(void **state)
{
    (void)state;
    script s = {0};
    uint8_t head[KB_UPLOAD_HEAD_BYTES] = {0};
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_storage_free_at) kb_storage *storage = open_script(&s);
    kb_upload *upload = NULL;
    assert_int_equal(kb_upload_begin(storage, "k", "00112233445566778899aabbccddeeff", &upload, &err), KB_OK);
    assert_int_equal(kb_upload_append(upload, "0123456789a", 11, &err), KB_STORAGE_IO_ERROR);
    assert_int_equal(kb_upload_bytes(upload), KB_UPLOAD_HEAD_BYTES);
    assert_int_equal(kb_upload_append(upload, "0", 1, &err), KB_ERR_INTERNAL);
    assert_int_equal(kb_upload_complete(upload, head, &err), KB_ERR_INTERNAL);
    kb_upload_free_at(&upload);
    assert_null(upload);
    assert_int_equal(s.freed_count, 1);
}

static void defaults_stand_for_what_a_driver_need_not_have(void **state)
{
    (void)state;
    script s = {.stored = "x"};
    bool sensitive = false;
    size_t count = 0;
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_storage_free_at) kb_storage *storage = open_script(&s);
    assert_int_equal(kb_storage_is_case_sensitive(storage, "B", &sensitive, &err), KB_OK);
    assert_true(sensitive);
    assert_int_equal(kb_storage_confirm(storage, "B/o", &err), KB_OK);
    s.stored = NULL;
    assert_int_equal(kb_storage_confirm(storage, "B/o", &err), KB_ERR_NOT_FOUND);
    assert_int_equal(kb_storage_abort_leftovers(storage, "B/", &count, &err), KB_STORAGE_IO_ERROR);
    assert_int_equal(count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(storage_new_of_an_incomplete_driver_ends_the_process),
        cmocka_unit_test(storage_views_tell_what_was_given),
        cmocka_unit_test(put_once_resolves_what_is_unknown_by_reading),
        cmocka_unit_test(list_goes_on_after_an_empty_page),
        cmocka_unit_test(upload_after_a_failed_append_can_only_be_freed),
        cmocka_unit_test(defaults_stand_for_what_a_driver_need_not_have),
    };
    return cmocka_run_group_tests_name("storage", tests, NULL, NULL);
}
