#include <errno.h>
#include <string.h>
#include <glib/gstdio.h>
#include "report.h"

enum { KEPT = 100 };

/* reading */

static JsonNode *member_of (JsonObject *object, const char *key, GType type)
{
    JsonNode *node = object ? json_object_get_member (object, key) : NULL;
    return node && JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == type ? node
                                                                                           : NULL;
}

const char *report_get_text (JsonObject *object, const char *key)
{
    JsonNode *node = member_of (object, key, G_TYPE_STRING);
    return node ? json_node_get_string (node) : NULL;
}

gint64 report_get_int (JsonObject *object, const char *key)
{
    JsonNode *node = member_of (object, key, G_TYPE_INT64);
    return node ? json_node_get_int (node) : 0;
}

gint64 report_get_time (JsonObject *object, const char *key)
{
    const char *text = report_get_text (object, key);
    g_autoptr (GDateTime) time = text ? g_date_time_new_from_iso8601 (text, NULL) : NULL;
    return time ? g_date_time_to_unix (time) * G_USEC_PER_SEC + g_date_time_get_microsecond (time)
                : 0;
}

JsonArray *report_get_array (JsonObject *object, const char *key)
{
    static JsonArray *empty;
    JsonNode *node = object ? json_object_get_member (object, key) : NULL;
    if (node && JSON_NODE_HOLDS_ARRAY (node))
        return json_node_get_array (node);
    if (g_once_init_enter (&empty))
        g_once_init_leave (&empty, json_array_new ());
    return empty;
}

JsonObject *report_get_object (JsonObject *object, const char *key)
{
    JsonNode *node = object ? json_object_get_member (object, key) : NULL;
    return node && JSON_NODE_HOLDS_OBJECT (node) ? json_node_get_object (node) : NULL;
}

JsonObject *report_element (JsonArray *array, guint i)
{
    JsonNode *node = json_array_get_element (array, i);
    return JSON_NODE_HOLDS_OBJECT (node) ? json_node_get_object (node) : NULL;
}

/* words */

static const struct {
    const char *word, *shown;
} results[] = {
    { "good", N_("good") },
    { "failed", N_("FAILED") },
    { "refused", N_("REFUSED") },
    { "skipped", N_("skipped") },
    { "planned", N_("planned") },
    { "interrupted", N_("broken off") },
    { "incremental", N_("increment") },
    { "full", N_("full") },
    { "agent", N_("agent") },
    { "console", N_("console") },
    { "time", N_("time") },
};

static const char *shown_word (const char *word)
{
    for (guint i = 0; word && i < G_N_ELEMENTS (results); i++)
        if (g_str_equal (results[i].word, word))
            return _(results[i].shown);
    return word ? word : "-";
}

static gboolean is_bad (JsonObject *row)
{
    const char *result = report_get_text (row, "result");
    return g_strcmp0 (result, "failed") == 0 || g_strcmp0 (result, "refused") == 0
           || g_strcmp0 (result, "interrupted") == 0;
}

/* "4.2 GiB": shorter than virsh's, for columns. */
static char *short_size (gint64 bytes)
{
    static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double value = MAX (0, bytes);
    guint unit = 0;
    while (value >= 1023.95 && unit + 1 < G_N_ELEMENTS (names)) {
        value /= 1024;
        unit++;
    }
    return g_strdup_printf (unit ? "%.1f %s" : "%.0f %s", value, names[unit]);
}

static char *names_of_bad (JsonArray *guests)
{
    enum { MOST = 5 };
    g_autoptr (GString) names = g_string_new (NULL);
    guint count = 0;
    for (guint i = 0; i < json_array_get_length (guests); i++) {
        JsonObject *row = report_element (guests, i);
        const char *name = report_get_text (row, "guest");
        if (!is_bad (row) || !name)
            continue;
        if (count++ < MOST)
            g_string_append_printf (names, "%s%s", names->len ? ", " : "", name);
    }
    if (count > MOST)
        g_string_append (names, ", …");
    return g_strdup (names->str);
}

char *report_headline (JsonObject *report)
{
    JsonObject *counts = report_get_object (report, "counts");
    const char *error = report_get_text (report, "error");
    gint64 bad = report_get_int (counts, "failed") + report_get_int (counts, "refused"),
           all = report_get_int (counts, "guests"), skipped = report_get_int (counts, "skipped");
    g_autofree char *names = names_of_bad (report_get_array (report, "guests"));
    if (error)
        return g_strdup (error);
    if (bad)
        return g_strdup_printf (_("%d of %d guests failed: %s"), (int) bad, (int) all, names);
    if (report_get_int (counts, "unreached"))
        return g_strdup_printf (_("%d guests are good, but a connection failed"),
                                (int) (all - skipped));
    if (report_get_int (counts, "damaged"))
        return g_strdup_printf (_("all of %d guests are good, but a point that was read again is "
                                   "damaged"),
                                (int) (all - skipped));
    if (report_get_int (counts, "undrilled"))
        return g_strdup_printf (_("all of %d guests are good, but one did not come up from its "
                                   "newest point"),
                                (int) (all - skipped));
    return skipped ? g_strdup_printf (_("%d of %d guests are good, %d skipped"),
                                      (int) (all - skipped), (int) all, (int) skipped)
                   : g_strdup_printf (_("all of %d guests are good"), (int) all);
}

