/* The board of a guest: what readers see of its backup jobs, which run in this process or are
 * recorded. Embedded in the driver's guest. Any thread; nothing here waits for the owner of a job
 * but what says so. */
#pragma once
#include "driver/driver.h"

typedef struct {
    const char *domain, *dir; /* the guest's name and folder; borrowed */
    DriverGuest *guest;
    /* brings what is shown of a running job up to date; may return at once */
    void (*refresh) (DriverGuest *guest);

    GMutex lock;
    GCond changed;    /* what follows has, or what the driver guards by the lock */
    bak_job snapshot; /* of the running or last job of this process; id "" or NULL: none */
    guint published;  /* how often it was taken */
    char *document;   /* what the shown job was asked by (job_xml); NULL */
} Board;

void board_init (Board *board, const char *domain, const char *dir, DriverGuest *guest,
                 void (*refresh) (DriverGuest *guest));
void board_clear (Board *board);

void board_publish (Board *board, const bak_job *record);
void board_wipe (Board *board); /* no job is shown */
/* Of the job that is shown from now on; NULL: not known. */
void board_set_document (Board *board, const char *document);
/* JOB_STATE_* of what is shown; JOB_STATE_NONE: nothing. */
int board_state (Board *board);
/* The id of a job that has not ended, "" if there is none. Caller frees with free(). */
char *board_running (Board *board);
void board_copy (Board *board, bak_job *ret); /* as it is shown now */

/* What a driver's table of calls does with it. id "": the newest. BAK_ERROR_NO_JOB. */
gboolean board_read (Board *board, const char *id, bak_job *ret, GError **error);
/* The same of what is on disk alone. */
gboolean board_recorded (const Board *board, const char *id, bak_job *ret, GError **error);
gboolean board_stats (Board *board, const bak_job_arg *args, bak_job_ret *ret, GError **error);
gboolean board_list (Board *board, bak_jobs_ret *ret, GError **error);
/* Until the job has ended, or its time is over. */
gboolean board_wait (Board *board, const bak_wait_args *args, bak_job_ret *ret, GError **error);
gboolean board_xml (Board *board, const bak_job_arg *args, bak_text_ret *ret, GError **error);
/* For calls that need a running one. */
gboolean board_no_job (const Board *board, GError **error);
