/* What `qemu-img` says of an image file. The file may have been written by a guest: everything is checked. */
#pragma once
#include "util/error.h"

typedef struct { char *name; guint64 granularity; gboolean in_use, recording; } ImageBitmap;

typedef struct {
    char *file;
    char *format;               /* "qcow2", "raw", ... */
    char *backing;              /* full name of the backing file; NULL */
    guint64 virtual_size, actual_size, cluster_size;
    guint depth;                /* files below this one */
    gboolean encrypted, corrupt;
    GPtrArray *bitmaps;         /* ImageBitmap*; never NULL */
} ImageInfo;

/* Opens file as format (NULL: what QEMU takes it for), without locking it, and its backing chain. A file that is not there, not
 * to be read, encrypted or of a format that is not known here is an error that names it. */
ImageInfo *image_probe (const char *file, const char *format, GError **error);
void image_info_free (ImageInfo *info);
gboolean image_format_known (const char *format);
/* Runs qemu-img with these arguments (NULL-terminated); what it complains of is the error. */
gboolean image_tool (const char *const *args, char **ret_output, GError **error);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (ImageInfo, image_info_free)
