/* Durable records of checkpoints: DIR/checkpoints/NAME.json, as those of jobs. */
#pragma once
#include <json-glib/json-glib.h>
#include "job/chain.h"
#include "util/error.h"

/* A promoted checkpoint. */
typedef struct {
    char *disk;   /* target */
    char *node;   /* node-name at the time it was made */
    char *file;   /* image file that bears the bitmap */
    char *bitmap; /* = the checkpoint's name */
    gboolean persistent;
    guint64 size; /* of the disk then, bytes */
    guint64 granularity;
    /* the disk was seen smaller since: what was cut off is in no bitmap, even if the disk has grown
     * back */
    gboolean shrunk;
    /* the file that the backup of this instant was pushed into; NULL: not a file, or not known */
    char *backup;
    /* tells it from every other file, also from one that takes its name or its inode; NULL: cannot
     * be told */
    char *backup_id;
    char *backup_chain; /* chain_seal() of it when it was done; NULL: not known */
    char *layers;       /* chain_seal_below() of the image then; NULL: not known */
    char *image;        /* files_id() of file then, where no seal is; NULL: not known */
    char *data;         /* chain_data_id() of its external data file; NULL: not known */
    gboolean guarded;   /* the seal has an end, which a disk that is made smaller clears */
    char *seal; /* name of the bitmap that shows that the image is this one; NULL: not sealed */
} CheckpointDisk;

typedef struct {
    char *name, *parent, *description; /* parent, description: NULL when absent */
    gint64 created;                    /* seconds */
    gint64 sequence;                   /* order of creation */
    char *job;                         /* the backup that it was made with; NULL */
    char *series;                      /* 2016 <branch>; NULL */
    char *domain_uuid;
    GPtrArray *disks;     /* CheckpointDisk* */
    gboolean provisional; /* not recorded: of the backup that runs now */
} Checkpoint;

Checkpoint *checkpoint_new (const char *name);
void checkpoint_free (Checkpoint *checkpoint);
CheckpointDisk *checkpoint_disk_new (const char *disk);
CheckpointDisk *checkpoint_disk_copy (const CheckpointDisk *disk);
void checkpoint_disk_free (CheckpointDisk *disk);
/* The file that the backup of this instant was pushed into; no absolute path (or NULL): not a file.
 */
void checkpoint_disk_set_backup (CheckpointDisk *disk, const char *path);
/* Opens it with all that lies below it, as its reader will, and notes how it was left. */
gboolean checkpoint_disk_seal_backup (CheckpointDisk *disk, ChainEnd end, GError **error);
/* Whoever looks at the disks puts down those that are smaller than at a checkpoint: QEMU forgets it
 * when they grow back. size_of: bytes of the disk of that name, 0 when it is not there. */
gboolean checkpoints_see_sizes (const char *dir, GPtrArray *all,
                                guint64 (*size_of) (const char *disk, gconstpointer data),
                                gconstpointer data, GError **error);
gboolean checkpoint_save (const char *dir, const Checkpoint *checkpoint, GError **error);
Checkpoint *checkpoint_load (const char *dir, const char *name, GError **error);
/* In order of creation (parents first). */
GPtrArray *checkpoint_load_all (const char *dir, GPtrArray *damaged);
/* The checkpoint made after that sequence number whose backup was written into this file: what lies
 * there now is of no earlier one. NULL. */
const Checkpoint *checkpoint_later_in_file (GPtrArray *all, gint64 sequence, const char *file);
/* The name of the next checkpoint of a series: SERIES.NUMBER, a number that none of them has had.
 */
char *checkpoint_next_in_series (GPtrArray *all, const char *series);
gboolean checkpoint_remove (const char *dir, const char *name, GError **error);
gboolean checkpoint_exists (const char *dir, const char *name);
/* Its bitmaps stay: what is known of its disks is kept aside for the day that it is defined again.
 * Saving one of that name drops it. */
gboolean checkpoint_forget (const char *dir, const char *name, GError **error);
/* A damaged record, out of the way but not lost. */
gboolean checkpoint_set_aside (const char *dir, const char *name, GError **error);
Checkpoint *checkpoint_load_forgotten (const char *dir, const char *name); /* NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Checkpoint, checkpoint_free)
