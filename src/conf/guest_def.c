/* An attached guest, and the JSON it is kept as. */
#include <string.h>
#include <glib/gi18n-lib.h>
#include "conf/guest_def.h"
#include "util/error.h"
#include "util/json.h"
#include "util/units.h"

enum {
    GUEST_NAME_MAX = 100,
    SOCKET_PATH_MAX = 107,
    DISK_NAME_MAX = 1024,
    FILE_PATH_MAX = 4095,
    DISKS_MAX = 4096
};

GuestDiskDef *guest_disk_def_new (const char *target, const char *id)
{
    GuestDiskDef *disk = g_new0 (GuestDiskDef, 1);

    disk->target = g_strdup (target);
    disk->id = g_strdup (id);
    return disk;
}

void guest_disk_def_free (GuestDiskDef *disk)
{
    if (!disk)
        return;
    g_free (disk->target);
    g_free (disk->id);
    g_free (disk);
}

GuestDef *guest_def_new (const char *name)
{
    GuestDef *def = g_new0 (GuestDef, 1);

    def->name = g_strdup (name);
    def->disks = g_ptr_array_new_with_free_func ((GDestroyNotify) guest_disk_def_free);
    def->images = g_ptr_array_new_with_free_func ((GDestroyNotify) guest_disk_def_free);
    return def;
}

void guest_def_free (GuestDef *def)
{
    if (!def)
        return;
    g_free (def->name);
    g_free (def->uuid);
    g_free (def->qmp);
    g_free (def->agent);
    g_ptr_array_unref (def->disks);
    g_ptr_array_unref (def->images);
    g_free (def);
}

static gpointer disk_copy (gconstpointer data, gpointer unused)
{
    const GuestDiskDef *disk = data;

    return guest_disk_def_new (disk->target, disk->id);
}

GuestDef *guest_def_copy (const GuestDef *def)
{
    if (!def)
        return NULL;
    GuestDef *copy = guest_def_new (def->name);
    copy->uuid = g_strdup (def->uuid);
    copy->qmp = g_strdup (def->qmp);
    copy->agent = g_strdup (def->agent);
    g_ptr_array_extend (copy->disks, def->disks, disk_copy, NULL);
    g_ptr_array_extend (copy->images, def->images, disk_copy, NULL);
    return copy;
}

/* Checks */

gboolean guest_name_check (const char *name, GError **error)
{
    static const char first[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    static const char rest[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-";
    gsize length = name ? strlen (name) : 0;

    if (length > 0 && length <= GUEST_NAME_MAX && strchr (first, name[0])
        && strspn (name, rest) == length)
        return TRUE;
    g_autofree char *shown = text_sanitize (name, GUEST_NAME_MAX + 1);
    return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                      _("guest name '%s': expected letters, digits and '_', then also '.', '+' "
                         "and '-'; at most %d of them"),
                      shown, GUEST_NAME_MAX);
}

static gboolean one_line (const char *text, gsize max)
{
    if (!text || *text == '\0' || strlen (text) > max || !g_utf8_validate (text, -1, NULL))
        return FALSE;
    for (const char *p = text; *p; p = g_utf8_next_char (p))
        if (g_unichar_iscntrl (g_utf8_get_char (p)))
            return FALSE;
    return TRUE;
}

static gboolean host_port_ok (const char *text)
{
    const char *colon = strrchr (text, ':');
    guint64 port;

    if (!colon || colon == text || !units_parse_uint (colon + 1, 1, 65535, &port))
        return FALSE;
    g_autofree char *host = g_strndup (text, colon - text);
    if (*host == '[' && g_str_has_suffix (host, "]")) {
        host[strlen (host) - 1] = '\0';
        return strchr (host, ':') && g_hostname_is_ip_address (host + 1);
    }
    return strlen (host) <= 255
           && strspn (host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
                  == strlen (host);
}

static gboolean check_address (const char *what, const char *address, GError **error)
{
    if (!address || (one_line (address, SOCKET_PATH_MAX) && address[0] == '/' && address[1] != '\0')
        || (one_line (address, 300) && host_port_ok (address)))
        return TRUE;
    g_autofree char *shown = text_sanitize (address, 200);
    return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                      _("%s '%s': expected an absolute path of at most %d bytes, or HOST:PORT"),
                      what, shown, SOCKET_PATH_MAX);
}

static gboolean uuid_ok (const char *uuid)
{
    if (!uuid || !g_uuid_string_is_valid (uuid))
        return FALSE;
    for (const char *p = uuid; *p; p++)
        if (g_ascii_isupper (*p))
            return FALSE;
    return TRUE;
}

static gboolean check_disk (const GuestDiskDef *disk, gboolean image, GHashTable *targets,
                            GHashTable *ids, GError **error)
{
    g_autofree char *target = text_sanitize (disk->target, 128),
                    *id = text_sanitize (disk->id, 200);

    if (!one_line (disk->target, DISK_NAME_MAX) || strchr (disk->target, '='))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("disk '%s': expected a target name of one line without '='"), target);
    if (image && !(one_line (disk->id, FILE_PATH_MAX) && disk->id[0] == '/' && disk->id[1] != '\0'))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("disk '%s': image '%s': expected an absolute path"), target, id);
    if (!one_line (disk->id, FILE_PATH_MAX))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("disk '%s': '%s': expected a name that the disk answers to"), target,
                          id);
    if (!g_hash_table_add (targets, disk->target))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s' is given twice"),
                          target);
    if (!g_hash_table_add (ids, disk->id))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("disk '%s': '%s' is given twice"),
                          target, id);
    return TRUE;
}

