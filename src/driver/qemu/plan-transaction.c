/* The point in time: one transaction for all disks, with the undo of each of its parts. */
#include <glib/gi18n-lib.h>
#include "driver/qemu/planner.h"

enum { DEFAULT_WORKERS = 8, MAX_CHUNK = 1048576, TRANSACTION_TIMEOUT_MS = 60000 };

void tx_add (Planner *p, const char *type, JsonObject *data)
{
    json_array_add_object_element (p->actions, obj ("type", "s", type, "data", "o", data, NULL));
}

void tx_undo (Planner *p, Action *action)
{
    g_ptr_array_add (p->undo, action);
}

/* The end of QEMU's job, whatever its state: in this order before any bitmap or node of it goes. */
static void tx_undo_job (Planner *p, const char *job)
{
    tx_undo (p, job_cancel (p, job));
    tx_undo (p, guarded (own_action ("job-wait-end", obj ("job", "s", job, NULL)), "job", job));
    if (p->caps->jobs)
        tx_undo (p, job_dismiss (job));
}

/* A merged, disabled copy of what changed, on the given node: tracked bitmaps are never consumed.
 */
void tx_changes (Planner *p, Item *item, const char *node, const char *name)
{
    JsonObject *first = json_array_get_object_element (item->changes, 0);
    const GraphNode *active =
        graph_node (p->in->graph, json_object_get_string_member (first, "node"));
    const GraphBitmap *bitmap =
        active ? graph_bitmap (active, json_object_get_string_member (first, "name")) : NULL;
    JsonObject *add = obj ("node", "s", node, "name", "s", name, "disabled", "b", TRUE, NULL);

    if (bitmap && bitmap->granularity)
        json_object_set_int_member (add, "granularity", bitmap->granularity);
    tx_add (p, "block-dirty-bitmap-add", add);
    tx_add (p, "block-dirty-bitmap-merge",
            obj ("node", "s", node, "target", "s", name, "bitmaps", "a",
                 json_array_ref (item->changes), NULL));
    tx_undo (p, bitmap_remove (node, name));
}

static JsonObject *x_perf (Planner *p, const Item *item)
{
    if (!p->caps->backup_x_perf)
        return NULL;
    guint64 limit = item->out->limit;
    /* before 8.0 a read of the point in time is exact only within one cluster of the filter (its
     * reads must not cross one) */
    gboolean small = (limit && limit < 8 * MAX_CHUNK)
                     || (item->way != WAY_DIRECT && !p->caps->snapshot_access_exact);
    guint64 chunk = small ? MIN_CHUNK : MAX_CHUNK;
    if (target_cluster (item) > chunk)
        chunk = target_cluster (item);
    return obj ("max-workers", "i", (gint64) DEFAULT_WORKERS, "max-chunk", "i", (gint64) chunk,
                NULL);
}

/* A fresh raw file reads as zeroes, so what the only layer of a qcow2 does not hold need not be
 * written: it stays sparse. */
gboolean copy_top_only (Planner *p, const Item *item)
{
    const GraphNode *node = graph_node (p->in->graph, item->disk->node);
    return item->sync == SYNC_FULL && g_str_equal (item->target.format, "raw")
           && item->target.store->type == STORE_FILE && !is_reused (p, &item->target) && node
           && g_strcmp0 (node->driver, "qcow2") == 0 && !node->backing && !node->backing_filename;
}

/* From 8.2 on QEMU waits for every request of every disk when it takes a job's nodes apart: a copy
 * that has ended waits (finish_job) until no other target is written any more. */
static JsonObject *backup_data (Planner *p, const char *job, const char *device, const char *target,
                                const char *sync)
{
    JsonObject *data = obj ("job-id", "s", job, "device", "s", device, "target", "s", target,
                            "sync", "s", sync, NULL);
    if (p->caps->backup_auto_dismiss) {
        json_object_set_boolean_member (data, "auto-finalize", !p->caps->copies_wait);
        json_object_set_boolean_member (data, "auto-dismiss", !p->caps->concluded_backup_safe);
    }
    return data;
}

const char *device_of (Planner *p, const Item *item)
{
    return p->caps->blockdev_add_flat || !item->disk->device ? item->disk->node
                                                             : item->disk->device;
}

/* From here on the scratch keeps what the guest overwrites: the point in time. */
void tx_keep (Planner *p, Item *item)
{
    g_autofree char *scratch = own_name (p, "scr", item);
    item->out->keeper = own_name (p, "kep", item);
    item->out->filter = p->caps->backup_filter_node_name ? own_name (p, "flt", item) : NULL;
    JsonObject *data = backup_data (p, item->out->keeper, device_of (p, item), scratch, "none");
    if (item->out->filter)
        json_object_set_string_member (data, "filter-node-name", item->out->filter);
    if (p->caps->backup_on_cbw_error && p->protect != PROTECT_NO)
        json_object_set_string_member (data, "on-cbw-error", "break-snapshot");
    tx_add (p, "blockdev-backup", data);
    tx_undo_job (p, item->out->keeper);
}

