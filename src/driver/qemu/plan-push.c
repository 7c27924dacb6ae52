/* Push: QEMU copies into targets, which are flushed and released before success is said. */
#include <glib/gi18n-lib.h>
#include "driver/qemu/planner.h"

enum { NBD_FLUSH_TIMEOUT_MS = 60000 };

/* The reopen as read-only flushes first, and reports what the deletion of a node would swallow. */
static void finish_flush (Planner *p, const Item *item, JsonObject *options)
{
    guint timeout = item->target.store->type == STORE_NETWORK || is_helped (&item->target)
                        ? NBD_FLUSH_TIMEOUT_MS
                        : CREATE_TIMEOUT_MS;
    g_autofree char *node = g_strdup (json_object_get_string_member (options, "node-name"));

    json_object_set_boolean_member (options, "read-only", TRUE);
    Action *reopen = p->caps->reopen ? qmp_action ("blockdev-reopen",
                                                   obj ("options", "a", arr (options, NULL), NULL))
                                     : qmp_action ("x-blockdev-reopen", options);
    reopen->proves = TRUE;
    g_ptr_array_add (p->plan->finish, guarded (timed (reopen, timeout), "node", node));
}

static void finish_network (Planner *p, const Item *item, const char *node)
{
    g_autofree char *source = own_name (p, "nul", item), *job = own_name (p, "flu", item);
    Action *flush = own_action ("node-flush", obj ("node", "s", node, "source", "s", source, "job",
                                                   "s", job, "size", "i", (gint64) item->disk->size,
                                                   "place", "s", item->out->path, NULL));
    flush->proves = TRUE;
    g_ptr_array_add (p->plan->finish, guarded (timed (flush, NBD_FLUSH_TIMEOUT_MS), "node", node));
}

/* A file that somebody cuts while QEMU writes it grows again behind the cut. What was cut off at
 * the end is missed by its length, what lies before by the gap that nobody has written: QEMU writes
 * a copy of a whole disk into a raw file from end to end, unless it may leave out what reads as
 * zero there, and every cluster of an image that it takes. */
static void finish_whole (Planner *p, const Item *item)
{
    const char *path = item->target.store->path;
    gboolean raw = g_str_equal (item->target.format, "raw"),
             qcow2 = g_str_equal (item->target.format, "qcow2");
    guint64 cluster = item->def ? item->def->cluster_size : 0;

    gboolean mirrored = item->way == WAY_MIRROR || item->way == WAY_AT_END,
             leaves_out = (mirrored && p->caps->mirror_skips_zeroes)
                          || (item->way == WAY_DIRECT && copy_top_only (p, item));
    /* what versions before 5.2 leave out has not been looked at */
    gboolean from_end_to_end = raw && item->sync == SYNC_FULL && !leaves_out && p->caps->export_add;
    /* clusters that nobody has written yet */
    gboolean had_gaps = qcow2
                        && (is_reused (p, &item->target)
                            || (item->def && item->def->preallocation
                                && !g_str_equal (item->def->preallocation, "off")));

    if (item->target.store->encryption || had_gaps || !(qcow2 || from_end_to_end))
        return;
    g_ptr_array_add (
        p->plan->finish,
        own_action ("target-whole",
                    obj ("path", "s", path, "gap", "i",
                         (gint64) (raw ? MIN_CHUNK : MAX (cluster, MIN_CHUNK)), NULL)));
}

/* Where a failing target breaks the point in time and not the guest's write, a job without an end
 * says nothing of it; who reads there is told. */
static void finish_probe (Planner *p, const Item *item)
{
    GPtrArray *finish = p->plan->finish;
    g_autofree char *view = own_name (p, "snp", item), *part = own_name (p, "prv", item),
                    *null = own_name (p, "nul", item), *job = own_name (p, "prb", item);
    const char *const nodes[] = { null, part, view };
    gint64 size = MIN (item->disk->size, MIN_CHUNK);

    g_ptr_array_add (finish, node_add (p, obj ("driver", "s", "snapshot-access", "node-name", "s",
                                               view, "file", "s", item->out->filter, NULL)));
    g_ptr_array_add (finish, node_add (p, obj ("driver", "s", "raw", "node-name", "s", part, "file",
                                               "s", view, "size", "i", size, NULL)));
    g_ptr_array_add (finish, node_add (p, obj ("driver", "s", "null-co", "node-name", "s", null,
                                               "size", "i", size, NULL)));
    g_ptr_array_add (finish,
                     qmp_action ("blockdev-backup",
                                 obj ("job-id", "s", job, "device", "s", part, "target", "s", null,
                                      "sync", "s", "full", "auto-dismiss", "b", FALSE, NULL)));
    g_ptr_array_add (finish,
                     own_action ("job-wait", obj ("job", "s", job, "says", "s",
                                                  _("the target failed meanwhile: the copy lacks "
                                                     "something that the guest has overwritten"),
                                                  NULL)));
    g_ptr_array_add (finish, qmp_action ("job-dismiss", obj ("id", "s", job, NULL)));
    for (guint i = 0; i < G_N_ELEMENTS (nodes); i++)
        g_ptr_array_add (finish,
                         qmp_action ("blockdev-del", obj ("node-name", "s", nodes[i], NULL)));
}

