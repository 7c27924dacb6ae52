#include <errno.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "repository/fields.h"
#include "repository/publish.h"
#include "util/files.h"

/* Directories that are no points: begun, and given up. */
static const char new_prefix[] = ".new-", gone_prefix[] = ".gone-";

static void clear_leftovers (const char *guest_dir)
{
    g_autoptr (GDir) dir = g_dir_open (guest_dir, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name (dir))) {
        if (!g_str_has_prefix (name, new_prefix) && !g_str_has_prefix (name, gone_prefix))
            continue;
        g_autofree char *path = g_build_filename (guest_dir, name, NULL);
        files_remove_tree (path);
    }
}

static gboolean make_guest_dir (Repository *repository, const char *dir, GError **error)
{
    if (g_file_test (dir, G_FILE_TEST_IS_DIR))
        return TRUE;
    return files_make_dir (dir, 0700, error) && files_fsync (repository->path, error);
}

void publish_clear (Repository *repository, const char *guest_uuid)
{
    g_autofree char *guest_dir = repository_guest_dir (repository, guest_uuid);
    clear_leftovers (guest_dir);
}

char *publish_new_dir (Repository *repository, const char *guest_uuid, const char *id)
{
    g_autofree char *guest_dir = repository_guest_dir (repository, guest_uuid);
    g_autofree char *name = g_strconcat (new_prefix, id, NULL);
    return g_build_filename (guest_dir, name, NULL);
}

gboolean publish_is_new (const char *name)
{
    return g_str_has_prefix (name, new_prefix);
}

char *publish_begin (Repository *repository, const char *guest_uuid, const char *id, GError **error)
{
    g_autofree char *guest_dir = repository_guest_dir (repository, guest_uuid);
    g_autofree char *dir = publish_new_dir (repository, guest_uuid, id);
    if (!make_guest_dir (repository, guest_dir, error))
        return NULL;
    clear_leftovers (guest_dir);
    if (g_mkdir (dir, 0700) != 0) {
        error_set_errno (error, errno, _("cannot make '%s'"), dir);
        return NULL;
    }
    return g_steal_pointer (&dir);
}

char *publish_new_id (gint64 instant)
{
    g_autoptr (GDateTime) time = g_date_time_new_from_unix_utc (instant / G_USEC_PER_SEC);
    g_autofree char *text = time ? g_date_time_format (time, "%Y%m%dT%H%M%SZ") : NULL;
    return g_strdup_printf ("%s-%08x", text ? text : "point", g_random_int ());
}

static gboolean sync_files (const char *dir_path, GError **error)
{
    g_autoptr (GDir) dir = g_dir_open (dir_path, 0, error);
    const char *name;
    while (dir && (name = g_dir_read_name (dir))) {
        g_autofree char *path = g_build_filename (dir_path, name, NULL);
        if (!files_fsync (path, error))
            return FALSE;
    }
    return dir != NULL;
}

static gboolean write_text (const char *dir, const char *name, const char *text, GError **error)
{
    g_autofree char *path = g_build_filename (dir, name, NULL);
    return files_write_atomic (path, text, -1, 0600, error);
}

gboolean publish_prepare (const char *dir, Manifest *manifest, const Placement *storage,
                          GError **error)
{
    g_autofree char *manifest_text = manifest_format (manifest);
    g_autofree char *storage_text = placement_format (storage);
    return write_text (dir, "manifest.json", manifest_text, error)
           && write_text (dir, "storage.json", storage_text, error) && sync_files (dir, error)
           && files_fsync (dir, error);
}

gboolean publish_placement (const char *dir, const Placement *storage, GError **error)
{
    g_autofree char *text = placement_format (storage);
    return write_text (dir, "storage.json", text, error) && sync_files (dir, error)
           && files_fsync (dir, error);
}

