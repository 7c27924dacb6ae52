/* The remote driver: every call of the contract goes to a daemon (or a watcher) and waits for its
 * reply.
 *
 * Any number of threads may call at once; each waits for its own serial. One thread of ours reads,
 * on a context of its own and hands events on: an event function only takes note, it must not call
 * the connection. A broken connection fails what is under way with BAK_ERROR_CONNECTION; the next
 * call tries to connect again, but nothing is ever sent twice. Where somebody waits for events
 * there may be no next call: another thread makes the connection anew then, and tells when it was
 * lost and when it is there again. */
#include <rpc/rpc.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "driver/driver.h"
#include "remote/address.h"
#include "remote/codec.h"
#include "remote/error-map.h"
#include "remote/link.h"
#include "util/process.h"

enum { MAX_PACKET_OUT = 4 * 1024 * 1024 + 64 * 1024 }; /* what a server takes */
enum { RETURN_MS = 250, RETURN_MOST_MS = 5000 };       /* between two tries */
enum { KEEPALIVE_SECONDS = 5, KEEPALIVE_COUNT = 5, HELLO_SECONDS = 30 };
enum { LOOK_SECONDS = 1, SILENT_SECONDS = 2 };

CODEC (bak_event_msg)

typedef struct {
    GCond arrived;
    gboolean done;
    guint32 status;
    guint8 *payload;
    gsize length;
    GError *error; /* the connection broke */
} Pending;

typedef struct {
    int kind;
    char *domain;
    int wire_id; /* of the connection that lives now */
} Subscription;

typedef struct {
    DriverConn *conn;
    Address *address;
    GMainContext *context;
    GMainLoop *loop;
    GThread *thread;   /* reads */
    GMutex connecting; /* one thread at a time makes the connection anew */

    GMutex lock;         /* what follows */
    Link *link;          /* NULL: not connected */
    GHashTable *pending; /* serial to Pending */
    guint32 serial;
    guint pings;
    GHashTable *subscriptions; /* our id to Subscription */
    int next_id;
    gboolean stays_lost, closing;
    GThread *returning; /* makes a lost connection anew; NULL: none was ever lost */
    gboolean returns;   /* and is at it */
    GCond wake;         /* it need not wait any longer */
    int told;           /* CONNECTION_*, as the subscribers know it */
} Remote;

static void subscription_free (Subscription *subscription)
{
    g_free (subscription->domain);
    g_free (subscription);
}

/* What comes in, on the reading thread */

static void remote_reply (Remote *remote, const FrameHeader *header, const guint8 *payload,
                          gsize length)
{
    g_mutex_lock (&remote->lock);
    Pending *pending = g_hash_table_lookup (remote->pending, GUINT_TO_POINTER (header->serial));
    if (pending && !pending->done) {
        pending->done = TRUE;
        pending->status = header->status;
        pending->payload = g_memdup2 (payload, length);
        pending->length = length;
        g_cond_signal (&pending->arrived);
    }
    g_mutex_unlock (&remote->lock);
}

static void remote_event (Remote *remote, const guint8 *payload, gsize length)
{
    bak_event_msg message = { 0 };
    g_autoptr (GError) error = NULL;
    if (!codec_decode (codec_bak_event_msg, payload, length, &message, sizeof message, &error)) {
        g_warning ("an event of %s cannot be read: %s", remote->address->label, error->message);
        return;
    }
    driver_conn_emit (remote->conn, &message.event);
    codec_clear (codec_bak_event_msg, &message, sizeof message);
}

static void remote_keepalive (Link *link, gint32 what)
{
    FrameHeader header = {
        .program = PROGRAM_KEEPALIVE, .version = 1, .procedure = what, .type = FRAME_MESSAGE
    };
    GByteArray *packet = g_byte_array_new ();
    g_byte_array_set_size (packet, FRAME_HEADER_SIZE);
    frame_pack (&header, 0, packet->data);
    link_send (link, packet);
}

static void remote_packet (Link *link, const FrameHeader *header, const guint8 *payload,
                           gsize length, gpointer data)
{
    Remote *remote = data;
    g_mutex_lock (&remote->lock);
    remote->pings = 0;
    g_mutex_unlock (&remote->lock);
    if (header->program == PROGRAM_KEEPALIVE && header->procedure == KEEPALIVE_PING)
        remote_keepalive (link, KEEPALIVE_PONG);
    else if (header->type == FRAME_REPLY)
        remote_reply (remote, header, payload, length);
    else if (header->type == FRAME_MESSAGE && header->program == PROGRAM_BACKUP
             && header->procedure == BACKUP_EVENT)
        remote_event (remote, payload, length);
}

