#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <gio/gio.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "driver/qemu/agent.h"
#include "driver/qemu/build.h"
#include "driver/qemu/relay.h"
#include "driver/qemu/run.h"
#include "util/config.h"
#include "util/files.h"
#include "util/json.h"
#include "util/process.h"

enum { FREEZE_TIMEOUT = 60, THAW_TIMEOUT_MS = 10000, WAIT_TIMEOUT_MS = 30000, END_TIMEOUT_MS = 20000, REQUERY_MS = 1000, AGENT_CONNECT_MS = 5000, PAUSE_MS = 1000 };

/* ---- jobs and exports of QEMU ---- */

static gboolean concluded_seen (const Named *named)
{
    const char *status = g_hash_table_lookup (named->guest->job_status, named->id);
    return status && (g_str_equal (status, "concluded") || g_str_equal (status, "null"));
}

static gboolean job_event_seen (gpointer data)
{
    const Named *named = data;
    return g_hash_table_contains (named->guest->job_errors, named->id) || concluded_seen (named);
}

static gboolean job_success_seen (gpointer data)
{
    const Named *named = data;
    return job_event_seen (data) || g_strcmp0 (g_hash_table_lookup (named->guest->job_status, named->id), "ready") == 0;
}

/* The job's entry in query-jobs: *ret_job (status, error) or NULL members when it is gone. */
static gboolean query_job (Guest *guest, const char *id, char **ret_status, char **ret_error, GError **error)
{
    g_autoptr (JsonNode) jobs = qmp_execute (guest->qmp, "query-jobs", NULL, 0, error);
    *ret_status = *ret_error = NULL;
    if (!jobs)
        return FALSE;
    JsonArray *array = JSON_NODE_HOLDS_ARRAY (jobs) ? json_node_get_array (jobs) : NULL;
    for (guint i = 0; array && i < json_array_get_length (array); i++) {
        JsonObject *job = json_get_element (array, i);
        if (job && g_strcmp0 (json_get_string (job, "id"), id) == 0) {
            *ret_status = g_strdup (json_get_string (job, "status"));
            *ret_error = g_strdup (json_get_string (job, "error"));
        }
    }
    return TRUE;
}

/* ---- the end of a job that runs ---- */

static gboolean outcome_unknown (const GError *error)
{
    BakErrorCode code = error_code (error);
    return code == BAK_ERROR_TIMEOUT || code == BAK_ERROR_CONNECTION || code == BAK_ERROR_ABORTED;
}

static const char *halted_as (const Guest *guest, const char *id)
{
    static const char *const all[] = { "paused", "standby", "waiting", "pending", "aborting", "concluded", "null", NULL };
    const char *status = g_hash_table_lookup (guest->job_status, id);
    return status && g_strv_contains (all, status) ? status : NULL;
}

static gboolean has_halted (gpointer data)
{
    const Named *named = data;
    return halted_as (named->guest, named->id) != NULL;
}

/* A copy that is to stay pending is not ended by QEMU itself any more. */
static gboolean stands_still (const Guest *guest, const char *status)
{
    return g_strcmp0 (status, "paused") == 0 || g_strcmp0 (status, "standby") == 0 || (guest->caps->copies_wait && g_strcmp0 (status, "pending") == 0);
}

/* QEMU before 9.0 takes commands while it ends a job, and a job-cancel at that moment ends it a second time: the guest dies. So a job is
 * cancelled only while it stands still: what cannot be paused any more ends by itself. */
JobHalt run_job_halts (Guest *guest, const char *id, gint64 deadline)
{
    Named named = { guest, id };
    if (!qmp_wait (guest->qmp, has_halted, &named, deadline, id, NULL))
        return HALT_LATE;
    return stands_still (guest, halted_as (guest, id)) ? HALT_STILL : HALT_ENDS;
}

/* A job that still runs so long after it was paused waits for its target, or sleeps to keep to its limit: it is not about to end. FALSE
 * without an error: it ends by itself. */
static gboolean job_may_be_cancelled (Guest *guest, const char *id, GError **error)
{
    g_autofree char *status = NULL, *text = NULL;
    g_autoptr (GError) refused = NULL;

    if (!qmp_run (guest->qmp, "job-pause", obj ("id", "s", id, NULL), 0, &refused)) {
        if (outcome_unknown (refused)) {
            g_propagate_error (error, g_steal_pointer (&refused));
            return FALSE;
        }
        if (!query_job (guest, id, &status, &text, error) || stands_still (guest, status))
            return stands_still (guest, status);
        if (g_strcmp0 (status, "running") != 0 && g_strcmp0 (status, "ready") != 0)
            return FALSE;
    }                           /* refused while it runs: somebody has asked for the pause before */
    return run_job_halts (guest, id, g_get_monotonic_time () + PAUSE_MS * 1000) != HALT_ENDS;
}

/* How long the end of a job that was cancelled is waited for: with what it writes to hung, it may never come. */
static guint end_timeout (void)
{
    gint64 most = config_get_int ("monitor_timeout", 0);
    return most > 0 ? MIN (most * 1000, END_TIMEOUT_MS) : END_TIMEOUT_MS;
}

/* Events tell, query-jobs decides: an event may have been lost while the monitor was away. A job of which an event has told already (we
 * have just started or cancelled it) is not asked for before its event, and how it ended is asked for only where that matters. */
static gboolean job_wait (Run *run, const char *id, gboolean want_success, guint timeout_ms, GError **error)
{
    Guest *guest = run->guest;
    gint64 deadline = g_get_monotonic_time () + (gint64) (timeout_ms ? timeout_ms : want_success ? WAIT_TIMEOUT_MS : end_timeout ()) * 1000;
    Named named = { guest, id };

    for (gboolean ask = !want_success && !g_hash_table_contains (guest->job_status, id);; ask = TRUE) {
        g_autofree char *status = NULL, *failure = NULL;
        if (!want_success && concluded_seen (&named))
            return TRUE;
        if (!guest->caps->jobs) {
            if (g_hash_table_contains (guest->job_errors, id))
                return TRUE;
        } else if (ask) {
            if (!query_job (guest, id, &status, &failure, error))
                return FALSE;
            if (!status)
                return !want_success || error_set (error, BAK_ERROR_MONITOR, _("QEMU's job '%s' has vanished"), id);
            if (want_success && g_str_equal (status, "ready"))
                return TRUE;
            if (g_str_equal (status, "concluded")) {
                if (!failure || !want_success)
                    return TRUE;
                g_autofree char *text = text_sanitize (failure, 1024);
                return error_set (error, error_code_from_text (failure), "%s", text);
            }
        }
        gint64 now = g_get_monotonic_time ();
        if (now >= deadline)
            return error_set (error, BAK_ERROR_TIMEOUT, _("QEMU's job '%s' did not end in time"), id);
        g_autoptr (GError) ignored = NULL;
        if (!qmp_wait (guest->qmp, want_success ? job_success_seen : job_event_seen, &named, MIN (deadline, now + REQUERY_MS * 1000), id, &ignored)
            && error_code (ignored) != BAK_ERROR_TIMEOUT) {
            g_propagate_error (error, g_steal_pointer (&ignored));
            return FALSE;
        }
        if (run->cancel && g_atomic_int_get (run->cancel) && want_success)
            return error_set (error, BAK_ERROR_ABORTED, _("aborted on request"));
    }
}

