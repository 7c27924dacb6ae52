/* point-restore: from a point to files and devices, proved by its tree on the way. */
#pragma once
#include "repository/target.h"

/* INEXACT: the point is damaged, with the disk and the range; EXISTS, BUSY: a target is not to be
 * written. New files appear under their names only when they are whole and proved; one that was
 * interrupted is taken up again where its leaves are right already. */
gboolean restore_point (Point *point, const BakPointRestoreOptions *options, TargetAllow allow,
                        GError **error);
