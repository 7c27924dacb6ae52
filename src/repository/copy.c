#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <gio/gio.h>
#include <glib/gi18n-lib.h>
#include "repository/copy.h"
#include "repository/guest.h"
#include "repository/lock.h"
#include "repository/publish.h"
#include "repository/reading.h"
#include "repository/shorten.h"
#include "repository/stored-file.h"
#include "repository/work.h"
#include "util/files.h"

/* One point on its way. Between repositories with different keys, or of which one has none, hashes
 * say nothing to each other: what is read gets new ones, and on arrival it is read by those of the
 * source. */
typedef struct {
    Point *point;
    Repository *to;
    gboolean rekeyed;
    Point *base;        /* in the target: what its images stand on; NULL: nothing */
    char *dir;          /* of the new point, not seen yet */
    Manifest *manifest; /* of the new point */
    Point *twin;        /* rekeyed: the base, where the point comes from; NULL: not there */
    Placement *storage;
    Work work;
    guint64 read;
} Copy;

/* The newest point of the target that is older than this one. */
static Point *find_base (const Point *point, const GPtrArray *there)
{
    for (guint i = there->len; i-- > 0;) {
        Point *candidate = there->pdata[i];
        if (candidate->manifest->sequence < point->manifest->sequence)
            return point_ref (candidate);
    }
    return NULL;
}

/* The hash of the manifest that was written first, whatever keys its copies have. Caller frees. */
static char *origin_of (const Point *point)
{
    const Manifest *manifest = point->manifest;
    return manifest->origin ? g_strdup (manifest->origin) : manifest_self (manifest);
}

static gboolean is_twin (const Point *one, const Point *other)
{
    g_autofree char *ours = origin_of (one), *theirs = origin_of (other);
    return g_str_equal (ours, theirs);
}

/* FALSE and no error: it is not there. */
static gboolean is_there (const Point *point, const GPtrArray *there, gboolean *ret_there,
                          GError **error)
{
    *ret_there = FALSE;
    for (guint i = 0; i < there->len; i++) {
        const Point *other = there->pdata[i];
        if (!g_str_equal (other->manifest->id, point->manifest->id))
            continue;
        *ret_there = TRUE;
        return is_twin (point, other)
               || error_set (error, BAK_ERROR_EXISTS,
                             _("repository '%s' has another point of this id"),
                             other->repository->path);
    }
    return TRUE;
}

/* Leaves that the base has not, by their hashes alone; base NULL: all. */
static LeafSet *find_missing (LeavesView *from, LeavesView *base, guint64 size, GError **error)
{
    g_autoptr (LeafSet) missing = leaf_set_new (size);
    for (guint64 index = 0; index < leaf_count (size);) {
        LeafRun ours, theirs;
        if (!leaves_view_get (from, index, &ours, error)
            || (base && !leaves_view_get (base, index, &theirs, error)))
            return NULL;
        guint64 end = ours.index + ours.count;
        if (base)
            end = MIN (end, theirs.index + theirs.count);
        gboolean same = base && ours.known && theirs.known && leaf_equal (&ours.hash, &theirs.hash);
        if (!same)
            leaf_set_add (missing, index, end - index);
        index = end;
    }
    return g_steal_pointer (&missing);
}

/* What the new image of one disk is and stands on. */
typedef struct {
    const Copy *copy;
    const Reading *reading;
    const PlacementDisk *from;
    PlacementDisk *disk; /* owned by the copy's storage */
    GPtrArray *below;    /* PointLayer of the base; NULL: none */
    char *image, *leaves;
    LeavesView *base; /* of what is below, with the target's key; NULL: nothing */
    LeafSet *missing; /* what is to be read */
} DiskPlace;

static const LeafKey *key_of (const DiskPlace *place)
{
    return repository_leaf_key (place->copy->to);
}

static const LeafKey *key_of_source (const DiskPlace *place)
{
    return repository_leaf_key (place->copy->point->repository);
}

static void place_clear (DiskPlace *place)
{
    g_clear_pointer (&place->below, g_ptr_array_unref);
    g_free (place->image);
    g_free (place->leaves);
    leaves_view_free (place->base);
    g_clear_pointer (&place->missing, leaf_set_free);
}

