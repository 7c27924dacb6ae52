/* Points go: by name, or because no rule keeps them. */
#pragma once
#include <libbackup/repository.h>
#include "repository/repository.h"
#include "repository/retention.h"

/* The one that is named; pinned: ACCESS_DENIED. func may be NULL. */
gboolean remove_point (Point *point, const BakPointRemoveOptions *options, GError **error);
/* All points of a guest (NULL: of each) that no rule keeps; every point is told of. A point that is
 * in use stays and is told so. */
gboolean remove_pruned (Repository *repository, const char *guest, const Keep *keep,
                        const BakPointRemoveOptions *options, GError **error);
