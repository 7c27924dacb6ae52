/* Begin, run and end of a backup. States move by one table; every end goes through job_end(). */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/build.h"
#include "driver/qemu/checkpoint.h"
#include "driver/qemu/job.h"
#include "driver/qemu/probe.h"
#include "util/config.h"
#include "util/files.h"
#include "util/json.h"

enum { TICK_MS = 1000, LEFTOVER_MS = 1000, LIMIT_TIMEOUT_MS = 10000, GENTLE_MS = 5000, BRIEF_MS = 300, PROBE_MS = 2000, PROBE_TIMEOUT_MS = 10000, HUNG_TARGET_S = 60, RESULT_MS = 1500, MUTE_MS = 5000, LOST_MONITOR_TRIES = 5 };
enum { KNOWN_FLAGS = BEGIN_REUSE_EXTERNAL | BEGIN_QUIESCE | BEGIN_ALLOW_UNPROVED };

/* ---- record and snapshot ---- */

static void publish (Job *job)
{
    Guest *guest = job->guest;
    job->record.elapsed = g_get_monotonic_time () - job->began;
    g_mutex_lock (&guest->snapshot_lock);
    bak_job_clear (&guest->snapshot);
    bak_job_copy (&job->record, &guest->snapshot);
    g_cond_broadcast (&guest->changed);
    g_mutex_unlock (&guest->snapshot_lock);
}

static gboolean save_record (Job *job)
{
    g_autoptr (GError) error = NULL;
    publish (job);
    if (record_save (job->guest->dir, &job->record, &error))
        return TRUE;
    bak_event event = job_event_warning (&job->record, error->message);
    g_warning ("job %s: %s", job->record.id, error->message);
    guest_emit (job->guest, &event);
    return FALSE;
}

static void emit_state (Job *job)
{
    bak_event event = job_event_state (&job->record);
    guest_emit (job->guest, &event);
}

static void emit_disk (Job *job, const bak_job_disk *disk)
{
    bak_event event = job_event_disk (&job->record, disk);
    guest_emit (job->guest, &event);
}

static void set_disk_states (Job *job, int state)
{
    for (guint i = 0; i < job->record.disks.disks_len; i++) {
        bak_job_disk *disk = &job->record.disks.disks_val[i];
        if (!job_state_ended (disk->state) && disk->state != state) {
            disk->state = state;
            emit_disk (job, disk);
        }
    }
}

/* ---- a Job ---- */

static Job *job_new (Guest *guest, Plan *plan /* consumed */, GArray *states, GHashTable *files)
{
    Job *job = g_new0 (Job, 1);
    job->guest = guest;
    job->plan = plan;
    job->began = g_get_monotonic_time ();
    job->last_read = job->began;
    job->culprit = -1;
    job->disks = g_new0 (JobDisk, MAX (plan->disks->len, 1));
    job->run = (Run) { .guest = guest, .plan = plan, .froze = -1, .thawed = -1,
                       .states = states ? g_array_ref (states) : g_array_new (FALSE, TRUE, sizeof (StepState)),
                       .files = files ? g_hash_table_ref (files) : g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free) };
    g_array_set_size (job->run.states, plan->steps->len);
    return job;
}

void job_free (Job *job)
{
    if (!job)
        return;
    for (guint i = 0; i < job->plan->disks->len; i++)
    {
        g_free (job->disks[i].error);
        g_free (job->disks[i].keeper_error);
    }
    g_free (job->disks);
    journal_close (job->run.journal);
    g_array_unref (job->run.states);
    g_hash_table_unref (job->run.files);
    g_free (job->run.thaw_problem);
    bak_job_clear (&job->record);
    plan_free (job->plan);
    g_free (job);
}

/* ---- begin ---- */

static char *scratch_directory (Guest *guest, const BackupDef *def, gboolean dry, GError **error)
{
    char *dir = def->scratch_dir ? g_strdup (def->scratch_dir) : config_get_string ("scratch_dir");
    if (dir) {
        if (g_file_test (dir, G_FILE_TEST_IS_DIR))
            return dir;
        error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("the scratch directory '%s' does not exist"), dir);
        g_free (dir);
        return NULL;
    }
    dir = g_build_filename (guest->dir, "scratch", NULL);
    if (!dry && !files_make_dir (dir, 0711, error))
        g_clear_pointer (&dir, g_free);
    return dir;
}

typedef struct {
    BackupDef *def;
    CheckpointDef *checkpoint;
    Graph *graph;
    GPtrArray *checkpoints;
    char *id, *scratch_dir, *target_dir, *tls_dir;
} Request;

static void request_clear (Request *request)
{
    backup_def_free (request->def);
    checkpoint_def_free (request->checkpoint);
    graph_free (request->graph);
    g_clear_pointer (&request->checkpoints, g_ptr_array_unref);
    g_free (request->id);
    g_free (request->scratch_dir);
    g_free (request->target_dir);
    g_free (request->tls_dir);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Request, request_clear)

/* The 2016 <branch> names a series: each of its backups makes the series' next checkpoint. */
static void series_checkpoint (Request *request)
{
    request->checkpoint = checkpoint_def_new ();
    request->checkpoint->name = checkpoint_next_in_series (request->checkpoints, request->def->series);
    request->checkpoint->creation_time = g_get_real_time () / G_USEC_PER_SEC;
}

/* Only a warning: how much a copy needs is known when it is made. */
static void note_free_space (Plan *plan, const BackupDef *def)
{
    for (guint i = 0; i < plan->disks->len; i++) {
        const PlanDisk *disk = plan->disks->pdata[i];
        struct statvfs fs;
        if (!disk->path || !g_path_is_absolute (disk->path) || g_str_has_prefix (disk->path, "/dev/") || g_strcmp0 (disk->type, "full") != 0)
            continue;
        g_autofree char *dir = g_path_get_dirname (disk->path);
        if (statvfs (dir, &fs) == 0 && (guint64) fs.f_bavail * fs.f_frsize < disk->size)
            g_ptr_array_add (plan->notes, g_strdup_printf (_("disk '%s': '%s' has %" G_GUINT64_FORMAT " bytes free, the disk %" G_GUINT64_FORMAT ": the target may not fit"),
                                                           disk->target, dir, (guint64) fs.f_bavail * fs.f_frsize, disk->size));
    }
}

