#include "worker/tests/conformance_storage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "worker/storage/storage.h"

#define ATTEMPT "00112233445566778899aabbccddeeff"
#define THREADS 16

static kb_view view_of(const char *text)
{
    return kb_view_of(text, strlen(text));
}

static void put(kb_storage *s, const char *key, const char *text)
{
    KB_AUTO_ERROR(err);
    kb_code code = kb_storage_put_if_absent(s, key, view_of(text), &err);
    if (code != KB_OK)
        fail_msg("put %s: %s", key, kb_error_text(&err));
}

static void assert_holds(kb_storage *s, const char *key, const void *data, size_t len)
{
    KB_AUTO_ERROR(err);
    KB_AUTO_BLOB(blob);
    kb_code code = kb_storage_get(s, key, len, &blob, &err);
    if (code != KB_OK)
        fail_msg("get %s: %s", key, kb_error_text(&err));
    assert_int_equal(blob.len, len);
    assert_memory_equal(blob.data, data, len);
    assert_int_equal(blob.data[len], 0);
    kb_object_info info;
    assert_int_equal(kb_storage_head(s, key, &info, &err), KB_OK);
    assert_int_equal(info.size_bytes, len);
}

static void assert_absent(kb_storage *s, const char *key)
{
    KB_AUTO_ERROR(err);
    kb_object_info info;
    assert_int_equal(kb_storage_head(s, key, &info, &err), KB_ERR_NOT_FOUND);
}

/* Keys of a listing, joined by spaces. */
static kb_code join_key(void *ctx, const kb_list_entry *entry, kb_error *err)
{
    (void)err;
    kb_strbuf_appendf(ctx, "%s ", entry->key);
    return KB_OK;
}

static void assert_lists(kb_storage *s, const char *prefix, bool by_level, const char *expected)
{
    KB_AUTO_ERROR(err);
    KB_AUTO_STRBUF(all, 1 << 20);
    kb_code code = by_level ? kb_storage_list_level(s, prefix, join_key, &all, &err)
                            : kb_storage_list(s, prefix, join_key, &all, &err);
    if (code != KB_OK)
        fail_msg("list %s: %s", prefix, kb_error_text(&err));
    assert_string_equal(kb_strbuf_view(&all), expected);
}

/* Bytes that differ everywhere and do not compress to nothing. */
static uint8_t *pattern(size_t len)
{
    uint8_t *data = kb_malloc(len);
    uint32_t x = 2463534242u;
    for (size_t i = 0; i < len; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        data[i] = (uint8_t)x;
    }
    return data;
}

/* ---- objects ---- */

static void put_if_absent_on_a_new_key_holds_the_bytes(void **state)
{
    put(*state, "put/new/a.json", "{\"a\":1}");
    assert_holds(*state, "put/new/a.json", "{\"a\":1}", 7);
}

static void put_if_absent_on_a_taken_key_changes_nothing(void **state)
{
    KB_AUTO_ERROR(err);
    put(*state, "put/taken", "first");
    assert_int_equal(kb_storage_put_if_absent(*state, "put/taken", view_of("second"), &err), KB_ERR_EXISTS);
    assert_int_equal(kb_storage_put_if_absent(*state, "put/taken", view_of("first"), &err), KB_ERR_EXISTS);
    assert_holds(*state, "put/taken", "first", 5);
}

static void put_if_absent_of_nothing_makes_an_empty_object(void **state)
{
    KB_AUTO_ERROR(err);
    uint8_t byte = 7;
    put(*state, "put/empty", "");
    assert_holds(*state, "put/empty", "", 0);
    assert_int_equal(kb_storage_get_range(*state, "put/empty", 0, &byte, 0, &err), KB_OK);
    assert_int_equal(kb_storage_get_range(*state, "put/empty", 0, &byte, 1, &err), KB_ERR_FORMAT);
    assert_int_equal(byte, 7);
}

static void reads_of_a_missing_object_are_not_found(void **state)
{
    static const char *const keys[] = {"missing", "missing/a/b/c", "put/absent", "obj/below",
                                       "obj/below/more"};
    put(*state, "obj", "an object where others look for a folder");
    for (size_t i = 0; i < KB_ARRAY_LEN(keys); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_BLOB(blob);
        kb_object_info info;
        uint8_t byte;
        assert_int_equal(kb_storage_get(*state, keys[i], 10, &blob, &err), KB_ERR_NOT_FOUND);
        assert_null(blob.data);
        assert_int_equal(kb_storage_get_range(*state, keys[i], 0, &byte, 1, &err), KB_ERR_NOT_FOUND);
        assert_int_equal(kb_storage_head(*state, keys[i], &info, &err), KB_ERR_NOT_FOUND);
        assert_int_equal(kb_storage_remove(*state, keys[i], &err), KB_ERR_NOT_FOUND);
        assert_int_equal(kb_storage_confirm(*state, keys[i], &err), KB_ERR_NOT_FOUND);
        assert_int_not_equal(strlen(kb_error_text(&err)), 0);
    }
}

