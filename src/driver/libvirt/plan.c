#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/libvirt/plan.h"
#include "driver/qemu/build.h"

enum { QEMU_WITHOUT_IOTHREAD_CRASH = 8000000, LIBVIRT_PRESERVE_SHUTDOWN = 11010000 };

typedef struct {
    const LvDisk *disk;
    const BackupDiskDef *def;   /* borrowed; NULL: nothing said about it */
    PlanDisk *out;
    gboolean incremental;
    const char *base;           /* name of the checkpoint */
    StoreDef *store;            /* target of a push, scratch of a pull */
    gboolean generated;
} Item;

typedef struct {
    const LvPlanInput *in;
    Plan *plan;
    GPtrArray *items;           /* Item* */
    gboolean pull;
    gboolean made_here;         /* we make the targets, so that their headers never name the live image */
} Planner;

static void item_free (Item *item)
{
    store_def_free (item->store);
    g_free (item);
}

static void note (Planner *p, const char *format, ...) G_GNUC_PRINTF (2, 3);
static void note (Planner *p, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    g_ptr_array_add (p->plan->notes, g_strdup_vprintf (format, args));
    va_end (args);
}

/* ---- which disks ---- */

static gboolean item_add (Planner *p, const LvDisk *disk, const BackupDiskDef *def, GError **error)
{
    for (guint i = 0; i < p->items->len; i++) {
        const Item *other = p->items->pdata[i];
        if (other->disk == disk)
            return error_set (error, BAK_ERROR_XML, _("disk '%s' is named twice (also as '%s')"), def ? def->name : disk->target,
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
            return error_set (error, BAK_ERROR_NO_DISK, _("disk '%s' cannot be backed up: it %s"), disk_def->name, rule);
        if (!item_add (p, disk, disk_def, error))
            return FALSE;
    }
    for (guint i = 0; def->dialect == DIALECT_2016 && i < p->in->picture->disks->len; i++) {
        const LvDisk *disk = p->in->picture->disks->pdata[i];
        if (!lv_disk_excluded (disk) && !g_hash_table_contains (seen, disk))
            return error_set (error, BAK_ERROR_XML, _("disk '%s' is not named: a document of the 2016 form must name every writable "
                              "disk, with present='no' for one that is left out"), disk->target);
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
        return error_set (error, BAK_ERROR_NO_DISK, p->in->picture->disks->len
                          ? _("no disk is left to back up: all are excluded, empty or read-only")
                          : _("the guest has no disk"));
    for (guint i = 0; i < p->items->len; i++) {
        const LvDisk *disk = ((Item *) p->items->pdata[i])->disk;
        if (disk->capacity == 0 || disk->capacity > G_MAXINT64)
            return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("disk '%s': libvirt does not say how large it is"), disk->target);
    }
    return TRUE;
}

/* ---- full or incremental ---- */

static const char *newest_of_series (GPtrArray *records, GPtrArray *names, const char *series)
{
    const Checkpoint *newest = NULL;
    for (guint i = 0; records && i < records->len; i++) {
        const Checkpoint *record = records->pdata[i];
        gboolean exists = FALSE;
        for (guint k = 0; names && k < names->len; k++)
            exists = exists || g_str_equal (names->pdata[k], record->name);
        if (exists && g_strcmp0 (record->series, series) == 0 && (!newest || record->sequence > newest->sequence))
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

static const Checkpoint *find_record (const LvPlanInput *in, const char *name)
{
    for (guint i = 0; in->records && i < in->records->len; i++) {
        const Checkpoint *record = in->records->pdata[i];
        if (g_str_equal (record->name, name))
            return record;
    }
    return NULL;
}

static const CheckpointDisk *find_disk_record (const LvPlanInput *in, const char *name, const char *target)
{
    const Checkpoint *record = find_record (in, name);
    for (guint i = 0; record && i < record->disks->len; i++)
        if (g_str_equal (((CheckpointDisk *) record->disks->pdata[i])->disk, target))
            return record->disks->pdata[i];
    return NULL;
}

/* Why no exact increment of this disk since that checkpoint is possible; NULL: one is. Caller frees. */
static char *why_not (Planner *p, const LvDisk *disk, const LvCheckpoint *base)
{
    const LvCheckpointDisk *in_base = lv_checkpoint_disk (base, disk->target);
    const CheckpointDisk *record = find_disk_record (p->in, base->name, disk->target);
    const char *refused = p->in->refused ? g_hash_table_lookup (p->in->refused, disk->target) : NULL;
    const char *then = g_hash_table_lookup (base->sources, disk->target);

    if (refused)
        return g_strdup (refused);
    if (!in_base)
        return g_strdup (_("disk not in the checkpoint"));
    if (base->doubt)
        return g_strdup (base->doubt);
    if (record && record->shrunk)
        return g_strdup (_("disk was resized: it has been smaller since, and what was cut off is in no bitmap"));
    if (record && record->size && record->size != disk->capacity)
        return g_strdup_printf (_("disk resized from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT " bytes"), record->size, disk->capacity);
    if (then && *then && disk->chain->len && !g_ptr_array_find_with_equal_func (disk->chain, then, g_str_equal, NULL))
        return g_strdup_printf (_("image replaced: the checkpoint was made on '%s'"), then);
    if (!in_base->has_size)
        return g_strdup (_("bitmap missing or inconsistent"));
    return NULL;
}

static gboolean wants_increment (Planner *p, const Item *item)
{
    if (item->def && item->def->sync != SYNC_DEFAULT)
        return item->def->sync == SYNC_INCREMENTAL;
    return (item->def && item->def->incremental) || p->in->def->incremental;
}

static gboolean resolve_incremental (Planner *p, Item *item, GError **error)
{
    const BackupDef *def = p->in->def;
    const char *target = item->disk->target;
    const char *name = item->def && item->def->incremental ? item->def->incremental : def->incremental;
    Fallback fallback = item->def && item->def->fallback != FALLBACK_DEFAULT ? item->def->fallback : def->fallback;
    BakErrorCode code = BAK_ERROR_INEXACT;
    g_autofree char *reason = NULL;

    if (!name && !def->series)
        return error_set (error, BAK_ERROR_XML, _("disk '%s': an incremental backup needs the checkpoint that it starts from: "
                          "set incremental='CHECKPOINT' for the disk or <incremental>CHECKPOINT</incremental> for all (--since)"), target);
    item->base = name ? name : newest_of_series (p->in->records, p->in->names, def->series);
    const LvCheckpoint *base = item->base ? find_base (p->in, item->base) : NULL;
    if (base) {
        reason = why_not (p, item->disk, base);
    } else {
        code = BAK_ERROR_NO_CHECKPOINT;
        reason = name ? g_strdup_printf (_("checkpoint '%s' does not exist"), name)
                      : g_strdup_printf (_("series '%s' has no checkpoint yet"), def->series);
    }
    item->incremental = reason == NULL;
    if (item->incremental)
        return TRUE;
    if (fallback == FALLBACK_FULL) {
        note (p, _("disk '%s': full instead of incremental: %s"), target, reason);
        item->out->reason = g_steal_pointer (&reason);
        return TRUE;
    }
    return error_set (error, code, _("disk '%s': no exact increment since '%s' is possible: %s; make a full backup, or allow one for such "
                      "disks with fallback='full' (--fallback full)"), target, name ? name : def->series, reason);
}

/* ---- where the data goes ---- */

static gboolean check_store (Planner *p, const Item *item, GError **error)
{
    const char *disk = item->disk->target, *format = item->out->format;
    const StoreDef *store = item->store;

    if (store->type == STORE_NETWORK)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("disk '%s': network targets (%s): libvirt writes backups to files and block devices only; "
                          "use a file or block target, or a pull backup"), disk, store_protocol_to_string (store->protocol));
    if (!g_str_equal (format, "raw") && !g_str_equal (format, "qcow2"))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("disk '%s': format '%s' is not supported yet; use qcow2 or raw"), disk, format);
    if (!store->path || !g_path_is_absolute (store->path))
        return error_set (error, BAK_ERROR_XML, _("disk '%s': '%s' is not an absolute path"), disk, store->path ? store->path : "");
    for (guint i = 0; i < p->items->len; i++) {
        const Item *other = p->items->pdata[i];
        if (other != item && other->store && g_strcmp0 (other->store->path, store->path) == 0)
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disks '%s' and '%s' would both be written to '%s'"),
                              other->disk->target, disk, store->path);
    }
    for (guint i = 0; i < p->in->picture->disks->len; i++) {
        const LvDisk *own = p->in->picture->disks->pdata[i];
        if (g_str_equal (own->source, store->path) || g_ptr_array_find_with_equal_func (own->chain, store->path, g_str_equal, NULL))
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s': '%s' is in use by the guest itself (disk '%s')"), disk, store->path, own->target);
    }
    return TRUE;
}

static gboolean resolve_store (Planner *p, Item *item, GError **error)
{
    const StoreDef *given = !item->def ? NULL : p->pull ? item->def->scratch : item->def->target;
    const char *dir = p->pull ? p->in->scratch_dir : p->in->target_dir, *target = item->disk->target;
    const char *format = item->def ? item->def->format : NULL;

    if (p->pull && given && store_def_is_directory (given)) {
        dir = given->path;
        given = NULL;
    }
    if (given && (given->type == STORE_NETWORK || given->path)) {
        item->store = store_def_copy (given);
    } else if (!dir) {
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, p->pull
                          ? _("disk '%s' has no scratch: name a directory that QEMU may write to (<guest scratch='DIR'/>, --scratch DIR) or set scratch_dir in the configuration")
                          : _("disk '%s' has no target: name one (<target file='…'/>, --target DISK=FILE) or set target_dir in the configuration"), target);
    } else {
        const char *suffix = p->pull ? "scratch" : g_strcmp0 (format, "raw") == 0 ? "raw" : "qcow2";
        g_autofree char *file = g_strdup_printf ("%s-%s-%s.%s", p->in->domain, target, p->in->job, suffix);
        item->store = store_def_new (STORE_FILE);
        item->store->path = g_build_filename (dir, g_strdelimit (file, "/ :", '_'), NULL);
        item->generated = TRUE;
    }
    item->out->format = g_strdup (format ? format : "qcow2");
    if (p->pull && !g_str_equal (item->out->format, "qcow2"))
        return error_set (error, BAK_ERROR_XML, _("disk '%s': scratch of a pull backup has format qcow2, not '%s'"), target, item->out->format);
    if (!check_store (p, item, error))
        return FALSE;
    *(p->pull ? &item->out->scratch : &item->out->path) = g_strdup (item->store->path);
    return TRUE;
}

/* ---- what libvirt has no word for ---- */

static gboolean refuse (const char *disk, const char *feature, const char *reason, GError **error)
{
    return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("disk '%s': %s: %s"), disk, feature, reason);
}