static Plan *make_plan (Guest *guest, const bak_begin_args *args, gboolean dry, Request *request, GError **error)
{
    if (args->flags & ~KNOWN_FLAGS) {
        error_set (error, args->flags & BEGIN_PRESERVE_SHUTDOWN ? BAK_ERROR_NOT_SUPPORTED : BAK_ERROR_INVALID_ARGUMENT,
                   _("unsupported flags (0x%x)"), args->flags & ~KNOWN_FLAGS);
        return NULL;
    }
    request->def = backup_def_parse (*args->backup_xml ? args->backup_xml : "<domainbackup/>", error);
    if (!request->def)
        return NULL;
    plan_mark_directories (request->def);
    if (*args->checkpoint_xml && !(request->checkpoint = checkpoint_def_parse (args->checkpoint_xml, 0, error)))
        return NULL;
    if (!(request->scratch_dir = scratch_directory (guest, request->def, dry, error)) || !(request->graph = guest_graph (guest, GRAPH_DISKS, error)))
        return NULL;
    request->checkpoints = checkpoint_load_all (guest->dir, NULL);
    if (!checkpoint_see_sizes (guest, request->graph, request->checkpoints, error))
        return NULL;
    request->id = record_new_id ();
    request->target_dir = config_get_string ("target_dir");
    request->tls_dir = config_get_string ("tls_x509_dir");
    if (request->def->series && !request->checkpoint)
        series_checkpoint (request);
    if (request->checkpoint && !request->checkpoint->name)
        request->checkpoint->name = g_strdup_printf ("%" G_GINT64_FORMAT, g_get_real_time () / G_USEC_PER_SEC);
    PlanInput input = {
        .job = request->id, .domain = guest->def->name, .def = request->def, .checkpoint = request->checkpoint, .graph = request->graph,
        .caps = guest->caps, .checkpoints = request->checkpoints, .flags = args->flags, .job_dir = guest->dir, .scratch_dir = request->scratch_dir,
        .target_dir = request->target_dir, .tls_dir = request->tls_dir, .now = g_get_real_time () / G_USEC_PER_SEC,
        .offline = guest_is_offline (guest), .free_port = job_free_port (), .agent = guest->def->agent && *guest->def->agent };
    Plan *plan = plan_backup (&input, error);
    if (plan)
        note_free_space (plan, request->def);
    if (plan && guest_is_offline (guest))
        g_ptr_array_add (plan->notes, g_strdup_printf (_("the images are held by a storage daemon: a guest started meanwhile would fail to start; "
                                                         "'backup-stop %s --abort' frees them"), guest->def->name));
    return plan;
}

char *job_plan_text (Guest *guest, const bak_begin_args *args, GError **error)
{
    g_auto (Request) request = { 0 };
    g_autoptr (Plan) plan = make_plan (guest, args, TRUE, &request, error);
    if (!plan)
        return NULL;
    g_autoptr (JsonNode) node = plan_to_json (plan);
    return json_write (node);
}

/* What identifies the QEMU process that holds what the plan made: another process means that it died in between. */
static gint64 process_start (int pid)
{
    g_autofree char *path = g_strdup_printf ("/proc/%d/stat", pid), *text = NULL;
    if (pid <= 0 || !g_file_get_contents (path, &text, NULL, NULL))
        return 0;
    const char *tail = strrchr (text, ')');
    g_auto (GStrv) fields = g_strsplit (tail ? tail + 2 : "", " ", 22);
    return g_strv_length (fields) > 19 ? g_ascii_strtoll (fields[19], NULL, 10) : 0;
}

static JsonObject *journal_meta (Guest *guest, const Job *job, const bak_begin_args *args, const char *xml)
{
    int pid = qmp_get_peer_pid (guest->qmp);
    return obj ("pid", "i", (gint64) pid, "start", "i", process_start (pid), "started", "i", (gint64) job->record.started,
                "timeout", "i", (gint64) args->timeout, "scratch-limit", "i", (gint64) job->scratch_limit, "flags", "i", (gint64) args->flags, "xml", "s", xml,
                "series", "s", NULL, NULL);
}

static void begun (Job *job, const BackupDef *def)
{
    gboolean pull = job->plan->mode == BACKUP_MODE_PULL;
    job_record_freeze (&job->record, &job->run);
    journal_phase (job->run.journal, "running", 0, 0, NULL, NULL);
    job_record_move (&job->record, pull ? JOB_EVENT_BEGUN_PULL : JOB_EVENT_BEGUN_PUSH);
    gint64 now = g_get_monotonic_time ();
    job->next_probe = now + PROBE_MS * 1000;
    job->next_tick = now + TICK_MS * 1000;
    job->last_read = now;
    set_disk_states (job, job->record.state);
    save_record (job);
    emit_state (job);
}

static void conclude (Job *job, JobEvent event, const GError *failure);

gboolean job_begin (Guest *guest, const bak_begin_args *args, bak_begin_ret *ret, GError **error)
{
    g_auto (Request) request = { 0 };
    if (guest->job)
        return error_set (error, BAK_ERROR_BUSY, _("guest '%s': backup job %s is %s; wait for it or stop it (backup-stop)"), guest->def->name,
                          guest->job->record.id, job_state_to_string (guest->job->record.state));
    Plan *plan = make_plan (guest, args, FALSE, &request, error);
    if (!plan)
        return FALSE;
    if (plan->mode == BACKUP_MODE_PULL && !probe_possible (plan, error)) {
        plan_free (plan);
        return FALSE;
    }
    Job *job = job_new (guest, plan, NULL, NULL);
    job->scratch_limit = request.def->scratch_limit;
    job_record_init (&job->record, plan, guest->def->name);
    g_autofree char *xml = backup_def_format (request.def);
    job->run.journal = journal_create (guest->dir, plan, journal_meta (guest, job, args, xml), error);
    if (!job->run.journal || !record_save (guest->dir, &job->record, error)) {
        journal_remove (guest->dir);
        job_free (job);
        return FALSE;
    }
    publish (job);
    emit_state (job);
    g_autoptr (GError) failure = NULL;
    guest->job = job;
    job->run.cancel = &guest->cancel;
    gboolean ok = run_steps (&job->run, &failure);
    job->run.cancel = NULL;
    if (ok) {
        job->deadline = args->timeout ? job->began + (gint64) args->timeout : 0;
        begun (job, request.def);
        job_record_begin_ret (&job->record, ret);
        return TRUE;
    }
    conclude (job, error_code (failure) == BAK_ERROR_ABORTED ? JOB_EVENT_ABORTED : JOB_EVENT_BAD, failure);
    g_propagate_error (error, g_steal_pointer (&failure));
    return FALSE;
}

/* ---- end ---- */

static gboolean qemu_is_gone (Guest *guest)
{
    if (guest->qmp && qmp_is_alive (guest->qmp, NULL))
        return FALSE;
    g_autoptr (GError) error = NULL;
    g_autoptr (Qmp) again = guest_is_offline (guest) ? NULL : qmp_connect (guest->def->qmp, NULL, 2000, &error);
    if (guest_is_offline (guest))
        return !offline_running (guest);
    return !again && error_code (error) == BAK_ERROR_CONNECTION;
}

static gboolean write_end (Job *job, JobEvent event, const GError *failure)
{
    job_record_end (&job->record, event, failure);
    set_disk_states (job, job->record.state);
    gboolean saved = save_record (job);
    record_prune (job->guest->dir, config_get_int ("keep_jobs", RECORD_KEEP_DEFAULT));
    return saved;
}

/* One that never started is not ours to stop: what listens there is somebody else's. */
static gboolean server_started (const Job *job)
{
    for (guint i = 0; i < job->plan->steps->len; i++) {
        const Step *step = job->plan->steps->pdata[i];
        StepState state = g_array_index (job->run.states, StepState, i);
        if (step->action->qmp && g_str_equal (step->action->verb, "nbd-server-start"))
            return state == STEP_DONE || state == STEP_STARTED;
    }
    return FALSE;
}

