/* point-verify: everything that a restore would read is read and compared with the tree. */
#pragma once
#include "repository/repository.h"

/* INEXACT names the first damaged places of each disk and file; what was found is remembered with
 * the point, where the repository can be written. */
gboolean verify_point (Point *point, const BakPointVerifyOptions *options, GError **error);
