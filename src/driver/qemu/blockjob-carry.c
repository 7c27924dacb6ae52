/* Checkpoints across a block job: which of them survive, and how their bitmaps get into the image
 * that stays.
 *
 * A bitmap says what was written to its image; where the data of images goes into another one, that
 * one has to say so too. A base that records marks what is copied into it by itself. For the rest a
 * bitmap is added there while QEMU copies, which records from then on, and what those of the images
 * that go have seen up to then is merged into it in the same transaction: no write is in neither.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/blockjob.h"
#include "driver/qemu/checkpoint.h"
#include "driver/qemu/plan.h"
#include "driver/qemu/verbs.h"
#include "job/build.h"
#include "job/chain.h"
#include "job/image.h"
#include "job/seal.h"
#include "util/files.h"
#include "util/json.h"

enum { END_MS = 60000, MAX_VERBS = 64 };

/* ---- what becomes of each ---- */

static guint depth_of (const BlockRequest *request, const char *node)
{
    for (guint i = 0; i < request->chain->len; i++)
        if (g_strcmp0 (((const GraphNode *) request->chain->pdata[i])->name, node) == 0)
            return i;
    return G_MAXUINT;
}

static gboolean goes (const BlockRequest *request, guint depth)
{
    return depth >= request->top && depth < request->base;
}

static void lose (BlockRequest *request, const Checkpoint *checkpoint, const char *why)
{
    g_ptr_array_add (request->lost, g_strdup (checkpoint->name));
    g_ptr_array_add (request->why, g_strdup (why));
}

static void record (JsonArray *into, const Checkpoint *checkpoint, const CheckpointDisk *recorded,
                    const char *node)
{
    json_array_add_object_element (into, obj ("checkpoint", "s", checkpoint->name, "disk", "s",
                                              recorded->disk, "node", "s", node, NULL));
}

/* One bitmap that is added to the image that stays, if it has none of that name, and what is merged
 * into it. */
static void carry (BlockRequest *request, const CheckpointDisk *recorded, const char *name,
                   const GraphBitmap *like, gboolean records, JsonArray *from)
{
    const GraphNode *into = graph_node (request->graph, request->into);
    gboolean there = into && graph_bitmap (into, name);

    if (json_array_get_length (from) == 0 && there) {
        json_array_unref (from);
        return;
    }
    json_array_add_object_element (request->carry, obj ("name", "s", name, "granularity", "i",
                                                        (gint64) like->granularity, "persistent",
                                                        "b", recorded->persistent, "disabled", "b",
                                                        !records, "from", "a", from, NULL));
    if (!there)
        json_array_add_object_element (request->added,
                                       obj ("node", "s", request->into, "name", "s", name, NULL));
}

static JsonArray *one_source (const GraphNode *node, const char *name)
{
    return arr (obj ("node", "s", node->name, "name", "s", name, NULL), NULL);
}

static void carry_seal (BlockRequest *request, const CheckpointDisk *recorded,
                        const GraphNode *image)
{
    g_autofree char *end = seal_end_name (recorded->seal);
    carry (request, recorded, recorded->seal, graph_bitmap (image, recorded->seal), TRUE,
           one_source (image, recorded->seal));
    if (recorded->guarded)
        carry (request, recorded, end, graph_bitmap (image, end), FALSE, one_source (image, end));
}

/* The bitmaps of that checkpoint on images that go. */
static JsonArray *sources (const BlockRequest *request, JsonArray *changes)
{
    JsonArray *from = json_array_new ();
    for (guint i = 0; i < json_array_get_length (changes); i++) {
        JsonObject *bitmap = json_get_element (changes, i);
        if (goes (request, depth_of (request, json_get_string (bitmap, "node"))))
            json_array_add_object_element (from, obj_copy (bitmap));
    }
    return from;
}

static char *cannot_keep (const BlockRequest *request, const CheckpointDisk *recorded)
{
    const GraphNode *into = graph_node (request->graph, request->into);
    if (request->type == BLOCK_COPY && recorded->persistent && !request->keeps_bitmaps)
        return g_strdup_printf (_("an image of format %s cannot keep a bitmap"), request->format);
    if (!recorded->persistent || !into || into->keeps_bitmaps)
        return NULL;
    return g_strdup_printf (_("the image '%s' cannot keep a bitmap"), into->filename);
}

