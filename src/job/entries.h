/* Records as files: DIR/KIND/NAME.json. */
#pragma once
#include <json-glib/json-glib.h>
#include "util/error.h"

char *entry_path (const char *dir, const char *kind, const char *name);
/* The name that the file of a directory entry stands for; NULL: not one of ours (temporary,
 * foreign). */
char *entry_name (const char *file);
/* A directory made now must itself survive a crash. */
gboolean make_folder (const char *dir, const char *kind, GError **error);
JsonNode *read_entry (const char *path, JsonObject **ret_object, GError **error);
