/* What the library says about its own work, for a program that keeps its log itself.
 *
 * GLib hands a message out in the middle of the call that says it, where locks may be held and
 * where to say something more is fatal. So a thread of its own calls the program back; it starts
 * with the callback and ends with it. */
#include "api/api.h"

enum { LINES_MAX = 4096 };

typedef struct {
    BakLogLevel level;
    char *text; /* NULL: there will be no more */
} Line;

typedef struct {
    BakLogLevel level; /* the least that is wanted */
    BakLogCallback callback;
    void *opaque;
    BakFreeCallback free_opaque;
    GAsyncQueue *lines; /* Line*; those that nobody has taken when it is full are lost */
    gint lost;          /* atomic */
} Listener;

static GMutex lock; /* of both */
static Listener *the_listener;
static guint handler;

static void push (Listener *listener, BakLogLevel level, char *text)
{
    Line *line = g_new (Line, 1);
    *line = (Line){ .level = level, .text = text };
    g_async_queue_push (listener->lines, line);
}

static void line_free (Line *line)
{
    g_free (line->text);
    g_free (line);
}

static void tell_loss (Listener *listener)
{
    gint lost = g_atomic_int_exchange (&listener->lost, 0);
    if (lost == 0)
        return;
    g_autofree char *text = g_strdup_printf (
        ngettext ("%d line of the log was lost: the program takes them too slowly",
                  "%d lines of the log were lost: the program takes them too slowly", lost),
        lost);
    listener->callback (BAK_LOG_WARNING, text, listener->opaque);
}

static gpointer run_listener (gpointer data)
{
    Listener *listener = data;
    Line *line;
    while ((line = g_async_queue_pop (listener->lines))->text) {
        listener->callback (line->level, line->text, listener->opaque);
        line_free (line);
        tell_loss (listener);
    }
    line_free (line);
    if (listener->free_opaque)
        listener->free_opaque (listener->opaque);
    g_async_queue_unref (listener->lines);
    g_free (listener);
    return NULL;
}

static BakLogLevel level_of (GLogLevelFlags flags)
{
    static const struct {
        GLogLevelFlags flag;
        BakLogLevel level;
    } levels[] = { { G_LOG_LEVEL_DEBUG, BAK_LOG_DEBUG },
                   { G_LOG_LEVEL_INFO, BAK_LOG_INFO },
                   { G_LOG_LEVEL_MESSAGE, BAK_LOG_MESSAGE },
                   { G_LOG_LEVEL_WARNING, BAK_LOG_WARNING } };
    for (guint i = 0; i < G_N_ELEMENTS (levels); i++)
        if (flags & levels[i].flag)
            return levels[i].level;
    return BAK_LOG_ERROR;
}

/* A message that ends the process goes the old way too: no thread would come to it. */
static void handle (const char *domain, GLogLevelFlags flags, const char *message, gpointer data)
{
    BakLogLevel level = level_of (flags);
    g_mutex_lock (&lock);
    Listener *listener = the_listener;
    if (listener && level >= listener->level) {
        if (g_async_queue_length (listener->lines) < LINES_MAX)
            push (listener, level, g_strdup (message));
        else
            g_atomic_int_inc (&listener->lost);
    }
    g_mutex_unlock (&lock);
    if (!listener || (flags & G_LOG_FLAG_FATAL))
        g_log_default_handler (domain, flags, message, data);
}

static Listener *listener_new (BakLogLevel level, BakLogCallback callback, void *opaque,
                               BakFreeCallback free_callback)
{
    Listener *listener = g_new0 (Listener, 1);
    listener->level = level;
    listener->callback = callback;
    listener->opaque = opaque;
    listener->free_opaque = free_callback;
    listener->lines = g_async_queue_new ();
    g_thread_unref (g_thread_new ("bak-log", run_listener, listener));
    return listener;
}

/* The handler stays once it is there: GLib does not say when the last call of one has returned. */
void bak_log_set_callback (BakLogLevel level, BakLogCallback callback, void *opaque,
                           BakFreeCallback free_callback)
{
    Listener *listener = callback ? listener_new (level, callback, opaque, free_callback) : NULL;
    g_mutex_lock (&lock);
    Listener *before = the_listener;
    the_listener = listener;
    if (!handler)
        handler = g_log_set_handler (
            G_LOG_DOMAIN, G_LOG_LEVEL_MASK | G_LOG_FLAG_FATAL | G_LOG_FLAG_RECURSION, handle, NULL);
    if (before)
        push (before, BAK_LOG_ERROR, NULL);
    g_mutex_unlock (&lock);
}
