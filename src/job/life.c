#include <glib/gi18n-lib.h>
#include "job/life.h"
#include "job/record.h"
#include "util/config.h"
#include "util/json.h"

/* ---- a Job ---- */

/* What the journal says of the time before this owner. */
static void inherit (Job *job, const JournalState *state)
{
    job->ending = g_str_equal (state->phase, "stopping") || g_str_equal (state->phase, "finished");
    job->run.frozen = state->frozen;
    if (state->frozen)
        job->run.frozen_since = g_get_monotonic_time ();
    job->run.journal = journal_open (job->place->journal, NULL);
    if (!record_load (job->place->board->dir, job->plan->job, &job->record, NULL))
        job_record_init (&job->record, job->plan, job->place->board->domain);
    gint64 started = json_get_int (state->meta, "started", 0),
           timeout = json_get_int (state->meta, "timeout", 0);
    if (started)
        job->record.started = started;
    job->began = g_get_monotonic_time () - MAX (0, g_get_real_time () - job->record.started);
    job->deadline = timeout > 0 ? job->began + timeout : 0;
    job->scratch_limit = json_get_int (state->meta, "scratch-limit", 0);
    board_set_document (job->place->board, json_get_string (state->meta, "xml"));
    job->place->ops->inherit (job, state);
}

Job *job_new (const JobPlace *place, Plan *plan, const JournalState *state)
{
    Job *job = g_new0 (Job, 1);
    job->place = place;
    job->guest = place->board->guest;
    job->plan = plan;
    job->began = job->last_read = g_get_monotonic_time ();
    job->run =
        (Run){ .ops = place->ops->run,
               .data = job->guest,
               .plan = plan,
               .froze = -1,
               .thawed = -1,
               .finished = state ? state->finished : 0,
               .states = state ? g_array_ref (state->states)
                               : g_array_new (FALSE, TRUE, sizeof (StepState)),
               .files = state ? g_hash_table_ref (state->files)
                              : g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free),
               .seen = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free) };
    g_array_set_size (job->run.states, plan->steps->len);
    place->ops->init (job);
    if (state)
        inherit (job, state);
    else
        job_record_init (&job->record, plan, place->board->domain);
    return job;
}

void job_free (Job *job)
{
    if (!job)
        return;
    job->place->ops->clear (job);
    journal_close (job->run.journal);
    g_array_unref (job->run.states);
    g_hash_table_unref (job->run.files);
    g_hash_table_unref (job->run.seen);
    g_free (job->run.thaw_problem);
    bak_job_clear (&job->record);
    plan_free (job->plan);
    g_free (job);
}

static void drop (Job *job)
{
    job->place->ops->let_go (job);
    job_free (job);
}

/* ---- what is told ---- */

void job_publish (Job *job)
{
    if (!job_state_ended (job->record.state))
        job->record.elapsed = g_get_monotonic_time () - job->began;
    board_publish (job->place->board, &job->record);
}

void job_emit (Job *job, bak_event event)
{
    job->place->ops->emit (job->guest, &event);
}

void job_emit_state (Job *job)
{
    job_emit (job, job_event_state (&job->record));
}

void job_emit_progress (Job *job)
{
    job_emit (job, job_event_progress (&job->record, &job->pace));
}

void job_warn (Job *job, const char *text)
{
    job_emit (job, job_event_warning (&job->record, text));
}

gboolean job_save (Job *job)
{
    g_autoptr (GError) error = NULL;

    job_publish (job);
    if (job->unrecorded)
        return FALSE;
    if (record_save (job->place->board->dir, &job->record, &error))
        return TRUE;
    g_warning ("job %s: %s", job->record.id, error->message);
    job_warn (job, error->message);
    return FALSE;
}

static void set_disk_state (Job *job, bak_job_disk *disk, int state)
{
    if (job_state_ended (disk->state) || disk->state == state)
        return;
    disk->state = state;
    job_emit (job, job_event_disk (&job->record, disk));
}

