/* Published points: read, listed, found by name, and what is said of them afterwards. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "repository/fields.h"
#include "repository/repository.h"
#include "util/files.h"

enum { VERIFICATIONS_MAX = 100, CHAIN_MAX = 1000 };

static const char pin_file[] = "pinned", note_file[] = "note.json",
                  verified_file[] = "verified.json";

void verification_free (Verification *verification)
{
    if (!verification)
        return;
    g_free (verification->how);
    g_free (verification->what);
    g_free (verification);
}

static void point_disk_free (gpointer data)
{
    BakPointDisk *disk = data;
    g_free (disk->path);
    g_free (disk);
}

Point *point_ref (Point *point)
{
    g_atomic_ref_count_inc (&point->refs);
    return point;
}

void point_unref (Point *point)
{
    if (!point || !g_atomic_ref_count_dec (&point->refs))
        return;
    repository_unref (point->repository);
    manifest_free (point->manifest);
    placement_free (point->storage);
    g_ptr_array_unref (point->disks);
    g_ptr_array_unref (point->verifications);
    g_free (point->dir);
    g_free (point->note);
    g_free (point->damage);
    g_free (point);
}

/* A document of the point's directory; NULL and no error when it may be absent and is. */
static char *read_document (const char *dir, const char *name, FieldNeed need, gsize *ret_length,
                            GError **error)
{
    g_autofree char *path = g_build_filename (dir, name, NULL);
    char *text = NULL;
    if (need == FIELD_OPTIONAL && g_access (path, F_OK) != 0 && errno == ENOENT)
        return NULL;
    return files_read (path, 0, &text, ret_length, error) ? text : NULL;
}

/* A document that was read and is none: the point is damaged, the disk that it lies on is not. */
static gboolean is_no_document (GError **error)
{
    if (error && *error && g_error_matches (*error, BAK_ERROR, BAK_ERROR_IO))
        (*error)->code = BAK_ERROR_INEXACT;
    return FALSE;
}

static gboolean load_documents (Point *point, GError **error)
{
    gsize length;
    g_autofree char *manifest =
        read_document (point->dir, "manifest.json", FIELD_REQUIRED, &length, error);
    if (!manifest)
        return FALSE;
    if (!(point->manifest = manifest_parse (manifest, length, error)))
        return is_no_document (error);
    g_autofree char *storage =
        read_document (point->dir, "storage.json", FIELD_REQUIRED, &length, error);
    if (!storage)
        return FALSE;
    point->storage = placement_parse (storage, length, error);
    return point->storage || is_no_document (error);
}

/* Each disk of the one document is in the other. */
static gboolean join_disks (Point *point, GError **error)
{
    if (point->manifest->disks->len != point->storage->disks->len)
        return error_set (error, BAK_ERROR_INEXACT,
                          _("manifest.json and storage.json do not name the same disks"));
    for (guint i = 0; i < point->manifest->disks->len; i++) {
        const ManifestDisk *disk = point->manifest->disks->pdata[i];
        const PlacementDisk *storage = placement_find_disk (point->storage, disk->target);
        if (!storage)
            return error_set (error, BAK_ERROR_INEXACT, _("disk '%s' is not in storage.json"),
                              disk->target);
        BakPointDisk *joined = g_new0 (BakPointDisk, 1);
        joined->manifest = disk;
        joined->storage = storage;
        joined->path = g_build_filename (point->dir, storage->file, NULL);
        g_ptr_array_add (point->disks, joined);
    }
    return TRUE;
}

static void take_verification (Fields *fields, JsonObject *object, gpointer data)
{
    g_autoptr (Verification) verification = g_new0 (Verification, 1);
    verification->when = fields_time (fields, object, "when", FIELD_REQUIRED);
    verification->good = fields_flag (fields, object, "good");
    verification->how = fields_text (fields, object, "how", FIELD_REQUIRED);
    verification->what = fields_text (fields, object, "what", FIELD_OPTIONAL);
    if (!fields->failed)
        g_ptr_array_add (data, g_steal_pointer (&verification));
}

/* What was said of it since: a damaged one of these does no harm to the point. */
static void load_remarks (Point *point)
{
    gsize length;
    g_autofree char *pin = g_build_filename (point->dir, pin_file, NULL);
    point->pinned = g_file_test (pin, G_FILE_TEST_EXISTS);
    JsonObject *object;
    g_autofree char *note = read_document (point->dir, note_file, FIELD_OPTIONAL, &length, NULL);
    g_autoptr (JsonNode) note_node = note ? json_read_object (note, length, &object, NULL) : NULL;
    if (note_node) {
        Fields fields = { note_file, NULL, FALSE };
        point->note = fields_text (&fields, object, "note", FIELD_OPTIONAL);
    }
    g_autofree char *verified =
        read_document (point->dir, verified_file, FIELD_OPTIONAL, &length, NULL);
    g_autoptr (JsonNode) node =
        verified ? json_read_object (verified, length, &object, NULL) : NULL;
    if (node) {
        Fields fields = { verified_file, NULL, FALSE };
        fields_each (&fields, object, "verifications", VERIFICATIONS_MAX, take_verification,
                     point->verifications);
    }
}

