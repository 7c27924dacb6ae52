#include <string.h>
#include "schema_check.h"
#include "util/error.h"
#include "util/json.h"

static GHashTable *index_schema (JsonNode *schema)
{
    GHashTable *types = g_hash_table_new (g_str_hash, g_str_equal);
    JsonArray *array = json_node_get_array (schema);
    for (guint i = 0; i < json_array_get_length (array); i++) {
        JsonObject *entity = json_get_element (array, i);
        g_hash_table_insert (types, (gpointer) json_get_string (entity, "name"), entity);
    }
    return types;
}

static JsonObject *find (JsonArray *array, const char *key, const char *value)
{
    for (guint i = 0; array && i < json_array_get_length (array); i++)
        if (g_strcmp0 (json_get_string (json_get_element (array, i), key), value) == 0)
            return json_get_element (array, i);
    return NULL;
}

static gboolean check_value (GHashTable *types, const char *type, JsonNode *value, GError **error);

static gboolean wrong (GError **error, const char *type, const char *expected)
{
    return error_set (error, BAK_ERROR_INVALID_ARGUMENT, "%s expected (type %s)", expected, type);
}

static gboolean check_builtin (JsonObject *type, JsonNode *value, GError **error)
{
    const char *want = json_get_string (type, "json-type"), *name = json_get_string (type, "name");
    if (g_str_equal (want, "value"))
        return TRUE;
    if (JSON_NODE_HOLDS_NULL (value))
        return g_str_equal (want, "null") || wrong (error, name, want);
    GType have = JSON_NODE_HOLDS_VALUE (value) ? json_node_get_value_type (value) : G_TYPE_INVALID;
    gboolean ok = g_str_equal (want, "string")    ? have == G_TYPE_STRING
                  : g_str_equal (want, "boolean") ? have == G_TYPE_BOOLEAN
                  : g_str_equal (want, "int")     ? have == G_TYPE_INT64
                  : g_str_equal (want, "number")  ? have == G_TYPE_INT64 || have == G_TYPE_DOUBLE
                                                  : FALSE;
    return ok || wrong (error, name, want);
}

static gboolean check_enum (JsonObject *type, JsonNode *value, GError **error)
{
    if (!JSON_NODE_HOLDS_VALUE (value) || json_node_get_value_type (value) != G_TYPE_STRING)
        return wrong (error, json_get_string (type, "name"), "string");
    const char *text = json_node_get_string (value);
    if (find (json_get_array (type, "members"), "name", text))
        return TRUE;
    JsonArray *values = json_get_array (type, "values");
    for (guint i = 0; values && i < json_array_get_length (values); i++)
        if (g_strcmp0 (json_get_string_element (values, i), text) == 0)
            return TRUE;
    return error_set (error, BAK_ERROR_INVALID_ARGUMENT, "'%s' is not one of its values", text);
}

static gboolean check_array (GHashTable *types, JsonObject *type, JsonNode *value, GError **error)
{
    if (!JSON_NODE_HOLDS_ARRAY (value))
        return wrong (error, json_get_string (type, "name"), "array");
    JsonArray *array = json_node_get_array (value);
    for (guint i = 0; i < json_array_get_length (array); i++)
        if (!check_value (types, json_get_string (type, "element-type"),
                          json_array_get_element (array, i), error))
            return error_note (error, "[%u]", i);
    return TRUE;
}

static gboolean check_alternate (GHashTable *types, JsonObject *type, JsonNode *value,
                                 GError **error)
{
    JsonArray *members = json_get_array (type, "members");
    g_autoptr (GError) last = NULL;
    for (guint i = 0; i < json_array_get_length (members); i++) {
        g_clear_error (&last);
        const char *branch = json_get_string (json_get_element (members, i), "type");
        if (check_value (types, branch, value, &last))
            return TRUE;
        JsonObject *target = g_hash_table_lookup (types, branch);
        if (JSON_NODE_HOLDS_OBJECT (value)
            && g_str_equal (json_get_string (target, "meta-type"), "object"))
            break; /* the branch that was meant: its complaint is the useful one */
    }
    g_propagate_error (error, g_steal_pointer (&last));
    return FALSE;
}

