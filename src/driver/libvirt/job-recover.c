/* What an owner that died left: adopted, finished or undone. */
#include <glib/gi18n-lib.h>
#include "driver/libvirt/local.h"
#include "util/json.h"

void lv_job_inherit (Job *job, const JournalState *state)
{
    job->own->was_running = json_get_bool (state->meta, "was-running", FALSE);
    job->own->protect = json_get_bool (state->meta, "protect", TRUE);
    job->own->adopted = TRUE;
}

void lv_job_adopted (Job *job)
{
    lv_guest_start_thread (job->guest);
}

static void take (Job *job)
{
    job->guest->job = job;
}

gboolean lv_job_recover (LvGuest *guest, GError **error)
{
    if (!journal_exists (guest->online))
        return TRUE;
    g_autoptr (JournalState) state = journal_read (guest->online, error);
    if (!state)
        return FALSE;
    if (state->plan)
        return life_recover (&guest->jobs, state, NULL, take, error);
    life_recover_damaged (&guest->jobs,
                          _("the journal of the job was damaged: look for a job of libvirt "
                             "(domjobinfo), files and a checkpoint that it made"),
                          NULL);
    return TRUE;
}
