/* The steps of a plan that only QEMU takes: its commands, its jobs and exports, its guest agent.
 * All on the guest's thread. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <gio/gio.h>
#include <glib/gi18n-lib.h>
#include "driver/claims.h"
#include "driver/qemu/helper.h"
#include "driver/qemu/job.h"
#include "driver/qemu/migration.h"
#include "driver/qemu/qemu-process.h"
#include "driver/qemu/relay.h"
#include "driver/qemu/verbs.h"
#include "job/build.h"
#include "job/image-head.h"
#include "job/seen.h"
#include "job/target.h"
#include "job/verbs-files.h"
#include "util/caller.h"
#include "util/config.h"
#include "util/json.h"
#include "util/process.h"

enum { WAIT_TIMEOUT_MS = 30000, REQUERY_MS = 1000 };

/* ---- jobs and exports of QEMU ---- */

static gboolean verb_job_wait (Run *run, const Action *action, GError **error)
{
    const char *says = json_get_string (action->args, "says");
    gboolean ok =
        run_wait_job (run, json_get_string (action->args, "job"), TRUE, action->timeout_ms, error);
    return ok || !says ? ok : error_note (error, "%s", says);
}

static gboolean verb_job_wait_end (Run *run, const Action *action, GError **error)
{
    return run_wait_job (run, json_get_string (action->args, "job"), FALSE, action->timeout_ms,
                         error);
}

static void drop_flush (Run *run, const char *job, const char *source)
{
    Guest *guest = run->data;

    run_end_job (run, job);
    qmp_run (guest->qmp, "blockdev-del", obj ("node-name", "s", source, NULL), 0, NULL);
}

/* By a job, for which QEMU's main loop, and the guest with it, need not wait: a mirror of nothing
 * is "ready" when its target is flushed. */
static gboolean verb_node_flush (Run *run, const Action *action, GError **error)
{
    const char *job = json_get_string (action->args, "job"),
               *source = json_get_string (action->args, "source");
    Qmp *qmp = ((Guest *) run->data)->qmp;

    drop_flush (run, job, source); /* of a try that the monitor has cut short */
    gboolean ok =
        qmp_run (qmp, "blockdev-add",
                 obj ("driver", "s", "null-co", "node-name", "s", source, "size", "i",
                      json_get_int (action->args, "size", 0), NULL),
                 0, error)
        && qmp_run (qmp, "blockdev-mirror",
                    obj ("job-id", "s", job, "device", "s", source, "target", "s",
                         json_get_string (action->args, "node"), "sync", "s", "none", "buf-size",
                         "i", (gint64) 65536, "auto-dismiss", "b", FALSE, NULL),
                    0, error)
        && run_wait_job (run, job, TRUE, action->timeout_ms, error);
    if (!ok)
        run_cut (run);
    drop_flush (run, job, source);
    return ok
           || error_note (error, _("target '%s': flush"), json_get_string (action->args, "place"));
}

/* The highest byte that QEMU has written through a node; 0: it does not say. */
static guint64 highest_written (JsonNode *stats, const char *node)
{
    JsonArray *list = JSON_NODE_HOLDS_ARRAY (stats) ? json_node_get_array (stats) : NULL;
    for (guint i = 0; list && i < json_array_get_length (list); i++) {
        JsonObject *entry = json_get_element (list, i),
                   *own = entry ? json_get_object (entry, "stats") : NULL;
        if (own && g_strcmp0 (json_get_string (entry, "node-name"), node) == 0)
            return MAX (0, json_get_int (own, "wr_highest_offset", 0));
    }
    return 0;
}

static gboolean verb_target_reaches (Run *run, const Action *action, GError **error)
{
    g_autoptr (JsonNode) stats =
        qmp_execute (((Guest *) run->data)->qmp, "query-blockstats",
                     obj ("query-nodes", "b", TRUE, NULL), action->timeout_ms, error);
    return stats
           && target_reaches (json_get_string (action->args, "path"),
                              highest_written (stats, json_get_string (action->args, "node")),
                              error);
}

/* to be waited for */
typedef struct {
    Guest *guest;
    const char *id;
} Named;

static gboolean export_gone (gpointer data)
{
    const Named *named = data;
    return g_hash_table_contains (named->guest->exports_gone, named->id);
}

