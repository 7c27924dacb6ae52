/* The bitmaps of a checkpoint, made in the same transaction as the backup or alone. */
#include <glib/gi18n-lib.h>
#include "driver/qemu/planner.h"
#include "job/seal.h"

static const CheckpointDiskDef *checkpoint_disk_def (Planner *p, const GraphDisk *disk)
{
    for (guint i = 0; i < p->in->checkpoint->disks->len; i++) {
        const CheckpointDiskDef *def = p->in->checkpoint->disks->pdata[i];
        for (guint k = 0; k < disk->names->len; k++)
            if (g_str_equal (def->name, disk->names->pdata[k]))
                return def;
    }
    return NULL;
}

static void tx_bitmap (Planner *p, const GraphDisk *disk, const char *name, guint64 granularity,
                       gboolean persistent)
{
    JsonObject *add = obj ("node", "s", disk->node, "name", "s", name, NULL);
    if (granularity)
        json_object_set_int_member (add, "granularity", granularity);
    json_object_set_boolean_member (add, "persistent", persistent);
    tx_add (p, "block-dirty-bitmap-add", add);
    tx_undo (p, kept (bitmap_remove (disk->node, name)));
}

static gboolean tx_checkpoint_disk (Planner *p, const GraphDisk *disk, const CheckpointDiskDef *def,
                                    guint64 granularity, GError **error)
{
    const char *name = p->in->checkpoint->name;
    const GraphNode *node = graph_node (p->in->graph, disk->node);
    gboolean can_persist = node && node->keeps_bitmaps;
    const char *format = node && node->driver ? node->driver : "?";
    if (g_str_equal (format, "qcow2"))
        format = "qcow2 0.10"; /* the version that keeps no bitmaps */
    gboolean memory = def && def->persistent == TRISTATE_NO;

    if (def && def->bitmap && !g_str_equal (def->bitmap, name))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("disk '%s': the bitmap is named like its checkpoint, '%s', not '%s'"),
                          disk->target, name, def->bitmap);
    if (!can_persist && !memory) {
        if (def || p->in->graph->disks->len == 1)
            return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                              _("disk '%s': an image in format '%s' cannot keep a bitmap; "
                                 "ask for one in memory with persistent='no' (--memory-bitmap): it "
                                 "dies with the QEMU process"),
                              disk->target, format);
        planner_note (
            p,
            _("disk '%s' is not in checkpoint '%s': an image in format '%s' cannot keep a bitmap; "
               "persistent='no' (--memory-bitmap) makes one that dies with the QEMU process"),
            disk->target, name, format);
        return TRUE;
    }
    for (const GraphNode *layer = node; layer;
         layer = layer->backing ? graph_node (p->in->graph, layer->backing) : NULL)
        if (graph_bitmap (layer, name))
            return error_set (
                error, BAK_ERROR_EXISTS,
                _("disk '%s': the image '%s' has a bitmap '%s' already; see checkpoint-check"),
                disk->target, layer->filename, name);
    if (def && def->granularity)
        granularity = def->granularity;
    if (memory)
        planner_note (p,
                      _("disk '%s': the bitmap of checkpoint '%s' is in memory only: it dies with "
                         "the QEMU process"),
                      disk->target, name);
    g_autofree char *seal = p->in->seal ? seal_name (p->in->seal, name, disk->target) : NULL;
    gboolean guarded = seal && seal_has_end (p, disk->size);
    tx_bitmap (p, disk, name, granularity, !memory);
    if (seal)
        tx_bitmap (p, disk, seal, granularity, !memory);
    if (guarded)
        tx_seal_end (p, disk, seal, !memory);
    json_array_add_object_element (p->plan->checkpoint_disks,
                                   obj ("disk", "s", disk->target, "node", "s", disk->node, "file",
                                        "s", node->filename, "format", "s", node->driver, "size",
                                        "i", (gint64) disk->size, "persistent", "b", !memory,
                                        "seal", "s", seal, "guarded", "b", guarded, NULL));
    return TRUE;
}

