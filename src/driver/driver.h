/* THE contract between the library and what does the work.
 *
 * A driver is one const DriverOps with one table of calls (calls.def), one row a call: its
 * function, and where it is done. An empty row means "not supported" and is said so by the checked
 * entry. Functions may block (they run on the caller's thread, or on a server's worker thread), may
 * be called from any thread, and only do the work: arguments are decoded and bounded, the
 * connection is known to be open and writable where the row wants that.
 *
 * Arguments are borrowed. A result struct is zeroed by the caller and, on TRUE, owned by him:
 * strings in it are from malloc (use ret_string()), arrays from calloc (ret_array()), so that
 * xdr_free releases it (call_clear_ret()). No string of a result may be NULL: "" is absent. On
 * FALSE *error is set and nothing needs to be freed. */
#pragma once
#include <glib.h>
#include "calls.h" /* made by rpcgen from calls.x */
#include "util/error.h"
#include "util/passed.h"

typedef struct _DriverConn DriverConn;
typedef struct _DriverOps DriverOps;
typedef struct _DriverCall DriverCall;
typedef struct _DriverGuest DriverGuest; /* each driver's own */

typedef enum {
    CALL_READ = 0,
    CALL_WRITE = 1,
    CALL_SLOW = 2,
    CALL_GUEST = 4 /* first field of the arguments is the domain's name */
} CallFlags;
typedef enum { VERB_NONE, VERB_SEE, VERB_BACKUP, VERB_RESTORE, VERB_MANAGE } CallVerb;

typedef enum {
#define CALL(number, name, args, ret, flags, verb, since) CALL_ID_##name,
#include "driver/calls.def"
#undef CALL
    CALL_COUNT
} CallId;

typedef struct {
    guint number;
    const char *name;
    guint flags;
    CallVerb verb;
    const char *since;
    gsize args_size, ret_size;
    gboolean (*args_codec) (void *xdrs, void *args); /* xdrproc_t with the types written out */
    gboolean (*ret_codec) (void *xdrs, void *ret);
    /* runs the function of a call on the connection; FALSE with NOT_SUPPORTED when there is none */
    gboolean (*enter) (DriverConn *conn, const DriverCall *call, const void *args, void *ret,
                       GError **error);
} CallRow;

extern const CallRow call_rows[CALL_COUNT];
const CallRow *call_row_by_number (guint number); /* NULL: unknown */
const CallRow *call_row_by_name (const char *name);

/* May be called from any thread; event is borrowed. */
typedef void (*DriverEventFunc) (DriverConn *conn, const bak_event *event, gpointer data);

typedef enum {
    DRIVER_ROLE_CLIENT,  /* a program or the shell: a begin hands the guest to a watcher */
    DRIVER_ROLE_WATCHER, /* owns one guest from begin to end */
    DRIVER_ROLE_DAEMON,  /* owns the state directory */
} DriverRole;

typedef struct {
    DriverRole role;
    gboolean readonly;
    const char *state_dir;     /* NULL: by environment and URI */
    const char *watch_guest;   /* WATCHER: the one guest */
    const char *daemon_socket; /* remote driver: instead of what the URI names */
    gboolean
        stays_lost; /* remote driver: a lost connection is not made anew before the next call */
    /* the checkpoints are kept by another manager too, whose deletion knows nothing of seals */
    gboolean unsealed;
} DriverOpenOptions;

typedef struct {
    char uuid[37];
    int id;            /* -1: off */
    int state, reason; /* state -1: not at hand */
} DriverPeek;

struct _DriverConn {
    const DriverOps *driver;
    char *uri;
    gboolean readonly;
    DriverEventFunc event_func; /* set by driver_open's caller through driver_conn_set_events() */
    gpointer event_data;
    GMutex event_lock;
    /* atomic: the connection of a driver that sends calls elsewhere has broken; the next call makes
     * another */
    gint broken;
    /* atomic; its calls: those that did not get there, those that got no answer */
    gint unsent, lost;
    gpointer priv; /* the driver's own */
    /* what was passed on this connection; a server has its peers' apart. Made with the first */
    Passed *passed;
    /* driver_open(), for a driver that needs another connection: it knows no registry */
    DriverConn *(*open_another) (const char *uri, const DriverOpenOptions *options, GError **error);
};

