/* libbackup: backups, their jobs and what becomes of them.
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A backup goes begin, (push: running | pull: ready), stop, or ends by itself. Only one runs on a
 * guest at a time. Its record is durable: bak_domain_backup_info() answers after the end, and after
 * restarts. */
#ifndef LIBBACKUP_BACKUP_H
#define LIBBACKUP_BACKUP_H

#include <libbackup/domain.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * BakJob:
 *
 * A backup as it was when it was asked for; a snapshot that does not change.
 *
 * Since: 0.1
 */
typedef struct BakJob BakJob;

/**
 * BakJobDisk:
 *
 * The part of one disk in a BakJob, owned by that.
 *
 * Since: 0.1
 */
typedef struct BakJobDisk BakJobDisk;

/**
 * BakJobMode:
 *
 * Who moves the data.
 *
 * Since: 0.1
 */
typedef enum {
    BAK_JOB_MODE_PUSH = 0, /* QEMU writes the target */
    BAK_JOB_MODE_PULL = 1  /* QEMU exports the point in time over NBD */
} BakJobMode;

/**
 * BakJobState:
 *
 * Where a backup, or one disk of it, stands. From BAK_JOB_COMPLETED on it has ended.
 *
 * Since: 0.1
 */
typedef enum {
    BAK_JOB_NONE = 0,
    BAK_JOB_PREPARING = 1,
    BAK_JOB_RUNNING = 2,
    BAK_JOB_READY = 3, /* pull: the export can be read; instant='end': all disks are in step */
    BAK_JOB_STOPPING = 4,
    BAK_JOB_COMPLETED = 5, /* good, flushed, closed and released */
    BAK_JOB_FAILED = 6,    /* do not use its data */
    BAK_JOB_ABORTED = 7    /* do not use its data */
} BakJobState;

/**
 * BakDomainBackupBeginFlags:
 *
 * Flags of bak_domain_backup_begin().
 *
 * Since: 0.1
 */
typedef enum {
    /* targets and scratch files exist; they are not created, not deleted */
    BAK_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL = 1 << 0,
    /* a guest that shuts down stays until the backup has ended */
    BAK_DOMAIN_BACKUP_BEGIN_PRESERVE_SHUTDOWN_DOMAIN = 1 << 1,
    /* freeze the file systems around the point in time */
    BAK_DOMAIN_BACKUP_BEGIN_QUIESCE = 1 << 16,
    /* accept that this QEMU cannot prove that the target is durable */
    BAK_DOMAIN_BACKUP_BEGIN_ALLOW_UNPROVED = 1 << 17
} BakDomainBackupBeginFlags;

/**
 * BakDomainBackupStopFlags:
 *
 * Flags of bak_domain_backup_stop().
 *
 * Since: 0.1
 */
typedef enum {
    /* throw it away, also a pull that is ready */
    BAK_DOMAIN_BACKUP_STOP_ABORT = 1 << 0
} BakDomainBackupStopFlags;

/**
 * BakDomainJobType:
 *
 * Counterpart of virDomainJobType.
 *
 * Since: 0.1
 */
typedef enum {
    BAK_DOMAIN_JOB_NONE = 0,
    BAK_DOMAIN_JOB_BOUNDED = 1,
    BAK_DOMAIN_JOB_UNBOUNDED = 2, /* a backup that runs */
    BAK_DOMAIN_JOB_COMPLETED = 3,
    BAK_DOMAIN_JOB_FAILED = 4,
    BAK_DOMAIN_JOB_CANCELLED = 5
} BakDomainJobType;

/**
 * BAK_DOMAIN_JOB_OPERATION_BACKUP:
 *
 * The value of the parameter "operation" of a backup; libvirt's number.
 *
 * Since: 0.1
 */
#define BAK_DOMAIN_JOB_OPERATION_BACKUP 9

/**
 * BakDomainGetJobStatsFlags:
 *
 * Flags of bak_domain_get_job_stats().
 *
 * Since: 0.1
 */
typedef enum {
    BAK_DOMAIN_JOB_STATS_COMPLETED = 1 << 0, /* of the newest job that has ended */
    /* do not hide it from the next call with COMPLETED alone */
    BAK_DOMAIN_JOB_STATS_KEEP_COMPLETED = 1 << 1
} BakDomainGetJobStatsFlags;

/**
 * BakDomainBlockJobFlags:
 *
 * Flags of the calls on one disk's job.
 *
 * Since: 0.1
 */
typedef enum {
    /* bandwidth is bytes a second, not MiB a second */
    BAK_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES = 1 << 0,
    /* bak_domain_get_block_job_info(): when none runs and the last one of that disk has failed or
     * was cancelled, that is the call's failure */
    BAK_DOMAIN_BLOCK_JOB_SAY_FAILURE = 1 << 16
} BakDomainBlockJobFlags;

/**
 * BakDomainBlockJobAbortFlags:
 *
 * Flags of bak_domain_block_job_abort().
 *
 * Since: 0.1
 */
typedef enum {
    /* accepted and without effect: the call waits for the end */
    BAK_DOMAIN_BLOCK_JOB_ABORT_ASYNC = 1 << 0,
    /* of an active commit or a copy that is ready: the guest goes on on the image that was written
     * to */
    BAK_DOMAIN_BLOCK_JOB_ABORT_PIVOT = 1 << 1
} BakDomainBlockJobAbortFlags;

/**
 * BakDomainBlockCommitFlags:
 *
 * Flags of bak_domain_block_commit(); libvirt's numbers.
 *
 * Since: 0.1
 */
