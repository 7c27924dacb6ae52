/* libvirt's documents: <domainbackup> and <domaincheckpoint> in the dialect of 7.2. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/libvirt/planner.h"
#include "job/build.h"

/* ---- libvirt's documents ---- */

static void append (GString *xml, const char *format, ...) G_GNUC_PRINTF (2, 3);
static void append (GString *xml, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    g_autofree char *text = g_markup_vprintf_escaped (format, args);
    va_end (args);
    g_string_append (xml, text);
}

static void append_encryption (GString *xml, const EncryptionDef *encryption)
{
    append (xml, "<encryption format='%s'", encryption->format);
    if (encryption->engine)
        append (xml, " engine='%s'", encryption->engine);
    g_string_append (xml, "><secret type='passphrase'");
    if (encryption->secret_uuid)
        append (xml, " uuid='%s'", encryption->secret_uuid);
    if (encryption->secret_usage)
        append (xml, " usage='%s'", encryption->secret_usage);
    g_string_append (xml, "/>");
    if (encryption->cipher_xml)
        g_string_append (xml, encryption->cipher_xml);
    if (encryption->ivgen_xml)
        g_string_append (xml, encryption->ivgen_xml);
    g_string_append (xml, "</encryption>");
}

static void append_store (GString *xml, const char *element, const StoreDef *store)
{
    append (xml, "<%s %s='%s'", element, store->type == STORE_BLOCK ? "dev" : "file", store->path);
    guint labels = store->seclabels ? store->seclabels->len : 0;
    if (labels == 0 && !store->encryption) {
        g_string_append (xml, "/>");
        return;
    }
    g_string_append (xml, ">");
    for (guint i = 0; i < labels; i++)
        g_string_append (xml, store->seclabels->pdata[i]);
    if (store->encryption)
        append_encryption (xml, store->encryption);
    append (xml, "</%s>", element);
}

static void append_disk (GString *xml, Planner *p, const Item *item)
{
    append (xml, "<disk name='%s' type='%s' backupmode='%s'", item->disk->target,
            item->store->type == STORE_BLOCK ? "block" : "file", item->out->type);
    if (item->incremental)
        append (xml, " incremental='%s'", item->base);
    if (item->out->export_name)
        append (xml, " exportname='%s'", item->out->export_name);
    if (item->out->bitmap)
        append (xml, " exportbitmap='%s'", item->out->bitmap);
    append (xml, "><driver type='%s'/>", item->out->format);
    append_store (xml, p->pull ? "scratch" : "target", item->store);
    g_string_append (xml, "</disk>");
}

static void append_server (GString *xml, Planner *p)
{
    const ServerDef *server = p->in->def->server;
    const char *tls = server && server->tls == TRISTATE_YES ? " tls='yes'" : "";
    if (p->plan->server_host)
        append (xml, "<server transport='tcp' name='%s' port='%u'", p->plan->server_host,
                p->plan->server_port);
    else
        append (xml, "<server transport='unix' socket='%s'", p->plan->server_socket);
    g_string_append_printf (xml, "%s/>", tls);
}

char *lv_plan_backup_xml (Planner *p)
{
    GString *xml = g_string_new (NULL);
    append (xml, "<domainbackup mode='%s'>", p->pull ? "pull" : "push");
    if (p->pull)
        append_server (xml, p);
    g_string_append (xml, "<disks>");
    for (guint i = 0; i < p->items->len; i++)
        append_disk (xml, p, p->items->pdata[i]);
    g_string_append (xml, "</disks></domainbackup>");
    return g_string_free (xml, FALSE);
}

static const CheckpointDiskDef *checkpoint_disk_def (const CheckpointDef *checkpoint,
                                                     const LvDisk *disk)
{
    for (guint i = 0; i < checkpoint->disks->len; i++) {
        const CheckpointDiskDef *def = checkpoint->disks->pdata[i];
        if (g_ptr_array_find_with_equal_func (disk->names, def->name, g_str_equal, NULL))
            return def;
    }
    return NULL;
}

/* One disk of the checkpoint: TRUE with *ret_tracked, or why it cannot be. Raw images are left out
 * with a note unless they were named. */
