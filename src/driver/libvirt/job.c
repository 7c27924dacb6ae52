/* Begin, run and end of a backup that libvirt does. libvirt's own word counts for little: a pull is done by the consumer's
 * verdict, a push when its targets are released and synced, a result that was lost is no success. Every end goes through
 * job_end(); states move by the qemu driver's table. */
#include <stdlib.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/libvirt/local.h"
#include "driver/libvirt/offline.h"
#include "driver/qemu/build.h"
#include "driver/qemu/job-record.h"
#include "driver/qemu/probe.h"
#include "util/config.h"
#include "util/json.h"

enum { TICK_MS = 1000, PROBE_MS = 2000, PROBE_TIMEOUT_MS = 10000, SETTLE_MS = 3000, WAIT_SLICE_MS = 100, MISSING_MS = 1000 };

/* ---- record and snapshot ---- */

static void publish (LvJob *job)
{
    LvGuest *guest = job->guest;
    job->record.elapsed = g_get_monotonic_time () - job->began;
    g_mutex_lock (&guest->snapshot_lock);
    bak_job_clear (&guest->snapshot);
    bak_job_copy (&job->record, &guest->snapshot);
    guest->published++;
    g_cond_broadcast (&guest->changed);
    g_mutex_unlock (&guest->snapshot_lock);
}

static void warn (LvJob *job, const char *text)
{
    bak_event event = job_event_warning (&job->record, text);
    lv_guest_emit (job->guest, &event);
}

static gboolean save_record (LvJob *job)
{
    g_autoptr (GError) error = NULL;
    publish (job);
    if (record_save (job->guest->dir, &job->record, &error))
        return TRUE;
    g_warning ("job %s: %s", job->record.id, error->message);
    warn (job, error->message);
    return FALSE;
}

static void emit_state (LvJob *job)
{
    bak_event event = job_event_state (&job->record);
    lv_guest_emit (job->guest, &event);
}

static void emit_disk (LvJob *job, const bak_job_disk *disk)
{
    bak_event event = job_event_disk (&job->record, disk);
    lv_guest_emit (job->guest, &event);
}

static void set_disk_states (LvJob *job, int state)
{
    for (guint i = 0; i < job->record.disks.disks_len; i++) {
        bak_job_disk *disk = &job->record.disks.disks_val[i];
        if (!job_state_ended (disk->state) && disk->state != state) {
            disk->state = state;
            emit_disk (job, disk);
        }
    }
}

static const char *store_path (const PlanDisk *disk)
{
    return disk->path ? disk->path : disk->scratch;
}

/* ---- an LvJob ---- */

static LvJob *job_new (LvGuest *guest, Plan *plan /* consumed */, GArray *states, GHashTable *files)
{
    LvJob *job = g_new0 (LvJob, 1);
    job->guest = guest;
    job->plan = plan;
    job->began = job->last_reader = g_get_monotonic_time ();
    job->disks = g_new0 (LvJobDisk, MAX (plan->disks->len, 1));
    for (guint i = 0; guest->lv->local && i < plan->disks->len; i++)
        job->disks[i].reserve = lv_space_reserve (lv_space (store_path (plan->disks->pdata[i])).available);
    job->run = (Run) { .verbs = lv_verbs, .data = guest, .plan = plan, .froze = -1, .thawed = -1,
                       .states = states ? g_array_ref (states) : g_array_new (FALSE, TRUE, sizeof (StepState)),
                       .files = files ? g_hash_table_ref (files) : g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free) };
    g_array_set_size (job->run.states, plan->steps->len);
    return job;
}

void lv_job_free (LvJob *job)
{
    if (!job)
        return;
    journal_close (job->run.journal);
    g_array_unref (job->run.states);
    g_hash_table_unref (job->run.files);
    g_free (job->run.thaw_problem);
    g_free (job->disks);
    g_free (job->failure);
    g_free (job->told_failure);
    g_free (job->gone_why);
    g_free (job->paused);
    bak_job_clear (&job->record);
    plan_free (job->plan);
    g_free (job);
}

char *lv_provisional (LvGuest *guest)
{
    g_rec_mutex_lock (&guest->busy);
    char *name = guest->job && !guest->job->finished ? g_strdup (guest->job->plan->checkpoint) : NULL;
    gboolean here = guest->job != NULL;
    g_rec_mutex_unlock (&guest->busy);
    if (here || !journal_exists (guest->online))
        return name;
    g_autoptr (JournalState) state = journal_read (guest->online, NULL);
    if (state && state->plan && !g_str_equal (state->phase, "finished"))
        return g_strdup (state->plan->checkpoint);
    return NULL;
}

/* ---- what libvirt tells ---- */

