/* libvirt's program: the job of a guest. */
#include <rpc/rpc.h>
#include "remote/table.h"

enum { ABORT_POSTCOPY = 1 };
enum { OPERATION_BACKUP = 9 };

void rpc_param_int (rpc_param *param, const char *field, int value)
{
    *param = (rpc_param) { .field = ret_string (field), .value = { .kind = 1, .rpc_value_u.i = value } };
}

void rpc_param_bool (rpc_param *param, const char *field, gboolean value)
{
    *param = (rpc_param) { .field = ret_string (field), .value = { .kind = 6, .rpc_value_u.b = value != 0 } };
}

void rpc_param_hyper (rpc_param *param, const char *field, guint64 value)
{
    *param = (rpc_param) { .field = ret_string (field), .value = { .kind = 4, .rpc_value_u.ul = value } };
}

void rpc_param_text (rpc_param *param, const char *field, const char *value)
{
    *param = (rpc_param) { .field = ret_string (field), .value = { .kind = 7, .rpc_value_u.s = ret_string (value) } };
}

typedef struct { guint64 total, done; } Sum;

static Sum sum_disks (const bak_job *job)
{
    Sum sum = { 0 };
    for (guint i = 0; i < job->disks.disks_len; i++) {
        sum.total += job->disks.disks_val[i].total;
        sum.done += MIN (job->disks.disks_val[i].bytes, job->disks.disks_val[i].total);
    }
    return sum;
}

static int job_type (const bak_job *job)
{
    switch (job->state) {
    case JOB_STATE_NONE: return RPC_JOB_NONE;
    case JOB_STATE_COMPLETED: return RPC_JOB_COMPLETED;
    case JOB_STATE_FAILED: return RPC_JOB_FAILED;
    case JOB_STATE_ABORTED: return RPC_JOB_CANCELLED;
    default: return RPC_JOB_UNBOUNDED;          /* libvirt never tells a backup's end */
    }
}

/* Which parameters stand there and in which order is what libvirt's clients are used to. */
int job_to_params (const bak_job *job, rpc_param *ret_params, guint *ret_count)
{
    guint n = 0;
    Sum sum = sum_disks (job);
    rpc_param_int (&ret_params[n++], "operation", OPERATION_BACKUP);
    rpc_param_hyper (&ret_params[n++], "time_elapsed", job->elapsed / 1000);
    if (job->mode == JOB_MODE_PUSH && sum.total > 0) {
        rpc_param_hyper (&ret_params[n++], "disk_total", sum.total);
        rpc_param_hyper (&ret_params[n++], "disk_processed", sum.done);
        rpc_param_hyper (&ret_params[n++], "disk_remaining", sum.total - sum.done);
    }
    if (job->mode == JOB_MODE_PULL && job->temp_total > 0) {
        rpc_param_hyper (&ret_params[n++], "disk_temp_used", job->temp_used);
        rpc_param_hyper (&ret_params[n++], "disk_temp_total", job->temp_total);
    }
    if (job_state_ended (job->state)) {
        rpc_param_bool (&ret_params[n++], "success", job->state == JOB_STATE_COMPLETED);
        if (*job->error)
            rpc_param_text (&ret_params[n++], "errmsg", job->error);
    }
    *ret_count = n;
    return job_type (job);
}

gboolean serve_job_begin (Call *call, GError **error)
{
    const rpc_begin_args *args = call->args;
    g_auto (Target) target = { 0 };
    bak_begin_ret ret = { 0 };
    if (!call_check_flags (call, args->flags, BEGIN_REUSE_EXTERNAL | BEGIN_PRESERVE_SHUTDOWN, error) ||
        !call_target (call, &args->dom, &target, error))
        return FALSE;
    bak_begin_args begin = { .domain = target.name, .backup_xml = args->backup, .flags = args->flags,
                             .checkpoint_xml = args->checkpoint ? *args->checkpoint : (char *) "" };
    g_autoptr (GError) why = NULL;
    if (!call_backup_begin (target.conn, &begin, &ret, &why)) {
        if (g_error_matches (why, BAK_ERROR, BAK_ERROR_EXISTS))
            return rpc_error_set (error, RPC_ERROR_INVALID_ARG, "invalid argument: %s", why->message);
        g_propagate_error (error, g_steal_pointer (&why));
        return FALSE;
    }
    call_clear_ret (CALL_ID_backup_begin, &ret);
    return TRUE;
}

