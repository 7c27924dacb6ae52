/* A repository on a directory: its layout, its guests and its points.
 *
 * Everything below is read as if an enemy had written it: names and sizes from the documents are
 * checked before they become paths or amounts. Order and parentage come from the documents alone,
 * never from names, times or the order of a directory.
 *
 * Threads: a Repository and a Point are immutable once made and may be shared; the key of a
 * repository is set once, by whoever needs it first. */
#pragma once
#include <gio/gio.h>
#include <libbackup/libbackup.h>
#include "mover/storage.h"
#include "repository/key.h"
#include "repository/manifest.h"
#include "util/error.h"

enum { REPOSITORY_FORMAT = 1, REPOSITORY_LEAF_SIZE = 65536 };

typedef BakRepository Repository;
struct BakRepository {
    gatomicrefcount refs;
    char *url;  /* as it was given */
    char *path; /* absolute */
    char *id;   /* a UUID */
    char *note; /* or NULL */
    gint64 created;
    GPtrArray *slots;   /* KeySlot; NULL: it has no key, nothing is encrypted */
    GMutex lock;        /* of slots and key */
    RepositoryKey *key; /* NULL: not at hand yet */
};

/* source: of the pass phrase or key file of the first slot; NULL: it is not encrypted. */
Repository *repository_create (const char *url, const char *note, const KeySource *source,
                               GError **error);
/* url NULL: LIBBACKUP_REPOSITORY, else `repository` of the configuration. */
Repository *repository_open (const char *url, GError **error);
/* By this pass phrase or key file. INVALID_ARGUMENT when it is not encrypted. */
gboolean repository_unlock (Repository *repository, const KeySource *source, GError **error);
/* Its key; if it was not unlocked, by what environment and configuration name. NULL and no error
 * when it is not encrypted; borrowed. */
const RepositoryKey *repository_key (Repository *repository, GError **error);
/* FALSE: it is encrypted and no key is to be had. */
gboolean repository_need_key (Repository *repository, GError **error);
/* FALSE: it is encrypted and nothing names what opens it. */
gboolean repository_may_unlock (Repository *repository);
/* QEMU compresses nothing that it encrypts. */
gboolean repository_may_compress (const Repository *repository, const char *compression,
                                  GError **error);
/* Without asking for it: NULL: leaves have no key; one that is marked as unknown: not at hand. */
const LeafKey *repository_leaf_key (Repository *repository);
/* The pass phrase of its images, when the key is at hand and needed. */
const char *repository_image_secret (Repository *repository);
/* Its document is replaced by what it is now. */
gboolean repository_write (Repository *repository, GError **error);
/* The slots change; it has been unlocked. Each is one replacement of the document, under a lock. */
gboolean repository_add_slot (Repository *repository, const KeySource *source, const char *note,
                              guint *ret_number, GError **error);
/* The slot by which it was opened gets another secret. */
gboolean repository_change_slot (Repository *repository, const KeySource *source, GError **error);
gboolean repository_remove_slot (Repository *repository, guint number, GError **error);
Repository *repository_ref (Repository *repository);
void repository_unref (Repository *repository);
/* What repository_open (NULL) opens; NULL: nothing is configured. Caller frees. */
char *repository_default_url (void);
/* The directory of a guest, of a point. Callers free. */
char *repository_guest_dir (const Repository *repository, const char *guest_uuid);
char *repository_point_dir (const Repository *repository, const char *guest_uuid, const char *id);

typedef struct {
    gint64 when;
    gboolean good;
    char *how;  /* "read-data", … */
    char *what; /* what was found; NULL: nothing */
} Verification;

/* One disk of a point: its rows in the two documents, and its image. */
struct BakPointDisk {
    const ManifestDisk *manifest;
    const PlacementDisk *storage;
    char *path;
};

/* A published point: what it is (manifest), where it lies (storage), what was said of it since. */
typedef BakPoint Point;
struct BakPoint {
    gatomicrefcount refs;
    Repository *repository;
    char *dir;
    Manifest *manifest;
    Placement *storage;
    GPtrArray *disks; /* BakPointDisk, in the manifest's order */
    gboolean pinned;
    char *note;               /* or NULL */
    GPtrArray *verifications; /* Verification, oldest first */
    char *damage;             /* what a look at its files has found; NULL: nothing */
    gboolean unreadable;      /* its documents tell nothing: there is only this */
};

/* Without documents. */
Point *point_new (Repository *repository, const char *guest_uuid, const char *id);
Point *point_ref (Point *point);
void point_unref (Point *point);
/* Reads one published point. NO_POINT when it is not there, INEXACT when its documents do not
 * agree with themselves. */
Point *point_load (Repository *repository, const char *guest_uuid, const char *id, GError **error);
/* The UUIDs of the guests that have a directory: char *. */
GPtrArray *repository_list_guests (Repository *repository, GError **error);
/* The points of a guest by rising sequence number: Point. What cannot be read is left out and told
 * by ret_damaged (char *, one line each; NULL allowed). */
GPtrArray *repository_list_points (Repository *repository, const char *guest_uuid,
                                   GPtrArray *ret_damaged, GError **error);
/* What lies in a guest's directory under the name of a point: char *. */
GPtrArray *repository_list_ids (Repository *repository, const char *guest_uuid, GError **error);
/* The points of the one guest of this name or UUID; of all guests for NULL. damaged: those too
 * whose documents cannot be read. */
GPtrArray *repository_list_guest (Repository *repository, const char *guest, gboolean damaged,
                                  GError **error);
/* "GUEST@ID", "GUEST@latest", "GUEST@2026-11-29", "GUEST@…Z", an id. */
Point *repository_lookup_point (Repository *repository, const char *name, GError **error);

/* The images of one disk of a point, its own first, down the backing chain: absolute paths,
 * with the sizes of the files as they were recorded and compared (a truncated image reads zeros
 * without an error, so nothing opens a chain that did not pass here). */
typedef struct {
    char *path;
    char *leaves; /* the file of the leaves of this layer */
    guint64 file_size;
    char *point_id;
    const char *secret; /* of the image, the repository's; NULL: not encrypted, or no key at hand */
} PointLayer;

/* That the files of a disk's own layer are there, of the length that is recorded. */
gboolean point_check_files (const Point *point, const PlacementDisk *disk, GError **error);
/* As a storage daemon takes it; borrowed. */
StorageLayer storage_layer_of (const PointLayer *layer);
GPtrArray *point_layers (Point *point, const char *target, GError **error);

/* Appends to the point's record of verifications. */
gboolean point_add_verification (Point *point, const Verification *verification, GError **error);
gboolean point_set_pinned (Point *point, gboolean pinned, GError **error);
gboolean point_set_note (Point *point, const char *note, GError **error);

void verification_free (Verification *verification);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Repository, repository_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Point, point_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Verification, verification_free)
