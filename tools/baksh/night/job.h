/* A job of the night: what jobs.d/JOB.conf says. */
#pragma once
#include "../baksh.h"

/* What shows that a guest has come up. */
typedef enum { DRILL_ANY, DRILL_AGENT, DRILL_CONSOLE, DRILL_TIME } DrillProof;

typedef struct {
    guint64 every;   /* microseconds; 0: no drills */
    guint64 timeout; /* microseconds a guest */
    DrillProof proof;
    char *text;     /* of DRILL_CONSOLE */
    guint64 memory; /* bytes; 0: as the guest has, to a limit */
    char *program;  /* of QEMU; NULL: found */
} NightDrill;

typedef struct {
    char *name, *path;
    GStrv guests, exclude; /* patterns of names, or UUIDs */
    GStrv uris;            /* NULL: that of the shell */
    char *repository;      /* NULL: the default */
    gboolean full;         /* read everything each time */
    guint64 full_every;    /* microseconds; 0: never for its own sake */
    gboolean has_keep;
    BakPruneRules keep;
    BakQuiesce quiesce;
    guint64 parallel, retry;
    guint64 limit;   /* bytes a second, all guests together; 0: none */
    guint64 timeout; /* microseconds a guest; 0: none */
    guint64 verify;  /* re-read what was not looked at for so many microseconds; 0: nothing */
    guint64 verify_time, verify_bytes; /* the budget of one run; 0: none of this kind */
    NightDrill drill;
    char *hook; /* a program or a folder of programs, or NULL */
    guint64 hook_timeout;
    char *metrics; /* a file, or NULL */
    char *mail;    /* an address, or NULL */
    GStrv report;  /* a command, or NULL */
} NightJob;

/* The jobs of these names (none: all there are), checked. A name with a slash is the path of a
 * file. NULL: errors have been printed, a line a job. */
GPtrArray *night_jobs (const char *const *names); /* NightJob* */
/* Of all jobs.d, without .conf; char*. */
GPtrArray *night_job_names (void);
void night_job_free (NightJob *job);
/* Whether a job means this guest; *ret_why: the pattern that took it or left it out, or NULL. */
gboolean night_job_wants (const NightJob *job, const char *name, const char *uuid,
                          const char **ret_why);
gboolean night_job_is_name (const char *name);
/* STATE/night/JOB. Caller frees. */
char *night_job_dir (const char *name);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NightJob, night_job_free)
