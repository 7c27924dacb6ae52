/* What is asked for, held against what libvirt can say and what the guest has. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/libvirt/planner.h"
#include "job/build.h"

static void item_free (Item *item)
{
    store_def_free (item->store);
    g_free (item);
}

/* ---- which disks ---- */

static gboolean item_add (Planner *p, const LvDisk *disk, const BackupDiskDef *def, GError **error)
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
    item->out = g_new0 (PlanDisk, 1);
    item->out->target = g_strdup (disk->target);
    item->out->size = disk->capacity;
    g_ptr_array_add (p->plan->disks, item->out);
    g_ptr_array_add (p->items, item);
    return TRUE;
}

static gboolean select_named (Planner *p, GError **error)
{
    const BackupDef *def = p->in->def;
    g_autoptr (GHashTable) seen = g_hash_table_new (NULL, NULL);

    for (guint i = 0; i < def->disks->len; i++) {
        const BackupDiskDef *disk_def = def->disks->pdata[i];
        const LvDisk *disk = lv_picture_disk (p->in->picture, disk_def->name, error);
        if (!disk)
            return FALSE;
        if (!g_hash_table_add (seen, (gpointer) disk))
            return error_set (error, BAK_ERROR_XML, _("disk '%s' is named twice"), disk_def->name);
        if (disk_def->backup == TRISTATE_NO)
            continue;
        const char *rule = lv_disk_excluded (disk);
        if (rule)
            return error_set (error, BAK_ERROR_NO_DISK, _("disk '%s' cannot be backed up: it %s"),
                              disk_def->name, rule);
        if (!item_add (p, disk, disk_def, error))
            return FALSE;
    }
    for (guint i = 0; def->dialect == DIALECT_2016 && i < p->in->picture->disks->len; i++) {
        const LvDisk *disk = p->in->picture->disks->pdata[i];
        if (!lv_disk_excluded (disk) && !g_hash_table_contains (seen, disk))
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
    if (p->in->def->has_disks && !select_named (p, error))
        return FALSE;
    for (guint i = 0; !p->in->def->has_disks && i < p->in->picture->disks->len; i++) {
        const LvDisk *disk = p->in->picture->disks->pdata[i];
        if (!lv_disk_excluded (disk) && !item_add (p, disk, NULL, error))
            return FALSE;
    }
    if (p->items->len == 0)
        return error_set (error, BAK_ERROR_NO_DISK,
                          p->in->picture->disks->len ? _(
                              "no disk is left to back up: all are excluded, empty or read-only")
                                                     : _("the guest has no disk"));
    for (guint i = 0; i < p->items->len; i++) {
        const LvDisk *disk = ((Item *) p->items->pdata[i])->disk;
        if (disk->capacity == 0 || disk->capacity > G_MAXINT64)
            return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                              _("disk '%s': libvirt does not say how large it is"), disk->target);
    }
    return TRUE;
}

/* ---- where the data goes ---- */

static gboolean check_store (Planner *p, const Item *item, GError **error)
{
    const char *disk = item->disk->target, *format = item->out->format;
    const StoreDef *store = item->store;

    if (store->type == STORE_NETWORK)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("disk '%s': network targets (%s): libvirt writes backups to files and "
                             "block devices only; "
                             "use a file or block target, or a pull backup"),
                          disk, store_protocol_to_string (store->protocol));
    if (!g_str_equal (format, "raw") && !g_str_equal (format, "qcow2"))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("disk '%s': format '%s' is not supported yet; use qcow2 or raw"), disk,
                          format);
    if (!store->path || !g_path_is_absolute (store->path))
        return error_set (error, BAK_ERROR_XML, _("disk '%s': '%s' is not an absolute path"), disk,
                          store->path ? store->path : "");
    for (guint i = 0; i < p->items->len; i++) {
        const Item *other = p->items->pdata[i];
        if (other != item && other->store && g_strcmp0 (other->store->path, store->path) == 0)
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                              _("disks '%s' and '%s' would both be written to '%s'"),
                              other->disk->target, disk, store->path);
    }
    for (guint i = 0; i < p->in->picture->disks->len; i++) {
        const LvDisk *own = p->in->picture->disks->pdata[i];
        if (g_str_equal (own->source, store->path)
            || g_ptr_array_find_with_equal_func (own->chain, store->path, g_str_equal, NULL))
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                              _("disk '%s': '%s' is in use by the guest itself (disk '%s')"), disk,
                              store->path, own->target);
    }
    return TRUE;
}

