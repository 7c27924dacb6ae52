/* Begin, requests and end of a backup: what QEMU needs of it. The rest is src/job/life.c; every end
 * goes through life_end(). */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/blockjob.h"
#include "driver/qemu/places.h"
#include "driver/qemu/same-qemu.h"
#include "driver/qemu/verbs.h"
#include "job/build.h"
#include "driver/qemu/checkpoint.h"
#include "driver/qemu/job-parts.h"
#include "driver/qemu/migration.h"
#include "job/probe.h"
#include "util/caller.h"
#include "util/config.h"
#include "util/files.h"
#include "util/json.h"
#include "util/process.h"

/* ---- a Job ---- */

static void job_init (Job *job)
{
    job->own = g_new0 (JobOwn, 1);
    job->own->culprit = -1;
    job->own->disks = g_new0 (JobDisk, MAX (job->plan->disks->len, 1));
}

static void job_clear (Job *job)
{
    for (guint i = 0; i < job->plan->disks->len; i++) {
        g_free (job->own->disks[i].error);
        g_free (job->own->disks[i].keeper_error);
    }
    g_free (job->own->disks);
    g_free (job->own);
}

static void let_go (Job *job)
{
    if (job->guest->job == job)
        job->guest->job = NULL;
}

/* ---- begin ---- */

static char *scratch_directory (Guest *guest, const BackupDef *def, GError **error)
{
    char *dir = def->scratch_dir ? g_strdup (def->scratch_dir) : config_get_string ("scratch_dir");
    if (dir) {
        if (g_file_test (dir, G_FILE_TEST_IS_DIR))
            return dir;
        error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                   _("the scratch directory '%s' does not exist"), dir);
        g_free (dir);
        return NULL;
    }
    dir = g_build_filename (guest->dir, "scratch", NULL);
    if (!files_make_dir (dir, 0711, error))
        g_clear_pointer (&dir, g_free);
    return dir;
}

typedef struct {
    BackupDef *def;
    CheckpointDef *checkpoint;
    Graph *graph;
    GPtrArray *checkpoints;
    char *id, *scratch_dir, *socket_dir, *target_dir, *tls_dir, *barrier;
    PassedAddress passed;
} Request;

static void request_clear (Request *request)
{
    backup_def_free (request->def);
    checkpoint_def_free (request->checkpoint);
    graph_free (request->graph);
    g_clear_pointer (&request->checkpoints, g_ptr_array_unref);
    g_free (request->id);
    g_free (request->scratch_dir);
    g_free (request->socket_dir);
    g_free (request->target_dir);
    g_free (request->tls_dir);
    g_free (request->barrier);
    passed_address_clear (&request->passed);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Request, request_clear)

/* The 2016 <branch> names a series: each of its backups makes the series' next checkpoint. */
static void series_checkpoint (Request *request)
{
    request->checkpoint = checkpoint_def_new ();
    request->checkpoint->name =
        checkpoint_next_in_series (request->checkpoints, request->def->series);
    request->checkpoint->creation_time = g_get_real_time () / G_USEC_PER_SEC;
}

/* Only a warning: how much a copy needs is known when it is made. */
static void note_free_space (Plan *plan, const BackupDef *def)
{
    for (guint i = 0; i < plan->disks->len; i++) {
        const PlanDisk *disk = plan->disks->pdata[i];
        struct statvfs fs;
        if (!disk->path || !g_path_is_absolute (disk->path)
            || g_str_has_prefix (disk->path, "/dev/") || g_strcmp0 (disk->type, "full") != 0)
            continue;
        g_autofree char *dir = g_path_get_dirname (disk->path);
        if (statvfs (dir, &fs) == 0 && (guint64) fs.f_bavail * fs.f_frsize < disk->size)
            g_ptr_array_add (plan->notes,
                             g_strdup_printf (_("disk '%s': '%s' has %" G_GUINT64_FORMAT
                                                 " bytes free, the disk %" G_GUINT64_FORMAT
                                                 ": the target may not fit"),
                                              disk->target, dir,
                                              (guint64) fs.f_bavail * fs.f_frsize, disk->size));
    }
}

