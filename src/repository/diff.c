#include <glib/gi18n-lib.h>
#include "repository/diff.h"
#include "repository/lock.h"
#include "repository/reading.h"

/* A run of difference that grows until one does not touch it. */
typedef struct {
    const char *target;
    guint64 size, offset, end;
    BakPointDiffFunc function;
    void *opaque;
} Diff;

static void end_run (Diff *diff)
{
    if (diff->end > diff->offset)
        diff->function (diff->target, diff->size, diff->offset, diff->end - diff->offset,
                        diff->opaque);
    diff->offset = diff->end = 0;
}

static void add_run (Diff *diff, guint64 leaf, guint64 count)
{
    guint64 offset = leaf * LEAF_SIZE, end = MIN (offset + count * LEAF_SIZE, diff->size);

    if (offset != diff->end || diff->end == diff->offset) {
        end_run (diff);
        diff->offset = offset;
    }
    diff->end = end;
}

/* What the disk held before at this leaf: its hash, or zeros where it had none. */
static gboolean leaf_before (LeavesView *before, Hasher *hasher, guint64 size, guint64 index,
                             LeafRun *ret_run, GError **error)
{
    if (before && index < leaf_count (leaves_view_size (before)))
        return leaves_view_get (before, index, ret_run, error);
    *ret_run = (LeafRun){ .index = index,
                          .count = leaf_length (size, index) == LEAF_SIZE
                                       ? MAX (size / LEAF_SIZE - index, 1)
                                       : 1,
                          .known = TRUE,
                          .hash = *hasher_zero_leaf (hasher, leaf_length (size, index)) };
    return TRUE;
}

static gboolean compare (Diff *diff, LeavesView *now, LeavesView *before, GError **error)
{
    g_autoptr (Hasher) hasher = hasher_new_keyed (leaves_view_key (now), error);
    guint64 leaves = leaf_count (diff->size), count;
    LeafRun one, other;

    for (guint64 i = 0; hasher && i < leaves; i += count) {
        if (!leaves_view_get (now, i, &one, error)
            || !leaf_before (before, hasher, diff->size, i, &other, error))
            return FALSE;
        count = MIN (one.count, other.count);
        gboolean same_length =
            !before || i >= leaf_count (leaves_view_size (before))
            || leaf_length (leaves_view_size (before), i) == leaf_length (diff->size, i);
        if (!same_length || !one.known || !other.known || !leaf_equal (&one.hash, &other.hash))
            add_run (diff, i, count);
    }
    end_run (diff);
    return hasher != NULL;
}

static gboolean need_view (const Reading *reading, GError **error)
{
    if (reading->view)
        return TRUE;
    g_propagate_error (error, g_error_copy (reading->flaw));
    return error_note (error, _("point '%s', disk '%s'"), reading->point->manifest->id,
                       reading->disk->target);
}

static gboolean diff_disk (Point *point, Point *before, const ManifestDisk *disk, Diff *diff,
                           GError **error)
{
    gboolean had = before && manifest_find_disk (before->manifest, disk->target);
    g_autoptr (Reading) now = reading_open (point, disk->target, error);
    g_autoptr (Reading) then = now && had ? reading_open (before, disk->target, error) : NULL;

    if (!now || (had && !then) || !need_view (now, error) || (then && !need_view (then, error)))
        return FALSE;
    diff->target = disk->target;
    diff->size = disk->size;
    return compare (diff, now->view, then ? then->view : NULL, error);
}

/* The newest point of the guest that is older than this. *ret NULL: none. */
static gboolean find_before (Point *point, Point **ret, GError **error)
{
    g_autoptr (GPtrArray) points =
        repository_list_points (point->repository, point->manifest->guest_uuid, NULL, error);

    *ret = NULL;
    for (guint i = 0; points && i < points->len; i++) {
        Point *other = points->pdata[i];
        if (other->manifest->sequence >= point->manifest->sequence)
            break;
        point_unref (*ret);
        *ret = point_ref (other);
    }
    return points != NULL;
}

gboolean diff_points (Point *point, Point *before, BakPointDiffFunc function, void *opaque,
                      GError **error)
{
    Diff diff = { .function = function, .opaque = opaque };
    g_autoptr (Point) previous = before ? point_ref (before) : NULL;

    if (before && !g_str_equal (before->manifest->guest_uuid, point->manifest->guest_uuid))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("points '%s' and '%s' are of different guests"), point->manifest->id,
                          before->manifest->id);
    if (!before && !find_before (point, &previous, error))
        return FALSE;
    if (!repository_need_key (point->repository, error))
        return FALSE;
    g_autoptr (Lock) lock = lock_point_to_read (point, NULL, error);
    g_autoptr (Lock) other = lock && previous ? lock_point_to_read (previous, NULL, error) : NULL;
    if (!lock || (previous && !other))
        return FALSE;
    for (guint i = 0; i < point->manifest->disks->len; i++)
        if (!diff_disk (point, previous, point->manifest->disks->pdata[i], &diff, error))
            return FALSE;
    return TRUE;
}
