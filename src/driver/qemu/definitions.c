/* Definitions of guests on disk. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "driver/qemu/definitions.h"
#include "job/image.h"
#include "driver/qemu/info.h"
#include "driver/qemu/monitor.h"
#include "driver/qemu/verbs.h"
#include "util/files.h"
#include "util/json.h"

enum { DEFINITION_MAX = 1024 * 1024, ATTACH_VERSION = 1 };

static char *guests_dir (const char *state_dir)
{
    return g_build_filename (state_dir, "guests", NULL);
}

char *attach_dir (const char *state_dir, const char *name)
{
    return g_build_filename (state_dir, "guests", name, NULL);
}

static int compare_strings (gconstpointer a, gconstpointer b)
{
    return strcmp (*(char *const *) a, *(char *const *) b);
}

GPtrArray *attach_names (const char *state_dir)
{
    g_autofree char *path = guests_dir (state_dir);
    g_autoptr (GDir) entries = g_dir_open (path, 0, NULL);
    GPtrArray *names = g_ptr_array_new_with_free_func (g_free);
    const char *name;

    while (entries && (name = g_dir_read_name (entries))) {
        g_autofree char *file = g_build_filename (path, name, "guest.json", NULL);
        if (guest_name_check (name, NULL) && g_file_test (file, G_FILE_TEST_IS_REGULAR))
            g_ptr_array_add (names, g_strdup (name));
    }
    g_ptr_array_sort (names, compare_strings);
    return names;
}

/* Where nothing is known of any guest, somebody may have taken it away. */
static gboolean no_domain (const char *state_dir, const char *name, GError **error)
{
    g_autofree char *shown = text_sanitize (name, 128);
    g_autoptr (GPtrArray) others = attach_names (state_dir);
    if (others->len > 0)
        return error_set (error, BAK_ERROR_NO_DOMAIN, _("no guest '%s' is attached"), shown);
    return error_set (
        error, BAK_ERROR_NO_DOMAIN,
        _("no guest '%s' is attached: the state directory '%s' knows of none (attach it: 'attach "
           "%s --qmp SOCKET'); if that directory was deleted while a backup ran, the backup was "
           "ended, and what it had made was removed"),
        shown, state_dir, shown);
}

GuestDef *attach_load (const char *state_dir, const char *name, GError **error)
{
    g_autofree char *path = g_build_filename (state_dir, "guests", name, "guest.json", NULL);
    g_autofree char *text = NULL;
    g_autoptr (GuestDef) def = NULL;

    if (!guest_name_check (name, NULL) || !g_file_test (path, G_FILE_TEST_EXISTS)) {
        no_domain (state_dir, name, error);
        return NULL;
    }
    if (!files_read (path, DEFINITION_MAX, &text, NULL, error))
        return NULL;
    g_autoptr (GError) why = NULL;
    if (!(def = guest_def_parse (text, &why))) {
        error_set (error, error_code (why),
                   _("guest '%s': '%s': %s; restore it, or forget the guest and all that is "
                      "recorded of it ('detach %s') and attach it again"),
                   name, path, why->message, name);
        return NULL;
    }
    if (g_strcmp0 (def->name, name) != 0) {
        error_set (error, BAK_ERROR_IO, _("'%s' is damaged: it does not define guest '%s'"), path,
                   name);
        return NULL;
    }
    return g_steal_pointer (&def);
}

GPtrArray *attach_load_all (const char *state_dir)
{
    g_autoptr (GPtrArray) names = attach_names (state_dir);
    GPtrArray *defs = g_ptr_array_new_with_free_func ((GDestroyNotify) guest_def_free);

    for (guint i = 0; i < names->len; i++) {
        g_autoptr (GError) why = NULL;
        GuestDef *def = attach_load (state_dir, names->pdata[i], &why);
        if (def)
            g_ptr_array_add (defs, def);
        else
            g_message ("%s", why->message);
    }
    return defs;
}

static JsonNode *read_findings (const char *dir, JsonObject **ret_object)
{
    g_autofree char *path = g_build_filename (dir, "attach.json", NULL);
    g_autofree char *text = NULL;
    gsize length = 0;

    return files_read (path, DEFINITION_MAX, &text, &length, NULL)
               ? json_read_object (text, length, ret_object, NULL)
               : NULL;
}

int attach_number (const char *dir)
{
    JsonObject *object = NULL;
    g_autoptr (JsonNode) node = read_findings (dir, &object);
    gint64 number = json_get_int (object, "number", 0);

    return number > 0 && number <= G_MAXINT ? (int) number : 0;
}

