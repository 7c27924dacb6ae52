/* The checked entries, and copies of what calls carry. Everything that is true of all calls is done
 * here once. */
#include <rpc/rpc.h>
#include <stdlib.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/driver.h"

#define CALL(number, call, args, ret, flags, verb, since)                                          \
    static gboolean call##_args_codec (void *xdrs, void *data)                                     \
    {                                                                                              \
        return xdr_##args (xdrs, data);                                                            \
    }                                                                                              \
    static gboolean call##_ret_codec (void *xdrs, void *data)                                      \
    {                                                                                              \
        return xdr_##ret (xdrs, data);                                                             \
    }                                                                                              \
    static gboolean call##_enter (DriverConn *conn, const DriverCall *row, const void *a, void *r, \
                                  GError **error)                                                  \
    {                                                                                              \
        if (!row->conn.call)                                                                       \
            return error_set (error, BAK_ERROR_NOT_SUPPORTED,                                      \
                              _("the %s driver does not support %s"), conn->driver->name, #call); \
        return row->conn.call (conn, a, r, error);                                                 \
    }
#include "driver/calls.def"
#undef CALL

const CallRow call_rows[CALL_COUNT] = {
#define CALL(number, call, args, ret, flags, verb, since)                                          \
    { number,                                                                                      \
      #call,                                                                                       \
      flags,                                                                                       \
      verb,                                                                                        \
      since,                                                                                       \
      sizeof (args),                                                                               \
      sizeof (ret),                                                                                \
      call##_args_codec,                                                                           \
      call##_ret_codec,                                                                            \
      call##_enter },
#include "driver/calls.def"
#undef CALL
};

const CallRow *call_row_by_number (guint number)
{
    for (guint i = 0; i < CALL_COUNT; i++)
        if (call_rows[i].number == number)
            return &call_rows[i];
    return NULL;
}

const CallRow *call_row_by_name (const char *name)
{
    for (guint i = 0; i < CALL_COUNT; i++)
        if (g_str_equal (call_rows[i].name, name))
            return &call_rows[i];
    return NULL;
}

void driver_conn_set_events (DriverConn *conn, DriverEventFunc func, gpointer data)
{
    g_mutex_lock (&conn->event_lock);
    conn->event_func = func;
    conn->event_data = data;
    g_mutex_unlock (&conn->event_lock);
}

void driver_conn_emit (DriverConn *conn, const bak_event *event)
{
    g_mutex_lock (&conn->event_lock);
    if (conn->event_func)
        conn->event_func (conn, event, conn->event_data);
    g_mutex_unlock (&conn->event_lock);
}

/* LIBBACKUP_DEBUG=calls: whoever wants to see them need not know of GLib's G_MESSAGES_DEBUG. */
static GLogLevelFlags trace_level (void)
{
    static gsize level;
    if (g_once_init_enter (&level)) {
        gboolean wanted = g_strcmp0 (g_getenv ("LIBBACKUP_DEBUG"), "calls") == 0;
        g_once_init_leave (&level, wanted ? G_LOG_LEVEL_MESSAGE : G_LOG_LEVEL_DEBUG);
    }
    return level;
}

gboolean driver_fd_associate (DriverConn *conn, const bak_fds_args *args,
                              bak_none *ret G_GNUC_UNUSED, GError **error)
{
    if (!g_atomic_pointer_get (&conn->passed)) {
        Passed *made = passed_new ();
        if (!g_atomic_pointer_compare_and_exchange (&conn->passed, NULL, made))
            passed_unref (made);
    }
    return passed_put (conn->passed, args->domain, args->name, args->fds.fds_val, args->fds.fds_len,
                       error);
}

Passed *driver_passed (DriverConn *conn)
{
    Passed *others = passed_current ();
    return others ? others : g_atomic_pointer_get (&conn->passed);
}

void driver_close (DriverConn *conn)
{
    if (!conn)
        return;
    driver_conn_set_events (conn, NULL, NULL);
    if (conn->driver)
        conn->driver->close (conn);
    g_mutex_clear (&conn->event_lock);
    passed_unref (conn->passed);
    g_free (conn->uri);
    g_free (conn);
}

gboolean driver_call (DriverConn *conn, CallId id, const void *args, void *ret, GError **error)
{
    const CallRow *row = &call_rows[id];

    g_log (G_LOG_DOMAIN, trace_level (), "call %s on %s", row->name, conn->uri);
    if (conn->readonly && (row->flags & CALL_WRITE))
        return error_set (error, BAK_ERROR_ACCESS_DENIED,
                          _("%s is not possible on a read-only connection"), row->name);
    if (conn->driver->forward)
        return conn->driver->forward (conn, row, args, ret, error);
    const DriverCall *call = &conn->driver->calls[id];
    if (call->guest)
        return conn->driver->route (conn, id, args, ret, error);
    return row->enter (conn, call, args, ret, error);
}

gboolean driver_peek (DriverConn *conn, const char *domain, DriverPeek *ret)
{
    return conn->driver->peek && conn->driver->peek (conn, domain, ret);
}

void call_clear_ret (CallId id, void *ret)
{
    xdr_free ((xdrproc_t) call_rows[id].ret_codec, ret);
    memset (ret, 0, call_rows[id].ret_size);
}

void call_clear_args (CallId id, void *args)
{
    xdr_free ((xdrproc_t) call_rows[id].args_codec, args);
    memset (args, 0, call_rows[id].args_size);
}

char *ret_string (const char *text)
{
    char *copy = strdup (text ? text : "");
    if (!copy)
        g_error ("out of memory");
    return copy;
}

void *ret_array (gsize count, gsize size)
{
    void *array = count ? calloc (count, size) : NULL;
    if (count && !array)
        g_error ("out of memory");
    return array;
}

void bak_event_clear (bak_event *event)
{
    xdr_free ((xdrproc_t) xdr_bak_event, (char *) event);
    memset (event, 0, sizeof *event);
}

void bak_job_clear (bak_job *job)
{
    xdr_free ((xdrproc_t) xdr_bak_job, (char *) job);
    memset (job, 0, sizeof *job);
}

/* Through the codec, so that a field added to calls.x is never forgotten here. */
static gboolean copy_by_codec (xdrproc_t codec, const void *from, void *ret_copy, gsize size)
{
    XDR xdrs;
    u_long length = xdr_sizeof (codec, (void *) from);
    g_autofree char *buffer = g_malloc (length + 1);

    xdrmem_create (&xdrs, buffer, length, XDR_ENCODE);
    gboolean ok = codec (&xdrs, (void *) from);
    xdr_destroy (&xdrs);
    memset (ret_copy, 0, size);
    if (!ok)
        return FALSE;
    xdrmem_create (&xdrs, buffer, length, XDR_DECODE);
    ok = codec (&xdrs, ret_copy);
    xdr_destroy (&xdrs);
    if (!ok) {
        xdr_free (codec, (char *) ret_copy);
        memset (ret_copy, 0, size);
    }
    return ok;
}

static void copy_record (xdrproc_t codec, const void *from, void *ret_copy, gsize size)
{
    if (!copy_by_codec (codec, from, ret_copy, size))
        g_error ("a record exceeds the limits of calls.x");
}

gboolean call_copy_args (CallId id, const void *args, void *ret_copy)
{
    return copy_by_codec ((xdrproc_t) call_rows[id].args_codec, args, ret_copy,
                          call_rows[id].args_size);
}

void bak_job_copy (const bak_job *job, bak_job *ret_copy)
{
    copy_record ((xdrproc_t) xdr_bak_job, job, ret_copy, sizeof *ret_copy);
}

void bak_event_copy (const bak_event *event, bak_event *ret_copy)
{
    copy_record ((xdrproc_t) xdr_bak_event, event, ret_copy, sizeof *ret_copy);
}

static const char *const job_states[] = { "none",     "preparing", "running", "ready",
                                          "stopping", "completed", "failed",  "aborted" };

const char *job_state_to_string (int state)
{
    return state >= 0 && state < (int) G_N_ELEMENTS (job_states) ? job_states[state] : "unknown";
}

int job_state_from_string (const char *text)
{
    for (int i = 0; i < (int) G_N_ELEMENTS (job_states); i++)
        if (g_strcmp0 (text, job_states[i]) == 0)
            return i;
    return -1;
}
