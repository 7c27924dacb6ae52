#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <gio/gio.h>
#include <gio/gunixsocketaddress.h>
#include <glib/gi18n-lib.h>
#include "job/probe.h"
#include "util/nbd.h"

static gboolean load_libnbd (GError **error)
{
    return nbd_load (error)
           || error_note (error, _("pull backups look at what they export by libnbd"));
}

static gboolean set_tls (struct nbd_handle *nbd, const Plan *plan, GError **error)
{
    return !plan->server_tls || nbd_use_tls (nbd, plan->server_tls, plan->server_psk, FALSE, error);
}

/* libnbd is run by its asynchronous calls so that a hung server costs the deadline and no more. */
static gboolean wait_for (struct nbd_handle *nbd, gint64 deadline, gint64 cookie, GError **error)
{
    for (;;) {
        gint64 left = (deadline - g_get_monotonic_time ()) / 1000;
        if (cookie ? libnbd.aio_command_completed (nbd, cookie) != 0
                   : libnbd.aio_is_ready (nbd) != 0)
            return TRUE;
        if (libnbd.aio_is_dead (nbd) > 0 || libnbd.aio_is_closed (nbd) > 0)
            return nbd_failed (_("the export closed the connection"), error);
        if (left <= 0)
            return error_set (error, BAK_ERROR_TIMEOUT, _("the export does not answer"));
        if (libnbd.poll (nbd, (int) left) < 0)
            return nbd_failed (_("connection to the export"), error);
    }
}

static int note_error (void *data, int *error)
{
    *(int *) data = *error;
    return 1; /* retire the command */
}

static const char *reachable_host (const char *host)
{
    return g_str_equal (host, "0.0.0.0") ? "127.0.0.1" : g_str_equal (host, "::") ? "::1" : host;
}

gboolean probe_export (const Plan *plan, const PlanDisk *disk, guint timeout_ms, GError **error)
{
    if (!load_libnbd (error))
        return FALSE;
    gint64 deadline = g_get_monotonic_time () + (gint64) timeout_ms * 1000;
    struct nbd_handle *nbd = libnbd.create ();
    static char sector[512];
    int failure = 0;
    g_autofree char *port = g_strdup_printf ("%u", plan->server_port);
    const char *host = plan->server_host ? reachable_host (plan->server_host) : NULL;

    if (!nbd)
        return nbd_failed (_("cannot start a client"), error);
    gboolean ok =
        libnbd.set_export_name (nbd, disk->export_name) == 0 && set_tls (nbd, plan, error);
    ok = ok
         && ((plan->server_socket ? libnbd.aio_connect_unix (nbd, plan->server_socket)
                                  : libnbd.aio_connect_tcp (nbd, host, port))
                 == 0
             || nbd_failed (_("cannot connect to the export"), error));
    ok = ok && wait_for (nbd, deadline, 0, error);
    if (ok) {
        gint64 cookie = libnbd.aio_pread (
            nbd, sector, MIN (disk->size, sizeof sector), 0,
            (nbd_completion_callback){ .callback = note_error, .user_data = &failure }, 0);
        ok = cookie > 0 || nbd_failed (_("reading the export"), error);
        while (ok && libnbd.aio_in_flight (nbd) > 0) {
            gint64 left = (deadline - g_get_monotonic_time ()) / 1000;
            if (left <= 0)
                ok = error_set (error, BAK_ERROR_TIMEOUT, _("the export does not answer"));
            else if (libnbd.poll (nbd, (int) left) < 0)
                ok = nbd_failed (_("connection to the export"), error);
        }
        if (ok && failure)
            ok = error_set (error, BAK_ERROR_IO, _("reading the export failed: %s"),
                            g_strerror (failure));
    }
    libnbd.close (nbd);
    return ok || error_note (error, _("the point in time of disk '%s' is broken"), disk->target);
}

gboolean probe_possible (const Plan *plan, GError **error)
{
    if (!load_libnbd (error))
        return FALSE;
    if (!plan->server_tls || plan->server_psk)
        return TRUE;
    g_autofree char *certificate = g_build_filename (plan->server_tls, "client-cert.pem", NULL);
    g_autofree char *key = g_build_filename (plan->server_tls, "client-key.pem", NULL);
    if (access (certificate, R_OK) == 0 && access (key, R_OK) == 0)
        return TRUE;
    return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                      _("TLS: '%s' needs client-cert.pem and client-key.pem too: the export is "
                         "probed before success is said"),
                      plan->server_tls);
}

gboolean probe_server (const Plan *plan)
{
    g_autoptr (GSocketClient) client = g_socket_client_new ();
    g_autoptr (GSocketConnectable) address = NULL;
    if (plan->server_socket)
        address = G_SOCKET_CONNECTABLE (g_unix_socket_address_new (plan->server_socket));
    else if (plan->server_host)
        address = g_network_address_new (reachable_host (plan->server_host), plan->server_port);
    else
        return FALSE;
    g_socket_client_set_timeout (client, 5);
    g_socket_client_set_enable_proxy (client, FALSE);
    g_autoptr (GSocketConnection) connection =
        g_socket_client_connect (client, address, NULL, NULL);
    return connection != NULL;
}

/* Lines of /proc/PID/net/NAME that are connections which the server has accepted. QEMU may live in
 * another network namespace. */
static int count_connections (int pid, const char *name,
                              gboolean (*matches) (char **fields, const Plan *plan),
                              const Plan *plan)
{
    g_autofree char *who = pid > 0 ? g_strdup_printf ("%d", pid) : g_strdup ("self");
    g_autofree char *path = g_build_filename ("/proc", who, "net", name, NULL), *text = NULL;
    int count = 0;
    if (!g_file_get_contents (path, &text, NULL, NULL))
        return -1;
    g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
    for (guint i = 1; lines[0] && lines[i]; i++) {
        g_auto (GStrv) fields = g_strsplit_set (g_strstrip (lines[i]), " \t", -1);
        g_autoptr (GPtrArray) words = g_ptr_array_new ();
        for (guint k = 0; fields[k]; k++)
            if (*fields[k])
                g_ptr_array_add (words, fields[k]);
        g_ptr_array_add (words, NULL);
        count += words->len > 5 && matches ((char **) words->pdata, plan);
    }
    return count;
}

/* Num RefCount Protocol Flags Type State Inode Path */
static gboolean unix_client (char **fields, const Plan *plan)
{
    return g_strcmp0 (fields[5], "03") == 0 && g_strv_length (fields) > 7
           && g_str_equal (fields[7], plan->server_socket);
}

/* Its other end lives: that holds the third reference. */
static gboolean unix_client_alive (char **fields, const Plan *plan)
{
    return unix_client (fields, plan) && g_ascii_strtoull (fields[1], NULL, 16) > 2;
}

/* sl local_address rem_address st, addresses as ADDRESS:PORT in hexadecimal */
static gboolean tcp_client (char **fields, const Plan *plan)
{
    const char *port = strchr (fields[1], ':');
    return port && g_ascii_strtoull (port + 1, NULL, 16) == plan->server_port
           && g_str_equal (fields[3], "01");
}

int probe_count_clients (const Plan *plan, int pid, gboolean just_probed)
{
    if (plan->server_socket)
        return count_connections (pid, "unix", just_probed ? unix_client_alive : unix_client, plan);
    int four = count_connections (pid, "tcp", tcp_client, plan),
        six = count_connections (pid, "tcp6", tcp_client, plan);
    return four < 0 ? six : six < 0 ? four : four + six;
}
