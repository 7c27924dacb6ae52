/* A picture of a QEMU in the making; only the files graph*.c see it:
 *
 *   graph.c         lifetime, the order in which answers are taken, questions
 *   graph-read.c    answers that are taken alone: nodes and their edges, jobs, exports, the rest
 *   graph-disks.c   what the guest calls its disks, and what they hang on
 *   graph-load.c    asks a QEMU */
#pragma once
#include "driver/qemu/graph.h"

enum {
    MAX_NODES = 20000,
    MAX_DISKS = 4096,
    MAX_ITEMS = 20000,
    MAX_BITMAPS = 4096,
    MAX_FILTERS = 256,
    MAX_NODE_NAME = 64
};
#define MAX_SIZE (G_GINT64_CONSTANT (1) << 62)

/* What is known while a picture is being made, by GraphNode. */
typedef struct {
    Graph *graph;
    GHashTable *filtered; /* a filter -> the node below it */
    GHashTable *used;     /* nodes that another stands on (not one of ours) */
    gboolean has_edges;
} Builder;

typedef gboolean (*TakeFunc) (Builder *builder, JsonNode *answer, GError **error);

/* graph.c */
void bitmap_free (GraphBitmap *bitmap);
void disk_free (GraphDisk *disk);
void builder_init (Builder *builder);
void builder_clear (Builder *builder);
/* A QEMU without any device that has an image is a bare block engine, like a storage daemon: its
 * images are its disks. */
Graph *builder_finish (Builder *builder, GPtrArray *disks, JsonObject *types, JsonObject *iothreads,
                       GError **error);

/* graph-read.c */
gboolean graph_is_ours (const char *name);
/* A name that goes back into commands as it is. '#' begins those that QEMU made up. */
gboolean graph_name_is_sound (const char *name);
char *graph_clean (const char *text);
/* A size may be absent (then 0), but what is there must be possible. */
gboolean graph_read_size (JsonObject *object, const char *key, guint64 *ret_size);
gboolean graph_is_array_within (JsonNode *answer, guint max, const char *what,
                                JsonArray **ret_array, GError **error);
gboolean driver_is_protocol (const char *driver);
gboolean read_bitmaps (GPtrArray *bitmaps, JsonObject *object, GError **error);
GraphNode *find_node (Graph *graph, const char *name);
void guess_edges (Builder *builder);
gboolean take_nodes (Builder *builder, JsonNode *answer, GError **error);
gboolean take_block_graph (Builder *builder, JsonNode *answer, GError **error);
gboolean take_jobs (Builder *builder, JsonNode *answer, GError **error);
/* All there is before 3.0. */
gboolean take_block_jobs (Builder *builder, JsonNode *answer, GError **error);
gboolean take_exports (Builder *builder, JsonNode *answer, GError **error);
gboolean take_objects (Builder *builder, JsonNode *answer, GError **error);
JsonObject *as_object (JsonNode *answer);
gboolean take_migration (Builder *builder, JsonNode *answer, GError **error);
gboolean take_status (Builder *builder, JsonNode *answer, GError **error);
gboolean take_uuid (Builder *builder, JsonNode *answer, GError **error);
gboolean take_name (Builder *builder, JsonNode *answer, GError **error);
gboolean take_memory (Builder *builder, JsonNode *answer, GError **error);
gboolean take_cpus (Builder *builder, JsonNode *answer, GError **error);

/* graph-disks.c */
char *qdev_path (const char *qdev);
GraphDisk *disk_new (void);
/* The node below the filters. */
GraphNode *below_filters (Builder *builder, GraphNode *node);
/* In the order in which a stable name is chosen: libvirt's alias is the device's id, and stands in
 * libvirt's drive ids. */
void name_disk (GraphDisk *disk, const GraphNode *node);
void place_disk (Builder *builder, GraphDisk *disk, GraphNode *top);
gboolean take_block (Builder *builder, JsonNode *answer, GError **error);
/* A storage daemon has no devices: what nothing stands on is a disk. */
/* The disk that is known by the node below these filters, which is of this name too then; NULL. */
GraphDisk *disk_below (Builder *builder, GraphNode *top);
gboolean take_roots (Builder *builder, GError **error);
/* Of the device itself, or of the one that it is the back end of. */
const char *device_type (JsonObject *types, const char *path);
/* Disks of which QEMU has the device alone. */
void take_vhost (Graph *graph, JsonObject *types);
void apply_devices (Graph *graph, JsonObject *types, JsonObject *iothreads);
GraphDisk *match_disk (const Graph *graph, const char *name, GraphDisk **ret_second);
void name_targets (Graph *graph, GPtrArray *disks);
