/* BackupDef as today's <domainbackup>. Whatever a program put together, what is written can be read
 * again: what today's form cannot say (a format without a store, a base of a full copy) is left
 * out. */
#include <string.h>
#include "conf/backup_xml.h"

static void write_limit (XmlWriter *writer, guint64 limit)
{
    if (limit == 0)
        return;
    xml_start (writer, "limit");
    xml_attrs (writer, limit_attrs, &limit);
    xml_end (writer, "limit");
}

static void write_server (XmlWriter *writer, const ServerDef *server)
{
    static const ServerDef none = { .transport = SERVER_UNIX };
    gboolean generated;

    if (!server)
        server = &none;
    generated = server->transport == SERVER_UNIX && !server->socket;
    xml_start (writer, "server");
    xml_attr (writer, "transport", generated ? "auto" : words_transport[server->transport]);
    xml_attrs (writer, server_attrs (server->transport, generated), server);
    xml_end (writer, "server");
}

static void write_guest (XmlWriter *writer, const BackupDef *def)
{
    if (def->protect == PROTECT_DEFAULT && def->cbw_timeout == 0 && !def->scratch_dir
        && def->scratch_limit == 0)
        return;
    xml_start (writer, "guest");
    xml_attrs (writer, guest_attrs, def);
    xml_end (writer, "guest");
}

static gboolean store_is_set (const StoreDef *store)
{
    return store && (store->path || store->type == STORE_NETWORK);
}

/* The store that type='' is about; NULL: a generated one, which is a file. */
static const StoreDef *main_store (const BackupDef *def, const BackupDiskDef *disk)
{
    const StoreDef *store = def->mode == BACKUP_MODE_PUSH ? disk->target : disk->scratch;

    return store_is_set (store) ? store : NULL;
}

static void write_type (XmlWriter *writer, const BackupDef *def, const BackupDiskDef *disk)
{
    const StoreDef *store = main_store (def, disk);
    gboolean block = store ? store->type == STORE_BLOCK
                           : def->mode == BACKUP_MODE_PUSH && disk->type == STORE_BLOCK;
    StoreType type = store ? store->type : block ? STORE_BLOCK : STORE_FILE;

    if (disk->has_type || type != STORE_FILE
        || (def->mode == BACKUP_MODE_PULL && disk->backup == TRISTATE_YES))
        xml_attr (writer, "type", words_type[type]);
}

static void write_sync (XmlWriter *writer, const BackupDef *def, const BackupDiskDef *disk)
{
    gboolean full_or_incremental = disk->sync == SYNC_FULL || disk->sync == SYNC_INCREMENTAL;

    if (full_or_incremental || def->mode == BACKUP_MODE_PUSH)
        xml_attr (writer, full_or_incremental && disk->sync_spelled_mode ? "backupmode" : "sync",
                  sync_mode_to_string (disk->sync));
    if (disk->sync == SYNC_DEFAULT || disk->sync == SYNC_INCREMENTAL)
        xml_attr (writer, "incremental", disk->incremental);
}

/* The scratch of a pull is qcow2 where its format can be said at all. */
static void write_driver (XmlWriter *writer, const BackupDef *def, const BackupDiskDef *disk)
{
    gboolean push = def->mode == BACKUP_MODE_PUSH;
    BackupDiskDef shown = *disk;

    if (!push && g_strcmp0 (disk->format, "qcow2") != 0)
        shown.format = NULL;
    if (!push && !main_store (def, disk))
        return;
    gboolean of_push = disk->compression || disk->compat || disk->extended_l2 || disk->preallocation
                       || disk->subformat;
    if (!shown.format && disk->cluster_size == 0 && !(push && of_push))
        return;
    xml_start (writer, "driver");
    xml_attrs (writer, push ? driver_push_attrs : driver_pull_attrs, &shown);
    xml_end (writer, "driver");
}

static void write_children (XmlWriter *writer, const BackupDef *def, const BackupDiskDef *disk)
{
    gboolean push = def->mode == BACKUP_MODE_PUSH;

    write_driver (writer, def, disk);
    if (push && store_is_set (disk->target))
        store_write (writer, "target", disk->target);
    if (push && disk->backing) {
        xml_start (writer, "backing");
        xml_attrs (writer, backing_attrs, disk);
        xml_end (writer, "backing");
    }
    if (store_is_set (disk->scratch) && main_store (def, disk))
        store_write (writer, "scratch", disk->scratch);
    write_limit (writer, disk->limit);
}

static void write_included (XmlWriter *writer, const BackupDef *def, const BackupDiskDef *disk)
{
    if (disk->backup == TRISTATE_YES)
        xml_attr (writer, "backup", "yes");
    write_type (writer, def, disk);
    write_sync (writer, def, disk);
    xml_attr (writer, "fallback", fallback_to_string (disk->fallback));
    if (def->mode == BACKUP_MODE_PULL) {
        xml_attr (writer, "exportname", disk->exportname);
        xml_attr (writer, "exportbitmap",
                  disk->exportbitmap && *disk->exportbitmap ? disk->exportbitmap : NULL);
    }
    if (disk->granularity != 0)
        xml_attr_uint (writer, "granularity", disk->granularity);
    xml_attr (writer, "index", disk->index);
    xml_attr (writer, "state", disk->state);
    write_children (writer, def, disk);
}

static void write_disks (XmlWriter *writer, const BackupDef *def)
{
    if (def->disks->len == 0)
        return;
    xml_start (writer, "disks");
    for (guint i = 0; i < def->disks->len; i++) {
        const BackupDiskDef *disk = def->disks->pdata[i];
        xml_start (writer, "disk");
        xml_attr (writer, "name", disk->name);
        if (disk->backup == TRISTATE_NO)
            xml_attr (writer, "backup", "no");
        else
            write_included (writer, def, disk);
        xml_end (writer, "disk");
    }
    xml_end (writer, "disks");
}

char *backup_def_format (const BackupDef *def)
{
    XmlWriter writer;

    xml_writer_init (&writer);
    xml_start (&writer, "domainbackup");
    xml_attr (&writer, "mode", words_mode[def->mode]);
    xml_attr (&writer, "fallback", fallback_to_string (def->fallback));
    if (!def->incremental)
        xml_attr (&writer, "series", def->series);
    if (def->mode == BACKUP_MODE_PUSH)
        xml_attr (&writer, "instant", instant_to_string (def->instant));
    xml_text (&writer, "incremental", def->incremental);
    if (def->mode == BACKUP_MODE_PULL)
        write_server (&writer, def->server);
    write_guest (&writer, def);
    write_limit (&writer, def->limit);
    write_disks (&writer, def);
    xml_end (&writer, "domainbackup");
    return xml_writer_finish (&writer);
}