static void set_disk_states (Job *job, int state)
{
    for (guint i = 0; i < job->record.disks.disks_len; i++)
        set_disk_state (job, &job->record.disks.disks_val[i], state);
}

void job_fail_disk (Job *job, guint index, const char *text)
{
    bak_job_disk *disk = &job->record.disks.disks_val[index];

    job_record_set_text (&disk->error, text);
    set_disk_state (job, disk, JOB_STATE_FAILED);
    for (guint i = 0; i < job->record.disks.disks_len; i++) {
        bak_job_disk *other = &job->record.disks.disks_val[i];
        if (i == index || job_state_ended (other->state))
            continue;
        g_autofree char *reason =
            g_strdup_printf (job->place->ops->has_copied (job, i)
                                 ? _("copied, but removed because disk '%s' failed")
                                 : _("cancelled because disk '%s' failed"),
                             disk->target);
        job_record_set_text (&other->error, reason);
        set_disk_state (job, other, JOB_STATE_ABORTED);
    }
}

/* ---- the very last of a job ---- */

/* What never ran is told to who asked, by an event and in the log; it is not "the last backup". */
static void forget (Job *job)
{
    record_forget (job->place->board->dir, job->record.id);
    board_wipe (job->place->board);
}

static gboolean write_end (Job *job, gboolean refused, JobEvent event, const GError *failure)
{
    job->record.elapsed = g_get_monotonic_time () - job->began;
    job_record_end (&job->record, event, failure);
    set_disk_states (job, job->record.state);
    gboolean saved = job_save (job);
    if (!refused)
        record_prune (job->place->board->dir, config_get_int ("keep_jobs", RECORD_KEEP_DEFAULT));
    return saved;
}

/* Nothing of ours is left (or the journal stays for the next owner), the record says how it ended.
 */
static void conclude (Job *job, JobEvent event, const GError *failure)
{
    const JobPlace *place = job->place;
    DriverGuest *guest = job->guest;
    gboolean refused = job->record.state == JOB_STATE_PREPARING && event == JOB_EVENT_BAD;
    gboolean clean = place->ops->clean (job, event, failure);
    gboolean saved = write_end (job, refused, event, failure);

    if (clean && saved)
        journal_remove (place->journal);
    else if (clean)
        g_warning ("job %s: its record could not be written; the next owner does it",
                   job->record.id);
    job_emit_state (job);
    job_emit (job, job_event_completed (&job->record));
    if (refused && clean && saved) {
        forget (job);
        g_info ("guest '%s': begin %s was refused: %s", place->board->domain, job->record.id,
                job->record.error);
    }
    g_atomic_int_set (place->cancel, FALSE);
    drop (job);
    if (place->ops->over)
        place->ops->over (guest);
}

/* ---- begin ---- */

gboolean life_refuse_second (const Job *job, GError **error)
{
    return error_set (error, BAK_ERROR_BUSY,
                      _("guest '%s': backup job %s is %s; wait for it or stop it (backup-stop)"),
                      job->place->board->domain, job->record.id,
                      job_state_to_string (job->record.state));
}

static JsonObject *complete_meta (const Job *job, const bak_begin_args *args, JsonObject *meta)
{
    json_object_set_int_member (meta, "started", job->record.started);
    json_object_set_int_member (meta, "timeout", args->timeout);
    json_object_set_int_member (meta, "scratch-limit", job->scratch_limit);
    json_object_set_int_member (meta, "flags", args->flags);
    return meta;
}

/* Both are there before anything is touched. */
static gboolean write_begin (Job *job, const bak_begin_args *args, JsonObject *meta, GError **error)
{
    const JobPlace *place = job->place;

    meta = complete_meta (job, args, meta);
    board_set_document (place->board, json_get_string (meta, "xml"));
    job->run.journal = journal_create (place->journal, job->plan, meta, error);
    if (job->run.journal && record_save (place->board->dir, &job->record, error))
        return TRUE;
    journal_remove (place->journal);
    return FALSE;
}

