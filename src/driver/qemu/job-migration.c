/* A job and migration: migration.h says how the two are kept apart. */
#include "driver/qemu/job-parts.h"
#include "driver/qemu/migration.h"

enum { LEAVING_MS = 5000 };

gboolean job_has_barrier (const Job *job)
{
    for (guint i = 0; i < job->plan->steps->len; i++)
        if (((const Step *) job->plan->steps->pdata[i])->action->otherwise)
            return g_array_index (job->run.states, StepState, i) == STEP_DONE;
    return !caps_has_command (job->guest->caps, "migrate");
}

/* Where QEMU could not be kept from it by a barrier it is stopped as soon as it is heard of. */
void job_note_migration (Guest *guest)
{
    if (guest->job && !guest->job->finished && !job_has_barrier (guest->job))
        qmp_send (guest->qmp, "migrate_cancel", NULL, 0, NULL, NULL);
}

static gboolean was_told (const Guest *guest)
{
    for (guint i = 0; i < guest->pending->len; i++) {
        const char *name = ((const GuestEvent *) guest->pending->pdata[i])->name;
        if (g_str_equal (name, "MIGRATION") || g_str_equal (name, "STOP"))
            return TRUE;
    }
    return FALSE;
}

gboolean job_mind_migration (Job *job, gint64 now)
{
    g_autoptr (GError) why = NULL;

    if (job_has_barrier (job) || (now < job->next_tick && !was_told (job->guest)))
        return TRUE;
    if (migration_check (job->guest, &why) || error_code (why) != BAK_ERROR_INEXACT) {
        job->own->leaving_since = 0;
        return TRUE;
    }
    job_note_migration (job->guest);
    job->own->leaving_since = job->own->leaving_since ? job->own->leaving_since : now;
    if (now - job->own->leaving_since < LEAVING_MS * 1000 && !migration_has_left (job->guest))
        return TRUE;
    life_end (job, JOB_EVENT_BAD, why);
    return FALSE;
}
