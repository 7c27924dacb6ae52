/* --watch GUEST: owns one guest while a job runs without a daemon. It ends when the guest has no
 * running job and nobody is connected, both for a moment. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n.h>
#include <glib/gstdio.h>
#include "libbackupd.h"
#include "remote/watcher.h"

enum { FIRST_SECONDS = 30, GRACE_MS = 2000 };

typedef struct {
    const char *guest;
    Server *server;
    GMainLoop *loop;
    GSource *timer;
    gboolean started; /* a peer was here */
    gboolean looking;
} Watch;

static void watch_arm (Watch *watch);

/* On a thread: the driver may have to wait. */
static void look_for_job (GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
    Watch *watch = data;
    bak_job_arg args = { .domain = (char *) watch->guest, .job = (char *) "" };
    bak_job_ret ret = { 0 };
    gboolean runs = call_backup_info (server_get_conn (watch->server), &args, &ret, NULL)
                    && ret.job.state != JOB_STATE_NONE && !job_state_ended (ret.job.state);
    call_clear_ret (CALL_ID_backup_info, &ret);
    g_task_return_boolean (task, runs);
}

static void looked (GObject *source, GAsyncResult *result, gpointer data)
{
    Watch *watch = data;
    gboolean runs = g_task_propagate_boolean (G_TASK (result), NULL);
    watch->looking = FALSE;
    if (server_count_peers (watch->server) > 0 || server_count_calls (watch->server) > 0)
        return;
    if (!runs)
        g_main_loop_quit (watch->loop);
    else
        g_debug ("the job of guest %s runs on", watch->guest);
}

static gboolean grace_over (gpointer data)
{
    Watch *watch = data;
    g_clear_pointer (&watch->timer, g_source_unref);
    if (server_count_peers (watch->server) > 0 || server_count_calls (watch->server) > 0
        || watch->looking)
        return G_SOURCE_REMOVE;
    watch->looking = TRUE;
    g_autoptr (GTask) task = g_task_new (NULL, NULL, looked, watch);
    g_task_set_task_data (task, watch, NULL);
    g_task_run_in_thread (task, look_for_job);
    return G_SOURCE_REMOVE;
}

static void watch_arm (Watch *watch)
{
    if (watch->timer)
        g_source_destroy (watch->timer);
    g_clear_pointer (&watch->timer, g_source_unref);
    if (server_count_peers (watch->server) > 0)
        return;
    watch->timer = g_timeout_source_new (watch->started ? GRACE_MS : FIRST_SECONDS * 1000);
    g_source_set_callback (watch->timer, grace_over, watch, NULL);
    g_source_attach (watch->timer, NULL);
}

/* Peers come and go, jobs end: each time the moment begins anew. */
static void watch_notify (Server *server, const bak_event *event, gpointer data)
{
    Watch *watch = data;
    if (server_count_peers (server) > 0)
        watch->started = TRUE;
    if (!event || event->kind == EVENT_JOB_COMPLETED)
        watch_arm (watch);
}

static void close_std (void)
{
    setsid ();
    int null = open ("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return;
    dup2 (null, STDIN_FILENO);
    close (null);
}

static gboolean watch_serve (Watch *watch, const Options *options, GError **error)
{
    g_autofree char *path = watcher_socket (options->state_dir, watch->guest);
    struct stat ours, now;
    Signals signals = { .loop = watch->loop };

    fcntl (options->socket_fd, F_SETFD, FD_CLOEXEC);
    if (lstat (path, &ours) != 0)
        memset (&ours, 0, sizeof ours);
    if (!server_listen (watch->server, options->socket_fd, LISTEN_PRIVATE, error))
        return FALSE;
    server_set_notify (watch->server, watch_notify, watch);
    watch_arm (watch);
    signals_watch (&signals);
    if (options->ready_fd >= 0) {
        if (write (options->ready_fd, "ready\n", 6) < 0)
            g_warning ("nobody waits for us to be ready: %m");
        close (options->ready_fd);
    }
    g_main_loop_run (watch->loop);
    /* First the name goes, then the door is shut; the name may be a successor's by now. */
    if (lstat (path, &now) == 0 && now.st_ino == ours.st_ino && now.st_dev == ours.st_dev)
        g_unlink (path);
    return TRUE;
}

int run_watcher (const Options *options)
{
    g_autoptr (GError) error = NULL;
    if (!options->state_dir || options->socket_fd < 0) {
        fprintf (stderr, "error: --watch needs --state-dir and --socket-fd\n");
        return 2;
    }
    close_std ();
    const DriverOpenOptions open = { .role = DRIVER_ROLE_WATCHER,
                                     .state_dir = options->state_dir,
                                     .watch_guest = options->watch };
    const char *local = options->session ? "qemu:///session" : "qemu:///system";
    DriverConn *conn = driver_open (options->uri ? options->uri : local, &open, &error);
    if (!conn) {
        fprintf (stderr, _("error: %s\n"), error->message);
        return EXIT_FAILURE;
    }
    Watch watch = { .guest = options->watch,
                    .loop = g_main_loop_new (NULL, FALSE),
                    .server = server_new (conn, NULL) };
    gboolean ok = watch_serve (&watch, options, &error);
    if (!ok)
        fprintf (stderr, _("error: %s\n"), error->message);
    server_free (watch.server);
    if (watch.timer)
        g_source_destroy (watch.timer);
    g_clear_pointer (&watch.timer, g_source_unref);
    while (watch.looking)
        g_main_context_iteration (NULL, TRUE);
    driver_close (conn);
    g_main_loop_unref (watch.loop);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
