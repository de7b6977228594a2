#include "worker/cmd/cmd_describe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "worker/tests/backup_fixture.h"

static void assert_line(const char *text, const char *line)
{
    const char *at = strstr(text, line);
    if (at == NULL || (at != text && at[-1] != '\n'))
        fail_msg("no line begins with '%s' in:\n%s", line, text);
}

static void kb_describe_text_shows_everything(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_TEST_BACKUP(fixture);
    test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
    kb_text_set(&fixture.backup->lineage, "orders");
    kb_text_set(&fixture.backup->content.source_cluster_header, "east");
    test_backup_fill(&fixture, KB_CODEC_ZSTD);
    test_backup_add_gap(&fixture, "lost", 0, 0, 5);
    kb_backup_add_skipped(fixture.backup, "secret", "unauthorized");
    kb_backup_add_finding(fixture.backup, "RetentionGap", "lost", 0, "5 offsets\x1b[0m");
    kb_backup_set_groups(fixture.backup, TEST_BACKUP_ID "/consumer-groups-snapshot.json",
                         (uint8_t[KB_SHA256_SIZE]){0}, 4, false);
    test_backup_publish(&fixture);
    KB_AUTO_STRBUF(out, 100000);
    assert_int_equal(kb_describe_text(fixture.backup, KB_CATALOG_COMPLETE, &out, &err), KB_OK);
    static const char *const lines[] = {
        "Backup       orders-20250101-000000\n",
        "State        complete\n",
        "Created      2025-01-01T00:00:00.000Z\n",
        "Lineage      orders\n",
        "Owner        manual\n",
        "Base         -\n",
        "Snapshot     2025-01-01T00:00:01.000Z\n",
        "Completed    2025-01-01T00:00:02.000Z\n",
        "Content      read_committed, with offset headers, x-source-cluster 'east'\n",
        "Cluster      MkU3OEVBNTcwNTJENDM2Qk\n",
        "Compression  zstd\n",
        "Records      40 in 3 topics, 4 partitions\n",
        "Segments     4, 0 of other backups\n",
        "Gaps         1, 5 offsets\n",
        "First time   2025-01-01T00:00:00.000Z\n",
        "Groups       4, not complete\n",
        "TOPIC   STATE  PARTITIONS  RECORDS",
        "orders  ok              2       40",
        "  lost/0 offsets 0 to 4\n",
        "  secret: unauthorized\n",
        "  RetentionGap lost/0: 5 offsets\\x1b[0m\n",
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(lines); i++)
        assert_line(kb_strbuf_view(&out), lines[i]);
}

static void kb_describe_text_foreign_backup_leaves_out_what_is_unknown(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_TEST_BACKUP(fixture);
    test_backup_init(&fixture, TEST_BACKUP_ID, NULL);
    test_backup_fill(&fixture, KB_CODEC_LZ4);
    test_backup_publish(&fixture);
    const kb_catalog_open_options options = {.from_manifest = true};
    KB_AUTO_BACKUP kb_backup *backup = NULL;
    kb_catalog_state opened;
    assert_int_equal(kb_catalog_open(fixture.storage, TEST_BACKUP_ID, &options, &backup, &opened, &err),
                     KB_OK);
    KB_AUTO_STRBUF(out, 100000);
    assert_int_equal(kb_describe_text(backup, opened, &out, &err), KB_OK);
    assert_line(kb_strbuf_view(&out), "State        foreign\n");
    assert_line(kb_strbuf_view(&out), "Records      40 in ");
    assert_line(kb_strbuf_view(&out), "orders  -               2       40");
    assert_null(strstr(kb_strbuf_view(&out), "Owner"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_describe_text_shows_everything),
        cmocka_unit_test(kb_describe_text_foreign_backup_leaves_out_what_is_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
