/* The life of a block job, as its journal tells it:
 *
 *   begin     QEMU's job is about to be started, or was and nobody has said so: undone
 *   running   QEMU works
 *   pivot     its end was asked for: gone on with, whoever comes
 *   stopping  it was told to end without: taken back
 *   finish    a copy that is in step was told to stay as it is: gone on with
 *   whole     that copy is whole and on the disk: only what QEMU holds of it is to go
 *
 * and then what came of it, in DIR/blockjobs/last. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "driver/qemu/blockjob.h"
#include "driver/qemu/checkpoint.h"
#include "driver/qemu/job.h"
#include "driver/qemu/verbs.h"
#include "job/build.h"
#include "job/record.h"
#include "util/files.h"
#include "util/json.h"
#include "util/process.h"

enum { CANCEL_MS = 30000, LAST_MAX = 1024 * 1024, MAX_JOBS = 1024 };

static char *folder (const Guest *guest)
{
    return g_build_filename (guest->dir, "blockjobs", NULL);
}

/* ---- what there is ---- */

static void block_job_free (BlockJob *job)
{
    g_free (job->id);
    g_free (job->dir);
    g_free (job->job);
    journal_state_free (job->state);
    g_free (job);
}

static BlockJob *load_one (const Guest *guest, const char *id)
{
    BlockJob *job = g_new0 (BlockJob, 1);
    g_autofree char *all = folder (guest);
    job->id = g_strdup (id);
    job->dir = g_build_filename (all, id, NULL);
    job->job = g_strdup_printf ("bakj-%s", id);
    job->state = journal_read (job->dir, NULL);
    job->disk = job->state ? json_get_string (job->state->meta, "disk") : NULL;
    job->type = job->state ? json_get_int (job->state->meta, "type", 0) : 0;
    return job;
}

/* Also those whose journal cannot be read. */
static GPtrArray *load_all (const Guest *guest)
{
    GPtrArray *jobs = g_ptr_array_new_with_free_func ((GDestroyNotify) block_job_free);
    g_autofree char *path = folder (guest);
    g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
    const char *name;
    while (dir && jobs->len < MAX_JOBS && (name = g_dir_read_name (dir)))
        if (record_id_check (name))
            g_ptr_array_add (jobs, load_one (guest, name));
    return jobs;
}

static void forget (const BlockJob *job)
{
    journal_remove (job->dir);
    g_rmdir (job->dir);
}

static const char *type_word (int type)
{
    return type == BLOCK_PULL            ? _("pull")
           : type == BLOCK_COMMIT        ? _("commit")
           : type == BLOCK_ACTIVE_COMMIT ? _("active commit")
                                         : _("copy");
}

gboolean blockjob_refuse (Guest *guest, const char *disk, const char *what, GError **error)
{
    g_autoptr (GPtrArray) jobs = load_all (guest);
    for (guint i = 0; i < jobs->len; i++) {
        const BlockJob *job = jobs->pdata[i];
        if (disk && g_strcmp0 (disk, job->disk) != 0)
            continue;
        return error_set (
            error, BAK_ERROR_BUSY,
            _("guest '%s': cannot %s while block job %s (%s) runs on disk '%s'; end it "
               "(blockjob --pivot or --abort) or wait for it"),
            guest->def->name, what, job->id, type_word (job->type), job->disk ? job->disk : "?");
    }
    return TRUE;
}

gboolean blockjob_refuse_all (Guest *guest, const char *what, GError **error)
{
    return blockjob_settle (guest, error) && blockjob_refuse (guest, NULL, what, error);
}

/* ---- how the last one of a disk has ended ---- */

static JsonNode *read_last (const Guest *guest, JsonObject **ret_object)
{
    g_autofree char *dir = folder (guest), *path = g_build_filename (dir, "last", NULL),
                    *text = NULL;
    return files_read (path, LAST_MAX, &text, NULL, NULL)
               ? json_read_object (text, -1, ret_object, NULL)
               : NULL;
}

