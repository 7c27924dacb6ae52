#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "mover/storage.h"
#include "repository/fields.h"
#include "repository/lock.h"
#include "repository/reading.h"
#include "repository/restore.h"
#include "repository/stored-file.h"
#include "repository/target.h"
#include "repository/work.h"
#include "util/files.h"

static const char target_export[] = "target";

typedef struct {
    Point *point;
    const BakPointRestoreOptions *options;
    TargetAllow allow;
    GPtrArray *targets; /* Target */
    int dir; /* the directory, if there is one: what lies beside the disks goes in there */
    Work work;
} Restore;

/* What goes where */

static TargetRules rules_of (const Restore *restore)
{
    const BakPointRestoreOptions *options = restore->options;
    return (TargetRules){ .point = restore->point->manifest,
                          .allow = restore->allow,
                          .format = options->format,
                          .reuse = options->flags & BAK_POINT_RESTORE_REUSE_EXTERNAL,
                          .changed_only = options->flags & BAK_POINT_RESTORE_CHANGED_ONLY };
}

static gboolean add_target (Restore *restore, const char *disk, const char *path, GError **error)
{
    const ManifestDisk *row = manifest_find_disk (restore->point->manifest, disk);
    TargetRules rules = rules_of (restore);

    if (!row)
        return error_set (error, BAK_ERROR_NO_DISK, _("point '%s' has no disk '%s'"),
                          restore->point->manifest->id, disk);
    Target *target = target_plan (restore->point->repository, row, path, &rules, error);
    if (!target)
        return FALSE;
    for (guint i = 0; i < restore->targets->len; i++) {
        const Target *other = restore->targets->pdata[i];
        if (!g_str_equal (other->disk, disk) && !files_same (other->path, target->path))
            continue;
        error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                   _("disks '%s' and '%s' cannot both be restored to '%s'"), other->disk, disk,
                   target->path);
        target_free (target);
        return FALSE;
    }
    g_ptr_array_add (restore->targets, target);
    restore->work.total += row->size;
    return TRUE;
}

/* A target is any text; the repository has made a file's name of it already. */
static char *file_name (const Restore *restore, const char *disk, const char *format)
{
    const PlacementDisk *placement = placement_find_disk (restore->point->storage, disk);
    const char *file = placement ? placement->file : disk;
    const char *dot = g_str_has_suffix (file, ".qcow2") ? strrchr (file, '.') : NULL;
    g_autofree char *stem = dot ? g_strndup (file, dot - file) : g_strdup (file);

    return g_strdup_printf ("%s.%s", stem, format);
}

