/* How a point comes to be:
 *
 *   1. the guest's lock; what a dead writer left (a pull, a directory) goes
 *   2. the base of each disk; a number that no point had
 *   3. a pull with a checkpoint of the same instant, provisional until its end
 *   4. the disks are read, compared with their bases and stored; tracking is tested
 *   5. documents; everything fsynced, not seen yet
 *   6. the pull's end: the verdict; the checkpoint is promoted
 *   7. a chain that became too long is made short; the rename; from here the point is there
 *   8. older checkpoints of ours go
 *
 * Death before 6: the checkpoint goes with the pull, the one of the newest point stays. Between 6
 * and 7: two checkpoints; the newest point's is still good, the next run deletes the other one.
 *
 * Who comes after a death in 4 may go on instead, while the pull lives: the same instant, the same
 * bases, and of what was stored as much as its hashes prove. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "repository/fields.h"
#include "repository/cancellation.h"
#include "repository/create.h"
#include "repository/disk-copy.h"
#include "repository/guest.h"
#include "repository/interrupted.h"
#include "repository/lock.h"
#include "repository/publish.h"
#include "repository/shorten.h"
#include "repository/source.h"
#include "util/json.h"

enum {
    SAMPLES = 64,
    SAMPLES_MAX = 1000000,
    PARALLEL = 4, /* disks at a time */
    IDLE_TIMEOUT_S = 600,
    CHECKPOINT_TRIES = 100,
};

G_DEFINE_AUTOPTR_CLEANUP_FUNC (BakJob, bak_job_unref)

typedef struct {
    Repository *repository;
    BakDomain *domain;
    const BakPointCreateOptions *options;
    const char *compression, *uuid, *name;
    guint samples;
    gint64 started, deadline; /* monotonic; 0: none */

    Lock *lock;
    GPtrArray *points;  /* Point */
    GPtrArray *disks;   /* GuestDisk */
    GPtrArray *choices; /* BaseChoice */
    char *id, *checkpoint, *dir, *server;
    const char *base_checkpoint;
    char *job_id; /* NULL: none runs */
    BakJob *job;  /* as it was when it was ready */
    Source *source;
    Manifest *manifest;
    Placement *storage;
    MoverControl *control;
    gboolean resumed; /* it goes on with what a dead one began */
} Run;

static void run_clear (Run *run)
{
    lock_free (run->lock);
    g_clear_pointer (&run->points, g_ptr_array_unref);
    g_clear_pointer (&run->disks, g_ptr_array_unref);
    g_clear_pointer (&run->choices, g_ptr_array_unref);
    g_free (run->id);
    g_free (run->checkpoint);
    g_free (run->dir);
    g_free (run->server);
    g_free (run->job_id);
    bak_job_unref (run->job);
    source_free (run->source);
    manifest_free (run->manifest);
    placement_free (run->storage);
    mover_control_unref (run->control);
}

/* options */

static gboolean check_compression (Run *run, GError **error)
{
    const char *wanted = run->options->compression ? run->options->compression : "none";
    if (g_str_equal (wanted, "none"))
        run->compression = "none";
    else if (g_str_equal (wanted, "zstd") || g_str_equal (wanted, "zstd:3"))
        run->compression = "zstd";
    else if (g_str_has_prefix (wanted, "zstd:"))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("compression '%s': QEMU compresses images at zstd's level 3, and has "
                             "no way to say another; zstd or zstd:3"),
                          wanted);
    else
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("compression '%s': there are none, zstd, zstd:LEVEL"), wanted);
    return repository_may_compress (run->repository, run->compression, error);
}

static gboolean run_init (Run *run, GError **error)
{
    const BakPointCreateOptions *options = run->options;
    run->name = bak_domain_get_name (run->domain);
    run->uuid = bak_domain_get_uuid_string (run->domain);
    run->started = g_get_monotonic_time ();
    run->deadline = options->timeout ? run->started + (gint64) options->timeout : 0;
    run->samples = options->flags & BAK_POINT_CREATE_NO_SAMPLE ? 0
                   : options->samples                          ? options->samples
                                                               : SAMPLES;
    run->server = source_server (bak_domain_get_connection (run->domain), IDLE_TIMEOUT_S);
    run->control = mover_control_new ();
    mover_control_set_limit (run->control, options->limit);
    if (run->samples > SAMPLES_MAX)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("more than %d samples; --full-read reads everything"), SAMPLES_MAX);
    if (!run->uuid || !g_uuid_string_is_valid (run->uuid))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("guest '%s' has no UUID"), run->name);
    return check_compression (run, error) && repository_need_key (run->repository, error);
}