static void note_last (Guest *guest, const BlockJob *job, int result, const char *why)
{
    g_autofree char *dir = folder (guest), *path = g_build_filename (dir, "last", NULL);
    g_autoptr (JsonObject) fresh = json_object_new ();
    g_autoptr (GError) error = NULL;
    JsonObject *object = NULL;
    g_autoptr (JsonNode) node = read_last (guest, &object);
    if (!node) {
        node = json_node_init_object (json_node_alloc (), fresh);
        object = fresh;
    }
    json_object_set_object_member (object, job->disk ? job->disk : "?",
                                   obj ("job", "s", job->id, "type", "i", (gint64) job->type,
                                        "result", "i", (gint64) result, "error", "s",
                                        why ? why : "", NULL));
    g_autofree char *text = json_write (node);
    if (!files_replace (path, text, -1, 0600, &error))
        g_warning ("guest '%s': %s", guest->def->name, error->message);
}

static void tell (Guest *guest, const BlockJob *job, const char *why)
{
    g_autofree char *text =
        g_strdup_printf (_("block job %s (%s) of disk '%s': %s"), job->id, type_word (job->type),
                         job->disk ? job->disk : "?", why);
    bak_event event = { .kind = EVENT_WARNING, .text = ret_string (text) };
    g_warning ("guest '%s': %s", guest->def->name, text);
    guest_emit (guest, &event);
}

/* ---- the engine ---- */

static Run new_run (Guest *guest, const BlockJob *job, GError **error)
{
    return (Run){ .ops = block_run_ops (),
                  .data = guest,
                  .plan = job->state->plan,
                  .states = job->state->states,
                  .files = job->state->files,
                  .finished = job->state->finished,
                  .froze = -1,
                  .thawed = -1,
                  .journal = journal_open (job->dir, error) };
}

static gboolean set_phase (const BlockJob *job, const char *phase, GError **error)
{
    Journal *journal = journal_open (job->dir, error);
    gboolean ok = journal && journal_phase (journal, phase, 0, 0, NULL, error);
    journal_close (journal);
    if (ok) {
        g_free (job->state->phase);
        job->state->phase = g_strdup (phase);
    }
    return ok;
}

/* The bitmaps that were carried into an image that does not take over after all. */
static gboolean drop_added (Guest *guest, const BlockJob *job, GError **error)
{
    JsonArray *added = json_get_array (job->state->meta, "added");
    g_autoptr (Graph) graph = guest_graph (guest, GRAPH_HELD, error);
    for (guint i = 0; graph && added && i < json_array_get_length (added); i++) {
        JsonObject *bitmap = json_get_element (added, i);
        const char *name = json_get_string (bitmap, "node");
        const GraphNode *node = name ? graph_node (graph, name) : NULL;
        if (node
            && !checkpoint_remove_bitmap (guest, node, json_get_string (bitmap, "name"), error))
            return FALSE;
    }
    return graph != NULL;
}

/* What lies below has been written to, by us alone: the chain shows what it showed. */
static gboolean see_below_again (Guest *guest, const BlockJob *job, GError **error)
{
    JsonArray *below = json_get_array (job->state->meta, "below");
    gboolean wrote = job->type != BLOCK_PULL && job->type != BLOCK_COPY;
    if (!below || json_array_get_length (below) == 0 || !wrote)
        return TRUE;
    g_autoptr (Action) action =
        own_action ("block-records", obj ("checkpoints", "a", json_array_ref (below), NULL));
    Run run = { .ops = block_run_ops (), .data = guest };
    return run_action (&run, action, error);
}

/* What was made for a copy. whole: but for its image. */
static gboolean undo_copy (Guest *guest, BlockJob *job, gboolean whole, GError **error)
{
    if (job->type != BLOCK_COPY)
        return TRUE;
    Run run = new_run (guest, job, NULL);
    gboolean ok = run_undo (&run, whole, error);
    journal_close (run.journal);
    return ok;
}

static gboolean end_without (Guest *guest, BlockJob *job, int result, const char *why,
                             GError **error)
{
    Run run = new_run (guest, job, NULL);
    run_end_job (&run, job->job);
    journal_close (run.journal);
    if (!undo_copy (guest, job, FALSE, error))
        return FALSE;
    if (!drop_added (guest, job, error) || !see_below_again (guest, job, error))
        return FALSE;
    note_last (guest, job, result, why);
    if (result == BLOCK_RESULT_FAILED)
        tell (guest, job, why);
    forget (job);
    return TRUE;
}

/* All is done but that files were to be deleted: they are kept. */
static void end_but_for_files (Guest *guest, BlockJob *job, GError **failure)
{
    error_note (failure, _("the job is done, but not all files were deleted"));
    tell (guest, job, (*failure)->message);
    note_last (guest, job, BLOCK_RESULT_COMPLETED, (*failure)->message);
    forget (job);
}

