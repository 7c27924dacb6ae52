/* The records of checkpoints. A damaged one is reported by name, never fatal to the others. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include "conf/checkpoint_def.h"
#include "job/checkpoint.h"
#include "job/entries.h"
#include "job/fields.h"
#include "util/files.h"
#include "util/json.h"

#define CHECKPOINT(member, kind, max)                                                              \
    {                                                                                              \
#member, kind, G_STRUCT_OFFSET(Checkpoint, member), max                                    \
    }
static const Field checkpoint_fields[] = {
    CHECKPOINT (name, KIND_NULLABLE, BAK_NAME_MAX),
    CHECKPOINT (parent, KIND_NULLABLE, BAK_NAME_MAX),
    CHECKPOINT (description, KIND_NULLABLE, BAK_MESSAGE_MAX),
    CHECKPOINT (created, KIND_SECONDS, 0),
    CHECKPOINT (sequence, KIND_INT64, 0),
    CHECKPOINT (job, KIND_NULLABLE, BAK_NAME_MAX),
    CHECKPOINT (series, KIND_NULLABLE, BAK_NAME_MAX),
    CHECKPOINT (domain_uuid, KIND_NULLABLE, BAK_NAME_MAX),
};

enum { CHAIN_TEXT_MAX = 16 * 1024 * 1024 };

#define CHECKPOINT_DISK(member, kind, max)                                                         \
    {                                                                                              \
#member, kind, G_STRUCT_OFFSET(CheckpointDisk, member), max                                \
    }
static const Field checkpoint_disk_fields[] = {
    CHECKPOINT_DISK (disk, KIND_NULLABLE, BAK_NAME_MAX),
    CHECKPOINT_DISK (node, KIND_NULLABLE, BAK_NAME_MAX),
    CHECKPOINT_DISK (file, KIND_NULLABLE, BAK_PATH_MAX),
    CHECKPOINT_DISK (bitmap, KIND_NULLABLE, BAK_NAME_MAX),
    CHECKPOINT_DISK (persistent, KIND_BOOL, 0),
    CHECKPOINT_DISK (size, KIND_SIZE, 0),
    CHECKPOINT_DISK (granularity, KIND_SIZE, 0),
    CHECKPOINT_DISK (shrunk, KIND_BOOL, 0),
    CHECKPOINT_DISK (guarded, KIND_BOOL, 0),
    CHECKPOINT_DISK (backup, KIND_NULLABLE, BAK_PATH_MAX),
    CHECKPOINT_DISK (backup_id, KIND_NULLABLE, BAK_NAME_MAX),
    CHECKPOINT_DISK (backup_chain, KIND_NULLABLE, CHAIN_TEXT_MAX),
    CHECKPOINT_DISK (layers, KIND_NULLABLE, CHAIN_TEXT_MAX),
    CHECKPOINT_DISK (image, KIND_NULLABLE, BAK_NAME_MAX),
    CHECKPOINT_DISK (data, KIND_NULLABLE, BAK_PATH_MAX),
    CHECKPOINT_DISK (seal, KIND_NULLABLE, BAK_NAME_MAX),
};

Checkpoint *checkpoint_new (const char *name)
{
    Checkpoint *checkpoint = g_new0 (Checkpoint, 1);

    checkpoint->name = g_strdup (name);
    checkpoint->disks = g_ptr_array_new ();
    return checkpoint;
}

CheckpointDisk *checkpoint_disk_new (const char *name)
{
    CheckpointDisk *disk = g_new0 (CheckpointDisk, 1);

    disk->disk = g_strdup (name);
    return disk;
}

CheckpointDisk *checkpoint_disk_copy (const CheckpointDisk *disk)
{
    CheckpointDisk *copy = g_memdup2 (disk, sizeof *disk);
    copy->disk = g_strdup (disk->disk);
    copy->node = g_strdup (disk->node);
    copy->file = g_strdup (disk->file);
    copy->bitmap = g_strdup (disk->bitmap);
    copy->backup = g_strdup (disk->backup);
    copy->backup_id = g_strdup (disk->backup_id);
    copy->backup_chain = g_strdup (disk->backup_chain);
    copy->layers = g_strdup (disk->layers);
    copy->image = g_strdup (disk->image);
    copy->data = g_strdup (disk->data);
    copy->seal = g_strdup (disk->seal);
    return copy;
}

void checkpoint_disk_free (CheckpointDisk *disk)
{
    g_free (disk->disk);
    g_free (disk->node);
    g_free (disk->file);
    g_free (disk->bitmap);
    g_free (disk->backup);
    g_free (disk->backup_id);
    g_free (disk->backup_chain);
    g_free (disk->layers);
    g_free (disk->image);
    g_free (disk->data);
    g_free (disk->seal);
    g_free (disk);
}

void checkpoint_free (Checkpoint *checkpoint)
{
    if (!checkpoint)
        return;
    for (guint i = 0; i < checkpoint->disks->len; i++)
        checkpoint_disk_free (checkpoint->disks->pdata[i]);
    g_ptr_array_free (checkpoint->disks, TRUE);
    g_free (checkpoint->name);
    g_free (checkpoint->parent);
    g_free (checkpoint->description);
    g_free (checkpoint->job);
    g_free (checkpoint->series);
    g_free (checkpoint->domain_uuid);
    g_free (checkpoint);
}

void checkpoint_disk_set_backup (CheckpointDisk *disk, const char *path)
{
    if (!path || !g_path_is_absolute (path))
        return;
    disk->backup = g_strdup (path);
    disk->backup_id = files_id (path);
}

gboolean checkpoint_disk_seal_backup (CheckpointDisk *disk, ChainEnd end, GError **error)
{
    if (!disk->backup)
        return TRUE;
    disk->backup_chain = chain_seal (disk->backup, end, error);
    return disk->backup_chain
           || error_note (error, _("disk '%s': the backup '%s' does not open"), disk->disk,
                          disk->backup);
}

gboolean checkpoints_see_sizes (const char *dir, GPtrArray *all,
                                guint64 (*size_of) (const char *disk, gconstpointer data),
                                gconstpointer data, GError **error)
{
    for (guint i = 0; i < all->len; i++) {
        Checkpoint *checkpoint = all->pdata[i];
        gboolean news = FALSE;
        for (guint k = 0; k < checkpoint->disks->len; k++) {
            CheckpointDisk *disk = checkpoint->disks->pdata[k];
            guint64 size = disk->shrunk ? 0 : size_of (disk->disk, data);
            if (size && size < disk->size)
                disk->shrunk = news = TRUE;
        }
        if (news && !checkpoint_save (dir, checkpoint, error))
            return FALSE;
    }
    return TRUE;
}

static JsonNode *checkpoint_to_json (const Checkpoint *checkpoint)
{
    JsonObject *object =
        fields_to_json (checkpoint_fields, G_N_ELEMENTS (checkpoint_fields), checkpoint);
    JsonArray *disks = json_array_new ();

    json_object_set_int_member (object, "version", RECORD_VERSION);
    for (guint i = 0; i < checkpoint->disks->len; i++)
        json_array_add_object_element (disks, fields_to_json (checkpoint_disk_fields,
                                                              G_N_ELEMENTS (checkpoint_disk_fields),
                                                              checkpoint->disks->pdata[i]));
    json_object_set_array_member (object, "disks", disks);
    return object_node (object);
}

static gboolean checkpoint_from_object (JsonObject *object, Checkpoint *checkpoint, GError **error)
{
    JsonArray *disks;
    guint count;

    if (!version_check (object, error)
        || !fields_from_json (checkpoint_fields, G_N_ELEMENTS (checkpoint_fields), object,
                              checkpoint, error)
        || !disks_array (object, &disks, &count, error))
        return FALSE;
    for (guint i = 0; i < count; i++) {
        CheckpointDisk *disk = checkpoint_disk_new (NULL);
        g_ptr_array_add (checkpoint->disks, disk);
        if (!fields_from_json (checkpoint_disk_fields, G_N_ELEMENTS (checkpoint_disk_fields),
                               json_get_element (disks, i), disk, error))
            return error_note (error, _("disk %u"), i);
        if (!disk->disk || !disk->bitmap)
            return error_set (error, BAK_ERROR_IO, _("disk %u has no name or no bitmap"), i);
    }
    return TRUE;
}

/* The name becomes a file's name here, whoever it came from. */
static gboolean file_name_check (const char *name, GError **error)
{
    if (!name)
        return error_set (error, BAK_ERROR_INVALID_ARGUMENT, _("a checkpoint without a name"));
    return checkpoint_name_check (name, error);
}

