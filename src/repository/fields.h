/* Members of documents that anyone may have written: each is checked for presence, type and range
 * as it is taken. The first fault sticks: it is told once, names the document and the key, and what
 * is taken after it is empty. */
#pragma once
#include "util/json.h"

typedef struct {
    const char *document; /* its name, for messages */
    GError **error;
    gboolean failed;
} Fields;

typedef enum { FIELD_OPTIONAL, FIELD_REQUIRED } FieldNeed;

enum { FIELD_TEXT_MAX = 4096 };

void fields_fail (Fields *fields, const char *key, const char *why);
/* Copies; NULL when it is not there (or null). UTF-8 of at most FIELD_TEXT_MAX bytes. */
char *fields_text (Fields *fields, JsonObject *object, const char *key, FieldNeed need);
/* Letters, digits, and, except in front, ".", "_", "-", "+": a text that may stand in a path. */
gboolean fields_name_is_safe (const char *name);
/* Such a text. */
char *fields_name (Fields *fields, JsonObject *object, const char *key, FieldNeed need);
/* 64 lower-case hex digits. */
char *fields_hash (Fields *fields, JsonObject *object, const char *key, FieldNeed need);
guint64 fields_number (Fields *fields, JsonObject *object, const char *key, guint64 max,
                       FieldNeed need);
gboolean fields_flag (Fields *fields, JsonObject *object, const char *key);
/* RFC 3339 in UTC; microseconds since 1970. */
gint64 fields_time (Fields *fields, JsonObject *object, const char *key, FieldNeed need);
JsonObject *fields_object (Fields *fields, JsonObject *object, const char *key, FieldNeed need);
/* Calls take (fields, element, data) for each object of an array of at most max. */
void fields_each (Fields *fields, JsonObject *object, const char *key, guint max,
                  void (*take) (Fields *fields, JsonObject *element, gpointer data), gpointer data);
/* Texts, none longer than FIELD_TEXT_MAX. */
GPtrArray *fields_texts (Fields *fields, JsonObject *object, const char *key, guint max);

/* "2026-11-29T01:00:03.000000Z"; caller frees. */
char *fields_format_time (gint64 microseconds);
