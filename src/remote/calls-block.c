/* libvirt's program: jobs on one disk, which are backups or block jobs. */
#include <rpc/rpc.h>
#include "conf/copy_def.h"
#include "remote/table.h"

enum { MIB = 1024 * 1024 };
enum { INFO_BYTES = 1, SPEED_BYTES = 1 };
enum { COMMIT_KNOWN = 31, COMMIT_TO_DRIVER = 7, COMMIT_BYTES = 16 };
enum {
    REBASE_SHALLOW = 1,
    REBASE_REUSE = 2,
    REBASE_RAW = 4,
    REBASE_COPY = 8,
    REBASE_RELATIVE = 16,
    REBASE_DEV = 32,
    REBASE_BYTES = 64,
    PULL_BYTES = 64
};
enum { COPY_SHALLOW = 1, COPY_REUSE = 2, COPY_TRANSIENT = 4, COPY_SYNC_WRITES = 8 };

static gboolean disk_answers_to (const bak_disk *disk, const char *name)
{
    for (guint i = 0; i < disk->names.names_len; i++)
        if (g_str_equal (disk->names.names_val[i], name))
            return TRUE;
    return g_str_equal (disk->target, name) || g_str_equal (disk->source, name);
}

/* The disk's part of the backup that runs; job is to be cleared. NULL: none. */
static const bak_job_disk *backup_of (const Target *target, const bak_disk *disk, bak_job_ret *job)
{
    bak_job_arg arg = { .domain = target->name, .job = (char *) "" };
    if (!call_backup_info (target->conn, &arg, job, NULL) || job->job.state == JOB_STATE_NONE
        || job_state_ended (job->job.state))
        return NULL;
    for (guint i = 0; i < job->job.disks.disks_len; i++) {
        const bak_job_disk *part = &job->job.disks.disks_val[i];
        if (disk_answers_to (disk, part->target) && !job_state_ended (part->state))
            return part;
    }
    return NULL;
}

static uint64_t speed_of (uint64_t bytes, guint flags)
{
    return flags & INFO_BYTES ? bytes : bytes / MIB;
}

static gboolean block_job_of (const Target *target, char *disk, guint flags, rpc_block_job_ret *ret,
                              GError **error)
{
    bak_disk_arg arg = { .domain = target->name, .disk = disk };
    bak_block_ret info = { 0 };
    g_autoptr (GError) why = NULL;
    if (!call_block_info (target->conn, &arg, &info, &why)) {
        if (g_error_matches (why, BAK_ERROR, BAK_ERROR_NOT_SUPPORTED))
            return TRUE;
        g_propagate_error (error, g_steal_pointer (&why));
        return FALSE;
    }
    if (info.type)
        *ret = (rpc_block_job_ret){ .found = 1,
                                    .type = info.type,
                                    .bandwidth = speed_of (info.bytes_per_sec, flags),
                                    .cur = info.cur,
                                    .end = info.end };
    call_clear_ret (CALL_ID_block_info, &info);
    return TRUE;
}

gboolean serve_block_job (Call *call, GError **error)
{
    const rpc_dom_text_flags *args = call->args;
    rpc_block_job_ret *ret = call->ret;
    g_auto (Target) target = { 0 };
    bak_disk_ret disk = { 0 };
    bak_job_ret job = { 0 };
    if (!call_target (call, &args->dom, &target, error)
        || !call_disk (target.conn, target.name, args->text, &disk, error))
        return FALSE;
    const bak_job_disk *part = backup_of (&target, &disk.disk, &job);
    gboolean ok = TRUE;
    if (part)
        *ret = (rpc_block_job_ret){ .found = 1,
                                    .type = RPC_BLOCK_JOB_BACKUP,
                                    .bandwidth = part->limit,
                                    .cur = part->bytes,
                                    .end = part->total ? part->total : 1 };
    else
        ok = block_job_of (&target, disk.disk.target, args->flags, ret, error);
    call_clear_ret (CALL_ID_backup_info, &job);
    call_clear_ret (CALL_ID_domain_disk, &disk);
    return ok;
}

/* A backup ends as a whole: its disks are of one instant or of none. */
static gboolean abort_backup (const Target *target, guint flags, GError **error)
{
    bak_stop_args arg = { .domain = target->name, .job = (char *) "", .flags = STOP_ABORT };
    bak_job_ret ended = { 0 };
    if (flags & BLOCK_END_PIVOT)
        return rpc_error_set (error, RPC_ERROR_INVALID,
                              "Requested operation is not valid: job type 'backup' does not "
                              "support pivot");
    if (!call_backup_stop (target->conn, &arg, &ended, error))
        return FALSE;
    call_clear_ret (CALL_ID_backup_stop, &ended);
    return TRUE;
}

