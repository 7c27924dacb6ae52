/* A push whose point in time is that of its end: each disk is mirrored until all are in step, and
 * the mirrors are ended together (verbs-mirror.c). */
#include <glib/gi18n-lib.h>
#include "driver/qemu/planner.h"

enum { END_TIMEOUT_MS = 30000 };

static const char *cannot_mirror (const Planner *p, const Item *item)
{
    const char *compression = item->def ? item->def->compression : NULL;

    if (item->sync == SYNC_INCREMENTAL)
        return _("a mirror knows no bitmap, so an increment is of the begin (instant='begin')");
    if (item->sync != SYNC_FULL)
        return _("a copy with sync='top' or 'none' is of the begin (instant='begin')");
    if (compression && !g_str_equal (compression, "none"))
        return _("a mirror cannot compress; compress the finished copy (qemu-img convert -c)");
    if (item->disk->iothread && !p->caps->iothread_view_safe)
        return _(
            "an I/O thread serves the disk, where QEMU before 9.0 does not keep the moment at "
            "which a mirror ends; use instant='begin'");
    return NULL;
}

gboolean check_at_end (Planner *p, GError **error)
{
    if (!p->caps->jobs || !caps_has_command (p->caps, "blockdev-mirror")
        || !caps_has_command (p->caps, "job-finalize"))
        return error_set (
            error, BAK_ERROR_NOT_SUPPORTED,
            _("instant='end' needs mirrors that wait to be ended together (QEMU 3.0); "
               "this is %s"),
            p->caps->version_text ? p->caps->version_text : "?");
    for (guint i = 0; i < p->items->len; i++) {
        const Item *item = p->items->pdata[i];
        const char *why = cannot_mirror (p, item);
        if (why)
            return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("instant='end': disk '%s': %s"),
                              item->disk->target, why);
    }
    return TRUE;
}

/* The bitmaps of the checkpoint are made at the end; what takes them away again stands beside the
 * mirrors. */
static JsonArray *take_bitmaps (Planner *p)
{
    JsonArray *actions = p->actions;
    p->actions = json_array_new ();
    return actions;
}

void add_mirrors (Planner *p)
{
    JsonArray *jobs = json_array_new (), *bitmaps = take_bitmaps (p);

    for (guint i = 0; i < p->items->len; i++) {
        Item *item = p->items->pdata[i];
        add_mirror (p, item, device_of (p, item));
        json_array_add_string_element (jobs, item->out->job);
    }
    p->plan->at_end = TRUE;
    Action *end =
        own_action ("mirror-end", obj ("jobs", "a", jobs, "actions", "a", bitmaps, "quiesce", "b",
                                       (p->in->flags & BEGIN_QUIESCE) != 0, NULL));
    g_ptr_array_add (p->plan->finish, timed (end, END_TIMEOUT_MS));
}
