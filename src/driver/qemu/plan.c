/* From what is wanted, what there is and what this QEMU can do, to the list of steps. Pure. Here:
 * the entries, which disks, and what of each. */
#include <glib/gi18n-lib.h>
#include "driver/qemu/planner.h"

static void item_free (Item *item)
{
    g_clear_pointer (&item->changes, json_array_unref);
    store_def_free (item->target.store);
    store_def_free (item->scratch.store);
    g_free (item);
}

/* ---- which disks ---- */

static gboolean item_add (Planner *p, const GraphDisk *disk, const BackupDiskDef *def,
                          GError **error)
{
    for (guint i = 0; i < p->items->len; i++) {
        const Item *other = p->items->pdata[i];
        if (other->disk == disk)
            return error_set (error, BAK_ERROR_XML, _("disk '%s' is named twice (also as '%s')"),
                              def ? def->name : disk->target,
                              other->def ? other->def->name : disk->target);
    }
    Item *item = g_new0 (Item, 1);
    item->disk = disk;
    item->def = def;
    item->index = p->items->len;
    item->out = g_new0 (PlanDisk, 1);
    item->out->target = g_strdup (disk->target);
    item->out->node = g_strdup (disk->node);
    item->out->size = disk->size;
    g_ptr_array_add (p->plan->disks, item->out);
    g_ptr_array_add (p->items, item);
    return TRUE;
}

static gboolean refuse_excluded (const GraphDisk *disk, const char *name, GError **error)
{
    return error_set (error, BAK_ERROR_NO_DISK, _("disk '%s' cannot be backed up: it %s"), name,
                      graph_disk_excluded (disk));
}

static gboolean select_named (Planner *p, GError **error)
{
    const BackupDef *def = p->in->def;
    g_autoptr (GHashTable) seen = g_hash_table_new (NULL, NULL);

    for (guint i = 0; i < def->disks->len; i++) {
        const BackupDiskDef *disk_def = def->disks->pdata[i];
        const GraphDisk *disk = graph_disk (p->in->graph, disk_def->name, error);
        if (!disk)
            return FALSE;
        if (!g_hash_table_add (seen, (gpointer) disk))
            return error_set (error, BAK_ERROR_XML, _("disk '%s' is named twice"), disk_def->name);
        if (disk_def->backup == TRISTATE_NO)
            continue;
        if (graph_disk_excluded (disk))
            return refuse_excluded (disk, disk_def->name, error);
        if (!item_add (p, disk, disk_def, error))
            return FALSE;
    }
    for (guint i = 0; def->dialect == DIALECT_2016 && i < p->in->graph->disks->len; i++) {
        const GraphDisk *disk = p->in->graph->disks->pdata[i];
        if ((disk->elsewhere || !graph_disk_excluded (disk)) && !g_hash_table_contains (seen, disk))
            return error_set (
                error, BAK_ERROR_XML,
                _("disk '%s' is not named: a document of the 2016 form must name every writable "
                   "disk, with present='no' for one that is left out"),
                disk->target);
    }
    return TRUE;
}

static gboolean select_disks (Planner *p, GError **error)
{
    if (p->in->def->has_disks) {
        if (!select_named (p, error))
            return FALSE;
    } else {
        for (guint i = 0; i < p->in->graph->disks->len; i++) {
            const GraphDisk *disk = p->in->graph->disks->pdata[i];
            if (disk->elsewhere)
                return refuse_excluded (disk, disk->target, error);
            if (!graph_disk_excluded (disk) && !item_add (p, disk, NULL, error))
                return FALSE;
        }
    }
    if (p->items->len == 0)
        return error_set (error, BAK_ERROR_NO_DISK,
                          p->in->graph->disks->len ? _(
                              "no disk is left to back up: all are excluded, empty or read-only")
                                                   : _("the guest has no disk"));
    for (guint i = 0; i < p->items->len; i++) {
        const Item *item = p->items->pdata[i];
        if (item->disk->size == 0 || item->disk->size > G_MAXINT64)
            return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                              _("disk '%s': QEMU reports a size of %" G_GUINT64_FORMAT " bytes"),
                              item->disk->target, item->disk->size);
    }
    return TRUE;
}

