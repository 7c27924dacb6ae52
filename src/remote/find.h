/* Is there a daemon that owns a state directory? It holds a flock on DIR/daemon.lock as long as it
 * lives and says in DIR/daemon.json where it listens. */
#pragma once
#include "util/error.h"

/* The daemon's socket, or NULL (no error: nobody owns the directory). A daemon that is just
 * starting is waited for, at most 10 s; when it says nothing by then, or its record cannot be read:
 * BAK_ERROR_CONNECTION. session decides which socket is tried when we may not look into the
 * directory. */
char *daemon_find (const char *state_dir, gboolean session, GError **error);
/* The daemon's side. Takes the lock (BAK_ERROR_BUSY); returns its fd, which must stay open, or -1.
 */
int daemon_claim (const char *state_dir, GError **error);
gboolean daemon_announce (const char *state_dir, const char *socket, GError **error);
void daemon_retire (const char *state_dir);
