#include <string.h>
#include <glib/gi18n-lib.h>
#include "driver/qemu/definitions.h"
#include "driver/qemu/same-qemu.h"
#include "util/files.h"
#include "util/json.h"

/* A socket that QEMU listens on: what it says is "[disconnected:]unix:PATH,server[=on]", or tcp:
 * with HOST:PORT, and "<-> PEER" behind while somebody is connected. */
typedef struct {
    char *address; /* path, or HOST:PORT */
    gboolean connected;
} Listening;

static void listening_free (Listening *listening)
{
    g_free (listening->address);
    g_free (listening);
}

static Listening *parse_listening (const char *text)
{
    static const char gone[] = "disconnected:", server[] = ",server";
    gboolean connected = !g_str_has_prefix (text, gone);
    const char *address = connected ? text : text + strlen (gone), *end;
    if (!g_str_has_prefix (address, "unix:") && !g_str_has_prefix (address, "tcp:"))
        return NULL;
    address = strchr (address, ':') + 1;
    end = g_strrstr (address, server);
    if (!end || end == address || g_str_has_prefix (end, ",server=off"))
        return NULL;
    Listening *listening = g_new0 (Listening, 1);
    listening->address = g_strndup (address, end - address);
    listening->connected = connected;
    return listening;
}

static GPtrArray *load_listening (Qmp *qmp, GError **error)
{
    g_autoptr (GError) failure = NULL;
    g_autoptr (JsonNode) node = qmp_execute (qmp, "query-chardev", NULL, 0, &failure);
    if (!node && error_code (failure) != BAK_ERROR_MONITOR) {
        g_propagate_error (error, g_steal_pointer (&failure));
        return NULL;
    }
    /* a storage daemon may not have the question */
    GPtrArray *all = g_ptr_array_new_with_free_func ((GDestroyNotify) listening_free);
    JsonArray *array = node && JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : NULL;
    for (guint i = 0; array && i < json_array_get_length (array); i++) {
        const char *text = json_get_string (json_get_element (array, i), "filename");
        Listening *listening = text ? parse_listening (text) : NULL;
        if (listening)
            g_ptr_array_add (all, listening);
    }
    return all;
}

static gboolean is_local_host (const char *host, gsize length)
{
    static const char *const names[] = { "127.0.0.1", "localhost", "::1",  "[::1]",
                                         "0.0.0.0",   "::",        "[::]", "" };
    for (guint i = 0; i < G_N_ELEMENTS (names); i++)
        if (strlen (names[i]) == length && strncmp (names[i], host, length) == 0)
            return TRUE;
    return FALSE;
}

/* A TCP port of this host has one listener, under whatever name of the host. */
static gboolean same_address (const char *a, const char *b)
{
    if (g_path_is_absolute (a) || g_path_is_absolute (b))
        return g_path_is_absolute (a) && g_path_is_absolute (b) && files_same (a, b);
    const char *x = strrchr (a, ':'), *y = strrchr (b, ':');
    return g_str_equal (a, b)
           || (x && y && g_str_equal (x, y) && is_local_host (a, x - a)
               && is_local_host (b, y - b));
}

static gboolean listens_at (const GPtrArray *all, const char *address)
{
    for (guint i = 0; i < all->len; i++)
        if (same_address (((const Listening *) all->pdata[i])->address, address))
            return TRUE;
    return FALSE;
}

static gboolean is_at_work (const char *dir)
{
    g_autofree char *path = g_build_filename (dir, "lock", NULL);
    return files_is_locked (path);
}

static gboolean is_real (const char *uuid)
{
    return uuid && g_uuid_string_is_valid (uuid) && strspn (uuid, "0-") < strlen (uuid);
}

char *same_guest_uuid (Qmp *qmp)
{
    g_autoptr (JsonNode) answer = qmp_execute (qmp, "query-uuid", NULL, 0, NULL);
    const char *uuid = answer && JSON_NODE_HOLDS_OBJECT (answer)
                           ? json_get_string (json_node_get_object (answer), "UUID")
                           : NULL;
    return is_real (uuid) ? g_strdup (uuid) : NULL;
}

gboolean same_guest_check (Qmp *qmp, const GuestDef *def, const char *expected, GError **error)
{
    g_autofree char *uuid = same_guest_uuid (qmp);
    return !uuid || !is_real (expected) || g_ascii_strcasecmp (uuid, expected) == 0
           || error_set (error, BAK_ERROR_INEXACT,
                         _("another guest is at the monitor '%s' now: it has the UUID %s, and "
                            "guest '%s' has %s; if it is meant, detach '%s' and attach it anew"),
                         def->qmp, uuid, def->name, expected, def->name);
}

gboolean same_qemu_check (Qmp *qmp, const char *state_dir, const GuestDef *def, int number,
                          GError **error)
{
    g_autoptr (GPtrArray) listening = load_listening (qmp, error);
    if (!listening)
        return FALSE;
    if (listening->len < 2)
        return TRUE;
    g_autoptr (GPtrArray) others = attach_load_all (state_dir);
    for (guint i = 0; i < others->len; i++) {
        const GuestDef *other = others->pdata[i];
        if (!other->qmp || g_str_equal (other->name, def->name)
            || !listens_at (listening, other->qmp))
            continue;
        g_autofree char *dir = g_build_filename (state_dir, "guests", other->name, NULL);
        if (attach_number (dir) > number && !is_at_work (dir))
            continue;
        return error_set (error, BAK_ERROR_EXISTS,
                          _("monitor '%s' is another one of the QEMU of guest '%s' (whose monitor "
                             "is '%s'): one QEMU is one guest; use that name"),
                          def->qmp, other->name, other->qmp);
    }
    return TRUE;
}

gboolean same_qemu_holds_ours (const Graph *graph)
{
    gboolean found = FALSE;
    for (guint i = 0; i < graph->jobs->len; i++)
        found = found || g_str_has_prefix (((GraphJob *) graph->jobs->pdata[i])->id, "bak-");
    for (guint i = 0; i < graph->exports->len; i++)
        found = found || g_str_has_prefix (((GraphExport *) graph->exports->pdata[i])->id, "bak-");
    for (guint i = 0; i < graph->nodes->len; i++)
        found = found || g_str_has_prefix (((GraphNode *) graph->nodes->pdata[i])->name, "bak-");
    for (guint i = 0; i < graph->objects->len; i++)
        found = found || g_str_has_prefix (graph->objects->pdata[i], "bak-");
    return found;
}

gboolean same_qemu_is_alone (Qmp *qmp, const GuestDef *def, GError **error)
{
    g_autoptr (GPtrArray) all = def->qmp ? load_listening (qmp, error) : NULL;
    if (!def->qmp)
        return TRUE; /* a storage daemon of ours */
    for (guint i = 0; all && i < all->len; i++) {
        const Listening *other = all->pdata[i];
        if (!other->connected || same_address (other->address, def->qmp)
            || (def->agent && same_address (other->address, def->agent)))
            continue;
        g_autofree char *shown = text_sanitize (other->address, 512);
        return error_set (error, BAK_ERROR_BUSY,
                          _("guest '%s': its QEMU holds a backup of another libbackup, and "
                             "somebody is connected to its socket '%s': end the backup there, or "
                             "close that connection when nobody works there any more"),
                          def->name, shown);
    }
    return all != NULL;
}
