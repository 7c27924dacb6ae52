#include <stdlib.h>
#include <string.h>
#include "api/api.h"

unsigned long bak_version_number (void)
{
    return BAK_VERSION_NUMBER;
}

const char *bak_version_string (void)
{
    return LIBBACKUP_VERSION;
}

void bak_free (void *memory)
{
    free (memory);
}

/* errors */

static void error_destroy (BakError *error)
{
    g_free (error->message);
    g_free (error);
}

HANDLE (BakError, error, error_destroy)

BakErrorCode bak_error_get_code (const BakError *error)
{
    return error ? error->code : BAK_ERROR_NONE;
}

const char *bak_error_get_message (const BakError *error)
{
    return error ? error->message : "";
}

static const char *const code_names[] = {
    [BAK_ERROR_NONE] = "none",
    [BAK_ERROR_INVALID_ARGUMENT] = "invalid-argument",
    [BAK_ERROR_XML] = "xml",
    [BAK_ERROR_NO_DOMAIN] = "no-domain",
    [BAK_ERROR_NO_DISK] = "no-disk",
    [BAK_ERROR_NO_CHECKPOINT] = "no-checkpoint",
    [BAK_ERROR_NO_JOB] = "no-job",
    [BAK_ERROR_EXISTS] = "exists",
    [BAK_ERROR_BUSY] = "busy",
    [BAK_ERROR_NOT_SUPPORTED] = "not-supported",
    [BAK_ERROR_MONITOR] = "monitor",
    [BAK_ERROR_TIMEOUT] = "timeout",
    [BAK_ERROR_CONNECTION] = "connection",
    [BAK_ERROR_ACCESS_DENIED] = "access-denied",
    [BAK_ERROR_IO] = "io",
    [BAK_ERROR_NO_SPACE] = "no-space",
    [BAK_ERROR_INEXACT] = "inexact",
    [BAK_ERROR_AGENT] = "agent",
    [BAK_ERROR_ABORTED] = "aborted",
    [BAK_ERROR_INTERNAL] = "internal",
    [BAK_ERROR_MONITOR_HELD] = "monitor-held",
    [BAK_ERROR_NO_POINT] = "no-point",
};

const char *bak_error_code_to_string (BakErrorCode code)
{
    return (unsigned int) code < G_N_ELEMENTS (code_names) ? code_names[code] : "unknown";
}

static void error_give (BakError **error, BakErrorCode code, char *message)
{
    BakError *made = g_new0 (BakError, 1);
    g_atomic_ref_count_init (&made->refs);
    made->code = code;
    made->message = message;
    *error = made;
}

void api_set_error (BakError **error, BakErrorCode code, const char *format, ...)
{
    if (!error)
        return;
    va_list args;
    va_start (args, format);
    error_give (error, code, g_strdup_vprintf (format, args));
    va_end (args);
}

void api_take_error (BakError **error, GError *internal)
{
    if (error)
        error_give (error, error_code (internal), g_strdup (internal->message));
    g_error_free (internal);
}

/* arguments */

void api_refuse_null (const char *argument, const char *function, BakError **error)
{
    api_set_error (error, BAK_ERROR_INVALID_ARGUMENT, _("%s in %s must not be NULL"), argument,
                   function);
}

void api_refuse_flags (unsigned int flags, const char *function, BakError **error)
{
    api_set_error (error, BAK_ERROR_INVALID_ARGUMENT, _("unsupported flags (0x%x) in function %s"),
                   flags, function);
}

gboolean api_check_text (const char *text, gsize max, const char *argument, const char *function,
                         BakError **error)
{
    gsize length = text ? strlen (text) : 0;
    if (length > max)
        api_set_error (error, BAK_ERROR_INVALID_ARGUMENT,
                       _("%s in %s is longer than %" G_GSIZE_FORMAT " bytes"), argument, function,
                       max);
    else if (text && !g_utf8_validate (text, length, NULL))
        api_set_error (error, BAK_ERROR_INVALID_ARGUMENT, _("%s in %s is not UTF-8"), argument,
                       function);
    else
        return TRUE;
    return FALSE;
}

gboolean api_check_size (unsigned long size, gsize minimum, const char *function, BakError **error)
{
    if (size >= minimum)
        return TRUE;
    api_set_error (error, BAK_ERROR_INVALID_ARGUMENT,
                   _("options->size in %s must be set to the size of the struct"), function);
    return FALSE;
}

const char *api_absent_is_null (const char *text)
{
    return text && *text ? text : NULL;
}

/* calls */

Result *result_call (BakConnection *conn, CallId id, const void *args, BakError **error)
{
    GError *internal = NULL;
    gpointer ret = g_malloc0 (call_rows[id].ret_size);

    gboolean ok = patience_is_set (conn) ? patience_call (conn, id, args, ret, &internal)
                                         : driver_call (conn->driver, id, args, ret, &internal);
    if (!ok) {
        g_free (ret);
        api_take_error (error, internal);
        return NULL;
    }
    Result *result = g_new0 (Result, 1);
    g_atomic_ref_count_init (&result->refs);
    result->id = id;
    result->ret = ret;
    return result;
}

Result *result_ref (Result *result)
{
    g_atomic_ref_count_inc (&result->refs);
    return result;
}

void result_unref (Result *result)
{
    if (!result || !g_atomic_ref_count_dec (&result->refs))
        return;
    call_clear_ret (result->id, result->ret);
    g_free (result->ret);
    g_free (result);
}

int api_call (BakConnection *conn, CallId id, const void *args, BakError **error)
{
    g_autoptr (Result) result = result_call (conn, id, args, error);
    return result ? 0 : -1;
}

char *api_call_text (BakConnection *conn, CallId id, const void *args, BakError **error)
{
    g_autoptr (Result) result = result_call (conn, id, args, error);
    return result ? g_steal_pointer (&((bak_text_ret *) result->ret)->text) : NULL;
}

/* snapshots */

gpointer snapshot_new (Result *result, gconstpointer data)
{
    Snapshot *snapshot = g_new0 (Snapshot, 1);
    g_atomic_ref_count_init (&snapshot->refs);
    snapshot->result = result_ref (result);
    snapshot->data = data;
    return snapshot;
}

void snapshot_free (gpointer data)
{
    Snapshot *snapshot = data;
    result_unref (snapshot->result);
    g_free (snapshot);
}

int snapshot_list (Result *result, gconstpointer first, guint n, gsize size, gpointer ret_list)
{
    if (ret_list) {
        gpointer *list = g_new0 (gpointer, n + 1);
        for (guint i = 0; i < n; i++)
            list[i] = snapshot_new (result, (const char *) first + i * size);
        *(gpointer **) ret_list = list;
    }
    result_unref (result);
    return n;
}