static gboolean verb_job_wait (Run *run, const Action *action, GError **error)
{
    const char *says = json_get_string (action->args, "says");
    gboolean ok = job_wait (run, json_get_string (action->args, "job"), TRUE, action->timeout_ms, error);
    return ok || !says ? ok : error_note (error, "%s", says);
}

static gboolean verb_job_wait_end (Run *run, const Action *action, GError **error)
{
    return job_wait (run, json_get_string (action->args, "job"), FALSE, action->timeout_ms, error);
}

static void drop_flush (Run *run, const char *job, const char *source)
{
    qmp_run (run->guest->qmp, "job-cancel", obj ("id", "s", job, NULL), 0, NULL);
    if (job_wait (run, job, FALSE, 0, NULL))
        qmp_run (run->guest->qmp, "job-dismiss", obj ("id", "s", job, NULL), 0, NULL);
    qmp_run (run->guest->qmp, "blockdev-del", obj ("node-name", "s", source, NULL), 0, NULL);
}

/* By a job, for which QEMU's main loop, and the guest with it, need not wait: a mirror of nothing is "ready" when its target is flushed. */
static gboolean verb_node_flush (Run *run, const Action *action, GError **error)
{
    const char *job = json_get_string (action->args, "job"), *source = json_get_string (action->args, "source");
    Qmp *qmp = run->guest->qmp;

    drop_flush (run, job, source);      /* of a try that the monitor has cut short */
    gboolean ok = qmp_run (qmp, "blockdev-add", obj ("driver", "s", "null-co", "node-name", "s", source, "size", "i", json_get_int (action->args, "size", 0), NULL), 0, error)
        && qmp_run (qmp, "blockdev-mirror", obj ("job-id", "s", job, "device", "s", source, "target", "s", json_get_string (action->args, "node"), "sync", "s", "none",
                                                 "buf-size", "i", (gint64) 65536, "auto-dismiss", "b", FALSE, NULL), 0, error)
        && job_wait (run, job, TRUE, action->timeout_ms, error);
    if (!ok)
        run_cut (run);
    drop_flush (run, job, source);
    return ok || error_note (error, _("target '%s': flush"), json_get_string (action->args, "place"));
}

static gboolean export_gone (gpointer data)
{
    const Named *named = data;
    return g_hash_table_contains (named->guest->exports_gone, named->id);
}

/* The event tells; the list decides: an event is lost when the monitor breaks at that moment. */
static gboolean verb_export_wait_gone (Run *run, const Action *action, GError **error)
{
    const char *id = json_get_string (action->args, "export");
    Guest *guest = run->guest;
    Named named = { guest, id };
    gint64 deadline = g_get_monotonic_time () + WAIT_TIMEOUT_MS * 1000LL;

    for (;;) {
        g_autoptr (GError) late = NULL;
        if (qmp_wait (guest->qmp, export_gone, &named, MIN (deadline, g_get_monotonic_time () + REQUERY_MS * 1000), _("the end of the export"), &late))
            return TRUE;
        g_autoptr (JsonNode) exports = error_code (late) == BAK_ERROR_TIMEOUT ? qmp_execute (guest->qmp, "query-block-exports", NULL, 0, error) : NULL;
        if (!exports) {
            if (error && !*error)
                g_propagate_error (error, g_steal_pointer (&late));
            return FALSE;
        }
        JsonArray *array = JSON_NODE_HOLDS_ARRAY (exports) ? json_node_get_array (exports) : NULL;
        gboolean there = FALSE;
        for (guint i = 0; array && i < json_array_get_length (array); i++) {
            JsonObject *export = json_get_element (array, i);
            there = there || (export && g_strcmp0 (json_get_string (export, "id"), id) == 0);
        }
        if (!there)
            return TRUE;
        if (g_get_monotonic_time () >= deadline) {
            g_propagate_error (error, g_steal_pointer (&late));
            return FALSE;
        }
    }
}

/* ---- files ---- */

/* QEMU may run as somebody else: it must be able to write what we make for it. */
static void give_to_qemu (Run *run, int fd)
{
    int pid = run->guest && run->guest->qmp ? qmp_get_peer_pid (run->guest->qmp) : 0;
    g_autofree char *proc = g_strdup_printf ("/proc/%d", pid);
    struct stat st;
    if (geteuid () == 0 && pid > 0 && stat (proc, &st) == 0 && st.st_uid != 0 && fchown (fd, st.st_uid, st.st_gid) != 0)
        g_debug ("cannot give a file to uid %u: %s", (guint) st.st_uid, g_strerror (errno));
}

static gboolean note_file (Run *run, const char *path, const struct stat *st, GError **error)
{
    JournalFile *file = g_new0 (JournalFile, 1);
    file->device = st->st_dev;
    file->inode = st->st_ino;
    g_hash_table_replace (run->files, g_strdup (path), file);
    return !run->journal || journal_file (run->journal, path, st->st_dev, st->st_ino, error);
}

static gboolean link_error (const char *path, int errnum, GError **error)
{
    if (errnum == EEXIST && g_file_test (path, G_FILE_TEST_IS_DIR))
        return error_set (error, BAK_ERROR_EXISTS, _("'%s' is a directory; name a file in it"), path);
    if (errnum == EEXIST)
        return error_set (error, BAK_ERROR_EXISTS, _("'%s' exists already; remove it, name another, or use it as it is with --reuse-external"), path);
    if (errnum == ENOENT) {
        g_autofree char *dir = g_path_get_dirname (path);
        return error_set (error, BAK_ERROR_IO, _("cannot make '%s': the directory '%s' does not exist"), path, dir);
    }
    return error_set_errno (error, errnum, _("cannot make '%s'"), path);
}

