#include "operator/tests/fake_clock.h"

#include <stdatomic.h>

static int64_t boot(void *ctx)
{
    kb_fake_clock *fake = ctx;
    return atomic_load(&fake->boot_ms);
}

static int64_t wall(void *ctx)
{
    kb_fake_clock *fake = ctx;
    return atomic_load(&fake->wall_ms);
}

void kb_fake_clock_init(kb_fake_clock *fake)
{
    fake->clock = (kb_clock){.now_boot_ms = boot, .now_wall_ms = wall, .ctx = fake};
    atomic_init(&fake->boot_ms, 1000000);
    atomic_init(&fake->wall_ms, INT64_C(1735689600000));
}

void kb_fake_clock_move(kb_fake_clock *fake, int64_t ms)
{
    atomic_fetch_add(&fake->boot_ms, ms);
    atomic_fetch_add(&fake->wall_ms, ms);
}
