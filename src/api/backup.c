#include <string.h>
#include "api/api.h"
#include "driver/job_stats.h"
#include "util/passed.h"

enum {
    BEGIN_FLAGS = BAK_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL
                  | BAK_DOMAIN_BACKUP_BEGIN_PRESERVE_SHUTDOWN_DOMAIN
                  | BAK_DOMAIN_BACKUP_BEGIN_QUIESCE | BAK_DOMAIN_BACKUP_BEGIN_ALLOW_UNPROVED
};

/* begin */

/* What the options say, checked; borrowed from them. */
static gboolean begin_args (BakDomain *domain, const BakBackupOptions *options,
                            const char *function, bak_begin_args *ret, BakError **error)
{
    if (!api_check_size (options->size, sizeof *options, function, error)
        || !api_check_text (options->backup_xml, BAK_TEXT_MAX, "backup_xml", function, error)
        || !api_check_text (options->checkpoint_xml, BAK_TEXT_MAX, "checkpoint_xml", function,
                            error))
        return FALSE;
    if (!options->backup_xml)
        return api_refuse_null ("backup_xml", function, error), FALSE;
    if (options->checkpoint_xml && !*options->checkpoint_xml) {
        api_set_error (error, BAK_ERROR_XML,
                       _("line 1: not XML: the document is empty; expected <%s>"),
                       "domaincheckpoint");
        return FALSE;
    }
    if (options->flags & ~(unsigned int) BEGIN_FLAGS)
        return api_refuse_flags (options->flags & ~(unsigned int) BEGIN_FLAGS, function, error),
               FALSE;
    *ret = (bak_begin_args){
        .domain = domain->name,
        .backup_xml = (char *) options->backup_xml,
        .checkpoint_xml = api_text (options->checkpoint_xml),
        .flags = options->flags,
        .timeout = options->timeout,
    };
    return TRUE;
}

char *bak_domain_backup_begin_options (BakDomain *domain, const BakBackupOptions *options,
                                       BakError **error)
{
    bak_begin_args args;
    API_NOT_NULL (domain, error, NULL);
    API_NOT_NULL (options, error, NULL);
    if (!begin_args (domain, options, __func__, &args, error))
        return NULL;
    g_autoptr (Result) result = result_call (domain->conn, CALL_ID_backup_begin, &args, error);
    return result ? g_steal_pointer (&((bak_begin_ret *) result->ret)->job) : NULL;
}

int bak_domain_backup_begin (BakDomain *domain, const char *backup_xml, const char *checkpoint_xml,
                             unsigned int flags, BakError **error)
{
    bak_begin_args args;
    API_NOT_NULL (domain, error, -1);
    BakBackupOptions options = { .size = sizeof options,
                                 .backup_xml = backup_xml,
                                 .checkpoint_xml = checkpoint_xml,
                                 .flags = flags };
    if (!begin_args (domain, &options, __func__, &args, error))
        return -1;
    g_autoptr (Result) result = result_call (domain->conn, CALL_ID_backup_begin, &args, error);
    return result ? 0 : -1;
}

int bak_domain_fd_associate (BakDomain *domain, const char *name, unsigned int n_fds,
                             const int *fds, unsigned int flags, BakError **error)
{
    API_NOT_NULL (domain, error, -1);
    API_NOT_NULL (name, error, -1);
    API_TEXT (name, BAK_NAME_MAX, error, -1);
    API_FLAGS (flags, 0, error, -1);
    if (n_fds > 0)
        API_NOT_NULL (fds, error, -1);
    g_autoptr (GError) fault = NULL;
    if (!passed_check (name, fds, n_fds, &fault))
        return api_set_error (error, error_code (fault), "%s", fault->message), -1;
    bak_fds_args args = { .domain = domain->name,
                          .name = (char *) name,
                          .fds = { .fds_len = n_fds, .fds_val = (int *) fds } };
    g_autoptr (Result) result = result_call (domain->conn, CALL_ID_fd_associate, &args, error);
    return result ? 0 : -1;
}

char *bak_domain_backup_plan (BakDomain *domain, const BakBackupOptions *options, BakError **error)
{
    bak_begin_args args;
    API_NOT_NULL (domain, error, NULL);
    API_NOT_NULL (options, error, NULL);
    return begin_args (domain, options, __func__, &args, error)
               ? api_call_text (domain->conn, CALL_ID_backup_plan, &args, error)
               : NULL;
}

/* one job */

static BakJob *call_for_job (BakDomain *domain, CallId id, const void *args, BakError **error)
{
    g_autoptr (Result) result = result_call (domain->conn, id, args, error);
    return result ? snapshot_new (result, &((bak_job_ret *) result->ret)->job) : NULL;
}

