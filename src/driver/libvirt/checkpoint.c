/* Checkpoints are libvirt's own; beside them lies what libvirt does not keep (sizes, the job, the
 * series). One whose backup has not succeeded yet is not shown and cannot be started from. Bitmaps
 * are looked at through libvirt while the guest runs, in the images when it does not. */
#include <stdlib.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/libvirt/home.h"
#include "driver/libvirt/local.h"
#include "driver/libvirt/offline.h"
#include "job/image.h"
#include "util/json.h"

typedef struct {
    char *name, *parent;
    gint64 created;
} Item;

static void item_free (Item *item)
{
    g_free (item->name);
    g_free (item->parent);
    g_free (item);
}

/* ---- reading ---- */

static Item *item_of (virDomainCheckpointPtr checkpoint)
{
    g_autoptr (LvCheckpoint) parsed =
        lv_checkpoint_describe (checkpoint, VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN, NULL);
    Item *item = g_new0 (Item, 1);
    item->name = g_strdup (virDomainCheckpointGetName (checkpoint));
    item->parent = parsed ? g_strdup (parsed->parent) : NULL;
    item->created = parsed ? parsed->created : 0;
    return item;
}

/* Takes over what libvirt listed, without the provisional one. */
static GPtrArray *take_list (LvGuest *guest, virDomainCheckpointPtr *list, int count)
{
    GPtrArray *items = g_ptr_array_new_with_free_func ((GDestroyNotify) item_free);
    g_autofree char *provisional = lv_provisional (guest);
    for (int i = 0; i < count; i++) {
        if (g_strcmp0 (virDomainCheckpointGetName (list[i]), provisional) != 0)
            g_ptr_array_add (items, item_of (list[i]));
        virDomainCheckpointFree (list[i]);
    }
    free (list);
    return items;
}

static GPtrArray *list_all (LvGuest *guest, virDomainPtr domain, guint flags, GError **error)
{
    virDomainCheckpointPtr *list = NULL;
    int count = virDomainListAllCheckpoints (domain, &list, flags);
    if (count < 0) {
        lv_error (error);
        return NULL;
    }
    return take_list (guest, list, count);
}

static guint children_of (GPtrArray *all, const char *name)
{
    guint count = 0;
    for (guint i = 0; i < all->len; i++)
        count += g_strcmp0 (((Item *) all->pdata[i])->parent, name) == 0;
    return count;
}

static void fill_item (GPtrArray *all, const Item *item, bak_checkpoint_item *ret)
{
    ret->name = ret_string (item->name);
    ret->parent = ret_string (item->parent);
    ret->created = item->created;
    ret->children = children_of (all, item->name);
    ret->note = ret_string ("");
}

static gboolean fill_list (GPtrArray *all, GPtrArray *chosen, bak_checkpoints_ret *ret,
                           GError **error)
{
    if (chosen->len > BAK_CHECKPOINTS_MAX)
        return error_set (error, BAK_ERROR_INTERNAL, _("more than %d checkpoints"),
                          BAK_CHECKPOINTS_MAX);
    ret->checkpoints.checkpoints_len = chosen->len;
    ret->checkpoints.checkpoints_val = ret_array (chosen->len, sizeof (bak_checkpoint_item));
    for (guint i = 0; i < chosen->len; i++)
        fill_item (all, chosen->pdata[i], &ret->checkpoints.checkpoints_val[i]);
    return TRUE;
}

enum {
    LIST_FLAGS = CHECKPOINT_LIST_ROOTS | CHECKPOINT_LIST_TOPOLOGICAL | CHECKPOINT_LIST_LEAVES
                 | CHECKPOINT_LIST_NO_LEAVES
};

static gboolean check_flags (guint flags, guint known, GError **error)
{
    return !(flags & ~known)
           || error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("unsupported flags (0x%x)"),
                         flags & ~known);
}

