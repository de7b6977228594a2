#include "operator/kube/object_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "operator/kube/kube_types.h"

static json_t *object(const char *name, const char *uid, const char *version, const char *owner)
{
    json_t *o = json_pack("{s:{s:s, s:s, s:s, s:s}}", "metadata", "namespace", "ns", "name", name, "uid", uid,
                          "resourceVersion", version);
    if (owner != NULL)
        json_object_set_new(json_object_get(o, "metadata"), "ownerReferences",
                            json_pack("[{s:s, s:b}]", "uid", owner, "controller", 1));
    return o;
}

static void assert_version(kb_object_store *store, const char *name, const char *version)
{
    KB_AUTO_JSON json_t *o = kb_object_store_get(store, "ns", name);
    if (version == NULL) {
        assert_null(o);
        return;
    }
    assert_non_null(o);
    assert_string_equal(kb_kube_version(o), version);
}

static size_t owned_count(kb_object_store *store, const char *owner)
{
    KB_AUTO_JSON json_t *list = kb_object_store_owned_by(store, owner);
    return json_array_size(list);
}

static void kb_object_store_put_keeps_all_indexes(void **state)
{
    kb_object_store *store = *(bool *)*state ? kb_object_store_new_compact() : kb_object_store_new();
    assert_int_equal(kb_object_store_put(store, object("a", "u1", "1", "o1"), NULL), KB_STORE_ADDED);
    assert_int_equal(kb_object_store_put(store, object("b", "u2", "2", "o1"), NULL), KB_STORE_ADDED);
    assert_int_equal(kb_object_store_put(store, object("a", "u1", "1", "o1"), NULL), KB_STORE_SAME);
    assert_int_equal(owned_count(store, "o1"), 2);
    json_t *old = NULL;
    assert_int_equal(kb_object_store_put(store, object("a", "u1", "3", "o2"), &old), KB_STORE_UPDATED);
    assert_string_equal(kb_kube_version(old), "1");
    json_decref(old);
    assert_int_equal(owned_count(store, "o1"), 1);
    assert_int_equal(owned_count(store, "o2"), 1);
    assert_int_equal(kb_object_store_put(store, object("a", "u9", "4", NULL), &old), KB_STORE_REPLACED);
    json_decref(old);
    assert_int_equal(owned_count(store, "o2"), 0);
    assert_null(kb_object_store_get_uid(store, "u1"));
    KB_AUTO_JSON json_t *by_uid = kb_object_store_get_uid(store, "u9");
    assert_string_equal(kb_kube_name(by_uid), "a");
    assert_int_equal(kb_object_store_count(store), 2);
    kb_object_store_free(store);
}

static void kb_object_store_remove_only_of_the_same_uid(void **state)
{
    kb_object_store *store = *(bool *)*state ? kb_object_store_new_compact() : kb_object_store_new();
    kb_object_store_put(store, object("a", "u2", "5", "o1"), NULL);
    assert_int_equal(kb_object_store_remove(store, "ns", "a", "u1", NULL), KB_STORE_SAME);
    assert_version(store, "a", "5");
    assert_int_equal(kb_object_store_remove(store, "ns", "a", "u2", NULL), KB_STORE_REMOVED);
    assert_version(store, "a", NULL);
    assert_int_equal(owned_count(store, "o1"), 0);
    assert_int_equal(kb_object_store_remove(store, "ns", "a", "u2", NULL), KB_STORE_SAME);
    kb_object_store_free(store);
}

static void kb_object_store_own_write_is_not_put_back(void **state)
{
    kb_object_store *store = *(bool *)*state ? kb_object_store_new_compact() : kb_object_store_new();
    kb_object_store_put(store, object("a", "u1", "1", NULL), NULL);
    assert_true(kb_object_store_own_write(store, object("a", "u1", "2", NULL), "1"));
    assert_true(kb_object_store_own_write(store, object("a", "u1", "3", NULL), "2"));
    /* The watch and a list are behind: neither may show an older copy. */
    assert_int_equal(kb_object_store_put(store, object("a", "u1", "1", NULL), NULL), KB_STORE_SAME);
    assert_int_equal(kb_object_store_put(store, object("a", "u1", "2", NULL), NULL), KB_STORE_SAME);
    assert_version(store, "a", "3");
    /* Its own version is told once. */
    assert_int_equal(kb_object_store_put(store, object("a", "u1", "3", NULL), NULL), KB_STORE_UPDATED);
    assert_int_equal(kb_object_store_put(store, object("a", "u1", "3", NULL), NULL), KB_STORE_SAME);
    assert_int_equal(kb_object_store_put(store, object("a", "u1", "4", NULL), NULL), KB_STORE_UPDATED);
    assert_version(store, "a", "4");
    kb_object_store_free(store);
}

