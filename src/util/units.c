#include <string.h>
#include "util/units.h"

static gboolean take_digits (const char *text, const char **ret_end, guint64 *ret_value)
{
    guint64 value = 0;
    const char *p;

    for (p = text; g_ascii_isdigit (*p); p++)
        if (!g_uint64_checked_mul (&value, value, 10)
            || !g_uint64_checked_add (&value, value, *p - '0'))
            return FALSE;
    if (p == text)
        return FALSE;
    *ret_end = p;
    *ret_value = value;
    return TRUE;
}

/* The factor that a unit stands for; 0: not a unit. */
static guint64 unit_factor (const char *unit)
{
    static const char letters[] = "kmgtpe";

    if (*unit == '\0' || g_ascii_strcasecmp (unit, "b") == 0)
        return 1;
    const char *letter = strchr (letters, g_ascii_tolower (*unit));
    if (!letter)
        return 0;
    gboolean decimal = g_ascii_strcasecmp (unit + 1, "b") == 0;
    if (unit[1] != '\0' && !decimal && g_ascii_strcasecmp (unit + 1, "ib") != 0)
        return 0;
    guint64 factor = 1;
    for (const char *p = letters; p <= letter; p++)
        factor *= decimal ? 1000 : 1024;
    return factor;
}

gboolean units_parse_size (const char *text, guint64 *ret_bytes)
{
    const char *unit;
    guint64 value, factor;

    if (!text || !take_digits (text, &unit, &value))
        return FALSE;
    if (*unit == ' ' && unit[1] != '\0')
        unit++;
    factor = unit_factor (unit);
    if (factor == 0 || !g_uint64_checked_mul (&value, value, factor))
        return FALSE;
    *ret_bytes = value;
    return TRUE;
}

gboolean units_parse_uint (const char *text, guint64 min, guint64 max, guint64 *ret_value)
{
    const char *end;
    guint64 value;

    if (!text || !take_digits (text, &end, &value) || *end != '\0' || value < min || value > max)
        return FALSE;
    *ret_value = value;
    return TRUE;
}
