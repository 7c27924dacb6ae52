/* The guest's disks: their names, the nodes below them, the devices that they hang on. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "conf/guest_def.h"
#include "driver/qemu/graph-build.h"
#include "util/files.h"
#include "util/json.h"

enum { MAX_LAYERS = 1000 };

void disk_free (GraphDisk *disk)
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

/* ---- disks ---- */

static void add_disk_name (GraphDisk *disk, const char *name)
{
    if (!name || !*name || g_str_has_prefix (name, "json:"))
        return;
    if (!g_ptr_array_find_with_equal_func (disk->names, name, g_str_equal, NULL))
        g_ptr_array_add (disk->names, g_strdup (name));
}

GraphDisk *disk_new (void)
{
    GraphDisk *disk = g_new0 (GraphDisk, 1);
    disk->names = g_ptr_array_new_with_free_func (g_free);
    disk->target = g_strdup ("");
    disk->bus = g_strdup ("");
    return disk;
}

GraphNode *below_filters (Builder *builder, GraphNode *node)
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
    for (guint i = 0; node && node->is_filter && graph_is_ours (node->name) && i < MAX_FILTERS;
         i++) {
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

char *qdev_path (const char *qdev)
{
    return *qdev == '/' ? g_strdup (qdev) : g_strconcat ("/machine/peripheral/", qdev, NULL);
}

/* "/machine/peripheral/ID[/virtio-backend]" is known to its user as ID;
 * "/machine/peripheral-anon/..." has no id. */
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

void name_disk (GraphDisk *disk, const GraphNode *node)
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
    if (disk->top && !graph_is_ours (disk->top))
        add_disk_name (disk, disk->top);
    if (anonymous && disk->qdev)
        add_disk_name (disk, disk->qdev);
    add_disk_name (disk, node ? node->filename : NULL);
}

void place_disk (Builder *builder, GraphDisk *disk, GraphNode *top)
{
    GraphNode *node = below_filters (builder, top);
    disk->top = g_strdup (below_ours (builder, top)->name);
    disk->node = g_strdup (node->name);
    disk->size = node->virtual_size;
}

GraphDisk *disk_below (Builder *builder, GraphNode *top)
{
    GraphDisk *disk = disk_of_node (builder->graph, below_filters (builder, top)->name);
    if (!disk)
        return NULL;
    g_free (disk->top);
    disk->top = g_strdup (below_ours (builder, top)->name);
    if (!graph_is_ours (disk->top))
        add_disk_name (disk, disk->top);
    return disk;
}

