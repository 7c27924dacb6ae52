/* One backup of one guest, from begin to its record. Lives on the guest's thread. */
#pragma once
#include "driver/qemu/guest.h"
#include "driver/qemu/job-record.h"

typedef struct {
    gboolean ended;             /* QEMU's job has concluded */
    char *error;                /* of QEMU's job; NULL: none */
    gboolean keeper_ended;      /* the job that keeps the point in time has ended, which nobody had asked for */
    char *keeper_error;
    guint64 moved; gint64 moved_at;     /* progress that was seen last, and when (monotonic) */
} JobDisk;

struct _Job {
    Guest *guest;
    bak_job record;             /* what is true now; copied to the guest's snapshot and to disk at each move */
    Plan *plan;
    Run run;
    JobDisk *disks;             /* one a plan->disks */
    gint64 began;               /* monotonic */
    gint64 deadline;            /* monotonic; 0: none */
    gint64 next_tick, next_probe;
    gboolean finished;          /* finish has run and is in the journal: only promotion and clean-up are left */
    gboolean shut_down;         /* the guest has been, so QEMU will end */
    gboolean mute;              /* QEMU's main loop did not answer in time */
    gint culprit;               /* the disk whose copy failed first, which ended the others; -1 */
    guint lost_monitor;         /* attempts to get it back */
    JobPace pace;
    gint64 last_read;           /* monotonic: when a reader of the export was last seen */
    guint64 scratch_limit;      /* bytes; 0: none */
    gboolean inherited;         /* from an owner that died, and with it the knowledge of what stopped the guest: a write that failed is tried again */
};

/* All on the guest's thread, monitor acquired. */
gboolean job_begin (Guest *guest, const bak_begin_args *args, bak_begin_ret *ret, GError **error);
char *job_plan_text (Guest *guest, const bak_begin_args *args, GError **error);
gboolean job_stop (Guest *guest, gboolean abort, bak_job *ret, GError **error);
gboolean job_limit (Guest *guest, const char *disk, guint64 bytes_per_sec, GError **error);
/* Takes the events that came in and does what is due; called by the guest's loop. */
void job_tick (Guest *guest);
void job_note_errors (Guest *guest);    /* what cannot wait for the tick */
void job_refresh (Guest *guest);        /* progress into the snapshot */
/* What a former owner left: adopts a running job, finishes or undoes the rest. Sets guest->job when one goes on. */
gboolean job_recover (Guest *guest, GError **error);
/* The same for a guest whose QEMU is gone: files only, the record says so. */
void job_recover_gone (Guest *guest, const char *why);
void job_free (Job *job);               /* lets go without ending it: QEMU's jobs go on */
/* checkpoint.c */
char *checkpoint_promote (Guest *guest, const Job *job, GError **error);
