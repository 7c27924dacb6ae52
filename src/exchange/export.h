/* point-export: a point as one stream, for other tools. */
#pragma once
#include <libbackup/repository.h>
#include "repository/repository.h"

/* INEXACT: the point is damaged; what was written then is not whole. */
gboolean export_point (Point *point, const BakPointExportOptions *options, GError **error);
