#include <stdlib.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include "conf/guest_def.h"
#include "driver/libvirt/offline.h"
#include "driver/qemu/definitions.h"
#include "job/image.h"
#include "job/journal.h"
#include "util/files.h"

/* ---- the qemu driver, in this process ---- */

static void on_event (DriverConn *engine, const bak_event *event, gpointer data)
{
    LvConn *lv = data;
    if (event->kind == EVENT_JOB_COMPLETED && event->state == JOB_STATE_COMPLETED) {
        g_autoptr (GError) failure = NULL;
        LvGuest *guest = lv_guest_get (lv, event->domain, NULL);
        if (guest && !lv_offline_tell (guest, &failure))
            g_warning ("guest '%s': %s", event->domain, failure->message);
        lv_guest_unref (guest);
    }
    if (event->kind != EVENT_LIFECYCLE) /* of the guest, not of its images: libvirt tells that */
        driver_conn_emit (lv->conn, event);
}

static DriverConn *engine_get (LvConn *lv, GError **error)
{
    const DriverOpenOptions options = { .role = DRIVER_ROLE_WATCHER,
                                        .state_dir = lv->state_dir,
                                        .watch_guest = lv->watch_guest,
                                        .unsealed = TRUE };
    g_mutex_lock (&lv->engine_lock);
    if (!lv->engine) {
        lv->engine =
            driver_open (lv->session ? "qemu:///session" : "qemu:///system", &options, error);
        if (lv->engine)
            driver_conn_set_events (lv->engine, on_event, lv);
    }
    DriverConn *engine = lv->engine;
    g_mutex_unlock (&lv->engine_lock);
    return engine;
}

void lv_offline_close (LvConn *lv)
{
    g_clear_pointer (&lv->engine, driver_close);
}

gboolean lv_offline_has_job (LvGuest *guest)
{
    return journal_exists (guest->dir);
}

gboolean lv_offline_call (LvGuest *guest, CallId id, const void *args, void *ret, GError **error)
{
    DriverConn *engine = engine_get (guest->lv, error);
    return engine && driver_call (engine, id, args, ret, error);
}

void lv_offline_recover (LvConn *lv, const char *name)
{
    g_autofree char *dir = lv_guest_dir (lv, name);
    g_autoptr (GError) failure = NULL;
    if (journal_exists (dir) && !engine_get (lv, &failure))
        g_warning ("guest '%s': %s", name, failure->message);
}

/* ---- the guest, as its images ---- */

static gboolean define_images (LvGuest *guest, const LvPicture *picture, GError **error)
{
    g_autoptr (GuestDef) def = guest_def_new (guest->name);
    g_autoptr (GPtrArray) formats = g_ptr_array_new ();
    g_autofree char *uuid = g_uuid_string_random ();

    if (!guest->lv->local)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("guest '%s' is powered off and its images are on another host: run "
                             "libbackup there (qemu+ssh://), or start the guest"),
                          guest->name);
    if (!guest_name_check (guest->name, NULL))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("guest '%s' is powered off, and its name is not one that images can "
                             "be attached under; start the guest"),
                          guest->name);
    def->uuid = g_steal_pointer (&uuid);
    for (guint i = 0; i < picture->disks->len; i++) {
        const LvDisk *disk = picture->disks->pdata[i];
        if (lv_disk_excluded (disk))
            continue;
        if (!g_str_equal (disk->type, "file") && !g_str_equal (disk->type, "block"))
            return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                              _("disk '%s': guest '%s' is powered off, and its %s disks cannot be "
                                 "read without it"),
                              disk->target, guest->name, disk->type);
        g_ptr_array_add (def->images, guest_disk_def_new (disk->target, disk->source));
        g_ptr_array_add (formats, disk->format);
    }
    if (def->images->len == 0)
        return error_set (error, BAK_ERROR_NO_DISK,
                          _("no disk is left to back up: all are excluded, empty or read-only"));
    return attach_write (guest->dir, 1, def, (const char *const *) formats->pdata, error);
}

/* ---- checkpoints: the qemu driver's records and libvirt's list say the same ---- */

static LvCheckpoint *describe (virDomainPtr domain, const char *name)
{
    g_autoptr (virDomainCheckpoint) checkpoint = virDomainCheckpointLookupByName (domain, name, 0);
    char *xml = checkpoint ? virDomainCheckpointGetXMLDesc (checkpoint, 0) : NULL;
    LvCheckpoint *parsed = xml ? lv_checkpoint_parse (xml, NULL) : NULL;
    free (xml);
    return parsed;
}