static void end_by_libvirt (LvJob *job, gboolean success, const char *failure)
{
    if (job->ended)
        return;
    job->ended = TRUE;
    job->success = success;
    job->failure = failure && *failure ? text_sanitize (failure, 1024) : NULL;
    job->ended_at = g_get_monotonic_time ();
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

static void take_lifecycle (LvJob *job, const LvNote *note)
{
    if (note->status == VIR_DOMAIN_EVENT_STOPPED || note->status == VIR_DOMAIN_EVENT_CRASHED) {
        job->gone = TRUE;
        if (!job->gone_why)
            job->gone_why = g_strdup (why_gone (note->status, note->detail));
    } else if (note->status == VIR_DOMAIN_EVENT_SUSPENDED && note->detail == VIR_DOMAIN_EVENT_SUSPENDED_IOERROR && !job->paused) {
        job->paused = g_strdup ("");
    }
}

void lv_job_take (LvJob *job, const LvNote *note)
{
    job->next_tick = job->next_look = 0;
    switch (note->kind) {
    case NOTE_WAKE:
    case NOTE_THRESHOLD:
        break;
    case NOTE_JOB_COMPLETED:    /* only a hint: it may be the tail of another client's job */
        job->told = TRUE;
        job->told_success = note->success;
        job->total = note->total;
        g_free (job->told_failure);
        job->told_failure = g_strdup (note->text);
        break;
    case NOTE_BLOCK_JOB:
        for (guint i = 0; i < job->plan->disks->len; i++)
            if (g_strcmp0 (((PlanDisk *) job->plan->disks->pdata[i])->target, note->disk) == 0 && note->status != VIR_DOMAIN_BLOCK_JOB_READY)
                job->disks[i].end = note->status == VIR_DOMAIN_BLOCK_JOB_COMPLETED ? DISK_COMPLETED : note->status == VIR_DOMAIN_BLOCK_JOB_FAILED ? DISK_FAILED : DISK_CANCELLED;
        break;
    case NOTE_LIFECYCLE:
        take_lifecycle (job, note);
        break;
    case NOTE_IO_ERROR:
        if (note->paused) {
            g_free (job->paused);
            job->paused = g_strdup (note->text ? note->text : "");
        }
        break;
    }
    if (note->kind == NOTE_THRESHOLD)
        for (guint i = 0; i < job->plan->disks->len; i++)
            lv_watch_arm (job, i, NULL);
}

/* ---- what libvirt is asked ---- */

static void sum_up (LvJob *job)
{
    guint64 used = 0, total = 0;
    for (guint i = 0; i < job->record.disks.disks_len; i++) {
        used += job->record.disks.disks_val[i].bytes;
        total += job->record.disks.disks_val[i].total;
    }
    if (job->plan->mode == BACKUP_MODE_PULL) {
        job->record.temp_used = used;
        job->record.temp_total = total;
    }
}

static void ask_disks (LvJob *job, virDomainPtr domain)
{
    for (guint i = 0; i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        bak_job_disk *out = &job->record.disks.disks_val[i];
        virDomainBlockJobInfo info;
        if (job->disks[i].end == DISK_RUNS && virDomainGetBlockJobInfo (domain, disk->target, &info, 0) == 1 && !(info.cur == 0 && info.end == 1)) {
            out->bytes = info.cur;
            job->disks[i].counted = TRUE;
            if (job->plan->mode == BACKUP_MODE_PUSH)
                out->total = info.end;
        } else if (job->disks[i].end == DISK_COMPLETED && job->plan->mode == BACKUP_MODE_PUSH) {
            out->bytes = out->total;
        }
    }
    sum_up (job);
}

/* The job is over and no event told how: libvirt's statistics do, if they are of this job. */
static void ask_result (LvJob *job, virDomainPtr domain)
{
    virTypedParameterPtr params = NULL;
    int count = 0, type = VIR_DOMAIN_JOB_NONE, operation = 0, success = 1;
    const char *failure = NULL;
    unsigned long long total = 0;

    if (virDomainGetJobStats (domain, &type, &params, &count, VIR_DOMAIN_JOB_STATS_COMPLETED | VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED) != 0)
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
    if (!backup && job->told)
        end_by_libvirt (job, job->told_success, job->told_failure);
    else if (!backup)
        end_by_libvirt (job, FALSE, _("libvirt keeps no result of this job (it was restarted, or another job has replaced it): nothing shows that the copy is complete"));
    else if (good && job->adopted && (total == 0 || total != known))
        end_by_libvirt (job, FALSE, _("the job ended while nobody watched it, and nothing shows that the result which libvirt keeps is of this job"));
    else
        end_by_libvirt (job, good, failure);
    job->lost = !backup && !job->told;
    job->lost = job->lost || (good && !job->success);
    if (backup && total)
        job->total = total;
    virTypedParamsFree (params, count);
}

static void note_gone (LvJob *job, virDomainPtr domain)
{
    static const struct { int reason, detail; } details[] = {
        { VIR_DOMAIN_SHUTOFF_SHUTDOWN, VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN }, { VIR_DOMAIN_SHUTOFF_DESTROYED, VIR_DOMAIN_EVENT_STOPPED_DESTROYED },
        { VIR_DOMAIN_SHUTOFF_CRASHED, VIR_DOMAIN_EVENT_STOPPED_CRASHED }, { VIR_DOMAIN_SHUTOFF_MIGRATED, VIR_DOMAIN_EVENT_STOPPED_MIGRATED },
        { VIR_DOMAIN_SHUTOFF_SAVED, VIR_DOMAIN_EVENT_STOPPED_SAVED },
        { VIR_DOMAIN_SHUTOFF_FAILED, VIR_DOMAIN_EVENT_STOPPED_FAILED } };
    int state = 0, reason = 0, detail = -1;
    if (domain)
        virDomainGetState (domain, &state, &reason, 0);
    for (guint i = 0; i < G_N_ELEMENTS (details); i++)
        if (domain && details[i].reason == reason)
            detail = details[i].detail;
    job->gone = TRUE;
    if (!job->gone_why)
        job->gone_why = g_strdup (why_gone (VIR_DOMAIN_EVENT_STOPPED, detail));
}

/* A transient guest that goes takes with it what could be asked: its last event is waited for. */
static void note_missing (LvJob *job)
{
    gint64 now = g_get_monotonic_time ();
    if (!job->missing_since)
        job->missing_since = now;
    job->next_tick = now;
    if (now > job->missing_since + MISSING_MS * 1000LL)
        note_gone (job, NULL);
}

/* Also when it was lost and there again between two looks. */
static void note_connection (LvJob *job, gboolean connected, const char *why)
{
    guint number = lv_connection_number (job->guest->lv);
    gboolean changed = job->connection && job->connection != number;
    if (job->disconnected == !connected && !(connected && changed))
        return;
    job->disconnected = !connected;
    if (connected)
        job->connection = number;
    g_autoptr (GDateTime) now = g_date_time_new_now_utc ();
    g_autofree char *when = g_date_time_format (now, "%FT%TZ");
    g_autofree char *text = connected ? g_strdup_printf (_("%s: connected to libvirt again"), when) : g_strdup_printf (_("%s: libvirt is not reachable: %s"), when, why);
    job_record_note (&job->record, text);
    warn (job, text);
}

/* Is what runs now ours? Sets ended when it is not. */
static void ask_identity (LvJob *job, virDomainPtr domain)
{
    g_autoptr (GError) failure = NULL;
    g_autoptr (LvRunning) running = lv_running_load (domain, &failure);
    if (failure)
        return;
    if (!running || !lv_running_is (running, job->plan)) {
        ask_result (job, domain);
        return;
    }
    job->adopted = FALSE;
    for (guint i = 0; i < job->plan->disks->len; i++) {
        job->disks[i].index = GPOINTER_TO_UINT (g_hash_table_lookup (running->indexes, ((PlanDisk *) job->plan->disks->pdata[i])->target));
        lv_watch_arm (job, i, NULL);
    }
}

void lv_job_refresh (LvGuest *guest)
{
    LvJob *job = guest->job;
    g_autoptr (GError) failure = NULL;

    if (!job || job->record.state == JOB_STATE_PREPARING || job->gone)
        return;
    g_autoptr (virDomain) domain = lv_guest_domain (guest, &failure);
    if (!domain && error_code (failure) == BAK_ERROR_NO_DOMAIN) {
        note_missing (job);
        publish (job);
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
        publish (job);
        return;
    }
    gboolean was_away = job->disconnected || job->connection != lv_connection_number (guest->lv);
    note_connection (job, TRUE, NULL);
    if (type == VIR_DOMAIN_JOB_NONE && !job->ended)
        ask_result (job, domain);
    else if ((was_away || job->adopted) && !job->ended)
        ask_identity (job, domain);
    ask_disks (job, domain);
    publish (job);
}

/* Until libvirt's job is over and each of its disks said so, by events where they come, else by asking. */
gboolean lv_job_wait_ended (LvJob *job, guint timeout_ms, GError **error)
{
    LvGuest *guest = job->guest;
    gint64 now = g_get_monotonic_time (), deadline = now + timeout_ms * 1000LL, next = now + TICK_MS * 1000LL;

    for (;;) {
        gboolean all = job->ended;
        for (guint i = 0; i < job->plan->disks->len; i++)
            all = all && job->disks[i].end != DISK_RUNS;
        now = g_get_monotonic_time ();
        if (all || job->gone || (job->ended && now > job->ended_at + SETTLE_MS * 1000LL))
            return TRUE;
        if (now > deadline)
            return error_set (error, BAK_ERROR_TIMEOUT, _("libvirt's job on guest '%s' does not end"), guest->name);
        LvNote *note = g_async_queue_timeout_pop (guest->notes, WAIT_SLICE_MS * 1000);
        if (note)
            lv_job_take (job, note);
        lv_note_free (note);
        if ((now < next && !job->told) || job->ended)
            continue;
        next = now + TICK_MS * 1000LL;
        g_autoptr (virDomain) domain = lv_guest_domain (guest, NULL);
        virDomainJobInfo info;
        if (domain && virDomainIsActive (domain) == 0)
            note_gone (job, domain);
        else if (domain && virDomainGetJobInfo (domain, &info) == 0 && info.type == VIR_DOMAIN_JOB_NONE)
            ask_result (job, domain);
    }
}

/* ---- end ---- */

/* A guest that an I/O error of ours has paused runs on; one that paused for another reason pauses again by itself. */
static void resume_guest (LvJob *job)
{
    g_autoptr (virDomain) domain = job->was_running && !job->gone ? lv_guest_domain (job->guest, NULL) : NULL;
    int state, reason;
    if (!domain || virDomainGetState (domain, &state, &reason, 0) != 0 || state != VIR_DOMAIN_PAUSED || reason != VIR_DOMAIN_PAUSED_IOERROR)
        return;
    if (virDomainResume (domain) == 0) {
        job_record_note (&job->record, _("the guest was paused by an I/O error during the backup and was resumed"));
        warn (job, _("the guest was paused by an I/O error during the backup and was resumed"));
    } else {
        job_record_note (&job->record, _("the guest was paused by an I/O error during the backup and could not be resumed"));
    }
}

static gboolean write_end (LvJob *job, JobEvent event, const GError *failure)
{
    job_record_end (&job->record, event, failure);
    set_disk_states (job, job->record.state);
    gboolean saved = save_record (job);
    record_prune (job->guest->dir, config_get_int ("keep_jobs", RECORD_KEEP_DEFAULT));
    return saved;
}

/* clean: nothing of ours is left, the journal may go. */
static void conclude (LvJob *job, JobEvent event, const GError *failure, gboolean clean)
{
    LvGuest *guest = job->guest;
    if (write_end (job, event, failure) && clean && !job->run.frozen)      /* else the next owner finds the journal */
        journal_remove (guest->online);
    bak_event completed = job_event_completed (&job->record);
    emit_state (job);
    lv_guest_emit (guest, &completed);
    g_atomic_int_set (&guest->cancel, FALSE);
    if (guest->job == job)
        guest->job = NULL;
    lv_guest_unlock (guest);
    lv_job_free (job);
}

static gboolean can_probe (const LvJob *job)
{
    const Plan *plan = job->plan;
    gboolean tls = plan->server && g_str_has_prefix (plan->server, "nbds");
    return job->guest->lv->local && (!tls || (plan->server_tls && probe_possible (plan, NULL)));
}

static gboolean probe_all (LvJob *job, GError **error)
{
    for (guint i = 0; can_probe (job) && i < job->plan->disks->len; i++)
        if (!probe_export (job->plan, job->plan->disks->pdata[i], PROBE_TIMEOUT_MS, error))
            return FALSE;
    return TRUE;
}

static gboolean check_pull (LvJob *job, GError **error)
{
    g_autoptr (virDomain) domain = lv_guest_domain (job->guest, error);
    g_autoptr (LvRunning) running = domain ? lv_running_load (domain, error) : NULL;
    if (!domain || (!running && error && *error))
        return FALSE;
    if (!running || !lv_running_is (running, job->plan))
        return error_set (error, BAK_ERROR_INEXACT, _("libvirt's job that keeps the point in time is not there any more: it was ended by somebody else"));
    virDomainDiskErrorPtr errors = NULL;
    int possible = virDomainGetDiskErrors (domain, NULL, 0, 0), found = 0;
    if (possible > 0) {
        errors = calloc (possible, sizeof *errors);
        found = virDomainGetDiskErrors (domain, errors, possible, 0);
    }
    gboolean ok = TRUE;
    for (int i = 0; i < found; i++) {
        for (guint k = 0; k < job->plan->disks->len; k++)
            if (ok && g_strcmp0 (((PlanDisk *) job->plan->disks->pdata[k])->target, errors[i].disk) == 0)
                ok = error_set (error, BAK_ERROR_INEXACT, _("disk '%s': QEMU reports an I/O error on it"), errors[i].disk);
        free (errors[i].disk);
    }
    free (errors);
    return ok && probe_all (job, error);
}

/* The provisional checkpoint becomes a real one: libvirt has it; what libvirt does not keep goes into a record of ours. Idempotent. */
static gboolean promote (LvJob *job, GError **error)
{
    const Plan *plan = job->plan;
    if (!plan->checkpoint || checkpoint_exists (job->guest->dir, plan->checkpoint))
        return TRUE;
    return lv_checkpoint_record (job->guest, plan, plan->job, error);
}

/* Nobody has deleted the provisional checkpoint or one of its bitmaps meanwhile. */
static gboolean checkpoint_is_kept (LvJob *job, GError **error)
{
    const char *name = job->plan->checkpoint;
    if (!name)
        return TRUE;
    g_autoptr (virDomain) domain = lv_guest_domain (job->guest, error);
    if (!domain)
        return FALSE;
    g_autoptr (LvCheckpoint) checkpoint = lv_checkpoint_load (domain, name, TRUE);
    if (!checkpoint)
        return error_set (error, BAK_ERROR_INEXACT, _("somebody has deleted checkpoint '%s' during the backup that makes it"), name);
    for (guint i = 0; i < json_array_get_length (job->plan->checkpoint_disks); i++) {
        const char *disk = json_get_string (json_get_element (job->plan->checkpoint_disks, i), "disk");
        const LvCheckpointDisk *kept = disk ? lv_checkpoint_disk (checkpoint, disk) : NULL;
        if (disk && (!kept || !kept->has_size))
            return error_set (error, BAK_ERROR_INEXACT, _("disk '%s': somebody has removed the bitmap of checkpoint '%s'"), disk, name);
    }
    return TRUE;
}

/* Whether what was made is good: the last word before success is said. */
static gboolean verify_and_finish (LvJob *job, GError **error)
{
    if (job->finished)
        return promote (job, error);
    if (!checkpoint_is_kept (job, error) || (job->plan->mode == BACKUP_MODE_PULL && !check_pull (job, error)))
        return FALSE;
    if (!run_finish (&job->run, error) || !journal_phase (job->run.journal, "finished", JOB_STATE_COMPLETED, 0, NULL, error))
        return FALSE;
    job->finished = TRUE;
    return promote (job, error);
}

/* outcome: JOB_EVENT_GOOD, BAD or ABORTED; failure: the root cause (borrowed), NULL when good. Frees the job. */
static void job_end (LvJob *job, JobEvent outcome, const GError *failure)
{
    static const int states[JOB_EVENTS] = { [JOB_EVENT_GOOD] = JOB_STATE_COMPLETED, [JOB_EVENT_BAD] = JOB_STATE_FAILED, [JOB_EVENT_ABORTED] = JOB_STATE_ABORTED };
    g_autoptr (GError) bad = NULL, undo_failure = NULL;

    if (!job_record_move (&job->record, JOB_EVENT_END))
        return;
    if (failure)
        job_record_set_error (&job->record, failure);
    if (job->run.journal)
        journal_phase (job->run.journal, "stopping", states[outcome], job->record.error_code, job->record.error, NULL);
    save_record (job);
    emit_state (job);
    if (outcome == JOB_EVENT_GOOD && !verify_and_finish (job, &bad)) {
        outcome = JOB_EVENT_BAD;
        job_record_set_error (&job->record, bad);
        journal_phase (job->run.journal, "stopping", JOB_STATE_FAILED, job->record.error_code, job->record.error, NULL);
    }
    gboolean clean = run_undo (&job->run, outcome == JOB_EVENT_GOOD, &undo_failure);
    if (!clean) {
        g_autofree char *text = g_strdup_printf (_("not everything could be undone, the next command tries again: %s"), undo_failure->message);
        job_record_note (&job->record, text);
        warn (job, text);
    }
    if (outcome != JOB_EVENT_GOOD)
        resume_guest (job);
    conclude (job, outcome, bad ? bad : failure, clean);
}

/* ---- while it runs ---- */

static void emit_progress (LvJob *job)
{
    bak_event event = job_event_progress (&job->record, &job->pace);
    lv_guest_emit (job->guest, &event);
}

/* The disk whose failure ended the rest: the one that libvirt says failed, else the first whose end is not known. */
static guint root_disk (const LvJob *job)
{
    for (guint i = 0; i < job->plan->disks->len; i++)
        if (job->disks[i].end == DISK_FAILED)
            return i;
    for (guint i = 0; i < job->plan->disks->len; i++)
        if (job->disks[i].end == DISK_RUNS)
            return i;
    return 0;
}

static void mark_failed (LvJob *job, guint root, const char *text)
{
    bak_job_disk *disk = &job->record.disks.disks_val[root];
    job_record_set_text (&disk->error, text);
    disk->state = JOB_STATE_FAILED;
    emit_disk (job, disk);
    for (guint i = 0; i < job->record.disks.disks_len; i++) {
        bak_job_disk *other = &job->record.disks.disks_val[i];
        if (i == root || job_state_ended (other->state))
            continue;
        gboolean done = job->disks[i].end == DISK_COMPLETED;
        g_autofree char *reason = g_strdup_printf (done ? _("copied, but removed because disk '%s' failed") : _("cancelled because disk '%s' failed"), disk->target);
        job_record_set_text (&other->error, reason);
        other->state = JOB_STATE_ABORTED;
        emit_disk (job, other);
    }
}

/* libvirt forgets the reason when it was restarted meanwhile; a full file system can still be seen. */
static char *reason_of (const LvJob *job, const PlanDisk *disk)
{
    if (job->failure)
        return g_strdup (job->failure);
    LvSpace space = job->guest->lv->local ? lv_space (disk->path) : (LvSpace) { 0 };
    if (space.known && space.available < 1024 * 1024)
        return g_strdup_printf (_("No space left on device (libvirt kept no reason; the file system has %" G_GUINT64_FORMAT " bytes left)"), space.available);
    return g_strdup (_("libvirt says that it failed and kept no reason"));
}

static void push_failed (LvJob *job)
{
    guint root = root_disk (job);
    const PlanDisk *disk = job->plan->disks->pdata[root];
    g_autofree char *reason = reason_of (job, disk);
    g_autoptr (GError) failure = NULL;
    BakErrorCode code = job->lost ? BAK_ERROR_INEXACT : error_code_from_text (reason);

    if (code == BAK_ERROR_ABORTED)
        error_set (&failure, code, _("the job was cancelled by somebody else: %s"), reason);
    else if (job->lost)
        error_set (&failure, code, "%s", reason);
    else
        error_set (&failure, code, _("disk '%s': target '%s': %s"), disk->target, disk->path ? disk->path : "?", reason);
    mark_failed (job, root, failure->message);
    job_end (job, JOB_EVENT_BAD, failure);
}

static gboolean settled (const LvJob *job)
{
    for (guint i = 0; i < job->plan->disks->len; i++)
        if (job->disks[i].end == DISK_RUNS && g_get_monotonic_time () < job->ended_at + SETTLE_MS * 1000LL)
            return FALSE;
    return TRUE;
}

/* libvirt counts all disks together at the end. A disk that was copied before it could be asked for has what is left, the
 * increments among them by what their bitmaps said before. */
static void count_bytes (LvJob *job)
{
    guint64 rest = job->total, estimates = 0;
    for (guint i = 0; i < job->plan->disks->len; i++) {
        bak_job_disk *disk = &job->record.disks.disks_val[i];
        gboolean known = job->disks[i].counted || g_str_equal (disk->type, "full") || !job->total;
        if (known)
            rest -= MIN (rest, disk->total);
        else
            estimates += job->disks[i].estimate;
        if (!job->total && job->disks[i].estimated && !job->disks[i].counted)       /* it had nothing to count */
            disk->total = job->disks[i].estimate;
        disk->bytes = disk->total;
    }
    for (guint i = 0; job->total && i < job->plan->disks->len; i++) {
        bak_job_disk *disk = &job->record.disks.disks_val[i];
        if (job->disks[i].counted || g_str_equal (disk->type, "full"))
            continue;
        disk->bytes = disk->total = estimates ? (guint64) ((double) rest * job->disks[i].estimate / estimates) : rest / job->plan->disks->len;
    }
}

/* FALSE: the job has ended. */
static gboolean mind_end (LvJob *job)
{
    g_autoptr (GError) failure = NULL;
    if (job->gone) {
        error_set (&failure, BAK_ERROR_CONNECTION, "%s", job->gone_why);
        job_end (job, JOB_EVENT_BAD, failure);
        return FALSE;
    }
    if (!job->ended)
        return TRUE;
    if (job->plan->mode == BACKUP_MODE_PULL) {
        error_set (&failure, BAK_ERROR_INEXACT, _("libvirt's job that keeps the point in time has ended (%s): it was ended by somebody else (domjobabort), not by a verdict"),
                   job->failure ? job->failure : _("no reason given"));
        job_end (job, JOB_EVENT_BAD, failure);
        return FALSE;
    }
    if (!settled (job))
        return TRUE;
    gboolean good = job->success;
    for (guint i = 0; i < job->plan->disks->len; i++)
        good = good && job->disks[i].end != DISK_FAILED && job->disks[i].end != DISK_CANCELLED;
    if (!good) {
        push_failed (job);
        return FALSE;
    }
    count_bytes (job);
    job_end (job, JOB_EVENT_GOOD, NULL);
    return FALSE;
}

/* A guest that stands still because of us must run again at once. */
static gboolean mind_pause (LvJob *job)
{
    g_autoptr (GError) failure = NULL;
    if (!job->paused)
        return TRUE;
    gboolean remote = !job->guest->lv->local && (strstr (job->paused, "enospc") || strstr (job->paused, "space"));
    for (guint i = 0; i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        LvSpace space = job->guest->lv->local ? lv_space (store_path (disk)) : (LvSpace) { 0 };
        if (!remote && !(space.known && space.available < job->disks[i].reserve))
            continue;
        error_set (&failure, BAK_ERROR_NO_SPACE, disk->path ? _("disk '%s': target '%s': No space left on device: it had paused the guest") : _("disk '%s': scratch '%s': No space left on device: it had paused the guest"),
                   disk->target, store_path (disk));
        mark_failed (job, i, failure->message);
        job_end (job, JOB_EVENT_BAD, failure);
        return FALSE;
    }
    warn (job, _("the guest was paused by an I/O error that is not of the backup's making"));
    g_clear_pointer (&job->paused, g_free);
    return TRUE;
}

static gboolean mind_space (LvJob *job)
{
    g_autoptr (GError) failure = NULL;
    guint disk;
    if (lv_watch_space (job, &disk, &failure))
        return TRUE;
    warn (job, failure->message);
    mark_failed (job, disk, failure->message);
    job_end (job, JOB_EVENT_BAD, failure);
    return FALSE;
}

/* An export that is gone may be the first that is seen of it. */
static gboolean wait_for_the_end_of_qemu (LvJob *job)
{
    gint64 deadline = g_get_monotonic_time () + MISSING_MS * 1000LL;
    while (!job->gone && g_get_monotonic_time () < deadline) {
        LvNote *note = g_async_queue_timeout_pop (job->guest->notes, WAIT_SLICE_MS * 1000);
        if (note)
            lv_job_take (job, note);
        lv_note_free (note);
        lv_job_refresh (job->guest);
    }
    return job->gone;
}

static gboolean mind_export (LvJob *job, gint64 now)
{
    g_autoptr (GError) failure = NULL;
    if (job->plan->mode != BACKUP_MODE_PULL || now < job->next_probe || job->disconnected)
        return TRUE;
    job->next_probe = now + PROBE_MS * 1000LL;
    if (job->plan->idle_timeout && lv_count_readers (job->plan) != 0)
        job->last_reader = now;
    if (!probe_all (job, &failure)) {
        if (!wait_for_the_end_of_qemu (job))
            job_end (job, JOB_EVENT_BAD, failure);
        else
            mind_end (job);
        return FALSE;
    }
    if (!job->plan->idle_timeout || now < job->last_reader + job->plan->idle_timeout * G_USEC_PER_SEC)
        return TRUE;
    error_set (&failure, BAK_ERROR_TIMEOUT, _("nobody has read the export for %u s (idle-timeout)"), job->plan->idle_timeout);
    job_end (job, JOB_EVENT_ABORTED, failure);
    return FALSE;
}

gboolean lv_job_tick (LvGuest *guest)
{
    LvJob *job = guest->job;
    gint64 now = g_get_monotonic_time ();

    if (job->record.state != JOB_STATE_RUNNING && job->record.state != JOB_STATE_READY)
        return TRUE;
    if (now >= job->next_tick) {
        job->next_tick = now + TICK_MS * 1000LL;
        lv_job_refresh (guest);
        emit_progress (job);
    }
    if (!mind_end (job) || !mind_pause (job) || !mind_space (job) || !mind_export (job, now))
        return FALSE;
    if (job->deadline && now >= job->deadline) {
        g_autoptr (GError) late = NULL;
        error_set (&late, BAK_ERROR_TIMEOUT, _("the job took longer than it was given (--timeout)"));
        job_end (job, JOB_EVENT_ABORTED, late);
        return FALSE;
    }
    return TRUE;
}

/* ---- begin ---- */

static JsonObject *journal_meta (const LvJob *job, const bak_begin_args *args)
{
    return obj ("started", "i", (gint64) job->record.started, "timeout", "i", (gint64) args->timeout, "flags", "i", (gint64) args->flags,
                "was-running", "b", job->was_running, "protect", "b", job->protect, "scratch-limit", "i", (gint64) job->scratch_limit, NULL);
}

static void begun (LvJob *job)
{
    job_record_freeze (&job->record, &job->run);
    journal_phase (job->run.journal, "running", 0, 0, NULL, NULL);
    job_record_move (&job->record, job->plan->mode == BACKUP_MODE_PULL ? JOB_EVENT_BEGUN_PULL : JOB_EVENT_BEGUN_PUSH);
    job->next_probe = g_get_monotonic_time () + PROBE_MS * 1000LL;
    set_disk_states (job, job->record.state);
    save_record (job);
    emit_state (job);
}

static void note_space (LvGuest *guest, Plan *plan)
{
    for (guint i = 0; guest->lv->local && i < plan->disks->len; i++) {
        const PlanDisk *disk = plan->disks->pdata[i];
        LvSpace space = lv_space (store_path (disk));
        if (space.known && space.available < disk->size)
            g_ptr_array_add (plan->notes, g_strdup_printf (_("disk '%s': '%s' has %" G_GUINT64_FORMAT " bytes of space, the disk %" G_GUINT64_FORMAT ": it may not suffice"),
                                                           disk->target, store_path (disk), space.available, disk->size));
    }
}

static void estimate (LvJob *job, const LvRequest *request)
{
    for (guint i = 0; i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        for (guint k = 0; k < request->bases->len; k++) {
            const LvCheckpoint *base = request->bases->pdata[k];
            const LvCheckpointDisk *in_base = g_strcmp0 (base->name, disk->since) == 0 ? lv_checkpoint_disk (base, disk->target) : NULL;
            if (!in_base || !in_base->has_size)
                continue;
            job->disks[i].estimated = TRUE;
            job->disks[i].estimate = in_base->size;
        }
    }
}

static gboolean is_running (LvGuest *guest)
{
    g_autoptr (virDomain) domain = lv_guest_domain (guest, NULL);
    int state = 0, reason;
    return domain && virDomainGetState (domain, &state, &reason, 0) == 0 && state == VIR_DOMAIN_RUNNING;
}

/* One try. *ret_learnt: libvirt refused an increment, another plan may do; nothing is left of this one. */
static gboolean try_begin (LvGuest *guest, const bak_begin_args *args, LvRequest *request, gboolean *ret_learnt, bak_begin_ret *ret, GError **error)
{
    g_autoptr (GError) failure = NULL;
    Plan *plan = lv_request_plan (guest, args, request, error);

    *ret_learnt = FALSE;
    if (!plan)
        return FALSE;
    note_space (guest, plan);
    LvJob *job = guest->job = job_new (guest, plan, NULL, NULL);
    job->was_running = is_running (guest);
    estimate (job, request);
    job->protect = request->def->protect != PROTECT_NO;
    job->scratch_limit = request->def->scratch_limit;
    job->connection = lv_connection_number (guest->lv);
    job_record_init (&job->record, plan, guest->name);
    job->run.journal = journal_create (guest->online, plan, journal_meta (job, args), error);
    if (!job->run.journal || !record_save (guest->dir, &job->record, error)) {
        journal_remove (guest->online);
        guest->job = NULL;
        lv_job_free (job);
        return FALSE;
    }
    publish (job);
    emit_state (job);
    for (LvNote *note; (note = g_async_queue_try_pop (guest->notes));)
        lv_note_free (note);                /* of jobs before this one */
    job->run.cancel = &guest->cancel;
    gboolean ok = run_steps (&job->run, &failure);
    job->run.cancel = NULL;
    if (ok) {
        job->deadline = args->timeout ? job->began + (gint64) args->timeout : 0;
        begun (job);
        job_record_begin_ret (&job->record, ret);
        lv_guest_start_thread (guest);
        return TRUE;
    }
    *ret_learnt = lv_request_learn (request, failure);
    if (*ret_learnt) {
        journal_remove (guest->online);
        guest->job = NULL;
        lv_job_free (job);
        return FALSE;
    }
    resume_guest (job);
    lv_note_frozen (&job->run, &failure);
    conclude (job, error_code (failure) == BAK_ERROR_ABORTED ? JOB_EVENT_ABORTED : JOB_EVENT_BAD, failure, !job->run.frozen && !job->run.undo_failed);
    g_propagate_error (error, g_steal_pointer (&failure));
    return FALSE;
}

static gboolean refuse_second (LvGuest *guest, GError **error)
{
    return error_set (error, BAK_ERROR_BUSY, _("guest '%s': backup job %s is %s; wait for it or stop it (backup-stop)"), guest->name,
                      guest->job->record.id, job_state_to_string (guest->job->record.state));
}

gboolean lv_job_begin (LvGuest *guest, const bak_begin_args *args, bak_begin_ret *ret, GError **error)
{
    g_auto (LvRequest) request = { 0 };
    gboolean again = TRUE, ok = FALSE;

    if (guest->job)
        return refuse_second (guest, error);
    if (!lv_guest_lock (guest, error))
        return FALSE;
    if (!lv_job_recover (guest, error)) {
        lv_guest_unlock (guest);
        return FALSE;
    }
    if (guest->job)
        return refuse_second (guest, error);
    if (!lv_guest_lock (guest, error))      /* the end of a recovered job gave it up */
        return FALSE;
    g_atomic_int_set (&guest->cancel, FALSE);
    ok = lv_request_load (guest, args, &request, error);
    if (ok && !request.picture->active) {
        lv_guest_unlock (guest);
        return lv_offline_begin (guest, request.picture, CALL_ID_backup_begin, args, ret, error);
    }
    ok = ok && lv_guest_make_dirs (guest, request.picture, error);
    while (ok && again) {
        g_clear_error (error);
        ok = try_begin (guest, args, &request, &again, ret, error);
        again = !ok && again;
        ok = ok || again;
    }
    if (!guest->job)
        lv_guest_unlock (guest);
    return ok;
}

gboolean lv_job_plan (LvGuest *guest, const bak_begin_args *args, bak_text_ret *ret, GError **error)
{
    g_auto (LvRequest) request = { 0 };
    if (!lv_request_load (guest, args, &request, error))
        return FALSE;
    if (!request.picture->active)
        return lv_offline_begin (guest, request.picture, CALL_ID_backup_plan, args, ret, error);
    g_autoptr (Plan) plan = lv_request_plan (guest, args, &request, error);
    if (!plan)
        return FALSE;
    note_space (guest, plan);
    g_autoptr (JsonNode) node = plan_to_json (plan);
    g_autofree char *document = json_write (node);
    ret->text = ret_string (document);
    return TRUE;
}

/* ---- requests ---- */

static void take_notes (LvGuest *guest)
{
    for (LvNote *note; (note = g_async_queue_try_pop (guest->notes));) {
        lv_job_take (guest->job, note);
        lv_note_free (note);
    }
}

gboolean lv_job_stop (LvGuest *guest, gboolean abort, bak_job *ret, GError **error)
{
    LvJob *job = guest->job;
    g_autoptr (GError) why = NULL;
    gboolean pull = job->plan->mode == BACKUP_MODE_PULL;

    take_notes (guest);
    lv_job_refresh (guest);
    if (abort) {
        error_set (&why, BAK_ERROR_ABORTED, _("aborted on request"));
        job_end (job, JOB_EVENT_ABORTED, why);
    } else if (job->disconnected) {
        return error_set (error, BAK_ERROR_CONNECTION, _("libvirt is not reachable: job %s cannot be stopped now"), job->record.id);
    } else if (!mind_end (job) || !mind_pause (job)) {
        /* it had just ended by itself */
    } else if (job->ended) {
        lv_job_wait_ended (job, SETTLE_MS, NULL);
        job->ended_at = 0;
        mind_end (job);
    } else if (pull) {
        job_end (job, JOB_EVENT_GOOD, NULL);
    } else {
        error_set (&why, BAK_ERROR_ABORTED, _("stopped before it had finished"));
        job_end (job, JOB_EVENT_ABORTED, why);
    }
    g_mutex_lock (&guest->snapshot_lock);
    bak_job_copy (&guest->snapshot, ret);
    g_mutex_unlock (&guest->snapshot_lock);
    return TRUE;
}

gboolean lv_job_limit (LvGuest *guest, const char *disk, guint64 bytes_per_sec, GError **error)
{
    LvJob *job = guest->job;
    gboolean found = FALSE;

    if (job->plan->mode == BACKUP_MODE_PULL)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("a pull backup is as fast as its reader: limit the reader"));
    if (bytes_per_sec > G_MAXINT64)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("the rate is too large"));
    g_autoptr (virDomain) domain = lv_guest_domain (guest, error);
    if (!domain)
        return FALSE;
    guint64 share = *disk || !bytes_per_sec ? bytes_per_sec : MAX (1, bytes_per_sec / job->plan->disks->len);
    for (guint i = 0; i < job->plan->disks->len; i++) {
        PlanDisk *plan_disk = job->plan->disks->pdata[i];
        if (*disk && !g_str_equal (plan_disk->target, disk))
            continue;
        found = TRUE;
        if (job->disks[i].end != DISK_RUNS)
            continue;
        if (!lv_job_set_speed (domain, plan_disk->target, share, error))
            return error_note (error, _("disk '%s'"), plan_disk->target);
        job->record.disks.disks_val[i].limit = plan_disk->limit = share;
    }
    if (!found)
        return error_set (error, BAK_ERROR_NO_DISK, _("disk '%s' is not in job %s"), disk, job->record.id);
    save_record (job);
    return TRUE;
}

