/* What a qcow2 image says of itself, read without opening anything that it names. */
#pragma once
#include "util/error.h"

typedef struct {
    guint64 size;
    char *backing;        /* as it stands there; NULL: none */
    char *backing_format; /* NULL: not said */
} Qcow2;

/* FALSE and no error: it is no qcow2. INEXACT: it is cut off (QEMU reads zeros there and says
 * nothing), or marked as corrupt; NOT_SUPPORTED: its data lies in another file. */
gboolean qcow2_read (const char *path, Qcow2 *ret_image, GError **error);
void qcow2_clear (Qcow2 *image);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Qcow2, qcow2_clear)