/* the bases */

static void choose_bases (Run *run)
{
    Point *newest = run->points->len ? run->points->pdata[run->points->len - 1] : NULL;
    g_autofree char *why = newest ? guest_check_checkpoint (run->domain, newest) : NULL;
    g_autofree BaseDisk *disks = g_new0 (BaseDisk, run->disks->len);
    for (guint i = 0; i < run->disks->len; i++) {
        const GuestDisk *disk = run->disks->pdata[i];
        disks[i] = (BaseDisk){ disk->target, disk->size };
    }
    const char *asked = run->options->flags & BAK_POINT_CREATE_FULL_READ
                            ? _("reading all of it was asked for")
                            : NULL;
    run->choices = base_choose (run->points, disks, run->disks->len, asked ? asked : why);
    run->base_checkpoint = newest ? newest->manifest->checkpoint : NULL;
}

static gboolean check_fallback (Run *run, GError **error)
{
    if (!(run->options->flags & BAK_POINT_CREATE_REFUSE_FALLBACK))
        return TRUE;
    for (guint i = 0; i < run->choices->len; i++) {
        const BaseChoice *choice = run->choices->pdata[i];
        if (choice->base && !choice->tracked)
            return error_set (error, BAK_ERROR_INEXACT, _("disk '%s' would be read whole: %s"),
                              choice->target, choice->reason);
    }
    return TRUE;
}

static gboolean find_bases (Run *run, GError **error)
{
    g_autoptr (GPtrArray) damaged = g_ptr_array_new_with_free_func (g_free);
    run->points = repository_list_points (run->repository, run->uuid, damaged, error);
    run->disks = run->points ? guest_list_disks (run->domain, run->options->disks, error) : NULL;
    if (!run->disks)
        return FALSE;
    choose_bases (run);
    for (guint i = 0; run->manifest && i < damaged->len; i++)
        g_ptr_array_add (run->manifest->warnings, g_strdup (damaged->pdata[i]));
    return check_fallback (run, error);
}

static void add_warning (Run *run, const char *format, ...) G_GNUC_PRINTF (2, 3);
static void add_warning (Run *run, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    g_ptr_array_add (run->manifest->warnings, g_strdup_vprintf (format, args));
    va_end (args);
}

/* what a dead run left */

static const BaseChoice *find_choice (const GPtrArray *choices, const char *target)
{
    for (guint i = 0; i < choices->len; i++)
        if (g_str_equal (((BaseChoice *) choices->pdata[i])->target, target))
            return choices->pdata[i];
    return NULL;
}

/* NULL: they are those that this call names, if it names any. Caller frees. */
static char *check_same_disks (Run *run, const Interrupted *left)
{
    g_autoptr (GError) why = NULL;
    if (!run->options->disks)
        return NULL;
    g_autoptr (GPtrArray) disks = guest_list_disks (run->domain, run->options->disks, &why);
    gboolean same = disks && disks->len == left->choices->len;
    if (!disks)
        return g_strdup (why->message);
    for (guint i = 0; same && i < disks->len; i++)
        same = find_choice (left->choices, ((GuestDisk *) disks->pdata[i])->target) != NULL;
    return same ? NULL : g_strdup (_("it reads other disks"));
}

/* TRUE: the run goes on with it. */
static gboolean take_up (Run *run, Interrupted *left)
{
    g_autofree char *dead = guest_check_pull (run->domain, left->job_id, left->checkpoint);
    g_autofree char *why = dead ? g_steal_pointer (&dead) : check_same_disks (run, left);
    if (!why)
        run->points = repository_list_points (run->repository, run->uuid, NULL, NULL);
    if (why)
        add_warning (run, _("point '%s', which was interrupted, was begun anew: %s"), left->id,
                     why);
    if (!run->points)
        return FALSE;
    g_free (run->id);
    run->id = g_steal_pointer (&left->id);
    run->job_id = g_steal_pointer (&left->job_id);
    run->checkpoint = g_steal_pointer (&left->checkpoint);
    run->choices = g_steal_pointer (&left->choices);
    run->compression = g_intern_string (left->compression);
    run->manifest->sequence = left->sequence;
    run->dir = publish_new_dir (run->repository, run->uuid, run->id);
    run->resumed = TRUE;
    return TRUE;
}

