/* From merge.json on: each step can be done again, by whoever comes next. */
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "repository/merge-parts.h"
#include "util/files.h"
#include "util/json.h"
#include "util/process.h"

enum {
    COMMIT_TIMEOUT_MS = 60000,
    COMMIT_BYTES_PER_MS = 1000, /* slower than that is taken for hung */
    UNFINISHED_S = 3600,        /* nobody is about to rename what was written so long ago */
};

static const char gone_prefix[] = ".gone-";

typedef struct {
    Repository *repository;
    const char *guest_uuid;
    char *guest_dir, *stage, *point, *gone;
    const MergeRecord *record;
} Finish;

static gboolean exists (const char *path)
{
    return g_access (path, F_OK) == 0;
}

static gboolean move_file (const char *from, const char *to, GError **error)
{
    return !exists (from) || g_rename (from, to) == 0
           || error_set_errno (error, errno, _("cannot rename '%s' to '%s'"), from, to);
}

static gboolean unlist (const Finish *finish, GError **error)
{
    return move_file (finish->point, finish->gone, error) && files_fsync (finish->guest_dir, error);
}

/* The child is written into the image below it. A cluster that arrives is one that the child hides
 * anyway: whoever reads the child sees the same at every moment. */
static gboolean commit (const char *child, const char *below, GError **error)
{
    guint64 size;
    g_autofree char *program = process_find ("LIBBACKUP_QEMU_IMG", "qemu_img", "qemu-img");
    JsonObject *image = json_object_new (), *file = json_object_new ();
    JsonObject *backing = json_object_new (), *backing_file = json_object_new ();
    json_object_set_string_member (file, "driver", "file");
    json_object_set_string_member (file, "filename", child);
    json_object_set_string_member (backing_file, "driver", "file");
    json_object_set_string_member (backing_file, "filename", below);
    json_object_set_string_member (backing, "driver", "qcow2");
    json_object_set_object_member (backing, "file", backing_file);
    json_object_set_string_member (image, "driver", "qcow2");
    json_object_set_object_member (image, "file", file);
    json_object_set_object_member (image, "backing", backing);
    g_autoptr (JsonNode) node = json_node_init_object (json_node_alloc (), image);
    json_object_unref (image);
    g_autofree char *json = json_write (node), *name = g_strconcat ("json:", json, NULL);
    g_autofree char *messages = NULL;
    const char *argv[] = { program, "commit", "-q", "-d", name, NULL };
    int status;
    if (!merge_size_of (child, &size, error)
        || !process_run (argv, MIN (G_MAXINT, COMMIT_TIMEOUT_MS + size / COMMIT_BYTES_PER_MS),
                         65536, &status, NULL, &messages, error))
        return FALSE;
    return status == 0
           || error_set (error, BAK_ERROR_IO, "qemu-img commit: %s", g_strstrip (messages));
}

/* The leaves that the child brings. What is encrypted is never merged in place: they have no key.
 */
static LeafSet *leaves_of_child (const char *child_leaves, const char *gone_leaves,
                                 const GPtrArray *below, guint64 size, GError **error)
{
    g_autoptr (GPtrArray) paths = g_ptr_array_new ();
    g_ptr_array_add (paths, (char *) child_leaves);
    g_ptr_array_add (paths, (char *) gone_leaves);
    for (guint i = 0; i < below->len; i++)
        g_ptr_array_add (paths, ((PointLayer *) below->pdata[i])->leaves);
    g_ptr_array_add (paths, NULL);
    g_autoptr (LeavesView) view =
        leaves_view_open ((const char *const *) paths->pdata, size, NULL, error);
    g_autoptr (LeafSet) set = leaf_set_new (size);
    for (guint64 index = 0; view && index < leaf_count (size);) {
        LeafRun run;
        if (!leaves_view_get (view, index, &run, error))
            return NULL;
        if (run.layer == 0)
            leaf_set_add (set, run.index, run.count);
        index = run.index + run.count;
    }
    return view ? g_steal_pointer (&set) : NULL;
}

