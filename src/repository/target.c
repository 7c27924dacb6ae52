#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "mover/storage.h"
#include "repository/target.h"
#include "util/files.h"
#include "util/image_tool.h"
#include "util/json.h"

/* Of the file that grows until it is whole. */
static const char part_suffix[] = ".restoring";

void target_free (Target *target)
{
    if (!target)
        return;
    if (target->fd >= 0)
        close (target->fd);
    if (target->dir >= 0)
        close (target->dir);
    g_free (target->path);
    g_free (target->name);
    g_free (target->work_path);
    g_free (target->work_name);
    g_free (target);
}

/* The folder's real path with the file's own name: the file need not be there. */
static char *real_path (const char *path, GError **error)
{
    g_autofree char *absolute = g_canonicalize_filename (path, NULL);
    g_autofree char *dir = g_path_get_dirname (absolute), *name = g_path_get_basename (absolute);
    char *real = realpath (dir, NULL);

    if (!real) {
        error_set_errno (error, errno, _("the folder '%s'"), dir);
        return NULL;
    }
    char *joined = g_build_filename (real, name, NULL);
    free (real);
    return joined;
}

static gboolean is_within (const char *path, const char *dir)
{
    g_autofree char *prefix = g_strconcat (dir, "/", NULL);
    return g_str_has_prefix (path, prefix);
}

/* A loop device that has the file open writes past whatever is restored into it. */
static char *loop_device_of (const char *path)
{
    g_autoptr (GDir) dir = g_dir_open ("/sys/block", 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name (dir))) {
        g_autofree char *file = g_build_filename ("/sys/block", name, "loop/backing_file", NULL);
        g_autofree char *backing = NULL;
        if (g_file_get_contents (file, &backing, NULL, NULL)
            && files_same (g_strchomp (backing), path))
            return g_strdup (name);
    }
    return NULL;
}

static gboolean is_same (const struct stat *one, const struct stat *other)
{
    return one->st_dev == other->st_dev && one->st_ino == other->st_ino;
}

/* What is there is opened once, and it is this that is looked at and written. */
static gboolean open_existing (Target *target, gboolean device, struct stat *ret_st, GError **error)
{
    int flags = O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (device ? O_EXCL : 0);

    target->fd = open (target->path, flags);
    if (target->fd < 0 && errno == EBUSY)
        return error_set (
            error, BAK_ERROR_BUSY,
            _("device '%s' is in use: it is mounted, or another device stands on it"),
            target->path);
    if (target->fd < 0 || fstat (target->fd, ret_st) != 0)
        return error_set_errno (error, errno, _("cannot open '%s'"), target->path);
    return (device ? S_ISBLK (ret_st->st_mode) : S_ISREG (ret_st->st_mode))
           || error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                         _("'%s' is neither a file nor a block device"), target->path);
}

/* Devices */

static gboolean plan_device (Target *target, const TargetRules *rules, GError **error)
{
    guint64 size = 0;

    target->format = rules->format ? rules->format : "raw";
    target->is_device = TRUE;
    if (ioctl (target->fd, BLKGETSIZE64, &size) != 0)
        return error_set_errno (error, errno, _("cannot open '%s'"), target->path);
    if (!g_str_equal (target->format, "raw"))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("device '%s': a disk is restored onto a device as raw"), target->path);
    if (size < target->size)
        return error_set (
            error, BAK_ERROR_NO_SPACE,
            _("device '%s' has %" G_GUINT64_FORMAT " bytes, the disk %" G_GUINT64_FORMAT),
            target->path, size, target->size);
    return TRUE;
}

/* Files */

static gboolean is_qcow2 (int fd)
{
    char magic[4] = { 0 };

    return pread (fd, magic, sizeof magic, 0) == sizeof magic
           && memcmp (magic, "QFI\xfb", sizeof magic) == 0;
}

/* Of an image that is to be written as it stands: one that reads from other files, or is of another
 * size, would not be the disk afterwards. */
