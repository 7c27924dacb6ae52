/* The mover: reads an NBD export in address order, several requests in flight, hashes its leaves in
 * a thread of its own and hands them to a sink in another. What block status calls zeros is never
 * read. Memory is bounded by MOVER_MEMORY a disk, whatever its size; every request has a deadline.
 *
 * One call moves one disk and blocks; several disks are several threads that share a MoverControl.
 */
#pragma once
#include "mover/leaves.h"

enum {
    MOVER_CHUNK = 256 * 1024,        /* bytes of one request */
    MOVER_MEMORY = 16 * 1024 * 1024, /* bytes that are read and not yet taken by the sink */
    MOVER_IN_FLIGHT = 16,            /* requests */
    MOVER_TIMEOUT_MS = 60000,        /* for the answer to one request */
};

/* Steering, from any thread */

typedef struct MoverControl MoverControl;
MoverControl *mover_control_new (void);
MoverControl *mover_control_ref (MoverControl *control);
void mover_control_unref (MoverControl *control);
/* The movers end soon with ABORTED. */
void mover_control_cancel (MoverControl *control);
gboolean mover_control_cancelled (MoverControl *control);
/* All movers of this control together; 0: no limit. Holds at once. */
void mover_control_set_limit (MoverControl *control, guint64 bytes_per_second);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (MoverControl, mover_control_unref)

/* What is read */

typedef struct {
    const char *target;      /* the disk's name, for messages */
    int fd;                  /* a connected socket, which is taken; -1: one of the two below */
    const char *socket;      /* path of a unix socket */
    const char *host;        /* else TCP */
    guint port;              /* */
    const char *export_name; /* */
    const char *tls_dir;     /* NULL: no TLS; a folder of X.509 files, or of keys.psk */
    gboolean tls_psk;        /* */
    gboolean tls_insecure;   /* do not verify the server's certificate: it is this host's own */
    guint64 size;            /* that the export must have; 0: whatever it has */
} MoverSource;

/* A piece of the disk on its way to the sink. It begins on a leaf and ends on one, or at the end of
 * the disk. */
typedef struct {
    guint64 offset;
    guint64 length;     /* at most MOVER_CHUNK when there is data */
    const guchar *data; /* NULL: zeros. Data that is all zero comes as zeros too, leaf by leaf */
    guint64 leaf;       /* number of the first leaf */
    guint64 count;      /* leaves */
    const LeafHash *hashes; /* one a leaf; zeros: one, the same for all */
} MoverChunk;

/* A sink that keeps a chunk's data behind its write() holds it; what is held counts as memory. */
MoverChunk *mover_chunk_ref (MoverChunk *chunk);
void mover_chunk_unref (MoverChunk *chunk);

/* Called in one thread of the mover, in address order; a failure ends the mover with its error. */
typedef struct Sink Sink;
struct Sink {
    gboolean (*write) (Sink *sink, MoverChunk *chunk, GError **error);
    /* All of it is written and durable when this returns; only called when nothing failed. */
    gboolean (*finish) (Sink *sink, GError **error);
    void (*free) (Sink *sink);
    int stop_fd; /* set by the mover: readable when a wait of the sink is to end with ABORTED */
};
void sink_free (Sink *sink);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Sink, sink_free)

/* What is done with a view of hashes that are known already */
typedef enum {
    MOVER_CHECK_NONE,
    MOVER_CHECK_PROVE,      /* the first leaf that differs ends it: INEXACT, with its range */
    MOVER_CHECK_REPORT,     /* differs() is called for each run of leaves that differ */
    MOVER_CHECK_SKIP_EQUAL, /* leaves that are equal reach neither the sink nor the file of leaves
                             */
} MoverCheck;

typedef struct {
    const char *bitmap;  /* read only what this exported dirty bitmap marks (its name in the export,
                            without "qemu:dirty-bitmap:"); NULL: all */
    guint64 size;        /* 0: the export's; else only its first bytes are looked at, so many */
    guint64 begin;       /* what lies before is known and not read; on a leaf */
    const LeafSet *only; /* read only these leaves; NULL: all. Not together with bitmap */
    const LeafKey *key;  /* of all leaves; borrowed; NULL: none */
    LeavesView *view;    /* with the same key; for check; borrowed, used by a thread of the mover */
    MoverCheck check;
    void (*differs) (guint64 offset, guint64 length, gpointer data);
    LeavesWriter *leaves;  /* gets the leaves that the sink gets; borrowed; NULL: none */
    guint connections;     /* 0: one; more only when the export says multi-conn and source.fd < 0 */
    guint timeout_ms;      /* 0: MOVER_TIMEOUT_MS */
    MoverControl *control; /* borrowed; NULL: none */
    /* done: the place on the disk up to which all is done, of its size; in a thread of the mover,
     * at most ten times a second and once at the end. */
    void (*progress) (guint64 done, guint64 total, gpointer data);
    gpointer data; /* of differs and progress */
} MoverOptions;

typedef struct {
    guint64 size;      /* of the export */
    guint64 looked;    /* bytes whose state is known now: all, or what the bitmap or set marks */
    guint64 read;      /* bytes that came over the wire */
    guint64 zeroed;    /* bytes known as zeros without reading */
    guint64 stored;    /* bytes of data that went to the sink */
    guint64 differed;  /* bytes of leaves that differ from the view */
    gboolean has_root; /* all leaves were looked at */
    LeafHash root;
} MoverResult;

/* Errors: INVALID_ARGUMENT, CONNECTION, TIMEOUT, IO, INEXACT, ABORTED, those of the sink; each
 * names the disk. sink may be NULL (hash only); it is not freed. */
gboolean mover_run (const MoverSource *source, const MoverOptions *options, Sink *sink,
                    MoverResult *ret_result, GError **error);

/* Sinks; each takes the disk's size */

/* Writes by NBD (see storage.h for how an image becomes an export); fd: a connected socket, which
 * is taken. Now and then it is flushed on the way, so that who dies leaves something to go on with.
 * Zeros go as write-zeroes, so that they are kept as zeros also where a backing file has data.
 * finish() flushes and sees the answer. */
Sink *sink_nbd_new (int fd, const char *export_name, guint64 size, guint timeout_ms,
                    GError **error);
/* All of it reads as zeros now, so zeros need no writing; before the mover runs. */
void sink_nbd_set_blank (Sink *sink);
/* Raw bytes into a descriptor of a regular file (sparse) or a block device; borrowed. blank: all of
 * it reads as zeros now, so zeros need no writing. */
Sink *sink_raw_new (int fd, guint64 size, gboolean blank);
/* A function for each chunk. */
typedef gboolean (*SinkFunction) (MoverChunk *chunk, gpointer data, GError **error);
Sink *sink_callback_new (SinkFunction function, gpointer data);
