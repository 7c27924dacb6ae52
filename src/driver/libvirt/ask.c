/* What libvirt tells of a job, and what it is asked; both change the record alone. */
#include <stdlib.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/libvirt/local.h"
#include "driver/libvirt/offline.h"
#include "job/build.h"
#include "job/moves.h"
#include "job/probe.h"
#include "util/config.h"
#include "util/json.h"

enum { TICK_MS = 1000, SETTLE_MS = 3000, WAIT_SLICE_MS = 100, MISSING_MS = 1000 };

LvRunning *lv_running_load (virDomainPtr domain, GError **error)
{
    char *xml = virDomainBackupGetXMLDesc (domain, 0);
    if (!xml) {
        const virError *last = virGetLastError ();
        if (!last || last->code != VIR_ERR_NO_DOMAIN_BACKUP)
            lv_error (error);
        return NULL;
    }
    LvRunning *running = lv_running_parse (xml, error);
    free (xml);
    return running;
}

/* A backup that writes where ours was to write is ours: nobody else is given these names. */
gboolean lv_running_is (const LvRunning *running, const Plan *plan)
{
    if (g_hash_table_size (running->paths) != plan->disks->len
        || running->pull != (plan->mode == BACKUP_MODE_PULL))
        return FALSE;
    for (guint i = 0; i < plan->disks->len; i++) {
        const PlanDisk *disk = plan->disks->pdata[i];
        if (g_strcmp0 (g_hash_table_lookup (running->paths, disk->target),
                       running->pull ? disk->scratch : disk->path)
            != 0)
            return FALSE;
    }
    return TRUE;
}

/* ---- what libvirt tells ---- */

static void end_by_libvirt (Job *job, gboolean success, const char *failure)
{
    if (job->own->ended)
        return;
    job->own->ended = TRUE;
    job->own->success = success;
    job->own->failure = failure && *failure ? text_sanitize (failure, 1024) : NULL;
    job->own->ended_at = g_get_monotonic_time ();
}

static const char *why_gone (int event, int detail)
{
    if (event == VIR_DOMAIN_EVENT_CRASHED || detail == VIR_DOMAIN_EVENT_STOPPED_CRASHED)
        return _("the guest crashed during the backup (QEMU died)");
    if (detail == VIR_DOMAIN_EVENT_STOPPED_DESTROYED)
        return _("the guest was destroyed during the backup");
    if (detail == VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN)
        return _("the guest was shut down during the backup");
    if (detail == VIR_DOMAIN_EVENT_STOPPED_FAILED)
        return _("QEMU died during the backup");
    if (detail == VIR_DOMAIN_EVENT_STOPPED_MIGRATED)
        return _("the guest was migrated to another host during the backup");
    if (detail == VIR_DOMAIN_EVENT_STOPPED_SAVED)
        return _("the guest was saved during the backup");
    return _("QEMU is gone (the guest was stopped or failed during the backup)");
}

static void take_lifecycle (Job *job, const LvNote *note)
{
    if (note->status == VIR_DOMAIN_EVENT_STOPPED || note->status == VIR_DOMAIN_EVENT_CRASHED) {
        job->own->gone = TRUE;
        if (!job->own->gone_why)
            job->own->gone_why = g_strdup (why_gone (note->status, note->detail));
    } else if (note->status == VIR_DOMAIN_EVENT_SUSPENDED
               && note->detail == VIR_DOMAIN_EVENT_SUSPENDED_IOERROR && !job->own->paused) {
        job->own->paused = g_strdup ("");
    }
}

void lv_job_take (Job *job, const LvNote *note)
{
    job->next_tick = 0;
    switch (note->kind) {
    case NOTE_WAKE:
    case NOTE_THRESHOLD: break;
    case NOTE_JOB_COMPLETED: /* only a hint: it may be the tail of another client's job */
        job->own->told = TRUE;
        job->own->told_success = note->success;
        job->own->total = note->total;
        g_free (job->own->told_failure);
        job->own->told_failure = g_strdup (note->text);
        break;
    case NOTE_BLOCK_JOB:
        for (guint i = 0; i < job->plan->disks->len; i++)
            if (g_strcmp0 (((PlanDisk *) job->plan->disks->pdata[i])->target, note->disk) == 0
                && note->status != VIR_DOMAIN_BLOCK_JOB_READY)
                job->own->disks[i].end =
                    note->status == VIR_DOMAIN_BLOCK_JOB_COMPLETED ? DISK_COMPLETED
                    : note->status == VIR_DOMAIN_BLOCK_JOB_FAILED  ? DISK_FAILED
                                                                   : DISK_CANCELLED;
        break;
    case NOTE_LIFECYCLE: take_lifecycle (job, note); break;
    case NOTE_IO_ERROR:
        if (note->paused) {
            g_free (job->own->paused);
            job->own->paused = g_strdup (note->text ? note->text : "");
        }
        break;
    }
    if (note->kind == NOTE_THRESHOLD)
        for (guint i = 0; i < job->plan->disks->len; i++)
            lv_watch_arm (job, i, NULL);
}

