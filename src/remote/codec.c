#include <rpc/rpc.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include "remote/codec.h"

typedef struct {
    GByteArray *out; /* encoding */
    gsize max;
    const guint8 *bytes; /* decoding */
    gsize length, position;
    guint32 last_word; /* and where it ended: bytes that follow their own count are text */
    gsize last_word_end;
    gboolean bad_text;
} Stream;

static Stream *stream_of (XDR *xdrs)
{
    return (Stream *) xdrs->x_private;
}

static bool_t get_bytes (XDR *xdrs, char *to, u_int count)
{
    Stream *stream = stream_of (xdrs);
    if (count > stream->length - stream->position)
        return FALSE;
    memcpy (to, stream->bytes + stream->position, count);
    if (stream->last_word_end == stream->position && stream->last_word == count
        && !g_utf8_validate_len (to, count, NULL))
        stream->bad_text = TRUE;
    stream->position += count;
    return TRUE;
}

static bool_t get_long (XDR *xdrs, long *ret)
{
    Stream *stream = stream_of (xdrs);
    guint32 word;
    if (stream->length - stream->position < 4)
        return FALSE;
    memcpy (&word, stream->bytes + stream->position, 4);
    stream->position += 4;
    stream->last_word = GUINT32_FROM_BE (word);
    stream->last_word_end = stream->position;
    *ret = (gint32) stream->last_word;
    return TRUE;
}

static bool_t put_bytes (XDR *xdrs, const char *from, u_int count)
{
    Stream *stream = stream_of (xdrs);
    if (stream->out->len > stream->max || count > stream->max - stream->out->len)
        return FALSE;
    g_byte_array_append (stream->out, (const guint8 *) from, count);
    return TRUE;
}

static bool_t put_long (XDR *xdrs, const long *value)
{
    guint32 word = GUINT32_TO_BE ((guint32) *value);
    return put_bytes (xdrs, (const char *) &word, 4);
}

static u_int get_position (XDR *xdrs)
{
    Stream *stream = stream_of (xdrs);
    return stream->out ? stream->out->len : stream->position;
}

static bool_t set_position (XDR *xdrs, u_int position)
{
    return FALSE;
}

static int32_t *no_inline (XDR *xdrs, u_int length)
{
    return NULL;
}

static const struct xdr_ops stream_ops = {
    .x_getlong = get_long,
    .x_putlong = put_long,
    .x_getbytes = get_bytes,
    .x_putbytes = put_bytes,
    .x_getpostn = get_position,
    .x_setpostn = set_position,
    .x_inline = no_inline,
};

static gboolean run (CodecFunc codec, enum xdr_op op, Stream *stream, void *data)
{
    XDR xdrs = { .x_op = op, .x_ops = (struct xdr_ops *) &stream_ops, .x_private = stream };
    return codec (&xdrs, data);
}

gboolean codec_encode (CodecFunc codec, const void *data, GByteArray *out, gsize max,
                       GError **error)
{
    Stream stream = { .out = out, .max = max };
    guint before = out->len;
    if (run (codec, XDR_ENCODE, &stream, (void *) data))
        return TRUE;
    g_byte_array_set_size (out, before);
    return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                      _("a text or list is longer than the protocol can carry"));
}

void codec_clear (CodecFunc codec, void *data, gsize size)
{
    Stream stream = { 0 };
    run (codec, XDR_FREE, &stream, data);
    memset (data, 0, size);
}

gboolean codec_decode (CodecFunc codec, const guint8 *bytes, gsize length, void *ret, gsize size,
                       GError **error)
{
    Stream stream = { .bytes = bytes, .length = length, .last_word_end = G_MAXSIZE };
    gboolean ok = run (codec, XDR_DECODE, &stream, ret);
    if (ok && !stream.bad_text)
        return TRUE;
    codec_clear (codec, ret, size);
    if (ok)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("a text is not UTF-8 or has a NUL byte in it"));
    return error_set (error, BAK_ERROR_CONNECTION, _("Unable to decode message payload"));
}