/* The event tells; the list decides: an event is lost when the monitor breaks at that moment. */
static gboolean verb_export_wait_gone (Run *run, const Action *action, GError **error)
{
    const char *id = json_get_string (action->args, "export");
    Guest *guest = run->data;
    Named named = { guest, id };
    gint64 deadline = g_get_monotonic_time () + WAIT_TIMEOUT_MS * 1000LL;

    for (;;) {
        g_autoptr (GError) late = NULL;
        if (qmp_wait (guest->qmp, export_gone, &named,
                      MIN (deadline, g_get_monotonic_time () + REQUERY_MS * 1000),
                      _("the end of the export"), &late))
            return TRUE;
        g_autoptr (JsonNode) exports =
            error_code (late) == BAK_ERROR_TIMEOUT
                ? qmp_execute (guest->qmp, "query-block-exports", NULL, 0, error)
                : NULL;
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

/* ---- files that QEMU has ---- */

/* 0: not connected, or it cannot be told */
static int peer_pid (Run *run)
{
    Guest *guest = run->data;
    return guest->qmp ? qmp_get_peer_pid (guest->qmp) : 0;
}

/* QEMU may run as somebody else: it must be able to write what we make for it. */
static void give_to_qemu (Run *run, int fd)
{
    int pid = peer_pid (run);
    g_autofree char *proc = g_strdup_printf ("/proc/%d", pid);
    struct stat st;
    if (geteuid () == 0 && pid > 0 && stat (proc, &st) == 0 && st.st_uid != 0
        && fchown (fd, st.st_uid, st.st_gid) != 0)
        g_debug ("cannot give a file to uid %u: %s", (guint) st.st_uid, g_strerror (errno));
}

/* Another name of what QEMU has open already: a link, a second device node. Its locks tell the
 * same, unless they are off. Where its descriptors cannot be seen, the names count that it gives.
 */
static gboolean is_open_in_qemu (Run *run, const struct stat *st)
{
    Guest *guest = run->data;
    if (!guest->qmp)
        return FALSE;
    g_autofree char *path = g_strdup_printf ("/proc/%d/fd", peer_pid (run));
    g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
    g_autoptr (Graph) graph = guest_graph (guest, GRAPH_HELD, NULL);
    gboolean found = FALSE;
    const char *name;

    while (!found && dir && (name = g_dir_read_name (dir))) {
        g_autofree char *link = g_build_filename (path, name, NULL);
        found = run_is_same_file (link, st);
    }
    for (guint i = 0; !found && graph && i < graph->nodes->len; i++)
        found = run_is_same_file (((const GraphNode *) graph->nodes->pdata[i])->filename, st);
    return found;
}

/* Nobody had the file open before QEMU was told its name. If QEMU has it open now, this is what it
 * opened; if it has not, the name led elsewhere by then. Nothing has been written yet. */
static gboolean opened_what_was_seen (Run *run, const char *path, const struct stat *seen,
                                      GError **error)
{
    Guest *guest = run->data;
    int peer = peer_pid (run);
    int pid = guest_is_offline (guest) ? peer : qemu_process_of (guest->def->qmp, peer);
    int open = qemu_process_has_open (pid, seen);
    if (open < 0 && !caller_current ()) /* somebody stands between: any QEMU here that root sees */
        open = geteuid () != 0 || qemu_process_any_has_open (seen);
    if (open == TRUE)
        return TRUE;
    return open < 0
               ? error_set (error, BAK_ERROR_ACCESS_DENIED,
                            _("'%s': what QEMU opened cannot be seen, so that another file may "
                               "have taken its place; only root may use it for this guest"),
                            path)
               : error_set (error, BAK_ERROR_ACCESS_DENIED,
                            _("'%s': QEMU has opened another file than the one that was "
                               "looked at: somebody has put it in its place"),
                            path);
}

/* A QEMU in a chroot or container sees other paths. Its root is asked where that is allowed; else
 * its lock on the image tells. */
static gboolean means_the_same (Run *run, const char *path, const char *node, GError **error)
{
    int pid = peer_pid (run);
    g_autofree char *theirs = g_strdup_printf ("/proc/%d/root%s", pid, path);
    g_autofree char *root = g_strdup_printf ("/proc/%d/root", pid);
    struct stat ours, other, probe;

    if (stat (path, &ours) != 0)
        return error_set_errno (error, errno, _("cannot look at '%s'"), path);
    if (pid > 0 && stat (root, &probe) == 0) {
        if (stat (theirs, &other) == 0 && other.st_dev == ours.st_dev && other.st_ino == ours.st_ino
            && other.st_rdev == ours.st_rdev)
            return TRUE;
        g_autofree char *where = g_file_read_link (root, NULL);
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("QEMU (process %d, root directory '%s') opened another file than we "
                             "see: '%s' is '%s%s' for it; "
                             "use a path that means the same file to both"),
                          pid, where ? where : "?", path, where && strcmp (where, "/") ? where : "",
                          path);
    }
    if (S_ISREG (ours.st_mode) && !run_file_in_use (path))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("QEMU opened another file than we see: it says that '%s' is open "
                             "(node '%s'), but nothing holds the file of that name here; "
                             "use a path that means the same file to both"),
                          path, node);
    return TRUE;
}

