/* Where a block copy goes, as libvirt says it: <disk type='file'><source file=''/><driver
 * type=''/></disk>. */
#pragma once
#include <glib.h>

typedef struct {
    char *path;   /* absolute */
    char *format; /* "": that of the disk's own image */
    gboolean is_block;
} CopyDef;

void copy_def_clear (CopyDef *def);
/* What else a definition of a disk says (cache, target, address) has no meaning here and is passed
 * over, as libvirt does. */
gboolean copy_def_parse (const char *text, CopyDef *ret_def, GError **error);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (CopyDef, copy_def_clear)
