/* Whether a QEMU of which the schema was recorded would accept a command: names, types, enumeration
 * values, mandatory members. */
#pragma once
#include <json-glib/json-glib.h>

/* schema: the value of query-qmp-schema. args NULL: none. *error names the path to what is wrong
 * ("blockdev-add: file.filename: ..."). */
gboolean schema_check_command (JsonNode *schema, const char *command, JsonObject *args,
                               GError **error);
