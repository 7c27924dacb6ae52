/* Pull: a scratch keeps the point in time, and an NBD server shows it. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/planner.h"
#include "util/nbd_uri.h"

static gboolean is_loopback (const char *host)
{
    return g_str_equal (host, "localhost") || g_str_has_prefix (host, "127.")
           || g_str_equal (host, "::1");
}

/* What the exports would be reached at over TCP; NULL: not by TCP. */
static const char *host_of (const Planner *p)
{
    const ServerDef *server = p->in->def->server;
    return !server                           ? NULL
           : server->transport == SERVER_TCP ? server->name
           : server->transport == SERVER_FD  ? p->in->passed->host
                                             : NULL;
}

static gboolean check_passed (Planner *p, GError **error)
{
    const ServerDef *server = p->in->def->server;
    if (!server || server->transport != SERVER_FD)
        return TRUE;
    if (!p->caps->getfd)
        return error_set (
            error, BAK_ERROR_NOT_SUPPORTED,
            _("<server transport='fd'>: the monitor takes no descriptors (no 'getfd': "
               "a storage daemon serves this guest); use unix or tcp"));
    return p->in->passed
           || error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                         _("<server transport='fd' fdgroup='%s'>: no such socket was passed"),
                         server->fdgroup);
}

static gboolean check_server (Planner *p, GError **error)
{
    const ServerDef *server = p->in->def->server;
    if (!p->caps->export_add)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("pull backups need block-export-add (QEMU 5.2); this is %s"),
                          p->caps->version_text ? p->caps->version_text : "?");
    if (!check_passed (p, error))
        return FALSE;
    const char *host = host_of (p);
    if (host && !is_loopback (host) && server->tls != TRISTATE_YES
        && server->allow_insecure != TRISTATE_YES)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("the export would be readable by anyone who reaches '%s': use TLS "
                             "(tls='yes'), a unix socket or "
                             "a loopback address, or say that this is wanted "
                             "(allow-insecure='yes', --allow-insecure)"),
                          host);
    if (server && server->transport == SERVER_TCP && !server->port && !p->in->free_port)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("no free TCP port was found; give one (port='…')"));
    if (server && server->tls == TRISTATE_YES && !server->tls_psk && !server->tls_dir
        && !p->in->tls_dir)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("TLS was asked for, but there is no directory of certificates: set "
                             "tls_x509_dir in the configuration, tls-dir='' or tls-psk=''"));
    for (guint i = 0; !p->caps->iothread_nbd_safe && i < p->items->len; i++) {
        const Item *item = p->items->pdata[i];
        if (item->disk->iothread && *item->disk->iothread)
            return error_set (
                error, BAK_ERROR_NOT_SUPPORTED,
                _("disk '%s' is served by iothread '%s': QEMU %s crashes, and the guest with it, "
                   "when an NBD client leaves "
                   "such an export; use push (there without a scratch), take the iothread off, or "
                   "use QEMU 9.0 or later"),
                item->disk->target, item->disk->iothread, p->caps->version_text);
    }
    return TRUE;
}

static void add_certificates (Planner *p, const char *tls)
{
    const ServerDef *server = p->in->def->server;
    const char *dir = server->tls_psk   ? server->tls_psk
                      : server->tls_dir ? server->tls_dir
                                        : p->in->tls_dir;
    JsonObject *properties = obj ("endpoint", "s", "server", "dir", "s", dir, NULL);
    p->plan->server_tls = g_strdup (dir);
    p->plan->server_psk = server->tls_psk != NULL;
    if (!server->tls_psk)
        json_object_set_boolean_member (properties, "verify-peer", TRUE);
    plan_add (p->plan, _("check that the certificates are there"), NULL,
              own_action ("tls-check", obj ("dir", "s", dir, "endpoint", "s",
                                            server->tls_psk ? "psk" : "server", NULL)),
              NULL);
    plan_add (p->plan, _("load the certificates"), NULL,
              object_add (p, server->tls_psk ? "tls-creds-psk" : "tls-creds-x509", tls, properties),
              guarded (qmp_action ("object-del", obj ("id", "s", tls, NULL)), "object", tls), NULL);
}

/* Each gives the address that QEMU is told. */

static JsonObject *serve_tcp (Planner *p, gboolean tls)
{
    const ServerDef *server = p->in->def->server;
    p->plan->server_host = g_strdup (server->name);
    p->plan->server_port = server->port ? server->port : p->in->free_port;
    p->plan->server = nbd_uri_of_host (tls, server->name, p->plan->server_port);
    g_autofree char *port = g_strdup_printf ("%u", p->plan->server_port);
    return obj ("type", "s", "inet", "data", "o",
                obj ("host", "s", server->name, "port", "s", port, NULL), NULL);
}