static gint disk_of_node (Job *job, const char *node)
{
    for (guint i = 0; node && i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        if (g_strcmp0 (disk->filter, node) == 0 || g_strcmp0 (disk->scratch_node, node) == 0)
            return i;
    }
    return -1;
}

/* The copies may be ending already while a write of the guest fails in the filter of one that has not ended yet. */
static gboolean filter_stopped_guest (Job *job)
{
    for (guint i = 0; i < job->guest->pending->len; i++) {
        const GuestEvent *event = job->guest->pending->pdata[i];
        if (g_str_equal (event->name, "BLOCK_IO_ERROR") && event->data && g_strcmp0 (json_get_string (event->data, "action"), "stop") == 0
            && disk_of_node (job, json_get_string (event->data, "node-name")) >= 0)
            return TRUE;
    }
    return FALSE;
}

/* A guest that our filter has stopped goes on; one that stopped for another reason is none of our business. */
static void resume_guest (Job *job)
{
    g_autoptr (Graph) graph = job->inherited || filter_stopped_guest (job) ? guest_graph (job->guest, GRAPH_ALL, NULL) : NULL;
    if (graph && g_strcmp0 (graph->status, "io-error") == 0)
        qmp_run (job->guest->qmp, "cont", NULL, 0, NULL);
}

/* QEMU has no question that shows its NBD server: whether ours is gone is seen at its address. */
static gboolean stop_server (Job *job, GError **error)
{
    if (!server_started (job) || !probe_server (job->plan))
        return TRUE;
    qmp_run (job->guest->qmp, "nbd-server-stop", NULL, 0, NULL);
    return !probe_server (job->plan) || error_set (error, BAK_ERROR_MONITOR, _("QEMU's NBD server at '%s' could not be stopped"), job->plan->server);
}

static void note_hung (Job *job, const GError *failure)
{
    g_autofree char *text = g_strdup_printf (_("%s (QEMU did not answer, or did not end its job: what it still holds goes with the next command that it answers)"),
                                             *job->record.error ? job->record.error : failure ? failure->message : "?");
    if (!*job->record.error)
        job->record.error_code = error_code (failure);
    job_record_set_text (&job->record.error, text);
}

/* The very last: nothing of ours is in QEMU any more (or the journal stays for the next owner), the record says how it ended. */
static void conclude (Job *job, JobEvent event, const GError *failure)
{
    Guest *guest = job->guest;
    g_autoptr (GError) left = NULL;
    g_autofree char *prefix = g_strdup_printf ("bak-%s-", job->record.id);
    gboolean alive = !job->run.hung && guest_acquire (guest, NULL);
    gboolean clean = job->run.hung ? FALSE : alive ? run_sweep (guest, prefix, &left) && stop_server (job, &left) && !job->run.frozen : qemu_is_gone (guest);

    /* QEMU may have stored the provisional bitmaps in the images when it quit. Who takes them out holds the images' locks, so not now:
     * a guest that is just being started again would fail to. */
    gboolean later = !alive && clean && event != JOB_EVENT_GOOD && checkpoint_is_stored (job->plan);
    if (later)
        guest->leftover_at = g_get_monotonic_time () + LEFTOVER_MS * 1000;
    if (later || (alive && event != JOB_EVENT_GOOD && !checkpoint_drop (guest, job->plan, left ? NULL : &left)))
        clean = FALSE;
    if (alive && clean)
        resume_guest (job);
    if (alive && clean && guest_is_offline (guest)) {
        guest_disconnect (guest);
        offline_stop (guest);   /* the images are free before the end is said: the guest may be started then */
    }
    if (job->run.hung)
        note_hung (job, failure);
    if (write_end (job, event, failure) && clean)       /* else the next owner finds the journal, and says how it ended */
        journal_remove (guest->dir);
    else if (clean)
        g_warning ("job %s: its record could not be written; the next owner does it", job->record.id);
    else if (!later)
        g_warning ("job %s: %s", job->record.id, left ? left->message : "QEMU could not be cleaned up; the next owner does it");
    bak_event completed = job_event_completed (&job->record);
    emit_state (job);
    guest_emit (guest, &completed);
    g_atomic_int_set (&guest->cancel, FALSE);
    if (guest->job == job)
        guest->job = NULL;
    job_free (job);
}

/* What QEMU says of a broken point in time is "Permission denied" or "Invalid argument"; the scratch tells why. */
static char *scratch_failure (Job *job, const PlanDisk *disk, BakErrorCode *ret_code)
{
    struct statvfs fs;
    struct stat st;
    *ret_code = BAK_ERROR_IO;
    if (!disk->scratch)
        return NULL;
    if (job->scratch_limit && stat (disk->scratch, &st) == 0 && (guint64) st.st_blocks * 512 >= job->scratch_limit) {
        *ret_code = BAK_ERROR_NO_SPACE;
        return g_strdup_printf (_("disk '%s': scratch '%s': no space left: it has reached its limit of %" G_GUINT64_FORMAT " bytes"), disk->target, disk->scratch, job->scratch_limit);
    }
    if (statvfs (disk->scratch, &fs) == 0 && fs.f_bavail * fs.f_frsize < 256 * 1024) {
        *ret_code = BAK_ERROR_NO_SPACE;
        return g_strdup_printf (_("disk '%s': scratch '%s': no space left on device"), disk->target, disk->scratch);
    }
    return NULL;
}

static gboolean probe_all (Job *job, GError **error)
{
    for (guint i = 0; i < job->plan->disks->len; i++)
    {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        g_autoptr (GError) failure = NULL;
        BakErrorCode code = BAK_ERROR_IO;
        if (probe_export (job->plan, disk, PROBE_TIMEOUT_MS, &failure))
            continue;
        g_autofree char *scratch = scratch_failure (job, disk, &code);
        return error_set (error, code, "%s", scratch ? scratch : failure->message);
    }
    return TRUE;
}

static gboolean still_copying_before_write (Job *job, GError **error)
{
    g_autoptr (Graph) graph = guest_graph (job->guest, job->plan->checkpoint ? GRAPH_DISKS : GRAPH_HELD, error);
    if (!graph || !checkpoint_is_kept (graph, job->plan, error))
        return FALSE;
    for (guint i = 0; i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        const GraphJob *qemu_job = disk->keeper ? graph_job (graph, disk->keeper) : NULL;
        if (!disk->keeper)
            continue;
        if (!qemu_job || g_str_equal (qemu_job->status, "concluded") || g_str_equal (qemu_job->status, "aborting"))
            return error_set (error, BAK_ERROR_INEXACT, _("disk '%s': QEMU's job that keeps the point in time has ended (cancelled by somebody else?)"), disk->target);
        if (disk->export_id && !graph_export (graph, disk->export_id))
            return error_set (error, BAK_ERROR_INEXACT, _("disk '%s': its export was removed by somebody else"), disk->target);
    }
    return TRUE;
}

static gboolean promote (Job *job, GError **error)
{
    g_autofree char *name = job->plan->checkpoint ? checkpoint_promote (job->guest, job, error) : NULL;
    return name || !job->plan->checkpoint;
}