static gboolean prepare (Run *run, GError **error)
{
    run->manifest = manifest_new ();
    run->storage = placement_new ();
    run->id = publish_new_id (g_get_real_time ());
    if (!(run->lock = lock_guest_to_write (run->repository, run->uuid, "point-create", error)))
        return FALSE;
    g_autoptr (Interrupted) left = interrupted_find (run->repository, run->uuid);
    if (left && run->options->flags & BAK_POINT_CREATE_RESUME && take_up (run, left))
        return TRUE;
    if (!guest_abort_orphan (run->domain, run->repository, left ? left->job_id : NULL, error)
        || !find_bases (run, error)
        || !publish_next_sequence (run->repository, run->uuid, run->name, &run->manifest->sequence,
                                   error)
        || !(run->dir = publish_begin (run->repository, run->uuid, run->id, error)))
        return FALSE;
    run->checkpoint = guest_checkpoint_name (run->repository, run->manifest->sequence);
    return TRUE;
}

/* the pull */

static GuestPull pull_of (const Run *run)
{
    return (GuestPull){
        .id = run->id,
        .choices = run->choices,
        .base_checkpoint = run->base_checkpoint,
        .checkpoint = run->checkpoint,
        .refuse_fallback = run->options->flags & BAK_POINT_CREATE_REFUSE_FALLBACK,
        .quiesce = run->options->quiesce == BAK_QUIESCE_YES
                   || (run->options->quiesce == BAK_QUIESCE_AUTO && guest_has_agent (run->domain)),
        .server = run->server,
        .timeout = run->options->timeout,
    };
}

/* Without an agent a point is as after a power cut; without a disk that can keep a bitmap there is
 * no checkpoint, and the next point reads everything. */
static gboolean may_drop (Run *run, GuestPull *pull, const GError *why)
{
    gboolean no_agent = error_code (why) == BAK_ERROR_AGENT
                        || error_code (why) == BAK_ERROR_NOT_SUPPORTED
                        || error_code (why) == BAK_ERROR_INVALID_ARGUMENT,
             silent =
                 error_code (why) == BAK_ERROR_CONNECTION
                 || error_code (why) == BAK_ERROR_TIMEOUT; /* or the monitor: then it fails again */
    if (pull->quiesce && run->options->quiesce == BAK_QUIESCE_AUTO && (no_agent || silent)) {
        pull->quiesce = FALSE;
        if (silent || error_code (why) == BAK_ERROR_AGENT)
            add_warning (run, _("the file systems were not frozen: %s"), why->message);
        return TRUE;
    }
    if (pull->checkpoint && error_code (why) == BAK_ERROR_NOT_SUPPORTED) {
        add_warning (run, _("no checkpoint, so the next point will read everything: %s"),
                     why->message);
        pull->checkpoint = NULL;
        g_clear_pointer (&run->checkpoint, g_free);
        return TRUE;
    }
    return FALSE;
}

/* A bitmap of that name may be in an image from other times: of a guest that was detached, of a
 * copy of this repository. */
static gboolean next_checkpoint (Run *run, GuestPull *pull, const GError *why, guint tries)
{
    if (!pull->checkpoint || error_code (why) != BAK_ERROR_EXISTS || tries >= CHECKPOINT_TRIES)
        return FALSE;
    g_free (run->checkpoint);
    run->checkpoint = guest_checkpoint_name (run->repository, run->manifest->sequence + tries + 1);
    pull->checkpoint = run->checkpoint;
    return TRUE;
}

/* Whoever was killed while the guest's owner began for it has left a job that was not to be seen
 * when this run looked. */
