/* point-copy: a point, as it is, into another repository. */
#pragma once
#include <libbackup/repository.h>
#include "repository/repository.h"

/* Reads only what the newest older point of the target does not hold already; what is written is
 * proved. *ret_copied: FALSE when it was there. *ret_read: bytes that were read. */
gboolean copy_point (Point *point, Repository *to, const BakPointCopyOptions *options,
                     gboolean *ret_copied, guint64 *ret_read, GError **error);