BakJob *bak_domain_backup_stop (BakDomain *domain, const char *job, unsigned int flags,
                                BakError **error)
{
    API_NOT_NULL (domain, error, NULL);
    API_TEXT (job, BAK_NAME_MAX, error, NULL);
    API_FLAGS (flags, BAK_DOMAIN_BACKUP_STOP_ABORT, error, NULL);
    bak_stop_args args = { .domain = domain->name, .job = api_text (job), .flags = flags };
    return call_for_job (domain, CALL_ID_backup_stop, &args, error);
}

BakJob *bak_domain_backup_info (BakDomain *domain, const char *job, unsigned int flags,
                                BakError **error)
{
    API_NOT_NULL (domain, error, NULL);
    API_TEXT (job, BAK_NAME_MAX, error, NULL);
    API_FLAGS (flags, 0, error, NULL);
    bak_job_arg args = { .domain = domain->name, .job = api_text (job) };
    return call_for_job (domain, CALL_ID_backup_info, &args, error);
}

BakJob *bak_domain_backup_wait (BakDomain *domain, const char *job, unsigned long long timeout,
                                BakError **error)
{
    API_NOT_NULL (domain, error, NULL);
    API_TEXT (job, BAK_NAME_MAX, error, NULL);
    bak_wait_args args = { .domain = domain->name, .job = api_text (job), .timeout = timeout };
    return call_for_job (domain, CALL_ID_backup_wait, &args, error);
}

int bak_domain_backup_list (BakDomain *domain, BakJob ***jobs, unsigned int flags, BakError **error)
{
    API_NOT_NULL (domain, error, -1);
    API_FLAGS (flags, 0, error, -1);
    bak_domain_arg args = { .domain = domain->name };
    Result *result = result_call (domain->conn, CALL_ID_backup_list, &args, error);
    if (!result)
        return -1;
    bak_jobs_ret *ret = result->ret;
    return snapshot_list (result, ret->jobs.jobs_val, ret->jobs.jobs_len, sizeof (bak_job), jobs);
}

int bak_connection_backup_list (BakConnection *conn, BakJob ***jobs, unsigned int flags,
                                BakError **error)
{
    API_NOT_NULL (conn, error, -1);
    API_FLAGS (flags, 0, error, -1);
    bak_none args = { 0 };
    Result *result = result_call (conn, CALL_ID_backup_running, &args, error);
    if (!result)
        return -1;
    bak_jobs_ret *ret = result->ret;
    return snapshot_list (result, ret->jobs.jobs_val, ret->jobs.jobs_len, sizeof (bak_job), jobs);
}

static char *call_for_xml (BakDomain *domain, const char *job, BakError **error)
{
    bak_job_arg args = { .domain = domain->name, .job = api_text (job) };
    return api_call_text (domain->conn, CALL_ID_backup_xml, &args, error);
}

char *bak_domain_backup_get_xml_desc (BakDomain *domain, unsigned int flags, BakError **error)
{
    API_NOT_NULL (domain, error, NULL);
    API_FLAGS (flags, 0, error, NULL);
    return call_for_xml (domain, NULL, error);
}

char *bak_domain_backup_job_get_xml_desc (BakDomain *domain, const char *job, unsigned int flags,
                                          BakError **error)
{
    API_NOT_NULL (domain, error, NULL);
    API_NOT_NULL (job, error, NULL);
    API_TEXT (job, BAK_NAME_MAX, error, NULL);
    API_FLAGS (flags, 0, error, NULL);
    return call_for_xml (domain, job, error);
}

int bak_domain_backup_limit (BakDomain *domain, const char *disk, unsigned long long bytes_per_sec,
                             BakError **error)
{
    API_NOT_NULL (domain, error, -1);
    API_TEXT (disk, BAK_PATH_MAX, error, -1);
    bak_limit_args args = { .domain = domain->name,
                            .disk = api_text (disk),
                            .bytes_per_sec = bytes_per_sec };
    return api_call (domain->conn, CALL_ID_backup_limit, &args, error);
}

/* libvirt's view of it */

Result *api_job_stats (BakDomain *domain, unsigned int flags, gboolean *ret_none, BakError **error)
{
    bak_job_arg args = { .domain = domain->name, .job = api_text (NULL), .flags = flags };
    BakError *why = NULL;
    Result *result = result_call (domain->conn, CALL_ID_job_stats, &args, &why);

    *ret_none = !result && bak_error_get_code (why) == BAK_ERROR_NO_JOB;
    if (result || *ret_none || !error)
        bak_error_unref (why);
    else
        *error = why;
    return result;
}

