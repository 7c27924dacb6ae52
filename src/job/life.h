/* The life of a backup job: begin, end, recover. What is the same for every driver is here; a
 * driver hands in what it does otherwise (RunOps, JobOps). All on the thread that owns the guest.
 *
 *   begin    journal and record, the steps; then it runs, or all is undone
 *   end      is what was made good? finish, promote; undo the rest; the record says how it ended
 *   recover  what an owner that died left: adopted, ended or undone */
#pragma once
#include "job/board.h"
#include "job/moves.h"

typedef struct _Job Job;
typedef struct _JobOwn JobOwn; /* what a driver knows of a job; its own */

typedef struct {
    const RunOps *run;
    void (*init) (Job *job); /* makes job->own */
    void (*clear) (Job *job);
    void (*let_go) (Job *job);         /* the guest has this job no more */
    void (*over) (DriverGuest *guest); /* it has none, and nothing of one is left; may be NULL */
    void (*emit) (DriverGuest *guest, bak_event *event); /* fills domain and time; clears event */
    void (*refresh) (Job *job);                          /* progress, what QEMU says of it */

    /* journal and record are there, and nothing has been done; may be NULL */
    void (*starting) (Job *job);
    /* the steps are done: what is to be noted of them; may be NULL */
    void (*begun) (Job *job);
    /* They failed and are undone; may add to the failure. TRUE: it is tried otherwise, so nobody is
     * told. May be NULL. */
    gboolean (*refused) (Job *job, GError **failure);

    /* Before anything is taken back: copies are asked to end. May be NULL. */
    void (*ending) (Job *job, JobEvent outcome);
    /* The last word before success is said. */
    gboolean (*verify) (Job *job, GError **error);
    gboolean (*finish) (Job *job, GError **error); /* NULL: run_finish() */
    /* The provisional checkpoint becomes a real one; idempotent. */
    gboolean (*promote) (Job *job, GError **error);
    void (*good) (Job *job); /* what is counted then; may be NULL */
    /* failure: not all of it; NULL. */
    void (*undone) (Job *job, JobEvent outcome, const GError *failure);
    /* Nothing of the job is left anywhere: else its journal stays for the next owner. */
    gboolean (*clean) (Job *job, JobEvent outcome, const GError *failure);

    /* From a journal: what the driver has noted there. */
    void (*inherit) (Job *job, const JournalState *state);
    void (*adopted) (Job *job); /* it runs on; may end it */
    /* The same as clean, of a job that had ended; undone: run_undo() took all back. */
    gboolean (*clean_rest) (Job *job, gboolean undone, GError **error);

    gboolean (*is_copying) (const Job *job, guint disk);
    gboolean (*has_copied) (const Job *job, guint disk);
    gboolean (*set_speed) (Job *job, guint disk, guint64 bytes_per_sec, GError **error);
} JobOps;

/* Where a guest's jobs live; of the driver's guest. */
typedef struct {
    const JobOps *ops;
    Board *board;
    const char *journal; /* folder of the journal; records are in the board's */
    gint *cancel;        /* atomic: an abort was asked for */
} JobPlace;

struct _Job {
    const JobPlace *place;
    DriverGuest *guest;
    JobOwn *own;
    bak_job record; /* what is true now; copied to the board and to disk at each move */
    Plan *plan;
    Run run;
    gint64 began, deadline; /* monotonic; deadline 0: none */
    gint64 next_tick, next_probe;
    /* it was told to end, by this owner or one before: what ends before that was ended by others */
    gboolean ending;
    gint64 last_read;      /* when a reader of the export was last seen */
    guint64 scratch_limit; /* bytes; 0: none */
    gboolean unrecorded;   /* the state directory is gone: nothing is to be written there */
    /* finish has run and is in the journal: only promotion and clean-up are left */
    gboolean finished;
    JobPace pace;
};

enum { JOB_TICK_MS = 1000, JOB_PROBE_MS = 2000 };

/* plan: consumed. state: of the journal that it comes from; NULL: a new one. */
Job *job_new (const JobPlace *place, Plan *plan, const JournalState *state);
void job_free (Job *job); /* lets go without ending it: what QEMU does goes on */

/* ---- begin ---- */

/* meta: what the driver wants to find in the journal; consumed. FALSE: nothing was done, or all is
 * undone, and the job is freed. */
gboolean life_begin (Job *job, const bak_begin_args *args, JsonObject *meta, bak_begin_ret *ret,
                     GError **error);
/* BUSY: what runs already. */
gboolean life_refuse_second (const Job *job, GError **error);

/* ---- while it runs; FALSE: the job has ended ---- */

gboolean life_mind_deadline (Job *job, gint64 now);
/* What nobody could take over any more, nor find in a list, ends while somebody can undo it. */
gboolean life_mind_state (Job *job);
/* readers: connected to the export; -1: not known. One that has gone will not come back by itself,
 * one that is connected is trusted to read. */
gboolean life_mind_readers (Job *job, gint64 now, int readers);
/* disk "": all together. */
gboolean life_limit (Job *job, const char *disk, guint64 bytes_per_sec, GError **error);

/* instant='end': all disks follow the guest, so that it may be ended. */
void life_in_step (Job *job);

/* ---- end; all free the job ---- */

/* outcome: JOB_EVENT_GOOD, BAD or ABORTED; failure: the root cause (borrowed), NULL when good. */
void life_end (Job *job, JobEvent outcome, const GError *failure);
void life_abort (Job *job, const char *why);
/* A libvirt client's only end of a pull: on a ready one it is the verdict "done". */
gboolean life_job_abort (Job *job,
                         gboolean (*stop) (DriverGuest *guest, gboolean abort, bak_job *ret,
                                           GError **error),
                         GError **error);

/* ---- recover ---- */

/* state: read from the journal, with a plan. gone: what ran the guest then is gone, and how that is
 * said; NULL. take: makes it the guest's job. FALSE: something is left. */
gboolean life_recover (const JobPlace *place, JournalState *state, const char *gone,
                       void (*take) (Job *job), GError **error);
/* Without a readable plan: the record of what had not ended says why; each may be NULL. */
void life_recover_damaged (const JobPlace *place, const char *why,
                           void (*each) (const bak_job *job));

/* ---- what is told ---- */

void job_publish (Job *job);
gboolean job_save (Job *job); /* publishes too; FALSE: it was warned of */
void job_emit (Job *job, bak_event event);
void job_emit_state (Job *job);
void job_emit_progress (Job *job);
void job_warn (Job *job, const char *text);
/* One failed disk ends the job: the others are cancelled, and the record says which was which. */
void job_fail_disk (Job *job, guint disk, const char *text);