/* A coarser or finer increment is as exact. */
static void note_granularity (Planner *p, const char *disk, guint64 granularity)
{
    if (granularity)
        note (p, _("disk '%s': its bitmap has QEMU's default granularity, not %" G_GUINT64_FORMAT ": libvirt has no word for it"), disk, granularity);
}

static gboolean check_features (Planner *p, const Item *item, GError **error)
{
    const BackupDiskDef *def = item->def;
    const char *disk = item->disk->target;

    if (!def)
        return TRUE;
    if (def->sync == SYNC_TOP || def->sync == SYNC_NONE)
        return refuse (disk, def->sync == SYNC_TOP ? "sync='top'" : "sync='none'", _("libvirt copies a whole disk or an increment since a checkpoint; it has no other mode"), error);
    if (def->compression && !g_str_equal (def->compression, "none"))
        return refuse (disk, _("compression at push"), _("libvirt does not let QEMU compress what a backup writes; compress the finished copy (qemu-img convert -c)"), error);
    note_granularity (p, disk, def->granularity);
    if (item->store->encryption && item->incremental && !p->pull)
        return refuse (disk, _("an encrypted increment"), _("libvirt would name the live image as its backing file, and an encrypted image cannot be re-based without its secret"), error);
    if (def->backing && item->store->encryption)
        return refuse (disk, "<backing>", _("an encrypted image cannot be laid on a previous backup"), error);
    if (def->cluster_size && (p->pull || item->store->encryption || !p->in->local))
        return refuse (disk, "cluster_size=", _("libvirt formats this image and has no word for it"), error);
    return TRUE;
}

