/* The steps of a plan that are files, sockets and certificates of this host. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <unistd.h>
#include <gio/gio.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "job/chain.h"
#include "job/chain-text.h"
#include "job/image-head.h"
#include "job/seen.h"
#include "job/target.h"
#include "job/verbs-files.h"
#include "util/caller.h"
#include "util/files.h"
#include "util/image_tool.h"
#include "util/json.h"
#include "util/place.h"

static void give (Run *run, int fd)
{
    if (run->ops->give)
        run->ops->give (run, fd);
}

static gboolean has_open (Run *run, const struct stat *st)
{
    return run->ops->has_open && run->ops->has_open (run, st);
}

/* Whose image would be written to. */
static gboolean is_nobodys (Run *run, const char *path, const struct stat *st, GError **error)
{
    return !run->ops->may_write || run->ops->may_write (run, path, st, error);
}

static gboolean note_file (Run *run, const char *path, const struct stat *st, GError **error)
{
    JournalFile *file = g_new0 (JournalFile, 1);
    file->device = st->st_dev;
    file->inode = st->st_ino;
    g_hash_table_replace (run->files, g_strdup (path), file);
    run_note_seen (run, path, st);
    return !run->journal || journal_file (run->journal, path, st->st_dev, st->st_ino, error);
}

static gboolean link_error (const char *path, int errnum, GError **error)
{
    if (errnum == EEXIST && g_file_test (path, G_FILE_TEST_IS_DIR))
        return error_set (error, BAK_ERROR_EXISTS, _("'%s' is a directory; name a file in it"),
                          path);
    if (errnum == EEXIST)
        return error_set (error, BAK_ERROR_EXISTS,
                          _("'%s' exists already; remove it, name another, or use it as it is "
                             "with --reuse-external"),
                          path);
    if (errnum == ENOENT) {
        g_autofree char *dir = g_path_get_dirname (path);
        return error_set (error, BAK_ERROR_IO,
                          g_file_test (dir, G_FILE_TEST_IS_DIR)
                              ? _("cannot make '%s': '%s' takes no new files")
                              : _("cannot make '%s': the directory '%s' does not exist"),
                          path, dir);
    }
    return error_set_errno (error, errnum, _("cannot make '%s'"), path);
}

/* Its size, here and not by its name: by then the name could lead elsewhere. */
static gboolean prepare (Run *run, int fd, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    gint64 size = json_get_int (action->args, "size", 0);
    struct stat st;
    return (size == 0 || ftruncate (fd, size) == 0 || error_set_errno (error, errno, "'%s'", path))
           && (fstat (fd, &st) == 0 || error_set_errno (error, errno, "'%s'", path))
           && note_file (run, path, &st, error);
}

/* Where the file system has no unnamed files: a name of our own first, so that a kill leaves
 * nothing unknown. */
