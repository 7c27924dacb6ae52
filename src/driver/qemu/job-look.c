/* What is looked at of a running backup, whoever looks: begin, end, watching, recovering. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/job-parts.h"
#include "job/build.h"
#include "util/json.h"

static gint disk_of_node (Job *job, const char *node)
{
    for (guint i = 0; node && i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        if (g_strcmp0 (disk->filter, node) == 0 || g_strcmp0 (disk->scratch_node, node) == 0)
            return i;
    }
    return -1;
}

/* Filters of the guest's own (throttle) lie above ours, and it is them that QEMU names. */
static gint disk_of_top (Job *job, const char *top)
{
    g_autoptr (Graph) graph = top && *top ? guest_graph (job->guest, GRAPH_ALL, NULL) : NULL;
    for (guint i = 0; graph && i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        const GraphDisk *now = disk->filter ? graph_disk (graph, disk->target, NULL) : NULL;
        if (now && g_strcmp0 (now->top, top) == 0)
            return i;
    }
    return -1;
}

gint job_disk_of_event (Job *job, const GuestEvent *event)
{
    const char *node = event->data ? json_get_string (event->data, "node-name") : NULL;
    gint index = disk_of_node (job, node);
    gboolean io_error = g_str_equal (event->name, "BLOCK_IO_ERROR");
    return index < 0 && io_error ? disk_of_top (job, node) : index;
}

/* The copies may be ending already while a write of the guest fails in the filter of one that has
 * not ended yet. */
static gboolean filter_stopped_guest (Job *job)
{
    for (guint i = 0; i < job->guest->pending->len; i++) {
        const GuestEvent *event = job->guest->pending->pdata[i];
        if (g_str_equal (event->name, "BLOCK_IO_ERROR") && event->data
            && g_strcmp0 (json_get_string (event->data, "action"), "stop") == 0
            && job_disk_of_event (job, event) >= 0)
            return TRUE;
    }
    return FALSE;
}

void job_resume_guest (Job *job)
{
    g_autoptr (Graph) graph = job->own->inherited || filter_stopped_guest (job)
                                  ? guest_graph (job->guest, GRAPH_ALL, NULL)
                                  : NULL;
    if (graph && g_strcmp0 (graph->status, "io-error") == 0)
        qmp_run (job->guest->qmp, "cont", NULL, 0, NULL);
}

gboolean job_qemu_is_gone (Guest *guest)
{
    if (guest->qmp && qmp_is_alive (guest->qmp, NULL))
        return FALSE;
    g_autoptr (GError) error = NULL;
    g_autoptr (Qmp) again =
        guest_is_offline (guest) ? NULL : qmp_connect (guest->def->qmp, NULL, 2000, &error);
    if (guest_is_offline (guest))
        return !offline_running (guest);
    return !again && error_code (error) == BAK_ERROR_CONNECTION;
}

char *job_scratch_failure (Job *job, const PlanDisk *disk, BakErrorCode *ret_code)
{
    struct statvfs fs;
    struct stat st;
    *ret_code = BAK_ERROR_IO;
    if (!disk->scratch)
        return NULL;
    if (job->scratch_limit && stat (disk->scratch, &st) == 0
        && (guint64) st.st_blocks * 512 >= job->scratch_limit) {
        *ret_code = BAK_ERROR_NO_SPACE;
        return g_strdup_printf (_("disk '%s': scratch '%s': no space left: it has reached its "
                                   "limit of %" G_GUINT64_FORMAT " bytes"),
                                disk->target, disk->scratch, job->scratch_limit);
    }
    if (statvfs (disk->scratch, &fs) == 0 && fs.f_bavail * fs.f_frsize < 256 * 1024) {
        *ret_code = BAK_ERROR_NO_SPACE;
        return g_strdup_printf (_("disk '%s': scratch '%s': no space left on device"),
                                disk->target, disk->scratch);
    }
    return NULL;
}
