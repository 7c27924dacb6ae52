#include <errno.h>
#include <string.h>
#include <glib/gi18n-lib.h>
#include "repository/damage.h"
#include "repository/lock.h"
#include "repository/reading.h"
#include "repository/verify.h"
#include "repository/work.h"
#include "util/image_tool.h"
#include "util/json.h"

enum { SHOWN_MAX = 8 };

/* What is wrong, in words; a finding is no failure of verifying. */
typedef struct {
    Point *point;
    Work *work;
    gboolean blind; /* without the key: documents, sizes, hashes of files, digests */
    GString *found;
    guint count;
    /* the run of damage that grows while a disk is read */
    const char *target;
    guint64 offset, end;
} Verifying;

static void find (Verifying *verifying, const char *what)
{
    if (verifying->count++ < SHOWN_MAX)
        g_string_append_printf (verifying->found, "%s%s", verifying->count > 1 ? "; " : "", what);
}

static void find_error (Verifying *verifying, const char *target, const GError *error)
{
    g_autofree char *text = target ? g_strdup_printf (_("disk '%s': %s"), target, error->message)
                                   : g_strdup (error->message);

    find (verifying, text);
}

static gboolean is_damage (const GError *error)
{
    return g_error_matches (error, BAK_ERROR, BAK_ERROR_INEXACT)
           || g_error_matches (error, BAK_ERROR, BAK_ERROR_IO);
}

static void end_run (Verifying *verifying)
{
    if (verifying->end == verifying->offset)
        return;
    g_autofree char *text =
        g_strdup_printf (_("disk '%s': bytes %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT
                            " are not what was backed up"),
                         verifying->target, verifying->offset, verifying->end);
    find (verifying, text);
    verifying->offset = verifying->end = 0;
}

static void differs (guint64 offset, guint64 length, gpointer data)
{
    Verifying *verifying = data;

    if (offset != verifying->end)
        end_run (verifying);
    if (verifying->end == verifying->offset)
        verifying->offset = offset;
    verifying->end = offset + length;
}

static void progress (guint64 done, guint64 total, gpointer data)
{
    work_progress (done, total, ((Verifying *) data)->work);
}

/* All of its bytes. FALSE: it could not be read to its end. */
static gboolean read_disk (Verifying *verifying, const Reading *reading, GError **error)
{
    g_autoptr (Storage) storage = reading_serve (reading, error);
    MoverSource source = { .target = reading->disk->target,
                           .export_name = reading->disk->target,
                           .size = reading->disk->size };
    MoverOptions options = { .key = repository_leaf_key (reading->point->repository),
                             .view = reading->view,
                             .check = reading->view ? MOVER_CHECK_REPORT : MOVER_CHECK_NONE,
                             .differs = differs,
                             .control = verifying->work->control,
                             .progress = progress,
                             .data = verifying };
    MoverResult result;

    if (!storage)
        return FALSE;
    source.fd = storage_connect (storage);
    verifying->target = reading->disk->target;
    gboolean ok = mover_run (&source, &options, NULL, &result, error);
    gboolean seen = verifying->end > verifying->offset || result.differed > 0;
    end_run (verifying);
    if (ok && !seen && !leaf_equal (&result.root, &reading->root)) {
        g_autofree char *text = g_strdup_printf (
            _("disk '%s': its root is not that of the manifest"), reading->disk->target);
        find (verifying, text);
    }
    return ok;
}

/* What a stranger's qemu-img follows stands in the image itself. */
static gboolean check_header (const PointLayer *layer, const PointLayer *below, guint64 size,
                              GError **error)
{
    const char *args[] = { "info", "-U", "-f", "qcow2", "--output=json", "--", layer->path, NULL };
    g_autofree char *text = NULL, *name = below ? g_path_get_basename (below->path) : NULL;
    g_autofree char *expected = below ? g_strdup_printf ("../%s/%s", below->point_id, name) : NULL;
    JsonObject *object;

    if (!image_tool (args, &text, error))
        return error_note (error, "'%s'", layer->path);
    g_autoptr (JsonNode) node = json_read_object (text, -1, &object, error);
    if (!node)
        return FALSE;
    if (g_strcmp0 (json_get_string (object, "backing-filename"), expected) != 0)
        return error_set (error, BAK_ERROR_INEXACT,
                          _("'%s' is damaged: it names another backing file"), layer->path);
    if (size != 0 && (guint64) json_get_int (object, "virtual-size", 0) != size)
        return error_set (error, BAK_ERROR_INEXACT,
                          _("'%s' is damaged: it is of a disk of another size"), layer->path);
    return TRUE;
}

/* The layers' own files: digests of leaves, headers, reference counts. */
static void check_files (Verifying *verifying, const Reading *reading)
{
    for (guint i = 0; i < reading->layers->len; i++) {
        const PointLayer *layer = reading->layers->pdata[i];
        const PointLayer *below =
            i + 1 < reading->layers->len ? reading->layers->pdata[i + 1] : NULL;
        g_autofree char *name =
            layer->secret ? storage_name_encrypted (layer->path) : g_strdup (layer->path);
        const char *args[] = { "check", "-q", "-U", "--", name, NULL };
        g_autoptr (GError) leaves = NULL, header = NULL, counts = NULL;
        if (!leaves_check (layer->leaves, i == 0 ? reading->disk->size : LEAVES_ANY_SIZE, &leaves))
            find_error (verifying, reading->disk->target, leaves);
        if (!check_header (layer, below, i == 0 ? reading->disk->size : 0, &header))
            find_error (verifying, reading->disk->target, header);
        else if (i == 0 && !verifying->blind
                 && !image_tool_secret (args, layer->secret, NULL, &counts))
            find_error (verifying, reading->disk->target, counts);
    }
}

