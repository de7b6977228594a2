#include "worker/report/report_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"
#include "common/contract/run_report.h"

#define KB_REPORT_FILE_MODE 0644

struct kb_report_file {
    char *path; /* NULL = none */
    bool warned;
};

kb_report_file *kb_report_file_new(const char *path)
{
    kb_report_file *file = kb_calloc(1, sizeof *file);
    file->path = kb_strdup_opt(path);
    return file;
}

void kb_report_file_free(kb_report_file *owned_file)
{
    if (owned_file == NULL)
        return;
    free(owned_file->path);
    free(owned_file);
}

/*
 * The old content is overwritten, padded with spaces, before the file is cut: whoever is killed between the
 * two leaves JSON with white space behind it, not a new head on an old tail.
 */
static kb_code write_whole(const char *path, const char *text, size_t len, kb_error *err)
{
    /* A pipe without a reader must not stop the run. */
    KB_AUTO_FD int fd =
        open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, KB_REPORT_FILE_MODE);
    if (fd < 0)
        return kb_file_fail(err, errno, "open", path);
    struct stat info;
    if (fstat(fd, &info) != 0)
        return kb_file_fail(err, errno, "stat", path);
    bool regular = S_ISREG(info.st_mode);
    size_t old_len = regular && info.st_size <= KB_RUN_REPORT_MAX_BYTES ? (size_t)info.st_size : 0;
    KB_AUTO_STRBUF(padded, len + KB_RUN_REPORT_MAX_BYTES);
    kb_strbuf_append(&padded, text, len);
    while (padded.len < old_len)
        kb_strbuf_appendc(&padded, ' ');
    kb_code code = kb_write_all(fd, kb_strbuf_view(&padded), padded.len, path, err);
    if (code == KB_OK && regular && ftruncate(fd, (off_t)len) != 0)
        code = kb_file_fail(err, errno, "cut", path);
    return code == KB_OK ? kb_fd_close(&fd, path, err) : code;
}

bool kb_report_file_write(kb_report_file *file, const char *text, size_t len)
{
    if (file->path == NULL)
        return true;
    KB_AUTO_ERROR(err);
    if (write_whole(file->path, text, len, &err) == KB_OK)
        return true;
    if (!file->warned)
        kb_log(KB_LOG_WARN, "the termination message cannot be written; the run goes on without it",
               KB_ERRTEXT(&err));
    file->warned = true;
    return false;
}
