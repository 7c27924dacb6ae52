/* Structs as JSON and back. What is read has passed a file system and perhaps an editor: types,
 * lengths and counts are checked. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "job/fields.h"
#include "util/json.h"

typedef struct {
    u_int len;
    char **val;
} StringArray;

#define AT(base, field, type) ((type *) ((char *) (base) + (field)->offset))

/* ---- writing ---- */

/* JSON is UTF-8, a path need not be. */
static JsonNode *string_node (const char *text)
{
    JsonNode *node = json_node_new (JSON_NODE_VALUE);

    if (g_utf8_validate (text, -1, NULL)) {
        json_node_set_string (node, text);
        return node;
    }
    JsonObject *object = json_object_new ();
    g_autofree char *encoded = g_base64_encode ((const guchar *) text, strlen (text));
    json_object_set_string_member (object, "base64", encoded);
    json_node_init_object (node, object);
    json_object_unref (object);
    return node;
}

static JsonNode *size_node (guint64 value)
{
    JsonNode *node = json_node_new (JSON_NODE_VALUE);

    if (value <= G_MAXINT64) {
        json_node_set_int (node, value);
    } else {
        g_autofree char *text = g_strdup_printf ("%" G_GUINT64_FORMAT, value);
        json_node_set_string (node, text);
    }
    return node;
}

/* What RFC 3339 cannot say (before year 1, after 9999) is left as a number. */
static JsonNode *time_node (gint64 value, gint64 units)
{
    gint64 seconds = value / units - (value % units < 0),
           fraction = (value % units + units) % units;
    JsonNode *node = json_node_new (value ? JSON_NODE_VALUE : JSON_NODE_NULL);
    g_autoptr (GDateTime) when = value ? g_date_time_new_from_unix_utc (seconds) : NULL;

    if (when) {
        g_autofree char *rest = g_date_time_format (when, "-%m-%dT%H:%M:%S");
        g_autofree char *day = g_strdup_printf ("%04d%s", g_date_time_get_year (when), rest);
        g_autofree char *text = units == 1
                                    ? g_strconcat (day, "Z", NULL)
                                    : g_strdup_printf ("%s.%06" G_GINT64_FORMAT "Z", day, fraction);
        json_node_set_string (node, text);
    } else if (value) {
        json_node_set_int (node, value);
    }
    return node;
}

static JsonNode *int_node (gint64 value)
{
    JsonNode *node = json_node_new (JSON_NODE_VALUE);
    json_node_set_int (node, value);
    return node;
}

static JsonNode *bool_node (guint value)
{
    if (value > 1)
        return int_node (value);
    JsonNode *node = json_node_new (JSON_NODE_VALUE);
    json_node_set_boolean (node, value);
    return node;
}

static const char *const modes[] = { "push", "pull" };

static JsonNode *name_node (int value, FieldKind kind)
{
    const char *name = NULL;

    if (kind == KIND_MODE)
        name = value >= 0 && value < (int) G_N_ELEMENTS (modes) ? modes[value] : NULL;
    else if (value >= 0 && job_state_from_string (job_state_to_string (value)) == value)
        name = job_state_to_string (value);
    return name ? string_node (name) : int_node (value);
}

static JsonNode *strings_node (const StringArray *strings)
{
    JsonArray *array = json_array_new ();

    for (u_int i = 0; i < strings->len; i++)
        json_array_add_element (array, string_node (strings->val[i] ? strings->val[i] : ""));
    JsonNode *node = json_node_new (JSON_NODE_ARRAY);
    json_node_take_array (node, array);
    return node;
}

static JsonNode *field_to_json (const Field *field, const void *base)
{
    const char *text;

    switch (field->kind) {
    case KIND_STRING: text = *AT (base, field, char *); return string_node (text ? text : "");
    case KIND_NULLABLE:
        text = *AT (base, field, char *);
        return text ? string_node (text) : json_node_new (JSON_NODE_NULL);
    case KIND_INT: return int_node (*AT (base, field, int));
    case KIND_BOOL: return bool_node (*AT (base, field, guint));
    case KIND_STATE:
    case KIND_MODE: return name_node (*AT (base, field, int), field->kind);
    case KIND_INT64: return int_node (*AT (base, field, gint64));
    case KIND_SIZE: return size_node (*AT (base, field, guint64));
    case KIND_TIME: return time_node (*AT (base, field, gint64), G_USEC_PER_SEC);
    case KIND_SECONDS: return time_node (*AT (base, field, gint64), 1);
    case KIND_STRINGS: return strings_node (AT (base, field, StringArray));
    }
    return NULL;
}

