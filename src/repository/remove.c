#include <glib/gi18n-lib.h>
#include "repository/lock.h"
#include "repository/merge.h"
#include "repository/remove.h"
#include "repository/work.h"

/* One removal on its way. */
typedef struct {
    const BakPointRemoveOptions *options;
    Work work;
} Removal;

static void removal_begin (Removal *removal, const BakPointRemoveOptions *options)
{
    removal->options = options;
    work_init (&removal->work, options->limit, NULL, NULL, options->cancellation);
}

static gboolean is_dry (const Removal *removal)
{
    return (removal->options->flags & BAK_POINT_REMOVE_DRY_RUN) != 0;
}

static void tell (const Removal *removal, const Point *point, BakPointRemoval *row)
{
    row->size = sizeof *row;
    row->id = point->manifest->id;
    row->guest = point->manifest->guest_name;
    row->instant = point->manifest->instant;
    if (removal->options->func)
        removal->options->func (row, removal->options->opaque);
}

/* The dearest way of its disks, and what all of them write. */
static gboolean cost_of (Point *point, const GPtrArray *points, BakPointRemoval *row,
                         GError **error)
{
    g_autoptr (GPtrArray) plan = merge_plan (point, points, error);
    for (guint i = 0; plan && i < plan->len; i++) {
        const MergeDisk *disk = plan->pdata[i];
        row->cost += disk->cost;
        if (!row->way || disk->way == MERGE_REWRITE)
            row->way = merge_way_name (disk->way);
    }
    return plan != NULL;
}

/* The guest's lock is held; what was there before may have been merged meanwhile, so look anew. */
static gboolean remove_one (Removal *removal, Point *was, GError **error)
{
    Repository *repository = was->repository;
    const Manifest *manifest = was->manifest;
    BakPointRemoval row = { 0 };
    g_autoptr (GPtrArray) points =
        repository_list_points (repository, manifest->guest_uuid, NULL, error);
    g_autoptr (Point) point =
        points ? point_load (repository, manifest->guest_uuid, manifest->id, error) : NULL;
    if (!point)
        return FALSE;
    if (point->pinned)
        return error_set (error, BAK_ERROR_ACCESS_DENIED,
                          _("point '%s' is pinned; `point-pin --off` lets go of it"),
                          manifest->id);
    if (!cost_of (point, points, &row, error))
        return FALSE;
    row.removed = !is_dry (removal);
    if (!is_dry (removal) && !merge_remove (point, points, removal->work.control, error))
        return FALSE;
    tell (removal, point, &row);
    return TRUE;
}

/* A dry run looks only. */
static Lock *lock_to_remove (const Removal *removal, Repository *repository, const char *guest_uuid,
                             GError **error)
{
    return is_dry (removal) ? lock_guest (repository, guest_uuid, "point-delete", error)
                            : lock_guest_to_write (repository, guest_uuid, "point-delete", error);
}

gboolean remove_point (Point *point, const BakPointRemoveOptions *options, GError **error)
{
    Removal removal;
    removal_begin (&removal, options);
    g_autoptr (Lock) lock =
        lock_to_remove (&removal, point->repository, point->manifest->guest_uuid, error);
    gboolean ok = lock && remove_one (&removal, point, error);
    work_clear (&removal.work);
    return ok;
}

static gboolean is_damaged (const Point *point)
{
    guint count = point->verifications->len;
    return count && !((Verification *) point->verifications->pdata[count - 1])->good;
}

static KeepPoint *judge (const GPtrArray *points, const Keep *keep)
{
    KeepPoint *judged = g_new0 (KeepPoint, points->len);
    for (guint i = 0; i < points->len; i++) {
        const Point *point = points->pdata[i];
        judged[i].instant = point->manifest->instant;
        judged[i].pinned = point->pinned;
        judged[i].damaged = is_damaged (point);
    }
    keep_choose (keep, judged, points->len);
    return judged;
}

static gboolean is_in_use (const GError *error)
{
    return g_error_matches (error, BAK_ERROR, BAK_ERROR_BUSY);
}

/* A point that is in use stays, and that is no failure. */
static gboolean prune_one (Removal *removal, Point *point, const KeepPoint *judged, GError **error)
{
    GError *why = NULL;
    BakPointRemoval row = { .why = judged->why };
    if (!judged->keep && remove_one (removal, point, &why))
        return TRUE;
    if (why && !is_in_use (why)) {
        g_propagate_error (error, why);
        return FALSE;
    }
    if (why)
        row.why = why->message;
    tell (removal, point, &row);
    g_clear_error (&why);
    return TRUE;
}

static gboolean prune_guest (Removal *removal, Repository *repository, const char *guest_uuid,
                             const Keep *keep, GError **error)
{
    g_autoptr (Lock) lock = lock_to_remove (removal, repository, guest_uuid, error);
    g_autoptr (GPtrArray) points =
        lock ? repository_list_points (repository, guest_uuid, NULL, error) : NULL;
    if (!points)
        return FALSE;
    KeepPoint *judged = judge (points, keep);
    gboolean ok = TRUE;
    for (guint i = 0; ok && i < points->len; i++)
        ok = prune_one (removal, points->pdata[i], &judged[i], error);
    for (guint i = 0; i < points->len; i++)
        keep_point_clear (&judged[i]);
    g_free (judged);
    return ok;
}

static GPtrArray *guests_to_prune (Repository *repository, const char *guest, GError **error)
{
    if (!guest)
        return repository_list_guests (repository, error);
    g_autoptr (GPtrArray) points = repository_list_guest (repository, guest, FALSE, error);
    GPtrArray *guests = points ? g_ptr_array_new_with_free_func (g_free) : NULL;
    if (points && points->len)
        g_ptr_array_add (guests, g_strdup (((Point *) points->pdata[0])->manifest->guest_uuid));
    return guests;
}

gboolean remove_pruned (Repository *repository, const char *guest, const Keep *keep,
                        const BakPointRemoveOptions *options, GError **error)
{
    Removal removal;
    if (keep_is_empty (keep))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("no rule says what to keep; there are keep-last, -hourly, -daily, "
                             "-weekly, -monthly, -yearly and keep-within"));
    g_autoptr (GPtrArray) guests = guests_to_prune (repository, guest, error);
    removal_begin (&removal, options);
    gboolean ok = guests != NULL;
    for (guint i = 0; ok && i < guests->len; i++)
        ok = prune_guest (&removal, repository, guests->pdata[i], keep, error)
             || error_note (error, _("guest %s"), (char *) guests->pdata[i]);
    work_clear (&removal.work);
    return ok;
}
