/* Standard input and output joined to a socket: what stock clients call over ssh in place of
 * netcat, and what --stdio is when a daemon runs. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <glib/gi18n.h>
#include "libbackupd.h"
#include "remote/address.h"

typedef struct {
    int from, to;
    char data[65536];
    gsize start, end;
    gboolean ended; /* nothing more will go to `to` */
} Pipe;

static gboolean pipe_wants_read (const Pipe *pipe)
{
    return !pipe->ended && pipe->start == pipe->end;
}

static void pipe_read (Pipe *pipe)
{
    ssize_t n = read (pipe->from, pipe->data, sizeof pipe->data);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    pipe->start = 0;
    pipe->end = n > 0 ? n : 0;
    pipe->ended = n <= 0;
}

static void pipe_write (Pipe *pipe)
{
    ssize_t n = write (pipe->to, pipe->data + pipe->start, pipe->end - pipe->start);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n < 0) {
        pipe->ended = TRUE;
        pipe->start = pipe->end;
        return;
    }
    pipe->start += n;
}

int splice_fds (int socket_fd)
{
    static Pipe in, out;
    in = (Pipe){ .from = STDIN_FILENO, .to = socket_fd };
    out = (Pipe){ .from = socket_fd, .to = STDOUT_FILENO };
    gboolean told = FALSE;

    while (!out.ended) {
        struct pollfd fds[] = {
            { .fd = pipe_wants_read (&in) ? STDIN_FILENO : -1, .events = POLLIN },
            { .fd = socket_fd,
              .events = (pipe_wants_read (&out) ? POLLIN : 0) | (in.start < in.end ? POLLOUT : 0) },
            { .fd = out.start < out.end ? STDOUT_FILENO : -1, .events = POLLOUT },
        };
        if (fds[1].events == 0)
            fds[1].fd = -1;
        if (poll (fds, G_N_ELEMENTS (fds), -1) < 0 && errno != EINTR)
            break;
        if (fds[0].revents)
            pipe_read (&in);
        if (in.start < in.end && (fds[1].revents & (POLLOUT | POLLERR | POLLHUP)))
            pipe_write (&in);
        if (pipe_wants_read (&out) && (fds[1].revents & (POLLIN | POLLERR | POLLHUP)))
            pipe_read (&out);
        if (fds[2].revents)
            pipe_write (&out);
        if (in.ended && in.start == in.end && !told) {
            shutdown (socket_fd, SHUT_WR);
            told = TRUE;
        }
    }
    close (socket_fd);
    return EXIT_SUCCESS;
}

int run_splice (const char *path)
{
    g_autoptr (GError) error = NULL;
    int fd = unix_connect (path, &error);
    if (fd >= 0)
        return splice_fds (fd);
    fprintf (stderr, _("error: %s\n"), error->message);
    return EXIT_FAILURE;
}
