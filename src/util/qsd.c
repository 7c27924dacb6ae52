#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "util/qsd.h"
#include "util/files.h"
#include "util/json.h"
#include "util/process.h"

enum { LOG_MAX = 65536 };

/* Its command line */

GPtrArray *qsd_argv_new (void)
{
    GPtrArray *argv = g_ptr_array_new_with_free_func (g_free);

    g_ptr_array_add (argv, process_find ("LIBBACKUP_QSD", "storage_daemon", "qemu-storage-daemon"));
    return argv;
}

/* wait=on: the first client is taken before the monitor's thread begins. Without it the main thread
 * and that one both serve the socket for a moment; a client that comes then is greeted twice, is
 * let go, or makes the daemon fail an assertion. */
void qsd_argv_end (GPtrArray *argv)
{
    static const char *const options[] = { "--chardev",
                                           "socket,id=bak-monitor,fd=3,server=on,wait=on",
                                           "--monitor", "chardev=bak-monitor" };

    for (guint i = 0; i < G_N_ELEMENTS (options); i++)
        g_ptr_array_add (argv, g_strdup (options[i]));
    g_ptr_array_add (argv, NULL);
}

static JsonObject *object_new (const char *driver, const char *node)
{
    JsonObject *object = json_object_new ();

    json_object_set_string_member (object, "driver", driver);
    if (node)
        json_object_set_string_member (object, "node-name", node);
    return object;
}

JsonObject *qsd_protocol_node (const char *file, const char *node)
{
    struct stat st;
    gboolean device = stat (file, &st) == 0 && S_ISBLK (st.st_mode);
    g_autofree char *name = g_strconcat (node, "-file", NULL);
    JsonObject *object = object_new (device ? "host_device" : "file", name);

    json_object_set_string_member (object, "filename", file);
    return object;
}

/* A raw node asks for no permission of its own, so nothing would lock the image: this node does, as
 * a format would. */
static JsonObject *lock_node (JsonObject *protocol, const char *node)
{
    static const char *const permissions[] = { "write", "resize" };
    g_autofree char *name = g_strconcat (node, "-lock", NULL);
    JsonObject *object = object_new ("blkdebug", name);
    JsonArray *take = json_array_new (), *unshare = json_array_new ();

    for (guint i = 0; i < G_N_ELEMENTS (permissions); i++) {
        json_array_add_string_element (take, permissions[i]);
        json_array_add_string_element (unshare, permissions[i]);
    }
    json_object_set_object_member (object, "image", protocol);
    json_object_set_array_member (object, "take-child-perms", take);
    json_object_set_array_member (object, "unshare-child-perms", unshare);
    return object;
}

/* The value of --blockdev for one image. */
char *qsd_blockdev (const char *file, const char *format, const char *node)
{
    JsonObject *object = object_new (format, node);
    JsonObject *protocol = qsd_protocol_node (file, node);
    g_autoptr (JsonNode) root = json_node_new (JSON_NODE_OBJECT);

    json_object_set_object_member (
        object, "file", g_str_equal (format, "raw") ? lock_node (protocol, node) : protocol);
    json_node_take_object (root, object);
    return json_to_string (root, FALSE);
}

/* Starting it */

typedef struct {
    pid_t parent; /* with whose thread it dies; 0: with none */
    gboolean listens;
    gboolean has_secret;
} Child;

/* In the child: only what may be called between fork and exec. It is the child that listens, so
 * that the kernel tells those who connect its pid; the parent's bind before and exec behind it let
 * nobody connect too early. */
static void child_setup (gpointer data)
{
    const Child *child = data;
    const struct rlimit none = { 0, 0 };
    struct rlimit files;

    setsid ();
    if (child->has_secret && setrlimit (RLIMIT_CORE, &none) != 0)
        _exit (126);
    if (getrlimit (RLIMIT_NOFILE, &files) == 0) { /* a file for each image of each chain */
        files.rlim_cur = files.rlim_max;
        setrlimit (RLIMIT_NOFILE, &files);
    }
    if (child->parent && (prctl (PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid () != child->parent))
        _exit (126);
    if (child->listens && listen (QSD_MONITOR_FD, SOMAXCONN) != 0)
        _exit (126);
}

int qsd_bind (const char *path, GError **error)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    g_autofree char *dir = g_path_get_dirname (path);

    if (strlen (path) >= sizeof address.sun_path) {
        error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                   _("the path of a socket has at most 107 bytes: '%s'"), path);
        return -1;
    }
    if (!files_make_dir (dir, 0700, error))
        return -1;
    strcpy (address.sun_path, path);
    g_unlink (path);
    /* Nonblocking: the daemon's main thread and its monitor's may both see the first client, and
     * the second to accept it would wait for ever. */
    int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && bind (fd, (struct sockaddr *) &address, sizeof address) == 0
        && chmod (path, 0600) == 0)
        return fd;
    error_set_errno (error, errno, _("cannot make socket '%s'"), path);
    if (fd >= 0)
        close (fd);
    return -1;
}

