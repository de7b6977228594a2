/*
 * text_backup - parts of a backup as lines for people, the same in every command. Without a line's end;
 * everything is escaped. Threads: pure.
 */
#ifndef KB_WORKER_CMD_TEXT_BACKUP_H
#define KB_WORKER_CMD_TEXT_BACKUP_H

#include "common/base/strbuf.h"
#include "worker/catalog/model.h"

/* "orders/0 offsets 5 to 9" */
void kb_text_gap(kb_strbuf *out, const kb_topic_entry *topic, const kb_partition_entry *partition,
                 const kb_gap *gap);
/* "orders: unauthorized" */
void kb_text_skipped(kb_strbuf *out, const kb_skipped_topic *skipped);
/* "RetentionGap orders/0: detail" */
void kb_text_finding(kb_strbuf *out, const kb_finding_entry *finding);

#endif
