/* The daemon proper: owns a state directory, listens, and hands its guests over to whoever starts
 * next. */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <glib/gi18n.h>
#include <glib/gstdio.h>
#include "libbackupd.h"
#include "remote/find.h"
#include "remote/tls.h"
#include "util/config.h"
#include "util/files.h"

typedef struct {
    const Options *options;
    char *state_dir, *socket, *readonly_socket;
    gboolean made_socket, made_readonly; /* we unlink what we made */
    int lock_fd;
    DriverConn *conn;
    Server *server;
    TlsListener *tls;
} Daemon;

enum {
    TRIM_SECONDS = 2,
    TRIM_AGAIN_SECONDS = 4 /* by then the monitors are let go, which have buffers */
};

static guint trimming;
static gboolean trim_again;

static gboolean trim (gpointer data)
{
    malloc_trim (0);
    trimming = trim_again ? g_timeout_add_seconds (TRIM_AGAIN_SECONDS, trim, NULL) : 0;
    trim_again = FALSE;
    return G_SOURCE_REMOVE;
}

/* To get to know a QEMU, to have a backup, and to queue replies for who does not read them takes
 * megabytes for a moment, which malloc would keep. event NULL: a peer has come or gone. */
static void after_event (Server *server, const bak_event *event, gpointer data)
{
    if (event && event->kind != EVENT_LIFECYCLE && event->kind != EVENT_JOB_COMPLETED)
        return;
    trim_again = TRUE;
    if (!trimming)
        trimming = g_timeout_add_seconds (TRIM_SECONDS, trim, NULL);
}

static char *option_or_config (const char *option, const char *key)
{
    return option ? g_strdup (option) : config_get_string (key);
}

/* Reads the configuration and all that it names; nothing of it is used unless all is right. What of
 * it has an effect without a restart: access and certificates, and what each backup asks for anew.
 */
static gboolean daemon_apply_config (Daemon *daemon, GError **error)
{
    g_autoptr (GHashTable) values = config_read (NULL, error);
    g_autoptr (Policy) policy =
        values ? policy_load (g_hash_table_lookup (values, "policy_file"), error) : NULL;
    if (!policy
        || (daemon->tls
            && !tls_listener_reload (daemon->tls, g_hash_table_lookup (values, "tls_x509_dir"),
                                     g_hash_table_lookup (values, "tls_allowed_names"), error)))
        return FALSE;
    server_set_policy (daemon->server, policy);
    server_set_audit (daemon->server,
                      g_strcmp0 (g_hash_table_lookup (values, "audit_log"), "no") != 0);
    config_use (g_steal_pointer (&values));
    return TRUE;
}

gboolean check_config (const Options *options, GError **error)
{
    GHashTable *values = config_read (options->config, error);
    if (!values)
        return FALSE;
    config_use (values);
    g_autofree char *address = option_or_config (options->listen_tls, "listen_tls"),
                    *path = config_get_string ("policy_file");
    g_autoptr (Policy) policy = policy_load (path, error);
    return policy && (!address || tls_check (address, error));
}

static void daemon_reload (gpointer data)
{
    g_autoptr (GError) error = NULL;
    systemd_notify ("RELOADING=1");
    if (daemon_apply_config (data, &error))
        g_message ("the configuration is read again");
    else
        g_warning ("the configuration stays as it was: %s", error->message);
    systemd_notify ("READY=1");
}

static char *socket_group (void)
{
    char *group = config_get_string ("socket_group");
    return group ? group : g_strdup ("libbackup");
}

static gboolean wants_polkit (void)
{
    g_autofree char *text = config_get_string ("polkit");
    return g_strcmp0 (text, "yes") == 0;
}

static gboolean listen_unix (Daemon *daemon, const char *path, int mode, ListenKind kind,
                             gboolean *ret_made, GError **error)
{
    g_autofree char *dir = g_path_get_dirname (path), *group = socket_group ();
    if (!files_make_dir (dir, 0755, error))
        return FALSE;
    int fd = server_bind_unix (path, mode, group, error);
    if (fd < 0)
        return FALSE;
    *ret_made = TRUE;
    return server_listen (daemon->server, fd, kind, error);
}

/* A socket unit's file name tells which of the two it is; a name with "-ro" is the read-only one.
 */
