#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "repository/cancellation.h"
#include "repository/lock.h"
#include "repository/reading.h"
#include "repository/serve.h"
#include "util/config.h"
#include "util/files.h"

enum { LOOK_MS = 1000, BACKLOG = 16, SOCKET_PATH_MAX = 107 };

typedef struct {
    Point *point;
    const BakPointServeOptions *options;
    GPtrArray *readings; /* Reading */
    GPtrArray *layers;   /* StorageLayer *, of the writable ones */
    char *scratch;       /* a folder of ours; NULL: none */
    char *socket;        /* path that we made; NULL: none */
    int fd;              /* listens */
} Serving;

/* Where it listens */

/* Of one that was killed: nobody listens there any more. */
static gboolean is_stale (const struct sockaddr_un *address)
{
    int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    gboolean refused = fd >= 0
                       && connect (fd, (const struct sockaddr *) address, sizeof *address) != 0
                       && errno == ECONNREFUSED;

    if (fd >= 0)
        close (fd);
    return refused;
}

static gboolean listen_unix (Serving *serving, const char *path, GError **error)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    if (strlen (path) > SOCKET_PATH_MAX)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("the path of a socket has at most %d bytes: '%s'"), SOCKET_PATH_MAX,
                          path);
    strcpy (address.sun_path, path);
    if (is_stale (&address))
        g_unlink (path);
    serving->fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    mode_t old = umask (0177);
    gboolean bound =
        serving->fd >= 0 && bind (serving->fd, (struct sockaddr *) &address, sizeof address) == 0;
    int saved = errno;
    umask (old);
    if (!bound)
        return error_set_errno (error, saved == EADDRINUSE ? EEXIST : saved,
                                _("cannot make socket '%s'"), path);
    serving->socket = g_strdup (path);
    return listen (serving->fd, BACKLOG) == 0
           || error_set_errno (error, errno, _("cannot listen at '%s'"), path);
}

static gboolean is_loopback (const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return (ntohl (((const struct sockaddr_in *) address)->sin_addr.s_addr) >> 24) == 127;
    return address->sa_family == AF_INET6
           && IN6_IS_ADDR_LOOPBACK (&((const struct sockaddr_in6 *) address)->sin6_addr);
}

static gboolean listen_at (Serving *serving, const struct addrinfo *info, GError **error)
{
    const BakPointServeOptions *options = serving->options;
    const int yes = 1;
    gboolean open = !is_loopback (info->ai_addr) && !options->tls_dir
                    && !(options->flags & BAK_POINT_SERVE_ALLOW_INSECURE);

    if (open)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("'%s' can be reached from other hosts: it needs TLS, or to be allowed "
                             "without (--allow-insecure)"),
                          options->host);
    serving->fd = socket (info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (serving->fd >= 0
        && setsockopt (serving->fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0
        && bind (serving->fd, info->ai_addr, info->ai_addrlen) == 0
        && listen (serving->fd, BACKLOG) == 0)
        return TRUE;
    return error_set_errno (error, errno, _("cannot listen at '%s' port %u"), options->host,
                            options->port);
}

static gboolean listen_tcp (Serving *serving, GError **error)
{
    const BakPointServeOptions *options = serving->options;
    struct addrinfo hints = { .ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM }, *info = NULL;
    g_autofree char *port = g_strdup_printf ("%u", options->port);
    int failed = getaddrinfo (options->host, port, &hints, &info);

    if (failed)
        return error_set (error, BAK_ERROR_CONNECTION, _("the address '%s': %s"), options->host,
                          gai_strerror (failed));
    gboolean ok = listen_at (serving, info, error);
    freeaddrinfo (info);
    return ok;
}

static gboolean start_listening (Serving *serving, GError **error)
{
    const BakPointServeOptions *options = serving->options;

    if (!options->socket == !options->host)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("either a socket or a host and port are needed"));
    if (options->host && (options->port == 0 || options->port > 65535))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("%u is no port"), options->port);
    return options->host ? listen_tcp (serving, error)
                         : listen_unix (serving, options->socket, error);
}

/* What it serves */

static gboolean open_disks (Serving *serving, GError **error)
{
    g_autoptr (GPtrArray) targets =
        reading_targets (serving->point, serving->options->disks, error);

    for (guint i = 0; targets && targets->pdata[i]; i++) {
        Reading *reading = reading_open (serving->point, targets->pdata[i], error);
        if (!reading)
            return FALSE;
        g_ptr_array_add (serving->readings, reading);
    }
    return targets != NULL;
}

static gboolean make_scratch (Serving *serving, GError **error)
{
    g_autofree char *configured = config_get_string ("scratch_dir");
    const char *dir = serving->options->scratch ? serving->options->scratch
                      : configured              ? configured
                                                : "/var/tmp";
    g_autofree char *path = g_build_filename (dir, "libbackup-serve-XXXXXX", NULL);

    if (!g_mkdtemp (path))
        return error_set_errno (error, errno,
                                _("cannot make a folder for what is written in '%s'"), dir);
    serving->scratch = g_steal_pointer (&path);
    return TRUE;
}

/* A layer of its own on top, which is gone by name before anybody is connected. */
static gboolean add_overlay (Serving *serving, guint i, StorageImage *image, GError **error)
{
    const Reading *reading = serving->readings->pdata[i];
    g_autofree char *name = g_strdup_printf ("%u.qcow2", i);
    char *path = g_build_filename (serving->scratch, name, NULL);
    StorageLayer *layers = g_new0 (StorageLayer, image->n_layers + 1);

    const char *secret = image->layers[0].secret; /* what is written is as secret as what is read */

    layers[0] = (StorageLayer){ path, "qcow2", secret };
    memcpy (layers + 1, image->layers, image->n_layers * sizeof *layers);
    g_ptr_array_add (serving->layers, layers);
    image->layers = layers;
    image->n_layers++;
    image->writable = TRUE;
    return storage_create_image (path, reading->disk->size, NULL, NULL, secret, error);
}

