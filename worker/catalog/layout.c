#include "worker/catalog/layout.h"

#include <inttypes.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/mem.h"

#define KB_SUFFIX_DIGITS 8
#define KB_RESERVED_NAMES "offset-snapshots", "restores", "evidence-reports"

static const char *const ALNUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
static const char *const NAME_CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

static bool is_reserved(const char *id)
{
    static const char *const reserved[] = {KB_RESERVED_NAMES};
    for (size_t i = 0; i < KB_ARRAY_LEN(reserved); i++) {
        if (strcmp(id, reserved[i]) == 0)
            return true;
    }
    return false;
}

static bool has_suffix(const char *text, const char *suffix)
{
    size_t len = strlen(text);
    size_t suffix_len = strlen(suffix);
    return len >= suffix_len && strcmp(text + len - suffix_len, suffix) == 0;
}

static bool has_control(kb_view text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < 0x20 || text.data[i] == 0x7f)
            return true;
    }
    return false;
}

static bool has_byte(kb_view text, char byte)
{
    return text.len > 0 && memchr(text.data, byte, text.len) != NULL;
}

/* An empty, "." or ".." part between slashes; an empty text is one empty part. */
static bool has_bad_part(kb_view text)
{
    size_t start = 0;
    for (size_t i = 0; i <= text.len; i++) {
        if (i < text.len && text.data[i] != '/')
            continue;
        const uint8_t *part = text.data + start;
        size_t len = i - start;
        if (len == 0 || (len == 1 && part[0] == '.') || (len == 2 && part[0] == '.' && part[1] == '.'))
            return true;
        start = i + 1;
    }
    return false;
}

/* ---- names ---- */

kb_code kb_layout_check_new_id(const char *id, size_t max_bytes, const char *what, kb_error *err)
{
    size_t len = strlen(id);
    if (len == 0 || len > max_bytes)
        return kb_fail(err, KB_CONFIG_INVALID, "%s has %zu bytes; hint: use 1 to %zu", what, len, max_bytes);
    if (strspn(id, NAME_CHARS) != len || strchr(ALNUM, id[0]) == NULL)
        return kb_fail(
            err, KB_CONFIG_INVALID,
            "%s '%s' has a character that is not allowed; hint: letters, digits, '.', '_' and '-', "
            "a letter or digit first",
            what, id);
    if (is_reserved(id) || has_suffix(id, ".json"))
        return kb_fail(err, KB_CONFIG_INVALID, "%s '%s' is a reserved name; hint: choose another", what, id);
    return KB_OK;
}

kb_code kb_layout_check_id(const char *id, kb_error *err)
{
    kb_view view = kb_view_of(id, strlen(id));
    if (view.len == 0 || view.len > KB_ID_READ_MAX)
        return kb_fail(err, KB_CONFIG_INVALID, "a backup id has 1 to %d bytes, not %zu", KB_ID_READ_MAX,
                       view.len);
    if (has_control(view) || has_bad_part(view))
        return kb_fail(err, KB_CONFIG_INVALID,
                       "the backup id has a control character, or an empty, '.' or '..' path part");
    return KB_OK;
}

char *kb_layout_id_of_folder(const char *folder)
{
    size_t len = strlen(folder);
    if (len < 2 || folder[len - 1] != '/')
        return NULL;
    KB_AUTOFREE char *id = kb_strndup(folder, len - 1);
    KB_AUTO_ERROR(ignored);
    if (is_reserved(id) || kb_layout_check_id(id, &ignored) != KB_OK)
        return NULL;
    return KB_TAKE(id);
}

bool kb_layout_is_topic_name(kb_view name)
{
    if (name.len == 0 || name.len > KB_TOPIC_NAME_MAX || has_bad_part(name))
        return false;
    for (size_t i = 0; i < name.len; i++) {
        /* strchr finds the NUL that ends its text, so a NUL needs its own look. */
        if (name.data[i] == '\0' || strchr(NAME_CHARS, name.data[i]) == NULL)
            return false;
    }
    return true;
}

/* ---- keys of a backup ---- */

char *kb_layout_backup_prefix(const char *backup_id)
{
    return kb_asprintf("%s/", backup_id);
}

char *kb_layout_manifest_key(const char *backup_id)
{
    return kb_asprintf("%s/manifest.json", backup_id);
}

