/* What a QEMU has (Graph) and what it can do (Caps), asked once; questions about the picture are
 * answered without asking again. Made from JSON, so that plans are tested with recorded answers.
 * Names from QEMU are checked or escaped here. */
#pragma once
#include <json-glib/json-glib.h>
#include "util/error.h"

typedef struct {
    char *name; /* NULL: a nameless one (a running job's own) */
    guint64 count, granularity;
    gboolean recording, busy, persistent, inconsistent;
} GraphBitmap;

typedef struct {
    /* node-name; of ours before 2.8: the id of its block backend, which is what commands take */
    char *name;
    char *driver;           /* "qcow2", "file", "throttle", ... */
    char *filename;         /* image.filename, "" when none */
    char *backing_filename; /* full-backing-filename; NULL */
    /* node-name of the backing node; NULL. From query-named-block-nodes' image tree /
     * query-block-graph where known */
    char *backing;
    char *file; /* node-name of the file child (protocol node); NULL when unknown */
    char *data; /* node-name of the external data file of a qcow2; NULL: none, or unknown */
    guint64 virtual_size, actual_size;
    gboolean has_actual_size;
    guint64 cluster_size; /* 0: unknown */
    gboolean read_only;
    gboolean encrypted;
    gboolean keeps_bitmaps; /* qcow2, but not of version 2 */
    guint64 write_threshold;
    GPtrArray *bitmaps; /* GraphBitmap* */
    gboolean is_filter; /* throttle, copy-on-read, copy-before-write, ... */
} GraphNode;

typedef struct {
    /* the disk's stable name: attach name, libvirt alias, qdev id, drive id, node name */
    char *target;
    /* char*: all names it answers to, target first, then attach name, alias, qdev id, qom path,
     * drive id, node names, file */
    GPtrArray *names;
    char *qdev;   /* QOM path or id of the device; NULL */
    char *device; /* legacy drive id; NULL */
    char *top;    /* node-name that the guest's device uses (may be a filter) */
    /* node-name of the format node below filters: what is backed up and bears the bitmaps */
    char *node;
    char *bus;      /* "virtio", "scsi", "ide", ... best effort */
    char *iothread; /* id; NULL */
    gboolean read_only, removable, empty, cdrom;
    gboolean elsewhere; /* a process that is not QEMU serves it: there is no node */
    /* a request of the guest failed (for want of space) and has stopped the guest */
    gboolean io_failed, io_full;
    guint64 size;
} GraphDisk;

typedef struct {
    char *id, *type, *status, *error; /* query-jobs; error NULL */
    guint64 current, total;
} GraphJob;

typedef struct {
    char *id, *node, *type;
    gboolean shutting_down;
} GraphExport;

typedef struct {
    GPtrArray *nodes;   /* GraphNode* */
    GPtrArray *disks;   /* GraphDisk*, in QEMU's order */
    GPtrArray *jobs;    /* GraphJob* */
    GPtrArray *exports; /* GraphExport* */
    GPtrArray *objects; /* char*: names below /objects */
    char *uuid, *name;  /* query-uuid, query-name; NULL */
    /* query-status: "running", "paused", "io-error", ...; NULL for a storage daemon */
    char *status;
    char *migration; /* query-migrate: "active", "completed", ...; NULL: none, or not asked */
    gboolean running;
    guint64 memory; /* bytes, 0 unknown */
    guint cpus;
    GHashTable *by_name; /* of nodes; private */
} Graph;

