/* Checkpoints: points in time whose bitmaps say what has changed since. Every bitmap records on its
 * own, so that removing one never takes anything from another; a backup reads a merged copy and
 * consumes nothing. */
#include <glib/gi18n-lib.h>
#include "driver/qemu/verbs.h"
#include "job/build.h"
#include "job/chain.h"
#include "driver/qemu/checkpoint.h"
#include "job/image.h"
#include "driver/qemu/job.h"
#include "driver/qemu/remember.h"
#include "util/json.h"

/* ---- records ---- */

gint64 checkpoint_next_sequence (GPtrArray *all)
{
    gint64 last = 0;
    for (guint i = 0; i < all->len; i++)
        last = MAX (last, ((Checkpoint *) all->pdata[i])->sequence);
    return last + 1;
}

const Checkpoint *checkpoint_find (GPtrArray *all, const char *name)
{
    for (guint i = 0; i < all->len; i++)
        if (g_str_equal (((Checkpoint *) all->pdata[i])->name, name))
            return all->pdata[i];
    return NULL;
}

static CheckpointDisk *recorded_disk (const Graph *graph, JsonObject *from, const char *bitmap_name)
{
    CheckpointDisk *disk = checkpoint_disk_new (json_get_string (from, "disk"));
    const GraphNode *node = graph && json_get_string (from, "node")
                                ? graph_node (graph, json_get_string (from, "node"))
                                : NULL;
    const GraphBitmap *bitmap = node ? graph_bitmap (node, bitmap_name) : NULL;
    disk->node = g_strdup (json_get_string (from, "node"));
    disk->file = g_strdup (json_get_string (from, "file"));
    disk->bitmap = g_strdup (bitmap_name);
    disk->persistent = json_get_bool (from, "persistent", TRUE);
    disk->size = json_get_int (from, "size", 0);
    disk->granularity = bitmap ? bitmap->granularity : 0;
    disk->seal = g_strdup (json_get_string (from, "seal"));
    disk->guarded = json_get_bool (from, "guarded", FALSE);
    disk->layers = node ? chain_seal_below (plan_file_below (graph, node)) : NULL;
    disk->data = node ? chain_data_id (plan_data_file (graph, node)) : NULL;
    return disk;
}

static Checkpoint *from_plan (Guest *guest, const Plan *plan, const Graph *graph, gint64 created,
                              const char *job)
{
    g_autoptr (GPtrArray) all = checkpoint_load_all (guest->dir, NULL);
    Checkpoint *checkpoint = checkpoint_new (plan->checkpoint);

    checkpoint->parent =
        all->len ? g_strdup (((Checkpoint *) all->pdata[all->len - 1])->name) : NULL;
    checkpoint->description = g_strdup (plan->checkpoint_description);
    checkpoint->series = g_strdup (plan->series);
    checkpoint->created = created;
    checkpoint->sequence = checkpoint_next_sequence (all);
    checkpoint->job = g_strdup (job);
    checkpoint->domain_uuid = g_strdup (guest->def->uuid);
    for (guint i = 0; i < json_array_get_length (plan->checkpoint_disks); i++) {
        JsonObject *disk = json_get_element (plan->checkpoint_disks, i);
        if (!disk || !json_get_string (disk, "disk"))
            continue;
        g_ptr_array_add (checkpoint->disks, recorded_disk (graph, disk, plan->checkpoint));
        checkpoint_disk_set_backup (checkpoint->disks->pdata[checkpoint->disks->len - 1],
                                    plan_target_of (plan, json_get_string (disk, "disk")));
    }
    return checkpoint;
}

gboolean checkpoint_record (Guest *guest, const Plan *plan, gint64 created, const char *job,
                            GError **error)
{
    g_autoptr (Graph) graph =
        guest_monitor_alive (guest, NULL) ? guest_graph (guest, GRAPH_DISKS, NULL) : NULL;
    g_autoptr (Checkpoint) checkpoint = from_plan (guest, plan, graph, created, job);
    if (!plan_seal_backups (plan, checkpoint, error))
        return error_note (error, _("checkpoint '%s'"), plan->checkpoint);
    return checkpoint_save (guest->dir, checkpoint, error)
           || error_note (error, _("checkpoint '%s'"), plan->checkpoint);
}

