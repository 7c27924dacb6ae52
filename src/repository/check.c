#include <errno.h>
#include <sys/stat.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "mover/leaves.h"
#include "repository/cancellation.h"
#include "repository/check.h"
#include "repository/lock.h"
#include "repository/merge.h"
#include "repository/publish.h"
#include "repository/verify.h"
#include "util/files.h"

/* Where --repair puts a damaged point: not listed, not cleared, for a person to look at. */
static const char aside_prefix[] = ".aside-";

typedef struct {
    Repository *repository;
    const BakRepositoryCheckOptions *options;
    const char *guest_uuid;
    guint damaged;
    GHashTable *bad; /* ids of this guest's points that are damaged */
} Checking;

static gboolean wants (const Checking *checking, guint flag)
{
    return (checking->options->flags & flag) != 0;
}

static void tell (Checking *checking, BakRepositoryFinding *finding)
{
    finding->size = sizeof *finding;
    finding->guest_uuid = checking->guest_uuid;
    checking->damaged += finding->damaged;
    if (checking->options->func)
        checking->options->func (finding, checking->options->opaque);
}

static gboolean is_cancelled (const Checking *checking, GError **error)
{
    const BakCancellation *cancellation = checking->options->cancellation;
    return cancellation && g_cancellable_is_cancelled (cancellation->cancellable)
           && !error_set (error, BAK_ERROR_ABORTED, _("checking was cancelled"));
}

/* ---- one point ---- */

static gboolean check_hash (const char *path, const ManifestFile *file, GError **error)
{
    LeafHash hash;
    char hex[LEAF_HEX_SIZE];
    guint64 size;
    if (!hasher_file (path, &hash, &size, error))
        return FALSE;
    leaf_to_hex (&hash, hex);
    return (size == file->size && g_str_equal (hex, file->sha256))
           || error_set (error, BAK_ERROR_INEXACT, _("'%s' is not what was stored"), path);
}

static gboolean check_root (Point *point, const GPtrArray *layers, const ManifestDisk *disk,
                            GError **error)
{
    LeafHash root;
    char hex[LEAF_HEX_SIZE];
    g_autoptr (GPtrArray) paths = g_ptr_array_new ();
    for (guint i = 0; i < layers->len; i++)
        g_ptr_array_add (paths, ((PointLayer *) layers->pdata[i])->leaves);
    g_ptr_array_add (paths, NULL);
    g_autoptr (LeavesView) view = leaves_view_open ((const char *const *) paths->pdata, disk->size,
                                                    repository_leaf_key (point->repository), error);
    g_autoptr (GError) why = NULL;
    if (!view)
        return FALSE;
    if (!leaves_view_root (view, &root, &why)) {
        if (leaves_view_was_blind (view))
            return TRUE;
        g_propagate_error (error, g_steal_pointer (&why));
        return FALSE;
    }
    leaf_to_hex (&root, hex);
    return g_str_equal (hex, disk->root)
           || error_set (error, BAK_ERROR_INEXACT,
                         _("its leaves have another root than the manifest says"));
}

static gboolean check_disk (Point *point, const ManifestDisk *disk, GError **error)
{
    g_autoptr (GPtrArray) layers = point_layers (point, disk->target, error);
    const PointLayer *top = layers ? layers->pdata[0] : NULL;
    return top
           && ((leaves_check (top->leaves, disk->size, error)
                && check_root (point, layers, disk, error))
               || error_note (error, _("disk '%s'"), disk->target));
}

static gboolean check_structure (Point *point, GError **error)
{
    const Manifest *manifest = point->manifest;
    for (guint i = 0; i < manifest->files->len; i++) {
        const ManifestFile *file = manifest->files->pdata[i];
        g_autofree char *path = g_build_filename (point->dir, file->name, NULL);
        if (!check_hash (path, file, error))
            return FALSE;
    }
    for (guint i = 0; i < manifest->disks->len; i++)
        if (!check_disk (point, manifest->disks->pdata[i], error))
            return FALSE;
    return TRUE;
}

static gboolean check_content (const Checking *checking, Point *point, GError **error)
{
    BakPointVerifyOptions options = { .size = sizeof options,
                                      .limit = checking->options->limit,
                                      .cancellation = checking->options->cancellation };
    return verify_point (point, &options, error);
}

