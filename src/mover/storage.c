#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "mover/storage.h"
#include "util/crypto.h"
#include "util/files.h"
#include "util/image_tool.h"
#include "util/process.h"
#include "util/qsd.h"

enum {
    START_TIMEOUT_MS = 30000,
    STOP_TIMEOUT_MS = 300000, /* it may have much to write */
    CONNECTIONS_MAX = 16,
    CLUSTER_SIZE = 65536,        /* of the images that storage_create_image makes */
    L2_CACHE_SIZE = 1024 * 1024, /* of a layer: enough for 8 GiB in a row */
};

struct Storage {
    GPid pid; /* 0: gone */
    int log;  /* a file without a name */
    int fds[CONNECTIONS_MAX];
    guint count, taken;
    guint own_sockets; /* that it has open without clients */
};

/* Its command line */

static char *to_text (JsonObject *object)
{
    g_autoptr (JsonNode) root = json_node_new (JSON_NODE_OBJECT);

    json_node_take_object (root, object);
    return json_to_string (root, FALSE);
}

static JsonObject *encryption (void)
{
    JsonObject *object = json_object_new ();

    json_object_set_string_member (object, "format", "luks");
    json_object_set_string_member (object, "key-secret", IMAGE_TOOL_SECRET);
    return object;
}

/* The secret of all layers that have one. */
static const char *find_secret (const StorageImage *images, guint count)
{
    const char *secret = NULL;

    for (guint i = 0; i < count; i++)
        for (guint k = 0; k < images[i].n_layers; k++)
            if (images[i].layers[k].secret)
                secret = images[i].layers[k].secret;
    return secret;
}

static int find_held (const StorageImage *images, guint count)
{
    for (guint i = 0; i < count; i++)
        for (guint k = 0; k < images[i].n_layers; k++)
            if (images[i].layers[k].fd)
                return *images[i].layers[k].fd;
    return -1;
}

/* A node of each layer with the layers below as its backing files, and nothing that a header says.
 */
static JsonObject *layer_node (const StorageImage *image, guint number, guint i)
{
    const StorageLayer *layer = &image->layers[i];
    g_autofree char *name = g_strdup_printf ("bak-%u-%u", number, i);
    JsonObject *object = json_object_new ();
    gboolean qcow2 = g_str_equal (layer->format, "qcow2");
    gboolean writable = image->writable && i == 0;

    json_object_set_string_member (object, "driver", layer->format);
    json_object_set_string_member (object, "node-name", name);
    json_object_set_boolean_member (object, "read-only", !writable);
    g_autofree char *held = layer->fd ? g_strdup_printf ("/proc/self/fd/%d", QSD_IMAGE_FD) : NULL;
    g_autofree char *here = layer->fd ? g_strdup_printf ("/proc/self/fd/%d", *layer->fd) : NULL;
    JsonObject *file = qsd_protocol_node (here ? here : layer->file, name);
    if (held)
        json_object_set_string_member (file, "filename", held);
    json_object_set_boolean_member (file, "read-only", !writable);
    if (writable) { /* or zeros would take room */
        json_object_set_string_member (object, "discard", "unmap");
        json_object_set_string_member (file, "discard", "unmap");
    }
    json_object_set_object_member (object, "file", file);
    if (qcow2)
        json_object_set_int_member (object, "l2-cache-size", L2_CACHE_SIZE);
    if (layer->secret)
        json_object_set_object_member (object, "encrypt", encryption ());
    if (qcow2 && i + 1 < image->n_layers)
        json_object_set_object_member (object, "backing", layer_node (image, number, i + 1));
    else if (qcow2)
        json_object_set_null_member (object, "backing");
    return object;
}

/* QEMU compresses whole clusters only, and no image that ends within one. */
static JsonObject *image_node (const StorageImage *image, guint number, char **ret_name)
{
    JsonObject *top = layer_node (image, number, 0);
    gboolean compress = image->compress && image->size % CLUSTER_SIZE == 0;

    *ret_name = g_strdup_printf ("bak-%u-%s", number, compress ? "compress" : "0");
    if (!compress)
        return top;
    JsonObject *filter = json_object_new ();
    json_object_set_string_member (filter, "driver", "compress");
    json_object_set_string_member (filter, "node-name", *ret_name);
    json_object_set_object_member (filter, "file", top);
    return filter;
}

