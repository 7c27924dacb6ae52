#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "exchange/output.h"
#include "util/files.h"

static const char part_suffix[] = ".partial";

struct _Output {
    char *path, *part; /* NULL: a descriptor of the caller's */
    int fd;            /* ours */
    gboolean regular;
    const Sink *sink;
    Hasher *hasher;
    guint64 length;
    gboolean skipped;
};

/* A descriptor of our own that does not block, if the file is of a kind that can be opened again:
 * the flag of the caller's would be everybody's. */
static int open_again (int fd)
{
    g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", fd);
    struct stat st;
    int ours = -1;

    if (fstat (fd, &st) == 0 && S_ISFIFO (st.st_mode))
        ours = open (path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    return ours >= 0 ? ours : fcntl (fd, F_DUPFD_CLOEXEC, 3);
}

static gboolean open_file (Output *output, const char *path, GError **error)
{
    struct stat st;

    output->path = g_canonicalize_filename (path, NULL);
    output->part = g_strconcat (output->path, part_suffix, NULL);
    if (lstat (output->path, &st) == 0) {
        g_clear_pointer (&output->part, g_free);
        return error_set (error, BAK_ERROR_EXISTS,
                          _("'%s' exists: nothing is written over it; give another name"),
                          output->path);
    }
    output->fd = open (output->part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (output->fd >= 0)
        return TRUE;
    error_set_errno (error, errno,
                     errno == EEXIST ? _("another export writes '%s', or left it when it died: "
                                          "remove it then")
                                     : _("cannot make '%s'"),
                     output->part);
    g_clear_pointer (&output->part, g_free);
    return FALSE;
}

Output *output_open (const char *path, int fd, GError **error)
{
    g_autoptr (Output) output = g_new0 (Output, 1);
    struct stat st;

    output->fd = -1;
    if (!(output->hasher = hasher_new (error)) || (path && !open_file (output, path, error)))
        return NULL;
    if (!path && (output->fd = open_again (fd)) < 0) {
        error_set_errno (error, errno, _("the output"));
        return NULL;
    }
    output->regular = fstat (output->fd, &st) == 0 && S_ISREG (st.st_mode);
    return g_steal_pointer (&output);
}

void output_set_sink (Output *output, const Sink *sink)
{
    output->sink = sink;
}

/* A reader that went away is an error like any other, not the death of the process. */
static ssize_t write_quietly (int fd, const guchar *data, gsize length)
{
    static const struct timespec at_once = { 0, 0 };
    sigset_t pipe_signal, before, pending;

    sigemptyset (&pipe_signal);
    sigaddset (&pipe_signal, SIGPIPE);
    sigpending (&pending);
    pthread_sigmask (SIG_BLOCK, &pipe_signal, &before);
    ssize_t n = write (fd, data, length);
    int saved = errno;
    if (n < 0 && saved == EPIPE && !sigismember (&pending, SIGPIPE))
        while (sigtimedwait (&pipe_signal, NULL, &at_once) < 0 && errno == EINTR)
            continue;
    pthread_sigmask (SIG_SETMASK, &before, NULL);
    errno = saved;
    return n;
}

static gboolean await (const Output *output, GError **error)
{
    struct pollfd polls[] = { { output->fd, POLLOUT, 0 },
                              { output->sink ? output->sink->stop_fd : -1, POLLIN, 0 } };

    while (poll (polls, 2, -1) < 0)
        if (errno != EINTR)
            return error_set_errno (error, errno, _("waiting for the output"));
    return !polls[1].revents || error_set (error, BAK_ERROR_ABORTED, _("stopped"));
}

static gboolean write_all (Output *output, const guchar *data, gsize length, GError **error)
{
    while (length > 0) {
        ssize_t n = write_quietly (output->fd, data, length);
        if (n > 0) {
            data += n;
            length -= n;
        } else if (n < 0 && errno == EAGAIN) {
            if (!await (output, error))
                return FALSE;
        } else if (n == 0 || errno != EINTR) {
            return error_set_errno (error, n < 0 ? errno : EIO, _("cannot write to %s"),
                                    output->part ? output->part : _("the output"));
        }
    }
    return TRUE;
}

gboolean output_write (gconstpointer data, gsize length, gpointer user, GError **error)
{
    Output *output = user;

    if (length == 0)
        return TRUE;
    hasher_update (output->hasher, data, length);
    output->length += length;
    return write_all (output, data, length, error);
}

gboolean output_skip (Output *output, guint64 length, GError **error)
{
    static const guchar zeros[LEAF_SIZE];

    output->length += length;
    output->skipped = TRUE;
    if (output->part)
        return lseek (output->fd, length, SEEK_CUR) >= 0
               || error_set_errno (error, errno, _("cannot write to %s"), output->part);
    for (guint64 part; length > 0; length -= part) {
        part = MIN (length, (guint64) sizeof zeros);
        if (!write_all (output, zeros, part, error))
            return FALSE;
    }
    return TRUE;
}

void output_digest (Output *output, LeafHash *ret_hash, guint64 *ret_length)
{
    hasher_end (output->hasher, ret_hash);
    *ret_length = output->length;
}

gboolean output_sync (Output *output, GError **error)
{
    if (output->part && output->skipped && ftruncate (output->fd, output->length) != 0)
        return error_set_errno (error, errno, _("cannot set the size of '%s'"), output->part);
    return !output->regular || fsync (output->fd) == 0
           || error_set_errno (error, errno, _("cannot sync the output"));
}

gboolean output_publish (Output *output, GError **error)
{
    if (!output->part)
        return TRUE;
    /* link() and not rename(), where there are links: a file that came meanwhile stays */
    if (link (output->part, output->path) == 0)
        g_unlink (output->part);
    else if (errno == EEXIST)
        return error_set (error, BAK_ERROR_EXISTS, _("'%s' exists now"), output->path);
    else if (rename (output->part, output->path) != 0)
        return error_set_errno (error, errno, _("cannot make '%s'"), output->path);
    g_clear_pointer (&output->part, g_free);
    return files_fsync_parent (output->path, error);
}

void output_free (Output *output)
{
    if (!output)
        return;
    if (output->part)
        g_unlink (output->part);
    if (output->fd >= 0)
        close (output->fd);
    hasher_free (output->hasher);
    g_free (output->part);
    g_free (output->path);
    g_free (output);
}
