#include "worker/auth/azure_sharedkey.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/crypto_mac.h"
#include "common/base/encode.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"

#define KB_SIGNED_MAX_BYTES ((size_t)256 * 1024)

typedef struct pair {
    char *name, *value; /* owned */
} pair;

typedef struct pairs {
    pair *items;
    size_t count, capacity;
} pairs;

static void free_pairs(pairs *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].name);
        free(list->items[i].value);
    }
    free(list->items);
}

static void add_pair(pairs *list, char *owned_name, char *owned_value)
{
    for (char *c = owned_name; *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    list->items = kb_grow(list->items, list->count, &list->capacity, sizeof *list->items);
    list->items[list->count++] = (pair){owned_name, owned_value};
}

static int compare_pairs(const void *left, const void *right)
{
    const pair *a = left, *b = right;
    int order = strcmp(a->name, b->name);
    return order != 0 ? order : strcmp(a->value, b->value);
}

static void sort_pairs(pairs *list)
{
    if (list->count > 1)
        qsort(list->items, list->count, sizeof *list->items, compare_pairs);
}

static const char *header_value(const kb_azure_request *request, const char *name)
{
    for (size_t i = 0; i < request->header_count; i++) {
        if (strcasecmp(request->headers[i].name, name) == 0)
            return request->headers[i].value;
    }
    return "";
}

static void append_standard_headers(const kb_azure_request *request, kb_strbuf *to)
{
    static const char *const names[] = {"Content-Encoding",
                                        "Content-Language",
                                        "Content-Length",
                                        "Content-MD5",
                                        "Content-Type",
                                        "Date",
                                        "If-Modified-Since",
                                        "If-Match",
                                        "If-None-Match",
                                        "If-Unmodified-Since",
                                        "Range"};
    for (size_t i = 0; i < KB_ARRAY_LEN(names); i++) {
        const char *value = header_value(request, names[i]);
        bool is_no_body = strcmp(names[i], "Content-Length") == 0 && strcmp(value, "0") == 0;
        /* The service reads x-ms-date instead when both are there. */
        bool is_unused = strcmp(names[i], "Date") == 0 && header_value(request, "x-ms-date")[0] != '\0';
        kb_strbuf_appendf(to, "%s\n", is_no_body || is_unused ? "" : value);
    }
}

static char *trimmed(const char *text)
{
    text += strspn(text, " \t");
    size_t len = strlen(text);
    while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
        len--;
    return kb_strndup(text, len);
}

static void append_own_headers(const kb_azure_request *request, kb_strbuf *to)
{
    KB_CLEANUP(free_pairs) pairs list = {NULL, 0, 0};
    for (size_t i = 0; i < request->header_count; i++) {
        const kb_azure_header *header = &request->headers[i];
        if (strncasecmp(header->name, "x-ms-", 5) == 0)
            add_pair(&list, kb_strdup(header->name), trimmed(header->value));
    }
    sort_pairs(&list);
    for (size_t i = 0; i < list.count; i++)
        kb_strbuf_appendf(to, "%s:%s\n", list.items[i].name, list.items[i].value);
}

/* A '+' is a plus sign, not a space: so reads the service. */
static char *percent_decode(const char *text, size_t len)
{
    KB_AUTOFREE char *out = kb_malloc(len + 1);
    KB_AUTO_ERROR(ignored);
    char *to = out;
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = (uint8_t)text[i];
        if (byte == '%') {
            if (len - i < 3 || kb_hex_decode(text + i + 1, 2, &byte, &ignored) != KB_OK || byte == '\0')
                return NULL;
            i += 2;
        }
        *to++ = (char)byte;
    }
    *to = '\0';
    return KB_TAKE(out);
}

