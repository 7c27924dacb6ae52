#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "mover/storage.h"
#include "repository/disk-copy.h"
#include "repository/interrupted.h"
#include "repository/sample.h"
#include "util/image_tool.h"

enum { DYING_US = 10000000, DYING_LOOK_US = 50000 };

/* The files of one attempt, and what lies below them. */
typedef struct {
    char *image, *leaves;  /* paths */
    char *backing;         /* as it stands in the image; NULL: none */
    GPtrArray *layers;     /* PointLayer of the base; NULL: none */
    GPtrArray *leaf_paths; /* char *, NULL-terminated: the new file, then the base's; borrowed */
} Files;

static void files_clear (Files *files)
{
    g_free (files->image);
    g_free (files->leaves);
    g_free (files->backing);
    g_clear_pointer (&files->layers, g_ptr_array_unref);
    g_clear_pointer (&files->leaf_paths, g_ptr_array_unref);
}

static gboolean files_init (Files *files, const DiskCopy *copy, GError **error)
{
    g_autofree char *image = g_strconcat (copy->file, ".qcow2", NULL);
    g_autofree char *leaves = g_strconcat (copy->file, ".leaves", NULL);
    *files = (Files){ .image = g_build_filename (copy->dir, image, NULL),
                      .leaves = g_build_filename (copy->dir, leaves, NULL),
                      .leaf_paths = g_ptr_array_new () };
    g_ptr_array_add (files->leaf_paths, files->leaves);
    if (copy->base) {
        const PlacementDisk *below = placement_find_disk (copy->base->storage, copy->target);
        if (!(files->layers = point_layers (copy->base, copy->target, error)))
            return FALSE;
        files->backing = g_strdup_printf ("../%s/%s", copy->base->manifest->id, below->file);
        for (guint i = 0; i < files->layers->len; i++)
            g_ptr_array_add (files->leaf_paths, ((PointLayer *) files->layers->pdata[i])->leaves);
    }
    g_ptr_array_add (files->leaf_paths, NULL);
    return TRUE;
}

static const char *const *all_leaves (const Files *files)
{
    return (const char *const *) files->leaf_paths->pdata;
}

static const LeafKey *leaf_key (const DiskCopy *copy)
{
    return repository_leaf_key (copy->repository);
}

static LeavesView *open_view (const DiskCopy *copy, const char *const *paths, GError **error)
{
    return leaves_view_open (paths, copy->size, leaf_key (copy), error);
}

/* The view of the base; NULL and no error: there is none. */
static gboolean open_base (const DiskCopy *copy, const Files *files, LeavesView **ret_view,
                           GError **error)
{
    *ret_view = copy->base ? open_view (copy, all_leaves (files) + 1, error) : NULL;
    return *ret_view || !copy->base;
}

static gboolean is_compressed (const DiskCopy *copy)
{
    return g_str_equal (copy->compression, "zstd");
}

static gboolean make_image (const DiskCopy *copy, const Files *files, GError **error)
{
    return storage_create_image (files->image, copy->size, files->backing,
                                 is_compressed (copy) ? "zstd" : NULL,
                                 repository_image_secret (copy->repository), error);
}

static Storage *open_image (const DiskCopy *copy, const Files *files, gboolean writable,
                            GError **error)
{
    guint count = 1 + (files->layers ? files->layers->len : 0);
    g_autofree StorageLayer *layers = g_new0 (StorageLayer, count);
    layers[0] = (StorageLayer){ files->image, "qcow2", repository_image_secret (copy->repository) };
    for (guint i = 1; i < count; i++)
        layers[i] = storage_layer_of (files->layers->pdata[i - 1]);
    StorageImage image = { .name = "disk",
                           .layers = layers,
                           .n_layers = count,
                           .writable = writable,
                           .compress = writable && is_compressed (copy),
                           .size = copy->size };
    return storage_start (&image, 1, 1, error);
}

/* What a dead run left */

typedef struct {
    guint64 end;              /* the first leaf that is to be read */
    guint64 stored, differed; /* bytes below it that are in the image: of data, and of all */
} Left;