static gboolean place_init (DiskPlace *place, Copy *copy, const Reading *reading, GError **error)
{
    const char *target = reading->disk->target;
    const PlacementDisk *from = placement_find_disk (copy->point->storage, target);
    PlacementDisk *disk = placement_disk_new (target);
    g_ptr_array_add (copy->storage->disks, disk);
    *place = (DiskPlace){ .copy = copy, .reading = reading, .from = from, .disk = disk };
    disk->file = g_strdup (from->file);
    disk->leaves = g_strdup (from->leaves);
    disk->compression = g_strdup (copy->to->slots ? "none" : from->compression);
    disk->encrypted = copy->to->slots != NULL;
    place->image = g_build_filename (copy->dir, disk->file, NULL);
    place->leaves = g_build_filename (copy->dir, disk->leaves, NULL);
    if (!copy->base || !placement_find_disk (copy->base->storage, target))
        return TRUE;
    disk->backing = g_strdup (copy->base->manifest->id);
    return (place->below = point_layers (copy->base, target, error)) != NULL;
}

/* with_new: the new file on top of the base's. NULL and no error: there is no base. */
static gboolean open_leaves (const DiskPlace *place, gboolean with_new, LeavesView **ret_view,
                             GError **error)
{
    g_autoptr (GPtrArray) paths = g_ptr_array_new ();
    *ret_view = NULL;
    if (with_new)
        g_ptr_array_add (paths, place->leaves);
    for (guint i = 0; place->below && i < place->below->len; i++)
        g_ptr_array_add (paths, ((PointLayer *) place->below->pdata[i])->leaves);
    if (paths->len == 0)
        return TRUE;
    g_ptr_array_add (paths, NULL);
    *ret_view = leaves_view_open ((const char *const *) paths->pdata, place->reading->disk->size,
                                  key_of (place), error);
    return *ret_view != NULL;
}

static StorageLayer *new_chain (const DiskPlace *place, guint *ret_count)
{
    guint count = 1 + (place->below ? place->below->len : 0);
    StorageLayer *layers = g_new0 (StorageLayer, count);
    layers[0] = (StorageLayer){ place->image, "qcow2", repository_image_secret (place->copy->to) };
    for (guint i = 1; i < count; i++)
        layers[i] = storage_layer_of (place->below->pdata[i - 1]);
    *ret_count = count;
    return layers;
}

static gboolean is_compressed (const PlacementDisk *disk)
{
    return g_strcmp0 (disk->compression, "zstd") == 0;
}

static Storage *open_image (const DiskPlace *place, gboolean writable, GError **error)
{
    guint count;
    g_autofree StorageLayer *layers = new_chain (place, &count);
    StorageImage image = { .name = place->disk->target,
                           .layers = layers,
                           .n_layers = count,
                           .writable = writable,
                           .compress = writable && is_compressed (place->disk),
                           .size = place->reading->disk->size };
    return storage_start (&image, 1, 1, error);
}

static gboolean make_image (const DiskPlace *place, GError **error)
{
    g_autofree char *below =
        place->below ? g_path_get_basename (((PointLayer *) place->below->pdata[0])->path) : NULL;
    g_autofree char *backing =
        below ? g_strdup_printf ("../%s/%s", place->disk->backing, below) : NULL;
    return storage_create_image (place->image, place->reading->disk->size, backing,
                                 is_compressed (place->disk) ? "zstd" : NULL,
                                 repository_image_secret (place->copy->to), error);
}

static void take_progress (guint64 done, guint64 total, gpointer data)
{
    work_progress (done, total, data);
}

/* With the source's hashes, each is proved; with new ones, what the base has is left out. */
static void set_check (const DiskPlace *place, MoverOptions *options)
{
    gboolean rekeyed = place->copy->rekeyed;
    options->key = rekeyed ? key_of (place) : key_of_source (place);
    options->view = rekeyed ? place->base : place->reading->view;
    options->check = !rekeyed      ? MOVER_CHECK_PROVE
                     : place->base ? MOVER_CHECK_SKIP_EQUAL
                                   : MOVER_CHECK_NONE;
}

