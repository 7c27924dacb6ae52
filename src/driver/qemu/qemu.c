/* The qemu driver: which process does a call. A daemon, a watcher and an embedded driver do it
 * here; a client hands what concerns a job to the guest's watcher, and does the rest here, holding
 * the monitor no longer than the call. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/agent.h"
#include "driver/qemu/blockjob.h"
#include "driver/qemu/local.h"
#include "driver/qemu/job.h"
#include "driver/qemu/qemu.h"
#include "util/config.h"
#include "util/files.h"

enum { AGENT_TIMEOUT_MS = 5000, FREEZE_TIMEOUT_MS = 60000 };

/* ---- local calls ---- */

static gboolean local_info (Guest *guest, const void *args, void *ret, GError **error)
{
    if (!guest_info (guest, ret, error))
        return FALSE;
    bak_domain_info *info = ret;
    if (guest->job) {
        free (info->job);
        info->job = ret_string (guest->job->record.id);
    }
    return TRUE;
}

static gboolean local_state (Guest *guest, const void *args, void *ret, GError **error)
{
    return guest_state (guest, ret, error);
}

static gboolean local_xml (Guest *guest, const void *args, void *ret, GError **error)
{
    g_autofree char *xml = guest_xml (guest, error);
    if (!xml)
        return FALSE;
    ((bak_text_ret *) ret)->text = ret_string (xml);
    return TRUE;
}

static gboolean local_disks (Guest *guest, const void *args, void *ret, GError **error)
{
    return guest_disks (guest, ret, error);
}

static gboolean local_disk (Guest *guest, const void *data, void *ret, GError **error)
{
    const bak_disk_arg *args = data;
    bak_disks_ret all = { 0 };
    if (!guest_disks (guest, &all, error))
        return FALSE;
    GString *known = g_string_new (NULL);
    gboolean found = FALSE;
    for (guint i = 0; !found && i < all.disks.disks_len; i++) {
        bak_disk *disk = &all.disks.disks_val[i];
        for (guint k = 0; !found && k < disk->names.names_len; k++)
            found = g_str_equal (disk->names.names_val[k], args->disk);
        found = found || g_str_equal (disk->target, args->disk);
        g_string_append_printf (known, "%s%s", known->len ? ", " : "", disk->target);
        if (found) {
            ((bak_disk_ret *) ret)->disk = *disk;
            memset (disk, 0, sizeof *disk);
            disk->target = disk->node = disk->source = disk->type = disk->device = disk->format =
                disk->bus = disk->iothread = disk->note = NULL;
        }
    }
    for (guint i = 0; i < all.disks.disks_len; i++)
        if (all.disks.disks_val[i].target)
            xdr_free ((xdrproc_t) xdr_bak_disk, (char *) &all.disks.disks_val[i]);
    free (all.disks.disks_val);
    g_autofree char *list = g_string_free (known, FALSE);
    g_autofree char *shown = text_sanitize (args->disk, 256);
    return found
           || error_set (error, BAK_ERROR_NO_DISK, _("guest '%s' has no disk '%s'; it has: %s"),
                         guest->def->name, shown, list);
}

static gboolean local_block_stats (Guest *guest, const void *data, void *ret, GError **error)
{
    return guest_block_stats (guest, ((const bak_disk_arg *) data)->disk, ret, error);
}

static Agent *open_agent (Guest *guest, GError **error)
{
    if (!guest->def->agent || !*guest->def->agent) {
        error_set (error, BAK_ERROR_AGENT,
                   _("guest '%s' was attached without a guest agent (attach --agent PATH)"),
                   guest->def->name);
        return NULL;
    }
    return agent_connect (guest->def->agent, AGENT_TIMEOUT_MS, error);
}

static gboolean local_freeze (Guest *guest, const void *data, void *ret, GError **error)
{
    const bak_mounts_args *args = data;
    g_autoptr (Agent) agent = open_agent (guest, error);
    g_autoptr (GPtrArray) mounts = g_ptr_array_new ();
    for (guint i = 0; i < args->mounts.mounts_len; i++)
        g_ptr_array_add (mounts, args->mounts.mounts_val[i]);
    g_ptr_array_add (mounts, NULL);
    return agent
           && agent_freeze (agent,
                            args->mounts.mounts_len ? (const char *const *) mounts->pdata : NULL,
                            FREEZE_TIMEOUT_MS, &((bak_count_ret *) ret)->count, error);
}

static gboolean local_thaw (Guest *guest, const void *args, void *ret, GError **error)
{
    g_autoptr (Agent) agent = open_agent (guest, error);
    return agent && agent_thaw (agent, FREEZE_TIMEOUT_MS, &((bak_count_ret *) ret)->count, error);
}

