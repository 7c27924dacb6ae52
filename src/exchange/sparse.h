/* Data files of virtnbdbackup: a stream of frames, of which the first tells what it is.
 *
 *   frame   "data 0000000000010000 0000000000020000\r\n": kind, place on the disk, length
 *   meta    its JSON; data: the bytes, or LZ4 frames whose lengths stand behind the end; zero, stop
 */
#pragma once
#include "util/error.h"

typedef struct {
    guint64 size, data_size; /* of the disk; of all data frames */
    char *disk;
    char *checkpoint, *parent; /* NULL: none */
    char *date;
    gboolean compressed;
} SparseMeta;

gboolean sparse_read_meta (const char *path, SparseMeta *ret_meta, GError **error);
void sparse_meta_clear (SparseMeta *meta);
/* Writes it over the disk in fd. whole: it has to tell of every byte. INEXACT: damaged.
 * is_cancelled may set *error and be TRUE. */
gboolean sparse_apply (const char *path, const SparseMeta *meta, int fd, gboolean whole,
                       gboolean (*is_cancelled) (gpointer data, GError **error), gpointer data,
                       GError **error);