/* From the source's chain into the new image. */
static gboolean move (Copy *copy, const DiskPlace *place, GError **error)
{
    guint64 size = place->reading->disk->size;
    MoverSource source = { .target = place->disk->target,
                           .export_name = place->disk->target,
                           .size = size };
    MoverResult result;
    /* the image first: with a key that takes its time, and a daemon waits ten seconds for its
     * client */
    g_autoptr (Storage) to = make_image (place, error) ? open_image (place, TRUE, error) : NULL;
    g_autoptr (Sink) sink =
        to ? sink_nbd_new (storage_connect (to), place->disk->target, size, 0, error) : NULL;
    g_autoptr (LeavesWriter) writer = sink ? leaves_writer_new (place->leaves, size, error) : NULL;
    g_autoptr (Storage) from = writer ? reading_serve (place->reading, error) : NULL;
    if (!from)
        return FALSE;
    MoverOptions options = { .only = place->missing,
                             .leaves = writer,
                             .control = copy->work.control,
                             .progress = take_progress,
                             .data = &copy->work };
    set_check (place, &options);
    source.fd = storage_connect (from);
    gboolean ok = mover_run (&source, &options, sink, &result, error) && storage_stop (to, error)
                  && leaves_writer_finish (writer, error);
    if (ok)
        copy->read += result.read;
    return ok;
}

/* The tree of what arrived leads to the manifest's root; with another key that is a new one. */
static gboolean check_root (Copy *copy, const DiskPlace *place, LeavesView *view, GError **error)
{
    ManifestDisk *disk = (ManifestDisk *) manifest_find_disk (copy->manifest, place->disk->target);
    LeafHash root;
    char hex[LEAF_HEX_SIZE];
    if (!leaves_view_root (view, &root, error))
        return FALSE;
    if (!copy->rekeyed)
        return leaf_equal (&root, &place->reading->root)
               || error_set (error, BAK_ERROR_INEXACT, _("what arrived has another root"));
    leaf_to_hex (&root, hex);
    g_free (disk->root);
    disk->root = g_strdup (hex);
    return TRUE;
}

/* On arrival: what was written reads as the source's hashes say. */
static gboolean prove (Copy *copy, const DiskPlace *place, GError **error)
{
    g_autoptr (LeavesView) view = NULL;
    if (!open_leaves (place, TRUE, &view, error) || !check_root (copy, place, view, error))
        return FALSE;
    g_autoptr (Storage) storage = open_image (place, FALSE, error);
    if (!storage)
        return FALSE;
    MoverSource source = { .target = place->disk->target,
                           .fd = storage_connect (storage),
                           .export_name = place->disk->target,
                           .size = place->reading->disk->size };
    MoverOptions options = { .only = place->missing,
                             .key = copy->rekeyed ? key_of_source (place) : key_of (place),
                             .view = copy->rekeyed ? place->reading->view : view,
                             .check = MOVER_CHECK_PROVE,
                             .control = copy->work.control };
    MoverResult result;
    return mover_run (&source, &options, NULL, &result, error) && storage_stop (storage, error);
}

static gboolean size_of (const char *path, guint64 *ret_size, GError **error)
{
    struct stat st;
    if (lstat (path, &st) != 0)
        return error_set_errno (error, errno, _("cannot look at '%s'"), path);
    *ret_size = st.st_size;
    return TRUE;
}

/* The view of the base by the source's hashes: the target's own, or that of its twin. NULL and no
 * error: there is none. */
static gboolean open_below (const DiskPlace *place, LeavesView **ret_view, GError **error)
{
    const Copy *copy = place->copy;
    const char *target = place->disk->target;
    *ret_view = NULL;
    if (!copy->rekeyed)
        return open_leaves (place, FALSE, ret_view, error);
    if (!copy->twin || !place->below || !placement_find_disk (copy->twin->storage, target))
        return TRUE;
    g_autoptr (GPtrArray) layers = point_layers (copy->twin, target, error);
    g_autoptr (GPtrArray) paths = g_ptr_array_new ();
    for (guint i = 0; layers && i < layers->len; i++)
        g_ptr_array_add (paths, ((PointLayer *) layers->pdata[i])->leaves);
    g_ptr_array_add (paths, NULL);
    if (layers)
        *ret_view = leaves_view_open ((const char *const *) paths->pdata,
                                      place->reading->disk->size, key_of_source (place), error);
    return *ret_view != NULL;
}

