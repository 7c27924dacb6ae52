/* The engine: forwards through the steps, backwards through their undos. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "job/build.h"
#include "job/run.h"
#include "job/verbs-files.h"
#include "util/json.h"

static gboolean cuts (const Action *action)
{
    return g_str_equal (action->verb, "yank") || g_str_equal (action->verb, "relay-cut");
}

static const RunVerb *find_verb (const RunVerb *verbs, const char *name)
{
    for (const RunVerb *verb = verbs; verb && verb->verb; verb++)
        if (g_str_equal (verb->verb, name))
            return verb;
    return NULL;
}

static const RunVerb *verb_of (const Run *run, const Action *action)
{
    const RunVerb *verb = find_verb (run->ops->verbs, action->verb);
    return verb || (action->qmp && run->ops->command) ? verb : find_verb (file_verbs, action->verb);
}

gboolean run_action (Run *run, const Action *action, GError **error)
{
    const RunVerb *verb = verb_of (run, action);

    if (!verb && action->qmp && run->ops->command)
        return run->ops->command (run, action, error);
    if (!verb)
        return error_set (error, BAK_ERROR_INTERNAL, _("unknown action '%s'"), action->verb);
    if (verb->connected && !run->ops->connected (run, error))
        return FALSE;
    return verb->perform (run, action, error);
}

/* ---- forwards ---- */

gboolean run_outcome_unknown (const GError *error)
{
    BakErrorCode code = error_code (error);
    return code == BAK_ERROR_TIMEOUT || code == BAK_ERROR_CONNECTION || code == BAK_ERROR_ABORTED;
}

static void set_state (Run *run, guint step, StepState state)
{
    g_array_index (run->states, StepState, step) = state;
}

/* What QEMU has refused may be done without. */
static gboolean goes_on (Run *run, const Action *action, const GError *refusal, GError **error)
{
    if (!action->otherwise || run_outcome_unknown (refusal))
        return FALSE;
    g_debug ("%s", refusal->message);
    g_autoptr (Action) other = own_action (action->otherwise, NULL);
    return run_action (run, other, error);
}

static gboolean name_step (const Run *run, const Step *step, GError **error)
{
    if (step->disk)
        error_note (error, _("disk '%s'"), step->disk);
    else if (step->action->qmp && g_str_equal (step->action->verb, "nbd-server-start"))
        error_note (error, _("NBD server at %s"), run->plan->server);
    return FALSE;
}

static gboolean run_one (Run *run, guint index, GError **error)
{
    const Step *step = run->plan->steps->pdata[index];
    g_autoptr (GError) failure = NULL, otherwise = NULL;

    if (run->cancel && g_atomic_int_get (run->cancel))
        return error_set (error, BAK_ERROR_ABORTED, _("aborted on request"));
    if (run->journal && !journal_step (run->journal, index, STEP_STARTED, error))
        return FALSE;
    set_state (run, index, STEP_STARTED);
    if (run_action (run, step->action, &failure)) {
        set_state (run, index, STEP_DONE);
        return !run->journal || journal_step (run->journal, index, STEP_DONE, error);
    }
    /* A refused QMP command did nothing; verbs of ours may have done half (file-create, freeze),
     * and their undo knows. */
    if (step->action->qmp && !run_outcome_unknown (failure)) {
        set_state (run, index, STEP_FAILED);
        if (run->journal)
            journal_step (run->journal, index, STEP_FAILED, NULL);
    }
    if (goes_on (run, step->action, failure, &otherwise))
        return TRUE;
    if (otherwise) {
        g_propagate_error (error, g_steal_pointer (&otherwise));
        return FALSE;
    }
    if (step->action->qmp && run->ops->explain)
        run->ops->explain (run, &failure);
    if (error)
        *error = g_steal_pointer (&failure);
    return name_step (run, step, error);
}

gboolean run_look (Run *run, GError **error)
{
    for (guint i = 0; i < run->plan->steps->len; i++) {
        const Step *step = run->plan->steps->pdata[i];
        const RunVerb *verb = verb_of (run, step->action);
        if (verb && verb->look && !verb->look (run, step->action, error))
            return name_step (run, step, error);
    }
    return TRUE;
}

gboolean run_steps (Run *run, GError **error)
{
    for (guint i = 0; i < run->plan->steps->len; i++) {
        g_autoptr (GError) failure = NULL, undo_failure = NULL;
        if (run_one (run, i, &failure))
            continue;
        run->cancel = NULL;
        run->undo_failed = !run_undo (run, FALSE, &undo_failure);
        if (run->undo_failed)
            g_warning ("undo after '%s': %s", failure->message, undo_failure->message);
        g_propagate_error (error, g_steal_pointer (&failure));
        return FALSE;
    }
    return TRUE;
}

/* ---- backwards ---- */

/* FALSE also for a driver that holds nothing to be reached. */
static gboolean can_reach (Run *run)
{
    return run->ops->reach && run->ops->reach (run, NULL);
}

static gboolean guard_holds (Run *run, gconstpointer picture, const Action *action)
{
    return !action->guard || (picture && run->ops->guard (picture, action->guard));
}

/* Whether the object of an undo that has failed went meanwhile. Of a job, "cannot accept command
 * verb 'cancel'" says no more: the wait and the dismissal that follow tell. */
static gboolean has_gone (Run *run, const Action *action)
{
    gpointer now = run->ops->picture (run, NULL);
    gboolean gone =
        now && (!guard_holds (run, now, action) || json_object_has_member (action->guard, "job"));
    if (now)
        run->ops->picture_free (now);
    return gone;
}