typedef enum {
    BAK_DOMAIN_BLOCK_COMMIT_SHALLOW = 1 << 0, /* no base: what lies directly below top */
    /* remove the files that are no longer used, once what they held is on the disk in the base */
    BAK_DOMAIN_BLOCK_COMMIT_DELETE = 1 << 1,
    BAK_DOMAIN_BLOCK_COMMIT_ACTIVE = 1 << 2, /* top may be the image that the guest writes to */
    /* accepted and without effect: a backing name that was relative stays so */
    BAK_DOMAIN_BLOCK_COMMIT_RELATIVE = 1 << 3,
    BAK_DOMAIN_BLOCK_COMMIT_BANDWIDTH_BYTES = 1 << 4, /* not MiB a second */
    /* delete checkpoints that would not survive, instead of refusing */
    BAK_DOMAIN_BLOCK_COMMIT_DROP_CHECKPOINTS = 1 << 16
} BakDomainBlockCommitFlags;

/**
 * BakDomainBlockRebaseFlags:
 *
 * Flags of bak_domain_block_rebase() and bak_domain_block_pull(); libvirt's numbers.
 *
 * Since: 0.1
 */
typedef enum {
    /* accepted and without effect: a backing name that was relative stays so */
    BAK_DOMAIN_BLOCK_REBASE_RELATIVE = 1 << 4,
    BAK_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES = 1 << 6, /* not MiB a second */
    /* delete checkpoints that would not survive, instead of refusing */
    BAK_DOMAIN_BLOCK_REBASE_DROP_CHECKPOINTS = 1 << 16
} BakDomainBlockRebaseFlags;

/**
 * BakDomainBlockCopyFlags:
 *
 * Flags of bak_domain_block_copy(); libvirt's numbers.
 *
 * Since: 0.1
 */
typedef enum {
    /* only the active image: the copy stands on what that stands on */
    BAK_DOMAIN_BLOCK_COPY_SHALLOW = 1 << 0,
    BAK_DOMAIN_BLOCK_COPY_REUSE_EXT = 1 << 1, /* the image is there, and is written to as it is */
    /* accepted and without effect: no copy outlives QEMU */
    BAK_DOMAIN_BLOCK_COPY_TRANSIENT_JOB = 1 << 2,
    /* a write of the guest is answered when the copy has it too: a slow image holds the guest */
    BAK_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES = 1 << 3,
    /* delete checkpoints that would not survive a pivot, instead of refusing */
    BAK_DOMAIN_BLOCK_COPY_DROP_CHECKPOINTS = 1 << 16
} BakDomainBlockCopyFlags;

/**
 * BAK_DOMAIN_BLOCK_JOB_TYPE_PULL:
 *
 * The type of a pull's block job; libvirt's number.
 *
 * Since: 0.1
 */
#define BAK_DOMAIN_BLOCK_JOB_TYPE_PULL 1

/**
 * BAK_DOMAIN_BLOCK_JOB_TYPE_COPY:
 *
 * The type of a copy's block job; libvirt's number.
 *
 * Since: 0.1
 */
#define BAK_DOMAIN_BLOCK_JOB_TYPE_COPY 2

/**
 * BAK_DOMAIN_BLOCK_JOB_TYPE_COMMIT:
 *
 * The type of the block job of a commit below the active layer; libvirt's number.
 *
 * Since: 0.1
 */
#define BAK_DOMAIN_BLOCK_JOB_TYPE_COMMIT 3

/**
 * BAK_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT:
 *
 * The type of the block job of a commit of the active layer; libvirt's number.
 *
 * Since: 0.1
 */
#define BAK_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT 4

/**
 * BAK_DOMAIN_BLOCK_JOB_TYPE_BACKUP:
 *
 * The type of a backup's block job; libvirt's number.
 *
 * Since: 0.1
 */
#define BAK_DOMAIN_BLOCK_JOB_TYPE_BACKUP 5

/**
 * BakDomainJobInfo:
 *
 * Counterpart of virDomainJobInfo: times in milliseconds, amounts in bytes.
 *
 * Since: 0.1
 */
typedef struct {
    int type; /* BakDomainJobType */
    unsigned long long time_elapsed;
    unsigned long long time_remaining; /* 0 */
    unsigned long long data_total;
    unsigned long long data_processed;
    unsigned long long data_remaining;
    unsigned long long mem_total;     /* 0 */
    unsigned long long mem_processed; /* 0 */
    unsigned long long mem_remaining; /* 0 */
    unsigned long long file_total;
    unsigned long long file_processed;
    unsigned long long file_remaining;
} BakDomainJobInfo;

/**
 * BakDomainBlockJobInfo:
 *
 * Counterpart of virDomainBlockJobInfo.
 *
 * Since: 0.1
 */
typedef struct {
    int type; /* BAK_DOMAIN_BLOCK_JOB_TYPE_BACKUP ... */
    /* MiB a second, or bytes a second by flag; 0: no limit */
    unsigned long bandwidth;
    unsigned long long cur; /* bytes done */
    unsigned long long end; /* bytes in all; 1 while it is not known */
} BakDomainBlockJobInfo;

/**
 * BAK_TYPED_PARAM_FIELD_LENGTH:
 *
 * Room for the name of a parameter, final NUL included.
 *
 * Since: 0.1
 */
#define BAK_TYPED_PARAM_FIELD_LENGTH 80

/**
 * BakTypedParameterType:
 *
 * Which member of a BakTypedParameter holds the value. The numbers are libvirt's.
 *
 * Since: 0.1
 */
typedef enum {
    BAK_TYPED_PARAM_INT = 1,
    BAK_TYPED_PARAM_UINT = 2,
    BAK_TYPED_PARAM_LLONG = 3,
    BAK_TYPED_PARAM_ULLONG = 4,
    BAK_TYPED_PARAM_DOUBLE = 5,
    BAK_TYPED_PARAM_BOOLEAN = 6,
    BAK_TYPED_PARAM_STRING = 7
} BakTypedParameterType;