gboolean publish_commit (Repository *repository, const char *guest_uuid, const char *id,
                         GError **error)
{
    g_autofree char *guest_dir = repository_guest_dir (repository, guest_uuid);
    g_autofree char *from = publish_new_dir (repository, guest_uuid, id);
    g_autofree char *to = g_build_filename (guest_dir, id, NULL);
    if (g_rename (from, to) != 0)
        return error_set_errno (error, errno, _("cannot publish point '%s'"), id);
    return files_fsync (guest_dir, error);
}

void publish_abandon (const char *dir)
{
    if (dir)
        files_remove_tree (dir);
}

/* guest.json */

typedef struct {
    guint64 sequence;
    GPtrArray *names;
} Guest;

static gboolean read_guest (const char *path, Guest *guest, GError **error)
{
    g_autofree char *text = NULL;
    gsize length;
    JsonObject *object;
    if (g_access (path, F_OK) != 0 && errno == ENOENT) {
        guest->names = g_ptr_array_new_with_free_func (g_free);
        return TRUE;
    }
    if (!files_read (path, 0, &text, &length, error))
        return FALSE;
    g_autoptr (JsonNode) node = json_read_object (text, length, &object, error);
    if (!node)
        return error_note (error, "guest.json");
    Fields fields = { "guest.json", error, FALSE };
    guest->sequence = fields_number (&fields, object, "sequence", G_MAXINT64 - 1, FIELD_REQUIRED);
    guest->names = fields_texts (&fields, object, "names", 1024);
    return !fields.failed;
}

static gboolean write_guest (const char *path, const Guest *guest, GError **error)
{
    JsonObject *object = json_object_new ();
    JsonArray *names = json_array_new ();
    for (guint i = 0; i < guest->names->len; i++)
        json_array_add_string_element (names, guest->names->pdata[i]);
    json_object_set_int_member (object, "sequence", guest->sequence);
    json_object_set_array_member (object, "names", names);
    g_autoptr (JsonNode) node = json_node_init_object (json_node_alloc (), object);
    json_object_unref (object);
    g_autofree char *text = json_write (node);
    return files_write_atomic (path, text, -1, 0600, error);
}

static void add_name (Guest *guest, const char *name)
{
    guint count = guest->names->len;
    if (!count || !g_str_equal (guest->names->pdata[count - 1], name))
        g_ptr_array_add (guest->names, g_strdup (name));
}

/* A guest.json that was lost is made again from the points that are there. */
static guint64 highest_sequence (Repository *repository, const char *guest_uuid)
{
    g_autoptr (GPtrArray) points = repository_list_points (repository, guest_uuid, NULL, NULL);
    return points && points->len ? ((Point *) points->pdata[points->len - 1])->manifest->sequence
                                 : 0;
}

gboolean publish_next_sequence (Repository *repository, const char *guest_uuid,
                                const char *guest_name, guint64 *ret_sequence, GError **error)
{
    g_autofree char *dir = repository_guest_dir (repository, guest_uuid);
    g_autofree char *path = g_build_filename (dir, "guest.json", NULL);
    Guest guest = { 0 };
    gboolean ok = make_guest_dir (repository, dir, error) && read_guest (path, &guest, error);
    if (ok) {
        guest.sequence = MAX (guest.sequence, highest_sequence (repository, guest_uuid)) + 1;
        add_name (&guest, guest_name);
        ok = write_guest (path, &guest, error);
        *ret_sequence = guest.sequence;
    }
    g_clear_pointer (&guest.names, g_ptr_array_unref);
    return ok || error_note (error, _("guest '%s'"), guest_name);
}

GPtrArray *publish_guest_names (Repository *repository, const char *guest_uuid)
{
    g_autofree char *dir = repository_guest_dir (repository, guest_uuid);
    g_autofree char *path = g_build_filename (dir, "guest.json", NULL);
    Guest guest = { 0 };
    if (!read_guest (path, &guest, NULL))
        g_clear_pointer (&guest.names, g_ptr_array_unref);
    return guest.names ? guest.names : g_ptr_array_new_with_free_func (g_free);
}
