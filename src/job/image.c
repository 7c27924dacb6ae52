#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "job/image.h"
#include "util/json.h"

/* Formats that a guest's disk may have; what else QEMU can open (nbd, luks without its key,
 * blkdebug ...) is none. */
static const char *const formats[] = { "raw", "qcow2", "qcow", "qed",      "vmdk",
                                       "vdi", "vhdx",  "vpc",  "parallels" };

gboolean image_format_known (const char *format)
{
    for (guint i = 0; format && i < G_N_ELEMENTS (formats); i++)
        if (g_str_equal (format, formats[i]))
            return TRUE;
    return FALSE;
}

static void bitmap_free (ImageBitmap *bitmap)
{
    g_free (bitmap->name);
    g_free (bitmap);
}

void image_info_free (ImageInfo *info)
{
    if (!info)
        return;
    g_free (info->file);
    g_free (info->format);
    g_free (info->backing);
    g_ptr_array_unref (info->bitmaps);
    g_free (info);
}

static gboolean has_flag (JsonArray *flags, const char *flag)
{
    for (guint i = 0; flags && i < json_array_get_length (flags); i++) {
        JsonNode *node = json_array_get_element (flags, i);
        if (JSON_NODE_HOLDS_VALUE (node) && g_strcmp0 (json_node_get_string (node), flag) == 0)
            return TRUE;
    }
    return FALSE;
}

static void read_bitmaps (ImageInfo *info, JsonArray *bitmaps)
{
    for (guint i = 0; bitmaps && i < json_array_get_length (bitmaps); i++) {
        JsonObject *object = json_get_element (bitmaps, i);
        const char *name = json_get_string (object, "name");
        if (!name)
            continue;
        ImageBitmap *bitmap = g_new0 (ImageBitmap, 1);
        JsonArray *flags = json_get_array (object, "flags");
        bitmap->name = g_strdup (name);
        bitmap->granularity = MAX (json_get_int (object, "granularity", 0), 0);
        bitmap->in_use = has_flag (flags, "in-use");
        bitmap->recording = has_flag (flags, "auto");
        g_ptr_array_add (info->bitmaps, bitmap);
    }
}

static ImageInfo *info_from_chain (JsonArray *chain, const char *file, GError **error)
{
    JsonObject *top = json_get_element (chain, 0);
    const char *format = json_get_string (top, "format");
    gint64 size = json_get_int (top, "virtual-size", -1);

    if (!format || size < 0) {
        error_set (error, BAK_ERROR_IO, _("qemu-img says neither format nor size"));
        return NULL;
    }
    if (!image_format_known (format)) {
        g_autofree char *shown = text_sanitize (format, 64);
        error_set (error, BAK_ERROR_NOT_SUPPORTED, _("images of format '%s' are not supported"),
                   shown);
        return NULL;
    }
    JsonObject *specific = json_get_object (json_get_object (top, "format-specific"), "data");
    ImageInfo *info = g_new0 (ImageInfo, 1);
    info->file = g_strdup (file);
    info->format = g_strdup (format);
    info->backing = g_strdup (json_get_string (top, "full-backing-filename"));
    info->virtual_size = size;
    info->actual_size = MAX (json_get_int (top, "actual-size", 0), 0);
    info->cluster_size = MAX (json_get_int (top, "cluster-size", 0), 0);
    info->depth = json_array_get_length (chain) - 1;
    info->encrypted = json_get_bool (top, "encrypted", FALSE);
    info->corrupt = json_get_bool (specific, "corrupt", FALSE);
    info->bitmaps = g_ptr_array_new_with_free_func ((GDestroyNotify) bitmap_free);
    read_bitmaps (info, json_get_array (specific, "bitmaps"));
    return info;
}

static gboolean check_file (const char *file, GError **error)
{
    struct stat st;
    int fd;

    if (!g_path_is_absolute (file))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("an absolute path is expected"));
    if (stat (file, &st) != 0)
        return error_set_errno (error, errno, _("cannot open it"));
    if (!S_ISREG (st.st_mode) && !S_ISBLK (st.st_mode))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("neither a regular file nor a block device"));
    if ((fd = open (file, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) < 0)
        return error_set_errno (error, errno, _("cannot open it"));
    close (fd);
    return TRUE;
}

JsonNode *image_ask (const char *file, const char *format, GError **error)
{
    g_autofree char *output = NULL;
    g_autoptr (JsonNode) node = NULL;
    const char *args[] = { "info", "-U", "--output=json", "--backing-chain", "--", file, NULL,
                           NULL,   NULL };

    if (format) {
        args[4] = "-f";
        args[5] = format;
        args[6] = "--";
        args[7] = file;
    }
    if (!check_file (file, error) || !image_tool (args, &output, error)
        || !(node = json_read (output, -1, error)))
        return NULL;
    if (JSON_NODE_HOLDS_ARRAY (node))
        return g_steal_pointer (&node);
    error_set (error, BAK_ERROR_IO, _("qemu-img says neither format nor size"));
    return NULL;
}

ImageInfo *image_probe (const char *file, const char *format, GError **error)
{
    g_autoptr (JsonNode) node = image_ask (file, format, error);
    g_autoptr (ImageInfo) info =
        node ? info_from_chain (json_node_get_array (node), file, error) : NULL;

    if (info && info->encrypted) {
        error_set (error, BAK_ERROR_NOT_SUPPORTED,
                   _("an encrypted image cannot be opened without its key"));
        g_clear_pointer (&info, image_info_free);
    }
    if (!info)
        error_note (error, _("image '%s'"), file);
    return g_steal_pointer (&info);
}

gboolean image_bitmap_remove (const char *file, const char *format, const char *bitmap,
                              GError **error)
{
    g_autoptr (ImageInfo) info = image_probe (file, format, error);
    const char *const args[] = { "bitmap", "--remove", "-f",   info ? info->format : "",
                                 "--",     file,       bitmap, NULL };
    gboolean found = FALSE;

    if (!info)
        return FALSE;
    for (guint i = 0; i < info->bitmaps->len; i++)
        found |= g_str_equal (((ImageBitmap *) info->bitmaps->pdata[i])->name, bitmap);
    if (!found || image_tool (args, NULL, error))
        return TRUE;
    return error_note (error, _("image '%s': bitmap '%s'"), file, bitmap);
}
