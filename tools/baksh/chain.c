/* The images below a disk, from the top down: domblkinfo --chain. */
#include <string.h>
#include "baksh.h"

/* ---- what a document has, and what it may lack ---- */

static JsonNode *member (JsonObject *object, const char *key, JsonNodeType type)
{
    JsonNode *node = object ? json_object_get_member (object, key) : NULL;

    return node && JSON_NODE_TYPE (node) == type ? node : NULL;
}

static JsonObject *object_of (JsonObject *object, const char *key)
{
    JsonNode *node = member (object, key, JSON_NODE_OBJECT);

    return node ? json_node_get_object (node) : NULL;
}

static JsonArray *array_of (JsonObject *object, const char *key)
{
    JsonNode *node = member (object, key, JSON_NODE_ARRAY);

    return node ? json_node_get_array (node) : NULL;
}

/* NULL */
static const char *text_of (JsonObject *object, const char *key)
{
    JsonNode *node = member (object, key, JSON_NODE_VALUE);

    return node && json_node_get_value_type (node) == G_TYPE_STRING ? json_node_get_string (node)
                                                                    : NULL;
}

static gboolean is_set (JsonObject *object, const char *key)
{
    JsonNode *node = member (object, key, JSON_NODE_VALUE);

    return node && json_node_get_boolean (node);
}

static JsonObject *element (JsonArray *array, guint i)
{
    JsonNode *node = json_array_get_element (array, i);

    return JSON_NODE_HOLDS_OBJECT (node) ? json_node_get_object (node) : NULL;
}

static char *size_of (JsonObject *object, const char *key, gboolean human)
{
    JsonNode *node = member (object, key, JSON_NODE_VALUE);
    gint64 bytes = node ? json_node_get_int (node) : -1;

    if (bytes < 0)
        return g_strdup ("-");
    return human ? format_size (bytes) : g_strdup_printf ("%" G_GINT64_FORMAT, bytes);
}

/* ---- cells ---- */

static void add_word (GString *words, const char *format, ...) G_GNUC_PRINTF (2, 3);

static void add_word (GString *words, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    if (words->len)
        g_string_append (words, ", ");
    g_string_append_vprintf (words, format, args);
    va_end (args);
}

static char *end_words (GString *words)
{
    if (!words->len)
        g_string_append_c (words, '-');
    return g_string_free (words, FALSE);
}

static char *properties (JsonObject *image)
{
    static const char *const texts[] = { "subformat", "compression", "encryption" };
    GString *words = g_string_new (NULL);

    if (text_of (image, "compat"))
        add_word (words, "compat %s", text_of (image, "compat"));
    for (guint i = 0; i < G_N_ELEMENTS (texts); i++)
        if (text_of (image, texts[i]))
            add_word (words, "%s", text_of (image, texts[i]));
    if (is_set (image, "extended_l2"))
        add_word (words, "extended_l2");
    if (text_of (image, "data_file"))
        add_word (words, _("data in '%s'"), text_of (image, "data_file"));
    if (is_set (image, "corrupt"))
        add_word (words, _("marked corrupt"));
    return end_words (words);
}

static char *backing (JsonObject *image)
{
    JsonObject *object = object_of (image, "backing");
    const char *stored = text_of (object, "stored"), *opened = text_of (object, "opened");
    GString *words = g_string_new (NULL);

    if (stored)
        add_word (words, "%s", stored);
    if (text_of (object, "format"))
        g_string_append_printf (words, " (%s)", text_of (object, "format"));
    if (opened && g_strcmp0 (opened, text_of (object, "resolved")) != 0)
        add_word (words, _("opened as '%s'"), opened);
    else if (stored && !opened)
        add_word (words, _("not open"));
    return end_words (words);
}

static char *snapshots (JsonObject *image)
{
    JsonArray *list = array_of (image, "snapshots");
    GString *words = g_string_new (NULL);

    for (guint i = 0; list && i < json_array_get_length (list); i++) {
        const char *name = text_of (element (list, i), "name"),
                   *created = text_of (element (list, i), "created");
        add_word (words, "%s", name && *name ? name : text_of (element (list, i), "id"));
        if (created)
            g_string_append_printf (words, " (%s)", created);
    }
    return end_words (words);
}

static const char *bitmap_state (JsonObject *bitmap)
{
    return is_set (bitmap, "inconsistent") ? _("inconsistent")
           : is_set (bitmap, "in_use")     ? _("in use or inconsistent")
           : is_set (bitmap, "busy")       ? _("busy")
           : is_set (bitmap, "recording")  ? _("recording")
                                           : _("disabled");
}

/* Without the seals beside the bitmaps of checkpoints: they are there in --json. */
static char *bitmaps (JsonObject *image)
{
    JsonArray *list = array_of (image, "bitmaps");
    GString *words = g_string_new (NULL);

    for (guint i = 0; list && i < json_array_get_length (list); i++) {
        JsonObject *bitmap = element (list, i);
        if (is_set (bitmap, "seal"))
            continue;
        add_word (words, is_set (bitmap, "persistent") ? "%s (%s)" : _("%s (%s, in memory only)"),
                  text_of (bitmap, "name"), bitmap_state (bitmap));
    }
    return end_words (words);
}

static void add_image (Table *table, JsonObject *image, gboolean human)
{
    g_autofree char *capacity = size_of (image, "capacity", human),
                    *allocation = size_of (image, "allocation", human),
                    *cluster = size_of (image, "cluster_size", human), *kind = properties (image),
                    *below = backing (image), *points = snapshots (image), *marks = bitmaps (image);
    const char *source = text_of (image, "source"), *format = text_of (image, "format");

    table_row (table, source ? source : "-", format ? format : "-", capacity, allocation, cluster,
               kind, below, points, marks, NULL);
}

int print_chain (BakDomain *domain, const char *disk, gboolean human, gboolean json)
{
    BakError *error = NULL;
    char *text = bak_domain_get_chain (domain, disk, 0, &error);

    if (!text)
        return fail (error);
    g_autoptr (JsonNode) node = json_from_string (text, NULL);
    JsonObject *document =
        node && JSON_NODE_HOLDS_OBJECT (node) ? json_node_get_object (node) : NULL;
    JsonArray *images = array_of (document, "images");
    bak_free (text);
    if (!images)
        return fail_with (STATUS_FAILED, _("the answer has no images"));
    if (json) {
        print_json (g_steal_pointer (&node));
        return STATUS_DONE;
    }
    Table *table =
        table_new (_("Image"), _("Format"), _("Capacity"), _("Allocation"), _("Cluster"),
                   _("Properties"), _("Backing"), _("Snapshots"), _("Bitmaps"), NULL);
    for (guint i = 0; i < json_array_get_length (images); i++)
        add_image (table, element (images, i), human);
    table_print (table);
    return STATUS_DONE;
}
