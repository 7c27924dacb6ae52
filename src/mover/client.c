#include <errno.h>
#include <poll.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "mover/client.h"

enum { CLIENTS_MAX = 16 };

gint64 client_deadline (const Client *client)
{
    return g_get_monotonic_time () + (gint64) client->timeout_ms * 1000;
}

gboolean client_timed_out (const Client *client, GError **error)
{
    return error_set (error, BAK_ERROR_TIMEOUT, _("the export did not answer for %.3g s"),
                      client->timeout_ms / 1000.0);
}

static short wanted (const Client *client)
{
    guint direction = libnbd.aio_get_direction (client->nbd);

    return (direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0)
           | (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0);
}

/* Both at once are never told: after reading, libnbd may want something else. */
static gboolean notify (Client *client, short events, GError **error)
{
    guint direction = libnbd.aio_get_direction (client->nbd);
    int ret = 0;

    if (events & (POLLIN | POLLHUP | POLLERR) && direction & LIBNBD_AIO_DIRECTION_READ)
        ret = libnbd.aio_notify_read (client->nbd);
    else if (events & (POLLOUT | POLLHUP | POLLERR) && direction & LIBNBD_AIO_DIRECTION_WRITE)
        ret = libnbd.aio_notify_write (client->nbd);
    if (ret != 0)
        return nbd_failed (_("the connection to the export broke"), error);
    if (libnbd.aio_is_dead (client->nbd) > 0 || libnbd.aio_is_closed (client->nbd) > 0)
        return error_set (error, BAK_ERROR_IO, _("the export closed the connection"));
    return TRUE;
}

static void empty (int fd)
{
    guint64 count;

    while (read (fd, &count, sizeof count) < 0 && errno == EINTR)
        continue;
}

gboolean client_wait (Client *const *clients, guint count, int wake_fd, gint64 deadline,
                      GError **error)
{
    struct pollfd polls[CLIENTS_MAX + 2] = { 0 };
    gint64 left = (deadline - g_get_monotonic_time () + 999) / 1000;
    int ready;

    g_return_val_if_fail (count <= CLIENTS_MAX, FALSE);
    for (guint i = 0; i < count; i++)
        polls[i] = (struct pollfd){ libnbd.aio_get_fd (clients[i]->nbd), wanted (clients[i]), 0 };
    polls[count] = (struct pollfd){ wake_fd, POLLIN, 0 };
    polls[count + 1] = (struct pollfd){ count > 0 ? clients[0]->stop_fd : -1, POLLIN, 0 };
    ready = poll (polls, count + 2, CLAMP (left, 0, G_MAXINT));
    if (ready < 0 && errno != EINTR)
        return error_set_errno (error, errno, _("cannot wait for the export"));
    if (ready <= 0)
        return TRUE;
    if (polls[count + 1].revents)
        return error_set (error, BAK_ERROR_ABORTED, _("stopped"));
    if (polls[count].revents)
        empty (wake_fd);
    for (guint i = 0; i < count; i++)
        if (polls[i].revents && !notify (clients[i], polls[i].revents, error))
            return FALSE;
    return TRUE;
}

static gboolean wait_ready (Client *client, GError **error)
{
    gint64 deadline = client_deadline (client);

    while (libnbd.aio_is_ready (client->nbd) <= 0) {
        if (libnbd.aio_is_dead (client->nbd) > 0 || libnbd.aio_is_closed (client->nbd) > 0)
            return nbd_failed (_("cannot connect to the export"), error);
        if (g_get_monotonic_time () >= deadline)
            return client_timed_out (client, error);
        if (!client_wait (&client, 1, -1, deadline, error))
            return FALSE;
    }
    return TRUE;
}

static int connect_to (struct nbd_handle *nbd, const MoverSource *source)
{
    g_autofree char *port = g_strdup_printf ("%u", source->port);

    if (source->fd >= 0)
        return libnbd.aio_connect_socket (nbd, source->fd);
    return source->socket ? libnbd.aio_connect_unix (nbd, source->socket)
                          : libnbd.aio_connect_tcp (nbd, source->host, port);
}

static gboolean create (Client *client, GError **error)
{
    client->nbd = libnbd.create ();
    return client->nbd || nbd_failed (_("cannot start a client"), error);
}

/* What is read is used only where an answer spoke of it, so nothing needs to be cleared before. */
static void leave_buffers (Client *client)
{
#ifdef LIBNBD_HAVE_NBD_SET_PREAD_INITIALIZE
    libnbd.set_pread_initialize (client->nbd, false);
#endif
}

static gboolean prepare (Client *client, const MoverSource *source, const char *const *contexts,
                         GError **error)
{
    leave_buffers (client);
    gboolean ok = libnbd.set_export_name (client->nbd, source->export_name) == 0;

    for (; ok && contexts && *contexts; contexts++)
        ok = libnbd.add_meta_context (client->nbd, *contexts) == 0;
    if (!ok)
        return nbd_failed (_("cannot ask for the export"), error);
    return !source->tls_dir
           || nbd_use_tls (client->nbd, source->tls_dir, source->tls_psk, !source->tls_insecure,
                           error);
}

Client *client_new (const MoverSource *source, const char *const *contexts, guint timeout_ms,
                    int stop_fd, GError **error)
{
    g_autoptr (Client) client = g_new0 (Client, 1);
    client->timeout_ms = timeout_ms ? timeout_ms : MOVER_TIMEOUT_MS;
    client->stop_fd = stop_fd;
    gboolean prepared =
        nbd_load (error) && create (client, error) && prepare (client, source, contexts, error);
    if (!prepared && source->fd >= 0)
        close (source->fd);
    if (!prepared)
        return NULL;
    if (connect_to (client->nbd, source) != 0) {
        nbd_failed (_("cannot connect to the export"), error);
        return NULL;
    }
    return wait_ready (client, error) ? g_steal_pointer (&client) : NULL;
}

void client_free (Client *client)
{
    if (!client)
        return;
    if (client->nbd)
        libnbd.close (client->nbd);
    g_free (client);
}
