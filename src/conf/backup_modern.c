/* Today's <domainbackup>, as libvirt has it, with the extensions of docs/xml.md. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "conf/backup_xml.h"
#include "util/error.h"

static const char *const words_state[] = { "running",    "complete",  "failed",
                                           "cancelling", "cancelled", NULL };
static const char *const words_sync_pull[] = { "full", "incremental", NULL };

#define DISK(member) offsetof (BackupDiskDef, member)

/* What an excluded disk may have too. Mode is read by read_sync; index and state come from our own
 * output. */
#define DISK_ALWAYS                                                                                \
    { "name", XML_PLAIN, TRUE, DISK (name), .max = 1024 },                                         \
        { "backup", XML_CHOICE, FALSE, DISK (backup), words_yes_no, TRISTATE_YES },                \
        { "backupmode", XML_WORD, FALSE, XML_NOWHERE, words_backupmode },                          \
        { "incremental", XML_NAME_EMPTY, FALSE, DISK (incremental) },                              \
        { "fallback", XML_CHOICE, FALSE, DISK (fallback), words_fallback, FALLBACK_REFUSE },       \
        { "index", XML_UINT, FALSE, XML_NOWHERE, .max = G_MAXUINT },                               \
    {                                                                                              \
        "state", XML_WORD, FALSE, XML_NOWHERE, words_state                                         \
    }
#define DISK_INCLUDED                                                                              \
    { "type", XML_CHOICE, FALSE, DISK (type), words_type, STORE_FILE },                            \
    {                                                                                              \
        "granularity", XML_SIZE_POWER, FALSE, DISK (granularity), .min = POWER_MIN,                \
                                                                  .max = POWER_MAX                 \
    }
#define DISK_PUSH                                                                                  \
    {                                                                                              \
        "sync", XML_WORD, FALSE, XML_NOWHERE, words_sync                                           \
    }
#define DISK_PULL                                                                                  \
    { "sync", XML_WORD, FALSE, XML_NOWHERE, words_sync_pull },                                     \
        { "exportname", XML_PLAIN_EMPTY, FALSE, DISK (exportname), .max = 4096 },                  \
    {                                                                                              \
        "exportbitmap", XML_PLAIN, FALSE, DISK (exportbitmap), .max = 1023                         \
    }

static const XmlAttr disk_push[] = { DISK_ALWAYS, DISK_INCLUDED, DISK_PUSH, { NULL } };
static const XmlAttr disk_pull[] = { DISK_ALWAYS, DISK_INCLUDED, DISK_PULL, { NULL } };
static const XmlAttr disk_push_no[] = { DISK_ALWAYS, DISK_PUSH, { NULL } };
static const XmlAttr disk_pull_no[] = { DISK_ALWAYS, DISK_PULL, { NULL } };

static const char *in_mode (BackupMode mode)
{
    return mode == BACKUP_MODE_PUSH ? _("in a push backup (mode='push')")
                                    : _("in a pull backup (mode='pull')");
}

static gboolean is_excluded (const xmlNode *node)
{
    g_autofree char *backup = xml_get (node, "backup");
    return g_strcmp0 (backup, "no") == 0;
}

static gboolean read_sync (const xmlNode *node, BackupDiskDef *disk, GError **error)
{
    g_autofree char *mode = xml_get (node, "backupmode");
    g_autofree char *sync = xml_get (node, "sync");
    const char *chosen = mode ? mode : sync;

    if (mode && sync)
        return xml_error_value (node, "sync", sync, error,
                                _("expected either backupmode= or sync=, not both"));
    if (!chosen)
        return TRUE;
    if (xml_has (node, "incremental") && strcmp (chosen, "incremental") != 0)
        return xml_error_value (node, mode ? "backupmode" : "sync", chosen, error,
                                _("expected 'incremental', or no incremental= beside it"));
    disk->sync_spelled_mode = mode != NULL;
    sync_mode_from_string (chosen, &disk->sync);
    return TRUE;
}

static gboolean read_limit (const xmlNode *node, guint64 *ret_limit, GError **error)
{
    return xml_check_empty (node, error)
           && xml_read_attrs (node, limit_attrs, _("here"), ret_limit, error);
}

static gboolean read_driver (const xmlNode *node, BackupMode mode, BackupDiskDef *disk,
                             GError **error)
{
    const XmlAttr *table = mode == BACKUP_MODE_PUSH ? driver_push_attrs : driver_pull_attrs;

    if (!node)
        return TRUE;
    if (!node->properties)
        return xml_error (node, error,
                          _("attribute type is missing: expected a format, as type='qcow2'"));
    return xml_check_empty (node, error)
           && xml_read_attrs (node, table, in_mode (mode), disk, error);
}

