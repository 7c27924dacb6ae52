/* Locks by which a removal that was broken off is finished first: of a writer, and of a reader
 * (shared, on each point of a chain). */
#include <glib/gi18n-lib.h>
#include "repository/lock.h"
#include "repository/merge.h"

Lock *lock_guest_to_write (Repository *repository, const char *guest_uuid, const char *what,
                           GError **error)
{
    g_autoptr (Lock) lock = lock_guest (repository, guest_uuid, what, error);
    return lock && merge_recover (repository, guest_uuid, error) ? g_steal_pointer (&lock) : NULL;
}

static gboolean settle (Repository *repository, const char *guest_uuid, GError **error)
{
    if (!merge_is_pending (repository, guest_uuid))
        return TRUE;
    g_autoptr (Lock) lock = lock_guest_to_write (repository, guest_uuid, "point-delete", error);
    return lock != NULL;
}

/* The directories of all points that the disks of this one stand on, its own first. */
static gboolean collect_chain (Point *point, const char *target, GHashTable *seen, GPtrArray *ids,
                               GError **error)
{
    g_autoptr (GPtrArray) layers = point_layers (point, target, error);
    for (guint i = 0; layers && i < layers->len; i++) {
        const PointLayer *layer = layers->pdata[i];
        if (g_hash_table_add (seen, g_strdup (layer->point_id)))
            g_ptr_array_add (ids, g_strdup (layer->point_id));
    }
    return layers != NULL;
}

static GPtrArray *chain_of (Point *point, const char *const *targets, GError **error)
{
    g_autoptr (GHashTable) seen = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr (GPtrArray) ids = g_ptr_array_new_with_free_func (g_free);
    for (guint i = 0; targets ? targets[i] != NULL : i < point->disks->len; i++) {
        const char *target =
            targets ? targets[i] : ((BakPointDisk *) point->disks->pdata[i])->manifest->target;
        if (!collect_chain (point, target, seen, ids, error))
            return NULL;
    }
    return g_steal_pointer (&ids);
}

static gboolean same_ids (const GPtrArray *one, const GPtrArray *other)
{
    gboolean same = one->len == other->len;
    for (guint i = 0; same && i < one->len; i++)
        same = g_str_equal (one->pdata[i], other->pdata[i]);
    return same;
}

/* A merge may have changed the chain before it was locked: then it is locked anew. */
Lock *lock_point_to_read (Point *point, const char *const *targets, GError **error)
{
    const Manifest *manifest = point->manifest;
    if (!settle (point->repository, manifest->guest_uuid, error))
        return NULL;
    for (;;) {
        g_autoptr (Point) now =
            point_load (point->repository, manifest->guest_uuid, manifest->id, error);
        g_autoptr (GPtrArray) ids = now ? chain_of (now, targets, error) : NULL;
        g_autoptr (Lock) lock = lock_new ();
        for (guint i = 0; ids && i < ids->len; i++) {
            g_autofree char *dir =
                repository_point_dir (point->repository, manifest->guest_uuid, ids->pdata[i]);
            if (!lock_add_point (lock, dir, ids->pdata[i], error))
                return NULL;
        }
        g_autoptr (Point) again =
            ids ? point_load (point->repository, manifest->guest_uuid, manifest->id, error) : NULL;
        g_autoptr (GPtrArray) ids_again = again ? chain_of (again, targets, error) : NULL;
        if (!ids_again)
            return NULL;
        if (same_ids (ids, ids_again))
            return g_steal_pointer (&lock);
    }
}
