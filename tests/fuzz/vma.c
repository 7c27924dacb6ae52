/* Archives, damaged or forged: read or refused; what is told of lies within the devices, and what
 * is read is written and read again to the same. Checksums are mended first, else nothing behind
 * them would ever be reached. */
#include "fuzz.h"
#include "exchange/vma-format.h"

enum { SIZE_MAX_HERE = 4 * 1024 * 1024 };

typedef struct {
    const guint8 *bytes;
    gsize length, at;
    const VmaHeader *header;
    VmaWriter *again;
    GByteArray *written;
    guchar *disks[VMA_DEVICES + 1];
} Archive;

static gssize take (gpointer buffer, gsize length, gpointer user, GError **error)
{
    Archive *archive = user;
    gsize part = MIN (length, archive->length - archive->at);
    memcpy (buffer, archive->bytes + archive->at, part);
    archive->at += part;
    return part;
}

static gboolean begin (const VmaHeader *header, gpointer user, GError **error)
{
    Archive *archive = user;
    archive->header = header;
    for (guint i = 1; i <= VMA_DEVICES; i++) {
        if (!header->devices[i].name)
            continue;
        MUST (vma_name_is_safe (header->devices[i].name) && header->devices[i].size > 0);
        if (header->devices[i].size > SIZE_MAX_HERE)
            return error_set (error, BAK_ERROR_NOT_SUPPORTED, "too large for a test");
        archive->disks[i] = g_malloc0 (header->devices[i].size);
    }
    for (guint i = 0; i < header->configs->len; i++)
        MUST (vma_name_is_safe (((VmaConfig *) header->configs->pdata[i])->name));
    return TRUE;
}

static gboolean take_data (guint device, guint64 offset, const guchar *data, gsize length,
                           gpointer user, GError **error)
{
    Archive *archive = user;
    const VmaDevice *there = &archive->header->devices[device];
    MUST (there->name && length > 0 && offset < there->size && length <= there->size - offset);
    memcpy (archive->disks[device] + offset, data, length);
    return TRUE;
}

static gboolean put (gconstpointer data, gsize length, gpointer user, GError **error)
{
    g_byte_array_append (((Archive *) user)->written, data, length);
    return TRUE;
}

/* The header is gone when the reader returns: what was read is written from within its last call.
 */
static gboolean progress (guint64 done, guint64 total, gpointer user, GError **error)
{
    Archive *archive = user;
    MUST (done <= total);
    if (done < total || archive->written->len)
        return TRUE;
    archive->again = vma_writer_new (archive->header, put, archive, error);
    if (!archive->again)
        return FALSE;
    for (guint i = 1; i <= VMA_DEVICES; i++)
        for (guint64 j = 0; j < vma_clusters (archive->header->devices[i].size); j++)
            MUST (vma_writer_cluster (archive->again, i, j, archive->disks[i] + j * VMA_CLUSTER,
                                      NULL));
    MUST (vma_writer_end (archive->again, NULL));
    vma_writer_free (archive->again);
    return TRUE;
}

static void mend (guint8 *bytes, gsize length)
{
    guchar md5[VMA_MD5];
    if (length < VMA_HEADER_MIN)
        return;
    gsize size = (gsize) bytes[56] << 24 | bytes[57] << 16 | bytes[58] << 8 | bytes[59];
    if (size < VMA_HEADER_MIN || size > length)
        return;
    vma_md5 (bytes, size, VMA_AT_MD5, md5);
    memcpy (bytes + VMA_AT_MD5, md5, sizeof md5);
    for (gsize at = size; at + VMA_EXTENT <= length;) {
        vma_md5 (bytes + at, VMA_EXTENT, VMA_EXTENT_AT_MD5, md5);
        memcpy (bytes + at + VMA_EXTENT_AT_MD5, md5, sizeof md5);
        at += VMA_EXTENT + (bytes[at + 6] << 8 | bytes[at + 7]) * (gsize) VMA_BLOCK;
    }
}

static gboolean read_one (Archive *archive, const guint8 *bytes, gsize length, GError **error)
{
    static const VmaHandler handler = { take, begin, take_data, progress };
    archive->bytes = bytes;
    archive->length = length;
    archive->written = g_byte_array_new ();
    return vma_read (&handler, archive, error);
}

static void clear (Archive *archive)
{
    for (guint i = 1; i <= VMA_DEVICES; i++)
        g_free (archive->disks[i]);
    g_byte_array_unref (archive->written);
}

void fuzz_one (const guint8 *bytes, gsize length)
{
    g_autoptr (GError) error = NULL;
    g_autofree guint8 *mended = g_memdup2 (bytes, length);
    Archive archive = { 0 }, again = { 0 };
    mend (mended, length);
    gboolean ok = read_one (&archive, mended, length, &error);
    fuzz_error_check (ok, error);
    if (ok && archive.written->len) {
        MUST (read_one (&again, archive.written->data, archive.written->len, NULL));
        MUST (again.written->len == archive.written->len
              && memcmp (again.written->data, archive.written->data, again.written->len) == 0);
        clear (&again);
    }
    clear (&archive);
}
