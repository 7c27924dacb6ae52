/* Storage daemons of our own: of powered-off guests, of test:///, of the mover. */
#pragma once
#include <json-glib/json-glib.h>
#include "util/error.h"

enum { QSD_MONITOR_FD = 3, QSD_SERVER_FD = 4, QSD_SECRET_FD = 5, QSD_IMAGE_FD = 6 };

/* Its program (LIBBACKUP_QSD, configuration, PATH); the caller adds options; then its monitor and
 * the final NULL. The images' options come first, so that they are open when the monitor answers.
 */
GPtrArray *qsd_argv_new (void);
void qsd_argv_end (GPtrArray *argv);
/* The value of --blockdev that opens one image (format is known to be one) read-write and locked.
 */
char *qsd_blockdev (const char *file, const char *format, const char *node);
/* The node below it, of the file or device itself, as an object of --blockdev. */
JsonObject *qsd_protocol_node (const char *file, const char *node);
/* A socket for its monitor, bound but not listening. -1 on failure. */
int qsd_bind (const char *path, GError **error);
/* Starts it: a session of its own, output to log. When this returns its monitor can be connected
 * to. ret_pid NULL: it is nobody's child and outlives us; else it is the caller's to reap, and dies
 * with the calling thread. */
gboolean qsd_spawn (char **argv, int monitor, int log, GPid *ret_pid, GError **error);
/* The same for one that serves this process alone. */
typedef struct {
    int monitor; /* a connected socket */
    int server;  /* one that listens, for NBD */
    int secret;  /* a file, which becomes QSD_SECRET_FD; -1: none. With it the daemon dumps no core
                  */
    int image;   /* an open image, which becomes QSD_IMAGE_FD; -1: none */
} QsdFiles;
gboolean qsd_spawn_private (char **argv, const QsdFiles *files, int log, GPid *ret_pid,
                            GError **error);
/* Sets *error to why it cannot be talked to, from its log or, if that is empty, why: BAK_ERROR_BUSY
 * when another QEMU holds an image. Returns FALSE. */
gboolean qsd_reason (const char *log, const GError *why, GError **error);