/* ---- what libvirt is asked ---- */

static void ask_disks (Job *job, virDomainPtr domain)
{
    for (guint i = 0; i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        bak_job_disk *out = &job->record.disks.disks_val[i];
        virDomainBlockJobInfo info;
        if (job->own->disks[i].end == DISK_RUNS
            && virDomainGetBlockJobInfo (domain, disk->target, &info, 0) == 1
            && !(info.cur == 0 && info.end == 1)) {
            out->bytes = info.cur;
            job->own->disks[i].counted = TRUE;
            if (job->plan->mode == BACKUP_MODE_PUSH)
                out->total = info.end;
        } else if (job->own->disks[i].end == DISK_COMPLETED
                   && job->plan->mode == BACKUP_MODE_PUSH) {
            out->bytes = out->total;
        }
    }
    job_record_sum_temp (&job->record);
}

/* The job is over and no event told how: libvirt's statistics do, if they are of this job. */
static void ask_result (Job *job, virDomainPtr domain)
{
    virTypedParameterPtr params = NULL;
    int count = 0, type = VIR_DOMAIN_JOB_NONE, operation = 0, success = 1;
    const char *failure = NULL;
    unsigned long long total = 0;

    if (virDomainGetJobStats (domain, &type, &params, &count,
                              VIR_DOMAIN_JOB_STATS_COMPLETED | VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED)
        != 0)
        type = VIR_DOMAIN_JOB_NONE;
    virTypedParamsGetInt (params, count, VIR_DOMAIN_JOB_OPERATION, &operation);
    virTypedParamsGetBoolean (params, count, VIR_DOMAIN_JOB_SUCCESS, &success);
    virTypedParamsGetString (params, count, VIR_DOMAIN_JOB_ERRMSG, &failure);
    virTypedParamsGetULLong (params, count, VIR_DOMAIN_JOB_DISK_TOTAL, &total);
    guint64 known = 0;
    for (guint i = 0; i < job->record.disks.disks_len; i++)
        known += job->record.disks.disks_val[i].total;
    gboolean backup = type != VIR_DOMAIN_JOB_NONE && operation == VIR_DOMAIN_JOB_OPERATION_BACKUP;
    gboolean good = backup && type == VIR_DOMAIN_JOB_COMPLETED && success;
    if (!backup && job->own->told)
        end_by_libvirt (job, job->own->told_success, job->own->told_failure);
    else if (!backup)
        end_by_libvirt (job, FALSE,
                        _("libvirt keeps no result of this job (it was restarted, or another job "
                           "has replaced it): nothing shows that the copy is complete"));
    else if (good && job->own->adopted && (total == 0 || total != known))
        end_by_libvirt (job, FALSE,
                        _("the job ended while nobody watched it, and nothing shows that the "
                           "result which libvirt keeps is of this job"));
    else
        end_by_libvirt (job, good, failure);
    job->own->lost = !backup && !job->own->told;
    job->own->lost = job->own->lost || (good && !job->own->success);
    if (backup && total)
        job->own->total = total;
    virTypedParamsFree (params, count);
}

static void note_gone (Job *job, virDomainPtr domain)
{
    static const struct {
        int reason, detail;
    } details[] = { { VIR_DOMAIN_SHUTOFF_SHUTDOWN, VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN },
                    { VIR_DOMAIN_SHUTOFF_DESTROYED, VIR_DOMAIN_EVENT_STOPPED_DESTROYED },
                    { VIR_DOMAIN_SHUTOFF_CRASHED, VIR_DOMAIN_EVENT_STOPPED_CRASHED },
                    { VIR_DOMAIN_SHUTOFF_MIGRATED, VIR_DOMAIN_EVENT_STOPPED_MIGRATED },
                    { VIR_DOMAIN_SHUTOFF_SAVED, VIR_DOMAIN_EVENT_STOPPED_SAVED },
                    { VIR_DOMAIN_SHUTOFF_FAILED, VIR_DOMAIN_EVENT_STOPPED_FAILED } };
    int state = 0, reason = 0, detail = -1;
    if (domain)
        virDomainGetState (domain, &state, &reason, 0);
    for (guint i = 0; i < G_N_ELEMENTS (details); i++)
        if (domain && details[i].reason == reason)
            detail = details[i].detail;
    job->own->gone = TRUE;
    if (!job->own->gone_why)
        job->own->gone_why = g_strdup (why_gone (VIR_DOMAIN_EVENT_STOPPED, detail));
}

