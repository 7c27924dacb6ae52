#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "repository/lock.h"
#include "repository/merge-parts.h"
#include "util/files.h"

const char *merge_way_name (MergeWay way)
{
    static const char *const names[] = {
        [MERGE_REWRITE] = "rewrite", [MERGE_REFLINK] = "reflink", [MERGE_IN_PLACE] = "in-place"
    };
    return names[way];
}

static void merge_disk_free (gpointer data)
{
    MergeDisk *disk = data;
    point_unref (disk->child);
    g_free (disk->target);
    g_free (disk);
}

/* ---- which way ---- */

/* A small file that shares blocks here tells what this file system can. Its name is that of a
 * stage: whoever dies within leaves what the next writer clears. */
static gboolean can_reflink (const char *guest_dir)
{
    g_autofree char *from = g_build_filename (guest_dir, MERGE_STAGE_PREFIX "reflink-from", NULL);
    g_autofree char *to = g_build_filename (guest_dir, MERGE_STAGE_PREFIX "reflink-to", NULL);
    int source = open (from, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int copy = open (to, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    gboolean can = source >= 0 && copy >= 0 && write (source, "x", 1) == 1
                   && ioctl (copy, FICLONE, source) == 0;
    if (source >= 0)
        close (source);
    if (copy >= 0)
        close (copy);
    g_unlink (from);
    g_unlink (to);
    return can;
}

static guint count_children (const Point *goes, const char *target, const GPtrArray *points)
{
    guint count = 0;
    for (guint i = 0; i < points->len; i++) {
        const Point *point = points->pdata[i];
        const PlacementDisk *disk = placement_find_disk (point->storage, target);
        count += disk && g_strcmp0 (disk->backing, goes->manifest->id) == 0;
    }
    return count;
}

static MergeDisk *choose_way (Point *goes, Point *child, const PlacementDisk *disk,
                              const GPtrArray *points, gboolean reflinks)
{
    const PlacementDisk *below = placement_find_disk (goes->storage, disk->target);
    const ManifestDisk *now = manifest_find_disk (child->manifest, disk->target);
    const ManifestDisk *then = manifest_find_disk (goes->manifest, disk->target);
    gboolean commits = merge_is_plain (disk) && merge_is_plain (below) && now->size == then->size;
    gboolean cheap = below->file_size / 2 <= disk->file_size;
    MergeDisk *merge = g_new0 (MergeDisk, 1);
    merge->child = point_ref (child);
    merge->target = g_strdup (disk->target);
    if (commits && !cheap && reflinks)
        merge->way = MERGE_REFLINK;
    else if (commits && !cheap && !disk->encrypted
             && count_children (goes, disk->target, points) == 1)
        merge->way = MERGE_IN_PLACE;
    else
        merge->way = MERGE_REWRITE;
    merge->cost = disk->file_size + (merge->way == MERGE_REWRITE ? below->file_size : 0);
    return merge;
}

GPtrArray *merge_plan (Point *goes, const GPtrArray *points, GError **error)
{
    g_autofree char *guest_dir =
        repository_guest_dir (goes->repository, goes->manifest->guest_uuid);
    gboolean reflinks = can_reflink (guest_dir);
    g_autoptr (GPtrArray) plan = g_ptr_array_new_with_free_func (merge_disk_free);
    for (guint i = 0; i < points->len; i++) {
        Point *child = points->pdata[i];
        for (guint k = 0; k < child->storage->disks->len; k++) {
            const PlacementDisk *disk = child->storage->disks->pdata[k];
            if (g_strcmp0 (disk->backing, goes->manifest->id) != 0)
                continue;
            if (!placement_find_disk (goes->storage, disk->target)) {
                error_set (
                    error, BAK_ERROR_INEXACT,
                    _("disk '%s' of point '%s' stands on point '%s', which has no such disk"),
                    disk->target, child->manifest->id, goes->manifest->id);
                return NULL;
            }
            g_ptr_array_add (plan, choose_way (goes, child, disk, points, reflinks));
        }
    }
    return g_steal_pointer (&plan);
}

static gboolean check_space (Point *goes, const GPtrArray *plan, GError **error)
{
    struct statvfs fs;
    guint64 needed = 0;
    for (guint i = 0; i < plan->len; i++)
        needed += ((MergeDisk *) plan->pdata[i])->cost;
    if (statvfs (goes->repository->path, &fs) != 0)
        return error_set_errno (error, errno, _("cannot look at '%s'"), goes->repository->path);
    guint64 there = (guint64) fs.f_bavail * fs.f_frsize;
    return needed <= there
           || error_set (error, BAK_ERROR_NO_SPACE,
                         _("removing point '%s' writes up to %" G_GUINT64_FORMAT
                            " bytes before it frees any, and '%s' has %" G_GUINT64_FORMAT
                            " left; make room, or remove a point that nothing stands on"),
                         goes->manifest->id, needed, goes->repository->path, there);
}

/* ---- the removal ---- */

/* Nobody reads it, nor those whose files change. */
static GPtrArray *lock_all (Point *goes, const GPtrArray *plan, GError **error)
{
    g_autoptr (GPtrArray) locks = g_ptr_array_new_with_free_func ((GDestroyNotify) lock_free);
    g_autoptr (GPtrArray) changed = g_ptr_array_new ();
    g_ptr_array_add (changed, goes);
    for (guint i = 0; i < plan->len; i++) {
        Point *child = ((MergeDisk *) plan->pdata[i])->child;
        if (!g_ptr_array_find (changed, child, NULL))
            g_ptr_array_add (changed, child);
    }
    for (guint i = 0; i < changed->len; i++) {
        Lock *lock = lock_point_to_change (changed->pdata[i], error);
        if (!lock)
            return NULL;
        g_ptr_array_add (locks, lock);
    }
    return g_steal_pointer (&locks);
}

gboolean merge_remove (Point *goes, const GPtrArray *points, MoverControl *control, GError **error)
{
    Repository *repository = goes->repository;
    const Manifest *manifest = goes->manifest;
    g_autofree char *guest_dir = repository_guest_dir (repository, manifest->guest_uuid);
    g_autofree char *stage_name = g_strconcat (MERGE_STAGE_PREFIX, manifest->id, NULL);
    g_autofree char *stage = g_build_filename (guest_dir, stage_name, NULL);
    g_autofree char *path = merge_record_path (repository, manifest->guest_uuid);
    g_autoptr (GPtrArray) plan = merge_plan (goes, points, error);
    g_autoptr (GPtrArray) locks = plan ? lock_all (goes, plan, error) : NULL;
    if (!locks || !check_space (goes, plan, error)
        || (plan->len && !repository_need_key (repository, error)))
        return FALSE;
    g_autoptr (MergeRecord) record = merge_prepare (goes, plan, stage, control, error);
    if (!record || !files_fsync (guest_dir, error)
        || (record->children->len && !merge_record_write (path, record, error))) {
        files_remove_tree (stage);
        return error_note (error, _("removing point '%s'"), manifest->id);
    }
    return merge_finish (repository, manifest->guest_uuid, record, error);
}