Point *point_new (Repository *repository, const char *guest_uuid, const char *id)
{
    Point *point = g_new0 (Point, 1);
    g_atomic_ref_count_init (&point->refs);
    point->repository = repository_ref (repository);
    point->dir = repository_point_dir (repository, guest_uuid, id);
    point->disks = g_ptr_array_new_with_free_func (point_disk_free);
    point->verifications = g_ptr_array_new_with_free_func ((GDestroyNotify) verification_free);
    return point;
}

Point *point_load (Repository *repository, const char *guest_uuid, const char *id, GError **error)
{
    g_autoptr (Point) point = point_new (repository, guest_uuid, id);
    if (!g_file_test (point->dir, G_FILE_TEST_IS_DIR)) {
        error_set (error, BAK_ERROR_NO_POINT, _("there is no point '%s'"), id);
        return NULL;
    }
    if (!load_documents (point, error) || !join_disks (point, error)) {
        error_note (error, _("point '%s'"), id);
        return NULL;
    }
    if (!g_str_equal (point->manifest->id, id)
        || !g_str_equal (point->manifest->guest_uuid, guest_uuid)) {
        error_set (error, BAK_ERROR_INEXACT,
                   _("point '%s': its documents are those of another: %s of guest %s"), id,
                   point->manifest->id, point->manifest->guest_uuid);
        return NULL;
    }
    load_remarks (point);
    return g_steal_pointer (&point);
}

/* lists */

