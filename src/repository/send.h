/* point-copy to another host, by ssh alone: the files of a point go as they lie here, to where its
 * images stand on the same points. */
#pragma once
#include "repository/repository.h"

/* *ret_sent: bytes that went over. The oldest first. */
gboolean send_point (Point *point, const char *url, const BakPointCopyOptions *options,
                     gboolean *ret_copied, guint64 *ret_sent, GError **error);