/**
 * BakTypedParameter:
 *
 * Counterpart of virTypedParameter: a name, a type and a value.
 *
 * Since: 0.1
 */
typedef struct {
    char field[BAK_TYPED_PARAM_FIELD_LENGTH];
    int type; /* BakTypedParameterType */
    union {
        int i;
        unsigned int ui;
        long long l;
        unsigned long long ul;
        double d;
        char b;
        char *s;
    } value;
} BakTypedParameter;

/**
 * BakBackupOptions:
 *
 * Everything that a backup can be told. Set it to zero and @size to sizeof (BakBackupOptions), then
 * fill in what is needed. Fields are only ever added at the end.
 *
 * Since: 0.1
 */
typedef struct {
    unsigned long size;     /* sizeof (BakBackupOptions) */
    const char *backup_xml; /* <domainbackup>; required */
    /* <domaincheckpoint> made at the same instant, or NULL */
    const char *checkpoint_xml;
    unsigned int flags; /* BakDomainBackupBeginFlags */
    /* microseconds for the whole job, which is then aborted; 0: none */
    unsigned long long timeout;
} BakBackupOptions;

/**
 * bak_domain_fd_associate:
 * @domain: a guest
 * @name: what <server transport='fd' fdgroup='NAME'/> of a pull calls it
 * @n_fds: how many; a pull's server takes one
 * @fds: a socket that is bound and listens (unix with an absolute path, or TCP)
 * @flags: 0
 * @error: return location of an error, or NULL
 *
 * Hands over a listening socket for the exports of a pull that is begun on the same connection. It
 * is duplicated: the caller may close his own. The association lasts as long as the connection; the
 * same name replaces it. It reaches a daemon on this host, but nothing over ssh or TLS, and a guest
 * whose monitor is a unix socket. A client that connects before the backup is ready may be told
 * that there is no such export. When the pull ends, QEMU removes the path of a unix socket, as of
 * its own: the next pull needs another one; a TCP socket serves again. Counterpart of
 * virDomainFDAssociate().
 *
 * Returns: 0; -1 on failure: BAK_ERROR_INVALID_ARGUMENT when one is not open, no socket, or does
 * not listen, BAK_ERROR_NOT_SUPPORTED where none can be passed, BAK_ERROR_BUSY when too many were
 *
 * Since: 0.1
 */
int bak_domain_fd_associate (BakDomain *domain, const char *name, unsigned int n_fds,
                             const int *fds, unsigned int flags, BakError **error);

/**
 * bak_domain_backup_begin:
 * @domain: a guest
 * @backup_xml: <domainbackup>
 * @checkpoint_xml: <domaincheckpoint> of the same instant, or NULL
 * @flags: BakDomainBackupBeginFlags
 * @error: return location of an error, or NULL
 *
 * Starts a backup of the guest and returns when it runs (push) or when its export can be read
 * (pull). On failure nothing is left behind. Counterpart of virDomainBackupBegin().
 *
 * Returns: 0; -1 on failure: BAK_ERROR_XML, BAK_ERROR_NO_DISK, BAK_ERROR_NO_CHECKPOINT,
 * BAK_ERROR_INEXACT when a base cannot be trusted, BAK_ERROR_BUSY when a backup runs,
 * BAK_ERROR_EXISTS for a target that is there already, BAK_ERROR_NOT_SUPPORTED, BAK_ERROR_NO_SPACE,
 * BAK_ERROR_MONITOR, BAK_ERROR_CONNECTION
 *
 * Since: 0.1
 */
int bak_domain_backup_begin (BakDomain *domain, const char *backup_xml, const char *checkpoint_xml,
                             unsigned int flags, BakError **error);

/**
 * bak_domain_backup_begin_options:
 * @domain: a guest
 * @options: what to do
 * @error: return location of an error, or NULL
 *
 * As bak_domain_backup_begin(), with all options, and tells which job it is.
 *
 * Returns: the id of the job, bak_free() it; NULL on failure, as bak_domain_backup_begin()
 *
 * Since: 0.1
 */
char *bak_domain_backup_begin_options (BakDomain *domain, const BakBackupOptions *options,
                                       BakError **error);

/**
 * bak_domain_backup_plan:
 * @domain: a guest
 * @options: what to do
 * @error: return location of an error, or NULL
 *
 * The steps that bak_domain_backup_begin_options() would take now, each with its undo. Nothing is
 * changed.
 *
 * An array "steps" of objects with "title", "do" and an array "undo"; then an array "finish" of
 * what is done when the copy is complete. A QMP command is under "qmp" just as it would be sent; an
 * act of the library's own is an "action" with "arguments". Beside them may be "if" (an undo: what
 * must still be there for it), "timeout-ms", "disk", and "only-after-failure".
 *
 * Returns: a JSON document, bak_free() it; NULL on failure: what begin would refuse is refused here
 *
 * Since: 0.1
 */
char *bak_domain_backup_plan (BakDomain *domain, const BakBackupOptions *options, BakError **error);

/**
 * bak_domain_backup_stop:
 * @domain: a guest
 * @job: the id of a job, or NULL for the newest
 * @flags: BakDomainBackupStopFlags
 * @error: return location of an error, or NULL
 *
 * Ends a backup with the caller's verdict. Without a flag: a pull that is ready is done, and
 * completed if nothing failed from begin to now; a push that runs is cancelled; a push that has
 * ended is acknowledged. With BAK_DOMAIN_BACKUP_STOP_ABORT it is thrown away, and so is the
 * checkpoint made with it. The job in the result tells whether the data are good.
 *
 * Returns: how the job ended, bak_job_unref() it; NULL on failure: BAK_ERROR_NO_JOB
 *
 * Since: 0.1
 */
