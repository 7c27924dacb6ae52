/* One peer: what it sends is checked against the row of its procedure and run; what comes back is
 * sent. */
#include <rpc/rpc.h>
#include <string.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "remote/audit.h"
#include "remote/peer.h"
#include "remote/polkit.h"
#include "remote/table.h"

enum { MAX_PACKET_BEFORE_OPEN = 64 * 1024, MAX_PACKET = 4 * 1024 * 1024 + 64 * 1024 };
enum { MAX_REGISTRATIONS = 1024 };
enum { KEEPALIVE_SECONDS = 5, KEEPALIVE_COUNT = 5 };
/* a peer that does not read its replies is not read either */
enum { REPLIES_QUEUED_MAX = 256 * 1024 };

static void registration_clear (gpointer data)
{
    g_free (((Registration *) data)->domain);
}

static Peer *peer_ref (Peer *peer)
{
    g_atomic_int_inc (&peer->refs);
    return peer;
}

void peer_unref (Peer *peer)
{
    if (!g_atomic_int_dec_and_test (&peer->refs))
        return;
    link_unref (peer->link);
    passed_unref (peer->passed);
    identity_free (peer->identity);
    g_clear_pointer (&peer->registrations, g_array_unref);
    server_forget_user (peer->server, peer->user);
    g_free (peer);
}

gboolean peer_is_gone (Peer *peer)
{
    return g_atomic_int_get (&peer->gone);
}

gboolean peer_may (Peer *peer, const char *guest, CallVerb verb)
{
    g_autoptr (Policy) policy = server_get_policy (peer->server);
    return policy_allows (policy, peer->identity, guest, verb);
}

/* Replies and messages */

static GByteArray *packet_new (void)
{
    static const guint8 room[FRAME_HEADER_SIZE];
    GByteArray *packet = g_byte_array_sized_new (128);
    return g_byte_array_append (packet, room, sizeof room);
}

static void peer_send (Peer *peer, const FrameHeader *header, GByteArray *packet)
{
    frame_pack (header, packet->len - FRAME_HEADER_SIZE, packet->data);
    link_send (peer->link, packet);
}

static void send_error (Peer *peer, const FrameHeader *call, const GError *error)
{
    FrameHeader header = *call;
    rpc_error wire;
    GByteArray *packet = packet_new ();
    header.type = FRAME_REPLY;
    header.status = FRAME_ERROR;
    rpc_error_from (error, call->program, &wire);
    codec_encode (rpc_error_codec, &wire, packet, FRAME_MAX, NULL);
    codec_clear (rpc_error_codec, &wire, sizeof wire);
    peer_send (peer, &header, packet);
}

static void send_rpc_error (Peer *peer, const FrameHeader *call, const char *format, ...)
    G_GNUC_PRINTF (3, 4);
static void send_rpc_error (Peer *peer, const FrameHeader *call, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    g_autoptr (GError) error = g_error_new_valist (RPC_ERROR, RPC_ERROR_RPC, format, args);
    va_end (args);
    send_error (peer, call, error);
}

static gboolean send_reply (Call *call, GError **error)
{
    FrameHeader header = call->header;
    GByteArray *packet = packet_new ();
    header.type = FRAME_REPLY;
    header.status = FRAME_OK;
    if (call->procedure->ret_codec
        && !codec_encode (call->procedure->ret_codec, call->ret, packet, FRAME_MAX, error)) {
        g_byte_array_unref (packet);
        return FALSE;
    }
    peer_send (call->peer, &header, packet);
    return TRUE;
}

void peer_send_message (Peer *peer, guint32 program, guint32 version, gint32 procedure,
                        CodecFunc codec, const void *data)
{
    const FrameHeader header = {
        .program = program, .version = version, .procedure = procedure, .type = FRAME_MESSAGE
    };
    g_autoptr (GError) error = NULL;
    GByteArray *packet = packet_new ();
    if (codec && !codec_encode (codec, data, packet, FRAME_MAX, &error)) {
        g_warning ("message %d is not sent: %s", procedure, error->message);
        g_byte_array_unref (packet);
        return;
    }
    peer_send (peer, &header, packet);
}

