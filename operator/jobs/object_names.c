#include "operator/jobs/object_names.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/mem.h"
#include "common/contract/names.h"
#include "common/data/json_tree.h"

#define KB_HASH_DIGITS 8
#define KB_STAMP_CHARS (KB_STAMP_SIZE - 1)
#define KB_MINUTE_DIGITS 8
#define KB_SECOND_DIGITS 10

char *kb_name_cron_job(const char *cr)
{
    return kb_name_child(cr, "", KB_LIMIT_CRON_JOB);
}

char *kb_name_one_shot_job(const char *cr, int64_t generation)
{
    KB_AUTOFREE char *suffix = kb_asprintf("-g%lld", (long long)generation);
    return kb_name_child(cr, suffix, KB_LIMIT_JOB);
}

char *kb_name_trigger_job(const char *cr, const char *value)
{
    KB_AUTOFREE char *hash = kb_tree_text_hash(value, KB_HASH_DIGITS);
    KB_AUTOFREE char *suffix = kb_asprintf("-t%s", hash);
    return kb_name_child(cr, suffix, KB_LIMIT_JOB);
}

char *kb_name_prune_job(const char *cr, const char *retention_hash)
{
    KB_AUTOFREE char *suffix = kb_asprintf("-prune-%.8s", retention_hash);
    return kb_name_child(cr, suffix, KB_LIMIT_JOB);
}

char *kb_name_bounded_job(kb_kind kind, const char *cr, const char *operation)
{
    KB_AUTOFREE char *suffix = operation != NULL ? kb_asprintf("-offset-%s", operation)
                                                 : kb_asprintf("-%s", kb_kind_info_of(kind)->component);
    return kb_name_child(cr, suffix, KB_LIMIT_JOB);
}

char *kb_name_config_map(kb_kind kind, const char *cr, const char *sha256)
{
    KB_AUTOFREE char *suffix = kb_asprintf("-%s-%.8s", kb_kind_info_of(kind)->component, sha256);
    return kb_name_child(cr, suffix, KB_LIMIT_OBJECT);
}

char *kb_name_binding(const char *account)
{
    if (strcmp(account, KB_WORKER_NAME) == 0)
        return kb_strdup(KB_WORKER_NAME);
    KB_AUTOFREE char *base = kb_asprintf("%s-%s", KB_WORKER_NAME, account);
    return kb_name_child(base, "", KB_LIMIT_OBJECT);
}

bool kb_name_slot(const char *job, const char *cron_job, int64_t *ret_unix_secs)
{
    size_t len = strlen(cron_job);
    if (strncmp(job, cron_job, len) != 0 || job[len] != '-')
        return false;
    const char *digits = job + len + 1;
    size_t count = strspn(digits, "0123456789");
    int64_t number = 0;
    if (digits[count] != '\0' || !kb_parse_i64(digits, &number))
        return false;
    if (count == KB_MINUTE_DIGITS)
        *ret_unix_secs = number * 60;
    else if (count == KB_SECOND_DIGITS)
        *ret_unix_secs = number;
    return count == KB_MINUTE_DIGITS || count == KB_SECOND_DIGITS;
}

char *kb_name_backup_id(const char *cr, int64_t unix_secs)
{
    char stamp[KB_STAMP_SIZE];
    kb_stamp_format(unix_secs * 1000, stamp);
    return kb_asprintf("%s-%s", cr, stamp);
}

char *kb_name_backup_of_id(const char *backup_id)
{
    size_t len = strlen(backup_id);
    KB_AUTO_ERROR(err);
    int64_t ms = 0;
    if (len <= KB_STAMP_CHARS + 1 || backup_id[len - KB_STAMP_CHARS - 1] != '-' ||
        kb_stamp_parse(backup_id + len - KB_STAMP_CHARS, KB_STAMP_CHARS, &ms, &err) != KB_OK)
        return NULL;
    return kb_strndup(backup_id, len - KB_STAMP_CHARS - 1);
}

void kb_name_stamp(int64_t unix_secs, char to[16])
{
    kb_stamp_format((unix_secs % 60 == 0 ? unix_secs + 1 : unix_secs) * 1000, to);
}

json_t *kb_labels_of(kb_kind kind, const json_t *object)
{
    const kb_kind_info *info = kb_kind_info_of(kind);
    KB_AUTOFREE char *name = kb_name_child(kb_tree_text_or_empty(object, "metadata", "name", NULL), "", 63);
    json_t *labels = kb_tree_object();
    kb_tree_set_text(labels, KB_LABEL_NAME, KB_WORKER_NAME);
    kb_tree_set_text(labels, KB_LABEL_COMPONENT, info->component);
    kb_tree_set_text(labels, KB_LABEL_MANAGED_BY, KB_MANAGED_BY);
    kb_tree_set_text(labels, KB_LABEL_KIND, info->kind);
    kb_tree_set_text(labels, KB_LABEL_CR, name);
    kb_tree_set_text(labels, KB_LABEL_UID, kb_tree_text(object, "metadata", "uid", NULL));
    return labels;
}

json_t *kb_owner_reference(kb_kind kind, const json_t *object)
{
    json_t *owner = kb_tree_object();
    kb_tree_set_text(owner, "apiVersion", KB_API_VERSION);
    kb_tree_set_text(owner, "kind", kb_kind_info_of(kind)->kind);
    kb_tree_set_text(owner, "name", kb_tree_text(object, "metadata", "name", NULL));
    kb_tree_set_text(owner, "uid", kb_tree_text(object, "metadata", "uid", NULL));
    kb_tree_set_bool(owner, "controller", true);
    kb_tree_set_bool(owner, "blockOwnerDeletion", true);
    return owner;
}

bool kb_is_controlled_by(const json_t *child, const json_t *object)
{
    const json_t *owners = kb_tree_at(child, "metadata", "ownerReferences", NULL);
    const char *uid = kb_tree_text_or_empty(object, "metadata", "uid", NULL);
    for (size_t i = 0; i < json_array_size(owners); i++) {
        const json_t *owner = json_array_get(owners, i);
        if (kb_tree_bool(false, owner, "controller", NULL))
            return *uid != '\0' && strcmp(kb_tree_text_or_empty(owner, "uid", NULL), uid) == 0;
    }
    return false;
}
