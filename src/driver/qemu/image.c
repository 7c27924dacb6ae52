#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/image.h"
#include "util/json.h"
#include "util/process.h"

enum { TOOL_TIMEOUT_MS = 30000, TOOL_OUTPUT_MAX = 32 * 1024 * 1024 };

/* Formats that a guest's disk may have; what else QEMU can open (nbd, luks without its key, blkdebug ...) is none. */
static const char *const formats[] = { "raw", "qcow2", "qcow", "qed", "vmdk", "vdi", "vhdx", "vpc", "parallels" };

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

/* "qemu-img: Could not open 'x': ..." without the program's name, first line only. */
static char *complaint (const char *messages)
{
    g_autofree char *line = g_strndup (messages, strcspn (messages, "\n"));
    const char *text = g_str_has_prefix (line, "qemu-img: ") ? line + strlen ("qemu-img: ") : line;
    return text_sanitize (*text ? text : _("no reason given"), 1024);
}

gboolean image_tool (const char *const *args, char **ret_output, GError **error)
{
    g_autofree char *program = process_find ("LIBBACKUP_QEMU_IMG", "qemu_img", "qemu-img");
    g_autoptr (GPtrArray) argv = g_ptr_array_new ();
    g_autofree char *output = NULL, *messages = NULL;
    int status = 0;

    g_ptr_array_add (argv, program);
    for (; *args; args++)
        g_ptr_array_add (argv, (char *) *args);
    g_ptr_array_add (argv, NULL);
    if (!process_run ((const char *const *) argv->pdata, TOOL_TIMEOUT_MS, TOOL_OUTPUT_MAX, &status, &output, &messages, error))
        return FALSE;
    if (status != 0) {
        g_autofree char *text = complaint (messages);
        BakErrorCode code = strstr (text, "\" lock") ? BAK_ERROR_BUSY : error_code_from_text (text);
        return error_set (error, code, "%s", text);
    }
    if (ret_output)
        *ret_output = g_steal_pointer (&output);
    return TRUE;
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
        error_set (error, BAK_ERROR_NOT_SUPPORTED, _("images of format '%s' are not supported"), shown);
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
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("neither a regular file nor a block device"));
    if ((fd = open (file, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) < 0)
        return error_set_errno (error, errno, _("cannot open it"));
    close (fd);
    return TRUE;
}

ImageInfo *image_probe (const char *file, const char *format, GError **error)
{
    g_autofree char *output = NULL;
    g_autoptr (JsonNode) node = NULL;
    g_autoptr (ImageInfo) info = NULL;
    const char *args[] = { "info", "-U", "--output=json", "--backing-chain", "--", file, NULL, NULL, NULL };

    if (format) {
        args[4] = "-f";
        args[5] = format;
        args[6] = "--";
        args[7] = file;
    }
    if (check_file (file, error) && image_tool (args, &output, error) && (node = json_read (output, -1, error))) {
        JsonArray *chain = JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : NULL;
        info = info_from_chain (chain, file, error);
    }
    if (info && info->encrypted) {
        error_set (error, BAK_ERROR_NOT_SUPPORTED, _("an encrypted image cannot be opened without its key"));
        g_clear_pointer (&info, image_info_free);
    }
    if (!info)
        error_note (error, _("image '%s'"), file);
    return g_steal_pointer (&info);
}