static gboolean verb_file_same (Run *run, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "path");
    const struct stat *seen = run_seen (run, path);

    return means_the_same (run, path, json_get_string (action->args, "node"), error)
           && (!seen || opened_what_was_seen (run, path, seen, error));
}

/* Up to 2.8 what we add is a block backend, on a node to which QEMU gives a name of its own. */
static JsonNode *query_images (Guest *guest, GError **error)
{
    if (!guest->caps->blockdev_add_flat)
        return qmp_execute (guest->qmp, "query-block", NULL, 0, error);
    if (!graph_may_be_asked (guest->qmp, guest->caps, error))
        return NULL;
    return qmp_execute (guest->qmp, "query-named-block-nodes",
                        guest->caps->named_nodes_flat ? obj ("flat", "b", TRUE, NULL) : NULL, 0,
                        error);
}

/* The "image" of an entry of either list when it is of that name. */
static JsonObject *image_of (JsonObject *entry, const char *name)
{
    JsonObject *inserted = json_get_object (entry, "inserted");
    if (g_strcmp0 (json_get_string (entry, inserted ? "device" : "node-name"), name) != 0)
        return NULL;
    return json_get_object (inserted ? inserted : entry, "image");
}

static gboolean is_wanted_size (const Action *action, guint64 size, GError **error)
{
    guint64 wanted = json_get_int (action->args, "size", 0);
    gboolean at_least = json_get_bool (action->args, "at-least", FALSE);
    return size == wanted || (at_least && size > wanted)
           || error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                         at_least
                             ? _("target '%s' is too small: it has %" G_GUINT64_FORMAT
                                  " bytes, the disk %" G_GUINT64_FORMAT)
                             : _("target '%s' has another size than the disk: %" G_GUINT64_FORMAT
                                  " bytes, not %" G_GUINT64_FORMAT),
                         json_get_string (action->args, "place"), size, wanted);
}

