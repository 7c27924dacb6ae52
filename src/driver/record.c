/* Records as JSON. One table says which member of a struct is which key and of what kind; writing and reading both walk it,
 * so that they cannot disagree. What is read has passed a file system and perhaps an editor: types, lengths and counts are
 * checked, names are checked before they become paths. */
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "conf/checkpoint_def.h"
#include "driver/record.h"
#include "util/files.h"
#include "util/json.h"

enum { RECORD_VERSION = 1, RECORD_SIZE_MAX = 64 * 1024 * 1024 };

typedef enum {
    KIND_STRING,                /* char *; "" is absent */
    KIND_NULLABLE,              /* char *; NULL is absent */
    KIND_INT,                   /* int */
    KIND_BOOL,                  /* unsigned int, nearly always 0 or 1 */
    KIND_STATE,                 /* int JOB_STATE_* */
    KIND_MODE,                  /* int JOB_MODE_* */
    KIND_INT64,
    KIND_SIZE,                  /* guint64 */
    KIND_TIME,                  /* gint64, microseconds; 0: null */
    KIND_SECONDS,               /* gint64, seconds; 0: null */
    KIND_STRINGS,               /* the { len, val } of an XDR array of strings */
} FieldKind;

typedef struct {
    const char *key;
    FieldKind kind;
    gsize offset;
    gsize max;                  /* bytes of a string */
} Field;

typedef struct { u_int len; char **val; } StringArray;

#define AT(base, field, type) ((type *) ((char *) (base) + (field)->offset))

#define JOB(member, kind, max) { #member, kind, G_STRUCT_OFFSET (bak_job, member), max }
static const Field job_fields[] = {
    JOB (id, KIND_STRING, BAK_NAME_MAX),
    JOB (domain, KIND_STRING, BAK_NAME_MAX),
    JOB (mode, KIND_MODE, 0),
    JOB (state, KIND_STATE, 0),
    JOB (started, KIND_TIME, 0),
    JOB (ended, KIND_TIME, 0),
    JOB (error, KIND_STRING, BAK_MESSAGE_MAX),
    JOB (error_code, KIND_INT, 0),
    JOB (partial, KIND_BOOL, 0),
    JOB (checkpoint, KIND_STRING, BAK_NAME_MAX),
    JOB (server, KIND_STRING, BAK_PATH_MAX),
    JOB (consistency, KIND_STRING, BAK_NAME_MAX),
    JOB (frozen, KIND_SIZE, 0),
    JOB (notes, KIND_STRINGS, BAK_MESSAGE_MAX),
    JOB (temp_used, KIND_SIZE, 0),
    JOB (temp_total, KIND_SIZE, 0),
    JOB (aborted, KIND_BOOL, 0),
    JOB (acknowledged, KIND_BOOL, 0),
    JOB (owner, KIND_STRING, BAK_NAME_MAX),
    JOB (elapsed, KIND_SIZE, 0),
};

#define DISK(member, kind, max) { #member, kind, G_STRUCT_OFFSET (bak_job_disk, member), max }
static const Field disk_fields[] = {
    DISK (target, KIND_STRING, BAK_NAME_MAX),
    DISK (state, KIND_STATE, 0),
    DISK (type, KIND_STRING, BAK_NAME_MAX),
    DISK (reason, KIND_STRING, BAK_MESSAGE_MAX),
    DISK (bytes, KIND_SIZE, 0),
    DISK (total, KIND_SIZE, 0),
    DISK (error, KIND_STRING, BAK_MESSAGE_MAX),
    DISK (path, KIND_STRING, BAK_PATH_MAX),
    DISK (scratch, KIND_STRING, BAK_PATH_MAX),
    DISK (format, KIND_STRING, BAK_NAME_MAX),
    DISK (export_name, KIND_STRING, BAK_NAME_MAX),
    DISK (bitmap, KIND_STRING, BAK_NAME_MAX),
    DISK (limit, KIND_SIZE, 0),
    DISK (protection, KIND_STRING, BAK_MESSAGE_MAX),
    DISK (since, KIND_STRING, BAK_NAME_MAX),
};

