/* Where bytes go: files, devices and places on the network; as structs and as one string. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "conf/backup_xml.h"
#include "conf/strings.h"
#include "util/error.h"
#include "util/nbd_uri.h"

static const gsize store_strings[] = {
    offsetof (StoreDef, path),   offsetof (StoreDef, name),        offsetof (StoreDef, host),
    offsetof (StoreDef, socket), offsetof (StoreDef, tls_dir),     offsetof (StoreDef, user),
    offsetof (StoreDef, agent),  offsetof (StoreDef, fingerprint), offsetof (StoreDef, auth_file),
    offsetof (StoreDef, config), offsetof (StoreDef, server),      offsetof (StoreDef, initiator),
    offsetof (StoreDef, uid),    offsetof (StoreDef, gid),         offsetof (StoreDef, process),
};

static const gsize encryption_strings[] = {
    offsetof (EncryptionDef, format),      offsetof (EncryptionDef, engine),
    offsetof (EncryptionDef, secret_uuid), offsetof (EncryptionDef, secret_usage),
    offsetof (EncryptionDef, secret_file), offsetof (EncryptionDef, cipher_xml),
    offsetof (EncryptionDef, ivgen_xml),
};

static void encryption_free (EncryptionDef *encryption)
{
    if (!encryption)
        return;
    strings_free (encryption, encryption_strings, G_N_ELEMENTS (encryption_strings));
    g_free (encryption);
}

static EncryptionDef *encryption_copy (const EncryptionDef *encryption)
{
    if (!encryption)
        return NULL;
    EncryptionDef *copy = g_memdup2 (encryption, sizeof *encryption);
    strings_dup (copy, encryption_strings, G_N_ELEMENTS (encryption_strings));
    return copy;
}

StoreDef *store_def_new (StoreType type)
{
    StoreDef *store = g_new0 (StoreDef, 1);

    store->type = type;
    return store;
}

void store_def_free (StoreDef *store)
{
    if (!store)
        return;
    strings_free (store, store_strings, G_N_ELEMENTS (store_strings));
    encryption_free (store->encryption);
    g_clear_pointer (&store->seclabels, g_ptr_array_unref);
    g_free (store);
}

static gpointer copy_string (gconstpointer text, gpointer unused)
{
    return g_strdup (text);
}

StoreDef *store_def_copy (const StoreDef *store)
{
    if (!store)
        return NULL;
    StoreDef *copy = g_memdup2 (store, sizeof *store);
    strings_dup (copy, store_strings, G_N_ELEMENTS (store_strings));
    copy->encryption = encryption_copy (store->encryption);
    copy->seclabels = NULL;
    if (store->seclabels) {
        copy->seclabels = g_ptr_array_copy (store->seclabels, copy_string, NULL);
        g_ptr_array_set_free_func (copy->seclabels, g_free);
    }
    return copy;
}

const char *store_protocol_to_string (StoreProtocol protocol)
{
    return protocol < PROTOCOL_NBD || protocol > PROTOCOL_NFS ? NULL : words_protocol[protocol];
}

/* One string */

static char *escape (const char *text)
{
    return g_uri_escape_string (text ? text : "", "/:@+,=", FALSE);
}

static char *describe_socket (const StoreDef *store)
{
    return nbd_uri_of_socket (store->tls == TRISTATE_YES, store->name, store->socket);
}

static char *describe_network (const StoreDef *store)
{
    const char *scheme = store_protocol_to_string (store->protocol),
               *name = store->name ? store->name : "";
    gboolean bracket = store->host && strchr (store->host, ':');
    /* ssh and nfs name absolute paths; the slash after the host is theirs */
    gboolean absolute =
        (store->protocol == PROTOCOL_SSH || store->protocol == PROTOCOL_NFS) && *name == '/';

    if (store->socket)
        return describe_socket (store);
    g_autofree char *path = escape (name);
    if (!store->host)
        return g_strdup_printf ("%s:%s", scheme, path);
    g_autofree char *port = store->port ? g_strdup_printf (":%u", store->port) : g_strdup ("");
    g_autofree char *host = escape (store->host);
    return g_strdup_printf ("%s%s://%s%s%s%s%s%s", scheme, store->tls == TRISTATE_YES ? "s" : "",
                            bracket ? "[" : "", host, bracket ? "]" : "", port, absolute ? "" : "/",
                            path);
}

gboolean store_def_is_directory (const StoreDef *store)
{
    return store->type == STORE_FILE && store->path && g_str_has_suffix (store->path, "/");
}

char *store_def_describe (const StoreDef *store)
{
    if (!store)
        return g_strdup ("");
    if (store->type == STORE_NETWORK)
        return describe_network (store);
    return g_strdup (store->path ? store->path : "");
}

static gboolean bad_target (const char *text, const char *why, GError **error)
{
    g_autofree char *shown = text_sanitize (text, 200);

    return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("target '%s': %s"), shown, why);
}

static gboolean one_line (const char *text, gsize max)
{
    if (!g_utf8_validate (text, -1, NULL) || strlen (text) > max)
        return FALSE;
    for (const char *p = text; *p; p = g_utf8_next_char (p))
        if (g_unichar_iscntrl (g_utf8_get_char (p)))
            return FALSE;
    return TRUE;
}

