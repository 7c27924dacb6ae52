/* The qemu driver: which process does a call. A daemon, a watcher and an embedded driver do it here; a client hands what
 * concerns a job to the guest's watcher, and does the rest here, holding the monitor no longer than the call. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/agent.h"
#include "driver/qemu/local.h"
#include "driver/qemu/job.h"
#include "driver/qemu/qemu.h"
#include "util/files.h"

enum { AGENT_TIMEOUT_MS = 5000, FREEZE_TIMEOUT_MS = 60000 };

/* ---- local calls ---- */

typedef struct {
    const void *args;
    void *ret;
    gboolean (*func) (Guest *guest, const void *args, void *ret, GError **error);
} LocalData;

static gboolean on_guest_thread (Guest *guest, gpointer data, GError **error)
{
    const LocalData *local = data;
    return local->func (guest, local->args, local->ret, error);
}

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
            disk->target = disk->node = disk->source = disk->type = disk->device = disk->format = disk->bus = disk->iothread = disk->note = NULL;
        }
    }
    for (guint i = 0; i < all.disks.disks_len; i++)
        if (all.disks.disks_val[i].target)
            xdr_free ((xdrproc_t) xdr_bak_disk, (char *) &all.disks.disks_val[i]);
    free (all.disks.disks_val);
    g_autofree char *list = g_string_free (known, FALSE);
    g_autofree char *shown = text_sanitize (args->disk, 256);
    return found || error_set (error, BAK_ERROR_NO_DISK, _("guest '%s' has no disk '%s'; it has: %s"), guest->def->name, shown, list);
}

static gboolean local_block_stats (Guest *guest, const void *data, void *ret, GError **error)
{
    return guest_block_stats (guest, ((const bak_disk_arg *) data)->disk, ret, error);
}

