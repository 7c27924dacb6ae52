/* Begin, run and end of a backup that libvirt does. libvirt's own word counts for little: a pull is
 * done by the consumer's verdict, a push when its targets are released and synced, a result that
 * was lost is no success. Every end goes through job_end(); states move by the qemu driver's table.
 */
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

enum { PROBE_TIMEOUT_MS = 10000, SETTLE_MS = 3000, WAIT_SLICE_MS = 100, MISSING_MS = 1000 };

/* ---- a Job ---- */

static const char *store_path (const PlanDisk *disk)
{
    return disk->path ? disk->path : disk->scratch;
}

static void job_init (Job *job)
{
    LvGuest *guest = job->guest;
    JobOwn *own = job->own = g_new0 (JobOwn, 1);
    own->disks = g_new0 (LvJobDisk, MAX (job->plan->disks->len, 1));
    own->connection = lv_connection_number (guest->lv);
    for (guint i = 0; guest->lv->local && i < job->plan->disks->len; i++)
        own->disks[i].reserve =
            lv_space_reserve (lv_space (store_path (job->plan->disks->pdata[i])).available);
}

static void job_clear (Job *job)
{
    JobOwn *own = job->own;
    g_free (own->disks);
    g_free (own->failure);
    g_free (own->told_failure);
    g_free (own->gone_why);
    g_free (own->paused);
    g_free (own);
}

static void let_go (Job *job)
{
    if (job->guest->job == job)
        job->guest->job = NULL;
}

/* ---- end ---- */

/* A guest that an I/O error of ours has paused runs on; one that paused for another reason pauses
 * again by itself. */
static void resume_guest (Job *job)
{
    g_autoptr (virDomain) domain =
        job->own->was_running && !job->own->gone ? lv_guest_domain (job->guest, NULL) : NULL;
    int state, reason;
    if (!domain || virDomainGetState (domain, &state, &reason, 0) != 0 || state != VIR_DOMAIN_PAUSED
        || reason != VIR_DOMAIN_PAUSED_IOERROR)
        return;
    if (virDomainResume (domain) == 0) {
        job_record_note (
            &job->record,
            _("the guest was paused by an I/O error during the backup and was resumed"));
        job_warn (job,
                  _("the guest was paused by an I/O error during the backup and was resumed"));
    } else {
        job_record_note (
            &job->record,
            _("the guest was paused by an I/O error during the backup and could not be resumed"));
    }
}

static gboolean can_probe (const Job *job)
{
    const Plan *plan = job->plan;
    gboolean tls = plan->server && g_str_has_prefix (plan->server, "nbds");
    return job->guest->lv->local && (!tls || (plan->server_tls && probe_possible (plan, NULL)));
}

static gboolean probe_all (Job *job, GError **error)
{
    for (guint i = 0; can_probe (job) && i < job->plan->disks->len; i++)
        if (!probe_export (job->plan, job->plan->disks->pdata[i], PROBE_TIMEOUT_MS, error))
            return FALSE;
    return TRUE;
}

static gboolean check_pull (Job *job, GError **error)
{
    g_autoptr (virDomain) domain = lv_guest_domain (job->guest, error);
    g_autoptr (LvRunning) running = domain ? lv_running_load (domain, error) : NULL;
    if (!domain || (!running && error && *error))
        return FALSE;
    if (!running || !lv_running_is (running, job->plan))
        return error_set (error, BAK_ERROR_INEXACT,
                          _("libvirt's job that keeps the point in time is not there any more: it "
                             "was ended by somebody else"));
    virDomainDiskErrorPtr errors = NULL;
    int possible = virDomainGetDiskErrors (domain, NULL, 0, 0), found = 0;
    if (possible > 0) {
        errors = calloc (possible, sizeof *errors);
        found = virDomainGetDiskErrors (domain, errors, possible, 0);
    }
    gboolean ok = TRUE;
    for (int i = 0; i < found; i++) {
        for (guint k = 0; k < job->plan->disks->len; k++)
            if (ok
                && g_strcmp0 (((PlanDisk *) job->plan->disks->pdata[k])->target, errors[i].disk)
                       == 0)
                ok = error_set (error, BAK_ERROR_INEXACT,
                                _("disk '%s': QEMU reports an I/O error on it"), errors[i].disk);
        free (errors[i].disk);
    }
    free (errors);
    return ok && probe_all (job, error);
}