/* Where the file system has no unnamed files: a name of our own first, so that a kill leaves nothing unknown. */
static gboolean create_by_rename (Run *run, const char *path, GError **error)
{
    g_autofree char *temporary = g_strdup_printf ("%s.bak-%s", path, run->plan->job);
    int fd = open (temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return link_error (path, errno, error);
    struct stat st;
    give_to_qemu (run, fd);
    gboolean ok = fstat (fd, &st) == 0 && note_file (run, path, &st, error);
    if (ok && link (temporary, path) != 0)
        ok = link_error (path, errno, error);
    g_unlink (temporary);
    close (fd);
    return ok;
}

/* The inode is in the journal before the name is in the directory: whatever dies in between, recover knows what is ours. */
static gboolean verb_file_create (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    g_autofree char *dir = g_path_get_dirname (path);
    struct stat st;
    if (lstat (path, &st) == 0)
        return link_error (path, EEXIST, error);
    int fd = open (dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL))
        return create_by_rename (run, path, error);
    if (fd < 0)
        return link_error (path, errno, error);
    give_to_qemu (run, fd);
    g_autofree char *proc = g_strdup_printf ("/proc/self/fd/%d", fd);
    gboolean ok = fstat (fd, &st) == 0 && note_file (run, path, &st, error);
    if (ok && linkat (AT_FDCWD, proc, AT_FDCWD, path, AT_SYMLINK_FOLLOW) != 0)
        ok = link_error (path, errno, error);
    close (fd);
    return ok;
}

static gboolean verb_file_remove (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    const JournalFile *file = g_hash_table_lookup (run->files, path);
    g_autofree char *temporary = g_strdup_printf ("%s.bak-%s", path, run->plan->job);
    struct stat st;

    g_unlink (temporary);
    if (!file || lstat (path, &st) != 0 || st.st_dev != file->device || st.st_ino != file->inode)
        return TRUE;            /* never made, gone, or somebody else's */
    if (g_unlink (path) != 0 && errno != ENOENT)
        return error_set_errno (error, errno, _("cannot remove '%s'"), path);
    return TRUE;
}

static gboolean is_same_file (const char *path, const struct stat *st)
{
    struct stat other;

    if (stat (path, &other) != 0)
        return FALSE;
    if (S_ISBLK (st->st_mode))
        return S_ISBLK (other.st_mode) && other.st_rdev == st->st_rdev;
    return other.st_dev == st->st_dev && other.st_ino == st->st_ino;
}

/* Another name of what QEMU has open already: a link, a second device node. Its locks tell the same, unless they are off.
 * Where its descriptors cannot be seen, the names count that it gives. */
static gboolean is_open_in_qemu (Guest *guest, const struct stat *st)
{
    g_autofree char *path = g_strdup_printf ("/proc/%d/fd", qmp_get_peer_pid (guest->qmp));
    g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
    g_autoptr (Graph) graph = guest_graph (guest, GRAPH_HELD, NULL);
    gboolean found = FALSE;
    const char *name;

    while (!found && dir && (name = g_dir_read_name (dir))) {
        g_autofree char *link = g_build_filename (path, name, NULL);
        found = is_same_file (link, st);
    }
    for (guint i = 0; !found && graph && i < graph->nodes->len; i++)
        found = is_same_file (((const GraphNode *) graph->nodes->pdata[i])->filename, st);
    return found;
}

static gboolean verb_file_check (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    gboolean block = g_strcmp0 (json_get_string (action->args, "kind"), "block") == 0;
    struct stat st;
    if (stat (path, &st) != 0)
        return error_set_errno (error, errno, _("cannot use '%s'"), path);
    if (block ? !S_ISBLK (st.st_mode) : !S_ISREG (st.st_mode))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, block ? _("'%s' is not a block device") : _("'%s' is not a regular file"), path);
    if (run->guest && run->guest->qmp && is_open_in_qemu (run->guest, &st))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("'%s' is in use by the guest itself: its QEMU has it open; name another file"), path);
    return TRUE;
}

static gboolean run_program (const char *const *argv, char **ret_output, GError **error)
{
    g_autoptr (GSubprocess) process = g_subprocess_newv (argv, G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_PIPE, error);
    g_autofree char *out = NULL, *err = NULL;
    if (!process || !g_subprocess_communicate_utf8 (process, NULL, NULL, &out, &err, error))
        return error_note (error, "%s", argv[0]);
    if (!g_subprocess_get_successful (process)) {
        g_autofree char *text = text_sanitize (g_strchomp (err), 1024);
        return error_set (error, error_code_from_text (err), "%s: %s", argv[0], text);
    }
    if (ret_output)
        *ret_output = g_steal_pointer (&out);
    return TRUE;
}

/* Where QEMU does not format it: "backing" goes into the header as it is, without being opened. */
static gboolean verb_image_create (Run *run, const Action *action, GError **error)
{
    g_autofree char *size = g_strdup_printf ("%" G_GINT64_FORMAT, json_get_int (action->args, "size", 0));
    g_autofree char *cluster_size = g_strdup_printf ("cluster_size=%" G_GINT64_FORMAT, json_get_int (action->args, "cluster-size", 0));
    const char *backing = json_get_string (action->args, "backing");
    g_autoptr (GPtrArray) argv = g_ptr_array_new ();

    for (const char *const *word = (const char *const []) { "qemu-img", "create", "-q", "-f", json_get_string (action->args, "format"), NULL }; *word; word++)
        g_ptr_array_add (argv, (char *) *word);
    if (json_get_int (action->args, "cluster-size", 0) > 0) {
        g_ptr_array_add (argv, (char *) "-o");
        g_ptr_array_add (argv, cluster_size);
    }
    for (const char *const *word = (const char *const []) { "-u", "-F", "qcow2", "-b", backing, NULL }; backing && *word; word++)
        g_ptr_array_add (argv, (char *) *word);
    g_ptr_array_add (argv, (char *) json_get_string (action->args, "path"));
    g_ptr_array_add (argv, size);
    g_ptr_array_add (argv, NULL);
    return run_program ((const char *const *) argv->pdata, NULL, error);
}

/* The file that it went into, wherever it was moved to; by its name only where files have no birth. */
static gboolean is_backup_of (const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path"), *backup = json_get_string (action->args, "backup");
    const char *checkpoint = json_get_string (action->args, "checkpoint"), *then = json_get_string (action->args, "backup-id");
    g_autofree char *real = realpath (path, NULL), *recorded = backup ? realpath (backup, NULL) : NULL, *now = files_id (path);

    if (!backup || (then ? g_strcmp0 (now, then) == 0 : real && g_strcmp0 (real, recorded) == 0))
        return TRUE;
    return error_set (error, BAK_ERROR_INEXACT, _("'%s' is not the backup of checkpoint '%s', which went into '%s'; lay the increment on that one, or on none and "
                      "give it its backing file later (qemu-img rebase -u)"), path, checkpoint, backup);
}

