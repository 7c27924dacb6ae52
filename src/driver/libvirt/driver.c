/* The libvirt driver's table: opening a connection, and which process does a call. A watcher or daemon does it here; a client
 * hands what concerns a job to the guest's watcher. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "driver/libvirt/local.h"
#include "driver/libvirt/event.h"
#include "driver/libvirt/offline.h"
#include "driver/qemu/local.h"
#include "util/config.h"
#include "util/files.h"

/* ---- jobs ---- */

enum { LOOK_MS = 1000, ANSWER_SECONDS = 20 };

static gboolean local_begin (LvGuest *guest, const void *args, void *ret, GError **error)
{
    return lv_job_begin (guest, args, ret, error);
}

static gboolean local_plan (LvGuest *guest, const void *args, void *ret, GError **error)
{
    return lv_job_plan (guest, args, ret, error);
}

static gboolean is_here (LvGuest *guest, const char *id)
{
    return guest->job && (!*id || g_str_equal (id, guest->job->record.id));
}

static gboolean local_stop (LvGuest *guest, const void *data, void *ret, GError **error)
{
    const bak_stop_args *args = data;
    bak_job *job = &((bak_job_ret *) ret)->job;
    if (is_here (guest, args->job))
        return lv_job_stop (guest, (args->flags & STOP_ABORT) != 0, job, error);
    if (!guest->job && lv_offline_has_job (guest))
        return lv_offline_call (guest, CALL_ID_backup_stop, args, ret, error);
    return record_load (guest->dir, args->job, job, error);     /* it ended by itself: acknowledged by saying how */
}

static gboolean no_job (LvGuest *guest, GError **error)
{
    return error_set (error, BAK_ERROR_NO_JOB, _("guest '%s' has no running backup job"), guest->name);
}

static gboolean local_limit (LvGuest *guest, const void *data, void *ret, GError **error)
{
    const bak_limit_args *args = data;
    if (guest->job)
        return lv_job_limit (guest, args->disk, args->bytes_per_sec, error);
    if (lv_offline_has_job (guest))
        return lv_offline_call (guest, CALL_ID_backup_limit, args, ret, error);
    return no_job (guest, error);
}

/* A libvirt client's only end of a pull: on a ready one it is the verdict "done". */
static gboolean local_abort (LvGuest *guest, const void *args, void *ret, GError **error)
{
    bak_job job = { 0 };
    if (!guest->job && lv_offline_has_job (guest))
        return lv_offline_call (guest, CALL_ID_job_abort, args, ret, error);
    if (!guest->job)
        return no_job (guest, error);
    gboolean verdict = guest->job->record.state == JOB_STATE_READY;
    if (!lv_job_stop (guest, !verdict, &job, error))
        return FALSE;
    gboolean ok = !verdict || job.state == JOB_STATE_COMPLETED || error_set (error, job.error_code ? job.error_code : BAK_ERROR_IO, "%s", job.error);
    bak_job_clear (&job);
    return ok;
}

/* ---- records and snapshots: busy is not held ---- */

static gboolean load_record (LvGuest *guest, const char *id, bak_job *ret, GError **error)
{
    g_autoptr (GError) failure = NULL;
    if (record_load (guest->dir, id, ret, &failure))
        return TRUE;
    if (error_code (failure) == BAK_ERROR_NO_JOB && !*id)
        return error_set (error, BAK_ERROR_NO_JOB, _("guest '%s' has had no backup job"), guest->name);
    g_propagate_error (error, g_steal_pointer (&failure));
    return FALSE;
}

/* From the snapshot of a job in this process, else from the record. id "": the newest. */
static gboolean read_job (LvGuest *guest, const char *id, bak_job *ret, GError **error)
{
    g_mutex_lock (&guest->snapshot_lock);
    gboolean here = guest->snapshot.id && *guest->snapshot.id && (!*id || g_str_equal (id, guest->snapshot.id));
    g_mutex_unlock (&guest->snapshot_lock);
    if (here && g_rec_mutex_trylock (&guest->busy)) {
        g_rec_mutex_unlock (&guest->busy);
        lv_guest_look (guest, LOOK_MS);
    }
    g_mutex_lock (&guest->snapshot_lock);
    if (here)
        bak_job_copy (&guest->snapshot, ret);
    g_mutex_unlock (&guest->snapshot_lock);
    return here || load_record (guest, id, ret, error);
}

static gboolean local_info (LvGuest *guest, const void *data, void *ret, GError **error)
{
    const bak_job_arg *args = data;
    if (!guest->job && lv_offline_has_job (guest))
        return lv_offline_call (guest, CALL_ID_backup_info, args, ret, error);
    return read_job (guest, args->job, &((bak_job_ret *) ret)->job, error);
}

