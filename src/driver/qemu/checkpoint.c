/* Checkpoints: points in time whose bitmaps say what has changed since. Every bitmap records on its own, so that removing
 * one never takes anything from another; a backup reads a merged copy and consumes nothing. */
#include <glib/gi18n-lib.h>
#include "driver/qemu/build.h"
#include "driver/qemu/job.h"
#include "util/json.h"

static gint64 next_sequence (GPtrArray *all)
{
    gint64 last = 0;
    for (guint i = 0; i < all->len; i++)
        last = MAX (last, ((Checkpoint *) all->pdata[i])->sequence);
    return last + 1;
}

static CheckpointDisk *promoted_disk (const Graph *graph, JsonObject *from, const char *bitmap_name)
{
    CheckpointDisk *disk = checkpoint_disk_new (json_get_string (from, "disk"));
    const GraphNode *node = graph ? graph_node (graph, json_get_string (from, "node")) : NULL;
    const GraphBitmap *bitmap = node ? graph_bitmap (node, bitmap_name) : NULL;
    disk->node = g_strdup (json_get_string (from, "node"));
    disk->file = g_strdup (json_get_string (from, "file"));
    disk->bitmap = g_strdup (bitmap_name);
    disk->persistent = json_get_bool (from, "persistent", TRUE);
    disk->size = json_get_int (from, "size", 0);
    disk->granularity = bitmap ? bitmap->granularity : 0;
    return disk;
}

/* The provisional checkpoint becomes a real one: its record is what makes it so. Idempotent. Returns its name, caller frees. */
char *checkpoint_promote (Guest *guest, const Job *job, GError **error)
{
    const Plan *plan = job->plan;
    g_autoptr (GPtrArray) all = checkpoint_load_all (guest->dir, NULL);
    g_autoptr (Graph) graph = guest->qmp && qmp_is_alive (guest->qmp, NULL) ? guest_graph (guest, NULL) : NULL;
    g_autoptr (Checkpoint) checkpoint = checkpoint_new (plan->checkpoint);
    const Checkpoint *parent = NULL;

    for (guint i = 0; i < all->len; i++) {
        const Checkpoint *other = all->pdata[i];
        if (g_str_equal (other->name, plan->checkpoint))
            return g_strdup (plan->checkpoint);
        parent = other;
    }
    checkpoint->parent = parent ? g_strdup (parent->name) : NULL;
    checkpoint->description = g_strdup (plan->checkpoint_description);
    checkpoint->series = g_strdup (plan->series);
    checkpoint->created = job->record.started / G_USEC_PER_SEC;
    checkpoint->sequence = next_sequence (all);
    checkpoint->job = plan->disks->len ? g_strdup (plan->job) : NULL;
    checkpoint->domain_uuid = g_strdup (guest->def->uuid);
    for (guint i = 0; i < json_array_get_length (plan->checkpoint_disks); i++) {
        JsonObject *disk = json_get_element (plan->checkpoint_disks, i);
        if (disk && json_get_string (disk, "disk"))
            g_ptr_array_add (checkpoint->disks, promoted_disk (graph, disk, plan->checkpoint));
    }
    if (!checkpoint_save (guest->dir, checkpoint, error)) {
        error_note (error, _("checkpoint '%s'"), plan->checkpoint);
        return NULL;
    }
    return g_strdup (plan->checkpoint);
}
