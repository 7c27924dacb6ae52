/* One backup of one guest, from begin to its record. Lives on the guest's thread. */
#pragma once
#include "driver/qemu/guest.h"
#include "driver/qemu/plan.h"
#include "job/moves.h"

typedef struct {
    gboolean ended;   /* QEMU's job has concluded */
    gboolean in_step; /* a mirror has copied all, and follows */
    char *error;      /* of QEMU's job; NULL: none */
    /* the job that keeps the point in time has ended, which nobody had asked for */
    gboolean keeper_ended;
    char *keeper_error;
    guint64 moved;
    gint64 moved_at; /* progress that was seen last, and when (monotonic) */
} JobDisk;

struct _JobOwn {
    JobDisk *disks;       /* one a plan->disks */
    gboolean shut_down;   /* the guest has been, so QEMU will end */
    gboolean mute;        /* QEMU's main loop did not answer in time */
    gint culprit;         /* the disk whose copy failed first, which ended the others; -1 */
    guint lost_monitor;   /* attempts to get it back */
    gint64 leaving_since; /* monotonic: a migration was seen, and told to stop; 0: none */
    /* from an owner that died, and with it the knowledge of what stopped the guest: a write that
     * failed is tried again */
    gboolean inherited;
};

extern const JobOps qemu_job_ops;

/* All on the guest's thread, monitor acquired. */
gboolean job_begin (Guest *guest, const void *begin_args, void *begin_ret, GError **error);
char *job_plan_text (Guest *guest, const bak_begin_args *args, GError **error);
gboolean job_stop (Guest *guest, gboolean abort, bak_job *ret, GError **error);
/* Takes the events that came in and does what is due; called by the guest's loop. */
void job_tick (Guest *guest);
void job_note_errors (Guest *guest); /* what cannot wait for the tick */
void job_note_migration (Guest *guest);
void job_refresh (Guest *guest); /* progress onto the board */
/* What a former owner left: adopts a running job, finishes or undoes the rest. Sets guest->job when
 * one goes on. */
gboolean job_recover (Guest *guest, GError **error);
/* The same for a guest whose QEMU is gone: files only, the record says so. */
void job_recover_gone (Guest *guest, const char *why);
/* checkpoint.c */
char *checkpoint_promote (Guest *guest, const Job *job, GError **error);