#define CHECKPOINT(member, kind, max) { #member, kind, G_STRUCT_OFFSET (Checkpoint, member), max }
static const Field checkpoint_fields[] = {
    CHECKPOINT (name, KIND_NULLABLE, BAK_NAME_MAX),
    CHECKPOINT (parent, KIND_NULLABLE, BAK_NAME_MAX),
    CHECKPOINT (description, KIND_NULLABLE, BAK_MESSAGE_MAX),
    CHECKPOINT (created, KIND_SECONDS, 0),
    CHECKPOINT (sequence, KIND_INT64, 0),
    CHECKPOINT (job, KIND_NULLABLE, BAK_NAME_MAX),
    CHECKPOINT (series, KIND_NULLABLE, BAK_NAME_MAX),
    CHECKPOINT (domain_uuid, KIND_NULLABLE, BAK_NAME_MAX),
};

#define CHECKPOINT_DISK(member, kind, max) { #member, kind, G_STRUCT_OFFSET (CheckpointDisk, member), max }
static const Field checkpoint_disk_fields[] = {
    CHECKPOINT_DISK (disk, KIND_NULLABLE, BAK_NAME_MAX),
    CHECKPOINT_DISK (node, KIND_NULLABLE, BAK_NAME_MAX),
    CHECKPOINT_DISK (file, KIND_NULLABLE, BAK_PATH_MAX),
    CHECKPOINT_DISK (bitmap, KIND_NULLABLE, BAK_NAME_MAX),
    CHECKPOINT_DISK (persistent, KIND_BOOL, 0),
    CHECKPOINT_DISK (size, KIND_SIZE, 0),
    CHECKPOINT_DISK (granularity, KIND_SIZE, 0),
    CHECKPOINT_DISK (shrunk, KIND_BOOL, 0),
    CHECKPOINT_DISK (backup, KIND_NULLABLE, BAK_PATH_MAX),
    CHECKPOINT_DISK (backup_id, KIND_NULLABLE, BAK_NAME_MAX),
};

/* Writing */

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
    gint64 seconds = value / units - (value % units < 0), fraction = (value % units + units) % units;
    JsonNode *node = json_node_new (value ? JSON_NODE_VALUE : JSON_NODE_NULL);
    g_autoptr (GDateTime) when = value ? g_date_time_new_from_unix_utc (seconds) : NULL;

    if (when) {
        g_autofree char *rest = g_date_time_format (when, "-%m-%dT%H:%M:%S");
        g_autofree char *day = g_strdup_printf ("%04d%s", g_date_time_get_year (when), rest);
        g_autofree char *text = units == 1 ? g_strconcat (day, "Z", NULL)
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
    case KIND_STRING:
        text = *AT (base, field, char *);
        return string_node (text ? text : "");
    case KIND_NULLABLE:
        text = *AT (base, field, char *);
        return text ? string_node (text) : json_node_new (JSON_NODE_NULL);
    case KIND_INT:
        return int_node (*AT (base, field, int));
    case KIND_BOOL:
        return bool_node (*AT (base, field, guint));
    case KIND_STATE:
    case KIND_MODE:
        return name_node (*AT (base, field, int), field->kind);
    case KIND_INT64:
        return int_node (*AT (base, field, gint64));
    case KIND_SIZE:
        return size_node (*AT (base, field, guint64));
    case KIND_TIME:
        return time_node (*AT (base, field, gint64), G_USEC_PER_SEC);
    case KIND_SECONDS:
        return time_node (*AT (base, field, gint64), 1);
    case KIND_STRINGS:
        return strings_node (AT (base, field, StringArray));
    }
    return NULL;
}

static JsonObject *fields_to_json (const Field *fields, gsize count, const void *base)
{
    JsonObject *object = json_object_new ();

    for (gsize i = 0; i < count; i++)
        json_object_set_member (object, fields[i].key, field_to_json (&fields[i], base));
    return object;
}

static JsonNode *object_node (JsonObject *object)
{
    JsonNode *node = json_node_new (JSON_NODE_OBJECT);
    json_node_take_object (node, object);
    return node;
}

JsonNode *record_to_json (const bak_job *job)
{
    JsonObject *object = fields_to_json (job_fields, G_N_ELEMENTS (job_fields), job);
    JsonArray *disks = json_array_new ();

    json_object_set_int_member (object, "version", RECORD_VERSION);
    for (u_int i = 0; i < job->disks.disks_len; i++)
        json_array_add_object_element (disks, fields_to_json (disk_fields, G_N_ELEMENTS (disk_fields), &job->disks.disks_val[i]));
    json_object_set_array_member (object, "disks", disks);
    return object_node (object);
}

/* Reading */

static gboolean field_error (const Field *field, const char *expected, GError **error)
{
    return error_set (error, BAK_ERROR_IO, _("'%s' is not %s"), field->key, expected);
}

