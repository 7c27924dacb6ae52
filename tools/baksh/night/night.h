/* One run of a job: what its files share.
 *
 * The thread that runs the command shows progress and takes interrupts; workers, one for each guest
 * that may be done at a time, take guests from a queue until it is empty. All that is said of a
 * guest is in its row, a JSON object that becomes a part of the report. */
#pragma once
#include "../point.h"
#include "report.h"

typedef struct {
    gboolean dry_run, json, lines, quiet;
    const char *const *domains; /* only these; empty: all of the job */
    guint64 older_than;         /* leave out guests that have a younger good point; 0: none */
} NightOptions;

/* A guest that the job means. */
typedef struct {
    char *uri, *name, *uuid;
    int state; /* BakDomainState when it was chosen */
    guint attempts;
    gint64 began;    /* monotonic; 0: not now */
    JsonObject *row; /* of the last attempt; NULL: none yet */
    char phase[32];  /* how far it is */
    guint64 done, total;
} NightGuest;

typedef struct {
    const NightJob *job;
    const NightOptions *options;
    Shell *shell;
    BakRepository *repository;
    BakCancellation *cancellation;
    char *dir;         /* of the job in the state directory */
    JsonObject *known; /* guests.json: what is known beyond one run */
    gint64 started;    /* microseconds since 1970 */
    gint64 began;      /* monotonic */
    GPtrArray *guests; /* NightGuest* */
    guint unreached;   /* connections that could not be opened */
    guint damaged;     /* points that were read again and are not good */
    guint undrilled;   /* guests that did not come up from their newest point */
    JsonArray *warnings, *verified, *drills;

    GMutex lock; /* of what follows, of rows, warnings and of standard output */
    GCond changed;
    GQueue queue; /* NightGuest* */
    guint running;
    guint ended;       /* guests that will not be tried again */
    gboolean terminal; /* a line of progress stands there */
    int wake[2];       /* closed at the end of the last worker */
} Night;

/* Runs it; the report, and *ret_status. NULL: no run took place, the error has been printed. */
JsonObject *night_run (Shell *shell, const NightJob *job, const NightOptions *options,
                       int *ret_status);
/* Of a report, by its counts. */
int night_status (JsonObject *report);
/* What several jobs together end with. */
int night_worse (int one, int other);

/* choice.c: fills guests with those that the job means. FALSE: *ret_status, and *ret_error, which
 * the caller frees */
gboolean night_choose (Night *night, int *ret_status, char **ret_error);
void night_guest_free (NightGuest *guest);
/* The URIs of a job, in the order of its file; "" is the shell's own. */
const char *const *night_uris (const NightJob *job, Shell *shell);

/* guest.c: one attempt; makes its row. TRUE: trying again later may help */
gboolean night_guest_run (Night *night, NightGuest *guest, BakConnection *conn);
/* Of a guest, the oldest first; empty when there are none. NULL: failed. LIST_FREE() it. */
BakPoint **night_points (BakRepository *repository, const char *uuid, BakError **error);
/* The newest point that a restore can count on; NULL: none. Borrowed. */
BakPoint *night_newest_good (BakPoint **points);
/* A row of an attempt that did not come so far. */
void night_guest_fail (Night *night, NightGuest *guest, int status, const char *code,
                       const char *error);
/* A row of one that was left out, on purpose, with why. */
void night_guest_skip (Night *night, NightGuest *guest, const char *why);

/* known.c. Rows and comparing under the lock, or when no worker runs. */
void known_load (Night *night);
void known_take (Night *night, JsonObject *row);
void known_compare (Night *night); /* with the guests that were chosen */
/* When it was last drilled, whatever came of it; 0: never. */
gint64 known_drilled (Night *night, const char *uuid);
void known_take_drill (Night *night, JsonObject *row);
gboolean known_keep (Night *night, char **ret_why);

/* hook.c: SKIP and FAILED come with *ret_why, which the caller frees. */
typedef enum { HOOK_GOOD, HOOK_SKIP, HOOK_FAILED } HookResult;
HookResult night_hook (Night *night, const char *phase, JsonObject *facts, char **ret_why);

/* Of the report so far; FALSE: *ret_why, which the caller frees. */
gboolean night_metrics (Night *night, JsonObject *report, char **ret_why);
/* One line: name{job="",domain=""} seconds */
void night_add_sample (GString *text, const char *name, const char *job, const char *domain,
                       gint64 microseconds);
gboolean night_deliver (Night *night, JsonObject *report, char **ret_why);
void night_care (Night *night);
void night_drill (Night *night);

/* For what looks at a job without running it. */
void night_init (Night *night);
void night_clear (Night *night);
gboolean night_open (Night *night, int *ret_status, char **ret_error); /* the repository */

/* feed.c: what is said while it runs */
void night_warn (Night *night, const char *format, ...) G_GNUC_PRINTF (2, 3);
/* Both take the lock. type "guest-start", "guest-end", …; consumes fields, which may be NULL. */
void night_tell (Night *night, const char *type, JsonObject *fields);
/* The line of a guest that has ended, for people. */
void night_tell_row (Night *night, JsonObject *row);
void night_show_progress (Night *night);
void night_clear_progress (Night *night);
JsonObject *night_copy (JsonObject *object); /* a deep copy */

G_DEFINE_AUTOPTR_CLEANUP_FUNC (NightGuest, night_guest_free)
