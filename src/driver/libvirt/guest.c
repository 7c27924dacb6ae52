#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "driver/libvirt/guest.h"
#include "job/journal.h"
#include "util/files.h"

enum { TICK_MS = 500, URGENT_MS = 20, LOCK_WAIT_MS = 300 };

void lv_note_free (LvNote *note)
{
    if (!note)
        return;
    g_free (note->disk);
    g_free (note->text);
    g_free (note);
}

/* ---- life ---- */

static LvGuest *guest_new (LvConn *lv, const char *name)
{
    LvGuest *guest = g_new0 (LvGuest, 1);
    guest->lv = lv;
    guest->name = g_strdup (name);
    guest->dir = lv_guest_dir (lv, name);
    guest->online = g_build_filename (guest->dir, "online", NULL);
    guest->refs = 1;
    guest->lock_fd = -1;
    guest->notes = g_async_queue_new_full ((GDestroyNotify) lv_note_free);
    g_rec_mutex_init (&guest->busy);
    board_init (&guest->board, guest->name, guest->dir, guest, lv->jobs->refresh);
    guest->jobs = (JobPlace){ lv->jobs->ops, &guest->board, guest->online, &guest->cancel };
    return guest;
}

static void guest_free (LvGuest *guest)
{
    lv_guest_shutdown (guest);
    g_async_queue_unref (guest->notes);
    g_rec_mutex_clear (&guest->busy);
    board_clear (&guest->board);
    g_free (guest->name);
    g_free (guest->dir);
    g_free (guest->online);
    g_free (guest);
}

void lv_guest_unref (LvGuest *guest)
{
    if (guest && g_atomic_int_dec_and_test (&guest->refs))
        guest_free (guest);
}

LvGuest *lv_guest_get (LvConn *lv, const char *name, GError **error)
{
    if (!lv_guest_name_check (name, error))
        return NULL;
    g_mutex_lock (&lv->lock);
    LvGuest *guest = g_hash_table_lookup (lv->guests, name);
    if (!guest) {
        guest = guest_new (lv, name);
        g_hash_table_insert (lv->guests, g_strdup (name), guest);
    }
    g_atomic_int_inc (&guest->refs);
    g_mutex_unlock (&lv->lock);
    return guest;
}

LvGuest *lv_guest_peek (LvConn *lv, const char *name)
{
    g_mutex_lock (&lv->lock);
    LvGuest *guest = g_hash_table_lookup (lv->guests, name);
    if (guest)
        g_atomic_int_inc (&guest->refs);
    g_mutex_unlock (&lv->lock);
    return guest;
}

virDomainPtr lv_guest_domain (LvGuest *guest, GError **error)
{
    return lv_domain (guest->lv, guest->name, error);
}

/* ---- the folder and who owns it ---- */

static char *lock_path (LvConn *lv, const char *name)
{
    g_autofree char *dir = lv_guest_dir (lv, name);
    return g_build_filename (dir, "online", "lock", NULL);
}

gboolean lv_guest_owned (LvConn *lv, const char *name)
{
    g_autofree char *lock = lock_path (lv, name);
    return files_is_locked (lock);
}

gboolean lv_guest_lock (LvGuest *guest, GError **error)
{
    g_autofree char *path = lock_path (guest->lv, guest->name);
    g_autoptr (GError) failure = NULL;

    if (guest->lock_fd >= 0)
        return TRUE;
    if (!files_make_dir (guest->online, 0700, error))
        return FALSE;
    guest->lock_fd = files_lock (path, LOCK_WAIT_MS, &failure);
    if (guest->lock_fd >= 0)
        return TRUE;
    if (error_code (failure) != BAK_ERROR_BUSY) {
        g_propagate_error (error, g_steal_pointer (&failure));
        return FALSE;
    }
    bak_job job = { 0 };
    if (record_load (guest->dir, "", &job, NULL) && !job_state_ended (job.state))
        error_set (error, BAK_ERROR_BUSY,
                   _("guest '%s': backup job %s is %s; wait for it or stop it (backup-stop)"),
                   guest->name, job.id, job_state_to_string (job.state));
    else
        error_set (error, BAK_ERROR_BUSY, _("another libbackup process works with guest '%s'"),
                   guest->name);
    bak_job_clear (&job);
    return FALSE;
}

void lv_guest_unlock (LvGuest *guest)
{
    if (guest->lock_fd >= 0)
        close (guest->lock_fd);
    guest->lock_fd = -1;
}

/* QEMU has to come through to scratch and sockets of ours, and to no more: the rest stays closed to
 * all but us. */
static gboolean open_way (LvGuest *guest, GError **error)
{
    g_autofree char *guests = g_path_get_dirname (guest->dir),
                    *state = g_path_get_dirname (guest->lv->state_dir);
    const char *const way[] = { state, guest->lv->state_dir, guests, guest->dir };
    for (guint i = 0; i < G_N_ELEMENTS (way); i++) {
        struct stat st;
        if (stat (way[i], &st) != 0)
            return error_set_errno (error, errno, "'%s'", way[i]);
        if (st.st_uid == geteuid () && !(st.st_mode & S_IXOTH)
            && chmod (way[i], (st.st_mode & 07777) | S_IXGRP | S_IXOTH) != 0)
            return error_set_errno (error, errno, "'%s'", way[i]);
    }
    return TRUE;
}

static gboolean make_dir_for_qemu (LvGuest *guest, const LvPicture *picture, const char *name,
                                   GError **error)
{
    g_autofree char *path = g_build_filename (guest->dir, name, NULL);
    if (!files_make_dir (path, 0700, error))
        return FALSE;
    if (picture->has_owner && geteuid () == 0 && picture->uid != 0
        && chown (path, picture->uid, picture->gid) != 0)
        return error_set_errno (error, errno, "'%s'", path);
    return TRUE;
}