/* On anything but the backup of the checkpoint's instant an increment makes a disk that never was. */
static gboolean check_previous (Planner *p, const Item *item, GError **error)
{
    const char *backing = item->def->backing, *disk = item->disk->target;
    const Checkpoint *since = find_record (p->in, item->base);
    const CheckpointDisk *recorded = find_disk_record (p->in, item->base, disk);
    const Checkpoint *later = p->in->records ? checkpoint_later_in_file (p->in->records, since ? since->sequence : 0, backing) : NULL;

    if (later)
        return error_set (error, BAK_ERROR_INEXACT, _("disk '%s': '%s' holds the backup of checkpoint '%s', not that of '%s'"), disk, backing, later->name, item->base);
    if (!recorded || !recorded->backup)
        note (p, _("disk '%s': nothing is recorded of the file that holds the backup of checkpoint '%s'; that it is '%s' is taken on trust"), disk, item->base, backing);
    return TRUE;
}

static gboolean check_backing (Planner *p, const Item *item, GError **error)
{
    const char *backing = item->def ? item->def->backing : NULL, *disk = item->disk->target;
    if (!backing)
        return TRUE;
    if (p->pull || !g_str_equal (item->out->format, "qcow2"))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s': only an increment in a qcow2 file or device can be laid on '%s'"), disk, backing);
    if (!item->incremental && !item->out->reason)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s': a full backup is not laid on another ('%s'): --onto goes with --since"), disk, backing);
    for (guint i = 0; i < p->in->picture->disks->len; i++) {
        const LvDisk *own = p->in->picture->disks->pdata[i];
        if (g_ptr_array_find_with_equal_func (own->chain, backing, g_str_equal, NULL))
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s': '%s' is an image of the running guest, not a previous backup"), disk, backing);
    }
    return !item->incremental || check_previous (p, item, error);
}

