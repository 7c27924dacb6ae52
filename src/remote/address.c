#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "remote/address.h"
#include "remote/tls.h"
#include "util/config.h"
#include "util/files.h"

static const struct {
    const char *scheme;
    AddressKind kind;
} schemes[] = {
    { "qemu+unix", ADDRESS_UNIX },
    { "bak", ADDRESS_UNIX },
    { "qemu+ssh", ADDRESS_SSH },
    { "qemu+tls", ADDRESS_TLS },
};

static const char *scheme_end (const char *uri, guint row)
{
    gsize length = strlen (schemes[row].scheme);
    return g_str_has_prefix (uri, schemes[row].scheme) && g_str_has_prefix (uri + length, "://")
               ? uri + length
               : NULL;
}

gboolean address_is_ours (const char *uri)
{
    for (guint i = 0; i < G_N_ELEMENTS (schemes); i++)
        if (scheme_end (uri, i))
            return TRUE;
    return FALSE;
}

/* ssh takes options from its arguments, so nothing that looks like one may get there. */
static gboolean check_host (const Address *address, const char *uri, GError **error)
{
    const char *const parts[] = { address->host, address->user };
    for (guint i = 0; i < G_N_ELEMENTS (parts); i++) {
        const char *part = parts[i];
        if (part && (*part == '-' || *part == '\0' || strpbrk (part, " \t\n'\"\\$`;&|<>()")))
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                              _("URI '%s': '%s' is not a host or user name"), uri, part);
    }
    return TRUE;
}

static gboolean address_take_query (Address *address, const char *uri, const char *query,
                                    GError **error)
{
    g_autoptr (GHashTable) values = NULL;
    GHashTableIter iter;
    gpointer key, value;
    if (!query || !*query)
        return TRUE;
    values = g_uri_parse_params (query, -1, "&;", G_URI_PARAMS_NONE, error);
    if (!values)
        return error_note (error, _("URI '%s'"), uri);
    g_hash_table_iter_init (&iter, values);
    while (g_hash_table_iter_next (&iter, &key, &value)) {
        char **slot =
            g_str_equal (key, "socket") && address->kind != ADDRESS_TLS       ? &address->socket
            : g_str_equal (key, "pkipath") && address->kind == ADDRESS_TLS    ? &address->pki_dir
            : g_str_equal (key, "command") && address->kind == ADDRESS_SSH    ? &address->command
            : g_str_equal (key, "libbackupd") && address->kind == ADDRESS_SSH ? &address->libbackupd
                                                                              : NULL;
        if (!slot)
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                              _("URI '%s': unknown parameter '%s'"), uri, (char *) key);
        if (*(char *) value != '/' && slot != &address->command)
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                              _("URI '%s': %s must be an absolute path"), uri, (char *) key);
        g_free (*slot);
        *slot = g_strdup (value);
    }
    return TRUE;
}

static void address_set_label (Address *address)
{
    if (address->kind == ADDRESS_UNIX)
        address->label = g_strdup_printf (_("the daemon at '%s'"), address->socket);
    else
        address->label = g_strdup_printf (_("the daemon on host '%s'"), address->host);
}

Address *address_parse (const char *uri, GError **error)
{
    g_autoptr (Address) address = g_new0 (Address, 1);
    g_autoptr (GUri) parsed =
        g_uri_parse (uri, G_URI_FLAGS_HAS_PASSWORD | G_URI_FLAGS_ENCODED_QUERY, error);
    if (!parsed) {
        g_autofree char *why = error && *error ? g_strdup ((*error)->message) : g_strdup ("");
        g_clear_error (error);
        error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("URI '%s': %s"), uri, why);
        return NULL;
    }
    for (guint i = 0; i < G_N_ELEMENTS (schemes); i++)
        if (g_str_equal (g_uri_get_scheme (parsed), schemes[i].scheme))
            address->kind = schemes[i].kind;
    const char *host = g_uri_get_host (parsed), *path = g_uri_get_path (parsed);
    address->host = host && *host ? g_strdup (host) : NULL;
    address->user = g_strdup (g_uri_get_user (parsed));
    address->port = g_uri_get_port (parsed);
    address->session = g_str_equal (path, "/session");
    if (*path && !g_str_equal (path, "/") && !g_str_equal (path, "/system") && !address->session) {
        error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                   _("URI '%s': path '%s' is neither /system nor /session"), uri, path);
        return NULL;
    }
    if (!address_take_query (address, uri, g_uri_get_query (parsed), error)
        || !check_host (address, uri, error))
        return NULL;
    if ((address->kind == ADDRESS_UNIX) == (address->host != NULL)) {
        error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                   address->host ? _("URI '%s': a unix socket has no host")
                                 : _("URI '%s' names no host"),
                   uri);
        return NULL;
    }
    if (address->kind == ADDRESS_UNIX && !address->socket)
        address->socket = config_default_socket (address->session);
    address_set_label (address);
    return g_steal_pointer (&address);
}

Address *address_for_socket (const char *path)
{
    Address *address = g_new0 (Address, 1);
    address->kind = ADDRESS_UNIX;
    address->socket = g_strdup (path);
    address->port = -1;
    address_set_label (address);
    return address;
}

void address_free (Address *address)
{
    if (!address)
        return;
    g_free (address->socket);
    g_free (address->user);
    g_free (address->host);
    g_free (address->pki_dir);
    g_free (address->command);
    g_free (address->libbackupd);
    g_free (address->label);
    g_free (address);
}

/* unix sockets */