/* The members of a type and of the variant that value chooses. */
static GPtrArray *member_lists (GHashTable *types, JsonObject *type, JsonObject *value)
{
    GPtrArray *lists = g_ptr_array_new ();
    while (type) {
        g_ptr_array_add (lists, json_get_array (type, "members"));
        const char *tag = json_get_string (type, "tag");
        const char *chosen = tag ? json_get_string (value, tag) : NULL;
        JsonObject *variant =
            chosen ? find (json_get_array (type, "variants"), "case", chosen) : NULL;
        type = variant ? g_hash_table_lookup (types, json_get_string (variant, "type")) : NULL;
    }
    return lists;
}

static gboolean check_object (GHashTable *types, JsonObject *type, JsonNode *value, GError **error)
{
    if (!JSON_NODE_HOLDS_OBJECT (value))
        return wrong (error, json_get_string (type, "name"), "object");
    JsonObject *object = json_node_get_object (value);
    g_autoptr (GPtrArray) lists = member_lists (types, type, object);
    g_autoptr (GList) given = json_object_get_members (object);
    for (GList *l = given; l; l = l->next) {
        JsonObject *member = NULL;
        for (guint i = 0; i < lists->len && !member; i++)
            member = find (g_ptr_array_index (lists, i), "name", l->data);
        if (!member)
            return error_set (error, BAK_ERROR_INVALID_ARGUMENT, "'%s' is no member",
                              (char *) l->data);
        if (!check_value (types, json_get_string (member, "type"),
                          json_object_get_member (object, l->data), error))
            return error_note (error, "%s", (char *) l->data);
    }
    for (guint i = 0; i < lists->len; i++) {
        JsonArray *members = g_ptr_array_index (lists, i);
        for (guint j = 0; members && j < json_array_get_length (members); j++) {
            JsonObject *member = json_get_element (members, j);
            const char *name = json_get_string (member, "name");
            if (!json_object_has_member (member, "default")
                && !json_object_has_member (object, name))
                return error_set (error, BAK_ERROR_INVALID_ARGUMENT, "'%s' is missing", name);
        }
    }
    return TRUE;
}

static gboolean check_value (GHashTable *types, const char *name, JsonNode *value, GError **error)
{
    JsonObject *type = g_hash_table_lookup (types, name);
    const char *meta = type ? json_get_string (type, "meta-type") : "";
    if (g_str_equal (meta, "builtin"))
        return check_builtin (type, value, error);
    if (g_str_equal (meta, "enum"))
        return check_enum (type, value, error);
    if (g_str_equal (meta, "array"))
        return check_array (types, type, value, error);
    if (g_str_equal (meta, "alternate"))
        return check_alternate (types, type, value, error);
    if (g_str_equal (meta, "object"))
        return check_object (types, type, value, error);
    return error_set (error, BAK_ERROR_INTERNAL, "the schema has no type '%s'", name);
}

/* Commands whose arguments QEMU does not describe ("gen": false). */
static gboolean is_open (const char *command)
{
    return g_str_equal (command, "device_add") || g_str_equal (command, "object-add");
}

gboolean schema_check_command (JsonNode *schema, const char *command, JsonObject *args,
                               GError **error)
{
    g_autoptr (GHashTable) types = index_schema (schema);
    JsonObject *entity = g_hash_table_lookup (types, command);
    if (!entity || !g_str_equal (json_get_string (entity, "meta-type"), "command"))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, "%s: no such command", command);
    g_autoptr (JsonObject) none = args ? NULL : json_object_new ();
    g_autoptr (JsonNode) value = json_node_init_object (json_node_alloc (), args ? args : none);
    return is_open (command)
           || check_value (types, json_get_string (entity, "arg-type"), value, error)
           || error_note (error, "%s", command);
}
