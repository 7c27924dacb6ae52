#include "program.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TICK_MS = 200, GRACE_MS = 2000 };

static void in_child (gpointer data)
{
    setpgid (0, 0);
    signal (SIGTERM, SIG_DFL);
    signal (SIGINT, SIG_DFL);
}

static char **environment_of (JsonObject *facts)
{
    char **env = g_get_environ ();
    JsonObjectIter iter;
    const char *key;
    JsonNode *node;
    if (!facts)
        return env;
    json_object_iter_init (&iter, facts);
    while (json_object_iter_next (&iter, &key, &node)) {
        g_autofree char *upper = g_ascii_strup (key, -1);
        g_autofree char *name = g_strconcat ("LIBBACKUP_", upper, NULL);
        g_autofree char *value = NULL;
        GType type =
            JSON_NODE_HOLDS_VALUE (node) ? json_node_get_value_type (node) : G_TYPE_INVALID;
        if (type == G_TYPE_STRING)
            value = g_strdup (json_node_get_string (node));
        else if (type == G_TYPE_INT64)
            value = g_strdup_printf ("%" G_GINT64_FORMAT, json_node_get_int (node));
        else if (type == G_TYPE_BOOLEAN)
            value = g_strdup (json_node_get_boolean (node) ? "yes" : "no");
        if (value)
            env = g_environ_setenv (env, name, value, TRUE);
    }
    return env;
}

/* A file without a name that holds the text: no pipe that both sides could wait at. -1: failed. */
static int input_of (const char *text)
{
    gsize length = strlen (text), written = 0;
    int fd = memfd_create ("input", MFD_CLOEXEC);
    while (fd >= 0 && written < length) {
        ssize_t n = write (fd, text + written, length - written);
        if (n < 0 && errno != EINTR)
            break;
        written += MAX (n, 0);
    }
    if (fd >= 0 && (written < length || lseek (fd, 0, SEEK_SET) != 0)) {
        close (fd);
        fd = -1;
    }
    return fd;
}

/* TRUE: it has ended. */
static gboolean wait_for (pid_t pid, int pidfd, gint64 milliseconds, BakCancellation *cancellation,
                          int *ret_status)
{
    gint64 deadline = g_get_monotonic_time () + milliseconds * 1000;
    for (;;) {
        pid_t ended = waitpid (pid, ret_status, WNOHANG);
        if (ended == pid)
            return TRUE;
        gint64 left = (deadline - g_get_monotonic_time ()) / 1000;
        if (left <= 0 || (cancellation && bak_cancellation_is_cancelled (cancellation)))
            return FALSE;
        struct pollfd fd = { .fd = pidfd, .events = POLLIN };
        poll (&fd, pidfd >= 0 ? 1 : 0, (int) MIN (left, TICK_MS));
    }
}

static int end_of (int status, char **ret_why)
{
    if (WIFEXITED (status))
        return WEXITSTATUS (status);
    *ret_why = g_strdup_printf (_("it died of signal %d"), WTERMSIG (status));
    return -1;
}

static int wait_or_kill (const Program *program, pid_t pid, char **ret_why)
{
    int pidfd = (int) syscall (SYS_pidfd_open, pid, 0), status = 0, ret = -1;
    if (wait_for (pid, pidfd, program->timeout / 1000, program->cancellation, &status)) {
        ret = end_of (status, ret_why);
    } else {
        g_autofree char *limit = format_seconds (program->timeout);
        *ret_why = program->cancellation && bak_cancellation_is_cancelled (program->cancellation)
                       ? g_strdup (_("the run was interrupted"))
                       : g_strdup_printf (_("it did not end within %s"), limit);
        kill (-pid, SIGTERM);
        if (!wait_for (pid, pidfd, GRACE_MS, NULL, &status)) {
            kill (-pid, SIGKILL);
            waitpid (pid, &status, 0);
        }
    }
    if (pidfd >= 0)
        close (pidfd);
    return ret;
}

int program_run (const Program *program, char **ret_why)
{
    g_auto (GStrv) env = environment_of (program->facts);
    g_autoptr (GError) error = NULL;
    GPid pid;
    int input = input_of (program->input ? program->input : "");
    if (input < 0) {
        *ret_why = g_strdup (g_strerror (errno));
        return -1;
    }
    gboolean started =
        g_spawn_async_with_fds (NULL, (char **) program->argv, env, G_SPAWN_DO_NOT_REAP_CHILD,
                                in_child, NULL, &pid, input, STDERR_FILENO, STDERR_FILENO, &error);
    close (input);
    if (started)
        return wait_or_kill (program, pid, ret_why);
    *ret_why = g_strdup (error->message);
    return -1;
}
