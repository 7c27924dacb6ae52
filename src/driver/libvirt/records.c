/* What is recorded beside libvirt's checkpoints, and how it follows what libvirt did meanwhile. */
#include <stdlib.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/libvirt/local.h"
#include "job/chain.h"
#include "job/image.h"
#include "util/files.h"
#include "util/json.h"

LvCheckpoint *lv_checkpoint_describe (virDomainCheckpointPtr checkpoint, guint flags,
                                      GError **error)
{
    char *xml = virDomainCheckpointGetXMLDesc (checkpoint, flags);
    if (!xml) {
        lv_error (error);
        return NULL;
    }
    LvCheckpoint *parsed = lv_checkpoint_parse (xml, error);
    free (xml);
    return parsed;
}

/* ---- records of ours ---- */

static gint64 created_by_libvirt (virDomainPtr domain, const char *name)
{
    g_autoptr (virDomainCheckpoint) checkpoint = virDomainCheckpointLookupByName (domain, name, 0);
    g_autoptr (LvCheckpoint) parsed =
        checkpoint ? lv_checkpoint_describe (checkpoint, VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN, NULL)
                   : NULL;
    return parsed ? parsed->created : 0;
}

/* libvirt's checkpoints have no seal: what tells the image from others without one. */
static void note_image (const LvGuest *guest, CheckpointDisk *disk)
{
    if (!guest->lv->local || !disk->file || !g_path_is_absolute (disk->file))
        return;
    g_autoptr (ImageInfo) info = image_probe (disk->file, NULL, NULL);
    disk->image = files_id (disk->file);
    disk->layers = info ? chain_seal_below (info->backing) : NULL;
}

gboolean lv_checkpoint_record (LvGuest *guest, const Plan *plan, const char *job, GError **error)
{
    g_autoptr (virDomain) domain = lv_guest_domain (guest, error);
    if (!domain)
        return FALSE;
    g_autoptr (GPtrArray) all = checkpoint_load_all (guest->dir, NULL);
    g_autoptr (Checkpoint) checkpoint = checkpoint_new (plan->checkpoint);
    checkpoint->description = g_strdup (plan->checkpoint_description);
    checkpoint->series = g_strdup (plan->series);
    checkpoint->created = created_by_libvirt (domain, plan->checkpoint);
    checkpoint->job = g_strdup (job);
    for (guint i = 0; i < all->len; i++)
        checkpoint->sequence = MAX (checkpoint->sequence, ((Checkpoint *) all->pdata[i])->sequence);
    checkpoint->sequence++;
    for (guint i = 0; i < json_array_get_length (plan->checkpoint_disks); i++) {
        JsonObject *from = json_get_element (plan->checkpoint_disks, i);
        CheckpointDisk *disk = checkpoint_disk_new (json_get_string (from, "disk"));
        disk->file = g_strdup (json_get_string (from, "file"));
        disk->bitmap = g_strdup (plan->checkpoint);
        disk->persistent = TRUE;
        disk->size = json_get_int (from, "size", 0);
        note_image (guest, disk);
        checkpoint_disk_set_backup (disk, plan_target_of (plan, disk->disk));
        g_ptr_array_add (checkpoint->disks, disk);
    }
    return (plan_seal_backups (plan, checkpoint, error)
            && checkpoint_save (guest->dir, checkpoint, error))
           || error_note (error, _("checkpoint '%s'"), plan->checkpoint);
}

gboolean lv_checkpoints_forget_deleted (LvGuest *guest, GPtrArray *names, gboolean keep,
                                        GError **error)
{
    g_autoptr (GPtrArray) records = checkpoint_load_all (guest->dir, NULL);
    for (guint i = 0; i < records->len; i++) {
        const Checkpoint *record = records->pdata[i];
        if (!g_ptr_array_find_with_equal_func (names, record->name, g_str_equal, NULL)
            && !(keep ? checkpoint_forget : checkpoint_remove) (guest->dir, record->name, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean recall_redefined (LvGuest *guest, virDomainPtr domain, GPtrArray *names,
                                  GError **error)
{
    for (guint i = 0; i < names->len; i++) {
        const char *name = names->pdata[i];
        g_autoptr (Checkpoint) forgotten = checkpoint_exists (guest->dir, name)
                                               ? NULL
                                               : checkpoint_load_forgotten (guest->dir, name);
        if (forgotten && forgotten->created == created_by_libvirt (domain, name)
            && !checkpoint_save (guest->dir, forgotten, error))
            return FALSE;
    }
    return TRUE;
}

gboolean lv_records_follow (LvGuest *guest, virDomainPtr domain, GError **error)
{
    g_autoptr (GPtrArray) names = lv_checkpoint_names (domain, error);
    return names && lv_checkpoints_forget_deleted (guest, names, TRUE, error)
           && recall_redefined (guest, domain, names, error);
}
