#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/driver.h"
#include "job/image-rows.h"
#include "job/image.h"
#include "job/seal.h"
#include "util/files.h"
#include "util/json.h"

enum { ROWS_MAX = 1024, SNAPSHOTS_MAX = 65536, BITMAPS_MAX = 65536 };

static void set_text (JsonObject *row, const char *key, const char *text)
{
    g_autofree char *clean = text ? text_sanitize (text, BAK_PATH_MAX) : NULL;

    if (clean)
        json_object_set_string_member (row, key, clean);
    else
        json_object_set_null_member (row, key);
}

static void set_size (JsonObject *row, const char *key, gint64 size)
{
    if (size >= 0)
        json_object_set_int_member (row, key, size);
    else
        json_object_set_null_member (row, key);
}

static void set_flag (JsonObject *row, const char *key, JsonObject *from, const char *member)
{
    if (from && json_object_has_member (from, member))
        json_object_set_boolean_member (row, key, json_get_bool (from, member, FALSE));
    else
        json_object_set_null_member (row, key);
}

/* ---- snapshots ---- */

static JsonObject *snapshot (JsonObject *info)
{
    JsonObject *row = json_object_new ();
    gint64 seconds = json_get_int (info, "date-sec", 0);
    g_autoptr (GDateTime) time = seconds > 0 ? g_date_time_new_from_unix_utc (seconds) : NULL;
    g_autofree char *created = time ? g_date_time_format (time, "%Y-%m-%dT%H:%M:%SZ") : NULL;

    set_text (row, "id", json_get_string (info, "id"));
    set_text (row, "name", json_get_string (info, "name"));
    set_text (row, "created", created);
    set_size (row, "vm_state", json_get_int (info, "vm-state-size", -1));
    return row;
}

static JsonArray *snapshots (JsonArray *list)
{
    JsonArray *rows = json_array_new ();
    guint count = list ? MIN (json_array_get_length (list), SNAPSHOTS_MAX) : 0;

    for (guint i = 0; i < count; i++)
        if (json_get_element (list, i))
            json_array_add_object_element (rows, snapshot (json_get_element (list, i)));
    return rows;
}

/* ---- bitmaps ---- */

/* Some of this is known of one that is stored, some of one that is loaded. */
static JsonObject *bitmap (const char *name, gint64 granularity, gboolean recording,
                           gboolean persistent)
{
    JsonObject *row = json_object_new ();

    set_text (row, "name", name);
    json_object_set_boolean_member (row, "seal", seal_is_name (name));
    set_size (row, "granularity", granularity);
    json_object_set_boolean_member (row, "recording", recording);
    json_object_set_boolean_member (row, "persistent", persistent);
    json_object_set_null_member (row, "bytes");
    json_object_set_boolean_member (row, "busy", FALSE);
    return row;
}

static gboolean has_flag (JsonArray *flags, const char *flag)
{
    for (guint i = 0; flags && i < json_array_get_length (flags); i++)
        if (g_strcmp0 (json_get_string_element (flags, i), flag) == 0)
            return TRUE;
    return FALSE;
}

/* "in-use": whoever has the image open knows what it holds; when nobody has, it was lost. */
static JsonObject *stored_bitmap (JsonObject *info)
{
    JsonArray *flags = json_get_array (info, "flags");
    JsonObject *row =
        bitmap (json_get_string (info, "name"), json_get_int (info, "granularity", -1),
                has_flag (flags, "auto"), TRUE);

    json_object_set_boolean_member (row, "inconsistent", FALSE);
    json_object_set_boolean_member (row, "in_use", has_flag (flags, "in-use"));
    return row;
}

static JsonObject *loaded_bitmap (JsonObject *info)
{
    JsonObject *row = bitmap (
        json_get_string (info, "name"), json_get_int (info, "granularity", -1),
        json_get_bool (info, "recording", FALSE), json_get_bool (info, "persistent", FALSE));
    gboolean inconsistent = json_get_bool (info, "inconsistent", FALSE);

    if (!inconsistent)
        set_size (row, "bytes", json_get_int (info, "count", -1));
    json_object_set_boolean_member (row, "busy", json_get_bool (info, "busy", FALSE));
    json_object_set_boolean_member (row, "inconsistent", inconsistent);
    json_object_set_boolean_member (row, "in_use", FALSE);
    return row;
}

static JsonArray *bitmaps (JsonArray *list, JsonObject *(*take) (JsonObject *info))
{
    JsonArray *rows = json_array_new ();
    guint count = list ? MIN (json_array_get_length (list), BITMAPS_MAX) : 0;

    for (guint i = 0; i < count; i++) {
        JsonObject *info = json_get_element (list, i);
        if (json_get_string (info, "name")) /* those of a running job have none */
            json_array_add_object_element (rows, take (info));
    }
    return rows;
}

void image_row_set_bitmaps (JsonObject *row, JsonArray *list)
{
    json_object_set_array_member (row, "bitmaps", bitmaps (list, loaded_bitmap));
}