/* libvirt has it; what libvirt does not keep goes into a record of ours. */
static gboolean promote (Job *job, GError **error)
{
    const Plan *plan = job->plan;
    return checkpoint_exists (job->guest->dir, plan->checkpoint)
           || lv_checkpoint_record (job->guest, plan, plan->job, error);
}

/* Nobody has deleted the provisional checkpoint or one of its bitmaps meanwhile. */
static gboolean bitmaps_are_kept (Job *job, GError **error)
{
    const char *name = job->plan->checkpoint;
    if (!name)
        return TRUE;
    g_autoptr (virDomain) domain = lv_guest_domain (job->guest, error);
    if (!domain)
        return FALSE;
    g_autoptr (LvCheckpoint) checkpoint = lv_checkpoint_load (domain, name, TRUE);
    if (!checkpoint)
        return error_set (
            error, BAK_ERROR_INEXACT,
            _("somebody has deleted checkpoint '%s' during the backup that makes it"), name);
    for (guint i = 0; i < json_array_get_length (job->plan->checkpoint_disks); i++) {
        const char *disk =
            json_get_string (json_get_element (job->plan->checkpoint_disks, i), "disk");
        const LvCheckpointDisk *kept = disk ? lv_checkpoint_disk (checkpoint, disk) : NULL;
        if (disk && (!kept || !kept->has_size))
            return error_set (error, BAK_ERROR_INEXACT,
                              _("disk '%s': somebody has removed the bitmap of checkpoint '%s'"),
                              disk, name);
    }
    return TRUE;
}

static gboolean verify (Job *job, GError **error)
{
    return bitmaps_are_kept (job, error)
           && (job->plan->mode != BACKUP_MODE_PULL || check_pull (job, error));
}

static void undone (Job *job, JobEvent outcome, const GError *failure)
{
    if (failure) {
        g_autofree char *text =
            g_strdup_printf (_("not everything could be undone, the next command tries again: %s"),
                             failure->message);
        job_record_note (&job->record, text);
        job_warn (job, text);
    }
    if (outcome != JOB_EVENT_GOOD)
        resume_guest (job);
}

static gboolean clean_up (Job *job, JobEvent outcome, const GError *failure)
{
    return !job->run.frozen && !job->run.undo_failed;
}

static gboolean clean_rest (Job *job, gboolean undone_now, GError **error)
{
    return undone_now;
}

/* ---- while it runs ---- */

/* The disk whose failure ended the rest: the one that libvirt says failed, else the first whose end
 * is not known. */
static guint root_disk (const Job *job)
{
    for (guint i = 0; i < job->plan->disks->len; i++)
        if (job->own->disks[i].end == DISK_FAILED)
            return i;
    for (guint i = 0; i < job->plan->disks->len; i++)
        if (job->own->disks[i].end == DISK_RUNS)
            return i;
    return 0;
}

/* libvirt forgets the reason when it was restarted meanwhile; a full file system can still be seen.
 */
static char *reason_of (const Job *job, const PlanDisk *disk)
{
    if (job->own->failure)
        return g_strdup (job->own->failure);
    LvSpace space = job->guest->lv->local ? lv_space (disk->path) : (LvSpace){ 0 };
    if (space.known && space.available < 1024 * 1024)
        return g_strdup_printf (_("No space left on device (libvirt kept no reason; the file "
                                   "system has %" G_GUINT64_FORMAT " bytes left)"),
                                space.available);
    return g_strdup (_("libvirt says that it failed and kept no reason"));
}