/* Calls */

static void call_free (Call *call)
{
    server_discharge_call (call->peer->server, call);
    for (guint i = 0; i < call->n_fds; i++)
        close (call->fds[i]);
    if (call->args)
        codec_clear (call->procedure->args_codec, call->args, call->procedure->args_size);
    if (call->ret)
        codec_clear (call->procedure->ret_codec, call->ret, call->procedure->ret_size);
    g_free (call->args);
    g_free (call->ret);
    g_free (call->guest);
    g_free (call->subject);
    peer_unref (call->peer);
    g_free (call);
}

static void peer_throttle (Peer *peer)
{
    gboolean busy = peer->in_work >= server_limits (peer->server)->max_in_work
                    || link_queued (peer->link) > REPLIES_QUEUED_MAX;
    if (busy != peer->throttled) {
        peer->throttled = busy;
        link_pause (peer->link, busy);
    }
}

static gboolean call_done (gpointer data)
{
    Call *call = data;
    call_take_over (call);
    Peer *peer = peer_ref (call->peer);
    gboolean closes = call->closes;
    server_call_done (peer->server, call);
    call_free (call);
    peer->in_work--;
    if (!peer_is_gone (peer)) {
        if (closes)
            link_finish (peer->link);
        else
            peer_throttle (peer);
    }
    peer_unref (peer);
    return G_SOURCE_REMOVE;
}

static void call_audit (const Call *call, const GError *error)
{
    const Peer *peer = call->peer;
    if (!(call->procedure->flags & CALL_WRITE) || !server_audits (peer->server))
        return;
    const Identity *who = peer->identity;
    g_autofree char *number = g_strdup_printf ("%" G_GUINT64_FORMAT, peer->number),
                    *uid = g_strdup_printf ("%d", (int) who->uid),
                    *pid = g_strdup_printf ("%d", (int) who->pid);
    g_autofree char *line = audit_line (
        "peer", number, "who", who->name, "uid", uid, "pid", pid, "from", who->address, "call",
        call->procedure->name, "guest", call->subject, "result", error ? "failed" : "done",
        error ? "error" : NULL, error ? error->message : NULL, NULL);
    g_message ("%s", line);
}

void call_finish (Call *call, gboolean ok, GError *error)
{
    if (ok)
        ok = send_reply (call, &error);
    if (!ok)
        send_error (call->peer, &call->header, error);
    call_audit (call, error);
    g_clear_error (&error);
    call_hand_over (call);
    g_main_context_invoke (server_context (call->peer->server), call_done, call);
}

/* What must hold before the arguments are even looked at. */
static gboolean check_procedure (Peer *peer, const Procedure *procedure, GError **error)
{
    if (!peer->opened && !(procedure->flags & PROCEDURE_OPEN))
        return rpc_error_set (error, RPC_ERROR_INTERNAL,
                              "internal error: hypervisor connection not open");
    if (peer->readonly && (procedure->flags & CALL_WRITE))
        return rpc_error_set (error, RPC_ERROR_DENIED,
                              "operation forbidden: read only access prevents %s", procedure->name);
    return TRUE;
}

/* A guest has one queue for both programs. Libvirt's calls name it by uuid; one that nobody has
 * looked up yet has a queue of that name. */
static char *guest_of (const Call *call)
{
    const Procedure *procedure = call->procedure;
    char uuid[37];
    if (procedure->flags & CALL_GUEST)
        return g_strdup (*(char **) call->args);
    if (procedure->domain == 0)
        return NULL;
    uuid_to_text (((const rpc_domain *) ((char *) call->args + procedure->domain - 1))->uuid, uuid);
    char *name = server_name_hint (call->peer->server, uuid);
    return name ? name : g_strdup (uuid);
}