/* Seen from the base of an active commit: all above it is copied into it, and it records. */
static void sort_below (BlockRequest *request, const Checkpoint *checkpoint,
                        const CheckpointDisk *recorded)
{
    GraphDisk from_base = *request->disk;
    g_autofree char *why = NULL;
    from_base.node = (char *) ((const GraphNode *) request->chain->pdata[request->base])->name;
    g_autoptr (JsonArray) changes =
        plan_changes_since (request->graph, &from_base, checkpoint, &why);
    g_autofree char *differs =
        changes ? plan_layers_differ (request->graph, &from_base, recorded) : NULL;
    if (!changes || differs)
        lose (request, checkpoint, changes ? differs : why);
}

/* The name of a bitmap that is needed in the image that stays, and is another's there. */
static gboolean is_taken (const BlockRequest *request, const CheckpointDisk *recorded,
                          gboolean with_seal)
{
    const GraphNode *into = graph_node (request->graph, request->into);
    const GraphBitmap *there = into ? graph_bitmap (into, recorded->bitmap) : NULL;
    if (!there || !with_seal)
        return FALSE;
    return !recorded->seal || !graph_bitmap (into, recorded->seal);
}

static void sort_one (BlockRequest *request, const Checkpoint *checkpoint,
                      const CheckpointDisk *recorded)
{
    const GraphNode *image = plan_image_of (request->graph, request->disk, recorded);
    guint depth = image ? depth_of (request, image->name) : G_MAXUINT;
    gboolean pull = request->type == BLOCK_PULL || request->type == BLOCK_COPY,
             active = request->type == BLOCK_ACTIVE_COMMIT;
    g_autofree char *why = NULL;

    if (depth == G_MAXUINT)
        return; /* of another image: nothing here has anything to do with it */
    if (active && depth >= request->base) {
        sort_below (request, checkpoint, recorded);
        return;
    }
    g_autoptr (JsonArray) changes =
        plan_changes_since (request->graph, request->disk, checkpoint, &why);
    if (changes)
        why = plan_layers_differ (request->graph, request->disk, recorded);
    if (why && depth < request->top)
        return; /* no base of an increment before, and none after */
    if (!why && depth >= request->top)
        why = cannot_keep (request, recorded);
    const GraphNode *into = graph_node (request->graph, request->into);
    const GraphBitmap *there = into ? graph_bitmap (into, recorded->bitmap) : NULL;
    if (!why && !pull && depth >= request->base && (!there || !there->recording))
        why = g_strdup_printf (_("its bitmap in '%s' does not record"), into->filename);
    if (!why && goes (request, depth) && !pull && is_taken (request, recorded, TRUE))
        why = g_strdup_printf (_("the image '%s' has a bitmap of that name already"),
                               into->filename);
    if (why) {
        lose (request, checkpoint, why);
        return;
    }
    if (depth < request->top) { /* it stays where it is, on another chain */
        record (request->records, checkpoint, recorded, image->name);
        record (request->below, checkpoint, recorded, image->name);
        return;
    }
    const char *first = json_get_string (json_get_element (changes, 0), "node");
    const GraphBitmap *like = graph_bitmap (graph_node (request->graph, first), recorded->bitmap);
    carry (request, recorded, recorded->bitmap, like, TRUE, sources (request, changes));
    if (!goes (request, depth))
        return;
    if (recorded->seal)
        carry_seal (request, recorded, image);
    record (request->records, checkpoint, recorded, request->into);
    record (request->below, checkpoint, recorded, image->name);
}

