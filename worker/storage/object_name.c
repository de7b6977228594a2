#include "worker/storage/object_name.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"

/* A name is refused by the store long before. */
#define KB_NAME_MAX_BYTES ((size_t)64 * 1024)

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && strchr("\\{^}%`]\">[~<#|*?", c) == NULL;
}

static void append_part(kb_strbuf *to, const char *part, size_t len)
{
    bool is_dots = len > 0 && len <= 2 && strspn(part, ".") >= len;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)part[i];
        if (is_plain(c) && !is_dots)
            kb_strbuf_appendc(to, (char)c);
        else
            kb_strbuf_appendf(to, "%%%02X", c);
    }
}

/* Appends the parts of path, each after a '/' unless it is the first of all. */
static void append_path(kb_strbuf *to, const char *path)
{
    while (*path != '\0') {
        size_t len = strcspn(path, "/");
        if (len > 0 && to->len > 0)
            kb_strbuf_appendc(to, '/');
        append_part(to, path, len);
        path += len + (path[len] == '/');
    }
}

char *kb_object_name(const char *prefix, const char *key)
{
    KB_AUTO_STRBUF(name, KB_NAME_MAX_BYTES);
    append_path(&name, prefix != NULL ? prefix : "");
    append_path(&name, key);
    char *text = kb_strbuf_take(&name);
    return text != NULL ? text : kb_strdup("");
}

char *kb_object_name_prefix(const char *prefix, const char *key_prefix)
{
    KB_AUTO_STRBUF(name, KB_NAME_MAX_BYTES);
    append_path(&name, prefix != NULL ? prefix : "");
    size_t len = strlen(key_prefix);
    if (len == 0 && name.len > 0)
        kb_strbuf_appendc(&name, '/');
    append_path(&name, key_prefix);
    if (len > 0 && key_prefix[len - 1] == '/')
        kb_strbuf_appendc(&name, '/');
    char *text = kb_strbuf_take(&name);
    return text != NULL ? text : kb_strdup("");
}

static char *percent_decode(const char *text)
{
    KB_AUTOFREE char *out = kb_malloc(strlen(text) + 1);
    KB_AUTO_ERROR(ignored);
    char *to = out;
    for (const char *at = text; *at != '\0'; at++) {
        uint8_t byte = (uint8_t)*at;
        if (byte == '%') {
            if (strlen(at) < 3 || kb_hex_decode(at + 1, 2, &byte, &ignored) != KB_OK || byte == '\0')
                return NULL;
            at += 2;
        }
        *to++ = (char)byte;
    }
    *to = '\0';
    return KB_TAKE(out);
}

char *kb_object_key(const char *prefix, const char *name)
{
    KB_AUTOFREE char *below = kb_object_name_prefix(prefix, "");
    size_t below_len = strlen(below);
    if (strncmp(name, below, below_len) != 0)
        return NULL;
    KB_AUTOFREE char *key = percent_decode(name + below_len);
    if (key == NULL || key[0] == '\0')
        return NULL;
    /* A name that its key would not lead back to cannot be read, so it is not shown. */
    KB_AUTOFREE char *again = kb_object_name_prefix(prefix, key);
    return strcmp(again, name) == 0 ? KB_TAKE(key) : NULL;
}