static gboolean has_subscribers (Remote *remote)
{
    g_mutex_lock (&remote->lock);
    gboolean anybody = !remote->closing && g_hash_table_size (remote->subscriptions) > 0;
    g_mutex_unlock (&remote->lock);
    return anybody;
}

/* Subscribers learn that they may have missed something. */
static void remote_tell_subscribers (Remote *remote, int state, const char *why)
{
    const bak_event event = { .kind = EVENT_CONNECTION,
                              .state = state,
                              .domain = (char *) "",
                              .uuid = (char *) "",
                              .job = (char *) "",
                              .disk = (char *) "",
                              .text = (char *) why,
                              .when = g_get_real_time () };
    g_mutex_lock (&remote->lock);
    gboolean news =
        remote->told != state && !remote->closing && g_hash_table_size (remote->subscriptions) > 0;
    if (news)
        remote->told = state;
    g_mutex_unlock (&remote->lock);
    if (news)
        driver_conn_emit (remote->conn, &event);
}

static Link *remote_connect (Remote *remote, GError **error);

/* TRUE: that long has passed; FALSE: the connection is being closed. */
static gboolean wait_to_return (Remote *remote, guint milliseconds)
{
    gint64 until = g_get_monotonic_time () + milliseconds * (gint64) 1000;
    g_mutex_lock (&remote->lock);
    while (!remote->closing && g_cond_wait_until (&remote->wake, &remote->lock, until))
        ;
    gboolean go_on = !remote->closing;
    g_mutex_unlock (&remote->lock);
    return go_on;
}

/* It ends with the connection made, unless that has broken again meanwhile. */
static gboolean has_returned (Remote *remote)
{
    gboolean wanted = has_subscribers (remote);
    g_mutex_lock (&remote->lock);
    gboolean ends = !wanted || remote->link;
    remote->returns = !ends;
    g_mutex_unlock (&remote->lock);
    return ends;
}

static gpointer remote_return (gpointer data)
{
    Remote *remote = data;
    for (guint wait = RETURN_MS; !has_returned (remote); wait = MIN (2 * wait, RETURN_MOST_MS))
        if (wait_to_return (remote, wait))
            link_unref (remote_connect (remote, NULL));
    return NULL;
}

/* On the reading thread. */
static void remote_come_back (Remote *remote)
{
    if (remote->stays_lost || !has_subscribers (remote))
        return;
    g_mutex_lock (&remote->lock);
    GThread *ended = remote->returns ? NULL : g_steal_pointer (&remote->returning);
    g_mutex_unlock (&remote->lock);
    if (ended)
        g_thread_join (ended);
    g_mutex_lock (&remote->lock);
    if (!remote->returns && !remote->closing) {
        remote->returns = TRUE;
        remote->returning = g_thread_new ("bak-return", remote_return, remote);
    }
    g_mutex_unlock (&remote->lock);
}

static void remote_closed (Link *link, const GError *error, gpointer data)
{
    Remote *remote = data;
    GHashTableIter iter;
    gpointer value;
    g_autofree char *why =
        g_strdup_printf (_("the connection to %s broke: %s"), remote->address->label,
                         error ? error->message : _("it was closed"));
    g_mutex_lock (&remote->lock);
    gboolean ours = remote->link == link;
    if (ours) {
        remote->link = NULL;
        g_atomic_int_set (&remote->conn->broken, TRUE);
        g_hash_table_iter_init (&iter, remote->pending);
        while (g_hash_table_iter_next (&iter, NULL, &value)) {
            Pending *pending = value;
            if (pending->done)
                continue;
            pending->done = TRUE;
            pending->error = g_error_new_literal (
                BAK_ERROR, error && error->domain == BAK_ERROR ? error->code : BAK_ERROR_CONNECTION,
                why);
            g_cond_signal (&pending->arrived);
        }
    }
    g_mutex_unlock (&remote->lock);
    if (ours) {
        remote_tell_subscribers (remote, CONNECTION_LOST, why);
        remote_come_back (remote);
        link_unref (link);
    }
}

