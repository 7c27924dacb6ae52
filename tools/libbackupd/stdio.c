/* --stdio: one peer, ours, at the other end of an ssh. With a daemon it is joined to that; without
 * one this process serves it, and jobs are handed to watchers as from any other program. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include "libbackupd.h"
#include "remote/address.h"
#include "remote/find.h"
#include "util/config.h"
#include "util/files.h"

static void stdio_notify (Server *server, const bak_event *event, gpointer loop)
{
    if (!event && server_count_peers (server) == 0)
        g_main_loop_quit (loop);
}

static int serve_stdio (const Options *options)
{
    g_autoptr (GError) error = NULL;
    const DriverOpenOptions open = { .role = DRIVER_ROLE_CLIENT, .state_dir = options->state_dir };
    DriverConn *conn =
        driver_open (options->session ? "qemu:///session" : "qemu:///system", &open, &error);
    if (!conn) {
        fprintf (stderr, _("error: %s\n"), error->message);
        return EXIT_FAILURE;
    }
    g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
    Signals signals = { .loop = loop };
    signals_watch (&signals);
    Server *server = server_new (conn, NULL);
    int in_fd = fcntl (STDIN_FILENO, F_DUPFD_CLOEXEC, 3),
        out_fd = fcntl (STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    server_add_peer (server, in_fd, out_fd, identity_new_trusted ("stdio"), FALSE);
    server_set_notify (server, stdio_notify, loop);
    g_main_loop_run (loop);
    server_free (server);
    driver_close (conn);
    return EXIT_SUCCESS;
}

int run_stdio (const Options *options)
{
    g_autoptr (GError) error = NULL;
    g_autofree char *state_dir =
        options->state_dir ? g_strdup (options->state_dir) : config_state_dir (options->session);
    g_autofree char *socket = options->socket ? g_strdup (options->socket)
                                              : daemon_find (state_dir, options->session, &error);
    if (error) {
        fprintf (stderr, _("error: %s\n"), error->message);
        return EXIT_FAILURE;
    }
    return socket ? run_splice (socket) : serve_stdio (options);
}
