/* What the files of a job share: job.c (begin and end), job-look.c (what is looked at), job-watch.c
 * (while it runs), job-recover.c (after an owner that died). */
#pragma once
#include "driver/qemu/job.h"

enum {
    LEFTOVER_MS = 1000,
    LIMIT_TIMEOUT_MS = 10000,
    GENTLE_MS = 5000,
    BRIEF_MS = 300,
    OWN_PROBE_MS = 1000,
    PROBE_TIMEOUT_MS = 10000,
    HUNG_TARGET_S = 60,
    RESULT_MS = 1500,
    MUTE_MS = 5000,
    LOST_MONITOR_TRIES = 5,
    NEAR_MS = 3000,
    NEAR_AGAIN_MS = 50,
    NEAR_BYTES = 4 * 1024 * 1024
};
enum { KNOWN_FLAGS = BEGIN_REUSE_EXTERNAL | BEGIN_QUIESCE | BEGIN_ALLOW_UNPROVED };

/* job-look.c */
gboolean job_qemu_is_gone (Guest *guest);
/* Of whose filter or scratch an event tells; -1: of none. */
gint job_disk_of_event (Job *job, const GuestEvent *event);
/* A guest that our filter has stopped goes on; one that stopped for another reason is none of our
 * business. */
void job_resume_guest (Job *job);
/* What QEMU says of a broken point in time is "Permission denied" or "Invalid argument"; the
 * scratch tells why. */
char *job_scratch_failure (Job *job, const PlanDisk *disk, BakErrorCode *ret_code);
/* job-recover.c */
void job_inherit (Job *job, const JournalState *state);
void job_adopted (Job *job);
gboolean job_clean_rest (Job *job, gboolean undone, GError **error);

/* job-migration.c */
/* What keeps a migration from starting is in place. */
gboolean job_has_barrier (const Job *job);
/* One that could be stopped was none; one that was faster has taken the disks away. FALSE: the job
 * has ended. */
gboolean job_mind_migration (Job *job, gint64 now);

/* job-watch.c */
/* One failed disk ends the job: the others are cancelled, and the result says which was which. */
void job_fail (Job *job, guint index, BakErrorCode code, const char *text);
/* FALSE: the job has ended. */
gboolean job_check_disks (Job *job);