static const LinkFuncs link_funcs = { .packet = remote_packet, .closed = remote_closed };

/* While somebody waits, silence is asked about; a daemon that does not answer is given up. */
static gboolean remote_tick (gpointer data)
{
    Remote *remote = data;
    g_mutex_lock (&remote->lock);
    Link *link = remote->link ? link_ref (remote->link) : NULL;
    gboolean waiting =
        g_hash_table_size (remote->pending) > 0 || g_hash_table_size (remote->subscriptions) > 0;
    gboolean silent = link
                      && g_get_monotonic_time () - link_last_input (link)
                             > KEEPALIVE_SECONDS * G_USEC_PER_SEC / 2;
    guint pings = remote->pings;
    if (waiting && silent)
        remote->pings++;
    g_mutex_unlock (&remote->lock);
    if (waiting && silent && pings >= KEEPALIVE_COUNT) {
        g_autoptr (GError) error =
            g_error_new (BAK_ERROR, BAK_ERROR_CONNECTION, _("it does not answer keepalive"));
        link_close (link, error);
    } else if (waiting && silent) {
        remote_keepalive (link, KEEPALIVE_PING);
    }
    link_unref (link);
    return G_SOURCE_CONTINUE;
}

/* 0: on another host, or it cannot be seen */
static pid_t peer_of (Link *link)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    int fd = link_fd (link);
    return fd >= 0 && getsockopt (fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.pid : 0;
}

/* Keepalive takes its time, as who is slow must be let. Who has been stopped is not slow. */
static gboolean remote_look (gpointer data)
{
    Remote *remote = data;
    g_mutex_lock (&remote->lock);
    const gboolean waiting = remote->link && g_hash_table_size (remote->pending) > 0;
    Link *link = waiting ? link_ref (remote->link) : NULL;
    g_mutex_unlock (&remote->lock);
    const gboolean silent =
        link && g_get_monotonic_time () - link_last_input (link) > SILENT_SECONDS * G_USEC_PER_SEC;
    pid_t pid = silent ? peer_of (link) : 0;
    if (pid > 0 && process_is_stopped (pid)) {
        g_autoptr (GError) error = g_error_new (
            BAK_ERROR, BAK_ERROR_MONITOR_HELD,
            _("process %d there is stopped, by a signal or a debugger: 'kill -CONT %d' lets it go "
               "on, 'kill -KILL %d' ends it, and the next command takes its work over"),
            (int) pid, (int) pid, (int) pid);
        link_close (link, error);
    }
    link_unref (link);
    return G_SOURCE_CONTINUE;
}

static gpointer remote_thread (gpointer data)
{
    Remote *remote = data;
    g_main_context_push_thread_default (remote->context);
    g_main_loop_run (remote->loop);
    g_main_context_pop_thread_default (remote->context);
    return NULL;
}

/* Calls */

static void pending_take (Remote *remote, guint32 serial, Pending *pending)
{
    g_hash_table_remove (remote->pending, GUINT_TO_POINTER (serial));
    g_cond_clear (&pending->arrived);
}

static gboolean read_reply (const CallRow *row, Pending *pending, void *ret, GError **error)
{
    if (pending->error) {
        g_propagate_error (error, g_steal_pointer (&pending->error));
        return FALSE;
    }
    if (pending->status == FRAME_OK)
        return codec_decode (row->ret_codec, pending->payload, pending->length, ret, row->ret_size,
                             error)
               || error_note (error, _("the reply to %s"), row->name);
    rpc_error wire = { 0 };
    if (!codec_decode (rpc_error_codec, pending->payload, pending->length, &wire, sizeof wire,
                       error))
        return error_note (error, _("the error reply to %s"), row->name);
    if (row == &call_rows[CALL_ID_hello] && rpc_error_is_unknown_program (&wire))
        error_set (
            error, BAK_ERROR_CONNECTION,
            _("a libvirtd answers there, not libbackupd; open its guests with libvirt+URI"));
    else
        rpc_error_to (&wire, error);
    codec_clear (rpc_error_codec, &wire, sizeof wire);
    return FALSE;
}

/* One call on a link that is known. deadline 0: as long as the link lives (keepalive watches it).
 */
