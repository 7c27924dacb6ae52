/* A plan: definition + graph + capabilities -> an ordered list of steps, each an action with the undo beside it.
 * plan_backup() is a pure function: it touches nothing. What it returns is printed by --dry-run, written to the journal,
 * performed by run.c, and undone in reverse by run.c or, after a crash, by recover.c from the journal.
 *
 * An action is a verb with JSON arguments: a QMP command, or one of the verbs of run.c's table ("file-create", ...).
 * Undo actions are idempotent: each bears a guard, the object that must exist for the action to make sense. */
#pragma once
#include <json-glib/json-glib.h>
#include "conf/backup_def.h"
#include "conf/checkpoint_def.h"
#include "driver/driver.h"
#include "driver/qemu/graph.h"
#include "driver/record.h"

typedef struct {
    gboolean qmp, oob;          /* verb is a QMP command; sent out of band */
    char *verb;
    JsonObject *args;           /* never NULL */
    JsonObject *guard;          /* {"node":N} {"job":N} {"export":N} {"object":N} {"bitmap":B,"node":N}; NULL: always */
    guint timeout_ms;           /* 0: default */
    char *disk;                 /* of a finishing action: the disk that a failure is reported of; NULL: all */
    gboolean keep;              /* of an undo: for failures only, what the step made stays after a success */
} Action;

typedef struct {
    char *title;
    char *disk;                 /* target of the disk that it is for; NULL: all */
    Action *action;
    GPtrArray *undo;            /* Action*, in the order in which they run */
} Step;

/* What the job has to know about a disk once it runs. */
typedef struct {
    char *target;               /* name of the disk */
    char *node;                 /* the guest's node */
    char *job;                  /* QEMU's job that copies into the target; NULL: a pull */
    char *keeper;               /* QEMU's job that keeps the point in time in the scratch; NULL: none */
    char *export_id, *export_name, *bitmap; /* pull; bitmap NULL: full */
    char *path;                 /* target (or its description) */
    char *scratch;
    char *scratch_node;         /* protocol node of the scratch: write threshold, fill level; NULL */
    char *filter;               /* node-name of our filter above the disk; NULL */
    char *format;
    char *type;                 /* full, incremental, top, none */
    char *reason;               /* why the type is not what was asked for; NULL */
    char *since;                /* checkpoint that an increment starts from; NULL */
    char *protection;           /* what protects the guest, in words */
    char *export_node;          /* node to probe; NULL */
    guint64 size, limit;
} PlanDisk;

typedef struct {
    char *job;                  /* id */
    BackupMode mode;
    GPtrArray *steps;           /* Step* */
    GPtrArray *finish;          /* Action*: after every QEMU job has ended well, before the undos of a success; a failure here fails the backup */
    GPtrArray *disks;           /* PlanDisk* */
    GPtrArray *notes;           /* char*: what a person should be told at begin */
    char *server;               /* description of the export's address; NULL */
    char *server_socket;        /* unix path; NULL */
    char *server_host; guint server_port;
    char *server_tls;           /* directory of the certificates or of keys.psk; NULL: no TLS */
    gboolean server_psk;
    char *checkpoint;           /* name of the provisional checkpoint; NULL */
    char *checkpoint_description, *series; /* NULL */
    JsonArray *checkpoint_disks; /* {"disk","node","file","size","persistent","format"}; never NULL */
    gboolean partial;           /* top, none */
    guint idle_timeout;
} Plan;

typedef struct {
    const char *job;            /* id: 8 hex digits */
    const char *domain;
    const BackupDef *def;
    const CheckpointDef *checkpoint;    /* NULL: none */
    const Graph *graph;
    const Caps *caps;
    GPtrArray *checkpoints;     /* Checkpoint*: all that are recorded; NULL: none */
    guint flags;                /* BEGIN_* */
    const char *job_dir;        /* for sockets of ours, absolute */
    const char *scratch_dir;    /* never NULL */
    const char *target_dir;     /* NULL: not configured */
    const char *tls_dir;        /* NULL */
    gint64 now;                 /* seconds: names of generated targets */
    gboolean offline;           /* a storage daemon of ours does the work */
    guint free_port;            /* for an export over TCP without a port */
    gboolean agent;             /* the guest has an agent */
} PlanInput;

/* Not pure, so done before: a scratch path that is a directory here gets a slash at its end. */
void plan_mark_directories (BackupDef *def);
Plan *plan_backup (const PlanInput *input, GError **error);
/* A checkpoint alone: one transaction. */
Plan *plan_checkpoint (const PlanInput *input, GError **error);
void plan_free (Plan *plan);
/* What a person should be told, in one line; "": nothing. Caller frees. */
char *plan_notes (const Plan *plan);

/* Which bitmaps say what changed on this disk since the checkpoint, oldest image first ({"node","name"} objects), or NULL and why not
 * (a short reason: "bitmap inconsistent"). */
JsonArray *plan_changes_since (const Graph *graph, const GraphDisk *disk, const Checkpoint *since, char **ret_reason);

/* Where the backup of that disk goes; NULL: nowhere, as in a pull. */
const char *plan_target_of (const Plan *plan, const char *disk);
/* What a target's header says of the previous backup: its bare name where both lie in one directory, which may be moved then. */
char *plan_backing_name (const char *target, const char *backing);
JsonNode *plan_to_json (const Plan *plan);
Plan *plan_from_json (JsonNode *node, GError **error);      /* untrusted: a journal */
void action_free (Action *action);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (Plan, plan_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Action, action_free)