static Agent *open_agent (Guest *guest, GError **error)
{
    if (!guest->def->agent || !*guest->def->agent) {
        error_set (error, BAK_ERROR_AGENT, _("guest '%s' was attached without a guest agent (attach --agent PATH)"), guest->def->name);
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
    return agent && agent_freeze (agent, args->mounts.mounts_len ? (const char *const *) mounts->pdata : NULL, FREEZE_TIMEOUT_MS,
                                  &((bak_count_ret *) ret)->count, error);
}

static gboolean local_thaw (Guest *guest, const void *args, void *ret, GError **error)
{
    g_autoptr (Agent) agent = open_agent (guest, error);
    return agent && agent_thaw (agent, FREEZE_TIMEOUT_MS, &((bak_count_ret *) ret)->count, error);
}

static gboolean local_begin (Guest *guest, const void *args, void *ret, GError **error)
{
    return job_begin (guest, args, ret, error);
}

static gboolean local_plan (Guest *guest, const void *args, void *ret, GError **error)
{
    g_autofree char *text = job_plan_text (guest, args, error);
    if (!text)
        return FALSE;
    ((bak_text_ret *) ret)->text = ret_string (text);
    return TRUE;
}

static gboolean load_last (Guest *guest, const char *id, bak_job *ret, GError **error)
{
    return record_load (guest->dir, id, ret, error);
}

static gboolean local_stop (Guest *guest, const void *data, void *ret, GError **error)
{
    const bak_stop_args *args = data;
    bak_job *job = &((bak_job_ret *) ret)->job;
    gboolean ours = guest->job && (!*args->job || g_str_equal (args->job, guest->job->record.id));
    if (ours)
        return job_stop (guest, (args->flags & STOP_ABORT) != 0, job, error);
    if (!load_last (guest, args->job, job, error))
        return FALSE;
    if (job_state_ended (job->state))
        return TRUE;            /* by itself: acknowledged by saying how */
    error_set (error, BAK_ERROR_MONITOR_HELD, _("guest '%s': backup %s is %s, and the process that runs it (it holds '%s/lock') does not answer"), guest->def->name, job->id,
               job_state_to_string (job->state), guest->dir);
    bak_job_clear (job);
    return FALSE;
}

static gboolean local_limit (Guest *guest, const void *data, void *ret, GError **error)
{
    const bak_limit_args *args = data;
    return job_limit (guest, args->disk, args->bytes_per_sec, error);
}

/* A libvirt client's only end of a pull: on a ready one it is the verdict "done". */
static gboolean local_abort (Guest *guest, const void *args, void *ret, GError **error)
{
    bak_job job = { 0 };
    gboolean verdict = guest->job && guest->job->record.state == JOB_STATE_READY;
    if (!job_stop (guest, !verdict, &job, error))
        return FALSE;
    gboolean ok = !verdict || job.state == JOB_STATE_COMPLETED || error_set (error, job.error_code ? job.error_code : BAK_ERROR_IO, "%s", job.error);
    bak_job_clear (&job);
    return ok;
}

static gboolean is_refreshable (Guest *guest, gpointer data, GError **error)
{
    job_refresh (guest);
    return TRUE;
}

/* From the snapshot of a job in this process, else from the record. id "": the newest. */
static gboolean read_job (Guest *guest, const char *id, bak_job *ret, GError **error)
{
    g_mutex_lock (&guest->snapshot_lock);
    gboolean here = guest->snapshot.id && *guest->snapshot.id && (!*id || g_str_equal (id, guest->snapshot.id));
    gboolean active = here && (guest->snapshot.state == JOB_STATE_RUNNING || guest->snapshot.state == JOB_STATE_READY);
    g_mutex_unlock (&guest->snapshot_lock);
    if (active)
        guest_do (guest, FALSE, is_refreshable, NULL, NULL);
    g_mutex_lock (&guest->snapshot_lock);
    if (here)
        bak_job_copy (&guest->snapshot, ret);
    g_mutex_unlock (&guest->snapshot_lock);
    return here || record_load (guest->dir, id, ret, error);
}

static gboolean direct_backup_info (Guest *guest, const void *data, void *ret, GError **error)
{
    const bak_job_arg *args = data;
    return read_job (guest, args->job, &((bak_job_ret *) ret)->job, error);
}

static gboolean direct_job_stats (Guest *guest, const void *data, void *ret, GError **error)
{
    const bak_job_arg *args = data;
    bak_job *job = &((bak_job_ret *) ret)->job;
    gboolean want_ended = (args->flags & STATS_COMPLETED) != 0;
    g_autoptr (GError) failure = NULL;
    if (!read_job (guest, args->job, job, &failure)) {
        if (error_code (failure) != BAK_ERROR_NO_JOB) {
            g_propagate_error (error, g_steal_pointer (&failure));
            return FALSE;
        }
    } else if (job_state_ended (job->state) == want_ended) {
        return TRUE;
    } else {
        bak_job_clear (job);
    }
    GArray *jobs = want_ended ? record_list (guest->dir, NULL) : NULL;
    gboolean found = FALSE;
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
        bak_job none = { .id = (char *) "", .domain = guest->def->name, .error = (char *) "", .checkpoint = (char *) "", .server = (char *) "",
                         .consistency = (char *) "", .owner = (char *) "" };
        bak_job_copy (&none, job);
    }
    return TRUE;
}

static gboolean direct_backup_list (Guest *guest, const void *data, void *ret, GError **error)
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

static gboolean direct_wait (Guest *guest, const void *data, void *ret, GError **error)
{
    const bak_wait_args *args = data;
    bak_job *job = &((bak_job_ret *) ret)->job;
    gint64 deadline = g_get_monotonic_time () + (gint64) MIN (args->timeout, G_MAXINT64 / 4);
    g_mutex_lock (&guest->snapshot_lock);
    while (guest->snapshot.id && *guest->snapshot.id && (!*args->job || g_str_equal (args->job, guest->snapshot.id))
           && !job_state_ended (guest->snapshot.state) && g_get_monotonic_time () < deadline)
        g_cond_wait_until (&guest->changed, &guest->snapshot_lock, deadline);
    g_mutex_unlock (&guest->snapshot_lock);
    return read_job (guest, args->job, job, error);
}