static gboolean resolve_store (Planner *p, Item *item, GError **error)
{
    const StoreDef *given = !item->def ? NULL : p->pull ? item->def->scratch : item->def->target;
    const char *dir = p->pull ? p->in->scratch_dir : p->in->target_dir,
               *target = item->disk->target;
    const char *format = item->def ? item->def->format : NULL;

    if (p->pull && given && store_def_is_directory (given)) {
        dir = given->path;
        given = NULL;
    }
    if (given && (given->type == STORE_NETWORK || given->path)) {
        item->store = store_def_copy (given);
    } else if (!dir) {
        return error_set (
            error, BAK_ERROR_INVALID_ARGUMENT,
            p->pull
                ? _("disk '%s' has no scratch: name a directory that QEMU may write to (<guest "
                     "scratch='DIR'/>, --scratch DIR) or set scratch_dir in the configuration")
                : _("disk '%s' has no target: name one (<target file='…'/>, --target DISK=FILE) "
                     "or set target_dir in the configuration"),
            target);
    } else {
        const char *suffix = p->pull ? "scratch" : g_strcmp0 (format, "raw") == 0 ? "raw" : "qcow2";
        guint index = 0;
        g_ptr_array_find (p->items, item, &index);
        g_autofree char *file = plan_file_name (p->in->domain, target, index, p->in->job, suffix);
        item->store = store_def_new (STORE_FILE);
        item->store->path = g_build_filename (dir, file, NULL);
        item->generated = TRUE;
    }
    item->out->format = g_strdup (format ? format : "qcow2");
    if (p->pull && !g_str_equal (item->out->format, "qcow2"))
        return error_set (error, BAK_ERROR_XML,
                          _("disk '%s': scratch of a pull backup has format qcow2, not '%s'"),
                          target, item->out->format);
    if (!check_store (p, item, error))
        return FALSE;
    *(p->pull ? &item->out->scratch : &item->out->path) = g_strdup (item->store->path);
    return TRUE;
}

/* ---- what libvirt has no word for ---- */

static gboolean check_features (Planner *p, const Item *item, GError **error)
{
    const BackupDiskDef *def = item->def;
    const char *disk = item->disk->target;

    if (!def)
        return TRUE;
    if (def->sync == SYNC_TOP || def->sync == SYNC_NONE)
        return lv_plan_refuse (
            disk, def->sync == SYNC_TOP ? "sync='top'" : "sync='none'",
            _("libvirt copies a whole disk or an increment since a checkpoint; it has "
               "no other mode"),
            error);
    if (def->compression && !g_str_equal (def->compression, "none"))
        return lv_plan_refuse (
            disk, _("compression at push"),
            _("libvirt does not let QEMU compress what a backup writes; compress the "
               "finished copy (qemu-img convert -c)"),
            error);
    lv_note_granularity (p, disk, def->granularity);
    if (item->store->encryption && item->store->encryption->secret_file)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("disk '%s': libvirt keeps pass phrases itself (virsh secret-define): "
                             "name the secret by its uuid or usage, not by a file"),
                          item->disk->target);
    if (item->store->encryption && item->incremental && !p->pull)
        return lv_plan_refuse (
            disk, _("an encrypted increment"),
            _("libvirt would name the live image as its backing file, and an encrypted "
               "image cannot be re-based without its secret"),
            error);
    if (def->backing && item->store->encryption)
        return lv_plan_refuse (disk, "<backing>",
                               _("an encrypted image cannot be laid on a previous backup"), error);
    if (def->cluster_size && (p->pull || item->store->encryption || !p->in->local))
        return lv_plan_refuse (
            disk, "cluster_size=", _("libvirt formats this image and has no word for it"), error);
    return TRUE;
}

