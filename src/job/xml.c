/* A job as <domainbackup>: today's form, valid input again. */
#include <string.h>
#include "conf/backup_def.h"
#include "job/moves.h"
#include "util/nbd_uri.h"

/* Where it really is, with what the document says beside the place. */
static void set_store (StoreDef **store, const char *place)
{
    StoreDef *real = *place ? store_def_from_string (place, NULL) : NULL;
    StoreDef *asked = *store;
    if (real && asked) {
        real->seclabels = g_steal_pointer (&asked->seclabels);
        real->encryption = g_steal_pointer (&asked->encryption);
    }
    store_def_free (asked);
    *store = real;
}

static BackupDiskDef *find_disk (const BackupDef *def, const char *target)
{
    for (guint i = 0; i < def->disks->len; i++) {
        BackupDiskDef *disk = def->disks->pdata[i];
        if (g_strcmp0 (disk->name, target) == 0)
            return disk;
    }
    return NULL;
}

static void replace (char **text, const char *by)
{
    g_free (*text);
    *text = g_strdup (by);
}

static void fill_disk (const bak_job *job, const bak_job_disk *from, BackupDiskDef *disk)
{
    gboolean pull = job->mode == JOB_MODE_PULL;

    disk->backup = TRISTATE_YES;
    if (!sync_mode_from_string (from->type, &disk->sync))
        disk->sync = SYNC_FULL;
    disk->sync_spelled_mode = disk->sync == SYNC_FULL || disk->sync == SYNC_INCREMENTAL;
    replace (&disk->incremental, *from->since ? from->since : NULL);
    if (*from->format)
        replace (&disk->format, from->format);
    disk->limit = from->limit;
    if (pull) {
        replace (&disk->exportname, from->export_name);
        replace (&disk->exportbitmap, *from->bitmap ? from->bitmap : NULL);
        set_store (&disk->scratch, from->scratch);
    } else {
        set_store (&disk->target, from->path);
    }
    const StoreDef *store = pull ? disk->scratch : disk->target;
    disk->has_type = store != NULL;
    disk->type = store ? store->type : STORE_FILE;
}

static ServerDef *server_of (const char *uri)
{
    ServerDef *server = g_new0 (ServerDef, 1);
    g_auto (NbdAddress) address = { 0 };
    if (!nbd_uri_read (uri, &address))
        return server;
    server->tls = address.tls ? TRISTATE_YES : TRISTATE_ABSENT;
    server->transport = address.socket ? SERVER_UNIX : SERVER_TCP;
    server->socket = g_steal_pointer (&address.socket);
    if (server->transport == SERVER_TCP) {
        server->name = g_steal_pointer (&address.host);
        server->port = address.port;
    }
    return server;
}

char *job_xml (const bak_job *job, const char *document)
{
    g_autoptr (BackupDef) def = document ? backup_def_parse (document, NULL) : NULL;
    if (!def)
        def = backup_def_new ();
    def->mode = job->mode == JOB_MODE_PULL ? BACKUP_MODE_PULL : BACKUP_MODE_PUSH;
    def->has_disks = TRUE;
    if (*job->server) {
        server_def_free (def->server);
        def->server = server_of (job->server);
    }
    for (guint i = 0; i < job->disks.disks_len; i++) {
        const bak_job_disk *from = &job->disks.disks_val[i];
        BackupDiskDef *disk = find_disk (def, from->target);
        if (!disk)
            g_ptr_array_add (def->disks, disk = backup_disk_def_new (from->target));
        fill_disk (job, from, disk);
    }
    return backup_def_format (def);
}
