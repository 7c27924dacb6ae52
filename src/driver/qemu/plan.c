/* From what is wanted, what there is and what this QEMU can do, to the list of steps. Pure. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/build.h"

enum { DEFAULT_WORKERS = 8, NBD_OPEN_TIMEOUT = 10, NBD_FLUSH_TIMEOUT_MS = 30000, RELAY_PATIENCE = 30, RELAY_PATIENCE_UNPROTECTED = 15, MIN_CHUNK = 65536, MAX_CHUNK = 1048576, CREATE_TIMEOUT_MS = 120000,
       TRANSACTION_TIMEOUT_MS = 60000 };

/* A file, device or export that holds an image for us: the target of a push, the scratch that keeps a point in time. */
typedef struct {
    StoreDef *store;            /* NULL: not used */
    const char *format;
    gboolean generated;         /* the path is of our making */
    gboolean scratch;
    const char *role, *file_role;   /* of its nodes' names */
} Place;

/* One disk of the plan in the making. */
typedef struct {
    const GraphDisk *disk;
    const BackupDiskDef *def;   /* borrowed; NULL: nothing said about it */
    PlanDisk *out;
    guint index;
    SyncMode sync;
    JsonArray *changes;         /* bitmaps to merge; NULL: full */
    Place target, scratch;
} Item;

typedef struct {
    const PlanInput *in;
    const Caps *caps;
    Plan *plan;
    GPtrArray *items;           /* Item* */
    JsonArray *actions;         /* of the transaction */
    GPtrArray *undo;            /* of the transaction, Action* */
    gboolean hybrid;            /* the point in time is read through snapshot-access on the job's filter, else through an overlay */
    Protect protect;
    gboolean fleece;            /* a push reads the point in time from a scratch, so that its target cannot reach the guest */
} Planner;

static void item_free (Item *item)
{
    g_clear_pointer (&item->changes, json_array_unref);
    store_def_free (item->target.store);
    store_def_free (item->scratch.store);
    g_free (item);
}

static char *own_name (Planner *p, const char *role, const Item *item)
{
    return item ? g_strdup_printf ("bak-%s-%s%u", p->in->job, role, item->index) : g_strdup_printf ("bak-%s-%s", p->in->job, role);
}

static void note (Planner *p, const char *format, ...) G_GNUC_PRINTF (2, 3);
static void note (Planner *p, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    g_ptr_array_add (p->plan->notes, g_strdup_vprintf (format, args));
    va_end (args);
}

/* ---- commands that changed their form over the years ---- */

static Action *node_add (Planner *p, JsonObject *options)
{
    if (p->caps->blockdev_add_flat)
        return timed (qmp_action ("blockdev-add", options), CREATE_TIMEOUT_MS);
    /* A job takes names of block backends only, and an id may not be a node-name too. */
    json_object_set_string_member (options, "id", json_object_get_string_member (options, "node-name"));
    json_object_remove_member (options, "node-name");
    return qmp_action ("blockdev-add", obj ("options", "o", options, NULL));
}

static Action *node_del (Planner *p, const char *name)
{
    if (p->caps->blockdev_del)
        return guarded (qmp_action ("blockdev-del", obj ("node-name", "s", name, NULL)), "node", name);
    return guarded (qmp_action ("x-blockdev-del", obj ("id", "s", name, NULL)), "node", name);
}

static Action *job_cancel (Planner *p, const char *job)
{
    if (p->caps->jobs)
        return guarded (qmp_action ("job-cancel", obj ("id", "s", job, NULL)), "job", job);
    return guarded (qmp_action ("block-job-cancel", obj ("device", "s", job, "force", "b", TRUE, NULL)), "job", job);
}

static Action *job_dismiss (const char *job)
{
    return guarded (qmp_action ("job-dismiss", obj ("id", "s", job, NULL)), "job", job);
}

static Action *object_add (Planner *p, const char *type, const char *id, JsonObject *properties)
{
    if (p->caps->object_add_props)
        return qmp_action ("object-add", obj ("qom-type", "s", type, "id", "s", id, "props", "o", properties, NULL));
    json_object_set_string_member (properties, "qom-type", type);
    json_object_set_string_member (properties, "id", id);
    return qmp_action ("object-add", properties);
}

static void add_create_job (Planner *p, const char *title, Item *item, const char *job, JsonObject *options)
{
    const char *target = item->disk->target;
    plan_add (p->plan, title, target,
              qmp_action ("blockdev-create", obj ("job-id", "s", job, "options", "o", options, NULL)),
              job_cancel (p, job), guarded (own_action ("job-wait-end", obj ("job", "s", job, NULL)), "job", job),
              job_dismiss (job), NULL);
    g_autofree char *wait_title = g_strdup_printf (_("wait until that is done (%s)"), target);
    plan_add (p->plan, wait_title, target, timed (own_action ("job-wait", obj ("job", "s", job, NULL)), CREATE_TIMEOUT_MS), NULL);
    plan_add (p->plan, _("take note of its result"), target, qmp_action ("job-dismiss", obj ("id", "s", job, NULL)), NULL);
}

/* ---- which disks ---- */

static gboolean item_add (Planner *p, const GraphDisk *disk, const BackupDiskDef *def, GError **error)
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
    item->index = p->items->len;
    item->out = g_new0 (PlanDisk, 1);
    item->out->target = g_strdup (disk->target);
    item->out->node = g_strdup (disk->node);
    item->out->size = disk->size;
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
        const GraphDisk *disk = graph_disk (p->in->graph, disk_def->name, error);
        if (!disk)
            return FALSE;
        if (!g_hash_table_add (seen, (gpointer) disk))
            return error_set (error, BAK_ERROR_XML, _("disk '%s' is named twice"), disk_def->name);
        if (disk_def->backup == TRISTATE_NO)
            continue;
        const char *rule = graph_disk_excluded (disk);
        if (rule)
            return error_set (error, BAK_ERROR_NO_DISK, _("disk '%s' cannot be backed up: it %s"), disk_def->name, rule);
        if (!item_add (p, disk, disk_def, error))
            return FALSE;
    }
    for (guint i = 0; def->dialect == DIALECT_2016 && i < p->in->graph->disks->len; i++) {
        const GraphDisk *disk = p->in->graph->disks->pdata[i];
        if (!graph_disk_excluded (disk) && !g_hash_table_contains (seen, disk))
            return error_set (error, BAK_ERROR_XML, _("disk '%s' is not named: a document of the 2016 form must name every writable "
                              "disk, with present='no' for one that is left out"), disk->target);
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
            if (!graph_disk_excluded (disk) && !item_add (p, disk, NULL, error))
                return FALSE;
        }
    }
    if (p->items->len == 0)
        return error_set (error, BAK_ERROR_NO_DISK, p->in->graph->disks->len
                          ? _("no disk is left to back up: all are excluded, empty or read-only")
                          : _("the guest has no disk"));
    for (guint i = 0; i < p->items->len; i++) {
        const Item *item = p->items->pdata[i];
        if (item->disk->size == 0 || item->disk->size > G_MAXINT64)
            return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("disk '%s': QEMU reports a size of %" G_GUINT64_FORMAT " bytes"),
                              item->disk->target, item->disk->size);
    }
    return TRUE;
}

/* ---- full or incremental ---- */

static const Checkpoint *find_checkpoint (const PlanInput *in, const char *name)
{
    for (guint i = 0; in->checkpoints && i < in->checkpoints->len; i++) {
        const Checkpoint *checkpoint = in->checkpoints->pdata[i];
        if (g_str_equal (checkpoint->name, name))
            return checkpoint;
    }
    return NULL;
}

static const Checkpoint *newest_of_series (const PlanInput *in, const char *series)
{
    const Checkpoint *newest = NULL;
    for (guint i = 0; in->checkpoints && i < in->checkpoints->len; i++) {
        const Checkpoint *checkpoint = in->checkpoints->pdata[i];
        if (g_strcmp0 (checkpoint->series, series) == 0 && (!newest || checkpoint->sequence > newest->sequence))
            newest = checkpoint;
    }
    return newest;
}