/* A value within QEMU's own KEY=VALUE,… */
static char *doubled_commas (const char *text)
{
    g_auto (GStrv) parts = g_strsplit (text, ",", -1);

    return g_strjoinv (",,", parts);
}

static void add (GPtrArray *argv, const char *option, char *value)
{
    g_ptr_array_add (argv, g_strdup (option));
    g_ptr_array_add (argv, value);
}

static void add_server (GPtrArray *argv, const StorageServer *server)
{
    g_autofree char *dir = server->tls_dir ? doubled_commas (server->tls_dir) : NULL;

    if (dir)
        add (argv, "--object",
             g_strdup_printf ("%s,id=bak-tls,dir=%s,endpoint=server%s",
                              server->tls_psk ? "tls-creds-psk" : "tls-creds-x509", dir,
                              server->tls_psk ? "" : ",verify-peer=on"));
    add (argv, "--nbd-server",
         g_strdup_printf ("addr.type=fd,addr.str=%d%s", QSD_SERVER_FD,
                          dir ? ",tls-creds=bak-tls" : ""));
}

static GPtrArray *make_argv (const StorageImage *images, guint count, const StorageServer *server)
{
    GPtrArray *argv = qsd_argv_new ();

    add_server (argv, server);
    if (find_secret (images, count))
        add (argv, "--object",
             g_strdup_printf ("secret,id=%s,file=/proc/self/fd/%d", IMAGE_TOOL_SECRET,
                              QSD_SECRET_FD));
    for (guint i = 0; i < count; i++) {
        g_autofree char *node = NULL, *name = doubled_commas (images[i].name);
        add (argv, "--blockdev", to_text (image_node (&images[i], i, &node)));
        add (argv, "--export",
             g_strdup_printf ("type=nbd,id=bak-export-%u,node-name=%s,name=%s,writable=%s", i, node,
                              name, images[i].writable ? "on" : "off"));
    }
    add (argv, "--chardev", g_strdup_printf ("socket,id=bak-monitor,fd=%d", QSD_MONITOR_FD));
    add (argv, "--monitor", g_strdup ("chardev=bak-monitor"));
    g_ptr_array_add (argv, NULL);
    return argv;
}

/* Its sockets */

/* Connected before anybody serves: the kernel keeps them until it does. */
static gboolean connect_all (Storage *storage, const struct sockaddr_un *address, guint count)
{
    for (; storage->count < count; storage->count++) {
        int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            return FALSE;
        storage->fds[storage->count] = fd;
        if (connect (fd, (const struct sockaddr *) address, sizeof *address) != 0) {
            close (fd);
            return FALSE;
        }
    }
    return TRUE;
}

static int listen_in (Storage *storage, const char *dir, guint count)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_snprintf (address.sun_path, sizeof address.sun_path, "%s/s", dir);
    gboolean bound = fd >= 0 && bind (fd, (struct sockaddr *) &address, sizeof address) == 0;
    gboolean ok =
        bound && listen (fd, CONNECTIONS_MAX) == 0 && connect_all (storage, &address, count);
    int saved = errno;
    if (bound)
        g_unlink (address.sun_path);
    if (!ok && fd >= 0)
        close (fd);
    errno = saved;
    return ok ? fd : -1;
}

/* The folder is there for the moment of connecting and no longer. -1: *error. */
static int make_server (Storage *storage, guint count, GError **error)
{
    char dir[] = "/tmp/libbackup-XXXXXX";

    if (!g_mkdtemp (dir)) {
        error_set_errno (error, errno, _("cannot make a folder in '/tmp'"));
        return -1;
    }
    int fd = listen_in (storage, dir, count);
    int saved = errno;
    g_rmdir (dir);
    if (fd < 0)
        error_set_errno (error, saved, _("cannot make a socket"));
    return fd;
}

/* Starting and ending */

