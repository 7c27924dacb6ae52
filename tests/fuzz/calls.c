/* Arguments and results of every call of both programs, their messages and errors, as they come
 * from a peer: the first byte picks the row. What is decoded is encoded again, and then decodes and
 * encodes to the same bytes. */
#include <rpc/rpc.h>
#include "driver/driver.h"
#include "fuzz.h"
#include "remote/codec.h"
#include "remote/error-map.h"
#include "remote/peer.h"

enum { MAX = 1 << 22 };

static void fuzz_codec (CodecFunc codec, gsize size, const guint8 *bytes, gsize length)
{
    g_autofree void *value = g_malloc0 (size), *again = g_malloc0 (size);
    g_autoptr (GByteArray) once = g_byte_array_new (), twice = g_byte_array_new ();
    g_autoptr (GError) error = NULL;
    gboolean ok = codec_decode (codec, bytes, length, value, size, &error);

    fuzz_error_check (ok, error);
    if (!ok)
        return;
    MUST (codec_encode (codec, value, once, MAX, NULL));
    MUST (codec_decode (codec, once->data, once->len, again, size, NULL));
    MUST (codec_encode (codec, again, twice, MAX, NULL));
    MUST (once->len == twice->len && memcmp (once->data, twice->data, once->len) == 0);
    codec_clear (codec, value, size);
    codec_clear (codec, again, size);
}

CODEC (rpc_error)
CODEC (rpc_lifecycle_msg)
CODEC (rpc_block_job_msg)
CODEC (rpc_job_completed_msg)
CODEC (bak_event_msg)

#define MESSAGE(type)                                                                              \
    {                                                                                              \
        codec_##type, sizeof (type)                                                                \
    }
static const struct {
    CodecFunc codec;
    gsize size;
} messages[] = {
    MESSAGE (rpc_error),         MESSAGE (rpc_lifecycle_msg),
    MESSAGE (rpc_block_job_msg), MESSAGE (rpc_job_completed_msg),
    MESSAGE (bak_event_msg),
};

/* An error of the peer's becomes one of ours, whatever is in it. */
static void fuzz_error (const guint8 *bytes, gsize length)
{
    rpc_error wire = { 0 };
    g_autoptr (GError) error = NULL;
    if (!codec_decode (codec_rpc_error, bytes, length, &wire, sizeof wire, NULL))
        return;
    MUST (!rpc_error_to (&wire, &error));
    MUST (error && error->domain == BAK_ERROR && error->code > BAK_ERROR_NONE);
    rpc_error_is_unknown_program (&wire);
    codec_clear (codec_rpc_error, &wire, sizeof wire);
}

/* 0 to 99: our own program; to 199: libvirt's; the rest: messages. */
void fuzz_one (const guint8 *bytes, gsize length)
{
    if (length < 1)
        return;
    guint pick = bytes[0] % 100;
    bytes++;
    length--;
    if (bytes[-1] < 100) {
        const CallRow *row = &call_rows[pick % CALL_COUNT];
        fuzz_codec (row->args_codec, row->args_size, bytes, length);
        fuzz_codec (row->ret_codec, row->ret_size, bytes, length);
    } else if (bytes[-1] < 200) {
        const Procedure *row = &program_libvirt.rows[pick % program_libvirt.count];
        if (row->args_codec)
            fuzz_codec (row->args_codec, row->args_size, bytes, length);
        if (row->ret_codec)
            fuzz_codec (row->ret_codec, row->ret_size, bytes, length);
    } else {
        guint i = pick % G_N_ELEMENTS (messages);
        fuzz_codec (messages[i].codec, messages[i].size, bytes, length);
        fuzz_error (bytes, length);
    }
}
