/* A plan in the making; only the files plan*.c see it. Each of them is one part of the way:
 *
 *   plan.c               the entries; which disks, and what of each
 *   plan-since.c         full or incremental: which bitmaps say what changed
 *   plan-place.c         where the data goes: targets and scratch
 *   plan-protection.c    how the guest is kept from what may happen there
 *   plan-push.c, plan-pull.c   the order of the steps, made of
 *     plan-nodes.c         files and nodes of targets and scratch
 *     plan-transaction.c   the point in time
 *     plan-checkpoint.c    the bitmaps of a checkpoint, in the same transaction
 *     plan-commands.c      names of ours, and commands whose form changed over the years */
#pragma once
#include "driver/qemu/build.h"

enum { MIN_CHUNK = 65536, CREATE_TIMEOUT_MS = 120000 };

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
    gboolean mirror;            /* its copy is a mirror of the overlay, which must not be kept from being written while it is read */
    gboolean fleece;            /* a push reads the point in time from a scratch, so that its target cannot reach the guest */
} Planner;

/* plan.c */
extern const char *const sync_types[];  /* by SyncMode: what it is called in a record and in QMP */

/* plan-since.c */
const Checkpoint *find_checkpoint (const PlanInput *in, const char *name);
const CheckpointDisk *checkpoint_disk (const Checkpoint *checkpoint, const GraphDisk *disk);       /* NULL */
gboolean resolve_incremental (Planner *p, Item *item, GError **error);

/* plan-place.c */
gboolean resolve_target (Planner *p, Item *item, GError **error);
gboolean resolve_scratch (Planner *p, Item *item, GError **error);

/* plan-protection.c */
gboolean choose_protection (Planner *p, GError **error);
gboolean must_reserve (Planner *p, const Place *place);

/* plan-push.c, plan-pull.c */
gboolean plan_push (Planner *p, GError **error);
gboolean plan_pull (Planner *p, GError **error);

/* plan-nodes.c */
gboolean is_reused (Planner *p, const Place *place);
void add_places (Planner *p, gboolean scratch);
JsonObject *protocol_options (Planner *p, const Item *item, const Place *place, const char *node);
JsonObject *format_options (Planner *p, const Item *item, const Place *place, const char *node, const char *file);

/* plan-transaction.c */
void tx_add (Planner *p, const char *type, JsonObject *data);
void tx_undo (Planner *p, Action *action);
void tx_changes (Planner *p, Item *item, const char *node, const char *name);
void tx_keep (Planner *p, Item *item);
void tx_copy (Planner *p, Item *item, const char *device, const char *bitmap);
void add_mirror (Planner *p, Item *item, const char *device);
const char *device_of (Planner *p, const Item *item);
void add_actions (Planner *p, const char *title);       /* one transaction of what was gathered */
gboolean add_point_in_time (Planner *p, GError **error);        /* the same, between freeze and thaw if asked for */
char *add_view (Planner *p, Item *item);

/* plan-checkpoint.c */
gboolean tx_checkpoint (Planner *p, gboolean alone, GError **error);

/* plan-commands.c */
char *own_name (Planner *p, const char *role, const Item *item);        /* item NULL: of the whole job */
void planner_note (Planner *p, const char *format, ...) G_GNUC_PRINTF (2, 3);
Action *node_add (Planner *p, JsonObject *options);
Action *node_del (Planner *p, const char *name);
Action *job_cancel (Planner *p, const char *job);
Action *job_dismiss (const char *job);
Action *job_finalize (const char *job);
Action *object_add (Planner *p, const char *type, const char *id, JsonObject *properties);
Action *bitmap_remove (const char *node, const char *bitmap);
void start_create_job (Planner *p, const char *title, Item *item, const char *job, JsonObject *options);
void end_create_job (Planner *p, Item *item, const char *job);
