/* The child lives after fork() in a process of many threads: it makes system calls and nothing
 * else. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/relay.h"

enum {
    CONNECT_TIMEOUT_MS = 10000,
    FIRST_CLIENT_MS = 60000,
    CUT_TIMEOUT_MS = 5000,
    BUFFER = 256 * 1024
};

typedef struct {
    int from, to;
    gboolean ended; /* from has said all */
    size_t begin, end;
    char data[BUFFER];
} Way;

static Way up, down; /* only the child writes here */

static int make_address (const char *path, struct sockaddr_un *ret)
{
    memset (ret, 0, sizeof *ret);
    ret->sun_family = AF_UNIX;
    if (strlen (path) >= sizeof ret->sun_path)
        return -1;
    strcpy (ret->sun_path, path);
    return 0;
}

static int connect_in_time (int family, const struct sockaddr *address, socklen_t length)
{
    int fd = socket (family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), failure = 0;
    socklen_t size = sizeof failure;
    if (fd < 0)
        return -1;
    if (connect (fd, address, length) == 0)
        return fd;
    failure = errno;
    if (failure == EINPROGRESS) {
        struct pollfd one = { fd, POLLOUT, 0 };
        if (poll (&one, 1, CONNECT_TIMEOUT_MS) != 1)
            failure = ETIMEDOUT;
        else
            getsockopt (fd, SOL_SOCKET, SO_ERROR, &failure, &size);
        if (failure == 0)
            return fd;
    }
    close (fd);
    errno = failure;
    return -1;
}

static int connect_server (const char *path, const char *host, guint port, GError **error)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL;
    struct sockaddr_un address;
    int fd = -1;

    if (path) {
        if (make_address (path, &address) != 0)
            errno = ENAMETOOLONG;
        else
            fd = connect_in_time (AF_UNIX, (struct sockaddr *) &address, sizeof address);
        if (fd < 0)
            error_set_errno (error, errno, _("cannot connect to the NBD server '%s'"), path);
        return fd;
    }
    g_autofree char *service = g_strdup_printf ("%u", port);
    int result = getaddrinfo (host, service, &hints, &found);
    if (result != 0) {
        error_set (error, BAK_ERROR_IO, _("cannot connect to the NBD server '%s': %s"), host,
                   gai_strerror (result));
        return -1;
    }
    for (struct addrinfo *one = found; one && fd < 0; one = one->ai_next)
        fd = connect_in_time (one->ai_family, one->ai_addr, one->ai_addrlen);
    if (fd < 0)
        error_set_errno (error, errno, _("cannot connect to the NBD server '%s:%u'"), host, port);
    freeaddrinfo (found);
    return fd;
}

/* ---- the child ---- */