gboolean lv_local_checkpoint_list (LvGuest *guest, const void *data, void *ret, GError **error)
{
    const bak_domain_arg *args = data;
    g_autoptr (virDomain) domain =
        check_flags (args->flags, LIST_FLAGS, error) ? lv_guest_domain (guest, error) : NULL;
    g_autoptr (GPtrArray) all =
        domain ? list_all (guest, domain, VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL, error) : NULL;
    if (!all)
        return FALSE;
    /* flags have libvirt's numbers; without any the order is that of creation, as the other drivers
     * have it */
    g_autoptr (GPtrArray) chosen =
        list_all (guest, domain, args->flags | VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL, error);
    return chosen && fill_list (all, chosen, ret, error);
}

static virDomainCheckpointPtr find (LvGuest *guest, virDomainPtr domain, const char *name,
                                    GError **error)
{
    g_autofree char *provisional = lv_provisional (guest), *shown = text_sanitize (name, 256);
    if (g_strcmp0 (name, provisional) == 0) {
        error_set (
            error, BAK_ERROR_NO_CHECKPOINT,
            _("checkpoint '%s' is provisional until the backup that makes it has succeeded"),
            shown);
        return NULL;
    }
    virDomainCheckpointPtr checkpoint = virDomainCheckpointLookupByName (domain, name, 0);
    if (!checkpoint && virGetLastErrorCode () == VIR_ERR_NO_DOMAIN_CHECKPOINT)
        error_set (error, BAK_ERROR_NO_CHECKPOINT, _("guest '%s' has no checkpoint '%s'"),
                   guest->name, shown);
    else if (!checkpoint)
        lv_error (error);
    return checkpoint;
}

gboolean lv_local_checkpoint_children (LvGuest *guest, const void *data, void *ret, GError **error)
{
    const bak_checkpoint_arg *args = data;
    g_autoptr (virDomain) domain =
        check_flags (args->flags, LIST_FLAGS, error) ? lv_guest_domain (guest, error) : NULL;
    g_autoptr (virDomainCheckpoint) checkpoint =
        domain ? find (guest, domain, args->name, error) : NULL;
    virDomainCheckpointPtr *list = NULL;
    int count =
        checkpoint ? virDomainCheckpointListAllChildren (checkpoint, &list, args->flags) : 0;

    if (!checkpoint)
        return FALSE;
    if (count < 0)
        return lv_error (error);
    g_autoptr (GPtrArray) chosen = take_list (guest, list, count);
    g_autoptr (GPtrArray) all = list_all (guest, domain, 0, error);
    return all && fill_list (all, chosen, ret, error);
}

gboolean lv_local_checkpoint_lookup (LvGuest *guest, const void *data, void *ret, GError **error)
{
    const bak_checkpoint_arg *args = data;
    g_autoptr (virDomain) domain = lv_guest_domain (guest, error);
    g_autoptr (virDomainCheckpoint) checkpoint =
        domain ? find (guest, domain, args->name, error) : NULL;
    g_autoptr (GPtrArray) all = checkpoint ? list_all (guest, domain, 0, error) : NULL;
    if (!all)
        return FALSE;
    Item *item = item_of (checkpoint);
    fill_item (all, item, &((bak_checkpoint_ret *) ret)->checkpoint);
    item_free (item);
    return TRUE;
}

gboolean lv_local_checkpoint_xml (LvGuest *guest, const void *data, void *ret, GError **error)
{
    const bak_checkpoint_arg *args = data;
    g_autoptr (virDomain) domain = lv_guest_domain (guest, error);
    g_autoptr (virDomainCheckpoint) checkpoint =
        domain ? find (guest, domain, args->name, error) : NULL;
    char *xml = checkpoint ? virDomainCheckpointGetXMLDesc (checkpoint, args->flags) : NULL;
    if (!checkpoint)
        return FALSE;
    if (!xml)
        return lv_error (error);
    lv_look_at_sizes (guest->lv->conn, domain);
    ((bak_text_ret *) ret)->text = xml; /* from malloc, as the contract wants it */
    return TRUE;
}

