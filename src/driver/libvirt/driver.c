/* The libvirt driver's table: opening a connection, and which process does a call. A watcher or
 * daemon does it here; a client hands what concerns a job to the guest's watcher. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "driver/libvirt/local.h"
#include "driver/libvirt/event.h"
#include "driver/libvirt/offline.h"
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
    /* it ended by itself: acknowledged by saying how */
    return board_recorded (&guest->board, args->job, job, error);
}

static gboolean local_limit (LvGuest *guest, const void *data, void *ret, GError **error)
{
    const bak_limit_args *args = data;
    if (guest->job)
        return life_limit (guest->job, args->disk, args->bytes_per_sec, error);
    if (lv_offline_has_job (guest))
        return lv_offline_call (guest, CALL_ID_backup_limit, args, ret, error);
    return board_no_job (&guest->board, error);
}

/* A libvirt client's only end of a pull: on a ready one it is the verdict "done". */
static gboolean local_abort (LvGuest *guest, const void *args, void *ret, GError **error)
{
    if (!guest->job && lv_offline_has_job (guest))
        return lv_offline_call (guest, CALL_ID_job_abort, args, ret, error);
    return guest->job ? life_job_abort (guest->job, lv_job_stop, error)
                      : board_no_job (&guest->board, error);
}

/* ---- records and board: busy is not held ---- */

static void refresh_job (LvGuest *guest)
{
    if (!g_rec_mutex_trylock (&guest->busy))
        return; /* who has it tells what it does */
    g_rec_mutex_unlock (&guest->busy);
    lv_guest_look (guest, LOOK_MS);
}

static const LvGuestJobs guest_jobs = { .refresh = refresh_job,
                                        .take = lv_job_take,
                                        .tick = lv_job_tick,
                                        .urgent = lv_watch_urgent,
                                        .ops = &lv_job_ops };

static gboolean local_info (LvGuest *guest, const void *data, void *ret, GError **error)
{
    const bak_job_arg *args = data;
    if (!guest->job && lv_offline_has_job (guest))
        return lv_offline_call (guest, CALL_ID_backup_info, args, ret, error);
    return board_read (&guest->board, args->job, &((bak_job_ret *) ret)->job, error);
}

static gboolean local_stats (LvGuest *guest, const void *args, void *ret, GError **error)
{
    return board_stats (&guest->board, args, ret, error);
}

static gboolean local_list (LvGuest *guest, const void *args, void *ret, GError **error)
{
    return board_list (&guest->board, ret, error);
}

static gboolean local_wait (LvGuest *guest, const void *args, void *ret, GError **error)
{
    if (!guest->job && lv_offline_has_job (guest))
        return lv_offline_call (guest, CALL_ID_backup_wait, args, ret, error);
    return board_wait (&guest->board, args, ret, error);
}

static gboolean local_xml (LvGuest *guest, const void *args, void *ret, GError **error)
{
    return board_xml (&guest->board, args, ret, error);
}

/* ---- where a call is done ---- */

enum {
    FREE = 1,  /* busy is not taken */
    OWNER = 2, /* a client starts a watcher for it */
    /* the same, if the guest is powered off: the images are then opened by a process of ours */
    OFF_OWNER = 4,
    NO_JOB = 8
}; /* a client does not ask the watcher: it has nothing to do with a job */

static const DriverCall calls[CALL_COUNT];

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
    if (calls[id].how & FREE)
        return calls[id].guest (guest, args, ret, error);
    gint64 most = config_get_int ("monitor_timeout", 0),
           seconds = most > 0 ? MIN (most, ANSWER_SECONDS) : ANSWER_SECONDS;
    if (!lv_guest_look (guest, seconds * 1000))
        return error_set (error, BAK_ERROR_TIMEOUT,
                          _("guest '%s': libvirt does not answer what it is asked of the guest "
                             "for %d seconds: QEMU seems to hang; the backup stays as it is"),
                          guest->name, (int) seconds);
    g_rec_mutex_lock (&guest->busy);
    if (guest->lv->role != DRIVER_ROLE_CLIENT)
        recover_online (guest);
    gboolean ok = calls[id].guest (guest, args, ret, error);
    g_rec_mutex_unlock (&guest->busy);
    return ok;
}

static gboolean is_off (LvGuest *guest)
{
    g_autoptr (virDomain) domain = lv_guest_domain (guest, NULL);
    return domain && virDomainIsActive (domain) == 0;
}