static gboolean create_by_rename (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    g_autofree char *temporary = g_strdup_printf ("%s.bak-%s", path, run->plan->job);
    int fd = open (temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return link_error (path, errno, error);
    give (run, fd);
    gboolean ok = prepare (run, fd, action, error);
    if (ok && link (temporary, path) != 0)
        ok = link_error (path, errno, error);
    g_unlink (temporary);
    close (fd);
    return ok;
}

/* A name that we have made up, in a directory of the configuration: nobody could know it. */
static gboolean is_generated (const Run *run, const char *path)
{
    g_autofree char *base = g_path_get_basename (path),
                    *mark = g_strdup_printf ("-%s.", run->plan->job);
    return strstr (base, mark) != NULL;
}

static Caller *caller_of (const Run *run, const char *path)
{
    Caller *caller = caller_current ();
    return caller && is_generated (run, path) ? NULL : caller;
}

/* Where he may, and his own, as far as the kernel is concerned. */
static gboolean create_for_caller (Run *run, Caller *caller, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    g_autofree char *base = g_path_get_basename (path);
    int dir, fd = caller_open_unnamed (caller, path, &dir, error);
    if (fd < 0)
        return FALSE;
    gboolean ok = prepare (run, fd, action, error);
    if (ok && !caller_name (caller, fd, dir, base))
        ok = link_error (path, errno, error);
    if (ok)
        give (run, fd);
    close (dir);
    close (fd);
    return ok;
}

static gboolean is_free (Run *run, const char *path, GError **error)
{
    struct stat st;
    return lstat (path, &st) == 0 ? link_error (path, EEXIST, error)
                                  : is_nobodys (run, path, NULL, error);
}

/* -1: the file system has no unnamed files, or errno. */
static int open_unnamed (const char *path, gboolean *ret_has_none)
{
    g_autofree char *dir = g_path_get_dirname (path);
    int fd = open (dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    *ret_has_none = fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL);
    return fd;
}

/* The inode is in the journal before the name is in the directory: whatever dies in between,
 * recover knows what is ours. */
static gboolean verb_file_create (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    gboolean named_only;
    Caller *caller = caller_of (run, path);
    if (caller)
        return is_nobodys (run, path, NULL, error)
               && create_for_caller (run, caller, action, error);
    if (!is_free (run, path, error))
        return FALSE;
    int fd = open_unnamed (path, &named_only);
    if (named_only)
        return create_by_rename (run, action, error);
    if (fd < 0)
        return link_error (path, errno, error);
    give (run, fd);
    g_autofree char *proc = g_strdup_printf ("/proc/self/fd/%d", fd);
    gboolean ok = prepare (run, fd, action, error);
    if (ok && linkat (AT_FDCWD, proc, AT_FDCWD, path, AT_SYMLINK_FOLLOW) != 0)
        ok = link_error (path, errno, error);
    close (fd);
    return ok;
}

static gboolean is_made (const JournalFile *file, const struct stat *st)
{
    return st->st_dev == file->device && st->st_ino == file->inode;
}

static gboolean is_replaced (const char *path, GError **error)
{
    return error_set (error, BAK_ERROR_IO,
                      _("'%s' is not the file any more that the copy was written to: somebody "
                         "has moved, removed or replaced it"),
                      path);
}

/* What lies there at the end is what was made, not what somebody has put in its place. */
static gboolean is_what_was_made (Run *run, const char *path, GError **error)
{
    const JournalFile *file = g_hash_table_lookup (run->files, path);
    struct stat st;

    int failure = file && lstat (path, &st) != 0 ? errno : 0;
    if (failure && failure != ENOENT)
        return error_set_errno (error, failure, _("cannot look at '%s'"), path);
    return !file || (!failure && is_made (file, &st)) || is_replaced (path, error);
}

/* To write to it: the file that was made, whatever the name leads to by now. -1 */
static int open_made (Run *run, const char *path, GError **error)
{
    const JournalFile *file = g_hash_table_lookup (run->files, path);
    struct stat st;
    int fd = open (path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0) {
        error_set_errno (error, errno, _("cannot open '%s'"), path);
        return -1;
    }
    if (!file || (fstat (fd, &st) == 0 && is_made (file, &st)))
        return fd;
    is_replaced (path, error);
    close (fd);
    return -1;
}

static gboolean look_for_caller (Caller *caller, const char *path, GError **error)
{
    g_autofree char *base = g_path_get_basename (path);
    struct stat st;
    int dir, fd = caller_open_unnamed (caller, path, &dir, error);
    if (fd < 0)
        return FALSE;
    gboolean there = fstatat (dir, base, &st, AT_SYMLINK_NOFOLLOW) == 0;
    close (fd);
    close (dir);
    return !there || link_error (path, EEXIST, error);
}

static gboolean look_file_create (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    Caller *caller = caller_of (run, path);
    gboolean named_only;
    if (caller)
        return is_nobodys (run, path, NULL, error) && look_for_caller (caller, path, error);
    if (!is_free (run, path, error))
        return FALSE;
    int fd = open_unnamed (path, &named_only), failure = errno;
    if (fd >= 0)
        close (fd);
    g_autofree char *dir = named_only ? g_path_get_dirname (path) : NULL;
    if (dir && access (dir, W_OK | X_OK) != 0)
        return link_error (path, errno, error);
    return fd >= 0 || dir || link_error (path, failure, error);
}

static gboolean verb_file_remove (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    const JournalFile *file = g_hash_table_lookup (run->files, path);
    g_autofree char *temporary = g_strdup_printf ("%s.bak-%s", path, run->plan->job);
    g_autofree char *parent = g_path_get_dirname (path), *base = g_path_get_basename (path);
    struct stat st;

    g_unlink (temporary);
    /* by the directory, which may be somebody's who has it lead elsewhere meanwhile */
    int dir = file ? open (parent, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    gboolean ours = dir >= 0 && fstatat (dir, base, &st, AT_SYMLINK_NOFOLLOW) == 0
                    && st.st_dev == file->device && st.st_ino == file->inode;
    int failure = ours && unlinkat (dir, base, 0) != 0 ? errno : 0;
    if (dir >= 0)
        close (dir);
    /* never made, gone, or somebody else's: all is well */
    return failure == 0 || failure == ENOENT
           || error_set_errno (error, failure, _("cannot remove '%s'"), path);
}

gboolean run_is_same_file (const char *path, const struct stat *st)
{
    struct stat other;
    return stat (path, &other) == 0 && place_overlaps (&other, st);
}

/* For a caller: what he may write to. For everybody: nothing else that takes its place. */
static gboolean look_at (Run *run, const char *path, struct stat *ret_st, GError **error)
{
    Caller *caller = caller_of (run, path);
    if (!caller) {
        if (stat (path, ret_st) != 0)
            return error_set_errno (error, errno, _("cannot use '%s'"), path);
        run_note_seen (run, path, ret_st);
        return TRUE;
    }
    int fd = caller_open (caller, path, CALLER_WRITES, error);
    if (fd < 0)
        return FALSE;
    gboolean ok = fstat (fd, ret_st) == 0 || error_set_errno (error, errno, "'%s'", path);
    close (fd);
    if (ok)
        run_note_seen (run, path, ret_st);
    return ok;
}

/* One that is to be written to as it is. What cannot be read here is QEMU's to judge. */
static gboolean has_format (Run *run, const char *path, const char *format, GError **error)
{
    Caller *caller = caller_of (run, path);
    ImageHead head;
    int fd = caller ? caller_open (caller, path, CALLER_READS, NULL)
                    : open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    gboolean known = fd >= 0 && image_head_read (fd, &head);
    if (fd >= 0)
        close (fd);
    if (!known || (g_str_equal (head.format, format) && !head.encrypted))
        return TRUE;
    if (g_str_equal (head.format, format))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("'%s' is encrypted, which no target can be yet; name another file"),
                          path);
    return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                      _("'%s' is no image of format %s: by its first bytes it is %s; name another "
                         "file, or the format that is meant (<driver type=''/>, --format)"),
                      path, format, head.format);
}

