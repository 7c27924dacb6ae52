/* Block jobs that change what a disk of a running guest stands on: commit, pull, copy.
 *
 * QEMU does the work and needs nobody for it; what an owner has to do comes at the ends. So each of
 * them has a journal of its own, DIR/blockjobs/ID/journal, and whoever looks at the guest next goes
 * on from there: what was begun is undone, what has ended is ended here too, a pivot that was
 * started is done. All on the guest's thread, monitor acquired. */
#pragma once
#include "driver/qemu/guest.h"
#include "job/checkpoint.h"
#include "job/journal.h"
#include "job/run.h"

/* One that has not ended. */
typedef struct {
    char *id;            /* 8 hex digits; QEMU's job is "bakj-ID" */
    char *dir;           /* of its journal */
    JournalState *state; /* plan, meta, phase */
    const char *disk;    /* target; borrowed from the meta */
    int type;            /* BLOCK_* */
    char *job;           /* QEMU's */
} BlockJob;

/* Everything that was asked and found, while a plan is made of it. */
typedef struct {
    Guest *guest;
    const bak_block_args *args;
    const Graph *graph;
    const GraphDisk *disk;
    GPtrArray *chain; /* GraphNode*, borrowed: active layer first */
    /* Of the chain: the images top..base-1 are what goes; base is chain->len where nothing stays */
    guint top, base;
    int type;
    const char *id, *job;
    const char *into; /* the node that what goes is written into */
    char *copy;       /* of a copy: that node, which is not there yet */
    const char *format;
    gboolean keeps_bitmaps; /* of a copy: its image can */
    JsonArray *proof;       /* of a copy: the options that its nodes are opened with */
    GPtrArray *checkpoints;
    JsonArray *carry;   /* of the verb "block-carry" */
    JsonArray *records; /* of "block-records": how checkpoints are recorded once it is done */
    JsonArray *below;   /* the same where the chain stays as it was */
    JsonArray *added;   /* {"node","name"}: bitmaps that carrying makes */
    GPtrArray *lost;    /* char*: checkpoints that do not survive */
    GPtrArray *why;     /* char*: for each of them */
} BlockRequest;

/* blockjob-plan.c: FALSE and why this cannot be done; *ret_plan else. Nothing is changed. */
gboolean block_plan (BlockRequest *request, Plan **ret_plan, JsonObject **ret_meta, GError **error);

/* blockjob-chain.c */
const GraphNode *block_image (const BlockRequest *request, guint depth);
/* Its file. QEMU may say more of a node than that: "json:{...}". */
const char *block_path_of (const BlockRequest *request, const GraphNode *node);
const char *block_image_path (const BlockRequest *request, guint depth);
/* The name of what the image stands on, as its header says it. Caller frees. */
char *block_stored_backing (Guest *guest, const char *node);
/* What QEMU says of the node, part of *ret_held; NULL: nothing. */
JsonObject *block_node_entry (Guest *guest, const char *node, JsonNode **ret_held);

/* blockjob-copy.c */
gboolean block_choose_copy (BlockRequest *request, GError **error);
void block_add_copy (BlockRequest *request, Plan *plan);
/* FALSE: it cannot be shown that all of a copy that has ended is on the disk. */
gboolean block_prove_copy (Guest *guest, BlockJob *job, Run *run, GError **error);
/* QEMU is gone: the file of a copy that has come to nothing is removed. */
void block_drop_copy (BlockJob *job, Run *run);

/* blockjob-carry.c: what becomes of each checkpoint of the disk. */
void block_sort_checkpoints (BlockRequest *request);
/* As qemu_run_ops, with the verbs of block jobs. */
const RunOps *block_run_ops (void);

/* blockjob.c */

/* Ends what has ended meanwhile, and undoes what was only begun. FALSE: QEMU could not be asked. */
gboolean blockjob_settle (Guest *guest, GError **error);
/* QEMU is gone, and with it all block jobs. */
void blockjob_settle_gone (Guest *guest, const char *why);
/* FALSE with BUSY and its name when one runs on that disk (NULL: on any). what: "begin a backup".
 */
gboolean blockjob_refuse (Guest *guest, const char *disk, const char *what, GError **error);

/* The same after a look, for who works on all disks. */
gboolean blockjob_refuse_all (Guest *guest, const char *what, GError **error);

gboolean local_block_begin (Guest *guest, const void *args, void *ret, GError **error);
gboolean local_block_plan (Guest *guest, const void *args, void *ret, GError **error);
gboolean local_block_info (Guest *guest, const void *args, void *ret, GError **error);
gboolean local_block_end (Guest *guest, const void *args, void *ret, GError **error);
gboolean local_block_limit (Guest *guest, const void *args, void *ret, GError **error);
