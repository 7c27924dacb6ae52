#include <stdarg.h>
#include <string.h>
#include "remote/audit.h"
#include "util/error.h"

enum { VALUE_MAX = 1024 };

static gboolean needs_quotes (const char *value)
{
    return *value == '\0' || strpbrk (value, " \"\\") != NULL;
}

static void append_value (GString *line, const char *value)
{
    g_autofree char *clean = text_sanitize (value, VALUE_MAX);
    if (!needs_quotes (clean)) {
        g_string_append (line, clean);
        return;
    }
    g_string_append_c (line, '"');
    for (const char *c = clean; *c; c++) {
        if (*c == '"')
            g_string_append_c (line, '\\');
        g_string_append_c (line, *c);
    }
    g_string_append_c (line, '"');
}

char *audit_line (const char *key, ...)
{
    GString *line = g_string_new ("audit:");
    va_list pairs;
    va_start (pairs, key);
    for (; key; key = va_arg (pairs, const char *)) {
        const char *value = va_arg (pairs, const char *);
        g_string_append_printf (line, " %s=", key);
        append_value (line, value ? value : "-");
    }
    va_end (pairs);
    return g_string_free (line, FALSE);
}