static const CheckpointDisk *checkpoint_disk (const Checkpoint *checkpoint, const GraphDisk *disk)
{
    for (guint i = 0; i < checkpoint->disks->len; i++) {
        const CheckpointDisk *candidate = checkpoint->disks->pdata[i];
        if (g_str_equal (candidate->disk, disk->target))
            return candidate;
    }
    for (guint i = 0; i < checkpoint->disks->len; i++) {
        const CheckpointDisk *candidate = checkpoint->disks->pdata[i];
        for (guint k = 0; k < disk->names->len; k++)
            if (g_str_equal (candidate->disk, disk->names->pdata[k]))
                return candidate;
    }
    return NULL;
}

static gboolean bitmap_usable (const GraphBitmap *bitmap, const CheckpointDisk *recorded, gboolean active, char **ret_reason)
{
    const char *reason = NULL;
    if (bitmap->inconsistent)
        reason = _("bitmap inconsistent");
    else if (bitmap->busy)
        reason = _("bitmap in use by another operation");
    else if (active && !bitmap->recording)
        reason = _("bitmap not recording");
    else if (recorded->granularity && bitmap->granularity != recorded->granularity)
        reason = _("bitmap has another granularity than the checkpoint's");
    if (reason)
        *ret_reason = g_strdup (reason);
    return reason == NULL;
}

/* QEMU writes persistent bitmaps when it closes the image: one that was made by a QEMU that was killed is not there at all, one that had
 * been stored before is there and marked. Both are the same to the user. */
static const char *missing_reason (const Graph *graph, const GraphNode *node, const CheckpointDisk *recorded, gboolean active)
{
    const GraphNode *below = node->backing ? graph_node (graph, node->backing) : NULL;
    if (!active)
        return _("gap in the image chain: a layer has no bitmap");
    if (below && graph_bitmap (below, recorded->bitmap))
        return _("an external snapshot was taken and the overlay does not track changes");
    if (!recorded->persistent)
        return _("bitmap missing: it was in memory only and died with the QEMU process");
    if (recorded->file && *recorded->file && g_strcmp0 (recorded->file, node->filename) != 0)
        return _("bitmap missing: another image than that of the checkpoint");
    return _("bitmap inconsistent: it was never stored because QEMU was killed or crashed, or it was removed");
}

JsonArray *plan_changes_since (const Graph *graph, const GraphDisk *disk, const Checkpoint *since, char **ret_reason)
{
    const CheckpointDisk *recorded = checkpoint_disk (since, disk);
    *ret_reason = NULL;
    if (!recorded) {
        *ret_reason = g_strdup (_("disk not in the checkpoint"));
        return NULL;
    }
    if (recorded->size && recorded->size != disk->size) {
        *ret_reason = g_strdup_printf (_("disk resized from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT " bytes"), recorded->size, disk->size);
        return NULL;
    }
    g_autoptr (JsonArray) list = json_array_new ();
    gboolean reached = FALSE, active = TRUE;
    for (const GraphNode *node = graph_node (graph, disk->node); node && !reached; node = node->backing ? graph_node (graph, node->backing) : NULL) {
        const GraphBitmap *bitmap = graph_bitmap (node, recorded->bitmap);
        if (!bitmap) {
            *ret_reason = g_strdup (missing_reason (graph, node, recorded, active));
            return NULL;
        }
        if (!bitmap_usable (bitmap, recorded, active, ret_reason))
            return NULL;
        json_array_add_object_element (list, obj ("node", "s", node->name, "name", "s", recorded->bitmap, NULL));
        reached = !recorded->file || !*recorded->file || g_strcmp0 (recorded->file, node->filename) == 0;
        active = FALSE;
    }
    if (!reached) {
        *ret_reason = g_strdup_printf (_("image replaced: the checkpoint was made on '%s'"), recorded->file);
        return NULL;
    }
    return g_steal_pointer (&list);
}

static SyncMode wanted_sync (Planner *p, const Item *item)
{
    if (item->def && item->def->sync != SYNC_DEFAULT)
        return item->def->sync;
    return (item->def && item->def->incremental) || p->in->def->incremental ? SYNC_INCREMENTAL : SYNC_FULL;
}

static Fallback wanted_fallback (Planner *p, const Item *item)
{
    if (item->def && item->def->fallback != FALLBACK_DEFAULT)
        return item->def->fallback;
    return p->in->def->fallback == FALLBACK_DEFAULT ? FALLBACK_REFUSE : p->in->def->fallback;
}

/* Sets item->changes, or falls back to full with the reason, or refuses. */
static gboolean resolve_incremental (Planner *p, Item *item, GError **error)
{
    const BackupDef *def = p->in->def;
    const char *name = item->def && item->def->incremental ? item->def->incremental : def->incremental;
    const Checkpoint *since = name ? find_checkpoint (p->in, name) : def->series ? newest_of_series (p->in, def->series) : NULL;
    g_autofree char *reason = NULL;
    BakErrorCode code = BAK_ERROR_INEXACT;

    if (!name && !def->series)
        return error_set (error, BAK_ERROR_XML, _("disk '%s': an incremental backup needs the checkpoint that it starts from: "
                          "set incremental='CHECKPOINT' for the disk or <incremental>CHECKPOINT</incremental> for all (--since)"), item->disk->target);
    if (since) {
        item->changes = plan_changes_since (p->in->graph, item->disk, since, &reason);
    } else {
        code = BAK_ERROR_NO_CHECKPOINT;
        reason = name ? g_strdup_printf (_("checkpoint '%s' does not exist"), name)
                      : g_strdup_printf (_("series '%s' has no checkpoint yet"), def->series);
    }
    if (item->changes) {
        item->out->since = g_strdup (since->name);
        return TRUE;
    }
    if (wanted_fallback (p, item) == FALLBACK_FULL) {
        item->sync = SYNC_FULL;
        item->out->reason = g_steal_pointer (&reason);
        note (p, _("disk '%s': full instead of incremental: %s"), item->disk->target, item->out->reason);
        return TRUE;
    }
    return error_set (error, code, _("disk '%s': no exact increment since '%s' is possible: %s; make a full backup, or allow one for such "
                      "disks with fallback='full' (--fallback full)"), item->disk->target, name ? name : def->series, reason);
}

/* ---- where the data goes ---- */

static char *generated_path (Planner *p, const Item *item, const char *dir, const char *suffix)
{
    g_autofree char *target = g_strdelimit (g_strdup (item->disk->target), "/ :", '_');
    g_autofree char *file = g_strdup_printf ("%s-%s-%s.%s", p->in->domain, target, p->in->job, suffix);
    return g_build_filename (dir, file, NULL);
}

static gboolean check_store (const char *disk, const StoreDef *store, const char *format, GError **error)
{
    if (store->encryption)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("disk '%s': encrypted targets (luks) are not supported yet"), disk);
    if (store->type == STORE_NETWORK && store->protocol != PROTOCOL_NBD)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("disk '%s': targets over %s are not supported yet; use nbd, file or block"),
                          disk, store_protocol_to_string (store->protocol));
    if (g_strcmp0 (format, "raw") != 0 && g_strcmp0 (format, "qcow2") != 0)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("disk '%s': format '%s' is not supported yet; use qcow2 or raw"), disk, format);
    if (store->type != STORE_NETWORK && (!store->path || !g_path_is_absolute (store->path)))
        return error_set (error, BAK_ERROR_XML, _("disk '%s': '%s' is not an absolute path"), disk, store->path ? store->path : "");
    return TRUE;
}

static gboolean same_place (const StoreDef *a, const StoreDef *b)
{
    g_autofree char *x = store_def_describe (a);
    g_autofree char *y = store_def_describe (b);
    return g_str_equal (x, y);
}

/* A driver of which QEMU says that blockdev-add does not know it; an empty list says nothing. */
static gboolean check_driver (Planner *p, const char *disk, const StoreDef *store, GError **error)
{
    if (store->type != STORE_NETWORK || g_hash_table_size (p->caps->drivers) == 0 || caps_has_driver (p->caps, "nbd"))
        return TRUE;
    return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("disk '%s': NBD targets need the driver 'nbd' of blockdev-add (QEMU 2.8); this is %s"),
                      disk, p->caps->version_text ? p->caps->version_text : "?");
}