/* Its own leaves below end, counted; ret_set NULL: only that. */
static gboolean look_at_left (LeavesView *view, LeafSet *set, Left *left, GError **error)
{
    g_autoptr (Hasher) hasher = hasher_new_keyed (leaves_view_key (view), error);
    guint64 size = leaves_view_size (view);
    LeafRun run;
    if (!hasher)
        return FALSE;
    left->stored = left->differed = 0;
    for (guint64 index = 0; index < left->end; index = run.index + run.count) {
        if (!leaves_view_get (view, index, &run, error))
            return FALSE;
        guint64 count = MIN (run.count, left->end - index);
        guint64 bytes = MIN (count * LEAF_SIZE, size - index * LEAF_SIZE);
        if (run.layer != 0)
            continue;
        if (set)
            leaf_set_add (set, index, count);
        left->differed += bytes;
        if (!leaf_equal (&run.hash, hasher_zero_leaf (hasher, leaf_length (size, index))))
            left->stored += bytes;
    }
    return TRUE;
}

static void lower_end (guint64 offset, guint64 length, gpointer data)
{
    Left *left = data;
    left->end = MIN (left->end, offset / LEAF_SIZE);
}

/* The storage daemon of the dead run dies with it, and may be at it still: it holds the image. */
static Storage *open_left (const DiskCopy *copy, const Files *files, GError **error)
{
    gint64 deadline = g_get_monotonic_time () + DYING_US;
    for (;;) {
        g_autoptr (GError) why = NULL;
        Storage *storage = open_image (copy, files, FALSE, &why);
        gboolean dying = !storage && error_code (why) == BAK_ERROR_BUSY;
        if (!dying || g_get_monotonic_time () >= deadline
            || mover_control_cancelled (copy->control)) {
            if (why)
                g_propagate_error (error, g_steal_pointer (&why));
            return storage;
        }
        g_usleep (DYING_LOOK_US);
    }
}

/* Its image has what its leaves say, up to left->end. */
static gboolean prove_left (DiskCopy *copy, const Files *files, LeavesView *view, Left *left,
                            GError **error)
{
    g_autoptr (LeafSet) set = leaf_set_new (copy->size);
    g_autoptr (Storage) storage =
        look_at_left (view, set, left, error) ? open_left (copy, files, error) : NULL;
    MoverSource source = { .target = copy->target, .export_name = "disk", .size = copy->size };
    MoverOptions options = { .only = set,
                             .key = leaf_key (copy),
                             .view = view,
                             .check = MOVER_CHECK_REPORT,
                             .differs = lower_end,
                             .control = copy->control,
                             .data = left };
    if (!storage)
        return FALSE;
    source.fd = storage_connect (storage);
    return mover_run (&source, &options, NULL, NULL, error) && storage_stop (storage, error)
           && look_at_left (view, NULL, left, error);
}

/* A cluster that is compressed cannot be written again, so those behind the end go; only where
 * nothing below shines through then. */
static gboolean cut_image (const DiskCopy *copy, const Files *files, const Left *left,
                           GError **error)
{
    g_autofree char *end = g_strdup_printf ("%" G_GUINT64_FORMAT, left->end * LEAF_SIZE),
                    *size = g_strdup_printf ("%" G_GUINT64_FORMAT, copy->size);
    const char *cut[] = { "resize", "-q", "--shrink", "-f", "qcow2", files->image, end, NULL };
    const char *grow[] = { "resize", "-q", "-f", "qcow2", files->image, size, NULL };
    if (left->end * LEAF_SIZE >= copy->size)
        return TRUE;
    return image_tool (cut, NULL, error) && image_tool (grow, NULL, error);
}

/* FALSE: it is of no use. */
static gboolean take_left (DiskCopy *copy, const Files *files, Left *left)
{
    /* clusters that were written and that nothing points to */
    const char *secret = repository_image_secret (copy->repository);
    g_autofree char *name =
        secret ? storage_name_encrypted (files->image) : g_strdup (files->image);
    const char *mend[] = { "check", "-q", "-r", "leaks", "--", name, NULL };
    g_autoptr (GError) why = NULL;
    g_autoptr (LeavesView) view = NULL;
    if (is_compressed (copy) && copy->base)
        return FALSE;
    gboolean ok = leaves_salvage (files->leaves, copy->size, &left->end, &why)
                  && (view = open_view (copy, all_leaves (files), &why))
                  && prove_left (copy, files, view, left, &why)
                  && (!is_compressed (copy) || cut_image (copy, files, left, &why));
    if (ok && left->end > 0) {
        image_tool_secret (mend, secret, NULL, NULL);
        return TRUE;
    }
    g_debug ("resume: %s", why ? why->message : "nothing is there");
    *left = (Left){ 0 };
    return FALSE;
}

