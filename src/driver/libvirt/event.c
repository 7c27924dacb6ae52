#include <glib-unix.h>
#include <libvirt/libvirt.h>
#include "driver/libvirt/event.h"

/* One handle or timeout of libvirt. Lives in its table until removed; the source keeps a reference
 * of its own. */
typedef struct {
    gint refs;
    int id;
    int fd;
    int events;   /* of a handle: VIR_EVENT_HANDLE_*, 0: idle */
    int interval; /* of a timeout: ms, -1: idle */
    virEventHandleCallback on_handle;
    virEventTimeoutCallback on_timeout;
    void *opaque;
    virFreeCallback free_opaque;
    GSource *source; /* NULL while idle */
} Watch;

static GMainContext *context;
static GMutex lock;
static GHashTable *watches; /* id -> Watch*, under lock */
static int last_id;

static void watch_unref (gpointer data)
{
    Watch *watch = data;
    if (!g_atomic_int_dec_and_test (&watch->refs))
        return;
    if (watch->free_opaque)
        watch->free_opaque (watch->opaque);
    g_free (watch);
}

static Watch *watch_ref (Watch *watch)
{
    g_atomic_int_inc (&watch->refs);
    return watch;
}

static gboolean dispatch_handle (int fd, GIOCondition condition, gpointer data)
{
    Watch *watch = data;
    int events = 0;
    if (condition & G_IO_IN)
        events |= VIR_EVENT_HANDLE_READABLE;
    if (condition & G_IO_OUT)
        events |= VIR_EVENT_HANDLE_WRITABLE;
    if (condition & G_IO_ERR)
        events |= VIR_EVENT_HANDLE_ERROR;
    if (condition & (G_IO_HUP | G_IO_NVAL))
        events |= VIR_EVENT_HANDLE_HANGUP;
    watch->on_handle (watch->id, fd, events, watch->opaque);
    return G_SOURCE_CONTINUE;
}

static gboolean dispatch_timeout (gpointer data)
{
    Watch *watch = data;
    watch->on_timeout (watch->id, watch->opaque);
    return G_SOURCE_CONTINUE;
}

/* lock is held. Gives the watch a source that fits what it now waits for. */
static void watch_arm (Watch *watch)
{
    if (watch->source) {
        g_source_destroy (watch->source);
        g_source_unref (watch->source);
        watch->source = NULL;
    }
    if (watch->on_handle && watch->events) {
        GIOCondition condition = G_IO_ERR | G_IO_HUP;
        if (watch->events & VIR_EVENT_HANDLE_READABLE)
            condition |= G_IO_IN;
        if (watch->events & VIR_EVENT_HANDLE_WRITABLE)
            condition |= G_IO_OUT;
        watch->source = g_unix_fd_source_new (watch->fd, condition);
        g_source_set_callback (watch->source, G_SOURCE_FUNC (dispatch_handle), watch_ref (watch),
                               watch_unref);
    } else if (watch->on_timeout && watch->interval >= 0) {
        watch->source = g_timeout_source_new (watch->interval);
        g_source_set_callback (watch->source, dispatch_timeout, watch_ref (watch), watch_unref);
    }
    if (watch->source)
        g_source_attach (watch->source, context);
}

static int watch_add (const Watch *like)
{
    Watch *watch = g_new (Watch, 1);
    *watch = *like;
    watch->refs = 1;
    g_mutex_lock (&lock);
    int id = watch->id = ++last_id;
    g_hash_table_insert (watches, GINT_TO_POINTER (id), watch);
    watch_arm (watch);
    g_mutex_unlock (&lock);
    return id;
}

static gboolean release_later (gpointer data)
{
    return G_SOURCE_REMOVE;
}

/* libvirt may hold its own locks while it removes a watch: what frees its data runs later, on the
 * loop. */
static int watch_remove (int id)
{
    g_mutex_lock (&lock);
    Watch *watch = g_hash_table_lookup (watches, GINT_TO_POINTER (id));
    if (watch) {
        g_hash_table_steal (watches, GINT_TO_POINTER (id));
        watch->events = 0;
        watch->interval = -1;
        watch_arm (watch);
        GSource *later = g_idle_source_new ();
        /* the table's reference */
        g_source_set_callback (later, release_later, watch, watch_unref);
        g_source_attach (later, context);
        g_source_unref (later);
    }
    g_mutex_unlock (&lock);
    return watch ? 0 : -1;
}

static int add_handle (int fd, int events, virEventHandleCallback callback, void *opaque,
                       virFreeCallback free_opaque)
{
    return watch_add (&(Watch){ .fd = fd,
                                .events = events,
                                .on_handle = callback,
                                .opaque = opaque,
                                .free_opaque = free_opaque });
}

static void update_handle (int id, int events)
{
    g_mutex_lock (&lock);
    Watch *watch = g_hash_table_lookup (watches, GINT_TO_POINTER (id));
    if (watch && watch->events != events) {
        watch->events = events;
        watch_arm (watch);
    }
    g_mutex_unlock (&lock);
}

static int add_timeout (int interval, virEventTimeoutCallback callback, void *opaque,
                        virFreeCallback free_opaque)
{
    return watch_add (&(Watch){ .fd = -1,
                                .interval = interval,
                                .on_timeout = callback,
                                .opaque = opaque,
                                .free_opaque = free_opaque });
}

static void update_timeout (int id, int interval)
{
    g_mutex_lock (&lock);
    Watch *watch = g_hash_table_lookup (watches, GINT_TO_POINTER (id));
    if (watch) {
        watch->interval = interval;
        watch_arm (watch);
    }
    g_mutex_unlock (&lock);
}

static gpointer run (gpointer data)
{
    g_main_context_push_thread_default (context);
    for (;;)
        g_main_context_iteration (context, TRUE);
    return NULL;
}

void lv_event_init (void)
{
    static gsize done;
    if (!g_once_init_enter (&done))
        return;
    context = g_main_context_new ();
    watches = g_hash_table_new (NULL, NULL);
    virEventRegisterImpl (add_handle, update_handle, watch_remove, add_timeout, update_timeout,
                          watch_remove);
    g_thread_unref (g_thread_new ("libvirt-events", run, NULL));
    g_once_init_leave (&done, 1);
}
