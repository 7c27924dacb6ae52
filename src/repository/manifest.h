/* The documents of a point. manifest.json says what the point is: it is written once and bears its
 * own hash. storage.json says where it lies: a merge replaces it atomically.
 *
 * Both are plain structs here; text from a file is checked in full (names that become paths, sizes,
 * hashes, duplicates) before a struct of it exists. */
#pragma once
#include <glib.h>
#include "util/error.h"

typedef struct {
    char *target;
    guint64 size;   /* what the guest sees */
    char *kind;     /* "full", "incremental": how much was read */
    char *reason;   /* why full; NULL: it was asked for or the first */
    char *base;     /* id of the point that it was compared with; NULL: none */
    guint64 read;   /* bytes read from the export */
    guint64 stored; /* bytes of leaves stored with this point */
    guint64 reused; /* bytes of leaves read that the base has already */
    guint64 zeroed; /* bytes stored as zero clusters */
    guint leaf;     /* leaf size */
    char *root;     /* hex of the tree's root */
    guint sampled;  /* places compared with the base */
    gboolean lied;  /* tracking had missed a change */
} ManifestDisk;

typedef struct {
    char *name;
    guint64 size;
    char *sha256; /* hex */
} ManifestFile;

typedef struct {
    char *id;
    gboolean encrypted; /* leaves have a key, files are sealed */
    char *origin;       /* `self` of the point that it is a copy of, under another key, or NULL */
    guint64 sequence;
    char *guest_name, *guest_uuid;
    gint64 instant;    /* microseconds since 1970 */
    char *timezone;    /* of the host, as "Europe/Berlin" or "+01:00" */
    char *consistency; /* "crash", "filesystem" */
    guint64 frozen_ms;
    char *host, *qemu;   /* qemu: version, or NULL */
    char *checkpoint;    /* in the guest, made at the same instant; NULL: none */
    GPtrArray *disks;    /* ManifestDisk */
    GPtrArray *files;    /* ManifestFile: definition, variables */
    GPtrArray *warnings; /* char *: what a person should know */
} Manifest;

typedef struct {
    char *target;
    char *file;   /* name in the point's directory */
    char *leaves; /* idem */
    guint64 file_size, leaves_size;
    char *backing;      /* id of the point whose image of the same target is below; NULL: none */
    char *compression;  /* "none", "zstd" */
    gboolean encrypted; /* LUKS with the repository's key */
} PlacementDisk;

typedef struct {
    char *parent;     /* id of the point before it, or NULL */
    GPtrArray *disks; /* PlacementDisk */
} Placement;

/* Text of at most 16 MiB from a file; id and guest_uuid: what it must say of itself. */
Manifest *manifest_parse (const char *text, gsize length, GError **error);
char *manifest_format (const Manifest *manifest); /* with its hash; caller frees */
/* The hash that stands in it. Caller frees. */
char *manifest_self (const Manifest *manifest);
Manifest *manifest_new (void);
void manifest_free (Manifest *manifest);
const ManifestDisk *manifest_find_disk (const Manifest *manifest, const char *target);

Placement *placement_parse (const char *text, gsize length, GError **error);
char *placement_format (const Placement *storage);
Placement *placement_new (void);
void placement_free (Placement *storage);
const PlacementDisk *placement_find_disk (const Placement *storage, const char *target);

ManifestDisk *manifest_disk_new (const char *target);
void manifest_disk_free (ManifestDisk *disk);
PlacementDisk *placement_disk_new (const char *target);
void placement_disk_free (PlacementDisk *disk);
void manifest_file_free (ManifestFile *file);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Manifest, manifest_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Placement, placement_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (ManifestDisk, manifest_disk_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (ManifestFile, manifest_file_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (PlacementDisk, placement_disk_free)