/* ---- create and redefine ---- */

static gboolean refuse_while_job (LvGuest *guest, const char *what, GError **error)
{
    if (!guest->job)
        return TRUE;
    return error_set (error, BAK_ERROR_BUSY, _("guest '%s': cannot %s while backup job %s is %s"),
                      guest->name, what, guest->job->record.id,
                      job_state_to_string (guest->job->record.state));
}

static gboolean redefine (LvGuest *guest, virDomainPtr domain,
                          const bak_checkpoint_create_args *args, GError **error)
{
    g_autoptr (CheckpointDef) def =
        checkpoint_def_parse (args->xml, CHECKPOINT_PARSE_REDEFINE, error);
    if (!def)
        return FALSE;
    for (guint i = 0; i < def->disks->len; i++) {
        const CheckpointDiskDef *disk = def->disks->pdata[i];
        if (disk->persistent == TRISTATE_NO)
            return error_set (
                error, BAK_ERROR_NOT_SUPPORTED,
                _("disk '%s': persistent='no': libvirt keeps checkpoints in qcow2 images only"),
                disk->name);
    }
    guint flags = VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE
                  | (args->flags & CHECKPOINT_REDEFINE_VALIDATE
                         ? VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE
                         : 0);
    g_autoptr (virDomainCheckpoint) made = virDomainCheckpointCreateXML (domain, args->xml, flags);
    if (!made)
        return lv_error (error);
    return lv_checkpoints_sync (guest, domain, error);
}

static gboolean create_online (LvGuest *guest, virDomainPtr domain, LvRequest *request,
                               gboolean quiesce, char **ret_note, GError **error)
{
    LvPlanInput input = { .job = "00000000",
                          .domain = guest->name,
                          .checkpoint = request->checkpoint,
                          .picture = request->picture,
                          .names = request->names,
                          .local = guest->lv->local };
    g_autoptr (Plan) plan =
        lv_check_home (domain, error) ? lv_plan_checkpoint (&input, quiesce, error) : NULL;
    if (!plan)
        return FALSE;
    g_autoptr (GArray) states = g_array_new (FALSE, TRUE, sizeof (StepState));
    g_autoptr (GHashTable) files = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
    Run run = { .ops = &lv_run_ops,
                .data = guest,
                .plan = plan,
                .froze = -1,
                .thawed = -1,
                .states = states,
                .files = files };
    g_array_set_size (states, plan->steps->len);
    gboolean ok = run_steps (&run, error);
    lv_note_frozen (&run, error);
    g_free (run.thaw_problem);
    *ret_note = run_notes (&run);
    return ok && lv_checkpoint_record (guest, plan, NULL, error);
}

gboolean lv_local_checkpoint_create (LvGuest *guest, const void *data, void *ret, GError **error)
{
    const bak_checkpoint_create_args *args = data;
    bak_begin_args none = { .domain = guest->name,
                            .backup_xml = (char *) "<domainbackup/>",
                            .checkpoint_xml = args->xml };
    g_auto (LvRequest) request = { 0 };

    if (!check_flags (args->flags,
                      CHECKPOINT_REDEFINE | CHECKPOINT_QUIESCE | CHECKPOINT_REDEFINE_VALIDATE,
                      error))
        return FALSE;
    g_autoptr (virDomain) domain = lv_guest_domain (guest, error);
    if (!domain)
        return FALSE;
    if (args->flags & CHECKPOINT_REDEFINE) {
        g_autoptr (CheckpointDef) def =
            checkpoint_def_parse (args->xml, CHECKPOINT_PARSE_REDEFINE, error);
        return def && redefine (guest, domain, args, error)
               && lv_local_checkpoint_lookup (
                   guest, &(bak_checkpoint_arg){ .domain = guest->name, .name = def->name }, ret,
                   error);
    }
    if (!*args->xml) {
        g_autoptr (CheckpointDef) empty = checkpoint_def_parse (args->xml, 0, error);
        return empty != NULL;
    }
    if (!refuse_while_job (guest, _("make a checkpoint"), error)
        || !lv_request_load (guest, &none, &request, error))
        return FALSE;
    g_autofree char *note = NULL;
    gboolean ok = request.picture->active
                      ? create_online (guest, domain, &request,
                                       (args->flags & CHECKPOINT_QUIESCE) != 0, &note, error)
                      : lv_offline_checkpoint_create (guest, &request, args, &note, error);
    if (!ok
        || !lv_local_checkpoint_lookup (
            guest, &(bak_checkpoint_arg){ .domain = guest->name, .name = request.checkpoint->name },
            ret, error))
        return FALSE;
    bak_checkpoint_item *item = &((bak_checkpoint_ret *) ret)->checkpoint;
    free (item->note);
    item->note = ret_string (note);
    return TRUE;
}

