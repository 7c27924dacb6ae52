#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "boot.h"

enum {
    TICK_MS = 250,
    PING_EVERY_US = 2000000,
    CONSOLE_KEPT = 65536,
    SHOWN = 300,
    SERIAL_FD = 3,
    AGENT_FD = 4,
};

typedef struct {
    const Boot *boot;
    GPid pid;
    int pidfd, serial, agent, errors;
    GString *said, *answers; /* by the console; by the agent */
    gint64 began, pinged;
    gboolean told;
} Running;

/* ---- starting ---- */

/* With its own network, in which there is nothing. Its end is ours. */
static void in_child (gpointer data)
{
    prctl (PR_SET_PDEATHSIG, SIGKILL);
    if (getppid () != GPOINTER_TO_INT (data))
        _exit (1);
    setpgid (0, 0);
    signal (SIGTERM, SIG_DFL);
    signal (SIGINT, SIG_DFL);
    if (unshare (CLONE_NEWNET) != 0 && errno != EPERM && errno != ENOSYS && errno != EINVAL)
        _exit (1);
}

/* How a QEMU is started; the next when this one's did not come so far that anything ran in it. */
static const struct {
    gboolean kvm, sandbox;
} ways[] = { { TRUE, TRUE }, { FALSE, TRUE }, { FALSE, FALSE } };

static void add_way (GPtrArray *words, guint way)
{
    g_ptr_array_add (words, g_strdup ("-accel"));
    g_ptr_array_add (words, g_strdup (ways[way].kvm ? "kvm" : "tcg"));
    if (!ways[way].sandbox)
        return;
    g_ptr_array_add (words, g_strdup ("-sandbox"));
    g_ptr_array_add (words, g_strdup ("on,obsolete=deny,elevateprivileges=deny,spawn=deny,"
                                      "resourcecontrol=deny"));
}

static void add_channels (GPtrArray *words)
{
    static const char *const more[] = {
        "-chardev", "socket,id=drill-serial,fd=3",
        "-serial",  "chardev:drill-serial",
        "-chardev", "socket,id=drill-agent,fd=4",
        "-device",  "virtserialport,chardev=drill-agent,name=org.qemu.guest_agent.0",
    };
    for (guint i = 0; i < G_N_ELEMENTS (more); i++)
        g_ptr_array_add (words, g_strdup (more[i]));
}

static gboolean spawn (Running *running, guint way, char **ret_why)
{
    static const int targets[] = { SERIAL_FD, AGENT_FD };
    g_autoptr (GPtrArray) words = g_ptr_array_copy ((GPtrArray *) running->boot->words,
                                                    (GCopyFunc) (void (*) (void)) g_strdup, NULL);
    g_autoptr (GError) error = NULL;
    int serial[2], agent[2] = { -1, -1 }, none = open ("/dev/null", O_RDWR | O_CLOEXEC);
    add_channels (words);
    add_way (words, way);
    g_ptr_array_add (words, NULL);
    running->errors = memfd_create ("errors", MFD_CLOEXEC);
    if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, serial) != 0
        || socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, agent) != 0)
        g_error ("socketpair: %s", g_strerror (errno));
    const int sources[] = { serial[1], agent[1] };
    gboolean started = g_spawn_async_with_pipes_and_fds (
        NULL, (const char *const *) words->pdata, NULL, G_SPAWN_DO_NOT_REAP_CHILD, in_child,
        GINT_TO_POINTER (getpid ()), none, none, running->errors, sources, targets, 2,
        &running->pid, NULL, NULL, NULL, &error);
    close (serial[1]);
    close (agent[1]);
    close (none);
    running->serial = serial[0];
    running->agent = agent[0];
    fcntl (running->serial, F_SETFL, O_NONBLOCK);
    fcntl (running->agent, F_SETFL, O_NONBLOCK);
    running->pidfd = started ? (int) syscall (SYS_pidfd_open, running->pid, 0) : -1;
    if (!started)
        *ret_why = g_strdup (error->message);
    return started;
}

static void end (Running *running)
{
    if (running->pid > 0) {
        kill (running->pid, SIGKILL);
        waitpid (running->pid, NULL, 0);
    }
    const int all[] = { running->pidfd, running->serial, running->agent, running->errors };
    for (guint i = 0; i < G_N_ELEMENTS (all); i++)
        if (all[i] >= 0)
            close (all[i]);
    g_string_free (running->said, TRUE);
    g_string_free (running->answers, TRUE);
}

/* ---- what it says ---- */

static void hear (int fd, GString *text)
{
    char data[4096];
    ssize_t n;
    while ((n = read (fd, data, sizeof data)) > 0) {
        g_string_append_len (text, data, n);
        if (text->len > CONSOLE_KEPT)
            g_string_erase (text, 0, text->len - CONSOLE_KEPT);
    }
}

/* A console may say NUL: it is looked for by its bytes. */
static gboolean has_said (const GString *text, const char *words)
{
    return memmem (text->str, text->len, words, strlen (words)) != NULL;
}

/* The end of it, as one line. */
static char *last_words (const GString *text)
{
    const char *from = text->str + (text->len > SHOWN ? text->len - SHOWN : 0);
    g_autofree char *valid = g_utf8_make_valid (from, (gssize) (text->str + text->len - from));
    g_autofree char *shown = clean (valid);
    g_strdelimit (shown, "\r\n\t", ' ');
    return g_strdup (g_strstrip (shown));
}

