#include "baksh.h"

/* --abort does what was asked unless there is a good backup left. */
static int judge (const BakJob *job, gboolean abort)
{
    gboolean completed = bak_job_get_state (job) == BAK_JOB_COMPLETED;
    const char *why = bak_job_get_error (job), *id = bak_job_get_id (job);
    if (abort)
        return completed ? fail_with (STATUS_FAILED,
                                      _("backup %s had completed before it could be aborted"), id)
                         : STATUS_DONE;
    if (completed)
        return STATUS_DONE;
    return fail_with (STATUS_BAD_BACKUP, _("backup %s is not good: it is %s%s%s"), id,
                      bak_job_state_to_string (bak_job_get_state (job)), why ? ": " : "",
                      why ? why : "");
}

static int backup_stop_run (Shell *shell, const Args *args)
{
    BakError *error = NULL;
    gboolean abort = args_has (args, "abort");
    g_autoptr (BakJob) job =
        bak_domain_backup_stop (args_domain (args), args_text (args, "job"),
                                abort ? BAK_DOMAIN_BACKUP_STOP_ABORT : 0, &error);
    if (!job)
        return fail (error);
    int status = judge (job, abort);
    if (args_json (args))
        print_json (json_take_object (job_to_json (job)));
    else if (status == STATUS_DONE)
        print (abort ? _("Backup aborted\n") : _("Backup completed\n"));
    return status;
}

static const Option options[] = {
    { "job", OPTION_TEXT, OPTION_POSITIONAL, "JOB", N_("id of the backup; default: the newest"),
      WANT_JOB },
    { "abort", OPTION_FLAG, 0, NULL, N_("throw it away, with the checkpoint made with it"),
      WANT_NOTHING },
    { 0 },
};

const Command cmd_backup_stop = {
    .name = "backup-stop",
    .group = "backup",
    .help = N_("End a backup and say whether it is good"),
    .description = N_("A pull that is ready is done, and good if nothing failed. A push that "
                       "still runs is cancelled; one that has ended is acknowledged."),
    .flags = COMMAND_NEEDS_DOMAIN,
    .options = options,
    .run = backup_stop_run
};
