/* One attached guest: its definition, its folder, its monitor, the thread that owns them, and its
 * running job.
 *
 * Everything that talks to QEMU runs on the guest's own thread, one call at a time (guest_do).
 * Calls that come meanwhile queue; nested iterations of the context (inside blocking QMP calls)
 * never run them. Records are read without it. */
#pragma once
#include "conf/guest_def.h"
#include "driver/driver.h"
#include "driver/watchers.h"
#include "driver/qemu/graph.h"
#include "driver/qemu/qmp.h"
#include "job/life.h"

typedef struct _DriverGuest Guest;
typedef struct _QemuConn QemuConn;

/* What a guest lets its jobs do. It knows nothing of them: the driver's table hands these in. On
 * the guest's thread, but for refresh. */
typedef struct {
    void (*refresh) (Guest *guest);     /* progress onto the board; any thread */
    void (*tick) (Guest *guest);        /* takes the events that came in, does what is due */
    void (*note_errors) (Guest *guest); /* what cannot wait for the tick */
    void (*note_migration) (Guest *guest);
    /* What a former owner left, see job.h. */
    gboolean (*recover) (Guest *guest, GError **error);
    void (*recover_gone) (Guest *guest, const char *why);
    /* The same of its block jobs, see blockjob.h. */
    gboolean (*settle) (Guest *guest, GError **error);
    void (*settle_gone) (Guest *guest, const char *why);
    gboolean (*refuse_all) (Guest *guest, const char *what, GError **error);
    const JobOps *ops;
} GuestJobs;

struct _QemuConn { /* DriverConn.priv of the qemu driver */
    DriverConn *conn;
    char *state_dir;
    DriverRole role;
    gboolean embedded; /* jobs run in this process even in role CLIENT (test:///) */
    gboolean unsealed; /* another manager deletes the checkpoints: it would leave their seals */
    char *watch_guest;
    const GuestJobs *jobs;
    Watchers *watchers;
    GMutex lock;        /* guards what follows */
    GHashTable *guests; /* name -> Guest*, made when first used */
    int registrations, next_registration;
};

/* What tells a file from the one that had its name before: definitions are only replaced as a
 * whole. */
typedef struct {
    guint64 device, inode;
    gint64 size, seconds, nanoseconds;
} FileStamp;

struct _DriverGuest {
    QemuConn *owner;
    GuestDef *def;
    GuestDef
        *shape; /* of one that is attached both ways: see both.h; NULL. The guest's thread only */
    gint off;   /* atomic, of one that is attached both ways: its images are taken, not its QEMU */
    int number; /* of attach_number() */
    FileStamp stamp; /* of the file of def; under the owner's lock */
    char *dir;       /* STATE/guests/NAME */
    gint refs;

    GThread *thread; /* it and its context are made when first needed */
    GMainContext *context;
    GAsyncQueue *queue; /* closures of guest_do */
    gboolean quit;

    /* the guest's thread only */
    int lock_fd; /* flock on DIR/lock while we own the monitor; -1 */
    Qmp *qmp;    /* NULL: not connected */
    Caps *caps;
    Job *job;           /* the running job; NULL */
    gint64 release_at;  /* monotonic: let go of the monitor then; 0 */
    gint64 leftover_at; /* monotonic: end then what the journal of an ended job still holds; 0 */
    GPtrArray *pending; /* GuestEvent*: what came in, taken by the tick */
    GHashTable *job_status; /* QEMU's job id -> last status seen in an event */
    /* QEMU's job id -> error of BLOCK_JOB_COMPLETED or _CANCELLED ("" = none) */
    GHashTable *job_errors;
    GHashTable *exports_gone; /* set of export ids seen in BLOCK_EXPORT_DELETED */
    gboolean recovering;
    guint news; /* events so far that may mean another state of the guest */

    Board board;   /* any thread; its lock guards the two below */
    Qmp *watched;  /* qmp, for who asks whether it is quiet; NULL: not connected */
    gboolean runs; /* watched said "running", and nothing since */
    gint cancel;   /* atomic: an abort was asked for */
    JobPlace jobs;
    gint peeked; /* atomic: somebody was answered without the guest's thread */
};

typedef struct {
    char *name;
    JsonObject *data;
} GuestEvent;

/* As in a row of the table of calls. */
typedef gboolean (*GuestFunc) (Guest *guest, const void *args, void *ret, GError **error);

