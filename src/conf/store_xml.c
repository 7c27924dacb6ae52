/* <target>, <scratch>: files, devices, network places, with labels and encryption. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "conf/backup_xml.h"
#include "util/error.h"

static const char *const words_luks[] = { "luks", NULL };
static const char *const words_qemu[] = { "qemu", NULL };
static const char *const words_passphrase[] = { "passphrase", NULL };
static const char *const words_tcp_unix[] = { "tcp", "unix", NULL };
static const char *const words_tcp[] = { "tcp", NULL };

#define STORE(member) offsetof (StoreDef, member)

static const XmlAttr file_attrs[] = { { "file", XML_PATH, TRUE, STORE (path) }, { NULL } };
static const XmlAttr block_attrs[] = { { "dev", XML_PATH, TRUE, STORE (path) }, { NULL } };

#define PROTOCOL                                                                                   \
    {                                                                                              \
        "protocol", XML_CHOICE, TRUE, STORE (protocol), words_protocol, PROTOCOL_NBD               \
    }

static const XmlAttr nbd_attrs[] = {
    PROTOCOL,
    { "name", XML_PLAIN_EMPTY, FALSE, STORE (name), .max = 4096 },
    { "tls", XML_CHOICE, FALSE, STORE (tls), words_yes_no, TRISTATE_YES },
    { "tls-dir", XML_PATH, FALSE, STORE (tls_dir) },
    { NULL },
};
static const XmlAttr network_attrs[] = { PROTOCOL,
                                         { "name", XML_PLAIN, TRUE, STORE (name), .max = 4096 },
                                         { NULL } };

static const XmlAttr host_unix_attrs[] = {
    { "transport", XML_WORD, TRUE, XML_NOWHERE, words_tcp_unix },
    { "socket", XML_SOCKET, TRUE, STORE (socket) },
    { NULL },
};
#define HOST_TCP(words)                                                                            \
    { "transport", XML_WORD, FALSE, XML_NOWHERE, words },                                          \
        { "name", XML_HOST, TRUE, STORE (host) },                                                  \
        { "port", XML_UINT, FALSE, STORE (port), .min = 1, .max = 65535 },                         \
    {                                                                                              \
        NULL                                                                                       \
    }
static const XmlAttr host_nbd_attrs[] = { HOST_TCP (words_tcp_unix) };
static const XmlAttr host_tcp_attrs[] = { HOST_TCP (words_tcp) };

static const XmlAttr *store_attrs (StoreType type, StoreProtocol protocol)
{
    switch (type) {
    case STORE_BLOCK: return block_attrs;
    case STORE_NETWORK: return protocol == PROTOCOL_NBD ? nbd_attrs : network_attrs;
    case STORE_FILE: break;
    }
    return file_attrs;
}

/* Encryption */

/* <cipher> and <ivgen>: checked and passed on. */
typedef struct {
    char *name, *mode, *hash;
    guint size;
} Cipher;

static void cipher_clear (Cipher *cipher)
{
    g_free (cipher->name);
    g_free (cipher->mode);
    g_free (cipher->hash);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Cipher, cipher_clear)

#define WORD_MAX 64

static gboolean read_cipher (const xmlNode *node, const XmlAttr *table, char **ret_xml,
                             GError **error)
{
    g_auto (Cipher) cipher = { 0 };
    XmlWriter writer;

    if (!node)
        return TRUE;
    if (!xml_check_empty (node, error) || !xml_read_attrs (node, table, _("here"), &cipher, error))
        return FALSE;
    if (xml_is (node, "cipher") && !cipher.mode != !cipher.hash)
        return xml_error (node, error, _("expected mode= and hash= together, or neither"));
    xml_writer_init (&writer);
    xml_start (&writer, (const char *) node->name);
    xml_attrs (&writer, table, &cipher);
    xml_end (&writer, (const char *) node->name);
    *ret_xml = g_strchomp (xml_writer_finish (&writer));
    return TRUE;
}