static gboolean choose_leaves (DiskPlace *place, GError **error)
{
    g_autoptr (LeavesView) below = NULL;
    if (!open_below (place, &below, error)
        || (place->copy->rekeyed && !open_leaves (place, FALSE, &place->base, error)))
        return FALSE;
    place->missing = find_missing (place->reading->view, below, place->reading->disk->size, error);
    return place->missing != NULL;
}

static gboolean copy_disk (Copy *copy, const Reading *reading, GError **error)
{
    DiskPlace place;
    if (!reading->view)
        return error_set (error, BAK_ERROR_INEXACT, "%s", reading->flaw->message);
    work_begin_disk (&copy->work, "copy", reading->disk->target);
    gboolean ok = place_init (&place, copy, reading, error) && choose_leaves (&place, error)
                  && move (copy, &place, error) && prove (copy, &place, error)
                  && size_of (place.image, &place.disk->file_size, error)
                  && size_of (place.leaves, &place.disk->leaves_size, error);
    work_end_disk (&copy->work, reading->disk->size);
    place_clear (&place);
    return ok;
}

static gboolean copy_disks (Copy *copy, GError **error)
{
    const GPtrArray *disks = copy->point->manifest->disks;
    for (guint i = 0; i < disks->len; i++) {
        const char *target = ((ManifestDisk *) disks->pdata[i])->target;
        g_autoptr (Reading) reading = reading_open (copy->point, target, error);
        if (!reading || !copy_disk (copy, reading, error))
            return error_note (error, _("disk '%s'"), target);
    }
    return TRUE;
}

/* Definition and variables, compared with the manifest as they arrive. */
static gboolean copy_files (Copy *copy, GError **error)
{
    const GPtrArray *files = copy->point->manifest->files;
    for (guint i = 0; i < files->len; i++) {
        const ManifestFile *file = files->pdata[i];
        g_autofree char *from = g_build_filename (copy->point->dir, file->name, NULL);
        g_autofree char *to = g_build_filename (copy->dir, file->name, NULL);
        g_autofree char *folder = g_path_get_dirname (to);
        g_autofree char *data = NULL;
        char hex[LEAF_HEX_SIZE];
        LeafHash hash;
        gsize length;
        if (!files_read (from, file->size + 1, &data, &length, error)
            || !files_make_dir (folder, 0700, error)
            || !files_write_atomic (to, data, length, 0600, error)
            || !hasher_file (to, &hash, NULL, error))
            return FALSE;
        leaf_to_hex (&hash, hex);
        if (!g_str_equal (hex, file->sha256))
            return error_set (error, BAK_ERROR_INEXACT, _("'%s' is not what was stored"), from);
    }
    return TRUE;
}

/* Sealed with another key, or unsealed; the README tells how it is here. */
static gboolean rekey_files (Copy *copy, GError **error)
{
    const GPtrArray *files = copy->point->manifest->files;
    const GuestFiles to = { copy->to, copy->dir, copy->manifest->id, copy->manifest->files };
    for (guint i = 0; i < files->len; i++) {
        const ManifestFile *file = files->pdata[i];
        g_autofree char *data = NULL;
        gsize length;
        if (g_str_equal (file->name, STORED_README))
            continue;
        if (!stored_file_read (copy->point, file, &data, &length, error)
            || !stored_file_write (copy->to, copy->dir, to.id, file->name, data, length, to.files,
                                   error))
            return FALSE;
    }
    return guest_write_readme (&to, copy->manifest, copy->storage, error);
}

/* What is told of the point stays; roots and files come as they arrive. */
static Manifest *new_manifest (const Copy *copy, GError **error)
{
    g_autofree char *text = manifest_format (copy->point->manifest);
    Manifest *manifest = manifest_parse (text, strlen (text), error);
    if (!manifest || !copy->rekeyed)
        return manifest;
    g_free (manifest->origin);
    manifest->origin = origin_of (copy->point);
    manifest->encrypted = copy->to->slots != NULL;
    g_ptr_array_set_size (manifest->files, 0);
    return manifest;
}