static gboolean is_passed (const BackupDef *def)
{
    return def->mode == BACKUP_MODE_PULL && def->server && def->server->transport == SERVER_FD;
}

static gboolean monitor_takes_descriptors (const Guest *guest, GError **error)
{
    int domain = 0;
    socklen_t length = sizeof domain;
    getsockopt (qmp_get_fd (guest->qmp), SOL_SOCKET, SO_DOMAIN, &domain, &length);
    return domain == AF_UNIX
           || error_set (error, BAK_ERROR_NOT_SUPPORTED,
                         _("guest '%s': its monitor is at '%s', and a descriptor is only passed "
                            "over a unix socket; attach it by one, or use "
                            "<server transport='unix'> or 'tcp'"),
                         guest->def->name, qmp_get_address (guest->qmp));
}

/* Where the socket listens that the client has passed: what it serves is looked at there. */
static gboolean look_at_passed (Guest *guest, Request *request, GError **error)
{
    if (!is_passed (request->def))
        return TRUE;
    const char *group = request->def->server->fdgroup;
    int fd = passed_get (passed_current (), guest->def->name, group, error);
    if (fd < 0)
        return FALSE;
    gboolean ok = monitor_takes_descriptors (guest, error) && passed_check (group, &fd, 1, error)
                  && passed_address (fd, group, &request->passed, error)
                  && places_check_passed (&request->passed, request->def->server, error);
    close (fd);
    return ok;
}

/* One of a guest that is off does not answer. */
static gboolean has_agent (const Guest *guest)
{
    return !guest_is_offline (guest) && guest->def->agent && *guest->def->agent;
}

/* dry: for one that is not begun. It is refused by the same looks. */
static Plan *make_plan (Guest *guest, const bak_begin_args *args, gboolean dry, Request *request,
                        GError **error)
{
    if (guest->job) {
        life_refuse_second (guest->job, error);
        return NULL;
    }
    if (args->flags & ~KNOWN_FLAGS) {
        error_set (error,
                   args->flags & BEGIN_PRESERVE_SHUTDOWN ? BAK_ERROR_NOT_SUPPORTED
                                                         : BAK_ERROR_INVALID_ARGUMENT,
                   _("unsupported flags (0x%x)"), args->flags & ~KNOWN_FLAGS);
        return NULL;
    }
    request->def = backup_def_parse (args->backup_xml, error);
    if (!request->def)
        return NULL;
    if (!places_check (request->def, error) || !look_at_passed (guest, request, error))
        return NULL;
    plan_mark_directories (request->def);
    const gboolean served = plan_mark_servers (request->def);
    if (*args->checkpoint_xml
        && !(request->checkpoint = checkpoint_def_parse (args->checkpoint_xml, 0, error)))
        return NULL;
    if (!(request->scratch_dir = scratch_directory (guest, request->def, error))
        || !blockjob_settle (guest, error)
        || !(request->graph = guest_graph (guest, GRAPH_DISKS, error)))
        return NULL;
    if (!journal_exists (guest->dir) && same_qemu_holds_ours (request->graph)
        && !same_qemu_is_alone (guest->qmp, guest->def, error))
        return NULL;
    request->checkpoints = checkpoint_load_all (guest->dir, NULL);
    if (!checkpoint_see_sizes (guest, request->graph, request->checkpoints, error))
        return NULL;
    request->id = record_new_id ();
    request->socket_dir = config_socket_dir (guest->dir, strlen ("relay-01234567-1000.sock"));
    if (!files_make_dir (request->socket_dir, 0755, error))
        return NULL;
    request->target_dir = config_get_string ("target_dir");
    request->tls_dir = config_get_string ("tls_x509_dir");
    if (request->def->series && !request->checkpoint)
        series_checkpoint (request);
    if (request->checkpoint && !request->checkpoint->name)
        request->checkpoint->name =
            g_strdup_printf ("%" G_GINT64_FORMAT, g_get_real_time () / G_USEC_PER_SEC);
    g_autofree char *seal = seal_new_token ();
    request->barrier = migration_barrier (guest);
    if (request->barrier && !dry && !migration_make_barrier (request->barrier, error))
        return NULL;
    PlanInput input = { .job = request->id,
                        .domain = guest->def->name,
                        .def = request->def,
                        .checkpoint = request->checkpoint,
                        .graph = request->graph,
                        .caps = guest->caps,
                        .checkpoints = request->checkpoints,
                        .flags = args->flags,
                        .job_dir = request->socket_dir,
                        .scratch_dir = request->scratch_dir,
                        .target_dir = request->target_dir,
                        .tls_dir = request->tls_dir,
                        .now = g_get_real_time () / G_USEC_PER_SEC,
                        .offline = guest_is_offline (guest),
                        .free_port = job_free_port (),
                        .passed = is_passed (request->def) ? &request->passed : NULL,
                        .agent = has_agent (guest),
                        .barrier = request->barrier,
                        .seal = guest->owner->unsealed ? NULL : seal };
    g_autoptr (GHashTable) touched = plan_look_at_backings (&input);
    input.touched = touched;
    g_autoptr (GPtrArray) sources = served ? plan_look_at_sources (request->graph) : NULL;
    input.sources = sources;
    g_autoptr (Plan) plan = plan_backup (&input, error);
    for (guint i = 0; plan && i < plan->disks->len; i++)
        if (!blockjob_refuse (guest, ((PlanDisk *) plan->disks->pdata[i])->target, _("back it up"),
                              error))
            return NULL;
    if (!plan || (plan->mode == BACKUP_MODE_PULL && !probe_possible (plan, error)))
        return NULL;
    note_free_space (plan, request->def);
    if (guest_is_offline (guest))
        g_ptr_array_add (plan->notes,
                         g_strdup_printf (_("the images are held by a storage daemon: a guest "
                                             "started meanwhile would fail to start; "
                                             "'backup-stop %s --abort' frees them"),
                                          guest->def->name));
    return g_steal_pointer (&plan);
}