static gboolean check_collisions (Planner *p, const Item *item, const StoreDef *store, GError **error)
{
    for (guint i = 0; i < p->items->len; i++) {
        const Item *other = p->items->pdata[i];
        const StoreDef *others[] = { other->target.store, other->scratch.store };
        for (guint k = 0; k < G_N_ELEMENTS (others); k++)
            if (others[k] && others[k] != store && same_place (store, others[k])) {
                g_autofree char *place = store_def_describe (store);
                return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disks '%s' and '%s' would both be written to '%s'"),
                                  other->disk->target, item->disk->target, place);
            }
    }
    for (guint i = 0; store->path && i < p->in->graph->nodes->len; i++) {
        const GraphNode *node = p->in->graph->nodes->pdata[i];
        if (g_strcmp0 (node->filename, store->path) == 0)
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s': '%s' is in use by the guest itself (node '%s')"),
                              item->disk->target, store->path, node->name);
    }
    return TRUE;
}

/* given: what the document says, or NULL or without a path: a name of ours in dir. */
static gboolean resolve_place (Planner *p, Item *item, Place *place, const StoreDef *given, const char *dir, char **ret_shown, GError **error)
{
    if (given && (given->type == STORE_NETWORK || given->path)) {
        place->store = store_def_copy (given);
    } else {
        place->store = store_def_new (STORE_FILE);
        place->store->path = generated_path (p, item, dir, place->scratch ? "scratch" : g_strcmp0 (place->format, "raw") == 0 ? "raw" : "qcow2");
        place->generated = TRUE;
    }
    if (!place->format)
        place->format = place->store->type == STORE_NETWORK ? "raw" : "qcow2";
    if (!check_store (item->disk->target, place->store, place->format, error) || !check_driver (p, item->disk->target, place->store, error)
        || !check_collisions (p, item, place->store, error))
        return FALSE;
    *ret_shown = place->store->path ? g_strdup (place->store->path) : store_def_describe (place->store);
    return TRUE;
}

static gboolean resolve_target (Planner *p, Item *item, GError **error)
{
    const StoreDef *given = item->def ? item->def->target : NULL;
    item->target = (Place) { .format = item->def ? item->def->format : NULL, .role = "tgt", .file_role = "tgf" };
    if (!(given && (given->type == STORE_NETWORK || given->path)) && !p->in->target_dir)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s' has no target: name one (<target file='…'/>, --target %s=FILE) "
                          "or set target_dir in the configuration"), item->disk->target, item->disk->target);
    if (!resolve_place (p, item, &item->target, given, p->in->target_dir, &item->out->path, error))
        return FALSE;
    item->out->format = g_strdup (item->target.format);
    return TRUE;
}

/* An overlay needs a format with a backing file; beside a filter any file does, and a raw one can be reserved whole. */
static gboolean resolve_scratch (Planner *p, Item *item, GError **error)
{
    const StoreDef *given = item->def ? item->def->scratch : NULL;
    gboolean pull = p->plan->mode == BACKUP_MODE_PULL;
    item->scratch = (Place) { .format = p->hybrid && !(pull && item->def && item->def->format) ? "raw" : "qcow2", .scratch = TRUE, .role = "scr", .file_role = "scf" };
    if (pull && item->def && item->def->format && !g_str_equal (item->def->format, "qcow2"))
        return error_set (error, BAK_ERROR_XML, _("disk '%s': scratch of a pull backup has format qcow2, not '%s'"), item->disk->target, item->def->format);
    if (given && given->type == STORE_NETWORK)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s': a scratch is a local file or block device: one on the network could stall the guest"), item->disk->target);
    if ((p->in->flags & BEGIN_REUSE_EXTERNAL) && given && given->path)
        item->scratch.format = "qcow2";
    return resolve_place (p, item, &item->scratch, given, p->in->scratch_dir, &item->out->scratch, error);
}

static const char *const sync_types[] = { "full", "full", "top", "none", "incremental" };

static gboolean resolve (Planner *p, Item *item, GError **error)
{
    item->sync = wanted_sync (p, item);
    if (item->sync == SYNC_INCREMENTAL && !resolve_incremental (p, item, error))
        return FALSE;
    if (p->plan->mode == BACKUP_MODE_PULL && (item->sync == SYNC_TOP || item->sync == SYNC_NONE))
        return error_set (error, BAK_ERROR_XML, _("disk '%s': sync='%s' is for push; a pull exports the whole point in time"),
                          item->disk->target, sync_mode_to_string (item->sync));
    if (item->sync == SYNC_TOP || item->sync == SYNC_NONE)
        p->plan->partial = TRUE;
    item->out->type = g_strdup (sync_types[item->sync]);
    if (p->plan->mode == BACKUP_MODE_PUSH && !resolve_target (p, item, error))
        return FALSE;
    if (item->sync == SYNC_INCREMENTAL && p->plan->mode == BACKUP_MODE_PUSH && g_str_equal (item->target.format, "raw")
        && !(p->in->flags & BEGIN_REUSE_EXTERNAL))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s': an increment in a new raw file cannot tell what changed from what did not; "
                          "use qcow2, or --reuse-external with the previous raw backup"), item->disk->target);
    guint64 limit = item->def && item->def->limit ? item->def->limit : p->in->def->limit ? MAX (1, p->in->def->limit / p->items->len) : 0;
    item->out->limit = limit;
    return TRUE;
}

/* ---- nodes of target and scratch ---- */

/* A server that hangs would hold QEMU's main loop, and the guest with it: yank cuts its connection, else the end of a relay of ours does.
 * On a unix socket yank is not enough: a full one that was shut down is never writable again, and QEMU waits for just that. */
static gboolean is_relayed (Planner *p, const Place *place)
{
    return place->store->type == STORE_NETWORK && (!p->caps->yank || place->store->socket) && p->caps->blockdev_add_flat && place->store->tls != TRISTATE_YES;
}

static char *relay_path (Planner *p, const Item *item)
{
    g_autofree char *file = g_strdup_printf ("relay-%s-%u.sock", p->in->job, item->index);
    return g_build_filename (p->in->job_dir, file, NULL);
}

static void add_relay (Planner *p, Item *item, const Place *place)
{
    const StoreDef *store = place->store;
    g_autofree char *path = relay_path (p, item);
    plan_add (p->plan, _("put a helper between QEMU and the target's server"), item->disk->target,
              own_action ("relay-start", obj ("path", "s", path, "socket", "s", store->socket, "host", "s", store->socket ? NULL : store->host,
                          "port", "i", (gint64) (store->port ? store->port : 10809), "patience", "i", (gint64) (p->fleece ? RELAY_PATIENCE : RELAY_PATIENCE_UNPROTECTED), NULL)),
              own_action ("relay-cut", obj ("path", "s", path, NULL)), NULL);
}

static JsonObject *protocol_options (Planner *p, const Item *item, const Place *place, const char *node)
{
    const StoreDef *store = place->store;
    if (store->type != STORE_NETWORK)
        return obj ("driver", "s", store->type == STORE_BLOCK ? "host_device" : "file", "filename", "s", store->path,
                    "node-name", "s", node, NULL);
    g_autofree char *port = g_strdup_printf ("%u", store->port ? store->port : 10809);
    g_autofree char *relay = is_relayed (p, place) ? relay_path (p, item) : NULL;
    JsonObject *server = relay || store->socket ? obj ("type", "s", "unix", "path", "s", relay ? relay : store->socket, NULL)
                                       : obj ("type", "s", "inet", "host", "s", store->host, "port", "s", port, NULL);
    g_autofree char *tls = store->tls == TRISTATE_YES ? own_name (p, "tlt", item) : NULL;
    JsonObject *options = obj ("driver", "s", "nbd", "server", "o", server, "export", "s", store->name ? store->name : "",
                               "tls-creds", "s", tls, "node-name", "s", node, NULL);
    if (p->caps->nbd_open_timeout)
        json_object_set_int_member (options, "open-timeout", NBD_OPEN_TIMEOUT);
    return options;
}

