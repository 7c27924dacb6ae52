/* libbackup: repositories of restore points.
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A repository is where backups are kept: a directory. A restore point is one guest at one instant
 * in it: its disks, its definition, and a tree of hashes over what the guest saw, by which a
 * restore is proved. A point is seen only when all of it is durable and the backup's verdict was
 * good; from then on its content never changes.
 *
 * A point is named GUEST@ID, GUEST@latest, GUEST@2026-11-29 (the newest of that day, in local
 * time), GUEST@2026-11-29T01:00:03Z, or by its id alone. GUEST is a name or a UUID. */
#ifndef LIBBACKUP_REPOSITORY_H
#define LIBBACKUP_REPOSITORY_H

#include <libbackup/backup.h>
#include <libbackup/domain.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * BakRepository:
 *
 * An open repository. Holds no lock while nothing is done with it.
 *
 * Since: 0.1
 */
typedef struct BakRepository BakRepository;

/**
 * BakPoint:
 *
 * A restore point as it was when it was asked for; a snapshot that does not change.
 *
 * Since: 0.1
 */
typedef struct BakPoint BakPoint;

/**
 * BakPointDisk:
 *
 * One disk of a BakPoint, owned by that.
 *
 * Since: 0.1
 */
typedef struct BakPointDisk BakPointDisk;

/**
 * BakCancellation:
 *
 * By what a long call is told, from another thread, to end soon. One may be given to several calls.
 *
 * Since: 0.1
 */
typedef struct BakCancellation BakCancellation;

/**
 * BakPointProgress:
 *
 * How far a long call on a point is. Fields are only ever added at the end.
 *
 * Since: 0.1
 */
typedef struct {
    unsigned long size;         /* of this struct, as the library knows it */
    const char *phase;          /* "begin", "read", "sample", "publish", "verify", "restore", … */
    const char *disk;           /* which one is worked on; NULL: all or none */
    unsigned long long done;    /* bytes dealt with in this phase, all disks together */
    unsigned long long total;   /* bytes to deal with; 0: not known */
    unsigned long long elapsed; /* microseconds since the call began */
} BakPointProgress;

/**
 * BakPointProgressFunc:
 * @progress: how far it is; valid within the call only
 * @opaque: what the caller gave beside the function
 *
 * Called a few times a second by the thread that runs the long call, or by one of the library's
 * own, never by two at once. It must not call the library.
 *
 * Since: 0.1
 */
typedef void (*BakPointProgressFunc) (const BakPointProgress *progress, void *opaque);

/**
 * BakQuiesce:
 *
 * Whether the guest's file systems are frozen around the point in time.
 *
 * Since: 0.1
 */
typedef enum {
    BAK_QUIESCE_AUTO = 0, /* when its agent does it; if not, the point says so */
    BAK_QUIESCE_YES = 1,  /* or fail */
    BAK_QUIESCE_NO = 2
} BakQuiesce;

/**
 * BakRepositoryKeyKind:
 *
 * What opens an encrypted repository.
 *
 * Since: 0.1
 */
typedef enum {
    /* a text of people; in its file a newline at the end does not count */
    BAK_REPOSITORY_KEY_PASSPHRASE = 0,
    BAK_REPOSITORY_KEY_FILE = 1 /* at least 32 random bytes, taken as they are */
} BakRepositoryKeyKind;

/**
 * BakRepositoryCreateOptions:
 *
 * Set it to zero and @size to sizeof (BakRepositoryCreateOptions), then fill in what is needed.
 * Fields are only ever added at the end.
 *
 * Since: 0.1
 */
typedef struct {
    unsigned long size; /* sizeof (BakRepositoryCreateOptions) */
    const char *note;   /* for people, or NULL */
    /* a file with a pass phrase, or a key file: the repository is encrypted, and this opens it;
     * /dev/fd/N for a descriptor; NULL: not encrypted */
    const char *key;
    BakRepositoryKeyKind key_kind;
} BakRepositoryCreateOptions;

/**
 * BakPointCreateFlags:
 *
 * Flags of BakPointCreateOptions.
 *
 * Since: 0.1
 */
typedef enum {
    BAK_POINT_CREATE_FULL_READ = 1 << 0, /* read everything, whatever tracking says */
    /* do not test what changed-block tracking says; for tests of that test */
    BAK_POINT_CREATE_NO_SAMPLE = 1 << 1,
    BAK_POINT_CREATE_PIN = 1 << 2, /* the new point is pinned */
    /* fail with BAK_ERROR_INEXACT when a disk that has a point cannot be an increment */
    BAK_POINT_CREATE_REFUSE_FALLBACK = 1 << 3,
    /* go on with what a call that died was reading, if its backup still runs and the disks are the
     * same: the point is of that call's instant, and what it stored and its hashes prove is not
     * read again; else a new one is made, and a warning of the point says why */
    BAK_POINT_CREATE_RESUME = 1 << 4
} BakPointCreateFlags;

/**
 * BakPointCreateOptions:
 *
 * Set it to zero and @size to sizeof (BakPointCreateOptions), then fill in what is needed. Fields
 * are only ever added at the end.
 *
 * Since: 0.1
 */
typedef struct {
    unsigned long size; /* sizeof (BakPointCreateOptions) */
    unsigned int flags; /* BakPointCreateFlags */
    /* NULL-terminated, any name that a disk answers to; NULL: those that a backup takes by itself
     */
    const char *const *disks;
    BakQuiesce quiesce;
    unsigned int samples;       /* places a disk that are compared with the base; 0: 64 */
    const char *compression;    /* "none", "zstd" or "zstd:LEVEL"; NULL: none */
    unsigned long long limit;   /* bytes a second that are read, all disks together; 0: no limit */
    unsigned long long timeout; /* microseconds for all of it; 0: none */
    const char *note;           /* for people, or NULL */
    BakPointProgressFunc progress; /* or NULL */
    void *opaque;                  /* for progress */
    BakCancellation *cancellation; /* or NULL */
} BakPointCreateOptions;

/**
 * BakPointRemoval:
 *
 * What became, or in a dry run would become, of one point.
 *
 * Since: 0.1
 */
