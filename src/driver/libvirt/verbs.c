/* The steps of a plan that are calls of libvirt, and the few about files that only this driver has.
 * Undos find out first whether there is anything to undo. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "driver/claims.h"
#include "driver/libvirt/guest.h"
#include "driver/libvirt/home.h"
#include "job/build.h"
#include "job/image.h"
#include "job/verbs-files.h"
#include "util/config.h"
#include "util/files.h"
#include "util/json.h"
#include "util/place.h"
#include "util/way.h"

enum {
    END_TIMEOUT_MS = 60000,
    RELEASE_TIMEOUT_MS = 60000,
    LOOK_MS = 10,
    NOTICE_MS = 3000,
    FOLLOW_MS = 3000,
    FREEZE_SECONDS = 60,
    THAW_SECONDS = 5,
    THAW_MS = 10000,
    AGENT_LOOK_MS = 100,
    DEFAULT_AGENT_SECONDS = VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK
};

/* ---- what runs ---- */

static gboolean disk_is_over (virDomainPtr domain, const char *disk)
{
    virDomainBlockJobInfo info;
    return virDomainGetBlockJobInfo (domain, disk, &info, 0) == 0;
}

/* QEMU's job may be over when libvirt does not know it yet. */
static gboolean disk_is_over_soon (virDomainPtr domain, const char *disk)
{
    gint64 deadline = g_get_monotonic_time () + NOTICE_MS * 1000LL;
    while (!disk_is_over (domain, disk)) {
        if (g_get_monotonic_time () > deadline)
            return FALSE;
        g_usleep (LOOK_MS * 1000);
    }
    return TRUE;
}

gboolean lv_job_set_speed (virDomainPtr domain, const char *disk, guint64 bytes_per_sec,
                           GError **error)
{
    g_autoptr (GError) failure = NULL;
    if (virDomainBlockJobSetSpeed (domain, disk, bytes_per_sec,
                                   VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES)
        == 0)
        return TRUE;
    lv_error (&failure);
    if (disk_is_over_soon (domain, disk))
        return TRUE; /* it was that quick */
    g_propagate_error (error, g_steal_pointer (&failure));
    return FALSE;
}

/* So that what libvirt keeps of a job later is of ours. It is kept until it is read once, or until
 * the next job ends. */
static gboolean forget_result (virDomainPtr domain, GError **error)
{
    virTypedParameterPtr params = NULL;
    int count = 0, type;
    if (virDomainGetJobStats (domain, &type, &params, &count, VIR_DOMAIN_JOB_STATS_COMPLETED) != 0)
        return lv_error (error);
    virTypedParamsFree (params, count);
    return TRUE;
}

/* What ends with the guest being somewhere else, or something else. */
static gboolean leaves (int operation)
{
    static const int all[] = { VIR_DOMAIN_JOB_OPERATION_SAVE, VIR_DOMAIN_JOB_OPERATION_RESTORE,
                               VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN,
                               VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT };
    for (guint i = 0; i < G_N_ELEMENTS (all); i++)
        if (all[i] == operation)
            return TRUE;
    return FALSE;
}

static gboolean check_idle (LvGuest *guest, virDomainPtr domain, GError **error)
{
    static const char *const operations[] = { "",
                                              "start",
                                              "save",
                                              "restore",
                                              "incoming migration",
                                              "outgoing migration",
                                              "snapshot",
                                              "snapshot revert",
                                              "dump",
                                              "backup",
                                              "snapshot deletion" };
    virTypedParameterPtr params = NULL;
    int count = 0, type = VIR_DOMAIN_JOB_NONE, operation = 0;

    if (virDomainGetJobStats (domain, &type, &params, &count, 0) != 0) {
        g_autoptr (GError) failure = NULL;
        lv_error (&failure);
        if (strstr (failure->message, "backup job data missing"))
            return error_set (error, BAK_ERROR_BUSY,
                              _("guest '%s': libvirt was killed while it began a backup, and "
                                 "holds a job of which it has forgotten all else (%s); "
                                 "it is free again once it was shut down and started"),
                              guest->name, failure->message);
        g_propagate_error (error, g_steal_pointer (&failure));
        return FALSE;
    }
    virTypedParamsGetInt (params, count, VIR_DOMAIN_JOB_OPERATION, &operation);
    virTypedParamsFree (params, count);
    if (type == VIR_DOMAIN_JOB_NONE)
        return TRUE;
    const char *what = operation > 0 && operation < (int) G_N_ELEMENTS (operations)
                           ? operations[operation]
                           : "another operation";
    if (leaves (operation))
        return error_set (error, BAK_ERROR_INEXACT,
                          _("guest '%s': libvirt runs an operation on it that takes it away or "
                             "brings it (%s): back it up where it lives, once that is over"),
                          guest->name, what);
    return error_set (error, BAK_ERROR_BUSY,
                      _("guest '%s': libvirt runs a job of another client on it (%s); wait for "
                         "it, or end it with virsh domjobabort"),
                      guest->name, what);
}

