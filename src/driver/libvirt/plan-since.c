/* Full or incremental: what libvirt may start from. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/libvirt/planner.h"
#include "job/build.h"
#include "job/chain.h"
#include "job/image.h"
#include "util/files.h"

/* ---- full or incremental ---- */

static const char *newest_of_series (GPtrArray *records, GPtrArray *names, const char *series)
{
    const Checkpoint *newest = NULL;
    for (guint i = 0; records && i < records->len; i++) {
        const Checkpoint *record = records->pdata[i];
        gboolean exists = FALSE;
        for (guint k = 0; names && k < names->len; k++)
            exists = exists || g_str_equal (names->pdata[k], record->name);
        if (exists && g_strcmp0 (record->series, series) == 0
            && (!newest || record->sequence > newest->sequence))
            newest = record;
    }
    return newest ? newest->name : NULL;
}

GPtrArray *lv_plan_bases (const BackupDef *def, GPtrArray *records, GPtrArray *names)
{
    GPtrArray *bases = g_ptr_array_new_with_free_func (g_free);
    const char *series = def->series ? newest_of_series (records, names, def->series) : NULL;
    if (def->incremental)
        g_ptr_array_add (bases, g_strdup (def->incremental));
    if (series)
        g_ptr_array_add (bases, g_strdup (series));
    for (guint i = 0; i < def->disks->len; i++) {
        const char *name = ((BackupDiskDef *) def->disks->pdata[i])->incremental;
        if (name && !g_ptr_array_find_with_equal_func (bases, name, g_str_equal, NULL))
            g_ptr_array_add (bases, g_strdup (name));
    }
    return bases;
}

static const LvCheckpoint *find_base (const LvPlanInput *in, const char *name)
{
    for (guint i = 0; in->bases && i < in->bases->len; i++) {
        const LvCheckpoint *base = in->bases->pdata[i];
        if (g_str_equal (base->name, name))
            return base;
    }
    return NULL;
}

const Checkpoint *lv_plan_record (const LvPlanInput *in, const char *name)
{
    for (guint i = 0; in->records && i < in->records->len; i++) {
        const Checkpoint *record = in->records->pdata[i];
        if (g_str_equal (record->name, name))
            return record;
    }
    return NULL;
}

const CheckpointDisk *lv_plan_disk_record (const LvPlanInput *in, const char *name,
                                           const char *target)
{
    const Checkpoint *record = lv_plan_record (in, name);
    for (guint i = 0; record && i < record->disks->len; i++)
        if (g_str_equal (((CheckpointDisk *) record->disks->pdata[i])->disk, target))
            return record->disks->pdata[i];
    return NULL;
}

static gboolean is_as_it_was_left (const LvPlanInput *in, const char *backing, const char *base,
                                   const CheckpointDisk *recorded, GError **error)
{
    const Checkpoint *since = lv_plan_record (in, base),
                     *later = checkpoint_later_in_file (in->records, since->sequence, backing);
    if (later)
        return error_set (error, BAK_ERROR_INEXACT,
                          _("'%s' holds the backup of checkpoint '%s', not that of '%s'"), backing,
                          later->name, base);
    return chain_is_backup_of (backing, base, recorded->backup, recorded->backup_id, error)
           && (!recorded->backup_chain || chain_check (backing, recorded->backup_chain, error));
}

static const BackupDiskDef *def_of (const LvPlanInput *in, const LvDisk *disk)
{
    for (guint i = 0; i < in->def->disks->len; i++) {
        const BackupDiskDef *def = in->def->disks->pdata[i];
        if (lv_picture_disk (in->picture, def->name, NULL) == disk)
            return def;
    }
    return NULL;
}

static const char *start_of (const LvPlanInput *in, const BackupDiskDef *def)
{
    if (def && def->incremental)
        return def->incremental;
    if (in->def->incremental || !in->def->series)
        return in->def->incremental;
    return newest_of_series (in->records, in->names, in->def->series);
}

/* What lies at the name of the checkpoint's image now. NULL: what lay there then, as far as it can
 * be told. Caller frees. */
static char *image_differs (const LvDisk *disk, const CheckpointDisk *recorded)
{
    const char *file = recorded->file;
    if (!file || !g_ptr_array_find_with_equal_func (disk->chain, file, g_str_equal, NULL))
        return NULL;
    g_autofree char *now = recorded->image ? files_id (file) : NULL;
    if (now && !files_id_same (now, recorded->image))
        return g_strdup_printf (_("image replaced: '%s' is another file than at the checkpoint "
                                   "(swapped, restored or copied)"),
                                file);
    g_autoptr (ImageInfo) info = recorded->layers ? image_probe (file, NULL, NULL) : NULL;
    g_autofree char *below = info ? chain_check_below (info->backing, recorded->layers) : NULL;
    return below ? g_strdup_printf (_("what the image stands on is not as it was at the "
                                       "checkpoint: %s"),
                                    below)
                 : NULL;
}

