/* The course of one run: the lock of the job, its guests, workers, the report. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include <glib/gstdio.h>
#include "night.h"

enum { PROGRESS_INTERVAL_US = 1000000, BAR_INTERVAL_US = 200000 };

static JsonObject *make_report (Night *night, int status, const char *error);

/* workers */

/* The next guest; NULL: there is none, and none will be tried again. */
static NightGuest *take_guest (Night *night)
{
    g_mutex_lock (&night->lock);
    while (g_queue_is_empty (&night->queue) && night->running)
        g_cond_wait (&night->changed, &night->lock);
    NightGuest *guest = g_queue_pop_head (&night->queue);
    if (guest) {
        night->running++;
        guest->attempts++;
        guest->began = g_get_monotonic_time ();
        guest->done = guest->total = 0;
        g_strlcpy (guest->phase, "begin", sizeof guest->phase);
    }
    g_mutex_unlock (&night->lock);
    return guest;
}

/* again: at the end of the queue. */
static void give_back (Night *night, NightGuest *guest, gboolean again)
{
    g_mutex_lock (&night->lock);
    night->running--;
    guest->began = 0;
    if (again)
        g_queue_push_tail (&night->queue, guest);
    else
        night->ended++;
    g_cond_broadcast (&night->changed);
    g_mutex_unlock (&night->lock);
}

static BakConnection *connect_to (GHashTable *connections, const char *uri, BakError **error)
{
    BakConnection *conn = g_hash_table_lookup (connections, uri);
    if (!conn && (conn = bak_connection_open (uri, error)))
        g_hash_table_insert (connections, g_strdup (uri), conn);
    return conn;
}

static gboolean run_guest (Night *night, NightGuest *guest, GHashTable *connections)
{
    BakError *error = NULL;
    BakConnection *conn = connect_to (connections, guest->uri, &error);
    gboolean again = TRUE;
    if (bak_cancellation_is_cancelled (night->cancellation)) {
        night_guest_fail (night, guest, STATUS_INTERRUPTED, NULL,
                          _("not begun: the run was interrupted"));
    } else if (conn) {
        again = night_guest_run (night, guest, conn);
    } else {
        BakErrorCode code = bak_error_get_code (error);
        night_guest_fail (night, guest, status_of_error (code), bak_error_code_to_string (code),
                          bak_error_get_message (error));
    }
    bak_error_unref (error);
    if (again) /* the next attempt shall not meet a connection that was lost */
        g_hash_table_remove (connections, guest->uri);
    return again;
}

static void tell_start (Night *night, NightGuest *guest)
{
    JsonObject *fields = json_new ();
    json_text (fields, "guest", guest->name);
    json_text (fields, "uuid", guest->uuid);
    json_int (fields, "attempt", guest->attempts);
    night_tell (night, "guest-start", fields);
}

static void tell_retry (Night *night, NightGuest *guest)
{
    JsonObject *fields = json_new ();
    json_text (fields, "guest", guest->name);
    night_tell (night, "guest-retry", fields);
}

/* FALSE: its row says why it is left out. */
static gboolean before_guest (Night *night, NightGuest *guest)
{
    g_autofree char *why = NULL;
    g_autoptr (JsonObject) facts = json_new ();
    json_text (facts, "guest", guest->name);
    json_text (facts, "uuid", guest->uuid);
    json_text (facts, "uri", guest->uri);
    json_int (facts, "attempts", guest->attempts);
    HookResult result = night_hook (night, "guest-start", facts, &why);
    if (result == HOOK_SKIP)
        night_guest_skip (night, guest, why);
    else if (result == HOOK_FAILED)
        night_guest_fail (night, guest, STATUS_FAILED, NULL, why);
    return result == HOOK_GOOD;
}

/* A hook that says "skip" to a failure takes the alarm from it. */
static void after_guest (Night *night, NightGuest *guest, gboolean last)
{
    g_autofree char *why = NULL;
    gboolean good = g_strcmp0 (report_get_text (guest->row, "result"), "good") == 0;
    g_autoptr (JsonObject) facts = night_copy (guest->row);
    json_bool (facts, "final", last);
    HookResult result = night_hook (night, good ? "guest-end" : "guest-failed", facts, &why);
    if (result == HOOK_GOOD)
        return;
    g_mutex_lock (&night->lock);
    if (result == HOOK_SKIP && !good)
        json_text (guest->row, "result", "skipped");
    else
        json_array_add_string_element (json_object_get_array_member (guest->row, "warnings"), why);
    g_mutex_unlock (&night->lock);
}

