#include <errno.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "repository/merge-parts.h"
#include "repository/shorten.h"
#include "util/config.h"
#include "util/files.h"

/* One disk: the new image as it is, and as it will be. */
typedef struct {
    Repository *repository;
    const ManifestDisk *manifest;
    PlacementDisk *disk;
    GPtrArray *layers; /* PointLayer: below the new image */
    char *image, *leaves, *new_image, *new_leaves;
    LeavesView *now, *lowest;
    LeafSet *moved; /* what the lowest does not have as it is now */
    MoverControl *control;
} Shortening;

static guint chain_limit (void)
{
    return CLAMP (config_get_int ("chain_limit", CHAIN_LIMIT), CHAIN_LIMIT_MIN, G_MAXINT);
}

static char *beside (const char *path)
{
    return g_strconcat (path, ".short", NULL);
}

static void shortening_clear (Shortening *work)
{
    g_clear_pointer (&work->layers, g_ptr_array_unref);
    g_clear_pointer (&work->now, leaves_view_free);
    g_clear_pointer (&work->lowest, leaves_view_free);
    g_clear_pointer (&work->moved, leaf_set_free);
    g_free (work->image);
    g_free (work->leaves);
    g_free (work->new_image);
    g_free (work->new_leaves);
}

static guint skipped (const Shortening *work)
{
    return work->layers->len - 1;
}

static const LeafKey *leaf_key (const Shortening *work)
{
    return repository_leaf_key (work->repository);
}

static gboolean open_views (Shortening *work, GError **error)
{
    guint64 size = work->manifest->size;
    work->now = merge_open_leaves (work->layers, work->leaves, 0, size, leaf_key (work), error);
    work->lowest = work->now ? merge_open_leaves (work->layers, NULL, skipped (work), size,
                                                  leaf_key (work), error)
                             : NULL;
    return work->lowest != NULL;
}

/* Runs of leaves that differ from the lowest layer's go into the set and into the new file. */
static gboolean choose_leaves (Shortening *work, GError **error)
{
    guint64 count = leaf_count (work->manifest->size);
    g_autoptr (LeavesWriter) writer =
        leaves_writer_new (work->new_leaves, work->manifest->size, error);
    work->moved = leaf_set_new (work->manifest->size);
    for (guint64 index = 0; writer && index < count;) {
        LeafRun now, lowest;
        if (!leaves_view_get (work->now, index, &now, error)
            || !leaves_view_get (work->lowest, index, &lowest, error))
            return FALSE;
        guint64 end = MIN (now.index + now.count, lowest.index + lowest.count);
        gboolean same = now.known && lowest.known && leaf_equal (&now.hash, &lowest.hash);
        if (!same && !now.known)
            return error_set (error, BAK_ERROR_INEXACT,
                              _("no hash is known of leaf %" G_GUINT64_FORMAT), index);
        if (!same && !leaves_writer_add (writer, index, end - index, &now.hash, error))
            return FALSE;
        if (!same)
            leaf_set_add (work->moved, index, end - index);
        index = end;
    }
    return writer && leaves_writer_finish (writer, error);
}

static gboolean make_image (const Shortening *work, GError **error)
{
    const PointLayer *below = work->layers->pdata[skipped (work)];
    g_autofree char *file = g_path_get_basename (below->path);
    g_autofree char *backing = g_strdup_printf ("../%s/%s", below->point_id, file);
    return storage_create_image (work->new_image, work->manifest->size, backing,
                                 merge_is_plain (work->disk) ? NULL : "zstd",
                                 repository_image_secret (work->repository), error);
}

static gboolean fill_image (const Shortening *work, GError **error)
{
    const char *secret = repository_image_secret (work->repository);
    guint old_count, new_count;
    g_autofree StorageLayer *old =
        merge_chain_of_images (work->layers, work->image, secret, 0, &old_count);
    g_autofree StorageLayer *new =
        merge_chain_of_images (work->layers, work->new_image, secret, skipped (work), &new_count);
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
    MoverSource source = { .target = work->manifest->target,
                           .fd = storage_connect (storage),
                           .export_name = "old",
                           .size = size };
    MoverOptions options = { .only = work->moved,
                             .key = leaf_key (work),
                             .view = work->now,
                             .check = MOVER_CHECK_PROVE,
                             .control = work->control };
    MoverResult result;
    g_autoptr (Sink) sink = sink_nbd_new (storage_connect (storage), "new", size, 0, error);
    return sink && mover_run (&source, &options, sink, &result, error)
           && storage_stop (storage, error);
}

static gboolean prove (const Shortening *work, GError **error)
{
    MergeProof proof = { .repository = work->repository,
                         .target = work->manifest->target,
                         .manifest = work->manifest,
                         .image = work->new_image,
                         .leaves = work->new_leaves,
                         .layers = work->layers,
                         .skip = skipped (work),
                         .only = work->moved,
                         .control = work->control };
    return merge_prove (&proof, error) && files_fsync (work->new_image, error);
}

static gboolean move_over (const char *from, const char *to, GError **error)
{
    return g_rename (from, to) == 0
           || error_set_errno (error, errno, _("cannot rename '%s' to '%s'"), from, to);
}

static gboolean replace (const Shortening *work, GError **error)
{
    const PointLayer *below = work->layers->pdata[skipped (work)];
    PlacementDisk *disk = work->disk;
    guint64 file_size, leaves_size;
    if (!merge_size_of (work->new_image, &file_size, error)
        || !merge_size_of (work->new_leaves, &leaves_size, error)
        || !move_over (work->new_image, work->image, error)
        || !move_over (work->new_leaves, work->leaves, error))
        return FALSE;
    g_free (disk->backing);
    disk->backing = g_strdup (below->point_id);
    disk->file_size = file_size;
    disk->leaves_size = leaves_size;
    return TRUE;
}

static gboolean shorten (Shortening *work, GError **error)
{
    gboolean ok = open_views (work, error) && choose_leaves (work, error)
                  && make_image (work, error) && fill_image (work, error) && prove (work, error);
    if (ok)
        return replace (work, error);
    g_unlink (work->new_image);
    g_unlink (work->new_leaves);
    return FALSE;
}

static gboolean shorten_disk (Repository *repository, const char *dir, const Manifest *manifest,
                              PlacementDisk *disk, MoverControl *control, GError **error)
{
    g_autoptr (Point) base =
        disk->backing ? point_load (repository, manifest->guest_uuid, disk->backing, error) : NULL;
    if (!base)
        return !disk->backing;
    Shortening work = { .repository = repository,
                        .manifest = manifest_find_disk (manifest, disk->target),
                        .disk = disk,
                        .layers = point_layers (base, disk->target, error),
                        .control = control };
    gboolean long_chain = work.layers && work.layers->len + 1 > chain_limit ();
    work.image = g_build_filename (dir, disk->file, NULL);
    work.leaves = g_build_filename (dir, disk->leaves, NULL);
    work.new_image = beside (work.image);
    work.new_leaves = beside (work.leaves);
    gboolean ok = work.layers && (!long_chain || shorten (&work, error));
    shortening_clear (&work);
    return ok || error_note (error, _("disk '%s'"), disk->target);
}

gboolean shorten_chains (Repository *repository, const char *dir, const Manifest *manifest,
                         Placement *storage, MoverControl *control, GError **error)
{
    for (guint i = 0; i < storage->disks->len; i++)
        if (!shorten_disk (repository, dir, manifest, storage->disks->pdata[i], control, error))
            return FALSE;
    return TRUE;
}