gboolean checkpoint_save (const char *dir, const Checkpoint *checkpoint, GError **error)
{
    if (!file_name_check (checkpoint->name, error))
        return FALSE;
    if (!make_folder (dir, "checkpoints", error))
        return error_note (error, _("checkpoint '%s'"), checkpoint->name);
    g_autofree char *path = entry_path (dir, "checkpoints", checkpoint->name);
    g_autoptr (JsonNode) node = checkpoint_to_json (checkpoint);
    g_autofree char *text = json_write (node),
                    *forgotten = entry_path (dir, "forgotten", checkpoint->name);
    if (!files_write_atomic (path, text, -1, 0600, error))
        return error_note (error, _("checkpoint '%s'"), checkpoint->name);
    g_unlink (forgotten); /* known again */
    return TRUE;
}

static Checkpoint *read_checkpoint (const char *path, const char *name, GError **error)
{
    JsonObject *object;
    g_autoptr (JsonNode) node = read_entry (path, &object, error);
    g_autoptr (Checkpoint) checkpoint = node ? checkpoint_new (NULL) : NULL;

    if (!node)
        return NULL;
    if (!checkpoint_from_object (object, checkpoint, error)) {
        error_note (error,
                    error && g_error_matches (*error, BAK_ERROR, BAK_ERROR_NOT_SUPPORTED)
                        ? "'%s'"
                        : _("'%s' is damaged"),
                    path);
        return NULL;
    }
    if (g_strcmp0 (checkpoint->name, name) != 0) {
        error_set (error, BAK_ERROR_IO, _("'%s' is damaged: it does not hold checkpoint '%s'"),
                   path, name);
        return NULL;
    }
    if (checkpoint->parent && !checkpoint_name_check (checkpoint->parent, error)) {
        error_note (error, _("'%s' is damaged: parent"), path);
        return NULL;
    }
    return g_steal_pointer (&checkpoint);
}