static gboolean end_well (Guest *guest, BlockJob *job, GError **error)
{
    const GPtrArray *actions = job->state->plan->finish;
    g_autoptr (GError) failure = NULL;
    Run run = new_run (guest, job, error);
    gboolean ok = run.journal && run_finish (&run, &failure);
    job->state->finished = run.finished;
    journal_close (run.journal);
    if (ok) {
        note_last (guest, job, BLOCK_RESULT_COMPLETED, NULL);
        forget (job);
        return TRUE;
    }
    if (failure && !run_outcome_unknown (failure) && run.finished < actions->len
        && g_str_equal (((const Action *) actions->pdata[run.finished])->verb, "block-delete"))
        end_but_for_files (guest, job, &failure);
    if (failure)
        g_propagate_error (error, g_steal_pointer (&failure));
    return FALSE;
}

/* A copy that QEMU has let go of in step: it counts once that is on the disk. */
static gboolean end_whole (Guest *guest, BlockJob *job, GError **error)
{
    g_autoptr (GError) failure = NULL;
    Run run = new_run (guest, job, NULL);
    gboolean proved =
        g_str_equal (job->state->phase, "whole")
        || (drop_added (guest, job, &failure) && block_prove_copy (guest, job, &run, &failure));
    journal_close (run.journal);
    if (!proved && !run_outcome_unknown (failure)
        && !end_without (guest, job, BLOCK_RESULT_FAILED, failure->message, error))
        return FALSE;
    if (!proved) {
        g_propagate_error (error, g_steal_pointer (&failure));
        return FALSE;
    }
    if (!set_phase (job, "whole", error) || !undo_copy (guest, job, TRUE, error))
        return FALSE;
    note_last (guest, job, BLOCK_RESULT_COMPLETED, NULL);
    forget (job);
    return TRUE;
}

/* ---- looking ---- */

typedef enum {
    LOOK_WORKS,
    LOOK_READY,
    LOOK_PENDING,   /* waits for us before it changes the chain */
    LOOK_DONE,      /* the chain is as it was to become */
    LOOK_FAILED,    /* QEMU says why */
    LOOK_CANCELLED, /* by somebody, and the chain is as it was */
    LOOK_WHOLE,     /* a copy has ended in step, and the guest is where it was */
} Look;

/* The disk, or the image above those that go, stands on what stays. */
static gboolean has_moved (const Graph *graph, const BlockJob *job)
{
    const GraphDisk *disk = graph_disk (graph, job->disk, NULL);
    const char *above = json_get_string (job->state->meta, "above"),
               *base = json_get_string (job->state->meta, "base");
    const GraphNode *node = above ? graph_node (graph, above) : NULL;

    if (job->type == BLOCK_PULL || job->type == BLOCK_COMMIT)
        return node && g_strcmp0 (node->backing, base) == 0;
    return disk && g_strcmp0 (disk->node, json_get_string (job->state->meta, "into")) == 0;
}

static Look look (const Graph *graph, const BlockJob *job, const char **ret_why)
{
    const GraphJob *now = graph_job (graph, job->job);
    const char *status = now ? now->status : NULL;

    if (job->type == BLOCK_COPY && g_str_equal (job->state->phase, "whole"))
        return LOOK_WHOLE;
    *ret_why = now && now->error ? now->error : _("its job was cancelled by somebody else");
    if (!now)
        return has_moved (graph, job) ? LOOK_DONE : LOOK_CANCELLED;
    if (g_strcmp0 (status, "ready") == 0 || g_strcmp0 (status, "standby") == 0)
        return LOOK_READY;
    if (g_strcmp0 (status, "pending") == 0)
        return LOOK_PENDING;
    if (g_strcmp0 (status, "concluded") != 0)
        return LOOK_WORKS;
    if (now->error)
        return LOOK_FAILED;
    if (has_moved (graph, job))
        return LOOK_DONE;
    return job->type == BLOCK_COPY ? LOOK_WHOLE : LOOK_CANCELLED;
}

/* Another process than the one that the job was started in. */
static gboolean is_of_other_qemu (Guest *guest, const BlockJob *job)
{
    gint64 pid = json_get_int (job->state->meta, "pid", 0),
           start = json_get_int (job->state->meta, "start", 0);
    int now = qmp_get_peer_pid (guest->qmp);
    return pid > 0 && now > 0
           && (pid != now || (start && start != (gint64) process_start_time (now)));
}