Checkpoint *checkpoint_provisional (Guest *guest)
{
    g_autoptr (JournalState) state =
        journal_exists (guest->dir) ? journal_read (guest->dir, NULL) : NULL;
    const Plan *plan = state ? state->plan : NULL;
    bak_job record = { 0 };

    if (!plan || !plan->checkpoint || !plan->job || g_strcmp0 (state->phase, "running") != 0
        || checkpoint_is_journal (state) || checkpoint_exists (guest->dir, plan->checkpoint)
        || !record_load (guest->dir, plan->job, &record, NULL))
        return NULL;
    Checkpoint *checkpoint =
        job_state_ended (record.state)
            ? NULL
            : from_plan (guest, plan, NULL, record.started / G_USEC_PER_SEC, plan->job);
    if (checkpoint)
        checkpoint->provisional = TRUE;
    bak_job_clear (&record);
    return checkpoint;
}

/* The provisional checkpoint becomes a real one: its record is what makes it so. Idempotent.
 * Returns its name, caller frees. */
char *checkpoint_promote (Guest *guest, const Job *job, GError **error)
{
    const Plan *plan = job->plan;
    if (checkpoint_exists (guest->dir, plan->checkpoint)) {
        g_autoptr (Checkpoint) there = checkpoint_load (guest->dir, plan->checkpoint, error);
        if (!there)
            return NULL;
        if (g_strcmp0 (there->job, plan->job) == 0)
            return g_strdup (plan->checkpoint);
        error_set (error, BAK_ERROR_EXISTS,
                   _("checkpoint '%s' was defined by somebody else while the backup ran"),
                   plan->checkpoint);
        return NULL;
    }
    return checkpoint_record (guest, plan, job->record.started / G_USEC_PER_SEC, plan->job, error)
               ? g_strdup (plan->checkpoint)
               : NULL;
}

/* ---- where bitmaps are ---- */

static gboolean same_disk (const GraphDisk *disk, const CheckpointDisk *recorded)
{
    if (g_str_equal (disk->target, recorded->disk))
        return TRUE;
    for (guint i = 0; i < disk->names->len; i++)
        if (g_str_equal (disk->names->pdata[i], recorded->disk))
            return TRUE;
    return FALSE;
}

static const GraphNode *backing_of (const Graph *graph, const GraphNode *node)
{
    return node->backing ? graph_node (graph, node->backing) : NULL;
}

static void add_node (GPtrArray *nodes, const GraphNode *node, const char *bitmap)
{
    if (graph_bitmap (node, bitmap) && !g_ptr_array_find (nodes, node, NULL))
        g_ptr_array_add (nodes, (gpointer) node);
}

/* The layers from the active one down to the image that the checkpoint was made on; all of them
 * when that one is not known. */
static gboolean add_chain (GPtrArray *nodes, const Graph *graph, const GraphDisk *disk,
                           const CheckpointDisk *recorded, const char *file)
{
    const GraphNode *last = NULL, *top = disk->node ? graph_node (graph, disk->node) : NULL;
    for (const GraphNode *node = top; file && node && !last; node = backing_of (graph, node))
        if (g_strcmp0 (node->filename, file) == 0)
            last = node;
    if (file && !last)
        return FALSE;
    for (const GraphNode *node = top; node; node = node == last ? NULL : backing_of (graph, node))
        add_node (nodes, node, recorded->bitmap);
    return TRUE;
}

GPtrArray *checkpoint_nodes (const Graph *graph, const CheckpointDisk *recorded)
{
    GPtrArray *nodes = g_ptr_array_new ();
    const char *file = recorded->file && *recorded->file ? recorded->file : NULL;
    gboolean found = FALSE;

    for (guint i = 0; file && i < graph->disks->len; i++)
        found = add_chain (nodes, graph, graph->disks->pdata[i], recorded, file) || found;
    for (guint i = 0; file && i < graph->nodes->len; i++) {
        const GraphNode *node = graph->nodes->pdata[i];
        if (g_strcmp0 (node->filename, file) != 0)
            continue;
        add_node (nodes, node, recorded->bitmap);
        found = TRUE;
    }
    for (guint i = 0; !found && i < graph->disks->len; i++)
        if (same_disk (graph->disks->pdata[i], recorded))
            add_chain (nodes, graph, graph->disks->pdata[i], recorded, NULL);
    return nodes;
}

