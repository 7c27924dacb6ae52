/* What a begin needs to know before it can be planned: the documents, the guest, its checkpoints,
 * the places. */
#include <stdlib.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/libvirt/guest.h"
#include "util/config.h"

enum {
    KNOWN_FLAGS =
        BEGIN_REUSE_EXTERNAL | BEGIN_PRESERVE_SHUTDOWN | BEGIN_QUIESCE | BEGIN_ALLOW_UNPROVED
};

void lv_request_clear (LvRequest *request)
{
    backup_def_free (request->def);
    checkpoint_def_free (request->checkpoint);
    lv_picture_free (request->picture);
    g_clear_pointer (&request->names, g_ptr_array_unref);
    g_clear_pointer (&request->records, g_ptr_array_unref);
    g_clear_pointer (&request->bases, g_ptr_array_unref);
    g_clear_pointer (&request->refused, g_hash_table_unref);
    g_free (request->id);
    g_free (request->scratch_dir);
    g_free (request->job_dir);
    g_free (request->target_dir);
    g_free (request->tls_dir);
}

/* ---- checkpoints ---- */

LvCheckpoint *lv_checkpoint_load (virDomainPtr domain, const char *name, gboolean sizes)
{
    g_autoptr (virDomainCheckpoint) checkpoint = virDomainCheckpointLookupByName (domain, name, 0);
    char *xml =
        checkpoint
            ? virDomainCheckpointGetXMLDesc (checkpoint, sizes ? VIR_DOMAIN_CHECKPOINT_XML_SIZE : 0)
            : NULL;
    gboolean unknown = checkpoint && !xml && sizes;
    if (unknown)
        xml = virDomainCheckpointGetXMLDesc (checkpoint, 0);
    LvCheckpoint *parsed = xml ? lv_checkpoint_parse (xml, NULL) : NULL;
    free (xml);
    for (guint i = 0; parsed && unknown && i < parsed->disks->len; i++)
        /* libvirt decides at begin */
        ((LvCheckpointDisk *) parsed->disks->pdata[i])->has_size = TRUE;
    return parsed;
}

/* What is known of it beyond libvirt's word cannot be read: then nothing starts from it. */
static LvCheckpoint *doubt (LvGuest *guest, LvCheckpoint *base)
{
    g_autoptr (GError) why = NULL;
    g_autoptr (Checkpoint) record = checkpoint_exists (guest->dir, base->name)
                                        ? checkpoint_load (guest->dir, base->name, &why)
                                        : NULL;
    base->doubt = why ? g_strdup (why->message) : NULL;
    return base;
}

static gboolean load_checkpoints (LvGuest *guest, virDomainPtr domain, LvRequest *request,
                                  GError **error)
{
    g_autofree char *provisional = lv_provisional (guest);
    if (!lv_checkpoints_sync (guest, domain, error)
        || !(request->names = lv_checkpoint_names (domain, error)))
        return FALSE;
    guint index;
    if (provisional
        && g_ptr_array_find_with_equal_func (request->names, provisional, g_str_equal, &index))
        g_ptr_array_remove_index (request->names, index);
    request->records = checkpoint_load_all (guest->dir, NULL);
    request->bases = g_ptr_array_new_with_free_func ((GDestroyNotify) lv_checkpoint_free_parsed);
    g_autoptr (GPtrArray) wanted =
        request->def ? lv_plan_bases (request->def, request->records, request->names)
                     : g_ptr_array_new ();
    for (guint i = 0; i < wanted->len; i++) {
        LvCheckpoint *base =
            g_ptr_array_find_with_equal_func (request->names, wanted->pdata[i], g_str_equal, NULL)
                ? lv_checkpoint_load (domain, wanted->pdata[i], request->picture->active)
                : NULL;
        if (base)
            g_ptr_array_add (request->bases, doubt (guest, base));
        for (guint k = request->records->len; base && k-- > 0;) {
            const Checkpoint *record = request->records->pdata[k];
            if (g_str_equal (record->name, base->name) && record->created != base->created)
                /* of another checkpoint that had this name */
                g_ptr_array_remove_index (request->records, k);
        }
    }
    return checkpoints_see_sizes (guest->dir, request->records, lv_size_in_picture,
                                  request->picture, error);
}

