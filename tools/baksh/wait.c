/* Waiting for a job, with progress: a bar on a terminal, a line a second elsewhere; both on
 * standard error. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "progress.h"

enum { GRACE_SECONDS = 3, PATIENCE_SECONDS = 60, AGAIN_MS = 500 };

typedef struct {
    gboolean terminal, shown;
    gint64 when; /* of the last sample; 0: none */
    guint64 bytes;
    double rate;    /* smoothed, bytes a second */
    gint64 lost_at; /* the daemon does not answer since; 0: it does */
    gboolean seen;  /* the job was there */
} Progress;

static void progress_sample (Progress *progress, const BakJob *job)
{
    gint64 now = g_get_monotonic_time ();
    guint64 bytes = bak_job_get_bytes (job);
    if (progress->when && now > progress->when) {
        double rate =
            bytes > progress->bytes ? (bytes - progress->bytes) * 1e6 / (now - progress->when) : 0;
        progress->rate = 0.7 * progress->rate + 0.3 * rate;
    } else if (bak_job_get_elapsed (job)) {
        progress->rate = bytes * 1e6 / bak_job_get_elapsed (job); /* on average up to now */
    }
    progress->when = now;
    progress->bytes = bytes;
}

static void show (Progress *progress, const BakJob *job)
{
    gboolean pull = bak_job_get_mode (job) == BAK_JOB_MODE_PULL;
    const char *state = bak_job_state_to_string (bak_job_get_state (job));
    g_autofree char *used = format_short_size (bak_job_get_temp_used (job)),
                    *scratch = g_strdup_printf (_("%s, scratch %s"), state, used);
    guint64 total = pull ? 0 : bak_job_get_total (job); /* what readers want is not known */
    const ProgressView view = { bak_job_get_domain (job),
                                pull    ? scratch
                                : total ? NULL
                                        : state,
                                bak_job_get_bytes (job), total, progress->rate };
    progress->shown = TRUE;
    progress_show (&view, progress->terminal);
}

static void progress_end (const Progress *progress)
{
    progress_clear (progress->terminal && progress->shown);
}

