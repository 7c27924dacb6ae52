#include <string.h>
#include <glib/gi18n-lib.h>
#include "exchange/export.h"
#include "exchange/format.h"
#include "repository/lock.h"
#include "repository/work.h"

static const ExportFormat *const formats[] = { &export_vma, &export_tar, &export_raw };

static const ExportFormat *find_format (const char *name, GError **error)
{
    for (guint i = 0; i < G_N_ELEMENTS (formats); i++)
        if (g_strcmp0 (formats[i]->name, name) == 0)
            return formats[i];
    error_set (error, BAK_ERROR_INVALID_ARGUMENT,
               _("a point is exported as vma, tar or raw, not as '%s'"), name ? name : "");
    return NULL;
}

/* Raw */

static gboolean raw_chunk (Export *export, const MoverChunk *chunk, GError **error)
{
    return chunk->data ? output_write (chunk->data, chunk->length, export->output, error)
                       : output_skip (export->output, chunk->length, error);
}

const ExportFormat export_raw = { .name = "raw", .one_disk = TRUE, .chunk = raw_chunk };

/* Any */

typedef struct {
    Export export;
    const ExportFormat *format;
    Work work;
} Run;

static gboolean take_chunk (MoverChunk *chunk, gpointer data, GError **error)
{
    Run *run = data;
    return run->format->chunk (&run->export, chunk, error);
}

static gboolean step (Run *run, gboolean (*function) (Export *export, GError **error),
                      GError **error)
{
    return !function || function (&run->export, error);
}

/* Proved leaf by leaf, or, where the files of leaves are damaged, by the root at the end. */
static gboolean read_disk (Run *run, const Reading *reading, GError **error)
{
    g_autoptr (Storage) storage = reading_serve (reading, error);
    g_autoptr (Sink) sink = sink_callback_new (take_chunk, run);
    MoverSource source = { .target = reading->disk->target,
                           .export_name = reading->disk->target,
                           .size = reading->disk->size };
    MoverOptions options = { .key = repository_leaf_key (reading->point->repository),
                             .view = reading->view,
                             .check = reading->view ? MOVER_CHECK_PROVE : MOVER_CHECK_NONE,
                             .control = run->work.control,
                             .progress = work_progress,
                             .data = &run->work };
    MoverResult result;

    if (!storage)
        return FALSE;
    source.fd = storage_connect (storage);
    output_set_sink (run->export.output, sink);
    gboolean ok = mover_run (&source, &options, sink, &result, error);
    output_set_sink (run->export.output, NULL);
    return ok
           && (leaf_equal (&result.root, &reading->root)
               || error_set (error, BAK_ERROR_INEXACT,
                             _("disk '%s': what was read is not what was backed up: its root "
                                "differs"),
                             reading->disk->target));
}

static gboolean export_disk (Run *run, const char *target, GError **error)
{
    g_autoptr (Reading) reading = reading_open (run->export.point, target, error);

    if (!reading)
        return FALSE;
    work_begin_disk (&run->work, "export", target);
    run->export.disk = reading;
    gboolean ok = step (run, run->format->begin_disk, error) && read_disk (run, reading, error)
                  && step (run, run->format->end_disk, error);
    run->export.disk = NULL;
    work_end_disk (&run->work, reading->disk->size);
    return ok;
}

static gboolean export_all (Run *run, GError **error)
{
    Export *export = &run->export;

    for (guint i = 0; export->targets->pdata[i]; i++)
        run->work.total +=
            manifest_find_disk (export->point->manifest, export->targets->pdata[i])->size;
    if (!step (run, run->format->begin, error))
        return FALSE;
    for (export->number = 0; export->targets->pdata[export->number]; export->number++)
        if (!export_disk (run, export->targets->pdata[export->number], error))
            return FALSE;
    return step (run, run->format->end, error) && output_sync (export->output, error)
           && step (run, run->format->beside, error) && output_publish (export->output, error);
}

static gboolean check_disks (const ExportFormat *format, const GPtrArray *targets, GError **error)
{
    guint count = targets->len - 1;
    return !format->one_disk || count == 1
           || error_set (
               error, BAK_ERROR_INVALID_ARGUMENT,
               _("format %s holds one disk, the point has %u: name the one that is meant"),
               format->name, count);
}

gboolean export_point (Point *point, const BakPointExportOptions *options, GError **error)
{
    const ExportFormat *format = find_format (options->format, error);
    g_autoptr (GPtrArray) targets = format ? reading_targets (point, options->disks, error) : NULL;
    g_autoptr (Lock) lock = NULL;

    if (!targets || !check_disks (format, targets, error)
        || !repository_need_key (point->repository, error)
        || !(lock = lock_point_to_read (point, (const char *const *) targets->pdata, error)))
        return FALSE;
    g_autoptr (Output) output = output_open (options->path, options->fd, error);
    if (!output)
        return FALSE;
    Run run = {
        .export = { .point = point, .targets = targets, .output = output, .path = options->path },
        .format = format
    };
    work_init (&run.work, options->limit, options->progress, options->opaque,
               options->cancellation);
    gboolean ok = export_all (&run, error);
    if (format->free)
        format->free (&run.export);
    work_clear (&run.work);
    return ok || error_note (error, _("point '%s'"), point->manifest->id);
}