static const char *with_type (StoreType type)
{
    switch (type) {
    case STORE_BLOCK: return _("with type='block'");
    case STORE_NETWORK: return _("with type='network'");
    case STORE_FILE: break;
    }
    return _("with type='file'");
}

static gboolean read_push_stores (const xmlNode *node, BackupDiskDef *disk, GError **error)
{
    const xmlNode *target = xml_child (node, "target"), *scratch = xml_child (node, "scratch");
    StoreType scratch_type = scratch && xml_has (scratch, "dev") ? STORE_BLOCK : STORE_FILE;

    if (!target && disk->type == STORE_NETWORK)
        return xml_error_value (node, "type", "network", error,
                                _("expected a <target> in this disk"));
    if (!target && scratch)
        return xml_error (scratch, error,
                          _("in a push backup (mode='push') only beside <target>; expected "
                             "<target>, or mode='pull' in <domainbackup>"));
    if (target && !store_read (target, disk->type, with_type (disk->type), &disk->target, error))
        return FALSE;
    return !scratch
           || store_read (scratch, scratch_type, with_type (scratch_type), &disk->scratch, error);
}

static gboolean read_push_children (const xmlNode *node, BackupDiskDef *disk, GError **error)
{
    static const char *const names[] = { "driver", "target", "backing", "scratch", "limit", NULL };
    const xmlNode *backing = xml_child (node, "backing"), *limit = xml_child (node, "limit");

    if (!xml_check_children (node, names, in_mode (BACKUP_MODE_PUSH), error))
        return FALSE;
    if (backing
        && (!xml_check_empty (backing, error)
            || !xml_read_attrs (backing, backing_attrs, _("here"), disk, error)))
        return FALSE;
    return read_driver (xml_child (node, "driver"), BACKUP_MODE_PUSH, disk, error)
           && read_push_stores (node, disk, error)
           && (!limit || read_limit (limit, &disk->limit, error));
}

static gboolean check_pull_type (const xmlNode *node, const BackupDiskDef *disk, GError **error)
{
    if (disk->backup == TRISTATE_YES && !disk->has_type)
        return xml_error_value (
            node, "backup", "yes", error,
            _("expected type='file' or type='block' beside it in a pull backup (mode='pull')"));
    if (disk->type == STORE_NETWORK)
        return xml_error_value (node, "type", "network", error,
                                _("expected 'file' or 'block' in a pull backup (mode='pull'), "
                                   "where it is the type of <scratch>"));
    if (disk->type == STORE_BLOCK && !xml_child (node, "scratch"))
        return xml_error_value (node, "type", "block", error,
                                _("expected a <scratch dev=''> in this disk"));
    return TRUE;
}

static gboolean read_pull_children (const xmlNode *node, BackupDiskDef *disk, GError **error)
{
    static const char *const names[] = { "driver", "scratch", "limit", NULL };
    const xmlNode *driver = xml_child (node, "driver"), *scratch = xml_child (node, "scratch"),
                  *limit = xml_child (node, "limit");

    if (!xml_check_children (node, names, in_mode (BACKUP_MODE_PULL), error)
        || !check_pull_type (node, disk, error))
        return FALSE;
    if (driver && !scratch)
        return xml_error (driver, error,
                          _("in a pull backup (mode='pull') it is the format of <scratch>; "
                             "expected <scratch> beside it"));
    return read_driver (driver, BACKUP_MODE_PULL, disk, error)
           && (!scratch
               || store_read (scratch, disk->type, with_type (disk->type), &disk->scratch, error))
           && (!limit || read_limit (limit, &disk->limit, error));
}

/* Of an excluded disk only the name is kept; the rest is checked all the same. */
static gboolean read_excluded (const xmlNode *node, BackupMode mode, BackupDiskDef *disk,
                               GError **error)
{
    g_autoptr (BackupDiskDef) scrap = backup_disk_def_new (NULL);
    const XmlAttr *table = mode == BACKUP_MODE_PUSH ? disk_push_no : disk_pull_no;
    static const char *const none[] = { NULL };

    if (!xml_read_attrs (node, table, _("with backup='no'"), scrap, error)
        || !read_sync (node, scrap, error))
        return FALSE;
    if (!xml_check_children (node, none, _("with backup='no'"), error))
        return FALSE;
    disk->name = g_steal_pointer (&scrap->name);
    disk->backup = TRISTATE_NO;
    return TRUE;
}

static gboolean read_disk (const xmlNode *node, BackupMode mode, BackupDiskDef *disk,
                           GError **error)
{
    disk->line = xml_line (node);
    if (is_excluded (node))
        return read_excluded (node, mode, disk, error);
    if (!xml_read_attrs (node, mode == BACKUP_MODE_PUSH ? disk_push : disk_pull, in_mode (mode),
                         disk, error))
        return FALSE;
    disk->has_type = xml_has (node, "type");
    return read_sync (node, disk, error)
           && (mode == BACKUP_MODE_PUSH ? read_push_children (node, disk, error)
                                        : read_pull_children (node, disk, error));
}

