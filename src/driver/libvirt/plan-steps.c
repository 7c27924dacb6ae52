/* The order of the steps, push and pull. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/libvirt/planner.h"
#include "job/build.h"
#include "util/nbd_uri.h"

/* ---- steps ---- */

static Action *file_give (Planner *p, const char *path)
{
    const LvPicture *picture = p->in->picture;
    return own_action ("file-give",
                       obj ("path", "s", path, "uid", "i",
                            picture->has_owner ? (gint64) picture->uid : -1, "gid", "i",
                            picture->has_owner ? (gint64) picture->gid : -1, NULL));
}

/* A file or device that is there already: it must be what it is said to be, and not the guest's by
 * another name. */
static void add_given (Planner *p, const Item *item)
{
    const char *path = item->store->path;
    g_autofree char *title = g_strdup_printf (_("check that '%s' is there"), path);
    const char *format = (p->in->flags & BEGIN_REUSE_EXTERNAL) && !item->generated
                                 && !g_str_equal (item->out->format, "raw")
                             ? item->out->format
                             : NULL;
    JsonArray *own = json_array_new ();
    for (guint i = 0; i < p->in->picture->disks->len; i++) {
        const LvDisk *disk = p->in->picture->disks->pdata[i];
        json_array_add_string_element (own, disk->source);
        for (guint k = 0; k < disk->chain->len; k++)
            json_array_add_string_element (own, disk->chain->pdata[k]);
    }
    plan_add (
        p->plan, title, item->disk->target,
        own_action ("file-check", obj ("path", "s", path, "kind", "s",
                                       item->store->type == STORE_FILE ? "file" : "block", NULL)),
        NULL);
    plan_add (p->plan, _("check that the guest does not use it"), item->disk->target,
              own_action ("file-foreign", obj ("path", "s", path, "own", "a", own, NULL)), NULL);
    if (format)
        plan_add (p->plan, _("check that the target is of its format"), item->disk->target,
                  own_action ("file-format", obj ("path", "s", path, "format", "s", format, NULL)),
                  NULL);
}

/* A target that we make: the header names what we say, while QEMU is told by libvirt to read
 * through to the live image. */
static void add_made_target (Planner *p, const Item *item)
{
    const char *target = item->disk->target, *path = item->store->path, *format = item->out->format;
    const BackupDiskDef *def = item->def;
    gboolean reuse = (p->in->flags & BEGIN_REUSE_EXTERNAL) && !item->generated,
             is_file = item->store->type == STORE_FILE;
    const char *backing = def && def->backing && item->incremental ? def->backing : NULL;
    g_autofree char *title = NULL,
                    *backing_name = backing ? plan_backing_name (path, backing) : NULL;

    const CheckpointDisk *record = backing ? lv_plan_disk_record (p->in, item->base, target) : NULL;
    if (backing)
        plan_add (p->plan, _("check the previous backup"), target,
                  own_action ("backing-check",
                              obj ("path", "s", backing, "size", "i", (gint64) item->disk->capacity,
                                   "checkpoint", "s", item->base, "backup", "s",
                                   record ? record->backup : NULL, "backup-id", "s",
                                   record ? record->backup_id : NULL, "sealed", "s",
                                   record ? record->backup_chain : NULL, "images", "a",
                                   lv_images_of_guest (p), NULL)),
                  NULL);
    if (is_file && !reuse) {
        title = g_strdup_printf (_("make the file '%s'"), path);
        plan_add (p->plan, title, target, own_action ("file-create", obj ("path", "s", path, NULL)),
                  kept (own_action ("file-remove", obj ("path", "s", path, NULL))), NULL);
    } else {
        add_given (p, item);
    }
    if (reuse || (!is_file && g_str_equal (format, "raw")))
        plan_add (p->plan, _("check that it has the size of the disk"), target,
                  own_action ("image-check", obj ("path", "s", path, "format", "s", format, "size",
                                                  "i", (gint64) item->disk->capacity, "at-least",
                                                  "b", g_str_equal (format, "raw"), NULL)),
                  NULL);
    else
        plan_add (
            p->plan, _("format it"), target,
            own_action ("image-create", obj ("path", "s", path, "format", "s", format, "size", "i",
                                             (gint64) item->disk->capacity, "cluster-size", "i",
                                             (gint64) (def ? def->cluster_size : 0), "backing", "s",
                                             backing_name, NULL)),
            NULL);
    if (is_file && !reuse)
        plan_add (p->plan, _("let QEMU write to it"), target, file_give (p, path), NULL);
}

