/* The registry: which driver a URI means, and its connection. */
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <gmodule.h>
#include "driver/driver.h"
#include "remote/find.h"
#include "util/config.h"
#include "util/files.h"

static const DriverOps *const drivers[] = { &qemu_driver, &test_driver, &remote_driver };
static const DriverOps *first_driver; /* asked before the others; NULL */

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
        error_set (error, BAK_ERROR_NOT_SUPPORTED, _("the %s driver is not installed: %s"), name,
                   g_module_error ());
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
               _("no driver for URI '%s': expected qemu:///system, qemu:///session, qemu+unix://, "
                  "qemu+ssh://, "
                  "qemu+tls://, bak://, libvirt+URI or test:///default"),
               shown);
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

/* A client of this host's guests goes to the daemon when one owns the state directory: *ret_socket
 * is then its socket. */
static gboolean find_daemon (const char *uri, const DriverOpenOptions *options, char **ret_socket,
                             GError **error)
{
    g_autoptr (GError) why = NULL;
    gboolean session = g_str_equal (uri, "qemu:///session");
    if (options->role != DRIVER_ROLE_CLIENT)
        return TRUE;
    g_autofree char *state_dir =
        options->state_dir ? g_strdup (options->state_dir) : config_state_dir (session);
    *ret_socket = daemon_find (state_dir, session, &why);
    if (!why)
        return TRUE;
    g_propagate_error (error, g_steal_pointer (&why));
    return FALSE;
}

DriverConn *driver_open (const char *uri, const DriverOpenOptions *options, GError **error)
{
    DriverOpenOptions use = options ? *options : (DriverOpenOptions){ .role = DRIVER_ROLE_CLIENT };
    g_autofree char *chosen = uri && *uri ? g_strdup (uri) : driver_default_uri (), *socket = NULL;
    const DriverOps *driver = driver_find (chosen, error);
    if (!driver
        || (g_str_has_prefix (chosen, "qemu:///") && !find_daemon (chosen, &use, &socket, error)))
        return NULL;
    if (socket) {
        driver = &remote_driver;
        use.daemon_socket = socket;
    }

    DriverConn *conn = g_new0 (DriverConn, 1);
    conn->driver = driver;
    conn->uri = g_steal_pointer (&chosen);
    conn->readonly = use.readonly;
    conn->open_another = driver_open;
    g_mutex_init (&conn->event_lock);
    if (!driver->open (conn, &use, error)) {
        conn->driver = NULL;
        driver_close (conn);
        return NULL;
    }
    return conn;
}
