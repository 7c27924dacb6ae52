#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "util/passed.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

typedef struct {
    char *guest, *name;
    int fds[PASSED_FDS_MAX];
    guint n_fds;
} Group;

struct _Passed {
    gatomicrefcount refs;
    GMutex lock;
    GPtrArray *groups; /* Group* */
};

static GPrivate current = G_PRIVATE_INIT ((GDestroyNotify) passed_unref);

static void group_free (gpointer data)
{
    Group *group = data;
    for (guint i = 0; i < group->n_fds; i++)
        close (group->fds[i]);
    g_free (group->guest);
    g_free (group->name);
    g_free (group);
}

Passed *passed_new (void)
{
    Passed *passed = g_new0 (Passed, 1);
    g_atomic_ref_count_init (&passed->refs);
    g_mutex_init (&passed->lock);
    passed->groups = g_ptr_array_new_with_free_func (group_free);
    return passed;
}

Passed *passed_ref (Passed *passed)
{
    if (passed)
        g_atomic_ref_count_inc (&passed->refs);
    return passed;
}

void passed_unref (Passed *passed)
{
    if (!passed || !g_atomic_ref_count_dec (&passed->refs))
        return;
    g_ptr_array_unref (passed->groups);
    g_mutex_clear (&passed->lock);
    g_free (passed);
}

Passed *passed_current (void)
{
    return g_private_get (&current);
}

void passed_set_current (Passed *passed)
{
    g_private_replace (&current, passed_ref (passed));
}

/* ---- what is taken ---- */

static int socket_option (int fd, int option)
{
    int value = 0;
    socklen_t length = sizeof value;
    return getsockopt (fd, SOL_SOCKET, option, &value, &length) == 0 ? value : -1;
}

/* NULL: nothing is wrong with it. */
static const char *fault_of (int fd)
{
    if (fcntl (fd, F_GETFD) < 0)
        return _("it is not open");
    int type = socket_option (fd, SO_TYPE), domain = socket_option (fd, SO_DOMAIN);
    if (type < 0)
        return _("it is not a socket");
    if (type != SOCK_STREAM || (domain != AF_UNIX && domain != AF_INET && domain != AF_INET6))
        return _("it is neither a unix nor a TCP stream socket");
    if (socket_option (fd, SO_ACCEPTCONN) != 1)
        return _("it does not listen: bind it and call listen() before it is passed");
    return NULL;
}

gboolean passed_check (const char *group, const int *fds, guint n_fds, GError **error)
{
    if (n_fds == 0 || n_fds > PASSED_FDS_MAX)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("group '%s' of descriptors: %u were given, 1 to %d are taken"), group,
                          n_fds, PASSED_FDS_MAX);
    for (guint i = 0; i < n_fds; i++) {
        const char *fault = fault_of (fds[i]);
        if (fault)
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                              _("group '%s', descriptor %u of %u: %s; pass a socket that listens"),
                              group, i + 1, n_fds, fault);
    }
    return TRUE;
}

/* lock is held; *ret_index may be NULL. */
static Group *find_group (Passed *passed, const char *guest, const char *name, guint *ret_index)
{
    for (guint i = 0; i < passed->groups->len; i++) {
        Group *group = passed->groups->pdata[i];
        if (!g_str_equal (group->guest, guest) || !g_str_equal (group->name, name))
            continue;
        if (ret_index)
            *ret_index = i;
        return group;
    }
    return NULL;
}

static Group *group_new (const char *guest, const char *name, const int *fds, guint n_fds,
                         GError **error)
{
    Group *group = g_new0 (Group, 1);
    group->guest = g_strdup (guest);
    group->name = g_strdup (name);
    for (guint i = 0; i < n_fds; i++) {
        int fd = fcntl (fds[i], F_DUPFD_CLOEXEC, 3);
        if (fd < 0) {
            error_set_errno (error, errno, _("group '%s': cannot keep descriptor %u"), name,
                             i + 1);
            group_free (group);
            return NULL;
        }
        group->fds[group->n_fds++] = fd;
    }
    return group;
}

gboolean passed_put (Passed *passed, const char *guest, const char *name, const int *fds,
                     guint n_fds, GError **error)
{
    guint index = 0;
    if (!*name)
        return error_set (
            error, BAK_ERROR_INVALID_ARGUMENT,
            _("a group of descriptors needs a name, which <server fdgroup=''> says"));
    if (!passed_check (name, fds, n_fds, error))
        return FALSE;
    Group *group = group_new (guest, name, fds, n_fds, error);
    if (!group)
        return FALSE;
    g_mutex_lock (&passed->lock);
    gboolean replaces = find_group (passed, guest, name, &index) != NULL;
    gboolean full = !replaces && passed->groups->len >= PASSED_GROUPS_MAX;
    if (replaces)
        g_ptr_array_remove_index (passed->groups, index);
    if (!full)
        g_ptr_array_add (passed->groups, group);
    g_mutex_unlock (&passed->lock);
    if (full)
        group_free (group);
    return !full
           || error_set (
               error, BAK_ERROR_BUSY,
               _("this connection has passed %d groups of descriptors already: close it, "
                  "or use one of their names again"),
               PASSED_GROUPS_MAX);
}

