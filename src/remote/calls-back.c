/* Our own program: every row of calls.def, sent to the driver as it is; the few that are about the
 * connection itself are answered here. */
#include <rpc/rpc.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include "remote/peer.h"

enum { API_VERSION = 1 };

CODEC (bak_event_msg)

static gboolean back_forward (Call *call, GError **error)
{
    return driver_call (server_get_conn (call->peer->server), call->procedure->id, call->args,
                        call->ret, error);
}

static gboolean back_fd_associate (Call *call, GError **error)
{
    const bak_fds_args *args = call->args;
    return passed_put (call->peer->passed, args->domain, args->name, call->fds, call->n_fds, error);
}

static gboolean back_state (Call *call, GError **error)
{
    bak_state_ret *ret = call->ret;
    DriverPeek peek;
    if (!call->trying)
        return back_forward (call, error);
    if (!call_peek (call, call->guest, &peek, error))
        return FALSE;
    ret->state = peek.state;
    ret->reason = peek.reason;
    call->unknown = peek.state < 0;
    return TRUE;
}

static gboolean back_hello (Call *call, GError **error)
{
    const bak_hello_args *args = call->args;
    bak_hello_ret *ret = call->ret;
    Peer *peer = call->peer;

    /* In the text form of the URI only the scheme tells a client that is at the wrong door. */
    peer_open (peer, args->readonly != 0);
    peer->keepalive = TRUE;
    ret->api = API_VERSION;
    ret->product = ret_string ("libbackup " LIBBACKUP_VERSION);
    ret->state_dir = ret_string ("");
    return TRUE;
}

static gboolean back_describe (Call *call, GError **error)
{
    bak_text_ret *ret = call->ret;
    GString *text = g_string_new (NULL);
    for (guint i = 0; i < CALL_COUNT; i++) {
        const CallRow *row = &call_rows[i];
        g_string_append_printf (text, "%u\t%s\t%s\t%s\t%s\n", row->number, row->name,
                                row->flags & CALL_WRITE ? "write" : "read",
                                verb_to_string (row->verb), row->since);
    }
    ret->text = ret_string (text->str);
    g_string_free (text, TRUE);
    return TRUE;
}

/* A guest that the peer may not see is not there. */
static gboolean back_list (Call *call, GError **error)
{
    bak_list_ret *ret = call->ret;
    if (!back_forward (call, error))
        return FALSE;
    guint kept = 0;
    for (guint i = 0; i < ret->domains.domains_len; i++) {
        bak_domain_item *item = &ret->domains.domains_val[i];
        if (peer_may (call->peer, item->name, VERB_SEE))
            ret->domains.domains_val[kept++] = *item;
        else
            xdr_free ((xdrproc_t) xdr_bak_domain_item, (char *) item);
    }
    ret->domains.domains_len = kept;
    return TRUE;
}

static gboolean back_running (Call *call, GError **error)
{
    bak_jobs_ret *ret = call->ret;
    if (!back_forward (call, error))
        return FALSE;
    guint kept = 0;
    for (guint i = 0; i < ret->jobs.jobs_len; i++) {
        bak_job *job = &ret->jobs.jobs_val[i];
        if (peer_may (call->peer, job->domain, VERB_SEE))
            ret->jobs.jobs_val[kept++] = *job;
        else
            bak_job_clear (job);
    }
    ret->jobs.jobs_len = kept;
    return TRUE;
}

static gboolean back_lookup (Call *call, GError **error)
{
    const bak_lookup_args *args = call->args;
    bak_lookup_ret *ret = call->ret;
    if (!back_forward (call, error))
        return FALSE;
    if (peer_may (call->peer, ret->domain.name, VERB_SEE))
        return TRUE;
    g_autofree char *shown = text_sanitize (*args->name ? args->name : args->uuid, 256);
    return error_set (error, BAK_ERROR_NO_DOMAIN, _("no guest '%s'"), shown);
}

/* Attaching makes a guest, detaching needs its name: both are decided by that name. discover shows
 * every process of the host, so it needs the right to manage all of them. */
static gboolean back_manage (Call *call, GError **error)
{
    const char *guest = call->procedure->id == CALL_ID_discover ? "*" : *(char **) call->args;
    call->subject = g_strdup (guest);
    if (!peer_may (call->peer, guest, VERB_MANAGE))
        return error_set (error, BAK_ERROR_ACCESS_DENIED,
                          _("the policy does not let %s manage guests here"),
                          call->peer->identity->name);
    return back_forward (call, error);
}