/* What QEMU does not do itself. A mirror that has copied all goes on until it is told that it is
 * enough. */
static void finish_job (Planner *p, const Item *item)
{
    const char *job = item->out->job;
    GPtrArray *finish = p->plan->finish;
    guint first = finish->len;
    if (item->sync == SYNC_NONE && p->caps->backup_on_cbw_error && p->protect != PROTECT_NO)
        finish_probe (p, item);
    if (item->way == WAY_AT_END)
        return;                                               /* all together */
    if (item->way == WAY_MIRROR || item->sync == SYNC_NONE) { /* they end when they are told to */
        g_ptr_array_add (finish, job_cancel (p, job));
        g_ptr_array_add (
            finish, guarded (own_action ("job-wait-end", obj ("job", "s", job, NULL)), "job", job));
    } else if (p->caps->copies_wait) {
        g_ptr_array_add (finish, job_finalize (job));
        g_ptr_array_add (
            finish, guarded (own_action ("job-wait", obj ("job", "s", job, NULL)), "job", job));
    }
    if (item->way == WAY_MIRROR || p->caps->copies_wait)
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
        if (store->type == STORE_NETWORK || is_helped (&item->target))
            finish_network (p, item, node);
        /* A raw node without a writer does not pass its flush on to a node that has a name of its
         * own. */
        if (proves_by_reopen (item)) {
            finish_flush (p, item, format_options (p, item, &item->target, node, file));
            finish_flush (p, item, protocol_options (p, item, &item->target, file));
        }
    }
    if (store->type == STORE_FILE && !is_helped (&item->target)) {
        Action *reaches =
            own_action ("target-reaches", obj ("path", "s", store->path, "node", "s", file, NULL));
        reaches->proves = TRUE;
        g_ptr_array_add (finish, guarded (reaches, "node", file));
    }
    g_ptr_array_add (finish, timed (node_del (p, node), CREATE_TIMEOUT_MS));
    g_ptr_array_add (finish, timed (node_del (p, file), CREATE_TIMEOUT_MS));
    if (is_helped (&item->target))
        finish_helper (p, item);
    if (fresh_file)
        finish_whole (p, item);
    if (fresh_file && g_str_equal (item->target.format, "raw"))
        g_ptr_array_add (finish, own_action ("file-punch", obj ("path", "s", store->path, NULL)));
    if (store->path)
        g_ptr_array_add (finish, own_action ("file-sync", obj ("path", "s", store->path, NULL)));
    if (store->path)
        g_ptr_array_add (finish,
                         own_action ("target-check", obj ("path", "s", store->path, "format", "s",
                                                          item->target.format, "size", "i",
                                                          (gint64) item->disk->size, NULL)));
    for (guint i = first; i < finish->len; i++)
        ((Action *) finish->pdata[i])->disk = g_strdup (item->disk->target);
}

static gboolean check_durability (Planner *p, GError **error)
{
    if (p->caps->reopen || p->caps->x_reopen)
        return TRUE;
    if (!(p->in->flags & BEGIN_ALLOW_UNPROVED))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("this QEMU (%s) cannot show that the target was flushed "
                             "(blockdev-reopen, since 4.0): "
                             "the copy would be unproved; allow that with --allow-unproved"),
                          p->caps->version_text ? p->caps->version_text : "?");
    planner_note (p, _("durability: unproved: this QEMU cannot show that the target was flushed"));
    return TRUE;
}

static gboolean check_backing (Planner *p, const Item *item, GError **error)
{
    if (!item->def || !item->def->backing)
        return TRUE;
    if (!g_str_equal (item->target.format, "qcow2") || item->target.store->type == STORE_NETWORK)
        return error_set (
            error, BAK_ERROR_INVALID_ARGUMENT,
            _("disk '%s': only an increment in a qcow2 file or device can be laid on '%s'"),
            item->disk->target, item->def->backing);
    if (item->sync != SYNC_INCREMENTAL && !item->out->reason)
        return error_set (
            error, BAK_ERROR_INVALID_ARGUMENT,
            _("disk '%s': a full backup is not laid on another ('%s'): --onto goes with --since"),
            item->disk->target, item->def->backing);
    for (guint i = 0; i < p->in->graph->nodes->len; i++) {
        const GraphNode *node = p->in->graph->nodes->pdata[i];
        if (g_strcmp0 (node->filename, item->def->backing) == 0)
            return error_set (
                error, BAK_ERROR_INVALID_ARGUMENT,
                _("disk '%s': '%s' is an image of the running guest, not a previous backup"),
                item->disk->target, item->def->backing);
    }
    return TRUE;
}

