/* <domainbackup> as plain structs: the outcome of parsing either dialect, the input of
 * the plan. No I/O, no driver, no public types. Everything a struct points at is its own. */
#pragma once
#include <glib.h>

typedef enum { BACKUP_MODE_PUSH, BACKUP_MODE_PULL } BackupMode;
typedef enum { DIALECT_MODERN, DIALECT_2016 } BackupDialect;

typedef enum { STORE_FILE, STORE_BLOCK, STORE_NETWORK } StoreType;
typedef enum {
    PROTOCOL_NBD,
    PROTOCOL_SSH,
    PROTOCOL_GLUSTER,
    PROTOCOL_RBD,
    PROTOCOL_ISCSI,
    PROTOCOL_NFS
} StoreProtocol;

typedef enum { SYNC_DEFAULT, SYNC_FULL, SYNC_TOP, SYNC_NONE, SYNC_INCREMENTAL } SyncMode;
typedef enum { FALLBACK_DEFAULT, FALLBACK_REFUSE, FALLBACK_FULL } Fallback;
typedef enum { PROTECT_DEFAULT, PROTECT_YES, PROTECT_NO, PROTECT_STRICT } Protect;
typedef enum { INSTANT_DEFAULT, INSTANT_BEGIN, INSTANT_END } Instant;
typedef enum { TRISTATE_ABSENT, TRISTATE_YES, TRISTATE_NO } Tristate;

/* luks, as libvirt spells it */
typedef struct {
    char *format;      /* "luks" */
    char *engine;      /* NULL or "qemu" */
    char *secret_uuid; /* exactly one of uuid, usage, file */
    char *secret_usage;
    char *secret_file;            /* absolute */
    char *cipher_xml, *ivgen_xml; /* kept as elements, for output; NULL */
} EncryptionDef;

/* A <target> or <scratch>. */
typedef struct {
    StoreType type;
    /* file or device, absolute; NULL when type is network or when it is to be generated */
    char *path;
    StoreProtocol protocol; /* network only, from here on */
    char *name;             /* export, volume or path on the server; may be "" */
    char *host;             /* NULL with a unix socket */
    guint port;             /* 0: the protocol's default */
    char *socket;           /* <host transport='unix' socket=''/> */
    /* which server that is, under whatever name; NULL: nobody has looked (plan_mark_servers) */
    char *server;
    /* the process of this host that listens there, where that can be seen; NULL */
    char *process;
    char *user;        /* <identity username=''>, <auth username=''>; NULL */
    char *agent;       /* ssh: <identity agentsock=''>; NULL */
    char *fingerprint; /* ssh: <knownHosts fingerprint='sha256:HEX'>; NULL: known_hosts */
    char *auth_file;   /* <auth><secret file=''>; NULL */
    char *config;      /* rbd: <config file=''>; NULL */
    /* nfs: <identity user='' group=''>, as numbers; NULL: of the process that opens it */
    char *uid, *gid;
    char *initiator; /* iscsi: <initiator><iqn name=''>; NULL: QEMU's own */
    Tristate tls;    /* <target ... tls='yes'> */
    char *tls_dir;
    EncryptionDef *encryption; /* NULL */
    GPtrArray *seclabels;      /* char*: each <seclabel> as an element, for output; NULL: none */
} StoreDef;

typedef struct {
    char *name;      /* any name the disk answers to */
    guint line;      /* in the document, 0 when made by a program */
    Tristate backup; /* backup='yes|no', present='no' */
    StoreType type;  /* of target and scratch */
    gboolean has_type;
    /* sync='', backupmode='', 2016 type=''; DEFAULT: incremental if a base is named, else full */
    SyncMode sync;
    gboolean sync_spelled_mode; /* given as backupmode (for faithful output) */
    char *incremental;          /* base checkpoint of this disk; NULL: the document's */
    Fallback fallback;
    char *exportname, *exportbitmap; /* pull; NULL: defaults (target, backup-TARGET) */
    StoreDef *target;                /* push; NULL: generated in target_dir */
    StoreDef *scratch;    /* pull, or a protected push; NULL: generated in the scratch directory */
    char *format;         /* driver type; NULL: default (qcow2; raw for block) */
    char *compression;    /* NULL, none, zlib, zstd */
    guint64 cluster_size; /* bytes, 0: QEMU's default */
    /* of the target's format (format_def.h); NULL: QEMU's default */
    char *compat, *preallocation, *subformat;
    Tristate extended_l2;
    char *backing; /* <backing file=''>: previous backup that this increment is laid on */
    guint64 limit; /* bytes a second, 0: none */
    /* of the bitmap that is made; bytes, 0: default. 2016 <bitmap granularity>, granularity='' */
    guint64 granularity;
    /* output-only attribute of libvirt, written when set, on input accepted and ignored */
    char *index;
    char *state; /* idem: running complete failed cancelling cancelled */
} BackupDiskDef;