int bak_domain_get_job_info (BakDomain *domain, BakDomainJobInfo *info, BakError **error)
{
    API_NOT_NULL (domain, error, -1);
    API_NOT_NULL (info, error, -1);
    gboolean none;
    g_autoptr (Result) result = api_job_stats (domain, 0, &none, error);
    if (!result && !none)
        return -1;
    memset (info, 0, sizeof *info);
    if (!result)
        return 0;
    const bak_job *job = &((bak_job_ret *) result->ret)->job;
    info->type = job_stats_type (job, FALSE);
    if (info->type == JOB_TYPE_NONE)
        return 0;
    info->time_elapsed = job->elapsed / 1000;
    if (job->mode == JOB_MODE_PUSH) {
        info->file_total = info->data_total = job_total (job);
        info->file_processed = info->data_processed = MIN (job_bytes (job), info->file_total);
        info->file_remaining = info->data_remaining = info->file_total - info->file_processed;
    }
    return 0;
}

static void param_set (BakTypedParameter *param, const JobStat *stat)
{
    g_strlcpy (param->field, stat->field, sizeof param->field);
    param->type = (int) stat->kind;
    switch (stat->kind) {
    case JOB_STAT_INT: param->value.i = stat->number; break;
    case JOB_STAT_ULLONG: param->value.ul = stat->number; break;
    case JOB_STAT_BOOLEAN: param->value.b = stat->number != 0; break;
    case JOB_STAT_STRING: param->value.s = g_strdup (stat->text); break;
    }
}

int bak_domain_get_job_stats (BakDomain *domain, int *type, BakTypedParameter **params,
                              int *n_params, unsigned int flags, BakError **error)
{
    API_NOT_NULL (domain, error, -1);
    API_NOT_NULL (type, error, -1);
    API_NOT_NULL (params, error, -1);
    API_NOT_NULL (n_params, error, -1);
    API_FLAGS (flags, BAK_DOMAIN_JOB_STATS_COMPLETED | BAK_DOMAIN_JOB_STATS_KEEP_COMPLETED, error,
               -1);
    if (flags == BAK_DOMAIN_JOB_STATS_KEEP_COMPLETED) {
        api_set_error (error, BAK_ERROR_INVALID_ARGUMENT, _("flag %s is required by flag %s"),
                       "COMPLETED", "KEEP_COMPLETED");
        return -1;
    }
    gboolean none;
    g_autoptr (Result) result = api_job_stats (domain, flags, &none, error);
    if (!result && !none)
        return -1;
    const bak_job *job = result ? &((bak_job_ret *) result->ret)->job : NULL;
    JobStat rows[JOB_STATS_MAX];
    *type = job ? job_stats_type (job, flags & BAK_DOMAIN_JOB_STATS_COMPLETED) : JOB_TYPE_NONE;
    *n_params = *type == JOB_TYPE_NONE ? 0 : job_stats_rows (job, rows);
    *params = g_new0 (BakTypedParameter, *n_params);
    for (int i = 0; i < *n_params; i++)
        param_set (&(*params)[i], &rows[i]);
    return 0;
}

void bak_typed_params_free (BakTypedParameter *params, int n_params)
{
    for (int i = 0; params && i < n_params; i++)
        if (params[i].type == BAK_TYPED_PARAM_STRING)
            g_free (params[i].value.s);
    g_free (params);
}

BakTypedParameter *bak_typed_params_get (BakTypedParameter *params, int n_params, const char *name)
{
    for (int i = 0; params && name && i < n_params; i++)
        if (g_str_equal (params[i].field, name))
            return &params[i];
    return NULL;
}

int bak_domain_abort_job_flags (BakDomain *domain, unsigned int flags, BakError **error)
{
    API_NOT_NULL (domain, error, -1);
    API_FLAGS (flags, 0, error, -1);
    bak_domain_arg args = { .domain = domain->name };
    return api_call (domain->conn, CALL_ID_job_abort, &args, error);
}

int bak_domain_abort_job (BakDomain *domain, BakError **error)
{
    API_NOT_NULL (domain, error, -1);
    return bak_domain_abort_job_flags (domain, 0, error);
}

/* accessors */