static gboolean remove_file (const char *path, GError **error)
{
    return g_unlink (path) == 0 || errno == ENOENT
           || error_set_errno (error, errno, _("cannot remove '%s'"), path);
}

static LeavesWriter *open_leaves (DiskCopy *copy, const Files *files, Left *left, GError **error)
{
    *left = (Left){ 0 };
    if (copy->resume && take_left (copy, files, left))
        return leaves_writer_resume (files->leaves, copy->size, left->end, error);
    if (copy->resume && (!remove_file (files->image, error) || !remove_file (files->leaves, error)))
        return NULL;
    if (!make_image (copy, files, error))
        return NULL;
    return leaves_writer_new (files->leaves, copy->size, error);
}

/* Reads the export into image and leaves. */
static gboolean open_source (DiskCopy *copy, Storage **ret_storage, GError **error)
{
    *ret_storage = copy->from ? storage_start (copy->from, 1, 1, error) : NULL;
    if (*ret_storage)
        copy->source.fd = storage_connect (*ret_storage);
    return *ret_storage || !copy->from;
}

static gboolean move (DiskCopy *copy, const Files *files, const char *bitmap,
                      MoverResult *ret_result, GError **error)
{
    Left left;
    g_autoptr (LeavesWriter) writer = open_leaves (copy, files, &left, error);
    g_autoptr (Storage) storage = writer ? open_image (copy, files, TRUE, error) : NULL;
    g_autoptr (Sink) sink =
        storage ? sink_nbd_new (storage_connect (storage), "disk", copy->size, 0, error) : NULL;
    g_autoptr (LeavesView) base = NULL;
    g_autoptr (Storage) source = NULL;
    if (!sink || !open_base (copy, files, &base, error) || !open_source (copy, &source, error))
        return FALSE;
    if (!base)
        sink_nbd_set_blank (sink);
    MoverOptions options = { .bitmap = bitmap,
                             .begin = left.end * LEAF_SIZE,
                             .key = leaf_key (copy),
                             .view = base,
                             .check = base ? MOVER_CHECK_SKIP_EQUAL : MOVER_CHECK_NONE,
                             .leaves = writer,
                             .control = copy->control,
                             .progress = copy->progress,
                             .data = copy->data };
    if (!mover_run (&copy->source, &options, sink, ret_result, error)
        || !storage_stop (storage, error) || !leaves_writer_finish (writer, error))
        return FALSE;
    ret_result->stored += left.stored;
    ret_result->differed += left.differed;
    return TRUE;
}

static void count_lie (guint64 offset, guint64 length, gpointer data)
{
    guint64 *lies = data;
    *lies += length;
}

/* Reads some of what should not have changed. */
static gboolean test_tracking (DiskCopy *copy, LeavesView *view, guint64 *ret_lies, GError **error)
{
    g_autoptr (GRand) random = g_rand_new ();
    g_autoptr (LeafSet) set = sample_choose (view, copy->samples, random, error);
    MoverResult result;
    *ret_lies = 0;
    if (!set)
        return FALSE;
    copy->manifest->sampled = leaf_set_count (set);
    if (copy->manifest->sampled == 0)
        return TRUE;
    MoverOptions options = { .only = set,
                             .key = leaf_key (copy),
                             .view = view,
                             .check = MOVER_CHECK_REPORT,
                             .differs = count_lie,
                             .control = copy->control,
                             .data = ret_lies };
    return mover_run (&copy->source, &options, NULL, &result, error)
           || error_note (error, _("reading a sample"));
}

static gboolean set_root (DiskCopy *copy, LeavesView *view, const MoverResult *result,
                          GError **error)
{
    LeafHash root;
    char hex[LEAF_HEX_SIZE];
    if (!leaves_view_root (view, &root, error))
        return FALSE;
    if (result->has_root && !leaf_equal (&root, &result->root))
        return error_set (error, BAK_ERROR_INTERNAL, _("what was stored is not what was read"));
    leaf_to_hex (&root, hex);
    g_free (copy->manifest->root);
    copy->manifest->root = g_strdup (hex);
    return TRUE;
}

