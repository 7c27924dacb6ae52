#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib-unix.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "remote/address.h"
#include "remote/peer.h"

const ServerLimits server_default_limits = {
    .max_peers = 5000,
    .max_anonymous = 500,
    .max_in_work = 5,
    .max_workers = 64,
    .max_per_guest = 8,
    .open_seconds = 10,
    .half_seconds = 30,
    .slow_rate = 64 * 1024,
    .max_user_bytes = 32 * 1024 * 1024,
    .max_bytes = 128 * 1024 * 1024,
    .max_queued = 4 * 1024 * 1024,
};

enum { BACKLOG = 1024 };
enum {
    SWEEP_SECONDS = 5,
    SHARE = 4 /* of the places for connections: what one user may have */,
    COMPLAIN_SECONDS = 1,
    OTHER_WORK = 8 /* threads for what is no call */,
    SMALL_CALL = 4096 /* bytes: never refused, their number is bounded by that of the peers */
};

typedef struct {
    Server *server;
    int fd;
    ListenKind kind;
    GSource *source;
} Listener;

struct _Server {
    DriverConn *conn;
    const Program *const *programs;
    ServerLimits limits;
    GMainContext *context;
    GPtrArray *listeners;
    GQueue peers; /* Peer* */
    guint anonymous;
    guint64 peers_ever;
    guint turned_away; /* since complained */
    gint64 complained; /* monotonic */
    GSource *sweep;
    GThreadPool *workers;
    Turns *turns;
    GSource *turn_timer;
    guint in_work; /* calls given to workers */
    GQueue parked; /* Call* */
    GSource *park_timer;
    gint job_stamp; /* atomic: events about jobs so far */
    gint next_id;
    Policy *policy;
    GMutex policy_lock;
    GHashTable *names; /* uuid to name; under names_lock */
    GMutex names_lock;
    gint audit;
    char *polkit_group; /* NULL: polkit is not asked */
    GCancellable *ending;
    ServerNotifyFunc notify;
    gpointer notify_data;

    GMutex event_lock;
    GQueue events; /* bak_event*, from any thread */
    gboolean event_posted;
};

static void server_parked_look (Server *server, gboolean all);

static void listener_free (Listener *listener)
{
    g_source_destroy (listener->source);
    g_source_unref (listener->source);
    close (listener->fd);
    g_free (listener);
}

static void event_free (bak_event *event)
{
    bak_event_clear (event);
    g_free (event);
}

/* Accessors */

const ServerLimits *server_limits (const Server *server)
{
    return &server->limits;
}
GMainContext *server_context (Server *server)
{
    return server->context;
}
DriverConn *server_get_conn (Server *server)
{
    return server->conn;
}
guint server_count_peers (const Server *server)
{
    return server->peers.length;
}
guint server_count_calls (const Server *server)
{
    return server->in_work + turns_waiting (server->turns) + server->parked.length;
}
guint server_job_stamp (Server *server)
{
    return g_atomic_int_get (&server->job_stamp);
}
int server_next_id (Server *server)
{
    return g_atomic_int_add (&server->next_id, 1);
}
void server_set_audit (Server *server, gboolean on)
{
    g_atomic_int_set (&server->audit, on);
}
gboolean server_audits (Server *server)
{
    return g_atomic_int_get (&server->audit);
}

void server_set_polkit (Server *server, const char *group)
{
    g_free (server->polkit_group);
    server->polkit_group = g_strdup (group);
}

gboolean server_wants_polkit (const Server *server, const Identity *identity)
{
    return server->polkit_group && identity->kind == IDENTITY_LOCAL
           && !identity_in_group (identity, server->polkit_group);
}

GCancellable *server_ending (Server *server)
{
    return server->ending;
}

void server_set_policy (Server *server, Policy *policy)
{
    g_mutex_lock (&server->policy_lock);
    policy_unref (server->policy);
    server->policy = policy_ref (policy);
    g_mutex_unlock (&server->policy_lock);
}

Policy *server_get_policy (Server *server)
{
    g_mutex_lock (&server->policy_lock);
    Policy *policy = policy_ref (server->policy);
    g_mutex_unlock (&server->policy_lock);
    return policy;
}

