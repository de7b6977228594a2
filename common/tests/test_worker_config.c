#include "common/contract/worker_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/base/encode.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/contract/config_support.h"
#include "common/testing/temp_dir.h"

#define DATA "common/tests/data/"

static const char *fake_env(void *ctx, const char *name)
{
    (void)ctx;
    static const struct {
        const char *name, *value;
    } variables[] = {{"BROKERS", "a:9092, b:9092,"},
                     {"KAFKA_PASSWORD", "pw-canary"},
                     {"X", "1"},
                     {"KB_MEMORY_LIMIT", "300Mi"},
                     {"NUMBER", "7"},
                     {"EMPTY", ""},
                     {"WORD", "yes: [no"}};
    for (size_t i = 0; i < KB_ARRAY_LEN(variables); i++) {
        if (strcmp(variables[i].name, name) == 0)
            return variables[i].value;
    }
    return NULL;
}

static kb_config_options options_for(kb_command command)
{
    return (kb_config_options){.command = command, .get_env = fake_env};
}

static kb_worker_config *load_file(const char *path, kb_command command, kb_problems *notes)
{
    KB_AUTO_ERROR(err);
    kb_config_options options = options_for(command);
    options.path = path;
    kb_worker_config *config = NULL;
    if (kb_worker_config_load(&options, notes, &config, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
    return config;
}

static kb_code parse(const char *text, const kb_config_options *options, kb_problems *notes,
                     kb_worker_config **ret_config, kb_error *err)
{
    return kb_worker_config_parse(kb_view_of(text, strlen(text)), "f", options, notes, ret_config, err);
}

static kb_worker_config *parse_well(const char *text, kb_command command)
{
    KB_AUTO_ERROR(err);
    kb_config_options options = options_for(command);
    kb_worker_config *config = NULL;
    if (parse(text, &options, NULL, &config, &err) != KB_OK)
        fail_msg("%s", kb_error_text(&err));
    return config;
}

/* ---- examples ---- */

static void kb_worker_config_load_minimal_backup_has_the_defaults(void **state)
{
    (void)state;
    KB_CLEANUP(kb_worker_config_free_at)
    kb_worker_config *config = load_file(DATA "config-minimal-backup.yaml", KB_COMMAND_BACKUP, NULL);
    KB_AUTOFREE char *servers = kb_config_kafka_servers(&config->source);
    assert_string_equal(servers, "a:9092,b:9092");
    assert_string_equal(config->backup_id, "daily-{stamp}");
    assert_null(kb_worker_config_lineage(config));
    assert_int_equal(config->storage.backend, KB_CONFIG_FILESYSTEM);
    assert_string_equal(config->storage.filesystem_path, "/data/backups");
    assert_int_equal(config->findings_exit_code, 3);
    assert_int_equal(config->source.security.security_protocol, KB_CONFIG_PLAINTEXT);
    assert_string_equal(config->source.client_id, "kafka-backup");
    assert_int_equal(config->source.connection.connections_per_broker, 4);
    assert_int_equal(config->backup.segment_max_bytes, 134217728);
    assert_false(config->backup.segment_max_records.is_set);
    assert_int_equal(config->backup.segment_max_interval_ms, 60000);
    assert_int_equal(config->backup.compression, KB_CONFIG_COMPRESSION_ZSTD);
    assert_int_equal(config->backup.compression_level, 3);
    assert_int_equal(config->backup.start_offset.kind, KB_CONFIG_EARLIEST);
    assert_int_equal(config->backup.fetch_max_bytes, 16777216);
    assert_int_equal(config->backup.max_concurrent_partitions, 8);
    assert_int_equal(config->backup.checkpoint_interval_secs, 5);
    assert_true(config->backup.include_offset_headers);
    assert_true(config->backup.verify_before_upload);
    assert_false(config->backup.incremental);
    assert_int_equal(config->backup.compacted_end, KB_CONFIG_CAUGHT_UP);
    assert_true(config->limits.memory_bytes == 300LL * 1024 * 1024);
    assert_true(config->limits.threads >= 1);
    assert_int_equal(config->limits.no_progress_secs, 600);
    assert_int_equal(config->metrics.port, 8080);
    assert_string_equal(config->metrics.path, "/metrics");
    assert_false(config->logging.level_is_given);
}

static void kb_worker_config_load_minimal_restore_has_the_defaults(void **state)
{
    (void)state;
    KB_CLEANUP(kb_worker_config_free_at)
    kb_worker_config *config = load_file(DATA "config-minimal-restore.yaml", KB_COMMAND_RESTORE, NULL);
    const kb_config_restore *restore = &config->restore;
    assert_int_equal(restore->produce_acks, -1);
    assert_int_equal(restore->produce_batch_size, 1000);
    assert_int_equal(restore->produce_timeout_ms, 30000);
    assert_int_equal(restore->max_concurrent_partitions, 4);
    assert_int_equal(restore->delivery, KB_CONFIG_IDEMPOTENT);
    assert_int_equal(restore->target_policy, KB_CONFIG_TARGET_EMPTY);
    assert_int_equal(restore->timestamp_zero, KB_CONFIG_ZERO_REFUSE);
    assert_int_equal(restore->stability_window_secs, 45);
    assert_true(restore->strip_offset_headers);
    assert_true(restore->restore_configs);
    assert_true(restore->retention_hold);
    assert_false(restore->create_topics);
    assert_false(restore->time_window_start.is_set);
    assert_false(restore->offset_reset.block.is_given);
}

static size_t count_notes(const kb_problems *notes, kb_severity severity)
{
    size_t count = 0;
    for (size_t i = 0; i < notes->count; i++)
        count += notes->items[i].severity == severity;
    return count;
}

static void kb_worker_config_load_files_of_the_existing_tool_run_unchanged(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_problems notes;
    kb_problems_init(&notes, NULL);
    KB_CLEANUP(kb_worker_config_free_at)
    kb_worker_config *backup = load_file(DATA "config-existing-tool-backup.yaml", KB_COMMAND_BACKUP, &notes);
    assert_int_equal(count_notes(&notes, KB_SEVERITY_NOTE), 4);
    assert_int_equal(backup->source.security.sasl_mechanism, KB_CONFIG_SCRAM_SHA_256);
    assert_string_equal(kb_secret_view(backup->source.security.sasl_username.value), "backup");
    assert_string_equal(kb_secret_view(backup->source.security.sasl_password.value), "pw-canary");
    assert_int_equal(backup->source.connection.connections_per_broker, 4);
    assert_int_equal(backup->backup.start_offset.count, 2);
    assert_string_equal(backup->backup.start_offset.entries[1].topic, "orders-eu");
    assert_int_equal(backup->backup.start_offset.entries[1].partition, 1);
    assert_int_equal(backup->backup.start_offset.entries[1].offset, 250);
    assert_int_equal(kb_worker_config_check_supported(backup, KB_COMMAND_BACKUP, true, &err), KB_OK);
    kb_problems_done(&notes);

    KB_CLEANUP(kb_worker_config_free_at)
    kb_worker_config *restore =
        load_file(DATA "config-existing-tool-restore.yaml", KB_COMMAND_RESTORE, &notes);
    assert_int_equal(count_notes(&notes, KB_SEVERITY_NOTE), 4);
    assert_int_equal(count_notes(&notes, KB_SEVERITY_WARNING), 2);
    assert_int_equal(restore->restore.time_window_start.value, 1735689600000);
    assert_string_equal(kb_string_map_get(&restore->restore.topic_mapping, "orders-eu"),
                        "orders-eu-restored");
    assert_int_equal(kb_worker_config_check_supported(restore, KB_COMMAND_RESTORE, true, &err), KB_OK);
    kb_problems_done(&notes);
}

/* ---- every key ---- */

static void kb_worker_config_print_full_file_reads_back_alike_without_secrets(void **state)
{
    (void)state;
    KB_CLEANUP(kb_worker_config_free_at)
    kb_worker_config *config = load_file(DATA "config-full.yaml", KB_COMMAND_BACKUP, NULL);
    KB_AUTO_STRBUF(first, 1 << 20);
    KB_AUTO_STRBUF(second, 1 << 20);
    kb_worker_config_print(config, &first);
    assert_null(strstr(kb_strbuf_view(&first), "canary"));
    assert_non_null(strstr(kb_strbuf_view(&first), "sasl_password: \"***\"\n"));
    KB_CLEANUP(kb_worker_config_free_at)
    kb_worker_config *again = parse_well(kb_strbuf_view(&first), KB_COMMAND_BACKUP);
    kb_worker_config_print(again, &second);
    assert_string_equal(kb_strbuf_view(&first), kb_strbuf_view(&second));
}

static void kb_worker_config_load_full_file_fills_every_block(void **state)
{
    (void)state;
    KB_CLEANUP(kb_worker_config_free_at)
    kb_worker_config *c = load_file(DATA "config-full.yaml", KB_COMMAND_BACKUP, NULL);
    assert_string_equal(kb_worker_config_lineage(c), "line");
    assert_string_equal(c->resource.cron_job, "cr-cron");
    assert_int_equal(c->resource.generation.value, 7);
    assert_int_equal(c->source.bootstrap_servers.count, 3);
    assert_string_equal(c->source.bootstrap_servers.items[1], "[::1]:2");
    assert_string_equal(c->source.topics.include.items[1], "123");
    assert_string_equal(c->source.topics.include.items[2], "true");
    assert_string_equal(c->source.client_id, "on");
    assert_int_equal(c->source.connection.keepalive_interval_secs, 21);
    assert_string_equal(kb_secret_view(c->storage.s3.secret_key.value), "secret-canary");
    assert_false(c->storage.s3.path_style);
    assert_int_equal(c->storage.s3.signature_version, KB_CONFIG_SIGNATURE_V2);
    assert_int_equal(c->storage.request_timeout_secs, 3);
    assert_int_equal(c->backup.start_offset.kind, KB_CONFIG_SPECIFIC);
    assert_true(c->backup.start_offset.entries[1].offset == INT64_MAX);
    assert_int_equal(c->backup.fetch_max_bytes, INT32_MAX);
    assert_int_equal(c->backup.rate_limit_records_per_sec.value, 13);
    assert_int_equal(c->backup.compacted_end, KB_CONFIG_CUT);
    assert_int_equal(c->restore.time_window_start.value, -5);
    assert_int_equal(c->restore.time_window_end.value, 16);
    assert_int_equal(c->restore.source_partitions.items[1], INT32_MAX);
    assert_int_equal(c->restore.partition_mapping.values[1], 3);
    assert_string_equal(c->restore.repartitioning.items[0].target_topic, "1");
    assert_int_equal(c->restore.repartitioning.items[0].strategy, KB_CONFIG_AUTOMATIC);
    assert_int_equal(c->restore.repartitioning.items[1].target_partitions, 7);
    assert_string_equal(kb_string_map_get(&c->restore.config_overrides, "retention.ms"), "1000");
    assert_int_equal(c->restore.offset_reset.timestamp_ms.value, 1738324800500);
    assert_int_equal(c->restore.target_policy, KB_CONFIG_TARGET_ABSENT);
    assert_int_equal(c->offsets.timestamp_ms.value, 1738324800000);
    assert_int_equal(c->offsets.strategy, KB_CONFIG_OFFSET_FROM_MAPPING);
    assert_int_equal(c->offsets.store.backend, KB_CONFIG_CONFIGMAP);
    assert_string_equal(c->offsets.store.configmap_namespace, "ns2");
    assert_int_equal(c->retention.max_age_days.value, 4);
    assert_int_equal(c->limits.memory_bytes, 134217728);
    assert_int_equal(c->circuit_breaker.success_threshold, 2);
    assert_int_equal(c->metrics.max_partition_labels, 0);
    assert_int_equal(c->logging.level, KB_LOG_TRACE);
    assert_true(c->logging.level_is_given);
    assert_int_equal(c->logging.format, KB_LOG_JSON);
    assert_true(c->offset_storage.is_given);
}

/* ---- values ---- */

#define SOURCE "source: {bootstrap_servers: ['a:1']}\n"
#define TARGET "target: {bootstrap_servers: ['a:1']}\n"
#define STORE "storage: {backend: filesystem, path: /d}\n"
#define BACKUP SOURCE STORE "backup_id: b\n"
#define RESTORE TARGET STORE "backup_id: b\n"

static void kb_worker_config_parse_integers_come_in_four_bases(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t value;
    } cases[] = {{"0", 0},
                 {"7", 7},
                 {"-7", -7},
                 {"+7", 7},
                 {"0x1F", 31},
                 {"0o17", 15},
                 {"0b101", 5},
                 {"-0x10", -16},
                 {"${NUMBER}", 7},
                 {"1${NUMBER}", 17},
                 {"9223372036854775807", INT64_MAX},
                 {"-9223372036854775808", INT64_MIN}};
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_AUTOFREE char *text = kb_asprintf(RESTORE "restore: {time_window_start: %s}\n", cases[i].text);
        if (strchr(cases[i].text, '$') != NULL) {
            free(text);
            text = kb_asprintf(RESTORE "restore:\n  time_window_start: %s\n", cases[i].text);
        }
        KB_CLEANUP(kb_worker_config_free_at) kb_worker_config *config = parse_well(text, KB_COMMAND_RESTORE);
        assert_true(config->restore.time_window_start.is_set);
        assert_true(config->restore.time_window_start.value == cases[i].value);
    }
}