static SyncMode wanted_sync (Planner *p, const Item *item)
{
    if (item->def && item->def->sync != SYNC_DEFAULT)
        return item->def->sync;
    return (item->def && item->def->incremental) || p->in->def->incremental ? SYNC_INCREMENTAL
                                                                            : SYNC_FULL;
}

const char *const sync_types[] = { "full", "full", "top", "none", "incremental" };

static gboolean resolve (Planner *p, Item *item, GError **error)
{
    item->sync = wanted_sync (p, item);
    if (item->sync == SYNC_INCREMENTAL && !resolve_incremental (p, item, error))
        return FALSE;
    if (p->plan->mode == BACKUP_MODE_PULL && (item->sync == SYNC_TOP || item->sync == SYNC_NONE))
        return error_set (
            error, BAK_ERROR_XML,
            _("disk '%s': sync='%s' is for push; a pull exports the whole point in time"),
            item->disk->target, sync_mode_to_string (item->sync));
    if (item->sync == SYNC_TOP || item->sync == SYNC_NONE)
        p->plan->partial = TRUE;
    if (item->sync == SYNC_NONE)
        planner_note (p,
                      _("disk '%s': what the guest overwrites is kept until somebody stops that "
                         "(backup-stop)"),
                      item->disk->target);
    const GraphNode *node = graph_node (p->in->graph, item->disk->node);
    if (node && node->encrypted)
        planner_note (p, _("disk '%s': its image is encrypted; what is backed up is not"),
                      item->disk->target);
    item->out->type = g_strdup (sync_types[item->sync]);
    if (p->plan->mode == BACKUP_MODE_PUSH && !resolve_target (p, item, error))
        return FALSE;
    if (p->plan->mode == BACKUP_MODE_PUSH && !check_format (p, item, error))
        return FALSE;
    guint64 limit = item->def && item->def->limit ? item->def->limit
                    : p->in->def->limit           ? MAX (1, p->in->def->limit / p->items->len)
                                                  : 0;
    item->out->limit = limit;
    return TRUE;
}

/* ---- entries ---- */

static Plan *planner_end (Planner *p, gboolean ok)
{
    g_ptr_array_unref (p->items);
    json_array_unref (p->actions);
    g_ptr_array_unref (p->undo);
    g_array_unref (p->ends);
    if (!ok)
        g_clear_pointer (&p->plan, plan_free);
    return p->plan;
}

static void planner_begin (Planner *p, const PlanInput *input)
{
    *p = (Planner){ .in = input,
                    .caps = input->caps,
                    .plan =
                        plan_new (input->job, input->def ? input->def->mode : BACKUP_MODE_PUSH) };
    p->protect = !input->def                              ? PROTECT_NO
                 : input->def->protect == PROTECT_DEFAULT ? PROTECT_YES
                                                          : input->def->protect;
    p->items = g_ptr_array_new_with_free_func ((GDestroyNotify) item_free);
    p->actions = json_array_new ();
    p->ends = g_array_new (FALSE, FALSE, sizeof (guint64));
    p->undo = g_ptr_array_new_with_free_func ((GDestroyNotify) action_free);
}

Plan *plan_backup (const PlanInput *input, GError **error)
{
    Planner p;
    planner_begin (&p, input);
    gboolean ok = check_migration (&p, error) && select_disks (&p, error);
    for (guint i = 0; ok && i < p.items->len; i++)
        ok = resolve (&p, p.items->pdata[i], error);
    ok = ok && choose_protection (&p, error);
    if (ok)
        add_barrier (&p);
    ok = ok
         && (input->def->mode == BACKUP_MODE_PULL ? plan_pull (&p, error) : plan_push (&p, error));
    return planner_end (&p, ok);
}

Plan *plan_checkpoint (const PlanInput *input, GError **error)
{
    Planner p;
    planner_begin (&p, input);
    gboolean ok = check_migration (&p, error) && tx_checkpoint (&p, TRUE, error)
                  && add_point_in_time (&p, error);
    return planner_end (&p, ok);
}
