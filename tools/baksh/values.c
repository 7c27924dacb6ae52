/* Values on the command line. */
#include <errno.h>
#include <math.h>
#include <string.h>
#include "baksh.h"

static const struct {
    const char *suffix;
    guint64 factor;
} units[] = {
    { "", 1 },
    { "b", 1 },
    { "bytes", 1 },
    { "k", 1024 },
    { "kib", 1024 },
    { "kb", 1000 },
    { "m", 1024 * 1024 },
    { "mib", 1024 * 1024 },
    { "mb", 1000 * 1000 },
    { "g", 1024 * 1024 * 1024 },
    { "gib", 1024 * 1024 * 1024 },
    { "gb", 1000 * 1000 * 1000 },
    { "t", 1ull << 40 },
    { "tib", 1ull << 40 },
    { "tb", 1000ull * 1000 * 1000 * 1000 },
};

/* As virsh's scaled integers: K and KiB are 1024, KB is 1000. */
gboolean size_parse (const char *text, guint64 *ret_bytes)
{
    char *end;
    errno = 0;
    guint64 number = g_ascii_isdigit (*text) ? g_ascii_strtoull (text, &end, 10) : 0;
    if (!g_ascii_isdigit (*text) || errno)
        return FALSE;
    for (guint i = 0; i < G_N_ELEMENTS (units); i++)
        if (g_ascii_strcasecmp (end, units[i].suffix) == 0) {
            if (number > (guint64) G_MAXINT64 / units[i].factor)
                return FALSE;
            *ret_bytes = number * units[i].factor;
            return TRUE;
        }
    return FALSE;
}

static const struct {
    const char *suffix;
    double seconds;
} durations[] = {
    { "", 1 },     { "s", 1 },     { "m", 60 },        { "min", 60 },
    { "h", 3600 }, { "d", 86400 }, { "w", 7 * 86400 },
};

/* "90", "1.5h", "30min", "14d". */
gboolean seconds_parse (const char *text, guint64 *ret_microseconds)
{
    gsize digits = strspn (text, "0123456789.");
    g_autofree char *number = g_strndup (text, digits);
    char *end;
    double value = g_ascii_strtod (number, &end);
    if (!digits || *end)
        return FALSE;
    for (guint i = 0; i < G_N_ELEMENTS (durations); i++) {
        double seconds = value * durations[i].seconds;
        if (!g_str_equal (text + digits, durations[i].suffix))
            continue;
        if (!(seconds > 0) || seconds > 1e9)
            return FALSE;
        *ret_microseconds = MAX (1, (guint64) ceil (seconds * G_USEC_PER_SEC));
        return TRUE;
    }
    return FALSE;
}

gboolean name_is_possible (const char *text)
{
    enum { LONGEST = 200 };
    gsize length = strlen (text);
    return length > 0 && length <= LONGEST && *text != '.' && !g_str_has_prefix (text, "bak-")
           && strspn (text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
                  == length;
}