static void end_of_other (Guest *guest, BlockJob *job, const char *why)
{
    /* the guest may be on it from its next start on */
    const char *phase = job->state && job->state->plan ? job->state->phase : "pivot";
    gboolean whole = job->type == BLOCK_COPY && g_str_equal (phase, "whole");
    if (job->type == BLOCK_COPY && !whole && !g_str_equal (phase, "pivot")) {
        Run run = new_run (guest, job, NULL);
        block_drop_copy (job, &run);
        journal_close (run.journal);
    }
    note_last (guest, job, whole ? BLOCK_RESULT_COMPLETED : BLOCK_RESULT_FAILED,
               whole ? NULL : why);
    if (!whole)
        tell (guest, job, why);
    forget (job);
}

static gboolean undo_begin (Guest *guest, BlockJob *job, GError **error)
{
    Run run = new_run (guest, job, NULL);
    gboolean ok = run_undo (&run, FALSE, error);
    journal_close (run.journal);
    if (ok)
        forget (job);
    return ok;
}

static gboolean settle_damaged (Guest *guest, BlockJob *job)
{
    Run run = { .ops = block_run_ops (), .data = guest };
    run_end_job (&run, job->job);
    tell (guest, job, _("its journal is damaged: it was cancelled, and bitmaps may be left"));
    forget (job);
    return TRUE;
}

/* It is in step: QEMU ends it so, and the image stays as a whole copy. */
static gboolean finish_copy (Guest *guest, BlockJob *job, GError **error)
{
    Run run = { .ops = block_run_ops (), .data = guest };
    const char *said = NULL;

    if (!qmp_run (guest->qmp, "block-job-cancel", obj ("device", "s", job->job, NULL), 0, error)
        || !run_wait_job (&run, job->job, FALSE, CANCEL_MS, error))
        return FALSE;
    g_autoptr (Graph) graph = guest_graph (guest, GRAPH_DISKS, error);
    if (!graph)
        return FALSE;
    if (look (graph, job, &said) == LOOK_WHOLE)
        return end_whole (guest, job, error);
    g_autofree char *why = g_strdup (said);
    return end_without (guest, job, BLOCK_RESULT_FAILED, why, error)
           && error_set (error, BAK_ERROR_IO, _("disk '%s': the copy failed: %s"), job->disk, why);
}

static gboolean go_on (Guest *guest, BlockJob *job, const Graph *graph, GError **error)
{
    gboolean pivots = g_str_equal (job->state->phase, "pivot"),
             stops = g_str_equal (job->state->phase, "stopping"),
             finishes = g_str_equal (job->state->phase, "finish");
    const char *why = NULL;

    switch (look (graph, job, &why)) {
    case LOOK_DONE: return end_well (guest, job, error);
    case LOOK_PENDING: return end_well (guest, job, error); /* too late to be cancelled */
    case LOOK_READY:
        if (pivots)
            return end_well (guest, job, error);
        if (finishes)
            return finish_copy (guest, job, error);
        return !stops || end_without (guest, job, BLOCK_RESULT_CANCELED, NULL, error);
    case LOOK_WHOLE: return end_whole (guest, job, error);
    case LOOK_WORKS: return !stops || end_without (guest, job, BLOCK_RESULT_CANCELED, NULL, error);
    case LOOK_FAILED: return end_without (guest, job, BLOCK_RESULT_FAILED, why, error);
    case LOOK_CANCELLED:
        return end_without (guest, job, stops ? BLOCK_RESULT_CANCELED : BLOCK_RESULT_FAILED,
                            stops ? NULL : why, error);
    }
    return TRUE;
}

static gboolean settle_one (Guest *guest, BlockJob *job, const Graph *graph, GError **error)
{
    if (!job->state || !job->state->plan || !job->disk)
        return settle_damaged (guest, job);
    if (is_of_other_qemu (guest, job)) {
        end_of_other (guest, job, _("QEMU has ended meanwhile: look which image the guest uses"));
        return TRUE;
    }
    /* who started it was killed right after: what is small is done before anybody looks */
    const char *why = NULL;
    if (g_str_equal (job->state->phase, "begin") && look (graph, job, &why) != LOOK_DONE)
        return undo_begin (guest, job, error);
    return go_on (guest, job, graph, error);
}

