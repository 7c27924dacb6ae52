/* The new files of the children of a point that goes, in a stage: everything but what is done in
 * place. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "mover/storage.h"
#include "repository/merge-parts.h"
#include "util/files.h"

/* ---- the new files of a child's disk ---- */

/* One disk's chain as it is and as it will be. */
typedef struct {
    const MergeDisk *merge;
    const char *stage; /* directory of the child's new files */
    const PlacementDisk *disk;
    const ManifestDisk *manifest;
    GPtrArray *layers; /* PointLayer: the child's, that of the point that goes, what is below */
    char *image, *leaves;
    LeavesView *old;
    MoverControl *control;
} Merging;

static void merging_clear (Merging *work)
{
    g_clear_pointer (&work->layers, g_ptr_array_unref);
    g_clear_pointer (&work->old, leaves_view_free);
    g_free (work->image);
    g_free (work->leaves);
}

static Repository *repository_of (const Merging *work)
{
    return work->merge->child->repository;
}

static const LeafKey *leaf_key (const Merging *work)
{
    return repository_leaf_key (repository_of (work));
}

static const char *image_secret (const Merging *work)
{
    return repository_image_secret (repository_of (work));
}

static gboolean merging_init (Merging *work, const MergeDisk *merge, const char *stage,
                              MoverControl *control, GError **error)
{
    *work = (Merging){ .merge = merge,
                       .stage = stage,
                       .control = control,
                       .disk = placement_find_disk (merge->child->storage, merge->target),
                       .manifest = manifest_find_disk (merge->child->manifest, merge->target) };
    work->image = g_build_filename (stage, work->disk->file, NULL);
    work->leaves = g_build_filename (stage, work->disk->leaves, NULL);
    work->layers = point_layers (merge->child, merge->target, error);
    work->old = work->layers ? merge_open_leaves (work->layers, NULL, 0, work->manifest->size,
                                                  leaf_key (work), error)
                             : NULL;
    return work->old != NULL;
}

typedef gboolean (*RunFunction) (const Merging *work, const LeafRun *run, gpointer data,
                                 GError **error);

/* Each run that one of the two upper layers says, or that hides what is below them. */
static gboolean each_merged (const Merging *work, RunFunction function, gpointer data,
                             GError **error)
{
    guint64 count = leaf_count (work->manifest->size);
    for (guint64 index = 0; index < count;) {
        LeafRun run;
        if (!leaves_view_get (work->old, index, &run, error))
            return FALSE;
        gboolean ours = run.layer <= 1 || run.layer >= work->layers->len || !run.known;
        if (ours && !function (work, &run, data, error))
            return FALSE;
        index = run.index + run.count;
    }
    return TRUE;
}

static gboolean add_to_set (const Merging *work, const LeafRun *run, gpointer data, GError **error)
{
    leaf_set_add (data, run->index, run->count);
    return TRUE;
}

static gboolean add_of_child (const Merging *work, const LeafRun *run, gpointer data,
                              GError **error)
{
    if (run->layer == 0)
        leaf_set_add (data, run->index, run->count);
    return TRUE;
}

static gboolean add_to_file (const Merging *work, const LeafRun *run, gpointer data, GError **error)
{
    if (!run->known)
        return error_set (error, BAK_ERROR_INEXACT,
                          _("no hash is known of leaf %" G_GUINT64_FORMAT), run->index);
    return leaves_writer_add (data, run->index, run->count, &run->hash, error);
}

static LeafSet *choose_leaves (const Merging *work, RunFunction function, GError **error)
{
    g_autoptr (LeafSet) set = leaf_set_new (work->manifest->size);
    return each_merged (work, function, set, error) ? g_steal_pointer (&set) : NULL;
}

static gboolean write_leaves (const Merging *work, GError **error)
{
    g_autoptr (LeavesWriter) writer = leaves_writer_new (work->leaves, work->manifest->size, error);
    return writer && each_merged (work, add_to_file, writer, error)
           && leaves_writer_finish (writer, error);
}

