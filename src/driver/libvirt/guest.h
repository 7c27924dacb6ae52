/* One guest with a job of ours: the folder, who owns it, the thread that carries the job, the job
 * itself. libvirt runs the backup; the owner decides what it is worth, finishes or undoes the rest
 * and writes the record. */
#pragma once
#include "driver/libvirt/lv.h"
#include "driver/libvirt/plan.h"
#include "job/life.h"

typedef enum {
    NOTE_WAKE,
    NOTE_JOB_COMPLETED,
    NOTE_BLOCK_JOB,
    NOTE_LIFECYCLE,
    NOTE_IO_ERROR,
    NOTE_THRESHOLD
} LvNoteKind;

/* What libvirt told by an event; events only leave notes, the guest's thread acts. */
typedef struct {
    LvNoteKind kind;
    char *disk; /* target, or alias of an I/O error */
    char *text; /* error of a completed job, reason of an I/O error */
    int status, detail;
    gboolean success, paused;
    guint64 total, processed;
} LvNote;

typedef enum { DISK_RUNS, DISK_COMPLETED, DISK_FAILED, DISK_CANCELLED } LvDiskEnd;

typedef struct {
    LvDiskEnd end;
    guint index;      /* of the target or scratch, as libvirt numbers it; 0: not known */
    guint64 reserve;  /* bytes to be kept free on its file system */
    gboolean counted; /* libvirt told this disk's bytes while it ran */
    gboolean estimated;
    guint64 estimate; /* bytes that an increment has, asked before begin */
} LvJobDisk;

struct _JobOwn {
    LvJobDisk *disks; /* one a plan->disks */
    gboolean ended;   /* libvirt's job is over; the three below say how */
    gboolean success;
    char *failure;   /* libvirt's text; NULL */
    gint64 ended_at; /* monotonic */
    guint64 total;   /* bytes of all disks, as libvirt counted at the end; 0: it did not */
    gboolean lost;   /* libvirt kept no result that can be shown to be of this job */
    gboolean told, told_success; /* by an event */
    char *told_failure;
    gboolean asked; /* we asked for the end */
    gboolean gone;  /* QEMU is gone */
    char *gone_why;
    /* monotonic: libvirt does not know the guest any more, an event has yet to say why; 0 */
    gint64 missing_since;
    gboolean adopted;    /* taken over from a process that died */
    gboolean unanswered; /* the begin was sent, and libvirtd did not say what became of it */
    /* the guest ran at begin: it is resumed when an I/O error of ours has paused it */
    gboolean was_running;
    char *paused; /* the guest was paused by an I/O error during the job: what libvirt said; NULL */
    gboolean disconnected; /* libvirtd is away */
    guint connection;      /* number of the connection that the job was last seen over */
    gboolean protect;
    gboolean urgent;            /* little space is left: look often */
    struct _LvRequest *request; /* during the begin: what it was planned from */
};

struct _DriverGuest {
    LvConn *lv;
    char *name;
    char *dir;    /* STATE/libvirt-HASH/guests/NAME */
    char *online; /* DIR/online */
    gint refs;

    /* one of begin, stop, limit, recover and the thread's tick at a time; guards what follows */
    GRecMutex busy;
    int lock_fd; /* flock on DIR/online/lock while a job of ours runs; -1 */
    Job *job;
    guint generation; /* of the job that the thread carries */

    GAsyncQueue *notes; /* LvNote* */
    gint quit;

    Board board;   /* any thread */
    guint threads; /* under the board's lock */
    gint cancel;   /* atomic: an abort was asked for during begin */
    JobPlace jobs;
};

/* What a guest lets its jobs do. It knows nothing of them: the driver's table hands these in. With
 * busy held, but for refresh. */
struct _LvGuestJobs {
    void (*refresh) (LvGuest *guest); /* has what is shown brought up to date; any thread */
    void (*take) (Job *job, const LvNote *note);
    gboolean (*tick) (LvGuest *guest);   /* FALSE: the job is over */
    gboolean (*urgent) (const Job *job); /* little is left: look often */
    const JobOps *ops;
};

/* guest.c */
/* ref; no such domain is not looked for */
LvGuest *lv_guest_get (LvConn *lv, const char *name, GError **error);
LvGuest *lv_guest_peek (LvConn *lv, const char *name); /* NULL when nobody used it yet */
void lv_guest_unref (LvGuest *guest);
gboolean lv_guest_lock (LvGuest *guest, GError **error); /* BUSY names the running job */
void lv_guest_unlock (LvGuest *guest);
gboolean lv_guest_owned (LvConn *lv, const char *name); /* by any process */
virDomainPtr lv_guest_domain (LvGuest *guest, GError **error);
void lv_guest_emit (LvGuest *guest, bak_event *event); /* fills domain, when; clears event */
void lv_guest_note (LvGuest *guest, LvNote *note);     /* consumed */
void lv_note_free (LvNote *note);
void lv_guest_start_thread (LvGuest *guest);
/* Has the thread of a running job look now. FALSE: it does not come back in time, because libvirt
 * or QEMU hangs. */