/* On anything but the backup of the checkpoint's instant an increment makes a disk that never was.
 */
static gboolean check_previous (Planner *p, const Item *item, GError **error)
{
    const char *backing = item->def->backing, *disk = item->disk->target;
    const Checkpoint *since = lv_plan_record (p->in, item->base);
    const CheckpointDisk *recorded = lv_plan_disk_record (p->in, item->base, disk);
    const Checkpoint *later =
        p->in->records
            ? checkpoint_later_in_file (p->in->records, since ? since->sequence : 0, backing)
            : NULL;

    if (later)
        return error_set (
            error, BAK_ERROR_INEXACT,
            _("disk '%s': '%s' holds the backup of checkpoint '%s', not that of '%s'"), disk,
            backing, later->name, item->base);
    if (!recorded || !recorded->backup)
        lv_plan_note (
            p,
            _("disk '%s': nothing is recorded of the file that holds the backup of checkpoint "
               "'%s'; that it is '%s' is taken on trust"),
            disk, item->base, backing);
    return TRUE;
}

static gboolean check_backing (Planner *p, const Item *item, GError **error)
{
    const char *backing = item->def ? item->def->backing : NULL, *disk = item->disk->target;
    if (!backing)
        return TRUE;
    if (p->pull || !g_str_equal (item->out->format, "qcow2"))
        return error_set (
            error, BAK_ERROR_INVALID_ARGUMENT,
            _("disk '%s': only an increment in a qcow2 file or device can be laid on '%s'"), disk,
            backing);
    if (!item->incremental && !item->out->reason)
        return error_set (
            error, BAK_ERROR_INVALID_ARGUMENT,
            _("disk '%s': a full backup is not laid on another ('%s'): --onto goes with --since"),
            disk, backing);
    for (guint i = 0; i < p->in->picture->disks->len; i++) {
        const LvDisk *own = p->in->picture->disks->pdata[i];
        if (g_ptr_array_find_with_equal_func (own->chain, backing, g_str_equal, NULL))
            return error_set (
                error, BAK_ERROR_INVALID_ARGUMENT,
                _("disk '%s': '%s' is an image of the running guest, not a previous backup"), disk,
                backing);
    }
    return !item->incremental || check_previous (p, item, error);
}

static gboolean resolve (Planner *p, Item *item, GError **error)
{
    if (lv_wants_increment (p, item) && !lv_resolve_incremental (p, item, error))
        return FALSE;
    item->out->type = g_strdup (item->incremental ? "incremental" : "full");
    item->out->since = item->incremental ? g_strdup (item->base) : NULL;
    if (!resolve_store (p, item, error) || !check_features (p, item, error)
        || !check_backing (p, item, error))
        return FALSE;
    guint64 limit = item->def && item->def->limit ? item->def->limit
                    : p->in->def->limit           ? MAX (1, p->in->def->limit / p->items->len)
                                                  : 0;
    if (limit && p->pull)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("a pull backup is as fast as its reader: limit the reader"));
    item->out->limit = limit;
    return TRUE;
}

