/* Where things stand in an archive: see vma.h. */
#pragma once
#include "exchange/vma.h"

enum {
    VMA_VERSION = 1,
    VMA_MD5 = 16,
    VMA_AT_UUID = 8,
    VMA_AT_CTIME = 24,
    VMA_AT_MD5 = 32,
    VMA_AT_BLOB_OFFSET = 48,
    VMA_AT_BLOB_SIZE = 52,
    VMA_AT_HEADER_SIZE = 56,
    VMA_AT_RESERVED = 60,
    VMA_AT_CONFIG_NAMES = 2044,
    VMA_AT_CONFIG_DATA = 3068,
    VMA_AT_RESERVED_2 = 4092,
    VMA_AT_DEVICES = 4096,
    VMA_DEVICE_SIZE = 32,
    VMA_HEADER_MAX = 64 * 1024 * 1024,

    VMA_EXTENT = 512, /* its header */
    VMA_EXTENT_AT_COUNT = 6,
    VMA_EXTENT_AT_UUID = 8,
    VMA_EXTENT_AT_MD5 = 24,
    VMA_EXTENT_AT_SLOTS = 40,
    VMA_SLOT = 8,
    VMA_SLOTS = 59,
    VMA_BLOCKS = VMA_CLUSTER / VMA_BLOCK,
};

static const guchar vma_magic[4] = { 'V', 'M', 'A', 0 };
static const guchar vma_extent_magic[4] = { 'V', 'M', 'A', 'E' };

/* MD5 over a header in which its own place is zero. */
void vma_md5 (guchar *header, gsize length, gsize at, guchar ret_md5[VMA_MD5]);

/* A bit for each cluster of each device. */
typedef struct {
    guint64 *bits[VMA_DEVICES + 1]; /* NULL: no such device */
    guint64 clusters[VMA_DEVICES + 1];
    guint64 total, done;
} VmaMap;

void vma_map_init (VmaMap *map, const VmaHeader *header);
void vma_map_clear (VmaMap *map);
/* FALSE: it was marked. */
gboolean vma_map_mark (VmaMap *map, guint device, guint64 cluster);
/* INEXACT unless all are marked: the first that is not. */
gboolean vma_map_is_whole (const VmaMap *map, const VmaHeader *header, GError **error);