static JsonArray *images_of_guest (const Planner *p)
{
    JsonArray *images = json_array_new ();
    for (guint i = 0; i < p->in->picture->disks->len; i++) {
        const GPtrArray *chain = ((LvDisk *) p->in->picture->disks->pdata[i])->chain;
        for (guint k = 0; k < chain->len; k++)
            json_array_add_string_element (images, chain->pdata[k]);
    }
    return images;
}

static gboolean check_increment_target (Planner *p, const Item *item, GError **error)
{
    gboolean reuse = (p->in->flags & BEGIN_REUSE_EXTERNAL) && !item->generated;
    if (!item->incremental || p->pull || reuse)
        return TRUE;
    if (g_str_equal (item->out->format, "raw"))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s': an increment in a new raw file cannot tell what changed from what did not; "
                          "use qcow2, or --reuse-external with the previous raw backup"), item->disk->target);
    if (!p->made_here)
        return refuse (item->disk->target, _("a pushed increment"), _("libvirt would name the live image as its backing file, and the image on the other host cannot be "
                       "re-based from here; make the image there with the right backing file and use --reuse-external"), error);
    return TRUE;
}

static gboolean resolve (Planner *p, Item *item, GError **error)
{
    if (wants_increment (p, item) && !resolve_incremental (p, item, error))
        return FALSE;
    item->out->type = g_strdup (item->incremental ? "incremental" : "full");
    item->out->since = item->incremental ? g_strdup (item->base) : NULL;
    if (!resolve_store (p, item, error) || !check_features (p, item, error) || !check_backing (p, item, error))
        return FALSE;
    guint64 limit = item->def && item->def->limit ? item->def->limit : p->in->def->limit ? MAX (1, p->in->def->limit / p->items->len) : 0;
    if (limit && p->pull)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("a pull backup is as fast as its reader: limit the reader"));
    item->out->limit = limit;
    return TRUE;
}

static gboolean check_protection (Planner *p, GError **error)
{
    Protect protect = p->in->def->protect;
    const char *text = _("a full target or scratch can pause the guest: space is watched, and the guest resumed");
    if (protect == PROTECT_STRICT)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("protect='strict': libvirt cannot keep a failing target or scratch away from the guest's writes "
                          "(copy-before-write filters); attach the guest by QMP, or use protect='yes'"));
    if (protect == PROTECT_NO)
        text = _("none (asked for)");
    else if (!p->in->local)
        text = _("the guest is resumed if a full target or scratch has paused it; space on the other host cannot be watched");
    if (protect != PROTECT_NO)
        note (p, _("protection of the guest: %s"), text);
    for (guint i = 0; i < p->items->len; i++)
        ((Item *) p->items->pdata[i])->out->protection = g_strdup (text);
    return TRUE;
}

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
    append (xml, "<disk name='%s' type='%s' backupmode='%s'", item->disk->target, item->store->type == STORE_BLOCK ? "block" : "file", item->out->type);
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
        append (xml, "<server transport='tcp' name='%s' port='%u'", p->plan->server_host, p->plan->server_port);
    else
        append (xml, "<server transport='unix' socket='%s'", p->plan->server_socket);
    g_string_append_printf (xml, "%s/>", tls);
}

static char *backup_xml (Planner *p)
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

static const CheckpointDiskDef *checkpoint_disk_def (const CheckpointDef *checkpoint, const LvDisk *disk)
{
    for (guint i = 0; i < checkpoint->disks->len; i++) {
        const CheckpointDiskDef *def = checkpoint->disks->pdata[i];
        if (g_ptr_array_find_with_equal_func (disk->names, def->name, g_str_equal, NULL))
            return def;
    }
    return NULL;
}

