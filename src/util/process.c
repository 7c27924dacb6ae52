#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <glib.h>
#include <glib/gi18n-lib.h>
#include "util/config.h"
#include "util/files.h"
#include "util/process.h"

enum { MESSAGES_MAX = 4096, COMMAND_LINE_MAX = 1024 * 1024 };

char *process_find (const char *variable, const char *key, const char *fallback)
{
    const char *env = g_getenv (variable);

    if (env && *env)
        return g_strdup (env);
    char *configured = config_get_string (key);
    return configured ? configured : g_strdup (fallback);
}

typedef struct {
    GPid pid;
    int fds[2]; /* stdout, stderr; -1: at its end */
    GString *texts[2];
    gsize max_output;
    gboolean too_much;
} Run;

/* One read of one pipe; stderr beyond its limit is read and forgotten, stdout beyond it ends the
 * run. */
static void run_read (Run *run, int i)
{
    char buffer[16384];
    ssize_t n = read (run->fds[i], buffer, sizeof buffer);

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        close (run->fds[i]);
        run->fds[i] = -1;
        return;
    }
    gsize room = (i == 0 ? run->max_output : MESSAGES_MAX) - run->texts[i]->len;
    run->too_much |= i == 0 && (gsize) n > room;
    g_string_append_len (run->texts[i], buffer, MIN ((gsize) n, room));
}

/* FALSE: the deadline has passed. */
static gboolean run_drain (Run *run, gint64 deadline)
{
    while (!run->too_much && (run->fds[0] >= 0 || run->fds[1] >= 0)) {
        struct pollfd polls[2] = { { run->fds[0], POLLIN, 0 }, { run->fds[1], POLLIN, 0 } };
        gint64 left = (deadline - g_get_monotonic_time () + 999) / 1000;
        if (left <= 0)
            return FALSE;
        if (poll (polls, 2, MIN (left, G_MAXINT)) < 0 && errno != EINTR)
            return FALSE;
        for (int i = 0; i < 2; i++)
            if (run->fds[i] >= 0 && polls[i].revents)
                run_read (run, i);
    }
    return TRUE;
}

/* Both pipes are at their end, yet the process may close them and stay; one that hangs in the
 * kernel outlives even SIGKILL. *ret_wait: -1 when somebody else in this process has taken the
 * status. */
static gboolean run_reap (Run *run, gint64 deadline, int *ret_wait)
{
    gint64 left = MAX ((deadline - g_get_monotonic_time ()) / 1000, 0);
    gboolean ended = process_wait_gone (run->pid, left);
    pid_t pid;

    if (!ended)
        kill (run->pid, SIGKILL);
    *ret_wait = -1;
    if (!ended && !process_wait_gone (run->pid, 1000))
        return FALSE;
    do
        pid = waitpid (run->pid, ret_wait, 0);
    while (pid < 0 && errno == EINTR);
    return ended;
}

typedef struct {
    pid_t parent;
    gboolean has_secret;
} Child;

/* Between fork and exec. Who waits for it is this thread: what it does for one that was killed is
 * done for nobody, and what it holds locked is wanted by whoever comes to clear up. */
static void child_setup (gpointer data)
{
    const Child *child = data;
    const struct rlimit none = { 0, 0 };
    if (child->has_secret && setrlimit (RLIMIT_CORE, &none) != 0)
        _exit (126);
    if (prctl (PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid () != child->parent)
        _exit (126);
}

static gboolean run_start (Run *run, const char *const *argv, int extra, GError **error)
{
    g_autoptr (GError) why = NULL;
    g_auto (GStrv) env = g_environ_setenv (g_get_environ (), "LC_ALL", "C", TRUE);
    const int to = PROCESS_EXTRA_FD;
    Child child = { getpid (), extra >= 0 };
    const GSpawnFlags flags = G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD;

    if (g_spawn_async_with_pipes_and_fds (NULL, argv, (const char *const *) env, flags, child_setup,
                                          &child, -1, -1, -1, &extra, &to, extra >= 0, &run->pid,
                                          NULL, &run->fds[0], &run->fds[1], &why))
        return TRUE;
    return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("cannot run '%s': %s"), argv[0],
                      why->message);
}

