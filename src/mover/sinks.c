#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "mover/mover.h"

void sink_free (Sink *sink)
{
    if (sink)
        sink->free (sink);
}

/* Raw */

typedef struct {
    Sink sink;
    int fd;
    guint64 size;
    gboolean blank, device;
} RawSink;

static gboolean write_at (int fd, const guchar *data, guint64 length, guint64 offset,
                          GError **error)
{
    while (length > 0) {
        ssize_t n = pwrite (fd, data, length, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_set_errno (error, n < 0 ? errno : EIO,
                                    _("cannot write at byte %" G_GUINT64_FORMAT), offset);
        data += n;
        length -= n;
        offset += n;
    }
    return TRUE;
}

static gboolean write_zeros (RawSink *raw, guint64 offset, guint64 length, GError **error)
{
    static const guchar zeros[LEAF_SIZE];
    guint64 range[2] = { offset, length };
    gboolean done =
        raw->device
            ? ioctl (raw->fd, BLKZEROOUT, range) == 0
            : fallocate (raw->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) == 0;

    while (!done && length > 0) {
        guint64 part = MIN (length, (guint64) sizeof zeros);
        if (!write_at (raw->fd, zeros, part, offset, error))
            return FALSE;
        offset += part;
        length -= part;
    }
    return TRUE;
}

static gboolean raw_write (Sink *sink, MoverChunk *chunk, GError **error)
{
    RawSink *raw = (RawSink *) sink;

    if (chunk->data)
        return write_at (raw->fd, chunk->data, chunk->length, chunk->offset, error);
    return raw->blank || write_zeros (raw, chunk->offset, chunk->length, error);
}

static gboolean raw_finish (Sink *sink, GError **error)
{
    RawSink *raw = (RawSink *) sink;

    return fsync (raw->fd) == 0 || error_set_errno (error, errno, _("cannot sync"));
}

static void raw_free (Sink *sink)
{
    g_free (sink);
}

Sink *sink_raw_new (int fd, guint64 size, gboolean blank)
{
    RawSink *raw = g_new0 (RawSink, 1);
    struct stat st;

    raw->sink = (Sink){ raw_write, raw_finish, raw_free, -1 };
    raw->fd = fd;
    raw->size = size;
    raw->blank = blank;
    raw->device = fstat (fd, &st) == 0 && S_ISBLK (st.st_mode);
    return &raw->sink;
}

/* A function */

typedef struct {
    Sink sink;
    SinkFunction function;
    gpointer data;
} CallbackSink;

static gboolean callback_write (Sink *sink, MoverChunk *chunk, GError **error)
{
    CallbackSink *callback = (CallbackSink *) sink;

    return callback->function (chunk, callback->data, error);
}

static gboolean callback_finish (Sink *sink, GError **error)
{
    return TRUE;
}

Sink *sink_callback_new (SinkFunction function, gpointer data)
{
    CallbackSink *callback = g_new0 (CallbackSink, 1);

    callback->sink = (Sink){ callback_write, callback_finish, raw_free, -1 };
    callback->function = function;
    callback->data = data;
    return &callback->sink;
}
