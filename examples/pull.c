/* Pulls a full backup: QEMU exports the disks as they are at one instant, this program reads them with libnbd into raw
 * files and then says that it has everything. Only that makes the backup a good one.
 *
 *     cc pull.c $(pkg-config --cflags --libs libbackup libnbd) -o pull
 *     ./pull qemu:///system web /srv/backup/web
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <libnbd.h>
#include <libbackup/libbackup.h>

enum { CHUNK = 2 * 1024 * 1024 };

static int fail (const char *what, BakError *error)
{
    fprintf (stderr, "%s: %s\n", what, bak_error_get_message (error));
    bak_error_unref (error);
    return EXIT_FAILURE;
}

static int all_zero (const char *data, size_t length)
{
    return data[0] == 0 && memcmp (data, data + 1, length - 1) == 0;
}

/* Every error of a read must count: QEMU answers with errors when it can no longer keep the point in time. */
static int copy (struct nbd_handle *nbd, int fd)
{
    static char data[CHUNK];
    int64_t size = nbd_get_size (nbd);

    if (size < 0 || ftruncate (fd, size) != 0)
        return -1;
    for (int64_t at = 0; at < size; at += CHUNK) {
        size_t length = size - at < CHUNK ? (size_t) (size - at) : CHUNK;
        if (nbd_pread (nbd, data, length, at, 0) != 0)
            return -1;
        if (!all_zero (data, length) && pwrite (fd, data, length, at) != (ssize_t) length)
            return -1;
    }
    return fsync (fd);
}

static int pull_disk (const BakJob *job, unsigned int index, const char *directory)
{
    char path[4096];
    char *uri = bak_job_get_export_uri (job, index);
    struct nbd_handle *nbd = nbd_create ();

    snprintf (path, sizeof path, "%s/%s.raw", directory, bak_job_disk_get_target (bak_job_get_disk (job, index)));
    int fd = open (path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int ok = fd >= 0 && nbd && uri && nbd_connect_uri (nbd, uri) == 0 && copy (nbd, fd) == 0;
    if (!ok)
        fprintf (stderr, "%s: %s\n", path, nbd && nbd_get_error () ? nbd_get_error () : "cannot be written");
    else
        printf ("%s\n", path);
    if (fd >= 0)
        close (fd);
    nbd_close (nbd);
    bak_free (uri);
    return ok;
}

static int backup (BakDomain *domain, const char *directory)
{
    BakError *error = NULL;
    int ok = 1;

    if (bak_domain_backup_begin (domain, "<domainbackup mode='pull'><server transport='auto'/></domainbackup>", NULL, 0, &error) < 0)
        return fail ("begin", error);
    BakJob *job = bak_domain_backup_info (domain, NULL, 0, &error);
    for (unsigned int i = 0; job && ok && i < bak_job_get_n_disks (job); i++)
        ok = pull_disk (job, i, directory);
    /* the verdict: done, or thrown away */
    BakJob *ended = bak_domain_backup_stop (domain, bak_job_get_id (job), job && ok ? 0 : BAK_DOMAIN_BACKUP_STOP_ABORT, error ? NULL : &error);
    ok = ok && job && ended && bak_job_get_state (ended) == BAK_JOB_COMPLETED;
    if (error)
        fail ("backup", error);
    else if (!ok)
        fprintf (stderr, "%s: %s\n", bak_job_state_to_string (bak_job_get_state (ended)), bak_job_get_error (ended) ? bak_job_get_error (ended) : "do not use it");
    else
        printf ("completed\n");
    bak_job_unref (job);
    bak_job_unref (ended);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
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
