/* What the user sees. Names, messages and documents come from guests, from QEMU and over the
 * network: nothing in them may steer a terminal. */
#include <stdio.h>
#include <string.h>
#include "baksh.h"

/* Controls, and what turns the direction of text around. */
static gboolean is_harmful (gunichar c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x200e || c == 0x200f
           || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0xfeff
           || c == 0x061c;
}

static char *clean_but (const char *text, const char *keep)
{
    GString *out = g_string_new (NULL);
    for (const char *p = text ? text : ""; *p;) {
        gunichar c = g_utf8_get_char_validated (p, -1);
        gboolean valid = c != (gunichar) -1 && c != (gunichar) -2;
        if (valid && (!is_harmful (c) || (c < 0x80 && strchr (keep, (int) c)))) {
            g_string_append_unichar (out, c);
            p = g_utf8_next_char (p);
        } else if (valid && c >= 0x80) {
            g_string_append_printf (out, "\\u%04x", c);
            p = g_utf8_next_char (p);
        } else {
            g_string_append_printf (out, "\\x%02x", (guchar) *p++);
        }
    }
    return g_string_free (out, FALSE);
}

char *clean (const char *text)
{
    return clean_but (text, "");
}

char *clean_document (const char *text)
{
    return clean_but (text, "\n\t");
}

void print (const char *format, ...)
{
    va_list args;
    va_start (args, format);
    vfprintf (stdout, format, args);
    va_end (args);
}

static int char_width (gunichar c)
{
    return g_unichar_iszerowidth (c) ? 0 : g_unichar_iswide (c) ? 2 : 1;
}

int text_width (const char *text)
{
    int width = 0;
    for (const char *p = text; *p; p = g_utf8_next_char (p))
        width += char_width (g_utf8_get_char (p));
    return width;
}

char *text_cut (const char *text, int width)
{
    const char *dots = "...";
    if (text_width (text) <= width)
        return g_strdup (text);
    int room = width - (int) strlen (dots);
    if (room < 1) {
        room = width;
        dots = "";
    }
    const char *p = text;
    for (; char_width (g_utf8_get_char (p)) <= room; p = g_utf8_next_char (p))
        room -= char_width (g_utf8_get_char (p));
    g_autofree char *head = g_strndup (text, p - text);
    return g_strconcat (head, dots, NULL);
}

static void add_padded (GString *to, const char *text, int width)
{
    g_string_append_printf (to, "%s%*s", text, MAX (0, width - text_width (text)), "");
}

void print_label (const char *label, const char *text)
{
    if (!text)
        return;
    g_autofree char *shown = clean (text);
    g_autoptr (GString) padded = g_string_new (NULL);
    add_padded (padded, label, 15);
    printf ("%s %s\n", padded->str, shown);
}

void print_label_format (const char *label, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    g_autofree char *text = g_strdup_vprintf (format, args);
    va_end (args);
    print_label (label, text);
}

void print_document (const char *text)
{
    g_autofree char *shown = clean_document (text);
    printf ("%s%s", shown, g_str_has_suffix (shown, "\n") ? "" : "\n");
}

/* What the command that runs has said, of which a program gets a document. The main thread's. */
static struct {
    GString *errors; /* NULL: none */
    BakErrorCode code;
    gboolean documents;
} said;

/* json-glib escapes what JSON demands; the other controls may stand in a file, but not on a
 * terminal. Ends with a newline; consumes node. */
static void print_node (JsonNode *node, gboolean pretty)
{
    g_autofree char *text = json_to_string (node, pretty);
    for (const char *p = text; *p; p = g_utf8_next_char (p)) {
        gunichar c = g_utf8_get_char (p);
        if (c != '\n' && is_harmful (c))
            printf ("\\u%04x", c);
        else
            fwrite (p, 1, g_utf8_next_char (p) - p, stdout);
    }
    putchar ('\n');
    fflush (stdout);
    json_node_unref (node);
}

void print_json (JsonNode *node)
{
    said.documents = TRUE;
    print_node (node, TRUE);
}

void print_json_line (JsonNode *node)
{
    print_node (node, FALSE);
}