/* The copy into the target: of the disk itself, or of the point in time that a scratch keeps. */
void tx_copy (Planner *p, Item *item, const char *device, const char *bitmap)
{
    g_autofree char *target = own_name (p, "tgt", item);
    const char *compression = item->def ? item->def->compression : NULL;
    gboolean direct = item->way == WAY_DIRECT;
    const char *sync = bitmap ? "incremental" : sync_types[item->sync];
    if (!bitmap && direct && copy_top_only (p, item))
        sync = "top";
    JsonObject *perf = x_perf (p, item);

    item->out->job = own_name (p, "job", item);
    JsonObject *data = backup_data (p, item->out->job, device, target, sync);
    if (bitmap) {
        json_object_set_string_member (data, "bitmap", bitmap);
        if (p->caps->backup_bitmap_mode)
            json_object_set_string_member (data, "bitmap-mode", "on-success");
    }
    if (direct && p->caps->backup_filter_node_name) {
        item->out->filter = own_name (p, "flt", item);
        json_object_set_string_member (data, "filter-node-name", item->out->filter);
    }
    if (direct && p->caps->backup_on_cbw_error && p->protect != PROTECT_NO)
        json_object_set_string_member (data, "on-cbw-error", "break-snapshot");
    if (item->out->limit)
        json_object_set_int_member (data, "speed", item->out->limit);
    if ((compression && !g_str_equal (compression, "none")) || is_stream (item))
        json_object_set_boolean_member (data, "compress", TRUE);
    if (perf)
        json_object_set_object_member (data, "x-perf", perf);
    tx_add (p, "blockdev-backup", data);
    tx_undo_job (p, item->out->job);
}

/* Jobs end before the bitmaps that they hold go. */
static void take_undo (Planner *p, Step *step)
{
    for (guint pass = 0; pass < 2; pass++)
        for (guint i = 0; i < p->undo->len; i++) {
            Action *action = p->undo->pdata[i];
            if (g_str_equal (action->verb, "block-dirty-bitmap-remove") == (pass == 1))
                g_ptr_array_add (step->undo, action);
        }
    g_ptr_array_set_free_func (p->undo, NULL);
    g_ptr_array_set_size (p->undo, 0);
    g_ptr_array_set_free_func (p->undo, (GDestroyNotify) action_free);
}

/* The same without a transaction: the point in time does not move any more. Its result is there to
 * be read, and QEMU does not crash over it. */
void add_mirror (Planner *p, Item *item, const char *device)
{
    g_autofree char *target = own_name (p, "tgt", item), *filter = own_name (p, "mir", item);
    const char *job = item->out->job = own_name (p, "job", item);
    JsonObject *data =
        obj ("job-id", "s", job, "device", "s", device, "target", "s", target, "sync", "s", "full",
             "filter-node-name", "s", filter, "auto-dismiss", "b", FALSE, NULL);
    if (item->way == WAY_AT_END)
        json_object_set_boolean_member (data, "auto-finalize", FALSE);
    if (item->out->limit)
        json_object_set_int_member (data, "speed", item->out->limit);
    Step *step = plan_add (
        p->plan, _("start the copy"), item->disk->target,
        timed (qmp_action ("blockdev-mirror", data), TRANSACTION_TIMEOUT_MS), job_cancel (p, job),
        guarded (own_action ("job-wait-end", obj ("job", "s", job, NULL)), "job", job),
        job_dismiss (job), NULL);
    take_undo (p, step); /* of bitmaps that are made when the mirrors end */
}

void add_actions (Planner *p, const char *title)
{
    Step *step =
        plan_add (p->plan, title, NULL,
                  timed (qmp_action ("transaction", obj ("actions", "a", p->actions, NULL)),
                         TRANSACTION_TIMEOUT_MS),
                  NULL);
    p->actions = json_array_new ();
    take_undo (p, step);
}

gboolean add_point_in_time (Planner *p, GError **error)
{
    gboolean quiesce = (p->in->flags & BEGIN_QUIESCE) != 0;
    if (quiesce && !p->in->agent)
        return error_set (error, BAK_ERROR_AGENT,
                          _("cannot freeze the file systems: the guest was attached without a "
                             "guest agent (attach --agent PATH)"));
    if (!p->caps->transaction)
        return error_set (
            error, BAK_ERROR_NOT_SUPPORTED,
            _("this QEMU has no transactions (since 1.1): disks of one instant are not possible"));
    if (quiesce)
        plan_add (p->plan, _("freeze the guest's file systems"), NULL, own_action ("freeze", NULL),
                  own_action ("thaw", NULL), NULL);
    add_actions (p, _("the point in time: all disks at one instant"));
    if (quiesce)
        plan_add (p->plan, _("thaw the guest's file systems"), NULL, own_action ("thaw", NULL),
                  NULL);
    return TRUE;
}

/* Beside the keeper, which goes on writing the overlay: a filter of our own bears the mirror's, so
 * that the keeper's writes do not pass it and are held back by reads of the same place. */
static char *add_filter (Planner *p, Item *item)
{
    g_autofree char *group = own_name (p, "thr", item), *scratch = own_name (p, "scr", item);
    char *view = own_name (p, "snp", item);
    plan_add (p->plan, _("make a throttle group without a limit"), item->disk->target,
              object_add (p, "throttle-group", group, json_object_new ()),
              guarded (qmp_action ("object-del", obj ("id", "s", group, NULL)), "object", group),
              NULL);
    plan_add (p->plan, _("open the point in time"), item->disk->target,
              node_add (p, obj ("driver", "s", "throttle", "node-name", "s", view, "file", "s",
                                scratch, "throttle-group", "s", group, NULL)),
              node_del (p, view), NULL);
    return view;
}

/* The node that shows the point in time: an access node on the filter, else the overlay itself.
 * Caller frees. */
char *add_view (Planner *p, Item *item)
{
    if (item->way == WAY_MIRROR)
        return add_filter (p, item);
    if (item->way == WAY_OVERLAY)
        return own_name (p, "scr", item);
    char *view = own_name (p, "snp", item);
    plan_add (p->plan, _("open the point in time"), item->disk->target,
              node_add (p, obj ("driver", "s", "snapshot-access", "node-name", "s", view, "file",
                                "s", item->out->filter, NULL)),
              node_del (p, view), NULL);
    return view;
}
