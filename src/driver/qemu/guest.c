/* Guests: their threads, their monitors, who owns them. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/both.h"
#include "driver/qemu/definitions.h"
#include "job/build.h"
#include "job/journal.h"
#include "driver/qemu/guest.h"
#include "driver/qemu/same-qemu.h"
#include "driver/qemu/migration.h"
#include "util/caller.h"
#include "util/files.h"

enum { LOCK_WAIT_MS = 8000, LINGER_MS = 3000, OFFLINE_TRIES = 3 };

typedef struct {
    GuestFunc func;
    const void *args;
    void *ret;
    gboolean acquire;
    gboolean result;
    GError **error;
    GMutex lock;
    GCond done;
    gboolean finished;
    Caller *caller; /* of the thread that waits */
    Passed *passed; /* as seen by it */
} Closure;

/* ---- events: only notes, they may come in the middle of a call ---- */

static void event_free (GuestEvent *event)
{
    g_free (event->name);
    g_clear_pointer (&event->data, json_object_unref);
    g_free (event);
}

static const char *event_string (JsonObject *data, const char *key)
{
    JsonNode *node = data ? json_object_get_member (data, key) : NULL;
    return node && JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == G_TYPE_STRING
               ? json_node_get_string (node)
               : NULL;
}

static void set_watched (Guest *guest, Qmp *qmp, gboolean runs)
{
    g_mutex_lock (&guest->board.lock);
    guest->watched = qmp;
    guest->runs = runs;
    g_mutex_unlock (&guest->board.lock);
}

/* Every way out of "running" is an event; which, is QEMU's affair: only those of jobs are known to
 * mean something else. */
static void note_news (Guest *guest, const char *event)
{
    if (g_str_has_prefix (event, "JOB_") || g_str_has_prefix (event, "BLOCK_JOB_"))
        return;
    guest->news++;
    set_watched (guest, guest->qmp, FALSE);
}

void guest_note_running (Guest *guest, guint news)
{
    if (guest->qmp && guest->news == news)
        set_watched (guest, guest->qmp, TRUE);
}

gboolean guest_is_watched (Guest *guest, gboolean *ret_runs)
{
    g_mutex_lock (&guest->board.lock);
    gboolean watched = guest->watched && qmp_is_quiet (guest->watched);
    *ret_runs = watched && guest->runs;
    g_mutex_unlock (&guest->board.lock);
    if (watched)
        g_atomic_int_set (&guest->peeked, TRUE);
    return watched;
}

static gboolean note_migration (gpointer data)
{
    Guest *guest = data;
    guest->owner->jobs->note_migration (guest);
    return G_SOURCE_REMOVE;
}

static gboolean note_errors (gpointer data)
{
    Guest *guest = data;
    guest->owner->jobs->note_errors (guest);
    return G_SOURCE_REMOVE;
}

/* Even while an answer is waited for, which may be what the error holds up. */
static void when_iterated (Guest *guest, GSourceFunc func)
{
    g_autoptr (GSource) source = g_idle_source_new ();
    g_source_set_priority (source, G_PRIORITY_DEFAULT);
    g_source_set_callback (source, func, guest, NULL);
    g_source_attach (source, guest->context);
}

/* A block job's name begins otherwise: who sweeps leaves it alone. */
static gboolean is_ours (const char *job)
{
    return job && (g_str_has_prefix (job, "bak-") || g_str_has_prefix (job, "bakj-"));
}

