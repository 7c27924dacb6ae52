#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "exchange/qcow2.h"

enum {
    HEADER = 104,
    HEADER_V2 = 72,
    NAME_MAX_BYTES = 1023,
    CLUSTER_BITS_MIN = 9,
    CLUSTER_BITS_MAX = 21,
    L1_MAX = 32 * 1024 * 1024, /* bytes, as QEMU has it */
    CORRUPT = 1 << 1,
    DATA_FILE = 1 << 2,
    EXTENDED_L2 = 1 << 4,
    BACKING_FORMAT = 0xe2792aca,
};
#define OFFSET_MASK G_GUINT64_CONSTANT (0x00fffffffffffe00)
#define COMPRESSED (G_GUINT64_CONSTANT (1) << 62)
#define ZERO G_GUINT64_CONSTANT (1)

typedef struct {
    const char *path;
    int fd;
    guint64 file_size, size, features, l1_offset;
    guint cluster_bits;
    guint64 cluster;
    guint32 l1_entries;
} File;

static guint32 get32 (const guchar *at)
{
    guint32 value;
    memcpy (&value, at, sizeof value);
    return GUINT32_FROM_BE (value);
}

static guint64 get64 (const guchar *at)
{
    guint64 value;
    memcpy (&value, at, sizeof value);
    return GUINT64_FROM_BE (value);
}

static gboolean cut_off (const File *file, GError **error)
{
    return error_set (error, BAK_ERROR_INEXACT, _("'%s' is damaged: it is cut off"), file->path);
}

static gboolean damaged (const File *file, GError **error)
{
    return error_set (error, BAK_ERROR_INEXACT, _("'%s' is damaged: its header is none of qcow2"),
                      file->path);
}