char *report_row_line (JsonObject *row)
{
    const char *error = report_get_text (row, "error");
    const char *name = report_get_text (row, "guest");
    const char *result = shown_word (report_get_text (row, "result"));
    const char *reason = report_get_text (row, "reason");
    g_autofree char *read = short_size (report_get_int (row, "read")),
                    *stored = short_size (report_get_int (row, "stored")),
                    *time = format_seconds (report_get_int (row, "duration_ms") * 1000);
    if (error)
        return g_strdup_printf ("%s: %s: %s", name, result, error);
    if (!report_get_text (row, "type"))
        return g_strdup_printf ("%s: %s", name, result);
    return g_strdup_printf (_("%s: %s: %s%s%s%s, %s read, %s stored, %s"), name, result,
                            shown_word (report_get_text (row, "type")), reason ? " (" : "",
                            reason ? reason : "", reason ? ")" : "", read, stored, time);
}

/* the text */

static void add_table (GString *text, JsonArray *guests)
{
    Table *table = table_new (_("Guest"), _("Result"), _("Type"), _("Read"), _("Stored"),
                              _("Time"), _("Frozen"), _("Consistency"), _("Oldest"), NULL);
    for (guint i = 0; i < json_array_get_length (guests); i++) {
        JsonObject *row = report_element (guests, i);
        gboolean made = report_get_text (row, "point") != NULL;
        gint64 frozen = report_get_int (row, "frozen_ms");
        const char *consistency = report_get_text (row, "consistency");
        g_autofree char *read = made ? short_size (report_get_int (row, "read")) : g_strdup ("-"),
                        *stored =
                            made ? short_size (report_get_int (row, "stored")) : g_strdup ("-"),
                        *time = format_seconds (report_get_int (row, "duration_ms") * 1000),
                        *pause = frozen ? g_strdup_printf ("%d ms", (int) frozen) : g_strdup ("-"),
                        *oldest = format_time (report_get_time (row, "oldest"));
        if (strlen (oldest) > 10)
            oldest[10] = '\0'; /* the day will do */
        table_row (table, report_get_text (row, "guest"),
                   shown_word (report_get_text (row, "result")),
                   shown_word (report_get_text (row, "type")), read, stored, time, pause,
                   consistency ? consistency : "-", oldest, NULL);
    }
    g_autofree char *shown = table_text (table);
    g_string_append (text, shown);
}

static void add_line (GString *text, const char *name, const char *line)
{
    g_autofree char *who = clean (name), *what = clean (line);
    g_string_append_printf (text, *who ? " %s: %s\n" : "%s %s\n", who, what);
}

/* A title and a line of each row that has something to say; nothing when none has. */
typedef char *(*SayFunc) (JsonObject *row); /* NULL: nothing; caller frees */

static void add_section (GString *text, const char *title, JsonArray *rows, SayFunc say)
{
    gboolean titled = FALSE;
    for (guint i = 0; i < json_array_get_length (rows); i++) {
        JsonObject *row = report_element (rows, i);
        g_autofree char *line = say (row);
        if (!line)
            continue;
        if (!titled)
            g_string_append_printf (text, "\n%s\n", title);
        titled = TRUE;
        add_line (text, report_get_text (row, "guest"), line);
    }
}

static char *say_error (JsonObject *row)
{
    const char *error = report_get_text (row, "error");
    gint64 attempts = report_get_int (row, "attempts");
    return error && attempts > 1
               ? g_strdup_printf (_("%s (tried %d times)"), error, (int) attempts)
               : g_strdup (error);
}

static char *say_reason (JsonObject *row)
{
    const char *reason = report_get_text (row, "reason");
    const char *type = report_get_text (row, "type");
    return reason ? g_strdup_printf ("%s: %s", shown_word (type), reason) : NULL;
}

static char *say_warnings (JsonObject *row)
{
    JsonArray *warnings = report_get_array (row, "warnings");
    g_autoptr (GString) text = g_string_new (NULL);
    for (guint i = 0; i < json_array_get_length (warnings); i++)
        g_string_append_printf (text, "%s%s", i ? "; " : "",
                                json_array_get_string_element (warnings, i));
    return text->len ? g_strdup (text->str) : NULL;
}

static char *say_pruned (JsonObject *row)
{
    JsonArray *pruned = report_get_array (row, "pruned");
    g_autoptr (GString) text = g_string_new (NULL);
    for (guint i = 0; i < json_array_get_length (pruned); i++)
        g_string_append_printf (text, "%s%s", i ? ", " : "",
                                json_array_get_string_element (pruned, i));
    return text->len ? g_strdup (text->str) : NULL;
}

static char *say_verified (JsonObject *row)
{
    const char *point = report_get_text (row, "point"), *error = report_get_text (row, "error");
    return error ? g_strdup_printf ("%s: %s", point, error)
                 : g_strdup_printf (_("%s: good"), point);
}

