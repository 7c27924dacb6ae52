#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "util/error.h"
#include "util/files.h"

gboolean files_make_dir (const char *path, int mode, GError **error)
{
    if (g_mkdir_with_parents (path, mode) == 0)
        return TRUE;
    return error_set_errno (error, errno, _("cannot make directory '%s'"), path);
}

static gboolean write_all (int fd, const char *data, gsize length)
{
    while (length > 0) {
        ssize_t n = write (fd, data, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return FALSE;
        data += n;
        length -= n;
    }
    return TRUE;
}

static gboolean replace (const char *path, const char *data, gssize length, int mode,
                         gboolean durable, GError **error)
{
    static gint count; /* two threads may write the same file */
    g_autofree char *temporary = g_strdup_printf ("%s.%d.%d" FILES_UNFINISHED_SUFFIX, path,
                                                  (int) getpid (), g_atomic_int_add (&count, 1));
    int fd = open (temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return error_set_errno (error, errno, _("cannot write '%s'"), path);
    gboolean ok = write_all (fd, data, length < 0 ? strlen (data) : (gsize) length)
                  && (!durable || fsync (fd) == 0);
    int saved = errno;
    if (close (fd) != 0 && ok) {
        ok = FALSE;
        saved = errno;
    }
    if (ok && g_rename (temporary, path) != 0) {
        ok = FALSE;
        saved = errno;
    }
    if (!ok) {
        g_unlink (temporary);
        return error_set_errno (error, saved, _("cannot write '%s'"), path);
    }
    return !durable || files_fsync_parent (path, error);
}

gboolean files_write_atomic (const char *path, const char *data, gssize length, int mode,
                             GError **error)
{
    return replace (path, data, length, mode, TRUE, error);
}

gboolean files_replace (const char *path, const char *data, gssize length, int mode, GError **error)
{
    return replace (path, data, length, mode, FALSE, error);
}

gboolean files_read (const char *path, gsize max, char **ret_data, gsize *ret_length,
                     GError **error)
{
    if (max == 0)
        max = 16 * 1024 * 1024;
    int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set_errno (error, errno, _("cannot read '%s'"), path);
    struct stat st;
    if (fstat (fd, &st) != 0 || !S_ISREG (st.st_mode) || (gsize) st.st_size > max) {
        close (fd);
        return error_set (error, BAK_ERROR_IO,
                          _("'%s' is not a regular file of at most %" G_GSIZE_FORMAT " bytes"),
                          path, max);
    }
    GString *data = g_string_sized_new (st.st_size + 1);
    char buffer[16384];
    ssize_t n = 0;
    while (data->len <= max && (n = read (fd, buffer, sizeof buffer)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            break;
        g_string_append_len (data, buffer, n);
    }
    int saved = errno;
    close (fd);
    if (n < 0 || data->len > max) {
        g_string_free (data, TRUE);
        return error_set_errno (error, n < 0 ? saved : EFBIG, _("cannot read '%s'"), path);
    }
    if (ret_length)
        *ret_length = data->len;
    *ret_data = g_string_free (data, FALSE);
    return TRUE;
}

gboolean files_fsync (const char *path, GError **error)
{
    int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set_errno (error, errno, _("cannot open '%s' to sync it"), path);
    gboolean ok = fsync (fd) == 0;
    int saved = errno;
    close (fd);
    return ok || error_set_errno (error, saved, _("cannot sync '%s'"), path);
}

gboolean files_fsync_parent (const char *path, GError **error)
{
    g_autofree char *dir = g_path_get_dirname (path);
    return files_fsync (dir, error);
}

int files_lock (const char *path, guint wait_ms, GError **error)
{
    int fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        error_set_errno (error, errno, _("cannot open lock '%s'"), path);
        return -1;
    }
    gint64 deadline = g_get_monotonic_time () + (gint64) wait_ms * 1000;
    while (flock (fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            error_set_errno (error, errno, _("cannot lock '%s'"), path);
            close (fd);
            return -1;
        }
        if (g_get_monotonic_time () >= deadline) {
            error_set (error, BAK_ERROR_BUSY, _("'%s' is locked by another process"), path);
            close (fd);
            return -1;
        }
        g_usleep (5000); /* flock has no deadline of its own */
    }
    return fd;
}

gboolean files_is_locked (const char *path)
{
    int fd = open (path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return FALSE;
    gboolean locked = flock (fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close (fd);
    return locked;
}

static int remove_entry (const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void) remove (path);
    return 0;
}

void files_remove_tree (const char *path)
{
    nftw (path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

gboolean files_same (const char *one, const char *other)
{
    struct stat a, b;

    if (g_str_equal (one, other))
        return TRUE;
    return stat (one, &a) == 0 && stat (other, &b) == 0 && a.st_dev == b.st_dev
           && a.st_ino == b.st_ino;
}

char *files_id (const char *path)
{
    struct statx st;
    if (statx (AT_FDCWD, path, 0, STATX_TYPE | STATX_INO | STATX_BTIME, &st) != 0
        || !(st.stx_mask & STATX_BTIME) || !S_ISREG (st.stx_mode))
        return NULL;
    return g_strdup_printf ("%u:%u:%" G_GUINT64_FORMAT ":%" G_GINT64_FORMAT ".%09u",
                            st.stx_dev_major, st.stx_dev_minor, (guint64) st.stx_ino,
                            (gint64) st.stx_btime.tv_sec, st.stx_btime.tv_nsec);
}

static const char *without_device (const char *id)
{
    const char *minor = id ? strchr (id, ':') : NULL;
    const char *rest = minor ? strchr (minor + 1, ':') : NULL;
    return rest ? rest + 1 : NULL;
}

gboolean files_id_same (const char *one, const char *other)
{
    const char *left = without_device (one);
    return left && g_strcmp0 (left, without_device (other)) == 0;
}

static guint64 device_size (const char *path)
{
    int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    off_t size = fd < 0 ? -1 : lseek (fd, 0, SEEK_END);

    if (fd >= 0)
        close (fd);
    return size < 0 ? 0 : size;
}

void files_sizes (const char *path, gboolean has_actual, guint64 actual, guint64 *ret_allocation,
                  guint64 *ret_physical)
{
    struct stat st;

    *ret_allocation = *ret_physical = has_actual ? actual : 0;
    if (!g_path_is_absolute (path) || stat (path, &st) != 0)
        return;
    if (S_ISREG (st.st_mode)) {
        *ret_allocation = (guint64) st.st_blocks * 512;
        *ret_physical = st.st_size;
    } else if (S_ISBLK (st.st_mode)) {
        *ret_physical = device_size (path);
        *ret_allocation = has_actual && actual ? actual : *ret_physical;
    }
}
