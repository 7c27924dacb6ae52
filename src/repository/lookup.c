/* From what a person calls a point to the point: GUEST@ID, GUEST@latest, GUEST@2026-11-29,
 * GUEST@2026-11-29T01:00:03Z, or the id alone. */
#include <stdio.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include "repository/damage.h"
#include "repository/fields.h"
#include "repository/publish.h"

typedef struct {
    const char *text; /* behind the @ */
    gint64 from, to;  /* microseconds, to excluded; 0: no time */
} Which;

/* A day in local time, or an instant in UTC to the digit that is given. */
static gboolean parse_time (const char *text, Which *which)
{
    int year, month, day, used = 0;
    if (sscanf (text, "%4d-%2d-%2d%n", &year, &month, &day, &used) == 3 && used == 10
        && text[used] == '\0') {
        g_autoptr (GDateTime) start = g_date_time_new_local (year, month, day, 0, 0, 0);
        g_autoptr (GDateTime) end = start ? g_date_time_add_days (start, 1) : NULL;
        if (!end)
            return FALSE;
        which->from = g_date_time_to_unix (start) * G_USEC_PER_SEC;
        which->to = g_date_time_to_unix (end) * G_USEC_PER_SEC;
        return TRUE;
    }
    g_autoptr (GDateTime) time =
        strchr (text, 'T') ? g_date_time_new_from_iso8601 (text, NULL) : NULL;
    if (!time)
        return FALSE;
    which->from = g_date_time_to_unix (time) * G_USEC_PER_SEC + g_date_time_get_microsecond (time);
    which->to = which->from + (strchr (text, '.') ? 1 : G_USEC_PER_SEC);
    return TRUE;
}

static gboolean matches (const Point *point, const Which *which)
{
    const Manifest *manifest = point->manifest;
    if (which->to)
        return manifest->instant >= which->from && manifest->instant < which->to;
    return g_str_equal (which->text, "latest") || g_str_equal (manifest->id, which->text);
}

static Point *newest_match (const GPtrArray *points, const Which *which)
{
    for (guint i = points->len; i-- > 0;)
        if (matches (points->pdata[i], which))
            return point_ref (points->pdata[i]);
    return NULL;
}

static gboolean guest_is (Repository *repository, const GPtrArray *points, const char *uuid,
                          const char *guest)
{
    g_autoptr (GPtrArray) names = publish_guest_names (repository, uuid);
    if (g_ascii_strcasecmp (uuid, guest) == 0
        || g_ptr_array_find_with_equal_func (names, guest, g_str_equal, NULL))
        return TRUE;
    for (guint i = 0; i < points->len; i++)
        if (g_str_equal (((Point *) points->pdata[i])->manifest->guest_name, guest))
            return TRUE;
    return FALSE;
}

/* The points of the one guest that is called so. */
static GPtrArray *points_of_guest (Repository *repository, const char *guest, char **ret_uuid,
                                   GError **error)
{
    g_autoptr (GPtrArray) guests = repository_list_guests (repository, error);
    g_autoptr (GPtrArray) found = NULL;
    g_autoptr (GString) uuids = g_string_new (NULL);
    guint count = 0;
    for (guint i = 0; guests && i < guests->len; i++) {
        g_autoptr (GPtrArray) points =
            repository_list_points (repository, guests->pdata[i], NULL, error);
        if (!points)
            return NULL;
        if (!guest_is (repository, points, guests->pdata[i], guest))
            continue;
        g_string_append_printf (uuids, "%s%s", count++ ? ", " : "", (char *) guests->pdata[i]);
        g_clear_pointer (&found, g_ptr_array_unref);
        found = g_steal_pointer (&points);
        g_free (*ret_uuid);
        *ret_uuid = g_strdup (guests->pdata[i]);
    }
    if (!guests)
        return NULL;
    if (count == 1)
        return g_steal_pointer (&found);
    g_autofree char *shown = text_sanitize (guest, 256);
    if (count == 0)
        error_set (error, BAK_ERROR_NO_POINT, _("repository '%s' has no points of a guest '%s'"),
                   repository->path, shown);
    else
        error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                   _("several guests were called '%s': use the UUID: %s"), shown, uuids->str);
    return NULL;
}

static Point *lookup_id (Repository *repository, const char *id, GError **error)
{
    g_autoptr (GPtrArray) guests = repository_list_guests (repository, error);
    for (guint i = 0; guests && fields_name_is_safe (id) && i < guests->len; i++) {
        g_autoptr (GError) why = NULL;
        Point *point = point_load (repository, guests->pdata[i], id, &why);
        if (point)
            return point;
        if (!g_error_matches (why, BAK_ERROR, BAK_ERROR_NO_POINT)) {
            g_propagate_error (error, g_steal_pointer (&why));
            return NULL;
        }
    }
    g_autofree char *shown = text_sanitize (id, 256);
    if (guests)
        error_set (error, BAK_ERROR_NO_POINT,
                   _("there is no point '%s'; a point is GUEST@latest, GUEST@2026-11-29, "
                      "GUEST@2026-11-29T01:00:03Z, GUEST@ID or an id of point-list"),
                   shown);
    return NULL;
}

Point *repository_lookup_point (Repository *repository, const char *name, GError **error)
{
    const char *at = strrchr (name, '@');
    if (!at)
        return lookup_id (repository, name, error);
    g_autofree char *guest = g_strndup (name, at - name);
    Which which = { .text = at + 1 };
    parse_time (at + 1, &which);
    g_autofree char *uuid = NULL;
    g_autoptr (GPtrArray) points = points_of_guest (repository, guest, &uuid, error);
    if (!points)
        return NULL;
    Point *point = newest_match (points, &which);
    g_autofree char *shown = text_sanitize (name, 256);
    if (!point)
        error_set (error, BAK_ERROR_NO_POINT,
                   _("there is no point '%s'; point-list shows what there is"), shown);
    return point;
}

static gboolean look_at (Repository *repository, const char *guest_uuid, gboolean damaged,
                         GPtrArray *points, GError **error)
{
    if (damaged && !damage_add_unreadable (repository, guest_uuid, points, error))
        return FALSE;
    damage_look (points);
    return TRUE;
}

static GPtrArray *list_one (Repository *repository, const char *guest, gboolean damaged,
                            GError **error)
{
    g_autofree char *uuid = NULL;
    g_autoptr (GPtrArray) points = points_of_guest (repository, guest, &uuid, error);
    if (!points || !look_at (repository, uuid, damaged, points, error))
        return NULL;
    return g_steal_pointer (&points);
}

GPtrArray *repository_list_guest (Repository *repository, const char *guest, gboolean damaged,
                                  GError **error)
{
    if (guest)
        return list_one (repository, guest, damaged, error);
    g_autoptr (GPtrArray) guests = repository_list_guests (repository, error);
    g_autoptr (GPtrArray) all = g_ptr_array_new_with_free_func ((GDestroyNotify) point_unref);
    for (guint i = 0; guests && i < guests->len; i++) {
        g_autoptr (GPtrArray) points =
            repository_list_points (repository, guests->pdata[i], NULL, error);
        if (!points || !look_at (repository, guests->pdata[i], damaged, points, error))
            return NULL;
        g_ptr_array_extend_and_steal (all, g_steal_pointer (&points));
    }
    return guests ? g_steal_pointer (&all) : NULL;
}
