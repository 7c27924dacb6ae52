/* One disk on its way from the export of a backup into a repository: a new image on top of its
 * base's, the file of its leaves, and the test of what changed-block tracking said. */
#pragma once
#include "mover/mover.h"
#include "mover/storage.h"
#include "repository/repository.h"

typedef struct {
    /* what is wanted; borrowed */
    const char *target;
    guint64 size;
    MoverSource source;
    const StorageImage *from; /* what source.fd is to be connected to, once the new image is there:
                                 a daemon waits ten seconds for its client; NULL: source is all */
    const char *bitmap;       /* read what this exported bitmap marks; NULL: everything */
    Repository *repository;
    Point *base;             /* compared with this point; NULL: none */
    const char *dir;         /* of the new point */
    const char *file;        /* image's name in it */
    const char *compression; /* "none", "zstd" */
    guint samples;
    gboolean refuse_fallback; /* a lie of tracking is an error */
    gboolean resume;          /* a dead run read of the same export into the same files */
    MoverControl *control;
    void (*progress) (guint64 done, guint64 total, gpointer data);
    gpointer data; /* of progress */

    /* what became of it; owned */
    ManifestDisk *manifest;
    PlacementDisk *storage;
    char *warning; /* NULL: nothing to say */
} DiskCopy;

/* Blocks; one thread a disk. Errors name the disk. */
gboolean disk_copy_run (DiskCopy *copy, GError **error);
void disk_copy_clear (DiskCopy *copy);