gboolean lv_guest_look (LvGuest *guest, guint timeout_ms);
void lv_guest_shutdown (LvGuest *guest); /* lets go of a running job */
gboolean lv_guest_make_dirs (LvGuest *guest, const LvPicture *picture, GError **error);

/* verbs.c: the steps that are calls of libvirt; run->data is the LvGuest */
extern const RunOps lv_run_ops;
/* To a failure, when the guest could not be thawed. */
void lv_note_frozen (const Run *run, GError **error);
/* Deletes a checkpoint, whatever became of its bitmaps and of the guest. Absent: TRUE. disks: of
 * the plan that made it; NULL. */
gboolean lv_checkpoint_remove (LvGuest *guest, const char *name, JsonArray *disks, GError **error);
/* The running backup, as libvirt prints it; NULL without error: none runs. */
LvRunning *lv_running_load (virDomainPtr domain, GError **error);
gboolean lv_running_is (const LvRunning *running, const Plan *plan);
/* of a job that may be over */
gboolean lv_job_set_speed (virDomainPtr domain, const char *disk, guint64 bytes_per_sec,
                           GError **error);

/* watch.c: space, readers */
typedef struct {
    guint64 available;
    gboolean known;
} LvSpace;
LvSpace lv_space (const char *path);
/* What is kept free on a file system that had so much at begin. Pure. */
guint64 lv_space_reserve (guint64 available_at_begin);
/* a threshold on what QEMU writes */
gboolean lv_watch_arm (Job *job, guint disk, GError **error);
/* FALSE: the job has to end now, because of that disk */
gboolean lv_watch_space (Job *job, guint *ret_disk, GError **error);
gboolean lv_watch_urgent (const Job *job); /* little is left: look often */
int lv_count_readers (const Plan *plan);   /* connections to the export; -1: cannot tell */

/* records.c */
LvCheckpoint *lv_checkpoint_describe (virDomainCheckpointPtr checkpoint, guint flags,
                                      GError **error);
/* keep: their bitmaps may be there still. */
gboolean lv_checkpoints_forget_deleted (LvGuest *guest, GPtrArray *names, gboolean keep,
                                        GError **error);

/* ask.c */
void lv_job_take (Job *job, const LvNote *note);
void lv_job_refresh (LvGuest *guest);
gboolean lv_job_wait_ended (Job *job, guint timeout_ms, GError **error);

/* job.c; all with guest->busy held */
gboolean lv_job_begin (LvGuest *guest, const bak_begin_args *args, bak_begin_ret *ret,
                       GError **error);
gboolean lv_job_plan (LvGuest *guest, const bak_begin_args *args, bak_text_ret *ret,
                      GError **error);
gboolean lv_job_stop (LvGuest *guest, gboolean abort, bak_job *ret, GError **error);
gboolean lv_job_tick (LvGuest *guest); /* FALSE: the job is over */
extern const JobOps lv_job_ops;

/* job-recover.c: what a former owner left. Takes the lock; keeps it when a job goes on. */
gboolean lv_job_recover (LvGuest *guest, GError **error);
void lv_job_inherit (Job *job, const JournalState *state);
void lv_job_adopted (Job *job);

/* request.c: what a begin needs to know */
typedef struct _LvRequest {
    BackupDef *def;
    CheckpointDef *checkpoint;
    LvPicture *picture;
    GPtrArray *names, *records, *bases;
    GHashTable *refused;
    char *id, *scratch_dir, *job_dir, *target_dir, *tls_dir;
    guint port;
    gulong qemu_version, libvirt_version;
} LvRequest;
gboolean lv_request_load (LvGuest *guest, const bak_begin_args *args, LvRequest *ret,
                          GError **error);
Plan *lv_request_plan (LvGuest *guest, const bak_begin_args *args, LvRequest *request,
                       GError **error);
void lv_request_clear (LvRequest *request);
/* libvirt refused an increment of one disk at begin: TRUE when another plan may do
 * (request->refused was added to). */
gboolean lv_request_learn (LvRequest *request, const GError *failure);
guint lv_request_refusals (const LvRequest *request); /* how many there have been */
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (LvRequest, lv_request_clear)

/* NULL: libvirt has it not. With sizes, which libvirt prints only of bitmaps that are usable. */
LvCheckpoint *lv_checkpoint_load (virDomainPtr domain, const char *name, gboolean sizes);
/* libvirt and our records know of the same checkpoints: those that were deleted past us are kept
 * aside, and are back when they are defined again. */
gboolean lv_checkpoints_sync (LvGuest *guest, virDomainPtr domain, GError **error);
/* Our records alone, in records.c: of checkpoints that libvirt has made or deleted. */
gboolean lv_records_follow (LvGuest *guest, virDomainPtr domain, GError **error);
/* The name of a checkpoint that is not promoted yet (of a running job or of one to be recovered);
 * NULL. Caller frees. */
char *lv_provisional (LvGuest *guest);
