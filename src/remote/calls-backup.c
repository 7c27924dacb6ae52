/* libvirt's program: the job of a guest. */
#include <rpc/rpc.h>
#include "remote/table.h"

enum { ABORT_POSTCOPY = 1 };

static void rpc_param_set (rpc_param *param, const JobStat *stat)
{
    *param = (rpc_param){ .field = ret_string (stat->field), .value = { .kind = stat->kind } };
    switch (stat->kind) {
    case JOB_STAT_INT: param->value.rpc_value_u.i = stat->number; break;
    case JOB_STAT_ULLONG: param->value.rpc_value_u.ul = stat->number; break;
    case JOB_STAT_BOOLEAN: param->value.rpc_value_u.b = stat->number != 0; break;
    case JOB_STAT_STRING: param->value.rpc_value_u.s = ret_string (stat->text); break;
    }
}

int job_to_params (const bak_job *job, rpc_param *ret_params, guint *ret_count)
{
    JobStat rows[JOB_STATS_MAX];
    *ret_count = job_stats_rows (job, rows);
    for (guint i = 0; i < *ret_count; i++)
        rpc_param_set (&ret_params[i], &rows[i]);
    return job_stats_type (job, job_state_ended (job->state));
}

gboolean serve_job_begin (Call *call, GError **error)
{
    const rpc_begin_args *args = call->args;
    g_auto (Target) target = { 0 };
    bak_begin_ret ret = { 0 };
    if (!call_check_flags (call, args->flags, BEGIN_REUSE_EXTERNAL | BEGIN_PRESERVE_SHUTDOWN, error)
        || !call_target (call, &args->dom, &target, error))
        return FALSE;
    if (args->checkpoint && !**args->checkpoint)
        return error_set (error, BAK_ERROR_XML,
                          _("line 1: not XML: the document is empty; expected <%s>"),
                          "domaincheckpoint");
    bak_begin_args begin = { .domain = target.name,
                             .backup_xml = args->backup,
                             .flags = args->flags,
                             .checkpoint_xml = args->checkpoint ? *args->checkpoint : (char *) "" };
    g_autoptr (GError) why = NULL;
    if (!call_backup_begin (target.conn, &begin, &ret, &why)) {
        if (g_error_matches (why, BAK_ERROR, BAK_ERROR_EXISTS))
            return rpc_error_set (error, RPC_ERROR_INVALID_ARG, "invalid argument: %s",
                                  why->message);
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
    if (!call_check_flags (call, args->flags, 0, error)
        || !call_target (call, &args->dom, &target, error))
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
    if (call_job_stats (target->conn, &arg, ret, &why)
        || g_error_matches (why, BAK_ERROR, BAK_ERROR_NO_JOB))
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
    if (!call_check_flags (call, args->flags, STATS_COMPLETED | STATS_KEEP_COMPLETED, error)
        || !call_target (call, &args->dom, &target, error)
        || !get_stats (&target, args->flags, &job, error))
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
    if (!call_target (call, &((rpc_dom *) call->args)->dom, &target, error)
        || !get_stats (&target, 0, &job, error))
        return FALSE;
    ret->type = job_stats_type (&job.job, job_state_ended (job.job.state));
    if (ret->type != JOB_TYPE_NONE)
        ret->elapsed = job.job.elapsed / 1000;
    if (ret->type != JOB_TYPE_NONE && job.job.mode == JOB_MODE_PUSH) {
        ret->data_total = ret->file_total = job_total (&job.job);
        ret->data_processed = ret->file_processed = MIN (job_bytes (&job.job), ret->data_total);
        ret->data_remaining = ret->file_remaining = ret->data_total - ret->data_processed;
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
        return rpc_error_set (error, RPC_ERROR_INVALID,
                              "Requested operation is not valid: no job is active on the domain");
    g_propagate_error (error, g_steal_pointer (&why));
    return FALSE;
}

/* Its descriptors are the label's of a guest, which we leave as they are. */
gboolean serve_fd_associate (Call *call, GError **error)
{
    const rpc_dom_text_flags *args = call->args;
    g_auto (Target) target = { 0 };
    return call_check_flags (call, args->flags, 0, error)
           && call_target (call, &args->dom, &target, error)
           && passed_put (call->peer->passed, target.name, args->text, call->fds, call->n_fds,
                          error);
}

gboolean serve_job_abort (Call *call, GError **error)
{
    return abort_job (call, &((rpc_dom *) call->args)->dom, error);
}

gboolean serve_job_abort_flags (Call *call, GError **error)
{
    const rpc_dom_flags *args = call->args;
    if (args->flags & ABORT_POSTCOPY)
        return rpc_error_set (error, RPC_ERROR_INVALID,
                              "Requested operation is not valid: current job is not outgoing "
                              "migration in post-copy mode");
    return call_check_flags (call, args->flags, 0, error) && abort_job (call, &args->dom, error);
}
