/* A folder of virtnbdbackup: a full backup and what came after it, each a point. The order is that
 * of the checkpoints that the files name as their parents, never that of names or times. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <glib/gi18n-lib.h>
#include "exchange/import.h"
#include "exchange/sparse.h"
#include "util/files.h"

enum { FILE_MAX = 16 * 1024 * 1024 };

static const char data_suffix[] = ".data";

/* One data file: of one disk at one run. */
typedef struct {
    char *path;
    char *disk, *level; /* of the name */
    char *ident;        /* "" for a full one */
    SparseMeta meta;
} Part;

static void part_free (gpointer data)
{
    Part *part = data;
    g_free (part->path);
    g_free (part->disk);
    g_free (part->level);
    g_free (part->ident);
    sparse_meta_clear (&part->meta);
    g_free (part);
}

/* One disk as it is after the runs that were applied. */
typedef struct {
    const char *target; /* borrowed */
    guint64 size;
    int fd;
} Disk;

static void disk_free (gpointer data)
{
    Disk *disk = data;
    if (disk->fd >= 0)
        close (disk->fd);
    g_free (disk);
}

typedef struct {
    Import *import;
    char *folder;
    GPtrArray *parts; /* Part that are not applied yet */
    GPtrArray *disks; /* Disk */
} Series;

/* "vda.inc.virtnbdbackup.1.data"; NULL: no data file. */
static Part *part_new (const char *folder, const char *name)
{
    static const char *const levels[] = { "full", "copy", "inc", "diff" };
    if (!g_str_has_suffix (name, data_suffix))
        return NULL;
    g_autofree char *stem = g_strndup (name, strlen (name) - strlen (data_suffix));
    for (guint i = 0; i < G_N_ELEMENTS (levels); i++) {
        g_autofree char *middle = g_strdup_printf (".%s", levels[i]);
        const char *at = strstr (stem, middle);
        const char *end = at ? at + strlen (middle) : NULL;
        if (!at || at == stem || (*end && *end != '.') || (i < 2) != !*end)
            continue;
        Part *part = g_new0 (Part, 1);
        part->path = g_build_filename (folder, name, NULL);
        part->disk = g_strndup (stem, at - stem);
        part->level = g_strdup (levels[i]);
        part->ident = g_strdup (*end ? end + 1 : "");
        return part;
    }
    return NULL;
}

gboolean import_is_virtnbdbackup (const char *path)
{
    g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
    const char *name;
    gboolean found = FALSE;
    while (dir && !found && (name = g_dir_read_name (dir))) {
        Part *part = part_new (path, name);
        found = part != NULL;
        if (part)
            part_free (part);
    }
    return found;
}

static int by_path (gconstpointer one, gconstpointer other)
{
    return strcmp ((*(Part *const *) one)->path, (*(Part *const *) other)->path);
}

static gboolean read_parts (Series *series, GError **error)
{
    g_autoptr (GDir) dir = g_dir_open (series->folder, 0, error);
    const char *name;
    if (!dir)
        return FALSE;
    while ((name = g_dir_read_name (dir))) {
        Part *part = part_new (series->folder, name);
        if (!part)
            continue;
        g_ptr_array_add (series->parts, part);
        if (!sparse_read_meta (part->path, &part->meta, error))
            return FALSE;
        if (!g_str_equal (part->meta.disk, part->disk))
            return error_set (error, BAK_ERROR_INEXACT, _("'%s' is damaged: it is of disk '%s'"),
                              part->path, part->meta.disk);
    }
    g_ptr_array_sort (series->parts, by_path);
    return TRUE;
}

static gboolean is_base (const Part *part)
{
    return g_str_equal (part->level, "full") || g_str_equal (part->level, "copy");
}

/* The parts of one run leave the series; Part. */
static GPtrArray *take_run (Series *series, const Part *like)
{
    GPtrArray *run = g_ptr_array_new_with_free_func (part_free);
    g_autofree char *level = g_strdup (like->level), *ident = g_strdup (like->ident);
    for (guint i = 0; i < series->parts->len;) {
        const Part *part = series->parts->pdata[i];
        if (g_str_equal (part->level, level) && g_str_equal (part->ident, ident))
            g_ptr_array_add (run, g_ptr_array_steal_index (series->parts, i));
        else
            i++;
    }
    return run;
}

