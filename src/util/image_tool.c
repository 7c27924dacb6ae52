#include <string.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "util/config.h"
#include "util/crypto.h"
#include "util/image_tool.h"
#include "util/process.h"

enum { TOOL_TIMEOUT = 30, TOOL_OUTPUT_MAX = 32 * 1024 * 1024, MEASURE_TRIES = 20 };

static const char secret_object[] =
    "secret,id=" IMAGE_TOOL_SECRET ",file=/proc/self/fd/" G_STRINGIFY (PROCESS_EXTRA_FD);

/* "qemu-img: Could not open 'x': ..." without the program's name, first line only. */
static char *complaint (const char *messages)
{
    g_autofree char *line = g_strndup (messages, strcspn (messages, "\n"));
    const char *text = g_str_has_prefix (line, "qemu-img: ") ? line + strlen ("qemu-img: ") : line;
    return text_sanitize (*text ? text : _("no reason given"), 1024);
}

/* What an image stands on may be a server that says nothing, a stopped FUSE or a FIFO. */
static gboolean run_tool (const char *const *argv, int secret, int *ret_status, char **ret_output,
                          char **ret_messages, GError **error)
{
    guint seconds = MAX (config_get_int ("tool_timeout", TOOL_TIMEOUT), 1);
    g_autoptr (GError) failure = NULL;

    if (process_run_with (argv, secret, seconds * 1000, TOOL_OUTPUT_MAX, ret_status, ret_output,
                          ret_messages, &failure))
        return TRUE;
    if (error_code (failure) == BAK_ERROR_TIMEOUT)
        return error_set (
            error, BAK_ERROR_TIMEOUT,
            _("'%s %s' did not end within %u s (tool_timeout): the image, or what it "
               "stands on (a backing file, a server), does not answer"),
            argv[0], argv[1], seconds);
    g_propagate_error (error, g_steal_pointer (&failure));
    return FALSE;
}

/* A derivation of a key that QEMU could not measure is no fault of the image. */
static gboolean is_busy_host (int status, const char *messages)
{
    return status != 0 && strstr (messages, "accurate CPU usage");
}

static gboolean run_again (const char *const *argv, int secret, int *ret_status, char **ret_output,
                           char **ret_messages, GError **error)
{
    for (guint left = MEASURE_TRIES;; left--) {
        if (!run_tool (argv, secret, ret_status, ret_output, ret_messages, error))
            return FALSE;
        if (!is_busy_host (*ret_status, *ret_messages) || left == 0)
            return TRUE;
        g_clear_pointer (ret_output, g_free);
        g_clear_pointer (ret_messages, g_free);
    }
}

/* extra: a file that the program gets as well; -1: none. */
static gboolean run (const char *const *args, int extra, gboolean is_secret, char **ret_output,
                     GError **error)
{
    g_autofree char *program = process_find ("LIBBACKUP_QEMU_IMG", "qemu_img", "qemu-img");
    g_autoptr (GPtrArray) argv = g_ptr_array_new ();
    g_autofree char *output = NULL, *messages = NULL;
    int status = 0;

    g_ptr_array_add (argv, program);
    g_ptr_array_add (argv, (char *) *args++);
    if (is_secret) {
        g_ptr_array_add (argv, (char *) "--object");
        g_ptr_array_add (argv, (char *) secret_object);
    }
    for (; *args; args++)
        g_ptr_array_add (argv, (char *) *args);
    g_ptr_array_add (argv, NULL);
    if (!run_again ((const char *const *) argv->pdata, extra, &status, &output, &messages, error))
        return FALSE;
    if (status != 0) {
        g_autofree char *text = complaint (messages);
        BakErrorCode code = strstr (text, "\" lock") ? BAK_ERROR_BUSY : error_code_from_text (text);
        return error_set (error, code, "%s", text);
    }
    if (ret_output)
        *ret_output = g_steal_pointer (&output);
    return TRUE;
}

gboolean image_tool (const char *const *args, char **ret_output, GError **error)
{
    return run (args, -1, FALSE, ret_output, error);
}

gboolean image_tool_secret (const char *const *args, const char *secret, char **ret_output,
                            GError **error)
{
    int fd = secret ? crypto_secret_file (secret, error) : -1;

    if (secret && fd < 0)
        return FALSE;
    gboolean ok = run (args, fd, fd >= 0, ret_output, error);
    if (fd >= 0)
        close (fd);
    return ok;
}

G_STATIC_ASSERT (PROCESS_EXTRA_FD == 3); /* IMAGE_TOOL_FILE */

gboolean image_tool_file (const char *const *args, int fd, char **ret_output, GError **error)
{
    return run (args, fd, FALSE, ret_output, error);
}