/* ---- recover ---- */

static LvJob *job_from_journal (LvGuest *guest, JournalState *state)
{
    LvJob *job = job_new (guest, g_steal_pointer (&state->plan), state->states, state->files);
    job->run.frozen = state->frozen;
    if (state->frozen)
        job->run.frozen_since = g_get_monotonic_time ();
    job->run.journal = journal_open (guest->online, NULL);
    if (!record_load (guest->dir, job->plan->job, &job->record, NULL))
        job_record_init (&job->record, job->plan, guest->name);
    gint64 started = json_get_int (state->meta, "started", 0), timeout = json_get_int (state->meta, "timeout", 0);
    if (started)
        job->record.started = started;
    job->began = g_get_monotonic_time () - MAX (0, g_get_real_time () - job->record.started);
    job->deadline = timeout > 0 ? job->began + timeout : 0;
    job->scratch_limit = json_get_int (state->meta, "scratch-limit", 0);
    job->was_running = json_get_bool (state->meta, "was-running", FALSE);
    job->protect = json_get_bool (state->meta, "protect", TRUE);
    job->connection = lv_connection_number (guest->lv);
    job->adopted = TRUE;
    return job;
}

static gboolean recover_damaged (LvGuest *guest)
{
    GArray *jobs = record_list (guest->dir, NULL);
    for (guint i = 0; i < jobs->len; i++) {
        bak_job *job = &g_array_index (jobs, bak_job, i);
        if (!job_state_ended (job->state)) {
            job->state = JOB_STATE_FAILED;
            job->ended = g_get_real_time ();
            job->error_code = BAK_ERROR_IO;
            job_record_set_text (&job->error, _("the journal of the job was damaged: look for a job of libvirt (domjobinfo), files and a checkpoint that it made"));
            record_save (guest->dir, job, NULL);
        }
        bak_job_clear (job);
    }
    g_array_unref (jobs);
    journal_remove (guest->online);
    return TRUE;
}