/* ---- delete ---- */

gboolean lv_local_checkpoint_delete (LvGuest *guest, const void *data, void *ret, GError **error)
{
    const bak_checkpoint_arg *args = data;
    g_autoptr (virDomain) domain = lv_guest_domain (guest, error);
    g_autoptr (virDomainCheckpoint) checkpoint =
        domain ? find (guest, domain, args->name, error) : NULL;

    if (!checkpoint || !refuse_while_job (guest, _("delete a checkpoint"), error)
        || !check_flags (args->flags,
                         CHECKPOINT_DELETE_CHILDREN | CHECKPOINT_DELETE_METADATA_ONLY
                             | CHECKPOINT_DELETE_CHILDREN_ONLY,
                         error))
        return FALSE;
    if (virDomainIsActive (domain) != 1 && !(args->flags & CHECKPOINT_DELETE_METADATA_ONLY)) {
        if (!lv_offline_checkpoint_delete (guest, domain, args, error))
            return FALSE;
    } else if (virDomainCheckpointDelete (checkpoint, args->flags) != 0) { /* libvirt's numbers */
        lv_error (error);
        if (error && *error && strstr ((*error)->message, "not found in backing chain"))
            error_note (error, _("the bitmap is gone; checkpoint-check --repair or --metadata "
                                  "removes what is left"));
        return FALSE;
    }
    g_autoptr (GPtrArray) names = lv_checkpoint_names (domain, error);
    if (!names
        || !lv_checkpoints_forget_deleted (guest, names,
                                           args->flags & CHECKPOINT_DELETE_METADATA_ONLY, error))
        return FALSE;
    return TRUE;
}

/* ---- check ---- */

typedef struct {
    LvGuest *guest;
    virDomainPtr domain;
    const bak_check_args *args;
    GArray *findings; /* bak_finding */
} Check;

static bak_finding *found (Check *check, const char *kind, const char *disk, const char *bitmap,
                           const char *meaning, const char *repair)
{
    g_autofree char *clean_disk = text_sanitize (disk, BAK_NAME_MAX - 8),
                    *clean_bitmap = text_sanitize (bitmap, BAK_NAME_MAX - 8);
    bak_finding finding = { .kind = ret_string (kind),
                            .disk = ret_string (clean_disk),
                            .bitmap = ret_string (clean_bitmap),
                            .meaning = ret_string (meaning),
                            .repair = ret_string (repair) };
    g_array_append_val (check->findings, finding);
    return &g_array_index (check->findings, bak_finding, check->findings->len - 1);
}

static void repaired (bak_finding *finding, gboolean ok, const GError *failure)
{
    finding->repaired = ok;
    if (ok)
        return;
    g_autofree char *text =
        g_strdup_printf (_("%s; failed: %s"), finding->repair, failure ? failure->message : "?");
    free (finding->repair);
    finding->repair = ret_string (text);
}