/* One disk of the checkpoint: TRUE with *ret_tracked, or why it cannot be. Raw images are left out with a note unless they were named. */
static gboolean checkpoint_disk (Planner *p, const LvDisk *disk, gboolean *ret_tracked, GError **error)
{
    const CheckpointDef *checkpoint = p->in->checkpoint;
    const CheckpointDiskDef *def = checkpoint_disk_def (checkpoint, disk);
    const char *rule = lv_disk_excluded (disk);

    *ret_tracked = FALSE;
    if (def ? def->checkpoint == TRISTATE_NO : checkpoint->has_disks)
        return TRUE;
    if (rule)
        return !def || error_set (error, BAK_ERROR_NO_DISK, _("disk '%s' cannot be in a checkpoint: it %s"), def->name, rule);
    if (def && def->bitmap && !g_str_equal (def->bitmap, checkpoint->name))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s': the bitmap is named like its checkpoint, '%s', not '%s'"), disk->target, checkpoint->name, def->bitmap);
    if (def && def->persistent == TRISTATE_NO)
        return refuse (disk->target, _("a bitmap in memory (persistent='no')"), _("libvirt keeps checkpoints in qcow2 images only"), error);
    note_granularity (p, disk->target, def ? def->granularity : 0);
    if (!g_str_equal (disk->format, "qcow2")) {
        if (def)
            return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("disk '%s': an image in format '%s' cannot keep a checkpoint; libvirt keeps them in qcow2 images only"), disk->target, disk->format);
        note (p, _("disk '%s' is not in checkpoint '%s': its image format '%s' cannot keep a bitmap"), disk->target, checkpoint->name, disk->format);
        return TRUE;
    }
    json_array_add_object_element (p->plan->checkpoint_disks, obj ("disk", "s", disk->target, "file", "s", disk->source, "format", "s", disk->format,
                                   "size", "i", (gint64) disk->capacity, "persistent", "b", TRUE, NULL));
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
            return error_set (error, BAK_ERROR_XML, _("disk '%s' is named twice in the checkpoint"), def->name);
    }
    if (g_ptr_array_find_with_equal_func (p->in->names, checkpoint->name, g_str_equal, NULL))
        return error_set (error, BAK_ERROR_EXISTS, _("checkpoint '%s' exists already"), checkpoint->name);
    return TRUE;
}

/* *ret_xml: NULL when no checkpoint is wanted. */
static gboolean checkpoint_xml (Planner *p, char **ret_xml, GError **error)
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
        append (xml, "<disk name='%s' checkpoint='%s'/>", disk->target, is_tracked ? "bitmap" : "no");
        tracked += is_tracked;
    }
    g_string_append (xml, "</disks></domaincheckpoint>");
    if (tracked == 0)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("checkpoint '%s' would be on no disk: libvirt keeps them in writable qcow2 images only"), checkpoint->name);
    p->plan->checkpoint = g_strdup (checkpoint->name);
    p->plan->checkpoint_description = g_strdup (checkpoint->description);
    p->plan->series = g_strdup (p->in->def ? p->in->def->series : NULL);
    *ret_xml = g_strdup (xml->str);
    return TRUE;
}

/* ---- steps ---- */

static Action *file_give (Planner *p, const char *path)
{
    const LvPicture *picture = p->in->picture;
    return own_action ("file-give", obj ("path", "s", path, "uid", "i", picture->has_owner ? (gint64) picture->uid : -1, "gid", "i", picture->has_owner ? (gint64) picture->gid : -1, NULL));
}

/* A file or device that is there already: it must be what it is said to be, and not the guest's by another name. */
static void add_given (Planner *p, const Item *item)
{
    const char *path = item->store->path;
    g_autofree char *title = g_strdup_printf (_("check that '%s' is there"), path);
    JsonArray *own = json_array_new ();
    for (guint i = 0; i < p->in->picture->disks->len; i++) {
        const LvDisk *disk = p->in->picture->disks->pdata[i];
        json_array_add_string_element (own, disk->source);
        for (guint k = 0; k < disk->chain->len; k++)
            json_array_add_string_element (own, disk->chain->pdata[k]);
    }
    plan_add (p->plan, title, item->disk->target, own_action ("file-check", obj ("path", "s", path, "kind", "s", item->store->type == STORE_FILE ? "file" : "block", NULL)), NULL);
    plan_add (p->plan, _("check that the guest does not use it"), item->disk->target, own_action ("file-foreign", obj ("path", "s", path, "own", "a", own, NULL)), NULL);
}

/* A target that we make: the header names what we say, while QEMU is told by libvirt to read through to the live image. */
static void add_made_target (Planner *p, const Item *item)
{
    const char *target = item->disk->target, *path = item->store->path, *format = item->out->format;
    const BackupDiskDef *def = item->def;
    gboolean reuse = (p->in->flags & BEGIN_REUSE_EXTERNAL) && !item->generated, is_file = item->store->type == STORE_FILE;
    const char *backing = def && def->backing && item->incremental ? def->backing : NULL;
    g_autofree char *title = NULL, *backing_name = backing ? plan_backing_name (path, backing) : NULL;

    const CheckpointDisk *record = backing ? find_disk_record (p->in, item->base, target) : NULL;
    if (backing)
        plan_add (p->plan, _("check the previous backup"), target, own_action ("backing-check", obj ("path", "s", backing, "size", "i", (gint64) item->disk->capacity,
                  "checkpoint", "s", item->base, "backup", "s", record ? record->backup : NULL, "backup-id", "s", record ? record->backup_id : NULL,
                  "images", "a", images_of_guest (p), NULL)), NULL);
    if (is_file && !reuse) {
        title = g_strdup_printf (_("make the file '%s'"), path);
        plan_add (p->plan, title, target, own_action ("file-create", obj ("path", "s", path, NULL)), kept (own_action ("file-remove", obj ("path", "s", path, NULL))), NULL);
    } else {
        add_given (p, item);
    }
    if (reuse || (!is_file && g_str_equal (format, "raw")))
        plan_add (p->plan, _("check that it has the size of the disk"), target, own_action ("image-check", obj ("path", "s", path, "format", "s", format,
                  "size", "i", (gint64) item->disk->capacity, "at-least", "b", g_str_equal (format, "raw"), NULL)), NULL);
    else
        plan_add (p->plan, _("format it"), target, own_action ("image-create", obj ("path", "s", path, "format", "s", format, "size", "i", (gint64) item->disk->capacity,
                  "cluster-size", "i", (gint64) (def ? def->cluster_size : 0), "backing", "s", backing_name, NULL)), NULL);
    if (is_file && !reuse)
        plan_add (p->plan, _("let QEMU write to it"), target, file_give (p, path), NULL);
}

