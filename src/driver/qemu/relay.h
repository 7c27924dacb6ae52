/* A process that stands between QEMU and the NBD server of a target, where QEMU itself cannot let
 * go of a server that hangs (no yank before 6.0 and in storage daemons): it passes bytes on, and
 * its end is the end of the connection. It outlives who started it. */
#pragma once
#include "util/error.h"

/* Connects to socket or host:port (the other is NULL) and passes on what the first client of path
 * says. Ends when either side does, when the server leaves what it was sent unanswered for patience
 * seconds, and by relay_cut(). uid and gid: whose QEMU it is. */
gboolean relay_start (const char *path, const char *socket, const char *host, guint port,
                      guint patience, guint uid, guint gid, GError **error);
/* Ends it, if it is there, and removes path. */
void relay_cut (const char *path);
