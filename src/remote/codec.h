/* The one caller of libtirpc: structs of rpcgen to bytes and back. A generator of our own could
 * replace it here.
 *
 * Decoding never costs more than one array or string beyond the bytes that came, because every <>
 * in our .x files has a limit. Trailing bytes, any padding and any non-zero "present" word are
 * accepted (old clients send them); text with a NUL in it or that is not UTF-8 is refused. */
#pragma once
#include "util/error.h"

/* xdrproc_t with the types written out, as in CallRow. */
typedef gboolean (*CodecFunc) (void *xdrs, void *data);
#define CODEC(type)                                                                                \
    static gboolean codec_##type (void *xdrs, void *data)                                          \
    {                                                                                              \
        return xdr_##type (xdrs, data);                                                            \
    }

/* Appends to out, which may grow up to max bytes. BAK_ERROR_INVALID_ARGUMENT: data exceed a limit
 * of the protocol. */
gboolean codec_encode (CodecFunc codec, const void *data, GByteArray *out, gsize max,
                       GError **error);
/* ret: zeroed by the caller and zeroed again on FALSE. BAK_ERROR_INVALID_ARGUMENT: bad text;
 * BAK_ERROR_CONNECTION: the payload is not what the codec wants. */
gboolean codec_decode (CodecFunc codec, const guint8 *bytes, gsize length, void *ret, gsize size,
                       GError **error);
void codec_clear (CodecFunc codec, void *data, gsize size);
