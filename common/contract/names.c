#include "common/contract/names.h"

#include <string.h>

#include "common/base/crypto.h"
#include "common/base/encode.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"

#define KB_HASH_DIGITS 8
#define KB_ID_READ_MAX_BYTES 512
#define KB_STAMP_WORD "{stamp}"

char *kb_name_child(const char *base, const char *suffix, size_t max_bytes)
{
    size_t base_len = strlen(base), suffix_len = strlen(suffix);
    if (base_len + suffix_len <= max_bytes)
        return kb_asprintf("%s%s", base, suffix);
    uint8_t hash[KB_SHA256_SIZE];
    char hex[2 * KB_SHA256_SIZE + 1];
    kb_sha256(base, base_len, hash);
    kb_hex_encode(hash, sizeof hash, hex);
    size_t fixed = suffix_len + KB_HASH_DIGITS + 1;
    size_t kept = max_bytes > fixed ? max_bytes - fixed : 0;
    if (kept > base_len)
        kept = base_len;
    while (kept > 0 && (base[kept - 1] == '-' || base[kept - 1] == '.'))
        kept--;
    return kb_asprintf("%.*s-%.*s%s", (int)kept, base, KB_HASH_DIGITS, hex, suffix);
}

bool kb_name_has_stamp(const char *text)
{
    return strstr(text, KB_STAMP_WORD) != NULL;
}

char *kb_name_with_stamp(const char *text, const char *stamp)
{
    /* Each word of 7 bytes becomes one of at most 15, so twice the length and a stamp is enough. */
    KB_AUTO_STRBUF(name, (strlen(text) + 1) * (strlen(stamp) + 1));
    for (const char *word; (word = strstr(text, KB_STAMP_WORD)) != NULL;
         text = word + strlen(KB_STAMP_WORD)) {
        kb_strbuf_append(&name, text, (size_t)(word - text));
        kb_strbuf_appends(&name, stamp);
    }
    kb_strbuf_appends(&name, text);
    char *owned_name = kb_strbuf_take(&name);
    return owned_name != NULL ? owned_name : kb_strdup("");
}

static bool is_alnum(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

const char *kb_name_new_id_problem(const char *id, size_t max_bytes)
{
    static const char *const reserved[] = {"offset-snapshots", "restores", "evidence-reports"};
    static const char suffix[] = ".json";
    size_t len = strlen(id);
    if (len == 0)
        return "it is empty";
    if (len > max_bytes)
        return "it is too long";
    if (!is_alnum(id[0]))
        return "it must begin with a letter or digit";
    for (size_t i = 0; i < len; i++) {
        if (!is_alnum(id[i]) && strchr("._-", id[i]) == NULL)
            return "only letters, digits, '.', '_' and '-' are allowed";
    }
    for (size_t i = 0; i < KB_ARRAY_LEN(reserved); i++) {
        if (strcmp(id, reserved[i]) == 0)
            return "this name is reserved";
    }
    if (len >= strlen(suffix) && strcmp(id + len - strlen(suffix), suffix) == 0)
        return "it must not end in '.json'";
    return NULL;
}

static bool is_bad_part(const char *part, size_t len)
{
    return len == 0 || (len == 1 && part[0] == '.') || (len == 2 && part[0] == '.' && part[1] == '.');
}

const char *kb_name_id_problem(const char *id)
{
    size_t len = strlen(id);
    if (len == 0)
        return "it is empty";
    if (len > KB_ID_READ_MAX_BYTES)
        return "it is longer than 512 bytes";
    for (const char *c = id; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return "it has a control character";
    }
    for (const char *part = id;; part++) {
        size_t part_len = strcspn(part, "/");
        if (is_bad_part(part, part_len))
            return "it has an empty, '.' or '..' part";
        part += part_len;
        if (*part == '\0')
            return NULL;
    }
}
