/* Names that users give, and that become file names and names in QEMU. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "conf/names.h"
#include "util/error.h"

enum { NAME_MAX_BYTES = 200 };

static gboolean name_ok (const char *name)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    gsize length = name ? strlen (name) : 0;

    return length > 0 && length <= NAME_MAX_BYTES && name[0] != '.'
           && strspn (name, letters) == length;
}

gboolean checkpoint_name_check (const char *name, GError **error)
{
    g_autofree char *shown = text_sanitize (name, NAME_MAX_BYTES + 1);

    if (!name_ok (name))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("checkpoint name '%s': expected letters, digits, '_', '-', and '.' "
                             "except in front; at most %d of them"),
                          shown, NAME_MAX_BYTES);
    if (g_str_has_prefix (name, "bak-"))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("checkpoint name '%s': expected one that does not begin with 'bak-'"),
                          shown);
    return TRUE;
}