struct _DriverOps {
    const char *name;                    /* "qemu", "remote", "libvirt", "test" */
    gboolean (*probe) (const char *uri); /* does this URI mean this driver? */
    gboolean (*open) (DriverConn *conn, const DriverOpenOptions *options, GError **error);
    void (*close) (DriverConn *conn);
    /* set by a driver that sends every call elsewhere; then it has no table */
    gboolean (*forward) (DriverConn *conn, const CallRow *row, const void *args, void *ret,
                         GError **error);
    /* may be empty; see driver_peek() */
    gboolean (*peek) (DriverConn *conn, const char *domain, DriverPeek *ret);
    const DriverCall *calls; /* CALL_COUNT of them */
    /* Finds the guest that the arguments name and does a call ON_GUEST where its row says. */
    gboolean (*route) (DriverConn *conn, CallId id, const void *args, void *ret, GError **error);
};

/* One row of a driver's table. */
struct _DriverCall {
    union {
#define CALL(number, name, args, ret, flags, verb, since)                                          \
    gboolean (*name) (DriverConn * conn, const args *a, ret *r, GError **error);
#include "driver/calls.def"
#undef CALL
    } conn;
    gboolean (*guest) (DriverGuest *guest, const void *args, void *ret, GError **error);
    guint how; /* the driver's flags, for its route */
};
/* A call that belongs to no guest, or finds it itself: done on the caller's thread. */
#define ON_CONN(call, func) [CALL_ID_##call] = { .conn.call = (func) }
/* A call with CALL_GUEST that goes through the driver's route. */
#define ON_GUEST(call, func, flags) [CALL_ID_##call] = { .guest = (func), .how = (flags) }

/* Picks the driver by the URI (NULL: the default URI) and opens it. qemu:///system|session goes to
 * the daemon when one owns the state directory, unless options->role says that we are it. */
DriverConn *driver_open (const char *uri, const DriverOpenOptions *options, GError **error);
/* A driver that is asked before the built-in ones: a test's stand-in. Call it before anything else.
 */
void driver_set_first (const DriverOps *driver);
void driver_close (DriverConn *conn); /* NULL is accepted */
void driver_conn_set_events (DriverConn *conn, DriverEventFunc func, gpointer data);
void driver_conn_emit (DriverConn *conn, const bak_event *event);
/* LIBBACKUP_DEFAULT_URI, configuration, root or not; caller frees */
char *driver_default_uri (void);

/* The checked entry: absent slot, read-only connection, trace (LIBBACKUP_DEBUG=calls). */
gboolean driver_call (DriverConn *conn, CallId id, const void *args, void *ret, GError **error);
/* What look-up and state would answer, if that is at hand: nobody is asked and nothing is waited
 * for. FALSE: make the call. Any thread. */
