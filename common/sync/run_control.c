#include "common/sync/run_control.h"

void kb_run_control_init(kb_run_control *control, kb_stop *stop)
{
    *control = (kb_run_control){.stop = stop};
    pthread_mutex_init(&control->mutex, NULL);
}

void kb_run_control_done(kb_run_control *control)
{
    kb_error_done(&control->locked.run);
    kb_error_done(&control->locked.partition);
    pthread_mutex_destroy(&control->mutex);
}

static void keep_first(kb_run_control *control, kb_error *slot, kb_error *err)
{
    pthread_mutex_lock(&control->mutex);
    if (slot->code == KB_OK)
        kb_error_move(slot, err);
    pthread_mutex_unlock(&control->mutex);
    kb_error_done(err);
}

void kb_run_fail(kb_run_control *control, kb_error *err)
{
    keep_first(control, &control->locked.run, err);
    atomic_store(&control->cancelled, true);
}

void kb_run_fail_partition(kb_run_control *control, kb_error *err)
{
    keep_first(control, &control->locked.partition, err);
}

kb_code kb_run_take_error(kb_run_control *control, kb_error *err)
{
    pthread_mutex_lock(&control->mutex);
    kb_error *first = control->locked.run.code != KB_OK ? &control->locked.run : &control->locked.partition;
    kb_code code = first->code;
    if (code != KB_OK)
        kb_error_move(err, first);
    pthread_mutex_unlock(&control->mutex);
    return code;
}