static gboolean publish (Copy *copy, GError **error)
{
    const Manifest *manifest = copy->point->manifest;
    g_autoptr (Point) published = NULL;
    if (!shorten_chains (copy->to, copy->dir, copy->manifest, copy->storage, copy->work.control,
                         error)
        || !publish_prepare (copy->dir, copy->manifest, copy->storage, error)
        || !publish_commit (copy->to, manifest->guest_uuid, manifest->id, error))
        return FALSE;
    published = point_load (copy->to, manifest->guest_uuid, manifest->id, error);
    return published && (!copy->point->note || point_set_note (published, copy->point->note, error))
           && (!copy->point->pinned || point_set_pinned (published, TRUE, error));
}

/* The locks are held. */
static gboolean transfer (Copy *copy, GError **error)
{
    const Manifest *manifest = copy->point->manifest;
    guint64 sequence;
    copy->storage = placement_new ();
    copy->storage->parent = copy->base ? g_strdup (copy->base->manifest->id) : NULL;
    copy->dir = publish_begin (copy->to, manifest->guest_uuid, manifest->id, error);
    gboolean ok = copy->dir && (copy->manifest = new_manifest (copy, error))
                  && publish_next_sequence (copy->to, manifest->guest_uuid, manifest->guest_name,
                                            &sequence, error)
                  && copy_disks (copy, error)
                  && (copy->rekeyed ? rekey_files (copy, error) : copy_files (copy, error));
    if (ok)
        return publish (copy, error);
    publish_abandon (copy->dir);
    return FALSE;
}

/* Both keys; that what was encrypted becomes readable for all is nobody's accident. */
static gboolean check_keys (Point *point, Repository *to, const BakPointCopyOptions *options,
                            GError **error)
{
    gboolean bared = point->repository->slots && !to->slots;
    if (bared && !(options->flags & BAK_POINT_COPY_ALLOW_PLAIN))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("repository '%s' is encrypted, '%s' is not: copy to one that is, or "
                             "allow that the points lie there in the clear (--allow-plain)"),
                          point->repository->path, to->path);
    return repository_need_key (point->repository, error) && repository_need_key (to, error);
}

/* The same point as the base, where the other one comes from. NULL: it is not there. */
static Point *find_twin (const Point *point, const Point *base)
{
    const Manifest *manifest = point->manifest;
    g_autoptr (Point) twin =
        base ? point_load (point->repository, manifest->guest_uuid, base->manifest->id, NULL)
             : NULL;
    return twin && is_twin (twin, base) ? g_steal_pointer (&twin) : NULL;
}

static void copy_clear (Copy *copy)
{
    work_clear (&copy->work);
    point_unref (copy->base);
    point_unref (copy->twin);
    manifest_free (copy->manifest);
    placement_free (copy->storage);
    g_free (copy->dir);
}

gboolean copy_point (Point *point, Repository *to, const BakPointCopyOptions *options,
                     gboolean *ret_copied, guint64 *ret_read, GError **error)
{
    const char *uuid = point->manifest->guest_uuid;
    gboolean there = FALSE;
    *ret_copied = FALSE;
    *ret_read = 0;
    if (g_str_equal (point->repository->id, to->id))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("'%s' is the repository that the point is in"), to->path);
    if (!check_keys (point, to, options, error))
        return FALSE;
    g_autoptr (Lock) writing = lock_guest_to_write (to, uuid, "point-copy", error);
    g_autoptr (Lock) reading = writing ? lock_point_to_read (point, NULL, error) : NULL;
    g_autoptr (Point) now =
        reading ? point_load (point->repository, uuid, point->manifest->id, error) : NULL;
    g_autoptr (GPtrArray) points = now ? repository_list_points (to, uuid, NULL, error) : NULL;
    if (!points || !is_there (now, points, &there, error))
        return error_note (error, _("point '%s'"), point->manifest->id);
    if (there)
        return TRUE;
    Copy copy = { .point = now,
                  .to = to,
                  .rekeyed = point->repository->slots || to->slots,
                  .base = find_base (now, points) };
    copy.twin = copy.rekeyed ? find_twin (now, copy.base) : NULL;
    work_init (&copy.work, options->limit, options->progress, options->opaque,
               options->cancellation);
    *ret_copied = transfer (&copy, error);
    *ret_read = copy.read;
    copy_clear (&copy);
    return *ret_copied || error_note (error, _("point '%s'"), point->manifest->id);
}