static void get_beyond_the_limit_is_refused(void **state)
{
    KB_AUTO_ERROR(err);
    KB_AUTO_BLOB(blob);
    put(*state, "get/limit", "12345");
    assert_int_equal(kb_storage_get(*state, "get/limit", 4, &blob, &err), KB_ERR_TOO_LARGE);
    assert_null(blob.data);
    assert_int_equal(kb_storage_get(*state, "get/limit", 5, &blob, &err), KB_OK);
}

static void get_range_is_exact_or_refused(void **state)
{
    static const struct {
        uint64_t offset;
        size_t len;
        kb_code code;
        const char *expected;
    } table[] = {
        {0, 10, KB_OK, "0123456789"},
        {0, 1, KB_OK, "0"},
        {3, 4, KB_OK, "3456"},
        {9, 1, KB_OK, "9"},
        {10, 0, KB_OK, ""},
        {0, 11, KB_ERR_FORMAT, NULL},
        {9, 2, KB_ERR_FORMAT, NULL},
        {10, 1, KB_ERR_FORMAT, NULL},
        {11, 1, KB_ERR_FORMAT, NULL},
        {UINT64_MAX, 2, KB_ERR_FORMAT, NULL},
        {INT64_MAX, 1, KB_ERR_FORMAT, NULL},
    };
    put(*state, "get/range", "0123456789");
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        KB_AUTO_ERROR(err);
        char to[12] = "***********";
        kb_code code = kb_storage_get_range(*state, "get/range", table[i].offset, to, table[i].len, &err);
        assert_int_equal(code, table[i].code);
        if (code == KB_OK)
            assert_memory_equal(to, table[i].expected, table[i].len);
        assert_int_equal(to[11], 0);
    }
}

static void head_tells_size_and_time(void **state)
{
    KB_AUTO_ERROR(err);
    kb_object_info info;
    put(*state, "head/a", "abc");
    assert_int_equal(kb_storage_head(*state, "head/a", &info, &err), KB_OK);
    assert_int_equal(info.size_bytes, 3);
    assert_in_range(info.mtime_ms, (time(NULL) - 3600) * 1000, (time(NULL) + 3600) * 1000);
}

static void remove_makes_the_key_free_again(void **state)
{
    KB_AUTO_ERROR(err);
    put(*state, "rm/a/b", "1");
    put(*state, "rm/a/c", "2");
    assert_int_equal(kb_storage_remove(*state, "rm/a/b", &err), KB_OK);
    assert_absent(*state, "rm/a/b");
    assert_lists(*state, "rm/", false, "rm/a/c ");
    assert_int_equal(kb_storage_remove(*state, "rm/a/c", &err), KB_OK);
    assert_lists(*state, "rm/", false, "");
    put(*state, "rm/a/b", "3");
    assert_holds(*state, "rm/a/b", "3", 1);
}

static void remove_many_tells_what_became_of_each(void **state)
{
    KB_AUTO_ERROR(err);
    static const char *const keys[] = {"rmmany/a/1",    "rmmany/a/2",    "rmmany/b/1",
                                       "rmmany/a/none", "rmmany/none/1", "rmmany/a/3"};
    kb_remove_outcome outcomes[KB_ARRAY_LEN(keys)];
    put(*state, "rmmany/a/1", "1");
    put(*state, "rmmany/a/2", "2");
    put(*state, "rmmany/a/3", "3");
    put(*state, "rmmany/b/1", "4");
    put(*state, "rmmany/b/2", "stays");
    assert_int_equal(kb_storage_remove_many(*state, keys, KB_ARRAY_LEN(keys), outcomes, &err), KB_OK);
    for (size_t i = 0; i < KB_ARRAY_LEN(keys); i++) {
        bool was_there = i < 3 || i == 5;
        if (was_there)
            assert_true(outcomes[i] == KB_REMOVE_GONE || outcomes[i] == KB_REMOVE_HIDDEN);
        else /* a service that answers the same for a missing object cannot tell */
            assert_true(outcomes[i] != KB_REMOVE_UNTRIED && outcomes[i] != KB_REMOVE_HELD);
        assert_absent(*state, keys[i]);
    }
    assert_lists(*state, "rmmany/", false, "rmmany/b/2 ");
    assert_int_equal(kb_storage_remove_many(*state, keys, 0, outcomes, &err), KB_OK);
}

