/* What the files of a merge share: merge.c (which way, the removal), merge-build.c (the new files),
 * merge-proof.c (their proof), merge-record.c (merge.json), merge-finish.c (what replaces what). */
#pragma once
#include "mover/storage.h"
#include "repository/merge.h"

#define MERGE_STAGE_PREFIX ".merge-"
#define MERGE_RECORD_FILE "merge.json"
#define MERGE_STORAGE_FILE "storage.json"

/* What merge.json says; the rest is in the stage: a directory a child, with its new files. */
typedef struct {
    char *goes;
    GPtrArray *children; /* char *: ids */
    GPtrArray *in_place; /* MergeInPlace: disks whose image becomes that of the child */
} MergeRecord;

typedef struct {
    char *child, *target;
    char *file, *leaves; /* of the point that goes */
    char *child_file;    /* of the child */
} MergeInPlace;

/* merge-record.c */
MergeRecord *merge_record_new (const char *goes);
void merge_record_free (MergeRecord *record);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (MergeRecord, merge_record_free)
char *merge_record_path (Repository *repository, const char *guest_uuid);
gboolean merge_record_write (const char *path, const MergeRecord *record, GError **error);
MergeRecord *merge_record_read (const char *path, GError **error); /* untrusted */

/* What is to be proved of an image that is to replace another. */
typedef struct {
    Repository *repository;
    const char *target;
    const ManifestDisk *manifest;
    const char *image, *leaves;
    const GPtrArray *layers; /* PointLayer: behind the first `skip` is what it stands on */
    guint skip;
    const LeafSet *only; /* what was written */
    MoverControl *control;
} MergeProof;

gboolean merge_is_plain (const PlacementDisk *disk); /* nothing in it is compressed */

/* merge-proof.c */
gboolean merge_size_of (const char *path, guint64 *ret_size, GError **error);
/* The leaves of a chain, with top instead of its first `skip` layers (NULL: of all of it). */
LeavesView *merge_open_leaves (const GPtrArray *layers, const char *top, guint skip, guint64 size,
                               const LeafKey *key, GError **error);
/* The same of the images; caller frees the array, what it names is borrowed. */
StorageLayer *merge_chain_of_images (const GPtrArray *layers, const char *top, const char *secret,
                                     guint skip, guint *ret_count);
/* The leaves agree with the manifest, and the image, through its new chain, with the leaves. */
gboolean merge_prove (const MergeProof *proof, GError **error);

/* merge-build.c */
gboolean merge_write_placement (const char *dir, const Placement *storage, GError **error);
Placement *merge_read_placement (const char *dir, GError **error);
/* Fills the stage with the new files of all children; the record of what is to replace what. */
MergeRecord *merge_prepare (Point *goes, const GPtrArray *plan, const char *stage,
                            MoverControl *control, GError **error);

/* merge-finish.c */
gboolean merge_finish (Repository *repository, const char *guest_uuid, const MergeRecord *record,
                       GError **error);
