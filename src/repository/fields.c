#include <string.h>
#include <glib/gi18n-lib.h>
#include "repository/fields.h"
#include "repository/manifest.h"

enum { NAME_MAX_SAFE = 200 };

gboolean fields_name_is_safe (const char *name)
{
    if (!name || !g_ascii_isalnum (*name) || strlen (name) > NAME_MAX_SAFE)
        return FALSE;
    for (; *name; name++)
        if (!g_ascii_isalnum (*name) && !strchr ("._-+", *name))
            return FALSE;
    return TRUE;
}

void fields_fail (Fields *fields, const char *key, const char *why)
{
    if (!fields->failed)
        error_set (fields->error, BAK_ERROR_INEXACT, _("%s: '%s' %s"), fields->document, key, why);
    fields->failed = TRUE;
}

/* NULL: not there, or it is a fault that has been told. */
static JsonNode *member (Fields *fields, JsonObject *object, const char *key, FieldNeed need)
{
    JsonNode *node = object && !fields->failed ? json_object_get_member (object, key) : NULL;
    if (node && !JSON_NODE_HOLDS_NULL (node))
        return node;
    if (need == FIELD_REQUIRED)
        fields_fail (fields, key, _("is missing"));
    return NULL;
}

static gboolean holds (JsonNode *node, GType type)
{
    return JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == type;
}

static const char *text_of (Fields *fields, JsonNode *node, const char *key)
{
    if (!holds (node, G_TYPE_STRING))
        fields_fail (fields, key, _("is no text"));
    else if (strlen (json_node_get_string (node)) > FIELD_TEXT_MAX)
        fields_fail (fields, key, _("is too long"));
    else
        return json_node_get_string (node);
    return NULL;
}

char *fields_text (Fields *fields, JsonObject *object, const char *key, FieldNeed need)
{
    JsonNode *node = member (fields, object, key, need);
    return node ? g_strdup (text_of (fields, node, key)) : NULL;
}

char *fields_name (Fields *fields, JsonObject *object, const char *key, FieldNeed need)
{
    g_autofree char *name = fields_text (fields, object, key, need);
    if (!name || fields_name_is_safe (name))
        return g_steal_pointer (&name);
    fields_fail (fields, key, _("is no name that may stand in a path"));
    return NULL;
}

char *fields_hash (Fields *fields, JsonObject *object, const char *key, FieldNeed need)
{
    g_autofree char *hash = fields_text (fields, object, key, need);
    if (!hash || (strlen (hash) == 64 && strspn (hash, "0123456789abcdef") == 64))
        return g_steal_pointer (&hash);
    fields_fail (fields, key, _("is no SHA-256"));
    return NULL;
}

guint64 fields_number (Fields *fields, JsonObject *object, const char *key, guint64 max,
                       FieldNeed need)
{
    JsonNode *node = member (fields, object, key, need);
    if (!node)
        return 0;
    if (!holds (node, G_TYPE_INT64) || json_node_get_int (node) < 0
        || (guint64) json_node_get_int (node) > max) {
        fields_fail (fields, key, _("is out of range"));
        return 0;
    }
    return json_node_get_int (node);
}

gboolean fields_flag (Fields *fields, JsonObject *object, const char *key)
{
    JsonNode *node = member (fields, object, key, FIELD_OPTIONAL);
    if (node && !holds (node, G_TYPE_BOOLEAN))
        fields_fail (fields, key, _("is neither true nor false"));
    return node && !fields->failed && json_node_get_boolean (node);
}

gint64 fields_time (Fields *fields, JsonObject *object, const char *key, FieldNeed need)
{
    g_autofree char *text = fields_text (fields, object, key, need);
    if (!text)
        return 0;
    g_autoptr (GDateTime) time =
        g_str_has_suffix (text, "Z") ? g_date_time_new_from_iso8601 (text, NULL) : NULL;
    if (!time) {
        fields_fail (fields, key, _("is no time in UTC"));
        return 0;
    }
    return g_date_time_to_unix (time) * G_USEC_PER_SEC + g_date_time_get_microsecond (time);
}

JsonObject *fields_object (Fields *fields, JsonObject *object, const char *key, FieldNeed need)
{
    JsonNode *node = member (fields, object, key, need);
    if (node && !JSON_NODE_HOLDS_OBJECT (node)) {
        fields_fail (fields, key, _("is no object"));
        return NULL;
    }
    return node ? json_node_get_object (node) : NULL;
}

static JsonArray *array_of (Fields *fields, JsonObject *object, const char *key, guint max)
{
    JsonNode *node = member (fields, object, key, FIELD_OPTIONAL);
    if (!node)
        return NULL;
    if (JSON_NODE_HOLDS_ARRAY (node) && json_array_get_length (json_node_get_array (node)) <= max)
        return json_node_get_array (node);
    fields_fail (fields, key, _("is no list, or has too many elements"));
    return NULL;
}

void fields_each (Fields *fields, JsonObject *object, const char *key, guint max,
                  void (*take) (Fields *fields, JsonObject *element, gpointer data), gpointer data)
{
    JsonArray *array = array_of (fields, object, key, max);
    for (guint i = 0; array && i < json_array_get_length (array) && !fields->failed; i++) {
        JsonObject *element = json_get_element (array, i);
        if (element)
            take (fields, element, data);
        else
            fields_fail (fields, key, _("has an element that is no object"));
    }
}

GPtrArray *fields_texts (Fields *fields, JsonObject *object, const char *key, guint max)
{
    GPtrArray *texts = g_ptr_array_new_with_free_func (g_free);
    JsonArray *array = array_of (fields, object, key, max);
    for (guint i = 0; array && i < json_array_get_length (array) && !fields->failed; i++) {
        const char *text = text_of (fields, json_array_get_element (array, i), key);
        if (text)
            g_ptr_array_add (texts, g_strdup (text));
    }
    return texts;
}

char *fields_format_time (gint64 microseconds)
{
    g_autoptr (GDateTime) seconds = g_date_time_new_from_unix_utc (microseconds / G_USEC_PER_SEC);
    g_autofree char *text = seconds ? g_date_time_format (seconds, "%Y-%m-%dT%H:%M:%S") : NULL;
    return text ? g_strdup_printf ("%s.%06dZ", text, (int) (microseconds % G_USEC_PER_SEC)) : NULL;
}
