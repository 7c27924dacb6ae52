/* Between fork and _exit the child does only what is safe in a process of many threads: system
 * calls. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "driver/qemu/deputy.h"

enum { LINGER_MS = 2000 };

/* QEMU acts on what it has read only while somebody holds the connection; what it answers goes
 * unread. */
static void speak (int monitor, const char *text, size_t length)
{
    struct pollfd answer = { .fd = monitor, .events = POLLIN };
    char ignored[4096];

    while (length > 0) {
        ssize_t n = write (monitor, text, length);
        if (n < 0 && errno == EAGAIN) {
            struct pollfd room = { .fd = monitor, .events = POLLOUT };
            if (poll (&room, 1, LINGER_MS) <= 0)
                return;
        } else if (n < 0 && errno != EINTR) {
            return;
        } else if (n > 0) {
            text += n;
            length -= n;
        }
    }
    for (int rounds = 0; rounds < 64 && poll (&answer, 1, LINGER_MS / 4) > 0; rounds++)
        if (read (monitor, ignored, sizeof ignored) == 0)
            return;
}

static void wait_and_speak (int end, int monitor, const char *text, size_t length)
{
    char word;
    ssize_t n;

    if (dup2 (monitor, 3) < 0 || dup2 (end, 4) < 0)
        _exit (1);
    close_range (5, ~0U, 0);
    do
        n = read (4, &word, 1);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        speak (3, text, length);
    _exit (0);
}

/* A child of a child: whoever the library lives in has no process to wait for. */
int deputy_start (int monitor, const char *text)
{
    const size_t length = strlen (text);
    int ends[2];

    if (monitor < 0 || socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return -1;
    /* above what the child makes room for */
    int far_monitor = fcntl (monitor, F_DUPFD_CLOEXEC, 8),
        far_end = fcntl (ends[0], F_DUPFD_CLOEXEC, 8);
    pid_t pid = far_monitor < 0 || far_end < 0 ? -1 : fork ();
    if (pid == 0) {
        close (ends[1]);
        if (fork () == 0)
            wait_and_speak (far_end, far_monitor, text, length);
        _exit (0);
    }
    if (far_monitor >= 0)
        close (far_monitor);
    if (far_end >= 0)
        close (far_end);
    close (ends[0]);
    if (pid < 0) {
        close (ends[1]);
        return -1;
    }
    while (waitpid (pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return ends[1];
}

void deputy_end (int deputy)
{
    if (deputy < 0)
        return;
    while (send (deputy, "", 1, MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
    close (deputy);
}