static char *errors_of (const Running *running)
{
    char data[SHOWN + 1] = "";
    off_t size = lseek (running->errors, 0, SEEK_END);
    ssize_t n = pread (running->errors, data, SHOWN, MAX (0, size - SHOWN));
    g_autofree char *valid = g_utf8_make_valid (data, MAX (n, 0)), *shown = clean (valid);
    g_strdelimit (shown, "\r\n\t", ' ');
    return g_strdup (g_strstrip (shown));
}

static void ping (Running *running)
{
    static const char line[] = "\xff{\"execute\": \"guest-ping\"}\n";
    gint64 now = g_get_monotonic_time ();
    if (now - running->pinged < PING_EVERY_US)
        return;
    running->pinged = now;
    if (send (running->agent, line, strlen (line), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return; /* it is full: nobody reads it yet */
}

/* ---- waiting ---- */

static const char *evidence (const Running *running)
{
    const NightDrill *wish = running->boot->wish;
    gboolean any = wish->proof == DRILL_ANY;
    if ((any || wish->proof == DRILL_AGENT) && has_said (running->answers, "{\"return\": {}}"))
        return "agent";
    if (any && has_said (running->said, "login:"))
        return "console";
    return wish->proof == DRILL_CONSOLE && has_said (running->said, wish->text) ? "console" : NULL;
}

/* Nobody is connected to its disks' names any more than it is. */
static void tell_started (Running *running)
{
    if (running->told || !running->boot->started
        || (running->said->len == 0
            && g_get_monotonic_time () - running->began < 2 * PING_EVERY_US))
        return;
    running->told = TRUE;
    running->boot->started (running->boot->data);
}

static char *why_not (const Running *running, gboolean ended)
{
    static const char *const wanted[] = {
        [DRILL_ANY] = N_("neither did its agent answer nor did its console ask for a login"),
        [DRILL_AGENT] = N_("its agent did not answer"),
        [DRILL_CONSOLE] = N_("its console did not say what is waited for"),
        [DRILL_TIME] = N_("it did not run for so long"),
    };
    g_autofree char *said = last_words (running->said), *errors = errors_of (running),
                    *time = format_seconds (g_get_monotonic_time () - running->began);
    if (ended)
        return g_strdup_printf (_("the machine ended by itself after %s%s%s; its console said "
                                   "last: %s"),
                                time, *errors ? ": " : "", errors, *said ? said : "-");
    return g_strdup_printf (_("%s within %s; its console said last: %s"),
                            _(wanted[running->boot->wish->proof]), time, *said ? said : "-");
}

static const char *watch (Running *running, char **ret_why)
{
    const NightDrill *wish = running->boot->wish;
    gint64 deadline = running->began + (gint64) wish->timeout;
    for (;;) {
        struct pollfd fds[] = { { running->serial, POLLIN, 0 },
                                { running->agent, POLLIN, 0 },
                                { running->pidfd, POLLIN, 0 } };
        poll (fds, G_N_ELEMENTS (fds), TICK_MS);
        hear (running->serial, running->said);
        hear (running->agent, running->answers);
        tell_started (running);
        const char *proof = evidence (running);
        gboolean ended = waitpid (running->pid, NULL, WNOHANG) == running->pid;
        if (ended)
            running->pid = 0;
        if (proof)
            return proof;
        if (bak_cancellation_is_cancelled (running->boot->cancellation)) {
            *ret_why = g_strdup (_("the run was interrupted"));
            return NULL;
        }
        gboolean late = g_get_monotonic_time () >= deadline;
        if (!ended && late && wish->proof == DRILL_TIME
            && !has_said (running->said, "Kernel panic"))
            return "time";
        if (ended || late) {
            *ret_why = why_not (running, ended);
            return NULL;
        }
        ping (running);
    }
}

/* *ret_dead: it ended before anything was said in it, by what QEMU could not do. */
static const char *try_way (const Boot *boot, guint way, gboolean *ret_dead, char **ret_why)
{
    Running running = { .boot = boot,
                        .pidfd = -1,
                        .serial = -1,
                        .agent = -1,
                        .errors = -1,
                        .said = g_string_new (NULL),
                        .answers = g_string_new (NULL),
                        .began = g_get_monotonic_time () };
    const char *proof = spawn (&running, way, ret_why) ? watch (&running, ret_why) : NULL;
    *ret_dead = !proof && running.pid == 0 && running.pidfd >= 0 && running.said->len == 0;
    end (&running);
    return proof;
}

/* A host may have a KVM that does not do what a processor of its kind does; a QEMU may have been
 * built without its filter. What is told in the end is why the plainest way failed. */
const char *boot_run (const Boot *boot, char **ret_why)
{
    gboolean dead = TRUE, kvm = access ("/dev/kvm", R_OK | W_OK) == 0;
    const char *proof = NULL;
    for (guint way = 0; dead && way < G_N_ELEMENTS (ways); way++) {
        if (ways[way].kvm && !kvm)
            continue;
        g_clear_pointer (ret_why, g_free);
        proof = try_way (boot, way, &dead, ret_why);
    }
    return proof;
}
