/* Push: QEMU copies into targets, which are flushed and released before success is said. */
#include <glib/gi18n-lib.h>
#include "driver/qemu/planner.h"

enum { NBD_FLUSH_TIMEOUT_MS = 60000 };

/* The reopen as read-only flushes first, and reports what the deletion of a node would swallow. */
static void finish_flush (Planner *p, const Item *item, JsonObject *options)
{
    guint timeout = item->target.store->type == STORE_NETWORK ? NBD_FLUSH_TIMEOUT_MS : CREATE_TIMEOUT_MS;
    g_autofree char *node = g_strdup (json_object_get_string_member (options, "node-name"));

    json_object_set_boolean_member (options, "read-only", TRUE);
    Action *reopen = p->caps->reopen ? qmp_action ("blockdev-reopen", obj ("options", "a", arr (options, NULL), NULL))
                                     : qmp_action ("x-blockdev-reopen", options);
    g_ptr_array_add (p->plan->finish, guarded (timed (reopen, timeout), "node", node));
}

static void finish_network (Planner *p, const Item *item, const char *node)
{
    g_autofree char *source = own_name (p, "nul", item), *job = own_name (p, "flu", item);
    Action *flush = own_action ("node-flush", obj ("node", "s", node, "source", "s", source, "job", "s", job, "size", "i", (gint64) item->disk->size,
                                                   "place", "s", item->out->path, NULL));
    g_ptr_array_add (p->plan->finish, guarded (timed (flush, NBD_FLUSH_TIMEOUT_MS), "node", node));
}

/* Where a failing target breaks the point in time and not the guest's write, a job without an end says nothing of it; who reads there is told. */
static void finish_probe (Planner *p, const Item *item)
{
    GPtrArray *finish = p->plan->finish;
    g_autofree char *view = own_name (p, "snp", item), *part = own_name (p, "prv", item), *null = own_name (p, "nul", item), *job = own_name (p, "prb", item);
    const char *const nodes[] = { null, part, view };
    gint64 size = MIN (item->disk->size, MIN_CHUNK);

    g_ptr_array_add (finish, node_add (p, obj ("driver", "s", "snapshot-access", "node-name", "s", view, "file", "s", item->out->filter, NULL)));
    g_ptr_array_add (finish, node_add (p, obj ("driver", "s", "raw", "node-name", "s", part, "file", "s", view, "size", "i", size, NULL)));
    g_ptr_array_add (finish, node_add (p, obj ("driver", "s", "null-co", "node-name", "s", null, "size", "i", size, NULL)));
    g_ptr_array_add (finish, qmp_action ("blockdev-backup", obj ("job-id", "s", job, "device", "s", part, "target", "s", null, "sync", "s", "full", "auto-dismiss", "b", FALSE, NULL)));
    g_ptr_array_add (finish, own_action ("job-wait", obj ("job", "s", job, "says", "s",
                     _("the target failed meanwhile: the copy lacks something that the guest has overwritten"), NULL)));
    g_ptr_array_add (finish, qmp_action ("job-dismiss", obj ("id", "s", job, NULL)));
    for (guint i = 0; i < G_N_ELEMENTS (nodes); i++)
        g_ptr_array_add (finish, qmp_action ("blockdev-del", obj ("node-name", "s", nodes[i], NULL)));
}

/* What QEMU does not do itself. A mirror that has copied all goes on until it is told that it is enough. */
static void finish_job (Planner *p, const Item *item)
{
    const char *job = item->out->job;
    GPtrArray *finish = p->plan->finish;
    guint first = finish->len;
    if (item->sync == SYNC_NONE && p->caps->backup_on_cbw_error && p->protect != PROTECT_NO)
        finish_probe (p, item);
    if (p->mirror || item->sync == SYNC_NONE) {          /* they end when they are told to */
        g_ptr_array_add (finish, job_cancel (p, job));
        g_ptr_array_add (finish, guarded (own_action ("job-wait-end", obj ("job", "s", job, NULL)), "job", job));
    }
    else if (p->caps->copies_wait) {
        g_ptr_array_add (finish, job_finalize (job));
        g_ptr_array_add (finish, guarded (own_action ("job-wait", obj ("job", "s", job, NULL)), "job", job));
    }
    if (p->mirror || p->caps->copies_wait)
        g_ptr_array_add (finish, job_dismiss (job));
    for (guint i = first; i < finish->len; i++)
        ((Action *) finish->pdata[i])->disk = g_strdup (item->disk->target);
}