static gboolean read_secret (const xmlNode *parent, EncryptionDef *encryption, GError **error)
{
    static const XmlAttr attrs[] = {
        { "type", XML_WORD, TRUE, XML_NOWHERE, words_passphrase },
        { "uuid", XML_UUID, FALSE, offsetof (EncryptionDef, secret_uuid) },
        { "usage", XML_PLAIN, FALSE, offsetof (EncryptionDef, secret_usage), .max = 1024 },
        { "file", XML_PATH, FALSE, offsetof (EncryptionDef, secret_file) },
        { NULL },
    };
    const xmlNode *node = xml_child (parent, "secret");

    if (!node)
        return xml_error (
            parent, error,
            _("<secret> is missing: expected <secret type='passphrase' uuid=''/> or usage=''"));
    if (!xml_check_empty (node, error)
        || !xml_read_attrs (node, attrs, _("here"), encryption, error))
        return FALSE;
    if (!!encryption->secret_uuid + !!encryption->secret_usage + !!encryption->secret_file != 1)
        return xml_error (node, error, _("expected one of uuid=, usage= and file="));
    return TRUE;
}

static const XmlAttr encryption_attrs[] = {
    { "format", XML_WORD, TRUE, offsetof (EncryptionDef, format), words_luks },
    { "engine", XML_WORD, FALSE, offsetof (EncryptionDef, engine), words_qemu },
    { NULL },
};

static gboolean read_encryption (const xmlNode *node, EncryptionDef *encryption, GError **error)
{
    static const char *const names[] = { "secret", "cipher", "ivgen", NULL };
    static const XmlAttr cipher[] = {
        { "name", XML_PLAIN, TRUE, offsetof (Cipher, name), .max = WORD_MAX },
        { "size", XML_UINT, TRUE, offsetof (Cipher, size), .min = 1, .max = G_MAXUINT },
        { "mode", XML_PLAIN, FALSE, offsetof (Cipher, mode), .max = WORD_MAX },
        { "hash", XML_PLAIN, FALSE, offsetof (Cipher, hash), .max = WORD_MAX },
        { NULL },
    }, ivgen[] = {
        { "name", XML_PLAIN, TRUE, offsetof (Cipher, name), .max = WORD_MAX },
        { "hash", XML_PLAIN, FALSE, offsetof (Cipher, hash), .max = WORD_MAX },
        { NULL },
    };

    return xml_read_attrs (node, encryption_attrs, _("here"), encryption, error)
           && xml_check_children (node, names, _("here"), error)
           && read_secret (node, encryption, error)
           && read_cipher (xml_child (node, "cipher"), cipher, &encryption->cipher_xml, error)
           && read_cipher (xml_child (node, "ivgen"), ivgen, &encryption->ivgen_xml, error);
}

static void write_encryption (XmlWriter *writer, const EncryptionDef *encryption)
{
    xml_start (writer, "encryption");
    xml_attrs (writer, encryption_attrs, encryption);
    xml_start (writer, "secret");
    xml_attr (writer, "type", "passphrase");
    xml_attr (writer, "uuid", encryption->secret_uuid);
    xml_attr (writer, "usage", encryption->secret_usage);
    xml_attr (writer, "file", encryption->secret_file);
    xml_end (writer, "secret");
    xml_raw (writer, encryption->cipher_xml);
    xml_raw (writer, encryption->ivgen_xml);
    xml_end (writer, "encryption");
}

/* Labels */

typedef struct {
    char *model;
    Tristate relabel, labelskip;
} Seclabel;

static void seclabel_clear (Seclabel *label)
{
    g_free (label->model);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Seclabel, seclabel_clear)

static const XmlAttr seclabel_attrs[] = {
    { "model", XML_PLAIN_EMPTY, FALSE, offsetof (Seclabel, model), .max = WORD_MAX },
    { "relabel", XML_CHOICE, FALSE, offsetof (Seclabel, relabel), words_yes_no, TRISTATE_YES },
    { "labelskip", XML_CHOICE, FALSE, offsetof (Seclabel, labelskip),
      (const char *const[]){ "yes", NULL }, TRISTATE_YES },
    { NULL },
};