static gboolean local_stats (LvGuest *guest, const void *data, void *ret, GError **error)
{
    const bak_job_arg *args = data;
    bak_job *job = &((bak_job_ret *) ret)->job;
    gboolean want_ended = (args->flags & STATS_COMPLETED) != 0, found = FALSE;

    if (read_job (guest, args->job, job, NULL)) {
        if (job_state_ended (job->state) == want_ended)
            return TRUE;
        bak_job_clear (job);
    }
    GArray *jobs = want_ended ? record_list (guest->dir, NULL) : NULL;
    for (guint i = 0; jobs && i < jobs->len; i++) {
        bak_job *candidate = &g_array_index (jobs, bak_job, i);
        if (!found && job_state_ended (candidate->state)) {
            bak_job_copy (candidate, job);
            found = TRUE;
        }
        bak_job_clear (candidate);
    }
    if (jobs)
        g_array_unref (jobs);
    if (!found) {               /* no job: said by its state */
        bak_job none = { .id = (char *) "", .domain = guest->name, .error = (char *) "", .checkpoint = (char *) "", .server = (char *) "",
                         .consistency = (char *) "", .owner = (char *) "" };
        bak_job_copy (&none, job);
    }
    return TRUE;
}

static gboolean local_list (LvGuest *guest, const void *data, void *ret, GError **error)
{
    bak_jobs_ret *out = ret;
    GArray *jobs = record_list (guest->dir, NULL);
    guint count = MIN (jobs->len, BAK_JOBS_MAX);
    out->jobs.jobs_val = ret_array (count, sizeof (bak_job));
    out->jobs.jobs_len = count;
    for (guint i = 0; i < jobs->len; i++)
        if (i < count)
            out->jobs.jobs_val[i] = g_array_index (jobs, bak_job, i);
        else
            bak_job_clear (&g_array_index (jobs, bak_job, i));
    if (count && !job_state_ended (out->jobs.jobs_val[0].state)) {
        bak_job now = { 0 };
        if (read_job (guest, out->jobs.jobs_val[0].id, &now, NULL)) {
            bak_job_clear (&out->jobs.jobs_val[0]);
            out->jobs.jobs_val[0] = now;
        }
    }
    g_array_unref (jobs);
    return TRUE;
}

static gboolean local_wait (LvGuest *guest, const void *data, void *ret, GError **error)
{
    const bak_wait_args *args = data;
    gint64 deadline = g_get_monotonic_time () + (gint64) MIN (args->timeout, G_MAXINT64 / 4);
    if (!guest->job && lv_offline_has_job (guest))
        return lv_offline_call (guest, CALL_ID_backup_wait, args, ret, error);
    g_mutex_lock (&guest->snapshot_lock);
    while (guest->snapshot.id && *guest->snapshot.id && (!*args->job || g_str_equal (args->job, guest->snapshot.id))
           && !job_state_ended (guest->snapshot.state) && g_get_monotonic_time () < deadline)
        g_cond_wait_until (&guest->changed, &guest->snapshot_lock, deadline);
    g_mutex_unlock (&guest->snapshot_lock);
    return read_job (guest, args->job, &((bak_job_ret *) ret)->job, error);
}

static gboolean local_xml (LvGuest *guest, const void *data, void *ret, GError **error)
{
    const bak_job_arg *args = data;
    bak_job job = { 0 };
    if (!read_job (guest, args->job, &job, error))
        return FALSE;
    g_autofree char *xml = job_state_ended (job.state) && !*args->job ? NULL : job_xml (NULL, &job);
    bak_job_clear (&job);
    if (!xml)
        return no_job (guest, error);
    ((bak_text_ret *) ret)->text = ret_string (xml);
    return TRUE;
}

/* ---- where a call is done ---- */

enum { FREE = 1,        /* busy is not taken */
       OWNER = 2,       /* a client starts a watcher for it */
       OFF_OWNER = 4,   /* the same, if the guest is powered off: the images are then opened by a process of ours */
       NO_JOB = 8 };    /* a client does not ask the watcher: it has nothing to do with a job */