char *kb_layout_backup_json_key(const char *backup_id)
{
    return kb_asprintf("%s/backup.json", backup_id);
}

char *kb_layout_groups_key(const char *backup_id)
{
    return kb_asprintf("%s/consumer-groups-snapshot.json", backup_id);
}

char *kb_layout_pruned_key(const char *backup_id)
{
    return kb_asprintf("%s/pruned.json", backup_id);
}

char *kb_layout_journal_prefix(const char *backup_id)
{
    return kb_asprintf("%s/journal/", backup_id);
}

char *kb_layout_journal_key(const char *backup_id, uint32_t seq)
{
    return kb_asprintf("%s/journal/%08" PRIu32 ".json", backup_id, seq);
}

/* The rest of a key behind "{id}{middle}", NULL when it begins otherwise. */
static const char *after_prefix(const char *key, const char *id, const char *middle)
{
    size_t id_len = strlen(id);
    size_t middle_len = strlen(middle);
    if (strncmp(key, id, id_len) != 0 || strncmp(key + id_len, middle, middle_len) != 0)
        return NULL;
    return key + id_len + middle_len;
}

/* A number as printf("%0{min_digits}") writes it, and how many characters that took; 0 when there is none. */
static size_t parse_padded(const char *text, size_t min_digits, int64_t max, int64_t *ret_value)
{
    size_t digits = strspn(text, "0123456789");
    int64_t value = 0;
    if (digits < min_digits || (digits > min_digits && text[0] == '0') ||
        !kb_parse_i64_len(text, digits, &value) || value > max)
        return 0;
    *ret_value = value;
    return digits;
}

static bool parse_json_number(const char *text, size_t min_digits, int64_t max, uint32_t *ret_value)
{
    int64_t value = 0;
    size_t digits = parse_padded(text, min_digits, max, &value);
    if (digits == 0 || strcmp(text + digits, ".json") != 0)
        return false;
    *ret_value = (uint32_t)value;
    return true;
}

bool kb_layout_parse_journal_key(const char *backup_id, const char *key, uint32_t *ret_seq)
{
    const char *rest = after_prefix(key, backup_id, "/journal/");
    return rest != NULL && parse_json_number(rest, 8, KB_JOURNAL_SEQ_MAX, ret_seq);
}

/* ---- segments ---- */

const char *kb_layout_extension(const char *codec)
{
    static const struct {
        const char *codec;
        const char *extension;
    } table[] = {{"none", ""}, {"zstd", ".zst"}, {"lz4", ".lz4"}};
    for (size_t i = 0; i < KB_ARRAY_LEN(table); i++) {
        if (strcmp(codec, table[i].codec) == 0)
            return table[i].extension;
    }
    return NULL;
}

char *kb_layout_segment_file(int64_t start_offset, const char *extension)
{
    return kb_asprintf("segment-%020" PRId64 ".bin%s", start_offset, extension);
}

char *kb_layout_segment_file_suffixed(int64_t start_offset, const char *attempt_id_hex, const char *extension)
{
    return kb_asprintf("segment-%020" PRId64 "-%.*s.bin%s", start_offset, KB_SUFFIX_DIGITS, attempt_id_hex,
                       extension);
}

char *kb_layout_topics_prefix(const char *backup_id)
{
    return kb_asprintf("%s/topics/", backup_id);
}

char *kb_layout_partition_prefix(const char *backup_id, const char *topic, int32_t partition)
{
    return kb_layout_segment_key(backup_id, topic, partition, "");
}

char *kb_layout_segment_key(const char *backup_id, const char *topic, int32_t partition, const char *file)
{
    return kb_asprintf("%s/topics/%s/partition=%" PRId32 "/%s", backup_id, topic, partition, file);
}

bool kb_layout_split_topic_key(const char *backup_id, const char *key, kb_layout_place *ret_place)
{
    const char *topic = after_prefix(key, backup_id, "/topics/");
    if (topic == NULL)
        return false;
    size_t topic_len = strcspn(topic, "/");
    const char *number = after_prefix(topic + topic_len, "", "/partition=");
    kb_view name = kb_view_of(topic, topic_len);
    if (number == NULL || !kb_layout_is_topic_name(name))
        return false;
    int64_t partition = 0;
    size_t digits = parse_padded(number, 1, INT32_MAX, &partition);
    if (digits == 0 || number[digits] != '/')
        return false;
    const char *file = number + digits + 1;
    if (file[0] == '\0' || strchr(file, '/') != NULL)
        return false;
    *ret_place = (kb_layout_place){name, (int32_t)partition, file};
    return true;
}