/* NULL without error: not a string. */
static char *node_to_string (JsonNode *node)
{
    if (JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == G_TYPE_STRING)
        return json_node_dup_string (node);
    const char *encoded = JSON_NODE_HOLDS_OBJECT (node) ? json_get_string (json_node_get_object (node), "base64") : NULL;
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
        return error_set (error, BAK_ERROR_IO, _("'%s' is longer than %" G_GSIZE_FORMAT " bytes"), field->key, field->max);
    *ret = g_steal_pointer (&text);
    return TRUE;
}

static gboolean read_int (const Field *field, JsonNode *node, gint64 min, gint64 max, gint64 *ret, GError **error)
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
        return g_ascii_string_to_unsigned (text, 10, 0, G_MAXUINT64, ret, NULL) || field_error (field, _("a size"), error);
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
        return field_error (field, field->kind == KIND_MODE ? _("a mode") : _("a job state"), error);
    *ret = found;
    return TRUE;
}

/* The digits behind the dot; *ret_rest is what follows them. At most as many as units has zeros. */
static gboolean parse_fraction (const char *text, gint64 units, gint64 *ret_fraction, const char **ret_rest)
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
    *ret = g_date_time_to_unix (when) * units + fraction;    /* years have four digits: no overflow */
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
        return error_set (error, BAK_ERROR_IO, _("'%s' has more than %d entries"), field->key, BAK_NAMES_MAX);
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
    case KIND_NULLABLE:
        return read_string (field, node, AT (base, field, char *), error);
    case KIND_INT:
        if (!read_int (field, node, G_MININT, G_MAXINT, &value, error))
            return FALSE;
        *AT (base, field, int) = value;
        return TRUE;
    case KIND_BOOL:
        return read_bool (field, node, AT (base, field, guint), error);
    case KIND_STATE:
    case KIND_MODE:
        return read_name (field, node, AT (base, field, int), error);
    case KIND_INT64:
        return read_int (field, node, G_MININT64, G_MAXINT64, AT (base, field, gint64), error);
    case KIND_SIZE:
        return read_size (field, node, AT (base, field, guint64), error);
    case KIND_TIME:
    case KIND_SECONDS:
        return read_time (field, node, AT (base, field, gint64), error);
    case KIND_STRINGS:
        return read_strings (field, node, AT (base, field, StringArray), error);
    }
    return FALSE;
}

