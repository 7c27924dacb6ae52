/* How the guest is kept from what may happen to target and scratch. */
#include <glib/gi18n-lib.h>
#include "driver/qemu/planner.h"

/* sync top and none copy as the guest writes: there is nothing to read later. */
static gboolean is_whole (const Item *item)
{
    return item->sync != SYNC_TOP && item->sync != SYNC_NONE;
}

static gboolean keeps_old_data (const Item *item)
{
    return item->way != WAY_DIRECT && item->way != WAY_AT_END;
}

static gboolean has_small_clusters (const Item *item)
{
    return target_cluster (item) <= MIN_CHUNK;
}

/* Before 9.0 QEMU dies when a node is opened on one that an I/O thread serves, unless as its
 * backing file: an overlay may be, an access node or a filter may not. */
static gboolean takes_views (const Planner *p, const Item *item)
{
    return p->caps->iothread_view_safe || !item->disk->iothread;
}

static gboolean can_access (const Planner *p, const Item *item)
{
    const Caps *caps = p->caps;
    gboolean exact =
        caps->snapshot_access_exact
        || (p->plan->mode == BACKUP_MODE_PUSH && caps->backup_x_perf && has_small_clusters (item));
    return caps->snapshot_access && caps->backup_filter_node_name && exact
           && (p->plan->mode == BACKUP_MODE_PUSH || caps->export_bitmap_node);
}

/* Without access to a filter's point in time a copy must read the overlay, which a backup job does
 * not let its keeper write. A mirror does, but knows neither bitmaps nor compression. */
static gboolean can_mirror (const Planner *p, const Item *item)
{
    const char *compression = item->def ? item->def->compression : NULL;

    if (p->caps->snapshot_access || item->sync == SYNC_INCREMENTAL
        || (compression && !g_str_equal (compression, "none")) || is_stream (item)
        || loses_parts (item))
        return FALSE;
    return p->caps->export_add && p->caps->backup_filter_node_name
           && caps_has_command (p->caps, "blockdev-mirror")
           && caps_has_driver (p->caps, "throttle");
}

static Way choose_way (const Planner *p, const Item *item)
{
    gboolean push = p->plan->mode == BACKUP_MODE_PUSH;
    Way without_a_view = push ? WAY_DIRECT : WAY_OVERLAY;

    if (p->in->def->instant == INSTANT_END)
        return WAY_AT_END;
    if (push && (p->protect == PROTECT_NO || !is_whole (item)))
        return WAY_DIRECT;
    if (!takes_views (p, item))
        return without_a_view;
    if (can_access (p, item))
        return WAY_ACCESS;
    return push && can_mirror (p, item) ? WAY_MIRROR : without_a_view;
}

static char *describe (const Planner *p, const Item *item)
{
    gboolean push = p->plan->mode == BACKUP_MODE_PUSH, breaks = p->caps->backup_on_cbw_error;

    if (item->way == WAY_AT_END)
        return g_strdup (_("a mirror follows behind the guest's writes; the target may fail"));
    if (p->protect == PROTECT_NO)
        return g_strdup (_("none (asked for)"));
    if (item->way == WAY_DIRECT && is_whole (item) && !takes_views (p, item))
        return g_strdup_printf (_("none: I/O thread '%s' serves the disk, where QEMU before 9.0 "
                                   "dies of a scratch; the "
                                   "target is in the way of the guest's writes"),
                                item->disk->iothread);
    if (item->way == WAY_DIRECT)
        return g_strdup (breaks ? _("a failing target breaks the backup, not the guest's write; a "
                                     "slow one slows the guest")
                                : _("none: the target is in the way of the guest's writes"));
    if (breaks)
        return g_strdup (
            push ? _("the guest writes to a scratch; target and scratch may fail")
                 : _("the scratch may fail: that breaks the backup, not the guest's write"));
    return g_strdup (push ? _("the guest writes to a scratch, reserved whole; the target may fail")
                          : _("the scratch is reserved whole"));
}

static gboolean check_strict (const Planner *p, const Item *item, GError **error)
{
    const char *version = p->caps->version_text ? p->caps->version_text : "?";

    if (p->protect != PROTECT_STRICT || item->way == WAY_AT_END)
        return TRUE;
    if (p->plan->mode == BACKUP_MODE_PUSH && !takes_views (p, item))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("protect='strict': disk '%s' is served by I/O thread '%s', where QEMU "
                             "%s dies of a scratch (9.0 does not): its target would be in the way "
                             "of the guest's writes"),
                          item->disk->target, item->disk->iothread, version);
    if (!p->caps->backup_on_cbw_error)
        return error_set (
            error, BAK_ERROR_NOT_SUPPORTED,
            _("protect='strict': QEMU %s lets a guest's write fail when the scratch fails "
               "(on-cbw-error, since 10.1); protect='yes' reserves the whole scratch instead"),
            version);
    if (p->plan->mode == BACKUP_MODE_PUSH && item->way == WAY_DIRECT)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("protect='strict': a copy with sync='top' or 'none' goes through the "
                             "guest's writes"));
    return TRUE;
}

/* Of the disks that are not protected: once where all are and for the same reason. */
static void note_unprotected (Planner *p)
{
    const Item *first = p->items->pdata[0];
    gboolean same = TRUE;

    for (guint i = 0; i < p->items->len; i++)
        same =
            same
            && g_str_equal (((Item *) p->items->pdata[i])->out->protection, first->out->protection);
    for (guint i = 0; i < p->items->len; i++) {
        const Item *item = p->items->pdata[i];
        if (item->way != WAY_DIRECT || (same && i > 0))
            continue;
        if (same)
            planner_note (p, _("protection of the guest: %s"), item->out->protection);
        else
            planner_note (p, _("disk '%s': protection of the guest: %s"), item->disk->target,
                          item->out->protection);
    }
}

/* How the guest is kept from what may happen to target and scratch, on this QEMU; the table in
 * docs/guest-protection.md. */
gboolean choose_protection (Planner *p, GError **error)
{
    for (guint i = 0; i < p->items->len; i++) {
        Item *item = p->items->pdata[i];
        item->way = choose_way (p, item);
        item->out->protection = describe (p, item);
        if (!check_strict (p, item, error))
            return FALSE;
    }
    if (p->protect != PROTECT_NO && p->plan->mode == BACKUP_MODE_PUSH)
        note_unprotected (p);
    for (guint i = 0; i < p->items->len; i++) {
        Item *item = p->items->pdata[i];
        if (keeps_old_data (item) && !resolve_scratch (p, item, error))
            return FALSE;
    }
    return TRUE;
}

/* Where QEMU would let the guest's write fail when the scratch is full, the scratch gets all its
 * space before the point in time. */
gboolean must_reserve (Planner *p, const Place *place)
{
    return place->scratch && p->protect != PROTECT_NO && !p->caps->backup_on_cbw_error
           && place->store->type == STORE_FILE;
}