char *attach_image_format (const char *dir, const char *target)
{
    JsonObject *object = NULL;
    g_autoptr (JsonNode) node = read_findings (dir, &object);
    const char *format = json_get_string (json_get_object (object, "formats"), target);

    return image_format_known (format) ? g_strdup (format) : NULL;
}

GPtrArray *attach_seen (const char *dir, char **ret_uuid)
{
    JsonObject *object = NULL;
    g_autoptr (JsonNode) node = read_findings (dir, &object);
    JsonObject *seen = json_get_object (object, "seen");
    JsonArray *array = json_get_array (seen, "images");

    if (!array)
        return NULL;
    GPtrArray *images = g_ptr_array_new_with_free_func ((GDestroyNotify) guest_disk_def_free);
    for (guint i = 0; i < json_array_get_length (array); i++) {
        JsonObject *image = json_get_element (array, i);
        const char *target = json_get_string (image, "target"),
                   *file = json_get_string (image, "file");
        if (target && file)
            g_ptr_array_add (images, guest_disk_def_new (target, file));
    }
    if (ret_uuid)
        *ret_uuid = g_strdup (json_get_string (seen, "uuid"));
    return images;
}

static JsonObject *format_seen (const char *uuid, const GPtrArray *images)
{
    JsonObject *seen = json_object_new ();
    JsonArray *array = json_array_new ();

    if (uuid)
        json_object_set_string_member (seen, "uuid", uuid);
    for (guint i = 0; i < images->len; i++) {
        const GuestDiskDef *image = images->pdata[i];
        JsonObject *row = json_object_new ();
        json_object_set_string_member (row, "target", image->target);
        json_object_set_string_member (row, "file", image->id);
        json_array_add_object_element (array, row);
    }
    json_object_set_array_member (seen, "images", array);
    return seen;
}

static JsonObject *format_formats (const GPtrArray *images, const char *const *formats)
{
    JsonObject *table = json_object_new ();

    for (guint i = 0; i < images->len; i++)
        json_object_set_string_member (table, ((GuestDiskDef *) images->pdata[i])->target,
                                       formats[i]);
    return table;
}

gboolean attach_note_seen (const char *dir, const char *uuid, const GPtrArray *images,
                           const char *const *formats, GError **error)
{
    g_autofree char *path = g_build_filename (dir, "attach.json", NULL);
    JsonObject *object = NULL;
    g_autoptr (JsonNode) node = read_findings (dir, &object);

    if (!node)
        return error_set (error, BAK_ERROR_IO,
                          _("'%s' is damaged; detach the guest and attach it again"), path);
    json_object_set_object_member (object, "seen", format_seen (uuid, images));
    json_object_set_object_member (object, "formats", format_formats (images, formats));
    g_autofree char *text = json_write (node);
    return files_write_atomic (path, text, -1, 0600, error);
}

static char *format_findings (int number, const GuestDef *def, const char *const *formats)
{
    g_autoptr (JsonNode) node = json_node_new (JSON_NODE_OBJECT);
    JsonObject *object = json_object_new ();
    g_autoptr (GDateTime) now = g_date_time_new_now_utc ();
    g_autofree char *when = g_date_time_format (now, "%Y-%m-%dT%H:%M:%SZ");

    json_node_take_object (node, object);
    json_object_set_int_member (object, "version", ATTACH_VERSION);
    json_object_set_int_member (object, "number", number);
    json_object_set_string_member (object, "attached", when);
    json_object_set_object_member (object, "formats", format_formats (def->images, formats));
    return json_write (node);
}

/* A number that no guest of this state directory has had. The caller holds the state lock. */
static gboolean next_number (const char *state_dir, int *ret_number, GError **error)
{
    g_autofree char *path = g_build_filename (state_dir, "guests", ".number", NULL);
    g_autofree char *text = NULL;
    g_autoptr (GPtrArray) names = attach_names (state_dir);
    gint64 last = 0;

    if (files_read (path, 64, &text, NULL, NULL))
        last = g_ascii_strtoll (text, NULL, 10);
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *dir = attach_dir (state_dir, names->pdata[i]);
        last = MAX (last, attach_number (dir));
    }
    *ret_number = last >= 0 && last < G_MAXINT ? last + 1 : 1;
    g_autofree char *next = g_strdup_printf ("%d\n", *ret_number);
    return files_write_atomic (path, next, -1, 0600, error);
}

/* What an attach or detach that was killed left. The caller holds the state lock, so none of them
 * is at work. */
