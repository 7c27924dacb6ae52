#include <errno.h>
#include <fcntl.h>
#include <lz4frame.h>
#include <string.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <zstd.h>
#include "exchange/unpack.h"
#include "util/error.h"
#include "util/library.h"

#define ZSTD_SONAME "libzstd.so.1"
#define LZ4_SONAME "liblz4.so.1"
LIBRARY_NOTE (zstd_note, ZSTD_SONAME, "zstd", "import of packed archives");
LIBRARY_NOTE (lz4_note, LZ4_SONAME, "lz4", "import of packed backups of virtnbdbackup");

enum { BUFFER = 256 * 1024, PEEK_MAX = 16 };

/* clang-format off */
#define ZSTD(F) F (createDStream) F (freeDStream) F (decompressStream) F (isError) F (getErrorName)
#define LZ4(F) F (createDecompressionContext) F (freeDecompressionContext) F (decompress) F (isError) \
    F (getErrorName)
/* clang-format on */

static struct {
#define DECLARE(name) __typeof__ (&ZSTD_##name) name;
    ZSTD (DECLARE)
#undef DECLARE
} zstd;

static struct {
#define DECLARE(name) __typeof__ (&LZ4F_##name) name;
    LZ4 (DECLARE)
#undef DECLARE
} lz4;

static gboolean load_zstd (GError **error)
{
#define SYMBOL(name) { "ZSTD_" #name, (gpointer *) &zstd.name },
    static const LibrarySymbol symbols[] = { ZSTD (SYMBOL) };
#undef SYMBOL
    static Library library = { ZSTD_SONAME, symbols, G_N_ELEMENTS (symbols), FALSE };
    return library_load (&library, error) || error_note (error, _("the archive is packed"));
}

static gboolean load_lz4 (GError **error)
{
#define SYMBOL(name) { "LZ4F_" #name, (gpointer *) &lz4.name },
    static const LibrarySymbol symbols[] = { LZ4 (SYMBOL) };
#undef SYMBOL
    static Library library = { LZ4_SONAME, symbols, G_N_ELEMENTS (symbols), FALSE };
    return library_load (&library, error) || error_note (error, _("the data is packed"));
}

/* A stream */

struct _Input {
    int fd;
    gboolean at_end;
    guchar buffer[BUFFER]; /* as it lies in the file */
    gsize start, end;
    ZSTD_DStream *stream; /* NULL: not packed */
    gboolean in_frame;    /* a frame is begun and not ended */
    Hasher *hasher;
    guint64 length;
};

/* More of the file, when there is nothing left of it. */
static gboolean fill (Input *input, GError **error)
{
    while (input->start == input->end && !input->at_end) {
        ssize_t n = read (input->fd, input->buffer, BUFFER);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno (error, errno, _("cannot read the input"));
        input->at_end = n == 0;
        input->start = 0;
        input->end = n;
        input->length += n;
        if (n > 0)
            hasher_update (input->hasher, input->buffer, n);
    }
    return TRUE;
}

/* The first bytes, though they come one by one. */
static gboolean fill_start (Input *input, GError **error)
{
    while (input->end < PEEK_MAX && !input->at_end) {
        ssize_t n = read (input->fd, input->buffer + input->end, BUFFER - input->end);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno (error, errno, _("cannot read the input"));
        input->at_end = n == 0;
        if (n > 0)
            hasher_update (input->hasher, input->buffer + input->end, n);
        input->end += n;
        input->length += n;
    }
    return TRUE;
}

Input *input_open (const char *path, GError **error)
{
    static const guchar zstd_magic[] = { 0x28, 0xb5, 0x2f, 0xfd };
    g_autoptr (Input) input = g_new0 (Input, 1);
    gboolean standard = g_str_equal (path, "-");

    input->fd =
        standard ? fcntl (STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open (path, O_RDONLY | O_CLOEXEC);
    if (input->fd < 0) {
        error_set_errno (error, errno, _("cannot open '%s'"), path);
        return NULL;
    }
    if (!(input->hasher = hasher_new (error)) || !fill_start (input, error))
        return NULL;
    if (input->end < sizeof zstd_magic
        || memcmp (input->buffer, zstd_magic, sizeof zstd_magic) != 0)
        return g_steal_pointer (&input);
    if (!load_zstd (error))
        return NULL;
    input->stream = zstd.createDStream ();
    return g_steal_pointer (&input);
}

static gssize read_plain (Input *input, gpointer buffer, gsize length, GError **error)
{
    if (!fill (input, error))
        return -1;
    gsize part = MIN (length, input->end - input->start);
    memcpy (buffer, input->buffer + input->start, part);
    input->start += part;
    return part;
}

static gssize read_packed (Input *input, gpointer buffer, gsize length, GError **error)
{
    ZSTD_outBuffer out = { buffer, length, 0 };

    while (out.pos == 0) {
        if (!fill (input, error))
            return -1;
        if (input->start == input->end && !input->in_frame)
            return 0;
        gboolean cut = input->start == input->end;
        ZSTD_inBuffer in = { input->buffer, input->end, input->start };
        gsize ret = zstd.decompressStream (input->stream, &out, &in);
        input->start = in.pos;
        if (zstd.isError (ret)) {
            error_set (error, BAK_ERROR_INEXACT, _("the packed archive is damaged: %s"),
                       zstd.getErrorName (ret));
            return -1;
        }
        input->in_frame = ret != 0;
        if (cut && out.pos == 0 && input->in_frame) {
            error_set (error, BAK_ERROR_INEXACT, _("the packed archive is cut off"));
            return -1;
        }
    }
    return out.pos;
}

gssize input_read (Input *input, gpointer buffer, gsize length, GError **error)
{
    return input->stream ? read_packed (input, buffer, length, error)
                         : read_plain (input, buffer, length, error);
}

void input_digest (Input *input, LeafHash *ret_hash, guint64 *ret_length)
{
    hasher_end (input->hasher, ret_hash);
    *ret_length = input->length;
}

void input_free (Input *input)
{
    if (!input)
        return;
    if (input->stream)
        zstd.freeDStream (input->stream);
    if (input->fd >= 0)
        close (input->fd);
    hasher_free (input->hasher);
    g_free (input);
}

/* LZ4 */

gboolean unpack_lz4 (const guchar *packed, gsize packed_length, guchar *ret_data, gsize *length,
                     GError **error)
{
    LZ4F_dctx *context = NULL;
    gsize taken = 0, made = 0, ret = 1;

    if (!load_lz4 (error))
        return FALSE;
    if (lz4.isError (lz4.createDecompressionContext (&context, LZ4F_VERSION)))
        return error_set (error, BAK_ERROR_INTERNAL, _("no memory to unpack"));
    while (taken < packed_length) {
        gsize in = packed_length - taken, out = *length - made;
        ret = lz4.decompress (context, ret_data + made, &out, packed + taken, &in, NULL);
        if (lz4.isError (ret) || (in == 0 && out == 0))
            break;
        taken += in;
        made += out;
    }
    lz4.freeDecompressionContext (context);
    if (lz4.isError (ret))
        return error_set (error, BAK_ERROR_INEXACT, _("packed data is damaged: %s"),
                          lz4.getErrorName (ret));
    *length = made;
    return (ret == 0 && taken == packed_length)
           || error_set (error, BAK_ERROR_INEXACT,
                         _("packed data is damaged: it has another length than was said"));
}
