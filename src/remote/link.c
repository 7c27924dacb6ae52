#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <glib-unix.h>
#include <glib/gi18n-lib.h>
#include "remote/link.h"
#include "util/error.h"

enum { READ_SIZE = 16384, READS_PER_TURN = 8 };

struct _Link {
    gint refs;
    int in_fd, out_fd; /* -1: stream */
    GIOStream *stream;
    GMainContext *context;
    const LinkFuncs *funcs;
    gpointer data;
    GSource *in_source;
    Splitter splitter;
    gboolean paused, delivering, closed;
    gboolean takes_fds;
    int in_fds[FRAME_FDS_MAX]; /* that no packet has had yet */
    guint n_in_fds;
    gint64 last_input, last_output;
    gint64 half_since; /* 0: between two packets */

    GMutex lock;    /* what follows */
    GQueue out;     /* GByteArray*; of a single byte, which no packet is: it bears a descriptor */
    GQueue out_fds; /* those, in order, and 1 */
    gsize out_sent; /* bytes of the first that are gone */
    gsize out_bytes;
    GSource *out_source;
    gboolean finishing, shut;
};

static Link *link_new (GMainContext *context, const LinkFuncs *funcs)
{
    Link *link = g_new0 (Link, 1);
    link->refs = 1;
    link->in_fd = link->out_fd = -1;
    link->context = context ? g_main_context_ref (context) : g_main_context_ref_thread_default ();
    link->funcs = funcs;
    g_mutex_init (&link->lock);
    g_queue_init (&link->out);
    g_queue_init (&link->out_fds);
    link->last_input = link->last_output = g_get_monotonic_time ();
    return link;
}

Link *link_new_fds (int in_fd, int out_fd, GMainContext *context, const LinkFuncs *funcs)
{
    Link *link = link_new (context, funcs);
    link->in_fd = in_fd;
    link->out_fd = out_fd;
    g_unix_set_fd_nonblocking (in_fd, TRUE, NULL);
    g_unix_set_fd_nonblocking (out_fd, TRUE, NULL);
    return link;
}

Link *link_new_stream (GIOStream *stream, GMainContext *context, const LinkFuncs *funcs)
{
    Link *link = link_new (context, funcs);
    link->stream = g_object_ref (stream);
    return link;
}

Link *link_ref (Link *link)
{
    g_atomic_int_inc (&link->refs);
    return link;
}

static void close_passed (gpointer fd)
{
    close (GPOINTER_TO_INT (fd) - 1);
}

static void link_drop_in_fds (Link *link)
{
    while (link->n_in_fds > 0)
        close (link->in_fds[--link->n_in_fds]);
}

static void link_close_fds (Link *link)
{
    link_drop_in_fds (link);
    g_queue_clear_full (&link->out_fds, close_passed);
    if (link->in_fd >= 0)
        close (link->in_fd);
    if (link->out_fd >= 0 && link->out_fd != link->in_fd)
        close (link->out_fd);
    link->in_fd = link->out_fd = -1;
    if (link->stream)
        g_io_stream_close (link->stream, NULL, NULL);
    g_clear_object (&link->stream);
}

void link_unref (Link *link)
{
    if (!link || !g_atomic_int_dec_and_test (&link->refs))
        return;
    link_close_fds (link);
    g_queue_clear_full (&link->out, (GDestroyNotify) g_byte_array_unref);
    splitter_clear (&link->splitter);
    g_mutex_clear (&link->lock);
    g_main_context_unref (link->context);
    g_free (link);
}

static void source_drop (GSource **source)
{
    if (*source) {
        g_source_destroy (*source);
        g_source_unref (*source);
        *source = NULL;
    }
}

void link_close (Link *link, const GError *error)
{
    if (link->closed)
        return;
    link->closed = TRUE;
    link_ref (link);
    source_drop (&link->in_source);
    g_mutex_lock (&link->lock);
    link->shut = TRUE;
    source_drop (&link->out_source);
    g_queue_clear_full (&link->out, (GDestroyNotify) g_byte_array_unref);
    link->out_bytes = 0;
    link_close_fds (link);
    g_mutex_unlock (&link->lock);
    link->funcs->closed (link, error, link->data);
    link_unref (link);
}

static gssize fd_result (gssize n, GError **error)
{
    if (n >= 0)
        return n;
    if (errno == EAGAIN || errno == EINTR)
        g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK, "");
    else
        error_set (error, BAK_ERROR_CONNECTION, "%s", g_strerror (errno));
    return -1;
}

