#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/places.h"
#include "util/caller.h"
#include "util/config.h"
#include "util/files.h"

static gboolean may_open (Caller *caller, const char *path, CallerWish wish, GError **error)
{
    int fd = path ? caller_open (caller, path, wish, error) : -1;
    if (fd >= 0)
        close (fd);
    return !path || fd >= 0;
}

/* A key is as good as its reader. */
static gboolean check_tls_dir (Caller *caller, const char *dir, GError **error)
{
    static const char *const keys[] = { "server-key.pem", "client-key.pem", "keys.psk" };
    g_autofree char *configured = config_get_string ("tls_x509_dir");
    if (!dir || (configured && files_same (dir, configured)))
        return TRUE;
    if (!may_open (caller, dir, CALLER_READS, error))
        return FALSE;
    for (guint i = 0; i < G_N_ELEMENTS (keys); i++) {
        g_autofree char *path = g_build_filename (dir, keys[i], NULL);
        g_autoptr (GError) failure = NULL;
        if (!may_open (caller, path, CALLER_READS, &failure)
            && error_code (failure) == BAK_ERROR_ACCESS_DENIED) {
            g_propagate_error (error, g_steal_pointer (&failure));
            return FALSE;
        }
    }
    return TRUE;
}

/* A file that is to be made needs its directory; whether he may write there is found out by
 * writing. */
static gboolean check_local (Caller *caller, const char *path, GError **error)
{
    g_autofree char *dir = g_path_get_dirname (path);
    g_autoptr (GError) failure = NULL;
    int made;
    if (g_str_has_suffix (path, "/"))
        return may_open (caller, path, CALLER_READS, error);
    int fd = caller_open_unnamed (caller, path, &made, &failure);
    if (fd < 0) {
        if (error_code (failure) == BAK_ERROR_NOT_SUPPORTED)
            return TRUE;
        /* one that is there in a directory where nothing can be made: a device */
        return may_open (caller, path, CALLER_WRITES, error);
    }
    close (fd);
    close (made);
    return TRUE;
}

static gboolean check_store (Caller *caller, const StoreDef *store, GError **error)
{
    if (!store)
        return TRUE;
    if (store->type != STORE_NETWORK)
        return !store->path || !g_path_is_absolute (store->path)
               || check_local (caller, store->path, error);
    return may_open (caller, store->socket, CALLER_CONNECTS, error)
           && check_tls_dir (caller, store->tls_dir, error);
}

static gboolean check_server (Caller *caller, const ServerDef *server, GError **error)
{
    if (!server)
        return TRUE;
    return (!server->socket || caller_check_socket (caller, server->socket, error))
           && check_tls_dir (caller, server->tls_dir, error)
           && check_tls_dir (caller, server->tls_psk, error);
}

/* Whoever is logged in here can connect to a port of this host. */
static gboolean check_readers (const ServerDef *server, GError **error)
{
    if (!server || server->tls == TRISTATE_YES || server->tls_psk
        || server->allow_insecure == TRISTATE_YES)
        return TRUE;
    return error_set (
        error, BAK_ERROR_ACCESS_DENIED,
        _("a pull over TCP without TLS can be read by every user of this host: use a "
           "unix socket or TLS, or say that this is meant (--allow-insecure)"));
}

gboolean places_check_passed (const PassedAddress *passed, const ServerDef *server, GError **error)
{
    Caller *caller = caller_current ();
    if (!caller)
        return TRUE;
    return passed->path ? may_open (caller, passed->path, CALLER_CONNECTS, error)
                        : check_readers (server, error);
}

gboolean places_check (const BackupDef *def, GError **error)
{
    Caller *caller = caller_current ();
    if (!caller)
        return TRUE;
    for (guint i = 0; i < def->disks->len; i++) {
        const BackupDiskDef *disk = def->disks->pdata[i];
        if (!check_store (caller, disk->target, error)
            || !check_store (caller, disk->scratch, error)
            || !may_open (caller, disk->backing, CALLER_READS, error))
            return error_note (error, _("disk '%s'"), disk->name);
    }
    g_autofree char *scratch =
        def->scratch_dir ? g_build_filename (def->scratch_dir, "x", NULL) : NULL;
    return check_server (caller, def->server, error)
           && (!scratch || check_local (caller, scratch, error))
           && (!def->server || def->server->transport != SERVER_TCP
               || check_readers (def->server, error));
}

gboolean places_check_copy (const char *path, GError **error)
{
    Caller *caller = caller_current ();
    return !caller || check_local (caller, path, error);
}

gboolean places_check_attach (const bak_attach_args *args, GError **error)
{
    Caller *caller = caller_current ();
    const char *const sockets[] = { args->qmp, args->agent };
    if (!caller)
        return TRUE;
    for (guint i = 0; i < G_N_ELEMENTS (sockets); i++)
        if (sockets[i] && g_path_is_absolute (sockets[i])
            && !may_open (caller, sockets[i], CALLER_CONNECTS, error))
            return FALSE;
    for (guint i = 0; i < args->images.images_len; i++)
        if (!may_open (caller, args->images.images_val[i].id, CALLER_WRITES, error))
            return FALSE;
    return TRUE;
}