static void finish_push (Planner *p, Item *item)
{
    GPtrArray *finish = p->plan->finish;
    g_autofree char *node = own_name (p, "tgt", item), *file = own_name (p, "tgf", item);
    const StoreDef *store = item->target.store;
    gboolean fresh_file = store->type == STORE_FILE && !is_reused (p, &item->target);
    guint first = finish->len;

    /* The flush of the reopen holds the guest: what is left for it should be little. */
    if (store->path)
        g_ptr_array_add (finish, own_action ("file-sync", obj ("path", "s", store->path, NULL)));
    if (p->caps->reopen || p->caps->x_reopen) {
        if (store->type == STORE_NETWORK)
            finish_network (p, item, node);
        finish_flush (p, item, format_options (p, item, &item->target, node, file));
        /* A raw node without a writer does not pass its flush on to a node that has a name of its own. */
        finish_flush (p, item, protocol_options (p, item, &item->target, file));
    }
    g_ptr_array_add (finish, timed (node_del (p, node), CREATE_TIMEOUT_MS));
    g_ptr_array_add (finish, timed (node_del (p, file), CREATE_TIMEOUT_MS));
    if (fresh_file && g_str_equal (item->target.format, "raw"))
        g_ptr_array_add (finish, own_action ("file-punch", obj ("path", "s", store->path, NULL)));
    if (store->path)
        g_ptr_array_add (finish, own_action ("file-sync", obj ("path", "s", store->path, NULL)));
    for (guint i = first; i < finish->len; i++)
        ((Action *) finish->pdata[i])->disk = g_strdup (item->disk->target);
}

static gboolean check_durability (Planner *p, GError **error)
{
    if (p->caps->reopen || p->caps->x_reopen)
        return TRUE;
    if (!(p->in->flags & BEGIN_ALLOW_UNPROVED))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("this QEMU (%s) cannot show that the target was flushed (blockdev-reopen, since 4.0): "
                          "the copy would be unproved; allow that with --allow-unproved"), p->caps->version_text ? p->caps->version_text : "?");
    planner_note (p, _("durability: unproved: this QEMU cannot show that the target was flushed"));
    return TRUE;
}

static gboolean check_compression (Planner *p, const Item *item, GError **error)
{
    const char *compression = item->def ? item->def->compression : NULL;
    if (!compression || g_str_equal (compression, "none"))
        return TRUE;
    if (!g_str_equal (item->target.format, "qcow2"))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s': compression needs format qcow2, not '%s'"), item->disk->target, item->target.format);
    if (!p->caps->backup_compress || (g_str_equal (compression, "zstd") && !p->caps->qcow2_zstd))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("disk '%s': this QEMU cannot compress a backup with %s (%s)"), item->disk->target, compression,
                          g_str_equal (compression, "zstd") ? _("since 5.1") : _("since 2.8"));
    return TRUE;
}

static gboolean check_backing (Planner *p, const Item *item, GError **error)
{
    if (!item->def || !item->def->backing)
        return TRUE;
    if (!g_str_equal (item->target.format, "qcow2") || item->target.store->type == STORE_NETWORK)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s': only an increment in a qcow2 file or device can be laid on '%s'"), item->disk->target, item->def->backing);
    if (item->sync != SYNC_INCREMENTAL && !item->out->reason)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s': a full backup is not laid on another ('%s'): --onto goes with --since"), item->disk->target, item->def->backing);
    for (guint i = 0; i < p->in->graph->nodes->len; i++) {
        const GraphNode *node = p->in->graph->nodes->pdata[i];
        if (g_strcmp0 (node->filename, item->def->backing) == 0)
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s': '%s' is an image of the running guest, not a previous backup"), item->disk->target, item->def->backing);
    }
    return TRUE;
}