static gboolean check_seclabel (const xmlNode *node, const Seclabel *label, GError **error)
{
    const xmlNode *text = xml_child (node, "label");

    if (label->relabel != TRISTATE_ABSENT && label->labelskip != TRISTATE_ABSENT)
        return xml_error (node, error, _("expected either relabel= or labelskip=, not both"));
    if (label->relabel == TRISTATE_NO || label->labelskip == TRISTATE_YES)
        return !text
               || xml_error (text, error, _("not accepted with relabel='no' or labelskip='yes'"));
    return text || xml_error (node, error, _("<label> is missing: expected one, or relabel='no'"));
}

static gboolean write_labels (const xmlNode *node, XmlWriter *writer, GError **error)
{
    static const XmlAttr row = { "label", XML_PLAIN_EMPTY, FALSE, 0, .max = 4096 };

    for (const xmlNode *child = xml_child (node, "label"); child;
         child = xml_next (child, "label")) {
        g_autofree char *text = NULL;
        if (!xml_read_text_as (child, &row, &text, error))
            return FALSE;
        xml_text (writer, "label", text);
    }
    return TRUE;
}

/* As an element without indentation. */
static gboolean read_seclabel (const xmlNode *node, char **ret_xml, GError **error)
{
    static const char *const names[] = { "label*", NULL };
    g_auto (Seclabel) label = { 0 };
    XmlWriter writer;

    if (!xml_read_attrs (node, seclabel_attrs, _("here"), &label, error)
        || !xml_check_children (node, names, _("here"), error)
        || !check_seclabel (node, &label, error))
        return FALSE;
    xml_writer_init (&writer);
    xml_start (&writer, "seclabel");
    xml_attrs (&writer, seclabel_attrs, &label);
    gboolean done = write_labels (node, &writer, error);
    xml_end (&writer, "seclabel");
    *ret_xml = g_strchomp (xml_writer_finish (&writer));
    return done;
}

static gboolean read_seclabels (const xmlNode *node, StoreDef *store, GError **error)
{
    for (const xmlNode *child = xml_child (node, "seclabel"); child;
         child = xml_next (child, "seclabel")) {
        char *xml = NULL;
        gboolean done = read_seclabel (child, &xml, error);
        if (!store->seclabels)
            store->seclabels = g_ptr_array_new_with_free_func (g_free);
        g_ptr_array_add (store->seclabels, xml);
        if (!done)
            return FALSE;
    }
    return TRUE;
}

/* Network */

static gboolean read_host (const xmlNode *parent, StoreDef *store, GError **error)
{
    const xmlNode *node = xml_child (parent, "host");

    if (!node)
        return store->protocol == PROTOCOL_RBD
               || xml_error (parent, error, _("<host> is missing: expected <host name=''/>"));
    g_autofree char *transport = xml_get (node, "transport");
    const XmlAttr *table = g_strcmp0 (transport, "unix") == 0 ? host_unix_attrs : host_nbd_attrs;
    if (store->protocol != PROTOCOL_NBD)
        table = host_tcp_attrs;
    return xml_check_empty (node, error)
           && xml_read_attrs (node, table, _("with this transport"), store, error);
}

static void write_host (XmlWriter *writer, const StoreDef *store)
{
    if (!store->socket && !store->host)
        return;
    xml_start (writer, "host");
    if (store->socket)
        xml_attr (writer, "transport", "unix");
    xml_attrs (writer, store->socket ? host_unix_attrs : host_tcp_attrs, store);
    xml_end (writer, "host");
}

/* What libvirt's disk sources have beside the host, by protocol. */

static gboolean is_fingerprint (const char *text)
{
    const char *hex = g_str_has_prefix (text, "sha256:") ? text + strlen ("sha256:") : "";
    return strlen (hex) == 64 && strspn (hex, "0123456789abcdef") == 64;
}

static const XmlAttr identity_attrs[] = {
    { "username", XML_PLAIN, FALSE, STORE (user), .max = 255 },
    { "agentsock", XML_SOCKET, FALSE, STORE (agent) },
    { NULL },
};
/* libvirt: a number with '+' before it, or a name, which another host need not know */
static gboolean is_number (const char *text)
{
    const char *digits = *text == '+' ? text + 1 : text;
    return g_ascii_string_to_unsigned (digits, 10, 0, G_MAXUINT32 - 1, NULL, NULL);
}

