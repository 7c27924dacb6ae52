#include <signal.h>
#include <glib-unix.h>
#include "libbackupd.h"

static gboolean on_end (gpointer data)
{
    g_main_loop_quit (((Signals *) data)->loop);
    return G_SOURCE_CONTINUE;
}

static gboolean on_hangup (gpointer data)
{
    Signals *signals = data;
    if (signals->hangup)
        signals->hangup (signals->data);
    return G_SOURCE_CONTINUE;
}

void signals_watch (Signals *signals)
{
    g_unix_signal_add (SIGTERM, on_end, signals);
    g_unix_signal_add (SIGINT, on_end, signals);
    g_unix_signal_add (SIGHUP, on_hangup, signals);
}