/* More than any packet has are nobody's. */
static void link_keep_fds (Link *link, struct msghdr *message)
{
    for (struct cmsghdr *head = CMSG_FIRSTHDR (message); head; head = CMSG_NXTHDR (message, head)) {
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
            continue;
        guint count = (head->cmsg_len - CMSG_LEN (0)) / sizeof (int);
        for (guint i = 0; i < count; i++) {
            int fd;
            memcpy (&fd, CMSG_DATA (head) + i * sizeof fd, sizeof fd);
            if (link->n_in_fds < FRAME_FDS_MAX)
                link->in_fds[link->n_in_fds++] = fd;
            else
                close (fd);
        }
    }
}

static gssize link_receive (Link *link, guint8 *buffer, gsize size)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE (FRAME_FDS_MAX * sizeof (int))];
    } control;
    struct iovec data = { .iov_base = buffer, .iov_len = size };
    struct msghdr message = { .msg_iov = &data,
                              .msg_iovlen = 1,
                              .msg_control = control.bytes,
                              .msg_controllen = sizeof control.bytes };
    gssize n = recvmsg (link->in_fd, &message, MSG_CMSG_CLOEXEC);
    if (n >= 0 && message.msg_controllen > 0)
        link_keep_fds (link, &message);
    return n;
}

static gssize link_read (Link *link, guint8 *buffer, gsize size, GError **error)
{
    if (link->takes_fds)
        return fd_result (link_receive (link, buffer, size), error);
    if (link->stream)
        return g_pollable_input_stream_read_nonblocking (
            G_POLLABLE_INPUT_STREAM (g_io_stream_get_input_stream (link->stream)), buffer, size,
            NULL, error);
    return fd_result (read (link->in_fd, buffer, size), error);
}

static gssize link_write (Link *link, const guint8 *bytes, gsize size, GError **error)
{
    if (link->stream)
        return g_pollable_output_stream_write_nonblocking (
            G_POLLABLE_OUTPUT_STREAM (g_io_stream_get_output_stream (link->stream)), bytes, size,
            NULL, error);
    gssize n = send (link->out_fd, bytes, size, MSG_NOSIGNAL);
    if (n < 0 && errno == ENOTSOCK)
        n = write (link->out_fd, bytes, size);
    return fd_result (n, error);
}

/* The first of out, which is a single byte. */
static gssize link_write_fd (Link *link, const guint8 *byte, GError **error)
{
    int fd = GPOINTER_TO_INT (g_queue_peek_head (&link->out_fds)) - 1;
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE (sizeof fd)];
    } control = { 0 };
    struct iovec data = { .iov_base = (void *) byte, .iov_len = 1 };
    struct msghdr message = { .msg_iov = &data,
                              .msg_iovlen = 1,
                              .msg_control = control.bytes,
                              .msg_controllen = sizeof control.bytes };
    struct cmsghdr *head = CMSG_FIRSTHDR (&message);
    *head = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
                              .cmsg_type = SCM_RIGHTS,
                              .cmsg_len = CMSG_LEN (sizeof fd) };
    memcpy (CMSG_DATA (head), &fd, sizeof fd);
    gssize n = fd_result (sendmsg (link->out_fd, &message, MSG_NOSIGNAL), error);
    if (n == 1)
        close_passed (g_queue_pop_head (&link->out_fds));
    return n;
}

/* Hands packets on until there is none, or until somebody pauses or closes. */
static void link_deliver (Link *link)
{
    FrameHeader header;
    const guint8 *payload;
    gsize length;
    SplitResult result = SPLIT_MORE;

    if (link->delivering)
        return;
    link->delivering = TRUE;
    while (!link->closed && !link->paused
           && (result = splitter_next (&link->splitter, &header, &payload, &length))
                  == SPLIT_PACKET) {
        link->half_since = 0;
        link->funcs->packet (link, &header, payload, length, link->data);
        if (header.type == FRAME_CALL_FDS || header.type == FRAME_REPLY_FDS)
            link_drop_in_fds (link);
    }
    link->delivering = FALSE;
    if (!link->closed && result == SPLIT_BAD) {
        g_autoptr (GError) error =
            g_error_new (BAK_ERROR, BAK_ERROR_CONNECTION, _("a packet of impossible length came"));
        link_close (link, error);
    }
}