char *server_name_hint (Server *server, const char *uuid)
{
    g_mutex_lock (&server->names_lock);
    char *name = g_strdup (g_hash_table_lookup (server->names, uuid));
    g_mutex_unlock (&server->names_lock);
    return name;
}

void server_set_name_hint (Server *server, const char *uuid, const char *name)
{
    g_mutex_lock (&server->names_lock);
    if (g_hash_table_size (server->names) >= BAK_DOMAINS_MAX)
        g_hash_table_remove_all (server->names);
    g_hash_table_replace (server->names, g_strdup (uuid), g_strdup (name));
    g_mutex_unlock (&server->names_lock);
}

void server_set_notify (Server *server, ServerNotifyFunc func, gpointer data)
{
    server->notify = func;
    server->notify_data = data;
}

static void server_notify (Server *server, const bak_event *event)
{
    if (server->notify)
        server->notify (server, event, server->notify_data);
}

/* Events: any thread puts them into a queue, the context fans them out */

bak_event *event_dup (const bak_event *event)
{
    bak_event *copy = g_new0 (bak_event, 1);
    bak_event_copy (event, copy);
    return copy;
}

static void server_fan_out (Server *server, const bak_event *event)
{
    for (GList *node = server->peers.head, *next; node; node = next) {
        Peer *peer = node->data;
        next = node->next;
        if (!peer->registrations || !peer_may (peer, event->domain, VERB_SEE))
            continue;
        if (link_queued (peer->link) > server->limits.max_queued) {
            g_message ("peer %" G_GUINT64_FORMAT " does not read its events: dropped",
                       peer->number);
            link_close (peer->link, NULL);
            continue;
        }
        for (guint i = 0; server->programs[i]; i++)
            if (server->programs[i]->tell_peer)
                server->programs[i]->tell_peer (peer, event);
    }
    for (guint i = 0; server->programs[i]; i++)
        if (server->programs[i]->tell_all)
            server->programs[i]->tell_all (server, event);
    if (event->kind == EVENT_JOB_STATE || event->kind == EVENT_JOB_COMPLETED)
        server_parked_look (server, FALSE);
    server_notify (server, event);
}

static gboolean server_drain_events (gpointer data)
{
    Server *server = data;
    for (;;) {
        g_mutex_lock (&server->event_lock);
        bak_event *event = g_queue_pop_head (&server->events);
        server->event_posted = event != NULL;
        g_mutex_unlock (&server->event_lock);
        if (!event)
            return G_SOURCE_REMOVE;
        server_fan_out (server, event);
        event_free (event);
    }
}

static void server_event (DriverConn *conn, const bak_event *event, gpointer data)
{
    Server *server = data;
    if (event->kind == EVENT_JOB_STATE || event->kind == EVENT_JOB_COMPLETED)
        g_atomic_int_inc (&server->job_stamp);
    g_mutex_lock (&server->event_lock);
    g_queue_push_tail (&server->events, event_dup (event));
    gboolean post = !server->event_posted;
    server->event_posted = TRUE;
    g_mutex_unlock (&server->event_lock);
    if (post) {
        GSource *source = g_idle_source_new ();
        g_source_set_priority (source, G_PRIORITY_DEFAULT);
        g_source_set_callback (source, server_drain_events, server, NULL);
        g_source_attach (source, server->context);
        g_source_unref (source);
    }
}

/* Workers */

static void server_work_call (Server *server, gpointer data);

static void server_start_call (Server *server, Call *call)
{
    call->queued = TRUE;
    call->work = server_work_call;
    call->park_stamp = server_job_stamp (server);
    server->in_work++;
    call_hand_over (call);
    g_thread_pool_push (server->workers, call, NULL);
}

static void server_give_turns (Server *server);

static gboolean server_turn_timeout (gpointer data)
{
    server_give_turns (data);
    return G_SOURCE_REMOVE;
}

static void source_stop (GSource **source)
{
    if (*source)
        g_source_destroy (*source);
    g_clear_pointer (source, g_source_unref);
}

