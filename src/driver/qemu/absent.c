/* Stands in for calls of the table that are not there yet; the real ones take precedence. */
#include <glib/gi18n-lib.h>
#include "driver/qemu/local.h"
#define ABSENT(name) __attribute__ ((weak)) gboolean name (Guest *guest, const void *args, void *ret, GError **error) \
    { return error_set (error, BAK_ERROR_NOT_SUPPORTED, "%s", #name); }
ABSENT (local_checkpoint_create)
ABSENT (local_checkpoint_xml)
ABSENT (local_checkpoint_list)
ABSENT (local_checkpoint_children)
ABSENT (local_checkpoint_lookup)
ABSENT (local_checkpoint_delete)
ABSENT (local_checkpoint_check)