BakJob *bak_domain_backup_stop (BakDomain *domain, const char *job, unsigned int flags,
                                BakError **error);

/**
 * bak_domain_backup_info:
 * @domain: a guest
 * @job: the id of a job, or NULL for the newest
 * @flags: 0
 * @error: return location of an error, or NULL
 *
 * A backup, running or ended, as it stands now.
 *
 * Returns: the job, bak_job_unref() it; NULL on failure: BAK_ERROR_NO_JOB
 *
 * Since: 0.1
 */
BakJob *bak_domain_backup_info (BakDomain *domain, const char *job, unsigned int flags,
                                BakError **error);

/**
 * bak_domain_backup_list:
 * @domain: a guest
 * @jobs: return location of an array, or NULL to count only
 * @flags: 0
 * @error: return location of an error, or NULL
 *
 * The recorded backups of a guest, newest first.
 *
 * Returns: how many; -1 on failure. *@jobs is NULL-terminated: bak_job_unref() each, bak_free() the
 * array
 *
 * Since: 0.1
 */
int bak_domain_backup_list (BakDomain *domain, BakJob ***jobs, unsigned int flags,
                            BakError **error);

/**
 * bak_connection_backup_list:
 * @conn: a connection
 * @jobs: return location of an array, or NULL to count only
 * @flags: 0
 * @error: return location of an error, or NULL
 *
 * The backups that have not ended, of all guests, ordered by guest: one call for what else takes
 * one for each guest. A guest has one at most.
 *
 * Returns: how many; -1 on failure. *@jobs is NULL-terminated: bak_job_unref() each, bak_free() the
 * array
 *
 * Since: 0.1
 */
int bak_connection_backup_list (BakConnection *conn, BakJob ***jobs, unsigned int flags,
                                BakError **error);

/**
 * bak_domain_backup_wait:
 * @domain: a guest
 * @job: the id of a job, or NULL for the newest
 * @timeout: microseconds to wait at most; 0 only looks
 * @error: return location of an error, or NULL
 *
 * Waits until a backup has ended. A time-out is not an error: the job in the result says how it
 * stands.
 *
 * Returns: the job, bak_job_unref() it; NULL on failure: BAK_ERROR_NO_JOB
 *
 * Since: 0.1
 */
BakJob *bak_domain_backup_wait (BakDomain *domain, const char *job, unsigned long long timeout,
                                BakError **error);

/**
 * bak_domain_backup_get_xml_desc:
 * @domain: a guest
 * @flags: 0
 * @error: return location of an error, or NULL
 *
 * The <domainbackup> of the backup that runs, everything chosen spelled out; it is valid input.
 * Counterpart of virDomainBackupGetXMLDesc().
 *
 * Returns: the document, bak_free() it; NULL on failure: BAK_ERROR_NO_JOB when none runs
 *
 * Since: 0.1
 */
char *bak_domain_backup_get_xml_desc (BakDomain *domain, unsigned int flags, BakError **error);

/**
 * bak_domain_backup_job_get_xml_desc:
 * @domain: a guest
 * @job: the id of a job, running or ended
 * @flags: 0
 * @error: return location of an error, or NULL
 *
 * The <domainbackup> of a recorded backup.
 *
 * Returns: the document, bak_free() it; NULL on failure: BAK_ERROR_NO_JOB
 *
 * Since: 0.1
 */
char *bak_domain_backup_job_get_xml_desc (BakDomain *domain, const char *job, unsigned int flags,
                                          BakError **error);

/**
 * bak_domain_backup_limit:
 * @domain: a guest
 * @disk: a disk of the backup, or NULL for all
 * @bytes_per_sec: the limit of that disk, or of all together, who share it equally; bytes a second;
 * 0: none
 * @error: return location of an error, or NULL
 *
 * Changes the speed limit of the backup that runs.
 *
 * Returns: 0; -1 on failure: BAK_ERROR_NO_JOB, BAK_ERROR_NO_DISK
 *
 * Since: 0.1
 */
int bak_domain_backup_limit (BakDomain *domain, const char *disk, unsigned long long bytes_per_sec,
                             BakError **error);

/**
 * bak_domain_get_job_info:
 * @domain: a guest
 * @info: filled in on success
 * @error: return location of an error, or NULL
 *
 * The job that runs, in libvirt's old form. Counterpart of virDomainGetJobInfo().
 *
 * Returns: 0, also when no job runs (type BAK_DOMAIN_JOB_NONE); -1 on failure
 *
 * Since: 0.1
 */
int bak_domain_get_job_info (BakDomain *domain, BakDomainJobInfo *info, BakError **error);

/**
 * bak_domain_get_job_stats:
 * @domain: a guest
 * @type: return location of a BakDomainJobType
 * @params: return location of an array of parameters
 * @n_params: return location of its length
 * @flags: BakDomainGetJobStatsFlags; KEEP_COMPLETED needs COMPLETED
 * @error: return location of an error, or NULL
 *
 * Statistics of the job that runs, or of the newest that has ended, with libvirt's names:
 * operation, time_elapsed (ms), disk_total, disk_processed, disk_remaining, disk_temp_used,
 * disk_temp_total (bytes), success, errmsg. Counterpart of virDomainGetJobStats(). The durable
 * record is bak_domain_backup_info().
 *
 * Returns: 0, also when there is no job (*@type is BAK_DOMAIN_JOB_NONE); -1 on failure. Free
 * *@params with bak_typed_params_free()
 *
 * Since: 0.1
 */