/* ---- begin and its undo ---- */

static guint flags_of (JsonArray *names)
{
    static const struct {
        const char *name;
        guint flag;
    } known[] = {
        { "VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL", 1 << 0 },
        /* 11.10: not in the headers of older ones */
        { "VIR_DOMAIN_BACKUP_BEGIN_PRESERVE_SHUTDOWN_DOMAIN", 1 << 1 },
    };
    guint flags = 0;
    for (guint i = 0; names && i < json_array_get_length (names); i++)
        for (guint k = 0; k < G_N_ELEMENTS (known); k++)
            if (g_strcmp0 (json_get_string_element (names, i), known[k].name) == 0)
                flags |= known[k].flag;
    return flags;
}

static gboolean locks_work (const char *path)
{
    int fd = open (path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1 };
    gboolean works = fd >= 0 && fcntl (fd, F_OFD_SETLK, &lock) == 0;
    if (fd >= 0)
        close (fd);
    return works;
}

/* While the job runs QEMU holds a lock on each of its files: a file of ours without one is another
 * file than QEMU's. */
static gboolean is_same_file (const PlanDisk *disk, virDomainPtr domain)
{
    const char *path = disk->path ? disk->path : disk->scratch;
    gint64 deadline = g_get_monotonic_time () + NOTICE_MS * 1000LL;
    for (;;) {
        struct stat st;
        gboolean seen = stat (path, &st) == 0;
        if (seen && (!S_ISREG (st.st_mode) || run_file_in_use (path) || !locks_work (path)))
            return TRUE;
        if (disk_is_over (domain, disk->target))
            return TRUE; /* nothing can be told any more */
        if (g_get_monotonic_time () > deadline)
            return FALSE;
        /* a job that is just over has let go of its lock, and libvirt does not know it yet */
        g_usleep (LOOK_MS * 1000);
    }
}

static gboolean check_same_files (Job *job, virDomainPtr domain, GError **error)
{
    g_autoptr (LvRunning) running = lv_running_load (domain, NULL);
    for (guint i = 0; running && lv_running_is (running, job->plan) && i < job->plan->disks->len;
         i++) {
        const PlanDisk *disk = job->plan->disks->pdata[i];
        job->own->disks[i].index =
            GPOINTER_TO_UINT (g_hash_table_lookup (running->indexes, disk->target));
        if (job->guest->lv->local && !is_same_file (disk, domain))
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                              _("disk '%s': QEMU opened another file than we see as '%s'; use a "
                                 "path that means the same file to both"),
                              disk->target, disk->path ? disk->path : disk->scratch);
    }
    return TRUE;
}

static gboolean verb_begin (Run *run, const Action *action, GError **error)
{
    LvGuest *guest = run->data;
    const char *backup = json_get_string (action->args, "backup"),
               *checkpoint = json_get_string (action->args, "checkpoint");
    g_autoptr (virDomain) domain = lv_guest_domain (guest, error);

    if (!domain || !check_idle (guest, domain, error) || !lv_check_home (domain, error)
        || !forget_result (domain, error))
        return FALSE;
    if (virDomainBackupBegin (domain, backup, checkpoint,
                              flags_of (json_get_array (action->args, "flags")))
        != 0) {
        g_autoptr (GError) failure = NULL;
        lv_error (&failure);
        guest->job->own->unanswered = error_code (failure) == BAK_ERROR_CONNECTION
                                      || error_code (failure) == BAK_ERROR_TIMEOUT;
        if (strstr (failure->message, "nbd-server"))
            error_note (&failure, _("export at '%s'"), run->plan->server);
        g_propagate_error (error, g_steal_pointer (&failure));
        return FALSE;
    }
    return check_same_files (guest->job, domain, error);
}

