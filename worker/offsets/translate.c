#include "worker/offsets/translate.h"

#include <stdlib.h>

static int by_source(const void *a, const void *b)
{
    int64_t left = ((const kb_wanted_offset *)a)->source;
    int64_t right = ((const kb_wanted_offset *)b)->source;
    return left < right ? -1 : left > right;
}

void kb_translator_init(kb_translator *translator, kb_wanted_offset *wanted, size_t count)
{
    if (count > 0)
        qsort(wanted, count, sizeof *wanted, by_source);
    *translator = (kb_translator){wanted, count, 0};
}

void kb_translator_run(kb_translator *translator, int64_t source_first, int64_t target_first, int64_t count)
{
    while (translator->next < translator->count) {
        kb_wanted_offset *wanted = &translator->wanted[translator->next];
        int64_t into = wanted->source - source_first;
        if (into >= count)
            return;
        wanted->target = target_first + (into > 0 ? into : 0);
        translator->next++;
    }
}

void kb_translator_end(kb_translator *translator, int64_t target_end, int64_t source_end)
{
    for (; translator->next < translator->count; translator->next++) {
        kb_wanted_offset *wanted = &translator->wanted[translator->next];
        wanted->target = target_end;
        wanted->is_beyond = wanted->source > source_end;
    }
}

const kb_wanted_offset *kb_translator_find(const kb_translator *translator, int64_t source)
{
    const kb_wanted_offset key = {.source = source};
    if (translator->count == 0)
        return NULL;
    return bsearch(&key, translator->wanted, translator->count, sizeof key, by_source);
}
