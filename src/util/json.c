#include <string.h>
#include <glib/gi18n-lib.h>
#include "util/json.h"

/* Where we are among the values that nothing encloses, of which there may be one. */
typedef enum { TOP_BEFORE, TOP_WORD, TOP_AFTER } Top;

static gboolean top_ok (char c, Top *top)
{
    if (g_ascii_isspace (c)) {
        *top = *top == TOP_BEFORE ? TOP_BEFORE : TOP_AFTER;
        return TRUE;
    }
    if (*top == TOP_AFTER || (*top == TOP_WORD && (c == '{' || c == '[' || c == '"')))
        return FALSE;
    *top = TOP_WORD;
    return TRUE;
}

/* json-glib recurses for each level, so the depth is known before it starts. It also takes
 * comments, in which a quote would hide what follows; JSON has none. And it takes several values in
 * a row, of which it loses all but the last. */
static gboolean shape_ok (const char *text, gsize length)
{
    guint depth = 0;
    gboolean quoted = FALSE;
    Top top = TOP_BEFORE;

    for (gsize i = 0; i < length; i++) {
        char c = text[i];
        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = FALSE;
            continue;
        }
        if (depth == 0 && !top_ok (c, &top))
            return FALSE;
        if (c == '/' || c == '\'')
            return FALSE;
        if (c == '"') {
            quoted = TRUE;
        } else if (c == '{' || c == '[') {
            if (++depth > JSON_DEPTH_MAX)
                return FALSE;
        } else if ((c == '}' || c == ']') && depth > 0 && --depth == 0) {
            top = TOP_AFTER;
        }
    }
    return TRUE;
}

JsonNode *json_read (const char *text, gssize length, GError **error)
{
    gsize size = length < 0 ? strlen (text) : (gsize) length;
    g_autoptr (JsonParser) parser = json_parser_new ();
    g_autoptr (GError) why = NULL;

    if (memchr (text, 0, size) || !g_utf8_validate (text, size, NULL)) {
        error_set (error, BAK_ERROR_IO, _("not JSON: not UTF-8 text"));
        return NULL;
    }
    if (!shape_ok (text, size)) {
        error_set (error, BAK_ERROR_IO,
                   _("not JSON: not one value, or nested deeper than %d levels"), JSON_DEPTH_MAX);
        return NULL;
    }
    if (!json_parser_load_from_data (parser, text, size, &why)) {
        g_autofree char *shown = text_sanitize (why->message, 512);
        error_set (error, BAK_ERROR_IO, _("not JSON: %s"), shown);
        return NULL;
    }
    JsonNode *root = json_parser_steal_root (parser);
    if (!root)
        error_set (error, BAK_ERROR_IO, _("not JSON: empty"));
    return root;
}

JsonNode *json_read_object (const char *text, gssize length, JsonObject **ret_object,
                            GError **error)
{
    g_autoptr (JsonNode) root = json_read (text, length, error);

    if (!root)
        return NULL;
    if (!JSON_NODE_HOLDS_OBJECT (root)) {
        error_set (error, BAK_ERROR_IO, _("not a JSON object"));
        return NULL;
    }
    *ret_object = json_node_get_object (root);
    return g_steal_pointer (&root);
}

char *json_write (JsonNode *node)
{
    g_autoptr (JsonGenerator) generator = json_generator_new ();

    json_generator_set_root (generator, node);
    json_generator_set_pretty (generator, TRUE);
    g_autofree char *text = json_generator_to_data (generator, NULL);
    return g_strconcat (text, "\n", NULL);
}

static JsonNode *get_value (JsonObject *object, const char *key, GType type)
{
    JsonNode *node = object ? json_object_get_member (object, key) : NULL;

    return node && JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == type ? node
                                                                                           : NULL;
}

const char *json_get_string (JsonObject *object, const char *key)
{
    JsonNode *node = get_value (object, key, G_TYPE_STRING);
    return node ? json_node_get_string (node) : NULL;
}

gint64 json_get_int (JsonObject *object, const char *key, gint64 fallback)
{
    JsonNode *node = get_value (object, key, G_TYPE_INT64);
    return node ? json_node_get_int (node) : fallback;
}

gboolean json_get_bool (JsonObject *object, const char *key, gboolean fallback)
{
    JsonNode *node = get_value (object, key, G_TYPE_BOOLEAN);
    return node ? json_node_get_boolean (node) : fallback;
}

JsonObject *json_get_object (JsonObject *object, const char *key)
{
    JsonNode *node = object ? json_object_get_member (object, key) : NULL;
    return node && JSON_NODE_HOLDS_OBJECT (node) ? json_node_get_object (node) : NULL;
}

JsonArray *json_get_array (JsonObject *object, const char *key)
{
    JsonNode *node = object ? json_object_get_member (object, key) : NULL;
    return node && JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : NULL;
}

JsonObject *json_get_element (JsonArray *array, guint i)
{
    JsonNode *node =
        array && i < json_array_get_length (array) ? json_array_get_element (array, i) : NULL;
    return node && JSON_NODE_HOLDS_OBJECT (node) ? json_node_get_object (node) : NULL;
}

const char *json_get_string_element (JsonArray *array, guint i)
{
    JsonNode *node =
        array && i < json_array_get_length (array) ? json_array_get_element (array, i) : NULL;
    return node && JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == G_TYPE_STRING
               ? json_node_get_string (node)
               : NULL;
}
