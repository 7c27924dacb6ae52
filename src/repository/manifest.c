#include <string.h>
#include <glib/gi18n-lib.h>
#include "repository/fields.h"
#include "repository/manifest.h"
#include "repository/repository.h"

enum { DISKS_MAX = 256, FILES_MAX = 256, WARNINGS_MAX = 1024 };

/* where the document's own hash stands while that is computed */
static const char no_hash[] = "0000000000000000000000000000000000000000000000000000000000000000";

static const char encryption_feature[] = "encryption";

/* life */

ManifestDisk *manifest_disk_new (const char *target)
{
    ManifestDisk *disk = g_new0 (ManifestDisk, 1);
    disk->target = g_strdup (target);
    disk->leaf = REPOSITORY_LEAF_SIZE;
    return disk;
}

void manifest_disk_free (ManifestDisk *disk)
{
    if (!disk)
        return;
    g_free (disk->target);
    g_free (disk->kind);
    g_free (disk->reason);
    g_free (disk->base);
    g_free (disk->root);
    g_free (disk);
}

void manifest_file_free (ManifestFile *file)
{
    if (!file)
        return;
    g_free (file->name);
    g_free (file->sha256);
    g_free (file);
}

Manifest *manifest_new (void)
{
    Manifest *manifest = g_new0 (Manifest, 1);
    manifest->disks = g_ptr_array_new_with_free_func ((GDestroyNotify) manifest_disk_free);
    manifest->files = g_ptr_array_new_with_free_func ((GDestroyNotify) manifest_file_free);
    manifest->warnings = g_ptr_array_new_with_free_func (g_free);
    return manifest;
}

void manifest_free (Manifest *manifest)
{
    if (!manifest)
        return;
    g_free (manifest->id);
    g_free (manifest->origin);
    g_free (manifest->guest_name);
    g_free (manifest->guest_uuid);
    g_free (manifest->timezone);
    g_free (manifest->consistency);
    g_free (manifest->host);
    g_free (manifest->qemu);
    g_free (manifest->checkpoint);
    g_ptr_array_unref (manifest->disks);
    g_ptr_array_unref (manifest->files);
    g_ptr_array_unref (manifest->warnings);
    g_free (manifest);
}

PlacementDisk *placement_disk_new (const char *target)
{
    PlacementDisk *disk = g_new0 (PlacementDisk, 1);
    disk->target = g_strdup (target);
    return disk;
}

void placement_disk_free (PlacementDisk *disk)
{
    if (!disk)
        return;
    g_free (disk->target);
    g_free (disk->file);
    g_free (disk->leaves);
    g_free (disk->backing);
    g_free (disk->compression);
    g_free (disk);
}

Placement *placement_new (void)
{
    Placement *storage = g_new0 (Placement, 1);
    storage->disks = g_ptr_array_new_with_free_func ((GDestroyNotify) placement_disk_free);
    return storage;
}

void placement_free (Placement *storage)
{
    if (!storage)
        return;
    g_free (storage->parent);
    g_ptr_array_unref (storage->disks);
    g_free (storage);
}

const ManifestDisk *manifest_find_disk (const Manifest *manifest, const char *target)
{
    for (guint i = 0; i < manifest->disks->len; i++) {
        const ManifestDisk *disk = manifest->disks->pdata[i];
        if (g_str_equal (disk->target, target))
            return disk;
    }
    return NULL;
}

const PlacementDisk *placement_find_disk (const Placement *storage, const char *target)
{
    for (guint i = 0; i < storage->disks->len; i++) {
        const PlacementDisk *disk = storage->disks->pdata[i];
        if (g_str_equal (disk->target, target))
            return disk;
    }
    return NULL;
}

/* writing */

static void set_text (JsonObject *object, const char *key, const char *text)
{
    if (text)
        json_object_set_string_member (object, key, text);
    else
        json_object_set_null_member (object, key);
}

static void set_time (JsonObject *object, const char *key, gint64 time)
{
    g_autofree char *text = fields_format_time (time);
    set_text (object, key, text);
}

static void set_texts (JsonObject *object, const char *key, const GPtrArray *texts)
{
    JsonArray *array = json_array_new ();
    for (guint i = 0; i < texts->len; i++)
        json_array_add_string_element (array, texts->pdata[i]);
    json_object_set_array_member (object, key, array);
}

