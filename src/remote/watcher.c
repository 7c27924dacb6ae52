#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <gio/gio.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "remote/address.h"
#include "remote/server.h"
#include "remote/watcher.h"
#include "util/config.h"
#include "util/files.h"

enum { READY_SECONDS = 10 };

static char *guest_file (const char *state_dir, const char *guest, const char *name)
{
    return g_build_filename (state_dir, "guests", guest, name, NULL);
}

char *watcher_socket (const char *state_dir, const char *guest)
{
    return guest_file (state_dir, guest, "watcher.sock");
}

char *watcher_uri (const char *state_dir, const char *guest)
{
    g_autofree char *path = watcher_socket (state_dir, guest);
    g_autofree char *escaped = g_uri_escape_string (path, "/", FALSE);
    return g_strdup_printf ("qemu+unix:///system?socket=%s", escaped);
}

char *watcher_program (void)
{
    const char *env = g_getenv ("LIBBACKUPD");
    if (env && *env)
        return g_strdup (env);
    char *configured = config_get_string ("libbackupd_path");
    if (configured)
        return configured;
    g_autofree char *installed = g_build_filename (SBIN_DIR, "libbackupd", NULL);
    g_autofree char *self = g_file_read_link ("/proc/self/exe", NULL);
    g_autofree char *dir = g_path_get_dirname (self ? self : ".");
    g_autofree char *beside = g_build_filename (dir, "libbackupd", NULL);
    /* In a build directory: tools/baksh/baksh and tools/libbackupd/libbackupd. */
    g_autofree char *cousin = g_build_filename (dir, "..", "libbackupd", "libbackupd", NULL);
    char **const candidates[] = { &beside, &cousin };
    for (guint i = 0; i < G_N_ELEMENTS (candidates); i++)
        if (g_file_test (*candidates[i], G_FILE_TEST_IS_EXECUTABLE)
            && !g_file_test (*candidates[i], G_FILE_TEST_IS_DIR))
            return g_steal_pointer (candidates[i]);
    return g_steal_pointer (&installed);
}

/* One line "ready", or EOF when the watcher has died, or nothing for too long. */
static gboolean wait_ready (int fd, const char *log, GError **error)
{
    gint64 deadline = g_get_monotonic_time () + READY_SECONDS * G_USEC_PER_SEC;
    char byte;
    for (;;) {
        struct pollfd entry = { .fd = fd, .events = POLLIN };
        gint64 left = (deadline - g_get_monotonic_time ()) / 1000;
        int n = left > 0 ? poll (&entry, 1, left) : 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            return error_set (error, BAK_ERROR_TIMEOUT,
                              _("the watcher did not become ready in %d s (see '%s')"),
                              READY_SECONDS, log);
        ssize_t got = read (fd, &byte, 1);
        if (got == 1)
            return TRUE;
        if (got < 0 && errno == EINTR)
            continue;
        break;
    }
    g_autofree char *said = NULL;
    files_read (log, 65536, &said, NULL, NULL);
    g_autofree char *shown = text_sanitize (said ? g_strstrip (said) : "", 1024);
    return error_set (error, BAK_ERROR_INTERNAL, _("the watcher ended before it was ready: %s"),
                      *shown ? shown : log);
}

static GSubprocess *spawn (const char *program, const char *state_dir, const char *guest,
                           const char *uri, int socket_fd, int ready_fd, int log_fd, GError **error)
{
    enum { SOCKET_FD = 3, READY_FD = 4 };
    const char *const argv[] = {
        program, "--watch",    guest, "--state-dir",        state_dir, "--socket-fd",
        "3",     "--ready-fd", "4",   uri ? "--uri" : NULL, uri,       NULL
    };
    g_autoptr (GSubprocessLauncher) launcher = g_subprocess_launcher_new (G_SUBPROCESS_FLAGS_NONE);
    g_subprocess_launcher_take_stderr_fd (launcher, fcntl (log_fd, F_DUPFD_CLOEXEC, 10));
    g_subprocess_launcher_take_stdout_fd (launcher, fcntl (log_fd, F_DUPFD_CLOEXEC, 10));
    g_subprocess_launcher_take_fd (launcher, fcntl (socket_fd, F_DUPFD_CLOEXEC, 10), SOCKET_FD);
    g_subprocess_launcher_take_fd (launcher, fcntl (ready_fd, F_DUPFD_CLOEXEC, 10), READY_FD);
    return g_subprocess_launcher_spawnv (launcher, argv, error);
}

gboolean watcher_spawn (const char *state_dir, const char *guest, const char *uri, GError **error)
{
    g_autofree char *path = watcher_socket (state_dir, guest),
                    *log = guest_file (state_dir, guest, "watcher.log");
    g_autofree char *program = watcher_program ();
    g_autoptr (GError) why = NULL;
    int ready[2];

    if (!g_file_test (program, G_FILE_TEST_IS_EXECUTABLE))
        return error_set (
            error, BAK_ERROR_NOT_SUPPORTED,
            _("cannot start a watcher: '%s' is not there (set LIBBACKUPD or libbackupd_path)"),
            program);
    int listener = server_bind_unix (path, 0600, NULL, error);
    if (listener < 0)
        return FALSE;
    int log_fd = open (log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log_fd < 0 || pipe2 (ready, O_CLOEXEC) != 0) {
        error_set_errno (error, errno, _("cannot start a watcher for guest '%s'"), guest);
        if (log_fd >= 0)
            close (log_fd);
        close (listener);
        g_unlink (path);
        return FALSE;
    }
    g_autoptr (GSubprocess) process =
        spawn (program, state_dir, guest, uri, listener, ready[1], log_fd, &why);
    close (ready[1]);
    close (log_fd);
    close (listener);
    gboolean ok = process ? wait_ready (ready[0], log, error)
                          : error_set (error, BAK_ERROR_INTERNAL, _("cannot run '%s': %s"),
                                       program, why->message);
    close (ready[0]);
    if (ok)
        return TRUE;
    if (process)
        g_subprocess_force_exit (process);
    g_unlink (path);
    return FALSE;
}