static void link_note_half (Link *link)
{
    gsize half = splitter_pending (&link->splitter);
    if (half == 0)
        link->half_since = 0;
    else if (link->half_since == 0)
        link->half_since = g_get_monotonic_time ();
    if (link->funcs->keeps)
        link->funcs->keeps (link, half, link->data);
}

static gboolean link_readable (int fd G_GNUC_UNUSED, GIOCondition condition G_GNUC_UNUSED,
                               gpointer data)
{
    Link *link = data;
    guint8 buffer[READ_SIZE];
    g_autoptr (GError) error = NULL;

    if (link->delivering) /* a loop within a packet's handler: what comes waits for its end */
        return G_SOURCE_CONTINUE;
    for (guint i = 0; i < READS_PER_TURN && !link->closed && !link->paused; i++) {
        gssize n = link_read (link, buffer, sizeof buffer, &error);
        if (n < 0) {
            if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
                break;
            link_close (link, error);
            break;
        }
        if (n == 0) {
            link_close (link, NULL);
            break;
        }
        link->last_input = g_get_monotonic_time ();
        splitter_feed (&link->splitter, buffer, n);
        link_deliver (link);
        if (!link->closed)
            link_note_half (link);
        if (splitter_pending (&link->splitter) == 0)
            link_drop_in_fds (link);
        if (n < (gssize) sizeof buffer && !link->stream)
            break;
    }
    return G_SOURCE_CONTINUE;
}

static gboolean stream_readable (GObject *stream, gpointer link)
{
    return link_readable (-1, G_IO_IN, link);
}

static void link_watch_in (Link *link)
{
    if (link->in_source || link->closed)
        return;
    if (link->stream) {
        link->in_source = g_pollable_input_stream_create_source (
            G_POLLABLE_INPUT_STREAM (g_io_stream_get_input_stream (link->stream)), NULL);
        g_source_set_callback (link->in_source, G_SOURCE_FUNC (stream_readable), link_ref (link),
                               (GDestroyNotify) link_unref);
    } else {
        link->in_source = g_unix_fd_source_new (link->in_fd, G_IO_IN | G_IO_HUP | G_IO_ERR);
        g_source_set_callback (link->in_source, G_SOURCE_FUNC (link_readable), link_ref (link),
                               (GDestroyNotify) link_unref);
    }
    /* else GLib wakes itself up twice for each dispatch */
    g_source_set_can_recurse (link->in_source, TRUE);
    g_source_attach (link->in_source, link->context);
}

void link_start (Link *link, guint32 max_packet, gpointer data)
{
    link->data = data;
    splitter_init (&link->splitter, max_packet);
    link_watch_in (link);
}

void link_set_max_packet (Link *link, guint32 max_packet)
{
    link->splitter.max = max_packet;
}

void link_pause (Link *link, gboolean pause)
{
    if (link->paused == pause || link->closed)
        return;
    link->paused = pause;
    if (pause) {
        source_drop (&link->in_source);
        return;
    }
    link->last_input = g_get_monotonic_time ();
    link->half_since = 0; /* while it was not read, nobody could finish it */
    link_watch_in (link);
    link_deliver (link);
    if (!link->closed)
        link_note_half (link);
}

/* With the lock held: gives the kernel what it takes. FALSE: the link is broken. */
static gboolean link_flush (Link *link, GError **error)
{
    GByteArray *packet;
    while ((packet = g_queue_peek_head (&link->out))) {
        gssize n = packet->len == 1 ? link_write_fd (link, packet->data, error)
                                    : link_write (link, packet->data + link->out_sent,
                                                  packet->len - link->out_sent, error);
        if (n < 0 && error && g_error_matches (*error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK)) {
            g_clear_error (error);
            return TRUE;
        }
        if (n < 0)
            return FALSE;
        link->last_output = g_get_monotonic_time ();
        link->out_sent += n;
        link->out_bytes -= n;
        if (link->out_sent == packet->len) {
            link->out_sent = 0;
            g_byte_array_unref (g_queue_pop_head (&link->out));
        }
    }
    return TRUE;
}