int bak_domain_get_job_stats (BakDomain *domain, int *type, BakTypedParameter **params,
                              int *n_params, unsigned int flags, BakError **error);

/**
 * bak_typed_params_free:
 * @params: an array of parameters, or NULL
 * @n_params: its length
 *
 * Frees parameters. Counterpart of virTypedParamsFree().
 *
 * Since: 0.1
 */
void bak_typed_params_free (BakTypedParameter *params, int n_params);

/**
 * bak_typed_params_get:
 * @params: an array of parameters
 * @n_params: its length
 * @name: the name of one
 *
 * Finds a parameter. Counterpart of virTypedParamsGet().
 *
 * Returns: the parameter, owned by the array; NULL when it is not there
 *
 * Since: 0.1
 */
BakTypedParameter *bak_typed_params_get (BakTypedParameter *params, int n_params, const char *name);

/**
 * bak_domain_abort_job:
 * @domain: a guest
 * @error: return location of an error, or NULL
 *
 * Ends the job that runs, as a libvirt client means it: a pull that is ready is done
 * (bak_domain_backup_stop() without a flag), anything else is aborted. Counterpart of
 * virDomainAbortJob().
 *
 * Returns: 0; -1 on failure: BAK_ERROR_NO_JOB when no job runs
 *
 * Since: 0.1
 */
int bak_domain_abort_job (BakDomain *domain, BakError **error);

/**
 * bak_domain_abort_job_flags:
 * @domain: a guest
 * @flags: 0
 * @error: return location of an error, or NULL
 *
 * As bak_domain_abort_job(). Counterpart of virDomainAbortJobFlags().
 *
 * Returns: 0; -1 on failure
 *
 * Since: 0.1
 */
int bak_domain_abort_job_flags (BakDomain *domain, unsigned int flags, BakError **error);

/**
 * bak_domain_get_block_job_info:
 * @domain: a guest
 * @disk: a disk, by the target that the job lists
 * @info: filled in on success
 * @flags: BakDomainBlockJobFlags
 * @error: return location of an error, or NULL
 *
 * How far the backup or the block job of one disk is. An active commit is ready when cur equals
 * end. A block job that has ended is also ended for the library by this call. Counterpart of
 * virDomainGetBlockJobInfo().
 *
 * Returns: 1; 0 when none runs on that disk; -1 on failure
 *
 * Since: 0.1
 */
int bak_domain_get_block_job_info (BakDomain *domain, const char *disk, BakDomainBlockJobInfo *info,
                                   unsigned int flags, BakError **error);

/**
 * bak_domain_block_job_set_speed:
 * @domain: a guest
 * @disk: a disk
 * @bandwidth: MiB a second, or bytes a second by flag; 0: no limit
 * @flags: BAK_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES or 0
 * @error: return location of an error, or NULL
 *
 * Limits the backup or the block job of one disk. Counterpart of virDomainBlockJobSetSpeed().
 *
 * Returns: 0; -1 on failure, as bak_domain_backup_limit()
 *
 * Since: 0.1
 */
int bak_domain_block_job_set_speed (BakDomain *domain, const char *disk, unsigned long bandwidth,
                                    unsigned int flags, BakError **error);

/**
 * bak_domain_block_job_abort:
 * @domain: a guest
 * @disk: a disk, by the target that the job lists
 * @flags: BakDomainBlockJobAbortFlags
 * @error: return location of an error, or NULL
 *
 * Aborts the backup that @disk is part of, all disks of it: they are of one instant or of none.
 * Ends a block job of @disk: with the flag PIVOT on the base of an active commit or on a copy, else
 * on the images that the disk is on; a copy that is ready is whole then. Counterpart of
 * virDomainBlockJobAbort().
 *
 * Returns: 0; -1 on failure: BAK_ERROR_NO_JOB when none runs on that disk, BAK_ERROR_BUSY when one
 * is not ready for a pivot
 *
 * Since: 0.1
 */
int bak_domain_block_job_abort (BakDomain *domain, const char *disk, unsigned int flags,
                                BakError **error);

/**
 * bak_domain_block_commit:
 * @domain: a guest
 * @disk: a disk
 * @base: the image that is written to (its file, its node, or DISK[N]), or NULL: the lowest
 * @top: the uppermost image that goes, or NULL: the active one
 * @bandwidth: MiB a second, or bytes a second by flag; 0: no limit
 * @flags: BakDomainBlockCommitFlags
 * @error: return location of an error, or NULL
 *
 * Starts to write what the images from @top down to above @base hold into @base, while the guest
 * runs. Below the active layer the job ends by itself; that of the active layer becomes ready, and
 * ends by bak_domain_block_job_abort(), with the flag PIVOT on @base. Counterpart of
 * virDomainBlockCommit().
 *
 * Returns: 0; -1 on failure: BAK_ERROR_BUSY while a backup or block job runs on that disk, or when
 * something else needs @base as it is, BAK_ERROR_INEXACT when a checkpoint would not survive
 *
 * Since: 0.1
 */
int bak_domain_block_commit (BakDomain *domain, const char *disk, const char *base, const char *top,
                             unsigned long bandwidth, unsigned int flags, BakError **error);

/**
 * bak_domain_block_commit_plan:
 * @domain: a guest
 * @disk: a disk
 * @base: as of bak_domain_block_commit(), or NULL
 * @top: as of bak_domain_block_commit(), or NULL
 * @flags: BakDomainBlockCommitFlags
 * @error: return location of an error, or NULL
 *
 * What bak_domain_block_commit() would do now, as bak_domain_backup_plan() says it, and in "notes"
 * which checkpoints it would delete. Nothing is changed.
 *
 * Returns: a JSON document, bak_free() it; NULL on failure
 *
 * Since: 0.1
 */
