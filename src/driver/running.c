/* The backups that run now, of all guests: for every driver, from its own calls. */
#include <glib/gi18n-lib.h>
#include "driver/driver.h"
#include "util/error.h"

/* A guest that is being detached, or has no backup, is none of a list of backups. */
static gboolean is_nothing (const GError *failure)
{
    int code = error_code (failure);
    return code == BAK_ERROR_NO_JOB || code == BAK_ERROR_NO_DOMAIN;
}

static gboolean add_guest (DriverConn *conn, char *name, GArray *jobs, GError **error)
{
    bak_job_arg args = { .domain = name, .job = (char *) "" };
    bak_job_ret ret = { 0 };
    g_autoptr (GError) failure = NULL;

    if (!call_backup_info (conn, &args, &ret, &failure)) {
        if (is_nothing (failure))
            return TRUE;
        g_propagate_error (error, g_steal_pointer (&failure));
        return error_note (error, _("guest '%s'"), name);
    }
    if (job_state_ended (ret.job.state))
        bak_job_clear (&ret.job);
    else
        g_array_append_val (jobs, ret.job);
    if (jobs->len <= BAK_JOBS_MAX)
        return TRUE;
    return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                      _("more than %d backups run at once; ask guest by guest"), BAK_JOBS_MAX);
}

static void take_jobs (GArray *jobs, bak_jobs_ret *ret)
{
    ret->jobs.jobs_len = jobs->len;
    ret->jobs.jobs_val = ret_array (jobs->len, sizeof (bak_job));
    if (jobs->len)
        memcpy (ret->jobs.jobs_val, jobs->data, jobs->len * sizeof (bak_job));
    g_array_set_size (jobs, 0);
}

gboolean driver_running (DriverConn *conn, const bak_none *unused, bak_jobs_ret *ret,
                         GError **error)
{
    bak_list_args args = { 0 };
    bak_list_ret list = { 0 };

    if (!call_list (conn, &args, &list, error))
        return FALSE;
    g_autoptr (GArray) jobs = g_array_new (FALSE, FALSE, sizeof (bak_job));
    gboolean ok = TRUE;
    for (guint i = 0; ok && i < list.domains.domains_len; i++)
        ok = add_guest (conn, list.domains.domains_val[i].name, jobs, error);
    call_clear_ret (CALL_ID_list, &list);
    if (ok)
        take_jobs (jobs, ret);
    for (guint i = 0; i < jobs->len; i++)
        bak_job_clear (&g_array_index (jobs, bak_job, i));
    return ok;
}