static gboolean remote_exchange (Remote *remote, Link *link, const CallRow *row, const void *args,
                                 void *ret, gint64 deadline, GError **error)
{
    Pending pending = { 0 };
    const bak_fds_args *passing = row == &call_rows[CALL_ID_fd_associate] ? args : NULL;
    const int *fds = passing ? passing->fds.fds_val : NULL;
    guint n_fds = passing ? passing->fds.fds_len : 0;
    FrameHeader header = { .program = PROGRAM_BACKUP,
                           .version = 1,
                           .procedure = row->number,
                           .type = passing ? FRAME_CALL_FDS : FRAME_CALL };
    GByteArray *packet = g_byte_array_sized_new (128);
    g_byte_array_set_size (packet, FRAME_HEADER_SIZE + (passing ? 4 : 0));
    if (passing)
        frame_pack_count (n_fds, packet->data + FRAME_HEADER_SIZE);
    if (!codec_encode (row->args_codec, args, packet, MAX_PACKET_OUT, error)) {
        g_byte_array_unref (packet);
        return error_note (error, "%s", row->name);
    }
    g_cond_init (&pending.arrived);
    g_mutex_lock (&remote->lock);
    header.serial = remote->serial++;
    g_hash_table_insert (remote->pending, GUINT_TO_POINTER (header.serial), &pending);
    frame_pack (&header, packet->len - FRAME_HEADER_SIZE, packet->data);
    g_mutex_unlock (&remote->lock);

    gboolean sent = link_send_fds (link, packet, fds, n_fds), in_time = TRUE;
    g_mutex_lock (&remote->lock);
    while (sent && !pending.done && in_time) {
        if (deadline)
            in_time = g_cond_wait_until (&pending.arrived, &remote->lock, deadline);
        else
            g_cond_wait (&pending.arrived, &remote->lock);
    }
    pending_take (remote, header.serial, &pending);
    g_mutex_unlock (&remote->lock);

    gboolean ok;
    if (!sent)
        g_atomic_int_inc (&remote->conn->unsent);
    else if (!pending.done || pending.error)
        g_atomic_int_inc (&remote->conn->lost);
    if (pending.done)
        ok = read_reply (row, &pending, ret, error);
    else
        ok = error_set (error, BAK_ERROR_CONNECTION,
                        sent ? _("%s does not answer") : _("the connection to %s broke"),
                        remote->address->label);
    g_free (pending.payload);
    g_clear_error (&pending.error);
    return ok;
}

static gboolean remote_hello (Remote *remote, Link *link, GError **error)
{
    bak_hello_args args = { .uri = remote->conn->uri,
                            .api = 1,
                            .readonly = remote->conn->readonly };
    bak_hello_ret ret = { 0 };
    gint64 deadline = g_get_monotonic_time () + HELLO_SECONDS * G_USEC_PER_SEC;
    if (!remote_exchange (remote, link, &call_rows[CALL_ID_hello], &args, &ret, deadline, error))
        return FALSE;
    call_clear_ret (CALL_ID_hello, &ret);
    return TRUE;
}

/* The registrations of the connection that was lost. */
static gboolean remote_subscribe_again (Remote *remote, Link *link, GError **error)
{
    g_mutex_lock (&remote->lock);
    g_autoptr (GList) ids = g_hash_table_get_keys (remote->subscriptions);
    g_mutex_unlock (&remote->lock);
    for (GList *node = ids; node; node = node->next) {
        bak_register_args args = { 0 };
        bak_register_ret ret = { 0 };
        g_mutex_lock (&remote->lock);
        Subscription *subscription = g_hash_table_lookup (remote->subscriptions, node->data);
        g_autofree char *domain = subscription ? g_strdup (subscription->domain) : NULL;
        if (subscription)
            args = (bak_register_args){ .kind = subscription->kind, .domain = domain };
        g_mutex_unlock (&remote->lock);
        if (!domain)
            continue;
        if (!remote_exchange (remote, link, &call_rows[CALL_ID_event_register], &args, &ret, 0,
                              error))
            return FALSE;
        g_mutex_lock (&remote->lock);
        subscription = g_hash_table_lookup (remote->subscriptions, node->data);
        if (subscription)
            subscription->wire_id = ret.id;
        g_mutex_unlock (&remote->lock);
    }
    return TRUE;
}

typedef struct {
    Remote *remote;
    Link *link;
} Way;