/* *ret_dir: a descriptor that must stay open while the address is used; -1. */
static gboolean unix_address (const char *path, struct sockaddr_un *ret, int *ret_dir,
                              GError **error)
{
    *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
    *ret_dir = -1;
    if (strlen (path) < sizeof ret->sun_path) {
        strcpy (ret->sun_path, path);
        return TRUE;
    }
    g_autofree char *dir = g_path_get_dirname (path);
    g_autofree char *name = g_path_get_basename (path);
    int fd = open (dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno (error, errno, _("cannot open directory '%s'"), dir);
    if (g_snprintf (ret->sun_path, sizeof ret->sun_path, "/proc/self/fd/%d/%s", fd, name)
        >= (int) sizeof ret->sun_path) {
        close (fd);
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("socket name '%s' is too long"),
                          name);
    }
    *ret_dir = fd;
    return TRUE;
}

int unix_connect (const char *path, GError **error)
{
    struct sockaddr_un address;
    int dir, saved = 0;
    if (!unix_address (path, &address, &dir, error))
        return -1;
    int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    gboolean ok = fd >= 0 && connect (fd, (struct sockaddr *) &address, sizeof address) == 0;
    saved = errno;
    if (dir >= 0)
        close (dir);
    if (ok)
        return fd;
    if (fd >= 0)
        close (fd);
    error_set (error,
               saved == EACCES || saved == EPERM ? BAK_ERROR_ACCESS_DENIED : BAK_ERROR_CONNECTION,
               _("cannot connect to '%s': %s"), path, g_strerror (saved));
    return -1;
}

int unix_bind (const char *path, int mode, GError **error)
{
    struct sockaddr_un address;
    int dir;
    if (!unix_address (path, &address, &dir, error))
        return -1;
    int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* The mode of the socket before bind() becomes the file's; a umask would be the whole
     * process's. */
    gboolean ok = fd >= 0 && fchmod (fd, 0600) == 0
                  && bind (fd, (struct sockaddr *) &address, sizeof address) == 0
                  && (mode == 0600 || chmod (address.sun_path, mode) == 0);
    int saved = errno;
    if (dir >= 0)
        close (dir);
    if (ok)
        return fd;
    if (fd >= 0)
        close (fd);
    error_set_errno (error, saved, _("cannot make socket '%s'"), path);
    return -1;
}

/* The other ways */

/* One socket is ssh's stdin and stdout; what ssh has to say goes to our stderr. */
static int ssh_connect (const Address *address, GError **error)
{
    int pair[2];
    g_autofree char *configured = config_get_string ("ssh_command");
    const char *command = address->command ? address->command : configured ? configured : "ssh";
    g_autoptr (GPtrArray) argv = g_ptr_array_new_with_free_func (g_free);
    g_ptr_array_add (argv, g_strdup (command));
    g_ptr_array_add (argv, g_strdup ("-T"));
    g_ptr_array_add (argv, g_strdup ("-e"));
    g_ptr_array_add (argv, g_strdup ("none"));
    if (address->port > 0) {
        g_ptr_array_add (argv, g_strdup ("-p"));
        g_ptr_array_add (argv, g_strdup_printf ("%d", address->port));
    }
    if (address->user) {
        g_ptr_array_add (argv, g_strdup ("-l"));
        g_ptr_array_add (argv, g_strdup (address->user));
    }
    g_ptr_array_add (argv, g_strdup ("--"));
    g_ptr_array_add (argv, g_strdup (address->host));
    /* the other side's shell sees what is an argument there */
    g_ptr_array_add (argv, address->libbackupd ? g_shell_quote (address->libbackupd)
                                               : g_strdup ("libbackupd"));
    g_ptr_array_add (argv, g_strdup ("--stdio"));
    if (address->session)
        g_ptr_array_add (argv, g_strdup ("--session"));
    if (address->socket) {
        g_autofree char *quoted = g_shell_quote (address->socket);
        g_ptr_array_add (argv, g_strdup ("--socket"));
        g_ptr_array_add (argv, g_steal_pointer (&quoted));
    }
    g_ptr_array_add (argv, NULL);

    if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        error_set_errno (error, errno, _("cannot make a pair of sockets"));
        return -1;
    }
    g_autoptr (GSubprocessLauncher) launcher = g_subprocess_launcher_new (G_SUBPROCESS_FLAGS_NONE);
    g_subprocess_launcher_take_stdout_fd (launcher, fcntl (pair[1], F_DUPFD_CLOEXEC, 3));
    g_subprocess_launcher_take_stdin_fd (launcher, pair[1]);
    g_autoptr (GSubprocess) process =
        g_subprocess_launcher_spawnv (launcher, (const char *const *) argv->pdata, error);
    if (process)
        return pair[0];
    close (pair[0]);
    g_autofree char *why = g_strdup (error && *error ? (*error)->message : "");
    g_clear_error (error);
    error_set (error, BAK_ERROR_CONNECTION, _("cannot run '%s': %s"), command, why);
    return -1;
}

gboolean address_connect (const Address *address, gboolean readonly, int *ret_fd,
                          GIOStream **ret_stream, GError **error)
{
    int fd;
    if (address->kind == ADDRESS_TLS) {
        GIOStream *stream = tls_connect (
            address->host, address->port > 0 ? address->port : TLS_PORT, address->pki_dir, error);
        if (!stream)
            return FALSE;
        *ret_stream = stream;
        return TRUE;
    }
    fd = address->kind == ADDRESS_SSH ? ssh_connect (address, error)
                                      : unix_connect (address->socket, error);
    if (fd < 0)
        return FALSE;
    *ret_fd = fd;
    return TRUE;
}
