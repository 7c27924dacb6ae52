#include <string.h>
#include <glib/gi18n-lib.h>
#include "exchange/vma-format.h"

struct _VmaWriter {
    const VmaHeader *header;
    VmaWrite write;
    gpointer user;
    VmaMap map;
    GError *failed; /* of the output; says the same to whoever comes later */
    guchar *extent; /* header and blocks of the one that grows */
    guint slots;
    gsize length; /* of all that stands in it */
};

/* Header */

static void put16 (guchar *at, guint16 value)
{
    value = GUINT16_TO_BE (value);
    memcpy (at, &value, sizeof value);
}

static void put32 (guchar *at, guint32 value)
{
    value = GUINT32_TO_BE (value);
    memcpy (at, &value, sizeof value);
}

static void put64 (guchar *at, guint64 value)
{
    value = GUINT64_TO_BE (value);
    memcpy (at, &value, sizeof value);
}

/* Where it stands in the area. */
static guint32 add_blob (GByteArray *area, gconstpointer data, gsize length)
{
    guint32 at = area->len;
    guint16 little = GUINT16_TO_LE ((guint16) length);
    g_byte_array_append (area, (guchar *) &little, sizeof little);
    g_byte_array_append (area, data, length);
    return at;
}

static guint32 add_name (GByteArray *area, const char *name)
{
    return add_blob (area, name, strlen (name) + 1);
}

static gboolean check (const VmaHeader *header, GError **error)
{
    gboolean any = header->configs->len > 0;
    for (guint i = 0; i < header->configs->len; i++) {
        const VmaConfig *config = header->configs->pdata[i];
        if (!vma_name_is_safe (config->name) || config->length > VMA_BLOB_MAX)
            return error_set (
                error, BAK_ERROR_INVALID_ARGUMENT,
                _("the configuration '%s' cannot stand in a VMA archive: its name or "
                   "its size of %" G_GSIZE_FORMAT " bytes does not fit"),
                config->name, config->length);
    }
    for (guint i = 1; i <= VMA_DEVICES; i++) {
        const VmaDevice *device = &header->devices[i];
        any = any || device->name;
        if (device->name
            && (!vma_name_is_safe (device->name) || device->size == 0 || device->size % 512 != 0
                || vma_clusters (device->size) > G_MAXUINT32))
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                              _("disk '%s' cannot stand in a VMA archive: its name or its size of "
                                 "%" G_GUINT64_FORMAT
                                 " bytes does not fit (sizes are multiples of 512)"),
                              device->name, device->size);
    }
    if (!any || header->configs->len > VMA_CONFIGS)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("a VMA archive holds 1 to %d configurations and devices"),
                          VMA_CONFIGS);
    return TRUE;
}

static GByteArray *make_header (const VmaHeader *header)
{
    static const guchar zeros[VMA_HEADER_MIN];
    gsize round = MAX (header->round, (gsize) VMA_EXTENT);
    GByteArray *head = g_byte_array_new ();
    g_autoptr (GByteArray) area = g_byte_array_new ();
    guchar md5[VMA_MD5];
    g_byte_array_append (head, zeros, VMA_HEADER_MIN);
    g_byte_array_append (area, zeros, 1);
    for (guint i = 0; i < header->configs->len; i++) {
        const VmaConfig *config = header->configs->pdata[i];
        put32 (head->data + VMA_AT_CONFIG_NAMES + 4 * i, add_name (area, config->name));
        put32 (head->data + VMA_AT_CONFIG_DATA + 4 * i,
               add_blob (area, config->data, config->length));
    }
    for (guint i = 1; i <= VMA_DEVICES; i++) {
        if (!header->devices[i].name)
            continue;
        guchar *row = head->data + VMA_AT_DEVICES + VMA_DEVICE_SIZE * i;
        put32 (row, add_name (area, header->devices[i].name));
        put64 (row + 8, header->devices[i].size);
    }
    gsize used = area->len, size = (VMA_HEADER_MIN + used + round - 1) / round * round;
    g_byte_array_append (head, area->data, used);
    while (head->len < size)
        g_byte_array_append (head, zeros, MIN (size - head->len, sizeof zeros));
    memcpy (head->data, vma_magic, sizeof vma_magic);
    put32 (head->data + 4, VMA_VERSION);
    memcpy (head->data + VMA_AT_UUID, header->uuid, sizeof header->uuid);
    put64 (head->data + VMA_AT_CTIME, header->ctime);
    put32 (head->data + VMA_AT_BLOB_OFFSET, VMA_HEADER_MIN);
    put32 (head->data + VMA_AT_BLOB_SIZE, used);
    put32 (head->data + VMA_AT_HEADER_SIZE, size);
    vma_md5 (head->data, head->len, VMA_AT_MD5, md5);
    memcpy (head->data + VMA_AT_MD5, md5, sizeof md5);
    return head;
}

