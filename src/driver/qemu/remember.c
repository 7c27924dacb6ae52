#include <string.h>
#include "driver/qemu/remember.h"
#include "job/build.h"
#include "job/fields.h"
#include "util/files.h"
#include "util/json.h"

enum { FILE_MAX = 4 * 1024 * 1024 };

/* clang-format off */
#define DISK(member, kind, max) { #member, kind, G_STRUCT_OFFSET (bak_disk, member), max }
/* clang-format on */
static const Field disk_fields[] = {
    DISK (target, KIND_STRING, BAK_NAME_MAX),
    DISK (names, KIND_STRINGS, BAK_PATH_MAX),
    DISK (node, KIND_STRING, BAK_NAME_MAX),
    DISK (source, KIND_STRING, BAK_PATH_MAX),
    DISK (type, KIND_STRING, BAK_NAME_MAX),
    DISK (device, KIND_STRING, BAK_NAME_MAX),
    DISK (format, KIND_STRING, BAK_NAME_MAX),
    DISK (bus, KIND_STRING, BAK_NAME_MAX),
    DISK (capacity, KIND_SIZE, 0),
    DISK (allocation, KIND_SIZE, 0),
    DISK (physical, KIND_SIZE, 0),
    DISK (readonly, KIND_BOOL, 0),
    DISK (empty, KIND_BOOL, 0),
    DISK (removable, KIND_BOOL, 0),
    DISK (selected, KIND_BOOL, 0),
    DISK (iothread, KIND_STRING, BAK_NAME_MAX),
    DISK (depth, KIND_INT, 0),
    DISK (note, KIND_STRING, BAK_MESSAGE_MAX),
};

static char *file_of (const Guest *guest)
{
    return g_build_filename (guest->dir, "seen.json", NULL);
}

static JsonNode *load (const Guest *guest, char **ret_text, JsonObject **ret_object)
{
    g_autofree char *path = file_of (guest), *text = NULL;
    gsize length = 0;
    JsonNode *node = files_read (path, FILE_MAX, &text, &length, NULL)
                         ? json_read_object (text, length, ret_object, NULL)
                         : NULL;
    if (node && ret_text)
        *ret_text = g_steal_pointer (&text);
    return node;
}

void remember_guest (Guest *guest, const bak_disks_ret *disks, const char *xml)
{
    JsonObject *before = NULL;
    g_autofree char *old = NULL, *path = file_of (guest);
    g_autoptr (JsonNode) last = load (guest, &old, &before);
    JsonArray *list = json_array_new ();
    for (guint i = 0; i < disks->disks.disks_len; i++)
        json_array_add_object_element (
            list,
            fields_to_json (disk_fields, G_N_ELEMENTS (disk_fields), &disks->disks.disks_val[i]));
    g_autoptr (JsonNode) node =
        object_node (obj ("version", "i", (gint64) RECORD_VERSION, "xml", "s",
                          xml ? xml : json_get_string (before, "xml"), "disks", "a", list, NULL));
    g_autofree char *text = json_write (node);
    g_autoptr (GError) failure = NULL;
    if (g_strcmp0 (text, old) != 0 && !files_replace (path, text, -1, 0600, &failure))
        g_debug ("guest '%s': %s", guest->def->name, failure->message);
}

gboolean remember_disks (const Guest *guest, bak_disks_ret *ret)
{
    JsonObject *object = NULL;
    g_autoptr (JsonNode) node = load (guest, NULL, &object);
    JsonArray *list = NULL;
    guint count = 0;
    if (!node || !disks_array (object, &list, &count, NULL) || count == 0)
        return FALSE;
    ret->disks.disks_val = ret_array (count, sizeof (bak_disk));
    for (guint i = 0; i < count; i++) {
        ret->disks.disks_len = i + 1;
        JsonObject *disk = json_get_element (list, i);
        if (!disk
            || !fields_from_json (disk_fields, G_N_ELEMENTS (disk_fields), disk,
                                  &ret->disks.disks_val[i], NULL)) {
            call_clear_ret (CALL_ID_domain_disks, ret);
            return FALSE;
        }
    }
    return TRUE;
}

char *remember_xml (const Guest *guest)
{
    JsonObject *object = NULL;
    g_autoptr (JsonNode) node = load (guest, NULL, &object);
    return g_strdup (json_get_string (object, "xml"));
}