/* A begin that got no answer may be read by libvirtd yet, when it goes on or has the time. */
static gboolean begin_may_follow (const Run *run)
{
    const Job *job = ((LvGuest *) run->data)->job;
    for (guint i = 0; (job->own->unanswered || job->own->adopted) && i < run->plan->steps->len;
         i++) {
        const Step *step = run->plan->steps->pdata[i];
        if (g_str_equal (step->action->verb, "virDomainBackupBegin"))
            return g_array_index (run->states, StepState, i) == STEP_STARTED;
    }
    return FALSE;
}

/* NULL without an error: there is none. */
static LvRunning *find_running (const Run *run, virDomainPtr domain, GError **error)
{
    gint64 deadline = g_get_monotonic_time () + (begin_may_follow (run) ? FOLLOW_MS * 1000LL : 0);
    for (;;) {
        g_autoptr (GError) failure = NULL;
        g_autoptr (LvRunning) running = lv_running_load (domain, &failure);
        if (failure) {
            g_propagate_error (error, g_steal_pointer (&failure));
            return NULL;
        }
        if (running && lv_running_is (running, run->plan))
            return g_steal_pointer (&running);
        if (g_get_monotonic_time () >= deadline)
            return NULL;
        g_usleep (LOOK_MS * 1000);
    }
}

static gboolean verb_abort (Run *run, const Action *action, GError **error)
{
    LvGuest *guest = run->data;
    Job *job = guest->job;
    g_autoptr (GError) failure = NULL;

    if (job->own->gone || (job->own->ended && !job->own->disconnected))
        return TRUE;
    g_autoptr (virDomain) domain = lv_guest_domain (guest, &failure);
    if (!domain && error_code (failure) == BAK_ERROR_NO_DOMAIN)
        return TRUE; /* a transient guest that has gone */
    g_autoptr (LvRunning) running = domain ? find_running (run, domain, &failure) : NULL;
    if (failure) {
        g_propagate_error (error, g_steal_pointer (&failure));
        return FALSE;
    }
    if (!running)
        return TRUE;
    job->own->asked = TRUE;
    if (virDomainAbortJob (domain) != 0 && virGetLastErrorCode () != VIR_ERR_OPERATION_INVALID)
        return lv_error (error);
    return lv_job_wait_ended (job, END_TIMEOUT_MS, error);
}

/* ---- checkpoints ---- */

/* The guest is off: the bitmap may have been stored in the image, where it must not look like a
 * good one. */
static gboolean remove_stored (LvGuest *guest, const char *name, JsonArray *disks, GError **error)
{
    if (!guest->lv->local)
        return error_set (
            error, BAK_ERROR_CONNECTION,
            _("checkpoint '%s' goes when guest '%s' runs again: its images are on another host"),
            name, guest->name);
    for (guint i = 0; disks && i < json_array_get_length (disks); i++) {
        JsonObject *disk = json_get_element (disks, i);
        const char *file = disk ? json_get_string (disk, "file") : NULL;
        if (file && g_path_is_absolute (file) && g_file_test (file, G_FILE_TEST_EXISTS)
            && !image_bitmap_remove (file, json_get_string (disk, "format"), name, error))
            return FALSE;
    }
    return TRUE;
}

