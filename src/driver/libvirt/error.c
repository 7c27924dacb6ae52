#include <dlfcn.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/libvirt/lv.h"

static const struct {
    int number;
    BakErrorCode code;
} codes[] = {
    { VIR_ERR_NO_DOMAIN, BAK_ERROR_NO_DOMAIN },
    { VIR_ERR_INVALID_DOMAIN, BAK_ERROR_NO_DOMAIN },
    { VIR_ERR_INVALID_ARG, BAK_ERROR_INVALID_ARGUMENT },
    { VIR_ERR_XML_ERROR, BAK_ERROR_XML },
    { VIR_ERR_XML_DETAIL, BAK_ERROR_XML },
    { VIR_ERR_XML_INVALID_SCHEMA, BAK_ERROR_XML },
    { VIR_ERR_NO_DOMAIN_CHECKPOINT, BAK_ERROR_NO_CHECKPOINT },
    { VIR_ERR_INVALID_DOMAIN_CHECKPOINT, BAK_ERROR_NO_CHECKPOINT },
    { VIR_ERR_NO_DOMAIN_BACKUP, BAK_ERROR_NO_JOB },
    { VIR_ERR_CHECKPOINT_INCONSISTENT, BAK_ERROR_INEXACT },
    { VIR_ERR_NO_SUPPORT, BAK_ERROR_NOT_SUPPORTED },
    { VIR_ERR_CONFIG_UNSUPPORTED, BAK_ERROR_NOT_SUPPORTED },
    { VIR_ERR_OPERATION_UNSUPPORTED, BAK_ERROR_NOT_SUPPORTED },
    { VIR_ERR_ARGUMENT_UNSUPPORTED, BAK_ERROR_NOT_SUPPORTED },
    { VIR_ERR_OPERATION_INVALID, BAK_ERROR_INVALID_ARGUMENT },
    { VIR_ERR_OPERATION_DENIED, BAK_ERROR_ACCESS_DENIED },
    { VIR_ERR_ACCESS_DENIED, BAK_ERROR_ACCESS_DENIED },
    { VIR_ERR_AUTH_FAILED, BAK_ERROR_ACCESS_DENIED },
    { VIR_ERR_AUTH_CANCELLED, BAK_ERROR_ACCESS_DENIED },
    { VIR_ERR_AUTH_UNAVAILABLE, BAK_ERROR_ACCESS_DENIED },
    { VIR_ERR_OPERATION_TIMEOUT, BAK_ERROR_TIMEOUT },
    { VIR_ERR_OPERATION_ABORTED, BAK_ERROR_ABORTED },
    { VIR_ERR_NO_CONNECT, BAK_ERROR_CONNECTION },
    { VIR_ERR_INVALID_CONN, BAK_ERROR_CONNECTION },
    { VIR_ERR_RPC, BAK_ERROR_CONNECTION },
    { VIR_ERR_AGENT_UNRESPONSIVE, BAK_ERROR_CONNECTION },
    { VIR_ERR_AGENT_UNSYNCED, BAK_ERROR_AGENT },
    { VIR_ERR_NO_SECRET, BAK_ERROR_INVALID_ARGUMENT },
};

/* libvirt's numbers are coarse; these texts have been stable since the calls exist. */
static const struct {
    int number;
    const char *text;
    BakErrorCode code;
} texts[] = {
    { VIR_ERR_OPERATION_TIMEOUT, "state change lock", BAK_ERROR_BUSY },
    { VIR_ERR_OPERATION_INVALID, "another backup job", BAK_ERROR_BUSY },
    { VIR_ERR_OPERATION_INVALID, "no job is active", BAK_ERROR_NO_JOB },
    { VIR_ERR_OPERATION_FAILED, "already exists", BAK_ERROR_EXISTS },
    { VIR_ERR_OPERATION_FAILED, "blockjob assigned", BAK_ERROR_BUSY },
    { VIR_ERR_INTERNAL_ERROR, "has a blockjob assigned", BAK_ERROR_BUSY },
    { VIR_ERR_INTERNAL_ERROR, "already exists", BAK_ERROR_EXISTS },
    { VIR_ERR_INVALID_ARG, " exists", BAK_ERROR_EXISTS },
    { VIR_ERR_CONFIG_UNSUPPORTED, "no disk named", BAK_ERROR_NO_DISK },
    { VIR_ERR_INTERNAL_ERROR, "client socket is closed", BAK_ERROR_CONNECTION },
    { VIR_ERR_INTERNAL_ERROR, "connection closed", BAK_ERROR_CONNECTION },
    { VIR_ERR_INTERNAL_ERROR, "unable to execute QEMU agent command", BAK_ERROR_AGENT },
    { VIR_ERR_INTERNAL_ERROR, "agent socket", BAK_ERROR_CONNECTION },
};

BakErrorCode lv_error_code (const virError *error)
{
    const char *message = error->message ? error->message : "";

    for (guint i = 0; i < G_N_ELEMENTS (texts); i++)
        if (error->code == texts[i].number && strstr (message, texts[i].text))
            return texts[i].code;
    for (guint i = 0; i < G_N_ELEMENTS (codes); i++)
        if (error->code == codes[i].number)
            return codes[i].code;
    BakErrorCode by_text = error_code_from_text (message);
    if (error->code == VIR_ERR_SYSTEM_ERROR
        && (error->domain == VIR_FROM_RPC || strstr (message, "connect")))
        return BAK_ERROR_CONNECTION;
    if (by_text != BAK_ERROR_NONE && by_text != BAK_ERROR_IO)
        return by_text;
    return error->code == VIR_ERR_SYSTEM_ERROR ? BAK_ERROR_IO : BAK_ERROR_MONITOR;
}

gboolean lv_error (GError **error)
{
    const virError *last = virGetLastError ();
    if (!last || last->code == VIR_ERR_OK)
        return error_set (error, BAK_ERROR_INTERNAL, _("libvirt failed without saying why"));
    g_autofree char *text = text_sanitize (last->message, 4096);
    return error_set (error, lv_error_code (last), _("libvirt: %s"), text);
}

static void quiet (void *data, virErrorPtr error)
{
    g_debug ("libvirt: %s", error->message);
}

/* A program that uses libvirt itself keeps its own handler; the module is loaded with local
 * symbols, so its libvirt is seen globally only in such a program. */
void lv_error_quiet (virConnectPtr vir)
{
    if (vir)
        virConnSetErrorFunc (vir, NULL, quiet);
    else if (!dlsym (RTLD_DEFAULT, "virSetErrorFunc"))
        virSetErrorFunc (NULL, quiet);
}