/* The same set is used for blockdev-add and, with read-only, for the reopen that flushes. */
static JsonObject *format_options (Planner *p, const Item *item, const Place *place, const char *node, const char *file)
{
    JsonObject *options = obj ("driver", "s", place->format, "node-name", "s", node, "file", "s", file, NULL);
    if (g_str_equal (place->format, "raw")) {
        if (p->caps->raw_size)
            json_object_set_int_member (options, "size", item->disk->size);
    } else if (place->scratch && !p->hybrid)
        json_object_set_string_member (options, "backing", item->disk->node);
    else if (p->caps->blockdev_add_flat)
        json_object_set_null_member (options, "backing");
    if (place->scratch)
        json_object_set_string_member (options, "discard", "unmap");
    return options;
}

static JsonObject *create_options (Planner *p, const Item *item, const Place *place, const char *file)
{
    const BackupDiskDef *def = place->scratch ? NULL : item->def;
    const char *compression = def && def->compression && !g_str_equal (def->compression, "none") ? def->compression : NULL;
    JsonObject *options = obj ("driver", "s", "qcow2", "file", "s", file, "size", "i", (gint64) item->disk->size, NULL);
    if (def && def->cluster_size)
        json_object_set_int_member (options, "cluster-size", def->cluster_size);
    if (compression && g_str_equal (compression, "zstd"))
        json_object_set_string_member (options, "compression-type", "zstd");
    if (def && def->backing) {
        g_autofree char *target_dir = place->store->path ? g_path_get_dirname (place->store->path) : NULL;
        g_autofree char *backing_dir = g_path_get_dirname (def->backing);
        g_autofree char *base = g_path_get_basename (def->backing);
        json_object_set_string_member (options, "backing-file", g_strcmp0 (target_dir, backing_dir) == 0 ? base : def->backing);
        json_object_set_string_member (options, "backing-fmt", "qcow2");
    }
    return options;
}

static void add_target_tls (Planner *p, Item *item)
{
    if (item->target.store->type != STORE_NETWORK || item->target.store->tls != TRISTATE_YES)
        return;
    const char *dir = item->target.store->tls_dir ? item->target.store->tls_dir : p->in->tls_dir;
    g_autofree char *id = own_name (p, "tlt", item);
    plan_add (p->plan, _("check that the certificates are there"), item->disk->target,
              own_action ("tls-check", obj ("dir", "s", dir, "endpoint", "s", "client", NULL)), NULL);
    plan_add (p->plan, _("load the certificates for the target"), item->disk->target,
              object_add (p, "tls-creds-x509", id, obj ("endpoint", "s", "client", "dir", "s", dir, NULL)),
              guarded (qmp_action ("object-del", obj ("id", "s", id, NULL)), "object", id), NULL);
}

static gboolean is_reused (Planner *p, const Place *place)
{
    return (p->in->flags & BEGIN_REUSE_EXTERNAL) && !place->generated;
}

/* Where QEMU would let the guest's write fail when the scratch is full, the scratch gets all its space before the point in time. */
static gboolean must_reserve (Planner *p, const Place *place)
{
    return place->scratch && p->protect != PROTECT_NO && !p->caps->backup_on_cbw_error && place->store->type == STORE_FILE;
}

static void add_file (Planner *p, Item *item, const Place *place)
{
    const char *target = item->disk->target, *path = place->store->path;
    gboolean is_file = place->store->type == STORE_FILE, raw = g_str_equal (place->format, "raw");
    g_autofree char *title = NULL;

    if (!is_file || is_reused (p, place)) {
        title = g_strdup_printf (_("check that '%s' is there"), path);
        plan_add (p->plan, title, target, own_action ("file-check", obj ("path", "s", path, "kind", "s", is_file ? "file" : "block", NULL)), NULL);
        return;
    }
    Action *remove = own_action ("file-remove", obj ("path", "s", path, NULL));
    title = g_strdup_printf (_("make the file '%s'"), path);
    plan_add (p->plan, title, target, own_action ("file-create", obj ("path", "s", path, NULL)), place->scratch ? remove : kept (remove), NULL);
    if (!p->caps->blockdev_create) {
        plan_add (p->plan, _("format it"), target, own_action ("image-create", obj ("path", "s", path, "format", "s", place->format,
                  "size", "i", (gint64) item->disk->size, NULL)), NULL);
    } else if (raw) {
        g_autofree char *job = own_name (p, place->scratch ? "csf" : "crf", item);
        add_create_job (p, _("give it its size"), item, job, obj ("driver", "s", "file", "filename", "s", path, "size", "i", (gint64) item->disk->size, NULL));
    }
    if (must_reserve (p, place))
        plan_add (p->plan, _("reserve its space"), target, timed (own_action ("file-reserve", obj ("path", "s", path, "size", "i", (gint64) item->disk->size,
                  "overlay", "b", !raw, NULL)), CREATE_TIMEOUT_MS), NULL);
}

/* The file (or what stands for it), its protocol node, the image in it and its format node. */
static void add_place (Planner *p, Item *item, const Place *place)
{
    const char *target = item->disk->target, *path = place->store->path;
    g_autofree char *node = own_name (p, place->role, item), *file = own_name (p, place->file_role, item);
    gboolean raw = g_str_equal (place->format, "raw"), reuse = is_reused (p, place);
    g_autofree char *shown = store_def_describe (place->store);
    g_autofree char *title = g_strdup_printf (_("open '%s'"), shown);

    if (!place->scratch)
        add_target_tls (p, item);
    if (path)
        add_file (p, item, place);
    if (is_relayed (p, place))
        add_relay (p, item, place);
    Action *yank = place->store->type == STORE_NETWORK && p->caps->yank && !is_relayed (p, place) ? guarded (own_action ("yank", obj ("node", "s", file, NULL)), "node", file) : NULL;
    plan_add (p->plan, title, target, node_add (p, protocol_options (p, item, place, file)), yank ? yank : node_del (p, file), yank ? node_del (p, file) : NULL, NULL);
    if (path)
        plan_add (p->plan, _("check that QEMU opened the file that we see"), target,
                  own_action ("file-same", obj ("path", "s", path, "node", "s", file, NULL)), NULL);
    if (raw || (place->scratch && place->store->type == STORE_BLOCK))
        plan_add (p->plan, _("check that it is large enough"), target, own_action ("size-check", obj ("node", "s", file, "at-least", "b", TRUE,
                  "size", "i", (gint64) item->disk->size, "place", "s", shown, NULL)), NULL);
    if (!raw && !reuse && p->caps->blockdev_create) {
        g_autofree char *job = own_name (p, place->scratch ? "csi" : "cri", item);
        add_create_job (p, _("format it"), item, job, create_options (p, item, place, file));
    }
    plan_add (p->plan, _("open the image"), target, node_add (p, format_options (p, item, place, node, file)), node_del (p, node), NULL);
    if (reuse && !raw)
        plan_add (p->plan, _("check that it has the size of the disk"), target, own_action ("size-check", obj ("node", "s", node, "at-least", "b", FALSE,
                  "size", "i", (gint64) item->disk->size, "place", "s", shown, NULL)), NULL);
    if (place->scratch) {
        item->out->scratch_node = g_strdup (file);
        if (p->in->def->scratch_limit && p->caps->write_threshold)
            plan_add (p->plan, _("have its fill level watched"), target, qmp_action ("block-set-write-threshold", obj ("node-name", "s", file,
                      "write-threshold", "i", (gint64) p->in->def->scratch_limit, NULL)), NULL);
    }
}

/* ---- the transaction ---- */

static void tx (Planner *p, const char *type, JsonObject *data)
{
    json_array_add_object_element (p->actions, obj ("type", "s", type, "data", "o", data, NULL));
}

static void tx_undo (Planner *p, Action *action)
{
    g_ptr_array_add (p->undo, action);
}

/* The end of QEMU's job, whatever its state: in this order before any bitmap or node of it goes. */
static void tx_undo_job (Planner *p, const char *job)
{
    tx_undo (p, job_cancel (p, job));
    tx_undo (p, guarded (own_action ("job-wait-end", obj ("job", "s", job, NULL)), "job", job));
    if (p->caps->jobs)
        tx_undo (p, job_dismiss (job));
}

static Action *bitmap_remove (const char *node, const char *bitmap)
{
    Action *action = qmp_action ("block-dirty-bitmap-remove", obj ("node", "s", node, "name", "s", bitmap, NULL));
    action->guard = obj ("bitmap", "s", bitmap, "node", "s", node, NULL);
    return action;
}