typedef struct {
    unsigned long size; /* of this struct, as the library knows it */
    const char *id;     /* of the point */
    const char *guest;  /* its name */
    long long instant;  /* microseconds since 1970 */
    int removed;        /* 1: it is gone. 0: it stays, or this is a dry run */
    const char *why;    /* the rule that keeps it, or who uses it; NULL: nothing keeps it */
    /* how its data goes to those that stand on it: "rewrite", "reflink", "in-place"; NULL: nothing
     * stands on it */
    const char *way;
    unsigned long long cost; /* bytes that this writes, at most */
} BakPointRemoval;

/**
 * BakPointRemovalFunc:
 * @removal: about one point; lent for the time of the call
 * @opaque: as it was given
 *
 * Called in the thread of the call that removes, once a point.
 *
 * Since: 0.1
 */
typedef void (*BakPointRemovalFunc) (const BakPointRemoval *removal, void *opaque);

/**
 * BakPointRemoveFlags:
 *
 * Flags of bak_point_delete() and bak_repository_prune().
 *
 * Since: 0.1
 */
typedef enum {
    BAK_POINT_REMOVE_DRY_RUN = 1 << 0 /* tell what would be done, change nothing */
} BakPointRemoveFlags;

/**
 * BakPointRemoveOptions:
 *
 * What bak_point_delete() and bak_repository_prune() may be told.
 *
 * Since: 0.1
 */
typedef struct {
    unsigned long size;            /* sizeof (BakPointRemoveOptions) */
    unsigned int flags;            /* BakPointRemoveFlags */
    unsigned long long limit;      /* bytes a second that are read; 0: no limit */
    BakPointRemovalFunc func;      /* or NULL */
    void *opaque;                  /* for func */
    BakCancellation *cancellation; /* or NULL */
} BakPointRemoveOptions;

/**
 * BakPruneRules:
 *
 * What bak_repository_prune() keeps of each guest. Each rule keeps the newest point of so many of
 * its periods, in local time, newest first, and skips periods that an earlier rule kept a point of.
 * 0: no such rule.
 *
 * Since: 0.1
 */
typedef struct {
    unsigned long size; /* sizeof (BakPruneRules) */
    unsigned int last;
    unsigned int hourly;
    unsigned int daily;
    unsigned int weekly; /* ISO weeks */
    unsigned int monthly;
    unsigned int yearly;
    unsigned long long within; /* microseconds back from the guest's newest point */
} BakPruneRules;

/**
 * BakRepositoryFinding:
 *
 * One thing that bak_repository_check() found, or did about what it had found.
 *
 * Since: 0.1
 */
typedef struct {
    unsigned long size;     /* of this struct, as the library knows it */
    const char *guest_uuid; /* whose */
    const char *point;      /* id; NULL: not of one that can be read */
    const char *what;       /* in words */
    int damaged;            /* 1: data is not what it should be. 0: a leftover, or a repair */
    int repaired;           /* 1: it was cleared, finished, set aside or marked */
} BakRepositoryFinding;

/**
 * BakRepositoryFindingFunc:
 * @finding: lent for the time of the call
 * @opaque: as it was given
 *
 * Called in the thread of the call that checks.
 *
 * Since: 0.1
 */
typedef void (*BakRepositoryFindingFunc) (const BakRepositoryFinding *finding, void *opaque);

/**
 * BakRepositoryListFlags:
 *
 * Flags of bak_repository_list_points().
 *
 * Since: 0.1
 */
typedef enum {
    BAK_REPOSITORY_LIST_DAMAGED = 1 << 0 /* points too whose documents cannot be read */
} BakRepositoryListFlags;

/**
 * BakRepositoryCheckFlags:
 *
 * Flags of bak_repository_check().
 *
 * Since: 0.1
 */
typedef enum {
    BAK_REPOSITORY_CHECK_READ_DATA = 1 << 0, /* read and compare every disk of every point */
    BAK_REPOSITORY_CHECK_REPAIR = 1 << 1     /* clear leftovers, set damaged points aside */
} BakRepositoryCheckFlags;

/**
 * BakRepositoryCheckOptions:
 *
 * What bak_repository_check() may be told.
 *
 * Since: 0.1
 */
typedef struct {
    unsigned long size;            /* sizeof (BakRepositoryCheckOptions) */
    unsigned int flags;            /* BakRepositoryCheckFlags */
    unsigned long long limit;      /* bytes a second that are read; 0: no limit */
    BakRepositoryFindingFunc func; /* or NULL */
    void *opaque;                  /* for func */
    BakCancellation *cancellation; /* or NULL */
} BakRepositoryCheckOptions;

/**
 * BakPointCopyFlags:
 *
 * Flags of BakPointCopyOptions.
 *
 * Since: 0.1
 */
typedef enum {
    BAK_POINT_COPY_ALLOW_PLAIN = 1 << 0 /* from an encrypted repository to one that is not */
} BakPointCopyFlags;

/**
 * BakPointCopyOptions:
 *
 * What bak_point_copy() may be told.
 *
 * Since: 0.1
 */
typedef struct {
    unsigned long size;            /* sizeof (BakPointCopyOptions) */
    unsigned int flags;            /* BakPointCopyFlags */
    unsigned long long limit;      /* bytes a second that are read; 0: no limit */
    BakPointProgressFunc progress; /* or NULL */
    void *opaque;                  /* for progress */
    BakCancellation *cancellation; /* or NULL */
} BakPointCopyOptions;

/**
 * BakPointExportOptions:
 *
 * What bak_point_export() is told. Set it to zero and @size to sizeof (BakPointExportOptions), then
 * fill in what is needed.
 *
 * Since: 0.1
 */
typedef struct {
    unsigned long size;       /* sizeof (BakPointExportOptions) */
    const char *format;       /* "vma", "tar" or "raw", which holds one disk */
    const char *path;         /* a file that is not there yet; NULL: @fd */
    int fd;                   /* without @path: a descriptor that is written to; a pipe will do */
    const char *const *disks; /* NULL-terminated targets; NULL: all */
    unsigned long long limit; /* bytes a second that are read; 0: no limit */
    BakPointProgressFunc progress; /* or NULL */
    void *opaque;                  /* for progress */
    BakCancellation *cancellation; /* or NULL */
} BakPointExportOptions;

/**
 * BakPointImportOptions:
 *
 * What bak_repository_import_points() may be told.
 *
 * Since: 0.1
 */