static gboolean verb_file_check (Run *run, const Action *action, GError **error)
{
    const char *format = json_get_string (action->args, "format");
    const char *path = json_get_string (action->args, "path");
    gboolean block = g_strcmp0 (json_get_string (action->args, "kind"), "block") == 0;
    struct stat st;
    if (!look_at (run, path, &st, error))
        return FALSE;
    if (block ? !S_ISBLK (st.st_mode) : !S_ISREG (st.st_mode))
        return error_set (
            error, BAK_ERROR_INVALID_ARGUMENT,
            block ? _("'%s' is not a block device") : _("'%s' is not a regular file"), path);
    if (has_open (run, &st))
        return error_set (
            error, BAK_ERROR_INVALID_ARGUMENT,
            _("'%s' is in use by the guest itself: its QEMU has it open; name another file"),
            path);
    /* another driver looks by a step of its own, once it has asked who else there is */
    if (run->ops->has_open && !is_nobodys (run, path, &st, error))
        return FALSE;
    return !format || has_format (run, path, format, error);
}

static gboolean verb_file_format (Run *run, const Action *action, GError **error)
{
    return has_format (run, json_get_string (action->args, "path"),
                       json_get_string (action->args, "format"), error);
}

/* "backing" goes into the header as it is, without being opened. */
static gboolean create_image (const Action *action, const char *path, GError **error)
{
    g_autofree char *size =
        g_strdup_printf ("%" G_GINT64_FORMAT, json_get_int (action->args, "size", 0));
    g_autofree char *cluster_size = g_strdup_printf (
        "cluster_size=%" G_GINT64_FORMAT, json_get_int (action->args, "cluster-size", 0));
    const char *backing = json_get_string (action->args, "backing");
    g_autoptr (GPtrArray) argv = g_ptr_array_new ();

    for (const char *const *word =
             (const char *const[]){ "create", "-q", "-f", json_get_string (action->args, "format"),
                                    NULL };
         *word; word++)
        g_ptr_array_add (argv, (char *) *word);
    if (json_get_int (action->args, "cluster-size", 0) > 0) {
        g_ptr_array_add (argv, (char *) "-o");
        g_ptr_array_add (argv, cluster_size);
    }
    for (const char *const *word =
             (const char *const[]){ "-u", "-F", "qcow2", "-b", backing, NULL };
         backing && *word; word++)
        g_ptr_array_add (argv, (char *) *word);
    g_ptr_array_add (argv, (char *) path);
    g_ptr_array_add (argv, size);
    g_ptr_array_add (argv, NULL);
    return image_tool ((const char *const *) argv->pdata, NULL, error)
           || error_note (error, "'%s'", json_get_string (action->args, "path"));
}

