/* Jobs on one disk: its part of a backup, or a block job that changes what it stands on. */
#include <string.h>
#include "api/api.h"
#include "conf/copy_def.h"
#include "driver/job_stats.h"

enum { MIB = 1024 * 1024 };

static const bak_job_disk *job_disk (const bak_job *job, const char *target)
{
    for (guint i = 0; i < job->disks.disks_len; i++)
        if (g_str_equal (job->disks.disks_val[i].target, target))
            return &job->disks.disks_val[i];
    return NULL;
}

/* The disk's part of the backup that runs; NULL: none. */
static const bak_job_disk *backup_of (const Result *result, const char *disk)
{
    const bak_job *job = result ? &((bak_job_ret *) result->ret)->job : NULL;
    return job && job_stats_type (job, FALSE) != JOB_TYPE_NONE ? job_disk (job, disk) : NULL;
}

static unsigned long speed_of (guint64 bytes_per_sec, unsigned int flags)
{
    return flags & BAK_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES ? bytes_per_sec : bytes_per_sec / MIB;
}

static gboolean check_bandwidth (unsigned long bandwidth, gboolean bytes, guint64 *ret_bytes,
                                 BakError **error)
{
    guint64 unit = bytes ? 1 : MIB;
    if (bandwidth > (guint64) G_MAXINT64 / unit) {
        api_set_error (error, BAK_ERROR_INVALID_ARGUMENT, _("bandwidth %lu is too large"),
                       bandwidth);
        return FALSE;
    }
    *ret_bytes = bandwidth * unit;
    return TRUE;
}

/* A call that is made after that of backups: an old daemon knows only those. */
static gboolean is_unknown (BakError *error)
{
    return bak_error_get_code (error) == BAK_ERROR_NOT_SUPPORTED;
}

static int say_last (const bak_block_ret *ret, const char *disk, BakError **error)
{
    g_autofree char *shown = text_sanitize (disk, 256);
    if (ret->last_type == 0 || ret->last_result == BLOCK_RESULT_COMPLETED)
        return 0;
    if (ret->last_result == BLOCK_RESULT_CANCELED)
        api_set_error (error, BAK_ERROR_ABORTED, _("block job %s of disk '%s' was cancelled"),
                       ret->last_job, shown);
    else
        api_set_error (error, BAK_ERROR_IO, _("block job %s of disk '%s' failed: %s"),
                       ret->last_job, shown, ret->last_error);
    return -1;
}

static int block_info (BakDomain *domain, const char *disk, BakDomainBlockJobInfo *info,
                       unsigned int flags, BakError **error)
{
    bak_disk_arg args = { .domain = domain->name, .disk = (char *) disk };
    BakError *why = NULL;
    g_autoptr (Result) result = result_call (domain->conn, CALL_ID_block_info, &args, &why);
    if (!result && is_unknown (why)) {
        bak_error_unref (why);
        return 0;
    }
    if (!result) {
        if (error)
            *error = why;
        else
            bak_error_unref (why);
        return -1;
    }
    const bak_block_ret *ret = result->ret;
    if (ret->type == 0)
        return flags & BAK_DOMAIN_BLOCK_JOB_SAY_FAILURE ? say_last (ret, disk, error) : 0;
    memset (info, 0, sizeof *info);
    info->type = ret->type;
    info->bandwidth = speed_of (ret->bytes_per_sec, flags);
    info->cur = ret->cur;
    info->end = ret->end;
    return 1;
}

int bak_domain_get_block_job_info (BakDomain *domain, const char *disk, BakDomainBlockJobInfo *info,
                                   unsigned int flags, BakError **error)
{
    API_NOT_NULL (domain, error, -1);
    API_NOT_NULL (disk, error, -1);
    API_NOT_NULL (info, error, -1);
    API_TEXT (disk, BAK_PATH_MAX, error, -1);
    API_FLAGS (flags, BAK_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES | BAK_DOMAIN_BLOCK_JOB_SAY_FAILURE,
               error, -1);
    gboolean none;
    g_autoptr (Result) result = api_job_stats (domain, 0, &none, error);
    if (!result && !none)
        return -1;
    const bak_job_disk *row = backup_of (result, disk);
    if (!row)
        return block_info (domain, disk, info, flags, error);
    memset (info, 0, sizeof *info);
    info->type = BAK_DOMAIN_BLOCK_JOB_TYPE_BACKUP;
    info->bandwidth = speed_of (row->limit, flags);
    info->cur = row->bytes;
    info->end = row->total ? row->total : 1;
    return 1;
}

