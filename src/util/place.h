/* Where bytes lie: whether to write to one file or device is to change what another one holds. By
 * what was opened, never by names: links, device nodes and bind mounts are many names of one place.
 */
#pragma once
#include <sys/stat.h>
#include <glib.h>

/* The same file, or the same device under any node. */
gboolean place_is_same (const struct stat *one, const struct stat *other);
/* The same, or one lies on the other: a partition and its disk, a mapped device and what it is made
 * of, a loop device and its file, a file and the device that its file system is on. Two partitions
 * of a disk, or two files on one file system, do not overlap. */
gboolean place_overlaps (const struct stat *one, const struct stat *other);