/* One timer for the next that becomes stuck: nothing else tells that others may go on. */
static void server_arm_turn_timer (Server *server)
{
    gint64 now = g_get_monotonic_time (), when = turns_look_again (server->turns, now);
    source_stop (&server->turn_timer);
    if (when == 0)
        return;
    server->turn_timer = g_timeout_source_new (MAX (0, (when - now) / 1000 + 1));
    g_source_set_callback (server->turn_timer, server_turn_timeout, server, NULL);
    g_source_attach (server->turn_timer, server->context);
}

static void server_give_turns (Server *server)
{
    Turn *turn;
    while ((turn = turns_next (server->turns, g_get_monotonic_time ())))
        server_start_call (server, turn->data);
    server_arm_turn_timer (server);
}

void server_queue_call (Server *server, Call *call)
{
    call->wait = (Turn){ .user = call->peer->user, .guest = call->guest, .data = call };
    turns_add (server->turns, &call->wait);
    server_give_turns (server);
}

/* A worker has finished with this call (it may run again later). */
static void server_leave_queue (Server *server, Call *call)
{
    if (!call->queued)
        return;
    call->queued = FALSE;
    server->in_work--;
    turns_done (server->turns, &call->wait);
    server_give_turns (server);
}

static gboolean server_park_timeout (gpointer data)
{
    server_parked_look (data, FALSE);
    return G_SOURCE_REMOVE;
}

/* One timer for the earliest of the parked calls. */
static void server_arm_park_timer (Server *server)
{
    gint64 earliest = G_MAXINT64;
    for (GList *node = server->parked.head; node; node = node->next)
        earliest = MIN (earliest, ((Call *) node->data)->park_until);
    source_stop (&server->park_timer);
    if (earliest == G_MAXINT64)
        return;
    server->park_timer =
        g_timeout_source_new (MAX (0, (earliest - g_get_monotonic_time ()) / 1000 + 1));
    g_source_set_callback (server->park_timer, server_park_timeout, server, NULL);
    g_source_attach (server->park_timer, server->context);
}

static void server_unpark (Server *server, Call *call)
{
    g_queue_delete_link (&server->parked, call->node);
    call->node = NULL;
    if (peer_is_gone (call->peer))
        call_finish (call, FALSE,
                     g_error_new (BAK_ERROR, BAK_ERROR_CONNECTION, "the peer is gone"));
    else
        server_queue_call (server, call);
}

static void server_parked_look (Server *server, gboolean all)
{
    gint64 now = g_get_monotonic_time ();
    for (GList *node = server->parked.head, *next; node; node = next) {
        Call *call = node->data;
        next = node->next;
        if (all || call->park_until <= now || call->park_stamp != server_job_stamp (server)
            || peer_is_gone (call->peer))
            server_unpark (server, call);
    }
    server_arm_park_timer (server);
}

/* On the context, when a worker has looked and the call is not done yet. */
static gboolean server_park (gpointer data)
{
    Call *call = data;
    Server *server = call->peer->server;
    call_take_over (call);
    server_leave_queue (server, call);
    g_queue_push_tail (&server->parked, call);
    call->node = server->parked.tail;
    server_parked_look (server, FALSE);
    return G_SOURCE_REMOVE;
}

static void server_work_call (Server *server, gpointer data)
{
    Call *call = data;
    GError *error = NULL;
    call_take_over (call);
    call->park_until = 0;
    gboolean ok = peer_is_gone (call->peer)
                      ? error_set (&error, BAK_ERROR_CONNECTION, "the peer is gone")
                      : call_perform (call, &error);
    if (ok && call->park_until) {
        call_hand_over (call);
        g_main_context_invoke (server->context, server_park, call);
    } else {
        call_finish (call, ok, error);
    }
}

static void server_work (gpointer data, gpointer server)
{
    (*(WorkFunc *) data) (server, data);
}

void server_run_work (Server *server, gpointer work)
{
    server->in_work++;
    g_thread_pool_push (server->workers, work, NULL);
}

typedef struct {
    Server *server;
    WorkFunc func;
    gpointer data;
} WorkDone;

static gboolean work_done (gpointer data)
{
    WorkDone *done = data;
    done->server->in_work--;
    done->func (done->server, done->data);
    g_free (done);
    return G_SOURCE_REMOVE;
}

void server_work_done (Server *server, WorkFunc func, gpointer data)
{
    WorkDone done = { .server = server, .func = func, .data = data };
    g_main_context_invoke (server->context, work_done, g_memdup2 (&done, sizeof done));
}