static char *hint (Shell *shell, const char *command, BakDomain *domain, const char *more)
{
    g_autofree char *uri = shell->uri ? g_shell_quote (shell->uri) : NULL;
    const char *name = bak_domain_get_name (domain);
    gboolean plain =
        strspn (name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
        == strlen (name);
    g_autofree char *quoted = plain ? g_strdup (name) : g_shell_quote (name);
    return g_strdup_printf ("baksh %s%s%s%s %s %s", uri ? "-c " : "", uri ? uri : "",
                            uri ? " " : "", command, quoted, more);
}

/* The wait was interrupted: says what can be done, and lets a second Ctrl-C abort the job. */
static int interrupted (Shell *shell, BakDomain *domain, const char *id)
{
    g_autofree char *resume = hint (shell, "backup-wait", domain, id),
                    *abort = hint (shell, "backup-stop", domain, "--abort");
    warn (_("the wait has ended, backup %s of '%s' goes on"), id, bak_domain_get_name (domain));
    fprintf (stderr,
             _("  to wait again:  %s\n  to abort it:    %s\n                  or press Ctrl-C "
                "again within %d seconds\n"),
             resume, abort, GRACE_SECONDS);
    gint64 deadline = g_get_monotonic_time () + GRACE_SECONDS * G_USEC_PER_SEC;
    while (interrupt_count () < 2)
        if (interrupt_poll (-1, MAX (0, deadline - g_get_monotonic_time ())) == POLL_TIMEOUT)
            return STATUS_INTERRUPTED;
    BakError *error = NULL;
    g_autoptr (BakJob) job =
        bak_domain_backup_stop (domain, id, BAK_DOMAIN_BACKUP_STOP_ABORT, &error);
    if (!job)
        fail (error);
    else
        warn (_("backup %s of '%s' was aborted"), id, bak_domain_get_name (domain));
    return STATUS_INTERRUPTED;
}

/* It was there a moment ago. */
static int guest_is_gone (BakDomain *domain, const char *id, BakError *error)
{
    const char *name = bak_domain_get_name (domain);
    int status = fail_with (
        STATUS_BAD_BACKUP,
        _("backup %s of '%s' has no good end: the guest was detached meanwhile, or what is known "
           "of it was deleted, which ends a backup and removes what it had made; attach the guest "
           "again and back it up anew: %s"),
        id, name, bak_error_get_message (error));
    bak_error_unref (error);
    return status;
}

/* A daemon that is restarted takes its jobs up again, and the next call connects anew. -1: look
 * again; error is taken. */
static int bear_loss (Shell *shell, Progress *progress, BakDomain *domain, const char *id,
                      gint64 deadline, BakError *error)
{
    gint64 now = g_get_monotonic_time ();
    const char *type = bak_connection_get_type (shell->conn, NULL);
    BakErrorCode code = bak_error_get_code (error);
    if ((code == BAK_ERROR_NO_DOMAIN || code == BAK_ERROR_NO_JOB) && progress->seen)
        return guest_is_gone (domain, id, error);
    if (code != BAK_ERROR_CONNECTION || g_strcmp0 (type, "remote") != 0)
        return fail (error);
    if (!progress->lost_at) {
        warn (_("%s; trying again for up to %d seconds"), bak_error_get_message (error),
              PATIENCE_SECONDS);
        progress->lost_at = now;
    }
    gboolean late = now - progress->lost_at > PATIENCE_SECONDS * G_USEC_PER_SEC
                    || (deadline && now >= deadline);
    if (!late && !interrupt_count ()) {
        bak_error_unref (error);
        interrupt_poll (-1, AGAIN_MS * 1000);
        return -1;
    }
    g_autofree char *resume = hint (shell, "backup-wait", domain, id);
    int status = fail (error);
    fprintf (stderr, _("  backup %s may go on without us; to wait again:  %s\n"), id, resume);
    return interrupt_count () ? STATUS_INTERRUPTED : status;
}

static void say_returned (Progress *progress)
{
    if (progress->lost_at)
        warn (_("the connection is there again"));
    progress->lost_at = 0;
}

/* Time to wait before the next look. */
static guint64 slice (const Progress *progress, gint64 deadline, gint64 next_line)
{
    gint64 now = g_get_monotonic_time ();
    gint64 until =
        progress->terminal ? now + G_USEC_PER_SEC / 4 : MIN (next_line, now + G_USEC_PER_SEC / 2);
    return MAX (1, (deadline ? MIN (until, deadline) : until) - now);
}

static void report_failure (const BakJob *job)
{
    const char *why = bak_job_get_error (job);
    fail_with (STATUS_BAD_BACKUP,
               bak_job_get_state (job) == BAK_JOB_ABORTED ? _("backup %s was aborted%s%s")
                                                          : _("backup %s failed%s%s"),
               bak_job_get_id (job), why ? ": " : "", why ? why : "");
    for (guint i = 0; i < bak_job_get_n_disks (job); i++) {
        const BakJobDisk *disk = bak_job_get_disk (job, i);
        const char *text = bak_job_disk_get_error (disk);
        if (text && !(why && strstr (why, text)))
            fail_with (STATUS_BAD_BACKUP, _("disk '%s': %s"), bak_job_disk_get_target (disk),
                       text);
    }
}

/* What is still behind the guest is ended at a later look. */
static int end_when_ready (BakDomain *domain, const BakJob *job)
{
    BakError *error = NULL;

    if (bak_job_get_mode (job) != BAK_JOB_MODE_PUSH || bak_job_get_state (job) != BAK_JOB_READY)
        return -1;
    g_autoptr (BakJob) ended = bak_domain_backup_stop (domain, bak_job_get_id (job), 0, &error);
    if (ended || bak_error_get_code (error) == BAK_ERROR_TIMEOUT) {
        if (error)
            bak_error_unref (error);
        return -1;
    }
    return fail (error);
}

int job_wait (Shell *shell, BakDomain *domain, const char *id, guint flags, gint64 deadline,
              BakJob **ret_job)
{
    Progress progress = { .terminal = isatty (STDERR_FILENO) };
    gboolean quiet = shell->quiet || flags & WAIT_QUIET;
    gint64 next_line = g_get_monotonic_time () + G_USEC_PER_SEC;
    guint64 time = 0; /* the first look does not wait */
    int status = -1;

    interrupt_await (TRUE);
    while (status < 0) {
        BakError *error = NULL;
        g_autoptr (BakJob) job = bak_domain_backup_wait (domain, id, time, &error);
        gint64 now = g_get_monotonic_time ();
        if (!job && bak_error_get_code (error) == BAK_ERROR_TIMEOUT) {
            bak_error_unref (error);
            error = NULL;
            job = bak_domain_backup_info (domain, id, 0, &error);
        }
        if (!job) {
            progress_end (&progress);
            status = bear_loss (shell, &progress, domain, id, deadline, error);
            time = 0;
            continue;
        }
        say_returned (&progress);
        progress.seen = TRUE;
        if (bak_job_has_ended (job)) {
            progress_end (&progress);
            status = job_status (job);
            if (status != STATUS_DONE)
                report_failure (job);
            if (ret_job)
                *ret_job = bak_job_ref (job);
        } else if (interrupt_count ()) {
            progress_end (&progress);
            status = interrupted (shell, domain, id);
        } else if (deadline && now >= deadline) {
            progress_end (&progress);
            status =
                fail_with (STATUS_FAILED, _("backup %s has not ended in time; it goes on"), id);
        } else if (progress.terminal || now >= next_line) {
            progress_sample (&progress, job);
            if (!quiet)
                show (&progress, job);
            next_line = MAX (next_line + G_USEC_PER_SEC, now);
        }
        if (status < 0 && flags & WAIT_AND_END)
            status = end_when_ready (domain, job);
        time = slice (&progress, deadline, next_line);
    }
    interrupt_await (FALSE);
    return status;
}
