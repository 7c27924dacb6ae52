/* Events on their way from the driver to callbacks.
 *
 * The driver calls event_hub_take() on any thread; the event is copied into a queue. It is taken
 * out on the hub's own thread, which starts with the first registration, or in
 * bak_connection_dispatch() once somebody asked for the fd. The hub outlives the connection for as
 * long as its thread still runs. */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "api/api.h"

#define QUEUE_MAX 16384

struct BakEvent {
    bak_event data;
};

typedef struct {
    gatomicrefcount refs;
    int id, kind;
    char *domain; /* NULL: all */
    BakEventCallback callback;
    void *opaque;
    BakFreeCallback free_opaque;
    gint dead; /* atomic */
} Registration;

struct _EventHub {
    gatomicrefcount refs;
    GMutex lock; /* of all below */
    GCond wake;
    BakConnection *conn; /* weak; NULL once closed */
    GQueue queue;        /* BakEvent* */
    guint lost;
    GPtrArray *registrations;
    int next_id;
    int fd;               /* -1: the hub's thread dispatches */
    GThread *thread;      /* NULL: not started */
    GMutex register_lock; /* held over calls of the driver; taken before lock */
    int driver_id;        /* -1: the driver sends nothing */
};

static void registration_unref (gpointer data)
{
    Registration *registration = data;
    if (!g_atomic_ref_count_dec (&registration->refs))
        return;
    if (registration->free_opaque)
        registration->free_opaque (registration->opaque);
    g_free (registration->domain);
    g_free (registration);
}

static void event_free (BakEvent *event)
{
    bak_event_clear (&event->data);
    g_free (event);
}

EventHub *event_hub_new (BakConnection *conn)
{
    EventHub *hub = g_new0 (EventHub, 1);
    g_atomic_ref_count_init (&hub->refs);
    g_mutex_init (&hub->lock);
    g_mutex_init (&hub->register_lock);
    g_cond_init (&hub->wake);
    g_queue_init (&hub->queue);
    hub->conn = conn;
    hub->registrations = g_ptr_array_new_with_free_func (registration_unref);
    hub->next_id = 1;
    hub->fd = hub->driver_id = -1;
    return hub;
}

static void event_hub_unref (EventHub *hub)
{
    if (!g_atomic_ref_count_dec (&hub->refs))
        return;
    g_queue_clear_full (&hub->queue, (GDestroyNotify) event_free);
    g_ptr_array_unref (hub->registrations);
    if (hub->fd >= 0)
        close (hub->fd);
    g_cond_clear (&hub->wake);
    g_mutex_clear (&hub->lock);
    g_mutex_clear (&hub->register_lock);
    g_free (hub);
}

void event_hub_close (EventHub *hub)
{
    g_mutex_lock (&hub->lock);
    hub->conn = NULL;
    GThread *thread = g_steal_pointer (&hub->thread);
    g_cond_signal (&hub->wake);
    g_mutex_unlock (&hub->lock);
    if (thread && thread != g_thread_self ())
        g_thread_join (thread);
    else if (thread)
        g_thread_unref (thread);
    event_hub_unref (hub);
}

/* A reader that is too slow loses progress first, then the oldest, and is told how much. */
static void make_room (EventHub *hub)
{
    if (hub->queue.length < QUEUE_MAX)
        return;
    GList *victim = hub->queue.head;
    for (GList *item = victim; item; item = item->next)
        if (((BakEvent *) item->data)->data.kind == EVENT_PROGRESS) {
            victim = item;
            break;
        }
    hub->lost += ((BakEvent *) victim->data)->data.kind != EVENT_PROGRESS;
    event_free (victim->data);
    g_queue_delete_link (&hub->queue, victim);
}

static void announce (EventHub *hub)
{
    if (hub->fd >= 0)
        eventfd_write (hub->fd, 1);
    else
        g_cond_signal (&hub->wake);
}

void event_hub_take (DriverConn *driver, const bak_event *event, gpointer data)
{
    EventHub *hub = data;
    g_mutex_lock (&hub->lock);
    if (hub->registrations->len) {
        BakEvent *copy = g_new0 (BakEvent, 1);
        bak_event_copy (event, &copy->data);
        make_room (hub);
        g_queue_push_tail (&hub->queue, copy);
        announce (hub);
    }
    g_mutex_unlock (&hub->lock);
}

/* What is about no guest is for all who may wait for one: they would wait for ever. */
static gboolean wants (const Registration *registration, const bak_event *event)
{
    if (event->kind == EVENT_CONNECTION)
        return TRUE;
    return (registration->kind == BAK_DOMAIN_EVENT_ID_ANY || registration->kind == event->kind)
           && (!registration->domain || !*event->domain
               || g_str_equal (registration->domain, event->domain));
}

