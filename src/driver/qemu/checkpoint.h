/* Checkpoints between their records and their bitmaps. Everything here runs on the guest's thread.
 *
 * A record is what makes a checkpoint; its bitmaps come before it and go after everything that
 * could want them has been told. Whatever changes bitmaps without a backup (create, delete) is in
 * the journal like a backup, so that the next owner ends it. */
#pragma once
#include "driver/qemu/guest.h"
#include "job/journal.h"
#include "driver/qemu/plan.h"
#include "job/checkpoint.h"
#include "job/record.h"

/* The record of what plan has made; saved. job NULL: no backup goes with it. */
gboolean checkpoint_record (Guest *guest, const Plan *plan, gint64 created, const char *job,
                            GError **error);
/* What the checkpoint of the backup that runs now will be if that ends well; NULL: none. By journal
 * and record, on any thread. */
Checkpoint *checkpoint_provisional (Guest *guest);
/* Whether an image on disk holds a bitmap of it; looks without a lock. */
gboolean checkpoint_is_stored (const Plan *plan);
/* The bitmaps of the provisional checkpoint are there still. INEXACT, and which is not. */
gboolean checkpoint_is_kept (const Graph *graph, const Plan *plan, GError **error);
/* Removes the bitmaps of a checkpoint that never came to be, by node, by file, or from images that
 * no QEMU has open. */
gboolean checkpoint_drop (Guest *guest, const Plan *plan, GError **error);

/* Whether a journal belongs to a create or delete, and what is to be done about it. alive: the
 * monitor is connected. */
gboolean checkpoint_is_journal (const JournalState *state);
gboolean checkpoint_recover (Guest *guest, JournalState *state, gboolean alive, GError **error);

/* Deletes these checkpoints (char*), bitmaps first. The journal says so until it is done. */
gboolean checkpoint_delete_all (Guest *guest, GPtrArray *names, gboolean alive, GError **error);

/* The nodes that bear the bitmap of the checkpoint on this disk, active layer first (GraphNode*,
 * borrowed). */
GPtrArray *checkpoint_nodes (const Graph *graph, const CheckpointDisk *disk);
/* Removes one bitmap from one node; a read-only layer is made writable for it. Absent: TRUE. */
gboolean checkpoint_remove_bitmap (Guest *guest, const GraphNode *node, const char *bitmap,
                                   GError **error);

/* Of the images that bear its bitmap (at least one) the one that bears its seal, else the lowest.
 */
const GraphNode *checkpoint_sealed_node (GPtrArray *nodes, const CheckpointDisk *recorded);
/* seal_broken() by what these nodes (of checkpoint_nodes(), not empty) bear. */
char *checkpoint_seal_broken (GPtrArray *nodes, const CheckpointDisk *recorded);
/* The nodes that bear its seal: the image that the checkpoint was made on, wherever the guest has
 * it now (GraphNode*, borrowed). */
GPtrArray *checkpoint_sealed_nodes (const Graph *graph, const CheckpointDisk *recorded);
/* Both: what deleting it has to take away. */
GPtrArray *checkpoint_nodes_to_clear (const Graph *graph, const CheckpointDisk *recorded);
/* Removes bitmap and seals from the images that bear this seal. graph NULL: no QEMU has them open,
 * and they are looked for wherever the guest (all: its checkpoints) had images. */
gboolean checkpoint_clear_sealed (Guest *guest, const Graph *graph, GPtrArray *all,
                                  const CheckpointDisk *disk, GError **error);
/* Bitmaps that are taken out of an image which others stand on change it by our own hand. Those
 * that stand on what they stood on when they were made, to be told of it afterwards; borrowed from
 * all. gone: the names of those whose bitmaps go; NULL: any. NULL: nothing below is written to. */
GArray *checkpoint_who_stands (const Graph *graph, GPtrArray *all, GHashTable *gone);
void checkpoint_stand_again (Guest *guest, const Graph *graph, const GArray *standing);
/* The seals that were made beside a bitmap of that name. */
gboolean checkpoint_remove_seals (Guest *guest, const GraphNode *node, const char *bitmap,
                                  GError **error);

/* checkpoints_see_sizes() by what QEMU says. */
gboolean checkpoint_see_sizes (Guest *guest, const Graph *graph, GPtrArray *all, GError **error);
/* guest_graph() for who only wants to know something: sizes are seen by the way, if that is
 * possible. */
Graph *checkpoint_look (Guest *guest, GError **error);
const Checkpoint *checkpoint_find (GPtrArray *all, const char *name); /* NULL */
gint64 checkpoint_next_sequence (GPtrArray *all);
/* FALSE with BUSY while a backup runs. what: "create a checkpoint" */
gboolean checkpoint_not_busy (Guest *guest, const char *what, GError **error);
/* TRUE: acquired (*ret_alive), or QEMU is gone and the guest is locked (!*ret_alive). FALSE:
 * neither can be said. */
gboolean checkpoint_acquire (Guest *guest, gboolean *ret_alive, GError **error);