/* libvirt calls it a mistake of the arguments that there is no job. */
static gboolean as_libvirt_says (gboolean ok, GError **error)
{
    if (ok || !error || !g_error_matches (*error, BAK_ERROR, BAK_ERROR_NO_JOB))
        return ok;
    g_autofree char *text = g_strdup ((*error)->message);
    g_clear_error (error);
    return rpc_error_set (error, RPC_ERROR_INVALID_ARG, "invalid argument: %s", text);
}

gboolean serve_block_abort (Call *call, GError **error)
{
    const rpc_dom_text_flags *args = call->args;
    g_auto (Target) target = { 0 };
    bak_disk_ret disk = { 0 };
    bak_job_ret job = { 0 };
    bak_none none = { 0 };
    if (!call_check_flags (call, args->flags, BLOCK_END_ASYNC | BLOCK_END_PIVOT, error)
        || !call_target (call, &args->dom, &target, error)
        || !call_disk (target.conn, target.name, args->text, &disk, error))
        return FALSE;
    bak_disk_arg arg = { .domain = target.name, .disk = disk.disk.target, .flags = args->flags };
    gboolean ok = backup_of (&target, &disk.disk, &job)
                      ? abort_backup (&target, args->flags, error)
                      : as_libvirt_says (call_block_end (target.conn, &arg, &none, error), error);
    call_clear_ret (CALL_ID_backup_info, &job);
    call_clear_ret (CALL_ID_domain_disk, &disk);
    return ok;
}

static gboolean check_speed (uint64_t bandwidth, gboolean bytes, uint64_t *ret_bytes,
                             GError **error)
{
    if (!bytes && bandwidth > (uint64_t) G_MAXINT64 / MIB)
        return rpc_error_set (error, RPC_ERROR_INVALID_ARG,
                              "invalid argument: bandwidth must be less than %" G_GUINT64_FORMAT,
                              (guint64) G_MAXINT64 / MIB);
    *ret_bytes = bytes ? bandwidth : bandwidth * MIB;
    return TRUE;
}

gboolean serve_block_speed (Call *call, GError **error)
{
    const rpc_block_pull_args *args = call->args;
    g_auto (Target) target = { 0 };
    bak_disk_ret disk = { 0 };
    bak_job_ret job = { 0 };
    bak_none none = { 0 };
    uint64_t speed = 0;
    if (!call_check_flags (call, args->flags, SPEED_BYTES, error)
        || !check_speed (args->bandwidth, args->flags & SPEED_BYTES, &speed, error)
        || !call_target (call, &args->dom, &target, error)
        || !call_disk (target.conn, target.name, args->disk, &disk, error))
        return FALSE;
    bak_limit_args arg = { .domain = target.name,
                           .disk = disk.disk.target,
                           .bytes_per_sec = speed };
    gboolean ok = backup_of (&target, &disk.disk, &job)
                      ? call_backup_limit (target.conn, &arg, &none, error)
                      : as_libvirt_says (call_block_limit (target.conn, &arg, &none, error), error);
    call_clear_ret (CALL_ID_backup_info, &job);
    call_clear_ret (CALL_ID_domain_disk, &disk);
    return ok;
}

static gboolean begin (Call *call, const rpc_domain *dom, char *disk, bak_block_args *arg,
                       GError **error)
{
    g_auto (Target) target = { 0 };
    bak_disk_ret found = { 0 };
    bak_begin_ret begun = { 0 };
    char **const texts[] = { &arg->base, &arg->top, &arg->dest, &arg->format };
    if (!call_target (call, dom, &target, error)
        || !call_disk (target.conn, target.name, disk, &found, error))
        return FALSE;
    arg->domain = target.name;
    arg->disk = found.disk.target;
    for (guint i = 0; i < G_N_ELEMENTS (texts); i++)
        *texts[i] = *texts[i] ? *texts[i] : (char *) "";
    gboolean ok = call_block_begin (target.conn, arg, &begun, error);
    if (ok)
        call_clear_ret (CALL_ID_block_begin, &begun);
    call_clear_ret (CALL_ID_domain_disk, &found);
    return ok;
}

static char *text_of (rpc_text *text)
{
    return text ? *text : (char *) "";
}

gboolean serve_block_pull (Call *call, GError **error)
{
    const rpc_block_pull_args *args = call->args;
    bak_block_args arg = { .type = BLOCK_PULL };
    return call_check_flags (call, args->flags, PULL_BYTES, error)
           && check_speed (args->bandwidth, args->flags & PULL_BYTES, &arg.bytes_per_sec, error)
           && begin (call, &args->dom, args->disk, &arg, error);
}