static void kb_worker_config_parse_null_and_empty_are_not_given(void **state)
{
    (void)state;
    KB_CLEANUP(kb_worker_config_free_at)
    kb_worker_config *config = parse_well(
        BACKUP
        "lineage:\nmode: ~\nresource: null\nbackup:\n  segment_max_bytes:\n  internal_topics: ~\n"
        "  rate_limit_bytes_per_sec: ${EMPTY}\n  start_offset:\n  source_cluster_id: ''\nmetrics:\ntarget:\n",
        KB_COMMAND_BACKUP);
    assert_int_equal(config->backup.segment_max_bytes, 134217728);
    assert_false(config->backup.rate_limit_bytes_per_sec.is_set);
    assert_null(config->backup.source_cluster_id);
    assert_null(config->lineage);
    assert_false(config->resource.block.is_given);
    assert_false(config->target.block.is_given);
    assert_false(kb_worker_config_is_given(config, "backup.segment_max_bytes"));
    assert_true(kb_worker_config_is_given(config, "backup"));
}

static void kb_worker_config_parse_variables_cannot_change_the_document(void **state)
{
    (void)state;
    KB_CLEANUP(kb_worker_config_free_at)
    kb_worker_config *config = parse_well(
        BACKUP "backup:\n  source_cluster_id: ${WORD}\n  internal_topics: ['$${WORD}']\n", KB_COMMAND_BACKUP);
    assert_string_equal(config->backup.source_cluster_id, "yes: [no");
    assert_string_equal(config->backup.internal_topics.items[0], "${WORD}");
}