char *bak_domain_block_commit_plan (BakDomain *domain, const char *disk, const char *base,
                                    const char *top, unsigned int flags, BakError **error);

/**
 * bak_domain_block_copy:
 * @domain: a guest
 * @disk: a disk
 * @dest_xml: where the copy goes: <disk type='file'><source file=''/><driver type='qcow2'/></disk>,
 * or type='block' and dev=''; without a driver the format is that of the disk's own image
 * @bandwidth: bytes a second; 0: no limit
 * @granularity: bytes, a power of two from 512 to 64 MiB, by which QEMU follows what the guest
 * writes; 0: QEMU's choice
 * @buf_size: bytes that are on their way at most, up to 1 GiB; 0: QEMU's choice
 * @flags: BakDomainBlockCopyFlags
 * @error: return location of an error, or NULL
 *
 * Starts to copy a disk into another image, while the guest runs. In step with the disk it is
 * ready, follows it from then on, and ends by bak_domain_block_job_abort(): with the flag PIVOT the
 * guest goes on on the copy, without it the copy is whole and of that instant. A copy that is
 * broken off before it is ready goes, if the call made its file. Counterpart of
 * virDomainBlockCopy(), whose typed parameters are @bandwidth, @granularity and @buf_size.
 *
 * Returns: 0; -1 on failure: BAK_ERROR_EXISTS when the file is there and is not to be reused,
 * BAK_ERROR_BUSY while a backup or block job runs on that disk, BAK_ERROR_INEXACT when a checkpoint
 * would not survive
 *
 * Since: 0.1
 */
int bak_domain_block_copy (BakDomain *domain, const char *disk, const char *dest_xml,
                           unsigned long long bandwidth, unsigned int granularity,
                           unsigned long long buf_size, unsigned int flags, BakError **error);

/**
 * bak_domain_block_copy_plan:
 * @domain: a guest
 * @disk: a disk
 * @dest_xml: as of bak_domain_block_copy()
 * @flags: BakDomainBlockCopyFlags
 * @error: return location of an error, or NULL
 *
 * What bak_domain_block_copy() would do now, as bak_domain_block_commit_plan() says it.
 *
 * Returns: a JSON document, bak_free() it; NULL on failure
 *
 * Since: 0.1
 */
char *bak_domain_block_copy_plan (BakDomain *domain, const char *disk, const char *dest_xml,
                                  unsigned int flags, BakError **error);

/**
 * bak_domain_block_pull:
 * @domain: a guest
 * @disk: a disk
 * @bandwidth: MiB a second, or bytes a second by flag; 0: no limit
 * @flags: BakDomainBlockRebaseFlags
 * @error: return location of an error, or NULL
 *
 * As bak_domain_block_rebase() without a base: the disk's image stands on nothing afterwards.
 * Counterpart of virDomainBlockPull().
 *
 * Returns: 0; -1 on failure
 *
 * Since: 0.1
 */
int bak_domain_block_pull (BakDomain *domain, const char *disk, unsigned long bandwidth,
                           unsigned int flags, BakError **error);

/**
 * bak_domain_block_rebase:
 * @domain: a guest
 * @disk: a disk
 * @base: the image that the active one is to stand on (its file, its node, or DISK[N]), or NULL:
 * none
 * @bandwidth: MiB a second, or bytes a second by flag; 0: no limit
 * @flags: BakDomainBlockRebaseFlags
 * @error: return location of an error, or NULL
 *
 * Starts to copy what the images between the active one and @base hold into the active one, while
 * the guest runs; none of them is written to. Counterpart of virDomainBlockRebase() without a copy.
 *
 * Returns: 0; -1 on failure, as bak_domain_block_commit()
 *
 * Since: 0.1
 */
int bak_domain_block_rebase (BakDomain *domain, const char *disk, const char *base,
                             unsigned long bandwidth, unsigned int flags, BakError **error);

/**
 * bak_domain_block_rebase_plan:
 * @domain: a guest
 * @disk: a disk
 * @base: as of bak_domain_block_rebase(), or NULL
 * @flags: BakDomainBlockRebaseFlags
 * @error: return location of an error, or NULL
 *
 * What bak_domain_block_rebase() would do now, as bak_domain_block_commit_plan() says it.
 *
 * Returns: a JSON document, bak_free() it; NULL on failure
 *
 * Since: 0.1
 */
char *bak_domain_block_rebase_plan (BakDomain *domain, const char *disk, const char *base,
                                    unsigned int flags, BakError **error);

/**
 * bak_job_ref:
 * @job: a job
 *
 * Takes a reference.
 *
 * Returns: @job
 *
 * Since: 0.1
 */
BakJob *bak_job_ref (BakJob *job);

/**
 * bak_job_unref:
 * @job: a job, or NULL
 *
 * Drops a reference.
 *
 * Since: 0.1
 */
void bak_job_unref (BakJob *job);

/**
 * bak_job_get_id:
 * @job: a job
 *
 * Its name, unique among the jobs of its guest.
 *
 * Returns: the id
 *
 * Since: 0.1
 */
const char *bak_job_get_id (const BakJob *job);

/**
 * bak_job_get_domain:
 * @job: a job
 *
 * The name of its guest.
 *
 * Returns: the name
 *
 * Since: 0.1
 */
const char *bak_job_get_domain (const BakJob *job);

/**
 * bak_job_get_mode:
 * @job: a job
 *
 * Push or pull.
 *
 * Returns: the mode
 *
 * Since: 0.1
 */
BakJobMode bak_job_get_mode (const BakJob *job);

