/* Which images are whose. A backup writes targets and scratches, and none of them may be an image
 * that a guest uses, whoever that guest is: one that runs, one that is off, one of libvirt's, under
 * whatever name the file goes.
 *
 * Known from: the definitions of attached guests and everything below their images; what drivers
 * publish (the images that a guest had when it was looked at last); and what the QEMUs of this host
 * have open. */
#pragma once
#include <sys/stat.h>
#include "util/error.h"

/* What one driver knows of guests, to be published in a folder of the state directory. */
typedef struct _Claims Claims;

Claims *claims_new (void);
void claims_free (Claims *claims);
/* Absolute paths; others are ignored. whole: what lies below the file is added as well; else it is
 * looked for when somebody asks. */
void claims_add (Claims *claims, const char *guest, const char *file, gboolean whole);
/* DIR/claims.json; not written when it says that already. */
gboolean claims_publish (const Claims *claims, const char *dir, GError **error);

/* FALSE and whose, when a guest uses what lies at path. st: of the opened file; NULL: nothing is
 * there yet, and the name must not be that of an image which is missing at the moment. Any thread.
 */
gboolean claims_allow (const char *state_dir, const char *path, const struct stat *st,
                       GError **error);

/* The same of all guests but one, and of all QEMUs but its own: whether somebody else needs what
 * that guest uses. */
gboolean claims_allow_but (const char *state_dir, const char *guest, int pid, const char *path,
                           const struct stat *st, GError **error);

/* Whether a disk of this guest (known by its uuid, or by its name) may be restored to path: not
 * over what another guest uses, libvirt's too, nor over what a QEMU of this host has open.
 * state_dir: that of this host's guests. st as above. */
gboolean claims_allow_restore (const char *state_dir, const char *guest, const char *uuid,
                               const char *path, const struct stat *st, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (Claims, claims_free)