static void remove_many_of_more_than_a_request_holds_removes_all(void **state)
{
    enum { COUNT = 1100 };
    KB_AUTO_ERROR(err);
    char *keys[COUNT];
    kb_remove_outcome outcomes[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        keys[i] = kb_asprintf("crowd/%04zu <&>\"", i);
        put(*state, keys[i], "");
    }
    assert_int_equal(kb_storage_remove_many(*state, (const char *const *)keys, COUNT, outcomes, &err), KB_OK);
    for (size_t i = 0; i < COUNT; i++) {
        assert_true(outcomes[i] == KB_REMOVE_GONE || outcomes[i] == KB_REMOVE_HIDDEN);
        free(keys[i]);
    }
    assert_lists(*state, "crowd/", false, "");
}

static void now_is_the_clock_of_the_objects(void **state)
{
    KB_AUTO_ERROR(err);
    int64_t before_ms = 0;
    int64_t after_ms = 0;
    kb_object_info info;
    assert_int_equal(kb_storage_now(*state, &before_ms, &err), KB_OK);
    put(*state, "clock/a", "1");
    assert_int_equal(kb_storage_now(*state, &after_ms, &err), KB_OK);
    assert_int_equal(kb_storage_head(*state, "clock/a", &info, &err), KB_OK);
    /* Services tell whole seconds, and the reply's date is of another moment. */
    assert_in_range(info.mtime_ms, before_ms - 3000, after_ms + 3000);
}

static void confirm_of_an_object_succeeds(void **state)
{
    KB_AUTO_ERROR(err);
    put(*state, "confirm/a", "1");
    assert_int_equal(kb_storage_confirm(*state, "confirm/a", &err), KB_OK);
}

static void illegal_keys_are_refused(void **state)
{
    char *longest = kb_malloc(KB_STORAGE_KEY_MAX + 2);
    memset(longest, 'k', KB_STORAGE_KEY_MAX + 1);
    longest[KB_STORAGE_KEY_MAX + 1] = '\0';
    const char *keys[] = {"",     "/a",  "a//b",  "a/", "..",   "../a",  "a/../b",
                          "a/..", "./a", "a/./b", ".",  "a\nb", "a\x7f", longest};
    for (size_t i = 0; i < KB_ARRAY_LEN(keys); i++) {
        KB_AUTO_ERROR(err);
        KB_AUTO_BLOB(blob);
        kb_upload *upload = NULL;
        assert_int_equal(kb_storage_put_if_absent(*state, keys[i], view_of("x"), &err), KB_ERR_FORMAT);
        assert_int_equal(kb_storage_get(*state, keys[i], 10, &blob, &err), KB_ERR_FORMAT);
        assert_int_equal(kb_storage_remove(*state, keys[i], &err), KB_ERR_FORMAT);
        assert_int_equal(kb_upload_begin(*state, keys[i], ATTEMPT, &upload, &err), KB_ERR_FORMAT);
    }
    free(longest);
}

/* ---- put_once ---- */

static void put_once_tells_created_identical_and_other(void **state)
{
    KB_AUTO_ERROR(err);
    KB_AUTO_BLOB(stored);
    kb_put_outcome outcome;
    kb_put_once_options options = {.max_stored_bytes = 100};
    assert_int_equal(kb_storage_put_once(*state, "once/a", view_of("one"), &options, &outcome, &stored, &err),
                     KB_OK);
    assert_int_equal(outcome, KB_PUT_CREATED);
    assert_int_equal(kb_storage_put_once(*state, "once/a", view_of("one"), &options, &outcome, &stored, &err),
                     KB_OK);
    assert_int_equal(outcome, KB_PUT_IDENTICAL);
    assert_null(stored.data);
    assert_int_equal(kb_storage_put_once(*state, "once/a", view_of("two"), &options, &outcome, &stored, &err),
                     KB_OK);
    assert_int_equal(outcome, KB_PUT_OTHER);
    assert_string_equal((const char *)stored.data, "one");
    assert_int_equal(kb_storage_put_once(*state, "once/a", view_of("ones"), &options, &outcome, NULL, &err),
                     KB_OK);
    assert_int_equal(outcome, KB_PUT_OTHER);
}

