#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/testing/http_script.h"
#include "worker/offsets/snapshot_store.h"

#define REPLY(status, body) {.reply = "HTTP/1.1 " status "\r\nConnection: close\r\n\r\n" body, .close = true}
#define EMPTY_MAP REPLY("200 OK", "{\"metadata\":{\"resourceVersion\":\"7\"}}")
#define FULL_MAP \
    REPLY("200 OK", "{\"metadata\":{\"resourceVersion\":\"8\"},\"data\":{\"s.json\":\"text\",\"x\":\"\"}}")
#define PATCHED REPLY("200 OK", "{}")

typedef struct fixture {
    kb_http_script *server;
    kb_kube_access *access;
    kb_configmap *map;
} fixture;

static void begin(fixture *f, const kb_http_step *steps, size_t count)
{
    KB_AUTO_ERROR(err);
    f->server = kb_http_script_new(steps, count);
    const kb_kube_access_options options = {
        .server = kb_http_script_url(f->server), .token = {.data = "secret"}, .name_space = "shop"};
    assert_int_equal(kb_kube_access_new(&options, &f->access, &err), KB_OK);
    f->map = kb_configmap_new(f->access, NULL, "offset-snapshots", NULL);
}

static void end(fixture *f)
{
    kb_configmap_free(f->map);
    kb_kube_access_free(f->access);
    kb_http_script_free(f->server);
}

static bool has(fixture *f, unsigned n, const char *text)
{
    return strstr(kb_http_script_request(f->server, n), text) != NULL;
}

static void put_patches_with_the_version_that_it_read(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {EMPTY_MAP, PATCHED};
    fixture f;
    KB_AUTO_ERROR(err);
    begin(&f, steps, KB_ARRAY_LEN(steps));
    assert_int_equal(kb_configmap_put(f.map, "s.json", "text", &err), KB_OK);
    assert_true(has(&f, 0, "GET /api/v1/namespaces/shop/configmaps/offset-snapshots HTTP"));
    assert_true(has(&f, 0, "Bearer secret"));
    assert_true(has(&f, 1, "PATCH /api/v1/namespaces/shop/configmaps/offset-snapshots?fieldManager="));
    assert_true(has(&f, 1, "{\"data\":{\"s.json\":\"text\"},\"metadata\":{\"resourceVersion\":\"7\"}}"));
    end(&f);
}

static void put_looks_again_after_a_conflict(void **state)
{
    (void)state;
    static const kb_http_step rows[][4] = {
        {EMPTY_MAP, REPLY("409 Conflict", "{}"), EMPTY_MAP, PATCHED}, /* somebody else changed another key */
        {EMPTY_MAP, {.reset = true}, FULL_MAP, PATCHED},              /* our reply was lost */
        {EMPTY_MAP, REPLY("503 Busy", ""), EMPTY_MAP, PATCHED},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        fixture f;
        KB_AUTO_ERROR(err);
        begin(&f, rows[i], KB_ARRAY_LEN(rows[i]));
        assert_int_equal(kb_configmap_put(f.map, "s.json", "text", &err), KB_OK);
        assert_int_equal(kb_http_script_requests(f.server), i == 1 ? 3 : 4);
        end(&f);
    }
}

static void put_over_another_text_is_refused(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {FULL_MAP};
    fixture f;
    KB_AUTO_ERROR(err);
    begin(&f, steps, KB_ARRAY_LEN(steps));
    assert_int_equal(kb_configmap_put(f.map, "s.json", "other", &err), KB_ERR_EXISTS);
    assert_int_equal(kb_configmap_put(f.map, "s.json", "text", &err), KB_OK);
    end(&f);
}

static void put_beyond_the_limit_is_refused(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {FULL_MAP};
    fixture f;
    KB_AUTO_ERROR(err);
    KB_AUTOFREE char *text = kb_malloc(KB_CONFIGMAP_MAX_BYTES);
    memset(text, 'x', KB_CONFIGMAP_MAX_BYTES);
    text[KB_CONFIGMAP_MAX_BYTES - 1] = '\0';
    begin(&f, steps, KB_ARRAY_LEN(steps));
    assert_int_equal(kb_configmap_put(f.map, "new.json", text, &err), KB_SNAPSHOT_TOO_LARGE);
    assert_int_equal(kb_http_script_requests(f.server), 1);
    end(&f);
}

static void get_tells_absent_from_failed(void **state)
{
    (void)state;
    static const struct {
        kb_http_step step;
        kb_code expected;
    } rows[] = {
        {FULL_MAP, KB_OK},
        {EMPTY_MAP, KB_ERR_NOT_FOUND},
        {REPLY("404 Not Found", "{}"), KB_CONFIG_INVALID},
        {REPLY("403 Forbidden", "{}"), KB_STORAGE_ACCESS_DENIED},
        {REPLY("401 Unauthorized", "{}"), KB_STORAGE_ACCESS_DENIED},
        {REPLY("200 OK", "[]"), KB_STORAGE_UNREACHABLE},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(rows); i++) {
        fixture f;
        KB_AUTO_ERROR(err);
        KB_AUTOFREE char *text = NULL;
        begin(&f, &rows[i].step, 1);
        assert_int_equal(kb_configmap_get(f.map, "s.json", &text, &err), rows[i].expected);
        if (rows[i].expected == KB_OK)
            assert_string_equal(text, "text");
        end(&f);
    }
}

static void remove_sets_the_key_to_null(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {FULL_MAP, PATCHED, EMPTY_MAP};
    fixture f;
    KB_AUTO_ERROR(err);
    begin(&f, steps, KB_ARRAY_LEN(steps));
    assert_int_equal(kb_configmap_remove(f.map, "s.json", &err), KB_OK);
    assert_true(has(&f, 1, "{\"data\":{\"s.json\":null},\"metadata\":{\"resourceVersion\":\"8\"}}"));
    assert_int_equal(kb_configmap_remove(f.map, "s.json", &err), KB_ERR_NOT_FOUND);
    end(&f);
}

static void snapshot_store_over_a_map_has_no_folders(void **state)
{
    (void)state;
    static const kb_http_step steps[] = {EMPTY_MAP};
    fixture f;
    KB_AUTO_ERROR(err);
    begin(&f, steps, KB_ARRAY_LEN(steps));
    KB_CLEANUP(kb_snapshot_store_free_at) kb_snapshot_store *store = kb_snapshot_store_new_map(f.map);
    KB_CLEANUP(kb_offset_snapshot_done) kb_offset_snapshot snapshot = {0};
    assert_int_equal(kb_snapshot_store_read(store, "s", &snapshot, &err), KB_SNAPSHOT_NOT_FOUND);
    assert_non_null(strstr(kb_error_text(&err), "ConfigMap shop/offset-snapshots"));
    assert_int_equal(kb_http_script_requests(f.server), 1);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(put_patches_with_the_version_that_it_read),
        cmocka_unit_test(put_looks_again_after_a_conflict),
        cmocka_unit_test(put_over_another_text_is_refused),
        cmocka_unit_test(put_beyond_the_limit_is_refused),
        cmocka_unit_test(get_tells_absent_from_failed),
        cmocka_unit_test(remove_sets_the_key_to_null),
        cmocka_unit_test(snapshot_store_over_a_map_has_no_folders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