static void remove_leftovers (const char *state_dir)
{
    g_autofree char *path = guests_dir (state_dir);
    g_autoptr (GDir) entries = g_dir_open (path, 0, NULL);
    const char *name;

    while (entries && (name = g_dir_read_name (entries)))
        if (g_str_has_prefix (name, ".new-") || g_str_has_prefix (name, ".gone-")
            || g_str_has_prefix (name, ".number.")) {
            g_autofree char *leftover = g_build_filename (path, name, NULL);
            files_remove_tree (leftover);
        }
}

static int lock_state (const char *state_dir, GError **error)
{
    g_autofree char *guests = guests_dir (state_dir);
    g_autofree char *path = g_build_filename (state_dir, "attach.lock", NULL);

    if (!files_make_dir (guests, 0700, error))
        return -1;
    int fd = files_lock (path, STATE_LOCK_WAIT_MS, error);
    if (fd >= 0)
        remove_leftovers (state_dir);
    return fd;
}

gboolean attach_write (const char *folder, int number, const GuestDef *def,
                       const char *const *formats, GError **error)
{
    g_autofree char *definition = g_build_filename (folder, "guest.json", NULL);
    g_autofree char *findings = g_build_filename (folder, "attach.json", NULL);
    g_autofree char *text = guest_def_format (def);
    g_autofree char *found = format_findings (number, def, formats);

    return files_make_dir (folder, 0700, error)
           && files_write_atomic (findings, found, -1, 0600, error)
           && files_write_atomic (definition, text, -1, 0600, error);
}

gboolean attach_check_unused (const char *state_dir, const GuestDef *def, GError **error)
{
    g_autofree char *path = attach_dir (state_dir, def->name);
    g_autoptr (GPtrArray) others = attach_load_all (state_dir);

    if (g_file_test (path, G_FILE_TEST_EXISTS))
        return error_set (error, BAK_ERROR_EXISTS, _("a guest '%s' is attached already"),
                          def->name);
    for (guint i = 0; i < others->len; i++) {
        GuestDef *other = others->pdata[i];
        if (def->qmp && other->qmp && files_same (def->qmp, other->qmp))
            return error_set (error, BAK_ERROR_EXISTS,
                              _("monitor '%s' is attached already, as guest '%s'"), def->qmp,
                              other->name);
        if (def->uuid && g_strcmp0 (def->uuid, other->uuid) == 0)
            return error_set (error, BAK_ERROR_EXISTS,
                              _("the guest with UUID %s is attached already, as '%s'"), def->uuid,
                              other->name);
        for (guint j = 0; j < def->images->len; j++)
            for (guint k = 0; k < other->images->len; k++) {
                const char *file = ((GuestDiskDef *) def->images->pdata[j])->id;
                if (files_same (file, ((GuestDiskDef *) other->images->pdata[k])->id))
                    return error_set (error, BAK_ERROR_EXISTS,
                                      _("image '%s' is attached already, with guest '%s'"), file,
                                      other->name);
            }
    }
    return TRUE;
}

gboolean attach_store (const char *state_dir, const GuestDef *def, const char *const *formats,
                       GError **error)
{
    int fd = lock_state (state_dir, error), number = 0;
    g_autofree char *guests = guests_dir (state_dir);
    g_autofree char *temporary = g_strdup_printf ("%s/.new-%s", guests, def->name);
    g_autofree char *final = attach_dir (state_dir, def->name);

    if (fd < 0)
        return FALSE;
    gboolean ok = attach_check_unused (state_dir, def, error)
                  && next_number (state_dir, &number, error)
                  && attach_write (temporary, number, def, formats, error);
    if (ok && g_rename (temporary, final) != 0)
        ok = error_set_errno (error, errno, _("cannot make '%s'"), final);
    ok = ok && files_fsync (guests, error);
    if (!ok)
        files_remove_tree (temporary);
    close (fd);
    return ok;
}

gboolean attach_remove (const char *state_dir, const char *name, GError **error)
{
    int fd = lock_state (state_dir, error);
    g_autofree char *guests = guests_dir (state_dir);
    g_autofree char *gone = g_strdup_printf ("%s/.gone-%s", guests, name);
    g_autofree char *path = attach_dir (state_dir, name);

    if (fd < 0)
        return FALSE;
    gboolean ok = g_rename (path, gone) == 0
                  || error_set_errno (error, errno, _("cannot remove '%s'"), path);
    if (ok) {
        files_remove_tree (gone);
        ok = files_fsync (guests, error);
    }
    close (fd);
    return ok;
}

char *attach_find_monitor (const char *state_dir, const char *address)
{
    g_autoptr (GPtrArray) defs = attach_load_all (state_dir);

    for (guint i = 0; i < defs->len; i++) {
        GuestDef *def = defs->pdata[i];
        if (def->qmp && files_same (def->qmp, address))
            return g_strdup (def->name);
    }
    return NULL;
}
