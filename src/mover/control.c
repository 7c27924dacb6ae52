#include <errno.h>
#include <unistd.h>
#include "mover/control.h"

/* What may be saved up for later, as a part of a second's worth. */
enum { BURST_PART = 8, SECOND = G_USEC_PER_SEC };

typedef struct {
    int stop_fd, wake_fd;
} Watch;

struct MoverControl {
    gint refs;
    gint cancelled;
    GMutex lock;
    GArray *watches; /* Watch */
    guint64 limit;   /* bytes a second; 0: none */
    gint64 free_at;  /* when all that was taken has been paid for */
};

MoverControl *mover_control_new (void)
{
    MoverControl *control = g_new0 (MoverControl, 1);

    control->refs = 1;
    g_mutex_init (&control->lock);
    control->watches = g_array_new (FALSE, FALSE, sizeof (Watch));
    return control;
}

MoverControl *mover_control_ref (MoverControl *control)
{
    if (control)
        g_atomic_int_inc (&control->refs);
    return control;
}

void mover_control_unref (MoverControl *control)
{
    if (!control || !g_atomic_int_dec_and_test (&control->refs))
        return;
    g_array_unref (control->watches);
    g_mutex_clear (&control->lock);
    g_free (control);
}

void mover_wake (int fd)
{
    const guint64 one = 1;

    while (write (fd, &one, sizeof one) < 0 && errno == EINTR)
        continue;
}

void mover_control_cancel (MoverControl *control)
{
    g_mutex_lock (&control->lock);
    g_atomic_int_set (&control->cancelled, TRUE);
    for (guint i = 0; i < control->watches->len; i++)
        mover_wake (g_array_index (control->watches, Watch, i).stop_fd);
    g_mutex_unlock (&control->lock);
}

gboolean mover_control_cancelled (MoverControl *control)
{
    return control && g_atomic_int_get (&control->cancelled);
}

void mover_control_set_limit (MoverControl *control, guint64 bytes_per_second)
{
    g_mutex_lock (&control->lock);
    control->limit = bytes_per_second;
    control->free_at = 0;
    for (guint i = 0; i < control->watches->len; i++)
        mover_wake (g_array_index (control->watches, Watch, i).wake_fd);
    g_mutex_unlock (&control->lock);
}

void mover_control_watch (MoverControl *control, int stop_fd, int wake_fd)
{
    Watch watch = { stop_fd, wake_fd };

    if (!control)
        return;
    g_mutex_lock (&control->lock);
    g_array_append_val (control->watches, watch);
    if (g_atomic_int_get (&control->cancelled))
        mover_wake (stop_fd);
    g_mutex_unlock (&control->lock);
}

void mover_control_unwatch (MoverControl *control, int stop_fd)
{
    if (!control)
        return;
    g_mutex_lock (&control->lock);
    for (guint i = control->watches->len; i-- > 0;)
        if (g_array_index (control->watches, Watch, i).stop_fd == stop_fd)
            g_array_remove_index_fast (control->watches, i);
    g_mutex_unlock (&control->lock);
}

gint64 mover_control_take (MoverControl *control, guint64 bytes)
{
    gint64 now = g_get_monotonic_time (), wait = 0;

    if (!control)
        return 0;
    g_mutex_lock (&control->lock);
    if (control->limit > 0) {
        gint64 earliest = now - SECOND / BURST_PART;
        control->free_at = MAX (control->free_at, earliest);
        if (control->free_at > now)
            wait = control->free_at - now;
        else
            control->free_at += (gint64) ((double) bytes / control->limit * SECOND);
    }
    g_mutex_unlock (&control->lock);
    return wait;
}