/* Allocated zeroes hide what is below them as data does; without "present" (before 6.1) they look like nothing. */
static gboolean is_empty_area (JsonObject *area)
{
    if (!area || json_get_bool (area, "data", TRUE))
        return FALSE;
    return json_get_int (area, "depth", 0) > 0 || !json_get_bool (area, "present", TRUE);
}

/* A scratch that is given must hold nothing: its reader gets what it holds, the rest from the guest's disk. */
static gboolean verb_empty_check (Run *run G_GNUC_UNUSED, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    const char *argv[] = { "qemu-img", "map", "-U", "-f", json_get_string (action->args, "format"), "--output=json", path, NULL };
    g_autofree char *text = NULL;
    if (!run_program (argv, &text, error))
        return error_note (error, _("scratch '%s'"), path);
    g_autoptr (JsonNode) areas = json_read (text, -1, error);
    if (!areas)
        return error_note (error, _("scratch '%s'"), path);
    JsonArray *array = JSON_NODE_HOLDS_ARRAY (areas) ? json_node_get_array (areas) : NULL;
    gboolean empty = array != NULL;
    for (guint i = 0; empty && i < json_array_get_length (array); i++)
        empty = is_empty_area (json_get_element (array, i));
    return empty || error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("scratch '%s' is not empty: what it holds would be read in place of what the guest saw; "
                               "make a new one (qemu-img create), or name a file that is not there yet"), path);
}

/* QEMU's locks on an image: a byte each for what it does with it and for what it lets nobody else do. */
enum { LOCKS_START = 100, LOCKS_LENGTH = 200, LOCK_WRITES = 101 };

static gboolean is_locked (int fd, off_t start, off_t length)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = length };
    return fcntl (fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

static gboolean is_written_to (const char *path)
{
    int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    gboolean written = fd >= 0 && is_locked (fd, LOCK_WRITES, 1);
    if (fd >= 0)
        close (fd);
    return written;
}

gboolean run_file_in_use (const char *path)
{
    int fd = open (path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    gboolean locked = fd < 0 || is_locked (fd, LOCKS_START, LOCKS_LENGTH);      /* TRUE: cannot tell */
    if (fd >= 0)
        close (fd);
    return locked;
}

/* Under whatever name. "images": those of a guest whose QEMU is not ours to look into. */
static gboolean is_image_of_guest (Run *run, const Action *action, const struct stat *st)
{
    JsonArray *images = json_get_array (action->args, "images");
    for (guint i = 0; images && i < json_array_get_length (images); i++) {
        const char *image = json_get_string_element (images, i);
        if (image && is_same_file (image, st))
            return TRUE;
    }
    return run->guest && run->guest->qmp && is_open_in_qemu (run->guest, st);
}

/* The previous backup that an increment is laid on: a qcow2 image of the disk's size. */
static gboolean verb_backing_check (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    const char *argv[] = { "qemu-img", "info", "-U", "--output=json", path, NULL };
    g_autofree char *text = NULL;
    JsonObject *info = NULL;
    struct stat st;
    if (stat (path, &st) != 0)
        return error_set_errno (error, errno, _("previous backup '%s'"), path);
    if (is_image_of_guest (run, action, &st))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("'%s' is an image of the guest itself, not a previous backup"), path);
    if (is_written_to (path))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("a QEMU has '%s' open for writing: it is an image of a guest, not a previous backup"), path);
    if (!run_program (argv, &text, error))
        return error_note (error, _("previous backup '%s'"), path);
    g_autoptr (JsonNode) node = json_read_object (text, -1, &info, error);
    if (!node)
        return error_note (error, _("previous backup '%s'"), path);
    const char *format = json_get_string (info, "format");
    gint64 size = json_get_int (info, "virtual-size", 0), wanted = json_get_int (action->args, "size", 0);
    if (!is_backup_of (action, error))
        return FALSE;
    if (g_strcmp0 (format, "qcow2") != 0)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("previous backup '%s' has format '%s', not qcow2"), path, format ? format : "?");
    if (size != wanted)
        return error_set (error, BAK_ERROR_INEXACT, _("previous backup '%s' has %" G_GINT64_FORMAT " bytes, the disk %" G_GINT64_FORMAT), path, size, wanted);
    return TRUE;
}

/* A QEMU in a chroot or container sees other paths. Its root is asked where that is allowed; else its lock on the image tells. */
static gboolean verb_file_same (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    int pid = qmp_get_peer_pid (run->guest->qmp);
    g_autofree char *theirs = g_strdup_printf ("/proc/%d/root%s", pid, path);
    g_autofree char *root = g_strdup_printf ("/proc/%d/root", pid);
    struct stat ours, other, probe;

    if (stat (path, &ours) != 0)
        return error_set_errno (error, errno, _("cannot look at '%s'"), path);
    if (pid > 0 && stat (root, &probe) == 0) {
        if (stat (theirs, &other) == 0 && other.st_dev == ours.st_dev && other.st_ino == ours.st_ino && other.st_rdev == ours.st_rdev)
            return TRUE;
        g_autofree char *where = g_file_read_link (root, NULL);
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("QEMU (process %d, root directory '%s') opened another file than we see: '%s' is '%s%s' for it; "
                          "use a path that means the same file to both"), pid, where ? where : "?", path, where && strcmp (where, "/") ? where : "", path);
    }
    if (S_ISREG (ours.st_mode) && !run_file_in_use (path))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("QEMU opened another file than we see: it says that '%s' is open (node '%s'), but nothing holds the file of that name here; "
                          "use a path that means the same file to both"), path, json_get_string (action->args, "node"));
    return TRUE;
}

/* Up to 2.8 what we add is a block backend, on a node to which QEMU gives a name of its own. */
static JsonNode *query_images (Guest *guest, GError **error)
{
    if (!guest->caps->blockdev_add_flat)
        return qmp_execute (guest->qmp, "query-block", NULL, 0, error);
    return qmp_execute (guest->qmp, "query-named-block-nodes", guest->caps->named_nodes_flat ? obj ("flat", "b", TRUE, NULL) : NULL, 0, error);
}

/* The "image" of an entry of either list when it is of that name. */
static JsonObject *image_of (JsonObject *entry, const char *name)
{
    JsonObject *inserted = json_get_object (entry, "inserted");
    if (g_strcmp0 (json_get_string (entry, inserted ? "device" : "node-name"), name) != 0)
        return NULL;
    return json_get_object (inserted ? inserted : entry, "image");
}