char *job_plan_text (Guest *guest, const bak_begin_args *args, GError **error)
{
    g_auto (Request) request = { 0 };
    g_autoptr (Plan) plan = make_plan (guest, args, TRUE, &request, error);
    Run run = { .ops = &qemu_run_ops, .data = guest, .plan = plan, .froze = -1, .thawed = -1 };
    if (!plan || !run_look (&run, error))
        return NULL;
    g_autoptr (JsonNode) node = plan_to_json (plan);
    return json_write (node);
}

static JsonObject *journal_meta (Guest *guest, const char *xml)
{
    int pid = qmp_get_peer_pid (guest->qmp);
    return obj ("pid", "i", (gint64) pid, "start", "i", (gint64) process_start_time (pid), "xml",
                "s", xml, NULL);
}

static void note_begun (Job *job)
{
    job->next_tick = g_get_monotonic_time () + JOB_TICK_MS * 1000;
    if (!job_has_barrier (job))
        job_record_note (&job->record, _("this QEMU cannot be kept from migrating the guest: "
                                          "one is cancelled when it starts, or ends the backup"));
}

/* By the names that the job has for them. */
static void name_disks (const Request *request)
{
    for (guint i = 0; i < request->def->disks->len; i++) {
        BackupDiskDef *def = request->def->disks->pdata[i];
        const GraphDisk *disk = graph_disk (request->graph, def->name, NULL);
        if (!disk)
            continue;
        g_free (def->name);
        def->name = g_strdup (disk->target);
    }
}

gboolean job_begin (Guest *guest, const void *begin_args, void *begin_ret, GError **error)
{
    const bak_begin_args *args = begin_args;
    g_auto (Request) request = { 0 };
    Plan *plan = make_plan (guest, args, FALSE, &request, error);
    if (!plan)
        return FALSE;
    name_disks (&request);
    g_autofree char *xml = backup_def_format (request.def);
    Job *job = guest->job = job_new (&guest->jobs, plan, NULL);
    job->scratch_limit = request.def->scratch_limit;
    return life_begin (job, args, journal_meta (guest, xml), begin_ret, error);
}