gboolean lv_checkpoint_remove (LvGuest *guest, const char *name, JsonArray *disks, GError **error)
{
    g_autoptr (GError) failure = NULL;
    g_autoptr (virDomain) domain = lv_guest_domain (guest, &failure);

    if (!domain && error_code (failure) != BAK_ERROR_NO_DOMAIN) {
        g_propagate_error (error, g_steal_pointer (&failure));
        return FALSE;
    }
    int active = domain ? virDomainIsActive (domain) : 0;
    if (active < 0)
        return lv_error (error);
    checkpoint_remove (guest->dir, name, NULL);
    g_autoptr (virDomainCheckpoint) checkpoint =
        domain ? virDomainCheckpointLookupByName (domain, name, 0) : NULL;
    if (active) {
        if (!checkpoint)
            return virGetLastErrorCode () == VIR_ERR_NO_DOMAIN_CHECKPOINT || lv_error (error);
        if (virDomainCheckpointDelete (checkpoint, 0) == 0)
            return TRUE;
        lv_error (&failure);
        if (!strstr (failure->message, "not found in backing chain")
            || virDomainCheckpointDelete (checkpoint, VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
                   != 0) {
            g_propagate_error (error, g_steal_pointer (&failure));
            return FALSE;
        }
        return TRUE;
    }
    if (!remove_stored (guest, name, disks, error))
        return FALSE;
    return !checkpoint
           || virDomainCheckpointDelete (checkpoint, VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
                  == 0
           || lv_error (error);
}

static gboolean verb_checkpoint_delete (Run *run, const Action *action, GError **error)
{
    return lv_checkpoint_remove (run->data, json_get_string (action->args, "name"),
                                 run->plan->checkpoint_disks, error);
}

static gboolean verb_checkpoint_create (Run *run, const Action *action, GError **error)
{
    g_autoptr (virDomain) domain = lv_guest_domain (run->data, error);
    if (!domain)
        return FALSE;
    g_autoptr (virDomainCheckpoint) checkpoint =
        virDomainCheckpointCreateXML (domain, json_get_string (action->args, "xml"), 0);
    return checkpoint != NULL || lv_error (error);
}

/* ---- freeze and thaw ---- */

static gboolean verb_freeze (Run *run, const Action *action, GError **error)
{
    g_autoptr (virDomain) domain = lv_guest_domain (run->data, error);
    if (!domain || (run->journal && !journal_frozen (run->journal, TRUE, error)))
        return FALSE;
    run->frozen = TRUE; /* from here on a thaw is owed, whatever the agent answers */
    run->frozen_since = g_get_monotonic_time ();
    virDomainAgentSetResponseTimeout (
        domain, (int) CLAMP (config_get_int ("freeze_timeout", FREEZE_SECONDS), 1, 3600), 0);
    run->froze = virDomainFSFreeze (domain, NULL, 0, 0);
    if (run->froze >= 0)
        return TRUE;
    g_autoptr (GError) failure = NULL;
    lv_error (&failure);
    if (strstr (failure->message, "not connected") || strstr (failure->message, "not configured")) {
        run->frozen = FALSE; /* nothing was sent */
        virDomainAgentSetResponseTimeout (domain, DEFAULT_AGENT_SECONDS, 0);
        if (run->journal)
            journal_frozen (run->journal, FALSE, NULL);
    }
    g_propagate_error (error, g_steal_pointer (&failure));
    return FALSE;
}

/* A thaw whose reply got lost is repeated, and then counts 0; an agent that went is waited for. */
static int thaw (virDomainPtr domain, GError **error)
{
    gint64 deadline = g_get_monotonic_time () + THAW_MS * 1000LL;
    int count;
    virDomainAgentSetResponseTimeout (domain, THAW_SECONDS, 0);
    while ((count = virDomainFSThaw (domain, NULL, 0, 0)) < 0) {
        g_clear_error (error);
        lv_error (error);
        if (error_code (*error) != BAK_ERROR_CONNECTION || g_get_monotonic_time () > deadline)
            break;
        g_usleep (AGENT_LOOK_MS * 1000);
    }
    if (count >= 0)
        g_clear_error (error);
    virDomainAgentSetResponseTimeout (domain, DEFAULT_AGENT_SECONDS, 0);
    return count;
}

static gboolean verb_thaw (Run *run, const Action *action, GError **error)
{
    g_autoptr (GError) failure = NULL;
    if (!run->frozen)
        return TRUE;
    g_autoptr (virDomain) domain = lv_guest_domain (run->data, &failure);
    int count = domain && virDomainIsActive (domain) == 1 ? thaw (domain, &failure) : 0;
    if (failure && error_code (failure) != BAK_ERROR_NO_DOMAIN) {
        g_free (run->thaw_problem);
        run->thaw_problem = g_strdup (failure->message);
        g_propagate_error (error, g_steal_pointer (&failure));
        return FALSE;
    }
    run->thawed = count;
    run->frozen_for = g_get_monotonic_time () - run->frozen_since;
    run->frozen = FALSE;
    g_clear_pointer (&run->thaw_problem, g_free);
    return !run->journal || journal_frozen (run->journal, FALSE, error);
}

void lv_note_frozen (const Run *run, GError **error)
{
    if (run->frozen)
        error_note (error,
                    _("the guest's file systems may still be frozen (%s); domfsthaw thaws them"),
                    run->thaw_problem ? run->thaw_problem : "?");
}

/* ---- while it runs ---- */

static gboolean verb_limit (Run *run, const Action *action, GError **error)
{
    g_autoptr (virDomain) domain = lv_guest_domain (run->data, error);
    return domain
           && lv_job_set_speed (domain, json_get_string (action->args, "disk"),
                                json_get_int (action->args, "bandwidth", 0), error);
}

/* Only a faster notice: space is looked at anyway. */
static gboolean verb_threshold (Run *run, const Action *action, GError **error)
{
    LvGuest *guest = run->data;
    const char *disk = json_get_string (action->args, "disk");
    for (guint i = 0; i < run->plan->disks->len; i++) {
        g_autoptr (GError) ignored = NULL;
        if (g_strcmp0 (((PlanDisk *) run->plan->disks->pdata[i])->target, disk) == 0
            && !lv_watch_arm (guest->job, i, &ignored))
            g_debug ("block threshold: %s", ignored->message);
    }
    return TRUE;
}

/* ---- files ---- */

static gboolean verb_path_free (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    g_autofree char *dir = g_path_get_dirname (path);
    struct stat st;
    if (lstat (path, &st) == 0)
        return error_set (error, BAK_ERROR_EXISTS,
                          _("'%s' exists already; remove it, name another, or use it as it is "
                             "with --reuse-external"),
                          path);
    if (!g_file_test (dir, G_FILE_TEST_IS_DIR))
        return error_set (error, BAK_ERROR_IO,
                          _("cannot make '%s': the directory '%s' does not exist"), path, dir);
    return TRUE;
}

/* libvirt makes it and removes it, but not when it was killed in between. What lies there and is
 * not that is left alone. */
static gboolean verb_scratch_remove (Run *run, const Action *action, GError **error)
{
    LvGuest *guest = run->data;
    const char *path = json_get_string (action->args, "path");
    struct stat st;
    if (lstat (path, &st) != 0 || !S_ISREG (st.st_mode)
        || st.st_mtime < guest->job->record.started / G_USEC_PER_SEC)
        return TRUE;
    g_autoptr (ImageInfo) info = image_probe (path, NULL, NULL);
    if (st.st_size && info
        && (!g_str_equal (info->format, "qcow2")
            || info->virtual_size != (guint64) json_get_int (action->args, "size", 0)))
        return TRUE;
    return unlink (path) == 0 || errno == ENOENT
           || error_set_errno (error, errno, _("cannot remove '%s'"), path);
}

static gboolean verb_file_foreign (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    LvGuest *guest = run->data;
    JsonArray *own = json_get_array (action->args, "own");
    struct stat st, other;

    if (stat (path, &st) != 0)
        return error_set_errno (error, errno, _("cannot use '%s'"), path);
    for (guint i = 0; own && i < json_array_get_length (own); i++) {
        const char *name = json_get_string_element (own, i);
        if (name && stat (name, &other) == 0 && place_overlaps (&st, &other))
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                              _("'%s' is in use by the guest itself: it is another name of '%s'; "
                                 "name another file"),
                              path, name);
    }
    return lv_publish_images (guest->lv, error)
           && claims_allow (guest->lv->state_dir, path, &st, error);
}

static gboolean verb_image_check (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path"),
               *format = json_get_string (action->args, "format");
    guint64 wanted = json_get_int (action->args, "size", 0);
    gboolean at_least = json_get_bool (action->args, "at-least", FALSE);
    g_autoptr (ImageInfo) info = image_probe (path, format, error);

    if (!info)
        return FALSE;
    if (info->virtual_size == wanted || (at_least && info->virtual_size > wanted))
        return TRUE;
    return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                      at_least ? _("target '%s' is too small: it has %" G_GUINT64_FORMAT
                                    " bytes, the disk %" G_GUINT64_FORMAT)
                               : _("target '%s' has another size than the disk: %" G_GUINT64_FORMAT
                                    " bytes, not %" G_GUINT64_FORMAT),
                      path, info->virtual_size, wanted);
}