gboolean driver_peek (DriverConn *conn, const char *domain, DriverPeek *ret);
/* Typed forms of driver_call: call_backup_begin (conn, &args, &ret, &error). */
#define CALL(number, name, args, ret, flags, verb, since)                                          \
    static inline gboolean call_##name (DriverConn *conn, const args *a, ret *r, GError **error)   \
    {                                                                                              \
        return driver_call (conn, CALL_ID_##name, a, r, error);                                    \
    }
#include "driver/calls.def"
#undef CALL

/* A row for any driver's table that works in this process: keeps what is passed with the
 * connection. */
gboolean driver_fd_associate (DriverConn *conn, const bak_fds_args *args, bak_none *ret,
                              GError **error);
/* What the client passed for whom this thread works: another process's, or that of the connection.
 * Borrowed, NULL. */
Passed *driver_passed (DriverConn *conn);
/* A row for any driver's table: the backups that have not ended, of all guests, in its order. */
gboolean driver_running (DriverConn *conn, const bak_none *args, bak_jobs_ret *ret, GError **error);

/* Releases what a result (or decoded arguments) holds; the struct is zeroed. */
void call_clear_ret (CallId id, void *ret);
void call_clear_args (CallId id, void *args);
/* A deep copy, for call_clear_args(); FALSE: they exceed the limits of calls.x. */
gboolean call_copy_args (CallId id, const void *args, void *ret_copy);
char *ret_string (const char *text);       /* malloc'ed copy; NULL gives "" */
void *ret_array (gsize count, gsize size); /* calloc; count 0 gives NULL */
void bak_event_copy (const bak_event *event, bak_event *ret_copy);
void bak_event_clear (bak_event *event);
void bak_job_copy (const bak_job *job, bak_job *ret_copy);
void bak_job_clear (bak_job *job);

extern const DriverOps qemu_driver, test_driver, remote_driver;
/* libvirt_driver is a module, loaded when the URI asks for it: libbackup-driver-libvirt.so exports
 * it by this name. */

/* Values shared by contract, C API and wire. */
enum {
    JOB_STATE_NONE,
    JOB_STATE_PREPARING,
    JOB_STATE_RUNNING,
    JOB_STATE_READY,
    JOB_STATE_STOPPING,
    JOB_STATE_COMPLETED,
    JOB_STATE_FAILED,
    JOB_STATE_ABORTED
};
const char *job_state_to_string (int state); /* "preparing" ...; unknown gives "unknown" */
int job_state_from_string (const char *text);
static inline gboolean job_state_ended (int state)
{
    return state >= JOB_STATE_COMPLETED;
}
enum { JOB_MODE_PUSH = 0, JOB_MODE_PULL = 1 };
enum {
    DOMAIN_STATE_NOSTATE,
    DOMAIN_STATE_RUNNING,
    DOMAIN_STATE_BLOCKED,
    DOMAIN_STATE_PAUSED,
    DOMAIN_STATE_SHUTDOWN,
    /* libvirt's numbers */
    DOMAIN_STATE_SHUTOFF,
    DOMAIN_STATE_CRASHED,
    DOMAIN_STATE_PMSUSPENDED
};
enum { CONNECTION_LOST = 0, CONNECTION_RESTORED = 1 };
enum { LIST_ACTIVE = 1, LIST_INACTIVE = 2 };
enum { ATTACH_FIND_IMAGES = 1 };
enum {
    BEGIN_REUSE_EXTERNAL = 1,
    BEGIN_PRESERVE_SHUTDOWN = 2,
    BEGIN_QUIESCE = 1 << 16,
    BEGIN_ALLOW_UNPROVED = 1 << 17
};
enum { STOP_ABORT = 1 };
/* libvirt's numbers */
enum { BLOCK_PULL = 1, BLOCK_COPY = 2, BLOCK_COMMIT = 3, BLOCK_ACTIVE_COMMIT = 4 };
enum {
    BLOCK_SHALLOW = 1,
    BLOCK_DELETE = 2,
    BLOCK_ACTIVE = 4,
    BLOCK_REUSE_EXTERNAL = 8,
    BLOCK_COPY_DEV = 16,    /* dest is a block device */
    BLOCK_SYNC_WRITES = 32, /* a write of the guest is in the copy too before it is answered */
    BLOCK_DROP_CHECKPOINTS = 1 << 16
};
enum { BLOCK_END_ASYNC = 1, BLOCK_END_PIVOT = 2 };
enum { BLOCK_RESULT_COMPLETED = 0, BLOCK_RESULT_FAILED = 1, BLOCK_RESULT_CANCELED = 2 };
enum { STATS_COMPLETED = 1, STATS_KEEP_COMPLETED = 2 };
/* create */
enum { CHECKPOINT_REDEFINE = 1, CHECKPOINT_QUIESCE = 2, CHECKPOINT_REDEFINE_VALIDATE = 4 };
enum { CHECKPOINT_XML_SECURE = 1, CHECKPOINT_XML_NO_DOMAIN = 2, CHECKPOINT_XML_SIZE = 4 }; /* xml */
enum {
    CHECKPOINT_LIST_ROOTS = 1,
    CHECKPOINT_LIST_DESCENDANTS = 1,
    CHECKPOINT_LIST_TOPOLOGICAL = 2,
    CHECKPOINT_LIST_LEAVES = 4,
    CHECKPOINT_LIST_NO_LEAVES = 8
};
enum {
    CHECKPOINT_DELETE_CHILDREN = 1,
    CHECKPOINT_DELETE_METADATA_ONLY = 2,
    CHECKPOINT_DELETE_CHILDREN_ONLY = 4
};
enum { CHECK_REPAIR = 1 };
/* state: DOMAIN_STATE_*, text: why (attached, detached, started, stopped, ...) */
enum {
    EVENT_LIFECYCLE = 0,
    EVENT_JOB_STATE = 1,     /* state: JOB_STATE_*; text: the error of a failed job */
    EVENT_JOB_DISK = 2,      /* one disk's state; disk: target; text: error or reason */
    EVENT_PROGRESS = 3,      /* bytes, total, rate of a job; disk "" = whole job */
    EVENT_JOB_COMPLETED = 4, /* the whole job has ended and everything is released; state: how */
    /* text: something a person should know (scratch nearly full, point in time broken ...) */
    EVENT_WARNING = 5,
    /* from the library itself, to all: state: CONNECTION_*; text: why */
    EVENT_CONNECTION = 6,
    EVENT_KINDS
};