/* A transient guest that goes takes with it what could be asked: its last event is waited for. */
static void note_missing (Job *job)
{
    gint64 now = g_get_monotonic_time ();
    if (!job->own->missing_since)
        job->own->missing_since = now;
    job->next_tick = now;
    if (now > job->own->missing_since + MISSING_MS * 1000LL)
        note_gone (job, NULL);
}

/* Also when it was lost and there again between two looks. */
static void note_connection (Job *job, gboolean connected, const char *why)
{
    guint number = lv_connection_number (job->guest->lv);
    gboolean changed = job->own->connection && job->own->connection != number;
    if (job->own->disconnected == !connected && !(connected && changed))
        return;
    job->own->disconnected = !connected;
    if (connected)
        job->own->connection = number;
    g_autoptr (GDateTime) now = g_date_time_new_now_utc ();
    g_autofree char *when = g_date_time_format (now, "%FT%TZ");
    g_autofree char *text =
        connected ? g_strdup_printf (_("%s: connected to libvirt again"), when)
                  : g_strdup_printf (_("%s: libvirt is not reachable: %s"), when, why);
    job_record_note (&job->record, text);
    job_warn (job, text);
}

/* Is what runs now ours? Sets ended when it is not. */
static void ask_identity (Job *job, virDomainPtr domain)
{
    g_autoptr (GError) failure = NULL;
    g_autoptr (LvRunning) running = lv_running_load (domain, &failure);
    if (failure)
        return;
    if (!running || !lv_running_is (running, job->plan)) {
        ask_result (job, domain);
        return;
    }
    job->own->adopted = FALSE;
    for (guint i = 0; i < job->plan->disks->len; i++) {
        job->own->disks[i].index = GPOINTER_TO_UINT (g_hash_table_lookup (
            running->indexes, ((PlanDisk *) job->plan->disks->pdata[i])->target));
        lv_watch_arm (job, i, NULL);
    }
}

void lv_job_refresh (LvGuest *guest)
{
    Job *job = guest->job;
    g_autoptr (GError) failure = NULL;

    if (!job || job->record.state == JOB_STATE_PREPARING || job->own->gone)
        return;
    g_autoptr (virDomain) domain = lv_guest_domain (guest, &failure);
    if (!domain && error_code (failure) == BAK_ERROR_NO_DOMAIN) {
        note_missing (job);
        job_publish (job);
        return;
    }
    int active = domain ? virDomainIsActive (domain) : -1;
    virTypedParameterPtr params = NULL;
    int count = 0, type = VIR_DOMAIN_JOB_NONE;
    gboolean asked = active == 1 && virDomainGetJobStats (domain, &type, &params, &count, 0) == 0;
    virTypedParamsFree (params, count);
    if (active == 0) {
        note_gone (job, domain);
        return;
    }
    if (!asked) {
        if (domain)
            lv_error (&failure);
        note_connection (job, FALSE, failure->message);
        job_publish (job);
        return;
    }
    gboolean was_away =
        job->own->disconnected || job->own->connection != lv_connection_number (guest->lv);
    note_connection (job, TRUE, NULL);
    if (type == VIR_DOMAIN_JOB_NONE && !job->own->ended)
        ask_result (job, domain);
    else if ((was_away || job->own->adopted) && !job->own->ended)
        ask_identity (job, domain);
    ask_disks (job, domain);
    job_publish (job);
}

/* Until libvirt's job is over and each of its disks said so, by events where they come, else by
 * asking. */
gboolean lv_job_wait_ended (Job *job, guint timeout_ms, GError **error)
{
    LvGuest *guest = job->guest;
    gint64 now = g_get_monotonic_time (), deadline = now + timeout_ms * 1000LL,
           next = now + TICK_MS * 1000LL;

    for (;;) {
        gboolean all = job->own->ended;
        for (guint i = 0; i < job->plan->disks->len; i++)
            all = all && job->own->disks[i].end != DISK_RUNS;
        now = g_get_monotonic_time ();
        if (all || job->own->gone
            || (job->own->ended && now > job->own->ended_at + SETTLE_MS * 1000LL))
            return TRUE;
        if (now > deadline)
            return error_set (error, BAK_ERROR_TIMEOUT,
                              _("libvirt's job on guest '%s' does not end"), guest->name);
        LvNote *note = g_async_queue_timeout_pop (guest->notes, WAIT_SLICE_MS * 1000);
        if (note)
            lv_job_take (job, note);
        lv_note_free (note);
        if ((now < next && !job->own->told) || job->own->ended)
            continue;
        next = now + TICK_MS * 1000LL;
        g_autoptr (virDomain) domain = lv_guest_domain (guest, NULL);
        virDomainJobInfo info;
        if (domain && virDomainIsActive (domain) == 0)
            note_gone (job, domain);
        else if (domain && virDomainGetJobInfo (domain, &info) == 0
                 && info.type == VIR_DOMAIN_JOB_NONE)
            ask_result (job, domain);
    }
}