int passed_get (Passed *passed, const char *guest, const char *name, GError **error)
{
    int fd = -1;
    guint n_fds = 0;
    if (passed) {
        g_mutex_lock (&passed->lock);
        const Group *group = find_group (passed, guest, name, NULL);
        n_fds = group ? group->n_fds : 0;
        if (n_fds == 1)
            fd = fcntl (group->fds[0], F_DUPFD_CLOEXEC, 3);
        g_mutex_unlock (&passed->lock);
    }
    if (fd >= 0)
        return fd;
    if (n_fds == 1)
        error_set_errno (error, errno, _("group '%s' of descriptors"), name);
    else if (n_fds > 1)
        error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                   _("group '%s' has %u descriptors: a server takes one"), name, n_fds);
    else
        error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                   _("<server transport='fd' fdgroup='%s'>: no socket of that name was passed for "
                      "guest '%s' on this connection: bak_domain_fd_associate() does"),
                   name, guest);
    return -1;
}

gboolean passed_each (Passed *passed, const char *guest,
                      gboolean (*func) (const char *guest, const char *group, const int *fds,
                                        guint n_fds, gpointer data, GError **error),
                      gpointer data, GError **error)
{
    gboolean ok = TRUE;
    if (!passed)
        return TRUE;
    g_mutex_lock (&passed->lock);
    for (guint i = 0; ok && i < passed->groups->len; i++) {
        const Group *group = passed->groups->pdata[i];
        if (!guest || g_str_equal (group->guest, guest))
            ok = func (group->guest, group->name, group->fds, group->n_fds, data, error);
    }
    g_mutex_unlock (&passed->lock);
    return ok;
}

/* ---- where one listens ---- */

static guint64 network_of (int fd)
{
    guint64 cookie = 0;
    socklen_t length = sizeof cookie;
    return getsockopt (fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) == 0 ? cookie : 0;
}

/* TRUE also where the kernel does not tell. */
static gboolean is_of_this_network (int fd)
{
    int own = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    guint64 here = own >= 0 ? network_of (own) : 0, there = network_of (fd);
    if (own >= 0)
        close (own);
    return here == there || !here || !there;
}

static gboolean unix_address (const struct sockaddr_un *address, socklen_t length,
                              const char *group, PassedAddress *ret, GError **error)
{
    gsize room = length - MIN (length, G_STRUCT_OFFSET (struct sockaddr_un, sun_path));
    g_autofree char *path = g_strndup (address->sun_path, room);
    struct stat st;
    if (*path != '/')
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("group '%s': the socket is not bound to an absolute path, so nobody "
                             "can be told where to connect"),
                          group);
    if (stat (path, &st) != 0 || !S_ISSOCK (st.st_mode))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("group '%s': there is no socket '%s' here, where what it serves is "
                             "looked at before success is said (QEMU removes the path when a pull "
                             "ends: bind another socket for the next)"),
                          group, path);
    ret->path = g_steal_pointer (&path);
    return TRUE;
}

gboolean passed_address (int fd, const char *group, PassedAddress *ret, GError **error)
{
    struct sockaddr_storage address = { 0 };
    socklen_t length = sizeof address;
    char host[NI_MAXHOST], port[NI_MAXSERV];
    struct stat st;

    if (fstat (fd, &st) == 0)
        ret->inode = st.st_ino;
    if (getsockname (fd, (struct sockaddr *) &address, &length) != 0)
        return error_set_errno (error, errno, _("group '%s': where the socket listens"), group);
    if (!is_of_this_network (fd))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("group '%s': the socket is of another network namespace: what it "
                             "serves could not be looked at before success is said"),
                          group);
    if (address.ss_family == AF_UNIX)
        return unix_address ((struct sockaddr_un *) &address, length, group, ret, error);
    if (getnameinfo ((struct sockaddr *) &address, length, host, sizeof host, port, sizeof port,
                     NI_NUMERICHOST | NI_NUMERICSERV)
        != 0)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("group '%s': nothing is known of where the socket listens"), group);
    ret->host = g_strdup (host);
    ret->port = g_ascii_strtoull (port, NULL, 10);
    return TRUE;
}

void passed_address_clear (PassedAddress *address)
{
    g_clear_pointer (&address->path, g_free);
    g_clear_pointer (&address->host, g_free);
    address->port = 0;
}
