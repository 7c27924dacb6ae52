#include <rpc/rpc.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/driver.h"
#include "remote/error-map.h"
#include "remote/frame.h"

G_DEFINE_QUARK (bak - rpc - error, rpc_error)

gboolean rpc_error_codec (void *xdrs, void *data)
{
    return xdr_rpc_error (xdrs, data);
}

gboolean rpc_error_set (GError **error, int code, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    if (error)
        *error = g_error_new_valist (RPC_ERROR, code, format, args);
    va_end (args);
    return FALSE;
}

/* The first row with a code of ours says what it becomes; the first with a code of libvirt's, what
 * that means. */
static const struct {
    BakErrorCode ours;
    int theirs, from;
    const char *says;
} map[] = {
    { BAK_ERROR_INVALID_ARGUMENT, RPC_ERROR_INVALID_ARG, RPC_FROM_QEMU, "invalid argument" },
    { BAK_ERROR_XML, RPC_ERROR_XML, RPC_FROM_DOMAIN, "XML error" },
    { BAK_ERROR_XML, 35, 0, NULL },
    { BAK_ERROR_XML, 92, 0, NULL },
    { BAK_ERROR_NO_DOMAIN, RPC_ERROR_NO_DOMAIN, RPC_FROM_QEMU, "Domain not found" },
    { BAK_ERROR_NO_DISK, RPC_ERROR_CONFIG, RPC_FROM_QEMU, "unsupported configuration" },
    { BAK_ERROR_NO_CHECKPOINT, RPC_ERROR_NO_CHECKPOINT, RPC_FROM_CHECKPOINT,
      "Domain checkpoint not found" },
    { BAK_ERROR_NO_JOB, RPC_ERROR_NO_BACKUP, RPC_FROM_QEMU, "Domain backup job id not found" },
    { BAK_ERROR_BUSY, RPC_ERROR_INVALID, RPC_FROM_QEMU, "Requested operation is not valid" },
    { BAK_ERROR_EXISTS, RPC_ERROR_FAILED, RPC_FROM_QEMU, "operation failed" },
    { BAK_ERROR_NOT_SUPPORTED, RPC_ERROR_UNSUPPORTED, RPC_FROM_QEMU, "Operation not supported" },
    { BAK_ERROR_NOT_SUPPORTED, RPC_ERROR_NO_SUPPORT, 0, NULL },
    { BAK_ERROR_NOT_SUPPORTED, RPC_ERROR_ARGUMENT, 0, NULL },
    { BAK_ERROR_INTERNAL, RPC_ERROR_INTERNAL, RPC_FROM_QEMU, "internal error" },
    { BAK_ERROR_MONITOR, RPC_ERROR_INTERNAL, RPC_FROM_QEMU, "internal error" },
    { BAK_ERROR_TIMEOUT, RPC_ERROR_TIMEOUT, RPC_FROM_QEMU, "Timed out during operation" },
    { BAK_ERROR_ACCESS_DENIED, RPC_ERROR_ACCESS, RPC_FROM_QEMU, "access denied" },
    { BAK_ERROR_ACCESS_DENIED, RPC_ERROR_DENIED, 0, NULL },
    { BAK_ERROR_ACCESS_DENIED, RPC_ERROR_AUTH, 0, NULL },
    { BAK_ERROR_ACCESS_DENIED, 94, 0, NULL },
    { BAK_ERROR_IO, RPC_ERROR_SYSTEM, RPC_FROM_QEMU, NULL },
    { BAK_ERROR_CONNECTION, RPC_ERROR_SYSTEM, RPC_FROM_QEMU, NULL },
    { BAK_ERROR_NO_SPACE, RPC_ERROR_SYSTEM, RPC_FROM_QEMU, NULL },
    { BAK_ERROR_INEXACT, RPC_ERROR_INCONSISTENT, RPC_FROM_CHECKPOINT, "checkpoint inconsistent" },
    { BAK_ERROR_AGENT, RPC_ERROR_AGENT, RPC_FROM_QEMU, "Guest agent is not responding" },
    { BAK_ERROR_ABORTED, RPC_ERROR_ABORTED, RPC_FROM_QEMU, "operation aborted" },
    { BAK_ERROR_MONITOR_HELD, RPC_ERROR_BUSY, RPC_FROM_QEMU, "resource busy" },
    { BAK_ERROR_NOT_SUPPORTED, RPC_ERROR_RPC, RPC_FROM_RPC, NULL },
};

/* As it is when it is UTF-8 (errors cross intact), cut to what a reply can hold. */
static rpc_text *optional (const char *text)
{
    rpc_text *pointer = ret_array (1, sizeof *pointer);
    gsize length = strlen (text);
    if (!g_utf8_validate (text, -1, NULL)) {
        g_autofree char *clean = text_sanitize (text, ERROR_TEXT_MAX);
        *pointer = ret_string (clean);
        return pointer;
    }
    if (length > ERROR_TEXT_MAX)
        length = g_utf8_find_prev_char (text, text + ERROR_TEXT_MAX + 1) - text;
    g_autofree char *cut = g_strndup (text, length);
    *pointer = ret_string (cut);
    return pointer;
}

/* libvirt's clients show message as it is, so its texts begin with what the code means. */
static void from_ours (const GError *error, rpc_error *ret)
{
    BakErrorCode code = error_code (error);
    for (guint i = 0; i < G_N_ELEMENTS (map); i++) {
        if (map[i].ours != code)
            continue;
        g_autofree char *message = map[i].says
                                       ? g_strdup_printf ("%s: %s", map[i].says, error->message)
                                       : g_strdup (error->message);
        g_autofree char *format =
            map[i].says ? g_strdup_printf ("%s: %%s", map[i].says) : g_strdup ("%s");
        ret->code = map[i].theirs;
        ret->domain = map[i].from;
        ret->message = optional (message);
        ret->str1 = optional (format);
        ret->str2 = optional (error->message);
        return;
    }
    ret->code = RPC_ERROR_INTERNAL;
    ret->domain = RPC_FROM_QEMU;
    ret->message = optional (error->message);
}

void rpc_error_from (const GError *error, guint32 program, rpc_error *ret)
{
    *ret = (rpc_error){ .level = 2, .int1 = -1, .int2 = -1 };
    if (error->domain == RPC_ERROR) {
        ret->code = error->code;
        ret->domain = error->code == RPC_ERROR_RPC ? RPC_FROM_RPC : RPC_FROM_QEMU;
        ret->message = optional (error->message);
        ret->str1 = optional ("%s");
        ret->str2 = optional (error->message);
    } else if (program == PROGRAM_BACKUP) {
        ret->code = error_code (error);
        ret->domain = PROGRAM_BACKUP;
        ret->message = optional (error->message);
    } else {
        from_ours (error, ret);
    }
}

gboolean rpc_error_to (const rpc_error *wire, GError **error)
{
    const char *text = wire->message ? *wire->message : "";
    BakErrorCode code = BAK_ERROR_INTERNAL;
    if ((guint32) wire->domain == PROGRAM_BACKUP) {
        if (wire->code > BAK_ERROR_NONE && wire->code <= BAK_ERROR_MONITOR_HELD)
            code = wire->code;
        return error_set (error, code, "%s", text);
    }
    for (guint i = 0; i < G_N_ELEMENTS (map); i++)
        if (map[i].theirs == wire->code) {
            code = map[i].ours;
            break;
        }
    return error_set (error, code, "%s", text);
}

gboolean rpc_error_is_unknown_program (const rpc_error *wire)
{
    return wire->code == RPC_ERROR_RPC && wire->message
           && strstr (*wire->message, "Cannot find program");
}
