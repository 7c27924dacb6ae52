#include <string.h>
#include <glib/gi18n-lib.h>
#include "repository/stored-file.h"
#include "util/files.h"

enum { FILE_MAX = 256 * 1024 * 1024 };

static gboolean is_sealed (const Repository *repository, const char *name)
{
    return repository->slots && !g_str_equal (name, STORED_README);
}

static char *bound_text (const char *id, const char *name)
{
    return g_strdup_printf ("%s/%s", id, name);
}

static gboolean write_plain (const char *dir, const char *name, const char *data, gsize length,
                             GPtrArray *files, GError **error)
{
    g_autofree char *path = g_build_filename (dir, name, NULL);
    if (!files_write_atomic (path, data, length, 0600, error))
        return FALSE;
    ManifestFile *file = g_new0 (ManifestFile, 1);
    file->name = g_strdup (name);
    file->size = length;
    file->sha256 = g_compute_checksum_for_data (G_CHECKSUM_SHA256, (const guchar *) data, length);
    g_ptr_array_add (files, file);
    return TRUE;
}

gboolean stored_file_write (Repository *repository, const char *dir, const char *id,
                            const char *name, const char *data, gsize length, GPtrArray *files,
                            GError **error)
{
    if (!is_sealed (repository, name))
        return write_plain (dir, name, data, length, files, error);
    const RepositoryKey *key = repository_key (repository, error);
    g_autofree char *text = bound_text (id, name);
    CryptoBytes bound = { text, strlen (text) }, plain = { data, length };
    g_autofree guint8 *sealed = key ? crypto_seal (key->files, bound, plain, error) : NULL;
    return sealed
           && write_plain (dir, name, (const char *) sealed, length + CRYPTO_SEALED_MORE, files,
                           error);
}

static gboolean check_hash (const char *path, const ManifestFile *file, const char *data,
                            gsize length, GError **error)
{
    g_autofree char *sum =
        g_compute_checksum_for_data (G_CHECKSUM_SHA256, (const guchar *) data, length);
    return (length == file->size && g_strcmp0 (sum, file->sha256) == 0)
           || error_set (error, BAK_ERROR_INEXACT, _("'%s' is damaged: its hash differs"), path);
}

static gboolean open_sealed (const Point *point, const ManifestFile *file, const char *data,
                             gsize length, char **ret_data, GError **error)
{
    const RepositoryKey *key = repository_key (point->repository, error);
    g_autofree char *text = bound_text (point->manifest->id, file->name);
    g_autoptr (GError) why = NULL;
    if (!key)
        return FALSE;
    CryptoBytes bound = { text, strlen (text) }, sealed = { data, length };
    *ret_data = (char *) crypto_open (key->files, bound, sealed, &why);
    return *ret_data
           || error_set (error, BAK_ERROR_INEXACT, _("'%s' of point '%s' is damaged: %s"),
                         file->name, point->manifest->id, why->message);
}

gboolean stored_file_read (const Point *point, const ManifestFile *file, char **ret_data,
                           gsize *ret_length, GError **error)
{
    g_autofree char *path = g_build_filename (point->dir, file->name, NULL), *data = NULL;
    gsize length;
    if (!files_read (path, FILE_MAX, &data, &length, error)
        || !check_hash (path, file, data, length, error))
        return FALSE;
    if (is_sealed (point->repository, file->name)) {
        *ret_length = length - MIN (length, CRYPTO_SEALED_MORE);
        return open_sealed (point, file, data, length, ret_data, error);
    }
    *ret_length = length;
    *ret_data = g_steal_pointer (&data);
    return TRUE;
}
