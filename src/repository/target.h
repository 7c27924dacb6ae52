/* Where a restore writes one disk to: what is there, whether it may be written, and how. */
#pragma once
#include "repository/repository.h"

typedef struct {
    const char *disk; /* the point's name for it; borrowed */
    guint64 size;     /* */
    char *path;       /* as it will be, absolute */
    char *work_path;  /* what is written to: path, or a file beside it that is renamed at the end */
    const char *format; /* "raw", "qcow2" */
    gboolean is_new;    /* path is not there yet */
    gboolean resumed;   /* the file beside it is there, from a run that was interrupted */
    int guard;          /* a device, held exclusively; -1 */
} Target;

typedef struct {
    const char *format;    /* NULL: qcow2, raw on a device */
    gboolean reuse;        /* what is there may be written */
    gboolean changed_only; /* */
} TargetRules;

/* Looks at it, and changes nothing. EXISTS, BUSY, NO_SPACE (a device that is too small),
 * INVALID_ARGUMENT. */
Target *target_plan (const Repository *repository, const ManifestDisk *disk, const char *path,
                     const TargetRules *rules, GError **error);
/* Makes the file that is written to, if it is to be made. */
gboolean target_make (Target *target, GError **error);
/* All of it is written: it gets its name and is made durable. */
gboolean target_finish (Target *target, GError **error);
/* A file of ours that is not whole goes, unless it can be taken up again (keep). */
void target_abandon (Target *target, gboolean keep);
void target_free (Target *target);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Target, target_free)
