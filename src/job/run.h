/* Performs actions. It knows nothing of backups: a plan's steps forwards, their undos backwards. */
#pragma once
#include "job/journal.h"

struct stat;
typedef struct _Run Run;

typedef struct {
    const char *verb;
    gboolean (*perform) (Run *run, const Action *action, GError **error);
    gboolean connected; /* only while what runs the guest is connected */
    /* FALSE and why perform would refuse before it does anything; changes nothing and sends
     * nothing. NULL: that cannot be seen beforehand. */
    gboolean (*look) (Run *run, const Action *action, GError **error);
} RunVerb;

/* What a driver hands in. All but verbs may be NULL: then no step is a QMP command or bears a
 * guard.
 */
typedef struct {
    const RunVerb *verbs; /* looked at before those of files; ended by one without a name */
    /* a QMP command */
    gboolean (*command) (Run *run, const Action *action, GError **error);
    /* FALSE and why not: what runs the guest is not connected at this moment */
    gboolean (*connected) (Run *run, GError **error);
    /* The same, and a connection that was lost is asked for again: what was made is to be undone in
     * any case. */
    gboolean (*reach) (Run *run, GError **error);
    /* What QEMU holds now, for guards; given back with picture_free. */
    gpointer (*picture) (Run *run, GError **error);
    void (*picture_free) (gpointer picture);
    gboolean (*guard) (gconstpointer picture, JsonObject *guard);
    /* FALSE without an error: the job ends by itself */
    gboolean (*may_cancel) (Run *run, const char *job, GError **error);
    /* adds to the failure of a command why it may have been denied */
    void (*explain) (Run *run, GError **error);
    /* lets QEMU, which may run as somebody else, write a file made for it */
    void (*give) (Run *run, int fd);
    /* under whatever name */
    gboolean (*has_open) (Run *run, const struct stat *st);
    /* FALSE and whose: that place is an image of a guest, by claims.h */
    gboolean (*may_write) (Run *run, const char *path, const struct stat *st, GError **error);
} RunOps;

struct _Run {
    const RunOps *ops;
    gpointer data;    /* the driver's: its guest */
    Journal *journal; /* NULL: nothing is noted (a plan without a journal) */
    const Plan *plan;
    GArray *states;    /* StepState, one a step; owned by the caller */
    guint finished;    /* actions of plan->finish that were done, now or before a crash */
    GHashTable *files; /* path -> JournalFile*; owned by the caller */
    GHashTable *seen;  /* seen.h; owned by the caller; NULL: a look */
    gboolean frozen;
    int froze, thawed; /* file systems; -1 not tried */
    gint64 frozen_since;
    guint64 frozen_for; /* microseconds */
    char *thaw_problem; /* NULL: none */
    /* QEMU did not answer during an undo: no more is asked of it, the next owner comes back */
    gboolean hung;
    gboolean undo_failed; /* of the steps that run_steps() took back */
    gint *cancel;         /* atomic flag that ends a forward run; NULL */
};

/* All steps; on a failure at step k the undos of k-1..1 (and of k when its outcome is unknown),
 * then FALSE with the failure. */
gboolean run_steps (Run *run, GError **error);
/* For a dry run: FALSE with what the first step would say that is refused before it does anything.
 * Nothing is made, nothing is sent. */
gboolean run_look (Run *run, GError **error);
/* The undos of everything that was done or may have been done, backwards. success: those marked
 * keep are left out. Goes on after errors; FALSE with the first one when something could not be
 * undone. */
gboolean run_undo (Run *run, gboolean success, GError **error);
/* Cuts the connections to targets over the network that may hang, without asking QEMU anything in
 * band. A failure's first act. */
void run_cut (Run *run);
gboolean run_can_cut (const Run *run);
/* plan->finish, in order, from where it stopped last; stops at the first error. */
gboolean run_finish (Run *run, GError **error);
/* What a person should be told of the plan and of the freeze, in one line; "": nothing. Caller
 * frees. */
char *run_notes (const Run *run);
/* The driver never answered: what it did is not known. */
gboolean run_outcome_unknown (const GError *error);
gboolean run_action (Run *run, const Action *action, GError **error);