static gboolean drop_late_orphan (Run *run, const GError *why, guint tries)
{
    return error_code (why) == BAK_ERROR_BUSY && tries == 0
           && guest_abort_orphan (run->domain, run->repository, NULL, NULL);
}

static gboolean begin_pull (Run *run, GError **error)
{
    GuestPull pull = pull_of (run);
    for (guint tries = 0;; tries++) {
        g_autoptr (GError) why = NULL;
        run->job_id = guest_begin_pull (run->domain, &pull, &why);
        if (run->job_id)
            break;
        if (!may_drop (run, &pull, why) && !drop_late_orphan (run, why, tries)
            && !next_checkpoint (run, &pull, why, tries)) {
            g_propagate_error (error, g_steal_pointer (&why));
            return FALSE;
        }
    }
    const Interrupted self = { .id = run->id,
                               .job_id = run->job_id,
                               .checkpoint = run->checkpoint,
                               .compression = (char *) run->compression,
                               .sequence = run->manifest->sequence,
                               .choices = run->choices };
    return interrupted_write (run->dir, &self, error);
}

static gboolean begin (Run *run, GError **error)
{
    if (!run->resumed && !begin_pull (run, error))
        return FALSE;
    BakError *why = NULL;
    run->job = bak_domain_backup_info (run->domain, run->job_id, 0, &why);
    return run->job ? (run->source = source_open (run->domain, run->job, error)) != NULL
                    : guest_take_error (why, error);
}

/* reading */

typedef struct _Reading Reading;

typedef struct {
    Reading *reading;
    DiskCopy copy;
    char *file;
    guint64 done, total;
    GError *error;
} DiskRead;

struct _Reading {
    Run *run;
    GPtrArray *disks; /* DiskRead */
    GMutex lock;
    GCond changed;
    guint next, ended;
    gboolean failed;
};

static void disk_read_free (gpointer data)
{
    DiskRead *disk = data;
    disk_copy_clear (&disk->copy);
    g_clear_error (&disk->error);
    g_free (disk->file);
    g_free (disk);
}

static void tell (const Run *run, const char *phase, const char *disk, guint64 done, guint64 total)
{
    const BakPointCreateOptions *options = run->options;
    BakPointProgress progress = {
        sizeof progress, phase, disk, done, total, g_get_monotonic_time () - run->started
    };
    if (options->progress)
        options->progress (&progress, options->opaque);
}

static void take_progress (guint64 done, guint64 total, gpointer data)
{
    DiskRead *disk = data;
    Reading *reading = disk->reading;
    guint64 all_done = 0, all_total = 0;
    g_mutex_lock (&reading->lock);
    disk->done = done;
    disk->total = total;
    for (guint i = 0; i < reading->disks->len; i++) {
        const DiskRead *other = reading->disks->pdata[i];
        all_done += other->done;
        all_total += other->total;
    }
    tell (reading->run, "read", disk->copy.target, all_done, all_total);
    g_mutex_unlock (&reading->lock);
}

static gpointer read_disks (gpointer data)
{
    Reading *reading = data;
    g_mutex_lock (&reading->lock);
    while (!reading->failed && reading->next < reading->disks->len) {
        DiskRead *disk = reading->disks->pdata[reading->next++];
        g_mutex_unlock (&reading->lock);
        gboolean ok = disk_copy_run (&disk->copy, &disk->error);
        g_mutex_lock (&reading->lock);
        if (!ok && !reading->failed) {
            reading->failed = TRUE;
            mover_control_cancel (reading->run->control);
        }
    }
    reading->ended++;
    g_cond_signal (&reading->changed);
    g_mutex_unlock (&reading->lock);
    return NULL;
}

static const BakJobDisk *find_job_disk (const BakJob *job, const char *target)
{
    for (guint i = 0; i < bak_job_get_n_disks (job); i++)
        if (g_strcmp0 (bak_job_disk_get_target (bak_job_get_disk (job, i)), target) == 0)
            return bak_job_get_disk (job, i);
    return NULL;
}

/* The disk's name where that may be a file's, else a number. */
static char *file_for (const char *target, guint number)
{
    return fields_name_is_safe (target) ? g_strdup (target) : g_strdup_printf ("disk-%u", number);
}