static gboolean verb_size_check (Run *run, const Action *action, GError **error)
{
    const char *name = json_get_string (action->args, "node"), *place = json_get_string (action->args, "place");
    guint64 wanted = json_get_int (action->args, "size", 0);
    gboolean at_least = json_get_bool (action->args, "at-least", FALSE);
    g_autoptr (JsonNode) nodes = query_images (run->guest, error);
    if (!nodes)
        return FALSE;
    JsonArray *array = JSON_NODE_HOLDS_ARRAY (nodes) ? json_node_get_array (nodes) : NULL;
    for (guint i = 0; array && i < json_array_get_length (array); i++) {
        JsonObject *image = image_of (json_get_element (array, i), name);
        if (!image)
            continue;
        guint64 size = json_get_int (image, "virtual-size", 0);
        if (size == wanted || (at_least && size > wanted))
            return TRUE;
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, at_least
                          ? _("target '%s' is too small: it has %" G_GUINT64_FORMAT " bytes, the disk %" G_GUINT64_FORMAT)
                          : _("target '%s' has another size than the disk: %" G_GUINT64_FORMAT " bytes, not %" G_GUINT64_FORMAT), place, size, wanted);
    }
    return error_set (error, BAK_ERROR_MONITOR, _("QEMU does not show the node '%s' that it has just opened"), name);
}

/* What lies there at the end is what was made, not what somebody has put in its place. */
static gboolean is_what_was_made (Run *run, const char *path, GError **error)
{
    const JournalFile *file = g_hash_table_lookup (run->files, path);
    struct stat st;

    int failure = file && lstat (path, &st) != 0 ? errno : 0;
    if (failure && failure != ENOENT)
        return error_set_errno (error, failure, _("cannot look at '%s'"), path);
    return !file || (!failure && st.st_dev == file->device && st.st_ino == file->inode)
        || error_set (error, BAK_ERROR_IO, _("'%s' is not the file any more that the copy was written to: somebody has moved, removed or replaced it"), path);
}

static gboolean verb_file_sync (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    return is_what_was_made (run, path, error) && files_fsync (path, error) && files_fsync_parent (path, error);
}

/* QEMU writes zero areas of a raw target as allocated zeroes; what the file system says reads as a hole is given back.
 * Only a saving: a file system that cannot do it is no failure. */
static gboolean verb_file_punch (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    int fd = open (path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return error_set_errno (error, errno, _("cannot open '%s'"), path);
    off_t size = lseek (fd, 0, SEEK_END), hole = 0;
    gboolean ok = fsync (fd) == 0;
    int saved = errno;
    while (ok && hole >= 0 && hole < size) {
        hole = lseek (fd, hole, SEEK_HOLE);
        off_t data = hole >= 0 && hole < size ? lseek (fd, hole, SEEK_DATA) : -1;
        if (hole < 0 || hole >= size)
            break;
        if (data < 0)
            data = size;
        if (fallocate (fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, hole, data - hole) != 0)
            break;
        hole = data;
    }
    close (fd);
    return ok || error_set_errno (error, saved, _("cannot sync '%s'"), path);
}

/* All the space that a scratch can come to need, now: later it would be missing in the middle of a guest's write. */
static gboolean verb_file_reserve (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    gint64 size = json_get_int (action->args, "size", 0);
    gboolean overlay = json_get_bool (action->args, "overlay", FALSE);
    int fd = open (path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return error_set_errno (error, errno, _("scratch '%s'"), path);
    if (overlay)
        size += size / 2048 + 4 * 1024 * 1024;      /* tables of the image, with room */
    gboolean ok = fallocate (fd, overlay ? FALLOC_FL_KEEP_SIZE : 0, 0, size) == 0;
    int saved = errno;
    close (fd);
    return ok || error_set_errno (error, saved, _("scratch '%s': cannot reserve %" G_GINT64_FORMAT " bytes (another place: --scratch DIR; without: --protect no)"), path, size);
}

/* ---- sockets and certificates ---- */

static gboolean socket_is_alive (const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen (path) >= sizeof address.sun_path)
        return FALSE;
    strcpy (address.sun_path, path);
    int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    gboolean alive = fd >= 0 && (connect (fd, (struct sockaddr *) &address, sizeof address) == 0 || errno == EAGAIN);
    if (fd >= 0)
        close (fd);
    return alive;
}

static gboolean verb_socket_check (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    g_autofree char *dir = g_path_get_dirname (path);
    struct stat st;
    if (strlen (path) > 107)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("socket path '%s' has %zu bytes; 107 are possible"), path, strlen (path));
    if (!g_file_test (dir, G_FILE_TEST_IS_DIR))
        return error_set (error, BAK_ERROR_IO, _("socket '%s': the directory '%s' does not exist"), path, dir);
    if (lstat (path, &st) != 0)
        return errno == ENOENT || error_set_errno (error, errno, _("cannot look at '%s'"), path);
    if (!S_ISSOCK (st.st_mode))
        return error_set (error, BAK_ERROR_EXISTS, _("socket path '%s' is a file that is not a socket; it was left untouched: name another path"), path);
    if (socket_is_alive (path))
        return error_set (error, BAK_ERROR_EXISTS, _("somebody listens on the socket '%s' already: name another path"), path);
    return TRUE;
}

static gboolean verb_socket_remove (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    struct stat st;
    if (lstat (path, &st) == 0 && S_ISSOCK (st.st_mode) && !socket_is_alive (path))
        g_unlink (path);
    return TRUE;
}

static gboolean verb_tls_check (Run *run, const Action *action, GError **error)
{
    static const char *const server[] = { "ca-cert.pem", "server-cert.pem", "server-key.pem", NULL };
    static const char *const client[] = { "ca-cert.pem", "client-cert.pem", "client-key.pem", NULL };
    static const char *const psk[] = { "keys.psk", NULL };
    const char *dir = json_get_string (action->args, "dir"), *endpoint = json_get_string (action->args, "endpoint");
    const char *const *files = g_strcmp0 (endpoint, "psk") == 0 ? psk : g_strcmp0 (endpoint, "client") == 0 ? client : server;
    for (guint i = 0; files[i]; i++) {
        g_autofree char *path = g_build_filename (dir, files[i], NULL);
        if (access (path, R_OK) != 0)
            return error_set (error, errno == ENOENT ? BAK_ERROR_INVALID_ARGUMENT : BAK_ERROR_ACCESS_DENIED, _("TLS: cannot read '%s': %s"), path, g_strerror (errno));
    }
    return TRUE;
}

/* ---- connections that hang ---- */

