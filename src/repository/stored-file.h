/* What lies in a point beside its disks (definition, variables): in a repository with a key it is
 * sealed, bound to its point and its name; the hash and size in the manifest are those of the file
 * as it lies there, so they are compared without the key and tell nothing of what is in it. */
#pragma once
#include "repository/repository.h"

/* The README stays readable for all. */
#define STORED_README "README"

/* Writes it into dir and adds its row to files (ManifestFile). id: of the point. */
gboolean stored_file_write (Repository *repository, const char *dir, const char *id,
                            const char *name, const char *data, gsize length, GPtrArray *files,
                            GError **error);
/* As it was before it was stored; compared with its hash. Caller frees; a zero is behind it. */
gboolean stored_file_read (const Point *point, const ManifestFile *file, char **ret_data,
                           gsize *ret_length, GError **error);
