#include <string.h>
#include <glib/gi18n-lib.h>
#include "exchange/vma-format.h"

typedef struct {
    const VmaHandler *handler;
    gpointer user;
    VmaHeader *header;
    VmaMap map;
    guint64 at; /* of the archive, for messages */
    guchar blocks[VMA_CLUSTER];
} Reader;

static guint16 get16 (const guchar *at)
{
    guint16 value;
    memcpy (&value, at, sizeof value);
    return GUINT16_FROM_BE (value);
}

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

static gboolean is_zero (const guchar *data, gsize length)
{
    return length == 0 || (data[0] == 0 && memcmp (data, data + 1, length - 1) == 0);
}

/* Input */

/* All of it, or as much as there is; -1: *error. */
static gssize take (Reader *reader, guchar *buffer, gsize length, GError **error)
{
    gsize got = 0;
    while (got < length) {
        gssize n = reader->handler->read (buffer + got, length - got, reader->user, error);
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        got += n;
    }
    reader->at += got;
    return got;
}

static gboolean take_all (Reader *reader, guchar *buffer, gsize length, GError **error)
{
    gssize got = take (reader, buffer, length, error);
    if (got < 0)
        return FALSE;
    return (gsize) got == length
           || error_set (error, BAK_ERROR_INEXACT,
                         _("the archive is cut off: it ends at byte %" G_GUINT64_FORMAT),
                         reader->at);
}

/* Header */

/* A blob of the area; NULL: *error. */
static const guchar *find_blob (const guchar *head, guint32 at, guint16 *ret_length, GError **error)
{
    guint32 used = get32 (head + VMA_AT_BLOB_SIZE);
    const guchar *area = head + get32 (head + VMA_AT_BLOB_OFFSET);
    guint16 little;
    gboolean fits = at > 0 && at < used && used - at >= sizeof little;
    if (fits) {
        memcpy (&little, area + at, sizeof little);
        *ret_length = GUINT16_FROM_LE (little);
        fits = *ret_length <= used - at - sizeof little;
    }
    if (!fits)
        error_set (error, BAK_ERROR_INEXACT,
                   _("the header is damaged: a name or configuration stands outside of its area"));
    return fits ? area + at + sizeof little : NULL;
}

static char *read_name (const guchar *head, guint32 at, GError **error)
{
    guint16 length;
    const guchar *blob = find_blob (head, at, &length, error);
    if (!blob)
        return NULL;
    const char *name = (const char *) blob;
    gboolean whole = length > 0 && memchr (blob, 0, length) == blob + length - 1;
    if (whole && vma_name_is_safe (name))
        return g_strdup (name);
    g_autofree char *raw = g_strndup (name, length);
    g_autofree char *shown = text_sanitize (raw, 128);
    error_set (error, BAK_ERROR_INEXACT,
               _("the archive names '%s', which cannot be the name of a file or a disk"), shown);
    return NULL;
}

static gboolean read_configs (VmaHeader *header, const guchar *head, GError **error)
{
    for (guint i = 0; i < VMA_CONFIGS; i++) {
        guint32 name_at = get32 (head + VMA_AT_CONFIG_NAMES + 4 * i);
        guint32 data_at = get32 (head + VMA_AT_CONFIG_DATA + 4 * i);
        guint16 length;
        if (!name_at && !data_at)
            continue;
        g_autofree char *name = read_name (head, name_at, error);
        const guchar *data = name ? find_blob (head, data_at, &length, error) : NULL;
        if (!data)
            return FALSE;
        vma_header_add_config (header, name, data, length);
    }
    return TRUE;
}

static gboolean read_device (VmaHeader *header, const guchar *row, guint number, GError **error)
{
    VmaDevice *device = &header->devices[number];
    device->size = get64 (row + 8);
    if (device->size == 0 || device->size % 512 != 0 || vma_clusters (device->size) > G_MAXUINT32)
        return error_set (
            error, BAK_ERROR_INEXACT,
            _("device '%s' has %" G_GUINT64_FORMAT " bytes, which is no size of a disk"),
            device->name, device->size);
    for (guint i = 1; i < number; i++)
        if (g_strcmp0 (header->devices[i].name, device->name) == 0)
            return error_set (error, BAK_ERROR_INEXACT, _("two devices are called '%s'"),
                              device->name);
    if (g_str_equal (device->name, "vmstate"))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("the archive holds the memory of a running guest, which is not "
                             "imported: make one of its disks alone"));
    return TRUE;
}

