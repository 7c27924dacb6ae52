/* A plan in the making; only the files plan*.c see it. Each of them is one part of the way:
 *
 *   plan.c               the entries; which disks, and what of each
 *   plan-since.c         full or incremental: which bitmaps say what changed
 *   plan-place.c         where the data goes: targets and scratch
 *   plan-protection.c    how the guest is kept from what may happen there
 *   plan-end.c           a push whose instant is that of its end
 *   plan-push.c, plan-pull.c   the order of the steps, made of
 *     plan-nodes.c         files and nodes of targets and scratch
 *     plan-transaction.c   the point in time
 *     plan-checkpoint.c    the bitmaps of a checkpoint, in the same transaction
 *     plan-traits.c        what a place is, for all who ask
 *     plan-helper.c        what a process of ours opens: on a server, or encrypted
 *     plan-seal.c          what shows later that the image is the same
 *     plan-commands.c      names of ours, and commands whose form changed over the years */
#pragma once
#include "driver/qemu/plan.h"
#include "job/build.h"

enum { MIN_CHUNK = 65536, CREATE_TIMEOUT_MS = 120000 };

/* A file, device or export that holds an image for us: the target of a push, the scratch that keeps
 * a point in time. */
typedef struct {
    StoreDef *store; /* NULL: not used */
    const char *format;
    gboolean generated; /* the path is of our making */
    gboolean scratch;
    const char *role, *file_role; /* of its nodes' names */
} Place;

/* How a disk's point in time reaches who reads it: chosen for each disk by what this QEMU can do
 * where the disk's requests run. */
typedef enum {
    WAY_DIRECT, /* the copy reads the disk itself: the target is in the way of the guest's writes */
    WAY_ACCESS, /* a scratch keeps it, read through snapshot-access on the filter */
    WAY_OVERLAY, /* a scratch keeps it, read through itself: an overlay of the disk */
    WAY_AT_END,  /* a mirror follows the disk; the point in time is that of its end */
    WAY_MIRROR,  /* the same, by a mirror, which must not keep the overlay from being written */
} Way;

/* One disk of the plan in the making. */
typedef struct {
    const GraphDisk *disk;
    const BackupDiskDef *def; /* borrowed; NULL: nothing said about it */
    PlanDisk *out;
    guint index;
    SyncMode sync;
    Way way;
    JsonArray *changes; /* bitmaps to merge; NULL: full */
    Place target, scratch;
} Item;

typedef struct {
    const PlanInput *in;
    const Caps *caps;
    Plan *plan;
    GPtrArray *items;   /* Item* */
    JsonArray *actions; /* of the transaction */
    GPtrArray *undo;    /* of the transaction, Action* */
    GArray *ends;       /* guint64: sizes of disks whose seals have an end */
    Protect protect;
} Planner;

/* plan.c */
extern const char *const sync_types[]; /* by SyncMode: what it is called in a record and in QMP */

/* plan-since.c */
const Checkpoint *find_checkpoint (const PlanInput *in, const char *name);
/* NULL */
const CheckpointDisk *checkpoint_disk (const Checkpoint *checkpoint, const GraphDisk *disk);
gboolean resolve_incremental (Planner *p, Item *item, GError **error);

/* plan-place.c */
gboolean resolve_target (Planner *p, Item *item, GError **error);
gboolean resolve_scratch (Planner *p, Item *item, GError **error);

/* plan-format.c */
gboolean check_format (Planner *p, const Item *item, GError **error);
/* The same, once it is known how the disk is copied. */
gboolean check_way (const Item *item, GError **error);
gboolean is_stream (const Item *item);
/* It must be written by whole parts, as a copy job does and a mirror does not. */
gboolean loses_parts (const Item *item);
guint64 target_cluster (const Item *item);
gboolean proves_by_reopen (const Item *item);
JsonObject *create_options (const Item *item, const Place *place, const char *file);

/* plan-traits.c */
gboolean is_reused (Planner *p, const Place *place);
gboolean has_backing (const char *format);
gboolean is_helped (const Place *place);
char *helper_monitor (Planner *p, const Item *item);
char *helper_socket (Planner *p, const Item *item);

/* plan-helper.c */
void add_helper (Planner *p, Item *item, const Place *place);
void finish_helper (Planner *p, const Item *item);

/* plan-protection.c */
gboolean choose_protection (Planner *p, GError **error);
gboolean must_reserve (Planner *p, const Place *place);

/* plan-push.c, plan-pull.c */
gboolean plan_push (Planner *p, GError **error);
gboolean plan_pull (Planner *p, GError **error);

/* plan-end.c */
gboolean check_at_end (Planner *p, GError **error);
void add_mirrors (Planner *p);

/* plan-migration.c */
gboolean check_migration (const Planner *p, GError **error);
void add_barrier (Planner *p);

/* plan-nodes.c */
void add_places (Planner *p, gboolean scratch);
JsonObject *protocol_options (Planner *p, const Item *item, const Place *place, const char *node);
JsonObject *format_options (Planner *p, const Item *item, const Place *place, const char *node,
                            const char *file);

/* plan-transaction.c */
void tx_add (Planner *p, const char *type, JsonObject *data);
void tx_undo (Planner *p, Action *action);
void tx_changes (Planner *p, Item *item, const char *node, const char *name);
void tx_keep (Planner *p, Item *item);
gboolean copy_top_only (Planner *p, const Item *item);
void tx_copy (Planner *p, Item *item, const char *device, const char *bitmap);
void add_mirror (Planner *p, Item *item, const char *device);
const char *device_of (Planner *p, const Item *item);
void add_actions (Planner *p, const char *title); /* one transaction of what was gathered */
/* the same, between freeze and thaw if asked for */
gboolean add_point_in_time (Planner *p, GError **error);
char *add_view (Planner *p, Item *item);

/* plan-checkpoint.c */
gboolean tx_checkpoint (Planner *p, gboolean alone, GError **error);

/* plan-seal.c */
gboolean seal_has_end (const Planner *p, guint64 size);
void tx_seal_end (Planner *p, const GraphDisk *disk, const char *seal, gboolean persistent);
void add_seal_ends (Planner *p); /* the steps before that transaction */

/* plan-commands.c */
char *own_name (Planner *p, const char *role, const Item *item); /* item NULL: of the whole job */
void planner_note (Planner *p, const char *format, ...) G_GNUC_PRINTF (2, 3);
Action *node_add (Planner *p, JsonObject *options);
Action *node_del (Planner *p, const char *name);
Action *job_cancel (Planner *p, const char *job);
Action *job_dismiss (const char *job);
Action *job_finalize (const char *job);
Action *object_add (Planner *p, const char *type, const char *id, JsonObject *properties);
Action *bitmap_remove (const char *node, const char *bitmap);
void start_create_job (Planner *p, const char *title, Item *item, const char *job,
                       JsonObject *options);
void end_create_job (Planner *p, Item *item, const char *job);