/* The increment holds what changed since the checkpoint: on anything but the backup of that instant
 * it makes a disk that never was. */
static gboolean add_backing_check (Planner *p, const Item *item, GError **error)
{
    const char *backing = item->def->backing;
    const Checkpoint *since = find_checkpoint (p->in, item->out->since);
    const CheckpointDisk *recorded = checkpoint_disk (since, item->disk);
    const Checkpoint *later =
        checkpoint_later_in_file (p->in->checkpoints, since->sequence, backing);

    if (later)
        return error_set (
            error, BAK_ERROR_INEXACT,
            _("disk '%s': '%s' holds the backup of checkpoint '%s', not that of '%s'"),
            item->disk->target, backing, later->name, since->name);
    if (!recorded->backup)
        planner_note (p,
                      _("disk '%s': nothing is recorded of the file that holds the backup of "
                         "checkpoint '%s'; that it is '%s' is taken on trust"),
                      item->disk->target, since->name, backing);
    plan_add (p->plan, _("check the previous backup"), item->disk->target,
              own_action ("backing-check",
                          obj ("path", "s", backing, "size", "i", (gint64) item->disk->size,
                               "checkpoint", "s", since->name, "backup", "s", recorded->backup,
                               "backup-id", "s", recorded->backup_id, NULL)),
              NULL);
    return TRUE;
}

/* The instant of one disk: kept by a scratch, so that a slow, full or dead target meets no write of
 * the guest, else copied from the disk itself. */
static void take_instant (Planner *p, Item *item)
{
    gboolean direct = item->way == WAY_DIRECT;
    g_autofree char *bitmap = item->changes ? own_name (p, "inc", item) : NULL,
                    *scratch = own_name (p, "scr", item);

    if (bitmap)
        tx_changes (p, item, direct ? item->disk->node : scratch, bitmap);
    if (direct)
        tx_copy (p, item, device_of (p, item), bitmap);
    else
        tx_keep (p, item);
}

/* The copy of what the scratch keeps. */
static void copy_from_scratch (Planner *p, Item *item)
{
    g_autofree char *view = add_view (p, item), *scratch = own_name (p, "scr", item),
                    *bitmap = item->changes ? own_name (p, "inc", item) : NULL;
    if (bitmap) {
        tx_add (p, "block-dirty-bitmap-add",
                obj ("node", "s", view, "name", "s", bitmap, "disabled", "b", TRUE, NULL));
        tx_add (p, "block-dirty-bitmap-merge",
                obj ("node", "s", view, "target", "s", bitmap, "bitmaps", "a",
                     arr (obj ("node", "s", scratch, "name", "s", bitmap, NULL), NULL), NULL));
        tx_undo (p, bitmap_remove (view, bitmap));
    }
    if (item->way == WAY_MIRROR)
        add_mirror (p, item, view);
    else
        tx_copy (p, item, view, bitmap);
}

static gboolean add_copies (Planner *p, GError **error)
{
    for (guint i = 0; i < p->items->len; i++)
        take_instant (p, p->items->pdata[i]);
    if (!add_point_in_time (p, error))
        return FALSE;
    for (guint i = 0; i < p->items->len; i++) {
        Item *item = p->items->pdata[i];
        if (item->way != WAY_DIRECT)
            copy_from_scratch (p, item);
    }
    if (json_array_get_length (p->actions) > 0)
        add_actions (p, _("start the copy"));
    return TRUE;
}

gboolean plan_push (Planner *p, GError **error)
{
    const gboolean at_end = p->in->def->instant == INSTANT_END;

    if (!check_durability (p, error) || (at_end && !check_at_end (p, error)))
        return FALSE;
    for (guint i = 0; i < p->items->len; i++) {
        Item *item = p->items->pdata[i];
        if (!check_way (item, error) || !check_backing (p, item, error))
            return FALSE;
        if (item->sync == SYNC_INCREMENTAL && item->def && item->def->backing
            && !add_backing_check (p, item, error))
            return FALSE;
    }
    add_places (p, FALSE);
    add_places (p, TRUE);
    if (!tx_checkpoint (p, FALSE, error))
        return FALSE;
    if (at_end)
        add_mirrors (p);
    else if (!add_copies (p, error))
        return FALSE;
    for (guint i = 0; i < p->items->len; i++)
        finish_job (p, p->items->pdata[i]);
    for (guint i = 0; i < p->items->len; i++)
        finish_push (p, p->items->pdata[i]);
    return TRUE;
}
