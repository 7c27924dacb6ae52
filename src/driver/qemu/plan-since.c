/* Full or incremental: which bitmaps say what changed since a checkpoint, or why no increment is
 * exact. */
#include <glib/gi18n-lib.h>
#include "driver/qemu/planner.h"
#include "job/chain.h"
#include "job/seal.h"

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
        if (g_strcmp0 (checkpoint->series, series) == 0
            && (!newest || checkpoint->sequence > newest->sequence))
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

static gboolean bitmap_usable (const GraphBitmap *bitmap, const CheckpointDisk *recorded,
                               gboolean active, char **ret_reason)
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

/* QEMU writes persistent bitmaps when it closes the image: one that was made by a QEMU that was
 * killed is not there at all, one that had been stored before is there and marked. Both are the
 * same to the user. */
static const char *missing_reason (const Graph *graph, const GraphNode *node,
                                   const CheckpointDisk *recorded, gboolean active)
{
    if (!active)
        return _("gap in the image chain: a layer has no bitmap");
    for (const GraphNode *below = node; below;
         below = below->backing ? graph_node (graph, below->backing) : NULL)
        if (graph_bitmap (below, recorded->bitmap))
            return _("an external snapshot was taken and the overlay does not track changes");
    if (recorded->seal && graph_bitmap (node, recorded->seal))
        return _("bitmap missing: somebody has removed it, and left its seal");
    if (!recorded->persistent)
        return _("bitmap missing: it was in memory only and died with the QEMU process");
    if (recorded->file && *recorded->file && g_strcmp0 (recorded->file, node->filename) != 0)
        return _("bitmap missing: another image than that of the checkpoint");
    return _("bitmap inconsistent: it was never stored because QEMU was killed or crashed, or it "
              "was removed");
}

SealBitmap plan_seal_bitmap (const GraphNode *node, const char *name)
{
    const GraphBitmap *bitmap = graph_bitmap (node, name);
    return bitmap ? (SealBitmap){ .there = TRUE,
                                  .inconsistent = bitmap->inconsistent,
                                  .has_count = TRUE,
                                  .count = bitmap->count }
                  : (SealBitmap){ 0 };
}

SealBitmap plan_seal_end (const GraphNode *node, const CheckpointDisk *recorded)
{
    g_autofree char *name = seal_end_name (recorded->seal);
    return plan_seal_bitmap (node, name);
}

char *plan_seal_broken (const GraphNode *node, const CheckpointDisk *recorded)
{
    const SealBitmap bitmap = plan_seal_bitmap (node, recorded->bitmap),
                     seal = plan_seal_bitmap (node, recorded->seal),
                     end = plan_seal_end (node, recorded);
    return seal_broken (recorded, &bitmap, &seal, &end);
}

/* The image that the checkpoint was made on: by its seal, by its name only where there is none. */
static gboolean is_image_of (const GraphNode *node, const CheckpointDisk *recorded)
{
    if (recorded->seal)
        return graph_bitmap (node, recorded->seal) != NULL;
    return !recorded->file || !*recorded->file || g_strcmp0 (recorded->file, node->filename) == 0;
}

static gboolean is_sealed_below (const Graph *graph, const GraphNode *node,
                                 const CheckpointDisk *recorded)
{
    for (; node; node = node->backing ? graph_node (graph, node->backing) : NULL)
        if (graph_bitmap (node, recorded->seal))
            return TRUE;
    return FALSE;
}

/* node: the last of the chain that bears the checkpoint's bitmap. Caller frees; NULL: it is. */
static char *not_the_image (const GraphNode *node, const CheckpointDisk *recorded)
{
    if (!recorded->seal)
        return is_image_of (node, recorded)
                   ? NULL
                   : g_strdup_printf (_("image replaced: the checkpoint was made on '%s'"),
                                      recorded->file);
    return plan_seal_broken (node, recorded);
}