static char *say_drill (JsonObject *row)
{
    const char *point = report_get_text (row, "point"), *error = report_get_text (row, "error"),
               *proof = report_get_text (row, "proof");
    g_autofree char *time = format_seconds (report_get_int (row, "duration_ms") * 1000);
    return error ? g_strdup_printf (_("%s did not come up: %s"), point, error)
                 : g_strdup_printf (_("%s came up in %s (by its %s)"), point, time,
                                    shown_word (proof));
}

static void add_warnings (GString *text, JsonArray *warnings)
{
    for (guint i = 0; i < json_array_get_length (warnings); i++) {
        g_autofree char *line = clean (json_array_get_string_element (warnings, i));
        g_string_append_printf (text, _("Warning: %s\n"), line);
    }
}

char *report_text (JsonObject *report)
{
    GString *text = g_string_new (NULL);
    JsonArray *guests = report_get_array (report, "guests");
    g_autofree char *headline = report_headline (report), *shown = clean (headline);
    g_autofree char *started = format_time (report_get_time (report, "started"));
    g_autofree char *took = format_seconds (report_get_int (report, "duration_ms") * 1000);
    const char *repository = report_get_text (report, "repository");
    g_autofree char *where = clean (repository ? repository : "-");
    g_string_append_printf (text, _("Job '%s': %s\n"), report_get_text (report, "job"), shown);
    g_string_append_printf (text, _("On %s, %s, %s, repository %s\n"),
                            report_get_text (report, "host"), started, took, where);
    add_warnings (text, report_get_array (report, "warnings"));
    if (json_array_get_length (guests)) {
        g_string_append_c (text, '\n');
        add_table (text, guests);
    }
    add_section (text, _("Errors"), guests, say_error);
    add_section (text, _("Reasons"), guests, say_reason);
    add_section (text, _("Warnings"), guests, say_warnings);
    add_section (text, _("Points removed by the rules"), guests, say_pruned);
    add_section (text, _("Points read again"), report_get_array (report, "verified"),
                 say_verified);
    add_section (text, _("Restore drills"), report_get_array (report, "drills"), say_drill);
    return g_string_free (text, FALSE);
}

/* keeping */

static char *reports_dir (const char *job)
{
    g_autofree char *dir = night_job_dir (job);
    return g_build_filename (dir, "reports", NULL);
}

static int compare_texts (gconstpointer a, gconstpointer b)
{
    return strcmp (*(char *const *) a, *(char *const *) b);
}

GPtrArray *report_list (const char *job)
{
    GPtrArray *ids = g_ptr_array_new_with_free_func (g_free);
    g_autofree char *path = reports_dir (job);
    g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name (dir)))
        if (g_str_has_suffix (name, ".json"))
            g_ptr_array_add (ids, g_strndup (name, strlen (name) - strlen (".json")));
    g_ptr_array_sort (ids, compare_texts);
    return ids;
}

static char *report_path (const char *job, const char *id)
{
    g_autofree char *dir = reports_dir (job), *file = g_strconcat (id, ".json", NULL);
    return g_build_filename (dir, file, NULL);
}

gboolean report_keep (JsonObject *report, char **ret_why)
{
    g_autoptr (GError) error = NULL;
    const char *job = report_get_text (report, "job");
    g_autofree char *dir = reports_dir (job),
                    *path = report_path (job, report_get_text (report, "id"));
    g_autoptr (JsonNode) node = json_node_new (JSON_NODE_OBJECT);
    json_node_set_object (node, report);
    g_autofree char *text = json_to_string (node, TRUE);
    if (g_mkdir_with_parents (dir, 0700) != 0) {
        *ret_why = g_strdup_printf (_("cannot make '%s': %s"), dir, g_strerror (errno));
        return FALSE;
    }
    if (!g_file_set_contents_full (path, text, -1,
                                   G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE,
                                   0600, &error)) {
        *ret_why = g_strdup (error->message);
        return FALSE;
    }
    g_autoptr (GPtrArray) ids = report_list (job);
    for (guint i = 0; i + KEPT < ids->len; i++) {
        g_autofree char *old = report_path (job, ids->pdata[i]);
        g_unlink (old);
    }
    return TRUE;
}

JsonObject *report_load_file (const char *path)
{
    g_autoptr (JsonParser) parser = json_parser_new ();
    if (!json_parser_load_from_file (parser, path, NULL))
        return NULL;
    JsonNode *root = json_parser_get_root (parser);
    return root && JSON_NODE_HOLDS_OBJECT (root) ? json_object_ref (json_node_get_object (root))
                                                 : NULL;
}

JsonObject *report_load (const char *job, const char *id)
{
    g_autoptr (GPtrArray) ids = report_list (job);
    if (!id && !ids->len)
        return NULL;
    g_autofree char *path = report_path (job, id ? id : ids->pdata[ids->len - 1]);
    return id && strchr (id, '/') ? NULL : report_load_file (path);
}
