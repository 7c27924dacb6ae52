/* What the first bytes of a file say it is: enough to refuse it before anybody opens it as an
 * image. */
#pragma once
#include <glib.h>

typedef struct {
    const char *format; /* "qcow2", "vmdk", …; "raw": nothing that is known */
    gboolean encrypted;
    guint64 size; /* of the disk in it where the format is qcow2, else of the file or device */
} ImageHead;

/* FALSE: it cannot be read. */
gboolean image_head_read (int fd, ImageHead *ret);
