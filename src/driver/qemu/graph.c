/* One picture of what a QEMU has. Answers are taken one after another, each as soon as it is there, so that no two large ones
 * are in memory together; graph_from_answers takes recorded ones the same way. Names that will be sent back are checked,
 * everything else is escaped. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "conf/guest_def.h"
#include "driver/qemu/graph.h"
#include "driver/qemu/qmp.h"
#include "util/json.h"

enum { MAX_NODES = 20000, MAX_DISKS = 4096, MAX_ITEMS = 20000, MAX_BITMAPS = 4096, MAX_FILTERS = 256, MAX_NODE_NAME = 64 };
#define MAX_SIZE (G_GINT64_CONSTANT (1) << 62)

/* What is known while a picture is being made, by GraphNode. */
typedef struct {
    Graph *graph;
    GHashTable *filtered;       /* a filter -> the node below it */
    GHashTable *used;           /* nodes that another stands on (not one of ours) */
    gboolean has_edges;
} Builder;

/* ---- lifetime ---- */

static void bitmap_free (GraphBitmap *bitmap)
{
    g_free (bitmap->name);
    g_free (bitmap);
}

static void node_free (GraphNode *node)
{
    g_free (node->name);
    g_free (node->driver);
    g_free (node->filename);
    g_free (node->backing_filename);
    g_free (node->backing);
    g_free (node->file);
    g_ptr_array_unref (node->bitmaps);
    g_free (node);
}

static void disk_free (GraphDisk *disk)
{
    g_free (disk->target);
    g_ptr_array_unref (disk->names);
    g_free (disk->qdev);
    g_free (disk->device);
    g_free (disk->top);
    g_free (disk->node);
    g_free (disk->bus);
    g_free (disk->iothread);
    g_free (disk);
}

static void job_free (GraphJob *job)
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
    graph->jobs = g_ptr_array_new_with_free_func ((GDestroyNotify) job_free);
    graph->exports = g_ptr_array_new_with_free_func ((GDestroyNotify) export_free);
    graph->objects = g_ptr_array_new_with_free_func (g_free);
    graph->by_name = g_hash_table_new (g_str_hash, g_str_equal);
    return graph;
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
    g_free (graph);
}

static void builder_init (Builder *builder)
{
    builder->graph = graph_new ();
    builder->filtered = g_hash_table_new (NULL, NULL);
    builder->used = g_hash_table_new (NULL, NULL);
}

static void builder_clear (Builder *builder)
{
    g_hash_table_unref (builder->filtered);
    g_hash_table_unref (builder->used);
    graph_free (builder->graph);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Builder, builder_clear)

/* ---- reading values ---- */

static gboolean is_ours (const char *name)
{
    return g_str_has_prefix (name, "bak-");
}

