/* Fuzzes the replay of a journal: lines are its entries, their hashes and chain are made right. */
#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/mem.h"
#include "worker/catalog/journal_replay.h"
#include "worker/catalog/object_source.h"

#define ID "orders-20250101-000000"
#define HEX_BYTES ((size_t)2 * KB_SHA256_SIZE)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fix_chain(char *text, size_t len, const kb_replay *replay)
{
    static const char name[] = "\"prevSha256\":\"";
    char hex[HEX_BYTES + 1];
    char *at = memmem(text, len, name, sizeof name - 1);
    if (at == NULL || replay->next_seq == 0)
        return;
    at += sizeof name - 1;
    if ((size_t)(text + len - at) < HEX_BYTES)
        return;
    kb_hex_encode(replay->last_sha256, KB_SHA256_SIZE, hex);
    memcpy(at, hex, HEX_BYTES);
}

static kb_code add_line(kb_replay *replay, const uint8_t *data, size_t len, kb_error *err)
{
    KB_AUTO_ERROR(ignored);
    KB_AUTOFREE char *text = kb_malloc(len + 1);
    if (len > 0)
        memcpy(text, data, len);
    text[len] = '\0';
    fix_chain(text, len, replay);
    if (kb_self_hash_write(text, len, &ignored) != KB_OK)
        kb_error_done(&ignored);
    kb_entry_kind kind;
    if (kb_entry_peek(ID, text, len, &kind, &ignored) != KB_OK)
        kb_error_done(&ignored);
    return kb_replay_add(replay, text, len, err);
}

/* Whatever was accepted: positions within their limits, segments and gaps tile. */
static void check(const kb_backup *backup)
{
    for (size_t t = 0; t < backup->topic_count; t++)
        for (size_t p = 0; p < backup->topics[t].listed_count; p++) {
            const kb_partition_entry *partition = &backup->topics[t].partitions[p];
            if (partition->to > partition->cut || partition->to < kb_partition_joined(partition))
                abort();
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KB_AUTO_ERROR(err);
    kb_replay replay KB_CLEANUP(kb_replay_done);
    kb_replay_init(&replay, ID, "uid");
    while (size > 0) {
        const uint8_t *end = memchr(data, '\n', size);
        size_t len = end != NULL ? (size_t)(end - data) : size;
        if (add_line(&replay, data, len, &err) != KB_OK)
            break;
        check(replay.backup);
        size_t used = end != NULL ? len + 1 : len;
        data += used;
        size -= used;
    }
    return 0;
}