JsonObject *fields_to_json (const Field *fields, gsize count, const void *base)
{
    JsonObject *object = json_object_new ();

    for (gsize i = 0; i < count; i++)
        json_object_set_member (object, fields[i].key, field_to_json (&fields[i], base));
    return object;
}

JsonNode *object_node (JsonObject *object)
{
    JsonNode *node = json_node_new (JSON_NODE_OBJECT);
    json_node_take_object (node, object);
    return node;
}

/* ---- reading ---- */

static gboolean field_error (const Field *field, const char *expected, GError **error)
{
    return error_set (error, BAK_ERROR_IO, _("'%s' is not %s"), field->key, expected);
}

/* NULL without error: not a string. */
static char *node_to_string (JsonNode *node)
{
    if (JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == G_TYPE_STRING)
        return json_node_dup_string (node);
    const char *encoded = JSON_NODE_HOLDS_OBJECT (node)
                              ? json_get_string (json_node_get_object (node), "base64")
                              : NULL;
    if (!encoded)
        return NULL;
    gsize length = 0;
    g_autofree guchar *bytes = g_base64_decode (encoded, &length);
    return memchr (bytes, 0, length) ? NULL : g_strndup ((const char *) bytes, length);
}

static gboolean read_string (const Field *field, JsonNode *node, char **ret, GError **error)
{
    g_autofree char *text = node_to_string (node);

    if (!text)
        return field_error (field, _("a string"), error);
    if (strlen (text) > field->max)
        return error_set (error, BAK_ERROR_IO, _("'%s' is longer than %" G_GSIZE_FORMAT " bytes"),
                          field->key, field->max);
    *ret = g_steal_pointer (&text);
    return TRUE;
}

static gboolean read_int (const Field *field, JsonNode *node, gint64 min, gint64 max, gint64 *ret,
                          GError **error)
{
    if (!JSON_NODE_HOLDS_VALUE (node) || json_node_get_value_type (node) != G_TYPE_INT64)
        return field_error (field, _("a number"), error);
    gint64 value = json_node_get_int (node);
    if (value < min || value > max)
        return field_error (field, _("in range"), error);
    *ret = value;
    return TRUE;
}

static gboolean read_size (const Field *field, JsonNode *node, guint64 *ret, GError **error)
{
    gint64 value;
    g_autofree char *text = node_to_string (node);

    if (text)
        return g_ascii_string_to_unsigned (text, 10, 0, G_MAXUINT64, ret, NULL)
               || field_error (field, _("a size"), error);
    if (!read_int (field, node, 0, G_MAXINT64, &value, error))
        return FALSE;
    *ret = value;
    return TRUE;
}

static gboolean read_bool (const Field *field, JsonNode *node, guint *ret, GError **error)
{
    gint64 value;

    if (JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == G_TYPE_BOOLEAN)
        value = json_node_get_boolean (node);
    else if (!read_int (field, node, 0, G_MAXUINT, &value, error))
        return FALSE;
    *ret = value;
    return TRUE;
}

static gboolean read_name (const Field *field, JsonNode *node, int *ret, GError **error)
{
    gint64 value;
    g_autofree char *text = node_to_string (node);

    if (!text) {
        if (!read_int (field, node, G_MININT, G_MAXINT, &value, error))
            return FALSE;
        *ret = value;
        return TRUE;
    }
    int found = -1;
    if (field->kind == KIND_STATE)
        found = job_state_from_string (text);
    for (int i = 0; field->kind == KIND_MODE && i < (int) G_N_ELEMENTS (modes); i++)
        if (g_str_equal (text, modes[i]))
            found = i;
    if (found < 0)
        return field_error (field, field->kind == KIND_MODE ? _("a mode") : _("a job state"),
                            error);
    *ret = found;
    return TRUE;
}

/* The digits behind the dot; *ret_rest is what follows them. At most as many as units has zeros. */
static gboolean parse_fraction (const char *text, gint64 units, gint64 *ret_fraction,
                                const char **ret_rest)
{
    gint64 fraction = 0;

    for (; g_ascii_isdigit (*text); text++) {
        units /= 10;
        if (units == 0)
            return FALSE;
        fraction += (*text - '0') * units;
    }
    *ret_fraction = fraction;
    *ret_rest = text;
    return TRUE;
}

static gboolean parse_time (const char *text, gint64 units, gint64 *ret)
{
    const char *dot = strchr (text, '.'), *rest = NULL;
    gint64 fraction = 0;
    g_autofree char *whole = NULL;

    if (dot && !parse_fraction (dot + 1, units, &fraction, &rest))
        return FALSE;
    whole = dot ? g_strdup_printf ("%.*s%s", (int) (dot - text), text, rest) : g_strdup (text);
    g_autoptr (GTimeZone) utc = g_time_zone_new_utc ();
    g_autoptr (GDateTime) when = g_date_time_new_from_iso8601 (whole, utc);
    if (!when)
        return FALSE;
    *ret = g_date_time_to_unix (when) * units + fraction; /* years have four digits: no overflow */
    return TRUE;
}

