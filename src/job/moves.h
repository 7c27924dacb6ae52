/* The record of one backup while it runs: how it starts from the plan, which moves it makes, what
 * is told of it. Of all drivers whose jobs are plans. Pure but for the clock. */
#pragma once
#include "driver/driver.h"
#include "job/run.h"

typedef enum {
    JOB_EVENT_BEGUN_PUSH,
    JOB_EVENT_BEGUN_PULL,
    JOB_EVENT_IN_STEP, /* instant='end': all disks follow the guest */
    JOB_EVENT_END,
    JOB_EVENT_GOOD,
    JOB_EVENT_BAD,
    JOB_EVENT_ABORTED,
    JOB_EVENTS
} JobEvent;
/* The next state by the table of moves; -1: not allowed. */
int job_next_state (int state, JobEvent event);
/* FALSE, which is a defect of ours and is logged: the table has no such move. */
gboolean job_record_move (bak_job *record, JobEvent event);

void job_record_init (bak_job *ret, const Plan *plan, const char *domain);
/* made safe to print, cut to what the wire takes */
void job_record_set_text (char **field, const char *text);
void job_record_set_error (bak_job *record, const GError *error);
void job_record_note (bak_job *record, const char *text);
void job_record_freeze (bak_job *record, const Run *run); /* what became of freeze and thaw */
/* the last move; failure: NULL when good, or when the error is set */
void job_record_end (bak_job *record, JobEvent event, const GError *failure);
/* of a pull: what the scratches hold */
void job_record_sum_temp (bak_job *record);
void job_record_begin_ret (const bak_job *record, bak_begin_ret *ret);

/* xml.c: the job as <domainbackup>, with what libvirt's clients expect in it. document: what was
 * asked for, disks under the names that the job has for them; NULL: not known. Caller frees. */
char *job_xml (const bak_job *job, const char *document);

/* What listeners are told; domain and time are the emitter's. */
bak_event job_event_state (const bak_job *record);
bak_event job_event_disk (const bak_job *record, const bak_job_disk *disk);
bak_event job_event_warning (const bak_job *record, const char *text);
bak_event job_event_completed (const bak_job *record);
typedef struct {
    guint64 bytes;
    gint64 time;
} JobPace; /* of the last progress that was told */
bak_event job_event_progress (const bak_job *record, JobPace *pace);

/* A TCP port of the loopback that nobody has now; 0: none. */
guint job_free_port (void);
