/* What `qemu-img` says of an image file. The file may have been written by a guest: everything is
 * checked. */
#pragma once
#include <json-glib/json-glib.h>
#include "util/image_tool.h"

typedef struct {
    char *name;
    guint64 granularity;
    gboolean in_use, recording;
} ImageBitmap;

typedef struct {
    char *file;
    char *format;  /* "qcow2", "raw", ... */
    char *backing; /* full name of the backing file; NULL */
    guint64 virtual_size, actual_size, cluster_size;
    guint depth; /* files below this one */
    gboolean encrypted, corrupt;
    GPtrArray *bitmaps; /* ImageBitmap*; never NULL */
} ImageInfo;

/* Opens file as format (NULL: what QEMU takes it for), without locking it, and its backing chain. A
 * file that is not there, not to be read, encrypted or of a format that is not known here is an
 * error that names it. */
ImageInfo *image_probe (const char *file, const char *format, GError **error);
/* What `qemu-img info` says of the image and of all that is below it, as an array; opened as above.
 */
JsonNode *image_ask (const char *file, const char *format, GError **error);
void image_info_free (ImageInfo *info);
gboolean image_format_known (const char *format);
/* Removes a persistent bitmap from an image that no QEMU has open (qemu-img bitmap --remove).
 * Absent: TRUE. */
gboolean image_bitmap_remove (const char *file, const char *format, const char *bitmap,
                              GError **error);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (ImageInfo, image_info_free)
