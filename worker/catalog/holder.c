#include "worker/catalog/holder.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "common/base/encode.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/strbuf.h"

#define PROC_FILE_MAX_BYTES 8192
/* In /proc/<pid>/stat, counted from the state that follows the name in parentheses, which is field 3. */
#define START_TIME_FIELD 22
#define HOST_NAME_MAX_BYTES 256

/* A small file without the newline at its end, "" when it cannot be read. */
static char *read_proc(const char *path)
{
    KB_AUTO_ERROR(err);
    uint8_t *data = NULL;
    size_t len = 0;
    if (kb_file_read(path, PROC_FILE_MAX_BYTES, &data, &len, &err) != KB_OK)
        return kb_strdup("");
    char *text = (char *)data;
    text[strcspn(text, "\n")] = '\0';
    return text;
}

/* The name in parentheses may hold anything, spaces and parentheses included. -1 when it cannot be known. */
static int64_t start_time(int64_t pid)
{
    KB_AUTOFREE char *path = kb_asprintf("/proc/%" PRId64 "/stat", pid);
    KB_AUTOFREE char *text = read_proc(path);
    const char *at = strrchr(text, ')');
    if (at == NULL || at[1] != ' ')
        return -1;
    at += 2;
    for (int field = 3; field < START_TIME_FIELD; field++) {
        at = strchr(at, ' ');
        if (at == NULL)
            return -1;
        at++;
    }
    int64_t start = -1;
    return kb_parse_i64_len(at, strcspn(at, " "), &start) ? start : -1;
}

static int64_t pid_namespace(void)
{
    struct stat info;
    return stat("/proc/self/ns/pid", &info) == 0 ? (int64_t)info.st_ino : 0;
}

static char *host_name(void)
{
    char name[HOST_NAME_MAX_BYTES] = "";
    if (gethostname(name, sizeof name - 1) != 0)
        name[0] = '\0';
    return kb_strdup(name);
}

static char *text_or_empty(const char *text)
{
    return kb_strdup(text != NULL ? text : "");
}

void kb_holder_init(kb_holder *holder, const char *job_name, const char *job_uid, const char *pod_name)
{
    *holder = (kb_holder){
        .job_name = text_or_empty(job_name),
        .job_uid = text_or_empty(job_uid),
        .pod_name = text_or_empty(pod_name),
        .host = host_name(),
        .boot_id = read_proc("/proc/sys/kernel/random/boot_id"),
        .pid = getpid(),
        .pid_start = start_time(getpid()),
        .pid_namespace = pid_namespace(),
    };
}

void kb_holder_copy(kb_holder *to, const kb_holder *from)
{
    *to = *from;
    to->job_name = text_or_empty(from->job_name);
    to->job_uid = text_or_empty(from->job_uid);
    to->pod_name = text_or_empty(from->pod_name);
    to->host = text_or_empty(from->host);
    to->boot_id = text_or_empty(from->boot_id);
}

void kb_holder_done(kb_holder *holder)
{
    free(holder->job_name);
    free(holder->job_uid);
    free(holder->pod_name);
    free(holder->host);
    free(holder->boot_id);
    *holder = (kb_holder){0};
}

bool kb_holder_is_dead(const kb_holder *holder)
{
    if (holder->pid <= 0 || holder->pid > INT32_MAX || holder->boot_id[0] == '\0')
        return false;
    KB_AUTOFREE char *host = host_name();
    KB_AUTOFREE char *boot_id = read_proc("/proc/sys/kernel/random/boot_id");
    if (strcmp(host, holder->host) != 0 || strcmp(boot_id, holder->boot_id) != 0)
        return false;
    /* Containers may share host name and boot, but number their processes each from 1. */
    if (holder->pid_namespace != 0 && holder->pid_namespace != pid_namespace())
        return false;
    if (kill((pid_t)holder->pid, 0) != 0 && errno == ESRCH)
        return true;
    int64_t start = start_time(holder->pid);
    return start >= 0 && holder->pid_start >= 0 && start != holder->pid_start;
}

bool kb_holder_is_same_job(const kb_holder *a, const kb_holder *b)
{
    return a->job_uid[0] != '\0' && strcmp(a->job_uid, b->job_uid) == 0;
}

char *kb_holder_describe(const kb_holder *holder)
{
    KB_AUTO_STRBUF(text, 4096);
    if (holder->job_name[0] != '\0')
        kb_strbuf_appendf(&text, "job '%.253s', ", holder->job_name);
    if (holder->pod_name[0] != '\0')
        kb_strbuf_appendf(&text, "pod '%.253s', ", holder->pod_name);
    kb_strbuf_appendf(&text, "process %" PRId64 " on host '%.253s'", holder->pid, holder->host);
    return kb_strbuf_take(&text);
}
