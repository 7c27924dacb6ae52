#include <string.h>
#include <glib/gi18n-lib.h>
#include "repository/reading.h"

static LeavesView *open_view (const Reading *reading, GError **error)
{
    g_autoptr (GPtrArray) paths = g_ptr_array_new ();

    for (guint i = 0; i < reading->layers->len; i++)
        g_ptr_array_add (paths, ((PointLayer *) reading->layers->pdata[i])->leaves);
    g_ptr_array_add (paths, NULL);
    return leaves_view_open ((const char *const *) paths->pdata, reading->disk->size,
                             repository_leaf_key (reading->point->repository), error);
}

/* A view that does not lead to the root of the manifest proves nothing. */
static void check_view (Reading *reading)
{
    g_autoptr (LeavesView) view = open_view (reading, &reading->flaw);
    LeafHash root;

    if (!view || !leaves_view_root (view, &root, &reading->flaw)) {
        if (view && leaves_view_was_blind (view)) /* no fault of theirs */
            g_clear_error (&reading->flaw);
        return;
    }
    if (leaf_equal (&root, &reading->root))
        reading->view = g_steal_pointer (&view);
    else
        error_set (&reading->flaw, BAK_ERROR_INEXACT,
                   _("its files of leaves do not lead to the root in the manifest"));
}

static void fill_images (Reading *reading)
{
    reading->images = g_new0 (StorageLayer, reading->layers->len);
    for (guint i = 0; i < reading->layers->len; i++)
        reading->images[i] = storage_layer_of (reading->layers->pdata[i]);
}

/* Where the point lies may have changed between its lookup and its lock: a removal that was ended
 * first. What it holds has not. */
static GPtrArray *layers_now (const Point *point, const char *target, GError **error)
{
    const Manifest *manifest = point->manifest;
    g_autoptr (Point) now =
        point_load (point->repository, manifest->guest_uuid, manifest->id, error);
    return now ? point_layers (now, target, error) : NULL;
}

Reading *reading_open (Point *point, const char *target, GError **error)
{
    g_autoptr (Reading) reading = g_new0 (Reading, 1);

    reading->point = point_ref (point);
    reading->disk = manifest_find_disk (point->manifest, target);
    reading->layers = layers_now (point, target, error);
    if (!reading->layers)
        return NULL;
    if (!reading->disk || !leaf_from_hex (reading->disk->root, &reading->root)) {
        error_set (error, BAK_ERROR_INEXACT, _("disk '%s': the manifest has no root for it"),
                   target);
        return NULL;
    }
    fill_images (reading);
    check_view (reading);
    return g_steal_pointer (&reading);
}

void reading_free (Reading *reading)
{
    if (!reading)
        return;
    g_clear_pointer (&reading->layers, g_ptr_array_unref);
    leaves_view_free (reading->view);
    g_clear_error (&reading->flaw);
    g_free (reading->images);
    point_unref (reading->point);
    g_free (reading);
}

Storage *reading_serve (const Reading *reading, GError **error)
{
    if (!repository_need_key (reading->point->repository, error))
        return NULL;

    StorageImage image = { .name = reading->disk->target,
                           .layers = reading->images,
                           .n_layers = reading->layers->len,
                           .size = reading->disk->size };

    return storage_start (&image, 1, 1, error);
}

GPtrArray *reading_targets (const Point *point, const char *const *disks, GError **error)
{
    g_autoptr (GPtrArray) targets = g_ptr_array_new ();
    const GPtrArray *all = point->manifest->disks;

    for (guint i = 0; disks && disks[i]; i++) {
        if (manifest_find_disk (point->manifest, disks[i]))
            continue;
        error_set (error, BAK_ERROR_NO_DISK, _("point '%s' has no disk '%s'"), point->manifest->id,
                   disks[i]);
        return NULL;
    }
    for (guint i = 0; i < all->len; i++) {
        ManifestDisk *disk = all->pdata[i];
        if (!disks || g_strv_contains (disks, disk->target))
            g_ptr_array_add (targets, disk->target);
    }
    g_ptr_array_add (targets, NULL);
    return g_steal_pointer (&targets);
}