static void push_failed (Job *job)
{
    guint root = root_disk (job);
    const PlanDisk *disk = job->plan->disks->pdata[root];
    g_autofree char *reason = reason_of (job, disk);
    g_autoptr (GError) failure = NULL;
    BakErrorCode code = job->own->lost ? BAK_ERROR_INEXACT : error_code_from_text (reason);

    if (code == BAK_ERROR_ABORTED)
        error_set (&failure, code, _("the job was cancelled by somebody else: %s"), reason);
    else if (job->own->lost)
        error_set (&failure, code, "%s", reason);
    else
        error_set (&failure, code, _("disk '%s': target '%s': %s"), disk->target,
                   disk->path ? disk->path : "?", reason);
    job_fail_disk (job, root, failure->message);
    life_end (job, JOB_EVENT_BAD, failure);
}

static gboolean settled (const Job *job)
{
    for (guint i = 0; i < job->plan->disks->len; i++)
        if (job->own->disks[i].end == DISK_RUNS
            && g_get_monotonic_time () < job->own->ended_at + SETTLE_MS * 1000LL)
            return FALSE;
    return TRUE;
}

/* libvirt counts all disks together at the end. A disk that was copied before it could be asked for
 * has what is left, the increments among them by what their bitmaps said before. */
static void count_bytes (Job *job)
{
    guint64 rest = job->own->total, estimates = 0;
    for (guint i = 0; i < job->plan->disks->len; i++) {
        bak_job_disk *disk = &job->record.disks.disks_val[i];
        gboolean known =
            job->own->disks[i].counted || g_str_equal (disk->type, "full") || !job->own->total;
        if (known)
            rest -= MIN (rest, disk->total);
        else
            estimates += job->own->disks[i].estimate;
        /* it had nothing to count */
        if (!job->own->total && job->own->disks[i].estimated && !job->own->disks[i].counted)
            disk->total = job->own->disks[i].estimate;
        disk->bytes = disk->total;
    }
    for (guint i = 0; job->own->total && i < job->plan->disks->len; i++) {
        bak_job_disk *disk = &job->record.disks.disks_val[i];
        if (job->own->disks[i].counted || g_str_equal (disk->type, "full"))
            continue;
        disk->bytes = disk->total =
            estimates ? (guint64) ((double) rest * job->own->disks[i].estimate / estimates)
                      : rest / job->plan->disks->len;
    }
}

/* FALSE: the job has ended. */
static gboolean mind_end (Job *job)
{
    g_autoptr (GError) failure = NULL;
    if (job->own->gone) {
        error_set (&failure, BAK_ERROR_CONNECTION, "%s", job->own->gone_why);
        life_end (job, JOB_EVENT_BAD, failure);
        return FALSE;
    }
    if (!job->own->ended)
        return TRUE;
    if (job->plan->mode == BACKUP_MODE_PULL) {
        error_set (&failure, BAK_ERROR_INEXACT,
                   _("libvirt's job that keeps the point in time has ended (%s): it was ended by "
                      "somebody else (domjobabort), not by a verdict"),
                   job->own->failure ? job->own->failure : _("no reason given"));
        life_end (job, JOB_EVENT_BAD, failure);
        return FALSE;
    }
    if (!settled (job))
        return TRUE;
    gboolean good = job->own->success;
    for (guint i = 0; i < job->plan->disks->len; i++)
        good = good && job->own->disks[i].end != DISK_FAILED
               && job->own->disks[i].end != DISK_CANCELLED;
    if (!good) {
        push_failed (job);
        return FALSE;
    }
    count_bytes (job);
    life_end (job, JOB_EVENT_GOOD, NULL);
    return FALSE;
}

