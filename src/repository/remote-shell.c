#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "mover/control.h"
#include "repository/remote-shell.h"
#include "util/config.h"
#include "util/process.h"

enum {
    TIMEOUT_S = 60,
    CONNECT_S = 20,
    SSH_FAILED = 255,
    OUTPUT_MAX = 16 * 1024 * 1024,
    MESSAGES_MAX = 4096,
    PIECE = 256 * 1024,
    SETTLE_BYTES_PER_S = 10 * 1000 * 1000, /* it is synced and hashed there, at least so quickly */
};

struct RemoteShell {
    char *host, *user, *path;
    int port; /* -1: ssh's own */
    MoverControl *control;
    GPid holder; /* 0: no lock */
    int holder_in, holder_out;
};

gboolean remote_shell_is_url (const char *url)
{
    return g_str_has_prefix (url, "ssh://");
}

RemoteShell *remote_shell_new (const char *url, MoverControl *control, GError **error)
{
    g_autoptr (GUri) uri = g_uri_parse (url, G_URI_FLAGS_NONE, NULL);
    const char *host = uri ? g_uri_get_host (uri) : NULL, *path = uri ? g_uri_get_path (uri) : NULL;
    const char *user = uri ? g_uri_get_userinfo (uri) : NULL;
    gboolean sound = remote_shell_is_url (url) && host && *host && *host != '-' && path
                     && path[0] == '/' && path[1] && (!user || *user != '-');
    if (!sound) {
        error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                   _("'%s' is not ssh://[USER@]HOST[:PORT]/PATH"), url);
        return NULL;
    }
    RemoteShell *shell = g_new0 (RemoteShell, 1);
    shell->host = g_strdup (host);
    shell->user = g_strdup (user);
    shell->path = g_strdup (path);
    shell->port = g_uri_get_port (uri);
    shell->control = mover_control_ref (control);
    shell->holder_in = shell->holder_out = -1;
    return shell;
}