/* What comes next: the differentials on this checkpoint by their time, then the increment. */
static const Part *find_next (const Series *series, const char *checkpoint, const char *level)
{
    const Part *found = NULL;
    for (guint i = 0; i < series->parts->len; i++) {
        const Part *part = series->parts->pdata[i];
        if (g_str_equal (part->level, level) && g_strcmp0 (part->meta.parent, checkpoint) == 0
            && (!found || strcmp (part->meta.date, found->meta.date) < 0))
            found = part;
    }
    return found;
}

/* One run */

static Disk *find_disk (const Series *series, const char *target)
{
    for (guint i = 0; i < series->disks->len; i++) {
        Disk *disk = series->disks->pdata[i];
        if (g_str_equal (disk->target, target))
            return disk;
    }
    return NULL;
}

static Disk *open_disk (Series *series, const Part *part, GError **error)
{
    Disk *disk = find_disk (series, part->disk);
    if (!disk && !is_base (part)) {
        error_set (error, BAK_ERROR_INEXACT, _("'%s' has no full backup of its disk below it"),
                   part->path);
        return NULL;
    }
    if (!disk) {
        disk = g_new0 (Disk, 1);
        disk->target = g_intern_string (part->disk);
        disk->size = part->meta.size;
        disk->fd = import_scratch (series->import, disk->size, error);
        g_ptr_array_add (series->disks, disk);
        return disk->fd >= 0 ? disk : NULL;
    }
    if (disk->size == part->meta.size)
        return disk;
    error_set (error, BAK_ERROR_INEXACT,
               _("'%s' is of a disk of %" G_GUINT64_FORMAT
                  " bytes, the backup before it of %" G_GUINT64_FORMAT),
               part->path, part->meta.size, disk->size);
    return NULL;
}

static gboolean cancelled (gpointer data, GError **error)
{
    return !import_check_cancelled (data, error);
}

static gboolean apply (Series *series, const GPtrArray *run, GError **error)
{
    for (guint i = 0; i < run->len; i++) {
        const Part *part = run->pdata[i];
        Disk *disk = open_disk (series, part, error);
        if (!disk)
            return FALSE;
        work_begin_disk (&series->import->work, "unpack", part->disk);
        if (!sparse_apply (part->path, &part->meta, disk->fd, is_base (part), cancelled,
                           series->import, error))
            return FALSE;
    }
    return run->len == series->disks->len
           || error_set (error, BAK_ERROR_INEXACT,
                         _("the run of '%s' has %u disks, the full backup %u"),
                         ((Part *) run->pdata[0])->path, run->len, series->disks->len);
}

static void add_definition (const Series *series, ImportPoint *point, const Part *part)
{
    const char *idents[] = { part->ident, part->meta.checkpoint, part->level };
    for (guint i = 0; i < G_N_ELEMENTS (idents); i++) {
        g_autofree char *name = g_strdup_printf ("vmconfig.%s.xml", idents[i] ? idents[i] : "");
        g_autofree char *path = g_build_filename (series->folder, name, NULL), *text = NULL;
        gsize length;
        if (files_read (path, FILE_MAX, &text, &length, NULL)) {
            import_point_add_file (point, "domain.xml", text, length);
            return;
        }
    }
}

/* "2026-11-29T17:13:21.123", in the local time of the host that made it. */
static gint64 instant_of (const char *date)
{
    g_autoptr (GTimeZone) zone = g_time_zone_new_local ();
    g_autoptr (GDateTime) time = g_date_time_new_from_iso8601 (date, zone);
    return time ? g_date_time_to_unix (time) * G_USEC_PER_SEC : 0;
}

static gboolean choose_guest (Series *series, const ImportPoint *point, GError **error)
{
    g_autofree char *name = NULL, *uuid = NULL;
    if (series->import->lock)
        return TRUE;
    if (point->files->len) {
        const ImportFile *file = point->files->pdata[0];
        import_read_definition (file->data, file->length, &name, &uuid);
    }
    return import_choose_guest (series->import, name, uuid, error);
}

