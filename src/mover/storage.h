/* A private storage daemon that opens images and exports them to this process alone, for the mover
 * to read from or write to. No file of ours is left whatever dies: the sockets are connected and
 * unlinked before the daemon starts; it dies with the thread that started it. */
#pragma once
#include "util/error.h"

/* One file of a chain. What its own header says about a backing file is never followed. */
typedef struct {
    const char *file;
    const char *format; /* "qcow2", "raw" */
    const char *secret; /* LUKS within qcow2: its pass phrase, one and the same for all layers of a
                           storage that have one; NULL: not encrypted */
    const int *fd;      /* the open file itself, whatever lies at its name by now: of one layer of a
                           storage; NULL: it is opened by its name */
} StorageLayer;

typedef struct {
    const char *name;           /* of the export, unique in its storage */
    const StorageLayer *layers; /* top first; they are opened in this order, by these names */
    guint n_layers;             /* */
    gboolean writable;          /* the top layer; the others never are */
    gboolean compress; /* qcow2: what is written is compressed, if the size is whole clusters */
    guint64 size;      /* of the disk */
} StorageImage;

typedef struct Storage Storage;
/* connections: how many times storage_connect may be called; they are dropped by newer daemons
 * unless they are used within ten seconds. BUSY: another QEMU holds an image. */
Storage *storage_start (const StorageImage *images, guint count, guint connections, GError **error);
/* The same for others than this process. */
typedef struct {
    int fd;              /* a socket that listens; borrowed */
    const char *tls_dir; /* NULL: no TLS; a folder of X.509 files, peers verified, or of keys.psk */
    gboolean tls_psk;    /* */
} StorageServer;

Storage *storage_serve (const StorageImage *images, guint count, const StorageServer *server,
                        GError **error);
/* Clients that are connected now. */
guint storage_count_clients (Storage *storage);
/* Readable when it has ended; the caller closes it. -1: cannot be had. */
int storage_open_pidfd (Storage *storage);
/* A connected socket for libnbd (MoverSource.fd, sink_nbd_new); the caller's. -1: none left. */
int storage_connect (Storage *storage);
/* Ends it and sees that it closed its images and ended well: then a writable image is as QEMU
 * leaves it. It is gone afterwards in any case; *error has what it said last. */
gboolean storage_stop (Storage *storage, GError **error);
/* Kills it if it runs. */
void storage_free (Storage *storage);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Storage, storage_free)

/* A new qcow2 image of this size (EXISTS when there is one): 64 KiB clusters, backing (NULL: none)
 * as it will stand in its header, which nobody opens. compression: NULL or "zstd". secret: it is
 * encrypted by LUKS with this as pass phrase, which must be a random key: it is stretched no more
 * than LUKS must, as each layer of a chain does it anew at each opening. NULL: not encrypted. */
gboolean storage_create_image (const char *file, guint64 size, const char *backing,
                               const char *compression, const char *secret, GError **error);
/* The same into an open, empty file; compression, backing and secret: none. name: for messages. */
gboolean storage_format_file (int fd, const char *name, guint64 size, GError **error);
/* An encrypted qcow2 image, without what it stands on, as image_tool_secret() opens it; caller
 * frees. */
char *storage_name_encrypted (const char *file);