static void reap (GPid pid, int *ret_status)
{
    int status = 0;
    while (waitpid (pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (ret_status)
        *ret_status = status;
}

static void release (RemoteShell *shell)
{
    if (!shell->holder)
        return;
    close (shell->holder_in);
    close (shell->holder_out);
    kill (shell->holder, SIGKILL);
    reap (shell->holder, NULL);
    shell->holder = 0;
}

void remote_shell_free (RemoteShell *shell)
{
    if (!shell)
        return;
    release (shell);
    mover_control_unref (shell->control);
    g_free (shell->host);
    g_free (shell->user);
    g_free (shell->path);
    g_free (shell);
}

char *remote_shell_quote (const RemoteShell *shell, const char *below)
{
    g_autofree char *path =
        below ? g_strconcat (shell->path, "/", below, NULL) : g_strdup (shell->path);
    return g_shell_quote (path);
}

/* ---- one ssh ---- */

static gint64 timeout_us (void)
{
    return MAX (config_get_int ("remote_timeout", TIMEOUT_S), 1) * G_USEC_PER_SEC;
}

static GPtrArray *words_of (const RemoteShell *shell, const char *script)
{
    char *configured = config_get_string ("ssh_command");
    g_autofree char *quoted = g_shell_quote (script);
    GPtrArray *words = g_ptr_array_new_with_free_func (g_free);
    g_ptr_array_add (words, configured ? configured : g_strdup ("ssh"));
    g_ptr_array_add (words, g_strdup ("-T"));
    g_ptr_array_add (words, g_strdup_printf ("-oConnectTimeout=%d", CONNECT_S));
    g_ptr_array_add (words, g_strdup ("-oServerAliveInterval=15"));
    if (shell->port > 0) {
        g_ptr_array_add (words, g_strdup ("-p"));
        g_ptr_array_add (words, g_strdup_printf ("%d", shell->port));
    }
    if (shell->user) {
        g_ptr_array_add (words, g_strdup ("-l"));
        g_ptr_array_add (words, g_strdup (shell->user));
    }
    g_ptr_array_add (words, g_strdup ("--"));
    g_ptr_array_add (words, g_strdup (shell->host));
    g_ptr_array_add (words, g_strconcat ("exec sh -c ", quoted, NULL));
    g_ptr_array_add (words, NULL);
    return words;
}

typedef struct {
    GPid pid;
    int in, out, err; /* -1: at its end */
} Ssh;

/* A socket as its standard input: who writes to one that is gone gets an error and no signal. */
static gboolean ssh_start (const RemoteShell *shell, const char *script, Ssh *ssh, GError **error)
{
    g_autoptr (GPtrArray) words = words_of (shell, script);
    g_autoptr (GError) why = NULL;
    int pair[2];
    if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return error_set_errno (error, errno, _("cannot make a socket"));
    gboolean ok = g_spawn_async_with_pipes_and_fds (NULL, (const char *const *) words->pdata, NULL,
                                                    G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD,
                                                    NULL, NULL, pair[1], -1, -1, NULL, NULL, 0,
                                                    &ssh->pid, NULL, &ssh->out, &ssh->err, &why);
    close (pair[1]);
    ssh->in = pair[0];
    if (ok)
        return TRUE;
    close (pair[0]);
    return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("cannot run '%s': %s"),
                      (char *) words->pdata[0], why->message);
}

static void close_end (int *fd)
{
    if (*fd >= 0)
        close (*fd);
    *fd = -1;
}

/* One run on its way. */
typedef struct {
    RemoteShell *shell;
    const RemoteInput *input;
    Ssh ssh;
    GString *output, *messages;
    guint64 sent;
    gint64 deadline;
    char *piece; /* read and not sent yet: from begin to end */
    gsize begin, end;
    gint64 wait_us; /* the limit holds it back for so long */
} Run;

static guint64 left_of (const Run *run)
{
    return run->input ? run->input->length - run->sent - (run->end - run->begin) : 0;
}

static gboolean fill_piece (Run *run, GError **error)
{
    gsize wanted = MIN (left_of (run), (guint64) PIECE);
    if ((run->wait_us = mover_control_take (run->shell->control, wanted)) > 0)
        return TRUE;
    ssize_t n = pread (run->input->fd, run->piece, wanted, run->input->offset + run->sent);
    if (n <= 0)
        return error_set_errno (error, n < 0 ? errno : EIO, _("cannot read what is to be sent"));
    run->begin = 0;
    run->end = n;
    return TRUE;
}

static void moved (Run *run, guint64 settle)
{
    run->deadline = g_get_monotonic_time () + timeout_us ()
                    + (gint64) (settle / SETTLE_BYTES_PER_S) * G_USEC_PER_SEC;
}

/* Some of the input; the end of it is told by closing. */
static gboolean feed (Run *run, GError **error)
{
    if (run->begin == run->end && left_of (run) > 0 && !fill_piece (run, error))
        return FALSE;
    if (run->wait_us > 0) {
        moved (run, 0);
        return TRUE;
    }
    if (run->begin < run->end) {
        ssize_t n = send (run->ssh.in, run->piece + run->begin, run->end - run->begin,
                          MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return TRUE;
        if (n < 0) { /* what became of it is said by its exit status */
            close_end (&run->ssh.in);
            return TRUE;
        }
        run->begin += n;
        run->sent += n;
        moved (run, 0);
        if (run->input->sent)
            run->input->sent (n, run->input->data);
    }
    if (run->begin == run->end && left_of (run) == 0) {
        close_end (&run->ssh.in);
        moved (run, run->input ? run->input->offset + run->input->length : 0);
    }
    return TRUE;
}

static void take (Run *run, int *fd, GString *text, gsize max)
{
    char buffer[16384];
    ssize_t n = read (*fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR)
        return;
    if (n <= 0) {
        close_end (fd);
        return;
    }
    g_string_append_len (text, buffer, MIN ((gsize) n, max - MIN (max, text->len)));
}

static gboolean step (Run *run, int stop, GError **error)
{
    gint64 now = g_get_monotonic_time (), until = run->deadline - now;
    gboolean held = run->wait_us > 0;
    struct pollfd polls[] = { { held ? -1 : run->ssh.in, POLLOUT, 0 },
                              { run->ssh.out, POLLIN, 0 },
                              { run->ssh.err, POLLIN, 0 },
                              { stop, POLLIN, 0 } };
    if (until <= 0)
        return error_set (error, BAK_ERROR_TIMEOUT,
                          _("nothing moved for %d s (remote_timeout): host '%s' does not answer"),
                          (int) (timeout_us () / G_USEC_PER_SEC), run->shell->host);
    if (held)
        until = MIN (until, run->wait_us);
    if (poll (polls, G_N_ELEMENTS (polls), MIN (until / 1000 + 1, G_MAXINT)) < 0 && errno != EINTR)
        return error_set_errno (error, errno, _("cannot wait"));
    if (mover_control_cancelled (run->shell->control))
        return error_set (error, BAK_ERROR_ABORTED, _("stopped"));
    run->wait_us = 0;
    if (polls[1].revents)
        take (run, &run->ssh.out, run->output, OUTPUT_MAX);
    if (polls[2].revents)
        take (run, &run->ssh.err, run->messages, MESSAGES_MAX);
    return run->ssh.in < 0 || !(held || polls[0].revents) || feed (run, error);
}

static gboolean run_to_end (Run *run, int *ret_status, GError **error)
{
    int stop = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
    gboolean ok = TRUE;
    mover_control_watch (run->shell->control, stop, stop);
    moved (run, 0);
    while (ok && (run->ssh.out >= 0 || run->ssh.err >= 0))
        ok = step (run, stop, error);
    mover_control_unwatch (run->shell->control, stop);
    close (stop);
    close_end (&run->ssh.in);
    close_end (&run->ssh.out);
    close_end (&run->ssh.err);
    if (!ok || !process_wait_gone (run->ssh.pid, timeout_us () / 1000))
        kill (run->ssh.pid, SIGKILL);
    reap (run->ssh.pid, ret_status);
    return ok;
}

static char *last_line (const GString *messages)
{
    g_autofree char *text = g_strchomp (g_strdup (messages->str));
    const char *line = strrchr (text, '\n');
    return text_sanitize (line ? line + 1 : text, 512);
}

gboolean remote_shell_run (RemoteShell *shell, const char *script, const RemoteInput *input,
                           int *ret_status, char **ret_output, GError **error)
{
    Run run = { .shell = shell, .input = input };
    int status = 0;
    if (!ssh_start (shell, script, &run.ssh, error))
        return FALSE;
    run.output = g_string_new (NULL);
    run.messages = g_string_new (NULL);
    run.piece = g_malloc (PIECE);
    gboolean ok = run_to_end (&run, &status, error);
    g_autofree char *said = last_line (run.messages), *output = g_string_free (run.output, FALSE);
    g_string_free (run.messages, TRUE);
    g_free (run.piece);
    gboolean of_ssh = !WIFEXITED (status) || WEXITSTATUS (status) == SSH_FAILED;
    if (ok && of_ssh)
        ok = error_set (error, BAK_ERROR_CONNECTION, _("ssh to '%s': %s"), shell->host,
                        *said ? said : _("it was ended"));
    if (ok)
        *ret_status = WEXITSTATUS (status);
    if (ok && *ret_status != 0)
        g_debug ("on '%s': %s", shell->host, said);
    if (ok && ret_output)
        *ret_output = *ret_status ? g_steal_pointer (&said) : g_steal_pointer (&output);
    return ok;
}

gboolean remote_shell_must (RemoteShell *shell, const char *script, const RemoteInput *input,
                            char **ret_output, GError **error)
{
    g_autofree char *output = NULL;
    int status;
    if (!remote_shell_run (shell, script, input, &status, &output, error))
        return FALSE;
    if (status != 0)
        return error_set (error, error_code_from_text (output), _("on host '%s': %s"), shell->host,
                          *output ? output : _("a command failed"));
    if (ret_output)
        *ret_output = g_steal_pointer (&output);
    return TRUE;
}

/* ---- the lock ---- */

static gboolean await_lock (RemoteShell *shell, int out)
{
    struct pollfd poll_fd = { out, POLLIN, 0 };
    char line[8];
    return poll (&poll_fd, 1, timeout_us () / 1000) > 0 && read (out, line, sizeof line) > 0;
}

gboolean remote_shell_lock (RemoteShell *shell, const char *below, GError **error)
{
    g_autofree char *path = remote_shell_quote (shell, below);
    g_autofree char *script =
        g_strdup_printf ("exec flock -n -E 45 %s sh -c 'echo locked; exec cat >/dev/null'", path);
    Ssh ssh;
    if (!ssh_start (shell, script, &ssh, error))
        return FALSE;
    close_end (&ssh.err);
    shell->holder = ssh.pid;
    shell->holder_in = ssh.in;
    shell->holder_out = ssh.out;
    if (await_lock (shell, ssh.out))
        return TRUE;
    release (shell);
    return error_set (error, BAK_ERROR_BUSY,
                      _("'%s' on host '%s' is in use by another copy, or flock is not there"),
                      below, shell->host);
}

gboolean remote_shell_is_locked (RemoteShell *shell)
{
    struct pollfd poll_fd = { shell->holder_out, POLLIN, 0 };
    return shell->holder && poll (&poll_fd, 1, 0) == 0;
}