static void put_once_over_something_too_large_is_refused(void **state)
{
    KB_AUTO_ERROR(err);
    kb_put_outcome outcome;
    kb_put_once_options options = {.max_stored_bytes = 3};
    put(*state, "once/large", "12345");
    assert_int_equal(kb_storage_put_once(*state, "once/large", view_of("1"), &options, &outcome, NULL, &err),
                     KB_ERR_TOO_LARGE);
}

/* ---- races ---- */

typedef struct racer {
    kb_storage *storage;
    pthread_barrier_t *start;
    int index;
    kb_code code;
} racer;

static void *race_put(void *arg)
{
    racer *r = arg;
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *text = kb_asprintf("writer %02d", r->index);
    pthread_barrier_wait(r->start);
    r->code = kb_storage_put_if_absent(r->storage, "race/put/deep/key", view_of(text), &err);
    return NULL;
}

static void *race_upload(void *arg)
{
    racer *r = arg;
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *attempt = kb_asprintf("%032x", r->index);
    KB_AUTOFREE char *text = kb_asprintf("%032d", r->index);
    KB_CLEANUP(kb_upload_free_at) kb_upload *upload = NULL;
    pthread_barrier_wait(r->start);
    r->code = kb_upload_begin(r->storage, "race/upload/key", attempt, &upload, &err);
    if (r->code == KB_OK)
        r->code = kb_upload_append(upload, text, 32, &err);
    if (r->code == KB_OK)
        r->code = kb_upload_complete(upload, (const uint8_t *)text, &err);
    return NULL;
}

/* All write to folders that none of them finds. */
static void *race_folders(void *arg)
{
    racer *r = arg;
    KB_AUTO_ERROR(err);
    pthread_barrier_wait(r->start);
    for (int i = 0; i < 20; i++) {
        KB_AUTOFREE char *key = kb_asprintf("race/new/%d/%d/object-%02d", i / 4, i, r->index);
        r->code = kb_storage_put_if_absent(r->storage, key, view_of("x"), &err);
        if (r->code != KB_OK)
            break;
    }
    return NULL;
}