/* By name; BAK_ERROR_NO_DOMAIN. Unref when done. */
Guest *guest_get (QemuConn *owner, const char *name, GError **error);
void guest_unref (Guest *guest);
/* With the owner's lock held: the guest of this name if it is in use and its definition is still
 * the one on disk; borrowed. */
Guest *guest_find (QemuConn *owner, const char *name);
/* Any thread, nothing is waited for. The monitor is connected, and all that QEMU said on it was
 * heard. */
gboolean guest_is_watched (Guest *guest, gboolean *ret_runs);
/* On the guest's thread: QEMU said "running" when news was as many. */
void guest_note_running (Guest *guest, guint news);
/* Runs func on the guest's thread with the monitor acquired (when the guest has one and acquire is
 * TRUE) and waits for it. */
gboolean guest_do (Guest *guest, gboolean acquire, GuestFunc func, const void *args, void *ret,
                   GError **error);
/* On the guest's thread: lock, connect, capabilities, recover. Idempotent. BAK_ERROR_MONITOR_HELD,
 * BAK_ERROR_CONNECTION. */
gboolean guest_acquire (Guest *guest, GError **error);
/* The lock alone, for work on files while QEMU is gone; released when idle. */
gboolean guest_lock (Guest *guest, GError **error);
void guest_release (Guest *guest);
void guest_disconnect (Guest *guest); /* the monitor alone */
/* FALSE with CONNECTION and why, when the monitor is not connected or has died. */
gboolean guest_monitor_alive (Guest *guest, GError **error);
/* fresh; guest_acquire first */
Graph *guest_graph (Guest *guest, GraphDetail detail, GError **error);
/* A storage daemon opens its images: it is attached by them alone, or it is off now. */
static inline gboolean guest_is_offline (const Guest *guest)
{
    return !guest->def->qmp || g_atomic_int_get (&guest->off);
}

/* The definition as it is to be taken now: images as they were last seen, disks under the names of
 * the monitor or of the storage daemon. */
static inline GuestDef *guest_shape (const Guest *guest)
{
    return guest->shape ? guest->shape : guest->def;
}

void guest_emit (Guest *guest, bak_event *event); /* fills domain, uuid, when; clears event */

/* offline.c: a powered-off guest. Starts (or finds again) the private storage daemon of the guest
 * and returns its QMP socket path. Its --blockdev nodes are named after the targets where QEMU's
 * alphabet allows. The daemon has its own session and outlives us. */
char *offline_start (Guest *guest, GError **error);
/* QMP quit, waits for the process, removes its socket; no-op when none runs */
void offline_stop (Guest *guest);
gboolean offline_running (const Guest *guest);
/* Without the daemon: size, format, allocation, backing depth and bitmaps of each image by
 * `qemu-img info -U`. */
gboolean offline_disks (Guest *guest, bak_disks_ret *ret, GError **error);

/* info.c: what a guest is, from its graph */
gboolean guest_info (Guest *guest, bak_domain_info *ret, GError **error);
gboolean guest_state (Guest *guest, bak_state_ret *ret, GError **error);
gboolean guest_disks (Guest *guest, bak_disks_ret *ret, GError **error);
/* Of the disk that answers to this name, or of all together (""). */
gboolean guest_block_stats (Guest *guest, const char *disk, bak_block_stats_ret *ret,
                            GError **error);
char *guest_xml (Guest *guest, GError **error); /* <domain> as libvirt clients want it */

/* attach.c: definitions on disk */
gboolean qemu_attach (DriverConn *conn, const bak_attach_args *args, bak_lookup_ret *ret,
                      GError **error);
gboolean qemu_detach (DriverConn *conn, const bak_domain_arg *args, bak_none *ret, GError **error);
/* The QEMU behind a monitor. A socket that QEMU was handed belongs to whoever made it, which is
 * none: then the one whose command line has it. 0: none is seen from here. */
int discover_process (const char *address, int peer);
gboolean qemu_discover (DriverConn *conn, const bak_none *args, bak_discover_ret *ret,
                        GError **error);
gboolean qemu_list (DriverConn *conn, const bak_list_args *args, bak_list_ret *ret, GError **error);
gboolean qemu_lookup (DriverConn *conn, const bak_lookup_args *args, bak_lookup_ret *ret,
                      GError **error);
/* See driver_peek(). */
gboolean qemu_peek_guest (Guest *guest, DriverPeek *ret);