static JsonObject *disk_to_json (const ManifestDisk *disk)
{
    JsonObject *object = json_object_new ();
    set_text (object, "target", disk->target);
    json_object_set_int_member (object, "size", disk->size);
    set_text (object, "kind", disk->kind);
    set_text (object, "reason", disk->reason);
    set_text (object, "base", disk->base);
    json_object_set_int_member (object, "read", disk->read);
    json_object_set_int_member (object, "stored", disk->stored);
    json_object_set_int_member (object, "reused", disk->reused);
    json_object_set_int_member (object, "zeroed", disk->zeroed);
    json_object_set_int_member (object, "leaf", disk->leaf);
    set_text (object, "root", disk->root);
    json_object_set_int_member (object, "sampled", disk->sampled);
    json_object_set_boolean_member (object, "tracking_lied", disk->lied);
    return object;
}

static JsonObject *file_to_json (const ManifestFile *file)
{
    JsonObject *object = json_object_new ();
    set_text (object, "name", file->name);
    json_object_set_int_member (object, "size", file->size);
    set_text (object, "sha256", file->sha256);
    return object;
}

static JsonArray *features_of (const Manifest *manifest)
{
    JsonArray *features = json_array_new ();
    if (manifest->encrypted)
        json_array_add_string_element (features, encryption_feature);
    return features;
}

static JsonObject *manifest_to_json (const Manifest *manifest)
{
    JsonObject *object = json_object_new (), *guest = json_object_new ();
    JsonArray *disks = json_array_new (), *files = json_array_new ();
    for (guint i = 0; i < manifest->disks->len; i++)
        json_array_add_object_element (disks, disk_to_json (manifest->disks->pdata[i]));
    for (guint i = 0; i < manifest->files->len; i++)
        json_array_add_object_element (files, file_to_json (manifest->files->pdata[i]));
    set_text (guest, "name", manifest->guest_name);
    set_text (guest, "uuid", manifest->guest_uuid);
    json_object_set_int_member (object, "format", REPOSITORY_FORMAT);
    json_object_set_array_member (object, "features", features_of (manifest));
    set_text (object, "id", manifest->id);
    json_object_set_int_member (object, "sequence", manifest->sequence);
    json_object_set_object_member (object, "guest", guest);
    set_time (object, "instant", manifest->instant);
    set_text (object, "timezone", manifest->timezone);
    set_text (object, "consistency", manifest->consistency);
    json_object_set_int_member (object, "frozen_ms", manifest->frozen_ms);
    set_text (object, "host", manifest->host);
    set_text (object, "qemu", manifest->qemu);
    set_text (object, "checkpoint", manifest->checkpoint);
    json_object_set_array_member (object, "disks", disks);
    json_object_set_array_member (object, "files", files);
    set_texts (object, "warnings", manifest->warnings);
    if (manifest->origin)
        set_text (object, "origin", manifest->origin);
    set_text (object, "self", no_hash);
    return object;
}

static char *write_object (JsonObject *object)
{
    g_autoptr (JsonNode) node = json_node_init_object (json_node_alloc (), object);
    json_object_unref (object);
    return json_write (node);
}

/* The place of the hash in the text: it is the last member. */
static char *find_self (char *text, const char *hash)
{
    g_autofree char *quoted = g_strdup_printf ("\"%s\"", hash);
    char *found = g_strrstr (text, quoted);
    return found ? found + 1 : NULL;
}

char *manifest_format (const Manifest *manifest)
{
    char *text = write_object (manifest_to_json (manifest));
    g_autofree char *hash = g_compute_checksum_for_string (G_CHECKSUM_SHA256, text, -1);
    memcpy (find_self (text, no_hash), hash, sizeof no_hash - 1);
    return text;
}

char *manifest_self (const Manifest *manifest)
{
    g_autofree char *text = write_object (manifest_to_json (manifest));
    return g_compute_checksum_for_string (G_CHECKSUM_SHA256, text, -1);
}

