/* What is said of a run: one JSON document, which is kept, and of which the text for people is
 * made. Its keys are in docs/nightly.md: add, do not rename. */
#pragma once
#include "job.h"

/* Members, whatever a kept document has there: NULL, 0 or an empty array when absent or of another
 * type. Borrowed. */
const char *report_get_text (JsonObject *object, const char *key);
gint64 report_get_int (JsonObject *object, const char *key);
gint64 report_get_time (JsonObject *object, const char *key); /* microseconds; 0: none */
JsonArray *report_get_array (JsonObject *object, const char *key);
JsonObject *report_get_object (JsonObject *object, const char *key);
JsonObject *report_element (JsonArray *array, guint i); /* NULL: it is no object */

/* "3 of 20 guests failed: db, mail, web". Caller frees. */
char *report_headline (JsonObject *report);
/* The whole, for mail and terminals. Caller frees. */
char *report_text (JsonObject *report);
/* One guest's line while it runs. Caller frees. */
char *report_row_line (JsonObject *row);

/* Keeps it with those before it, of which the oldest go. FALSE: *ret_why, caller frees. */
gboolean report_keep (JsonObject *report, char **ret_why);
/* The ids of those that are kept, the oldest first. */
GPtrArray *report_list (const char *job); /* char* */
/* id NULL: the newest. NULL: there is none that can be read. json_object_unref() it. */
JsonObject *report_load (const char *job, const char *id);
/* An object of a file; NULL: none that can be read. */
JsonObject *report_load_file (const char *path);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Table, table_free)
