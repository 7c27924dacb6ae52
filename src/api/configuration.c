#include <unistd.h>
#include "api/api.h"
#include "util/config.h"
#include "util/files.h"
#include "util/json.h"

static gboolean add_pair (const ConfigPair *pair, gpointer data, GError **error)
{
    JsonObject *object = json_object_new ();
    g_autofree char *key = g_utf8_make_valid (pair->key, -1),
                    *value = g_utf8_make_valid (pair->value, -1);
    json_object_set_int_member (object, "line", pair->line);
    json_object_set_string_member (object, "key", key);
    json_object_set_string_member (object, "value", value);
    json_array_add_object_element (data, object);
    return TRUE;
}

char *bak_configuration_read (const char *path, BakError **error)
{
    GError *internal = NULL;
    API_NOT_NULL (path, error, NULL);
    g_autoptr (JsonObject) object = json_object_new ();
    JsonArray *pairs = json_array_new ();
    json_object_set_array_member (object, "pairs", pairs);
    if (!config_read_pairs (path, add_pair, pairs, &internal)) {
        api_take_error (error, internal);
        return NULL;
    }
    g_autoptr (JsonNode) node = json_node_new (JSON_NODE_OBJECT);
    json_node_set_object (node, object);
    return json_write (node);
}

char *bak_configuration_state_dir (void)
{
    return config_state_dir (geteuid () != 0);
}