static gboolean link_writable (Link *link)
{
    g_autoptr (GError) error = NULL;
    g_mutex_lock (&link->lock);
    gboolean ok = link->shut || link_flush (link, &error);
    gboolean empty = g_queue_is_empty (&link->out), finishing = link->finishing;
    if (empty)
        source_drop (&link->out_source);
    g_mutex_unlock (&link->lock);
    if (!ok || (empty && finishing))
        link_close (link, error);
    else if (empty && link->funcs->drained && !link->closed)
        link->funcs->drained (link, link->data);
    return G_SOURCE_CONTINUE;
}

static gboolean fd_writable (int fd, GIOCondition condition, gpointer link)
{
    return link_writable (link);
}

static gboolean stream_writable (GObject *stream, gpointer link)
{
    return link_writable (link);
}

/* With the lock held. */
static void link_watch_out (Link *link)
{
    if (link->out_source || link->shut)
        return;
    if (link->stream) {
        link->out_source = g_pollable_output_stream_create_source (
            G_POLLABLE_OUTPUT_STREAM (g_io_stream_get_output_stream (link->stream)), NULL);
        g_source_set_callback (link->out_source, G_SOURCE_FUNC (stream_writable), link_ref (link),
                               (GDestroyNotify) link_unref);
    } else {
        link->out_source = g_unix_fd_source_new (link->out_fd, G_IO_OUT | G_IO_HUP | G_IO_ERR);
        g_source_set_callback (link->out_source, G_SOURCE_FUNC (fd_writable), link_ref (link),
                               (GDestroyNotify) link_unref);
    }
    g_source_attach (link->out_source, link->context);
}

/* A descriptor is written to at once by whoever sends; a TLS stream only by its own thread. A
 * broken link is noticed by the out source, on the link's context. */
gboolean link_send (Link *link, GByteArray *packet)
{
    return link_send_fds (link, packet, NULL, 0);
}

/* With the lock held. */
static void link_queue_fds (Link *link, const int *fds, guint n_fds)
{
    for (guint i = 0; i < n_fds; i++) {
        g_queue_push_tail (&link->out, g_byte_array_append (g_byte_array_new (), (guint8 *) "", 1));
        g_queue_push_tail (&link->out_fds,
                           GINT_TO_POINTER (fcntl (fds[i], F_DUPFD_CLOEXEC, 3) + 1));
    }
    link->out_bytes += n_fds;
}

gboolean link_send_fds (Link *link, GByteArray *packet, const int *fds, guint n_fds)
{
    g_autoptr (GError) error = NULL;
    g_mutex_lock (&link->lock);
    if (link->shut || link->finishing) {
        g_mutex_unlock (&link->lock);
        g_byte_array_unref (packet);
        return FALSE;
    }
    gboolean first = g_queue_is_empty (&link->out);
    g_queue_push_tail (&link->out, packet);
    link->out_bytes += packet->len;
    link_queue_fds (link, fds, n_fds);
    if (first && !link->stream)
        link_flush (link, &error);
    if (!g_queue_is_empty (&link->out))
        link_watch_out (link);
    g_mutex_unlock (&link->lock);
    return TRUE;
}

void link_accept_fds (Link *link)
{
    int domain = 0;
    socklen_t length = sizeof domain;
    link->takes_fds =
        getsockopt (link->in_fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_UNIX;
}

guint link_take_fds (Link *link, int *ret_fds)
{
    guint count = link->n_in_fds;
    memcpy (ret_fds, link->in_fds, count * sizeof *ret_fds);
    link->n_in_fds = 0;
    return count;
}

void link_finish (Link *link)
{
    g_mutex_lock (&link->lock);
    link->finishing = TRUE;
    gboolean empty = g_queue_is_empty (&link->out);
    g_mutex_unlock (&link->lock);
    if (empty)
        link_close (link, NULL);
}

gsize link_queued (Link *link)
{
    g_mutex_lock (&link->lock);
    gsize bytes = link->out_bytes;
    g_mutex_unlock (&link->lock);
    return bytes;
}

gsize link_half (Link *link)
{
    return splitter_pending (&link->splitter);
}

gint64 link_half_since (Link *link)
{
    return link->half_since;
}

gint64 link_last_input (Link *link)
{
    return link->last_input;
}

gint64 link_last_output (Link *link)
{
    g_mutex_lock (&link->lock);
    gint64 when = link->last_output;
    g_mutex_unlock (&link->lock);
    return when;
}

int link_fd (Link *link)
{
    return link->in_fd;
}

gboolean link_is_closed (Link *link)
{
    return link->closed;
}