static Point *load_again (const Checking *checking, const Point *point, GError **error)
{
    return point_load (checking->repository, checking->guest_uuid, point->manifest->id, error);
}

/* Another's removal moves what is looked at meanwhile: one that is pending is told by itself, and
 * behind one that has ended the point is looked at as it is now. */
static gboolean check_settled (const Checking *checking, Point *point, GError **error)
{
    g_autoptr (GError) why = NULL;
    if (check_structure (point, &why)
        || merge_is_pending (checking->repository, checking->guest_uuid))
        return TRUE;
    g_autoptr (Point) now = load_again (checking, point, NULL);
    if (now)
        return check_structure (now, error);
    g_propagate_error (error, g_steal_pointer (&why));
    return FALSE;
}

/* Of what was removed meanwhile there is nothing to say. */
static gboolean is_gone (const Checking *checking, const Point *point)
{
    g_autoptr (GError) why = NULL;
    g_autoptr (Point) now = load_again (checking, point, &why);
    return !now && g_error_matches (why, BAK_ERROR, BAK_ERROR_NO_POINT);
}

/* FALSE: checking itself failed. */
static gboolean check_point (Checking *checking, Point *point, GError **error)
{
    g_autoptr (GError) why = NULL;
    gboolean sound = check_settled (checking, point, &why)
                     && (!wants (checking, BAK_REPOSITORY_CHECK_READ_DATA)
                         || check_content (checking, point, &why));
    if (sound || is_gone (checking, point))
        return TRUE;
    if (g_error_matches (why, BAK_ERROR, BAK_ERROR_ABORTED)) {
        g_propagate_error (error, g_steal_pointer (&why));
        return FALSE;
    }
    BakRepositoryFinding finding = { .point = point->manifest->id,
                                     .what = why->message,
                                     .damaged = !g_error_matches (why, BAK_ERROR, BAK_ERROR_BUSY) };
    if (finding.damaged)
        g_hash_table_add (checking->bad, g_strdup (point->manifest->id));
    tell (checking, &finding);
    return TRUE;
}

/* ---- repair: what is damaged is set aside, nothing is guessed ---- */

static gboolean is_bad (const Checking *checking, const char *id)
{
    return g_hash_table_contains (checking->bad, id);
}

/* A good point that stands on this one; NULL: none. */
static const char *good_child (const Checking *checking, const GPtrArray *points, const char *id)
{
    for (guint i = 0; i < points->len; i++) {
        const Point *point = points->pdata[i];
        for (guint k = 0; k < point->storage->disks->len; k++) {
            const PlacementDisk *disk = point->storage->disks->pdata[k];
            if (g_strcmp0 (disk->backing, id) == 0 && !is_bad (checking, point->manifest->id))
                return point->manifest->id;
        }
    }
    return NULL;
}

static gboolean set_aside (Checking *checking, Point *point, GError **error)
{
    g_autofree char *guest_dir = repository_guest_dir (checking->repository, checking->guest_uuid);
    g_autofree char *name = g_strconcat (aside_prefix, point->manifest->id, NULL);
    g_autofree char *aside = g_build_filename (guest_dir, name, NULL);
    g_autofree char *what = g_strdup_printf (_("set aside as '%s'"), aside);
    g_autoptr (Lock) lock = lock_point_to_change (point, error);
    if (!lock)
        return FALSE;
    if (g_rename (point->dir, aside) != 0)
        return error_set_errno (error, errno, _("cannot rename '%s'"), point->dir);
    BakRepositoryFinding finding = { .point = point->manifest->id, .what = what, .repaired = TRUE };
    tell (checking, &finding);
    return files_fsync (guest_dir, error);
}

/* It stays for those that need it; that it is no good itself is put down. */
static gboolean mark (Checking *checking, Point *point, const char *child, GError **error)
{
    g_autofree char *what = g_strdup_printf (
        _("stays, marked as damaged: point '%s' is good and stands on it"), child);
    Verification verification = {
        .when = g_get_real_time (), .good = FALSE, .how = "repository-check", .what = what
    };
    BakRepositoryFinding finding = { .point = point->manifest->id, .what = what, .repaired = TRUE };
    if (!point_add_verification (point, &verification, error))
        return FALSE;
    tell (checking, &finding);
    return TRUE;
}

