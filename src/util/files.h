/* Files that must survive a crash. */
#pragma once
#include <gio/gio.h>

/* mkdir -p with this mode for what is new. */
gboolean files_make_dir (const char *path, int mode, GError **error);
/* What a name ends in that is not renamed yet: its writer is at it, or was killed. */
#define FILES_UNFINISHED_SUFFIX ".tmp"
/* Writes to a temporary name beside it, fsync, rename, fsync of the directory: all or nothing. */
gboolean files_write_atomic (const char *path, const char *data, gssize length, int mode,
                             GError **error);
/* The same without the syncs: all or nothing for readers and after the death of the process, but
 * not after that of the host. */
gboolean files_replace (const char *path, const char *data, gssize length, int mode,
                        GError **error);
/* Reads a file of at most max bytes (0: 16 MiB). */
gboolean files_read (const char *path, gsize max, char **ret_data, gsize *ret_length,
                     GError **error);
gboolean files_fsync (const char *path, GError **error); /* file or directory */
gboolean files_fsync_parent (const char *path, GError **error);
/* flock (LOCK_EX) of path, made when missing. wait_ms 0: at once. Returns the fd (held until
 * closed), or -1 with BAK_ERROR_BUSY when another process has it. */
int files_lock (const char *path, guint wait_ms, GError **error);
gboolean files_is_locked (const char *path);
/* rm -rf: follows no link, stays on the file system. What cannot be removed is left; nothing there
 * is no error. */
void files_remove_tree (const char *path);
/* The same file or device (after links); FALSE when one of them is not there. */
gboolean files_same (const char *one, const char *other);
/* Device, inode and birth of a file, which stay with it wherever it is moved to, and which no other
 * file has had; NULL: not there, no regular file, or its birth is not known. Caller frees. */
char *files_id (const char *path);
/* Of the same file, whatever number its device has now. NULL is like nothing. */
gboolean files_id_same (const char *one, const char *other);
/* As virsh domblkinfo has them: physical is the length of the file or device, allocation what of it
 * is in use. actual: what QEMU says is in use, where it does; both are it for what we do not see.
 */
void files_sizes (const char *path, gboolean has_actual, guint64 actual, guint64 *ret_allocation,
                  guint64 *ret_physical);
