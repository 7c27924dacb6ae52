/* What a QEMU answers, taken one answer after another. Names that will be sent back are checked,
 * everything else is escaped. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "conf/guest_def.h"
#include "driver/qemu/graph-build.h"
#include "util/json.h"

void bitmap_free (GraphBitmap *bitmap)
{
    g_free (bitmap->name);
    g_free (bitmap);
}

/* ---- reading values ---- */

gboolean graph_is_ours (const char *name)
{
    return g_str_has_prefix (name, "bak-");
}

gboolean graph_name_is_sound (const char *name)
{
    gsize length = name ? strlen (name) : 0;
    return length > 0 && length <= MAX_NODE_NAME
           && strspn (name, "#abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
                  == length;
}

char *graph_clean (const char *text)
{
    return text ? text_sanitize (text, 0) : NULL;
}

gboolean graph_read_size (JsonObject *object, const char *key, guint64 *ret_size)
{
    if (!object || !json_object_has_member (object, key))
        return TRUE;
    gint64 value = json_get_int (object, key, -1);
    if (value < 0 || value > MAX_SIZE)
        return FALSE;
    *ret_size = value;
    return TRUE;
}

gboolean graph_is_array_within (JsonNode *answer, guint max, const char *what,
                                JsonArray **ret_array, GError **error)
{
    if (!answer || !JSON_NODE_HOLDS_ARRAY (answer))
        return error_set (error, BAK_ERROR_MONITOR, _("QEMU's list of %s is none"), what);
    *ret_array = json_node_get_array (answer);
    if (json_array_get_length (*ret_array) <= max)
        return TRUE;
    return error_set (error, BAK_ERROR_MONITOR,
                      _("QEMU lists %u %s; more than %u are not believed"),
                      json_array_get_length (*ret_array), what, max);
}

/* ---- nodes ---- */

/* Drivers that pass their child's data on unchanged. */
static gboolean driver_is_filter (const char *driver)
{
    static const char *const filters[] = { "throttle",    "copy-on-read", "copy-before-write",
                                           "backup-top",  "mirror_top",   "commit_top",
                                           "preallocate", "compress",     "blkdebug",
                                           "blkverify",   "blklogwrites", "blkreplay",
                                           NULL };
    return g_strv_contains (filters, driver);
}

gboolean driver_is_protocol (const char *driver)
{
    static const char *const protocols[] = { "file",
                                             "host_device",
                                             "host_cdrom",
                                             "nbd",
                                             "rbd",
                                             "gluster",
                                             "iscsi",
                                             "nfs",
                                             "ssh",
                                             "http",
                                             "https",
                                             "ftp",
                                             "ftps",
                                             "nvme",
                                             "vvfat",
                                             "null-co",
                                             "null-aio",
                                             "sheepdog",
                                             "vxhs",
                                             "io_uring",
                                             "nvme-io_uring",
                                             "virtio-blk-vfio-pci",
                                             "virtio-blk-vhost-user",
                                             "virtio-blk-vhost-vdpa",
                                             NULL };
    return g_strv_contains (protocols, driver);
}

static GraphBitmap *read_bitmap (JsonObject *object)
{
    GraphBitmap *bitmap = g_new0 (GraphBitmap, 1);
    bitmap->name = graph_clean (json_get_string (object, "name"));
    graph_read_size (object, "count", &bitmap->count);
    graph_read_size (object, "granularity", &bitmap->granularity);
    const char *status = json_get_string (object, "status"); /* before 6.0; alone before 4.0 */
    gboolean frozen = g_strcmp0 (status, "frozen") == 0, locked = g_strcmp0 (status, "locked") == 0;
    bitmap->recording =
        json_get_bool (object, "recording", frozen || locked || g_strcmp0 (status, "active") == 0);
    bitmap->busy = json_get_bool (object, "busy", frozen || locked);
    bitmap->persistent = json_get_bool (object, "persistent", FALSE);
    bitmap->inconsistent =
        json_get_bool (object, "inconsistent", g_strcmp0 (status, "inconsistent") == 0);
    return bitmap;
}

gboolean read_bitmaps (GPtrArray *bitmaps, JsonObject *object, GError **error)
{
    JsonArray *array = json_get_array (object, "dirty-bitmaps");
    guint count = array ? json_array_get_length (array) : 0;
    if (count > MAX_BITMAPS)
        return error_set (error, BAK_ERROR_MONITOR, _("%u bitmaps; more than %u are not believed"),
                          count, (guint) MAX_BITMAPS);
    for (guint i = 0; i < count; i++)
        if (json_get_element (array, i))
            g_ptr_array_add (bitmaps, read_bitmap (json_get_element (array, i)));
    return TRUE;
}

static gboolean read_node (GraphNode *node, JsonObject *object, GError **error)
{
    JsonObject *image = json_get_object (object, "image");
    guint64 actual = 0;
    node->bitmaps = g_ptr_array_new_with_free_func ((GDestroyNotify) bitmap_free);
    node->name = graph_clean (json_get_string (object, "node-name"));
    node->driver = graph_clean (json_get_string (object, "drv"));
    if (!graph_name_is_sound (json_get_string (object, "node-name")) || !node->driver)
        return error_set (error, BAK_ERROR_MONITOR,
                          _("node '%s': QEMU gives it an impossible name or no driver"),
                          node->name ? node->name : "");
    const char *filename = json_get_string (image, "filename");
    node->filename = graph_clean (filename ? filename : json_get_string (object, "file"));
    if (!node->filename)
        node->filename = g_strdup ("");
    const char *backing = json_get_string (image, "full-backing-filename");
    node->backing_filename =
        graph_clean (backing ? backing : json_get_string (object, "backing_file"));
    if (!graph_read_size (image, "virtual-size", &node->virtual_size)
        || !graph_read_size (image, "cluster-size", &node->cluster_size))
        return error_set (error, BAK_ERROR_MONITOR,
                          _("node '%s': QEMU gives it an impossible size"), node->name);
    node->has_actual_size = image && json_object_has_member (image, "actual-size")
                            && graph_read_size (image, "actual-size", &actual);
    node->actual_size = actual;
    node->read_only = json_get_bool (object, "ro", FALSE);
    const char *compat = json_get_string (
        json_get_object (json_get_object (image, "format-specific"), "data"), "compat");
    node->encrypted =
        json_get_bool (object, "encrypted", FALSE) || g_strcmp0 (node->driver, "luks") == 0;
    node->keeps_bitmaps = g_strcmp0 (node->driver, "qcow2") == 0 && g_strcmp0 (compat, "0.10") != 0;
    graph_read_size (object, "write_threshold", &node->write_threshold);
    node->is_filter = driver_is_filter (node->driver);
    if (!read_bitmaps (node->bitmaps, object, error))
        return error_note (error, _("node '%s'"), node->name);
    return TRUE;
}

GraphNode *find_node (Graph *graph, const char *name)
{
    return name ? g_hash_table_lookup (graph->by_name, name) : NULL;
}

/* The child that a filter passes on. */
static gboolean child_is_filtered (const char *name)
{
    static const char *const names[] = { "file", "backing", "source", "test", "image", NULL };
    return g_strv_contains (names, name);
}

/* Whether parent takes child away from the guest's disks: ours does not, nor does a view of
 * another's past. */
static gboolean parent_uses_child (const GraphNode *parent)
{
    return !graph_is_ours (parent->name) && strcmp (parent->driver, "snapshot-access") != 0;
}

static void take_edge (Builder *builder, GraphNode *parent, GraphNode *child, const char *name)
{
    if (strcmp (name, "backing") == 0 && !parent->backing)
        parent->backing = g_strdup (child->name);
    if (strcmp (name, "file") == 0 && !parent->file)
        parent->file = g_strdup (child->name);
    if (strcmp (name, "data-file") == 0 && !parent->data)
        parent->data = g_strdup (child->name);
    if (parent->is_filter && child_is_filtered (name))
        g_hash_table_insert (builder->filtered, parent, child);
    if (parent_uses_child (parent))
        g_hash_table_add (builder->used, child);
}

/* From 10.1 on a node lists its children itself. */
static void take_children (Builder *builder, GraphNode *parent, JsonObject *object)
{
    JsonArray *children = json_get_array (object, "children");
    builder->has_edges |= children != NULL;
    for (guint i = 0; children && i < json_array_get_length (children); i++) {
        JsonObject *child = json_get_element (children, i);
        GraphNode *node = find_node (builder->graph, json_get_string (child, "node-name"));
        const char *name = json_get_string (child, "child");
        if (node && name)
            take_edge (builder, parent, node, name);
    }
}

gboolean take_nodes (Builder *builder, JsonNode *answer, GError **error)
{
    Graph *graph = builder->graph;
    JsonArray *array;
    if (!graph_is_array_within (answer, MAX_NODES, _("nodes"), &array, error))
        return FALSE;
    for (guint i = 0; i < json_array_get_length (array); i++) {
        GraphNode *node = g_new0 (GraphNode, 1);
        g_ptr_array_add (graph->nodes, node);
        if (!read_node (node, json_get_element (array, i), error))
            return FALSE;
        if (!g_hash_table_insert (graph->by_name, node->name, node))
            return error_set (error, BAK_ERROR_MONITOR, _("node '%s': QEMU lists it twice"),
                              node->name);
    }
    for (guint i = 0; i < graph->nodes->len; i++)
        take_children (builder, g_ptr_array_index (graph->nodes, i), json_get_element (array, i));
    return TRUE;
}

/* ---- edges, from x-debug-query-block-graph (4.0) ---- */

static GHashTable *index_graph_nodes (Graph *graph, JsonObject *answer)
{
    GHashTable *by_id = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
    JsonArray *nodes = json_get_array (answer, "nodes");
    guint count = nodes ? MIN (json_array_get_length (nodes), 4u * MAX_NODES) : 0;
    for (guint i = 0; i < count; i++) {
        JsonObject *object = json_get_element (nodes, i);
        gint64 id = json_get_int (object, "id", -1);
        GraphNode *node = find_node (graph, json_get_string (object, "name"));
        if (node && g_strcmp0 (json_get_string (object, "type"), "block-driver") == 0)
            g_hash_table_insert (by_id, g_memdup2 (&id, sizeof id), node);
    }
    return by_id;
}

gboolean take_block_graph (Builder *builder, JsonNode *answer, GError **error)
{
    JsonObject *object = JSON_NODE_HOLDS_OBJECT (answer) ? json_node_get_object (answer) : NULL;
    JsonArray *edges = json_get_array (object, "edges");
    if (!edges || builder->has_edges)
        return TRUE;
    g_autoptr (GHashTable) by_id = index_graph_nodes (builder->graph, object);
    guint count = MIN (json_array_get_length (edges), 8u * MAX_NODES);
    for (guint i = 0; i < count; i++) {
        JsonObject *edge = json_get_element (edges, i);
        gint64 from = json_get_int (edge, "parent", -1), to = json_get_int (edge, "child", -1);
        GraphNode *parent = g_hash_table_lookup (by_id, &from),
                  *child = g_hash_table_lookup (by_id, &to);
        const char *name = json_get_string (edge, "name");
        if (parent && child && name)
            take_edge (builder, parent, child, name);
    }
    builder->has_edges = TRUE;
    return TRUE;
}

/* ---- edges, guessed from file names where QEMU does not tell them (before 4.0) ---- */

/* The only node of this file that is a format (or a protocol) node and that nothing else is known
 * to stand on. */
static GraphNode *guess_node (Builder *builder, const char *filename, gboolean protocol,
                              const GraphNode * not )
{
    GraphNode *found = NULL;
    for (guint i = 0; filename && *filename && i < builder->graph->nodes->len; i++) {
        GraphNode *node = g_ptr_array_index (builder->graph->nodes, i);
        if (node == not || node->is_filter || driver_is_protocol (node->driver) != protocol
            || strcmp (node->filename, filename) != 0
            || g_hash_table_contains (builder->used, node))
            continue;
        if (found)
            return NULL; /* opened twice: unknown is better than wrong */
        found = node;
    }
    return found;
}

/* A filter's file name is a json: description in which its child's name stands. */
static GraphNode *guess_filtered (Builder *builder, const GraphNode *filter)
{
    GraphNode *found = NULL;
    for (guint i = 0; i < builder->graph->nodes->len; i++) {
        GraphNode *node = g_ptr_array_index (builder->graph->nodes, i);
        if (node->is_filter || driver_is_protocol (node->driver) || !*node->filename
            || !strstr (filter->filename, node->filename)
            || node->virtual_size != filter->virtual_size
            || g_hash_table_contains (builder->used, node))
            continue;
        if (found)
            return NULL;
        found = node;
    }
    return found;
}

void guess_edges (Builder *builder)
{
    GPtrArray *nodes = builder->graph->nodes;
    if (nodes->len > 1000)
        return; /* quadratic; no QEMU before 4.0 has that many */
    for (guint i = 0; i < nodes->len; i++) {
        GraphNode *node = g_ptr_array_index (nodes, i);
        GraphNode *file = driver_is_protocol (node->driver) || node->is_filter
                              ? NULL
                              : guess_node (builder, node->filename, TRUE, node);
        GraphNode *backing = guess_node (builder, node->backing_filename, FALSE, node);
        if (file)
            take_edge (builder, node, file, "file");
        if (backing)
            take_edge (builder, node, backing, "backing");
    }
    for (guint i = 0; i < nodes->len; i++) {
        GraphNode *node = g_ptr_array_index (nodes, i);
        GraphNode *below = node->is_filter ? guess_filtered (builder, node) : NULL;
        if (below)
            take_edge (builder, node, below, "file");
    }
}

/* ---- the rest of the picture ---- */

gboolean take_jobs (Builder *builder, JsonNode *answer, GError **error)
{
    JsonArray *array;
    if (!graph_is_array_within (answer, MAX_ITEMS, _("jobs"), &array, error))
        return FALSE;
    for (guint i = 0; i < json_array_get_length (array); i++) {
        JsonObject *object = json_get_element (array, i);
        GraphJob *job = g_new0 (GraphJob, 1);
        job->id = text_sanitize (json_get_string (object, "id"), 0);
        job->type = text_sanitize (json_get_string (object, "type"), 64);
        job->status = text_sanitize (json_get_string (object, "status"), 64);
        job->error = graph_clean (json_get_string (object, "error"));
        graph_read_size (object, "current-progress", &job->current);
        graph_read_size (object, "total-progress", &job->total);
        g_ptr_array_add (builder->graph->jobs, job);
    }
    return TRUE;
}

gboolean take_block_jobs (Builder *builder, JsonNode *answer, GError **error)
{
    JsonArray *array;
    if (!graph_is_array_within (answer, MAX_ITEMS, _("jobs"), &array, error))
        return FALSE;
    for (guint i = 0; i < json_array_get_length (array); i++) {
        JsonObject *object = json_get_element (array, i);
        GraphJob *job = g_new0 (GraphJob, 1);
        job->id = text_sanitize (json_get_string (object, "device"), 0);
        job->type = text_sanitize (json_get_string (object, "type"), 64);
        const char *status = json_get_bool (object, "ready", FALSE) ? "ready" : "running";
        job->status = g_strdup (json_get_bool (object, "paused", FALSE) ? "paused" : status);
        graph_read_size (object, "offset", &job->current);
        graph_read_size (object, "len", &job->total);
        g_ptr_array_add (builder->graph->jobs, job);
    }
    return TRUE;
}

gboolean take_exports (Builder *builder, JsonNode *answer, GError **error)
{
    JsonArray *array;
    if (!graph_is_array_within (answer, MAX_ITEMS, _("exports"), &array, error))
        return FALSE;
    for (guint i = 0; i < json_array_get_length (array); i++) {
        JsonObject *object = json_get_element (array, i);
        GraphExport *export = g_new0 (GraphExport, 1);
        export->id = text_sanitize (json_get_string (object, "id"), 0);
        export->node = text_sanitize (json_get_string (object, "node-name"), 0);
        export->type = text_sanitize (json_get_string (object, "type"), 64);
        export->shutting_down = json_get_bool (object, "shutting-down", FALSE);
        g_ptr_array_add (builder->graph->exports, export);
    }
    return TRUE;
}

gboolean take_objects (Builder *builder, JsonNode *answer, GError **error)
{
    JsonArray *array;
    if (!graph_is_array_within (answer, MAX_ITEMS, _("objects"), &array, error))
        return FALSE;
    for (guint i = 0; i < json_array_get_length (array); i++) {
        JsonObject *object = json_get_element (array, i);
        const char *type = json_get_string (object, "type");
        if (type && g_str_has_prefix (type, "child<"))
            g_ptr_array_add (builder->graph->objects,
                             text_sanitize (json_get_string (object, "name"), 0));
    }
    return TRUE;
}

JsonObject *as_object (JsonNode *answer)
{
    return answer && JSON_NODE_HOLDS_OBJECT (answer) ? json_node_get_object (answer) : NULL;
}

gboolean take_migration (Builder *builder, JsonNode *answer, GError **error)
{
    builder->graph->migration = text_sanitize (json_get_string (as_object (answer), "status"), 64);
    return TRUE;
}

gboolean take_status (Builder *builder, JsonNode *answer, GError **error)
{
    builder->graph->status = text_sanitize (json_get_string (as_object (answer), "status"), 64);
    builder->graph->running = json_get_bool (as_object (answer), "running", FALSE);
    return TRUE;
}

gboolean take_uuid (Builder *builder, JsonNode *answer, GError **error)
{
    const char *uuid = json_get_string (as_object (answer), "UUID");
    /* all zero: it has none */
    if (uuid && g_uuid_string_is_valid (uuid) && strspn (uuid, "0-") != strlen (uuid))
        builder->graph->uuid = g_ascii_strdown (uuid, -1);
    return TRUE;
}

gboolean take_name (Builder *builder, JsonNode *answer, GError **error)
{
    builder->graph->name = graph_clean (json_get_string (as_object (answer), "name"));
    return TRUE;
}

gboolean take_memory (Builder *builder, JsonNode *answer, GError **error)
{
    guint64 base = 0, plugged = 0;
    if (graph_read_size (as_object (answer), "base-memory", &base)
        && graph_read_size (as_object (answer), "plugged-memory", &plugged))
        builder->graph->memory = base + plugged;
    return TRUE;
}

gboolean take_cpus (Builder *builder, JsonNode *answer, GError **error)
{
    builder->graph->cpus =
        JSON_NODE_HOLDS_ARRAY (answer) ? json_array_get_length (json_node_get_array (answer)) : 0;
    return TRUE;
}
