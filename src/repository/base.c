#include <glib/gi18n-lib.h>
#include "repository/base.h"

void base_choice_free (BaseChoice *choice)
{
    if (!choice)
        return;
    g_free (choice->target);
    g_free (choice->reason);
    point_unref (choice->base);
    g_free (choice);
}

static Point *newest_with (const GPtrArray *points, const char *target)
{
    for (guint i = points->len; i-- > 0;) {
        Point *point = points->pdata[i];
        if (manifest_find_disk (point->manifest, target))
            return point;
    }
    return NULL;
}

/* Why tracking cannot say what to read; NULL: it can. Caller frees. */
static char *untracked_reason (const GPtrArray *points, const BaseDisk *disk, const Point *base,
                               const char *why_none)
{
    guint64 size = manifest_find_disk (base->manifest, disk->target)->size;
    if (base != points->pdata[points->len - 1])
        return g_strdup (_("it is not in the newest point"));
    if (size != disk->size)
        return g_strdup_printf (
            _("it was resized from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT " bytes"), size,
            disk->size);
    return g_strdup (why_none);
}

static BaseChoice *choose (const GPtrArray *points, const BaseDisk *disk, const char *why_none)
{
    BaseChoice *choice = g_new0 (BaseChoice, 1);
    Point *base = newest_with (points, disk->target);
    choice->target = g_strdup (disk->target);
    choice->size = disk->size;
    if (!base) {
        choice->reason = g_strdup (points->len ? _("it is new") : _("it is the first point"));
        return choice;
    }
    choice->base = point_ref (base);
    choice->reason = untracked_reason (points, disk, base, why_none);
    choice->tracked = choice->reason == NULL;
    return choice;
}

GPtrArray *base_choose (const GPtrArray *points, const BaseDisk *disks, guint n_disks,
                        const char *why_none)
{
    GPtrArray *choices = g_ptr_array_new_with_free_func ((GDestroyNotify) base_choice_free);
    for (guint i = 0; i < n_disks; i++)
        g_ptr_array_add (choices, choose (points, &disks[i], why_none));
    return choices;
}