static gboolean add_reading (Reading *reading, const BaseChoice *choice, GError **error)
{
    Run *run = reading->run;
    const BakJobDisk *job_disk = find_job_disk (run->job, choice->target);
    if (!job_disk)
        return error_set (error, BAK_ERROR_INTERNAL, _("disk '%s' is not in the backup"),
                          choice->target);
    DiskRead *disk = g_new0 (DiskRead, 1);
    disk->reading = reading;
    disk->file = file_for (choice->target, reading->disks->len);
    disk->total = choice->size;
    disk->copy = (DiskCopy){
        .target = choice->target,
        .size = choice->size,
        .bitmap = choice->tracked ? bak_job_disk_get_bitmap (job_disk) : NULL,
        .repository = run->repository,
        .base = choice->base,
        .dir = run->dir,
        .file = disk->file,
        .compression = run->compression,
        .samples = run->samples,
        .refuse_fallback = run->options->flags & BAK_POINT_CREATE_REFUSE_FALLBACK,
        .resume = run->resumed,
        .control = run->control,
        .progress = take_progress,
        .data = disk,
    };
    source_for_disk (run->source, job_disk, &disk->copy.source);
    g_ptr_array_add (reading->disks, disk);
    return TRUE;
}

/* Until all threads have ended; the deadline cancels them. TRUE: it passed. */
static gboolean await_threads (Reading *reading, guint threads)
{
    gint64 deadline = reading->run->deadline;
    gboolean passed = FALSE;
    g_mutex_lock (&reading->lock);
    while (reading->ended < threads) {
        if (!deadline || passed)
            g_cond_wait (&reading->changed, &reading->lock);
        else if (!g_cond_wait_until (&reading->changed, &reading->lock, deadline)) {
            passed = TRUE;
            mover_control_cancel (reading->run->control);
        }
    }
    g_mutex_unlock (&reading->lock);
    return passed;
}

static void cancel_control (GCancellable *cancellable, gpointer control)
{
    mover_control_cancel (control);
}

static gboolean run_threads (Reading *reading)
{
    GThread *threads[PARALLEL];
    guint count = MIN (PARALLEL, reading->disks->len);
    BakCancellation *cancellation = reading->run->options->cancellation;
    gulong handler = cancellation ? g_cancellable_connect (cancellation->cancellable,
                                                           G_CALLBACK (cancel_control),
                                                           reading->run->control, NULL)
                                  : 0;
    for (guint i = 0; i < count; i++)
        threads[i] = g_thread_new ("bak-point", read_disks, reading);
    gboolean passed = await_threads (reading, count);
    for (guint i = 0; i < count; i++)
        g_thread_join (threads[i]);
    if (handler)
        g_cancellable_disconnect (cancellation->cancellable, handler);
    return passed;
}

/* The first error that is no consequence of another's. */
static gboolean take_first_error (Reading *reading, GError **error)
{
    GError *first = NULL;
    for (guint i = 0; i < reading->disks->len; i++) {
        const DiskRead *disk = reading->disks->pdata[i];
        if (disk->error && (!first || g_error_matches (first, BAK_ERROR, BAK_ERROR_ABORTED)))
            first = disk->error;
    }
    if (first)
        g_propagate_error (error, g_error_copy (first));
    return !first;
}

/* What the engine says of a disk, when it is not what was wanted. */
static char *reason_of (const Run *run, const BaseChoice *choice)
{
    const BakJobDisk *disk = find_job_disk (run->job, choice->target);
    const char *said = bak_job_disk_get_reason (disk);
    if (choice->tracked && !bak_job_disk_get_bitmap (disk))
        return g_strdup (said ? said : _("the backup could not be an increment"));
    return g_strdup (choice->reason);
}

/* The newest point left a checkpoint for this one, and it could not be used. */
static gboolean tracking_was_lost (const Run *run, const BaseChoice *choice)
{
    const Point *newest = run->points->len ? run->points->pdata[run->points->len - 1] : NULL;
    gboolean asked = run->options->flags & BAK_POINT_CREATE_FULL_READ;
    return newest && choice->base == newest && newest->manifest->checkpoint && !asked;
}

