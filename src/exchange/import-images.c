/* Plain images: one chain of a file, or the disks of a folder. What an image names as its backing
 * file is followed only within the folder that the image is in. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <glib/gi18n-lib.h>
#include "exchange/import.h"
#include "exchange/qcow2.h"
#include "util/files.h"

enum { DEPTH_MAX = 200, FILE_MAX = 64 * 1024 * 1024 };

static gboolean is_raw_name (const char *path)
{
    return g_str_has_suffix (path, ".raw") || g_str_has_suffix (path, ".img");
}

static char *real_path (const char *path, GError **error)
{
    char *found = realpath (path, NULL), *copy = g_strdup (found);
    if (!found)
        error_set_errno (error, errno, "'%s'", path);
    free (found);
    return copy;
}

/* Of the image in this folder; NULL: *error. */
static char *find_backing (const char *folder, const char *image, const char *name, GError **error)
{
    g_autofree char *beside = g_path_get_dirname (image), *prefix = g_strconcat (folder, "/", NULL);
    g_autofree char *path = g_canonicalize_filename (name, beside);
    g_autofree char *real = real_path (path, error);
    struct stat st;
    if (!real) {
        error_note (error, _("'%s' stands on a file that is not there"), image);
        return NULL;
    }
    if (g_str_has_prefix (real, prefix) && stat (real, &st) == 0 && S_ISREG (st.st_mode))
        return g_steal_pointer (&real);
    g_autofree char *shown = text_sanitize (name, 256);
    error_set (error, BAK_ERROR_INVALID_ARGUMENT,
               _("'%s' stands on '%s', which is no file in the same folder: copy it there and set "
                  "the name with qemu-img rebase -u"),
               image, shown);
    return NULL;
}

static gboolean raw_size (const char *path, guint64 *ret_size, GError **error)
{
    struct stat st;
    if (stat (path, &st) != 0)
        return error_set_errno (error, errno, _("cannot look at '%s'"), path);
    *ret_size = st.st_size;
    return (st.st_size > 0 && st.st_size % 512 == 0)
           || error_set (error, BAK_ERROR_INEXACT,
                         _("'%s' has %" G_GINT64_FORMAT
                            " bytes, which is no size of a disk: is it cut off?"),
                         path, (gint64) st.st_size);
}

typedef struct {
    char *path;
    const char *format;
    guint64 size;
    char *below;        /* path; NULL: none */
    char *below_format; /* */
} Layer;

static void layer_clear (Layer *layer)
{
    g_free (layer->path);
    g_free (layer->below);
    g_free (layer->below_format);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Layer, layer_clear)

/* format NULL: by what it begins with, else by its name; FALSE and no error: neither. */
static gboolean read_layer (const char *folder, const char *path, const char *format, Layer *layer,
                            GError **error)
{
    g_autoptr (GError) why = NULL;
    g_auto (Qcow2) image = { 0 };
    *layer = (Layer){ .path = g_strdup (path) };
    if (g_strcmp0 (format, "raw") == 0 || (!format && is_raw_name (path))) {
        layer->format = "raw";
        return raw_size (path, &layer->size, error);
    }
    if (format && !g_str_equal (format, "qcow2"))
        return error_set (error, BAK_ERROR_NOT_SUPPORTED,
                          _("'%s' is of format %s: raw and qcow2 are imported"), path, format);
    if (!qcow2_read (path, &image, &why)) {
        if (!why && format)
            error_set (&why, BAK_ERROR_INEXACT, _("'%s' is no qcow2 image"), path);
        if (why)
            g_propagate_error (error, g_steal_pointer (&why));
        return FALSE;
    }
    layer->format = "qcow2";
    layer->size = image.size;
    if (!image.backing)
        return TRUE;
    if (!image.backing_format)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT,
                          _("'%s' does not say of which format its backing file is: set it with "
                             "qemu-img rebase -u -F"),
                          path);
    layer->below_format = g_steal_pointer (&image.backing_format);
    layer->below = find_backing (folder, path, image.backing, error);
    return layer->below != NULL;
}

/* The layers of the image, itself first: Layer. */
static GArray *read_chain (const char *folder, const char *path, GError **error)
{
    g_autoptr (GArray) chain = g_array_new (FALSE, TRUE, sizeof (Layer));
    g_autofree char *next = g_strdup (path), *format = NULL;
    g_array_set_clear_func (chain, (GDestroyNotify) layer_clear);
    while (next) {
        Layer layer;
        gboolean ok = read_layer (folder, next, format, &layer, error);
        g_array_append_val (chain, layer);
        if (!ok)
            return NULL;
        if (chain->len > DEPTH_MAX) {
            error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("'%s' stands on more than %d files"),
                       path, DEPTH_MAX);
            return NULL;
        }
        g_free (next);
        g_free (format);
        next = g_strdup (layer.below);
        format = g_strdup (layer.below_format);
    }
    return g_steal_pointer (&chain);
}

static gboolean add_chain (ImportPoint *point, const GArray *chain, GError **error)
{
    const Layer *top = &g_array_index (chain, Layer, 0);
    g_autofree char *base = g_path_get_basename (top->path);
    g_autofree char *target = g_strndup (base, strcspn (base, "."));
    struct stat st;
    ImportDisk *disk = import_point_add_disk (point, target, top->size, error);
    for (guint i = 0; disk && i < chain->len; i++) {
        const Layer *layer = &g_array_index (chain, Layer, i);
        import_disk_add_layer (disk, layer->path, layer->format);
    }
    if (disk && stat (top->path, &st) == 0)
        point->said->instant = MAX (point->said->instant, st.st_mtime * G_USEC_PER_SEC);
    return disk != NULL;
}