static void begun (Job *job)
{
    gboolean pull = job->plan->mode == BACKUP_MODE_PULL;
    gint64 now = g_get_monotonic_time ();

    job_record_freeze (&job->record, &job->run);
    journal_phase (job->run.journal, "running", 0, 0, NULL, NULL);
    job_record_move (&job->record, pull ? JOB_EVENT_BEGUN_PULL : JOB_EVENT_BEGUN_PUSH);
    job->next_probe = now + JOB_PROBE_MS * 1000;
    job->last_read = now;
    if (job->place->ops->begun)
        job->place->ops->begun (job);
    set_disk_states (job, job->record.state);
    job_save (job);
    job_emit_state (job);
}

gboolean life_begin (Job *job, const bak_begin_args *args, JsonObject *meta, bak_begin_ret *ret,
                     GError **error)
{
    const JobOps *ops = job->place->ops;
    g_autoptr (GError) failure = NULL;

    if (!write_begin (job, args, meta, error)) {
        drop (job);
        return FALSE;
    }
    job_publish (job);
    job_emit_state (job);
    if (ops->starting)
        ops->starting (job);
    job->run.cancel = job->place->cancel;
    gboolean ok = run_steps (&job->run, &failure);
    job->run.cancel = NULL;
    if (ok) {
        job->deadline = args->timeout ? job->began + (gint64) args->timeout : 0;
        begun (job);
        job_record_begin_ret (&job->record, ret);
        return TRUE;
    }
    if (ops->refused && ops->refused (job, &failure)) {
        journal_remove (job->place->journal);
        forget (job);
        drop (job);
    } else {
        conclude (job,
                  error_code (failure) == BAK_ERROR_ABORTED ? JOB_EVENT_ABORTED : JOB_EVENT_BAD,
                  failure);
    }
    g_propagate_error (error, g_steal_pointer (&failure));
    return FALSE;
}

/* ---- while it runs ---- */

void life_in_step (Job *job)
{
    job_record_move (&job->record, JOB_EVENT_IN_STEP);
    set_disk_states (job, job->record.state);
    job_save (job);
    job_emit_state (job);
}

gboolean life_mind_deadline (Job *job, gint64 now)
{
    g_autoptr (GError) late = NULL;

    if (!job->deadline || now < job->deadline)
        return TRUE;
    error_set (&late, BAK_ERROR_TIMEOUT, _("the job took longer than it was given (--timeout)"));
    life_end (job, JOB_EVENT_ABORTED, late);
    return FALSE;
}

gboolean life_mind_state (Job *job)
{
    g_autoptr (GError) lost = NULL;

    if (!job->run.journal || !journal_is_lost (job->run.journal))
        return TRUE;
    error_set (&lost, BAK_ERROR_IO,
               _("somebody has deleted the state directory '%s' during the backup; it was ended, "
                  "and what it had made was removed"),
               job->place->board->dir);
    g_warning ("job %s: %s", job->record.id, lost->message);
    job->unrecorded = TRUE;
    life_end (job, JOB_EVENT_BAD, lost);
    return FALSE;
}

gboolean life_mind_readers (Job *job, gint64 now, int readers)
{
    g_autoptr (GError) gone = NULL;

    if (readers != 0)
        job->last_read = now;
    if (now - job->last_read < (gint64) job->plan->idle_timeout * G_USEC_PER_SEC)
        return TRUE;
    error_set (&gone, BAK_ERROR_TIMEOUT,
               _("idle: no reader was connected to the export for %u seconds (--idle-timeout); "
                  "the backup was ended"),
               job->plan->idle_timeout);
    life_end (job, JOB_EVENT_BAD, gone);
    return FALSE;
}

