/* Points leave for other tools, and come from them. */
#include "api/api.h"
#include "exchange/export.h"
#include "exchange/import.h"

enum { PATH_MAX_BYTES = 4096, TEXT_MAX = 1024, NOTE_MAX = 4000 };

int bak_point_export (BakPoint *point, const BakPointExportOptions *options, BakError **error)
{
    GError *internal = NULL;
    API_NOT_NULL (point, error, -1);
    API_NOT_NULL (options, error, -1);
    if (!api_check_size (options->size, sizeof *options, __func__, error)
        || !api_check_text (options->format, TEXT_MAX, "format", __func__, error)
        || !api_check_text (options->path, PATH_MAX_BYTES, "path", __func__, error))
        return -1;
    for (const char *const *disk = options->disks; disk && *disk; disk++)
        if (!api_check_text (*disk, TEXT_MAX, "disks", __func__, error))
            return -1;
    if (export_point (point, options, &internal))
        return 0;
    api_take_error (error, internal);
    return -1;
}

int bak_repository_import_points (BakRepository *repository, const char *path, BakPoint ***points,
                                  const BakPointImportOptions *options, BakError **error)
{
    static const BakPointImportOptions none = { .size = sizeof none };
    GError *internal = NULL;
    options = options ? options : &none;
    API_NOT_NULL (repository, error, -1);
    API_NOT_NULL (path, error, -1);
    API_TEXT (path, PATH_MAX_BYTES, error, -1);
    if (!api_check_size (options->size, sizeof none, __func__, error)
        || !api_check_text (options->domain, TEXT_MAX, "domain", __func__, error)
        || !api_check_text (options->compression, TEXT_MAX, "compression", __func__, error)
        || !api_check_text (options->note, NOTE_MAX, "note", __func__, error))
        return -1;
    GPtrArray *made = import_points (repository, path, options, &internal);
    if (!made) {
        api_take_error (error, internal);
        return -1;
    }
    int count = made->len;
    g_ptr_array_set_free_func (made, points ? NULL : (GDestroyNotify) bak_point_unref);
    if (points) {
        g_ptr_array_add (made, NULL);
        *points = (BakPoint **) g_ptr_array_free (made, FALSE);
    } else {
        g_ptr_array_unref (made);
    }
    return count;
}