/* "nbds+unix" -> nbd, tls, unix */
static gboolean read_scheme (const char *scheme, StoreDef *store, gboolean *ret_unix)
{
    g_autofree char *base = g_strdup (scheme);

    *ret_unix = g_str_has_prefix (scheme, "nbd") && g_str_has_suffix (scheme, "+unix");
    if (*ret_unix)
        base[strlen (base) - strlen ("+unix")] = '\0';
    if (strcmp (base, "nbds") == 0) {
        store->tls = TRISTATE_YES;
        store->protocol = PROTOCOL_NBD;
        return TRUE;
    }
    for (guint i = 0; words_protocol[i]; i++)
        if (strcmp (base, words_protocol[i]) == 0) {
            store->protocol = i;
            return TRUE;
        }
    return FALSE;
}

static gboolean read_unix_target (GUri *uri, const char *text, StoreDef *store, GError **error)
{
    const char *query = g_uri_get_query (uri), *path = g_uri_get_path (uri);

    if (!query || !g_str_has_prefix (query, "socket=/") || strchr (query, '&')
        || !one_line (query, 7 + XML_SOCKET_MAX))
        return bad_target (text, _("expected ?socket=/PATH, of at most 107 bytes"), error);
    if (g_uri_get_host (uri) && *g_uri_get_host (uri))
        return bad_target (text, _("expected three slashes and no host before the export's name"),
                           error);
    store->socket = g_strdup (query + strlen ("socket="));
    store->name = g_strdup (*path == '/' ? path + 1 : path);
    return TRUE;
}

static gboolean read_host_target (GUri *uri, const char *text, StoreDef *store, GError **error)
{
    const char *host = g_uri_get_host (uri), *path = g_uri_get_path (uri);
    gboolean absolute = store->protocol == PROTOCOL_SSH || store->protocol == PROTOCOL_NFS;
    int port = g_uri_get_port (uri);

    if (!host || !*host || strlen (host) > 255
        || strspn (host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:%")
               != strlen (host))
        return bad_target (text, _("expected a host after '://'"), error);
    if (g_uri_get_query (uri))
        return bad_target (text, _("expected no '?'"), error);
    if (port == 0 || port > 65535)
        return bad_target (text, _("expected a port from 1 to 65535"), error);
    store->host = g_strdup (host);
    store->port = port > 0 ? port : 0;
    store->name = g_strdup (*path == '/' && !absolute ? path + 1 : path);
    if (*store->name == '\0' && store->protocol != PROTOCOL_NBD)
        return bad_target (text, _("expected a name after the host"), error);
    return TRUE;
}

static gboolean read_rbd_target (const char *text, StoreDef *store, GError **error)
{
    g_autofree char *name = g_uri_unescape_string (text + strlen ("rbd:"), NULL);

    if (!name || *name == '\0' || *name == '/' || !strchr (name, '/') || strchr (name, ':'))
        return bad_target (text, _("expected rbd:POOL/IMAGE"), error);
    store->protocol = PROTOCOL_RBD;
    store->name = g_steal_pointer (&name);
    return TRUE;
}

static gboolean read_uri_target (const char *text, StoreDef *store, GError **error)
{
    g_autoptr (GUri) uri = g_uri_parse (text, G_URI_FLAGS_NONE, NULL);
    gboolean unix_socket;

    if (!uri)
        return bad_target (
            text, _("expected an absolute path or an address as nbd://HOST[:PORT]/NAME"), error);
    if (!read_scheme (g_uri_get_scheme (uri), store, &unix_socket))
        return bad_target (text,
                           _("expected nbd://, nbds://, nbd+unix://, ssh://, gluster://, rbd:, "
                              "iscsi:// or nfs://"),
                           error);
    if (g_uri_get_userinfo (uri) || g_uri_get_fragment (uri))
        return bad_target (text, _("expected neither a user ('@') nor a fragment ('#')"), error);
    return unix_socket ? read_unix_target (uri, text, store, error)
                       : read_host_target (uri, text, store, error);
}

StoreDef *store_def_from_string (const char *text, GError **error)
{
    gboolean path = text && text[0] == '/';
    g_autoptr (StoreDef) store = store_def_new (
        !path                                                                       ? STORE_NETWORK
        : g_str_has_prefix (text, "/dev/") && !g_str_has_prefix (text, "/dev/shm/") ? STORE_BLOCK
                                                                                    : STORE_FILE);

    if (!text || *text == '\0' || !one_line (text, XML_PATH_MAX) || strcmp (text, "/") == 0) {
        bad_target (text, _("expected an absolute path or an address as nbd://HOST[:PORT]/NAME"),
                    error);
        return NULL;
    }
    if (path) {
        store->path = g_strdup (text);
        return g_steal_pointer (&store);
    }
    gboolean rbd = g_str_has_prefix (text, "rbd:") && !g_str_has_prefix (text, "rbd://");
    if (!(rbd ? read_rbd_target (text, store, error) : read_uri_target (text, store, error)))
        return NULL;
    if (!one_line (store->name, 4096)) {
        bad_target (text, _("expected a name without control characters"), error);
        return NULL;
    }
    return g_steal_pointer (&store);
}