static GraphDisk *read_disk (Builder *builder, JsonObject *object, GError **error)
{
    JsonObject *inserted = json_get_object (object, "inserted");
    const char *top_name = json_get_string (inserted, "node-name");
    GraphNode *top = find_node (builder->graph, top_name);
    GraphDisk *disk = disk_new ();
    g_autofree char *device = graph_clean (json_get_string (object, "device"));
    disk->device = device && *device ? g_steal_pointer (&device) : NULL;
    disk->qdev = graph_clean (json_get_string (object, "qdev"));
    if (disk->qdev && !*disk->qdev)
        g_clear_pointer (&disk->qdev, g_free);
    disk->removable = json_get_bool (object, "removable", FALSE);
    disk->empty = inserted == NULL;
    disk->io_full = g_strcmp0 (json_get_string (object, "io-status"), "nospace") == 0;
    disk->io_failed =
        disk->io_full || g_strcmp0 (json_get_string (object, "io-status"), "failed") == 0;
    if (inserted && !top) {
        g_autofree char *shown = text_sanitize (top_name, 128);
        error_set (error, BAK_ERROR_MONITOR, _("disk '%s': its node '%s' is in no list of nodes"),
                   disk->device ? disk->device
                   : disk->qdev ? disk->qdev
                                : "",
                   shown);
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
static gboolean adopt_bitmaps (Builder *builder, GraphDisk *disk, JsonObject *object,
                               GError **error)
{
    GraphNode *node = find_node (builder->graph, disk->node);
    if (!node || node->bitmaps->len > 0)
        return TRUE;
    JsonObject *inserted = json_get_object (object, "inserted");
    gboolean under = inserted && json_object_has_member (inserted, "dirty-bitmaps");
    return read_bitmaps (node->bitmaps, under ? inserted : object, error)
           || error_note (error, _("disk '%s'"), disk->target);
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

/* Up to 2.8 what we add is a block backend with an id, on a node that QEMU names: it is known by
 * its id then. */
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

gboolean take_block (Builder *builder, JsonNode *answer, GError **error)
{
    Graph *graph = builder->graph;
    JsonArray *array;
    if (!graph_is_array_within (answer, MAX_DISKS, _("drives"), &array, error))
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
        gboolean ours = (disk->node && graph_is_ours (disk->node))
                        || (disk->device && graph_is_ours (disk->device));
        if (ours || other) {
            if (ours && disk->device && graph_name_is_sound (disk->device))
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

gboolean take_roots (Builder *builder, GError **error)
{
    Graph *graph = builder->graph;
    if (!builder->has_edges)
        guess_edges (builder);
    /* QEMU lists the newest first; disks come as they were given */
    for (guint i = graph->nodes->len; i-- > 0;) {
        GraphNode *node = g_ptr_array_index (graph->nodes, i);
        GraphNode *format = below_filters (builder, node);
        if (graph_is_ours (node->name) || graph_is_ours (format->name)
            || g_hash_table_contains (builder->used, node) || driver_is_protocol (format->driver)
            || strcmp (format->driver, "snapshot-access") == 0 || disk_below (builder, node))
            continue;
        if (graph->disks->len == MAX_DISKS)
            return error_set (error, BAK_ERROR_MONITOR, _("more than %u disks are not believed"),
                              (guint) MAX_DISKS);
        GraphDisk *disk = disk_new ();
        place_disk (builder, disk, node);
        disk->read_only = format->read_only;
        name_disk (disk, format);
        g_ptr_array_add (graph->disks, disk);
    }
    return TRUE;
}

/* ---- devices: bus, kind, iothread ---- */

static const struct {
    const char *type, *bus;
    gboolean cdrom;
} device_types[] = {
    { "virtio-blk", "virtio", FALSE },
    { "vhost-user-blk", "virtio", FALSE },
    { "vhost-user-scsi", "scsi", FALSE },
    { "vhost-scsi", "scsi", FALSE },
    { "scsi-cd", "scsi", TRUE },
    { "scsi-", "scsi", FALSE },
    { "ide-cd", "ide", TRUE },
    { "ide-", "ide", FALSE },
    { "nvme", "nvme", FALSE },
    { "usb-", "usb", FALSE },
    { "floppy", "fdc", FALSE },
    { "isa-fdc", "fdc", FALSE },
    { "sd-card", "sd", FALSE },
    { "xen-cdrom", "xen", TRUE },
    { "xen-", "xen", FALSE },
    { "cfi.pflash", "pflash", FALSE },
};

static const struct {
    const char *part, *bus;
} name_hints[] = {
    { "virtio", "virtio" }, { "scsi", "scsi" },     { "sata", "sata" },
    { "ide", "ide" },       { "nvme", "nvme" },     { "usb", "usb" },
    { "floppy", "fdc" },    { "pflash", "pflash" }, { "system.flash", "pflash" },
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

static gboolean is_vhost (const char *type)
{
    return type && strstr (type, "vhost-") && (strstr (type, "-blk") || strstr (type, "-scsi"));
}

void take_vhost (Graph *graph, JsonObject *types)
{
    g_autoptr (GList) paths = types ? json_object_get_members (types) : NULL;

    for (GList *path = paths; path && graph->disks->len < MAX_DISKS; path = path->next) {
        if (!is_vhost (json_get_string (types, path->data)))
            continue;
        GraphDisk *disk = disk_new ();
        disk->qdev = graph_clean (path->data);
        disk->elsewhere = TRUE;
        name_disk (disk, NULL);
        g_ptr_array_add (graph->disks, disk);
    }
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

const char *device_type (JsonObject *types, const char *path)
{
    const char *type = types ? json_get_string (types, path) : NULL;
    if (type || !g_str_has_suffix (path, "/virtio-backend"))
        return type;
    g_autofree char *parent = g_path_get_dirname (path);
    return types ? json_get_string (types, parent) : NULL;
}

void apply_devices (Graph *graph, JsonObject *types, JsonObject *iothreads)
{
    for (guint i = 0; i < graph->disks->len; i++) {
        GraphDisk *disk = g_ptr_array_index (graph->disks, i);
        g_autofree char *path = disk->qdev ? qdev_path (disk->qdev) : NULL;
        if (!path || !set_type (disk, device_type (types, path)))
            guess_type (disk);
        const char *iothread = path ? json_get_string (iothreads, path) : NULL;
        if (iothread && graph_name_is_sound (iothread))
            disk->iothread = g_strdup (iothread);
    }
}

/* ---- names given at attach, and unique targets ---- */

GraphDisk *match_disk (const Graph *graph, const char *name, GraphDisk **ret_second)
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
            continue; /* a path is long, and where a target is used paths mean files */
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

/* The disk that stands on this file, whatever has been put on top of it since. */
static GraphDisk *match_file (const Graph *graph, const char *file)
{
    for (guint i = 0; *file == '/' && i < graph->disks->len; i++) {
        GraphDisk *disk = g_ptr_array_index (graph->disks, i);
        const GraphNode *node = find_node ((Graph *) graph, disk->node);
        for (guint depth = 0; node && depth < MAX_LAYERS; depth++) {
            if (*node->filename == '/' && files_same (node->filename, file))
                return disk;
            node = find_node ((Graph *) graph, node->backing);
        }
    }
    return NULL;
}

void name_targets (Graph *graph, GPtrArray *disks)
{
    g_autoptr (GHashTable) taken = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr (GHashTable) named = g_hash_table_new (NULL, NULL);
    for (guint i = 0; disks && i < disks->len; i++) {
        const GuestDiskDef *def = g_ptr_array_index (disks, i);
        GraphDisk *second = NULL, *disk = match_disk (graph, def->id, &second);
        if (!disk)
            disk = match_file (graph, def->id);
        if (!disk || g_hash_table_contains (named, disk))
            continue; /* unplugged, or no longer clear which: it has its other names */
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