static gboolean listen_inherited (Daemon *daemon, int count, GError **error)
{
    for (int i = 0; i < count; i++) {
        struct sockaddr_un address = { 0 };
        socklen_t size = sizeof address - 1;
        int fd = SYSTEMD_FIRST_FD + i;
        if (getsockname (fd, (struct sockaddr *) &address, &size) != 0
            || address.sun_family != AF_UNIX)
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                              _("inherited descriptor %d is not a unix socket"), fd);
        gboolean readonly = g_str_has_suffix (address.sun_path, "-ro")
                            || g_str_has_suffix (address.sun_path, "-ro.sock");
        char **slot = readonly ? &daemon->readonly_socket : &daemon->socket;
        g_free (*slot);
        *slot = g_strdup (address.sun_path);
        if (!server_listen (daemon->server, fd, readonly ? LISTEN_RO : LISTEN_RW, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean daemon_listen_tls (Daemon *daemon, GError **error)
{
    g_autofree char *address = option_or_config (daemon->options->listen_tls, "listen_tls");
    g_autofree char *names = config_get_string ("tls_allowed_names");
    if (!address)
        return TRUE;
    daemon->tls = tls_listen (daemon->server, address, NULL, names, error);
    return daemon->tls != NULL;
}

static gboolean daemon_listen (Daemon *daemon, GError **error)
{
    const Options *options = daemon->options;
    int inherited = options->socket ? 0 : systemd_listen_fds ();
    if (inherited > 0 && !listen_inherited (daemon, inherited, error))
        return FALSE;
    if (!daemon->socket) {
        daemon->socket = option_or_config (options->socket, "socket");
        if (!daemon->socket)
            daemon->socket = config_default_socket (options->session);
        if (!listen_unix (daemon, daemon->socket, wants_polkit () ? 0666 : 0660, LISTEN_RW,
                          &daemon->made_socket, error))
            return FALSE;
    }
    if (!daemon->readonly_socket) {
        daemon->readonly_socket = option_or_config (options->readonly_socket, "readonly_socket");
        if (daemon->readonly_socket
            && !listen_unix (daemon, daemon->readonly_socket, 0666, LISTEN_RO,
                             &daemon->made_readonly, error))
            return FALSE;
    }
    return daemon_listen_tls (daemon, error);
}

/* Each peer is a descriptor, and guests have some of their own: what cannot be had is taken off the
 * peers. */
static guint room_for_peers (guint wanted)
{
    struct rlimit limit;
    if (getrlimit (RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted + 1024)
        return wanted;
    limit.rlim_cur = MIN (limit.rlim_max, (rlim_t) wanted + 1024);
    setrlimit (RLIMIT_NOFILE, &limit);
    getrlimit (RLIMIT_NOFILE, &limit);
    guint room = limit.rlim_cur >= wanted + 1024 ? wanted : MIN (wanted, limit.rlim_cur / 2);
    if (room < wanted)
        g_message ("room for %u peers only: no more than %" G_GUINT64_FORMAT
                   " descriptors (ulimit -n)",
                   room, (guint64) limit.rlim_cur);
    return room;
}

static gboolean daemon_start (Daemon *daemon, GError **error)
{
    const Options *options = daemon->options;
    if (!check_config (options, error))
        return FALSE;
    daemon->state_dir = options->state_dir ? g_canonicalize_filename (options->state_dir, NULL)
                                           : config_state_dir (options->session);
    daemon->lock_fd = daemon_claim (daemon->state_dir, error);
    if (daemon->lock_fd < 0)
        return FALSE;
    const DriverOpenOptions open = { .role = DRIVER_ROLE_DAEMON, .state_dir = daemon->state_dir };
    daemon->conn =
        driver_open (options->session ? "qemu:///session" : "qemu:///system", &open, error);
    if (!daemon->conn)
        return FALSE;
    ServerLimits limits = server_default_limits;
    limits.max_peers = CLAMP (config_get_int ("max_peers", limits.max_peers), 1, 100000);
    limits.max_anonymous =
        CLAMP (config_get_int ("max_anonymous_peers", limits.max_anonymous), 1, 100000);
    limits.max_peers = room_for_peers (limits.max_peers);
    daemon->server = server_new (daemon->conn, &limits);
    server_set_notify (daemon->server, after_event, NULL);
    if (wants_polkit ()) { /* not with SIGHUP: the mode of the socket goes with it */
        g_autofree char *group = socket_group ();
        server_set_polkit (daemon->server, group);
    }
    return daemon_apply_config (daemon, error) && daemon_listen (daemon, error)
           && daemon_announce (daemon->state_dir, daemon->socket, error);
}

static void daemon_stop (Daemon *daemon)
{
    if (daemon->lock_fd >= 0)
        daemon_retire (daemon->state_dir);
    if (daemon->made_socket)
        g_unlink (daemon->socket);
    if (daemon->made_readonly)
        g_unlink (daemon->readonly_socket);
    tls_listener_free (daemon->tls);
    server_free (daemon->server);
    driver_close (daemon->conn);
    if (daemon->lock_fd >= 0)
        close (daemon->lock_fd);
    g_free (daemon->state_dir);
    g_free (daemon->socket);
    g_free (daemon->readonly_socket);
}

int run_daemon (const Options *options)
{
    g_autoptr (GError) error = NULL;
    g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
    Daemon daemon = { .options = options, .lock_fd = -1 };
    Signals signals = { .loop = loop, .hangup = daemon_reload, .data = &daemon };
    gboolean ok = daemon_start (&daemon, &error);

    if (ok) {
        signals_watch (&signals);
        g_message ("libbackupd %s owns %s and listens on %s", LIBBACKUP_VERSION, daemon.state_dir,
                   daemon.socket);
        systemd_notify ("READY=1");
        g_main_loop_run (loop);
        systemd_notify ("STOPPING=1");
    } else {
        fprintf (stderr, _("error: %s\n"), error->message);
    }
    daemon_stop (&daemon);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
