/* The pull-backup proposal of 2016: <address>, <branch>, <disk type='incremental'>, <source>,
 * <bitmap granularity>, present='no'. An <address> makes it a pull, and then <source> can only be
 * the scratch; without, <source> is where the copy goes. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "conf/backup_xml.h"
#include "util/error.h"

#define DISK(member) offsetof (BackupDiskDef, member)

static const char *const words_ip[] = { "ip", NULL };

static gboolean read_address (const xmlNode *node, BackupDef *def, GError **error)
{
    static const XmlAttr attrs[] = {
        { "type", XML_WORD, TRUE, XML_NOWHERE, words_ip },
        { "host", XML_HOST, TRUE, offsetof (ServerDef, name) },
        { "port", XML_UINT, TRUE, offsetof (ServerDef, port), .min = 1, .max = 65535 },
        { NULL },
    };

    if (!node)
        return TRUE;
    def->mode = BACKUP_MODE_PULL;
    def->server = server_def_new (SERVER_TCP);
    return xml_check_empty (node, error)
           && xml_read_attrs (node, attrs, _("here"), def->server, error);
}

static gboolean read_branch (const xmlNode *node, BackupDef *def, GError **error)
{
    static const XmlAttr attrs[] = { { "name", XML_NAME, TRUE, offsetof (BackupDef, series) },
                                     { NULL } };

    return !node
           || (xml_check_empty (node, error)
               && xml_read_attrs (node, attrs, _("here"), def, error));
}

static gboolean read_bitmap (const xmlNode *node, BackupDiskDef *disk, GError **error)
{
    static const XmlAttr attrs[] = {
        { "granularity", XML_SIZE_POWER, TRUE, DISK (granularity), .min = POWER_MIN,
          .max = POWER_MAX },
        { NULL },
    };

    return !node
           || (xml_check_empty (node, error)
               && xml_read_attrs (node, attrs, _("here"), disk, error));
}

static gboolean read_source (const xmlNode *node, BackupMode mode, BackupDiskDef *disk,
                             GError **error)
{
    static const XmlAttr attrs[] = { { "file", XML_PATH, TRUE, offsetof (StoreDef, path) },
                                     { NULL } };

    if (!node)
        return TRUE;
    StoreDef *store = store_def_new (STORE_FILE);
    *(mode == BACKUP_MODE_PULL ? &disk->scratch : &disk->target) = store;
    disk->has_type = TRUE;
    return xml_check_empty (node, error) && xml_read_attrs (node, attrs, _("here"), store, error);
}

static gboolean read_disk (const xmlNode *node, BackupMode mode, BackupDiskDef *disk,
                           GError **error)
{
    static const XmlAttr attrs[] = {
        { "name", XML_PLAIN, TRUE, DISK (name), .max = 1024 },
        { "present", XML_CHOICE, FALSE, DISK (backup), words_yes_no, TRISTATE_YES },
        { "type", XML_WORD, FALSE, XML_NOWHERE, words_backupmode },
        { NULL },
    };
    static const char *const names[] = { "source", "bitmap", NULL }, *const none[] = { NULL };

    disk->line = xml_line (node);
    if (!xml_read_attrs (node, attrs, _("in the form of 2016"), disk, error))
        return FALSE;
    if (disk->backup == TRISTATE_NO)
        return xml_check_children (node, none, _("with present='no'"), error);
    disk->backup = TRISTATE_ABSENT;
    g_autofree char *type = xml_get (node, "type");
    disk->sync = g_strcmp0 (type, "incremental") == 0 ? SYNC_INCREMENTAL : SYNC_FULL;
    disk->sync_spelled_mode = TRUE;
    return xml_check_children (node, names, _("in the form of 2016"), error)
           && read_source (xml_child (node, "source"), mode, disk, error)
           && read_bitmap (xml_child (node, "bitmap"), disk, error);
}

gboolean backup_read_2016 (const xmlNode *root, BackupDef *def, GError **error)
{
    static const char *const names[] = { "address", "branch", "disks", NULL };
    static const XmlAttr no_attributes[] = { { NULL } };

    return xml_read_attrs (root, no_attributes, _("in the form of 2016"), NULL, error)
           && xml_check_children (root, names, _("in the form of 2016"), error)
           && read_address (xml_child (root, "address"), def, error)
           && read_branch (xml_child (root, "branch"), def, error)
           && backup_read_disks (xml_child (root, "disks"), def, read_disk, error);
}