void server_work_begins (Server *server)
{
    server->in_work++;
}

void server_work_ends (Server *server)
{
    server->in_work--;
}

void server_each_peer (Server *server, void (*func) (Peer *peer, gpointer data), gpointer data)
{
    for (GList *node = server->peers.head, *next; node; node = next) {
        next = node->next;
        func (node->data, data);
    }
}

void server_call_done (Server *server, Call *call)
{
    server_leave_queue (server, call);
}

/* Peers */

static gboolean server_sweep (gpointer data)
{
    Server *server = data;
    gint64 now = g_get_monotonic_time ();
    for (GList *node = server->peers.head, *next; node; node = next) {
        next = node->next;
        peer_sweep (node->data, now);
    }
    if (server->peers.length > 0)
        return G_SOURCE_CONTINUE;
    g_clear_pointer (&server->sweep, g_source_unref);
    return G_SOURCE_REMOVE;
}

static User *user_of (Server *server, const Identity *identity)
{
    g_autofree char *key =
        g_strdup_printf ("%d:%d:%s", identity->kind, (int) identity->uid, identity->name);
    return turns_user (server->turns, key, identity->kind == IDENTITY_TRUSTED);
}

/* The socket for who may only look is everybody's: nobody but root and our own user shall be able
 * to shut the others out. */
static gboolean has_his_share (Server *server, const Identity *identity)
{
    if (!identity || identity->kind == IDENTITY_TRUSTED)
        return FALSE;
    User *user = user_of (server, identity);
    const UserPeers his = *user_peers (user);
    turns_user_unref (server->turns, user);
    return his.peers >= MAX (1, server->limits.max_peers / SHARE)
           || his.anonymous >= MAX (1, server->limits.max_anonymous / SHARE);
}

gboolean server_accepts_peer (Server *server, const Identity *identity)
{
    return server->peers.length < server->limits.max_peers
           && server->anonymous < server->limits.max_anonymous && !has_his_share (server, identity);
}

/* Whoever is turned away may come again at once: he shall not fill the log. */
void server_turns_away (Server *server, const char *who, const char *why)
{
    gint64 now = g_get_monotonic_time ();
    server->turned_away++;
    if (now - server->complained < COMPLAIN_SECONDS * G_USEC_PER_SEC)
        return;
    g_autofree char *more = server->turned_away > 1
                                ? g_strdup_printf (" (and %u before it)", server->turned_away - 1)
                                : g_strdup ("");
    g_message ("a connection from %s was turned away: %s%s", who, why, more);
    server->complained = now;
    server->turned_away = 0;
}

void server_link_peer (Server *server, Peer *peer)
{
    peer->number = ++server->peers_ever;
    g_queue_push_tail (&server->peers, peer);
    peer->node = server->peers.tail;
    peer->user = user_of (server, peer->identity);
    user_peers (peer->user)->peers++;
    user_peers (peer->user)->anonymous++;
    server->anonymous++;
    if (!server->sweep) {
        server->sweep = g_timeout_source_new_seconds (SWEEP_SECONDS);
        g_source_set_callback (server->sweep, server_sweep, server, NULL);
        g_source_attach (server->sweep, server->context);
    }
    server_notify (server, NULL);
}

void server_peer_opened (Server *server, Peer *peer)
{
    server->anonymous--;
    user_peers (peer->user)->anonymous--;
}

void server_peer_gone (Server *server, Peer *peer)
{
    g_queue_delete_link (&server->peers, peer->node);
    peer->node = NULL;
    user_peers (peer->user)->peers--;
    if (!peer->opened)
        server_peer_opened (server, peer);
    server_parked_look (server, FALSE);
    server_notify (server, NULL);
}

/* Memory */

/* Of this user, or of all when NULL: who has left a packet unfinished for the longest time. */
static Peer *slowest_peer (Server *server, const User *user)
{
    Peer *slowest = NULL;
    for (GList *node = server->peers.head; node; node = node->next) {
        Peer *peer = node->data;
        if (peer->kept > 0 && (!user || peer->user == user)
            && (!slowest || link_half_since (peer->link) < link_half_since (slowest->link)))
            slowest = peer;
    }
    return slowest;
}