static void on_event (Qmp *qmp, const char *name, JsonObject *data, gpointer user_data)
{
    Guest *guest = user_data;
    const char *id = event_string (data, "id"), *device = event_string (data, "device");

    note_news (guest, name);
    if (g_str_equal (name, "JOB_STATUS_CHANGE") && is_ours (id))
        g_hash_table_replace (guest->job_status, g_strdup (id),
                              g_strdup (event_string (data, "status")));
    else if (g_str_has_prefix (name, "BLOCK_JOB_CO") || g_str_has_prefix (name, "BLOCK_JOB_CA")) {
        const char *error = event_string (data, "error");
        if (is_ours (device))
            g_hash_table_replace (guest->job_errors, g_strdup (device),
                                  g_strdup (error ? error
                                            : g_str_equal (name, "BLOCK_JOB_CANCELLED")
                                                ? "Operation canceled"
                                                : ""));
    } else if (g_str_equal (name, "BLOCK_EXPORT_DELETED") && id)
        g_hash_table_add (guest->exports_gone, g_strdup (id));
    if (guest->pending->len < 1000 && (guest->job || g_str_equal (name, "SHUTDOWN"))) {
        GuestEvent *event = g_new0 (GuestEvent, 1);
        event->name = g_strdup (name);
        event->data = data ? json_object_ref (data) : NULL;
        g_ptr_array_add (guest->pending, event);
        if (g_str_equal (name, "BLOCK_JOB_ERROR"))
            when_iterated (guest, note_errors);
        if (g_str_equal (name, "MIGRATION") && migration_starts (event_string (data, "status")))
            when_iterated (guest, note_migration);
    }
}

/* ---- the thread ---- */

static void closure_end (Guest *guest, Closure *closure)
{
    /* A client holds the monitor no longer than the call: what it does next may need a watcher. */
    if (guest->owner->role == DRIVER_ROLE_CLIENT && !guest->job)
        guest_release (guest);
    g_mutex_lock (&closure->lock);
    closure->finished = TRUE;
    g_cond_signal (&closure->done);
    g_mutex_unlock (&closure->lock);
}

static gboolean wake (gpointer data)
{
    return G_SOURCE_CONTINUE;
}

/* The monitor is let go when no job runs: another program may want it. A daemon keeps it for a
 * moment, for the next call. */
static void release_when_idle (Guest *guest)
{
    if (guest->job || (!guest->qmp && guest->lock_fd < 0))
        return;
    if (!guest->qmp) {
        guest_release (guest);
        return;
    }
    gint64 now = g_get_monotonic_time ();
    if (g_atomic_int_compare_and_exchange (&guest->peeked, TRUE, FALSE))
        guest->release_at = 0;
    if (guest->owner->role != DRIVER_ROLE_DAEMON || (guest->release_at && now >= guest->release_at)
        || !qmp_is_alive (guest->qmp, NULL))
        guest_release (guest);
    else if (!guest->release_at)
        guest->release_at = now + LINGER_MS * 1000;
}

static gpointer guest_main (gpointer data)
{
    Guest *guest = data;
    g_main_context_push_thread_default (guest->context);
    GSource *timer = g_timeout_source_new (250);
    g_source_set_callback (timer, wake, NULL, NULL);

    while (!g_atomic_int_get (&guest->quit)) {
        Closure *closure = g_async_queue_try_pop (guest->queue);
        if (closure) {
            guest->release_at = 0;
            caller_set_current (closure->caller);
            passed_set_current (closure->passed);
            closure->result = (!closure->acquire || guest_acquire (guest, closure->error))
                              && closure->func (guest, closure->args, closure->ret, closure->error);
            closure_end (guest, closure);
            caller_set_current (NULL);
            passed_set_current (NULL);
        }
        if (guest->job)
            guest->owner->jobs->tick (guest);
        if (g_async_queue_length (guest->queue) > 0)
            continue;
        if (guest->leftover_at && !guest->job && g_get_monotonic_time () >= guest->leftover_at) {
            guest->leftover_at = 0;
            if (journal_exists (guest->dir))
                guest_acquire (guest, NULL);
        }
        release_when_idle (guest);
        gboolean ticking = guest->job || guest->release_at || guest->leftover_at;
        if (ticking && !g_source_get_context (timer))
            g_source_attach (timer, guest->context);
        if (!ticking && g_source_get_context (timer)) {
            g_source_destroy (timer);
            g_source_unref (timer);
            timer = g_timeout_source_new (250);
            g_source_set_callback (timer, wake, NULL, NULL);
        }
        if (g_async_queue_length (guest->queue) == 0 && !g_atomic_int_get (&guest->quit))
            g_main_context_iteration (guest->context, TRUE);
    }
    g_source_destroy (timer);
    g_source_unref (timer);
    g_clear_pointer (&guest->job, job_free);
    guest_release (guest);
    g_main_context_pop_thread_default (guest->context);
    return NULL;
}