/* An image goes where it is moved to, and takes its bitmaps along: the seal tells where. */
static void add_sealed (GPtrArray *nodes, const Graph *graph, const CheckpointDisk *recorded)
{
    for (guint i = 0; recorded->seal && i < graph->nodes->len; i++) {
        const GraphNode *node = graph->nodes->pdata[i];
        if (graph_bitmap (node, recorded->seal) && !g_ptr_array_find (nodes, node, NULL))
            g_ptr_array_add (nodes, (gpointer) node);
    }
}

GPtrArray *checkpoint_sealed_nodes (const Graph *graph, const CheckpointDisk *recorded)
{
    GPtrArray *nodes = g_ptr_array_new ();
    add_sealed (nodes, graph, recorded);
    return nodes;
}

GPtrArray *checkpoint_nodes_to_clear (const Graph *graph, const CheckpointDisk *recorded)
{
    GPtrArray *nodes = checkpoint_nodes (graph, recorded);
    add_sealed (nodes, graph, recorded);
    return nodes;
}

static guint64 size_in_graph (const char *name, gconstpointer graph)
{
    const GraphDisk *disk = graph_disk (graph, name, NULL);
    return disk ? disk->size : 0;
}

gboolean checkpoint_see_sizes (Guest *guest, const Graph *graph, GPtrArray *all, GError **error)
{
    return checkpoints_see_sizes (guest->dir, all, size_in_graph, graph, error);
}

Graph *checkpoint_look (Guest *guest, GError **error)
{
    Graph *graph = guest_graph (guest, GRAPH_ALL, error);
    g_autoptr (GPtrArray) all = graph ? checkpoint_load_all (guest->dir, NULL) : NULL;

    if (graph)
        checkpoint_see_sizes (guest, graph, all, NULL);
    return graph;
}

/* ---- removing bitmaps ---- */

static gboolean reopen (Guest *guest, const GraphNode *node, gboolean read_only, GError **error)
{
    JsonObject *options = obj ("driver", "s", node->driver, "node-name", "s", node->name, "file",
                               "s", node->file, "read-only", "b", read_only, NULL);
    if (node->backing)
        json_object_set_string_member (options, "backing", node->backing);
    else
        json_object_set_null_member (options, "backing");
    if (guest->caps->reopen)
        return qmp_run (guest->qmp, "blockdev-reopen",
                        obj ("options", "a", arr (options, NULL), NULL), 0, error);
    return qmp_run (guest->qmp, "x-blockdev-reopen", options, 0, error);
}

gboolean checkpoint_remove_bitmap (Guest *guest, const GraphNode *node, const char *bitmap,
                                   GError **error)
{
    g_autoptr (GError) failure = NULL, reopened = NULL;
    const GraphBitmap *there = graph_bitmap (node, bitmap);
    gboolean reopens = there && there->persistent && node->read_only && node->file
                       && (guest->caps->reopen || guest->caps->x_reopen);

    if (!there)
        return TRUE;
    gboolean writable = reopens && reopen (guest, node, FALSE, &reopened);
    gboolean ok = qmp_run (guest->qmp, "block-dirty-bitmap-remove",
                           obj ("node", "s", node->name, "name", "s", bitmap, NULL), 0, &failure);
    if (writable && !reopen (guest, node, TRUE, &reopened))
        g_warning ("node '%s' stays writable: %s", node->name, reopened->message);
    if (ok)
        return TRUE;
    g_propagate_error (error, writable || !reopens ? g_steal_pointer (&failure)
                                                   : g_steal_pointer (&reopened));
    return error_note (error,
                       node->read_only ? _("bitmap '%s' of the read-only image '%s'")
                                       : _("bitmap '%s' of image '%s'"),
                       bitmap, node->filename);
}