/* A client's: to the watcher, which is started when the call needs one. FALSE: to be done here. */
static gboolean hand_over (LvConn *lv, LvGuest *guest, CallId id, const void *args, void *ret,
                           gboolean *ret_ok, GError **error)
{
    guint how = calls[id].how;
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
    if (id == CALL_ID_job_abort
        || (id == CALL_ID_backup_stop && ((const bak_stop_args *) args)->flags & STOP_ABORT)) {
        /* ends a begin that is under way */
        if (board_state (&guest->board) == JOB_STATE_PREPARING)
            g_atomic_int_set (&guest->cancel, TRUE);
    }
    /* A transient guest that is gone keeps its records. */
    gboolean known = g_file_test (guest->dir, G_FILE_TEST_IS_DIR) || check_domain (guest, error);
    if (known && !hand_over (lv, guest, id, args, ret, &ok, error))
        ok = call_here (guest, id, args, ret, error);
    lv_guest_unref (guest);
    return ok;
}

/* ---- the connection itself ---- */

static gboolean hello (DriverConn *conn, const bak_hello_args *args, bak_hello_ret *ret,
                       GError **error)
{
    ret->api = 1;
    ret->product = ret_string ("libbackup " LIBBACKUP_VERSION);
    ret->state_dir = ret_string (((LvConn *) conn->priv)->state_dir);
    return TRUE;
}

static gboolean event_register (DriverConn *conn, const bak_register_args *args,
                                bak_register_ret *ret, GError **error)
{
    LvConn *lv = conn->priv;
    if (args->kind < -1 || args->kind >= EVENT_KINDS)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("there is no event %d"),
                          args->kind);
    g_mutex_lock (&lv->lock);
    ret->id = ++lv->next_registration;
    lv->registrations++;
    g_mutex_unlock (&lv->lock);
    if (lv->role == DRIVER_ROLE_CLIENT)
        watchers_listen (lv->watchers);
    return TRUE;
}

static gboolean event_deregister (DriverConn *conn, const bak_deregister_args *args, bak_none *ret,
                                  GError **error)
{
    LvConn *lv = conn->priv;
    g_mutex_lock (&lv->lock);
    gboolean known = args->id > 0 && args->id <= lv->next_registration && lv->registrations > 0;
    if (known)
        lv->registrations--;
    g_mutex_unlock (&lv->lock);
    return known
           || error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                         _("event registration %d does not exist"), args->id);
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
        g_autofree char *offline = lv_guest_dir (lv, name),
                        *online = g_build_filename (offline, "online", NULL);
        g_autoptr (GError) failure = NULL;
        if ((lv->watch_guest && !g_str_equal (name, lv->watch_guest))
            || (!journal_exists (offline) && !journal_exists (online)))
            continue;
        if (lv->role != DRIVER_ROLE_CLIENT)
            recover_guest (lv, name);
        else if (!watchers_owned (lv->watchers, name)
                 && !watchers_start (lv->watchers, name, &failure))
            g_warning ("guest '%s': %s", name, failure->message);
    }
}

static void note_uri (LvConn *lv)
{
    g_autofree char *path = g_build_filename (lv->state_dir, "uri", NULL),
                    *text = g_strdup_printf ("%s\n", lv->uri);
    if (!g_file_test (path, G_FILE_TEST_EXISTS) && files_make_dir (lv->state_dir, 0700, NULL))
        files_write_atomic (path, text, -1, 0600, NULL);
}

static char *state_dir (const LvConn *lv, const DriverOpenOptions *options)
{
    if (options->role == DRIVER_ROLE_WATCHER && options->state_dir)
        return g_strdup (options->state_dir); /* a watcher is given the folder itself */
    g_autofree char *base =
        options->state_dir ? g_strdup (options->state_dir) : config_state_dir (lv->session);
    g_autofree char *hash = lv_uri_hash (lv->uri), *name = g_strconcat ("libvirt-", hash, NULL);
    return g_build_filename (base, name, NULL);
}

static void driver_close_conn (DriverConn *conn);

static void listen_to_libvirt (LvConn *lv, gboolean open)
{
    if (open)
        lv_events_register (lv);
    else
        lv_events_deregister (lv);
}

