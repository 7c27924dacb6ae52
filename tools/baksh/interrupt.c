/* Ctrl-C. Calls of the library cannot be interrupted half-way, and what they began is undone by
 * whoever comes next, so the process may simply end. Only where a wait is worth ending more gently
 * the signal is counted instead. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>
#include <glib-unix.h>
#include "baksh.h"

static int pipe_fds[2] = { -1, -1 };
static volatile sig_atomic_t awaited, count;

static void on_signal (int signum)
{
    int saved = errno;
    if (!awaited) {
        if (write (STDERR_FILENO, "\n", 1) < 0)
            _exit (STATUS_INTERRUPTED);
        _exit (STATUS_INTERRUPTED);
    }
    count++;
    if (write (pipe_fds[1], "", 1) < 0)
        count = count; /* the pipe is full: it polls readable already */
    errno = saved;
}

void interrupt_init (void)
{
    struct sigaction action = { .sa_handler = on_signal };
    g_unix_open_pipe (pipe_fds, FD_CLOEXEC, NULL);
    g_unix_set_fd_nonblocking (pipe_fds[0], TRUE, NULL);
    g_unix_set_fd_nonblocking (pipe_fds[1], TRUE, NULL);
    sigemptyset (&action.sa_mask);
    sigaction (SIGINT, &action, NULL);
}

void interrupt_take_terminate (gboolean on)
{
    struct sigaction action = { .sa_handler = on ? on_signal : SIG_DFL };
    sigemptyset (&action.sa_mask);
    sigaction (SIGTERM, &action, NULL);
}

static void drain (void)
{
    char buffer[64];
    while (read (pipe_fds[0], buffer, sizeof buffer) > 0)
        continue;
}

void interrupt_await (gboolean on)
{
    awaited = on;
    count = 0;
    drain ();
}

guint interrupt_count (void)
{
    return count;
}

int interrupt_fd (void)
{
    return pipe_fds[0];
}

PollResult interrupt_poll (int fd, gint64 microseconds)
{
    struct pollfd fds[2] = { { .fd = pipe_fds[0], .events = POLLIN },
                             { .fd = fd, .events = POLLIN } };
    gint64 deadline = g_get_monotonic_time () + microseconds;
    for (;;) {
        gint64 left = MAX (0, deadline - g_get_monotonic_time ());
        int n = poll (fds, 2, microseconds < 0 ? -1 : (int) MIN ((left + 999) / 1000, G_MAXINT));
        if (n > 0)
            break;
        if (n == 0 || errno != EINTR)
            return POLL_TIMEOUT;
    }
    if (!fds[0].revents)
        return POLL_READABLE; /* a signal that comes now is for the next call */
    drain ();
    return POLL_INTERRUPT;
}
