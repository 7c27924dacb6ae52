/* Names are checked before they become paths. */
#include <errno.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include "job/entries.h"
#include "util/files.h"
#include "util/json.h"

enum { RECORD_SIZE_MAX = 64 * 1024 * 1024 };

char *entry_path (const char *dir, const char *kind, const char *name)
{
    g_autofree char *file = g_strconcat (name, ".json", NULL);
    return g_build_filename (dir, kind, file, NULL);
}

char *entry_name (const char *file)
{
    return g_str_has_suffix (file, ".json") && file[0] != '.'
               ? g_strndup (file, strlen (file) - strlen (".json"))
               : NULL;
}

gboolean make_folder (const char *dir, const char *kind, GError **error)
{
    g_autofree char *path = g_build_filename (dir, kind, NULL);

    if (g_file_test (path, G_FILE_TEST_IS_DIR))
        return TRUE;
    return files_make_dir (path, 0700, error) && files_fsync_parent (path, error);
}

JsonNode *read_entry (const char *path, JsonObject **ret_object, GError **error)
{
    g_autofree char *text = NULL;
    gsize length = 0;

    if (!files_read (path, RECORD_SIZE_MAX, &text, &length, error))
        return NULL;
    JsonNode *node = json_read_object (text, length, ret_object, error);
    if (!node)
        error_note (error, _("'%s' is damaged"), path);
    return node;
}