/* The record was written; something could not be undone then. */
static gboolean recover_rest (LvGuest *guest, LvJob *job, GError **error)
{
    gboolean clean = run_undo (&job->run, job->record.state == JOB_STATE_COMPLETED, error);
    if (clean)
        journal_remove (guest->online);
    guest->job = NULL;
    lv_job_free (job);
    return clean;
}

gboolean lv_job_recover (LvGuest *guest, GError **error)
{
    if (!journal_exists (guest->online))
        return TRUE;
    g_autoptr (JournalState) state = journal_read (guest->online, error);
    g_autoptr (GError) why = NULL;
    if (!state)
        return FALSE;
    if (!state->plan)
        return recover_damaged (guest);
    gboolean running = g_str_equal (state->phase, "running"), finished = g_str_equal (state->phase, "finished"), stopping = g_str_equal (state->phase, "stopping");
    LvJob *job = guest->job = job_from_journal (guest, state);
    if (job_state_ended (job->record.state))
        return recover_rest (guest, job, error);
    if (running) {
        if (job->record.state == JOB_STATE_PREPARING)
            begun (job);
        lv_job_refresh (guest);
        publish (job);
        job->next_probe = g_get_monotonic_time ();
        emit_state (job);
        lv_guest_start_thread (guest);
        return TRUE;
    }
    if (job->record.state != JOB_STATE_STOPPING)
        job->record.state = JOB_STATE_STOPPING;
    if (finished) {
        job->finished = TRUE;
        job_end (job, JOB_EVENT_GOOD, NULL);
        return TRUE;
    }
    if (stopping && state->outcome == JOB_STATE_COMPLETED) {
        job_end (job, JOB_EVENT_GOOD, NULL);        /* what it had yet to show is looked at again */
        return TRUE;
    }
    if (stopping)
        error_set (&why, state->error_code ? state->error_code : BAK_ERROR_INTERNAL, "%s", state->error && *state->error ? state->error : "?");
    else
        error_set (&why, BAK_ERROR_INTERNAL, _("the process that began the backup died before it was running; everything was undone"));
    job_end (job, state->outcome == JOB_STATE_ABORTED ? JOB_EVENT_ABORTED : JOB_EVENT_BAD, why);
    return TRUE;
}