/* A guest that stands still because of us must run again at once. */
static gboolean mind_pause (Job *job)
{
    g_autoptr (GError) failure = NULL;
    if (!job->own->paused)
        return TRUE;
    gboolean remote =
        !job->guest->lv->local
        && (strstr (job->own->paused, "enospc") || strstr (job->own->paused, "space"));
    for (guint i = 0; i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        LvSpace space = job->guest->lv->local ? lv_space (store_path (disk)) : (LvSpace){ 0 };
        if (!remote && !(space.known && space.available < job->own->disks[i].reserve))
            continue;
        error_set (
            &failure, BAK_ERROR_NO_SPACE,
            disk->path
                ? _("disk '%s': target '%s': No space left on device: it had paused the guest")
                : _("disk '%s': scratch '%s': No space left on device: it had paused the guest"),
            disk->target, store_path (disk));
        job_fail_disk (job, i, failure->message);
        life_end (job, JOB_EVENT_BAD, failure);
        return FALSE;
    }
    job_warn (job, _("the guest was paused by an I/O error that is not of the backup's making"));
    g_clear_pointer (&job->own->paused, g_free);
    return TRUE;
}

static gboolean mind_space (Job *job)
{
    g_autoptr (GError) failure = NULL;
    guint disk;
    if (lv_watch_space (job, &disk, &failure))
        return TRUE;
    job_warn (job, failure->message);
    job_fail_disk (job, disk, failure->message);
    life_end (job, JOB_EVENT_BAD, failure);
    return FALSE;
}

/* An export that is gone may be the first that is seen of it. */
static gboolean wait_for_the_end_of_qemu (Job *job)
{
    gint64 deadline = g_get_monotonic_time () + MISSING_MS * 1000LL;
    while (!job->own->gone && g_get_monotonic_time () < deadline) {
        LvNote *note = g_async_queue_timeout_pop (job->guest->notes, WAIT_SLICE_MS * 1000);
        if (note)
            lv_job_take (job, note);
        lv_note_free (note);
        lv_job_refresh (job->guest);
    }
    return job->own->gone;
}

static gboolean mind_export (Job *job, gint64 now)
{
    g_autoptr (GError) failure = NULL;
    if (job->plan->mode != BACKUP_MODE_PULL || now < job->next_probe || job->own->disconnected)
        return TRUE;
    job->next_probe = now + JOB_PROBE_MS * 1000;
    if (!probe_all (job, &failure)) {
        if (!wait_for_the_end_of_qemu (job))
            life_end (job, JOB_EVENT_BAD, failure);
        else
            mind_end (job);
        return FALSE;
    }
    return !job->plan->idle_timeout || life_mind_readers (job, now, lv_count_readers (job->plan));
}

gboolean lv_job_tick (LvGuest *guest)
{
    Job *job = guest->job;
    gint64 now = g_get_monotonic_time ();

    if (job->record.state != JOB_STATE_RUNNING && job->record.state != JOB_STATE_READY)
        return TRUE;
    if (!life_mind_state (job))
        return FALSE;
    if (now >= job->next_tick) {
        job->next_tick = now + JOB_TICK_MS * 1000;
        lv_job_refresh (guest);
        job_emit_progress (job);
    }
    if (!mind_end (job) || !mind_pause (job) || !mind_space (job) || !mind_export (job, now))
        return FALSE;
    return life_mind_deadline (job, now);
}

/* ---- begin ---- */

static JsonObject *journal_meta (const Job *job)
{
    const LvRequest *request = job->own->request;
    for (guint i = 0; i < request->def->disks->len; i++) {
        BackupDiskDef *def = request->def->disks->pdata[i];
        const LvDisk *disk = lv_picture_disk (request->picture, def->name, NULL);
        if (!disk)
            continue;
        g_free (def->name);
        def->name = g_strdup (disk->target);
    }
    g_autofree char *xml = backup_def_format (request->def);
    return obj ("xml", "s", xml, "was-running", "b", job->own->was_running, "protect", "b",
                job->own->protect, NULL);
}