static void kb_worker_config_parse_fetch_follows_small_segments(void **state)
{
    (void)state;
    KB_CLEANUP(kb_worker_config_free_at)
    kb_worker_config *config = parse_well(BACKUP "backup: {segment_max_bytes: 1000}\n", KB_COMMAND_BACKUP);
    assert_int_equal(config->backup.fetch_max_bytes, 1000);
}

static void kb_worker_config_lineage_presence_of_offset_storage_makes_one(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *lineage;
        bool incremental;
    } cases[] = {
        {BACKUP, NULL, false},
        {BACKUP "offset_storage: {backend: sqlite}\n", "b", true},
        {BACKUP "backup: {continuous: true, incremental: false}\n", "b", false},
        {SOURCE STORE "lineage: l\n", "l", true},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        KB_CLEANUP(kb_worker_config_free_at)
        kb_worker_config *config = parse_well(cases[i].text, KB_COMMAND_BACKUP);
        const char *lineage = kb_worker_config_lineage(config);
        assert_string_equal(lineage != NULL ? lineage : "", cases[i].lineage != NULL ? cases[i].lineage : "");
        assert_int_equal(config->backup.incremental, cases[i].incremental);
    }
}

/* ---- errors ---- */

#define B KB_COMMAND_BACKUP
#define R KB_COMMAND_RESTORE
#define V KB_COMMAND_VALIDATE
static const struct {
    kb_command command;
    const char *text;
    const char *why; /* how the error begins */
} bad_cases[] = {
    /* form */
    {B, BACKUP "nonsense: 1\n", "f:4:1: nonsense: unknown key; hint: --allow-unknown"},
    {B, BACKUP "backup:\n  compresion: zstd\n",
     "f:5:3: backup.compresion: unknown key; hint: did you mean 'compression'?"},
    {B, BACKUP "storage: {}\n", "f:4:1: storage: duplicate key, first given in line 2"},
    {B, BACKUP "logging: {levle: info}\n", "f:4:11: logging.levle: unknown key; hint: did you mean 'level'?"},
    {B, SOURCE "backup_id: b\nstorage: {backend: filesystem, path: /d, bucket: x}\n",
     "f:3:42: storage.bucket: unknown key"},
    {B, BACKUP "encryption: {key: x}\n",
     "f:4:13: encryption: is not supported: there is no encryption by the client"},
    {B, BACKUP "backup: {encryption: aes}\n", "f:4:22: backup.encryption: is not supported"},
    {B, BACKUP "backup: 1\n", "f:4:9: backup: expected a map, got '1'"},
    {B, BACKUP "backup: [1]\n", "f:4:9: backup: expected a map, got a list"},
    /* types */
    {B, BACKUP "backup: {continuous: no}\n", "f:4:22: backup.continuous: expected true or false, got 'no'"},
    {B, BACKUP "backup: {continuous: 'true'}\n",
     "f:4:22: backup.continuous: expected true or false, got the text 'true'; hint: remove the quotes"},
    {B, BACKUP "backup: {continuous: 1}\n", "f:4:22: backup.continuous: expected true or false, got '1'"},
    {B, BACKUP "backup: {segment_max_bytes: abc}\n",
     "f:4:29: backup.segment_max_bytes: expected an integer, got 'abc'"},
    {B, BACKUP "backup: {segment_max_bytes: 1.5}\n", "f:4:29: backup.segment_max_bytes: expected an integer"},
    {B, BACKUP "backup: {segment_max_bytes: 010}\n", "f:4:29: backup.segment_max_bytes: expected an integer"},
    {B, BACKUP "backup: {segment_max_bytes: 1_000}\n",
     "f:4:29: backup.segment_max_bytes: expected an integer"},
    {B, BACKUP "backup: {segment_max_bytes: 0x}\n", "f:4:29: backup.segment_max_bytes: expected an integer"},
    {B, BACKUP "backup: {segment_max_bytes: 9223372036854775808}\n",
     "f:4:29: backup.segment_max_bytes: expected an integer"},
    {B, BACKUP "backup: {segment_max_bytes: '5'}\n",
     "f:4:29: backup.segment_max_bytes: expected an integer, got the text '5'; hint: remove the quotes"},
    {B, BACKUP "backup: {segment_max_bytes: [5]}\n",
     "f:4:29: backup.segment_max_bytes: expected an integer, got a list"},
    {B, BACKUP "backup: {internal_topics: x}\n",
     "f:4:27: backup.internal_topics: expected a list, got 'x'; hint: put it in [ ]"},
    {B, BACKUP "backup: {internal_topics: [x, {}]}\n",
     "f:4:31: backup.internal_topics[1]: expected a text, got a map"},
    {B, BACKUP "backup: {internal_topics: [~]}\n",
     "f:4:28: backup.internal_topics[0]: expected a text, got nothing"},
    {B, BACKUP "backup: {compression: ZSTD}\n",
     "f:4:23: backup.compression: expected one of zstd, lz4, none, got 'ZSTD'"},
    {B, BACKUP "backup: {compression: gzip}\n", "f:4:23: backup.compression: expected one of zstd"},
    {B, BACKUP "backup: {start_offset: middle}\n",
     "f:4:24: backup.start_offset: expected earliest, latest or a map"},
    {B, BACKUP "backup: {start_offset: {t: 5}}\n",
     "f:4:28: backup.start_offset.t: expected a map of partition to offset"},
    {B, BACKUP "backup: {start_offset: {t: {x: 5}}}\n",
     "f:4:29: backup.start_offset.t.x: expected an integer"},
    {B, BACKUP "backup: {start_offset: {t: {0: -5}}}\n",
     "f:4:32: backup.start_offset.t.0: expected an integer of at least 0"},
    {B, SOURCE STORE "backup_id: [a]\n", "f:3:12: backup_id: expected a text, got a list"},
    {R, RESTORE "restore: {topic_mapping: [a]}\n",
     "f:4:26: restore.topic_mapping: expected a map, got a list"},
    {R, RESTORE "restore: {source_partitions: [0, -1]}\n",
     "f:4:34: restore.source_partitions[1]: expected an integer from 0 to 2147483647, got -1"},
    {R, RESTORE "restore: {partition_mapping: {a: 1}}\n",
     "f:4:31: restore.partition_mapping.a: expected an integer"},
    {R, RESTORE "restore: {repartitioning: {t: {strategy: murmur2}}}\n",
     "f:4:31: restore.repartitioning.t: target_partitions is required"},
    {R, RESTORE "restore: {repartitioning: {t: {strategy: x, target_partitions: 0}}}\n",
     "f:4:42: restore.repartitioning.t.strategy: expected one of murmur2, automatic, got 'x'\n"
     "f:4:64: restore.repartitioning.t.target_partitions: expected an integer from 1"},
    {R, RESTORE "restore: {offset_reset: {timestamp: yesterday}}\n",
     "f:4:37: restore.offset_reset.timestamp: expected a time such as"},
    /* ranges */
    {B, BACKUP "backup: {segment_max_bytes: 0}\n",
     "f:4:29: backup.segment_max_bytes: expected an integer from 1 to"},
    {B, BACKUP "backup: {fetch_max_bytes: 2147483648}\n",
     "f:4:27: backup.fetch_max_bytes: expected an integer from 1 to 2147483647"},
    {B, BACKUP "backup: {rate_limit_bytes_per_sec: 0}\n",
     "f:4:36: backup.rate_limit_bytes_per_sec: expected an integer of at least 1"},
    {B, BACKUP "backup: {max_concurrent_partitions: 0}\n",
     "f:4:37: backup.max_concurrent_partitions: expected"},
    {B, BACKUP "backup: {compression_level: 23}\n",
     "f:4:29: backup.compression_level: expected an integer from 1 to 22 for zstd, got 23"},
    {B, BACKUP "backup: {compression: lz4, compression_level: 13}\n",
     "f:4:47: backup.compression_level: expected an integer from 1 to 12 for lz4"},
    {B, SOURCE STORE "lineage: l\nretention: {backups: 0}\n",
     "f:4:22: retention.backups: expected an integer from 1"},
    {B, BACKUP "retention: {backups: 3}\n", "f:4:12: retention: only the backups of a lineage are pruned"},
    {B, SOURCE STORE "lineage: l\nretention: {backups: -1}\n",
     "f:4:22: retention.backups: expected an integer"},
    {B, SOURCE STORE "lineage: l\nretention: {max_age_days: 0}\n",
     "f:4:27: retention.max_age_days: expected"},
    {B, SOURCE STORE "lineage: l\nretention: {grace_secs: 0}\n", "f:4:25: retention.grace_secs: expected"},
    {B, BACKUP "metrics: {port: 65536}\n", "f:4:17: metrics.port: expected an integer from 0 to 65535"},
    {B, BACKUP "metrics: {path: metrics}\n", "f:4:17: metrics.path: expected a path that begins with '/'"},
    {B, BACKUP "findings_exit_code: 1\n", "f:4:21: findings_exit_code: expected 0 or 3"},
    {B, BACKUP "configVersion: 2\n",
     "f:4:16: configVersion: this version of the worker knows version 1 only"},
    {R, RESTORE "restore: {produce_acks: 2}\n",
     "f:4:25: restore.produce_acks: expected an integer from -1 to 1"},
    {R, RESTORE "restore: {default_replication_factor: 0}\n",
     "f:4:39: restore.default_replication_factor: expected"},
    /* what a command needs */
    {B, "",
     "f: backup_id: a backup needs a name; hint: -b ID, or backup_id: name-{stamp}\n"
     "f: source: backup needs the source cluster: source.bootstrap_servers\n"
     "f: storage: backup needs a store; hint: --path DIR, or a block storage"},
    {R, "",
     "f: backup_id: restore needs the name of a backup; hint: -b ID\nf: target: restore needs the target"},
    {V, "",
     "f: backup_id: validate needs the name of a backup; hint: -b ID\nf: storage: validate needs a store"},
    {KB_COMMAND_LIST, "", "f: storage: list needs a store"},
    {B, SOURCE STORE "backup_id: ''\n", "f:3:12: backup_id: a backup needs a name"},
    {B, BACKUP "mode: restore\n", "f:4:7: mode: the file is for restore, the command is backup"},
    {R, RESTORE "mode: backup\n", "f:4:7: mode: the file is for backup, the command is restore"},
    {B, BACKUP "mode: other\n", "f:4:7: mode: expected one of backup, restore"},
    /* names */
    {B, SOURCE STORE "backup_id: a/b\n", "f:3:12: backup_id: 'a/b' is no name for a backup: only letters"},
    {B, SOURCE STORE "backup_id: '{date}'\n",
     "f:3:12: backup_id: '{date}' is no name for a backup: it must begin"},
    {B, SOURCE STORE "backup_id: restores\n",
     "f:3:12: backup_id: 'restores' is no name for a backup: this name is reserved"},
    {B, SOURCE STORE "backup_id: x.json\n",
     "f:3:12: backup_id: 'x.json' is no name for a backup: it must not end"},
    {R, TARGET STORE "backup_id: ../x\n",
     "f:3:12: backup_id: '../x' is no name of a backup: it has an empty, '.' or '..' part"},
    {B, SOURCE STORE "lineage: a/b\n", "f:3:10: lineage: 'a/b' is no name for a lineage"},
    {B, SOURCE STORE "lineage: l\nbackup_id: other\n",
     "f:4:12: backup_id: with a lineage expected 'l-{stamp}' or nothing"},
    {R, RESTORE "restore: {restore_id: a/b}\n", "f:4:23: restore.restore_id: 'a/b' cannot be used as a name"},
    {R, RESTORE "restore: {topic_mapping: {a: b c}}\n",
     "f:4:26: restore.topic_mapping: 'b c' is no name for a topic"},
    {R, RESTORE "restore: {topic_mapping: {a: ..}}\n",
     "f:4:26: restore.topic_mapping: '..' is no name for a topic"},
    /* Kafka */
    {B, STORE "backup_id: b\nsource: {}\n",
     "f:3:9: source.bootstrap_servers: expected at least one host:port"},
    {B, STORE "backup_id: b\nsource: {bootstrap_servers: ['', ',']}\n",
     "f:3:29: source.bootstrap_servers: expected at least one"},
    {B, STORE "backup_id: b\nsource: {bootstrap_servers: 'a:1'}\n",
     "f:3:29: source.bootstrap_servers: expected a list"},
    {B, STORE "backup_id: b\nsource: {bootstrap_servers: [a]}\n",
     "f:3:29: source.bootstrap_servers: expected host:port or [address]:port, got 'a'"},
    {B, STORE "backup_id: b\nsource: {bootstrap_servers: ['a:0']}\n",
     "f:3:29: source.bootstrap_servers: expected host:port"},
    {B, STORE "backup_id: b\nsource: {bootstrap_servers: ['a:65536']}\n",
     "f:3:29: source.bootstrap_servers: expected host:port"},
    {B, STORE "backup_id: b\nsource: {bootstrap_servers: ['http://a:1']}\n",
     "f:3:29: source.bootstrap_servers: expected host:port"},
    {B, STORE "backup_id: b\nsource: {bootstrap_servers: ['::1:9092']}\n",
     "f:3:29: source.bootstrap_servers: expected host:port"},
    {B, STORE "backup_id: b\nsource: {bootstrap_servers: ['a:1'], security: {security_protocol: SASL_SSL}}\n",
     "f:3:48: source.security.sasl_mechanism: is required under SASL: PLAIN"},
    {B,
     STORE "backup_id: b\nsource: {bootstrap_servers: ['a:1'], security: {security_protocol: SASL_PLAINTEXT, "
           "sasl_mechanism: PLAIN}}\n",
     "f:3:48: source.security.sasl_username: is required for this mechanism (or sasl_username_file)\n"
     "f:3:48: source.security.sasl_password: is required"},
    {B, STORE "backup_id: b\nsource: {bootstrap_servers: ['a:1'], security: {sasl_mechanism: plain}}\n",
     "f:3:65: source.security.sasl_mechanism: expected one of PLAIN, SCRAM-SHA-256"},
    {B,
     STORE "backup_id: b\nsource: {bootstrap_servers: ['a:1'], security: {sasl_password: a, "
           "sasl_password_file: /dev/null}}\n",
     "f:3:87: source.security.sasl_password_file: the value and its file are both given"},
    {B,
     STORE
     "backup_id: b\nsource: {bootstrap_servers: ['a:1'], security: {sasl_password_file: /nonexistent/pw}}\n",
     "f:3:69: source.security.sasl_password_file: a value given by file: cannot"},
    {B, STORE "backup_id: b\nsource: {bootstrap_servers: ['a:1'], security: {sasl_password: [x]}}\n",
     "f:3:64: source.security.sasl_password: expected a text, got a list"},
    {B,
     STORE "backup_id: b\nsource: {bootstrap_servers: ['a:1'], security: {security_protocol: SSL, "
           "ssl_key_location: /dev/null}}\n",
     "f:3:48: source.security.ssl_certificate_location: certificate and key are given together"},
    {B,
     STORE "backup_id: b\nsource: {bootstrap_servers: ['a:1'], security: {security_protocol: SSL, "
           "ssl_certificate_location: /dev/null, ssl_key_location: /nonexistent}}\n",
     "f:3:128: source.security.ssl_key_location: cannot read '/nonexistent': No such file"},
    {B,
     STORE "backup_id: b\nsource: {bootstrap_servers: ['a:1'], security: {ssl_client_auth_optional: true, "
           "security_protocol: SSL, ssl_certificate_location: /dev/null, ssl_key_location: /nonexistent}}\n",
     "f:3:160: source.security.ssl_key_location: cannot read"},
    {B,
     STORE "backup_id: b\nsource: {bootstrap_servers: ['a:1'], security: {security_protocol: SSL, "
           "ssl_ca_location: /nonexistent}}\n",
     "f:3:90: source.security.ssl_ca_location: cannot read '/nonexistent'"},
    {B, STORE "backup_id: b\nsource: {bootstrap_servers: ['a:1'], topics: {include: ['~a.*']}}\n",
     "f:3:56: source.topics.include: '~a.*': regular expressions are for restore only"},
    /* storage */
    {B, SOURCE "backup_id: b\nstorage: {path: /d}\n", "f:3:10: storage.backend: a backend is required"},
    {B, SOURCE "backup_id: b\nstorage: {backend: memory}\n",
     "f:3:20: storage.backend: backend memory is refused"},
    {B, SOURCE "backup_id: b\nstorage: {backend: ftp}\n",
     "f:3:20: storage.backend: expected one of filesystem"},
    {B, SOURCE "backup_id: b\nstorage: {backend: filesystem}\n", "f:3:10: storage.path: is required"},
    {B, SOURCE "backup_id: b\nstorage: {backend: s3}\n", "f:3:10: storage.bucket: is required"},
    {B, SOURCE "backup_id: b\nstorage: {backend: s3, bucket: b, endpoint: 'http://x'}\n",
     "f:3:45: storage.endpoint: is http:// without allow_http"},
    {B, SOURCE "backup_id: b\nstorage: {backend: s3, bucket: b, endpoint: 'https://u:pw-canary@x'}\n",
     "f:3:45: storage.endpoint: must not hold a user"},
    {B, SOURCE "backup_id: b\nstorage: {backend: s3, bucket: b, access_key: a}\n",
     "f:3:47: storage.access_key: access_key and secret_key"},
    {B, SOURCE "backup_id: b\nstorage: {backend: gcs, bucket: b, prefix: a//b}\n",
     "f:3:44: storage.prefix: must not begin"},
    {B,
     SOURCE "backup_id: b\nstorage: {backend: azure, account_name: a, container_name: c, account_key: k, "
            "sas_token: s}\n",
     "f:3:20: storage.backend: more than one way to log in"},
    {B, SOURCE "backup_id: b\nstorage: {backend: configmap}\n",
     "f:3:20: storage.backend: configmap is for offsets.store only"},
    /* restore */
    {R, RESTORE "restore: {time_window_start: 2, time_window_end: 1}\n",
     "f:4:30: restore.time_window_start: the time window starts (2) after its end (1)"},
    {R, RESTORE "restore: {target_policy: append}\n",
     "f:4:26: restore.target_policy: append needs delivery: transactional"},
    {R, RESTORE "restore: {target_policy: append, delivery: transactional, purge_topics: true}\n",
     "f:4:73: restore.purge_topics: not together with target_policy: append"},
    {B, BACKUP "backup: {continuous: true, stop_at_current_offsets: true}\n",
     "f:4:22: backup.continuous: not together"},
    {KB_COMMAND_OFFSET_RESET,
     TARGET "offsets: {groups: [g], strategy: timestamp, timestamp: 2025-01-01T00:00:00Z, timestamp_ms: 1, "
            "snapshot_id: s}\n",
     "f:2:92: offsets.timestamp_ms: timestamp and timestamp_ms are both given"},
    {KB_COMMAND_OFFSET_RESET, TARGET,
     "f: offsets.snapshot_id: offset-reset needs the name of a snapshot\nf: offsets.strategy: offset-reset "
     "needs a strategy"},
    /* all of them at once, in the order of the file, also across the stages of reading */
    {B,
     "mode: restore\nbackup: {compression: x, zzz: 1}\nstorage: {backend: filesystem, path: "
     "${NOPE}}\nlogging: {level: loud}\n",
     "f:3:"},
    {B,
     "mode: restore\nbackup: {compression: x, zzz: 1}\nstorage:\n  backend: filesystem\n  path: "
     "${NOPE}\nlogging: {level: loud}\nbackup_id: b\nmode: x\n",
     "f: source: backup needs the source cluster: source.bootstrap_servers\n"
     "f:1:7: mode: the file is for restore, the command is backup\n"
     "f:2:23: backup.compression: expected one of zstd, lz4, none, got 'x'\n"
     "f:2:26: backup.zzz: unknown key; hint: --allow-unknown makes this a warning\n"
     "f:5:9: storage.path: environment variable NOPE is not set; hint: set it, or give a default: "
     "${NAME:-text}\n"
     "f:6:18: logging.level: expected one of error, warn, info, debug, trace, got 'loud'\n"
     "f:8:1: mode: duplicate key, first given in line 1"},
};