/* Absent and null members keep zero; KIND_STRING members become "". */
static gboolean fields_from_json (const Field *fields, gsize count, JsonObject *object, void *base, GError **error)
{
    for (gsize i = 0; i < count; i++)
        if (fields[i].kind == KIND_STRING)
            *AT (base, &fields[i], char *) = ret_string ("");
    for (gsize i = 0; i < count; i++) {
        JsonNode *node = json_object_get_member (object, fields[i].key);
        if (node && !JSON_NODE_HOLDS_NULL (node) && !field_from_json (&fields[i], node, base, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean version_check (JsonObject *object, GError **error)
{
    gint64 version = json_get_int (object, "version", -1);

    if (version < 1)
        return error_set (error, BAK_ERROR_IO, _("'version' is missing or not a number"));
    if (version > RECORD_VERSION)
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("written by a newer libbackup: record version %" G_GINT64_FORMAT ", this one reads up to %d"),
                          version, RECORD_VERSION);
    return TRUE;
}

/* The list of objects below key; NULL with *error when it is something else or too long. Absent: empty. */
static gboolean disks_array (JsonObject *object, JsonArray **ret_array, guint *ret_count, GError **error)
{
    JsonNode *node = json_object_get_member (object, "disks");
    JsonArray *array = node && JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : NULL;
    guint count = array ? json_array_get_length (array) : 0;

    if (node && !array)
        return error_set (error, BAK_ERROR_IO, _("'disks' is not a list"));
    if (count > BAK_DISKS_MAX)
        return error_set (error, BAK_ERROR_IO, _("'disks' has more than %d entries"), BAK_DISKS_MAX);
    for (guint i = 0; i < count; i++)
        if (!json_get_element (array, i))
            return error_set (error, BAK_ERROR_IO, _("an entry of 'disks' is not an object"));
    *ret_array = array;
    *ret_count = count;
    return TRUE;
}

static gboolean job_from_object (JsonObject *object, bak_job *job, GError **error)
{
    JsonArray *disks;
    guint count;

    if (!version_check (object, error) || !fields_from_json (job_fields, G_N_ELEMENTS (job_fields), object, job, error))
        return FALSE;
    if (!record_id_check (job->id))
        return error_set (error, BAK_ERROR_IO, _("'id' is not a job's id"));
    if (!disks_array (object, &disks, &count, error))
        return FALSE;
    job->disks.disks_val = ret_array (count, sizeof (bak_job_disk));
    for (guint i = 0; i < count; i++) {
        bak_job_disk *disk = &job->disks.disks_val[i];
        gboolean ok = fields_from_json (disk_fields, G_N_ELEMENTS (disk_fields), json_get_element (disks, i), disk, error);
        job->disks.disks_len = i + 1;
        if (!ok)
            return error_note (error, _("disk %u"), i);
    }
    return TRUE;
}

gboolean record_from_json (JsonNode *node, bak_job *ret_job, GError **error)
{
    bak_job job = { 0 };

    if (!JSON_NODE_HOLDS_OBJECT (node))
        return error_set (error, BAK_ERROR_IO, _("not a JSON object"));
    if (!job_from_object (json_node_get_object (node), &job, error)) {
        bak_job_clear (&job);
        return FALSE;
    }
    *ret_job = job;
    return TRUE;
}

/* Files */

char *record_new_id (void)
{
    guint32 value;

    if (getrandom (&value, sizeof value, 0) != sizeof value)
        value = g_random_int ();
    return g_strdup_printf ("%08x", value);
}

gboolean record_id_check (const char *id)
{
    return id && strlen (id) == 8 && strspn (id, "0123456789abcdef") == 8;
}

static char *entry_path (const char *dir, const char *kind, const char *name)
{
    g_autofree char *file = g_strconcat (name, ".json", NULL);
    return g_build_filename (dir, kind, file, NULL);
}

/* The name that the file of a directory entry stands for; NULL: not one of ours (temporary, foreign). */
static char *entry_name (const char *file)
{
    return g_str_has_suffix (file, ".json") && file[0] != '.' ? g_strndup (file, strlen (file) - strlen (".json")) : NULL;
}

/* A directory made now must itself survive a crash. */
static gboolean make_folder (const char *dir, const char *kind, GError **error)
{
    g_autofree char *path = g_build_filename (dir, kind, NULL);

    if (g_file_test (path, G_FILE_TEST_IS_DIR))
        return TRUE;
    return files_make_dir (path, 0700, error) && files_fsync_parent (path, error);
}

static JsonNode *read_entry (const char *path, JsonObject **ret_object, GError **error)
{
    g_autofree char *text = NULL;
    gsize length = 0;

    if (!files_read (path, RECORD_SIZE_MAX, &text, &length, error))
        return NULL;
    JsonNode *node = json_read_object (text, length, ret_object, error);
    if (!node)
        error_note (error, _("'%s' is damaged"), path);
    return node;
}

/* A job as it lies in a file: order is the order in which the jobs of a folder began, which no clock can say. */
typedef struct { bak_job job; gint64 order; } StoredJob;

static gboolean read_job (const char *dir, const char *id, StoredJob *ret, GError **error)
{
    g_autofree char *path = entry_path (dir, "jobs", id);
    JsonObject *object;
    g_autoptr (JsonNode) node = read_entry (path, &object, error);

    if (!node)
        return FALSE;
    bak_job job;
    if (!record_from_json (node, &job, error))
        return error_note (error, error && g_error_matches (*error, BAK_ERROR, BAK_ERROR_NOT_SUPPORTED) ? "'%s'" : _("'%s' is damaged"), path);
    if (!g_str_equal (job.id, id)) {
        g_autofree char *found = g_strdup (job.id);
        bak_job_clear (&job);
        return error_set (error, BAK_ERROR_IO, _("'%s' is damaged: it holds job '%s'"), path, found);
    }
    ret->job = job;
    ret->order = json_get_int (object, "order", 0);
    return TRUE;
}

static int compare_stored (gconstpointer a, gconstpointer b)
{
    const StoredJob *left = a, *right = b;

    if (left->order != right->order)
        return left->order > right->order ? -1 : 1;
    if (left->job.started != right->job.started)
        return left->job.started > right->job.started ? -1 : 1;
    return strcmp (left->job.id, right->job.id);
}

static GArray *list_stored (const char *dir, GPtrArray *damaged)
{
    g_autofree char *folder = g_build_filename (dir, "jobs", NULL);
    g_autoptr (GDir) entries = g_dir_open (folder, 0, NULL);
    GArray *list = g_array_new (FALSE, TRUE, sizeof (StoredJob));
    const char *file;

    while (entries && (file = g_dir_read_name (entries))) {
        g_autofree char *id = entry_name (file);
        g_autoptr (GError) why = NULL;
        StoredJob stored = { 0 };
        if (!id)
            continue;
        if (!record_id_check (id))
            error_set (&why, BAK_ERROR_IO, _("'%s' in '%s' is not the name of a record"), file, folder);
        else if (read_job (dir, id, &stored, &why))
            g_array_append_val (list, stored);
        if (why && damaged)
            g_ptr_array_add (damaged, text_sanitize (why->message, 0));
    }
    g_array_sort (list, compare_stored);
    return list;
}

GArray *record_list (const char *dir, GPtrArray *damaged)
{
    g_autoptr (GArray) stored = list_stored (dir, damaged);
    GArray *jobs = g_array_sized_new (FALSE, TRUE, sizeof (bak_job), stored->len);

    for (guint i = 0; i < stored->len; i++)
        g_array_append_val (jobs, g_array_index (stored, StoredJob, i).job);
    return jobs;
}

/* The order of a job that is saved: what its file says, else one more than any other's. */
static gint64 order_of (const char *dir, const char *id)
{
    gint64 highest = 0;
    StoredJob own;

    if (read_job (dir, id, &own, NULL)) {
        bak_job_clear (&own.job);
        if (own.order > 0)
            return own.order;
    }
    g_autoptr (GArray) stored = list_stored (dir, NULL);
    for (guint i = 0; i < stored->len; i++) {
        StoredJob *entry = &g_array_index (stored, StoredJob, i);
        highest = MAX (highest, entry->order);
        bak_job_clear (&entry->job);
    }
    return highest + (highest < G_MAXINT64);
}

gboolean record_save (const char *dir, const bak_job *job, GError **error)
{
    if (!record_id_check (job->id))
        return error_set (error, BAK_ERROR_INTERNAL, _("a job without an id cannot be recorded"));
    if (!make_folder (dir, "jobs", error))
        return error_note (error, _("record of job '%s'"), job->id);

    g_autofree char *path = entry_path (dir, "jobs", job->id);
    g_autoptr (JsonNode) node = record_to_json (job);
    json_object_set_int_member (json_node_get_object (node), "order", order_of (dir, job->id));
    g_autofree char *text = json_write (node);
    /* Before its end the journal says what a crash of the host needs to know; the end itself must survive one. */
    gboolean ok = job_state_ended (job->state) ? files_write_atomic (path, text, -1, 0600, error) : files_replace (path, text, -1, 0600, error);
    return ok || error_note (error, _("record of job '%s'"), job->id);
}

static gboolean load_newest (const char *dir, bak_job *ret_job, GError **error)
{
    g_autoptr (GPtrArray) damaged = g_ptr_array_new_with_free_func (g_free);
    g_autoptr (GArray) jobs = record_list (dir, damaged);

    if (jobs->len == 0)
        return damaged->len ? error_set (error, BAK_ERROR_IO, "%s", (char *) damaged->pdata[0])
                            : error_set (error, BAK_ERROR_NO_JOB, _("no backup job is recorded"));
    *ret_job = g_array_index (jobs, bak_job, 0);
    for (guint i = 1; i < jobs->len; i++)
        bak_job_clear (&g_array_index (jobs, bak_job, i));
    return TRUE;
}

gboolean record_load (const char *dir, const char *id, bak_job *ret_job, GError **error)
{
    StoredJob stored;

    if (!id || !*id)
        return load_newest (dir, ret_job, error);
    g_autofree char *path = record_id_check (id) ? entry_path (dir, "jobs", id) : NULL;
    if (!path || !g_file_test (path, G_FILE_TEST_EXISTS)) {
        g_autofree char *shown = text_sanitize (id, 64);
        return error_set (error, BAK_ERROR_NO_JOB, _("no backup job '%s' is recorded"), shown);
    }
    if (!read_job (dir, id, &stored, error))
        return FALSE;
    *ret_job = stored.job;
    return TRUE;
}

/* What a writer that was killed left: NAME.json.PID.tmp of a process that is gone. */
static void remove_leftovers (const char *folder)
{
    g_autoptr (GDir) entries = g_dir_open (folder, 0, NULL);
    const char *file;

    while (entries && (file = g_dir_read_name (entries))) {
        const char *mark = g_str_has_suffix (file, ".tmp") ? strstr (file, ".json.") : NULL;
        int pid = mark ? atoi (mark + strlen (".json.")) : 0;
        g_autofree char *path = g_build_filename (folder, file, NULL);
        if (pid > 0 && pid != getpid () && kill (pid, 0) != 0 && errno == ESRCH)
            g_unlink (path);
    }
}

void record_prune (const char *dir, guint keep)
{
    g_autofree char *folder = g_build_filename (dir, "jobs", NULL);
    g_autoptr (GArray) jobs = record_list (dir, NULL);

    for (guint i = 0; i < jobs->len; i++) {
        bak_job *job = &g_array_index (jobs, bak_job, i);
        g_autofree char *path = entry_path (dir, "jobs", job->id);
        if (i >= keep && job_state_ended (job->state))
            g_unlink (path);
        bak_job_clear (job);
    }
    remove_leftovers (folder);
}

/* Checkpoints */

Checkpoint *checkpoint_new (const char *name)
{
    Checkpoint *checkpoint = g_new0 (Checkpoint, 1);

    checkpoint->name = g_strdup (name);
    checkpoint->disks = g_ptr_array_new ();
    return checkpoint;
}

CheckpointDisk *checkpoint_disk_new (const char *name)
{
    CheckpointDisk *disk = g_new0 (CheckpointDisk, 1);

    disk->disk = g_strdup (name);
    return disk;
}

CheckpointDisk *checkpoint_disk_copy (const CheckpointDisk *disk)
{
    CheckpointDisk *copy = g_memdup2 (disk, sizeof *disk);
    copy->disk = g_strdup (disk->disk);
    copy->node = g_strdup (disk->node);
    copy->file = g_strdup (disk->file);
    copy->bitmap = g_strdup (disk->bitmap);
    copy->backup = g_strdup (disk->backup);
    copy->backup_id = g_strdup (disk->backup_id);
    return copy;
}

void checkpoint_disk_free (CheckpointDisk *disk)
{
    g_free (disk->disk);
    g_free (disk->node);
    g_free (disk->file);
    g_free (disk->bitmap);
    g_free (disk->backup);
    g_free (disk->backup_id);
    g_free (disk);
}

void checkpoint_free (Checkpoint *checkpoint)
{
    if (!checkpoint)
        return;
    for (guint i = 0; i < checkpoint->disks->len; i++)
        checkpoint_disk_free (checkpoint->disks->pdata[i]);
    g_ptr_array_free (checkpoint->disks, TRUE);
    g_free (checkpoint->name);
    g_free (checkpoint->parent);
    g_free (checkpoint->description);
    g_free (checkpoint->job);
    g_free (checkpoint->series);
    g_free (checkpoint->domain_uuid);
    g_free (checkpoint);
}

void checkpoint_disk_set_backup (CheckpointDisk *disk, const char *path)
{
    if (!path || !g_path_is_absolute (path))
        return;
    disk->backup = g_strdup (path);
    disk->backup_id = files_id (path);
}

gboolean checkpoints_see_sizes (const char *dir, GPtrArray *all, guint64 (*size_of) (const char *disk, gconstpointer data), gconstpointer data, GError **error)
{
    for (guint i = 0; i < all->len; i++) {
        Checkpoint *checkpoint = all->pdata[i];
        gboolean news = FALSE;
        for (guint k = 0; k < checkpoint->disks->len; k++) {
            CheckpointDisk *disk = checkpoint->disks->pdata[k];
            guint64 size = disk->shrunk ? 0 : size_of (disk->disk, data);
            if (size && size < disk->size)
                disk->shrunk = news = TRUE;
        }
        if (news && !checkpoint_save (dir, checkpoint, error))
            return FALSE;
    }
    return TRUE;
}

static JsonNode *checkpoint_to_json (const Checkpoint *checkpoint)
{
    JsonObject *object = fields_to_json (checkpoint_fields, G_N_ELEMENTS (checkpoint_fields), checkpoint);
    JsonArray *disks = json_array_new ();

    json_object_set_int_member (object, "version", RECORD_VERSION);
    for (guint i = 0; i < checkpoint->disks->len; i++)
        json_array_add_object_element (disks, fields_to_json (checkpoint_disk_fields, G_N_ELEMENTS (checkpoint_disk_fields),
                                                              checkpoint->disks->pdata[i]));
    json_object_set_array_member (object, "disks", disks);
    return object_node (object);
}

static gboolean checkpoint_from_object (JsonObject *object, Checkpoint *checkpoint, GError **error)
{
    JsonArray *disks;
    guint count;

    if (!version_check (object, error)
        || !fields_from_json (checkpoint_fields, G_N_ELEMENTS (checkpoint_fields), object, checkpoint, error)
        || !disks_array (object, &disks, &count, error))
        return FALSE;
    for (guint i = 0; i < count; i++) {
        CheckpointDisk *disk = checkpoint_disk_new (NULL);
        g_ptr_array_add (checkpoint->disks, disk);
        if (!fields_from_json (checkpoint_disk_fields, G_N_ELEMENTS (checkpoint_disk_fields), json_get_element (disks, i), disk, error))
            return error_note (error, _("disk %u"), i);
        if (!disk->disk || !disk->bitmap)
            return error_set (error, BAK_ERROR_IO, _("disk %u has no name or no bitmap"), i);
    }
    return TRUE;
}

/* The name becomes a file's name here, whoever it came from. */
static gboolean file_name_check (const char *name, GError **error)
{
    if (!name)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("a checkpoint without a name"));
    return checkpoint_name_check (name, error);
}

gboolean checkpoint_save (const char *dir, const Checkpoint *checkpoint, GError **error)
{
    if (!file_name_check (checkpoint->name, error))
        return FALSE;
    if (!make_folder (dir, "checkpoints", error))
        return error_note (error, _("checkpoint '%s'"), checkpoint->name);
    g_autofree char *path = entry_path (dir, "checkpoints", checkpoint->name);
    g_autoptr (JsonNode) node = checkpoint_to_json (checkpoint);
    g_autofree char *text = json_write (node), *forgotten = entry_path (dir, "forgotten", checkpoint->name);
    if (!files_write_atomic (path, text, -1, 0600, error))
        return error_note (error, _("checkpoint '%s'"), checkpoint->name);
    g_unlink (forgotten);       /* known again */
    return TRUE;
}

static Checkpoint *read_checkpoint (const char *path, const char *name, GError **error)
{
    JsonObject *object;
    g_autoptr (JsonNode) node = read_entry (path, &object, error);
    g_autoptr (Checkpoint) checkpoint = node ? checkpoint_new (NULL) : NULL;

    if (!node)
        return NULL;
    if (!checkpoint_from_object (object, checkpoint, error)) {
        error_note (error, error && g_error_matches (*error, BAK_ERROR, BAK_ERROR_NOT_SUPPORTED) ? "'%s'" : _("'%s' is damaged"), path);
        return NULL;
    }
    if (g_strcmp0 (checkpoint->name, name) != 0) {
        error_set (error, BAK_ERROR_IO, _("'%s' is damaged: it does not hold checkpoint '%s'"), path, name);
        return NULL;
    }
    if (checkpoint->parent && !checkpoint_name_check (checkpoint->parent, error)) {
        error_note (error, _("'%s' is damaged: parent"), path);
        return NULL;
    }
    return g_steal_pointer (&checkpoint);
}

static gboolean no_checkpoint (const char *name, GError **error)
{
    g_autofree char *shown = text_sanitize (name, 256);
    return error_set (error, BAK_ERROR_NO_CHECKPOINT, _("no checkpoint '%s'"), shown);
}

Checkpoint *checkpoint_load (const char *dir, const char *name, GError **error)
{
    if (!checkpoint_exists (dir, name)) {
        no_checkpoint (name, error);
        return NULL;
    }
    g_autofree char *path = entry_path (dir, "checkpoints", name);
    return read_checkpoint (path, name, error);
}

static int compare_checkpoints (gconstpointer a, gconstpointer b)
{
    const Checkpoint *left = *(Checkpoint *const *) a, *right = *(Checkpoint *const *) b;

    if (left->sequence != right->sequence)
        return left->sequence < right->sequence ? -1 : 1;
    if (left->created != right->created)
        return left->created < right->created ? -1 : 1;
    return strcmp (left->name, right->name);
}

/* Files can claim any order; a parent comes first all the same. A cycle of parents ends where it began. */
static GPtrArray *parents_first (GPtrArray *sorted)
{
    g_autoptr (GHashTable) waiting = g_hash_table_new (g_str_hash, g_str_equal);
    g_autoptr (GPtrArray) line = g_ptr_array_new ();
    GPtrArray *list = g_ptr_array_new_with_free_func ((GDestroyNotify) checkpoint_free);

    for (guint i = 0; i < sorted->len; i++)
        g_hash_table_insert (waiting, ((Checkpoint *) sorted->pdata[i])->name, sorted->pdata[i]);
    for (guint i = 0; i < sorted->len; i++) {
        Checkpoint *next = g_hash_table_lookup (waiting, ((Checkpoint *) sorted->pdata[i])->name);
        for (; next; next = next->parent ? g_hash_table_lookup (waiting, next->parent) : NULL) {
            g_hash_table_remove (waiting, next->name);
            g_ptr_array_add (line, next);
        }
        while (line->len > 0)
            g_ptr_array_add (list, g_ptr_array_remove_index (line, line->len - 1));
    }
    return list;
}

GPtrArray *checkpoint_load_all (const char *dir, GPtrArray *damaged)
{
    g_autofree char *folder = g_build_filename (dir, "checkpoints", NULL);
    g_autoptr (GDir) entries = g_dir_open (folder, 0, NULL);
    g_autoptr (GPtrArray) sorted = g_ptr_array_new ();
    const char *file;

    while (entries && (file = g_dir_read_name (entries))) {
        g_autofree char *name = entry_name (file);
        g_autofree char *path = g_build_filename (folder, file, NULL);
        g_autoptr (GError) why = NULL;
        if (!name)
            continue;
        Checkpoint *checkpoint = NULL;
        if (!file_name_check (name, &why))
            error_note (&why, "'%s'", path);
        else
            checkpoint = read_checkpoint (path, name, &why);
        if (checkpoint)
            g_ptr_array_add (sorted, checkpoint);
        else if (damaged)
            g_ptr_array_add (damaged, text_sanitize (why->message, 0));
    }
    g_ptr_array_sort (sorted, compare_checkpoints);
    return parents_first (sorted);
}

const Checkpoint *checkpoint_later_in_file (GPtrArray *all, gint64 sequence, const char *file)
{
    for (guint i = 0; i < all->len; i++) {
        const Checkpoint *checkpoint = all->pdata[i];
        for (guint k = 0; checkpoint->sequence > sequence && k < checkpoint->disks->len; k++)
            if (g_strcmp0 (((CheckpointDisk *) checkpoint->disks->pdata[k])->backup, file) == 0)
                return checkpoint;
    }
    return NULL;
}

char *checkpoint_next_in_series (GPtrArray *all, const char *series)
{
    gint64 last = 0;
    for (guint i = 0; i < all->len; i++) {
        const Checkpoint *checkpoint = all->pdata[i];
        if (g_strcmp0 (checkpoint->series, series) == 0)
            last = MAX (last, checkpoint->sequence);
    }
    return g_strdup_printf ("%s.%" G_GINT64_FORMAT, series, last + 1);
}

gboolean checkpoint_remove (const char *dir, const char *name, GError **error)
{
    if (!file_name_check (name, error))
        return FALSE;
    g_autofree char *path = entry_path (dir, "checkpoints", name);
    if (g_unlink (path) != 0)
        return errno == ENOENT ? no_checkpoint (name, error)
                               : error_set_errno (error, errno, _("cannot remove '%s'"), path);
    return files_fsync_parent (path, error);
}

gboolean checkpoint_forget (const char *dir, const char *name, GError **error)
{
    if (!checkpoint_exists (dir, name))
        return no_checkpoint (name, error);
    if (!make_folder (dir, "forgotten", error))
        return FALSE;
    g_autofree char *path = entry_path (dir, "checkpoints", name), *forgotten = entry_path (dir, "forgotten", name);
    if (g_rename (path, forgotten) != 0)
        return error_set_errno (error, errno, _("cannot remove '%s'"), path);
    return files_fsync_parent (forgotten, error) && files_fsync_parent (path, error);
}

gboolean checkpoint_set_aside (const char *dir, const char *name, GError **error)
{
    g_autofree char *path = entry_path (dir, "checkpoints", name), *aside = g_strconcat (path, ".damaged", NULL);
    return g_rename (path, aside) == 0 || error_set_errno (error, errno, _("cannot rename '%s'"), path);
}

Checkpoint *checkpoint_load_forgotten (const char *dir, const char *name)
{
    g_autofree char *path = file_name_check (name, NULL) ? entry_path (dir, "forgotten", name) : NULL;
    return path && g_file_test (path, G_FILE_TEST_IS_REGULAR) ? read_checkpoint (path, name, NULL) : NULL;
}

gboolean checkpoint_exists (const char *dir, const char *name)
{
    if (!file_name_check (name, NULL))
        return FALSE;
    g_autofree char *path = entry_path (dir, "checkpoints", name);
    return g_file_test (path, G_FILE_TEST_IS_REGULAR);
}