/* What cannot be ended now is left for the next look: the guest runs on in any case. */
static void settle_all (Guest *guest, GPtrArray *jobs, const Graph *graph)
{
    for (guint i = 0; i < jobs->len; i++) {
        g_autoptr (GError) failure = NULL;
        if (!settle_one (guest, jobs->pdata[i], graph, &failure))
            g_warning ("guest '%s': block job %s: %s", guest->def->name,
                       ((BlockJob *) jobs->pdata[i])->id, failure ? failure->message : "?");
    }
}

gboolean blockjob_settle (Guest *guest, GError **error)
{
    g_autoptr (GPtrArray) jobs = load_all (guest);
    gboolean nested = guest->recovering;

    if (jobs->len == 0)
        return TRUE;
    g_autoptr (Graph) graph = guest_graph (guest, GRAPH_DISKS, error);
    if (!graph)
        return FALSE;
    guest->recovering = TRUE;
    settle_all (guest, jobs, graph);
    guest->recovering = nested;
    return TRUE;
}

void blockjob_settle_gone (Guest *guest, const char *why)
{
    g_autoptr (GPtrArray) jobs = load_all (guest);
    g_autofree char *text = g_strdup_printf (
        _("QEMU is gone (%s): look which image the guest is to be started with"), why);
    for (guint i = 0; i < jobs->len; i++)
        end_of_other (guest, jobs->pdata[i], text);
}

/* ---- begin ---- */

static gboolean uses_disk (const Job *job, const GraphDisk *disk)
{
    for (guint i = 0; i < job->plan->disks->len; i++)
        if (g_str_equal (((const PlanDisk *) job->plan->disks->pdata[i])->target, disk->target))
            return TRUE;
    return FALSE;
}

static gboolean check_free (BlockRequest *request, GError **error)
{
    Guest *guest = request->guest;
    if (guest->job && uses_disk (guest->job, request->disk))
        return error_set (
            error, BAK_ERROR_BUSY,
            _("disk '%s': backup job %s is %s; wait for it or stop it (backup-stop)"),
            request->disk->target, guest->job->record.id,
            job_state_to_string (guest->job->record.state));
    return blockjob_refuse (guest, request->disk->target, _("begin a block job"), error);
}

