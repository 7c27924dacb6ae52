#include <errno.h>
#include <string.h>
#include <gio/gio.h>
#include <glib/gi18n-lib.h>
#include "util/error.h"

G_DEFINE_QUARK (bak - error, bak_internal_error)

gboolean error_set (GError **error, BakErrorCode code, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    if (error)
        *error = g_error_new_valist (BAK_ERROR, code, format, args);
    va_end (args);
    return FALSE;
}

gboolean error_note (GError **error, const char *format, ...)
{
    if (!error || !*error)
        return FALSE;
    va_list args;
    va_start (args, format);
    g_autofree char *prefix = g_strdup_vprintf (format, args);
    va_end (args);
    g_prefix_error (error, "%s: ", prefix);
    return FALSE;
}

static const struct {
    int errnum;
    BakErrorCode code;
} errno_codes[] = {
    { ENOSPC, BAK_ERROR_NO_SPACE },      { EDQUOT, BAK_ERROR_NO_SPACE },
    { EACCES, BAK_ERROR_ACCESS_DENIED }, { EPERM, BAK_ERROR_ACCESS_DENIED },
    { EROFS, BAK_ERROR_ACCESS_DENIED },  { EEXIST, BAK_ERROR_EXISTS },
    { ETIMEDOUT, BAK_ERROR_TIMEOUT },    { ECANCELED, BAK_ERROR_ABORTED },
};

static BakErrorCode code_from_errno (int errnum)
{
    for (guint i = 0; i < G_N_ELEMENTS (errno_codes); i++)
        if (errno_codes[i].errnum == errnum)
            return errno_codes[i].code;
    return BAK_ERROR_IO;
}

gboolean error_set_errno (GError **error, int errnum, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    g_autofree char *what = g_strdup_vprintf (format, args);
    va_end (args);
    return error_set (error, code_from_errno (errnum), "%s: %s", what, g_strerror (errnum));
}

BakErrorCode error_code (const GError *error)
{
    if (!error)
        return BAK_ERROR_NONE;
    if (error->domain == BAK_ERROR)
        return error->code;
    if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_NO_SPACE)
        || g_error_matches (error, G_FILE_ERROR, G_FILE_ERROR_NOSPC))
        return BAK_ERROR_NO_SPACE;
    if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT))
        return BAK_ERROR_TIMEOUT;
    if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED)
        || g_error_matches (error, G_FILE_ERROR, G_FILE_ERROR_ACCES))
        return BAK_ERROR_ACCESS_DENIED;
    if (error->domain == G_IO_ERROR || error->domain == G_FILE_ERROR)
        return BAK_ERROR_IO;
    return BAK_ERROR_INTERNAL;
}

/* QEMU's job errors carry no errno, only the text of strerror. */
BakErrorCode error_code_from_text (const char *text)
{
    for (guint i = 0; text && i < G_N_ELEMENTS (errno_codes); i++)
        if (strstr (text, strerror (errno_codes[i].errnum)))
            return errno_codes[i].code;
    if (text && strstr (text, "Operation canceled"))
        return BAK_ERROR_ABORTED;
    return BAK_ERROR_IO;
}

char *text_sanitize (const char *text, gsize max)
{
    GString *out = g_string_new (NULL);
    if (max == 0)
        max = 4096;
    for (const char *p = text ? text : ""; *p && out->len < max;) {
        gunichar c = g_utf8_get_char_validated (p, -1);
        if (c != (gunichar) -1 && c != (gunichar) -2 && g_unichar_isprint (c)) {
            const char *next = g_utf8_next_char (p);
            if (out->len + (next - p) > max)
                break;
            g_string_append_len (out, p, next - p);
            p = next;
        } else {
            g_string_append_printf (out, "\\x%02x", (guchar) *p++);
        }
    }
    return g_string_free (out, FALSE);
}
