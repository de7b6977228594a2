/*
 * temp_dir - a directory under /tmp for one test.
 *
 * A failure ends the test program: there is nothing to test without it.
 */
#ifndef KB_COMMON_TESTING_TEMP_DIR_H
#define KB_COMMON_TESTING_TEMP_DIR_H

/* A new empty directory; the path is owned by the caller. */
char *kb_temp_dir_new(void) __attribute__((returns_nonnull));
/* Removes the directory with all it holds and frees the path; NULL is fine. */
void kb_temp_dir_free(char *owned_path);
/* For a cleanup attribute: kb_temp_dir_free(*at). */
void kb_temp_dir_free_at(char **at);
/* "<dir>/<name>", owned by the caller. */
char *kb_temp_path(const char *dir, const char *name) __attribute__((returns_nonnull));

#endif
