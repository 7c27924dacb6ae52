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
    if (target->guard >= 0)
        close (target->guard);
    g_free (target->path);
    g_free (target->work_path);
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

/* Devices */

static gboolean plan_device (Target *target, const TargetRules *rules, GError **error)
{
    guint64 size = 0;

    target->format = rules->format ? rules->format : "raw";
    target->guard = open (target->path, O_RDWR | O_EXCL | O_CLOEXEC);
    if (target->guard < 0 && errno == EBUSY)
        return error_set (
            error, BAK_ERROR_BUSY,
            _("device '%s' is in use: it is mounted, or another device stands on it"),
            target->path);
    if (target->guard < 0 || ioctl (target->guard, BLKGETSIZE64, &size) != 0)
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

static gboolean is_qcow2 (const char *path)
{
    char magic[4] = { 0 };
    int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    gboolean is = fd >= 0 && pread (fd, magic, sizeof magic, 0) == sizeof magic
                  && memcmp (magic, "QFI\xfb", sizeof magic) == 0;

    if (fd >= 0)
        close (fd);
    return is;
}

/* Of an image that is to be written as it stands: one that reads from other files, or is of another
 * size, would not be the disk afterwards. */
static gboolean check_image (const Target *target, GError **error)
{
    const char *args[] = { "info", "-U", "-f", "qcow2", "--output=json", "--", target->path, NULL };
    g_autofree char *text = NULL;
    JsonObject *object, *data;

    if (!image_tool (args, &text, error))
        return FALSE;
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
    g_autofree char *loop = loop_device_of (target->path);

    target->format = rules->format ? rules->format : "qcow2";
    if (loop)
        return error_set (error, BAK_ERROR_BUSY, _("file '%s' is in use by the device '%s'"),
                          target->path, loop);
    if (g_str_equal (target->format, "raw"))
        return TRUE;
    if (!is_qcow2 (target->path))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("file '%s' is no qcow2 image: name its format (raw)"), target->path);
    return check_image (target, error);
}

static void plan_new (Target *target, const TargetRules *rules)
{
    struct stat st;

    target->format = rules->format ? rules->format : "qcow2";
    target->is_new = TRUE;
    g_free (target->work_path);
    target->work_path = g_strconcat (target->path, part_suffix, NULL);
    target->resumed = lstat (target->work_path, &st) == 0 && S_ISREG (st.st_mode);
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
        plan_new (target, rules);
        return TRUE;
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
    return S_ISBLK (st.st_mode) ? plan_device (target, rules, error)
                                : plan_existing (target, rules, error);
}

Target *target_plan (const Repository *repository, const ManifestDisk *disk, const char *path,
                     const TargetRules *rules, GError **error)
{
    g_autoptr (Target) target = g_new0 (Target, 1);

    target->guard = -1;
    target->disk = disk->target;
    target->size = disk->size;
    target->path = real_path (path, error);
    g_autofree char *inside = target->path ? real_path (repository->path, NULL) : NULL;
    if (target->path && inside && is_within (target->path, inside))
        error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("'%s' lies within the repository"),
                   target->path);
    else if (target->path) {
        target->work_path = g_strdup (target->path);
        if (plan (target, rules, error))
            return g_steal_pointer (&target);
    }
    error_note (error, _("disk '%s'"), disk->target);
    return NULL;
}

/* Making and ending */

static gboolean make_raw (const char *path, guint64 size, int flags, GError **error)
{
    int fd = open (path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
    struct stat st;
    gboolean same = fd >= 0 && fstat (fd, &st) == 0 && (guint64) st.st_size == size;
    gboolean ok = fd >= 0 && (same || ftruncate (fd, size) == 0);
    int saved = errno;

    if (fd >= 0)
        close (fd);
    return ok || error_set_errno (error, saved, _("cannot make '%s'"), path);
}

gboolean target_make (Target *target, GError **error)
{
    gboolean raw = g_str_equal (target->format, "raw");

    if (target->resumed && raw)
        return make_raw (target->work_path, target->size, 0, error);
    if (!target->is_new)
        return !raw || target->guard >= 0 || make_raw (target->path, target->size, 0, error);
    if (target->resumed)
        return TRUE;
    return raw ? make_raw (target->work_path, target->size, O_CREAT | O_EXCL, error)
               : storage_create_image (target->work_path, target->size, NULL, NULL, NULL, error);
}

/* Nothing that came to be there meanwhile is replaced. */
static gboolean give_name (const Target *target, GError **error)
{
    if (renameat2 (AT_FDCWD, target->work_path, AT_FDCWD, target->path, RENAME_NOREPLACE) == 0)
        return TRUE;
    if (errno == EINVAL && access (target->path, F_OK) != 0
        && g_rename (target->work_path, target->path) == 0)
        return TRUE;
    return error_set_errno (error, errno, _("cannot rename '%s' to '%s'"), target->work_path,
                            target->path);
}

gboolean target_finish (Target *target, GError **error)
{
    if (!files_fsync (target->work_path, error))
        return FALSE;
    return !target->is_new
           || (give_name (target, error) && files_fsync_parent (target->path, error));
}

void target_abandon (Target *target, gboolean keep)
{
    if (target->is_new && !keep)
        g_unlink (target->work_path);
}
