/* The verbs that every driver's plans share: files, sockets and certificates of this host. */
#pragma once
#include <sys/stat.h>
#include "job/run.h"

extern const RunVerb file_verbs[]; /* ended by one without a name */
/* Does a QEMU (or qemu-img) have this image open? TRUE also when that cannot be told. */
gboolean run_file_in_use (const char *path);
gboolean run_is_same_file (const char *path, const struct stat *st);