/* An undo that fails although its object is still there has failed; one whose object went meanwhile
 * is done. */
static gboolean undo_one (Run *run, const Action *action, gconstpointer picture, GError **error)
{
    g_autoptr (GError) failure = NULL;
    gboolean of_qemu = action->qmp || action->guard;

    if (!guard_holds (run, picture, action))
        return TRUE;
    if (of_qemu && (run->hung || !can_reach (run)))
        return TRUE; /* what QEMU held is gone with it, or recover comes back for it */
    if (g_str_equal (action->verb, "job-cancel")
        && !run->ops->may_cancel (run, json_get_string (action->args, "id"), &failure) && !failure)
        return TRUE; /* it ends by itself: the wait and the dismissal that follow tell */
    if (!failure && run_action (run, action, &failure))
        return TRUE;
    run->hung = run->hung || (of_qemu && error_code (failure) == BAK_ERROR_TIMEOUT);
    if (!run->hung && action->guard && can_reach (run)) {
        if (has_gone (run, action))
            return TRUE;
    } else if (action->qmp && error_code (failure) == BAK_ERROR_MONITOR) {
        g_debug ("undo: %s", failure->message);
        return TRUE; /* nbd-server-stop of a server that never started */
    }
    if (error && !*error)
        *error = g_steal_pointer (&failure);
    return FALSE;
}

gboolean run_can_cut (const Run *run)
{
    for (guint i = 0; i < run->plan->steps->len; i++) {
        const GPtrArray *undo = ((Step *) run->plan->steps->pdata[i])->undo;
        for (guint k = 0; k < undo->len; k++)
            if (cuts (undo->pdata[k]))
                return TRUE;
    }
    return FALSE;
}

void run_cut (Run *run)
{
    gboolean stopped = run->hung; /* what does not even take a yank is asked once */
    for (guint i = 0; i < run->plan->steps->len; i++) {
        const Step *step = run->plan->steps->pdata[i];
        StepState state = g_array_index (run->states, StepState, i);
        for (guint k = 0; (state == STEP_DONE || state == STEP_STARTED) && k < step->undo->len;
             k++) {
            const Action *action = step->undo->pdata[k];
            g_autoptr (GError) failure = NULL;
            if (!cuts (action) || (stopped && g_str_equal (action->verb, "yank"))
                || run_action (run, action, &failure))
                continue;
            g_debug ("%s: %s", action->verb, failure->message);
            stopped = stopped || error_code (failure) == BAK_ERROR_TIMEOUT;
        }
    }
}

static gboolean undo_steps (Run *run, gboolean success, gconstpointer picture, GError **error)
{
    for (gint i = (gint) run->plan->steps->len - 1; i >= 0; i--) {
        const Step *step = run->plan->steps->pdata[i];
        StepState state = g_array_index (run->states, StepState, i);
        if (state != STEP_DONE && state != STEP_STARTED)
            continue;
        for (guint k = 0; k < step->undo->len; k++) {
            const Action *undo = step->undo->pdata[k];
            if ((success && undo->keep) || g_str_equal (undo->verb, "yank"))
                continue; /* a yank comes first or never */
            undo_one (run, undo, picture, error);
        }
    }
    return !*error;
}

gboolean run_undo (Run *run, gboolean success, GError **error)
{
    g_autoptr (GError) first = NULL;
    if (!success)
        run_cut (run);
    gpointer picture = !run->hung && can_reach (run) ? run->ops->picture (run, &first) : NULL;

    run->hung = run->hung || error_code (first) == BAK_ERROR_TIMEOUT;
    gboolean ok = undo_steps (run, success, picture, &first);
    if (picture)
        run->ops->picture_free (picture);
    if (!ok)
        g_propagate_error (error, g_steal_pointer (&first));
    return ok;
}

static gboolean finish_one (Run *run, const Action *action, gconstpointer picture, GError **error)
{
    gboolean there = guard_holds (run, picture, action), ok = !there && !action->proves;
    if (!there && action->proves)
        error_set (error, BAK_ERROR_MONITOR,
                   _("QEMU has '%s' no more: somebody else has removed it, and that the copy was "
                      "written out cannot be shown"),
                   json_get_string (action->guard, "node"));
    ok = ok || (there && run_action (run, action, error));
    if (ok)
        return TRUE;
    return action->disk ? error_note (error, _("disk '%s'"), action->disk) : FALSE;
}

gboolean run_finish (Run *run, GError **error)
{
    gboolean ok = TRUE;
    gpointer picture = NULL;

    if (run->plan->finish->len == 0)
        return TRUE;
    if (run->ops->picture
        && (!run->ops->reach (run, error) || !(picture = run->ops->picture (run, error))))
        return FALSE;
    while (ok && run->finished < run->plan->finish->len) {
        ok = finish_one (run, run->plan->finish->pdata[run->finished], picture, error);
        if (ok)
            run->finished++;
        ok = ok && (!run->journal || journal_finish (run->journal, run->finished, error));
    }
    if (picture)
        run->ops->picture_free (picture);
    return ok;
}

char *run_notes (const Run *run)
{
    g_autofree char *notes = plan_notes (run->plan);
    const char *between = *notes ? "; " : "";
    if (run->froze > 0 && run->thawed == run->froze)
        return g_strdup_printf (_("%s%squiesced: %d file systems were frozen for %.1f ms"), notes,
                                between, run->froze, run->frozen_for / 1000.0);
    if (run->froze >= 0)
        return g_strdup_printf (
            _("%s%scrash-consistent only: %d file systems were frozen, %d thawed"), notes, between,
            run->froze, MAX (run->thawed, 0));
    return g_steal_pointer (&notes);
}