static Item *item_of (Planner *p, const GraphDisk *disk)
{
    for (guint i = 0; i < p->items->len; i++)
        if (((Item *) p->items->pdata[i])->disk == disk)
            return p->items->pdata[i];
    return NULL;
}

static gboolean refuse_checkpoint (const GraphDisk *disk, const char *name, GError **error)
{
    return error_set (error, BAK_ERROR_NO_DISK, _("disk '%s' cannot have a checkpoint: it %s"),
                      name, graph_disk_excluded (disk));
}

static gboolean check_checkpoint_names (Planner *p, GError **error)
{
    const CheckpointDef *checkpoint = p->in->checkpoint;
    g_autoptr (GHashTable) seen = g_hash_table_new (NULL, NULL);
    for (guint i = 0; i < checkpoint->disks->len; i++) {
        const CheckpointDiskDef *def = checkpoint->disks->pdata[i];
        const GraphDisk *disk = graph_disk (p->in->graph, def->name, error);
        if (!disk)
            return FALSE;
        if (!g_hash_table_add (seen, (gpointer) disk))
            return error_set (error, BAK_ERROR_XML,
                              _("disk '%s' is named twice in the checkpoint"), def->name);
        if (def->checkpoint == TRISTATE_NO)
            continue;
        if (graph_disk_excluded (disk))
            return refuse_checkpoint (disk, def->name, error);
    }
    return TRUE;
}

/* alone: every disk that is not excluded; with a backup: the disks of the backup whose copy will be
 * whole. */
gboolean tx_checkpoint (Planner *p, gboolean alone, GError **error)
{
    const CheckpointDef *checkpoint = p->in->checkpoint;
    if (!checkpoint)
        return TRUE;
    if (!checkpoint_name_check (checkpoint->name, error) || !check_checkpoint_names (p, error))
        return FALSE;
    if (find_checkpoint (p->in, checkpoint->name))
        return error_set (error, BAK_ERROR_EXISTS, _("checkpoint '%s' exists already"),
                          checkpoint->name);
    if (!p->caps->bitmap_merge)
        return error_set (
            error, BAK_ERROR_NOT_SUPPORTED,
            _("checkpoint '%s': checkpoints need block-dirty-bitmap-merge (QEMU 4.0); this is %s"),
            checkpoint->name, p->caps->version_text ? p->caps->version_text : "?");
    guint before = json_array_get_length (p->actions);
    for (guint i = 0; i < p->in->graph->disks->len; i++) {
        const GraphDisk *disk = p->in->graph->disks->pdata[i];
        const CheckpointDiskDef *def = checkpoint_disk_def (p, disk);
        Item *item = item_of (p, disk);
        if (alone && disk->elsewhere && !def && !checkpoint->has_disks)
            return refuse_checkpoint (disk, disk->target, error);
        if (graph_disk_excluded (disk)
            || (def ? def->checkpoint == TRISTATE_NO : checkpoint->has_disks))
            continue;
        if (!alone && !def && !item)
            continue;
        if (!alone && !item)
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                              _("disk '%s' is in the checkpoint but not in the backup: an "
                                 "increment from it would have no base"),
                              disk->target);
        if (item && (item->sync == SYNC_TOP || item->sync == SYNC_NONE)) {
            planner_note (p,
                          _("disk '%s' is not in checkpoint '%s': a copy with sync='%s' is no "
                             "base of an increment"),
                          disk->target, checkpoint->name, sync_types[item->sync]);
            continue;
        }
        if (!tx_checkpoint_disk (p, disk, def, item && item->def ? item->def->granularity : 0,
                                 error))
            return FALSE;
    }
    if (json_array_get_length (p->actions) == before) {
        g_autofree char *notes = plan_notes (p->plan);
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("checkpoint '%s' would cover no disk: %s"), checkpoint->name,
                          *notes ? notes : _("none is left"));
    }
    add_seal_ends (p);
    p->plan->checkpoint = g_strdup (checkpoint->name);
    p->plan->checkpoint_description = g_strdup (checkpoint->description);
    p->plan->series = p->in->def ? g_strdup (p->in->def->series) : NULL;
    return TRUE;
}