JsonArray *plan_changes_since (const Graph *graph, const GraphDisk *disk, const Checkpoint *since,
                               char **ret_reason)
{
    const CheckpointDisk *recorded = checkpoint_disk (since, disk);
    *ret_reason = NULL;
    if (!recorded) {
        *ret_reason = g_strdup (_("disk not in the checkpoint"));
        return NULL;
    }
    if (recorded->shrunk) {
        *ret_reason = g_strdup (_(
            "disk was resized: it has been smaller since, and what was cut off is in no bitmap"));
        return NULL;
    }
    if (recorded->size && recorded->size != disk->size) {
        *ret_reason = g_strdup_printf (
            _("disk resized from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT " bytes"),
            recorded->size, disk->size);
        return NULL;
    }
    g_autoptr (JsonArray) list = json_array_new ();
    const GraphNode *last = NULL;
    gboolean reached = FALSE, active = TRUE;
    for (const GraphNode *node = graph_node (graph, disk->node); node && !reached;
         node = node->backing ? graph_node (graph, node->backing) : NULL) {
        const GraphBitmap *bitmap = graph_bitmap (node, recorded->bitmap);
        if (!bitmap && last && recorded->seal && !is_sealed_below (graph, node, recorded))
            break;
        if (!bitmap) {
            *ret_reason = g_strdup (missing_reason (graph, node, recorded, active));
            return NULL;
        }
        if (!bitmap_usable (bitmap, recorded, active, ret_reason))
            return NULL;
        json_array_add_object_element (
            list, obj ("node", "s", node->name, "name", "s", recorded->bitmap, NULL));
        last = node;
        reached = is_image_of (node, recorded);
        active = FALSE;
    }
    *ret_reason = last ? not_the_image (last, recorded) : g_strdup (_("the disk has no image"));
    return *ret_reason ? NULL : g_steal_pointer (&list);
}

static const Checkpoint *start_of (const PlanInput *in, const BackupDiskDef *disk)
{
    const char *name = disk && disk->incremental ? disk->incremental : in->def->incremental;
    return name              ? find_checkpoint (in, name)
           : in->def->series ? newest_of_series (in, in->def->series)
                             : NULL;
}

static gboolean is_as_it_was_left (const PlanInput *in, const char *backing,
                                   const Checkpoint *since, const CheckpointDisk *recorded,
                                   GError **error)
{
    const Checkpoint *later = checkpoint_later_in_file (in->checkpoints, since->sequence, backing);
    if (later)
        return error_set (error, BAK_ERROR_INEXACT,
                          _("'%s' holds the backup of checkpoint '%s', not that of '%s'"), backing,
                          later->name, since->name);
    return chain_is_backup_of (backing, since->name, recorded->backup, recorded->backup_id, error)
           && (!recorded->backup_chain || chain_check (backing, recorded->backup_chain, error));
}

const char *plan_file_below (const Graph *graph, const GraphNode *node)
{
    const GraphNode *below = node->backing ? graph_node (graph, node->backing) : NULL;
    return below ? below->filename : NULL;
}

const char *plan_data_file (const Graph *graph, const GraphNode *node)
{
    const GraphNode *data = node->data ? graph_node (graph, node->data) : NULL;
    return data ? data->filename : NULL;
}

const GraphNode *plan_image_of (const Graph *graph, const GraphDisk *disk,
                                const CheckpointDisk *recorded)
{
    const GraphNode *node = graph_node (graph, disk->node);
    while (node && !is_image_of (node, recorded))
        node = node->backing ? graph_node (graph, node->backing) : NULL;
    return node;
}

char *plan_layers_differ (const Graph *graph, const GraphDisk *disk, const CheckpointDisk *recorded)
{
    const GraphNode *node =
        recorded->layers || recorded->data ? plan_image_of (graph, disk, recorded) : NULL;
    g_autofree char *below =
        node && recorded->layers
            ? chain_check_below (plan_file_below (graph, node), recorded->layers)
            : NULL;
    g_autofree char *data = node && recorded->data
                                ? chain_check_data (plan_data_file (graph, node), recorded->data)
                                : NULL;
    return below || data
               ? g_strdup_printf (_("what the image stands on is not as it was at the checkpoint: "
                                     "%s"),
                                  below ? below : data)
               : NULL;
}

static const BackupDiskDef *def_of (const PlanInput *in, const GraphDisk *disk)
{
    for (guint i = 0; i < in->def->disks->len; i++) {
        const BackupDiskDef *def = in->def->disks->pdata[i];
        if (graph_disk (in->graph, def->name, NULL) == disk)
            return def;
    }
    return NULL;
}

static void look_below (const PlanInput *in, GHashTable *touched)
{
    for (guint i = 0; i < in->graph->disks->len; i++) {
        const GraphDisk *disk = in->graph->disks->pdata[i];
        const Checkpoint *since = start_of (in, def_of (in, disk));
        const CheckpointDisk *recorded = since && disk->node ? checkpoint_disk (since, disk) : NULL;
        char *differs = recorded ? plan_layers_differ (in->graph, disk, recorded) : NULL;
        if (differs)
            g_hash_table_replace (touched, (gpointer) disk, differs);
    }
}

GHashTable *plan_look_at_backings (const PlanInput *in)
{
    GHashTable *touched = g_hash_table_new_full (NULL, NULL, NULL, g_free);
    for (guint i = 0; i < in->def->disks->len; i++) {
        const BackupDiskDef *def = in->def->disks->pdata[i];
        const Checkpoint *since = def->backing ? start_of (in, def) : NULL;
        const GraphDisk *disk = since ? graph_disk (in->graph, def->name, NULL) : NULL;
        const CheckpointDisk *recorded = disk ? checkpoint_disk (since, disk) : NULL;
        g_autoptr (GError) failure = NULL;
        if (recorded && !is_as_it_was_left (in, def->backing, since, recorded, &failure))
            g_hash_table_replace (touched, (gpointer) def, g_strdup (failure->message));
    }
    look_below (in, touched);
    return touched;
}

static Fallback wanted_fallback (Planner *p, const Item *item)
{
    if (item->def && item->def->fallback != FALLBACK_DEFAULT)
        return item->def->fallback;
    return p->in->def->fallback == FALLBACK_DEFAULT ? FALLBACK_REFUSE : p->in->def->fallback;
}

/* NULL: nothing that is known. */
static const char *what_was_touched (const PlanInput *in, const Item *item)
{
    const char *below = in->touched ? g_hash_table_lookup (in->touched, item->disk) : NULL;
    return below || !in->touched || !item->def ? below
                                               : g_hash_table_lookup (in->touched, item->def);
}

/* Sets item->changes, or falls back to full with the reason, or refuses. */
gboolean resolve_incremental (Planner *p, Item *item, GError **error)
{
    const BackupDef *def = p->in->def;
    const char *name =
        item->def && item->def->incremental ? item->def->incremental : def->incremental;
    const Checkpoint *since = start_of (p->in, item->def);
    g_autofree char *reason = NULL;

    if (!name && !def->series)
        return error_set (
            error, BAK_ERROR_XML,
            _("disk '%s': an incremental backup needs the checkpoint that it starts from: "
               "set incremental='CHECKPOINT' for the disk or <incremental>CHECKPOINT</incremental> "
               "for all (--since)"),
            item->disk->target);
    if (since) {
        const char *touched = what_was_touched (p->in, item);
        item->changes = plan_changes_since (p->in->graph, item->disk, since, &reason);
        if (item->changes && touched) {
            g_clear_pointer (&item->changes, json_array_unref);
            reason = g_strdup (touched);
        }
    } else {
        reason = name ? g_strdup_printf (_("checkpoint '%s' does not exist"), name)
                      : g_strdup_printf (_("series '%s' has no checkpoint yet"), def->series);
    }
    const CheckpointDisk *recorded = item->changes ? checkpoint_disk (since, item->disk) : NULL;
    if (recorded && !recorded->seal) {
        g_autofree char *note = seal_missing_note (item->disk->target, since->name);
        planner_note (p, "%s", note);
    }
    if (item->changes) {
        item->out->since = g_strdup (since->name);
        return TRUE;
    }
    if (wanted_fallback (p, item) == FALLBACK_FULL) {
        item->sync = SYNC_FULL;
        item->out->reason = g_steal_pointer (&reason);
        planner_note (p, _("disk '%s': full instead of incremental: %s"), item->disk->target,
                      item->out->reason);
        return TRUE;
    }
    return plan_refuse_increment (def, item->disk->target, name ? name : def->series, reason,
                                  error);
}