gboolean checkpoint_remove_seals (Guest *guest, const GraphNode *node, const char *bitmap,
                                  GError **error)
{
    for (guint i = 0; i < node->bitmaps->len; i++) {
        const GraphBitmap *seal = node->bitmaps->pdata[i];
        if (seal_is_beside (seal->name, bitmap)
            && !checkpoint_remove_bitmap (guest, node, seal->name, error))
            return FALSE;
    }
    return TRUE;
}

/* cleared: nodes that another disk of the checkpoint has led to already. */
static gboolean remove_nodes (Guest *guest, GPtrArray *nodes, const char *bitmap,
                              GPtrArray *cleared, GError **error)
{
    for (guint i = 0; i < nodes->len; i++) {
        if (g_ptr_array_find (cleared, nodes->pdata[i], NULL))
            continue;
        if (!checkpoint_remove_bitmap (guest, nodes->pdata[i], bitmap, error)
            || !checkpoint_remove_seals (guest, nodes->pdata[i], bitmap, error))
            return FALSE;
        g_ptr_array_add (cleared, nodes->pdata[i]);
    }
    return TRUE;
}

static gboolean is_local_image (const char *file)
{
    return file && g_path_is_absolute (file) && g_file_test (file, G_FILE_TEST_EXISTS);
}

static gboolean remove_from_file (const char *file, const CheckpointDisk *disk, GError **error)
{
    if (!disk->persistent || !is_local_image (file))
        return TRUE;
    g_autofree char *end = disk->guarded ? seal_end_name (disk->seal) : NULL;
    return image_bitmap_remove (file, "qcow2", disk->bitmap, error)
           && (!disk->seal || image_bitmap_remove (file, "qcow2", disk->seal, error))
           && (!end || image_bitmap_remove (file, "qcow2", end, error));
}

gboolean checkpoint_is_stored (const Plan *plan)
{
    for (guint i = 0; plan->checkpoint && i < json_array_get_length (plan->checkpoint_disks); i++) {
        JsonObject *disk = json_get_element (plan->checkpoint_disks, i);
        const char *file = disk && json_get_bool (disk, "persistent", TRUE)
                               ? json_get_string (disk, "file")
                               : NULL;
        g_autoptr (ImageInfo) info =
            file && g_path_is_absolute (file) ? image_probe (file, NULL, NULL) : NULL;
        for (guint k = 0; info && k < info->bitmaps->len; k++)
            if (g_str_equal (((ImageBitmap *) info->bitmaps->pdata[k])->name, plan->checkpoint))
                return TRUE;
    }
    return FALSE;
}

const GraphNode *checkpoint_sealed_node (GPtrArray *nodes, const CheckpointDisk *recorded)
{
    const GraphNode *sealed = nodes->pdata[nodes->len - 1];
    for (guint i = 0; recorded->seal && i < nodes->len; i++)
        if (graph_bitmap (nodes->pdata[i], recorded->seal))
            sealed = nodes->pdata[i];
    return sealed;
}

char *checkpoint_seal_broken (GPtrArray *nodes, const CheckpointDisk *recorded)
{
    return recorded->seal ? plan_seal_broken (checkpoint_sealed_node (nodes, recorded), recorded)
                          : NULL;
}

/* Borrowed. */
static CheckpointDisk provisional_disk (const Plan *plan, JsonObject *from)
{
    return (CheckpointDisk){ .disk = (char *) json_get_string (from, "disk"),
                             .file = (char *) json_get_string (from, "file"),
                             .bitmap = plan->checkpoint,
                             .seal = (char *) json_get_string (from, "seal"),
                             .guarded = json_get_bool (from, "guarded", FALSE),
                             .persistent = json_get_bool (from, "persistent", TRUE) };
}

gboolean checkpoint_is_kept (const Graph *graph, const Plan *plan, GError **error)
{
    for (guint i = 0; plan->checkpoint && i < json_array_get_length (plan->checkpoint_disks); i++) {
        JsonObject *from = json_get_element (plan->checkpoint_disks, i);
        CheckpointDisk disk = provisional_disk (plan, from);
        g_autoptr (GPtrArray) nodes = disk.disk ? checkpoint_nodes (graph, &disk) : NULL;
        if (disk.disk && (!nodes || nodes->len == 0))
            return error_set (error, BAK_ERROR_INEXACT,
                              _("disk '%s': somebody has removed the bitmap of checkpoint '%s'"),
                              disk.disk, plan->checkpoint);
        g_autofree char *why = disk.disk ? checkpoint_seal_broken (nodes, &disk) : NULL;
        if (why)
            return error_set (error, BAK_ERROR_INEXACT, _("disk '%s': checkpoint '%s': %s"),
                              disk.disk, plan->checkpoint, why);
    }
    return TRUE;
}