/* The monitor greets when all images are open and exported; it closes when that failed. */
static gboolean wait_greeting (Storage *storage, int monitor, GError **error)
{
    g_autoptr (GError) why = NULL;
    g_autofree char *log = g_strdup_printf ("/proc/self/fd/%d", storage->log);
    gint64 deadline = g_get_monotonic_time () + (gint64) START_TIMEOUT_MS * 1000;
    char greeting[64];
    int ready;

    do {
        struct pollfd poll_fd = { monitor, POLLIN, 0 };
        gint64 left = (deadline - g_get_monotonic_time () + 999) / 1000;
        ready = poll (&poll_fd, 1, CLAMP (left, 0, G_MAXINT));
    } while (ready < 0 && errno == EINTR);
    if (ready <= 0)
        return error_set (error, BAK_ERROR_TIMEOUT,
                          _("the storage daemon did not open its images within %d s"),
                          START_TIMEOUT_MS / 1000);
    if (read (monitor, greeting, sizeof greeting) > 0)
        return TRUE;
    process_wait_gone (storage->pid, 5000); /* then its log is whole */
    error_set (&why, BAK_ERROR_IO, _("it ended at once"));
    return qsd_reason (log, why, error);
}

static gboolean spawn (Storage *storage, GPtrArray *argv, const QsdFiles *files, GError **error)
{
    return qsd_spawn_private ((char **) argv->pdata, files, storage->log, &storage->pid, error);
}

static gboolean start (Storage *storage, const StorageImage *images, guint count,
                       const StorageServer *server, GError **error)
{
    g_autoptr (GPtrArray) argv = make_argv (images, count, server);
    const char *secret = find_secret (images, count);
    int monitor[2], file = secret ? crypto_secret_file (secret, error) : -1;

    if (secret && file < 0)
        return FALSE;
    gboolean paired = socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, monitor) == 0
                      || error_set_errno (error, errno, _("cannot make a socket"));
    QsdFiles files = { paired ? monitor[1] : -1, server->fd, file, find_held (images, count) };
    gboolean ok = paired && spawn (storage, argv, &files, error);
    if (file >= 0)
        close (file);
    if (!paired)
        return FALSE;
    close (monitor[1]);
    ok = ok && wait_greeting (storage, monitor[0], error);
    close (monitor[0]);
    return ok;
}

static Storage *storage_new (GError **error)
{
    Storage *storage = g_new0 (Storage, 1);

    storage->log = memfd_create ("libbackup-storage", MFD_CLOEXEC);
    if (storage->log >= 0)
        return storage;
    error_set_errno (error, errno, _("cannot make a log"));
    storage_free (storage);
    return NULL;
}

Storage *storage_start (const StorageImage *images, guint count, guint connections, GError **error)
{
    g_autoptr (Storage) storage = storage_new (error);
    StorageServer server = { .fd = -1 };

    if (storage)
        server.fd = make_server (storage, MIN (connections, (guint) CONNECTIONS_MAX), error);
    if (server.fd < 0)
        return NULL;
    gboolean ok = start (storage, images, count, &server, error);
    close (server.fd);
    return ok ? g_steal_pointer (&storage) : NULL;
}

/* Each client is one more socket. */
static guint count_sockets (pid_t pid)
{
    g_autofree char *path = g_strdup_printf ("/proc/%d/fd", (int) pid);
    g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
    const char *name;
    guint count = 0;

    while (dir && (name = g_dir_read_name (dir))) {
        g_autofree char *link = g_build_filename (path, name, NULL);
        g_autofree char *what = g_file_read_link (link, NULL);
        count += what && g_str_has_prefix (what, "socket:");
    }
    return count;
}

Storage *storage_serve (const StorageImage *images, guint count, const StorageServer *server,
                        GError **error)
{
    g_autoptr (Storage) storage = storage_new (error);

    if (!storage || !start (storage, images, count, server, error))
        return NULL;
    storage->own_sockets = 1; /* the one that listens; the monitor's has been closed */
    return g_steal_pointer (&storage);
}

guint storage_count_clients (Storage *storage)
{
    guint sockets = count_sockets (storage->pid);

    return sockets > storage->own_sockets ? sockets - storage->own_sockets : 0;
}

int storage_open_pidfd (Storage *storage)
{
    return syscall (SYS_pidfd_open, storage->pid, 0);
}

int storage_connect (Storage *storage)
{
    if (storage->taken >= storage->count)
        return -1;
    return storage->fds[storage->taken++];
}

static void close_unused (Storage *storage)
{
    while (storage->taken < storage->count)
        close (storage->fds[storage->taken++]);
}

/* Its exit status; -1: it had to be killed. */
static int end (Storage *storage, int signal_number, guint timeout_ms)
{
    int status = 0;
    pid_t pid;

    close_unused (storage);
    kill (storage->pid, signal_number);
    gboolean ended = process_wait_gone (storage->pid, timeout_ms);
    if (!ended)
        kill (storage->pid, SIGKILL);
    do
        pid = waitpid (storage->pid, &status, 0);
    while (pid < 0 && errno == EINTR);
    storage->pid = 0;
    return ended && pid > 0 ? status : -1;
}