/* libvirt changes owners when its configuration says so, and gives back what it found; where it
 * does not, QEMU still has to write. */
static gboolean verb_file_give (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    gint64 uid = json_get_int (action->args, "uid", -1),
           gid = json_get_int (action->args, "gid", -1);
    struct stat st;
    if (uid < 0 || geteuid () != 0 || lstat (path, &st) != 0
        || (st.st_uid == uid && st.st_gid == gid))
        return TRUE;
    return lchown (path, uid, gid) == 0
           || error_set_errno (error, errno, _("cannot give '%s' to user %d"), path, (int) uid);
}

static gboolean verb_file_take (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    return geteuid () != 0 || lchown (path, geteuid (), getegid ()) == 0
           || error_set_errno (error, errno, _("cannot take '%s' back"), path);
}

/* libvirt and QEMU open by the name and write at once: what they have opened cannot be looked at
 * before that. */
static gboolean verb_way_check (Run *run G_GNUC_UNUSED, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    g_autofree char *dir = way_others_change (path, json_get_int (action->args, "uid", -1));
    return !dir
           || error_set (error, BAK_ERROR_ACCESS_DENIED,
                         _("'%s': other users can put another file in its place while libvirt "
                            "opens it, as they may change the directory '%s'; name one that only "
                            "root and QEMU's user may write to (chown root, chmod go-w)"),
                         path, dir);
}