typedef struct {
    unsigned long size;            /* sizeof (BakPointImportOptions) */
    const char *domain;            /* the guest's name, or its UUID when it has points; or NULL */
    const char *compression;       /* "none" or "zstd"; NULL: none */
    const char *note;              /* or NULL */
    unsigned long long limit;      /* bytes a second that are read; 0: no limit */
    BakPointProgressFunc progress; /* or NULL */
    void *opaque;                  /* for progress */
    BakCancellation *cancellation; /* or NULL */
} BakPointImportOptions;

/**
 * BakPointVerifyOptions:
 *
 * Set it to zero and @size to sizeof (BakPointVerifyOptions), then fill in what is needed. Fields
 * are only ever added at the end.
 *
 * Since: 0.1
 */
typedef struct {
    unsigned long size;            /* sizeof (BakPointVerifyOptions) */
    const char *const *disks;      /* NULL-terminated targets; NULL: all */
    unsigned long long limit;      /* bytes a second; 0: no limit */
    BakPointProgressFunc progress; /* or NULL */
    void *opaque;                  /* for progress */
    BakCancellation *cancellation; /* or NULL */
} BakPointVerifyOptions;

/**
 * BakPointRestoreFlags:
 *
 * Flags of BakPointRestoreOptions.
 *
 * Since: 0.1
 */
typedef enum {
    BAK_POINT_RESTORE_REUSE_EXTERNAL = 1 << 0, /* write onto what is there */
    BAK_POINT_RESTORE_CHANGED_ONLY = 1 << 1    /* write only the blocks that differ */
} BakPointRestoreFlags;

/**
 * BakPointRestoreTarget:
 *
 * Where one disk goes.
 *
 * Since: 0.1
 */
typedef struct {
    const char *disk; /* a target of the point */
    const char *path; /* a new file, an existing image or a block device */
} BakPointRestoreTarget;

/**
 * BakPointRestoreOptions:
 *
 * Set it to zero and @size to sizeof (BakPointRestoreOptions), then fill in what is needed. Fields
 * are only ever added at the end.
 *
 * Since: 0.1
 */
typedef struct {
    unsigned long size;    /* sizeof (BakPointRestoreOptions) */
    unsigned int flags;    /* BakPointRestoreFlags */
    const char *directory; /* every disk as TARGET.FORMAT, the definition and a README; or NULL */
    const char *const *disks;             /* with @directory: NULL-terminated targets; NULL: all */
    const BakPointRestoreTarget *targets; /* or NULL; then no @directory */
    unsigned int n_targets;
    const char *format;            /* "raw" or "qcow2"; NULL: qcow2, raw on a block device */
    unsigned long long limit;      /* bytes a second; 0: no limit */
    BakPointProgressFunc progress; /* or NULL */
    void *opaque;                  /* for progress */
    BakCancellation *cancellation; /* or NULL */
} BakPointRestoreOptions;

/**
 * BakPointServeFlags:
 *
 * Flags of BakPointServeOptions.
 *
 * Since: 0.1
 */
typedef enum {
    BAK_POINT_SERVE_WRITABLE = 1 << 0,      /* what is written is thrown away at the end */
    BAK_POINT_SERVE_TLS_PSK = 1 << 1,       /* tls_dir has keys.psk, no certificates */
    BAK_POINT_SERVE_ALLOW_INSECURE = 1 << 2 /* TCP beyond this host without TLS */
} BakPointServeFlags;

/**
 * BakPointServeFunc:
 * @disk: a target of the point
 * @uri: of its export, as NBD clients take it
 * @opaque: what the caller gave beside the function
 *
 * Called once for each disk as soon as it can be connected to.
 *
 * Since: 0.1
 */
typedef void (*BakPointServeFunc) (const char *disk, const char *uri, void *opaque);

/**
 * BakPointServeOptions:
 *
 * Set it to zero and @size to sizeof (BakPointServeOptions), then fill in what is needed. Fields
 * are only ever added at the end.
 *
 * Since: 0.1
 */
typedef struct {
    unsigned long size;       /* sizeof (BakPointServeOptions) */
    unsigned int flags;       /* BakPointServeFlags */
    const char *const *disks; /* NULL-terminated targets; NULL: all */
    const char *socket;       /* path of a unix socket that is made */
    const char *host;         /* or the address and port to listen at */
    unsigned int port;
    const char *tls_dir; /* X.509 files, peers are verified; NULL: no TLS */
    const char *scratch; /* folder for what is written; NULL: scratch_dir, /var/tmp */
    unsigned long long
        idle_timeout;              /* microseconds without a client after which it ends; 0: none */
    BakPointServeFunc ready;       /* or NULL */
    void *opaque;                  /* for ready */
    BakCancellation *cancellation; /* or NULL */
} BakPointServeOptions;

/**
 * BakPointDiffFunc:
 * @disk: a target of the newer point
 * @size: of that disk, in bytes
 * @offset: where a difference begins
 * @length: how long it is, in bytes; a multiple of 64 KiB but at the end of the disk
 * @opaque: what the caller gave beside the function
 *
 * Called for each place that differs, in rising order a disk.
 *
 * Since: 0.1
 */
typedef void (*BakPointDiffFunc) (const char *disk, unsigned long long size,
                                  unsigned long long offset, unsigned long long length,
                                  void *opaque);

/**
 * bak_cancellation_new:
 *
 * Makes one that has not been used.
 *
 * Returns: it, bak_cancellation_unref() it; never fails
 *
 * Since: 0.1
 */
BakCancellation *bak_cancellation_new (void);

/**
 * bak_cancellation_ref:
 * @cancellation: a cancellation
 *
 * Takes a reference.
 *
 * Returns: @cancellation
 *
 * Since: 0.1
 */
BakCancellation *bak_cancellation_ref (BakCancellation *cancellation);

/**
 * bak_cancellation_unref:
 * @cancellation: a cancellation, or NULL
 *
 * Drops a reference.
 *
 * Since: 0.1
 */
void bak_cancellation_unref (BakCancellation *cancellation);

/**
 * bak_cancellation_cancel:
 * @cancellation: a cancellation
 *
 * Tells every call that it was given to, and will be given to, to end soon with BAK_ERROR_ABORTED.
 * From any thread; not from a signal handler.
 *
 * Since: 0.1
 */
void bak_cancellation_cancel (BakCancellation *cancellation);