/* A buffer for each request: the C library takes those of a quarter of a MiB from the kernel and
 * gives them back each time, which costs as much as the copying. */
static char **environment (void)
{
    static const char *const settings[][2] = { { "MALLOC_ARENA_MAX", "1" },
                                               { "MALLOC_MMAP_THRESHOLD_", "8388608" },
                                               { "MALLOC_TRIM_THRESHOLD_", "33554432" } };
    char **env = g_get_environ ();

    for (guint i = 0; i < G_N_ELEMENTS (settings); i++)
        env = g_environ_setenv (env, settings[i][0], settings[i][1], FALSE);
    return env;
}

static gboolean spawn (char **argv, const int *from, const int *to, guint count, int log,
                       Child *child, GPid *ret_pid, GError **error)
{
    g_autoptr (GError) why = NULL;
    GSpawnFlags flags = G_SPAWN_SEARCH_PATH | (ret_pid ? G_SPAWN_DO_NOT_REAP_CHILD : 0);
    int null = g_open ("/dev/null", O_RDWR | O_CLOEXEC, 0);
    g_auto (GStrv) env = environment ();

    child->parent = ret_pid ? getpid () : 0;
    gboolean ok = g_spawn_async_with_pipes_and_fds (
        "/", (const char *const *) argv, (const char *const *) env, flags, child_setup, child, null,
        log, log, from, to, count, ret_pid, NULL, NULL, NULL, &why);
    if (null >= 0)
        close (null);
    return ok
           || error_set (error, BAK_ERROR_NOT_SUPPORTED, _("cannot run '%s': %s"), argv[0],
                         why->message);
}

gboolean qsd_spawn (char **argv, int monitor, int log, GPid *ret_pid, GError **error)
{
    const int from[] = { monitor }, to[] = { QSD_MONITOR_FD };
    Child child = { .listens = TRUE };

    return spawn (argv, from, to, 1, log, &child, ret_pid, error);
}

gboolean qsd_spawn_private (char **argv, const QsdFiles *files, int log, GPid *ret_pid,
                            GError **error)
{
    int from[4] = { files->monitor, files->server }, to[4] = { QSD_MONITOR_FD, QSD_SERVER_FD };
    Child child = { .has_secret = files->secret >= 0 };
    guint count = 2;

    if (files->secret >= 0) {
        from[count] = files->secret;
        to[count++] = QSD_SECRET_FD;
    }
    if (files->image >= 0) {
        from[count] = files->image;
        to[count++] = QSD_IMAGE_FD;
    }
    return spawn (argv, from, to, count, log, &child, ret_pid, error);
}

/* The image in a message like: Failed to get "write" lock / Is another process using the image
 * [/path]? */
static char *locked_image (const char *text)
{
    const char *mark = strstr (text, "using the image ["), *end;

    if (!mark)
        return NULL;
    mark += strlen ("using the image [");
    if (!(end = strstr (mark, "]?")))
        return NULL;
    g_autofree char *path = g_strndup (mark, end - mark);
    return text_sanitize (path, 0);
}

/* The last line of its log, without its own name and our options. That it waits for its first
 * client is no reason. */
static char *last_word (const char *log)
{
    g_auto (GStrv) lines = g_strsplit (log, "\n", -1);
    const char *said = "";

    for (guint i = 0; lines[i]; i++)
        if (*g_strstrip (lines[i]) && !strstr (lines[i], "info: QEMU waiting for connection"))
            said = lines[i];
    const char *colon = strstr (said, "}: ");
    return text_sanitize (colon ? colon + 3 : said, 1024);
}

/* Why the daemon cannot be talked to: the last thing that it said, without its own name and our
 * options; if nothing, why its monitor failed. */
gboolean qsd_reason (const char *log, const GError *why, GError **error)
{
    g_autofree char *text = NULL, *image = NULL;

    if (!files_read (log, LOG_MAX, &text, NULL, NULL))
        text = g_strdup ("");
    image = locked_image (text);
    if (image || strstr (text, "\" lock"))
        return error_set (
            error, BAK_ERROR_BUSY,
            _("image '%s' is in use: a running QEMU holds it. A guest that runs is backed up "
               "by its monitor (attach it with --qmp)"),
            image ? image : "?");
    g_autofree char *shown = last_word (text);
    return error_set (error, error_code_from_text (shown),
                      _("the storage daemon did not start: %s"), *shown ? shown : why->message);
}