/* The newest first: what stands on a damaged point goes before it. */
static gboolean repair_points (Checking *checking, const GPtrArray *points, GError **error)
{
    for (guint i = points->len; i-- > 0;) {
        Point *point = points->pdata[i];
        if (!is_bad (checking, point->manifest->id))
            continue;
        const char *child = good_child (checking, points, point->manifest->id);
        if (!(child ? mark (checking, point, child, error) : set_aside (checking, point, error)))
            return FALSE;
    }
    return TRUE;
}

/* ---- what lies about ---- */

static gboolean is_leftover (const char *name)
{
    return g_str_has_prefix (name, ".new-") || g_str_has_prefix (name, ".gone-")
           || g_str_has_prefix (name, ".merge-")
           || g_str_has_suffix (name, FILES_UNFINISHED_SUFFIX);
}

static void find_leftovers (Checking *checking, gboolean repaired)
{
    g_autofree char *path = repository_guest_dir (checking->repository, checking->guest_uuid);
    g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name (dir))) {
        if (!is_leftover (name))
            continue;
        g_autofree char *what = g_strdup_printf (
            _("'%s/%s' was left by a writer that died; the next writer clears it"), path, name);
        BakRepositoryFinding finding = { .what = what, .repaired = repaired };
        tell (checking, &finding);
    }
}

/* The guest's lock is held, so nobody is at work on what is found. */
static gboolean check_leftovers (Checking *checking, GError **error)
{
    gboolean repair = wants (checking, BAK_REPOSITORY_CHECK_REPAIR);
    if (merge_is_pending (checking->repository, checking->guest_uuid)) {
        BakRepositoryFinding finding = {
            .what = _("the removal of a point was broken off; the next writer finishes it"),
            .repaired = repair
        };
        tell (checking, &finding);
        return !repair || merge_recover (checking->repository, checking->guest_uuid, error);
    }
    find_leftovers (checking, repair);
    if (repair)
        publish_clear (checking->repository, checking->guest_uuid);
    return !repair || merge_recover (checking->repository, checking->guest_uuid, error);
}

static gboolean check_points (Checking *checking, GError **error)
{
    g_autoptr (GPtrArray) damaged = g_ptr_array_new_with_free_func (g_free);
    g_autoptr (GPtrArray) points =
        repository_list_points (checking->repository, checking->guest_uuid, damaged, error);
    for (guint i = 0; points && i < damaged->len; i++) {
        BakRepositoryFinding finding = { .what = damaged->pdata[i], .damaged = TRUE };
        tell (checking, &finding);
    }
    for (guint i = 0; points && i < points->len; i++)
        if (is_cancelled (checking, error) || !check_point (checking, points->pdata[i], error))
            return FALSE;
    return points
           && (!wants (checking, BAK_REPOSITORY_CHECK_REPAIR)
               || repair_points (checking, points, error));
}

static gboolean check_guest (Checking *checking, GError **error)
{
    g_autoptr (GError) busy = NULL;
    g_autoptr (Lock) lock =
        lock_guest (checking->repository, checking->guest_uuid, "repository-check", &busy);
    if (!lock && wants (checking, BAK_REPOSITORY_CHECK_REPAIR)) {
        g_propagate_error (error, g_steal_pointer (&busy));
        return FALSE;
    }
    if (lock && !check_leftovers (checking, error))
        return FALSE;
    /* a long check is no reason for a backup to fail */
    if (!wants (checking, BAK_REPOSITORY_CHECK_REPAIR))
        g_clear_pointer (&lock, lock_free);
    return check_points (checking, error);
}

gboolean check_repository (Repository *repository, const BakRepositoryCheckOptions *options,
                           guint *ret_damaged, GError **error)
{
    if (options->flags & BAK_REPOSITORY_CHECK_READ_DATA && !repository_need_key (repository, error))
        return FALSE;
    g_autoptr (GPtrArray) guests = repository_list_guests (repository, error);
    Checking checking = { .repository = repository, .options = options };
    gboolean ok = guests != NULL;
    for (guint i = 0; ok && i < guests->len; i++) {
        checking.guest_uuid = guests->pdata[i];
        checking.bad = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
        ok = check_guest (&checking, error);
        g_hash_table_unref (checking.bad);
    }
    *ret_damaged = checking.damaged;
    return ok;
}