/* Called without the lock. */
static void deliver (BakConnection *conn, const BakEvent *event, GPtrArray *receivers)
{
    for (guint i = 0; i < receivers->len; i++) {
        Registration *registration = receivers->pdata[i];
        gboolean own = !*event->data.domain && registration->domain;
        bak_domain_item item = { .name = own ? registration->domain : event->data.domain,
                                 .uuid = event->data.uuid,
                                 .id = -1 };
        BakDomain *domain = domain_new (conn, &item);
        if (!g_atomic_int_get (&registration->dead))
            registration->callback (conn, domain, event, registration->opaque);
        bak_domain_unref (domain);
    }
}

static BakEvent *loss_warning (guint lost)
{
    g_autofree char *text =
        g_strdup_printf (ngettext ("%u event was lost: the program takes them too slowly",
                                   "%u events were lost: the program takes them too slowly", lost),
                         lost);
    BakEvent *event = g_new0 (BakEvent, 1);
    bak_event warning = { .kind = EVENT_WARNING,
                          .domain = (char *) "",
                          .uuid = (char *) "",
                          .job = (char *) "",
                          .disk = (char *) "",
                          .text = text,
                          .when = g_get_real_time () };
    bak_event_copy (&warning, &event->data);
    return event;
}

/* Takes the lock, gives it back before the callbacks and returns without it; FALSE: nothing waits.
 */
static gboolean dispatch_one (EventHub *hub, BakConnection *conn)
{
    g_mutex_lock (&hub->lock);
    BakEvent *event = hub->lost ? loss_warning (hub->lost) : g_queue_pop_head (&hub->queue);
    hub->lost = 0;
    g_autoptr (GPtrArray) receivers = g_ptr_array_new_with_free_func (registration_unref);
    for (guint i = 0; event && i < hub->registrations->len; i++) {
        Registration *registration = hub->registrations->pdata[i];
        if (wants (registration, &event->data)) {
            g_atomic_ref_count_inc (&registration->refs);
            g_ptr_array_add (receivers, registration);
        }
    }
    g_mutex_unlock (&hub->lock);
    if (!event)
        return FALSE;
    deliver (conn, event, receivers);
    event_free (event);
    return TRUE;
}

static gboolean thread_may_dispatch (EventHub *hub)
{
    return hub->conn && hub->fd < 0;
}

static gpointer hub_thread (gpointer data)
{
    EventHub *hub = data;
    for (;;) {
        g_mutex_lock (&hub->lock);
        while (thread_may_dispatch (hub) && !hub->queue.length && !hub->lost)
            g_cond_wait (&hub->wake, &hub->lock);
        BakConnection *conn = thread_may_dispatch (hub) ? connection_try_ref (hub->conn) : NULL;
        g_mutex_unlock (&hub->lock);
        if (!conn)
            break;
        dispatch_one (hub, conn);
        bak_connection_unref (conn);
    }
    event_hub_unref (hub);
    return NULL;
}

/* One registration with the driver serves all of ours; they are told apart here. */
static gboolean driver_start (BakConnection *conn, BakError **error)
{
    if (conn->events->driver_id >= 0)
        return TRUE;
    bak_register_args args = { .kind = BAK_DOMAIN_EVENT_ID_ANY, .domain = (char *) "" };
    g_autoptr (Result) result = result_call (conn, CALL_ID_event_register, &args, error);
    if (result)
        conn->events->driver_id = MAX (0, ((bak_register_ret *) result->ret)->id);
    return result != NULL;
}

static void driver_stop (BakConnection *conn)
{
    bak_deregister_args args = { .id = conn->events->driver_id };
    conn->events->driver_id = -1;
    BakError *ignored = NULL; /* it only saves traffic */
    if (api_call (conn, CALL_ID_event_deregister, &args, &ignored) < 0)
        bak_error_unref (ignored);
}

static Registration *registration_steal (EventHub *hub, int id, gboolean *ret_last)
{
    Registration *found = NULL;
    g_mutex_lock (&hub->lock);
    for (guint i = 0; !found && i < hub->registrations->len; i++)
        if (((Registration *) hub->registrations->pdata[i])->id == id)
            found = g_ptr_array_steal_index (hub->registrations, i);
    *ret_last = hub->registrations->len == 0;
    g_mutex_unlock (&hub->lock);
    return found;
}

static int registration_add (EventHub *hub, Registration *registration)
{
    g_mutex_lock (&hub->lock);
    int id = registration->id = hub->next_id++;
    g_ptr_array_add (hub->registrations, registration);
    if (hub->fd < 0 && !hub->thread) {
        g_atomic_ref_count_inc (&hub->refs);
        hub->thread = g_thread_new ("bak-events", hub_thread, hub);
    }
    g_mutex_unlock (&hub->lock);
    return id;
}