static gboolean verb_wait_released (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    gint64 deadline = g_get_monotonic_time () + RELEASE_TIMEOUT_MS * 1000LL;
    struct stat st;
    if (stat (path, &st) != 0)
        return TRUE; /* what is done next says so */
    while (S_ISREG (st.st_mode) && run_file_in_use (path)) {
        if (g_get_monotonic_time () > deadline)
            return error_set (error, BAK_ERROR_TIMEOUT, _("QEMU does not let go of target '%s'"),
                              path);
        g_usleep (LOOK_MS * 1000); /* a lock that goes has no event */
    }
    return TRUE;
}

static const RunVerb lv_verbs[] = {
    { "virDomainBackupBegin", verb_begin },
    { "virDomainAbortJob", verb_abort },
    { "virDomainCheckpointCreateXML", verb_checkpoint_create },
    { "virDomainCheckpointDelete", verb_checkpoint_delete },
    { "virDomainFSFreeze", verb_freeze },
    { "virDomainFSThaw", verb_thaw },
    { "virDomainBlockJobSetSpeed", verb_limit },
    { "virDomainSetBlockThreshold", verb_threshold },
    { "way-check", verb_way_check, .look = verb_way_check },
    { "path-free", verb_path_free, .look = verb_path_free },
    { "scratch-remove", verb_scratch_remove },
    { "file-foreign", verb_file_foreign, .look = verb_file_foreign },
    { "image-check", verb_image_check, .look = verb_image_check },
    { "file-give", verb_file_give },
    { "file-take", verb_file_take },
    { "wait-released", verb_wait_released },
    { NULL },
};

static gboolean may_write (Run *run, const char *path, const struct stat *st, GError **error)
{
    const LvGuest *guest = run->data;
    return !guest->lv->local || claims_allow (guest->lv->state_dir, path, st, error);
}

const RunOps lv_run_ops = { .verbs = lv_verbs, .may_write = may_write };