static gboolean verb_relay_start (Run *run, const Action *action, GError **error)
{
    int pid = run->guest->qmp ? qmp_get_peer_pid (run->guest->qmp) : 0;
    g_autofree char *proc = g_strdup_printf ("/proc/%d", pid);
    struct stat st = { .st_uid = geteuid (), .st_gid = getegid () };
    if (pid > 0)
        (void) !stat (proc, &st);
    return relay_start (json_get_string (action->args, "path"), json_get_string (action->args, "socket"), json_get_string (action->args, "host"),
                        json_get_int (action->args, "port", 0), json_get_int (action->args, "patience", 60), st.st_uid, st.st_gid, error);
}

static gboolean verb_relay_cut (Run *run, const Action *action, GError **error)
{
    relay_cut (json_get_string (action->args, "path"));
    return TRUE;
}

static gboolean cuts (const Action *action)
{
    return g_str_equal (action->verb, "yank") || g_str_equal (action->verb, "relay-cut");
}

/* ---- freeze and thaw ---- */

static gboolean verb_freeze (Run *run, const Action *action, GError **error)
{
    g_autoptr (Agent) agent = agent_connect (run->guest->def->agent, AGENT_CONNECT_MS, error);
    if (!agent || (run->journal && !journal_frozen (run->journal, TRUE, error)))
        return FALSE;
    run->frozen = TRUE;         /* from here on a thaw is owed, whatever the agent answers */
    run->frozen_since = g_get_monotonic_time ();
    guint timeout = CLAMP (config_get_int ("freeze_timeout", FREEZE_TIMEOUT), 1, 3600) * 1000;
    return agent_freeze (agent, NULL, timeout, &run->froze, error);
}

static gboolean verb_thaw (Run *run, const Action *action, GError **error)
{
    if (!run->frozen)
        return TRUE;
    g_autoptr (Agent) agent = agent_connect (run->guest->def->agent, AGENT_CONNECT_MS, error);
    if (!agent || !agent_thaw (agent, THAW_TIMEOUT_MS, &run->thawed, error)) {
        g_free (run->thaw_problem);
        run->thaw_problem = g_strdup (error && *error ? (*error)->message : _("no answer"));
        return FALSE;
    }
    run->frozen_for = g_get_monotonic_time () - run->frozen_since;
    run->frozen = FALSE;
    g_clear_pointer (&run->thaw_problem, g_free);
    return !run->journal || journal_frozen (run->journal, FALSE, error);
}

/* ---- the table of verbs ---- */

static const struct {
    const char *verb;
    gboolean needs_qmp;
    gboolean (*perform) (Run *run, const Action *action, GError **error);
} verbs[] = {
    { "file-create", FALSE, verb_file_create }, { "file-remove", FALSE, verb_file_remove }, { "file-check", FALSE, verb_file_check },
    { "image-create", FALSE, verb_image_create }, { "backing-check", FALSE, verb_backing_check }, { "empty-check", FALSE, verb_empty_check }, { "file-same", TRUE, verb_file_same },
    { "size-check", TRUE, verb_size_check }, { "file-sync", FALSE, verb_file_sync }, { "file-punch", FALSE, verb_file_punch },
    { "file-reserve", FALSE, verb_file_reserve },
    { "socket-check", FALSE, verb_socket_check }, { "socket-remove", FALSE, verb_socket_remove }, { "tls-check", FALSE, verb_tls_check },
    { "job-wait", TRUE, verb_job_wait }, { "job-wait-end", TRUE, verb_job_wait_end }, { "node-flush", TRUE, verb_node_flush },
    { "export-wait-gone", TRUE, verb_export_wait_gone },
    { "relay-start", FALSE, verb_relay_start }, { "relay-cut", FALSE, verb_relay_cut },
    { "freeze", FALSE, verb_freeze }, { "thaw", FALSE, verb_thaw },
};

/* A monitor that was lost in between is asked for again: what was made is to be undone in any case. */
static gboolean qmp_alive (Guest *guest)
{
    return guest && guest_acquire (guest, NULL);
}

static gboolean run_command (Guest *guest, const Action *action, GError **error)
{
    if (!guest_monitor_alive (guest, error))
        return FALSE;
    if (!action->oob)
        return qmp_run (guest->qmp, action->verb, obj_copy (action->args), action->timeout_ms, error);
    if (!qmp_has_oob (guest->qmp))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED, _("the monitor of guest '%s' has no out-of-band commands"), guest->def->name);
    g_autoptr (JsonNode) answer = qmp_execute_oob (guest->qmp, action->verb, obj_copy (action->args), action->timeout_ms, error);
    return answer != NULL;
}

gboolean run_action (Run *run, const Action *action, GError **error)
{
    for (const RunVerb *verb = run->verbs; verb && verb->verb; verb++)
        if (g_str_equal (verb->verb, action->verb))
            return verb->perform (run, action, error);
    if (action->qmp)
        return run_command (run->guest, action, error);
    for (guint i = 0; i < G_N_ELEMENTS (verbs); i++)
        if (g_str_equal (verbs[i].verb, action->verb)) {
            if (verbs[i].needs_qmp && !guest_monitor_alive (run->guest, error))
                return FALSE;
            return verbs[i].perform (run, action, error);
        }
    return error_set (error, BAK_ERROR_INTERNAL, _("unknown action '%s'"), action->verb);
}

/* ---- forwards ---- */

static void set_state (Run *run, guint step, StepState state)
{
    g_array_index (run->states, StepState, step) = state;
}

/* Who QEMU is tells why it may not. */
static void explain_denial (Run *run, GError **error)
{
    int pid = run->guest && run->guest->qmp ? qmp_get_peer_pid (run->guest->qmp) : 0;
    g_autofree char *who = process_identity (pid);

    if (!who || !(strstr ((*error)->message, strerror (EACCES)) || strstr ((*error)->message, strerror (EPERM))))
        return;
    g_autoptr (GError) denied = g_steal_pointer (error);
    error_set (error, BAK_ERROR_ACCESS_DENIED, _("%s (QEMU, process %d, runs as %s: it must be allowed to search every directory of the path, and to read and write there)"),
               denied->message, pid, who);
}

static gboolean run_one (Run *run, guint index, GError **error)
{
    const Step *step = run->plan->steps->pdata[index];
    g_autoptr (GError) failure = NULL;

    if (run->cancel && g_atomic_int_get (run->cancel))
        return error_set (error, BAK_ERROR_ABORTED, _("aborted on request"));
    if (run->journal && !journal_step (run->journal, index, STEP_STARTED, error))
        return FALSE;
    set_state (run, index, STEP_STARTED);
    if (run_action (run, step->action, &failure)) {
        set_state (run, index, STEP_DONE);
        return !run->journal || journal_step (run->journal, index, STEP_DONE, error);
    }
    /* A refused QMP command did nothing; verbs of ours may have done half (file-create, freeze), and their undo knows. */
    if (step->action->qmp && !outcome_unknown (failure)) {
        set_state (run, index, STEP_FAILED);
        if (run->journal)
            journal_step (run->journal, index, STEP_FAILED, NULL);
    }
    if (step->action->qmp)
        explain_denial (run, &failure);
    if (error)
        *error = g_steal_pointer (&failure);
    if (step->disk)
        error_note (error, _("disk '%s'"), step->disk);
    else if (step->action->qmp && g_str_equal (step->action->verb, "nbd-server-start"))
        error_note (error, _("NBD server at %s"), run->plan->server);
    return FALSE;
}