static void kb_worker_config_parse_each_error_names_place_and_remedy(void **state)
{
    (void)state;
    size_t failures = 0;
    for (size_t i = 0; i < KB_ARRAY_LEN(bad_cases); i++) {
        KB_AUTO_ERROR(err);
        KB_CLEANUP(kb_worker_config_free_at) kb_worker_config *config = NULL;
        kb_config_options options = options_for(bad_cases[i].command);
        kb_code code = parse(bad_cases[i].text, &options, NULL, &config, &err);
        if (code == KB_CONFIG_INVALID &&
            strncmp(kb_error_text(&err), bad_cases[i].why, strlen(bad_cases[i].why)) == 0 &&
            strstr(kb_error_text(&err), "canary") == NULL)
            continue;
        print_message("case %zu\n  got  %s\n  want %s\n", i, kb_error_text(&err), bad_cases[i].why);
        failures++;
    }
    assert_int_equal(failures, 0);
}

static void kb_worker_config_parse_allow_unknown_makes_warnings(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_config_options options = options_for(B);
    options.allow_unknown = true;
    options.allow_unset_env = true;
    kb_problems notes;
    kb_problems_init(&notes, NULL);
    KB_CLEANUP(kb_worker_config_free_at) kb_worker_config *config = NULL;
    assert_int_equal(
        parse(BACKUP "new: {a: 1}\nbackup: {zz: 1}\ntrust_dir: ${NOPE}\n", &options, &notes, &config, &err),
        KB_OK);
    assert_int_equal(count_notes(&notes, KB_SEVERITY_WARNING), 3);
    KB_AUTOFREE char *text = kb_problem_text(&notes, &notes.items[1]);
    assert_string_equal(text, "f:4:1: new: unknown key, ignored");
    kb_problems_done(&notes);
    KB_CLEANUP(kb_worker_config_free_at) kb_worker_config *none = NULL;
    assert_int_equal(parse(BACKUP "encryption: x\n", &options, NULL, &none, &err), KB_CONFIG_INVALID);
}