static gboolean read_at (const File *file, guint64 offset, guchar *buffer, gsize length,
                         GError **error)
{
    if (offset > file->file_size || length > file->file_size - offset)
        return cut_off (file, error);
    while (length > 0) {
        ssize_t n = pread (file->fd, buffer, length, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno (error, errno, _("cannot read '%s'"), file->path);
        if (n == 0)
            return cut_off (file, error);
        buffer += n;
        offset += n;
        length -= n;
    }
    return TRUE;
}

/* Header */

static gboolean read_backing (const File *file, const guchar *head, guint32 header_length,
                              Qcow2 *image, GError **error)
{
    guint64 offset = get64 (head + 8);
    guint32 length = get32 (head + 16);
    guchar name[NAME_MAX_BYTES + 1] = { 0 }, extension[8];
    if (offset == 0)
        return TRUE;
    if (length == 0 || length > NAME_MAX_BYTES || offset > file->cluster)
        return damaged (file, error);
    if (!read_at (file, offset, name, length, error))
        return FALSE;
    image->backing = g_strdup ((char *) name);
    for (guint64 at = header_length; at + sizeof extension <= offset;) {
        if (!read_at (file, at, extension, sizeof extension, error))
            return FALSE;
        guint32 kind = get32 (extension), size = get32 (extension + 4);
        if (kind == 0 || size > offset - at)
            break;
        if (kind == BACKING_FORMAT && size < 32) {
            guchar text[32] = { 0 };
            if (!read_at (file, at + sizeof extension, text, size, error))
                return FALSE;
            image->backing_format = g_strdup ((char *) text);
        }
        at += sizeof extension + (size + 7) / 8 * 8;
    }
    return TRUE;
}

static gboolean check_header (File *file, const guchar *head, guint32 version, GError **error)
{
    file->cluster_bits = get32 (head + 20);
    file->size = get64 (head + 24);
    file->l1_entries = get32 (head + 36);
    file->l1_offset = get64 (head + 40);
    file->features = version >= 3 ? get64 (head + 72) : 0;
    if ((version != 2 && version != 3) || file->cluster_bits < CLUSTER_BITS_MIN
        || file->cluster_bits > CLUSTER_BITS_MAX || file->size > G_MAXINT64
        || file->l1_entries > L1_MAX / 8)
        return damaged (file, error);
    file->cluster = G_GUINT64_CONSTANT (1) << file->cluster_bits;
    if (file->features & CORRUPT)
        return error_set (error, BAK_ERROR_INEXACT, _("'%s' is marked as corrupt"), file->path);
    return !(file->features & DATA_FILE)
           || error_set (error, BAK_ERROR_NOT_SUPPORTED,
                         _("'%s' has its data in another file: convert it to one that has not"),
                         file->path);
}

/* Is all that its tables point to within the file? */

/* subclusters: the bits of those that are allocated; 0: there are none in this image. */
static gboolean check_entry (const File *file, guint64 entry, guint32 subclusters, GError **error)
{
    guint64 offset = entry & OFFSET_MASK, end;
    if (entry & COMPRESSED) {
        guint shift = 62 - (file->cluster_bits - 8);
        guint64 sectors = (entry & (COMPRESSED - 1)) >> shift;
        offset = entry & ((G_GUINT64_CONSTANT (1) << shift) - 1);
        /* the last sector may be begun only */
        end = offset / 512 * 512 + sectors * 512 + 1;
    } else if (offset == 0 || entry & ZERO) {
        return TRUE;
    } else if (file->features & EXTENDED_L2) {
        guint count = subclusters ? 32 - __builtin_clz (subclusters) : 0;
        end = count ? offset + file->cluster / 32 * count : 0;
    } else {
        end = offset + file->cluster;
    }
    return end <= file->file_size || cut_off (file, error);
}

static gboolean check_tables (const File *file, GError **error)
{
    gsize step = file->features & EXTENDED_L2 ? 16 : 8, length = file->l1_entries * 8;
    g_autofree guchar *l1 = g_malloc (length), *l2 = g_malloc (file->cluster);
    if (!read_at (file, file->l1_offset, l1, length, error))
        return FALSE;
    for (guint i = 0; i < file->l1_entries; i++) {
        guint64 table = get64 (l1 + 8 * i) & OFFSET_MASK;
        if (table == 0)
            continue;
        if (!read_at (file, table, l2, file->cluster, error))
            return FALSE;
        for (gsize at = 0; at + step <= file->cluster; at += step)
            if (!check_entry (file, get64 (l2 + at), step == 16 ? get64 (l2 + at + 8) : 0, error))
                return FALSE;
    }
    return TRUE;
}

static gboolean read_image (File *file, Qcow2 *image, GError **error)
{
    static const guchar magic[4] = { 'Q', 'F', 'I', 0xfb };
    guchar head[HEADER] = { 0 };
    if (file->file_size < sizeof magic || !read_at (file, 0, head, sizeof magic, NULL)
        || memcmp (head, magic, sizeof magic) != 0)
        return FALSE;
    if (!read_at (file, 0, head, HEADER_V2, error))
        return FALSE;
    guint32 version = get32 (head + 4), header_length = HEADER_V2;
    if (version >= 3) {
        if (!read_at (file, 0, head, HEADER, error))
            return FALSE;
        header_length = get32 (head + 100);
    }
    if (!check_header (file, head, version, error)
        || !read_backing (file, head, header_length, image, error))
        return FALSE;
    image->size = file->size;
    return check_tables (file, error);
}

gboolean qcow2_read (const char *path, Qcow2 *ret_image, GError **error)
{
    g_auto (Qcow2) image = { 0 };
    struct stat st;
    File file = { .path = path, .fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) };
    if (file.fd < 0)
        return error_set_errno (error, errno, _("cannot open '%s'"), path);
    gboolean ok = fstat (file.fd, &st) == 0 && S_ISREG (st.st_mode);
    file.file_size = st.st_size;
    ok = ok && read_image (&file, &image, error);
    close (file.fd);
    if (!ok)
        return FALSE;
    *ret_image = image;
    image = (Qcow2){ 0 };
    return TRUE;
}

void qcow2_clear (Qcow2 *image)
{
    g_clear_pointer (&image->backing, g_free);
    g_clear_pointer (&image->backing_format, g_free);
}
