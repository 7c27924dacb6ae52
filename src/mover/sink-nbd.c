/* Writes an NBD export, several requests in flight. Connected at once: a storage daemon does not
 * wait for ever. */
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "mover/client.h"

/* A request of 32 bits, in whole leaves. */
enum { ZERO_MAX = 1024 * 1024 * 1024, FLUSH_US = 3000000 };

typedef struct {
    Sink sink;
    Client *client;
    guint64 size;
    gboolean blank;
    gint64 flushed;  /* when the last flush was sent */
    GQueue requests; /* Request*, oldest first */
} NbdSink;

typedef struct {
    MoverChunk *chunk; /* NULL: zeros, a flush */
    guint64 offset;
    gint64 deadline;
    gboolean done;
    int error;
} Request;

static int on_done (void *data, int *error)
{
    Request *request = data;

    request->error = *error;
    request->done = TRUE;
    return 1;
}

static void request_free (gpointer data)
{
    Request *request = data;

    mover_chunk_unref (request->chunk);
    g_free (request);
}

static Request *request_new (NbdSink *nbd, MoverChunk *chunk, guint64 offset)
{
    Request *request = g_new0 (Request, 1);

    request->chunk = chunk ? mover_chunk_ref (chunk) : NULL;
    request->offset = offset;
    request->deadline = client_deadline (nbd->client);
    g_queue_push_tail (&nbd->requests, request);
    return request;
}

/* What is done leaves, wherever it stands: else its memory is held by the slowest. */
static gboolean reap (NbdSink *nbd, GError **error)
{
    for (GList *link = nbd->requests.head, *next; link; link = next) {
        Request *request = link->data;
        next = link->next;
        if (!request->done)
            continue;
        if (request->error)
            return error_set_errno (error, request->error,
                                    _("writing at byte %" G_GUINT64_FORMAT " of the image"),
                                    request->offset);
        g_queue_delete_link (&nbd->requests, link);
        request_free (request);
    }
    return TRUE;
}

/* Until at most this many are in flight. */
static gboolean drain (NbdSink *nbd, guint left, GError **error)
{
    nbd->client->stop_fd = nbd->sink.stop_fd;
    if (!reap (nbd, error))
        return FALSE;
    while (nbd->requests.length > left) {
        gint64 deadline = ((Request *) nbd->requests.head->data)->deadline;
        if (g_get_monotonic_time () >= deadline)
            return client_timed_out (nbd->client, error);
        if (!client_wait (&nbd->client, 1, -1, deadline, error) || !reap (nbd, error))
            return FALSE;
    }
    return TRUE;
}

static nbd_completion_callback completion (Request *request)
{
    return (nbd_completion_callback){ .callback = on_done, .user_data = request };
}

static gboolean send_zeros (NbdSink *nbd, const MoverChunk *chunk, GError **error)
{
    guint64 end = chunk->offset + chunk->length, length;

    for (guint64 at = chunk->offset; at < end; at += length) {
        length = MIN (end - at, (guint64) ZERO_MAX);
        if (!drain (nbd, MOVER_IN_FLIGHT - 1, error))
            return FALSE;
        Request *request = request_new (nbd, NULL, at);
        if (libnbd.aio_zero (nbd->client->nbd, length, at, completion (request), 0) < 0)
            return nbd_failed (_("writing zeros into the image"), error);
    }
    return TRUE;
}

static gboolean send_flush (NbdSink *nbd, GError **error)
{
    Request *request = request_new (nbd, NULL, 0);

    nbd->flushed = g_get_monotonic_time ();
    return libnbd.aio_flush (nbd->client->nbd, completion (request), 0) >= 0
           || nbd_failed (_("flushing the image"), error);
}

/* What was written before is answered first: else a part of it is still here. */
static gboolean flush_now_and_then (NbdSink *nbd, GError **error)
{
    return g_get_monotonic_time () - nbd->flushed < FLUSH_US
           || (drain (nbd, 0, error) && send_flush (nbd, error));
}

static gboolean nbd_write (Sink *sink, MoverChunk *chunk, GError **error)
{
    NbdSink *nbd = (NbdSink *) sink;

    if (!chunk->data)
        return nbd->blank || send_zeros (nbd, chunk, error);
    if (!drain (nbd, MOVER_IN_FLIGHT - 1, error) || !flush_now_and_then (nbd, error))
        return FALSE;
    Request *request = request_new (nbd, chunk, chunk->offset);
    return libnbd.aio_pwrite (nbd->client->nbd, chunk->data, chunk->length, chunk->offset,
                              completion (request), 0)
               >= 0
           || nbd_failed (_("writing the image"), error);
}

static gboolean nbd_finish (Sink *sink, GError **error)
{
    NbdSink *nbd = (NbdSink *) sink;

    if (!drain (nbd, 0, error) || !send_flush (nbd, error))
        return FALSE;
    return drain (nbd, 0, error) || error_note (error, _("flushing"));
}

/* The connection first: it ends what is in flight. */
static void nbd_sink_free (Sink *sink)
{
    NbdSink *nbd = (NbdSink *) sink;

    client_free (nbd->client);
    g_queue_clear_full (&nbd->requests, request_free);
    g_free (nbd);
}

void sink_nbd_set_blank (Sink *sink)
{
    ((NbdSink *) sink)->blank = TRUE;
}

static gboolean check_export (const NbdSink *nbd, GError **error)
{
    struct nbd_handle *handle = nbd->client->nbd;
    gint64 size = libnbd.get_size (handle);

    if (size < 0 || (guint64) size < nbd->size)
        return error_set (
            error, BAK_ERROR_IO,
            _("the image's export has %" G_GINT64_FORMAT " bytes, the disk %" G_GUINT64_FORMAT),
            size, nbd->size);
    if (libnbd.is_read_only (handle) != 0 || libnbd.can_zero (handle) <= 0
        || libnbd.can_flush (handle) <= 0)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("the image's export cannot be written, zeroed and flushed"));
    return TRUE;
}

Sink *sink_nbd_new (int fd, const char *export_name, guint64 size, guint timeout_ms, GError **error)
{
    MoverSource source = { .fd = fd, .export_name = export_name };
    g_autoptr (Client) client = client_new (&source, NULL, timeout_ms, -1, error);

    if (!client)
        return NULL;
    NbdSink *nbd = g_new0 (NbdSink, 1);
    nbd->sink = (Sink){ nbd_write, nbd_finish, nbd_sink_free, -1 };
    nbd->size = size;
    nbd->flushed = g_get_monotonic_time ();
    nbd->client = g_steal_pointer (&client);
    if (check_export (nbd, error))
        return &nbd->sink;
    nbd_sink_free (&nbd->sink);
    return NULL;
}