static gboolean read_devices (VmaHeader *header, const guchar *head, GError **error)
{
    guint64 clusters = 0;
    for (guint i = 0; i < 256; i++) {
        const guchar *row = head + VMA_AT_DEVICES + VMA_DEVICE_SIZE * i;
        if (is_zero (row, VMA_DEVICE_SIZE))
            continue;
        if (i == 0 || i > VMA_DEVICES || get32 (row + 4) != 0 || !is_zero (row + 16, 16))
            return error_set (error, BAK_ERROR_INEXACT,
                              _("the header is damaged: device number %u is none"), i);
        if (!(header->devices[i].name = read_name (head, get32 (row), error))
            || !read_device (header, row, i, error))
            return FALSE;
        clusters += vma_clusters (header->devices[i].size);
        /* a bit each is kept of them: this is half a gigabyte */
        if (clusters > G_MAXUINT32)
            return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                              _("its devices are larger than 256 TiB together"));
    }
    return TRUE;
}

/* Bytes that say nothing must say nothing: what is in them was put there by something that is not
 * known here. */
static gboolean check_reserved (const guchar *head, GError **error)
{
    return (is_zero (head + VMA_AT_RESERVED, VMA_AT_CONFIG_NAMES - VMA_AT_RESERVED)
            && is_zero (head + VMA_AT_RESERVED_2, VMA_AT_DEVICES - VMA_AT_RESERVED_2))
           || error_set (error, BAK_ERROR_INEXACT,
                         _("the header is damaged: bytes that are reserved are used"));
}

static gboolean check_start (const guchar *head, GError **error)
{
    guint32 size = get32 (head + VMA_AT_HEADER_SIZE), used = get32 (head + VMA_AT_BLOB_SIZE);
    guint32 offset = get32 (head + VMA_AT_BLOB_OFFSET);
    if (memcmp (head, vma_magic, sizeof vma_magic) != 0)
        return error_set (error, BAK_ERROR_INEXACT, _("this is no VMA archive"));
    if (get32 (head + 4) != VMA_VERSION)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("it is a VMA archive of version %u; version %d is known"),
                          get32 (head + 4), VMA_VERSION);
    return (size > VMA_HEADER_MIN && size <= VMA_HEADER_MAX && size % 512 == 0
            && offset >= VMA_HEADER_MIN && offset <= size && used <= size - offset)
           || error_set (error, BAK_ERROR_INEXACT,
                         _("the header is damaged: its sizes are wrong"));
}

static gboolean read_header (Reader *reader, GError **error)
{
    g_autoptr (GByteArray) head = g_byte_array_new ();
    guchar md5[VMA_MD5];
    g_byte_array_set_size (head, VMA_HEADER_MIN);
    memset (head->data, 0, VMA_HEADER_MIN);
    gssize got = take (reader, head->data, VMA_HEADER_MIN, error);
    if (got < 0 || !check_start (head->data, error))
        return FALSE;
    if (got < VMA_HEADER_MIN)
        return take_all (reader, head->data, 1, error);
    guint32 size = get32 (head->data + VMA_AT_HEADER_SIZE);
    g_byte_array_set_size (head, size);
    if (!take_all (reader, head->data + VMA_HEADER_MIN, size - VMA_HEADER_MIN, error))
        return FALSE;
    vma_md5 (head->data, size, VMA_AT_MD5, md5);
    if (memcmp (md5, head->data + VMA_AT_MD5, VMA_MD5) != 0)
        return error_set (error, BAK_ERROR_INEXACT,
                          _("the header is damaged: its checksum differs"));
    memcpy (reader->header->uuid, head->data + VMA_AT_UUID, sizeof reader->header->uuid);
    reader->header->ctime = (gint64) get64 (head->data + VMA_AT_CTIME);
    return check_reserved (head->data, error) && read_configs (reader->header, head->data, error)
           && read_devices (reader->header, head->data, error);
}

/* Extents */

typedef struct {
    guint16 mask;
    guint device;
    guint32 cluster;
} Slot;

static gboolean damaged_extent (const Reader *reader, const char *why, GError **error)
{
    return error_set (error, BAK_ERROR_INEXACT,
                      _("the extent before byte %" G_GUINT64_FORMAT " is damaged: %s"), reader->at,
                      why);
}

/* What lies behind the end of the device has no bits. */
static guint16 allowed_mask (guint64 size, guint32 cluster)
{
    gsize blocks = (vma_cluster_length (size, cluster) + VMA_BLOCK - 1) / VMA_BLOCK;
    return (1u << blocks) - 1;
}