static gboolean direct_xml (Guest *guest, const void *data, void *ret, GError **error)
{
    const bak_job_arg *args = data;
    bak_job job = { 0 };
    if (!read_job (guest, args->job, &job, error))
        return FALSE;
    g_autofree char *xml = job_state_ended (job.state) && !*args->job ? NULL : job_xml (guest, &job);
    bak_job_clear (&job);
    if (!xml)
        return error_set (error, BAK_ERROR_NO_JOB, _("guest '%s' has no running backup job"), guest->def->name);
    ((bak_text_ret *) ret)->text = ret_string (xml);
    return TRUE;
}

/* ---- where a call is done ---- */

enum { DIRECT = 1,      /* by records and snapshot: no monitor */
       NO_MONITOR = 2,  /* on the guest's thread, but the monitor is not needed */
       NEEDS_OWNER = 4, /* a client starts a watcher for it */
       JOB_ONLY = 8 };  /* concerns a running job: a client has none itself */

static const struct {
    gboolean (*func) (Guest *guest, const void *args, void *ret, GError **error);
    guint how;
} local_calls[CALL_COUNT] = {
    [CALL_ID_domain_info] = { local_info, NO_MONITOR }, [CALL_ID_domain_state] = { local_state, NO_MONITOR }, [CALL_ID_domain_xml] = { local_xml, 0 },
    [CALL_ID_domain_disks] = { local_disks, 0 }, [CALL_ID_domain_disk] = { local_disk, 0 },
    [CALL_ID_domain_block_stats] = { local_block_stats, 0 },
    [CALL_ID_fs_freeze] = { local_freeze, NO_MONITOR }, [CALL_ID_fs_thaw] = { local_thaw, NO_MONITOR },
    [CALL_ID_backup_begin] = { local_begin, NEEDS_OWNER }, [CALL_ID_backup_plan] = { local_plan, 0 },
    [CALL_ID_backup_stop] = { local_stop, NO_MONITOR }, [CALL_ID_backup_info] = { direct_backup_info, DIRECT },
    [CALL_ID_backup_list] = { direct_backup_list, DIRECT }, [CALL_ID_backup_wait] = { direct_wait, DIRECT },
    [CALL_ID_backup_xml] = { direct_xml, DIRECT }, [CALL_ID_backup_limit] = { local_limit, NO_MONITOR },
    [CALL_ID_job_stats] = { direct_job_stats, DIRECT }, [CALL_ID_job_abort] = { local_abort, NO_MONITOR },
    [CALL_ID_checkpoint_create] = { local_checkpoint_create, 0 }, [CALL_ID_checkpoint_xml] = { local_checkpoint_xml, NO_MONITOR },
    [CALL_ID_checkpoint_list] = { local_checkpoint_list, DIRECT }, [CALL_ID_checkpoint_children] = { local_checkpoint_children, DIRECT },
    [CALL_ID_checkpoint_lookup] = { local_checkpoint_lookup, DIRECT }, [CALL_ID_checkpoint_delete] = { local_checkpoint_delete, NO_MONITOR },
    [CALL_ID_checkpoint_check] = { local_checkpoint_check, NO_MONITOR },
};

static gboolean does_jobs_itself (const QemuConn *qemu)
{
    return qemu->embedded || qemu->role != DRIVER_ROLE_CLIENT;
}

static gboolean call_here (Guest *guest, CallId id, const void *args, void *ret, GError **error)
{
    LocalData data = { args, ret, local_calls[id].func };
    guint how = local_calls[id].how;
    if (how & DIRECT)
        return local_calls[id].func (guest, args, ret, error);
    gboolean acquire = !(how & NO_MONITOR);
    /* images without a storage daemon are looked at as they are */
    if (guest_is_offline (guest) && acquire && ((id >= CALL_ID_domain_info && id <= CALL_ID_domain_disk) || id == CALL_ID_domain_block_stats))
        acquire = FALSE;
    return guest_do (guest, acquire, on_guest_thread, &data, error);
}