static gboolean decode_args (Call *call, const guint8 *payload, gsize length, GError **error)
{
    const Procedure *procedure = call->procedure;
    if (procedure->args_codec) {
        call->args = g_malloc0 (procedure->args_size);
        if (!codec_decode (procedure->args_codec, payload, length, call->args, procedure->args_size,
                           error))
            return FALSE;
    }
    if (procedure->ret_codec)
        call->ret = g_malloc0 (procedure->ret_size);
    call->guest = guest_of (call);
    if (procedure->flags & CALL_GUEST)
        call->subject = g_strdup (call->guest);
    return server_charge_call (call->peer->server, call, length, error);
}

static gboolean check_access (Call *call, GError **error)
{
    const Procedure *procedure = call->procedure;
    if (!(procedure->flags & CALL_GUEST) || peer_may (call->peer, call->guest, procedure->verb))
        return TRUE;
    g_autofree char *shown = text_sanitize (call->subject, 256);
    if (!peer_may (call->peer, call->guest, VERB_SEE))
        return error_set (error, BAK_ERROR_NO_DOMAIN, _("no guest '%s'"), shown);
    return error_set (error, BAK_ERROR_ACCESS_DENIED,
                      _("the policy does not let %s %s guest '%s'"), call->peer->identity->name,
                      verb_to_string (procedure->verb), shown);
}

gboolean call_perform (Call *call, GError **error)
{
    g_autoptr (Policy) policy = server_get_policy (call->peer->server);
    g_autoptr (Caller) caller = policy_caller (policy, call->peer->identity);
    caller_set_current (caller);
    passed_set_current (call->peer->passed);
    const Procedure *procedure = call->procedure;
    gboolean ok = procedure->run ? procedure->run (call, error)
                                 : driver_call (server_get_conn (call->peer->server), procedure->id,
                                                call->args, call->ret, error);
    passed_set_current (NULL);
    caller_set_current (NULL);
    return ok;
}

static void call_run (Call *call)
{
    GError *error = NULL;
    gboolean ok = call_perform (call, &error);
    call_finish (call, ok, error);
}

static void polkit_said (const GError *why, gpointer data)
{
    Call *call = data;
    server_work_ends (call->peer->server);
    if (why)
        g_message ("peer %" G_GUINT64_FORMAT ": %s", call->peer->number, why->message);
    if (why || peer_is_gone (call->peer))
        call_finish (call, FALSE,
                     why ? g_error_copy (why)
                         : g_error_new (BAK_ERROR, BAK_ERROR_CONNECTION, "the peer is gone"));
    else
        call_run (call);
}

gboolean call_peek (Call *call, const char *guest, DriverPeek *ret, GError **error)
{
    call->unknown = !driver_peek (server_get_conn (call->peer->server), guest, ret);
    return !call->unknown || error_set (error, BAK_ERROR_BUSY, "not at hand");
}

/* FALSE: nothing has been answered, a worker has to do it. */
static gboolean call_try (Call *call)
{
    GError *error = NULL;
    call->trying = TRUE;
    gboolean ok = call->procedure->run (call, &error);
    call->trying = FALSE;
    if (!call->unknown) {
        call_finish (call, ok, error);
        return TRUE;
    }
    g_clear_error (&error);
    return FALSE;
}

static gboolean call_needs_polkit (const Call *call)
{
    const Peer *peer = call->peer;
    return (call->procedure->flags & PROCEDURE_OPENS) && !peer->opened && !peer->readonly
           && server_wants_polkit (peer->server, peer->identity);
}

/* What came with the packet is what counts, not what its arguments say. */
static gboolean take_fds (Call *call, const guint8 **payload, gsize *length, GError **error)
{
    if (call->header.type != FRAME_CALL_FDS)
        return TRUE;
    guint32 said = frame_count_fds (&call->header, *payload, *length);
    call->n_fds = link_take_fds (call->peer->link, call->fds);
    *payload += 4;
    *length -= 4;
    return call->n_fds == said
           || error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                         _("%s: %u descriptors were announced, %u came"), call->procedure->name,
                         said, call->n_fds);
}