/* Where QEMU does not format it. What we have made is told by its descriptor: the program opens
 * with O_TRUNC whatever the name leads to by then. */
static gboolean verb_image_create (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    if (caller_of (run, path))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("images are made for other users by QEMU only (2.12 or newer)"));
    if (!g_hash_table_contains (run->files, path))
        return create_image (action, path, error);
    int fd = open_made (run, path, error);
    if (fd < 0)
        return FALSE;
    g_autofree char *proc = g_strdup_printf ("/proc/%d/fd/%d", (int) getpid (), fd);
    gboolean ok = create_image (action, proc, error);
    close (fd);
    return ok;
}

/* Allocated zeroes hide what is below them as data does; without "present" (before 6.1) they look
 * like nothing. */
static gboolean is_empty_area (JsonObject *area)
{
    if (!area || json_get_bool (area, "data", TRUE))
        return FALSE;
    return json_get_int (area, "depth", 0) > 0 || !json_get_bool (area, "present", TRUE);
}

/* A scratch that is given must hold nothing: its reader gets what it holds, the rest from the
 * guest's disk. */
static gboolean verb_empty_check (Run *run G_GNUC_UNUSED, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    const char *argv[] = { "map",           "-U", "-f", json_get_string (action->args, "format"),
                           "--output=json", path, NULL };
    g_autofree char *text = NULL;
    if (!image_tool (argv, &text, error))
        return error_note (error, _("scratch '%s'"), path);
    g_autoptr (JsonNode) areas = json_read (text, -1, error);
    if (!areas)
        return error_note (error, _("scratch '%s'"), path);
    JsonArray *array = JSON_NODE_HOLDS_ARRAY (areas) ? json_node_get_array (areas) : NULL;
    gboolean empty = array != NULL;
    for (guint i = 0; empty && i < json_array_get_length (array); i++)
        empty = is_empty_area (json_get_element (array, i));
    return empty
           || error_set (
               error, BAK_ERROR_INVALID_ARGUMENT,
               _("scratch '%s' is not empty: what it holds would be read in place of what the "
                  "guest saw; "
                  "make a new one (qemu-img create), or name a file that is not there yet"),
               path);
}

/* QEMU's locks on an image: a byte each for what it does with it and for what it lets nobody else
 * do. */
enum { LOCKS_START = 100, LOCKS_LENGTH = 200, LOCK_WRITES = 101 };

static gboolean is_locked (int fd, off_t start, off_t length)
{
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = length
    };
    return fcntl (fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

static gboolean is_written_to (const char *path)
{
    int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    gboolean written = fd >= 0 && is_locked (fd, LOCK_WRITES, 1);
    if (fd >= 0)
        close (fd);
    return written;
}

gboolean run_file_in_use (const char *path)
{
    int fd = open (path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    gboolean locked = fd < 0 || is_locked (fd, LOCKS_START, LOCKS_LENGTH); /* TRUE: cannot tell */
    if (fd >= 0)
        close (fd);
    return locked;
}

/* Under whatever name. "images": those of a guest whose QEMU is not ours to look into. */
static gboolean is_image_of_guest (Run *run, const Action *action, const struct stat *st)
{
    JsonArray *images = json_get_array (action->args, "images");
    for (guint i = 0; images && i < json_array_get_length (images); i++) {
        const char *image = json_get_string_element (images, i);
        if (image && run_is_same_file (image, st))
            return TRUE;
    }
    return has_open (run, st);
}

/* The last before success is said. */
static gboolean verb_target_check (Run *run G_GNUC_UNUSED, const Action *action, GError **error)
{
    return target_check (json_get_string (action->args, "path"),
                         json_get_string (action->args, "format"),
                         json_get_int (action->args, "size", 0), error);
}

static gboolean verb_target_whole (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");

    return is_what_was_made (run, path, error)
           && target_is_whole (path, json_get_int (action->args, "gap", 0), error);
}

/* The previous backup that an increment is laid on: a qcow2 image of the disk's size. */
static gboolean verb_backing_check (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    struct stat st;
    if (stat (path, &st) != 0)
        return error_set_errno (error, errno, _("previous backup '%s'"), path);
    if (is_image_of_guest (run, action, &st))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("'%s' is an image of the guest itself, not a previous backup"), path);
    if (is_written_to (path))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("a QEMU has '%s' open for writing: it is an image of a guest, not a "
                             "previous backup"),
                          path);
    g_autofree char *text = chain_text (path, NULL, CHAIN_RECALL, error);
    g_autoptr (JsonNode) node = text ? json_read (text, -1, error) : NULL;
    JsonArray *chain = node && JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : NULL;
    JsonObject *info = chain && json_array_get_length (chain) ? json_get_element (chain, 0) : NULL;
    if (!node || !info)
        return error_note (error, _("previous backup '%s'"), path);
    const char *format = json_get_string (info, "format");
    gint64 size = json_get_int (info, "virtual-size", 0),
           wanted = json_get_int (action->args, "size", 0);
    if (!chain_is_backup_of (path, json_get_string (action->args, "checkpoint"),
                             json_get_string (action->args, "backup"),
                             json_get_string (action->args, "backup-id"), error))
        return FALSE;
    if (g_strcmp0 (format, "qcow2") != 0)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("previous backup '%s' has format '%s', not qcow2"), path,
                          format ? format : "?");
    if (size != wanted)
        return error_set (
            error, BAK_ERROR_INEXACT,
            _("previous backup '%s' has %" G_GINT64_FORMAT " bytes, the disk %" G_GINT64_FORMAT),
            path, size, wanted);
    const char *sealed = json_get_string (action->args, "sealed");
    return !sealed || chain_check (path, sealed, error);
}

