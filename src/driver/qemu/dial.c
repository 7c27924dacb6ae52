#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/dial.h"
#include "util/error.h"

typedef struct {
    gboolean done, over;
    GSocketConnection *connection;
    GError *error;
    GCancellable *cancellable;
} Connecting;

static void connected (GObject *client, GAsyncResult *result, gpointer user_data)
{
    Connecting *connecting = user_data;
    connecting->connection =
        g_socket_client_connect_finish (G_SOCKET_CLIENT (client), result, &connecting->error);
    connecting->done = TRUE;
}

static gboolean connect_late (gpointer data)
{
    Connecting *connecting = data;
    connecting->over = TRUE;
    g_cancellable_cancel (connecting->cancellable);
    return G_SOURCE_REMOVE;
}

/* By name and port; resolving included. Runs on a context of its own, so that nothing else happens
 * meanwhile. */
static GSocket *dial_tcp (const char *what, const char *address, gint64 deadline, GError **error)
{
    g_autoptr (GError) bad = NULL;
    g_autoptr (GSocketConnectable) where = g_network_address_parse (address, 0, &bad);
    if (!where || g_network_address_get_port (G_NETWORK_ADDRESS (where)) == 0) {
        error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                   _("%s '%s': an absolute path or HOST:PORT is expected"), what, address);
        return NULL;
    }
    g_autoptr (GMainContext) context = g_main_context_new ();
    g_autoptr (GSocketClient) client = g_socket_client_new ();
    g_autoptr (GCancellable) cancellable = g_cancellable_new ();
    g_socket_client_set_enable_proxy (client, FALSE);
    Connecting connecting = { .cancellable = cancellable };
    g_main_context_push_thread_default (context);
    g_autoptr (GSource) timer = g_timeout_source_new (0);
    g_source_set_ready_time (timer, deadline);
    g_source_set_callback (timer, connect_late, &connecting, NULL);
    g_source_attach (timer, context);
    g_socket_client_connect_async (client, where, cancellable, connected, &connecting);
    while (!connecting.done)
        g_main_context_iteration (context, TRUE);
    g_source_destroy (timer);
    g_main_context_pop_thread_default (context);
    g_autoptr (GError) failure = connecting.error;
    g_autoptr (GSocketConnection) connection = connecting.connection;
    if (connection)
        return g_object_ref (g_socket_connection_get_socket (connection));
    error_set (error, BAK_ERROR_CONNECTION, _("%s '%s': cannot connect: %s"), what, address,
               connecting.over ? _("timed out") : failure->message);
    return NULL;
}

/* A listener whose backlog is full lets connect wait for at most SO_SNDTIMEO, then it says EAGAIN.
 */
static int connect_unix_fd (const char *path, gint64 deadline, int *ret_errno)
{
    struct sockaddr_un where = { .sun_family = AF_UNIX };
    strncpy (where.sun_path, path, sizeof where.sun_path - 1);
    int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int result = fd < 0 ? -1 : 0;
    do {
        gint64 left = MAX ((deadline - g_get_monotonic_time () + 999) / 1000, 1);
        struct timeval timeout = { .tv_sec = left / 1000, .tv_usec = left % 1000 * 1000 };
        if (fd >= 0 && setsockopt (fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) == 0)
            result = connect (fd, (struct sockaddr *) &where, sizeof where);
    } while (result != 0 && errno == EINTR);
    *ret_errno = errno;
    if (result == 0 || fd < 0)
        return fd;
    close (fd);
    return -1;
}

static GSocket *dial_unix (const char *what, const char *path, gint64 deadline, GError **error)
{
    if (strlen (path) > 107) {
        error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                   _("%s '%s': the path of a socket has at most 107 bytes"), what, path);
        return NULL;
    }
    int errnum = 0;
    int fd = connect_unix_fd (path, deadline, &errnum);
    g_autoptr (GError) failure = NULL;
    GSocket *socket = fd >= 0 ? g_socket_new_from_fd (fd, &failure) : NULL;
    if (socket)
        return socket;
    if (fd >= 0)
        close (fd);
    if (errnum == EAGAIN)
        error_set (error, BAK_ERROR_BUSY, _("%s '%s': its queue of waiting clients is full"), what,
                   path);
    else
        error_set (error,
                   errnum == EACCES || errnum == EPERM ? BAK_ERROR_ACCESS_DENIED
                                                       : BAK_ERROR_CONNECTION,
                   _("%s '%s': cannot connect: %s"), what, path,
                   failure ? failure->message : g_strerror (errnum));
    return NULL;
}

GSocket *dial (const char *what, const char *address, gint64 deadline, GError **error)
{
    GSocket *socket = g_path_is_absolute (address) ? dial_unix (what, address, deadline, error)
                                                   : dial_tcp (what, address, deadline, error);
    if (socket)
        g_socket_set_blocking (socket, FALSE);
    return socket;
}
