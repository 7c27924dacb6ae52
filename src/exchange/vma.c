/* What the writer and the reader of archives share. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "exchange/vma-format.h"

static void config_free (gpointer data)
{
    VmaConfig *config = data;
    g_free (config->name);
    g_free (config->data);
    g_free (config);
}

VmaHeader *vma_header_new (void)
{
    VmaHeader *header = g_new0 (VmaHeader, 1);
    header->configs = g_ptr_array_new_with_free_func (config_free);
    return header;
}

void vma_header_free (VmaHeader *header)
{
    if (!header)
        return;
    g_ptr_array_unref (header->configs);
    for (guint i = 1; i <= VMA_DEVICES; i++)
        g_free (header->devices[i].name);
    g_free (header);
}

void vma_header_add_config (VmaHeader *header, const char *name, gconstpointer data, gsize length)
{
    VmaConfig *config = g_new0 (VmaConfig, 1);
    config->name = g_strdup (name);
    config->data = g_memdup2 (data, length);
    config->length = length;
    g_ptr_array_add (header->configs, config);
}

guint vma_header_add_device (VmaHeader *header, const char *name, guint64 size)
{
    guint number = 1;
    while (number < VMA_DEVICES && header->devices[number].name)
        number++;
    g_free (header->devices[number].name);
    header->devices[number] = (VmaDevice){ g_strdup (name), size };
    return number;
}

gboolean vma_name_is_safe (const char *name)
{
    if (!*name || g_str_equal (name, ".") || g_str_equal (name, "..") || strlen (name) > 255
        || !g_utf8_validate (name, -1, NULL))
        return FALSE;
    for (const char *c = name; *c; c++)
        if (*c == '/' || *c == '\\' || g_ascii_iscntrl (*c))
            return FALSE;
    return TRUE;
}

guint64 vma_clusters (guint64 size)
{
    return size / VMA_CLUSTER + (size % VMA_CLUSTER != 0);
}

gsize vma_cluster_length (guint64 size, guint64 cluster)
{
    return MIN ((guint64) VMA_CLUSTER, size - cluster * VMA_CLUSTER);
}

void vma_md5 (guchar *header, gsize length, gsize at, guchar ret_md5[VMA_MD5])
{
    guchar kept[VMA_MD5];
    gsize size = VMA_MD5;
    g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_MD5);
    memcpy (kept, header + at, VMA_MD5);
    memset (header + at, 0, VMA_MD5);
    g_checksum_update (sum, header, length);
    g_checksum_get_digest (sum, ret_md5, &size);
    memcpy (header + at, kept, VMA_MD5);
}

/* Which clusters are done */

enum { WORD = 64 };

void vma_map_init (VmaMap *map, const VmaHeader *header)
{
    *map = (VmaMap){ 0 };
    for (guint i = 1; i <= VMA_DEVICES; i++) {
        if (!header->devices[i].name)
            continue;
        map->clusters[i] = vma_clusters (header->devices[i].size);
        map->bits[i] = g_new0 (guint64, map->clusters[i] / WORD + 1);
        map->total += map->clusters[i];
    }
}

void vma_map_clear (VmaMap *map)
{
    for (guint i = 1; i <= VMA_DEVICES; i++)
        g_clear_pointer (&map->bits[i], g_free);
}

gboolean vma_map_mark (VmaMap *map, guint device, guint64 cluster)
{
    guint64 *word = &map->bits[device][cluster / WORD], bit = G_GUINT64_CONSTANT (1)
                                                              << cluster % WORD;
    if (*word & bit)
        return FALSE;
    *word |= bit;
    map->done++;
    return TRUE;
}

gboolean vma_map_is_whole (const VmaMap *map, const VmaHeader *header, GError **error)
{
    for (guint i = 1; i <= VMA_DEVICES && map->done < map->total; i++)
        for (guint64 cluster = 0; cluster < map->clusters[i]; cluster++)
            if (!(map->bits[i][cluster / WORD] & G_GUINT64_CONSTANT (1) << cluster % WORD))
                return error_set (error, BAK_ERROR_INEXACT,
                                  _("%" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                                     " clusters are missing, the first is number %" G_GUINT64_FORMAT
                                     " of device '%s'"),
                                  map->total - map->done, map->total, cluster,
                                  header->devices[i].name);
    return TRUE;
}
