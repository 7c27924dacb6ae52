#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "driver/job_stats.h"
#include "job/moves.h"

/* ---- the table of moves ---- */

/* What is not there is not allowed. */
static const gint8 moves[][JOB_EVENTS] = {
    [JOB_STATE_PREPARING] = { [JOB_EVENT_BEGUN_PUSH] = JOB_STATE_RUNNING,
                              [JOB_EVENT_BEGUN_PULL] = JOB_STATE_READY,
                              [JOB_EVENT_END] = JOB_STATE_STOPPING,
                              [JOB_EVENT_BAD] = JOB_STATE_FAILED,
                              [JOB_EVENT_ABORTED] = JOB_STATE_ABORTED },
    [JOB_STATE_RUNNING] = { [JOB_EVENT_IN_STEP] = JOB_STATE_READY,
                            [JOB_EVENT_END] = JOB_STATE_STOPPING },
    [JOB_STATE_READY] = { [JOB_EVENT_END] = JOB_STATE_STOPPING },
    [JOB_STATE_STOPPING] = { [JOB_EVENT_END] = JOB_STATE_STOPPING,
                             [JOB_EVENT_GOOD] = JOB_STATE_COMPLETED,
                             [JOB_EVENT_BAD] = JOB_STATE_FAILED,
                             [JOB_EVENT_ABORTED] = JOB_STATE_ABORTED },
};

int job_next_state (int state, JobEvent event)
{
    if (state < 0 || state >= (int) G_N_ELEMENTS (moves) || event >= JOB_EVENTS)
        return -1;
    return moves[state][event] == JOB_STATE_NONE ? -1 : moves[state][event];
}

gboolean job_record_move (bak_job *record, JobEvent event)
{
    int next = job_next_state (record->state, event);
    if (next < 0) {
        g_critical ("job %s: no move from %s by event %d", record->id,
                    job_state_to_string (record->state), event);
        return FALSE;
    }
    record->state = next;
    return TRUE;
}

/* ---- the record ---- */

static void copy_notes (GPtrArray *from, bak_job *record)
{
    guint count = MIN (from->len, BAK_NAMES_MAX);
    record->notes.notes_len = count;
    record->notes.notes_val = ret_array (count, sizeof *record->notes.notes_val);
    for (guint i = 0; i < count; i++)
        record->notes.notes_val[i] = ret_string (from->pdata[i]);
}

void job_record_init (bak_job *ret, const Plan *plan, const char *domain)
{
    *ret = (bak_job){ .id = ret_string (plan->job),
                      .domain = ret_string (domain),
                      .mode = plan->mode == BACKUP_MODE_PULL ? JOB_MODE_PULL : JOB_MODE_PUSH,
                      .state = JOB_STATE_PREPARING,
                      .started = g_get_real_time (),
                      .error = ret_string (""),
                      .partial = plan->partial,
                      .checkpoint = ret_string (plan->checkpoint),
                      .server = ret_string (plan->server),
                      .consistency = ret_string ("crash-consistent"),
                      .owner = ret_string ("") };
    copy_notes (plan->notes, ret);
    ret->disks.disks_len = plan->disks->len;
    ret->disks.disks_val = ret_array (plan->disks->len, sizeof *ret->disks.disks_val);
    for (guint i = 0; i < plan->disks->len; i++) {
        const PlanDisk *from = plan->disks->pdata[i];
        ret->disks.disks_val[i] = (bak_job_disk){ .target = ret_string (from->target),
                                                  .state = JOB_STATE_PREPARING,
                                                  .type = ret_string (from->type),
                                                  .reason = ret_string (from->reason),
                                                  .total = from->size,
                                                  .error = ret_string (""),
                                                  .path = ret_string (from->path),
                                                  .scratch = ret_string (from->scratch),
                                                  .format = ret_string (from->format),
                                                  .export_name = ret_string (from->export_name),
                                                  .bitmap = ret_string (from->bitmap),
                                                  .limit = from->limit,
                                                  .protection = ret_string (from->protection),
                                                  .since = ret_string (from->since) };
    }
}

void job_record_set_text (char **field, const char *text)
{
    free (*field);
    g_autofree char *clean = text_sanitize (text, BAK_MESSAGE_MAX - 8);
    *field = ret_string (clean);
}