static gboolean pass_again (const char *guest, const char *group, const int *fds, guint n_fds,
                            gpointer data, GError **error)
{
    const Way *way = data;
    bak_none none = { 0 };
    const bak_fds_args args = { .domain = (char *) guest,
                                .name = (char *) group,
                                .fds = { .fds_len = n_fds, .fds_val = (int *) fds } };
    return remote_exchange (way->remote, way->link, &call_rows[CALL_ID_fd_associate], &args, &none,
                            0, error);
}

/* The sockets that were passed on the connection that was lost. */
static gboolean remote_pass_again (Remote *remote, Link *link, GError **error)
{
    Way way = { remote, link };
    return passed_each (g_atomic_pointer_get (&remote->conn->passed), NULL, pass_again, &way,
                        error);
}

/* On this host it goes from process to process, and over no network. */
static gboolean can_pass (const Remote *remote, GError **error)
{
    return remote->address->kind == ADDRESS_UNIX
           || error_set (error, BAK_ERROR_NOT_SUPPORTED,
                         _("%s: a descriptor cannot be passed over %s, only over a unix socket of "
                            "this host; use <server transport='unix'> or 'tcp'"),
                         remote->address->label,
                         remote->address->kind == ADDRESS_SSH ? "ssh" : "TLS");
}

static gboolean close_link (gpointer link)
{
    link_close (link, NULL);
    return G_SOURCE_REMOVE;
}

static void remote_drop_link (Remote *remote, Link *link)
{
    g_main_context_invoke_full (remote->context, G_PRIORITY_DEFAULT, close_link, link_ref (link),
                                (GDestroyNotify) link_unref);
}

static Link *remote_get_link (Remote *remote)
{
    g_mutex_lock (&remote->lock);
    Link *link = remote->link ? link_ref (remote->link) : NULL;
    g_mutex_unlock (&remote->lock);
    return link;
}

/* The living link, or a new one. The caller unrefs it. */
static Link *remote_connect (Remote *remote, GError **error)
{
    g_autoptr (GMutexLocker) locker = g_mutex_locker_new (&remote->connecting);
    Link *link = remote_get_link (remote);
    g_autoptr (GIOStream) stream = NULL;
    int fd = -1;
    if (link)
        return link;
    if (!address_connect (remote->address, remote->conn->readonly, &fd, &stream, error))
        return NULL;
    link = stream ? link_new_stream (stream, remote->context, &link_funcs)
                  : link_new_fds (fd, fd, remote->context, &link_funcs);
    g_mutex_lock (&remote->lock);
    remote->link = link;
    remote->pings = 0;
    g_atomic_int_set (&remote->conn->broken, FALSE);
    g_mutex_unlock (&remote->lock);
    link_ref (link);
    link_start (link, FRAME_MAX, remote);
    if (remote_hello (remote, link, error) && remote_subscribe_again (remote, link, error)
        && remote_pass_again (remote, link, error)) {
        g_autofree char *text =
            g_strdup_printf (_("the connection to %s is there again"), remote->address->label);
        remote_tell_subscribers (remote, CONNECTION_RESTORED, text);
        return link;
    }
    error_note (error, "%s", remote->address->label);
    remote_drop_link (remote, link);
    link_unref (link);
    return NULL;
}

/* Our own ids live as long as the DriverConn, the wire's as long as one connection. */
static gboolean remote_register (Remote *remote, const bak_register_args *args,
                                 bak_register_ret *ret)
{
    Subscription *subscription = g_new0 (Subscription, 1);
    subscription->kind = args->kind;
    subscription->domain = g_strdup (args->domain);
    subscription->wire_id = ret->id;
    g_mutex_lock (&remote->lock);
    ret->id = ++remote->next_id;
    g_hash_table_insert (remote->subscriptions, GINT_TO_POINTER (ret->id), subscription);
    g_mutex_unlock (&remote->lock);
    return TRUE;
}

static gboolean remote_deregister (Remote *remote, const bak_deregister_args *args,
                                   bak_deregister_args *ret_wire, GError **error)
{
    g_mutex_lock (&remote->lock);
    Subscription *subscription =
        g_hash_table_lookup (remote->subscriptions, GINT_TO_POINTER (args->id));
    gboolean known = subscription != NULL;
    if (known)
        ret_wire->id = subscription->wire_id;
    g_hash_table_remove (remote->subscriptions, GINT_TO_POINTER (args->id));
    g_mutex_unlock (&remote->lock);
    return known
           || error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("no event registration %d"),
                         args->id);
}