/* ---- end ---- */

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

/* QEMU has no question that shows its NBD server: whether ours is gone is seen at its address, and
 * of a socket that was passed, which others may have open, at what QEMU has open. */
static gboolean server_is_there (const Job *job)
{
    return job->plan->server_passed
               ? process_has_socket (qmp_get_peer_pid (job->guest->qmp), job->plan->server_inode)
               : probe_server (job->plan);
}

static gboolean stop_server (Job *job, GError **error)
{
    if (!server_started (job) || !server_is_there (job))
        return TRUE;
    qmp_run (job->guest->qmp, "nbd-server-stop", NULL, 0, NULL);
    return !server_is_there (job)
           || error_set (error, BAK_ERROR_MONITOR,
                         _("QEMU's NBD server at '%s' could not be stopped"), job->plan->server);
}

static void note_hung (Job *job, const GError *failure)
{
    const char *now = failure ? failure->message : "?";
    g_autofree char *text =
        g_strdup_printf (_("%s (QEMU did not answer, or did not end its job: what it still holds "
                            "goes with the next command that it answers)"),
                         *job->record.error ? job->record.error : now);
    if (!*job->record.error)
        job->record.error_code = error_code (failure);
    job_record_set_text (&job->record.error, text);
}

/* QEMU may have stored the provisional bitmaps in the images when it quit. Who takes them out holds
 * the images' locks, so not now: a guest that is just being started again would fail to. */
static gboolean drop_later (Job *job)
{
    if (!checkpoint_is_stored (job->plan))
        return FALSE;
    job->guest->leftover_at = g_get_monotonic_time () + LEFTOVER_MS * 1000;
    return TRUE;
}

/* The images are free before the end is said: the guest may be started then. */
static void free_images (Guest *guest)
{
    guest_disconnect (guest);
    offline_stop (guest);
}

static gboolean clean_monitor (Job *job, JobEvent outcome, GError **error)
{
    Guest *guest = job->guest;
    g_autofree char *prefix = g_strdup_printf ("bak-%s-", job->record.id);
    g_autoptr (GError) left = NULL;
    gboolean clean =
        run_sweep (guest, prefix, &left) && stop_server (job, &left) && !job->run.frozen;

    if (outcome != JOB_EVENT_GOOD && !checkpoint_drop (guest, job->plan, left ? NULL : &left))
        clean = FALSE;
    if (clean)
        job_resume_guest (job);
    if (clean && guest_is_offline (guest))
        free_images (guest);
    if (left)
        g_propagate_error (error, g_steal_pointer (&left));
    return clean;
}

static gboolean clean_up (Job *job, JobEvent outcome, const GError *failure)
{
    g_autoptr (GError) left = NULL;
    gboolean alive = !job->run.hung && guest_acquire (job->guest, NULL), later = FALSE, done;

    if (job->run.hung) {
        note_hung (job, failure);
        done = FALSE;
    } else if (alive) {
        done = clean_monitor (job, outcome, &left);
    } else {
        done = job_qemu_is_gone (job->guest);
        later = done && outcome != JOB_EVENT_GOOD && drop_later (job);
    }
    if (!done)
        g_warning ("job %s: %s", job->record.id,
                   left ? left->message : "QEMU could not be cleaned up; the next owner does it");
    return done && !later;
}

static gboolean probe_all (Job *job, GError **error)
{
    for (guint i = 0; i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        g_autoptr (GError) failure = NULL;
        BakErrorCode code = BAK_ERROR_IO;
        if (probe_export (job->plan, disk, PROBE_TIMEOUT_MS, &failure))
            continue;
        g_autofree char *scratch = job_scratch_failure (job, disk, &code);
        return error_set (error, code, "%s", scratch ? scratch : failure->message);
    }
    return TRUE;
}

