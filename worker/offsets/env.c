#include "worker/offsets/env.h"

#include "common/base/clock.h"

kb_kafka_call kb_offsets_call(const kb_offsets_env *env)
{
    return (kb_kafka_call){.deadline_ms = kb_clock_boot_ms() + KB_OFFSETS_CALL_MS,
                           .unknown_wait_ms = KB_OFFSETS_UNKNOWN_MS,
                           .stop = env->stop};
}

kb_groups_call kb_offsets_groups_call(const kb_offsets_env *env)
{
    return (kb_groups_call){.base = kb_offsets_call(env), .parallelism = env->parallelism};
}
