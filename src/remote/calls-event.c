/* libvirt's program: registrations, and our events in its words.
 *
 * At the end of a job its clients expect "job completed" and then, for each disk, "block job" by
 * path and by target. What these carry is asked from the driver, on a worker; by then everything is
 * released. */
#include <rpc/rpc.h>
#include "remote/table.h"

enum {
    EVENT_ID_LIFECYCLE = 0,
    EVENT_ID_BLOCK_JOB = 8,
    EVENT_ID_BLOCK_JOB_2 = 16,
    EVENT_ID_JOB_COMPLETED = 21,
    EVENT_ID_COUNT = 64
};
enum {
    MESSAGE_LIFECYCLE = 318,
    MESSAGE_BLOCK_JOB = 326,
    MESSAGE_BLOCK_JOB_2 = 339,
    MESSAGE_JOB_COMPLETED = 363
};
enum { BLOCK_JOB_COMPLETED = 0, BLOCK_JOB_FAILED = 1, BLOCK_JOB_CANCELLED = 2 };

CODEC (rpc_lifecycle_msg)
CODEC (rpc_block_job_msg)
CODEC (rpc_job_completed_msg)

gboolean serve_event_register (Call *call, GError **error)
{
    const rpc_register_args *args = call->args;
    char uuid[37] = "";
    if (args->kind < 0 || args->kind >= EVENT_ID_COUNT)
        return rpc_error_set (error, RPC_ERROR_INVALID_ARG,
                              "invalid argument: unsupported event ID %d", args->kind);
    if (args->dom)
        uuid_to_text (args->dom->uuid, uuid);
    const GArray *known = call->peer->registrations;
    for (guint i = 0; known && i < known->len; i++) {
        const Registration *registration = &g_array_index (known, Registration, i);
        if (registration->program == PROGRAM_LIBVIRT && registration->kind == args->kind
            && g_str_equal (registration->domain, uuid))
            return rpc_error_set (error, RPC_ERROR_INVALID_ARG,
                                  "invalid argument: event callback already tracked");
    }
    int id = peer_register (call->peer, PROGRAM_LIBVIRT, args->kind, uuid, error);
    ((rpc_int *) call->ret)->value = id;
    return id >= 0;
}

gboolean serve_event_deregister (Call *call, GError **error)
{
    return peer_deregister (call->peer, PROGRAM_LIBVIRT, ((rpc_int *) call->args)->value, error);
}

/* What our lifecycle events are called there: event and detail. */
static const struct {
    const char *text;
    int event, detail;
} lifecycles[] = {
    { "attached", 0, 0 }, { "detached", 1, 0 }, { "started", 2, 0 }, { "stopped", 5, 0 },
    { "paused", 3, 0 },   { "resumed", 4, 0 },  { "crashed", 8, 0 }, { "shutdown", 6, 0 },
};

static gboolean lifecycle_of (const bak_event *event, int *ret_event, int *ret_detail)
{
    for (guint i = 0; i < G_N_ELEMENTS (lifecycles); i++)
        if (g_str_has_prefix (event->text, lifecycles[i].text)) {
            *ret_event = lifecycles[i].event;
            *ret_detail = lifecycles[i].detail;
            return TRUE;
        }
    return FALSE;
}

static gboolean wants (const Registration *registration, int kind, const char *uuid)
{
    return registration->program == PROGRAM_LIBVIRT && registration->kind == kind
           && (*registration->domain == '\0' || g_str_equal (registration->domain, uuid));
}

/* message: its first field is the callback's id. */
static void send_to (Peer *peer, int kind, const char *uuid, gint32 procedure, CodecFunc codec,
                     int *message)
{
    for (guint i = 0; peer->registrations && i < peer->registrations->len; i++) {
        const Registration *registration = &g_array_index (peer->registrations, Registration, i);
        if (!wants (registration, kind, uuid))
            continue;
        *message = registration->id;
        peer_send_message (peer, PROGRAM_LIBVIRT, 1, procedure, codec, message);
    }
}

typedef struct {
    int kind;
    gint32 procedure;
    CodecFunc codec;
    const char *uuid, *guest;
    int *message;
} Broadcast;

static void send_one (Peer *peer, gpointer data)
{
    const Broadcast *broadcast = data;
    if (peer->registrations && peer_may (peer, broadcast->guest, VERB_SEE))
        send_to (peer, broadcast->kind, broadcast->uuid, broadcast->procedure, broadcast->codec,
                 broadcast->message);
}

static void send_all (Server *server, Broadcast broadcast)
{
    server_each_peer (server, send_one, &broadcast);
}

static rpc_domain event_domain (const bak_event *event, int id)
{
    rpc_domain dom = { .name = event->domain, .id = id };
    uuid_from_text (event->uuid, dom.uuid);
    return dom;
}

static void send_lifecycle (Server *server, const bak_event *event)
{
    rpc_lifecycle_msg message = { .dom = event_domain (event, -1) };
    if (lifecycle_of (event, &message.event, &message.detail))
        send_all (server, (Broadcast){ .kind = EVENT_ID_LIFECYCLE,
                                       .procedure = MESSAGE_LIFECYCLE,
                                       .codec = codec_rpc_lifecycle_msg,
                                       .uuid = event->uuid,
                                       .guest = event->domain,
                                       .message = &message.callback });
}