gboolean run_steps (Run *run, GError **error)
{
    for (guint i = 0; i < run->plan->steps->len; i++) {
        g_autoptr (GError) failure = NULL, undo_failure = NULL;
        if (run_one (run, i, &failure))
            continue;
        run->cancel = NULL;
        run->undo_failed = !run_undo (run, FALSE, &undo_failure);
        if (run->undo_failed)
            g_warning ("undo after '%s': %s", failure->message, undo_failure->message);
        g_propagate_error (error, g_steal_pointer (&failure));
        return FALSE;
    }
    return TRUE;
}

/* ---- backwards ---- */

static gboolean guard_holds (const Graph *graph, JsonObject *guard)
{
    const char *node = json_get_string (guard, "node"), *job = json_get_string (guard, "job"), *export = json_get_string (guard, "export");
    const char *object = json_get_string (guard, "object"), *bitmap = json_get_string (guard, "bitmap"), *status = json_get_string (guard, "status");
    if (bitmap)
        return node && graph_node (graph, node) && graph_bitmap (graph_node (graph, node), bitmap);
    if (node)
        return graph_node (graph, node) != NULL;
    if (job)
        return graph_job (graph, job) && (!status || g_strcmp0 (graph_job (graph, job)->status, status) == 0);
    if (export)
        return graph_export (graph, export) != NULL;
    for (guint i = 0; object && i < graph->objects->len; i++)
        if (g_str_equal (graph->objects->pdata[i], object))
            return TRUE;
    return FALSE;
}

/* An undo that fails although its object is still there has failed; one whose object went meanwhile is done. */
static gboolean undo_one (Run *run, const Action *action, const Graph *graph, GError **error)
{
    g_autoptr (GError) failure = NULL;
    if (action->guard && (!graph || !guard_holds (graph, action->guard)))
        return TRUE;
    if ((action->qmp || action->guard) && (run->hung || !qmp_alive (run->guest)))
        return TRUE;            /* what QEMU held is gone with it, or recover comes back for it */
    if (g_str_equal (action->verb, "job-cancel") && !job_may_be_cancelled (run->guest, json_get_string (action->args, "id"), &failure) && !failure)
        return TRUE;            /* it ends by itself: the wait and the dismissal that follow tell */
    if (!failure && run_action (run, action, &failure))
        return TRUE;
    run->hung = run->hung || ((action->qmp || action->guard) && error_code (failure) == BAK_ERROR_TIMEOUT);
    if (!run->hung && action->guard && qmp_alive (run->guest)) {
        g_autoptr (Graph) now = guest_graph (run->guest, GRAPH_HELD, NULL);
        if (now && !guard_holds (now, action->guard))
            return TRUE;
        if (now && json_object_has_member (action->guard, "job"))
            return TRUE;        /* "cannot accept command verb 'cancel'": the wait and the dismissal that follow tell */
    } else if (action->qmp && error_code (failure) == BAK_ERROR_MONITOR) {
        g_debug ("undo: %s", failure->message);
        return TRUE;            /* nbd-server-stop of a server that never started */
    }
    if (error && !*error)
        *error = g_steal_pointer (&failure);
    return FALSE;
}

gboolean run_can_cut (const Run *run)
{
    for (guint i = 0; i < run->plan->steps->len; i++) {
        const GPtrArray *undo = ((Step *) run->plan->steps->pdata[i])->undo;
        for (guint k = 0; k < undo->len; k++)
            if (cuts (undo->pdata[k]))
                return TRUE;
    }
    return FALSE;
}

void run_cut (Run *run)
{
    gboolean stopped = run->hung;       /* what does not even take a yank is asked once */
    for (guint i = 0; i < run->plan->steps->len; i++) {
        const Step *step = run->plan->steps->pdata[i];
        StepState state = g_array_index (run->states, StepState, i);
        for (guint k = 0; (state == STEP_DONE || state == STEP_STARTED) && k < step->undo->len; k++) {
            const Action *action = step->undo->pdata[k];
            g_autoptr (GError) failure = NULL;
            if (!cuts (action) || (stopped && g_str_equal (action->verb, "yank")) || run_action (run, action, &failure))
                continue;
            g_debug ("%s: %s", action->verb, failure->message);
            stopped = stopped || error_code (failure) == BAK_ERROR_TIMEOUT;
        }
    }
}

gboolean run_undo (Run *run, gboolean success, GError **error)
{
    g_autoptr (GError) first = NULL;
    if (!success)
        run_cut (run);
    g_autoptr (Graph) graph = !run->hung && qmp_alive (run->guest) ? guest_graph (run->guest, GRAPH_HELD, &first) : NULL;

    run->hung = run->hung || error_code (first) == BAK_ERROR_TIMEOUT;

    for (gint i = (gint) run->plan->steps->len - 1; i >= 0; i--) {
        const Step *step = run->plan->steps->pdata[i];
        StepState state = g_array_index (run->states, StepState, i);
        if (state != STEP_DONE && state != STEP_STARTED)
            continue;
        for (guint k = 0; k < step->undo->len; k++) {
            const Action *undo = step->undo->pdata[k];
            if ((success && undo->keep) || g_str_equal (undo->verb, "yank"))
                continue;       /* a yank comes first or never */
            undo_one (run, undo, graph, &first);
        }
    }
    if (!first)
        return TRUE;
    g_propagate_error (error, g_steal_pointer (&first));
    return FALSE;
}

gboolean run_finish (Run *run, GError **error)
{
    if (run->plan->finish->len == 0)
        return TRUE;
    g_autoptr (Graph) graph = run->guest && guest_acquire (run->guest, error) ? guest_graph (run->guest, GRAPH_HELD, error) : NULL;
    if (run->guest && !graph)
        return FALSE;
    for (guint i = 0; i < run->plan->finish->len; i++) {
        const Action *action = run->plan->finish->pdata[i];
        if (action->guard && !guard_holds (graph, action->guard))
            continue;
        if (!run_action (run, action, error))
            return action->disk ? error_note (error, _("disk '%s'"), action->disk) : FALSE;
    }
    return TRUE;
}