gboolean guest_do (Guest *guest, gboolean acquire, GuestFunc func, const void *args, void *ret,
                   GError **error)
{
    Closure closure = { .func = func,
                        .args = args,
                        .ret = ret,
                        .acquire = acquire,
                        .error = error,
                        .caller = caller_current (),
                        .passed = driver_passed (guest->owner->conn) };
    if (g_thread_self () == guest->thread)
        return (!acquire || guest_acquire (guest, error)) && func (guest, args, ret, error);
    g_mutex_init (&closure.lock);
    g_cond_init (&closure.done);
    g_mutex_lock (&guest->board.lock);
    if (!guest->thread) {
        guest->context = g_main_context_new ();
        guest->thread = g_thread_new ("guest", guest_main, guest);
    }
    g_mutex_unlock (&guest->board.lock);
    g_async_queue_push (guest->queue, &closure);
    g_main_context_wakeup (guest->context);
    g_mutex_lock (&closure.lock);
    while (!closure.finished)
        g_cond_wait (&closure.done, &closure.lock);
    g_mutex_unlock (&closure.lock);
    g_mutex_clear (&closure.lock);
    g_cond_clear (&closure.done);
    return closure.result;
}

/* ---- life ---- */

static Guest *guest_new (QemuConn *owner, GuestDef *def)
{
    Guest *guest = g_new0 (Guest, 1);
    guest->owner = owner;
    guest->def = def;
    guest->dir = g_build_filename (owner->state_dir, "guests", def->name, NULL);
    guest->refs = 1;
    guest->lock_fd = -1;
    guest->queue = g_async_queue_new ();
    guest->pending = g_ptr_array_new_with_free_func ((GDestroyNotify) event_free);
    guest->job_status = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
    guest->job_errors = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
    guest->exports_gone = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
    board_init (&guest->board, def->name, guest->dir, guest, owner->jobs->refresh);
    guest->jobs = (JobPlace){ owner->jobs->ops, &guest->board, guest->dir, &guest->cancel };
    return guest;
}

static void guest_free (Guest *guest)
{
    if (guest->thread) {
        g_atomic_int_set (&guest->quit, TRUE);
        g_main_context_wakeup (guest->context);
        g_thread_join (guest->thread);
    }
    g_clear_pointer (&guest->context, g_main_context_unref);
    g_async_queue_unref (guest->queue);
    g_ptr_array_unref (guest->pending);
    g_hash_table_unref (guest->job_status);
    g_hash_table_unref (guest->job_errors);
    g_hash_table_unref (guest->exports_gone);
    board_clear (&guest->board);
    guest_def_free (guest->shape);
    guest_def_free (guest->def);
    g_free (guest->dir);
    g_free (guest);
}

void guest_unref (Guest *guest)
{
    if (guest && g_atomic_int_dec_and_test (&guest->refs))
        guest_free (guest);
}

static gboolean same_stamp (const FileStamp *a, const FileStamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size
           && a->seconds == b->seconds && a->nanoseconds == b->nanoseconds;
}

static gboolean read_stamp (const char *path, FileStamp *ret)
{
    struct stat st;
    if (stat (path, &st) != 0)
        return FALSE;
    *ret = (FileStamp){ st.st_dev, st.st_ino, st.st_size, st.st_ctim.tv_sec, st.st_ctim.tv_nsec };
    return TRUE;
}

static char *definition_path (QemuConn *owner, const char *name)
{
    return g_build_filename (owner->state_dir, "guests", name, "guest.json", NULL);
}

Guest *guest_find (QemuConn *owner, const char *name)
{
    Guest *guest = g_hash_table_lookup (owner->guests, name);
    g_autofree char *path = guest ? definition_path (owner, name) : NULL;
    FileStamp now;
    return guest && read_stamp (path, &now) && same_stamp (&guest->stamp, &now) ? guest : NULL;
}

/* With the owner's lock held: as the file says now, which is not what the guest of this name was
 * made from. */