static const struct {
    gboolean (*func) (LvGuest *guest, const void *args, void *ret, GError **error);
    guint how;
} local_calls[CALL_COUNT] = {
    [CALL_ID_backup_begin] = { local_begin, OWNER }, [CALL_ID_backup_plan] = { local_plan, OFF_OWNER },
    [CALL_ID_backup_stop] = { local_stop, 0 }, [CALL_ID_backup_info] = { local_info, FREE },
    [CALL_ID_backup_list] = { local_list, FREE }, [CALL_ID_backup_wait] = { local_wait, FREE }, [CALL_ID_backup_xml] = { local_xml, FREE },
    [CALL_ID_backup_limit] = { local_limit, 0 }, [CALL_ID_job_stats] = { local_stats, FREE }, [CALL_ID_job_abort] = { local_abort, 0 },
    [CALL_ID_checkpoint_create] = { lv_local_checkpoint_create, OFF_OWNER }, [CALL_ID_checkpoint_delete] = { lv_local_checkpoint_delete, OFF_OWNER },
    [CALL_ID_checkpoint_check] = { lv_local_checkpoint_check, OFF_OWNER }, [CALL_ID_checkpoint_xml] = { lv_local_checkpoint_xml, FREE | NO_JOB },
    [CALL_ID_checkpoint_list] = { lv_local_checkpoint_list, FREE | NO_JOB }, [CALL_ID_checkpoint_children] = { lv_local_checkpoint_children, FREE | NO_JOB },
    [CALL_ID_checkpoint_lookup] = { lv_local_checkpoint_lookup, FREE | NO_JOB },
};

/* What an owner before left, or this one itself when it could not undo all. */
static void recover_online (LvGuest *guest)
{
    g_autoptr (GError) failure = NULL;

    if (!journal_exists (guest->online))
        return;
    g_rec_mutex_lock (&guest->busy);
    if (!guest->job && lv_guest_lock (guest, &failure)) {
        lv_job_recover (guest, &failure);
        if (!guest->job)
            lv_guest_unlock (guest);
    }
    g_rec_mutex_unlock (&guest->busy);
    if (failure)
        g_warning ("guest '%s': %s", guest->name, failure->message);
}

static gboolean call_here (LvGuest *guest, CallId id, const void *args, void *ret, GError **error)
{
    if (local_calls[id].how & FREE)
        return local_calls[id].func (guest, args, ret, error);
    gint64 most = config_get_int ("monitor_timeout", 0), seconds = most > 0 ? MIN (most, ANSWER_SECONDS) : ANSWER_SECONDS;
    if (!lv_guest_look (guest, seconds * 1000))
        return error_set (error, BAK_ERROR_TIMEOUT, _("guest '%s': libvirt does not answer what it is asked of the guest for %d seconds: QEMU seems to hang; the backup stays as it is"),
                          guest->name, (int) seconds);
    g_rec_mutex_lock (&guest->busy);
    if (guest->lv->role != DRIVER_ROLE_CLIENT)
        recover_online (guest);
    gboolean ok = local_calls[id].func (guest, args, ret, error);
    g_rec_mutex_unlock (&guest->busy);
    return ok;
}

static gboolean is_off (LvGuest *guest)
{
    g_autoptr (virDomain) domain = lv_guest_domain (guest, NULL);
    return domain && virDomainIsActive (domain) == 0;
}

/* A client's: to the watcher, which is started when the call needs one. FALSE: to be done here. */
static gboolean hand_over (LvConn *lv, LvGuest *guest, CallId id, const void *args, void *ret, gboolean *ret_ok, GError **error)
{
    guint how = local_calls[id].how;
    if ((how & NO_JOB) || lv->role != DRIVER_ROLE_CLIENT)
        return FALSE;
    gboolean needs = (how & OWNER) || ((how & OFF_OWNER) && is_off (guest));
    return watchers_ask (lv->watchers, guest->name, needs, id, args, ret, ret_ok, error);
}

static gboolean check_domain (LvGuest *guest, GError **error)
{
    g_autoptr (virDomain) domain = lv_guest_domain (guest, error);
    return domain != NULL;
}

static gboolean route (DriverConn *conn, CallId id, const void *args, void *ret, GError **error)
{
    LvConn *lv = conn->priv;
    LvGuest *guest = lv_guest_get (lv, *(char *const *) args, error);
    gboolean ok = FALSE;

    if (!guest)
        return FALSE;
    if (id == CALL_ID_job_abort || (id == CALL_ID_backup_stop && ((const bak_stop_args *) args)->flags & STOP_ABORT)) {
        g_mutex_lock (&guest->snapshot_lock);
        if (guest->snapshot.state == JOB_STATE_PREPARING && guest->snapshot.id && *guest->snapshot.id)
            g_atomic_int_set (&guest->cancel, TRUE);    /* ends a begin that is under way */
        g_mutex_unlock (&guest->snapshot_lock);
    }
    /* A transient guest that is gone keeps its records. */
    gboolean known = g_file_test (guest->dir, G_FILE_TEST_IS_DIR) || check_domain (guest, error);
    if (known && !hand_over (lv, guest, id, args, ret, &ok, error))
        ok = call_here (guest, id, args, ret, error);
    lv_guest_unref (guest);
    return ok;
}