static gboolean file_size (const char *path, guint64 *ret_size, GError **error)
{
    struct stat st;
    if (stat (path, &st) != 0)
        return error_set_errno (error, errno, _("cannot look at '%s'"), path);
    *ret_size = st.st_size;
    return TRUE;
}

static gboolean describe (DiskCopy *copy, const Files *files, const MoverResult *result,
                          gboolean tracked, GError **error)
{
    ManifestDisk *disk = copy->manifest;
    PlacementDisk *storage = copy->storage;
    disk->size = copy->size;
    disk->kind = g_strdup (tracked ? "incremental" : "full");
    disk->base = copy->base ? g_strdup (copy->base->manifest->id) : NULL;
    disk->read += result->read;
    disk->stored = result->stored;
    disk->zeroed = result->zeroed;
    disk->reused = copy->base ? copy->size - MIN (copy->size, result->differed) : 0;
    storage->file = g_path_get_basename (files->image);
    storage->leaves = g_path_get_basename (files->leaves);
    storage->backing = copy->base ? g_strdup (copy->base->manifest->id) : NULL;
    storage->compression = g_strdup (copy->compression);
    storage->encrypted = repository_image_secret (copy->repository) != NULL;
    return file_size (files->image, &storage->file_size, error)
           && file_size (files->leaves, &storage->leaves_size, error);
}

/* *ret_lies: bytes of the sample that tracking had not marked and that are other than they were. */
static gboolean attempt (DiskCopy *copy, const char *bitmap, guint64 *ret_lies, GError **error)
{
    Files files;
    MoverResult result = { 0 };
    gboolean ok = files_init (&files, copy, error) && move (copy, &files, bitmap, &result, error);
    g_autoptr (LeavesView) view = ok ? open_view (copy, all_leaves (&files), error) : NULL;
    *ret_lies = 0;
    ok = view && set_root (copy, view, &result, error)
         && (!bitmap || !copy->samples || test_tracking (copy, view, ret_lies, error));
    if (ok && *ret_lies) {
        copy->manifest->read += result.read;
        g_unlink (files.image);
        g_unlink (files.leaves);
        /* whoever comes after us does not ask the bitmap again for the rest */
        copy->resume = FALSE;
        ok = interrupted_forget (copy->dir, error);
    } else if (ok) {
        ok = describe (copy, &files, &result, bitmap != NULL, error);
    }
    files_clear (&files);
    return ok;
}

static gboolean read_all_after_lie (DiskCopy *copy, guint64 lies, GError **error)
{
    const Manifest *base = copy->base->manifest;
    g_autoptr (GDateTime) since = g_date_time_new_from_unix_utc (base->instant / G_USEC_PER_SEC);
    g_autofree char *time = g_date_time_format_iso8601 (since);
    copy->manifest->lied = TRUE;
    if (copy->refuse_fallback)
        return error_set (error, BAK_ERROR_INEXACT,
                          _("changed-block tracking missed changes made since point '%s' (%s)"),
                          base->id, time);
    copy->manifest->reason = g_strdup_printf (
        _("changed-block tracking missed changes made since point '%s'"), base->id);
    copy->warning = g_strdup_printf (
        _("disk '%s': changed-block tracking missed changes made since %s (%" G_GUINT64_FORMAT
           " bytes in a sample of %u places); all of the disk was read instead"),
        copy->target, time, lies, copy->manifest->sampled);
    return attempt (copy, NULL, &lies, error);
}

gboolean disk_copy_run (DiskCopy *copy, GError **error)
{
    guint64 lies;
    copy->manifest = manifest_disk_new (copy->target);
    copy->storage = placement_disk_new (copy->target);
    gboolean ok = attempt (copy, copy->base ? copy->bitmap : NULL, &lies, error)
                  && (!lies || read_all_after_lie (copy, lies, error));
    return ok || error_note (error, _("disk '%s'"), copy->target);
}

void disk_copy_clear (DiskCopy *copy)
{
    g_clear_pointer (&copy->manifest, manifest_disk_free);
    g_clear_pointer (&copy->storage, placement_disk_free);
    g_clear_pointer (&copy->warning, g_free);
}