static void note_space (LvGuest *guest, Plan *plan)
{
    for (guint i = 0; guest->lv->local && i < plan->disks->len; i++) {
        const PlanDisk *disk = plan->disks->pdata[i];
        LvSpace space = lv_space (store_path (disk));
        if (space.known && space.available < disk->size)
            g_ptr_array_add (plan->notes,
                             g_strdup_printf (_("disk '%s': '%s' has %" G_GUINT64_FORMAT
                                                 " bytes of space, the disk %" G_GUINT64_FORMAT
                                                 ": it may not suffice"),
                                              disk->target, store_path (disk), space.available,
                                              disk->size));
    }
}

static void estimate (Job *job, const LvRequest *request)
{
    for (guint i = 0; i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        for (guint k = 0; k < request->bases->len; k++) {
            const LvCheckpoint *base = request->bases->pdata[k];
            const LvCheckpointDisk *in_base = g_strcmp0 (base->name, disk->since) == 0
                                                  ? lv_checkpoint_disk (base, disk->target)
                                                  : NULL;
            if (!in_base || !in_base->has_size)
                continue;
            job->own->disks[i].estimated = TRUE;
            job->own->disks[i].estimate = in_base->size;
        }
    }
}

static gboolean is_running (LvGuest *guest)
{
    g_autoptr (virDomain) domain = lv_guest_domain (guest, NULL);
    int state = 0, reason;
    return domain && virDomainGetState (domain, &state, &reason, 0) == 0
           && state == VIR_DOMAIN_RUNNING;
}

static void forget_notes (Job *job)
{
    for (LvNote *note; (note = g_async_queue_try_pop (job->guest->notes));)
        lv_note_free (note); /* of jobs before this one */
}

/* libvirt refused an increment: another plan may do. */
static gboolean refused (Job *job, GError **failure)
{
    if (lv_request_learn (job->own->request, *failure))
        return TRUE;
    resume_guest (job);
    lv_note_frozen (&job->run, failure);
    return FALSE;
}

/* One try. */
static gboolean try_begin (LvGuest *guest, const bak_begin_args *args, LvRequest *request,
                           bak_begin_ret *ret, GError **error)
{
    Plan *plan = lv_request_plan (guest, args, request, error);

    if (!plan)
        return FALSE;
    note_space (guest, plan);
    Job *job = guest->job = job_new (&guest->jobs, plan, NULL);
    job->own->request = request;
    job->own->was_running = is_running (guest);
    job->own->protect = request->def->protect != PROTECT_NO;
    job->scratch_limit = request->def->scratch_limit;
    estimate (job, request);
    if (!life_begin (job, args, journal_meta (job), ret, error))
        return FALSE;
    job->own->request = NULL;
    lv_guest_start_thread (guest);
    return TRUE;
}

/* Again, without the increments that libvirt has refused; each is refused but once. */
static gboolean begin_as_it_can (LvGuest *guest, const bak_begin_args *args, LvRequest *request,
                                 bak_begin_ret *ret, GError **error)
{
    for (;;) {
        g_autoptr (GError) failure = NULL;
        guint known = lv_request_refusals (request);
        if (try_begin (guest, args, request, ret, &failure))
            return TRUE;
        if (lv_request_refusals (request) == known) {
            g_propagate_error (error, g_steal_pointer (&failure));
            return FALSE;
        }
    }
}

