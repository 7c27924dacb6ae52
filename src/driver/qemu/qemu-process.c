#include <stdlib.h>
#include <string.h>
#include "driver/qemu/qemu-process.h"
#include "util/place.h"

enum { UNIX_FIELDS = 8, UNIX_INODE = 6, UNIX_PATH = 7 };

gboolean qemu_process_is (const char *pid)
{
    static const char *const prefixes[] = { "qemu-system", "qemu-storage", "qemu-kvm", "kvm" };
    g_autofree char *path = g_build_filename ("/proc", pid, "comm", NULL), *name = NULL;
    if (!g_ascii_isdigit (*pid) || !g_file_get_contents (path, &name, NULL, NULL))
        return FALSE;
    for (guint i = 0; i < G_N_ELEMENTS (prefixes); i++)
        if (g_str_has_prefix (name, prefixes[i]))
            return TRUE;
    return FALSE;
}

/* "socket:[INODE]" of each socket of that path: the one that is listened on, and those accepted. */
static GHashTable *sockets_at (const char *path)
{
    GHashTable *links = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
    g_autofree char *text = NULL;
    if (!g_file_get_contents ("/proc/net/unix", &text, NULL, NULL))
        return links;
    g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
    for (guint i = 1; lines[0] && lines[i]; i++) {
        g_autofree char *plain = g_strdup (lines[i]);
        g_autoptr (GPtrArray) fields = g_ptr_array_new ();
        char *rest = plain;
        while (fields->len < UNIX_PATH && (rest += strspn (rest, " "), *rest)) {
            g_ptr_array_add (fields, rest);
            rest += strcspn (rest, " ");
            if (*rest)
                *rest++ = '\0';
        }
        if (fields->len == UNIX_PATH && g_str_equal (rest, path))
            g_hash_table_add (links,
                              g_strdup_printf ("socket:[%s]", (char *) fields->pdata[UNIX_INODE]));
    }
    return links;
}

static gboolean has_socket (const char *pid, GHashTable *links)
{
    g_autofree char *path = g_build_filename ("/proc", pid, "fd", NULL);
    g_autoptr (GDir) fds = g_dir_open (path, 0, NULL);
    const char *fd;
    while (fds && (fd = g_dir_read_name (fds))) {
        g_autofree char *name = g_build_filename (path, fd, NULL);
        g_autofree char *link = g_file_read_link (name, NULL);
        if (link && g_hash_table_contains (links, link))
            return TRUE;
    }
    return FALSE;
}

int qemu_process_of (const char *monitor, int peer)
{
    g_autofree char *text = g_strdup_printf ("%d", peer);
    if (peer > 0 && qemu_process_is (text))
        return peer;
    if (!monitor || !g_path_is_absolute (monitor))
        return 0;
    g_autoptr (GHashTable) links = sockets_at (monitor);
    g_autoptr (GDir) processes = g_dir_open ("/proc", 0, NULL);
    const char *pid;
    while (processes && (pid = g_dir_read_name (processes)))
        if (qemu_process_is (pid) && has_socket (pid, links))
            return atoi (pid);
    return 0;
}

/* The lines of /proc/net/tcp: number, "ADDRESS:PORT" here and there in hexadecimal, state, … */
static void add_tcp_ends (const char *file, guint port, guint their_port, GHashTable *links)
{
    enum { HERE = 1, THERE = 2, INODE = 9, FIELDS };
    g_autofree char *text = NULL;
    if (!g_file_get_contents (file, &text, NULL, NULL))
        return;
    g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
    for (guint i = 1; lines[0] && lines[i]; i++) {
        g_auto (GStrv) words = g_strsplit_set (g_strstrip (lines[i]), " ", -1);
        const char *fields[FIELDS] = { NULL };
        guint n = 0;
        for (guint k = 0; words[k] && n < FIELDS; k++)
            if (*words[k])
                fields[n++] = words[k];
        const char *here = n == FIELDS ? strrchr (fields[HERE], ':') : NULL,
                   *there = n == FIELDS ? strrchr (fields[THERE], ':') : NULL;
        if (here && there && g_ascii_strtoull (here + 1, NULL, 16) == port
            && g_ascii_strtoull (there + 1, NULL, 16) == their_port)
            g_hash_table_add (links, g_strdup_printf ("socket:[%s]", fields[INODE]));
    }
}

/* Both ends have one address when both are on this host. */
static gboolean is_local (GSocket *socket, guint *ret_ours, guint *ret_theirs)
{
    g_autoptr (GSocketAddress) ours = g_socket_get_local_address (socket, NULL),
                               theirs = g_socket_get_remote_address (socket, NULL);
    if (!G_IS_INET_SOCKET_ADDRESS (ours) || !G_IS_INET_SOCKET_ADDRESS (theirs))
        return FALSE;
    GInetSocketAddress *here = G_INET_SOCKET_ADDRESS (ours),
                       *there = G_INET_SOCKET_ADDRESS (theirs);
    *ret_ours = g_inet_socket_address_get_port (here);
    *ret_theirs = g_inet_socket_address_get_port (there);
    return g_inet_address_equal (g_inet_socket_address_get_address (here),
                                 g_inet_socket_address_get_address (there));
}

int qemu_process_of_tcp (GSocket *socket)
{
    guint ours, theirs;
    if (!is_local (socket, &ours, &theirs))
        return 0;
    g_autoptr (GHashTable) links = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
    add_tcp_ends ("/proc/net/tcp", theirs, ours, links);
    add_tcp_ends ("/proc/net/tcp6", theirs, ours, links);
    g_autoptr (GDir) processes = g_dir_open ("/proc", 0, NULL);
    const char *pid;
    while (processes && (pid = g_dir_read_name (processes)))
        if (qemu_process_is (pid) && has_socket (pid, links))
            return atoi (pid);
    return 0;
}

int qemu_process_has_open (int pid, const struct stat *st)
{
    g_autofree char *path = g_strdup_printf ("/proc/%d/fd", pid);
    g_autoptr (GDir) fds = pid > 0 ? g_dir_open (path, 0, NULL) : NULL;
    const char *fd;
    if (!fds)
        return -1;
    while ((fd = g_dir_read_name (fds))) {
        g_autofree char *name = g_build_filename (path, fd, NULL);
        struct stat other;
        if (stat (name, &other) == 0 && place_is_same (&other, st))
            return TRUE;
    }
    return FALSE;
}

gboolean qemu_process_any_has_open (const struct stat *st)
{
    g_autoptr (GDir) processes = g_dir_open ("/proc", 0, NULL);
    const char *pid;
    while (processes && (pid = g_dir_read_name (processes)))
        if (qemu_process_is (pid) && qemu_process_has_open (atoi (pid), st) == TRUE)
            return TRUE;
    return FALSE;
}