/* Each of its actions may be done twice, so a monitor that breaks in the middle costs another round, not the backup. */
static gboolean finish (Job *job, GError **error)
{
    for (guint tries = 0;; tries++) {
        g_autoptr (GError) failure = NULL;
        job->run.cancel = &job->guest->cancel;
        gboolean ok = run_finish (&job->run, &failure);
        job->run.cancel = NULL;
        if (ok)
            return TRUE;
        if (tries == 2 || error_code (failure) != BAK_ERROR_CONNECTION || !guest_acquire (job->guest, NULL)) {
            g_propagate_error (error, g_steal_pointer (&failure));
            return FALSE;
        }
    }
}

/* Whether what was made is good: the last word before success is said. */
static gboolean verify_and_finish (Job *job, GError **error)
{
    if (job->finished)
        return promote (job, error);
    if (!still_copying_before_write (job, error) || (job->plan->mode == BACKUP_MODE_PULL && !probe_all (job, error)))
        return FALSE;
    if (!finish (job, error))
        return FALSE;
    if (!journal_phase (job->run.journal, "finished", JOB_STATE_COMPLETED, 0, NULL, error))
        return FALSE;
    job->finished = TRUE;
    return promote (job, error);
}

static void count_as_done (Job *job)
{
    for (guint i = 0; i < job->record.disks.disks_len; i++) {
        bak_job_disk *disk = &job->record.disks.disks_val[i];
        if (job->plan->mode == BACKUP_MODE_PUSH && disk->total == 0 && g_str_equal (disk->type, "incremental"))
            disk->bytes = 0;
    }
}

enum { END_PAUSE, END_CANCEL, END_WAIT, END_PASSES };

/* Asks one copy to end, a step a pass; FALSE: it is left to the undo. */
static gboolean end_copy (Job *job, const PlanDisk *disk, guint pass, gint64 deadline)
{
    const gboolean jobs = job->guest->caps->jobs;
    gint64 left = (deadline - g_get_monotonic_time ()) / 1000;
    g_autoptr (Action) action = NULL;

    if (left <= 0)
        return FALSE;
    switch (pass) {
    case END_PAUSE:
        if (!jobs)
            return TRUE;
        action = qmp_action ("job-pause", obj ("id", "s", disk->job, NULL));
        break;
    case END_CANCEL:
        if (jobs && run_job_halts (job->guest, disk->job, deadline) != HALT_STILL)
            return FALSE;
        action = jobs ? qmp_action ("job-cancel", obj ("id", "s", disk->job, NULL))
                      : qmp_action ("block-job-cancel", obj ("device", "s", disk->job, "force", "b", TRUE, NULL));
        left = MAX ((deadline - g_get_monotonic_time ()) / 1000, 1);
        break;
    default:
        action = own_action ("job-wait-end", obj ("job", "s", disk->job, NULL));
    }
    action->timeout_ms = (guint) left;
    return run_action (&job->run, action, NULL);
}

/* Where the target is in the way of the guest's writes (no keeper), a cut fails the one that waits for it: the job is asked to end first,
 * and a target that is only slow lets it. A target that cannot be cut is waited for but a moment. Each end is waited for on its own, the
 * deadline is one. */
static void cancel_gently (Job *job)
{
    gint64 now = g_get_monotonic_time ();
    g_autofree gboolean *paused = g_new0 (gboolean, job->plan->disks->len + 1);

    for (guint pass = 0; pass < END_PASSES; pass++)
        for (guint i = 0; i < job->plan->disks->len; i++) {
            const PlanDisk *disk = job->plan->disks->pdata[i];
            if (!disk->job || disk->keeper || job->disks[i].ended || (pass == END_CANCEL && !paused[i]))
                continue;
            gboolean done = end_copy (job, disk, pass, now + (run_can_cut (&job->run) ? GENTLE_MS : BRIEF_MS) * 1000);
            paused[i] = paused[i] || (pass == END_PAUSE && done);
        }
}

/* outcome: JOB_EVENT_GOOD, BAD or ABORTED; failure: the root cause (borrowed), NULL when good. Frees the job. */
static void job_end (Job *job, JobEvent outcome, const GError *failure)
{
    g_autoptr (GError) bad = NULL, undo_failure = NULL;
    static const int states[JOB_EVENTS] = { [JOB_EVENT_GOOD] = JOB_STATE_COMPLETED, [JOB_EVENT_BAD] = JOB_STATE_FAILED, [JOB_EVENT_ABORTED] = JOB_STATE_ABORTED };

    if (failure)
        job_record_set_error (&job->record, failure);
    if (job->run.journal && !job->finished)     /* first: whoever finds copies that were paused to be cancelled has to know that they were */
        journal_phase (job->run.journal, "stopping", states[outcome], job->record.error_code, job->record.error, NULL);
    if (outcome != JOB_EVENT_GOOD && !job->mute)
        cancel_gently (job);
    if (outcome != JOB_EVENT_GOOD)
        run_cut (&job->run);
    if (outcome != JOB_EVENT_GOOD || job->guest->recovering)     /* what is called good has just been looked at */
        job_refresh (job->guest);
    job->run.hung = outcome != JOB_EVENT_GOOD && job->mute;
    if (!job_record_move (&job->record, JOB_EVENT_END))
        return;
    save_record (job);
    emit_state (job);
    if (outcome == JOB_EVENT_GOOD && !verify_and_finish (job, &bad))
        outcome = error_code (bad) == BAK_ERROR_ABORTED && g_atomic_int_get (&job->guest->cancel) ? JOB_EVENT_ABORTED : JOB_EVENT_BAD;
    if (outcome == JOB_EVENT_GOOD)
        count_as_done (job);
    if (bad) {
        job_record_set_error (&job->record, bad);
        journal_phase (job->run.journal, "stopping", states[outcome], job->record.error_code, job->record.error, NULL);
    }
    if (!run_undo (&job->run, outcome == JOB_EVENT_GOOD, &undo_failure))
        g_warning ("job %s: undo: %s", job->record.id, undo_failure->message);
    conclude (job, outcome, bad ? bad : failure);
}

/* ---- while it runs ---- */

static void fail_disk (Job *job, guint index, const char *text)
{
    bak_job_disk *disk = &job->record.disks.disks_val[index];
    job_record_set_text (&disk->error, text);
    disk->state = JOB_STATE_FAILED;
    emit_disk (job, disk);
    for (guint i = 0; i < job->record.disks.disks_len; i++) {
        bak_job_disk *other = &job->record.disks.disks_val[i];
        if (i == index || job_state_ended (other->state))
            continue;
        g_autofree char *reason = g_strdup_printf (_("cancelled because disk '%s' failed"), disk->target);
        job_record_set_text (&other->error, reason);
        other->state = JOB_STATE_ABORTED;
    }
}

static gboolean is_job (JsonObject *entry, const char *id)
{
    return entry && id && g_strcmp0 (json_get_string (entry, "id"), id) == 0;
}

/* A copy that has all is "ready" (a mirror) or "pending" (a backup) until finish() tells it to end. */
static gboolean has_copied (const Guest *guest, const char *status)
{
    return g_strcmp0 (status, "ready") == 0 || (guest->caps->copies_wait && g_strcmp0 (status, "pending") == 0);
}