static const XmlAttr owner_attrs[] = {
    { "user", XML_PLAIN, FALSE, STORE (uid), .max = 11 },
    { "group", XML_PLAIN, FALSE, STORE (gid), .max = 11 },
    { NULL },
};
static const XmlAttr known_hosts_attrs[] = {
    { "fingerprint", XML_PLAIN, TRUE, STORE (fingerprint), .max = 255 },
    { NULL },
};
static const XmlAttr config_attrs[] = { { "file", XML_PATH, TRUE, STORE (config) }, { NULL } };
static const XmlAttr auth_attrs[] = {
    { "username", XML_PLAIN, TRUE, STORE (user), .max = 255 },
    { NULL },
};
static const char *const words_auth[] = { "iscsi", "ceph", NULL };
static const XmlAttr auth_secret_attrs[] = {
    { "type", XML_WORD, TRUE, XML_NOWHERE, words_auth },
    { "file", XML_PATH, TRUE, STORE (auth_file) },
    { NULL },
};

static const XmlAttr no_attrs[] = { { NULL } };
static const XmlAttr iqn_attrs[] = {
    { "name", XML_PLAIN, TRUE, STORE (initiator), .max = 223 },
    { NULL },
};

/* inner: what must be in it, and nothing else */
typedef struct {
    StoreProtocol protocol;
    const char *element;
    const XmlAttr *attrs;
    const char *inner;
    const XmlAttr *inner_attrs;
} Extra;

static const Extra extras[] = {
    { PROTOCOL_SSH, "identity", identity_attrs },
    { PROTOCOL_NFS, "identity", owner_attrs },
    { PROTOCOL_SSH, "knownHosts", known_hosts_attrs },
    { PROTOCOL_RBD, "config", config_attrs },
    { PROTOCOL_RBD, "auth", auth_attrs, "secret", auth_secret_attrs },
    { PROTOCOL_ISCSI, "auth", auth_attrs, "secret", auth_secret_attrs },
    { PROTOCOL_ISCSI, "initiator", no_attrs, "iqn", iqn_attrs },
};

static gboolean read_inner (const xmlNode *node, const Extra *extra, StoreDef *store,
                            GError **error)
{
    const xmlNode *inner = xml_child (node, extra->inner);

    if (!inner)
        return xml_error (node, error, _("<%s> is missing: expected <%s %s=''/>"), extra->inner,
                          extra->inner, extra->inner_attrs == iqn_attrs ? "name" : "type='' file");
    return xml_check_empty (inner, error)
           && xml_read_attrs (inner, extra->inner_attrs, _("here"), store, error);
}

static gboolean read_extra (const xmlNode *node, const Extra *extra, StoreDef *store,
                            GError **error)
{
    const char *const names[] = { extra->inner, NULL };

    if (!(extra->inner ? xml_check_children (node, names, _("here"), error)
                       : xml_check_empty (node, error))
        || !xml_read_attrs (node, extra->attrs, _("here"), store, error))
        return FALSE;
    if (store->fingerprint && !is_fingerprint (store->fingerprint))
        return xml_error_value (node, "fingerprint", store->fingerprint, error,
                                _("expected sha256: and 64 hexadecimal digits"));
    if (store->uid && !is_number (store->uid))
        return xml_error_value (node, "user", store->uid, error, _("expected a number"));
    if (store->gid && !is_number (store->gid))
        return xml_error_value (node, "group", store->gid, error, _("expected a number"));
    return !extra->inner || read_inner (node, extra, store, error);
}

static gboolean read_extras (const xmlNode *node, StoreDef *store, GError **error)
{
    static const char *const elements[] = { "identity", "knownHosts", "config", "auth",
                                            "initiator" };

    for (guint e = 0; e < G_N_ELEMENTS (elements); e++) {
        const xmlNode *child = xml_child (node, elements[e]);
        const Extra *extra = NULL;
        for (guint i = 0; child && i < G_N_ELEMENTS (extras); i++)
            if (extras[i].protocol == store->protocol && xml_is (child, extras[i].element))
                extra = &extras[i];
        if (child && !extra)
            return xml_error (child, error, _("not accepted with protocol='%s'"),
                              store_protocol_to_string (store->protocol));
        if (child && !read_extra (child, extra, store, error))
            return FALSE;
    }
    return TRUE;
}