/* libvirt has no word for taking one disk out of a checkpoint but defining it anew without. */
static gboolean take_out (Check *check, const LvCheckpoint *checkpoint, const char *disk,
                          GError **error)
{
    GString *xml = g_string_new (NULL);
    g_autofree char *start =
        g_markup_printf_escaped ("<domaincheckpoint><name>%s</name>", checkpoint->name);
    g_string_append (xml, start);
    if (checkpoint->description) {
        g_autofree char *text =
            g_markup_printf_escaped ("<description>%s</description>", checkpoint->description);
        g_string_append (xml, text);
    }
    if (checkpoint->parent) {
        g_autofree char *text =
            g_markup_printf_escaped ("<parent><name>%s</name></parent>", checkpoint->parent);
        g_string_append (xml, text);
    }
    g_string_append_printf (xml, "<creationTime>%" G_GINT64_FORMAT "</creationTime><disks>",
                            checkpoint->created);
    for (guint i = 0; i < checkpoint->disks->len; i++) {
        const LvCheckpointDisk *other = checkpoint->disks->pdata[i];
        gboolean out = g_str_equal (other->disk, disk);
        g_autofree char *text = g_markup_printf_escaped ("<disk name='%s' checkpoint='%s'/>",
                                                         other->disk, out ? "no" : "bitmap");
        g_string_append (xml, text);
    }
    g_string_append (xml, "</disks></domaincheckpoint>");
    g_autofree char *document = g_string_free (xml, FALSE);
    g_autoptr (virDomainCheckpoint) made = virDomainCheckpointCreateXML (
        check->domain, document, VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE);
    return made != NULL || lv_error (error);
}