/* What the image had and the child has not was not touched: the child's leaves are proved. */
static gboolean prove_in_place (const Finish *finish, const MergeInPlace *disk, const char *image,
                                const char *stage, GError **error)
{
    g_autoptr (Placement) storage = merge_read_placement (stage, error);
    g_autoptr (Point) child =
        storage ? point_load (finish->repository, finish->guest_uuid, disk->child, error) : NULL;
    const PlacementDisk *placed = child ? placement_find_disk (storage, disk->target) : NULL;
    const ManifestDisk *manifest =
        child ? manifest_find_disk (child->manifest, disk->target) : NULL;
    if (!child)
        return FALSE;
    if (!placed || !manifest)
        return error_set (error, BAK_ERROR_INEXACT, _("%s names disk '%s', which is not there"),
                          MERGE_RECORD_FILE, disk->target);
    g_autoptr (Point) below = placed->backing ? point_load (finish->repository, finish->guest_uuid,
                                                            placed->backing, error)
                                              : NULL;
    if (placed->backing && !below)
        return FALSE;
    g_autoptr (GPtrArray) layers =
        below ? point_layers (below, disk->target, error) : g_ptr_array_new ();
    g_autofree char *leaves = g_build_filename (stage, placed->leaves, NULL);
    g_autofree char *child_leaves = g_build_filename (child->dir, placed->leaves, NULL);
    g_autofree char *gone_leaves = g_build_filename (finish->gone, disk->leaves, NULL);
    g_autoptr (LeafSet) only =
        layers ? leaves_of_child (child_leaves, gone_leaves, layers, manifest->size, error) : NULL;
    MergeProof proof = { .repository = finish->repository,
                         .target = disk->target,
                         .manifest = manifest,
                         .image = image,
                         .leaves = leaves,
                         .layers = layers,
                         .only = only };
    return only && merge_prove (&proof, error);
}

/* Leaves the image in the stage, beside the other new files of the child. */
static gboolean finish_in_place (const Finish *finish, const MergeInPlace *disk, GError **error)
{
    g_autofree char *image = g_build_filename (finish->gone, disk->file, NULL);
    g_autofree char *child_dir =
        repository_point_dir (finish->repository, finish->guest_uuid, disk->child);
    g_autofree char *child = g_build_filename (child_dir, disk->child_file, NULL);
    g_autofree char *stage = g_build_filename (finish->stage, disk->child, NULL);
    g_autofree char *staged = g_build_filename (stage, disk->child_file, NULL);
    guint64 size;
    if (exists (image)
        && (!commit (child, image, error) || !prove_in_place (finish, disk, image, stage, error)
            || !files_fsync (image, error) || !move_file (image, staged, error)
            || !files_fsync (stage, error)))
        return FALSE;
    if (!exists (staged))
        return TRUE;
    g_autoptr (Placement) storage = merge_read_placement (stage, error);
    PlacementDisk *placed =
        storage ? (PlacementDisk *) placement_find_disk (storage, disk->target) : NULL;
    if (!placed || !merge_size_of (staged, &size, error))
        return FALSE;
    placed->file_size = size;
    return merge_write_placement (stage, storage, error);
}

/* The documents come last: until then the files that are named there are the old ones or the new.
 */
static gboolean replace_files (const Finish *finish, const char *child, GError **error)
{
    g_autofree char *stage = g_build_filename (finish->stage, child, NULL);
    g_autofree char *to_dir = repository_point_dir (finish->repository, finish->guest_uuid, child);
    g_autoptr (GDir) dir = g_dir_open (stage, 0, NULL);
    g_autofree char *from_storage = g_build_filename (stage, MERGE_STORAGE_FILE, NULL);
    g_autofree char *to_storage = g_build_filename (to_dir, MERGE_STORAGE_FILE, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name (dir))) {
        g_autofree char *from = g_build_filename (stage, name, NULL);
        g_autofree char *to = g_build_filename (to_dir, name, NULL);
        if (!g_str_equal (name, MERGE_STORAGE_FILE) && !move_file (from, to, error))
            return FALSE;
    }
    return files_fsync (to_dir, error) && move_file (from_storage, to_storage, error)
           && files_fsync (to_dir, error);
}

