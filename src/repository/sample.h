/* Which places of a disk are read again to test what changed-block tracking said of it: its ends,
 * then what lately changed and what holds data more than what never did. */
#pragma once
#include "mover/leaves.h"

/* view: all leaves as they should be now, the newest file (layer 0) those of this run, which were
 * just read and are left out; layer 1 those of its base. Returns at most count leaves; NULL and
 * *error when the view is damaged. */
LeafSet *sample_choose (LeavesView *view, guint count, GRand *random, GError **error);