/* What is there already, and is not made by a step before. */
static gboolean look_size_check (Run *run G_GNUC_UNUSED, const Action *action, GError **error)
{
    const char *place = json_get_string (action->args, "place");
    gboolean raw = json_get_bool (action->args, "at-least", FALSE);
    ImageHead head;
    int fd =
        place && g_path_is_absolute (place) ? open (place, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    off_t length = fd >= 0 ? lseek (fd, 0, SEEK_END) : -1;
    gboolean known = length >= 0 && image_head_read (fd, &head);
    if (fd >= 0)
        close (fd);
    return !known || is_wanted_size (action, raw ? (guint64) length : head.size, error);
}

static gboolean verb_size_check (Run *run, const Action *action, GError **error)
{
    const char *name = json_get_string (action->args, "node");
    g_autoptr (JsonNode) nodes = query_images (run->data, error);
    if (!nodes)
        return FALSE;
    JsonArray *array = JSON_NODE_HOLDS_ARRAY (nodes) ? json_node_get_array (nodes) : NULL;
    for (guint i = 0; array && i < json_array_get_length (array); i++) {
        JsonObject *image = image_of (json_get_element (array, i), name);
        if (image)
            return is_wanted_size (action, json_get_int (image, "virtual-size", 0), error);
    }
    return error_set (error, BAK_ERROR_MONITOR,
                      _("QEMU does not show the node '%s' that it has just opened"), name);
}

/* ---- connections that hang ---- */

static gboolean verb_relay_start (Run *run, const Action *action, GError **error)
{
    int pid = peer_pid (run);
    g_autofree char *proc = g_strdup_printf ("/proc/%d", pid);
    struct stat st = { .st_uid = geteuid (), .st_gid = getegid () };
    if (pid > 0)
        (void) !stat (proc, &st);
    return relay_start (
        json_get_string (action->args, "path"), json_get_string (action->args, "socket"),
        json_get_string (action->args, "host"), json_get_int (action->args, "port", 0),
        json_get_int (action->args, "patience", 60), st.st_uid, st.st_gid, error);
}

/* Who is connected to a server may not be one too many: only whether somebody could listen there.
 */
static gboolean look_relay_start (Run *run G_GNUC_UNUSED, const Action *action, GError **error)
{
    const char *path = json_get_string (action->args, "socket");
    struct stat st;
    if (!path || json_get_bool (action->args, "ours", FALSE))
        return TRUE;
    if (stat (path, &st) != 0)
        return error_set_errno (error, errno, _("cannot connect to the NBD server '%s'"), path);
    return S_ISSOCK (st.st_mode)
           || error_set_errno (error, ECONNREFUSED, _("cannot connect to the NBD server '%s'"),
                               path);
}

static gboolean verb_relay_cut (Run *run, const Action *action, GError **error)
{
    relay_cut (json_get_string (action->args, "path"));
    return TRUE;
}

static gboolean verb_helper_start (Run *run, const Action *action, GError **error)
{
    const char *place = json_get_string (action->args, "place");
    return helper_start (
        json_get_string (action->args, "monitor"), json_get_array (action->args, "commands"),
        json_get_string (action->args, "agent"), place, run_seen (run, place), error);
}

static gboolean look_helper_start (Run *run, const Action *action, GError **error)
{
    return helper_look (json_get_array (action->args, "commands"), error);
}

static gboolean verb_helper_finish (Run *run, const Action *action, GError **error)
{
    return helper_finish (json_get_string (action->args, "monitor"),
                          json_get_array (action->args, "commands"),
                          json_get_string (action->args, "place"), error);
}

static gboolean verb_helper_kill (Run *run, const Action *action, GError **error)
{
    helper_kill (json_get_string (action->args, "monitor"));
    return TRUE;
}

/* ---- freeze and thaw ---- */

static gboolean verb_freeze (Run *run, const Action *action G_GNUC_UNUSED, GError **error)
{
    return run_freeze (run, error);
}

static gboolean verb_thaw (Run *run, const Action *action G_GNUC_UNUSED, GError **error)
{
    return run_thaw (run, error);
}

/* ---- what the engine asks of QEMU ---- */

static gboolean perform_command (Run *run, const Action *action, GError **error)
{
    Guest *guest = run->data;

    if (!guest_monitor_alive (guest, error))
        return FALSE;
    if (action->oob && !qmp_has_oob (guest->qmp))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("the monitor of guest '%s' has no out-of-band commands"),
                          guest->def->name);
    g_autoptr (JsonNode) answer = qmp_call (guest->qmp, action->verb, obj_copy (action->args),
                                            action->oob, action->timeout_ms, error);
    return answer != NULL;
}

static gboolean is_connected (Run *run, GError **error)
{
    return guest_monitor_alive (run->data, error);
}

static gboolean reach (Run *run, GError **error)
{
    return guest_acquire (run->data, error);
}

static gpointer take_picture (Run *run, GError **error)
{
    return guest_graph (run->data, GRAPH_HELD, error);
}

static void free_picture (gpointer picture)
{
    graph_free (picture);
}

static gboolean may_cancel (Run *run, const char *job, GError **error)
{
    return run_job_may_be_cancelled (run->data, job, error);
}

/* Who QEMU is tells why it may not. */
static void explain_denial (Run *run, GError **error)
{
    int pid = peer_pid (run);
    g_autofree char *who = process_identity (pid);

    if (!who
        || !(strstr ((*error)->message, strerror (EACCES))
             || strstr ((*error)->message, strerror (EPERM))))
        return;
    g_autoptr (GError) denied = g_steal_pointer (error);
    error_set (error, BAK_ERROR_ACCESS_DENIED,
               _("%s (QEMU, process %d, runs as %s: it must be allowed to search every directory "
                  "of the path, and to read and write there)"),
               denied->message, pid, who);
}