/* The result is in the journal before QEMU forgets it. */
static void note_result (Job *job, guint index, gboolean concluded, const char *error)
{
    const PlanDisk *disk = job->plan->disks->pdata[index];
    JobDisk *state = &job->disks[index];
    state->ended = TRUE;
    g_free (state->error);
    state->error = error && *error ? g_strdup (error) : NULL;
    if (journal_result (job->run.journal, disk->job, error, NULL) && concluded)
        qmp_run (job->guest->qmp, "job-dismiss", obj ("id", "s", disk->job, NULL), 0, NULL);
}

static void note_entry (Job *job, guint index, JsonObject *entry)
{
    const PlanDisk *disk = job->plan->disks->pdata[index];
    bak_job_disk *out = &job->record.disks.disks_val[index];
    JobDisk *state = &job->disks[index];
    gint64 current = MAX (0, json_get_int (entry, "current-progress", 0)), total = MAX (0, json_get_int (entry, "total-progress", 0));
    const char *status = json_get_string (entry, "status");
    gboolean concluded = g_strcmp0 (status, "concluded") == 0, copied = has_copied (job->guest, status);

    if (is_job (entry, disk->job)) {
        out->bytes = current;
        out->total = total;
        if ((concluded || copied) && !state->ended)
            note_result (job, index, concluded, json_get_string (entry, "error"));
    } else if (is_job (entry, disk->keeper)) {
        if (!disk->job) {
            out->bytes = current;
            out->total = disk->size;
        }
        if (concluded && !state->keeper_ended) {
            state->keeper_ended = TRUE;
            state->keeper_error = g_strdup (json_get_string (entry, "error"));
        }
    }
}

static void note_progress (Job *job, JsonArray *jobs)
{
    for (guint i = 0; jobs && i < json_array_get_length (jobs); i++) {
        JsonObject *entry = json_get_element (jobs, i);
        for (guint k = 0; entry && k < job->plan->disks->len; k++)
            note_entry (job, k, entry);
    }
}

static void sum_temp (Job *job)
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

typedef struct { Guest *guest; const char *id; } Awaited;

static gboolean result_told (gpointer data)
{
    const Awaited *awaited = data;
    return g_hash_table_contains (awaited->guest->job_errors, awaited->id);
}

/* A job that dismisses itself tells its result by an event only; QEMU 5.2 may list it no more before the event has come. */
static const char *told_result (Guest *guest, const char *id)
{
    Awaited awaited = { guest, id };
    if (!result_told (&awaited))
        qmp_wait (guest->qmp, result_told, &awaited, g_get_monotonic_time () + RESULT_MS * 1000, id, NULL);
    return g_hash_table_lookup (guest->job_errors, id);
}

/* Marks ended what QEMU no longer lists: with auto-dismiss off that is somebody else's doing. */
static void mark_vanished (Job *job, JsonArray *jobs)
{
    for (guint k = 0; k < job->plan->disks->len; k++) {
        const PlanDisk *disk = job->plan->disks->pdata[k];
        bak_job_disk *out = &job->record.disks.disks_val[k];
        JobDisk *state = &job->disks[k];
        gboolean copies = FALSE, keeps = FALSE;
        for (guint i = 0; i < json_array_get_length (jobs); i++) {
            copies = copies || is_job (json_get_element (jobs, i), disk->job);
            keeps = keeps || is_job (json_get_element (jobs, i), disk->keeper);
        }
        if (!copies && disk->job && !state->ended) {
            const char *told = told_result (job->guest, disk->job);
            state->ended = TRUE;
            state->error = g_strdup (told ? told : _("QEMU's job has vanished, and its result with it"));
            if (!*state->error) {
                g_clear_pointer (&state->error, g_free);
                out->bytes = out->total = MAX (out->total, disk->size);
            }
            journal_result (job->run.journal, disk->job, state->error, NULL);
        }
        if (!keeps && disk->keeper && !state->keeper_ended) {
            state->keeper_ended = TRUE;
            state->keeper_error = g_strdup (_("it has vanished"));
        }
    }
}

/* The answer of query-jobs; before 3.0 that of query-block-jobs in its shape. NULL: no answer. */
static JsonNode *query_jobs (Guest *guest)
{
    g_autoptr (GError) failure = NULL;
    g_autoptr (JsonNode) answer = qmp_execute (guest->qmp, guest->caps->jobs ? "query-jobs" : "query-block-jobs", NULL, MUTE_MS, &failure);
    if (guest->job)
        guest->job->mute = !answer && error_code (failure) == BAK_ERROR_TIMEOUT;
    if (!answer || !JSON_NODE_HOLDS_ARRAY (answer))
        return NULL;
    if (guest->caps->jobs)
        return g_steal_pointer (&answer);
    JsonArray *old = json_node_get_array (answer), *jobs = json_array_new ();
    for (guint i = 0; i < json_array_get_length (old); i++) {
        JsonObject *entry = json_get_element (old, i);
        json_array_add_object_element (jobs, obj ("id", "s", json_get_string (entry, "device"), "status", "s", "running",
            "current-progress", "i", json_get_int (entry, "offset", 0), "total-progress", "i", json_get_int (entry, "len", 0), NULL));
    }
    JsonNode *result = json_node_init_array (json_node_alloc (), jobs);
    json_array_unref (jobs);
    return result;
}

void job_refresh (Guest *guest)
{
    Job *job = guest->job;
    if (!job || !guest->qmp || !qmp_is_alive (guest->qmp, NULL) || job->record.state == JOB_STATE_PREPARING)
        return;
    g_autoptr (JsonNode) jobs = query_jobs (guest);
    if (!jobs)
        return;
    note_progress (job, json_node_get_array (jobs));
    mark_vanished (job, json_node_get_array (jobs));
    sum_temp (job);
    publish (job);
}

static void emit_progress (Job *job)
{
    bak_event event = job_event_progress (&job->record, &job->pace);
    guest_emit (job->guest, &event);
}

/* Legacy overlays serve new data as soon as the job that copies before write is gone: the export goes first, at once. */
static void kill_exports (Job *job)
{
    for (guint i = 0; i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        if (disk->export_id)
            qmp_run (job->guest->qmp, "block-export-del", obj ("id", "s", disk->export_id, "mode", "s", "hard", NULL), 0, NULL);
    }
}

/* One failed disk ends the job: the others are cancelled, and the result says which was which. */
static void fail_job (Job *job, guint index, BakErrorCode code, const char *text)
{
    g_autoptr (GError) failure = NULL;
    error_set (&failure, code, "%s", text);
    fail_disk (job, index, text);
    job_end (job, JOB_EVENT_BAD, failure);
}

/* A QEMU that ends cancels its jobs first, and says so before. */
static gboolean is_shut_down (const Job *job)
{
    const GPtrArray *pending = job->guest->pending;
    gboolean shut_down = job->shut_down;
    for (guint i = 0; i < pending->len; i++)
        shut_down = shut_down || g_str_equal (((GuestEvent *) pending->pdata[i])->name, "SHUTDOWN");
    return shut_down;
}

static const char *last_words (const Job *job)
{
    return is_shut_down (job) ? _("the guest was shut down during the backup") : _("QEMU is gone (the guest was stopped or crashed during the backup)");
}