void block_sort_checkpoints (BlockRequest *request)
{
    for (guint i = 0; i < request->checkpoints->len; i++) {
        const Checkpoint *checkpoint = request->checkpoints->pdata[i];
        for (guint k = 0; k < checkpoint->disks->len; k++) {
            const CheckpointDisk *recorded = checkpoint->disks->pdata[k];
            gboolean here = FALSE;
            for (guint n = 0; n < request->disk->names->len; n++)
                here = here || g_str_equal (request->disk->names->pdata[n], recorded->disk);
            if (here)
                sort_one (request, checkpoint, recorded);
        }
    }
}

/* ---- the verbs of the end; each may be done again ---- */

static void add_action (JsonArray *actions, const char *type, JsonObject *data)
{
    json_array_add_object_element (actions, obj ("type", "s", type, "data", "o", data, NULL));
}

/* One that was stored by a QEMU that was killed says nothing any more. */
static gboolean make_room (Guest *guest, const GraphNode *into, const char *name, GError **error)
{
    const GraphBitmap *there = graph_bitmap (into, name);
    return !there || !there->inconsistent || checkpoint_remove_bitmap (guest, into, name, error);
}

static gboolean verb_carry (Run *run, const Action *action, GError **error)
{
    Guest *guest = run->data;
    const char *node = json_get_string (action->args, "node");
    JsonArray *bitmaps = json_get_array (action->args, "bitmaps"), *actions = json_array_new ();
    g_autoptr (JsonObject) args = obj ("actions", "a", actions, NULL);
    g_autoptr (Graph) graph = guest_graph (guest, GRAPH_HELD, error);
    const GraphNode *into = graph ? graph_node (graph, node) : NULL;

    if (!into)
        return graph
               && error_set (error, BAK_ERROR_MONITOR, _("QEMU has no node '%s' any more"), node);
    for (guint i = 0; i < json_array_get_length (bitmaps); i++) {
        JsonObject *bitmap = json_get_element (bitmaps, i);
        const char *name = json_get_string (bitmap, "name");
        const GraphBitmap *there = graph_bitmap (into, name);
        JsonArray *from = json_get_array (bitmap, "from");
        if (!make_room (guest, into, name, error))
            return FALSE;
        if (!there || there->inconsistent)
            add_action (actions, "block-dirty-bitmap-add",
                        obj ("node", "s", node, "name", "s", name, "granularity", "i",
                             json_get_int (bitmap, "granularity", 65536), "persistent", "b",
                             json_get_bool (bitmap, "persistent", TRUE), "disabled", "b",
                             json_get_bool (bitmap, "disabled", FALSE), NULL));
        if (json_array_get_length (from) > 0)
            add_action (actions, "block-dirty-bitmap-merge",
                        obj ("node", "s", node, "target", "s", name, "bitmaps", "a",
                             json_array_ref (from), NULL));
    }
    return json_array_get_length (actions) == 0
           || qmp_run (guest->qmp, "transaction", g_steal_pointer (&args), 0, error)
           || error_note (error, _("the bitmaps of the checkpoints"));
}

static const GraphJob *look_job (Guest *guest, const char *id, Graph **ret_graph, GError **error)
{
    *ret_graph = guest_graph (guest, GRAPH_HELD, error);
    const GraphJob *job = *ret_graph ? graph_job (*ret_graph, id) : NULL;
    if (*ret_graph && !job)
        error_set (error, BAK_ERROR_MONITOR, _("QEMU's job '%s' has vanished"), id);
    return job;
}

/* Lets the job end: "ready" is completed, "pending" finalized; what is on its way is not told
 * again. */
static gboolean verb_pivot (Run *run, const Action *action, GError **error)
{
    Guest *guest = run->data;
    const char *id = json_get_string (action->args, "job");
    g_autoptr (Graph) graph = NULL;
    const GraphJob *job = look_job (guest, id, &graph, error);

    if (!job)
        return FALSE;
    if (g_strcmp0 (job->status, "ready") == 0)
        return qmp_run (guest->qmp, "job-complete", obj ("id", "s", id, NULL), 0, error);
    if (g_strcmp0 (job->status, "pending") == 0)
        return qmp_run (guest->qmp, "job-finalize", obj ("id", "s", id, NULL), 0, error);
    return TRUE;
}

