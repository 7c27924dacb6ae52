#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "exchange/import.h"
#include "repository/fields.h"
#include "repository/disk-copy.h"
#include "repository/guest.h"
#include "repository/publish.h"
#include "repository/shorten.h"
#include "repository/stored-file.h"
#include "util/files.h"

/* What a source brings */

static void disk_free (gpointer data)
{
    ImportDisk *disk = data;
    g_free (disk->target);
    g_free (disk->layers);
    g_free (disk->root);
    g_ptr_array_unref (disk->names);
    g_free (disk);
}

static void file_free (gpointer data)
{
    ImportFile *file = data;
    g_free (file->name);
    g_free (file->data);
    g_free (file);
}

ImportPoint *import_point_new (void)
{
    ImportPoint *point = g_new0 (ImportPoint, 1);
    point->said = manifest_new ();
    point->disks = g_ptr_array_new_with_free_func (disk_free);
    point->files = g_ptr_array_new_with_free_func (file_free);
    return point;
}

void import_point_free (ImportPoint *point)
{
    if (!point)
        return;
    manifest_free (point->said);
    g_ptr_array_unref (point->disks);
    g_ptr_array_unref (point->files);
    g_free (point);
}

/* The names that a point has by itself. */
static gboolean is_own_name (const char *name)
{
    static const char *const own[] = { "README",   "manifest.json", "storage.json",
                                       "pin.json", "note.json",     NULL };
    return g_strv_contains (own, name) || g_str_has_suffix (name, ".qcow2")
           || g_str_has_suffix (name, ".leaves") || g_str_has_suffix (name, ".json");
}

void import_point_add_file (ImportPoint *point, const char *name, const char *data, gsize length)
{
    if (!fields_name_is_safe (name) || is_own_name (name))
        return;
    for (guint i = 0; i < point->files->len; i++)
        if (g_str_equal (((ImportFile *) point->files->pdata[i])->name, name))
            return;
    ImportFile *file = g_new0 (ImportFile, 1);
    file->name = g_strdup (name);
    file->data = g_memdup2 (data, length);
    file->length = length;
    g_ptr_array_add (point->files, file);
}

ImportDisk *import_point_add_disk (ImportPoint *point, const char *target, guint64 size,
                                   GError **error)
{
    g_autofree char *shown = text_sanitize (target, 128);
    gboolean there = FALSE;
    for (guint i = 0; i < point->disks->len; i++)
        there = there || g_str_equal (((ImportDisk *) point->disks->pdata[i])->target, target);
    if (!fields_name_is_safe (target) || there) {
        error_set (error, BAK_ERROR_INEXACT,
                   there ? _("two disks are called '%s'")
                         : _("'%s' cannot be the name of a disk"),
                   shown);
        return NULL;
    }
    ImportDisk *disk = g_new0 (ImportDisk, 1);
    disk->target = g_strdup (target);
    disk->size = size;
    disk->names = g_ptr_array_new_with_free_func (g_free);
    g_ptr_array_add (point->disks, disk);
    return disk;
}

void import_disk_add_layer (ImportDisk *disk, const char *file, const char *format)
{
    char *name = g_strdup (file);
    g_ptr_array_add (disk->names, name);
    disk->layers = g_renew (StorageLayer, disk->layers, disk->n_layers + 1);
    disk->layers[disk->n_layers++] = (StorageLayer){ name, format };
}

/* Scratch */

int import_scratch (Import *import, guint64 size, GError **error)
{
    const char *dir = import->repository->path;
    g_autofree char *name = g_build_filename (dir, ".import-XXXXXX", NULL);
    int fd = open (dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0 && (fd = g_mkstemp_full (name, O_RDWR | O_CLOEXEC, 0600)) >= 0)
        g_unlink (name);
    if (fd >= 0 && ftruncate (fd, size) == 0)
        return fd;
    error_set_errno (error, errno, _("cannot make a file of %" G_GUINT64_FORMAT " bytes in '%s'"),
                     size, dir);
    if (fd >= 0)
        close (fd);
    return -1;
}

char *import_scratch_path (int fd)
{
    return g_strdup_printf ("/proc/%d/fd/%d", getpid (), fd);
}

gboolean import_check_cancelled (const Import *import, GError **error)
{
    return !mover_control_cancelled (import->work.control)
           || error_set (error, BAK_ERROR_ABORTED, _("stopped"));
}

/* The guest */

typedef struct {
    char **wanted; /* where the text of the element goes */
    char *name, *uuid;
} Definition;

static void start_element (GMarkupParseContext *context, const char *element, const char **names,
                           const char **values, gpointer data, GError **error)
{
    Definition *definition = data;
    guint depth = g_slist_length ((GSList *) g_markup_parse_context_get_element_stack (context));
    definition->wanted = NULL;
    if (depth == 2 && g_str_equal (element, "name"))
        definition->wanted = &definition->name;
    else if (depth == 2 && g_str_equal (element, "uuid"))
        definition->wanted = &definition->uuid;
}

