/* A guest that is being migrated, waits for one, or has left is not backed up, and none starts
 * under a job. */
#pragma once
#include "driver/qemu/guest.h"

/* By the run state (query-status) and the state of a migration (query-migrate), either may be NULL.
 * FALSE with BAK_ERROR_INEXACT and what is wrong with the guest. Pure. */
gboolean migration_allows (const char *status, const char *migration, GError **error);
/* The same, asked of QEMU now. */
gboolean migration_check (Guest *guest, GError **error);
gboolean migration_has_left (Guest *guest);     /* the last one has completed */
gboolean migration_starts (const char *status); /* of the event MIGRATION */
/* Where the image lies that a barrier opens; NULL: this QEMU knows no migration, or no barrier.
 * Caller frees. */
char *migration_barrier (const Guest *guest);
/* Makes it unless it is there as it should be. */
gboolean migration_make_barrier (const char *path, GError **error);
