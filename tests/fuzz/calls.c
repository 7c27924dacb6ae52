/* Arguments and results of every call of our own program, as they come from a peer: the first byte picks the row. What is
 * decoded is encoded again, and then decodes and encodes to the same bytes. */
#include "driver/driver.h"
#include "fuzz.h"
#include "remote/codec.h"

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

void fuzz_one (const guint8 *bytes, gsize length)
{
    if (length < 1)
        return;
    const CallRow *row = &call_rows[bytes[0] % CALL_COUNT];
    fuzz_codec (row->args_codec, row->args_size, bytes + 1, length - 1);
    fuzz_codec (row->ret_codec, row->ret_size, bytes + 1, length - 1);
}
