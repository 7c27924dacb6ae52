#include <ifaddrs.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <netinet/tcp.h>
#include <gio/gio.h>
#include "util/process.h"
#include "util/server_id.h"

#define HERE "here"

enum { UNIX_LISTENS = 0x10000 };

char *server_id_of_socket (const char *path)
{
    struct stat st;
    return stat (path, &st) == 0 ? g_strdup_printf ("socket %u:%" G_GUINT64_FORMAT,
                                                    (guint) st.st_dev, (guint64) st.st_ino)
                                 : NULL;
}

static GInetAddress *address_of (const struct sockaddr *native)
{
    gboolean ip4 = native && native->sa_family == AF_INET,
             ip6 = native && native->sa_family == AF_INET6;
    if (!ip4 && !ip6)
        return NULL;
    gsize size = ip4 ? sizeof (struct sockaddr_in) : sizeof (struct sockaddr_in6);
    g_autoptr (GSocketAddress) address = g_socket_address_new_from_native ((gpointer) native, size);
    return address
               ? g_object_ref (g_inet_socket_address_get_address (G_INET_SOCKET_ADDRESS (address)))
               : NULL;
}

static gboolean is_here (GInetAddress *address)
{
    struct ifaddrs *list = NULL;
    gboolean here = g_inet_address_get_is_loopback (address);

    if (here || getifaddrs (&list) != 0)
        return here;
    for (const struct ifaddrs *at = list; at && !here; at = at->ifa_next) {
        g_autoptr (GInetAddress) own = address_of (at->ifa_addr);
        here = own && g_inet_address_equal (own, address);
    }
    freeifaddrs (list);
    return here;
}

/* Of several the first in order, so that the order of the answers says nothing. */
char *server_id_of_host (const char *host, guint port)
{
    const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
    struct addrinfo *found = NULL;
    g_autofree char *first = NULL;

    if (getaddrinfo (host, NULL, &hints, &found) != 0)
        return NULL;
    for (const struct addrinfo *at = found; at; at = at->ai_next) {
        g_autoptr (GInetAddress) address = address_of (at->ai_addr);
        if (!address)
            continue;
        g_autofree char *text =
            is_here (address) ? g_strdup ("") : g_inet_address_to_string (address);
        if (text && (!first || strcmp (text, first) < 0)) {
            g_free (first);
            first = g_steal_pointer (&text);
        }
    }
    freeaddrinfo (found);
    return first ? g_strdup_printf ("%s:%u", *first ? first : HERE, port) : NULL;
}

gboolean server_id_is_here (const char *id)
{
    return g_str_has_prefix (id, HERE ":");
}

/* ---- who listens ---- */

static gboolean same_socket (const char *one, const char *other)
{
    struct stat a, b;
    return g_str_equal (one, other)
           || (g_path_is_absolute (other) && stat (one, &a) == 0 && stat (other, &b) == 0
               && a.st_dev == b.st_dev && a.st_ino == b.st_ino);
}

/* The kernel's number of the socket that this line of a list in /proc/net tells of; 0: it is none
 * that is listened on there. */
static guint64 listener_unix (const char *line, const char *path)
{
    guint flags, state;
    guint64 inode;
    int at = 0;
    return sscanf (line, "%*[^:]: %*x %*x %x %*x %x %" G_GUINT64_FORMAT " %n", &flags, &state,
                   &inode,
                   &at) == 3
                   && at && (flags & UNIX_LISTENS) && same_socket (path, line + at)
               ? inode
               : 0;
}

static guint64 listener_tcp (const char *line, guint wanted)
{
    guint port, state;
    guint64 inode;
    return sscanf (
               line,
               " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f:] %x %*s %*s %*s %*s %*s %" G_GUINT64_FORMAT,
               &port, &state,
               &inode) == 3
                   && state == TCP_LISTEN && port == wanted
               ? inode
               : 0;
}

static gboolean listens_for_others (const char *pid)
{
    static const char *const names[] = { "systemd",     "init",   "xinetd",       "inetd",
                                         "ssh",         "sshd",   "autossh",      "stunnel",
                                         "stunnel4",    "socat",  "haproxy",      "nginx",
                                         "envoy",       "conmon", "docker-proxy", "rootlessport",
                                         "slirp4netns", "pasta",  "passt",        NULL };
    g_autofree char *path = g_build_filename ("/proc", pid, "comm", NULL), *name = NULL;
    if (!g_file_get_contents (path, &name, NULL, NULL))
        return TRUE;
    return g_strv_contains (names, g_strchomp (name));
}

static gboolean holds (const char *pid, GHashTable *sockets)
{
    g_autofree char *path = g_build_filename ("/proc", pid, "fd", NULL);
    g_autoptr (GDir) fds = g_dir_open (path, 0, NULL);
    const char *fd;
    while (fds && (fd = g_dir_read_name (fds))) {
        char target[64];
        g_autofree char *name = g_build_filename (path, fd, NULL);
        ssize_t length = readlink (name, target, sizeof target - 1);
        if (length <= 0)
            continue;
        target[length] = '\0';
        if (g_hash_table_contains (sockets, target))
            return TRUE;
    }
    return FALSE;
}

static char *oldest_holder (GHashTable *sockets)
{
    g_autoptr (GDir) processes = g_hash_table_size (sockets) ? g_dir_open ("/proc", 0, NULL) : NULL;
    guint64 oldest = G_MAXUINT64;
    char *found = NULL;
    const char *pid;
    while (processes && (pid = g_dir_read_name (processes))) {
        if (!g_ascii_isdigit (*pid) || !holds (pid, sockets) || listens_for_others (pid))
            continue;
        guint64 start = process_start_time (atoi (pid));
        if (start == 0 || start > oldest)
            continue;
        oldest = start;
        g_free (found);
        found = g_strdup_printf ("%s:%" G_GUINT64_FORMAT, pid, start);
    }
    return found;
}

static void add_listeners (GHashTable *sockets, const char *list, const char *path, guint port)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents (list, &text, NULL, NULL))
        return;
    g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
    for (guint i = 1; lines[0] && lines[i]; i++) {
        guint64 inode = path ? listener_unix (lines[i], path) : listener_tcp (lines[i], port);
        if (inode)
            g_hash_table_add (sockets, g_strdup_printf ("socket:[%" G_GUINT64_FORMAT "]", inode));
    }
}

static GHashTable *no_sockets (void)
{
    return g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
}

char *server_process_of_socket (const char *path)
{
    g_autoptr (GHashTable) sockets = no_sockets ();
    add_listeners (sockets, "/proc/net/unix", path, 0);
    return oldest_holder (sockets);
}

/* On several addresses of this host several may listen: then it is not known who. */
char *server_process_of_port (guint port)
{
    g_autoptr (GHashTable) sockets = no_sockets ();
    g_autofree char *found = NULL;
    GHashTableIter iter;
    gpointer socket;

    add_listeners (sockets, "/proc/net/tcp", NULL, port);
    add_listeners (sockets, "/proc/net/tcp6", NULL, port);
    g_hash_table_iter_init (&iter, sockets);
    while (g_hash_table_iter_next (&iter, &socket, NULL)) {
        g_autoptr (GHashTable) one = no_sockets ();
        g_hash_table_add (one, g_strdup (socket));
        g_autofree char *holder = oldest_holder (one);
        if (found && g_strcmp0 (found, holder) != 0)
            return NULL;
        if (!found)
            found = g_steal_pointer (&holder);
    }
    return g_steal_pointer (&found);
}