static void peer_call (Peer *peer, const FrameHeader *header, const Procedure *procedure,
                       const guint8 *payload, gsize length)
{
    Call *call = g_new0 (Call, 1);
    GError *error = NULL;
    *call = (Call){ .peer = peer_ref (peer), .header = *header, .procedure = procedure };
    peer->in_work++;

    if (!take_fds (call, &payload, &length, &error) || !check_procedure (peer, procedure, &error)
        || !decode_args (call, payload, length, &error) || !check_access (call, &error)) {
        if (g_error_matches (error, BAK_ERROR, BAK_ERROR_CONNECTION)) {
            error->domain = RPC_ERROR;
            error->code = RPC_ERROR_RPC;
        }
        call_finish (call, FALSE, error);
        return;
    }
    if ((procedure->flags & PROCEDURE_TRY) && call_try (call))
        return;
    if (procedure->flags & CALL_SLOW) {
        server_queue_call (peer->server, call);
        peer_throttle (peer);
        return;
    }
    if (call_needs_polkit (call)) {
        server_work_begins (peer->server);
        polkit_ask (peer->identity, server_ending (peer->server), polkit_said, call);
        return;
    }
    call_run (call);
}

static const Program *find_program (Server *server, const FrameHeader *header)
{
    const Program *const *programs = server_programs (server);
    for (guint i = 0; programs[i]; i++)
        if (programs[i]->number == header->program && programs[i]->version == header->version)
            return programs[i];
    return NULL;
}

static void peer_keepalive (Peer *peer, const FrameHeader *header)
{
    if (header->procedure == KEEPALIVE_PING)
        peer_send_message (peer, PROGRAM_KEEPALIVE, 1, KEEPALIVE_PONG, NULL, NULL);
}

static void peer_packet (Link *link, const FrameHeader *header, const guint8 *payload, gsize length,
                         gpointer data)
{
    Peer *peer = data;
    const Program *program = find_program (peer->server, header);
    const Procedure *procedure = program ? program->find (header->procedure) : NULL;

    peer->pings = 0;
    if (header->program == PROGRAM_KEEPALIVE && header->version == 1)
        peer_keepalive (peer, header);
    else if (header->type == FRAME_MESSAGE || header->type == FRAME_STREAM)
        return;
    else if (!program)
        send_rpc_error (peer, header, "Cannot find program %u version %u", header->program,
                        header->version);
    else if (!procedure)
        send_rpc_error (peer, header, "unknown procedure: %d", header->procedure);
    else if (header->status != FRAME_OK
             || (header->type != FRAME_CALL
                 && (header->type != FRAME_CALL_FDS || !(procedure->flags & PROCEDURE_FDS))))
        send_rpc_error (peer, header, "Unexpected message type %u with status %u", header->type,
                        header->status);
    else
        peer_call (peer, header, procedure, payload, length);
}

static void peer_drained (Link *link, gpointer data)
{
    peer_throttle (data);
}

static void peer_closed (Link *link, const GError *error, gpointer data)
{
    Peer *peer = data;
    g_debug ("peer %" G_GUINT64_FORMAT " is gone: %s", peer->number,
             error ? error->message : "end");
    g_atomic_int_set (&peer->gone, TRUE);
    server_keeps (peer->server, peer, 0);
    server_peer_gone (peer->server, peer);
    peer_unref (peer);
}

static void peer_keeps (Link *link, gsize bytes, gpointer data)
{
    Peer *peer = data;
    server_keeps (peer->server, peer, bytes);
}

const LinkFuncs peer_link_funcs = {
    .packet = peer_packet, .closed = peer_closed, .keeps = peer_keeps, .drained = peer_drained
};