gboolean checkpoint_drop (Guest *guest, const Plan *plan, GError **error)
{
    gboolean alive = guest_monitor_alive (guest, NULL);
    g_autoptr (Graph) graph =
        alive && plan->checkpoint ? guest_graph (guest, GRAPH_DISKS, error) : NULL;
    g_autoptr (GPtrArray) cleared = g_ptr_array_new ();
    g_autoptr (GError) first = NULL;

    if (!plan->checkpoint)
        return TRUE;
    if (alive && !graph)
        return FALSE;
    for (guint i = 0; i < json_array_get_length (plan->checkpoint_disks); i++) {
        JsonObject *from = json_get_element (plan->checkpoint_disks, i);
        CheckpointDisk disk = provisional_disk (plan, from);
        if (!disk.disk)
            continue;
        g_autoptr (GPtrArray) nodes = graph ? checkpoint_nodes_to_clear (graph, &disk) : NULL;
        if (nodes)
            remove_nodes (guest, nodes, plan->checkpoint, cleared, first ? NULL : &first);
        else
            remove_from_file (disk.file, &disk, first ? NULL : &first);
    }
    if (!first)
        return TRUE;
    g_propagate_error (error, g_steal_pointer (&first));
    return error_note (error, _("checkpoint '%s' that did not come to be"), plan->checkpoint);
}

/* ---- deleting ---- */

static gboolean has_image_bitmap (const char *file, const char *bitmap)
{
    g_autoptr (ImageInfo) info = is_local_image (file) ? image_probe (file, "qcow2", NULL) : NULL;
    for (guint i = 0; info && i < info->bitmaps->len; i++)
        if (g_str_equal (((ImageBitmap *) info->bitmaps->pdata[i])->name, bitmap))
            return TRUE;
    return FALSE;
}

/* Where images of the guest were when it was looked at last (seen; NULL: not known), and where they
 * were at any checkpoint. Borrowed from both. */
static GHashTable *known_files (GPtrArray *all, const bak_disks_ret *seen)
{
    GHashTable *files = g_hash_table_new (g_str_hash, g_str_equal);
    for (guint i = 0; seen && i < seen->disks.disks_len; i++)
        if (g_str_equal (seen->disks.disks_val[i].format, "qcow2"))
            g_hash_table_add (files, seen->disks.disks_val[i].source);
    for (guint i = 0; i < all->len; i++) {
        const Checkpoint *checkpoint = all->pdata[i];
        for (guint k = 0; k < checkpoint->disks->len; k++) {
            const CheckpointDisk *disk = checkpoint->disks->pdata[k];
            if (disk->file && disk->persistent)
                g_hash_table_add (files, disk->file);
        }
    }
    return files;
}

/* From the images that no QEMU has open. */
static gboolean clear_sealed_files (Guest *guest, GPtrArray *all, const CheckpointDisk *disk,
                                    GError **error)
{
    bak_disks_ret seen = { 0 };
    gboolean remembered = remember_disks (guest, &seen);
    g_autoptr (GHashTable) files = known_files (all, remembered ? &seen : NULL);
    gboolean ok = TRUE;
    GHashTableIter iter;
    gpointer file;
    g_hash_table_iter_init (&iter, files);
    while (ok && disk->seal && g_hash_table_iter_next (&iter, &file, NULL))
        if (has_image_bitmap (file, disk->seal))
            ok = remove_from_file (file, disk, error);
    if (remembered)
        call_clear_ret (CALL_ID_domain_disks, &seen);
    return ok;
}

