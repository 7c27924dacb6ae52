#include "repository/cancellation.h"
#include "repository/work.h"

static void cancel (GCancellable *cancellable, gpointer control)
{
    mover_control_cancel (control);
}

void work_init (Work *work, guint64 limit, BakPointProgressFunc progress, void *opaque,
                BakCancellation *cancellation)
{
    *work = (Work){ .control = mover_control_new (),
                    .progress = progress,
                    .opaque = opaque,
                    .cancellation = cancellation,
                    .start = g_get_monotonic_time () };
    mover_control_set_limit (work->control, limit);
    if (cancellation)
        work->handler = g_cancellable_connect (cancellation->cancellable, G_CALLBACK (cancel),
                                               work->control, NULL);
}

void work_clear (Work *work)
{
    if (work->cancellation)
        g_cancellable_disconnect (work->cancellation->cancellable, work->handler);
    g_clear_pointer (&work->control, mover_control_unref);
}

void work_progress (guint64 done, guint64 total, gpointer data)
{
    Work *work = data;
    BakPointProgress progress = { .size = sizeof progress,
                                  .phase = work->phase,
                                  .disk = work->disk,
                                  .done = work->before + done,
                                  .total = work->total,
                                  .elapsed = g_get_monotonic_time () - work->start };

    if (work->progress)
        work->progress (&progress, work->opaque);
}

void work_begin_disk (Work *work, const char *phase, const char *disk)
{
    work->phase = phase;
    work->disk = disk;
    work_progress (0, 0, work);
}

void work_end_disk (Work *work, guint64 size)
{
    work->before += size;
}