/* Of the largest unit that leaves 1 or more. */
static double in_unit (guint64 bytes, const char **ret_unit)
{
    static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    guint unit = 0;
    double value = bytes;
    while (value >= 1024 && unit + 1 < G_N_ELEMENTS (names)) {
        value /= 1024;
        unit++;
    }
    *ret_unit = names[unit];
    return value;
}

char *format_size (guint64 bytes)
{
    const char *unit;
    double value = in_unit (bytes, &unit);
    return g_strdup_printf ("%.3f %s", value, unit);
}

char *format_short_size (guint64 bytes)
{
    const char *unit;
    double value = in_unit (bytes, &unit);
    int decimals = bytes < 1024 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    return g_strdup_printf ("%.*f %s", decimals, value, unit);
}

char *format_time (gint64 microseconds)
{
    g_autoptr (GDateTime) time =
        microseconds ? g_date_time_new_from_unix_local (microseconds / G_USEC_PER_SEC) : NULL;
    return time ? g_date_time_format (time, "%Y-%m-%d %H:%M:%S %z") : g_strdup ("-");
}

char *format_rfc3339 (gint64 microseconds)
{
    if (!microseconds)
        return NULL;
    g_autoptr (GDateTime) seconds = g_date_time_new_from_unix_utc (microseconds / G_USEC_PER_SEC);
    g_autofree char *text = seconds ? g_date_time_format (seconds, "%Y-%m-%dT%H:%M:%S") : NULL;
    return text ? g_strdup_printf ("%s.%06dZ", text, (int) (microseconds % G_USEC_PER_SEC)) : NULL;
}

char *format_seconds (guint64 microseconds)
{
    guint64 seconds = microseconds / G_USEC_PER_SEC;
    if (seconds < 60)
        return g_strdup_printf (_("%.1f s"), microseconds / 1e6);
    if (seconds < 3600)
        return g_strdup_printf (_("%d min %d s"), (int) seconds / 60, (int) seconds % 60);
    return g_strdup_printf (_("%d h %d min"), (int) (seconds / 3600), (int) (seconds % 3600) / 60);
}

/* tables, in virsh's form */

struct _Table {
    guint columns;
    GPtrArray *cells; /* char*, row after row, headings first */
};

static void table_add (Table *table, const char *first, va_list args)
{
    for (const char *cell = first; cell; cell = va_arg (args, const char *))
        g_ptr_array_add (table->cells, clean (cell));
}

Table *table_new (const char *first_heading, ...)
{
    Table *table = g_new0 (Table, 1);
    table->cells = g_ptr_array_new_with_free_func (g_free);
    va_list args;
    va_start (args, first_heading);
    table_add (table, first_heading, args);
    va_end (args);
    table->columns = table->cells->len;
    return table;
}

void table_row (Table *table, const char *first_cell, ...)
{
    va_list args;
    va_start (args, first_cell);
    table_add (table, first_cell, args);
    va_end (args);
    g_assert (table->cells->len % table->columns == 0);
}

char *table_text (Table *table)
{
    g_autofree int *widths = g_new0 (int, table->columns);
    GString *text = g_string_new (NULL);
    int total = 1;
    for (guint i = 0; i < table->cells->len; i++)
        widths[i % table->columns] =
            MAX (widths[i % table->columns], text_width (table->cells->pdata[i]));
    for (guint i = 0; i < table->columns; i++)
        total += widths[i] + 3;
    for (guint i = 0; i < table->cells->len; i++) {
        guint column = i % table->columns;
        gboolean last = column == table->columns - 1;
        g_string_append (text, column ? "   " : " ");
        add_padded (text, table->cells->pdata[i], last ? 0 : widths[column]);
        if (!last)
            continue;
        g_string_append_c (text, '\n');
        for (int dash = 0; i == table->columns - 1 && dash < total - 1; dash++)
            g_string_append_c (text, '-');
        if (i == table->columns - 1)
            g_string_append_c (text, '\n');
    }
    table_free (table);
    return g_string_free (text, FALSE);
}

