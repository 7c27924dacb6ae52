/* merge.json: what replaces what, once everything that can be made beforehand is there. */
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "repository/fields.h"
#include "repository/merge-parts.h"
#include "util/files.h"
#include "util/json.h"

enum { RECORD_DISKS_MAX = 4096 };

static void in_place_free (gpointer data)
{
    MergeInPlace *disk = data;
    g_free (disk->child);
    g_free (disk->target);
    g_free (disk->file);
    g_free (disk->leaves);
    g_free (disk->child_file);
    g_free (disk);
}

void merge_record_free (MergeRecord *record)
{
    if (!record)
        return;
    g_free (record->goes);
    g_clear_pointer (&record->children, g_ptr_array_unref);
    g_clear_pointer (&record->in_place, g_ptr_array_unref);
    g_free (record);
}

MergeRecord *merge_record_new (const char *goes)
{
    MergeRecord *record = g_new0 (MergeRecord, 1);
    record->goes = g_strdup (goes);
    record->children = g_ptr_array_new_with_free_func (g_free);
    record->in_place = g_ptr_array_new_with_free_func (in_place_free);
    return record;
}

char *merge_record_path (Repository *repository, const char *guest_uuid)
{
    g_autofree char *dir = repository_guest_dir (repository, guest_uuid);
    return g_build_filename (dir, MERGE_RECORD_FILE, NULL);
}

gboolean merge_record_write (const char *path, const MergeRecord *record, GError **error)
{
    JsonObject *object = json_object_new ();
    JsonArray *children = json_array_new (), *in_place = json_array_new ();
    json_object_set_string_member (object, "goes", record->goes);
    for (guint i = 0; i < record->children->len; i++)
        json_array_add_string_element (children, record->children->pdata[i]);
    for (guint i = 0; i < record->in_place->len; i++) {
        const MergeInPlace *disk = record->in_place->pdata[i];
        JsonObject *row = json_object_new ();
        json_object_set_string_member (row, "child", disk->child);
        json_object_set_string_member (row, "target", disk->target);
        json_object_set_string_member (row, "file", disk->file);
        json_object_set_string_member (row, "leaves", disk->leaves);
        json_object_set_string_member (row, "child_file", disk->child_file);
        json_array_add_object_element (in_place, row);
    }
    json_object_set_array_member (object, "children", children);
    json_object_set_array_member (object, "in_place", in_place);
    g_autoptr (JsonNode) node = json_node_init_object (json_node_alloc (), object);
    json_object_unref (object);
    g_autofree char *text = json_write (node);
    return files_write_atomic (path, text, -1, 0600, error);
}

static void take_in_place (Fields *fields, JsonObject *object, gpointer data)
{
    MergeInPlace *disk = g_new0 (MergeInPlace, 1);
    disk->child = fields_name (fields, object, "child", FIELD_REQUIRED);
    disk->target = fields_text (fields, object, "target", FIELD_REQUIRED);
    disk->file = fields_name (fields, object, "file", FIELD_REQUIRED);
    disk->leaves = fields_name (fields, object, "leaves", FIELD_REQUIRED);
    disk->child_file = fields_name (fields, object, "child_file", FIELD_REQUIRED);
    g_ptr_array_add (data, disk);
}

MergeRecord *merge_record_read (const char *path, GError **error)
{
    g_autofree char *text = NULL;
    gsize length;
    JsonObject *object;
    if (!files_read (path, 0, &text, &length, error))
        return NULL;
    g_autoptr (JsonNode) node = json_read_object (text, length, &object, error);
    if (!node) {
        error_note (error, MERGE_RECORD_FILE);
        return NULL;
    }
    Fields fields = { MERGE_RECORD_FILE, error, FALSE };
    g_autofree char *goes = fields_name (&fields, object, "goes", FIELD_REQUIRED);
    g_autoptr (MergeRecord) record = merge_record_new (goes);
    g_clear_pointer (&record->children, g_ptr_array_unref);
    record->children = fields_texts (&fields, object, "children", RECORD_DISKS_MAX);
    fields_each (&fields, object, "in_place", RECORD_DISKS_MAX, take_in_place, record->in_place);
    for (guint i = 0; !fields.failed && i < record->children->len; i++)
        if (!fields_name_is_safe (record->children->pdata[i]))
            fields_fail (&fields, "children", _("is not the id of a point"));
    return fields.failed ? NULL : g_steal_pointer (&record);
}

gboolean merge_is_pending (Repository *repository, const char *guest_uuid)
{
    g_autofree char *path = merge_record_path (repository, guest_uuid);
    return g_access (path, F_OK) == 0;
}
