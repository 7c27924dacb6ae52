/* A series of backups: its checkpoints are NAME.1, NAME.2 and so on, each backup is an increment on
 * the one before, and the first is full. */
#include <string.h>
#include "baksh.h"

/* The number of a checkpoint of the series; 0: it is none. */
static guint64 number_in (const char *series, const char *checkpoint)
{
    gsize length = strlen (series);
    guint64 number = 0;
    if (strncmp (checkpoint, series, length) == 0 && checkpoint[length] == '.'
        && g_ascii_string_to_unsigned (checkpoint + length + 1, 10, 1, G_MAXINT64, &number, NULL))
        return number;
    return 0;
}

char *series_newest (BakDomain *domain, const char *series, int *ret_status)
{
    BakError *error = NULL;
    BakCheckpoint **all = NULL;
    guint64 last = 0;
    if (bak_domain_list_all_checkpoints (domain, &all, 0, &error) < 0) {
        *ret_status = fail (error);
        return NULL;
    }
    for (guint i = 0; all[i]; i++)
        last = MAX (last, number_in (series, bak_domain_checkpoint_get_name (all[i])));
    LIST_FREE (all, bak_domain_checkpoint_unref);
    return last ? g_strdup_printf ("%s.%" G_GUINT64_FORMAT, series, last) : NULL;
}

/* The push that made this checkpoint; NULL: none is on record. */
static BakJob *job_of_checkpoint (BakDomain *domain, const char *checkpoint, int *ret_status)
{
    BakError *error = NULL;
    BakJob **jobs = NULL;
    g_autoptr (BakJob) found = NULL;
    if (bak_domain_backup_list (domain, &jobs, 0, &error) < 0) {
        *ret_status = fail (error);
        return NULL;
    }
    for (guint i = 0; jobs[i] && !found; i++)
        if (bak_job_get_state (jobs[i]) == BAK_JOB_COMPLETED
            && bak_job_get_mode (jobs[i]) == BAK_JOB_MODE_PUSH
            && g_strcmp0 (bak_job_get_checkpoint (jobs[i]), checkpoint) == 0)
            found = bak_job_ref (jobs[i]);
    LIST_FREE (jobs, bak_job_unref);
    return g_steal_pointer (&found);
}

GHashTable *series_files (BakDomain *domain, const char *checkpoint, int *ret_status)
{
    g_autoptr (BakJob) job = job_of_checkpoint (domain, checkpoint, ret_status);
    if (!job)
        return NULL;
    GHashTable *files = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
    for (guint i = 0; i < bak_job_get_n_disks (job); i++) {
        const BakJobDisk *disk = bak_job_get_disk (job, i);
        const char *path = bak_job_disk_get_path (disk);
        if (path && *path == '/')
            g_hash_table_insert (files, g_strdup (bak_job_disk_get_target (disk)), g_strdup (path));
    }
    return files;
}