static gboolean local_plan (Guest *guest, const void *args, void *ret, GError **error)
{
    g_autofree char *text = job_plan_text (guest, args, error);
    if (!text)
        return FALSE;
    ((bak_text_ret *) ret)->text = ret_string (text);
    return TRUE;
}

static gboolean local_stop (Guest *guest, const void *data, void *ret, GError **error)
{
    const bak_stop_args *args = data;
    bak_job *job = &((bak_job_ret *) ret)->job;
    gboolean ours = guest->job && (!*args->job || g_str_equal (args->job, guest->job->record.id));
    if (ours)
        return job_stop (guest, (args->flags & STOP_ABORT) != 0, job, error);
    if (!board_recorded (&guest->board, args->job, job, error))
        return FALSE;
    if (job_state_ended (job->state))
        return TRUE; /* by itself: acknowledged by saying how */
    error_set (error, BAK_ERROR_MONITOR_HELD,
               _("guest '%s': backup %s is %s, and the process that runs it (it holds '%s/lock') "
                  "does not answer"),
               guest->def->name, job->id, job_state_to_string (job->state), guest->dir);
    bak_job_clear (job);
    return FALSE;
}

static gboolean local_limit (Guest *guest, const void *data, void *ret, GError **error)
{
    const bak_limit_args *args = data;
    return guest->job ? life_limit (guest->job, args->disk, args->bytes_per_sec, error)
                      : board_no_job (&guest->board, error);
}

static gboolean local_abort (Guest *guest, const void *args, void *ret, GError **error)
{
    return guest->job ? life_job_abort (guest->job, job_stop, error)
                      : board_no_job (&guest->board, error);
}

static gboolean refresh_here (Guest *guest, const void *args, void *ret, GError **error)
{
    job_refresh (guest);
    return TRUE;
}

static void refresh_job (Guest *guest)
{
    guest_do (guest, FALSE, refresh_here, NULL, NULL, NULL);
}

static const GuestJobs guest_jobs = { .refresh = refresh_job,
                                      .tick = job_tick,
                                      .note_errors = job_note_errors,
                                      .note_migration = job_note_migration,
                                      .recover = job_recover,
                                      .recover_gone = job_recover_gone,
                                      .settle = blockjob_settle,
                                      .settle_gone = blockjob_settle_gone,
                                      .refuse_all = blockjob_refuse_all,
                                      .ops = &qemu_job_ops };

static gboolean direct_info (Guest *guest, const void *data, void *ret, GError **error)
{
    return board_read (&guest->board, ((const bak_job_arg *) data)->job,
                       &((bak_job_ret *) ret)->job, error);
}

static gboolean direct_stats (Guest *guest, const void *args, void *ret, GError **error)
{
    return board_stats (&guest->board, args, ret, error);
}

static gboolean direct_list (Guest *guest, const void *args, void *ret, GError **error)
{
    return board_list (&guest->board, ret, error);
}

static gboolean direct_wait (Guest *guest, const void *args, void *ret, GError **error)
{
    return board_wait (&guest->board, args, ret, error);
}

static gboolean direct_xml (Guest *guest, const void *args, void *ret, GError **error)
{
    return board_xml (&guest->board, args, ret, error);
}

/* ---- where a call is done ---- */

enum {
    DIRECT = 1,      /* by records and board: no monitor */
    NO_MONITOR = 2,  /* on the guest's thread, but the monitor is not needed */
    NEEDS_OWNER = 4, /* a client starts a watcher for it */
    JOB_ONLY = 8
}; /* concerns a running job: a client has none itself */

static gboolean does_jobs_itself (const QemuConn *qemu)
{
    return qemu->embedded || qemu->role != DRIVER_ROLE_CLIENT;
}

/* Images without a storage daemon are looked at as they are; of a guest that may be on or off the
 * call finds out itself. */
static gboolean needs_monitor (const Guest *guest, CallId id)
{
    gboolean looks = (id >= CALL_ID_domain_info && id <= CALL_ID_domain_disk)
                     || id == CALL_ID_domain_block_stats;
    return !(qemu_driver.calls[id].how & NO_MONITOR) && !(looks && guest->def->images->len > 0);
}

static gboolean recover_now (Guest *guest, const void *args, void *ret, GError **error)
{
    return guest->job || !journal_exists (guest->dir) || guest_acquire (guest, error);
}

/* A job that could not be cleaned up when it ended (QEMU hung, the monitor was lost) is, before
 * anything else is said. */
static void recover_leftovers (Guest *guest)
{
    int state = board_state (&guest->board);
    gboolean active = state != JOB_STATE_NONE && !job_state_ended (state);
    if (!active && journal_exists (guest->dir))
        guest_do (guest, FALSE, recover_now, NULL, NULL, NULL);
}