void table_print (Table *table)
{
    g_autofree char *text = table_text (table);
    fputs (text, stdout);
}

void table_free (Table *table)
{
    g_ptr_array_unref (table->cells);
    g_free (table);
}

/* JSON */

JsonObject *json_new (void)
{
    return json_object_new ();
}

void json_text (JsonObject *object, const char *key, const char *text)
{
    g_autofree char *valid = text ? g_utf8_make_valid (text, -1) : NULL;
    if (valid)
        json_object_set_string_member (object, key, valid);
    else
        json_object_set_null_member (object, key);
}

void json_int (JsonObject *object, const char *key, gint64 value)
{
    json_object_set_int_member (object, key, value);
}

void json_bool (JsonObject *object, const char *key, gboolean value)
{
    json_object_set_boolean_member (object, key, value);
}

void json_time (JsonObject *object, const char *key, gint64 microseconds)
{
    g_autofree char *text = format_rfc3339 (microseconds);
    json_text (object, key, text);
}

JsonNode *json_take_object (JsonObject *object)
{
    JsonNode *node = json_node_alloc ();
    json_node_init_object (node, object);
    json_object_unref (object);
    return node;
}

JsonNode *json_take_list (const char *name, JsonArray *array)
{
    JsonObject *object = json_new ();
    json_object_set_array_member (object, name, array);
    return json_take_object (object);
}

JsonNode *json_one (const char *key, const char *text)
{
    JsonObject *object = json_new ();
    json_text (object, key, text);
    return json_take_object (object);
}

/* errors */

static void complain (const char *prefix, const char *text)
{
    g_autofree char *shown = clean (text);
    fflush (stdout);
    fprintf (stderr, "%s%s\n", prefix, shown);
}

void said_clear (void)
{
    if (said.errors)
        g_string_free (said.errors, TRUE);
    said.errors = NULL;
    said.code = BAK_ERROR_NONE;
    said.documents = FALSE;
}

void said_print_error (int status, gboolean is_line)
{
    if (!said.errors || said.documents)
        return;
    JsonObject *object = json_new ();
    if (is_line)
        json_text (object, "type", "error");
    json_text (object, "error", said.errors->str);
    json_text (object, "error_code",
               said.code == BAK_ERROR_NONE ? NULL : bak_error_code_to_string (said.code));
    json_int (object, "status", status);
    print_json_line (json_take_object (object));
}

static void say_error (const char *format, va_list args)
{
    g_autofree char *text = g_strdup_vprintf (format, args);
    if (said.errors)
        g_string_append (said.errors, ": ");
    else
        said.errors = g_string_new (NULL);
    g_string_append (said.errors, text);
    complain (_("error: "), text);
}

int fail_with (int status, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    say_error (format, args);
    va_end (args);
    return status;
}

int usage (const char *format, ...)
{
    va_list args;
    va_start (args, format);
    said.code = BAK_ERROR_INVALID_ARGUMENT;
    say_error (format, args);
    va_end (args);
    return STATUS_USAGE;
}

void warn (const char *format, ...)
{
    va_list args;
    va_start (args, format);
    g_autofree char *text = g_strdup_vprintf (format, args);
    va_end (args);
    complain (_("warning: "), text);
}

void tell (const char *format, ...)
{
    va_list args;
    va_start (args, format);
    g_autofree char *text = g_strdup_vprintf (format, args);
    va_end (args);
    complain (_("note: "), text);
}

int status_of_error (BakErrorCode code)
{
    switch (code) {
    case BAK_ERROR_NONE: return STATUS_DONE;
    case BAK_ERROR_CONNECTION:
    case BAK_ERROR_MONITOR_HELD: return STATUS_NO_CONNECTION;
    case BAK_ERROR_INEXACT: return STATUS_INEXACT;
    case BAK_ERROR_ABORTED: return STATUS_BAD_BACKUP;
    default: return STATUS_FAILED;
    }
}

int fail (BakError *error)
{
    said.code = bak_error_get_code (error);
    int status = fail_with (status_of_error (said.code), "%s", bak_error_get_message (error));
    bak_error_unref (error);
    return status;
}
