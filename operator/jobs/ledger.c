#include "operator/jobs/ledger.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/data/json_tree.h"
#include "operator/jobs/object_names.h"

#define KB_TEXT_MAX 128

static char *text_of(const json_t *ledger, const char *name)
{
    const char *text = kb_tree_text(ledger, name, NULL);
    return text != NULL && strlen(text) <= KB_TEXT_MAX ? kb_strdup(text) : NULL;
}

void kb_ledger_read(const json_t *object, kb_ledger *ret_ledger)
{
    *ret_ledger = (kb_ledger){0};
    const char *text = kb_tree_text(object, "metadata", "annotations", KB_NOTE_LEDGER, NULL);
    if (text == NULL || strlen(text) > 2 * KB_LEDGER_MAX_BYTES)
        return;
    KB_AUTO_TREE(ledger);
    ledger = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    const char *uid = kb_tree_text_or_empty(object, "metadata", "uid", NULL);
    if (strcmp(kb_tree_text_or_empty(ledger, "uid", NULL), uid) != 0 || *uid == '\0')
        return;
    ret_ledger->is_set = true;
    ret_ledger->generation = kb_tree_i64(0, ledger, "generation", NULL);
    ret_ledger->config = text_of(ledger, "config");
    ret_ledger->trigger = text_of(ledger, "trigger");
    ret_ledger->retention = text_of(ledger, "retention");
    ret_ledger->outcome = text_of(ledger, "outcome");
    ret_ledger->reason = text_of(ledger, "reason");
    ret_ledger->backup_id = text_of(ledger, "backupId");
}

void kb_ledger_done(kb_ledger *ledger)
{
    free(ledger->config);
    free(ledger->trigger);
    free(ledger->retention);
    free(ledger->outcome);
    free(ledger->reason);
    free(ledger->backup_id);
    *ledger = (kb_ledger){0};
}

void kb_ledger_set(char **text, const char *value)
{
    char *copy = kb_strdup_opt(value);
    free(*text);
    *text = copy;
}

char *kb_ledger_text(const kb_ledger *ledger, const json_t *object)
{
    KB_AUTO_TREE(value);
    value = kb_tree_object();
    kb_tree_set_text(value, "uid", kb_tree_text_or_empty(object, "metadata", "uid", NULL));
    if (ledger->generation > 0)
        kb_tree_set_i64(value, "generation", ledger->generation);
    kb_tree_set_text(value, "config", ledger->config);
    kb_tree_set_text(value, "trigger", ledger->trigger);
    kb_tree_set_text(value, "retention", ledger->retention);
    kb_tree_set_text(value, "outcome", ledger->outcome);
    kb_tree_set_text(value, "reason", ledger->reason);
    kb_tree_set_text(value, "backupId", ledger->backup_id);
    return kb_tree_canonical(value);
}

char *kb_ledger_trigger_hash(const char *value)
{
    return kb_tree_text_hash(value, KB_LEDGER_TRIGGER_DIGITS);
}