/* A merged, disabled copy of what changed, on the given node: tracked bitmaps are never consumed. */
static void tx_changes (Planner *p, Item *item, const char *node, const char *name)
{
    JsonObject *first = json_array_get_object_element (item->changes, 0);
    const GraphNode *active = graph_node (p->in->graph, json_object_get_string_member (first, "node"));
    const GraphBitmap *bitmap = active ? graph_bitmap (active, json_object_get_string_member (first, "name")) : NULL;
    JsonObject *add = obj ("node", "s", node, "name", "s", name, "disabled", "b", TRUE, NULL);

    if (bitmap && bitmap->granularity)
        json_object_set_int_member (add, "granularity", bitmap->granularity);
    tx (p, "block-dirty-bitmap-add", add);
    tx (p, "block-dirty-bitmap-merge", obj ("node", "s", node, "target", "s", name, "bitmaps", "a", json_array_ref (item->changes), NULL));
    tx_undo (p, bitmap_remove (node, name));
}

static JsonObject *x_perf (Planner *p, const Item *item)
{
    if (!p->caps->backup_x_perf)
        return NULL;
    guint64 limit = item->out->limit;
    /* before 8.0 a read of the point in time is exact only within one cluster of the filter (its reads must not cross one) */
    gboolean small = (limit && limit < 8 * MAX_CHUNK) || (p->fleece && !p->caps->snapshot_access_exact);
    guint64 chunk = small ? MIN_CHUNK : MAX_CHUNK;
    if (item->def && item->def->cluster_size > chunk)
        chunk = item->def->cluster_size;
    return obj ("max-workers", "i", (gint64) DEFAULT_WORKERS, "max-chunk", "i", (gint64) chunk, NULL);
}

/* A fresh raw file reads as zeroes, so what the only layer of a qcow2 does not hold need not be written: it stays sparse. */
static gboolean copy_top_only (Planner *p, const Item *item)
{
    const GraphNode *node = graph_node (p->in->graph, item->disk->node);
    return item->sync == SYNC_FULL && g_str_equal (item->target.format, "raw") && item->target.store->type == STORE_FILE && !is_reused (p, &item->target)
        && node && g_strcmp0 (node->driver, "qcow2") == 0 && !node->backing && !node->backing_filename;
}

static JsonObject *backup_data (Planner *p, const char *job, const char *device, const char *target, const char *sync)
{
    JsonObject *data = obj ("job-id", "s", job, "device", "s", device, "target", "s", target, "sync", "s", sync, NULL);
    if (p->caps->backup_auto_dismiss) {
        json_object_set_boolean_member (data, "auto-finalize", TRUE);
        json_object_set_boolean_member (data, "auto-dismiss", !p->caps->concluded_backup_safe);
    }
    return data;
}

static const char *device_of (Planner *p, const Item *item)
{
    return p->caps->blockdev_add_flat || !item->disk->device ? item->disk->node : item->disk->device;
}

/* From here on the scratch keeps what the guest overwrites: the point in time. */
static void tx_keep (Planner *p, Item *item)
{
    g_autofree char *scratch = own_name (p, "scr", item);
    item->out->keeper = own_name (p, "kep", item);
    item->out->filter = p->caps->backup_filter_node_name ? own_name (p, "flt", item) : NULL;
    JsonObject *data = backup_data (p, item->out->keeper, device_of (p, item), scratch, "none");
    if (item->out->filter)
        json_object_set_string_member (data, "filter-node-name", item->out->filter);
    if (p->caps->backup_on_cbw_error && p->protect != PROTECT_NO)
        json_object_set_string_member (data, "on-cbw-error", "break-snapshot");
    tx (p, "blockdev-backup", data);
    tx_undo_job (p, item->out->keeper);
}

/* The copy into the target: of the disk itself, or of the point in time that a scratch keeps. */
static void tx_copy (Planner *p, Item *item, const char *device, const char *bitmap)
{
    g_autofree char *target = own_name (p, "tgt", item);
    const char *compression = item->def ? item->def->compression : NULL;
    const char *sync = bitmap ? "incremental" : !p->fleece && copy_top_only (p, item) ? "top" : sync_types[item->sync];
    JsonObject *perf = x_perf (p, item);

    item->out->job = own_name (p, "job", item);
    JsonObject *data = backup_data (p, item->out->job, device, target, sync);
    if (bitmap) {
        json_object_set_string_member (data, "bitmap", bitmap);
        if (p->caps->backup_bitmap_mode)
            json_object_set_string_member (data, "bitmap-mode", "on-success");
    }
    if (!p->fleece && p->caps->backup_filter_node_name) {
        item->out->filter = own_name (p, "flt", item);
        json_object_set_string_member (data, "filter-node-name", item->out->filter);
    }
    if (!p->fleece && p->caps->backup_on_cbw_error && p->protect != PROTECT_NO)
        json_object_set_string_member (data, "on-cbw-error", "break-snapshot");
    if (item->out->limit)
        json_object_set_int_member (data, "speed", item->out->limit);
    if (compression && !g_str_equal (compression, "none"))
        json_object_set_boolean_member (data, "compress", TRUE);
    if (perf)
        json_object_set_object_member (data, "x-perf", perf);
    tx (p, "blockdev-backup", data);
    tx_undo_job (p, item->out->job);
}

/* ---- checkpoint ---- */

static const CheckpointDiskDef *checkpoint_disk_def (Planner *p, const GraphDisk *disk)
{
    for (guint i = 0; i < p->in->checkpoint->disks->len; i++) {
        const CheckpointDiskDef *def = p->in->checkpoint->disks->pdata[i];
        for (guint k = 0; k < disk->names->len; k++)
            if (g_str_equal (def->name, disk->names->pdata[k]))
                return def;
    }
    return NULL;
}

static gboolean tx_checkpoint_disk (Planner *p, const GraphDisk *disk, const CheckpointDiskDef *def, guint64 granularity, GError **error)
{
    const char *name = p->in->checkpoint->name;
    const GraphNode *node = graph_node (p->in->graph, disk->node);
    gboolean can_persist = node && g_strcmp0 (node->driver, "qcow2") == 0;
    gboolean memory = def && def->persistent == TRISTATE_NO;

    if (def && def->bitmap && !g_str_equal (def->bitmap, name))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s': the bitmap is named like its checkpoint, '%s', not '%s'"), disk->target, name, def->bitmap);
    if (!can_persist && !memory) {
        if (def || p->in->graph->disks->len == 1)
            return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("disk '%s': an image in format '%s' cannot keep a bitmap; "
                              "ask for one in memory with persistent='no' (--memory-bitmap): it dies with the QEMU process"),
                              disk->target, node && node->driver ? node->driver : "?");
        note (p, _("disk '%s' is not in checkpoint '%s': its image format '%s' cannot keep a bitmap"), disk->target, name, node && node->driver ? node->driver : "?");
        return TRUE;
    }
    for (const GraphNode *layer = node; layer; layer = layer->backing ? graph_node (p->in->graph, layer->backing) : NULL)
        if (graph_bitmap (layer, name))
            return error_set (error, BAK_ERROR_EXISTS, _("disk '%s': the image '%s' has a bitmap '%s' already; see checkpoint-check"),
                              disk->target, layer->filename, name);
    JsonObject *add = obj ("node", "s", disk->node, "name", "s", name, NULL);
    if (def && def->granularity)
        granularity = def->granularity;
    if (granularity)
        json_object_set_int_member (add, "granularity", granularity);
    json_object_set_boolean_member (add, "persistent", !memory);
    if (memory)
        note (p, _("disk '%s': the bitmap of checkpoint '%s' is in memory only: it dies with the QEMU process"), disk->target, name);
    tx (p, "block-dirty-bitmap-add", add);
    tx_undo (p, kept (bitmap_remove (disk->node, name)));
    json_array_add_object_element (p->plan->checkpoint_disks, obj ("disk", "s", disk->target, "node", "s", disk->node, "file", "s", node->filename,
                                   "format", "s", node->driver, "size", "i", (gint64) disk->size, "persistent", "b", !memory, NULL));
    return TRUE;
}

static Item *item_of (Planner *p, const GraphDisk *disk)
{
    for (guint i = 0; i < p->items->len; i++)
        if (((Item *) p->items->pdata[i])->disk == disk)
            return p->items->pdata[i];
    return NULL;
}