static void add_way_check (Planner *p, const Item *item)
{
    const LvPicture *picture = p->in->picture;
    plan_add (p->plan, _("check that nobody else can exchange it"), item->disk->target,
              own_action ("way-check", obj ("path", "s", item->store->path, "uid", "i",
                                            picture->has_owner ? (gint64) picture->uid : -1, NULL)),
              NULL);
}

static void add_stores (Planner *p)
{
    for (guint i = 0; i < p->items->len; i++) {
        const Item *item = p->items->pdata[i];
        if (p->in->local && item->store->path)
            add_way_check (p, item);
        if (p->made_here)
            add_made_target (p, item);
        else if (p->in->local
                 && (item->store->type != STORE_FILE || (p->in->flags & BEGIN_REUSE_EXTERNAL)))
            add_given (p, item);
        else if (p->in->local)
            plan_add (p->plan, _("check that the target's path is free"), item->disk->target,
                      own_action ("path-free", obj ("path", "s", item->store->path, NULL)), NULL);
    }
}

static JsonArray *api_flags (Planner *p)
{
    JsonArray *flags = json_array_new ();
    if ((p->in->flags & BEGIN_REUSE_EXTERNAL) || p->made_here)
        json_array_add_string_element (flags, "VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL");
    if (p->in->flags & BEGIN_PRESERVE_SHUTDOWN)
        json_array_add_string_element (flags, "VIR_DOMAIN_BACKUP_BEGIN_PRESERVE_SHUTDOWN_DOMAIN");
    return flags;
}

Action *lv_thaw_action (void)
{
    return own_action ("virDomainFSThaw", NULL);
}

void lv_add_freeze (Planner *p)
{
    plan_add (p->plan, _("freeze the guest's file systems"), NULL,
              own_action ("virDomainFSFreeze", NULL), lv_thaw_action (), NULL);
}

static void add_begin (Planner *p, const char *backup, const char *checkpoint)
{
    gboolean quiesce = p->in->flags & BEGIN_QUIESCE;
    if (quiesce)
        lv_add_freeze (p);
    Action *begin =
        own_action ("virDomainBackupBegin", obj ("backup", "s", backup, "checkpoint", "s",
                                                 checkpoint, "flags", "a", api_flags (p), NULL));
    Action *abort = own_action ("virDomainAbortJob", NULL);
    const char *title =
        p->pull ? _("freeze the point in time and export it") : _("start copying");
    if (checkpoint)
        plan_add (p->plan, title, NULL, begin, abort,
                  kept (own_action ("virDomainCheckpointDelete",
                                    obj ("name", "s", p->plan->checkpoint, NULL))),
                  NULL);
    else
        plan_add (p->plan, title, NULL, begin, abort, NULL);
    if (quiesce)
        plan_add (p->plan, _("thaw the guest's file systems"), NULL, lv_thaw_action (), NULL);
}

static void add_limits (Planner *p)
{
    for (guint i = 0; i < p->items->len; i++) {
        const Item *item = p->items->pdata[i];
        if (item->out->limit)
            plan_add (p->plan, _("limit its speed"), item->disk->target,
                      own_action ("virDomainBlockJobSetSpeed",
                                  obj ("disk", "s", item->disk->target, "bandwidth", "i",
                                       (gint64) item->out->limit, "flags", "a",
                                       str_arr ("VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES", NULL),
                                       NULL)),
                      NULL);
    }
}

static void add_watch (Planner *p)
{
    for (guint i = 0; p->in->def->protect != PROTECT_NO && p->in->local && i < p->items->len; i++) {
        const Item *item = p->items->pdata[i];
        if (item->store->type == STORE_FILE)
            plan_add (p->plan,
                      p->pull ? _("watch the space of the scratch")
                              : _("watch the space of the target"),
                      item->disk->target,
                      own_action ("virDomainSetBlockThreshold",
                                  obj ("disk", "s", item->disk->target, "path", "s",
                                       item->store->path, NULL)),
                      NULL);
    }
}

/* As for an attached guest: what somebody cut while QEMU wrote it has a gap. */
static void finish_whole (Planner *p, const Item *item)
{
    gboolean raw = g_str_equal (item->out->format, "raw"),
             whole = g_strcmp0 (item->out->type, "full") == 0;
    guint64 cluster = item->def ? item->def->cluster_size : 0;

    gboolean had_gaps = !raw
                        && (((p->in->flags & BEGIN_REUSE_EXTERNAL) && !item->generated)
                            || (item->def && item->def->preallocation
                                && !g_str_equal (item->def->preallocation, "off")));

    if (item->store->encryption || had_gaps
        || !(raw ? whole : g_str_equal (item->out->format, "qcow2")))
        return;
    g_ptr_array_add (p->plan->finish,
                     own_action ("target-whole", obj ("path", "s", item->store->path, "gap", "i",
                                                      (gint64) MAX (cluster, 65536), NULL)));
}

