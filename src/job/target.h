/* A target at the end of its copy: whether it is what was written. Somebody who may write there can
 * cut a file while QEMU writes it, and QEMU goes on behind the cut as if nothing had happened. Pure
 * looks: nothing is changed. */
#pragma once
#include "util/error.h"

/* Opens it from its name with all that lies below it, as its reader will. size: of the disk. */
gboolean target_check (const char *path, const char *format, guint64 size, GError **error);
/* FALSE with IO when a file that QEMU has written from end to end has a place of `gap` bytes or
 * more that nobody has written. TRUE also where the file system does not tell. */
gboolean target_is_whole (const char *path, guint64 gap, GError **error);
/* FALSE with IO when a file is shorter than the highest place that was written to. */
gboolean target_reaches (const char *path, guint64 highest, GError **error);
