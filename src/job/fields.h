/* One table says which member of a struct is which key of a record and of what kind; writing and
 * reading both walk it, so that they cannot disagree. */
#pragma once
#include <json-glib/json-glib.h>
#include "driver/driver.h"

enum { RECORD_VERSION = 1 };

typedef enum {
    KIND_STRING,   /* char *; "" is absent */
    KIND_NULLABLE, /* char *; NULL is absent */
    KIND_INT,      /* int */
    KIND_BOOL,     /* unsigned int, nearly always 0 or 1 */
    KIND_STATE,    /* int JOB_STATE_* */
    KIND_MODE,     /* int JOB_MODE_* */
    KIND_INT64,
    KIND_SIZE,    /* guint64 */
    KIND_TIME,    /* gint64, microseconds; 0: null */
    KIND_SECONDS, /* gint64, seconds; 0: null */
    KIND_STRINGS, /* the { len, val } of an XDR array of strings */
} FieldKind;

typedef struct {
    const char *key;
    FieldKind kind;
    gsize offset;
    gsize max; /* bytes of a string */
} Field;

JsonObject *fields_to_json (const Field *fields, gsize count, const void *base);
JsonNode *object_node (JsonObject *object);
/* Absent and null members keep zero; KIND_STRING members become "". */
gboolean fields_from_json (const Field *fields, gsize count, JsonObject *object, void *base,
                           GError **error);
gboolean version_check (JsonObject *object, GError **error);
/* The list of objects below key; NULL with *error when it is something else or too long. Absent:
 * empty. */
gboolean disks_array (JsonObject *object, JsonArray **ret_array, guint *ret_count, GError **error);
