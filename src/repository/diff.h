/* point-diff: which places of a disk two points of one guest have different, by their leaves: no
 * data is read. */
#pragma once
#include "repository/repository.h"

/* before NULL: the point before this one in the guest's order; when there is none, all that is not
 * zero has changed. */
gboolean diff_points (Point *point, Point *before, BakPointDiffFunc function, void *opaque,
                      GError **error);