static gboolean check_checkpoint_names (Planner *p, GError **error)
{
    const CheckpointDef *checkpoint = p->in->checkpoint;
    g_autoptr (GHashTable) seen = g_hash_table_new (NULL, NULL);
    for (guint i = 0; i < checkpoint->disks->len; i++) {
        const CheckpointDiskDef *def = checkpoint->disks->pdata[i];
        const GraphDisk *disk = graph_disk (p->in->graph, def->name, error);
        if (!disk)
            return FALSE;
        if (!g_hash_table_add (seen, (gpointer) disk))
            return error_set (error, BAK_ERROR_XML, _("disk '%s' is named twice in the checkpoint"), def->name);
        if (def->checkpoint == TRISTATE_NO)
            continue;
        const char *rule = graph_disk_excluded (disk);
        if (rule)
            return error_set (error, BAK_ERROR_NO_DISK, _("disk '%s' cannot have a checkpoint: it %s"), def->name, rule);
    }
    return TRUE;
}

/* alone: every disk that is not excluded; with a backup: the disks of the backup whose copy will be whole. */
static gboolean tx_checkpoint (Planner *p, gboolean alone, GError **error)
{
    const CheckpointDef *checkpoint = p->in->checkpoint;
    if (!checkpoint)
        return TRUE;
    if (!checkpoint_name_check (checkpoint->name, error) || !check_checkpoint_names (p, error))
        return FALSE;
    if (find_checkpoint (p->in, checkpoint->name))
        return error_set (error, BAK_ERROR_EXISTS, _("checkpoint '%s' exists already"), checkpoint->name);
    if (!p->caps->bitmap_merge)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("checkpoint '%s': checkpoints need block-dirty-bitmap-merge (QEMU 4.0); this is %s"),
                          checkpoint->name, p->caps->version_text ? p->caps->version_text : "?");
    guint before = json_array_get_length (p->actions);
    for (guint i = 0; i < p->in->graph->disks->len; i++) {
        const GraphDisk *disk = p->in->graph->disks->pdata[i];
        const CheckpointDiskDef *def = checkpoint_disk_def (p, disk);
        Item *item = item_of (p, disk);
        if (graph_disk_excluded (disk) || (def ? def->checkpoint == TRISTATE_NO : checkpoint->has_disks))
            continue;
        if (!alone && !def && !item)
            continue;
        if (!alone && !item)
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s' is in the checkpoint but not in the backup: an increment from it would have no base"), disk->target);
        if (item && (item->sync == SYNC_TOP || item->sync == SYNC_NONE)) {
            note (p, _("disk '%s' is not in checkpoint '%s': a copy with sync='%s' is no base of an increment"), disk->target, checkpoint->name, sync_types[item->sync]);
            continue;
        }
        if (!tx_checkpoint_disk (p, disk, def, item && item->def ? item->def->granularity : 0, error))
            return FALSE;
    }
    if (json_array_get_length (p->actions) == before)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("checkpoint '%s' would cover no disk: no image can keep a bitmap"), checkpoint->name);
    p->plan->checkpoint = g_strdup (checkpoint->name);
    p->plan->checkpoint_description = g_strdup (checkpoint->description);
    p->plan->series = p->in->def ? g_strdup (p->in->def->series) : NULL;
    return TRUE;
}

/* Jobs end before the bitmaps that they hold go. */
static void take_undo (Planner *p, Step *step)
{
    for (guint pass = 0; pass < 2; pass++)
        for (guint i = 0; i < p->undo->len; i++) {
            Action *action = p->undo->pdata[i];
            if (g_str_equal (action->verb, "block-dirty-bitmap-remove") == (pass == 1))
                g_ptr_array_add (step->undo, action);
        }
    g_ptr_array_set_free_func (p->undo, NULL);
    g_ptr_array_set_size (p->undo, 0);
    g_ptr_array_set_free_func (p->undo, (GDestroyNotify) action_free);
}

static void add_actions (Planner *p, const char *title)
{
    Step *step = plan_add (p->plan, title, NULL, timed (qmp_action ("transaction", obj ("actions", "a", p->actions, NULL)), TRANSACTION_TIMEOUT_MS), NULL);
    p->actions = json_array_new ();
    take_undo (p, step);
}

static gboolean add_point_in_time (Planner *p, GError **error)
{
    gboolean quiesce = (p->in->flags & BEGIN_QUIESCE) != 0;
    if (quiesce && !p->in->agent)
        return error_set (error, BAK_ERROR_AGENT, _("cannot freeze the file systems: the guest was attached without a guest agent (attach --agent PATH)"));
    if (!p->caps->transaction)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("this QEMU has no transactions (since 1.1): disks of one instant are not possible"));
    if (quiesce)
        plan_add (p->plan, _("freeze the guest's file systems"), NULL, own_action ("freeze", NULL), own_action ("thaw", NULL), NULL);
    add_actions (p, _("the point in time: all disks at one instant"));
    if (quiesce)
        plan_add (p->plan, _("thaw the guest's file systems"), NULL, own_action ("thaw", NULL), NULL);
    return TRUE;
}

/* The node that shows the point in time: an access node on the filter, else the overlay itself. Caller frees. */
static char *add_view (Planner *p, Item *item)
{
    if (!p->hybrid)
        return own_name (p, "scr", item);
    char *view = own_name (p, "snp", item);
    plan_add (p->plan, _("open the point in time"), item->disk->target,
              node_add (p, obj ("driver", "s", "snapshot-access", "node-name", "s", view, "file", "s", item->out->filter, NULL)),
              node_del (p, view), NULL);
    return view;
}

/* ---- push ---- */

/* The reopen as read-only flushes first, and reports what the deletion of a node would swallow. */
static void finish_flush (Planner *p, const Item *item, JsonObject *options)
{
    guint timeout = item->target.store->type == STORE_NETWORK ? NBD_FLUSH_TIMEOUT_MS : CREATE_TIMEOUT_MS;
    g_autofree char *node = g_strdup (json_object_get_string_member (options, "node-name"));

    json_object_set_boolean_member (options, "read-only", TRUE);
    Action *reopen = p->caps->reopen ? qmp_action ("blockdev-reopen", obj ("options", "a", arr (options, NULL), NULL))
                                     : qmp_action ("x-blockdev-reopen", options);
    g_ptr_array_add (p->plan->finish, guarded (timed (reopen, timeout), "node", node));
}

static void finish_push (Planner *p, Item *item)
{
    GPtrArray *finish = p->plan->finish;
    g_autofree char *node = own_name (p, "tgt", item), *file = own_name (p, "tgf", item);
    const StoreDef *store = item->target.store;
    gboolean fresh_file = store->type == STORE_FILE && !is_reused (p, &item->target);
    guint first = finish->len;

    if (p->caps->jobs)
        g_ptr_array_add (finish, job_dismiss (item->out->job));
    /* QEMU's own flush holds the guest: what is left for it should be little. */
    if (store->path)
        g_ptr_array_add (finish, own_action ("file-sync", obj ("path", "s", store->path, NULL)));
    if (p->caps->reopen || p->caps->x_reopen) {
        finish_flush (p, item, format_options (p, item, &item->target, node, file));
        /* A raw node without a writer does not pass its flush on to a node that has a name of its own. */
        finish_flush (p, item, protocol_options (p, item, &item->target, file));
    }
    g_ptr_array_add (finish, timed (node_del (p, node), CREATE_TIMEOUT_MS));
    g_ptr_array_add (finish, timed (node_del (p, file), CREATE_TIMEOUT_MS));
    if (fresh_file && g_str_equal (item->target.format, "raw"))
        g_ptr_array_add (finish, own_action ("file-punch", obj ("path", "s", store->path, NULL)));
    if (store->path)
        g_ptr_array_add (finish, own_action ("file-sync", obj ("path", "s", store->path, NULL)));
    for (guint i = first; i < finish->len; i++)
        ((Action *) finish->pdata[i])->disk = g_strdup (item->disk->target);
}