/**
 * bak_cancellation_is_cancelled:
 * @cancellation: a cancellation
 *
 * Whether bak_cancellation_cancel() was called.
 *
 * Returns: 1 or 0
 *
 * Since: 0.1
 */
int bak_cancellation_is_cancelled (const BakCancellation *cancellation);

/**
 * bak_repository_default_url:
 *
 * What bak_repository_open() opens when it is given NULL: LIBBACKUP_REPOSITORY of the environment,
 * else `repository` of the configuration.
 *
 * Returns: a URL, bak_free() it; NULL when none is configured
 *
 * Since: 0.1
 */
char *bak_repository_default_url (void);

/**
 * bak_repository_create:
 * @url: a directory that is empty or not there, as a path or file:///PATH; NULL: the default
 * @options: how, or NULL
 * @error: return location of an error, or NULL
 *
 * Makes a repository. With a key in @options all that points hold is encrypted: disks, hashes,
 * definitions; names, times and sizes are not.
 *
 * Returns: the repository, bak_repository_unref() it; NULL on failure: BAK_ERROR_EXISTS when there
 * is something, BAK_ERROR_INVALID_ARGUMENT, BAK_ERROR_ACCESS_DENIED, BAK_ERROR_NO_SPACE,
 * BAK_ERROR_IO
 *
 * Since: 0.1
 */
BakRepository *bak_repository_create (const char *url, const BakRepositoryCreateOptions *options,
                                      BakError **error);

/**
 * bak_repository_open:
 * @url: a repository, as a path or file:///PATH; NULL: the default
 * @flags: 0
 * @error: return location of an error, or NULL
 *
 * Opens a repository.
 *
 * Returns: the repository, bak_repository_unref() it; NULL on failure: BAK_ERROR_NO_POINT when
 * there is none, BAK_ERROR_NOT_SUPPORTED when it is of a format or has a feature that this version
 * does not know
 *
 * Since: 0.1
 */
BakRepository *bak_repository_open (const char *url, unsigned int flags, BakError **error);

/**
 * bak_repository_unlock:
 * @repository: a repository that is encrypted
 * @key: a file with a pass phrase, or a key file; /dev/fd/N for a descriptor
 * @kind: which of the two
 * @error: return location of an error, or NULL
 *
 * Gets the key of a repository out of one of its slots, for this handle and its points. Without it
 * points are listed, and their structure checked. A call that needs the key and has none takes what
 * LIBBACKUP_PASSPHRASE_FILE or LIBBACKUP_KEY_FILE of the environment or `passphrase_file` or
 * `key_file` of the configuration name.
 *
 * Returns: 0; -1 on failure: BAK_ERROR_ACCESS_DENIED when it fits no slot,
 * BAK_ERROR_INVALID_ARGUMENT when the repository is not encrypted, BAK_ERROR_IO
 *
 * Since: 0.1
 */
int bak_repository_unlock (BakRepository *repository, const char *key, BakRepositoryKeyKind kind,
                           BakError **error);

/**
 * bak_repository_is_encrypted:
 * @repository: a repository
 *
 * Whether it has a key.
 *
 * Returns: 1 or 0
 *
 * Since: 0.1
 */
int bak_repository_is_encrypted (const BakRepository *repository);

/**
 * bak_repository_is_locked:
 * @repository: a repository
 *
 * Whether it has a key that is not at hand yet.
 *
 * Returns: 1 or 0
 *
 * Since: 0.1
 */
int bak_repository_is_locked (const BakRepository *repository);

/**
 * bak_repository_add_key:
 * @repository: a repository, opened by one of its keys
 * @key: a file with the new pass phrase, or a new key file
 * @kind: which of the two
 * @note: whose it is, or NULL
 * @error: return location of an error, or NULL
 *
 * Adds a slot: from then on the repository is opened by this too. No data is touched.
 *
 * Returns: the number of the slot; -1 on failure: BAK_ERROR_ACCESS_DENIED, BAK_ERROR_BUSY,
 * BAK_ERROR_INVALID_ARGUMENT, BAK_ERROR_IO
 *
 * Since: 0.1
 */
int bak_repository_add_key (BakRepository *repository, const char *key, BakRepositoryKeyKind kind,
                            const char *note, BakError **error);

/**
 * bak_repository_change_key:
 * @repository: a repository, opened by the key that is to change
 * @key: a file with the new pass phrase, or a new key file
 * @kind: which of the two
 * @error: return location of an error, or NULL
 *
 * The slot by which this handle was opened is opened by another key from then on. No data is
 * touched; the old one opens copies of the repository's document that somebody made before.
 *
 * Returns: 0; -1 on failure: BAK_ERROR_ACCESS_DENIED, BAK_ERROR_BUSY, BAK_ERROR_INVALID_ARGUMENT,
 * BAK_ERROR_IO
 *
 * Since: 0.1
 */
int bak_repository_change_key (BakRepository *repository, const char *key,
                               BakRepositoryKeyKind kind, BakError **error);

/**
 * bak_repository_remove_key:
 * @repository: a repository, opened by a key that stays
 * @slot: the number of another slot
 * @error: return location of an error, or NULL
 *
 * Removes a slot.
 *
 * Returns: 0; -1 on failure: BAK_ERROR_INVALID_ARGUMENT when it is not there or is the one that
 * opened it, BAK_ERROR_ACCESS_DENIED, BAK_ERROR_BUSY, BAK_ERROR_IO
 *
 * Since: 0.1
 */
int bak_repository_remove_key (BakRepository *repository, unsigned int slot, BakError **error);

/**
 * bak_repository_describe_keys:
 * @repository: a repository
 *
 * The slots as JSON, without what is in them: {"keys": [{"slot", "kind", "created", "note",
 * "iterations"}]}.
 *
 * Returns: the text, bak_free() it
 *
 * Since: 0.1
 */
char *bak_repository_describe_keys (BakRepository *repository);

/**
 * bak_repository_ref:
 * @repository: a repository
 *
 * Takes a reference.
 *
 * Returns: @repository
 *
 * Since: 0.1
 */
BakRepository *bak_repository_ref (BakRepository *repository);

/**
 * bak_repository_unref:
 * @repository: a repository, or NULL
 *
 * Drops a reference.
 *
 * Since: 0.1
 */
void bak_repository_unref (BakRepository *repository);