/* Ready to take before the driver begins to send, so that nothing falls between. */
static int registration_begin (BakConnection *conn, Registration *registration, BakError **error)
{
    gboolean last;
    g_mutex_lock (&conn->events->register_lock);
    int id = registration_add (conn->events, registration);
    if (!driver_start (conn, error)) {
        registration_steal (conn->events, id, &last);
        g_atomic_int_set (&registration->dead, TRUE);
        registration->free_opaque = NULL; /* it stays the caller's */
        registration_unref (registration);
        id = -1;
    }
    g_mutex_unlock (&conn->events->register_lock);
    return id;
}

int bak_connection_domain_event_register_any (BakConnection *conn, BakDomain *domain, int event_id,
                                              BakEventCallback callback, void *opaque,
                                              BakFreeCallback free_callback, BakError **error)
{
    API_NOT_NULL (conn, error, -1);
    API_NOT_NULL (callback, error, -1);
    if (event_id < BAK_DOMAIN_EVENT_ID_ANY || event_id >= EVENT_KINDS) {
        api_set_error (error, BAK_ERROR_INVALID_ARGUMENT, _("unknown event id %d"), event_id);
        return -1;
    }
    Registration *registration = g_new0 (Registration, 1);
    g_atomic_ref_count_init (&registration->refs);
    registration->kind = event_id;
    registration->domain = domain ? g_strdup (domain->name) : NULL;
    registration->callback = callback;
    registration->opaque = opaque;
    registration->free_opaque = free_callback;
    return registration_begin (conn, registration, error);
}

int bak_connection_domain_event_deregister_any (BakConnection *conn, int callback_id,
                                                BakError **error)
{
    API_NOT_NULL (conn, error, -1);
    gboolean last;
    g_mutex_lock (&conn->events->register_lock);
    Registration *registration = registration_steal (conn->events, callback_id, &last);
    if (registration && last)
        driver_stop (conn);
    g_mutex_unlock (&conn->events->register_lock);
    if (!registration) {
        api_set_error (error, BAK_ERROR_INVALID_ARGUMENT, _("no event callback has the number %d"),
                       callback_id);
        return -1;
    }
    g_atomic_int_set (&registration->dead, TRUE);
    registration_unref (registration);
    return 0;
}

int bak_connection_get_fd (BakConnection *conn, BakError **error)
{
    API_NOT_NULL (conn, error, -1);
    EventHub *hub = conn->events;
    g_mutex_lock (&hub->lock);
    if (hub->fd < 0) {
        hub->fd = eventfd (hub->queue.length || hub->lost, EFD_CLOEXEC | EFD_NONBLOCK);
        g_cond_signal (&hub->wake); /* the thread, if there is one, ends */
    }
    int fd = hub->fd, saved = errno;
    g_mutex_unlock (&hub->lock);
    if (fd < 0)
        api_set_error (error, BAK_ERROR_IO, "eventfd: %s", g_strerror (saved));
    return fd;
}

int bak_connection_dispatch (BakConnection *conn, BakError **error)
{
    API_NOT_NULL (conn, error, -1);
    EventHub *hub = conn->events;
    g_mutex_lock (&hub->lock);
    int fd = hub->fd;
    g_mutex_unlock (&hub->lock);
    if (fd < 0) {
        api_set_error (error, BAK_ERROR_INVALID_ARGUMENT,
                       _("%s needs bak_connection_get_fd() first"), __func__);
        return -1;
    }
    eventfd_t count;
    eventfd_read (fd, &count);
    bak_connection_ref (conn); /* a callback may drop the caller's */
    int n = 0;
    while (dispatch_one (hub, conn))
        n++;
    bak_connection_unref (conn);
    return n;
}

#define EVENT_TEXT(function, field)                                                                \
    const char *function (const BakEvent *event)                                                   \
    {                                                                                              \
        return event ? api_absent_is_null (event->data.field) : NULL;                              \
    }
#define EVENT_NUMBER(type, function, field)                                                        \
    type function (const BakEvent *event)                                                          \
    {                                                                                              \
        return event ? (type) event->data.field : 0;                                               \
    }

EVENT_NUMBER (BakEventId, bak_event_get_id, kind)
EVENT_TEXT (bak_event_get_domain_name, domain)
EVENT_TEXT (bak_event_get_domain_uuid, uuid)
EVENT_TEXT (bak_event_get_job, job)
EVENT_TEXT (bak_event_get_disk, disk)
EVENT_NUMBER (int, bak_event_get_state, state)
EVENT_NUMBER (int, bak_event_get_detail, detail)
EVENT_TEXT (bak_event_get_text, text)
EVENT_NUMBER (unsigned long long, bak_event_get_bytes, bytes)
EVENT_NUMBER (unsigned long long, bak_event_get_total, total)
EVENT_NUMBER (unsigned long long, bak_event_get_rate, rate)
EVENT_NUMBER (long long, bak_event_get_time, when)
