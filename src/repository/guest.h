/* A guest as a client of the library sees it: its disks, our checkpoint in it, what of it goes into
 * a point beside the disks, and the pull that a point is read from. */
#pragma once
#include "repository/base.h"
#include "repository/repository.h"

/* Hands a public error over; FALSE. */
gboolean guest_take_error (BakError *public_error, GError **error);

typedef struct {
    char *target;
    guint64 size;
} GuestDisk;

/* names NULL: those that a backup takes by itself. GuestDisk. */
GPtrArray *guest_list_disks (BakDomain *domain, const char *const *names, GError **error);

/* Checkpoints of this repository are called point-REPOID-NUMBER. Callers free. */
char *guest_checkpoint_prefix (const Repository *repository);
char *guest_checkpoint_name (const Repository *repository, guint64 sequence);
/* NULL: the checkpoint of this point is in the guest; else why it cannot be used. Caller frees. */
char *guest_check_checkpoint (BakDomain *domain, const Point *point);
/* Deletes those of this repository but keep; what cannot be deleted now the next run deletes. */
void guest_delete_checkpoints (BakDomain *domain, const Repository *repository, const char *keep);

typedef struct {
    const char *id;              /* of the point */
    const GPtrArray *choices;    /* BaseChoice */
    const char *base_checkpoint; /* of those that are tracked */
    const char *checkpoint;      /* to be made */
    gboolean refuse_fallback;
    gboolean quiesce;
    const char *server; /* the element that says where it is exported */
    guint64 timeout;    /* microseconds; 0: none */
} GuestPull;

/* Begins it: the job's id, or NULL. Caller frees. */
char *guest_begin_pull (BakDomain *domain, const GuestPull *pull, GError **error);
/* The steps it would take, as JSON. Caller frees. */
char *guest_plan_pull (BakDomain *domain, const GuestPull *pull, GError **error);
/* Aborts what a writer that died left running for this repository; job_id: what it said of it, or
 * NULL. */
gboolean guest_abort_orphan (BakDomain *domain, const Repository *repository, const char *job_id,
                             GError **error);
/* NULL: the pull still runs, with this checkpoint (NULL: with none); else why it cannot be read any
 * more. Caller frees. */
char *guest_check_pull (BakDomain *domain, const char *job_id, const char *checkpoint);

/* Writes definition, command line and variables into dir, as far as they are at hand, and lists
 * them (ManifestFile); what is not is told in warnings (char *). */
typedef struct {
    Repository *repository;
    const char *dir, *id; /* of the new point */
    GPtrArray *files;     /* ManifestFile */
} GuestFiles;
gboolean guest_write_files (BakDomain *domain, const GuestFiles *to, GPtrArray *warnings,
                            GError **error);
/* How to restore with qemu-img alone. */
gboolean guest_write_readme (const GuestFiles *to, const Manifest *manifest,
                             const Placement *storage, GError **error);
/* An agent is known of it. */
gboolean guest_has_agent (BakDomain *domain);
/* The name of the host that the guest runs on; of its QEMU's version (NULL: not known). */
char *guest_host (BakDomain *domain);
char *guest_qemu (BakDomain *domain);