static gboolean read_slot (Reader *reader, const guchar *at, Slot *slot, GError **error)
{
    *slot = (Slot){ get16 (at), at[3], get32 (at + 4) };
    if (slot->device == 0)
        return is_zero (at, VMA_SLOT)
               || damaged_extent (reader, _("an empty slot is not empty"), error);
    if (at[2] != 0)
        return damaged_extent (reader, _("bytes that are reserved are used"), error);
    if (slot->device > VMA_DEVICES || !reader->header->devices[slot->device].name)
        return damaged_extent (reader, _("it holds a cluster of a device that is not there"),
                               error);
    if (slot->cluster >= reader->map.clusters[slot->device])
        return damaged_extent (reader, _("it holds a cluster behind the end of its device"),
                               error);
    if (slot->mask & ~allowed_mask (reader->header->devices[slot->device].size, slot->cluster))
        return damaged_extent (reader, _("it holds blocks behind the end of their device"), error);
    return vma_map_mark (&reader->map, slot->device, slot->cluster)
           || damaged_extent (reader, _("it holds a cluster that was there already"), error);
}

/* Blocks that are neighbours go as one run. */
static gboolean hand_over (Reader *reader, const Slot *slot, const guchar *blocks, GError **error)
{
    guint64 start = (guint64) slot->cluster * VMA_CLUSTER;
    guint64 size = reader->header->devices[slot->device].size;
    for (guint i = 0, run; i < VMA_BLOCKS; i += MAX (run, 1)) {
        for (run = 0; i + run < VMA_BLOCKS && slot->mask & 1 << (i + run);)
            run++;
        guint64 offset = start + i * VMA_BLOCK, end = MIN (size, offset + run * VMA_BLOCK);
        if (run
            && !reader->handler->data (slot->device, offset, blocks, end - offset, reader->user,
                                       error))
            return FALSE;
        blocks += run * VMA_BLOCK;
    }
    return TRUE;
}

static gboolean read_clusters (Reader *reader, const guchar *extent, GError **error)
{
    Slot slots[VMA_SLOTS];
    guint stored = 0;
    for (guint i = 0; i < VMA_SLOTS; i++) {
        if (!read_slot (reader, extent + VMA_EXTENT_AT_SLOTS + VMA_SLOT * i, &slots[i], error))
            return FALSE;
        stored += slots[i].device ? __builtin_popcount (slots[i].mask) : 0;
    }
    if (stored != get16 (extent + VMA_EXTENT_AT_COUNT))
        return damaged_extent (reader, _("its number of blocks is not that of its slots"), error);
    for (guint i = 0; i < VMA_SLOTS; i++) {
        gsize length = __builtin_popcount (slots[i].mask) * VMA_BLOCK;
        if (!slots[i].device)
            continue;
        if (!take_all (reader, reader->blocks, length, error)
            || !hand_over (reader, &slots[i], reader->blocks, error))
            return FALSE;
    }
    return !reader->handler->progress
           || reader->handler->progress (reader->map.done, reader->map.total, reader->user, error);
}

static gboolean check_extent (Reader *reader, guchar *extent, GError **error)
{
    guchar md5[VMA_MD5];
    if (memcmp (extent, vma_extent_magic, sizeof vma_extent_magic) != 0)
        return damaged_extent (reader, _("it does not begin as one"), error);
    vma_md5 (extent, VMA_EXTENT, VMA_EXTENT_AT_MD5, md5);
    if (memcmp (md5, extent + VMA_EXTENT_AT_MD5, VMA_MD5) != 0)
        return damaged_extent (reader, _("its checksum differs"), error);
    if (memcmp (extent + VMA_EXTENT_AT_UUID, reader->header->uuid, sizeof reader->header->uuid)
        != 0)
        return damaged_extent (reader, _("it belongs to another archive"), error);
    return get16 (extent + 4) == 0
           || damaged_extent (reader, _("bytes that are reserved are used"), error);
}

/* Until the end of the archive. */
static gboolean read_extents (Reader *reader, GError **error)
{
    guchar extent[VMA_EXTENT];
    for (;;) {
        gssize got = take (reader, extent, sizeof extent, error);
        if (got <= 0)
            return got == 0;
        if (got < VMA_EXTENT)
            return take_all (reader, extent, 1, error);
        if (!check_extent (reader, extent, error) || !read_clusters (reader, extent, error))
            return FALSE;
    }
}

gboolean vma_read (const VmaHandler *handler, gpointer user, GError **error)
{
    g_autofree Reader *reader = g_new0 (Reader, 1);
    g_autoptr (VmaHeader) header = vma_header_new ();
    reader->handler = handler;
    reader->user = user;
    reader->header = header;
    if (!read_header (reader, error) || !handler->begin (header, user, error))
        return FALSE;
    vma_map_init (&reader->map, header);
    gboolean ok = read_extents (reader, error) && vma_map_is_whole (&reader->map, header, error);
    vma_map_clear (&reader->map);
    return ok;
}