/* ---- flags ---- */

static void kb_worker_config_load_flags_win_over_the_file(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_config_options options = options_for(B);
    options.storage_path = "file:///other";
    options.backup_id = "flag-{stamp}";
    KB_CLEANUP(kb_worker_config_free_at) kb_worker_config *config = NULL;
    assert_int_equal(parse(BACKUP, &options, NULL, &config, &err), KB_OK);
    assert_string_equal(config->storage.filesystem_path, "/other");
    assert_int_equal(config->storage.request_timeout_secs, 60);
    assert_string_equal(config->backup_id, "flag-{stamp}");
    options.backup_id = "a/b";
    KB_CLEANUP(kb_worker_config_free_at) kb_worker_config *none = NULL;
    assert_int_equal(parse(BACKUP, &options, NULL, &none, &err), KB_CONFIG_INVALID);
    options.backup_id = NULL;
    options.storage_path = "ftp://x";
    assert_int_equal(parse(BACKUP, &options, NULL, &none, &err), KB_USAGE_ERROR);
}

static void kb_worker_config_load_without_a_file_flags_are_enough(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_config_options options = options_for(KB_COMMAND_DESCRIBE);
    options.storage_path = "/data";
    options.backup_id = "b";
    KB_CLEANUP(kb_worker_config_free_at) kb_worker_config *config = NULL;
    assert_int_equal(kb_worker_config_load(&options, NULL, &config, &err), KB_OK);
    assert_string_equal(config->storage.filesystem_path, "/data");
    assert_int_equal(kb_worker_config_check_supported(config, KB_COMMAND_DESCRIBE, false, &err), KB_OK);
}