static void server_bound_memory (Server *server, const User *user)
{
    Peer *slowest;
    while ((user_bytes (user) > server->limits.max_user_bytes
            && (slowest = slowest_peer (server, user)))
           || (turns_bytes (server->turns) > server->limits.max_bytes
               && ((slowest = slowest_peer (server, turns_largest_user (server->turns)))
                   || (slowest = slowest_peer (server, NULL)))))
        peer_drop (slowest, "leaves too much unfinished, with others of its user");
}

void server_keeps (Server *server, Peer *peer, gsize bytes)
{
    gsize before = peer->kept;
    peer->kept = bytes;
    user_charge (server->turns, peer->user, (gssize) bytes - (gssize) before);
    if (bytes > before)
        server_bound_memory (server, peer->user);
}

gboolean server_charge_call (Server *server, Call *call, gsize bytes, GError **error)
{
    User *user = call->peer->user;
    if (bytes > SMALL_CALL
        && (user_bytes (user) + bytes > server->limits.max_user_bytes
            || turns_bytes (server->turns) + bytes > server->limits.max_bytes))
        return error_set (error, BAK_ERROR_BUSY,
                          _("too many large calls of %s wait already: try again later"),
                          call->peer->identity->name);
    call->bytes = bytes;
    user_charge (server->turns, user, bytes);
    return TRUE;
}

void server_discharge_call (Server *server, Call *call)
{
    user_charge (server->turns, call->peer->user, -(gssize) call->bytes);
    call->bytes = 0;
}

void server_forget_user (Server *server, User *user)
{
    turns_user_unref (server->turns, user);
}

void server_add_peer (Server *server, int in_fd, int out_fd, Identity *identity, gboolean readonly)
{
    peer_add (server, link_new_fds (in_fd, out_fd, server->context, &peer_link_funcs), identity,
              readonly);
}

void server_add_peer_stream (Server *server, GIOStream *stream, Identity *identity,
                             gboolean readonly)
{
    peer_add (server, link_new_stream (stream, server->context, &peer_link_funcs), identity,
              readonly);
}

static void server_accept (Listener *listener, int fd)
{
    Server *server = listener->server;
    g_autoptr (GError) error = NULL;
    g_autoptr (Identity) identity = identity_from_socket (fd, &error);

    gboolean room = identity && server_accepts_peer (server, identity);
    if (!room || (listener->kind == LISTEN_PRIVATE && identity->kind != IDENTITY_TRUSTED)) {
        const char *reason = room ? "not our user" : "too many peers";
        server_turns_away (server, identity ? identity->name : "unix",
                           error ? error->message : reason);
        close (fd);
        return;
    }
    server_add_peer (server, fd, fd, g_steal_pointer (&identity), listener->kind == LISTEN_RO);
}

