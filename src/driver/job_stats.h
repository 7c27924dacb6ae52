/* A job in the words of libvirt's job statistics: for the public call and for the wire of stock
 * clients alike. */
#pragma once
#include "driver/driver.h"

/* libvirt's numbers */
enum {
    JOB_TYPE_NONE,
    JOB_TYPE_BOUNDED,
    JOB_TYPE_UNBOUNDED,
    JOB_TYPE_COMPLETED,
    JOB_TYPE_FAILED,
    JOB_TYPE_CANCELLED
};
enum { JOB_OPERATION_BACKUP = 9 };

/* virTypedParameterType */
typedef enum {
    JOB_STAT_INT = 1,
    JOB_STAT_ULLONG = 4,
    JOB_STAT_BOOLEAN = 6,
    JOB_STAT_STRING = 7
} JobStatKind;

typedef struct {
    const char *field; /* "operation", "time_elapsed", ... */
    JobStatKind kind;
    guint64 number;   /* of all kinds but STRING */
    const char *text; /* borrowed from the job */
} JobStat;

#define JOB_STATS_MAX 9

/* What libvirt calls the state of this job; completed: the caller asked for the statistics of an
 * ended one. */
int job_stats_type (const bak_job *job, gboolean completed);
/* The parameters that libvirt sets for a backup and no others; returns how many. */
guint job_stats_rows (const bak_job *job, JobStat rows[JOB_STATS_MAX]);
/* Sums over the disks. */
guint64 job_bytes (const bak_job *job);
guint64 job_total (const bak_job *job);