HANDLE (BakJob, job, snapshot_free)
GET_TEXT (bak_job_get_id, BakJob, id)
GET_TEXT (bak_job_get_domain, BakJob, domain)
GET_NUMBER (BakJobMode, bak_job_get_mode, BakJob, mode)
GET_NUMBER (BakJobState, bak_job_get_state, BakJob, state)
GET_NUMBER (long long, bak_job_get_started, BakJob, started)
GET_NUMBER (long long, bak_job_get_ended, BakJob, ended)
GET_NUMBER (unsigned long long, bak_job_get_elapsed, BakJob, elapsed)
GET_TEXT (bak_job_get_error, BakJob, error)
GET_NUMBER (BakErrorCode, bak_job_get_error_code, BakJob, error_code)
GET_NUMBER (int, bak_job_is_partial, BakJob, partial)
GET_TEXT (bak_job_get_checkpoint, BakJob, checkpoint)
GET_TEXT (bak_job_get_server, BakJob, server)
GET_TEXT (bak_job_get_consistency, BakJob, consistency)
GET_NUMBER (unsigned long long, bak_job_get_frozen_time, BakJob, frozen)
GET_NUMBER (unsigned long long, bak_job_get_held_time, BakJob, held)
GET_NUMBER (unsigned long long, bak_job_get_temp_used, BakJob, temp_used)
GET_NUMBER (unsigned long long, bak_job_get_temp_total, BakJob, temp_total)
GET_NUMBER (int, bak_job_is_acknowledged, BakJob, acknowledged)
GET_TEXT (bak_job_get_owner, BakJob, owner)
GET_NUMBER (unsigned int, bak_job_get_n_notes, BakJob, notes.notes_len)
GET_ITEM (bak_job_get_note, BakJob, notes)
GET_NUMBER (unsigned int, bak_job_get_n_disks, BakJob, disks.disks_len)

int bak_job_has_ended (const BakJob *job)
{
    return job && job_state_ended (job->data->state);
}

unsigned long long bak_job_get_bytes (const BakJob *job)
{
    return job ? job_bytes (job->data) : 0;
}

unsigned long long bak_job_get_total (const BakJob *job)
{
    return job ? job_total (job->data) : 0;
}

/* A BakJobDisk is the row of the record itself. */
const BakJobDisk *bak_job_get_disk (const BakJob *job, unsigned int index)
{
    return job && index < job->data->disks.disks_len
               ? (const BakJobDisk *) &job->data->disks.disks_val[index]
               : NULL;
}

/* The address of the server with the name of the export as its path. */
char *bak_job_get_export_uri (const BakJob *job, unsigned int index)
{
    const char *name = bak_job_disk_get_export_name (bak_job_get_disk (job, index)),
               *server = bak_job_get_server (job);
    g_autoptr (GUri) uri = name && server ? g_uri_parse (server, G_URI_FLAGS_ENCODED, NULL) : NULL;
    if (!uri)
        return NULL;
    g_autofree char *escaped = g_uri_escape_string (name, NULL, FALSE);
    g_autofree char *path = g_strdup_printf ("/%s", escaped);
    return g_uri_join (G_URI_FLAGS_ENCODED, g_uri_get_scheme (uri), g_uri_get_userinfo (uri),
                       g_uri_get_host (uri), g_uri_get_port (uri), path, g_uri_get_query (uri),
                       NULL);
}

#define DISK_TEXT(function, field)                                                                 \
    const char *function (const BakJobDisk *disk)                                                  \
    {                                                                                              \
        return disk ? api_absent_is_null (((const bak_job_disk *) disk)->field) : NULL;            \
    }
#define DISK_NUMBER(type, function, field)                                                         \
    type function (const BakJobDisk *disk)                                                         \
    {                                                                                              \
        return disk ? (type) ((const bak_job_disk *) disk)->field : 0;                             \
    }

DISK_TEXT (bak_job_disk_get_target, target)
DISK_NUMBER (BakJobState, bak_job_disk_get_state, state)
DISK_TEXT (bak_job_disk_get_type, type)
DISK_TEXT (bak_job_disk_get_reason, reason)
DISK_NUMBER (unsigned long long, bak_job_disk_get_bytes, bytes)
DISK_NUMBER (unsigned long long, bak_job_disk_get_total, total)
DISK_TEXT (bak_job_disk_get_error, error)
DISK_TEXT (bak_job_disk_get_path, path)
DISK_TEXT (bak_job_disk_get_scratch, scratch)
DISK_TEXT (bak_job_disk_get_format, format)
DISK_TEXT (bak_job_disk_get_export_name, export_name)
DISK_TEXT (bak_job_disk_get_bitmap, bitmap)
DISK_TEXT (bak_job_disk_get_since, since)
DISK_NUMBER (unsigned long long, bak_job_disk_get_limit, limit)
DISK_TEXT (bak_job_disk_get_protection, protection)

const char *bak_job_state_to_string (BakJobState state)
{
    return job_state_to_string (state);
}
