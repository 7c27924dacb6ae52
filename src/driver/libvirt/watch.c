/* What QEMU does not tell, or not in time: that a file system is about to be full, and that nobody
 * reads an export. A full target or scratch pauses the guest, so the backup ends first. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <glib/gi18n-lib.h>
#include "driver/libvirt/guest.h"

enum { RESERVE_MIN = 128 * 1024, RESERVE_MAX = 64 * 1024 * 1024, URGENT_RESERVES = 16 };

static const char *store_path (const PlanDisk *disk)
{
    return disk->path ? disk->path : disk->scratch;
}

LvSpace lv_space (const char *path)
{
    struct statvfs fs;
    g_autofree char *dir = g_path_get_dirname (path);
    struct stat st;
    if (stat (path, &st) == 0 && !S_ISREG (st.st_mode))
        return (LvSpace){ 0 }; /* a device has the space that it has */
    if (statvfs (dir, &fs) != 0 || fs.f_blocks == 0)
        return (LvSpace){ 0 };
    return (LvSpace){ (guint64) fs.f_bavail * fs.f_frsize, TRUE };
}

guint64 lv_space_reserve (guint64 available_at_begin)
{
    return CLAMP (available_at_begin / 8, RESERVE_MIN, RESERVE_MAX);
}

static dev_t device_of (const char *path)
{
    g_autofree char *dir = g_path_get_dirname (path);
    struct stat st;
    return stat (dir, &st) == 0 ? st.st_dev : 0;
}

/* What the disks on the same file system may still write, at most. */
static guint64 remaining_on (const Job *job, dev_t device)
{
    guint64 sum = 0;
    for (guint i = 0; i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        const bak_job_disk *now = &job->record.disks.disks_val[i];
        guint64 total = now->total ? now->total : disk->size;
        if (job->own->disks[i].end == DISK_RUNS && device_of (store_path (disk)) == device)
            sum += total > now->bytes ? total - now->bytes : 0;
    }
    return sum;
}

static guint count_on (const Job *job, dev_t device)
{
    guint count = 0;
    for (guint i = 0; i < job->plan->disks->len; i++)
        count += device_of (store_path (job->plan->disks->pdata[i])) == device;
    return MAX (count, 1);
}

static gboolean is_watched (const Job *job)
{
    return job->own->protect && job->guest->lv->local && !job->own->ended;
}

gboolean lv_watch_arm (Job *job, guint disk, GError **error)
{
    const PlanDisk *plan_disk = job->plan->disks->pdata[disk];
    const char *path = store_path (plan_disk);
    LvSpace space = lv_space (path);
    struct stat st;

    if (!is_watched (job) || !space.known || job->own->disks[disk].index == 0
        || job->own->disks[disk].end != DISK_RUNS || g_strcmp0 (plan_disk->format, "qcow2") != 0
        || stat (path, &st) != 0)
        return TRUE;
    guint64 reserve = job->own->disks[disk].reserve;
    guint64 room = space.available > reserve
                       ? (space.available - reserve) / count_on (job, device_of (path))
                       : 0;
    if (room == 0)
        return TRUE;
    g_autofree char *device =
        g_strdup_printf ("%s[%u]", plan_disk->target, job->own->disks[disk].index);
    g_autoptr (virDomain) domain = lv_guest_domain (job->guest, error);
    if (!domain)
        return FALSE;
    return virDomainSetBlockThreshold (domain, device, (guint64) st.st_size + room, 0) == 0
           || lv_error (error);
}

static gboolean disk_has_room (Job *job, guint i, GError **error)
{
    const PlanDisk *disk = job->plan->disks->pdata[i];
    const char *path = store_path (disk);
    LvSpace space = lv_space (path);

    if (!space.known || job->own->disks[i].end != DISK_RUNS)
        return TRUE;
    if (space.available < job->own->disks[i].reserve * URGENT_RESERVES)
        job->own->urgent = TRUE;
    if (space.available >= job->own->disks[i].reserve
        || remaining_on (job, device_of (path)) <= space.available)
        return TRUE;
    g_autofree char *left = g_format_size_full (space.available, G_FORMAT_SIZE_IEC_UNITS);
    return error_set (error, BAK_ERROR_NO_SPACE,
                      disk->path
                          ? _("disk '%s': target '%s': No space left on device: only %s left; the "
                               "backup was ended before that could pause the guest")
                          : _("disk '%s': scratch '%s': No space left on device: only %s left; "
                               "the backup was ended before that could pause the guest"),
                      disk->target, path, left);
}

gboolean lv_watch_space (Job *job, guint *ret_disk, GError **error)
{
    job->own->urgent = FALSE;
    *ret_disk = 0;
    if (job->scratch_limit && job->record.temp_used > job->scratch_limit)
        return error_set (error, BAK_ERROR_NO_SPACE,
                          _("the scratch has grown to %" G_GUINT64_FORMAT
                             " bytes; its limit is %" G_GUINT64_FORMAT),
                          job->record.temp_used, job->scratch_limit);
    for (guint i = 0; is_watched (job) && i < job->plan->disks->len; i++)
        if (!disk_has_room (job, i, error)) {
            *ret_disk = i;
            return FALSE;
        }
    return TRUE;
}

gboolean lv_watch_urgent (const Job *job)
{
    return job->own->urgent && is_watched (job);
}

/* ---- readers ---- */

static int count_unix (const char *path)
{
    FILE *file = fopen ("/proc/net/unix", "re");
    char line[512];
    int count = 0;
    if (!file)
        return -1;
    while (fgets (line, sizeof line, file)) {
        char state[8], name[256];
        if (sscanf (line, "%*s %*s %*s %*s %*s %7s %*s %255s", state, name) == 2
            && g_str_equal (state, "03") && g_str_equal (name, path))
            count++; /* a connected end on the server's side bears the server's name */
    }
    fclose (file);
    return count;
}

static int count_tcp (const char *table, guint port)
{
    FILE *file = fopen (table, "re");
    char line[512];
    int count = 0;
    if (!file)
        return 0;
    while (fgets (line, sizeof line, file)) {
        char local[64], state[8];
        const char *colon;
        if (sscanf (line, "%*s %63s %*s %7s", local, state) == 2 && (colon = strrchr (local, ':'))
            && g_ascii_strtoull (colon + 1, NULL, 16) == port && g_str_equal (state, "01"))
            count++;
    }
    fclose (file);
    return count;
}

int lv_count_readers (const Plan *plan)
{
    if (plan->server_socket)
        return count_unix (plan->server_socket);
    return count_tcp ("/proc/net/tcp", plan->server_port)
           + count_tcp ("/proc/net/tcp6", plan->server_port);
}