static gboolean clone_file (const char *from, const char *to, GError **error)
{
    int source = open (from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int copy = source < 0 ? -1 : open (to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    gboolean ok = copy >= 0 && ioctl (copy, FICLONE, source) == 0;
    if (!ok)
        error_set_errno (error, errno, _("cannot make '%s' share the blocks of '%s'"), to, from);
    if (source >= 0)
        close (source);
    if (copy >= 0)
        close (copy);
    return ok;
}

/* The name of what the new image stands on, as it is to stand in its header; NULL: nothing. */
static char *backing_name (const Merging *work)
{
    if (work->layers->len <= 2)
        return NULL;
    const PointLayer *below = work->layers->pdata[2];
    g_autofree char *file = g_path_get_basename (below->path);
    return g_strdup_printf ("../%s/%s", below->point_id, file);
}

static gboolean make_image (const Merging *work, GError **error)
{
    if (work->merge->way == MERGE_REFLINK)
        return clone_file (((PointLayer *) work->layers->pdata[1])->path, work->image, error);
    g_autofree char *backing = backing_name (work);
    return storage_create_image (work->image, work->manifest->size, backing,
                                 merge_is_plain (work->disk) ? NULL : "zstd", image_secret (work),
                                 error);
}

/* From the old chain into the new image: both in one storage daemon, proved while it is read. */
static gboolean fill_image (const Merging *work, const LeafSet *only, GError **error)
{
    guint old_count, new_count;
    g_autofree StorageLayer *old = merge_chain_of_images (work->layers, NULL, NULL, 0, &old_count);
    g_autofree StorageLayer *new =
        merge_chain_of_images (work->layers, work->image, image_secret (work), 2, &new_count);
    guint64 size = work->manifest->size;
    StorageImage images[] = {
        { .name = "old", .layers = old, .n_layers = old_count, .size = size },
        { .name = "new",
          .layers = new,
          .n_layers = new_count,
          .writable = TRUE,
          .compress = !merge_is_plain (work->disk),
          .size = size },
    };
    g_autoptr (Storage) storage = storage_start (images, G_N_ELEMENTS (images), 2, error);
    if (!storage)
        return FALSE;
    MoverSource source = { .target = work->merge->target,
                           .fd = storage_connect (storage),
                           .export_name = "old",
                           .size = size };
    MoverOptions options = { .only = only,
                             .key = leaf_key (work),
                             .view = work->old,
                             .check = MOVER_CHECK_PROVE,
                             .control = work->control };
    MoverResult result;
    g_autoptr (Sink) sink = sink_nbd_new (storage_connect (storage), "new", size, 0, error);
    return sink && mover_run (&source, &options, sink, &result, error)
           && storage_stop (storage, error);
}

static gboolean prove_work (const Merging *work, const LeafSet *only, GError **error)
{
    MergeProof proof = { .repository = repository_of (work),
                         .target = work->merge->target,
                         .manifest = work->manifest,
                         .image = work->image,
                         .leaves = work->leaves,
                         .layers = work->layers,
                         .skip = 2,
                         .only = only,
                         .control = work->control };
    return merge_prove (&proof, error);
}

static gboolean build_disk (const Merging *work, GError **error)
{
    RunFunction which = work->merge->way == MERGE_REFLINK ? add_of_child : add_to_set;
    g_autoptr (LeafSet) all = choose_leaves (work, add_to_set, error);
    g_autoptr (LeafSet) moved = all ? choose_leaves (work, which, error) : NULL;
    return moved && write_leaves (work, error) && make_image (work, error)
           && fill_image (work, moved, error) && prove_work (work, all, error)
           && files_fsync (work->image, error);
}

/* Puts down what the files of this disk are now; an image in place has its size when it is there.
 */
static gboolean place_disk (Placement *storage, const Point *goes, const Merging *work,
                            GError **error)
{
    PlacementDisk *disk = (PlacementDisk *) placement_find_disk (storage, work->merge->target);
    const PlacementDisk *below = placement_find_disk (goes->storage, work->merge->target);
    g_free (disk->backing);
    disk->backing = g_strdup (below->backing);
    return merge_size_of (work->leaves, &disk->leaves_size, error)
           && (work->merge->way == MERGE_IN_PLACE
               || merge_size_of (work->image, &disk->file_size, error));
}

static gboolean prepare_disk (const MergeDisk *merge, Point *goes, const char *stage,
                              Placement *storage, MoverControl *control, GError **error)
{
    Merging work;
    gboolean ok =
        merging_init (&work, merge, stage, control, error)
        && (merge->way == MERGE_IN_PLACE ? write_leaves (&work, error) : build_disk (&work, error))
        && place_disk (storage, goes, &work, error);
    merging_clear (&work);
    return ok
           || error_note (error, _("point '%s', disk '%s'"), merge->child->manifest->id,
                          merge->target);
}

/* ---- the stage: everything but what is done in place ---- */

gboolean merge_write_placement (const char *dir, const Placement *storage, GError **error)
{
    g_autofree char *path = g_build_filename (dir, MERGE_STORAGE_FILE, NULL);
    g_autofree char *text = placement_format (storage);
    return files_write_atomic (path, text, -1, 0600, error);
}

Placement *merge_read_placement (const char *dir, GError **error)
{
    g_autofree char *path = g_build_filename (dir, MERGE_STORAGE_FILE, NULL);
    g_autofree char *text = NULL;
    gsize length;
    return files_read (path, 0, &text, &length, error) ? placement_parse (text, length, error)
                                                       : NULL;
}

/* All disks of one child that stand on the point that goes. */
static gboolean prepare_child (Point *child, Point *goes, const GPtrArray *plan, const char *stage,
                               MoverControl *control, GError **error)
{
    g_autofree char *dir = g_build_filename (stage, child->manifest->id, NULL);
    g_autofree char *text = placement_format (child->storage);
    g_autoptr (Placement) storage = placement_parse (text, strlen (text), error);
    if (!storage)
        return FALSE;
    if (g_mkdir (dir, 0700) != 0)
        return error_set_errno (error, errno, _("cannot make '%s'"), dir);
    if (g_strcmp0 (storage->parent, goes->manifest->id) == 0) {
        g_free (storage->parent);
        storage->parent = g_strdup (goes->storage->parent);
    }
    for (guint i = 0; i < plan->len; i++) {
        const MergeDisk *merge = plan->pdata[i];
        if (merge->child == child && !prepare_disk (merge, goes, dir, storage, control, error))
            return FALSE;
    }
    return merge_write_placement (dir, storage, error) && files_fsync (dir, error);
}

static gboolean has_text (const GPtrArray *texts, const char *text)
{
    return g_ptr_array_find_with_equal_func ((GPtrArray *) texts, text, g_str_equal, NULL);
}

static MergeInPlace *in_place_new (const MergeDisk *merge, const Point *goes)
{
    const PlacementDisk *below = placement_find_disk (goes->storage, merge->target);
    const PlacementDisk *disk = placement_find_disk (merge->child->storage, merge->target);
    MergeInPlace *in_place = g_new0 (MergeInPlace, 1);
    in_place->child = g_strdup (merge->child->manifest->id);
    in_place->target = g_strdup (merge->target);
    in_place->file = g_strdup (below->file);
    in_place->leaves = g_strdup (below->leaves);
    in_place->child_file = g_strdup (disk->file);
    return in_place;
}

MergeRecord *merge_prepare (Point *goes, const GPtrArray *plan, const char *stage,
                            MoverControl *control, GError **error)
{
    g_autoptr (MergeRecord) record = merge_record_new (goes->manifest->id);
    if (g_mkdir (stage, 0700) != 0) {
        error_set_errno (error, errno, _("cannot make '%s'"), stage);
        return NULL;
    }
    for (guint i = 0; i < plan->len; i++) {
        const MergeDisk *merge = plan->pdata[i];
        const char *child = merge->child->manifest->id;
        if (merge->way == MERGE_IN_PLACE) {
            g_ptr_array_add (record->in_place, in_place_new (merge, goes));
        }
        if (has_text (record->children, child))
            continue;
        g_ptr_array_add (record->children, g_strdup (child));
        if (!prepare_child (merge->child, goes, plan, stage, control, error))
            return NULL;
    }
    return files_fsync (stage, error) ? g_steal_pointer (&record) : NULL;
}