static gboolean choose_transport (const xmlNode *node, ServerTransport *ret_transport,
                                  gboolean *ret_generated, GError **error)
{
    g_autofree char *transport = xml_get (node, "transport");

    *ret_generated = g_strcmp0 (transport, "auto") == 0;
    if (!transport || strcmp (transport, "tcp") == 0)
        *ret_transport = SERVER_TCP;
    else if (*ret_generated || strcmp (transport, "unix") == 0)
        *ret_transport = SERVER_UNIX;
    else if (strcmp (transport, "fd") == 0)
        *ret_transport = SERVER_FD;
    else
        return xml_error_value (node, "transport", transport, error,
                                _("expected 'tcp', 'unix', 'fd' or 'auto'"));
    return TRUE;
}

static gboolean check_tls (const xmlNode *node, const ServerDef *server, GError **error)
{
    const char *attribute = server->tls_dir ? "tls-dir" : "tls-psk",
               *value = server->tls_dir ? server->tls_dir : server->tls_psk;

    if (value && server->tls != TRISTATE_YES)
        return xml_error_value (node, attribute, value, error, _("expected tls='yes' beside it"));
    if (server->tls_dir && server->tls_psk)
        return xml_error_value (
            node, "tls-psk", server->tls_psk, error,
            _("expected either tls-dir= (certificates) or tls-psk= (keys), not both"));
    return TRUE;
}

static gboolean read_server (const xmlNode *root, BackupDef *def, GError **error)
{
    const xmlNode *node = xml_child (root, "server");
    ServerTransport transport = SERVER_TCP;
    gboolean generated = FALSE;

    if (def->mode == BACKUP_MODE_PUSH)
        return !node
               || xml_error (node, error,
                             _("not accepted in a push backup (mode='push'); expected mode='pull' "
                                "in <domainbackup>"));
    if (!node)
        return xml_error (root, error,
                          _("<server> is missing: a pull backup (mode='pull') expects one, as "
                             "<server transport='unix' socket='/PATH'/>"));
    if (!xml_check_empty (node, error) || !choose_transport (node, &transport, &generated, error))
        return FALSE;
    def->server = server_def_new (transport);
    return xml_read_attrs (node, server_attrs (transport, generated), _("with this transport"),
                           def->server, error)
           && check_tls (node, def->server, error);
}

static gboolean read_base (const xmlNode *root, BackupDef *def, GError **error)
{
    static const XmlAttr row = { "incremental", XML_NAME_EMPTY, FALSE,
                                 offsetof (BackupDef, incremental) };
    const xmlNode *node = xml_child (root, "incremental");

    if (node && def->series)
        return xml_error (node, error, _("not accepted with series='%s': expected one of the two"),
                          def->series);
    return !node || xml_read_text_as (node, &row, def, error);
}

gboolean backup_read_modern (const xmlNode *root, BackupDef *def, GError **error)
{
    static const char *const names[] = { "incremental", "server", "guest", "limit", "disks", NULL };
    static const XmlAttr attrs[] = {
        { "mode", XML_CHOICE, FALSE, offsetof (BackupDef, mode), words_mode, BACKUP_MODE_PUSH },
        { "fallback", XML_CHOICE, FALSE, offsetof (BackupDef, fallback), words_fallback,
          FALLBACK_REFUSE },
        { "series", XML_NAME, FALSE, offsetof (BackupDef, series) },
        { "instant", XML_CHOICE, FALSE, offsetof (BackupDef, instant), words_instant,
          INSTANT_BEGIN },
        { NULL },
    };
    const xmlNode *guest = xml_child (root, "guest"), *limit = xml_child (root, "limit");

    if (!xml_read_attrs (root, attrs, _("here"), def, error)
        || !xml_check_children (root, names, _("here"), error))
        return FALSE;
    if (def->mode == BACKUP_MODE_PULL && def->instant != INSTANT_DEFAULT)
        return xml_error_value (
            root, "instant", instant_to_string (def->instant), error,
            _("not accepted in a pull backup (mode='pull'), whose instant is that of its begin"));
    if (guest
        && (!xml_check_empty (guest, error)
            || !xml_read_attrs (guest, guest_attrs, _("here"), def, error)))
        return FALSE;
    if (limit && !read_limit (limit, &def->limit, error))
        return FALSE;
    return read_base (root, def, error) && read_server (root, def, error)
           && backup_read_disks (xml_child (root, "disks"), def, read_disk, error);
}
