/* The registry of drivers and the checked entries. Everything that is true of all calls is done here once. */
#include <rpc/rpc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <gmodule.h>
#include "driver/driver.h"
#include "remote/find.h"
#include "util/config.h"
#include "util/files.h"

#define CALL(number, call, args, ret, flags, verb, since)                                                    \
    static gboolean call##_args_codec (void *xdrs, void *data) { return xdr_##args (xdrs, data); }           \
    static gboolean call##_ret_codec (void *xdrs, void *data) { return xdr_##ret (xdrs, data); }             \
    static gboolean call##_enter (DriverConn *conn, const void *a, void *r, GError **error)                  \
    {                                                                                                        \
        if (!conn->driver->call)                                                                             \
            return error_set (error, BAK_ERROR_NOT_SUPPORTED,                                                \
                              _("the %s driver does not support %s"), conn->driver->name, #call);            \
        return conn->driver->call (conn, a, r, error);                                                       \
    }
#include "driver/calls.def"
#undef CALL

const CallRow call_rows[CALL_COUNT] = {
#define CALL(number, call, args, ret, flags, verb, since)                                                    \
    { number, #call, flags, verb, since, sizeof (args), sizeof (ret), call##_args_codec, call##_ret_codec, call##_enter },
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

static const DriverOps *const drivers[] = { &qemu_driver, &test_driver, &remote_driver };
static const DriverOps *first_driver;           /* asked before the others; NULL */

void driver_set_first (const DriverOps *driver)
{
    first_driver = driver;
}

/* Drivers that need a library of their own are modules, loaded when a URI asks for them. */
static const DriverOps *driver_load_module (const char *name, GError **error)
{
    const char *dir = g_getenv ("LIBBACKUP_DRIVER_DIR");
    g_autofree char *file = g_strdup_printf ("libbackup-driver-%s.so", name);
    g_autofree char *path = g_build_filename (dir ? dir : DRIVER_DIR, file, NULL);
    g_autofree char *symbol = g_strdup_printf ("%s_driver", name);
    gpointer ops = NULL;
    GModule *module = g_module_open (path, G_MODULE_BIND_LOCAL);

    if (!module || !g_module_symbol (module, symbol, &ops)) {
        error_set (error, BAK_ERROR_NOT_SUPPORTED, _("the %s driver is not installed: %s"), name, g_module_error ());
        return NULL;
    }
    g_module_make_resident (module);
    return ops;
}

static const DriverOps *driver_find (const char *uri, GError **error)
{
    if (g_str_has_prefix (uri, "libvirt+"))
        return driver_load_module ("libvirt", error);
    if (first_driver && first_driver->probe (uri))
        return first_driver;
    for (guint i = 0; i < G_N_ELEMENTS (drivers); i++)
        if (drivers[i]->probe (uri))
            return drivers[i];
    g_autofree char *shown = text_sanitize (uri, 256);
    error_set (error, BAK_ERROR_INVALID_ARGUMENT,
               _("no driver for URI '%s': expected qemu:///system, qemu:///session, qemu+unix://, qemu+ssh://, "
                 "qemu+tls://, bak://, libvirt+URI or test:///default"), shown);
    return NULL;
}

char *driver_default_uri (void)
{
    const char *env = g_getenv ("LIBBACKUP_DEFAULT_URI");
    if (env && *env)
        return g_strdup (env);
    char *configured = config_get_string ("default_uri");
    if (configured)
        return configured;
    return g_strdup (geteuid () == 0 ? "qemu:///system" : "qemu:///session");
}

/* A client of this host's guests goes to the daemon when one owns the state directory: *ret_socket is then its socket. */
static gboolean find_daemon (const char *uri, const DriverOpenOptions *options, char **ret_socket, GError **error)
{
    g_autoptr (GError) why = NULL;
    gboolean session = g_str_equal (uri, "qemu:///session");
    if (options->role != DRIVER_ROLE_CLIENT)
        return TRUE;
    g_autofree char *state_dir = options->state_dir ? g_strdup (options->state_dir) : files_state_dir (session);
    *ret_socket = daemon_find (state_dir, session, &why);
    if (!why)
        return TRUE;
    g_propagate_error (error, g_steal_pointer (&why));
    return FALSE;
}

DriverConn *driver_open (const char *uri, const DriverOpenOptions *options, GError **error)
{
    DriverOpenOptions use = options ? *options : (DriverOpenOptions) { .role = DRIVER_ROLE_CLIENT };
    g_autofree char *chosen = uri && *uri ? g_strdup (uri) : driver_default_uri (), *socket = NULL;
    const DriverOps *driver = driver_find (chosen, error);
    if (!driver || (g_str_has_prefix (chosen, "qemu:///") && !find_daemon (chosen, &use, &socket, error)))
        return NULL;
    if (socket) {
        driver = &remote_driver;
        use.daemon_socket = socket;
    }

    DriverConn *conn = g_new0 (DriverConn, 1);
    conn->driver = driver;
    conn->uri = g_steal_pointer (&chosen);
    conn->readonly = use.readonly;
    g_mutex_init (&conn->event_lock);
    if (!driver->open (conn, &use, error)) {
        conn->driver = NULL;
        driver_close (conn);
        return NULL;
    }
    return conn;
}

void driver_close (DriverConn *conn)
{
    if (!conn)
        return;
    driver_conn_set_events (conn, NULL, NULL);
    if (conn->driver)
        conn->driver->close (conn);
    g_mutex_clear (&conn->event_lock);
    g_free (conn->uri);
    g_free (conn);
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

gboolean driver_call (DriverConn *conn, CallId id, const void *args, void *ret, GError **error)
{
    const CallRow *row = &call_rows[id];

    g_debug ("call %s on %s", row->name, conn->uri);
    if (conn->readonly && (row->flags & CALL_WRITE))
        return error_set (error, BAK_ERROR_ACCESS_DENIED,
                          _("%s is not possible on a read-only connection"), row->name);
    if (conn->driver->forward)
        return conn->driver->forward (conn, row, args, ret, error);
    return row->enter (conn, args, ret, error);
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
static void copy_by_codec (xdrproc_t codec, const void *from, void *ret_copy, gsize size)
{
    XDR xdrs;
    u_long length = xdr_sizeof (codec, (void *) from);
    g_autofree char *buffer = g_malloc (length);

    xdrmem_create (&xdrs, buffer, length, XDR_ENCODE);
    gboolean ok = codec (&xdrs, (void *) from);
    xdr_destroy (&xdrs);
    memset (ret_copy, 0, size);
    xdrmem_create (&xdrs, buffer, length, XDR_DECODE);
    ok = ok && codec (&xdrs, ret_copy);
    xdr_destroy (&xdrs);
    if (!ok)
        g_error ("a record exceeds the limits of calls.x");
}

void bak_job_copy (const bak_job *job, bak_job *ret_copy)
{
    copy_by_codec ((xdrproc_t) xdr_bak_job, job, ret_copy, sizeof *ret_copy);
}

void bak_event_copy (const bak_event *event, bak_event *ret_copy)
{
    copy_by_codec ((xdrproc_t) xdr_bak_event, event, ret_copy, sizeof *ret_copy);
}

static const char *const job_states[] = { "none", "preparing", "running", "ready", "stopping", "completed", "failed", "aborted" };

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
