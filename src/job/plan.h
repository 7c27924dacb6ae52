/* A plan as data: an ordered list of steps, each an action with the undo beside it. It is printed
 * by
 * --dry-run, written to the journal, performed by run.c, and undone in reverse by run.c or, after a
 * crash, from the journal. The drivers make it.
 *
 * An action is a verb with JSON arguments: a QMP command, or a verb that this side performs
 * ("file-create", ...). Undo actions are idempotent: each bears a guard, the object that must exist
 * for the action to make sense. */
#pragma once
#include <json-glib/json-glib.h>
#include "conf/backup_def.h"
#include "driver/driver.h"
#include "job/checkpoint.h"
#include "util/error.h"

typedef struct {
    gboolean qmp, oob; /* verb is a QMP command; sent out of band */
    char *verb;
    JsonObject *args; /* never NULL */
    /* {"node":N} {"job":N} {"export":N} {"object":N} {"bitmap":B,"node":N}; NULL: always */
    JsonObject *guard;
    guint timeout_ms; /* 0: default */
    char *disk;       /* of a finishing action: the disk that a failure is reported of; NULL: all */
    gboolean keep;    /* of an undo: for failures only, what the step made stays after a success */
    /* of a finishing action: it proves something, so that what its guard names has to be there */
    gboolean proves;
    /* of a step that QEMU may refuse: the verb that says whether to go on then; NULL */
    char *otherwise;
} Action;

typedef struct {
    char *title;
    char *disk; /* target of the disk that it is for; NULL: all */
    Action *action;
    GPtrArray *undo; /* Action*, in the order in which they run */
} Step;

/* What the job has to know about a disk once it runs. */
typedef struct {
    char *target; /* name of the disk */
    char *node;   /* the guest's node */
    char *job;    /* QEMU's job that copies into the target; NULL: a pull */
    char *keeper; /* QEMU's job that keeps the point in time in the scratch; NULL: none */
    char *export_id, *export_name, *bitmap; /* pull; bitmap NULL: full */
    char *path;                             /* target (or its description) */
    char *scratch;
    char *scratch_node; /* protocol node of the scratch: write threshold, fill level; NULL */
    char *filter;       /* node-name of our filter above the disk; NULL */
    char *format;
    char *type;        /* full, incremental, top, none */
    char *reason;      /* why the type is not what was asked for; NULL */
    char *since;       /* checkpoint that an increment starts from; NULL */
    char *protection;  /* what protects the guest, in words */
    char *export_node; /* node to probe; NULL */
    guint64 size, limit;
} PlanDisk;

typedef struct {
    char *job; /* id */
    BackupMode mode;
    GPtrArray *steps; /* Step* */
    /* Action*: after every QEMU job has ended well, before the undos of a success; a failure here
     * fails the backup */
    GPtrArray *finish;
    GPtrArray *disks;    /* PlanDisk* */
    GPtrArray *notes;    /* char*: what a person should be told at begin */
    char *server;        /* description of the export's address; NULL */
    char *server_socket; /* unix path; NULL */
    char *server_host;
    guint server_port;
    char *server_tls; /* directory of the certificates or of keys.psk; NULL: no TLS */
    gboolean server_psk;
    char *server_passed;  /* group of the listening socket that a client passed; NULL: ours */
    guint64 server_inode; /* of that */
    char *checkpoint;     /* name of the provisional checkpoint; NULL */
    char *checkpoint_description, *series; /* NULL */
    /* {"disk","node","file","size","persistent","format","seal"}; never NULL */
    JsonArray *checkpoint_disks;
    gboolean partial; /* top, none */
    /* the point in time is that of the end: the copies run, are "ready", and end together */
    gboolean at_end;
    guint idle_timeout;
} Plan;

void plan_free (Plan *plan);
/* What a person should be told, in one line; "": nothing. Caller frees. */
char *plan_notes (const Plan *plan);

/* Before a plan is made, which is pure: a scratch path that is a directory here gets a slash at its
 * end. */
void plan_mark_directories (BackupDef *def);
/* The same for servers on the network, where more than one disk goes to one. */
gboolean plan_mark_servers (BackupDef *def); /* FALSE: there are none */
/* Of one store; of what is not served by NBD: nothing. */
void plan_mark_server (StoreDef *store);
/* Whether both are the same file, device or export, as far as their marks tell. */
gboolean plan_same_place (const StoreDef *a, const StoreDef *b);
/* FALSE, with why there is no exact increment and what can be done instead. */
gboolean plan_refuse_increment (const BackupDef *def, const char *disk, const char *since,
                                const char *reason, GError **error);
/* Where the backup of that disk goes; NULL: nowhere, as in a pull. */
const char *plan_target_of (const Plan *plan, const char *disk);
/* Notes of each file that the backup of the checkpoint went into how it was left. */
gboolean plan_seal_backups (const Plan *plan, Checkpoint *checkpoint, GError **error);
/* The name of a file of ours for a disk: of the guest and the disk as much as a file name takes.
 * index: of the disk in the job. Caller frees. */
char *plan_file_name (const char *domain, const char *disk, guint index, const char *job,
                      const char *suffix);
/* What a target's header says of the previous backup: the way there from the target's folder, so
 * that a tree which holds both may be moved; the whole name where they share no folder. */
char *plan_backing_name (const char *target, const char *backing);
JsonNode *plan_to_json (const Plan *plan);
Plan *plan_from_json (JsonNode *node, GError **error); /* untrusted: a journal */
void action_free (Action *action);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (Plan, plan_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Action, action_free)
