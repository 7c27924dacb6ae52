#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/protocols.h"
#include "job/build.h"

enum { SSH_PORT = 22, ISCSI_PORT = 3260, GLUSTER_PORT = 24007 };

static char *port_of (const StoreDef *store, guint fallback)
{
    return g_strdup_printf ("%u", store->port ? store->port : fallback);
}

/* ---- ssh ---- */

static JsonObject *ssh_options (const StoreDef *store, const char *secret)
{
    g_autofree char *port = port_of (store, SSH_PORT);
    const char *colon = store->fingerprint ? strchr (store->fingerprint, ':') : NULL;
    g_autofree char *type =
        colon ? g_strndup (store->fingerprint, colon - store->fingerprint) : NULL;
    JsonObject *check =
        colon ? obj ("mode", "s", "hash", "type", "s", type, "hash", "s", colon + 1, NULL)
              : obj ("mode", "s", "known_hosts", NULL);

    return obj ("server", "o", obj ("host", "s", store->host, "port", "s", port, NULL), "path", "s",
                store->name, "user", "s", store->user, "host-key-check", "o", check, NULL);
}

static gboolean ssh_check (const StoreDef *store, GError **error)
{
    return *store->name == '/'
           || error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                         _("ssh names a file by its whole path, as ssh://HOST/backup/FILE, not "
                            "'%s'"),
                         store->name);
}

/* ---- iscsi ---- */

static JsonObject *iscsi_options (const StoreDef *store, const char *secret)
{
    const char *slash = strrchr (store->name, '/');
    g_autofree char *port = port_of (store, ISCSI_PORT),
                    *target = g_strndup (store->name, slash - store->name);
    gboolean bracket = strchr (store->host, ':') != NULL;
    g_autofree char *portal =
        g_strdup_printf ("%s%s%s:%s", bracket ? "[" : "", store->host, bracket ? "]" : "", port);

    return obj ("transport", "s", "tcp", "portal", "s", portal, "target", "s", target, "lun", "i",
                (gint64) g_ascii_strtoull (slash + 1, NULL, 10), "user", "s", store->user,
                "password-secret", "s", secret, "initiator-name", "s", store->initiator, NULL);
}

static gboolean iscsi_check (const StoreDef *store, GError **error)
{
    const char *slash = strrchr (store->name, '/');

    if (slash && slash > store->name
        && g_ascii_string_to_unsigned (slash + 1, 10, 0, 16383, NULL, NULL))
        return TRUE;
    return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                      _("iscsi names a unit of a target, as iscsi://HOST/IQN/1, not '%s'"),
                      store->name);
}

/* ---- rbd ---- */

static JsonObject *rbd_options (const StoreDef *store, const char *secret)
{
    const char *slash = strchr (store->name, '/');
    g_autofree char *pool = g_strndup (store->name, slash - store->name),
                    *port = store->port ? port_of (store, 0) : g_strdup ("6789");
    JsonArray *servers =
        store->host ? arr (obj ("host", "s", store->host, "port", "s", port, NULL), NULL) : NULL;

    return obj ("pool", "s", pool, "image", "s", slash + 1, "conf", "s", store->config, "user", "s",
                store->user, "key-secret", "s", secret, "server", "a", servers, NULL);
}

static gboolean rbd_check (const StoreDef *store, GError **error)
{
    const char *slash = strchr (store->name, '/');

    if (!slash || slash == store->name || !slash[1] || strchr (store->name, '@'))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("rbd names an image of a pool, and no snapshot of it, as "
                             "rbd:POOL/IMAGE, not '%s'"),
                          store->name);
    return TRUE;
}

/* ---- gluster, nfs ---- */

static JsonObject *gluster_options (const StoreDef *store, const char *secret)
{
    const char *slash = strchr (store->name, '/');
    g_autofree char *port = port_of (store, GLUSTER_PORT),
                    *volume = g_strndup (store->name, slash - store->name);

    return obj (
        "volume", "s", volume, "path", "s", slash + 1, "server", "a",
        arr (obj ("type", "s", "inet", "host", "s", store->host, "port", "s", port, NULL), NULL),
        NULL);
}

static gboolean gluster_check (const StoreDef *store, GError **error)
{
    const char *slash = strchr (store->name, '/');

    return (slash && slash > store->name && slash[1])
           || error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                         _("gluster names a file of a volume, as gluster://HOST/VOLUME/FILE, not "
                            "'%s'"),
                         store->name);
}

static void set_number (JsonObject *options, const char *name, const char *text)
{
    if (text)
        json_object_set_int_member (options, name,
                                    (gint64) g_ascii_strtoull (text + (*text == '+'), NULL, 10));
}

static JsonObject *nfs_options (const StoreDef *store, const char *secret)
{
    JsonObject *options =
        obj ("server", "o", obj ("type", "s", "inet", "host", "s", store->host, NULL), "path", "s",
             store->name, NULL);

    set_number (options, "user", store->uid);
    set_number (options, "group", store->gid);
    return options;
}

static gboolean nfs_check (const StoreDef *store, GError **error)
{
    if (store->port)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("nfs asks the server's port mapper: no port can be named"));
    return *store->name == '/'
           || error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                         _("nfs names a file by its whole path, as nfs://HOST/export/FILE, not "
                            "'%s'"),
                         store->name);
}

static const ProtocolRow rows[] = {
    { PROTOCOL_SSH, "ssh", ssh_options, ssh_check, .proved = TRUE, .creates = TRUE },
    { PROTOCOL_ISCSI, "iscsi", iscsi_options, iscsi_check, .proved = TRUE, .reopens = TRUE,
      .reconnects = TRUE },
    { PROTOCOL_RBD, "rbd", rbd_options, rbd_check, .text_secret = TRUE, .proved = TRUE,
      .reopens = TRUE, .creates = TRUE },
    { PROTOCOL_GLUSTER, "gluster", gluster_options, gluster_check, .reopens = TRUE,
      .creates = TRUE },
    { PROTOCOL_NFS, "nfs", nfs_options, nfs_check, .proved = TRUE, .reopens = TRUE,
      .reconnects = TRUE, .creates = TRUE },
};

const ProtocolRow *protocol_row (const StoreDef *store)
{
    for (guint i = 0; store->type == STORE_NETWORK && i < G_N_ELEMENTS (rows); i++)
        if (rows[i].protocol == store->protocol)
            return &rows[i];
    return NULL;
}
