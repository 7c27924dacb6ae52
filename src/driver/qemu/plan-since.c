/* Full or incremental: which bitmaps say what changed since a checkpoint, or why no increment is exact. */
#include <glib/gi18n-lib.h>
#include "driver/qemu/planner.h"

const Checkpoint *find_checkpoint (const PlanInput *in, const char *name)
{
    for (guint i = 0; in->checkpoints && i < in->checkpoints->len; i++) {
        const Checkpoint *checkpoint = in->checkpoints->pdata[i];
        if (g_str_equal (checkpoint->name, name))
            return checkpoint;
    }
    return NULL;
}

static const Checkpoint *newest_of_series (const PlanInput *in, const char *series)
{
    const Checkpoint *newest = NULL;
    for (guint i = 0; in->checkpoints && i < in->checkpoints->len; i++) {
        const Checkpoint *checkpoint = in->checkpoints->pdata[i];
        if (g_strcmp0 (checkpoint->series, series) == 0 && (!newest || checkpoint->sequence > newest->sequence))
            newest = checkpoint;
    }
    return newest;
}

const CheckpointDisk *checkpoint_disk (const Checkpoint *checkpoint, const GraphDisk *disk)
{
    for (guint i = 0; i < checkpoint->disks->len; i++) {
        const CheckpointDisk *candidate = checkpoint->disks->pdata[i];
        if (g_str_equal (candidate->disk, disk->target))
            return candidate;
    }
    for (guint i = 0; i < checkpoint->disks->len; i++) {
        const CheckpointDisk *candidate = checkpoint->disks->pdata[i];
        for (guint k = 0; k < disk->names->len; k++)
            if (g_str_equal (candidate->disk, disk->names->pdata[k]))
                return candidate;
    }
    return NULL;
}

static gboolean bitmap_usable (const GraphBitmap *bitmap, const CheckpointDisk *recorded, gboolean active, char **ret_reason)
{
    const char *reason = NULL;
    if (bitmap->inconsistent)
        reason = _("bitmap inconsistent");
    else if (bitmap->busy)
        reason = _("bitmap in use by another operation");
    else if (active && !bitmap->recording)
        reason = _("bitmap not recording");
    else if (recorded->granularity && bitmap->granularity != recorded->granularity)
        reason = _("bitmap has another granularity than the checkpoint's");
    if (reason)
        *ret_reason = g_strdup (reason);
    return reason == NULL;
}

/* QEMU writes persistent bitmaps when it closes the image: one that was made by a QEMU that was killed is not there at all, one that had
 * been stored before is there and marked. Both are the same to the user. */
static const char *missing_reason (const Graph *graph, const GraphNode *node, const CheckpointDisk *recorded, gboolean active)
{
    if (!active)
        return _("gap in the image chain: a layer has no bitmap");
    for (const GraphNode *below = node; below; below = below->backing ? graph_node (graph, below->backing) : NULL)
        if (graph_bitmap (below, recorded->bitmap))
            return _("an external snapshot was taken and the overlay does not track changes");
    if (!recorded->persistent)
        return _("bitmap missing: it was in memory only and died with the QEMU process");
    if (recorded->file && *recorded->file && g_strcmp0 (recorded->file, node->filename) != 0)
        return _("bitmap missing: another image than that of the checkpoint");
    return _("bitmap inconsistent: it was never stored because QEMU was killed or crashed, or it was removed");
}

JsonArray *plan_changes_since (const Graph *graph, const GraphDisk *disk, const Checkpoint *since, char **ret_reason)
{
    const CheckpointDisk *recorded = checkpoint_disk (since, disk);
    *ret_reason = NULL;
    if (!recorded) {
        *ret_reason = g_strdup (_("disk not in the checkpoint"));
        return NULL;
    }
    if (recorded->shrunk) {
        *ret_reason = g_strdup (_("disk was resized: it has been smaller since, and what was cut off is in no bitmap"));
        return NULL;
    }
    if (recorded->size && recorded->size != disk->size) {
        *ret_reason = g_strdup_printf (_("disk resized from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT " bytes"), recorded->size, disk->size);
        return NULL;
    }
    g_autoptr (JsonArray) list = json_array_new ();
    gboolean reached = FALSE, active = TRUE;
    for (const GraphNode *node = graph_node (graph, disk->node); node && !reached; node = node->backing ? graph_node (graph, node->backing) : NULL) {
        const GraphBitmap *bitmap = graph_bitmap (node, recorded->bitmap);
        if (!bitmap) {
            *ret_reason = g_strdup (missing_reason (graph, node, recorded, active));
            return NULL;
        }
        if (!bitmap_usable (bitmap, recorded, active, ret_reason))
            return NULL;
        json_array_add_object_element (list, obj ("node", "s", node->name, "name", "s", recorded->bitmap, NULL));
        reached = !recorded->file || !*recorded->file || g_strcmp0 (recorded->file, node->filename) == 0;
        active = FALSE;
    }
    if (!reached) {
        *ret_reason = g_strdup_printf (_("image replaced: the checkpoint was made on '%s'"), recorded->file);
        return NULL;
    }
    return g_steal_pointer (&list);
}

static Fallback wanted_fallback (Planner *p, const Item *item)
{
    if (item->def && item->def->fallback != FALLBACK_DEFAULT)
        return item->def->fallback;
    return p->in->def->fallback == FALLBACK_DEFAULT ? FALLBACK_REFUSE : p->in->def->fallback;
}

/* Sets item->changes, or falls back to full with the reason, or refuses. */
gboolean resolve_incremental (Planner *p, Item *item, GError **error)
{
    const BackupDef *def = p->in->def;
    const char *name = item->def && item->def->incremental ? item->def->incremental : def->incremental;
    const Checkpoint *since = name ? find_checkpoint (p->in, name) : def->series ? newest_of_series (p->in, def->series) : NULL;
    g_autofree char *reason = NULL;
    BakErrorCode code = BAK_ERROR_INEXACT;

    if (!name && !def->series)
        return error_set (error, BAK_ERROR_XML, _("disk '%s': an incremental backup needs the checkpoint that it starts from: "
                          "set incremental='CHECKPOINT' for the disk or <incremental>CHECKPOINT</incremental> for all (--since)"), item->disk->target);
    if (since) {
        item->changes = plan_changes_since (p->in->graph, item->disk, since, &reason);
    } else {
        code = BAK_ERROR_NO_CHECKPOINT;
        reason = name ? g_strdup_printf (_("checkpoint '%s' does not exist"), name)
                      : g_strdup_printf (_("series '%s' has no checkpoint yet"), def->series);
    }
    if (item->changes) {
        item->out->since = g_strdup (since->name);
        return TRUE;
    }
    if (wanted_fallback (p, item) == FALLBACK_FULL) {
        item->sync = SYNC_FULL;
        item->out->reason = g_steal_pointer (&reason);
        planner_note (p, _("disk '%s': full instead of incremental: %s"), item->disk->target, item->out->reason);
        return TRUE;
    }
    return error_set (error, code, _("disk '%s': no exact increment since '%s' is possible: %s; make a full backup, or allow one for such "
                      "disks with fallback='full' (--fallback full)"), item->disk->target, name ? name : def->series, reason);
}