static gboolean no_checkpoint (const char *name, GError **error)
{
    g_autofree char *shown = text_sanitize (name, 256);
    return error_set (error, BAK_ERROR_NO_CHECKPOINT, _("no checkpoint '%s'"), shown);
}

Checkpoint *checkpoint_load (const char *dir, const char *name, GError **error)
{
    if (!checkpoint_exists (dir, name)) {
        no_checkpoint (name, error);
        return NULL;
    }
    g_autofree char *path = entry_path (dir, "checkpoints", name);
    return read_checkpoint (path, name, error);
}

static int compare_checkpoints (gconstpointer a, gconstpointer b)
{
    const Checkpoint *left = *(Checkpoint *const *) a, *right = *(Checkpoint *const *) b;

    if (left->sequence != right->sequence)
        return left->sequence < right->sequence ? -1 : 1;
    if (left->created != right->created)
        return left->created < right->created ? -1 : 1;
    return strcmp (left->name, right->name);
}

/* Files can claim any order; a parent comes first all the same. A cycle of parents ends where it
 * began. */
static GPtrArray *parents_first (GPtrArray *sorted)
{
    g_autoptr (GHashTable) waiting = g_hash_table_new (g_str_hash, g_str_equal);
    g_autoptr (GPtrArray) line = g_ptr_array_new ();
    GPtrArray *list = g_ptr_array_new_with_free_func ((GDestroyNotify) checkpoint_free);

    for (guint i = 0; i < sorted->len; i++)
        g_hash_table_insert (waiting, ((Checkpoint *) sorted->pdata[i])->name, sorted->pdata[i]);
    for (guint i = 0; i < sorted->len; i++) {
        Checkpoint *next = g_hash_table_lookup (waiting, ((Checkpoint *) sorted->pdata[i])->name);
        for (; next; next = next->parent ? g_hash_table_lookup (waiting, next->parent) : NULL) {
            g_hash_table_remove (waiting, next->name);
            g_ptr_array_add (line, next);
        }
        while (line->len > 0)
            g_ptr_array_add (list, g_ptr_array_remove_index (line, line->len - 1));
    }
    return list;
}