static Guest *read_guest (QemuConn *owner, const char *name, GError **error)
{
    g_autofree char *path = definition_path (owner, name);
    FileStamp stamp = { 0 };
    read_stamp (path, &stamp); /* before it is read: what is changed meanwhile is read again */
    g_autoptr (GuestDef) def = attach_load (owner->state_dir, name, error);
    Guest *guest = g_hash_table_lookup (owner->guests, name);
    if (guest && (!def || g_strcmp0 (guest->def->uuid, def->uuid) != 0)) {
        /* detached, or another of this name was attached */
        g_hash_table_remove (owner->guests, name);
        guest = NULL;
    }
    if (!guest && def) {
        guest = guest_new (owner, g_steal_pointer (&def));
        guest->number = attach_number (guest->dir);
        g_hash_table_replace (owner->guests, g_strdup (name), guest);
    }
    if (guest)
        guest->stamp = stamp;
    return guest;
}

Guest *guest_get (QemuConn *owner, const char *name, GError **error)
{
    if (!guest_name_check (name, NULL)) {
        g_autofree char *shown = text_sanitize (name, 128);
        error_set (error, BAK_ERROR_NO_DOMAIN, _("no guest '%s' is attached"), shown);
        return NULL;
    }
    g_mutex_lock (&owner->lock);
    Guest *guest = guest_find (owner, name);
    if (!guest)
        guest = read_guest (owner, name, error);
    if (guest)
        g_atomic_int_inc (&guest->refs);
    g_mutex_unlock (&owner->lock);
    return guest;
}

/* ---- the monitor ---- */

gboolean guest_monitor_alive (Guest *guest, GError **error)
{
    const char *why = NULL;
    if (!guest->qmp)
        return error_set (error, BAK_ERROR_CONNECTION,
                          _("the monitor of guest '%s' is not connected"), guest->def->name);
    if (!qmp_is_alive (guest->qmp, &why))
        return error_set (error, BAK_ERROR_CONNECTION, _("the monitor of guest '%s' is gone: %s"),
                          guest->def->name, why ? why : "?");
    return TRUE;
}

static gboolean take_lock (Guest *guest, GError **error)
{
    g_autofree char *path = g_build_filename (guest->dir, "lock", NULL);
    g_autoptr (GError) failure = NULL;
    guest->lock_fd = files_lock (path, LOCK_WAIT_MS, &failure);
    if (guest->lock_fd >= 0)
        return TRUE;
    if (error_code (failure) == BAK_ERROR_BUSY)
        return error_set (error, BAK_ERROR_MONITOR_HELD,
                          _("another libbackup process works with guest '%s'"), guest->def->name);
    g_propagate_error (error, g_steal_pointer (&failure));
    return FALSE;
}

gboolean guest_lock (Guest *guest, GError **error)
{
    return guest->lock_fd >= 0 || take_lock (guest, error);
}

void guest_disconnect (Guest *guest)
{
    set_watched (guest, NULL, FALSE);
    g_clear_pointer (&guest->qmp, qmp_close);
}

/* What a job of this guest has left it may always end. */
static gboolean check_alone (Guest *guest, GError **error)
{
    return guest_is_offline (guest) || guest->job || journal_exists (guest->dir)
           || same_qemu_check (guest->qmp, guest->owner->state_dir, guest->def, guest->number,
                               error);
}

static gboolean connect_once (Guest *guest, GError **error)
{
    g_autofree char *address = NULL;
    if (guest_is_offline (guest) && !(address = offline_start (guest, error)))
        return FALSE;
    if (!address || !both_still_off (guest)) {
        g_free (address);
        address = g_strdup (guest->def->qmp);
    }
    guest->qmp = qmp_connect (address, guest->context, 0, error);
    if (!guest->qmp)
        return FALSE;
    qmp_set_event_func (guest->qmp, on_event, guest);
    set_watched (guest, guest->qmp, FALSE);
    caps_free (guest->caps);
    guest->caps = caps_load (guest->qmp, error);
    return guest->caps && (guest_is_offline (guest) || both_check_uuid (guest, error))
           && check_alone (guest, error);
}

/* A private storage daemon that another owner has just told to end still listens for a moment: it
 * takes the connection along. Then another one is started. */
