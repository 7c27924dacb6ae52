/* What a run says while it runs: lines of JSON on standard output, or lines and a bar for people on
 * standard error. */
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "night.h"

JsonObject *night_copy (JsonObject *object)
{
    g_autoptr (JsonNode) node = json_node_new (JSON_NODE_OBJECT);
    json_node_set_object (node, object);
    g_autofree char *text = json_to_string (node, FALSE);
    g_autoptr (JsonNode) copy = json_from_string (text, NULL);
    return json_object_ref (json_node_get_object (copy));
}

static gboolean is_for_people (const Night *night)
{
    return !night->options->json && !night->options->lines && !night->options->quiet;
}

void night_clear_progress (Night *night)
{
    if (night->terminal)
        fputs ("\r\033[K", stderr);
    night->terminal = FALSE;
}

static void tell_locked (Night *night, const char *type, JsonObject *fields)
{
    g_autoptr (JsonObject) given = fields ? fields : json_new ();
    if (!night->options->lines)
        return;
    JsonObject *object = json_new ();
    json_text (object, "type", type);
    json_text (object, "job", night->job->name);
    json_time (object, "time", g_get_real_time ());
    JsonObjectIter iter;
    const char *key;
    JsonNode *node;
    json_object_iter_init_ordered (&iter, given);
    while (json_object_iter_next_ordered (&iter, &key, &node))
        json_object_set_member (object, key, json_node_copy (node));
    print_json_line (json_take_object (object));
}

void night_tell (Night *night, const char *type, JsonObject *fields)
{
    g_mutex_lock (&night->lock);
    tell_locked (night, type, fields);
    g_mutex_unlock (&night->lock);
}

void night_tell_row (Night *night, JsonObject *row)
{
    g_mutex_lock (&night->lock);
    tell_locked (night, "guest-end", night_copy (row));
    if (is_for_people (night)) {
        g_autofree char *line = report_row_line (row), *shown = clean (line);
        night_clear_progress (night);
        fprintf (stderr, "%s\n", shown);
    }
    g_mutex_unlock (&night->lock);
}

void night_warn (Night *night, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    g_autofree char *text = g_strdup_vprintf (format, args);
    va_end (args);
    JsonObject *fields = json_new ();
    json_text (fields, "message", text);
    g_autofree char *valid = g_utf8_make_valid (text, -1);
    g_mutex_lock (&night->lock);
    json_array_add_string_element (night->warnings, valid);
    tell_locked (night, "warning", fields);
    night_clear_progress (night);
    warn ("%s", valid);
    g_mutex_unlock (&night->lock);
}

static void tell_progress (Night *night, const NightGuest *guest)
{
    JsonObject *fields = json_new ();
    json_text (fields, "guest", guest->name);
    json_text (fields, "phase", guest->phase);
    json_int (fields, "done", guest->done);
    json_int (fields, "total", guest->total);
    json_int (fields, "elapsed_ms", (g_get_monotonic_time () - guest->began) / 1000);
    tell_locked (night, "progress", fields);
}

/* "3 of 20 done | web 42 %, 57.0 s left | db begin" */
static char *describe (Night *night)
{
    g_autoptr (GString) text = g_string_new (NULL);
    g_string_append_printf (text, _("%u of %u done"), night->ended, night->guests->len);
    for (guint i = 0; i < night->guests->len; i++) {
        const NightGuest *guest = night->guests->pdata[i];
        if (!guest->began)
            continue;
        g_string_append_printf (text, " | %s ", guest->name);
        guint64 elapsed = g_get_monotonic_time () - guest->began;
        if (!guest->total || guest->done > guest->total || !guest->done) {
            g_string_append (text, guest->phase);
            continue;
        }
        double part = (double) guest->done / guest->total;
        g_autofree char *left = format_seconds (elapsed * (1 - part) / part);
        g_string_append_printf (text, _("%.0f %%, %s left"), 100 * part, left);
    }
    return clean (text->str);
}

static void show_line (Night *night)
{
    struct winsize size;
    gboolean known = ioctl (STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    g_autofree char *text = describe (night);
    g_autofree char *cut =
        g_utf8_substring (text, 0, MIN (g_utf8_strlen (text, -1), (known ? size.ws_col : 80) - 1));
    fprintf (stderr, "\r%s\033[K", cut);
    fflush (stderr);
    night->terminal = TRUE;
}

void night_show_progress (Night *night)
{
    g_mutex_lock (&night->lock);
    for (guint i = 0; night->options->lines && i < night->guests->len; i++) {
        const NightGuest *guest = night->guests->pdata[i];
        if (guest->began)
            tell_progress (night, guest);
    }
    if (is_for_people (night) && isatty (STDERR_FILENO))
        show_line (night);
    g_mutex_unlock (&night->lock);
}
