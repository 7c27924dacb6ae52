/* A night: pushes a backup of every guest that is running, all at once, and says what became of
 * each. One call tells how far all of them are.
 *
 *     cc nightly.c $(pkg-config --cflags --libs libbackup) -o nightly
 *     ./nightly qemu:///system /srv/backup
 *
 * Each guest gets a folder of the night. The exit status is 0 when all are good, 6 when some
 * failed, 3 when all did.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <libbackup/libbackup.h>

enum { SOME_FAILED = 6, ALL_FAILED = 3 };

static const unsigned long long PATIENCE = 6ULL * 3600 * 1000000;

static int fail (const char *what, BakError *error)
{
    fprintf (stderr, "%s: %s\n", what, bak_error_get_message (error));
    bak_error_unref (error);
    return 0;
}

/* <domainbackup> with a target for each disk that a backup takes by itself. The names of disks are
 * plain here; a program for any guest escapes what XML wants escaped. */
static char *describe (BakDomain *domain, const char *folder, BakError **error)
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
                          name, folder, name);
        bak_disk_unref (disks[i]);
    }
    bak_free (disks);
    snprintf (xml + length, sizeof xml - length, " </disks>\n</domainbackup>\n");
    return xml;
}

/* The job's id, or NULL: it is said why. */
static char *begin (BakDomain *domain, const char *night)
{
    char folder[4096];
    BakError *error = NULL;
    BakBackupOptions options;

    snprintf (folder, sizeof folder, "%s/%s", night, bak_domain_get_name (domain));
    if (mkdir (folder, 0700) != 0) {
        perror (folder);
        return NULL;
    }
    memset (&options, 0, sizeof options);
    options.size = sizeof options;
    options.timeout = PATIENCE;
    options.backup_xml = describe (domain, folder, &error);
    char *job =
        options.backup_xml ? bak_domain_backup_begin_options (domain, &options, &error) : NULL;
    if (!job)
        fail (bak_domain_get_name (domain), error);
    return job;
}

static int finish (BakDomain *domain, const char *id)
{
    BakError *error = NULL;
    BakJob *job = bak_domain_backup_wait (domain, id, PATIENCE, &error);

    if (!job)
        return fail (bak_domain_get_name (domain), error);
    int good = bak_job_get_state (job) == BAK_JOB_COMPLETED;
    if (good)
        printf ("%s: completed: %llu bytes\n", bak_domain_get_name (domain),
                bak_job_get_bytes (job));
    else
        printf ("%s: %s: %s\n", bak_domain_get_name (domain),
                bak_job_state_to_string (bak_job_get_state (job)),
                bak_job_get_error (job) ? bak_job_get_error (job) : "it has not ended");
    bak_job_unref (job);
    return good;
}

static void show_what_runs (BakConnection *conn)
{
    BakJob **jobs;

    if (bak_connection_backup_list (conn, &jobs, 0, NULL) < 0)
        return; /* each is waited for all the same */
    for (int i = 0; jobs[i]; i++) {
        printf ("%s: %llu of %llu bytes\n", bak_job_get_domain (jobs[i]),
                bak_job_get_bytes (jobs[i]), bak_job_get_total (jobs[i]));
        bak_job_unref (jobs[i]);
    }
    bak_free (jobs);
}

static int run (BakConnection *conn, BakDomain **guests, int n, const char *night)
{
    char **jobs = (char **) calloc ((size_t) n + 1, sizeof *jobs);
    int good = 0;

    for (int i = 0; jobs && i < n; i++)
        jobs[i] = begin (guests[i], night);
    show_what_runs (conn);
    for (int i = 0; jobs && i < n; i++) {
        good += jobs[i] && finish (guests[i], jobs[i]);
        bak_free (jobs[i]);
    }
    free (jobs);
    printf ("%d of %d guests are backed up in %s\n", good, n, night);
    return good == n ? EXIT_SUCCESS : good ? SOME_FAILED : ALL_FAILED;
}

int main (int argc, char **argv)
{
    if (argc != 3) {
        fprintf (stderr, "usage: %s URI DIRECTORY\n", argv[0]);
        return 2;
    }
    char night[2048];
    time_t now = time (NULL);
    int length = snprintf (night, sizeof night, "%s/", argv[2]);
    if (length < 0 || (size_t) length >= sizeof night - 32)
        return 2;
    mkdir (argv[2], 0700); /* it may be there */
    strftime (night + length, sizeof night - (size_t) length, "%Y-%m-%dT%H%M%S", localtime (&now));
    if (mkdir (night, 0700) != 0) {
        perror (night);
        return EXIT_FAILURE;
    }
    BakError *error = NULL;
    BakDomain **guests;
    BakConnection *conn = bak_connection_open (argv[1], &error);
    int n = conn ? bak_connection_list_all_domains (conn, &guests, BAK_CONNECT_LIST_DOMAINS_ACTIVE,
                                                    &error)
                 : -1;
    if (n < 0) {
        fail (argv[1], error);
        bak_connection_unref (conn);
        return EXIT_FAILURE;
    }
    int status = run (conn, guests, n, night);
    for (int i = 0; i < n; i++)
        bak_domain_unref (guests[i]);
    bak_free (guests);
    bak_connection_unref (conn);
    return status;
}
