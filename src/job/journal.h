/* What an owner must know after a crash: the plan, how far it got, which files it made, whether the
 * guest is frozen. DIR/journal, one JSON object a line; the first holds the plan and is synced, the
 * rest are short notes that survive the death of the process (after the death of the host QEMU is
 * dead too, and every undo is idempotent). */
#pragma once
#include "job/plan.h"

typedef struct _Journal Journal;

typedef enum { STEP_PENDING, STEP_STARTED, STEP_DONE, STEP_FAILED } StepState;

typedef struct {
    guint64 device, inode;
    gboolean linked;
} JournalFile;

typedef struct {
    Plan *plan;        /* NULL when the first line is damaged */
    JsonObject *meta;  /* what the owner put beside the plan; never NULL */
    GArray *states;    /* StepState, one a step */
    guint finished;    /* finishing actions that were done */
    GHashTable *files; /* path -> JournalFile*: made by us */
    char *phase;       /* "begin", "running", "stopping", "finished" */
    int outcome;       /* JOB_STATE_*, with "stopping" and "finished" */
    char *error;
    int error_code;
    gboolean frozen;
    GHashTable *results; /* QEMU's job id -> its error ("" = none): of jobs that have ended */
} JournalState;

/* Both fail when nothing can be promised: then nothing may be touched. */
Journal *journal_create (const char *dir, const Plan *plan, JsonObject *meta /* consumed */,
                         GError **error);
Journal *journal_open (const char *dir, GError **error); /* for appending, after a crash */
void journal_close (Journal *journal);
void journal_remove (const char *dir);
gboolean journal_exists (const char *dir);
/* Somebody has deleted the file that this one writes to. */
gboolean journal_is_lost (const Journal *journal);

gboolean journal_step (Journal *journal, guint step, StepState state, GError **error);
gboolean journal_finish (Journal *journal, guint finished, GError **error);
gboolean journal_file (Journal *journal, const char *path, guint64 device, guint64 inode,
                       GError **error);
gboolean journal_result (Journal *journal, const char *job, const char *error_text, GError **error);
gboolean journal_frozen (Journal *journal, gboolean frozen, GError **error);
gboolean journal_phase (Journal *journal, const char *phase, int outcome, int error_code,
                        const char *error_text, GError **error);

/* A damaged tail is where the owner died: it is cut off. Never NULL unless the file cannot be read
 * at all. */
JournalState *journal_read (const char *dir, GError **error);
JournalState *journal_parse (const char *text, gsize length); /* pure; fuzzed */
void journal_state_free (JournalState *state);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (JournalState, journal_state_free)