static gboolean recover_now (Guest *guest, gpointer data, GError **error)
{
    return guest->job || !journal_exists (guest->dir) || guest_acquire (guest, error);
}

/* A job that could not be cleaned up when it ended (QEMU hung, the monitor was lost) is, before anything else is said. */
static void recover_leftovers (Guest *guest)
{
    g_mutex_lock (&guest->snapshot_lock);
    gboolean active = guest->snapshot.id && *guest->snapshot.id && !job_state_ended (guest->snapshot.state);
    g_mutex_unlock (&guest->snapshot_lock);
    if (!active && journal_exists (guest->dir))
        guest_do (guest, FALSE, recover_now, NULL, NULL);
}

static gboolean route (DriverConn *conn, CallId id, const void *args, void *ret, GError **error)
{
    QemuConn *qemu = conn->priv;
    const char *name = *(char *const *) args;
    Guest *guest = guest_get (qemu, name, error);
    gboolean ok = FALSE, done = FALSE;

    if (!guest)
        return FALSE;
    if (id == CALL_ID_job_abort || (id == CALL_ID_backup_stop && ((const bak_stop_args *) args)->flags & STOP_ABORT)) {
        g_mutex_lock (&guest->snapshot_lock);
        if ((guest->snapshot.state == JOB_STATE_PREPARING || guest->snapshot.state == JOB_STATE_STOPPING) && guest->snapshot.id && *guest->snapshot.id)
            g_atomic_int_set (&guest->cancel, TRUE);    /* ends a begin that is under way, or the flush of what is copied */
        g_mutex_unlock (&guest->snapshot_lock);
    }
    if (!does_jobs_itself (qemu))
        done = watchers_ask (qemu->watchers, name, (local_calls[id].how & NEEDS_OWNER) != 0, id, args, ret, &ok, error);
    if (!done && does_jobs_itself (qemu))
        recover_leftovers (guest);
    if (!done)
        ok = call_here (guest, id, args, ret, error);
    guest_unref (guest);
    return ok;
}

#define ROUTED(call, args, ret) \
    static gboolean qemu_##call (DriverConn *conn, const args *a, ret *r, GError **error) { return route (conn, CALL_ID_##call, a, r, error); }
ROUTED (domain_info, bak_domain_arg, bak_domain_info)
ROUTED (domain_state, bak_domain_arg, bak_state_ret)
ROUTED (domain_xml, bak_domain_arg, bak_text_ret)
ROUTED (domain_disks, bak_domain_arg, bak_disks_ret)
ROUTED (domain_disk, bak_disk_arg, bak_disk_ret)
ROUTED (domain_block_stats, bak_disk_arg, bak_block_stats_ret)
ROUTED (fs_freeze, bak_mounts_args, bak_count_ret)
ROUTED (fs_thaw, bak_mounts_args, bak_count_ret)
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

static gboolean qemu_hello (DriverConn *conn, const bak_hello_args *args, bak_hello_ret *ret, GError **error)
{
    QemuConn *qemu = conn->priv;
    ret->api = 1;
    ret->product = ret_string ("libbackup " LIBBACKUP_VERSION);
    ret->state_dir = ret_string (qemu->state_dir);
    return TRUE;
}

static gboolean qemu_event_register (DriverConn *conn, const bak_register_args *args, bak_register_ret *ret, GError **error)
{
    QemuConn *qemu = conn->priv;
    if (args->kind < -1 || args->kind >= EVENT_KINDS)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("there is no event %d"), args->kind);
    g_mutex_lock (&qemu->lock);
    ret->id = ++qemu->next_registration;
    qemu->registrations++;
    g_mutex_unlock (&qemu->lock);
    if (!does_jobs_itself (qemu))
        watchers_listen (qemu->watchers);
    return TRUE;
}

static gboolean qemu_event_deregister (DriverConn *conn, const bak_deregister_args *args, bak_none *ret, GError **error)
{
    QemuConn *qemu = conn->priv;
    g_mutex_lock (&qemu->lock);
    gboolean known = args->id > 0 && args->id <= qemu->next_registration && qemu->registrations > 0;
    if (known)
        qemu->registrations--;
    g_mutex_unlock (&qemu->lock);
    return known || error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("event registration %d does not exist"), args->id);
}

