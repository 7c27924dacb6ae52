#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "long.h"
#include "progress.h"

enum { LINE_INTERVAL_US = 1000000, BAR_INTERVAL_US = 200000 };

struct _LongCall {
    LongFunc function;
    gpointer data;
    BakCancellation *cancellation;
    int ended[2]; /* a pipe: closed at the end of the thread */
    GMutex lock;
    gboolean known; /* there has been progress */
    char phase[32], disk[64];
    BakPointProgress progress; /* its texts are the two above */
};

BakCancellation *long_cancellation (LongCall *call)
{
    return call->cancellation;
}

void long_progress (const BakPointProgress *progress, void *opaque)
{
    LongCall *call = opaque;
    g_mutex_lock (&call->lock);
    call->known = TRUE;
    call->progress = *progress;
    g_strlcpy (call->phase, progress->phase ? progress->phase : "", sizeof call->phase);
    g_strlcpy (call->disk, progress->disk ? progress->disk : "", sizeof call->disk);
    g_mutex_unlock (&call->lock);
}

static void show (LongCall *call, const char *name, gboolean terminal)
{
    g_mutex_lock (&call->lock);
    if (call->known) {
        const BakPointProgress *now = &call->progress;
        double rate = now->elapsed ? now->done * 1e6 / now->elapsed : 0;
        const ProgressView view = { name, call->phase, now->done, now->total, rate };
        progress_show (&view, terminal);
    }
    g_mutex_unlock (&call->lock);
}

static gpointer run_function (gpointer data)
{
    LongCall *call = data;
    call->function (call, call->data);
    close (call->ended[1]);
    return NULL;
}

gboolean long_run (LongFunc function, gpointer data, const char *name, gboolean shown)
{
    LongCall call = { .function = function, .data = data, .cancellation = bak_cancellation_new () };
    gboolean terminal = isatty (STDERR_FILENO), interrupted = FALSE;
    gint64 interval = terminal ? BAR_INTERVAL_US : LINE_INTERVAL_US;
    g_mutex_init (&call.lock);
    if (pipe (call.ended) != 0)
        g_error ("pipe: %s", strerror (errno));
    interrupt_await (TRUE);
    GThread *thread = g_thread_new ("long-call", run_function, &call);
    for (;;) {
        PollResult result = interrupt_poll (call.ended[0], interval);
        if (result == POLL_READABLE)
            break;
        if (result == POLL_INTERRUPT) {
            interrupted = TRUE;
            bak_cancellation_cancel (call.cancellation);
            interrupt_await (TRUE); /* counts from 0 again */
        } else if (shown) {
            show (&call, name, terminal);
        }
    }
    g_thread_join (thread);
    interrupt_await (FALSE);
    progress_clear (terminal && shown && call.known);
    close (call.ended[0]);
    g_mutex_clear (&call.lock);
    bak_cancellation_unref (call.cancellation);
    return interrupted;
}
