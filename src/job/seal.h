/* What shows that an image is the one that a checkpoint was made on, as it was then and with all
 * that was written since. In the transaction that makes a checkpoint's bitmap, a second bitmap is
 * made beside it on each disk: its seal. Its name has a random token, which the record keeps:
 * another image, or the same one at another instant, has none of that name. It records the same
 * writes with the same granularity, so a checkpoint's bitmap that shows less was cleared, stopped
 * for a while or made anew. Its end is a third bitmap, which does not record: it has the disk's
 * last sector set, and is clear once the disk has been smaller. Pure: nothing here asks QEMU or
 * reads a file. */
#pragma once
#include "job/checkpoint.h"
#include "job/record.h"

/* Sixteen random hex digits, new for each checkpoint. Caller frees. */
char *seal_new_token (void);
/* Of one disk of a checkpoint: the images of one checkpoint have seals that differ. Caller frees.
 */
char *seal_name (const char *token, const char *checkpoint, const char *disk);
/* Its other half, which has the disk's last sector set and does not record. Caller frees. */
char *seal_end_name (const char *seal);
gboolean seal_is_end (const char *bitmap);
gboolean seal_is_name (const char *bitmap);
/* Made beside a bitmap of that name, by what the seal's name says. */
gboolean seal_is_beside (const char *seal, const char *bitmap);

/* A bitmap as it was found. */
typedef struct {
    gboolean there;
    gboolean inconsistent;
    gboolean has_count; /* a stored bitmap does not tell it */
    guint64 count;      /* bytes */
} SealBitmap;

/* The disk was made smaller since, whatever size it has now. */
gboolean seal_end_is_cut (const CheckpointDisk *recorded, const SealBitmap *end);
/* Why the image is not what the checkpoint was made on, or its bitmap not what it was made for;
 * NULL: nothing speaks against it. recorded bears a seal; end: looked at if that has one. Caller
 * frees. */
char *seal_broken (const CheckpointDisk *recorded, const SealBitmap *bitmap, const SealBitmap *seal,
                   const SealBitmap *end);
/* What a person is told of a disk whose checkpoint was made without. Caller frees. */
char *seal_missing_note (const char *disk, const char *checkpoint);