void peer_add (Server *server, Link *link, Identity *identity, gboolean readonly)
{
    Peer *peer = g_new0 (Peer, 1);
    peer->refs = 1;
    peer->server = server;
    peer->link = link;
    peer->identity = identity;
    peer->readonly = readonly;
    peer->since = g_get_monotonic_time ();
    server_link_peer (server, peer);
    g_debug ("peer %" G_GUINT64_FORMAT ": %s from %s", peer->number, identity->name,
             identity->address);
    peer->passed = passed_new ();
    link_accept_fds (link);
    link_start (link, MAX_PACKET_BEFORE_OPEN, peer);
}

void peer_open (Peer *peer, gboolean readonly)
{
    peer->readonly |= readonly;
    if (peer->opened)
        return;
    peer->opened = TRUE;
    link_set_max_packet (peer->link, MAX_PACKET);
    server_peer_opened (peer->server, peer);
}

/* A byte now and then is not progress. */
static gboolean is_too_slow (Peer *peer, gint64 now)
{
    const ServerLimits *limits = server_limits (peer->server);
    gsize half = link_half (peer->link);
    gint64 grace = (gint64) limits->half_seconds * G_USEC_PER_SEC
                   + (gint64) (half * G_USEC_PER_SEC / MAX (1, limits->slow_rate));
    return half > 0 && now - link_half_since (peer->link) > grace;
}

static const char *peer_fault (Peer *peer, gint64 now)
{
    const ServerLimits *limits = server_limits (peer->server);
    gint64 half = (gint64) limits->half_seconds * G_USEC_PER_SEC;
    if (!peer->opened && peer->in_work == 0
        && now - peer->since > (gint64) limits->open_seconds * G_USEC_PER_SEC)
        return "did not open the connection in time";
    if (!peer->throttled && link_half (peer->link) > 0 && now - link_last_input (peer->link) > half)
        return "left a packet unfinished";
    if (!peer->throttled && is_too_slow (peer, now))
        return "sends a packet too slowly";
    if (link_queued (peer->link) > 0 && now - link_last_output (peer->link) > half)
        return "does not read its replies";
    if (peer->keepalive && peer->pings >= KEEPALIVE_COUNT)
        return "does not answer keepalive";
    return NULL;
}

void peer_drop (Peer *peer, const char *fault)
{
    g_message ("peer %" G_GUINT64_FORMAT " (%s from %s) is dropped: it %s", peer->number,
               peer->identity->name, peer->identity->address, fault);
    link_close (peer->link, NULL);
}

void peer_sweep (Peer *peer, gint64 now)
{
    const char *fault = peer_fault (peer, now);
    if (fault) {
        peer_drop (peer, fault);
        return;
    }
    if (!peer->keepalive
        || now - link_last_input (peer->link) < KEEPALIVE_SECONDS * G_USEC_PER_SEC / 2)
        return;
    peer->pings++;
    peer_send_message (peer, PROGRAM_KEEPALIVE, 1, KEEPALIVE_PING, NULL, NULL);
}

/* Registrations */

int peer_register (Peer *peer, guint32 program, int kind, const char *domain, GError **error)
{
    if (!peer->registrations) {
        peer->registrations = g_array_new (FALSE, FALSE, sizeof (Registration));
        g_array_set_clear_func (peer->registrations, registration_clear);
    }
    if (peer->registrations->len >= MAX_REGISTRATIONS) {
        error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                   _("more than %d event registrations on one connection"), MAX_REGISTRATIONS);
        return -1;
    }
    Registration registration = { .id = server_next_id (peer->server),
                                  .program = program,
                                  .kind = kind,
                                  .domain = g_strdup (domain) };
    g_array_append_val (peer->registrations, registration);
    return registration.id;
}

gboolean peer_deregister (Peer *peer, guint32 program, int id, GError **error)
{
    for (guint i = 0; peer->registrations && i < peer->registrations->len; i++) {
        const Registration *registration = &g_array_index (peer->registrations, Registration, i);
        if (registration->id != id || registration->program != program)
            continue;
        g_array_remove_index (peer->registrations, i);
        if (peer->registrations->len == 0)
            g_clear_pointer (&peer->registrations, g_array_unref);
        return TRUE;
    }
    return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("no event registration %d"), id);
}