static void add_stores (Planner *p)
{
    for (guint i = 0; i < p->items->len; i++) {
        const Item *item = p->items->pdata[i];
        if (p->made_here)
            add_made_target (p, item);
        else if (p->in->local && (item->store->type != STORE_FILE || (p->in->flags & BEGIN_REUSE_EXTERNAL)))
            add_given (p, item);
        else if (p->in->local)
            plan_add (p->plan, _("check that the target's path is free"), item->disk->target, own_action ("path-free", obj ("path", "s", item->store->path, NULL)), NULL);
    }
}

static JsonArray *api_flags (Planner *p)
{
    JsonArray *flags = json_array_new ();
    if ((p->in->flags & BEGIN_REUSE_EXTERNAL) || p->made_here)
        json_array_add_string_element (flags, "VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL");
    if (p->in->flags & BEGIN_PRESERVE_SHUTDOWN)
        json_array_add_string_element (flags, "VIR_DOMAIN_BACKUP_BEGIN_PRESERVE_SHUTDOWN_DOMAIN");
    return flags;
}

static Action *thaw (void)
{
    return own_action ("virDomainFSThaw", NULL);
}

static void add_freeze (Planner *p)
{
    plan_add (p->plan, _("freeze the guest's file systems"), NULL, own_action ("virDomainFSFreeze", NULL), thaw (), NULL);
}

static void add_begin (Planner *p, const char *backup, const char *checkpoint)
{
    gboolean quiesce = p->in->flags & BEGIN_QUIESCE;
    if (quiesce)
        add_freeze (p);
    Action *begin = own_action ("virDomainBackupBegin", obj ("backup", "s", backup, "checkpoint", "s", checkpoint, "flags", "a", api_flags (p), NULL));
    Action *abort = own_action ("virDomainAbortJob", NULL);
    const char *title = p->pull ? _("freeze the point in time and export it") : _("start copying");
    if (checkpoint)
        plan_add (p->plan, title, NULL, begin, abort, kept (own_action ("virDomainCheckpointDelete", obj ("name", "s", p->plan->checkpoint, NULL))), NULL);
    else
        plan_add (p->plan, title, NULL, begin, abort, NULL);
    if (quiesce)
        plan_add (p->plan, _("thaw the guest's file systems"), NULL, thaw (), NULL);
}

static void add_limits (Planner *p)
{
    for (guint i = 0; i < p->items->len; i++) {
        const Item *item = p->items->pdata[i];
        if (item->out->limit)
            plan_add (p->plan, _("limit its speed"), item->disk->target, own_action ("virDomainBlockJobSetSpeed", obj ("disk", "s", item->disk->target,
                      "bandwidth", "i", (gint64) item->out->limit, "flags", "a", str_arr ("VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES", NULL), NULL)), NULL);
    }
}

static void add_watch (Planner *p)
{
    for (guint i = 0; p->in->def->protect != PROTECT_NO && p->in->local && i < p->items->len; i++) {
        const Item *item = p->items->pdata[i];
        if (item->store->type == STORE_FILE)
            plan_add (p->plan, p->pull ? _("watch the space of the scratch") : _("watch the space of the target"), item->disk->target,
                      own_action ("virDomainSetBlockThreshold", obj ("disk", "s", item->disk->target, "path", "s", item->store->path, NULL)), NULL);
    }
}