gboolean storage_stop (Storage *storage, GError **error)
{
    g_autofree char *log = g_strdup_printf ("/proc/self/fd/%d", storage->log), *text = NULL;
    int status = end (storage, SIGTERM, STOP_TIMEOUT_MS);

    if (status == 0)
        return TRUE;
    if (status == -1)
        return error_set (error, BAK_ERROR_TIMEOUT,
                          _("the storage daemon did not close its images within %d s"),
                          STOP_TIMEOUT_MS / 1000);
    if (!files_read (log, 65536, &text, NULL, NULL))
        text = g_strdup ("");
    g_autofree char *shown = text_sanitize (g_strstrip (text), 512);
    return error_set (error, error_code_from_text (shown),
                      _("the storage daemon did not end well (status %d): %s"), status,
                      *shown ? shown : _("it said nothing"));
}

void storage_free (Storage *storage)
{
    if (!storage)
        return;
    if (storage->pid > 0)
        end (storage, SIGKILL, START_TIMEOUT_MS);
    close_unused (storage);
    if (storage->log >= 0)
        close (storage->log);
    g_free (storage);
}

/* New images */

char *storage_name_encrypted (const char *file)
{
    JsonObject *object = json_object_new (), *below = json_object_new ();

    json_object_set_string_member (below, "driver", "file");
    json_object_set_string_member (below, "filename", file);
    json_object_set_string_member (object, "driver", "qcow2");
    json_object_set_object_member (object, "encrypt", encryption ());
    json_object_set_object_member (object, "file", below);
    json_object_set_null_member (object, "backing");
    g_autofree char *text = to_text (object);
    return g_strconcat ("json:", text, NULL);
}

static const char plain_options[] = "compat=1.1,cluster_size=65536";

static GPtrArray *create_words (const char *options, const char *backing)
{
    const char *first[] = { "create", "-q", "-f", "qcow2", "-o", options };
    const char *below[] = { "-u", "-b", backing, "-F", "qcow2" };
    GPtrArray *words = g_ptr_array_new ();

    for (guint i = 0; i < G_N_ELEMENTS (first); i++)
        g_ptr_array_add (words, (char *) first[i]);
    for (guint i = 0; backing && i < G_N_ELEMENTS (below); i++)
        g_ptr_array_add (words, (char *) below[i]);
    return words;
}

/* The name is taken first, so that nobody's file is overwritten. */
gboolean storage_create_image (const char *file, guint64 size, const char *backing,
                               const char *compression, const char *secret, GError **error)
{
    static const char luks[] =
        ",encrypt.format=luks,encrypt.key-secret=" IMAGE_TOOL_SECRET ",encrypt.iter-time=10";
    g_autofree char *name = g_strconcat ("file:", file, NULL);
    g_autofree char *bytes = g_strdup_printf ("%" G_GUINT64_FORMAT, size);
    g_autofree char *options =
        g_strconcat (plain_options, compression ? ",compression_type=" : "",
                     compression ? compression : "", secret ? luks : "", NULL);
    g_autoptr (GPtrArray) words = create_words (options, backing);
    int fd = open (file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);

    if (fd < 0)
        return error_set_errno (error, errno, _("cannot make '%s'"), file);
    close (fd);
    g_ptr_array_add (words, (char *) "--");
    g_ptr_array_add (words, name);
    g_ptr_array_add (words, bytes);
    g_ptr_array_add (words, NULL);
    if (image_tool_secret ((const char *const *) words->pdata, secret, NULL, error))
        return TRUE;
    g_unlink (file);
    return error_note (error, _("cannot make '%s'"), file);
}

gboolean storage_format_file (int fd, const char *name, guint64 size, GError **error)
{
    g_autofree char *bytes = g_strdup_printf ("%" G_GUINT64_FORMAT, size);
    const char *const words[] = {
        "create", "-q", "-f", "qcow2", "-o", plain_options, "--", "file:" IMAGE_TOOL_FILE,
        bytes,    NULL,
    };

    return image_tool_file (words, fd, NULL, error)
           || error_note (error, _("cannot make '%s'"), name);
}
