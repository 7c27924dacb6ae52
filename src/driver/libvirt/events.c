/* libvirt's events: those of guests go on to our listeners, those of jobs become notes for the
 * thread that carries the job. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/libvirt/guest.h"

/* What libvirt's callbacks are given: it may call once more while a connection is being closed. */
struct _LvListener {
    gint refs;
    GRecMutex lock;
    LvConn *lv; /* NULL: closed */
};

LvListener *lv_listener_new (LvConn *lv)
{
    LvListener *listener = g_new0 (LvListener, 1);
    listener->refs = 1;
    listener->lv = lv;
    g_rec_mutex_init (&listener->lock);
    return listener;
}

static void listener_unref (void *data)
{
    LvListener *listener = data;
    if (!g_atomic_int_dec_and_test (&listener->refs))
        return;
    g_rec_mutex_clear (&listener->lock);
    g_free (listener);
}

void lv_listener_close (LvListener *listener)
{
    g_rec_mutex_lock (&listener->lock);
    listener->lv = NULL;
    g_rec_mutex_unlock (&listener->lock);
    listener_unref (listener);
}

static void note_for (LvConn *lv, virDomainPtr domain, const LvNote *like)
{
    LvGuest *guest = lv_guest_peek (lv, virDomainGetName (domain));
    if (!guest)
        return;
    LvNote *note = g_new (LvNote, 1);
    *note = *like;
    note->disk = g_strdup (like->disk);
    note->text = g_strdup (like->text);
    lv_guest_note (guest, note);
    lv_guest_unref (guest);
}

static void leave_note (LvListener *listener, virDomainPtr domain, const LvNote *like)
{
    g_rec_mutex_lock (&listener->lock);
    if (listener->lv)
        note_for (listener->lv, domain, like);
    g_rec_mutex_unlock (&listener->lock);
}

static const char *const lifecycle_names[] = { "defined",   "undefined",   "started",
                                               "suspended", "resumed",     "stopped",
                                               "shutdown",  "pmsuspended", "crashed" };

static int on_lifecycle (virConnectPtr vir, virDomainPtr domain, int event, int detail, void *data)
{
    LvListener *listener = data;
    char uuid[VIR_UUID_STRING_BUFLEN] = "";
    static const int states[] = { DOMAIN_STATE_SHUTOFF,  DOMAIN_STATE_NOSTATE,
                                  DOMAIN_STATE_RUNNING,  DOMAIN_STATE_PAUSED,
                                  DOMAIN_STATE_RUNNING,  DOMAIN_STATE_SHUTOFF,
                                  DOMAIN_STATE_SHUTDOWN, DOMAIN_STATE_PMSUSPENDED,
                                  DOMAIN_STATE_CRASHED };
    gboolean known = event >= 0 && event < (int) G_N_ELEMENTS (lifecycle_names);

    leave_note (listener, domain,
                &(LvNote){ .kind = NOTE_LIFECYCLE, .status = event, .detail = detail });
    virDomainGetUUIDString (domain, uuid);
    bak_event out = { .kind = EVENT_LIFECYCLE,
                      .domain = ret_string (virDomainGetName (domain)),
                      .uuid = ret_string (uuid),
                      .job = ret_string (""),
                      .disk = ret_string (""),
                      .state = known ? states[event] : DOMAIN_STATE_NOSTATE,
                      .detail = detail,
                      .text = ret_string (known ? lifecycle_names[event] : "?"),
                      .when = g_get_real_time () };
    g_rec_mutex_lock (&listener->lock);
    if (listener->lv)
        driver_conn_emit (listener->lv->conn, &out);
    g_rec_mutex_unlock (&listener->lock);
    bak_event_clear (&out);
    return 0;
}

static void on_job_completed (virConnectPtr vir, virDomainPtr domain, virTypedParameterPtr params,
                              int count, void *data)
{
    const char *failure = NULL;
    int success = 0, operation = 0;
    unsigned long long total = 0;
    virTypedParamsGetBoolean (params, count, VIR_DOMAIN_JOB_SUCCESS, &success);
    virTypedParamsGetString (params, count, VIR_DOMAIN_JOB_ERRMSG, &failure);
    virTypedParamsGetInt (params, count, VIR_DOMAIN_JOB_OPERATION, &operation);
    virTypedParamsGetULLong (params, count, VIR_DOMAIN_JOB_DISK_TOTAL, &total);
    if (operation == VIR_DOMAIN_JOB_OPERATION_BACKUP)
        leave_note (data, domain,
                    &(LvNote){ .kind = NOTE_JOB_COMPLETED,
                               .success = success,
                               .total = total,
                               .text = (char *) failure });
}

static void on_block_job (virConnectPtr vir, virDomainPtr domain, const char *disk, int type,
                          int status, void *data)
{
    if (type == VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP)
        leave_note (data, domain,
                    &(LvNote){ .kind = NOTE_BLOCK_JOB, .disk = (char *) disk, .status = status });
}

static void on_io_error (virConnectPtr vir, virDomainPtr domain, const char *path,
                         const char *alias, int action, const char *reason, void *data)
{
    leave_note (data, domain,
                &(LvNote){ .kind = NOTE_IO_ERROR,
                           .disk = (char *) alias,
                           .text = (char *) reason,
                           .paused = action == VIR_DOMAIN_EVENT_IO_ERROR_PAUSE });
}

static void on_threshold (virConnectPtr vir, virDomainPtr domain, const char *device,
                          const char *path, unsigned long long threshold, unsigned long long excess,
                          void *data)
{
    leave_note (data, domain, &(LvNote){ .kind = NOTE_THRESHOLD, .disk = (char *) device });
}

static const struct {
    int event;
    virConnectDomainEventGenericCallback callback;
} wanted[] = {
    { VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK (on_lifecycle) },
    { VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, VIR_DOMAIN_EVENT_CALLBACK (on_job_completed) },
    { VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, VIR_DOMAIN_EVENT_CALLBACK (on_block_job) },
    { VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, VIR_DOMAIN_EVENT_CALLBACK (on_io_error) },
    { VIR_DOMAIN_EVENT_ID_BLOCK_THRESHOLD, VIR_DOMAIN_EVENT_CALLBACK (on_threshold) },
};

/* What a connection does not know is asked for instead. lv->lock is held. */
void lv_events_register (LvConn *lv)
{
    g_array_set_size (lv->callbacks, 0);
    for (guint i = 0; i < G_N_ELEMENTS (wanted); i++) {
        g_atomic_int_inc (&lv->listener->refs);
        int id = virConnectDomainEventRegisterAny (
            lv->vir, NULL, wanted[i].event, wanted[i].callback, lv->listener, listener_unref);
        if (id >= 0)
            g_array_append_val (lv->callbacks, id);
        else
            listener_unref (lv->listener);
    }
}

void lv_events_deregister (LvConn *lv)
{
    for (guint i = 0; lv->vir && i < lv->callbacks->len; i++)
        virConnectDomainEventDeregisterAny (lv->vir, g_array_index (lv->callbacks, int, i));
    g_array_set_size (lv->callbacks, 0);
}
