#include <glib/gi18n-lib.h>
#include "repository/retention.h"

/* A rule keeps the newest point of each of its periods; the format names the period. */
static const struct {
    const char *name;
    const char *period; /* of g_date_time_format(); NULL: each point is one of its own */
} rules[KEEP_RULES] = {
    [KEEP_LAST] = { "last", NULL },          [KEEP_HOURLY] = { "hourly", "%Y-%m-%d %H:00" },
    [KEEP_DAILY] = { "daily", "%Y-%m-%d" },  [KEEP_WEEKLY] = { "weekly", "%G-W%V" },
    [KEEP_MONTHLY] = { "monthly", "%Y-%m" }, [KEEP_YEARLY] = { "yearly", "%Y" },
};

gboolean keep_is_empty (const Keep *keep)
{
    gboolean any = keep->within != 0;
    for (guint i = 0; i < KEEP_RULES; i++)
        any = any || keep->count[i];
    return !any;
}

void keep_point_clear (KeepPoint *point)
{
    g_clear_pointer (&point->why, g_free);
}

static gboolean counts (const KeepPoint *point)
{
    return !point->pinned && !point->damaged;
}

static void take (KeepPoint *point, char *why)
{
    point->keep = TRUE;
    point->why = why;
}

static char *period_of (KeepRule rule, const KeepPoint *point, guint index)
{
    if (!rules[rule].period)
        return g_strdup_printf ("%u", index);
    g_autoptr (GDateTime) when = g_date_time_new_from_unix_local (point->instant / G_USEC_PER_SEC);
    char *text = when ? g_date_time_format (when, rules[rule].period) : NULL;
    return text ? text : g_strdup_printf ("%u", index);
}

/* Newest first; a period that an earlier rule has kept a point of is skipped and not counted. */
static void apply (KeepRule rule, guint count, KeepPoint *points, guint n_points)
{
    g_autoptr (GHashTable) seen = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
    for (guint i = 0; i < n_points; i++)
        if (counts (&points[i]) && points[i].keep)
            g_hash_table_add (seen, period_of (rule, &points[i], i));
    for (guint i = n_points; i-- > 0 && count;) {
        if (!counts (&points[i]) || points[i].keep)
            continue;
        char *period = period_of (rule, &points[i], i);
        if (!g_hash_table_add (seen, period))
            continue;
        take (&points[i], rules[rule].period ? g_strdup_printf ("%s %s", rules[rule].name, period)
                                             : g_strdup (rules[rule].name));
        count--;
    }
}

static void apply_within (guint64 within, KeepPoint *points, guint n_points)
{
    const KeepPoint *newest = NULL;
    for (guint i = n_points; i-- > 0 && within;) {
        if (!counts (&points[i]))
            continue;
        if (!newest)
            newest = &points[i];
        if (points[i].instant >= newest->instant - (gint64) MIN (within, (guint64) G_MAXINT64 / 2))
            take (&points[i], g_strdup ("within"));
    }
}

static void keep_one (KeepPoint *points, guint n_points)
{
    for (guint i = n_points; i-- > 0;) {
        if (!counts (&points[i]))
            continue;
        if (!points[i].keep)
            take (&points[i], g_strdup (_("the newest good point")));
        return;
    }
}

static gboolean none_kept (const KeepPoint *points, guint n_points)
{
    for (guint i = 0; i < n_points; i++)
        if (points[i].keep && counts (&points[i]))
            return FALSE;
    return TRUE;
}

void keep_choose (const Keep *keep, KeepPoint *points, guint n_points)
{
    for (guint i = 0; i < n_points; i++) {
        if (points[i].pinned)
            take (&points[i], g_strdup (_("pinned")));
        else if (points[i].damaged)
            take (&points[i], g_strdup (_("damaged: counts for no rule")));
    }
    apply_within (keep->within, points, n_points);
    for (guint rule = 0; rule < KEEP_RULES; rule++)
        apply (rule, keep->count[rule], points, n_points);
    if (none_kept (points, n_points))
        keep_one (points, n_points);
}
