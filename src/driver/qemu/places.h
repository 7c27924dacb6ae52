/* What a document names on this host, and may name for the one whose call it is: before anything is
 * looked at, so that nobody learns by an error what he could not see himself. */
#pragma once
#include "conf/backup_def.h"
#include "driver/driver.h"

/* Without a caller (caller.h) everything is allowed. tls_dir: of the configuration; NULL. */
gboolean places_check (const BackupDef *def, GError **error);
/* A socket that he passed: it is connected to from here. */
gboolean places_check_passed (const PassedAddress *passed, const ServerDef *server, GError **error);
/* An image into which a disk is copied. */
gboolean places_check_copy (const char *path, GError **error);
gboolean places_check_attach (const bak_attach_args *args, GError **error);
