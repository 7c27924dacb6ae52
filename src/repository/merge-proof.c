/* What is read of a chain of points, before it changes and to merge_prove what it becomes. */
#include <errno.h>
#include <sys/stat.h>
#include <glib/gi18n-lib.h>
#include "mover/storage.h"
#include "repository/merge-parts.h"

gboolean merge_size_of (const char *path, guint64 *ret_size, GError **error)
{
    struct stat st;
    if (lstat (path, &st) != 0)
        return error_set_errno (error, errno, _("cannot look at '%s'"), path);
    *ret_size = st.st_size;
    return TRUE;
}

LeavesView *merge_open_leaves (const GPtrArray *layers, const char *top, guint skip, guint64 size,
                               const LeafKey *key, GError **error)
{
    g_autoptr (GPtrArray) paths = g_ptr_array_new ();
    if (top)
        g_ptr_array_add (paths, (char *) top);
    for (guint i = skip; i < layers->len; i++)
        g_ptr_array_add (paths, ((PointLayer *) layers->pdata[i])->leaves);
    g_ptr_array_add (paths, NULL);
    return leaves_view_open ((const char *const *) paths->pdata, size, key, error);
}

StorageLayer *merge_chain_of_images (const GPtrArray *layers, const char *top, const char *secret,
                                     guint skip, guint *ret_count)
{
    guint first = top ? 1 : 0, count = first + layers->len - skip;
    StorageLayer *chain = g_new0 (StorageLayer, count);
    if (top)
        chain[0] = (StorageLayer){ top, "qcow2", secret };
    for (guint i = first; i < count; i++)
        chain[i] = storage_layer_of (layers->pdata[skip + i - first]);
    *ret_count = count;
    return chain;
}

gboolean merge_prove (const MergeProof *proof, GError **error)
{
    LeafHash root;
    char hex[LEAF_HEX_SIZE];
    guint count;
    guint64 size = proof->manifest->size;
    const LeafKey *key = repository_leaf_key (proof->repository);
    const char *secret = repository_image_secret (proof->repository);
    g_autoptr (LeavesView) view =
        merge_open_leaves (proof->layers, proof->leaves, proof->skip, size, key, error);
    if (!view || !leaves_view_root (view, &root, error))
        return FALSE;
    leaf_to_hex (&root, hex);
    if (!g_str_equal (hex, proof->manifest->root))
        return error_set (error, BAK_ERROR_INEXACT,
                          _("what would replace it has another root than its manifest says"));
    g_autofree StorageLayer *layers =
        merge_chain_of_images (proof->layers, proof->image, secret, proof->skip, &count);
    StorageImage image = { .name = "new", .layers = layers, .n_layers = count, .size = size };
    g_autoptr (Storage) storage = storage_start (&image, 1, 1, error);
    if (!storage)
        return FALSE;
    MoverSource source = {
        .target = proof->target, .fd = storage_connect (storage), .export_name = "new", .size = size
    };
    MoverOptions options = { .only = proof->only,
                             .key = key,
                             .view = view,
                             .check = MOVER_CHECK_PROVE,
                             .control = proof->control };
    MoverResult result;
    return mover_run (&source, &options, NULL, &result, error) && storage_stop (storage, error);
}

gboolean merge_is_plain (const PlacementDisk *disk)
{
    return !disk->compression || g_str_equal (disk->compression, "none");
}
