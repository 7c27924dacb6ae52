/* What an owner that died left: adopted, finished or undone. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/verbs.h"
#include "job/build.h"
#include "driver/qemu/checkpoint.h"
#include "driver/qemu/job-parts.h"
#include "job/probe.h"
#include "util/config.h"
#include "util/files.h"
#include "util/json.h"
#include "util/process.h"

/* Another process than the one that held what the plan made: that one died in between. */
static gboolean other_process (Guest *guest, const JournalState *state)
{
    gint64 pid = json_get_int (state->meta, "pid", 0),
           start = json_get_int (state->meta, "start", 0);
    int now = qmp_get_peer_pid (guest->qmp);
    return pid > 0 && now > 0
           && (pid != now || (start && start != (gint64) process_start_time (now)));
}

void job_inherit (Job *job, const JournalState *state)
{
    for (guint i = 0; i < job->plan->disks->len; i++) {
        const char *id = ((PlanDisk *) job->plan->disks->pdata[i])->job,
                   *result = id ? g_hash_table_lookup (state->results, id) : NULL;
        job->own->disks[i].ended = result != NULL;
        job->own->disks[i].error = result && *result ? g_strdup (result) : NULL;
    }
    job->own->inherited = job->guest->qmp && !other_process (job->guest, state);
}

/* Its name bears the job's id where we have made it up. */
static void remove_scratches (const bak_job *job)
{
    g_autofree char *suffix = g_strdup_printf ("-%s.scratch", job->id);
    for (guint i = 0; i < job->disks.disks_len; i++)
        if (g_str_has_suffix (job->disks.disks_val[i].scratch, suffix))
            unlink (job->disks.disks_val[i].scratch);
}

/* Without a readable plan only names are left to go by. */
static gboolean recover_damaged (Guest *guest, GError **error)
{
    if (!run_sweep (guest, "bak-", error))
        return FALSE;
    life_recover_damaged (
        &guest->jobs,
        _("the journal of the job was damaged: it was undone by names alone; look "
           "for files that it made"),
        remove_scratches);
    return TRUE;
}

/* The event of a write that failed in our filter may have come while nobody listened; which of the
 * two files failed it does not tell now. */
static void fail_if_stopped (Job *job)
{
    g_autoptr (Graph) graph = guest_graph (job->guest, GRAPH_ALL, NULL);
    for (guint i = 0;
         graph && g_strcmp0 (graph->status, "io-error") == 0 && i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        const GraphDisk *now =
            disk->filter && !disk->keeper ? graph_disk (graph, disk->target, NULL) : NULL;
        if (!now || !now->io_failed)
            continue;
        g_autofree char *text = g_strdup_printf (
            now->io_full ? _("disk '%s': a write of the guest met 'no space left on device' while "
                              "nobody watched the backup: in '%s', or in the guest's own image")
                         : _("disk '%s': a write of the guest met an I/O error while nobody "
                              "watched the backup: in '%s', or in the guest's own image"),
            disk->target, disk->scratch ? disk->scratch : disk->path);
        job_fail (job, i, now->io_full ? BAK_ERROR_NO_SPACE : BAK_ERROR_IO, text);
        return;
    }
}

void job_adopted (Job *job)
{
    fail_if_stopped (job);
}

/* QEMU could not be cleaned up when the job ended, or the owner died right after its record. */
gboolean job_clean_rest (Job *job, gboolean undone, GError **error)
{
    g_autofree char *prefix = g_strdup_printf ("bak-%s-", job->record.id);
    gboolean good = job->record.state == JOB_STATE_COMPLETED,
             connected = guest_monitor_alive (job->guest, NULL);

    if ((connected && !run_sweep (job->guest, prefix, error))
        || (!good && !checkpoint_drop (job->guest, job->plan, error)))
        return FALSE;
    if (connected)
        job_resume_guest (job);
    return TRUE;
}

static void take (Job *job)
{
    job->guest->job = job;
}

gboolean job_recover (Guest *guest, GError **error)
{
    g_autoptr (JournalState) state = journal_read (guest->dir, error);
    if (!state)
        return FALSE;
    if (!state->plan)
        return recover_damaged (guest, error);
    if (checkpoint_is_journal (state))
        return checkpoint_recover (guest, state, TRUE, error);
    gboolean gone = other_process (guest, state);
    return life_recover (&guest->jobs, state,
                         gone ? _("QEMU was restarted during the backup") : NULL, take, error);
}

void job_recover_gone (Guest *guest, const char *why)
{
    g_autoptr (JournalState) state = journal_read (guest->dir, NULL);
    g_autoptr (GError) left = NULL;
    if (!state || !state->plan)
        return;
    if (checkpoint_is_journal (state)) {
        checkpoint_recover (guest, state, FALSE, NULL);
        return;
    }
    g_autofree char *gone = g_strdup_printf (
        _("QEMU is gone (%s) and the process that watched the backup was not there"), why);
    if (!life_recover (&guest->jobs, state, gone, take, &left))
        g_warning ("guest '%s': %s", guest->def->name, left ? left->message : "?");
}