/* The older form of a copy: the base is where it goes. */
static gboolean copy_by_rebase (Call *call, const rpc_block_rebase_args *args, GError **error)
{
    const guint known =
        REBASE_SHALLOW | REBASE_REUSE | REBASE_RAW | REBASE_COPY | REBASE_DEV | REBASE_BYTES;
    bak_block_args arg = { .type = BLOCK_COPY,
                           .dest = text_of (args->base),
                           .format = (char *) (args->flags & REBASE_RAW ? "raw" : ""),
                           .flags = (args->flags & REBASE_SHALLOW ? BLOCK_SHALLOW : 0)
                                    | (args->flags & REBASE_REUSE ? BLOCK_REUSE_EXTERNAL : 0)
                                    | (args->flags & REBASE_DEV ? BLOCK_COPY_DEV : 0) };
    return call_check_flags (call, args->flags, known, error)
           && check_speed (args->bandwidth, args->flags & REBASE_BYTES, &arg.bytes_per_sec, error)
           && begin (call, &args->dom, args->disk, &arg, error);
}

gboolean serve_block_rebase (Call *call, GError **error)
{
    const rpc_block_rebase_args *args = call->args;
    bak_block_args arg = { .type = BLOCK_PULL, .base = text_of (args->base) };
    if (args->flags & REBASE_COPY)
        return copy_by_rebase (call, args, error);
    return call_check_flags (call, args->flags, REBASE_RELATIVE | REBASE_BYTES, error)
           && check_speed (args->bandwidth, args->flags & REBASE_BYTES, &arg.bytes_per_sec, error)
           && begin (call, &args->dom, args->disk, &arg, error);
}

gboolean serve_block_commit (Call *call, GError **error)
{
    const rpc_block_commit_args *args = call->args;
    bak_block_args arg = { .type = BLOCK_COMMIT,
                           .base = text_of (args->base),
                           .top = text_of (args->top),
                           .flags = args->flags & COMMIT_TO_DRIVER };
    return call_check_flags (call, args->flags, COMMIT_KNOWN, error)
           && check_speed (args->bandwidth, args->flags & COMMIT_BYTES, &arg.bytes_per_sec, error)
           && begin (call, &args->dom, args->disk, &arg, error);
}

/* FALSE: not one that is known, or of another type. */
static gboolean take_tuning (const rpc_param *param, bak_block_args *arg)
{
    const rpc_value *value = &param->value;
    if (g_str_equal (param->field, "bandwidth") && value->kind == 4)
        arg->bytes_per_sec = value->rpc_value_u.ul;
    else if (g_str_equal (param->field, "granularity") && value->kind == 2)
        arg->granularity = value->rpc_value_u.u;
    else if (g_str_equal (param->field, "buf-size") && value->kind == 4)
        arg->buf_size = value->rpc_value_u.ul;
    else
        return FALSE;
    return TRUE;
}

gboolean serve_block_copy (Call *call, GError **error)
{
    const rpc_block_copy_args *args = call->args;
    g_auto (CopyDef) dest = { 0 };
    bak_block_args arg = { .type = BLOCK_COPY,
                           .flags = (args->flags & COPY_SHALLOW ? BLOCK_SHALLOW : 0)
                                    | (args->flags & COPY_REUSE ? BLOCK_REUSE_EXTERNAL : 0)
                                    | (args->flags & COPY_SYNC_WRITES ? BLOCK_SYNC_WRITES : 0) };
    if (!call_check_flags (call, args->flags,
                           COPY_SHALLOW | COPY_REUSE | COPY_TRANSIENT | COPY_SYNC_WRITES, error))
        return FALSE;
    for (guint i = 0; i < args->params.params_len; i++)
        if (!take_tuning (&args->params.params_val[i], &arg))
            return rpc_error_set (error, RPC_ERROR_INVALID_ARG,
                                  "invalid argument: parameter '%s' not supported",
                                  args->params.params_val[i].field);
    if (arg.bytes_per_sec > (uint64_t) G_MAXINT64)
        return rpc_error_set (error, RPC_ERROR_INVALID_ARG,
                              "invalid argument: bandwidth is too large");
    if (!copy_def_parse (args->dest, &dest, error))
        return FALSE;
    arg.dest = dest.path;
    arg.format = dest.format;
    arg.flags |= dest.is_block ? BLOCK_COPY_DEV : 0;
    return begin (call, &args->dom, args->disk, &arg, error);
}