/* The increment holds what changed since the checkpoint: on anything but the backup of that instant it makes a disk that never was. */
static gboolean add_backing_check (Planner *p, const Item *item, GError **error)
{
    const char *backing = item->def->backing;
    const Checkpoint *since = find_checkpoint (p->in, item->out->since);
    const CheckpointDisk *recorded = checkpoint_disk (since, item->disk);
    const Checkpoint *later = checkpoint_later_in_file (p->in->checkpoints, since->sequence, backing);

    if (later)
        return error_set (error, BAK_ERROR_INEXACT, _("disk '%s': '%s' holds the backup of checkpoint '%s', not that of '%s'"), item->disk->target, backing, later->name, since->name);
    if (!recorded->backup)
        planner_note (p, _("disk '%s': nothing is recorded of the file that holds the backup of checkpoint '%s'; that it is '%s' is taken on trust"), item->disk->target, since->name, backing);
    plan_add (p->plan, _("check the previous backup"), item->disk->target,
              own_action ("backing-check", obj ("path", "s", backing, "size", "i", (gint64) item->disk->size, "checkpoint", "s", since->name,
                          "backup", "s", recorded->backup, "backup-id", "s", recorded->backup_id, NULL)), NULL);
    return TRUE;
}

static gboolean copy_from_disks (Planner *p, GError **error)
{
    for (guint i = 0; i < p->items->len; i++) {
        Item *item = p->items->pdata[i];
        g_autofree char *bitmap = item->changes ? own_name (p, "inc", item) : NULL;
        if (bitmap)
            tx_changes (p, item, item->disk->node, bitmap);
        tx_copy (p, item, device_of (p, item), bitmap);
    }
    return add_point_in_time (p, error);
}

/* First the instant, kept by a scratch, then the copy of what the scratch keeps: a slow, full or dead target meets no write of the guest. */
static gboolean copy_from_scratch (Planner *p, GError **error)
{
    for (guint i = 0; i < p->items->len; i++) {
        Item *item = p->items->pdata[i];
        g_autofree char *scratch = own_name (p, "scr", item), *bitmap = own_name (p, "inc", item);
        if (item->changes)
            tx_changes (p, item, scratch, bitmap);
        tx_keep (p, item);
    }
    if (!add_point_in_time (p, error))
        return FALSE;
    for (guint i = 0; i < p->items->len; i++) {
        Item *item = p->items->pdata[i];
        g_autofree char *view = add_view (p, item), *scratch = own_name (p, "scr", item), *bitmap = item->changes ? own_name (p, "inc", item) : NULL;
        if (bitmap) {
            tx_add (p, "block-dirty-bitmap-add", obj ("node", "s", view, "name", "s", bitmap, "disabled", "b", TRUE, NULL));
            tx_add (p, "block-dirty-bitmap-merge", obj ("node", "s", view, "target", "s", bitmap, "bitmaps", "a", arr (obj ("node", "s", scratch, "name", "s", bitmap, NULL), NULL), NULL));
            tx_undo (p, bitmap_remove (view, bitmap));
        }
        if (p->mirror)
            add_mirror (p, item, view);
        else
            tx_copy (p, item, view, bitmap);
    }
    if (!p->mirror)
        add_actions (p, _("start the copy"));
    return TRUE;
}

gboolean plan_push (Planner *p, GError **error)
{
    if (!check_durability (p, error))
        return FALSE;
    for (guint i = 0; i < p->items->len; i++) {
        Item *item = p->items->pdata[i];
        if (!check_compression (p, item, error) || !check_backing (p, item, error))
            return FALSE;
        if (item->sync == SYNC_INCREMENTAL && item->def && item->def->backing && !add_backing_check (p, item, error))
            return FALSE;
    }
    add_places (p, FALSE);
    if (p->fleece)
        add_places (p, TRUE);
    if (!tx_checkpoint (p, FALSE, error) || !(p->fleece ? copy_from_scratch (p, error) : copy_from_disks (p, error)))
        return FALSE;
    for (guint i = 0; i < p->items->len; i++)
        finish_job (p, p->items->pdata[i]);
    for (guint i = 0; i < p->items->len; i++)
        finish_push (p, p->items->pdata[i]);
    return TRUE;
}
