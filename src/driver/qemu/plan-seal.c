/* The bitmaps of a seal. The one records beside the checkpoint's bitmap. The other does not record
 * and has the disk's last sector set: who makes the disk smaller clears it, and no write of the
 * guest sets it again. QEMU has no command that sets a bit; so one is set by writing, into a node
 * of ours that is as large as the disk and keeps nothing, and merged. */
#include <glib/gi18n-lib.h>
#include "driver/qemu/planner.h"
#include "job/seal.h"

enum { SECTOR = 512, MAX_END_GRANULARITY = 65536, MAX_END_BITS = 1048576 };

/* As fine as 128 KiB of memory for a checkpoint's disk allow: less than that much cut off is not
 * seen. */
static guint64 end_granularity (guint64 size)
{
    guint64 granularity = SECTOR;
    while (granularity < MAX_END_GRANULARITY && size / granularity > MAX_END_BITS)
        granularity *= 2;
    return granularity;
}

gboolean seal_has_end (const Planner *p, guint64 size)
{
    const Caps *caps = p->caps;
    gboolean can_set = caps->jobs && caps->backup_auto_dismiss && caps->raw_size,
             can_merge = caps->bitmap_merge && caps->bitmap_disabled && caps->transaction;
    return can_set && can_merge && size > SECTOR && size % SECTOR == 0;
}

static char *end_name (Planner *p, const char *role, guint index)
{
    g_autofree char *name = own_name (p, role, NULL);
    return g_strdup_printf ("%s%u", name, index);
}

/* Disks of one size have one. */
static char *end_of_size (Planner *p, guint64 size)
{
    guint index = 0;
    while (index < p->ends->len && g_array_index (p->ends, guint64, index) != size)
        index++;
    if (index == p->ends->len)
        g_array_append_val (p->ends, size);
    return end_name (p, "end", index);
}

void tx_seal_end (Planner *p, const GraphDisk *disk, const char *seal, gboolean persistent)
{
    g_autofree char *name = seal_end_name (seal), *source = end_of_size (p, disk->size);

    tx_add (p, "block-dirty-bitmap-add",
            obj ("node", "s", disk->node, "name", "s", name, "granularity", "i",
                 (gint64) end_granularity (disk->size), "persistent", "b", persistent, "disabled",
                 "b", TRUE, NULL));
    tx_add (p, "block-dirty-bitmap-merge",
            obj ("node", "s", disk->node, "target", "s", name, "bitmaps", "a",
                 arr (obj ("node", "s", source, "name", "s", "bak-end", NULL), NULL), NULL));
    tx_undo (p, kept (bitmap_remove (disk->node, name)));
}

/* A window on the last sector of a node as large as the disk. */
static void add_window (Planner *p, guint index, guint64 size)
{
    g_autofree char *node = end_name (p, "end", index), *window = end_name (p, "enw", index);
    JsonObject *file =
        obj ("driver", "s", "null-co", "node-name", "s", node, "size", "i", (gint64) size, NULL);
    plan_add (p->plan, _("open what the end of a seal is taken from"), NULL,
              node_add (p, obj ("driver", "s", "raw", "node-name", "s", window, "offset", "i",
                                (gint64) (size - SECTOR), "size", "i", (gint64) SECTOR, "file", "o",
                                file, NULL)),
              node_del (p, window), NULL);
}

static void write_end (Planner *p, guint index, const char *sector, JsonArray *actions,
                       GPtrArray *undo)
{
    g_autofree char *node = end_name (p, "end", index), *window = end_name (p, "enw", index),
                    *job = end_name (p, "enj", index);
    json_array_add_object_element (actions, obj ("type", "s", "block-dirty-bitmap-add", "data", "o",
                                                 obj ("node", "s", node, "name", "s", "bak-end",
                                                      "granularity", "i", (gint64) SECTOR, NULL),
                                                 NULL));
    json_array_add_object_element (
        actions, obj ("type", "s", "blockdev-backup", "data", "o",
                      obj ("job-id", "s", job, "device", "s", sector, "target", "s", window, "sync",
                           "s", "full", "auto-dismiss", "b", !p->caps->concluded_backup_safe, NULL),
                      NULL));
    g_ptr_array_add (undo, job_cancel (p, job));
    g_ptr_array_add (
        undo, guarded (own_action ("job-wait-end", obj ("job", "s", job, NULL)), "job", job));
    g_ptr_array_add (undo, job_dismiss (job));
}

/* A job that dismisses itself has no result to ask for: a bit that was not set is an end that every
 * later look finds cleared, which refuses and never deceives. */
static void end_writing (Planner *p, guint index)
{
    g_autofree char *job = end_name (p, "enj", index);
    gboolean stays = p->caps->concluded_backup_safe;

    plan_add (p->plan, _("wait until it is written"), NULL,
              own_action (stays ? "job-wait" : "job-wait-end", obj ("job", "s", job, NULL)), NULL);
    if (stays)
        plan_add (p->plan, _("take note of its result"), NULL,
                  qmp_action ("job-dismiss", obj ("id", "s", job, NULL)), NULL);
}

/* From the first of the ends to before the last of them, at once. */
static void write_ends (Planner *p, const char *sector, guint first, guint last)
{
    JsonArray *actions = json_array_new ();
    Step *step = plan_add (p->plan, _("set the last sector in a bitmap of ours"), NULL,
                           qmp_action ("transaction", obj ("actions", "a", actions, NULL)), NULL);
    for (guint i = first; i < last; i++)
        write_end (p, i, sector, actions, step->undo);
    for (guint i = first; i < last; i++)
        end_writing (p, i);
}

void add_seal_ends (Planner *p)
{
    if (p->ends->len == 0)
        return;
    g_autofree char *sector = own_name (p, "ens", NULL);

    plan_add (p->plan, _("make a sector that is written there"), NULL,
              node_add (p, obj ("driver", "s", "null-co", "node-name", "s", sector, "size", "i",
                                (gint64) SECTOR, "read-zeroes", "b", FALSE, NULL)),
              node_del (p, sector), NULL);
    for (guint i = 0; i < p->ends->len; i++)
        add_window (p, i, g_array_index (p->ends, guint64, i));
    /* where a job goes as soon as it ends, QEMU 5.2 dies when another of the same transaction has
     * the same source: what was drained for both is let go of once too often */
    guint together = p->caps->concluded_backup_safe ? p->ends->len : 1;
    for (guint i = 0; i < p->ends->len; i += together)
        write_ends (p, sector, i, i + together);
}