static gboolean verb_file_sync (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    return is_what_was_made (run, path, error) && files_fsync (path, error)
           && files_fsync_parent (path, error);
}

/* QEMU writes zero areas of a raw target as allocated zeroes; what the file system says reads as a
 * hole is given back. Only a saving: a file system that cannot do it is no failure. */
static gboolean verb_file_punch (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    int fd = open_made (run, path, error);
    if (fd < 0)
        return FALSE;
    off_t size = lseek (fd, 0, SEEK_END), hole = 0;
    gboolean ok = fsync (fd) == 0;
    int saved = errno;
    while (ok && hole >= 0 && hole < size) {
        hole = lseek (fd, hole, SEEK_HOLE);
        off_t data = hole >= 0 && hole < size ? lseek (fd, hole, SEEK_DATA) : -1;
        if (hole < 0 || hole >= size)
            break;
        if (data < 0)
            data = size;
        if (fallocate (fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, hole, data - hole) != 0)
            break;
        hole = data;
    }
    close (fd);
    return ok || error_set_errno (error, saved, _("cannot sync '%s'"), path);
}

/* All the space that a scratch can come to need, now: later it would be missing in the middle of a
 * guest's write. */
static gint64 to_reserve (const Action *action)
{
    gint64 size = json_get_int (action->args, "size", 0);
    return json_get_bool (action->args, "overlay", FALSE)
               ? size + size / 2048 + 4 * 1024 * 1024 /* tables of the image, with room */
               : size;
}

static gboolean cannot_reserve (const Action *action, int errnum, GError **error)
{
    return error_set_errno (error, errnum,
                            _("scratch '%s': cannot reserve %" G_GINT64_FORMAT
                               " bytes (another place: scratch_dir of the configuration; "
                               "backup-begin has --scratch DIR too, and --protect no for none)"),
                            json_get_string (action->args, "path"), to_reserve (action));
}

static gboolean verb_file_reserve (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    gboolean overlay = json_get_bool (action->args, "overlay", FALSE);
    int fd = open_made (run, path, error);
    if (fd < 0)
        return error_note (error, _("scratch '%s'"), path);
    gboolean ok = fallocate (fd, overlay ? FALLOC_FL_KEEP_SIZE : 0, 0, to_reserve (action)) == 0;
    int saved = errno;
    close (fd);
    return ok || cannot_reserve (action, saved, error);
}

static gboolean room_at (const Action *action, dev_t *ret_device, guint64 *ret_free)
{
    const char *path = json_get_string (action->args, "path");
    g_autofree char *dir = g_path_get_dirname (path);
    struct stat st;
    struct statvfs fs;
    if (stat (dir, &st) != 0 || statvfs (dir, &fs) != 0)
        return FALSE;
    *ret_device = st.st_dev;
    *ret_free = (guint64) fs.f_bavail * fs.f_frsize;
    return TRUE;
}