static GPtrArray *names_in (const char *path, gboolean (*wanted) (const char *name), GError **error)
{
    g_autoptr (GError) why = NULL;
    g_autoptr (GDir) dir = g_dir_open (path, 0, &why);
    g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
    const char *name;
    if (!dir && !g_error_matches (why, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
        error_set (error, BAK_ERROR_IO, "%s", why->message);
        return NULL;
    }
    while (dir && (name = g_dir_read_name (dir)))
        if (wanted (name))
            g_ptr_array_add (names, g_strdup (name));
    return g_steal_pointer (&names);
}

GPtrArray *repository_list_guests (Repository *repository, GError **error)
{
    return names_in (repository->path, (gboolean (*) (const char *)) g_uuid_string_is_valid, error);
}

static int by_sequence (gconstpointer one, gconstpointer other)
{
    const Manifest *a = (*(Point *const *) one)->manifest, *b = (*(Point *const *) other)->manifest;
    return a->sequence < b->sequence ? -1 : a->sequence > b->sequence ? 1 : strcmp (a->id, b->id);
}

static gboolean is_point_dir (const char *guest_dir, const char *name)
{
    g_autofree char *path = g_build_filename (guest_dir, name, NULL);
    return g_file_test (path, G_FILE_TEST_IS_DIR);
}

GPtrArray *repository_list_ids (Repository *repository, const char *guest_uuid, GError **error)
{
    g_autofree char *dir = repository_guest_dir (repository, guest_uuid);
    GPtrArray *names = names_in (dir, fields_name_is_safe, error);
    for (guint i = names ? names->len : 0; i-- > 0;)
        if (!is_point_dir (dir, names->pdata[i]))
            g_ptr_array_remove_index (names, i);
    return names;
}

GPtrArray *repository_list_points (Repository *repository, const char *guest_uuid,
                                   GPtrArray *ret_damaged, GError **error)
{
    g_autoptr (GPtrArray) names = repository_list_ids (repository, guest_uuid, error);
    if (!names)
        return NULL;
    GPtrArray *points = g_ptr_array_new_with_free_func ((GDestroyNotify) point_unref);
    for (guint i = 0; i < names->len; i++) {
        g_autoptr (GError) why = NULL;
        Point *point = point_load (repository, guest_uuid, names->pdata[i], &why);
        if (point)
            g_ptr_array_add (points, point);
        else if (ret_damaged && !g_error_matches (why, BAK_ERROR, BAK_ERROR_NO_POINT))
            g_ptr_array_add (ret_damaged, text_sanitize (why->message, 0));
    }
    g_ptr_array_sort (points, by_sequence);
    return points;
}

/* what is said of a point afterwards */

static gboolean write_remark (Point *point, const char *name, JsonObject *object, GError **error)
{
    g_autofree char *path = g_build_filename (point->dir, name, NULL);
    g_autoptr (JsonNode) node = json_node_init_object (json_node_alloc (), object);
    json_object_unref (object);
    g_autofree char *text = json_write (node);
    return files_write_atomic (path, text, -1, 0600, error);
}

gboolean point_set_pinned (Point *point, gboolean pinned, GError **error)
{
    g_autofree char *path = g_build_filename (point->dir, pin_file, NULL);
    if (pinned)
        return files_write_atomic (path, "", 0, 0600, error);
    if (g_unlink (path) != 0 && errno != ENOENT)
        return error_set_errno (error, errno, _("cannot remove '%s'"), path);
    return files_fsync (point->dir, error);
}

gboolean point_set_note (Point *point, const char *note, GError **error)
{
    JsonObject *object = json_object_new ();
    if (note)
        json_object_set_string_member (object, "note", note);
    return write_remark (point, note_file, object, error);
}

static void add_verification (JsonArray *array, const Verification *verification)
{
    JsonObject *object = json_object_new ();
    g_autofree char *when = fields_format_time (verification->when);
    json_object_set_string_member (object, "when", when);
    json_object_set_boolean_member (object, "good", verification->good);
    json_object_set_string_member (object, "how", verification->how);
    if (verification->what)
        json_object_set_string_member (object, "what", verification->what);
    json_array_add_object_element (array, object);
}

gboolean point_add_verification (Point *point, const Verification *verification, GError **error)
{
    g_autoptr (Point) now =
        point_load (point->repository, point->manifest->guest_uuid, point->manifest->id, error);
    if (!now)
        return FALSE;
    JsonArray *array = json_array_new ();
    guint known = now->verifications->len;
    for (guint i = known >= VERIFICATIONS_MAX ? known - VERIFICATIONS_MAX + 1 : 0; i < known; i++)
        add_verification (array, now->verifications->pdata[i]);
    add_verification (array, verification);
    JsonObject *object = json_object_new ();
    json_object_set_array_member (object, "verifications", array);
    return write_remark (point, verified_file, object, error);
}

/* chains */

static void layer_free (gpointer data)
{
    PointLayer *layer = data;
    g_free (layer->path);
    g_free (layer->leaves);
    g_free (layer->point_id);
    g_free (layer);
}

StorageLayer storage_layer_of (const PointLayer *layer)
{
    return (StorageLayer){ layer->path, "qcow2", layer->secret };
}

static gboolean check_size (const char *path, guint64 size, GError **error)
{
    struct stat st;
    if (lstat (path, &st) != 0)
        return errno == ENOENT ? error_set (error, BAK_ERROR_INEXACT, _("'%s' is gone"), path)
                               : error_set_errno (error, errno, _("cannot look at '%s'"), path);
    return (S_ISREG (st.st_mode) && (guint64) st.st_size == size)
           || error_set (
               error, BAK_ERROR_INEXACT,
               _("'%s' is damaged: it has %" G_GINT64_FORMAT " bytes, not %" G_GUINT64_FORMAT),
               path, (gint64) st.st_size, size);
}

gboolean point_check_files (const Point *point, const PlacementDisk *disk, GError **error)
{
    g_autofree char *image = g_build_filename (point->dir, disk->file, NULL);
    g_autofree char *leaves = g_build_filename (point->dir, disk->leaves, NULL);
    return check_size (image, disk->file_size, error)
           && check_size (leaves, disk->leaves_size, error);
}

static gboolean add_layer (GPtrArray *layers, const Point *point, const PlacementDisk *disk,
                           GError **error)
{
    PointLayer *layer = g_new0 (PointLayer, 1);
    layer->path = g_build_filename (point->dir, disk->file, NULL);
    layer->leaves = g_build_filename (point->dir, disk->leaves, NULL);
    layer->file_size = disk->file_size;
    layer->secret = disk->encrypted ? repository_image_secret (point->repository) : NULL;
    layer->point_id = g_strdup (point->manifest->id);
    g_ptr_array_add (layers, layer);
    return point_check_files (point, disk, error);
}

GPtrArray *point_layers (Point *point, const char *target, GError **error)
{
    g_autoptr (GPtrArray) layers = g_ptr_array_new_with_free_func (layer_free);
    g_autoptr (Point) current = point_ref (point);
    while (current) {
        const PlacementDisk *disk = placement_find_disk (current->storage, target);
        if (!disk) {
            error_set (error, layers->len ? BAK_ERROR_INEXACT : BAK_ERROR_NO_DISK,
                       _("point '%s' has no disk '%s'"), current->manifest->id, target);
            return NULL;
        }
        if (layers->len >= CHAIN_MAX) {
            error_set (error, BAK_ERROR_INEXACT, _("point '%s', disk '%s': the chain has no end"),
                       point->manifest->id, target);
            return NULL;
        }
        if (!add_layer (layers, current, disk, error)) {
            error_note (error, _("point '%s', disk '%s'"), point->manifest->id, target);
            return NULL;
        }
        Point *below = NULL;
        if (disk->backing
            && !(below = point_load (point->repository, point->manifest->guest_uuid, disk->backing,
                                     error))) {
            error_note (error, _("point '%s', disk '%s' needs point '%s'"), point->manifest->id,
                        target, disk->backing);
            return NULL;
        }
        point_unref (current);
        current = below;
    }
    return g_steal_pointer (&layers);
}