gboolean qemu_route (DriverConn *conn, CallId id, const void *args, void *ret, GError **error)
{
    QemuConn *qemu = conn->priv;
    const char *name = *(char *const *) args;
    Guest *guest = guest_get (qemu, name, error);
    gboolean ok = FALSE, done = FALSE;

    if (!guest)
        return FALSE;
    if (id == CALL_ID_job_abort
        || (id == CALL_ID_backup_stop && ((const bak_stop_args *) args)->flags & STOP_ABORT)) {
        int state = board_state (&guest->board);
        /* ends a begin that is under way, or the flush of what is copied */
        if (state == JOB_STATE_PREPARING || state == JOB_STATE_STOPPING)
            g_atomic_int_set (&guest->cancel, TRUE);
    }
    if (!does_jobs_itself (qemu))
        done = watchers_ask (qemu->watchers, name, (qemu_driver.calls[id].how & NEEDS_OWNER) != 0,
                             id, args, ret, &ok, error);
    if (!done && does_jobs_itself (qemu))
        recover_leftovers (guest);
    const DriverCall *call = &qemu_driver.calls[id];
    if (!done && (call->how & DIRECT))
        ok = call->guest (guest, args, ret, error);
    else if (!done)
        ok = guest_do (guest, needs_monitor (guest, id), call->guest, args, ret, error);
    guest_unref (guest);
    return ok;
}

/* ---- the connection itself ---- */

static gboolean qemu_hello (DriverConn *conn, const bak_hello_args *args, bak_hello_ret *ret,
                            GError **error)
{
    QemuConn *qemu = conn->priv;
    ret->api = 1;
    ret->product = ret_string ("libbackup " LIBBACKUP_VERSION);
    ret->state_dir = ret_string (qemu->state_dir);
    return TRUE;
}

static gboolean qemu_event_register (DriverConn *conn, const bak_register_args *args,
                                     bak_register_ret *ret, GError **error)
{
    QemuConn *qemu = conn->priv;
    if (args->kind < -1 || args->kind >= EVENT_KINDS)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("there is no event %d"),
                          args->kind);
    g_mutex_lock (&qemu->lock);
    ret->id = ++qemu->next_registration;
    qemu->registrations++;
    g_mutex_unlock (&qemu->lock);
    if (!does_jobs_itself (qemu))
        watchers_listen (qemu->watchers);
    return TRUE;
}

static gboolean qemu_event_deregister (DriverConn *conn, const bak_deregister_args *args,
                                       bak_none *ret, GError **error)
{
    QemuConn *qemu = conn->priv;
    g_mutex_lock (&qemu->lock);
    gboolean known = args->id > 0 && args->id <= qemu->next_registration && qemu->registrations > 0;
    if (known)
        qemu->registrations--;
    g_mutex_unlock (&qemu->lock);
    return known
           || error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                         _("event registration %d does not exist"), args->id);
}

/* What a daemon is asked most. Nothing here waits for a thread, for QEMU or for a name server. */
static gboolean qemu_peek (DriverConn *conn, const char *name, DriverPeek *ret)
{
    QemuConn *qemu = conn->priv;

    if (!g_mutex_trylock (&qemu->lock))
        return FALSE; /* who has it may be waiting for the end of a guest's thread */
    Guest *guest = guest_find (qemu, name);
    gboolean known = guest && qemu_peek_guest (guest, ret);
    g_mutex_unlock (&qemu->lock);
    return known;
}

/* Every start of an owner recovers; a client has the watcher do it. */
static void recover_all (QemuConn *qemu)
{
    g_autofree char *path = g_build_filename (qemu->state_dir, "guests", NULL);
    g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name (dir))) {
        g_autofree char *guest_dir = g_build_filename (path, name, NULL);
        g_autoptr (GError) error = NULL;
        if (!journal_exists (guest_dir)
            || (qemu->watch_guest && !g_str_equal (name, qemu->watch_guest)))
            continue;
        if (!does_jobs_itself (qemu)) {
            if (!watchers_owned (qemu->watchers, name)
                && !watchers_start (qemu->watchers, name, &error))
                g_warning ("guest '%s': %s", name, error->message);
            continue;
        }
        Guest *guest = guest_get (qemu, name, &error);
        bak_state_ret state = { 0 };
        if (guest && !guest_do (guest, TRUE, local_state, NULL, &state, &error))
            g_debug ("recover '%s': %s", name, error->message);
        guest_unref (guest);
    }
}

gboolean qemu_open_at (DriverConn *conn, const DriverOpenOptions *options, const char *state_dir,
                       GError **error)
{
    static const char *const folders[] = { ".", NULL };
    QemuConn *qemu = g_new0 (QemuConn, 1);
    qemu->conn = conn;
    qemu->state_dir = g_strdup (state_dir);
    qemu->role = options->role;
    qemu->unsealed = options->unsealed;
    qemu->jobs = &guest_jobs;
    qemu->watch_guest = g_strdup (options->watch_guest);
    g_mutex_init (&qemu->lock);
    qemu->guests =
        g_hash_table_new_full (g_str_hash, g_str_equal, g_free, (GDestroyNotify) guest_unref);
    qemu->watchers = watchers_new (conn, state_dir, NULL, folders);
    conn->priv = qemu;
    if (!conn->readonly)
        recover_all (qemu);
    return TRUE;
}