static const CheckpointDisk *recorded_disk (const Checkpoint *checkpoint, const char *target)
{
    for (guint i = 0; i < checkpoint->disks->len; i++)
        if (g_str_equal (((CheckpointDisk *) checkpoint->disks->pdata[i])->disk, target))
            return checkpoint->disks->pdata[i];
    return NULL;
}

static gboolean record_from_libvirt (LvGuest *guest, const LvCheckpoint *from, gint64 sequence,
                                     GError **error)
{
    g_autoptr (Checkpoint) known = checkpoint_exists (guest->dir, from->name)
                                       ? checkpoint_load (guest->dir, from->name, NULL)
                                       : NULL;
    g_autoptr (Checkpoint) checkpoint = checkpoint_new (from->name);
    gboolean same = known && known->created == from->created;

    checkpoint->parent = g_strdup (from->parent);
    checkpoint->description = g_strdup (from->description);
    checkpoint->created = from->created;
    checkpoint->sequence = sequence;
    checkpoint->job = same ? g_strdup (known->job) : NULL;
    checkpoint->series = same ? g_strdup (known->series) : NULL;
    for (guint i = 0; i < from->disks->len; i++) {
        const LvCheckpointDisk *in = from->disks->pdata[i];
        const CheckpointDisk *before = same ? recorded_disk (known, in->disk) : NULL;
        CheckpointDisk *disk =
            before ? checkpoint_disk_copy (before) : checkpoint_disk_new (in->disk);
        g_clear_pointer (&disk->node, g_free);
        g_free (disk->bitmap);
        disk->bitmap = g_strdup (in->bitmap ? in->bitmap : from->name);
        disk->persistent = TRUE;
        if (g_hash_table_lookup (from->sources, in->disk)) {
            g_free (disk->file);
            disk->file = g_strdup (g_hash_table_lookup (from->sources, in->disk));
        }
        g_ptr_array_add (checkpoint->disks, disk);
    }
    return checkpoint_save (guest->dir, checkpoint, error);
}

/* Before: what libvirt has is what the qemu driver may start from. */
static gboolean learn_from_libvirt (LvGuest *guest, virDomainPtr domain, GError **error)
{
    g_autoptr (GPtrArray) names = lv_checkpoint_names (domain, error);
    for (guint i = 0; names && i < names->len; i++) {
        g_autoptr (LvCheckpoint) from = describe (domain, names->pdata[i]);
        if (from && !record_from_libvirt (guest, from, i + 1, error))
            return FALSE;
    }
    return names != NULL;
}

static char *redefinition (const Checkpoint *checkpoint, const LvPicture *picture,
                           gboolean with_parent)
{
    GString *xml = g_string_new (NULL);
    g_autofree char *name =
        g_markup_printf_escaped ("<domaincheckpoint><name>%s</name>", checkpoint->name);
    g_autofree char *description =
        checkpoint->description
            ? g_markup_printf_escaped ("<description>%s</description>", checkpoint->description)
            : NULL;
    g_autofree char *parent =
        checkpoint->parent && with_parent
            ? g_markup_printf_escaped ("<parent><name>%s</name></parent>", checkpoint->parent)
            : NULL;
    g_string_append_printf (xml, "%s%s%s<creationTime>%" G_GINT64_FORMAT "</creationTime><disks>",
                            name, description ? description : "", parent ? parent : "",
                            checkpoint->created);
    for (guint i = 0; i < picture->disks->len; i++) {
        const char *target = ((LvDisk *) picture->disks->pdata[i])->target;
        gboolean tracked = FALSE;
        for (guint k = 0; k < checkpoint->disks->len; k++)
            tracked =
                tracked
                || g_str_equal (((CheckpointDisk *) checkpoint->disks->pdata[k])->disk, target);
        g_autofree char *disk = g_markup_printf_escaped ("<disk name='%s' checkpoint='%s'/>",
                                                         target, tracked ? "bitmap" : "no");
        g_string_append (xml, disk);
    }
    g_string_append (xml, "</disks></domaincheckpoint>");
    return g_string_free (xml, FALSE);
}

/* The qemu driver notes the node that bears a bitmap; a record from libvirt's list has none. */
static gboolean made_offline (const Checkpoint *checkpoint)
{
    for (guint i = 0; i < checkpoint->disks->len; i++)
        if (((CheckpointDisk *) checkpoint->disks->pdata[i])->node)
            return TRUE;
    return FALSE;
}

static gboolean told (LvGuest *guest, Checkpoint *checkpoint, GError **error)
{
    for (guint i = 0; i < checkpoint->disks->len; i++)
        g_clear_pointer (&((CheckpointDisk *) checkpoint->disks->pdata[i])->node, g_free);
    return checkpoint_save (guest->dir, checkpoint, error);
}

