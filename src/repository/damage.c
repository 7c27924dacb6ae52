/* Points of which a look at the directory tells that they cannot be whole: documents that cannot be
 * read, files of the chain that are gone or of another length. What they hold is not read. */
#include <string.h>
#include <sys/stat.h>
#include <glib/gi18n-lib.h>
#include "repository/damage.h"
#include "repository/merge.h"
#include "repository/publish.h"
#include "util/error.h"

static Point *find (const GPtrArray *points, const char *id)
{
    for (guint i = 0; i < points->len; i++)
        if (g_str_equal (((Point *) points->pdata[i])->manifest->id, id))
            return points->pdata[i];
    return NULL;
}

/* before: those of the same guest that were looked at; what a point stands on is among them. */
static char *look_below (Point *point, const PlacementDisk *disk, GHashTable *before)
{
    const Point *below = g_hash_table_lookup (before, disk->backing);
    g_autoptr (GError) why = NULL;

    if (below)
        return below->damage ? g_strdup_printf (_("disk '%s' needs point '%s', which is damaged"),
                                                disk->target, disk->backing)
                             : NULL;
    g_autoptr (GPtrArray) layers = point_layers (point, disk->target, &why);
    return layers ? NULL : g_strdup (why->message);
}

static char *look (Point *point, GHashTable *before)
{
    for (guint i = 0; i < point->storage->disks->len; i++) {
        const PlacementDisk *disk = point->storage->disks->pdata[i];
        g_autoptr (GError) why = NULL;
        char *found = NULL;
        if (!point_check_files (point, disk, &why))
            found = g_strdup_printf (_("disk '%s': %s"), disk->target, why->message);
        else if (disk->backing)
            found = look_below (point, disk, before);
        if (found)
            return found;
    }
    return NULL;
}

/* A removal that is under way, or broken off and ended by the next reader, leaves a chain for a
 * while without what it stood on: that is no damage, nor is what lies elsewhere by now. */
static char *look_again (Point *point, GHashTable *before)
{
    const Manifest *manifest = point->manifest;
    g_autoptr (GError) why = NULL;
    g_autofree char *found = point->unreadable ? NULL : look (point, before);
    if (!found || merge_is_pending (point->repository, manifest->guest_uuid))
        return NULL;
    g_autoptr (Point) now =
        point_load (point->repository, manifest->guest_uuid, manifest->id, &why);
    if (now)
        return look (now, before);
    return g_error_matches (why, BAK_ERROR, BAK_ERROR_NO_POINT) ? NULL : g_steal_pointer (&found);
}

void damage_look (GPtrArray *points)
{
    g_autoptr (GHashTable) before = g_hash_table_new (g_str_hash, g_str_equal);

    for (guint i = 0; i < points->len; i++) {
        Point *point = points->pdata[i];
        g_autofree char *found = look_again (point, before);
        if (found) {
            g_free (point->damage);
            point->damage = text_sanitize (found, 0);
        }
        g_hash_table_insert (before, point->manifest->id, point);
    }
}

void damage_look_at_one (Point *point)
{
    g_autoptr (GPtrArray) points = g_ptr_array_new ();

    g_ptr_array_add (points, point);
    damage_look (points);
}

/* It has a name and a reason, and nothing else. */
static Point *stand_in (Repository *repository, const char *guest_uuid, const char *id,
                        const char *why)
{
    g_autoptr (GPtrArray) names = publish_guest_names (repository, guest_uuid);
    Point *point = point_new (repository, guest_uuid, id);

    point->manifest = manifest_new ();
    point->storage = placement_new ();
    point->manifest->id = g_strdup (id);
    point->manifest->guest_uuid = g_strdup (guest_uuid);
    point->manifest->guest_name = g_strdup (names->len ? names->pdata[names->len - 1] : guest_uuid);
    point->unreadable = TRUE;
    point->damage = text_sanitize (why, 0);
    return point;
}

gboolean damage_add_unreadable (Repository *repository, const char *guest_uuid, GPtrArray *points,
                                GError **error)
{
    g_autoptr (GPtrArray) ids = repository_list_ids (repository, guest_uuid, error);

    for (guint i = 0; ids && i < ids->len; i++) {
        g_autoptr (GError) why = NULL;
        g_autoptr (Point) point = NULL;
        if (find (points, ids->pdata[i]))
            continue;
        point = point_load (repository, guest_uuid, ids->pdata[i], &why);
        if (!point && !g_error_matches (why, BAK_ERROR, BAK_ERROR_NO_POINT))
            g_ptr_array_add (points,
                             stand_in (repository, guest_uuid, ids->pdata[i], why->message));
    }
    return ids != NULL;
}

gboolean damage_refuse (const Point *point, GError **error)
{
    return !point->unreadable || error_set (error, BAK_ERROR_INEXACT, "%s", point->damage);
}