static void finish_push (Planner *p)
{
    for (guint i = 0; p->in->local && i < p->items->len; i++) {
        const Item *item = p->items->pdata[i];
        const char *path = item->store->path;
        guint first = p->plan->finish->len;
        g_ptr_array_add (p->plan->finish, own_action ("wait-released", obj ("path", "s", path, NULL)));
        if (g_str_equal (item->out->format, "raw") && item->store->type == STORE_FILE && p->made_here && !(p->in->flags & BEGIN_REUSE_EXTERNAL))
            g_ptr_array_add (p->plan->finish, own_action ("file-punch", obj ("path", "s", path, NULL)));
        g_ptr_array_add (p->plan->finish, own_action ("file-sync", obj ("path", "s", path, NULL)));
        if (p->made_here && item->store->type == STORE_FILE && (!(p->in->flags & BEGIN_REUSE_EXTERNAL) || item->generated))
            g_ptr_array_add (p->plan->finish, own_action ("file-take", obj ("path", "s", path, NULL)));
        for (guint k = first; k < p->plan->finish->len; k++)
            ((Action *) p->plan->finish->pdata[k])->disk = g_strdup (item->disk->target);
    }
    if (!p->in->local)
        note (p, _("durability: the targets are on another host: QEMU flushes them when it closes them, and nothing here can see whether that went well"));
}

/* ---- push ---- */

static gboolean plan_push (Planner *p, GError **error)
{
    g_autofree char *checkpoint = NULL, *backup = NULL;
    gboolean encrypted = FALSE;

    for (guint i = 0; i < p->items->len; i++)
        encrypted = encrypted || ((Item *) p->items->pdata[i])->store->encryption;
    p->made_here = p->in->local && !encrypted;
    for (guint i = 0; i < p->items->len; i++) {
        const Item *item = p->items->pdata[i];
        if (!check_increment_target (p, item, error))
            return FALSE;
        if (encrypted && (item->incremental || (item->def && (item->def->cluster_size || item->def->backing))))
            return refuse (item->disk->target, _("an increment, a cluster size or a backing file beside an encrypted target"), _("libvirt has to make all images of such a job itself"), error);
    }
    if (!checkpoint_xml (p, &checkpoint, error))
        return FALSE;
    add_stores (p);
    backup = backup_xml (p);
    add_begin (p, backup, checkpoint);
    add_limits (p);
    add_watch (p);
    finish_push (p);
    return TRUE;
}

/* ---- pull ---- */

static gboolean is_loopback (const char *host)
{
    return g_str_equal (host, "localhost") || g_str_has_prefix (host, "127.") || g_str_equal (host, "::1");
}

static gboolean check_server (Planner *p, GError **error)
{
    const ServerDef *server = p->in->def->server;
    const char *reason = _("libvirt takes them from its own configuration (backup_tls_x509_cert_dir in qemu.conf)");

    for (guint i = 0; p->in->qemu_version < QEMU_WITHOUT_IOTHREAD_CRASH && i < p->items->len; i++) {
        const LvDisk *disk = ((Item *) p->items->pdata[i])->disk;
        if (disk->iothread)
            return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("disk '%s' is served by iothread '%s': this QEMU crashes, and the guest with it, when an NBD client leaves "
                              "such an export; use push, take the iothread off, or use QEMU 8.0 or later"), disk->target, disk->iothread);
    }
    if (!server)
        return p->in->local || error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("the guest is on another host: name the server of the export (<server …/>, --server)"));
    if (server->transport == SERVER_FD)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("<server transport='fd'> is not supported yet; use unix or tcp"));
    if (server->tls_psk)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("tls-psk='': libvirt exports with certificates only"));
    if (server->tls_dir)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("tls-dir='': certificates of one job: %s"), reason);
    if (server->idle_timeout && !p->in->local)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("idle-timeout='': who reads on another host cannot be seen from here"));
    if (server->transport != SERVER_TCP)
        return TRUE;
    if (!is_loopback (server->name) && server->tls != TRISTATE_YES && server->allow_insecure != TRISTATE_YES)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("the export would be readable by anyone who reaches '%s': use TLS (tls='yes'), a unix socket or "
                          "a loopback address, or say that this is wanted (allow-insecure='yes', --allow-insecure)"), server->name);
    if (!server->port && !(p->in->local && p->in->free_port))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("no free TCP port was found; give one (port='…')"));
    return TRUE;
}

static void set_server (Planner *p)
{
    const ServerDef *server = p->in->def->server;
    Plan *plan = p->plan;
    const char *s = server && server->tls == TRISTATE_YES ? "s" : "";

    if (*s)
        plan->server_tls = g_strdup (p->in->tls_dir);
    plan->idle_timeout = server ? server->idle_timeout : 0;
    if (server && server->transport == SERVER_TCP) {
        plan->server_host = g_strdup (server->name);
        plan->server_port = server->port ? server->port : p->in->free_port;
        plan->server = g_strdup_printf (strchr (server->name, ':') ? "nbd%s://[%s]:%u" : "nbd%s://%s:%u", s, server->name, plan->server_port);
        return;
    }
    g_autofree char *file = g_strdup_printf ("nbd-%s.sock", p->in->job);
    plan->server_socket = server && server->socket ? g_strdup (server->socket) : g_build_filename (p->in->job_dir, file, NULL);
    plan->server = g_strdup_printf ("nbd%s+unix:///?socket=%s", s, plan->server_socket);
}