static int no_job (const char *disk, BakError **error)
{
    g_autofree char *shown = text_sanitize (disk, 256);
    api_set_error (error, BAK_ERROR_NO_JOB, _("no backup of disk '%s' runs, and no block job"),
                   shown);
    return -1;
}

static int block_end (BakDomain *domain, const char *disk, unsigned int flags, BakError **error)
{
    bak_disk_arg args = { .domain = domain->name,
                          .disk = (char *) disk,
                          .flags = flags & BAK_DOMAIN_BLOCK_JOB_ABORT_PIVOT ? BLOCK_END_PIVOT : 0 };
    BakError *why = NULL;
    if (api_call (domain->conn, CALL_ID_block_end, &args, &why) == 0)
        return 0;
    if (is_unknown (why)) {
        bak_error_unref (why);
        return no_job (disk, error);
    }
    if (error)
        *error = why;
    else
        bak_error_unref (why);
    return -1;
}

int bak_domain_block_job_abort (BakDomain *domain, const char *disk, unsigned int flags,
                                BakError **error)
{
    API_NOT_NULL (domain, error, -1);
    API_NOT_NULL (disk, error, -1);
    API_TEXT (disk, BAK_PATH_MAX, error, -1);
    API_FLAGS (flags, BAK_DOMAIN_BLOCK_JOB_ABORT_ASYNC | BAK_DOMAIN_BLOCK_JOB_ABORT_PIVOT, error,
               -1);
    gboolean none;
    g_autoptr (Result) result = api_job_stats (domain, 0, &none, error);
    if (!result && !none)
        return -1;
    if (!backup_of (result, disk))
        return block_end (domain, disk, flags, error);
    if (flags & BAK_DOMAIN_BLOCK_JOB_ABORT_PIVOT) {
        api_set_error (error, BAK_ERROR_INVALID_ARGUMENT,
                       _("job type '%s' does not support pivot"), "backup");
        return -1;
    }
    const bak_job *job = &((bak_job_ret *) result->ret)->job;
    BakJob *ended = bak_domain_backup_stop (domain, job->id, BAK_DOMAIN_BACKUP_STOP_ABORT, error);
    bak_job_unref (ended);
    return ended ? 0 : -1;
}

int bak_domain_block_job_set_speed (BakDomain *domain, const char *disk, unsigned long bandwidth,
                                    unsigned int flags, BakError **error)
{
    API_NOT_NULL (domain, error, -1);
    API_NOT_NULL (disk, error, -1);
    API_FLAGS (flags, BAK_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES, error, -1);
    guint64 bytes;
    BakError *why = NULL, *other = NULL;
    if (!check_bandwidth (bandwidth, flags & BAK_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES, &bytes,
                          error))
        return -1;
    int status = bak_domain_backup_limit (domain, disk, bytes, &why);
    BakErrorCode code = bak_error_get_code (why);
    if (status < 0 && (code == BAK_ERROR_NO_JOB || code == BAK_ERROR_NO_DISK)) {
        bak_limit_args args = { .domain = domain->name,
                                .disk = (char *) disk,
                                .bytes_per_sec = bytes };
        if (api_call (domain->conn, CALL_ID_block_limit, &args, &other) == 0)
            status = 0;
        bak_error_unref (other);
    }
    if (status < 0 && error)
        *error = why;
    else
        bak_error_unref (why);
    return status;
}

/* begin */

static const struct {
    unsigned int public, flag;
} commit_flags[] = { { BAK_DOMAIN_BLOCK_COMMIT_SHALLOW, BLOCK_SHALLOW },
                     { BAK_DOMAIN_BLOCK_COMMIT_DELETE, BLOCK_DELETE },
                     { BAK_DOMAIN_BLOCK_COMMIT_ACTIVE, BLOCK_ACTIVE },
                     { BAK_DOMAIN_BLOCK_COMMIT_DROP_CHECKPOINTS, BLOCK_DROP_CHECKPOINTS } };

enum {
    COMMIT_FLAGS = BAK_DOMAIN_BLOCK_COMMIT_SHALLOW | BAK_DOMAIN_BLOCK_COMMIT_DELETE
                   | BAK_DOMAIN_BLOCK_COMMIT_ACTIVE | BAK_DOMAIN_BLOCK_COMMIT_RELATIVE
                   | BAK_DOMAIN_BLOCK_COMMIT_BANDWIDTH_BYTES
                   | BAK_DOMAIN_BLOCK_COMMIT_DROP_CHECKPOINTS,
    REBASE_FLAGS = BAK_DOMAIN_BLOCK_REBASE_RELATIVE | BAK_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES
                   | BAK_DOMAIN_BLOCK_REBASE_DROP_CHECKPOINTS
};

