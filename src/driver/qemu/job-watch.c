/* A backup while it runs: what QEMU tells and is asked, and what is due. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/verbs.h"
#include "job/build.h"
#include "driver/qemu/checkpoint.h"
#include "driver/qemu/job-parts.h"
#include "job/probe.h"
#include "util/config.h"
#include "util/files.h"
#include "util/json.h"

static gboolean is_job (JsonObject *entry, const char *id)
{
    return entry && id && g_strcmp0 (json_get_string (entry, "id"), id) == 0;
}

/* A copy that has all is "ready" (a mirror) or "pending" (a backup) until finish() tells it to end.
 */
static gboolean has_copied (const Guest *guest, const char *status)
{
    return g_strcmp0 (status, "ready") == 0
           || (guest->caps->copies_wait && g_strcmp0 (status, "pending") == 0);
}

/* The result is in the journal before QEMU forgets it. */
static void note_result (Job *job, guint index, gboolean concluded, const char *error)
{
    const PlanDisk *disk = job->plan->disks->pdata[index];
    JobDisk *state = &job->own->disks[index];
    state->ended = TRUE;
    g_free (state->error);
    state->error = error && *error ? g_strdup (error) : NULL;
    if (journal_result (job->run.journal, disk->job, error, NULL) && concluded)
        qmp_run (job->guest->qmp, "job-dismiss", obj ("id", "s", disk->job, NULL), 0, NULL);
}

/* It ends when it is told to, and by nobody else: at another moment it would be of another instant.
 */
static void note_mirror (Job *job, guint index, const char *status, const char *error)
{
    JobDisk *state = &job->own->disks[index];
    gboolean concluded = g_strcmp0 (status, "concluded") == 0,
             ends = concluded || g_strcmp0 (status, "pending") == 0;

    if (g_strcmp0 (status, "ready") == 0)
        state->in_step = TRUE;
    if (state->ended || !ends)
        return;
    if (error && *error)
        note_result (job, index, concluded, error);
    else if (!job->ending)
        note_result (job, index, FALSE, _("QEMU's job was ended by somebody else"));
    else if (concluded)
        note_result (job, index, TRUE, NULL);
}