/**
 * bak_job_get_state:
 * @job: a job
 *
 * Where it stands.
 *
 * Returns: the state
 *
 * Since: 0.1
 */
BakJobState bak_job_get_state (const BakJob *job);

/**
 * bak_job_has_ended:
 * @job: a job
 *
 * Whether it has ended, well or not.
 *
 * Returns: 1 or 0
 *
 * Since: 0.1
 */
int bak_job_has_ended (const BakJob *job);

/**
 * bak_job_get_started:
 * @job: a job
 *
 * When it began.
 *
 * Returns: microseconds since 1970
 *
 * Since: 0.1
 */
long long bak_job_get_started (const BakJob *job);

/**
 * bak_job_get_ended:
 * @job: a job
 *
 * When it ended.
 *
 * Returns: microseconds since 1970; 0 while it runs
 *
 * Since: 0.1
 */
long long bak_job_get_ended (const BakJob *job);

/**
 * bak_job_get_elapsed:
 * @job: a job
 *
 * How long it has taken up to now or to its end.
 *
 * Returns: microseconds
 *
 * Since: 0.1
 */
unsigned long long bak_job_get_elapsed (const BakJob *job);

/**
 * bak_job_get_error:
 * @job: a job
 *
 * The first error, which is the root cause.
 *
 * Returns: one line; NULL when nothing failed
 *
 * Since: 0.1
 */
const char *bak_job_get_error (const BakJob *job);

/**
 * bak_job_get_error_code:
 * @job: a job
 *
 * The code of that error.
 *
 * Returns: a code; BAK_ERROR_NONE when nothing failed
 *
 * Since: 0.1
 */
BakErrorCode bak_job_get_error_code (const BakJob *job);

/**
 * bak_job_is_partial:
 * @job: a job
 *
 * Whether what it made is not a whole image by itself (sync top, none).
 *
 * Returns: 1 or 0
 *
 * Since: 0.1
 */
int bak_job_is_partial (const BakJob *job);

/**
 * bak_job_get_checkpoint:
 * @job: a job
 *
 * The checkpoint that is made with it; it is kept only if the job completes.
 *
 * Returns: the name; NULL when there is none
 *
 * Since: 0.1
 */
const char *bak_job_get_checkpoint (const BakJob *job);

/**
 * bak_job_get_server:
 * @job: a job
 *
 * Pull: where the export is served, as "nbd+unix:///?socket=/run/web.sock" or
 * "nbd://127.0.0.1:10809".
 *
 * Returns: the address; NULL when there is none
 *
 * Since: 0.1
 */
const char *bak_job_get_server (const BakJob *job);

/**
 * bak_job_get_consistency:
 * @job: a job
 *
 * How consistent the point in time is: "crash-consistent" or "quiesced".
 *
 * Returns: the word; NULL when it is not known yet
 *
 * Since: 0.1
 */
const char *bak_job_get_consistency (const BakJob *job);

/**
 * bak_job_get_frozen_time:
 * @job: a job
 *
 * How long the file systems of the guest were frozen.
 *
 * Returns: microseconds; 0 when they were not
 *
 * Since: 0.1
 */
unsigned long long bak_job_get_frozen_time (const BakJob *job);

/**
 * bak_job_get_held_time:
 * @job: a job
 *
 * How long writes of the guest had to wait while a backup with instant='end' was ended: from the
 * moment at which the first disk was asked to come to rest to that at which all were let go.
 *
 * Returns: microseconds; 0 for every other backup
 *
 * Since: 0.1
 */
unsigned long long bak_job_get_held_time (const BakJob *job);

/**
 * bak_job_get_bytes:
 * @job: a job
 *
 * What has been copied, all disks together.
 *
 * Returns: bytes
 *
 * Since: 0.1
 */
unsigned long long bak_job_get_bytes (const BakJob *job);

/**
 * bak_job_get_total:
 * @job: a job
 *
 * What is to be copied, all disks together.
 *
 * Returns: bytes
 *
 * Since: 0.1
 */
unsigned long long bak_job_get_total (const BakJob *job);

/**
 * bak_job_get_temp_used:
 * @job: a job
 *
 * What its scratch uses.
 *
 * Returns: bytes
 *
 * Since: 0.1
 */
unsigned long long bak_job_get_temp_used (const BakJob *job);

/**
 * bak_job_get_temp_total:
 * @job: a job
 *
 * What its scratch may come to use.
 *
 * Returns: bytes
 *
 * Since: 0.1
 */
unsigned long long bak_job_get_temp_total (const BakJob *job);

/**
 * bak_job_is_acknowledged:
 * @job: a job
 *
 * Whether somebody has taken note of its end (bak_domain_backup_stop()).
 *
 * Returns: 1 or 0
 *
 * Since: 0.1
 */
int bak_job_is_acknowledged (const BakJob *job);

/**
 * bak_job_get_owner:
 * @job: a job
 *
 * Which process has the job in hand.
 *
 * Returns: text; NULL when none has
 *
 * Since: 0.1
 */
const char *bak_job_get_owner (const BakJob *job);

/**
 * bak_job_get_n_notes:
 * @job: a job
 *
 * How many notes there are.
 *
 * Returns: how many
 *
 * Since: 0.1
 */
unsigned int bak_job_get_n_notes (const BakJob *job);

/**
 * bak_job_get_note:
 * @job: a job
 * @index: 0 to bak_job_get_n_notes() - 1
 *
 * Something a person should know, as "little space is left in the scratch directory".
 *
 * Returns: one line; NULL when @index is out of range
 *
 * Since: 0.1
 */
const char *bak_job_get_note (const BakJob *job, unsigned int index);

