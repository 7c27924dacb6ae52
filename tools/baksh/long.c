#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "long.h"

enum { BAR_WIDTH = 30, LINE_INTERVAL_US = 1000000, BAR_INTERVAL_US = 200000 };

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

/* "read, 42.0 %, 4.2 GiB of 10 GiB, 105 MiB/s, 57 s left". Caller frees. */
static char *describe (const LongCall *call)
{
    guint64 done = call->progress.done, total = call->progress.total;
    if (!total)
        return g_strdup (call->phase);
    guint64 rate = call->progress.elapsed ? done * 1e6 / call->progress.elapsed : 0;
    g_autofree char *amount = format_size (done), *all = format_size (total),
                    *speed = format_size (rate);
    g_autoptr (GString) text = g_string_new (call->phase);
    g_string_append_printf (text, _(", %.1f %%, %s of %s, %s/s"), MIN (99.9, done * 100.0 / total),
                            amount, all, speed);
    if (rate && done < total) {
        g_autofree char *left = format_seconds ((guint64) ((total - done) / (double) rate * 1e6));
        g_string_append_printf (text, _(", %s left"), left);
    }
    return g_strdup (text->str);
}

static int terminal_width (void)
{
    struct winsize size;
    return ioctl (STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

static void show_bar (const LongCall *call, const char *text)
{
    guint64 total = call->progress.total;
    int full = total ? (int) (MIN (call->progress.done, total) / (double) total * BAR_WIDTH) : 0;
    char bar[BAR_WIDTH + 1];
    memset (bar, '-', BAR_WIDTH);
    memset (bar, '#', full);
    bar[BAR_WIDTH] = '\0';
    g_autofree char *line = g_strdup_printf ("[%s] %s", bar, text);
    g_autofree char *cut =
        g_utf8_substring (line, 0, MIN (g_utf8_strlen (line, -1), terminal_width () - 1));
    fprintf (stderr, "\r%s\033[K", cut);
    fflush (stderr);
}

static void show (LongCall *call, gboolean terminal)
{
    g_mutex_lock (&call->lock);
    if (call->known) {
        g_autofree char *text = describe (call), *shown = clean (text);
        if (terminal)
            show_bar (call, shown);
        else
            fprintf (stderr, "%s\n", shown);
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

gboolean long_run (LongFunc function, gpointer data, gboolean shown)
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
            show (&call, terminal);
        }
    }
    g_thread_join (thread);
    interrupt_await (FALSE);
    if (terminal && shown && call.known)
        fprintf (stderr, "\r\033[K");
    close (call.ended[0]);
    g_mutex_clear (&call.lock);
    bak_cancellation_unref (call.cancellation);
    return interrupted;
}