gboolean checkpoint_clear_sealed (Guest *guest, const Graph *graph, GPtrArray *all,
                                  const CheckpointDisk *disk, GError **error)
{
    if (!graph)
        return clear_sealed_files (guest, all, disk, error);
    g_autoptr (GPtrArray) nodes = checkpoint_sealed_nodes (graph, disk),
                          cleared = g_ptr_array_new ();
    return remove_nodes (guest, nodes, disk->bitmap, cleared, error);
}

static gboolean is_open (const Graph *graph, const char *file)
{
    for (guint i = 0; i < graph->nodes->len; i++)
        if (g_strcmp0 (((GraphNode *) graph->nodes->pdata[i])->filename, file) == 0)
            return TRUE;
    return FALSE;
}

/* The guest has the image no more, or it lies where nobody was told of. */
static gboolean clear_elsewhere (Guest *guest, const Graph *graph, const Checkpoint *checkpoint,
                                 const CheckpointDisk *disk, GError **error)
{
    if (disk->seal && !is_open (graph, disk->file) && has_image_bitmap (disk->file, disk->seal))
        return remove_from_file (disk->file, disk, error);
    bak_event event = { .kind = EVENT_WARNING, .disk = ret_string (disk->disk) };
    g_autofree char *text = g_strdup_printf (
        _("checkpoint '%s' is deleted, but disk '%s' had no bitmap of it any more"),
        checkpoint->name, disk->disk);
    event.text = ret_string (text);
    guest_emit (guest, &event);
    return TRUE;
}

static gboolean remove_disk (Guest *guest, const Graph *graph, GPtrArray *all,
                             const Checkpoint *checkpoint, const CheckpointDisk *disk,
                             GPtrArray *cleared, GError **error)
{
    if (!graph && disk->persistent && disk->file && *disk->file && !g_path_is_absolute (disk->file))
        return error_set (error, BAK_ERROR_CONNECTION,
                          _("QEMU does not run, and its image '%s' cannot be found without it"),
                          disk->file);
    if (!graph)
        return remove_from_file (disk->file, disk, error)
               && clear_sealed_files (guest, all, disk, error);
    g_autoptr (GPtrArray) nodes = checkpoint_nodes_to_clear (graph, disk);
    return nodes->len ? remove_nodes (guest, nodes, disk->bitmap, cleared, error)
                      : clear_elsewhere (guest, graph, checkpoint, disk, error);
}