static void request_clear (BlockRequest *request)
{
    g_clear_pointer (&request->chain, g_ptr_array_unref);
    g_clear_pointer (&request->checkpoints, g_ptr_array_unref);
    g_clear_pointer (&request->lost, g_ptr_array_unref);
    g_clear_pointer (&request->why, g_ptr_array_unref);
    g_clear_pointer (&request->carry, json_array_unref);
    g_clear_pointer (&request->records, json_array_unref);
    g_clear_pointer (&request->below, json_array_unref);
    g_clear_pointer (&request->added, json_array_unref);
    g_clear_pointer (&request->proof, json_array_unref);
    g_clear_pointer (&request->copy, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (BlockRequest, request_clear)

static gboolean fill_request (BlockRequest *request, GError **error)
{
    request->chain = g_ptr_array_new ();
    request->lost = g_ptr_array_new_with_free_func (g_free);
    request->why = g_ptr_array_new_with_free_func (g_free);
    request->carry = json_array_new ();
    request->records = json_array_new ();
    request->below = json_array_new ();
    request->added = json_array_new ();
    request->checkpoints = checkpoint_load_all (request->guest->dir, NULL);
    if (guest_is_offline (request->guest))
        return error_set (
            error, BAK_ERROR_NOT_SUPPORTED,
            _("guest '%s' is off: block jobs are for running guests; qemu-img commit "
               "and qemu-img rebase do the same to its images"),
            request->guest->def->name);
    if (request->args->type != BLOCK_PULL && request->args->type != BLOCK_COMMIT
        && request->args->type != BLOCK_COPY)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("there is no block job of type %d"),
                          request->args->type);
    request->type = request->args->type;
    request->disk = graph_disk (request->graph, request->args->disk, error);
    return request->disk
           && checkpoint_see_sizes (request->guest, request->graph, request->checkpoints, error)
           && check_free (request, error);
}

static gboolean drop_lost (BlockRequest *request, GError **error)
{
    if (request->lost->len == 0)
        return TRUE;
    return checkpoint_not_busy (request->guest, _("delete a checkpoint"), error)
           && checkpoint_delete_all (request->guest, request->lost, TRUE, error);
}

/* journal, steps, "running": a step that fails takes back what was done. */
static gboolean start (Guest *guest, const char *id, Plan *plan, JsonObject *meta, GError **error)
{
    g_autofree char *all = folder (guest), *dir = g_build_filename (all, id, NULL);
    g_autoptr (GArray) states = g_array_new (FALSE, TRUE, sizeof (StepState));
    g_autoptr (GHashTable) files = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
    g_autoptr (GHashTable) seen = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
    Run run = { .ops = block_run_ops (),
                .data = guest,
                .plan = plan,
                .states = states,
                .files = files,
                .seen = seen,
                .froze = -1,
                .thawed = -1 };

    g_array_set_size (states, plan->steps->len);
    if (!files_make_dir (all, 0700, error) || !files_make_dir (dir, 0700, error)) {
        json_object_unref (meta);
        return FALSE;
    }
    run.journal = journal_create (dir, plan, meta, error);
    gboolean ok = run.journal && run_steps (&run, error)
                  && journal_phase (run.journal, "running", 0, 0, NULL, error);
    journal_close (run.journal);
    if (!ok && !run.undo_failed && guest_monitor_alive (guest, NULL)) {
        journal_remove (dir);
        g_rmdir (dir);
    }
    return ok;
}

static void fill_begun (const BlockRequest *request, const Plan *plan, bak_begin_ret *ret)
{
    guint count = MIN (plan->notes->len, (guint) BAK_NAMES_MAX);
    ret->job = ret_string (request->id);
    ret->notes.notes_val = ret_array (count, sizeof (char *));
    ret->notes.notes_len = count;
    for (guint i = 0; i < count; i++)
        ret->notes.notes_val[i] = ret_string (plan->notes->pdata[i]);
}

static gboolean begin (BlockRequest *request, Plan **ret_plan, JsonObject **ret_meta,
                       GError **error)
{
    return blockjob_settle (request->guest, error) && fill_request (request, error)
           && block_plan (request, ret_plan, ret_meta, error);
}

gboolean local_block_begin (Guest *guest, const void *args, void *ret, GError **error)
{
    g_autofree char *id = record_new_id (), *job = g_strdup_printf ("bakj-%s", id);
    g_autoptr (Graph) graph =
        blockjob_settle (guest, error) ? guest_graph (guest, GRAPH_DISKS, error) : NULL;
    g_auto (BlockRequest) request = {
        .guest = guest, .args = args, .graph = graph, .id = id, .job = job
    };
    g_autoptr (Plan) plan = NULL;
    JsonObject *meta = NULL;

    if (!graph || !begin (&request, &plan, &meta, error))
        return FALSE;
    if (!drop_lost (&request, error)) {
        json_object_unref (meta);
        return FALSE;
    }
    guest->recovering = TRUE; /* what is begun here is nobody else's to end */
    gboolean ok = start (guest, id, plan, meta, error);
    guest->recovering = FALSE;
    if (ok)
        fill_begun (&request, plan, ret);
    return ok || error_note (error, _("disk '%s'"), request.disk->target);
}

gboolean local_block_plan (Guest *guest, const void *args, void *ret, GError **error)
{
    g_autoptr (Graph) graph =
        blockjob_settle (guest, error) ? guest_graph (guest, GRAPH_DISKS, error) : NULL;
    g_auto (BlockRequest) request = {
        .guest = guest, .args = args, .graph = graph, .id = "00000000", .job = "bakj-00000000"
    };
    g_autoptr (Plan) plan = NULL;
    JsonObject *meta = NULL;

    if (!graph || !begin (&request, &plan, &meta, error))
        return FALSE;
    json_object_unref (meta);
    g_autoptr (JsonNode) node = plan_to_json (plan);
    g_autofree char *text = json_write (node);
    ((bak_text_ret *) ret)->text = ret_string (text);
    return TRUE;
}

/* ---- while it runs ---- */

/* Of the disk of that name; NULL without an error: none. */
static BlockJob *find_job (Guest *guest, const char *name, char **ret_disk, GError **error)
{
    g_autoptr (Graph) graph = guest_graph (guest, GRAPH_DISKS, error);
    const GraphDisk *disk = graph ? graph_disk (graph, name, error) : NULL;
    g_autoptr (GPtrArray) jobs = disk ? load_all (guest) : NULL;
    for (guint i = 0; jobs && i < jobs->len; i++) {
        const BlockJob *job = jobs->pdata[i];
        if (job->state && job->state->plan && g_strcmp0 (job->disk, disk->target) == 0) {
            *ret_disk = g_strdup (disk->target);
            return g_ptr_array_steal_index (jobs, i);
        }
    }
    *ret_disk = disk ? g_strdup (disk->target) : NULL;
    return NULL;
}

static void fill_last (Guest *guest, const char *disk, bak_block_ret *ret)
{
    JsonObject *all = NULL;
    g_autoptr (JsonNode) node = read_last (guest, &all);
    JsonObject *last = node && disk ? json_get_object (all, disk) : NULL;
    const char *error = last ? json_get_string (last, "error") : NULL,
               *job = last ? json_get_string (last, "job") : NULL;
    if (!last)
        return;
    ret->last_type = json_get_int (last, "type", 0);
    ret->last_result = json_get_int (last, "result", 0);
    ret->last_error = ret_string (error);
    ret->last_job = ret_string (job);
}

static void fill_progress (Guest *guest, const BlockJob *job, bak_block_ret *ret)
{
    g_autoptr (JsonNode) answer = qmp_execute (guest->qmp, "query-block-jobs", NULL, 0, NULL);
    JsonArray *list =
        answer && JSON_NODE_HOLDS_ARRAY (answer) ? json_node_get_array (answer) : NULL;
    ret->type = job->type;
    ret->end = 1; /* "not known yet" is 0 of 1 */
    for (guint i = 0; list && i < json_array_get_length (list); i++) {
        JsonObject *entry = json_get_element (list, i);
        if (!entry || g_strcmp0 (json_get_string (entry, "device"), job->job) != 0)
            continue;
        ret->ready = json_get_bool (entry, "ready", FALSE);
        ret->cur = MAX (0, json_get_int (entry, "offset", 0));
        ret->end = MAX (0, json_get_int (entry, "len", 0));
        ret->bytes_per_sec = MAX (0, json_get_int (entry, "speed", 0));
    }
    /* libvirt's: the end is reached when it is ready, and not before */
    if (ret->ready && ret->end == 0)
        ret->cur = ret->end = 1;
    else if (ret->end == 0)
        ret->end = 1;
    else if (!ret->ready && ret->cur == ret->end)
        ret->cur--;
}

gboolean local_block_info (Guest *guest, const void *data, void *data_ret, GError **error)
{
    const bak_disk_arg *args = data;
    bak_block_ret *ret = data_ret;
    g_autoptr (GPtrArray) jobs = load_all (guest);
    g_autofree char *disk = NULL;

    ret->job = NULL;
    if (jobs->len > 0 && (!guest_acquire (guest, error) || !blockjob_settle (guest, error)))
        return FALSE;
    BlockJob *job = jobs->len > 0 ? find_job (guest, args->disk, &disk, error) : NULL;
    if (jobs->len > 0 && !disk)
        return FALSE;
    if (job)
        fill_progress (guest, job, ret);
    else
        fill_last (guest, disk ? disk : args->disk, ret);
    ret->job = ret_string (job ? job->id : "");
    ret->last_error = ret->last_error ? ret->last_error : ret_string ("");
    ret->last_job = ret->last_job ? ret->last_job : ret_string ("");
    if (job)
        block_job_free (job);
    return TRUE;
}

static gboolean no_job (const char *disk, GError **error)
{
    g_autofree char *shown = text_sanitize (disk, 256);
    return error_set (error, BAK_ERROR_NO_JOB, _("disk '%s' does not have an active block job"),
                      shown);
}

gboolean local_block_limit (Guest *guest, const void *data, void *ret, GError **error)
{
    const bak_limit_args *args = data;
    g_autofree char *disk = NULL;
    BlockJob *job =
        blockjob_settle (guest, error) ? find_job (guest, args->disk, &disk, error) : NULL;
    if (!job)
        return disk && no_job (args->disk, error);
    gboolean ok = qmp_run (guest->qmp, "block-job-set-speed",
                           obj ("device", "s", job->job, "speed", "i",
                                (gint64) MIN (args->bytes_per_sec, (guint64) G_MAXINT64), NULL),
                           0, error);
    block_job_free (job);
    return ok;
}

/* ---- end ---- */

static gboolean is_in (Guest *guest, const BlockJob *job, const char *status, GError **error)
{
    g_autoptr (Graph) graph = guest_graph (guest, GRAPH_HELD, error);
    const GraphJob *now = graph ? graph_job (graph, job->job) : NULL;
    return now && g_strcmp0 (now->status, status) == 0;
}

static gboolean is_ready (Guest *guest, const BlockJob *job, GError **error)
{
    return is_in (guest, job, "ready", error);
}

/* It goes on as it was: the copy follows the guest. */
static gboolean go_back (Guest *guest, BlockJob *job)
{
    if (!is_ready (guest, job, NULL))
        return FALSE;
    Journal *journal = journal_open (job->dir, NULL);
    gboolean ok = journal && journal_finish (journal, 0, NULL)
                  && journal_phase (journal, "running", 0, 0, NULL, NULL);
    journal_close (journal);
    return ok;
}

/* What has failed after that is gone on with by the next look. */
static gboolean has_taken_over (Guest *guest, const BlockJob *job)
{
    g_autoptr (Graph) graph = guest_graph (guest, GRAPH_DISKS, NULL);
    return !graph || has_moved (graph, job);
}

static gboolean pivot (Guest *guest, BlockJob *job, guint flags, GError **error)
{
    g_autoptr (GError) failure = NULL;

    if (job->type != BLOCK_ACTIVE_COMMIT && job->type != BLOCK_COPY)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("job type '%s' does not support pivot"), type_word (job->type));
    if (!is_ready (guest, job, error))
        return error && *error
                   ? FALSE
                   : error_set (error, BAK_ERROR_BUSY,
                                _("block copy still active: disk '%s' not ready for pivot yet"),
                                job->disk);
    if (!set_phase (job, "pivot", error))
        return FALSE;
    if (end_well (guest, job, &failure))
        return TRUE;
    if (journal_exists (job->dir) && !run_outcome_unknown (failure) && !go_back (guest, job)
        && !has_taken_over (guest, job)) {
        g_autoptr (GError) left = NULL;
        g_autofree char *why = g_strdup (failure->message);
        end_without (guest, job, BLOCK_RESULT_FAILED, why, &left);
    }
    g_propagate_error (error, g_steal_pointer (&failure));
    return FALSE;
}