/* Nothing of it can be used: it goes, with what is left of its bitmaps. */
static gboolean remove_whole (Check *check, const char *name, GError **error)
{
    g_autoptr (virDomainCheckpoint) checkpoint =
        virDomainCheckpointLookupByName (check->domain, name, 0);
    if (checkpoint && virDomainCheckpointDelete (checkpoint, 0) == 0)
        return TRUE;
    return (checkpoint
            && virDomainCheckpointDelete (checkpoint, VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
                   == 0)
           || lv_error (error);
}

static gboolean was_resized (Check *check, const char *name, const LvDisk *disk)
{
    g_autoptr (Checkpoint) record = checkpoint_exists (check->guest->dir, name)
                                        ? checkpoint_load (check->guest->dir, name, NULL)
                                        : NULL;
    for (guint i = 0; record && i < record->disks->len; i++) {
        const CheckpointDisk *then = record->disks->pdata[i];
        if (g_str_equal (then->disk, disk->target))
            return then->shrunk || (then->size && disk->capacity && then->size != disk->capacity);
    }
    return FALSE;
}

/* Returns whether no increment of the disk starts from it any more. */
static gboolean check_disk (Check *check, const LvPicture *picture, const LvCheckpoint *checkpoint,
                            const LvCheckpointDisk *recorded)
{
    const char *repair =
        _("take the disk out of the checkpoint; the next backup of it must be full");
    const LvDisk *disk = lv_picture_disk (picture, recorded->disk, NULL);
    if (!disk) {
        found (check, "absent", recorded->disk, checkpoint->name,
               _("the disk is not in the guest now"),
               _("nothing: it counts again when the disk is back"));
        return FALSE;
    }
    gboolean resized = was_resized (check, checkpoint->name, disk);
    if (resized)
        found (check, "resized", recorded->disk, checkpoint->name,
               _("no increment from it is exact: the disk was resized"), repair);
    else if (!recorded->has_size)
        found (check, "lost", recorded->disk, checkpoint->name,
               _("no increment from it is exact: libvirt finds its bitmap missing, inconsistent "
                  "(QEMU was killed or crashed), or with a gap in the image chain"),
               repair);
    return resized || !recorded->has_size;
}

static void check_checkpoint (Check *check, const LvPicture *picture,
                              const LvCheckpoint *checkpoint)
{
    guint first = check->findings->len, lost = 0;
    for (guint i = 0; i < checkpoint->disks->len; i++)
        lost += check_disk (check, picture, checkpoint, checkpoint->disks->pdata[i]);
    if (!(check->args->flags & CHECK_REPAIR) || lost == 0)
        return;
    g_autoptr (GError) failure = NULL;
    gboolean whole = lost == checkpoint->disks->len,
             ok = !whole || remove_whole (check, checkpoint->name, &failure);
    for (guint i = first; i < check->findings->len; i++) {
        bak_finding *finding = &g_array_index (check->findings, bak_finding, i);
        if (g_str_equal (finding->kind, "absent"))
            continue;
        if (!whole) {
            g_clear_error (&failure);
            g_autoptr (virDomainCheckpoint) now =
                virDomainCheckpointLookupByName (check->domain, checkpoint->name, 0);
            g_autoptr (LvCheckpoint) present =
                now ? lv_checkpoint_describe (now, VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN, &failure)
                    : NULL;
            ok = present && take_out (check, present, finding->disk, &failure);
        }
        repaired (finding, ok, failure);
    }
}

static gboolean check_checkpoints (Check *check, const LvPicture *picture, GPtrArray *names,
                                   GError **error)
{
    for (guint i = 0; i < names->len; i++) {
        g_autoptr (virDomainCheckpoint) checkpoint =
            virDomainCheckpointLookupByName (check->domain, names->pdata[i], 0);
        g_autoptr (LvCheckpoint) parsed =
            checkpoint ? lv_checkpoint_describe (
                checkpoint, VIR_DOMAIN_CHECKPOINT_XML_SIZE | VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN,
                error)
                       : NULL;
        if (checkpoint && !parsed)
            return error_note (error, _("checkpoint '%s'"), (char *) names->pdata[i]);
        if (parsed)
            check_checkpoint (check, picture, parsed);
    }
    return TRUE;
}

/* Ours alone: libvirt has the checkpoint still. */
static void check_record (Check *check, const char *name)
{
    g_autoptr (GError) why = NULL, failure = NULL;
    g_autoptr (Checkpoint) record = checkpoint_exists (check->guest->dir, name)
                                        ? checkpoint_load (check->guest->dir, name, &why)
                                        : NULL;
    if (!why)
        return;
    bak_finding *finding = found (check, "damaged", "", name, why->message,
                                  _("set the record aside; the checkpoint and its bitmaps stay"));
    if (check->args->flags & CHECK_REPAIR)
        repaired (finding, checkpoint_set_aside (check->guest->dir, name, &failure), failure);
}

static gboolean is_named (const Check *check, const char *bitmap)
{
    for (guint i = 0; i < check->args->names.names_len; i++)
        if (g_str_equal (check->args->names.names_val[i], bitmap))
            return TRUE;
    return FALSE;
}

/* A bitmap that libvirt does not know is made known and deleted then: QEMU's own commands are not
 * ours to give. */
static gboolean remove_foreign (Check *check, const char *disk, const char *bitmap, GError **error)
{
    g_autofree char *xml = g_markup_printf_escaped (
        "<domaincheckpoint><name>%s</name><creationTime>%" G_GINT64_FORMAT
        "</creationTime><disks><disk name='%s' checkpoint='bitmap'/></disks></domaincheckpoint>",
        bitmap, g_get_real_time () / G_USEC_PER_SEC, disk);
    g_autoptr (virDomainCheckpoint) made =
        virDomainCheckpointCreateXML (check->domain, xml, VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE);
    if (!made)
        return lv_error (error);
    if (virDomainCheckpointDelete (made, 0) == 0)
        return TRUE;
    lv_error (error);
    virDomainCheckpointDelete (made, VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY);
    return FALSE;
}

static gboolean failed_checkpoint (LvGuest *guest, const char *name)
{
    GArray *jobs = record_list (guest->dir, NULL);
    gboolean failed = FALSE;
    for (guint i = 0; i < jobs->len; i++) {
        bak_job *job = &g_array_index (jobs, bak_job, i);
        failed = failed
                 || (g_str_equal (job->checkpoint, name)
                     && (job->state == JOB_STATE_FAILED || job->state == JOB_STATE_ABORTED));
        bak_job_clear (job);
    }
    g_array_unref (jobs);
    return failed;
}

/* What the image's header lists; a bitmap that was made since QEMU opened it is not in there yet.
 */
static void check_image (Check *check, const LvDisk *disk, GPtrArray *names)
{
    g_autoptr (ImageInfo) info =
        g_str_equal (disk->format, "qcow2") && g_path_is_absolute (disk->source)
            ? image_probe (disk->source, "qcow2", NULL)
            : NULL;
    for (guint i = 0; info && i < info->bitmaps->len; i++) {
        const char *name = ((ImageBitmap *) info->bitmaps->pdata[i])->name;
        if (g_ptr_array_find_with_equal_func (names, name, g_str_equal, NULL))
            continue;
        gboolean orphan = failed_checkpoint (check->guest, name);
        bak_finding *finding = found (
            check, orphan ? "orphan" : "foreign", disk->target, name,
            orphan ? _(
                "the bitmap of a checkpoint whose backup did not succeed: nothing starts from it")
                   : _("a bitmap that no checkpoint knows: another program's, or of a checkpoint "
                        "that was deleted with --metadata"),
            orphan || is_named (check, name) ? _("remove the bitmap")
                                             : _("nothing, unless it is named"));
        if ((check->args->flags & CHECK_REPAIR) && (orphan || is_named (check, name))) {
            g_autoptr (GError) failure = NULL;
            repaired (finding, remove_foreign (check, disk->target, name, &failure), failure);
        }
    }
}

gboolean lv_local_checkpoint_check (LvGuest *guest, const void *data, void *ret, GError **error)
{
    const bak_check_args *args = data;
    bak_check_ret *out = ret;
    g_autoptr (virDomain) domain =
        check_flags (args->flags, CHECK_REPAIR, error) ? lv_guest_domain (guest, error) : NULL;
    g_autoptr (LvPicture) picture = domain ? lv_picture_load (domain, TRUE, error) : NULL;
    g_autoptr (GPtrArray) names = picture ? lv_checkpoint_names (domain, error) : NULL;

    if (!names
        || ((args->flags & CHECK_REPAIR)
            && !refuse_while_job (guest, _("repair checkpoints"), error))
        || !lv_checkpoints_sync (guest, domain, error))
        return FALSE;
    if (!picture->active)
        return lv_offline_checkpoint_check (guest, domain, args, ret, error);
    g_autoptr (GPtrArray) records = checkpoint_load_all (guest->dir, NULL);
    if (!checkpoints_see_sizes (guest->dir, records, lv_size_in_picture, picture, error))
        return FALSE;
    Check check = { guest, domain, args, g_array_new (FALSE, TRUE, sizeof (bak_finding)) };
    gboolean ok = check_checkpoints (&check, picture, names, error);
    for (guint i = 0; ok && i < names->len; i++)
        check_record (&check, names->pdata[i]);
    for (guint i = 0; ok && guest->lv->local && i < picture->disks->len; i++)
        check_image (&check, picture->disks->pdata[i], names);
    out->findings.findings_len = MIN (check.findings->len, BAK_FINDINGS_MAX);
    out->findings.findings_val = ret_array (out->findings.findings_len, sizeof (bak_finding));
    memcpy (out->findings.findings_val, check.findings->data,
            out->findings.findings_len * sizeof (bak_finding));
    g_array_unref (check.findings);
    if (!ok)
        call_clear_ret (CALL_ID_checkpoint_check, ret);
    return ok;
}
