/* Performs actions. It knows nothing of backups: a plan's steps forwards, their undos backwards. */
#pragma once
#include "driver/qemu/guest.h"
#include "driver/qemu/journal.h"

typedef struct _Run Run;

typedef struct { Guest *guest; const char *id; } Named;      /* a job or an export of QEMU, to be waited for */

/* What another driver adds to the verbs of run.c. */
typedef struct {
    const char *verb;
    gboolean (*perform) (Run *run, const Action *action, GError **error);
} RunVerb;

struct _Run {
    Guest *guest;               /* NULL: another driver's; then no step is a QMP command or bears a guard */
    const RunVerb *verbs;       /* looked at first, ended by one without a name; NULL: none */
    gpointer data;              /* for those verbs */
    Journal *journal;           /* NULL: nothing is noted (a plan without a journal) */
    const Plan *plan;
    GArray *states;             /* StepState, one a step; owned by the caller */
    GHashTable *files;          /* path -> JournalFile*; owned by the caller */
    gboolean frozen;
    int froze, thawed;          /* file systems; -1 not tried */
    gint64 frozen_since;
    guint64 frozen_for;         /* microseconds */
    char *thaw_problem;         /* NULL: none */
    gboolean hung;              /* QEMU did not answer during an undo: no more is asked of it, the next owner comes back */
    gboolean undo_failed;       /* of the steps that run_steps() took back */
    gint *cancel;               /* atomic flag that ends a forward run; NULL */
};

/* All steps; on a failure at step k the undos of k-1..1 (and of k when its outcome is unknown), then FALSE with the failure. */
gboolean run_steps (Run *run, GError **error);
/* The undos of everything that was done or may have been done, backwards. success: those marked keep are left out.
 * Goes on after errors; FALSE with the first one when something could not be undone. */
gboolean run_undo (Run *run, gboolean success, GError **error);
/* Cuts the connections to targets over the network that may hang, without asking QEMU anything in band. A failure's first act. */
void run_cut (Run *run);
gboolean run_can_cut (const Run *run);
typedef enum { HALT_STILL, HALT_ENDS, HALT_LATE } JobHalt;
JobHalt run_job_halts (Guest *guest, const char *id, gint64 deadline);      /* after a job-pause */
/* plan->finish, in order; stops at the first error. */
gboolean run_finish (Run *run, GError **error);
/* What a person should be told of the plan and of the freeze, in one line; "": nothing. Caller frees. */
char *run_notes (const Run *run);
gboolean run_action (Run *run, const Action *action, GError **error);

/* Removes from QEMU everything whose name begins with prefix ("bak-" or "bak-ID-"): exports, jobs, nodes, objects, bitmaps.
 * Idempotent. FALSE and what is left when something stays. */
gboolean run_sweep (Guest *guest, const char *prefix, GError **error);

/* Does a QEMU (or qemu-img) have this image open? TRUE also when that cannot be told. */
gboolean run_file_in_use (const char *path);