static void fail_copy (Job *job, guint index)
{
    const PlanDisk *disk = job->plan->disks->pdata[index];
    const char *error = job->disks[index].error;
    g_autofree char *text = text_sanitize (error, 1024);
    BakErrorCode code = error_code_from_text (error);
    gboolean broken = disk->keeper && (strstr (error, g_strerror (EACCES)) || strstr (error, g_strerror (EINVAL)));
    g_autofree char *scratch = broken ? scratch_failure (job, disk, &code) : NULL;
    g_autofree char *what = scratch ? g_strdup (scratch)
        : broken ? g_strdup_printf (_("disk '%s': scratch '%s' failed: the point in time is broken (%s)"), disk->target, disk->scratch, text)
        : code == BAK_ERROR_ABORTED && is_shut_down (job) ? g_strdup_printf ("disk '%s': %s", disk->target, last_words (job))
        : code == BAK_ERROR_ABORTED ? g_strdup_printf (_("disk '%s': target '%s': QEMU's job was cancelled by somebody else: %s"), disk->target, disk->path, text)
        : g_strdup_printf (_("disk '%s': target '%s': %s"), disk->target, disk->path ? disk->path : "?", text);
    fail_job (job, index, code, what);
}

static void fail_keeper (Job *job, guint index)
{
    const PlanDisk *disk = job->plan->disks->pdata[index];
    const char *error = job->disks[index].keeper_error;
    g_autofree char *text = text_sanitize (error ? error : "?", 512);
    kill_exports (job);
    g_autofree char *what = is_shut_down (job) ? g_strdup_printf ("disk '%s': %s", disk->target, last_words (job))
        : g_strdup_printf (_("disk '%s': QEMU's job that keeps the point in time has ended (%s): what was read after that moment may be newer data"), disk->target, text);
    fail_job (job, index, BAK_ERROR_INEXACT, what);
}

/* FALSE: the job has ended. */
static gboolean check_disk (Job *job, guint index)
{
    const PlanDisk *disk = job->plan->disks->pdata[index];
    const JobDisk *state = &job->disks[index];

    if (state->keeper_ended)
        fail_keeper (job, index);
    else if (disk->job && state->ended && state->error)
        fail_copy (job, index);
    else
        return TRUE;
    return FALSE;
}

/* FALSE: the job has ended. */
static gboolean check_disks (Job *job)
{
    gboolean all = TRUE;

    if (job->culprit >= 0)
        return check_disk (job, job->culprit);
    for (guint i = 0; i < job->plan->disks->len; i++) {
        if (!check_disk (job, i))
            return FALSE;
        all = all && ((PlanDisk *) job->plan->disks->pdata[i])->job && job->disks[i].ended;
    }
    if (!all)
        return TRUE;
    job_end (job, JOB_EVENT_GOOD, NULL);
    return FALSE;
}

/* The copy of this disk is about to end by an error, and from 8.2 on QEMU's main loop then waits for what the other targets owe: they are cut
 * now, so that one that hangs holds nobody. Not where a write of the guest would fail with it. */
static void note_culprit (Job *job, JsonObject *event)
{
    const char *device = json_get_string (event, "device");

    for (guint i = 0; job->culprit < 0 && i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        if (!disk->keeper || g_strcmp0 (disk->job, device) != 0 || g_strcmp0 (json_get_string (event, "action"), "report") != 0)
            continue;
        job->culprit = (gint) i;
        run_cut (&job->run);
    }
}

void job_note_errors (Guest *guest)
{
    for (guint i = 0; guest->job && guest->job->record.state == JOB_STATE_RUNNING && i < guest->pending->len; i++) {
        const GuestEvent *event = guest->pending->pdata[i];
        if (event->data && g_str_equal (event->name, "BLOCK_JOB_ERROR"))
            note_culprit (guest->job, event->data);
    }
}

static void fail_by_write (Job *job, guint index, gboolean full)
{
    const PlanDisk *disk = job->plan->disks->pdata[index];
    g_autofree char *text = g_strdup_printf (full ? _("disk '%s': '%s': no space left on device, met by a write of the guest")
                                                  : _("disk '%s': '%s': I/O error, met by a write of the guest"),
                                             disk->target, disk->scratch ? disk->scratch : disk->path);
    fail_job (job, index, full ? BAK_ERROR_NO_SPACE : BAK_ERROR_IO, text);
}

/* What QEMU says by events: the fill level of a scratch, and guest writes that failed in our filter. FALSE: the job has ended. */
static gboolean take_events (Job *job)
{
    Guest *guest = job->guest;
    job_note_errors (guest);
    for (guint i = 0; i < guest->pending->len; i++) {
        const GuestEvent *event = guest->pending->pdata[i];
        job->shut_down = job->shut_down || g_str_equal (event->name, "SHUTDOWN");
        gint index = event->data ? disk_of_node (job, json_get_string (event->data, "node-name")) : -1;
        const PlanDisk *disk = index >= 0 ? job->plan->disks->pdata[index] : NULL;
        g_autofree char *text = NULL;
        if (!disk)
            continue;
        if (g_str_equal (event->name, "BLOCK_WRITE_THRESHOLD")) {
            text = g_strdup_printf (_("disk '%s': scratch '%s': no space left: it has reached its limit"), disk->target, disk->scratch);
            fail_job (job, index, BAK_ERROR_NO_SPACE, text);
            return FALSE;
        }
        if (g_str_equal (event->name, "BLOCK_IO_ERROR")) {
            fail_by_write (job, index, json_get_bool (event->data, "nospace", FALSE));
            return FALSE;
        }
    }
    return TRUE;
}

/* FALSE: the job has ended. */
static gboolean mind_monitor (Job *job)
{
    Guest *guest = job->guest;
    g_autoptr (GError) failure = NULL;
    if (guest->qmp && qmp_is_alive (guest->qmp, NULL))
        return TRUE;
    if (guest_acquire (guest, &failure)) {
        job->lost_monitor = 0;
        job_refresh (guest);
        return TRUE;
    }
    if (qemu_is_gone (guest) || ++job->lost_monitor >= LOST_MONITOR_TRIES) {
        g_autoptr (GError) why = NULL;
        error_set (&why, BAK_ERROR_CONNECTION, "%s", qemu_is_gone (guest) ? last_words (job) : failure->message);
        job_end (job, JOB_EVENT_BAD, why);
        return FALSE;
    }
    return FALSE;
}

static gboolean probe_is_due (const Job *job, gint64 now)
{
    return job->plan->mode == BACKUP_MODE_PULL && now >= job->next_probe;
}

/* A QEMU that answers nothing at all (it was stopped) says nothing about the point in time either. FALSE: the job has ended. */
static gboolean mind_probe (Job *job, gint64 now)
{
    if (!probe_is_due (job, now) || job->mute)
        return TRUE;
    job->next_probe = now + PROBE_MS * 1000;
    for (guint i = 0; i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        g_autoptr (GError) failure = NULL;
        BakErrorCode code = BAK_ERROR_IO;
        if (probe_export (job->plan, disk, PROBE_TIMEOUT_MS, &failure))
            continue;
        if (error_code (failure) == BAK_ERROR_TIMEOUT)
            job_refresh (job->guest);
        if (job->mute)
            return TRUE;
        g_autofree char *scratch = scratch_failure (job, disk, &code);
        const char *text = scratch ? scratch : failure->message;
        bak_event event = { .kind = EVENT_WARNING, .job = ret_string (job->record.id), .disk = ret_string (disk->target), .text = ret_string (text) };
        guest_emit (job->guest, &event);
        fail_job (job, i, code, text);
        return FALSE;
    }
    return TRUE;
}

