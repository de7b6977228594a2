/*
 * catalog_json - the JSON that backup.json and the journal have in common.
 *
 * Writers put one value; readers take one value with the checks that need nothing but itself. Threads: pure
 * functions on a writer or reader.
 */
#ifndef KB_WORKER_CATALOG_CATALOG_JSON_H
#define KB_WORKER_CATALOG_CATALOG_JSON_H

#include "common/data/json_read.h"
#include "common/data/json_write.h"
#include "worker/catalog/model.h"

/* Name and 64 hex digits. */
void kb_put_hash(kb_json_writer *w, const char *name, const uint8_t hash[KB_SHA256_SIZE]);
void kb_put_digest(kb_json_writer *w, const char *name, const kb_digest *digest);

void kb_put_segment(kb_json_writer *w, const kb_backup *backup, const kb_segment_entry *segment);
/* Lists, without their names. */
void kb_put_gaps(kb_json_writer *w, const kb_gap *gaps, size_t count);
void kb_put_probes(kb_json_writer *w, const kb_probe *probes, size_t count);
void kb_put_findings(kb_json_writer *w, const kb_finding_entry *findings, size_t count);
void kb_put_skipped(kb_json_writer *w, const kb_skipped_topic *skipped, size_t count);
void kb_put_groups(kb_json_writer *w, const kb_groups_ref *groups); /* NULL writes null */
void kb_put_content(kb_json_writer *w, const kb_backup_content *content);
void kb_put_totals(kb_json_writer *w, const kb_backup_totals *totals);
/* The fields name, topicId, partitionCount, replicationFactor, configs of a topic object that is open. */
void kb_put_topic_head(kb_json_writer *w, const kb_topic_entry *topic);

/*
 * Readers, all of the form kb_field_read. `target` is the object that the value belongs to; ctx is the
 * kb_backup (for the ids of `in` and of uses).
 */
kb_code kb_read_partition_segments(kb_json_reader *reader, void *partition, void *backup, kb_error *err);
kb_code kb_read_partition_gaps(kb_json_reader *reader, void *partition, void *backup, kb_error *err);
kb_code kb_read_partition_probes(kb_json_reader *reader, void *partition, void *backup, kb_error *err);
kb_code kb_read_backup_findings(kb_json_reader *reader, void *backup, void *ctx, kb_error *err);
kb_code kb_read_backup_skipped(kb_json_reader *reader, void *backup, void *ctx, kb_error *err);
kb_code kb_read_backup_groups(kb_json_reader *reader, void *backup, void *ctx, kb_error *err);
kb_code kb_read_backup_content(kb_json_reader *reader, void *backup, void *ctx, kb_error *err);
kb_code kb_read_topic_id(kb_json_reader *reader, void *topic, void *ctx, kb_error *err);
kb_code kb_read_topic_configs(kb_json_reader *reader, void *topic, void *ctx, kb_error *err);
kb_code kb_read_totals(kb_json_reader *reader, kb_backup_totals *totals, kb_error *err);
/* Moves a topic that was read into a struct of its own to the end of backup's; refuses names that do not
 * ascend. *topic is empty afterwards. */
kb_code kb_settle_topic(kb_json_reader *reader, kb_backup *backup, kb_topic_entry *topic,
                        kb_error *err) KB_CHECK;
/* The same for a partition. */
kb_code kb_settle_partition(kb_json_reader *reader, kb_topic_entry *topic, kb_partition_entry *partition,
                            kb_error *err) KB_CHECK;
/* Whether two totals are equal. */
bool kb_totals_equal(const kb_backup_totals *a, const kb_backup_totals *b);

#endif