/**
 * bak_repository_get_url:
 * @repository: a repository
 *
 * Its name as it was opened.
 *
 * Returns: the URL
 *
 * Since: 0.1
 */
const char *bak_repository_get_url (const BakRepository *repository);

/**
 * bak_repository_get_path:
 * @repository: a repository
 *
 * Where it lies.
 *
 * Returns: the absolute path of its directory
 *
 * Since: 0.1
 */
const char *bak_repository_get_path (const BakRepository *repository);

/**
 * bak_repository_get_id:
 * @repository: a repository
 *
 * What it is, wherever it lies.
 *
 * Returns: a UUID
 *
 * Since: 0.1
 */
const char *bak_repository_get_id (const BakRepository *repository);

/**
 * bak_repository_get_note:
 * @repository: a repository
 *
 * What was noted when it was made.
 *
 * Returns: the text; NULL when there is none
 *
 * Since: 0.1
 */
const char *bak_repository_get_note (const BakRepository *repository);

/**
 * bak_repository_get_created:
 * @repository: a repository
 *
 * When it was made.
 *
 * Returns: microseconds since 1970
 *
 * Since: 0.1
 */
long long bak_repository_get_created (const BakRepository *repository);

/**
 * bak_repository_list_points:
 * @repository: a repository
 * @guest: the name or UUID of a guest; NULL: all
 * @points: return location of an array, or NULL to count only
 * @flags: BakRepositoryListFlags
 * @error: return location of an error, or NULL
 *
 * The points of a guest, or of all, one guest after the other, each guest's oldest first. A point
 * whose documents cannot be read is left out, or, with the flag, comes last of its guest: it has an
 * id, its guest, and what bak_point_get_damage() says.
 *
 * Returns: how many; -1 on failure. *@points is NULL-terminated: bak_point_unref() each, bak_free()
 * the array
 *
 * Since: 0.1
 */
int bak_repository_list_points (BakRepository *repository, const char *guest, BakPoint ***points,
                                unsigned int flags, BakError **error);

/**
 * bak_repository_lookup_point:
 * @repository: a repository
 * @name: GUEST@ID, GUEST@latest, GUEST@2026-11-29, GUEST@2026-11-29T01:00:03Z, or an id
 * @flags: 0
 * @error: return location of an error, or NULL
 *
 * Finds a point by what people call it.
 *
 * Returns: the point, bak_point_unref() it; NULL on failure: BAK_ERROR_NO_POINT,
 * BAK_ERROR_INVALID_ARGUMENT when several guests had that name, BAK_ERROR_INEXACT when its
 * documents are damaged
 *
 * Since: 0.1
 */
BakPoint *bak_repository_lookup_point (BakRepository *repository, const char *name,
                                       unsigned int flags, BakError **error);

/**
 * bak_repository_create_point:
 * @repository: where to
 * @domain: a guest
 * @options: how, or NULL
 * @error: return location of an error, or NULL
 *
 * Makes a point of the guest as it is now: takes a pull backup, reads it, and publishes what it
 * read when all of it is durable and the backup's end was good. Each disk is compared with the
 * newest point that has it, so that only what differs is stored; what changed-block tracking says
 * is tested at places that should not have changed. On failure no point is there, and the
 * checkpoint of the newest point is as it was.
 *
 * Returns: the point, bak_point_unref() it; NULL on failure: BAK_ERROR_BUSY when another process
 * makes or removes points of this guest there, or when a backup of it runs, BAK_ERROR_NO_DISK,
 * BAK_ERROR_INEXACT, BAK_ERROR_NO_SPACE, BAK_ERROR_IO, BAK_ERROR_TIMEOUT, BAK_ERROR_ABORTED when
 * cancelled, BAK_ERROR_AGENT, BAK_ERROR_MONITOR, BAK_ERROR_CONNECTION
 *
 * Since: 0.1
 */
BakPoint *bak_repository_create_point (BakRepository *repository, BakDomain *domain,
                                       const BakPointCreateOptions *options, BakError **error);

/**
 * bak_repository_plan_point:
 * @repository: where to
 * @domain: a guest
 * @options: how, or NULL
 * @error: return location of an error, or NULL
 *
 * What bak_repository_create_point() would do now. Nothing is changed: an object with "guest",
 * "repository", an array "disks" of objects with "target", "size", "kind", "reason", "base", and
 * "pull", the steps of bak_domain_backup_plan().
 *
 * Returns: a JSON document, bak_free() it; NULL on failure
 *
 * Since: 0.1
 */
char *bak_repository_plan_point (BakRepository *repository, BakDomain *domain,
                                 const BakPointCreateOptions *options, BakError **error);

/**
 * bak_point_export:
 * @point: a point
 * @options: where to and how
 * @error: return location of an error, or NULL
 *
 * Writes a point as one stream: an archive that Proxmox restores ("vma"), a sparse tar archive of
 * all that the point holds ("tar"), or the bytes of one disk ("raw"). All that is written is proved
 * by the hashes of the point while it is read. A file has its name only when it is whole and
 * durable; what went into a descriptor is good when this returns 0, and only then.
 *
 * Returns: 0; -1 on failure: BAK_ERROR_INEXACT names disk and range when the point is damaged,
 * BAK_ERROR_EXISTS, BAK_ERROR_NO_DISK, BAK_ERROR_NO_SPACE, BAK_ERROR_IO, BAK_ERROR_ABORTED
 *
 * Since: 0.1
 */
int bak_point_export (BakPoint *point, const BakPointExportOptions *options, BakError **error);

/**
 * bak_repository_import_points:
 * @repository: a repository
 * @path: a VMA archive, also packed with zstd, or "-" for one on standard input; a qcow2 or raw
 * image with what it stands on; a directory of such images, or one of virtnbdbackup
 * @points: where a NULL-terminated array is put, the oldest first, bak_point_unref() each and
 * bak_free() it; NULL: only counts
 * @options: or NULL
 * @error: return location of an error, or NULL
 *
 * Makes points of what other tools made. What is read is not trusted: it is whole and consistent by
 * every rule of its kind, or refused. Of a directory of virtnbdbackup each run becomes a point;
 * when one of them is refused, those before it stay.
 *
 * Returns: how many; -1 on failure: BAK_ERROR_INEXACT when it is damaged or not complete,
 * BAK_ERROR_NOT_SUPPORTED, BAK_ERROR_BUSY, BAK_ERROR_NO_SPACE, BAK_ERROR_IO, BAK_ERROR_ABORTED
 *
 * Since: 0.1
 */