static gint64 now_ms (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (gint64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* FALSE: the connection is over. *ret_moved: bytes that have arrived. */
static gboolean pump (Way *way, ssize_t *ret_moved)
{
    *ret_moved = 0;
    if (way->begin == way->end) {
        ssize_t n = read (way->from, way->data, sizeof way->data);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return FALSE;
        way->begin = 0;
        way->end = n > 0 ? n : 0;
        *ret_moved = n > 0 ? n : 0;
    }
    if (way->begin < way->end) {
        ssize_t n = send (way->to, way->data + way->begin, way->end - way->begin, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return FALSE;
        way->begin += n > 0 ? n : 0;
    }
    return TRUE;
}

static void pass_on (int listener, int client, int server, gint64 patience_ms)
{
    gint64 asked = 0; /* since when the server has owed an answer */
    up.from = down.to = client;
    up.to = down.from = server;
    for (;;) {
        struct pollfd fds[] = {
            { listener, POLLIN, 0 },
            { client, (up.begin == up.end ? POLLIN : 0) | (down.begin < down.end ? POLLOUT : 0),
              0 },
            { server, (down.begin == down.end ? POLLIN : 0) | (up.begin < up.end ? POLLOUT : 0), 0 }
        };
        gint64 left = asked ? asked + patience_ms - now_ms () : -1;
        if (asked && left <= 0)
            return;
        if (poll (fds, G_N_ELEMENTS (fds), (int) left) < 0 && errno != EINTR)
            return;
        if (fds[0].revents)
            return; /* a second client: relay_cut() */
        ssize_t sent, answered;
        if (!pump (&up, &sent) || !pump (&down, &answered))
            return;
        if (answered > 0)
            asked = 0;
        if (sent > 0 && !asked)
            asked = now_ms ();
    }
}

static void child (int listener, int server, const char *path, guint patience)
{
    struct pollfd first = { listener, POLLIN, 0 };
    signal (SIGPIPE, SIG_IGN);
    prctl (PR_SET_NAME, "bak-relay");
    int client = poll (&first, 1, FIRST_CLIENT_MS) == 1
                     ? accept4 (listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)
                     : -1;
    if (client >= 0)
        pass_on (listener, client, server, (gint64) patience * 1000);
    unlink (path);
    _exit (0);
}

/* All but the two: a pipe of the shell that waits for its end would wait for ours. */
static void close_others (int a, int b)
{
    int low = MIN (a, b), high = MAX (a, b);
    syscall (SYS_close_range, 0, low - 1, 0);
    if (high > low + 1)
        syscall (SYS_close_range, low + 1, high - 1, 0);
    syscall (SYS_close_range, high + 1, ~0U, 0);
}

static int listen_at (const char *path, guint uid, guint gid)
{
    struct sockaddr_un address;
    if (make_address (path, &address) != 0) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind (fd, (struct sockaddr *) &address, sizeof address) == 0
        && listen (fd, 4) == 0 && (geteuid () != 0 || lchown (path, uid, gid) == 0))
        return fd;
    int saved = errno;
    if (fd >= 0)
        close (fd);
    errno = saved;
    return -1;
}

/* An NBD server speaks first: one that hangs is found here, where it holds nobody but us. */
static gboolean server_speaks (int fd, const char *name, GError **error)
{
    struct pollfd one = { fd, POLLIN, 0 };
    return poll (&one, 1, CONNECT_TIMEOUT_MS) == 1
           || error_set (
               error, BAK_ERROR_TIMEOUT,
               _("the NBD server '%s' does not answer: it said nothing within %d seconds"), name,
               CONNECT_TIMEOUT_MS / 1000);
}

gboolean relay_start (const char *path, const char *socket, const char *host, guint port,
                      guint patience, guint uid, guint gid, GError **error)
{
    int server = connect_server (socket, host, port, error);
    if (server < 0)
        return FALSE;
    if (!server_speaks (server, socket ? socket : host, error)) {
        close (server);
        return FALSE;
    }
    int listener = listen_at (path, uid, gid);
    if (listener < 0) {
        error_set_errno (error, errno, _("cannot listen on '%s'"), path);
        close (server);
        return FALSE;
    }
    pid_t pid = fork ();
    if (pid == 0) {
        if (fork () != 0)
            _exit (0); /* nobody's child: nobody has to wait for it */
        setsid ();
        close_others (listener, server);
        child (listener, server, path, patience);
    }
    int saved = errno;
    if (pid > 0)
        while (waitpid (pid, NULL, 0) < 0 && errno == EINTR) {}
    close (listener);
    close (server);
    return pid > 0 || error_set_errno (error, saved, _("cannot start a helper process"));
}

void relay_cut (const char *path)
{
    struct sockaddr_un address;
    if (make_address (path, &address) != 0)
        return;
    int fd = connect_in_time (AF_UNIX, (struct sockaddr *) &address, sizeof address);
    if (fd >= 0) {
        struct pollfd one = { fd, POLLIN, 0 }; /* its end is our end of file */
        poll (&one, 1, CUT_TIMEOUT_MS);
        close (fd);
    }
    unlink (path);
}