static gboolean checkpoint_disk (Planner *p, const LvDisk *disk, gboolean *ret_tracked,
                                 GError **error)
{
    const CheckpointDef *checkpoint = p->in->checkpoint;
    const CheckpointDiskDef *def = checkpoint_disk_def (checkpoint, disk);
    const char *rule = lv_disk_excluded (disk);

    *ret_tracked = FALSE;
    if (def ? def->checkpoint == TRISTATE_NO : checkpoint->has_disks)
        return TRUE;
    if (rule)
        return !def
               || error_set (error, BAK_ERROR_NO_DISK,
                             _("disk '%s' cannot be in a checkpoint: it %s"), def->name, rule);
    if (def && def->bitmap && !g_str_equal (def->bitmap, checkpoint->name))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("disk '%s': the bitmap is named like its checkpoint, '%s', not '%s'"),
                          disk->target, checkpoint->name, def->bitmap);
    if (def && def->persistent == TRISTATE_NO)
        return lv_plan_refuse (disk->target, _("a bitmap in memory (persistent='no')"),
                               _("libvirt keeps checkpoints in qcow2 images only"), error);
    lv_note_granularity (p, disk->target, def ? def->granularity : 0);
    if (!g_str_equal (disk->format, "qcow2")) {
        if (def)
            return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                              _("disk '%s': an image in format '%s' cannot keep a checkpoint; "
                                 "libvirt keeps them in qcow2 images only"),
                              disk->target, disk->format);
        lv_plan_note (
            p,
            _("disk '%s' is not in checkpoint '%s': its image format '%s' cannot keep a bitmap"),
            disk->target, checkpoint->name, disk->format);
        return TRUE;
    }
    json_array_add_object_element (p->plan->checkpoint_disks,
                                   obj ("disk", "s", disk->target, "file", "s", disk->source,
                                        "format", "s", disk->format, "size", "i",
                                        (gint64) disk->capacity, "persistent", "b", TRUE, NULL));
    *ret_tracked = TRUE;
    return TRUE;
}

static gboolean check_checkpoint_names (Planner *p, GError **error)
{
    const CheckpointDef *checkpoint = p->in->checkpoint;
    g_autoptr (GHashTable) seen = g_hash_table_new (NULL, NULL);
    for (guint i = 0; i < checkpoint->disks->len; i++) {
        const CheckpointDiskDef *def = checkpoint->disks->pdata[i];
        const LvDisk *disk = lv_picture_disk (p->in->picture, def->name, error);
        if (!disk)
            return FALSE;
        if (!g_hash_table_add (seen, (gpointer) disk))
            return error_set (error, BAK_ERROR_XML,
                              _("disk '%s' is named twice in the checkpoint"), def->name);
    }
    if (g_ptr_array_find_with_equal_func (p->in->names, checkpoint->name, g_str_equal, NULL))
        return error_set (error, BAK_ERROR_EXISTS, _("checkpoint '%s' exists already"),
                          checkpoint->name);
    return TRUE;
}

gboolean lv_plan_checkpoint_xml (Planner *p, char **ret_xml, GError **error)
{
    const CheckpointDef *checkpoint = p->in->checkpoint;
    g_autoptr (GString) xml = g_string_new (NULL);
    guint tracked = 0;

    *ret_xml = NULL;
    if (!checkpoint)
        return TRUE;
    if (!check_checkpoint_names (p, error))
        return FALSE;
    append (xml, "<domaincheckpoint><name>%s</name>", checkpoint->name);
    if (checkpoint->description)
        append (xml, "<description>%s</description>", checkpoint->description);
    g_string_append (xml, "<disks>");
    for (guint i = 0; i < p->in->picture->disks->len; i++) {
        const LvDisk *disk = p->in->picture->disks->pdata[i];
        gboolean is_tracked;
        if (!checkpoint_disk (p, disk, &is_tracked, error))
            return FALSE;
        append (xml, "<disk name='%s' checkpoint='%s'/>", disk->target,
                is_tracked ? "bitmap" : "no");
        tracked += is_tracked;
    }
    g_string_append (xml, "</disks></domaincheckpoint>");
    if (tracked == 0)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("checkpoint '%s' would be on no disk: libvirt keeps them in writable "
                             "qcow2 images only"),
                          checkpoint->name);
    p->plan->checkpoint = g_strdup (checkpoint->name);
    p->plan->checkpoint_description = g_strdup (checkpoint->description);
    p->plan->series = g_strdup (p->in->def ? p->in->def->series : NULL);
    *ret_xml = g_strdup (xml->str);
    return TRUE;
}