int bak_repository_import_points (BakRepository *repository, const char *path, BakPoint ***points,
                                  const BakPointImportOptions *options, BakError **error);

/**
 * bak_point_verify:
 * @point: a point
 * @options: what and how; NULL: all of it
 * @error: where an error goes, or NULL
 *
 * Reads all that a restore would read and compares it with the tree; compares the hashes of the
 * files beside the disks, the digests of the files of leaves, and what the images say of each
 * other. What was found is remembered with the point when it was verified as a whole or found bad
 * and the repository can be written.
 *
 * Returns: 0: good; -1 on failure: BAK_ERROR_INEXACT when it is damaged, with the disks and ranges,
 *   BAK_ERROR_NO_DISK, BAK_ERROR_ABORTED
 *
 * Since: 0.1
 */
int bak_point_verify (BakPoint *point, const BakPointVerifyOptions *options, BakError **error);

/**
 * bak_point_restore:
 * @point: a point
 * @options: where to
 * @error: where an error goes, or NULL
 *
 * Writes disks of a point to files or devices. What is read is proved by the tree before it is
 * said to be done; a new file has its name only when it is whole: until then it is called
 * NAME.restoring, and one that was interrupted is taken up again by the next call.
 *
 * Returns: 0; -1 on failure: BAK_ERROR_INEXACT when the point is damaged, with disk and range,
 *   BAK_ERROR_EXISTS when a target is there and BAK_POINT_RESTORE_REUSE_EXTERNAL was not given,
 *   BAK_ERROR_BUSY when it is in use, BAK_ERROR_NO_SPACE when a device is too small,
 *   BAK_ERROR_NO_DISK, BAK_ERROR_ABORTED
 *
 * Since: 0.1
 */
int bak_point_restore (BakPoint *point, const BakPointRestoreOptions *options, BakError **error);

/**
 * bak_point_serve:
 * @point: a point
 * @options: where and how
 * @error: where an error goes, or NULL
 *
 * Serves disks of a point over NBD without restoring them, one export a disk, named by its target.
 * Blocks until it is cancelled or nobody was connected for the idle time. What clients read is not
 * compared with the tree: bak_point_verify() does that.
 *
 * Returns: 0 when it ended by cancellation or the idle time; -1 on failure: BAK_ERROR_INEXACT when
 *   a file of the point is not of its size, BAK_ERROR_EXISTS when the socket is there,
 *   BAK_ERROR_NO_DISK
 *
 * Since: 0.1
 */
int bak_point_serve (BakPoint *point, const BakPointServeOptions *options, BakError **error);

/**
 * bak_point_diff:
 * @point: a point
 * @before: another point of the same guest; NULL: the one before it, of which there may be none:
 *   then all that is not zero has changed
 * @function: called for each place that differs
 * @opaque: for @function
 * @error: where an error goes, or NULL
 *
 * Tells which places of the disks of @point are other than they were in @before, by the hashes
 * alone: no data is read. A disk that @before does not have is compared with zeros.
 *
 * Returns: 0; -1 on failure: BAK_ERROR_INVALID_ARGUMENT when they are of different guests,
 *   BAK_ERROR_INEXACT when hashes are damaged
 *
 * Since: 0.1
 */
int bak_point_diff (BakPoint *point, BakPoint *before, BakPointDiffFunc function, void *opaque,
                    BakError **error);

/**
 * bak_point_set_pinned:
 * @point: a point
 * @pinned: 1 or 0
 * @error: return location of an error, or NULL
 *
 * Pins a point, so that nothing removes it, or lets go of it. @point, a snapshot, stays as it was.
 *
 * Returns: 0; -1 on failure: BAK_ERROR_ACCESS_DENIED, BAK_ERROR_NO_SPACE, BAK_ERROR_IO
 *
 * Since: 0.1
 */
int bak_point_set_pinned (BakPoint *point, int pinned, BakError **error);

/**
 * bak_point_delete:
 * @point: a point
 * @options: or NULL
 * @error: return location of an error, or NULL
 *
 * Removes a point. What other points need of it goes over to them first, so that each of them reads
 * as before. Dies this process in between, the next that changes points of this guest finishes or
 * undoes it. A pinned point is refused.
 *
 * Returns: 0; -1 on failure: BAK_ERROR_ACCESS_DENIED, BAK_ERROR_BUSY, BAK_ERROR_NO_POINT,
 * BAK_ERROR_NO_SPACE, BAK_ERROR_INEXACT, BAK_ERROR_IO, BAK_ERROR_ABORTED
 *
 * Since: 0.1
 */
int bak_point_delete (BakPoint *point, const BakPointRemoveOptions *options, BakError **error);

/**
 * bak_repository_check:
 * @repository: a repository
 * @options: or NULL
 * @error: return location of an error, or NULL
 *
 * Looks at the structure of all points: documents, parentage, sizes, files and trees of hashes; by
 * flag, at all data too. A repair guesses nothing: a damaged point is set aside, unless a good one
 * stands on it; then it stays and is marked.
 *
 * Returns: the number of findings of damage; -1 when checking itself failed
 *
 * Since: 0.1
 */
int bak_repository_check (BakRepository *repository, const BakRepositoryCheckOptions *options,
                          BakError **error);

/**
 * bak_point_copy:
 * @point: a point
 * @to: another repository
 * @options: or NULL
 * @read: where the bytes are put that had to be read, or NULL
 * @error: return location of an error, or NULL
 *
 * Copies a point, under its id, with its note and its pin. Only what the newest older point there
 * does not hold is read, and what arrives is proved. Between repositories of which at least one is
 * encrypted it gets hashes of the other key. Copy the oldest first. A copy that is broken
 * off leaves nothing; points that are there already are left as they are.
 *
 * Returns: 1; 0 when it was there; -1 on failure: BAK_ERROR_BUSY, BAK_ERROR_EXISTS,
 * BAK_ERROR_INEXACT, BAK_ERROR_NO_SPACE, BAK_ERROR_IO, BAK_ERROR_ABORTED
 *
 * Since: 0.1
 */
int bak_point_copy (BakPoint *point, BakRepository *to, const BakPointCopyOptions *options,
                    unsigned long long *read, BakError **error);