static gboolean check_disks (const GPtrArray *disks, gboolean image, GError **error)
{
    g_autoptr (GHashTable) targets = g_hash_table_new (g_str_hash, g_str_equal),
                           ids = g_hash_table_new (g_str_hash, g_str_equal);

    for (guint i = 0; i < disks->len; i++)
        if (!check_disk (disks->pdata[i], image, targets, ids, error))
            return FALSE;
    return TRUE;
}

gboolean guest_def_check (const GuestDef *def, GError **error)
{
    g_autofree char *uuid = text_sanitize (def->uuid, 64);

    if (!guest_name_check (def->name, error))
        return FALSE;
    if (def->uuid && !uuid_ok (def->uuid))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("guest '%s': uuid '%s': expected 36 characters, lower case"),
                          def->name, uuid);
    if (!def->qmp && def->images->len == 0)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("guest '%s': expected a monitor (--qmp), images (--image), or both"),
                          def->name);
    if (!def->qmp && (def->agent || def->disks->len > 0))
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("guest '%s': an agent and names of disks expect a monitor (--qmp)"),
                          def->name);
    if (!check_address (_("monitor"), def->qmp, error)
        || !check_address (_("agent"), def->agent, error)
        || !check_disks (def->disks, FALSE, error) || !check_disks (def->images, TRUE, error))
        return error_note (error, _("guest '%s'"), def->name);
    return TRUE;
}

/* JSON */

static void write_string (JsonBuilder *builder, const char *key, const char *value)
{
    if (!value)
        return;
    json_builder_set_member_name (builder, key);
    json_builder_add_string_value (builder, value);
}

static void write_disks (JsonBuilder *builder, const char *key, const GPtrArray *disks)
{
    if (disks->len == 0)
        return;
    json_builder_set_member_name (builder, key);
    json_builder_begin_array (builder);
    for (guint i = 0; i < disks->len; i++) {
        const GuestDiskDef *disk = disks->pdata[i];
        json_builder_begin_object (builder);
        write_string (builder, "target", disk->target);
        write_string (builder, "id", disk->id);
        json_builder_end_object (builder);
    }
    json_builder_end_array (builder);
}

char *guest_def_format (const GuestDef *def)
{
    g_autoptr (JsonBuilder) builder = json_builder_new ();

    json_builder_begin_object (builder);
    write_string (builder, "name", def->name);
    write_string (builder, "uuid", def->uuid);
    write_string (builder, "qmp", def->qmp);
    write_string (builder, "agent", def->agent);
    write_disks (builder, "disks", def->disks);
    write_disks (builder, "images", def->images);
    json_builder_end_object (builder);
    g_autoptr (JsonNode) root = json_builder_get_root (builder);
    return json_write (root);
}

static gboolean damaged (const char *what, const char *why, GError **error)
{
    g_autofree char *shown = text_sanitize (what, 64);

    return error_set (error, BAK_ERROR_IO, _("guest definition is damaged: '%s': %s"), shown, why);
}

static gboolean read_string (JsonObject *object, const char *key, char **ret_value, GError **error)
{
    const char *value = json_get_string (object, key);

    if (!value && json_object_has_member (object, key))
        return damaged (key, _("expected text"), error);
    *ret_value = g_strdup (value);
    return TRUE;
}

static gboolean known_members (JsonObject *object, const char *const *names, GError **error)
{
    g_autoptr (GList) members = json_object_get_members (object);

    for (GList *member = members; member; member = member->next)
        if (!g_strv_contains (names, member->data))
            return damaged (member->data, _("not known"), error);
    return TRUE;
}

static gboolean read_disk (JsonObject *object, const char *key, GPtrArray *disks, GError **error)
{
    static const char *const names[] = { "target", "id", NULL };
    GuestDiskDef *disk = guest_disk_def_new (NULL, NULL);

    g_ptr_array_add (disks, disk);
    if (!object)
        return damaged (key, _("expected a list of objects"), error);
    return known_members (object, names, error)
           && read_string (object, "target", &disk->target, error)
           && read_string (object, "id", &disk->id, error);
}

static gboolean read_disks (JsonObject *object, const char *key, GPtrArray *disks, GError **error)
{
    JsonArray *array = json_get_array (object, key);
    guint length = array ? json_array_get_length (array) : 0;

    if (!array && json_object_has_member (object, key))
        return damaged (key, _("expected a list"), error);
    if (length > DISKS_MAX)
        return damaged (key, _("too long"), error);
    for (guint i = 0; i < length; i++)
        if (!read_disk (json_get_element (array, i), key, disks, error))
            return FALSE;
    return TRUE;
}

GuestDef *guest_def_parse (const char *json, GError **error)
{
    static const char *const names[] = { "name", "uuid", "qmp", "agent", "disks", "images", NULL };
    g_autoptr (GuestDef) def = guest_def_new (NULL);
    JsonObject *object;
    g_autoptr (JsonNode) root = json_read_object (json ? json : "", -1, &object, error);

    if (!root) {
        error_note (error, _("guest definition is damaged"));
        return NULL;
    }
    if (!known_members (object, names, error) || !read_string (object, "name", &def->name, error)
        || !read_string (object, "uuid", &def->uuid, error)
        || !read_string (object, "qmp", &def->qmp, error)
        || !read_string (object, "agent", &def->agent, error)
        || !read_disks (object, "disks", def->disks, error)
        || !read_disks (object, "images", def->images, error))
        return NULL;
    if (!guest_def_check (def, error)) {
        error_note (error, _("guest definition is damaged"));
        return NULL;
    }
    if (!def->uuid) {
        damaged ("uuid", _("missing"), error);
        return NULL;
    }
    return g_steal_pointer (&def);
}
