#include <stdlib.h>
#include <glib/gi18n-lib.h>
#include "job/board.h"
#include "job/moves.h"
#include "job/record.h"

void board_init (Board *board, const char *domain, const char *dir, DriverGuest *guest,
                 void (*refresh) (DriverGuest *guest))
{
    *board = (Board){ .domain = domain, .dir = dir, .guest = guest, .refresh = refresh };
    g_mutex_init (&board->lock);
    g_cond_init (&board->changed);
}

void board_clear (Board *board)
{
    bak_job_clear (&board->snapshot);
    g_free (board->document);
    g_mutex_clear (&board->lock);
    g_cond_clear (&board->changed);
}

/* ---- what is shown; the lock is held where a function is static ---- */

static gboolean shows (const Board *board, const char *id)
{
    const char *shown = board->snapshot.id;
    return shown && *shown && (!*id || g_str_equal (id, shown));
}

static gboolean shows_running (const Board *board, const char *id)
{
    return shows (board, id) && !job_state_ended (board->snapshot.state);
}

static void show (Board *board, const bak_job *record)
{
    g_mutex_lock (&board->lock);
    bak_job_clear (&board->snapshot);
    if (record)
        bak_job_copy (record, &board->snapshot);
    board->published++;
    g_cond_broadcast (&board->changed);
    g_mutex_unlock (&board->lock);
}

void board_publish (Board *board, const bak_job *record)
{
    show (board, record);
}

void board_wipe (Board *board)
{
    show (board, NULL);
}

void board_set_document (Board *board, const char *document)
{
    g_mutex_lock (&board->lock);
    g_free (board->document);
    board->document = g_strdup (document);
    g_mutex_unlock (&board->lock);
}

int board_state (Board *board)
{
    g_mutex_lock (&board->lock);
    int state = shows (board, "") ? board->snapshot.state : JOB_STATE_NONE;
    g_mutex_unlock (&board->lock);
    return state;
}

char *board_running (Board *board)
{
    g_mutex_lock (&board->lock);
    char *id = ret_string (shows_running (board, "") ? board->snapshot.id : "");
    g_mutex_unlock (&board->lock);
    return id;
}

void board_copy (Board *board, bak_job *ret)
{
    g_mutex_lock (&board->lock);
    bak_job_copy (&board->snapshot, ret);
    g_mutex_unlock (&board->lock);
}

static gboolean copy_shown (Board *board, const char *id, bak_job *ret)
{
    g_mutex_lock (&board->lock);
    gboolean here = shows (board, id);
    if (here)
        bak_job_copy (&board->snapshot, ret);
    g_mutex_unlock (&board->lock);
    return here;
}

/* ---- calls ---- */

gboolean board_no_job (const Board *board, GError **error)
{
    return error_set (error, BAK_ERROR_NO_JOB, _("guest '%s' has no running backup job"),
                      board->domain);
}

static void bring_up_to_date (Board *board, const char *id)
{
    g_mutex_lock (&board->lock);
    int state = shows (board, id) ? board->snapshot.state : JOB_STATE_NONE;
    g_mutex_unlock (&board->lock);
    if (state == JOB_STATE_RUNNING || state == JOB_STATE_READY)
        board->refresh (board->guest);
}

gboolean board_recorded (const Board *board, const char *id, bak_job *ret, GError **error)
{
    g_autoptr (GError) failure = NULL;

    if (record_load (board->dir, id, ret, &failure))
        return TRUE;
    if (error_code (failure) == BAK_ERROR_NO_JOB && !*id)
        return error_set (error, BAK_ERROR_NO_JOB, _("guest '%s' has had no backup job"),
                          board->domain);
    g_propagate_error (error, g_steal_pointer (&failure));
    return FALSE;
}

/* From the snapshot of a job in this process, else from the record. */
gboolean board_read (Board *board, const char *id, bak_job *ret, GError **error)
{
    bring_up_to_date (board, id);
    /* a begin that was refused meanwhile has left none */
    return copy_shown (board, id, ret) || board_recorded (board, id, ret, error);
}

/* The newest record of a job that has ended. */
static gboolean load_ended (Board *board, bak_job *ret)
{
    g_autoptr (GArray) jobs = record_list (board->dir, NULL);
    gboolean found = FALSE;

    for (guint i = 0; i < jobs->len; i++) {
        bak_job *candidate = &g_array_index (jobs, bak_job, i);
        if (!found && job_state_ended (candidate->state)) {
            *ret = *candidate;
            found = TRUE;
        } else {
            bak_job_clear (candidate);
        }
    }
    return found;
}

/* That there is no such job is said by its state; another reason not to know it is an error. */
gboolean board_stats (Board *board, const bak_job_arg *args, bak_job_ret *ret, GError **error)
{
    gboolean want_ended = (args->flags & STATS_COMPLETED) != 0;
    g_autoptr (GError) failure = NULL;

    if (board_read (board, args->job, &ret->job, &failure)) {
        if (job_state_ended (ret->job.state) == want_ended)
            return TRUE;
        bak_job_clear (&ret->job);
    } else if (error_code (failure) != BAK_ERROR_NO_JOB) {
        g_propagate_error (error, g_steal_pointer (&failure));
        return FALSE;
    }
    if (want_ended && load_ended (board, &ret->job))
        return TRUE;
    bak_job none = { .id = (char *) "",
                     .domain = (char *) board->domain,
                     .error = (char *) "",
                     .checkpoint = (char *) "",
                     .server = (char *) "",
                     .consistency = (char *) "",
                     .owner = (char *) "" };
    bak_job_copy (&none, &ret->job);
    return TRUE;
}

gboolean board_list (Board *board, bak_jobs_ret *ret, GError **error)
{
    g_autoptr (GArray) jobs = record_list (board->dir, NULL);
    guint count = MIN (jobs->len, BAK_JOBS_MAX);
    bak_job *list = ret->jobs.jobs_val = ret_array (count, sizeof (bak_job)), now = { 0 };

    ret->jobs.jobs_len = count;
    for (guint i = 0; i < jobs->len; i++)
        if (i < count)
            list[i] = g_array_index (jobs, bak_job, i);
        else
            bak_job_clear (&g_array_index (jobs, bak_job, i));
    if (!count || job_state_ended (list[0].state) || !board_read (board, list[0].id, &now, NULL))
        return TRUE;
    bak_job_clear (&list[0]);
    list[0] = now;
    return TRUE;
}

gboolean board_wait (Board *board, const bak_wait_args *args, bak_job_ret *ret, GError **error)
{
    gint64 deadline = g_get_monotonic_time () + (gint64) MIN (args->timeout, G_MAXINT64 / 4);

    g_mutex_lock (&board->lock);
    while (shows_running (board, args->job) && g_get_monotonic_time () < deadline)
        g_cond_wait_until (&board->changed, &board->lock, deadline);
    g_mutex_unlock (&board->lock);
    return board_read (board, args->job, &ret->job, error);
}

gboolean board_xml (Board *board, const bak_job_arg *args, bak_text_ret *ret, GError **error)
{
    bak_job job = { 0 };

    if (!board_read (board, args->job, &job, error))
        return FALSE;
    g_mutex_lock (&board->lock);
    g_autofree char *document = shows (board, job.id) ? g_strdup (board->document) : NULL;
    g_mutex_unlock (&board->lock);
    g_autofree char *xml =
        job_state_ended (job.state) && !*args->job ? NULL : job_xml (&job, document);
    bak_job_clear (&job);
    if (!xml)
        return board_no_job (board, error);
    ret->text = ret_string (xml);
    return TRUE;
}
