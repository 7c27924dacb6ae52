/* The structs of a backup, and the one way from text to them. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "conf/backup_xml.h"
#include "conf/strings.h"
#include "util/error.h"

#define DISK(member) offsetof (BackupDiskDef, member)

static const gsize disk_strings[] = {
    DISK (name),   DISK (incremental), DISK (exportname),    DISK (exportbitmap),
    DISK (format), DISK (compression), DISK (backing),       DISK (index),
    DISK (state),  DISK (compat),      DISK (preallocation), DISK (subformat),
};

static const gsize server_strings[] = {
    offsetof (ServerDef, name),    offsetof (ServerDef, socket),  offsetof (ServerDef, fdgroup),
    offsetof (ServerDef, tls_dir), offsetof (ServerDef, tls_psk),
};

static const gsize backup_strings[] = { offsetof (BackupDef, incremental),
                                        offsetof (BackupDef, series),
                                        offsetof (BackupDef, scratch_dir) };

ServerDef *server_def_new (ServerTransport transport)
{
    ServerDef *server = g_new0 (ServerDef, 1);

    server->transport = transport;
    return server;
}

void server_def_free (ServerDef *server)
{
    if (!server)
        return;
    strings_free (server, server_strings, G_N_ELEMENTS (server_strings));
    g_free (server);
}

ServerDef *server_def_copy (const ServerDef *server)
{
    if (!server)
        return NULL;
    ServerDef *copy = g_memdup2 (server, sizeof *server);
    strings_dup (copy, server_strings, G_N_ELEMENTS (server_strings));
    return copy;
}

BackupDiskDef *backup_disk_def_new (const char *name)
{
    BackupDiskDef *disk = g_new0 (BackupDiskDef, 1);

    disk->name = g_strdup (name);
    return disk;
}

void backup_disk_def_free (BackupDiskDef *disk)
{
    if (!disk)
        return;
    strings_free (disk, disk_strings, G_N_ELEMENTS (disk_strings));
    store_def_free (disk->target);
    store_def_free (disk->scratch);
    g_free (disk);
}

BackupDiskDef *backup_disk_def_copy (const BackupDiskDef *disk)
{
    if (!disk)
        return NULL;
    BackupDiskDef *copy = g_memdup2 (disk, sizeof *disk);
    strings_dup (copy, disk_strings, G_N_ELEMENTS (disk_strings));
    copy->target = store_def_copy (disk->target);
    copy->scratch = store_def_copy (disk->scratch);
    return copy;
}

BackupDef *backup_def_new (void)
{
    BackupDef *def = g_new0 (BackupDef, 1);

    def->disks = g_ptr_array_new_with_free_func ((GDestroyNotify) backup_disk_def_free);
    return def;
}

void backup_def_free (BackupDef *def)
{
    if (!def)
        return;
    strings_free (def, backup_strings, G_N_ELEMENTS (backup_strings));
    server_def_free (def->server);
    g_ptr_array_unref (def->disks);
    g_free (def);
}

BackupDef *backup_def_copy (const BackupDef *def)
{
    if (!def)
        return NULL;
    BackupDef *copy = g_memdup2 (def, sizeof *def);
    strings_dup (copy, backup_strings, G_N_ELEMENTS (backup_strings));
    copy->server = server_def_copy (def->server);
    copy->disks = g_ptr_array_new_with_free_func ((GDestroyNotify) backup_disk_def_free);
    for (guint i = 0; i < def->disks->len; i++)
        g_ptr_array_add (copy->disks, backup_disk_def_copy (def->disks->pdata[i]));
    return copy;
}

/* Enumerations whose 0 is "not said", as text */

static const char *word (const char *const *words, guint value)
{
    for (guint i = 1; value > 0 && words[i - 1]; i++)
        if (i == value)
            return words[i - 1];
    return NULL;
}

static gboolean find (const char *const *words, const char *text, guint *ret_value)
{
    for (guint i = 0; text && words[i]; i++)
        if (strcmp (words[i], text) == 0) {
            *ret_value = i + 1;
            return TRUE;
        }
    return FALSE;
}

const char *sync_mode_to_string (SyncMode mode)
{
    return word (words_sync, mode);
}

gboolean sync_mode_from_string (const char *text, SyncMode *ret_mode)
{
    guint value;
    gboolean found = find (words_sync, text, &value);

    if (found)
        *ret_mode = value;
    return found;
}

const char *protect_to_string (Protect protect)
{
    return word (words_protect, protect);
}

gboolean protect_from_string (const char *text, Protect *ret_protect)
{
    guint value;
    gboolean found = find (words_protect, text, &value);

    if (found)
        *ret_protect = value;
    return found;
}

const char *instant_to_string (Instant instant)
{
    return word (words_instant, instant);
}

const char *fallback_to_string (Fallback fallback)
{
    return word (words_fallback, fallback);
}

gboolean fallback_from_string (const char *text, Fallback *ret_fallback)
{
    guint value;
    gboolean found = find (words_fallback, text, &value);

    if (found)
        *ret_fallback = value;
    return found;
}

/* Parsing */

gboolean backup_read_disks (const xmlNode *node, BackupDef *def, ReadDisk read_disk, GError **error)
{
    static const char *const names[] = { "disk*", NULL };
    static const XmlAttr no_attributes[] = { { NULL } };

    if (!node)
        return TRUE;
    if (!xml_read_attrs (node, no_attributes, _("here"), NULL, error)
        || !xml_check_children (node, names, _("here"), error))
        return FALSE;
    if (!xml_child (node, "disk"))
        return xml_error (node, error,
                          _("expected at least one <disk>, or no <disks> to back up every disk"));
    def->has_disks = TRUE;
    for (const xmlNode *child = xml_child (node, "disk"); child; child = xml_next (child, "disk")) {
        BackupDiskDef *disk = backup_disk_def_new (NULL);
        g_ptr_array_add (def->disks, disk);
        if (!read_disk (child, def->mode, disk, error))
            return FALSE;
    }
    return TRUE;
}