typedef enum { SERVER_TCP, SERVER_UNIX, SERVER_FD } ServerTransport;

typedef struct {
    ServerTransport transport;
    char *name;   /* tcp: address to listen on */
    guint port;   /* tcp: 0 means absent; the plan chooses or refuses */
    char *socket; /* unix: absolute; NULL: generated in the state directory (transport='auto') */
    char *fdgroup;
    Tristate tls;
    char *tls_dir;           /* x509 directory of this job */
    char *tls_psk;           /* directory with keys.psk */
    Tristate allow_insecure; /* allow-insecure='yes': non-loopback TCP without TLS */
    guint idle_timeout;      /* idle-timeout='SECONDS', 0: none */
} ServerDef;

typedef struct {
    BackupDialect dialect; /* of the text that was parsed; output is always modern */
    BackupMode mode;
    char *incremental; /* base checkpoint for all disks; NULL */
    /* 2016 <branch name=''>, today series=''; NULL. Never together with incremental */
    char *series;
    ServerDef *server;     /* pull; never NULL after parsing. NULL is written as transport='auto' */
    gboolean has_disks;    /* <disks> present: unlisted disks are left out (2016: an error) */
    GPtrArray *disks;      /* BackupDiskDef*, document order; never NULL */
    guint64 limit;         /* <limit bytes_per_sec=''/> at the root, 0: none */
    Protect protect;       /* <guest protect=''>: yes|no|strict */
    guint cbw_timeout;     /* <guest timeout='SECONDS'>, 0: default */
    char *scratch_dir;     /* <guest scratch='DIR'> */
    guint64 scratch_limit; /* <guest scratch-limit='BYTES'>, 0: none */
    Fallback fallback;     /* root fallback='' */
    Instant instant;       /* push: the point in time is that of begin (default), or of the end */
} BackupDef;

/* Chooses the dialect by its tokens, validates, parses. Errors (BAK_ERROR_XML, and the codes of
 * libvirt.md for semantic ones) name line, element, attribute, value and what would be accepted. */
BackupDef *backup_def_parse (const char *xml, GError **error);
/* Modern form, always valid input again. */
char *backup_def_format (const BackupDef *def);
BackupDef *backup_def_new (void);
void backup_def_free (BackupDef *def);
BackupDef *backup_def_copy (const BackupDef *def);
BackupDiskDef *backup_disk_def_new (const char *name);
void backup_disk_def_free (BackupDiskDef *disk);
BackupDiskDef *backup_disk_def_copy (const BackupDiskDef *disk);
ServerDef *server_def_new (ServerTransport transport);
void server_def_free (ServerDef *server);
ServerDef *server_def_copy (const ServerDef *server);
StoreDef *store_def_new (StoreType type);
void store_def_free (StoreDef *store);
StoreDef *store_def_copy (const StoreDef *store);
/* "nbd://host:port/name", a path, ...: for messages and records. Caller frees. */
/* a path with a slash at its end: for files that get their names from us */
gboolean store_def_is_directory (const StoreDef *store);
char *store_def_describe (const StoreDef *store);
/* A target from one string of the command line: an absolute path (file; block when it starts with
 * /dev/), or nbd://HOST[:PORT]/NAME (nbds:// with TLS), nbd+unix:///NAME?socket=PATH,
 * ssh://HOST/PATH, gluster://HOST/VOLUME/PATH, rbd:POOL/IMAGE, iscsi://HOST/IQN/LUN,
 * nfs://HOST/PATH. What store_def_describe says is understood again. */
StoreDef *store_def_from_string (const char *text, GError **error);

/* Names as the XML spells them; NULL for DEFAULT. */
const char *sync_mode_to_string (SyncMode mode); /* "full" ...; DEFAULT gives NULL */
gboolean sync_mode_from_string (const char *text, SyncMode *ret_mode);
const char *store_protocol_to_string (StoreProtocol protocol);
const char *protect_to_string (Protect protect);
gboolean protect_from_string (const char *text, Protect *ret_protect);
const char *instant_to_string (Instant instant);
const char *fallback_to_string (Fallback fallback);
gboolean fallback_from_string (const char *text, Fallback *ret_fallback);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (BackupDef, backup_def_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BackupDiskDef, backup_disk_def_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (ServerDef, server_def_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (StoreDef, store_def_free)