/* FALSE only when verifying itself failed. */
static gboolean verify_disk (Verifying *verifying, const char *target, GError **error)
{
    g_autoptr (GError) why = NULL;
    g_autoptr (Reading) reading = reading_open (verifying->point, target, &why);

    if (!reading) {
        find_error (verifying, NULL, why);
        return TRUE;
    }
    work_begin_disk (verifying->work, "verify", target);
    if (reading->flaw)
        find_error (verifying, target, reading->flaw);
    check_files (verifying, reading);
    if (!verifying->blind && !read_disk (verifying, reading, &why)) {
        if (!is_damage (why)) {
            g_propagate_error (error, g_steal_pointer (&why));
            return FALSE;
        }
        find_error (verifying, NULL, why);
    }
    work_end_disk (verifying->work, reading->disk->size);
    return TRUE;
}

static void verify_file (Verifying *verifying, const ManifestFile *file)
{
    g_autofree char *path = g_build_filename (verifying->point->dir, file->name, NULL);
    g_autoptr (GError) why = NULL;
    LeafHash made, wanted;
    guint64 size = 0;

    if (!hasher_file (path, &made, &size, &why))
        find_error (verifying, NULL, why);
    else if (!leaf_from_hex (file->sha256, &wanted) || size != file->size
             || !leaf_equal (&made, &wanted)) {
        g_autofree char *text = g_strdup_printf (_("'%s' is damaged: its hash differs"), path);
        find (verifying, text);
    }
}

static gboolean remember (Verifying *verifying, gboolean whole, GError **error)
{
    Verification verification = { .when = g_get_real_time (),
                                  .good = verifying->count == 0,
                                  .how = (char *) "read-data",
                                  .what = verifying->count ? verifying->found->str : NULL };
    g_autoptr (GError) why = NULL;

    if ((!whole || verifying->blind) && verification.good)
        return TRUE;
    if (point_add_verification (verifying->point, &verification, &why)
        || g_error_matches (why, BAK_ERROR, BAK_ERROR_ACCESS_DENIED))
        return TRUE;
    g_propagate_error (error, g_steal_pointer (&why));
    return error_note (error, _("remembering what was found"));
}

static gboolean verdict (const Verifying *verifying, GError **error)
{
    if (verifying->count == 0)
        return TRUE;
    if (verifying->count > SHOWN_MAX)
        return error_set (error, BAK_ERROR_INEXACT, _("point '%s' is damaged: %s; and %u more"),
                          verifying->point->manifest->id, verifying->found->str,
                          verifying->count - SHOWN_MAX);
    return error_set (error, BAK_ERROR_INEXACT, _("point '%s' is damaged: %s"),
                      verifying->point->manifest->id, verifying->found->str);
}

static gboolean verify_all (Verifying *verifying, const GPtrArray *targets, GError **error)
{
    const GPtrArray *files = verifying->point->manifest->files;

    for (guint i = 0; targets->pdata[i]; i++)
        verifying->work->total +=
            manifest_find_disk (verifying->point->manifest, targets->pdata[i])->size;
    for (guint i = 0; targets->pdata[i]; i++)
        if (!verify_disk (verifying, targets->pdata[i], error))
            return FALSE;
    for (guint i = 0; i < files->len; i++)
        verify_file (verifying, files->pdata[i]);
    return TRUE;
}

/* A chain that is broken cannot be locked as a whole: it is a finding like any other. */
static Lock *lock_to_read (Point *point, const GPtrArray *targets, GError **error)
{
    g_autoptr (GError) why = NULL;
    Lock *lock = lock_point_to_read (point, (const char *const *) targets->pdata, &why);

    if (!lock && !is_damage (why))
        g_propagate_error (error, g_steal_pointer (&why));
    return lock;
}

gboolean verify_point (Point *point, const BakPointVerifyOptions *options, GError **error)
{
    g_autoptr (GPtrArray) targets = reading_targets (point, options->disks, error);
    g_autoptr (GString) found = g_string_new (NULL);
    g_autoptr (GError) locked = NULL;
    g_auto (Work) work = { 0 };
    Verifying verifying = { .point = point,
                            .work = &work,
                            .blind = !repository_may_unlock (point->repository),
                            .found = found };

    if (!targets || !damage_refuse (point, error)
        || (!verifying.blind && !repository_need_key (point->repository, error)))
        return FALSE;
    g_autoptr (Lock) lock = lock_to_read (point, targets, &locked);
    if (locked) {
        g_propagate_error (error, g_steal_pointer (&locked));
        return FALSE;
    }
    work_init (&work, options->limit, options->progress, options->opaque, options->cancellation);
    return verify_all (&verifying, targets, error)
           && remember (&verifying, options->disks == NULL, error) && verdict (&verifying, error);
}
