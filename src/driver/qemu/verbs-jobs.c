/* Jobs of QEMU: their end is waited for, or brought about. All on the guest's thread. */
#include <glib/gi18n-lib.h>
#include "driver/qemu/job.h"
#include "driver/qemu/verbs.h"
#include "job/build.h"
#include "util/config.h"
#include "util/json.h"

enum { WAIT_TIMEOUT_MS = 30000, END_TIMEOUT_MS = 20000, REQUERY_MS = 1000, PAUSE_MS = 1000 };

/* one, to be waited for */
typedef struct {
    Guest *guest;
    const char *id;
} Named;

static gboolean concluded_seen (const Named *named)
{
    const char *status = g_hash_table_lookup (named->guest->job_status, named->id);
    return status && (g_str_equal (status, "concluded") || g_str_equal (status, "null"));
}

static gboolean job_event_seen (gpointer data)
{
    const Named *named = data;
    return g_hash_table_contains (named->guest->job_errors, named->id) || concluded_seen (named);
}

static gboolean job_success_seen (gpointer data)
{
    const Named *named = data;
    return job_event_seen (data)
           || g_strcmp0 (g_hash_table_lookup (named->guest->job_status, named->id), "ready") == 0;
}

/* The job's entry in query-jobs: *ret_job (status, error) or NULL members when it is gone. */
static gboolean query_job (Guest *guest, const char *id, char **ret_status, char **ret_error,
                           GError **error)
{
    g_autoptr (JsonNode) jobs = qmp_execute (guest->qmp, "query-jobs", NULL, 0, error);
    *ret_status = *ret_error = NULL;
    if (!jobs)
        return FALSE;
    JsonArray *array = JSON_NODE_HOLDS_ARRAY (jobs) ? json_node_get_array (jobs) : NULL;
    for (guint i = 0; array && i < json_array_get_length (array); i++) {
        JsonObject *job = json_get_element (array, i);
        if (job && g_strcmp0 (json_get_string (job, "id"), id) == 0) {
            *ret_status = g_strdup (json_get_string (job, "status"));
            *ret_error = g_strdup (json_get_string (job, "error"));
        }
    }
    return TRUE;
}

/* ---- the end of a job that runs ---- */

static const char *halted_as (const Guest *guest, const char *id)
{
    static const char *const all[] = { "paused",   "standby",   "waiting", "pending",
                                       "aborting", "concluded", "null",    NULL };
    const char *status = g_hash_table_lookup (guest->job_status, id);
    return status && g_strv_contains (all, status) ? status : NULL;
}

static gboolean has_halted (gpointer data)
{
    const Named *named = data;
    return halted_as (named->guest, named->id) != NULL;
}

/* A copy that is to stay pending is not ended by QEMU itself any more. */
static gboolean stands_still (const Guest *guest, const char *status)
{
    const gboolean waits = guest->caps->copies_wait || (guest->job && guest->job->plan->at_end);

    return g_strcmp0 (status, "paused") == 0 || g_strcmp0 (status, "standby") == 0
           || (waits && g_strcmp0 (status, "pending") == 0);
}

/* QEMU before 9.0 takes commands while it ends a job, and a job-cancel at that moment ends it a
 * second time: the guest dies. So a job is cancelled only while it stands still: what cannot be
 * paused any more ends by itself. */
JobHalt run_job_halts (Guest *guest, const char *id, gint64 deadline)
{
    Named named = { guest, id };
    if (!qmp_wait (guest->qmp, has_halted, &named, deadline, id, NULL))
        return HALT_LATE;
    return stands_still (guest, halted_as (guest, id)) ? HALT_STILL : HALT_ENDS;
}

/* A job that still runs so long after it was paused waits for its target, or sleeps to keep to its
 * limit: it is not about to end. */