/* An active commit or a copy that is in step ends as a whole copy of this instant; anything else is
 * cancelled. The disk stays on the image that it is on. */
static gboolean finish_or_cancel (Guest *guest, BlockJob *job, GError **error)
{
    gboolean whole = is_ready (guest, job, NULL);
    Run run = { .ops = block_run_ops (), .data = guest };

    if (whole && job->type == BLOCK_COPY)
        return set_phase (job, "finish", error) && finish_copy (guest, job, error);
    if (!set_phase (job, "stopping", error))
        return FALSE;
    if (whole
        && qmp_run (guest->qmp, "block-job-cancel", obj ("device", "s", job->job, NULL), 0, error)
        && run_wait_job (&run, job->job, FALSE, CANCEL_MS, error)) {
        g_autoptr (Graph) graph = guest_graph (guest, GRAPH_HELD, error);
        const GraphJob *now = graph ? graph_job (graph, job->job) : NULL;
        g_autofree char *why = now ? g_strdup (now->error) : NULL;
        return graph
               && end_without (guest, job, why ? BLOCK_RESULT_FAILED : BLOCK_RESULT_COMPLETED, why,
                               error);
    }
    if (error && *error)
        return FALSE;
    if (!is_in (guest, job, "pending", NULL))
        run_end_job (&run, job->job);
    return blockjob_settle (guest, error);
}

gboolean local_block_end (Guest *guest, const void *data, void *ret, GError **error)
{
    const bak_disk_arg *args = data;
    g_autofree char *disk = NULL;

    if (args->flags & ~(BLOCK_END_ASYNC | BLOCK_END_PIVOT))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("unsupported flags (0x%x)"),
                          args->flags & ~(BLOCK_END_ASYNC | BLOCK_END_PIVOT));
    if (!blockjob_settle (guest, error))
        return FALSE;
    BlockJob *job = find_job (guest, args->disk, &disk, error);
    if (!job)
        return disk && no_job (args->disk, error);
    guest->recovering = TRUE;
    gboolean ok = args->flags & BLOCK_END_PIVOT ? pivot (guest, job, args->flags, error)
                                                : finish_or_cancel (guest, job, error);
    guest->recovering = FALSE;
    block_job_free (job);
    return ok;
}
