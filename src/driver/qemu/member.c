#include "driver/qemu/member.h"

const char *node_string (JsonNode *node)
{
    return node && JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == G_TYPE_STRING ? json_node_get_string (node) : NULL;
}

const char *member_string (JsonObject *object, const char *name)
{
    return node_string (json_object_get_member (object, name));
}

JsonObject *member_object (JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member (object, name);
    return node && JSON_NODE_HOLDS_OBJECT (node) ? json_node_get_object (node) : NULL;
}

JsonArray *member_array (JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member (object, name);
    return node && JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : NULL;
}

gboolean member_bool (JsonObject *object, const char *name, gboolean fallback)
{
    JsonNode *node = json_object_get_member (object, name);
    return node && JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == G_TYPE_BOOLEAN ? json_node_get_boolean (node) : fallback;
}

gboolean member_uint (JsonObject *object, const char *name, guint64 max, guint64 *ret_value)
{
    JsonNode *node = json_object_get_member (object, name);
    if (!node || !JSON_NODE_HOLDS_VALUE (node) || json_node_get_value_type (node) != G_TYPE_INT64)
        return FALSE;
    gint64 value = json_node_get_int (node);
    if (value < 0 || (guint64) value > max)
        return FALSE;
    *ret_value = value;
    return TRUE;
}