/* No thread waits: the job is looked at, and again at each event of a job, until it has ended or
 * the time is over. */
static gboolean back_wait (Call *call, GError **error)
{
    bak_wait_args *args = call->args;
    bak_job_ret *ret = call->ret;
    gint64 now = g_get_monotonic_time ();
    bak_wait_args look = *args;

    if (!call->deadline)
        call->deadline =
            args->timeout > G_MAXINT64 / 2 ? G_MAXINT64 / 2 : now + (gint64) args->timeout;
    look.timeout = 0;
    codec_clear (call->procedure->ret_codec, ret, sizeof *ret);
    if (!driver_call (server_get_conn (call->peer->server), CALL_ID_backup_wait, &look, ret, error))
        return FALSE;
    if (!job_state_ended (ret->job.state) && now < call->deadline)
        call->park_until = call->deadline;
    return TRUE;
}

static gboolean back_register (Call *call, GError **error)
{
    const bak_register_args *args = call->args;
    bak_register_ret *ret = call->ret;
    if (args->kind < -1 || args->kind >= EVENT_KINDS)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("no event kind %d"), args->kind);
    ret->id = peer_register (call->peer, PROGRAM_BACKUP, args->kind, args->domain, error);
    return ret->id >= 0;
}

static gboolean back_deregister (Call *call, GError **error)
{
    const bak_deregister_args *args = call->args;
    return peer_deregister (call->peer, PROGRAM_BACKUP, args->id, error);
}

/* One message an event, however many registrations it meets: the client's library fans it out to
 * its callbacks. */
static void back_send_event (Peer *peer, const bak_event *event)
{
    for (guint i = 0; i < peer->registrations->len; i++) {
        const Registration *registration = &g_array_index (peer->registrations, Registration, i);
        if (registration->program != PROGRAM_BACKUP
            || (registration->kind >= 0 && registration->kind != event->kind)
            || (*registration->domain && !g_str_equal (registration->domain, event->domain)))
            continue;
        const bak_event_msg message = { .id = registration->id, .event = *event };
        peer_send_message (peer, PROGRAM_BACKUP, 1, BACKUP_EVENT, codec_bak_event_msg, &message);
        return;
    }
}

/* Rows that differ from "send it to the driver". */
static const struct {
    CallId id;
    gboolean (*run) (Call *call, GError **error);
    guint more_flags;
} own[] = {
    { CALL_ID_hello, back_hello, PROCEDURE_OPEN | PROCEDURE_OPENS },
    { CALL_ID_describe, back_describe, 0 },
    { CALL_ID_list, back_list, 0 },
    { CALL_ID_lookup, back_lookup, 0 },
    { CALL_ID_backup_running, back_running, 0 },
    { CALL_ID_domain_state, back_state, PROCEDURE_TRY },
    { CALL_ID_attach, back_manage, 0 },
    { CALL_ID_detach, back_manage, 0 },
    { CALL_ID_discover, back_manage, 0 },
    { CALL_ID_backup_wait, back_wait, 0 },
    { CALL_ID_fd_associate, back_fd_associate, PROCEDURE_FDS },
    { CALL_ID_event_register, back_register, 0 },
    { CALL_ID_event_deregister, back_deregister, 0 },
};

static Procedure procedures[CALL_COUNT];

static void procedures_fill (void)
{
    for (guint i = 0; i < CALL_COUNT; i++) {
        const CallRow *row = &call_rows[i];
        procedures[i] = (Procedure){ .number = row->number,
                                     .name = row->name,
                                     .flags = row->flags,
                                     .verb = row->verb,
                                     .args_size = row->args_size,
                                     .ret_size = row->ret_size,
                                     .args_codec = row->args_codec,
                                     .ret_codec = row->ret_codec,
                                     .id = i };
    }
    for (guint i = 0; i < G_N_ELEMENTS (own); i++) {
        procedures[own[i].id].run = own[i].run;
        procedures[own[i].id].flags |= own[i].more_flags;
    }
}

static const Procedure *back_find (gint32 number)
{
    static gsize filled;
    if (g_once_init_enter (&filled)) {
        procedures_fill ();
        g_once_init_leave (&filled, 1);
    }
    for (guint i = 0; i < CALL_COUNT; i++)
        if (procedures[i].number == number)
            return &procedures[i];
    return NULL;
}

const Program program_backup = { .number = PROGRAM_BACKUP,
                                 .version = 1,
                                 .find = back_find,
                                 .rows = procedures,
                                 .count = CALL_COUNT,
                                 .tell_peer = back_send_event };