/* After: checkpoints that the qemu driver made are redefined in libvirt. */
gboolean lv_offline_tell (LvGuest *guest, GError **error)
{
    g_autoptr (GPtrArray) records = checkpoint_load_all (guest->dir, NULL);
    gboolean any = FALSE;
    for (guint i = 0; i < records->len; i++)
        any = any || made_offline (records->pdata[i]);
    if (!any)
        return TRUE;
    g_autoptr (virDomain) domain = lv_guest_domain (guest, error);
    g_autoptr (GPtrArray) names = domain ? lv_checkpoint_names (domain, error) : NULL;
    g_autoptr (LvPicture) picture = names ? lv_picture_load (domain, FALSE, error) : NULL;
    for (guint i = 0; picture && i < records->len; i++) {
        Checkpoint *checkpoint = records->pdata[i];
        if (!made_offline (checkpoint))
            continue;
        if (g_ptr_array_find_with_equal_func (names, checkpoint->name, g_str_equal, NULL)) {
            if (!told (guest, checkpoint, error))
                return FALSE;
            continue;
        }
        gboolean with_parent =
            checkpoint->parent
            && g_ptr_array_find_with_equal_func (names, checkpoint->parent, g_str_equal, NULL);
        g_autofree char *xml = redefinition (checkpoint, picture, with_parent);
        g_autoptr (virDomainCheckpoint) made =
            virDomainCheckpointCreateXML (domain, xml, VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE);
        if (!made) {
            lv_error (error);
            return error_note (error, _("checkpoint '%s' was made, but libvirt does not take it"),
                               checkpoint->name);
        }
        g_ptr_array_add (names, g_strdup (checkpoint->name));
        if (!told (guest, checkpoint, error))
            return FALSE;
    }
    return picture != NULL;
}

/* ---- calls ---- */

static gboolean prepare (LvGuest *guest, virDomainPtr domain, const LvPicture *picture,
                         GError **error)
{
    if (lv_offline_has_job (guest))
        return TRUE; /* its begin did this; the qemu driver says that it is busy */
    return files_make_dir (guest->dir, 0700, error) && define_images (guest, picture, error)
           && lv_publish_images (guest->lv, error) && lv_offline_tell (guest, error)
           && lv_records_follow (guest, domain, error) && learn_from_libvirt (guest, domain, error);
}

gboolean lv_offline_begin (LvGuest *guest, const LvPicture *picture, CallId id,
                           const bak_begin_args *args, void *ret, GError **error)
{
    g_autoptr (virDomain) domain = lv_guest_domain (guest, error);
    return domain && prepare (guest, domain, picture, error)
           && lv_offline_call (guest, id, args, ret, error);
}

gboolean lv_offline_checkpoint_create (LvGuest *guest, const LvRequest *request,
                                       const bak_checkpoint_create_args *args, char **ret_note,
                                       GError **error)
{
    g_autoptr (virDomain) domain = lv_guest_domain (guest, error);
    bak_checkpoint_ret ret = { 0 };
    bak_checkpoint_create_args named = *args;
    g_autofree char *xml =
        checkpoint_def_format (request->checkpoint, NULL, CHECKPOINT_FORMAT_NO_DOMAIN);

    named.xml = xml;
    if (!domain || !prepare (guest, domain, request->picture, error)
        || !lv_offline_call (guest, CALL_ID_checkpoint_create, &named, &ret, error))
        return FALSE;
    *ret_note = g_strdup (ret.checkpoint.note);
    call_clear_ret (CALL_ID_checkpoint_create, &ret);
    return lv_offline_tell (guest, error);
}

static gboolean is_missing (const LvDisk *disk)
{
    return !lv_disk_excluded (disk) && g_path_is_absolute (disk->source)
           && !g_file_test (disk->source, G_FILE_TEST_EXISTS);
}

static gboolean any_missing (const LvPicture *picture)
{
    gboolean any = FALSE;
    for (guint i = 0; i < picture->disks->len; i++)
        any = any || is_missing (picture->disks->pdata[i]);
    return any;
}

/* With an image gone the engine cannot work; the bitmaps in the others can be taken out all the
 * same. */
static gboolean delete_from_the_rest (virDomainPtr domain, const LvPicture *picture,
                                      const bak_checkpoint_arg *args, GError **error)
{
    g_autoptr (LvCheckpoint) checkpoint = describe (domain, args->name);
    if (args->flags)
        return error_set (error, BAK_ERROR_IO,
                          _("an image of the guest is gone: its checkpoints can be deleted one by "
                             "one, or with --metadata"));
    for (guint i = 0; checkpoint && i < checkpoint->disks->len; i++) {
        const LvDisk *disk = lv_picture_disk (
            picture, ((LvCheckpointDisk *) checkpoint->disks->pdata[i])->disk, NULL);
        if (disk && !is_missing (disk)
            && !image_bitmap_remove (disk->source, disk->format, args->name, error))
            return FALSE;
    }
    return TRUE;
}