/* TRUE: it shall be tried again. */
static gboolean attempt (Night *night, NightGuest *guest, GHashTable *connections)
{
    gboolean begun = before_guest (night, guest);
    gboolean again = begun && run_guest (night, guest, connections)
                     && guest->attempts <= night->job->retry && !night->options->dry_run
                     && !bak_cancellation_is_cancelled (night->cancellation);
    if (begun)
        after_guest (night, guest, !again);
    return again;
}

/* What is known of it, and the metrics, as soon as it has ended. */
static void note_end (Night *night, NightGuest *guest)
{
    g_autofree char *why = NULL;
    if (night->options->dry_run)
        return;
    g_mutex_lock (&night->lock);
    known_take (night, guest->row);
    g_autoptr (JsonObject) report = make_report (night, STATUS_DONE, NULL);
    gboolean written = night_metrics (night, report, &why);
    g_mutex_unlock (&night->lock);
    if (!written)
        g_info ("%s", why); /* said at the end */
}

static gpointer work (gpointer data)
{
    Night *night = data;
    NightGuest *guest;
    g_autoptr (GHashTable) connections = g_hash_table_new_full (
        g_str_hash, g_str_equal, g_free, (GDestroyNotify) bak_connection_unref);
    while ((guest = take_guest (night))) {
        tell_start (night, guest);
        gboolean again = attempt (night, guest, connections);
        night_tell_row (night, guest->row);
        if (again)
            tell_retry (night, guest);
        else
            note_end (night, guest);
        give_back (night, guest, again);
    }
    return NULL;
}

static gpointer wait_for_workers (gpointer data)
{
    Night *night = data;
    guint n = MIN (night->job->parallel, night->guests->len);
    g_autofree GThread **threads = g_new0 (GThread *, n);
    for (guint i = 0; i < n; i++)
        threads[i] = g_thread_new ("night", work, night);
    for (guint i = 0; i < n; i++)
        g_thread_join (threads[i]);
    close (night->wake[1]);
    return NULL;
}

static void interrupt_night (Night *night)
{
    bak_cancellation_cancel (night->cancellation);
    interrupt_await (TRUE); /* counts from 0 again */
}

/* Runs function in a thread to its end, showing progress. */
static void run_watched (Night *night, GThreadFunc function)
{
    gint64 interval =
        isatty (STDERR_FILENO) && !night->options->lines ? BAR_INTERVAL_US : PROGRESS_INTERVAL_US;
    if (pipe2 (night->wake, O_CLOEXEC) != 0)
        g_error ("pipe: %s", g_strerror (errno));
    GThread *thread = g_thread_new ("night", function, night);
    for (;;) {
        PollResult result = interrupt_poll (night->wake[0], interval);
        if (result == POLL_READABLE)
            break;
        if (result == POLL_INTERRUPT)
            interrupt_night (night);
        else
            night_show_progress (night);
    }
    g_thread_join (thread);
    close (night->wake[0]);
    night_clear_progress (night);
}

static void run_guests (Night *night)
{
    for (guint i = 0; i < night->guests->len; i++)
        g_queue_push_tail (&night->queue, night->guests->pdata[i]);
    run_watched (night, wait_for_workers);
}

/* the lock */

static char *path_in (const Night *night, const char *name)
{
    return g_build_filename (night->dir, name, NULL);
}

static int fail_busy (Night *night)
{
    g_autofree char *path = path_in (night, "running.json");
    g_autoptr (JsonObject) running = report_load_file (path);
    g_autofree char *since =
        running ? format_time (report_get_time (running, "started")) : g_strdup ("?");
    return fail_with (STATUS_FAILED, _("job '%s' runs since %s (process %d)"), night->job->name,
                      since, running ? (int) report_get_int (running, "pid") : 0);
}

/* Says who runs it, and notices who did not come to an end. */
static void mark_running (Night *night)
{
    g_autofree char *path = path_in (night, "running.json");
    g_autoptr (JsonObject) before = report_load_file (path);
    g_autoptr (JsonObject) object = json_new ();
    g_autoptr (JsonNode) node = json_node_new (JSON_NODE_OBJECT);
    json_int (object, "pid", getpid ());
    json_time (object, "started", night->started);
    json_node_set_object (node, object);
    g_autofree char *text = json_to_string (node, TRUE);
    g_file_set_contents_full (path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600, NULL);
    if (before) {
        g_autofree char *when = format_time (report_get_time (before, "started"));
        night_warn (night, _("the run that began at %s did not come to its end"), when);
    }
}

static void unmark_running (Night *night)
{
    g_autofree char *path = path_in (night, "running.json");
    g_unlink (path);
}