static JsonObject *serve_unix (Planner *p, gboolean tls)
{
    const ServerDef *server = p->in->def->server;
    g_autofree char *file = g_strdup_printf ("nbd-%s.sock", p->in->job);
    p->plan->server_socket = server && server->socket
                                 ? g_strdup (server->socket)
                                 : g_build_filename (p->in->job_dir, file, NULL);
    p->plan->server = nbd_uri_of_socket (tls, NULL, p->plan->server_socket);
    plan_add (p->plan, _("check that the socket's path is free"), NULL,
              own_action ("socket-check", obj ("path", "s", p->plan->server_socket, NULL)),
              own_action ("socket-remove", obj ("path", "s", p->plan->server_socket, NULL)), NULL);
    return obj ("type", "s", "unix", "data", "o", obj ("path", "s", p->plan->server_socket, NULL),
                NULL);
}

/* QEMU gives up the name when it begins to listen, so only after a failure it is left to be closed.
 */
static JsonObject *serve_passed (Planner *p, gboolean tls)
{
    const PassedAddress *passed = p->in->passed;
    g_autofree char *name = own_name (p, "fd", NULL);
    p->plan->server_passed = g_strdup (p->in->def->server->fdgroup);
    p->plan->server_socket = g_strdup (passed->path);
    p->plan->server_host = g_strdup (passed->host);
    p->plan->server_port = passed->port;
    p->plan->server_inode = passed->inode;
    p->plan->server = passed->path ? nbd_uri_of_socket (tls, NULL, passed->path)
                                   : nbd_uri_of_host (tls, passed->host, passed->port);
    plan_add (p->plan, _("hand QEMU the socket that was passed"), NULL,
              qmp_action ("getfd", obj ("fdname", "s", name, NULL)),
              kept (qmp_action ("closefd", obj ("fdname", "s", name, NULL))), NULL);
    return obj ("type", "s", "fd", "data", "o", obj ("str", "s", name, NULL), NULL);
}

static void add_server (Planner *p)
{
    const ServerDef *server = p->in->def->server;
    g_autofree char *tls = server && server->tls == TRISTATE_YES ? own_name (p, "tls", NULL) : NULL;

    if (tls)
        add_certificates (p, tls);
    JsonObject *addr = server && server->transport == SERVER_TCP  ? serve_tcp (p, tls != NULL)
                       : server && server->transport == SERVER_FD ? serve_passed (p, tls != NULL)
                                                                  : serve_unix (p, tls != NULL);
    plan_add (p->plan, _("start the NBD server"), NULL,
              qmp_action ("nbd-server-start", obj ("addr", "o", addr, "tls-creds", "s", tls, NULL)),
              qmp_action ("nbd-server-stop", NULL), NULL);
}

static void add_export (Planner *p, Item *item, const char *node)
{
    g_autofree char *scratch = own_name (p, "scr", item);
    PlanDisk *out = item->out;
    JsonArray *bitmaps = NULL;
    if (out->bitmap) {
        bitmaps = json_array_new ();
        if (item->way == WAY_ACCESS)
            json_array_add_object_element (
                bitmaps, obj ("node", "s", scratch, "name", "s", out->bitmap, NULL));
        else
            json_array_add_string_element (bitmaps, out->bitmap);
    }
    out->export_id = own_name (p, "exp", item);
    out->export_node = g_strdup (node);
    g_autofree char *title =
        g_strdup_printf (_("export disk '%s' as '%s'"), item->disk->target, out->export_name);
    plan_add (p->plan, title, item->disk->target,
              qmp_action ("block-export-add",
                          obj ("id", "s", out->export_id, "type", "s", "nbd", "node-name", "s",
                               node, "name", "s", out->export_name, "writable", "b", FALSE,
                               "bitmaps", "a", bitmaps, NULL)),
              guarded (qmp_action ("block-export-del",
                                   obj ("id", "s", out->export_id, "mode", "s", "hard", NULL)),
                       "export", out->export_id),
              guarded (own_action ("export-wait-gone", obj ("export", "s", out->export_id, NULL)),
                       "export", out->export_id),
              NULL);
}

static gboolean name_exports (Planner *p, GError **error)
{
    for (guint i = 0; i < p->items->len; i++) {
        Item *item = p->items->pdata[i];
        const BackupDiskDef *def = item->def;
        item->out->export_name = g_strdup (
            def && def->exportname && *def->exportname ? def->exportname : item->disk->target);
        if (item->changes)
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

gboolean plan_pull (Planner *p, GError **error)
{
    if (!check_server (p, error) || !name_exports (p, error))
        return FALSE;
    p->plan->idle_timeout = p->in->def->server ? p->in->def->server->idle_timeout : 0;
    add_places (p, TRUE);
    add_server (p);
    if (!tx_checkpoint (p, FALSE, error))
        return FALSE;
    for (guint i = 0; i < p->items->len; i++) {
        Item *item = p->items->pdata[i];
        g_autofree char *scratch = own_name (p, "scr", item);
        if (item->changes)
            tx_changes (p, item, scratch, item->out->bitmap);
        tx_keep (p, item);
    }
    if (!add_point_in_time (p, error))
        return FALSE;
    for (guint i = 0; i < p->items->len; i++) {
        g_autofree char *view = add_view (p, p->items->pdata[i]);
        add_export (p, p->items->pdata[i], view);
    }
    return TRUE;
}
