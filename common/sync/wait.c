#include "common/sync/wait.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

struct kb_stop {
    atomic_uint count;
    atomic_int reason;
    int event_fd; /* readable for ever once the token is set: nobody reads it */
};

static _Atomic(kb_stop *) signal_target;

kb_code kb_stop_new(kb_stop **ret_stop, kb_error *err)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return kb_fail(err, KB_TEMPORARY_FAILURE, "cannot make a stop token: %s", kb_errno_text(errno));
    kb_stop *stop = kb_calloc(1, sizeof *stop);
    stop->event_fd = fd;
    *ret_stop = stop;
    return KB_OK;
}

void kb_stop_free(kb_stop *owned_stop)
{
    if (owned_stop == NULL)
        return;
    kb_stop *expected = owned_stop;
    (void)atomic_compare_exchange_strong(&signal_target, &expected, NULL);
    (void)close(owned_stop->event_fd);
    free(owned_stop);
}

void kb_stop_free_at(kb_stop **at)
{
    kb_stop_free(*at);
    *at = NULL;
}

void kb_stop_set(kb_stop *stop, int reason)
{
    int errno_before = errno;
    static const uint64_t one = 1;
    /* The reason before the count, so that whoever sees the count sees the reason. */
    int expected = 0;
    if (atomic_load(&stop->count) == 0)
        (void)atomic_compare_exchange_strong(&stop->reason, &expected, reason);
    (void)atomic_fetch_add(&stop->count, 1);
    (void)!write(stop->event_fd, &one, sizeof one);
    errno = errno_before;
}

bool kb_stop_requested(const kb_stop *stop)
{
    return atomic_load(&stop->count) > 0;
}

unsigned kb_stop_count(const kb_stop *stop)
{
    return atomic_load(&stop->count);
}

int kb_stop_reason(const kb_stop *stop)
{
    return atomic_load(&stop->reason);
}

int kb_stop_fd(const kb_stop *stop)
{
    return stop->event_fd;
}

bool kb_stop_wait(kb_stop *stop, int64_t ms)
{
    int64_t start_ms = kb_clock_boot_ms();
    struct pollfd target = {stop->event_fd, POLLIN, 0};
    while (!kb_stop_requested(stop)) {
        int64_t left_ms = ms < 0 ? INT_MAX : ms - (kb_clock_boot_ms() - start_ms);
        if (left_ms <= 0)
            return false;
        (void)poll(&target, 1, left_ms < INT_MAX ? (int)left_ms : INT_MAX);
    }
    return true;
}

static void on_signal(int number)
{
    kb_stop *stop = atomic_load(&signal_target);
    if (stop != NULL)
        kb_stop_set(stop, number);
}

kb_code kb_stop_on_signals(kb_stop *stop, kb_error *err)
{
    struct sigaction routed = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct sigaction ignored = {.sa_handler = SIG_IGN};
    (void)sigemptyset(&routed.sa_mask);
    (void)sigemptyset(&ignored.sa_mask);
    atomic_store(&signal_target, stop);
    if (sigaction(SIGINT, &routed, NULL) != 0 || sigaction(SIGTERM, &routed, NULL) != 0 ||
        sigaction(SIGPIPE, &ignored, NULL) != 0)
        return kb_fail(err, KB_ERR_INTERNAL, "cannot set signal handlers: %s", kb_errno_text(errno));
    return KB_OK;
}

uint64_t kb_random_system(void *ctx)
{
    (void)ctx;
    uint64_t value = 0;
    /* Jitter may be poor where there is no entropy yet, but it must not block. */
    if (getrandom(&value, sizeof value, GRND_NONBLOCK) != (ssize_t)sizeof value)
        value = (uint64_t)kb_clock_boot_us() * UINT64_C(0x9E3779B97F4A7C15);
    return value;
}

void kb_backoff_init(kb_backoff *backoff, int64_t base_ms, int64_t cap_ms, kb_random_fn random,
                     void *random_ctx)
{
    *backoff = (kb_backoff){
        .base_ms = base_ms,
        .cap_ms = cap_ms,
        .random = random != NULL ? random : kb_random_system,
        .random_ctx = random_ctx,
    };
}

int64_t kb_backoff_next(kb_backoff *backoff)
{
    int64_t limit_ms = backoff->base_ms;
    for (unsigned i = 0; i < backoff->attempt && limit_ms < backoff->cap_ms; i++)
        limit_ms = limit_ms > backoff->cap_ms / 2 ? backoff->cap_ms : limit_ms * 2;
    if (limit_ms > backoff->cap_ms)
        limit_ms = backoff->cap_ms;
    if (backoff->attempt < UINT_MAX)
        backoff->attempt++;
    return (int64_t)(backoff->random(backoff->random_ctx) % ((uint64_t)limit_ms + 1));
}

void kb_backoff_reset(kb_backoff *backoff)
{
    backoff->attempt = 0;
}

bool kb_backoff_wait(kb_backoff *backoff, kb_stop *stop)
{
    return kb_stop_wait(stop, kb_backoff_next(backoff));
}