static gboolean verb_ended (Run *run, const Action *action, GError **error)
{
    Guest *guest = run->data;
    const char *id = json_get_string (action->args, "job");
    g_autoptr (Graph) graph = NULL;

    if (!run_wait_job (run, id, FALSE, END_MS, error))
        return FALSE;
    const GraphJob *job = look_job (guest, id, &graph, error);
    if (!job)
        return FALSE;
    if (!job->error)
        return TRUE;
    g_autofree char *text = text_sanitize (job->error, 1024);
    return error_set (error, error_code_from_text (job->error), "%s", text);
}

static void set_text (char **text, const char *value)
{
    g_free (*text);
    *text = g_strdup (value);
}

static void write_down (CheckpointDisk *disk, const Graph *graph, const GraphNode *image)
{
    set_text (&disk->node, image->name);
    set_text (&disk->file, image->filename);
    g_free (disk->layers);
    disk->layers = chain_seal_below (plan_file_below (graph, image));
    g_free (disk->data);
    disk->data = chain_data_id (plan_data_file (graph, image));
}

/* Where each checkpoint is from now on, and on what its image stands. */
static gboolean verb_records (Run *run, const Action *action, GError **error)
{
    Guest *guest = run->data;
    JsonArray *list = json_get_array (action->args, "checkpoints");
    g_autoptr (Graph) graph = guest_graph (guest, GRAPH_DISKS, error);

    if (!graph)
        return FALSE;
    for (guint i = 0; list && i < json_array_get_length (list); i++) {
        JsonObject *entry = json_get_element (list, i);
        const char *name = json_get_string (entry, "checkpoint");
        const GraphNode *image = graph_node (graph, json_get_string (entry, "node"));
        if (!image || !checkpoint_exists (guest->dir, name))
            continue;
        g_autoptr (GError) damaged = NULL;
        g_autoptr (Checkpoint) checkpoint = checkpoint_load (guest->dir, name, &damaged);
        if (!checkpoint) { /* no base of an increment, whatever it says */
            g_warning ("checkpoint '%s': %s", name, damaged->message);
            continue;
        }
        for (guint k = 0; k < checkpoint->disks->len; k++) {
            CheckpointDisk *disk = checkpoint->disks->pdata[k];
            if (g_strcmp0 (disk->disk, json_get_string (entry, "disk")) == 0)
                write_down (disk, graph, image);
        }
        if (!checkpoint_save (guest->dir, checkpoint, error))
            return FALSE;
    }
    return TRUE;
}

/* Images that nothing stands on any more: QEMU lets go of the files. What is somebody's is left. */
static gboolean verb_close (Run *run, const Action *action, GError **error)
{
    Guest *guest = run->data;
    JsonArray *nodes = json_get_array (action->args, "nodes");

    for (guint i = 0; nodes && i < json_array_get_length (nodes); i++) {
        g_autoptr (GError) refused = NULL;
        const char *node = json_get_string_element (nodes, i);
        g_autoptr (Graph) graph = guest_graph (guest, GRAPH_HELD, error);
        if (!graph)
            return FALSE;
        if (!graph_node (graph, node)
            || qmp_run (guest->qmp, "blockdev-del", obj ("node-name", "s", node, NULL), 0,
                        &refused))
            continue;
        if (run_outcome_unknown (refused)) {
            g_propagate_error (error, g_steal_pointer (&refused));
            return FALSE;
        }
        g_debug ("node '%s' stays: %s", node, refused->message);
    }
    return TRUE;
}

static gboolean is_still_open (Guest *guest, const char *path, GError **error)
{
    g_autoptr (Graph) graph = guest_graph (guest, GRAPH_HELD, error);
    for (guint i = 0; graph && i < graph->nodes->len; i++)
        if (files_same (((const GraphNode *) graph->nodes->pdata[i])->filename, path))
            return error_set (error, BAK_ERROR_BUSY,
                              _("'%s' is kept: QEMU still has it open (node '%s')"), path,
                              ((const GraphNode *) graph->nodes->pdata[i])->name);
    return !graph;
}

/* A base that the guest does not write to is read-only again once its tables are written out; that
 * of an active commit was flushed by the job itself. */