#define ROUTED(call, args, ret) \
    static gboolean routed_##call (DriverConn *conn, const args *a, ret *r, GError **error) { return route (conn, CALL_ID_##call, a, r, error); }
ROUTED (backup_begin, bak_begin_args, bak_begin_ret)
ROUTED (backup_plan, bak_begin_args, bak_text_ret)
ROUTED (backup_stop, bak_stop_args, bak_job_ret)
ROUTED (backup_info, bak_job_arg, bak_job_ret)
ROUTED (backup_list, bak_domain_arg, bak_jobs_ret)
ROUTED (backup_wait, bak_wait_args, bak_job_ret)
ROUTED (backup_xml, bak_job_arg, bak_text_ret)
ROUTED (backup_limit, bak_limit_args, bak_none)
ROUTED (job_stats, bak_job_arg, bak_job_ret)
ROUTED (job_abort, bak_domain_arg, bak_none)
ROUTED (checkpoint_create, bak_checkpoint_create_args, bak_checkpoint_ret)
ROUTED (checkpoint_xml, bak_checkpoint_arg, bak_text_ret)
ROUTED (checkpoint_list, bak_domain_arg, bak_checkpoints_ret)
ROUTED (checkpoint_children, bak_checkpoint_arg, bak_checkpoints_ret)
ROUTED (checkpoint_lookup, bak_checkpoint_arg, bak_checkpoint_ret)
ROUTED (checkpoint_delete, bak_checkpoint_arg, bak_none)
ROUTED (checkpoint_check, bak_check_args, bak_check_ret)

/* ---- the connection itself ---- */

static gboolean hello (DriverConn *conn, const bak_hello_args *args, bak_hello_ret *ret, GError **error)
{
    ret->api = 1;
    ret->product = ret_string ("libbackup " LIBBACKUP_VERSION);
    ret->state_dir = ret_string (((LvConn *) conn->priv)->state_dir);
    return TRUE;
}

static gboolean event_register (DriverConn *conn, const bak_register_args *args, bak_register_ret *ret, GError **error)
{
    LvConn *lv = conn->priv;
    if (args->kind < -1 || args->kind >= EVENT_KINDS)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("there is no event %d"), args->kind);
    g_mutex_lock (&lv->lock);
    ret->id = ++lv->next_registration;
    lv->registrations++;
    g_mutex_unlock (&lv->lock);
    if (lv->role == DRIVER_ROLE_CLIENT)
        watchers_listen (lv->watchers);
    return TRUE;
}

static gboolean event_deregister (DriverConn *conn, const bak_deregister_args *args, bak_none *ret, GError **error)
{
    LvConn *lv = conn->priv;
    g_mutex_lock (&lv->lock);
    gboolean known = args->id > 0 && args->id <= lv->next_registration && lv->registrations > 0;
    if (known)
        lv->registrations--;
    g_mutex_unlock (&lv->lock);
    return known || error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("event registration %d does not exist"), args->id);
}

static void recover_guest (LvConn *lv, const char *name)
{
    LvGuest *guest = lv_guest_get (lv, name, NULL);
    if (guest)
        recover_online (guest);
    lv_offline_recover (lv, name);
    lv_guest_unref (guest);
}

/* Every start of an owner recovers; a client has the watcher do it. */
static void recover_all (LvConn *lv)
{
    g_autofree char *path = g_build_filename (lv->state_dir, "guests", NULL);
    g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name (dir))) {
        g_autofree char *offline = lv_guest_dir (lv, name), *online = g_build_filename (offline, "online", NULL);
        g_autoptr (GError) failure = NULL;
        if ((lv->watch_guest && !g_str_equal (name, lv->watch_guest)) || (!journal_exists (offline) && !journal_exists (online)))
            continue;
        if (lv->role != DRIVER_ROLE_CLIENT)
            recover_guest (lv, name);
        else if (!watchers_owned (lv->watchers, name) && !watchers_start (lv->watchers, name, &failure))
            g_warning ("guest '%s': %s", name, failure->message);
    }
}

static void note_uri (LvConn *lv)
{
    g_autofree char *path = g_build_filename (lv->state_dir, "uri", NULL), *text = g_strdup_printf ("%s\n", lv->uri);
    if (!g_file_test (path, G_FILE_TEST_EXISTS) && files_make_dir (lv->state_dir, 0700, NULL))
        files_write_atomic (path, text, -1, 0600, NULL);
}

