/* Pulls a backup of all disks of a guest into raw files: full the first time, then only what
 * changed since. QEMU exports the disks as they are at one instant; this program asks which ranges
 * it has to read, reads them with libnbd, and then says that it has everything. Only that makes the
 * backup a good one and keeps its checkpoint, from which the next run goes on.
 *
 *     cc pull.c $(pkg-config --cflags --libs libbackup libnbd) -o pull
 *     ./pull qemu:///system web /srv/backup/web
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <libnbd.h>
#include <libbackup/libbackup.h>

enum { CHUNK = 2 * 1024 * 1024, LOOK = 1024 * 1024 * 1024 };

typedef struct {
    struct nbd_handle *nbd;
    const char *context; /* what tells the ranges: a bitmap, or what is not zero */
    int fd;
    uint64_t at, size, read;
} Copy;

static int fail (const char *what, BakError *error)
{
    fprintf (stderr, "%s: %s\n", what, bak_error_get_message (error));
    bak_error_unref (error);
    return EXIT_FAILURE;
}

static uint64_t least (uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Every error of a read must count: QEMU answers with errors when it can no longer keep the point
 * in time. */
static int copy_range (Copy *copy, uint64_t at, uint64_t length)
{
    static char data[CHUNK];

    copy->read += length;
    for (uint64_t end = at + length; at < end; at += length) {
        length = least (end - at, CHUNK);
        if (nbd_pread (copy->nbd, data, length, at, 0) != 0
            || pwrite (copy->fd, data, length, (off_t) at) != (ssize_t) length)
            return -1;
    }
    return 0;
}

typedef struct {
    uint64_t at, length;
} Range;

typedef struct {
    Range ranges[4096];
    unsigned int n;
    uint64_t at; /* up to here it is known */
    const char *context;
    int changed; /* a bitmap: the ranges that are set; else those that do not read as zeros */
} Ranges;

static int on_extents (void *opaque, const char *context, uint64_t at, uint32_t *entries,
                       size_t n_entries, int *error)
{
    Ranges *found = (Ranges *) opaque;

    (void) error;
    if (strcmp (context, found->context) != 0)
        return 0;
    for (size_t i = 0; i + 1 < n_entries; i += 2) {
        uint32_t flags = entries[i + 1];
        if (found->n == sizeof found->ranges / sizeof *found->ranges)
            break; /* the next look begins here */
        if (found->changed ? flags & 1 : !(flags & LIBNBD_STATE_ZERO)) {
            found->ranges[found->n].at = at;
            found->ranges[found->n++].length = entries[i];
        }
        at += entries[i];
    }
    found->at = at;
    return 0;
}

static int copy_disk (Copy *copy, int changed)
{
    static Ranges found;

    for (copy->at = 0; copy->at < copy->size; copy->at = found.at) {
        uint64_t look = least (copy->size - copy->at, LOOK);
        nbd_extent_callback callback;
        memset (&callback, 0, sizeof callback);
        callback.callback = on_extents;
        callback.user_data = &found;
        found.n = 0;
        found.at = copy->at;
        found.context = copy->context;
        found.changed = changed;
        if (nbd_block_status (copy->nbd, look, copy->at, callback, 0) != 0 || found.at == copy->at)
            return -1;
        for (unsigned int i = 0; i < found.n; i++) {
            Range *range = &found.ranges[i];
            if (copy_range (copy, range->at, least (range->length, copy->size - range->at)) != 0)
                return -1;
        }
    }
    return fsync (copy->fd);
}

static int pull_disk (const BakJob *job, unsigned int index, const char *directory)
{
    const BakJobDisk *disk = bak_job_get_disk (job, index);
    const char *bitmap = bak_job_disk_get_bitmap (disk), *target = bak_job_disk_get_target (disk);
    char path[4096], context[1100];
    char *uri = bak_job_get_export_uri (job, index);
    Copy copy;

    memset (&copy, 0, sizeof copy);
    snprintf (path, sizeof path, "%s/%s.raw", directory, target);
    snprintf (context, sizeof context,
              bitmap ? "qemu:dirty-bitmap:%s" : LIBNBD_CONTEXT_BASE_ALLOCATION, bitmap);
    copy.context = context;
    copy.nbd = nbd_create ();
    copy.fd = open (path, O_WRONLY | O_CLOEXEC | (bitmap ? 0 : O_CREAT | O_EXCL), 0600);
    int ok = copy.fd >= 0 && copy.nbd && uri && nbd_add_meta_context (copy.nbd, context) == 0
             && nbd_connect_uri (copy.nbd, uri) == 0
             && nbd_can_meta_context (copy.nbd, context) == 1;
    int64_t size = ok ? nbd_get_size (copy.nbd) : -1;
    copy.size = (uint64_t) size;
    ok =
        ok && size >= 0 && ftruncate (copy.fd, size) == 0 && copy_disk (&copy, bitmap != NULL) == 0;
    if (!ok)
        fprintf (stderr, "%s: %s\n", path,
                 copy.nbd && nbd_get_error () ? nbd_get_error () : "cannot be written");
    else
        printf ("%s: %s, %llu bytes read\n", target, bak_job_disk_get_type (disk),
                (unsigned long long) copy.read);
    if (copy.fd >= 0)
        close (copy.fd);
    nbd_close (copy.nbd);
    bak_free (uri);
    return ok;
}

/* The file "complete" says that the raw files are of one instant, that of the checkpoint. */
static int mark (const char *directory, int complete)
{
    char path[4096];

    snprintf (path, sizeof path, "%s/complete", directory);
    if (!complete)
        return unlink (path);
    int fd = open (path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    return fd < 0 ? -1 : close (fd);
}

static int is_marked (const char *directory)
{
    char path[4096];

    snprintf (path, sizeof path, "%s/complete", directory);
    return access (path, F_OK) == 0;
}

/* The verdict: done, or thrown away; the first error is the reason. */
static int end (BakDomain *domain, const BakJob *job, int ok)
{
    BakError *error = NULL;
    BakJob *ended = bak_domain_backup_stop (domain, bak_job_get_id (job),
                                            ok ? 0 : BAK_DOMAIN_BACKUP_STOP_ABORT, &error);

    if (!ended) {
        fail ("stop", error);
        return 0;
    }
    int good = ok && bak_job_get_state (ended) == BAK_JOB_COMPLETED;
    if (!good)
        fprintf (stderr, "%s: %s\n", bak_job_state_to_string (bak_job_get_state (ended)),
                 bak_job_get_error (ended) ? bak_job_get_error (ended) : "do not use it");
    bak_job_unref (ended);
    return good;
}

static int pull (BakDomain *domain, const char *since, const char *directory)
{
    char backup[2200], checkpoint[256];
    BakError *error = NULL;

    snprintf (checkpoint, sizeof checkpoint,
              "<domaincheckpoint><name>pull-%lld-%d</name></domaincheckpoint>",
              (long long) time (NULL), (int) getpid ());
    snprintf (backup, sizeof backup,
              "<domainbackup mode='pull'>%s%s%s<server transport='auto'/></domainbackup>",
              since ? "<incremental>" : "", since ? since : "", since ? "</incremental>" : "");
    if (bak_domain_backup_begin (domain, backup, checkpoint, 0, &error) < 0)
        return fail ("begin", error);
    BakJob *job = bak_domain_backup_info (domain, NULL, 0, &error);
    if (!job) {
        bak_job_unref (bak_domain_backup_stop (domain, NULL, BAK_DOMAIN_BACKUP_STOP_ABORT, NULL));
        return fail ("info", error);
    }
    int ok = !since || mark (directory, 0) == 0;
    for (unsigned int i = 0; ok && i < bak_job_get_n_disks (job); i++)
        ok = pull_disk (job, i, directory);
    ok = end (domain, job, ok) && mark (directory, 1) == 0;
    bak_job_unref (job);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* The newest checkpoint is the base; when a newer one is good, those before are not needed. */
static int backup (BakDomain *domain, const char *directory)
{
    BakCheckpoint **before;
    BakError *error = NULL;

    if (bak_domain_list_all_checkpoints (domain, &before, BAK_DOMAIN_CHECKPOINT_LIST_LEAVES, &error)
        < 0)
        return fail ("checkpoints", error);
    const char *since =
        before[0] && is_marked (directory) ? bak_domain_checkpoint_get_name (before[0]) : NULL;
    int status = pull (domain, since, directory);
    for (int i = 0; before[i]; i++) {
        if (status == EXIT_SUCCESS && bak_domain_checkpoint_delete (before[i], 0, &error) < 0)
            status = fail ("checkpoint", error);
        bak_domain_checkpoint_unref (before[i]);
    }
    bak_free (before);
    if (status == EXIT_SUCCESS)
        printf ("completed\n");
    return status;
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
