/* One picture of what a QEMU has. Answers are taken one after another, each as soon as it is there,
 * so that no two large ones are in memory together; graph_from_answers takes recorded ones the same
 * way. Names that will be sent back are checked, everything else is escaped. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "conf/guest_def.h"
#include "driver/claims.h"
#include "driver/qemu/graph-build.h"
#include "driver/qemu/qmp.h"
#include "util/json.h"

/* ---- lifetime ---- */

static void node_free (GraphNode *node)
{
    g_free (node->name);
    g_free (node->driver);
    g_free (node->data);
    g_free (node->filename);
    g_free (node->backing_filename);
    g_free (node->backing);
    g_free (node->file);
    g_ptr_array_unref (node->bitmaps);
    g_free (node);
}

static void graph_job_free (GraphJob *job)
{
    g_free (job->id);
    g_free (job->type);
    g_free (job->status);
    g_free (job->error);
    g_free (job);
}

static void export_free (GraphExport *export)
{
    g_free (export->id);
    g_free (export->node);
    g_free (export->type);
    g_free (export);
}

static Graph *graph_new (void)
{
    Graph *graph = g_new0 (Graph, 1);
    graph->nodes = g_ptr_array_new_with_free_func ((GDestroyNotify) node_free);
    graph->disks = g_ptr_array_new_with_free_func ((GDestroyNotify) disk_free);
    graph->jobs = g_ptr_array_new_with_free_func ((GDestroyNotify) graph_job_free);
    graph->exports = g_ptr_array_new_with_free_func ((GDestroyNotify) export_free);
    graph->objects = g_ptr_array_new_with_free_func (g_free);
    graph->by_name = g_hash_table_new (g_str_hash, g_str_equal);
    return graph;
}

void graph_publish_images (const Graph *graph, const char *guest, const char *dir)
{
    g_autoptr (Claims) claims = claims_new ();
    g_autoptr (GError) failure = NULL;
    for (guint i = 0; i < graph->nodes->len; i++) {
        const GraphNode *node = graph->nodes->pdata[i];
        if (!g_str_has_prefix (node->name, "bak-"))
            claims_add (claims, guest, node->filename, TRUE);
    }
    if (!claims_publish (claims, dir, &failure))
        g_message ("guest %s: %s", guest, failure->message);
}

void graph_free (Graph *graph)
{
    if (!graph)
        return;
    g_hash_table_unref (graph->by_name);
    g_ptr_array_unref (graph->nodes);
    g_ptr_array_unref (graph->disks);
    g_ptr_array_unref (graph->jobs);
    g_ptr_array_unref (graph->exports);
    g_ptr_array_unref (graph->objects);
    g_free (graph->uuid);
    g_free (graph->name);
    g_free (graph->status);
    g_free (graph->migration);
    g_free (graph);
}

void builder_init (Builder *builder)
{
    builder->graph = graph_new ();
    builder->filtered = g_hash_table_new (NULL, NULL);
    builder->used = g_hash_table_new (NULL, NULL);
}

void builder_clear (Builder *builder)
{
    g_hash_table_unref (builder->filtered);
    g_hash_table_unref (builder->used);
    graph_free (builder->graph);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Builder, builder_clear)

/* ---- from answers ---- */

/* In the order in which they need each other. */
static const struct {
    gsize offset;
    TakeFunc take;
} answer_rows[] = {
#define ROW(field, take)                                                                           \
    {                                                                                              \
        G_STRUCT_OFFSET (GraphAnswers, field), take                                                \
    }
    ROW (named_block_nodes, take_nodes),
    ROW (block_graph, take_block_graph),
    ROW (exports, take_exports),
    ROW (status, take_status),
    ROW (migration, take_migration),
    ROW (uuid, take_uuid),
    ROW (name, take_name),
    ROW (objects, take_objects),
    ROW (memory, take_memory),
    ROW (cpus, take_cpus),
#undef ROW
};

static gboolean has_image (const Graph *graph)
{
    for (guint i = 0; i < graph->disks->len; i++)
        if (((const GraphDisk *) g_ptr_array_index (graph->disks, i))->node)
            return TRUE;
    return FALSE;
}

/* A node that no device uses is a disk when the guest's definition says so by name. */
static void take_named_nodes (Builder *builder, GPtrArray *disks)
{
    Graph *graph = builder->graph;
    for (guint i = 0; disks && i < disks->len; i++) {
        const GuestDiskDef *def = g_ptr_array_index (disks, i);
        GraphDisk *second = NULL;
        GraphNode *node = (GraphNode *) graph_node (graph, def->id);
        if (!node || graph_is_ours (node->name) || graph->disks->len == MAX_DISKS
            || match_disk (graph, def->id, &second) || disk_below (builder, node))
            continue;
        GraphNode *format = below_filters (builder, node);
        GraphDisk *disk = disk_new ();
        place_disk (builder, disk, node);
        disk->read_only = format->read_only;
        name_disk (disk, format);
        g_ptr_array_add (graph->disks, disk);
    }
}