gboolean life_limit (Job *job, const char *disk, guint64 bytes_per_sec, GError **error)
{
    gboolean found = FALSE;
    guint64 share =
        *disk || !bytes_per_sec ? bytes_per_sec : MAX (1, bytes_per_sec / job->plan->disks->len);

    if (job->plan->mode == BACKUP_MODE_PULL)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("a pull backup is as fast as its reader: limit the reader"));
    if (bytes_per_sec > G_MAXINT64)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("the rate is too large"));
    for (guint i = 0; i < job->plan->disks->len; i++) {
        PlanDisk *plan_disk = job->plan->disks->pdata[i];
        if (*disk && !g_str_equal (plan_disk->target, disk))
            continue;
        found = TRUE;
        if (!job->place->ops->is_copying (job, i))
            continue;
        if (!job->place->ops->set_speed (job, i, share, error))
            return error_note (error, _("disk '%s'"), plan_disk->target);
        job->record.disks.disks_val[i].limit = plan_disk->limit = share;
    }
    if (!found)
        return error_set (error, BAK_ERROR_NO_DISK, _("disk '%s' is not in job %s"), disk,
                          job->record.id);
    job_save (job);
    return TRUE;
}

/* ---- end ---- */

static gboolean finish (Job *job, GError **error)
{
    const JobOps *ops = job->place->ops;

    job->run.cancel = job->place->cancel;
    gboolean ok = ops->finish ? ops->finish (job, error) : run_finish (&job->run, error);
    job->run.cancel = NULL;
    return ok;
}

/* Whether what was made is good: the last word before success is said. */
static gboolean verify_and_finish (Job *job, GError **error)
{
    const JobOps *ops = job->place->ops;

    if (!job->finished) {
        if (!ops->verify (job, error) || !finish (job, error)
            || !journal_phase (job->run.journal, "finished", JOB_STATE_COMPLETED, 0, NULL, error))
            return FALSE;
        job->finished = TRUE;
    }
    return !job->plan->checkpoint || ops->promote (job, error);
}

static void note_ending (Job *job, JobEvent outcome)
{
    static const int states[JOB_EVENTS] = { [JOB_EVENT_GOOD] = JOB_STATE_COMPLETED,
                                            [JOB_EVENT_BAD] = JOB_STATE_FAILED,
                                            [JOB_EVENT_ABORTED] = JOB_STATE_ABORTED };
    if (job->run.journal)
        journal_phase (job->run.journal, "stopping", states[outcome], job->record.error_code,
                       job->record.error, NULL);
}

/* An abort that is asked for while what was copied is flushed ends that. */
static JobEvent how_bad (const Job *job, const GError *bad)
{
    return error_code (bad) == BAK_ERROR_ABORTED && g_atomic_int_get (job->place->cancel)
               ? JOB_EVENT_ABORTED
               : JOB_EVENT_BAD;
}

void life_end (Job *job, JobEvent outcome, const GError *failure)
{
    const JobOps *ops = job->place->ops;
    g_autoptr (GError) bad = NULL, undo_failure = NULL;

    job->ending = TRUE;
    if (failure)
        job_record_set_error (&job->record, failure);
    /* first: whoever finds copies that were paused to be cancelled has to know that they were */
    if (!job->finished)
        note_ending (job, outcome);
    if (ops->ending)
        ops->ending (job, outcome);
    if (!job_record_move (&job->record, JOB_EVENT_END))
        return;
    job_save (job);
    job_emit_state (job);
    if (outcome == JOB_EVENT_GOOD && !verify_and_finish (job, &bad)) {
        outcome = how_bad (job, bad);
        job_record_set_error (&job->record, bad);
        note_ending (job, outcome);
    }
    if (outcome == JOB_EVENT_GOOD && ops->good)
        ops->good (job);
    job->run.undo_failed = !run_undo (&job->run, outcome == JOB_EVENT_GOOD, &undo_failure);
    ops->undone (job, outcome, undo_failure);
    conclude (job, outcome, bad ? bad : failure);
}

void life_abort (Job *job, const char *why)
{
    g_autoptr (GError) asked = NULL;

    error_set (&asked, BAK_ERROR_ABORTED, "%s", why);
    life_end (job, JOB_EVENT_ABORTED, asked);
}