static gboolean check_protection (Planner *p, GError **error)
{
    Protect protect = p->in->def->protect;
    const char *text =
        _("a full target or scratch can pause the guest: space is watched, and the guest resumed");
    if (protect == PROTECT_STRICT)
        return error_set (
            error, BAK_ERROR_NOT_SUPPORTED,
            _("protect='strict': libvirt cannot keep a failing target or scratch away from the "
               "guest's writes "
               "(copy-before-write filters); attach the guest by QMP, or use protect='yes'"));
    if (protect == PROTECT_NO)
        text = _("none (asked for)");
    else if (!p->in->local)
        text = _("the guest is resumed if a full target or scratch has paused it; space on the "
                  "other host cannot be watched");
    if (protect != PROTECT_NO)
        lv_plan_note (p, _("protection of the guest: %s"), text);
    for (guint i = 0; i < p->items->len; i++)
        ((Item *) p->items->pdata[i])->out->protection = g_strdup (text);
    return TRUE;
}

/* ---- entries ---- */

static gboolean check_flags (Planner *p, GError **error)
{
    if (p->in->def->instant == INSTANT_END)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("instant='end': a backup that libvirt takes shows the moment of its "
                             "begin; use instant='begin'"));
    if ((p->in->flags & BEGIN_PRESERVE_SHUTDOWN)
        && p->in->libvirt_version < LIBVIRT_PRESERVE_SHUTDOWN)
        return error_set (
            error, BAK_ERROR_NOT_SUPPORTED,
            _("keeping the guest when it shuts down needs libvirt 11.10; this is %lu.%lu.%lu"),
            p->in->libvirt_version / 1000000, p->in->libvirt_version / 1000 % 1000,
            p->in->libvirt_version % 1000);
    if ((p->in->flags & BEGIN_QUIESCE) && !p->in->picture->agent)
        return error_set (error, BAK_ERROR_AGENT,
                          _("guest '%s' has no guest agent channel (org.qemu.guest_agent.0): its "
                             "file systems cannot be frozen"),
                          p->in->domain);
    return TRUE;
}

static Plan *planner_end (Planner *p, gboolean ok)
{
    g_ptr_array_unref (p->items);
    if (!ok)
        g_clear_pointer (&p->plan, plan_free);
    return p->plan;
}

static void planner_begin (Planner *p, const LvPlanInput *input)
{
    *p = (Planner){ .in = input,
                    .plan = plan_new (input->job, input->def ? input->def->mode : BACKUP_MODE_PUSH),
                    .pull = input->def && input->def->mode == BACKUP_MODE_PULL };
    p->items = g_ptr_array_new_with_free_func ((GDestroyNotify) item_free);
}

Plan *lv_plan_backup (const LvPlanInput *input, GError **error)
{
    Planner p;
    planner_begin (&p, input);
    gboolean ok = check_flags (&p, error) && select_disks (&p, error);
    for (guint i = 0; ok && i < p.items->len; i++)
        ok = resolve (&p, p.items->pdata[i], error);
    ok = ok && check_protection (&p, error)
         && (p.pull ? lv_plan_pull (&p, error) : lv_plan_push (&p, error));
    return planner_end (&p, ok);
}

Plan *lv_plan_checkpoint (const LvPlanInput *input, gboolean quiesce, GError **error)
{
    Planner p;
    g_autofree char *xml = NULL;
    planner_begin (&p, input);
    gboolean ok = lv_plan_checkpoint_xml (&p, &xml, error);
    if (ok && quiesce && !input->picture->agent)
        ok = error_set (error, BAK_ERROR_AGENT,
                        _("guest '%s' has no guest agent channel (org.qemu.guest_agent.0): its "
                           "file systems cannot be frozen"),
                        input->domain);
    if (ok && quiesce)
        lv_add_freeze (&p);
    if (ok)
        plan_add (p.plan, _("make the checkpoint"), NULL,
                  own_action ("virDomainCheckpointCreateXML", obj ("xml", "s", xml, NULL)),
                  kept (own_action ("virDomainCheckpointDelete",
                                    obj ("name", "s", input->checkpoint->name, NULL))),
                  NULL);
    if (ok && quiesce)
        plan_add (p.plan, _("thaw the guest's file systems"), NULL, lv_thaw_action (), NULL);
    return planner_end (&p, ok);
}
