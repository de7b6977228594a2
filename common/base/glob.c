#include "common/base/glob.h"

#include <stddef.h>
#include <string.h>

bool kb_glob_match(const char *pattern, const char *name)
{
    const char *star = NULL;   /* position after the last `*` seen */
    const char *resume = NULL; /* where in the name that `*` may be stretched to */
    while (*name != '\0') {
        if (*pattern == '*') {
            star = ++pattern;
            resume = name;
        } else if (*pattern == '?' || *pattern == *name) {
            pattern++;
            name++;
        } else if (star != NULL) {
            /* Only the last `*` need be stretched: what an earlier one could add, it can. */
            pattern = star;
            name = ++resume;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

bool kb_glob_is_literal(const char *pattern)
{
    return strpbrk(pattern, "*?") == NULL;
}