static gboolean connect_monitor (Guest *guest, GError **error)
{
    for (guint tries = guest_is_offline (guest) ? OFFLINE_TRIES : 1;; tries--) {
        g_autoptr (GError) failure = NULL;
        if (connect_once (guest, &failure))
            return TRUE;
        if (tries <= 1 || error_code (failure) != BAK_ERROR_CONNECTION) {
            g_propagate_error (error, g_steal_pointer (&failure));
            return FALSE;
        }
        guest_disconnect (guest);
    }
}

static gboolean refused (const GError *error)
{
    return error_code (error) == BAK_ERROR_CONNECTION;
}

gboolean guest_acquire (Guest *guest, GError **error)
{
    g_autoptr (GError) failure = NULL;
    if (guest->qmp && qmp_is_alive (guest->qmp, NULL))
        return TRUE;
    guest_disconnect (guest);
    if (guest->lock_fd < 0 && !take_lock (guest, error))
        return FALSE;
    both_settle (guest);
    if (!connect_monitor (guest, &failure)) {
        guest_disconnect (guest);
        if (!guest->job && !guest->recovering && refused (failure) && journal_exists (guest->dir)) {
            guest->recovering = TRUE; /* undo asks for the monitor again */
            guest->owner->jobs->recover_gone (guest, failure->message);
            guest->recovering = FALSE;
        }
        if (!guest->recovering && refused (failure))
            guest->owner->jobs->settle_gone (guest, failure->message);
        if (!guest->job && !guest->recovering)
            guest_release (guest);
        g_propagate_error (error, g_steal_pointer (&failure));
        return FALSE;
    }
    if (!guest->job && !guest->recovering && journal_exists (guest->dir)) {
        guest->recovering = TRUE;
        gboolean ok = guest->owner->jobs->recover (guest, error);
        guest->recovering = FALSE;
        if (!ok) {
            guest_release (guest);
            return FALSE;
        }
        if (!guest->qmp || !qmp_is_alive (guest->qmp, NULL)) {
            if (!guest->job)
                guest_release (guest);
            return error_set (error, BAK_ERROR_CONNECTION, _("the monitor of guest '%s' was lost"),
                              guest->def->name);
        }
    }
    if (!guest->recovering && !guest->owner->jobs->settle (guest, error)) {
        if (!guest->job)
            guest_release (guest);
        return FALSE;
    }
    return TRUE;
}

void guest_release (Guest *guest)
{
    gboolean offline_idle =
        guest->qmp && !guest->job && guest_is_offline (guest) && !journal_exists (guest->dir);
    guest->release_at = 0;
    guest_disconnect (guest);
    g_clear_pointer (&guest->caps, caps_free);
    g_hash_table_remove_all (guest->job_status);
    g_hash_table_remove_all (guest->job_errors);
    g_hash_table_remove_all (guest->exports_gone);
    g_ptr_array_set_size (guest->pending, 0);
    if (offline_idle)
        offline_stop (guest); /* the images are free again */
    if (guest->lock_fd >= 0)
        close (guest->lock_fd);
    guest->lock_fd = -1;
}

Graph *guest_graph (Guest *guest, GraphDetail detail, GError **error)
{
    if (!guest_monitor_alive (guest, error))
        return NULL;
    Graph *graph = graph_load (guest->qmp, guest->caps, detail, guest_shape (guest)->disks, error);
    if (graph && detail != GRAPH_HELD) {
        graph_publish_images (graph, guest->def->name, guest->dir);
        if (!both_note (guest, graph, error))
            g_clear_pointer (&graph, graph_free);
    }
    return graph;
}

void guest_emit (Guest *guest, bak_event *event)
{
    free (event->domain);
    free (event->uuid);
    event->domain = ret_string (guest->def->name);
    event->uuid = ret_string (guest->def->uuid);
    event->job = event->job ? event->job : ret_string ("");
    event->disk = event->disk ? event->disk : ret_string ("");
    event->text = event->text ? event->text : ret_string ("");
    event->when = g_get_real_time ();
    driver_conn_emit (guest->owner->conn, event);
    bak_event_clear (event);
}
