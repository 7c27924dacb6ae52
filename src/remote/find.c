#include <errno.h>
#include <unistd.h>
#include <sys/stat.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include <json-glib/json-glib.h>
#include "remote/find.h"
#include "util/config.h"
#include "util/files.h"

enum { START_SECONDS = 10, LOOK_AGAIN_MS = 20, LOCK_WAIT_MS = 1000 };

static char *lock_path (const char *state_dir)
{
    return g_build_filename (state_dir, "daemon.lock", NULL);
}
static char *record_path (const char *state_dir)
{
    return g_build_filename (state_dir, "daemon.json", NULL);
}

/* NULL: not there or not readable as one of ours. */
static char *read_record (const char *state_dir)
{
    g_autofree char *path = record_path (state_dir), *text = NULL;
    gsize length;
    if (!files_read (path, 65536, &text, &length, NULL))
        return NULL;
    g_autoptr (JsonParser) parser = json_parser_new_immutable ();
    if (!json_parser_load_from_data (parser, text, length, NULL))
        return NULL;
    JsonNode *root = json_parser_get_root (parser);
    if (!root || !JSON_NODE_HOLDS_OBJECT (root))
        return NULL;
    const char *socket =
        json_object_get_string_member_with_default (json_node_get_object (root), "socket", NULL);
    return socket && g_path_is_absolute (socket) ? g_strdup (socket) : NULL;
}

/* A user who may not look into the directory can still reach a daemon at the usual place. */
static char *find_from_outside (gboolean session)
{
    g_autofree char *usual = config_default_socket (session);
    return g_access (usual, F_OK) == 0 ? g_steal_pointer (&usual) : NULL;
}

char *daemon_find (const char *state_dir, gboolean session, GError **error)
{
    g_autofree char *lock = lock_path (state_dir);
    gint64 deadline = g_get_monotonic_time () + START_SECONDS * G_USEC_PER_SEC;

    if (g_access (lock, F_OK) != 0 && errno != EACCES)
        return NULL;
    if (g_access (lock, R_OK | W_OK) != 0)
        return find_from_outside (session);
    while (files_is_locked (lock)) {
        char *socket = read_record (state_dir);
        if (socket)
            return socket;
        if (g_get_monotonic_time () > deadline) {
            error_set (error, BAK_ERROR_CONNECTION,
                       _("a daemon owns '%s' but does not say where it listens"), state_dir);
            return NULL;
        }
        g_usleep (LOOK_AGAIN_MS * 1000); /* it is starting; a flock has no event */
    }
    return NULL;
}

int daemon_claim (const char *state_dir, GError **error)
{
    g_autofree char *lock = lock_path (state_dir), *record = record_path (state_dir);
    if (!files_make_dir (state_dir, 0700, error))
        return -1;
    /* a child of one that was just killed holds it until it has become another program */
    int fd = files_lock (lock, LOCK_WAIT_MS, error);
    if (fd < 0)
        error_note (error, _("another libbackupd owns '%s'"), state_dir);
    else
        g_unlink (record); /* of one that was killed */
    return fd;
}

gboolean daemon_announce (const char *state_dir, const char *socket, GError **error)
{
    g_autofree char *path = record_path (state_dir);
    g_autoptr (JsonBuilder) builder = json_builder_new ();
    json_builder_begin_object (builder);
    json_builder_set_member_name (builder, "socket");
    json_builder_add_string_value (builder, socket);
    json_builder_set_member_name (builder, "pid");
    json_builder_add_int_value (builder, getpid ());
    json_builder_end_object (builder);
    g_autoptr (JsonNode) root = json_builder_get_root (builder);
    g_autofree char *text = json_to_string (root, FALSE);
    return files_write_atomic (path, text, -1, 0644, error);
}

void daemon_retire (const char *state_dir)
{
    g_autofree char *path = record_path (state_dir);
    g_unlink (path);
}
