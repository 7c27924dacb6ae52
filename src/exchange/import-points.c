/* Which kind of source it is that points are imported from. */
#include "exchange/import.h"

static gboolean import_any (Import *import, GError **error)
{
    g_autoptr (GError) why = NULL;
    if (g_file_test (import->path, G_FILE_TEST_IS_DIR))
        return import_is_virtnbdbackup (import->path) ? import_virtnbdbackup (import, error)
                                                      : import_images (import, TRUE, error);
    if (!g_str_equal (import->path, "-") && import_images (import, FALSE, &why))
        return TRUE;
    if (why) {
        g_propagate_error (error, g_steal_pointer (&why));
        return FALSE;
    }
    return import_vma (import, error);
}

GPtrArray *import_points (Repository *repository, const char *path,
                          const BakPointImportOptions *options, GError **error)
{
    Import import = { .repository = repository,
                      .options = options,
                      .path = path,
                      .origin = g_path_get_basename (path),
                      .points = g_ptr_array_new_with_free_func ((GDestroyNotify) point_unref) };
    work_init (&import.work, options->limit, options->progress, options->opaque,
               options->cancellation);
    gboolean ok = repository_need_key (repository, error)
                  && repository_may_compress (repository, options->compression, error)
                  && import_any (&import, error);
    work_clear (&import.work);
    lock_free (import.lock);
    if (!ok) {
        g_clear_pointer (&import.points, g_ptr_array_unref);
        error_note (error, "'%s'", path);
    }
    g_free (import.origin);
    g_free (import.name);
    g_free (import.uuid);
    return import.points;
}
