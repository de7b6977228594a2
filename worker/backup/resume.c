#include "worker/backup/resume.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "worker/catalog/adoption.h"
#include "worker/catalog/layout.h"

/* Entries are written for so many adopted partitions at once: each is a request to the store. */
#define KB_ADOPT_BATCH 256
#define KB_METADATA_DEADLINE_MS 60000

typedef struct adopt_batch {
    kb_adopted adopted[KB_ADOPT_BATCH];
    kb_partition_progress progress[KB_ADOPT_BATCH];
    size_t count;
    size_t segments;
} adopt_batch;

static void batch_done(adopt_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++)
        kb_adopted_done(&batch->adopted[i]);
    batch->count = 0;
    batch->segments = 0;
}

static void batch_free_at(adopt_batch **at)
{
    if (*at != NULL)
        batch_done(*at);
    free(*at);
    *at = NULL;
}

static kb_code journal_batch(const kb_backup_settings *settings, kb_journal *journal, adopt_batch *batch,
                             kb_error *err)
{
    if (batch->count == 0)
        return KB_OK;
    kb_journal_news news = {.partitions = batch->progress, .partition_count = batch->count};
    if (kb_journal_progress(journal, &news, err) != KB_OK)
        return kb_wrap(err, "journaling adopted segments");
    if (settings->metrics != NULL)
        kb_metric_add(settings->metrics->segments_adopted, batch->segments);
    kb_log(KB_LOG_INFO, "adopted segments of an earlier attempt", KB_INT("segments", batch->segments),
           KB_INT("partitions", batch->count));
    batch_done(batch);
    return KB_OK;
}

static void add_to_batch(adopt_batch *batch, const kb_topic_entry *topic, const kb_partition_entry *partition,
                         const kb_adopted *owned_adopted)
{
    batch->adopted[batch->count] = *owned_adopted;
    batch->progress[batch->count] = (kb_partition_progress){
        .topic = topic->name,
        .partition = partition->partition,
        .position = owned_adopted->position,
        .cut = -1,
        .reuse_up_to = -1,
        .segments = owned_adopted->segments,
        .segment_count = owned_adopted->count,
        .probes = owned_adopted->probes,
        .probe_count = owned_adopted->probe_count,
        .max_record_bytes = owned_adopted->max_record_bytes,
    };
    batch->segments += owned_adopted->count;
    batch->count++;
}

/* Topic ids as the cluster has them now, asked for after the segments were listed. */
static kb_code read_metadata(const kb_backup_settings *settings, kb_kafka_admin *admin,
                             const kb_backup *backup, kb_kafka_metadata *ret_metadata, kb_error *err)
{
    KB_AUTOFREE const char **names = kb_calloc(backup->topic_count, sizeof *names);
    for (size_t t = 0; t < backup->topic_count; t++)
        names[t] = backup->topics[t].name;
    kb_kafka_call call = {.deadline_ms = kb_clock_boot_ms() + KB_METADATA_DEADLINE_MS,
                          .stop = settings->stop};
    if (kb_kafka_admin_metadata(admin, names, backup->topic_count, &call, ret_metadata, err) != KB_OK)
        return kb_wrap(err, "comparing topic ids before adopting segments");
    return KB_OK;
}

static bool is_same_topic(const kb_kafka_metadata *metadata, const kb_topic_entry *planned)
{
    const kb_kafka_topic *found = kb_kafka_metadata_find(metadata, planned->name);
    if (found == NULL || found->error_number != 0)
        return false;
    return !planned->has_topic_id || !found->has_id ||
           memcmp(planned->topic_id, found->id, KB_TOPIC_ID_SIZE) == 0;
}

static kb_code adopt_partitions(const kb_backup_settings *settings, kb_journal *journal,
                                kb_adoption *adoption, const kb_kafka_metadata *metadata, kb_error *err)
{
    KB_CLEANUP(batch_free_at) adopt_batch *batch = kb_calloc(1, sizeof *batch);
    const kb_backup *backup = kb_journal_backup(journal);
    for (size_t t = 0; t < backup->topic_count; t++) {
        if (!is_same_topic(metadata, &backup->topics[t]))
            continue;
        for (size_t p = 0; p < backup->topics[t].listed_count; p++) {
            const kb_partition_entry *partition = &backup->topics[t].partitions[p];
            kb_adopted adopted = {0};
            if (partition->done)
                continue;
            if (kb_adoption_partition(adoption, &backup->topics[t], partition, &adopted, err) != KB_OK)
                return err->code;
            if (adopted.count == 0) {
                kb_adopted_done(&adopted);
                continue;
            }
            add_to_batch(batch, &backup->topics[t], partition, &adopted);
            /* Reading large segments takes time: an entry in time keeps the backup ours. */
            bool full = batch->count == KB_ADOPT_BATCH || kb_journal_due_in_ms(journal, 5000, true) <= 0;
            if (full && journal_batch(settings, journal, batch, err) != KB_OK)
                return err->code;
            backup = kb_journal_backup(journal);
        }
    }
    return journal_batch(settings, journal, batch, err);
}

kb_code kb_resume_adopt(const kb_backup_settings *settings, kb_journal *journal, kb_kafka_admin *admin,
                        kb_error *err)
{
    KB_AUTOFREE char *prefix = kb_layout_backup_prefix(settings->backup_id);
    size_t aborted = 0;
    if (kb_storage_abort_leftovers(settings->storage, prefix, &aborted, err) != KB_OK)
        return kb_wrap(err, "aborting unfinished uploads of an earlier attempt");
    if (aborted > 0)
        kb_log(KB_LOG_INFO, "aborted unfinished uploads of an earlier attempt", KB_INT("uploads", aborted));
    KB_CLEANUP(kb_adoption_free_at) kb_adoption *adoption = NULL;
    if (kb_adoption_new(settings->storage, kb_journal_backup(journal), &adoption, err) != KB_OK)
        return kb_wrap(err, "listing the segments of an earlier attempt");
    if (kb_adoption_listed(adoption) == 0)
        return KB_OK;
    KB_CLEANUP(kb_kafka_metadata_done) kb_kafka_metadata metadata = {0};
    if (read_metadata(settings, admin, kb_journal_backup(journal), &metadata, err) != KB_OK)
        return err->code;
    return adopt_partitions(settings, journal, adoption, &metadata, err);
}
