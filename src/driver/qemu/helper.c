#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "driver/qemu/helper-link.h"
#include "driver/qemu/helper.h"
#include "driver/qemu/monitor.h"
#include "driver/qemu/qemu-process.h"
#include "util/caller.h"
#include "util/json.h"
#include "util/process.h"
#include "util/qsd.h"

enum {
    START_TIMEOUT_MS = 30000,
    COMMAND_TIMEOUT_MS = 30000,
    END_TIMEOUT_MS = 60000, /* gluster takes 10 s to close a file */
    KILL_WAIT_MS = 30000,   /* on a host that is busy */
    SECRET_MAX = 65536,
    RETRIES = 5,
    LOOK_TIMEOUT_MS = 10000,
    LOOK_OUTPUT_MAX = 65536,
};

static char *beside (const char *monitor, const char *suffix)
{
    g_autofree char *stem = g_strndup (monitor, strlen (monitor) - strlen (".sock"));

    return g_strconcat (stem, suffix, NULL);
}

char *helper_server (const char *monitor)
{
    return beside (monitor, "-nbd.sock");
}

static char *log_path (const char *monitor)
{
    return beside (monitor, ".log");
}

static char *link_path (const char *monitor)
{
    return beside (monitor, ".link");
}

/* ---- secrets ---- */

static gboolean is_private (const char *path, const struct stat *st, GError **error)
{
    if (!S_ISREG (st->st_mode))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("secret '%s' is not a regular file"), path);
    if (st->st_uid != 0 && st->st_uid != geteuid ())
        return error_set (
            error, BAK_ERROR_ACCESS_DENIED,
            _("secret '%s' belongs to user %u; it must be root's, or of the user who "
               "makes the backup"),
            path, (guint) st->st_uid);
    if (st->st_mode & 077)
        return error_set (error, BAK_ERROR_ACCESS_DENIED,
                          _("secret '%s' can be read by others (mode %04o): chmod 0600 makes it "
                             "private"),
                          path, (guint) st->st_mode & 07777);
    if (st->st_size <= 0 || st->st_size > SECRET_MAX)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("secret '%s' has %" G_GINT64_FORMAT " bytes; expected 1 to %d"), path,
                          (gint64) st->st_size, SECRET_MAX);
    return TRUE;
}

static gboolean read_all (int fd, char *data, gsize length)
{
    for (gsize at = 0; at < length;) {
        ssize_t n = read (fd, data + at, length - at);
        if (n == 0 || (n < 0 && errno != EINTR))
            return FALSE;
        at += MAX (n, 0);
    }
    return TRUE;
}

char *helper_read_secret (const char *path, gsize *ret_length, GError **error)
{
    struct stat st;
    int fd = caller_open (caller_current (), path, CALLER_READS, error);
    char *data = NULL;

    if (fd < 0) {
        error_note (error, _("secret '%s'"), path);
        return NULL;
    }
    if (fstat (fd, &st) != 0)
        error_set_errno (error, errno, _("secret '%s'"), path);
    else if (is_private (path, &st, error)) {
        data = g_malloc (st.st_size + 1);
        data[st.st_size] = '\0';
        if (!read_all (fd, data, st.st_size)) {
            error_set_errno (error, errno, _("secret '%s'"), path);
            g_clear_pointer (&data, g_free);
        } else if (ret_length)
            *ret_length = st.st_size;
    }
    close (fd);
    return data;
}

/* By value: it is read once, where it was looked at, and its monitor is a socket that is ours
 * alone. */
static gboolean add_secret (JsonObject *arguments, const char *path, gboolean text_already,
                            GError **error)
{
    gsize length = 0;
    char *data = helper_read_secret (path, &length, error);

    if (!data)
        return FALSE;
    char *text = text_already ? g_strstrip (g_strdup (data))
                              : g_base64_encode ((const guchar *) data, length);
    json_object_set_string_member (arguments, "data", text);
    json_object_set_string_member (arguments, "format", "base64");
    explicit_bzero (data, length);
    explicit_bzero (text, strlen (text));
    g_free (data);
    g_free (text);
    return TRUE;
}

/* ---- commands ---- */

