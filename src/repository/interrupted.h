/* What a run that makes a point says of itself beside its data, for the one that comes after its
 * death: which backup it reads, and what each disk is compared with. The caller holds the guest's
 * lock, so whoever wrote such a document is dead. */
#pragma once
#include "repository/repository.h"

typedef struct {
    char *id; /* of the point */
    char *job_id;
    char *checkpoint; /* NULL: none was made */
    char *compression;
    guint64 sequence;
    GPtrArray *choices; /* BaseChoice */
} Interrupted;

/* Into the directory of a point that is being made. */
gboolean interrupted_write (const char *dir, const Interrupted *run, GError **error);
/* From here on nobody goes on with it: it is about to be published, or what it read is of no use.
 */
gboolean interrupted_forget (const char *dir, GError **error);
/* What a dead run of this guest left; NULL: nothing that can be gone on with. */
Interrupted *interrupted_find (Repository *repository, const char *guest_uuid);
void interrupted_free (Interrupted *run);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Interrupted, interrupted_free)
