/* Files of leaves (DISK.leaves): which leaves of a disk a point has changed, and their hashes. A
 * chain of them, newest first, is a view of all the leaves of a disk.
 *
 * The file, numbers big-endian:
 *   8 bytes "bakleaf1" | 4 leaf size | 4 zero | 8 size of the disk | 8 count of records
 *   records of 40 bytes, ascending: 8 (index << 16 | leaves in this run - 1) | 32 hash
 *   32 SHA-256 of all before
 *
 * What is read is not trusted: every number is checked, memory is bounded, whatever the size. Not
 * thread-safe: one thread at a time an object. */
#pragma once
#include "mover/tree.h"

#define LEAVES_ANY_SIZE G_MAXUINT64
enum { LEAVES_HEADER_SIZE = 32, LEAVES_RECORD_SIZE = 40, LEAVES_RUN_MAX = 65536 };

/* Writing */

typedef struct LeavesWriter LeavesWriter;
/* A new file (EXISTS when there is one) for a disk of this size. */
LeavesWriter *leaves_writer_new (const char *path, guint64 size, GError **error);
/* Ascending; neighbours of the same hash become one run. */
gboolean leaves_writer_add (LeavesWriter *writer, guint64 index, guint64 count,
                            const LeafHash *hash, GError **error);
/* Header, digest, fsync of the file (the directory is the caller's). Without it the file is none.
 */
gboolean leaves_writer_finish (LeavesWriter *writer, GError **error);
/* What its writer, who died, left of a file becomes a whole file: the records that stand there in
 * order. *ret_end: the leaf behind the last of them. What they say is to be compared with the
 * image: neither was flushed in step with the other. */
gboolean leaves_salvage (const char *path, guint64 size, guint64 *ret_end, GError **error);
/* Goes on with such a file at leaf end, forgetting what it says from there on. */
LeavesWriter *leaves_writer_resume (const char *path, guint64 size, guint64 end, GError **error);
/* Leaves that were added so far. */
guint64 leaves_writer_count (const LeavesWriter *writer);
void leaves_writer_free (LeavesWriter *writer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (LeavesWriter, leaves_writer_free)

/* size: of its disk. One file: header, order, bounds and digest; reads all of it. INEXACT: damaged.
 */
gboolean leaves_check (const char *path, guint64 size, GError **error);

/* A view of a chain */

typedef struct {
    guint64 index;
    guint64 count;
    guint layer; /* which file says so, 0 the newest; the count of files: none, it reads as zeros */
    gboolean known; /* FALSE: no hash (a last leaf that was shorter in a lower layer): is to be
                       taken as different from everything */
    LeafHash hash;
} LeafRun;

typedef struct LeavesView LeavesView;
/* paths: newest first, NULL-terminated; the last is of a full point. size: of the disk as it is
 * looked at. key: of the leaves, borrowed while the view is there; NULL: none. What lies beyond the
 * end of a lower layer reads as zeros, as the image does. */
LeavesView *leaves_view_open (const char *const *paths, guint64 size, const LeafKey *key,
                              GError **error);
void leaves_view_free (LeavesView *view);
guint64 leaves_view_size (const LeavesView *view);
const LeafKey *leaves_view_key (const LeavesView *view);
/* Something could not be said because the key is not known (it is what lies beyond the end of a
 * lower layer). */
gboolean leaves_view_was_blind (const LeavesView *view);
/* The run that begins at index: at least one leaf; quick for ascending indexes, right for any.
 * INEXACT when the chain has a gap or is damaged. */
gboolean leaves_view_get (LeavesView *view, guint64 index, LeafRun *ret_run, GError **error);
/* The root of all leaves; INEXACT when one is not known. */
gboolean leaves_view_root (LeavesView *view, LeafHash *ret_root, GError **error);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (LeavesView, leaves_view_free)

/* A set of leaves: one bit each. */

typedef struct LeafSet LeafSet;
LeafSet *leaf_set_new (guint64 size);
void leaf_set_free (LeafSet *set);
void leaf_set_add (LeafSet *set, guint64 index, guint64 count);
gboolean leaf_set_has (const LeafSet *set, guint64 index);
guint64 leaf_set_count (const LeafSet *set);
/* The first run of members at or behind index; FALSE: none. */
gboolean leaf_set_next (const LeafSet *set, guint64 index, guint64 *ret_index, guint64 *ret_count);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (LeafSet, leaf_set_free)
