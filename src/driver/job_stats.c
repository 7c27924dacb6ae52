#include "driver/job_stats.h"

int job_stats_type (const bak_job *job, gboolean completed)
{
    switch (job->state) {
    case JOB_STATE_PREPARING:
    case JOB_STATE_RUNNING:
    case JOB_STATE_READY:
    case JOB_STATE_STOPPING: return completed ? JOB_TYPE_NONE : JOB_TYPE_UNBOUNDED;
    case JOB_STATE_COMPLETED: return completed ? JOB_TYPE_COMPLETED : JOB_TYPE_NONE;
    case JOB_STATE_FAILED: return completed ? JOB_TYPE_FAILED : JOB_TYPE_NONE;
    case JOB_STATE_ABORTED: return completed ? JOB_TYPE_CANCELLED : JOB_TYPE_NONE;
    default: return JOB_TYPE_NONE;
    }
}

guint64 job_bytes (const bak_job *job)
{
    guint64 sum = 0;
    for (guint i = 0; i < job->disks.disks_len; i++)
        sum += job->disks.disks_val[i].bytes;
    return sum;
}

guint64 job_total (const bak_job *job)
{
    guint64 sum = 0;
    for (guint i = 0; i < job->disks.disks_len; i++)
        sum += job->disks.disks_val[i].total;
    return sum;
}

guint job_stats_rows (const bak_job *job, JobStat rows[JOB_STATS_MAX])
{
    guint n = 0;
    guint64 bytes = job_bytes (job), total = job_total (job);

    rows[n++] = (JobStat){ "operation", JOB_STAT_INT, JOB_OPERATION_BACKUP, NULL };
    rows[n++] = (JobStat){ "time_elapsed", JOB_STAT_ULLONG, job->elapsed / 1000, NULL };
    if (job->mode == JOB_MODE_PUSH && total > 0) {
        rows[n++] = (JobStat){ "disk_total", JOB_STAT_ULLONG, total, NULL };
        rows[n++] = (JobStat){ "disk_processed", JOB_STAT_ULLONG, MIN (bytes, total), NULL };
        rows[n++] =
            (JobStat){ "disk_remaining", JOB_STAT_ULLONG, total - MIN (bytes, total), NULL };
    }
    if (job->mode == JOB_MODE_PULL && job->temp_total > 0) {
        rows[n++] = (JobStat){ "disk_temp_used", JOB_STAT_ULLONG, job->temp_used, NULL };
        rows[n++] = (JobStat){ "disk_temp_total", JOB_STAT_ULLONG, job->temp_total, NULL };
    }
    if (job_state_ended (job->state))
        rows[n++] =
            (JobStat){ "success", JOB_STAT_BOOLEAN, job->state == JOB_STATE_COMPLETED, NULL };
    if (*job->error)
        rows[n++] = (JobStat){ "errmsg", JOB_STAT_STRING, 0, job->error };
    return n;
}