static void note_entry (Job *job, guint index, JsonObject *entry)
{
    const PlanDisk *disk = job->plan->disks->pdata[index];
    bak_job_disk *out = &job->record.disks.disks_val[index];
    JobDisk *state = &job->own->disks[index];
    gint64 current = MAX (0, json_get_int (entry, "current-progress", 0)),
           total = MAX (0, json_get_int (entry, "total-progress", 0));
    const char *status = json_get_string (entry, "status");
    gboolean concluded = g_strcmp0 (status, "concluded") == 0,
             copied = has_copied (job->guest, status);

    if (is_job (entry, disk->job) && job->plan->at_end) {
        out->bytes = current;
        out->total = total;
        note_mirror (job, index, status, json_get_string (entry, "error"));
    } else if (is_job (entry, disk->job)) {
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

typedef struct {
    Guest *guest;
    const char *id;
} Awaited;

static gboolean result_told (gpointer data)
{
    const Awaited *awaited = data;
    return g_hash_table_contains (awaited->guest->job_errors, awaited->id);
}

/* A job that dismisses itself tells its result by an event only; QEMU 5.2 may list it no more
 * before the event has come. */
static const char *told_result (Guest *guest, const char *id)
{
    Awaited awaited = { guest, id };
    if (!result_told (&awaited))
        qmp_wait (guest->qmp, result_told, &awaited, g_get_monotonic_time () + RESULT_MS * 1000, id,
                  NULL);
    return g_hash_table_lookup (guest->job_errors, id);
}

/* Marks ended what QEMU no longer lists: with auto-dismiss off that is somebody else's doing. */
static void mark_vanished (Job *job, JsonArray *jobs)
{
    for (guint k = 0; k < job->plan->disks->len; k++) {
        const PlanDisk *disk = job->plan->disks->pdata[k];
        bak_job_disk *out = &job->record.disks.disks_val[k];
        JobDisk *state = &job->own->disks[k];
        gboolean copies = FALSE, keeps = FALSE;
        for (guint i = 0; i < json_array_get_length (jobs); i++) {
            copies = copies || is_job (json_get_element (jobs, i), disk->job);
            keeps = keeps || is_job (json_get_element (jobs, i), disk->keeper);
        }
        if (!copies && disk->job && !state->ended) {
            const char *told = told_result (job->guest, disk->job);
            state->ended = TRUE;
            state->error =
                g_strdup (told ? told : _("QEMU's job has vanished, and its result with it"));
            if (!*state->error && job->plan->at_end && !job->ending) {
                g_free (state->error);
                state->error = g_strdup (_("QEMU's job was ended by somebody else"));
            }
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
    g_autoptr (JsonNode) answer = qmp_execute (
        guest->qmp, guest->caps->jobs ? "query-jobs" : "query-block-jobs", NULL, MUTE_MS, &failure);
    if (guest->job)
        guest->job->own->mute = !answer && error_code (failure) == BAK_ERROR_TIMEOUT;
    if (!answer || !JSON_NODE_HOLDS_ARRAY (answer))
        return NULL;
    if (guest->caps->jobs)
        return g_steal_pointer (&answer);
    JsonArray *old = json_node_get_array (answer), *jobs = json_array_new ();
    for (guint i = 0; i < json_array_get_length (old); i++) {
        JsonObject *entry = json_get_element (old, i);
        json_array_add_object_element (
            jobs, obj ("id", "s", json_get_string (entry, "device"), "status", "s", "running",
                       "current-progress", "i", json_get_int (entry, "offset", 0), "total-progress",
                       "i", json_get_int (entry, "len", 0), NULL));
    }
    JsonNode *result = json_node_init_array (json_node_alloc (), jobs);
    json_array_unref (jobs);
    return result;
}

void job_refresh (Guest *guest)
{
    Job *job = guest->job;
    if (!job || !guest->qmp || !qmp_is_alive (guest->qmp, NULL)
        || job->record.state == JOB_STATE_PREPARING)
        return;
    g_autoptr (JsonNode) jobs = query_jobs (guest);
    if (!jobs)
        return;
    note_progress (job, json_node_get_array (jobs));
    mark_vanished (job, json_node_get_array (jobs));
    job_record_sum_temp (&job->record);
    job_publish (job);
}

/* Legacy overlays serve new data as soon as the job that copies before write is gone: the export
 * goes first, at once. */
static void kill_exports (Job *job)
{
    for (guint i = 0; i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        if (disk->export_id)
            qmp_run (job->guest->qmp, "block-export-del",
                     obj ("id", "s", disk->export_id, "mode", "s", "hard", NULL), 0, NULL);
    }
}

void job_fail (Job *job, guint index, BakErrorCode code, const char *text)
{
    g_autoptr (GError) failure = NULL;
    error_set (&failure, code, "%s", text);
    job_fail_disk (job, index, text);
    life_end (job, JOB_EVENT_BAD, failure);
}

/* A QEMU that ends cancels its jobs first, and says so before. */
static gboolean is_shut_down (const Job *job)
{
    const GPtrArray *pending = job->guest->pending;
    gboolean shut_down = job->own->shut_down;
    for (guint i = 0; i < pending->len; i++)
        shut_down = shut_down || g_str_equal (((GuestEvent *) pending->pdata[i])->name, "SHUTDOWN");
    return shut_down;
}

static const char *last_words (const Job *job)
{
    return is_shut_down (job)
               ? _("the guest was shut down during the backup")
               : _("QEMU is gone (the guest was stopped or crashed during the backup)");
}

static void fail_copy (Job *job, guint index)
{
    const PlanDisk *disk = job->plan->disks->pdata[index];
    const char *error = job->own->disks[index].error;
    g_autofree char *text = text_sanitize (error, 1024);
    BakErrorCode code = error_code_from_text (error);
    gboolean broken =
        disk->keeper
        && (strstr (error, g_strerror (EACCES)) || strstr (error, g_strerror (EINVAL)));
    g_autofree char *scratch = broken ? job_scratch_failure (job, disk, &code) : NULL;
    /* what NBD has no word for, it calls so too: an NFS server that is full */
    gboolean either =
        broken && disk->path && *disk->path != '/' && strstr (error, g_strerror (EINVAL));
    g_autofree char *what =
        scratch  ? g_strdup (scratch)
        : either ? g_strdup_printf (
              _("disk '%s': target '%s': %s: its server failed a write (is it full?), or scratch "
                 "'%s' lost the point in time"),
              disk->target, disk->path, text, disk->scratch)
        : broken ? g_strdup_printf (
              _("disk '%s': scratch '%s' failed: the point in time is broken (%s)"), disk->target,
              disk->scratch, text)
        : code == BAK_ERROR_ABORTED && is_shut_down (job)
            ? g_strdup_printf ("disk '%s': %s", disk->target, last_words (job))
        : code == BAK_ERROR_ABORTED
            ? g_strdup_printf (
                _("disk '%s': target '%s': QEMU's job was cancelled by somebody else: %s"),
                disk->target, disk->path, text)
            : g_strdup_printf (_("disk '%s': target '%s': %s"), disk->target,
                               disk->path ? disk->path : "?", text);
    job_fail (job, index, code, what);
}

static void fail_keeper (Job *job, guint index)
{
    const PlanDisk *disk = job->plan->disks->pdata[index];
    const char *error = job->own->disks[index].keeper_error;
    g_autofree char *text = text_sanitize (error ? error : "?", 512);
    kill_exports (job);
    g_autofree char *what =
        is_shut_down (job)
            ? g_strdup_printf ("disk '%s': %s", disk->target, last_words (job))
            : g_strdup_printf (_("disk '%s': QEMU's job that keeps the point in time has ended "
                                  "(%s): what was read after that moment may be newer data"),
                               disk->target, text);
    job_fail (job, index, BAK_ERROR_INEXACT, what);
}

/* FALSE: the job has ended. */
static gboolean check_disk (Job *job, guint index)
{
    const PlanDisk *disk = job->plan->disks->pdata[index];
    const JobDisk *state = &job->own->disks[index];

    if (state->keeper_ended)
        fail_keeper (job, index);
    else if (disk->job && state->ended && state->error)
        fail_copy (job, index);
    else
        return TRUE;
    return FALSE;
}

/* All disks of a copy whose instant is that of its end follow the guest: it may be ended. */
static void note_in_step (Job *job)
{
    if (!job->plan->at_end || job->record.state != JOB_STATE_RUNNING)
        return;
    for (guint i = 0; i < job->plan->disks->len; i++)
        if (!job->own->disks[i].in_step)
            return;
    life_in_step (job);
}

gboolean job_check_disks (Job *job)
{
    gboolean all = TRUE;

    if (job->own->culprit >= 0)
        return check_disk (job, job->own->culprit);
    for (guint i = 0; i < job->plan->disks->len; i++) {
        if (!check_disk (job, i))
            return FALSE;
        all = all && ((PlanDisk *) job->plan->disks->pdata[i])->job && job->own->disks[i].ended;
    }
    note_in_step (job);
    if (!all)
        return TRUE;
    life_end (job, JOB_EVENT_GOOD, NULL);
    return FALSE;
}

/* The copy of this disk is about to end by an error, and from 8.2 on QEMU's main loop then waits
 * for what the other targets owe: they are cut now, so that one that hangs holds nobody. Not where
 * a write of the guest would fail with it. */
static void note_culprit (Job *job, JsonObject *event)
{
    const char *device = json_get_string (event, "device");

    for (guint i = 0; job->own->culprit < 0 && i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        if (!disk->keeper || g_strcmp0 (disk->job, device) != 0
            || g_strcmp0 (json_get_string (event, "action"), "report") != 0)
            continue;
        job->own->culprit = (gint) i;
        run_cut (&job->run);
    }
}

void job_note_errors (Guest *guest)
{
    for (guint i = 0;
         guest->job && guest->job->record.state == JOB_STATE_RUNNING && i < guest->pending->len;
         i++) {
        const GuestEvent *event = guest->pending->pdata[i];
        if (event->data && g_str_equal (event->name, "BLOCK_JOB_ERROR"))
            note_culprit (guest->job, event->data);
    }
}

/* What QEMU says by events: the fill level of a scratch, and guest writes that failed in our
 * filter. FALSE: the job has ended. */
static gboolean take_events (Job *job)
{
    Guest *guest = job->guest;
    job_note_errors (guest);
    for (guint i = 0; i < guest->pending->len; i++) {
        const GuestEvent *event = guest->pending->pdata[i];
        job->own->shut_down = job->own->shut_down || g_str_equal (event->name, "SHUTDOWN");
        gint index = job_disk_of_event (job, event);
        const PlanDisk *disk = index >= 0 ? job->plan->disks->pdata[index] : NULL;
        g_autofree char *text = NULL;
        if (!disk)
            continue;
        if (g_str_equal (event->name, "BLOCK_WRITE_THRESHOLD")) {
            text = g_strdup_printf (
                _("disk '%s': scratch '%s': no space left: it has reached its limit"),
                disk->target, disk->scratch);
            job_fail (job, index, BAK_ERROR_NO_SPACE, text);
            return FALSE;
        }
        if (g_str_equal (event->name, "BLOCK_IO_ERROR")) {
            gboolean full = json_get_bool (event->data, "nospace", FALSE);
            text = g_strdup_printf (
                full ? _("disk '%s': '%s': no space left on device, met by a write of the guest")
                     : _("disk '%s': '%s': I/O error, met by a write of the guest"),
                disk->target, disk->scratch ? disk->scratch : disk->path);
            job_fail (job, index, full ? BAK_ERROR_NO_SPACE : BAK_ERROR_IO, text);
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
        job->own->lost_monitor = 0;
        job_refresh (guest);
        return TRUE;
    }
    if (job_qemu_is_gone (guest) || ++job->own->lost_monitor >= LOST_MONITOR_TRIES) {
        g_autoptr (GError) why = NULL;
        error_set (&why, BAK_ERROR_CONNECTION, "%s",
                   job_qemu_is_gone (guest) ? last_words (job) : failure->message);
        life_end (job, JOB_EVENT_BAD, why);
        return FALSE;
    }
    return FALSE;
}

static gboolean probe_is_due (const Job *job, gint64 now)
{
    return job->plan->mode == BACKUP_MODE_PULL && now >= job->next_probe;
}

/* A QEMU that answers nothing at all (it was stopped) says nothing about the point in time either.
 * FALSE: the job has ended. */
static gboolean mind_probe (Job *job, gint64 now)
{
    if (!probe_is_due (job, now) || job->own->mute)
        return TRUE;
    job->next_probe = now + JOB_PROBE_MS * 1000;
    for (guint i = 0; i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        g_autoptr (GError) failure = NULL;
        BakErrorCode code = BAK_ERROR_IO;
        if (probe_export (job->plan, disk, PROBE_TIMEOUT_MS, &failure))
            continue;
        if (error_code (failure) == BAK_ERROR_TIMEOUT)
            job_refresh (job->guest);
        if (job->own->mute)
            return TRUE;
        g_autofree char *scratch = job_scratch_failure (job, disk, &code);
        const char *text = scratch ? scratch : failure->message;
        job_emit (job, (bak_event){ .kind = EVENT_WARNING,
                                    .job = ret_string (job->record.id),
                                    .disk = ret_string (disk->target),
                                    .text = ret_string (text) });
        job_fail (job, i, code, text);
        return FALSE;
    }
    return TRUE;
}

/* FALSE: the job has ended. */
static gboolean mind_readers (Job *job, gint64 now)
{
    if (job->plan->mode != BACKUP_MODE_PULL || !job->plan->idle_timeout)
        return TRUE;
    /* our own probe is no reader */
    gboolean just_probed = job->next_probe - now > (JOB_PROBE_MS - OWN_PROBE_MS) * 1000;
    return life_mind_readers (
        job, now,
        probe_count_clients (job->plan,
                             job->plan->server_passed ? 0 : qmp_get_peer_pid (job->guest->qmp),
                             just_probed));
}

/* A server that takes data and says nothing would be waited for forever. FALSE: the job has ended.
 */
static gboolean mind_hung_targets (Job *job, gint64 now)
{
    for (guint i = 0; job->plan->mode == BACKUP_MODE_PUSH && i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        JobDisk *state = &job->own->disks[i];
        guint64 bytes = job->record.disks.disks_val[i].bytes;
        gboolean network = disk->path && !g_path_is_absolute (disk->path);
        gboolean follows = state->in_step && bytes == job->record.disks.disks_val[i].total;
        if (!network || state->ended || follows || disk->limit || bytes != state->moved
            || !state->moved_at) {
            state->moved = bytes;
            state->moved_at = now;
        }
        if (now - state->moved_at < (gint64) HUNG_TARGET_S * G_USEC_PER_SEC
            || g_strcmp0 (disk->type, "none") == 0)
            continue;
        g_autofree char *text = g_strdup_printf (
            _("disk '%s': target '%s' does not answer: nothing was copied for %d seconds"),
            disk->target, disk->path, HUNG_TARGET_S);
        job_fail (job, i, BAK_ERROR_TIMEOUT, text);
        return FALSE;
    }
    return TRUE;
}

/* From 8.2 on the end of one disk's job, by a failure, waits for the requests of all: a target that
 * hangs holds QEMU's main loop, and the guest. FALSE: the job has ended. */
static gboolean mind_mute_qemu (Job *job)
{
    if (!job->own->mute || job->plan->mode != BACKUP_MODE_PUSH || !run_can_cut (&job->run))
        return TRUE;
    g_autoptr (GError) why = NULL;
    error_set (&why, BAK_ERROR_TIMEOUT,
               _("QEMU did not answer for %d seconds: a target over the network seems to hang; "
                  "the connections to the targets were cut"),
               MUTE_MS / 1000);
    life_end (job, JOB_EVENT_BAD, why);
    return FALSE;
}

static gboolean event_says_ended (Guest *guest, const char *id)
{
    const char *status = id ? g_hash_table_lookup (guest->job_status, id) : NULL;
    return (status
            && (g_str_equal (status, "concluded") || has_copied (guest, status)
                || g_str_equal (status, "null")))
           || (id && !guest->caps->jobs && g_hash_table_contains (guest->job_errors, id));
}

void job_tick (Guest *guest)
{
    Job *job = guest->job;
    gint64 now = g_get_monotonic_time ();
    gboolean concluded = FALSE;

    if (job->record.state != JOB_STATE_RUNNING && job->record.state != JOB_STATE_READY)
        return;
    if (!life_mind_state (job) || !mind_monitor (job))
        return;
    for (guint i = 0; i < job->plan->disks->len; i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        concluded = concluded || (!job->own->disks[i].ended && event_says_ended (guest, disk->job))
                    || event_says_ended (guest, disk->keeper);
    }
    if (!job_mind_migration (job, now) || !take_events (job) || !mind_mute_qemu (job))
        return;
    guint taken = guest->pending->len; /* what comes while QEMU is asked is for the next time */
    if (concluded || probe_is_due (job, now) || now >= job->next_tick) {
        job->next_tick = now + JOB_TICK_MS * 1000;
        job_refresh (guest);
        if (!mind_mute_qemu (job))
            return;
        job_emit_progress (job);
    }
    if (!job_check_disks (job))
        return;
    g_ptr_array_remove_range (guest->pending, 0, MIN (taken, guest->pending->len));
    if (life_mind_deadline (job, now) && mind_readers (job, now) && mind_hung_targets (job, now))
        mind_probe (job, now);
}