/* A reader that has gone will not come back by itself; one that is connected is trusted to read. FALSE: the job has ended. */
static gboolean mind_readers (Job *job, gint64 now)
{
    if (job->plan->mode != BACKUP_MODE_PULL || !job->plan->idle_timeout)
        return TRUE;
    if (probe_count_clients (job->plan, qmp_get_peer_pid (job->guest->qmp)) != 0)
        job->last_read = now;
    if (now - job->last_read < (gint64) job->plan->idle_timeout * G_USEC_PER_SEC)
        return TRUE;
    g_autoptr (GError) gone = NULL;
    error_set (&gone, BAK_ERROR_TIMEOUT, _("idle: no reader was connected to the export for %u seconds (--idle-timeout); the backup was ended"), job->plan->idle_timeout);
    job_end (job, JOB_EVENT_BAD, gone);
    return FALSE;
}

/* A server that takes data and says nothing would be waited for forever. FALSE: the job has ended. */
static gboolean mind_hung_targets (Job *job, gint64 now)
{
    for (guint i = 0; job->plan->mode == BACKUP_MODE_PUSH && i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        JobDisk *state = &job->disks[i];
        guint64 bytes = job->record.disks.disks_val[i].bytes;
        gboolean network = disk->path && !g_path_is_absolute (disk->path);
        if (!network || state->ended || disk->limit || bytes != state->moved || !state->moved_at) {
            state->moved = bytes;
            state->moved_at = now;
        }
        if (now - state->moved_at < (gint64) HUNG_TARGET_S * G_USEC_PER_SEC || g_strcmp0 (disk->type, "none") == 0)
            continue;
        g_autofree char *text = g_strdup_printf (_("disk '%s': target '%s' does not answer: nothing was copied for %d seconds"), disk->target, disk->path, HUNG_TARGET_S);
        fail_job (job, i, BAK_ERROR_TIMEOUT, text);
        return FALSE;
    }
    return TRUE;
}

/* From 8.2 on the end of one disk's job, by a failure, waits for the requests of all: a target that hangs holds QEMU's main loop, and the guest. FALSE: the job has ended. */
static gboolean mind_mute_qemu (Job *job)
{
    if (!job->mute || job->plan->mode != BACKUP_MODE_PUSH || !run_can_cut (&job->run))
        return TRUE;
    g_autoptr (GError) why = NULL;
    error_set (&why, BAK_ERROR_TIMEOUT, _("QEMU did not answer for %d seconds: a target over the network seems to hang; the connections to the targets were cut"), MUTE_MS / 1000);
    job_end (job, JOB_EVENT_BAD, why);
    return FALSE;
}

static gboolean event_says_ended (Guest *guest, const char *id)
{
    const char *status = id ? g_hash_table_lookup (guest->job_status, id) : NULL;
    return (status && (g_str_equal (status, "concluded") || has_copied (guest, status) || g_str_equal (status, "null")))
        || (id && !guest->caps->jobs && g_hash_table_contains (guest->job_errors, id));
}

void job_tick (Guest *guest)
{
    Job *job = guest->job;
    gint64 now = g_get_monotonic_time ();
    gboolean concluded = FALSE;

    if (job->record.state != JOB_STATE_RUNNING && job->record.state != JOB_STATE_READY)
        return;
    if (!mind_monitor (job))
        return;
    for (guint i = 0; i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        concluded = concluded || (!job->disks[i].ended && event_says_ended (guest, disk->job)) || event_says_ended (guest, disk->keeper);
    }
    if (!take_events (job) || !mind_mute_qemu (job))
        return;
    if (concluded || probe_is_due (job, now) || now >= job->next_tick) {
        job->next_tick = now + TICK_MS * 1000;
        job_refresh (guest);
        if (!mind_mute_qemu (job))
            return;
        emit_progress (job);
    }
    if (!check_disks (job))
        return;
    g_ptr_array_set_size (guest->pending, 0);
    if (job->deadline && now >= job->deadline) {
        g_autoptr (GError) late = NULL;
        error_set (&late, BAK_ERROR_TIMEOUT, _("the job took longer than it was given (--timeout)"));
        job_end (job, JOB_EVENT_ABORTED, late);
        return;
    }
    if (mind_readers (job, now) && mind_hung_targets (job, now))
        mind_probe (job, now);
}

/* ---- requests ---- */

/* A copy with sync='none' has no end of its own: it is as long as it is wanted. */
static gboolean ends_when_stopped (const Job *job)
{
    for (guint i = 0; i < job->plan->disks->len; i++)
        if (!job->disks[i].ended && g_strcmp0 (((PlanDisk *) job->plan->disks->pdata[i])->type, "none") != 0)
            return FALSE;
    return TRUE;
}

gboolean job_stop (Guest *guest, gboolean abort, bak_job *ret, GError **error)
{
    Job *job = guest->job;
    g_autoptr (GError) why = NULL;
    if (!job)
        return error_set (error, BAK_ERROR_NO_JOB, _("guest '%s' has no running backup job"), guest->def->name);
    job_refresh (guest);
    if (job->mute && !abort)
        return error_set (error, BAK_ERROR_TIMEOUT, _("guest '%s': QEMU does not answer (monitor '%s'): the backup stays as it is; stop it when QEMU goes on, "
                          "or give it up with 'backup-stop %s --abort'"), guest->def->name, qmp_get_address (guest->qmp), guest->def->name);
    if (!check_disks (job)) {
        /* it had just ended by itself */
    } else if (abort) {
        error_set (&why, BAK_ERROR_ABORTED, _("aborted on request"));
        job_end (job, JOB_EVENT_ABORTED, why);
    } else if (job->plan->mode == BACKUP_MODE_PULL || ends_when_stopped (job)) {
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

gboolean job_limit (Guest *guest, const char *disk, guint64 bytes_per_sec, GError **error)
{
    Job *job = guest->job;
    gboolean found = FALSE;
    if (!job)
        return error_set (error, BAK_ERROR_NO_JOB, _("guest '%s' has no running backup job"), guest->def->name);
    if (job->plan->mode == BACKUP_MODE_PULL)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("a pull backup is as fast as its reader: limit the reader"));
    if (bytes_per_sec > G_MAXINT64)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("the rate is too large"));
    guint64 share = *disk || !bytes_per_sec ? bytes_per_sec : MAX (1, bytes_per_sec / job->plan->disks->len);
    for (guint i = 0; i < job->plan->disks->len; i++) {
        PlanDisk *plan_disk = job->plan->disks->pdata[i];
        if (*disk && !g_str_equal (plan_disk->target, disk))
            continue;
        found = TRUE;
        if (job->disks[i].ended)
            continue;
        if (!qmp_run (guest->qmp, "block-job-set-speed", obj ("device", "s", plan_disk->job, "speed", "i", (gint64) share, NULL), LIMIT_TIMEOUT_MS, error))
            return error_note (error, _("disk '%s'"), plan_disk->target);
        job->record.disks.disks_val[i].limit = plan_disk->limit = share;
    }
    if (!found)
        return error_set (error, BAK_ERROR_NO_DISK, _("disk '%s' is not in job %s"), disk, job->record.id);
    save_record (job);
    return TRUE;
}