static void write_extras (XmlWriter *writer, const StoreDef *store)
{
    if (store->protocol == PROTOCOL_SSH && (store->user || store->agent)) {
        xml_start (writer, "identity");
        xml_attrs (writer, identity_attrs, store);
        xml_end (writer, "identity");
    }
    if (store->uid || store->gid) {
        xml_start (writer, "identity");
        xml_attrs (writer, owner_attrs, store);
        xml_end (writer, "identity");
    }
    if (store->fingerprint) {
        xml_start (writer, "knownHosts");
        xml_attrs (writer, known_hosts_attrs, store);
        xml_end (writer, "knownHosts");
    }
    if (store->config) {
        xml_start (writer, "config");
        xml_attrs (writer, config_attrs, store);
        xml_end (writer, "config");
    }
    if (store->auth_file) {
        xml_start (writer, "auth");
        xml_attr (writer, "username", store->user);
        xml_start (writer, "secret");
        xml_attr (writer, "type", store->protocol == PROTOCOL_RBD ? "ceph" : "iscsi");
        xml_attr (writer, "file", store->auth_file);
        xml_end (writer, "secret");
        xml_end (writer, "auth");
    }
    if (store->initiator) {
        xml_start (writer, "initiator");
        xml_start (writer, "iqn");
        xml_attrs (writer, iqn_attrs, store);
        xml_end (writer, "iqn");
        xml_end (writer, "initiator");
    }
}

static gboolean read_network (const xmlNode *node, StoreDef *store, GError **error)
{
    if (store->tls_dir && store->tls != TRISTATE_YES)
        return xml_error_value (node, "tls-dir", store->tls_dir, error,
                                _("expected tls='yes' beside it"));
    if (!store->name)
        store->name = g_strdup ("");
    return read_host (node, store, error) && read_extras (node, store, error);
}

gboolean store_read (const xmlNode *node, StoreType type, const char *where, StoreDef **ret_store,
                     GError **error)
{
    static const char *const local_names[] = { "seclabel*", "encryption", NULL };
    static const char *const network_names[] = { "host",      "identity",   "knownHosts",
                                                 "config",    "auth",       "initiator",
                                                 "seclabel*", "encryption", NULL };
    g_autoptr (StoreDef) store = store_def_new (type);
    g_autofree char *protocol = xml_get (node, "protocol");
    const XmlAttr *table =
        store_attrs (type, g_strcmp0 (protocol, "nbd") == 0 ? PROTOCOL_NBD : PROTOCOL_SSH);
    const xmlNode *encryption = xml_child (node, "encryption");

    if (!xml_read_attrs (node, table, where, store, error)
        || !xml_check_children (node, type == STORE_NETWORK ? network_names : local_names, where,
                                error)
        || !read_seclabels (node, store, error))
        return FALSE;
    if (type == STORE_NETWORK && !read_network (node, store, error))
        return FALSE;
    if (encryption) {
        store->encryption = g_new0 (EncryptionDef, 1);
        if (!read_encryption (encryption, store->encryption, error))
            return FALSE;
    }
    *ret_store = g_steal_pointer (&store);
    return TRUE;
}

void store_write (XmlWriter *writer, const char *element, const StoreDef *store)
{
    xml_start (writer, element);
    xml_attrs (writer, store_attrs (store->type, store->protocol), store);
    if (store->type == STORE_NETWORK)
        write_host (writer, store);
    if (store->type == STORE_NETWORK)
        write_extras (writer, store);
    for (guint i = 0; store->seclabels && i < store->seclabels->len; i++)
        xml_raw (writer, store->seclabels->pdata[i]);
    if (store->encryption)
        write_encryption (writer, store->encryption);
    xml_end (writer, element);
}