static gboolean plan_directory (Restore *restore, GError **error)
{
    const BakPointRestoreOptions *options = restore->options;
    g_autoptr (GPtrArray) disks = reading_targets (restore->point, options->disks, error);
    const char *format = options->format ? options->format : "qcow2";

    if (!disks || !files_make_dir (options->directory, 0755, error))
        return FALSE;
    restore->dir = open (options->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (restore->dir < 0)
        return error_set_errno (error, errno, _("the folder '%s'"), options->directory);
    for (guint i = 0; disks->pdata[i]; i++) {
        g_autofree char *name = file_name (restore, disks->pdata[i], format);
        g_autofree char *path = g_build_filename (options->directory, name, NULL);
        if (!add_target (restore, disks->pdata[i], path, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean plan_targets (Restore *restore, GError **error)
{
    const BakPointRestoreOptions *options = restore->options;

    if (options->directory)
        return plan_directory (restore, error);
    for (guint i = 0; i < options->n_targets; i++)
        if (!add_target (restore, options->targets[i].disk, options->targets[i].path, error))
            return FALSE;
    return TRUE;
}

static gboolean check_options (const BakPointRestoreOptions *options, GError **error)
{
    gboolean changed_only = options->flags & BAK_POINT_RESTORE_CHANGED_ONLY;

    if (!options->directory == !options->n_targets)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("either a directory or targets of disks are needed"));
    if (options->format && !g_str_equal (options->format, "raw")
        && !g_str_equal (options->format, "qcow2"))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("a disk is restored as raw or qcow2, not as '%s'"), options->format);
    if (changed_only && !(options->flags & BAK_POINT_RESTORE_REUSE_EXTERNAL))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("only what differs is written to an image that exists: "
                             "--changed-only needs --reuse-external"));
    return TRUE;
}

/* One disk */

static Storage *open_target (const Target *target, GError **error)
{
    g_autoptr (GError) why = NULL;
    StorageLayer layer = { .file = target->work_path, .format = target->format, .fd = &target->fd };
    StorageImage image = { .name = target_export,
                           .layers = &layer,
                           .n_layers = 1,
                           .writable = TRUE,
                           .size = target->size };
    Storage *storage = storage_start (&image, 1, 2, &why);

    if (!storage && g_error_matches (why, BAK_ERROR, BAK_ERROR_BUSY))
        error_set (error, BAK_ERROR_BUSY,
                   _("'%s' is in use by a running QEMU: stop the guest, or restore to a new file"),
                   target->path);
    else if (!storage)
        g_propagate_error (error, g_steal_pointer (&why));
    return storage;
}

static MoverOptions mover_options (Restore *restore, const Reading *reading)
{
    return (MoverOptions){ .key = repository_leaf_key (reading->point->repository),
                           .view = reading->view,
                           .check = reading->view ? MOVER_CHECK_PROVE : MOVER_CHECK_NONE,
                           .control = restore->work.control,
                           .progress = work_progress,
                           .data = &restore->work };
}

/* From the point into the sink, proved; only NULL: all of it. */
static gboolean copy (Restore *restore, const Reading *reading, Sink *sink, const LeafSet *only,
                      GError **error)
{
    g_autoptr (Storage) storage = reading_serve (reading, error);
    MoverSource source = { .target = reading->disk->target,
                           .export_name = reading->disk->target,
                           .size = reading->disk->size };
    MoverOptions options = mover_options (restore, reading);
    MoverResult result;

    if (!storage)
        return FALSE;
    source.fd = storage_connect (storage);
    options.only = only;
    if (!mover_run (&source, &options, sink, &result, error))
        return FALSE;
    return only || leaf_equal (&result.root, &reading->root)
           || error_set (error, BAK_ERROR_INEXACT,
                         _("disk '%s': what was read is not what was backed up: its root differs"),
                         reading->disk->target);
}

typedef struct {
    LeafSet *set;
    Work *work;
} Differences;

static void add_difference (guint64 offset, guint64 length, gpointer data)
{
    Differences *differences = data;

    leaf_set_add (differences->set, offset / LEAF_SIZE, leaf_count (length));
}

static void compare_progress (guint64 done, guint64 total, gpointer data)
{
    work_progress (done, total, ((Differences *) data)->work);
}

/* The leaves of the target that are not as the point has them. */
static LeafSet *compare (Restore *restore, const Reading *reading, int fd, GError **error)
{
    g_autoptr (LeafSet) set = leaf_set_new (reading->disk->size);
    Differences differences = { set, &restore->work };
    MoverSource source = { .target = reading->disk->target,
                           .fd = fd,
                           .export_name = target_export };
    /* a device may be larger than the disk: its rest is nobody's affair */
    MoverOptions options = { .size = reading->disk->size,
                             .key = repository_leaf_key (reading->point->repository),
                             .view = reading->view,
                             .check = MOVER_CHECK_REPORT,
                             .differs = add_difference,
                             .control = restore->work.control,
                             .progress = compare_progress,
                             .data = &differences };

    return mover_run (&source, &options, NULL, NULL, error) ? g_steal_pointer (&set) : NULL;
}

/* Without a view nothing can be compared leaf by leaf; all that is read still gives the root. */
static gboolean can_compare (const Reading *reading, gboolean asked, GError **error)
{
    if (reading->view)
        return TRUE;
    return asked
           && error_set (
               error, BAK_ERROR_INEXACT,
               _("disk '%s': only what differs cannot be written: %s; restore all of it"),
               reading->disk->target, reading->flaw->message);
}

static gboolean write_target (Restore *restore, const Reading *reading, const Target *target,
                              GError **error)
{
    gboolean asked = restore->options->flags & BAK_POINT_RESTORE_CHANGED_ONLY;
    gboolean comparing = asked || target->resumed;
    g_autoptr (Storage) storage = NULL;
    g_autoptr (Sink) sink = NULL;
    g_autoptr (LeafSet) only = NULL;

    if (asked && !can_compare (reading, asked, error))
        return FALSE;
    if (!(storage = open_target (target, error)))
        return FALSE;
    sink = sink_nbd_new (storage_connect (storage), target_export, target->size, 0, error);
    if (!sink)
        return FALSE;
    if (target->is_new && !target->resumed)
        sink_nbd_set_blank (sink);
    if (comparing && reading->view
        && !(only = compare (restore, reading, storage_connect (storage), error)))
        return FALSE;
    if ((!only || leaf_set_count (only) > 0) && !copy (restore, reading, sink, only, error))
        return FALSE;
    g_clear_pointer (&sink, sink_free);
    return storage_stop (storage, error);
}

/* Only a run that was told to end leaves something to be taken up again. */
static gboolean restore_disk (Restore *restore, Target *target, GError **error)
{
    g_autoptr (GError) why = NULL;
    g_autoptr (Reading) reading = reading_open (restore->point, target->disk, error);

    if (!reading)
        return FALSE;
    work_begin_disk (&restore->work, "restore", target->disk);
    gboolean ok = target_make (target, &why) && write_target (restore, reading, target, &why)
                  && target_finish (target, &why);
    if (!ok) {
        target_abandon (target, g_error_matches (why, BAK_ERROR, BAK_ERROR_ABORTED));
        g_propagate_error (error, g_steal_pointer (&why));
        return error_note (error, _("restoring disk '%s' to '%s'"), target->disk, target->path);
    }
    work_end_disk (&restore->work, target->size);
    return TRUE;
}

/* What lies beside the disks */

/* The README of the point tells how to do without this program: the copy gets one of its own. */
static const char readme[] = STORED_README;

/* In the directory that was opened, whatever is at its name by now. Caller frees. */
static char *path_in_directory (const Restore *restore, const char *name)
{
    return g_strdup_printf ("/proc/self/fd/%d/%s", restore->dir, name);
}

static gboolean write_beside (const Restore *restore, const char *name, const char *data,
                              gsize length, int mode, GError **error)
{
    g_autofree char *to = path_in_directory (restore, name);

    return files_write_atomic (to, data, length, mode, error)
           || error_note (error, _("'%s' in '%s'"), name, restore->options->directory);
}

static gboolean copy_file (const Restore *restore, const ManifestFile *file, GError **error)
{
    g_autofree char *data = NULL;
    gsize length;

    return g_str_equal (file->name, readme)
           || (stored_file_read (restore->point, file, &data, &length, error)
               && write_beside (restore, file->name, data, length, 0600, error));
}

static gboolean check_file (const Restore *restore, const char *name, GError **error)
{
    g_autofree char *path = g_build_filename (restore->options->directory, name, NULL);
    struct stat st;

    if (restore->options->flags & BAK_POINT_RESTORE_REUSE_EXTERNAL
        || fstatat (restore->dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return TRUE;
    return error_set (error, BAK_ERROR_EXISTS,
                      _("'%s' exists: what is there is written only with --reuse-external"), path);
}

/* Before anything is written: that they may be, and are what they were. */
static gboolean check_files (const Restore *restore, GError **error)
{
    const GPtrArray *files = restore->point->manifest->files;

    if (!restore->options->directory)
        return TRUE;
    for (guint i = 0; i < files->len; i++) {
        const ManifestFile *file = files->pdata[i];
        g_autofree char *data = NULL;
        gsize length;
        if (!check_file (restore, file->name, error)
            || !stored_file_read (restore->point, file, &data, &length, error))
            return FALSE;
    }
    return check_file (restore, readme, error);
}

static gboolean write_readme (const Restore *restore, GError **error)
{
    const Manifest *manifest = restore->point->manifest;
    g_autofree char *instant = fields_format_time (manifest->instant);
    g_autofree char *guest = text_sanitize (manifest->guest_name, 0);
    g_autoptr (GString) text = g_string_new (NULL);

    g_string_append_printf (text,
                            _("Guest '%s' (%s) as it was at %s (%s),\n"
                               "restored from point %s; each disk was proved by its hashes.\n\n"),
                            guest, manifest->guest_uuid, instant, manifest->consistency,
                            manifest->id);
    for (guint i = 0; i < restore->targets->len; i++) {
        const Target *target = restore->targets->pdata[i];
        g_autofree char *name = g_path_get_basename (target->path);
        g_string_append_printf (text, _("%s: disk '%s', %s, %" G_GUINT64_FORMAT " bytes\n"), name,
                                target->disk, target->format, target->size);
    }
    for (guint i = 0; i < manifest->files->len; i++) {
        const ManifestFile *file = manifest->files->pdata[i];
        if (!g_str_equal (file->name, readme))
            g_string_append_printf (text, _("%s: as the guest had it at that time\n"), file->name);
    }
    return write_beside (restore, readme, text->str, text->len, 0644, error);
}

static gboolean write_files (const Restore *restore, GError **error)
{
    const GPtrArray *files = restore->point->manifest->files;

    if (!restore->options->directory)
        return TRUE;
    for (guint i = 0; i < files->len; i++)
        if (!copy_file (restore, files->pdata[i], error))
            return FALSE;
    return write_readme (restore, error);
}

static gboolean directory_is_there (const Restore *restore, GError **error)
{
    const char *path = restore->options->directory;
    struct stat ours, there;

    return !path
           || (fstat (restore->dir, &ours) == 0 && stat (path, &there) == 0
               && ours.st_dev == there.st_dev && ours.st_ino == there.st_ino)
           || error_set (error, BAK_ERROR_IO,
                         _("the folder '%s' is another one by now: somebody has exchanged it "
                            "while it was written to"),
                         path);
}

static gboolean restore_all (Restore *restore, GError **error)
{
    if (!plan_targets (restore, error) || !check_files (restore, error))
        return FALSE;
    for (guint i = 0; i < restore->targets->len; i++)
        if (!restore_disk (restore, restore->targets->pdata[i], error))
            return FALSE;
    return write_files (restore, error) && directory_is_there (restore, error);
}

gboolean restore_point (Point *point, const BakPointRestoreOptions *options, TargetAllow allow,
                        GError **error)
{
    Restore restore = { .point = point, .options = options, .allow = allow, .dir = -1 };

    if (!check_options (options, error) || !repository_need_key (point->repository, error))
        return FALSE;
    g_autoptr (Lock) lock = lock_point_to_read (point, NULL, error);
    if (!lock)
        return FALSE;
    restore.targets = g_ptr_array_new_with_free_func ((GDestroyNotify) target_free);
    work_init (&restore.work, options->limit, options->progress, options->opaque,
               options->cancellation);
    gboolean ok = restore_all (&restore, error);
    work_clear (&restore.work);
    if (restore.dir >= 0)
        close (restore.dir);
    g_ptr_array_unref (restore.targets);
    return ok;
}