static kb_code read_query(const char *query, pairs *list, kb_error *err)
{
    while (*query != '\0') {
        size_t len = strcspn(query, "&");
        const char *equals = memchr(query, '=', len);
        size_t name_len = equals != NULL ? (size_t)(equals - query) : len;
        KB_AUTOFREE char *name = percent_decode(query, name_len);
        KB_AUTOFREE char *value =
            equals != NULL ? percent_decode(equals + 1, len - name_len - 1) : kb_strdup("");
        if (name == NULL || value == NULL)
            return kb_fail(err, KB_ERR_FORMAT, "a query that cannot be decoded");
        if (name[0] != '\0')
            add_pair(list, KB_TAKE(name), KB_TAKE(value));
        query += len + (query[len] == '&');
    }
    return KB_OK;
}

static kb_code append_resource(const kb_azure_request *request, const char *account, kb_strbuf *to,
                               kb_error *err)
{
    KB_CLEANUP(free_pairs) pairs list = {NULL, 0, 0};
    kb_strbuf_appendf(to, "/%s%s", account, request->path);
    if (request->query != NULL) {
        kb_code code = read_query(request->query, &list, err);
        if (code != KB_OK)
            return code;
    }
    sort_pairs(&list);
    for (size_t i = 0; i < list.count; i++) {
        bool is_same = i > 0 && strcmp(list.items[i].name, list.items[i - 1].name) == 0;
        if (is_same)
            kb_strbuf_appendf(to, ",%s", list.items[i].value);
        else
            kb_strbuf_appendf(to, "\n%s:%s", list.items[i].name, list.items[i].value);
    }
    return KB_OK;
}

kb_code kb_azure_string_to_sign(const kb_azure_request *request, const char *account, char **ret_text,
                                kb_error *err)
{
    KB_AUTO_STRBUF(text, KB_SIGNED_MAX_BYTES);
    kb_strbuf_appendf(&text, "%s\n", request->method);
    append_standard_headers(request, &text);
    append_own_headers(request, &text);
    kb_code code = append_resource(request, account, &text, err);
    if (code == KB_OK)
        code = kb_strbuf_check(&text, "the text of a signature", err);
    if (code == KB_OK)
        *ret_text = kb_strbuf_take(&text);
    return code;
}

static kb_code decode_key(const kb_secret *key, uint8_t **ret_bytes, size_t *ret_len, kb_error *err)
{
    size_t len = kb_secret_len(key);
    KB_AUTO_ERROR(ignored); /* its text would hold part of the key */
    uint8_t *bytes = kb_malloc(KB_BASE64_DATA_SIZE(len));
    if (kb_base64_decode(kb_secret_view(key), len, bytes, ret_len, &ignored) != KB_OK || *ret_len == 0) {
        kb_wipe(bytes, KB_BASE64_DATA_SIZE(len));
        free(bytes);
        return kb_fail(err, KB_ERR_FORMAT, "the account key is not base64");
    }
    *ret_bytes = bytes;
    return KB_OK;
}

kb_code kb_azure_sharedkey(const kb_azure_request *request, const char *account, const kb_secret *key,
                           kb_secret **ret_authorization, kb_error *err)
{
    KB_AUTOFREE char *text = NULL;
    KB_AUTOFREE uint8_t *key_bytes = NULL;
    size_t key_len = 0;
    uint8_t mac[KB_SHA256_SIZE];
    char mac_text[KB_BASE64_TEXT_SIZE(KB_SHA256_SIZE)];
    kb_code code = kb_azure_string_to_sign(request, account, &text, err);
    if (code == KB_OK)
        code = decode_key(key, &key_bytes, &key_len, err);
    if (code != KB_OK)
        return code;
    kb_hmac_sha256(key_bytes, key_len, text, strlen(text), mac);
    kb_wipe(key_bytes, key_len);
    (void)kb_base64_encode(mac, sizeof mac, mac_text);
    KB_AUTOFREE char *value = kb_asprintf("SharedKey %s:%s", account, mac_text);
    *ret_authorization = kb_secret_new(value, strlen(value));
    return KB_OK;
}