static gboolean is_written_out (Guest *guest, JsonObject *args, GError **error)
{
    const char *node = json_get_string (args, "node");
    g_autoptr (Graph) graph = guest_graph (guest, GRAPH_HELD, error);
    const GraphNode *into = graph ? graph_node (graph, node) : NULL;

    if (!graph)
        return FALSE;
    if (!into || (!into->read_only && !json_get_bool (args, "active", FALSE)))
        return error_set (error, BAK_ERROR_IO,
                          _("that all was written to '%s' cannot be shown: nothing is deleted"),
                          json_get_string (args, "into"));
    return files_fsync (json_get_string (args, "into"), error);
}

/* Only once what they held is on the disk, in the image that stays. */
static gboolean verb_delete (Run *run, const Action *action, GError **error)
{
    JsonArray *files = json_get_array (action->args, "files");

    if (!is_written_out (run->data, action->args, error))
        return FALSE;
    for (guint i = 0; files && i < json_array_get_length (files); i++) {
        JsonObject *file = json_get_element (files, i);
        const char *path = json_get_string (file, "path");
        struct stat st;
        if (!path || lstat (path, &st) != 0
            || (gint64) st.st_ino != json_get_int (file, "inode", -1)
            || (gint64) st.st_dev != json_get_int (file, "device", -1))
            continue; /* gone, or another one of that name */
        if (is_still_open (run->data, path, error))
            return FALSE;
        if (unlink (path) != 0)
            return error_set_errno (error, errno, _("cannot remove '%s'"), path);
    }
    return TRUE;
}

/* An image that is used as it is: of the disk's size, on what the copy is to stand on, and without
 * bitmaps, which would be taken for those of checkpoints. */
static gboolean verb_reused (Run *run G_GNUC_UNUSED, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path"),
               *wanted = json_get_string (action->args, "backing");
    guint64 size = json_get_int (action->args, "size", 0);
    g_autoptr (ImageInfo) info =
        image_probe (path, json_get_string (action->args, "format"), error);

    if (!info)
        return FALSE;
    if (info->virtual_size != size)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("'%s' has %" G_GUINT64_FORMAT " bytes, the disk %" G_GUINT64_FORMAT),
                          path, info->virtual_size, size);
    if (wanted ? !info->backing || !files_same (info->backing, wanted) : info->backing != NULL)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("'%s' stands on '%s', and the copy is to stand on '%s'; make it anew"),
                          path, info->backing ? info->backing : "", wanted ? wanted : "");
    return info->bitmaps->len == 0
           || error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                         _("'%s' has bitmaps ('%s'), which are of another disk; make it anew"),
                         path, ((const ImageBitmap *) info->bitmaps->pdata[0])->name);
}

static gboolean verb_wait_end (Run *run, const Action *action, GError **error)
{
    return run_wait_job (run, json_get_string (action->args, "job"), FALSE, END_MS, error);
}

static const RunVerb verbs[] = { { "job-wait-end", verb_wait_end, .connected = TRUE },
                                 { "copy-reused", verb_reused },
                                 { "block-carry", verb_carry, .connected = TRUE },
                                 { "block-pivot", verb_pivot, .connected = TRUE },
                                 { "block-ended", verb_ended, .connected = TRUE },
                                 { "block-records", verb_records, .connected = TRUE },
                                 { "block-close", verb_close, .connected = TRUE },
                                 { "block-delete", verb_delete, .connected = TRUE },
                                 { NULL } };

const RunOps *block_run_ops (void)
{
    static RunOps ops;
    static RunVerb all[MAX_VERBS];
    static gsize made;
    if (g_once_init_enter (&made)) {
        guint count = 0;
        for (const RunVerb *verb = verbs; verb->verb; verb++)
            all[count++] = *verb;
        for (const RunVerb *verb = qemu_run_ops.verbs; verb->verb && count + 1 < MAX_VERBS; verb++)
            all[count++] = *verb;
        ops = qemu_run_ops;
        ops.verbs = all;
        g_once_init_leave (&made, 1);
    }
    return &ops;
}