/* How many of the threads ended with KB_OK; all others must have ended with `otherwise`. */
static int run_race(kb_storage *s, void *(*body)(void *), kb_code otherwise, int *ret_winner)
{
    pthread_t threads[THREADS];
    racer racers[THREADS];
    pthread_barrier_t start;
    int won = 0;
    pthread_barrier_init(&start, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        racers[i] = (racer){s, &start, i, KB_ERR_INTERNAL};
        assert_int_equal(pthread_create(&threads[i], NULL, body, &racers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < THREADS; i++) {
        if (racers[i].code == KB_OK) {
            *ret_winner = i;
            won++;
        } else {
            assert_int_equal(racers[i].code, otherwise);
        }
    }
    pthread_barrier_destroy(&start);
    return won;
}

static void put_if_absent_raced_has_one_winner(void **state)
{
    kb_storage *s = *state;
    if (!kb_storage_caps_view(s)->conditional_put)
        skip();
    int winner = -1;
    assert_int_equal(run_race(s, race_put, KB_ERR_EXISTS, &winner), 1);
    KB_AUTOFREE char *text = kb_asprintf("writer %02d", winner);
    assert_holds(s, "race/put/deep/key", text, strlen(text));
    assert_lists(s, "race/put/", false, "race/put/deep/key ");
}

static void upload_raced_has_one_winner(void **state)
{
    kb_storage *s = *state;
    if (!kb_storage_caps_view(s)->conditional_put)
        skip();
    int winner = -1;
    assert_int_equal(run_race(s, race_upload, KB_ERR_EXISTS, &winner), 1);
    KB_AUTOFREE char *text = kb_asprintf("%032d%032d", winner, winner);
    assert_holds(s, "race/upload/key", text, 64);
}

static void puts_into_new_folders_all_succeed(void **state)
{
    KB_AUTO_ERROR(err);
    int winner = -1;
    size_t count = 0;
    assert_int_equal(run_race(*state, race_folders, KB_OK, &winner), THREADS);
    KB_AUTO_STRBUF(all, 1 << 20);
    assert_int_equal(kb_storage_list(*state, "race/new/", join_key, &all, &err), KB_OK);
    for (const char *at = kb_strbuf_view(&all); (at = strchr(at, ' ')) != NULL; at++)
        count++;
    assert_int_equal(count, THREADS * 20);
}

/* ---- listing ---- */

#define MANY 2500

/* Collects pages of `max` keys below "many/" and checks order and number. */
static void assert_pages(kb_storage *s, size_t max, size_t expected, const char *prefix)
{
    KB_AUTOFREE char *after = NULL;
    KB_AUTOFREE char *last = kb_strdup("");
    size_t count = 0;
    do {
        KB_AUTO_ERROR(err);
        KB_CLEANUP(kb_list_page_done) kb_list_page page = KB_LIST_PAGE_INIT;
        kb_list_options options = {.prefix = prefix, .after = after, .max_entries = max};
        kb_code code = kb_storage_list_page(s, &options, &page, &err);
        if (code != KB_OK)
            fail_msg("list: %s", kb_error_text(&err));
        assert_in_range(page.count, 0, max);
        for (size_t i = 0; i < page.count; i++) {
            assert_true(strcmp(last, page.entries[i].key) < 0);
            assert_int_equal(page.entries[i].info.size_bytes, strlen(page.entries[i].key));
            assert_false(page.entries[i].is_folder);
            free(last);
            last = kb_strdup(page.entries[i].key);
        }
        count += page.count;
        free(after);
        after = KB_TAKE(page.next);
    } while (after != NULL);
    assert_int_equal(count, expected);
}

static void list_page_of_many_keys_is_complete_and_sorted(void **state)
{
    for (int i = 0; i < MANY; i++) {
        KB_AUTOFREE char *key = kb_asprintf("many/%d/k%d", i % 7, i);
        put(*state, key, key);
    }
    assert_pages(*state, 1000, MANY, "many/");
    assert_pages(*state, 999, MANY, "many/");
    assert_pages(*state, 37, MANY, "many/");
    assert_pages(*state, 1, 357, "many/6/");
    assert_pages(*state, 2, 158, "many/0/k1");
}

static void list_treats_prefixes_as_text(void **state)
{
    static const char *const keys[] = {"pre/p.x", "pre/p/x", "pre/p/y/z", "pre/p0", "pre/q", "pre/pp/x"};
    for (size_t i = 0; i < KB_ARRAY_LEN(keys); i++)
        put(*state, keys[i], "1");
    static const struct {
        const char *prefix;
        bool by_level;
        const char *expected;
    } table[] = {
        {"pre/", false, "pre/p.x pre/p/x pre/p/y/z pre/p0 pre/pp/x pre/q "},
        {"pre/p", false, "pre/p.x pre/p/x pre/p/y/z pre/p0 pre/pp/x "},
        {"pre/p/", false, "pre/p/x pre/p/y/z "},
        {"pre/p/y", false, "pre/p/y/z "},
        {"pre/p/y/z", false, "pre/p/y/z "},
        {"pre/p/y/z/", false, ""},
        {"pre/absent/", false, ""},
        {"absent", false, ""},
        {"pre/", true, "pre/p.x pre/p/ pre/p0 pre/pp/ pre/q "},
        {"pre/p/", true, "pre/p/x pre/p/y/ "},
        {"absent/", true, ""},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++)
        assert_lists(*state, table[i].prefix, table[i].by_level, table[i].expected);
}

static void list_page_by_folder_pages_through_folders(void **state)
{
    for (int i = 0; i < 25; i++) {
        KB_AUTOFREE char *key = kb_asprintf("folders/f%02d%s", i, i % 2 == 0 ? "/a/b" : "");
        put(*state, key, "1");
    }
    KB_AUTOFREE char *after = NULL;
    size_t count = 0;
    do {
        KB_AUTO_ERROR(err);
        KB_CLEANUP(kb_list_page_done) kb_list_page page = KB_LIST_PAGE_INIT;
        kb_list_options options = {.prefix = "folders/", .after = after, .max_entries = 4, .by_folder = true};
        assert_int_equal(kb_storage_list_page(*state, &options, &page, &err), KB_OK);
        for (size_t i = 0; i < page.count; i++, count++) {
            KB_AUTOFREE char *key = kb_asprintf("folders/f%02zu%s", count, count % 2 == 0 ? "/" : "");
            assert_string_equal(page.entries[i].key, key);
            assert_int_equal(page.entries[i].is_folder, count % 2 == 0);
        }
        free(after);
        after = KB_TAKE(page.next);
    } while (after != NULL);
    assert_int_equal(count, 25);
}

static kb_code stop_at_second(void *ctx, const kb_list_entry *entry, kb_error *err)
{
    int *count = ctx;
    return ++*count == 2 ? kb_fail(err, KB_ERR_STOPPED, "at %s", entry->key) : KB_OK;
}

static void list_ends_with_the_result_of_its_callback(void **state)
{
    KB_AUTO_ERROR(err);
    int count = 0;
    put(*state, "stop/a", "1");
    put(*state, "stop/b", "1");
    put(*state, "stop/c", "1");
    assert_int_equal(kb_storage_list(*state, "stop/", stop_at_second, &count, &err), KB_ERR_STOPPED);
    assert_int_equal(count, 2);
}

static void names_that_are_nasty_as_paths_are_kept(void **state)
{
    char longest[250];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    const char *names[] = {"a..b",  "...",    "....", ".hidden", "con",       "nul.txt", "a.b",
                           "a_b",   "%2e%2e", "-rf",  "--",      "~",         "a b",     "a+b=c",
                           "a@b:c", "q?x#y",  "a\\b", longest,   "a%b",       "*",       "`x`",
                           "{y}",   "[z]",    "<w>",  "\"",      "h\xc3\xa4", "|"};
    for (size_t i = 0; i < KB_ARRAY_LEN(names); i++) {
        KB_AUTOFREE char *key = kb_asprintf("nasty/topics/%s/partition=0/o.bin", names[i]);
        put(*state, key, names[i]);
    }
    for (size_t i = 0; i < KB_ARRAY_LEN(names); i++) {
        KB_AUTOFREE char *key = kb_asprintf("nasty/topics/%s/partition=0/o.bin", names[i]);
        KB_AUTOFREE char *folder = kb_asprintf("nasty/topics/%s/", names[i]);
        KB_AUTOFREE char *expected = kb_asprintf("%s ", key);
        assert_holds(*state, key, names[i], strlen(names[i]));
        assert_lists(*state, folder, false, expected);
    }
    KB_AUTO_ERROR(err);
    KB_AUTO_STRBUF(all, 1 << 20);
    assert_int_equal(kb_storage_list(*state, "nasty/", join_key, &all, &err), KB_OK);
    for (size_t i = 0; i < KB_ARRAY_LEN(names); i++) {
        KB_AUTOFREE char *key = kb_asprintf("nasty/topics/%s/partition=0/o.bin ", names[i]);
        assert_non_null(strstr(kb_strbuf_view(&all), key));
    }
}

static void case_sensitivity_is_proven_on_the_journal(void **state)
{
    KB_AUTO_ERROR(err);
    bool sensitive = false;
    put(*state, "Case/journal/00000000.json", "{}");
    assert_int_equal(kb_storage_is_case_sensitive(*state, "Case", &sensitive, &err), KB_OK);
    if (!sensitive)
        skip();
    put(*state, "case/journal/00000000.json", "{ }");
    put(*state, "Case/topics/T", "1");
    put(*state, "Case/topics/t", "22");
    assert_holds(*state, "Case/topics/T", "1", 1);
    assert_holds(*state, "Case/topics/t", "22", 2);
}

/* ---- uploads ---- */

static void upload_in_odd_chunks_gives_the_same_bytes(void **state)
{
    static const size_t sizes[] = {1, 31, 4096, 65537, 1048576, 3, 999983};
    KB_AUTO_ERROR(err);
    size_t len = 9 * 1024 * 1024 + 17;
    KB_AUTOFREE uint8_t *data = pattern(len);
    KB_CLEANUP(kb_upload_free_at) kb_upload *upload = NULL;
    assert_int_equal(kb_upload_begin(*state, "up/odd", ATTEMPT, &upload, &err), KB_OK);
    size_t at = KB_UPLOAD_HEAD_BYTES;
    for (size_t i = 0; at < len; i++) {
        size_t size = sizes[i % KB_ARRAY_LEN(sizes)];
        size = size < len - at ? size : len - at;
        assert_int_equal(kb_upload_append(upload, data + at, size, &err), KB_OK);
        at += size;
        assert_int_equal(kb_upload_bytes(upload), at);
    }
    assert_int_equal(kb_upload_append(upload, NULL, 0, &err), KB_OK);
    assert_absent(*state, "up/odd");
    assert_lists(*state, "up/odd", false, "");
    kb_code code = kb_upload_complete(upload, data, &err);
    if (code != KB_OK)
        fail_msg("%s", kb_error_text(&err));
    assert_holds(*state, "up/odd", data, len);
    uint8_t last[8];
    assert_int_equal(kb_storage_get_range(*state, "up/odd", len - 8, last, 8, &err), KB_OK);
    assert_memory_equal(last, data + len - 8, 8);
    assert_lists(*state, "up/odd", false, "up/odd ");
}

static void upload_of_the_head_alone_is_an_object(void **state)
{
    KB_AUTO_ERROR(err);
    uint8_t head[KB_UPLOAD_HEAD_BYTES];
    memset(head, 'h', sizeof head);
    KB_CLEANUP(kb_upload_free_at) kb_upload *upload = NULL;
    assert_int_equal(kb_upload_begin(*state, "up/head", ATTEMPT, &upload, &err), KB_OK);
    assert_int_equal(kb_upload_complete(upload, head, &err), KB_OK);
    assert_holds(*state, "up/head", head, sizeof head);
    assert_int_equal(kb_upload_complete(upload, head, &err), KB_ERR_INTERNAL);
    assert_int_equal(kb_upload_append(upload, head, 1, &err), KB_ERR_INTERNAL);
}

static void upload_to_a_taken_key_changes_nothing(void **state)
{
    KB_AUTO_ERROR(err);
    uint8_t head[KB_UPLOAD_HEAD_BYTES] = {1};
    KB_CLEANUP(kb_upload_free_at) kb_upload *upload = NULL;
    assert_int_equal(kb_upload_begin(*state, "up/taken", ATTEMPT, &upload, &err), KB_OK);
    assert_int_equal(kb_upload_append(upload, "body", 4, &err), KB_OK);
    put(*state, "up/taken", "faster");
    assert_int_equal(kb_upload_complete(upload, head, &err), KB_ERR_EXISTS);
    assert_holds(*state, "up/taken", "faster", 6);
}

static void upload_freed_before_its_end_leaves_nothing(void **state)
{
    KB_AUTO_ERROR(err);
    size_t count = 99;
    kb_upload *upload = NULL;
    assert_int_equal(kb_upload_begin(*state, "up/freed/a", ATTEMPT, &upload, &err), KB_OK);
    assert_int_equal(kb_upload_append(upload, "body", 4, &err), KB_OK);
    kb_upload_free(upload);
    assert_absent(*state, "up/freed/a");
    assert_int_equal(kb_storage_abort_leftovers(*state, "up/freed/", &count, &err), KB_OK);
    assert_int_equal(count, 0);
    kb_upload_free(NULL);
}

static void upload_begin_with_a_bad_attempt_is_refused(void **state)
{
    static const char *const attempts[] = {"", "00", "00112233445566778899AABBCCDDEEFF", ATTEMPT "0"};
    for (size_t i = 0; i < KB_ARRAY_LEN(attempts); i++) {
        KB_AUTO_ERROR(err);
        kb_upload *upload = NULL;
        assert_int_equal(kb_upload_begin(*state, "up/bad", attempts[i], &upload, &err), KB_ERR_INTERNAL);
    }
}

static void abort_leftovers_stops_the_uploads_of_others(void **state)
{
    kb_storage *s = *state;
    KB_AUTO_ERROR(err);
    if (kb_storage_caps_view(s)->whole_objects)
        skip();
    /* More than a part, so that something is at the store. */
    size_t len = 2 * kb_storage_caps_view(s)->part_bytes + 100;
    KB_AUTOFREE uint8_t *data = pattern(len);
    KB_CLEANUP(kb_upload_free_at) kb_upload *zombie = NULL;
    KB_CLEANUP(kb_upload_free_at) kb_upload *other = NULL;
    assert_int_equal(kb_upload_begin(s, "left/B/topics/t/partition=0/a", ATTEMPT, &zombie, &err), KB_OK);
    assert_int_equal(kb_upload_begin(s, "left/B2/topics/t/partition=0/a", ATTEMPT, &other, &err), KB_OK);
    assert_int_equal(kb_upload_append(zombie, data, len, &err), KB_OK);
    assert_int_equal(kb_upload_append(other, data, len, &err), KB_OK);
    size_t count = 0;
    put(s, "left/B/kept", "1");
    assert_int_equal(kb_storage_abort_leftovers(s, "left/B/", &count, &err), KB_OK);
    assert_int_equal(count, 1);
    assert_int_equal(kb_upload_complete(zombie, data, &err), KB_FENCED);
    assert_absent(s, "left/B/topics/t/partition=0/a");
    assert_int_equal(kb_upload_complete(other, data, &err), KB_OK);
    assert_lists(s, "left/", false, "left/B/kept left/B2/topics/t/partition=0/a ");
    assert_int_equal(kb_storage_abort_leftovers(s, "absent/", &count, &err), KB_OK);
    assert_int_equal(count, 0);
}

static kb_code count_leftover(void *ctx, const kb_leftover *leftover, kb_error *err)
{
    (void)err;
    (void)leftover;
    ++*(size_t *)ctx;
    return KB_OK;
}

typedef struct kept_leftover {
    char *key;
    char *token;
    int64_t began_ms;
} kept_leftover;

static kb_code keep_leftover(void *ctx, const kb_leftover *leftover, kb_error *err)
{
    (void)err;
    kept_leftover *kept = ctx;
    assert_null(kept->key);
    *kept = (kept_leftover){kb_strdup(leftover->key), kb_strdup(leftover->token), leftover->began_ms};
    return KB_OK;
}

static void leftovers_are_told_and_aborted_one_by_one(void **state)
{
    kb_storage *s = *state;
    KB_AUTO_ERROR(err);
    size_t count = 0;
    assert_int_equal(kb_storage_list_leftovers(s, "rest/B/", count_leftover, &count, &err), KB_OK);
    assert_int_equal(count, 0);
    if (kb_storage_caps_view(s)->whole_objects)
        skip();
    size_t len = 2 * kb_storage_caps_view(s)->part_bytes + 100;
    KB_AUTOFREE uint8_t *data = pattern(len);
    KB_CLEANUP(kb_upload_free_at) kb_upload *upload = NULL;
    assert_int_equal(kb_upload_begin(s, "rest/B/topics/t/partition=0/a", ATTEMPT, &upload, &err), KB_OK);
    assert_int_equal(kb_upload_append(upload, data, len, &err), KB_OK);
    kept_leftover kept = {0};
    assert_int_equal(kb_storage_list_leftovers(s, "rest/B/", keep_leftover, &kept, &err), KB_OK);
    assert_non_null(kept.key);
    assert_in_range(kept.began_ms, (time(NULL) - 3600) * 1000, (time(NULL) + 3600) * 1000);
    kb_leftover leftover = {.key = kept.key, .token = kept.token};
    assert_int_equal(kb_storage_abort_leftover(s, &leftover, &err), KB_OK);
    assert_int_equal(kb_storage_abort_leftover(s, &leftover, &err), KB_OK);
    assert_int_equal(kb_storage_list_leftovers(s, "rest/", count_leftover, &count, &err), KB_OK);
    assert_int_equal(count, 0);
    assert_int_equal(kb_upload_complete(upload, data, &err), KB_FENCED);
    free(kept.key);
    free(kept.token);
}

int kb_conformance_storage(const char *name, int (*setup)(void **state), int (*teardown)(void **state))
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(put_if_absent_on_a_new_key_holds_the_bytes),
        cmocka_unit_test(put_if_absent_on_a_taken_key_changes_nothing),
        cmocka_unit_test(put_if_absent_of_nothing_makes_an_empty_object),
        cmocka_unit_test(reads_of_a_missing_object_are_not_found),
        cmocka_unit_test(get_beyond_the_limit_is_refused),
        cmocka_unit_test(get_range_is_exact_or_refused),
        cmocka_unit_test(head_tells_size_and_time),
        cmocka_unit_test(remove_makes_the_key_free_again),
        cmocka_unit_test(remove_many_tells_what_became_of_each),
        cmocka_unit_test(remove_many_of_more_than_a_request_holds_removes_all),
        cmocka_unit_test(now_is_the_clock_of_the_objects),
        cmocka_unit_test(confirm_of_an_object_succeeds),
        cmocka_unit_test(illegal_keys_are_refused),
        cmocka_unit_test(put_once_tells_created_identical_and_other),
        cmocka_unit_test(put_once_over_something_too_large_is_refused),
        cmocka_unit_test(put_if_absent_raced_has_one_winner),
        cmocka_unit_test(upload_raced_has_one_winner),
        cmocka_unit_test(puts_into_new_folders_all_succeed),
        cmocka_unit_test(list_page_of_many_keys_is_complete_and_sorted),
        cmocka_unit_test(list_treats_prefixes_as_text),
        cmocka_unit_test(list_page_by_folder_pages_through_folders),
        cmocka_unit_test(list_ends_with_the_result_of_its_callback),
        cmocka_unit_test(names_that_are_nasty_as_paths_are_kept),
        cmocka_unit_test(case_sensitivity_is_proven_on_the_journal),
        cmocka_unit_test(upload_in_odd_chunks_gives_the_same_bytes),
        cmocka_unit_test(upload_of_the_head_alone_is_an_object),
        cmocka_unit_test(upload_to_a_taken_key_changes_nothing),
        cmocka_unit_test(upload_freed_before_its_end_leaves_nothing),
        cmocka_unit_test(upload_begin_with_a_bad_attempt_is_refused),
        cmocka_unit_test(abort_leftovers_stops_the_uploads_of_others),
        cmocka_unit_test(leftovers_are_told_and_aborted_one_by_one),
    };
    return cmocka_run_group_tests_name(name, tests, setup, teardown);
}