gboolean process_run_with (const char *const *argv, int extra, guint timeout_ms, gsize max_output,
                           int *ret_status, char **ret_output, char **ret_messages, GError **error)
{
    Run run = { .fds = { -1, -1 }, .max_output = max_output };
    gint64 deadline = g_get_monotonic_time () + (gint64) timeout_ms * 1000;
    int status = 0;

    if (!run_start (&run, argv, extra, error))
        return FALSE;
    run.texts[0] = g_string_new (NULL);
    run.texts[1] = g_string_new (NULL);
    gboolean drained = run_drain (&run, deadline);
    gboolean ended = run_reap (&run, drained && !run.too_much ? deadline : 0, &status);
    for (int i = 0; i < 2; i++)
        if (run.fds[i] >= 0)
            close (run.fds[i]);
    g_autofree char *output = g_string_free (run.texts[0], FALSE);
    g_autofree char *messages = g_string_free (run.texts[1], FALSE);
    if (run.too_much)
        return error_set (error, BAK_ERROR_IO, _("'%s' wrote more than %" G_GSIZE_FORMAT " bytes"),
                          argv[0], max_output);
    if (!drained || !ended)
        return error_set (error, BAK_ERROR_TIMEOUT, _("'%s' did not end within %.3g s"), argv[0],
                          timeout_ms / 1000.0);
    if (status == -1)
        return error_set (error, BAK_ERROR_INTERNAL,
                          _("'%s' ended, but this process reaps the children of others"), argv[0]);
    if (WIFSIGNALED (status))
        return error_set (error, BAK_ERROR_IO, _("'%s' died of signal %d"), argv[0],
                          WTERMSIG (status));
    *ret_status = WEXITSTATUS (status);
    if (ret_output)
        *ret_output = g_steal_pointer (&output);
    if (ret_messages)
        *ret_messages = g_steal_pointer (&messages);
    return TRUE;
}

/* Kernels before 5.3 have no pidfd. */
static gboolean wait_gone_polling (pid_t pid, gint64 deadline)
{
    while (process_start_time (pid) != 0) {
        if (g_get_monotonic_time () >= deadline)
            return FALSE;
        g_usleep (5000);
    }
    return TRUE;
}

gboolean process_run (const char *const *argv, guint timeout_ms, gsize max_output, int *ret_status,
                      char **ret_output, char **ret_messages, GError **error)
{
    return process_run_with (argv, -1, timeout_ms, max_output, ret_status, ret_output, ret_messages,
                             error);
}

gboolean process_wait_gone (pid_t pid, guint timeout_ms)
{
    gint64 deadline = g_get_monotonic_time () + (gint64) timeout_ms * 1000;
    int fd = syscall (SYS_pidfd_open, pid, 0);
    int ready;

    if (fd < 0)
        return errno == ESRCH || wait_gone_polling (pid, deadline);
    do {
        struct pollfd poll_fd = { fd, POLLIN, 0 };
        gint64 left = MAX ((deadline - g_get_monotonic_time () + 999) / 1000, 0);
        ready = poll (&poll_fd, 1, MIN (left, G_MAXINT));
    } while (ready < 0 && errno == EINTR);
    close (fd);
    return ready > 0;
}

char *process_command_line (pid_t pid, gsize *ret_length)
{
    g_autofree char *path = g_strdup_printf ("/proc/%d/cmdline", (int) pid);
    char *text = NULL;
    gsize length = 0;

    if (!files_read (path, COMMAND_LINE_MAX, &text, &length, NULL))
        return NULL;
    if (ret_length)
        *ret_length = length;
    return text;
}