static bak_block_args commit_args (BakDomain *domain, const char *disk, const char *base,
                                   const char *top, unsigned int flags)
{
    bak_block_args args = { .domain = domain->name,
                            .disk = (char *) disk,
                            .type = BLOCK_COMMIT,
                            .base = api_text (base),
                            .top = api_text (top),
                            .dest = api_text (NULL),
                            .format = api_text (NULL) };
    for (guint i = 0; i < G_N_ELEMENTS (commit_flags); i++)
        if (flags & commit_flags[i].public)
            args.flags |= commit_flags[i].flag;
    return args;
}

static bak_block_args rebase_args (BakDomain *domain, const char *disk, const char *base,
                                   unsigned int flags)
{
    return (bak_block_args){ .domain = domain->name,
                             .disk = (char *) disk,
                             .type = BLOCK_PULL,
                             .base = api_text (base),
                             .top = api_text (NULL),
                             .dest = api_text (NULL),
                             .format = api_text (NULL),
                             .flags = flags & BAK_DOMAIN_BLOCK_REBASE_DROP_CHECKPOINTS
                                          ? BLOCK_DROP_CHECKPOINTS
                                          : 0 };
}

static int begin (BakDomain *domain, bak_block_args *args, unsigned long bandwidth, gboolean bytes,
                  BakError **error)
{
    guint64 speed;
    if (!check_bandwidth (bandwidth, bytes, &speed, error))
        return -1;
    args->bytes_per_sec = speed;
    g_autoptr (Result) result = result_call (domain->conn, CALL_ID_block_begin, args, error);
    return result ? 0 : -1;
}

int bak_domain_block_commit (BakDomain *domain, const char *disk, const char *base, const char *top,
                             unsigned long bandwidth, unsigned int flags, BakError **error)
{
    API_NOT_NULL (domain, error, -1);
    API_NOT_NULL (disk, error, -1);
    API_TEXT (disk, BAK_PATH_MAX, error, -1);
    API_TEXT (base, BAK_PATH_MAX, error, -1);
    API_TEXT (top, BAK_PATH_MAX, error, -1);
    API_FLAGS (flags, COMMIT_FLAGS, error, -1);
    bak_block_args args = commit_args (domain, disk, base, top, flags);
    return begin (domain, &args, bandwidth, flags & BAK_DOMAIN_BLOCK_COMMIT_BANDWIDTH_BYTES, error);
}

char *bak_domain_block_commit_plan (BakDomain *domain, const char *disk, const char *base,
                                    const char *top, unsigned int flags, BakError **error)
{
    API_NOT_NULL (domain, error, NULL);
    API_NOT_NULL (disk, error, NULL);
    API_TEXT (disk, BAK_PATH_MAX, error, NULL);
    API_TEXT (base, BAK_PATH_MAX, error, NULL);
    API_TEXT (top, BAK_PATH_MAX, error, NULL);
    API_FLAGS (flags, COMMIT_FLAGS, error, NULL);
    bak_block_args args = commit_args (domain, disk, base, top, flags);
    return api_call_text (domain->conn, CALL_ID_block_plan, &args, error);
}

int bak_domain_block_rebase (BakDomain *domain, const char *disk, const char *base,
                             unsigned long bandwidth, unsigned int flags, BakError **error)
{
    API_NOT_NULL (domain, error, -1);
    API_NOT_NULL (disk, error, -1);
    API_TEXT (disk, BAK_PATH_MAX, error, -1);
    API_TEXT (base, BAK_PATH_MAX, error, -1);
    API_FLAGS (flags, REBASE_FLAGS, error, -1);
    bak_block_args args = rebase_args (domain, disk, base, flags);
    return begin (domain, &args, bandwidth, flags & BAK_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES, error);
}

int bak_domain_block_pull (BakDomain *domain, const char *disk, unsigned long bandwidth,
                           unsigned int flags, BakError **error)
{
    API_NOT_NULL (domain, error, -1);
    return bak_domain_block_rebase (domain, disk, NULL, bandwidth, flags, error);
}