/* for a job, or for the end of an export; NULL: not */
typedef struct {
    const char *job, *export;
    gboolean over;
} Wait;

static void on_event (Qmp *qmp, const char *name, JsonObject *data, gpointer user_data)
{
    Wait *wait = user_data;

    if (wait->job && g_strcmp0 (name, "JOB_STATUS_CHANGE") == 0
        && g_strcmp0 (json_get_string (data, "id"), wait->job) == 0)
        wait->over |= g_strcmp0 (json_get_string (data, "status"), "concluded") == 0;
    if (wait->export && g_strcmp0 (name, "BLOCK_EXPORT_DELETED") == 0)
        wait->over |= g_strcmp0 (json_get_string (data, "id"), wait->export) == 0;
}

static gboolean is_over (gpointer data)
{
    return ((const Wait *) data)->over;
}

static char *job_error (Qmp *qmp, const char *id, GError **error)
{
    g_autoptr (JsonNode) jobs = qmp_execute (qmp, "query-jobs", NULL, COMMAND_TIMEOUT_MS, error);
    JsonArray *array = jobs && JSON_NODE_HOLDS_ARRAY (jobs) ? json_node_get_array (jobs) : NULL;

    for (guint i = 0; array && i < json_array_get_length (array); i++) {
        JsonObject *job = json_get_element (array, i);
        if (g_strcmp0 (json_get_string (job, "id"), id) == 0)
            return text_sanitize (
                json_get_string (job, "error") ? json_get_string (job, "error") : "", 1024);
    }
    return jobs ? g_strdup ("") : NULL;
}

static gboolean wait_job (Qmp *qmp, Wait *wait, guint timeout, GError **error)
{
    gint64 deadline = g_get_monotonic_time () + (gint64) timeout * 1000;
    g_autofree char *failure = NULL;

    if (!qmp_wait (qmp, is_over, wait, deadline, _("the image to be made"), error)
        || !(failure = job_error (qmp, wait->job, error)))
        return FALSE;
    JsonObject *args = json_object_new ();
    json_object_set_string_member (args, "id", wait->job);
    if (!qmp_run (qmp, "job-dismiss", args, COMMAND_TIMEOUT_MS, error))
        return FALSE;
    return !*failure || error_set (error, error_code_from_text (failure), "%s", failure);
}

/* What a server says of a file that is not there. */
static gboolean says_absent (const char *text)
{
    static const char *const words[] = { "No such file", "sftp error code: 2)", "NOENT" };

    for (guint i = 0; i < G_N_ELEMENTS (words); i++)
        if (strstr (text, words[i]))
            return TRUE;
    return FALSE;
}

static gboolean must_be_absent (gboolean opened, GError *failure, const char *place, GError **error)
{
    if (opened)
        return error_set (error, BAK_ERROR_EXISTS,
                          _("'%s' exists already; remove it, name another, or use it as it is "
                             "with --reuse-external"),
                          place);
    if (says_absent (failure->message)) {
        g_error_free (failure);
        return TRUE;
    }
    g_propagate_error (error, failure);
    return FALSE;
}

/* QEMU measures how quick it is to choose the work that a pass phrase costs, and now and then sees
 * no time pass. */
static gboolean is_worth_a_retry (const GError *failure)
{
    return failure && strstr (failure->message, "accurate CPU usage");
}

static gboolean perform_once (Qmp *qmp, JsonObject *command, const char *place, GError **error)
{
    const char *name = json_get_string (command, "execute"),
               *secret = json_get_string (command, "secret");
    guint timeout = json_get_int (command, "timeout", COMMAND_TIMEOUT_MS);
    JsonObject *given = json_get_object (command, "arguments"), *args = json_object_new ();
    Wait wait = { .job = json_get_string (command, "job"),
                  .export = json_get_string (command, "gone") };
    gint64 deadline = g_get_monotonic_time () + (gint64) timeout * 1000;
    g_autoptr (GList) members = given ? json_object_get_members (given) : NULL;

    for (GList *one = members; one; one = one->next)
        json_object_set_member (args, one->data,
                                json_node_copy (json_object_get_member (given, one->data)));
    if (secret && !add_secret (args, secret, json_get_bool (command, "text", FALSE), error)) {
        json_object_unref (args);
        return FALSE;
    }
    qmp_set_event_func (qmp, on_event, &wait);
    GError *failure = NULL;
    gboolean ok = qmp_run (qmp, name, args, timeout, &failure);
    if (json_get_bool (command, "absent", FALSE))
        ok = must_be_absent (ok, failure, place, error);
    else if (!ok)
        g_propagate_error (error, failure);
    ok = ok && (!wait.job || wait_job (qmp, &wait, timeout, error))
         && (!wait.export
             || qmp_wait (qmp, is_over, &wait, deadline, _("the end of the export"), error));
    qmp_set_event_func (qmp, NULL, NULL);
    return ok;
}

