/* Members of a JSON object that came from outside: absent and of the wrong type are the same. Borrowed from the object. */
#pragma once
#include <json-glib/json-glib.h>

const char *node_string (JsonNode *node);                                       /* NULL */
const char *member_string (JsonObject *object, const char *name);               /* NULL */
JsonObject *member_object (JsonObject *object, const char *name);               /* NULL */
JsonArray *member_array (JsonObject *object, const char *name);                 /* NULL */
gboolean member_bool (JsonObject *object, const char *name, gboolean fallback);
/* FALSE: absent, not an integer, negative or above max. JSON's 2^63 and more always is. */
gboolean member_uint (JsonObject *object, const char *name, guint64 max, guint64 *ret_value);