static gboolean guard_holds (gconstpointer picture, JsonObject *guard)
{
    const Graph *graph = picture;
    const char *node = json_get_string (guard, "node"), *job = json_get_string (guard, "job"),
               *export = json_get_string (guard, "export");
    const char *object = json_get_string (guard, "object"),
               *bitmap = json_get_string (guard, "bitmap"),
               *status = json_get_string (guard, "status");
    if (bitmap)
        return node && graph_node (graph, node) && graph_bitmap (graph_node (graph, node), bitmap);
    if (node)
        return graph_node (graph, node) != NULL;
    if (job)
        return graph_job (graph, job)
               && (!status || g_strcmp0 (graph_job (graph, job)->status, status) == 0);
    if (export)
        return graph_export (graph, export) != NULL;
    for (guint i = 0; object && i < graph->objects->len; i++)
        if (g_str_equal (graph->objects->pdata[i], object))
            return TRUE;
    return FALSE;
}

static gboolean may_write (Run *run, const char *path, const struct stat *st, GError **error)
{
    const Guest *guest = run->data;
    return claims_allow (guest->owner->state_dir, path, st, error);
}

/* In place of a barrier, which QEMU has refused: from here on it says when a migration starts. */
static gboolean verb_migration_check (Run *run, const Action *action G_GNUC_UNUSED, GError **error)
{
    Guest *guest = run->data;
    JsonObject *events = obj ("capability", "s", "events", "state", "b", TRUE, NULL);

    qmp_run (guest->qmp, "migrate-set-capabilities",
             obj ("capabilities", "a", arr (events, NULL), NULL), 0, NULL);
    return migration_check (guest, error);
}

/* ---- a socket that was passed ---- */

/* The descriptor goes ahead of the command, with a blank between two messages: QEMU keeps what came
 * last for the command that asks. */
static gboolean send_descriptor (Guest *guest, int fd, GError **error)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE (sizeof fd)];
    } control = { 0 };
    struct iovec blank = { .iov_base = (char *) " ", .iov_len = 1 };
    struct msghdr message = { .msg_iov = &blank,
                              .msg_iovlen = 1,
                              .msg_control = control.bytes,
                              .msg_controllen = sizeof control.bytes };
    struct cmsghdr *head = CMSG_FIRSTHDR (&message);
    *head = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
                              .cmsg_type = SCM_RIGHTS,
                              .cmsg_len = CMSG_LEN (sizeof fd) };
    memcpy (CMSG_DATA (head), &fd, sizeof fd);
    if (qmp_has_sent (guest->qmp)
        && sendmsg (qmp_get_fd (guest->qmp), &message, MSG_NOSIGNAL | MSG_DONTWAIT) == 1)
        return TRUE;
    return error_set (error, BAK_ERROR_MONITOR,
                      _("guest '%s': its monitor takes no descriptor now"), guest->def->name);
}

static gboolean verb_getfd (Run *run, const Action *action, GError **error)
{
    Guest *guest = run->data;
    int fd = passed_get (passed_current (), guest->def->name, run->plan->server_passed, error);
    if (fd < 0)
        return FALSE;
    gboolean sent = send_descriptor (guest, fd, error);
    close (fd);
    return sent && run->ops->command (run, action, error);
}

static const RunVerb verbs[] = {
    { "getfd", verb_getfd, .connected = TRUE },
    { "file-same", verb_file_same, .connected = TRUE },
    { "size-check", verb_size_check, .connected = TRUE, .look = look_size_check },
    { "job-wait", verb_job_wait, .connected = TRUE },
    { "job-wait-end", verb_job_wait_end, .connected = TRUE },
    { "node-flush", verb_node_flush, .connected = TRUE },
    { "target-reaches", verb_target_reaches, .connected = TRUE },
    { "export-wait-gone", verb_export_wait_gone, .connected = TRUE },
    { "relay-start", verb_relay_start, .look = look_relay_start },
    { "relay-cut", verb_relay_cut },
    { "helper-start", verb_helper_start, .look = look_helper_start },
    { "helper-finish", verb_helper_finish },
    { "helper-kill", verb_helper_kill },
    { "freeze", verb_freeze },
    { "thaw", verb_thaw },
    { "mirror-end", verb_mirror_end, .connected = TRUE },
    { "migration-check", verb_migration_check, .connected = TRUE },
    { NULL },
};

const RunOps qemu_run_ops = {
    .verbs = verbs,
    .command = perform_command,
    .connected = is_connected,
    .reach = reach,
    .picture = take_picture,
    .picture_free = free_picture,
    .guard = guard_holds,
    .may_cancel = may_cancel,
    .explain = explain_denial,
    .give = give_to_qemu,
    .has_open = is_open_in_qemu,
    .may_write = may_write,
};