/* With what the steps before it take of the same file system. */
static gboolean look_file_reserve (Run *run, const Action *action, GError **error)
{
    guint64 room, other_room, taken = 0;
    dev_t device, other;
    if (!room_at (action, &device, &room))
        return TRUE;
    for (guint i = 0; i < run->plan->steps->len; i++) {
        const Action *before = ((Step *) run->plan->steps->pdata[i])->action;
        if (g_str_equal (before->verb, action->verb) && room_at (before, &other, &other_room)
            && other == device)
            taken += to_reserve (before);
        if (before == action)
            break;
    }
    return taken <= room || cannot_reserve (action, ENOSPC, error);
}

/* ---- sockets and certificates ---- */

static gboolean socket_is_alive (const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen (path) >= sizeof address.sun_path)
        return FALSE;
    strcpy (address.sun_path, path);
    int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    gboolean alive =
        fd >= 0
        && (connect (fd, (struct sockaddr *) &address, sizeof address) == 0 || errno == EAGAIN);
    if (fd >= 0)
        close (fd);
    return alive;
}

static gboolean verb_socket_check (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    g_autofree char *dir = g_path_get_dirname (path);
    struct stat st;
    if (strlen (path) > 107)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("socket path '%s' has %zu bytes; 107 are possible"), path,
                          strlen (path));
    if (!g_file_test (dir, G_FILE_TEST_IS_DIR))
        return error_set (error, BAK_ERROR_IO, _("socket '%s': the directory '%s' does not exist"),
                          path, dir);
    if (lstat (path, &st) != 0)
        return errno == ENOENT || error_set_errno (error, errno, _("cannot look at '%s'"), path);
    if (!S_ISSOCK (st.st_mode))
        return error_set (error, BAK_ERROR_EXISTS,
                          _("socket path '%s' is a file that is not a socket; it was left "
                             "untouched: name another path"),
                          path);
    if (socket_is_alive (path))
        return error_set (error, BAK_ERROR_EXISTS,
                          _("somebody listens on the socket '%s' already: name another path"),
                          path);
    return TRUE;
}

static gboolean verb_socket_remove (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    struct stat st;
    if (lstat (path, &st) == 0 && S_ISSOCK (st.st_mode) && !socket_is_alive (path))
        g_unlink (path);
    return TRUE;
}

static gboolean verb_tls_check (Run *run, const Action *action, GError **error)
{
    /* the last row is for every other endpoint */
    static const struct {
        const char *endpoint;
        const char *files[4];
    } rows[] = {
        { "psk", { "keys.psk" } },
        { "client", { "ca-cert.pem", "client-cert.pem", "client-key.pem" } },
        { "server", { "ca-cert.pem", "server-cert.pem", "server-key.pem" } },
    };
    const char *dir = json_get_string (action->args, "dir"),
               *endpoint = json_get_string (action->args, "endpoint");
    guint row = 0;
    while (row + 1 < G_N_ELEMENTS (rows) && g_strcmp0 (endpoint, rows[row].endpoint) != 0)
        row++;
    const char *const *files = rows[row].files;
    for (guint i = 0; files[i]; i++) {
        g_autofree char *path = g_build_filename (dir, files[i], NULL);
        if (access (path, R_OK) != 0)
            return error_set (
                error, errno == ENOENT ? BAK_ERROR_INVALID_ARGUMENT : BAK_ERROR_ACCESS_DENIED,
                _("TLS: cannot read '%s': %s"), path, g_strerror (errno));
    }
    return TRUE;
}

const RunVerb file_verbs[] = {
    { "file-create", verb_file_create, .look = look_file_create },
    { "file-remove", verb_file_remove },
    { "file-check", verb_file_check, .look = verb_file_check },
    { "file-format", verb_file_format, .look = verb_file_format },
    { "image-create", verb_image_create },
    { "backing-check", verb_backing_check, .look = verb_backing_check },
    { "target-check", verb_target_check },
    { "target-whole", verb_target_whole },
    { "empty-check", verb_empty_check, .look = verb_empty_check },
    { "file-sync", verb_file_sync },
    { "file-punch", verb_file_punch },
    { "file-reserve", verb_file_reserve, .look = look_file_reserve },
    { "socket-check", verb_socket_check, .look = verb_socket_check },
    { "socket-remove", verb_socket_remove },
    { "tls-check", verb_tls_check, .look = verb_tls_check },
    { NULL },
};