static gboolean listener_ready (int fd, GIOCondition condition, gpointer data)
{
    for (guint i = 0; i < 16; i++) {
        int peer = accept4 (fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (peer >= 0) {
            server_accept (data, peer);
            continue;
        }
        /* Out of descriptors: the connection stays in the backlog; do not spin on it. */
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
            g_usleep (10000);
        break;
    }
    return G_SOURCE_CONTINUE;
}

gboolean server_listen (Server *server, int fd, ListenKind kind, GError **error)
{
    if (!g_unix_set_fd_nonblocking (fd, TRUE, error)) {
        close (fd);
        return FALSE;
    }
    /* once more: who connects is told by the kernel who did that last, and looks whether he lives
     */
    if (listen (fd, BACKLOG) != 0)
        g_debug ("listen: %s", g_strerror (errno));
    Listener *listener = g_new0 (Listener, 1);
    *listener = (Listener){
        .server = server, .fd = fd, .kind = kind, .source = g_unix_fd_source_new (fd, G_IO_IN)
    };
    g_source_set_callback (listener->source, G_SOURCE_FUNC (listener_ready), listener, NULL);
    g_source_attach (listener->source, server->context);
    g_ptr_array_add (server->listeners, listener);
    return TRUE;
}

void server_stop_listening (Server *server)
{
    g_ptr_array_set_size (server->listeners, 0);
}

/* A socket file that refuses connections is a dead server's. */
static gboolean unlink_dead_socket (const char *path, GError **error)
{
    struct stat st;
    g_autoptr (GError) refused = NULL;
    if (lstat (path, &st) != 0)
        return TRUE;
    if (!S_ISSOCK (st.st_mode))
        return error_set (error, BAK_ERROR_EXISTS, _("'%s' exists and is not a socket"), path);
    int fd = unix_connect (path, &refused);
    if (fd >= 0) {
        close (fd);
        return error_set (error, BAK_ERROR_BUSY, _("another process serves '%s'"), path);
    }
    if (g_unlink (path) != 0)
        return error_set_errno (error, errno, _("cannot remove the dead socket '%s'"), path);
    return TRUE;
}

int server_bind_unix (const char *path, int mode, const char *group, GError **error)
{
    if (!unlink_dead_socket (path, error))
        return -1;
    int fd = unix_bind (path, mode, error);
    if (fd < 0)
        return -1;
    struct group *entry = group ? getgrnam (group) : NULL;
    if (entry && chown (path, -1, entry->gr_gid) != 0)
        g_message ("cannot give '%s' to the group %s: %s", path, group, g_strerror (errno));
    if (listen (fd, BACKLOG) == 0)
        return fd;
    error_set_errno (error, errno, _("cannot listen on '%s'"), path);
    close (fd);
    return -1;
}

const Program *const *server_programs (const Server *server)
{
    return server->programs;
}

Server *server_make (DriverConn *conn, const ServerLimits *limits, const Program *const *programs)
{
    Server *server = g_new0 (Server, 1);
    server->programs = programs;
    server->conn = conn;
    server->limits = limits ? *limits : server_default_limits;
    server->context = g_main_context_ref_thread_default ();
    server->listeners = g_ptr_array_new_with_free_func ((GDestroyNotify) listener_free);
    const TurnLimits turns = { .workers = server->limits.max_workers,
                               .per_guest = server->limits.max_per_guest,
                               .share = MAX (1, server->limits.max_workers / SHARE),
                               .trusted_share = MAX (1, server->limits.max_workers * 3 / 4) };
    server->turns = turns_new (&turns);
    server->workers = g_thread_pool_new (
        server_work, server, server->limits.max_workers * STUCK_FACTOR + OTHER_WORK, FALSE, NULL);
    g_thread_pool_set_max_unused_threads (2);
    g_thread_pool_set_max_idle_time (10000);
    server->policy = policy_parse (NULL, "", NULL);
    server->next_id = 1;
    server->ending = g_cancellable_new ();
    g_mutex_init (&server->policy_lock);
    g_mutex_init (&server->names_lock);
    server->names = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
    g_mutex_init (&server->event_lock);
    g_queue_init (&server->peers);
    g_queue_init (&server->parked);
    g_queue_init (&server->events);
    driver_conn_set_events (conn, server_event, server);
    return server;
}

static gboolean server_events_posted (Server *server)
{
    g_mutex_lock (&server->event_lock);
    gboolean posted = server->event_posted;
    g_mutex_unlock (&server->event_lock);
    return posted;
}

void server_free (Server *server)
{
    if (!server)
        return;
    server->notify = NULL;
    driver_conn_set_events (server->conn, NULL, NULL);
    server_stop_listening (server);
    g_cancellable_cancel (server->ending);
    while (server->peers.head)
        link_close (((Peer *) server->peers.head->data)->link, NULL);
    server_parked_look (server, TRUE);
    /* Calls that run finish (their peers are gone); their completions come to our context. */
    while (server->in_work > 0 || server_events_posted (server))
        g_main_context_iteration (server->context, TRUE);
    g_thread_pool_free (server->workers, FALSE, TRUE);
    source_stop (&server->sweep);
    source_stop (&server->park_timer);
    source_stop (&server->turn_timer);
    g_ptr_array_unref (server->listeners);
    turns_free (server->turns);
    policy_unref (server->policy);
    g_object_unref (server->ending);
    g_free (server->polkit_group);
    g_hash_table_unref (server->names);
    g_mutex_clear (&server->names_lock);
    g_mutex_clear (&server->policy_lock);
    g_mutex_clear (&server->event_lock);
    g_main_context_unref (server->context);
    g_free (server);
}