char *bak_domain_block_rebase_plan (BakDomain *domain, const char *disk, const char *base,
                                    unsigned int flags, BakError **error)
{
    API_NOT_NULL (domain, error, NULL);
    API_NOT_NULL (disk, error, NULL);
    API_TEXT (disk, BAK_PATH_MAX, error, NULL);
    API_TEXT (base, BAK_PATH_MAX, error, NULL);
    API_FLAGS (flags, REBASE_FLAGS, error, NULL);
    bak_block_args args = rebase_args (domain, disk, base, flags);
    return api_call_text (domain->conn, CALL_ID_block_plan, &args, error);
}

/* copy */

static const struct {
    unsigned int public, flag;
} copy_flags[] = { { BAK_DOMAIN_BLOCK_COPY_SHALLOW, BLOCK_SHALLOW },
                   { BAK_DOMAIN_BLOCK_COPY_REUSE_EXT, BLOCK_REUSE_EXTERNAL },
                   { BAK_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES, BLOCK_SYNC_WRITES },
                   { BAK_DOMAIN_BLOCK_COPY_DROP_CHECKPOINTS, BLOCK_DROP_CHECKPOINTS } };

enum {
    COPY_FLAGS = BAK_DOMAIN_BLOCK_COPY_SHALLOW | BAK_DOMAIN_BLOCK_COPY_REUSE_EXT
                 | BAK_DOMAIN_BLOCK_COPY_TRANSIENT_JOB | BAK_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES
                 | BAK_DOMAIN_BLOCK_COPY_DROP_CHECKPOINTS
};

/* dest: of dest_xml; it must live as long as the result. */
static gboolean copy_args (BakDomain *domain, const char *disk, const char *dest_xml,
                           unsigned int flags, CopyDef *dest, bak_block_args *ret_args,
                           BakError **error)
{
    GError *wrong = NULL;
    if (!copy_def_parse (dest_xml, dest, &wrong)) {
        api_take_error (error, wrong);
        return FALSE;
    }
    *ret_args = (bak_block_args){ .domain = domain->name,
                                  .disk = (char *) disk,
                                  .type = BLOCK_COPY,
                                  .base = api_text (NULL),
                                  .top = api_text (NULL),
                                  .dest = dest->path,
                                  .format = dest->format,
                                  .flags = dest->is_block ? BLOCK_COPY_DEV : 0 };
    for (guint i = 0; i < G_N_ELEMENTS (copy_flags); i++)
        if (flags & copy_flags[i].public)
            ret_args->flags |= copy_flags[i].flag;
    return TRUE;
}

int bak_domain_block_copy (BakDomain *domain, const char *disk, const char *dest_xml,
                           unsigned long long bandwidth, unsigned int granularity,
                           unsigned long long buf_size, unsigned int flags, BakError **error)
{
    API_NOT_NULL (domain, error, -1);
    API_NOT_NULL (disk, error, -1);
    API_NOT_NULL (dest_xml, error, -1);
    API_TEXT (disk, BAK_PATH_MAX, error, -1);
    API_FLAGS (flags, COPY_FLAGS, error, -1);
    g_auto (CopyDef) dest = { 0 };
    bak_block_args args;
    if (!copy_args (domain, disk, dest_xml, flags, &dest, &args, error))
        return -1;
    if (bandwidth > G_MAXINT64) {
        api_set_error (error, BAK_ERROR_INVALID_ARGUMENT, _("bandwidth %llu is too large"),
                       bandwidth);
        return -1;
    }
    args.bytes_per_sec = bandwidth;
    args.granularity = granularity;
    args.buf_size = buf_size;
    g_autoptr (Result) result = result_call (domain->conn, CALL_ID_block_begin, &args, error);
    return result ? 0 : -1;
}

char *bak_domain_block_copy_plan (BakDomain *domain, const char *disk, const char *dest_xml,
                                  unsigned int flags, BakError **error)
{
    API_NOT_NULL (domain, error, NULL);
    API_NOT_NULL (disk, error, NULL);
    API_NOT_NULL (dest_xml, error, NULL);
    API_TEXT (disk, BAK_PATH_MAX, error, NULL);
    API_FLAGS (flags, COPY_FLAGS, error, NULL);
    g_auto (CopyDef) dest = { 0 };
    bak_block_args args;
    if (!copy_args (domain, disk, dest_xml, flags, &dest, &args, error))
        return NULL;
    return api_call_text (domain->conn, CALL_ID_block_plan, &args, error);
}