void job_record_set_error (bak_job *record, const GError *error)
{
    job_record_set_text (&record->error, error->message);
    record->error_code = error_code (error);
}

void job_record_note (bak_job *record, const char *text)
{
    guint count = record->notes.notes_len;
    bak_message *notes = count < BAK_NAMES_MAX
                             ? realloc (record->notes.notes_val, (count + 1) * sizeof *notes)
                             : NULL;
    if (!notes)
        return;
    notes[count] = ret_string (text);
    record->notes.notes_val = notes;
    record->notes.notes_len = count + 1;
}

void job_record_freeze (bak_job *record, const Run *run)
{
    if (run->froze < 0)
        return;
    record->frozen = run->frozen_for;
    if (run->thawed >= 0 && run->thawed < run->froze) {
        g_autofree char *text =
            g_strdup_printf (_("thawed %d of %d frozen file systems: something in the guest had "
                                "thawed the rest before; crash-consistent only"),
                             run->thawed, run->froze);
        job_record_note (record, text);
    } else if (run->froze > 0 && run->thawed == run->froze) {
        job_record_set_text (&record->consistency, "quiesced");
    }
}

void job_record_end (bak_job *record, JobEvent event, const GError *failure)
{
    if (failure && !*record->error)
        job_record_set_error (record, failure);
    job_record_move (record, event);
    if (event == JOB_EVENT_ABORTED)
        record->aborted = TRUE;
    record->ended = g_get_real_time ();
    job_record_set_text (&record->owner, "");
}

void job_record_sum_temp (bak_job *record)
{
    if (record->mode != JOB_MODE_PULL)
        return;
    record->temp_used = job_bytes (record);
    record->temp_total = job_total (record);
}

void job_record_begin_ret (const bak_job *record, bak_begin_ret *ret)
{
    guint count = record->notes.notes_len;
    ret->job = ret_string (record->id);
    ret->notes.notes_len = count;
    ret->notes.notes_val = ret_array (count, sizeof *ret->notes.notes_val);
    for (guint i = 0; i < count; i++)
        ret->notes.notes_val[i] = ret_string (record->notes.notes_val[i]);
}

/* ---- events ---- */

bak_event job_event_state (const bak_job *record)
{
    return (bak_event){ .kind = EVENT_JOB_STATE,
                        .state = record->state,
                        .job = ret_string (record->id),
                        .text = ret_string (record->error) };
}

bak_event job_event_disk (const bak_job *record, const bak_job_disk *disk)
{
    return (bak_event){ .kind = EVENT_JOB_DISK,
                        .state = disk->state,
                        .job = ret_string (record->id),
                        .disk = ret_string (disk->target),
                        .text = ret_string (*disk->error ? disk->error : disk->reason),
                        .bytes = disk->bytes,
                        .total = disk->total };
}

bak_event job_event_warning (const bak_job *record, const char *text)
{
    return (bak_event){ .kind = EVENT_WARNING,
                        .job = ret_string (record->id),
                        .text = ret_string (text) };
}

bak_event job_event_completed (const bak_job *record)
{
    return (bak_event){ .kind = EVENT_JOB_COMPLETED,
                        .state = record->state,
                        .job = ret_string (record->id),
                        .text = ret_string (record->error),
                        .detail = record->mode };
}

bak_event job_event_progress (const bak_job *record, JobPace *pace)
{
    guint64 bytes = job_bytes (record);
    gint64 now = g_get_monotonic_time ();
    guint64 rate = pace->time && now > pace->time && bytes >= pace->bytes
                       ? (bytes - pace->bytes) * G_USEC_PER_SEC / (now - pace->time)
                       : 0;
    *pace = (JobPace){ bytes, now };
    return (bak_event){ .kind = EVENT_PROGRESS,
                        .state = record->state,
                        .job = ret_string (record->id),
                        .bytes = bytes,
                        .total = job_total (record),
                        .rate = rate };
}

/* ---- places ---- */

guint job_free_port (void)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl (INADDR_LOOPBACK) };
    socklen_t length = sizeof address;
    int fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    guint port = fd >= 0 && bind (fd, (struct sockaddr *) &address, sizeof address) == 0
                         && getsockname (fd, (struct sockaddr *) &address, &length) == 0
                     ? ntohs (address.sin_port)
                     : 0;
    if (fd >= 0)
        close (fd);
    return port;
}
