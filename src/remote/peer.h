/* What server.c, peer.c and calls-*.c share: one peer, one call in work, one row of a program. */
#pragma once
#include "remote/codec.h"
#include "remote/error-map.h"
#include "remote/link.h"
#include "remote/server.h"
#include "remote/turns.h"

typedef struct _Peer Peer;
typedef struct _Call Call;
/* What a worker runs; the first field of whatever is given to one. */
typedef void (*WorkFunc) (Server *server, gpointer work);

enum {
    PROCEDURE_OPEN = 8 /* legal before the connection is open */,
    PROCEDURE_OPENS = 16 /* and opens it */,
    PROCEDURE_TRY =
        32, /* slow, but mostly its answer is at hand: a worker has it only when it is not */
    PROCEDURE_FDS = 64 /* descriptors come with it */
};

/* One row: everything that is checked before run() is in it. */
typedef struct {
    gint32 number;
    const char *name;
    guint flags; /* CallFlags, PROCEDURE_OPEN */
    CallVerb verb;
    gsize args_size, ret_size;
    gsize domain; /* where in the arguments libvirt's domain is, and 1; 0: there is none */
    CodecFunc args_codec, ret_codec;
    /* Runs on the server's context, or on a worker when CALL_SLOW. NULL: the driver does it, by id.
     */
    gboolean (*run) (Call *call, GError **error);
    CallId id; /* rows of our own program */
} Procedure;

typedef struct {
    guint32 number, version;
    const Procedure *(*find) (gint32 procedure); /* NULL: unknown */
    const Procedure *rows;                       /* all, for tests and fuzzers */
    guint count;
    /* Tells of an event: to one peer that may see the guest, or to all at once; one of them is
     * NULL.
     */
    void (*tell_peer) (Peer *peer, const bak_event *event);
    void (*tell_all) (Server *server, const bak_event *event);
} Program;

typedef struct {
    int id; /* the peer knows it by this */
    guint32 program;
    int kind;     /* event kind of that program; -1: all */
    char *domain; /* "": all; our program: name, libvirt's: uuid */
} Registration;

struct _Peer {
    Server *server;
    gint refs;      /* atomic */
    guint64 number; /* for logs */
    Link *link;
    Identity *identity;
    gboolean readonly, opened, keepalive;
    guint pings;   /* unanswered */
    gint gone;     /* atomic */
    guint in_work; /* calls */
    gboolean throttled;
    User *user;
    gsize kept;            /* bytes of a packet that is not whole */
    gint64 since;          /* monotonic */
    GArray *registrations; /* Registration; NULL: none */
    Passed *passed;        /* sockets that it has handed over */
    GList *node;           /* in the server's list */
};

struct _Call {
    WorkFunc work;
    gint turn; /* atomic: handed over between context and worker */
    Peer *peer;
    FrameHeader header;
    const Procedure *procedure;
    char *guest;   /* whose calls it waits with, by name where that is known; NULL */
    char *subject; /* for the audit line: the guest it is about; NULL */
    gpointer args, ret;
    /* set by run(): not finished, run again at an event of a job or at this monotonic time */
    gint64 park_until;
    gint64 deadline;        /* run()'s own */
    guint park_stamp;       /* the server's count of job events before run() looked */
    gboolean queued;        /* a worker has it */
    gboolean closes;        /* the peer goes away after the reply */
    gboolean trying;        /* on the context: nothing may be waited for */
    gboolean unknown;       /* when tried: something would have to be */
    GList *node;            /* in the parked list */
    Turn wait;              /* while it waits for a worker or has one */
    gsize bytes;            /* that its user was charged */
    int fds[FRAME_FDS_MAX]; /* that came with it */
    guint n_fds;
};

/* peer.c */
/* What one thread did to the call before it handed it on, the other sees (GLib's queues see to that
 * too, but thread sanitizers cannot look into them). */
static inline void call_hand_over (Call *call)
{
    g_atomic_int_inc (&call->turn);
}
static inline void call_take_over (Call *call)
{
    g_atomic_int_get (&call->turn);
}
void peer_add (Server *server, Link *link, Identity *identity, gboolean readonly);
void peer_unref (Peer *peer);
gboolean peer_is_gone (Peer *peer); /* any thread */
extern const LinkFuncs peer_link_funcs;
void peer_send_message (Peer *peer, guint32 program, guint32 version, gint32 procedure,
                        CodecFunc codec, const void *data);
void peer_drop (Peer *peer, const char *fault); /* closes, and says why in the log */
void peer_sweep (Peer *peer, gint64 now);       /* keepalive, half packets, slow readers */
void call_finish (Call *call, gboolean ok, GError *error); /* any thread; takes error and call */
/* For run(), while the call is only tried: what is at hand of a guest, or FALSE, and a worker runs
 * it again. */
gboolean call_peek (Call *call, const char *guest, DriverPeek *ret, GError **error);
/* The connection is open now; limits are those of an opened one. */
void peer_open (Peer *peer, gboolean readonly);
/* A registration of this peer; -1 on failure. */
int peer_register (Peer *peer, guint32 program, int kind, const char *domain, GError **error);
gboolean peer_deregister (Peer *peer, guint32 program, int id, GError **error);
/* The call's procedure, on behalf of its peer. */
gboolean call_perform (Call *call, GError **error);
gboolean peer_may (Peer *peer, const char *guest, CallVerb verb);

/* server.c */
const ServerLimits *server_limits (const Server *server);
void server_queue_call (Server *server, Call *call);         /* to a worker */
void server_keeps (Server *server, Peer *peer, gsize bytes); /* of a packet that is not whole */
/* What a call's arguments take until it is done. BAK_ERROR_BUSY: too much, and not charged. */
gboolean server_charge_call (Server *server, Call *call, gsize bytes, GError **error);
void server_discharge_call (Server *server, Call *call);
void server_forget_user (Server *server, User *user);
/* Other work than calls: *work begins with its WorkFunc, which ends with server_work_done; func
 * runs on the context. */
void server_run_work (Server *server, gpointer work);
void server_work_done (Server *server, WorkFunc func, gpointer data);
void server_each_peer (Server *server, void (*func) (Peer *peer, gpointer data), gpointer data);
bak_event *event_dup (const bak_event *event);
void server_peer_opened (Server *server, Peer *peer);
void server_peer_gone (Server *server, Peer *peer);
void server_call_done (Server *server, Call *call); /* context */
/* Is there room for another of this identity? NULL: not known yet. */
gboolean server_accepts_peer (Server *server, const Identity *identity);
void server_turns_away (Server *server, const char *who, const char *why); /* says so in the log */
void server_link_peer (Server *server, Peer *peer);
gboolean server_wants_polkit (const Server *server, const Identity *identity);
GCancellable *server_ending (Server *server); /* cancelled when the server goes */
/* Something is under way that answers on the context: the server waits for it before it goes. */
void server_work_begins (Server *server);
void server_work_ends (Server *server);
Policy *server_get_policy (Server *server); /* a reference */
gboolean server_audits (Server *server);
/* The name that a uuid had when it was last looked up: a hint, to be checked; NULL. Any thread. */
char *server_name_hint (Server *server, const char *uuid);
void server_set_name_hint (Server *server, const char *uuid, const char *name);
int server_next_id (Server *server);
GMainContext *server_context (Server *server);
guint server_job_stamp (Server *server);

/* programs */
extern const Program program_backup, program_libvirt;
/* programs.c says which a server has: ended by NULL. */
Server *server_make (DriverConn *conn, const ServerLimits *limits, const Program *const *programs);
const Program *const *server_programs (const Server *server);
