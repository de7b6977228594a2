#include "worker/cmd/text_backup.h"

#include <inttypes.h>

#include "worker/cmd/text_table.h"

void kb_text_gap(kb_strbuf *out, const kb_topic_entry *topic, const kb_partition_entry *partition,
                 const kb_gap *gap)
{
    kb_text_escape(out, topic->name);
    kb_strbuf_appendf(out, "/%" PRId32 " offsets %" PRId64 " to %" PRId64, partition->partition, gap->start,
                      gap->end - 1);
}

void kb_text_skipped(kb_strbuf *out, const kb_skipped_topic *skipped)
{
    kb_text_escape(out, skipped->name);
    kb_strbuf_appends(out, ": ");
    kb_text_escape(out, skipped->reason);
}

void kb_text_finding(kb_strbuf *out, const kb_finding_entry *finding)
{
    kb_text_escape(out, finding->reason);
    if (finding->topic != NULL) {
        kb_strbuf_appendc(out, ' ');
        kb_text_escape(out, finding->topic);
    }
    if (finding->partition >= 0)
        kb_strbuf_appendf(out, "/%" PRId32, finding->partition);
    if (finding->detail != NULL) {
        kb_strbuf_appends(out, ": ");
        kb_text_escape(out, finding->detail);
    }
}