/* What a daemon is asked most. Nothing here waits for a thread, for QEMU or for a name server. */
static gboolean qemu_peek (DriverConn *conn, const char *name, DriverPeek *ret)
{
    QemuConn *qemu = conn->priv;

    if (!g_mutex_trylock (&qemu->lock))
        return FALSE;           /* who has it may be waiting for the end of a guest's thread */
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
        if (!journal_exists (guest_dir) || (qemu->watch_guest && !g_str_equal (name, qemu->watch_guest)))
            continue;
        if (!does_jobs_itself (qemu)) {
            if (!watchers_owned (qemu->watchers, name) && !watchers_start (qemu->watchers, name, &error))
                g_warning ("guest '%s': %s", name, error->message);
            continue;
        }
        Guest *guest = guest_get (qemu, name, &error);
        bak_state_ret state = { 0 };
        LocalData data = { NULL, &state, local_state };
        if (guest && !guest_do (guest, TRUE, on_guest_thread, &data, &error))
            g_debug ("recover '%s': %s", name, error->message);
        guest_unref (guest);
    }
}

gboolean qemu_open_at (DriverConn *conn, const DriverOpenOptions *options, const char *state_dir, GError **error)
{
    static const char *const folders[] = { ".", NULL };
    QemuConn *qemu = g_new0 (QemuConn, 1);
    qemu->conn = conn;
    qemu->state_dir = g_strdup (state_dir);
    qemu->role = options->role;
    qemu->watch_guest = g_strdup (options->watch_guest);
    g_mutex_init (&qemu->lock);
    qemu->guests = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, (GDestroyNotify) guest_unref);
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
    return g_str_equal (uri, "qemu:///system") || g_str_equal (uri, "qemu:///session") || g_str_equal (uri, "qemu:///");
}

static gboolean qemu_open (DriverConn *conn, const DriverOpenOptions *options, GError **error)
{
    g_autofree char *dir = options->state_dir ? g_strdup (options->state_dir) : files_state_dir (g_str_equal (conn->uri, "qemu:///session"));
    return qemu_open_at (conn, options, dir, error);
}

#define SLOTS \
    .hello = qemu_hello, .capabilities = qemu_capabilities, .list = qemu_list, .lookup = qemu_lookup, \
    .domain_info = qemu_domain_info, .domain_state = qemu_domain_state, .domain_xml = qemu_domain_xml, .domain_disks = qemu_domain_disks, \
    .domain_disk = qemu_domain_disk, .domain_block_stats = qemu_domain_block_stats, .fs_freeze = qemu_fs_freeze, .fs_thaw = qemu_fs_thaw, .backup_begin = qemu_backup_begin, \
    .backup_plan = qemu_backup_plan, .backup_stop = qemu_backup_stop, .backup_info = qemu_backup_info, .backup_list = qemu_backup_list, \
    .backup_wait = qemu_backup_wait, .backup_xml = qemu_backup_xml, .backup_limit = qemu_backup_limit, .job_stats = qemu_job_stats, \
    .job_abort = qemu_job_abort, .checkpoint_create = qemu_checkpoint_create, .checkpoint_xml = qemu_checkpoint_xml, \
    .checkpoint_list = qemu_checkpoint_list, .checkpoint_children = qemu_checkpoint_children, .checkpoint_lookup = qemu_checkpoint_lookup, \
    .checkpoint_delete = qemu_checkpoint_delete, .checkpoint_check = qemu_checkpoint_check, .event_register = qemu_event_register, \
    .event_deregister = qemu_event_deregister

const DriverOps qemu_driver = {
    .name = "qemu", .probe = qemu_probe, .open = qemu_open, .close = qemu_close, .peek = qemu_peek,
    .attach = qemu_attach, .detach = qemu_detach, .discover = qemu_discover, SLOTS
};