static gboolean fill_images (Serving *serving, StorageImage *images, GError **error)
{
    gboolean writable = serving->options->flags & BAK_POINT_SERVE_WRITABLE;

    if (writable && !make_scratch (serving, error))
        return FALSE;
    for (guint i = 0; i < serving->readings->len; i++) {
        const Reading *reading = serving->readings->pdata[i];
        images[i] = (StorageImage){ .name = reading->disk->target,
                                    .layers = reading->images,
                                    .n_layers = reading->layers->len,
                                    .size = reading->disk->size };
        if (writable && !add_overlay (serving, i, &images[i], error))
            return FALSE;
    }
    return TRUE;
}

static void layers_free (gpointer data)
{
    StorageLayer *layers = data;

    g_free ((char *) layers[0].file);
    g_free (layers);
}

static void forget_scratch (Serving *serving)
{
    if (serving->scratch)
        files_remove_tree (serving->scratch);
    g_clear_pointer (&serving->scratch, g_free);
}

static Storage *start_storage (Serving *serving, GError **error)
{
    const BakPointServeOptions *options = serving->options;
    g_autofree StorageImage *images = g_new0 (StorageImage, serving->readings->len + 1);
    StorageServer server = { .fd = serving->fd,
                             .tls_dir = options->tls_dir,
                             .tls_psk = options->flags & BAK_POINT_SERVE_TLS_PSK };
    Storage *storage = NULL;

    if (fill_images (serving, images, error))
        storage = storage_serve (images, serving->readings->len, &server, error);
    forget_scratch (serving);
    return storage;
}

/* Serving */

static char *uri_of (const Serving *serving, const char *target)
{
    const BakPointServeOptions *options = serving->options;
    const char *scheme = options->tls_dir ? "nbds" : "nbd";
    g_autofree char *name = g_uri_escape_string (target, NULL, FALSE);

    if (options->socket) {
        g_autofree char *path = g_uri_escape_string (options->socket, "/", FALSE);
        return g_strdup_printf ("%s+unix:///%s?socket=%s", scheme, name, path);
    }
    gboolean six = strchr (options->host, ':') != NULL;
    return g_strdup_printf (six ? "%s://[%s]:%u/%s" : "%s://%s:%u/%s", scheme, options->host,
                            options->port, name);
}

static void tell_ready (const Serving *serving)
{
    for (guint i = 0; serving->options->ready && i < serving->readings->len; i++) {
        const Reading *reading = serving->readings->pdata[i];
        g_autofree char *uri = uri_of (serving, reading->disk->target);
        serving->options->ready (reading->disk->target, uri, serving->options->opaque);
    }
}

/* TRUE: it is time to end. Only whether somebody is connected has to be asked for. */
static gboolean idle_too_long (const Serving *serving, Storage *storage, gint64 *last_used)
{
    gint64 now = g_get_monotonic_time ();

    if (serving->options->idle_timeout == 0)
        return FALSE;
    if (storage_count_clients (storage) > 0)
        *last_used = now;
    return (guint64) (now - *last_used) >= serving->options->idle_timeout;
}

static gboolean serve_until_end (const Serving *serving, Storage *storage, GError **error)
{
    BakCancellation *cancellation = serving->options->cancellation;
    gint64 last_used = g_get_monotonic_time ();
    int gone = storage_open_pidfd (storage);
    int cancel = cancellation ? g_cancellable_get_fd (cancellation->cancellable) : -1;
    gboolean died = FALSE, idle = FALSE;

    while (!died && !idle && !(cancellation && bak_cancellation_is_cancelled (cancellation))) {
        struct pollfd polls[] = { { gone, POLLIN, 0 }, { cancel, POLLIN, 0 } };
        if (poll (polls, 2, serving->options->idle_timeout ? LOOK_MS : -1) < 0 && errno != EINTR)
            break;
        died = polls[0].revents != 0;
        idle = !died && idle_too_long (serving, storage, &last_used);
    }
    if (gone >= 0)
        close (gone);
    if (cancel >= 0)
        g_cancellable_release_fd (cancellation->cancellable);
    return storage_stop (storage, error)
           && (!died || error_set (error, BAK_ERROR_IO, _("the storage daemon was ended")));
}

static gboolean serve (Serving *serving, GError **error)
{
    if (!open_disks (serving, error) || !start_listening (serving, error))
        return FALSE;
    g_autoptr (Storage) storage = start_storage (serving, error);
    if (!storage)
        return FALSE;
    tell_ready (serving);
    return serve_until_end (serving, storage, error);
}

static void serving_clear (Serving *serving)
{
    forget_scratch (serving);
    if (serving->fd >= 0)
        close (serving->fd);
    if (serving->socket)
        g_unlink (serving->socket);
    g_free (serving->socket);
    g_ptr_array_unref (serving->readings);
    g_ptr_array_unref (serving->layers);
}

gboolean serve_point (Point *point, const BakPointServeOptions *options, GError **error)
{
    Serving serving = { .point = point, .options = options, .fd = -1 };

    if (!repository_need_key (point->repository, error))
        return FALSE;
    g_autoptr (Lock) lock = lock_point_to_read (point, options->disks, error);
    if (!lock)
        return FALSE;
    serving.readings = g_ptr_array_new_with_free_func ((GDestroyNotify) reading_free);
    serving.layers = g_ptr_array_new_with_free_func (layers_free);
    gboolean ok = serve (&serving, error);
    serving_clear (&serving);
    return ok;
}