/**
 * bak_point_send:
 * @point: a point
 * @url: ssh://[USER@]HOST[:PORT]/PATH, a directory on another host
 * @options: or NULL
 * @sent: where the bytes are put that went over, or NULL
 * @error: return location of an error, or NULL
 *
 * Copies a point to another host by the user's own ssh; nothing of this library runs there. The
 * files go as they lie here, each is hashed over there when it has arrived, and one that was begun
 * is gone on with. A directory that is not there yet becomes a mirror of the point's repository.
 * The point that its images stand on must be there: send the oldest first.
 *
 * Returns: 1; 0 when it was there; -1 on failure: BAK_ERROR_BUSY, BAK_ERROR_CONNECTION,
 * BAK_ERROR_EXISTS, BAK_ERROR_INEXACT, BAK_ERROR_INVALID_ARGUMENT, BAK_ERROR_NO_SPACE,
 * BAK_ERROR_TIMEOUT, BAK_ERROR_IO, BAK_ERROR_ABORTED
 *
 * Since: 0.1
 */
int bak_point_send (BakPoint *point, const char *url, const BakPointCopyOptions *options,
                    unsigned long long *sent, BakError **error);

/**
 * bak_repository_prune:
 * @repository: a repository
 * @guest: name or UUID, or NULL for every guest; each by itself
 * @rules: at least one
 * @options: or NULL
 * @error: return location of an error, or NULL
 *
 * Removes the points that no rule keeps. Pinned points stay and count for no rule, and so do points
 * whose last verification found damage. The newest good point of a guest always stays. A point that
 * is in use stays too, and is told of.
 *
 * Returns: 0; -1 on failure, after which some may be gone: as bak_point_delete(), and
 * BAK_ERROR_INVALID_ARGUMENT
 *
 * Since: 0.1
 */
int bak_repository_prune (BakRepository *repository, const char *guest, const BakPruneRules *rules,
                          const BakPointRemoveOptions *options, BakError **error);

/**
 * bak_point_set_note:
 * @point: a point
 * @note: for people; NULL: none any more
 * @error: return location of an error, or NULL
 *
 * Changes what is noted of a point. @point, a snapshot, stays as it was.
 *
 * Returns: 0; -1 on failure: BAK_ERROR_ACCESS_DENIED, BAK_ERROR_NO_SPACE, BAK_ERROR_IO
 *
 * Since: 0.1
 */
int bak_point_set_note (BakPoint *point, const char *note, BakError **error);

/**
 * bak_point_ref:
 * @point: a point
 *
 * Takes a reference.
 *
 * Returns: @point
 *
 * Since: 0.1
 */
BakPoint *bak_point_ref (BakPoint *point);

/**
 * bak_point_unref:
 * @point: a point, or NULL
 *
 * Drops a reference.
 *
 * Since: 0.1
 */
void bak_point_unref (BakPoint *point);

/**
 * bak_point_get_id:
 * @point: a point
 *
 * Its name, which no other point has.
 *
 * Returns: the id
 *
 * Since: 0.1
 */
const char *bak_point_get_id (const BakPoint *point);

/**
 * bak_point_get_guest:
 * @point: a point
 *
 * The name that its guest had.
 *
 * Returns: the name
 *
 * Since: 0.1
 */
const char *bak_point_get_guest (const BakPoint *point);

/**
 * bak_point_get_guest_uuid:
 * @point: a point
 *
 * What its guest is, whatever it is called.
 *
 * Returns: the UUID
 *
 * Since: 0.1
 */
const char *bak_point_get_guest_uuid (const BakPoint *point);

/**
 * bak_point_get_sequence:
 * @point: a point
 *
 * Its number among the points of its guest, by which they are ordered whatever the clocks said.
 *
 * Returns: the number, from 1
 *
 * Since: 0.1
 */
unsigned long long bak_point_get_sequence (const BakPoint *point);

/**
 * bak_point_get_instant:
 * @point: a point
 *
 * The point in time.
 *
 * Returns: microseconds since 1970
 *
 * Since: 0.1
 */
long long bak_point_get_instant (const BakPoint *point);

/**
 * bak_point_get_consistency:
 * @point: a point
 *
 * How consistent the disks are, as bak_job_get_consistency() has it.
 *
 * Returns: the word; NULL when it is not known
 *
 * Since: 0.1
 */
const char *bak_point_get_consistency (const BakPoint *point);

/**
 * bak_point_get_frozen_time:
 * @point: a point
 *
 * How long the file systems of the guest were frozen.
 *
 * Returns: microseconds; 0 when they were not
 *
 * Since: 0.1
 */
unsigned long long bak_point_get_frozen_time (const BakPoint *point);

/**
 * bak_point_get_host:
 * @point: a point
 *
 * The host that the guest ran on.
 *
 * Returns: the name; NULL when it is not known
 *
 * Since: 0.1
 */
const char *bak_point_get_host (const BakPoint *point);

/**
 * bak_point_get_qemu_version:
 * @point: a point
 *
 * The QEMU that the guest ran in.
 *
 * Returns: the version; NULL when it is not known
 *
 * Since: 0.1
 */
const char *bak_point_get_qemu_version (const BakPoint *point);

/**
 * bak_point_get_checkpoint:
 * @point: a point
 *
 * The checkpoint that was made in the guest at the same instant; it is there until the next point.
 *
 * Returns: the name; NULL when there is none
 *
 * Since: 0.1
 */
const char *bak_point_get_checkpoint (const BakPoint *point);

/**
 * bak_point_get_parent:
 * @point: a point
 *
 * The point before it when it was made.
 *
 * Returns: an id; NULL for the first
 *
 * Since: 0.1
 */
const char *bak_point_get_parent (const BakPoint *point);

/**
 * bak_point_get_note:
 * @point: a point
 *
 * What is noted of it.
 *
 * Returns: the text; NULL when there is nothing
 *
 * Since: 0.1
 */
const char *bak_point_get_note (const BakPoint *point);

/**
 * bak_point_is_pinned:
 * @point: a point
 *
 * Whether it is pinned.
 *
 * Returns: 1 or 0
 *
 * Since: 0.1
 */
int bak_point_is_pinned (const BakPoint *point);