/* ---- keys in a manifest ---- */

static bool is_below(kb_view key, const char *id)
{
    size_t len = strlen(id);
    return key.len > len + 1 && memcmp(key.data, id, len) == 0 && key.data[len] == '/';
}

static const char *key_form_fault(kb_view key)
{
    if (key.len == 0)
        return "it is empty";
    if (key.data[0] == '/')
        return "it begins with '/'";
    if (has_control(key))
        return "it has a control character";
    if (has_byte(key, '\\'))
        return "it has a backslash";
    if (memmem(key.data, key.len, "://", 3) != NULL)
        return "it is a URL";
    if (has_bad_part(key))
        return "it has an empty, '.' or '..' path part";
    return NULL;
}

kb_code kb_layout_check_manifest_key(kb_view key, const char *backup_id, const char *const *uses,
                                     size_t uses_count, kb_error *err)
{
    if (key.len > KB_MANIFEST_KEY_MAX)
        return kb_fail(err, KB_ERR_FORMAT, "a key has %zu bytes, more than %d", key.len, KB_MANIFEST_KEY_MAX);
    /* A key with control characters never reaches a terminal or a log. */
    bool printable = !has_control(key);
    int shown = printable ? (int)key.len : 0;
    const char *fault = key_form_fault(key);
    if (fault != NULL)
        return kb_fail(err, KB_ERR_FORMAT, "key '%.*s' is refused: %s", shown, (const char *)key.data, fault);
    bool known = is_below(key, backup_id);
    for (size_t i = 0; !known && i < uses_count; i++)
        known = is_below(key, uses[i]);
    if (!known)
        return kb_fail(err, KB_ERR_FORMAT,
                       "key '%.*s' is refused: it lies neither in backup '%s' nor in one that it uses", shown,
                       (const char *)key.data, backup_id);
    return KB_OK;
}

/* ---- restores ---- */

static const char *restore_object_name(kb_restore_object object)
{
    static const char *const names[] = {
        [KB_RESTORE_START] = "start",
        [KB_RESTORE_ATTEMPT] = "attempt",
        [KB_RESTORE_DONE] = "done",
    };
    return names[object];
}

char *kb_layout_restore_prefix(const char *restore_id)
{
    return kb_asprintf("restores/%s/", restore_id);
}

char *kb_layout_restore_key(const char *restore_id, kb_restore_object object, uint32_t n)
{
    return kb_asprintf("restores/%s/%s-%04" PRIu32 ".json", restore_id, restore_object_name(object), n);
}

bool kb_layout_parse_restore_key(const char *restore_id, const char *key, kb_restore_object *ret_object,
                                 uint32_t *ret_n)
{
    const char *name = after_prefix(key, "restores/", restore_id);
    if (name == NULL || name[0] != '/')
        return false;
    for (int i = KB_RESTORE_START; i <= KB_RESTORE_DONE; i++) {
        kb_restore_object object = (kb_restore_object)i;
        const char *number = after_prefix(name + 1, restore_object_name(object), "-");
        if (number == NULL)
            continue;
        if (!parse_json_number(number, 4, KB_RESTORE_SEQ_MAX, ret_n))
            return false;
        *ret_object = object;
        return true;
    }
    return false;
}

char *kb_layout_snapshot_key(const char *snapshot_id, kb_snapshot_place place)
{
    switch (place) {
    case KB_SNAPSHOT_OF_RESTORE:
        return kb_asprintf("offset-snapshots/%s.json", snapshot_id);
    case KB_SNAPSHOT_FOREIGN:
        return kb_asprintf("offset-snapshots/%s/snapshot.json", snapshot_id);
    case KB_SNAPSHOT_PLAIN:
        break;
    }
    return kb_asprintf("%s.json", snapshot_id);
}

char *kb_layout_offset_mapping_key(const char *restore_id)
{
    return kb_asprintf("restores/%s/offset-mapping.json", restore_id);
}