gboolean life_job_abort (Job *job,
                         gboolean (*stop) (DriverGuest *guest, gboolean abort, bak_job *ret,
                                           GError **error),
                         GError **error)
{
    gboolean verdict = job->record.state == JOB_STATE_READY;
    bak_job ended = { 0 };

    if (!stop (job->guest, !verdict, &ended, error))
        return FALSE;
    gboolean ok =
        !verdict || ended.state == JOB_STATE_COMPLETED
        || error_set (error, ended.error_code ? ended.error_code : BAK_ERROR_IO, "%s", ended.error);
    bak_job_clear (&ended);
    return ok;
}

/* ---- recover ---- */

/* The record was written, the journal not yet removed, or not all could be undone then. */
static gboolean recover_rest (Job *job, GError **error)
{
    const JobPlace *place = job->place;
    g_autoptr (GError) left = NULL;
    gboolean undone = run_undo (&job->run, job->record.state == JOB_STATE_COMPLETED, &left);
    gboolean clean = place->ops->clean_rest (job, undone, left ? NULL : &left);

    if (clean)
        journal_remove (place->journal);
    else if (left)
        g_propagate_error (error, g_steal_pointer (&left));
    board_publish (place->board, &job->record);
    drop (job);
    return clean;
}

static void adopt (Job *job)
{
    const JobOps *ops = job->place->ops;

    if (job->record.state == JOB_STATE_PREPARING)
        begun (job);
    ops->refresh (job);
    job_publish (job);
    job->next_probe = g_get_monotonic_time ();
    job_emit_state (job);
    ops->adopted (job);
}

static void say_why (const JournalState *state, const char *gone, GError **error)
{
    if (gone)
        error_set (error, BAK_ERROR_CONNECTION, "%s", gone);
    else if (g_str_equal (state->phase, "stopping"))
        error_set (error, state->error_code ? state->error_code : BAK_ERROR_INTERNAL, "%s",
                   state->error && *state->error ? state->error : "?");
    else
        error_set (error, BAK_ERROR_INTERNAL,
                   _("the process that began the backup died before it was running; everything "
                      "was undone"));
}

/* What it was about to be called is looked at again; what had finished stays good. */
static void end_of_other (Job *job, const JournalState *state, const char *gone)
{
    gboolean was_good =
        g_str_equal (state->phase, "stopping") && state->outcome == JOB_STATE_COMPLETED;
    g_autoptr (GError) why = NULL;

    if (job->record.state == JOB_STATE_PREPARING)
        job->record.state = JOB_STATE_STOPPING;
    job->finished = g_str_equal (state->phase, "finished");
    if (job->finished || (was_good && !gone)) {
        life_end (job, JOB_EVENT_GOOD, NULL);
        return;
    }
    say_why (state, gone, &why);
    life_end (job, state->outcome == JOB_STATE_ABORTED ? JOB_EVENT_ABORTED : JOB_EVENT_BAD, why);
}

gboolean life_recover (const JobPlace *place, JournalState *state, const char *gone,
                       void (*take) (Job *job), GError **error)
{
    Job *job = job_new (place, g_steal_pointer (&state->plan), state);

    take (job);
    if (job_state_ended (job->record.state))
        return recover_rest (job, error);
    if (g_str_equal (state->phase, "running") && !gone)
        adopt (job);
    else
        end_of_other (job, state, gone);
    return TRUE;
}

void life_recover_damaged (const JobPlace *place, const char *why,
                           void (*each) (const bak_job *job))
{
    const char *dir = place->board->dir;
    g_autoptr (GArray) jobs = record_list (dir, NULL);

    for (guint i = 0; i < jobs->len; i++) {
        bak_job *job = &g_array_index (jobs, bak_job, i);
        if (!job_state_ended (job->state)) {
            job->state = JOB_STATE_FAILED;
            job->ended = g_get_real_time ();
            job->error_code = BAK_ERROR_IO;
            job_record_set_text (&job->error, why);
            if (each)
                each (job);
            record_save (dir, job, NULL);
        }
        bak_job_clear (job);
    }
    journal_remove (place->journal);
}