static gboolean read_time (const Field *field, JsonNode *node, gint64 *ret, GError **error)
{
    gint64 units = field->kind == KIND_TIME ? G_USEC_PER_SEC : 1;
    g_autofree char *text = node_to_string (node);

    if (!text)
        return read_int (field, node, G_MININT64, G_MAXINT64, ret, error);
    return parse_time (text, units, ret) || field_error (field, _("a time"), error);
}

static gboolean read_strings (const Field *field, JsonNode *node, StringArray *ret, GError **error)
{
    if (!JSON_NODE_HOLDS_ARRAY (node))
        return field_error (field, _("a list"), error);
    JsonArray *array = json_node_get_array (node);
    guint count = json_array_get_length (array);
    if (count > BAK_NAMES_MAX)
        return error_set (error, BAK_ERROR_IO, _("'%s' has more than %d entries"), field->key,
                          BAK_NAMES_MAX);
    ret->val = ret_array (count, sizeof *ret->val);
    for (guint i = 0; i < count; i++) {
        char *text = NULL;
        if (!read_string (field, json_array_get_element (array, i), &text, error)) {
            while (i > 0)
                g_free (ret->val[--i]);
            g_clear_pointer (&ret->val, free);
            return FALSE;
        }
        ret->val[i] = text;
    }
    ret->len = count;
    return TRUE;
}

static gboolean field_from_json (const Field *field, JsonNode *node, void *base, GError **error)
{
    gint64 value = 0;

    switch (field->kind) {
    case KIND_STRING:
        g_clear_pointer (AT (base, field, char *), g_free);
        return read_string (field, node, AT (base, field, char *), error);
    case KIND_NULLABLE: return read_string (field, node, AT (base, field, char *), error);
    case KIND_INT:
        if (!read_int (field, node, G_MININT, G_MAXINT, &value, error))
            return FALSE;
        *AT (base, field, int) = value;
        return TRUE;
    case KIND_BOOL: return read_bool (field, node, AT (base, field, guint), error);
    case KIND_STATE:
    case KIND_MODE: return read_name (field, node, AT (base, field, int), error);
    case KIND_INT64:
        return read_int (field, node, G_MININT64, G_MAXINT64, AT (base, field, gint64), error);
    case KIND_SIZE: return read_size (field, node, AT (base, field, guint64), error);
    case KIND_TIME:
    case KIND_SECONDS: return read_time (field, node, AT (base, field, gint64), error);
    case KIND_STRINGS: return read_strings (field, node, AT (base, field, StringArray), error);
    }
    return FALSE;
}

gboolean fields_from_json (const Field *fields, gsize count, JsonObject *object, void *base,
                           GError **error)
{
    for (gsize i = 0; i < count; i++)
        if (fields[i].kind == KIND_STRING)
            *AT (base, &fields[i], char *) = ret_string ("");
    for (gsize i = 0; i < count; i++) {
        JsonNode *node = json_object_get_member (object, fields[i].key);
        if (node && !JSON_NODE_HOLDS_NULL (node)
            && !field_from_json (&fields[i], node, base, error))
            return FALSE;
    }
    return TRUE;
}

gboolean version_check (JsonObject *object, GError **error)
{
    gint64 version = json_get_int (object, "version", -1);

    if (version < 1)
        return error_set (error, BAK_ERROR_IO, _("'version' is missing or not a number"));
    if (version > RECORD_VERSION)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("written by a newer libbackup: record version %" G_GINT64_FORMAT
                             ", this one reads up to %d"),
                          version, RECORD_VERSION);
    return TRUE;
}

gboolean disks_array (JsonObject *object, JsonArray **ret_array, guint *ret_count, GError **error)
{
    JsonNode *node = json_object_get_member (object, "disks");
    JsonArray *array = node && JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : NULL;
    guint count = array ? json_array_get_length (array) : 0;

    if (node && !array)
        return error_set (error, BAK_ERROR_IO, _("'disks' is not a list"));
    if (count > BAK_DISKS_MAX)
        return error_set (error, BAK_ERROR_IO, _("'disks' has more than %d entries"),
                          BAK_DISKS_MAX);
    for (guint i = 0; i < count; i++)
        if (!json_get_element (array, i))
            return error_set (error, BAK_ERROR_IO, _("an entry of 'disks' is not an object"));
    *ret_array = array;
    *ret_count = count;
    return TRUE;
}