static void finish_push (Planner *p)
{
    for (guint i = 0; p->in->local && i < p->items->len; i++) {
        const Item *item = p->items->pdata[i];
        const char *path = item->store->path;
        guint first = p->plan->finish->len;
        g_ptr_array_add (p->plan->finish,
                         own_action ("wait-released", obj ("path", "s", path, NULL)));
        gboolean fresh = item->store->type == STORE_FILE && p->made_here
                         && !(p->in->flags & BEGIN_REUSE_EXTERNAL);
        if (fresh)
            finish_whole (p, item);
        if (fresh && g_str_equal (item->out->format, "raw"))
            g_ptr_array_add (p->plan->finish,
                             own_action ("file-punch", obj ("path", "s", path, NULL)));
        g_ptr_array_add (p->plan->finish, own_action ("file-sync", obj ("path", "s", path, NULL)));
        if (p->made_here && item->store->type == STORE_FILE
            && (!(p->in->flags & BEGIN_REUSE_EXTERNAL) || item->generated))
            g_ptr_array_add (p->plan->finish,
                             own_action ("file-take", obj ("path", "s", path, NULL)));
        g_ptr_array_add (
            p->plan->finish,
            own_action ("target-check", obj ("path", "s", path, "format", "s", item->out->format,
                                             "size", "i", (gint64) item->disk->capacity, NULL)));
        for (guint k = first; k < p->plan->finish->len; k++)
            ((Action *) p->plan->finish->pdata[k])->disk = g_strdup (item->disk->target);
    }
    if (!p->in->local)
        lv_plan_note (
            p, _("durability: the targets are on another host: QEMU flushes them when it closes "
                  "them, and nothing here can see whether that went well"));
}

/* ---- push ---- */

gboolean lv_plan_push (Planner *p, GError **error)
{
    g_autofree char *checkpoint = NULL, *backup = NULL;
    gboolean encrypted = FALSE;

    for (guint i = 0; i < p->items->len; i++)
        encrypted = encrypted || ((Item *) p->items->pdata[i])->store->encryption;
    p->made_here = p->in->local && !encrypted;
    for (guint i = 0; i < p->items->len; i++) {
        const Item *item = p->items->pdata[i];
        if (!lv_check_increment_target (p, item, error))
            return FALSE;
        if (encrypted
            && (item->incremental
                || (item->def && (item->def->cluster_size || item->def->backing))))
            return lv_plan_refuse (
                item->disk->target,
                _("an increment, a cluster size or a backing file beside an encrypted target"),
                _("libvirt has to make all images of such a job itself"), error);
    }
    if (!lv_plan_checkpoint_xml (p, &checkpoint, error))
        return FALSE;
    add_stores (p);
    backup = lv_plan_backup_xml (p);
    add_begin (p, backup, checkpoint);
    add_limits (p);
    add_watch (p);
    finish_push (p);
    return TRUE;
}

/* ---- pull ---- */

static gboolean is_loopback (const char *host)
{
    return g_str_equal (host, "localhost") || g_str_has_prefix (host, "127.")
           || g_str_equal (host, "::1");
}

static gboolean check_server (Planner *p, GError **error)
{
    const ServerDef *server = p->in->def->server;
    const char *reason =
        _("libvirt takes them from its own configuration (backup_tls_x509_cert_dir in qemu.conf)");

    for (guint i = 0; p->in->qemu_version < QEMU_WITHOUT_IOTHREAD_CRASH && i < p->items->len; i++) {
        const LvDisk *disk = ((Item *) p->items->pdata[i])->disk;
        if (disk->iothread)
            return error_set (
                error, BAK_ERROR_NOT_SUPPORTED,
                _("disk '%s' is served by iothread '%s': this QEMU crashes, and the guest with "
                   "it, when an NBD client leaves "
                   "such an export; use push, take the iothread off, or use QEMU 8.0 or later"),
                disk->target, disk->iothread);
    }
    if (!server)
        return p->in->local
               || error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                             _("the guest is on another host: name the server of the export "
                                "(<server …/>, --server)"));
    if (server->transport == SERVER_FD)
        return error_set (
            error, BAK_ERROR_NOT_SUPPORTED,
            _("<server transport='fd'>: a socket that was passed is not handed on to "
               "libvirt; use unix or tcp"));
    if (server->tls_psk)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("tls-psk='': libvirt exports with certificates only"));
    if (server->tls_dir)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("tls-dir='': certificates of one job: %s"), reason);
    if (server->idle_timeout && !p->in->local)
        return error_set (
            error, BAK_ERROR_NOT_SUPPORTED,
            _("idle-timeout='': who reads on another host cannot be seen from here"));
    if (server->transport != SERVER_TCP)
        return TRUE;
    if (!is_loopback (server->name) && server->tls != TRISTATE_YES
        && server->allow_insecure != TRISTATE_YES)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("the export would be readable by anyone who reaches '%s': use TLS "
                             "(tls='yes'), a unix socket or "
                             "a loopback address, or say that this is wanted "
                             "(allow-insecure='yes', --allow-insecure)"),
                          server->name);
    if (!server->port && !(p->in->local && p->in->free_port))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("no free TCP port was found; give one (port='…')"));
    return TRUE;
}