char *placement_format (const Placement *storage)
{
    JsonObject *object = json_object_new ();
    JsonArray *disks = json_array_new ();
    set_text (object, "parent", storage->parent);
    for (guint i = 0; i < storage->disks->len; i++) {
        const PlacementDisk *disk = storage->disks->pdata[i];
        JsonObject *element = json_object_new ();
        set_text (element, "target", disk->target);
        set_text (element, "file", disk->file);
        json_object_set_int_member (element, "file_size", disk->file_size);
        set_text (element, "leaves", disk->leaves);
        json_object_set_int_member (element, "leaves_size", disk->leaves_size);
        set_text (element, "backing", disk->backing);
        set_text (element, "compression", disk->compression);
        set_text (element, "encryption", disk->encrypted ? "luks" : "none");
        json_array_add_object_element (disks, element);
    }
    json_object_set_array_member (object, "disks", disks);
    return write_object (object);
}

/* reading */

static void take_disk (Fields *fields, JsonObject *object, gpointer data)
{
    Manifest *manifest = data;
    g_autofree char *target = fields_text (fields, object, "target", FIELD_REQUIRED);
    g_autoptr (ManifestDisk) disk = manifest_disk_new (target);
    disk->size = fields_number (fields, object, "size", G_MAXINT64, FIELD_REQUIRED);
    disk->kind = fields_text (fields, object, "kind", FIELD_REQUIRED);
    disk->reason = fields_text (fields, object, "reason", FIELD_OPTIONAL);
    disk->base = fields_name (fields, object, "base", FIELD_OPTIONAL);
    disk->read = fields_number (fields, object, "read", G_MAXINT64, FIELD_OPTIONAL);
    disk->stored = fields_number (fields, object, "stored", G_MAXINT64, FIELD_OPTIONAL);
    disk->reused = fields_number (fields, object, "reused", G_MAXINT64, FIELD_OPTIONAL);
    disk->zeroed = fields_number (fields, object, "zeroed", G_MAXINT64, FIELD_OPTIONAL);
    disk->leaf = fields_number (fields, object, "leaf", G_MAXUINT, FIELD_REQUIRED);
    disk->root = fields_hash (fields, object, "root", FIELD_REQUIRED);
    disk->sampled = fields_number (fields, object, "sampled", G_MAXUINT, FIELD_OPTIONAL);
    disk->lied = fields_flag (fields, object, "tracking_lied");
    if (!fields->failed && manifest_find_disk (manifest, target))
        fields_fail (fields, "target", _("names a disk twice"));
    if (!fields->failed && disk->leaf != REPOSITORY_LEAF_SIZE)
        fields_fail (fields, "leaf", _("is a size that this version does not know"));
    if (!fields->failed)
        g_ptr_array_add (manifest->disks, g_steal_pointer (&disk));
}

static void take_file (Fields *fields, JsonObject *object, gpointer data)
{
    g_autoptr (ManifestFile) file = g_new0 (ManifestFile, 1);
    file->name = fields_name (fields, object, "name", FIELD_REQUIRED);
    file->size = fields_number (fields, object, "size", G_MAXINT64, FIELD_REQUIRED);
    file->sha256 = fields_hash (fields, object, "sha256", FIELD_REQUIRED);
    if (!fields->failed)
        g_ptr_array_add (((Manifest *) data)->files, g_steal_pointer (&file));
}

/* What the document says of itself: a format and features that this version knows, and a hash that
 * is right. */
static void check_self (Fields *fields, JsonObject *object, const char *text, gsize length,
                        Manifest *manifest)
{
    if (fields_number (fields, object, "format", G_MAXINT, FIELD_REQUIRED) != REPOSITORY_FORMAT)
        fields_fail (fields, "format", _("is none that this version knows"));
    g_autoptr (GPtrArray) features = fields_texts (fields, object, "features", WARNINGS_MAX);
    for (guint i = 0; i < features->len; i++)
        if (g_str_equal (features->pdata[i], encryption_feature))
            manifest->encrypted = TRUE;
        else
            fields_fail (fields, "features", _("has one that this version does not know"));
    g_autofree char *self = fields_hash (fields, object, "self", FIELD_REQUIRED);
    if (fields->failed)
        return;
    g_autofree char *blank = g_strndup (text, length);
    char *place = find_self (blank, self);
    if (place)
        memcpy (place, no_hash, sizeof no_hash - 1);
    g_autofree char *hash = g_compute_checksum_for_string (G_CHECKSUM_SHA256, blank, -1);
    if (!place || !g_str_equal (hash, self))
        fields_fail (fields, "self", _("is not the hash of the document: it was changed"));
}

