#include "worker/auth/azure_sharedkey.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/data/json_read.h"

#define MAX_HEADERS 32

/* One line of azure-sharedkey.jsonl: a request as sent, and what the vendor's own client signed. */
typedef struct vector {
    char *account, *key, *method, *url, *authorization, *to_sign;
    char *names[MAX_HEADERS], *values[MAX_HEADERS];
    kb_azure_header headers[MAX_HEADERS];
    size_t header_count;
} vector;

static void vector_done(vector *v)
{
    char *const texts[] = {v->account, v->key, v->method, v->url, v->authorization, v->to_sign};
    for (size_t i = 0; i < KB_ARRAY_LEN(texts); i++)
        free(texts[i]);
    for (size_t i = 0; i < v->header_count; i++) {
        free(v->names[i]);
        free(v->values[i]);
    }
}

static void read_headers(kb_json_reader *r, vector *v)
{
    KB_AUTO_ERROR(err);
    kb_view name;
    assert_int_equal(kb_json_begin_object(r, &err), KB_OK);
    while (kb_json_next_name(r, &name, &err) == KB_OK) {
        size_t i = v->header_count++;
        assert_true(i < MAX_HEADERS);
        v->names[i] = kb_strndup((const char *)name.data, name.len);
        assert_int_equal(kb_json_get_text(r, &v->values[i], &err), KB_OK);
        v->headers[i] = (kb_azure_header){v->names[i], v->values[i]};
    }
}

static void read_vector(const char *line, size_t len, vector *v)
{
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_json_reader_free_at) kb_json_reader *r = kb_json_reader_new(kb_view_of(line, len), NULL);
    const struct {
        const char *name;
        char **to;
    } fields[] = {
        {"account", &v->account},
        {"key", &v->key},
        {"method", &v->method},
        {"url", &v->url},
        {"authorization", &v->authorization},
        {"string_to_sign", &v->to_sign},
    };
    kb_view name;
    assert_int_equal(kb_json_begin_object(r, &err), KB_OK);
    while (kb_json_next_name(r, &name, &err) == KB_OK) {
        if (kb_json_is(name, "headers")) {
            read_headers(r, v);
            continue;
        }
        char **to = NULL;
        for (size_t i = 0; i < KB_ARRAY_LEN(fields); i++)
            to = kb_json_is(name, fields[i].name) ? fields[i].to : to;
        assert_int_equal(to != NULL ? kb_json_get_text(r, to, &err) : kb_json_skip(r, &err), KB_OK);
    }
}

/* Where the vendor's client departs from the service's own description; we send none of these. */
static bool is_departure(const vector *v)
{
    if (strstr(v->url, "include=metadata&include=") != NULL) /* repeated parameters are joined by ',' */
        return true;
    for (size_t i = 0; i < v->header_count; i++) {
        if (strcmp(v->names[i], "Range") == 0) /* signed by the description, not by the client */
            return true;
        if (strcmp(v->names[i], "x-ms-meta-a_") == 0) /* order of '_' and digits */
            return true;
    }
    return false;
}

static void check_vector(const vector *v)
{
    KB_AUTO_ERROR(err);
    const char *path = strchr(strstr(v->url, "://") + 3, '/');
    size_t path_len = strcspn(path, "?");
    KB_AUTOFREE char *path_text = kb_strndup(path, path_len);
    kb_azure_request request = {
        .method = v->method,
        .path = path_text,
        .query = path[path_len] == '?' ? path + path_len + 1 : NULL,
        .headers = v->headers,
        .header_count = v->header_count,
    };
    KB_AUTOFREE char *to_sign = NULL;
    assert_int_equal(kb_azure_string_to_sign(&request, v->account, &to_sign, &err), KB_OK);
    assert_string_equal(to_sign, v->to_sign);
    KB_CLEANUP(kb_secret_free_at) kb_secret *key = kb_secret_new(v->key, strlen(v->key));
    KB_CLEANUP(kb_secret_free_at) kb_secret *authorization = NULL;
    assert_int_equal(kb_azure_sharedkey(&request, v->account, key, &authorization, &err), KB_OK);
    assert_string_equal(kb_secret_view(authorization), v->authorization);
}

static void kb_azure_sharedkey_agrees_with_the_vendors_client(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_AUTOFREE uint8_t *data = NULL;
    size_t len = 0, checked = 0;
    if (kb_file_read("worker/tests/data/azure-sharedkey.jsonl", 1 << 20, &data, &len, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
    for (const char *line = (const char *)data; *line != '\0';) {
        size_t line_len = strcspn(line, "\n");
        KB_CLEANUP(vector_done) vector v = {.header_count = 0};
        read_vector(line, line_len, &v);
        if (!is_departure(&v)) {
            check_vector(&v);
            checked++;
        }
        line += line_len + 1;
    }
    assert_int_equal(checked, 36);
}

static void kb_azure_string_to_sign_joins_repeated_parameters(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_azure_header date = {"X-Ms-Date", "  d "};
    kb_azure_request request = {"GET", "/c", "include=snapshots&Comp=list&include=metadata&x", &date, 1};
    KB_AUTOFREE char *text = NULL;
    assert_int_equal(kb_azure_string_to_sign(&request, "a", &text, &err), KB_OK);
    assert_string_equal(
        text, "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:d\n/a/c\ncomp:list\ninclude:metadata,snapshots\nx:");
}

static void kb_azure_sharedkey_of_bad_input_fails_without_the_key(void **state)
{
    (void)state;
    const char *const keys[] = {"canary!canary", "", "Y2FuYXJ5"};
    for (size_t i = 0; i < KB_ARRAY_LEN(keys); i++) {
        KB_AUTO_ERROR(err);
        kb_azure_request request = {"GET", "/c", i == 2 ? "a=%zz" : NULL, NULL, 0};
        KB_CLEANUP(kb_secret_free_at) kb_secret *key = kb_secret_new(keys[i], strlen(keys[i]));
        KB_CLEANUP(kb_secret_free_at) kb_secret *authorization = NULL;
        assert_int_equal(kb_azure_sharedkey(&request, "a", key, &authorization, &err), KB_ERR_FORMAT);
        assert_null(strstr(kb_error_text(&err), "canary"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_azure_sharedkey_agrees_with_the_vendors_client),
        cmocka_unit_test(kb_azure_string_to_sign_joins_repeated_parameters),
        cmocka_unit_test(kb_azure_sharedkey_of_bad_input_fails_without_the_key),
    };
    return cmocka_run_group_tests_name("azure_sharedkey", tests, NULL, NULL);
}