static gboolean write_out (VmaWriter *writer, gconstpointer data, gsize length, GError **error)
{
    if (!writer->failed && !writer->write (data, length, writer->user, &writer->failed)
        && !writer->failed)
        error_set (&writer->failed, BAK_ERROR_IO, _("the output failed"));
    if (writer->failed && error)
        *error = g_error_copy (writer->failed);
    return !writer->failed;
}

static void begin_extent (VmaWriter *writer)
{
    memset (writer->extent, 0, VMA_EXTENT);
    writer->slots = 0;
    writer->length = VMA_EXTENT;
}

VmaWriter *vma_writer_new (const VmaHeader *header, VmaWrite write, gpointer user, GError **error)
{
    if (!check (header, error))
        return NULL;
    g_autoptr (GByteArray) head = make_header (header);
    g_autoptr (VmaWriter) writer = g_new0 (VmaWriter, 1);
    writer->header = header;
    writer->write = write;
    writer->user = user;
    writer->extent = g_malloc (VMA_EXTENT + VMA_SLOTS * VMA_CLUSTER);
    vma_map_init (&writer->map, header);
    begin_extent (writer);
    return write_out (writer, head->data, head->len, error) ? g_steal_pointer (&writer) : NULL;
}

void vma_writer_free (VmaWriter *writer)
{
    if (!writer)
        return;
    vma_map_clear (&writer->map);
    g_clear_error (&writer->failed);
    g_free (writer->extent);
    g_free (writer);
}

/* Extents */

static gboolean flush (VmaWriter *writer, GError **error)
{
    guchar *extent = writer->extent, md5[VMA_MD5];
    memcpy (extent, vma_extent_magic, sizeof vma_extent_magic);
    put16 (extent + VMA_EXTENT_AT_COUNT, (writer->length - VMA_EXTENT) / VMA_BLOCK);
    memcpy (extent + VMA_EXTENT_AT_UUID, writer->header->uuid, sizeof writer->header->uuid);
    vma_md5 (extent, VMA_EXTENT, VMA_EXTENT_AT_MD5, md5);
    memcpy (extent + VMA_EXTENT_AT_MD5, md5, sizeof md5);
    if (!write_out (writer, extent, writer->length, error))
        return FALSE;
    begin_extent (writer);
    return TRUE;
}

static gboolean is_zero (const guchar *data, gsize length)
{
    return length == 0 || (data[0] == 0 && memcmp (data, data + 1, length - 1) == 0);
}

/* The blocks that are not zero, the last one padded. Returns their mask. */
static guint16 add_blocks (VmaWriter *writer, const guchar *data, gsize length)
{
    guint16 mask = 0;
    for (gsize at = 0; data && at < length; at += VMA_BLOCK) {
        gsize part = MIN (length - at, (gsize) VMA_BLOCK);
        if (is_zero (data + at, part))
            continue;
        guchar *to = writer->extent + writer->length;
        memcpy (to, data + at, part);
        memset (to + part, 0, VMA_BLOCK - part);
        writer->length += VMA_BLOCK;
        mask |= 1 << at / VMA_BLOCK;
    }
    return mask;
}

static gboolean may_write (VmaWriter *writer, guint device, guint64 cluster, GError **error)
{
    if (device == 0 || device > VMA_DEVICES || cluster >= writer->map.clusters[device])
        return error_set (error, BAK_ERROR_INTERNAL,
                          _("there is no cluster %" G_GUINT64_FORMAT " of device %u"), cluster,
                          device);
    return vma_map_mark (&writer->map, device, cluster)
           || error_set (
               error, BAK_ERROR_IO,
               _("cluster %" G_GUINT64_FORMAT " of device '%s' is in the archive already"),
               cluster, writer->header->devices[device].name);
}

gboolean vma_writer_cluster (VmaWriter *writer, guint device, guint64 cluster, const guchar *data,
                             GError **error)
{
    if (writer->failed)
        return write_out (writer, NULL, 0, error);
    if (!may_write (writer, device, cluster, error))
        return FALSE;
    guchar *slot = writer->extent + VMA_EXTENT_AT_SLOTS + VMA_SLOT * writer->slots++;
    gsize length = vma_cluster_length (writer->header->devices[device].size, cluster);
    put16 (slot, add_blocks (writer, data, length));
    slot[3] = device;
    put32 (slot + 4, cluster);
    return writer->slots < VMA_SLOTS || flush (writer, error);
}

gboolean vma_writer_end (VmaWriter *writer, GError **error)
{
    if (writer->failed)
        return write_out (writer, NULL, 0, error);
    if (!vma_map_is_whole (&writer->map, writer->header, error))
        return FALSE;
    /* the reference wants one extent, also when there is no data */
    return (writer->slots == 0 && writer->map.total > 0) || flush (writer, error);
}