static void kb_object_store_own_write_on_another_version_is_refused(void **state)
{
    kb_object_store *store = *(bool *)*state ? kb_object_store_new_compact() : kb_object_store_new();
    assert_false(kb_object_store_own_write(store, object("a", "u1", "2", NULL), "1"));
    assert_true(kb_object_store_own_write(store, object("a", "u1", "2", NULL), NULL));
    assert_false(kb_object_store_own_write(store, object("a", "u1", "2", NULL), NULL));
    kb_object_store_put(store, object("a", "u1", "7", NULL), NULL);
    assert_false(kb_object_store_own_write(store, object("a", "u1", "3", NULL), "2"));
    assert_version(store, "a", "7");
    /* A write that changed nothing. */
    assert_true(kb_object_store_own_write(store, object("a", "u1", "7", NULL), "7"));
    assert_int_equal(kb_object_store_put(store, object("a", "u1", "7", NULL), NULL), KB_STORE_SAME);
    /* Created anew under the same name while the deletion is not seen yet. */
    assert_true(kb_object_store_own_write(store, object("a", "u2", "9", NULL), NULL));
    assert_int_equal(kb_object_store_remove(store, "ns", "a", "u1", NULL), KB_STORE_SAME);
    assert_version(store, "a", "9");
    kb_object_store_free(store);
}

static void append_name(void *ctx, json_t *gone)
{
    kb_strbuf_appendf(ctx, "%s ", kb_kube_name(gone));
}

static void kb_object_store_list_end_removes_the_unseen(void **state)
{
    kb_object_store *store = *(bool *)*state ? kb_object_store_new_compact() : kb_object_store_new();
    KB_AUTO_STRBUF(gone, 1024);
    kb_object_store_put(store, object("a", "u1", "1", NULL), NULL);
    kb_object_store_put(store, object("b", "u2", "2", NULL), NULL);
    kb_object_store_put(store, object("c", "u3", "3", NULL), NULL);
    kb_object_store_list_begin(store, "ns");
    kb_object_store_put(store, object("b", "u2", "2", NULL), NULL);
    /* Made by us while the list was on its way, which does not show it. */
    assert_true(kb_object_store_own_write(store, object("d", "u4", "9", NULL), NULL));
    assert_true(kb_object_store_own_write(store, object("c", "u3", "8", NULL), "3"));
    kb_object_store_list_end(store, "ns", append_name, &gone);
    assert_string_equal(kb_strbuf_view(&gone), "a ");
    kb_object_store_list_begin(store, "other");
    kb_object_store_list_end(store, "other", append_name, &gone);
    assert_int_equal(kb_object_store_count(store), 3);
    KB_AUTO_JSON json_t *all = kb_object_store_list(store, NULL);
    KB_AUTO_JSON json_t *other = kb_object_store_list(store, "other");
    assert_int_equal(json_array_size(all), 3);
    assert_int_equal(json_array_size(other), 0);
    kb_object_store_free(store);
}

static bool is_plain = false, is_compact = true;

int main(void)
{
#define BOTH(test) cmocka_unit_test_prestate(test, &is_plain), cmocka_unit_test_prestate(test, &is_compact)
    const struct CMUnitTest tests[] = {
        BOTH(kb_object_store_put_keeps_all_indexes),
        BOTH(kb_object_store_remove_only_of_the_same_uid),
        BOTH(kb_object_store_own_write_is_not_put_back),
        BOTH(kb_object_store_own_write_on_another_version_is_refused),
        BOTH(kb_object_store_list_end_removes_the_unseen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