static char *backing_differs (const LvPlanInput *in, const BackupDiskDef *def, const char *base,
                              const CheckpointDisk *recorded)
{
    g_autoptr (GError) why = NULL;
    return def && def->backing && !is_as_it_was_left (in, def->backing, base, recorded, &why)
                   && error_code (why) == BAK_ERROR_INEXACT
               ? g_strdup (why->message)
               : NULL;
}

GHashTable *lv_plan_look_at_backings (const LvPlanInput *in)
{
    GHashTable *touched = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
    for (guint i = 0; in->local && i < in->picture->disks->len; i++) {
        const LvDisk *disk = in->picture->disks->pdata[i];
        const BackupDiskDef *def = def_of (in, disk);
        const char *name = start_of (in, def);
        const CheckpointDisk *recorded = name ? lv_plan_disk_record (in, name, disk->target) : NULL;
        char *differs = recorded ? backing_differs (in, def, name, recorded) : NULL;
        if (recorded && !differs)
            differs = image_differs (disk, recorded);
        if (differs)
            g_hash_table_insert (touched, g_strdup (disk->target), differs);
    }
    return touched;
}

/* Why no exact increment of this disk since that checkpoint is possible; NULL: one is. Caller
 * frees. */
static char *why_not (Planner *p, const LvDisk *disk, const LvCheckpoint *base)
{
    const LvCheckpointDisk *in_base = lv_checkpoint_disk (base, disk->target);
    const CheckpointDisk *record = lv_plan_disk_record (p->in, base->name, disk->target);
    const char *refused =
        p->in->refused ? g_hash_table_lookup (p->in->refused, disk->target) : NULL;
    const char *touched =
        p->in->touched ? g_hash_table_lookup (p->in->touched, disk->target) : NULL;
    const char *then = g_hash_table_lookup (base->sources, disk->target);

    if (refused || touched)
        return g_strdup (refused ? refused : touched);
    if (!in_base)
        return g_strdup (_("disk not in the checkpoint"));
    if (base->doubt)
        return g_strdup (base->doubt);
    if (record && record->shrunk)
        return g_strdup (_(
            "disk was resized: it has been smaller since, and what was cut off is in no bitmap"));
    if (record && record->size && record->size != disk->capacity)
        return g_strdup_printf (
            _("disk resized from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT " bytes"),
            record->size, disk->capacity);
    if (then && *then && disk->chain->len
        && !g_ptr_array_find_with_equal_func (disk->chain, then, g_str_equal, NULL))
        return g_strdup_printf (_("image replaced: the checkpoint was made on '%s'"), then);
    if (!in_base->has_size)
        return g_strdup (_("bitmap missing or inconsistent"));
    return NULL;
}

gboolean lv_wants_increment (Planner *p, const Item *item)
{
    if (item->def && item->def->sync != SYNC_DEFAULT)
        return item->def->sync == SYNC_INCREMENTAL;
    return (item->def && item->def->incremental) || p->in->def->incremental;
}

gboolean lv_resolve_incremental (Planner *p, Item *item, GError **error)
{
    const BackupDef *def = p->in->def;
    const char *target = item->disk->target;
    const char *name =
        item->def && item->def->incremental ? item->def->incremental : def->incremental;
    Fallback fallback =
        item->def && item->def->fallback != FALLBACK_DEFAULT ? item->def->fallback : def->fallback;
    g_autofree char *reason = NULL;

    if (!name && !def->series)
        return error_set (
            error, BAK_ERROR_XML,
            _("disk '%s': an incremental backup needs the checkpoint that it starts from: "
               "set incremental='CHECKPOINT' for the disk or <incremental>CHECKPOINT</incremental> "
               "for all (--since)"),
            target);
    item->base = name ? name : newest_of_series (p->in->records, p->in->names, def->series);
    const LvCheckpoint *base = item->base ? find_base (p->in, item->base) : NULL;
    if (base) {
        reason = why_not (p, item->disk, base);
    } else {
        reason = name ? g_strdup_printf (_("checkpoint '%s' does not exist"), name)
                      : g_strdup_printf (_("series '%s' has no checkpoint yet"), def->series);
    }
    item->incremental = reason == NULL;
    if (item->incremental)
        return TRUE;
    if (fallback == FALLBACK_FULL) {
        lv_plan_note (p, _("disk '%s': full instead of incremental: %s"), target, reason);
        item->out->reason = g_steal_pointer (&reason);
        return TRUE;
    }
    return plan_refuse_increment (def, target, name ? name : def->series, reason, error);
}
