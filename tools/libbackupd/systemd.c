#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <fcntl.h>
#include "libbackupd.h"

void systemd_notify (const char *state)
{
    const char *path = g_getenv ("NOTIFY_SOCKET");
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    gsize length = path ? strlen (path) : 0;
    if (length < 2 || length >= sizeof address.sun_path || (*path != '/' && *path != '@'))
        return;
    memcpy (address.sun_path, path, length);
    if (*path == '@')
        address.sun_path[0] = '\0';
    int fd = socket (AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (sendto (fd, state, strlen (state), MSG_NOSIGNAL, (struct sockaddr *) &address,
                offsetof (struct sockaddr_un, sun_path) + length)
        < 0)
        g_warning ("cannot notify the service manager: %m");
    close (fd);
}

int systemd_listen_fds (void)
{
    const char *pid = g_getenv ("LISTEN_PID"), *count = g_getenv ("LISTEN_FDS");
    guint64 n = 0, whose = 0;
    gboolean ours = pid && count && g_ascii_string_to_unsigned (pid, 10, 1, G_MAXINT, &whose, NULL)
                    && whose == (guint64) getpid ()
                    && g_ascii_string_to_unsigned (count, 10, 0, 64, &n, NULL);
    for (guint64 i = 0; ours && i < n; i++)
        fcntl (SYSTEMD_FIRST_FD + (int) i, F_SETFD, FD_CLOEXEC);
    g_unsetenv ("LISTEN_PID");
    g_unsetenv ("LISTEN_FDS");
    g_unsetenv ("LISTEN_FDNAMES");
    return ours ? (int) n : 0;
}