static gboolean perform (Qmp *qmp, JsonObject *command, const char *place, GError **error)
{
    for (guint left = RETRIES;; left--) {
        g_autoptr (GError) failure = NULL;
        if (perform_once (qmp, command, place, &failure))
            return TRUE;
        if (left && is_worth_a_retry (failure))
            continue;
        g_propagate_error (error, g_steal_pointer (&failure));
        return FALSE;
    }
}

/* 0: none. */
static pid_t find_pid (const char *monitor)
{
    MonitorProbe probe = { .address = monitor };

    monitor_probe (&probe, 1, 0);
    monitor_probe_clear (&probe, 1);
    return probe.state == MONITOR_ABSENT || probe.state == MONITOR_DENIED ? 0 : probe.pid;
}

static gboolean look_at_link (const char *what, const char *monitor, GError **error)
{
    g_autofree char *file = link_path (monitor);
    pid_t pid = find_pid (monitor);

    return g_str_equal (what, "note") ? helper_link_note (pid, file, error)
                                      : helper_link_same (pid, file, error);
}

/* seen: what lay at the place, NULL: nothing is known of it. It is compared with what was opened
 * before anything is written to it. */
static gboolean is_what_was_seen (Qmp *qmp, JsonObject *command, const char *place,
                                  const struct stat *seen, GError **error)
{
    return !seen || !json_get_bool (command, "opens", FALSE)
           || qemu_process_has_open (qmp_get_peer_pid (qmp), seen) == TRUE
           || error_set (error, BAK_ERROR_ACCESS_DENIED,
                         _("'%s': another file was opened than the one that was looked at: "
                            "somebody has put it in its place"),
                         place);
}

static gboolean perform_all (Qmp *qmp, const char *monitor, JsonArray *commands, const char *place,
                             const struct stat *seen, GError **error)
{
    for (guint i = 0; commands && i < json_array_get_length (commands); i++) {
        JsonObject *command = json_get_element (commands, i);
        const char *link = json_get_string (command, "link");
        if (!link && command && perform (qmp, command, place, error)) {
            if (!is_what_was_seen (qmp, command, place, seen, error))
                return FALSE;
            continue;
        }
        if (link ? look_at_link (link, monitor, error) : !command)
            continue;
        if (error && error_code (*error) == BAK_ERROR_EXISTS)
            return FALSE; /* names it already */
        if (error && error_code (*error) == BAK_ERROR_TIMEOUT)
            error_note (error, _("it does not answer"));
        return error_note (error, "'%s'", place);
    }
    return TRUE;
}

/* ---- the process ---- */

static void remove_files (const char *monitor)
{
    g_autofree char *server = helper_server (monitor), *log = log_path (monitor),
                    *link = link_path (monitor);

    g_unlink (monitor);
    g_unlink (server);
    g_unlink (log);
    g_unlink (link);
}

void helper_kill (const char *monitor)
{
    pid_t pid = find_pid (monitor);

    if (pid > 0) {
        kill (pid, SIGKILL);
        process_wait_gone (pid, KILL_WAIT_MS);
    }
    remove_files (monitor);
}

/* Its only way to an agent is the environment; env becomes the daemon, so its pid is the daemon's.
 */
static GPtrArray *make_argv (const char *agent)
{
    g_autoptr (GPtrArray) daemon = qsd_argv_new ();
    GPtrArray *argv = g_ptr_array_new_with_free_func (g_free);

    if (agent) {
        g_ptr_array_add (argv, g_strdup ("env"));
        g_ptr_array_add (argv, g_strconcat ("SSH_AUTH_SOCK=", agent, NULL));
    }
    qsd_argv_end (daemon);
    for (guint i = 0; i < daemon->len; i++)
        g_ptr_array_add (argv, g_strdup (daemon->pdata[i]));
    return argv;
}

