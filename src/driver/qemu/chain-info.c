/* The images that a guest's disk stands on, one by one: from the monitor while it runs, by qemu-img
 * while it is off. */
#include <glib/gi18n-lib.h>
#include "driver/qemu/checkpoint.h"
#include "driver/qemu/both.h"
#include "driver/qemu/chain-info.h"
#include "driver/qemu/definitions.h"
#include "driver/qemu/local.h"
#include "driver/qemu/offline.h"
#include "job/build.h"
#include "job/image-rows.h"
#include "util/json.h"

enum { DEPTH_MAX = 256, ASK_TIMEOUT_MS = 30000 };

/* ---- while it runs ---- */

static JsonObject *node_info (JsonArray *nodes, const char *name)
{
    for (guint i = 0; i < json_array_get_length (nodes); i++) {
        JsonObject *object = json_get_element (nodes, i);
        if (g_strcmp0 (json_get_string (object, "node-name"), name) == 0)
            return object;
    }
    return NULL;
}

/* The image that is read where this one has nothing; what only passes on is passed by. */
static const GraphNode *image_below (const Graph *graph, const GraphNode *node)
{
    node = graph_node (graph, node->backing);
    for (guint depth = 0; node && node->is_filter && depth < DEPTH_MAX; depth++)
        node = graph_node (graph, node->file ? node->file : node->backing);
    return node;
}

/* QEMU names an image that was opened otherwise than its header says by a description of all that
 * is below it ("json:…"); the file that it lies in has a name. */
static const char *name_of (const Graph *graph, const GraphNode *node)
{
    for (guint depth = 0; node && depth < DEPTH_MAX; depth++) {
        const GraphNode *file = node->file ? graph_node (graph, node->file) : NULL;
        if (!file || !g_str_has_prefix (node->filename, "json:"))
            return node->filename;
        node = file;
    }
    return NULL;
}

JsonArray *chain_rows (const Graph *graph, JsonArray *nodes, const char *top)
{
    JsonArray *rows = json_array_new ();
    const GraphNode *node = graph_node (graph, top);

    for (guint depth = 0; node && depth < DEPTH_MAX; depth++) {
        JsonObject *info = node_info (nodes, node->name);
        const GraphNode *below = image_below (graph, node);
        if (!info) /* gone since the picture was made */
            break;
        JsonObject *row = image_row (json_get_object (info, "image"), node->driver, node->name,
                                     name_of (graph, node));
        image_row_set_bitmaps (row, json_get_array (info, "dirty-bitmaps"));
        image_row_set_opened (row, name_of (graph, below));
        json_array_add_object_element (rows, row);
        node = below;
    }
    return rows;
}

static char *running_chain (Guest *guest, const char *name, GError **error)
{
    g_autoptr (Graph) graph = checkpoint_look (guest, error);
    const GraphDisk *disk = graph ? graph_disk (graph, name, error) : NULL;

    if (!disk)
        return NULL;
    if (!disk->node) {
        error_set (error, BAK_ERROR_NO_DISK, _("disk '%s' is an empty drive"), disk->target);
        return NULL;
    }
    if (!graph_may_be_asked (guest->qmp, guest->caps, error))
        return NULL;
    g_autoptr (JsonNode) answer =
        qmp_execute (guest->qmp, "query-named-block-nodes",
                     guest->caps->named_nodes_flat ? obj ("flat", "b", TRUE, NULL) : NULL,
                     ASK_TIMEOUT_MS, error);
    if (!answer)
        return NULL;
    if (!JSON_NODE_HOLDS_ARRAY (answer)) {
        error_set (error, BAK_ERROR_MONITOR, _("QEMU's list of %s is none"), _("nodes"));
        return NULL;
    }
    return image_rows_document (
        disk->target, TRUE, chain_rows (graph, json_node_get_array (answer), disk->node), error);
}

/* ---- while it is off ---- */

static const GuestDiskDef *find_image (const GuestDef *def, const char *name)
{
    for (guint i = 0; i < def->images->len; i++) {
        const GuestDiskDef *image = def->images->pdata[i];
        g_autofree char *node = offline_node_name (def, i);
        if (g_str_equal (image->target, name) || g_str_equal (image->id, name)
            || g_str_equal (node, name))
            return image;
    }
    return NULL;
}

static char *offline_chain (Guest *guest, const char *name, GError **error)
{
    const GuestDiskDef *image = find_image (guest_shape (guest), name);

    if (!image) {
        g_autofree char *shown = text_sanitize (name, 256);
        g_autoptr (GString) known = g_string_new (NULL);
        const GPtrArray *images = guest_shape (guest)->images;
        for (guint i = 0; i < images->len; i++)
            g_string_append_printf (known, "%s%s", i ? ", " : "",
                                    ((GuestDiskDef *) images->pdata[i])->target);
        error_set (error, BAK_ERROR_NO_DISK, _("guest '%s' has no disk '%s'; it has: %s"),
                   guest->def->name, shown, known->str);
        return NULL;
    }
    g_autofree char *format = attach_image_format (guest->dir, image->target);
    JsonArray *rows = image_rows (image->id, format, error);
    if (!rows) {
        error_note (error, _("disk '%s'"), image->target);
        return NULL;
    }
    return image_rows_document (image->target, FALSE, rows, error);
}

char *guest_chain (Guest *guest, const char *disk, GError **error)
{
    both_settle (guest);
    if (guest_is_offline (guest))
        return offline_chain (guest, disk, error);
    return guest_acquire (guest, error) ? running_chain (guest, disk, error) : NULL;
}

gboolean local_chain (Guest *guest, const void *data, void *ret, GError **error)
{
    g_autofree char *text = guest_chain (guest, ((const bak_disk_arg *) data)->disk, error);

    if (!text)
        return FALSE;
    ((bak_text_ret *) ret)->text = ret_string (text);
    return TRUE;
}