/* ---- an image ---- */

/* "luks", "aes" of old; NULL: none. */
static const char *encryption (JsonObject *info, JsonObject *specific, const char *format)
{
    const char *named = json_get_string (json_get_object (specific, "encrypt"), "format");

    if (g_strcmp0 (format, "luks") == 0)
        return "luks";
    return named ? named : json_get_bool (info, "encrypted", FALSE) ? "aes" : NULL;
}

static void set_backing (JsonObject *row, JsonObject *info)
{
    const char *stored = json_get_string (info, "backing-filename"),
               *full = json_get_string (info, "full-backing-filename");
    JsonObject *backing = json_object_new ();

    if (!stored) {
        json_object_unref (backing);
        json_object_set_null_member (row, "backing");
        return;
    }
    set_text (backing, "stored", stored);
    set_text (backing, "resolved", full ? full : stored);
    set_text (backing, "format", json_get_string (info, "backing-filename-format"));
    json_object_set_null_member (backing, "opened");
    json_object_set_object_member (row, "backing", backing);
}

void image_row_set_opened (JsonObject *row, const char *file)
{
    JsonObject *backing = json_get_object (row, "backing");

    if (!backing && file) { /* the header knows nothing of it */
        backing = json_object_new ();
        json_object_set_null_member (backing, "stored");
        json_object_set_null_member (backing, "resolved");
        json_object_set_null_member (backing, "format");
        json_object_set_object_member (row, "backing", backing);
    }
    if (backing)
        set_text (backing, "opened", file);
}

static void set_sizes (JsonObject *row, JsonObject *info, const char *file)
{
    gint64 actual = json_get_int (info, "actual-size", -1);
    guint64 allocation, physical;

    files_sizes (file ? file : "", actual >= 0, MAX (actual, 0), &allocation, &physical);
    set_size (row, "capacity", json_get_int (info, "virtual-size", -1));
    json_object_set_int_member (row, "allocation", allocation);
    json_object_set_int_member (row, "physical", physical);
    set_size (row, "cluster_size", json_get_int (info, "cluster-size", -1));
}

JsonObject *image_row (JsonObject *info, const char *driver, const char *node, const char *file)
{
    JsonObject *row = json_object_new ();
    JsonObject *specific = json_get_object (json_get_object (info, "format-specific"), "data");
    const char *format = driver ? driver : json_get_string (info, "format"),
               *compression = json_get_string (specific, "compression-type");

    if (!file)
        file = json_get_string (info, "filename");
    set_text (row, "source", file);
    set_text (row, "node", node);
    set_text (row, "format", format);
    set_text (row, "subformat", json_get_string (specific, "create-type"));
    set_sizes (row, info, file);
    set_text (row, "compat", json_get_string (specific, "compat"));
    set_text (row, "compression",
              !compression && json_get_string (specific, "compat") ? "zlib" : compression);
    set_flag (row, "extended_l2", specific, "extended-l2");
    set_text (row, "encryption", encryption (info, specific, format));
    set_text (row, "data_file", json_get_string (specific, "data-file"));
    set_flag (row, "corrupt", specific, "corrupt");
    set_backing (row, info);
    json_object_set_array_member (row, "snapshots", snapshots (json_get_array (info, "snapshots")));
    json_object_set_array_member (row, "bitmaps",
                                  bitmaps (json_get_array (specific, "bitmaps"), stored_bitmap));
    return row;
}

/* ---- a chain ---- */

JsonArray *image_rows (const char *file, const char *format, GError **error)
{
    g_autoptr (JsonNode) answer = image_ask (file, format, error);
    JsonArray *chain = answer ? json_node_get_array (answer) : NULL;
    guint count = chain ? MIN (json_array_get_length (chain), ROWS_MAX) : 0;

    if (!chain) {
        error_note (error, _("image '%s'"), file);
        return NULL;
    }
    JsonArray *rows = json_array_new ();
    for (guint i = 0; i < count; i++) {
        JsonObject *row = image_row (json_get_element (chain, i), NULL, NULL, NULL);
        if (i + 1 < count)
            image_row_set_opened (row,
                                  json_get_string (json_get_element (chain, i + 1), "filename"));
        json_array_add_object_element (rows, row);
    }
    return rows;
}

char *image_rows_document (const char *disk, gboolean live, JsonArray *rows, GError **error)
{
    g_autoptr (JsonNode) node = json_node_new (JSON_NODE_OBJECT);
    JsonObject *document = json_object_new ();

    set_text (document, "disk", disk);
    json_object_set_boolean_member (document, "live", live);
    json_object_set_array_member (document, "images", rows);
    json_node_take_object (node, document);
    g_autofree char *text = json_write (node);
    if (strlen (text) < BAK_TEXT_MAX)
        return g_steal_pointer (&text);
    error_set (error, BAK_ERROR_NOT_SUPPORTED,
               _("disk '%s': what its images hold takes more than %d bytes to tell"), disk,
               BAK_TEXT_MAX);
    return NULL;
}