/* The 2016 <branch> names a series: each of its backups makes the series' next checkpoint. */
static void series_checkpoint (LvRequest *request)
{
    request->checkpoint = checkpoint_def_new ();
    request->checkpoint->name = checkpoint_next_in_series (request->records, request->def->series);
}

/* ---- places ---- */

static gboolean find_places (LvGuest *guest, LvRequest *request, GError **error)
{
    request->job_dir = g_build_filename (guest->dir, "run", NULL);
    request->target_dir = config_get_string ("target_dir");
    request->tls_dir = config_get_string ("tls_x509_dir");
    request->port = job_free_port ();
    request->scratch_dir = request->def->scratch_dir ? g_strdup (request->def->scratch_dir)
                                                     : config_get_string ("scratch_dir");
    if (!request->scratch_dir && guest->lv->local)
        request->scratch_dir = g_build_filename (guest->dir, "scratch", NULL);
    else if (request->scratch_dir && guest->lv->local
             && !g_file_test (request->scratch_dir, G_FILE_TEST_IS_DIR))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("the scratch directory '%s' does not exist"), request->scratch_dir);
    return TRUE;
}

/* ---- entries ---- */

gboolean lv_request_load (LvGuest *guest, const bak_begin_args *args, LvRequest *ret,
                          GError **error)
{
    if (args->flags & ~KNOWN_FLAGS)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("unsupported flags (0x%x)"),
                          args->flags & ~KNOWN_FLAGS);
    ret->def = backup_def_parse (args->backup_xml, error);
    if (!ret->def
        || (*args->checkpoint_xml
            && !(ret->checkpoint = checkpoint_def_parse (args->checkpoint_xml, 0, error))))
        return FALSE;
    plan_mark_directories (ret->def);
    g_autoptr (virDomain) domain = lv_guest_domain (guest, error);
    if (!domain || !(ret->picture = lv_picture_load (domain, TRUE, error))
        || !load_checkpoints (guest, domain, ret, error) || !find_places (guest, ret, error))
        return FALSE;
    ret->id = record_new_id ();
    virConnectGetVersion (virDomainGetConnect (domain), &ret->qemu_version);
    virConnectGetLibVersion (virDomainGetConnect (domain), &ret->libvirt_version);
    if (ret->def->series && !ret->checkpoint)
        series_checkpoint (ret);
    if (ret->checkpoint && !ret->checkpoint->name)
        ret->checkpoint->name =
            g_strdup_printf ("%" G_GINT64_FORMAT, g_get_real_time () / G_USEC_PER_SEC);
    return TRUE;
}

Plan *lv_request_plan (LvGuest *guest, const bak_begin_args *args, LvRequest *request,
                       GError **error)
{
    LvPlanInput input = { .job = request->id,
                          .domain = guest->name,
                          .def = request->def,
                          .checkpoint = request->checkpoint,
                          .picture = request->picture,
                          .bases = request->bases,
                          .names = request->names,
                          .records = request->records,
                          .refused = request->refused,
                          .flags = args->flags,
                          .local = guest->lv->local,
                          .job_dir = request->job_dir,
                          .scratch_dir = request->scratch_dir,
                          .target_dir = request->target_dir,
                          .tls_dir = request->tls_dir,
                          .free_port = request->port,
                          .qemu_version = request->qemu_version,
                          .libvirt_version = request->libvirt_version };
    g_autoptr (GHashTable) touched = lv_plan_look_at_backings (&input);
    input.touched = touched;
    return lv_plan_backup (&input, error);
}

guint lv_request_refusals (const LvRequest *request)
{
    return request->refused ? g_hash_table_size (request->refused) : 0;
}

/* "... bitmap 'c1' for disk 'vda'": libvirt names the disk whose increment it refuses. */
gboolean lv_request_learn (LvRequest *request, const GError *failure)
{
    const char *mark =
        error_code (failure) == BAK_ERROR_INEXACT ? strstr (failure->message, "for disk '") : NULL;
    const char *start = mark ? mark + strlen ("for disk '") : NULL,
               *end = start ? strchr (start, '\'') : NULL;
    if (!end)
        return FALSE;
    if (!request->refused)
        request->refused = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
    return g_hash_table_replace (request->refused, g_strndup (start, end - start),
                                 g_strdup (_("bitmap missing or inconsistent")));
}