static gboolean check_image (const Target *target, GError **error)
{
    const char *args[] = {
        "info", "-U", "-f", "qcow2", "--output=json", "--", IMAGE_TOOL_FILE, NULL
    };
    g_autofree char *text = NULL;
    JsonObject *object, *data;

    if (!image_tool_file (args, target->fd, &text, error))
        return error_note (error, _("image '%s'"), target->path);
    g_autoptr (JsonNode) node = json_read_object (text, -1, &object, error);
    if (!node)
        return FALSE;
    data = json_get_object (object, "format-specific");
    data = data ? json_get_object (data, "data") : NULL;
    if (json_get_string (object, "backing-filename")
        || (data && json_get_string (data, "data-file")))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("image '%s' stands on another file: restore into a new one"),
                          target->path);
    if (json_get_bool (object, "encrypted", FALSE))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("image '%s' is encrypted: restore into a new one"), target->path);
    guint64 size = json_get_int (object, "virtual-size", 0);
    return size == target->size
           || error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                         _("image '%s' is of %" G_GUINT64_FORMAT " bytes, the disk of "
                            "%" G_GUINT64_FORMAT ": restore into a new one"),
                         target->path, size, target->size);
}

static gboolean plan_existing (Target *target, const TargetRules *rules, GError **error)
{
    g_autofree char *here = g_strdup_printf ("/proc/self/fd/%d", target->fd);
    g_autofree char *loop = loop_device_of (here);

    target->format = rules->format ? rules->format : "qcow2";
    if (loop)
        return error_set (error, BAK_ERROR_BUSY, _("file '%s' is in use by the device '%s'"),
                          target->path, loop);
    if (g_str_equal (target->format, "raw"))
        return TRUE;
    if (!is_qcow2 (target->fd))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("file '%s' is no qcow2 image: name its format (raw)"), target->path);
    return check_image (target, error);
}

/* One that another user has put there, or that is another file as well, is not gone on with. */
static gboolean check_part (const Target *target, const struct stat *st, GError **error)
{
    return (S_ISREG (st->st_mode) && st->st_nlink == 1 && st->st_uid == geteuid ())
           || error_set (error, BAK_ERROR_EXISTS,
                         _("'%s' is there and is not what a restore of yours has left (no file, a "
                            "link, or another user's): remove it"),
                         target->work_path);
}

static gboolean plan_new (Target *target, const TargetRules *rules, GError **error)
{
    struct stat st;

    target->format = rules->format ? rules->format : "qcow2";
    target->is_new = TRUE;
    target->work_name = g_strconcat (target->name, part_suffix, NULL);
    g_free (target->work_path);
    target->work_path = g_strconcat (target->path, part_suffix, NULL);
    target->resumed = fstatat (target->dir, target->work_name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    return !target->resumed || check_part (target, &st, error);
}

static gboolean is_allowed (const Target *target, const TargetRules *rules, const struct stat *st,
                            GError **error)
{
    return !rules->allow || rules->allow (rules->point, target->path, st, error);
}

static gboolean plan (Target *target, const TargetRules *rules, GError **error)
{
    struct stat st;

    if (stat (target->path, &st) != 0 && errno != ENOENT)
        return error_set_errno (error, errno, _("cannot look at '%s'"), target->path);
    if (lstat (target->path, &st) != 0) {
        if (rules->changed_only)
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                              _("'%s' is not there: only what differs cannot be written to it"),
                              target->path);
        return is_allowed (target, rules, NULL, error) && plan_new (target, rules, error);
    }
    if (stat (target->path, &st) != 0)
        return error_set_errno (error, errno, _("cannot look at '%s'"), target->path);
    if (!S_ISREG (st.st_mode) && !S_ISBLK (st.st_mode))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("'%s' is neither a file nor a block device"), target->path);
    if (!rules->reuse)
        return error_set (error, BAK_ERROR_EXISTS,
                          _("'%s' exists: what is there is written only with --reuse-external"),
                          target->path);
    gboolean device = S_ISBLK (st.st_mode);
    return open_existing (target, device, &st, error) && is_allowed (target, rules, &st, error)
           && (device ? plan_device (target, rules, error) : plan_existing (target, rules, error));
}