static void set_server (Planner *p)
{
    const ServerDef *server = p->in->def->server;
    Plan *plan = p->plan;
    gboolean tls = server && server->tls == TRISTATE_YES;

    if (tls)
        plan->server_tls = g_strdup (p->in->tls_dir);
    plan->idle_timeout = server ? server->idle_timeout : 0;
    if (server && server->transport == SERVER_TCP) {
        plan->server_host = g_strdup (server->name);
        plan->server_port = server->port ? server->port : p->in->free_port;
        plan->server = nbd_uri_of_host (tls, server->name, plan->server_port);
        return;
    }
    g_autofree char *file = g_strdup_printf ("nbd-%s.sock", p->in->job);
    plan->server_socket = server && server->socket ? g_strdup (server->socket)
                                                   : g_build_filename (p->in->job_dir, file, NULL);
    plan->server = nbd_uri_of_socket (tls, NULL, plan->server_socket);
}

static gboolean name_exports (Planner *p, GError **error)
{
    for (guint i = 0; i < p->items->len; i++) {
        Item *item = p->items->pdata[i];
        const BackupDiskDef *def = item->def;
        item->out->export_name = g_strdup (
            def && def->exportname && *def->exportname ? def->exportname : item->disk->target);
        if (item->incremental)
            item->out->bitmap = def && def->exportbitmap && *def->exportbitmap
                                    ? g_strdup (def->exportbitmap)
                                    : g_strconcat ("backup-", item->disk->target, NULL);
        for (guint k = 0; k < i; k++) {
            const Item *other = p->items->pdata[k];
            if (g_str_equal (other->out->export_name, item->out->export_name))
                return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                                  _("disks '%s' and '%s' would both be exported as '%s'"),
                                  other->disk->target, item->disk->target, item->out->export_name);
        }
    }
    return TRUE;
}

gboolean lv_plan_pull (Planner *p, GError **error)
{
    g_autofree char *checkpoint = NULL, *backup = NULL;

    if (!check_server (p, error) || !name_exports (p, error)
        || !lv_plan_checkpoint_xml (p, &checkpoint, error))
        return FALSE;
    set_server (p);
    for (guint i = 0; p->in->local && i < p->items->len; i++) {
        const Item *item = p->items->pdata[i];
        gboolean reuse = (p->in->flags & BEGIN_REUSE_EXTERNAL) && !item->generated;
        if (item->store->path)
            add_way_check (p, item);
        if (reuse || item->store->type != STORE_FILE)
            add_given (p, item);
        if (reuse) /* what it holds would be read in place of what the guest saw */
            plan_add (p->plan, _("check that it is empty"), item->disk->target,
                      own_action ("empty-check", obj ("path", "s", item->store->path, "format", "s",
                                                      item->out->format, NULL)),
                      NULL);
        else if (item->store->type == STORE_FILE)
            plan_add (p->plan, _("check that the scratch's path is free"), item->disk->target,
                      own_action ("path-free", obj ("path", "s", item->store->path, NULL)),
                      own_action ("scratch-remove", obj ("path", "s", item->store->path, "size",
                                                         "i", (gint64) item->disk->capacity, NULL)),
                      NULL);
    }
    if (p->plan->server_socket && p->in->local)
        plan_add (p->plan, _("check that the socket's path is free"), NULL,
                  own_action ("socket-check", obj ("path", "s", p->plan->server_socket, NULL)),
                  own_action ("socket-remove", obj ("path", "s", p->plan->server_socket, NULL)),
                  NULL);
    backup = lv_plan_backup_xml (p);
    add_begin (p, backup, checkpoint);
    add_watch (p);
    return TRUE;
}