char *run_notes (const Run *run)
{
    g_autofree char *notes = plan_notes (run->plan);
    const char *between = *notes ? "; " : "";
    if (run->froze > 0 && run->thawed == run->froze)
        return g_strdup_printf (_("%s%squiesced: %d file systems were frozen for %.1f ms"), notes, between, run->froze, run->frozen_for / 1000.0);
    if (run->froze >= 0)
        return g_strdup_printf (_("%s%scrash-consistent only: %d file systems were frozen, %d thawed"), notes, between, run->froze, MAX (run->thawed, 0));
    return g_steal_pointer (&notes);
}

/* ---- sweep ---- */

static gboolean ours (const char *name, const char *prefix)
{
    return name && g_str_has_prefix (name, prefix);
}

static void sweep_connections (Guest *guest, const Graph *graph, const char *prefix)
{
    for (guint i = 0; guest->caps->yank && i < graph->nodes->len; i++) {
        const GraphNode *node = graph->nodes->pdata[i];
        if (!ours (node->name, prefix) || g_strcmp0 (node->driver, "nbd") != 0)
            continue;
        g_autoptr (Action) yank = node_yank (node->name);
        run_command (guest, yank, NULL);
    }
}

static void sweep_exports (Guest *guest, const Graph *graph, const char *prefix)
{
    gboolean any = FALSE, foreign = FALSE;
    for (guint i = 0; i < graph->exports->len; i++) {
        const GraphExport *export = graph->exports->pdata[i];
        if (!ours (export->id, prefix)) {
            foreign = TRUE;
            continue;
        }
        any = TRUE;
        g_autoptr (Action) wait = own_action ("export-wait-gone", obj ("export", "s", export->id, NULL));
        Run run = { .guest = guest };
        if (export->shutting_down || qmp_run (guest->qmp, "block-export-del", obj ("id", "s", export->id, "mode", "s", "hard", NULL), 0, NULL))
            run_action (&run, wait, NULL);
    }
    if (any && !foreign)
        qmp_run (guest->qmp, "nbd-server-stop", NULL, 0, NULL);
}

static void sweep_jobs (Guest *guest, const Graph *graph, const char *prefix)
{
    Run run = { .guest = guest };
    for (guint i = 0; i < graph->jobs->len; i++) {
        const GraphJob *job = graph->jobs->pdata[i];
        if (!ours (job->id, prefix))
            continue;
        if (job_may_be_cancelled (guest, job->id, NULL))
            qmp_run (guest->qmp, "job-cancel", obj ("id", "s", job->id, NULL), 0, NULL);
        if (job_wait (&run, job->id, FALSE, 0, NULL))
            qmp_run (guest->qmp, "job-dismiss", obj ("id", "s", job->id, NULL), 0, NULL);
    }
}

static void sweep_bitmaps (Guest *guest, const Graph *graph, const char *prefix)
{
    for (guint i = 0; i < graph->nodes->len; i++) {
        const GraphNode *node = graph->nodes->pdata[i];
        for (guint k = 0; k < node->bitmaps->len; k++) {
            const GraphBitmap *bitmap = node->bitmaps->pdata[k];
            if (ours (bitmap->name, prefix))
                qmp_run (guest->qmp, "block-dirty-bitmap-remove", obj ("node", "s", node->name, "name", "s", bitmap->name, NULL), 0, NULL);
        }
    }
}

/* Users go before what they use; without the edges at hand, rounds do: each deletes what nothing holds any more. */
static void sweep_nodes (Guest *guest, const Graph *graph, const char *prefix)
{
    const char *command = guest->caps->blockdev_del ? "blockdev-del" : "x-blockdev-del";
    g_autoptr (GPtrArray) left = g_ptr_array_new ();
    for (guint i = 0; i < graph->nodes->len; i++)
        if (ours (((GraphNode *) graph->nodes->pdata[i])->name, prefix))
            g_ptr_array_add (left, ((GraphNode *) graph->nodes->pdata[i])->name);
    for (guint before = left->len + 1; left->len > 0 && left->len < before;) {
        before = left->len;
        for (guint i = 0; i < left->len;)
            if (qmp_run (guest->qmp, command, obj (guest->caps->blockdev_del ? "node-name" : "id", "s", left->pdata[i], NULL), 0, NULL))
                g_ptr_array_remove_index (left, i);
            else
                i++;
    }
}

static char *what_is_left (const Graph *graph, const char *prefix)
{
    GString *text = g_string_new (NULL);
#define ADD(kind, name) G_STMT_START { if (ours (name, prefix)) g_string_append_printf (text, "%s%s '%s'", text->len ? ", " : "", kind, name); } G_STMT_END
    for (guint i = 0; i < graph->exports->len; i++)
        ADD (_("export"), ((GraphExport *) graph->exports->pdata[i])->id);
    for (guint i = 0; i < graph->jobs->len; i++)
        ADD (_("job"), ((GraphJob *) graph->jobs->pdata[i])->id);
    for (guint i = 0; i < graph->nodes->len; i++) {
        const GraphNode *node = graph->nodes->pdata[i];
        ADD (_("node"), node->name);
        for (guint k = 0; k < node->bitmaps->len; k++)
            ADD (_("bitmap"), ((GraphBitmap *) node->bitmaps->pdata[k])->name);
    }
    for (guint i = 0; i < graph->objects->len; i++)
        ADD (_("object"), (char *) graph->objects->pdata[i]);
#undef ADD
    if (text->len == 0) {
        g_string_free (text, TRUE);
        return NULL;
    }
    return g_string_free (text, FALSE);
}

gboolean run_sweep (Guest *guest, const char *prefix, GError **error)
{
    g_autoptr (Graph) graph = guest_graph (guest, GRAPH_HELD, error);
    if (!graph)
        return FALSE;
    g_autofree char *before = what_is_left (graph, prefix);
    if (!before)
        return TRUE;
    g_debug ("sweep: %s", before);
    sweep_connections (guest, graph, prefix);
    sweep_exports (guest, graph, prefix);
    sweep_jobs (guest, graph, prefix);
    sweep_bitmaps (guest, graph, prefix);
    sweep_nodes (guest, graph, prefix);
    for (guint i = 0; i < graph->objects->len; i++)
        if (ours (graph->objects->pdata[i], prefix))
            qmp_run (guest->qmp, "object-del", obj ("id", "s", graph->objects->pdata[i], NULL), 0, NULL);
    g_autoptr (Graph) now = guest_graph (guest, GRAPH_HELD, error);
    if (!now)
        return FALSE;
    g_autofree char *left = what_is_left (now, prefix);
    return !left || error_set (error, BAK_ERROR_MONITOR, _("QEMU still holds: %s"), left);
}