static void end_element (GMarkupParseContext *context, const char *element, gpointer data,
                         GError **error)
{
    ((Definition *) data)->wanted = NULL;
}

static void take_text (GMarkupParseContext *context, const char *text, gsize length, gpointer data,
                       GError **error)
{
    Definition *definition = data;
    if (definition->wanted && !*definition->wanted)
        *definition->wanted = g_strstrip (g_strndup (text, length));
}

void import_read_definition (const char *xml, gsize length, char **ret_name, char **ret_uuid)
{
    static const GMarkupParser parser = { start_element, end_element, take_text, NULL, NULL };
    Definition definition = { 0 };
    g_autoptr (GMarkupParseContext) context =
        g_markup_parse_context_new (&parser, 0, &definition, NULL);
    g_markup_parse_context_parse (context, xml, length, NULL);
    *ret_name = definition.name;
    *ret_uuid = definition.uuid;
}

/* The name up to its first dot. */
static char *name_of_file (const Import *import)
{
    g_autofree char *stem = g_strndup (import->origin, strcspn (import->origin, "."));
    return g_strdup (*stem && !g_str_equal (stem, "-") ? stem : "imported");
}

/* The guest of this name in the repository goes on; a renamed one has an identity of its own. */
static gboolean find_guest (Import *import, const char *wanted, gboolean *ret_found, GError **error)
{
    g_autoptr (GError) why = NULL;
    g_autoptr (GPtrArray) points = repository_list_guest (import->repository, wanted, FALSE, &why);
    *ret_found = points && points->len > 0;
    if (*ret_found) {
        const Point *newest = points->pdata[points->len - 1];
        import->name = g_strdup (newest->manifest->guest_name);
        import->uuid = g_strdup (newest->manifest->guest_uuid);
        return TRUE;
    }
    if (!why || g_error_matches (why, BAK_ERROR, BAK_ERROR_NO_POINT))
        return TRUE;
    g_propagate_error (error, g_steal_pointer (&why));
    return FALSE;
}

static gboolean name_is_usable (const char *name)
{
    return name && *name && strlen (name) <= 255 && g_utf8_validate (name, -1, NULL);
}

gboolean import_choose_guest (Import *import, const char *name, const char *uuid, GError **error)
{
    const char *asked = import->options->domain;
    g_autofree char *own = name_is_usable (name) ? g_strdup (name) : name_of_file (import);
    gboolean same = !asked || g_str_equal (asked, own), found = FALSE;
    gboolean has_uuid = uuid && g_uuid_string_is_valid (uuid) && same;

    if (!has_uuid && !find_guest (import, asked ? asked : own, &found, error))
        return FALSE;
    if (!found) {
        import->name = g_strdup (asked ? asked : own);
        import->uuid = has_uuid ? g_ascii_strdown (uuid, -1) : g_uuid_string_random ();
    }
    import->lock = lock_guest_to_write (import->repository, import->uuid, "point-import", error);
    return import->lock != NULL;
}

/* A point */

typedef struct {
    Import *import;
    const ImportPoint *from;
    GPtrArray *there; /* Point of the guest */
    Manifest *manifest;
    Placement *storage;
    char *dir;
} Making;

static Point *find_base (const Making *making, const char *target)
{
    for (guint i = making->there->len; i-- > 0;) {
        Point *point = making->there->pdata[i];
        if (placement_find_disk (point->storage, target))
            return point;
    }
    return NULL;
}

static gboolean check_root (const ImportDisk *disk, const char *made, GError **error)
{
    return !disk->root || g_str_equal (disk->root, made)
           || error_set (error, BAK_ERROR_INEXACT,
                         _("disk '%s': what was imported is not what was backed up: its root "
                            "differs"),
                         disk->target);
}

/* In a repository with a key its root is another: what comes in is read once more for the one that
 * the source tells. */
static gboolean check_source (const Making *making, const ImportDisk *disk,
                              const StorageImage *image, GError **error)
{
    g_autoptr (Storage) storage = storage_start (image, 1, 1, error);
    MoverSource source = { .target = disk->target,
                           .export_name = disk->target,
                           .size = disk->size };
    MoverOptions options = { .control = making->import->work.control };
    MoverResult result;
    char hex[LEAF_HEX_SIZE];
    if (!storage)
        return FALSE;
    source.fd = storage_connect (storage);
    if (!mover_run (&source, &options, NULL, &result, error))
        return FALSE;
    leaf_to_hex (&result.root, hex);
    return check_root (disk, hex, error);
}