static gboolean spawn (const char *monitor, const char *agent, GError **error)
{
    g_autofree char *said = log_path (monitor);
    g_autoptr (GPtrArray) argv = make_argv (agent);
    int socket = qsd_bind (monitor, error);
    int log = socket < 0 ? -1 : g_open (said, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    gboolean ok = socket >= 0
                  && (log >= 0 ? qsd_spawn ((char **) argv->pdata, socket, log, NULL, error)
                               : error_set_errno (error, errno, "'%s'", said));

    if (log >= 0)
        close (log);
    if (socket >= 0)
        close (socket);
    return ok;
}

static Qmp *connect_first (const char *monitor, GError **error)
{
    g_autofree char *said = log_path (monitor);
    g_autoptr (GError) why = NULL;
    Qmp *qmp = qmp_connect (monitor, NULL, START_TIMEOUT_MS, &why);

    if (!qmp)
        qsd_reason (said, why, error);
    return qmp;
}

gboolean helper_look (JsonArray *commands, GError **error)
{
    for (guint i = 0; commands && i < json_array_get_length (commands); i++) {
        const char *secret = json_get_string (json_get_element (commands, i), "secret");
        gsize length = 0;
        char *data = secret ? helper_read_secret (secret, &length, error) : NULL;
        if (secret && !data)
            return FALSE;
        if (data)
            explicit_bzero (data, length);
        g_free (data);
    }
    return TRUE;
}

gboolean helper_start (const char *monitor, JsonArray *commands, const char *agent,
                       const char *place, const struct stat *seen, GError **error)
{
    /* it opens by name what could be another thing by then, with keys that are not the caller's */
    if (caller_current ())
        return error_set (
            error, BAK_ERROR_ACCESS_DENIED,
            _("'%s': targets on a server other than NBD, and encrypted ones, are for "
               "the daemon's own user"),
            place);
    if (!spawn (monitor, agent, error)) {
        remove_files (monitor);
        return FALSE;
    }
    g_autoptr (Qmp) qmp = connect_first (monitor, error);
    gboolean ok = qmp && perform_all (qmp, monitor, commands, place, seen, error);
    if (!ok)
        helper_kill (monitor);
    return ok;
}

gboolean helper_finish (const char *monitor, JsonArray *commands, const char *place, GError **error)
{
    pid_t pid = find_pid (monitor);
    g_autoptr (Qmp) qmp = NULL;

    if (pid <= 0)
        return error_set (error, BAK_ERROR_IO,
                          _("the process that held '%s' open is gone: what it wrote last is not "
                             "known to be there"),
                          place);
    if (!(qmp = qmp_connect (monitor, NULL, START_TIMEOUT_MS, error))
        || !perform_all (qmp, monitor, commands, place, NULL, error)
        || !qmp_run (qmp, "quit", NULL, COMMAND_TIMEOUT_MS, error))
        return FALSE;
    if (!process_wait_gone (pid, END_TIMEOUT_MS))
        return error_set (error, BAK_ERROR_TIMEOUT, _("'%s' was not closed within %d s"), place,
                          END_TIMEOUT_MS / 1000);
    remove_files (monitor);
    return TRUE;
}

/* ---- what can be opened here ---- */

char *helper_cannot (const char *node)
{
    g_autofree char *program =
        process_find ("LIBBACKUP_QSD", "storage_daemon", "qemu-storage-daemon");
    g_autofree char *said = NULL;
    g_autoptr (GError) failure = NULL;
    const char *argv[] = { program, "--blockdev", node, NULL };
    int status;

    if (!process_run (argv, LOOK_TIMEOUT_MS, LOOK_OUTPUT_MAX, &status, NULL, &said, &failure))
        return g_strdup (failure->message);
    if (!strstr (said, "nknown driver") && !strstr (said, "does not accept value"))
        return NULL;
    return g_strdup_printf (_("'%s' has no driver for it (Debian: qemu-block-extra)"), program);
}