GPtrArray *checkpoint_load_all (const char *dir, GPtrArray *damaged)
{
    g_autofree char *folder = g_build_filename (dir, "checkpoints", NULL);
    g_autoptr (GDir) entries = g_dir_open (folder, 0, NULL);
    g_autoptr (GPtrArray) sorted = g_ptr_array_new ();
    const char *file;

    while (entries && (file = g_dir_read_name (entries))) {
        g_autofree char *name = entry_name (file);
        g_autofree char *path = g_build_filename (folder, file, NULL);
        g_autoptr (GError) why = NULL;
        if (!name)
            continue;
        Checkpoint *checkpoint = NULL;
        if (!file_name_check (name, &why))
            error_note (&why, "'%s'", path);
        else
            checkpoint = read_checkpoint (path, name, &why);
        if (checkpoint)
            g_ptr_array_add (sorted, checkpoint);
        else if (damaged)
            g_ptr_array_add (damaged, text_sanitize (why->message, 0));
    }
    g_ptr_array_sort (sorted, compare_checkpoints);
    return parents_first (sorted);
}

const Checkpoint *checkpoint_later_in_file (GPtrArray *all, gint64 sequence, const char *file)
{
    for (guint i = 0; i < all->len; i++) {
        const Checkpoint *checkpoint = all->pdata[i];
        for (guint k = 0; checkpoint->sequence > sequence && k < checkpoint->disks->len; k++)
            if (g_strcmp0 (((CheckpointDisk *) checkpoint->disks->pdata[k])->backup, file) == 0)
                return checkpoint;
    }
    return NULL;
}

char *checkpoint_next_in_series (GPtrArray *all, const char *series)
{
    gint64 last = 0;
    for (guint i = 0; i < all->len; i++) {
        const Checkpoint *checkpoint = all->pdata[i];
        if (g_strcmp0 (checkpoint->series, series) == 0)
            last = MAX (last, checkpoint->sequence);
    }
    return g_strdup_printf ("%s.%" G_GINT64_FORMAT, series, last + 1);
}

gboolean checkpoint_remove (const char *dir, const char *name, GError **error)
{
    if (!file_name_check (name, error))
        return FALSE;
    g_autofree char *path = entry_path (dir, "checkpoints", name);
    if (g_unlink (path) != 0)
        return errno == ENOENT ? no_checkpoint (name, error)
                               : error_set_errno (error, errno, _("cannot remove '%s'"), path);
    return files_fsync_parent (path, error);
}

gboolean checkpoint_forget (const char *dir, const char *name, GError **error)
{
    if (!checkpoint_exists (dir, name))
        return no_checkpoint (name, error);
    if (!make_folder (dir, "forgotten", error))
        return FALSE;
    g_autofree char *path = entry_path (dir, "checkpoints", name),
                    *forgotten = entry_path (dir, "forgotten", name);
    if (g_rename (path, forgotten) != 0)
        return error_set_errno (error, errno, _("cannot remove '%s'"), path);
    return files_fsync_parent (forgotten, error) && files_fsync_parent (path, error);
}

gboolean checkpoint_set_aside (const char *dir, const char *name, GError **error)
{
    g_autofree char *path = entry_path (dir, "checkpoints", name),
                    *aside = g_strconcat (path, ".damaged", NULL);
    return g_rename (path, aside) == 0
           || error_set_errno (error, errno, _("cannot rename '%s'"), path);
}

Checkpoint *checkpoint_load_forgotten (const char *dir, const char *name)
{
    g_autofree char *path =
        file_name_check (name, NULL) ? entry_path (dir, "forgotten", name) : NULL;
    return path && g_file_test (path, G_FILE_TEST_IS_REGULAR) ? read_checkpoint (path, name, NULL)
                                                              : NULL;
}

gboolean checkpoint_exists (const char *dir, const char *name)
{
    if (!file_name_check (name, NULL))
        return FALSE;
    g_autofree char *path = entry_path (dir, "checkpoints", name);
    return g_file_test (path, G_FILE_TEST_IS_REGULAR);
}