/* Field number (from 1) of /proc/PID/stat behind the name, which may hold anything. */
static gboolean read_stat (pid_t pid, const guint *fields, guint count, guint64 *ret)
{
    g_autofree char *path = g_strdup_printf ("/proc/%d/stat", (int) pid);
    g_autofree char *text = NULL;

    if (!files_read (path, 65536, &text, NULL, NULL))
        return FALSE;
    const char *rest = strrchr (text, ')');
    g_auto (GStrv) words = rest ? g_strsplit (rest + 1, " ", 64) : NULL;
    guint length = words ? g_strv_length (words) : 0;
    for (guint i = 0; i < count; i++) {
        guint at = fields[i] - 2; /* words[0] is empty, words[1] is field 3 */
        if (at >= length)
            return FALSE;
        ret[i] = g_ascii_strtoull (words[at], NULL, 10);
    }
    return length > 1 && *words[1] != 'Z' && *words[1] != 'X';
}

guint64 process_start_time (pid_t pid)
{
    guint64 start = 0;
    return read_stat (pid, (const guint[]){ 22 }, 1, &start) ? start : 0;
}

gboolean process_is_stopped (pid_t pid)
{
    g_autofree char *path = g_strdup_printf ("/proc/%d/stat", (int) pid), *text = NULL;
    const char *rest = files_read (path, 65536, &text, NULL, NULL) ? strrchr (text, ')') : NULL;
    return rest && rest[1] == ' ' && (rest[2] == 'T' || rest[2] == 't');
}

guint64 process_cpu_time (pid_t pid)
{
    guint64 times[2] = { 0 };
    long ticks = sysconf (_SC_CLK_TCK);

    if (ticks <= 0 || !read_stat (pid, (const guint[]){ 14, 15 }, 2, times))
        return 0;
    return (times[0] + times[1]) * (G_GUINT64_CONSTANT (1000000000) / ticks);
}

/* "libvirt-5f… (enforce)", "system_u:system_r:svirt_t:s0"; NULL: nothing does, or it cannot be
 * seen. */
static char *confinement (pid_t pid)
{
    g_autofree char *path = g_strdup_printf ("/proc/%d/attr/current", (int) pid), *text = NULL;

    if (!files_read (path, 4096, &text, NULL, NULL))
        return NULL;
    g_autofree char *label = text_sanitize (g_strstrip (text), 256);
    return *label && !g_str_has_prefix (label, "unconfined") ? g_steal_pointer (&label) : NULL;
}

char *process_identity (pid_t pid)
{
    g_autofree char *proc = g_strdup_printf ("/proc/%d", (int) pid), *label = confinement (pid);
    char buffer[4096];
    struct passwd entry, *found = NULL;
    struct stat st;

    if (pid <= 0 || stat (proc, &st) != 0)
        return NULL;
    getpwuid_r (st.st_uid, &entry, buffer, sizeof buffer, &found);
    g_autofree char *user =
        g_strdup_printf (_("user '%s' (uid %u)"), found ? found->pw_name : "?", (guint) st.st_uid);
    return label ? g_strdup_printf (_("%s, confined by '%s'"), user, label)
                 : g_steal_pointer (&user);
}

gboolean process_has_socket (pid_t pid, guint64 inode)
{
    g_autofree char *path = g_strdup_printf ("/proc/%d/fd", (int) pid),
                    *wanted = g_strdup_printf ("socket:[%" G_GUINT64_FORMAT "]", inode);
    g_autoptr (GDir) dir = pid > 0 ? g_dir_open (path, 0, NULL) : NULL;
    const char *name;
    while (dir && (name = g_dir_read_name (dir))) {
        g_autofree char *link = g_build_filename (path, name, NULL);
        g_autofree char *target = g_file_read_link (link, NULL);
        if (g_strcmp0 (target, wanted) == 0)
            return TRUE;
    }
    return FALSE;
}