/* A transient guest leaves nothing in libvirt when it goes; its records stay, and are found by its
 * name. */
static void note_uuid (LvGuest *guest, const LvPicture *picture)
{
    g_autofree char *path = g_build_filename (guest->dir, "uuid", NULL);
    files_write_atomic (path, picture->uuid, -1, 0600, NULL);
}

gboolean lv_guest_make_dirs (LvGuest *guest, const LvPicture *picture, GError **error)
{
    gboolean other = picture->has_owner && geteuid () == 0 && picture->uid != 0;
    if (files_make_dir (guest->online, 0700, NULL))
        note_uuid (guest, picture);
    return files_make_dir (guest->online, 0700, error) && (!other || open_way (guest, error))
           && make_dir_for_qemu (guest, picture, "scratch", error)
           && make_dir_for_qemu (guest, picture, "run", error);
}

/* ---- events out, notes in ---- */

void lv_guest_emit (LvGuest *guest, bak_event *event)
{
    event->domain = ret_string (guest->name);
    event->when = g_get_real_time ();
    char **const strings[] = { &event->uuid, &event->job, &event->disk, &event->text };
    for (guint i = 0; i < G_N_ELEMENTS (strings); i++)
        if (!*strings[i])
            *strings[i] = ret_string ("");
    driver_conn_emit (guest->lv->conn, event);
    bak_event_clear (event);
}

void lv_guest_note (LvGuest *guest, LvNote *note)
{
    g_async_queue_push (guest->notes, note);
}

/* ---- the thread of a running job ---- */

typedef struct {
    LvGuest *guest;
    guint generation;
} Carrier;

static gpointer carry (gpointer data)
{
    g_autofree Carrier *carrier = data;
    LvGuest *guest = carrier->guest;
    gboolean goes_on = TRUE;

    while (goes_on && !g_atomic_int_get (&guest->quit)) {
        g_rec_mutex_lock (&guest->busy);
        gboolean ours = guest->job && guest->generation == carrier->generation;
        guint wait = ours && guest->lv->jobs->urgent (guest->job) ? URGENT_MS : TICK_MS;
        g_rec_mutex_unlock (&guest->busy);
        LvNote *note =
            ours ? g_async_queue_timeout_pop (guest->notes, (guint64) wait * 1000) : NULL;
        g_rec_mutex_lock (&guest->busy);
        ours = ours && guest->job && guest->generation == carrier->generation;
        for (; note; note = g_async_queue_try_pop (guest->notes)) {
            if (ours)
                guest->lv->jobs->take (guest->job, note);
            lv_note_free (note);
        }
        goes_on = ours && !g_atomic_int_get (&guest->quit) && guest->lv->jobs->tick (guest);
        g_rec_mutex_unlock (&guest->busy);
    }
    g_mutex_lock (&guest->board.lock);
    guest->threads--;
    g_cond_broadcast (&guest->board.changed);
    g_mutex_unlock (&guest->board.lock);
    return NULL;
}

/* Nobody waits for the thread of a former job: it sees that its job is over and goes. */
void lv_guest_start_thread (LvGuest *guest)
{
    Carrier *carrier = g_new (Carrier, 1);
    *carrier = (Carrier){ guest, ++guest->generation };
    g_mutex_lock (&guest->board.lock);
    guest->threads++;
    g_mutex_unlock (&guest->board.lock);
    g_thread_unref (g_thread_new ("libvirt-job", carry, carrier));
}

gboolean lv_guest_look (LvGuest *guest, guint timeout_ms)
{
    gint64 deadline = g_get_monotonic_time () + timeout_ms * 1000LL;
    g_mutex_lock (&guest->board.lock);
    guint seen = guest->board.published;
    gboolean runs = guest->threads > 0 && guest->board.snapshot.id
                    && (guest->board.snapshot.state == JOB_STATE_RUNNING
                        || guest->board.snapshot.state == JOB_STATE_READY),
             in_time = TRUE;
    if (runs)
        lv_guest_note (guest, g_new0 (LvNote, 1));
    while (runs && in_time && guest->board.published == seen && guest->threads > 0)
        in_time = g_cond_wait_until (&guest->board.changed, &guest->board.lock, deadline);
    g_mutex_unlock (&guest->board.lock);
    return in_time;
}

void lv_guest_shutdown (LvGuest *guest)
{
    g_atomic_int_set (&guest->quit, TRUE);
    lv_guest_note (guest, g_new0 (LvNote, 1));
    g_mutex_lock (&guest->board.lock);
    while (guest->threads > 0)
        g_cond_wait (&guest->board.changed, &guest->board.lock);
    g_mutex_unlock (&guest->board.lock);
    g_clear_pointer (&guest->job, job_free);
    lv_guest_unlock (guest);
}

char *lv_provisional (LvGuest *guest)
{
    g_rec_mutex_lock (&guest->busy);
    char *name =
        guest->job && !guest->job->finished ? g_strdup (guest->job->plan->checkpoint) : NULL;
    gboolean here = guest->job != NULL;
    g_rec_mutex_unlock (&guest->busy);
    if (here || !journal_exists (guest->online))
        return name;
    g_autoptr (JournalState) state = journal_read (guest->online, NULL);
    if (state && state->plan && !g_str_equal (state->phase, "finished"))
        return g_strdup (state->plan->checkpoint);
    return NULL;
}