/* A name that goes back into commands as it is. '#' begins those that QEMU made up. */
static gboolean name_is_sound (const char *name)
{
    gsize length = name ? strlen (name) : 0;
    return length > 0 && length <= MAX_NODE_NAME
        && strspn (name, "#abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == length;
}

static char *clean (const char *text)
{
    return text ? text_sanitize (text, 0) : NULL;
}

/* A size may be absent (then 0), but what is there must be possible. */
static gboolean read_size (JsonObject *object, const char *key, guint64 *ret_size)
{
    if (!object || !json_object_has_member (object, key))
        return TRUE;
    gint64 value = json_get_int (object, key, -1);
    if (value < 0 || value > MAX_SIZE)
        return FALSE;
    *ret_size = value;
    return TRUE;
}

static gboolean is_array_within (JsonNode *answer, guint max, const char *what, JsonArray **ret_array, GError **error)
{
    if (!answer || !JSON_NODE_HOLDS_ARRAY (answer))
        return error_set (error, BAK_ERROR_MONITOR, _("QEMU's list of %s is none"), what);
    *ret_array = json_node_get_array (answer);
    if (json_array_get_length (*ret_array) <= max)
        return TRUE;
    return error_set (error, BAK_ERROR_MONITOR, _("QEMU lists %u %s; more than %u are not believed"), json_array_get_length (*ret_array), what, max);
}

/* ---- nodes ---- */

/* Drivers that pass their child's data on unchanged. */
static gboolean driver_is_filter (const char *driver)
{
    static const char *const filters[] = { "throttle", "copy-on-read", "copy-before-write", "backup-top", "mirror_top", "commit_top",
        "preallocate", "compress", "blkdebug", "blkverify", "blklogwrites", "blkreplay", NULL };
    return g_strv_contains (filters, driver);
}

static gboolean driver_is_protocol (const char *driver)
{
    static const char *const protocols[] = { "file", "host_device", "host_cdrom", "nbd", "rbd", "gluster", "iscsi", "nfs", "ssh", "http",
        "https", "ftp", "ftps", "nvme", "vvfat", "null-co", "null-aio", "sheepdog", "vxhs", "io_uring", "nvme-io_uring",
        "virtio-blk-vfio-pci", "virtio-blk-vhost-user", "virtio-blk-vhost-vdpa", NULL };
    return g_strv_contains (protocols, driver);
}

static GraphBitmap *read_bitmap (JsonObject *object)
{
    GraphBitmap *bitmap = g_new0 (GraphBitmap, 1);
    bitmap->name = clean (json_get_string (object, "name"));
    read_size (object, "count", &bitmap->count);
    read_size (object, "granularity", &bitmap->granularity);
    const char *status = json_get_string (object, "status");    /* before 6.0; alone before 4.0 */
    gboolean frozen = g_strcmp0 (status, "frozen") == 0, locked = g_strcmp0 (status, "locked") == 0;
    bitmap->recording = json_get_bool (object, "recording", frozen || locked || g_strcmp0 (status, "active") == 0);
    bitmap->busy = json_get_bool (object, "busy", frozen || locked);
    bitmap->persistent = json_get_bool (object, "persistent", FALSE);
    bitmap->inconsistent = json_get_bool (object, "inconsistent", g_strcmp0 (status, "inconsistent") == 0);
    return bitmap;
}

static gboolean read_bitmaps (GPtrArray *bitmaps, JsonObject *object, GError **error)
{
    JsonArray *array = json_get_array (object, "dirty-bitmaps");
    guint count = array ? json_array_get_length (array) : 0;
    if (count > MAX_BITMAPS)
        return error_set (error, BAK_ERROR_MONITOR, _("%u bitmaps; more than %u are not believed"), count, (guint) MAX_BITMAPS);
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
    node->name = clean (json_get_string (object, "node-name"));
    node->driver = clean (json_get_string (object, "drv"));
    if (!name_is_sound (json_get_string (object, "node-name")) || !node->driver)
        return error_set (error, BAK_ERROR_MONITOR, _("node '%s': QEMU gives it an impossible name or no driver"), node->name ? node->name : "");
    const char *filename = json_get_string (image, "filename");
    node->filename = clean (filename ? filename : json_get_string (object, "file"));
    if (!node->filename)
        node->filename = g_strdup ("");
    const char *backing = json_get_string (image, "full-backing-filename");
    node->backing_filename = clean (backing ? backing : json_get_string (object, "backing_file"));
    if (!read_size (image, "virtual-size", &node->virtual_size) || !read_size (image, "cluster-size", &node->cluster_size))
        return error_set (error, BAK_ERROR_MONITOR, _("node '%s': QEMU gives it an impossible size"), node->name);
    node->has_actual_size = image && json_object_has_member (image, "actual-size") && read_size (image, "actual-size", &actual);
    node->actual_size = actual;
    node->read_only = json_get_bool (object, "ro", FALSE);
    const char *compat = json_get_string (json_get_object (json_get_object (image, "format-specific"), "data"), "compat");
    node->keeps_bitmaps = g_strcmp0 (node->driver, "qcow2") == 0 && g_strcmp0 (compat, "0.10") != 0;
    read_size (object, "write_threshold", &node->write_threshold);
    node->is_filter = driver_is_filter (node->driver);
    if (!read_bitmaps (node->bitmaps, object, error))
        return error_note (error, _("node '%s'"), node->name);
    return TRUE;
}

static GraphNode *find_node (Graph *graph, const char *name)
{
    return name ? g_hash_table_lookup (graph->by_name, name) : NULL;
}

/* The child that a filter passes on. */
static gboolean child_is_filtered (const char *name)
{
    static const char *const names[] = { "file", "backing", "source", "test", "image", NULL };
    return g_strv_contains (names, name);
}

/* Whether parent takes child away from the guest's disks: ours does not, nor does a view of another's past. */
static gboolean parent_uses_child (const GraphNode *parent)
{
    return !is_ours (parent->name) && strcmp (parent->driver, "snapshot-access") != 0;
}

static void take_edge (Builder *builder, GraphNode *parent, GraphNode *child, const char *name)
{
    if (strcmp (name, "backing") == 0 && !parent->backing)
        parent->backing = g_strdup (child->name);
    if (strcmp (name, "file") == 0 && !parent->file)
        parent->file = g_strdup (child->name);
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

static gboolean take_nodes (Builder *builder, JsonNode *answer, GError **error)
{
    Graph *graph = builder->graph;
    JsonArray *array;
    if (!is_array_within (answer, MAX_NODES, _("nodes"), &array, error))
        return FALSE;
    for (guint i = 0; i < json_array_get_length (array); i++) {
        GraphNode *node = g_new0 (GraphNode, 1);
        g_ptr_array_add (graph->nodes, node);
        if (!read_node (node, json_get_element (array, i), error))
            return FALSE;
        if (!g_hash_table_insert (graph->by_name, node->name, node))
            return error_set (error, BAK_ERROR_MONITOR, _("node '%s': QEMU lists it twice"), node->name);
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

static gboolean take_block_graph (Builder *builder, JsonNode *answer, GError **error)
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
        GraphNode *parent = g_hash_table_lookup (by_id, &from), *child = g_hash_table_lookup (by_id, &to);
        const char *name = json_get_string (edge, "name");
        if (parent && child && name)
            take_edge (builder, parent, child, name);
    }
    builder->has_edges = TRUE;
    return TRUE;
}

/* ---- edges, guessed from file names where QEMU does not tell them (before 4.0) ---- */

/* The only node of this file that is a format (or a protocol) node and that nothing else is known to stand on. */
static GraphNode *guess_node (Builder *builder, const char *filename, gboolean protocol, const GraphNode *not)
{
    GraphNode *found = NULL;
    for (guint i = 0; filename && *filename && i < builder->graph->nodes->len; i++) {
        GraphNode *node = g_ptr_array_index (builder->graph->nodes, i);
        if (node == not || node->is_filter || driver_is_protocol (node->driver) != protocol || strcmp (node->filename, filename) != 0
            || g_hash_table_contains (builder->used, node))
            continue;
        if (found)
            return NULL;        /* opened twice: unknown is better than wrong */
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
        if (node->is_filter || driver_is_protocol (node->driver) || !*node->filename || !strstr (filter->filename, node->filename)
            || node->virtual_size != filter->virtual_size || g_hash_table_contains (builder->used, node))
            continue;
        if (found)
            return NULL;
        found = node;
    }
    return found;
}

static void guess_edges (Builder *builder)
{
    GPtrArray *nodes = builder->graph->nodes;
    if (nodes->len > 1000)
        return;         /* quadratic; no QEMU before 4.0 has that many */
    for (guint i = 0; i < nodes->len; i++) {
        GraphNode *node = g_ptr_array_index (nodes, i);
        GraphNode *file = driver_is_protocol (node->driver) || node->is_filter ? NULL : guess_node (builder, node->filename, TRUE, node);
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

/* ---- disks ---- */

static void add_disk_name (GraphDisk *disk, const char *name)
{
    if (!name || !*name || g_str_has_prefix (name, "json:"))
        return;
    if (!g_ptr_array_find_with_equal_func (disk->names, name, g_str_equal, NULL))
        g_ptr_array_add (disk->names, g_strdup (name));
}

static GraphDisk *disk_new (void)
{
    GraphDisk *disk = g_new0 (GraphDisk, 1);
    disk->names = g_ptr_array_new_with_free_func (g_free);
    disk->target = g_strdup ("");
    disk->bus = g_strdup ("");
    return disk;
}

/* The node below the filters. */
static GraphNode *below_filters (Builder *builder, GraphNode *node)
{
    for (guint i = 0; node && node->is_filter; i++) {
        GraphNode *below = g_hash_table_lookup (builder->filtered, node);
        if (!below || i == MAX_FILTERS)
            break;
        node = below;
    }
    return node;
}

/* The node that the device uses, our own filters left aside. */
static GraphNode *below_ours (Builder *builder, GraphNode *node)
{
    for (guint i = 0; node && node->is_filter && is_ours (node->name) && i < MAX_FILTERS; i++) {
        GraphNode *below = g_hash_table_lookup (builder->filtered, node);
        if (!below)
            break;
        node = below;
    }
    return node;
}

static GraphDisk *disk_of_node (Graph *graph, const char *node)
{
    for (guint i = 0; i < graph->disks->len; i++) {
        GraphDisk *disk = g_ptr_array_index (graph->disks, i);
        if (g_strcmp0 (disk->node, node) == 0)
            return disk;
    }
    return NULL;
}

static char *qdev_path (const char *qdev)
{
    return *qdev == '/' ? g_strdup (qdev) : g_strconcat ("/machine/peripheral/", qdev, NULL);
}

/* "/machine/peripheral/ID[/virtio-backend]" is known to its user as ID; "/machine/peripheral-anon/..." has no id. */
static char *qdev_id (const char *qdev)
{
    const char *prefix = "/machine/peripheral/";
    if (*qdev != '/')
        return g_strdup (qdev);
    if (!g_str_has_prefix (qdev, prefix))
        return NULL;
    const char *id = qdev + strlen (prefix);
    return g_strndup (id, strcspn (id, "/"));
}

/* In the order in which a stable name is chosen: libvirt's alias is the device's id, and stands in libvirt's drive ids. */
static void name_disk (GraphDisk *disk, const GraphNode *node)
{
    g_autofree char *id = disk->qdev ? qdev_id (disk->qdev) : NULL;
    add_disk_name (disk, id);
    if (!id && disk->device && g_str_has_prefix (disk->device, "drive-"))
        add_disk_name (disk, disk->device + strlen ("drive-"));
    gboolean anonymous = disk->names->len == 0 && !(disk->device && *disk->device);
    if (!anonymous) {
        if (disk->qdev)
            add_disk_name (disk, disk->qdev);
        add_disk_name (disk, disk->device);
    }
    add_disk_name (disk, disk->node);
    if (disk->top && !is_ours (disk->top))
        add_disk_name (disk, disk->top);
    if (anonymous && disk->qdev)
        add_disk_name (disk, disk->qdev);
    add_disk_name (disk, node ? node->filename : NULL);
}

static void place_disk (Builder *builder, GraphDisk *disk, GraphNode *top)
{
    GraphNode *node = below_filters (builder, top);
    disk->top = g_strdup (below_ours (builder, top)->name);
    disk->node = g_strdup (node->name);
    disk->size = node->virtual_size;
}

static GraphDisk *read_disk (Builder *builder, JsonObject *object, GError **error)
{
    JsonObject *inserted = json_get_object (object, "inserted");
    const char *top_name = json_get_string (inserted, "node-name");
    GraphNode *top = find_node (builder->graph, top_name);
    GraphDisk *disk = disk_new ();
    g_autofree char *device = clean (json_get_string (object, "device"));
    disk->device = device && *device ? g_steal_pointer (&device) : NULL;
    disk->qdev = clean (json_get_string (object, "qdev"));
    if (disk->qdev && !*disk->qdev)
        g_clear_pointer (&disk->qdev, g_free);
    disk->removable = json_get_bool (object, "removable", FALSE);
    disk->empty = inserted == NULL;
    disk->io_full = g_strcmp0 (json_get_string (object, "io-status"), "nospace") == 0;
    disk->io_failed = disk->io_full || g_strcmp0 (json_get_string (object, "io-status"), "failed") == 0;
    if (inserted && !top) {
        g_autofree char *shown = text_sanitize (top_name, 128);
        error_set (error, BAK_ERROR_MONITOR, _("disk '%s': its node '%s' is in no list of nodes"), disk->device ? disk->device : disk->qdev
            ? disk->qdev : "", shown);
        disk_free (disk);
        return NULL;
    }
    if (top) {
        place_disk (builder, disk, top);
        disk->read_only = json_get_bool (inserted, "ro", FALSE);
    }
    name_disk (disk, find_node (builder->graph, disk->node));
    return disk;
}

/* Before 6.0 the bitmaps of a disk stand beside "inserted", before 4.2 nowhere else. */
static gboolean adopt_bitmaps (Builder *builder, GraphDisk *disk, JsonObject *object, GError **error)
{
    GraphNode *node = find_node (builder->graph, disk->node);
    if (!node || node->bitmaps->len > 0)
        return TRUE;
    JsonObject *inserted = json_get_object (object, "inserted");
    gboolean under = inserted && json_object_has_member (inserted, "dirty-bitmaps");
    return read_bitmaps (node->bitmaps, under ? inserted : object, error) || error_note (error, _("disk '%s'"), disk->target);
}

/* One image that two devices share is one disk under the names of both. */
static void merge_disk (GraphDisk *into, GraphDisk *disk)
{
    for (guint i = 0; i < disk->names->len; i++)
        add_disk_name (into, g_ptr_array_index (disk->names, i));
    into->read_only = into->read_only && disk->read_only;
    disk_free (disk);
}

static void rename_reference (char **name, const char *from, const char *to)
{
    if (g_strcmp0 (*name, from) != 0)
        return;
    g_free (*name);
    *name = g_strdup (to);
}

/* Up to 2.8 what we add is a block backend with an id, on a node that QEMU names: it is known by its id then. */
static void name_after_backend (Graph *graph, GraphNode *node, const char *id)
{
    if (!node || *node->name != '#' || find_node (graph, id))
        return;
    for (guint i = 0; i < graph->nodes->len; i++) {
        GraphNode *other = g_ptr_array_index (graph->nodes, i);
        rename_reference (&other->backing, node->name, id);
        rename_reference (&other->file, node->name, id);
    }
    g_hash_table_remove (graph->by_name, node->name);
    g_free (node->name);
    node->name = g_strdup (id);
    g_hash_table_insert (graph->by_name, node->name, node);
}

static gboolean take_block (Builder *builder, JsonNode *answer, GError **error)
{
    Graph *graph = builder->graph;
    JsonArray *array;
    if (!is_array_within (answer, MAX_DISKS, _("drives"), &array, error))
        return FALSE;
    if (!builder->has_edges)
        guess_edges (builder);
    for (guint i = 0; i < json_array_get_length (array); i++) {
        JsonObject *object = json_get_element (array, i);
        GraphDisk *disk = object ? read_disk (builder, object, error) : NULL;
        if (!object)
            continue;
        if (!disk)
            return FALSE;
        GraphDisk *other = disk->node ? disk_of_node (graph, disk->node) : NULL;
        gboolean ours = (disk->node && is_ours (disk->node)) || (disk->device && is_ours (disk->device));
        if (ours || other) {
            if (ours && disk->device && name_is_sound (disk->device))
                name_after_backend (graph, find_node (graph, disk->top), disk->device);
            if (ours)
                disk_free (disk);
            else
                merge_disk (other, disk);
            continue;
        }
        g_ptr_array_add (graph->disks, disk);
        if (!adopt_bitmaps (builder, disk, object, error))
            return FALSE;
    }
    return TRUE;
}

/* A storage daemon has no devices: what nothing stands on is a disk. */
static gboolean take_roots (Builder *builder, GError **error)
{
    Graph *graph = builder->graph;
    if (!builder->has_edges)
        guess_edges (builder);
    for (guint i = graph->nodes->len; i-- > 0;) {       /* QEMU lists the newest first; disks come as they were given */
        GraphNode *node = g_ptr_array_index (graph->nodes, i);
        GraphNode *format = below_filters (builder, node);
        if (is_ours (node->name) || is_ours (format->name) || g_hash_table_contains (builder->used, node)
            || driver_is_protocol (format->driver) || strcmp (format->driver, "snapshot-access") == 0 || disk_of_node (graph, format->name))
            continue;
        if (graph->disks->len == MAX_DISKS)
            return error_set (error, BAK_ERROR_MONITOR, _("more than %u disks are not believed"), (guint) MAX_DISKS);
        GraphDisk *disk = disk_new ();
        place_disk (builder, disk, node);
        disk->read_only = format->read_only;
        name_disk (disk, format);
        g_ptr_array_add (graph->disks, disk);
    }
    return TRUE;
}

/* ---- devices: bus, kind, iothread ---- */

static const struct { const char *type, *bus; gboolean cdrom; } device_types[] = {
    { "virtio-blk", "virtio", FALSE }, { "vhost-user-blk", "virtio", FALSE }, { "scsi-cd", "scsi", TRUE }, { "scsi-", "scsi", FALSE },
    { "ide-cd", "ide", TRUE }, { "ide-", "ide", FALSE }, { "nvme", "nvme", FALSE }, { "usb-", "usb", FALSE }, { "floppy", "fdc", FALSE },
    { "isa-fdc", "fdc", FALSE }, { "sd-card", "sd", FALSE }, { "xen-cdrom", "xen", TRUE }, { "xen-", "xen", FALSE }, { "cfi.pflash", "pflash", FALSE },
};

static const struct { const char *part, *bus; } name_hints[] = {
    { "virtio", "virtio" }, { "scsi", "scsi" }, { "sata", "sata" }, { "ide", "ide" }, { "nvme", "nvme" }, { "usb", "usb" }, { "floppy", "fdc" },
    { "pflash", "pflash" }, { "system.flash", "pflash" },
};

static void set_bus (GraphDisk *disk, const char *bus)
{
    g_free (disk->bus);
    disk->bus = g_strdup (bus);
}

static gboolean set_type (GraphDisk *disk, const char *type)
{
    for (guint i = 0; type && i < G_N_ELEMENTS (device_types); i++) {
        if (!g_str_has_prefix (type, device_types[i].type))
            continue;
        set_bus (disk, device_types[i].bus);
        disk->cdrom = device_types[i].cdrom;
        return TRUE;
    }
    return FALSE;
}

/* Names that QEMU gives by default tell the kind: "ide1-cd0", "scsi0-cd2", "virtio0", "pflash0". */
static void guess_type (GraphDisk *disk)
{
    const char *names[] = { disk->qdev ? disk->qdev : "", disk->device ? disk->device : "" };
    for (guint n = 0; n < G_N_ELEMENTS (names); n++) {
        for (guint i = 0; !*disk->bus && i < G_N_ELEMENTS (name_hints); i++)
            if (strstr (names[n], name_hints[i].part))
                set_bus (disk, name_hints[i].bus);
        disk->cdrom |= disk->removable && (strstr (names[n], "-cd") || strstr (names[n], "cdrom"));
    }
}

/* Of the device itself, or of the one that it is the back end of. */
static const char *device_type (JsonObject *types, const char *path)
{
    const char *type = types ? json_get_string (types, path) : NULL;
    if (type || !g_str_has_suffix (path, "/virtio-backend"))
        return type;
    g_autofree char *parent = g_path_get_dirname (path);
    return types ? json_get_string (types, parent) : NULL;
}

static void apply_devices (Graph *graph, JsonObject *types, JsonObject *iothreads)
{
    for (guint i = 0; i < graph->disks->len; i++) {
        GraphDisk *disk = g_ptr_array_index (graph->disks, i);
        g_autofree char *path = disk->qdev ? qdev_path (disk->qdev) : NULL;
        if (!path || !set_type (disk, device_type (types, path)))
            guess_type (disk);
        const char *iothread = path ? json_get_string (iothreads, path) : NULL;
        if (iothread && name_is_sound (iothread))
            disk->iothread = g_strdup (iothread);
    }
}

/* ---- the rest of the picture ---- */

static gboolean take_jobs (Builder *builder, JsonNode *answer, GError **error)
{
    JsonArray *array;
    if (!is_array_within (answer, MAX_ITEMS, _("jobs"), &array, error))
        return FALSE;
    for (guint i = 0; i < json_array_get_length (array); i++) {
        JsonObject *object = json_get_element (array, i);
        GraphJob *job = g_new0 (GraphJob, 1);
        job->id = text_sanitize (json_get_string (object, "id"), 0);
        job->type = text_sanitize (json_get_string (object, "type"), 64);
        job->status = text_sanitize (json_get_string (object, "status"), 64);
        job->error = clean (json_get_string (object, "error"));
        read_size (object, "current-progress", &job->current);
        read_size (object, "total-progress", &job->total);
        g_ptr_array_add (builder->graph->jobs, job);
    }
    return TRUE;
}

/* All there is before 3.0. */
static gboolean take_block_jobs (Builder *builder, JsonNode *answer, GError **error)
{
    JsonArray *array;
    if (!is_array_within (answer, MAX_ITEMS, _("jobs"), &array, error))
        return FALSE;
    for (guint i = 0; i < json_array_get_length (array); i++) {
        JsonObject *object = json_get_element (array, i);
        GraphJob *job = g_new0 (GraphJob, 1);
        job->id = text_sanitize (json_get_string (object, "device"), 0);
        job->type = text_sanitize (json_get_string (object, "type"), 64);
        job->status = g_strdup (json_get_bool (object, "paused", FALSE) ? "paused" : json_get_bool (object, "ready", FALSE) ? "ready" : "running");
        read_size (object, "offset", &job->current);
        read_size (object, "len", &job->total);
        g_ptr_array_add (builder->graph->jobs, job);
    }
    return TRUE;
}

static gboolean take_exports (Builder *builder, JsonNode *answer, GError **error)
{
    JsonArray *array;
    if (!is_array_within (answer, MAX_ITEMS, _("exports"), &array, error))
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

static gboolean take_objects (Builder *builder, JsonNode *answer, GError **error)
{
    JsonArray *array;
    if (!is_array_within (answer, MAX_ITEMS, _("objects"), &array, error))
        return FALSE;
    for (guint i = 0; i < json_array_get_length (array); i++) {
        JsonObject *object = json_get_element (array, i);
        const char *type = json_get_string (object, "type");
        if (type && g_str_has_prefix (type, "child<"))
            g_ptr_array_add (builder->graph->objects, text_sanitize (json_get_string (object, "name"), 0));
    }
    return TRUE;
}

static JsonObject *as_object (JsonNode *answer)
{
    return answer && JSON_NODE_HOLDS_OBJECT (answer) ? json_node_get_object (answer) : NULL;
}

static gboolean take_status (Builder *builder, JsonNode *answer, GError **error)
{
    builder->graph->status = text_sanitize (json_get_string (as_object (answer), "status"), 64);
    builder->graph->running = json_get_bool (as_object (answer), "running", FALSE);
    return TRUE;
}

static gboolean take_uuid (Builder *builder, JsonNode *answer, GError **error)
{
    const char *uuid = json_get_string (as_object (answer), "UUID");
    if (uuid && g_uuid_string_is_valid (uuid) && strspn (uuid, "0-") != strlen (uuid))   /* all zero: it has none */
        builder->graph->uuid = g_ascii_strdown (uuid, -1);
    return TRUE;
}

static gboolean take_name (Builder *builder, JsonNode *answer, GError **error)
{
    builder->graph->name = clean (json_get_string (as_object (answer), "name"));
    return TRUE;
}

static gboolean take_memory (Builder *builder, JsonNode *answer, GError **error)
{
    guint64 base = 0, plugged = 0;
    if (read_size (as_object (answer), "base-memory", &base) && read_size (as_object (answer), "plugged-memory", &plugged))
        builder->graph->memory = base + plugged;
    return TRUE;
}

static gboolean take_cpus (Builder *builder, JsonNode *answer, GError **error)
{
    builder->graph->cpus = JSON_NODE_HOLDS_ARRAY (answer) ? json_array_get_length (json_node_get_array (answer)) : 0;
    return TRUE;
}

/* ---- names given at attach, and unique targets ---- */

static GraphDisk *match_disk (const Graph *graph, const char *name, GraphDisk **ret_second)
{
    GraphDisk *found = NULL;
    for (guint i = 0; i < graph->disks->len; i++) {
        GraphDisk *disk = g_ptr_array_index (graph->disks, i);
        if (strcmp (disk->target, name) == 0)
            return disk;
    }
    for (guint i = 0; i < graph->disks->len; i++) {
        GraphDisk *disk = g_ptr_array_index (graph->disks, i);
        if (!g_ptr_array_find_with_equal_func (disk->names, name, g_str_equal, NULL))
            continue;
        if (found) {
            *ret_second = disk;
            return NULL;
        }
        found = disk;
    }
    return found;
}

static void set_target (GraphDisk *disk, const char *target)
{
    g_free (disk->target);
    disk->target = g_strdup (target);
    guint at;
    if (g_ptr_array_find_with_equal_func (disk->names, target, g_str_equal, &at))
        g_ptr_array_remove_index (disk->names, at);
    g_ptr_array_insert (disk->names, 0, g_strdup (target));
}

/* The first of a disk's names that no disk before it has taken; a number when all are gone. */
static void choose_target (GraphDisk *disk, GHashTable *taken)
{
    const char *base = NULL;
    for (guint i = 0; i < disk->names->len; i++) {
        const char *name = g_ptr_array_index (disk->names, i);
        if (*name == '/')
            continue;           /* a path is long, and where a target is used paths mean files */
        if (!base)
            base = name;
        if (!g_hash_table_contains (taken, name)) {
            base = name;
            break;
        }
    }
    g_autofree char *target = g_strdup (base ? base : "drive");
    for (guint n = 2; g_hash_table_contains (taken, target); n++) {
        g_free (target);
        target = g_strdup_printf ("%s-%u", base ? base : "drive", n);
    }
    set_target (disk, target);
}

static void name_targets (Graph *graph, GPtrArray *disks)
{
    g_autoptr (GHashTable) taken = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr (GHashTable) named = g_hash_table_new (NULL, NULL);
    for (guint i = 0; disks && i < disks->len; i++) {
        const GuestDiskDef *def = g_ptr_array_index (disks, i);
        GraphDisk *second = NULL, *disk = match_disk (graph, def->id, &second);
        if (!disk || g_hash_table_contains (named, disk))
            continue;           /* unplugged, or no longer clear which: it has its other names */
        g_hash_table_add (named, disk);
        g_hash_table_add (taken, g_strdup (def->target));
        set_target (disk, def->target);
    }
    for (guint i = 0; i < graph->disks->len; i++) {
        GraphDisk *disk = g_ptr_array_index (graph->disks, i);
        if (!g_hash_table_contains (named, disk))
            choose_target (disk, taken);
        g_hash_table_add (taken, g_strdup (disk->target));
    }
}

/* ---- from answers ---- */

typedef gboolean (*TakeFunc) (Builder *builder, JsonNode *answer, GError **error);

/* In the order in which they need each other. */
static const struct { gsize offset; TakeFunc take; } answer_rows[] = {
#define ROW(field, take) { G_STRUCT_OFFSET (GraphAnswers, field), take }
    ROW (named_block_nodes, take_nodes), ROW (block_graph, take_block_graph), ROW (exports, take_exports), ROW (status, take_status),
    ROW (uuid, take_uuid), ROW (name, take_name), ROW (objects, take_objects), ROW (memory, take_memory), ROW (cpus, take_cpus),
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
        if (!node || is_ours (node->name) || graph->disks->len == MAX_DISKS || match_disk (graph, def->id, &second))
            continue;
        GraphNode *format = below_filters (builder, node);
        GraphDisk *disk = disk_new ();
        place_disk (builder, disk, node);
        disk->read_only = format->read_only;
        name_disk (disk, format);
        g_ptr_array_add (graph->disks, disk);
    }
}

/* A QEMU without any device that has an image is a bare block engine, like a storage daemon: its images are its disks. */
static Graph *builder_finish (Builder *builder, GPtrArray *disks, JsonObject *types, JsonObject *iothreads, GError **error)
{
    if (!has_image (builder->graph) && !take_roots (builder, error))
        return NULL;
    take_named_nodes (builder, disks);
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
    return builder_finish (&builder, disks, as_object (answers->device_types), as_object (answers->device_iothreads), error);
}

/* ---- from a QEMU ---- */

typedef struct {
    Builder builder;
    gboolean has_iothreads;
    JsonObject *types;          /* path -> type */
    guint pending, refused;
    GError *error;              /* the first */
} Loader;

typedef struct {
    Loader *loader;
    TakeFunc take;
} Query;

static void loader_clear (Loader *loader)
{
    builder_clear (&loader->builder);
    g_clear_pointer (&loader->types, json_object_unref);
    g_clear_error (&loader->error);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Loader, loader_clear)

/* A question that QEMU declines is a gap in the picture, except the list of nodes, without which there is none. */
static void query_answered (Qmp *qmp, JsonNode *result, const GError *error, gpointer user_data)
{
    g_autofree Query *query = user_data;
    Loader *loader = query->loader;
    loader->pending--;
    if (loader->error)
        return;
    gboolean needed = query->take == take_nodes || query->take == take_block;
    if (error && (needed || !g_error_matches (error, BAK_ERROR, BAK_ERROR_MONITOR)))
        loader->error = g_error_copy (error);
    else if (result)
        query->take (&loader->builder, result, &loader->error);
}

static gboolean take_iothreads (Builder *builder, JsonNode *answer, GError **error)
{
    Loader *loader = (Loader *) builder;        /* its first member */
    loader->has_iothreads = JSON_NODE_HOLDS_ARRAY (answer) && json_array_get_length (json_node_get_array (answer)) > 0;
    return TRUE;
}

static void ask (Loader *loader, Qmp *qmp, const Caps *caps, const char *command, JsonObject *args, TakeFunc take)
{
    if (!caps_has_command (caps, command)) {
        g_clear_pointer (&args, json_object_unref);
        return;
    }
    Query *query = g_new0 (Query, 1);
    *query = (Query) { loader, take };
    loader->pending++;
    qmp_send (qmp, command, args, 0, query_answered, query);
}

/* Ends: every command has a deadline. */
static gboolean loader_wait (Loader *loader, Qmp *qmp, GError **error)
{
    while (loader->pending > 0)
        g_main_context_iteration (qmp_get_context (qmp), TRUE);
    if (!loader->error)
        return TRUE;
    g_propagate_error (error, g_steal_pointer (&loader->error));
    return FALSE;
}

static JsonObject *one_string (const char *key, const char *value)
{
    JsonObject *object = json_object_new ();
    json_object_set_string_member (object, key, value);
    return object;
}

/* Without it every node carries the whole chain below it once more. */
static JsonObject *flat_argument (gboolean known)
{
    if (!known)
        return NULL;
    JsonObject *object = json_object_new ();
    json_object_set_boolean_member (object, "flat", TRUE);
    return object;
}

/* Before 5.0 a node may not tell its bitmaps, before 2.8 not even its name: then the devices do. */
static void ask_everything (Loader *loader, Qmp *qmp, const Caps *caps, GraphDetail detail)
{
    ask (loader, qmp, caps, "query-named-block-nodes", flat_argument (caps->named_nodes_flat), take_nodes);
    if (detail >= GRAPH_DISKS)
        ask (loader, qmp, caps, "x-debug-query-block-graph", NULL, take_block_graph);
    if (!caps->storage_daemon && (detail >= GRAPH_DISKS || !caps->named_nodes_flat))
        ask (loader, qmp, caps, "query-block", flat_argument (caps->block_flat), take_block);
    if (caps->jobs)
        ask (loader, qmp, caps, "query-jobs", NULL, take_jobs);
    else
        ask (loader, qmp, caps, "query-block-jobs", NULL, take_block_jobs);
    ask (loader, qmp, caps, "query-block-exports", NULL, take_exports);
    ask (loader, qmp, caps, "qom-list", one_string ("path", "/objects"), take_objects);
    if (detail == GRAPH_ALL || (detail == GRAPH_DISKS && !caps->iothread_nbd_safe))
        ask (loader, qmp, caps, "query-iothreads", NULL, take_iothreads);
    if (detail < GRAPH_ALL)
        return;
    ask (loader, qmp, caps, "query-status", NULL, take_status);
    ask (loader, qmp, caps, "query-uuid", NULL, take_uuid);
    ask (loader, qmp, caps, "query-name", NULL, take_name);
    ask (loader, qmp, caps, "query-memory-size-summary", NULL, take_memory);
    ask (loader, qmp, caps, "query-cpus-fast", NULL, take_cpus);
}

/* ---- devices: many questions about paths, asked together ---- */

typedef struct {
    Loader *loader;
    GHashTable *values;
    char *path;
} PathQuery;

/* A string; of a list of objects (an "iothread-vq-mapping", 9.0) the first one's iothread. */
static void path_answered (Qmp *qmp, JsonNode *result, const GError *error, gpointer user_data)
{
    g_autofree PathQuery *query = user_data;
    g_autofree char *path = query->path;
    Loader *loader = query->loader;
    loader->pending--;
    if (error && !g_error_matches (error, BAK_ERROR, BAK_ERROR_MONITOR) && !loader->error)
        loader->error = g_error_copy (error);
    loader->refused += error != NULL;
    const char *value = NULL;
    if (result && JSON_NODE_HOLDS_VALUE (result) && json_node_get_value_type (result) == G_TYPE_STRING)
        value = json_node_get_string (result);
    else if (result && JSON_NODE_HOLDS_ARRAY (result))
        value = json_get_string (json_get_element (json_node_get_array (result), 0), "iothread");
    if (value && *value)
        g_hash_table_replace (query->values, g_steal_pointer (&path), g_strdup (value));
}

/* path -> value of this property, where there is one; NULL: the connection failed. */
static GHashTable *qom_get_all (Loader *loader, Qmp *qmp, GPtrArray *paths, const char *property, GError **error)
{
    g_autoptr (GHashTable) values = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
    for (guint i = 0; i < paths->len; i++) {
        PathQuery *query = g_new0 (PathQuery, 1);
        *query = (PathQuery) { loader, values, g_strdup (g_ptr_array_index (paths, i)) };
        JsonObject *args = one_string ("path", query->path);
        json_object_set_string_member (args, "property", property);
        loader->pending++;
        qmp_send (qmp, "qom-get", args, 0, path_answered, query);
    }
    return loader_wait (loader, qmp, error) ? g_steal_pointer (&values) : NULL;
}

/* The paths of the devices in use whose type begins so; without a type they might be. */
static GPtrArray *device_paths (Loader *loader, JsonObject *types, const char *prefix)
{
    GPtrArray *paths = g_ptr_array_new_with_free_func (g_free);
    GPtrArray *disks = loader->builder.graph->disks;
    for (guint i = 0; i < disks->len; i++) {
        GraphDisk *disk = g_ptr_array_index (disks, i);
        g_autofree char *path = disk->qdev && !disk->empty ? qdev_path (disk->qdev) : NULL;
        const char *type = path ? device_type (types, path) : NULL;
        if (path && (!type || g_str_has_prefix (type, prefix)))
            g_ptr_array_add (paths, g_steal_pointer (&path));
    }
    return paths;
}

/* A link is the path of the object, a mapping names it. */
static void set_iothread (JsonObject *iothreads, const char *device, const char *value)
{
    g_autofree char *id = g_path_get_basename (value);
    json_object_set_string_member (iothreads, device, id);
}

/* Takes the devices that have this property set off paths. */
static gboolean take_iothreads_of (Loader *loader, Qmp *qmp, GPtrArray *paths, const char *property, JsonObject *iothreads, GError **error)
{
    g_autoptr (GHashTable) values = qom_get_all (loader, qmp, paths, property, error);
    for (guint i = paths->len; values && i-- > 0;) {
        const char *path = g_ptr_array_index (paths, i), *value = g_hash_table_lookup (values, path);
        if (!value)
            continue;
        set_iothread (iothreads, path, value);
        g_ptr_array_remove_index_fast (paths, i);
    }
    return values != NULL;
}

static gboolean ask_virtio_iothreads (Loader *loader, Qmp *qmp, JsonObject *types, JsonObject *iothreads, GError **error)
{
    g_autoptr (GPtrArray) paths = device_paths (loader, types, "virtio-");
    if (!take_iothreads_of (loader, qmp, paths, "iothread", iothreads, error))
        return FALSE;
    if (paths->len == 0)
        return TRUE;
    /* One is asked first whether there is such a property in this QEMU. */
    g_autoptr (GPtrArray) first = g_ptr_array_new ();
    g_ptr_array_add (first, g_ptr_array_index (paths, 0));
    loader->refused = 0;
    g_autoptr (GHashTable) probe = qom_get_all (loader, qmp, first, "iothread-vq-mapping", error);
    return probe && (loader->refused || take_iothreads_of (loader, qmp, paths, "iothread-vq-mapping", iothreads, error));
}

/* A SCSI disk's requests run where its controller's do: the bus it is on is a child or grandchild of that. */
static gboolean ask_scsi_iothreads (Loader *loader, Qmp *qmp, JsonObject *types, JsonObject *iothreads, GError **error)
{
    g_autoptr (GPtrArray) paths = device_paths (loader, types, "scsi-");
    g_autoptr (GHashTable) buses = qom_get_all (loader, qmp, paths, "parent_bus", error);
    if (!buses)
        return FALSE;
    g_autoptr (GPtrArray) above = g_ptr_array_new_with_free_func (g_free);
    GHashTableIter iter;
    gpointer device, bus;
    g_hash_table_iter_init (&iter, buses);
    while (g_hash_table_iter_next (&iter, &device, &bus)) {
        g_autofree char *parent = g_path_get_dirname (bus), *grandparent = g_path_get_dirname (parent);
        if (!g_ptr_array_find_with_equal_func (above, parent, g_str_equal, NULL)) {
            g_ptr_array_add (above, g_steal_pointer (&parent));
            g_ptr_array_add (above, g_steal_pointer (&grandparent));
        }
    }
    g_autoptr (GHashTable) values = qom_get_all (loader, qmp, above, "iothread", error);
    if (!values)
        return FALSE;
    g_hash_table_iter_init (&iter, buses);
    while (g_hash_table_iter_next (&iter, &device, &bus)) {
        g_autofree char *parent = g_path_get_dirname (bus), *grandparent = g_path_get_dirname (parent);
        const char *value = g_hash_table_lookup (values, parent);
        value = value ? value : g_hash_table_lookup (values, grandparent);
        if (value)
            set_iothread (iothreads, device, value);
    }
    return TRUE;
}

static gboolean ask_iothreads (Loader *loader, Qmp *qmp, const Caps *caps, JsonObject *types, JsonObject *iothreads, GError **error)
{
    if (!loader->has_iothreads || !caps_has_command (caps, "qom-get"))
        return TRUE;
    return ask_virtio_iothreads (loader, qmp, types, iothreads, error) && ask_scsi_iothreads (loader, qmp, types, iothreads, error);
}

/* One list tells the types of all devices below a path. */
static void types_answered (Qmp *qmp, JsonNode *result, const GError *error, gpointer user_data)
{
    g_autofree PathQuery *query = user_data;
    g_autofree char *base = query->path;
    query->loader->pending--;
    JsonArray *array = result && JSON_NODE_HOLDS_ARRAY (result) ? json_node_get_array (result) : NULL;
    guint count = array ? MIN (json_array_get_length (array), (guint) MAX_ITEMS) : 0;
    for (guint i = 0; i < count; i++) {
        JsonObject *object = json_get_element (array, i);
        const char *name = json_get_string (object, "name"), *type = json_get_string (object, "type");
        if (!name || !type || !g_str_has_prefix (type, "child<") || !g_str_has_suffix (type, ">"))
            continue;
        g_autofree char *path = g_strconcat (base, "/", name, NULL);
        g_autofree char *plain = g_strndup (type + strlen ("child<"), strlen (type) - strlen ("child<>"));
        json_object_set_string_member (query->loader->types, path, plain);
    }
}

static void ask_types (Loader *loader, Qmp *qmp, const char *base)
{
    PathQuery *query = g_new0 (PathQuery, 1);
    *query = (PathQuery) { loader, NULL, g_strdup (base) };
    loader->pending++;
    qmp_send (qmp, "qom-list", one_string ("path", base), 0, types_answered, query);
}

static gboolean any_device_below (const Graph *graph, const char *base)
{
    for (guint i = 0; i < graph->disks->len; i++) {
        GraphDisk *disk = g_ptr_array_index (graph->disks, i);
        g_autofree char *path = disk->qdev && !disk->empty ? qdev_path (disk->qdev) : NULL;
        if (path && g_str_has_prefix (path, base) && path[strlen (base)] == '/')
            return TRUE;
    }
    return FALSE;
}

static gboolean ask_all_types (Loader *loader, Qmp *qmp, const Caps *caps, GError **error)
{
    static const char *const bases[] = { "/machine/peripheral", "/machine/peripheral-anon", "/machine/unattached" };
    for (guint i = 0; i < G_N_ELEMENTS (bases); i++)
        if (caps_has_command (caps, "qom-list") && any_device_below (loader->builder.graph, bases[i]))
            ask_types (loader, qmp, bases[i]);
    return loader_wait (loader, qmp, error);
}

Graph *graph_load (Qmp *qmp, const Caps *caps, GraphDetail detail, GPtrArray *disks, GError **error)
{
    g_auto (Loader) loader = { .types = json_object_new () };
    builder_init (&loader.builder);
    ask_everything (&loader, qmp, caps, detail);
    if (!loader_wait (&loader, qmp, error))
        return NULL;
    if (detail == GRAPH_HELD)
        return g_steal_pointer (&loader.builder.graph);
    g_autoptr (JsonObject) iothreads = json_object_new ();
    if (!ask_all_types (&loader, qmp, caps, error) || !ask_iothreads (&loader, qmp, caps, loader.types, iothreads, error))
        return NULL;
    const char *why = NULL;
    if (!qmp_is_alive (qmp, &why)) {
        error_set (error, BAK_ERROR_CONNECTION, "%s", why);
        return NULL;
    }
    return builder_finish (&loader.builder, disks, loader.types, iothreads, error);
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
        error_set (error, BAK_ERROR_NO_DISK, _("disk '%s': more than one disk answers to that name; the guest's disks are: %s"), shown, targets);
    else if (*targets)
        error_set (error, BAK_ERROR_NO_DISK, _("disk '%s': no such disk; the guest's disks are: %s"), shown, targets);
    else
        error_set (error, BAK_ERROR_NO_DISK, _("disk '%s': no such disk; the guest has none"), shown);
    return NULL;
}

const char *graph_disk_excluded (const GraphDisk *disk)
{
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
