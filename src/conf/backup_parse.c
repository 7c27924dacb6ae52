/* <domainbackup>: text to a BackupDef, in whichever dialect it is; what no dialect may say twice.
 */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "conf/backup_xml.h"
#include "util/error.h"

/* Takes key. FALSE and an error when another disk has it. */
static gboolean claim (GHashTable *taken, char *key, const BackupDiskDef *disk, const char *what,
                       GError **error)
{
    const BackupDiskDef *first = g_hash_table_lookup (taken, key);

    if (!first) {
        g_hash_table_insert (taken, key, (gpointer) disk);
        return TRUE;
    }
    g_autofree char *shown = text_sanitize (key, 200), *name = text_sanitize (disk->name, 128),
                    *other = text_sanitize (first->name, 128);
    g_free (key);
    return error_set (error, BAK_ERROR_XML,
                      _("line %u: <disk name='%s'>: %s '%s' is given twice, first for disk '%s' "
                         "in line %u; expected another one"),
                      disk->line, name, what, shown, other, first->line);
}

/* The same file by the same key, however many slashes it is written with. */
static char *path_key (const char *path)
{
    while (path[0] == '/' && path[1] == '/')
        path++;
    return g_canonicalize_filename (path, "/");
}

static gboolean claim_store (GHashTable *taken, const StoreDef *store, const BackupDiskDef *disk,
                             GError **error)
{
    return !store
           || claim (taken,
                     store->type == STORE_NETWORK ? store_def_describe (store)
                                                  : path_key (store->path),
                     disk, _("the target or scratch"), error);
}

/* Each disk once, each file for one disk only, each export under its own name. */
static gboolean check_duplicates (const BackupDef *def, GError **error)
{
    g_autoptr (GHashTable) names = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr (GHashTable) stores = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr (GHashTable) exports = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);

    for (guint i = 0; i < def->disks->len; i++) {
        const BackupDiskDef *disk = def->disks->pdata[i];
        gboolean own_scratch = disk->scratch && !store_def_is_directory (disk->scratch);
        if (!claim (names, g_strdup (disk->name), disk, _("the disk"), error)
            || !claim_store (stores, disk->target, disk, error)
            || (own_scratch && !claim_store (stores, disk->scratch, disk, error)))
            return FALSE;
        if (def->mode == BACKUP_MODE_PULL && disk->backup != TRISTATE_NO
            && !claim (exports, g_strdup (disk->exportname ? disk->exportname : disk->name), disk,
                       _("the export"), error))
            return FALSE;
    }
    for (guint i = 0; i < def->disks->len; i++) {
        const BackupDiskDef *disk = def->disks->pdata[i];
        if (disk->backing
            && !claim (stores, path_key (disk->backing), disk,
                       _("the <backing> file, a target or scratch"), error))
            return FALSE;
    }
    return TRUE;
}

BackupDef *backup_def_parse (const char *xml, GError **error)
{
    g_autoptr (xmlDoc) doc = xml_read (xml, "domainbackup", error);
    g_autoptr (BackupDef) def = backup_def_new ();

    if (!doc)
        return NULL;
    const xmlNode *root = xml_root (doc);
    if (!backup_choose_dialect (root, &def->dialect, error))
        return NULL;
    gboolean (*read) (const xmlNode *, BackupDef *, GError **) =
        def->dialect == DIALECT_2016 ? backup_read_2016 : backup_read_modern;
    if (!read (root, def, error) || !check_duplicates (def, error))
        return NULL;
    return g_steal_pointer (&def);
}