static gboolean name_exports (Planner *p, GError **error)
{
    for (guint i = 0; i < p->items->len; i++) {
        Item *item = p->items->pdata[i];
        const BackupDiskDef *def = item->def;
        item->out->export_name = g_strdup (def && def->exportname && *def->exportname ? def->exportname : item->disk->target);
        if (item->incremental)
            item->out->bitmap = def && def->exportbitmap && *def->exportbitmap ? g_strdup (def->exportbitmap) : g_strconcat ("backup-", item->disk->target, NULL);
        for (guint k = 0; k < i; k++) {
            const Item *other = p->items->pdata[k];
            if (g_str_equal (other->out->export_name, item->out->export_name))
                return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disks '%s' and '%s' would both be exported as '%s'"),
                                  other->disk->target, item->disk->target, item->out->export_name);
        }
    }
    return TRUE;
}

static gboolean plan_pull (Planner *p, GError **error)
{
    g_autofree char *checkpoint = NULL, *backup = NULL;

    if (!check_server (p, error) || !name_exports (p, error) || !checkpoint_xml (p, &checkpoint, error))
        return FALSE;
    set_server (p);
    for (guint i = 0; p->in->local && i < p->items->len; i++) {
        const Item *item = p->items->pdata[i];
        gboolean reuse = (p->in->flags & BEGIN_REUSE_EXTERNAL) && !item->generated;
        if (reuse || item->store->type != STORE_FILE)
            add_given (p, item);
        if (reuse)          /* what it holds would be read in place of what the guest saw */
            plan_add (p->plan, _("check that it is empty"), item->disk->target, own_action ("empty-check", obj ("path", "s", item->store->path, "format", "s", item->out->format, NULL)), NULL);
        else if (item->store->type == STORE_FILE)
            plan_add (p->plan, _("check that the scratch's path is free"), item->disk->target, own_action ("path-free", obj ("path", "s", item->store->path, NULL)),
                      own_action ("scratch-remove", obj ("path", "s", item->store->path, "size", "i", (gint64) item->disk->capacity, NULL)), NULL);
    }
    if (p->plan->server_socket && p->in->local)
        plan_add (p->plan, _("check that the socket's path is free"), NULL, own_action ("socket-check", obj ("path", "s", p->plan->server_socket, NULL)),
                  own_action ("socket-remove", obj ("path", "s", p->plan->server_socket, NULL)), NULL);
    backup = backup_xml (p);
    add_begin (p, backup, checkpoint);
    add_watch (p);
    return TRUE;
}

/* ---- entries ---- */

static gboolean check_flags (Planner *p, GError **error)
{
    if ((p->in->flags & BEGIN_PRESERVE_SHUTDOWN) && p->in->libvirt_version < LIBVIRT_PRESERVE_SHUTDOWN)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("keeping the guest when it shuts down needs libvirt 11.10; this is %lu.%lu.%lu"),
                          p->in->libvirt_version / 1000000, p->in->libvirt_version / 1000 % 1000, p->in->libvirt_version % 1000);
    if ((p->in->flags & BEGIN_QUIESCE) && !p->in->picture->agent)
        return error_set (error, BAK_ERROR_AGENT, _("guest '%s' has no guest agent channel (org.qemu.guest_agent.0): its file systems cannot be frozen"), p->in->domain);
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
    *p = (Planner) { .in = input, .plan = plan_new (input->job, input->def ? input->def->mode : BACKUP_MODE_PUSH),
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
    ok = ok && check_protection (&p, error) && (p.pull ? plan_pull (&p, error) : plan_push (&p, error));
    return planner_end (&p, ok);
}

Plan *lv_plan_checkpoint (const LvPlanInput *input, gboolean quiesce, GError **error)
{
    Planner p;
    g_autofree char *xml = NULL;
    planner_begin (&p, input);
    gboolean ok = checkpoint_xml (&p, &xml, error);
    if (ok && quiesce && !input->picture->agent)
        ok = error_set (error, BAK_ERROR_AGENT, _("guest '%s' has no guest agent channel (org.qemu.guest_agent.0): its file systems cannot be frozen"), input->domain);
    if (ok && quiesce)
        add_freeze (&p);
    if (ok)
        plan_add (p.plan, _("make the checkpoint"), NULL, own_action ("virDomainCheckpointCreateXML", obj ("xml", "s", xml, NULL)),
                  kept (own_action ("virDomainCheckpointDelete", obj ("name", "s", input->checkpoint->name, NULL))), NULL);
    if (ok && quiesce)
        plan_add (p.plan, _("thaw the guest's file systems"), NULL, thaw (), NULL);
    return planner_end (&p, ok);
}