static gboolean open_folder (Target *target, GError **error)
{
    g_autofree char *dir = g_path_get_dirname (target->path);

    target->name = g_path_get_basename (target->path);
    target->dir = open (dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return target->dir >= 0 || error_set_errno (error, errno, _("the folder '%s'"), dir);
}

Target *target_plan (const Repository *repository, const ManifestDisk *disk, const char *path,
                     const TargetRules *rules, GError **error)
{
    g_autoptr (Target) target = g_new0 (Target, 1);

    target->fd = target->dir = -1;
    target->disk = disk->target;
    target->size = disk->size;
    target->path = real_path (path, error);
    g_autofree char *inside = target->path ? real_path (repository->path, NULL) : NULL;
    if (target->path && inside && is_within (target->path, inside))
        error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("'%s' lies within the repository"),
                   target->path);
    else if (target->path) {
        target->work_path = g_strdup (target->path);
        if (open_folder (target, error) && plan (target, rules, error))
            return g_steal_pointer (&target);
    }
    error_note (error, _("disk '%s'"), disk->target);
    return NULL;
}

/* Making and ending */

static gboolean set_size (const Target *target, GError **error)
{
    struct stat st;
    gboolean same = fstat (target->fd, &st) == 0 && (guint64) st.st_size == target->size;

    return same || ftruncate (target->fd, target->size) == 0
           || error_set_errno (error, errno, _("cannot make '%s'"), target->work_path);
}

static gboolean open_part (Target *target, int flags, int mode, GError **error)
{
    struct stat st;

    target->fd = openat (target->dir, target->work_name,
                         O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | flags, mode);
    if (target->fd < 0 || fstat (target->fd, &st) != 0)
        return error_set_errno (error, errno, _("cannot make '%s'"), target->work_path);
    return check_part (target, &st, error);
}

gboolean target_make (Target *target, GError **error)
{
    gboolean raw = g_str_equal (target->format, "raw");

    if (!target->is_new)
        return !raw || target->is_device || set_size (target, error);
    if (target->resumed)
        return open_part (target, 0, 0, error) && (!raw || set_size (target, error));
    return open_part (target, O_CREAT | O_EXCL, raw ? 0600 : 0644, error)
           && (raw ? set_size (target, error)
                   : storage_format_file (target->fd, target->work_path, target->size, error));
}

static gboolean is_ours (const Target *target, const char *name)
{
    struct stat ours, there;

    return target->fd >= 0 && fstat (target->fd, &ours) == 0
           && fstatat (target->dir, name, &there, AT_SYMLINK_NOFOLLOW) == 0
           && is_same (&ours, &there);
}

static gboolean exchanged (const char *path, GError **error)
{
    return error_set (error, BAK_ERROR_IO,
                      _("'%s' is another file by now: somebody has exchanged it, or its folder, "
                         "while it was written; what is there now is not what was restored"),
                      path);
}

/* Nothing that came to be there meanwhile is replaced. */
static gboolean give_name (const Target *target, GError **error)
{
    int dir = target->dir;

    if (!is_ours (target, target->work_name))
        return exchanged (target->work_path, error);
    gboolean ok =
        renameat2 (dir, target->work_name, dir, target->name, RENAME_NOREPLACE) == 0
        || (errno == EINVAL && faccessat (dir, target->name, F_OK, AT_SYMLINK_NOFOLLOW) != 0
            && renameat (dir, target->work_name, dir, target->name) == 0);
    if (!ok)
        return error_set_errno (error, errno, _("cannot rename '%s' to '%s'"), target->work_path,
                                target->path);
    return is_ours (target, target->name) || exchanged (target->path, error);
}

static gboolean is_at_its_name (const Target *target, GError **error)
{
    struct stat ours, there;
    gboolean same = fstat (target->fd, &ours) == 0 && stat (target->path, &there) == 0
                    && is_same (&ours, &there);

    return same || exchanged (target->path, error);
}

gboolean target_finish (Target *target, GError **error)
{
    g_autofree char *in_folder = g_strdup_printf ("/proc/self/fd/%d/x", target->dir);

    if (fsync (target->fd) != 0)
        return error_set_errno (error, errno, _("cannot write '%s'"), target->work_path);
    return (!target->is_new || (give_name (target, error) && files_fsync_parent (in_folder, error)))
           && is_at_its_name (target, error);
}

void target_abandon (Target *target, gboolean keep)
{
    if (target->is_new && !keep && is_ours (target, target->work_name))
        unlinkat (target->dir, target->work_name, 0);
}