static gboolean take_disk (Making *making, const ImportDisk *disk, GError **error)
{
    Import *import = making->import;
    const char *compression = import->options->compression;
    StorageImage image = {
        .name = disk->target, .layers = disk->layers, .n_layers = disk->n_layers, .size = disk->size
    };
    gboolean keyed = import->repository->slots != NULL;
    if (keyed && disk->root && !check_source (making, disk, &image, error))
        return error_note (error, _("disk '%s'"), disk->target);
    DiskCopy copy = { .target = disk->target,
                      .size = disk->size,
                      .from = &image,
                      .source = { .target = disk->target,
                                  .fd = -1,
                                  .export_name = disk->target,
                                  .size = disk->size },
                      .repository = import->repository,
                      .base = find_base (making, disk->target),
                      .dir = making->dir,
                      .file = disk->target,
                      .compression = compression ? compression : "none",
                      .control = import->work.control,
                      .progress = work_progress,
                      .data = &import->work };
    work_begin_disk (&import->work, "import", disk->target);
    gboolean ok =
        disk_copy_run (&copy, error) && (keyed || check_root (disk, copy.manifest->root, error));
    if (ok) {
        if (!copy.manifest->reason)
            copy.manifest->reason = g_strdup_printf (_("imported from '%s'"), import->origin);
        g_ptr_array_add (making->manifest->disks, g_steal_pointer (&copy.manifest));
        g_ptr_array_add (making->storage->disks, g_steal_pointer (&copy.storage));
    }
    disk_copy_clear (&copy);
    work_end_disk (&import->work, disk->size);
    return ok;
}

static gboolean take_file (Making *making, const ImportFile *from, GError **error)
{
    const Manifest *manifest = making->manifest;
    return stored_file_write (making->import->repository, making->dir, manifest->id, from->name,
                              from->data, from->length, manifest->files, error);
}

static char *or_else (const char *text, const char *other)
{
    return g_strdup (text ? text : other);
}

static void describe (Making *making)
{
    const Manifest *said = making->from->said;
    Manifest *manifest = making->manifest;
    g_autoptr (GTimeZone) zone = g_time_zone_new_local ();
    guint count = making->there->len;
    manifest->encrypted = making->import->repository->slots != NULL;
    manifest->guest_name = g_strdup (making->import->name);
    manifest->guest_uuid = g_strdup (making->import->uuid);
    manifest->instant = said->instant ? said->instant : g_get_real_time ();
    manifest->id = publish_new_id (manifest->instant);
    manifest->timezone = or_else (said->timezone, g_time_zone_get_identifier (zone));
    manifest->consistency = or_else (said->consistency, "crash");
    manifest->frozen_ms = said->frozen_ms;
    manifest->host = or_else (said->host, g_get_host_name ());
    manifest->qemu = g_strdup (said->qemu);
    for (guint i = 0; i < said->warnings->len; i++)
        g_ptr_array_add (manifest->warnings, g_strdup (said->warnings->pdata[i]));
    if (count)
        making->storage->parent =
            g_strdup (((Point *) making->there->pdata[count - 1])->manifest->id);
}

static gboolean fill (Making *making, GError **error)
{
    const ImportPoint *from = making->from;
    for (guint i = 0; i < from->disks->len; i++)
        if (!take_disk (making, from->disks->pdata[i], error))
            return FALSE;
    for (guint i = 0; i < from->files->len; i++)
        if (!take_file (making, from->files->pdata[i], error))
            return FALSE;
    const GuestFiles to = { making->import->repository, making->dir, making->manifest->id,
                            making->manifest->files };
    return guest_write_readme (&to, making->manifest, making->storage, error)
           && shorten_chains (making->import->repository, making->dir, making->manifest,
                              making->storage, making->import->work.control, error)
           && publish_prepare (making->dir, making->manifest, making->storage, error);
}

static gboolean make (Making *making, GError **error)
{
    Import *import = making->import;
    making->there = repository_list_points (import->repository, import->uuid, NULL, error);
    if (!making->there)
        return FALSE;
    describe (making);
    making->dir = publish_begin (import->repository, import->uuid, making->manifest->id, error);
    if (!making->dir
        || !publish_next_sequence (import->repository, import->uuid, import->name,
                                   &making->manifest->sequence, error)
        || !fill (making, error)
        || !publish_commit (import->repository, import->uuid, making->manifest->id, error)) {
        publish_abandon (making->dir);
        return FALSE;
    }
    Point *point = point_load (import->repository, import->uuid, making->manifest->id, error);
    if (!point)
        return FALSE;
    g_ptr_array_add (import->points, point);
    return !import->options->note || point_set_note (point, import->options->note, error);
}

gboolean import_publish (Import *import, const ImportPoint *point, GError **error)
{
    Making making = {
        .import = import, .from = point, .manifest = manifest_new (), .storage = placement_new ()
    };
    if (point->disks->len == 0)
        error_set (error, BAK_ERROR_INEXACT, _("it holds no disk"));
    import->work.before = import->work.total = 0;
    for (guint i = 0; i < point->disks->len; i++)
        import->work.total += ((ImportDisk *) point->disks->pdata[i])->size;
    gboolean ok = point->disks->len > 0 && make (&making, error);
    g_clear_pointer (&making.there, g_ptr_array_unref);
    manifest_free (making.manifest);
    placement_free (making.storage);
    g_free (making.dir);
    return ok;
}