static gboolean remote_forward (DriverConn *conn, const CallRow *row, const void *args, void *ret,
                                GError **error)
{
    Remote *remote = conn->priv;
    bak_deregister_args wire = { 0 };
    gboolean is_register = row == &call_rows[CALL_ID_event_register];
    gboolean passes = row == &call_rows[CALL_ID_fd_associate];

    if (passes && !can_pass (remote, error))
        return FALSE;
    if (row == &call_rows[CALL_ID_event_deregister]) {
        if (!remote_deregister (remote, args, &wire, error))
            return FALSE;
        args = &wire;
    }
    Link *link = remote_connect (remote, error);
    if (!link)
        g_atomic_int_inc (&conn->unsent);
    gboolean ok = link && remote_exchange (remote, link, row, args, ret, 0, error);
    link_unref (link);
    return ok && (!is_register || remote_register (remote, args, ret))
           && (!passes || driver_fd_associate (conn, args, ret, error));
}

static gboolean quit_loop (gpointer data)
{
    Remote *remote = data;
    Link *link = remote_get_link (remote);
    if (link)
        link_close (link, NULL);
    link_unref (link);
    g_main_loop_quit (remote->loop);
    return G_SOURCE_REMOVE;
}

static void remote_free (Remote *remote)
{
    g_mutex_lock (&remote->lock);
    remote->closing = TRUE;
    g_cond_signal (&remote->wake);
    GThread *returning = g_steal_pointer (&remote->returning);
    g_mutex_unlock (&remote->lock);
    if (returning)
        g_thread_join (returning);
    g_main_context_invoke (remote->context, quit_loop, remote);
    g_thread_join (remote->thread);
    g_main_loop_unref (remote->loop);
    g_main_context_unref (remote->context);
    g_hash_table_unref (remote->pending);
    g_hash_table_unref (remote->subscriptions);
    address_free (remote->address);
    g_mutex_clear (&remote->lock);
    g_mutex_clear (&remote->connecting);
    g_cond_clear (&remote->wake);
    g_free (remote);
}

static Remote *remote_new (DriverConn *conn, Address *address)
{
    Remote *remote = g_new0 (Remote, 1);
    remote->conn = conn;
    remote->address = address;
    remote->context = g_main_context_new ();
    remote->loop = g_main_loop_new (remote->context, FALSE);
    remote->pending = g_hash_table_new (NULL, NULL);
    remote->subscriptions =
        g_hash_table_new_full (NULL, NULL, NULL, (GDestroyNotify) subscription_free);
    g_mutex_init (&remote->lock);
    g_mutex_init (&remote->connecting);
    g_cond_init (&remote->wake);
    remote->told = CONNECTION_RESTORED;
    g_autoptr (GSource) tick = g_timeout_source_new_seconds (KEEPALIVE_SECONDS);
    g_source_set_callback (tick, remote_tick, remote, NULL);
    g_source_attach (tick, remote->context);
    g_autoptr (GSource) look = g_timeout_source_new_seconds (LOOK_SECONDS);
    g_source_set_callback (look, remote_look, remote, NULL);
    g_source_attach (look, remote->context);
    remote->thread = g_thread_new ("bak-remote", remote_thread, remote);
    return remote;
}

static gboolean remote_open (DriverConn *conn, const DriverOpenOptions *options, GError **error)
{
    Address *address;
    if (options->daemon_socket)
        address = address_for_socket (options->daemon_socket);
    else
        address = address_parse (conn->uri, error);
    if (!address)
        return FALSE;
    Remote *remote = remote_new (conn, address);
    remote->stays_lost = options->stays_lost;
    conn->priv = remote;
    Link *link = remote_connect (remote, error);
    if (!link) {
        remote_free (remote);
        conn->priv = NULL;
        return FALSE;
    }
    link_unref (link);
    return TRUE;
}

static void remote_close (DriverConn *conn)
{
    remote_free (conn->priv);
    conn->priv = NULL;
}

const DriverOps remote_driver = {
    .name = "remote",
    .probe = address_is_ours,
    .open = remote_open,
    .close = remote_close,
    .forward = remote_forward,
};