/**
 * bak_point_get_path:
 * @point: a point
 *
 * Where its files lie.
 *
 * Returns: the absolute path of its directory
 *
 * Since: 0.1
 */
const char *bak_point_get_path (const BakPoint *point);

/**
 * bak_point_get_damage:
 * @point: a point that was listed
 *
 * What is wrong with its files: a document that cannot be read, an image of its chain that is gone
 * or has another length than was recorded. What the images hold is not looked at: that is
 * bak_point_verify(), whose last result bak_point_is_verified_good() tells.
 *
 * Returns: one line; NULL when nothing is seen
 *
 * Since: 0.1
 */
const char *bak_point_get_damage (const BakPoint *point);

/**
 * bak_point_get_verified:
 * @point: a point
 *
 * When it was verified last.
 *
 * Returns: microseconds since 1970; 0: never
 *
 * Since: 0.1
 */
long long bak_point_get_verified (const BakPoint *point);

/**
 * bak_point_is_verified_good:
 * @point: a point
 *
 * How that ended.
 *
 * Returns: 1: it was good; 0: it was not, or it never was verified
 *
 * Since: 0.1
 */
int bak_point_is_verified_good (const BakPoint *point);

/**
 * bak_point_get_n_warnings:
 * @point: a point
 *
 * How many warnings there are.
 *
 * Returns: how many
 *
 * Since: 0.1
 */
unsigned int bak_point_get_n_warnings (const BakPoint *point);

/**
 * bak_point_get_warning:
 * @point: a point
 * @index: 0 to bak_point_get_n_warnings() - 1
 *
 * Something a person should know of how it was made, as that changed-block tracking lied.
 *
 * Returns: one line; NULL when @index is out of range
 *
 * Since: 0.1
 */
const char *bak_point_get_warning (const BakPoint *point, unsigned int index);

/**
 * bak_point_get_n_disks:
 * @point: a point
 *
 * How many disks it has.
 *
 * Returns: how many
 *
 * Since: 0.1
 */
unsigned int bak_point_get_n_disks (const BakPoint *point);

/**
 * bak_point_get_disk:
 * @point: a point
 * @index: 0 to bak_point_get_n_disks() - 1
 *
 * One disk of it.
 *
 * Returns: the disk, owned by @point; NULL when @index is out of range
 *
 * Since: 0.1
 */
const BakPointDisk *bak_point_get_disk (const BakPoint *point, unsigned int index);

/**
 * bak_point_disk_get_target:
 * @disk: a disk of a point
 *
 * The name of the disk.
 *
 * Returns: the name
 *
 * Since: 0.1
 */
const char *bak_point_disk_get_target (const BakPointDisk *disk);

/**
 * bak_point_disk_get_size:
 * @disk: a disk of a point
 *
 * What the guest saw.
 *
 * Returns: bytes
 *
 * Since: 0.1
 */
unsigned long long bak_point_disk_get_size (const BakPointDisk *disk);

/**
 * bak_point_disk_get_kind:
 * @disk: a disk of a point
 *
 * What was read: "full" or "incremental". It stands for itself either way.
 *
 * Returns: the word
 *
 * Since: 0.1
 */
const char *bak_point_disk_get_kind (const BakPointDisk *disk);

/**
 * bak_point_disk_get_reason:
 * @disk: a disk of a point
 *
 * Why all of it was read.
 *
 * Returns: one line; NULL when there is nothing to say
 *
 * Since: 0.1
 */
const char *bak_point_disk_get_reason (const BakPointDisk *disk);

/**
 * bak_point_disk_get_base:
 * @disk: a disk of a point
 *
 * The point that it was compared with.
 *
 * Returns: an id; NULL when there was none
 *
 * Since: 0.1
 */
const char *bak_point_disk_get_base (const BakPointDisk *disk);

/**
 * bak_point_disk_get_read:
 * @disk: a disk of a point
 *
 * What was read from the guest; zeros that its image knows of are not read.
 *
 * Returns: bytes
 *
 * Since: 0.1
 */
unsigned long long bak_point_disk_get_read (const BakPointDisk *disk);

/**
 * bak_point_disk_get_stored:
 * @disk: a disk of a point
 *
 * What was stored with this point.
 *
 * Returns: bytes
 *
 * Since: 0.1
 */
unsigned long long bak_point_disk_get_stored (const BakPointDisk *disk);

/**
 * bak_point_disk_get_reused:
 * @disk: a disk of a point
 *
 * What the base had already.
 *
 * Returns: bytes
 *
 * Since: 0.1
 */
unsigned long long bak_point_disk_get_reused (const BakPointDisk *disk);

/**
 * bak_point_disk_get_file_size:
 * @disk: a disk of a point
 *
 * The size of its image file now.
 *
 * Returns: bytes
 *
 * Since: 0.1
 */
unsigned long long bak_point_disk_get_file_size (const BakPointDisk *disk);

/**
 * bak_point_disk_get_path:
 * @disk: a disk of a point
 *
 * Its image file. Open it read-only: other points may stand on it.
 *
 * Returns: the absolute path
 *
 * Since: 0.1
 */
const char *bak_point_disk_get_path (const BakPointDisk *disk);

/**
 * bak_point_disk_get_compression:
 * @disk: a disk of a point
 *
 * How its image is compressed.
 *
 * Returns: "none" or "zstd"
 *
 * Since: 0.1
 */
const char *bak_point_disk_get_compression (const BakPointDisk *disk);

/**
 * bak_point_disk_get_root:
 * @disk: a disk of a point
 *
 * The root of the tree of hashes over what the guest saw.
 *
 * Returns: 64 hex digits
 *
 * Since: 0.1
 */
const char *bak_point_disk_get_root (const BakPointDisk *disk);

/**
 * bak_point_disk_get_sampled:
 * @disk: a disk of a point
 *
 * How many places were compared to test changed-block tracking.
 *
 * Returns: how many
 *
 * Since: 0.1
 */
unsigned int bak_point_disk_get_sampled (const BakPointDisk *disk);

/**
 * bak_point_disk_is_tracking_wrong:
 * @disk: a disk of a point
 *
 * Whether that test found changes that tracking had missed; then all of the disk was read.
 *
 * Returns: 1 or 0
 *
 * Since: 0.1
 */
int bak_point_disk_is_tracking_wrong (const BakPointDisk *disk);

#ifdef __cplusplus
}
#endif
#endif