void qemu_close (DriverConn *conn)
{
    QemuConn *qemu = conn->priv;
    if (!qemu)
        return;
    watchers_free (qemu->watchers);
    g_hash_table_unref (qemu->guests);
    g_mutex_clear (&qemu->lock);
    g_free (qemu->state_dir);
    g_free (qemu->watch_guest);
    g_free (qemu);
    conn->priv = NULL;
}

static gboolean qemu_probe (const char *uri)
{
    return g_str_equal (uri, "qemu:///system") || g_str_equal (uri, "qemu:///session")
           || g_str_equal (uri, "qemu:///");
}

static gboolean qemu_open (DriverConn *conn, const DriverOpenOptions *options, GError **error)
{
    g_autofree char *dir = options->state_dir
                               ? g_strdup (options->state_dir)
                               : config_state_dir (g_str_equal (conn->uri, "qemu:///session"));
    return qemu_open_at (conn, options, dir, error);
}

/* ---- the tables ---- */

/* One row a call. */
/* clang-format off */
#define ROWS \
    ON_CONN (hello, qemu_hello), \
    ON_CONN (capabilities, qemu_capabilities), \
    ON_CONN (list, qemu_list), \
    ON_CONN (lookup, qemu_lookup), \
    ON_CONN (backup_running, driver_running), \
    ON_CONN (event_register, qemu_event_register), \
    ON_CONN (event_deregister, qemu_event_deregister), \
    ON_CONN (fd_associate, driver_fd_associate), \
    ON_GUEST (domain_info, local_info, NO_MONITOR), \
    ON_GUEST (domain_state, local_state, NO_MONITOR), \
    ON_GUEST (domain_xml, local_xml, NO_MONITOR), \
    ON_GUEST (domain_disks, local_disks, NO_MONITOR), \
    ON_GUEST (domain_disk, local_disk, NO_MONITOR), \
    ON_GUEST (domain_block_stats, local_block_stats, 0), \
    ON_GUEST (domain_chain, local_chain, 0), \
    ON_GUEST (fs_freeze, local_freeze, NO_MONITOR), \
    ON_GUEST (fs_thaw, local_thaw, NO_MONITOR), \
    ON_GUEST (backup_begin, job_begin, NEEDS_OWNER), \
    ON_GUEST (backup_plan, local_plan, 0), \
    ON_GUEST (backup_stop, local_stop, NO_MONITOR), \
    ON_GUEST (backup_info, direct_info, DIRECT), \
    ON_GUEST (backup_list, direct_list, DIRECT), \
    ON_GUEST (backup_wait, direct_wait, DIRECT), \
    ON_GUEST (backup_xml, direct_xml, DIRECT), \
    ON_GUEST (backup_limit, local_limit, NO_MONITOR), \
    ON_GUEST (job_stats, direct_stats, DIRECT), \
    ON_GUEST (job_abort, local_abort, NO_MONITOR), \
    ON_GUEST (block_begin, local_block_begin, 0), \
    ON_GUEST (block_plan, local_block_plan, 0), \
    ON_GUEST (block_info, local_block_info, NO_MONITOR), \
    ON_GUEST (block_end, local_block_end, 0), \
    ON_GUEST (block_limit, local_block_limit, 0), \
    ON_GUEST (checkpoint_create, local_checkpoint_create, 0), \
    ON_GUEST (checkpoint_xml, local_checkpoint_xml, NO_MONITOR), \
    ON_GUEST (checkpoint_list, local_checkpoint_list, DIRECT), \
    ON_GUEST (checkpoint_children, local_checkpoint_children, DIRECT), \
    ON_GUEST (checkpoint_lookup, local_checkpoint_lookup, DIRECT), \
    ON_GUEST (checkpoint_delete, local_checkpoint_delete, NO_MONITOR), \
    ON_GUEST (checkpoint_check, local_checkpoint_check, NO_MONITOR)
/* clang-format on */

static const DriverCall calls[CALL_COUNT] = { ROWS, ON_CONN (attach, qemu_attach),
                                              ON_CONN (detach, qemu_detach),
                                              ON_CONN (discover, qemu_discover) };
const DriverCall qemu_embedded_calls[CALL_COUNT] = { ROWS };

const DriverOps qemu_driver = { .name = "qemu",
                                .probe = qemu_probe,
                                .open = qemu_open,
                                .close = qemu_close,
                                .peek = qemu_peek,
                                .calls = calls,
                                .route = qemu_route };