/* How each feature was found out is one row of a table in caps.c. */
typedef struct {
    gint refs;     /* atomic; nothing else changes once it is made */
    guint version; /* 7002022; only for bugs that no schema shows */
    char *version_text;
    gboolean storage_daemon;
    gboolean blockdev_add_flat;     /* 2.9; FALSE: the {"options":{}} form of 2.5 to 2.8 */
    gboolean blockdev_del;          /* FALSE: x-blockdev-del */
    gboolean blockdev_create, jobs; /* query-jobs, job-*: 3.0 */
    gboolean backup_bitmap_mode, backup_filter_node_name, backup_compress, backup_auto_dismiss;
    gboolean backup_x_perf, backup_x_perf_min_cluster;
    gboolean backup_discard_source;
    gboolean backup_on_cbw_error; /* 10.1 */
    gboolean mirror_skips_zeroes; /* 10.1 */
    gboolean reopen, x_reopen;    /* blockdev-reopen 6.1; x-blockdev-reopen 4.0 */
    gboolean cbw, cbw_on_error, cbw_timeout, cbw_bitmap, cbw_min_cluster; /* copy-before-write */
    gboolean snapshot_access;
    gboolean snapshot_access_exact; /* version >= 8.0 (B4) */
    gboolean nbd_open_timeout, nbd_reconnect_delay, nbd_server_max_connections;
    gboolean export_add;         /* 5.2 */
    gboolean getfd;              /* not a storage daemon */
    gboolean export_bitmap_node; /* 7.1: bitmaps as {node,name} */
    gboolean nbd_server_add;
    gboolean bitmap_merge, bitmap_disabled; /* 4.0 */
    gboolean yank;
    gboolean write_threshold;
    gboolean iothread_nbd_safe; /* not 7.2.x (B8) */
    /* a node may be opened on top of one that an I/O thread serves (5.2 and 7.2 die of it) */
    gboolean iothread_view_safe;
    /* not 4.2 to 5.x: query-named-block-nodes by anybody crashes while a backup job is concluded
     * and not dismissed */
    gboolean concluded_backup_safe;
    /* a copy that has ended stays "pending" until it is told to let go of its nodes, and
     * "concluded" until it is dismissed */
    gboolean copies_wait;
    gboolean qom; /* qom-set, qom-get */
    gboolean transaction;
    gboolean qcow2_zstd;
    gboolean qcow2_extended_l2; /* 5.2 */
    gboolean raw_size;          /* the raw driver can show a part of its file: 2.8 */
    /* "flat" of query-named-block-nodes: 5.0; of query-block: later than 10.0 */
    gboolean named_nodes_flat, block_flat;
    gboolean block_graph;      /* x-debug-query-block-graph: 4.0 */
    gboolean object_add_props; /* before 6.0: {"qom-type","id","props":{}} */
    GHashTable *commands;      /* set of char* */
    GHashTable *drivers;       /* set of char*: block drivers that blockdev-add knows */
} Caps;

/* The answers that a picture is made from; any may be NULL when QEMU has no such command. */
typedef struct {
    JsonNode *named_block_nodes, *block, *jobs, *block_jobs, *exports, *status, *migration, *uuid,
        *name, *iothreads, *objects;
    JsonNode *device_iothreads; /* object: qom path -> iothread id */
    JsonNode *block_graph;      /* x-debug-query-block-graph; NULL */
    JsonNode *memory, *cpus;
    /* object: qom path -> type ("virtio-blk-device", "scsi-cd"); NULL: guessed from names */
    JsonNode *device_types;
} GraphAnswers;

struct _Qmp;
/* How much of the picture is asked for: each question is a turn of the guest's main loop. */
typedef enum {
    GRAPH_HELD,  /* what QEMU holds, for who looks for something by its name: no edges, no disks */
    GRAPH_DISKS, /* and the disks and the guest's state, with all that a plan asks of them */
    /* and what else there is to say about the guest: uuid, name, memory, CPUs, I/O threads */
    GRAPH_ALL,
} GraphDetail;
/* disks: GuestDiskDef* of the guest's definition (names given at attach); NULL. */
/* Before any list of nodes: FALSE where QEMU would die of the question. */
gboolean graph_may_be_asked (struct _Qmp *qmp, const Caps *caps, GError **error);
Graph *graph_load (struct _Qmp *qmp, const Caps *caps, GraphDetail detail, GPtrArray *disks,
                   GError **error);
Graph *graph_from_answers (const GraphAnswers *answers, GPtrArray *disks, GError **error);
/* For everybody who is about to write to a file, also when this guest is off: claims.h. */
void graph_publish_images (const Graph *graph, const char *guest, const char *dir);
void graph_free (Graph *graph);
const GraphNode *graph_node (const Graph *graph, const char *name);        /* NULL */
const GraphBitmap *graph_bitmap (const GraphNode *node, const char *name); /* NULL */
const GraphJob *graph_job (const Graph *graph, const char *id);
const GraphExport *graph_export (const Graph *graph, const char *id);
/* By any name it answers to; ambiguous or unknown: BAK_ERROR_NO_DISK that lists what there is. */
const GraphDisk *graph_disk (const Graph *graph, const char *name, GError **error);
/* The rule that leaves a disk out of the default selection ("is an empty drive", "is read-only",
 * "is a CD-ROM", "is firmware flash"), or NULL. An empty drive has neither top nor node. */
const char *graph_disk_excluded (const GraphDisk *disk);

Caps *caps_load (struct _Qmp *qmp, GError **error);
/* schema: the value of query-qmp-schema; commands: of query-commands (may be NULL when schema is
 * given). */
Caps *caps_from_answers (JsonNode *schema, JsonNode *commands, guint version,
                         const char *version_text, GError **error);
void caps_free (Caps *caps);
/* By a field's name, as in "cbw_timeout". FALSE: no such field. For tests and for `capabilities`.
 */
gboolean caps_get (const Caps *caps, const char *field, gboolean *ret_value);
const char *const *caps_fields (void);
gboolean caps_has_command (const Caps *caps, const char *command);
gboolean caps_has_driver (const Caps *caps, const char *driver);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Graph, graph_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Caps, caps_free)