static gboolean finish_steps (const Finish *finish, GError **error)
{
    const MergeRecord *record = finish->record;
    if (record->in_place->len && !unlist (finish, error))
        return FALSE;
    for (guint i = 0; i < record->in_place->len; i++)
        if (!finish_in_place (finish, record->in_place->pdata[i], error))
            return FALSE;
    for (guint i = 0; i < record->children->len; i++)
        if (!replace_files (finish, record->children->pdata[i], error))
            return FALSE;
    return unlist (finish, error);
}

gboolean merge_finish (Repository *repository, const char *guest_uuid, const MergeRecord *record,
                       GError **error)
{
    g_autofree char *path = merge_record_path (repository, guest_uuid);
    g_autofree char *guest_dir = repository_guest_dir (repository, guest_uuid);
    g_autofree char *gone = g_strconcat (gone_prefix, record->goes, NULL);
    g_autofree char *stage = g_strconcat (MERGE_STAGE_PREFIX, record->goes, NULL);
    Finish finish = { .repository = repository,
                      .guest_uuid = guest_uuid,
                      .guest_dir = guest_dir,
                      .stage = g_build_filename (guest_dir, stage, NULL),
                      .point = repository_point_dir (repository, guest_uuid, record->goes),
                      .gone = g_build_filename (guest_dir, gone, NULL),
                      .record = record };
    gboolean ok = finish_steps (&finish, error);
    if (ok && exists (path) && g_unlink (path) != 0)
        ok = error_set_errno (error, errno, _("cannot remove '%s'"), path);
    ok = ok && files_fsync (guest_dir, error);
    if (ok) {
        files_remove_tree (finish.stage);
        files_remove_tree (finish.gone);
    }
    g_free (finish.stage);
    g_free (finish.point);
    g_free (finish.gone);
    return ok || error_note (error, _("removing point '%s'"), record->goes);
}

/* A document that was being written when its writer died. In the guest's directory only those write
 * that hold its lock; what is said of a point is written without it, and takes no time. */
static gboolean is_unfinished (const char *path, gboolean locked)
{
    struct stat st;
    return g_str_has_suffix (path, FILES_UNFINISHED_SUFFIX) && lstat (path, &st) == 0
           && S_ISREG (st.st_mode) && (locked || st.st_mtime + UNFINISHED_S < time (NULL));
}

static void clear_unfinished (const char *point_dir)
{
    g_autoptr (GDir) dir = g_dir_open (point_dir, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name (dir))) {
        g_autofree char *path = g_build_filename (point_dir, name, NULL);
        if (is_unfinished (path, FALSE))
            g_unlink (path);
    }
}

static void clear_leftovers (Repository *repository, const char *guest_uuid)
{
    g_autofree char *guest_dir = repository_guest_dir (repository, guest_uuid);
    g_autoptr (GDir) dir = g_dir_open (guest_dir, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name (dir))) {
        g_autofree char *path = g_build_filename (guest_dir, name, NULL);
        if (g_str_has_prefix (name, MERGE_STAGE_PREFIX) || is_unfinished (path, TRUE))
            files_remove_tree (path);
        else if (name[0] != '.')
            clear_unfinished (path);
    }
}

gboolean merge_recover (Repository *repository, const char *guest_uuid, GError **error)
{
    g_autofree char *path = merge_record_path (repository, guest_uuid);
    if (exists (path)) {
        g_autoptr (MergeRecord) record = merge_record_read (path, error);
        if (!record || !merge_finish (repository, guest_uuid, record, error))
            return FALSE;
    }
    clear_leftovers (repository, guest_uuid);
    return TRUE;
}