static void collect (Run *run, Reading *reading)
{
    for (guint i = 0; i < reading->disks->len; i++) {
        DiskRead *disk = reading->disks->pdata[i];
        ManifestDisk *manifest = disk->copy.manifest;
        if (!manifest->reason)
            manifest->reason = reason_of (run, run->choices->pdata[i]);
        if (!disk->copy.bitmap && tracking_was_lost (run, run->choices->pdata[i]))
            add_warning (run, _("disk '%s': all of it was read: %s"), disk->copy.target,
                         manifest->reason);
        g_ptr_array_add (run->manifest->disks, g_steal_pointer (&disk->copy.manifest));
        g_ptr_array_add (run->storage->disks, g_steal_pointer (&disk->copy.storage));
        if (disk->copy.warning)
            g_ptr_array_add (run->manifest->warnings, g_steal_pointer (&disk->copy.warning));
    }
}

static gboolean read_guest (Run *run, GError **error)
{
    Reading reading = { .run = run, .disks = g_ptr_array_new_with_free_func (disk_read_free) };
    gboolean ok = TRUE;
    g_mutex_init (&reading.lock);
    g_cond_init (&reading.changed);
    for (guint i = 0; ok && i < run->choices->len; i++)
        ok = add_reading (&reading, run->choices->pdata[i], error);
    if (ok) {
        gboolean passed = run_threads (&reading);
        ok = take_first_error (&reading, error);
        if (!ok && passed)
            g_clear_error (error), error_set (error, BAK_ERROR_TIMEOUT, _("it took too long"));
    }
    if (ok)
        collect (run, &reading);
    g_ptr_array_unref (reading.disks);
    g_mutex_clear (&reading.lock);
    g_cond_clear (&reading.changed);
    return ok;
}

/* the end */

static gint64 instant_of (const Run *run)
{
    return bak_job_get_started (run->job);
}

static gboolean describe (Run *run, GError **error)
{
    Manifest *manifest = run->manifest;
    g_autoptr (GTimeZone) zone = g_time_zone_new_local ();
    Point *newest = run->points->len ? run->points->pdata[run->points->len - 1] : NULL;
    const char *consistency = bak_job_get_consistency (run->job);
    manifest->id = g_strdup (run->id);
    manifest->encrypted = run->repository->slots != NULL;
    manifest->guest_name = g_strdup (run->name);
    manifest->guest_uuid = g_strdup (run->uuid);
    manifest->instant = instant_of (run);
    manifest->timezone = g_strdup (g_time_zone_get_identifier (zone));
    manifest->consistency = g_strdup (consistency ? consistency : "crash");
    manifest->frozen_ms = bak_job_get_frozen_time (run->job) / 1000;
    manifest->host = guest_host (run->domain);
    manifest->qemu = guest_qemu (run->domain);
    manifest->checkpoint = g_strdup (run->checkpoint);
    run->storage->parent = newest ? g_strdup (newest->manifest->id) : NULL;
    const GuestFiles to = { run->repository, run->dir, run->id, manifest->files };
    return guest_write_files (run->domain, &to, manifest->warnings, error)
           && guest_write_readme (&to, manifest, run->storage, error);
}

static gboolean stop (Run *run, guint flags, GError **error)
{
    BakError *why = NULL;
    g_autofree char *id = g_steal_pointer (&run->job_id);
    g_autoptr (BakJob) ended = bak_domain_backup_stop (run->domain, id, flags, &why);
    if (!ended)
        return guest_take_error (why, error);
    const char *text = bak_job_get_error (ended);
    return bak_job_get_state (ended) == BAK_JOB_COMPLETED
           || error_set (error, text ? bak_job_get_error_code (ended) : BAK_ERROR_ABORTED, "%s",
                         text ? text : _("the backup did not end well"));
}

/* The reason of the failure is that of the backup, when that failed by itself. */
static void abort_run (Run *run, GError **error)
{
    g_autoptr (GError) why = NULL;
    if (run->job_id && !stop (run, BAK_DOMAIN_BACKUP_STOP_ABORT, &why)
        && error_code (why) != BAK_ERROR_ABORTED && error && error_code (*error) == BAK_ERROR_IO)
        error_note (error, "%s", why->message);
    publish_abandon (run->dir);
}

