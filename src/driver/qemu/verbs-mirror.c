/* The end of a copy whose instant is that of its end: the mirrors of all disks come to rest, and
 * only once every one has are they let go. What rests first answers no write before the last one
 * rests, so that the cut is one for any order of writes; but its disk stands still for the guest
 * meanwhile, and QEMU has no time-out for that. So it is bounded here, and a deputy ends it if this
 * process dies. */
#include <glib/gi18n-lib.h>
#include "driver/qemu/deputy.h"
#include "driver/qemu/job-parts.h"
#include "driver/qemu/verbs.h"
#include "job/build.h"
#include "util/json.h"

enum { HELD_MS = 1000, BITMAPS_MS = 1000, FINALIZE_MS = 10000 };

typedef enum { MIRROR_IN_STEP, MIRROR_RESTS, MIRROR_DONE, MIRROR_LOST } MirrorState;

typedef struct {
    Run *run;
    Guest *guest;
    Job *job;
    JsonArray *bitmaps; /* actions of the transaction that makes the checkpoint */
    gint64 since;       /* monotonic: the first one was asked to come to rest */
    int deputy;
} End;

static const char *job_name (const End *end, guint index)
{
    return ((const PlanDisk *) end->job->plan->disks->pdata[index])->job;
}

static guint count (const End *end)
{
    return end->job->plan->disks->len;
}

static MirrorState state_of (const End *end, const Graph *graph, guint index)
{
    static const struct {
        const char *status;
        MirrorState state;
    } states[] = { { "ready", MIRROR_IN_STEP },
                   { "pending", MIRROR_RESTS },
                   { "concluded", MIRROR_RESTS } };
    const JobDisk *disk = &end->job->own->disks[index];
    const GraphJob *job = graph_job (graph, job_name (end, index));

    if (disk->ended)
        return disk->error ? MIRROR_LOST : MIRROR_DONE;
    for (guint i = 0; job && i < G_N_ELEMENTS (states); i++)
        if (g_strcmp0 (job->status, states[i].status) == 0)
            return job->error ? MIRROR_LOST : states[i].state;
    return MIRROR_LOST;
}

/* What a dead owner left is of one instant only if all had come to rest. FALSE: one is lost. */
static gboolean look (const End *end, const Graph *graph, gboolean *ret_begun, GError **error)
{
    guint in_step = 0;
    for (guint i = 0; i < count (end); i++) {
        const GraphJob *job = graph_job (graph, job_name (end, i));
        MirrorState state = state_of (end, graph, i);
        if (state == MIRROR_LOST) {
            const char *seen = job && job->status ? job->status : _("it has vanished"),
                       *said = end->job->own->disks[i].error;
            return error_set (
                error, BAK_ERROR_INEXACT, _("disk '%s': its mirror is not in step (%s)"),
                ((PlanDisk *) end->job->plan->disks->pdata[i])->target, said ? said : seen);
        }
        in_step += state == MIRROR_IN_STEP;
    }
    *ret_begun = in_step < count (end);
    return in_step == 0 || !*ret_begun
           || error_set (
               error, BAK_ERROR_INEXACT,
               _("who ended the copy died before all disks had come to rest: they are not "
                  "of one instant"));
}

/* For every mirror there is, as one text: the parser is set back first, for a command may have been
 * cut. */
static char *last_will (const End *end)
{
    GString *text = g_string_new ("\xff\n");
    for (guint i = 0; i < count (end); i++)
        g_string_append_printf (text,
                                "{\"execute\": \"job-cancel\", \"arguments\": {\"id\": \"%s\"}}\n",
                                job_name (end, i));
    return g_string_free (text, FALSE);
}

/* A server that hangs would hold what is cancelled, and the guest with it. */
static void give_up (const End *end)
{
    run_cut (end->run);
    for (guint i = 0; i < count (end); i++)
        qmp_run (end->guest->qmp, "job-cancel", obj ("id", "s", job_name (end, i), NULL), 0, NULL);
}

static gboolean rests (const Guest *guest, const char *id)
{
    const char *status = g_hash_table_lookup (guest->job_status, id);
    return g_strcmp0 (status, "pending") == 0;
}

static gboolean all_rest (gpointer data)
{
    const End *end = data;
    for (guint i = 0; i < count (end); i++)
        if (!rests (end->guest, job_name (end, i)))
            return FALSE;
    return TRUE;
}

static const char *first_that_moves (const End *end)
{
    for (guint i = 0; i < count (end); i++)
        if (!rests (end->guest, job_name (end, i)))
            return ((PlanDisk *) end->job->plan->disks->pdata[i])->target;
    return "?";
}