static gboolean still_copying_before_write (Job *job, GError **error)
{
    if (!migration_check (job->guest, error))
        return FALSE;
    g_autoptr (Graph) graph =
        guest_graph (job->guest, job->plan->checkpoint ? GRAPH_DISKS : GRAPH_HELD, error);
    /* that of the end is made by the end */
    if (!graph || (!job->plan->at_end && !checkpoint_is_kept (graph, job->plan, error)))
        return FALSE;
    for (guint i = 0; i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        const GraphJob *qemu_job = disk->keeper ? graph_job (graph, disk->keeper) : NULL;
        if (!disk->keeper)
            continue;
        if (!qemu_job || g_str_equal (qemu_job->status, "concluded")
            || g_str_equal (qemu_job->status, "aborting"))
            return error_set (error, BAK_ERROR_INEXACT,
                              _("disk '%s': QEMU's job that keeps the point in time has ended "
                                 "(cancelled by somebody else?)"),
                              disk->target);
        if (disk->export_id && !graph_export (graph, disk->export_id))
            return error_set (error, BAK_ERROR_INEXACT,
                              _("disk '%s': its export was removed by somebody else"),
                              disk->target);
    }
    return TRUE;
}

static gboolean promote (Job *job, GError **error)
{
    g_autofree char *name = checkpoint_promote (job->guest, job, error);
    return name != NULL;
}

/* Each of its actions may be done twice, so a monitor that breaks in the middle costs another
 * round, not the backup. */
static gboolean finish (Job *job, GError **error)
{
    for (guint tries = 0;; tries++) {
        g_autoptr (GError) failure = NULL;
        if (run_finish (&job->run, &failure))
            return TRUE;
        if (tries == 2 || error_code (failure) != BAK_ERROR_CONNECTION
            || !guest_acquire (job->guest, NULL)) {
            g_propagate_error (error, g_steal_pointer (&failure));
            return FALSE;
        }
    }
}

static gboolean verify (Job *job, GError **error)
{
    return still_copying_before_write (job, error)
           && (job->plan->mode != BACKUP_MODE_PULL || probe_all (job, error));
}

static void count_as_done (Job *job)
{
    for (guint i = 0; i < job->record.disks.disks_len; i++) {
        bak_job_disk *disk = &job->record.disks.disks_val[i];
        if (job->plan->mode == BACKUP_MODE_PUSH && disk->total == 0
            && g_str_equal (disk->type, "incremental"))
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
                      : qmp_action ("block-job-cancel",
                                    obj ("device", "s", disk->job, "force", "b", TRUE, NULL));
        left = MAX ((deadline - g_get_monotonic_time ()) / 1000, 1);
        break;
    default: action = own_action ("job-wait-end", obj ("job", "s", disk->job, NULL));
    }
    action->timeout_ms = (guint) left;
    return run_action (&job->run, action, NULL);
}

/* Where the target is in the way of the guest's writes (no keeper), a cut fails the one that waits
 * for it: the job is asked to end first, and a target that is only slow lets it. A target that
 * cannot be cut is waited for but a moment. Each end is waited for on its own, the deadline is one.
 */
static void cancel_gently (Job *job)
{
    gint64 now = g_get_monotonic_time ();
    g_autofree gboolean *paused = g_new0 (gboolean, job->plan->disks->len + 1);

    for (guint pass = 0; pass < END_PASSES; pass++)
        for (guint i = 0; i < job->plan->disks->len; i++) {
            const PlanDisk *disk = job->plan->disks->pdata[i];
            if (!disk->job || disk->keeper || job->own->disks[i].ended
                || (pass == END_CANCEL && !paused[i]))
                continue;
            gboolean done = end_copy (
                job, disk, pass, now + (run_can_cut (&job->run) ? GENTLE_MS : BRIEF_MS) * 1000);
            paused[i] = paused[i] || (pass == END_PAUSE && done);
        }
}

static void ask_to_end (Job *job, JobEvent outcome)
{
    gboolean good = outcome == JOB_EVENT_GOOD;

    if (!good && !job->own->mute)
        cancel_gently (job);
    if (!good)
        run_cut (&job->run);
    /* what is called good has just been looked at */
    if (!good || job->guest->recovering)
        job_refresh (job->guest);
    job->run.hung = !good && job->own->mute;
}

