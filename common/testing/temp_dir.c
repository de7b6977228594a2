#include "common/testing/temp_dir.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"

char *kb_temp_dir_new(void)
{
    char *path = kb_strdup("/tmp/kb-test-XXXXXX");
    if (mkdtemp(path) == NULL) {
        perror(path);
        abort();
    }
    return path;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *place)
{
    (void)st;
    (void)kind;
    (void)place;
    return remove(path);
}

/* A test may have taken rights away, which would hide what lies below from the removal. */
static int give_rights(const char *path, const struct stat *st, int kind, struct FTW *place)
{
    (void)place;
    if (kind != FTW_SL && S_ISDIR(st->st_mode))
        (void)chmod(path, 0700);
    return 0;
}

void kb_temp_dir_free(char *owned_path)
{
    if (owned_path == NULL)
        return;
    (void)nftw(owned_path, give_rights, 16, FTW_PHYS);
    (void)nftw(owned_path, remove_one, 16, FTW_PHYS | FTW_DEPTH);
    free(owned_path);
}

void kb_temp_dir_free_at(char **at)
{
    kb_temp_dir_free(*at);
    *at = NULL;
}

char *kb_temp_path(const char *dir, const char *name)
{
    return kb_asprintf("%s/%s", dir, name);
}
