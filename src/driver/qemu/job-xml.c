/* A job as <domainbackup>: today's form, valid input again. */
#include <string.h>
#include "conf/backup_def.h"
#include "driver/qemu/local.h"

static StoreDef *store_of (const char *place)
{
    if (!*place)
        return NULL;
    return store_def_from_string (place, NULL);
}

static BackupDiskDef *disk_of (const bak_job *job, const bak_job_disk *from)
{
    BackupDiskDef *disk = backup_disk_def_new (from->target);
    gboolean pull = job->mode == JOB_MODE_PULL;

    disk->backup = TRISTATE_YES;
    if (!sync_mode_from_string (from->type, &disk->sync))
        disk->sync = SYNC_FULL;
    disk->sync_spelled_mode = disk->sync == SYNC_FULL || disk->sync == SYNC_INCREMENTAL;
    disk->incremental = *from->since ? g_strdup (from->since) : NULL;
    disk->format = *from->format ? g_strdup (from->format) : NULL;
    disk->limit = from->limit;
    if (pull) {
        disk->exportname = g_strdup (from->export_name);
        disk->exportbitmap = *from->bitmap ? g_strdup (from->bitmap) : NULL;
        disk->scratch = store_of (from->scratch);
    } else {
        disk->target = store_of (from->path);
    }
    const StoreDef *store = pull ? disk->scratch : disk->target;
    disk->has_type = store != NULL;
    disk->type = store ? store->type : STORE_FILE;
    return disk;
}

static ServerDef *server_of (const char *uri)
{
    ServerDef *server = g_new0 (ServerDef, 1);
    const char *socket = strstr (uri, "?socket="), *host = strstr (uri, "://");
    server->tls = g_str_has_prefix (uri, "nbds") ? TRISTATE_YES : TRISTATE_ABSENT;
    if (socket) {
        server->transport = SERVER_UNIX;
        server->socket = g_strdup (socket + strlen ("?socket="));
    } else if (host) {
        const char *colon = strrchr (host, ':');
        server->transport = SERVER_TCP;
        host += 3;
        server->name = g_strndup (*host == '[' ? host + 1 : host, colon - host - (*host == '[' ? 2 : 0));
        server->port = g_ascii_strtoull (colon + 1, NULL, 10);
    }
    return server;
}

char *job_xml (Guest *guest, const bak_job *job)
{
    g_autoptr (BackupDef) def = backup_def_new ();
    def->mode = job->mode == JOB_MODE_PULL ? BACKUP_MODE_PULL : BACKUP_MODE_PUSH;
    def->has_disks = TRUE;
    if (*job->server)
        def->server = server_of (job->server);
    for (guint i = 0; i < job->disks.disks_len; i++)
        g_ptr_array_add (def->disks, disk_of (job, &job->disks.disks_val[i]));
    return backup_def_format (def);
}