gboolean run_job_may_be_cancelled (Guest *guest, const char *id, GError **error)
{
    g_autofree char *status = NULL, *text = NULL;
    g_autoptr (GError) refused = NULL;

    if (!qmp_run (guest->qmp, "job-pause", obj ("id", "s", id, NULL), 0, &refused)) {
        if (run_outcome_unknown (refused)) {
            g_propagate_error (error, g_steal_pointer (&refused));
            return FALSE;
        }
        if (!query_job (guest, id, &status, &text, error) || stands_still (guest, status))
            return stands_still (guest, status);
        if (g_strcmp0 (status, "running") != 0 && g_strcmp0 (status, "ready") != 0)
            return FALSE;
    } /* refused while it runs: somebody has asked for the pause before */
    return run_job_halts (guest, id, g_get_monotonic_time () + PAUSE_MS * 1000) != HALT_ENDS;
}

/* How long the end of a job that was cancelled is waited for: with what it writes to hung, it may
 * never come. */
static guint end_timeout (void)
{
    gint64 most = config_get_int ("monitor_timeout", 0);
    return most > 0 ? MIN (most * 1000, END_TIMEOUT_MS) : END_TIMEOUT_MS;
}

/* Events tell, query-jobs decides: an event may have been lost while the monitor was away. A job of
 * which an event has told already (we have just started or cancelled it) is not asked for before
 * its event, and how it ended is asked for only where that matters. */
gboolean run_wait_job (Run *run, const char *id, gboolean want_success, guint timeout_ms,
                       GError **error)
{
    Guest *guest = run->data;
    if (timeout_ms == 0)
        timeout_ms = want_success ? WAIT_TIMEOUT_MS : end_timeout ();
    gint64 deadline = g_get_monotonic_time () + (gint64) timeout_ms * 1000;
    Named named = { guest, id };

    for (gboolean ask = !want_success && !g_hash_table_contains (guest->job_status, id);;
         ask = TRUE) {
        g_autofree char *status = NULL, *failure = NULL;
        if (!want_success && concluded_seen (&named))
            return TRUE;
        if (!guest->caps->jobs) {
            if (g_hash_table_contains (guest->job_errors, id))
                return TRUE;
        } else if (ask) {
            if (!query_job (guest, id, &status, &failure, error))
                return FALSE;
            if (!status)
                return !want_success
                       || error_set (error, BAK_ERROR_MONITOR, _("QEMU's job '%s' has vanished"),
                                     id);
            if (want_success && g_str_equal (status, "ready"))
                return TRUE;
            if (g_str_equal (status, "concluded")) {
                if (!failure || !want_success)
                    return TRUE;
                g_autofree char *text = text_sanitize (failure, 1024);
                return error_set (error, error_code_from_text (failure), "%s", text);
            }
        }
        gint64 now = g_get_monotonic_time ();
        if (now >= deadline)
            return error_set (error, BAK_ERROR_TIMEOUT, _("QEMU's job '%s' did not end in time"),
                              id);
        g_autoptr (GError) ignored = NULL;
        if (!qmp_wait (guest->qmp, want_success ? job_success_seen : job_event_seen, &named,
                       MIN (deadline, now + REQUERY_MS * 1000), id, &ignored)
            && error_code (ignored) != BAK_ERROR_TIMEOUT) {
            g_propagate_error (error, g_steal_pointer (&ignored));
            return FALSE;
        }
        if (run->cancel && g_atomic_int_get (run->cancel) && want_success)
            return error_set (error, BAK_ERROR_ABORTED, _("aborted on request"));
    }
}

void run_end_job (Run *run, const char *id)
{
    Guest *guest = run->data;

    if (run_job_may_be_cancelled (guest, id, NULL))
        qmp_run (guest->qmp, "job-cancel", obj ("id", "s", id, NULL), 0, NULL);
    if (run_wait_job (run, id, FALSE, 0, NULL))
        qmp_run (guest->qmp, "job-dismiss", obj ("id", "s", id, NULL), 0, NULL);
}
