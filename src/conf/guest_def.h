/* An attached guest: what `attach` was told. Stored as JSON in the state directory. */
#pragma once
#include <glib.h>

typedef struct {
    char *target;
    char *id; /* a name the disk answers to (attach --disk), or the image file (attach --image) */
} GuestDiskDef;

typedef struct {
    char *name;        /* [A-Za-z0-9_][A-Za-z0-9_.+-]*, at most 100 bytes: it becomes a file name */
    char *uuid;        /* 36 characters, lower case */
    char *qmp;         /* absolute PATH or HOST:PORT; NULL for a guest by images */
    char *agent;       /* NULL */
    GPtrArray *disks;  /* GuestDiskDef*: names given at attach */
    GPtrArray *images; /* GuestDiskDef*: powered-off guest; empty otherwise */
} GuestDef;

GuestDef *guest_def_new (const char *name);
void guest_def_free (GuestDef *def);
GuestDef *guest_def_copy (const GuestDef *def);
/* Either may be NULL in what comes from outside; guest_def_check says so. */
GuestDiskDef *guest_disk_def_new (const char *target, const char *id);
void guest_disk_def_free (GuestDiskDef *disk);
gboolean guest_name_check (const char *name, GError **error);
/* uuid may be NULL: not known yet. Everything about the definition that can be checked without I/O:
 * name, addresses, duplicate targets. */
gboolean guest_def_check (const GuestDef *def, GError **error);
char *guest_def_format (const GuestDef *def); /* JSON, stable keys */
/* untrusted: a file may have been damaged */
GuestDef *guest_def_parse (const char *json, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (GuestDef, guest_def_free)