static gboolean driver_open_conn (DriverConn *conn, const DriverOpenOptions *options,
                                  GError **error)
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
    lv->jobs = &guest_jobs;
    lv->listen = listen_to_libvirt;
    lv->callbacks = g_array_new (FALSE, FALSE, sizeof (int));
    lv->listener = lv_listener_new (lv);
    lv->guests =
        g_hash_table_new_full (g_str_hash, g_str_equal, g_free, (GDestroyNotify) lv_guest_unref);
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

/* libvirt keeps the guest's definition, which has to name its images. */
static gboolean refuse_block_job (const bak_block_args *args, GError **error)
{
    return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                      _("guest '%s' is libvirt's, which has to know its images: use libvirt's own "
                         "block jobs (virsh blockcommit, blockpull, blockcopy)"),
                      args->domain);
}

static gboolean block_begin (DriverConn *conn G_GNUC_UNUSED, const bak_block_args *args,
                             bak_begin_ret *ret G_GNUC_UNUSED, GError **error)
{
    return refuse_block_job (args, error);
}

static gboolean block_plan (DriverConn *conn G_GNUC_UNUSED, const bak_block_args *args,
                            bak_text_ret *ret G_GNUC_UNUSED, GError **error)
{
    return refuse_block_job (args, error);
}

static gboolean probe (const char *uri)
{
    return g_str_has_prefix (uri, "libvirt+");
}

static gboolean fd_associate (DriverConn *conn G_GNUC_UNUSED, const bak_fds_args *args,
                              bak_none *ret G_GNUC_UNUSED, GError **error)
{
    return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                      _("guest '%s': a socket that was passed is not handed on to libvirt; use "
                         "<server transport='unix'> or 'tcp'"),
                      args->domain);
}

/* ---- the table ---- */

static const DriverCall calls[CALL_COUNT] = {
    ON_CONN (hello, hello),
    ON_CONN (capabilities, lv_capabilities),
    ON_CONN (list, lv_list),
    ON_CONN (lookup, lv_lookup),
    ON_CONN (backup_running, driver_running),
    ON_CONN (domain_info, lv_domain_info),
    ON_CONN (domain_state, lv_domain_state),
    ON_CONN (domain_xml, lv_domain_xml),
    ON_CONN (domain_disks, lv_domain_disks),
    ON_CONN (domain_disk, lv_domain_disk),
    ON_CONN (domain_chain, lv_domain_chain),
    ON_CONN (fs_freeze, lv_fs_freeze),
    ON_CONN (fs_thaw, lv_fs_thaw),
    ON_CONN (event_register, event_register),
    ON_CONN (event_deregister, event_deregister),
    ON_CONN (fd_associate, fd_associate),
    ON_GUEST (backup_begin, local_begin, OWNER),
    ON_GUEST (backup_plan, local_plan, OFF_OWNER),
    ON_GUEST (backup_stop, local_stop, 0),
    ON_GUEST (backup_info, local_info, FREE),
    ON_GUEST (backup_list, local_list, FREE),
    ON_GUEST (backup_wait, local_wait, FREE),
    ON_GUEST (backup_xml, local_xml, FREE),
    ON_GUEST (backup_limit, local_limit, 0),
    ON_GUEST (job_stats, local_stats, FREE),
    ON_GUEST (job_abort, local_abort, 0),
    ON_CONN (block_begin, block_begin),
    ON_CONN (block_plan, block_plan),
    ON_GUEST (checkpoint_create, lv_local_checkpoint_create, OFF_OWNER),
    ON_GUEST (checkpoint_delete, lv_local_checkpoint_delete, OFF_OWNER),
    ON_GUEST (checkpoint_check, lv_local_checkpoint_check, OFF_OWNER),
    ON_GUEST (checkpoint_xml, lv_local_checkpoint_xml, FREE | NO_JOB),
    ON_GUEST (checkpoint_list, lv_local_checkpoint_list, FREE | NO_JOB),
    ON_GUEST (checkpoint_children, lv_local_checkpoint_children, FREE | NO_JOB),
    ON_GUEST (checkpoint_lookup, lv_local_checkpoint_lookup, FREE | NO_JOB),
};

extern const DriverOps libvirt_driver;
const DriverOps libvirt_driver = {
    .name = "libvirt",
    .probe = probe,
    .open = driver_open_conn,
    .close = driver_close_conn,
    .calls = calls,
    .route = route,
};