static void kb_worker_config_load_missing_file_is_a_configuration_error(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    kb_config_options options = options_for(B);
    options.path = "/nonexistent/c.yaml";
    KB_CLEANUP(kb_worker_config_free_at) kb_worker_config *config = NULL;
    assert_int_equal(kb_worker_config_load(&options, NULL, &config, &err), KB_CONFIG_INVALID);
    assert_non_null(strstr(kb_error_text(&err), "/nonexistent/c.yaml"));
}

static void kb_worker_config_parse_other_sha256_is_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    uint8_t hash[KB_SHA256_SIZE];
    char hex[2 * KB_SHA256_SIZE + 1];
    kb_sha256(BACKUP, strlen(BACKUP), hash);
    kb_hex_encode(hash, sizeof hash, hex);
    kb_config_options options = options_for(B);
    options.config_sha256 = hex;
    KB_CLEANUP(kb_worker_config_free_at) kb_worker_config *config = NULL;
    assert_int_equal(parse(BACKUP, &options, NULL, &config, &err), KB_OK);
    KB_CLEANUP(kb_worker_config_free_at) kb_worker_config *none = NULL;
    assert_int_equal(parse(BACKUP "\n", &options, NULL, &none, &err), KB_CONFIG_INVALID);
    assert_non_null(strstr(kb_error_text(&err), "KB_CONFIG_SHA256"));
}

