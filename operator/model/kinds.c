#include "operator/model/kinds.h"

#include <string.h>

static const kb_kind_info infos[KB_KIND_COUNT] = {
    [KB_KIND_BACKUP] = {"KafkaBackup", "kafkabackups", "backup", false, 112},
    [KB_KIND_RESTORE] = {"KafkaRestore", "kafkarestores", "restore", true, 200},
    [KB_KIND_OFFSET_RESET] = {"KafkaOffsetReset", "kafkaoffsetresets", "offset-reset", true, 200},
    [KB_KIND_OFFSET_ROLLBACK] = {"KafkaOffsetRollback", "kafkaoffsetrollbacks", "offset-rollback", true, 200},
};

const kb_kind_info *kb_kind_info_of(kb_kind kind)
{
    return &infos[kind];
}

bool kb_kind_parse(const char *kind_or_plural, kb_kind *ret_kind)
{
    for (int i = 0; i < KB_KIND_COUNT; i++) {
        if (strcmp(kind_or_plural, infos[i].kind) != 0 && strcmp(kind_or_plural, infos[i].plural) != 0)
            continue;
        *ret_kind = (kb_kind)i;
        return true;
    }
    return false;
}
