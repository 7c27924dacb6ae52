/* One disk of a point, opened to be read and proved: the sizes of all files of its chain have been
 * compared with what is recorded (a truncated image reads zeros without an error). */
#pragma once
#include "mover/leaves.h"
#include "mover/storage.h"
#include "repository/repository.h"

typedef struct {
    const ManifestDisk *disk; /* of the point, which is kept */
    Point *point;
    GPtrArray *layers;    /* PointLayer, its own first */
    StorageLayer *images; /* the same for a storage daemon */
    LeafHash root;        /* of the manifest */
    LeavesView *view;     /* NULL: the files of leaves do not lead to the root, see flaw */
    GError *flaw;
} Reading;

/* NO_DISK, INEXACT. */
Reading *reading_open (Point *point, const char *target, GError **error);
void reading_free (Reading *reading);
/* A storage daemon that exports it read-only under its target's name, to one connection. */
Storage *reading_serve (const Reading *reading, GError **error);
/* The targets that are meant: all of the point, or those named, each once, in the point's order.
 * Returns const char *, NULL-terminated; NO_DISK names one that the point does not have. */
GPtrArray *reading_targets (const Point *point, const char *const *disks, GError **error);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Reading, reading_free)