static char *state_dir (const LvConn *lv, const DriverOpenOptions *options)
{
    if (options->role == DRIVER_ROLE_WATCHER && options->state_dir)
        return g_strdup (options->state_dir);           /* a watcher is given the folder itself */
    g_autofree char *base = options->state_dir ? g_strdup (options->state_dir) : files_state_dir (lv->session);
    g_autofree char *hash = lv_uri_hash (lv->uri), *name = g_strconcat ("libvirt-", hash, NULL);
    return g_build_filename (base, name, NULL);
}

static void driver_close_conn (DriverConn *conn);

static gboolean driver_open_conn (DriverConn *conn, const DriverOpenOptions *options, GError **error)
{
    static const char *const folders[] = { "online", ".", NULL };
    LvConn *lv = conn->priv = g_new0 (LvConn, 1);

    lv_event_init ();
    lv_error_quiet (NULL);
    lv->conn = conn;
    lv->uri = g_strdup (conn->uri + strlen ("libvirt+"));
    lv->local = lv_uri_is_local (lv->uri);
    lv->session = geteuid () != 0;
    lv->role = options->role;
    lv->watch_guest = g_strdup (options->watch_guest);
    lv->state_dir = state_dir (lv, options);
    lv->callbacks = g_array_new (FALSE, FALSE, sizeof (int));
    lv->listener = lv_listener_new (lv);
    lv->guests = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, (GDestroyNotify) lv_guest_unref);
    lv->watchers = watchers_new (conn, lv->state_dir, conn->uri, folders);
    g_mutex_init (&lv->lock);
    g_mutex_init (&lv->engine_lock);
    g_autoptr (virConnect) vir = lv_connect (lv, error);
    if (!vir) {
        driver_close_conn (conn);
        return FALSE;
    }
    if (!conn->readonly) {
        note_uri (lv);
        recover_all (lv);
    }
    return TRUE;
}

static void driver_close_conn (DriverConn *conn)
{
    LvConn *lv = conn->priv;
    GHashTableIter iter;
    gpointer guest;

    if (!lv)
        return;
    watchers_free (lv->watchers);
    lv_offline_close (lv);
    g_hash_table_iter_init (&iter, lv->guests);
    while (g_hash_table_iter_next (&iter, NULL, &guest))
        lv_guest_shutdown (guest);
    lv_listener_close (lv->listener);
    g_mutex_lock (&lv->lock);
    lv_events_deregister (lv);
    g_clear_pointer (&lv->vir, virConnectClose);
    g_mutex_unlock (&lv->lock);
    g_hash_table_unref (lv->guests);
    g_array_unref (lv->callbacks);
    g_mutex_clear (&lv->lock);
    g_mutex_clear (&lv->engine_lock);
    g_free (lv->uri);
    g_free (lv->state_dir);
    g_free (lv->watch_guest);
    g_free (lv);
    conn->priv = NULL;
}

static gboolean probe (const char *uri)
{
    return g_str_has_prefix (uri, "libvirt+");
}

extern const DriverOps libvirt_driver;
const DriverOps libvirt_driver = {
    .name = "libvirt", .probe = probe, .open = driver_open_conn, .close = driver_close_conn,
    .hello = hello, .capabilities = lv_capabilities, .list = lv_list, .lookup = lv_lookup,
    .domain_info = lv_domain_info, .domain_state = lv_domain_state, .domain_xml = lv_domain_xml, .domain_disks = lv_domain_disks,
    .domain_disk = lv_domain_disk, .fs_freeze = lv_fs_freeze, .fs_thaw = lv_fs_thaw,
    .backup_begin = routed_backup_begin, .backup_plan = routed_backup_plan, .backup_stop = routed_backup_stop, .backup_info = routed_backup_info,
    .backup_list = routed_backup_list, .backup_wait = routed_backup_wait, .backup_xml = routed_backup_xml, .backup_limit = routed_backup_limit,
    .job_stats = routed_job_stats, .job_abort = routed_job_abort, .checkpoint_create = routed_checkpoint_create, .checkpoint_xml = routed_checkpoint_xml,
    .checkpoint_list = routed_checkpoint_list, .checkpoint_children = routed_checkpoint_children, .checkpoint_lookup = routed_checkpoint_lookup,
    .checkpoint_delete = routed_checkpoint_delete, .checkpoint_check = routed_checkpoint_check,
    .event_register = event_register, .event_deregister = event_deregister,
};
