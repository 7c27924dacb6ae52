/* JSON from files and processes that nobody vouches for: bounded depth (json-glib recurses), no
 * NUL, one value. */
#pragma once
#include <json-glib/json-glib.h>
#include "util/error.h"

enum { JSON_DEPTH_MAX = 64 };

/* length < 0: NUL-terminated. The value, or NULL with BAK_ERROR_IO ("not JSON: ..."). */
JsonNode *json_read (const char *text, gssize length, GError **error);
/* The same when it must be an object; the caller owns the node, the object is borrowed from it. */
JsonNode *json_read_object (const char *text, gssize length, JsonObject **ret_object,
                            GError **error);
/* Indented, with a final newline. Caller frees. */
char *json_write (JsonNode *node);

/* Members of objects from outside: NULL, 0, FALSE or fallback when absent or of another type, never
 * a warning. Borrowed. */
const char *json_get_string (JsonObject *object, const char *key);
gint64 json_get_int (JsonObject *object, const char *key, gint64 fallback);
gboolean json_get_bool (JsonObject *object, const char *key, gboolean fallback);
JsonObject *json_get_object (JsonObject *object, const char *key);
JsonArray *json_get_array (JsonObject *object, const char *key);
/* Element i as an object; NULL when it is none. */
JsonObject *json_get_element (JsonArray *array, guint i);
/* Element i as a string; NULL when it is none. */
const char *json_get_string_element (JsonArray *array, guint i);