static gboolean add_remarks (Run *run, GError **error)
{
    g_autoptr (Point) point = g_new0 (Point, 1);
    g_atomic_ref_count_init (&point->refs);
    point->repository = repository_ref (run->repository);
    point->dir = g_strdup (run->dir);
    point->disks = g_ptr_array_new ();
    point->verifications = g_ptr_array_new ();
    return (!run->options->note || point_set_note (point, run->options->note, error))
           && (!(run->options->flags & BAK_POINT_CREATE_PIN)
               || point_set_pinned (point, TRUE, error));
}

/* The guest has nothing to do with it any more. That it could not be done costs time when the point
 * is read, and is no reason to lose it. */
static gboolean shorten (Run *run, GError **error)
{
    g_autoptr (GError) why = NULL;
    tell (run, "shorten", NULL, 0, 0);
    if (!shorten_chains (run->repository, run->dir, run->manifest, run->storage, run->control,
                         &why))
        g_debug ("the chain stays long: %s", why->message);
    return publish_placement (run->dir, run->storage, error);
}

static gboolean perform (Run *run, GError **error)
{
    tell (run, "begin", NULL, 0, 0);
    if (!prepare (run, error) || !begin (run, error) || !read_guest (run, error))
        return FALSE;
    tell (run, "publish", NULL, 0, 0);
    return interrupted_forget (run->dir, error) && describe (run, error) && add_remarks (run, error)
           && publish_prepare (run->dir, run->manifest, run->storage, error) && stop (run, 0, error)
           && shorten (run, error) && publish_commit (run->repository, run->uuid, run->id, error);
}

Point *create_point (Repository *repository, BakDomain *domain,
                     const BakPointCreateOptions *options, GError **error)
{
    Run run = { .repository = repository, .domain = domain, .options = options };
    GError *why = NULL;
    Point *point = NULL;
    if (run_init (&run, &why) && perform (&run, &why)) {
        guest_delete_checkpoints (domain, repository, run.checkpoint);
        point = point_load (repository, run.uuid, run.id, &why);
    } else {
        abort_run (&run, &why);
    }
    run_clear (&run);
    if (why)
        g_propagate_error (error, why);
    return point;
}

/* dry run */

static JsonObject *choice_to_json (const BaseChoice *choice)
{
    JsonObject *object = json_object_new ();
    json_object_set_string_member (object, "target", choice->target);
    json_object_set_int_member (object, "size", choice->size);
    json_object_set_string_member (object, "kind", choice->tracked ? "incremental" : "full");
    if (choice->reason)
        json_object_set_string_member (object, "reason", choice->reason);
    else
        json_object_set_null_member (object, "reason");
    if (choice->base)
        json_object_set_string_member (object, "base", choice->base->manifest->id);
    else
        json_object_set_null_member (object, "base");
    return object;
}

static char *plan_to_json (const Run *run, const char *pull)
{
    JsonObject *object = json_object_new ();
    JsonArray *disks = json_array_new ();
    for (guint i = 0; i < run->choices->len; i++)
        json_array_add_object_element (disks, choice_to_json (run->choices->pdata[i]));
    json_object_set_string_member (object, "guest", run->name);
    json_object_set_string_member (object, "repository", run->repository->path);
    json_object_set_array_member (object, "disks", disks);
    JsonNode *steps = json_read (pull, -1, NULL);
    if (steps)
        json_object_set_member (object, "pull", steps);
    g_autoptr (JsonNode) node = json_node_init_object (json_node_alloc (), object);
    json_object_unref (object);
    return json_write (node);
}

char *create_plan (Repository *repository, BakDomain *domain, const BakPointCreateOptions *options,
                   GError **error)
{
    Run run = { .repository = repository, .domain = domain, .options = options };
    char *plan = NULL;
    if (run_init (&run, error) && find_bases (&run, error)) {
        GuestPull pull = pull_of (&run);
        pull.id = "NEW";
        pull.quiesce = options->quiesce == BAK_QUIESCE_YES;
        g_autofree char *steps = guest_plan_pull (domain, &pull, error);
        plan = steps ? plan_to_json (&run, steps) : NULL;
    }
    run_clear (&run);
    return plan;
}