/* The end of a job, from the event to the messages */
typedef struct {
    WorkFunc work;
    bak_event *event;
    int id; /* the guest's, -1: off */
    bak_job_ret job;
    bak_disks_ret disks;
    gboolean known;
} Ended;

static const char *source_of (const Ended *ended, const char *target)
{
    for (guint i = 0; i < ended->disks.disks.disks_len; i++)
        if (g_str_equal (ended->disks.disks.disks_val[i].target, target))
            return ended->disks.disks.disks_val[i].source;
    return "";
}

static int block_status (const bak_job_disk *disk)
{
    return disk->state == JOB_STATE_COMPLETED ? BLOCK_JOB_COMPLETED
           : disk->state == JOB_STATE_ABORTED ? BLOCK_JOB_CANCELLED
                                              : BLOCK_JOB_FAILED;
}

static void send_block_jobs (Server *server, const Ended *ended, const bak_job_disk *disk)
{
    const bak_event *event = ended->event;
    rpc_block_job_msg message = { .dom = event_domain (event, ended->id),
                                  .disk = (char *) source_of (ended, disk->target),
                                  .type = RPC_BLOCK_JOB_BACKUP,
                                  .status = block_status (disk) };
    Broadcast broadcast = { .kind = EVENT_ID_BLOCK_JOB,
                            .procedure = MESSAGE_BLOCK_JOB,
                            .codec = codec_rpc_block_job_msg,
                            .uuid = event->uuid,
                            .guest = event->domain,
                            .message = &message.callback };
    if (*message.disk)
        send_all (server, broadcast);
    message.disk = disk->target;
    broadcast.kind = EVENT_ID_BLOCK_JOB_2;
    broadcast.procedure = MESSAGE_BLOCK_JOB_2;
    send_all (server, broadcast);
}

/* On the server's context. */
static void ended_send (Server *server, gpointer data)
{
    Ended *ended = data;
    rpc_job_completed_msg message = { .dom = event_domain (ended->event, ended->id) };
    message.params.params_val = ret_array (RPC_PARAMS_MAX, sizeof (rpc_param));
    if (ended->known) {
        job_to_params (&ended->job.job, message.params.params_val, &message.params.params_len);
        send_all (server, (Broadcast){ .kind = EVENT_ID_JOB_COMPLETED,
                                       .procedure = MESSAGE_JOB_COMPLETED,
                                       .codec = codec_rpc_job_completed_msg,
                                       .uuid = ended->event->uuid,
                                       .guest = ended->event->domain,
                                       .message = &message.callback });
        for (guint i = 0; i < ended->job.job.disks.disks_len; i++)
            send_block_jobs (server, ended, &ended->job.job.disks.disks_val[i]);
    }
    message.dom = (rpc_domain){ .name = ret_string ("") };
    codec_clear (codec_rpc_job_completed_msg, &message, sizeof message);
    call_clear_ret (CALL_ID_backup_info, &ended->job);
    call_clear_ret (CALL_ID_domain_disks, &ended->disks);
    bak_event_clear (ended->event);
    g_free (ended->event);
    g_free (ended);
}

/* On a worker. */
static void ended_ask (Server *server, gpointer data)
{
    Ended *ended = data;
    DriverConn *conn = server_get_conn (server);
    bak_job_arg job = { .domain = ended->event->domain, .job = ended->event->job };
    bak_domain_arg domain = { .domain = ended->event->domain };
    bak_lookup_args lookup = { .name = ended->event->domain, .uuid = (char *) "" };
    bak_lookup_ret found = { 0 };
    g_autoptr (GError) error = NULL;
    ended->known = call_backup_info (conn, &job, &ended->job, &error);
    if (!ended->known)
        g_warning ("the end of job %s of guest %s cannot be told: %s", ended->event->job,
                   ended->event->domain, error->message);
    call_domain_disks (conn, &domain, &ended->disks, NULL);
    ended->id = call_lookup (conn, &lookup, &found, NULL) ? found.domain.id : -1;
    call_clear_ret (CALL_ID_lookup, &found);
    server_work_done (server, ended_send, ended);
}

static void look_for_subscriber (Peer *peer, gpointer ret)
{
    for (guint i = 0; peer->registrations && i < peer->registrations->len; i++) {
        const Registration *registration = &g_array_index (peer->registrations, Registration, i);
        if (registration->program == PROGRAM_LIBVIRT
            && (registration->kind == EVENT_ID_BLOCK_JOB
                || registration->kind == EVENT_ID_BLOCK_JOB_2
                || registration->kind == EVENT_ID_JOB_COMPLETED))
            *(gboolean *) ret = TRUE;
    }
}

void libvirt_send_event (Server *server, const bak_event *event)
{
    gboolean anybody = FALSE;
    if (event->kind == EVENT_LIFECYCLE)
        send_lifecycle (server, event);
    if (event->kind != EVENT_JOB_COMPLETED)
        return;
    server_each_peer (server, look_for_subscriber, &anybody);
    if (!anybody)
        return;
    Ended *ended = g_new0 (Ended, 1);
    ended->work = ended_ask;
    ended->event = event_dup (event);
    server_run_work (server, ended);
}