static gboolean bring_to_rest (End *end, GError **error)
{
    g_autoptr (GError) late = NULL;

    for (guint i = 0; i < count (end); i++)
        if (!qmp_run (end->guest->qmp, "block-job-cancel",
                      obj ("device", "s", job_name (end, i), NULL), HELD_MS, error))
            return FALSE;
    if (qmp_wait (end->guest->qmp, all_rest, end, end->since + HELD_MS * 1000,
                  _("the end of the mirrors"), &late))
        return TRUE;
    if (error_code (late) != BAK_ERROR_TIMEOUT) {
        g_propagate_error (error, g_steal_pointer (&late));
        return FALSE;
    }
    return error_set (
        error, BAK_ERROR_TIMEOUT,
        _("disk '%s' did not come to rest within %d ms, while the guest's writes to "
           "the others waited: the copy was given up for the guest; its target may be "
           "too slow"),
        first_that_moves (end), HELD_MS);
}

static gboolean bitmaps_exist (const End *end, const Graph *graph)
{
    JsonObject *first = json_get_object (json_get_element (end->bitmaps, 0), "data");
    const GraphNode *node = graph_node (graph, json_get_string (first, "node"));

    return node && graph_bitmap (node, json_get_string (first, "name"));
}

/* At the instant itself: all disks stand still. */
static gboolean make_bitmaps (const End *end, const Graph *graph, GError **error)
{
    if (json_array_get_length (end->bitmaps) == 0 || (graph && bitmaps_exist (end, graph)))
        return TRUE;
    return qmp_run (end->guest->qmp, "transaction",
                    obj ("actions", "a", json_array_ref (end->bitmaps), NULL), BITMAPS_MS, error);
}

/* Nothing is held any more. */
static void release (End *end)
{
    deputy_end (end->deputy);
    end->deputy = -1;
    if (end->since)
        end->job->record.held += g_get_monotonic_time () - end->since;
    end->since = 0;
}

/* From here on it is good, whoever goes on. */
static gboolean let_go (End *end, GError **error)
{
    for (guint i = 0; i < count (end); i++) {
        g_autoptr (GError) refused = NULL;
        if (!end->job->own->disks[i].ended
            && !qmp_run (end->guest->qmp, "job-finalize", obj ("id", "s", job_name (end, i), NULL),
                         FINALIZE_MS, &refused)
            && (run_outcome_unknown (refused) || rests (end->guest, job_name (end, i)))) {
            g_propagate_error (error, g_steal_pointer (&refused));
            return FALSE;
        }
    }
    release (end);
    for (guint i = 0; i < count (end); i++) {
        JobDisk *disk = &end->job->own->disks[i];
        if (disk->ended)
            continue;
        if (!run_wait_job (end->run, job_name (end, i), TRUE, FINALIZE_MS, error))
            return FALSE;
        disk->ended = TRUE;
        if (journal_result (end->run->journal, job_name (end, i), NULL, NULL))
            qmp_run (end->guest->qmp, "job-dismiss", obj ("id", "s", job_name (end, i), NULL), 0,
                     NULL);
    }
    return TRUE;
}

static gboolean at_one_instant (End *end, const Graph *graph, gboolean begun, GError **error)
{
    g_autofree char *will = last_will (end);

    end->deputy = deputy_start (qmp_get_fd (end->guest->qmp), will);
    end->since = g_get_monotonic_time ();
    if (!begun && !bring_to_rest (end, error))
        return FALSE;
    return make_bitmaps (end, begun ? graph : NULL, error) && let_go (end, error);
}

gboolean verb_mirror_end (Run *run, const Action *action, GError **error)
{
    Guest *guest = run->data;
    End end = { .run = run,
                .guest = guest,
                .job = guest->job,
                .bitmaps = json_get_array (action->args, "actions"),
                .deputy = -1 };
    gboolean begun = FALSE;
    g_autoptr (Graph) graph = guest_graph (guest, GRAPH_DISKS, error);
    if (!graph)
        return FALSE;
    gboolean ok =
        look (&end, graph, &begun, error)
        && (begun || !json_get_bool (action->args, "quiesce", FALSE) || run_freeze (run, error))
        && at_one_instant (&end, graph, begun, error);
    if (!ok)
        give_up (&end);
    release (&end);
    /* what could not be thawed is tried again by the end of the job */
    run_thaw (run, NULL);
    job_record_freeze (&end.job->record, run);
    return ok;
}
