/* How the guest is kept from what may happen to target and scratch. */
#include <glib/gi18n-lib.h>
#include "driver/qemu/planner.h"

/* sync top and none copy as the guest writes: there is nothing to read later. */
static gboolean all_whole (Planner *p)
{
    for (guint i = 0; i < p->items->len; i++) {
        SyncMode sync = ((Item *) p->items->pdata[i])->sync;
        if (sync == SYNC_TOP || sync == SYNC_NONE)
            return FALSE;
    }
    return TRUE;
}

static gboolean small_clusters (Planner *p)
{
    for (guint i = 0; i < p->items->len; i++) {
        const Item *item = p->items->pdata[i];
        if (item->def && item->def->cluster_size > MIN_CHUNK)
            return FALSE;
    }
    return TRUE;
}

/* Without access to a filter's point in time a copy must read the overlay, which a backup job does not let its keeper write. A mirror does,
 * but knows neither bitmaps nor compression. */
static gboolean can_mirror (Planner *p)
{
    for (guint i = 0; i < p->items->len; i++) {
        const Item *item = p->items->pdata[i];
        const char *compression = item->def ? item->def->compression : NULL;
        if (item->sync == SYNC_INCREMENTAL || (compression && !g_str_equal (compression, "none")))
            return FALSE;
    }
    return p->caps->export_add && p->caps->backup_filter_node_name && caps_has_command (p->caps, "blockdev-mirror") && caps_has_driver (p->caps, "throttle");
}

/* How the guest is kept from what may happen to target and scratch, on this QEMU; the table in docs/guest-protection.md. */
gboolean choose_protection (Planner *p, GError **error)
{
    gboolean push = p->plan->mode == BACKUP_MODE_PUSH, breaks = p->caps->backup_on_cbw_error;
    gboolean access = p->caps->snapshot_access && p->caps->backup_filter_node_name;
    gboolean copies = access && (p->caps->snapshot_access_exact || (p->caps->backup_x_perf && small_clusters (p)));
    gboolean mirror = !access && can_mirror (p);
    gboolean fleece = push && p->protect != PROTECT_NO && all_whole (p) && (copies || mirror);
    const char *text;

    p->mirror = fleece && mirror;
    p->hybrid = push ? fleece && copies : access && p->caps->snapshot_access_exact && p->caps->export_bitmap_node;
    p->fleece = fleece;
    if (p->protect == PROTECT_NO)
        text = _("none (asked for)");
    else if (push && !fleece)
        text = breaks ? _("a failing target breaks the backup, not the guest's write; a slow one slows the guest") : _("none: the target is in the way of the guest's writes");
    else if (breaks)
        text = push ? _("the guest writes to a scratch; target and scratch may fail") : _("the scratch may fail: that breaks the backup, not the guest's write");
    else
        text = push ? _("the guest writes to a scratch, reserved whole; the target may fail") : _("the scratch is reserved whole");
    if (p->protect == PROTECT_STRICT && !breaks)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("protect='strict': QEMU %s lets a guest's write fail when the scratch fails (on-cbw-error, since 10.1); protect='yes' reserves the whole scratch instead"),
                          p->caps->version_text ? p->caps->version_text : "?");
    if (p->protect == PROTECT_STRICT && push && !fleece)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("protect='strict': a copy with sync='top' or 'none' goes through the guest's writes"));
    if (p->protect != PROTECT_NO && push && !fleece)
        planner_note (p, _("protection of the guest: %s"), text);
    for (guint i = 0; i < p->items->len; i++) {
        Item *item = p->items->pdata[i];
        item->out->protection = g_strdup (text);
        if ((!push || fleece) && !resolve_scratch (p, item, error))
            return FALSE;
    }
    return TRUE;
}

/* Where QEMU would let the guest's write fail when the scratch is full, the scratch gets all its space before the point in time. */
gboolean must_reserve (Planner *p, const Place *place)
{
    return place->scratch && p->protect != PROTECT_NO && !p->caps->backup_on_cbw_error && place->store->type == STORE_FILE;
}