/* Who came after it comes after its parent now. */
static gboolean reparent (Guest *guest, GPtrArray *all, const Checkpoint *gone, GError **error)
{
    for (guint i = 0; i < all->len; i++) {
        Checkpoint *child = all->pdata[i];
        if (g_strcmp0 (child->parent, gone->name) != 0)
            continue;
        g_free (child->parent);
        child->parent = g_strdup (gone->parent);
        if (!checkpoint_save (guest->dir, child, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean delete_one (Guest *guest, const Graph *graph, GPtrArray *all,
                            const Checkpoint *checkpoint, GError **error)
{
    g_autoptr (GPtrArray) cleared = g_ptr_array_new ();
    for (guint i = 0; i < checkpoint->disks->len; i++) {
        const CheckpointDisk *disk = checkpoint->disks->pdata[i];
        if (!remove_disk (guest, graph, all, checkpoint, disk, cleared, error))
            return error_note (error,
                               _("checkpoint '%s' cannot be deleted ('--metadata' deletes what is "
                                  "known of it and leaves the bitmap): disk '%s'"),
                               checkpoint->name, disk->disk);
    }
    return reparent (guest, all, checkpoint, error)
           && checkpoint_remove (guest->dir, checkpoint->name, error);
}

/* What is taken out of an image that others stand on changes it, by our own hand. */
typedef struct {
    const Checkpoint *checkpoint;
    const CheckpointDisk *disk;
} Standing;

static gboolean is_below (const Graph *graph, const CheckpointDisk *gone)
{
    g_autoptr (GPtrArray) nodes = checkpoint_nodes_to_clear (graph, gone);
    for (guint i = 0; i < nodes->len; i++)
        for (guint k = 0; k < graph->nodes->len; k++)
            if (g_strcmp0 (((GraphNode *) graph->nodes->pdata[k])->backing,
                           ((GraphNode *) nodes->pdata[i])->name)
                == 0)
                return TRUE;
    return FALSE;
}

static gboolean any_is_below (const Graph *graph, GPtrArray *all, GHashTable *gone)
{
    gboolean below = FALSE;
    for (guint i = 0; !below && i < all->len; i++) {
        const Checkpoint *checkpoint = all->pdata[i];
        for (guint k = 0;
             g_hash_table_contains (gone, checkpoint->name) && k < checkpoint->disks->len; k++)
            below = below || is_below (graph, checkpoint->disks->pdata[k]);
    }
    return below;
}

GArray *checkpoint_who_stands (const Graph *graph, GPtrArray *all, GHashTable *gone)
{
    if (gone && !any_is_below (graph, all, gone))
        return NULL;
    GArray *standing = g_array_new (FALSE, FALSE, sizeof (Standing));
    for (guint i = 0; i < all->len; i++) {
        const Checkpoint *checkpoint = all->pdata[i];
        gboolean stays = !gone || !g_hash_table_contains (gone, checkpoint->name);
        for (guint k = 0; stays && k < checkpoint->disks->len; k++) {
            Standing one = { checkpoint, checkpoint->disks->pdata[k] };
            const GraphDisk *disk = graph_disk (graph, one.disk->disk, NULL);
            g_autofree char *differs =
                disk && one.disk->layers ? plan_layers_differ (graph, disk, one.disk) : NULL;
            if (disk && one.disk->layers && !differs)
                g_array_append_val (standing, one);
        }
    }
    return standing;
}

/* The record may be another one by now. */
static gboolean stands_on (Guest *guest, const Standing *one, const char *layers, GError **error)
{
    g_autoptr (Checkpoint) now = checkpoint_exists (guest->dir, one->checkpoint->name)
                                     ? checkpoint_load (guest->dir, one->checkpoint->name, error)
                                     : NULL;
    CheckpointDisk *disk = NULL;
    for (guint i = 0; now && i < now->disks->len && !disk; i++) {
        disk = now->disks->pdata[i];
        disk = g_str_equal (disk->disk, one->disk->disk) ? disk : NULL;
    }
    if (!disk || g_strcmp0 (disk->layers, layers) == 0)
        return now || !*error;
    g_free (disk->layers);
    disk->layers = g_strdup (layers);
    return checkpoint_save (guest->dir, now, error);
}

void checkpoint_stand_again (Guest *guest, const Graph *graph, const GArray *standing)
{
    for (guint i = 0; standing && i < standing->len; i++) {
        const Standing *one = &g_array_index (standing, Standing, i);
        const GraphNode *node =
            plan_image_of (graph, graph_disk (graph, one->disk->disk, NULL), one->disk);
        g_autofree char *layers = node ? chain_seal_below (plan_file_below (graph, node)) : NULL;
        g_autoptr (GError) failure = NULL;
        if (layers && !stands_on (guest, one, layers, &failure))
            g_warning ("checkpoint '%s': %s", one->checkpoint->name, failure->message);
    }
}

/* Youngest first: then nearly no one has to be given another parent. */
static gboolean delete_names (Guest *guest, GPtrArray *names, gboolean alive, GError **error)
{
    g_autoptr (GPtrArray) all = checkpoint_load_all (guest->dir, NULL);
    g_autoptr (GHashTable) wanted = g_hash_table_new (g_str_hash, g_str_equal);
    g_autoptr (Graph) graph = alive ? guest_graph (guest, GRAPH_DISKS, error) : NULL;

    if (alive && !graph)
        return FALSE;
    for (guint i = 0; i < names->len; i++)
        g_hash_table_add (wanted, names->pdata[i]);
    g_autoptr (GArray) standing = graph ? checkpoint_who_stands (graph, all, wanted) : NULL;
    for (guint i = all->len; i-- > 0;) {
        const Checkpoint *checkpoint = all->pdata[i];
        if (!g_hash_table_contains (wanted, checkpoint->name))
            continue;
        if (!delete_one (guest, graph, all, checkpoint, error))
            return FALSE;
        g_ptr_array_remove_index (all, i);
    }
    checkpoint_stand_again (guest, graph, standing);
    return TRUE;
}

gboolean checkpoint_delete_all (Guest *guest, GPtrArray *names, gboolean alive, GError **error)
{
    g_autofree char *id = record_new_id ();
    g_autoptr (Plan) plan = plan_new (id, BACKUP_MODE_PUSH);
    g_autoptr (GError) failure = NULL;
    JsonArray *list = json_array_new ();

    for (guint i = 0; i < names->len; i++)
        json_array_add_string_element (list, names->pdata[i]);
    Journal *journal = journal_create (
        guest->dir, plan, obj ("kind", "s", "checkpoint-delete", "names", "a", list, NULL), error);
    if (!journal)
        return FALSE;
    journal_close (journal);
    gboolean ok = delete_names (guest, names, alive, &failure);
    /* with QEMU away in the middle the rest is for the next owner */
    if (ok || error_code (failure) != BAK_ERROR_CONNECTION)
        journal_remove (guest->dir);
    if (!ok)
        g_propagate_error (error, g_steal_pointer (&failure));
    return ok;
}

/* ---- recover ---- */

gboolean checkpoint_is_journal (const JournalState *state)
{
    const char *kind = json_get_string (state->meta, "kind");
    return kind && g_str_has_prefix (kind, "checkpoint-");
}

static gboolean resume_delete (Guest *guest, const JournalState *state, gboolean alive,
                               GError **error)
{
    g_autoptr (GPtrArray) names = g_ptr_array_new ();
    JsonArray *list = json_get_array (state->meta, "names");
    for (guint i = 0; list && i < json_array_get_length (list); i++)
        if (json_get_string_element (list, i))
            g_ptr_array_add (names, (gpointer) json_get_string_element (list, i));
    return delete_names (guest, names, alive, error);
}

/* The record is the moment from which on it exists; before that everything is undone. */
static gboolean resume_create (Guest *guest, JournalState *state, gboolean alive, GError **error)
{
    Run run = { .ops = &qemu_run_ops,
                .data = guest,
                .plan = state->plan,
                .states = state->states,
                .files = state->files,
                .frozen = state->frozen,
                .froze = -1,
                .thawed = -1 };
    gboolean made =
        state->plan->checkpoint && checkpoint_exists (guest->dir, state->plan->checkpoint);
    gboolean ok =
        run_undo (&run, made, error) && (made || checkpoint_drop (guest, state->plan, error));
    g_free (run.thaw_problem);
    return ok;
}

gboolean checkpoint_recover (Guest *guest, JournalState *state, gboolean alive, GError **error)
{
    gboolean is_delete = g_str_equal (json_get_string (state->meta, "kind"), "checkpoint-delete");
    g_autoptr (GError) failure = NULL;
    if (!(is_delete ? resume_delete (guest, state, alive, &failure)
                    : resume_create (guest, state, alive, &failure))) {
        if (error_code (failure) == BAK_ERROR_CONNECTION && alive) {
            g_propagate_error (error, g_steal_pointer (&failure));
            return FALSE;
        }
        bak_event event = { .kind = EVENT_WARNING, .text = ret_string (failure->message) };
        g_warning ("guest '%s': %s", guest->def->name, failure->message);
        guest_emit (guest, &event);
    }
    journal_remove (guest->dir);
    return TRUE;
}

/* ---- who may ---- */

gboolean checkpoint_not_busy (Guest *guest, const char *what, GError **error)
{
    if (!guest->job)
        return !guest->qmp || guest->recovering
               || guest->owner->jobs->refuse_all (guest, what, error);
    return error_set (
        error, BAK_ERROR_BUSY,
        _("guest '%s': cannot %s while backup job %s is %s; wait for it or stop it (backup-stop)"),
        guest->def->name, what, guest->job->record.id,
        job_state_to_string (guest->job->record.state));
}

gboolean checkpoint_acquire (Guest *guest, gboolean *ret_alive, GError **error)
{
    g_autoptr (GError) failure = NULL;
    *ret_alive = guest_acquire (guest, &failure);
    if (*ret_alive)
        return TRUE;
    if (error_code (failure) == BAK_ERROR_CONNECTION && !guest->job)
        return guest_lock (guest, error);
    g_propagate_error (error, g_steal_pointer (&failure));
    return FALSE;
}