static gboolean publish (Series *series, const Part *part, GError **error)
{
    g_autoptr (ImportPoint) point = import_point_new ();
    add_definition (series, point, part);
    point->said->instant = instant_of (part->meta.date);
    if (!is_base (part))
        g_ptr_array_add (
            point->said->warnings,
            g_strdup (_("increments of virtnbdbackup do not tell which areas became zero: there "
                         "stands what was there before")));
    for (guint i = 0; i < series->disks->len; i++) {
        const Disk *from = series->disks->pdata[i];
        ImportDisk *disk = import_point_add_disk (point, from->target, from->size, error);
        g_autofree char *path = import_scratch_path (from->fd);
        if (!disk)
            return FALSE;
        import_disk_add_layer (disk, path, "raw");
    }
    return choose_guest (series, point, error) && import_publish (series->import, point, error);
}

static gboolean import_run (Series *series, const Part *like, char **ret_checkpoint, GError **error)
{
    g_autoptr (GPtrArray) run = take_run (series, like);
    const Part *part = run->pdata[0];
    if (!apply (series, run, error) || !publish (series, part, error))
        return FALSE;
    if (ret_checkpoint) {
        g_free (*ret_checkpoint);
        *ret_checkpoint = g_strdup (part->meta.checkpoint);
    }
    return TRUE;
}

static const Part *find_full (const Series *series, GError **error)
{
    const Part *found = NULL;
    for (guint i = 0; i < series->parts->len; i++) {
        const Part *part = series->parts->pdata[i];
        if (!is_base (part))
            continue;
        if (found && !g_str_equal (found->level, part->level)) {
            error_set (error, BAK_ERROR_INEXACT, _("it holds a full backup and a copy"));
            return NULL;
        }
        found = part;
    }
    if (!found)
        error_set (error, BAK_ERROR_INEXACT, _("it holds no full backup"));
    return found;
}

/* Before anything is made: that each run has what it stands on. */
static gboolean check_order (const Series *series, GError **error)
{
    for (guint i = 0; i < series->parts->len; i++) {
        const Part *part = series->parts->pdata[i];
        gboolean found = is_base (part);
        for (guint j = 0; j < series->parts->len && !found; j++) {
            const Part *other = series->parts->pdata[j];
            found = other != part && g_str_equal (other->disk, part->disk)
                    && !g_str_equal (other->level, "diff")
                    && g_strcmp0 (other->meta.checkpoint, part->meta.parent) == 0;
        }
        if (!found)
            return error_set (error, BAK_ERROR_INEXACT,
                              _("the chain has a gap: '%s' stands on checkpoint '%s', of which "
                                 "there is no backup"),
                              part->path, part->meta.parent ? part->meta.parent : "");
    }
    return TRUE;
}

static gboolean import_series (Series *series, GError **error)
{
    g_autofree char *checkpoint = NULL;
    const Part *next = NULL;
    if (!read_parts (series, error) || !check_order (series, error)
        || !(next = find_full (series, error)) || !import_run (series, next, &checkpoint, error))
        return FALSE;
    for (;;) {
        while ((next = find_next (series, checkpoint, "diff")))
            if (!import_run (series, next, NULL, error))
                return FALSE;
        if (!(next = find_next (series, checkpoint, "inc")))
            break;
        if (!import_run (series, next, &checkpoint, error))
            return FALSE;
    }
    return series->parts->len == 0
           || error_set (error, BAK_ERROR_INEXACT,
                         _("two increments stand on one checkpoint: '%s'"),
                         ((Part *) series->parts->pdata[0])->path);
}

gboolean import_virtnbdbackup (Import *import, GError **error)
{
    Series series = { .import = import,
                      .folder = g_strdup (import->path),
                      .parts = g_ptr_array_new_with_free_func (part_free),
                      .disks = g_ptr_array_new_with_free_func (disk_free) };
    gboolean ok = import_series (&series, error);
    g_ptr_array_unref (series.parts);
    g_ptr_array_unref (series.disks);
    g_free (series.folder);
    return ok;
}
