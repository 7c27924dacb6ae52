/* point-serve: the disks of a point over NBD, without restoring. */
#pragma once
#include "repository/repository.h"

/* Serves until it is cancelled, nobody has been connected for the idle time, or its storage daemon
 * ends. */
gboolean serve_point (Point *point, const BakPointServeOptions *options, GError **error);