static gboolean check_durability (Planner *p, GError **error)
{
    if (p->caps->reopen || p->caps->x_reopen)
        return TRUE;
    if (!(p->in->flags & BEGIN_ALLOW_UNPROVED))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("this QEMU (%s) cannot show that the target was flushed (blockdev-reopen, since 4.0): "
                          "the copy would be unproved; allow that with --allow-unproved"), p->caps->version_text ? p->caps->version_text : "?");
    note (p, _("durability: unproved: this QEMU cannot show that the target was flushed"));
    return TRUE;
}

static gboolean check_compression (Planner *p, const Item *item, GError **error)
{
    const char *compression = item->def ? item->def->compression : NULL;
    if (!compression || g_str_equal (compression, "none"))
        return TRUE;
    if (!g_str_equal (item->target.format, "qcow2"))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s': compression needs format qcow2, not '%s'"), item->disk->target, item->target.format);
    if (!p->caps->backup_compress || (g_str_equal (compression, "zstd") && !p->caps->qcow2_zstd))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("disk '%s': this QEMU cannot compress a backup with %s (%s)"), item->disk->target, compression,
                          g_str_equal (compression, "zstd") ? _("since 5.1") : _("since 2.8"));
    return TRUE;
}

static gboolean check_backing (Planner *p, const Item *item, GError **error)
{
    if (!item->def || !item->def->backing)
        return TRUE;
    if (!g_str_equal (item->target.format, "qcow2") || item->target.store->type == STORE_NETWORK)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s': only an increment in a qcow2 file or device can be laid on '%s'"), item->disk->target, item->def->backing);
    if (item->sync != SYNC_INCREMENTAL && !item->out->reason)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s': a full backup is not laid on another ('%s'): --onto goes with --since"), item->disk->target, item->def->backing);
    for (guint i = 0; i < p->in->graph->nodes->len; i++) {
        const GraphNode *node = p->in->graph->nodes->pdata[i];
        if (g_strcmp0 (node->filename, item->def->backing) == 0)
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s': '%s' is an image of the running guest, not a previous backup"), item->disk->target, item->def->backing);
    }
    return TRUE;
}

static gboolean copy_from_disks (Planner *p, GError **error)
{
    for (guint i = 0; i < p->items->len; i++) {
        Item *item = p->items->pdata[i];
        g_autofree char *bitmap = item->changes ? own_name (p, "inc", item) : NULL;
        if (bitmap)
            tx_changes (p, item, item->disk->node, bitmap);
        tx_copy (p, item, device_of (p, item), bitmap);
    }
    return add_point_in_time (p, error);
}

/* First the instant, kept by a scratch, then the copy of what the scratch keeps: a slow, full or dead target meets no write of the guest. */
static gboolean copy_from_scratch (Planner *p, GError **error)
{
    for (guint i = 0; i < p->items->len; i++) {
        Item *item = p->items->pdata[i];
        g_autofree char *scratch = own_name (p, "scr", item), *bitmap = own_name (p, "inc", item);
        if (item->changes)
            tx_changes (p, item, scratch, bitmap);
        tx_keep (p, item);
    }
    if (!add_point_in_time (p, error))
        return FALSE;
    for (guint i = 0; i < p->items->len; i++) {
        Item *item = p->items->pdata[i];
        g_autofree char *view = add_view (p, item), *scratch = own_name (p, "scr", item), *bitmap = item->changes ? own_name (p, "inc", item) : NULL;
        if (bitmap) {
            tx (p, "block-dirty-bitmap-add", obj ("node", "s", view, "name", "s", bitmap, "disabled", "b", TRUE, NULL));
            tx (p, "block-dirty-bitmap-merge", obj ("node", "s", view, "target", "s", bitmap, "bitmaps", "a", arr (obj ("node", "s", scratch, "name", "s", bitmap, NULL), NULL), NULL));
            tx_undo (p, bitmap_remove (view, bitmap));
        }
        tx_copy (p, item, view, bitmap);
    }
    add_actions (p, _("start the copy"));
    return TRUE;
}

static gboolean plan_push (Planner *p, GError **error)
{
    if (!check_durability (p, error))
        return FALSE;
    for (guint i = 0; i < p->items->len; i++) {
        Item *item = p->items->pdata[i];
        if (!check_compression (p, item, error) || !check_backing (p, item, error))
            return FALSE;
        if (item->sync == SYNC_INCREMENTAL && item->def && item->def->backing)
            plan_add (p->plan, _("check the previous backup"), item->disk->target,
                      own_action ("backing-check", obj ("path", "s", item->def->backing, "size", "i", (gint64) item->disk->size, NULL)), NULL);
    }
    for (guint i = 0; i < p->items->len; i++)
        add_place (p, p->items->pdata[i], &((Item *) p->items->pdata[i])->target);
    for (guint i = 0; p->fleece && i < p->items->len; i++)
        add_place (p, p->items->pdata[i], &((Item *) p->items->pdata[i])->scratch);
    if (!tx_checkpoint (p, FALSE, error) || !(p->fleece ? copy_from_scratch (p, error) : copy_from_disks (p, error)))
        return FALSE;
    for (guint i = 0; i < p->items->len; i++)
        finish_push (p, p->items->pdata[i]);
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
    if (!p->caps->export_add)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("pull backups need block-export-add (QEMU 5.2); this is %s"), p->caps->version_text ? p->caps->version_text : "?");
    if (server && server->transport == SERVER_FD)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("<server transport='fd'> is not supported yet; use unix or tcp"));
    if (server && server->transport == SERVER_TCP) {
        if (!is_loopback (server->name) && server->tls != TRISTATE_YES && server->allow_insecure != TRISTATE_YES)
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("the export would be readable by anyone who reaches '%s': use TLS (tls='yes'), a unix socket or "
                              "a loopback address, or say that this is wanted (allow-insecure='yes', --allow-insecure)"), server->name);
        if (!server->port && !p->in->free_port)
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("no free TCP port was found; give one (port='…')"));
    }
    if (server && server->tls == TRISTATE_YES && !server->tls_psk && !server->tls_dir && !p->in->tls_dir)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("TLS was asked for, but there is no directory of certificates: set tls_x509_dir in the configuration, tls-dir='' or tls-psk=''"));
    for (guint i = 0; !p->caps->iothread_nbd_safe && i < p->items->len; i++) {
        const Item *item = p->items->pdata[i];
        if (item->disk->iothread && *item->disk->iothread)
            return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("disk '%s' is served by iothread '%s': QEMU %s crashes, and the guest with it, when an NBD client leaves "
                              "such an export; use push, take the iothread off, or use QEMU 8.0 or later"), item->disk->target, item->disk->iothread, p->caps->version_text);
    }
    return TRUE;
}

static void add_server (Planner *p)
{
    const ServerDef *server = p->in->def->server;
    gboolean tcp = server && server->transport == SERVER_TCP;
    g_autofree char *tls = server && server->tls == TRISTATE_YES ? own_name (p, "tls", NULL) : NULL;
    JsonObject *addr;

    if (tls) {
        const char *dir = server->tls_psk ? server->tls_psk : server->tls_dir ? server->tls_dir : p->in->tls_dir;
        JsonObject *properties = obj ("endpoint", "s", "server", "dir", "s", dir, NULL);
        p->plan->server_tls = g_strdup (dir);
        p->plan->server_psk = server->tls_psk != NULL;
        if (!server->tls_psk)
            json_object_set_boolean_member (properties, "verify-peer", TRUE);
        plan_add (p->plan, _("check that the certificates are there"), NULL,
                  own_action ("tls-check", obj ("dir", "s", dir, "endpoint", "s", server->tls_psk ? "psk" : "server", NULL)), NULL);
        plan_add (p->plan, _("load the certificates"), NULL, object_add (p, server->tls_psk ? "tls-creds-psk" : "tls-creds-x509", tls, properties),
                  guarded (qmp_action ("object-del", obj ("id", "s", tls, NULL)), "object", tls), NULL);
    }
    if (tcp) {
        p->plan->server_host = g_strdup (server->name);
        p->plan->server_port = server->port ? server->port : p->in->free_port;
        p->plan->server = g_strdup_printf (strchr (server->name, ':') ? "nbd%s://[%s]:%u" : "nbd%s://%s:%u", tls ? "s" : "", server->name, p->plan->server_port);
        g_autofree char *port = g_strdup_printf ("%u", p->plan->server_port);
        addr = obj ("type", "s", "inet", "data", "o", obj ("host", "s", server->name, "port", "s", port, NULL), NULL);
    } else {
        g_autofree char *file = g_strdup_printf ("nbd-%s.sock", p->in->job);
        p->plan->server_socket = server && server->socket ? g_strdup (server->socket) : g_build_filename (p->in->job_dir, file, NULL);
        p->plan->server = g_strdup_printf ("nbd%s+unix:///?socket=%s", tls ? "s" : "", p->plan->server_socket);
        addr = obj ("type", "s", "unix", "data", "o", obj ("path", "s", p->plan->server_socket, NULL), NULL);
        plan_add (p->plan, _("check that the socket's path is free"), NULL, own_action ("socket-check", obj ("path", "s", p->plan->server_socket, NULL)),
                  own_action ("socket-remove", obj ("path", "s", p->plan->server_socket, NULL)), NULL);
    }
    plan_add (p->plan, _("start the NBD server"), NULL, qmp_action ("nbd-server-start", obj ("addr", "o", addr, "tls-creds", "s", tls, NULL)),
              qmp_action ("nbd-server-stop", NULL), NULL);
}

