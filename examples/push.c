/* Pushes a full backup of all disks of a guest into a directory and shows how far it is.
 *
 *     cc push.c $(pkg-config --cflags --libs libbackup) -o push
 *     ./push qemu:///system web /srv/backup/web
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <libbackup/libbackup.h>

static int fail (const char *what, BakError *error)
{
    fprintf (stderr, "%s: %s\n", what, bak_error_get_message (error));
    bak_error_unref (error);
    return EXIT_FAILURE;
}

/* <domainbackup> with a target for each disk that a backup takes. The names of disks are plain
 * here; a program for any guest escapes what XML wants escaped. */
static char *describe (BakDomain *domain, const char *directory, BakError **error)
{
    static char xml[65536];
    BakDisk **disks;
    int length = snprintf (xml, sizeof xml, "<domainbackup>\n <disks>\n");

    if (bak_domain_list_disks (domain, &disks, 0, error) < 0)
        return NULL;
    for (int i = 0; disks[i]; i++) {
        const char *name = bak_disk_get_target (disks[i]);
        if (bak_disk_get_flags (disks[i]) & BAK_DISK_SELECTED)
            length +=
                snprintf (xml + length, sizeof xml - length,
                          "  <disk name='%s' type='file'><target file='%s/%s.qcow2'/></disk>\n",
                          name, directory, name);
        bak_disk_unref (disks[i]);
    }
    bak_free (disks);
    snprintf (xml + length, sizeof xml - length, " </disks>\n</domainbackup>\n");
    return xml;
}

/* Looks four times a second; returns when the job has ended. */
static BakJob *wait_for (BakDomain *domain, const char *id, BakError **error)
{
    for (;;) {
        BakJob *job = bak_domain_backup_wait (domain, id, 250000, error);
        if (!job || bak_job_has_ended (job))
            return job;
        printf ("%llu of %llu bytes\n", bak_job_get_bytes (job), bak_job_get_total (job));
        bak_job_unref (job);
    }
}

static int backup (BakDomain *domain, const char *directory)
{
    BakError *error = NULL;
    BakBackupOptions options;

    memset (&options, 0, sizeof options);
    options.size = sizeof options;
    options.backup_xml = describe (domain, directory, &error);
    char *id =
        options.backup_xml ? bak_domain_backup_begin_options (domain, &options, &error) : NULL;
    if (!id)
        return fail ("begin", error);
    BakJob *job = wait_for (domain, id, &error);
    bak_free (id);
    if (!job)
        return fail ("wait", error);
    int good = bak_job_get_state (job) == BAK_JOB_COMPLETED;
    if (good)
        printf ("completed: %llu bytes\n", bak_job_get_bytes (job));
    else
        fprintf (stderr, "%s: %s\n", bak_job_state_to_string (bak_job_get_state (job)),
                 bak_job_get_error (job));
    bak_job_unref (job);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main (int argc, char **argv)
{
    if (argc != 4) {
        fprintf (stderr, "usage: %s URI GUEST DIRECTORY\n", argv[0]);
        return 2;
    }
    BakError *error = NULL;
    BakConnection *conn = bak_connection_open (argv[1], &error);
    if (!conn)
        return fail (argv[1], error);
    BakDomain *domain = bak_domain_lookup_by_name (conn, argv[2], &error);
    int status = domain ? backup (domain, argv[3]) : fail (argv[2], error);
    bak_domain_unref (domain);
    bak_connection_unref (conn);
    return status;
}