/* ---- recover ---- */

static Job *job_from_journal (Guest *guest, JournalState *state)
{
    Job *job = job_new (guest, g_steal_pointer (&state->plan), state->states, state->files);
    job->run.frozen = state->frozen;
    if (state->frozen)
        job->run.frozen_since = g_get_monotonic_time ();
    job->run.journal = journal_open (guest->dir, NULL);
    if (!record_load (guest->dir, job->plan->job, &job->record, NULL))
        job_record_init (&job->record, job->plan, guest->def->name);
    for (guint i = 0; i < job->plan->disks->len; i++) {
        const char *id = ((PlanDisk *) job->plan->disks->pdata[i])->job, *result = id ? g_hash_table_lookup (state->results, id) : NULL;
        job->disks[i].ended = result != NULL;
        job->disks[i].error = result && *result ? g_strdup (result) : NULL;
    }
    gint64 started = json_get_int (state->meta, "started", 0);
    if (started)
        job->record.started = started;
    job->began = g_get_monotonic_time () - MAX (0, g_get_real_time () - job->record.started);
    job->scratch_limit = json_get_int (state->meta, "scratch-limit", 0);
    gint64 timeout = json_get_int (state->meta, "timeout", 0);
    job->deadline = timeout > 0 ? job->began + timeout : 0;
    return job;
}

static gboolean other_process (Guest *guest, const JournalState *state)
{
    gint64 pid = json_get_int (state->meta, "pid", 0), start = json_get_int (state->meta, "start", 0);
    int now = qmp_get_peer_pid (guest->qmp);
    return pid > 0 && now > 0 && (pid != now || (start && start != process_start (now)));
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
    GArray *jobs = record_list (guest->dir, NULL);
    gboolean ok = run_sweep (guest, "bak-", error);
    for (guint i = 0; ok && i < jobs->len; i++) {
        bak_job *job = &g_array_index (jobs, bak_job, i);
        if (job_state_ended (job->state))
            continue;
        job->state = JOB_STATE_FAILED;
        job->ended = g_get_real_time ();
        job->error_code = BAK_ERROR_IO;
        job_record_set_text (&job->error, _("the journal of the job was damaged: it was undone by names alone; look for files that it made"));
        remove_scratches (job);
        record_save (guest->dir, job, NULL);
    }
    for (guint i = 0; i < jobs->len; i++)
        bak_job_clear (&g_array_index (jobs, bak_job, i));
    g_array_unref (jobs);
    if (ok)
        journal_remove (guest->dir);
    return ok;
}

/* The event of a write that failed in our filter may have come while nobody listened. */
static void fail_if_stopped (Job *job)
{
    g_autoptr (Graph) graph = guest_graph (job->guest, GRAPH_ALL, NULL);
    for (guint i = 0; graph && g_strcmp0 (graph->status, "io-error") == 0 && i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        const GraphDisk *now = disk->filter ? graph_disk (graph, disk->target, NULL) : NULL;
        if (now && now->io_failed) {
            fail_by_write (job, i, now->io_full);
            return;
        }
    }
}

gboolean job_recover (Guest *guest, GError **error)
{
    g_autoptr (JournalState) state = journal_read (guest->dir, error);
    g_autoptr (GError) why = NULL;
    if (!state)
        return FALSE;
    if (!state->plan)
        return recover_damaged (guest, error);
    if (checkpoint_is_journal (state))
        return checkpoint_recover (guest, state, TRUE, error);
    gboolean gone = other_process (guest, state);
    gboolean running = g_str_equal (state->phase, "running"), finished = g_str_equal (state->phase, "finished");
    Job *job = job_from_journal (guest, state);
    guest->job = job;
    job->inherited = !gone;
    if (job_state_ended (job->record.state)) {
        /* the record was written, the journal not yet removed, or QEMU could not be cleaned up then */
        gboolean good = job->record.state == JOB_STATE_COMPLETED;
        run_undo (&job->run, good, NULL);
        g_autofree char *prefix = g_strdup_printf ("bak-%s-", job->record.id);
        if (run_sweep (guest, prefix, error) && (good || checkpoint_drop (guest, job->plan, error))) {
            resume_guest (job);
            journal_remove (guest->dir);
        }
        publish (job);
        guest->job = NULL;
        job_free (job);
        return !journal_exists (guest->dir);
    }
    if (running && !gone) {
        if (job->record.state == JOB_STATE_PREPARING)
            begun (job, NULL);
        job_refresh (guest);
        publish (job);
        job->next_probe = g_get_monotonic_time ();
        emit_state (job);
        fail_if_stopped (job);
        return TRUE;
    }
    if (job->record.state == JOB_STATE_PREPARING)
        job->record.state = JOB_STATE_STOPPING;
    if (finished) {
        job->finished = TRUE;
        job_end (job, JOB_EVENT_GOOD, NULL);
        return TRUE;
    }
    if (gone)
        error_set (&why, BAK_ERROR_CONNECTION, _("QEMU was restarted during the backup"));
    else if (g_str_equal (state->phase, "stopping"))
        error_set (&why, state->error_code ? state->error_code : BAK_ERROR_INTERNAL, "%s", state->error && *state->error ? state->error : "?");
    else
        error_set (&why, BAK_ERROR_INTERNAL, _("the process that began the backup died before it was running; everything was undone"));
    if (g_str_equal (state->phase, "stopping") && state->outcome == JOB_STATE_COMPLETED && !gone)
        job_end (job, JOB_EVENT_GOOD, NULL);
    else
        job_end (job, state->outcome == JOB_STATE_ABORTED ? JOB_EVENT_ABORTED : JOB_EVENT_BAD, why);
    return TRUE;
}

void job_recover_gone (Guest *guest, const char *why)
{
    g_autoptr (JournalState) state = journal_read (guest->dir, NULL);
    g_autoptr (GError) failure = NULL;
    if (!state || !state->plan)
        return;
    if (checkpoint_is_journal (state)) {
        checkpoint_recover (guest, state, FALSE, NULL);
        return;
    }
    Job *job = job_from_journal (guest, state);
    if (job_state_ended (job->record.state)) {
        run_undo (&job->run, job->record.state == JOB_STATE_COMPLETED, NULL);
        g_autoptr (GError) left = NULL;
        if (job->record.state != JOB_STATE_COMPLETED && !checkpoint_drop (guest, job->plan, &left))
            g_warning ("job %s: %s", job->record.id, left->message);
        else
            journal_remove (guest->dir);
        job_free (job);
        return;
    }
    error_set (&failure, BAK_ERROR_CONNECTION, _("QEMU is gone (%s) and the process that watched the backup was not there"), why);
    if (job->record.state == JOB_STATE_PREPARING)
        job->record.state = JOB_STATE_STOPPING;
    guest->job = job;
    gboolean good = job->finished = g_str_equal (state->phase, "finished");
    job_end (job, good ? JOB_EVENT_GOOD : JOB_EVENT_BAD, good ? NULL : failure);
}
