/* The words and attributes of <domainbackup>, for reading and for writing. */
#include "conf/backup_xml.h"
#include "conf/format_def.h"

const char *const words_mode[] = { "push", "pull", NULL };
const char *const words_yes_no[] = { "yes", "no", NULL };
const char *const words_fallback[] = { "refuse", "full", NULL };
const char *const words_sync[] = { "full", "top", "none", "incremental", NULL };
const char *const words_backupmode[] = { "full", "incremental", NULL };
const char *const words_type[] = { "file", "block", "network", NULL };
const char *const words_protocol[] = { "nbd", "ssh", "gluster", "rbd", "iscsi", "nfs", NULL };
const char *const words_protect[] = { "yes", "no", "strict", NULL };
const char *const words_instant[] = { "begin", "end", NULL };
const char *const words_transport[] = { "tcp", "unix", "fd", "auto", NULL };

static const char *const words_compression[] = { "none", "zlib", "zstd", NULL };
static const char *const words_qcow2[] = { "qcow2", NULL };
static const char *const words_format[] = {
    "raw",   "qcow2", "qcow", "qed",   "vmdk",  "vdi", "vhdx", "vpc", "vhd", "parallels",
    "ploop", "luks",  "cow",  "bochs", "cloop", "dmg", "iso",  "fat", "dir", NULL,
};

const XmlAttr limit_attrs[] = { { "bytes_per_sec", XML_SIZE, TRUE, 0 }, { NULL } };

const XmlAttr guest_attrs[] = {
    { "protect", XML_CHOICE, FALSE, offsetof (BackupDef, protect), words_protect, PROTECT_YES },
    { "timeout", XML_UINT, FALSE, offsetof (BackupDef, cbw_timeout), .min = 1, .max = G_MAXUINT },
    { "scratch", XML_PATH, FALSE, offsetof (BackupDef, scratch_dir) },
    { "scratch-limit", XML_SIZE, FALSE, offsetof (BackupDef, scratch_limit) },
    { NULL },
};

const XmlAttr backing_attrs[] = { { "file", XML_PATH, TRUE, offsetof (BackupDiskDef, backing) },
                                  { NULL } };

#define CLUSTER_SIZE                                                                               \
    {                                                                                              \
        "cluster_size", XML_SIZE_POWER, FALSE, offsetof (BackupDiskDef, cluster_size),             \
            .min = POWER_MIN, .max = POWER_MAX                                                     \
    }

const XmlAttr driver_push_attrs[] = {
    { "type", XML_WORD, FALSE, offsetof (BackupDiskDef, format), words_format },
    { "compression", XML_WORD, FALSE, offsetof (BackupDiskDef, compression), words_compression },
    CLUSTER_SIZE,
    { "compat", XML_WORD, FALSE, offsetof (BackupDiskDef, compat), words_compat },
    { "extended_l2", XML_CHOICE, FALSE, offsetof (BackupDiskDef, extended_l2), words_yes_no,
      TRISTATE_YES },
    { "preallocation", XML_WORD, FALSE, offsetof (BackupDiskDef, preallocation),
      words_preallocation },
    { "subformat", XML_WORD, FALSE, offsetof (BackupDiskDef, subformat), words_subformat },
    { NULL },
};

const XmlAttr driver_pull_attrs[] = {
    { "type", XML_WORD, FALSE, offsetof (BackupDiskDef, format), words_qcow2 },
    CLUSTER_SIZE,
    { NULL },
};

#define TRANSPORT                                                                                  \
    {                                                                                              \
        "transport", XML_WORD, FALSE, XML_NOWHERE, words_transport                                 \
    }
#define SERVER_COMMON                                                                              \
    { "tls", XML_CHOICE, FALSE, offsetof (ServerDef, tls), words_yes_no, TRISTATE_YES },           \
        { "tls-dir", XML_PATH, FALSE, offsetof (ServerDef, tls_dir) },                             \
        { "tls-psk", XML_PATH, FALSE, offsetof (ServerDef, tls_psk) },                             \
        { "allow-insecure", XML_CHOICE,  FALSE, offsetof (ServerDef, allow_insecure),              \
          words_yes_no,     TRISTATE_YES },                                                        \
        { "idle-timeout", XML_UINT,        FALSE, offsetof (ServerDef, idle_timeout),              \
          .min = 0,       .max = G_MAXUINT },                                                      \
    {                                                                                              \
        NULL                                                                                       \
    }

static const XmlAttr server_tcp[] = {
    TRANSPORT,
    { "name", XML_HOST, TRUE, offsetof (ServerDef, name) },
    { "port", XML_UINT, FALSE, offsetof (ServerDef, port), .min = 1, .max = 65535 },
    SERVER_COMMON,
};

static const XmlAttr server_unix[] = { TRANSPORT,
                                       { "socket", XML_SOCKET, TRUE, offsetof (ServerDef, socket) },
                                       SERVER_COMMON };
static const XmlAttr server_fd[] = { TRANSPORT,
                                     { "fdgroup", XML_PLAIN, TRUE, offsetof (ServerDef, fdgroup),
                                       .max = 255 },
                                     SERVER_COMMON };
static const XmlAttr server_auto[] = { TRANSPORT, SERVER_COMMON };

const XmlAttr *server_attrs (ServerTransport transport, gboolean generated)
{
    switch (transport) {
    case SERVER_UNIX: return generated ? server_auto : server_unix;
    case SERVER_FD: return server_fd;
    case SERVER_TCP: break;
    }
    return server_tcp;
}
