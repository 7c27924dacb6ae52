/* point-import: what other tools made becomes points. Each source (an archive, a folder, a chain of
 * images) is read as if an enemy had written it, brings its disks as images that a storage daemon
 * can open, and every disk passes the same way as a backup's: by the mover, into a new image that
 * holds what the guest's newest point has not. */
#pragma once
#include <libbackup/repository.h>
#include "mover/storage.h"
#include "repository/lock.h"
#include "repository/work.h"

/* Point, the oldest first. */
GPtrArray *import_points (Repository *repository, const char *path,
                          const BakPointImportOptions *options, GError **error);

/* For the sources */

typedef struct {
    Repository *repository;
    const BakPointImportOptions *options;
    const char *path; /* as it was given */
    char *origin;     /* its last part, for people */
    Work work;
    Lock *lock; /* of the guest, once it is known */
    char *name, *uuid;
    GPtrArray *points; /* Point that are published */
} Import;

typedef struct {
    char *target;
    guint64 size;
    StorageLayer *layers; /* top first */
    guint n_layers;
    char *root;       /* hex of the tree that it must have; NULL: not known */
    GPtrArray *names; /* char *: owns what layers point to */
} ImportDisk;

typedef struct {
    char *name;
    char *data;
    gsize length;
} ImportFile;

/* One point. */
typedef struct {
    Manifest *said;   /* what the source tells: instant, consistency, …; no disks, no guest */
    GPtrArray *disks; /* ImportDisk */
    GPtrArray *files; /* ImportFile */
} ImportPoint;

ImportPoint *import_point_new (void);
void import_point_free (ImportPoint *point);
/* EXISTS by name: only the first of two files is taken. Copies. */
void import_point_add_file (ImportPoint *point, const char *name, const char *data, gsize length);
/* A raw image at path. NULL: the name cannot be a disk's or is there already, *error. */
ImportDisk *import_point_add_disk (ImportPoint *point, const char *target, guint64 size,
                                   GError **error);
void import_disk_add_layer (ImportDisk *disk, const char *file, const char *format);
/* By --domain, else by what the source says; both NULL: by the name of the file. Takes the lock. */
gboolean import_choose_guest (Import *import, const char *name, const char *uuid, GError **error);
/* Of a definition; what is not in it stays NULL. Callers free. */
void import_read_definition (const char *xml, gsize length, char **ret_name, char **ret_uuid);
/* An empty file of this size in the repository's file system that nobody has to remove; -1:
 * *error. */
int import_scratch (Import *import, guint64 size, GError **error);
/* By which a storage daemon opens it. Caller frees. */
char *import_scratch_path (int fd);
gboolean import_publish (Import *import, const ImportPoint *point, GError **error);
gboolean import_check_cancelled (const Import *import, GError **error);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (ImportPoint, import_point_free)

/* The sources; FALSE and no error when it is not of this kind. */
gboolean import_vma (Import *import, GError **error);
gboolean import_images (Import *import, gboolean is_folder, GError **error);
gboolean import_virtnbdbackup (Import *import, GError **error);
/* A folder of it. */
gboolean import_is_virtnbdbackup (const char *path);