static void add_export (Planner *p, Item *item, const char *node)
{
    g_autofree char *scratch = own_name (p, "scr", item);
    PlanDisk *out = item->out;
    JsonArray *bitmaps = NULL;
    if (out->bitmap) {
        bitmaps = json_array_new ();
        if (p->hybrid)
            json_array_add_object_element (bitmaps, obj ("node", "s", scratch, "name", "s", out->bitmap, NULL));
        else
            json_array_add_string_element (bitmaps, out->bitmap);
    }
    out->export_id = own_name (p, "exp", item);
    out->export_node = g_strdup (node);
    g_autofree char *title = g_strdup_printf (_("export disk '%s' as '%s'"), item->disk->target, out->export_name);
    plan_add (p->plan, title, item->disk->target,
              qmp_action ("block-export-add", obj ("id", "s", out->export_id, "type", "s", "nbd", "node-name", "s", node, "name", "s", out->export_name,
                          "writable", "b", FALSE, "bitmaps", "a", bitmaps, NULL)),
              guarded (qmp_action ("block-export-del", obj ("id", "s", out->export_id, "mode", "s", "hard", NULL)), "export", out->export_id),
              guarded (own_action ("export-wait-gone", obj ("export", "s", out->export_id, NULL)), "export", out->export_id), NULL);
}

static gboolean name_exports (Planner *p, GError **error)
{
    for (guint i = 0; i < p->items->len; i++) {
        Item *item = p->items->pdata[i];
        const BackupDiskDef *def = item->def;
        item->out->export_name = g_strdup (def && def->exportname && *def->exportname ? def->exportname : item->disk->target);
        if (item->changes)
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
    if (!check_server (p, error) || !name_exports (p, error))
        return FALSE;
    p->plan->idle_timeout = p->in->def->server ? p->in->def->server->idle_timeout : 0;
    for (guint i = 0; i < p->items->len; i++)
        add_place (p, p->items->pdata[i], &((Item *) p->items->pdata[i])->scratch);
    add_server (p);
    if (!tx_checkpoint (p, FALSE, error))
        return FALSE;
    for (guint i = 0; i < p->items->len; i++) {
        Item *item = p->items->pdata[i];
        g_autofree char *scratch = own_name (p, "scr", item);
        if (item->changes)
            tx_changes (p, item, scratch, item->out->bitmap);
        tx_keep (p, item);
    }
    if (!add_point_in_time (p, error))
        return FALSE;
    for (guint i = 0; i < p->items->len; i++) {
        g_autofree char *view = add_view (p, p->items->pdata[i]);
        add_export (p, p->items->pdata[i], view);
    }
    return TRUE;
}

/* ---- entries ---- */

/* sync top and none copy as the guest writes: there is nothing to read later. */
static gboolean all_whole (Planner *p)
{
    for (guint i = 0; i < p->items->len; i++) {
        SyncMode sync = ((Item *) p->items->pdata[i])->sync;
        if (sync == SYNC_TOP || sync == SYNC_NONE)
            return FALSE;
    }
    return TRUE;
}

static gboolean small_clusters (Planner *p)
{
    for (guint i = 0; i < p->items->len; i++) {
        const Item *item = p->items->pdata[i];
        if (item->def && item->def->cluster_size > MIN_CHUNK)
            return FALSE;
    }
    return TRUE;
}

/* How the guest is kept from what may happen to target and scratch, on this QEMU; the table in docs/guest-protection.md. */
static gboolean choose_protection (Planner *p, GError **error)
{
    gboolean push = p->plan->mode == BACKUP_MODE_PUSH, breaks = p->caps->backup_on_cbw_error;
    gboolean access = p->caps->snapshot_access && p->caps->backup_filter_node_name;
    gboolean copies = access && (p->caps->snapshot_access_exact || (p->caps->backup_x_perf && small_clusters (p)));
    gboolean fleece = push && p->protect != PROTECT_NO && all_whole (p) && copies;
    const char *text;

    p->hybrid = push ? fleece : access && p->caps->snapshot_access_exact && p->caps->export_bitmap_node;
    p->fleece = fleece;
    if (p->protect == PROTECT_NO)
        text = _("none (asked for)");
    else if (push && !fleece)
        text = breaks ? _("a failing target breaks the backup, not the guest's write; a slow one slows the guest") : _("none: the target is in the way of the guest's writes");
    else if (breaks)
        text = push ? _("the guest writes to a scratch; target and scratch may fail") : _("the scratch may fail: that breaks the backup, not the guest's write");
    else
        text = push ? _("the guest writes to a scratch, reserved whole; the target may fail") : _("the scratch is reserved whole");
    if (p->protect == PROTECT_STRICT && !breaks)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("protect='strict': QEMU %s lets a guest's write fail when the scratch fails (on-cbw-error, since 10.1); protect='yes' reserves the whole scratch instead"),
                          p->caps->version_text ? p->caps->version_text : "?");
    if (p->protect == PROTECT_STRICT && push && !fleece)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("protect='strict': a copy with sync='top' or 'none' goes through the guest's writes"));
    if (p->protect != PROTECT_NO && push && !fleece)
        note (p, _("protection of the guest: %s"), text);
    for (guint i = 0; i < p->items->len; i++) {
        Item *item = p->items->pdata[i];
        item->out->protection = g_strdup (text);
        if ((!push || fleece) && !resolve_scratch (p, item, error))
            return FALSE;
    }
    return TRUE;
}

static Plan *planner_end (Planner *p, gboolean ok)
{
    g_ptr_array_unref (p->items);
    json_array_unref (p->actions);
    g_ptr_array_unref (p->undo);
    if (!ok)
        g_clear_pointer (&p->plan, plan_free);
    return p->plan;
}

static void planner_begin (Planner *p, const PlanInput *input)
{
    *p = (Planner) { .in = input, .caps = input->caps, .plan = plan_new (input->job, input->def ? input->def->mode : BACKUP_MODE_PUSH) };
    p->protect = !input->def ? PROTECT_NO : input->def->protect == PROTECT_DEFAULT ? PROTECT_YES : input->def->protect;
    p->items = g_ptr_array_new_with_free_func ((GDestroyNotify) item_free);
    p->actions = json_array_new ();
    p->undo = g_ptr_array_new_with_free_func ((GDestroyNotify) action_free);
}

Plan *plan_backup (const PlanInput *input, GError **error)
{
    Planner p;
    planner_begin (&p, input);
    gboolean ok = select_disks (&p, error);
    for (guint i = 0; ok && i < p.items->len; i++)
        ok = resolve (&p, p.items->pdata[i], error);
    ok = ok && choose_protection (&p, error);
    ok = ok && (input->def->mode == BACKUP_MODE_PULL ? plan_pull (&p, error) : plan_push (&p, error));
    return planner_end (&p, ok);
}

Plan *plan_checkpoint (const PlanInput *input, GError **error)
{
    Planner p;
    planner_begin (&p, input);
    gboolean ok = tx_checkpoint (&p, TRUE, error) && add_point_in_time (&p, error);
    return planner_end (&p, ok);
}
