/* What libvirt says of a guest, asked once: its disks, its checkpoints, what runs. Made from XML
 * texts, so that plans are tested without a libvirtd. Names come from a domain's definition and
 * from QEMU: they are checked where they become paths. */
#pragma once
#include <glib.h>
#include "driver/libvirt/lv.h"

typedef struct {
    char *target;     /* vda */
    GPtrArray *names; /* char*: target, alias, source: all names it answers to */
    char *type;       /* file, block, network, ... */
    char *device;     /* disk, lun, cdrom, floppy */
    char *format;     /* of the active image */
    char *source;     /* path, or protocol:name; "" for an empty drive */
    char *bus, *iothread, *alias;
    GPtrArray *chain; /* char*: paths of the active image and those below it; remote ones as "" */
    gboolean readonly, empty, transient;
    guint64 capacity, allocation, physical; /* of lv_picture_sizes; 0: unknown */
} LvDisk;

typedef struct {
    char *disk; /* target */
    char *bitmap;
    gboolean has_size; /* libvirt found the bitmap usable when it was asked for sizes */
    guint64 size;      /* bytes changed since */
} LvCheckpointDisk;

typedef struct {
    char *name, *parent, *description;
    gint64 created;
    GPtrArray *disks;    /* LvCheckpointDisk*: only those with a bitmap */
    GHashTable *sources; /* target -> path of the image then; empty without <domain> */
    /* why nothing may start from it; NULL: nothing is known against it. Not from the document */
    char *doubt;
} LvCheckpoint;

typedef struct {
    char *name, *uuid;
    int id; /* -1: not running */
    gboolean active, persistent, agent;
    guint64 memory, max_memory; /* bytes */
    guint cpus;
    gboolean has_owner; /* uid and gid of QEMU, as its DAC label says */
    guint uid, gid;
    GPtrArray *disks; /* LvDisk*, in the domain's order */
} LvPicture;

LvPicture *lv_picture_parse (const char *domain_xml, GError **error);
void lv_picture_free (LvPicture *picture);
/* By any name it answers to; BAK_ERROR_NO_DISK that lists what there is. */
const LvDisk *lv_picture_disk (const LvPicture *picture, const char *name, GError **error);
/* The rule that leaves a disk out of the default selection ("is read-only"), or NULL. */
const char *lv_disk_excluded (const LvDisk *disk);

/* For checkpoints_see_sizes (); 0: not in it. */
guint64 lv_size_in_picture (const char *disk, gconstpointer picture);

LvCheckpoint *lv_checkpoint_parse (const char *xml, GError **error);
void lv_checkpoint_free_parsed (LvCheckpoint *checkpoint);
const LvCheckpointDisk *lv_checkpoint_disk (const LvCheckpoint *checkpoint, const char *target);

/* <domainbackup> as libvirt prints it: the index of each disk's target or scratch (target ->
 * GUINT_TO_POINTER), and each store's path (target -> path). NULL when it is not XML. */
typedef struct {
    gboolean pull;
    GHashTable *indexes, *paths;
} LvRunning;
LvRunning *lv_running_parse (const char *xml, GError **error);
void lv_running_free (LvRunning *running);

/* Asks: the domain's XML (live when it runs) and each disk's sizes. */
LvPicture *lv_picture_load (virDomainPtr domain, gboolean sizes, GError **error);
/* The image's sizes; FALSE and nothing changed when libvirt cannot say. */
gboolean lv_disk_sizes (virDomainPtr domain, LvDisk *disk);

/* Names of the checkpoints that libvirt has (char*), in its topological order. */
GPtrArray *lv_checkpoint_names (virDomainPtr domain, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (LvPicture, lv_picture_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (LvCheckpoint, lv_checkpoint_free_parsed)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (LvRunning, lv_running_free)