static void undone (Job *job, JobEvent outcome, const GError *failure)
{
    if (failure)
        g_warning ("job %s: undo: %s", job->record.id, failure->message);
}

/* ---- requests ---- */

/* A copy with sync='none' has no end of its own: it is as long as it is wanted. */
static gboolean ends_when_stopped (const Job *job)
{
    for (guint i = 0; i < job->plan->disks->len; i++)
        if (!job->own->disks[i].ended
            && g_strcmp0 (((PlanDisk *) job->plan->disks->pdata[i])->type, "none") != 0)
            return FALSE;
    return TRUE;
}

/* The more a mirror has left to copy, the longer the guest would be held at the end. */
static gboolean job_is_near (Job *job, GError **error)
{
    gint64 deadline = g_get_monotonic_time () + NEAR_MS * 1000;
    guint64 behind = 0;

    while (job->plan->at_end) {
        const bak_job_disk *far = NULL;
        for (guint i = 0; i < job->record.disks.disks_len; i++) {
            const bak_job_disk *disk = &job->record.disks.disks_val[i];
            if (disk->total - MIN (disk->total, disk->bytes) > NEAR_BYTES)
                far = disk;
        }
        behind = far ? far->total - far->bytes : 0;
        if (!far)
            return TRUE;
        if (g_get_monotonic_time () >= deadline)
            return error_set (error, BAK_ERROR_TIMEOUT,
                              _("disk '%s': the copy is %" G_GUINT64_FORMAT
                                 " bytes behind the guest, which would have to wait for them; the "
                                 "backup goes on: stop it later, or abort it (--abort)"),
                              far->target, behind);
        g_usleep (NEAR_AGAIN_MS * 1000);
        job_refresh (job->guest);
    }
    return TRUE;
}

gboolean job_stop (Guest *guest, gboolean abort, bak_job *ret, GError **error)
{
    Job *job = guest->job;
    if (!job)
        return board_no_job (&guest->board, error);
    job_refresh (guest);
    if (job->own->mute && !abort)
        return error_set (error, BAK_ERROR_TIMEOUT,
                          _("guest '%s': QEMU does not answer (monitor '%s'): the backup stays as "
                             "it is; stop it when QEMU goes on, "
                             "or give it up with 'backup-stop %s --abort'"),
                          guest->def->name, qmp_get_address (guest->qmp), guest->def->name);
    if (!job_check_disks (job)) {
        /* it had just ended by itself */
    } else if (abort) {
        life_abort (job, _("aborted on request"));
    } else if (job->record.state == JOB_STATE_READY || ends_when_stopped (job)) {
        if (!job_is_near (job, error))
            return FALSE;
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
    job_refresh (job->guest);
}

static gboolean is_copying (const Job *job, guint disk)
{
    return !job->own->disks[disk].ended;
}

static gboolean has_copied (const Job *job, guint disk)
{
    return job->own->disks[disk].ended && !job->own->disks[disk].error;
}

static gboolean set_speed (Job *job, guint disk, guint64 bytes_per_sec, GError **error)
{
    return qmp_run (job->guest->qmp, "block-job-set-speed",
                    obj ("device", "s", ((PlanDisk *) job->plan->disks->pdata[disk])->job, "speed",
                         "i", (gint64) bytes_per_sec, NULL),
                    LIMIT_TIMEOUT_MS, error);
}

const JobOps qemu_job_ops = { .run = &qemu_run_ops,
                              .init = job_init,
                              .clear = job_clear,
                              .let_go = let_go,
                              .emit = guest_emit,
                              .refresh = refresh,
                              .begun = note_begun,
                              .ending = ask_to_end,
                              .verify = verify,
                              .finish = finish,
                              .promote = promote,
                              .good = count_as_done,
                              .undone = undone,
                              .clean = clean_up,
                              .inherit = job_inherit,
                              .adopted = job_adopted,
                              .clean_rest = job_clean_rest,
                              .is_copying = is_copying,
                              .has_copied = has_copied,
                              .set_speed = set_speed };
