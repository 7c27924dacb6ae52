#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <gio/gio.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/monitor.h"

enum { TAKE_TIMEOUT_MS = 1000 };

static int start_connecting (int family, const struct sockaddr *address, socklen_t length,
                             int *ret_errnum)
{
    int fd = socket (family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int result = fd < 0 ? -1 : connect (fd, address, length);

    *ret_errnum = result == 0 ? 0 : errno;
    if (fd >= 0 && result != 0 && errno != EINPROGRESS) {
        close (fd);
        fd = -1;
    }
    return fd;
}

static int connect_path (MonitorProbe *probe)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    if (strlen (probe->address) >= sizeof address.sun_path) {
        probe->errnum = ENAMETOOLONG;
        return -1;
    }
    strcpy (address.sun_path, probe->address);
    int fd =
        start_connecting (AF_UNIX, (struct sockaddr *) &address, sizeof address, &probe->errnum);
    struct ucred peer;
    socklen_t length = sizeof peer;
    if (fd >= 0 && getsockopt (fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0)
        probe->pid = peer.pid;
    return fd;
}

static int connect_host (MonitorProbe *probe)
{
    g_autoptr (GSocketConnectable) where = g_network_address_parse (probe->address, 0, NULL);
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM }, *found = NULL;

    probe->errnum = EHOSTUNREACH;
    if (!where)
        return -1;
    g_autofree char *port =
        g_strdup_printf ("%u", g_network_address_get_port (G_NETWORK_ADDRESS (where)));
    if (getaddrinfo (g_network_address_get_hostname (G_NETWORK_ADDRESS (where)), port, &hints,
                     &found)
        != 0)
        return -1;
    int fd = -1;
    for (struct addrinfo *one = found; one && fd < 0; one = one->ai_next)
        fd = start_connecting (one->ai_family, one->ai_addr, one->ai_addrlen, &probe->errnum);
    freeaddrinfo (found);
    return fd;
}

/* A unix socket whose backlog is full says EAGAIN: somebody listens, and has not come to us. */
static void probe_start (MonitorProbe *probe)
{
    probe->fd = g_path_is_absolute (probe->address) ? connect_path (probe) : connect_host (probe);
    if (probe->fd >= 0 || probe->errnum == EAGAIN)
        probe->state = MONITOR_HELD;
    else if (probe->errnum == EACCES || probe->errnum == EPERM)
        probe->state = MONITOR_DENIED;
    else
        probe->state = MONITOR_ABSENT;
}

/* Something can be read: a greeting, or the end of a connection that never was one. */
static void probe_look (MonitorProbe *probe)
{
    char byte;
    ssize_t n = recv (probe->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    if (n > 0) {
        probe->state = MONITOR_TALKS;
        return;
    }
    probe->errnum = n < 0 ? errno : ECONNRESET;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    close (probe->fd);
    probe->fd = -1;
    probe->state = MONITOR_ABSENT;
}

static guint probe_wait (MonitorProbe *probes, guint count, struct pollfd *polls, int timeout_ms)
{
    guint waiting = 0;

    for (guint i = 0; i < count; i++) {
        gboolean wants = probes[i].state == MONITOR_HELD && probes[i].fd >= 0;
        polls[i] = (struct pollfd){ wants ? probes[i].fd : -1, POLLIN, 0 };
        waiting += wants;
    }
    if (waiting == 0 || poll (polls, count, timeout_ms) <= 0)
        return waiting;
    for (guint i = 0; i < count; i++)
        if (polls[i].fd >= 0 && polls[i].revents)
            probe_look (&probes[i]);
    return waiting;
}

void monitor_probe (MonitorProbe *probes, guint count, guint timeout_ms)
{
    gint64 deadline = g_get_monotonic_time () + (gint64) timeout_ms * 1000, left;
    g_autofree struct pollfd *polls = g_new0 (struct pollfd, count + 1);

    for (guint i = 0; i < count; i++)
        probe_start (&probes[i]);
    while (timeout_ms > 0 && (left = deadline - g_get_monotonic_time ()) > 0)
        if (probe_wait (probes, count, polls, (left + 999) / 1000) == 0)
            break;
    for (guint i = 0; i < count; i++)
        if (probes[i].state == MONITOR_HELD && probes[i].fd >= 0) {
            close (probes[i].fd);
            probes[i].fd = -1;
        }
}

void monitor_probe_clear (MonitorProbe *probes, guint count)
{
    for (guint i = 0; i < count; i++)
        if (probes[i].fd >= 0) {
            close (probes[i].fd);
            probes[i].fd = -1;
        }
}

Qmp *monitor_take (MonitorProbe *probe, GError **error)
{
    int fd = probe->fd;

    probe->fd = -1;
    return qmp_connect_fd (fd, probe->address, NULL, TAKE_TIMEOUT_MS, error);
}
