#include "worker/catalog/journal_replay.h"

#include "worker/catalog/object_source.h"
#include "worker/tests/catalog_fixture.h"

static void kb_replay_add_any_bit_flipped_is_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *journal = test_begun(store.storage, &clock, "first", "uid-1");
    assert_ok(test_progress(journal, 10, 60, &err));
    KB_AUTOFREE char *open_text = test_get(store.storage, ID "/journal/00000000.json");
    KB_AUTOFREE char *text = test_get(store.storage, ID "/journal/00000001.json");
    size_t len = strlen(text);
    for (size_t bit = 0; bit < 8 * len; bit++) {
        kb_replay replay KB_CLEANUP(kb_replay_done);
        kb_replay_init(&replay, ID, NULL);
        assert_ok(kb_replay_add(&replay, open_text, strlen(open_text), &err));
        text[bit / 8] = (char)(text[bit / 8] ^ (1 << bit % 8));
        kb_code code = kb_replay_add(&replay, text, len, &err);
        text[bit / 8] = (char)(text[bit / 8] ^ (1 << bit % 8));
        if (code != KB_ERR_FORMAT && code != KB_ERR_TOO_LARGE)
            fail_msg("bit %zu of byte %zu was not noticed", bit % 8, bit / 8);
        kb_error_done(&err);
    }
    for (size_t end = 0; end < len; end++) {
        kb_replay replay KB_CLEANUP(kb_replay_done);
        kb_replay_init(&replay, ID, NULL);
        assert_ok(kb_replay_add(&replay, open_text, strlen(open_text), &err));
        assert_fails(kb_replay_add(&replay, text, end, &err), KB_ERR_FORMAT);
        kb_error_done(&err);
    }
}

/* Replaces a text in an entry and hashes it anew, as a faulty writer would. */
static char *edit(const char *text, const char *from, const char *to)
{
    KB_AUTO_ERROR(err);
    const char *at = strstr(text, from);
    if (at == NULL)
        fail_msg("'%s' is not in the entry", from);
    char *edited = kb_asprintf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    assert_ok(kb_self_hash_write(edited, strlen(edited), &err));
    return edited;
}

static void kb_replay_add_contradictions_are_refused(void **state)
{
    (void)state;
    KB_AUTO_ERROR(err);
    AUTO_STORE(store);
    test_clock clock;
    test_clock_init(&clock);
    AUTO_JOURNAL *journal = test_begun(store.storage, &clock, "first", "uid-1");
    assert_ok(test_progress(journal, 10, 60, &err));
    KB_AUTOFREE char *open_text = test_get(store.storage, ID "/journal/00000000.json");
    KB_AUTOFREE char *text = test_get(store.storage, ID "/journal/00000001.json");
    static const struct {
        const char *from;
        const char *to;
        const char *message;
    } cases[] = {
        {"\"formatVersion\":1", "\"formatVersion\":2", "newer reader"},
        {"\"kind\":\"progress\"", "\"kind\":\"wonder\"", "newer reader"},
        {"\"seq\":1", "\"seq\":2", "number 2"},
        {"\"backupId\":\"" ID "\"", "\"backupId\":\"other\"", "of backup 'other'"},
        {"\"attempt\":1", "\"attempt\":2", "did not own"},
        {"\"attemptId\":\"", "\"attemptId\":\"0", "32 hexadecimal"},
        {"\"prevSha256\":\"", "\"prevSha256\":\"0", "64 hexadecimal"},
        {"\"kind\":\"progress\"", "\"kind\":\"open\"", "does not follow attempt"},
        {"\"kind\":\"progress\"", "\"kind\":\"seal\"", "totals"},
        {"\"position\":60", "\"position\":61", NULL},
        {"\"position\":60", "\"position\":101", "contradicts"},
        {"\"position\":60", "\"position\":59", "contradicts"},
        {"\"from\":10", "\"from\":9", "contradicts"},
        {"\"partition\":0", "\"partition\":9", "not in the plan"},
        {"\"time\":\"2025", "\"time\":\"20x5", "time"},
        {"\"pid\":17", "\"pid\":\"17\"", "pid"},
        {"\"holder\":{", "\"holder\":{\"jobName\":\"\",", "jobName"},
    };
    for (size_t i = 0; i < KB_ARRAY_LEN(cases); i++) {
        kb_replay replay KB_CLEANUP(kb_replay_done);
        kb_replay_init(&replay, ID, NULL);
        assert_ok(kb_replay_add(&replay, open_text, strlen(open_text), &err));
        KB_AUTOFREE char *edited = edit(text, cases[i].from, cases[i].to);
        if (cases[i].message == NULL) {
            assert_ok(kb_replay_add(&replay, edited, strlen(edited), &err));
            continue;
        }
        assert_fails(kb_replay_add(&replay, edited, strlen(edited), &err), KB_ERR_FORMAT);
        assert_says(cases[i].message);
        kb_error_done(&err);
    }
    kb_replay replay KB_CLEANUP(kb_replay_done);
    kb_replay_init(&replay, ID, NULL);
    assert_fails(kb_replay_add(&replay, text, strlen(text), &err), KB_ERR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kb_replay_add_any_bit_flipped_is_refused),
        cmocka_unit_test(kb_replay_add_contradictions_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
