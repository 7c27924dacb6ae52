/* Where a restore writes one disk to: what is there, whether it may be written, and how. What was
 * looked at is held open, and nothing else is written: whoever may change the folder can put
 * another file at its name meanwhile. */
#pragma once
#include <sys/stat.h>
#include "repository/repository.h"

typedef struct {
    const char *disk; /* the point's name for it; borrowed */
    guint64 size;     /* */
    char *path;       /* as it will be, absolute */
    char *work_path;  /* what is written to: path, or a file beside it that is renamed at the end */
    char *name, *work_name; /* of these two, in dir */
    const char *format;     /* "raw", "qcow2" */
    gboolean is_new;        /* path is not there yet */
    gboolean resumed;       /* the file beside it is there, from a run that was interrupted */
    gboolean is_device;     /* held exclusively */
    int dir;                /* the folder; -1 */
    int fd;                 /* what is written to; -1: not open yet */
} Target;

/* Whether a disk of this point may be written there: by what is opened (st), or, NULL, by the name
 * of what is not there yet. */
typedef gboolean (*TargetAllow) (const Manifest *point, const char *path, const struct stat *st,
                                 GError **error);

typedef struct {
    const Manifest *point; /* */
    TargetAllow allow;     /* NULL: anything */
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
