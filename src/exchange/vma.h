/* VMA, the archive of Proxmox: one stream of a header and extents, written and read in one pass, so
 * that pipes do. Big-endian but for the lengths of blobs. Neither side knows of disks, files or
 * points; the nbdkit plug-in stands on the same writer.
 *
 *   header   12288 bytes, then the blob area: names and configurations
 *   extent   512 bytes, then up to 59 clusters of 65536 bytes of which only the blocks of 4096
 * bytes that are not zero are stored
 *
 * There is no checksum over data, no index and no end: an archive is whole when each cluster of
 * each device stands in it exactly once. Both sides count that by a bit a cluster. */
#pragma once
#include "util/error.h"

enum {
    VMA_BLOCK = 4096,
    VMA_CLUSTER = 65536,
    VMA_DEVICES = 254, /* numbered from 1 */
    VMA_CONFIGS = 256,
    VMA_BLOB_MAX = 65535,
    VMA_HEADER_MIN = 12288,
};

typedef struct {
    char *name;
    guchar *data;
    gsize length;
} VmaConfig;

typedef struct {
    char *name; /* NULL: there is no device of this number */
    guint64 size;
} VmaDevice;

typedef struct {
    guint8 uuid[16];
    gint64 ctime;       /* seconds since 1970 */
    gsize round;        /* writing: the header is made a multiple of it; 0: as short as it can be */
    GPtrArray *configs; /* VmaConfig */
    VmaDevice devices[VMA_DEVICES + 1]; /* [0] is none */
} VmaHeader;

VmaHeader *vma_header_new (void);
void vma_header_free (VmaHeader *header);
/* A copy of all of it. */
void vma_header_add_config (VmaHeader *header, const char *name, gconstpointer data, gsize length);
/* Number of the device, from 1. At most VMA_DEVICES. */
guint vma_header_add_device (VmaHeader *header, const char *name, guint64 size);
/* May it stand in an archive, and become a file's name in a folder? */
gboolean vma_name_is_safe (const char *name);
/* How many clusters a device of this size has; the bytes of one of them. */
guint64 vma_clusters (guint64 size);
gsize vma_cluster_length (guint64 size, guint64 cluster);

/* Writing */

typedef gboolean (*VmaWrite) (gconstpointer data, gsize length, gpointer user, GError **error);

typedef struct _VmaWriter VmaWriter;
/* Writes the header at once. The header is borrowed for as long as the writer is there. */
VmaWriter *vma_writer_new (const VmaHeader *header, VmaWrite write, gpointer user, GError **error);
/* In any order, each once. data NULL: zeros; else the cluster's bytes, of which those at the end of
 * the device may be fewer. A failure of the output is final: what is in a stream cannot be taken
 * back. */
gboolean vma_writer_cluster (VmaWriter *writer, guint device, guint64 cluster, const guchar *data,
                             GError **error);
/* The last extent; fails unless each cluster was written. */
gboolean vma_writer_end (VmaWriter *writer, GError **error);
void vma_writer_free (VmaWriter *writer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaHeader, vma_header_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (VmaWriter, vma_writer_free)

/* Reading. What is read is not trusted: memory is bounded by the header (64 MiB) and a bit for each
 * cluster of the sizes that it claims, which begin() may refuse. */

typedef struct {
    /* Reads up to length bytes; 0: the end; -1: *error. */
    gssize (*read) (gpointer buffer, gsize length, gpointer user, GError **error);
    /* The header, which is valid until vma_read() returns. */
    gboolean (*begin) (const VmaHeader *header, gpointer user, GError **error);
    /* A run of bytes of one cluster that are not all zero; what is not told of is zero. */
    gboolean (*data) (guint device, guint64 offset, const guchar *data, gsize length, gpointer user,
                      GError **error);
    /* NULL allowed; after each cluster: how many are done, of how many. FALSE: stop with *error. */
    gboolean (*progress) (guint64 done, guint64 total, gpointer user, GError **error);
} VmaHandler;

/* TRUE: the archive is whole, by every rule. INEXACT says what is wrong and where. */
gboolean vma_read (const VmaHandler *handler, gpointer user, GError **error);