Graph *builder_finish (Builder *builder, GPtrArray *disks, JsonObject *types, JsonObject *iothreads,
                       GError **error)
{
    if (!has_image (builder->graph) && !take_roots (builder, error))
        return NULL;
    take_named_nodes (builder, disks);
    take_vhost (builder->graph, types);
    apply_devices (builder->graph, types, iothreads);
    name_targets (builder->graph, disks);
    return g_steal_pointer (&builder->graph);
}

Graph *graph_from_answers (const GraphAnswers *answers, GPtrArray *disks, GError **error)
{
    g_auto (Builder) builder = { 0 };
    builder_init (&builder);
    for (guint i = 0; i < G_N_ELEMENTS (answer_rows); i++) {
        JsonNode *answer = *(JsonNode *const *) ((const char *) answers + answer_rows[i].offset);
        if (answer && !answer_rows[i].take (&builder, answer, error))
            return NULL;
    }
    JsonNode *jobs = answers->jobs ? answers->jobs : answers->block_jobs;
    if (jobs && !(answers->jobs ? take_jobs : take_block_jobs) (&builder, jobs, error))
        return NULL;
    if (answers->block && !take_block (&builder, answers->block, error))
        return NULL;
    return builder_finish (&builder, disks, as_object (answers->device_types),
                           as_object (answers->device_iothreads), error);
}

/* ---- questions ---- */

const GraphNode *graph_node (const Graph *graph, const char *name)
{
    return name ? g_hash_table_lookup (graph->by_name, name) : NULL;
}

const GraphBitmap *graph_bitmap (const GraphNode *node, const char *name)
{
    for (guint i = 0; node && name && i < node->bitmaps->len; i++) {
        const GraphBitmap *bitmap = g_ptr_array_index (node->bitmaps, i);
        if (g_strcmp0 (bitmap->name, name) == 0)
            return bitmap;
    }
    return NULL;
}

const GraphJob *graph_job (const Graph *graph, const char *id)
{
    for (guint i = 0; i < graph->jobs->len; i++) {
        const GraphJob *job = g_ptr_array_index (graph->jobs, i);
        if (strcmp (job->id, id) == 0)
            return job;
    }
    return NULL;
}

const GraphExport *graph_export (const Graph *graph, const char *id)
{
    for (guint i = 0; i < graph->exports->len; i++) {
        const GraphExport *export = g_ptr_array_index (graph->exports, i);
        if (strcmp (export->id, id) == 0)
            return export;
    }
    return NULL;
}

static char *list_targets (const Graph *graph)
{
    GString *list = g_string_new (NULL);
    for (guint i = 0; i < graph->disks->len; i++) {
        const GraphDisk *disk = g_ptr_array_index (graph->disks, i);
        if (list->len > 1000) {
            g_string_append (list, ", ...");
            break;
        }
        g_string_append_printf (list, "%s%s", list->len ? ", " : "", disk->target);
    }
    return g_string_free (list, FALSE);
}

const GraphDisk *graph_disk (const Graph *graph, const char *name, GError **error)
{
    GraphDisk *second = NULL;
    const GraphDisk *disk = match_disk (graph, name, &second);
    if (disk)
        return disk;
    g_autofree char *shown = text_sanitize (name, 256);
    g_autofree char *targets = list_targets (graph);
    if (second)
        error_set (
            error, BAK_ERROR_NO_DISK,
            _("disk '%s': more than one disk answers to that name; the guest's disks are: %s"),
            shown, targets);
    else if (*targets)
        error_set (error, BAK_ERROR_NO_DISK,
                   _("disk '%s': no such disk; the guest's disks are: %s"), shown, targets);
    else
        error_set (error, BAK_ERROR_NO_DISK, _("disk '%s': no such disk; the guest has none"),
                   shown);
    return NULL;
}

const char *graph_disk_excluded (const GraphDisk *disk)
{
    if (disk->elsewhere)
        return _("is served by another process (vhost), and QEMU can read neither it nor what "
                  "changes in it: back it up there, and name the other disks here");
    if (disk->empty)
        return _("is an empty drive");
    if (disk->cdrom)
        return _("is a CD-ROM");
    if (disk->read_only)
        return _("is read-only");
    if (strcmp (disk->bus, "pflash") == 0)
        return _("is firmware flash");
    return NULL;
}