static void kb_secret_source_read_files_are_read_anew_without_their_newline(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    KB_CLEANUP(kb_temp_dir_free_at) char *dir = kb_temp_dir_new();
    KB_AUTOFREE char *path = kb_temp_path(dir, "pw");
    KB_AUTOFREE char *text = kb_asprintf(STORE "backup_id: b\nsource:\n  bootstrap_servers: ['a:1']\n"
                                               "  security: {sasl_password_file: %s, sasl_username: u}\n",
                                         path);
    static const struct {
        const char *content, *value;
    } cases[] = {{"one\n", "one"}, {"two\r\n", "two"}, {"three", "three"}, {"four\n\n", "four\n"}, {"", ""}};
    KB_CLEANUP(kb_worker_config_free_at) kb_worker_config *config = NULL;
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        assert_int_equal(kb_file_write(path, cases[i].content, strlen(cases[i].content), &err), KB_OK);
        if (config == NULL)
            config = parse_well(text, B);
        KB_CLEANUP(kb_secret_free_at) kb_secret *secret = NULL;
        assert_int_equal(kb_secret_source_read(&config->source.security.sasl_password, &secret, &err), KB_OK);
        assert_string_equal(kb_secret_view(secret), cases[i].value);
    }
    assert_string_equal(kb_secret_view(config->source.security.sasl_password.value), "one");
    KB_AUTOFREE char *large = kb_calloc(1, 65537);
    assert_int_equal(kb_file_write(path, large, 65537, &err), KB_OK);
    KB_CLEANUP(kb_secret_free_at) kb_secret *none = NULL;
    assert_int_equal(kb_secret_source_read(&config->source.security.sasl_password, &none, &err),
                     KB_CONFIG_INVALID);
    const kb_secret_source nothing = {NULL, NULL};
    assert_int_equal(kb_secret_source_read(&nothing, &none, &err), KB_OK);
    assert_null(none);
}