gboolean lv_offline_checkpoint_delete (LvGuest *guest, virDomainPtr domain,
                                       const bak_checkpoint_arg *args, GError **error)
{
    g_autoptr (LvPicture) picture = lv_picture_load (domain, FALSE, error);
    bak_none none = { 0 };
    if (!picture)
        return FALSE;
    if (any_missing (picture)
            ? !delete_from_the_rest (domain, picture, args, error)
            : !prepare (guest, domain, picture, error)
                  || !lv_offline_call (guest, CALL_ID_checkpoint_delete, args, &none, error))
        return FALSE;
    g_autoptr (virDomainCheckpoint) checkpoint =
        virDomainCheckpointLookupByName (domain, args->name, 0);
    return !checkpoint
           || virDomainCheckpointDelete (checkpoint,
                                         args->flags | VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
                  == 0
           || lv_error (error);
}

/* A disk that a repair took out of a record is taken out in libvirt too. */
static gboolean forget_repaired (LvGuest *guest, virDomainPtr domain, GError **error)
{
    g_autoptr (GPtrArray) names = lv_checkpoint_names (domain, error);
    for (guint i = 0; names && i < names->len; i++) {
        g_autoptr (virDomainCheckpoint) checkpoint =
            virDomainCheckpointLookupByName (domain, names->pdata[i], 0);
        g_autoptr (LvCheckpoint) before = describe (domain, names->pdata[i]);
        g_autoptr (Checkpoint) now = checkpoint_exists (guest->dir, names->pdata[i])
                                         ? checkpoint_load (guest->dir, names->pdata[i], NULL)
                                         : NULL;
        if (checkpoint && before && (!now || now->disks->len < before->disks->len)
            && virDomainCheckpointDelete (checkpoint, VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
                   != 0)
            return lv_error (error);
    }
    return names && lv_offline_tell (guest, error);
}

static gboolean report_missing (LvGuest *guest, virDomainPtr domain, const LvPicture *picture,
                                bak_check_ret *ret, GError **error)
{
    g_autoptr (GPtrArray) names = lv_checkpoint_names (domain, error);
    g_autoptr (GArray) findings = g_array_new (FALSE, TRUE, sizeof (bak_finding));
    for (guint i = 0; names && i < names->len; i++) {
        g_autoptr (LvCheckpoint) checkpoint = describe (domain, names->pdata[i]);
        for (guint k = 0;
             checkpoint && k < checkpoint->disks->len && findings->len < BAK_FINDINGS_MAX; k++) {
            const LvDisk *disk = lv_picture_disk (
                picture, ((LvCheckpointDisk *) checkpoint->disks->pdata[k])->disk, NULL);
            g_autofree char *meaning =
                disk && is_missing (disk) ? g_strdup_printf (
                    _("its image '%s' cannot be opened: No such file or directory"), disk->source)
                                          : NULL;
            if (!meaning)
                continue;
            bak_finding finding = { .kind = ret_string ("absent"),
                                    .disk = ret_string (disk->target),
                                    .bitmap = ret_string (checkpoint->name),
                                    .meaning = ret_string (meaning),
                                    .repair = ret_string (
                                        _("nothing: it counts again when the image is back; "
                                           "checkpoint-delete takes it out of the others")) };
            g_array_append_val (findings, finding);
        }
    }
    ret->findings.findings_len = findings->len;
    ret->findings.findings_val = ret_array (findings->len, sizeof (bak_finding));
    memcpy (ret->findings.findings_val, findings->data, findings->len * sizeof (bak_finding));
    return names != NULL;
}

gboolean lv_offline_checkpoint_check (LvGuest *guest, virDomainPtr domain,
                                      const bak_check_args *args, bak_check_ret *ret,
                                      GError **error)
{
    g_autoptr (LvPicture) picture = lv_picture_load (domain, FALSE, error);
    if (picture && any_missing (picture))
        return report_missing (guest, domain, picture, ret, error);
    if (!picture || !prepare (guest, domain, picture, error)
        || !lv_offline_call (guest, CALL_ID_checkpoint_check, args, ret, error))
        return FALSE;
    if (!(args->flags & CHECK_REPAIR) || forget_repaired (guest, domain, error))
        return TRUE;
    call_clear_ret (CALL_ID_checkpoint_check, ret);
    return FALSE;
}

gboolean lv_checkpoints_sync (LvGuest *guest, virDomainPtr domain, GError **error)
{
    return lv_offline_has_job (guest) /* its end does the telling */
           || (lv_offline_tell (guest, error) && lv_records_follow (guest, domain, error));
}
