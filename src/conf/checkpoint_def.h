/* <domaincheckpoint> as plain structs. */
#pragma once
#include <glib.h>
#include "conf/names.h"
#include "conf/backup_def.h"

typedef struct {
    char *name; /* target, or absolute source path */
    guint line;
    Tristate checkpoint; /* YES = 'bitmap', NO = 'no', ABSENT = bitmap */
    char *bitmap;        /* NULL: the checkpoint's name */
    guint64 size;        /* output with SIZE only; bytes dirty since */
    gboolean has_size;
    Tristate persistent; /* persistent='no': memory-only bitmap */
    guint64 granularity; /* <bitmap granularity=''> or granularity='' ; 0: default */
} CheckpointDiskDef;

typedef struct {
    char *name;           /* NULL: creation time in seconds */
    char *description;    /* NULL */
    char *parent;         /* NULL; read on redefine only */
    gint64 creation_time; /* seconds; 0: absent */
    gboolean has_disks;
    GPtrArray *disks;                /* CheckpointDiskDef* */
    char *domain_name, *domain_uuid; /* from <domain>, redefine only; NULL */
} CheckpointDef;

typedef enum { CHECKPOINT_PARSE_REDEFINE = 1 } CheckpointParseFlags;
typedef enum { CHECKPOINT_FORMAT_SIZE = 1, CHECKPOINT_FORMAT_NO_DOMAIN = 2 } CheckpointFormatFlags;

CheckpointDef *checkpoint_def_parse (const char *xml, CheckpointParseFlags flags, GError **error);
/* domain_xml: the guest's <domain> element, put last unless NO_DOMAIN; may be NULL. */
char *checkpoint_def_format (const CheckpointDef *def, const char *domain_xml,
                             CheckpointFormatFlags flags);
CheckpointDef *checkpoint_def_new (void);
void checkpoint_def_free (CheckpointDef *def);
CheckpointDef *checkpoint_def_copy (const CheckpointDef *def);
CheckpointDiskDef *checkpoint_disk_def_new (const char *name);
void checkpoint_disk_def_free (CheckpointDiskDef *disk);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (CheckpointDef, checkpoint_def_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (CheckpointDiskDef, checkpoint_disk_def_free)