gboolean serve_job_xml (Call *call, GError **error)
{
    const rpc_dom_flags *args = call->args;
    g_auto (Target) target = { 0 };
    bak_text_ret xml = { 0 };
    if (!call_check_flags (call, args->flags, 0, error) || !call_target (call, &args->dom, &target, error))
        return FALSE;
    bak_job_arg arg = { .domain = target.name, .job = (char *) "" };
    g_autoptr (GError) why = NULL;
    if (!call_backup_xml (target.conn, &arg, &xml, &why)) {
        if (g_error_matches (why, BAK_ERROR, BAK_ERROR_NO_JOB))
            return error_set (error, BAK_ERROR_NO_JOB, "no domain backup job present");
        g_propagate_error (error, g_steal_pointer (&why));
        return FALSE;
    }
    ((rpc_string *) call->ret)->text = xml.text;
    return TRUE;
}

/* No job is a type of its own here, not an error. */
static gboolean get_stats (const Target *target, guint flags, bak_job_ret *ret, GError **error)
{
    g_autoptr (GError) why = NULL;
    bak_job_arg arg = { .domain = target->name, .job = (char *) "", .flags = flags };
    if (call_job_stats (target->conn, &arg, ret, &why) || g_error_matches (why, BAK_ERROR, BAK_ERROR_NO_JOB))
        return TRUE;
    g_propagate_error (error, g_steal_pointer (&why));
    return FALSE;
}

gboolean serve_job_get_stats (Call *call, GError **error)
{
    const rpc_dom_flags *args = call->args;
    rpc_job_stats_ret *ret = call->ret;
    g_auto (Target) target = { 0 };
    bak_job_ret job = { 0 };
    if (!call_check_flags (call, args->flags, STATS_COMPLETED | STATS_KEEP_COMPLETED, error) ||
        !call_target (call, &args->dom, &target, error) || !get_stats (&target, args->flags, &job, error))
        return FALSE;
    if (job.job.state != JOB_STATE_NONE) {
        ret->params.params_val = ret_array (RPC_PARAMS_MAX, sizeof (rpc_param));
        ret->type = job_to_params (&job.job, ret->params.params_val, &ret->params.params_len);
    }
    call_clear_ret (CALL_ID_job_stats, &job);
    return TRUE;
}

gboolean serve_job_get_info (Call *call, GError **error)
{
    rpc_job_info_ret *ret = call->ret;
    g_auto (Target) target = { 0 };
    bak_job_ret job = { 0 };
    if (!call_target (call, &((rpc_dom *) call->args)->dom, &target, error) || !get_stats (&target, 0, &job, error))
        return FALSE;
    ret->type = job_type (&job.job);
    if (ret->type != RPC_JOB_NONE)
        ret->elapsed = job.job.elapsed / 1000;
    if (ret->type != RPC_JOB_NONE && job.job.mode == JOB_MODE_PUSH) {
        Sum sum = sum_disks (&job.job);
        ret->data_total = ret->file_total = sum.total;
        ret->data_processed = ret->file_processed = sum.done;
        ret->data_remaining = ret->file_remaining = sum.total - sum.done;
    }
    call_clear_ret (CALL_ID_job_stats, &job);
    return TRUE;
}

static gboolean abort_job (Call *call, const rpc_domain *dom, GError **error)
{
    g_auto (Target) target = { 0 };
    g_autoptr (GError) why = NULL;
    bak_none none = { 0 };
    if (!call_target (call, dom, &target, error))
        return FALSE;
    bak_domain_arg arg = { .domain = target.name };
    if (call_job_abort (target.conn, &arg, &none, &why))
        return TRUE;
    if (g_error_matches (why, BAK_ERROR, BAK_ERROR_NO_JOB))
        return rpc_error_set (error, RPC_ERROR_INVALID, "Requested operation is not valid: no job is active on the domain");
    g_propagate_error (error, g_steal_pointer (&why));
    return FALSE;
}

gboolean serve_job_abort (Call *call, GError **error)
{
    return abort_job (call, &((rpc_dom *) call->args)->dom, error);
}

gboolean serve_job_abort_flags (Call *call, GError **error)
{
    const rpc_dom_flags *args = call->args;
    if (args->flags & ABORT_POSTCOPY)
        return rpc_error_set (error, RPC_ERROR_INVALID, "Requested operation is not valid: current job is not outgoing migration in post-copy mode");
    return call_check_flags (call, args->flags, 0, error) && abort_job (call, &args->dom, error);
}