gboolean lv_job_begin (LvGuest *guest, const bak_begin_args *args, bak_begin_ret *ret,
                       GError **error)
{
    g_auto (LvRequest) request = { 0 };
    gboolean ok = FALSE;

    if (guest->job)
        return life_refuse_second (guest->job, error);
    if (!lv_guest_lock (guest, error))
        return FALSE;
    if (!lv_job_recover (guest, error)) {
        lv_guest_unlock (guest);
        return FALSE;
    }
    if (guest->job)
        return life_refuse_second (guest->job, error);
    if (!lv_guest_lock (guest, error)) /* the end of a recovered job gave it up */
        return FALSE;
    g_atomic_int_set (&guest->cancel, FALSE);
    ok = lv_request_load (guest, args, &request, error);
    if (ok && !request.picture->active) {
        lv_guest_unlock (guest);
        return lv_offline_begin (guest, request.picture, CALL_ID_backup_begin, args, ret, error);
    }
    ok = ok && lv_guest_make_dirs (guest, request.picture, error)
         && begin_as_it_can (guest, args, &request, ret, error);
    if (!guest->job)
        lv_guest_unlock (guest);
    return ok;
}

gboolean lv_job_plan (LvGuest *guest, const bak_begin_args *args, bak_text_ret *ret, GError **error)
{
    g_auto (LvRequest) request = { 0 };
    if (guest->job)
        return life_refuse_second (guest->job, error);
    if (!lv_request_load (guest, args, &request, error))
        return FALSE;
    if (!request.picture->active)
        return lv_offline_begin (guest, request.picture, CALL_ID_backup_plan, args, ret, error);
    g_autoptr (Plan) plan = lv_guest_make_dirs (guest, request.picture, error)
                                ? lv_request_plan (guest, args, &request, error)
                                : NULL;
    Run run = { .ops = &lv_run_ops, .data = guest, .plan = plan, .froze = -1, .thawed = -1 };
    if (!plan || !run_look (&run, error))
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
    Job *job = guest->job;
    gboolean pull = job->plan->mode == BACKUP_MODE_PULL;

    take_notes (guest);
    lv_job_refresh (guest);
    if (abort) {
        life_abort (job, _("aborted on request"));
    } else if (job->own->disconnected) {
        return error_set (error, BAK_ERROR_CONNECTION,
                          _("libvirt is not reachable: job %s cannot be stopped now"),
                          job->record.id);
    } else if (!mind_end (job) || !mind_pause (job)) {
        /* it had just ended by itself */
    } else if (job->own->ended) {
        lv_job_wait_ended (job, SETTLE_MS, NULL);
        job->own->ended_at = 0;
        mind_end (job);
    } else if (pull) {
        life_end (job, JOB_EVENT_GOOD, NULL);
    } else {
        life_abort (job, _("stopped before it had finished"));
    }
    board_copy (&guest->board, ret);
    return TRUE;
}

/* ---- what the life of a job asks this driver ---- */

static void refresh (Job *job)
{
    lv_job_refresh (job->guest);
}

static gboolean is_copying (const Job *job, guint disk)
{
    return job->own->disks[disk].end == DISK_RUNS;
}

static gboolean has_copied (const Job *job, guint disk)
{
    return job->own->disks[disk].end == DISK_COMPLETED;
}

static gboolean set_speed (Job *job, guint disk, guint64 bytes_per_sec, GError **error)
{
    g_autoptr (virDomain) domain = lv_guest_domain (job->guest, error);
    return domain
           && lv_job_set_speed (domain, ((PlanDisk *) job->plan->disks->pdata[disk])->target,
                                bytes_per_sec, error);
}

const JobOps lv_job_ops = { .run = &lv_run_ops,
                            .init = job_init,
                            .clear = job_clear,
                            .let_go = let_go,
                            .over = lv_guest_unlock,
                            .emit = lv_guest_emit,
                            .refresh = refresh,
                            .starting = forget_notes,
                            .refused = refused,
                            .verify = verify,
                            .promote = promote,
                            .undone = undone,
                            .clean = clean_up,
                            .inherit = lv_job_inherit,
                            .adopted = lv_job_adopted,
                            .clean_rest = clean_rest,
                            .is_copying = is_copying,
                            .has_copied = has_copied,
                            .set_speed = set_speed };
