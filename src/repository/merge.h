/* Removal of a point that others stand on: what it holds and they need is merged into them.
 *
 * A child gets an image that stands on what was below the point that goes. Ways, for each disk:
 *   rewrite   a new image, filled from the old chain with the leaves of both; costs both
 *   reflink   a copy of the point's image that shares its blocks, filled with the child's leaves
 *   in place  the child is committed into the point's image itself
 * All but the last leave everything as it was until the new files are there and proved.
 *
 * Then merge.json in the guest's directory says what replaces what, and from there on the removal
 * is finished by whoever comes next, whatever dies: each step can be done again. */
#pragma once
#include "mover/mover.h"
#include "repository/repository.h"

typedef enum { MERGE_REWRITE, MERGE_REFLINK, MERGE_IN_PLACE } MergeWay;

const char *merge_way_name (MergeWay way);

/* One disk of a child of the point that goes. */
typedef struct {
    Point *child;
    char *target;
    MergeWay way;
    guint64 cost; /* bytes that are written, at most */
} MergeDisk;

/* What removing it takes: MergeDisk, empty when nothing stands on it. points: all of the guest. */
GPtrArray *merge_plan (Point *goes, const GPtrArray *points, GError **error);
/* The caller holds the guest's lock. BUSY when someone reads what is changed. */
gboolean merge_remove (Point *goes, const GPtrArray *points, MoverControl *control, GError **error);
/* Finishes what a dead process began; the caller holds the guest's lock. */
gboolean merge_recover (Repository *repository, const char *guest_uuid, GError **error);
/* Is there such a thing to finish? */
gboolean merge_is_pending (Repository *repository, const char *guest_uuid);