/* The fd that holds it, or -1 and *ret_status. */
static int lock_job (Night *night, int *ret_status)
{
    g_autofree char *path = path_in (night, "lock");
    int fd = g_mkdir_with_parents (night->dir, 0700) == 0
                 ? open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600)
                 : -1;
    if (fd < 0) {
        *ret_status = fail_with (STATUS_FAILED, _("cannot write to '%s': %s"), night->dir,
                                 g_strerror (errno));
        return -1;
    }
    if (flock (fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    *ret_status = fail_busy (night);
    close (fd);
    return -1;
}

/* the report */

static JsonObject *count_results (const Night *night, JsonObject *report)
{
    static const char *const results[] = { "good",    "planned", "failed",
                                           "refused", "skipped", "interrupted" };
    JsonObject *counts = json_new ();
    guint warnings = json_array_get_length (night->warnings);
    json_int (counts, "guests", night->guests->len);
    for (guint i = 0; i < G_N_ELEMENTS (results); i++) {
        guint count = 0;
        for (guint j = 0; j < night->guests->len; j++) {
            const NightGuest *guest = night->guests->pdata[j];
            count += g_strcmp0 (report_get_text (guest->row, "result"), results[i]) == 0;
        }
        json_int (counts, results[i], count);
    }
    for (guint j = 0; j < night->guests->len; j++) {
        const NightGuest *guest = night->guests->pdata[j];
        warnings += json_array_get_length (report_get_array (guest->row, "warnings"));
    }
    json_int (counts, "unreached", night->unreached);
    json_int (counts, "damaged", night->damaged);
    json_int (counts, "undrilled", night->undrilled);
    json_int (counts, "warnings", warnings);
    return counts;
}

static JsonObject *make_report (Night *night, int status, const char *error)
{
    JsonObject *report = json_new ();
    JsonArray *rows = json_array_new ();
    g_autoptr (GDateTime) begin = g_date_time_new_from_unix_utc (night->started / G_USEC_PER_SEC);
    g_autofree char *second = g_date_time_format (begin, "%Y%m%dT%H%M%S");
    g_autofree char *id =
        g_strdup_printf ("%s.%03dZ", second, (int) (night->started / 1000 % 1000));
    for (guint i = 0; i < night->guests->len; i++) {
        NightGuest *guest = night->guests->pdata[i];
        if (guest->row)
            json_array_add_object_element (rows, json_object_ref (guest->row));
    }
    json_text (report, "job", night->job->name);
    json_text (report, "id", id);
    json_text (report, "host", g_get_host_name ());
    json_bool (report, "dry_run", night->options->dry_run);
    json_time (report, "started", night->started);
    json_time (report, "ended", g_get_real_time ());
    json_int (report, "duration_ms", (g_get_monotonic_time () - night->began) / 1000);
    json_text (report, "repository",
               night->repository ? bak_repository_get_url (night->repository)
                                 : night->job->repository);
    json_text (report, "error", error);
    json_object_set_object_member (report, "counts", count_results (night, report));
    json_object_set_array_member (report, "warnings", json_array_ref (night->warnings));
    json_object_set_array_member (report, "guests", rows);
    json_object_set_array_member (report, "verified", json_array_ref (night->verified));
    json_object_set_array_member (report, "drills", json_array_ref (night->drills));
    json_int (report, "status", status ? status : night_status (report));
    return report;
}

int night_status (JsonObject *report)
{
    JsonObject *counts = report_get_object (report, "counts");
    gint64 good = report_get_int (counts, "good") + report_get_int (counts, "planned"),
           failed = report_get_int (counts, "failed"), refused = report_get_int (counts, "refused"),
           unreached = report_get_int (counts, "unreached"),
           damaged = report_get_int (counts, "damaged") + report_get_int (counts, "undrilled");
    if (report_get_int (counts, "interrupted"))
        return STATUS_INTERRUPTED;
    if (!failed && !refused && !unreached)
        return damaged ? STATUS_SOME_FAILED : STATUS_DONE;
    return good      ? STATUS_SOME_FAILED
           : failed  ? STATUS_BAD_BACKUP
           : refused ? STATUS_INEXACT
                     : STATUS_NO_CONNECTION;
}

int night_worse (int one, int other)
{
    gboolean interrupted = one == STATUS_INTERRUPTED || other == STATUS_INTERRUPTED;
    return interrupted ? STATUS_INTERRUPTED : one == other ? one : STATUS_SOME_FAILED;
}

static void keep_report (Night *night, JsonObject *report)
{
    g_autofree char *why = NULL;
    if (!known_keep (night, &why) || !report_keep (report, &why))
        warn (_("the report could not be kept: %s"), why);
}

gboolean night_open (Night *night, int *ret_status, char **ret_error)
{
    BakError *error = NULL;
    night->repository = bak_repository_open (night->job->repository, 0, &error);
    if (night->repository)
        return TRUE;
    *ret_status =
        bak_error_get_code (error) == BAK_ERROR_INVALID_ARGUMENT ? STATUS_USAGE : STATUS_BAD_BACKUP;
    *ret_error = g_strdup (bak_error_get_message (error));
    bak_error_unref (error);
    return FALSE;
}

/* FALSE: the job's own first hook says that nothing shall be done. */
static gboolean begin_hook (Night *night, int *ret_status, char **ret_error)
{
    g_autofree char *why = NULL;
    HookResult result = night_hook (night, "job-start", NULL, &why);
    for (guint i = 0; result == HOOK_SKIP && i < night->guests->len; i++)
        night_guest_skip (night, night->guests->pdata[i], why);
    *ret_status = result == HOOK_FAILED ? STATUS_BAD_BACKUP : STATUS_DONE;
    if (result == HOOK_FAILED)
        *ret_error = g_steal_pointer (&why);
    return result == HOOK_GOOD;
}

static gpointer care (gpointer data)
{
    Night *night = data;
    night_care (night);
    night_drill (night);
    close (night->wake[1]);
    return NULL;
}

static void run_job (Night *night, int *ret_status, char **ret_error)
{
    gboolean all = !*night->options->domains && !night->options->older_than;
    if (!night_open (night, ret_status, ret_error) || !night_choose (night, ret_status, ret_error))
        return;
    if (all && !night->options->dry_run)
        known_compare (night);
    if (!begin_hook (night, ret_status, ret_error))
        return;
    run_guests (night);
    if (!night->options->dry_run)
        run_watched (night, care);
}

static void end_hook (Night *night, JsonObject *report)
{
    g_autofree char *why = NULL;
    gboolean good = report_get_int (report, "status") == STATUS_DONE;
    if (night_hook (night, good ? "job-end" : "job-failed", report, &why) != HOOK_GOOD)
        night_warn (night, "%s", why);
}

/* Each of these may fail without making the backups worse than they are. */
static void publish (Night *night, JsonObject *report)
{
    static gboolean (*const steps[]) (Night *, JsonObject *, char **) = { night_deliver,
                                                                          night_metrics };
    for (guint i = 0; i < G_N_ELEMENTS (steps); i++) {
        g_autofree char *why = NULL;
        if (!steps[i](night, report, &why))
            night_warn (night, "%s", why);
    }
}

static JsonObject *run_and_report (Night *night)
{
    int status = STATUS_DONE;
    g_autofree char *error = NULL;
    run_job (night, &status, &error);
    if (night->options->dry_run)
        return make_report (night, status, error);
    g_autoptr (JsonObject) first = make_report (night, status, error);
    end_hook (night, first);
    g_autoptr (JsonObject) second = make_report (night, status, error);
    publish (night, second);
    return make_report (night, status, error); /* with what publishing had to say */
}

void night_init (Night *night)
{
    g_mutex_init (&night->lock);
    g_cond_init (&night->changed);
    g_queue_init (&night->queue);
    night->cancellation = bak_cancellation_new ();
    night->dir = night_job_dir (night->job->name);
    known_load (night);
    night->started = g_get_real_time ();
    night->began = g_get_monotonic_time ();
    night->guests = g_ptr_array_new_with_free_func ((GDestroyNotify) night_guest_free);
    night->warnings = json_array_new ();
    night->verified = json_array_new ();
    night->drills = json_array_new ();
}

void night_clear (Night *night)
{
    json_object_unref (night->known);
    g_ptr_array_unref (night->guests);
    json_array_unref (night->warnings);
    json_array_unref (night->verified);
    json_array_unref (night->drills);
    bak_cancellation_unref (night->cancellation);
    bak_repository_unref (night->repository);
    g_free (night->dir);
    g_cond_clear (&night->changed);
    g_mutex_clear (&night->lock);
}

static void tell_run_start (Night *night)
{
    JsonObject *fields = json_new ();
    json_int (fields, "pid", getpid ());
    night_tell (night, "run-start", fields);
}

JsonObject *night_run (Shell *shell, const NightJob *job, const NightOptions *options,
                       int *ret_status)
{
    Night night = { .job = job, .options = options, .shell = shell };
    JsonObject *report = NULL;
    night_init (&night);
    int lock = options->dry_run ? -1 : lock_job (&night, ret_status);
    if (lock >= 0 || options->dry_run) {
        tell_run_start (&night);
        if (lock >= 0)
            mark_running (&night);
        interrupt_await (TRUE);
        interrupt_take_terminate (TRUE);
        report = run_and_report (&night);
        *ret_status = (int) report_get_int (report, "status");
        if (!options->dry_run)
            keep_report (&night, report);
        night_tell (&night, "summary", night_copy (report));
        interrupt_take_terminate (FALSE);
        interrupt_await (FALSE);
        if (lock >= 0)
            unmark_running (&night);
    }
    if (lock >= 0)
        close (lock);
    night_clear (&night);
    return report;
}