static void kb_command_parse_names_lead_back(void **state)
{
    (void)state;
    for (int i = 0; i < KB_COMMAND_COUNT; i++) {
        kb_command command = KB_COMMAND_COUNT;
        assert_true(kb_command_parse(kb_command_name((kb_command)i), &command));
        assert_int_equal(command, i);
    }
    kb_command command = KB_COMMAND_COUNT;
    assert_false(kb_command_parse("", &command));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_worker_config_load_minimal_backup_has_the_defaults),
        cmocka_unit_test(kb_worker_config_load_minimal_restore_has_the_defaults),
        cmocka_unit_test(kb_worker_config_load_files_of_the_existing_tool_run_unchanged),
        cmocka_unit_test(kb_worker_config_print_full_file_reads_back_alike_without_secrets),
        cmocka_unit_test(kb_worker_config_load_full_file_fills_every_block),
        cmocka_unit_test(kb_worker_config_parse_integers_come_in_four_bases),
        cmocka_unit_test(kb_worker_config_parse_null_and_empty_are_not_given),
        cmocka_unit_test(kb_worker_config_parse_variables_cannot_change_the_document),
        cmocka_unit_test(kb_worker_config_parse_fetch_follows_small_segments),
        cmocka_unit_test(kb_worker_config_lineage_presence_of_offset_storage_makes_one),
        cmocka_unit_test(kb_worker_config_parse_each_error_names_place_and_remedy),
        cmocka_unit_test(kb_worker_config_parse_allow_unknown_makes_warnings),
        cmocka_unit_test(kb_worker_config_load_flags_win_over_the_file),
        cmocka_unit_test(kb_worker_config_load_without_a_file_flags_are_enough),
        cmocka_unit_test(kb_worker_config_load_missing_file_is_a_configuration_error),
        cmocka_unit_test(kb_worker_config_parse_other_sha256_is_refused),
        cmocka_unit_test(kb_secret_source_read_files_are_read_anew_without_their_newline),
        cmocka_unit_test(kb_command_parse_names_lead_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
