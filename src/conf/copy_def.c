/* <disk> of a block copy: text to struct. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "conf/copy_def.h"
#include "conf/xml.h"
#include "util/error.h"

static const char *const words_type[] = { "file", "block", NULL };

void copy_def_clear (CopyDef *def)
{
    g_clear_pointer (&def->path, g_free);
    g_clear_pointer (&def->format, g_free);
}

static gboolean read_source (const xmlNode *disk, CopyDef *def, GError **error)
{
    const char *attribute = def->is_block ? "dev" : "file";
    const xmlNode *source = xml_child (disk, "source");
    g_autofree char *path = source ? xml_get (source, attribute) : NULL;

    if (!path)
        return xml_error (disk, error, _("expected <source %s=''/>"), attribute);
    if (xml_child (source, "encryption"))
        return xml_error (source, error, _("a block copy cannot be encrypted"));
    if (!g_path_is_absolute (path) || strlen (path) > XML_PATH_MAX)
        return xml_error_value (source, attribute, path, error, _("expected an absolute path"));
    def->path = g_steal_pointer (&path);
    return TRUE;
}

gboolean copy_def_parse (const char *text, CopyDef *ret_def, GError **error)
{
    g_autoptr (xmlDoc) doc = xml_read (text, "disk", error);
    const xmlNode *disk = doc ? xml_root (doc) : NULL;
    g_auto (CopyDef) def = { 0 };

    if (!disk)
        return FALSE;
    g_autofree char *type = xml_get (disk, "type");
    if (type && !g_strv_contains (words_type, type))
        return xml_error_value (disk, "type", type, error, _("expected file or block"));
    def.is_block = g_strcmp0 (type, "block") == 0;
    const xmlNode *driver = xml_child (disk, "driver");
    def.format = driver ? xml_get (driver, "type") : NULL;
    if (!def.format)
        def.format = g_strdup ("");
    if (!read_source (disk, &def, error))
        return FALSE;
    *ret_def = def;
    memset (&def, 0, sizeof def);
    return TRUE;
}