/**
 * bak_job_get_n_disks:
 * @job: a job
 *
 * How many disks it has.
 *
 * Returns: how many
 *
 * Since: 0.1
 */
unsigned int bak_job_get_n_disks (const BakJob *job);

/**
 * bak_job_get_disk:
 * @job: a job
 * @index: 0 to bak_job_get_n_disks() - 1
 *
 * One disk of it.
 *
 * Returns: the disk, owned by @job; NULL when @index is out of range
 *
 * Since: 0.1
 */
const BakJobDisk *bak_job_get_disk (const BakJob *job, unsigned int index);

/**
 * bak_job_disk_get_target:
 * @disk: a disk of a job
 *
 * The name of the disk.
 *
 * Returns: the name
 *
 * Since: 0.1
 */
const char *bak_job_disk_get_target (const BakJobDisk *disk);

/**
 * bak_job_disk_get_state:
 * @disk: a disk of a job
 *
 * Where this disk stands.
 *
 * Returns: the state
 *
 * Since: 0.1
 */
BakJobState bak_job_disk_get_state (const BakJobDisk *disk);

/**
 * bak_job_disk_get_type:
 * @disk: a disk of a job
 *
 * What was really done: "full" or "incremental".
 *
 * Returns: the word; NULL when it is not decided yet
 *
 * Since: 0.1
 */
const char *bak_job_disk_get_type (const BakJobDisk *disk);

/**
 * bak_job_disk_get_reason:
 * @disk: a disk of a job
 *
 * Why it is not what was asked for, as "bitmap inconsistent".
 *
 * Returns: one line; NULL when there is nothing to say
 *
 * Since: 0.1
 */
const char *bak_job_disk_get_reason (const BakJobDisk *disk);

/**
 * bak_job_disk_get_bytes:
 * @disk: a disk of a job
 *
 * What has been copied.
 *
 * Returns: bytes
 *
 * Since: 0.1
 */
unsigned long long bak_job_disk_get_bytes (const BakJobDisk *disk);

/**
 * bak_job_disk_get_total:
 * @disk: a disk of a job
 *
 * What is to be copied.
 *
 * Returns: bytes
 *
 * Since: 0.1
 */
unsigned long long bak_job_disk_get_total (const BakJobDisk *disk);

/**
 * bak_job_disk_get_error:
 * @disk: a disk of a job
 *
 * What went wrong with this disk.
 *
 * Returns: one line; NULL when nothing did
 *
 * Since: 0.1
 */
const char *bak_job_disk_get_error (const BakJobDisk *disk);

/**
 * bak_job_disk_get_path:
 * @disk: a disk of a job
 *
 * Push: where it is written to.
 *
 * Returns: path or URI; NULL for pull
 *
 * Since: 0.1
 */
const char *bak_job_disk_get_path (const BakJobDisk *disk);

/**
 * bak_job_disk_get_scratch:
 * @disk: a disk of a job
 *
 * Where old data of the guest is kept meanwhile.
 *
 * Returns: path; NULL when none is used
 *
 * Since: 0.1
 */
const char *bak_job_disk_get_scratch (const BakJobDisk *disk);

/**
 * bak_job_disk_get_format:
 * @disk: a disk of a job
 *
 * The format of what is written.
 *
 * Returns: as "qcow2"; NULL when there is none
 *
 * Since: 0.1
 */
const char *bak_job_disk_get_format (const BakJobDisk *disk);

/**
 * bak_job_disk_get_export_name:
 * @disk: a disk of a job
 *
 * Pull: the name of the NBD export.
 *
 * Returns: the name; NULL for push
 *
 * Since: 0.1
 */
const char *bak_job_disk_get_export_name (const BakJobDisk *disk);

/**
 * bak_job_disk_get_bitmap:
 * @disk: a disk of a job
 *
 * Pull, incremental: the exported bitmap, NBD context qemu:dirty-bitmap:NAME.
 *
 * Returns: the name; NULL when there is none
 *
 * Since: 0.1
 */
const char *bak_job_disk_get_bitmap (const BakJobDisk *disk);

/**
 * bak_job_disk_get_since:
 * @disk: a disk of a job
 *
 * The checkpoint that an increment starts from.
 *
 * Returns: the name; NULL for a full copy
 *
 * Since: 0.1
 */
const char *bak_job_disk_get_since (const BakJobDisk *disk);

/**
 * bak_job_disk_get_limit:
 * @disk: a disk of a job
 *
 * Its speed limit.
 *
 * Returns: bytes a second; 0: none
 *
 * Since: 0.1
 */
unsigned long long bak_job_disk_get_limit (const BakJobDisk *disk);

/**
 * bak_job_disk_get_protection:
 * @disk: a disk of a job
 *
 * How the guest is protected from a bad target.
 *
 * Returns: one line; NULL when it is not known
 *
 * Since: 0.1
 */
const char *bak_job_disk_get_protection (const BakJobDisk *disk);

/**
 * bak_job_get_export_uri:
 * @job: a job
 * @index: 0 to bak_job_get_n_disks() - 1
 *
 * Pull: the NBD URI under which a reader finds one disk, as "nbd+unix:///vda?socket=/run/web.sock".
 *
 * Returns: the URI, bak_free() it; NULL for a push, before the export is there, or when @index is
 * out of range
 *
 * Since: 0.1
 */
char *bak_job_get_export_uri (const BakJob *job, unsigned int index);

/**
 * bak_job_state_to_string:
 * @state: a state
 *
 * The stable name of a state, for logs and JSON.
 *
 * Returns: a constant string, as "completed"; "unknown" for a value that this library does not know
 *
 * Since: 0.1
 */
const char *bak_job_state_to_string (BakJobState state);

#ifdef __cplusplus
}
#endif
#endif