/* A folder */

static gboolean add_file (ImportPoint *point, const char *folder, const char *name, GError **error)
{
    g_autofree char *path = g_build_filename (folder, name, NULL), *text = NULL;
    gsize length;
    if (!g_file_test (path, G_FILE_TEST_IS_REGULAR))
        return TRUE;
    if (!files_read (path, FILE_MAX, &text, &length, error))
        return FALSE;
    import_point_add_file (point, name, text, length);
    return TRUE;
}

/* What an export or a restore of ours put there; *ret_manifest NULL: nothing. */
static gboolean read_manifest (const char *folder, Manifest **ret_manifest, GError **error)
{
    g_autofree char *path = g_build_filename (folder, "manifest.json", NULL), *text = NULL;
    gsize length;
    *ret_manifest = NULL;
    if (!g_file_test (path, G_FILE_TEST_IS_REGULAR))
        return TRUE;
    return files_read (path, FILE_MAX, &text, &length, error)
           && (*ret_manifest = manifest_parse (text, length, error)) != NULL;
}

static void take_manifest (ImportPoint *point, const Manifest *manifest)
{
    Manifest *said = point->said;
    said->instant = manifest->instant;
    said->timezone = g_strdup (manifest->timezone);
    said->consistency = g_strdup (manifest->consistency);
    said->frozen_ms = manifest->frozen_ms;
    said->host = g_strdup (manifest->host);
    said->qemu = g_strdup (manifest->qemu);
    for (guint i = 0; i < point->disks->len; i++) {
        ImportDisk *disk = point->disks->pdata[i];
        const ManifestDisk *row = manifest_find_disk (manifest, disk->target);
        disk->root = row && !manifest->encrypted ? g_strdup (row->root) : NULL;
    }
}

static gboolean choose_guest (Import *import, const ImportPoint *point, const Manifest *manifest,
                              GError **error)
{
    g_autofree char *name = NULL, *uuid = NULL;
    if (manifest)
        return import_choose_guest (import, manifest->guest_name, manifest->guest_uuid, error);
    for (guint i = 0; i < point->files->len; i++) {
        const ImportFile *file = point->files->pdata[i];
        if (g_str_equal (file->name, "domain.xml"))
            import_read_definition (file->data, file->length, &name, &uuid);
    }
    return import_choose_guest (import, name, uuid, error);
}

static int by_name (gconstpointer one, gconstpointer other)
{
    return strcmp (*(const char *const *) one, *(const char *const *) other);
}

/* Paths of all images. */
static GPtrArray *list_images (const char *folder, GError **error)
{
    g_autoptr (GPtrArray) images = g_ptr_array_new_with_free_func (g_free);
    g_autoptr (GDir) dir = g_dir_open (folder, 0, error);
    const char *name;
    if (!dir)
        return NULL;
    while ((name = g_dir_read_name (dir))) {
        char *path = g_build_filename (folder, name, NULL);
        if ((is_raw_name (name) || g_str_has_suffix (name, ".qcow2"))
            && g_file_test (path, G_FILE_TEST_IS_REGULAR))
            g_ptr_array_add (images, path);
        else
            g_free (path);
    }
    g_ptr_array_sort (images, by_name);
    return g_steal_pointer (&images);
}

static gboolean is_below (const GPtrArray *chains, const char *path)
{
    for (guint i = 0; i < chains->len; i++) {
        const GArray *chain = chains->pdata[i];
        for (guint j = 1; j < chain->len; j++)
            if (files_same (g_array_index (chain, Layer, j).path, path))
                return TRUE;
    }
    return FALSE;
}

static gboolean add_folder (ImportPoint *point, const char *folder, GError **error)
{
    static const char *const files[] = { "domain.xml", "nvram", "qemu.cmdline" };
    g_autoptr (GPtrArray) images = list_images (folder, error);
    g_autoptr (GPtrArray) chains = g_ptr_array_new_with_free_func ((GDestroyNotify) g_array_unref);
    for (guint i = 0; images && i < images->len; i++) {
        GArray *chain = read_chain (folder, images->pdata[i], error);
        if (!chain)
            return FALSE;
        g_ptr_array_add (chains, chain);
    }
    for (guint i = 0; i < chains->len; i++) {
        const GArray *chain = chains->pdata[i];
        if (!is_below (chains, g_array_index (chain, Layer, 0).path)
            && !add_chain (point, chain, error))
            return FALSE;
    }
    for (guint i = 0; images && i < G_N_ELEMENTS (files); i++)
        if (!add_file (point, folder, files[i], error))
            return FALSE;
    return images != NULL;
}

static gboolean import_folder (Import *import, GError **error)
{
    g_autofree char *folder = real_path (import->path, error);
    g_autoptr (ImportPoint) point = import_point_new ();
    g_autoptr (Manifest) manifest = NULL;
    if (!folder || !add_folder (point, folder, error) || !read_manifest (folder, &manifest, error))
        return FALSE;
    if (manifest)
        take_manifest (point, manifest);
    return choose_guest (import, point, manifest, error) && import_publish (import, point, error);
}

static gboolean import_file (Import *import, GError **error)
{
    g_autofree char *path = real_path (import->path, error);
    g_autofree char *folder = path ? g_path_get_dirname (path) : NULL;
    g_autoptr (ImportPoint) point = import_point_new ();
    g_autoptr (GArray) chain = path ? read_chain (folder, path, error) : NULL;
    return chain && add_chain (point, chain, error)
           && import_choose_guest (import, NULL, NULL, error)
           && import_publish (import, point, error);
}

gboolean import_images (Import *import, gboolean is_folder, GError **error)
{
    return is_folder ? import_folder (import, error) : import_file (import, error);
}
