#include "common/base/secret.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

struct kb_secret {
    size_t len;
    char text[]; /* len bytes and a NUL */
};

void kb_wipe(void *memory, size_t len)
{
    if (len > 0)
        explicit_bzero(memory, len);
}

kb_secret *kb_secret_new(const void *text, size_t len)
{
    kb_secret *secret = kb_calloc(1, sizeof *secret + len + 1);
    secret->len = len;
    if (len > 0)
        memcpy(secret->text, text, len);
    return secret;
}

kb_secret *kb_secret_copy(const kb_secret *secret)
{
    return secret != NULL ? kb_secret_new(secret->text, secret->len) : NULL;
}

void kb_secret_free(kb_secret *owned_secret)
{
    if (owned_secret == NULL)
        return;
    kb_wipe(owned_secret->text, owned_secret->len);
    free(owned_secret);
}

void kb_secret_free_at(kb_secret **at)
{
    kb_secret_free(*at);
    *at = NULL;
}

const char *kb_secret_view(const kb_secret *secret)
{
    return secret->text;
}

size_t kb_secret_len(const kb_secret *secret)
{
    return secret->len;
}

bool kb_secret_is_equal(const kb_secret *a, const kb_secret *b)
{
    if (a == NULL || b == NULL)
        return a == b;
    if (a->len != b->len)
        return false;
    uint8_t differing = 0;
    for (size_t i = 0; i < a->len; i++)
        differing = (uint8_t)(differing | ((uint8_t)a->text[i] ^ (uint8_t)b->text[i]));
    return differing == 0;
}
