/* How a plan is made: definition + graph + capabilities -> steps. plan_backup() is a pure function:
 * it touches nothing. */
#pragma once
#include "conf/backup_def.h"
#include "conf/checkpoint_def.h"
#include "driver/driver.h"
#include "driver/qemu/graph.h"
#include "job/plan.h"
#include "job/checkpoint.h"
#include "job/record.h"
#include "job/seal.h"
#include "util/passed.h"

typedef struct {
    const char *job; /* id: 8 hex digits */
    const char *domain;
    const BackupDef *def;
    const CheckpointDef *checkpoint; /* NULL: none */
    const Graph *graph;
    const Caps *caps;
    GPtrArray *checkpoints;  /* Checkpoint*: all that are recorded; NULL: none */
    guint flags;             /* BEGIN_* */
    const char *job_dir;     /* for sockets of ours, absolute */
    const char *scratch_dir; /* never NULL */
    const char *target_dir;  /* NULL: not configured */
    const char *tls_dir;     /* NULL */
    gint64 now;              /* seconds: names of generated targets */
    gboolean offline;        /* a storage daemon of ours does the work */
    guint free_port;         /* for an export over TCP without a port */
    /* of the socket that <server transport='fd'> names; NULL: none is asked for */
    const PassedAddress *passed;
    gboolean agent;      /* the guest has an agent */
    const char *seal;    /* seal_new_token(); NULL: checkpoints are not sealed */
    const char *barrier; /* image of migration.h; NULL: no migration can start */
    /* BackupDiskDef* -> why its previous backup is not as it was left; GraphDisk* -> why what its
     * image stands on is not as it was at the checkpoint; NULL: none is known */
    GHashTable *touched;
    GPtrArray *sources; /* StoreDef*: NBD exports that the guest's nodes are; NULL: not looked at */
} PlanInput;

/* Not pure, so done before: opens the previous backups that increments are to be laid on, and what
 * lies below the guest's images. */
GHashTable *plan_look_at_backings (const PlanInput *input);
/* Not pure: which servers the guest's nodes are on (server_id.h); for PlanInput. */
GPtrArray *plan_look_at_sources (const Graph *graph);
Plan *plan_backup (const PlanInput *input, GError **error);
/* A checkpoint alone: one transaction. */
Plan *plan_checkpoint (const PlanInput *input, GError **error);

/* Which bitmaps say what changed on this disk since the checkpoint, oldest image first
 * ({"node","name"} objects), or NULL and why not (a short reason: "bitmap inconsistent"). */
JsonArray *plan_changes_since (const Graph *graph, const GraphDisk *disk, const Checkpoint *since,
                               char **ret_reason);
/* As the picture shows it. */
SealBitmap plan_seal_bitmap (const GraphNode *node, const char *name);
SealBitmap plan_seal_end (const GraphNode *node, const CheckpointDisk *recorded);
/* seal_broken() of the image that bears the seal. Caller frees. */
char *plan_seal_broken (const GraphNode *node, const CheckpointDisk *recorded);
/* The image of the disk's chain that a checkpoint was made on; NULL. Borrowed. */
const GraphNode *plan_image_of (const Graph *graph, const GraphDisk *disk,
                                const CheckpointDisk *recorded);
/* The file that an image stands on; NULL: nothing. Borrowed. */
const char *plan_file_below (const Graph *graph, const GraphNode *node);
/* The file of its own that an image has its data in; NULL: none. Borrowed. */
const char *plan_data_file (const Graph *graph, const GraphNode *node);
/* Not pure: how what lies below the image of a checkpoint differs from then; NULL: not, or that is
 * not known. Caller frees. */
char *plan_layers_differ (const Graph *graph, const GraphDisk *disk,
                          const CheckpointDisk *recorded);