Manifest *manifest_parse (const char *text, gsize length, GError **error)
{
    JsonObject *object;
    g_autoptr (JsonNode) node = json_read_object (text, length, &object, error);
    if (!node)
        return error_note (error, "manifest.json"), NULL;
    Fields fields = { "manifest.json", error, FALSE };
    g_autoptr (Manifest) manifest = manifest_new ();
    check_self (&fields, object, text, length, manifest);
    manifest->origin = fields_hash (&fields, object, "origin", FIELD_OPTIONAL);
    manifest->id = fields_name (&fields, object, "id", FIELD_REQUIRED);
    manifest->sequence = fields_number (&fields, object, "sequence", G_MAXINT64, FIELD_REQUIRED);
    JsonObject *guest = fields_object (&fields, object, "guest", FIELD_REQUIRED);
    manifest->guest_name = fields_text (&fields, guest, "name", FIELD_REQUIRED);
    manifest->guest_uuid = fields_name (&fields, guest, "uuid", FIELD_REQUIRED);
    manifest->instant = fields_time (&fields, object, "instant", FIELD_REQUIRED);
    manifest->timezone = fields_text (&fields, object, "timezone", FIELD_OPTIONAL);
    manifest->consistency = fields_text (&fields, object, "consistency", FIELD_OPTIONAL);
    manifest->frozen_ms = fields_number (&fields, object, "frozen_ms", G_MAXINT64, FIELD_OPTIONAL);
    manifest->host = fields_text (&fields, object, "host", FIELD_OPTIONAL);
    manifest->qemu = fields_text (&fields, object, "qemu", FIELD_OPTIONAL);
    manifest->checkpoint = fields_text (&fields, object, "checkpoint", FIELD_OPTIONAL);
    fields_each (&fields, object, "disks", DISKS_MAX, take_disk, manifest);
    fields_each (&fields, object, "files", FILES_MAX, take_file, manifest);
    g_ptr_array_unref (manifest->warnings);
    manifest->warnings = fields_texts (&fields, object, "warnings", WARNINGS_MAX);
    return fields.failed ? NULL : g_steal_pointer (&manifest);
}

static void take_storage_disk (Fields *fields, JsonObject *object, gpointer data)
{
    Placement *storage = data;
    g_autofree char *target = fields_text (fields, object, "target", FIELD_REQUIRED);
    g_autofree char *encryption = fields_text (fields, object, "encryption", FIELD_OPTIONAL);
    g_autoptr (PlacementDisk) disk = placement_disk_new (target);
    disk->file = fields_name (fields, object, "file", FIELD_REQUIRED);
    disk->file_size = fields_number (fields, object, "file_size", G_MAXINT64, FIELD_REQUIRED);
    disk->leaves = fields_name (fields, object, "leaves", FIELD_REQUIRED);
    disk->leaves_size = fields_number (fields, object, "leaves_size", G_MAXINT64, FIELD_REQUIRED);
    disk->backing = fields_name (fields, object, "backing", FIELD_OPTIONAL);
    disk->compression = fields_text (fields, object, "compression", FIELD_OPTIONAL);
    disk->encrypted = g_strcmp0 (encryption, "luks") == 0;
    if (!fields->failed && encryption && !disk->encrypted && !g_str_equal (encryption, "none"))
        fields_fail (fields, "encryption", _("is none that this version knows"));
    if (!fields->failed && placement_find_disk (storage, target))
        fields_fail (fields, "target", _("names a disk twice"));
    if (!fields->failed)
        g_ptr_array_add (storage->disks, g_steal_pointer (&disk));
}

Placement *placement_parse (const char *text, gsize length, GError **error)
{
    JsonObject *object;
    g_autoptr (JsonNode) node = json_read_object (text, length, &object, error);
    if (!node)
        return error_note (error, "storage.json"), NULL;
    Fields fields = { "storage.json", error, FALSE };
    g_autoptr (Placement) storage = placement_new ();
    storage->parent = fields_name (&fields, object, "parent", FIELD_OPTIONAL);
    fields_each (&fields, object, "disks", DISKS_MAX, take_storage_disk, storage);
    return fields.failed ? NULL : g_steal_pointer (&storage);
}
